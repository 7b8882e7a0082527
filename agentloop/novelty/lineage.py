"""Lineage: how many generations of made text lie between an item and what people wrote.

Enters: a seed's fields and an item's inputs. Leaves: the item's depth.
Refuses to know: how deep is too deep, where seeds come from.

What people wrote has depth 0, an item made from it 1, an item made from that 2. Text that was made here
says so when it seeds again: a line of an export, and a row of the view `examples`, has the field
`agentloop` with `item` and `depth`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentloop.records import Json

FIELD = "agentloop"


def mark(item: str, depth: int) -> Json:
    """Return what a record carries that was made as an item of some depth."""
    return {FIELD: {"item": item, "depth": depth}}


def depth_of(seed: Json, inputs: Json) -> int:
    """Return the depth of an item: one more than the deepest of its seed and of what its inputs hold."""
    return 1 + max(_deepest(seed), _deepest(inputs))


def parent_of(seed: Json) -> str | None:
    """Return the item that a seed was made as, the deepest where it holds several; None for people's."""
    named = [
        (depth, record[FIELD]["item"])
        for record in _held(seed)
        if (depth := _marked(record)) and isinstance(record[FIELD].get("item"), str)
    ]
    return str(max(named)[1]) if named else None


def _deepest(value: Any) -> int:
    """Return the greatest depth among a value and all that it holds; 0 where nothing is marked.

    It is asked five times an item, of seeds that are mostly texts: those are not looked into.
    """
    deepest, open_ = 0, [value]
    while open_:
        inner = open_.pop()
        if isinstance(inner, dict):
            if FIELD in inner:
                deepest = max(deepest, _marked(inner))
            inner = inner.values()
        elif not isinstance(inner, list | tuple):
            continue
        open_ += [one for one in inner if not isinstance(one, str)]
    return deepest


def _held(value: Any) -> Iterator[Json]:
    """Yield the records in a value, itself among them."""
    open_ = [value]
    while open_:
        inner = open_.pop()
        if isinstance(inner, dict):
            yield inner
            open_ += inner.values()
        elif isinstance(inner, list | tuple):
            open_ += inner


def _marked(record: Json) -> int:
    """Return the depth that a record claims; 1 where it says that it was made, not how deep."""
    claim = record.get(FIELD)
    if not isinstance(claim, dict) or not claim.keys() & {"item", "depth"}:
        return 0
    depth = claim.get("depth")
    return max(1, depth) if isinstance(depth, int) else 1
