"""The files of a store: the DuckDB database, its journal, its lock, its inbox.

Enters: a path, lines to append. Leaves: connections that are open as briefly as can be, and a journal
folded into the database in groups. Refuses to know: what the rows mean.

DuckDB's locks on a file are the kernel's, of the kind that a process loses, all of them, as soon as it
closes that file once (POSIX `fcntl`). So a process has a database open only once: those who read it
share one connection, which the last of them closes, and who writes it has it alone.

A line is safe when `append` returns: it is one `write` to `STORE.journal`. Folding renames the journal,
inserts its lines in one transaction and deletes it; lines already there are ignored, so a fold that
was cut off is simply done again. A torn last line is a call that was still in flight.
"""

from __future__ import annotations

import glob
import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import orjson

from agentloop.errors import StoreError, boundary
from agentloop.store.inbox import behind_link, fold_posts, has_posts, inbox_of, refused_of
from agentloop.store.schema import FOLDED, TABLES, migrate
from agentloop.store.sums import BEHIND, keep_sums
from agentloop.store.whole import is_cut_off

if TYPE_CHECKING:
    import duckdb

    from agentloop.records import Json

Entry: TypeAlias = "tuple[str, Json] | bytes"
"""One row: `(table, row)`, or its line as it stands in a journal, encoded elsewhere."""
PATIENCE = 3.0  # seconds that a reader waits for a fold to end
ROW_GROUP = 8192  # the default rewrites 122,880 rows at every close
CHUNK = 5000  # rows an insert
_BUSY = ("Could not set lock", "Conflicting lock", "Unique file handle conflict")


class StoreBusy(StoreError):
    """Another process, or another part of this one, has the database open just now."""


class StoreCutOff(StoreError):
    """The database lacks its end: what is left can be read, but nothing added."""


class Files:
    """Where the parts of one store lie: beside the file itself, by whatever link it is named."""

    def __init__(self, path: Path):
        path = behind_link(path)
        self.path = path
        self.journal = path.with_name(path.name + ".journal")
        self.folding = path.with_name(path.name + ".journal.folding")
        self.lock = path.with_name(path.name + ".lock")
        self.inbox = inbox_of(path)
        self.refused = refused_of(path)

        self.near = path.with_name(path.name + ".near")
        """The folder of indexes that are made from the store and never the truth."""
        self.seeds = path.with_name(path.name + ".seeds")
        """Begins the names of files that say where seeds lie in theirs: likewise."""
        self.wal = path.with_name(path.name + ".wal")

    @property
    def all(self) -> set[Path]:
        """Every file that belongs to the store."""
        parts = (self.path, self.wal, self.journal, self.folding, self.lock)
        hashed = glob.escape(self.seeds.name) + "." + "[0-9a-f]" * 8
        places = (self.path.parent.glob(hashed + end) for end in ("", ".part"))
        return {*parts, self.inbox, self.refused, *itertools.chain.from_iterable(places)}

    def discard(self) -> None:
        """Remove a store that was made for nothing; what others left in its inbox stays."""
        for file in self.all - {self.inbox, self.refused}:
            file.unlink(missing_ok=True)
        shutil.rmtree(self.near, ignore_errors=True)

    @property
    def pending(self) -> list[Path]:
        """Files with lines that the database may lack, oldest first."""
        parts = (self.folding, self.journal)
        found = [f for f in parts if f.is_file() and f.stat().st_size]
        return [*found, self.inbox] if has_posts(self.inbox) else found


def is_of_a_store(path: Path) -> bool:
    """Whether a file is a DuckDB database, whatever is in it, or one of those that belong to one."""
    name = path.name
    beside = (path.with_name(name[:end]) for end in range(len(name), 0, -1))
    return any(_is_database(store) and path in Files(store).all for store in beside)


def _is_database(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe, say, that nobody writes to
            return False
        with path.open("rb") as file:
            return file.read(12)[8:] == b"DUCK"
    except OSError:
        return False


@dataclass
class _Opened:
    """A database that this process has open."""

    place: tuple[int, Path]
    write: bool
    connection: duckdb.DuckDBPyConnection
    shares: list[object]


_OPENED: dict[tuple[int, Path], _Opened] = {}
"""By process, for a forked one cannot use what its parent opened, and by path."""
_GATE = threading.RLock()
"""Passed to open and to close, also while this thread opens: Python may drop a generator that was
left halfway at any moment, and its share is given back in the midst of whatever runs."""


@contextmanager
def connect(
    path: Path, *, write: bool, patience: float = PATIENCE
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a store, waiting for a fold or a reader to end, and close it at once afterwards.

    Readers within a process share what is open; it reaches no other file, and its settings are locked.
    Raises StoreError; StoreBusy after `patience` seconds; StoreCutOff, to those who write.
    """
    import duckdb

    path = behind_link(path)
    opened, share = _wait_for(path, write, time.monotonic() + patience)
    try:
        with (
            boundary(StoreError, f"store `{path}` cannot be used", duckdb.Error),
            closing(opened.connection.cursor()) as cursor,
        ):
            cursor.execute("USE store")
            yield cursor
    finally:
        _give_back(opened, share)


def _wait_for(path: Path, write: bool, deadline: float) -> tuple[_Opened, object]:
    while True:
        try:
            return _take_share(path, write)
        except StoreBusy:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _take_share(path: Path, write: bool) -> tuple[_Opened, object]:
    """Open a database, or take a share of it where this process reads it already."""
    place, share = (os.getpid(), path.resolve()), object()
    with _GATE:
        opened = _OPENED.get(place)
        if opened is not None and (write or opened.write):
            raise StoreBusy(
                f"store `{path}` is being used by another part of this process; try again"
            )
        if opened is not None:
            opened.shares.append(share)
        if opened is None or _OPENED.get(place) is not opened:  # it was closed meanwhile
            opened = _Opened(place, write, _open(path, write), [share])
            _OPENED[place] = opened
        return opened, share


def _give_back(opened: _Opened, share: object) -> None:
    """Give back a share; with the last one the database is closed."""
    with _GATE:
        opened.shares.remove(share)
        if not opened.shares:
            _OPENED.pop(opened.place, None)
            opened.connection.close()


def _open(path: Path, write: bool) -> duckdb.DuckDBPyConnection:
    import duckdb

    if os.fsencode(path) != str(path).encode("utf-8", "replace"):
        raise StoreError(f"store `{path}`: DuckDB opens no file whose name is not UTF-8; rename it")
    if write and is_cut_off(path):
        raise StoreCutOff(
            f"store `{path}` is damaged: its end was cut off. What is left can be read, "
            "but nothing added: use a sound copy, or another `--store`"
        )
    quoted = str(path).replace("'", "''")
    mode = f"ROW_GROUP_SIZE {ROW_GROUP}, STORAGE_VERSION 'v1.5.0'" if write else "READ_ONLY"
    connection = duckdb.connect(config={"threads": 2, "allow_unsigned_extensions": False})
    try:
        connection.execute(f"ATTACH '{quoted}' AS store ({mode})")
        if not write:  # those who share it can change neither any more
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
    except duckdb.Error as error:
        connection.close()
        if any(sign in str(error).replace(str(path), "") for sign in _BUSY):
            raise StoreBusy(
                f"store `{path}` is being used by another process; try again"
            ) from error
        raise StoreError(f"store `{path}` cannot be opened: {_line(error)}") from error
    return connection


def prepare(path: Path) -> None:
    """Create the database or bring it to the newest schema. Only the lock's owner may.

    A new one is made under another name and then renamed, so that there is never half a store.
    """
    path = behind_link(path)
    if path.exists():
        with connect(path, write=True) as connection:
            migrate(connection, str(path))
            keep_sums(connection)
        return
    made = path.with_name(path.name + ".new")
    made.unlink(missing_ok=True)
    try:
        with connect(made, write=True) as connection:
            migrate(connection, str(path))
            connection.execute("CHECKPOINT")  # else a full disk is only noticed when it is closed
        made.replace(path)
    except StoreError as error:
        raise StoreError(f"store `{path}` cannot be made: {_line(error)}") from error
    finally:
        made.unlink(missing_ok=True)
        made.with_name(made.name + ".wal").unlink(missing_ok=True)


def fold(files: Files, patience: float = PATIENCE, *, last: bool = False) -> None:
    """Move what the journal holds into the database. Only the owner of the store's lock may.

    With the `last` one all sums are kept, so that nobody has to count again.
    """
    fold_rotated(files, patience)  # a fold that was cut off
    rotate(files)
    fold_rotated(files, patience, last=last)
    fold_inbox(files, patience)


def fold_inbox(files: Files, patience: float = PATIENCE) -> None:
    """Move what the inbox holds into the database. Only the owner of the store's lock may."""

    def insert(rows: list[Json]) -> None:
        _insert_lines(files.path, ({"t": "labels", "r": row} for row in rows), patience)

    fold_posts(files.path, insert)


def rotate(files: Files) -> None:
    """Set the journal aside, so that new lines go to a fresh one."""
    if files.journal.exists() and files.journal.stat().st_size:
        files.journal.rename(files.folding)


def fold_rotated(files: Files, patience: float = PATIENCE, *, last: bool = False) -> None:
    """Insert the lines that were set aside, in one transaction, and delete their file."""
    if not files.folding.exists():
        return
    _insert_lines(files.path, read_lines(files.folding), patience, behind=1 if last else BEHIND)
    files.folding.unlink()


def _insert_lines(path: Path, lines: Iterable[Json], patience: float, behind: int = BEHIND) -> None:
    """Insert lines in one transaction; those that are there already are ignored.

    Sums are kept where as many rows are `behind` those that were kept before.
    """
    rows: dict[str, list[Json]] = {}
    for line in lines:
        rows.setdefault(line["t"], []).append(line["r"])
    if not rows:
        return
    with connect(path, write=True, patience=patience) as connection:
        connection.execute("BEGIN")
        for table, found in rows.items():
            for start in range(0, len(found), CHUNK):
                _insert(connection, table, found[start : start + CHUNK])
        connection.execute("COMMIT")
        keep_sums(connection, behind)


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[Json]) -> None:
    columns = TABLES[table]
    shape = orjson.dumps(dict(columns)).decode()
    each = [orjson.dumps({name: row.get(name) for name in columns}).decode() for row in rows]
    connection.execute(
        f"INSERT OR IGNORE INTO {table} BY NAME SELECT unnest(from_json_strict(line, '{shape}')) "
        "FROM (SELECT unnest(?::VARCHAR[]) AS line)",  # row by row: one long list takes twice as long
        [each],
    )


def read_lines(path: Path) -> Iterator[Json]:
    """Yield the whole lines of a journal; a torn last one is left out."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                entry = orjson.loads(line)
                known = entry["t"] in FOLDED and isinstance(entry["r"], dict)
            except (orjson.JSONDecodeError, TypeError, LookupError):
                known = False
            if not known:
                raise StoreError(
                    f"journal `{path}` holds a broken line; the store itself is whole. "
                    "Move the journal away to go on without its last records"
                )
            yield entry


class Appender:
    """Appends lines to the journal, one `write` for each group."""

    def __init__(self, path: Path):
        self._path = path
        self._file = -1
        self.open()

    def open(self) -> None:
        """Open the journal, dropping a torn last line that a kill left."""
        _drop_torn_line(self._path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, flags, 0o644)
        except OSError as error:
            raise StoreError(f"journal `{self._path}` cannot be written: {error}") from error

    def append(self, lines: Iterable[Entry]) -> None:
        """Write lines; they survive `kill -9` when this returns."""
        data = encoded(lines)
        try:
            written = os.write(self._file, data)
        except OSError as error:
            raise StoreError(f"journal `{self._path}` cannot be written: {error}") from error
        if written < len(data):
            raise StoreError(f"journal `{self._path}`: the disk is full")

    def close(self) -> None:
        """Close the journal; safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def encoded(lines: Iterable[Entry]) -> bytes:
    """Return lines as they stand in a journal."""
    return b"".join(
        line if isinstance(line, bytes) else orjson.dumps({"t": line[0], "r": line[1]}) + b"\n"
        for line in lines
    )


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        data_end = file.seek(0, os.SEEK_END)
        at = data_end
        while at > 0:
            step = min(4096, at)
            file.seek(at - step)
            found = file.read(step).rfind(b"\n")
            if found >= 0:
                at = at - step + found + 1
                break
            at -= step
        if at < data_end:
            file.truncate(at)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
