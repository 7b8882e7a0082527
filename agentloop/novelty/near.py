"""Near-duplicates among a million texts, found without looking at most of them.

Enters: items by name, with a text each; a text to compare. Leaves: the nearest of the texts that come
near it, verified on both texts. Refuses to know: which text stands for an item, what becomes of twins.

A text is looked up by the bands of its signature (locality-sensitive hashing, Indyk and Motwani 1998).
Each band leads to a bucket of the 8 newest texts that share it, so that words which everybody uses cost
nothing. Of these at most 256 texts the 8 most alike by their signatures are compared exactly.

The files are made from a store, lie beside it and are never the truth: `stamp` tells whether they hold
the same items. One process at a time, the owner of the store's lock, may open them.

Texts that differ by their numbers only are near: a problem with other figures teaches the same again.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentloop.novelty.shelf import SLOTS, DamagedIndex, Shelf, buckets
from agentloop.novelty.sketch import (
    BANDS,
    NEAR,
    Measure,
    Signature,
    likeness,
    resemblance,
    signature,
    words,
)

COMPARED = 8  # texts compared exactly, at most
ALIKE = 0.33  # estimated Jaccard of the words; 0.54 is the least that can be near, and σ is 0.07
_EACH_BAND = np.arange(BANDS)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ ÷ the golden ratio
_ONE = np.uint32(1)
_WORDLESS = np.full(BANDS, 2**32 - 1, np.uint32)


class Near(NamedTuple):
    """A text that is held and comes near the one asked about."""

    item: str
    measure: Measure
    similarity: float
    """0.7..1 for texts; 0.9..1 for the cosine of embeddings."""


class Stamp(NamedTuple):
    """Which items an index holds, whatever their order."""

    items: int
    names: int
    """Sum modulo 2⁶⁴ of the names' numbers: the last 8 bytes of their MD5, as DuckDB's
    `md5_number_lower(name)`."""

    @classmethod
    def of(cls, items: Iterable[str]) -> Stamp:
        """Return the stamp of an index that holds these items."""
        numbers = [_number(item) for item in items]
        return cls(len(numbers), sum(numbers) % 2**64)


class NearIndex:
    """Texts by item; append only."""

    def __init__(self, shelf: Shelf):
        self._shelf = shelf
        self._spread = _spread(shelf.head.capacity)
        if not shelf.head.settled:
            self._fill()

    @classmethod
    def open(cls, path: Path | None) -> NearIndex:
        """Open an index, or make an empty one; without a path it is in memory only.

        Raises DamagedIndex where it must be discarded and made anew, StoreError where it cannot be read.
        After a kill its tables are made anew: 2 s for a million items.
        """
        return cls(Shelf(path))

    def __len__(self) -> int:
        return self._shelf.head.rows

    @property
    def stamp(self) -> Stamp:
        """Which items it holds."""
        return Stamp(self._shelf.head.rows, self._shelf.head.names)

    def lacks(self, items: Iterable[str]) -> list[str]:
        """Return those of the items that it does not hold, in their order."""
        named = list(items)
        numbers = np.array([_number(item) for item in named], np.uint64)
        held = np.isin(numbers, self._shelf.names[: len(self)])
        return [item for item, is_held in zip(named, held.tolist(), strict=True) if not is_held]

    def nearest(self, text: str) -> Near | None:
        """Return the nearest text with Jaccard or ROUGE-L F ≥ 0.7; None also for one without words.

        Raises DamagedIndex.
        """
        found, mine = _sketch(text)
        if not found or not len(self):
            return None
        best: Near | None = None
        for row in self._likely(mine):
            item, other = self._shelf.text(row)
            if _number(item) != int(self._shelf.names[row]):
                raise DamagedIndex(
                    f"near-duplicate index `{self._shelf.path}`: row {row} is another"
                )
            measure, similarity = likeness(found, other.split(" "))
            if similarity >= NEAR and (best is None or similarity > best.similarity):
                best = Near(item, measure, similarity)
        return best

    def add(self, item: str, text: str) -> None:
        """Hold one more text; it counts after a restart once `flush` has returned. Raises StoreError."""
        found, mine = _sketch(text)
        if len(self) == self._shelf.head.capacity:
            self._shelf.grow()
            self._spread = _spread(self._shelf.head.capacity)
            self._fill()
        row = self._shelf.append(_number(item), mine, item, " ".join(found))
        places = self._buckets(mine)
        slots = self._shelf.tables[_EACH_BAND, places].argmin(axis=1)  # empty, or the oldest
        self._shelf.tables[_EACH_BAND, places, slots] = row + 1

    def flush(self) -> None:
        """Let all that was added count after a restart, also after `kill -9`. Raises StoreError."""
        self._shelf.save()

    def close(self) -> None:
        """Flush, and bring everything to the disk; safe to call twice. Raises StoreError."""
        self._shelf.close()

    def drop(self) -> None:
        """Let go of the files as they are: they are to be discarded."""
        self._shelf.drop()

    def _likely(self, mine: Signature) -> list[int]:
        """Return the rows that share a band and resemble a text, the likeliest first."""
        rows = self._shelf.tables[_EACH_BAND, self._buckets(mine)].ravel() - _ONE  # none: 2³² - 1
        known = np.flatnonzero(rows < len(self))  # none is beyond in sound tables
        rows, bands = rows[known], known // SLOTS
        shared = rows[self._shelf.signatures[rows, bands] == mine[bands]].tolist()
        if not shared:
            return []
        rows = np.array(sorted(set(shared)))
        alike = resemblance(mine, self._shelf.signatures[rows])
        likely = np.flatnonzero(alike >= ALIKE)
        best: list[int] = rows[likely[np.argsort(-alike[likely], kind="stable")]].tolist()
        return best[:COMPARED]

    def _buckets(self, bands: NDArray[np.uint32]) -> NDArray[np.uint64]:
        return (bands * _SPREAD) >> self._spread

    def _fill(self) -> None:
        """Make the tables from the signatures, as if each row had been added in turn."""
        for band in _EACH_BAND.tolist():
            places = self._buckets(self._shelf.signatures[: len(self), band])
            order = np.argsort(places, kind="stable")
            placed = places[order]
            age = np.searchsorted(placed, placed, side="right") - 1 - np.arange(len(placed))
            young = age < SLOTS
            table = self._shelf.tables[band]
            table[:] = 0
            table[placed[young], age[young]] = order[young] + 1


@functools.lru_cache(maxsize=4)
def _sketch(text: str) -> tuple[list[str], Signature]:
    """Return words and signature; who was looked up is often added next."""
    found = words(text)
    return found, signature(found) if found else _WORDLESS


def _number(item: str) -> int:
    name = hashlib.md5(item.encode("utf-8", "surrogatepass"), usedforsecurity=False)
    return int.from_bytes(name.digest()[8:], "little")


def _spread(capacity: int) -> np.uint64:
    """Return by how many bits a product is shifted to give a bucket."""
    return np.uint64(64 - (buckets(capacity).bit_length() - 1))
