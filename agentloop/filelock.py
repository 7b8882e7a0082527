"""A lock on a file that the kernel frees when its owner dies.

Enters: a path. Leaves: the right to be the only one, or `None`/UserError with the owner's pid.
Refuses to know: what is being protected.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from agentloop.errors import UserError


class FileLock:
    """`flock` on `path`; the file stays and holds the owner's pid."""

    def __init__(self, path: Path, *, wait: bool = False):
        self._path = path
        self._wait = wait
        self._file: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False when another process holds it and `wait` is off."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if self._wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        self._file = file
        return True

    def release(self) -> None:
        """Free the lock; safe to call twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def owner(self) -> int | None:
        """The pid that stands in the file."""
        try:
            return int(self._path.read_text() or 0) or None
        except (OSError, ValueError):
            return None

    def __enter__(self) -> FileLock:
        if not self.acquire():
            raise UserError(f"`{self._path}` is held by process {self.owner}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
