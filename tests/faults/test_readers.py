"""While a run writes under faults, another process looks a hundred times and is answered each time.

`status`, `why` and `export` wait 3 s for a fold at most and then give up with exit code 2: that every
look ends with 0 says that none waited longer.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentloop.cli import run_cli
from agentloop.errors import StoreError
from agentloop.records import Json
from agentloop.store import Store
from agentloop.store.files import StoreBusy, connect
from tests.builders import SEEDS, agent, play, python
from tests.faults import work
from tests.faults.server import FaultyEndpoint

LOOKS, OTHER_LOOKS = 100, 20  # each twentieth time the others too
GROWS = ("accepted", "rejected", "ungradable", "failed", "seeds", "attempts", "calls", "requests",
         "prompt_tokens", "completion_tokens", "seconds")  # fmt: skip


def test_a_hundred_looks_during_a_run_are_a_hundred_answers(tmp_path: Path) -> None:
    work.prepare(tmp_path, 20_000)
    with FaultyEndpoint(work.say, rate=0.15, seed=4) as server:
        server.begin()
        run = work.start(tmp_path, server.url, "--concurrency", "16")
        item = first_settled(tmp_path, run)
        told = work.ask(tmp_path, *looks(item))
        assert run.poll() is None, "the run ended before the last look"
        run.send_signal(signal.SIGTERM)
        code, out, err = work.ended(run)
    assert code == 130, err
    check(told, json.loads(out))
    lines = (tmp_path / "now.jsonl").read_text().splitlines()
    assert len(lines) <= sum(json.loads(out)[v] for v in GROWS[:4])
    assert all(json.loads(line)["verdict"] for line in lines)


def first_settled(folder: Path, run: subprocess.Popen[str]) -> str:
    """Wait until the first item is told to those who look; return its name."""
    while True:
        assert run.poll() is None, run.communicate()
        try:
            for row in Store(folder / work.STORE).examples(verdict="all"):
                return str(row["item"])
        except StoreError:  # not made yet, or empty
            continue


def looks(item: str) -> list[tuple[str, ...]]:
    """Return what the other process asks: `status`, and now and then the rest."""
    export = ("export", work.STORE, "--shape", "raw", "--verdict", "all", "-o", "now.jsonl")
    lines: list[tuple[str, ...]] = []
    for number in range(LOOKS):
        lines.append(("status", work.STORE, "--json"))
        lines += [export, ("why", work.STORE, item)] if number % OTHER_LOOKS == 0 else []
    return lines


def check(told: Sequence[work.Told], at_the_end: dict[str, Any]) -> None:
    assert [t.code for t in told] == [0] * (LOOKS + 2 * (LOOKS // OTHER_LOOKS)), [
        t.err for t in told if t.code
    ]
    counts = [json.loads(t.out) for t in told if t.out.startswith("{")]
    assert len(counts) == LOOKS
    for earlier, later in zip(counts, [*counts[1:], at_the_end], strict=True):
        assert all(earlier[key] <= later[key] for key in GROWS)
    assert counts[-1]["calls"] > counts[0]["calls"], "nothing was folded meanwhile"
    exported = [int(t.err.split()[0].replace(",", "")) for t in told if "lines in" in t.err]
    assert (len(exported), exported) == (LOOKS // OTHER_LOOKS, sorted(exported))
    stories = {t.out for t in told if t.out.startswith("item ")}
    assert len(stories) == 1, "a settled item's story changed"


TRY_TO_WRITE = """
import sys
from pathlib import Path
from agentloop.store.files import StoreBusy, connect
try:
    with connect(Path(sys.argv[1]), write=True, patience=0.0):
        print("it got in")
except StoreBusy:
    print("it has to wait")
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with two accepted items."""
    play(tmp_path, agent(), seeds=SEEDS[:2], store=tmp_path / work.STORE)
    return tmp_path / work.STORE


def another_writes(store: Path) -> str:
    """Let another process open the store for writing; return what it says."""
    told = work.ended(python(TRY_TO_WRITE, work.STORE, cwd=store.parent))
    assert told.code == 0, told.err
    return told.out.strip()


IN, OUT = "it got in", "it has to wait"


def test_a_look_within_a_look_lets_no_writer_in(store: Path) -> None:
    """A process that closes a file loses all its locks on it, also those of its other looks."""
    for row in Store(store).examples():
        Store(store).item(row["item"])
        assert another_writes(store) == OUT
    assert another_writes(store) == IN


def test_a_look_left_halfway_is_no_look_any_more(store: Path) -> None:
    first, second = Store(store).examples(), Store(store).examples()
    assert next(first)["item"] == next(second)["item"]
    first.close()  # type: ignore[attr-defined]
    assert another_writes(store) == OUT
    assert next(second)
    del second
    assert another_writes(store) == IN


def test_looks_in_many_threads_let_no_writer_in_before_the_last_one_ends(store: Path) -> None:
    """Some of them end by an error."""
    stories = {row["item"]: Store(store).item(row["item"]).why() for row in Store(store).examples()}

    def look(number: int) -> None:
        item = sorted(stories)[number % 2]
        assert Store(store).item(item).why() == stories[item]
        with pytest.raises(StoreError):
            list(Store(store).examples(where="cast(item AS INTEGER) > 0"))

    with ThreadPoolExecutor(8) as threads:
        rows = Store(store).examples()
        next(rows)
        list(threads.map(look, range(40)))
        assert another_writes(store) == OUT
        assert len(list(rows)) == 1
        list(threads.map(look, range(40)))
    assert another_writes(store) == IN


def test_a_fold_of_the_same_process_waits_for_a_look_and_lets_no_other_in(store: Path) -> None:
    rows = Store(store).examples()
    next(rows)
    with pytest.raises(StoreBusy, match="another part of this process"), connect(store, write=True):
        pass
    assert another_writes(store) == OUT
    assert len(list(rows)) == 1
    with connect(store, write=True, patience=0.0):
        pass


def test_status_is_one_look(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its counts and its reasons are of one state: nobody writes between them."""
    counts, told = Store.counts, []

    def count(self: Store, run: str | None = None, grading: int = 0) -> Json:
        told.append(another_writes(store))
        return counts(self, run, grading)

    monkeypatch.setattr(Store, "counts", count)
    assert run_cli(["status", str(store)]) == 0
    assert told == [OUT]
    assert "2 accepted" in capsys.readouterr().out
