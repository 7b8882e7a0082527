"""The rows that a session writes: a run, its sessions, items, attempts, grades, verdicts.

Enters: a plan and what happened. Leaves: `(table, row)` lines for the journal.
Refuses to know: files, when they are written, why anything happened.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Sequence

from agentloop import __version__
from agentloop.calibration_report import CalibrationReport
from agentloop.diversity.reading import Reading
from agentloop.models.family import related
from agentloop.novelty.lineage import depth_of
from agentloop.plan import Plan
from agentloop.records import Attempt, Json, Verdict
from agentloop.rubric import Rubric
from agentloop.store.gradings import Settled
from agentloop.store.journal import Line
from agentloop.store.resume import Owed
from agentloop.tally import Tally

PACKAGES = ("langgraph", "litellm", "duckdb", "pydantic")
TOLD = {
    "accept", "items", "per_seed", "max_rounds", "concurrency", "budget_usd", "max_seconds",
    "audit", "canaries", "novelty", "on_collapse", "reference", "decontaminate", "novel_to",
    "workers", "engine", "shard", "real_share", "quota",
}  # fmt: skip
"""Settings that are no part of a run's identity, kept with each session."""


def run_line(plan: Plan, begun: float) -> Line:
    """Return the row of a new run."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return "runs", {
        "run": plan.run,
        "recipe": plan.found.recipe.name,
        "recipe_ref": plan.found.ref,
        "time": begun,
        "identity": plan.identity,
        "versions": {"agentloop": __version__, **versions},
        "parent": plan.parent,
    }


def calibration_line(report: CalibrationReport, rid: str) -> Line:
    """Return the row of a report; a run that uses one keeps it under its digest."""
    return "calibrations", {
        "rid": rid,
        "rubric": report.rubric,
        "critic": report.critic,
        "report": report.model_dump(mode="json"),
        "time": report.time,
    }


def reading_line(run: str, rid: str, reading: Reading) -> Line:
    """Return the row of a reading of the variety of accepted texts."""
    return "readings", {
        "rid": rid,
        "run": run,
        "view": reading.view,
        "number": reading.number,
        "light": reading.light,
        "reading": reading.model_dump(mode="json"),
        "time": time.time(),
    }


def session_line(plan: Plan, rid: str, begun: float, tally: Tally, stopped_by: str | None) -> Line:
    """Return a mark of a session's progress; the last one counts."""
    return "sessions", {
        "rid": rid,
        "run": plan.run,
        "session": f"{begun:.6f}",
        "time": time.time(),
        "seconds": tally.seconds,
        "refused": tally.refusals,
        "stopped_by": stopped_by,
        "settings": {
            **plan.settings.model_dump(mode="json", include=TOLD),
            "reads": list(plan.found.recipe.reads),
        },
    }


def item_line(run: str, owed: Owed, inputs: Json) -> Line:
    """Return the row of an item that is begun."""
    return "items", {
        "run": run,
        "item": owed.item,
        "seed_id": owed.seed.id,
        "sample": owed.sample,
        "seed": owed.seed.fields,
        "inputs": inputs,
        "depth": depth_of(owed.seed.fields, inputs),
        "time": time.time(),
    }


def reopened_line(run: str, owed: Owed) -> Line:
    """Return the row of an item that is opened again."""
    return "reopened", {
        "run": run,
        "item": owed.item,
        "opening": owed.opening,
        "time": time.time(),
    }


def attempt_lines(run: str, item: str, opening: int, attempts: Sequence[Attempt]) -> list[Line]:
    """Return an item's attempts and grades."""
    place = {"run": run, "item": item, "opening": opening}
    lines: list[Line] = []
    for attempt in attempts:
        data = attempt.model_dump(mode="json")
        grade = {key: data.pop(key) for key in ("grade", "accepted", "reason", "detail")}
        at = {**place, "round": attempt.round}
        lines.append(("attempts", data | at))
        lines.append(("grades", {**at, "grading": 0, **grade, **_stamp(attempt)}))
    return lines


def verdict_line(run: str, owed: Owed, verdict: Verdict, fingerprint: str) -> Line:
    """Return the row of an item's verdict; it comes after all else of the item, for a torn write."""
    place = {"run": run, "item": owed.item, "opening": owed.opening}
    stamp = {"fingerprint": fingerprint, "time": time.time()}
    return "verdicts", {**place, **verdict.model_dump(), **stamp}


def _stamp(attempt: Attempt) -> Json:
    """Say whether a judge was of the family of who wrote the attempt; nothing where none was asked."""
    judges = attempt.grade.judges if attempt.grade else ()
    return {"self_graded": related(attempt.model, judges) if judges else None}


def grading_line(run: str, grading: int, rubric: Rubric, critic: str, identity: Json) -> Line:
    """Return the row of a grading beside the run's own."""
    return "gradings", {
        "run": run,
        "grading": grading,
        "rubric": {**rubric.model_dump(mode="json", by_alias=True), "hash": rubric.hash},
        "critic": critic,
        "identity": identity,
        "time": time.time(),
    }


def graded_lines(
    at: tuple[str, int],
    settled: Settled,
    attempts: Sequence[Attempt],
    verdict: Verdict,
    fingerprint: str,
) -> list[Line]:
    """Return an item's grades and verdict in a grading beside the run's own; the verdict last.

    `at` is the run and the grading's number.
    """
    run, grading = at
    place = {"run": run, "item": settled.item, "opening": settled.opening, "grading": grading}
    lines: list[Line] = []
    for attempt in attempts:
        keys = {"grade", "accepted", "reason", "detail"}
        grade = attempt.model_dump(mode="json", include=keys)
        row = {**place, "round": attempt.round, **grade, **_stamp(attempt)}
        lines.append(("grades", row))
    row = {**verdict.model_dump(), **place, "fingerprint": fingerprint, "time": time.time()}
    lines.append(("verdicts", row))
    return lines
