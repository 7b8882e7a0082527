"""The accepted texts of a run as they come, cut into batches.

Enters: texts in the order of acceptance, of each the part that is compared with a reference, and that
a good candidate was refused as a copy. Leaves: a
`Batch` when one is full; the first texts and an even sample of all. Refuses to know: figures. A
stored run is taken in again at 21,000 to 26,000 texts of 47 words a second.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from agentloop.diversity.band import ENOUGH
from agentloop.diversity.sample import EvenSample
from agentloop.diversity.words import LONGEST, fingerprint, words

REMEMBERED = 50_000  # fingerprints, a choice; what is older is for admission to know
GROWING = ((400, 20), (2_000, 50), (math.inf, 100))
"""Below so many texts, batches of so many: a run of 60 is read three times, so that amber can come
within it; in a long one reading costs less an item, and each size of batch has a band to be drawn."""
KEPT = 4_096  # texts of the even sample: 60,000 tokens of 15 words


@dataclass(frozen=True)
class Batch:
    """Accepted texts in order, cut at 20,000 characters each."""

    number: int
    """From 1."""
    texts: tuple[str, ...]
    beside: tuple[str, ...]
    """Of each text the part that is compared with a reference."""
    repeats: tuple[bool, ...]
    """Which have all the words of an earlier text of the run."""
    strata: Mapping[str, int]
    """Texts by stratum, of those that have one."""
    turned_away: int
    """Good candidates refused as copies since the batch before."""


class Stream:
    """Cuts a stream of texts into batches; for one thread."""

    def __init__(self, size: int | None = None):
        """Cut batches of one size, or of the sizes of `GROWING`."""
        self._fixed = size
        self._size = size or GROWING[0][1]
        self.texts = self.batches = self.repeats = self.turned_away = 0
        """Counts of the run so far; texts of a batch that is not full are among them."""
        self.first: tuple[str, ...] = ()
        """The first whole batches with 200 texts together, once they are there."""
        self.first_batches = 0
        """How many batches those were."""
        self.strata: Counter[str] = Counter()
        """Texts by stratum, of those that have one."""
        self._sample = EvenSample[tuple[str, str]](KEPT)
        self._known: dict[int, None] = {}
        self._beginning: list[str] = []
        self._start()

    @property
    def sample(self) -> list[tuple[str, str]]:
        """An even sample of all texts, with what of each is compared with a reference."""
        return self._sample.kept

    def _start(self) -> None:
        self._open: list[tuple[str, str]] = []
        self._repeats: list[bool] = []
        self._strata: Counter[str] = Counter()
        self._away = 0

    def add(self, text: str, beside: str, stratum: str = "") -> Batch | None:
        """Take an accepted text and its part beside a reference; return the batch that it fills."""
        both = text[:LONGEST], beside[:LONGEST]
        repeat = self._seen(both[0])
        self._open.append(both)
        self._repeats.append(repeat)
        self.repeats += repeat
        if stratum:
            self._strata[stratum] += 1
            self.strata[stratum] += 1
        self._sample.add(both)
        self.texts += 1
        return self._cut() if len(self._open) >= self._size else None

    def turn_away(self) -> Batch | None:
        """Count a good candidate that was refused as a copy; return the batch that it ends.

        A batch ends at as many copies as it may hold texts: a run that makes nothing else is read.
        """
        self._away += 1
        self.turned_away += 1
        return self._cut() if self._away >= self._size else None

    def _cut(self) -> Batch:
        self.batches += 1
        batch = Batch(
            self.batches,
            tuple(text for text, _ in self._open),
            tuple(beside for _, beside in self._open),
            tuple(self._repeats),
            dict(self._strata),
            self._away,
        )
        if not self.first:
            self._beginning += batch.texts
            if len(self._beginning) >= ENOUGH:
                self.first_batches = self.batches
                self.first, self._beginning = tuple(self._beginning), []
        if self._fixed is None:
            self._size = next(size for most, size in GROWING if self.texts < most)
        self._start()
        return batch

    def _seen(self, text: str) -> bool:
        """Whether an earlier text has the same words; from now on this one is known."""
        mark = fingerprint(words(text))
        if mark is None:
            return False
        seen = mark in self._known
        self._known[mark] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return seen
