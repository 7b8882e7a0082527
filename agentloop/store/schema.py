"""The tables: ordered migrations, and the one documented view.

Enters: a DuckDB connection with the store attached. Leaves: a store of the newest schema.
Refuses to know: who writes, who reads, what a row means to the loop.

Append-only, one primary key a table, no secondary index, no foreign key, no update.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agentloop.errors import StoreError
from agentloop.novelty.lineage import depth_of

if TYPE_CHECKING:
    import duckdb

TABLES: Mapping[str, Mapping[str, str]] = {
    "runs": {
        "run": "VARCHAR",
        "recipe": "VARCHAR",
        "recipe_ref": "VARCHAR",
        "time": "DOUBLE",
        "identity": "JSON",
        "versions": "JSON",
        "parent": "VARCHAR",
    },
    "sessions": {
        "rid": "VARCHAR",
        "run": "VARCHAR",
        "session": "VARCHAR",
        "time": "DOUBLE",
        "seconds": "DOUBLE",
        "stopped_by": "VARCHAR",
        "settings": "JSON",
        "refused": "BIGINT",
    },
    "items": {
        "run": "VARCHAR",
        "item": "VARCHAR",
        "seed_id": "VARCHAR",
        "sample": "INTEGER",
        "seed": "JSON",
        "inputs": "JSON",
        "depth": "INTEGER",
        "time": "DOUBLE",
    },
    "calls": {
        "rid": "VARCHAR",
        "run": "VARCHAR",
        "item": "VARCHAR",
        "key": "VARCHAR",
        "digest": "VARCHAR",
        "model": "VARCHAR",
        "answered": "BOOLEAN",
        "text": "VARCHAR",
        "finish_reason": "VARCHAR",
        "logprobs": "JSON",
        "prompt_tokens": "BIGINT",
        "completion_tokens": "BIGINT",
        "cached_tokens": "BIGINT",
        "reasoning_tokens": "BIGINT",
        "cost_usd": "DOUBLE",
        "latency": "DOUBLE",
        "tries": "INTEGER",
        "time": "DOUBLE",
        "raw": "JSON",
        "error": "VARCHAR",
    },
    "attempts": {
        "run": "VARCHAR",
        "item": "VARCHAR",
        "opening": "INTEGER",
        "round": "INTEGER",
        "parent": "INTEGER",
        "candidate": "JSON",
        "messages": "JSON",
        "checks": "JSON",
        "critique": "JSON",
        "model": "VARCHAR",
        "prompt": "VARCHAR",
    },
    "grades": {
        "run": "VARCHAR",
        "item": "VARCHAR",
        "opening": "INTEGER",
        "round": "INTEGER",
        "grading": "INTEGER",
        "grade": "JSON",
        "accepted": "BOOLEAN",
        "reason": "VARCHAR",
        "detail": "VARCHAR",
        "self_graded": "BOOLEAN",
    },
    "verdicts": {
        "run": "VARCHAR",
        "item": "VARCHAR",
        "opening": "INTEGER",
        "grading": "INTEGER",
        "verdict": "VARCHAR",
        "reason": "VARCHAR",
        "detail": "VARCHAR",
        "round": "INTEGER",
        "score": "DOUBLE",
        "fingerprint": "VARCHAR",
        "time": "DOUBLE",
    },
    "reopened": {"run": "VARCHAR", "item": "VARCHAR", "opening": "INTEGER", "time": "DOUBLE"},
    "reservations": {
        "rid": "VARCHAR",
        "run": "VARCHAR",
        "item": "VARCHAR",
        "key": "VARCHAR",
        "usd": "DOUBLE",
        "time": "DOUBLE",
    },
    "audits": {
        "run": "VARCHAR",
        "item": "VARCHAR",
        "opening": "INTEGER",
        "round": "INTEGER",
        "score": "DOUBLE",
        "accepted": "BOOLEAN",
        "grade": "JSON",
        "error": "VARCHAR",
        "time": "DOUBLE",
    },
    "canaries": {
        "run": "VARCHAR",
        "item": "VARCHAR",
        "kind": "VARCHAR",
        "good": "BOOLEAN",
        "score": "DOUBLE",
        "caught": "BOOLEAN",
        "error": "VARCHAR",
        "time": "DOUBLE",
    },
    "gradings": {
        "run": "VARCHAR",
        "grading": "INTEGER",
        "rubric": "JSON",
        "critic": "VARCHAR",
        "identity": "JSON",
        "time": "DOUBLE",
    },
    "calibrations": {
        "rid": "VARCHAR",
        "rubric": "VARCHAR",
        "critic": "VARCHAR",
        "report": "JSON",
        "time": "DOUBLE",
    },
    "readings": {
        "rid": "VARCHAR",
        "run": "VARCHAR",
        "view": "VARCHAR",
        "number": "INTEGER",
        "light": "VARCHAR",
        "reading": "JSON",
        "time": "DOUBLE",
    },
    "labels": {
        "rid": "VARCHAR",
        "run": "VARCHAR",
        "item": "VARCHAR",
        "criterion": "VARCHAR",
        "label": "VARCHAR",
        "who": "VARCHAR",
        "time": "DOUBLE",
        "opening": "INTEGER",
        "round": "INTEGER",
        "candidate": "VARCHAR",
        "blind": "BOOLEAN",
    },
    "sums": {"rid": "VARCHAR", "time": "DOUBLE", "told": "JSON"},
    "overruled": {
        "run": "VARCHAR",
        "item": "VARCHAR",
        "opening": "INTEGER",
        "grading": "INTEGER",
        "detail": "VARCHAR",
    },
}
"""Table → column → type: what a journal line of that kind may hold."""

FOLDED = TABLES.keys() - {"sums", "overruled"}
"""The tables that a journal may hold lines of; the rest is made of these."""

KEYS: Mapping[str, str] = {
    "runs": "run",
    "sessions": "rid",
    "items": "run, item",
    "calls": "rid",
    "attempts": "run, item, opening, round",
    "grades": "run, item, opening, round, grading",
    "verdicts": "run, item, opening, grading",
    "reopened": "run, item, opening",
    "reservations": "rid",
    "audits": "run, item, opening, round",
    "canaries": "run, item",
    "gradings": "run, grading",
    "calibrations": "rid",
    "readings": "rid",
    "labels": "rid",
    "sums": "rid",
    "overruled": "run, item, opening, grading",
}

EVIDENCE = ("audits", "canaries", "gradings", "calibrations")

_VIEW = """
SELECT v.run, v.item, v.grading, v.verdict, v.reason, v.detail, v.score, v.round, v.time,
       i.seed_id, i.sample, i.seed, i.inputs, r.recipe,
       a.candidate, a.messages, a.checks, a.model AS generator, a.prompt,
       g.grade->>'model' AS critic, g.grade->>'rubric' AS rubric, g.grade,
       coalesce(g.self_graded, a.model = (g.grade->>'model')) AS self_graded, v.opening,
       v.grading = 0 AND r.identity->>'calibration' IS NOT NULL AS calibrated,
       {{'item': v.item, 'depth': i.depth}} AS agentloop
FROM {verdicts} v
LEFT JOIN (SELECT run, item, max(opening) AS latest FROM reopened GROUP BY ALL) o
       ON o.run = v.run AND o.item = v.item
JOIN {items} i ON i.run = v.run AND i.item = v.item
JOIN runs r ON r.run = v.run
LEFT JOIN {attempts} a ON a.run = v.run AND a.item = v.item AND a.opening = v.opening
                    AND a.round = v.round
LEFT JOIN {grades} g ON g.run = v.run AND g.item = v.item AND g.opening = v.opening
                  AND g.round = v.round AND g.grading = v.grading
WHERE v.opening = coalesce(o.latest, 0)
"""


def examples_sql(
    verdicts: str = "verdicts",
    items: str = "items",
    attempts: str = "attempts",
    grades: str = "grades",
) -> str:
    """Return the SQL of the view `examples`, over tables or parts of them."""
    return _VIEW.format(verdicts=verdicts, items=items, attempts=attempts, grades=grades)


EXAMPLES = f"CREATE OR REPLACE VIEW examples AS {examples_sql()}"
"""One row for each item and grading; the columns that `--where` may name, stable over migrations."""


def _first(connection: duckdb.DuckDBPyConnection) -> None:
    for table in TABLES.keys() - {"reservations", "readings", "sums", "overruled", *EVIDENCE}:
        _create(connection, table)


def _second(connection: duckdb.DuckDBPyConnection) -> None:
    """What calls may cost is set aside before they are sent (hard budgets)."""
    _create(connection, "reservations")


def _third(connection: duckdb.DuckDBPyConnection) -> None:
    """What says whether a grade means something."""
    for table in EVIDENCE:
        _create(connection, table)


def _fourth(connection: duckdb.DuckDBPyConnection) -> None:
    """Grades say whether a judge was of the writer's family, attempts what they revise; variety."""
    _create(connection, "readings")
    connection.execute("ALTER TABLE attempts ADD COLUMN IF NOT EXISTS parent INTEGER")
    connection.execute("UPDATE attempts SET parent = round - 1 WHERE round > 0 AND parent IS NULL")
    connection.execute("ALTER TABLE grades ADD COLUMN IF NOT EXISTS self_graded BOOLEAN")


def _fifth(connection: duckdb.DuckDBPyConnection) -> None:
    """Items say how many generations they are away from what people wrote."""
    connection.execute("ALTER TABLE items ADD COLUMN IF NOT EXISTS depth INTEGER")
    made = "contains(concat(seed, inputs), '\"agentloop\"')"
    connection.execute(f"UPDATE items SET depth = 1 WHERE depth IS NULL AND NOT {made}")
    older = "SELECT run, item, seed, inputs FROM items WHERE depth IS NULL"
    for run, item, seed, inputs in connection.execute(older).fetchall():
        depth = depth_of(json.loads(seed), json.loads(inputs))
        connection.execute(
            "UPDATE items SET depth = ? WHERE run = ? AND item = ?", [depth, run, item]
        )
    connection.execute(EXAMPLES)


def _sixth(connection: duckdb.DuckDBPyConnection) -> None:
    """What a store comes to is kept (`store.sums`)."""
    _create(connection, "sums")
    connection.execute(EXAMPLES)


def _seventh(connection: duckdb.DuckDBPyConnection) -> None:
    """Labels name the attempt that was read, and whether its grade was hidden."""
    for column in ("opening", "round", "candidate", "blind"):
        kind = TABLES["labels"][column]
        connection.execute(f"ALTER TABLE labels ADD COLUMN IF NOT EXISTS {column} {kind}")
    connection.execute(EXAMPLES)


def _eighth(connection: duckdb.DuckDBPyConnection) -> None:
    """Sessions say how many requests a limit refused."""
    connection.execute("ALTER TABLE sessions ADD COLUMN IF NOT EXISTS refused BIGINT")
    connection.execute(EXAMPLES)


def _ninth(connection: duckdb.DuckDBPyConnection) -> None:
    """What `merge` refused though its own store had accepted it, so that more can be joined later."""
    _create(connection, "overruled")
    connection.execute(EXAMPLES)


def _create(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    listed = ", ".join(f'"{name}" {kind}' for name, kind in TABLES[table].items())
    connection.execute(f"CREATE TABLE {table} ({listed}, PRIMARY KEY ({KEYS[table]}))")


MIGRATIONS: tuple[Callable[[duckdb.DuckDBPyConnection], None], ...] = (
    _first,
    _second,
    _third,
    _fourth,
    _fifth,
    _sixth,
    _seventh,
    _eighth,
    _ninth,
)
"""The last one makes the view anew, of the columns that there are by then."""


def migrate(connection: duckdb.DuckDBPyConnection, where: str) -> None:
    """Bring a store to the newest schema, each step in a transaction; StoreError if it is newer."""
    if not connection.execute("SHOW TABLES").fetchall():
        connection.execute("CREATE TABLE migrations (version INTEGER, time TIMESTAMPTZ)")
    version = check_version(connection, where)
    for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN")
        step(connection)
        connection.execute("INSERT INTO migrations VALUES (?, now())", [number])
        connection.execute("COMMIT")


def check_version(connection: duckdb.DuckDBPyConnection, where: str) -> int:
    """Return a store's schema; StoreError if it is newer than this code, or no store of ours."""
    try:
        ((version,),) = connection.execute(
            "SELECT coalesce(max(version), 0) FROM migrations"
        ).fetchall()
    except Exception as error:
        raise StoreError(f"`{where}` is a database, but not a store of agentloop's") from error
    if version > len(MIGRATIONS):
        raise StoreError(
            f"store `{where}` has schema {version}, this agentloop knows {len(MIGRATIONS)}: "
            "upgrade agentloop (`pip install -U agentloop-data`)"
        )
    return int(version)
