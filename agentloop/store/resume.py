"""What earlier sessions of a run left: for one who goes on with it.

Enters: an open store and a run's name. Leaves: its identity, counts, which items are settled, and those
that were begun and not settled, with the inputs they were begun with. Refuses to know: how they go on.

Of a settled item only its name is read, and an accepted one's fingerprint, both as numbers: there may
be a million.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from agentloop.records import Json, Seed
from agentloop.store.counts import one, read_counts
from agentloop.store.names import NUMBER, Fingerprints, Names, read_numbers
from agentloop.store.sums import read_sums

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
    crowded: bool = False
    """Whether nothing can make room for it any more: it is to be refused without a call."""


@dataclass(frozen=True)
class Earlier:
    """What the store knows of a run; nothing of a new one."""

    identity: Json | None = None
    ancestors: tuple[str, ...] = ()
    """Runs that it was forked from, nearest first."""
    counts: Json = field(default_factory=dict)
    verdicts: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    """How many were settled with a verdict and a reason."""
    settled: Names = field(default_factory=Names)
    """The items that they are of."""
    accepted: Fingerprints = field(default_factory=Fingerprints)
    """The accepted ones."""
    owed: list[Owed] = field(default_factory=list)
    """Items that were begun, in the order begun."""


def read_earlier(connection: duckdb.DuckDBPyConnection, run: str) -> Earlier:
    """Return what the store knows of a run."""
    rows = connection.execute("SELECT identity, parent FROM runs WHERE run = ?", [run]).fetchall()
    if not rows:
        return Earlier()
    identity, parent = rows[0]
    sums = read_sums(connection)
    settled, accepted = _settled(connection, run)
    return Earlier(
        identity=json.loads(identity),
        ancestors=ancestry(connection, parent),
        counts=read_counts(connection, run, sums=sums),
        verdicts=Counter(sums.verdicts(run)),
        settled=settled,
        accepted=accepted,
        owed=_begun(connection, run, settled),
    )


def _settled(connection: duckdb.DuckDBPyConnection, run: str) -> tuple[Names, Fingerprints]:
    """Return which items have a verdict, and the fingerprints of those that were accepted."""
    columns = (
        f"{NUMBER.format('item')} AS item, (verdict = 'accepted')::UBIGINT AS is_in, "
        f"coalesce({NUMBER.format('fingerprint')}, 0) AS print"
    )
    found = read_numbers(connection, f"SELECT {columns} FROM ({_SETTLED})", {"run": run})
    accepted = found["is_in"] > 0
    return Names(found["item"]), Fingerprints(found["print"][accepted], found["item"][accepted])


def _begun(connection: duckdb.DuckDBPyConnection, run: str, settled: Names) -> list[Owed]:
    """Return items that were begun and have no verdict, in the order begun."""
    begun = one(connection, "SELECT count(*) FROM items WHERE run = ?", run)
    if begun == len(settled):
        return []
    sql = f"SELECT {NUMBER.format('item')} AS item FROM items WHERE run = $run"
    found = Names(read_numbers(connection, sql, {"run": run})["item"])
    return _items(connection, run, found.without(settled).named())


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


def settled_as(
    connection: duckdb.DuckDBPyConnection, run: str, *words: str
) -> list[tuple[str, str, str | None]]:
    """Return `(item, verdict, reason)` of items with a verdict or reason in `words`, in order."""
    return connection.execute(
        f"SELECT item, verdict, reason FROM ({_SETTLED}) "
        "WHERE list_contains($words, verdict) OR list_contains($words, reason) ORDER BY time",
        {"run": run, "words": list(words)},
    ).fetchall()


def opened_again(
    connection: duckdb.DuckDBPyConnection, run: str, items: Sequence[str]
) -> list[Owed]:
    """Return settled items as they would be opened once more."""
    found = _items(connection, run, items)
    return [owed._replace(opening=owed.opening + 1) for owed in found]


def inputs_of(
    connection: duckdb.DuckDBPyConnection, run: str, items: Sequence[str]
) -> dict[str, Json]:
    """Return what a run's items took from outside."""
    return {
        owed.item: owed.inputs for owed in _items(connection, run, items) if owed.inputs is not None
    }


_SETTLED = """
SELECT v.* FROM verdicts v
LEFT JOIN (SELECT item, max(opening) AS latest FROM reopened WHERE run = $run GROUP BY item) o
    ON o.item = v.item
WHERE v.run = $run AND v.grading = 0 AND v.opening = coalesce(o.latest, 0)
"""
"""A run's own verdicts on the latest opening of each item."""


def _items(connection: duckdb.DuckDBPyConnection, run: str, items: Sequence[str]) -> list[Owed]:
    """Return items by their names."""
    rows = connection.execute(
        "SELECT item, seed_id, seed, sample, inputs, coalesce((SELECT max(opening) FROM reopened r "
        "WHERE r.run = i.run AND r.item = i.item), 0) FROM items i WHERE run = $run "
        "AND item IN (SELECT unnest($items)) "
        "ORDER BY EXISTS (SELECT 1 FROM calls c WHERE c.run = i.run AND c.item = i.item "
        "AND NOT c.answered), time, item",  # what cannot succeed must not come first every time
        {"run": run, "items": list(items)},
    ).fetchall()
    return [
        Owed(item, Seed(id=seed_id, fields=json.loads(seed)), sample, json.loads(inputs), opening)
        for item, seed_id, seed, sample, inputs, opening in rows
    ]
