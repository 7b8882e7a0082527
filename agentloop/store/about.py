"""What a store remembers of one run beside its items: what it was told, and how varied it came out.

Enters: a store and a run's name. Leaves: JSON values. Refuses to know: what they are worth.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agentloop.records import Json
from agentloop.store import Store
from agentloop.store.files import connect

_RUN = "SELECT run, recipe, recipe_ref, parent, time, identity, versions FROM runs WHERE run = $run"
_SETTINGS = (
    "SELECT settings FROM sessions WHERE run = $run ORDER BY time DESC, seconds DESC LIMIT 1"
)
_READING = (
    "SELECT reading FROM readings WHERE run = $run ORDER BY view = 'run' DESC, time DESC, rid DESC "
    "LIMIT 1"
)
_HITS = (
    "SELECT item, detail FROM examples WHERE run = $run AND grading = 0 AND reason = 'contaminated' "
    "ORDER BY time, item LIMIT $most"
)


def read_fields(store: Store, runs: Sequence[str]) -> set[str]:
    """Return the fields of seeds that the recipes of some runs read; none where one does not tell."""
    found = set[str]()
    for run in runs:
        with connect(store.path, write=False) as connection:
            ((settings,),) = connection.execute(_SETTINGS, {"run": run}).fetchall() or [("{}",)]
        told = json.loads(settings or "{}").get("reads")
        if not told:
            return set()
        found.update(told)
    return found


def read_about(store: Store, run: str, hits: int = 10) -> Json:
    """Return a run's row, last settings, last reading of variety, and the first contaminated items."""
    with connect(store.path, write=False) as connection:

        def rows(sql: str, **values: Any) -> list[tuple[Any, ...]]:
            return connection.execute(sql, {"run": run, **values}).fetchall()

        ((name, recipe, ref, parent, time, identity, versions),) = rows(_RUN)
        settings, reading = rows(_SETTINGS), rows(_READING)
        return {
            "run": name,
            "recipe": recipe,
            "recipe_ref": ref,
            "parent": parent,
            "time": time,
            "identity": json.loads(identity),
            "versions": json.loads(versions),
            "settings": json.loads(settings[0][0] or "{}") if settings else {},
            "reading": json.loads(reading[0][0]) if reading else None,
            "contaminated": [
                {"item": item, "detail": detail} for item, detail in rows(_HITS, most=hits)
            ],
        }
