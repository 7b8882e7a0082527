"""Kept sums: the same counts as without them, whatever was kept, opened again or torn apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import duckdb
import pytest

import agentloop as al
from agentloop.errors import StoreError
from agentloop.models.base import Reply
from agentloop.records import Json, Usage, VerdictName
from agentloop.store import VERDICTS, Store, sums
from agentloop.store.files import Files, connect, encoded, fold, fold_inbox, prepare
from agentloop.store.sums import keep_sums, read_sums
from tests.builders import SEEDS, agent, draft, marks, play, tiny

Asked = dict[str, Any]


def asked(path: Path) -> Asked:
    """Return all that a store says with the help of its sums."""
    store = Store(path)
    return {
        "counts": store.counts(),
        "reasons": store.reasons(),
        "judged": store.judged(),
        "evidence": store.evidence().as_dict(),
    }


def kept(path: Path) -> int:
    with connect(path, write=False) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM sums").fetchall()
    return int(count)


def forget(path: Path) -> None:
    with connect(path, write=True) as connection:
        connection.execute("DELETE FROM sums")


@contextmanager
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let sums of the smallest store be kept."""
    with monkeypatch.context() as patch:
        patch.setattr(sums, "SMALL", 0)
        yield


def worker(wrong: str = "3") -> al.ScriptedModel:
    """A model whose answers to one passage are never right and to some are right when revised."""

    def critique(prompt: str) -> str:
        bad = f"number {wrong}." in prompt or ("As" in prompt and "number 2." in prompt)
        return marks("no" if bad else "yes")

    def revise(prompt: str) -> Reply:
        number = prompt.partition("number ")[2].partition(".")[0]
        text = draft(f"Longer than it was before, about number {number}. {'x' * int(number)}")
        return Reply(text=text, usage=Usage(prompt_tokens=5, completion_tokens=7), cost_usd=0.25)

    return agent(critique=critique, revise=revise)


def call(number: int) -> tuple[str, Json]:
    row = {"rid": str(number), "run": "tiny", "key": "generator/0", "answered": True, "tries": 1}
    return "calls", row


def prepared(folder: Path) -> Path:
    """Make a store of one call."""
    files = Files(folder / "s.duckdb")
    prepare(files.path)
    files.journal.write_bytes(encoded([("runs", {"run": "tiny", "time": 1.0}), call(1)]))
    fold(files, last=True)
    return files.path


def run(folder: Path, seeds: int, **settings: Any) -> Path:
    given = {"seeds": SEEDS[:seeds], "audit": 1.0, "canaries": 0.5, **settings}
    recipe = tiny(folder, attributes={"tone": ["dry", "warm"]})
    return play(folder, given.pop("model", worker()), recipe, **given).store


def test_verdicts_are_those_of_the_records() -> None:
    assert get_args(VerdictName) == VERDICTS


def test_kept_sums_and_the_rows_behind_them_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small(monkeypatch):
        for seeds in (3, 4, 9):
            path = run(tmp_path, seeds)
            assert kept(path)
    path = run(tmp_path, 12)  # rows behind what was kept
    with_kept = asked(path)
    forget(path)
    assert asked(path) == with_kept
    assert with_kept["counts"]["accepted"] == 11
    assert with_kept["counts"]["seeds"] == 12
    assert with_kept["reasons"]
    assert with_kept["evidence"]["growth"]
    assert with_kept["evidence"]["strata"]
    assert with_kept["evidence"]["audits"]["accepted"]["audited"]


def test_what_is_opened_again_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = agent(generate=lambda prompt: "no JSON" if "number 1." in prompt else draft(prompt))
    with small(monkeypatch):
        path = run(tmp_path, 4, model=failing)
        assert asked(path)["counts"]["failed"] == 1
        run(tmp_path, 4, model=worker(), retry=("failed",))
    found = asked(path)
    assert found["counts"]["failed"] == 0
    assert sum(found["counts"][name] for name in VERDICTS) == 4
    forget(path)
    assert asked(path) == found


def test_what_is_opened_again_and_again_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*numbers: int) -> al.ScriptedModel:
        bad = [f"number {number}." for number in numbers]
        return agent(
            generate=lambda p: "no JSON" if any(b in p for b in bad) else draft(p),
            critique=lambda p: marks("yes"),
        )

    failed = []
    with small(monkeypatch):
        for bad in ((1, 2, 3), (1, 2), (1, 3), (1,), ()):
            path = run(tmp_path, 5, model=failing(*bad), retry=("failed",))
            found = asked(path)
            failed.append(found["counts"]["failed"])
            with connect(path, write=False) as connection:
                gone = read_sums(connection).gone
            forget(path)
            assert asked(path) == found
            with connect(path, write=True) as connection:
                assert read_sums(connection).gone == gone
                keep_sums(connection, 1)
    assert failed == [3, 2, 1, 1, 0]


def test_a_small_store_keeps_none(tmp_path: Path) -> None:
    assert kept(run(tmp_path, 3)) == 0


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE sums SET told = json_merge_patch(told, '{\"format\": 0}')",
        "DELETE FROM verdicts WHERE item IN (SELECT min(item) FROM verdicts)",
    ],
)
def test_sums_of_another_version_or_of_lost_rows_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    with small(monkeypatch):
        path = run(tmp_path, 4)
    with connect(path, write=True) as connection:
        connection.execute(damage)
    found = asked(path)
    forget(path)
    assert asked(path) == found


def test_rows_behind_deleted_ones_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small(monkeypatch):
        run(tmp_path, 5, run="bad")
        path = run(tmp_path, 4, run="good")
        with connect(path, write=True) as connection:
            for table in ("runs", "sessions", *sums.COUNTED):
                connection.execute(f"DELETE FROM {table} WHERE run = 'bad'")
        for seeds in (5, 7):
            run(tmp_path, seeds, run="good")
            found = asked(path)
            assert (found["counts"]["seeds"], found["counts"]["accepted"]) == (seeds, seeds - 1)
    forget(path)
    assert asked(path) == found


@pytest.mark.parametrize(
    "told",
    [
        "null",
        "[1]",
        "{}",
        f'{{"format": {sums.FORMAT}}}',
        '{"rows": {"items": "many"}}',
        '{"ends": {"items": null}}',
        '{"torn": [1]}',
        '{"all": []}',
        '{"all": {"other": [[["tiny"], [1]]]}}',
        '{"all": {"seeds": [[["tiny", 0], [1]]]}}',
        '{"all": {"seeds": [[["tiny"], [1, 2]]]}}',
        '{"all": {"seeds": [[["tiny"], ["1"]]]}}',
        '{"all": {"seeds": [[[{}], [1]]]}}',
        '{"gone": {"calls": []}}',
    ],
)
def test_kept_sums_of_another_form_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    with small(monkeypatch):
        path = prepared(tmp_path)
    whole = "told" if "format" not in told and told not in ("null", "[1]", "{}") else "NULL"
    with connect(path, write=True) as connection:
        connection.execute(
            f"UPDATE sums SET told = coalesce(json_merge_patch({whole}, $told::JSON), $told::JSON)",
            {"told": told},
        )
    assert asked(path)["counts"]["calls"] == 1


def test_a_journal_cannot_say_what_sums_are(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    line = encoded([("sums", {"rid": sums.KEPT, "time": 1.0, "told": {}})])
    Files(path).inbox.write_bytes(line)
    fold_inbox(Files(path))
    Files(path).journal.write_bytes(line)
    with pytest.raises(StoreError, match="broken line"):
        fold(Files(path))
    assert kept(path) == 0


def test_what_cannot_be_counted_bars_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepared(tmp_path)
    table, row = call(2)
    tokens = {"prompt_tokens": 2**63 - 1, "completion_tokens": 1}
    Files(path).journal.write_bytes(encoded([(table, {**row, **tokens})]))
    with small(monkeypatch):
        fold(Files(path), last=True)
        prepare(path)
    with connect(path, write=False) as connection:
        assert len(connection.execute("SELECT rid FROM calls").fetchall()) == 2
    assert kept(path) == 0


def test_sums_are_kept_in_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small(monkeypatch):
        path = prepared(tmp_path)
        with connect(path, write=True) as connection:
            connection.execute("UPDATE sums SET time = time + 86400")  # by a clock that is ahead
        for number in range(2, 5):
            Files(path).journal.write_bytes(encoded([call(number)]))
            fold(Files(path), last=True)
    assert kept(path) == 1
    with connect(path, write=True) as connection:
        connection.execute(
            'UPDATE sums SET told = json_merge_patch(told, \'{"torn": [["a", "b", 0]]}\')'
        )
        assert read_sums(connection).torn == [("a", "b", 0)]  # nothing is behind what is kept


def test_an_item_that_was_torn_apart_is_counted_when_its_verdict_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run(tmp_path, 4)
    whole = asked(path)
    with connect(path, write=True) as connection:
        connection.execute(
            "CREATE TABLE late AS SELECT * FROM verdicts WHERE item = (SELECT min(item) FROM verdicts)"
        )
        connection.execute("DELETE FROM verdicts WHERE item IN (SELECT item FROM late)")
    rewrite(path, "verdicts")
    with small(monkeypatch), connect(path, write=True) as connection:
        keep_sums(connection, 1)
        torn = read_sums(connection)
        assert len(torn.torn) == 1
        connection.execute("INSERT INTO verdicts SELECT * FROM late")
        connection.execute("DROP TABLE late")
    found = asked(path)
    assert kept(path) == 1
    assert found == whole


def rewrite(path: Path, table: str) -> None:
    """Give the rows of a table numbers without gaps, as a table has that nothing was deleted from."""
    with connect(path, write=True) as connection:
        connection.execute(f"CREATE TEMP TABLE copied AS SELECT * FROM {table} ORDER BY rowid")
        connection.execute(f"DELETE FROM {table}")
        connection.execute("CHECKPOINT store")
        connection.execute(f"INSERT INTO {table} SELECT * FROM copied")


def test_a_store_that_cannot_be_brought_up_is_counted_without_kept_sums(tmp_path: Path) -> None:
    path = run(tmp_path, 3)
    found = asked(path)
    with connect(path, write=True) as connection:
        connection.execute("DROP TABLE sums")
    with connect(path, write=False) as connection:
        with pytest.raises(duckdb.CatalogException):
            connection.execute("SELECT * FROM sums")
        assert dict(read_sums(connection).rows)["verdicts"] == 3
    assert asked(path) == found


def test_sums_are_json_that_names_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small(monkeypatch):
        path = run(tmp_path, 2)
    with connect(path, write=False) as connection:
        ((told,),) = connection.execute("SELECT told FROM sums").fetchall()
    assert json.loads(told)["format"] == sums.FORMAT
