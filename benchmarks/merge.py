"""Merging shards: how long it takes, how much memory, and whether twins across shards are all found.

    python benchmarks/merge.py [--shards 4] [--items 5000] [--planted 500] [--folder FOLDER]

Each store is begun by a real run of `three_calls.py` with `--shard`, and filled after its pattern by
SQL, as in `million.py`: three calls, two attempts and two grades an item, all accepted, all shards at
once. Then items get the text of an earlier one in another shard: half of those planted to the letter,
half with one word changed. `missed` counts the planted ones that are still accepted, `others` those
that were refused beside them. Every figure is of a new process, files in the kernel's cache. Prints one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from items import ROOT
from million import RUN, fill, measured, noting, run, write_seeds

from agentloop.places import item_id, root_of
from agentloop.records import Seed
from agentloop.shards import Shard
from agentloop.store import Store
from agentloop.store.files import connect
from agentloop.store.writer import Writer

REAL = 16  # items of each shard's real run
KEPT = """
UPDATE attempts SET candidate = p.candidate, messages = p.messages
FROM (SELECT * FROM read_json($pairs, format = 'newline_delimited', columns =
    {'item': 'VARCHAR', 'candidate': 'VARCHAR', 'messages': 'VARCHAR'})) p
WHERE attempts.item = p.item AND attempts.round = 1
"""


def write_names(seeds: Path, names: Path, shard: Shard) -> None:
    """Write down which item each seed of a shard makes."""
    with seeds.open() as file, names.open("w") as out:
        for line in file:
            seed = Seed.of(json.loads(line))
            if shard.holds(root_of(seed)):
                out.write(f"{seed.fields['number']},{item_id(seed.id, 0)},{seed.id}\n")


def make(folder: Path, shards: int, items: int, planted: int) -> list[Path]:
    """Make the stores, unless they are there."""
    stores = [folder / f"shard-{number}.duckdb" for number in range(1, shards + 1)]
    done = folder / "made"
    if done.exists():
        return stores
    seeds = write_seeds(folder / "seeds.jsonl", shards * items)
    with noting() as url:
        for number, store in enumerate(stores, 1):
            shard = Shard(number, shards)
            more = ("--items", str(REAL), "--concurrency", "1", "--shard", str(shard))
            measured(run(store, seeds, url, *more))
            write_names(seeds, folder / "names.csv", shard)
            fill(store, seeds, folder / "names.csv", shards * items)
    plant(folder, stores, planted)
    for store in stores:
        Writer(store).close()  # as a real run ends
    done.touch()
    return stores


def texts(store: Path) -> list[tuple[str, float, str, str]]:
    """Return items with time, candidate and messages, in the order settled."""
    sql = "SELECT item, v.time, candidate, messages FROM verdicts v "
    sql += "JOIN attempts USING (run, item, round) ORDER BY v.time"
    with connect(store, write=False) as connection:
        return connection.execute(sql).fetchall()


def plant(folder: Path, stores: list[Path], planted: int) -> None:
    """Give items the text of an earlier one of the shard before, some with another word in it."""
    every = [texts(store)[REAL:] for store in stores]
    pairs = {store: (folder / f"{store.stem}.pairs").open("w") for store in stores}
    twins = []
    for number in range(planted):
        one = number % (len(stores) - 1)
        item, time, candidate, messages = every[one][number]
        twin, later, *_ = every[one + 1][-1 - number]
        assert time < later
        if number % 2:
            word = json.loads(candidate)["answer"].split()[3]
            candidate = candidate.replace(f" {word} ", " another ", 1)
            messages = messages.replace(f" {word} ", " another ", 1)
        row = {"item": twin, "candidate": candidate, "messages": messages}
        pairs[stores[one + 1]].write(json.dumps(row) + "\n")
        twins.append([item, twin])
    for store, file in pairs.items():
        file.close()
        with connect(store, write=True) as connection:
            connection.execute(KEPT, {"pairs": file.name})
    (folder / "twins.json").write_text(json.dumps(twins))


def verified(out: Path, folder: Path) -> dict[str, int]:
    """Say which of the planted twins were found."""
    sql = "SELECT item, detail FROM verdicts WHERE verdict = 'rejected'"
    with connect(out, write=False) as connection:
        refused = dict(connection.execute(sql).fetchall())
    twins = json.loads((folder / "twins.json").read_text())
    named = sum(item in refused.get(twin, "") for item, twin in twins)
    missed = sum(twin not in refused for _, twin in twins)
    others = len(refused) - (len(twins) - missed)
    return {"planted": len(twins), "missed": missed, "named": named, "others": others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--planted", type=int, default=500)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = options.folder or Path(name)
        stores = make(folder, options.shards, options.items, options.planted)
        out = Path(name) / "out.duckdb"
        command = [sys.executable, "-m", "agentloop", "merge", str(out), *map(str, stores)]
        report: dict[str, Any] = {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
            "shards": options.shards,
            "items": sum(Store(store).counts(RUN)["accepted"] for store in stores),
            "stores_mb": round(sum(store.stat().st_size for store in stores) / 1e6, 1),
        }
        for turn in ("first", "again"):
            found = measured(command)
            report[turn] = {key: value for key, value in found.items() if key != "start"}
        report["out_mb"] = round(out.stat().st_size / 1e6, 1)
        report |= verified(out, folder)
        told = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=ROOT)
        report["said"] = json.loads(told.stdout)["runs"]
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
