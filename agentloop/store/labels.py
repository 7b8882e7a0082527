"""What people say of a run's candidates: good, bad or unsure, and the levels of criteria.

Enters: a store, a run, what somebody says. Leaves: one `Label` for each candidate and person, as they
said it last, also where the writer has not folded it yet. Refuses to know: judges, rubrics, how a
candidate was shown.

Rows are never changed: who changes their mind, or takes a word back, adds one.

A word is blind when whoever asked for it had shown that person no grade of the item: not in a list, not
in a story, not after an earlier word of theirs (`has_told`). What they read elsewhere nobody can know.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from agentloop.records import Json, digest
from agentloop.store.files import connect
from agentloop.store.inbox import post, read_inbox
from agentloop.store.writer import row_id

if TYPE_CHECKING:
    from agentloop.store import Store

Said: TypeAlias = Literal["good", "bad", "unsure"]

UNSURE = "unsure"
"""What may also be said of a criterion, instead of a level of it."""
_DONE = """
SELECT DISTINCT item FROM (
    SELECT item, label FROM labels
    WHERE run = $run AND coalesce(who, '') = $who AND criterion IS NULL
    QUALIFY row_number() OVER (
        PARTITION BY item, opening, round, candidate ORDER BY coalesce(time, 0) DESC, rid DESC) = 1
) WHERE label IS NOT NULL
"""


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
    """Whether no grade had been shown when the candidate was called good, bad or unsure."""
    time: float
    """Seconds since the epoch, of the last word."""
    seen: frozenset[str] = frozenset()
    """Criteria whose level was given when a grade had been shown."""

    @property
    def unseen_levels(self) -> dict[str, str]:
        """Return the levels that were given when no grade had been shown."""
        return {name: level for name, level in self.levels.items() if name not in self.seen}


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
    store: Store,
    run: str,
    place: Place,
    criterion: str,
    level: str | None,
    *,
    who: str = "",
    blind: bool = False,
) -> None:
    """Add the level that somebody gives a candidate on one criterion; like `say`."""
    row = {"criterion": criterion, "label": level, "blind": blind}
    post(store.path, {**_common(run, place, who), **row})


def take_back(store: Store, run: str, place: Place, *, who: str = "") -> None:
    """Take back what somebody called a candidate, and all levels that they gave it; like `say`."""
    found = read_labels(store, run, items=[place.item], who=who)
    levels = next((label.levels for label in found if label.place == place), {})
    words = [{"criterion": name, "label": None, "blind": False} for name in (None, *levels)]
    post(store.path, *({**_common(run, place, who), **word} for word in words))


def _common(run: str, place: Place, who: str) -> Json:
    return {"rid": row_id(), "run": run, **place._asdict(), "who": who, "time": time.time()}


def read_labels(
    store: Store, run: str, *, items: Collection[str] | None = None, who: str | None = None
) -> list[Label]:
    """Return the labels of a run, in the order in which their candidates were labelled first.

    Of some items, or of one person, where these are named.
    """
    found = _said_last(_read_rows(store, run, items, who))
    return [label for label in found if label.said or label.levels]


def has_told(store: Store, run: str, item: str, who: str) -> bool:
    """Whether somebody has called an item good, bad or unsure, and so was shown its grade then."""
    rows = _read_rows(store, run, [item], who)
    return any(row.get("criterion") is None and row.get("label") for row in rows)


def read_done(store: Store, run: str, who: str) -> set[str]:
    """Return the items that somebody calls good, bad or unsure."""
    waiting = {row["item"] for row in read_inbox(store.path) if row["run"] == run}
    with connect(store.path, write=False) as connection:
        rows = connection.execute(_DONE, {"run": run, "who": who}).fetchall()
    lately = read_labels(store, run, items=waiting, who=who) if waiting else []
    return {item for (item,) in rows} - waiting | {x.place.item for x in lately if x.said}


def _read_rows(
    store: Store, run: str, items: Collection[str] | None, who: str | None
) -> list[Json]:
    """Return rows of labels, each once, those that are not folded yet, too."""
    waiting = read_inbox(store.path)  # before the table: what is folded meanwhile stands in both
    sql = "SELECT * FROM labels WHERE run = $run"
    values: Json = {"run": run}
    if items is not None:
        sql += " AND item IN (SELECT unnest($items))"
        values["items"] = sorted(items)
    if who is not None:
        sql += " AND coalesce(who, '') = $who"
        values["who"] = who
    with connect(store.path, write=False) as connection:
        cursor = connection.execute(sql, values)
        names = [column[0] for column in cursor.description or []]
        folded = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    fresh = (
        row
        for row in waiting
        if row["run"] == run
        and (items is None or row["item"] in items)
        and (who is None or (row.get("who") or "") == who)
    )
    return list({row["rid"]: row for row in (*folded, *fresh)}.values())


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
            seen = before.seen - {criterion}
            if word:
                kept[criterion] = word
                seen |= set() if row.get("blind") else {criterion}
            after = before._replace(levels=kept, seen=seen, time=at)
        found[place, who] = after
    return list(found.values())


def _place(row: Json) -> Place:
    opening, number = int(row.get("opening") or 0), int(row.get("round") or 0)
    return Place(row["item"], opening, number, str(row.get("candidate") or ""))
