"""The tables: made once, never downgraded, one documented view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentloop.errors import StoreError
from agentloop.store import Store
from agentloop.store.files import connect, prepare
from agentloop.store.schema import KEYS, MIGRATIONS, TABLES, migrate
from agentloop.store.writer import Writer

VIEW = (
    "run, item, grading, verdict, reason, detail, score, round, time, seed_id, sample, seed, inputs, "
    "recipe, candidate, messages, checks, generator, prompt, critic, rubric, grade, self_graded, "
    "opening, calibrated, agentloop"
)


def newer(path: Path) -> Path:
    prepare(path)
    with connect(path, write=True) as connection:
        connection.execute("INSERT INTO migrations VALUES (?, now())", [len(MIGRATIONS) + 1])
    return path


def test_every_table_has_a_key_of_its_own_columns() -> None:
    assert TABLES.keys() == KEYS.keys()
    for table, key in KEYS.items():
        assert set(key.split(", ")) <= TABLES[table].keys()


def test_preparing_twice_migrates_once(tmp_path: Path) -> None:
    prepare(tmp_path / "s.duckdb")
    prepare(tmp_path / "s.duckdb")
    with connect(tmp_path / "s.duckdb", write=True) as connection:
        migrate(connection, "s")
        versions = connection.execute("SELECT version FROM migrations").fetchall()
    assert versions == [(n + 1,) for n in range(len(MIGRATIONS))]


def test_the_view_that_where_sees_has_its_columns(tmp_path: Path) -> None:
    prepare(tmp_path / "s.duckdb")
    with connect(tmp_path / "s.duckdb", write=False) as connection:
        connection.execute("SELECT * FROM examples")
        columns = {column[0] for column in connection.description or []}
    assert columns == set(VIEW.split(", "))


def test_the_tables_have_a_primary_key_and_no_other_index(tmp_path: Path) -> None:
    prepare(tmp_path / "s.duckdb")
    with connect(tmp_path / "s.duckdb", write=False) as connection:
        assert connection.execute("SELECT count(*) FROM duckdb_indexes()").fetchall() == [(0,)]
        kinds = "SELECT DISTINCT constraint_type FROM duckdb_constraints() ORDER BY 1"
        found = [row[0] for row in connection.execute(kinds).fetchall()]
    assert "FOREIGN KEY" not in found
    assert "PRIMARY KEY" in found


def test_a_newer_store_is_refused_for_writing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="upgrade agentloop"):
        Writer(newer(tmp_path / "s.duckdb"))
    with pytest.raises(StoreError, match="upgrade agentloop"):  # and the lock was freed
        Writer(tmp_path / "s.duckdb")


def test_a_newer_store_is_refused_for_reading(tmp_path: Path) -> None:
    path = newer(tmp_path / "s.duckdb")
    with pytest.raises(StoreError, match="upgrade agentloop"):
        Store(path).runs()


def test_a_newer_store_keeps_its_journal(tmp_path: Path) -> None:
    path = newer(tmp_path / "s.duckdb")
    journal = path.with_name("s.duckdb.journal")
    journal.write_text('{"t": "runs", "r": {"run": "a"}}\n')
    with pytest.raises(StoreError, match="upgrade agentloop"):
        Store(path)
    assert journal.read_text()


def test_the_file_can_be_opened_by_duckdb_1_5_tools(tmp_path: Path) -> None:
    prepare(tmp_path / "s.duckdb")
    with connect(tmp_path / "s.duckdb", write=False) as connection:
        sql = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'store'"
        ((version,),) = connection.execute(sql).fetchall()
    assert str(version).startswith(("v1.5", "1.5"))


def of_schema(path: Path, version: int) -> Path:
    """Make a store as an earlier agentloop did, with a run and a call in it."""
    with connect(path, write=True) as connection:
        connection.execute("CREATE TABLE migrations (version INTEGER, time TIMESTAMPTZ)")
        for number, step in enumerate(MIGRATIONS[:version], start=1):
            step(connection)
            connection.execute("INSERT INTO migrations VALUES (?, now())", [number])
        connection.execute("INSERT INTO runs (run, recipe, identity) VALUES ('old', 'tiny', '{}')")
        connection.execute(
            "INSERT INTO calls (rid, run, answered, tries, cost_usd) VALUES ('1', 'old', true, 2, 0.5)"
        )
    return path


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
@pytest.mark.parametrize("opened", [Store, lambda path: Writer(path).close()])
def test_every_earlier_schema_is_brought_up_with_what_is_in_it(
    tmp_path: Path, version: int, opened: Any
) -> None:
    path = of_schema(tmp_path / "s.duckdb", version)
    opened(path)
    counts = Store(path).counts("old")
    assert (counts["calls"], counts["requests"], counts["cost_usd"]) == (1, 2, 0.5)
    assert counts["unsettled_usd"] == 0


def test_grades_of_before_keep_the_comparison_by_name(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    prepare(path)
    with connect(path, write=True) as connection:
        connection.execute("ALTER TABLE grades DROP COLUMN self_graded")
        connection.execute("DROP TABLE readings")
        connection.execute("DELETE FROM migrations WHERE version > 3")
        connection.execute("DROP VIEW examples")
        connection.execute("INSERT INTO runs (run, recipe, identity) VALUES ('old', 'tiny', '{}')")
        for item, critic in (("a", "m"), ("b", "other")):
            at = f"'old', '{item}'"
            connection.execute(f"INSERT INTO items (run, item) VALUES ({at})")
            connection.execute(
                f"INSERT INTO attempts (run, item, opening, round, model) VALUES ({at}, 0, 0, 'm')"
            )
            grade = f'{{"model": "{critic}"}}'
            connection.execute(
                "INSERT INTO grades (run, item, opening, round, grading, grade) "
                f"VALUES ({at}, 0, 0, 0, '{grade}')"
            )
            connection.execute(
                "INSERT INTO verdicts (run, item, opening, grading, verdict, round) "
                f"VALUES ({at}, 0, 0, 'accepted', 0)"
            )
    rows = {row["item"]: row["self_graded"] for row in Store(path).examples("old")}
    assert rows == {"a": True, "b": False}
