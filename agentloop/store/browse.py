"""A run's items in pages, the latest first, found by what became of them and by what stands in them.

Enters: a store, a run, what is wanted. Leaves: some dozen short rows, and where the next page begins;
memory does not grow with the run. Refuses to know: what shows them.

A page begins behind the last row of the one before (time and item), so that a run that goes on moves
nothing, and the thousandth page costs what the first does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from agentloop.store.files import connect

if TYPE_CHECKING:
    import duckdb

    from agentloop.records import Json
    from agentloop.store import Store

SIZE = 50  # rows a page
SAMPLE = 200  # grades in which the names of criteria are looked for
CUT = 240  # characters of a text

_SETTLED = """
SELECT v.item, v.opening, v.round, v.verdict, v.reason, v.score, v.time
FROM verdicts v
LEFT JOIN (SELECT item, max(opening) AS opening FROM reopened WHERE run = $run GROUP BY item) o
    ON o.item = v.item
WHERE v.run = $run AND v.grading = $grading AND v.opening = coalesce(o.opening, 0)
"""
_BELOW = """
EXISTS (SELECT 1 FROM grades g WHERE g.run = $run AND g.grading = $grading AND g.item = v.item
    AND g.opening = v.opening AND g.round = v.round AND contains(g.grade::VARCHAR, $named)
    AND len(list_filter(from_json(g.grade->'marks', '[{"criterion":"VARCHAR","value":"DOUBLE"}]'),
        lambda m: m.criterion = $criterion AND m.value < 1)) > 0)
"""
_SAYS = """
CASE WHEN NOT contains(lower({0}::VARCHAR), $written) THEN false
     WHEN NOT (contains(({0}::VARCHAR)[2:], '{{') OR contains({0}::VARCHAR, '['))
     THEN contains(lower(array_to_string(json_extract_string({0}, '$.*'), chr(10))), $text)
     ELSE len(list_filter(json_extract({0}, '$..*'), lambda value: json_type(value) NOT IN
         ('OBJECT', 'ARRAY') AND contains(lower(value->>'$'), $text))) > 0 END
"""
"""Whether a text stands in a value of JSON, whatever its names are: the cheap looks come first."""
_HOLDS = f"""
v.item IN (SELECT item FROM attempts WHERE run = $run AND {_SAYS.format("candidate")}
    UNION ALL SELECT item FROM items WHERE run = $run AND {_SAYS.format("seed")})
"""
_TEXTS = f"""
SELECT i.item, a.opening, a.round, left(coalesce(a.messages->0->>'content', i.seed::VARCHAR), {CUT}),
       left(coalesce(a.messages->'$[#-1]'->>'content', ''), {CUT})
FROM (SELECT * FROM items WHERE run = $run AND item IN (SELECT unnest($items))) i
LEFT JOIN (SELECT * FROM attempts WHERE run = $run AND item IN (SELECT unnest($items))) a
    ON a.item = i.item
"""
_CRITERIA = f"""
SELECT DISTINCT unnest(from_json(grade->'$.marks[*].criterion', '["VARCHAR"]')) AS name
FROM (SELECT grade FROM grades WHERE run = $run AND grading = $grading AND grade IS NOT NULL
      LIMIT {SAMPLE}) ORDER BY name
"""


class Wanted(NamedTuple):
    """Which items; what is empty or None is not asked for."""

    verdict: str = ""
    reason: str = ""
    criterion: str = ""
    """Its mark is below the top level."""
    low: float | None = None
    high: float | None = None
    """Between which scores, both included."""
    text: str = ""
    """Stands in a field's value, of the seed or of an attempt, whatever its case."""


class Row(NamedTuple):
    """One item, shortly."""

    item: str
    verdict: str
    reason: str | None
    score: float | None
    asked: str
    said: str
    """The first and the last thing in its conversation; of an item without an attempt its seed."""


class Page(NamedTuple):
    """Some items."""

    rows: list[Row]
    found: int
    """Items on all pages."""
    next: tuple[float, str] | None
    """What the next page begins behind: time and item."""


def read_page(
    store: Store,
    run: str,
    wanted: Wanted = Wanted(),  # noqa: B008  # a frozen record
    *,
    grading: int = 0,
    after: tuple[float, str] | None = None,
) -> Page:
    """Return up to 50 items, the latest first. Raises StoreError where the store stays busy."""
    sql, values = _query(run, wanted, grading)
    beyond = "true"
    if after is not None:
        beyond = "(time, item) < ($time, $last)"
        values |= {"time": after[0], "last": after[1]}
    with connect(store.path, write=False) as connection:
        found = connection.execute(
            f"WITH found AS MATERIALIZED ({sql}) SELECT *, (SELECT count(*) FROM found) FROM found "
            f"WHERE {beyond} ORDER BY time DESC, item DESC LIMIT {SIZE + 1}",
            values,
        ).fetchall()
        rows = found[:SIZE]
        texts = _texts(connection, run, rows)
    last = rows[-1] if len(found) > SIZE else None
    return Page(
        rows=[
            Row(item, verdict, reason, score, *texts.get(item, ("", "")))
            for item, _, _, verdict, reason, score, *_ in rows
        ],
        found=rows[0][-1] if rows else 0,
        next=(last[6], last[0]) if last else None,
    )


def _query(run: str, wanted: Wanted, grading: int) -> tuple[str, Json]:
    values: Json = {"run": run, "grading": grading}
    conditions = []
    for name in ("verdict", "reason"):
        if value := getattr(wanted, name):
            conditions.append(f"v.{name} = ${name}")
            values[name] = value
    for name, sign in (("low", ">="), ("high", "<=")):
        if (value := getattr(wanted, name)) is not None:
            conditions.append(f"v.score {sign} ${name}")
            values[name] = value
    if wanted.criterion:
        conditions.append(_BELOW)
        values |= {"criterion": wanted.criterion, "named": _as_json(wanted.criterion)}
    if wanted.text:
        conditions.append(_HOLDS)
        text = wanted.text.lower().encode("utf-8", "replace").decode()
        values |= {"text": text, "written": _as_json(text)}
    return " AND ".join([_SETTLED, *conditions]), values


def _as_json(text: str) -> str:
    """Return a text as it stands within JSON."""
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    return escaped.encode("utf-8", "replace").decode()


def _texts(
    connection: duckdb.DuckDBPyConnection, run: str, rows: list[tuple[Any, ...]]
) -> dict[str, tuple[str, str]]:
    kept = {item: (opening, number) for item, opening, number, *_ in rows}
    if not kept:
        return {}
    found: dict[str, tuple[str, str]] = {}
    for item, *place, asked, said in connection.execute(
        _TEXTS, {"run": run, "items": [*kept]}
    ).fetchall():
        if tuple(place) == kept[item] or item not in found:
            found[item] = (asked, said)
    return found


def criteria_of(store: Store, run: str, grading: int = 0) -> list[str]:
    """Return the names of the criteria that a run's first grades mark."""
    with connect(store.path, write=False) as connection:
        rows = connection.execute(_CRITERIA, {"run": run, "grading": grading}).fetchall()
    return [name for (name,) in rows]
