"""Files that belong together: written beside their places, put there when all of them are whole.

Enters: blocks of lines, text, places. Leaves: files, with what seals them; at an error or a kill before
all are whole, what was there before. Refuses to know: stores, what lines say.

Several files cannot be replaced at one instant. So what tells of the others, card and manifest, goes
before them and comes after them: whatever is killed when, no card stands beside a file that it does not
tell of. Of several sides all but the first go too, and so do those of an export before that has had
others: old ones never stand beside new ones.
"""

from __future__ import annotations

import hashlib
import json
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

    def put(self, sides: Sequence[Path], about: Sequence[Path], stale: Sequence[Path]) -> None:
        """Put all files in their places: sides first, then those about them, in this order.

        Before that, remove what is `stale`.
        """
        for place in (*reversed(about), *stale, *reversed(sides[1:])):
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
            self._bytes = self._part.stat().st_size
        return {
            "file": shown_name(self.place),
            "lines": self.lines,
            "bytes": self._bytes,
            "sha256": self._sealed(),
        }

    def _sealed(self) -> str:
        """Return the hash of what was written, which of lines is known already."""
        return self._hash.hexdigest() if self._written is self._part else _seal(self._part)


def outdated(manifest: Path, sides: Sequence[Path]) -> list[Path]:
    """Return the files of the same kind that a manifest tells of and the new one will not.

    Only those that are still what was written then: what somebody has changed is theirs.
    """
    try:
        files = json.loads(manifest.read_bytes())["files"]
        seals = {str(file["file"]): file["sha256"] for file in files}
    except (OSError, ValueError, LookupError, TypeError):
        return []
    beside = (manifest.with_name(Path(name).name) for name in seals)
    return [
        place
        for place in beside
        if place not in sides
        and place.suffix == sides[0].suffix
        and place.is_file()
        and _seal(place) == seals[place.name]
    ]


def _seal(place: Path) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown_name(place: Path) -> str:
    """Return a file's name as text, for names need not be any."""
    return place.name.encode(errors="surrogateescape").decode(errors="replace")
