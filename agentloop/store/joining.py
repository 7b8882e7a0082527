"""The rows of several stores as those of one, in the order in which their items were settled.

Enters: a new store, open for writing; paths of others, of which the first may be what was joined before.
Leaves: their rows in the new one, each once. Refuses to know: what makes a verdict final, files, locks.

An item that several stores have is taken whole from one of them: where it was opened again most often,
else where it is settled, else where that came first. So it matters to nothing but the numbers of
gradings in which order stores are named. Calls were paid wherever they were made: all are kept.

Items are brought some thousand at a time, as they were settled, so that what is read together later lies
together. DuckDB gets no more memory than keys need: what it has read would else fill most of a machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agentloop.records import Json, canonical
from agentloop.store.counts import calls_name, one

if TYPE_CHECKING:
    import duckdb

WINDOW = 20_000  # items that are brought at once
ROWS = 100_000  # rows, where they are copied by row, and between two checkpoints
MEMORY, EACH = 512_000_000, 1500  # bytes that DuckDB may take, and more for the keys of each item
FETCHED = 1000
OF_ITEMS = ("items", "reopened", "attempts", "grades", "audits", "canaries", "verdicts")
"""Tables whose rows are one item's; of grades and verdicts the run's own."""
BY_ROW = ("sessions", "calls", "reservations", "calibrations", "readings", "labels")
"""Tables whose rows have names that no other row has."""
OWN = {"grades": " AND t.grading = 0", "verdicts": " AND t.grading = 0"}
WINS = "opening DESC, NOT is_settled, settled, begun, source"

_VERSIONS = """
CREATE TEMP TABLE versions (
    source INTEGER, run VARCHAR, item VARCHAR, begun DOUBLE, opening INTEGER, is_settled BOOLEAN,
    settled DOUBLE)
"""
_VERSION = """
INSERT INTO temp.versions
SELECT {source}, i.run, i.item, i.time, coalesce(o.latest, 0), v.item IS NOT NULL, v.time
FROM s{source}.items i
LEFT JOIN (SELECT run, item, max(opening) AS latest FROM s{source}.reopened GROUP BY ALL) o
    ON o.run = i.run AND o.item = i.item
LEFT JOIN s{source}.verdicts v ON v.run = i.run AND v.item = i.item AND v.grading = 0
    AND v.opening = coalesce(o.latest, 0)
"""
_HOMES = f"""
CREATE TEMP TABLE homes AS
SELECT *, row_number() OVER (PARTITION BY run
    ORDER BY NOT is_settled, coalesce(settled, begun), item) - 1 AS place
FROM (SELECT * FROM temp.versions QUALIFY row_number() OVER (
    PARTITION BY run, item ORDER BY {WINS}) = 1)
"""
_BESIDE = """
CREATE TEMP TABLE beside AS
SELECT v.* FROM ({every}) v
JOIN temp.versions w ON w.source = v.source AND w.run = v.run AND w.item = v.item
JOIN temp.homes h ON h.run = v.run AND h.item = v.item AND h.opening = w.opening
    AND h.settled IS NOT DISTINCT FROM w.settled
QUALIFY row_number() OVER (
    PARTITION BY v.run, v.item, v.opening, v.ours ORDER BY v.time, v.source) = 1
"""
_EVERY = (
    "SELECT {source} AS source, t.run, t.item, t.opening, t.grading AS theirs, n.ours, t.time "
    "FROM s{source}.verdicts t JOIN temp.numbers n ON n.source = {source} AND n.run = t.run "
    "AND n.theirs = t.grading"
)
_SPANS = """
SELECT h.run, (h.place // {window})::INTEGER, min(t.rowid), max(t.rowid) FROM s{source}.{table} t
JOIN temp.homes h ON h.run = t.run AND h.item = t.item AND h.source = {source} GROUP BY ALL
"""
_FROM_SPAN = """
FROM (SELECT * FROM s{source}.{table} WHERE rowid BETWEEN {low} AND {high}) t
JOIN temp.here h ON h.item = t.item AND h.source = {source} AND t.run = $run{own}
"""
_HERE = (
    "CREATE OR REPLACE TEMP TABLE here AS SELECT * FROM temp.homes WHERE run = $run "
    "AND place // $size = $window"
)
_ENDINGS = "CREATE OR REPLACE TEMP TABLE endings AS SELECT * FROM store.verdicts LIMIT 0"
_ENDING = """
INSERT INTO temp.endings BY NAME SELECT t.* REPLACE (
    CASE WHEN o.item IS NULL THEN t.verdict ELSE 'accepted' END AS verdict,
    CASE WHEN o.item IS NULL THEN t.reason END AS reason,
    CASE WHEN o.item IS NULL THEN t.detail ELSE o.detail END AS detail)
{span} LEFT JOIN s{source}.overruled o ON o.run = t.run AND o.item = t.item
    AND o.opening = t.opening AND o.grading = 0
"""
_GOOD = """
SELECT e.item, e.opening, i.depth, i.seed, i.inputs, a.candidate, a.messages
FROM temp.endings e JOIN temp.here h ON h.item = e.item AND h.opening = e.opening
JOIN (SELECT * FROM store.items WHERE rowid >= {items}) i ON i.run = e.run AND i.item = e.item
JOIN (SELECT * FROM store.attempts WHERE rowid >= {attempts}) a
    ON a.run = e.run AND a.item = e.item AND a.opening = e.opening AND a.round = e.round
WHERE e.verdict = 'accepted' ORDER BY h.place
"""
_REFUSALS = """
CREATE OR REPLACE TEMP TABLE refusals AS SELECT unnest($item::VARCHAR[]) AS item,
    unnest($opening::INTEGER[]) AS opening, unnest($reason::VARCHAR[]) AS reason,
    unnest($detail::VARCHAR[]) AS detail
"""
_OVERRULED = """
INSERT INTO store.overruled
SELECT e.run, e.item, e.opening, 0, e.detail FROM temp.endings e JOIN temp.refusals USING (item, opening)
"""
_FINAL = """
INSERT INTO store.verdicts BY NAME SELECT e.* REPLACE (
    CASE WHEN r.item IS NULL THEN e.verdict ELSE 'rejected' END AS verdict,
    coalesce(r.reason, e.reason) AS reason, coalesce(r.detail, e.detail) AS detail)
FROM temp.endings e JOIN temp.here h ON h.item = e.item
LEFT JOIN temp.refusals r ON r.item = e.item AND r.opening = e.opening ORDER BY h.place, e.opening
"""
_BESIDE_GRADES = """
INSERT INTO store.grades BY NAME SELECT t.* REPLACE (b.ours AS grading) FROM s{source}.grades t
JOIN temp.beside b ON b.source = {source} AND b.run = t.run AND b.item = t.item
    AND b.opening = t.opening AND b.theirs = t.grading
"""
_BESIDE_ENDINGS = """
CREATE OR REPLACE TEMP TABLE endings AS SELECT t.* REPLACE (b.ours AS grading,
    CASE WHEN o.item IS NULL THEN t.verdict ELSE 'accepted' END AS verdict,
    CASE WHEN o.item IS NULL THEN t.reason END AS reason,
    CASE WHEN o.item IS NULL THEN t.detail ELSE o.detail END AS detail)
FROM s{source}.verdicts t JOIN temp.beside b ON b.source = {source} AND b.run = t.run
    AND b.item = t.item AND b.opening = t.opening AND b.theirs = t.grading
LEFT JOIN s{source}.overruled o ON o.run = t.run AND o.item = t.item AND o.opening = t.opening
    AND o.grading = t.grading
"""
_BESIDE_FINAL = """
INSERT INTO store.verdicts BY NAME SELECT e.* REPLACE (
    CASE WHEN v.item IS NULL THEN e.verdict ELSE 'rejected' END AS verdict,
    coalesce(v.reason, e.reason) AS reason, coalesce(v.detail, e.detail) AS detail)
FROM temp.endings e LEFT JOIN ({refused}) v USING (run, item, opening, verdict)
"""
_BESIDE_OVERRULED = """
INSERT INTO store.overruled SELECT e.run, e.item, e.opening, e.grading, e.detail
FROM temp.endings e JOIN ({refused}) v USING (run, item, opening, verdict)
"""
_REFUSED = """
SELECT o.run, o.item, o.opening, 'accepted' AS verdict, v.reason, v.detail FROM store.overruled o
JOIN store.verdicts v USING (run, item, opening) WHERE o.grading = 0 AND v.grading = 0
"""
_COPIED = """
INSERT OR IGNORE INTO store.{table} BY NAME SELECT t.*{renamed}
FROM (SELECT * FROM s{source}.{table} WHERE rowid >= {low} AND rowid < {high}) t{names}
"""
_FIRST = "SELECT coalesce(max(rowid) + 1, 0) FROM store.{}"
_NAMES = " LEFT JOIN temp.names n ON n.source = {source} AND n.theirs = t.run"
_LACKING = "SELECT count(*) FROM s{source}.{table} t ANTI JOIN s0.{table} USING (rid)"


class Told(NamedTuple):
    """A run as one of the stores has it."""

    source: int
    run: str
    recipe: str
    recipe_ref: str
    time: float
    identity: Json
    versions: Json
    parent: str | None


class Beside(NamedTuple):
    """A grading beside a run's own, as one of the stores has it."""

    source: int
    run: str
    grading: int
    identity: bytes
    """As one text."""
    time: float


class Good(NamedTuple):
    """An item that its own store accepted."""

    item: str
    opening: int
    depth: int
    """Generations away from what people wrote; 0 where its store does not tell."""
    seed: Json
    inputs: Json
    candidate: Json
    messages: Sequence[dict[str, str]]


class Refusal(NamedTuple):
    """What is said of a good item that is no more accepted."""

    item: str
    opening: int
    reason: str
    detail: str


class Joining:
    """Stores that are read into a new one; see the module."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], *, before: bool
    ):
        """`before`: whether the first of the stores is what was joined before."""
        self._connection, self._before = connection, before
        self._sources = range(len(paths))
        self._written = 0
        """Rows since the last checkpoint."""
        for source, path in enumerate(paths):
            quoted = str(path).replace("'", "''")
            connection.execute(f"ATTACH '{quoted}' AS s{source} (READ_ONLY)")
        connection.execute(_VERSIONS)
        for source in self._sources:
            connection.execute(_VERSION.format(source=source))
        connection.execute(_HOMES)
        items = one(connection, "SELECT count(*) FROM temp.homes")
        connection.execute(f"SET memory_limit = '{MEMORY + EACH * items}B'")
        self._spans: dict[tuple[str, int], list[tuple[int, str, int, int]]] = {}

    def runs(self) -> list[Told]:
        """Return the runs of all stores."""
        columns = "run, recipe, recipe_ref, time, identity, versions, parent"
        found = []
        for source in self._sources:
            for run, recipe, ref, time, identity, versions, parent in self._connection.execute(
                f"SELECT {columns} FROM s{source}.runs ORDER BY run"
            ).fetchall():
                read = json.loads(identity), json.loads(versions)
                found.append(Told(source, run, recipe, ref, time, *read, parent))
        return found

    def gradings(self) -> list[Beside]:
        """Return the gradings of all stores."""
        found = []
        for source in self._sources:
            for run, grading, identity, time in self._connection.execute(
                f"SELECT run, grading, identity, time FROM s{source}.gradings"
            ).fetchall():
                text = canonical(json.loads(identity))
                found.append(Beside(source, run, grading, text, time))
        return found

    def settings(self, run: str) -> list[Json]:
        """Return what the sessions of a run were told, the latest first."""
        every = " UNION ALL ".join(
            f"SELECT settings, time FROM s{source}.sessions WHERE run = $run"
            for source in self._sources
        )
        rows = self._connection.execute(
            f"SELECT settings FROM ({every}) ORDER BY time DESC, settings::VARCHAR", {"run": run}
        ).fetchall()
        return [json.loads(told or "{}") or {} for (told,) in rows]

    def agree(self, numbers: Mapping[tuple[int, str, int], int]) -> None:
        """Take the gradings' numbers: ours by source, run and theirs."""
        execute = self._connection.execute
        execute(
            "CREATE TEMP TABLE numbers (source INTEGER, run VARCHAR, theirs INTEGER, ours INTEGER)"
        )
        execute("CREATE TEMP TABLE names (source INTEGER, theirs VARCHAR, ours VARCHAR)")
        for (source, run, theirs), ours in numbers.items():
            execute("INSERT INTO temp.numbers VALUES (?, ?, ?, ?)", [source, run, theirs, ours])
            if theirs != ours:
                names = [calls_name(run, theirs), calls_name(run, ours)]
                execute("INSERT INTO temp.names VALUES (?, ?, ?)", [source, *names])
        every = " UNION ALL ".join(_EVERY.format(source=source) for source in self._sources)
        execute(_BESIDE.format(every=every))

    @property
    def is_new(self) -> bool:
        """Whether the stores hold a row that what was joined before lacks."""
        if not self._before:
            return True
        for table in ("homes", "beside"):
            if one(self._connection, f"SELECT count(*) FROM temp.{table} WHERE source > 0"):
                return True
        return any(
            one(self._connection, _LACKING.format(source=source, table=table))
            for source in self._sources[1:]
            for table in BY_ROW
        )

    def write_runs(self, runs: Sequence[Told]) -> None:
        """Write the rows of runs."""
        for told in runs:
            row = [told.run, told.recipe, told.recipe_ref, told.time]
            row += [json.dumps(told.identity), json.dumps(told.versions), told.parent]
            self._connection.execute("INSERT INTO store.runs VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def write_gradings(self, chosen: Mapping[tuple[str, int], Beside]) -> None:
        """Write the rows of gradings, by run and number."""
        for (run, number), at in chosen.items():
            self._connection.execute(
                "INSERT INTO store.gradings BY NAME SELECT * REPLACE ($number::INTEGER AS grading) "
                f"FROM s{at.source}.gradings WHERE run = $run AND grading = $grading",
                {"run": run, "number": number, "grading": at.grading},
            )

    def windows(self, run: str) -> range:
        """Return the numbers of a run's windows."""
        if not self._spans:
            self._find_spans()
        last = one(self._connection, "SELECT max(place) FROM temp.homes WHERE run = ?", run)
        return range(0 if last is None else last // WINDOW + 1)

    def _find_spans(self) -> None:
        """Find out where in each store the rows lie that belong to a window."""
        for source in self._sources:
            for table in OF_ITEMS:
                sql = _SPANS.format(source=source, table=table, window=WINDOW)
                for run, window, low, high in self._connection.execute(sql).fetchall():
                    spans = self._spans.setdefault((run, window), [])
                    spans.append((source, table, low, high))

    def bring(self, run: str, window: int) -> Iterator[Good]:
        """Bring the items of a window, without their verdicts; yield the good ones, as settled."""
        connection, values = self._connection, {"run": run}
        connection.execute(_HERE, {**values, "window": window, "size": WINDOW})
        connection.execute(_ENDINGS)
        first = {t: one(connection, _FIRST.format(t)) for t in ("items", "attempts")}
        for source, table, low, high in self._spans[run, window]:
            span = _FROM_SPAN.format(
                source=source, table=table, low=low, high=high, own=OWN.get(table, "")
            )
            if table == "verdicts":
                connection.execute(_ENDING.format(source=source, span=span), values)
            else:
                sql = f"INSERT INTO store.{table} BY NAME SELECT t.* {span}"
                self._write(sql, values)
        cursor = connection.execute(_GOOD.format(**first))
        while rows := cursor.fetchmany(FETCHED):
            for item, opening, depth, *told in rows:
                yield Good(item, opening, depth or 0, *map(json.loads, told))

    def settle(self, refusals: Sequence[Refusal]) -> None:
        """Write the verdicts of the window that was brought last."""
        columns = {name: [getattr(row, name) for row in refusals] for name in Refusal._fields}
        self._connection.execute(_REFUSALS, columns)
        self._connection.execute(_OVERRULED)
        self._write(_FINAL)
        if self._written >= ROWS:
            self._checkpoint()

    def copy_rows(self) -> None:
        """Copy what is no item's own, and then the gradings beside the runs' own."""
        for source in self._sources:
            for table in BY_ROW:
                self._copy(source, table)
            self._connection.execute(_BESIDE_GRADES.format(source=source))
            self._connection.execute(_BESIDE_ENDINGS.format(source=source))
            self._connection.execute(_BESIDE_FINAL.format(refused=_REFUSED))
            self._connection.execute(_BESIDE_OVERRULED.format(refused=_REFUSED))

    def _copy(self, source: int, table: str) -> None:
        end = one(self._connection, f"SELECT coalesce(max(rowid) + 1, 0) FROM s{source}.{table}")
        renamed, names = "", ""
        if table != "calibrations" and one(self._connection, "SELECT count(*) FROM temp.names"):
            renamed, names = (
                " REPLACE (coalesce(n.ours, t.run) AS run)",
                _NAMES.format(source=source),
            )
        for low in range(0, end, ROWS):
            place = {"source": source, "table": table, "low": low, "high": low + ROWS}
            self._write(_COPIED.format(**place, renamed=renamed, names=names))
            if self._written >= ROWS:
                self._checkpoint()

    def _write(self, sql: str, values: Json | None = None) -> None:
        ((rows,),) = self._connection.execute(sql, values or {}).fetchall()
        self._written += rows

    def _checkpoint(self) -> None:
        self._connection.execute("CHECKPOINT store")
        self._written = 0
