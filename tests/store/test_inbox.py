"""The inbox and the labels in it: nothing is lost, nothing stands in the way, nothing counts twice."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import StoreError
from agentloop.store import Store
from agentloop.store.files import Files, connect, prepare
from agentloop.store.inbox import fold_posts, inbox_of, post, read_inbox, refused_of
from agentloop.store.labels import Place, candidate_hash, read_labels, say, say_level
from agentloop.store.schema import MIGRATIONS
from agentloop.store.writer import Writer
from tests.builders import python

PLACE = Place("i1", 0, 1, "c0ffee")


def label(rid: str) -> dict[str, Any]:
    return {"rid": rid, "run": "a", "item": "i", "label": "good", "time": 1.0}


def line(rid: str, **more: Any) -> bytes:
    return json.dumps({"t": "labels", "r": {**label(rid), **more}}).encode() + b"\n"


def folded(path: Path) -> list[str]:
    with connect(path, write=False) as connection:
        return [r for (r,) in connection.execute("SELECT rid FROM labels ORDER BY rid").fetchall()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "s.duckdb"
    Writer(path).close()
    return path


def test_what_is_posted_is_folded_by_the_writer_or_by_the_next_who_opens(path: Path) -> None:
    with Writer(path):
        post(path, label("1"), label("2"))
    assert folded(path) == ["1", "2"]
    post(path, label("3"))
    post(path, label("3"))
    Store(path)
    assert folded(path) == ["1", "2", "3"]
    assert inbox_of(path).read_bytes() == b""


def test_a_torn_line_stays_until_it_is_whole(path: Path) -> None:
    whole = line("2")
    inbox_of(path).write_bytes(line("1") + whole[:20])
    Store(path)
    assert folded(path) == ["1"]
    assert inbox_of(path).read_bytes() == whole[:20]
    with inbox_of(path).open("ab") as file:
        file.write(whole[20:])
    Store(path)
    assert folded(path) == ["1", "2"]
    assert not refused_of(path).exists()


def test_a_post_behind_a_torn_line_stands_and_the_torn_one_is_kept_aside(path: Path) -> None:
    inbox_of(path).write_bytes(line("torn")[:30])
    post(path, label("1"))
    assert [row["rid"] for row in read_inbox(path)] == ["1"]
    Store(path)
    assert folded(path) == ["1"]
    assert refused_of(path).read_bytes() == line("torn")[:30] + b"\n"


HOSTILE = {
    "no JSON": b"{]\n",
    "no object": b"[1, 2]\n",
    "another table": b'{"t": "runs", "r": {"run": "a"}}\n',
    "no row": b'{"t": "labels", "r": 7}\n',
    "nothing called": line("x", label="excellent"),
    "no name": line(""),
    "a name that is a number": json.dumps({"t": "labels", "r": {**label("x"), "rid": 7}}).encode()
    + b"\n",
    "a list for a text": line("x", who=["anna"]),
    "a time in words": line("x", time="noon"),
    "no number": line("x", round=1.5),
    "a huge number": line("x", round=2**40),
    "NUL": line("x", who="a\0b"),
    "half a surrogate": b'{"t": "labels", "r": {"rid": "x", "run": "\\ud800", "item": "i"}}\n',
    "no UTF-8": b'{"t": "labels", "r": {"rid": "\xff", "run": "a", "item": "i"}}\n',
    "a megabyte": line("x", more="m" * 1_000_000),
    "nested": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_line_is_kept_aside_and_blocks_nobody(case: str, path: Path) -> None:
    inbox_of(path).write_bytes(line("1") + HOSTILE[case] + line("2"))
    with Writer(path) as writer:
        writer.flush()
        writer.append(("runs", {"run": "a", "recipe": "r", "time": 1.0, "identity": {}}))
    assert folded(path) == ["1", "2"]
    assert refused_of(path).read_bytes() == HOSTILE[case]
    assert Store(path).runs() == ["a"]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "s.duckdb"
    inbox_of(path).write_bytes(line("1") + data + b"\n" + line("2"))
    assert {"1", "2"} <= {row["rid"] for row in read_inbox(path)}


def test_a_fold_that_was_cut_off_is_done_again_and_changes_nothing(path: Path) -> None:
    post(path, label("1"))
    with inbox_of(path).open("ab") as file:
        file.write(b"no label\n")
    before = inbox_of(path).read_bytes()
    for _ in range(2):
        inbox_of(path).write_bytes(before)  # as if it was killed before the inbox was emptied
        Store(path)
    assert folded(path) == ["1"]
    assert refused_of(path).read_bytes() == b"no label\n"


def test_an_insert_that_fails_leaves_the_inbox_as_it_was(path: Path) -> None:
    post(path, label("1"))
    before = inbox_of(path).read_bytes()

    def fails(rows: list[Any]) -> None:
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="full"):
        fold_posts(path, fails)
    assert inbox_of(path).read_bytes() == before


def test_what_comes_without_the_lock_while_a_fold_inserts_is_not_lost(path: Path) -> None:
    post(path, label("1"))

    def meanwhile(rows: list[Any]) -> None:
        with inbox_of(path).open("ab") as file:
            file.write(line("2"))

    fold_posts(path, meanwhile)
    Store(path)
    assert folded(path) == ["1", "2"]


@pytest.mark.parametrize(
    "wrong", [{"label": "fine"}, {"rid": ""}, {"who": "\ud800"}, {"round": -1}]
)
def test_what_is_no_label_is_not_posted(wrong: dict[str, Any], path: Path) -> None:
    with pytest.raises(StoreError, match="no label"):
        post(path, {**label("1"), **wrong})
    assert read_inbox(path) == []


POSTER = """
import sys
from pathlib import Path
from agentloop.store.inbox import post
for n in range(50):
    post(Path(sys.argv[1]), {"rid": f"{sys.argv[2]}-{n:02}", "run": "a", "item": "i"})
"""
ENDLESS = """
import itertools, sys
from pathlib import Path
from agentloop.store.inbox import post
for n in itertools.count():
    post(Path(sys.argv[1]), {"rid": str(n), "run": "a", "item": "i"})
    print(n, flush=True)
"""
FOLDER = """
import itertools, sys
from pathlib import Path
from agentloop.store.writer import Writer
with Writer(Path(sys.argv[1])) as writer:
    for n in itertools.count():
        writer.flush()
        print(n, flush=True)
"""


def test_posts_of_several_processes_all_arrive_while_a_writer_folds(path: Path) -> None:
    with Writer(path) as writer:
        posters = [python(POSTER, path, str(number)) for number in range(3)]
        while any(poster.poll() is None for poster in posters):
            writer.flush()
        for poster in posters:
            _, err = poster.communicate()
            assert poster.returncode == 0, err
    assert len(folded(path)) == 150


def test_what_was_posted_survives_the_kill_of_who_posted_it(path: Path) -> None:
    for _ in range(3):
        with python(ENDLESS, path) as poster:
            assert poster.stdout
            said = [poster.stdout.readline().strip() for _ in range(20)]
            poster.send_signal(signal.SIGKILL)
            said += poster.stdout.read().split()
        assert set(said) <= {row["rid"] for row in read_inbox(path)} | set(folded(path))
        Store(path)
        assert set(said) <= set(folded(path))


def test_what_was_posted_survives_the_kill_of_who_folds_it(path: Path) -> None:
    for turn in range(4):
        with python(FOLDER, path) as folder:
            assert folder.stdout
            for n in range(30):
                post(path, label(f"{turn}-{n:02}"))
            folder.stdout.readline()
            folder.send_signal(signal.SIGKILL)
        Store(path)
        assert len(folded(path)) == 30 * (turn + 1)


# What a label says


def test_the_last_word_counts_and_nothing_is_changed(path: Path) -> None:
    store = Store(path)
    say(store, "r", PLACE, "good", who="anna", blind=True)
    say(store, "r", PLACE, "bad", who="ben")
    say_level(store, "r", PLACE, "right", "yes", who="anna")
    say(store, "r", PLACE, "unsure", who="anna")
    anna, ben = read_labels(store, "r")
    assert (anna.who, anna.said, anna.levels, anna.blind) == (
        "anna",
        "unsure",
        {"right": "yes"},
        False,
    )
    assert (ben.who, ben.said, ben.place) == ("ben", "bad", PLACE)
    assert len(read_inbox(path)) == 4


def test_what_is_taken_back_is_gone(path: Path) -> None:
    store = Store(path)
    say(store, "r", PLACE, "good")
    say_level(store, "r", PLACE, "right", "no")
    say(store, "r", PLACE, None)
    (label,) = read_labels(store, "r")
    assert (label.said, label.levels) == (None, {"right": "no"})
    say_level(store, "r", PLACE, "right", None)
    assert read_labels(store, "r") == []


def test_labels_are_the_same_before_and_after_a_fold_and_in_between(path: Path) -> None:
    store = Store(path)
    say(store, "r", PLACE, "good", who="anna", blind=True)
    say_level(store, "r", PLACE, "right", "yes", who="anna")
    before, waiting = read_labels(store, "r"), inbox_of(path).read_bytes()
    Store(path)
    assert inbox_of(path).read_bytes() == b""
    assert read_labels(store, "r") == before
    inbox_of(path).write_bytes(waiting)
    assert read_labels(store, "r") == before
    assert read_labels(store, "another") == []


def test_a_store_of_an_earlier_schema_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with connect(path, write=True) as connection:
        connection.execute("CREATE TABLE migrations (version INTEGER, time TIMESTAMPTZ)")
        for number, step in enumerate(MIGRATIONS[:6], start=1):
            step(connection)
            connection.execute("INSERT INTO migrations VALUES (?, now())", [number])
        for column in ("opening", "round", "candidate", "blind"):
            connection.execute(f"ALTER TABLE labels DROP COLUMN {column}")
        connection.execute(
            "INSERT INTO labels (rid, run, item, label) VALUES ('1', 'r', 'i', 'good')"
        )
    Files(path).lock.mkdir()  # so that nobody can take it
    (old,) = read_labels(Store(path), "r")
    assert (old.place, old.said) == (Place("i", 0, 0, ""), "good")
    Files(path).lock.rmdir()
    say(Store(path), "r", PLACE, "bad")
    Store(path)
    assert folded(path)[0] == "1"
    assert [label.said for label in read_labels(Store(path), "r")] == ["good", "bad"]


def test_a_candidate_has_a_name_whatever_it_holds() -> None:
    one = candidate_hash({"a": "\ud800", "b": [1, {"c": "\0"}], "d": 10**30})
    assert one == candidate_hash({"d": 10**30, "b": [1, {"c": "\0"}], "a": "\ud800"})
    assert one != candidate_hash({"a": "\udfff", "b": [1, {"c": "\0"}], "d": 10**30})
    assert len(one) == 16


def test_a_prepared_store_has_the_columns(tmp_path: Path) -> None:
    prepare(tmp_path / "s.duckdb")
    with connect(tmp_path / "s.duckdb", write=False) as connection:
        found = {row[0] for row in connection.execute("DESCRIBE labels").fetchall()}
    assert {"opening", "round", "candidate", "blind"} <= found
