"""Long texts and long stories, cut down to what matters in them: one way for terminal, page and report.

Enters: pieces of texts, words that somebody said, names of fields. Leaves: the same, of a bounded size;
what is left out is said. Refuses to know: what shows them, colours, which characters are harmless.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from agentloop.changes import Kind, Piece
from agentloop.plain import harmless

SIGNS: Mapping[Kind, tuple[str, str]] = {
    "same": ("", ""),
    "gone": ("[-", "-]"),
    "new": ("{+", "+}"),
    "quote": ("«", "»"),
    "cut": (" ", " "),
}
"""What stands around a piece where there are no colours."""
NAME = 60  # characters of a field's name
FIELDS = 40


class Sizes(NamedTuple):
    """How many characters are shown, of texts in one place."""

    whole: int
    """Of a text in one piece."""
    beside: int
    """On either side of what changed or is quoted."""
    changed: int
    """Of one change or quote."""
    most: int
    """Of one text; a shorter one stands whole."""


TERMINAL = Sizes(whole=600, beside=80, changed=300, most=1_800)
PAGE = Sizes(whole=20_000, beside=2_000, changed=6_000, most=20_000)
REPORT = Sizes(whole=1_500, beside=350, changed=1_500, most=4_000)


class Room:
    """How many characters a story, or a part of it, may still take."""

    def __init__(self, left: int, sizes: Sizes):
        self._left, self._sizes = left, sizes

    def text(self, said: object, most: int) -> str:
        """Return a text, cut at its end."""
        text = str(said)
        kept = text[: max(0, min(most, self._left))]
        self._left -= len(kept)
        return kept if len(kept) == len(text) else f"{kept}…"

    def pieces(self, parts: Sequence[Piece]) -> list[Piece]:
        """Return a text in pieces; of long ones the middle is left out, and the end of too many."""
        most, shown = max(0, min(self._sizes.most, self._left)), []
        found = [*_abridged(parts, self._sizes)]
        for number, (part, stands_for) in enumerate(found):
            size = 0 if part.kind == "cut" else stands_for
            if size > most:
                shown += [part._replace(text=part.text[:most])] if most else []
                self._left -= most
                return [*shown, _left_out(sum(count for _, count in found[number:]) - most)]
            most -= size
            self._left -= size
            shown.append(part)
        return shown


def _abridged(parts: Sequence[Piece], sizes: Sizes) -> Iterator[tuple[Piece, int]]:
    """Yield pieces, the middle of long ones left out, each with how many characters it stands for."""
    short = sum(len(part.text) for part in parts) <= sizes.whole
    for part in parts:
        kept = 2 * sizes.beside if part.kind == "same" else sizes.changed
        kept = sizes.whole if len(parts) == 1 else kept
        hidden = len(part.text) - kept
        if short or hidden <= sizes.beside:
            yield part, len(part.text)
            continue
        first, last = part.text[: kept // 2], part.text[-(kept - kept // 2) :]
        yield part._replace(text=first), len(first)
        yield _left_out(hidden), hidden
        yield part._replace(text=last), len(last)


def _left_out(count: int) -> Piece:
    return Piece("cut", f"… {count:,} more characters …")


def on_a_terminal(parts: Sequence[Piece]) -> list[Piece]:
    """Return what a terminal shows of a text; nothing in it can act on a screen."""
    shown = Room(TERMINAL.most, TERMINAL).pieces(parts)
    return [part._replace(text=harmless(part.text)) for part in shown]


def signed(parts: Iterable[Piece]) -> str:
    """Return pieces as text without colours: `[-gone-]`, `{+new+}`, `«quoted»`."""
    said = (f"{SIGNS[part.kind][0]}{part.text}{SIGNS[part.kind][1]}" for part in parts)
    return "".join(said)


def texts(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield names and values as text, of very many the first forty and how many more there are."""
    for number, (name, value) in enumerate(fields.items()):
        if number == FIELDS:
            yield "…", f"{len(fields) - FIELDS:,} more fields"
            return
        yield str(name), as_text(value)


def as_text(value: object) -> str:
    """Return a field's value as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
