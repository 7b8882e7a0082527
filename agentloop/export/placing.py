"""Files that belong together: written beside their places, put there when all of them are whole.

Enters: blocks of lines, text, places. Leaves: files, with what seals them; at an error or a kill before
all are whole, what was there before. Refuses to know: stores, what lines say.

Several files cannot be replaced at one instant. So what tells of the others, card and manifest, goes
before them and comes after them: whatever is killed when, no card stands beside a file that it does not
tell of. Of several sides all but the first go too: old ones never stand beside new ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from agentloop.export import is_parquet
from agentloop.export.parquet import to_parquet
from agentloop.records import Json


class Parts:
    """Files that are not yet where they belong."""

    def __init__(self) -> None:
        self._parts: dict[Path, Path] = {}
        self._scratch: list[Path] = []
        self._open: list[IO[bytes]] = []

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was not put in its place."""
        for file in self._open:
            file.close()
        for part in (*self._parts.values(), *self._scratch):
            part.unlink(missing_ok=True)

    def part(self, place: Path) -> Path:
        """Return where a file is written until it is whole."""
        return self._parts.setdefault(place, place.with_name(f".{place.name}.part"))

    def scratch(self, place: Path) -> Path:
        """Return where something is written that is needed for a file."""
        self._scratch.append(place.with_name(f".{place.name}.lines"))
        return self._scratch[-1]

    def open(self, path: Path) -> IO[bytes]:
        """Open a file that is closed in the end."""
        self._open.append(path.open("wb"))
        return self._open[-1]

    def text(self, place: Path, data: bytes) -> Json:
        """Write a file whole; return its seal."""
        self.part(place).write_bytes(data)
        return {
            "file": shown_name(place),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }

    def put(self, sides: Sequence[Path], about: Sequence[Path]) -> None:
        """Put all files in their places: sides first, then those about them, in this order."""
        for place in (*reversed(about), *reversed(sides[1:])):
            place.unlink(missing_ok=True)
        for place in (*sides, *about):
            self._parts[place].replace(place)


class Sheet:
    """A file of examples, until it is whole."""

    def __init__(self, parts: Parts, place: Path, shape: str):
        self.place = place
        self.lines = 0
        self._shape, self._part = shape, parts.part(place)
        self._written = parts.scratch(place) if is_parquet(place) else self._part
        self._file = parts.open(self._written)
        self._hash, self._bytes, self._longest = hashlib.sha256(), 0, 0

    def add(self, lines: Sequence[bytes]) -> None:
        """Write lines."""
        data = b"".join(lines)
        self._file.write(data)
        self.lines += len(lines)
        if self._written is self._part:
            self._hash.update(data)
            self._bytes += len(data)
        else:
            self._longest = max(self._longest, max(map(len, lines), default=0))

    def finish(self) -> Json:
        """Make the file whole; return its seal."""
        self._file.close()
        if self._written is not self._part:
            to_parquet(self._written, self._part, self._shape, self._longest)
            with self._part.open("rb") as file:
                self._hash = hashlib.file_digest(file, "sha256")
            self._bytes = self._part.stat().st_size
        return {
            "file": shown_name(self.place),
            "lines": self.lines,
            "bytes": self._bytes,
            "sha256": self._hash.hexdigest(),
        }


def shown_name(place: Path) -> str:
    """Return a file's name as text, for names need not be any."""
    return place.name.encode(errors="surrogateescape").decode(errors="replace")
