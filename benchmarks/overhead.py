"""What an item costs in CPU: a slope between two run lengths, against a loopback endpoint.

The endpoint answers any JSON schema in a process of its own, so that only the client is measured.
Prints one JSON object; ratios and CPU, for walls depend on the machine's other work.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVE = (
    "import sys, time; sys.path.insert(0, sys.argv[1]); from tests.endpoint import Endpoint\n"
    "with Endpoint(latency=float(sys.argv[2])) as e:\n"
    "    print(e.url, flush=True); sys.stdin.read()"
)


def measure(client: str, url: str, items: int, width: int, folder: Path) -> dict[str, float]:
    """Run the command line once and return what the process used."""
    seeds = folder / f"seeds-{items}.jsonl"
    passages = (ROOT / "examples" / "passages.jsonl").read_text().splitlines()
    with seeds.open("w") as file:
        for number in range(items):
            row = json.loads(passages[number % len(passages)]) | {"n": number}
            file.write(json.dumps(row) + "\n")
    store = folder / f"{client}-{items}.duckdb"
    command = [sys.executable, "-m", "agentloop", "run", "grounded_qa", "--seeds", str(seeds)]
    command += ["--store", str(store), "--model", "openai/fake", "--base-url", url]
    command += ["--client", client, "--concurrency", str(width), "--json", "--progress", "none"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    counts = json.loads(output)
    return {"items": items, "calls": counts["calls"], "cpu_s": cpu, "wall_s": wall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=200)
    parser.add_argument("--large", type=int, default=1000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--client", choices=["direct", "litellm"], action="append")
    options = parser.parse_args()
    report = {"python": platform.python_version(), "cores": os.cpu_count(), "clients": {}}
    with tempfile.TemporaryDirectory() as name:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(ROOT), str(options.latency)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        for client in options.client or ["direct"]:
            small, large = (
                measure(client, url, items, options.width, Path(name))
                for items in (options.small, options.large)
            )
            calls = large["calls"] - small["calls"]
            slope = (large["cpu_s"] - small["cpu_s"]) / (large["items"] - small["items"])
            report["clients"][client] = {
                "small": small,
                "large": large,
                "cpu_ms_per_item": round(1000 * slope, 2),
                "cpu_ms_per_call": round(1000 * (large["cpu_s"] - small["cpu_s"]) / calls, 2),
            }
        server.communicate()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
