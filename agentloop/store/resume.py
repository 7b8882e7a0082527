"""What earlier sessions of a run left: for one who goes on with it.

Enters: an open store and a run's name. Leaves: its identity, counts, verdicts, and the items that were
begun and not settled, with the inputs they were begun with. Refuses to know: how they go on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

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


@dataclass(frozen=True)
class Earlier:
    """What the store knows of a run; nothing of a new one."""

    identity: Json | None = None
    counts: Json = field(default_factory=dict)
    verdicts: list[tuple[str, str, str | None]] = field(default_factory=list)
    """`(item, verdict, reason)`."""
    accepted: list[tuple[str, str]] = field(default_factory=list)
    """`(fingerprint, item)`."""
    owed: list[Owed] = field(default_factory=list)
    """Items that were begun, in the order begun."""


def read_earlier(connection: duckdb.DuckDBPyConnection, run: str) -> Earlier:
    """Return what the store knows of a run."""
    rows = connection.execute("SELECT identity FROM runs WHERE run = ?", [run]).fetchall()
    if not rows:
        return Earlier()
    verdicts = connection.execute(
        "SELECT item, verdict, reason FROM examples WHERE run = ? AND grading = 0", [run]
    ).fetchall()
    accepted = connection.execute(
        "SELECT v.fingerprint, v.item FROM verdicts v JOIN examples e USING "
        "(run, item, grading, opening) WHERE v.run = ? AND v.grading = 0 "
        "AND v.verdict = 'accepted'",
        [run],
    ).fetchall()
    owed = connection.execute(
        "SELECT item, seed_id, seed, sample, inputs FROM items i WHERE run = ? AND NOT EXISTS "
        "(SELECT 1 FROM examples e WHERE e.run = i.run AND e.item = i.item AND e.grading = 0) "
        "ORDER BY time, item",
        [run],
    ).fetchall()
    return Earlier(
        identity=json.loads(rows[0][0]),
        counts=read_counts(connection, run),
        verdicts=verdicts,
        accepted=accepted,
        owed=[
            Owed(item, Seed(id=seed_id, fields=json.loads(seed)), sample, json.loads(inputs))
            for item, seed_id, seed, sample, inputs in owed
        ],
    )
