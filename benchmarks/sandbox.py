"""The code-execution check against plain execution, on MBPP: gold solutions, and mutants of them.

    python benchmarks/sandbox.py                  all 427 gold solutions and all their mutants
    python benchmarks/sandbox.py --sample 300     fewer mutants

A mutant is a gold solution with one operator swapped: each of `+ - * / // %` (in `a + b` and `a += b`)
and of `< <= > >= == !=` for each of the five others of its group, in the order of the syntax tree. A
sample is drawn from all of them by a seed that stands here. Plain execution is `exec` of imports, code
and one test in a Python process of its own, under the same limits of CPU and wall time and with nothing
else in its way but 4 GiB of memory. Both must agree on every test of every program; how many mutants
the tests kill is told, and aimed at by nobody.

Data: the 427 sanitized problems of MBPP (CC-BY-4.0; `SOURCE` beside the file), in
`$AGENTLOOP_SHARED/data/mbpp` or `../shared/data/mbpp`. Prints one JSON object.
"""

import argparse
import ast
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agentloop.checks.python import judge, read_tests  # noqa: E402
from agentloop.checks.sandbox import Limits, walls  # noqa: E402

SEED = 20
SUMS: tuple[type[ast.operator], ...] = (
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.Mod,
)
ORDERS: tuple[type[ast.cmpop], ...] = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
GOLD = Limits(cpu_s=20, wall_s=120.0, total_s=300.0)
MUTANT = Limits(cpu_s=2, wall_s=20.0, total_s=200.0)  # endless ones are many
PLAIN = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1]) + 1))
exec(compile(sys.stdin.read(), "plain", "exec"), {"__name__": "candidate"})
"""


def problems() -> list[dict[str, Any]]:
    """Return the problems; exits with 2 where they are not."""
    shared = Path(os.environ.get("AGENTLOOP_SHARED") or ROOT.parent / "shared")
    path = shared / "data" / "mbpp" / "sanitized-mbpp.json"
    if not path.is_file():
        print(f"there is no `{path}`: set AGENTLOOP_SHARED", file=sys.stderr)
        sys.exit(2)
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def mutants(code: str) -> Iterator[str]:
    """Return every single swap of an operator for another of its group."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, SUMS):
            kept = node.op
            for other in SUMS:
                if not isinstance(kept, other):
                    node.op = other()
                    yield ast.unparse(tree)
            node.op = kept
        if isinstance(node, ast.Compare):
            for at, order in enumerate(node.ops):
                for another in ORDERS:
                    if isinstance(order, ORDERS) and not isinstance(order, another):
                        node.ops[at] = another()
                        yield ast.unparse(tree)
                node.ops[at] = order


def plainly(program: str, limits: Limits) -> bool:
    """Return whether a program ends without an error in a Python of its own."""
    python = getattr(sys, "_base_executable", sys.executable)
    try:
        done = subprocess.run(
            [python, "-S", "-c", PLAIN, str(limits.cpu_s)],
            input=program,
            text=True,
            capture_output=True,
            timeout=limits.wall_s,
            env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"},
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def compare(name: str, problem: dict[str, Any], code: str, limits: Limits) -> dict[str, Any]:
    """Run one program both ways."""
    imports, tests = "\n".join(problem["test_imports"]), problem["test_list"]
    start = time.perf_counter()
    plain = [plainly(f"{imports}\n{code}\n{test}", limits) for test in tests]
    middle = time.perf_counter()
    finding = judge(code, read_tests(tests), imports, limits)
    return {
        "name": name,
        "plain": all(plain),
        "sandbox": finding.passed,
        "plain_fraction": sum(plain) / len(plain),
        "fraction": finding.fraction,
        "evidence": finding.evidence,
        "code": code,
        "plain_s": middle - start,
        "sandbox_s": time.perf_counter() - middle,
    }


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return counts, disagreements in full, and times."""
    killed = [r for r in results if not r["sandbox"]]
    quick = [r for r in results if r["plain_s"] < 1 and r["sandbox_s"] < 1]
    return {
        "programs": len(results),
        "pass_in_sandbox": len(results) - len(killed),
        "pass_plainly": sum(r["plain"] for r in results),
        "mismatches": [r for r in results if r["plain_fraction"] != r["fraction"]],
        "killed_by_some_tests_only": sum(r["fraction"] > 0 for r in killed),
        "stopped_by_time": sum("CPU time (" in r["evidence"] for r in killed),
        "ms_sandbox_median": _median_ms(quick, "sandbox_s"),
        "ms_plain_median": _median_ms(quick, "plain_s"),
    }


def _median_ms(results: list[dict[str, Any]], key: str) -> float:
    return round(1000 * statistics.median(r[key] for r in results), 1) if results else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="so many mutants instead of all")
    parser.add_argument("--width", type=int, default=os.cpu_count(), help="programs at once")
    options = parser.parse_args()
    listed = problems()
    gold = [(str(p["task_id"]), p, p["code"]) for p in listed]
    swapped = [
        (f"{p['task_id']}/{n}", p, code)
        for p in listed
        for n, code in enumerate(mutants(p["code"]))
    ]
    if options.sample is not None:
        swapped = random.Random(SEED).sample(swapped, min(options.sample, len(swapped)))
    with ThreadPoolExecutor(options.width) as threads:
        golds, others = (
            summary(
                list(threads.map(compare, *zip(*programs, strict=True), [limits] * len(programs)))
            )
            for programs, limits in ((gold, GOLD), (swapped, MUTANT))
        )
    killed = others["programs"] - others["pass_in_sandbox"]
    report = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "walls": walls(),
        "cpu_limits_s": {"gold": GOLD.cpu_s, "mutants": MUTANT.cpu_s},
        "gold": golds,
        "mutants": others,
        "kill_rate": round(killed / others["programs"], 4) if others["programs"] else None,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
