"""Admission: the serial door before the store.

Enters: an item that its graph has finished, in the order of finishing. Leaves: its final verdict:
accepted items meet the target and are no copy of one already in. Refuses to know: models, files.

One place, no concurrency: two twins that finish together cannot both pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentloop.checks.quotes import normalise
from agentloop.records import Verdict, digest


def fingerprint(messages: Sequence[dict[str, str]]) -> str:
    """Return the hash of a conversation without regard to case, spacing and kind of quotes."""
    return digest("\0".join(f"{m['role']}:{normalise(m['content'])}" for m in messages), 8)


class Admission:
    """Knows what was accepted, and how many may be."""

    def __init__(self, accepted: Iterable[tuple[str, str]] = (), target: int | None = None):
        self._known = dict(accepted)
        self.accepted = len(self._known)
        self._target = target

    def admit(
        self, item: str, verdict: Verdict, messages: Sequence[dict[str, str]]
    ) -> tuple[Verdict, str]:
        """Return the final verdict and the fingerprint that it was admitted under."""
        if verdict.verdict != "accepted":
            return verdict, ""
        print_ = fingerprint(messages)
        if twin := self._known.get(print_):
            return _refuse(verdict, "duplicate", f"the same as item {twin}"), print_
        if self._target is not None and self.accepted >= self._target:
            return _refuse(verdict, "over_target", "good, but the target was reached"), print_
        self._known[print_] = item
        self.accepted += 1
        return verdict, print_


def _refuse(verdict: Verdict, reason: str, detail: str) -> Verdict:
    return verdict.model_copy(update={"verdict": "rejected", "reason": reason, "detail": detail})
