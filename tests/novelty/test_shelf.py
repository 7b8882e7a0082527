"""Damage: whatever happens to the files, opening says so, or no answer is wrong."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import StoreError
from agentloop.novelty.near import Near, NearIndex, Stamp
from agentloop.novelty.shelf import DamagedIndex, discard
from agentloop.records import digest

TEXTS = [f"{first} {second} river flows" for first in "abcd" for second in ("old", "new", "3")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "s.near"
    index = NearIndex.open(path)
    for text in TEXTS:
        index.add(text, text)
    index.close()
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "s.near"))


def answers(path: Path) -> list[Near | None]:
    """Ask for every text; DamagedIndex may come instead."""
    with closing(NearIndex.open(path)) as index:
        assert index.stamp == Stamp.of(TEXTS)
        return [index.nearest(text) for text in TEXTS]


def test_the_copy_is_whole(path: Path) -> None:
    assert answers(path) == [Near(text, "jaccard", 1.0) for text in TEXTS]


NAMES = st.sampled_from(["head.json", "texts", "names", "ends", "signatures", "tables-1024"])


@given(NAMES, st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_off_is_noticed_or_lacks_nothing(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, name: str, share: float
) -> None:
    path = Path(shutil.copytree(whole, tmp_path_factory.mktemp("cut") / "s.near"))
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: int(share * len(data))])
    try:
        assert answers(path) == [Near(text, "jaccard", 1.0) for text in TEXTS]
    except DamagedIndex:
        return
    assert name in ("names", "ends", "signatures")  # they have room for 1024 rows, and hold 12


@given(NAMES, st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=200))
def test_garbage_is_noticed_or_costs_hits_and_never_makes_one(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, name: str, share: float, garbage: bytes
) -> None:
    path = Path(shutil.copytree(whole, tmp_path_factory.mktemp("bad") / "s.near"))
    data = bytearray((path / name).read_bytes())
    at = int(share * min(len(data), 2000))
    data[at : at + len(garbage)] = garbage
    (path / name).write_bytes(data)
    try:
        found = answers(path)
    except DamagedIndex:
        return
    for text, near in zip(TEXTS, found, strict=True):
        assert near is None or near.item in TEXTS
        assert name in ("signatures", "tables-1024") or near == Near(text, "jaccard", 1.0)


@pytest.mark.parametrize(
    "name", ["head.json", "texts", "names", "ends", "signatures", "tables-1024"]
)
@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_a_file_that_is_gone_or_another_is_noticed(
    path: Path, name: str, content: bytes | None
) -> None:
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
    with pytest.raises(DamagedIndex, match=r"`.*s\.near`"):
        NearIndex.open(path)


@pytest.mark.parametrize(("key", "value"), [("format", 1), ("format", 3), ("unicode", "1.0")])
def test_another_version_is_noticed(path: Path, key: str, value: object) -> None:
    said = orjson.loads((path / "head.json").read_bytes()) | {key: value}
    del said["sum"]
    (path / "head.json").write_bytes(orjson.dumps(said | {"sum": digest(said)}))
    with pytest.raises(DamagedIndex, match="another version"):
        NearIndex.open(path)


def test_a_head_that_was_changed_is_noticed(path: Path) -> None:
    said = orjson.loads((path / "head.json").read_bytes())
    (path / "head.json").write_bytes(orjson.dumps(said | {"rows": 11}))
    with pytest.raises(DamagedIndex, match="head is damaged"):
        NearIndex.open(path)


def test_a_file_in_its_place_is_noticed_and_can_be_discarded(tmp_path: Path) -> None:
    path = tmp_path / "s.near"
    path.write_text("garbage")
    with pytest.raises(DamagedIndex, match="is no folder"):
        NearIndex.open(path)
    discard(path)
    with closing(NearIndex.open(path)) as index:
        assert len(index) == 0


def test_a_discarded_index_is_made_anew(path: Path) -> None:
    (path / "head.json").unlink()
    discard(path)
    discard(path)
    assert not path.exists()
    with closing(NearIndex.open(path)) as index:
        assert len(index) == 0


@pytest.fixture
def flushed(path: Path) -> Iterator[Path]:
    """Return an index that somebody still has open, as after a kill."""
    with closing(NearIndex.open(path)) as index:
        index.add("more", "more words here")
        index.flush()
        yield path


def test_signatures_lost_to_a_power_failure_are_noticed(flushed: Path) -> None:
    with (flushed / "signatures").open("r+b") as file:
        file.write(bytes(256))
    with pytest.raises(DamagedIndex):
        NearIndex.open(flushed)


def test_tables_lost_to_a_power_failure_are_made_anew(flushed: Path) -> None:
    with (flushed / "tables-1024").open("r+b") as file:
        file.write(bytes(256 * 1024))
    with closing(NearIndex.open(flushed)) as index:
        assert [index.nearest(text) for text in TEXTS] == [Near(t, "jaccard", 1.0) for t in TEXTS]


def test_a_growth_that_was_cut_off_is_cleared_away(path: Path) -> None:
    (path / "tables-2048").write_bytes(b"\0" * 100)
    assert len(answers(path)) == len(TEXTS)
    assert not (path / "tables-2048").exists()


def test_files_are_no_more_open_than_the_users_mask(tmp_path: Path) -> None:
    NearIndex.open(tmp_path / "s.near").close()
    other = tmp_path / "other"
    other.write_text("")
    for file in (tmp_path / "s.near").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        NearIndex.open(tmp_path / "nowhere" / "s.near")
