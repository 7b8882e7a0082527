"""While a run writes under faults, another process looks a hundred times and is answered each time.

`status`, `why` and `export` wait 3 s for a fold at most and then give up with exit code 2: that every
look ends with 0 says that none waited longer.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentloop.errors import StoreError
from agentloop.store import Store
from agentloop.store.files import connect
from agentloop.store.writer import Writer
from tests.builders import python
from tests.faults import work
from tests.faults.server import FaultyEndpoint

LOOKS, OTHER_LOOKS = 100, 20  # each twentieth time the others too
GROWS = ("accepted", "rejected", "ungradable", "failed", "seeds", "attempts", "calls", "requests",
         "prompt_tokens", "completion_tokens", "seconds")  # fmt: skip

LETS_GO = (
    "closing the inner look's file frees the outer look's lock: a fold rewrites what is being read"
)


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


@pytest.mark.xfail(reason=LETS_GO, raises=AssertionError)
def test_a_look_within_a_look_lets_no_writer_in(tmp_path: Path) -> None:
    """A process that closes a file loses all its locks on it, also those of its other looks."""
    Writer(tmp_path / work.STORE).close()
    with connect(tmp_path / work.STORE, write=False):
        assert Store(tmp_path / work.STORE).runs() == []
        told = work.ended(python(TRY_TO_WRITE, work.STORE, cwd=tmp_path))
    assert (told.code, told.out) == (0, "it has to wait\n")
