"""What each round of revision brought, and what it cost: is another one worth it?

Enters: a store, a run, a grading of it. Leaves: one line of figures for each round. Refuses to know:
rubrics, who judged, what a reader makes of the figures.

A revision is compared with its parent: fixed, broken, or as good or bad as that was; means hide what
breaks. A critic that revisions please, while a held-out auditor finds them no better, shows in `gap`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from agentloop.records import Json
from agentloop.store import Store
from agentloop.store.files import connect

if TYPE_CHECKING:
    import duckdb

SPENT = (
    "CASE WHEN count(*) FILTER (answered AND tries > 0 AND cost_usd IS NULL "
    "AND rid NOT IN (SELECT rid FROM reservations WHERE run = $run)) > 0 THEN NULL "
    "ELSE coalesce(sum(cost_usd), 0) END"
)
"""What calls of `$run` cost in USD; NULL when that is unknown of one of them."""


@dataclass(frozen=True)
class Round:
    """The figures of one round; means are None where there is nothing to average."""

    round: int
    """0 for the first drafts."""
    attempts: int
    mean_score: float | None
    accepted: int
    gained: int
    """Items of which this is the first accepted attempt."""
    revisions: int
    """Attempts that revise another one; candidates that stand side by side revise none."""
    repaired: int
    """Items of which this is the first accepted attempt, and a revision."""
    fixed: int
    broken: int
    unchanged_good: int
    unchanged_bad: int
    growth_chars: float | None
    """Mean number of characters that a candidate is longer than its parent."""
    critic_gain: float | None
    """Mean score above the parent's."""
    audited: int
    """Attempts that the auditor marked together with their parent."""
    auditor_gain: float | None
    gap: float | None
    """The critic's gain less the auditor's, over the same attempts by the same rubric."""
    calls: int
    tokens: int
    cost_usd: float | None
    """What its calls cost in the run, the auditor's apart; None when that is unknown."""
    marks: Mapping[str, float]
    """Mean value of the marks by criterion, 0..1: what one gains another may lose."""

    @property
    def accepted_share(self) -> float | None:
        """Accepted attempts of all attempts."""
        return self.accepted / self.attempts if self.attempts else None

    @property
    def cost_per_gained(self) -> float | None:
        """USD for each item that this round made acceptable; None when unknown or there is none."""
        return None if self.cost_usd is None or not self.gained else self.cost_usd / self.gained

    @property
    def tokens_per_gained(self) -> float | None:
        """Tokens for each item that this round made acceptable; None when there is none."""
        return self.tokens / self.gained if self.gained else None

    def as_dict(self) -> Json:
        """Return the figures as JSON values."""
        derived = ("accepted_share", "cost_per_gained", "tokens_per_gained")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


class _Tried(NamedTuple):
    item: str
    round: int
    parent: int | None
    chars: int
    accepted: bool
    score: float | None
    audit: float | None
    alike: bool
    """Whether auditor and critic went by one rubric."""
    marks: str | None
    """The grade's, as JSON."""


class _Spent(NamedTuple):
    calls: int = 0
    tokens: int = 0
    cost_usd: float | None = 0.0


@dataclass
class _Sums:
    attempts: int = 0
    accepted: int = 0
    gained: int = 0
    revisions: int = 0
    repaired: int = 0
    marks: dict[str, list[float]] = field(default_factory=dict)
    moves: dict[tuple[bool, bool], int] = field(default_factory=dict)
    """By whether the parent was accepted, and whether the attempt is."""
    scores: list[float] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    audit_gains: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


def rounds(store: Store, run: str | None = None, grading: int = 0) -> list[Round]:
    """Return the figures of every round of a run, verdicts by one of its gradings.

    Costs are the run's: writing, judging and repairing, as the calls' places tell.
    """
    name = store.run(run)
    sums: dict[int, _Sums] = {}
    with connect(store.path, write=False) as connection:
        for _, tried in groupby(_tried(connection, name, grading), key=lambda t: t.item):
            _add(sums, list(tried))
        spent = _spent(connection, name)
    return [_round(n, sums[n], spent.get(n, _Spent())) for n in sorted(sums)]


def _tried(connection: duckdb.DuckDBPyConnection, run: str, grading: int) -> Iterator[_Tried]:
    """Yield the attempts of settled items, item by item, in order of their rounds."""
    cursor = connection.execute(
        "SELECT e.item, a.round, a.parent, a.candidate, coalesce(g.accepted, false), "
        "CAST(g.grade->>'score' AS DOUBLE), d.score, "
        "coalesce(g.grade->>'rubric' = d.grade->>'rubric', false), g.grade->'marks' FROM examples e "
        "JOIN attempts a ON a.run = e.run AND a.item = e.item AND a.opening = e.opening "
        "LEFT JOIN grades g ON g.run = a.run AND g.item = a.item AND g.opening = a.opening "
        "AND g.round = a.round AND g.grading = e.grading "
        "LEFT JOIN audits d ON d.run = a.run AND d.item = a.item AND d.opening = a.opening "
        "AND d.round = a.round WHERE e.run = ? AND e.grading = ? ORDER BY e.item, a.round",
        [run, grading],
    )
    while rows := cursor.fetchmany(1000):
        for item, number, parent, candidate, *rest in rows:
            yield _Tried(item, number, parent, _length(json.loads(candidate)), *rest)


def _length(value: Any) -> int:
    """Return the number of characters of all texts in a JSON value, its keys apart."""
    if isinstance(value, str):
        return len(value)
    parts = value.values() if isinstance(value, dict) else value
    return sum(map(_length, parts)) if isinstance(value, dict | list) else 0


def _spent(connection: duckdb.DuckDBPyConnection, run: str) -> dict[int, _Spent]:
    rows = connection.execute(
        "SELECT CAST(split_part(key, '/', 2) AS INTEGER), count(*) FILTER (answered AND tries > 0), "
        f"coalesce(sum(prompt_tokens + completion_tokens), 0), {SPENT} FROM calls "
        "WHERE run = $run AND split_part(key, '/', 1) <> 'auditor' GROUP BY 1",
        {"run": run},
    ).fetchall()
    return {number: _Spent(int(calls), int(tokens), cost) for number, calls, tokens, cost in rows}


def _add(sums: dict[int, _Sums], tried: Sequence[_Tried]) -> None:
    """Count the attempts of one item."""
    good = False
    by_round = {attempt.round: attempt for attempt in tried}
    for attempt in tried:
        parent = None if attempt.parent is None else by_round.get(attempt.parent)
        into = sums.setdefault(attempt.round, _Sums())
        into.attempts += 1
        into.accepted += attempt.accepted
        first = attempt.accepted and not good
        into.gained += first
        into.revisions += parent is not None
        into.repaired += first and parent is not None
        for mark in json.loads(attempt.marks or "[]"):
            into.marks.setdefault(mark["criterion"], []).append(mark["value"])
        good = good or attempt.accepted
        if attempt.score is not None:
            into.scores.append(attempt.score)
        if parent is not None:
            _compare(into, parent, attempt)


def _compare(into: _Sums, parent: _Tried, attempt: _Tried) -> None:
    move = (parent.accepted, attempt.accepted)
    into.moves[move] = into.moves.get(move, 0) + 1
    into.growth.append(attempt.chars - parent.chars)
    gain = _less(attempt.score, parent.score)
    audit = _less(attempt.audit, parent.audit)
    if gain is not None:
        into.gains.append(gain)
    if audit is not None:
        into.audit_gains.append(audit)
    if gain is not None and audit is not None and parent.alike and attempt.alike:
        into.gaps.append(gain - audit)


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _round(number: int, sums: _Sums, spent: _Spent) -> Round:
    moves = sums.moves
    return Round(
        round=number,
        attempts=sums.attempts,
        mean_score=_mean(sums.scores),
        accepted=sums.accepted,
        gained=sums.gained,
        revisions=sums.revisions,
        repaired=sums.repaired,
        fixed=moves.get((False, True), 0),
        broken=moves.get((True, False), 0),
        unchanged_good=moves.get((True, True), 0),
        unchanged_bad=moves.get((False, False), 0),
        growth_chars=_mean(sums.growth),
        critic_gain=_mean(sums.gains),
        audited=len(sums.audit_gains),
        auditor_gain=_mean(sums.audit_gains),
        gap=_mean(sums.gaps),
        calls=spent.calls,
        tokens=spent.tokens,
        cost_usd=spent.cost_usd,
        marks={name: fmean(values) for name, values in sums.marks.items()},
    )
