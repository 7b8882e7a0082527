"""What earlier sessions of a run left: for one who goes on with it.

Enters: an open store and a run's name. Leaves: its identity, counts, verdicts, and the items that were
begun and not settled, with the inputs they were begun with. Refuses to know: how they go on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from agentloop.records import Json, Seed
from agentloop.store import read_counts

if TYPE_CHECKING:
    import duckdb


class Owed(NamedTuple):
    """An item that has no verdict; `inputs` is None until they are drawn."""

    item: str
    seed: Seed
    sample: int
    inputs: Json | None = None
    opening: int = 0
    """How often it was opened again."""


@dataclass(frozen=True)
class Earlier:
    """What the store knows of a run; nothing of a new one."""

    identity: Json | None = None
    ancestors: tuple[str, ...] = ()
    """Runs that it was forked from, nearest first."""
    counts: Json = field(default_factory=dict)
    verdicts: list[tuple[str, str, str | None]] = field(default_factory=list)
    """`(item, verdict, reason)`."""
    accepted: list[tuple[str, str]] = field(default_factory=list)
    """`(fingerprint, item)`."""
    owed: list[Owed] = field(default_factory=list)
    """Items that were begun, in the order begun."""


def read_earlier(connection: duckdb.DuckDBPyConnection, run: str) -> Earlier:
    """Return what the store knows of a run."""
    rows = connection.execute("SELECT identity, parent FROM runs WHERE run = ?", [run]).fetchall()
    if not rows:
        return Earlier()
    identity, parent = rows[0]
    verdicts = connection.execute(
        "SELECT item, verdict, reason FROM examples WHERE run = ? AND grading = 0 ORDER BY time",
        [run],
    ).fetchall()
    accepted = connection.execute(
        "SELECT v.fingerprint, v.item FROM verdicts v JOIN examples e USING "
        "(run, item, grading, opening) WHERE v.run = ? AND v.grading = 0 "
        "AND v.verdict = 'accepted'",
        [run],
    ).fetchall()
    return Earlier(
        identity=json.loads(identity),
        ancestors=ancestry(connection, parent),
        counts=read_counts(connection, run),
        verdicts=verdicts,
        accepted=accepted,
        owed=_items(connection, run, _NO_VERDICT),
    )


def ancestry(connection: duckdb.DuckDBPyConnection, parent: str | None) -> tuple[str, ...]:
    """Return a run and those that it was forked from, nearest first."""
    line: list[str] = []
    while parent is not None and parent not in line:
        line.append(parent)
        found = connection.execute("SELECT parent FROM runs WHERE run = ?", [parent]).fetchall()
        parent = found[0][0] if found else None
    return tuple(line)


def identity_of(connection: duckdb.DuckDBPyConnection, run: str) -> Json | None:
    """Return a run's identity; None when there is no such run."""
    rows = connection.execute("SELECT identity FROM runs WHERE run = ?", [run]).fetchall()
    return json.loads(rows[0][0]) if rows else None


def opened_again(
    connection: duckdb.DuckDBPyConnection, run: str, items: Sequence[str]
) -> list[Owed]:
    """Return settled items as they would be opened once more."""
    found = _items(connection, run, "item IN (SELECT unnest($items))", items=list(items))
    return [owed._replace(opening=owed.opening + 1) for owed in found]


def inputs_of(
    connection: duckdb.DuckDBPyConnection, run: str, items: Sequence[str]
) -> dict[str, Json]:
    """Return what a run's items took from outside."""
    return {
        owed.item: owed.inputs
        for owed in _items(connection, run, "item IN (SELECT unnest($items))", items=list(items))
        if owed.inputs is not None
    }


_NO_VERDICT = (
    "NOT EXISTS (SELECT 1 FROM examples e WHERE e.run = i.run AND e.item = i.item "
    "AND e.grading = 0)"
)


def _items(
    connection: duckdb.DuckDBPyConnection, run: str, condition: str, **values: Any
) -> list[Owed]:
    rows = connection.execute(
        "SELECT item, seed_id, seed, sample, inputs, coalesce((SELECT max(opening) FROM reopened r "
        f"WHERE r.run = i.run AND r.item = i.item), 0) FROM items i WHERE run = $run AND {condition} "
        "ORDER BY EXISTS (SELECT 1 FROM calls c WHERE c.run = i.run AND c.item = i.item "
        "AND NOT c.answered), time, item",  # what cannot succeed must not come first every time
        {"run": run, **values},
    ).fetchall()
    return [
        Owed(item, Seed(id=seed_id, fields=json.loads(seed)), sample, json.loads(inputs), opening)
        for item, seed_id, seed, sample, inputs, opening in rows
    ]
