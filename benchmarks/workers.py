"""What more processes give: items a second with one and two workers, and what the driver pays an item.

    python benchmarks/workers.py
    python benchmarks/workers.py --workers 1,2,4 --items 800 --engines local

Two kinds of work. `busy`: the model answers inside the workers, and an in-process check burns 20 ms.
`endpoint`: three calls an item over a loopback endpoint in a process of its own, and no such check; on
two cores that one, the driver and the workers share them. Counted from the first tenth of the items
settled to the last tenth, so that starting up and ending are no part of it. One worker is the run's own
process; of the engine `ray` it is one actor. `driver_cpu_ms` is the CPU time an item of the process
that drives, `loop_cpu_ms` that of its event loop's thread: what lies between are mostly the store's
folds, one every few seconds however few items there are. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from endpoint import serving
from items import ROOT, write_seeds

import agentloop as al
from agentloop.records import Event

WIDTH = 32


def measured(recipe: Path, folder: Path, items: int, **settings: Any) -> dict[str, float]:
    """Run so many items; return what was measured between the first tenth and the last."""
    at: list[tuple[float, float, float]] = []

    def note(event: Event) -> None:
        if event.kind == "settled":
            at.append((time.perf_counter(), time.process_time(), time.thread_time()))

    run = al.run(
        str(recipe),
        seeds=write_seeds(folder / "seeds.jsonl", items),
        store=folder / "s.duckdb",
        concurrency=WIDTH,
        audit="off",
        canaries="off",
        progress=note,
        **settings,
    )
    assert run.counts["accepted"] + run.counts["rejected"] == items, run.counts
    first, last = at[items // 10], at[items - items // 10]
    count = items - 2 * (items // 10)
    return {
        "items_a_second": round(count / (last[0] - first[0]), 1),
        "driver_cpu_ms": round(1000 * (last[1] - first[1]) / count, 2),
        "loop_cpu_ms": round(1000 * (last[2] - first[2]) / count, 2),
    }


def one(engine: str, kind: str, workers: int, items: int) -> dict[str, float]:
    """Measure in this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "busy":
            from busy import Quick

            recipe = ROOT / "benchmarks" / "busy.py"
            return measured(recipe, folder, items, model=Quick(), workers=workers, engine=engine)
        with serving(0.005) as url:
            recipe = ROOT / "benchmarks" / "three_calls.py"
            model = {"model": "openai/fake", "base_url": url, "client": "direct"}
            return measured(recipe, folder, items, workers=workers, engine=engine, **model)


def apart(*arguments: str) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", *arguments]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)
    found: dict[str, float] = json.loads(told.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--engines", default="local,ray")
    parser.add_argument(
        "--one", nargs=3, metavar=("ENGINE", "KIND", "WORKERS"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.one:
        engine, kind, workers = options.one
        print(json.dumps(one(engine, kind, int(workers), options.items)))
        return
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "items": options.items,
    }
    for engine in options.engines.split(","):
        report[engine] = {}
        for kind in ("busy", "endpoint"):
            rows = {
                workers: apart(engine, kind, workers, "--items", str(options.items))
                for workers in options.workers.split(",")
            }
            alone = next(iter(rows.values()))["items_a_second"]
            for row in rows.values():
                row["speed_up"] = round(row["items_a_second"] / alone, 2)
            report[engine][kind] = rows
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
