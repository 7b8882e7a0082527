"""One writer: what it took is safe, whoever dies, whoever reads."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agentloop.errors import StoreError
from agentloop.records import Json
from agentloop.store import Store
from agentloop.store.files import Files, connect
from agentloop.store.writer import Writer, pause
from tests.builders import python

HOLD = """
import sys
from agentloop.store.writer import Writer
with Writer(sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.readline()
"""
APPEND = """
import sys
from agentloop.store import writer
writer.FOLD_SECONDS, writer.FOLD_LINES = 0.02, 50
with writer.Writer(sys.argv[1]) as w:
    for n in range(int(sys.argv[2])):
        w.append(("calls", {"rid": f"r{n}", "run": "a", "item": "i", "key": str(n), "text": "x" * 300}))
        print(n, flush=True)
"""
READ = """
import sys
from pathlib import Path
from agentloop.store.files import connect
with connect(Path(sys.argv[1]), write=False):
    print("ready", flush=True)
    sys.stdin.readline()
"""
FULL = """
import resource, signal, sys
from agentloop.errors import StoreError
from agentloop.store import writer
writer.FOLD_SECONDS = 1e6
w = writer.Writer(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
try:
    for n in range(100):
        w.append(("calls", {"rid": f"r{n}", "run": "a", "item": "i", "key": str(n)}))
        print(n, flush=True)
except StoreError as error:
    print(error, file=sys.stderr)
try:
    w.append(("calls", {"rid": "after", "run": "a", "item": "i", "key": "after"}))
except StoreError:
    print("still refused", file=sys.stderr)
import os; os._exit(0)
"""
READ_ONLY = """
import os, sys
import duckdb, orjson, pydantic
from agentloop import errors
from agentloop.store import Store, writer, journal, story, schema
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    if sys.argv[2] == "read":
        print(Store("s.duckdb").runs())
    else:
        writer.Writer("s.duckdb")
except errors.StoreError as error:
    print(f"refused: {error}")
"""


def run_row(name: str = "a", time: float = 1.0) -> tuple[str, Json]:
    return "runs", {"run": name, "recipe": "r", "time": time, "identity": {}, "versions": {}}


def calls(path: Path) -> list[int]:
    with connect(path, write=False) as connection:
        return [
            int(row[0])
            for row in connection.execute("SELECT key FROM calls ORDER BY key::INT").fetchall()
        ]


def test_what_was_appended_can_be_read_after_close_and_files_are_gone(tmp_path: Path) -> None:
    with Writer(tmp_path / "s.duckdb") as writer:
        writer.append(run_row())
    assert Store(tmp_path / "s.duckdb").runs() == ["a"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.duckdb", "s.duckdb.lock"]


def test_flush_puts_rows_where_readers_see_them_while_the_writer_lives(tmp_path: Path) -> None:
    with Writer(tmp_path / "s.duckdb") as writer:
        writer.append(run_row())
        writer.flush()
        assert Store(tmp_path / "s.duckdb").runs() == ["a"]
        writer.append(run_row("b", 2.0))
    assert Store(tmp_path / "s.duckdb").runs() == ["b", "a"]


def test_closing_twice_is_safe(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "s.duckdb")
    writer.close()
    writer.close()
    Writer(tmp_path / "s.duckdb").close()


def test_row_ids_are_never_twice_the_same(tmp_path: Path) -> None:
    with Writer(tmp_path / "s.duckdb") as writer:
        assert len({writer.row_id() for _ in range(10_000)}) == 10_000


def test_a_second_writer_is_refused_with_the_owners_pid(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with python(HOLD, path) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "ready\n"
        with pytest.raises(StoreError, match=f"written by process {owner.pid}"):
            Writer(path)
        assert Store(path).runs() == []  # reading goes on
        owner.communicate("\n")
    Writer(path).close()


def test_a_second_writer_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with Writer(tmp_path / "s.duckdb"), pytest.raises(StoreError, match="being written by process"):
        Writer(tmp_path / "s.duckdb")


def test_the_lock_of_a_killed_owner_is_free(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with python(HOLD, path) as owner:
        assert owner.stdout
        owner.stdout.readline()
        owner.kill()
    with Writer(path) as writer:
        writer.append(run_row())


@pytest.mark.parametrize("after", [0, 7, 333])
def test_nothing_that_append_returned_from_is_lost_to_kill_9(tmp_path: Path, after: int) -> None:
    path = tmp_path / "s.duckdb"
    seen = -1
    with python(APPEND, path, "100000") as writer:
        assert writer.stdout
        for line in writer.stdout:
            seen = int(line)
            if seen >= after:
                writer.send_signal(signal.SIGKILL)
    Store(path)
    found = calls(path)
    assert found == list(range(len(found)))
    assert len(found) > seen >= after


def test_readers_get_in_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    counts = []
    with python(APPEND, path, "4000") as writer:
        assert writer.stdout
        writer.stdout.readline()
        for number, _ in enumerate(writer.stdout):
            if number % 100 == 0:
                assert Store(path).runs() == []
                counts.append(len(calls(path)))
        writer.wait()
    assert counts == sorted(counts)
    assert counts[-1] > 0
    assert calls(path) == list(range(4000))


def test_a_full_disk_is_said_and_what_was_taken_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with python(FULL, path) as writer:
        said, wrong = writer.communicate()
    taken = [int(n) for n in said.split()]
    assert taken
    assert "Traceback" not in wrong
    assert "cannot be written" in wrong or "the disk is full" in wrong
    assert "still refused" in wrong
    Store(path)
    assert calls(path) == taken


def test_a_missing_folder_is_refused_and_nothing_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no folder"):
        Writer(tmp_path / "no" / "s.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    path.write_text("my shopping list")
    with pytest.raises(StoreError, match="cannot be opened"):
        Writer(path)
    assert path.read_text() == "my shopping list"


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "mine.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE items (a INTEGER)")
    with pytest.raises(StoreError):
        Writer(path)
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [
            ("items",)
        ]


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder that nobody may write to, where somebody without rights can look."""
    with tempfile.TemporaryDirectory(prefix="agentloop-test-") as name:
        yield Path(name)
        Path(name).chmod(0o755)


@pytest.mark.parametrize("pending", [False, True])
def test_a_store_in_a_read_only_folder_can_be_read(locked_folder: Path, pending: bool) -> None:
    path = locked_folder / "s.duckdb"
    with Writer(path) as writer:
        writer.append(run_row())
    if pending:
        Files(path).journal.write_text('{"t": "runs", "r": {"run": "later", "time": 2.0}}\n')
    read_only(locked_folder)
    with python(READ_ONLY, locked_folder, "read") as reader:
        assert reader.communicate() == ("['a']\n", "")


def test_a_writer_in_a_read_only_folder_is_refused_in_words(locked_folder: Path) -> None:
    read_only(locked_folder)
    with python(READ_ONLY, locked_folder, "write") as writer:
        said, wrong = writer.communicate()
    assert said.startswith("refused: store `s.duckdb` cannot be written")
    assert wrong == ""


def read_only(folder: Path) -> None:
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)


@pytest.mark.parametrize("where", ["in another process", "in this process"])
def test_a_reader_only_delays_a_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr("agentloop.store.writer.FOLD_LINES", 1)
    path = tmp_path / "s.duckdb"
    with Writer(path) as writer:
        with held_elsewhere(path) if "another" in where else connect(path, write=False):
            writer.append(run_row())
            while not writer.files.folding.exists():
                pass
            writer.append(run_row("b", 2.0))
        writer.append(run_row("c", 3.0))
    assert Store(path).runs() == ["c", "b", "a"]


def test_a_reader_that_outlasts_the_writer_costs_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentloop.store.writer.LAST_PATIENCE", 0.2)
    writer = Writer(tmp_path / "s.duckdb")
    with held_elsewhere(tmp_path / "s.duckdb"):
        writer.append(run_row())
        with suppress(StoreError):
            writer.close()
    assert Store(tmp_path / "s.duckdb").runs() == ["a"]


@contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """A slow export in another process."""
    with python(READ, path) as reader:
        assert reader.stdout
        assert reader.stdout.readline() == "ready\n"
        yield
        reader.communicate("\n")


def test_dear_folds_come_seldomer_and_nobody_waits_for_ever() -> None:
    assert [pause(took) for took in (0.0, 0.01, 0.05, 3.0)] == [2.0, 2.0, 5.0, 10.0]
