"""Journal lines become rows: each once, whole, whatever the text and wherever the cut."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.errors import StoreError
from agentloop.records import Json
from agentloop.store import Store
from agentloop.store.files import (
    Appender,
    Files,
    StoreBusy,
    connect,
    fold,
    prepare,
    read_lines,
)
from agentloop.store.writer import Writer
from tests.builders import python

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
ODD = st.sampled_from(
    [
        "\x1b[31m",
        "\u202eevil",
        "\u2028",
        "\ufeff",
        '"\\"',
        "\\u0000",
        "\r\n",
        "'; --",
        "💧",
        "\x7f",
        "",
    ]
)
SCALAR = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | ODD
NUMBERS = itertools.count()
JSON = st.recursive(
    SCALAR | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def call(number: int, **more: Any) -> tuple[str, Json]:
    return "calls", {"rid": f"r{number}", "run": "a", "item": "i", "key": f"k{number}", **more}


def store(where: str | Path) -> Files:
    files = Files(Path(where) / "s.duckdb")
    prepare(files.path)
    return files


def append(files: Files, *lines: tuple[str, Json]) -> None:
    appender = Appender(files.journal)
    appender.append(list(lines))
    appender.close()


def rows(files: Files, sql: str) -> list[tuple[Any, ...]]:
    with connect(files.path, write=False) as connection:
        return connection.execute(sql).fetchall()


def rids(files: Files) -> list[str]:
    return [row[0] for row in rows(files, "SELECT rid FROM calls ORDER BY length(rid), rid")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """One store for many examples: making one takes longer than folding into it."""
    return store(tmp_path_factory.mktemp("shared"))


@given(text=TEXT | ODD, error=st.none() | TEXT, raw=st.dictionaries(TEXT | ODD, JSON, max_size=4))
def test_any_text_and_any_json_comes_out_as_it_went_in(
    shared: Files, text: str, error: str | None, raw: Json
) -> None:
    number = next(NUMBERS)
    append(shared, call(number, text=text, error=error, raw=raw, cost_usd=0.1, tries=1))
    fold(shared)
    sql = f"SELECT text, error, raw, cost_usd FROM calls WHERE rid = 'r{number}'"
    ((out, out_error, out_raw, cost),) = rows(shared, sql)
    assert (out, out_error, cost) == (text, error, 0.1)
    assert orjson.loads(out_raw) == raw


def test_a_nul_character_in_a_reply_is_kept(tmp_path: Path) -> None:
    files = store(tmp_path)
    append(files, call(1, text="a\0b", raw={"k": "c\0d"}))
    fold(files)
    ((text, raw),) = rows(files, "SELECT text, raw FROM calls")
    assert text == "a\0b"
    assert orjson.loads(raw) == {"k": "c\0d"}


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**64 - 1, 1e308, 5e-324, -0.0, 0.1])
def test_numbers_in_json_columns_keep_their_value(tmp_path: Path, number: float) -> None:
    files = store(tmp_path)
    append(files, call(1, raw={"n": number}))
    fold(files)
    ((raw,),) = rows(files, "SELECT raw FROM calls")
    assert orjson.loads(raw) == {"n": number}


def test_a_megabyte_of_text_in_one_row(tmp_path: Path) -> None:
    files = store(tmp_path)
    append(files, call(1, text="ä" * 1_000_000))
    fold(files)
    assert rows(files, "SELECT length(text) FROM calls") == [(1_000_000,)]


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 12), max_size=4), torn=st.integers(0, 40))
def test_any_split_of_the_lines_and_any_torn_tail_fold_to_the_same_rows(
    shared: Files, cuts: list[int], torn: int
) -> None:
    run = f"split {next(NUMBERS)}"
    lines = [call(next(NUMBERS), run=run, text=f"reply {n}\n") for n in range(12)]
    edges = [0, *sorted(cuts), 12]
    for start, end in itertools.pairwise(edges):
        append(shared, *lines[start:end])
        fold(shared)
    shared.journal.write_bytes(orjson.dumps({"t": "calls", "r": call(0, run=run)[1]})[:torn])
    fold(shared)
    assert rows(shared, f"SELECT rid FROM calls WHERE run = '{run}' ORDER BY length(rid), rid") == [
        (row["rid"],) for _, row in lines
    ]


@given(size=st.integers(0, 430))
def test_a_journal_cut_at_any_byte_gives_its_whole_lines(shared: Files, size: int) -> None:
    whole = b"".join(orjson.dumps({"t": "calls", "r": call(n)[1]}) + b"\n" for n in range(6))
    shared.journal.write_bytes(whole[:size])
    append(shared, call(50))
    kept = [f"r{n}" for n in range(whole[:size].count(b"\n"))]
    assert [line["r"]["rid"] for line in read_lines(shared.journal)] == [*kept, "r50"]
    shared.journal.unlink()


def test_a_fold_done_twice_changes_nothing(tmp_path: Path) -> None:
    files = store(tmp_path)
    append(files, call(1, text="first"), call(2), call(1, text="again"))
    copy = files.journal.read_bytes()
    fold(files)
    files.folding.write_bytes(copy)
    fold(files)
    assert rids(files) == ["r1", "r2"]
    assert rows(files, "SELECT text FROM calls WHERE rid = 'r1'") == [("first",)]
    assert files.pending == []


def test_a_fold_that_was_cut_off_goes_before_the_newer_lines(tmp_path: Path) -> None:
    files = store(tmp_path)
    append(files, call(1, text="older"))
    files.journal.rename(files.folding)
    append(files, call(1, text="newer"), call(2))
    fold(files)
    assert rows(files, "SELECT rid, text FROM calls ORDER BY rid") == [
        ("r1", "older"),
        ("r2", None),
    ]


def test_a_broken_line_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    files = store(tmp_path)
    append(files, call(1))
    with files.journal.open("ab") as file:
        file.write(b'{"t": "calls", "r": {"ri\n')
    append(files, call(2))
    with pytest.raises(StoreError, match=r"broken line.*Move the journal away"):
        fold(files)
    assert b"r1" in files.pending[0].read_bytes()
    assert b"r2" in files.pending[0].read_bytes()


@pytest.mark.parametrize(
    "line", [b'{"t": "nope", "r": {}}\n', b"[1]\n", b"7\n", b'{"t": "calls"}\n']
)
def test_a_line_that_is_no_row_of_ours_is_refused_in_words(tmp_path: Path, line: bytes) -> None:
    files = store(tmp_path)
    files.journal.write_bytes(line)
    with pytest.raises(StoreError):
        fold(files)
    assert files.pending


def test_a_row_of_the_wrong_type_is_refused_in_words(tmp_path: Path) -> None:
    files = store(tmp_path)
    append(files, call(1, tries="many"))
    with pytest.raises(StoreError):
        fold(files)
    assert files.pending


@pytest.mark.parametrize(
    "name", ["it's.duckdb", "a b.duckdb", "ünï.duckdb", "q;x.duckdb", "a?b.duckdb"]
)
def test_odd_file_names_are_just_names(tmp_path: Path, name: str) -> None:
    files = Files(tmp_path / name)
    prepare(files.path)
    append(files, call(1))
    fold(files)
    assert rids(files) == ["r1"]
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize("name", ["s.duckdb", "clock.duckdb"])
@pytest.mark.parametrize("content", [b"not a database at all", b"\0" * 20_000])
def test_a_file_that_is_no_database_is_said_to_be_none(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match="cannot be opened"), connect(tmp_path / name, write=False):
        pass


def test_a_damaged_header_block_is_not_taken_for_a_lock(tmp_path: Path) -> None:
    files = store(tmp_path)
    append(files, *[call(n, text="x" * 500) for n in range(500)])
    fold(files)
    data = bytearray(files.path.read_bytes())
    for at in range(12_288, len(data), 4096):
        data[at] ^= 0xFF
    files.path.write_bytes(data)
    with pytest.raises(StoreError, match="cannot be opened"), connect(files.path, write=False):
        pass


def test_a_reader_in_the_same_process_is_waited_for_like_any_other(tmp_path: Path) -> None:
    """DuckDB has another error for it; the writer must not take it for a broken store."""
    files = store(tmp_path)
    with (
        connect(files.path, write=False),
        pytest.raises(StoreError, match="try again"),
        connect(files.path, write=True, patience=0.1),
    ):
        pass


def test_looks_within_a_process_are_one_opening_and_the_last_one_closes_it(tmp_path: Path) -> None:
    files = store(tmp_path)
    with connect(files.path, write=False) as outer:
        with connect(files.path, write=False) as inner:
            assert inner.execute("SELECT count(*) FROM runs").fetchall() == [(0,)]
        assert outer.execute("SELECT count(*) FROM runs").fetchall() == [(0,)]
        with pytest.raises(StoreBusy), connect(files.path, write=True, patience=0.0):
            pass
    with connect(files.path, write=True, patience=0.0):
        pass


@pytest.mark.parametrize("name", ["./s.duckdb", "link.duckdb", "folder/s.duckdb"])
def test_one_file_under_two_names_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files = store(tmp_path)
    (tmp_path / "link.duckdb").symlink_to("s.duckdb")
    (tmp_path / "folder").symlink_to(".")
    monkeypatch.chdir(tmp_path)
    with connect(files.path, write=False):
        monkeypatch.setattr("duckdb.connect", None)
        with connect(Path(name), write=False) as connection:
            assert connection.execute("SELECT count(*) FROM runs").fetchall() == [(0,)]
        with pytest.raises(StoreBusy), connect(Path(name), write=True, patience=0.0):
            pass


def test_a_look_while_this_process_writes_waits_like_any_other(tmp_path: Path) -> None:
    files = store(tmp_path)
    with connect(files.path, write=True) as connection:
        connection.execute("INSERT INTO runs (run) VALUES ('a')")
        with (
            pytest.raises(StoreBusy, match="try again"),
            connect(files.path, write=False, patience=0.1),
        ):
            pass
    assert rows(files, "SELECT run FROM runs") == [("a",)]


def test_a_look_that_failed_gives_back_its_share(tmp_path: Path) -> None:
    files = store(tmp_path)
    for _ in range(2):
        with pytest.raises(StoreError), connect(files.path, write=False) as connection:
            connection.execute("SELECT * FROM nothing")
    with connect(files.path, write=True, patience=0.0):
        pass


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{folder}/s.duckdb')",
        "ATTACH '{folder}/new.duckdb'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "INSERT INTO store.runs (run) VALUES ('a')",
    ],
)
def test_no_look_reaches_another_file_or_writes_whichever_came_first(
    tmp_path: Path, sql: str
) -> None:
    files = store(tmp_path)
    with connect(files.path, write=False):
        for _ in range(2):
            with pytest.raises(StoreError), connect(files.path, write=False) as connection:
                connection.execute(sql.format(folder=tmp_path))
    assert not (tmp_path / "new.duckdb").exists()


DROPPED_WHILE_OPENING = """
import signal, sys
from pathlib import Path
import duckdb
from agentloop.store import Store
from agentloop.store.files import connect
signal.alarm(60)
first, second = map(Path, sys.argv[1:])
look = connect(first, write=False)
look.__enter__()
really_connect = duckdb.connect
def drop_and_connect(*a, **k):
    global look
    look = None
    return really_connect(*a, **k)
duckdb.connect = drop_and_connect
print(Store(second).runs())
with connect(first, write=True, patience=0.0):
    print("free")
"""


def test_a_look_can_be_dropped_while_another_store_is_opened(tmp_path: Path) -> None:
    """Python drops a forgotten generator at any moment, in whichever thread runs."""
    other = tmp_path / "other"
    other.mkdir()
    with python(DROPPED_WHILE_OPENING, store(tmp_path).path, store(other).path) as process:
        assert process.communicate() == ("[]\nfree\n", "")


LOOK_IN_A_FORK = """
import os, signal, sys, warnings
from pathlib import Path
from agentloop.store.files import connect
warnings.simplefilter("ignore")  # Python advises against forks beside threads
store = Path(sys.argv[1])
with connect(store, write=False):
    if (child := os.fork()) == 0:
        signal.alarm(60)
        with connect(store, write=False) as connection:
            print(connection.execute("SELECT count(*) FROM runs").fetchall(), flush=True)
            sys.stdin.readline()
        os._exit(0)
print("left", flush=True)
os.waitpid(child, 0)
"""


def test_a_forked_process_has_a_look_of_its_own(tmp_path: Path) -> None:
    """What it inherited holds no lock: those are its parent's."""
    files = store(tmp_path)
    with python(LOOK_IN_A_FORK, files.path) as process:
        assert process.stdout
        assert {process.stdout.readline() for _ in range(2)} == {"[(0,)]\n", "left\n"}
        with pytest.raises(StoreBusy), connect(files.path, write=True, patience=0.0):
            pass
        assert process.communicate("\n") == ("", "")


def test_a_store_made_for_nothing_leaves_only_what_is_not_its_own(tmp_path: Path) -> None:
    files = store(tmp_path)
    for end in ("1a2b3c4d", "1a2b3c4d.part", "jsonl"):
        tmp_path.joinpath(f"s.duckdb.seeds.{end}").touch()
    tmp_path.joinpath("s.duckdb.inbox.jsonl").touch()
    files.discard()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"s.duckdb.seeds.jsonl", "s.duckdb.inbox.jsonl"}


def test_all_that_belongs_to_a_store_lies_beside_itself_and_not_beside_a_link(
    tmp_path: Path,
) -> None:
    (tmp_path / "scratch").mkdir()
    path, link = tmp_path / "scratch" / "s.duckdb", tmp_path / "link.duckdb"
    link.symlink_to("scratch/s.duckdb")
    assert Files(link).all == Files(path).all
    with Writer(link) as writer:
        writer.append(("runs", {"run": "a", "recipe": "r", "time": 1.0}))
        with pytest.raises(StoreError, match="is being"):
            Writer(path)
    assert link.is_symlink()
    assert Store(path).runs() == Store(link).runs() == ["a"]
    assert [place.name for place in tmp_path.iterdir() if place.is_file()] == ["link.duckdb"]
