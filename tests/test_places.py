"""Where seeds lie: a long file is not read again while it is the same, and never taken for another."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from agentloop import places, seeds
from agentloop.errors import SeedError
from agentloop.places import item_id
from agentloop.readers import read_lines
from agentloop.records import Json, Seed
from agentloop.seeds import Seeds

ROWS = [{"passage": f"Passage {n}"} for n in range(30)]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep places of short files, at once, and look items up a few at a time."""
    monkeypatch.setattr(places, "WORTH_KEEPING", 1)
    monkeypatch.setattr(places, "SETTLED_NS", 0)
    monkeypatch.setattr(seeds, "FIRST", 2)
    monkeypatch.setattr(seeds, "MOST", 7)
    monkeypatch.setattr(seeds, "HELD", 7)


def write(path: Path, rows: list[dict[str, Any]], before: str = "") -> Path:
    path.write_text(before + "".join(json.dumps(row) + "\n" for row in rows))
    return path


def none(numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.zeros(len(numbers), np.bool_)


def opened(path: Path, **mapping: str) -> Seeds:
    found = Seeds(path, mapping, path.with_name("kept"))
    found.check(("passage",))
    return found


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that will say which files were read whole."""
    read: list[Path] = []

    def noting(path: Path) -> Iterator[tuple[int, int, bytes]]:
        read.append(path)
        return read_lines(path)

    monkeypatch.setattr(seeds, "read_lines", noting)
    return read


@pytest.mark.parametrize("sample", [0, 2])
def test_items_are_those_of_the_seeds_in_their_order(tmp_path: Path, sample: int) -> None:
    path = write(tmp_path / "s.jsonl", ROWS + ROWS[:4], before="\ufeff\n")
    found = opened(path)
    assert (found.count, found.duplicates) == (30, 4)
    expected = [Seed.of(row) for row in ROWS]
    names = [item_id(seed.id, sample) for seed in expected]
    assert list(found.items(sample, none)) == list(zip(names, expected, strict=True))
    settled = np.array(sorted(int(name, 16) for name in names[:25]), np.uint64)
    left = found.items(sample, lambda numbers: np.isin(numbers, settled))
    assert [name for name, _ in left] == names[25:]


def test_a_file_that_is_the_same_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "s.jsonl", [*ROWS, ROWS[0]])
    first = opened(path)
    first.keep()
    read = counted(monkeypatch)
    again = opened(path)
    assert read == []
    assert (again.count, again.duplicates) == (30, 1)
    assert list(again.items(0, none)) == list(first.items(0, none))


def _longer(path: Path) -> None:
    path.write_text(path.read_text() + '{"passage": "one more"}\n')


def _other_words(path: Path) -> None:
    path.write_text(path.read_text().replace("Passage 7", "Passage x"))


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_text(path.read_text().replace("Passage 7", "Passage y"))
    times = path.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [_longer, _other_words, _replaced])
def test_a_file_that_has_changed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    path = write(tmp_path / "s.jsonl", ROWS)
    opened(path).keep()
    change(path)
    read = counted(monkeypatch)
    fields = [seed.fields for _, seed in opened(path).items(0, none)]
    assert read == [path]
    assert fields == [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_read_just_after_it_changed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "s.jsonl", ROWS)
    opened(path).keep()
    monkeypatch.setattr(places, "SETTLED_NS", 10**18)
    read = counted(monkeypatch)
    opened(path)
    assert read == [path]


def test_other_names_or_fields_are_checked_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [{**row, "body": "b"} for row in ROWS])
    opened(path).keep()
    with pytest.raises(SeedError, match="would lose it"):
        opened(path, passage="body")
    found = Seeds(path, {}, path.with_name("kept"))
    with pytest.raises(SeedError, match="no field `question`"):
        found.check(("question",))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("cut", [True, False])
def test_damaged_places_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, cut: bool
) -> None:
    path = write(tmp_path / "s.jsonl", ROWS)
    opened(path).keep()
    (kept,) = tmp_path.glob("kept.*")
    data = bytearray(kept.read_bytes())
    at = int(share * len(data))
    data[at] ^= 0x11
    kept.write_bytes(data[:at] if cut else data)
    read = counted(monkeypatch)
    assert [seed.fields for _, seed in opened(path).items(0, none)] == ROWS
    assert read == [path]


def _head(**other: Any) -> Callable[[Json, bytes], tuple[Json, bytes]]:
    return lambda head, body: (head | other, body)


@pytest.mark.parametrize(
    "planted",
    [
        _head(duplicates="x"),
        _head(duplicates=-1),
        _head(count=30.0),
        lambda head, body: (head | {"count": True}, body[:32]),
        lambda head, body: (head | {"count": 0}, b""),
    ],
)
def test_places_that_are_no_counts_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: Any
) -> None:
    path = write(tmp_path / "s.jsonl", ROWS)
    opened(path).keep()
    plant(tmp_path, planted)
    read = counted(monkeypatch)
    assert [seed.fields for _, seed in opened(path).items(0, none)] == ROWS
    assert read == [path]


def plant(folder: Path, change: Callable[[Json, bytes], tuple[Json, bytes]]) -> None:
    """Change kept places so that their sum is right."""
    (kept,) = folder.glob("kept.*")
    head, _, body = kept.read_bytes().partition(b"\n")
    told, body = change(orjson.loads(head), body)
    kept.write_bytes(orjson.dumps(told | {"sum": crc32(body)}) + b"\n" + body)


@pytest.mark.parametrize("sample", [0, 1])
@pytest.mark.parametrize("column", range(1, 4))
@pytest.mark.parametrize("number", [b"\xff" * 8, b"\0" + b"\xff" * 6 + b"\0", b"\x07" + b"\0" * 7])
def test_places_that_do_not_fit_are_found_anew_by_the_next_one(
    tmp_path: Path, sample: int, column: int, number: bytes
) -> None:
    path = write(tmp_path / "s.jsonl", ROWS)
    first = opened(path)
    first.keep()
    at = 8 * (len(ROWS) * column + 5)
    plant(tmp_path, lambda head, body: (head, body[:at] + number + body[at + 8 :]))
    expected = list(first.items(sample, none))
    if sample == 0 or column < 3:  # else the name is not used
        with pytest.raises(SeedError, match=r"line 6 has changed .* start it again"):
            list(opened(path).items(sample, none))
    assert list(opened(path).items(sample, none)) == expected


def test_each_way_to_read_a_file_has_places_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(tmp_path / name, ROWS) for name in ("a.jsonl", "b.jsonl")]
    for path in paths:
        for mapping in ({}, {"body": "passage"}):
            found = Seeds(path, mapping, tmp_path / "kept")
            found.check(())
            found.keep()
    read = counted(monkeypatch)
    for path in paths:
        for mapping in ({}, {"body": "passage"}):
            Seeds(path, mapping, tmp_path / "kept").check(())
    assert read == []


def test_a_file_that_changes_while_it_is_used_is_no_source(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", ROWS)
    found = opened(path)
    _other_words(path)
    with pytest.raises(SeedError, match="line 8 has changed"):
        list(found.items(0, none))
    path.write_text("")
    with pytest.raises(SeedError, match="line 1 has changed"):
        list(found.items(0, none))


@pytest.mark.parametrize("change", [_replaced, Path.unlink])
def test_a_walk_stays_with_the_file_that_it_began_with(tmp_path: Path, change: Any) -> None:
    path = write(tmp_path / "s.jsonl", ROWS)
    walk = opened(path).items(0, none)
    begun = [next(walk) for _ in range(3)]
    change(path)
    assert [seed.fields for _, seed in [*begun, *walk]] == ROWS


def test_a_file_that_is_gone_is_no_source(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", ROWS)
    found = opened(path)
    path.unlink()
    with pytest.raises(SeedError, match=r"cannot be read: .*No such file"):
        list(found.items(0, none))
    with pytest.raises(SeedError, match=r"cannot be read: .*No such file"):
        found.check(("passage",))


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", ROWS)
    found = Seeds(path, {}, tmp_path / "nowhere" / "kept")
    found.check(("passage",))
    found.keep()
    assert len(list(found.items(0, none))) == 30


def test_what_is_no_file_of_lines_is_walked(tmp_path: Path) -> None:
    found = Seeds(ROWS)
    found.check(("passage",))
    settled = int(item_id(Seed.of(ROWS[3]).id, 1), 16)
    left = [seed.fields for _, seed in found.items(1, lambda n: n == np.uint64(settled))]
    assert left == ROWS[:3] + ROWS[4:]


def test_what_is_walked_is_looked_up_a_few_at_first(tmp_path: Path) -> None:
    found = Seeds(ROWS)
    found.check(("passage",))
    sizes: list[int] = []

    def noting(numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
        sizes.append(len(numbers))
        return none(numbers)

    walk = found.items(0, noting)
    next(walk)
    assert sizes == [2]
    assert len(list(walk)) == len(ROWS) - 1
    assert sizes == [2, 4, 7, 7, 7, 3]
