"""How far it goes: what a run of N items takes, by measured figures, and what breaks first.

    python benchmarks/how_far.py [--items 1000000 1000000000] [--machines 1 100] [--json]
    python benchmarks/how_far.py --figures FILE.json      # {"store_bytes": 5200, …}: your own figures
    python benchmarks/how_far.py --measure                # bytes an item, quickly
    python benchmarks/how_far.py --real 1000 4000         # bytes an item between two real runs

An item is that of `three_calls.py`: draft, revision, grade; texts of 30 words from passages of 500
characters. Figures are of two slow shared cores; each names the command that measures it. Nothing is
fitted: every prediction is one line of arithmetic below, so that a wrong one can be found.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

REAL, FILLED = 64, 10_000  # items that `--measure` runs, and those that it adds after their pattern
MOST = 10**12  # items up to which a limit is looked for


class Figure(NamedTuple):
    """Something measured."""

    value: float
    what: str
    source: str


FIGURES: Mapping[str, Figure] = {
    "item_ms": Figure(9.1, "CPU ms an item, one process", "items.py"),
    "driver_ms": Figure(4.3, "CPU ms an item of the process that writes for workers", "workers.py"),
    "calls": Figure(3, "calls an item", "three_calls.py"),
    "seed_us": Figure(25, "CPU µs a seed, read and checked", "million.py --only resume"),
    "store_bytes": Figure(3300, "bytes an item in the store", "how_far.py --real 1000 4000"),
    "journal_bytes": Figure(
        5600, "bytes an item that pass through the journal", "how_far.py --measure"
    ),
    "index_bytes": Figure(798, "bytes an item in the near-duplicate index", "admission.py"),
    "base_mb": Figure(234, "MB of a process that runs items", "items.py"),
    "resume_bytes": Figure(
        620, "bytes of memory an item of a run that goes on", "million.py --only resume"
    ),
    "export_rows": Figure(94_000, "rows a second of an export", "million.py --only export"),
    "merge_ms": Figure(0.63, "CPU ms an item of a merge", "merge.py"),
    "merge_base_mb": Figure(712, "MB of a merge, at most", "agentloop/store/joining.py"),
    "merge_bytes": Figure(1730, "bytes of memory an item of a merge", "agentloop/store/joining.py"),
    "name_bits": Figure(48, "bits of an item's name", "agentloop/places.py"),
}


@dataclass(frozen=True)
class Machine:
    """What each machine has; all are alike."""

    cores: int = 16
    memory_gb: float = 64
    disk_gb: float = 2000
    calls_a_second: float = 1000
    """What its endpoint answers."""
    days: float = 30
    """How long one is willing to wait."""


class Predicted(NamedTuple):
    """What a number of items on a number of machines comes to."""

    items: int
    machines: int
    wall_days: float
    """By whichever is the slowest: processor, writer, endpoint."""
    slowest: str
    cpu_days: float
    store_gb: float
    """Of one machine, with its index."""
    journal_gb: float
    """What passes through one machine's journal, which never grows beyond some seconds of it."""
    memory_gb: float
    """Of one machine's writing process, when it goes on with all that is settled."""
    index_gb: float
    """Of one machine; the door is fast while it is in memory."""
    seeds_days: float
    """Until the first call, where the seeds file is new: each shard reads all of it."""
    merge_days: float
    merge_memory_gb: float
    merge_disk_gb: float
    """The shards' stores and what is made of them, in one place."""
    export_days: float
    lost: float
    """Items that are never made, as their names are those of others: pairs expected by chance."""


DAY = 86_400.0


def predict(items: int, machines: int, machine: Machine, f: Mapping[str, float]) -> Predicted:
    """Return what so many items come to."""
    share = items / machines
    workers = max(1, machine.cores - 1)
    walk = f["item_ms"] / 1e3 / workers
    each = {
        "processor": walk,
        "writer": f["driver_ms"] / 1e3 if workers > 1 else 0.0,
        "endpoint": f["calls"] / machine.calls_a_second,
    }
    slowest = max(each, key=lambda name: each[name])
    merged = items if machines > 1 else 0
    return Predicted(
        items=items,
        machines=machines,
        wall_days=share * each[slowest] / DAY,
        slowest=slowest,
        cpu_days=items * (f["item_ms"] + (f["driver_ms"] if workers > 1 else 0.0)) / 1e3 / DAY,
        store_gb=share * (f["store_bytes"] + f["index_bytes"]) / 1e9,
        journal_gb=share * f["journal_bytes"] / 1e9,
        memory_gb=f["base_mb"] / 1e3 + share * f["resume_bytes"] / 1e9,
        index_gb=share * f["index_bytes"] / 1e9,
        seeds_days=items * f["seed_us"] / 1e6 / DAY,
        merge_days=merged * f["merge_ms"] / 1e3 / DAY,
        merge_memory_gb=f["merge_base_mb"] / 1e3 + merged * f["merge_bytes"] / 1e9
        if merged
        else 0.0,
        merge_disk_gb=merged * (2 * f["store_bytes"] + f["index_bytes"]) / 1e9,
        export_days=items / f["export_rows"] / DAY,
        lost=items**2 / 2 ** (f["name_bits"] + 1),
    )


LIMITS: Mapping[str, Callable[[Predicted, Machine], bool]] = {
    "two items are expected to share a name, and one of them is never made": lambda p, _: (
        p.lost >= 1
    ),
    "the wall is longer than one waits": lambda p, m: p.wall_days > m.days,
    "the store does not fit the disk": lambda p, m: p.store_gb > m.disk_gb,
    "the run cannot go on: names do not fit the memory": lambda p, m: p.memory_gb > m.memory_gb,
    "the index does not fit the memory: the door waits for the disk": (
        lambda p, m: p.index_gb > 0.8 * m.memory_gb
    ),
    "reading the seeds takes longer than a day": lambda p, _: p.seeds_days > 1,
    "the merge takes longer than a day": lambda p, _: p.merge_days > 1,
    "the merge does not fit the memory": lambda p, m: p.merge_memory_gb > m.memory_gb,
    "the merge does not fit the disk": lambda p, m: p.merge_disk_gb > m.disk_gb,
    "the export takes longer than a day": lambda p, _: p.export_days > 1,
}
"""What breaks, and when; each holds for all greater numbers of items."""


def first_broken(machines: int, machine: Machine, f: Mapping[str, float]) -> list[tuple[int, str]]:
    """Return from how many items on each limit is passed, the first one first."""
    found = []
    for name, broken in LIMITS.items():
        low, high = 1, MOST
        if not broken(predict(high, machines, machine, f), machine):
            continue
        while low < high:
            middle = (low + high) // 2
            if broken(predict(middle, machines, machine, f), machine):
                high = middle
            else:
                low = middle + 1
        found.append((low, name))
    return sorted(found)


def told(predicted: Predicted, broken: list[tuple[int, str]]) -> str:
    """Say it for a person."""
    p = predicted
    lines = [
        f"{_count(p.items)} items on {p.machines} machine{'s' if p.machines > 1 else ''}",
        f"  wall {_time(p.wall_days)}, held up by the {p.slowest} · CPU {_time(p.cpu_days)} in all",
        f"  each machine: store and index {_size(p.store_gb)}, index {_size(p.index_gb)}, "
        f"memory {_size(p.memory_gb)}, through the journal {_size(p.journal_gb)}",
        f"  first call after {_time(p.seeds_days)} of reading seeds · export {_time(p.export_days)}",
        f"  expected to be lost to names that two items share: {p.lost:.2g}",
    ]
    if p.machines > 1:
        lines.insert(
            3,
            f"  merge {_time(p.merge_days)}, memory {_size(p.merge_memory_gb)}, "
            f"disk {_size(p.merge_disk_gb)}",
        )
    passed = [(count, name) for count, name in broken if count <= p.items]
    lines += [f"  breaks at {_count(count)}: {name}" for count, name in passed]
    if not passed:
        lines.append(f"  nothing breaks; first would, at {_count(broken[0][0])}: {broken[0][1]}")
    return "\n".join(lines)


def _count(number: float) -> str:
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:.0f}"


def _time(days: float) -> str:
    for size, name in ((1.0, "days"), (1 / 24, "h"), (1 / 1440, "min")):
        if days >= 2 * size:
            return f"{days / size:.3g} {name}"
    return f"{days * DAY:.2g} s"


def _size(gigabytes: float) -> str:
    for size, name in ((1e3, "TB"), (1.0, "GB")):
        if gigabytes >= size:
            return f"{gigabytes / size:.3g} {name}"
    return f"{gigabytes * 1e3:.3g} MB"


def measure(folder: Path) -> dict[str, float]:
    """Return bytes an item of a real run, and of a store that is filled after its pattern."""
    import orjson
    from million import RUN, fill, measured, noting, run, write_names, write_seeds

    from agentloop.novelty.near import NearIndex
    from agentloop.records import digest
    from agentloop.store.files import Files, connect
    from agentloop.store.schema import FOLDED

    store, seeds = folder / "one.duckdb", write_seeds(folder / "seeds.jsonl", FILLED + REAL)
    with noting() as url:
        measured(run(store, seeds, url, "--items", str(REAL), "--concurrency", "1"))
    journal = 0
    with connect(store, write=False) as connection:
        for table in sorted(FOLDED - {"runs", "sessions", "readings"}):
            for (row,) in connection.execute(f"SELECT to_json(t) FROM {table} t").fetchall():
                journal += len(orjson.dumps({"t": table, "r": orjson.loads(row)})) + 1
    near = Files(store).near / digest(RUN, 6)
    index = NearIndex.open(near)
    rows, texts = len(index), (near / "texts").stat().st_size
    index.close()
    sizes = [
        file.stat().st_size for file in near.iterdir() if file.name not in ("texts", "head.json")
    ]
    room = json.loads((near / "head.json").read_text())["capacity"]
    before = store.stat().st_size
    write_names(seeds, folder / "names.csv")
    fill(store, seeds, folder / "names.csv", FILLED + REAL)
    return {
        "journal_bytes": round(journal / REAL),
        "index_bytes": round(texts / rows + sum(sizes) / room),
        "store_bytes": round((store.stat().st_size - before) / FILLED),
    }


def measure_really(folder: Path, sizes: list[int]) -> dict[str, float]:
    """Return bytes of store and index an item, between real runs of two sizes."""
    from million import measured, noting, run, write_seeds

    from agentloop.store.files import Files

    store, seeds = folder / "one.duckdb", write_seeds(folder / "seeds.jsonl", max(sizes))
    found: list[tuple[int, int]] = []
    with noting() as url:
        for size in sorted(sizes):
            measured(run(store, seeds, url, "--items", str(size), "--concurrency", "32"))
            near = [file.stat().st_size for file in Files(store).near.rglob("*") if file.is_file()]
            found.append((store.stat().st_size, sum(near)))
    items = max(sizes) - min(sizes)
    (first, first_index), *_, (last, last_index) = found
    return {
        "store_bytes": round((last - first) / items),
        "index_bytes": round((last_index - first_index) / items),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="*", default=[10**6, 10**9])
    parser.add_argument("--machines", type=int, nargs="*", default=[1, 100])
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--real", type=int, nargs=2)
    for name, kind in (("cores", int), ("memory-gb", float), ("disk-gb", float)):
        parser.add_argument(
            f"--{name}", type=kind, default=getattr(Machine, name.replace("-", "_"))
        )
    parser.add_argument("--calls-a-second", type=float, default=Machine.calls_a_second)
    parser.add_argument("--days", type=float, default=Machine.days)
    options = parser.parse_args(arguments)
    if options.measure or options.real:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            bytes_ = measure_really(place, options.real) if options.real else measure(place)
        print(json.dumps(bytes_, indent=2))
        return
    figures = {name: figure.value for name, figure in FIGURES.items()}
    figures |= json.loads(options.figures.read_text()) if options.figures else {}
    machine = Machine(
        options.cores, options.memory_gb, options.disk_gb, options.calls_a_second, options.days
    )
    found: list[dict[str, Any]] = []
    for items in options.items:
        for machines in options.machines:
            predicted = predict(items, machines, machine, figures)
            broken = first_broken(machines, machine, figures)
            if options.json:
                found.append({**predicted._asdict(), "breaks": broken})
            else:
                print(told(predicted, broken))
    if options.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
