"""The card and the manifest that lie beside an exported file."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import agentloop as al
from agentloop.cli import run_cli
from agentloop.export.card import APART, shown
from agentloop.export.facts import run_facts
from agentloop.export.front import commands as told
from agentloop.novelty.lineage import mark
from agentloop.plain import plain
from tests.builders import QA, SEEDS, agent, draft, marks, play, tiny, write_graph
from tests.test_variety import WORDS, varied

EVIL = "<script>alert(1)</script> | **bold** `code`\n# head \x1b[31m \u202e [link](http://x)"


def export(folder: Path, *more: str, name: str = "out.jsonl") -> tuple[dict[str, Any], str]:
    """Export a folder's store; return manifest and card."""
    line = ["export", str(folder / "qa.duckdb"), "-o", str(folder / name), *more]
    assert run_cli(line) == 0
    bare = name.rpartition(".")[0]
    card = (folder / f"{bare}.card.md").read_text()
    return json.loads((folder / f"{bare}.manifest.json").read_text()), card


def test_the_manifest_counts_and_seals_the_file(tmp_path: Path) -> None:
    seeds = [*SEEDS[:4], {**SEEDS[4], **mark("someone", 1)}]
    play(tmp_path, agent(generate=varied), seeds=seeds)
    manifest, card = export(tmp_path)
    data = (tmp_path / "out.jsonl").read_bytes()
    (file,) = manifest["files"]
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert (manifest["lines"], file["lines"], file["bytes"]) == (5, 5, len(data))
    assert manifest["columns"] == {"item": "string", "agentloop": "object", "messages": "list"}
    tally = manifest["tally"]
    assert tally["depths"] == {"1": 4, "2": 1}
    assert tally["real_seeded"] == 4
    assert sum(tally["scores"]) == 5
    assert tally["diversity"]["answers"]["texts"] == 5
    assert "| made from people's text itself | 4 of 5 (80%) |" in card
    assert file["sha256"] in card


def test_the_front_matter_is_that_of_a_dataset_card(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:2])
    _, card = export(tmp_path, name="my data.v2.jsonl")
    front = yaml.safe_load(card.split("---")[1])
    assert front["configs"] == [{"config_name": "default", "data_files": "my data.v2.jsonl"}]
    assert front["size_categories"] == ["n<1K"]


def test_every_figure_that_was_measured_stands_in_the_card(tmp_path: Path) -> None:
    play(
        tmp_path,
        agent(generate=varied),
        seeds=SEEDS,
        on_collapse="warn",
        attributes={"level": ["easy", "hard"]},
    )
    manifest, card = export(tmp_path)
    for words in ("compression ratio", "Vendi", "distinct-2", "frequent opening", "5-grams"):
        assert words in card
    assert "four-fifths rule" in card
    assert "The watch over run" in card
    (run,) = manifest["runs"]
    assert {row["stratum"] for row in run["acceptance"]["level"]} == {"easy", "hard"}
    assert "nobody has checked this critic against people" in card


def test_what_was_not_measured_is_said_and_only_that(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:2])
    _, card = export(tmp_path)
    assert "no item was audited" in card
    assert "no benchmark was named" in card
    (tmp_path / "bench.jsonl").write_text(json.dumps({"text": " ".join(WORDS[:30])}))
    copied = json.dumps({"question": "What is it?", "answer": " ".join(WORDS[:30])})
    scripts = agent(generate=lambda p: copied if "number 1." in p else varied(p))
    files = [str(tmp_path / "bench.jsonl")]
    play(tmp_path, scripts, seeds=SEEDS[:6], run="apart", audit=1.0, decontaminate=files)
    manifest, card = export(tmp_path)
    assert "no item was audited" not in card
    assert "1 items fell for words of bench.jsonl" in card
    assert str(tmp_path) not in card
    assert len(manifest["runs"][0]["contaminated"]) == 1


def test_untrusted_text_is_text_in_the_card(tmp_path: Path) -> None:
    seeds = [{**seed, "license": EVIL} for seed in SEEDS[:12]]
    levels = {"attributes": {"level": ["<b>x</b>|y", "plain"]}}
    play(tmp_path, agent(generate=varied), seeds=seeds, **levels)
    _, card = export(tmp_path)
    for raw in ("<script", "<b>", "\x1b", "\u202e", "**bold", "](http", "|y"):
        assert raw not in card


def test_words_about_people_are_counted(tmp_path: Path) -> None:
    def generate(prompt: str) -> str:
        number = int(prompt.partition("number ")[2].partition(".")[0])
        text = f"The nurse said that she knows {' '.join(WORDS[number : number + 9])}."
        return json.dumps({"question": f"{text}?", "answer": text})

    play(tmp_path, agent(generate=generate), seeds=SEEDS[:20])
    found = export(tmp_path)[0]["tally"]["bias"]
    (row,) = found["pronouns"]
    assert (row["occupation"], row["female"], row["male"]) == ("nurse", 40, 0)
    women = next(row for row in found["mentions"] if row["group"] == "women")
    assert women["share"]["value"] == 1.0


def test_places_of_right_answers_are_compared_with_equal_shares(tmp_path: Path) -> None:
    def generate(prompt: str) -> str:
        number = int(prompt.partition("number ")[2].partition(".")[0])
        right = "A" if number % 10 else "B"
        return draft(right, f"Which one is it, number {number}?")

    play(tmp_path, agent(generate=generate), seeds=SEEDS, max_rounds=0)
    found = export(tmp_path)[0]["tally"]["bias"]["balance"]
    assert list(found) == ["answer"]
    assert {row["option"]: (row["count"], row["skewed"]) for row in found["answer"]} == {
        "A": (36, True),
        "B": (4, True),
    }


def test_all_runs_accumulate_and_what_two_say_alike_stands_once(tmp_path: Path) -> None:
    play(tmp_path, agent(generate=varied), seeds=SEEDS[:4], run="one")
    play(tmp_path, agent(generate=varied), seeds=SEEDS[2:7], run="two")
    assert export(tmp_path)[0]["lines"] == 5
    manifest, _ = export(tmp_path, "--all-runs")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert manifest["lines"] == len({json.dumps(line["messages"]) for line in lines}) == 7
    assert {run["run"] for run in manifest["runs"]} == {"one", "two"}
    assert sum(manifest["tally"]["runs"].values()) == 7
    run = al.Store(tmp_path / "qa.duckdb")
    assert len(run.runs()) == 2


def test_all_runs_and_one_run_cannot_both_be_asked_for(tmp_path: Path, capsys: Any) -> None:
    store = str(play(tmp_path, agent()).store)
    assert run_cli(["export", store, "--all-runs", "--run", "tiny"]) == 2
    assert "--all-runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said",
    ["http://evil.example/x", "HTTPS://evil.example", "WWW.evil.example", "a.b@evil.example"],
)
def test_a_bare_address_becomes_no_link(said: str) -> None:
    """What GitHub makes a link of stands in no stretch of text, entities read or not."""
    for part in html.unescape(shown(f"see {said}, there")).split(APART):
        assert not re.search(r"://|www\.|\w@\w", part, re.IGNORECASE)


def test_a_pair_has_a_card_too(tmp_path: Path) -> None:
    def critique(prompt: str) -> str:
        return marks("yes" if "better" in prompt else "no")

    model = agent(generate=draft("worse"), critique=critique, revise=draft("better"))

    class Answered(QA):
        def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
            return [("user", self.question), ("assistant", self.answer)]

    play(tmp_path, model, tiny(tmp_path, candidate=Answered), seeds=SEEDS[:1])
    manifest, _ = export(tmp_path, "--shape", "preference")
    assert manifest["lines"] == manifest["tally"]["rows"] == 1
    assert set(manifest["columns"]) == {"item", "agentloop", "prompt", "chosen", "rejected"}
    assert manifest["tally"]["rounds"] == {"1": 1}


@pytest.mark.parametrize("target", ["-", "pipe"])
def test_what_is_no_file_has_no_card(tmp_path: Path, target: str) -> None:
    run = play(tmp_path, agent())
    place = target
    if target == "pipe":
        place = str(tmp_path / "pipe")
        os.mkfifo(place)
        reader = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    assert run_cli(["export", str(run.store), "-o", place]) == 0
    if target == "pipe":
        os.close(reader)
    assert not [path for path in tmp_path.iterdir() if "card" in path.name or "manif" in path.name]


def test_an_empty_export_says_so(tmp_path: Path) -> None:
    play(tmp_path, agent(critique=marks("no")), max_rounds=0)
    manifest, card = export(tmp_path)
    assert (manifest["lines"], manifest["tally"]["rows"]) == (0, 0)
    assert "0 examples" in card


def test_another_grading_claims_no_evidence_of_the_first(tmp_path: Path) -> None:
    recipe = tiny(tmp_path)
    play(tmp_path, agent(), recipe, seeds=SEEDS[:3], audit=1.0)
    store = al.Store(tmp_path / "qa.duckdb")
    assert run_facts(store, "tiny")["lines"]
    assert run_facts(store, "tiny", 1)["lines"] == []


def front(card: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found is not None
    read: dict[str, Any] = yaml.safe_load(found[1])
    return read


def commands(card: str) -> list[list[str]]:
    """Return the words of the commands in a card's block of code."""
    found = re.search(r"^(`{3,})sh\n(.*?)\n\1$", card, re.DOTALL | re.MULTILINE)
    assert found is not None
    return [shlex.split(line) for line in found[2].splitlines()]


def kinds(card: str) -> set[str]:
    """Return what a reader of Markdown finds in a card below its front matter."""
    text = card.split("\n---\n", 1)[1]
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inner = [child for token in tokens for child in token.children or ()]
    return {token.type for token in (*tokens, *inner)}


class TestFront:
    @pytest.mark.parametrize(
        ("stated", "said"),
        [
            ([], "unknown"),
            (["MIT"] * 3, "mit"),
            (["CC BY 4.0", "CC0", "CC0"], ["cc-by-4.0", "cc0-1.0"]),
            (["MIT", None, None], ["mit", "unknown"]),
            (["my own\nlicense: mit", "x", "MIT"], ["mit", "other"]),
        ],
    )
    def test_licences_are_those_that_the_seeds_state(
        self, tmp_path: Path, stated: list[str | None], said: Any
    ) -> None:
        given_ = [{**seed, "license": name} for seed, name in zip(SEEDS, stated, strict=False)]
        play(tmp_path, agent(), seeds=given_ or SEEDS[:2])
        _, card = export(tmp_path)
        assert front(card)["license"] == said
        assert ("license_name" in front(card)) == ("other" in said)
        assert ("No seed states a licence" in card) == (said == "unknown")

    def test_the_licence_of_people_is_unknown(self, tmp_path: Path) -> None:
        play(tmp_path, agent(), seeds=[{**seed, "license": "MIT"} for seed in SEEDS[:4]])
        talk = {"messages": [{"role": "user", "content": "by hand"}]}
        (tmp_path / "people.jsonl").write_text(json.dumps(talk))
        _, card = export(tmp_path, "--mix", f"{tmp_path / 'people.jsonl'}:0.2")
        assert front(card)["license"] == ["mit", "unknown"]
        assert "examples by people are under the licence of their file" in card
        assert str(tmp_path) not in card

    def test_languages_are_codes_that_seeds_state(self, tmp_path: Path) -> None:
        names = ["en", "de-AT", "English", "en\nlicense: mit", 5, None]
        given_ = [{**seed, "language": name} for seed, name in zip(SEEDS, names, strict=False)]
        play(tmp_path, agent(), seeds=[*given_, {**SEEDS[20], "lang": "fr"}])
        assert front(export(tmp_path)[1])["language"] == ["de", "en", "fr"]

    def test_no_language_is_made_up(self, tmp_path: Path) -> None:
        play(tmp_path, agent(), seeds=SEEDS[:2])
        _, card = export(tmp_path)
        assert "language" not in front(card)
        assert "No seed states its language" in card

    def test_any_name_of_a_file_is_one_value(self, tmp_path: Path) -> None:
        play(tmp_path, agent(), seeds=SEEDS[:2])
        name = "--- a: [b]\n---\n# <script> \u202e *.jsonl"
        _, card = export(tmp_path, name=name)
        told = front(card)
        assert told["configs"][0]["data_files"].replace("[[]", "[").replace("[*]", "*") == name
        assert told["pretty_name"] == plain(name)
        assert "\u202e" not in card
        assert {"html_block", "html_inline"} & kinds(card) == set()


class TestAgain:
    def test_the_commands_say_what_was_asked(self, tmp_path: Path) -> None:
        play(tmp_path, agent(), seeds=SEEDS[:3], accept=3, run="my run", seed=7)
        where = "item <> '```' AND item <> '<script>' AND\n score > 0.5"
        _, card = export(tmp_path, "--where", where, "--split", "0.25", "--shape", "kto")
        run, exported = commands(card)
        assert run[:3] == ["agentloop", "run", "tiny"]
        for words in (["--run", "my run"], ["--seed", "7"], ["--accept", "3"]):
            assert " ".join(words) in " ".join(run)
        assert run[run.index("--critic") + 1] == "scripted/model"
        assert exported[exported.index("--where") + 1] == " ".join(where.split())
        assert exported[exported.index("--split") + 1] == "train:0.75,validation:0.25"
        assert exported[-2:] == ["-o", "out.jsonl"]
        assert {"html_block", "html_inline"} & kinds(card) == set()

    def test_the_command_of_an_export_makes_the_same_bytes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        play(tmp_path, agent(critique=lambda p: marks("no" if "3." in p else "yes")), seeds=SEEDS)
        export(tmp_path, "--where", "item < 'a'", "--shape", "kto", "--split", "0.3")
        before = {path.name: path.read_bytes() for path in tmp_path.glob("out.*")}
        line = commands((tmp_path / "out.card.md").read_text())[-1]
        for path in tmp_path.glob("out.*"):
            path.unlink()
        monkeypatch.chdir(tmp_path)
        assert run_cli(["qa.duckdb" if word == "STORE" else word for word in line[1:]]) == 0
        assert {path.name: path.read_bytes() for path in tmp_path.glob("out.*")} == before

    def test_versions_stand_there(self, tmp_path: Path) -> None:
        play(tmp_path, agent(), seeds=SEEDS[:1])
        manifest, card = export(tmp_path)
        for name, version in manifest["runs"][0]["versions"].items():
            assert f"| {name} | {version} |" in card


def test_mixes_and_panels_are_told_by_their_options() -> None:
    specs = {
        "asker": "s", "critic": "c", "critic.2": "p", "critic.3": "q", "escalation": "e",
        "generator": "a", "generator.2": "b", "reviser": "v",
    }  # fmt: skip
    run = {"named": "r", "run": "r", "seed": None, "settings": {"items": 0}}
    asked = {"grading": 2, "mix": 0.3, "split": None, "where": "", "shape": "raw", "verdict": "all"}
    made, exported = told(
        {"runs": [{**run, "specs": specs, "shares": [0.7, 0.3]}], **asked, "file": "x y.jsonl"}
    )
    assert made == (
        "agentloop run r --seeds SEEDS --store STORE --run r --seed 0 --role asker=s --critic c "
        "--escalate e --generator a@0.7 --generator b@0.3 --reviser v --panel p,q --items 0"
    )
    assert exported == (
        "agentloop export STORE --shape raw --run r --grading 2 --verdict all --mix PEOPLE:0.3 "
        "-o 'x y.jsonl'"
    )


@given(st.text(max_size=300))
def test_untrusted_text_is_nothing_but_text(text: str) -> None:
    (_, inline, _) = MarkdownIt("commonmark").enable("table").parse(f"x {shown(text)} x")
    assert {child.type for child in inline.children or ()} == {"text"}
    read = "".join(child.content for child in inline.children or ())
    assert read.split() == ["x", *plain(text, 200).split(), "x"]


def test_the_best_stratum_is_text_too(tmp_path: Path) -> None:
    best = "<b>x</b>|y"
    critic = agent(generate=varied, critique=lambda p: marks("yes" if len(p) % 2 else "no"))
    play(tmp_path, critic, seeds=SEEDS[:20], attributes={"level": [best, "<i>z</i>"]}, max_rounds=0)
    manifest, card = export(tmp_path)
    strata = manifest["runs"][0]["acceptance"]["level"]
    assert strata[0]["best"] in (best, "<i>z</i>")
    assert "ratio to &lt;" in card
    assert {"html_block", "html_inline"} & kinds(card) == set()


def test_a_recipe_of_ones_own_is_named_by_its_file_to_make_it_again(tmp_path: Path) -> None:
    recipe = write_graph(tmp_path)
    run = play(tmp_path, agent(), str(recipe))
    run.export(tmp_path / "x.jsonl")
    card = (tmp_path / "x.card.md").read_text()
    assert "\nagentloop run my_graph.py --seeds SEEDS" in card
    assert str(tmp_path) not in card + (tmp_path / "x.manifest.json").read_text()
