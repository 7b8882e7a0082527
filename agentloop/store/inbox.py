"""The inbox of a store: what anybody may add while another process writes, which is labels.

    {"t": "labels", "r": {"rid": "…", "run": "qa", "item": "7f3a…", "label": "good", "time": 1.7e9}}

Enters: rows of labels, one JSON line each. Leaves: rows that are safe, for whoever reads or folds them.
Refuses to know: DuckDB, what a label is about.

A line is safe when `post` returns: one `write` at the end of `STORE.inbox.jsonl`, and `fsync`, under the
kernel's lock on that file (`flock`). Rows have names (`rid`), so that folding them twice changes
nothing. A torn last line stays until something whole comes behind it. A line that is no label blocks
nobody: it is moved to `STORE.inbox.refused.jsonl`. A label counts in calibrations only where its line
says `"blind": true`. What lies in the inbox's place and is no regular file, a link too, is never opened.
"""

from __future__ import annotations

import fcntl
import math
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from agentloop.errors import StoreError, boundary

if TYPE_CHECKING:
    from agentloop.records import Json

LONGEST = 64_000  # bytes of a line
LETTERS = 2000  # characters of one field
SAID = ("good", "bad", "unsure")
"""What a whole item may be called; nothing takes back what was said."""
_TEXTS = ("rid", "run", "item", "criterion", "label", "who", "candidate")
_NUMBERS = ("opening", "round")
_NEEDED = ("rid", "run", "item")


def behind_link(store: Path) -> Path:
    """Return a store's own path, where a link names it: all that belongs to it lies beside itself."""
    return store.resolve() if store.is_symlink() else store


def inbox_of(store: Path) -> Path:
    """Return where a store's inbox lies."""
    store = behind_link(store)
    return store.with_name(store.name + ".inbox.jsonl")


def refused_of(store: Path) -> Path:
    """Return where lines are kept that were no labels."""
    store = behind_link(store)
    return store.with_name(store.name + ".inbox.refused.jsonl")


def post(store: Path, *rows: Json) -> None:
    """Leave rows of labels for a store, whoever is writing it; they are folded in later.

    They are safe when this returns, all or, where the machine dies, the first of them. Raises
    StoreError, also for a row that would be refused.
    """
    with boundary(StoreError, "this is no label that a store could take", TypeError):
        data = b"".join(orjson.dumps({"t": "labels", "r": row}) + b"\n" for row in rows)
    if _sorted_out(data)[1]:
        raise StoreError("this is no label that a store could take")
    inbox = inbox_of(store)
    try:
        with _held(inbox) as file:
            if _is_torn(inbox):
                data = b"\n" + data
            if os.write(file, data) < len(data):
                raise StoreError(f"inbox `{inbox}`: the disk is full")
            os.fsync(file)
    except OSError as error:
        raise StoreError(f"inbox `{inbox}` cannot be written: {error}") from error


def read_inbox(store: Path) -> list[Json]:
    """Return the labels that are not folded yet, in the order posted."""
    try:
        with open(inbox_of(store), "rb", opener=_regular) as file:
            data = file.read()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"inbox `{inbox_of(store)}` cannot be read: {error}") from error
    return _sorted_out(data[: data.rfind(b"\n") + 1])[0]


def fold_posts(store: Path, insert: Callable[[list[Json]], None]) -> None:
    """Let `insert` make the labels safe elsewhere, then empty the inbox.

    Only the owner of the store's lock may. What `insert` raises leaves everything as it was.
    """
    inbox = inbox_of(store)
    if not has_posts(inbox):
        return
    with _held(inbox) as file:
        data = _read(file)
        end = data.rfind(b"\n") + 1
        rows, refused = _sorted_out(data[:end])
        _keep_aside(refused_of(store), refused)
        if rows:
            insert(rows)
        if os.fstat(file).st_size > len(data):
            return  # somebody appended without the lock: the next fold takes it
        os.ftruncate(file, 0)
        if data[end:]:
            os.write(file, data[end:])


def has_posts(inbox: Path) -> bool:
    """Whether an inbox holds a whole line."""
    try:
        with open(inbox, "rb", opener=_regular) as file:
            return any(line.endswith(b"\n") for line in file)
    except OSError:
        return False


@contextmanager
def _held(path: Path) -> Iterator[int]:
    """Open the inbox for one process at a time; the lock is the kernel's and dies with its owner."""
    file = _regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _regular(path: str | Path, flags: int) -> int:
    """Open a file, as `os.open`. Raises OSError for a link, a pipe, a device: it waits for none."""
    if Path(path).is_symlink():
        raise OSError("it is a link")
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError("it is no regular file")
    return file


def _read(file: int) -> bytes:
    with open(file, "rb", closefd=False) as content:
        content.seek(0)
        return content.read()


def _is_torn(path: Path) -> bool:
    with open(path, "rb", opener=_regular) as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _keep_aside(path: Path, lines: Sequence[bytes]) -> None:
    """Append lines that are not there yet: a fold that was cut off comes again."""
    if not lines:
        return
    with open(path, "a+b", opener=_regular) as file:
        file.seek(0)
        known = set(file.read().split(b"\n"))
        file.write(b"".join(line + b"\n" for line in dict.fromkeys(lines) if line not in known))
        file.flush()
        os.fsync(file.fileno())


def _sorted_out(data: bytes) -> tuple[list[Json], list[bytes]]:
    """Return the labels among whole lines, and the lines that are none."""
    rows: list[Json] = []
    refused: list[bytes] = []
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        row = _row(line)
        if row is None:
            refused.append(line)
        else:
            rows.append(row)
    return rows, refused


def _row(line: bytes) -> Json | None:
    """Return the label that a line holds; None where it holds none."""
    if len(line) > LONGEST:
        return None
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    row = entry.get("r") if isinstance(entry, dict) and entry.get("t") == "labels" else None
    return row if isinstance(row, dict) and _is_label(row) else None


def _is_label(row: Json) -> bool:
    """Whether every field is of its kind, so that none can stop the others from being inserted."""
    if not all(row.get(name) for name in _NEEDED):
        return False
    whole = row.get("criterion") is None
    return (
        all(_is_text(row.get(name)) for name in _TEXTS)
        and all(_is_number(row.get(name)) for name in _NUMBERS)
        and isinstance(row.get("blind"), bool | None)
        and _is_time(row.get("time"))
        and (not whole or row.get("label") in (None, *SAID))
    )


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= LETTERS and "\0" not in value)


def _is_number(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value < 2**31)


def _is_time(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))
