"""Seeds: real records from a file, a query or an iterable.

Enters: `passages.jsonl`, `rows.csv`, `data.parquet`, `list.json`, `duckdb:FILE?SELECT …`, or dicts; the
fields that a recipe reads, and renamings. Leaves: distinct `Seed`s in their order, read as a stream.
Refuses to know: what a recipe does with them.

Everything about a file is checked before the first call: SeedError names the line and the way out.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import decimal
import math
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from agentloop.errors import SeedError, did_you_mean
from agentloop.records import Json, Seed

MAX_LINE = 10_000_000  # bytes
QUERY = "duckdb:"
Source = str | Path | Iterable[Mapping[str, Any]]
Rows = Iterator[tuple[str, Any]]
"""Where a record stands, for errors, and the record."""


class Seeds:
    """A source that can be walked more than once; `duplicates` counts records met twice."""

    def __init__(self, source: Source, mapping: Mapping[str, str] | None = None):
        self._mapping = dict(mapping or {})
        self._rows = _opener(source)
        self._reads: tuple[str, ...] = ()
        self.name = str(source) if isinstance(source, str | Path) else "the given seeds"
        self.count = 0
        self.duplicates = 0

    def check(self, reads: tuple[str, ...]) -> None:
        """Read everything once; SeedError unless every record has the fields in `reads`."""
        self._reads = reads
        ids: set[str] = set()
        total = 0
        for seed in self._all():
            ids.add(seed.id)
            total += 1
        if not ids:
            raise SeedError(f"`{self.name}` holds no seeds")
        self.count = len(ids)
        self.duplicates = total - len(ids)

    def __iter__(self) -> Iterator[Seed]:
        """Yield distinct seeds."""
        seen: set[str] = set()
        for seed in self._all():
            if seed.id not in seen:
                seen.add(seed.id)
                yield seed

    def _all(self) -> Iterator[Seed]:
        for place, row in self._rows():
            yield self._seed(place, row)

    def _seed(self, place: str, row: Any) -> Seed:
        if not isinstance(row, Mapping):
            raise SeedError(f"{place}: a seed must be an object with named fields")
        try:
            fields: Json = checked_json(row, place)
        except RecursionError as error:
            raise SeedError(f"{place} is nested too deeply") from error
        fields = self._renamed(fields, place)
        for name in self._reads:
            if name not in fields:
                raise SeedError(
                    f"{place}: no field `{name}`, which the recipe reads; rename one of yours with "
                    f"`--map {name}=FIELD`{did_you_mean(name, fields)}"
                )
            if fields[name] is None or (isinstance(fields[name], str) and not fields[name].strip()):
                raise SeedError(f"{place}: field `{name}` is empty")
        try:
            return Seed.of(fields)
        except (TypeError, RecursionError) as error:  # too deep, or a number beyond 64 bits
            raise SeedError(f"{place} cannot be stored: {error}") from error

    def _renamed(self, fields: Json, place: str) -> Json:
        """Return the fields by the names that the recipe reads; nothing is overwritten."""
        for old in self._mapping.values():
            if old not in fields:
                raise SeedError(f"{place}: no field `{old}` to map{did_you_mean(old, fields)}")
        back = {old: new for new, old in self._mapping.items()}
        names = [back.get(name, name) for name in fields]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SeedError(
                f"{place} has a field `{twice}` already, so `--map {twice}={self._mapping[twice]}` "
                "would lose it"
            )
        return dict(zip(names, fields.values(), strict=True))


def _opener(source: Source) -> Callable[[], Rows]:
    """Return a function that starts a walk over the source."""
    if isinstance(source, str | Path):
        text = str(source)
        if text.startswith(QUERY):
            return lambda: _query(text)
        path = Path(source)
        reader = _READERS.get(path.suffix.lower())
        if not path.is_file():
            raise SeedError(f"there is no seed file `{path}`")
        if reader is None:
            known = ", ".join(f"`{suffix}`" for suffix in _READERS)
            raise SeedError(f"`{path}`: seeds are read from {known} or `duckdb:FILE?SELECT …`")
        return lambda: reader(path)
    if not isinstance(source, Iterable):
        raise SeedError("seeds are a path, a query or dicts")
    rows = list(source)
    return lambda: ((f"seed {number}", row) for number, row in enumerate(rows, 1))


def read_jsonl(path: Path) -> Rows:
    """Yield the lines of a JSONL file with their places; SeedError for what is not JSON."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            place = f"`{path}` line {number}"
            if len(line) > MAX_LINE:
                raise SeedError(f"{place} is longer than 10 MB")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield place, _parse(line, place)


def _json_list(path: Path) -> Rows:
    data = _parse(path.read_bytes().removeprefix(codecs.BOM_UTF8), f"`{path}`")
    if not isinstance(data, list):
        raise SeedError(f"`{path}` must hold a JSON list of objects; one object a line is `.jsonl`")
    for number, row in enumerate(data, 1):
        yield f"`{path}` entry {number}", row


def _parse(data: bytes, place: str) -> Any:
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


def _query(source: str) -> Rows:
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


_READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": _json_list,
    ".csv": _csv,
    ".parquet": _parquet,
}


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


def mapping_of(pairs: Iterable[str]) -> dict[str, str]:
    """Read `passage=body` pairs; SeedError for anything else."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        new, sign, old = pair.partition("=")
        if not (sign and new and old):
            raise SeedError(f"`--map {pair}`: write `--map FIELD_THE_RECIPE_READS=YOUR_FIELD`")
        if new in mapping:
            raise SeedError(f"`--map {pair}`: `{new}` is `{mapping[new]}` already")
        mapping[new] = old
    return mapping
