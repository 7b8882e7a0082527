"""What a run came to, in the numbers that it ends with and that `status` shows.

Enters: an open store, a run's name, a grading. Leaves: counts over all its sessions. Refuses to know:
how sums are kept, how a count is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentloop.store.sums import Sums, read_sums

if TYPE_CHECKING:
    import duckdb

    from agentloop.records import Json, VerdictName

VERDICTS: tuple[VerdictName, ...] = ("accepted", "rejected", "ungradable", "failed")
"""All that `records.VerdictName` allows."""
COUNT_KEYS = [
    "run",
    "recipe",
    *VERDICTS,
    "seeds",
    "attempts",
    "audits",
    "canaries",
    "calls",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "unsettled_usd",
    "seconds",
    "stopped_by",
]
CENTS = 12  # digits of USD that count: what was set aside and given back leaves no rounding behind


def calls_name(run: str, grading: int) -> str:
    """Return the name that the calls of a grading stand under: the run's own, or `RUN#GRADING`."""
    return f"{run}#{grading}" if grading else run


def read_counts(
    connection: duckdb.DuckDBPyConnection, run: str, grading: int = 0, sums: Sums | None = None
) -> Json:
    """Return the counts of one run, or one grading of it, from an open store."""
    sums = sums or read_sums(connection)
    verdicts: dict[str, int] = dict.fromkeys(VERDICTS, 0)
    for (verdict, _), count in sums.verdicts(run, grading).items():
        verdicts[verdict] += count
    name = calls_name(run, grading)
    seconds, stopped_by = _time_spent(connection, name)
    return {
        "run": run,
        "recipe": one(connection, "SELECT recipe FROM runs WHERE run = ?", run),
        **verdicts,
        "seeds": int(sums.one("seeds", run)[0]),
        "attempts": int(sums.one("grades", run, grading, size=3)[0]),
        "audits": one(connection, "SELECT count(*) FROM audits WHERE run = ?", name),
        "canaries": one(connection, "SELECT count(*) FROM canaries WHERE run = ?", name),
        **read_spending(connection, name, sums),
        "seconds": round(seconds, 3),
        "stopped_by": stopped_by,
    }


def read_spending(
    connection: duckdb.DuckDBPyConnection, run: str, sums: Sums | None = None
) -> Json:
    """Return what a run's calls came to: their number, requests, tokens, USD.

    The cost is None when that of one call is unknown, and nothing was set aside for it either.
    """
    sums = sums or read_sums(connection)
    calls = [numbers for _, numbers in sums.of("calls", run)]
    number, requests, prompt, completion, _, usd, _ = map(sum, zip([0] * 7, *calls, strict=True))
    unsettled = sums.one("reserved", run)[0] - sums.one("released", run)[0]
    return {
        "calls": int(number),
        "requests": int(requests),
        "prompt_tokens": int(prompt),
        "completion_tokens": int(completion),
        "cost_usd": None if sums.one("unpriced", run)[0] else usd,
        "unsettled_usd": max(0.0, round(unsettled, CENTS)),
    }


def _time_spent(connection: duckdb.DuckDBPyConnection, run: str) -> tuple[float, str | None]:
    """Return the seconds of all sessions, and what ended the last one (None: running, or killed)."""
    spent: dict[str, float] = {}
    stopped_by = None
    marks = "SELECT session, seconds, stopped_by FROM sessions WHERE run = ? ORDER BY time, seconds"
    for session, seconds, by in connection.execute(marks, [run]).fetchall():
        spent[session] = seconds
        stopped_by = by
    return sum(spent.values()), stopped_by


def one(connection: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> Any:
    """Return the one value that a query has."""
    ((value,),) = connection.execute(sql, list(values)).fetchall()
    return value
