"""Every figure of speed in one table, beside its target: `make bench`.

    python benchmarks/table.py [--long] [--json FILE]

Runs the other benchmarks of this folder one after the other, each in a process of its own. `--long`
adds what takes more than a few minutes: 10,000 items at 200 ms a call, 100,000 items, and a store of a
million. Ratios and CPU say more than seconds on a machine that is shared: the table says how busy it
was. What `../shared/bench` says of rivals is not measured again here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent


class Row(NamedTuple):
    """One figure of speed."""

    what: str
    found: str
    target: str


def benchmark(name: str, *arguments: str) -> Any:
    """Run a benchmark of this folder and return what it prints."""
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def floor() -> Iterator[Row]:
    """What lies below: not ours to change."""
    for what, milliseconds in benchmark("floor")["cpu_ms_an_item"].items():
        yield Row(f"floor: {what}", f"{milliseconds:.2f} ms CPU", "")


def start() -> Iterator[Row]:
    """How long one waits."""
    found = benchmark("start")
    yield Row("agentloop --help", f"{found['help_s']:.2f} s", "0.3 s")
    yield Row("import agentloop", f"{found['import_s']:.2f} s", "0.2 s")
    yield Row("first accepted item, scripted", f"{found['first_accepted_s']:.2f} s", "1.5 s")


def items() -> Iterator[Row]:
    """What an item costs, and how far the wall is from the ideal."""
    found = benchmark("items")
    (slope,) = found["slopes"]
    yield Row("an item of three calls", f"{slope['cpu_ms_an_item']:.2f} ms CPU", "4 ms")
    yield Row("peak, 1,000 items", f"{found['runs'][0]['peak_mb']:.0f} MB", "150 MB")
    bare = benchmark("items", "--on-collapse", "off")["slopes"][0]
    yield Row("the same without the watch", f"{bare['cpu_ms_an_item']:.2f} ms CPU", "")
    through = benchmark("items", "--client", "litellm", "--sizes", "300,1000")["slopes"][0]
    yield Row("the same through litellm", f"{through['cpu_ms_an_item']:.2f} ms CPU", "floor + 1.5")
    for latency, target in (("0.2", "1.35 ×"), ("0.05", "2 ×")):
        (run,) = benchmark("items", "--sizes", "1000", "--latency", latency)["runs"]
        what = f"1,000 items, 64 wide, {float(latency) * 1000:.0f} ms a call"
        yield Row(what, f"{run['wall_by_ideal']:.2f} × ideal", target)
    (wide,) = benchmark(
        "items", "--sizes", "4000", "--width", "4000", "--latency", "2", "--on-collapse", "off"
    )["runs"]
    yield Row("4,000 calls in flight", f"{wide['peak_mb']:.0f} MB", "400 MB")


def workers() -> Iterator[Row]:
    """What a second process brings where checks are slow."""
    found = benchmark("workers")
    for engine, who in (("local", "workers"), ("ray", "Ray workers")):
        for kind, what, target in (
            ("busy", "20 ms of checks", "1.7 ×"),
            ("endpoint", "endpoint", ""),
        ):
            two = found[engine][kind]["2"]
            yield Row(f"two {who}, {what}", f"{two['speed_up']:.2f} ×", target)
            told = f"{two['driver_cpu_ms']:.2f} · {two['loop_cpu_ms']:.2f} ms CPU"
            yield Row("  the driver's part of an item · without folds", told, "0.8 ms")


def merge() -> Iterator[Row]:
    """What it takes to join shards, and whether twins across them are found."""
    found = benchmark("merge")
    yield Row("4 shards of 5,000 items merged", f"{found['first']['wall_s']:.1f} s", "15 s")
    twins = f"{found['planted'] - found['missed']} of {found['planted']}"
    yield Row("  planted twins found", twins, "all")


def long() -> Iterator[Row]:
    """What takes more than a few minutes."""
    (run,) = benchmark("items", "--sizes", "10000", "--latency", "0.2")["runs"]
    yield Row("10,000 items at 200 ms", f"{run['wall_by_ideal']:.2f} × ideal", "1.15 ×")
    slopes = benchmark("items", "--sizes", "1000,10000,100000")["slopes"]
    told = " / ".join(f"{slope['cpu_ms_an_item']:.2f}" for slope in slopes)
    yield Row("an item, 10³–10⁴ / 10⁴–10⁵", f"{told} ms CPU", "within 10 %")
    with tempfile.TemporaryDirectory() as folder:
        found = benchmark("million", "--folder", folder)
    status = min(row["wall_s"] for row in found["status"])
    yield Row("status, 10⁶ items", f"{status:.2f} s", "0.5 s")
    first = found["resume"]["new_seeds_again"]["first_call_s"]
    yield Row("resume, 10⁶ items, to the first call", f"{first:.1f} s", "3 s")
    for name, row in found["export"].items():
        told = f"{row['rows_a_second']:,} rows/s, {row['peak_mb']:.0f} MB"
        yield Row(f"export, 10⁶ items, {name}", told, "200,000 rows/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--json", type=Path, help="write the rows to a file as well")
    options = parser.parse_args()
    console = Console()
    load = os.getloadavg()[0]
    table = Table(
        title=f"{os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f} before"
    )
    for name in ("what", "found", "target"):
        table.add_column(name, justify="left" if name == "what" else "right")
    rows: list[Row] = []
    for part in (floor, start, items, workers, merge, *([long] if options.long else [])):
        for row in part():
            console.print(f"{row.what}: {row.found}", style="dim")
            table.add_row(*row)
            rows.append(row)
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows], indent=2))


if __name__ == "__main__":
    main()
