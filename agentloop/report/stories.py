"""The items that a report tells whole: seed, drafts, what a revision changed, marks, quotes, critique.

Enters: an item's story, why it was chosen, what the auditor said. Leaves: plain values for the page,
cut to a size that is bounded whatever an item holds. Refuses to know: how a page looks, which
characters are harmless.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from agentloop.changes import changes, located
from agentloop.records import Attempt, Item, Json
from agentloop.store.figures import Chosen

ITEM = 16_000  # characters of one item
FIELD = 4_000  # of one field
ALONE = 1_500  # of a field in which nothing changed and nothing is quoted
AROUND = 350  # beside what changed or is quoted
CHANGED = 1_500  # of one change
SAID = 600  # of a reason, a quote, what a check found
LOOKED_AT = 20_000  # of a field: what comes behind is not searched or compared
QUOTE = 2_000  # of a quote that is looked for
ATTEMPTS = 6
FIELDS = 10
MARKS = 16
_HIDDEN = "… {:,} characters are left out …"


class Piece(NamedTuple):
    """A part of a text, and what became of it."""

    kind: str
    """`same`, `gone`, `new`, `quote`, or `cut` for words about what is left out."""
    text: str
    note: str = ""
    """Of a quote, the criteria that it speaks for."""


class Room:
    """How many characters an item may still take."""

    def __init__(self, left: int = ITEM):
        self._left = left

    def text(self, said: object, most: int = SAID) -> str:
        """Return a text, cut at its end."""
        text = str(said)
        kept = text[: max(0, min(most, self._left))]
        self._left -= len(kept)
        return kept if len(kept) == len(text) else f"{kept}…"

    def pieces(self, parts: Sequence[Piece]) -> list[Piece]:
        """Return a text in pieces; of long ones the middle is left out."""
        most, shown = min(FIELD, self._left), []
        for part in _shortened(parts):
            size = 0 if part.kind == "cut" else len(part.text)
            if size > most:
                shown += [part._replace(text=part.text[:most])] if most else []
                shown.append(Piece("cut", "… the rest is left out …"))
                self._left -= most
                return shown
            most -= size
            self._left -= size
            shown.append(part)
        return shown


def _shortened(parts: Sequence[Piece]) -> Iterator[Piece]:
    """Leave out the middle of long pieces."""
    for part in parts:
        side = CHANGED // 2 if part.kind != "same" else AROUND if len(parts) > 1 else ALONE // 2
        hidden = len(part.text) - 2 * side
        if hidden < AROUND:
            yield part
            continue
        yield part._replace(text=part.text[:side])
        yield Piece("cut", _HIDDEN.format(hidden))
        yield part._replace(text=part.text[-side:])


def told(
    item: Item, chosen: Chosen, threshold: float | None, audits: Mapping[tuple[str, int], Json]
) -> Json:
    """Return an item as plain values."""
    room, verdict = Room(), item.verdict
    quotes = [
        (mark.quote, mark.criterion)
        for attempt in item.attempts
        if attempt.grade
        for mark in attempt.grade.marks
        if mark.quote
    ]
    attempts = _shown(item)
    return {
        "item": item.id,
        "why": _why(chosen, threshold),
        "verdict": verdict.verdict if verdict else "open",
        "reason": (verdict.reason if verdict else "") or "",
        "detail": room.text((verdict.detail if verdict else "") or ""),
        "score": verdict.score if verdict else None,
        "seed": [
            (room.text(name, 60), room.pieces(_quoted(text, quotes)))
            for name, text in _texts(item.seed.fields)
        ],
        "attempts": [
            _attempt(attempt, item, room, audits.get((item.id, attempt.round)))
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


def _why(chosen: Chosen, threshold: float | None) -> str:
    size = f"{abs(chosen.by):.2f}"
    where = "" if chosen.round is None else f" in round {chosen.round}"
    if chosen.why == "threshold":
        side = "above" if chosen.by >= 0 else "below"
        return f"{size} {side} the threshold of {threshold:.2f}"
    if chosen.why == "gain":
        return f"large gain: the kept revision scores {size} more than the first draft"
    if chosen.why == "auditor":
        side = "more" if chosen.by > 0 else "less"
        return f"auditor and critic disagree: the auditor gives {size} {side}{where}"
    return f"looks disagree: they lie {size} apart{where}"


def _texts(fields: Json) -> list[tuple[str, str]]:
    """Return fields as text."""
    named = [(str(name), value) for name, value in fields.items()][:FIELDS]
    return [(name, value if isinstance(value, str) else _json(value)) for name, value in named]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _quoted(text: str, quotes: Iterable[tuple[str, str]]) -> list[Piece]:
    """Return a source with the quotes that stand in it set apart."""
    source, spans = text[:LOOKED_AT], []
    speaks: dict[str, list[str]] = {}
    for quote, criterion in quotes:
        speaks.setdefault(quote, []).append(criterion)
    for quote, criteria in speaks.items():
        place = located(quote, source) if quote.strip() and len(quote) <= QUOTE else None
        if place is not None:
            spans.append((*place, criteria))
    pieces, end = [], 0
    for start, stop, names in _merged(spans):
        pieces += [Piece("same", source[end:start])] if start > end else []
        pieces.append(Piece("quote", source[start:stop], ", ".join(dict.fromkeys(names))))
        end = stop
    return [*pieces, Piece("same", text[end:])] if end < len(text) or not pieces else pieces


def _merged(spans: Iterable[tuple[int, int, list[str]]]) -> list[tuple[int, int, list[str]]]:
    """Return places in their order, those that overlap as one."""
    found: list[tuple[int, int, list[str]]] = []
    for start, stop, criteria in sorted(spans):
        if found and start < found[-1][1]:
            first, last, names = found.pop()
            found.append((first, max(last, stop), [*names, *criteria]))
        else:
            found.append((start, stop, criteria))
    return found


def _attempt(attempt: Attempt, item: Item, room: Room, audit: Json | None) -> Json:
    by_round = {one.round: one for one in item.attempts}
    parent = by_round.get(attempt.parent) if attempt.parent is not None else None
    grade = attempt.grade
    return {
        "title": f"Round {attempt.round}: {_kind(attempt)}",
        "kept": item.verdict is not None and item.verdict.round == attempt.round,
        "accepted": attempt.accepted,
        "reason": attempt.reason or "",
        "detail": "" if attempt.accepted else room.text(attempt.detail),
        "model": room.text(attempt.model, 80),
        "fields": [(room.text(n, 60), room.pieces(p)) for n, p in _compared(attempt, parent)],
        "score": grade.score if grade else None,
        "critic": room.text(grade.model, 80) if grade else "",
        "looks": list(grade.looks) if grade else [],
        "marks": [
            {
                "criterion": mark.criterion,
                "level": room.text(mark.level, 80),
                "value": mark.value,
                "quote": room.text(mark.quote),
                "reason": room.text(mark.reason),
            }
            for mark in (grade.marks[:MARKS] if grade else ())
        ],
        "checks": [
            {"name": c.name, "passed": c.passed, "evidence": room.text(c.evidence)}
            for c in attempt.checks[:MARKS]
        ],
        "critique": [
            (
                one["name"],
                room.text(one.get("reason") or one.get("evidence") or one.get("quote", "")),
            )
            for one in (*attempt.critique.marks, *attempt.critique.checks)[:MARKS]
        ],
        "audit": audit and _audit(audit, room),
    }


def _kind(attempt: Attempt) -> str:
    if attempt.parent is not None:
        return f"a revision of round {attempt.parent}"
    return "the first draft" if attempt.round == 0 else "another draft"


def _compared(attempt: Attempt, parent: Attempt | None) -> Iterator[tuple[str, list[Piece]]]:
    """Yield fields of a candidate, word by word beside what it revises."""
    before = dict(_texts(parent.candidate)) if parent else {}
    for name, text in _texts(attempt.candidate):
        if parent is None:
            yield name, [Piece("same", text)]
        else:
            found = changes(before.get(name, "")[:LOOKED_AT], text[:LOOKED_AT])
            rest = text[LOOKED_AT:]
            pieces = [Piece(piece.kind, piece.text) for piece in found]
            yield name, [*pieces, Piece("same", rest)] if rest else pieces


def _audit(audit: Json, room: Room) -> Json:
    return {
        "score": audit["score"],
        "accepted": audit["accepted"],
        "marks": [
            (
                m.get("criterion", ""),
                room.text(m.get("level", ""), 80),
                room.text(m.get("reason", "")),
            )
            for m in audit["marks"][:MARKS]
        ],
    }
