"""Reading a long store in windows: the same rows in the same order, wherever they lie."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from agentloop.filelock import FileLock
from agentloop.store import Store, windows
from agentloop.store.files import connect, prepare
from agentloop.store.windows import Asked, Chosen


def made(path: Path, order: list[int], times: list[float | None]) -> Path:
    """Make a store of items whose rows lie in some order, beside another run's."""
    prepare(path)
    with connect(path, write=True) as connection:
        for run in ("other", "mine"):
            connection.execute(
                "INSERT INTO runs (run, recipe, identity, time) VALUES (?, 'r', '{}', ?)",
                [run, {"other": 1, "mine": 2}[run]],
            )
            for table in ("items", "attempts", "grades", "verdicts"):
                for number in order if table in ("items", "grades") else range(len(order)):
                    _insert(connection, table, run, number, times[number])
    return path


def _insert(connection: Any, table: str, run: str, number: int, time: float | None) -> None:
    place = {"run": run, "item": f"{number:012x}"}
    attempt = {**place, "opening": 0, "round": 0}
    rows: dict[str, dict[str, Any]] = {
        "items": {**place, "seed": f'{{"n": {number}}}', "depth": 1},
        "attempts": {**attempt, "messages": f'[{{"role":"user","content":"{number}"}}]'},
        "grades": {**attempt, "grading": 0, "grade": f'{{"model": "m{number}"}}'},
        "verdicts": {**attempt, "grading": 0, "verdict": "accepted", "time": time},
    }
    row = rows[table]
    marks = ", ".join("?" * len(row))
    connection.execute(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values())
    )


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("times", ["rising", "alike", "falling", "none"])
@pytest.mark.parametrize("window", [1, 4, 1000])
def test_windows_hold_every_row_once_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffled: bool, times: str, window: int
) -> None:
    monkeypatch.setattr(windows, "WINDOW", window)
    monkeypatch.setattr(windows, "BESIDE", 2)
    count = 25
    order = list(range(count))
    if shuffled:
        random.Random(1).shuffle(order)
    said: dict[str, list[float | None]] = {
        "rising": [float(n) for n in range(count)],
        "alike": [float(n // 5) for n in range(count)],
        "falling": [-float(n) for n in range(count)],
        "none": [None] * count,
    }
    path = made(tmp_path / "s.duckdb", order, said[times])
    rows = list(Store(path).examples("mine"))
    names = [f"{n:012x}" for n in range(count)]
    assert [row["item"] for row in rows] == (names[::-1] if times == "falling" else names)
    for row in rows:
        number = int(row["item"], 16)
        assert row["seed"] == {"n": number}
        assert row["messages"] == [{"role": "user", "content": str(number)}]
        assert row["critic"] == f"m{number}"


def test_a_store_of_an_earlier_schema_is_read_where_it_cannot_be_brought_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "s.duckdb", [0, 1], [0.0, 1.0])
    with connect(path, write=True) as connection:
        connection.execute("DROP VIEW examples")
        for table, column in (("items", "depth"), ("grades", "self_graded")):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute("CREATE VIEW examples AS SELECT run, item, seed FROM items")
        connection.execute("DELETE FROM migrations WHERE version > 3")

    def refuse(lock: FileLock) -> bool:
        raise PermissionError("a read-only folder")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    store = Store(path)
    names = [f"{n:012x}" for n in range(2)]
    seeds = [{"n": n} for n in range(2)]
    assert list(store.examples("mine")) == [
        {"run": "mine", "item": name, "seed": seed} for name, seed in zip(names, seeds, strict=True)
    ]
    asked = Asked(["item", "agentloop.depth", "critic", "self_graded"])
    (block,) = store.blocks(Chosen("mine"), lambda: asked)
    assert block.rows == [(name, 0, f"m{n}", None) for n, name in enumerate(names)]


def test_rows_are_counted_by_what_they_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WINDOW", 10)
    path = made(tmp_path / "s.duckdb", list(range(25)), [float(n) for n in range(25)])
    asked = Asked(["made"], ("verdict",), made="upper(item)", kept="item <> '00000000000a'")
    blocks = list(Store(path).blocks(Chosen("mine"), lambda: asked))
    assert [len(block.rows) for block in blocks] == [10, 9, 5]
    assert [block.groups for block in blocks] == [[("accepted", n)] for n in (10, 9, 5)]
    assert blocks[1].rows[0] == ("00000000000B",)
