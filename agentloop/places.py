"""Where each distinct seed begins in its file, so that a long one need not be read again to go on.

Enters: seeds as they are read for the first time; the file as it is then. Leaves: places and names, also
after a restart, while the file is the same by size, times and inode. Refuses to know: what a seed holds.

What is kept lies beside the store and is never the truth: it is not used where anything about it or
the file differs, and who reads a seed at a place makes sure that it is the one that was named.
"""

from __future__ import annotations

import contextlib
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import orjson
from numpy.typing import NDArray

from agentloop.novelty.lineage import parent_of
from agentloop.records import Json, Seed, digest

FORMAT = 2
WORTH_KEEPING = 10_000  # seeds: fewer are read again in less than 0.2 s
SETTLED_NS = 2_000_000_000  # a file changed less than this before it was read may change unseen
_COLUMNS = ("lines", "offsets", "seeds", "items", "roots")


def item_id(seed: str, sample: int) -> str:
    """Return an item's name, from its seed's id and sample index: 12 hex digits."""
    return digest([seed, sample], 6)


def root_of(seed: Seed) -> int:
    """Return a number that a seed shares with those made from it, or from what it was made as.

    A made seed says which item it was made as, not of what seed. So what was made from a seed's second
    or later use has a number of its own.
    """
    return int(digest(parent_of(seed.fields) or item_id(seed.id, 0), 8), 16)


def stamp_of(path: Path) -> Json:
    """Return what changes when a file does. Raises OSError."""
    found = path.stat()
    return {
        "path": str(path.resolve()),
        "size": found.st_size,
        "changed": [found.st_mtime_ns, found.st_ctime_ns],
        "inode": [found.st_dev, found.st_ino],
    }


def beside(path: Path, stamp: Json) -> Path:
    """Return the file for the places of one file, read in one way; its name begins as `path`."""
    return path.with_name(
        f"{path.name}.{digest([stamp[name] for name in ('path', 'mapping', 'reads')], 4)}"
    )


@dataclass
class Places:
    """Distinct seeds of a file, in their order."""

    stamp: Json
    """The file, and how it was read."""
    made: int = field(default_factory=time.time_ns)
    """When reading began, in ns since the epoch."""
    duplicates: int = 0
    lines: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    """Bytes before the line."""
    seeds: array[int] = field(default_factory=lambda: array("Q"))
    """The seeds' ids, as numbers."""
    items: array[int] = field(default_factory=lambda: array("Q"))
    """The names of the items that each makes when it is first used."""
    roots: array[int] = field(default_factory=lambda: array("Q"))
    """What decides which shard each belongs to."""

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, line: int, offset: int, seed: Seed) -> None:
        """Note a seed that was not met before."""
        self.lines.append(line)
        self.offsets.append(offset)
        self.seeds.append(int(seed.id, 16))
        self.items.append(int(item_id(seed.id, 0), 16))
        self.roots.append(root_of(seed))

    def names(self, sample: int, low: int, high: int) -> NDArray[np.uint64]:
        """Return the names of some seeds' items, as numbers."""
        if sample == 0:
            return np.array(self.items[low:high], np.uint64)
        seeds = (f"{seed:016x}" for seed in self.seeds[low:high])
        return np.array([int(item_id(seed, sample), 16) for seed in seeds], np.uint64)

    def keep(self, path: Path) -> None:
        """Write it to a file, where that can be and is worth it."""
        if len(self) < WORTH_KEEPING:
            return
        body = b"".join(getattr(self, name).tobytes() for name in _COLUMNS)
        head = {
            "format": FORMAT,
            "stamp": self.stamp,
            "made": self.made,
            "duplicates": self.duplicates,
            "count": len(self),
            "sum": crc32(body),
        }
        part = path.with_name(path.name + ".part")
        with contextlib.suppress(OSError):
            try:
                part.write_bytes(orjson.dumps(head) + b"\n" + body)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)


def kept_places(path: Path, stamp: Json) -> Places | None:
    """Return what was kept of a file that is still the same; None of any other, or if it is damaged."""
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
        with path.open("rb") as file:
            head = orjson.loads(file.readline())
            if head["format"] != FORMAT or head["stamp"] != stamp:
                return None
            if head["made"] - max(stamp["changed"]) < SETTLED_NS:
                return None
            if not _are_counts(head["count"], head["duplicates"]) or not head["count"]:
                return None
            body = file.read()
        if crc32(body) != head["sum"] or len(body) != head["count"] * 8 * len(_COLUMNS):
            return None
        found = Places(stamp, head["made"], head["duplicates"])
        size = 8 * head["count"]
        for number, name in enumerate(_COLUMNS):
            column: array[Any] = getattr(found, name)
            column.frombytes(body[number * size : (number + 1) * size])
        return found
    return None


def _are_counts(*values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)
