"""Parquet: the lines of an export as columns.

Enters: a file of lines of a shape. Leaves: another file, the same bytes for the same lines. Refuses to
know: stores, what lines say, where files belong. What is JSON of no fixed form stays JSON, as text.
"""

from __future__ import annotations

from glob import escape
from pathlib import Path

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
    "prompt_completion": {**MARK, "prompt": TALK, "completion": TALK},
    "preference": {**MARK, "prompt": TALK, "chosen": TALK, "rejected": TALK},
    "kto": {**MARK, "prompt": TALK, "completion": TALK, "label": "BOOLEAN"},
    "critique": {
        **MARK,
        "seed": "VARCHAR",
        "draft": TALK,
        "critique": "VARCHAR",
        "revision": TALK,
        "round": "INTEGER",
        "draft_score": "DOUBLE",
        "revision_score": "DOUBLE",
        "accepted": "BOOLEAN",
    },
    "raw": {
        "schema": "INTEGER",
        **MARK,
        **{name: "JSON" if name in JSON else NUMBERS.get(name, "VARCHAR") for name in RAW},
        "messages": TALK,
    },
}
"""Column → DuckDB's type, by shape."""
LEAST = 1 << 24  # bytes of a line that DuckDB takes at least


def to_parquet(lines: Path, target: Path, shape: str, longest: int) -> None:
    """Write a file of lines as Parquet; `longest` is the bytes of its longest line."""
    import duckdb

    listed = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS[shape].items())
    source, made = (path.replace("'", "''") for path in (escape(str(lines)), str(target)))
    with (
        boundary(UserError, f"`{target}` cannot be written", duckdb.Error),
        duckdb.connect(config={"threads": 2}) as connection,
    ):
        connection.execute(
            f"COPY (SELECT * FROM read_json('{source}', format = 'newline_delimited', "
            f"hive_partitioning = false, columns = {{{listed}}}, "
            f"maximum_object_size = {max(LEAST, longest + 1)})) "
            f"TO '{made}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000)"
        )
