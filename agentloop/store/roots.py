"""Which seed of people's an item of some depth came from at last.

Enters: a store, names of items. Leaves: the id of a seed, or the item's name where the store cannot
tell. Refuses to know: why one asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from agentloop.novelty.lineage import parent_of
from agentloop.store import Store
from agentloop.store.files import connect

_SEEDS = """
SELECT item, min(seed_id), arg_min(seed, seed_id) FILTER (depth IS DISTINCT FROM 1)
FROM items WHERE item IN (SELECT unnest($items)) GROUP BY item
"""
_Above = Mapping[str, tuple[str, str | None]]


def read_roots(store: Store, items: Iterable[str]) -> dict[str, str]:
    """Return the root of each item: its seed's id, or that of the seed which its seed was made from.

    Where an item on the way is in no run of this store, the root is `item` and its name.
    """
    named = list(items)
    above: dict[str, tuple[str, str | None]] = {}
    wanted, asked = set(named), set[str]()
    while wanted:
        with connect(store.path, write=False) as connection:
            rows = connection.execute(_SEEDS, {"items": sorted(wanted)}).fetchall()
        asked |= wanted
        for item, seed, fields in rows:
            above[item] = (seed, parent_of(orjson.loads(fields)) if fields else None)
        wanted = {parent for _, parent in above.values() if parent} - asked
    return {item: _root(item, above) for item in named}


def _root(item: str, above: _Above) -> str:
    passed: set[str] = set()
    while item in above and item not in passed:  # a seed may claim what it likes, also a circle
        passed.add(item)
        seed, parent = above[item]
        if parent is None:
            return seed
        item = parent
    return f"item {item}"
