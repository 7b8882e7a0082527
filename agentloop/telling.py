"""An item's story on a terminal: attempts side by side, changes and quotes in colour.

Enters: a story, a console. Leaves: what the console shows. Refuses to know: stores, where an item is
found. Without colours changes and quotes stand between signs; without room attempts stand one under
another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agentloop.changes import Finder, Kind, Piece
from agentloop.excerpts import NAME, on_a_terminal, signed, texts
from agentloop.plain import plain
from agentloop.records import Attempt, Item
from agentloop.store.story import (
    Line,
    Story,
    attempt_title,
    call_lines,
    candidate_pieces,
    drawn_lines,
    finding_lines,
    head_lines,
    parent_of,
    seed_title,
)
from agentloop.tally import STYLES

WIDTH = 44  # columns that an attempt needs beside another
TONES: Mapping[str, str] = {
    **STYLES,
    "head": "bold",
    "good": "green",
    "bad": "red",
    "plain": "",
    "quote": "italic",
    "faint": "dim",
}
KINDS: Mapping[Kind, str] = {
    "same": "",
    "gone": "red strike",
    "new": "bold green",
    "quote": "black on yellow",
    "cut": "dim",
}


def tell(story: Story, console: Console) -> None:
    """Show a story as wide as the console is."""
    item, finder = story.item, Finder()
    parts = [_lines(head_lines(story)), Text(), _lines([seed_title(item)])]
    parts += _seed(item, finder, console)
    parts.append(_lines(drawn_lines(item)))
    parts += _attempts(item, finder, console)
    console.print(Group(*parts, Text(), _lines(call_lines(story))))


def _seed(item: Item, finder: Finder, console: Console) -> list[RenderableType]:
    """Return the seed's fields, with what the marks quote of them."""
    graded = [attempt.grade for attempt in item.attempts if attempt.grade]
    quotes = [(mark.quote, "") for grade in graded for mark in grade.marks]
    return [
        _field(name, finder.quoted(text, quotes), console) for name, text in texts(item.seed.fields)
    ]


def _attempts(item: Item, finder: Finder, console: Console) -> list[RenderableType]:
    """Return the attempts, as many beside each other as there is room for."""
    beside = max(1, console.width // WIDTH)
    shown: list[RenderableType] = []
    for start in range(0, len(item.attempts), beside):
        row = item.attempts[start : start + beside]
        shown += [Text(), _row([_attempt(attempt, item, finder, console) for attempt in row])]
    return shown


def _row(attempts: Sequence[RenderableType]) -> RenderableType:
    if len(attempts) == 1:
        return attempts[0]
    table = Table(box=box.MINIMAL, show_header=False, show_edge=False, expand=True)
    for _ in attempts:
        table.add_column(ratio=1, overflow="fold")
    table.add_row(*attempts)
    return table


def _attempt(attempt: Attempt, item: Item, finder: Finder, console: Console) -> RenderableType:
    before = parent_of(attempt, item)
    fields = [
        _field(name, parts, console) for name, parts in candidate_pieces(attempt, before, finder)
    ]
    found = _lines(finding_lines(attempt, item, finder))
    return Group(_lines([attempt_title(attempt, item)]), *fields, found)


def _field(name: str, pieces: list[Piece], console: Console) -> RenderableType:
    parts, text = on_a_terminal(pieces), Text.assemble((f"{plain(name, NAME)}: ", "bold"))
    if console.no_color or console.color_system is None:
        text.append(signed(parts))
    else:
        text.append_tokens((part.text, KINDS[part.kind]) for part in parts)
    return Padding(text, (0, 0, 0, 2))


def _lines(lines: Iterable[Line]) -> RenderableType:
    return Group(
        *(Padding(Text(line.shown, TONES[line.tone]), (0, 0, 0, 2 * line.depth)) for line in lines)
    )
