"""A run inside an event loop that is there already, as in a notebook."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.builders import agent, environment, serving, write_graph, write_seeds

KERNEL = """
import asyncio, json, os, signal, sys
import agentloop as al

interrupts = []
signal.signal(signal.SIGINT, lambda *_: interrupts.append("the notebook's own"))

def stop_soon(event):
    if event.kind == "settled" and event.data["counts"]["accepted"] == 3:
        os.kill(os.getpid(), signal.SIGINT)

async def cells():
    graph, seeds, url = sys.argv[1:]
    given = dict(seeds=seeds, store="s.duckdb", model="openai/x", base_url=url, concurrency=1)
    first = await al.arun(graph, progress=stop_soon, **given)
    os.kill(os.getpid(), signal.SIGINT)  # between two cells
    await asyncio.sleep(0)
    second = await al.arun(graph, **given)
    print(json.dumps([first.stopped_by, first.exit_code, second.stopped_by, second.counts, interrupts]))

asyncio.run(cells())
"""


def test_an_interrupt_stops_the_run_and_not_the_notebook(tmp_path: Path) -> None:
    with serving(agent()) as server:
        line = [str(write_graph(tmp_path)), str(write_seeds(tmp_path, 12)), server.url]
        done = subprocess.run(
            [sys.executable, "-c", KERNEL, *line],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(),
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    stopped_by, exit_code, then, counts, interrupts = json.loads(done.stdout)
    assert (stopped_by, exit_code) == ("interrupt", 130)
    assert (then, counts["accepted"]) == ("seeds", 12)
    assert counts["calls"] == counts["requests"] == server.requests == 24
    assert interrupts == ["the notebook's own"]
