"""What people say of a run's candidates: good, bad or unsure, and the levels of criteria.

Enters: a store, a run, what somebody says. Leaves: one `Label` for each candidate and person, as they
said it last, also where the writer has not folded it yet. Refuses to know: judges, rubrics, how a
candidate was shown.

Rows are never changed: who changes their mind, or takes a word back, adds one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from agentloop.records import Json, digest
from agentloop.store.files import connect
from agentloop.store.inbox import post, read_inbox
from agentloop.store.writer import row_id

if TYPE_CHECKING:
    from agentloop.store import Store

Said: TypeAlias = Literal["good", "bad", "unsure"]


class Place(NamedTuple):
    """The candidate that a label is about."""

    item: str
    opening: int
    round: int
    candidate: str
    """Its content hash (`candidate_hash`)."""


class Label(NamedTuple):
    """What one person says of one candidate."""

    run: str
    place: Place
    who: str
    said: Said | None
    """None where it was taken back, or only criteria were looked at."""
    levels: Mapping[str, str]
    """Criterion → level; those that were not looked at are left out."""
    blind: bool
    """Whether the machine's grade was hidden when the candidate was called good, bad or unsure."""
    time: float
    """Seconds since the epoch, of the last word."""


def candidate_hash(candidate: Json) -> str:
    """Return 16 hex digits that name a candidate by its content, as its row holds it."""
    return digest(
        json.dumps(candidate, sort_keys=True), 8
    )  # ASCII: it may hold half a surrogate pair


def say(
    store: Store, run: str, place: Place, word: Said | None, *, who: str = "", blind: bool = False
) -> None:
    """Add what somebody calls a candidate; None takes it back.

    It is safe when this returns, also while a run writes the store. Raises StoreError.
    """
    row = {"criterion": None, "label": word, "blind": blind}
    post(store.path, {**_common(run, place, who), **row})


def say_level(
    store: Store, run: str, place: Place, criterion: str, level: str | None, *, who: str = ""
) -> None:
    """Add the level that somebody gives a candidate on one criterion; like `say`."""
    post(store.path, {**_common(run, place, who), "criterion": criterion, "label": level})


def _common(run: str, place: Place, who: str) -> Json:
    return {"rid": row_id(), "run": run, **place._asdict(), "who": who, "time": time.time()}


def read_labels(store: Store, run: str) -> list[Label]:
    """Return the labels of a run, in the order in which their candidates were labelled first."""
    waiting = read_inbox(store.path)  # before the table: what is folded meanwhile stands in both
    with connect(store.path, write=False) as connection:
        cursor = connection.execute("SELECT * FROM labels WHERE run = ?", [run])
        names = [column[0] for column in cursor.description or []]
        folded = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    rows = {row["rid"]: row for row in (*folded, *waiting) if row["run"] == run}
    return _said_last(rows.values())


def _said_last(rows: Iterable[Json]) -> list[Label]:
    found: dict[tuple[Place, str], Label] = {}
    for row in sorted(rows, key=lambda row: (row.get("time") or 0.0, row["rid"])):
        place, who = _place(row), str(row.get("who") or "")
        at = float(row.get("time") or 0.0)
        before = found.get((place, who)) or Label(row["run"], place, who, None, {}, False, at)
        word, criterion = row.get("label"), row.get("criterion")
        if criterion is None:
            after = before._replace(said=word, blind=bool(row.get("blind")), time=at)
        else:
            kept = {name: level for name, level in before.levels.items() if name != criterion}
            after = before._replace(levels=kept | ({criterion: word} if word else {}), time=at)
        found[place, who] = after
    return [label for label in found.values() if label.said or label.levels]


def _place(row: Json) -> Place:
    opening, number = int(row.get("opening") or 0), int(row.get("round") or 0)
    return Place(row["item"], opening, number, str(row.get("candidate") or ""))
