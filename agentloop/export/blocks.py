"""Lines of one run, a block of some thousand at a time: as fast as they are parsed and written.

Enters: a store, a shape, which examples. Leaves: blocks of lines, the same bytes as `lines` has; a tally
that was told of them. Refuses to know: files, preferences, several runs.

The next block is read in a thread while one is shaped: DuckDB and Python have a core each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from agentloop.export.tally import GROUPED
from agentloop.store.windows import Asked

if TYPE_CHECKING:
    from agentloop.export.tally import Tally
    from agentloop.records import Json
    from agentloop.store import Store
    from agentloop.store.windows import Chosen

OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
RAW = (
    "run", "recipe", "item", "seed_id", "sample", "seed", "inputs", "candidate", "messages", "verdict",
    "reason", "detail", "score", "round", "checks", "grade", "generator", "critic", "prompt", "rubric",
    "grading", "calibrated", "self_graded",
)  # fmt: skip
"""What an example of the shape `raw` says, besides its mark."""
JSON = {"seed", "inputs", "candidate", "messages", "checks", "grade"}
_PARSED = [name in JSON for name in RAW]
_SORTED = """CASE WHEN NOT contains(messages::VARCHAR, '\\u00')
THEN to_json(json_transform(messages, '[{"content": "VARCHAR", "role": "VARCHAR"}]'))::VARCHAR END"""
"""A conversation with its keys in order; DuckDB writes controls otherwise than orjson."""
_ALIKE = """coalesce(strlen(made) = strlen(messages::VARCHAR) AND NOT contains(made, '"role":null')
    AND NOT contains(made, '"content":null'), false)"""
"""Whether all that it says is a role and a content: else it is shorter now, or lacks one."""
_LINE = f"""CASE WHEN {_ALIKE} THEN encode(concat('{{"agentloop":{{"depth":', agentloop.depth,
    ',"item":', to_json(item), '}},"item":', to_json(item), ',"messages":', made, '}}', chr(10))) END"""
_MARK = ("item", "agentloop.depth", f"CASE WHEN NOT ({_ALIKE}) THEN messages END")
_TALKS = "messages IS NOT NULL AND messages::VARCHAR <> '[]'"

Row = tuple[Any, ...]
Value = TypeVar("Value")
Make = Callable[[Row, Any], "Json"]


def blocks(
    store: Store, shape: str, chosen: Chosen, tally: Tally | None = None
) -> Iterator[list[bytes]]:
    """Yield the lines of a run's examples, and count them."""
    make, own = _SHAPES[shape]
    fast = shape == "messages"
    columns = [_LINE if fast else "NULL", *_MARK, *own]
    grouped = GROUPED if tally is not None else ()
    made, kept = _SORTED if fast else "NULL::VARCHAR", "true" if shape == "raw" else _TALKS

    def asked() -> Asked:
        return Asked([*columns, *(tally.columns if tally else ())], grouped, made, kept)

    for rows, groups in _ahead(store.blocks(chosen, asked)):
        lines = [row[0] or _dumped(make, row[1:]) for row in rows]
        if tally is not None:
            talks = [row[3] or line for row, line in zip(rows, lines, strict=True)]
            tally.take(
                groups, talks, [row[len(columns)] for row in rows if len(row) > len(columns)]
            )
        yield lines


def _dumped(make: Make, row: Row) -> bytes:
    return orjson.dumps(make(row, orjson.loads(row[2] or "null")), option=OPTIONS)


def _ahead(values: Iterator[Value]) -> Iterator[Value]:
    """Yield values, each of which is made while the one before is used."""
    nothing: Any = object()
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, values, nothing)
        while (value := following.result()) is not nothing:
            following = thread.submit(next, values, nothing)
            yield value


def mark(item: str, depth: int) -> Json:
    """Return what an example carries, so that it is known for a made one when it is a seed."""
    return {"item": item, "agentloop": {"item": item, "depth": depth}}


def prompt_completion(talk: Sequence[Json]) -> Json:
    """Return a conversation as the text that was asked, and the one that was answered."""
    *prompt, answer = talk
    return {
        "prompt": "\n\n".join(message["content"] for message in prompt),
        "completion": answer["content"],
    }


def _messages(row: Row, talk: Any) -> Json:
    return {**mark(row[0], row[1]), "messages": talk}


def _prompt_completion(row: Row, talk: Any) -> Json:
    return {**mark(row[0], row[1]), **prompt_completion(talk)}


def _raw(row: Row, talk: Any) -> Json:
    told = {
        name: orjson.loads(value) if is_json and value is not None else value
        for name, value, is_json in zip(RAW, row[3:], _PARSED, strict=False)
    }
    return {"schema": 1, **mark(row[0], row[1]), **told}


_SHAPES: dict[str, tuple[Make, Sequence[str]]] = {
    "messages": (_messages, ()),
    "prompt_completion": (_prompt_completion, ()),
    "raw": (_raw, RAW),
}
