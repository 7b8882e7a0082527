"""Exports: the shapes that trainers read, the same bytes every time, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import agentloop as al
from agentloop import export
from agentloop.cli import run_cli
from agentloop.errors import StoreError, UserError
from agentloop.export import SHAPES
from agentloop.export.tally import NAMES, OTHERS, Tally
from agentloop.models.base import Reply
from agentloop.records import Json, Usage
from agentloop.store import Store, windows
from agentloop.store.files import connect
from agentloop.store.labels import Place, read_labels, say
from agentloop.store.writer import Writer
from tests.builders import QA, SEEDS, agent, draft, marks, play, tiny
from tests.view.stores import (
    HOSTILE,
    RUN,
    attempt,
    begin,
    fill,
    graded,
    item_id,
    rubric_in,
    settle,
)

EVIL = 'a "quoted" \\ line\nand \u2028 \x1b[31m\u202e 💧'


class Turns(QA):
    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        return [("system", "Be brief."), ("user", self.question), ("assistant", self.answer)]


def read(store: Path, **chosen: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export.lines(Store(store), **chosen)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven items: five accepted, the third after one revision; one rejected; one failed."""
    folder = tmp_path_factory.mktemp("export")

    def generate(prompt: str) -> str:
        if "number 6." in prompt:
            return "nothing"
        number = prompt.partition("number ")[2].partition(".")[0]
        return draft(EVIL if number == "0" else f"Answer {number}")

    def critique(prompt: str) -> str:
        return marks("no" if "Answer 2" in prompt or "Answer 5" in prompt else "yes")

    def revise(prompt: str) -> str:
        return draft("Better 2") if "Answer 2" in prompt else draft("Answer 5 again")

    model = agent(generate=generate, critique=critique, revise=revise)
    run = play(folder, model, tiny(folder, candidate=Turns), seeds=SEEDS[:7])
    assert (run.counts["accepted"], run.counts["rejected"], run.counts["failed"]) == (5, 1, 1)
    return run.store


def test_messages(store: Path) -> None:
    lines = read(store)
    assert len(lines) == 5
    assert lines[0] == {
        "item": lines[0]["item"],
        "agentloop": {"item": lines[0]["item"], "depth": 1},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Where does it rise?"},
            {"role": "assistant", "content": EVIL},
        ],
    }


def test_prompt_completion(store: Path) -> None:
    line = read(store, shape="prompt_completion")[0]
    assert line["completion"] == [{"role": "assistant", "content": EVIL}]
    assert line["prompt"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where does it rise?"},
    ]


def test_raw(store: Path) -> None:
    line = read(store, shape="raw")[2]
    assert line["schema"] == 1
    assert line["candidate"]["answer"] == "Better 2"
    assert (line["verdict"], line["round"], line["score"]) == ("accepted", 1, 1.0)
    assert (line["run"], line["recipe"], line["sample"]) == ("tiny", "tiny", 0)
    assert line["seed"] == SEEDS[2]
    assert line["grade"]["marks"][0]["criterion"] == "right"
    assert line["generator"] == line["critic"] == "scripted/model"


def test_preference_pairs_the_kept_with_the_worst_of_the_same_prompt(store: Path) -> None:
    (pair,) = read(store, shape="preference")
    assert pair["chosen"] == [{"role": "assistant", "content": "Better 2"}]
    assert pair["rejected"] == [{"role": "assistant", "content": "Answer 2"}]
    assert [m["role"] for m in pair["prompt"]] == ["system", "user"]


def test_preference_leaves_out_answers_to_another_question(tmp_path: Path) -> None:
    model = agent(critique=[marks("no"), marks()], revise=draft("Better.", "Another question?"))
    assert read(play(tmp_path, model).store, shape="preference") == []


def test_preference_never_pairs_equals(tmp_path: Path) -> None:
    model = agent(critique=marks("no"), revise=[draft("One."), draft("Two.")])
    assert read(play(tmp_path, model).store, shape="preference", verdict="all") == []


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_byte_identical_twice(store: Path, tmp_path: Path, shape: str) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    counts = {export.write(p, export.lines(Store(store), shape=shape)) for p in (first, second)}
    assert first.read_bytes() == second.read_bytes()
    assert counts == {first.read_bytes().count(b"\n")}
    for line in first.read_bytes().splitlines():
        keys = list(json.loads(line))
        assert keys == sorted(keys)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_line_is_one_example_whatever_is_in_it(store: Path, shape: str) -> None:
    for line in export.lines(Store(store), shape=shape):
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        json.loads(line)


def test_verdicts_and_conditions_choose(store: Path) -> None:
    assert len(read(store, verdict="rejected")) == 1
    assert len(read(store, verdict="all")) == 6  # the failed one has no draft
    assert len(read(store, where="round = 1")) == 1
    assert read(store, where="score > 1") == []


def test_an_unknown_shape_names_a_near_one(store: Path) -> None:
    with pytest.raises(UserError, match="did you mean `messages`"):
        read(store, shape="message")


@pytest.mark.parametrize(
    "where", ["nonsense", "cast(item AS INTEGER) > 0", "score = read_text('x')"]
)
def test_nothing_half_written_stays_on_an_error(store: Path, tmp_path: Path, where: str) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("what was here\n")
    with pytest.raises(StoreError):
        export.write(target, export.lines(Store(store), where=where))
    assert target.read_text() == "what was here\n"
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


def test_an_error_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"{}\n"
        raise StoreError("the store is gone")

    with pytest.raises(StoreError):
        export.write(tmp_path / "out.jsonl", breaking())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["no/such/folder/out.jsonl", "."])
def test_a_place_that_cannot_be_written_is_said(store: Path, tmp_path: Path, target: str) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        export.write(tmp_path / target, export.lines(Store(store)))
    assert list(tmp_path.iterdir()) == []


def test_a_run_exports_itself(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:3])
    play(tmp_path, agent(), seeds=SEEDS[:1], run="later")
    assert run.export(tmp_path / "out.jsonl", shape="raw") == 3
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {line["run"] for line in lines} == {"tiny"}


def test_an_empty_export_is_an_empty_file(store: Path, tmp_path: Path) -> None:
    assert export.write(tmp_path / "out", export.lines(Store(store), verdict="ungradable")) == 0
    assert (tmp_path / "out").read_bytes() == b""


def test_a_conversation_with_one_turn_has_an_empty_prompt(tmp_path: Path) -> None:
    class Text(QA):
        def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
            return [("assistant", self.answer)]

    run = play(tmp_path, agent(), tiny(tmp_path, candidate=Text))
    (line,) = read(run.store, shape="prompt_completion")
    assert line["prompt"] == []
    assert al.Store(run.store).runs() == ["tiny"]


def test_raw_leaves_nobody_out(store: Path) -> None:
    (failed,) = read(store, shape="raw", verdict="failed")
    assert (failed["verdict"], failed["reason"], failed["messages"]) == (
        "failed",
        "malformed",
        None,
    )
    assert len(read(store, shape="raw", verdict="all")) == 7
    assert read(store, verdict="failed") == []


@pytest.mark.parametrize("shape", SHAPES)
def test_the_lines_of_a_shape_are_pinned(store: Path, shape: str, golden: Any) -> None:
    lines = b"".join(export.lines(Store(store), shape=shape)).decode()
    golden(f"jsonl/{shape}.jsonl", lines)


def test_an_export_never_goes_over_the_store_that_it_is_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = play(tmp_path, agent())
    before = run.store.read_bytes()
    monkeypatch.chdir(tmp_path)
    for target in ("qa.duckdb", "./qa.duckdb", "qa.duckdb.lock", tmp_path / "qa.duckdb.journal"):
        with pytest.raises(UserError, match="a part of one"):
            run.export(target)
    Path("link").symlink_to("qa.duckdb")
    with pytest.raises(UserError, match="a part of one"):
        run.export("link")
    assert run.store.read_bytes() == before


@pytest.mark.parametrize("place", ["qa.duckdb", "other.duckdb", "qa.duckdb.inbox.jsonl"])
@pytest.mark.parametrize("command", ["export", "label", "calibrate", "report"])
def test_no_command_writes_over_a_store(
    tmp_path: Path, capsys: Any, command: str, place: str
) -> None:
    path = fill(tmp_path, range(2)).rename(tmp_path / "qa.duckdb")
    shutil.copy(path, tmp_path / "other.duckdb")
    say(Store(path), RUN, Place(item_id(0), 0, 0, "0" * 32), "good", who="anna")
    option = "--export" if command == "label" else "-o"
    assert run_cli([command, str(path), option, str(tmp_path / place)]) == 2
    assert "is a store or a part of one: name another file" in capsys.readouterr().err
    assert [label.said for label in read_labels(Store(path), RUN)] == ["good"]
    assert [len(Store(tmp_path / name).runs()) for name in ("qa.duckdb", "other.duckdb")] == [1, 1]


def test_an_export_follows_a_link_and_leaves_a_pipe_a_pipe(tmp_path: Path) -> None:
    run = play(tmp_path, agent())
    (tmp_path / "link").symlink_to(tmp_path / "target.jsonl")
    assert run.export(tmp_path / "link") == 1
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target.jsonl").read_text().count("\n") == 1
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run.export(pipe) == 1
    assert os.read(reader, 10_000).count(b"\n") == 1
    os.close(reader)
    assert pipe.is_fifo()


class TestMix:
    def people(self, folder: Path, count: int) -> Path:
        file = folder / "people.jsonl"
        rows = [{"messages": [{"role": "user", "content": f"by hand {n}"}]} for n in range(count)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    def test_people_have_their_share_everywhere_in_the_file(self, tmp_path: Path) -> None:
        run = play(tmp_path, agent(), seeds=SEEDS[:14])
        run.export(tmp_path / "out.jsonl", mix=f"{self.people(tmp_path, 50)}:0.3")
        lines = (tmp_path / "out.jsonl").read_text().splitlines()
        real = ["by hand" in line for line in lines]
        assert (len(lines), sum(real)) == (20, 6)
        assert sum(real[:10]) == 3
        assert len(set(lines)) == 20

    def test_too_few_are_said(self, tmp_path: Path, capsys: Any) -> None:
        run = play(tmp_path, agent(), seeds=SEEDS[:10])
        file = self.people(tmp_path, 2)
        line = ["export", str(run.store), "-o", str(tmp_path / "o.jsonl"), "--mix", f"{file}:0.5"]
        assert run_cli(line) == 0
        assert "12 lines" in (said := capsys.readouterr().err)
        assert "2 of them by people; " in said
        assert "holds no more" in said

    @pytest.mark.parametrize(
        ("mix", "shape", "said"),
        [
            ("people.jsonl", "messages", "write `--mix FILE:SHARE`"),
            ("people.jsonl:1.5", "messages", "write `--mix FILE:SHARE`"),
            ("gone.jsonl:0.3", "messages", "is no file of"),
            ("odd.jsonl:0.3", "messages", "is no list of messages"),
            ("people.jsonl:0.3", "raw", "suits the shapes"),
            ("people.jsonl:0.3", "prompt_completion", "has no `prompt`"),
        ],
    )
    def test_what_cannot_be_mixed_is_refused_and_nothing_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mix: str, shape: str, said: str
    ) -> None:
        run = play(tmp_path, agent())
        self.people(tmp_path, 3)
        (tmp_path / "odd.jsonl").write_text('{"messages": "hello"}')
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=said):
            run.export("o.jsonl", shape=shape, mix=mix)
        assert not Path("o.jsonl").exists()


def test_costs_are_told_by_role_and_for_items_made_accepted_and_new(tmp_path: Path) -> None:
    def paid(text: str) -> Reply:
        return Reply(text, usage=Usage(prompt_tokens=8, completion_tokens=2), cost_usd=0.01)

    model = agent(generate=lambda _: paid(draft()), critique=lambda _: paid(marks()))
    run = play(tmp_path, model, seeds=SEEDS[:4])
    costs = run.evidence().costs
    assert (costs.made, costs.good, costs.new) == (4, 4, 1)
    assert costs.tokens == {"generator": 40, "critic": 40}
    assert costs.total_usd == pytest.approx(0.08)
    assert costs.line == (
        "0.02 USD an item made · 0.02 USD an item accepted · 0.08 USD an item new "
        "(critic 50%, generator 50%)"
    )


class TestLineage:
    """What was made says so when it seeds again, by whatever way it comes back."""

    @pytest.mark.parametrize("shape", ["messages", "prompt_completion", "raw"])
    def test_generations_are_counted_through_exports(self, tmp_path: Path, shape: str) -> None:
        seeds: Any = SEEDS[:2]
        settings: Any = {"real_share": 0.0}
        for depth in (1, 2):
            folder = tmp_path / str(depth)
            folder.mkdir()
            run = play(folder, agent(), seeds=seeds, **settings)
            assert [row["agentloop"]["depth"] for row in run.items()] == [depth] * 2
            run.export(folder / "out.jsonl", shape=shape)
            seeds, settings["map"] = folder / "out.jsonl", {"passage": "item"}
        model = agent()
        run = play(tmp_path, model, seeds=seeds, **settings)
        assert run.counts["rejected"] == 2
        assert {row["reason"] for row in run.items("rejected")} == {"too_deep"}
        assert model.requests == []

    def test_a_query_of_the_store_carries_it_too(self, tmp_path: Path) -> None:
        first = play(tmp_path, agent(), seeds=SEEDS[:2])
        sql = "SELECT candidate->>'answer' AS passage, agentloop FROM examples"
        later = tmp_path / "later"
        later.mkdir()
        run = play(later, agent(), seeds=f"duckdb:{first.store}?{sql}", real_share=0.0)
        assert [row["agentloop"]["depth"] for row in run.items()] == [2, 2]

    def test_made_seeds_are_no_real_ones(self, tmp_path: Path) -> None:
        play(tmp_path, agent(), seeds=SEEDS[:4]).export(tmp_path / "made.jsonl")
        later = tmp_path / "later"
        later.mkdir()
        seeds = tmp_path / "made.jsonl"  # at least half is to be real
        run = play(later, agent(), seeds=seeds, map={"passage": "item"})
        assert run.counts["accepted"] == 0
        assert {row["reason"] for row in run.items("rejected")} == {"over_quota"}


def test_what_no_judge_could_read_is_nobodys_bad_example(tmp_path: Path) -> None:
    """Two drafts side by side: one is good, of the other the critic says nothing that can be read."""

    class Answer(QA):
        def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
            return [("user", seed["passage"]), ("assistant", self.answer)]

    async def both(agents: al.Agents, state: al.State) -> al.State:
        said = [{"question": "q", "answer": answer} for answer in ("good", "odd", "bad")]
        return {"drafts": [{"candidate": one, "wrote": agents.wrote("generator")} for one in said]}

    def critique(prompt: str) -> str:
        return "?" if "odd" in prompt else marks("yes" if "good" in prompt else "no")

    recipe = tiny(tmp_path, candidate=Answer, steps=(both,), build=al.ranked_graph, max_rounds=0)
    run = play(tmp_path, agent(critique=critique), recipe, seeds=SEEDS[:1])
    (pair,) = read(run.store, shape="preference")
    assert pair["rejected"][0]["content"] == "bad"


class Odd(QA):
    """Says things that a conversation seldom holds."""

    def messages(self, seed: dict[str, Any]) -> tuple[dict[str, str], ...]:
        kinds: list[dict[str, str]] = [
            {"role": "user", "content": self.answer},
            {"content": "\x00\x1b\x0b", "role": "assistant"},
            {"role": "assistant", "content": '\u2028\x7f /\\" 💧 é\n\t\b'},
            {"role": "user", "content": "q", "name": "anna"},
            {"role": "user", "content": 'said "role":null and "content":null'},
        ]
        first = {"role": "user", "content": self.question}
        return (first, kinds[int(self.answer.rpartition(" ")[2]) % len(kinds)])


def test_lines_of_one_run_are_those_of_several(tmp_path: Path, monkeypatch: Any) -> None:
    """The one is written by the database, the other by Python."""
    monkeypatch.setattr(windows, "WINDOW", 3)
    monkeypatch.setattr(windows, "FETCHED", 2)

    def generate(prompt: str) -> str:
        number = prompt.partition("number ")[2].partition(".")[0]
        return draft(f"a {number}", f"Which number is {number}?")

    odd = agent(generate=generate)
    run = play(tmp_path, odd, tiny(tmp_path, candidate=Odd), seeds=SEEDS[:10])
    assert run.counts["accepted"] == 10
    with connect(run.store, write=True) as connection:
        connection.execute("INSERT INTO runs (run, recipe, identity) VALUES ('none', 'tiny', '{}')")
    opened = Store(run.store)
    for shape in ("messages", "raw"):
        one = list(export.lines(opened, shape=shape, runs=["tiny"]))
        assert one == list(export.lines(opened, shape=shape, runs=["tiny", "none"]))
        assert len(one) == 10


def test_tallies_of_one_run_are_those_of_several(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(windows, "WINDOW", 3)
    monkeypatch.setattr(windows, "FETCHED", 2)
    claims: list[Any] = ["MIT", 5, None, " ", "CC0", "MIT"]
    given = [{**seed, "license": c} for seed, c in zip(SEEDS, claims, strict=False)]
    given += [{**SEEDS[9], "licence": "CC-BY"}, {**SEEDS[10], "agentloop": {"depth": 1}}]
    run = play(tmp_path, agent(), seeds=given, max_depth=9)
    with connect(run.store, write=True) as connection:
        connection.execute("INSERT INTO runs (run, recipe, identity) VALUES ('none', 'tiny', '{}')")
    told = []
    for runs in (["tiny"], ["tiny", "none"]):
        tally = Tally()
        count = len(list(export.lines(Store(run.store), runs=runs, tally=tally)))
        told.append(tally.as_dict())
        assert told[-1]["rows"] == count > 6
    assert told[0] == told[1]
    assert told[0]["licences"]["MIT"] == 2
    assert told[0]["real_seeded"] == count - 1


@pytest.mark.parametrize("shape", SHAPES)
def test_parquet_has_the_rows_of_the_lines(store: Path, tmp_path: Path, shape: str) -> None:
    told = [
        run_cli(["export", str(store), "-o", str(tmp_path / name), "--shape", shape])
        for name in ("a.parquet", "b.parquet", "a.jsonl")
    ]
    assert told == [0, 0, 0]
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    with duckdb.connect() as connection:
        cursor = connection.execute("SELECT * FROM read_parquet(?)", [str(tmp_path / "a.parquet")])
        names = [column[0] for column in cursor.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]
    json_columns = {"seed", "inputs", "candidate", "checks", "grade"} if shape == "raw" else set()
    for row in rows:
        row.update({name: json.loads(row[name]) for name in json_columns if row[name] is not None})
    assert rows == lines
    assert rows
    manifest = json.loads((tmp_path / "a.manifest.json").read_text())
    assert manifest["lines"] == len(lines)


def test_the_manifest_of_parquet_is_of_its_file(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "p.PARQUET"
    assert run_cli(["export", str(store), "-o", str(target)]) == 0
    manifest = json.loads((tmp_path / "p.manifest.json").read_text())
    (file,) = manifest["files"]
    assert file["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert file["bytes"] == target.stat().st_size
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "p.PARQUET",
        "p.card.md",
        "p.manifest.json",
    ]


def test_parquet_that_fails_leaves_what_was_there(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.parquet"
    target.write_text("what was here")
    assert run_cli(["export", str(store), "-o", str(target), "--where", "1 / (score - 1) > 'x'"])
    assert target.read_text() == "what was here"
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_a_place_of_parquet_says_nothing_of_what_is_in_it(store: Path, tmp_path: Path) -> None:
    """DuckDB would read columns out of a folder's name, and more files than the one that is named."""
    folder = tmp_path / "item=zz"
    folder.mkdir()
    (folder / ".ax1.parquet.lines").write_text('{"item": "another"}\n')
    assert run_cli(["export", str(store), "-o", str(folder / "a*[1].parquet")]) == 0
    (folder / "a*[1].parquet").rename(tmp_path / "moved.parquet")
    with duckdb.connect() as connection:
        sql = "SELECT item FROM read_parquet(?)"
        found = connection.execute(sql, [str(tmp_path / "moved.parquet")]).fetchall()
    assert {item for (item,) in found} == {row["item"] for row in Store(store).examples()}


def test_names_that_differ_in_every_seed_are_counted_together_in_the_end() -> None:
    tally = Tally()
    row: Json = {
        "run": "r", "generator": "g", "critic": "c", "agentloop": {"depth": 1}, "round": 0,
        "verdict": "accepted", "score": 0.55, "self_graded": False, "messages": [], "candidate": {},
    }  # fmt: skip
    for number in range(1500):
        tally.add({**row, "seed": {"license": f"licence {number}", "lang": " en "}})
    told = tally.as_dict()
    assert len(told["licences"]) == NAMES + 1
    assert told["licences"][OTHERS] == 500
    assert told["languages"] == {"en": 1500}
    assert told["scores"] == [0, 0, 0, 0, 0, 1500, 0, 0, 0, 0]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_hostile_texts_and_a_megabyte_go_through_as_they_are(
    tmp_path: Path, shape: str, ending: str
) -> None:
    text = HOSTILE + "\u2028\U000e0041 é\r\n" + "x" * 1_000_000
    with Writer(tmp_path / "s.duckdb") as writer:
        begin(writer, rubric_in(tmp_path))
        first = attempt(0, text + "?", graded("partly", "no"), model=HOSTILE)
        last = attempt(1, text, graded("supported", "yes"), model=HOSTILE)
        settle(writer, 1, first, last, seed={"passage": text, "license": HOSTILE})
    target = tmp_path / f"x.{ending}"
    command = ["export", str(tmp_path / "s.duckdb"), "-o", str(target), "--shape", shape]
    assert run_cli(command) == 0
    if ending == "jsonl":
        lines = target.read_bytes().split(b"\n")
        assert lines.pop() == b""
        found = [json.loads(line) for line in lines]
    else:
        with duckdb.connect() as connection:
            found = connection.sql(f"FROM '{target}'").df().to_dict("records")
    said = json.dumps(found, ensure_ascii=False, default=list)
    assert json.dumps(text, ensure_ascii=False)[1:-1] in said
    card = (tmp_path / "x.card.md").read_text()
    assert not set("\x1b\u202e\0") & set(card)
    assert "<script>" not in card
    assert len(card) < 20_000
    assert json.loads((tmp_path / "x.manifest.json").read_text())["lines"] == len(found)
