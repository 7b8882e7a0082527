"""Splits: a file for each side, no seed on two of them, whatever is added later."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import agentloop as al
from agentloop.cli import run_cli
from agentloop.errors import UserError
from agentloop.export.splitting import Split, roots
from agentloop.novelty.lineage import mark, parent_of
from agentloop.records import Seed
from agentloop.store import Store
from tests.builders import SEEDS, agent, draft, marks, play, tiny

HALF = "train:0.5,validation:0.5"


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sides(run: al.Run, folder: Path, split: str = HALF, **more: Any) -> dict[str, str]:
    """Export a split; return item → side."""
    folder.mkdir(exist_ok=True)
    run.export(folder / "x.jsonl", split=split, **more)
    return {
        line["item"]: path.name.split(".")[1]
        for path in folder.glob("x.*.jsonl")
        for line in read(path)
    }


def seed_of(run: al.Run) -> dict[str, str]:
    return {row["item"]: row["seed_id"] for row in run.items("all")}


class TestShares:
    def test_a_number_is_the_share_of_validation(self) -> None:
        assert Split.of("0.25").shares == {"train": 0.75, "validation": 0.25}

    def test_sides_may_be_named(self) -> None:
        shares = Split.of("test:0.1, train:0.7,validation:0.2").shares
        assert shares == {"train": 0.7, "validation": 0.2, "test": 0.1}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "between 0 and 1"),
            ("0", "between 0 and 1"),
            ("1", "between 0 and 1"),
            ("nan", "between 0 and 1"),
            ("a tenth", "between 0 and 1"),
            ("train:0.9", "add up to 1"),
            ("train:0.9,validation:0.2", "add up to 1"),
            ("train:0.5,train:0.5", "add up to 1"),
            ("train:0.9,valid:0.1", "did you mean `validation`"),
            ("train:0.9,../x:0.1", "no side is called"),
        ],
    )
    def test_other_words_are_refused(self, text: str, said: str) -> None:
        with pytest.raises(UserError, match=said):
            Split.of(text)

    @given(st.text(), st.floats(0.01, 0.49))
    def test_a_larger_share_takes_from_train_and_gives_nothing_back(
        self, root: str, share: float
    ) -> None:
        small, large = (Split.of(str(s)).side(root) for s in (share, share * 2))
        assert small == large or (small, large) == ("train", "validation")

    def test_shares_are_kept(self) -> None:
        split = Split.of("train:0.7,validation:0.2,test:0.1")
        found = Counter(split.side(Seed.of({"n": n}).id) for n in range(5000))
        assert found["validation"] / 5000 == pytest.approx(0.2, abs=0.02)
        assert found["test"] / 5000 == pytest.approx(0.1, abs=0.02)

    def test_sides_are_pinned(self) -> None:
        """Another hash would move seeds of data that people trained on already."""
        split = Split.of("train:0.5,validation:0.3,test:0.2")
        found = " ".join(split.side(f"{n:016x}") for n in range(8))
        assert found == "train validation test validation validation train validation train"


def test_no_seed_is_on_two_sides(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:8], items=24, per_seed=3)
    found = sides(run, tmp_path / "x")
    assert len(found) == 24
    assert set(found.values()) == {"train", "validation"}
    by_seed: dict[str, set[str]] = {}
    for item, seed in seed_of(run).items():
        by_seed.setdefault(seed, set()).add(found[item])
    assert {len(there) for there in by_seed.values()} == {1}


def test_seeds_of_which_the_recipe_reads_the_same_are_one(tmp_path: Path) -> None:
    """As in files with a number for each question about one passage."""
    seeds = [{**SEEDS[n // 3], "id": f"number {n}"} for n in range(30)]
    run = play(tmp_path, agent(), tiny(tmp_path, reads=("passage",)), seeds=seeds)
    found = sides(run, tmp_path / "x", verdict="all")
    passages: dict[str, set[str]] = {}
    for row in Store(run.store).examples(verdict="all"):
        passages.setdefault(row["seed"]["passage"], set()).add(found[row["item"]])
    assert len(passages) == 10
    assert {len(there) for there in passages.values()} == {1}
    assert set(found.values()) == {"train", "validation"}


def test_a_store_that_grows_moves_nobody(tmp_path: Path) -> None:
    first = play(tmp_path, agent(), seeds=SEEDS[:10])
    before = sides(first, tmp_path / "before")
    after = sides(play(tmp_path, agent(), seeds=SEEDS[:30]), tmp_path / "after")
    assert len(after) == 30
    assert before == {item: after[item] for item in before}


@pytest.mark.parametrize("shape", ["messages", "prompt_completion", "kto", "raw"])
def test_all_shapes_and_forms_are_split_alike(tmp_path: Path, shape: str) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:12])
    assert sides(run, tmp_path / "one", shape=shape) == sides(run, tmp_path / "two")
    assert sides(run, tmp_path / "all", all_runs=True) == sides(run, tmp_path / "two")
    run.export(tmp_path / "two" / "x.parquet", shape=shape, split=HALF)
    for side in ("train", "validation"):
        with duckdb.connect() as connection:
            path = str(tmp_path / "two" / f"x.{side}.parquet")
            found = connection.execute("SELECT item FROM read_parquet(?)", [path]).fetchall()
        assert [item for (item,) in found] == [
            line["item"] for line in read(tmp_path / "two" / f"x.{side}.jsonl")
        ]


def test_both_sides_together_are_the_whole(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:12])
    run.export(tmp_path / "whole.jsonl")
    run.export(tmp_path / "x.jsonl", split="0.4")
    parts = [(tmp_path / f"x.{side}.jsonl").read_bytes() for side in ("train", "validation")]
    whole = (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(b"".join(parts).splitlines()) == sorted(whole.splitlines())
    assert all(parts)


class TestLineage:
    def test_what_was_made_from_a_made_text_is_on_its_seeds_side(self, tmp_path: Path) -> None:
        run = play(tmp_path, agent(), seeds=SEEDS[:12])
        run.export(tmp_path / "made.jsonl")
        more: Any = {"real_share": 0.0, "map": {"passage": "item"}, "max_depth": 3}
        again = play(tmp_path, agent(), seeds=tmp_path / "made.jsonl", run="again", **more)
        again.export(tmp_path / "again.jsonl")
        third = play(tmp_path, agent(), seeds=tmp_path / "again.jsonl", run="third", **more)
        assert third.counts["accepted"] == 12
        first = sides(run, tmp_path / "first")
        made_from = {
            row["item"]: parent_of(row["seed"]) for row in (*again.items(), *third.items())
        }
        for later in (again, third):
            found = sides(later, tmp_path / later.name)
            for item, side in found.items():
                root = item
                while root in made_from:
                    root = str(made_from[root])
                assert side == first[root]
        assert len(set(first.values())) == 2

    def test_siblings_of_an_unknown_item_are_together(self, tmp_path: Path) -> None:
        seeds = [{**SEEDS[n], **mark(f"unknown {n % 5}", 1)} for n in range(20)]
        run = play(tmp_path, agent(), seeds=seeds, real_share=0.0)
        found = sides(run, tmp_path / "x")
        by_parent: dict[str, set[str]] = {}
        for row in run.items():
            by_parent.setdefault(row["seed"]["agentloop"]["item"], set()).add(found[row["item"]])
        assert len(by_parent) == 5
        assert {len(there) for there in by_parent.values()} == {1}
        assert len(set(found.values())) == 2

    def test_what_claims_to_be_made_from_itself_has_a_side(self, tmp_path: Path) -> None:
        run = play(tmp_path, agent(), seeds=SEEDS[:1])
        (row,) = run.items()
        claim = {**SEEDS[1], **mark(row["item"], 1)}
        with_parent = play(tmp_path, agent(), seeds=[claim], run="b", real_share=0.0)
        (made,) = with_parent.items()
        store = Store(run.store)
        assert roots(store, [made["seed"]], ["passage"]) == roots(store, SEEDS[:1], ["passage"])
        circle = {**SEEDS[2], **mark(made["item"], 2)}
        assert roots(store, [circle, SEEDS[3]], ()) == roots(store, [SEEDS[0], SEEDS[3]], ())

    def test_the_deepest_mark_names_the_parent(self) -> None:
        assert parent_of({"a": {**mark("shallow", 1)}, "b": [mark("deep", 3)]}) == "deep"
        assert parent_of({"agentloop": {"depth": 2}, "b": {"agentloop": {"item": 5}}}) is None


class TestPeople:
    def people(self, folder: Path) -> Path:
        file = folder / "people.jsonl"
        rows = [{"messages": [{"role": "user", "content": f"by hand {n}"}]} for n in range(30)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    def test_their_examples_are_on_one_side_by_what_they_say(self, tmp_path: Path) -> None:
        run = play(tmp_path, agent(), seeds=SEEDS[:20])
        mix = f"{self.people(tmp_path)}:0.5"
        where = []
        for name in ("a", "b"):
            run.export(tmp_path / f"{name}.jsonl", mix=mix, split=HALF)
            lines = {s: read(tmp_path / f"{name}.{s}.jsonl") for s in ("train", "validation")}
            said = [(s, line["messages"][0]["content"]) for s in lines for line in lines[s]]
            where.append([pair for pair in said if "by hand" in pair[1]])
        assert where[0] == where[1]
        assert {side for side, _ in where[0]} == {"train", "validation"}
        assert len({text for _, text in where[0]}) == len(where[0]) == 20
        card = (tmp_path / "a.card.md").read_text()
        assert "Examples by people are on the side of a hash of what they say" in card


def test_card_and_manifest_tell_of_all_sides(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:12])
    assert run.export(tmp_path / "my set.jsonl", split="0.3") == 12
    manifest = json.loads((tmp_path / "my set.manifest.json").read_text())
    assert manifest["split"] == {"train": 0.7, "validation": 0.3}
    assert [file["side"] for file in manifest["files"]] == ["train", "validation"]
    assert sum(file["lines"] for file in manifest["files"]) == manifest["lines"] == 12
    front = yaml.safe_load((tmp_path / "my set.card.md").read_text().split("---")[1])
    assert front["configs"][0]["data_files"] == [
        {"split": "train", "path": "my set.train.jsonl"},
        {"split": "validation", "path": "my set.validation.jsonl"},
    ]
    assert "--split train:0.7,validation:0.3" in (tmp_path / "my set.card.md").read_text()
    assert sorted(path.name for path in tmp_path.glob("*my set*")) == [
        "my set.card.md",
        "my set.manifest.json",
        "my set.train.jsonl",
        "my set.validation.jsonl",
    ]


def test_a_side_without_lines_is_a_file_that_the_card_does_not_load(tmp_path: Path) -> None:
    run = play(tmp_path, agent(generate=draft(), critique=marks()), seeds=SEEDS[:1])
    run.export(tmp_path / "x.jsonl", split="0.5")
    sizes = {s: (tmp_path / f"x.{s}.jsonl").stat().st_size for s in ("train", "validation")}
    assert sorted(size > 0 for size in sizes.values()) == [False, True]
    front = yaml.safe_load((tmp_path / "x.card.md").read_text().split("---")[1])
    loaded = [file["split"] for file in front["configs"][0]["data_files"]]
    assert loaded == [side for side, size in sizes.items() if size]


def test_the_command_says_how_many_are_where(tmp_path: Path, capsys: Any) -> None:
    run = play(tmp_path, agent(), tiny(tmp_path), seeds=SEEDS[:12])
    line = ["export", str(run.store), "-o", str(tmp_path / "x.jsonl"), "--split", "0.3"]
    assert run_cli(line) == 0
    counts = {s: len(read(tmp_path / f"x.{s}.jsonl")) for s in ("train", "validation")}
    said = capsys.readouterr().err
    assert f"{counts['train']} lines of train, {counts['validation']} lines of validation" in said


@pytest.mark.parametrize("target", ["-", "pipe"])
def test_sides_are_files(tmp_path: Path, capsys: Any, target: str) -> None:
    run = play(tmp_path, agent())
    os.mkfifo(tmp_path / "pipe")
    place = target if target == "-" else str(tmp_path / target)
    assert run_cli(["export", str(run.store), "-o", place, "--split", "0.1"]) == 2
    assert "split" in capsys.readouterr().err
