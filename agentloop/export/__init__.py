"""Export: accepted items as the JSONL that trainers read.

Enters: a store, a shape, a condition. Leaves: lines in the order settled, byte-identical for the same
store. Refuses to know: models, graphs, where the lines go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import orjson

from agentloop.errors import UserError, did_you_mean
from agentloop.export.blocks import OPTIONS, RAW, blocks, mark, prompt_completion
from agentloop.records import Attempt, Json
from agentloop.store import Store
from agentloop.store.files import Files
from agentloop.store.windows import Chosen

if TYPE_CHECKING:
    from agentloop.export.tally import Tally

SHAPES = ("messages", "prompt_completion", "preference", "raw")


def lines(
    store: Store,
    *,
    shape: str = "messages",
    runs: Sequence[str] = (),
    verdict: str = "accepted",
    where: str = "",
    grading: int = 0,
    tally: Tally | None = None,
) -> Iterator[bytes]:
    """Yield one JSON line an example, and count it; of the latest run where none is named.

    Raises UserError for an unknown shape.
    """
    chosen: Json = {"verdict": verdict, "where": where, "grading": grading}
    for block in line_blocks(store, shape, runs, chosen, tally):
        yield from block


def line_blocks(
    store: Store, shape: str, runs: Sequence[str], chosen: Json, tally: Tally | None = None
) -> Iterator[list[bytes]]:
    """Yield the same lines some thousand at a time, where that can be; `chosen` is as in `lines`."""
    if shape not in SHAPES:
        raise UserError(f"unknown shape `{shape}`{did_you_mean(shape, SHAPES)}")
    if shape != "preference" and len(runs) < 2:
        yield from blocks(store, shape, Chosen(store.run(*runs), **chosen), tally)
        return
    rows: Iterator[tuple[Json, Json | None]]
    if shape == "preference":
        found = store.examples_with_attempts(*runs, **chosen)
        rows = ((row, _preference(row, attempts)) for row, attempts in found)
    else:
        make, every = _SHAPES[shape], shape == "raw"
        rows = (
            (row, make(row) if row["messages"] or every else None)
            for row in store.examples(*runs, **chosen)
        )
    for row, example in rows:
        if example is not None:
            if tally is not None:
                tally.add(row)
            yield [orjson.dumps(example, option=OPTIONS)]


def write(
    target: str | Path, content: Iterable[bytes], *, store: Path | None = None, shape: str = ""
) -> int:
    """Write lines to a file, whole or not at all; return the number of pieces that they came in.

    A link is followed, a pipe or device written to. A name in `.parquet` makes columns of the lines.
    Raises UserError, also for a file of the `store` that the lines come from.
    """
    try:
        path = Path(target).resolve()
        if store is not None and path in Files(store.resolve()).all:
            raise UserError(f"`{target}` is part of the store that is exported: name another file")
        if shape and is_parquet(path):
            from agentloop.export.parquet import write_parquet

            write_parquet(path, content, shape)
            return 1
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                return copy(file, content)
        return _replace(path, content)
    except OSError as error:
        raise UserError(f"`{target}` cannot be written: {error.strerror or error}") from error


def is_parquet(target: str | Path) -> bool:
    """Whether a file's name asks for Parquet."""
    return Path(target).suffix.lower() == ".parquet"


def _replace(path: Path, content: Iterable[bytes]) -> int:
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            count = copy(file, content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def copy(file: IO[bytes], content: Iterable[bytes]) -> int:
    """Write lines to an open file; return their number."""
    count = 0
    for line in content:
        file.write(line)
        count += 1
    return count


def _messages(row: Json) -> Json:
    return {**_mark(row), "messages": row["messages"]}


def _prompt_completion(row: Json) -> Json:
    return {**_mark(row), **prompt_completion(row["messages"])}


def _raw(row: Json) -> Json:
    return {"schema": 1, **_mark(row), **{key: row[key] for key in RAW}}


def _mark(row: Json) -> Json:
    return mark(row["item"], row["agentloop"]["depth"])


_SHAPES: dict[str, Callable[[Json], Json]] = {
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "raw": _raw,
}


def _preference(row: Json, attempts: Sequence[Attempt]) -> Json | None:
    """Return the kept attempt against the worst one of the same item that answers the same prompt."""
    kept = next((a for a in attempts if a.round == row["round"]), None)
    if kept is None:
        return None
    rivals = [
        a
        for a in attempts
        if (a.grade or a.reason == "failed_check")  # what nobody could judge is no bad example
        and a.rank < kept.rank
        and a.messages[:-1] == kept.messages[:-1]
    ]
    if not rivals:
        return None
    worst = min(rivals, key=lambda a: a.rank)
    return {
        **_mark(row),
        "prompt": list(kept.messages[:-1]),
        "chosen": [kept.messages[-1]],
        "rejected": [worst.messages[-1]],
    }
