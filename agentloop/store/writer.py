"""The one writer of a store: lock, journal, folds every few seconds, the seldomer the dearer they are.

Enters: rows, from the event loop. Leaves: rows that are safe at once and in DuckDB soon, in groups.
Refuses to know: the graph, admission, what the rows mean.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from agentloop.errors import StoreError
from agentloop.filelock import FileLock
from agentloop.store.files import (
    Appender,
    Entry,
    Files,
    StoreBusy,
    connect,
    fold,
    fold_inbox,
    fold_rotated,
    prepare,
    rotate,
)

if TYPE_CHECKING:
    import duckdb

FOLD_SECONDS = 2.0  # between folds, at least, unless there are many lines
FOLD_SHARE = 0.01  # of one processor, that folds of few lines may take …
FOLD_LATEST = 10.0  # … but nobody waits longer than so many seconds
FOLD_LINES = 3000
LAST_PATIENCE = 60.0  # seconds that the last fold waits for a reader, an export say
TAKE_PATIENCE = 3.0  # seconds that a new writer waits for a reader that folds


_rows = itertools.count()


def row_id() -> str:
    """Return a key that no other row has: time, process, counter."""
    return f"{time.time_ns():x}-{os.getpid():x}-{next(_rows):x}"


def pause(took: float) -> float:
    """Return the seconds until the next fold, after one that took so much of a processor."""
    return max(FOLD_SECONDS, min(FOLD_LATEST, took / FOLD_SHARE))


class Writer:
    """Owns a store while it is open. `append` is cheap and safe; folding happens in a thread."""

    def __init__(self, path: str | Path):
        self.files = Files(Path(path))
        self._lock = FileLock(self.files.lock)
        self._mutex = threading.Lock()
        self._folding = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._lines = 0
        self._error: Exception | None = None
        self._take()
        self._appender = Appender(self.files.journal)
        self._thread = threading.Thread(target=self._work, name="agentloop-store", daemon=True)
        self._thread.start()

    def _take(self) -> None:
        folder = self.files.path.parent
        if not folder.is_dir():
            raise StoreError(f"store `{self.files.path}`: there is no folder `{folder}`")
        deadline = time.monotonic() + TAKE_PATIENCE
        try:
            while not (taken := self._lock.acquire()) and time.monotonic() < deadline:
                time.sleep(0.05)
        except OSError as error:
            raise StoreError(f"store `{self.files.path}` cannot be written: {error}") from error
        if not taken:
            owner = self._lock.owner
            raise StoreError(
                f"store `{self.files.path}` is being written by process {owner}: "
                "wait for it, or use another `--store`"
            )
        try:
            prepare(self.files.path)
            fold(self.files)
        except BaseException:
            self._lock.release()
            raise

    def row_id(self) -> str:
        """Return a key that no other row of this store has."""
        return row_id()

    def append(self, *lines: Entry) -> None:
        """Make rows safe, together. Raises StoreError; also for a fold that failed meanwhile."""
        if self._error is not None:
            raise StoreError(f"store `{self.files.path}`: {self._error}") from self._error
        with self._mutex:
            try:
                self._appender.append(lines)
            except StoreError as error:
                self._error = error  # a torn line must stay the last one
                raise
            self._lines += len(lines)
        if self._lines >= FOLD_LINES:
            self._wake.set()

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database for reading, between two folds."""
        with self._folding, connect(self.files.path, write=False) as connection:
            yield connection

    def flush(self) -> None:
        """Fold now, in this thread."""
        with self._folding, self._mutex:
            self._appender.close()
            try:
                fold(self.files)
            finally:
                self._appender.open()
                self._lines = 0

    def close(self, *, discard: bool = False) -> None:
        """Fold what is left and free the store; safe to call twice.

        `discard` removes a store that was made for nothing, while nobody else can take it.
        """
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._thread.join()
        try:
            with self._mutex:
                self._appender.close()
                if discard:
                    self.files.discard()
                else:
                    fold(self.files, LAST_PATIENCE, last=True)
        finally:
            self._lock.release()

    def _work(self) -> None:
        took = 0.0
        while True:
            self._wake.wait(pause(took))
            self._wake.clear()
            if self._closing:
                return
            if not self._lines and not self.files.pending:
                continue
            before = time.thread_time()
            try:
                self._fold_beside()
            except StoreBusy:
                took = 0.0
                continue  # a reader only delays a fold
            except Exception as error:
                self._error = error
            took = time.thread_time() - before

    def _fold_beside(self) -> None:
        """Fold while appends go on: only the renaming happens under the mutex."""
        with self._folding:
            if not self.files.folding.exists():
                with self._mutex:
                    self._appender.close()
                    rotate(self.files)
                    self._appender.open()
                    self._lines = 0
            fold_rotated(self.files)
            fold_inbox(self.files)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
