"""Rows of the view `examples` of one run in the order settled, some thousand at a time.

Enters: an open store, which examples, columns. Leaves: blocks of rows; memory does not grow with their
number, but for 16 bytes each. Refuses to know: what a row becomes.

A store is too long to be joined and sorted whole. So verdicts are taken in windows of time, and what
belongs to them is looked for where it probably lies: rows that were written together lie together. Where
some of it is missing there, the whole table is searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentloop.store.schema import TABLES, examples_sql

if TYPE_CHECKING:
    import duckdb

    from agentloop.records import Json

WINDOW = 32_768  # verdicts
FETCHED = 4096  # rows of a block at most: of a window there may be gigabytes
BESIDE = 8192  # rows searched around those that come after the last window's
_LATE = "coalesce(time, 'infinity'::DOUBLE)"
_VERDICTS = f"SELECT rowid, {_LATE} AS time FROM verdicts WHERE run = $run AND grading = $grading"
_WITHIN = (
    "(SELECT * FROM verdicts WHERE rowid BETWEEN {} AND {} AND run = $run AND grading = $grading "
    f"AND {_LATE} BETWEEN '{{}}'::DOUBLE AND '{{}}'::DOUBLE)"
)
_MATCHED = """
SELECT [min(i.at), max(i.at)], [min(a.at), max(a.at)], [min(g.at), max(g.at)],
       count(*) FILTER (i.at IS NULL OR v.round IS NOT NULL AND (a.at IS NULL OR g.at IS NULL))
FROM {verdicts} v
LEFT JOIN {items} i ON i.run = v.run AND i.item = v.item
LEFT JOIN {attempts} a
    ON a.run = v.run AND a.item = v.item AND a.opening = v.opening AND a.round = v.round
LEFT JOIN {grades} g
    ON g.run = v.run AND g.item = v.item AND g.opening = v.opening AND g.round = v.round
    AND g.grading = v.grading
"""
_JOINED = ("items", "attempts", "grades")
_UNKNOWN = {"depth": "0"}  # a line of an export holds a number

Span = tuple[int, int]
"""The first and the last row of a table that count."""


class Chosen(NamedTuple):
    """Which examples of a run."""

    run: str
    grading: int = 0
    verdict: str = "all"
    where: str = ""
    """SQL over the view `examples`: whatever it says, it can only choose among the others."""


class Block(NamedTuple):
    """Some thousand examples."""

    rows: list[tuple[Any, ...]]
    groups: list[tuple[Any, ...]]
    """Values that several rows share, and how many do: rows of this block and of the next ones."""


class Asked(NamedTuple):
    """What is asked of examples, as SQL over the view `examples`."""

    columns: Sequence[str]
    grouped: Sequence[str] = ()
    """Columns by which rows are counted."""
    made: str = "NULL::VARCHAR"
    """A column `made` that the others may use."""
    kept: str = "true"
    """Which of the chosen rows count at all."""


def read_windows(
    connection: duckdb.DuckDBPyConnection, chosen: Chosen, asked: Callable[[], Asked]
) -> Iterator[Block]:
    """Yield blocks of rows, by time and item. Raises duckdb.Error for what is wrong in the condition.

    What is `asked` may be another thing from block to block.
    """
    values: Json = {"run": chosen.run, "grading": chosen.grading}
    by_verdict, more = "true", values
    if chosen.verdict != "all":
        by_verdict, more = "verdict = $verdict", {**values, "verdict": chosen.verdict}
    found = connection.execute(_VERDICTS, values).fetchnumpy()
    spans = dict.fromkeys(_JOINED, (-2 * WINDOW, 0))
    lacking = {name: _lacking(connection, name) for name in _JOINED}
    for *rows, low, high in _windows(found["rowid"], found["time"]):
        verdicts = _WITHIN.format(*rows, low, high)
        spans = _matched(connection, verdicts, values, spans)
        tables = {name: _part(name, spans[name], lacking[name]) for name in _JOINED}
        view = examples_sql(verdicts=verdicts, **tables)
        sql = (
            f"FROM (SELECT * FROM ({view}) WHERE {by_verdict}) WHERE (\n{chosen.where or 'true'}\n)"
        )
        yield from _blocks(connection, sql, more, asked())


def _blocks(
    connection: duckdb.DuckDBPyConnection, sql: str, values: Json, asked: Asked
) -> Iterator[Block]:
    """Join once, then count the rows and read them."""
    sql = f"FROM (SELECT *, {asked.made} AS made {sql}) WHERE {asked.kept}"
    columns = ", ".join(f"{column} AS c{n}" for n, column in enumerate(asked.columns))
    if not asked.grouped:
        found = connection.execute(f"SELECT {columns} {sql} ORDER BY time, item", values)
        while rows := found.fetchmany(FETCHED):
            yield Block(rows, [])
        return
    counted = ", ".join(f"{column} AS g{n}" for n, column in enumerate(asked.grouped))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE joined AS SELECT time, item, {columns}, {counted} {sql}",
        values,
    )
    groups = connection.execute(
        "SELECT COLUMNS('g[0-9]+'), count(*) FROM temp.joined GROUP BY ALL"
    ).fetchall()
    found = connection.execute("SELECT COLUMNS('c[0-9]+') FROM temp.joined ORDER BY time, item")
    while rows := found.fetchmany(FETCHED):
        yield Block(rows, groups)
        groups = []
    connection.execute("DROP TABLE temp.joined")


def _windows(rows: Any, times: Any) -> Iterator[tuple[int, int, float, float]]:
    """Yield rows and times of verdicts, ends included; those of one time are in one window."""
    import numpy as np  # as slow to load as a status takes

    order = np.argsort(times, kind="stable")
    times, rows = times[order], rows[order]
    low = 0
    while low < len(times):
        last = times[min(low + WINDOW, len(times)) - 1]
        high = int(np.searchsorted(times, last, side="right"))
        there = rows[low:high]
        yield int(there.min()), int(there.max()), float(times[low]), float(last)
        low = high


def _matched(
    connection: duckdb.DuckDBPyConnection, verdicts: str, values: Json, before: Mapping[str, Span]
) -> dict[str, Span]:
    """Return where the rows lie that belong to some verdicts, by where those of the last window lay."""
    guessed = {
        name: _part(name, (high - BESIDE, 2 * high - low + BESIDE))
        for name, (low, high) in before.items()
    }
    for tables in (guessed, {name: _part(name) for name in _JOINED}):
        sql = _MATCHED.format(verdicts=verdicts, **tables)
        ((*found, missing),) = connection.execute(sql, values).fetchall()
        if not missing:
            break
    return {name: (low or 0, high or 0) for name, (low, high) in zip(_JOINED, found, strict=True)}


def _lacking(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """Return SQL for columns that a table of an earlier schema lacks, where nobody may bring it up."""
    there = {name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall()}
    return "".join(
        f", {_UNKNOWN.get(name, 'NULL')}::{kind} AS {name}"
        for name, kind in TABLES[table].items()
        if name not in there
    )


def _part(table: str, span: Span | None = None, more: str = "") -> str:
    within = f" WHERE rowid BETWEEN {span[0]} AND {span[1]}" if span else ""
    return f"(SELECT *, rowid AS at{more} FROM {table}{within})"
