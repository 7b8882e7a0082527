"""Seeds: real records from a file, a query or an iterable.

Enters: `passages.jsonl`, `rows.csv`, `data.parquet`, `list.json`, `duckdb:FILE?SELECT …`, or dicts; the
fields that a recipe reads, and renamings. Leaves: distinct `Seed`s in their order, read as a stream.
Refuses to know: what a recipe does with them.

Everything about a file is checked before the first call: SeedError names the line and the way out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from agentloop.errors import SeedError, boundary, did_you_mean
from agentloop.places import Places, beside, item_id, kept_places, root_of, stamp_of
from agentloop.readers import (
    LINES,
    MAX_LINE,
    QUERY,
    READERS,
    Rows,
    checked_json,
    line_of,
    parse,
    read_lines,
    read_query,
    without_mark,
)
from agentloop.records import Json, Seed, digest
from agentloop.shards import WHOLE, Shard

FIRST, MOST = 64, 65_536  # seeds whose items are looked up at once: few at first, for one may do
HELD = 1024  # likewise, where the seeds themselves are held meanwhile
Source = str | Path | Iterable[Mapping[str, Any]]
Settled = Callable[[NDArray[np.uint64]], NDArray[np.bool_]]


class Seeds:
    """A source that can be walked more than once; `duplicates` counts records met twice."""

    def __init__(
        self,
        source: Source,
        mapping: Mapping[str, str] | None = None,
        kept: Path | None = None,
        shard: Shard = WHOLE,
    ):
        """`kept` begins the names of files that say where the seeds of long ones lie; see `keep`.

        Items are made of the seeds of a `shard` alone, which `count` counts.
        """
        self._shard = shard
        self._mapping = dict(mapping or {})
        self._rows = _opener(source)
        self._beside = kept
        self._kept: Path | None = None
        self._lines = _lines_of(source)
        self._places: Places | None = None
        self._known = False
        """Whether the places were kept before."""
        self._reads: tuple[str, ...] = ()
        self.name = str(source) if isinstance(source, str | Path) else "the given seeds"
        self.count = 0
        self.duplicates = 0

    def check(self, reads: tuple[str, ...]) -> None:
        """Read everything once; SeedError unless every record has the fields in `reads`."""
        self._reads = reads
        if self._lines is None:
            roots: dict[str, int] = {}
            for total, seed in enumerate(self._all(), start=1):
                roots[seed.id] = root_of(seed)
                self.duplicates = total - len(roots)
            whole, self.count = len(roots), sum(map(self._shard.holds, roots.values()))
        else:
            with boundary(SeedError, f"`{self.name}` cannot be read", OSError):
                self._places = self._find(self._lines)
            self.duplicates = self._places.duplicates
            held = self._shard.held(np.array(self._places.roots, np.uint64))
            whole, self.count = len(held), int(held.sum())
        if not whole:
            raise SeedError(f"`{self.name}` holds no seeds")
        if not self.count:
            raise SeedError(
                f"none of the {whole} seeds of `{self.name}` falls to shard {self._shard}: "
                "divide them among fewer"
            )

    @property
    def told(self) -> str:
        """How many seeds there are, in words."""
        return f"{self.count} seeds" + (f" of shard {self._shard}" if str(self._shard) else "")

    def keep(self) -> None:
        """Keep for later where the seeds of a long file lie, so that it is not read again."""
        if self._places is not None and self._kept is not None and not self._known:
            self._places.keep(self._kept)

    def _find(self, path: Path) -> Places:
        """Return where the seeds of a file lie, checked, now or while it was the same."""
        stamp = {**stamp_of(path), "mapping": sorted(self._mapping.items()), "reads": self._reads}
        stamp = orjson.loads(orjson.dumps(stamp))
        self._kept = beside(self._beside, stamp) if self._beside is not None else None
        found = kept_places(self._kept, stamp) if self._kept is not None else None
        self._known = found is not None
        if found is not None:
            return found
        places, seen = Places(stamp), set[str]()
        for number, offset, line in read_lines(path):
            place = line_of(path, number)
            seed = self._seed(place, parse(line, place))
            if seed.id in seen:
                places.duplicates += 1
            else:
                seen.add(seed.id)
                places.add(number, offset, seed)
        return places

    def items(self, sample: int, settled: Settled) -> Iterator[tuple[str, Seed]]:
        """Yield the items that the shard's seeds make when used once more, but the settled ones.

        `settled` says of names, as numbers, which are. Raises SeedError where a file has changed.
        """
        if self._places is None or self._lines is None:
            yield from self._walked(sample, settled)
            return
        places, size = self._places, FIRST
        low = 0
        with boundary(SeedError, f"`{self.name}` cannot be read", OSError):
            file = self._lines.open("rb")
        with file:  # one for the whole walk: what takes its place meanwhile is another file
            while low < len(places):
                high = min(low + size, len(places))
                names = places.names(sample, low, high)
                held = self._shard.held(np.array(places.roots[low:high], np.uint64))
                for at in np.flatnonzero(held & ~settled(names)).tolist():
                    name = f"{int(names[at]):012x}"
                    yield name, self._at(file, places, low + at, (name, sample))
                low, size = high, min(2 * size, MOST)

    def _walked(self, sample: int, settled: Settled) -> Iterator[tuple[str, Seed]]:
        seeds, size = (seed for seed in self if self._shard.holds(root_of(seed))), FIRST
        while batch := list(islice(seeds, size)):
            names = [item_id(seed.id, sample) for seed in batch]
            there = settled(np.array([int(name, 16) for name in names], np.uint64)).tolist()
            yield from (
                (name, seed)
                for name, seed, is_in in zip(names, batch, there, strict=True)
                if not is_in
            )
            size = min(2 * size, HELD)

    def _at(self, file: BinaryIO, places: Places, at: int, item: tuple[str, int]) -> Seed:
        """Return the seed at a place, which makes this item as this sample.

        Where it is another one, the place is not kept for later.
        """
        number, (name, sample) = places.lines[at], item
        place = line_of(Path(self.name), number)
        cause: Exception | None = None
        try:
            file.seek(places.offsets[at])
            line = without_mark(file.readline(MAX_LINE), number)
            seed = self._seed(place, parse(line, place))
            if int(seed.id, 16) == places.seeds[at] and item_id(seed.id, sample) == name:
                return seed
        except (SeedError, OSError, ValueError) as error:  # no seed, or no place in a file
            cause = error
        if self._kept is not None:
            with contextlib.suppress(OSError):
                self._kept.unlink(missing_ok=True)
        raise SeedError(f"{place} has changed since the run began: start it again") from cause

    def __iter__(self) -> Iterator[Seed]:
        """Yield distinct seeds, also those of other shards: as texts they are known to all."""
        seen: set[str] = set()
        for seed in self._all():
            if seed.id not in seen:
                seen.add(seed.id)
                yield seed

    def _all(self) -> Iterator[Seed]:
        for place, row in self._rows():
            yield self._seed(place, row)

    def _seed(self, place: str, row: Any) -> Seed:
        fields = self._fields(place, row)
        return Seed(id=seed_id(fields, place), fields=fields)

    def _fields(self, place: str, row: Any) -> Json:
        """Return the checked fields of a record; SeedError where they are not what the recipe reads."""
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
        return fields

    def _renamed(self, fields: Json, place: str) -> Json:
        """Return the fields by the names that the recipe reads; nothing is overwritten."""
        if not self._mapping:
            return fields
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


def seed_id(fields: Json, place: str) -> str:
    """Return the name of a record by its content; SeedError where it has none."""
    try:
        return digest(fields, 8)
    except (TypeError, RecursionError) as error:  # too deep, or a number beyond 64 bits
        raise SeedError(f"{place} cannot be stored: {error}") from error


def _lines_of(source: Source) -> Path | None:
    """Return the file whose lines are seeds, where the source is one."""
    if not isinstance(source, str | Path) or str(source).startswith(QUERY):
        return None
    path = Path(source)
    return path if path.suffix.lower() in LINES and path.is_file() else None


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
