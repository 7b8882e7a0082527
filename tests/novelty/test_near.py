"""Near-duplicates: planted ones are found, hits are true, what is on disk is what was in memory."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.novelty.near import Near, NearIndex, Stamp
from agentloop.novelty.shelf import SMALLEST
from agentloop.novelty.sketch import NEAR, words
from tests.novelty.texts import ANY, TEXTS, jaccard, rouge_l

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("AGENTLOOP_SHARED") or ROOT.parent / "shared") / "data"
RIVER = "Name the three longest rivers of Europe and say in which country each of them rises."


def index_of(*texts: str, path: Path | None = None) -> NearIndex:
    index = NearIndex.open(path)
    for number, text in enumerate(texts):
        index.add(f"item-{number}", text)
    return index


def invented(count: int) -> list[str]:
    draw = random.Random(3)
    return [" ".join(f"w{draw.randrange(9000)}" for _ in range(12)) for _ in range(count)]


@pytest.mark.parametrize(
    "text",
    [
        RIVER,
        RIVER.upper().replace(",", " — "),
        f"Please, {RIVER}",
        RIVER.replace("three", "five"),
        RIVER.replace("three longest rivers", "seven highest mountains"),
        RIVER.replace("Europe and ", ""),
        RIVER.replace("longest", "very longest known"),
        f"{RIVER} Answer in one table.",
    ],
)
def test_a_text_that_was_edited_is_near(text: str) -> None:
    near = index_of("How do I boil an egg?", RIVER, *invented(50)).nearest(text)
    assert near is not None
    assert near.item == "item-1"
    assert near.similarity >= NEAR


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello", "hello!"),
        ("Write a poem", "write a POEM."),
        ("write a short poem", "write a long poem"),
        ("日本で一番高い山は何ですか", "日本で一番長い川は何ですか"),
        ("ภาษาไทยสวยงามมาก", "ภาษาไทยสวยงามจริง"),
        ("Переведи это предложение на английский", "переведи это предложение на немецкий"),
    ],
)
def test_short_texts_and_all_scripts_are_compared(one: str, other: str) -> None:
    near = index_of(one).nearest(other)
    assert near is not None
    assert near.similarity >= NEAR


@pytest.mark.parametrize(
    "text", ["", "?!", "Hello", "Which river is the longest?", "Name the three largest lakes."]
)
def test_other_texts_are_not_near(text: str) -> None:
    assert index_of(RIVER, "Hello world", "", "!").nearest(text) is None


def test_clauses_that_change_places_are_near_by_their_shingles() -> None:
    halves = "take the old road along the river to the mill", "then wait there for the ferryman"
    near = index_of(" ".join(halves)).nearest(" ".join(reversed(halves)))
    assert near == Near("item-0", "jaccard", 12 / 16)


def test_a_problem_with_other_numbers_is_near() -> None:
    problem = "A baker sells {} loaves for {} dollars each. How much does she earn in {} days?"
    near = index_of(problem.format(12, 3, 5)).nearest(problem.format(40, 7, 9))
    assert near is not None
    assert near.measure == "rouge_l"
    assert near.similarity == pytest.approx(14 / 17)


def test_the_nearest_of_many_is_named() -> None:
    index = index_of(*(RIVER.replace("three", f"{number} or so") for number in range(6)), RIVER)
    assert index.nearest(RIVER) == Near("item-6", "jaccard", 1.0)


def test_crowded_words_do_not_hide_a_near_text() -> None:
    """300 texts share their first eight words, so that buckets of these overflow."""
    stem = "Write a short and funny story about a"
    index = index_of(f"{stem} {RIVER}", *(f"{stem} {text}" for text in invented(300)))
    near = index.nearest(f"{stem} {RIVER.replace('Europe', 'Asia')}")
    assert near is not None
    assert near.item == "item-0"


@given(st.lists(ANY, max_size=12), ANY)
def test_a_hit_is_never_false_and_a_copy_never_missed(texts: list[str], text: str) -> None:
    near = index_of(*texts).nearest(text)
    mine = words(text)
    if near is None:
        assert not mine or all(words(other) != mine for other in texts)
        return
    other = words(texts[int(near.item.removeprefix("item-"))])
    by_hand = rouge_l(mine, other) if near.measure == "rouge_l" else jaccard(mine, other)
    assert near.similarity == pytest.approx(by_hand)
    assert near.similarity >= NEAR


@given(st.lists(TEXTS, max_size=8), st.lists(TEXTS, max_size=8), st.booleans())
def test_what_was_saved_is_what_was_in_memory(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], asked: list[str], closed: bool
) -> None:
    path = tmp_path_factory.mktemp("near") / "s.near"
    in_memory, saved = index_of(*texts), index_of(*texts, path=path)
    (saved.close if closed else saved.flush)()
    with closing(saved), closing(NearIndex.open(path)) as opened:
        assert len(opened) == len(in_memory) == len(texts)
        assert opened.stamp == in_memory.stamp
        assert [opened.nearest(a) for a in asked] == [in_memory.nearest(a) for a in asked]


def test_an_index_grows_and_holds_all(tmp_path: Path) -> None:
    texts = invented(2 * SMALLEST + 10)
    index = index_of(*texts, path=tmp_path / "s.near")
    index.close()
    with closing(NearIndex.open(tmp_path / "s.near")) as index:
        found = [index.nearest(f"so {text}") for text in texts]
    assert [near.item for near in found if near] == [f"item-{n}" for n in range(len(texts))]
    assert [file.name for file in (tmp_path / "s.near").glob("tables*")] == [
        f"tables-{4 * SMALLEST}"
    ]


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    index_of("one two three", path=tmp_path / "s.near").close()
    with closing(NearIndex.open(tmp_path / "s.near")) as index:
        index.add("later", "four five six")
        index.close()
    with closing(NearIndex.open(tmp_path / "s.near")) as index:
        assert index.nearest("one two three") == Near("item-0", "jaccard", 1.0)
        assert index.nearest("four five six") == Near("later", "jaccard", 1.0)


@given(st.lists(st.text(max_size=5)), st.randoms())
def test_a_stamp_tells_items_and_not_their_order(names: list[str], draw: random.Random) -> None:
    index = NearIndex.open(None)
    for name in names:
        index.add(name, "a text")
    draw.shuffle(names)
    assert index.stamp == Stamp.of(names)
    assert index.stamp != Stamp.of([*names, "one more"])
    assert index.lacks([*names, "one\0more"]) == ["one\0more"]


def test_duckdb_counts_the_same_stamp() -> None:
    sql = "SELECT count(*), sum(md5_number_lower(n)) % 18446744073709551616 FROM (VALUES (?), (?)) t(n)"
    assert duckdb.execute(sql, ["run/1", "Ünï"]).fetchone() == tuple(Stamp.of(["run/1", "Ünï"]))


KILLED = """
import os, sys
from pathlib import Path
from agentloop.novelty.near import NearIndex
index = NearIndex.open(Path(sys.argv[1]))
safe, lost = int(sys.argv[2]), int(sys.argv[3])
for number in range(safe + lost):
    index.add(f"item-{number}", " ".join(f"w{number}x{place}" for place in range(9)))
    if number == safe - 1:
        index.flush()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("safe", "lost"), [(0, 3), (5, 0), (5, 3), (SMALLEST, 3)])
def test_after_a_kill_what_was_flushed_is_there(tmp_path: Path, safe: int, lost: int) -> None:
    path = tmp_path / "s.near"
    command = [sys.executable, "-c", KILLED, str(path), str(safe), str(lost)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with closing(NearIndex.open(path)) as index:
        count = len(index)
        assert count == safe  # also where it grew after that, and was saved full
        assert index.stamp == Stamp.of(f"item-{number}" for number in range(count))
        for number in range(safe + lost):
            text = " ".join(f"w{number}x{place}" for place in range(9))
            found = index.nearest(text)
            assert (found.item if found else None) == (f"item-{number}" if number < count else None)
            if number >= count:
                index.add(f"item-{number}", text)
        assert len(index) == safe + lost


def human(name: str, field: str) -> list[str]:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"there is no {name} in the shared data")
    return [json.loads(line)[field] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("self-instruct/seed_tasks.jsonl", "instruction"),
        ("self-instruct/user_oriented_instructions.jsonl", "instruction"),
        ("ifeval/en_input_data.jsonl", "prompt"),
        ("gsm8k/test.jsonl", "question"),
    ],
)
def test_human_prompts_are_seldom_near_each_other(name: str, field: str) -> None:
    texts, index, hits = human(name, field), NearIndex.open(None), 0
    for number, text in enumerate(texts):
        hits += index.nearest(text) is not None
        index.add(str(number), text)
    assert hits / len(texts) <= 0.03


EDITS: dict[str, Callable[[list[str], random.Random], list[str]]] = {
    "case": lambda text, draw: [word.upper() + ";" for word in text],
    "prefix": lambda text, draw: ["Please", *text],
    "replaced": lambda text, draw: [
        "something" if place in draw.sample(range(len(text)), 2) else word
        for place, word in enumerate(text)
    ],
    "inserted": lambda text, draw: [*text[:4], "really", *text[4:9], "quite", *text[9:]],
    "deleted": lambda text, draw: [word for place, word in enumerate(text) if place not in (3, 8)],
}


@pytest.fixture(scope="module")
def questions() -> tuple[list[str], NearIndex]:
    texts = human("gsm8k/test.jsonl", "question")
    return texts, index_of(*texts)


@pytest.mark.parametrize("edit", EDITS)
def test_planted_near_duplicates_are_found(
    questions: tuple[list[str], NearIndex], edit: str
) -> None:
    (texts, index), draw = questions, random.Random(4)
    near = found = 0
    for text in texts[:300]:
        made = " ".join(EDITS[edit](text.split(), draw))
        if rouge_l(words(made), words(text)) >= NEAR:
            near += 1
            found += index.nearest(made) is not None
    assert near >= 290
    assert found / near >= 0.97
