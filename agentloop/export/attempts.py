"""Examples that are made of an item's attempts: pairs, single candidates with a label, repairs.

Enters: a row of the view `examples` with all its attempts. Leaves: examples, each with the row that it
counts as. Refuses to know: stores, files.

The columns are those that TRL documents: `prompt`, `chosen`, `rejected` for pairs and `prompt`,
`completion`, `label` for single candidates, all but `label` lists of messages, the prompt in none of the
others (huggingface.co/docs/trl, "Dataset formats").
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from agentloop.export.blocks import answered, mark
from agentloop.records import Attempt, Critique, Json, canonical

Made = tuple[Json, Json]
"""An example, and the row of `examples` that it counts as."""


def preference(row: Json, attempts: Sequence[Attempt]) -> Iterator[Made]:
    """Yield the kept attempt against the worst one of the same item that answers the same prompt."""
    kept = next((a for a in attempts if a.round == row["round"]), None)
    if kept is None or not kept.messages:
        return
    rivals = [
        a
        for a in attempts
        if _judged(a) and a.rank < kept.rank and _another_answer(a.messages, kept.messages)
    ]
    if rivals:
        worst = min(rivals, key=lambda a: a.rank)
        pair = {"chosen": [kept.messages[-1]], "rejected": [worst.messages[-1]]}
        yield {**_mark(row), "prompt": list(kept.messages[:-1]), **pair}, row


def kto(row: Json, attempts: Sequence[Attempt]) -> Iterator[Made]:
    """Yield the candidate of an accepted item as good, and each that was judged and refused as bad.

    A good one that fell at the door, as a duplicate or in an audit, is neither; nor is what says the
    same as a good one or as a bad one before it.
    """
    accepted = row["verdict"] == "accepted"
    good = [a for a in attempts if accepted and a.round == row["round"] and a.messages]
    bad = [a for a in attempts if _judged(a) and not a.accepted and a.messages and a not in good]
    said = []
    for attempt in (*good, *bad):
        if attempt.messages in said:
            continue
        said.append(attempt.messages)
        label = attempt in good
        yield {**_mark(row), **answered(attempt.messages), "label": label}, _as(row, attempt, label)


def fingerprint(talk: Any) -> bytes:
    """Return what tells a conversation from all others, in 16 bytes."""
    return hashlib.blake2b(canonical(talk), digest_size=16).digest()


def without_contradictions(made: Iterator[Made], good: set[bytes]) -> Iterator[Made]:
    """Yield single candidates but those that say what another item said before.

    Nor is one bad whose text was accepted of another item: a trainer would be told both.
    """
    told = set[bytes]()
    for example, row in made:
        print_ = fingerprint(row["messages"])
        if print_ not in told and (example["label"] or print_ not in good):
            told.add(print_)
            yield example, row


def critique(row: Json, attempts: Sequence[Attempt]) -> Iterator[Made]:
    """Yield each revision that improved on its draft, with what was said of the draft."""
    by_round = {a.round: a for a in attempts}
    for revision in attempts:
        draft = by_round.get(revision.parent) if revision.parent is not None else None
        if draft is None or not (_judged(draft) and _judged(revision)):
            continue
        better = revision.rank > draft.rank and revision.messages != draft.messages
        if better and (said := told(draft.critique)):
            yield (
                {
                    **_mark(row),
                    "seed": orjson.dumps(row["seed"]).decode(),
                    "draft": list(draft.messages),
                    "critique": said,
                    "revision": list(revision.messages),
                    "round": revision.round,
                    "draft_score": _score(draft),
                    "revision_score": _score(revision),
                    "accepted": revision.accepted,
                },
                _as(row, revision),
            )


FROM_ATTEMPTS: dict[str, Callable[[Json, Sequence[Attempt]], Iterator[Made]]] = {
    "preference": preference,
    "critique": critique,
    "kto": kto,
}
LEAST = {"kto": 1}
"""Attempts that an item must have; elsewhere two."""


def told(critique: Critique) -> str:
    """Return a critique as text, a line for each failed check and each mark below its top level."""
    lines = [f"- {check['name']}: {check['evidence']}" for check in critique.checks]
    for found in critique.marks:
        quote = f' Quote: "{found["quote"]}"' if found["quote"] else ""
        reason = f" {found['reason']}" if found["reason"] else ""
        lines.append(f"- {found['name']}: {found['level']}. {found['ask']}{reason}{quote}")
    return "\n".join(lines)


def _judged(attempt: Attempt) -> bool:
    """Whether something was found out about it: what nobody could judge is no bad example."""
    return attempt.grade is not None or attempt.reason == "failed_check"


def _another_answer(one: Sequence[Json], other: Sequence[Json]) -> bool:
    return len(one) == len(other) and one[:-1] == other[:-1] and one[-1] != other[-1]


def _score(attempt: Attempt) -> float | None:
    return attempt.grade.score if attempt.grade else None


def _as(row: Json, attempt: Attempt, label: bool | None = None) -> Json:
    """Return the row as it would be, had this attempt been kept."""
    return {
        **row,
        "messages": list(attempt.messages),
        "candidate": attempt.candidate,
        "round": attempt.round,
        "score": _score(attempt),
        "generator": attempt.model,
        "label": label,
    }


def _mark(row: Json) -> Json:
    return mark(row["item"], row["agentloop"]["depth"])
