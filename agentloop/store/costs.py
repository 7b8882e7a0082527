"""What a run cost, by role and for each item: made, accepted, and accepted as new.

Enters: the sums of a store and a run's name. Leaves: figures, and one line for a person. Refuses to
know: prices, budgets, which item cost what.

An item is made when its graph has ended, good when the loop accepted it, new when the door let it in:
what is paid for copies shows between the last two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentloop.store.sums import Sums

if TYPE_CHECKING:
    from agentloop.records import Json

DOOR = ("duplicate", "too_similar", "contaminated", "over_quota", "over_target")
"""Reasons for which the door refuses what the loop accepted."""


@dataclass(frozen=True)
class Costs:
    """Tokens and USD of one run."""

    made: int = 0
    good: int = 0
    new: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)
    """By role."""
    usd: Mapping[str, float | None] = field(default_factory=dict)
    """By role; None where a price is unknown."""

    @property
    def total_usd(self) -> float | None:
        """USD of all roles; None where one is unknown."""
        known = [cost for cost in self.usd.values() if cost is not None]
        return sum(known) if len(known) == len(self.usd) else None

    @property
    def line(self) -> str:
        """Say it for a person: in USD where that is known and not nothing, else in tokens."""
        total: float | None = self.total_usd
        parts: Mapping[str, float] = {role: usd or 0.0 for role, usd in self.usd.items()}
        unit = "USD"
        if not total:
            parts, total, unit = self.tokens, float(sum(self.tokens.values())), "tokens"
        if not total or not self.made:
            return ""
        each = [
            f"{_short(total / count)} {unit} an item {name}"
            for name, count in (("made", self.made), ("accepted", self.good), ("new", self.new))
            if count
        ]
        shares = sorted(parts.items(), key=lambda pair: -pair[1])
        by_role = ", ".join(f"{role} {share / total:.0%}" for role, share in shares if share)
        return f"{' · '.join(each)} ({by_role})"

    def as_dict(self) -> Json:
        """Return it as JSON values."""
        return {**vars(self), "total_usd": self.total_usd}


def read_costs(sums: Sums, run: str) -> Costs:
    """Return what a run cost, by the sums of its store."""
    made = new = door = 0
    for (verdict, reason), count in sums.verdicts(run).items():
        made += count if reason != "too_deep" else 0
        new += count if verdict == "accepted" else 0
        door += count if verdict == "rejected" and reason in DOOR else 0
    tokens: dict[str, int] = {}
    usd: dict[str, float | None] = {}
    for (role,), numbers in sorted(sums.of("calls", run)):
        *_, both, cost, unpriced = numbers
        tokens[role], usd[role] = int(both), None if unpriced else round(cost, 9)
    return Costs(made, new + door, new, tokens, usd)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
