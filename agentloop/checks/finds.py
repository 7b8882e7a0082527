"""Things that should not stand in a text: kinds of them, and what was found.

Enters: a text and kinds, each a pattern and a second look. Leaves: what was found, each once.
Refuses to know: which kinds there are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agentloop.plain import plain

SHOWN = 4  # characters of a find that may be repeated, and at most a quarter of it


class Find(NamedTuple):
    """Something that should not stand in a text."""

    kind: str
    text: str

    @property
    def masked(self) -> str:
        """Its first characters, at most a quarter of it."""
        return plain(self.text[: min(SHOWN, len(self.text) // 4)]) + "…"


class Kind(NamedTuple):
    """What to look for; patterns must stay linear on any text."""

    name: str
    marks: tuple[str, ...]
    """Every match holds one of these; a text without them is not searched."""
    pattern: re.Pattern[str]
    """What matches, or its group `found`, is the find."""
    counts: Callable[[str], bool]
    """The second look: false for placeholders and for numbers whose check digit is wrong."""


def kind(name: str, marks: str, pattern: str, counts: Callable[[str], bool]) -> Kind:
    """Return a kind whose marks are parted and whose pattern is compiled."""
    return Kind(name, tuple(marks.split()), re.compile(pattern), counts)


def found(text: str, kinds: Sequence[Kind]) -> list[Find]:
    """Return what a text holds of some kinds, each once; the first kind that sees a place names it."""
    folded = unicodedata.normalize("NFKC", text)
    taken = bytearray(len(folded))
    finds: dict[str, Find] = {}
    for sought in kinds:
        if not any(mark in folded for mark in sought.marks):
            continue
        group = "found" if "found" in sought.pattern.groupindex else 0
        for match in sought.pattern.finditer(folded):
            start, end = match.span(group)
            if not any(taken[start:end]) and sought.counts(match[group]):
                taken[start:end] = b"\1" * (end - start)
                finds.setdefault(match[group], Find(sought.name, match[group]))
    return list(finds.values())
