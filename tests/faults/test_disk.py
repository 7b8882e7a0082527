"""When the disk says no: one clear line, exit code 2, and what was committed is still there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pytest

from agentloop.store import Store
from agentloop.store.files import Files
from tests.builders import python
from tests.faults import work
from tests.faults.server import FaultyEndpoint

ITEMS, FILLER = 150, 4000
NO_ROOM = ("No space left", "disk is full", "File too large")
LIMITED = """
import resource, sys
from agentloop.cli import run_cli
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(run_cli(sys.argv[2:]))
"""
SHARES = (0.0, 0.001, 0.02, 0.3, 0.6)
STATUS, EXPORT = ("status", work.STORE), ("export", work.STORE)


@pytest.fixture
def server() -> Iterator[FaultyEndpoint]:
    with FaultyEndpoint(work.say, latency=0.0) as endpoint:
        endpoint.begin()
        yield endpoint


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    if sys.platform != "linux" or mount(*how, str(folder)):
        pytest.skip("nothing can be mounted here: it needs Linux and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(*how: str) -> int:
    try:
        return subprocess.run(["mount", *how], capture_output=True).returncode
    except FileNotFoundError:
        return 1


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Forbid writing to a folder: by its mode, or for root by a mount over it."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    with mounted(folder, "--bind", str(folder)):
        assert mount("-o", "remount,bind,ro", str(folder)) == 0
        yield


def is_one_clear_line(err: str, words: Sequence[str] = ()) -> bool:
    """Whether the store is named in a single line, with one of the words where some are given."""
    known = not words or any(word in err for word in words)
    return known and err.count("\n") == 1 and err.startswith("agentloop: ") and work.STORE in err


def settled(store: Path) -> set[str]:
    return {row["item"] for row in Store(store).examples(verdict="all")}


def check_goes_on(folder: Path, server: FaultyEndpoint, store: str = work.STORE) -> None:
    """Once there is room the run ends: nothing is lost, only what was in hand is asked again."""
    kept = settled(folder / store) if server.requests else set()
    server.begin()
    (told,) = work.ask(folder, work.line(server.url, "--concurrency", "16", store=store))
    assert told.code == 0, told.err
    first, second = ({e.call for e in server.of(s) if e.answered} for s in (1, 2))
    assert len(first & second) <= 16
    assert json.loads(told.out)["calls"] == len(first | second)
    assert kept <= settled(folder / store)
    assert len(settled(folder / store)) == ITEMS


@contextmanager
def full_disk(folder: Path, server: FaultyEndpoint, kilobytes: int) -> Iterator[str]:
    """Run into a store on a disk of that size until it is full; it stays so within the block."""
    work.prepare(folder, ITEMS, FILLER)
    with mounted(folder / "disk", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none"):
        store = f"disk/{work.STORE}"
        line = work.line(server.url, "--concurrency", "16", store=store)
        (told,) = work.ask(folder, line)
        assert (told.code, told.out) == (2, ""), told.err
        assert is_one_clear_line(told.err, NO_ROOM), told.err
        yield store


@pytest.mark.parametrize(
    "kilobytes",
    [
        400,  # the store cannot be made
        1200,  # the store can be made, but nothing folded into it
    ],
)
def test_a_full_disk_stops_the_run_and_nothing_is_lost(
    tmp_path: Path, server: FaultyEndpoint, kilobytes: int
) -> None:
    with full_disk(tmp_path, server, kilobytes) as store:
        assert mount("-o", "remount,size=64m", str(tmp_path / "disk")) == 0
        check_goes_on(tmp_path, server, store)


def test_a_store_can_be_read_while_the_disk_is_full(tmp_path: Path, server: FaultyEndpoint) -> None:
    """What was folded before is told, though what a killed run left cannot be folded now."""
    work.prepare(tmp_path, ITEMS, FILLER)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64m", "none") as disk:
        store = f"disk/{work.STORE}"
        (ran,) = work.ask(tmp_path, work.line(server.url, "--concurrency", "16", store=store))
        left = {"rid": "x", "run": json.loads(ran.out)["run"], "item": "i", "text": "a" * 10**6}
        journal = Files(tmp_path / store).journal
        journal.write_bytes(json.dumps({"t": "calls", "r": left}).encode() + b"\n")
        with suppress(OSError), (disk / "filler").open("wb", 0) as filler:
            while filler.write(bytes(4096)):
                pass
        (told,) = work.ask(tmp_path, ("status", store, "--json"))
        assert told.code == 0, told.err
        assert json.loads(told.lasting().out) == json.loads(ran.out)
        (disk / "filler").unlink()
        Store(tmp_path / store)
        assert not journal.exists()


def test_a_file_that_may_not_grow_stops_the_run_and_nothing_is_lost(
    tmp_path: Path, server: FaultyEndpoint
) -> None:
    """The kernel's limit for one file, where nothing can be mounted."""
    work.prepare(tmp_path, ITEMS, FILLER)
    line = work.line(server.url, "--concurrency", "16")
    code, _, err = work.ended(python(LIMITED, str(700 * 1024), *line, cwd=tmp_path))
    assert code == 2, err
    assert is_one_clear_line(err, NO_ROOM), err
    check_goes_on(tmp_path, server)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The store of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    work.prepare(folder, 20)
    with FaultyEndpoint(work.say, latency=0.0) as server:
        server.begin()
        assert work.ended(work.start(folder, server.url)).code == 0
    return (folder / work.STORE).read_bytes()


@pytest.fixture
def store(tmp_path: Path, finished: bytes) -> Path:
    """The store of a finished run, with the run's seeds and one more beside it."""
    work.prepare(tmp_path, 21)
    (tmp_path / work.STORE).write_bytes(finished)
    return tmp_path / work.STORE


def everything(url: str, store: str = work.STORE) -> list[tuple[str, ...]]:
    """Return the lines of all that can be done with a store: looking, and going on with its run."""
    looks = [("status", store), ("status", store, "--json"), ("why", store, "a"), ("export", store)]
    return [*looks, work.line(url, store=store)]


def test_a_new_store_in_a_read_only_folder_is_refused_before_any_call(
    tmp_path: Path, server: FaultyEndpoint
) -> None:
    work.prepare(tmp_path, 20)
    with read_only(tmp_path):
        code, out, err = work.ended(work.start(tmp_path, server.url))
    assert (code, out, server.requests) == (2, "", 0)
    assert is_one_clear_line(err), err


def test_a_store_in_a_read_only_folder_is_read_and_not_written(
    store: Path, server: FaultyEndpoint
) -> None:
    items = settled(store)
    with read_only(store.parent):
        why = ("why", work.STORE, min(items))
        *looks, run = work.ask(store.parent, STATUS, why, EXPORT, work.line(server.url))
    assert [(look.code, look.err, bool(look.out)) for look in looks] == [(0, "", True)] * 3
    assert (run.code, run.out, server.requests) == (2, "", 0)
    assert is_one_clear_line(run.err), run.err
    assert settled(store) == items


def test_a_store_from_a_newer_schema_is_refused_and_left_as_it_is(
    store: Path, server: FaultyEndpoint
) -> None:
    items = settled(store)
    with duckdb.connect(str(store)) as connection:
        connection.execute("INSERT INTO migrations VALUES (999, now())")
    content = store.read_bytes()
    for code, out, err in work.ask(store.parent, *everything(server.url)):
        assert (code, out, server.requests) == (2, "", 0)
        assert is_one_clear_line(err, ["schema 999"]), err
        assert "upgrade" in err
    assert store.read_bytes() == content
    with duckdb.connect(str(store)) as connection:
        connection.execute("DELETE FROM migrations WHERE version = 999")
    assert settled(store) == items


def test_a_truncated_store_is_refused_and_left_as_it_is(
    store: Path, server: FaultyEndpoint
) -> None:
    whole, lines = store.read_bytes(), []
    cuts = {f"{share}-{work.STORE}": whole[: int(len(whole) * share)] for share in SHARES}
    for name, content in cuts.items():
        (store.parent / name).write_bytes(content)
        lines += everything(server.url, name)
    for code, out, err in work.ask(store.parent, *lines):
        assert (code, out, server.requests) == (2, "", 0), err
        assert is_one_clear_line(err), err
    assert {name: (store.parent / name).read_bytes() for name in cuts} == cuts


@pytest.mark.parametrize("share", [0.95, 0.97, 0.99, 0.9999])
def test_a_run_into_a_store_that_lacks_its_end_asks_nothing(
    store: Path, server: FaultyEndpoint, share: float
) -> None:
    """Though what the run would read first is still there."""
    content = store.read_bytes()
    content = content[: int(len(content) * share)]
    store.write_bytes(content)
    files = {*store.parent.iterdir(), Files(store).lock}
    code, out, err = work.ended(work.start(store.parent, server.url))
    assert (code, out, server.requests) == (2, "", 0), err
    assert is_one_clear_line(err, ["its end was cut off"]), err
    assert store.read_bytes() == content
    compiled = store.parent / "__pycache__"  # of the recipe's file
    assert {*store.parent.iterdir()} - {compiled} <= files


@pytest.mark.parametrize("share", [0.8, 0.97])
def test_what_a_truncated_store_still_holds_can_be_read(store: Path, share: float) -> None:
    """What lies behind the cut may be free, or wanted by some looks only: told right, or refused."""
    looks = [("status", work.STORE, "--json"), ("why", work.STORE, min(settled(store))), EXPORT]
    whole = work.ask(store.parent, *looks)
    content = store.read_bytes()
    store.write_bytes(content[: int(len(content) * share)])
    for told, right in zip(work.ask(store.parent, *looks), whole, strict=True):
        same = told.lasting() == right.lasting()
        assert same or (told.code == 2 and is_one_clear_line(told.err)), told
