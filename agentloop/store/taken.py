"""What runs have accepted already, for one who goes on with them: items as admission knows them.

Enters: an open store and a run's name. Leaves: its accepted items, in the order settled, and numbers.
Refuses to know: what is made of them.

A store may hold a million items: names and numbers are read whole, all else as a stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agentloop.novelty.lineage import FIELD, depth_of
from agentloop.records import Json
from agentloop.store.sums import Sums, read_sums

if TYPE_CHECKING:
    import duckdb

CHUNK = 6000  # items held at once
_SETTLED = """
SELECT v.* FROM verdicts v LEFT JOIN (SELECT run, item, max(opening) AS latest FROM reopened
    WHERE list_contains($runs, run) GROUP BY ALL) o ON o.run = v.run AND o.item = v.item
WHERE list_contains($runs, v.run) AND v.grading = 0 AND v.opening = coalesce(o.latest, 0)
"""
"""The runs' own verdicts on the latest opening of each item."""
_MADE = f"""
SELECT first(i.seed), count(*) FROM ({_SETTLED}) v JOIN items i ON i.run = v.run AND i.item = v.item
WHERE v.verdict = 'accepted' AND i.depth > 1 AND contains(i.seed::VARCHAR, $marked) GROUP BY i.seed_id
"""
_STRATA = f"""
SELECT i.inputs->'attributes', v.verdict = 'accepted', count(*)
FROM ({_SETTLED}) v JOIN items i ON i.run = v.run AND i.item = v.item
WHERE NOT list_contains($but, v.item) GROUP BY ALL
"""
_NAMES = f"SELECT item FROM ({_SETTLED}) WHERE verdict = 'accepted' ORDER BY time, item"
_FIRST = f"{_NAMES} LIMIT $most"
_LAST = f"""
SELECT v.item FROM ({_SETTLED}) v JOIN items i ON i.run = v.run AND i.item = v.item
WHERE v.verdict = 'accepted' AND i.depth < $depth ORDER BY v.time DESC, v.item DESC LIMIT $most
"""
_ACCEPTED = f"""
SELECT v.item, i.seed, i.inputs, a.candidate
FROM ({_SETTLED.replace("FROM verdicts", "FROM {verdicts}")}) v
JOIN {{items}} i ON i.run = v.run AND i.item = v.item
JOIN {{attempts}} a ON a.run = v.run AND a.item = v.item AND a.opening = v.opening AND a.round = v.round
WHERE v.verdict = 'accepted' AND ($items IS NULL OR v.item IN (SELECT unnest($items)))
ORDER BY v.time, v.item
"""
_AROUND = "SELECT min(rowid), max(rowid) FROM {} WHERE item IN (SELECT unnest($items))"


class Taken(NamedTuple):
    """An accepted item."""

    item: str
    seed: Json
    """The seed's fields."""
    inputs: Json
    candidate: Json
    """The kept one."""


class Standing(NamedTuple):
    """What a run has accepted, in numbers."""

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


class Stratum(NamedTuple):
    """Settled items that were drawn with the same attributes."""

    attributes: Json
    accepted: bool
    items: int


def read_standing(connection: duckdb.DuckDBPyConnection, run: str) -> Standing:
    """Return what a run has accepted, in numbers."""
    values: Json = {"runs": [run], "marked": f'"{FIELD}"'}
    seeds = connection.execute(_MADE, values).fetchall()
    made = sum(count for seed, count in seeds if depth_of(json.loads(seed), {}) > 1)
    return _standing(read_sums(connection), run)._replace(made=made)


def _standing(sums: Sums, run: str) -> Standing:
    """Return how many items a run has accepted, and which they are."""
    accepted = [
        numbers for (verdict, _), numbers in sums.of("verdicts", run, 0) if verdict == "accepted"
    ]
    items, names = map(sum, zip([0, 0], *accepted, strict=True))
    return Standing(int(items), int(names) % 2**64)


def read_others(
    connection: duckdb.DuckDBPyConnection, run: str, recipe: str, parent: str | None
) -> Mapping[str, Standing]:
    """Return what other runs of a recipe have accepted, by name, the latest first.

    A run's own family, all that were forked from one run, share items: these are no others. `parent` is
    that of a run which the store does not know yet.
    """
    sql = "SELECT run, recipe, parent FROM runs ORDER BY time DESC, run"
    rows = connection.execute(sql).fetchall()
    parents = {run: parent} | {name: origin for name, _, origin in rows}
    family = _founder(run, parents)
    others = [n for n, made_by, _ in rows if made_by == recipe and _founder(n, parents) != family]
    sums = read_sums(connection) if others else None
    by_name = {name: _standing(sums, name) for name in others} if sums else {}
    return {name: standing for name, standing in by_name.items() if standing.items}


def read_strata(
    connection: duckdb.DuckDBPyConnection, run: str, but: Sequence[str] = ()
) -> list[Stratum]:
    """Return a run's settled items by what they were drawn with; those in `but` are not counted."""
    rows = connection.execute(_STRATA, {"runs": [run], "but": list(but)}).fetchall()
    return [Stratum(json.loads(drawn or "{}"), *counts) for drawn, *counts in rows]


def accepted_names(connection: duckdb.DuckDBPyConnection, run: str) -> list[str]:
    """Return a run's accepted items in the order settled."""
    return [item for (item,) in connection.execute(_NAMES, {"runs": [run]}).fetchall()]


def ends_of(
    connection: duckdb.DuckDBPyConnection, run: str, first: int, last: int, depth: int
) -> list[str]:
    """Return a run's first accepted items, and its last ones of less than a depth, in the order settled.

    Together they are fewer than the accepted ones.
    """
    values: Json = {"runs": [run]}
    found = [i for (i,) in connection.execute(_FIRST, {**values, "most": first}).fetchall()]
    if last:
        values |= {"most": last, "depth": depth}
        found += [item for (item,) in reversed(connection.execute(_LAST, values).fetchall())]
    return list(dict.fromkeys(found))


def read_taken(
    connection: duckdb.DuckDBPyConnection, run: str, items: Sequence[str] | None = None
) -> Iterator[Taken]:
    """Yield a run's accepted items in the order settled: all, or those that are named."""
    wanted = None if items is None else set(items)
    named = list(items) if items is not None and len(items) <= CHUNK else None
    tables = {t: _around(connection, t, named) for t in ("verdicts", "items", "attempts")}
    cursor = connection.execute(_ACCEPTED.format(**tables), {"runs": [run], "items": named})
    while rows := cursor.fetchmany(CHUNK):
        for item, *told in rows:
            if wanted is None or item in wanted:
                yield Taken(item, *map(json.loads, told))


def _around(connection: duckdb.DuckDBPyConnection, table: str, items: Sequence[str] | None) -> str:
    """Return SQL for the rows of a table that some items' may be among, for they lie close together."""
    if items is None:
        return table
    ((low, high),) = connection.execute(_AROUND.format(table), {"items": items}).fetchall()
    return f"(SELECT * FROM {table} WHERE rowid BETWEEN {low or 0} AND {high or 0})"


def _founder(run: str, parents: Mapping[str, str | None]) -> str:
    """Return the run that a family of forks began with."""
    seen: set[str] = set()
    while (parent := parents.get(run)) is not None and run not in seen:
        seen.add(run)
        run = parent
    return run
