"""Shapes that are made of an item's attempts: single candidates with a label, repairs, pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop import export
from agentloop.checks import Check
from agentloop.store import Store
from tests.builders import QA, SEEDS, agent, draft, marks, play, tiny

THREE = """
name: three
accept_at: 0.9
criteria:
  - name: right
    ask: Is the answer right?
    levels: ["no", "half", "yes"]
"""
LEVELS = {"First": "no", "Second": "half", "Third": "yes", "Worse": "no"}


class Asked(QA):
    """The question is the seed's, so that all attempts answer the same prompt."""

    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        return [("user", seed["passage"]), ("assistant", self.answer)]


def critique(prompt: str) -> str:
    word = next(word for word in LEVELS if word in prompt)
    return marks(LEVELS[word], "" if word == "Third" else f"{word} is wrong")


def played(folder: Path, *answers: str, seeds: int = 1, **more: Any) -> al.Run:
    """Play items whose drafts are these answers, one revision after the other."""
    first, *others = (draft(answer) for answer in answers)
    model = agent(generate=first, critique=critique, revise=others * seeds)
    recipe = tiny(folder, THREE, candidate=Asked)
    return play(folder, model, recipe, seeds=SEEDS[:seeds], **more)


def read(run: al.Run, shape: str, **chosen: Any) -> list[dict[str, Any]]:
    lines = export.lines(Store(run.store), shape=shape, **chosen)
    return [json.loads(line) for line in lines]


def said(line: dict[str, Any]) -> tuple[str, bool]:
    (answer,) = line["completion"]
    assert answer["role"] == "assistant"
    assert [turn["role"] for turn in line["prompt"]] == ["user"]
    return answer["content"], line["label"]


class TestKto:
    def test_the_kept_candidate_is_good_and_what_was_refused_is_bad(self, tmp_path: Path) -> None:
        run = played(tmp_path, "First.", "Second.", "Third.")
        assert [said(line) for line in read(run, "kto")] == [
            ("Third.", True),
            ("First.", False),
            ("Second.", False),
        ]

    def test_candidates_of_rejected_items_are_bad(self, tmp_path: Path) -> None:
        run = played(tmp_path, "First.", "Second.", max_rounds=1)
        assert run.counts["rejected"] == 1
        assert [said(line) for line in read(run, "kto")] == [("First.", False), ("Second.", False)]
        assert read(run, "kto", verdict="accepted") == []

    def test_what_fell_at_the_door_is_neither_good_nor_bad(self, tmp_path: Path) -> None:
        class Same(Asked):
            def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
                return [("user", "Where?"), ("assistant", self.answer)]

        recipe = tiny(tmp_path, THREE, candidate=Same)
        run = play(
            tmp_path, agent(generate=draft("Third."), critique=critique), recipe, seeds=SEEDS[:2]
        )
        assert run.counts["accepted"] == 1
        assert [line["reason"] for line in run.items("rejected")] == ["duplicate"]
        assert [said(line) for line in read(run, "kto")] == [("Third.", True)]

    def test_the_same_words_are_never_both_good_and_bad(self, tmp_path: Path) -> None:
        grades = iter([marks("no"), marks("yes")])
        model = agent(generate=draft("Same."), critique=grades, revise=draft("Same.", "Why?"))
        run = play(tmp_path, model, tiny(tmp_path, candidate=Asked))
        assert run.counts["accepted"] == 1
        assert [said(line) for line in read(run, "kto")] == [("Same.", True)]

    def test_what_several_items_say_is_told_once_and_good_if_one_was_accepted(
        self, tmp_path: Path
    ) -> None:
        class Same(Asked):
            def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
                return [("user", "Where?"), ("assistant", self.answer)]

        drafts = iter([draft("A."), draft("A."), draft("B."), draft("A."), draft("B.")])
        grades = iter([marks("no"), marks("yes"), marks("no"), marks("no"), marks("no")])
        recipe = tiny(tmp_path, candidate=Same)
        model = agent(generate=drafts, critique=grades)
        run = play(tmp_path, model, recipe, seeds=SEEDS[:5], max_rounds=0)
        assert [said(line) for line in read(run, "kto")] == [("A.", True), ("B.", False)]

    def test_what_no_judge_could_read_is_not_bad(self, tmp_path: Path) -> None:
        run = play(tmp_path, agent(critique="?"), tiny(tmp_path, candidate=Asked))
        assert run.counts["ungradable"] == 1
        assert read(run, "kto") == []

    def test_labels_are_counted_in_the_card(self, tmp_path: Path) -> None:
        run = played(tmp_path, "First.", "Second.", "Third.", seeds=2)
        assert run.export(tmp_path / "k.jsonl", shape="kto") == 6
        manifest = json.loads((tmp_path / "k.manifest.json").read_text())
        assert manifest["tally"]["labels"] == {"false": 4, "true": 2}
        assert manifest["tally"]["rounds"] == {"0": 2, "1": 2, "2": 2}
        assert manifest["verdict"] == "all"
        card = (tmp_path / "k.card.md").read_text()
        assert "| label false | 4 |" in card
        assert "| label true | 2 |" in card


class TestCritique:
    def test_each_revision_that_improved_is_a_line(self, tmp_path: Path) -> None:
        first, second = read(played(tmp_path, "First.", "Second.", "Third."), "critique")
        assert first["draft"][-1]["content"] == "First."
        assert first["revision"][-1]["content"] == second["draft"][-1]["content"] == "Second."
        assert (first["round"], first["accepted"]) == (1, False)
        assert (first["draft_score"], first["revision_score"]) == (0.0, 0.5)
        assert (second["round"], second["accepted"]) == (2, True)
        assert json.loads(first["seed"]) == SEEDS[0]
        assert first["critique"] == "- right: no. Is the answer right? First is wrong"

    def test_a_revision_that_made_it_worse_is_no_line(self, tmp_path: Path) -> None:
        run = played(tmp_path, "Second.", "Worse.")
        assert len(read(run, "kto")) == 2
        assert read(run, "critique", verdict="all") == []

    def test_failed_checks_stand_in_the_critique(self, tmp_path: Path) -> None:
        def brief(candidate: dict[str, Any], seed: dict[str, Any]) -> Any:
            return al.passed() if len(candidate["answer"]) < 10 else al.fail("too long")

        model = agent(generate=draft("First and long."), critique=critique, revise=draft("Third."))
        recipe = tiny(tmp_path, THREE, candidate=Asked, checks=(Check("brief", brief),))
        (line,) = read(play(tmp_path, model, recipe), "critique")
        assert line["critique"] == "- brief: too long"
        assert line["draft_score"] is None
        assert line["revision_score"] == 1.0

    def test_the_card_tells_its_columns(self, tmp_path: Path) -> None:
        run = played(tmp_path, "First.", "Third.")
        assert run.export(tmp_path / "c.jsonl", shape="critique") == 1
        card = (tmp_path / "c.card.md").read_text()
        for name in ("draft", "critique", "revision"):
            assert f"\n| {name} | " in card


def test_a_pair_is_best_against_worst_and_says_the_prompt_once(tmp_path: Path) -> None:
    (pair,) = read(played(tmp_path, "First.", "Second.", "Third."), "preference")
    assert pair["chosen"] == [{"role": "assistant", "content": "Third."}]
    assert pair["rejected"] == [{"role": "assistant", "content": "First."}]
    assert pair["prompt"] == [{"role": "user", "content": SEEDS[0]["passage"]}]


def test_equal_words_are_no_pair(tmp_path: Path) -> None:
    grades = iter([marks("no"), marks("yes")])
    model = agent(generate=draft("Same."), critique=grades, revise=draft("Same.", "Why?"))
    run = play(tmp_path, model, tiny(tmp_path, candidate=Asked))
    assert run.counts["accepted"] == 1
    assert read(run, "preference") == []
    assert read(run, "critique") == []


@pytest.mark.parametrize("shape", ["kto", "preference", "prompt_completion"])
def test_people_may_say_a_turn_as_text(tmp_path: Path, shape: str) -> None:
    rows = [
        {"prompt": "Q", "completion": "A", "chosen": "A", "rejected": "B", "label": True, "more": n}
        for n in range(9)
    ]
    people = tmp_path / "people.jsonl"
    people.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = played(tmp_path, "First.", "Third.", seeds=2)
    count = run.export(tmp_path / "o.jsonl", shape=shape, mix=f"{people}:0.5")
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    (made, by_people) = ([li for li in lines if bool(li["item"]) is kind] for kind in (True, False))
    assert len(made) == len(by_people) == count / 2
    for line in by_people:
        assert line.keys() == made[0].keys()
        assert line["prompt"] == [{"role": "user", "content": "Q"}]
        answers = [line.get(key) for key in ("completion", "chosen") if key in line]
        assert answers == [[{"role": "assistant", "content": "A"}]]


def test_a_label_of_people_is_true_or_false(tmp_path: Path) -> None:
    people = tmp_path / "people.jsonl"
    people.write_text(json.dumps({"prompt": "Q", "completion": "A", "label": "yes"}))
    run = played(tmp_path, "Third.")
    with pytest.raises(al.UserError, match="`label` is neither true nor false"):
        run.export(tmp_path / "o.jsonl", shape="kto", mix=f"{people}:0.5")
    assert not (tmp_path / "o.jsonl").exists()
