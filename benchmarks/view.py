"""The live page over 100,000 items: how long each page takes, and whether memory stays flat.

    python benchmarks/view.py --folder FOLDER [--items 100000] [--rounds 20]

The store is made as `million.py` makes its own: a real run of 64 items, the others after their pattern.
Then `agentloop view` serves it in a process of its own and each page is asked for `--rounds` times, from
the request until its last byte is there; the first page is also asked for once by a server that has
answered nothing yet. Memory is the server's resident set, at its highest, after the first and after the
last round; processor seconds are the server's, and say what a busy machine hides. Prints one JSON
object.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from items import ROOT
from million import REAL, RUN, fill, measured, noting, run, write_names, write_seeds

from agentloop.store import Store
from agentloop.store.browse import SIZE, criteria_of, read_page
from agentloop.store.writer import Writer


def make(folder: Path, items: int) -> Path:
    """Make a store, unless it is there; return its path."""
    store, done = folder / f"view-{items}.duckdb", folder / f"view-{items}.made"
    if done.exists():
        return store
    folder.mkdir(parents=True, exist_ok=True)
    seeds, names = write_seeds(folder / "seeds.jsonl", items), folder / "names.csv"
    write_names(seeds, names)
    with noting() as url:
        measured(run(store, seeds, url, "--items", str(REAL), "--concurrency", "1"))
    fill(store, seeds, names, items)
    Writer(store).close()
    done.touch()
    return store


class Server:
    """`agentloop view` in a process of its own."""

    def __init__(self, store: Path):
        command = [sys.executable, "-m", "agentloop", "view", str(store), "--no-browser"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout
        address = self._process.stdout.readline().strip()
        self._host = address.split("/")[2]
        self._cookie = f"agentloop_{self._host.split(':')[1]}={address.partition('token=')[2]}"

    def seconds(self, path: str) -> float:
        """Ask for a page; return how long it took."""
        begun = time.perf_counter()
        connection = http.client.HTTPConnection(self._host)
        connection.request("GET", path, headers={"Cookie": self._cookie})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status in (200, 303), f"{path}: {answer.status}"
        return time.perf_counter() - begun

    @property
    def cpu_s(self) -> float:
        """Return the processor seconds that it has used, to a hundredth."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def peak_mb(self) -> float:
        """Return the most that was resident so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return round(int(line.split()[1]) / 1024, 1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


def pages(store: Path) -> dict[str, str]:
    """Return the addresses that are measured, by what they are."""
    opened = Store(store)
    first = read_page(opened, RUN)
    halfway = (time.time() - 500.0, "")
    item = first.rows[SIZE // 2].item

    def items(**query: Any) -> str:
        return "/?" + urlencode({"run": RUN, **query})

    return {
        "first page": items(),
        "a page further on": items(after=halfway[0], last=halfway[1]),
        "search, found often": items(text="the"),
        "search, found once": items(text="(77777)"),
        "search, not found": items(text="zyzzyva"),
        "verdict and score": items(verdict="accepted", low=0.5, high=1),
        "criterion below the top": items(criterion=criteria_of(opened, RUN)[0]),
        "story": f"/item/{item}?run={RUN}",
        "label, begun": f"/label?run={RUN}&at=0",
        "counts": f"/live?run={RUN}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    store = make(options.folder, options.items)
    asked = pages(store)
    server = Server(store)
    try:
        report: dict[str, Any] = {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
            "items": options.items,
            "store_mb": round(store.stat().st_size / 1e6),
            "first_page_of_a_new_server_s": round(server.seconds(asked["first page"]), 3),
        }

        taken: dict[str, list[float]] = {name: [] for name in asked}
        used, peaks = dict.fromkeys(asked, 0.0), []
        for _ in range(options.rounds):
            for name, path in asked.items():
                before = server.cpu_s
                taken[name].append(server.seconds(path))
                used[name] += server.cpu_s - before
            peaks.append(server.peak_mb)
        report["median_s"] = {n: round(statistics.median(s), 3) for n, s in taken.items()}
        report["mean_cpu_s"] = {n: round(s / options.rounds, 3) for n, s in used.items()}
        report["longest_s"] = {n: round(max(s), 3) for n, s in taken.items()}
        report["peak_mb_first_and_last_round"] = [peaks[0], peaks[-1]]
    finally:
        server.stop()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
