"""What a long run keeps in memory: `python -m tests.faults.memory 20000`, from the repository's root.

Prints, every so many items, the resident memory and how many Python objects are alive; ends with one
JSON object.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import tempfile
from pathlib import Path

import agentloop as al
from agentloop.records import Event
from tests.builders import agent, tiny

EVERY = 2000
WIDE = 32
TEXT = "The river Elbe rises in the Giant Mountains and flows into the North Sea. " * 10


def peak_kb() -> int:
    """Return the most memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def now_kb() -> int:
    """Return the memory that this process has; its peak where `/proc` is missing."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_kb()
    return int(statm.read_text().split()[1]) * resource.getpagesize() // 1024


def seeds(folder: Path, items: int) -> Path:
    path = folder / "seeds.jsonl"
    with path.open("w") as file:
        for number in range(items):
            file.write(json.dumps({"passage": f"Passage {number}. {TEXT}"}) + "\n")
    return path


def measure(items: int, folder: Path, every: int = EVERY) -> list[dict[str, int]]:
    """Run that many items with a scripted model; return what was in memory on the way."""
    model = agent()
    settled = 0
    seen: list[dict[str, int]] = []

    def watch(event: Event) -> None:
        nonlocal settled
        model.requests.clear()  # the double remembers every request
        settled += event.kind == "settled"
        if event.kind == "settled" and settled % every == 0:
            gc.collect()
            blocks = sys.getallocatedblocks()
            seen.append(
                {"items": settled, "now_kb": now_kb(), "peak_kb": peak_kb(), "blocks": blocks}
            )
            print(json.dumps(seen[-1]), flush=True)  # noqa: T201

    run = al.run(
        tiny(folder), seeds=seeds(folder, items), store=folder / "m.duckdb", model=model,
        concurrency=WIDE, progress=watch,
    )  # fmt: skip
    assert run.counts["accepted"] == items
    return seen


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        measure(int(sys.argv[1]), Path(name), *map(int, sys.argv[2:]))
