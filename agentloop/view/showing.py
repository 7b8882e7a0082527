"""From a story to what a page shows of it.

Enters: an item's story, once or in two gradings. Leaves: names and pieces of text, each with what it is:
the same, gone, new, a quote. Refuses to know: HTML, who looks.

Whoever wrote the texts wrote anything: controls, halves of characters, signs that turn the direction of
all that follows. These are written out, as `agentloop.plain` does; a megabyte is cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agentloop.changes import changes, located
from agentloop.plain import harmless
from agentloop.records import Attempt, Grade, Json, Mark
from agentloop.store.story import Story

SHOWN = 20_000  # characters of one field


class Bit(NamedTuple):
    """A piece of a text."""

    kind: str
    """`same`, `gone`, `new`, `quote`, `cut`."""
    text: str
    about: str = ""
    """Of a quote: its criteria."""


class Field(NamedTuple):
    """A named text."""

    name: str
    bits: list[Bit]


class Draft(NamedTuple):
    """An attempt beside the others."""

    title: str
    attempt: Attempt
    kept: bool
    fields: list[Field]
    """What changed since the attempt that it revises."""
    marks: list[tuple[str, Mark | None, Mark | None]]
    """Criterion, its mark, and that of the other grading."""
    grade: Grade | None
    beside: Grade | None


def as_text(value: object) -> str:
    """Return a field's value as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def cut(bits: Iterable[Bit]) -> list[Bit]:
    """Return pieces of at most 20,000 characters in all, and how many more there are."""
    shown, left, more = [], SHOWN, 0
    for bit in bits:
        text = bit.text[:left]
        left -= len(text)
        more += len(bit.text) - len(text)
        if text:
            shown.append(bit._replace(text=harmless(text)))
    return [*shown, Bit("cut", f"… {more:,} more characters")] if more else shown


def plain_fields(fields: Json) -> list[Field]:
    """Return fields as they are."""
    return [Field(name, cut([Bit("same", as_text(value))])) for name, value in fields.items()]


def seed_fields(story: Story) -> list[Field]:
    """Return the seed's fields, with the quotes of the kept attempt in them."""
    best = story.item.best or (story.item.attempts[-1] if story.item.attempts else None)
    marks = best.grade.marks if best and best.grade else ()
    return [
        Field(name, cut(quoted(as_text(value), marks)))
        for name, value in story.item.seed.fields.items()
    ]


def quoted(text: str, marks: Sequence[Mark]) -> list[Bit]:
    """Return a text with the quotes that stand in it; of two that overlap the first."""
    spans: dict[tuple[int, int], list[str]] = {}
    for mark in marks:
        if mark.quote and (span := located(mark.quote, text[:SHOWN])):
            spans.setdefault(span, []).append(mark.criterion)
    bits, at = [], 0
    for (start, end), names in sorted(spans.items()):
        if start >= at:
            quote = Bit("quote", text[start:end], ", ".join(names))
            bits += [Bit("same", text[at:start]), quote]
            at = end
    return [*bits, Bit("same", text[at:])]


def drafts(story: Story, other: Story | None = None) -> list[Draft]:
    """Return the attempts of an item, each with its marks in one or in two gradings."""
    item = story.item
    by_round = {attempt.round: attempt for attempt in item.attempts}
    besides = {attempt.round: attempt.grade for attempt in other.item.attempts} if other else {}
    return [
        Draft(
            title="first draft" if attempt.round == 0 else f"revision {attempt.round}",
            attempt=attempt,
            kept=item.verdict is not None and item.verdict.round == attempt.round,
            fields=_changed(
                by_round.get(-1 if attempt.parent is None else attempt.parent), attempt
            ),
            marks=_marks(attempt.grade, besides.get(attempt.round)),
            grade=attempt.grade,
            beside=besides.get(attempt.round),
        )
        for attempt in item.attempts
    ]


def _changed(parent: Attempt | None, attempt: Attempt) -> list[Field]:
    if parent is None:
        marks = attempt.grade.marks if attempt.grade else ()
        return [
            Field(name, cut(quoted(as_text(value), marks)))
            for name, value in attempt.candidate.items()
        ]
    before = parent.candidate
    return [
        Field(
            name,
            cut(Bit(*piece) for piece in changes(as_text(before.get(name, "")), as_text(value))),
        )
        for name, value in attempt.candidate.items()
    ]


def _marks(one: Grade | None, other: Grade | None) -> list[tuple[str, Mark | None, Mark | None]]:
    ours = {mark.criterion: mark for mark in one.marks} if one else {}
    theirs = {mark.criterion: mark for mark in other.marks} if other else {}
    return [(name, ours.get(name), theirs.get(name)) for name in {**ours, **theirs}]
