"""How an item ends: by its best attempt, or by the error that left none.

Enters: attempts, or an exception. Leaves: a verdict as plain JSON, for the state.
Refuses to know: graphs, rounds left, other items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from agentloop.errors import (
    AccessError,
    AgentloopError,
    Filtered,
    ModelError,
    PromptError,
    RefusedReply,
    ReplyError,
    TransientError,
    UnreachableError,
)
from agentloop.records import Attempt, Json, Reason, Verdict

SHOWN = 500  # characters of a bug's text


Refuse = Callable[[Sequence[Attempt]], str]
"""`refuse(attempts)`: why an item is dropped whose best attempt would be accepted; empty to keep it."""


class Kept(NamedTuple):
    """What the door looks at of the attempt that a verdict keeps."""

    candidate: Json
    messages: tuple[dict[str, str], ...]

    @classmethod
    def of(cls, attempts: Sequence[Attempt], verdict: Verdict) -> Kept | None:
        """Return it of the attempt that a verdict names; None where there is none."""
        found = next((a for a in attempts if a.round == verdict.round), None)
        return None if found is None else cls(found.candidate, found.messages)


def settle(attempts: Sequence[Attempt], refuse: Refuse | None = None) -> Json:
    """Return the verdict of the best attempt, the later one among equals."""
    best = max(attempts, key=lambda a: (a.rank, a.round))
    if best.accepted and refuse and (why := refuse(attempts)):
        best = best.model_copy(update={"accepted": False, "reason": "filtered", "detail": why})
    verdict = Verdict(
        verdict="accepted" if best.accepted else "rejected",
        reason=best.reason,
        detail=best.detail,
        round=best.round,
        score=best.grade.score if best.grade else None,
    )
    return verdict.model_dump(mode="json")


def failure(error: Exception) -> Json:
    """Return the verdict of an item that an error left without a draft or a grade.

    Raises the error again when it is the run's and not the item's: a wrong key, a dead server, a full
    disk. Anything that is no error of ours is a bug in a check or a node: it is named.
    """
    if isinstance(error, AgentloopError) and not is_items_own(error):
        raise error
    if isinstance(error, Filtered):
        dropped = Verdict(verdict="rejected", reason="filtered", detail=str(error)[:SHOWN])
        return dropped.model_dump(mode="json")
    reason: Reason = "error"
    detail = str(error) if isinstance(error, AgentloopError) else f"{type(error).__name__}: {error}"
    if isinstance(error, ReplyError):
        reason = "refused" if isinstance(error, RefusedReply) else "malformed"
        detail = with_excerpt(detail, error.text)
    failed = Verdict(verdict="failed", reason=reason, detail=detail[:SHOWN])
    return failed.model_dump(mode="json")


def ungradable(error: ReplyError, attempts: Sequence[Attempt]) -> Json:
    """Return the verdict of an item whose critic could not be read: never a low mark.

    The best attempt that was graded is kept, else the latest.
    """
    detail = f"the critic's reply cannot be used: {error}"
    graded = [a for a in attempts if a.grade is not None]
    kept = max(graded, key=lambda a: a.rank) if graded else attempts[-1]
    verdict = Verdict(
        verdict="ungradable",
        reason=reply_reason(error),
        detail=with_excerpt(detail, error.text),
        round=kept.round,
    )
    return verdict.model_dump(mode="json")


def reply_reason(error: ReplyError) -> Reason:
    """Return the reason for a critic's reply that could not be used."""
    return "refused" if isinstance(error, RefusedReply) else "judge_unreadable"


def is_items_own(error: Exception) -> bool:
    """Whether an error says something of the item, and not of the endpoint or the store."""
    return isinstance(error, Filtered | ReplyError | ModelError | PromptError) and not isinstance(
        error, AccessError | UnreachableError
    )


def may_pass(error: Exception) -> bool:
    """Whether asking again another day may go well: an item that it ended is failed, not settled."""
    return isinstance(error, TransientError)


def with_excerpt(detail: str, text: str, size: int = 200) -> str:
    """Return a detail with the beginning of what a model wrote, in one line, as data."""
    line = " ".join(text.split())
    if not line:
        return detail
    return f"{detail} (it said: {line[:size]}{'…' if len(line) > size else ''})"
