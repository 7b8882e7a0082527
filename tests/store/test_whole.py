"""A database that lacks its end is told from one that is merely shorter than its header says."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import StoreError
from agentloop.store import Store
from agentloop.store.files import Appender, Files, connect, fold, prepare
from agentloop.store.whole import is_cut_off
from agentloop.store.writer import Writer
from tests.builders import python

GROWTH = (3000, 5, 50, 5, 500, 5, 5, 2000, 50, 5)  # rows a fold
SHARES = (0.5, 0.9, 0.95, 0.97, 0.99, 0.999)


def grow(files: Files, number: int, rows: int) -> None:
    with closing(Appender(files.journal)) as appender:
        appender.append(
            [
                ("calls", {"rid": f"{number}-{n}", "run": "a", "text": f"{n} " * 300})
                for n in range(rows)
            ]
        )
    fold(files)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, int]]:
    """A store as it was after each of several folds, and the size that its header tells."""
    files = Files(tmp_path_factory.mktemp("grown") / "s.duckdb")
    prepare(files.path)
    states = []
    for number, rows in enumerate((0, *GROWTH)):
        grow(files, number, rows)
        with connect(files.path, write=False) as connection:
            ((size, blocks),) = connection.execute(
                "SELECT block_size, total_blocks FROM pragma_database_size() "
                "WHERE database_name = 'store'"
            ).fetchall()
        states.append((files.path.read_bytes(), 3 * 4096 + size * blocks))
    return states


def test_no_sound_store_is_taken_for_a_damaged_one(
    grown: list[tuple[bytes, int]], tmp_path: Path
) -> None:
    """Also where DuckDB dropped free blocks at the end and left its header as it was."""
    store = tmp_path / "s.duckdb"
    for content, _ in grown:
        store.write_bytes(content)
        assert not is_cut_off(store)
    assert any(len(content) < told for content, told in grown)
    assert any(len(content) == told for content, told in grown)


def test_every_cut_is_found(grown: list[tuple[bytes, int]], tmp_path: Path) -> None:
    store = tmp_path / "s.duckdb"
    for content, _ in grown:
        sizes = {len(content) - 1, *(int(len(content) * share) for share in SHARES)}
        for size in sizes:
            store.write_bytes(content[:size])
            assert is_cut_off(store) or not can_be_opened(store), (size, len(content))


def can_be_opened(store: Path) -> bool:
    try:
        with connect(store, write=False):
            return True
    except StoreError:
        return False


def test_what_was_written_behind_the_last_block_is_no_harm(
    grown: list[tuple[bytes, int]], tmp_path: Path
) -> None:
    content, told = grown[-1]
    (tmp_path / "s.duckdb").write_bytes(content + bytes(max(told - len(content), 0) + 300_000))
    assert not is_cut_off(tmp_path / "s.duckdb")


KILLED_BEFORE_A_CHECKPOINT = """
import os, sys
from pathlib import Path
from agentloop.store.files import connect
with connect(Path(sys.argv[1]), write=True) as connection:
    connection.execute("INSERT INTO runs (run, recipe, time) VALUES ('late', 'r', 9.0)")
    os._exit(0)
"""


@pytest.fixture
def logged(tmp_path: Path) -> Files:
    """A store whose writer was killed: its last rows stand in the write-ahead log alone."""
    files = Files(tmp_path / "s.duckdb")
    prepare(files.path)
    grow(files, 0, 500)
    with python(KILLED_BEFORE_A_CHECKPOINT, files.path) as writer:
        assert writer.communicate() == ("", "")
    assert files.wal.stat().st_size
    return files


def test_a_store_with_a_log_is_sound(logged: Files) -> None:
    assert not is_cut_off(logged.path)
    Writer(logged.path).close()
    assert Store(logged.path).runs() == ["late"]
    assert not logged.wal.exists()


def test_a_damaged_store_with_a_log_is_refused_and_both_are_left_as_they_are(
    logged: Files,
) -> None:
    content = logged.path.read_bytes()[:-1]
    logged.path.write_bytes(content)
    log = logged.wal.read_bytes()
    with pytest.raises(StoreError, match="its end was cut off"):
        Writer(logged.path)
    assert (logged.path.read_bytes(), logged.wal.read_bytes()) == (content, log)


@pytest.mark.parametrize("share", [0.95, 0.97, 0.99, 0.999])
def test_a_writer_refuses_a_damaged_store_and_readers_read_what_is_left(
    grown: list[tuple[bytes, int]], tmp_path: Path, share: float
) -> None:
    files = Files(tmp_path / "s.duckdb")
    content = grown[-1][0]
    content = content[: int(len(content) * share)]
    files.path.write_bytes(content)
    line = '{"t": "runs", "r": {"run": "late", "recipe": "r", "time": 9.0}}\n'
    files.journal.write_text(line)
    with pytest.raises(StoreError, match="its end was cut off") as caught:
        Writer(files.path)
    assert "\n" not in str(caught.value)
    assert Store(files.path).runs() == []
    assert (files.path.read_bytes(), files.journal.read_text()) == (content, line)


@pytest.mark.parametrize("content", [b"", b"my shopping list", bytes(20_000), b"\xff" * 20_000])
def test_what_is_no_database_is_for_duckdb_to_refuse(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.duckdb").write_bytes(content)
    assert not is_cut_off(tmp_path / "s.duckdb")


def test_what_cannot_be_read_is_for_duckdb_to_refuse(tmp_path: Path) -> None:
    assert not is_cut_off(tmp_path)
    assert not is_cut_off(tmp_path / "none")


@given(place=st.integers(0, 3 * 4096 - 1), noise=st.binary(min_size=1, max_size=60))
def test_a_damaged_header_is_no_reason_to_fail(
    grown: list[tuple[bytes, int]],
    tmp_path_factory: pytest.TempPathFactory,
    place: int,
    noise: bytes,
) -> None:
    store = tmp_path_factory.getbasetemp() / "noise.duckdb"
    content = next(content for content, told in grown if len(content) < told)
    store.write_bytes(content[:place] + noise + content[place + len(noise) :])
    assert is_cut_off(store) in (True, False)


NOWHERE = 2**64 - 1


def lay_out(store: Path, blocks: int, *numbers: int) -> None:
    """Write a file with two blocks whose header tells of `blocks`, and a list in its first block."""
    header = bytes(8) + coded(1, NOWHERE, 0, blocks, 16_384)
    first = bytes(8) + coded(*numbers)
    store.write_bytes(bytes(4096) + header.ljust(4096, b"\0") * 2 + first.ljust(2 * 16_384, b"\0"))


def coded(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


@pytest.mark.parametrize(
    ("blocks", "free", "cut_off"),
    [
        (2, [], False),
        (3, [], True),
        (3, [2], False),
        (3, [0, 2], False),
        (3, [1], True),
        (5, [2, 4], True),
        (5, [2, 3, 4], False),
        (4, [1, 0], False),  # DuckDB writes rising numbers: this is something else
        (4, [1, 1], False),
        (4, [9], False),
    ],
)
def test_a_block_that_is_not_there_must_be_free(
    tmp_path: Path, blocks: int, free: list[int], cut_off: bool
) -> None:
    lay_out(tmp_path / "s.duckdb", blocks, NOWHERE, len(free), *free)
    assert is_cut_off(tmp_path / "s.duckdb") == cut_off


@pytest.mark.parametrize("follows", [0, 1, NOWHERE, 2**56 - 1, 2**62])
@pytest.mark.parametrize("length", [2**10, 2**40, 2**64 - 1])
def test_a_list_without_an_end_is_not_understood(tmp_path: Path, follows: int, length: int) -> None:
    lay_out(tmp_path / "s.duckdb", 3, follows, length)
    assert not is_cut_off(tmp_path / "s.duckdb")
