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

if TYPE_CHECKING:
    import duckdb

CHUNK = 5000  # items held at once
_SETTLED = """
SELECT v.* FROM verdicts v LEFT JOIN (SELECT run, item, max(opening) AS latest FROM reopened
    WHERE list_contains($runs, run) GROUP BY ALL) o ON o.run = v.run AND o.item = v.item
WHERE list_contains($runs, v.run) AND v.grading = 0 AND v.opening = coalesce(o.latest, 0)
"""
"""The runs' own verdicts on the latest opening of each item."""
_STANDING = f"""
SELECT run, count(*), coalesce(sum(md5_number_lower(item)::HUGEINT), 0) % 18446744073709551616::HUGEINT
FROM ({_SETTLED}) WHERE verdict = 'accepted' GROUP BY run
"""
_MADE = f"""
SELECT first(i.seed), count(*) FROM ({_SETTLED}) v JOIN items i ON i.run = v.run AND i.item = v.item
WHERE v.verdict = 'accepted' AND contains(i.seed::VARCHAR, $marked) GROUP BY i.seed_id
"""
_STRATA = f"""
SELECT i.inputs->'attributes', v.verdict = 'accepted', count(*)
FROM ({_SETTLED}) v JOIN items i ON i.run = v.run AND i.item = v.item
WHERE NOT list_contains($but, v.item) GROUP BY ALL
"""
_NAMES = f"SELECT item FROM ({_SETTLED}) WHERE verdict = 'accepted' ORDER BY time, item"
_ACCEPTED = f"""
SELECT v.item, i.seed, i.inputs, a.candidate
FROM ({_SETTLED}) v JOIN items i ON i.run = v.run AND i.item = v.item
JOIN attempts a ON a.run = v.run AND a.item = v.item AND a.opening = v.opening AND a.round = v.round
WHERE v.verdict = 'accepted' AND ($items IS NULL OR v.item IN (SELECT unnest($items)))
ORDER BY v.time, v.item
"""


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
    values: Json = {"runs": [run]}
    found = connection.execute(_STANDING, values).fetchall()
    _, items, names = found[0] if found else (run, 0, 0)
    values["marked"] = f'"{FIELD}"'
    seeds = connection.execute(_MADE, values).fetchall()
    made = sum(count for seed, count in seeds if depth_of(json.loads(seed), {}) > 1)
    return Standing(items, int(names), made)


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
    found = connection.execute(_STANDING, {"runs": others}).fetchall() if others else []
    by_name = {name: Standing(items, int(names)) for name, items, names in found}
    return {name: by_name[name] for name in others if name in by_name}


def read_strata(
    connection: duckdb.DuckDBPyConnection, run: str, but: Sequence[str] = ()
) -> list[Stratum]:
    """Return a run's settled items by what they were drawn with; those in `but` are not counted."""
    rows = connection.execute(_STRATA, {"runs": [run], "but": list(but)}).fetchall()
    return [Stratum(json.loads(drawn or "{}"), *counts) for drawn, *counts in rows]


def accepted_names(connection: duckdb.DuckDBPyConnection, run: str) -> list[str]:
    """Return a run's accepted items in the order settled."""
    return [item for (item,) in connection.execute(_NAMES, {"runs": [run]}).fetchall()]


def read_taken(
    connection: duckdb.DuckDBPyConnection, run: str, items: Sequence[str] | None = None
) -> Iterator[Taken]:
    """Yield a run's accepted items in the order settled: all, or those that are named."""
    wanted = None if items is None else set(items)
    named = list(items) if items is not None and len(items) <= CHUNK else None
    cursor = connection.execute(_ACCEPTED, {"runs": [run], "items": named})
    while rows := cursor.fetchmany(CHUNK):
        for item, *told in rows:
            if wanted is None or item in wanted:
                yield Taken(item, *map(json.loads, told))


def _founder(run: str, parents: Mapping[str, str | None]) -> str:
    """Return the run that a family of forks began with."""
    seen: set[str] = set()
    while (parent := parents.get(run)) is not None and run not in seen:
        seen.add(run)
        run = parent
    return run
