"""Two gradings, or two runs, item by item: what changed, and why.

Enters: a store and two sides. Leaves: how many items went from which verdict to which, and each one
whose verdict changed. Refuses to know: rubrics, who judged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from agentloop.errors import StoreError
from agentloop.records import Json
from agentloop.store import Store
from agentloop.store.files import connect
from agentloop.store.gradings import company_of, identity_at

if TYPE_CHECKING:
    import duckdb


class Side(NamedTuple):
    """One of the two things that are compared."""

    run: str
    grading: int = 0

    def __str__(self) -> str:
        return f"grading {self.grading} of {self.run}" if self.grading else self.run


class Judged(NamedTuple):
    """How an item ended on one side."""

    verdict: str
    reason: str | None
    score: float | None
    detail: str


@dataclass(frozen=True)
class Change:
    """One item whose verdict is another."""

    item: str
    before: Judged
    after: Judged
    marks: tuple[tuple[str, str, str], ...]
    """`(criterion, before, after)` of each mark whose level is another."""

    @property
    def why(self) -> str:
        """What the second side says; what the first one had said where it has nothing to add."""
        parts = [f"`{name}` {before} → {after}" for name, before, after in self.marks]
        if self.after.detail:
            parts.append(self.after.detail)
        elif self.before.detail:
            parts.append(f"before: {self.before.detail}")
        return "; ".join(parts)

    def as_dict(self) -> Json:
        """Return the change as JSON values."""
        marks = [dict(zip(("criterion", "before", "after"), m, strict=True)) for m in self.marks]
        return {
            "item": self.item,
            "before": self.before._asdict(),
            "after": self.after._asdict(),
            "marks": marks,
            "why": self.why,
        }


@dataclass(frozen=True)
class Diff:
    """What is another on the second side."""

    a: Side
    b: Side
    transitions: dict[tuple[str, str], int]
    """Items by their verdicts on both sides, most frequent first."""
    changed: tuple[Change, ...]
    only_a: int
    """Items that only the first side has a verdict for."""
    only_b: int
    notice: str = ""
    """Which of one side's judges the other side was not judged by."""

    def as_dict(self) -> Json:
        """Return the comparison as JSON values."""
        return {
            "a": self.a._asdict(),
            "b": self.b._asdict(),
            "transitions": [
                {"before": before, "after": after, "items": count}
                for (before, after), count in self.transitions.items()
            ],
            "changed": [change.as_dict() for change in self.changed],
            "only_a": self.only_a,
            "only_b": self.only_b,
            "notice": self.notice,
        }


def side_of(store: Store, word: str, run: str | None = None) -> Side:
    """Return what a word names: a grading of a run by its number, else a run by its name.

    Raises StoreError when there is neither.
    """
    name = store.run(run)
    if word.isdecimal() and (word not in store.runs() or run is not None):
        return Side(name, store.grading(int(word), name))
    if run is not None:
        raise StoreError(f"`{word}` is no grading's number; `--run` goes with such numbers only")
    return Side(store.run(word))


_SIDES = """
WITH a AS (SELECT * FROM examples WHERE run = $run_a AND grading = $grading_a),
     b AS (SELECT * FROM examples WHERE run = $run_b AND grading = $grading_b)
"""


def diff(store: Store, a: Side, b: Side) -> Diff:
    """Compare two gradings or runs of a store by their items' ids."""
    values = {"run_a": a.run, "grading_a": a.grading, "run_b": b.run, "grading_b": b.grading}
    with connect(store.path, write=False) as connection:
        notice = _notice(connection, a, b)
        counted = connection.execute(
            f"{_SIDES} SELECT a.verdict, b.verdict, count(*) FROM a FULL JOIN b USING (item) "
            "GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
            values,
        ).fetchall()
        rows = connection.execute(
            f"{_SIDES} SELECT item, a.verdict, a.reason, a.score, a.detail, b.verdict, b.reason, "
            "b.score, b.detail, a.grade->'marks', b.grade->'marks' FROM a JOIN b USING (item) "
            "WHERE a.verdict <> b.verdict ORDER BY a.time, item",
            values,
        ).fetchall()
    return Diff(
        a,
        b,
        {(before, after): n for before, after, n in counted if before and after},
        tuple(_change(row) for row in rows),
        only_a=sum(n for _, after, n in counted if after is None),
        only_b=sum(n for before, _, n in counted if before is None),
        notice=notice,
    )


def _notice(connection: duckdb.DuckDBPyConnection, a: Side, b: Side) -> str:
    """Say where the sides differ in who judged beside the critic."""
    one, other = (company_of(identity_at(connection, *side)) for side in (a, b))
    told = [
        f"{side} was judged by {lacking}, {against} was not"
        for side, lacking, against in ((a, one.without(other), b), (b, other.without(one), a))
        if lacking
    ]
    return "; ".join(told)


def _change(row: tuple[Any, ...]) -> Change:
    item, *ends = row
    before, after = (
        {mark["criterion"]: mark["level"] for mark in json.loads(text or "null") or ()}
        for text in ends[8:]
    )
    moved = [(name, before[name], after[name]) for name in before if name in after]
    return Change(
        item,
        Judged(*ends[:4]),
        Judged(*ends[4:8]),
        tuple(move for move in moved if move[1] != move[2]),
    )
