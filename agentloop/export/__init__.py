"""Export: accepted items as the JSONL that trainers read.

Enters: a store, a shape, a condition. Leaves: lines in the order settled, byte-identical for the same
store. Refuses to know: models, graphs, where the lines go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import orjson

from agentloop.errors import UserError, did_you_mean
from agentloop.export.attempts import (
    FROM_ATTEMPTS,
    LEAST,
    Made,
    fingerprint,
    without_contradictions,
)
from agentloop.export.blocks import RAW, Piece, answered, blocks, dumped, mark
from agentloop.export.splitting import roots
from agentloop.records import Json
from agentloop.store import Store
from agentloop.store.files import is_of_a_store
from agentloop.store.windows import Asked, Chosen

if TYPE_CHECKING:
    from agentloop.export.tally import Tally

SHAPES = ("messages", "prompt_completion", "preference", "critique", "kto", "raw")
USUAL = {"kto": "all"}
"""The verdicts that a shape is made of, where that are others than `accepted`: it looks at attempts."""
BATCH = 1000  # rows


def lines(
    store: Store,
    *,
    shape: str = "messages",
    runs: Sequence[str] = (),
    verdict: str = "",
    where: str = "",
    grading: int = 0,
    tally: Tally | None = None,
) -> Iterator[bytes]:
    """Yield one JSON line an example, and count it; of the latest run where none is named.

    Without a `verdict` those of accepted items, for `kto` of all. Raises UserError for an unknown shape.
    """
    chosen: Json = {"verdict": verdict, "where": where, "grading": grading}
    for piece in pieces(store, shape, runs, chosen, tally):
        yield from piece.lines


def pieces(
    store: Store,
    shape: str,
    runs: Sequence[str],
    chosen: Json,
    tally: Tally | None = None,
    reads: Collection[str] | None = None,
) -> Iterator[Piece]:
    """Yield the same lines some thousand at a time; `chosen` is as in `lines`.

    `reads` are the fields of a seed that tell its root; where there are none at all, all are.
    """
    if shape not in SHAPES:
        raise UserError(f"unknown shape `{shape}`{did_you_mean(shape, SHAPES)}")
    chosen = {**chosen, "verdict": chosen["verdict"] or USUAL.get(shape, "accepted")}
    if shape not in FROM_ATTEMPTS and len(runs) < 2:
        yield from blocks(store, shape, Chosen(store.run(*runs), **chosen), tally, reads)
        return
    made = _made(store, shape, runs, chosen)
    while batch := list(islice(made, BATCH)):
        for _, row in batch:
            if tally is not None:
                tally.add(row)
        written = [dumped(example) for example, _ in batch]
        seeds = [row["seed"] for _, row in batch]
        yield Piece(written, () if reads is None else roots(store, seeds, reads))


def _made(store: Store, shape: str, runs: Sequence[str], chosen: Json) -> Iterator[Made]:
    if shape in FROM_ATTEMPTS:
        of_attempts = FROM_ATTEMPTS[shape]
        least = LEAST.get(shape, 2)
        rows = store.examples_with_attempts(*runs, **chosen, least=least)
        made = (example for row, attempts in rows for example in of_attempts(row, attempts))
        yield from (
            without_contradictions(made, _good(store, runs, chosen)) if shape == "kto" else made
        )
        return
    make, every = _SHAPES[shape], shape == "raw"
    for row in store.examples(*runs, **chosen):
        if row["messages"] or every:
            yield make(row), row


def _good(store: Store, runs: Sequence[str], chosen: Json) -> set[bytes]:
    """Return the prints of the conversations that were accepted."""
    asked = Asked(["messages"])
    return {
        fingerprint(orjson.loads(row[0]))
        for run in runs or [store.run()]
        for block in store.blocks(Chosen(run, chosen["grading"], "accepted"), lambda: asked)
        for row in block.rows
        if row[0]
    }


def write(target: str | Path, content: Iterable[bytes]) -> int:
    """Write lines to a file, whole or not at all; return the number of pieces that they came in.

    A link is followed, a pipe or device written to. Raises UserError, also for what is of a store.
    """
    path = Path(target).resolve()
    refuse_store(path)
    with writing(target):
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                return copy(file, content)
        return _replace(path, content)


@contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """Turn what the system says of a place into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"`{target}` cannot be written: {error.strerror or error}") from error


def refuse_store(path: Path) -> None:
    """Raise UserError for a file that belongs to a store, be it another one."""
    if is_of_a_store(path):
        raise UserError(f"`{path}` is a store or a part of one: name another file")


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
    return {**_mark(row), **answered(row["messages"])}


def _raw(row: Json) -> Json:
    return {"schema": 1, **_mark(row), **{key: row[key] for key in RAW}}


def _mark(row: Json) -> Json:
    return mark(row["item"], row["agentloop"]["depth"])


_SHAPES: dict[str, Callable[[Json], Json]] = {
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "raw": _raw,
}
