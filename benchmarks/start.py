"""How long one waits: for `--help`, for the import, for the first accepted item; best of five, seconds.

    python benchmarks/start.py

The first accepted item is that of a scripted model, from the start of the process to the line that says
so. Also says which of the slow libraries a start has loaded. Prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SLOW = ("litellm", "langgraph", "duckdb", "numpy", "pydantic")
FIRST = """
import json, sys
import agentloop as al
def answer(request):
    prompt = request.messages[0]["content"]
    if prompt.startswith("CRITIQUE"):
        return json.dumps({n: {"reason": "", "level": "yes"} for n in ("right", "clear")})
    return json.dumps({"question": "What?", "answer": "This."})
models = {r: al.ScriptedModel(answer) for r in ("generator", "critic", "reviser")}
run = al.run(sys.argv[1], seeds=[{"passage": "A passage."}], store=sys.argv[2], audit=0.0,
             canaries=0.0, models=models)
assert run.counts["accepted"] == 1
"""


def best(command: list[str], times: int = 5) -> float:
    """Return the shortest of some runs of a command."""
    walls = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - start)
    return round(min(walls), 3)


def first_accepted() -> float:
    """Return the time to a first accepted item, each in a new store."""
    walls = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as name:
            recipe = str(ROOT / "benchmarks" / "three_calls.py")
            command = [sys.executable, "-c", FIRST, recipe, f"{name}/a.duckdb"]
            walls.append(best(command, 1))
    return min(walls)


def loaded(code: str) -> list[str]:
    """Return which slow libraries some code loads."""
    told = f"{code}\nimport sys; print([n for n in {SLOW!r} if n in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return list(json.loads(out.stdout.splitlines()[-1].replace("'", '"')))


def main() -> None:
    help_ = "from agentloop.cli import run_cli; run_cli(['--help'])"
    report = {
        "help_s": best([sys.executable, "-m", "agentloop", "--help"]),
        "import_s": best([sys.executable, "-c", "import agentloop"]),
        "python_s": best([sys.executable, "-c", "pass"]),
        "first_accepted_s": first_accepted(),
        "help_loads": loaded(help_),
        "import_loads": loaded("import agentloop"),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
