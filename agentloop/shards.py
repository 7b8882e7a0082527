"""Shards: a run divided among machines that know nothing of each other.

    2/4    the second of four

Enters: what was typed; the numbers of seeds' roots. Leaves: which of them are this shard's. Refuses to
know: seeds, stores, who works on the other shards.

A root belongs to one shard, by its number alone: in whatever order and file its seeds stand.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FORM = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


class Shard(NamedTuple):
    """One part of several."""

    number: int = 1
    """From 1 on."""
    among: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `2/4`; nothing is the whole. ValueError for what is no part of a whole."""
        found = _FORM.fullmatch(text.strip()) if text else None
        shard = cls(int(found[1]), int(found[2])) if found else cls()
        if (text and not found) or not 1 <= shard.number <= shard.among:
            raise ValueError("must be I/N with I from 1 to N, as in `2/4`")
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.among}" if self.among > 1 else ""

    def holds(self, root: int) -> bool:
        """Whether a root's seeds are this shard's."""
        return root % self.among == self.number - 1

    def held(self, roots: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Say of each root whether its seeds are this shard's."""
        found: NDArray[np.bool_] = roots % self.among == self.number - 1
        return found


WHOLE = Shard()


def gaps(there: Iterable[Shard]) -> Iterator[tuple[Shard, Shard]]:
    """Yield the first and the last of those that lack between others, of every number of shards."""
    for among, known in itertools.groupby(sorted(set(there), key=_order), key=lambda s: s.among):
        before = 0
        for number in [*(shard.number for shard in known), among + 1]:
            if number > before + 1:
                yield Shard(before + 1, among), Shard(number - 1, among)
            before = number


def _order(shard: Shard) -> tuple[int, int]:
    return shard.among, shard.number
