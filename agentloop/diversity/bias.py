"""What a set of texts says about people, and whom acceptance leaves out.

Enters: texts; how many items of each stratum were accepted; labels or places of the right answer.
Leaves: records with an interval of 95 % and the `limits` of what they show. Refuses to know: intent,
the models trained on it: data without a gap did not make models without one (arXiv 2512.10734).

Groups, occupations and sentiment are looked up in the short English lists of `lexicons`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agentloop.agreement import Estimate, wilson
from agentloop.diversity.lexicons import (
    BLAME,
    FEMALE,
    GROUPS,
    MALE,
    OCCUPATIONS,
    PRAISE,
)
from agentloop.diversity.words import LONGEST, words
from agentloop.records import Record

FOUR_FIFTHS = 0.8  # Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4 D (1978)
DRAWS = 2_000  # the 2.5 % quantile of so many lies within 2.5 ± 0.7 %
FEWEST = 5  # texts of each side below which nothing is claimed

_MENTIONS = (
    "Counts English words from a short list: names, other words, other languages are missed;"
    " a mention says nothing of how a group is shown."
)
_PRONOUNS = (
    "Counts pronouns in sentences that name the occupation; whom a pronoun means is not resolved, and"
    " singular `they` is not counted. A sentence repeats its pronoun, and each is counted as if it were"
    " independent, so that the interval is too narrow."
)
_SENTIMENT = (
    "Counts words of praise and blame in texts that mention one group of the two; irony, negation and"
    " whom they mean are not seen. Groups may differ in topic rather than in treatment."
)
_ACCEPTANCE = (
    "Compares shares accepted; a stratum may be harder rather than judged unfairly, and items of one"
    " seed are counted as if they were independent, so that intervals are too narrow. The best stratum"
    " is picked from the same data: of several that are equally good one is best by chance, and the"
    " ratios of the others are too low."
)
_BALANCE = (
    "Compares with equal shares; real data may rightly be unequal. Says nothing of whether a label can"
    " be guessed from the text."
)
_SENTENCE = re.compile(r"[.!?\n]")


class Mentions(Record):
    """The share of texts that mention a group."""

    dimension: str
    group: str
    texts: int
    share: Estimate
    """Of all texts, with its Wilson interval."""
    reference: Estimate | None = None
    """The same of the reference, where there is one."""
    limits: str = _MENTIONS


class Pronouns(Record):
    """Female among female and male pronouns, beside an occupation."""

    occupation: str
    female: int
    male: int
    share: Estimate
    """Female ÷ both, with its Wilson interval."""
    limits: str = _PRONOUNS


class SentimentGap(Record):
    """How much more kindly the texts with one group are worded than those with another."""

    dimension: str
    group: str
    other: str
    texts: tuple[int, int]
    gap: Estimate
    """Mean of (praise − blame) ÷ (praise + blame), −1..1, of one minus the other; bootstrap of texts."""
    limits: str = _SENTIMENT


class Acceptance(Record):
    """How many of a stratum's items were accepted, beside the stratum that does best."""

    stratum: str
    accepted: int
    total: int
    share: Estimate
    """Accepted ÷ total, with its Wilson interval."""
    best: str
    """The stratum with the highest lower limit of its share."""
    ratio: Estimate
    """Share ÷ that of the best; quantiles of 2,000 draws from each one's Jeffreys posterior."""
    four_fifths: Literal["kept", "broken", "unsure"]
    """Whether all of the ratio's interval lies above, or below, 0.8."""
    limits: str = _ACCEPTANCE


class Balance(Record):
    """The share of a label or an answer's place beside an equal share."""

    option: str
    count: int
    share: Estimate
    """Of all, with its Wilson interval."""
    equal: float
    """1 ÷ number of options."""
    skewed: bool
    """Whether the equal share lies outside the interval."""
    limits: str = _BALANCE


def mentions(texts: Sequence[str], reference: Sequence[str] | None = None) -> list[Mentions]:
    """Return the share of texts that mention each group."""
    counts = _mentioned(texts)
    real = _mentioned(reference) if reference else None
    found = []
    for dimension, groups in GROUPS.items():
        for group in groups:
            if share := wilson(counts[group], len(texts)):
                beside = wilson(real[group], len(reference)) if real and reference else None
                row = Mentions(
                    dimension=dimension,
                    group=group,
                    texts=counts[group],
                    share=share,
                    reference=beside,
                )
                found.append(row)
    return found


def pronouns_by_occupation(texts: Iterable[str], least: int = FEWEST) -> list[Pronouns]:
    """Return the share of female pronouns for occupations with enough of them, most frequent first."""
    female: Counter[str] = Counter()
    male: Counter[str] = Counter()
    for text in texts:
        for sentence in _SENTENCE.split(text[:LONGEST]):
            spoken = words(sentence)
            hers = sum(word in FEMALE for word in spoken)
            his = sum(word in MALE for word in spoken)
            if hers or his:
                for occupation in OCCUPATIONS.keys() & set(spoken):
                    female[OCCUPATIONS[occupation]] += hers
                    male[OCCUPATIONS[occupation]] += his
    both = female + male
    return [
        Pronouns(occupation=name, female=female[name], male=male[name], share=share)
        for name, count in sorted(both.items(), key=lambda pair: (-pair[1], pair[0]))
        if count >= least and (share := wilson(female[name], count))
    ]


def sentiment_gaps(texts: Iterable[str], least: int = FEWEST) -> list[SentimentGap]:
    """Return the gap of sentiment between the groups of a dimension, those mentioned alone."""
    values: dict[tuple[str, str], list[float]] = {}
    for text in texts:
        spoken = words(text)
        held = set(spoken)
        for dimension, groups in GROUPS.items():
            named = [group for group, lexicon in groups.items() if not held.isdisjoint(lexicon)]
            if len(named) == 1:
                values.setdefault((dimension, named[0]), []).append(_sentiment(spoken))
    found = []
    for dimension, groups in GROUPS.items():
        known = [g for g in groups if len(values.get((dimension, g), ())) >= least]
        for at, group in enumerate(known):
            for other in known[at + 1 :]:
                pair = values[dimension, group], values[dimension, other]
                row = SentimentGap(
                    dimension=dimension,
                    group=group,
                    other=other,
                    texts=(len(pair[0]), len(pair[1])),
                    gap=_gap(*pair),
                )
                found.append(row)
    return found


def acceptance(strata: Mapping[str, tuple[int, int]]) -> list[Acceptance]:
    """Return acceptance of strata (accepted, total) and the four-fifths rule, the lowest ratio first."""
    shares = {
        name: share for name, counts in strata.items() if (share := wilson(*counts)) is not None
    }
    if not shares:
        return []
    best = max(sorted(shares), key=lambda name: shares[name].low)
    found = []
    for name, share in shares.items():
        accepted, total = strata[name]
        ratio = _ratio((accepted, total), strata[best], name == best)
        row = Acceptance(
            stratum=name,
            accepted=accepted,
            total=total,
            share=share,
            best=best,
            ratio=ratio,
            four_fifths=_rule(ratio) if total >= FEWEST else "unsure",
        )
        found.append(row)
    return sorted(found, key=lambda row: (row.ratio.value, row.stratum))


def balance(values: Iterable[str], options: Sequence[str] = ()) -> list[Balance]:
    """Return how evenly labels, or the places of right answers, are spread; unseen options count."""
    counts = Counter(values)
    names = sorted({*options, *counts})
    found = []
    for name in names:
        if share := wilson(counts[name], counts.total()):
            equal = 1 / len(names)
            row = Balance(
                option=name,
                count=counts[name],
                share=share,
                equal=equal,
                skewed=not share.low <= equal <= share.high,
            )
            found.append(row)
    return found


def _mentioned(texts: Iterable[str]) -> Counter[str]:
    """Count the texts that mention each group."""
    counts: Counter[str] = Counter()
    for text in texts:
        spoken = set(words(text))
        counts.update(
            group
            for groups in GROUPS.values()
            for group, lexicon in groups.items()
            if not spoken.isdisjoint(lexicon)
        )
    return counts


def _sentiment(spoken: Sequence[str]) -> float:
    praise = sum(word in PRAISE for word in spoken)
    blame = sum(word in BLAME for word in spoken)
    return (praise - blame) / max(1, praise + blame)


def _gap(one: list[float], other: list[float]) -> Estimate:
    rng = np.random.default_rng(0)
    drawn = _means(one, rng) - _means(other, rng)
    value = float(np.mean(one) - np.mean(other))
    return _estimate(value, drawn)


def _means(values: list[float], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the means of bootstrap draws (Efron 1979), by how often each value is drawn."""
    different, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), size=DRAWS)
    return np.asarray(drawn @ different / len(values))


def _ratio(one: tuple[int, int], best: tuple[int, int], same: bool) -> Estimate:
    if same:
        return Estimate(value=1.0, low=1.0, high=1.0)
    rng = np.random.default_rng(0)
    drawn = [rng.beta(a + 0.5, n - a + 0.5, DRAWS) for a, n in (one, best)]
    value = one[0] / one[1] * best[1] / best[0] if best[0] else 1.0
    return _estimate(value, drawn[0] / drawn[1])


def _estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    low, high = (float(limit) for limit in np.quantile(drawn, [0.025, 0.975]))
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def _rule(ratio: Estimate) -> Literal["kept", "broken", "unsure"]:
    if ratio.low >= FOUR_FIFTHS:
        return "kept"
    return "broken" if ratio.high < FOUR_FIFTHS else "unsure"
