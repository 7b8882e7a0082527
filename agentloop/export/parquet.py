"""Parquet: the lines of an export as columns.

Enters: lines of a shape, a path. Leaves: a file, whole or not at all, the same bytes for the same lines.
Refuses to know: stores, what lines say. Columns that a shape does not have are left out, as people's
examples may bring; what is JSON of no fixed form stays JSON, as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO

from agentloop.errors import UserError, boundary
from agentloop.export.blocks import JSON, RAW

MARK = {"item": "VARCHAR", "agentloop": "STRUCT(item VARCHAR, depth INTEGER)"}
TALK = "STRUCT(role VARCHAR, content VARCHAR)[]"
NUMBERS = {
    "sample": "INTEGER", "score": "DOUBLE", "round": "INTEGER", "grading": "INTEGER",
    "calibrated": "BOOLEAN", "self_graded": "BOOLEAN",
}  # fmt: skip
COLUMNS = {
    "messages": {**MARK, "messages": TALK},
    "prompt_completion": {**MARK, "prompt": "VARCHAR", "completion": "VARCHAR"},
    "preference": {**MARK, "prompt": TALK, "chosen": TALK, "rejected": TALK},
    "raw": {
        "schema": "INTEGER",
        **MARK,
        **{name: "JSON" if name in JSON else NUMBERS.get(name, "VARCHAR") for name in RAW},
        "messages": TALK,
    },
}
"""Column → DuckDB's type, by shape."""
LEAST = 1 << 24  # bytes of a line that DuckDB takes at least


def write_parquet(path: Path, content: Iterable[bytes], shape: str) -> None:
    """Write lines as Parquet; UserError where the path is no plain file. Raises OSError."""
    if path.exists() and not path.is_file():
        raise UserError(f"`{path}` is no file: Parquet cannot be written to a pipe or device")
    lines, part = (path.with_name(f".{path.name}.{kind}") for kind in ("lines", "part"))
    try:
        with lines.open("wb") as file:
            longest = _copied(file, content)
        _convert(lines, part, shape, longest)
        part.replace(path)
    finally:
        lines.unlink(missing_ok=True)
        part.unlink(missing_ok=True)


def _copied(file: IO[bytes], content: Iterable[bytes]) -> int:
    """Write lines to a file; return the bytes of the longest one."""
    longest = 0
    for piece in content:
        file.write(piece)
        longest = max(longest, *map(len, piece.split(b"\n")))
    return longest


def _convert(lines: Path, target: Path, shape: str, longest: int) -> None:
    import duckdb

    listed = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS[shape].items())
    source, made = (str(path).replace("'", "''") for path in (lines, target))
    with (
        boundary(UserError, f"`{target}` cannot be written", duckdb.Error),
        duckdb.connect(config={"threads": 2}) as connection,
    ):
        connection.execute(
            f"COPY (SELECT * FROM read_json('{source}', format = 'newline_delimited', "
            f"columns = {{{listed}}}, maximum_object_size = {max(LEAST, longest + 1)})) "
            f"TO '{made}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000)"
        )
