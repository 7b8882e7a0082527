"""Null bands: what a figure is on real text, at the size of what is compared with it.

Enters: a reference of at least 200 texts, a number of texts, a number of tokens. Leaves: a `Band`
for each figure that may alarm, and the same figures of a batch. Refuses to know: batches, alarms,
lights.

A draw is a random half of the reference; the first texts of it play the batch, the rare words of
the other half play the reference. Of 200 draws one takes the median and the deviations from it.

Three corrections. (1) A draw of n of N texts, without replacement, varies by σ²·(1/n − 1/N); new
text beside the reference's own mean by σ²·(1/n + 1/N). Deviations are widened by the root of the
ratio, which is √3 for a half: there it is the difference of two disjoint halves. (2) Eight figures
are looked at: the levels hold for all together, so that each has an eighth of the tail
(Bonferroni): 0.31 % a side for 95 %, 0.006 % for 99.9 %. (3) 200 draws do not reach so far. The
limit that a new draw passes with chance p is the 90 % quantile plus an exponential tail (Pickands
1975, shape 0) whose scale is the mean of the m excesses beyond it; as that mean is itself
estimated, the tail is the predictive one, m·mean·((m / 200 / p)^(1/m) − 1). For a normal figure
this lies at 3.1 and 5.5 standard deviations where 2.7 and 3.8 would do; for one with an exponential
tail it is exact. The limit of 99.9 % is never inside the furthest draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from agentloop.diversity.corpus import Corpus, Places
from agentloop.diversity.measures import phrase_figures, top_opening
from agentloop.diversity.reference import Reference, reached
from agentloop.diversity.similarity import likeness
from agentloop.records import Record

ENOUGH = 200  # texts of a reference: below it a band says more of the draw than of the text
DRAWS = 200
MOST = 128  # texts of a draw: 200 draws of 256 take 3 s, of 128 half of it
FILL = 0.45  # of a reference's tokens, so that a half has them
LOSS: Mapping[str, Literal[-1, 1]] = {
    "compression_ratio": 1,
    "distinct_2": -1,
    "entropy": -1,
    "self_repetition": 1,
    "opening_share": 1,
    "neighbour_similarity": 1,
    "vendi": -1,
    "tail_coverage": -1,
}
"""The figures that may alarm, and the direction in which diversity is lost. Left out: distinct-1, 3, 4,
which move with distinct-2; the hapax share, which missed up to 98 % of model sets; lengths and
divergences, which tell another text, not a poorer one."""

OUTSIDE, FAR = 0.025 / len(LOSS), 0.0005 / len(LOSS)
"""The chance that a new draw of real text passes one side of one band."""

Values: TypeAlias = dict[str, float]


class Size(NamedTuple):
    """How much of a set is compared: figures of words by tokens, figures of texts by texts."""

    texts: int
    tokens: int


class Band(Record):
    """A figure on real text: its median, and between which limits 95 and 99.9 % of real batches lie.

    A batch lies between them with all its figures.
    """

    figure: str
    texts: int
    tokens: int
    median: float
    low: float
    high: float
    lowest: float
    """Lower limit of 99.9 %."""
    highest: float
    """Upper limit of 99.9 %."""

    def loss(self, value: float) -> Literal["none", "outside", "far"]:
        """Whether a value lies beyond 95 % (outside) or 99.9 % (far) on the side of less diversity."""
        low, high, lowest, highest = self.low, self.high, self.lowest, self.highest
        if LOSS[self.figure] < 0:
            value, high, highest = -value, -low, -lowest
        return "far" if value > highest else "outside" if value > high else "none"


def common_size(batch: Corpus, reference: Reference, budget: int) -> Size:
    """Return the largest size that both a batch and a half of the reference have, in few steps.

    Tokens come in steps of a quarter, so that batches of nearly one size share a band.
    """
    texts = min(len(batch), len(reference) // 2, MOST)
    typical = 0.8 * texts * reference.corpus.tokens / max(1, len(reference))
    most = min(budget, FILL * reference.corpus.tokens, max(typical, 1.0))
    tokens = max(int(most), 1)
    while tokens > max(batch.tokens, 1):
        tokens = int(tokens * 0.8)
    return Size(texts, tokens)


def compared(batch: Corpus, reference: Reference, size: Size) -> Values:
    """Return a batch's figures at a size, for its bands to judge."""
    values = _at(batch, batch.spread, size)
    ids = np.unique(batch.ids[batch.places(batch.spread, size.tokens)])
    values["tail_coverage"] = float(np.mean([reached(h.tail, ids) for h in reference.halves]))
    return values


def bands(reference: Reference, size: Size) -> dict[str, Band]:
    """Return the band of each figure at a size, drawn once for a reference; none under 200 texts."""
    if len(reference) < ENOUGH:
        return {}
    known = _KNOWN.setdefault(reference, {})
    if size not in known:
        known[size] = _bands(reference, size)
    return known[size]


_KNOWN: WeakKeyDictionary[Reference, dict[Size, dict[str, Band]]] = WeakKeyDictionary()


def _bands(reference: Reference, size: Size) -> dict[str, Band]:
    rng, drawn = np.random.default_rng(1), []
    for draw in range(DRAWS):
        half = reference.halves[draw % len(reference.halves)]
        order = rng.permutation(half.front)
        values = _at(reference.corpus, order, size)
        ids = np.unique(reference.corpus.ids[reference.corpus.places(order, size.tokens)])
        drawn.append({**values, "tail_coverage": reached(half.tail, ids)})
    shares = {
        True: size.texts / len(reference),
        False: size.tokens / max(reference.corpus.tokens, 1),
    }
    found = {}
    for figure in LOSS:
        values_ = np.array([values[figure] for values in drawn if figure in values])
        if len(values_) == DRAWS:
            found[figure] = _band(figure, values_, size, shares[figure in _OF_TEXTS])
    return found


_OF_TEXTS = ("opening_share", "neighbour_similarity", "vendi")


def _at(corpus: Corpus, order: Places, size: Size) -> Values:
    """Return the figures that may alarm, but for the tail, of texts in an order."""
    values = phrase_figures(corpus, order, size.tokens)
    rows = order[: size.texts]
    values["opening_share"] = top_opening(corpus, rows)[1]
    if alike := likeness(corpus, rows):
        values |= {"neighbour_similarity": alike.neighbour, "vendi": alike.vendi}
    return {name: value for name, value in values.items() if name in LOSS}


def _band(figure: str, values: NDArray[np.float64], size: Size, share: float) -> Band:
    """Return the band of drawn values, each of a share of the reference."""
    share = min(share, 0.5)
    middle = float(np.median(values))
    away = (values - middle) * np.sqrt((1 + share) / (1 - share))
    step = _step(figure, size)
    return Band(
        figure=figure,
        texts=size.texts,
        tokens=size.tokens,
        median=middle,
        low=max(0.0, middle - max(reach(-away, OUTSIDE), step)),
        high=middle + max(reach(away, OUTSIDE), step),
        lowest=max(0.0, middle - max(reach(-away, FAR), -float(away.min()), step)),
        highest=middle + max(reach(away, FAR), float(away.max()), step),
    )


def reach(away: NDArray[np.float64], chance: float) -> float:
    """Return the deviation that a new draw passes with this chance: see the top of this page."""
    edge = float(np.quantile(away, 0.9))
    beyond = away[away > edge] - edge
    count = len(beyond)
    if not count:
        return edge
    rarer = max(1.0, count / len(away) / chance)
    return edge + count * float(beyond.mean()) * float(rarer ** (1 / count) - 1)


def _step(figure: str, size: Size) -> float:
    """Return what is no news though no draw showed it: two texts, 60 words of shared phrases."""
    if figure == "opening_share":
        return 2 / max(size.texts, 1)
    return 60 / max(size.tokens, 1) if figure == "self_repetition" else 0.0
