"""How a run stands just now, as far as its store tells between two folds.

Enters: an open store, a run's counts. Leaves: a pace, what is on its way, the last scores, how fresh all
that is. Refuses to know: journals, processes, how anything is shown.

Only the last rows of `calls` and `verdicts` are looked at, by their row numbers: how many lie before
them does not matter. Of a run that was followed by a longer one all scores are.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from agentloop.store.counts import VERDICTS, calls_name, one

if TYPE_CHECKING:
    import duckdb

    from agentloop.records import Json

MINUTE = 60.0  # seconds in which calls are counted, back from what was stored last
PACED = 600.0  # seconds in which settled items are, for the time that is left
RECENT = 20_000  # rows, those stored last, that are looked at; of a fast run less than a minute's
SCORED = 40  # items, those graded last, whose scores are told
SILENT = 30.0  # seconds without a word after which a run that did not end is hardly alive

_SESSION = "SELECT * FROM sessions WHERE run = ? ORDER BY time DESC, seconds DESC LIMIT 1"
_ENDS = (
    "SELECT coalesce(min(time), 0), coalesce(max(time), 0) FROM calls WHERE rowid >= $first "
    "AND run = $run"
)
_CALLS = (
    "SELECT count(*) FROM calls WHERE rowid >= $first AND run = $run AND time > $since "
    "AND answered AND tries > 0"
)
_SCORES = (
    "SELECT score, verdict = 'accepted' FROM verdicts WHERE rowid >= $first AND run = $run "
    f"AND grading = $grading AND score IS NOT NULL ORDER BY rowid DESC LIMIT {SCORED}"
)
_MADE = (
    "SELECT count(*), count(*) FILTER (verdict = 'accepted'), coalesce(min(time), 0) FROM verdicts "
    "WHERE rowid >= $first AND run = $run AND grading = $grading AND time > $since"
)


class Session(NamedTuple):
    """What the last session of a run said of itself last."""

    begun: float
    """Seconds since the epoch, like all times here."""
    marked: float
    settings: Json
    refused: int | None = None


class Now(NamedTuple):
    """How a run stands."""

    stored: float
    """When the last of what is told here was written."""
    ended: bool
    """Whether its last session said that it ends."""
    on_the_way: int | None
    """Items that were begun and have no verdict; None for a grading of its own."""
    calls_per_second: float
    """Replies, in the last minute before `stored`."""
    refused: int | None
    """Requests of its last session that a limit refused (429); None in stores that do not tell."""
    scores: list[tuple[float, bool]]
    """Of the items graded last, in their order, and whether each was accepted."""
    target: int | None
    """Accepted items that are wanted, else items; None where every seed is used once."""
    target_kind: str
    eta_seconds: float | None
    budget_usd: float | None
    watched: bool
    """Whether the variety of what is accepted is watched."""

    @property
    def age(self) -> float:
        """Seconds since anything was stored."""
        return max(0.0, time.time() - self.stored)

    @property
    def running(self) -> bool:
        """Whether it is probably being worked on."""
        return not self.ended and self.age < SILENT

    def as_dict(self) -> Json:
        """Return it as JSON values."""
        told = self._asdict() | {"scores": [score for score, _ in self.scores]}
        return {**told, "age_seconds": round(self.age, 3), "running": self.running}


def read_now(connection: duckdb.DuckDBPyConnection, counts: Json, grading: int = 0) -> Now:
    """Return how a run stands, given its counts (`read_counts`)."""
    run, name = counts["run"], calls_name(counts["run"], grading)
    session = _session(connection, run, name)
    own = one(connection, "SELECT coalesce(identity->>'shard', '') FROM runs WHERE run = ?", run)
    target, kind = _target(session.settings, own)
    settled = sum(counts[verdict] for verdict in VERDICTS)
    stored, pace = _pace(connection, name, session)
    done = counts["accepted"] if kind == "accepted" else settled
    missing = None if target is None else max(0, target - done)
    place = {"run": run, "grading": grading}
    return Now(
        stored=stored,
        ended=counts["stopped_by"] is not None,
        on_the_way=None if grading else _begun(connection, run) - settled,
        calls_per_second=pace,
        refused=session.refused,
        scores=_scores(connection, place),
        target=target,
        target_kind=kind,
        eta_seconds=_eta(connection, place, session, kind, missing),
        budget_usd=session.settings.get("budget_usd"),
        watched=session.settings.get("on_collapse", "off") != "off",
    )


def _session(connection: duckdb.DuckDBPyConnection, run: str, name: str) -> Session:
    cursor = connection.execute(_SESSION, [name])
    found = cursor.fetchone()
    if found is None:  # it has not come to its first mark
        begun = one(connection, "SELECT time FROM runs WHERE run = ?", run)
        return Session(begun, begun, {})
    row = dict(zip([column[0] for column in cursor.description or []], found, strict=True))
    settings = json.loads(row["settings"] or "{}") or {}
    return Session(float(row["session"]), row["time"], settings, row.get("refused"))


def _target(settings: Json, shard: str) -> tuple[int | None, str]:
    """Return a run's target and its kind; a shard's is none of the whole that it was merged into."""
    if settings.get("shard", "") != shard:
        return None, "items"
    if settings.get("accept"):
        return settings["accept"], "accepted"
    return settings.get("items"), "items"


def _begun(connection: duckdb.DuckDBPyConnection, run: str) -> int:
    return int(one(connection, "SELECT count(*) FROM items WHERE run = ?", run))


def _first(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """Return the row from which on a table's last ones stand."""
    return max(0, int(one(connection, f"SELECT count(*) FROM {table}")) - RECENT)


def _pace(
    connection: duckdb.DuckDBPyConnection, name: str, session: Session
) -> tuple[float, float]:
    """Return when something was stored last, and the replies a second in the minute before that."""
    place = {"run": name, "first": _first(connection, "calls")}
    ((oldest, last),) = connection.execute(_ENDS, place).fetchall()
    stored = max(session.marked, last)
    since = max(session.begun, stored - MINUTE, oldest if place["first"] else 0.0)
    ((replies,),) = connection.execute(_CALLS, {**place, "since": since}).fetchall()
    return stored, round(replies / max(stored - since, 1.0), 2)


def _scores(connection: duckdb.DuckDBPyConnection, place: Json) -> list[tuple[float, bool]]:
    """Return the last scores, from all verdicts where the last ones hold too few."""
    found: list[Any] = []
    for first in sorted({_first(connection, "verdicts"), 0}, reverse=True):
        found = connection.execute(_SCORES, {**place, "first": first}).fetchall()
        if len(found) == SCORED:
            break
    return [(float(score), bool(accepted)) for score, accepted in reversed(found)]


def _eta(
    connection: duckdb.DuckDBPyConnection,
    place: Json,
    session: Session,
    kind: str,
    missing: int | None,
) -> float | None:
    """Return the seconds to the target at the pace of the last minutes; None where nobody knows."""
    if not missing:
        return None
    since = max(session.begun, session.marked - PACED)
    values = {**place, "first": _first(connection, "verdicts"), "since": since}
    ((settled, accepted, oldest),) = connection.execute(_MADE, values).fetchall()
    made = accepted if kind == "accepted" else settled
    if values["first"]:
        since = max(since, oldest)
    return round((session.marked - since) / made * missing, 1) if made else None
