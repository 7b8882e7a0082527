"""Texts as numbers, and the words of them that fill a token budget.

Enters: texts. Leaves: arrays: a 64-bit number for each word (its BLAKE2b, so that it is the same in
every corpus and process), where each text starts, how it opens. Refuses to know: figures.

A token is a word of `words`. A budget is filled by the words of the texts in a given order; the
text in which it ends is cut. An n-gram belongs to the budget when its first word does, and never
crosses texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from agentloop.diversity.words import LONGEST, opening, words

Ids = NDArray[np.uint64]
Places = NDArray[np.intp]

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no word is lost in the product


class Corpus:
    """Texts, tokenised once."""

    def __init__(self, texts: Iterable[str]):
        self.texts = [text[:LONGEST] for text in texts]
        spoken = [words(text) for text in self.texts]
        known: dict[str, int] = {}
        self.ids: Ids = np.fromiter(
            (_number(word, known) for text in spoken for word in text), dtype=np.uint64
        )
        """The number of every word, text after text."""
        self.lengths: Places = np.array([len(text) for text in spoken], dtype=np.intp)
        """Words of each text."""
        self.starts: Places = np.concatenate(([0], np.cumsum(self.lengths))).astype(np.intp)
        self.openings = [opening(text) for text in spoken]
        self._grams: dict[int, tuple[Ids, NDArray[np.bool_]]] = {}

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def tokens(self) -> int:
        """Words of all texts."""
        return int(self.starts[-1])

    @cached_property
    def spread(self) -> Places:
        """The texts in the fixed order in which budgets are filled: shuffled, the same each time."""
        return np.random.default_rng(0).permutation(len(self))

    def places(self, order: Places, budget: int) -> Places:
        """Return the places of the first `budget` words of the texts in this order."""
        lengths = self.lengths[order]
        ends = np.cumsum(lengths)
        whole = int(np.searchsorted(ends, budget, side="left")) + 1
        lengths, ends, order = lengths[:whole], ends[:whole], order[:whole]
        shift = np.repeat(self.starts[order] - (ends - lengths), lengths)
        return (shift + np.arange(len(shift)))[:budget]

    def raw(self, order: Places, budget: int) -> bytes:
        """Return the same words as they are written, a line a text, the last cut in proportion."""
        found, left = [], budget
        for index in order:
            text, length = self.texts[index], int(self.lengths[index])
            if length > left:
                text = text[: round(len(text) * left / length)]
            found.append(text)
            left -= length
            if left <= 0:
                break
        return "\n".join(found).encode("utf-8", "surrogatepass")

    def grams(self, size: int, places: Places) -> Ids:
        """Return the n-grams that begin at these places."""
        if size not in self._grams:
            self._grams[size] = _grams(self.ids, self.starts, size)
        numbers, whole = self._grams[size]
        return numbers[places][whole[places]]

    @cached_property
    def phrases(self) -> tuple[Ids, Places]:
        """The different 5-grams of each text, and where each text's begin."""
        every = np.arange(self.tokens)
        kept = [
            np.unique(self.grams(5, every[start:end]))
            for start, end in zip(self.starts[:-1], self.starts[1:], strict=True)
        ]
        starts = np.concatenate(([0], np.cumsum([len(k) for k in kept]))).astype(np.intp)
        return np.concatenate([*kept, np.empty(0, np.uint64)]), starts

    @cached_property
    def types(self) -> tuple[Ids, NDArray[np.float64], Places]:
        """The different words of each text, how often each occurs in it, and where each text's begin."""
        kept = [
            np.unique(self.ids[start:end], return_counts=True)
            for start, end in zip(self.starts[:-1], self.starts[1:], strict=True)
        ]
        starts = np.concatenate(([0], np.cumsum([len(k) for k, _ in kept]))).astype(np.intp)
        numbers = np.concatenate([*(k for k, _ in kept), np.empty(0, np.uint64)])
        counts = np.concatenate([*(c for _, c in kept), np.empty(0, np.intp)])
        return numbers, counts.astype(np.float64), starts


def ranges(starts: Places, rows: Places) -> tuple[Places, Places]:
    """Return all places of some texts in an array where `starts` says they begin, and whose each is."""
    lengths = starts[rows + 1] - starts[rows]
    ends = np.cumsum(lengths)
    owners = np.repeat(np.arange(len(rows)), lengths)
    shift = np.repeat(starts[rows] - (ends - lengths), lengths)
    return shift + np.arange(len(shift)), owners


def _number(word: str, known: dict[str, int]) -> int:
    number = known.get(word)
    if number is None:
        data = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = known[word] = int.from_bytes(data, "little")
    return number


def _grams(ids: Ids, starts: Places, size: int) -> tuple[Ids, NDArray[np.bool_]]:
    """Return a number for the n-gram at each place, and whether it ends in the same text."""
    numbers, total = ids.copy(), len(ids)
    for step in range(1, min(size, total)):
        numbers[: total - step] = numbers[: total - step] * _MIX + ids[step:]
    ends = np.repeat(starts[1:], np.diff(starts))
    return numbers, np.arange(total) + size <= ends
