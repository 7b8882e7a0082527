"""What each round of revision brought, and what it cost: is another one worth it?

Enters: a store, a run, a grading of it. Leaves: one line of figures for each round. Refuses to know:
rubrics, who judged, what a reader makes of the figures.

A revision is compared with its parent: fixed, broken, or as good or bad as that was; means hide what
breaks. A critic that revisions please, while a held-out auditor finds them no better, shows in `gap`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from agentloop.records import Json
from agentloop.store import Store
from agentloop.store.figures import SETTLED
from agentloop.store.files import connect

if TYPE_CHECKING:
    import duckdb

SPENT = (
    "CASE WHEN count(*) FILTER (answered AND tries > 0 AND cost_usd IS NULL "
    "AND rid NOT IN (SELECT rid FROM reservations WHERE run = $run)) > 0 THEN NULL "
    "ELSE coalesce(sum(cost_usd), 0) END"
)
"""What calls of `$run` cost in USD; NULL when that is unknown of one of them."""
CHARS = (
    "coalesce(list_sum([length(json_extract_string(part, '$')) FOR part IN "
    "json_extract(a.candidate, '$..*') IF json_type(part) = 'VARCHAR']), 0)"
)
"""The number of characters of all texts in a candidate, its keys apart."""
_ROUNDS = f"""
WITH {SETTLED}, tried AS MATERIALIZED (
    SELECT e.item, a.round, a.parent, {CHARS} AS chars, coalesce(g.accepted, false) AS accepted,
           CAST(g.grade->>'score' AS DOUBLE) AS score, d.score AS audit,
           coalesce(g.grade->>'rubric' = d.grade->>'rubric', false) AS alike
    FROM settled e JOIN attempts a ON a.run = e.run AND a.item = e.item AND a.opening = e.opening
    LEFT JOIN grades g ON g.run = a.run AND g.item = a.item AND g.opening = a.opening
        AND g.round = a.round AND g.grading = $grading
    LEFT JOIN audits d ON d.run = a.run AND d.item = a.item AND d.opening = a.opening
        AND d.round = a.round
), firsts AS (SELECT item, min(round) AS round FROM tried WHERE accepted GROUP BY item)
SELECT t.round, count(*), avg(t.score), count(*) FILTER (t.accepted), count(f.item), count(p.item),
       count(*) FILTER (f.item IS NOT NULL AND p.item IS NOT NULL),
       count(*) FILTER (NOT p.accepted AND t.accepted), count(*) FILTER (p.accepted AND NOT t.accepted),
       count(*) FILTER (p.accepted AND t.accepted),
       count(*) FILTER (NOT p.accepted AND NOT t.accepted),
       avg(t.chars - p.chars), avg(t.score - p.score), count(t.audit - p.audit),
       avg(t.audit - p.audit),
       avg(t.score - p.score - (t.audit - p.audit)) FILTER (t.alike AND p.alike)
FROM tried t LEFT JOIN tried p ON p.item = t.item AND p.round = t.parent
LEFT JOIN firsts f ON f.item = t.item AND f.round = t.round GROUP BY t.round ORDER BY t.round
"""
_MARKS = f"""
WITH {SETTLED}, listed AS (
    SELECT round, from_json(grade->'marks', '[{{"criterion": "VARCHAR", "value": "DOUBLE"}}]') AS marks
    FROM graded
), marked AS (
    SELECT round, unnest(marks) AS mark, generate_subscripts(marks, 1) AS place FROM listed
)
SELECT round, mark.criterion, avg(mark.value) FROM marked GROUP BY 1, 2 ORDER BY 1, min(place), 2
"""


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


class _Spent(NamedTuple):
    calls: int = 0
    tokens: int = 0
    cost_usd: float | None = 0.0


def rounds(store: Store, run: str | None = None, grading: int = 0) -> list[Round]:
    """Return the figures of every round of a run, verdicts by one of its gradings.

    Costs are the run's: writing, judging and repairing, as the calls' places tell.
    """
    name = store.run(run)
    values: Json = {"run": name, "grading": grading}
    marks: dict[int, dict[str, float]] = {}
    with connect(store.path, write=False) as connection:
        rows = connection.execute(_ROUNDS, values).fetchall()
        for number, criterion, mean in connection.execute(_MARKS, values).fetchall():
            marks.setdefault(number, {})[criterion] = mean
        spent = _spent(connection, name)
    told: list[list[Any]] = [
        [*row, *spent.get(row[0], _Spent()), marks.get(row[0], {})] for row in rows
    ]
    return [Round(*one) for one in told]


def _spent(connection: duckdb.DuckDBPyConnection, run: str) -> dict[int, _Spent]:
    rows = connection.execute(
        "SELECT CAST(split_part(key, '/', 2) AS INTEGER), count(*) FILTER (answered AND tries > 0), "
        f"coalesce(sum(prompt_tokens + completion_tokens), 0), {SPENT} FROM calls "
        "WHERE run = $run AND split_part(key, '/', 1) <> 'auditor' GROUP BY 1",
        {"run": run},
    ).fetchall()
    return {number: _Spent(int(calls), int(tokens), cost) for number, calls, tokens, cost in rows}
