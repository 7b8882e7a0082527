"""Where a near-duplicate index lies: columns and tables that are mapped, and a log of texts.

Enters: rows to append. Leaves: the same rows after a restart, or DamagedIndex. Refuses to know: words,
likeness, stores. Without a path all of it is in memory.

The folder holds `texts` (a log of records, each with its checksum), a file for each column, the
`tables` of one capacity, and `head.json`, which is replaced whole and says how many rows count. What
lies behind them was in flight and is written over, so whatever `kill -9` leaves is whole. What else may
happen to files is found out by sizes and sums on opening, and by its checksum when a text is read.
Signatures and tables that break while they are open may cost a hit and never make one.

Space is filled with zeros before it is mapped: writing to a mapped hole on a full disk kills a process.
"""

from __future__ import annotations

import io
import mmap
import os
import shutil
import struct
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import orjson
from numpy.typing import NDArray

from agentloop.errors import AgentloopError, StoreError, boundary
from agentloop.novelty.sketch import BANDS, SIGNATURE
from agentloop.records import digest

FORMAT = 2
SMALLEST = 1024  # rows that there is room for at first; it doubles
SLOTS = 8  # rows a bucket holds; the newest stay
FILL = 4  # rows a bucket would hold if they spread evenly
_PIECE = 1 << 20  # bytes written at once
_RECORD = struct.Struct("<II")  # checksum, bytes of the item's name
_COLUMNS = {"names": np.dtype("<u8"), "ends": np.dtype("<u8"), "signatures": SIGNATURE}


class DamagedIndex(AgentloopError):
    """The index is not what was written, or another version wrote it: make it anew."""


class Head(NamedTuple):
    """What counts of the files."""

    rows: int = 0
    capacity: int = SMALLEST
    text_bytes: int = 0
    names: int = 0
    """Sum of the rows' names, modulo 2⁶⁴."""
    signatures: int = 0
    """Sum of the rows' signatures, modulo 2⁶⁴."""
    tables: int = 0
    """Sum of the tables when they were settled, modulo 2⁶⁴."""
    settled: bool = True
    """Whether tables and columns are safe on the disk, not only handed to the kernel."""


class Shelf:
    """Rows of name, signature and text, and the tables over their bands."""

    def __init__(self, path: Path | None):
        self.path = path
        self.head = Head()
        self.names: NDArray[np.uint64]
        self.ends: NDArray[np.uint64]
        self.signatures: NDArray[np.uint32]
        self.tables: NDArray[np.uint32]
        """Row + 1 by band, bucket and slot; 0 where none is."""
        self._log: io.FileIO | io.BytesIO = io.BytesIO()
        self._maps: dict[str, mmap.mmap] = {}
        if path is None:
            self._map()
            return
        with boundary(StoreError, f"near-duplicate index `{path}` cannot be used", OSError):
            self._open(path)

    def append(self, name: int, signature: NDArray[np.uint32], item: str, text: str) -> int:
        """Add a row to log and columns, not to the tables; return its number. There must be room."""
        row, head = self.head.rows, self.head
        encoded = item.encode("utf-8", "surrogatepass")
        body = encoded + text.encode()
        record = _RECORD.pack(crc32(body), len(encoded)) + body
        with boundary(StoreError, f"near-duplicate index `{self.path}` cannot be written", OSError):
            if head.settled:
                self._save(head._replace(settled=False))
            self._log.seek(head.text_bytes)
            if self._log.write(record) != len(record):
                raise OSError("the disk is full")
        end = head.text_bytes + len(record)
        self.names[row], self.ends[row], self.signatures[row] = name, end, signature
        names = (head.names + name) % 2**64
        signatures = (head.signatures + _sum(signature)) % 2**64
        self.head = Head(row + 1, head.capacity, end, names, signatures, settled=False)
        return row

    def text(self, row: int) -> tuple[str, str]:
        """Return the item's name and the text of a row; DamagedIndex where they are not whole."""
        start, end = int(self.ends[row - 1]) if row else 0, int(self.ends[row])
        damaged = f"near-duplicate index `{self.path}`: row {row} is damaged"
        if not start + _RECORD.size <= end <= self.head.text_bytes:
            raise DamagedIndex(damaged)
        with boundary(DamagedIndex, damaged, OSError, UnicodeDecodeError):
            self._log.seek(start)
            record = self._log.read(end - start) or b""
            checksum, length = _RECORD.unpack_from(record.ljust(_RECORD.size, b"\0"))
            body = record[_RECORD.size :]
            if length > len(body) or crc32(body) != checksum or len(record) < end - start:
                raise DamagedIndex(damaged)
            return body[:length].decode("utf-8", "surrogatepass"), body[length:].decode()

    def grow(self) -> None:
        """Double the room; the tables are empty then."""
        old = self.head.capacity
        self.head = self.head._replace(capacity=2 * old, settled=False)
        with boundary(StoreError, f"near-duplicate index `{self.path}` cannot grow", OSError):
            self._map()
            if self.path is not None:
                self._save(self.head)
                _tables(self.path, old).unlink(missing_ok=True)

    def save(self) -> None:
        """Let all rows count: they survive `kill -9` when this returns. Raises StoreError."""
        with boundary(StoreError, f"near-duplicate index `{self.path}` cannot be written", OSError):
            self._save(self.head)

    def close(self) -> None:
        """Save, and bring everything to the disk; safe to call twice. Raises StoreError."""
        if self.path is not None and not self._log.closed and not self.head.settled:
            with boundary(StoreError, f"near-duplicate index `{self.path}` is not saved", OSError):
                for mapped in self._maps.values():
                    mapped.flush()
                os.fsync(self._log.fileno())
                self._save(self.head._replace(settled=True, tables=_sum(self.tables)))
        self._log.close()

    def drop(self) -> None:
        """Let go of the files as they are: they are to be discarded."""
        self._log.close()

    def _open(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise DamagedIndex(f"near-duplicate index `{path}` is no folder")
        path.mkdir(exist_ok=True)
        if (path / "head.json").exists():
            self.head = _read_head(path)
        elif any(path.iterdir()):
            raise DamagedIndex(f"near-duplicate index `{path}` has no head")
        else:
            self._save(self.head)
        self._check_sizes(path)
        self._log = (path / "texts").open("r+b" if self.head.rows else "w+b", buffering=0)
        try:
            self._map()
            self._check_columns()
        except BaseException:
            self._log.close()
            raise

    def _check_sizes(self, path: Path) -> None:
        """Raise DamagedIndex where a file lacks rows; nothing is made up for them."""
        least = {name: self.head.rows * kind.itemsize for name, kind in _COLUMNS.items()}
        least["texts"] = self.head.text_bytes
        if self.head.rows:
            least[_tables(path, self.head.capacity).name] = _table_bytes(self.head.capacity)
        for name, size in least.items():
            if size and (not (path / name).is_file() or (path / name).stat().st_size < size):
                raise DamagedIndex(f"near-duplicate index `{path}`: `{name}` was cut off")
        known = {"head.json", "texts", *_COLUMNS, _tables(path, self.head.capacity).name}
        for left in path.glob("tables-*"):  # a kill came while it grew
            if left.name not in known:
                left.unlink()

    def _check_columns(self) -> None:
        rows, head = self.head.rows, self.head
        ends = self.ends[:rows]
        total = int(self.names[:rows].sum(dtype=np.uint64))
        last = int(ends[-1]) if rows else 0
        changed = _sum(self.signatures[:rows]) != head.signatures
        disordered = last != head.text_bytes or bool((ends[1:] <= ends[:-1]).any())
        if total != head.names or disordered or changed:
            raise DamagedIndex(
                f"near-duplicate index `{self.path}`: its rows are not those it names"
            )
        if head.settled and _sum(self.tables) != head.tables:
            self.head = head._replace(settled=False)  # they are made anew from sound signatures

    def _map(self) -> None:
        """Give columns and tables the room that the head tells, keeping what they hold."""
        capacity = self.head.capacity
        for name, kind in _COLUMNS.items():
            setattr(self, name, self._array(name, kind, capacity, getattr(self, name, None)))
        table = np.dtype(("<u4", (buckets(capacity), SLOTS)))
        self.tables = self._array(f"tables-{capacity}", table, BANDS, None)

    def _array(self, name: str, kind: np.dtype[Any], rows: int, before: Any) -> Any:
        if self.path is None:
            fresh = np.zeros(rows, kind)
            if before is not None:
                fresh[: len(before)] = before
            return fresh
        path, size = self.path / name, rows * kind.itemsize
        with path.open("ab") as file:
            while (missing := size - file.tell()) > 0:
                file.write(bytes(min(_PIECE, missing)))
        with path.open("r+b") as file:
            self._maps[name.partition("-")[0]] = mapped = mmap.mmap(file.fileno(), size)
        return np.frombuffer(mapped, kind.base, size // kind.base.itemsize).reshape(
            rows, *kind.shape
        )

    def _save(self, head: Head) -> None:
        """Replace the head; a kill leaves the old one or the new one."""
        self.head = head
        if self.path is None:
            return
        said = {"format": FORMAT, "unicode": unicodedata.unidata_version, **head._asdict()}
        made = self.path / "head.new"
        made.write_bytes(orjson.dumps({**said, "sum": digest(said)}))
        made.replace(self.path / "head.json")


def buckets(capacity: int) -> int:
    """Return how many buckets each band has."""
    return capacity // FILL


def discard(path: Path) -> None:
    """Remove an index, so that it can be made anew; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sum(array: NDArray[np.uint32]) -> int:
    """Return the sum of an array's bytes, eight at a time, modulo 2⁶⁴."""
    return int(np.ascontiguousarray(array).view("<u8").sum(dtype=np.uint64))


def _table_bytes(capacity: int) -> int:
    return BANDS * buckets(capacity) * SLOTS * 4


def _tables(path: Path, capacity: int) -> Path:
    return path / f"tables-{capacity}"


def _read_head(path: Path) -> Head:
    """Return what was saved last; DamagedIndex where that cannot be told."""
    try:
        said = orjson.loads((path / "head.json").read_bytes())
        total = said.pop("sum")
        if total != digest(said):
            raise ValueError("its sum is another")
        written = said.pop("format"), said.pop("unicode")
        if written != (FORMAT, unicodedata.unidata_version):
            raise DamagedIndex(f"near-duplicate index `{path}` was written by another version")
        return Head(**said)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DamagedIndex(f"near-duplicate index `{path}`: its head is damaged") from error
