"""Contamination: candidates that repeat texts which a model shall be tested with.

Enters: named texts, once; then a candidate at a time, whole or with its parts. Leaves: a `Hit` for one
that repeats them. Refuses to know: what becomes of the candidate.

A text is contaminated when more than half of its runs of 8 words stand somewhere in the texts
(notes on decontamination). One of less than 8 words is one run, and has to be the whole of a text.
A candidate is contaminated when it is as a whole, or a part of it that has 8 words: a test's question
is one also where a long answer of the candidate's own follows. A part of fewer words, as an answer of
one number is, stands in many a test and says nothing alone.
Of the texts only 12 bytes for each distinct run are kept: its hash and whose it was first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agentloop.errors import SeedError, SettingsError
from agentloop.novelty.sketch import Hashes, hashed, joined, words
from agentloop.readers import READERS, Rows

GRAM = 8  # words
SHARE = 0.5
_SHORT = np.uint64(0x5851F42D4C957F2D)  # keeps a whole text apart from a run within one


class Text(NamedTuple):
    """A text that no candidate may repeat, and where it stands."""

    source: str
    row: int
    text: str


class Hit(NamedTuple):
    """What a candidate repeats."""

    source: str
    row: int
    """The row that most of its repeated runs stood in first."""
    share: float
    """Of the runs of the candidate or its part, how many stand in any of the texts, 0..1."""
    example: str
    """The first repeated run, in small letters without punctuation."""

    def __str__(self) -> str:
        return f"{self.share:.0%} of it stands in `{self.source}`, row {self.row}: “{self.example}”"


class Contamination:
    """The texts that no candidate may repeat."""

    def __init__(self, texts: Iterable[tuple[str, int, str]]):
        self._rows: list[tuple[str, int]] = []
        runs, owners = [], []
        for source, row, text in texts:
            if (grams := _grams(words(text))).size:
                runs.append(grams)
                owners.append(np.full(len(grams), len(self._rows), np.uint32))
                self._rows.append((source, row))
        self._runs, first = np.unique(_together(runs, np.uint64), return_index=True)
        self._owners = _together(owners, np.uint32)[first]

    def __len__(self) -> int:
        """Return how many distinct runs are known."""
        return len(self._runs)

    def find(self, whole: str, parts: Iterable[str] = ()) -> Hit | None:
        """Return what a candidate repeats as a whole, or else the first of its parts that does."""
        if not len(self):
            return None
        if (hit := self._repeated(words(whole))) is not None:
            return hit
        for part in dict.fromkeys(parts):
            if len(found := words(part)) >= GRAM and (hit := self._repeated(found)) is not None:
                return hit
        return None

    def _repeated(self, found: list[str]) -> Hit | None:
        grams = _grams(found)
        if not grams.size:
            return None
        places = np.minimum(np.searchsorted(self._runs, grams), len(self) - 1)
        repeated = np.flatnonzero(self._runs[places] == grams)
        if (share := len(repeated) / len(grams)) <= SHARE:
            return None
        (owner, _), *_ = Counter(self._owners[places[repeated]].tolist()).most_common(1)
        start = int(repeated[0])
        return Hit(*self._rows[owner], share, " ".join(found[start : start + GRAM]))


def read_texts(path: str | Path, field: str = "") -> Iterator[Text]:
    """Yield every text in the rows of a file, however deep; of a `.txt` every line.

    `field` names the one whose texts are wanted.

    Rows are counted from 1, blank lines left out. SettingsError for a file that cannot be read.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if not path.is_file():
        raise SettingsError(f"there is no file of texts `{path}`")
    if reader is None:
        known = ", ".join(f"`{suffix}`" for suffix in _READERS)
        raise SettingsError(f"`{path}`: texts are read from {known}")
    try:
        for row, (_, record) in enumerate(reader(path), 1):
            inner = record.get(field) if field and isinstance(record, Mapping) else record
            for text in texts_in(inner):
                yield Text(str(path), row, text)
    except (SeedError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"file of texts `{path}` cannot be read: {error}") from error


def _lines(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"`{path}` line {number}", line


_READERS: dict[str, Callable[[Path], Rows]] = {**READERS, ".txt": _lines}


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text that a JSON value holds, however deep; no names of fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_in(inner)


def _grams(found: list[str]) -> Hashes:
    """Return the hash of each run of 8 words; of the whole where there are fewer, of none for none."""
    single = hashed(found)
    if len(single) < GRAM:
        run = single[:1] ^ _SHORT
        for word in single[1:]:
            run = joined(run, word)
        return run
    count = len(single) - GRAM + 1
    run = single[:count]
    for further in range(1, GRAM):
        run = joined(run, single[further : further + count])
    return run


def _together(parts: list[Any], kind: type[np.generic]) -> Any:
    return np.concatenate(parts) if parts else np.zeros(0, kind)
