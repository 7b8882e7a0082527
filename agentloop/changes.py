"""What changed from one text to the next, and where a quote stands: for all who show attempts.

Enters: two texts, or a quote and its source. Leaves: pieces in their order, or a place.
Refuses to know: what shows them, whose texts they are.
"""

from __future__ import annotations

import bisect
import re
from typing import Literal, NamedTuple, TypeAlias

from rapidfuzz import fuzz
from rapidfuzz.distance import Indel

from agentloop.checks.quotes import QUOTE_RATIO, normalise

Fate: TypeAlias = Literal["same", "gone", "new"]
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
MOST = 8_000  # words, or lines: the table of a comparison has a bit for each pair
LONGEST = 200_000  # characters, in which a quote is looked for that stands there only nearly


class Piece(NamedTuple):
    """Neighbouring words that share a fate."""

    kind: Fate
    text: str


def changes(before: str, after: str) -> list[Piece]:
    """Return what stayed, went and came, in the order of reading: what went stands before what came.

    Without the pieces that are new it is `before`, without those that are gone it is `after`. Words are
    compared, in texts of more than 8,000 of them lines; still longer ones are replaced as a whole.
    """
    for parts in (_WORDS, _LINES):
        old, new = parts.findall(before), parts.findall(after)
        if max(len(old), len(new)) <= MOST:
            return _compared(old, new)
    return _told([("gone", before), ("new", after)])


def _compared(old: list[str], new: list[str]) -> list[Piece]:
    found: list[tuple[Fate, str]] = []
    for step in Indel.opcodes(old, new):
        gone = "".join(old[step.src_start : step.src_end])
        came = "".join(new[step.dest_start : step.dest_end])
        found += [("same", gone)] if step.tag == "equal" else [("gone", gone), ("new", came)]
    return _told(found)


def _told(found: list[tuple[Fate, str]]) -> list[Piece]:
    """Join neighbours, over a space too: between two that stayed, all that went is before what came."""
    pieces: list[Piece] = []
    gone = new = ""
    for number, (kind, text) in enumerate([*found, ("same", "")], 1):
        if kind == "gone":
            gone += text
        elif kind == "new":
            new += text
        elif (gone or new) and text.isspace() and number < len(found):
            gone, new = gone + text, new + text
        else:
            three: list[tuple[Fate, str]] = [("gone", gone), ("new", new), ("same", text)]
            pieces += [Piece(*one) for one in three if one[1]]
            gone = new = ""
    return pieces


def located(quote: str, source: str) -> tuple[int, int] | None:
    """Return where a quote stands in a source, as the first character's place and that after the last.

    Whole words are taken, by the same reading as `checks.quotes.stands`: spaces, quotation marks, case
    and small slips do not count. None where it does not stand.
    """
    words = list(re.finditer(r"\S+", source))
    read = [normalise(word[0]) for word in words]
    starts, length = [], 0
    for text in read:
        starts.append(length)
        length += len(text) + 1
    hay, needle = " ".join(read), normalise(quote).strip("\"'. ")
    if not needle or len(needle) > len(hay):
        return None
    start, end = hay.find(needle), hay.find(needle) + len(needle)
    if start < 0:
        if len(hay) > LONGEST:
            return None
        place = fuzz.partial_ratio_alignment(needle, hay, score_cutoff=QUOTE_RATIO)
        if place is None:
            return None
        start, end = place.dest_start, place.dest_end
    first = bisect.bisect_right(starts, start) - 1
    last = bisect.bisect_left(starts, end) - 1
    return words[first].start(), words[last].end()
