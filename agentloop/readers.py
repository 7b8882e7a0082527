"""The rows of a file: lines of JSON, a JSON list, CSV, Parquet, lines of text, a query of DuckDB.

Enters: a path or a query. Leaves: each row with the words that say where it stands, as a stream; JSON
values that can be stored. Refuses to know: what rows are for. SeedError says what is wrong, and where.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import decimal
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from agentloop.errors import SeedError

MAX_LINE = 10_000_000  # bytes
QUERY = "duckdb:"
LINES = (".jsonl", ".ndjson")
Rows = Iterator[tuple[str, Any]]
"""Where a record stands, for errors, and the record."""


def read_jsonl(path: Path) -> Rows:
    """Yield the lines of a JSONL file with their places; SeedError for what is not JSON."""
    for number, _, line in read_lines(path):
        place = line_of(path, number)
        yield place, parse(line, place)


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield the lines of a file that are not blank: number, bytes before it, content."""
    with path.open("rb") as file:
        number = offset = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise SeedError(f"{line_of(path, number)} is longer than 10 MB")
            if (text := without_mark(line, number)).strip():
                yield number, offset, text
            offset += len(line)


def without_mark(line: bytes, number: int) -> bytes:
    """Return a line without the mark of byte order that the first one may have."""
    return line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def line_of(path: Path, number: int) -> str:
    """Return the words that say where a line stands."""
    return f"`{path}` line {number}"


def _json_list(path: Path) -> Rows:
    data = parse(path.read_bytes().removeprefix(codecs.BOM_UTF8), f"`{path}`")
    if not isinstance(data, list):
        raise SeedError(f"`{path}` must hold a JSON list of objects; one object a line is `.jsonl`")
    for number, row in enumerate(data, 1):
        yield f"`{path}` entry {number}", row


def parse(data: bytes, place: str) -> Any:
    """Return a JSON value; SeedError for what is none."""
    if b"\0" in data:
        raise SeedError(f"{place} holds a NUL byte")
    try:
        return orjson.loads(data)
    except (orjson.JSONDecodeError, RecursionError) as error:
        if "surrogate" in str(error):
            raise SeedError(f"{place} holds a lone surrogate, which is no text") from error
        raise SeedError(f"{place} is not JSON: {error}") from error


def _csv(path: Path) -> Rows:
    csv.field_size_limit(MAX_LINE)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_names(reader.fieldnames or [], f"`{path}`")
            for row in reader:
                place = f"`{path}` line {reader.line_num}"
                if None in row or None in row.values():
                    raise SeedError(f"{place} has not as many fields as the header")
                yield place, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise SeedError(f"`{path}` is not CSV: {error}") from error


def _parquet(path: Path) -> Rows:
    literal = re.sub(r"([*?\[])", r"[\1]", str(path))  # DuckDB would look for other files
    return _select(None, "SELECT * FROM read_parquet(?)", [literal], str(path))


def read_query(source: str) -> Rows:
    """Yield the rows of `duckdb:FILE?SELECT …`; SeedError for what DuckDB refuses."""
    file, mark, sql = source.removeprefix(QUERY).partition("?")
    if not mark or not sql.strip():
        raise SeedError(f"`{source}`: write `duckdb:FILE?SELECT …`")
    if not Path(file).is_file():
        raise SeedError(f"there is no database `{file}`")
    return _select(file, sql, [], source)


def _select(database: str | None, sql: str, values: list[str], name: str) -> Rows:
    import duckdb

    try:
        with duckdb.connect(database or ":memory:", read_only=database is not None) as connection:
            cursor = connection.execute(_without_zones(connection, sql, values), values)
            names = [column[0] for column in cursor.description or []]
            _check_names(names, f"`{name}`")
            number = 0
            while rows := cursor.fetchmany(1000):
                for row in rows:
                    number += 1
                    yield f"`{name}` row {number}", dict(zip(names, row, strict=True))
    except duckdb.Error as error:
        raise SeedError(f"`{name}`: {str(error).strip().splitlines()[0]}") from error


def _without_zones(connection: Any, sql: str, values: list[str]) -> str:
    """Return the query with its times with zone as text: Python would need pytz for them."""
    described = connection.execute(f"DESCRIBE {sql}", values).fetchall()
    names = [column[0] for column in described]
    zoned = {column[0] for column in described if "TIME ZONE" in column[1]}
    if not zoned or len(set(names)) < len(names):
        return sql
    quoted = [(n in zoned, '"' + n.replace('"', '""') + '"') for n in names]
    chosen = ", ".join(f"{q}::VARCHAR AS {q}" if with_zone else q for with_zone, q in quoted)
    return f"SELECT {chosen} FROM ({sql})"


def _check_names(names: Sequence[str], place: str) -> None:
    if twice := next((name for name in names if list(names).count(name) > 1), None):
        raise SeedError(f"{place} has two columns `{twice}`")


def checked_json(value: Any, place: str) -> Any:
    """Return a value as JSON has it; SeedError for NUL, lone surrogates and what JSON cannot hold."""
    if isinstance(value, str):
        if "\0" in value:
            raise SeedError(f"{place} holds a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise SeedError(f"{place} holds a lone surrogate, which is no text") from error
        return value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        pairs = ((str(key), inner) for key, inner in value.items())
        return {checked_json(key, place): checked_json(inner, place) for key, inner in pairs}
    if isinstance(value, list | tuple):
        return [checked_json(inner, place) for inner in value]
    if isinstance(value, datetime.date | datetime.time | decimal.Decimal | uuid.UUID):
        return str(value)
    raise SeedError(f"{place} holds a {type(value).__name__}, which JSON cannot hold")


READERS: dict[str, Callable[[Path], Rows]] = {
    **dict.fromkeys(LINES, read_jsonl),
    ".json": _json_list,
    ".csv": _csv,
    ".parquet": _parquet,
}
"""How files are read, by the ends of their names."""
