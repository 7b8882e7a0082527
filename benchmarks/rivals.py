"""The same work by other tools, side by side in one run: 1,000 items, generate, judge, revise.

    python benchmarks/rivals.py ENVIRONMENTS [--scripts ../shared/bench] [--items 1000]

ENVIRONMENTS holds a virtual environment for each rival, named as in `RIVALS`; one that is missing is
left out, and said. Each makes three calls an item, as many at once, to a loopback endpoint in a
process of its own with the same latency, and starts anew: figures are of whole processes with their
children, start-up included. The rivals keep no journal, and look neither for near-copies nor at
variety; agentloop does all of it. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from endpoint import serving
from items import CALLS, ROOT, measured, run

RIVALS = {
    "curator": ["bench_curator.py"],
    "sdg_hub": ["bench_sdghub.py"],
    "data-designer": ["bench_datadesigner.py"],
    "distilabel": ["bench_distilabel.py"],
}
PORT = 8917


def told(url: str) -> Any:
    """Return what the rivals' endpoint counted."""
    with urllib.request.urlopen(url) as answer:
        return json.loads(answer.read())


@contextmanager
def serving_rivals(script: Path, latency: float) -> Iterator[str]:
    """Run the endpoint that the rivals' scripts are written for."""
    command = [sys.executable, str(script), "--port", str(PORT), "--latency", str(latency)]
    server = subprocess.Popen(command)
    url = f"http://127.0.0.1:{PORT}"
    try:
        while True:
            try:
                told(f"{url}/stats")
                break
            except OSError:
                if server.poll() is not None:
                    raise SystemExit(f"{script} does not start") from None
        yield url
    finally:
        server.kill()
        server.wait()


def rival(python: Path, script: list[str], url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let a rival do the work once; its endpoint counts the calls."""
    told(f"{url}/reset")
    command = [
        str(python),
        str(options.scripts / script[0]),
        *script[1:],
        "--base-url",
        f"{url}/v1",
    ]
    command += ["--n", str(options.items), "--concurrency", str(options.width)]
    found, _ = measured(command)
    return {**found, "calls": told(f"{url}/stats")["ok"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environments", type=Path)
    parser.add_argument("--scripts", type=Path, default=ROOT.parent / "shared" / "bench")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds a call")
    options = parser.parse_args()
    options.scripts = options.scripts.resolve()
    if not options.scripts.is_dir():
        raise SystemExit(f"there are no scripts for the rivals in `{options.scripts}`")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, serving(options.latency) as url:
        quiet = ["--client", "direct"]
        ours = run(url, options.items, options.width, Path(folder), *quiet)
        found["agentloop"] = {**ours, "calls": CALLS * options.items}
    with serving_rivals(options.scripts / "fake_openai_schema.py", options.latency) as url:
        for name, script in RIVALS.items():
            python = options.environments.resolve() / name / "bin" / "python"
            if not python.exists():
                found[name] = "left out: no environment"
                continue
            found[name] = rival(python, script, url, options)
    ideal = CALLS * options.items * options.latency / options.width
    for row in found.values():
        if isinstance(row, dict):
            row["wall_by_ideal"] = round(row["wall_s"] / ideal, 2)
            row["cpu_ms_an_item"] = round(1000 * row["cpu_s"] / options.items, 2)
    report = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "items": options.items,
        "width": options.width,
        "latency": options.latency,
        "tools": found,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
