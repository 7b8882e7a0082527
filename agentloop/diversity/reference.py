"""Real text to compare with: read once, halved in fixed ways.

Enters: texts. Leaves: a `Reference`: its corpus, disjoint halves of it, the rare words of each
half. Refuses to know: what is compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from agentloop.diversity.corpus import Corpus, Ids, Places

HALVINGS = 20  # of a reference: a choice, each costs a search of its rare words
RARE = 2  # occurrences in a half: the tail, lost first (Shumailov 2024)


class Halves(NamedTuple):
    """A reference in two: texts to draw from, and the rare words of the others."""

    front: Places
    tail: Ids


class Reference:
    """A corpus and its halves, the same each time for the same texts in the same order."""

    def __init__(self, texts: Sequence[str]):
        self.corpus = Corpus(texts)

    def __len__(self) -> int:
        return len(self.corpus)

    @cached_property
    def halves(self) -> list[Halves]:
        """Twenty random halvings; none for fewer than two texts."""
        size, rng = len(self), np.random.default_rng(0)
        if size < 2:
            return []
        orders = [rng.permutation(size) for _ in range(HALVINGS)]
        return [Halves(o[: size // 2], self._rare(o[size // 2 :])) for o in orders]

    def _rare(self, rows: Places) -> Ids:
        places = self.corpus.places(rows, self.corpus.tokens)
        numbers, counts = np.unique(self.corpus.ids[places], return_counts=True)
        return numbers[counts <= RARE]


def reached(tail: Ids, ids: Ids) -> float:
    """Return the share of rare words that occur among others, these sorted."""
    if not len(tail) or not len(ids):
        return 0.0
    places = np.minimum(np.searchsorted(ids, tail), len(ids) - 1)
    return float((ids[places] == tail).mean())
