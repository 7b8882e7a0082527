"""What a run has settled already, for one who goes on with it: items as admission knows them.

Enters: an open store and a run's name. Leaves: its settled items, in the order settled. Refuses to know:
what is made of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from agentloop.records import Json

if TYPE_CHECKING:
    import duckdb


class Taken(NamedTuple):
    """A settled item."""

    item: str
    accepted: bool
    seed: Json
    """The seed's fields."""
    inputs: Json
    candidate: Json | None
    """The kept candidate of an accepted item."""


class Standing(NamedTuple):
    """What a run has accepted, in numbers."""

    settled: int = 0
    items: int = 0
    """Accepted items."""
    names: int = 0
    """Sum modulo 2⁶⁴ of the accepted items' `md5_number_lower`: which they are, whatever their order."""
    made: int = 0
    """Of them, those whose seed was not written by people."""

    @property
    def stamp(self) -> tuple[int, int]:
        """Which items are accepted, as an index of them says it (`novelty.near.Stamp`)."""
        return self.items, self.names


def read_standing(connection: duckdb.DuckDBPyConnection, run: str) -> Standing:
    """Return what a run has accepted, in numbers."""
    ((settled, items, names, made),) = connection.execute(
        "SELECT count(*), count(*) FILTER (verdict = 'accepted'), "
        "coalesce(sum(md5_number_lower(item)::HUGEINT) FILTER (verdict = 'accepted'), 0) "
        "% 18446744073709551616::HUGEINT, "
        "count(*) FILTER (verdict = 'accepted' AND (seed->'agentloop') IS NOT NULL) "
        "FROM examples WHERE run = ? AND grading = 0",
        [run],
    ).fetchall()
    return Standing(settled, items, int(names), made)


def read_taken(connection: duckdb.DuckDBPyConnection, run: str) -> Iterator[Taken]:
    """Yield a run's settled items in the order settled."""
    cursor = connection.execute(
        "SELECT item, verdict = 'accepted', seed, inputs, "
        "CASE WHEN verdict = 'accepted' THEN candidate END "
        "FROM examples WHERE run = ? AND grading = 0 ORDER BY time, item",
        [run],
    )
    while rows := cursor.fetchmany(1000):
        for item, accepted, seed, inputs, candidate in rows:
            kept = json.loads(candidate) if candidate else None
            yield Taken(item, accepted, json.loads(seed), json.loads(inputs), kept)
