"""What an item costs: CPU, memory and wall time of whole runs, by the command line, everything on.

    python benchmarks/items.py                    # CPU an item, between 1,000 and 5,000 items
    python benchmarks/items.py --sizes 1000 --latency 0.2 --width 64     # wall beside the ideal

An item is three calls (`three_calls.py`): a draft, its revision, the grade; with journal, limits,
checks, near-duplicates and the watch on variety, without audits and canaries, which would be calls
more. The endpoint is another process. The cost of an item is the slope between two sizes, so that
starting up and ending are no part of it. The ideal wall is calls × latency ÷ width. Prints
one JSON object.
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
from itertools import pairwise
from pathlib import Path

from endpoint import serving

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "benchmarks" / "three_calls.py"
CALLS = 3


def write_seeds(path: Path, count: int) -> Path:
    """Write so many different passages."""
    rows = (ROOT / "examples" / "passages.jsonl").read_text().splitlines()
    passages = [json.loads(row)["passage"] for row in rows]
    with path.open("w") as file:
        for number in range(count):
            passage = f"{passages[number % len(passages)]} ({number})"
            file.write(json.dumps({"passage": passage}) + "\n")
    return path


def measured(command: list[str]) -> tuple[dict[str, float], str]:
    """Run a command; return CPU and wall seconds, peak resident MB, and its output."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        out.seek(0)
        told = out.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {told}")
    found = {
        "cpu_s": round(used.ru_utime + used.ru_stime, 3),
        "wall_s": round(wall, 3),
        "peak_mb": round(used.ru_maxrss / 1024, 1),
    }
    return found, told


def run(url: str, items: int, width: int, folder: Path, *more: str) -> dict[str, float]:
    """Run so many items and return what they cost."""
    seeds = write_seeds(folder / f"seeds-{items}.jsonl", items)
    store = folder / f"{items}-{width}-{time.time_ns()}.duckdb"
    command = [sys.executable, "-m", "agentloop", "run", str(RECIPE), "--seeds", str(seeds)]
    command += ["--store", str(store), "--model", "openai/fake", "--base-url", url]
    command += ["--concurrency", str(width), "--audit", "off", "--canaries", "off"]
    found, told = measured([*command, "--json", "--progress", "none", *more])
    counts = json.loads(told)
    assert counts["calls"] == CALLS * items, counts
    assert counts["accepted"] == items, counts
    return {"items": items, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000,5000")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.005, help="seconds a call")
    parser.add_argument("--client", default="direct", choices=["direct", "litellm"])
    parser.add_argument("--on-collapse", default="warn", choices=["warn", "off"])
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory() as name, serving(options.latency) as url:
        found = [
            run(
                url,
                size,
                options.width,
                Path(name),
                *("--client", options.client, "--on-collapse", options.on_collapse),
            )
            for size in sizes
        ]
    for row in found:
        ideal = CALLS * row["items"] * options.latency / options.width
        row["wall_by_ideal"] = round(row["wall_s"] / ideal, 2)
    slopes = [
        {
            "from": small["items"],
            "to": large["items"],
            "cpu_ms_an_item": round(
                1000 * (large["cpu_s"] - small["cpu_s"]) / (large["items"] - small["items"]), 2
            ),
            "kb_an_item": round(
                1024 * (large["peak_mb"] - small["peak_mb"]) / (large["items"] - small["items"]), 2
            ),
        }
        for small, large in pairwise(found)
    ]
    report = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        **vars(options),
        "runs": found,
        "slopes": slopes,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
