"""How much alike texts are: nearest neighbours, copies, the number of different ones.

Enters: a corpus and which of its texts. Leaves: figures of their TF-IDF cosines. Refuses to know:
meaning; two texts that say the same in other words are not alike here.

Weights are count · (ln((1 + n) / (1 + df)) + 1), n texts of which df hold the word, within the
texts looked at (the smoothed form of Spärck Jones 1972 that scikit-learn uses).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from agentloop.diversity.corpus import Corpus, Places, ranges

SAME = 0.9
"""Cosine from which a text is a copy. Of 30 human texts of a kind at most one pair is so alike (200
draws of eight sets)."""


MOST = 512  # texts compared pair by pair: the eigenvalues of more take seconds


class Likeness(NamedTuple):
    """What the cosines of n texts come to."""

    neighbour: float
    """Mean cosine to the most similar other text, 0..1."""
    vendi: float
    """Effective number of different texts, 1..n (Friedman & Dieng 2023, order 1)."""
    copies: NDArray[np.bool_]
    """Which texts have an earlier one that is at least 0.9 like them."""


def likeness(corpus: Corpus, rows: Places) -> Likeness | None:
    """Compare some texts with each other; None for fewer than two. Time: their number cubed."""
    if len(rows) < 2:
        return None
    with _one_thread():
        cosines = _cosines(corpus, rows)
        values = np.linalg.eigvalsh(cosines / len(rows))
    values = values[values > 1e-9]
    np.fill_diagonal(cosines, 0.0)
    return Likeness(
        neighbour=float(cosines.max(axis=1).mean()),
        vendi=float(np.exp(-(values * np.log(values)).sum())),
        copies=_earlier(cosines),
    )


def near_copies(corpus: Corpus) -> list[bool]:
    """Say of each of the first 512 texts whether an earlier one is at least 0.9 like it."""
    with _one_thread():
        found = _earlier(_cosines(corpus, np.arange(min(len(corpus), MOST))))
    return [bool(copy) for copy in found]


def _one_thread() -> AbstractContextManager[object]:
    """Keep linear algebra to one thread: on tables so small others only wait, and burn a core each."""
    held: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return held


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _earlier(cosines: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which texts have an earlier one that is much like them."""
    return np.asarray(np.tril(cosines >= SAME, -1).any(axis=1))


def _cosines(corpus: Corpus, rows: Places) -> NDArray[np.float64]:
    """Return the cosine of every two texts; a text without words is like nothing else."""
    numbers, counts, starts = corpus.types
    places, owners = ranges(starts, rows)
    _, columns, texts = np.unique(numbers[places], return_inverse=True, return_counts=True)
    size = len(rows)
    weights = counts[places] * (np.log((1 + size) / (1 + texts)) + 1)[columns]
    norms = np.sqrt(np.bincount(owners, weights**2, minlength=size))
    shared = texts > 1  # a word of one text adds to its norm only
    kept = shared[columns]
    table = np.zeros((size, int(shared.sum())), dtype=np.float32)
    table[owners[kept], (np.cumsum(shared) - 1)[columns[kept]]] = (weights / norms[owners])[kept]
    cosines = (table @ table.T).astype(np.float64)
    np.fill_diagonal(cosines, 1.0)
    return cosines
