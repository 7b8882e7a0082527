"""What changed from one text to the next, and where quotes stand: for all who show attempts.

Enters: two texts, or a text and quotes. Leaves: pieces in their order. Refuses to know: what shows them,
whose texts they are, how much of them is shown.

Whoever wrote the texts wants a reader to wait, perhaps: a `Finder` does so much work and no more.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from rapidfuzz import fuzz
from rapidfuzz.distance import Indel

from agentloop.checks.quotes import QUOTE_RATIO, normalise

Kind: TypeAlias = Literal["same", "gone", "new", "quote", "cut"]
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
MOST = 8_000  # words, or lines: the table of a comparison has a bit for each pair
LONGEST = 200_000  # characters of a text that are read
NEAR = 1_000  # characters of a quote that may stand there only nearly; far longer ones take seconds
WORK = 1_000_000_000  # nanoseconds or so, of all that one reading does
READ, SAID, NEARLY, PAIR = 300, 30, 0.25, 1.0
"""What a character of a text costs, one of a quote, a pair of both, a pair of words compared."""


class Piece(NamedTuple):
    """Neighbouring words that share a fate."""

    kind: Kind
    text: str
    about: str = ""
    """Of a quote: the criteria that it speaks for."""


Span = tuple[int, int]


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
    found: list[tuple[Kind, str]] = []
    for step in Indel.opcodes(old, new):
        gone = "".join(old[step.src_start : step.src_end])
        came = "".join(new[step.dest_start : step.dest_end])
        found += [("same", gone)] if step.tag == "equal" else [("gone", gone), ("new", came)]
    return _told(found)


def _told(found: list[tuple[Kind, str]]) -> list[Piece]:
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
            three: list[tuple[Kind, str]] = [("gone", gone), ("new", new), ("same", text)]
            pieces += [Piece(*one) for one in three if one[1]]
            gone = new = ""
    return pieces


class Finder:
    """Finds in the texts of one story; what takes too long stays unfound, or is replaced as a whole."""

    def __init__(self, work: float = WORK):
        self._left = work
        self._sources: dict[str, _Source | None] = {}
        self.hurried = False
        """Whether the last look for a place was cut short."""

    def changes(self, before: str, after: str) -> list[Piece]:
        """Return what changed, as `changes` does, in the beginning of very long texts."""
        if before == after:
            return [Piece("same", after)] if after else []
        old, new = before[:LONGEST], after[:LONGEST]
        pairs = min(len(old), 4 * MOST) * min(len(new), 4 * MOST) / 16
        told = [*self._pairs(old, new, pairs), Piece("same", after[LONGEST:])]
        return [piece for piece in told if piece.text]

    def _pairs(self, old: str, new: str, pairs: float) -> list[Piece]:
        if not self._afford(PAIR * pairs):
            return _told([("gone", old), ("new", new)])
        return changes(old, new)

    def quoted(self, text: str, quotes: Iterable[tuple[str, str]]) -> list[Piece]:
        """Return a text with what is quoted of it, given quotes and what each is about.

        Quotes that overlap are one piece, about all that they are about. Those that stand there word for
        word are looked for first.
        """
        about: dict[str, dict[str, None]] = {}
        for quote, name in quotes:
            if quote:
                about.setdefault(quote, {})[name] = None
        spans, nearly = [], []
        for quote in about:
            if (span := self.place(quote, text, near=False)) is not None:
                spans.append((*span, [*about[quote]]))
            else:
                nearly.append(quote)
        for quote in nearly:
            if (span := self.place(quote, text)) is not None:
                spans.append((*span, [*about[quote]]))
        return _set_apart(text, spans)

    def place(self, quote: str, text: str, *, near: bool = True) -> Span | None:
        """Return where a quote stands in a text, as the first character's place and that after the last.

        Whole words are taken, by the same reading as `checks.quotes.stands`: spaces, quotation marks,
        case and, if `near`, small slips do not count. None where it does not stand, or nobody looked.
        """
        self.hurried = False
        if len(quote) > LONGEST or not self._afford(SAID * len(quote)):
            self.hurried = True
            return None
        needle, source = normalise(quote).strip("\"'. "), self._source(text)
        if source is None or not needle or len(needle) > len(source.hay):
            return None
        if not self._afford(len(source.hay)):
            return None
        at = source.hay.find(needle)
        if at >= 0:
            return source.words(at, at + len(needle))
        return self._nearly(needle, source) if near else None

    def _nearly(self, needle: str, source: _Source) -> Span | None:
        if len(needle) > NEAR:
            self.hurried = True
            return None
        if not self._afford(NEARLY * len(needle) * len(source.hay)):
            return None
        place = fuzz.partial_ratio_alignment(needle, source.hay, score_cutoff=QUOTE_RATIO)
        return source.words(place.dest_start, place.dest_end) if place else None

    def _source(self, text: str) -> _Source | None:
        head = text[:LONGEST]
        if head not in self._sources:
            self._sources[head] = _Source(head) if self._afford(READ * len(head)) else None
        return self._sources[head]

    def _afford(self, work: float) -> bool:
        if work > self._left:
            self.hurried = True
            return False
        self._left -= work
        return True


class _Source:
    """A text in which quotes are looked for, as `checks.quotes` reads it, and its words' places."""

    def __init__(self, text: str):
        self._words = [word.span() for word in re.finditer(r"\S+", text)]
        read = [normalise(text[start:end]) for start, end in self._words]
        self._starts, length = [], 0
        for word in read:
            self._starts.append(length)
            length += len(word) + 1
        self.hay = " ".join(read)

    def words(self, start: int, end: int) -> Span:
        first = bisect.bisect_right(self._starts, start) - 1
        last = bisect.bisect_left(self._starts, end) - 1
        return self._words[first][0], self._words[last][1]


def _set_apart(text: str, spans: Iterable[tuple[int, int, list[str]]]) -> list[Piece]:
    """Return a text with some places as quotes, those that overlap as one."""
    merged: list[tuple[int, int, list[str]]] = []
    for start, end, names in sorted(spans):
        if merged and start < merged[-1][1]:
            first, last, others = merged.pop()
            merged.append((first, max(last, end), [*others, *names]))
        else:
            merged.append((start, end, names))
    pieces, at = [], 0
    for start, end, names in merged:
        quote = Piece("quote", text[start:end], ", ".join(dict.fromkeys(filter(None, names))))
        pieces += [Piece("same", text[at:start]), quote]
        at = end
    return [piece for piece in [*pieces, Piece("same", text[at:])] if piece.text]
