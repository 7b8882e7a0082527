"""What a store comes to, by run: sums that are kept, so that nobody reads a million rows to count them.

Enters: an open store. Leaves: sums over its rows, exact for all that is folded. Refuses to know: what
is made of a sum, journals.

Tables only grow. So the sums of the first rows of each table stay what they are: they are kept in the
table `sums`, with the number of these rows and where they end, and the rows behind them are counted on
top. Kept sums are never the truth: where a table has not as many rows before that end any more, all is
counted anew. Only a value that somebody changes by hand is not noticed: `DELETE FROM sums` then.

Rows of one item are written together, its verdict last. Where a full disk tore them apart, the item is
left out until its verdict is there. What was opened again was counted as it was before: `gone` are the
same sums over the verdicts that do not count any more.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import duckdb

    from agentloop.records import Json

FORMAT = 2  # of what is kept; that of another one is counted anew
BEHIND = 100_000  # rows behind the kept sums: 12,000 items, 0.2 s to count
KEPT = "kept"  # the one row, written over: DuckDB gives no room back for rows that were deleted
SMALL = 20_000  # rows of a store that is counted as fast as its kept sums are read
COUNTED = (
    "items", "calls", "attempts", "grades", "verdicts", "audits", "reservations", "reopened"
)  # fmt: skip
JUDGED = "accepted OR reason IN ('below_threshold', 'under_floor', 'failed_check')"
CHARS = "length(messages->'$[#-1]'->>'content')"  # before a join: it would hold the texts
BY_MODEL = "(g.grade->>'model') <> 'checks'"

Key = tuple[Any, ...]
Table = dict[Key, list[float]]

MEASURES: Mapping[str, tuple[int, int, str]] = {
    "seeds": (
        1,
        1,
        "SELECT run, count(DISTINCT seed_id) FROM {items} i WHERE NOT EXISTS (SELECT 1 FROM items p "
        "WHERE p.rowid < {first_item} AND p.run = i.run AND p.seed_id = i.seed_id) GROUP BY run",
    ),
    "calls": (
        2,
        7,
        "SELECT run, split_part(split_part(key, '/', 1), '.', 1), "
        "count(*) FILTER (answered AND tries > 0), coalesce(sum(tries), 0), "
        "coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), "
        "coalesce(sum(prompt_tokens + completion_tokens), 0), coalesce(sum(cost_usd), 0), "
        "count(*) FILTER (answered AND tries > 0 AND cost_usd IS NULL) FROM {calls} GROUP BY ALL",
    ),
    "unpriced": (  # beside those that a budget has set something aside for
        1,
        1,
        "SELECT run, count(*) FROM {calls} c WHERE answered AND tries > 0 AND cost_usd IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM reservations r WHERE r.rid = c.rid AND r.run = c.run) "
        "GROUP BY run",
    ),
    "reserved": (1, 1, "SELECT run, sum(usd) FROM {reservations} GROUP BY run"),
    "released": (
        1,
        1,
        "SELECT r.run, sum(r.usd) FROM {calls} c JOIN reservations r ON r.rid = c.rid "
        "WHERE c.cost_usd IS NOT NULL OR NOT c.answered GROUP BY r.run",
    ),
    "grades": (
        2,
        3,
        f"SELECT run, grading, count(*), count(*) FILTER (accepted AND ({JUDGED})), "
        f"count(*) FILTER ({JUDGED}) FROM {{grades}} GROUP BY ALL",
    ),
    "growth": (
        2,
        2,
        "SELECT a.run, a.round, count(*), sum(a.chars / p.chars::DOUBLE) "
        f"FROM (SELECT *, {CHARS} AS chars FROM {{attempts}}) a "
        f"JOIN (SELECT *, {CHARS} AS chars FROM {{attempts}}) p "
        "ON p.run = a.run AND p.item = a.item AND p.opening = a.opening AND p.round = a.parent "
        "WHERE p.chars > 0 GROUP BY ALL",
    ),
    "gains": (
        2,
        5,
        "SELECT a.run, a.round, count(*), sum(g.score - gp.score), sum(a.score - ap.score), "
        "sum(g.accepted::INT - gp.accepted::INT), sum(a.accepted::INT - ap.accepted::INT) "
        "FROM {audits} a JOIN {attempts} t USING (run, item, opening, round) "
        "JOIN {audits} ap ON ap.run = a.run AND ap.item = a.item AND ap.opening = a.opening "
        "AND ap.round = t.parent "
        "JOIN (SELECT *, (grade->>'score')::DOUBLE AS score FROM {whole_grades}) g "
        "ON g.run = a.run AND g.item = a.item AND g.opening = a.opening AND g.round = a.round "
        "JOIN (SELECT *, (grade->>'score')::DOUBLE AS score FROM {whole_grades}) gp "
        "ON gp.run = a.run AND gp.item = a.item AND gp.opening = a.opening AND gp.round = t.parent "
        "WHERE g.grading = 0 AND gp.grading = 0 AND a.score IS NOT NULL AND ap.score IS NOT NULL "
        "GROUP BY ALL",
    ),
}
"""Sums whatever became of an item: how many columns they are by, how many numbers they are, and SQL over
rows that are not yet counted."""

SETTLED: Mapping[str, tuple[int, int, str]] = {
    "verdicts": (
        4,
        2,
        "SELECT run, grading, verdict, reason, count(*), sum(md5_number_lower(item)::HUGEINT) "
        "FROM {verdicts} GROUP BY ALL",
    ),
    "graded": (
        1,
        1,
        "SELECT v.run, count(*) FROM {verdicts} v WHERE v.grading = 0 AND EXISTS (SELECT 1 "
        "FROM {whole_grades} g WHERE g.run = v.run AND g.item = v.item AND g.opening = v.opening "
        f"AND g.grading = 0 AND {BY_MODEL}) GROUP BY v.run",
    ),
    "audited": (
        2,
        3,
        "SELECT a.run, g.accepted, count(*), count(a.accepted), "
        "count(*) FILTER (a.accepted = g.accepted) "
        "FROM {audits} a JOIN {verdicts} v USING (run, item, opening, round) "
        "JOIN {whole_grades} g USING (run, item, opening, round) WHERE v.grading = 0 "
        f"AND g.grading = 0 AND g.reason IS DISTINCT FROM 'failed_check' AND {BY_MODEL} GROUP BY ALL",
    ),
    "strata": (
        3,
        2,
        "SELECT run, drawn.key, drawn.value, count(*), count(*) FILTER (verdict = 'accepted') "
        "FROM (SELECT v.run, v.verdict, unnest(map_entries("
        "TRY_CAST(i.inputs->'attributes' AS MAP(VARCHAR, VARCHAR)))) AS drawn "
        "FROM {verdicts} v JOIN items i ON i.run = v.run AND i.item = v.item WHERE v.grading = 0 "
        "AND contains(i.inputs::VARCHAR, '\"attributes\"')) GROUP BY ALL",
    ),
}
"""Sums over verdicts on the latest opening of an item: those of earlier ones are `gone`.

What the critic itself decided counts as audited: door and gate have changed verdicts since. Strata are
taken by entries, for a name in a path would be read as one.
"""
_GONE = (  # since rows were counted, as these items were opened again: some may have been before
    "(SELECT v.* FROM verdicts v JOIN (SELECT run, item, max(opening) AS latest, "
    "max(opening) FILTER (rowid < {reopened}) AS before FROM reopened GROUP BY run, item "
    "HAVING max(rowid) >= {reopened}) o ON o.run = v.run AND o.item = v.item "
    "WHERE v.opening <> o.latest "
    "AND (o.before IS NULL OR v.opening = o.before OR v.rowid >= {verdicts}))"
)
_TORN = (
    "SELECT DISTINCT run, item, opening FROM (SELECT run, item, opening FROM {attempts} "
    "UNION ALL SELECT run, item, opening FROM {audits}) a WHERE NOT EXISTS (SELECT 1 FROM verdicts v "
    "WHERE v.run = a.run AND v.item = a.item AND v.opening = a.opening AND v.grading = 0)"
)


class Sums(NamedTuple):
    """Sums over the first rows of a store."""

    rows: Mapping[str, int]
    """Rows by table that were counted."""
    ends: Mapping[str, int]
    """By table, what is greater than the numbers of these rows and not than those of later ones."""
    torn: Sequence[Key] = ()
    """`run, item, opening` of what was left out: its verdict is not there."""
    all: Mapping[str, Table] = {}
    gone: Mapping[str, Table] = {}

    def of(self, measure: str, *begin: Any) -> Iterator[tuple[Key, list[float]]]:
        """Yield what a measure comes to: the rest of its key after the beginning, and numbers."""
        gone = self.gone.get(measure, {})
        for key, numbers in self.all.get(measure, {}).items():
            if key[: len(begin)] == begin:
                less = gone.get(key, [0] * len(numbers))
                yield key[len(begin) :], [n - m for n, m in zip(numbers, less, strict=True)]

    def verdicts(self, run: str, grading: int = 0) -> dict[tuple[str, str | None], int]:
        """Return how many items ended with a verdict and a reason."""
        found = {key: int(count) for key, (count, _) in self.of("verdicts", run, grading)}
        return {(verdict, reason): count for (verdict, reason), count in found.items() if count}

    def one(self, measure: str, *key: Any, size: int = 1) -> list[float]:
        """Return the numbers under one key; zeros where nothing was counted."""
        return next((n for rest, n in self.of(measure, *key) if not rest), [0] * size)


def read_sums(connection: duckdb.DuckDBPyConnection, known: Sums | None = None) -> Sums:
    """Return the sums over all rows; `known` are some of the same store."""
    if known is not None and _reached(connection, known) == Sums(known.rows, known.ends):
        return known
    kept, reached = _kept(connection)
    return kept if kept.ends == reached.ends else _counted(connection, kept, reached)


def keep_sums(connection: duckdb.DuckDBPyConnection, behind: int = BEHIND) -> None:
    """Keep the sums for those who come later, where as many rows are not counted yet.

    Only for the owner of the store's lock, and after a commit: rows of an open one have other numbers.
    What cannot be counted, for want of memory, say, is not kept: that is no reason to refuse a store.
    """
    import duckdb

    with contextlib.suppress(duckdb.Error, ValueError, LookupError, TypeError):
        kept, reached = _kept(connection)
        rows = sum(reached.rows.values())
        if rows < SMALL or rows - sum(kept.rows.values()) < behind:
            return
        connection.execute(
            "INSERT INTO sums (rid, time, told) VALUES (?, ?, ?) "
            "ON CONFLICT (rid) DO UPDATE SET time = excluded.time, told = excluded.told",
            [KEPT, time.time(), _written(_counted(connection, kept, reached))],
        )


def _kept(connection: duckdb.DuckDBPyConnection) -> tuple[Sums, Sums]:
    """Return the sums that were kept, and how far the tables reach.

    Nothing was kept of a store that has lost rows since, or is too old.
    """
    import duckdb

    try:
        found = connection.execute("SELECT told FROM sums WHERE rid = ?", [KEPT]).fetchall()
    except duckdb.CatalogException:  # of an earlier schema, in a folder that cannot be written
        found = []
    kept = _read(found[0][0]) if found else None
    if kept is not None and (reached := _reached(connection, kept)) is not None:
        return kept, reached
    nothing = Sums(dict.fromkeys(COUNTED, 0), dict.fromkeys(COUNTED, 0))
    return nothing, _reached(connection, nothing) or nothing


def _reached(connection: duckdb.DuckDBPyConnection, known: Sums) -> Sums | None:
    """Return how far the tables reach, without any sums; None where known rows are not there."""
    behind = " UNION ALL ".join(
        f"SELECT '{table}', (SELECT count(*) FROM {table}), count(*), "
        f"coalesce(max(rowid) + 1, {end}) FROM {table} WHERE rowid >= {end}"
        for table, end in known.ends.items()
    )
    rows, ends = {}, {}
    for table, count, later, end in connection.execute(behind).fetchall():
        if count - later != known.rows[table]:
            return None
        rows[table], ends[table] = count, end
    return Sums(rows, ends)


def _counted(connection: duckdb.DuckDBPyConnection, kept: Sums, reached: Sums) -> Sums:
    """Return kept sums with the rows behind them."""
    behind = {t: f"(SELECT * FROM {t} WHERE rowid >= {kept.ends[t]})" for t in COUNTED}
    torn = [*_torn(connection, behind, kept.torn)]
    whole = {
        table: _whole(table, kept.ends[table], kept.torn, torn)
        for table in ("attempts", "grades", "audits")
    }
    places = {
        **behind,
        "first_item": str(kept.ends["items"]),
        "attempts": whole["attempts"],
        "audits": whole["audits"],
        "whole_grades": whole["grades"],
    }
    found = {**kept.all}
    for name, (keys, _, sql) in {**MEASURES, **SETTLED}.items():
        fresh = _table(connection.execute(sql.format(**places)).fetchall(), keys)
        found[name] = _added(kept.all.get(name, {}), fresh)
    return Sums(reached.rows, reached.ends, torn, found, _gone(connection, kept, reached))


def _gone(connection: duckdb.DuckDBPyConnection, kept: Sums, reached: Sums) -> Mapping[str, Table]:
    """Return the sums over verdicts that do not count any more, as items were opened again."""
    if reached.ends["reopened"] == kept.ends["reopened"]:
        return kept.gone
    places = {
        "verdicts": _GONE.format(**kept.ends),
        "audits": "audits",
        "whole_grades": "grades",
    }
    found: dict[str, Table] = {}
    for name, (keys, _, sql) in SETTLED.items():
        fresh = _table(connection.execute(sql.format(**places)).fetchall(), keys)
        found[name] = _added(kept.gone.get(name, {}), fresh)
    return found


def _torn(
    connection: duckdb.DuckDBPyConnection, behind: Mapping[str, str], before: Sequence[Key]
) -> Iterator[Key]:
    """Yield what has attempts or audits and no verdict."""
    yield from connection.execute(_TORN.format(**behind)).fetchall()
    for key in before:
        sql = "SELECT 1 FROM verdicts WHERE run = ? AND item = ? AND opening = ? AND grading = 0"
        if not connection.execute(sql, list(key)).fetchall():
            yield key


def _whole(table: str, first: int, before: Sequence[Key], torn: Sequence[Key]) -> str:
    """Return SQL for rows behind the first ones and what was left out of those, but nothing torn."""
    sql = f"SELECT * FROM {table} WHERE (rowid >= {first}"
    place = "(run, item, opening)"
    sql += f" OR {place} IN ({_listed(before)}))" if before else ")"
    sql += f" AND {place} NOT IN ({_listed(torn)})" if torn else ""
    return f"({sql})"


def _listed(keys: Sequence[Key]) -> str:
    quoted = (
        "({}, {}, {})".format(*(f"'{part}'".replace("'", "''")[1:-1] for part in key))
        for key in keys
    )
    return ", ".join(quoted)


def _table(rows: Sequence[Sequence[Any]], keys: int) -> Table:
    return {tuple(row[:keys]): [number or 0 for number in row[keys:]] for row in rows}


def _added(one: Table, other: Table) -> Table:
    found = dict(one)
    for key, numbers in other.items():
        before = found.get(key, [0] * len(numbers))
        found[key] = [a + b for a, b in zip(before, numbers, strict=True)]
    return found


def _written(sums: Sums) -> str:
    def listed(tables: Mapping[str, Table]) -> dict[str, list[list[Any]]]:
        return {name: [[[*key], n] for key, n in table.items()] for name, table in tables.items()}

    return json.dumps(
        {
            "format": FORMAT,
            "rows": sums.rows,
            "ends": sums.ends,
            "torn": sums.torn,
            "all": listed(sums.all),
            "gone": listed(sums.gone),
        }
    )


def _read(text: str) -> Sums | None:
    """Return what was kept; None where another version has kept it, or something else."""
    try:
        told = json.loads(text)
        if told["format"] != FORMAT:
            return None
        rows, ends = ({t: int(told[of][t]) for t in COUNTED} for of in ("rows", "ends"))
        torn = [(str(run), str(item), int(opening)) for run, item, opening in told["torn"]]
        of_all = _tables(told["all"], {**MEASURES, **SETTLED})
        return Sums(rows, ends, torn, of_all, _tables(told["gone"], SETTLED))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _tables(listed: Json, measures: Mapping[str, tuple[int, int, str]]) -> dict[str, Table]:
    """Return tables as they were written; ValueError where one has not its measure's form."""
    found: dict[str, Table] = {}
    for name, rows in listed.items():
        table, (keys, size, _) = found.setdefault(name, {}), measures[name]
        for key, numbers in rows:
            if len(key) != keys or len(numbers) != size:
                raise ValueError(name)
            table[tuple(key)] = [number + 0 for number in numbers]
    return found
