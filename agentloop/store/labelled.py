"""Candidates that people read: those that were labelled, and those that are to be labelled next.

Enters: a store, a run, a grading. Leaves: candidates with their seeds and what the machine made of them.
Refuses to know: what is shown of that, and when.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agentloop.records import Grade, Json, digest
from agentloop.store.files import connect
from agentloop.store.labels import Place, candidate_hash

if TYPE_CHECKING:
    from agentloop.store import Store

BINS = 10  # of a score from 0 to 1
NEAR = 3  # times as many from the bins beside the threshold as from the others
_READ = """
SELECT a.item, a.opening, a.round, i.seed, a.candidate, a.messages, g.grade, g.reason
FROM (SELECT * FROM attempts WHERE run = $run AND item IN (SELECT unnest($items))) a
JOIN (SELECT * FROM items WHERE run = $run AND item IN (SELECT unnest($items))) i ON i.item = a.item
LEFT JOIN (SELECT * FROM grades WHERE run = $run AND grading = $grading
           AND item IN (SELECT unnest($items))) g
    ON g.item = a.item AND g.opening = a.opening AND g.round = a.round
ORDER BY a.item, a.opening, a.round
"""
_ORDERED = f"""
WITH latest AS (
    SELECT v.item, v.opening, v.round, v.score, md5(concat($seed, '/', v.item)) AS chance
    FROM verdicts v
    LEFT JOIN (SELECT item, max(opening) AS opening FROM reopened WHERE run = $run GROUP BY item) o
        ON o.item = v.item
    WHERE v.run = $run AND v.grading = $grading AND v.opening = coalesce(o.opening, 0)
        AND v.round IS NOT NULL AND v.score IS NOT NULL
), binned AS (
    SELECT *, least(floor(score * {BINS}), {BINS - 1})::INT AS bin,
        abs((bin + 0.5) / {BINS} - $accept_at) <= 1.0 / {BINS} AS near,
        list_contains($done, item) AS done
    FROM latest
), turned AS (
    SELECT *, row_number() OVER (PARTITION BY bin, done ORDER BY chance) AS turn FROM binned
)
SELECT item, opening, round FROM turned
ORDER BY done, ceil(turn / CASE WHEN near THEN {NEAR}.0 ELSE 1.0 END), chance LIMIT $most
"""
"""Turn by turn one of each bin that is far from the threshold, and several of each that is near it."""


class Shown(NamedTuple):
    """A candidate, and what the machine made of it."""

    place: Place
    seed: Json
    """The seed's fields."""
    candidate: Json
    words: int
    """Of the answer that a trainer would read."""
    grade: Grade | None
    reason: str | None
    """Why it was not accepted as it stood, if it was not."""


def read_shown(
    store: Store, run: str, items: Collection[str], grading: int = 0
) -> dict[Place, Shown]:
    """Return all attempts of some items, each with its grade in a grading."""
    values: Json = {"run": run, "items": sorted(items), "grading": grading}
    with connect(store.path, write=False) as connection:
        rows = connection.execute(_READ, values).fetchall()
    return {found.place: found for found in map(_shown, rows)}


def _shown(row: Sequence[object]) -> Shown:
    item, opening, number, *texts, reason = row
    seed, candidate, messages, grade = (json.loads(text or "null") for text in texts)  # type: ignore[arg-type]
    said = messages[-1]["content"] if messages else ""
    return Shown(
        place=Place(str(item), int(opening), int(number), candidate_hash(candidate)),  # type: ignore[call-overload]
        seed=seed,
        candidate=candidate,
        words=len(said.split()),
        grade=Grade.model_validate(grade) if grade else None,
        reason=None if reason is None else str(reason),
    )


def to_label(
    store: Store,
    run: str,
    accept_at: float,
    *,
    done: Iterable[str] = (),
    most: int = 200,
    grading: int = 0,
    seed: int = 0,
) -> list[tuple[str, int, int]]:
    """Return which candidates to label next: item, opening and round of those that verdicts name.

    All scores have their turn, those beside the threshold three times as often, for there the figures
    of a calibration are decided; `done` come last. The same seed gives the same order.
    """
    values: Json = {
        "run": run,
        "grading": grading,
        "accept_at": accept_at,
        "seed": digest([seed], 4),
        "done": sorted(done),
        "most": most,
    }
    with connect(store.path, write=False) as connection:
        rows = connection.execute(_ORDERED, values).fetchall()
    return [(item, opening, number) for item, opening, number in rows]
