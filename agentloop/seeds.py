"""Seeds: real records from a file, a query or an iterable.

Enters: `passages.jsonl`, `rows.csv`, `data.parquet`, `list.json`, `duckdb:FILE?SELECT …`, or dicts; the
fields that a recipe reads, and renamings. Leaves: distinct `Seed`s in their order, read as a stream.
Refuses to know: what a recipe does with them.

Everything about a file is checked before the first call: SeedError names the line and the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agentloop.errors import SeedError, did_you_mean
from agentloop.readers import QUERY, READERS, Rows, checked_json, read_query
from agentloop.records import Json, Seed

Source = str | Path | Iterable[Mapping[str, Any]]


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


def rows_of(source: Source) -> Rows:
    """Yield the records of a source with their places; SeedError for what cannot be read."""
    return _opener(source)()


def _opener(source: Source) -> Callable[[], Rows]:
    """Return a function that starts a walk over the source."""
    if isinstance(source, str | Path):
        text = str(source)
        if text.startswith(QUERY):
            return lambda: read_query(text)
        path = Path(source)
        reader = READERS.get(path.suffix.lower())
        if not path.is_file():
            raise SeedError(f"there is no seed file `{path}`")
        if reader is None:
            known = ", ".join(f"`{suffix}`" for suffix in READERS)
            raise SeedError(f"`{path}`: seeds are read from {known} or `duckdb:FILE?SELECT …`")
        return lambda: reader(path)
    if not isinstance(source, Iterable):
        raise SeedError("seeds are a path, a query or dicts")
    rows = list(source)
    return lambda: ((f"seed {number}", row) for number, row in enumerate(rows, 1))


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
