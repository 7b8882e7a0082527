"""Lines of one run, a block of some thousand at a time: as fast as they are parsed and written.

Enters: a store, a shape, which examples. Leaves: blocks of lines, the same bytes as `lines` has; a tally
that was told of them. Refuses to know: files, attempts that were not kept, several runs.

The next blocks are read in a thread while one is shaped: DuckDB and Python have a core each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson

from agentloop.export.splitting import roots
from agentloop.export.tally import GROUPED
from agentloop.store.windows import FETCHED, WINDOW, Asked

if TYPE_CHECKING:
    from agentloop.export.tally import Tally
    from agentloop.records import Json
    from agentloop.store import Store
    from agentloop.store.windows import Chosen

AHEAD = WINDOW // FETCHED  # blocks: while those of one window are shaped the next one is joined
RAW = (
    "run", "recipe", "item", "seed_id", "sample", "seed", "inputs", "candidate", "messages", "verdict",
    "reason", "detail", "score", "round", "checks", "grade", "generator", "critic", "prompt", "rubric",
    "grading", "calibrated", "self_graded",
)  # fmt: skip
"""What an example of the shape `raw` says, besides its mark."""
JSON = {"seed", "inputs", "candidate", "messages", "checks", "grade"}
_PARSED = [name in JSON for name in RAW]
_SAID = "messages::VARCHAR"
_AS_STORED = f"coalesce(NOT contains({_SAID}, '\\u00') AND NOT contains({_SAID}, chr(10)), false)"
"""Whether a conversation is written as it is stored: DuckDB stores controls otherwise than orjson."""
_NAME = "to_json(item)::VARCHAR"
_LINE = f"""CASE WHEN {_AS_STORED} THEN encode(concat('{{"agentloop":{{"depth":', agentloop.depth,
    ',"item":', made, '}},"item":', made, ',"messages":', {_SAID}, '}}', chr(10))) END"""
_MARK = ("item", "agentloop.depth", "messages")
_UNLESS_LINE = [f"CASE WHEN NOT {_AS_STORED} THEN {name} END" for name in _MARK]
_TALKS = "messages IS NOT NULL AND messages::VARCHAR <> '[]'"
Row = tuple[Any, ...]
Value = TypeVar("Value")
Make = Callable[[Row], "Json"]
"""Makes an example of item, depth, conversation as JSON, and the columns of its own."""


class Piece(NamedTuple):
    """Some lines, and the root seed of each where it was asked for."""

    lines: list[bytes]
    roots: Sequence[str] = ()


def blocks(
    store: Store,
    shape: str,
    chosen: Chosen,
    tally: Tally | None = None,
    reads: Collection[str] | None = None,
) -> Iterator[Piece]:
    """Yield the lines of a run's examples, and count them; with roots where `reads` says how."""
    make, own = _SHAPES[shape]
    fast = shape == "messages"
    columns = [_LINE, *_UNLESS_LINE] if fast else ["NULL", *_MARK, *own]
    columns += [] if reads is None else ["seed"]
    grouped = GROUPED if tally is not None else ()
    kept = "true" if shape == "raw" else _TALKS

    def asked() -> Asked:
        return Asked([*columns, *(tally.columns if tally else ())], grouped, _NAME, kept)

    for rows, groups in _ahead(store.blocks(chosen, asked)):
        lines = [row[0] or dumped(make(row[1:])) for row in rows]
        if tally is not None:
            talks = [row[3] for row in rows] if shape == "prompt_completion" else lines
            told = bool(rows) and len(rows[0]) > len(columns)
            tally.take(groups, talks, [row[-1] for row in rows] if told else [])
        if reads is None:
            yield Piece(lines)
        else:
            seeds = [orjson.loads(row[len(columns) - 1]) for row in rows]
            yield Piece(lines, roots(store, seeds, reads))


def dumped(example: Json) -> bytes:
    """Return an example as a line: columns in the order of their names, what they hold as it was."""
    return orjson.dumps(dict(sorted(example.items())), option=orjson.OPT_APPEND_NEWLINE)


def _ahead(values: Iterator[Value]) -> Iterator[Value]:
    """Yield values, some of which are made while those before are used."""
    nothing: Any = object()
    thread = ThreadPoolExecutor(1)
    try:
        following = deque(thread.submit(next, values, nothing) for _ in range(AHEAD))
        while (value := following.popleft().result()) is not nothing:
            following.append(thread.submit(next, values, nothing))
            yield value
    finally:
        thread.shutdown(cancel_futures=True)


def mark(item: str, depth: int) -> Json:
    """Return what an example carries, so that it is known for a made one when it is a seed."""
    return {"item": item, "agentloop": {"depth": depth, "item": item}}


def _stored(text: str | None) -> Any:
    """Return JSON that is written as it is stored, where the database stores it as orjson does."""
    if text is None:
        return None
    return orjson.loads(text) if "\\u00" in text or "\n" in text else orjson.Fragment(text)


def answered(talk: Sequence[Any]) -> Json:
    """Return a conversation as what was asked, and the one message that was answered."""
    return {"prompt": list(talk[:-1]), "completion": [talk[-1]]}


def _messages(row: Row) -> Json:
    return {**mark(row[0], row[1]), "messages": _stored(row[2])}


def _prompt_completion(row: Row) -> Json:
    return {**mark(row[0], row[1]), **answered(orjson.loads(row[2]))}


def _raw(row: Row) -> Json:
    told = {
        name: _stored(value) if is_json else value
        for name, value, is_json in zip(RAW, row[3:], _PARSED, strict=False)
    }
    return {"schema": 1, **mark(row[0], row[1]), **told}


_SHAPES: dict[str, tuple[Make, Sequence[str]]] = {
    "messages": (_messages, ()),
    "prompt_completion": (_prompt_completion, ()),
    "raw": (_raw, RAW),
}
