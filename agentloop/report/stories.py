"""The items that a report tells whole: seed, drafts, what a revision changed, marks, quotes, critique.

Enters: an item's story, why it was chosen, what the auditor said. Leaves: plain values for the page,
of a bounded size, and after a bounded time, whatever an item holds. Refuses to know: how a page looks,
which characters are harmless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentloop.changes import Finder
from agentloop.excerpts import NAME, REPORT, Room, texts
from agentloop.records import Attempt, Item, Json
from agentloop.store.figures import Chosen
from agentloop.store.story import attempt_name, candidate_pieces, parent_of

ITEM = 16_000  # characters of one item
SAID = 600  # of a reason, a quote, what a check found
LEVEL = 80  # of a level, a model's name
WORK = 100_000_000  # nanoseconds or so, of reading one item
ATTEMPTS = 6
MARKS = 16


def told(
    item: Item, chosen: Chosen, threshold: float | None, audits: Mapping[tuple[str, int], Json]
) -> Json:
    """Return an item as plain values."""
    room, finder, verdict = Room(ITEM, REPORT), Finder(WORK), item.verdict
    quotes = [
        (mark.quote, mark.criterion)
        for attempt in item.attempts
        if attempt.grade
        for mark in attempt.grade.marks
    ]
    attempts = _shown(item)
    return {
        "item": item.id,
        "why": _why(chosen, threshold, item),
        "verdict": verdict.verdict if verdict else "open",
        "reason": (verdict.reason if verdict else "") or "",
        "detail": room.text((verdict.detail if verdict else "") or "", SAID),
        "score": verdict.score if verdict else None,
        "seed": [
            (room.text(name, NAME), room.pieces(finder.quoted(text, quotes)))
            for name, text in texts(item.seed.fields)
        ],
        "attempts": [
            _attempt(attempt, item, room, finder)
            | {"audit": _audit(audits.get((item.id, attempt.round)), room)}
            for attempt in attempts
        ],
        "left_out": len(item.attempts) - len(attempts),
    }


def _shown(item: Item) -> Sequence[Attempt]:
    """Return the attempts to tell: of very many the kept one, what it revises, and the first ones."""
    if len(item.attempts) <= ATTEMPTS:
        return item.attempts
    kept = item.best
    wanted = {kept.round, kept.parent} if kept else set()
    first = [attempt.round for attempt in item.attempts if attempt.round not in wanted]
    wanted |= set(first[: ATTEMPTS - len(wanted)])
    return [attempt for attempt in item.attempts if attempt.round in wanted]


def _why(chosen: Chosen, threshold: float | None, item: Item) -> str:
    size = f"{abs(chosen.by):.2f}"
    named = [attempt_name(one) for one in item.attempts if one.round == chosen.round]
    where = "".join(f" for {'the ' * (name == 'first draft')}{name}" for name in named)
    if chosen.why == "threshold":
        side = "above" if chosen.by >= 0 else "below"
        return f"{size} {side} the threshold of {threshold:.2f}"
    if chosen.why == "gain":
        return f"large gain: the kept revision scores {size} more than the first draft"
    if chosen.why == "auditor":
        side = "more" if chosen.by > 0 else "less"
        return f"auditor and critic disagree: the auditor gives {size} {side}{where}"
    return f"looks disagree: they lie {size} apart{where}"


def _attempt(attempt: Attempt, item: Item, room: Room, finder: Finder) -> Json:
    found = candidate_pieces(attempt, parent_of(attempt, item), finder)
    grade = attempt.grade
    return {
        "title": attempt_name(attempt).capitalize(),
        "kept": item.verdict is not None and item.verdict.round == attempt.round,
        "accepted": attempt.accepted,
        "reason": attempt.reason or "",
        "detail": "" if attempt.accepted else room.text(attempt.detail, SAID),
        "model": room.text(attempt.model, LEVEL),
        "fields": [(room.text(name, NAME), room.pieces(pieces)) for name, pieces in found],
        "score": grade.score if grade else None,
        "critic": room.text(grade.model, LEVEL) if grade else "",
        "looks": list(grade.looks) if grade else [],
        "marks": [
            {
                "criterion": room.text(mark.criterion, LEVEL),
                "level": room.text(mark.level, LEVEL),
                "value": mark.value,
                "quote": room.text(mark.quote, SAID),
                "reason": room.text(mark.reason, SAID),
            }
            for mark in (grade.marks[:MARKS] if grade else ())
        ],
        "checks": [
            {
                "name": room.text(c.name, LEVEL),
                "passed": c.passed,
                "evidence": room.text(c.evidence, SAID),
            }
            for c in attempt.checks[:MARKS]
        ],
        "critique": [
            (
                room.text(one["name"], LEVEL),
                room.text(one.get("reason") or one.get("evidence") or one.get("quote", ""), SAID),
            )
            for one in (*attempt.critique.marks, *attempt.critique.checks)[:MARKS]
        ],
    }


def _audit(audit: Json | None, room: Room) -> Json | None:
    if not audit:
        return None
    return {
        "score": audit["score"],
        "accepted": audit["accepted"],
        "marks": [
            (
                room.text(m.get("criterion", ""), LEVEL),
                room.text(m.get("level", ""), LEVEL),
                room.text(m.get("reason", ""), SAID),
            )
            for m in audit["marks"][:MARKS]
        ],
    }
