"""The watch over the critic: what an auditor and a canary say of one item.

Enters: the agents of an item, its seed and its attempts. Leaves: findings for the store, and what a gate
makes of a verdict. Refuses to know: which items are watched, the graph: nobody who works on the item
ever hears of what is found here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentloop.agents import Agents
from agentloop.asking import all_of
from agentloop.canaries import Canary
from agentloop.checks import run_checks
from agentloop.errors import AccessError, ModelError, ReplyError, UnreachableError
from agentloop.records import Attempt, Grade, Json, Reason, Verdict

CANARY_ROUND = -1
"""Where a canary's calls stand among those of its item."""


@dataclass(frozen=True)
class Finding:
    """One grade that is no part of the run's own grading; `error` says why there is none."""

    round: int
    grade: Grade | None = None
    accepted: bool = False
    reason: Reason | None = None
    detail: str = ""
    error: str = ""


async def audit(agents: Agents, seed: Json, attempts: Sequence[Attempt]) -> list[Finding]:
    """Let the auditor grade every attempt that was graded, all at once."""
    graded = [attempt for attempt in attempts if attempt.grade is not None]
    return await all_of([_audited(agents, seed, attempt) for attempt in graded])


async def _audited(agents: Agents, seed: Json, attempt: Attempt) -> Finding:
    assert attempt.grade is not None
    own = attempt.grade.criteria
    try:
        grade = await agents.audit(seed, attempt.candidate, attempt.round, attempt.checks, own)
    except (ReplyError, ModelError) as error:
        return Finding(attempt.round, error=_items_own(error))
    reason, detail = agents.rubric.with_criteria(own).decide(grade)
    return Finding(attempt.round, grade, reason is None, reason, detail)


async def try_canary(agents: Agents, seed: Json, canary: Canary, own: Sequence[Json]) -> Finding:
    """Let checks and critic grade a canary as if it were an item's draft."""
    results = await run_checks(agents.checks, canary.candidate, seed)
    failed = [r.name for r in results if r.veto and not r.passed]
    if failed:
        return Finding(CANARY_ROUND, detail=f"the check `{failed[0]}` refused it")
    try:
        grade = await agents.grade(seed, canary.candidate, CANARY_ROUND, results, own)
    except (ReplyError, ModelError) as error:
        return Finding(CANARY_ROUND, error=_items_own(error))
    reason, detail = agents.rubric.with_criteria(own).decide(grade)
    return Finding(CANARY_ROUND, grade, reason is None, reason, detail)


def _items_own(error: Exception) -> str:
    """Return what is written down; an error that is the run's own is raised again."""
    if isinstance(error, AccessError | UnreachableError):
        raise error
    return f"{type(error).__name__}: {error}"[:500]


def gate(verdict: Verdict, findings: Sequence[Finding]) -> Verdict:
    """Return what an audit of all items makes of a verdict: an accepted one must pass it too."""
    if verdict.verdict != "accepted":
        return verdict
    found = next((f for f in findings if f.round == verdict.round), None)
    if found is not None and found.accepted:
        return verdict
    if found is None or found.error:
        detail = f"the auditor's reply cannot be used: {found.error if found else 'there is none'}"
        return verdict.model_copy(
            update={"verdict": "ungradable", "reason": "judge_unreadable", "detail": detail}
        )
    return verdict.model_copy(
        update={
            "verdict": "rejected",
            "reason": "failed_audit",
            "detail": f"by the auditor: {found.detail}",
        }
    )


def audit_line(run: str, item: str, opening: int, finding: Finding, now: float) -> tuple[str, Json]:
    """Return the row of an audit."""
    return "audits", {
        "run": run,
        "item": item,
        "opening": opening,
        "round": finding.round,
        "score": finding.grade.score if finding.grade else None,
        "accepted": finding.accepted if finding.grade else None,
        "grade": finding.grade.model_dump(mode="json") if finding.grade else None,
        "error": finding.error or None,
        "time": now,
    }


def canary_line(
    run: str, item: str, canary: Canary, finding: Finding, now: float
) -> tuple[str, Json]:
    """Return the row of a canary; one that a check refused has neither score nor error."""
    return "canaries", {
        "run": run,
        "item": item,
        "kind": canary.kind,
        "good": canary.kind == "good",
        "score": finding.grade.score if finding.grade else None,
        "caught": canary.caught(finding.accepted) if finding.grade else None,
        "error": finding.error or None,
        "time": now,
    }
