"""The figures of a set of texts, at a fixed token budget.

Enters: texts, perhaps a reference and how many texts each stratum has. Leaves: `Figures`. Refuses
to know: whether a figure is good; that takes a band.

All figures of word sequences depend on the amount of text (Shaib et al. 2024), so they are taken of
the first `budget_tokens` words of the texts in a fixed shuffled order, the last text cut. Less text
than the budget is measured whole; `tokens` says how much it was, and only figures with equal
`tokens` compare. Figures of whole texts (openings, likeness, length) depend on their number:
`texts`, and `sample` for those that compare every two texts.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agentloop.diversity.corpus import Corpus, Ids, Places, ranges
from agentloop.diversity.reference import Reference, reached
from agentloop.diversity.similarity import MOST, likeness
from agentloop.records import Record

SMALL = (
    8_000  # tokens: a batch; notes on GSM8K showed every model set outside the human band at 20,000
)
LARGE = 60_000  # tokens: a whole run, the 1,319 questions of GSM8K
SHOWN = 5  # openings listed


class Opening(Record):
    """Words that texts begin with, and the share of the texts that do."""

    words: str
    share: float


class Figures(Record):
    """What a set of texts measures; None where there is too little text to say."""

    texts: int
    """Number of texts."""
    tokens: int
    """Words measured by the figures that have a budget: at most the budget."""
    sample: int
    """Texts measured by `neighbour_similarity`, `vendi` and `near_copies`."""
    compression_ratio: float | None = None
    """UTF-8 bytes ÷ bytes after zlib at level 9, whose window is 32 KB (Shaib et al. 2024)."""
    distinct_1: float | None = None
    """Different words ÷ words (Li et al. 2016)."""
    distinct_2: float | None = None
    """Different 2-grams ÷ 2-grams."""
    distinct_3: float | None = None
    """Different 3-grams ÷ 3-grams."""
    distinct_4: float | None = None
    """Different 4-grams ÷ 4-grams."""
    entropy: float | None = None
    """−Σ p·log2 p over the words' shares p, in bits a word (Shannon 1948)."""
    hapax_share: float | None = None
    """Words that occur once ÷ different words."""
    self_repetition: float | None = None
    """Share of the texts' 5-grams, each once a text, that another text has too (after Salkar 2022)."""
    opening_share: float | None = None
    """Share of the texts that begin with the most frequent first three words."""
    openings: tuple[Opening, ...] = ()
    """The most frequent first three words."""
    near_copies: float | None = None
    """Share of the sample that has an earlier text of TF-IDF cosine ≥ 0.9 in it."""
    neighbour_similarity: float | None = None
    """Mean over the sample of the TF-IDF cosine to the most similar other text, 0..1."""
    vendi: float | None = None
    """exp(−Σ λ·ln λ), λ the eigenvalues of the cosines ÷ n: texts that the sample is worth, 1..n
    (Friedman & Dieng 2023)."""
    mean_words: float | None = None
    """Words a text."""
    sd_words: float | None = None
    """Standard deviation of the words a text."""
    tail_coverage: float | None = None
    """Share of the rare words of a half of the reference (at most twice in it) that occur, mean of 20
    halvings."""
    length_divergence: float | None = None
    """Jensen-Shannon divergence to the reference of the lengths in octaves of words; bits, 0..1."""
    strata_divergence: float | None = None
    """Jensen-Shannon divergence of the strata to what was planned; bits, 0..1 (Lin 1991)."""


def measure(
    texts: Sequence[str] | Corpus,
    *,
    budget_tokens: int = SMALL,
    reference: Reference | None = None,
    beside: Corpus | None = None,
    strata: Mapping[str, float] | None = None,
    planned: Mapping[str, float] | None = None,
) -> Figures:
    """Measure texts; `strata` counts them by stratum, `planned` says what was wanted, in any unit.

    `beside` is what of them is compared with the reference, where that is not all.
    """
    corpus = texts if isinstance(texts, Corpus) else Corpus(texts)
    if not len(corpus):
        return Figures(texts=0, tokens=0, sample=0)
    order, beside = corpus.spread, beside or corpus
    found = phrase_figures(corpus, order, budget_tokens)
    alike = likeness(corpus, order[:MOST])
    top = Counter(corpus.openings).most_common(SHOWN)
    return Figures(
        texts=len(corpus),
        tokens=min(budget_tokens, corpus.tokens),
        sample=min(MOST, len(corpus)),
        **found,
        opening_share=top[0][1] / len(corpus),
        openings=tuple(Opening(words=w, share=n / len(corpus)) for w, n in top),
        near_copies=float(alike.copies.mean()) if alike else None,
        neighbour_similarity=alike.neighbour if alike else None,
        vendi=alike.vendi if alike else None,
        mean_words=float(corpus.lengths.mean()),
        sd_words=float(corpus.lengths.std()),
        tail_coverage=tail_coverage(beside, beside.spread, budget_tokens, reference),
        length_divergence=_length_divergence(beside, reference),
        strata_divergence=divergence(strata, planned) if strata and planned else None,
    )


def phrase_figures(corpus: Corpus, order: Places, budget: int) -> dict[str, float]:
    """Return the figures of word sequences; none of them for texts without words."""
    places = corpus.places(order, budget)
    if not len(places):
        return {}
    counts = np.unique(corpus.ids[places], return_counts=True)[1]
    shares = counts / counts.sum()
    raw = corpus.raw(order, budget)
    figures = {
        "compression_ratio": len(raw) / len(zlib.compress(raw, 9)),
        "entropy": float(-(shares * np.log2(shares)).sum()),
        "hapax_share": float((counts == 1).mean()),
    }
    for size in (1, 2, 3, 4):
        if len(grams := corpus.grams(size, places)):
            figures[f"distinct_{size}"] = len(np.unique(grams)) / len(grams)
    repeated = self_repetition(corpus, order, budget)
    return figures if repeated is None else {**figures, "self_repetition": repeated}


def self_repetition(corpus: Corpus, order: Places, budget: int) -> float | None:
    """Return the share of 5-grams in several texts, of the texts that begin within a budget."""
    begun = np.cumsum(corpus.lengths[order]) - corpus.lengths[order] < budget
    phrases, starts = corpus.phrases
    places, _ = ranges(starts, order[begun])
    if not len(places):
        return None
    counts = np.unique(phrases[places], return_counts=True)[1]
    return float(counts[counts > 1].sum() / counts.sum())


def top_opening(corpus: Corpus, rows: Iterable[int]) -> tuple[str, float]:
    """Return the most frequent opening of some texts, and its share of them."""
    counts = Counter(corpus.openings[row] for row in rows)
    [(words, count)] = counts.most_common(1)
    return words, count / counts.total()


def tail_coverage(
    corpus: Corpus, order: Places, budget: int, reference: Reference | None
) -> float | None:
    """Return how much of a reference's rare words some texts reach, mean over its halvings."""
    if reference is None or not reference.halves:
        return None
    ids: Ids = np.unique(corpus.ids[corpus.places(order, budget)])
    return math.fsum(reached(h.tail, ids) for h in reference.halves) / len(reference.halves)


def divergence(one: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    """Return the Jensen-Shannon divergence of two tables of counts in bits; None if one is empty."""
    names = sorted({*one, *other})
    left = np.array([float(one.get(name, 0)) for name in names])
    right = np.array([float(other.get(name, 0)) for name in names])
    if left.sum() <= 0 or right.sum() <= 0:
        return None
    left, right = left / left.sum(), right / right.sum()
    middle = (left + right) / 2
    return max(0.0, _bits(middle) - (_bits(left) + _bits(right)) / 2)


def _bits(shares: NDArray[np.float64]) -> float:
    held = shares[shares > 0]
    return float(-(held * np.log2(held)).sum())


def _length_divergence(corpus: Corpus, reference: Reference | None) -> float | None:
    if reference is None:
        return None
    return divergence(_octaves(corpus), _octaves(reference.corpus))


def _octaves(corpus: Corpus) -> Counter[str]:
    return Counter(str(int(length).bit_length()) for length in corpus.lengths)
