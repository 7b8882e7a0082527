"""What a report shows of a run beside its counts: distributions, series, and the items to read first.

Enters: an open store, a run, a grading. Leaves: sums that DuckDB made, a few hundred rows however long
the run is. Refuses to know: how they are shown, what they are worth.

Items count as they were last opened. An attempt is the one kept that the verdict names; `first` is the
draft of round 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import duckdb

    from agentloop.records import Json

BINS = 10
CRITERIA = 24  # an item's own criteria may have any number of names
POINTS = 60  # of a series; of more batches each point is the mean of some
WIDE = 0.2  # between the looks at one candidate

Why: TypeAlias = Literal["gain", "auditor", "looks", "threshold"]

SETTLED = """
settled AS (
    SELECT v.run, v.item, v.opening, v.verdict, v.reason, v.round, v.score FROM verdicts v
    LEFT JOIN (SELECT item, max(opening) AS latest FROM reopened WHERE run = $run GROUP BY item) o
        ON o.item = v.item
    WHERE v.run = $run AND v.grading = $grading AND v.opening = coalesce(o.latest, 0)
), graded AS (
    SELECT v.item, v.opening, v.round AS kept, g.round, g.grade, g.accepted,
           CAST(g.grade->>'score' AS DOUBLE) AS score
    FROM settled v JOIN grades g ON g.run = v.run AND g.item = v.item AND g.opening = v.opening
    WHERE g.grading = $grading AND g.grade IS NOT NULL
)
"""
_STEPS = f"""
WITH {SETTLED} SELECT (SELECT count(*) FROM items WHERE run = $run), count(*), count(round),
    count(score) FROM settled
"""
_ENDED = f"""
WITH {SETTLED} SELECT verdict, reason, count(*) FROM settled GROUP BY ALL ORDER BY 3 DESC, 1, 2
"""
_SCORES = f"""
WITH {SETTLED} SELECT least({BINS} - 1, CAST(floor(score * {BINS} + 1e-9) AS INTEGER)),
    count(*) FILTER (verdict = 'accepted'), count(*)
FROM settled WHERE score IS NOT NULL GROUP BY 1 ORDER BY 1
"""
_MARKS = f"""
WITH {SETTLED}, marked AS (
    SELECT round = 0 AS first, coalesce(round = kept, false) AS kept, unnest(from_json(grade->'marks',
        '[{{"criterion": "VARCHAR", "level": "VARCHAR", "value": "DOUBLE"}}]')) AS mark
    FROM graded WHERE round = 0 OR round = kept
), named AS (
    SELECT mark.criterion AS criterion FROM marked GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {CRITERIA}
)
SELECT mark.criterion, mark.level, least({BINS} - 1, CAST(floor(mark.value * {BINS} + 1e-9) AS INTEGER)),
    count(*) FILTER (first), count(*) FILTER (kept), coalesce(sum(mark.value) FILTER (first), 0),
    coalesce(sum(mark.value) FILTER (kept), 0)
FROM marked JOIN named ON named.criterion = mark.criterion GROUP BY ALL ORDER BY 1, 3, 2
"""
_SEVERAL = f"""
WITH {SETTLED}, looked AS (
    SELECT from_json(grade->'looks', '["DOUBLE"]') AS looks,
           json_array_length(grade->'judges') AS judges FROM graded WHERE round = kept
), apart AS (
    SELECT judges, CASE WHEN len(looks) > 1 THEN list_max(looks) - list_min(looks) END AS spread
    FROM looked
)
SELECT count(spread), avg(spread), count(*) FILTER (spread > {WIDE}), count(*) FILTER (judges > 1),
    count(*) FROM apart
"""
_TOLD = f"""
WITH {SETTLED} SELECT max(regexp_extract(g.detail, '^score [0-9.]+ < ([0-9]+[.]?[0-9]*);', 1)),
    min(CAST(g.grade->>'score' AS DOUBLE)) FILTER (g.accepted)
FROM settled v JOIN grades g ON g.run = v.run AND g.item = v.item AND g.opening = v.opening
WHERE g.grading = $grading AND (g.accepted OR g.reason = 'below_threshold')
"""
_BATCHES = """
batches AS (
    SELECT row_number() OVER (ORDER BY time, rid) - 1 AS place, count(*) OVER () AS batches,
           light, reading
    FROM readings WHERE run = $run AND view = 'batch'
)
"""
_POINT = f"CAST(place * {POINTS} // greatest(batches, {POINTS}) AS INTEGER)"
_LIGHTS = f"""
WITH {_BATCHES} SELECT {_POINT} AS point, count(*), count(*) FILTER (light = 'amber'),
    count(*) FILTER (light = 'red') FROM batches GROUP BY ALL ORDER BY 1
"""
_COMPARED = f"""
WITH {_BATCHES}, compared AS (
    SELECT place, batches, unnest(from_json(reading->'compared', '[{{"source": "VARCHAR",
        "value": "DOUBLE", "band": {{"figure": "VARCHAR", "low": "DOUBLE", "high": "DOUBLE"}}}}]')) AS c
    FROM batches
)
SELECT c.band.figure, c.source, {_POINT}, avg(place) + 1, avg(c.value), avg(c.band.low),
    avg(c.band.high), count(*) FROM compared GROUP BY ALL ORDER BY 1, 2, 3
"""
_MEASURED = f"""
WITH {_BATCHES}, measured AS (
    SELECT place, batches, figure, TRY_CAST(reading->'figures'->>figure AS DOUBLE) AS value
    FROM batches, (SELECT unnest($figures) AS figure)
)
SELECT figure, 'no band', {_POINT}, avg(place) + 1, avg(value), NULL, NULL, count(*)
FROM measured WHERE value IS NOT NULL GROUP BY ALL ORDER BY 1, 3
"""
_FIRST_TO_READ: Mapping[Why, str] = {
    "gain": f"""
WITH {SETTLED} SELECT k.item, k.score - f.score AS gain, NULL FROM graded k
JOIN graded f ON f.item = k.item AND f.opening = k.opening AND f.round = 0
JOIN attempts a ON a.run = $run AND a.item = k.item AND a.opening = k.opening AND a.round = k.round
WHERE k.round = k.kept AND a.parent IS NOT NULL AND k.score > f.score ORDER BY gain DESC, k.item
LIMIT $most
""",
    "auditor": f"""
WITH {SETTLED} SELECT g.item, a.score - g.score, g.round FROM audits a
JOIN graded g ON g.item = a.item AND g.opening = a.opening AND g.round = a.round
WHERE a.run = $run AND $grading = 0 AND a.score IS NOT NULL AND a.score <> g.score
ORDER BY abs(a.score - g.score) DESC, g.item, g.round LIMIT $most
""",
    "looks": f"""
WITH {SETTLED}, looked AS (
    SELECT item, round, from_json(grade->'looks', '["DOUBLE"]') AS looks FROM graded
)
SELECT item, list_max(looks) - list_min(looks) AS spread, round FROM looked
WHERE len(looks) > 1 AND list_max(looks) > list_min(looks) ORDER BY spread DESC, item, round LIMIT $most
""",
    "threshold": f"""
WITH {SETTLED} SELECT item, score - $threshold, NULL FROM settled
WHERE score IS NOT NULL AND $threshold IS NOT NULL
    AND (verdict = 'accepted' OR reason = 'below_threshold')
ORDER BY row_number() OVER (PARTITION BY score >= $threshold ORDER BY abs(score - $threshold), item),
    item LIMIT $most
""",
}


class Steps(NamedTuple):
    """How far the items of a run came."""

    items: int
    """Items that were begun."""
    settled: int
    written: int
    """Settled items with an attempt that is kept."""
    graded: int
    """Settled items whose kept attempt has a score."""


@dataclass
class Level:
    """How often one level was given."""

    level: str
    first: int = 0
    kept: int = 0


@dataclass
class Marked:
    """How one criterion was marked, in first drafts and in kept attempts."""

    criterion: str
    levels: list[Level] = field(default_factory=list)
    """The worst first, by the values of their marks."""
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    """Kept attempts by tenths of the mark's value."""
    mean_first: float | None = None
    mean_kept: float | None = None


class Several(NamedTuple):
    """How several looks at one kept candidate, or several judges, agree."""

    looked: int
    """Grades of several looks."""
    spread: float | None
    """Mean distance of their highest score from the lowest."""
    wide: int
    """Those of them further apart than 0.2."""
    panels: int
    """Grades of several judges."""
    grades: int


class Threshold(NamedTuple):
    """The score from which attempts are accepted."""

    value: float | None
    known: bool
    """Whether the store says so; else it is the lowest score that was accepted."""


class Light(NamedTuple):
    """The lights of some batches that follow each other."""

    batches: int
    amber: int
    red: int

    @property
    def worst(self) -> str:
        """The worst of them."""
        return "red" if self.red else "amber" if self.amber else "green"


class Point(NamedTuple):
    """A figure of one batch, or the mean of some that follow each other."""

    batch: float
    value: float
    low: float | None
    high: float | None


class Series(NamedTuple):
    """A figure over time, with the band of what it is compared with."""

    figure: str
    source: str
    """`reference`, `first batches`, or `no band`."""
    points: Sequence[Point]


class Chosen(NamedTuple):
    """An item that teaches something."""

    item: str
    why: Why
    by: float
    """Points of score: above the threshold, gained, the auditor's less the critic's, between looks."""
    round: int | None
    """The attempt that it is about, where it is one."""


def read_steps(connection: duckdb.DuckDBPyConnection, run: str, grading: int) -> Steps:
    """Return how far the items of a run came."""
    return Steps(*_rows(connection, _STEPS, run, grading)[0])


def read_endings(
    connection: duckdb.DuckDBPyConnection, run: str, grading: int
) -> list[tuple[str, str | None, int]]:
    """Return verdicts with their reasons and how many items ended so, the most frequent first."""
    return [(v, reason, n) for v, reason, n in _rows(connection, _ENDED, run, grading)]


def read_scores(
    connection: duckdb.DuckDBPyConnection, run: str, grading: int
) -> list[tuple[int, int]]:
    """Return accepted and other items by tenths of the score of their kept attempt."""
    found = [(0, 0)] * BINS
    for place, accepted, count in _rows(connection, _SCORES, run, grading):
        found[place] = (accepted, count - accepted)
    return found


def read_marks(connection: duckdb.DuckDBPyConnection, run: str, grading: int) -> list[Marked]:
    """Return how each criterion was marked; of very many criteria the 24 most frequent."""
    found: dict[str, Marked] = {}
    values: dict[str, list[float]] = {}
    for criterion, level, place, first, kept, *totals in _rows(connection, _MARKS, run, grading):
        mine = found.setdefault(criterion, Marked(criterion))
        row = next((one for one in mine.levels if one.level == level), None)
        if row is None:
            mine.levels.append(row := Level(level))
        row.first, row.kept = row.first + first, row.kept + kept
        mine.bins[place] += kept
        before = values.get(criterion, [0.0, 0.0])
        values[criterion] = [a + b for a, b in zip(before, totals, strict=True)]
    for name, mine in found.items():
        for at, total in zip(("first", "kept"), values[name], strict=True):
            count = sum(getattr(level, at) for level in mine.levels)
            setattr(mine, f"mean_{at}", total / count if count else None)
    return list(found.values())


def read_several(connection: duckdb.DuckDBPyConnection, run: str, grading: int) -> Several:
    """Return how several looks or judges agree on kept attempts."""
    return Several(*_rows(connection, _SEVERAL, run, grading)[0])


def read_threshold(
    connection: duckdb.DuckDBPyConnection, run: str, grading: int, calibrated: float | None
) -> Threshold:
    """Return the threshold: a calibration's, a grading's own, else as refused items were told."""
    if calibrated is not None:
        return Threshold(calibrated, True)
    sql = "SELECT rubric FROM gradings WHERE run = $run AND grading = $grading"
    for (rubric,) in _rows(connection, sql, run, grading):
        return Threshold(float(json.loads(rubric)["accept_at"]), True)
    ((told, lowest),) = _rows(connection, _TOLD, run, grading)
    return Threshold(float(told), True) if told else Threshold(lowest, False)


def read_lights(connection: duckdb.DuckDBPyConnection, run: str) -> list[Light]:
    """Return the lights of a run's batches in their order, at most 60 points."""
    rows = connection.execute(_LIGHTS, {"run": run}).fetchall()
    return [Light(*counts) for _, *counts in rows]


def read_series(
    connection: duckdb.DuckDBPyConnection, run: str, figures: Sequence[str]
) -> list[Series]:
    """Return each figure over time, beside the reference where there is one, else the run's beginning.

    What was compared with nothing stands without a band.
    """
    values: Json = {"run": run}
    rows = connection.execute(_COMPARED, values).fetchall()
    rows += connection.execute(_MEASURED, {**values, "figures": list(figures)}).fetchall()
    found: dict[tuple[str, str], list[Point]] = {}
    for figure, source, _, *point, _ in rows:
        found.setdefault((figure, source), []).append(Point(*point))
    sources = ("reference", "first batches", "no band")
    chosen = [next(((f, s) for s in sources if (f, s) in found), None) for f in figures]
    return [Series(*key, found[key]) for key in chosen if key is not None]


def read_chosen(
    connection: duckdb.DuckDBPyConnection,
    run: str,
    grading: int,
    threshold: float | None,
    most: int = 20,
) -> list[Chosen]:
    """Return the most instructive items, each once, for each of the reasons in turn."""
    found = []
    for why, sql in _FIRST_TO_READ.items():
        values: Json = {"run": run, "grading": grading, "most": 2 * most}
        if why == "threshold":
            values["threshold"] = threshold
        rows = connection.execute(sql, values).fetchall()
        found.append([Chosen(item, why, by, number) for item, by, number in rows])
    chosen: dict[str, Chosen] = {}
    queues = [iter(column) for column in found]
    while queues and len(chosen) < most:
        for queue in [*queues]:
            new = next((one for one in queue if one.item not in chosen), None)
            if new is None:
                queues.remove(queue)
            elif len(chosen) < most:
                chosen[new.item] = new
    order = list(_FIRST_TO_READ)
    return sorted(
        chosen.values(),
        key=lambda one: (order.index(one.why), abs(one.by) * (1 if one.why == "threshold" else -1)),
    )


def read_audits(
    connection: duckdb.DuckDBPyConnection, run: str, items: Sequence[str]
) -> dict[tuple[str, int], Json]:
    """Return the auditor's grades of some items, as last opened, by item and round."""
    rows = connection.execute(
        "SELECT item, round, score, accepted, grade FROM audits WHERE run = $run "
        "AND item IN (SELECT unnest($items)) ORDER BY opening",
        {"run": run, "items": list(items)},
    ).fetchall()
    return {
        (item, number): {
            "score": score,
            "accepted": accepted,
            "marks": (json.loads(grade or "{}") or {}).get("marks", []),
        }
        for item, number, score, accepted, grade in rows
    }


def _rows(
    connection: duckdb.DuckDBPyConnection, sql: str, run: str, grading: int
) -> list[tuple[Any, ...]]:
    return connection.execute(sql, {"run": run, "grading": grading}).fetchall()
