"""Final answers against GSM8K: are they read exactly, do verdicts agree, what does a call cost.

Recorded verdicts are those of `example_model_solutions.jsonl` (openai/grade-school-math), where that
file lies beside `test.jsonl`; math-verify is measured where the `maths` extra is installed.
Prints one JSON object.
"""

import importlib.util
import json
import os
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from agentloop.checks import Check
from agentloop.checks.answers import final_answer
from agentloop.checks.maths import maths_equals, number_equals

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("AGENTLOOP_SHARED") or ROOT.parent / "shared") / "data" / "gsm8k"
STARTS = 5


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def gold(problems: list[dict[str, Any]]) -> dict[str, int]:
    """Read every gold answer, with its mark and without."""
    marked = unmarked = 0
    for problem in problems:
        steps, _, written = problem["answer"].rpartition("#### ")
        right = Fraction(written.replace(",", ""))
        found, last = final_answer(problem["answer"]), final_answer(steps)
        marked += found is not None and found.value == right
        unmarked += last is not None and last.value == right
    return {"answers": len(problems), "exact": marked, "exact_without_mark": unmarked}


def verdicts(recorded: list[dict[str, Any]], check: Check) -> dict[str, Any]:
    """Compare a check with the recorded verdicts."""
    same = right = total = limits = 0
    start = time.perf_counter()
    for row in recorded:
        for solution in row.values():
            if isinstance(solution, dict):
                given = {"solution": solution["solution"]}
                found = check.run(given, {"answer": row["ground_truth"]})
                same += found.passed == solution["is_correct"]
                right += solution["is_correct"]
                limits += "could not be compared" in found.evidence
                total += 1
    each = (time.perf_counter() - start) / max(total, 1) * 1000
    counts = {"verdicts": total, "of_them_correct": right, "agree": same, "over_limit": limits}
    return {**counts, "ms_each": round(each, 2)}


def fastest(work: Callable[[], object]) -> float:
    """Return the least milliseconds of several tries."""
    spans = []
    for _ in range(STARTS):
        start = time.perf_counter()
        work()
        spans.append(time.perf_counter() - start)
    return round(min(spans) * 1000, 1)


def process() -> dict[str, float]:
    """Weigh a process for each call against one that lives on."""
    from agentloop.checks import maths

    check = maths_equals("solution", "answer", seconds=60)
    worker = maths._worker(os.getpid())

    def ask() -> None:
        check.run({"solution": r"\boxed{\frac{2}{4}}"}, {"answer": "1/2"})

    def afresh() -> None:
        worker.close()
        ask()

    return {"ms_in_a_new_process": fastest(afresh), "ms_in_a_living_one": fastest(ask)}


def main() -> None:
    report: dict[str, Any] = {"gold": gold(rows("test.jsonl"))}
    recorded = rows("example_model_solutions.jsonl")
    report["number_equals"] = verdicts(recorded, number_equals("solution", "answer"))
    if importlib.util.find_spec("math_verify"):
        report["process"] = process()
        report["maths_equals"] = verdicts(recorded, maths_equals("solution", "answer"))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
