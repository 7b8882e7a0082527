"""What a grading beside the run's own needs: its number, and the items that it still owes.

Enters: an open store, a run, what the grading is made of. Leaves: its number; settled items with all
their attempts, in the order settled. Refuses to know: rubrics, models, what a grade says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from agentloop.errors import StoreError
from agentloop.records import Attempt, Json, Verdict
from agentloop.store import ATTEMPT, calls_name, read_attempt
from agentloop.store.resume import ancestry

if TYPE_CHECKING:
    import duckdb


class Settled(NamedTuple):
    """A settled item of a run, as its own grading left it."""

    item: str
    opening: int
    seed: Json
    """The seed's fields."""
    verdict: Verdict
    attempts: tuple[Attempt, ...]


class Company(NamedTuple):
    """Who judges beside the critic."""

    panel: tuple[str, ...] = ()
    escalation: str = ""

    def without(self, other: Company) -> str:
        """Return in words what another company has no part of; nothing where it lacks nothing."""
        parts = []
        if self.panel and not other.panel:
            parts.append(f"a panel with {', '.join(self.panel)}")
        if self.escalation and not other.escalation:
            parts.append(f"escalation to {self.escalation}")
        return " and ".join(parts)


class Source(NamedTuple):
    """What made a run: where its recipe is found, and its identity."""

    recipe_ref: str
    identity: Json


def source_of(connection: duckdb.DuckDBPyConnection, run: str) -> Source:
    """Return what made a run that is there."""
    ((ref, identity),) = connection.execute(
        "SELECT recipe_ref, identity FROM runs WHERE run = ?", [run]
    ).fetchall()
    return Source(ref, json.loads(identity))


def identity_at(connection: duckdb.DuckDBPyConnection, run: str, grading: int) -> Json:
    """Return what a run, or a grading beside its own, is made of; both are there."""
    ((identity,),) = connection.execute(
        "SELECT identity FROM gradings WHERE run = $run AND grading = $grading "
        "UNION ALL SELECT identity FROM runs WHERE run = $run AND $grading = 0",
        {"run": run, "grading": grading},
    ).fetchall()
    found: Json = json.loads(identity)
    return found


def number_of(connection: duckdb.DuckDBPyConnection, run: str, identity: Json) -> tuple[int, bool]:
    """Return the number of a grading, and whether it is a new one.

    A grading of the same identity goes on: items that were left out, or settled since, are still owed.
    """
    rows = connection.execute(
        "SELECT grading, identity FROM gradings WHERE run = ? ORDER BY grading DESC", [run]
    ).fetchall()
    for grading, text in rows:
        if json.loads(text) == identity:
            return grading, False
    number = max([grading for grading, _ in rows], default=0) + 1
    runs = {row[0] for row in connection.execute("SELECT run FROM runs").fetchall()}
    while calls_name(run, number) in runs:  # its calls would be counted among that run's
        number += 1
    return number, True


def answered_by(connection: duckdb.DuckDBPyConnection, run: str, grading: int) -> tuple[str, ...]:
    """Return the names whose calls may answer a grading: the run, its ancestors, other gradings."""
    rows = connection.execute(
        "SELECT grading FROM gradings WHERE run = ? AND grading <> ? ORDER BY grading DESC",
        [run, grading],
    ).fetchall()
    return (*ancestry(connection, run), *(calls_name(run, row[0]) for row in rows))


def accepted_texts(
    connection: duckdb.DuckDBPyConnection, run: str, grading: int
) -> list[tuple[str, str]]:
    """Return fingerprint and item of what a run, or a grading of it, has accepted."""
    return connection.execute(
        "SELECT fingerprint, item FROM verdicts JOIN examples USING (run, item, grading, opening) "
        "WHERE run = ? AND grading IN (0, ?) AND examples.verdict = 'accepted' AND fingerprint <> '' "
        "ORDER BY grading, examples.time",
        [run, grading],
    ).fetchall()


def company_of(identity: Json) -> Company:
    """Return who judges beside the critic, by a run's or a grading's identity."""
    models = {
        key.removeprefix("models."): str(model.get("model"))
        for key, model in sorted(identity.items())
        if key == "models.escalation" or key.startswith("models.critic.")
    }
    escalation = models.pop("escalation", "")
    return Company(tuple(models.values()), escalation)


def owed_items(connection: duckdb.DuckDBPyConnection, run: str, grading: int) -> list[str]:
    """Return the settled items that a grading has no verdict for, in the order settled."""
    rows = connection.execute(
        "SELECT item FROM examples e WHERE run = $run AND grading = 0 AND NOT EXISTS (SELECT 1 "
        "FROM verdicts v WHERE v.run = $run AND v.grading = $grading AND v.item = e.item "
        "AND v.opening = e.opening) ORDER BY time, item",
        {"run": run, "grading": grading},
    ).fetchall()
    return [row[0] for row in rows]


def check_seeds(connection: duckdb.DuckDBPyConnection, run: str, fields: Sequence[str]) -> None:
    """Raise StoreError when seeds of a run lack a field, before anything is paid."""
    for field in fields:
        ((lacking,),) = connection.execute(
            "SELECT count(*) FROM items WHERE run = ? AND seed->>? IS NULL", [run, f'$."{field}"']
        ).fetchall()
        if lacking:
            raise StoreError(
                f"{lacking} items of run `{run}` have seeds without `{field}`, which is read here"
            )


def read_settled(
    connection: duckdb.DuckDBPyConnection, run: str, items: Sequence[str]
) -> list[Settled]:
    """Return settled items with the attempts of their latest opening, in the order settled."""
    rows = connection.execute(
        f"""
        SELECT e.item, e.opening, e.seed, e.verdict, e.reason, e.detail, e.round, e.score,
               list({ATTEMPT} ORDER BY a.round) FILTER (a.round IS NOT NULL)
        FROM examples e
        LEFT JOIN attempts a ON a.run = e.run AND a.item = e.item AND a.opening = e.opening
        LEFT JOIN grades g ON g.run = a.run AND g.item = a.item AND g.opening = a.opening
            AND g.round = a.round AND g.grading = 0
        WHERE e.run = $run AND e.grading = 0 AND e.item IN (SELECT unnest($items))
        GROUP BY e.item, e.opening, e.seed, e.verdict, e.reason, e.detail, e.round, e.score, e.time
        ORDER BY e.time, e.item
        """,
        {"run": run, "items": list(items)},
    ).fetchall()
    return [_settled(*row) for row in rows]


def _settled(item: str, opening: int, seed: str, *ended: object) -> Settled:
    *verdict, attempts = ended
    named = zip(("verdict", "reason", "detail", "round", "score"), verdict, strict=True)
    told = [read_attempt(json.loads(text)) for text in attempts or ()]  # type: ignore[attr-defined]
    return Settled(
        item, opening, json.loads(seed), Verdict.model_validate(dict(named)), tuple(told)
    )
