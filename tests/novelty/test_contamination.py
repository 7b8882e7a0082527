"""Contamination: shares by hand, rows by name, files of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import SettingsError
from agentloop.novelty.contamination import Contamination, Hit, Text, read_texts
from agentloop.novelty.sketch import words
from tests.novelty.texts import ANY

QUESTION = "A train leaves the old town at noon and arrives in the harbour two hours later."
TEST = [("gsm", 1, "Another question altogether, of no matter here, but with enough words in it.")]
TEST += [("gsm", 2, QUESTION), ("short", 7, "Who wrote Faust?"), ("short", 8, "?!")]


@pytest.mark.parametrize(
    "text", [QUESTION, QUESTION.upper().replace(".", " !"), f"Solve this: {QUESTION}"]
)
def test_a_text_of_the_test_is_found_with_its_row(text: str) -> None:
    hit = Contamination(TEST).find(text)
    assert hit is not None
    assert (hit.source, hit.row) == ("gsm", 2)
    assert hit.example == "a train leaves the old town at noon"
    assert str(hit).startswith(f"{hit.share:.0%} of it stands in `gsm`, row 2: “a train")


def test_more_than_half_of_the_runs_must_be_repeated() -> None:
    repeated = words(QUESTION)  # 16 words: 9 runs
    contamination = Contamination(TEST)
    clean = " ".join([*repeated, *(f"new{n}" for n in range(9))])
    assert contamination.find(clean) is None
    just = contamination.find(" ".join([*repeated, *(f"new{n}" for n in range(8))]))
    assert just is not None
    assert just.share == 9 / 17


@pytest.mark.parametrize(
    ("text", "is_hit"),
    [
        ("who wrote FAUST", True),
        ("Who wrote Faust, and when?", False),
        ("who wrote", False),
        ("A train leaves the old town", False),
        ("", False),
        ("?!", False),
    ],
)
def test_a_short_text_must_be_a_whole_one(text: str, is_hit: bool) -> None:
    hit = Contamination(TEST).find(text)
    assert hit == (Hit("short", 7, 1.0, "who wrote faust") if is_hit else None)


def test_a_part_of_eight_words_counts_and_a_shorter_one_does_not() -> None:
    contamination = Contamination([*TEST, ("answers", 1, "42")])
    own = " ".join(f"own{n}" for n in range(60))
    whole = f"{QUESTION} {own} 42"
    assert contamination.find(whole) is None
    assert contamination.find(whole, [own, "42", "Who wrote Faust?"]) is None
    hit = contamination.find(whole, [own, QUESTION])
    assert hit is not None
    assert (hit.source, hit.row, hit.share) == ("gsm", 2, 1.0)
    assert contamination.find("42") is not None


def test_a_candidate_pieced_together_names_the_row_it_took_most_from() -> None:
    first, second = TEST[0][2].split(), QUESTION.split()
    hit = Contamination(TEST).find(" ".join(first[:10] + second))
    assert hit is not None
    assert (hit.row, hit.example) == (2, " ".join(words(" ".join(first[:8]))))


def test_nothing_known_is_never_repeated() -> None:
    contamination = Contamination([])
    assert len(contamination) == 0
    assert contamination.find(QUESTION) is None


def test_a_run_is_known_once() -> None:
    assert len(Contamination([("a", 1, QUESTION), ("b", 1, QUESTION)])) == 9


@given(st.lists(ANY, max_size=6), ANY)
def test_the_share_is_that_of_the_runs_counted_by_hand(texts: list[str], text: str) -> None:
    known = {run for other in texts for run in runs(words(other))}
    mine = runs(words(text))
    share = sum(run in known for run in mine) / len(mine) if mine else 0.0
    hit = Contamination(("f", n, other) for n, other in enumerate(texts)).find(text)
    assert (hit.share if hit else None) == (share if share > 0.5 else None)


def runs(found: list[str]) -> list[tuple[str, ...]]:
    if len(found) < 8:
        return [("whole", *found)] if found else []
    return [tuple(found[i : i + 8]) for i in range(len(found) - 7)]


ROWS = [
    {"question": "one", "messages": [{"role": "user", "content": "two"}], "n": 3, "none": None},
    {"question": "three", "messages": []},
]


@pytest.mark.parametrize("name", ["t.jsonl", "T.JSON"])
def test_every_text_of_a_row_is_read_however_deep(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    joint = "\n\n".join(json.dumps(row) for row in ROWS)
    path.write_text(joint if name == "t.jsonl" else json.dumps(ROWS))
    assert list(read_texts(path)) == [
        Text(str(path), 1, "one"),
        Text(str(path), 1, "user"),
        Text(str(path), 1, "two"),
        Text(str(path), 2, "three"),
    ]


def test_lines_csv_and_parquet_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\ufeffone\n\n two \n", encoding="utf-8")
    (tmp_path / "t.csv").write_text('a,b\none,"two\n"\n')
    duckdb.execute(
        "COPY (SELECT 'one' AS a, {'x': ['two']} AS b, 'blob'::BLOB AS c, 4 AS d) "
        f"TO '{tmp_path}/t.parquet' (FORMAT parquet)"
    )
    found = {
        path.name: [(text.row, text.text.strip()) for text in read_texts(path)]
        for path in tmp_path.iterdir()
    }
    assert found == {
        "t.txt": [(1, "one"), (2, "two")],
        "t.csv": [(1, "one"), (1, "two")],
        "t.parquet": [(1, "one"), (1, "two")],
    }


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.jsonl", None, "there is no file of texts"),
        ("t.docx", b"x", "`.jsonl`"),
        ("t.jsonl", b'{"a": "b"}\n{', "line 2"),
        ("t.json", b"{}", "JSON list"),
        ("t.json", b"[" + b"[" * 3000 + b"]" * 3000 + b"]", "cannot be read"),
        ("t.txt", b"\xff", "cannot be read"),
        ("t.csv", b"\xff", "not CSV"),
        ("t.parquet", b"PAR1 x", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_in_a_line(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        list(read_texts(path))
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
