"""One settled item graded again: its attempts stay what they are, what is said of them is new.

Enters: an item with its attempts; agents with another rubric or critic. Leaves: the attempts with new
grades, and a new verdict. Refuses to know: the store, other items, which grading this is.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentloop.agents import Agents
from agentloop.checks import run_checks
from agentloop.errors import ReplyError, TransientError
from agentloop.nodes import not_worse
from agentloop.records import Attempt, Json, Reason, Verdict
from agentloop.store.gradings import Settled
from agentloop.verdicts import Refuse, failure, reply_reason, settle, ungradable

DOOR: frozenset[Reason] = frozenset(
    {"duplicate", "too_similar", "contaminated", "over_quota", "over_target"}
)
"""Reasons that compare an item with others: no rubric changes them."""
GATED = "the run's gate decided, and no auditor is asked here"


async def grade_again(
    agents: Agents, settled: Settled, refuse: Refuse | None = None
) -> tuple[list[Attempt], Verdict]:
    """Return every attempt with its new grade, and the verdict of the best one.

    An item that was refused at the door, or that an audit of all kept out, does not get in; one
    without an attempt keeps its verdict.
    Where no attempt is accepted, one whose judge cannot be read makes the item `ungradable`.
    Raises TransientError when the endpoint may answer later, and what is no item's own.
    """
    if not settled.attempts:
        return [], settled.verdict
    attempts = list(settled.attempts)
    try:
        attempts = [await _checked(agents, settled.seed, attempt) for attempt in attempts]
        vetoed = all(attempt.reason for attempt in attempts)
        own = () if vetoed else await _own_criteria(agents, settled)
    except Exception as error:
        reason, verdict = _ended(error, attempts)
        return [_without(a, reason, verdict.detail) for a in attempts], verdict
    attempts, errors = await _judged(agents, settled.seed, attempts, own)
    return attempts, _at_the_door(_verdict(attempts, errors, refuse), settled)


async def _judged(
    agents: Agents, seed: Json, attempts: Sequence[Attempt], own: Sequence[Json]
) -> tuple[list[Attempt], list[Exception]]:
    """Let the critic mark every attempt that no check has vetoed."""
    judged: list[Attempt] = []
    errors: list[Exception] = []
    for attempt in attempts:
        if attempt.reason is None:
            try:
                attempt = await _graded(agents, seed, attempt, own)
            except Exception as error:
                reason, verdict = _ended(error, [attempt])
                attempt = _without(attempt, reason, verdict.detail)
                errors.append(error)
        judged.append(not_worse(attempt, judged))
    return judged, errors


async def _checked(agents: Agents, seed: Json, attempt: Attempt) -> Attempt:
    """Return an attempt with the checks of now; one that a veto failed has its reason already."""
    results = await run_checks(agents.checks, attempt.candidate, seed)
    failed = [r for r in results if r.veto and not r.passed]
    reason: Reason | None = "failed_check" if failed else None
    bare = _without(attempt, reason, "; ".join(r.evidence or r.name for r in failed))
    return bare.model_copy(update={"checks": results})


async def _own_criteria(agents: Agents, settled: Settled) -> tuple[Json, ...]:
    """Return the item's own criteria: those of its run where they are as many, else new ones."""
    if not agents.rubric.per_item:
        return ()
    for attempt in settled.attempts:
        if attempt.grade and len(attempt.grade.criteria) == agents.rubric.per_item:
            return attempt.grade.criteria
    return await agents.write_criteria(settled.seed)


async def _graded(agents: Agents, seed: Json, attempt: Attempt, own: Sequence[Json]) -> Attempt:
    grade = await agents.grade(seed, attempt.candidate, attempt.round, attempt.checks, own)
    reason, detail = agents.rubric.with_criteria(own).decide(grade)
    found = {"grade": grade, "accepted": reason is None, "reason": reason, "detail": detail}
    return attempt.model_copy(update=found)


def _without(attempt: Attempt, reason: Reason | None, detail: str) -> Attempt:
    """Return an attempt without a grade."""
    found = {"grade": None, "accepted": False, "reason": reason, "detail": detail}
    return attempt.model_copy(update=found)


def _ended(error: Exception, attempts: Sequence[Attempt]) -> tuple[Reason, Verdict]:
    """Return what an error makes of attempts, where it is the item's own; else it is raised."""
    if isinstance(error, TransientError):
        raise error
    if isinstance(error, ReplyError):
        return reply_reason(error), Verdict.model_validate(ungradable(error, attempts))
    return "error", Verdict.model_validate(failure(error))


def _verdict(
    attempts: Sequence[Attempt], errors: Sequence[Exception], refuse: Refuse | None
) -> Verdict:
    """Return the verdict of the best attempt; what went wrong counts where none is accepted."""
    accepted = any(attempt.accepted for attempt in attempts)
    unread = [error for error in errors if isinstance(error, ReplyError)]
    if unread and not accepted:
        return _ended(unread[-1], attempts)[1]
    if errors and not any(attempt.grade for attempt in attempts):
        return _ended(errors[-1], attempts)[1]
    graded = [attempt for attempt in attempts if attempt.reason != "error"]
    return Verdict.model_validate(settle(graded, refuse))


def _at_the_door(verdict: Verdict, settled: Settled) -> Verdict:
    """Return the verdict; what was a copy, one too many, or kept out by an auditor, still is."""
    before = settled.verdict
    if verdict.verdict != "accepted":
        return verdict
    if _gated(settled):
        detail = f"{before.detail} ({GATED})"
        return verdict.model_copy(
            update={"verdict": before.verdict, "reason": before.reason, "detail": detail}
        )
    if before.reason in DOOR:
        kept = {"verdict": "rejected", "reason": before.reason, "detail": before.detail}
        return verdict.model_copy(update=kept)
    return verdict


def _gated(settled: Settled) -> bool:
    """Whether an audit of all kept an item out that its critic had accepted."""
    before = settled.verdict
    kept = next((a for a in settled.attempts if a.round == before.round), None)
    unread = before.reason == "judge_unreadable" and kept is not None and kept.accepted
    return before.reason == "failed_audit" or unread
