"""A near-duplicate index of what a store keeps: whatever happens to its files, it is made anew.

Enters: a folder, and a `Source` that can tell every text again. Leaves: the nearest of the texts.
Refuses to know: stores, runs, why a text was kept.

The source is the truth. Where the index lacks some of it, these are added; where it is damaged, it is
discarded and made anew, on opening and in the midst of a look-up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from agentloop.errors import AgentloopError, StoreError, boundary
from agentloop.novelty.near import Near, NearIndex
from agentloop.novelty.shelf import DamagedIndex, discard

Note = Callable[[str], None]


class Source(Protocol):
    """Who keeps for good what an index holds."""

    def names(self) -> Sequence[str]:
        """Return the items, in their order."""

    def texts(self, items: Sequence[str]) -> Iterable[tuple[str, str]]:
        """Yield those of the named items that there are, each with its text."""


class KeptIndex:
    """Texts by item in a folder, and who can tell them again."""

    def __init__(self, folder: Path, source: Source, stamp: tuple[int, int], note: Note):
        """Open the index and add what it lacks; `stamp` tells which items the source has.

        `note` says to those who watch that it is made anew. StoreError where it cannot be written.
        """
        self._folder = folder
        self._source = source
        self._note = note
        with boundary(StoreError, f"`{folder}` cannot be made", OSError):
            folder.parent.mkdir(exist_ok=True)
        try:
            self._index = NearIndex.open(folder)
        except DamagedIndex:
            discard(folder)
            self._index = NearIndex.open(folder)
        if self._index.stamp != stamp:
            self._catch_up()

    def nearest(self, text: str) -> Near | None:
        """Return the nearest text. DamagedIndex only where a new index is damaged at once."""
        try:
            return self._index.nearest(text)
        except DamagedIndex as error:
            self._make_anew(error)
            return self._index.nearest(text)

    def add(self, item: str, text: str) -> None:
        """Hold one more text, which the source will be told of. Raises StoreError."""
        try:
            self._index.add(item, text)
        except DamagedIndex as error:
            self._make_anew(error)
            self._index.add(item, text)

    def flush(self) -> None:
        """Let all that was added count after a restart, where that can be."""
        with contextlib.suppress(AgentloopError):  # it can be made anew
            self._index.flush()

    def close(self) -> None:
        """Flush, and let go of the files; safe to call twice."""
        with contextlib.suppress(AgentloopError):
            self._index.close()

    def _make_anew(self, error: DamagedIndex) -> None:
        self._note(f"{error}: it is made anew from the store")
        self._index.drop()
        discard(self._folder)
        self._index = NearIndex.open(self._folder)
        self._catch_up()

    def _catch_up(self) -> None:
        for item, text in self._source.texts(self._index.lacks(self._source.names())):
            self._index.add(item, text)
        self._index.flush()
