"""From a story to what a page shows of it.

Enters: an item's story, once or in two gradings. Leaves: names and pieces of text, each with what it is:
the same, gone, new, a quote; of a bounded size, and after a bounded time. Refuses to know: HTML, who
looks, which characters are harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentloop.changes import Finder, Piece
from agentloop.excerpts import NAME, PAGE, Room, texts
from agentloop.records import Attempt, Grade, Json, Mark
from agentloop.store.story import Story, attempt_name, candidate_pieces, parent_of

FIELDS = 80_000  # characters of a seed, or of a candidate
DRAFTS = 240_000  # of all attempts, evenly
SAID = 2_000  # of a quote, a reason, what a check found
LISTED = 50  # marks, checks, attempts, notes of a critique
CALLS = 200


class Field(NamedTuple):
    """A named text."""

    name: str
    bits: list[Piece]


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


def short(said: object) -> str:
    """Return what somebody said, cut at its end."""
    text = str(said)
    return text if len(text) <= SAID else f"{text[: SAID - 1]}…"


def plain_fields(fields: Json) -> list[Field]:
    """Return fields as they are."""
    room = Room(FIELDS, PAGE)
    return [_field(name, [Piece("same", text)], room) for name, text in texts(fields)]


def seed_fields(story: Story, finder: Finder) -> list[Field]:
    """Return the seed's fields, with the quotes of the kept attempt in them."""
    best = story.item.best or (story.item.attempts[-1] if story.item.attempts else None)
    marks = best.grade.marks if best and best.grade else ()
    quotes, room = [(mark.quote, mark.criterion) for mark in marks], Room(FIELDS, PAGE)
    return [
        _field(name, finder.quoted(text, quotes), room)
        for name, text in texts(story.item.seed.fields)
    ]


class Told(NamedTuple):
    """What a page shows of a story."""

    seed: list[Field]
    drafts: list[Draft]
    left_out: int
    """Attempts that are not shown."""


def told(story: Story, other: Story | None = None) -> Told:
    """Return what a page shows of a story, in one or in two gradings."""
    finder = Finder()
    seed, found = seed_fields(story, finder), drafts(story, finder, other)
    return Told(seed, found, len(story.item.attempts) - len(found))


def drafts(story: Story, finder: Finder, other: Story | None = None) -> list[Draft]:
    """Return the first fifty attempts of an item, each with its marks in one or in two gradings."""
    item = story.item
    besides = {attempt.round: attempt.grade for attempt in other.item.attempts} if other else {}
    shown = item.attempts[:LISTED]
    each = min(FIELDS, DRAFTS // max(1, len(shown)))
    return [
        Draft(
            title=attempt_name(attempt),
            attempt=attempt,
            kept=item.verdict is not None and item.verdict.round == attempt.round,
            fields=_fields(attempt, parent_of(attempt, item), finder, Room(each, PAGE)),
            marks=_marks(attempt.grade, besides.get(attempt.round)),
            grade=attempt.grade,
            beside=besides.get(attempt.round),
        )
        for attempt in shown
    ]


def _fields(attempt: Attempt, before: Attempt | None, finder: Finder, room: Room) -> list[Field]:
    found = candidate_pieces(attempt, before, finder)
    return [_field(name, pieces, room) for name, pieces in found]


def _field(name: str, pieces: Sequence[Piece], room: Room) -> Field:
    return Field(room.text(name, NAME), room.pieces(pieces))


def _marks(one: Grade | None, other: Grade | None) -> list[tuple[str, Mark | None, Mark | None]]:
    ours = {mark.criterion: mark for mark in one.marks} if one else {}
    theirs = {mark.criterion: mark for mark in other.marks} if other else {}
    names = [*{**ours, **theirs}][:LISTED]
    return [(name, ours.get(name), theirs.get(name)) for name in names]
