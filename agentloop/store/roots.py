"""Which seed of people's an item of some depth came from at last.

Enters: a store, names of items. Leaves: a seed's fields, or the item's name where the store cannot
tell. Refuses to know: why one asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import orjson

from agentloop.novelty.lineage import parent_of
from agentloop.store import Store
from agentloop.store.files import connect

if TYPE_CHECKING:
    from agentloop.records import Json

_SEEDS = (
    "SELECT item, arg_min(seed, seed_id) FROM items WHERE item IN (SELECT unnest($items)) "
    "GROUP BY item"
)
_Above = Mapping[str, tuple["Json", str | None]]


def read_roots(store: Store, items: Iterable[str]) -> dict[str, Json]:
    """Return the root of each item: the fields of its seed, or of the one that this was made from.

    Where an item on the way is in no run of this store, the root is `{"item": NAME}`.
    """
    named = list(items)
    above: dict[str, tuple[Json, str | None]] = {}
    wanted, asked = set(named), set[str]()
    while wanted:
        with connect(store.path, write=False) as connection:
            rows = connection.execute(_SEEDS, {"items": sorted(wanted)}).fetchall()
        asked |= wanted
        for item, seed in rows:
            fields = orjson.loads(seed)
            above[item] = (fields, parent_of(fields))
        wanted = {parent for _, parent in above.values() if parent} - asked
    return {item: _root(item, above) for item in named}


def _root(item: str, above: _Above) -> Json:
    passed: set[str] = set()
    while item in above and item not in passed:  # a seed may claim what it likes, also a circle
        passed.add(item)
        fields, parent = above[item]
        if parent is None:
            return fields
        item = parent
    return {"item": item}
