"""How a grade comes about: checks, an item's own criteria, references, several looks, panels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agentloop as al
from agentloop.agents import mean_marks
from agentloop.checks import Check, fail
from agentloop.errors import RubricError, SeedError, TransientError, UserError
from agentloop.judging import given_to_judge
from agentloop.models.base import Request
from agentloop.records import Mark
from agentloop.rubric import Rubric, parse_rubric
from tests.builders import (
    PASSAGE,
    RUBRIC,
    SEEDS,
    agent,
    asked,
    draft,
    mark,
    only,
    play,
    roles,
    tiny,
)

CHECKED = """
name: checked
accept_at: 0.7
criteria:
  - name: short
    check: length
    with: {field: answer, words: [1, 6]}
  - name: right
    ask: Is the answer right?
    weight: 3
"""
LOOKS = """
name: looks
accept_at: 0.7
looks: {count: 3}
criteria:
  - name: right
    ask: Is the answer right?
"""


def written(**levels: str) -> str:
    return json.dumps(
        {name: mark(level, "" if level == "yes" else "no") for name, level in levels.items()}
    )


class TestChecks:
    def test_a_check_decides_a_criterion_and_no_judge_is_asked_of_it(self, tmp_path: Path) -> None:
        model = agent(generate=draft(), critique=written(right="yes"))
        item = only(play(tmp_path, model, tiny(tmp_path, CHECKED)))
        grade = item.attempts[0].grade
        assert grade
        assert grade.score == 1
        assert [(m.criterion, m.how) for m in grade.marks] == [
            ("short", "check"),
            ("right", "written"),
        ]
        assert "short" not in asked(model, "CRITIQUE")[0].messages[0]["content"]

    def test_its_evidence_is_the_marks_reason_and_reaches_the_reviser(self, tmp_path: Path) -> None:
        long = draft("It rises in the Giant Mountains of Bohemia, as the passage says.")
        model = agent(generate=long, critique=written(right="no"), revise=draft("In Bohemia."))
        item = only(play(tmp_path, model, tiny(tmp_path, CHECKED), max_rounds=1))
        grade = item.attempts[0].grade
        assert grade
        assert grade.mark("short").reason == "`answer` has 12 words; it needs 1 to 6"
        assert "`answer` has 12 words" in asked(model, "REVISE")[0].messages[0]["content"]

    def test_no_score_buys_back_a_veto(self, tmp_path: Path) -> None:
        rubric = CHECKED.replace("check: length", "check: length\n    veto: true")
        long = draft("It rises in the Giant Mountains of Bohemia, as the passage says.")
        model = agent(generate=long, revise=long, critique=written(right="yes"))
        item = only(play(tmp_path, model, tiny(tmp_path, rubric)))
        assert item.verdict
        assert (item.verdict.verdict, item.verdict.reason) == ("rejected", "failed_check")
        assert "CRITIQUE" not in roles(model)

    def test_a_rubric_of_checks_alone_asks_no_judge(self, tmp_path: Path) -> None:
        rubric = CHECKED[: CHECKED.index("  - name: right")]
        model = agent(generate=draft())
        item = only(play(tmp_path, model, tiny(tmp_path, rubric)))
        assert item.verdict
        assert (item.verdict.verdict, item.verdict.score) == ("accepted", 1)
        assert roles(model) == ["GENERATE"]

    def test_a_recipes_own_check_may_be_a_criterion(self, tmp_path: Path) -> None:
        def half(candidate: dict[str, Any], seed: dict[str, Any]) -> Any:
            return al.fail("half of it", 0.5)

        rubric = CHECKED.replace(
            "check: length\n    with: {field: answer, words: [1, 6]}", "check: half"
        )
        checks = (Check("half", half, veto=False),)
        model = agent(critique=written(right="yes"))
        item = only(play(tmp_path, model, tiny(tmp_path, rubric, checks=checks)))
        grade = item.attempts[0].grade
        assert grade
        assert grade.mark("short").value == 0.5
        assert grade.mark("short").level == "no"
        assert grade.score == pytest.approx(3.5 / 4)

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("check: length", "check: lenght", "unknown check `lenght` (did you mean `length`?)"),
            ("field: answer", "feild: answer", "check `length` has no `feild`"),
            ("{field: answer, words: [1, 6]}", "{field: answer}", "check `length`"),
            ("check: length", "check: length\n    ask: Is it?", "either `ask`"),
            ("weight: 3", "veto: true", "belong to a `check`"),
        ],
    )
    def test_a_wrong_check_is_named_before_any_call(
        self, tmp_path: Path, old: str, new: str, says: str
    ) -> None:
        model = agent()
        with pytest.raises(RubricError) as caught:
            play(tmp_path, model, tiny(tmp_path, CHECKED.replace(old, new)))
        assert says in str(caught.value)
        assert model.requests == []

    def test_a_revision_that_loses_a_passed_check_is_not_accepted(self, tmp_path: Path) -> None:
        def short(candidate: dict[str, Any], seed: dict[str, Any]) -> Any:
            return al.passed() if len(candidate["answer"]) < 30 else al.fail("it is long")

        longer = draft("It rises in the Giant Mountains, as is well known to everybody.")
        says = [written(right="no"), written(right="yes")]
        model = agent(generate=draft(), critique=says, revise=longer)
        checks = (Check("short", short, veto=False),)
        item = only(play(tmp_path, model, tiny(tmp_path, checks=checks), max_rounds=1))
        assert item.verdict
        assert (item.verdict.verdict, item.verdict.round) == ("rejected", 0)
        assert item.attempts[1].detail == "the revision fails `short`, which its parent passed"


class TestOwnCriteria:
    RUBRIC = LOOKS.replace("looks: {count: 3}", "per_item: 2")

    def test_they_are_written_once_from_the_seed_alone_and_kept(self, tmp_path: Path) -> None:
        own = json.dumps({"own_1": "Does it name the mountains?", "own_2": "Is it one sentence?"})
        marks = [
            written(right="yes", own_1="no", own_2="no"),
            written(right="yes", own_1="yes", own_2="yes"),
        ]
        model = agent(criteria=own, critique=marks, revise=draft("In the Giant Mountains!"))
        item = only(play(tmp_path, model, tiny(tmp_path, self.RUBRIC)))
        (request,) = asked(model, "CRITERIA")
        assert request.messages[0]["content"] == f"CRITERIA 2 for {SEEDS[0]['passage']}"
        assert roles(model).index("CRITERIA") < roles(model).index("CRITIQUE")
        first, second = (a.grade for a in item.attempts)
        assert first
        assert second
        assert first.score == pytest.approx(1 / 3)
        assert second.score == 1
        assert [c["ask"] for c in first.criteria] == [
            "Does it name the mountains?",
            "Is it one sentence?",
        ]
        assert first.criteria == second.criteria

    def test_unreadable_ones_leave_the_item_ungradable(self, tmp_path: Path) -> None:
        run = play(tmp_path, agent(criteria="none"), tiny(tmp_path, self.RUBRIC))
        assert run.counts["ungradable"] == 1


class TestReference:
    RUBRIC = LOOKS.replace("looks: {count: 3}", "reference: seed.solution")

    def test_the_seeds_own_answer_is_compared_with(self, tmp_path: Path) -> None:
        model = agent()
        seeds = [{"passage": PASSAGE, "solution": "Giant Mountains"}]
        item = only(play(tmp_path, model, tiny(tmp_path, self.RUBRIC), seeds=seeds))
        assert item.attempts[0].grade
        assert item.attempts[0].grade.reference == "Giant Mountains"
        assert "reference Giant Mountains" in asked(model, "CRITIQUE")[0].messages[0]["content"]
        assert "REFERENCE" not in roles(model)

    def test_a_seed_without_it_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SeedError, match="solution"):
            play(tmp_path, agent(), tiny(tmp_path, self.RUBRIC))


class TestLooks:
    def test_they_are_averaged(self, tmp_path: Path) -> None:
        says = [written(right="yes"), written(right="no"), written(right="yes")]
        model = agent(critique=says)
        item = only(play(tmp_path, model, tiny(tmp_path, LOOKS), max_rounds=0))
        grade = item.attempts[0].grade
        assert grade
        assert grade.looks == (1.0, 0.0, 1.0)
        assert grade.score == pytest.approx(2 / 3)
        assert (grade.mark("right").level, grade.mark("right").how) == ("yes", "mean")
        assert len({request.seed for request in asked(model, "CRITIQUE")}) == 3

    def test_packaged_wordings_are_taken_in_turn(self, tmp_path: Path) -> None:
        recipe = tiny(tmp_path, LOOKS)
        (tmp_path / "prompts" / "critique_2.md").write_text(
            "CRITIQUE otherwise {{ candidate.answer }}"
        )
        model = agent(critique=written(right="yes"))
        play(tmp_path, model, recipe)
        said = [r.messages[0]["content"] for r in asked(model, "CRITIQUE")]
        assert len({*said}) == 2
        assert said[1].startswith("CRITIQUE otherwise")

    @pytest.mark.parametrize(("band", "calls"), [(0.01, 3), (0.05, 5)])
    def test_more_are_asked_near_the_threshold_only(
        self, tmp_path: Path, band: float, calls: int
    ) -> None:
        rubric = LOOKS.replace("{count: 3}", f"{{count: 3, band: {band}, extra: 2}}")
        says = iter([written(right="yes"), written(right="no"), *[written(right="yes")] * 3])
        model = agent(critique=lambda _: next(says))
        play(tmp_path, model, tiny(tmp_path, rubric), max_rounds=0)
        assert roles(model).count("CRITIQUE") == calls

    def test_looks_too_far_apart_are_not_believed(self, tmp_path: Path) -> None:
        rubric = LOOKS.replace("{count: 3}", "{count: 3, max_spread: 0.3}")
        says = [written(right="yes"), written(right="no"), written(right="yes")]
        item = only(play(tmp_path, agent(critique=says), tiny(tmp_path, rubric)))
        assert item.verdict
        assert (item.verdict.verdict, item.verdict.reason) == ("ungradable", "judge_unreadable")
        assert "scores from 0.00 to 1.00" in item.verdict.detail

    def test_or_a_stronger_judge_decides(self, tmp_path: Path) -> None:
        rubric = LOOKS.replace("{count: 3}", "{count: 3, max_spread: 0.3}")
        says = [written(right="yes"), written(right="no"), written(right="yes")]
        wise = agent(critique=written(right="yes"))
        run = play(tmp_path, agent(critique=says), tiny(tmp_path, rubric), escalate=wise)
        item = only(run)
        assert item.attempts[0].grade
        assert item.attempts[0].grade.score == 1
        assert item.attempts[0].grade.looks == (1.0, 0.0, 1.0)
        assert roles(wise) == ["CRITIQUE"]

    def test_all_of_one_look_are_asked_at_once(self, tmp_path: Path) -> None:
        import asyncio

        inside, peak = 0, 0

        class Slow:
            name = "slow/x"
            identity: dict[str, Any] = {"model": "slow"}  # noqa: RUF012
            inner = agent(critique=written(right="yes"))

            async def complete(self, request: Request, structured: Any) -> Any:
                nonlocal inside, peak
                inside += 1
                peak = max(peak, inside)
                await asyncio.sleep(0.01)
                inside -= 1
                return await self.inner.complete(request, structured)

            async def aclose(self) -> None:
                pass

        play(tmp_path, Slow(), tiny(tmp_path, LOOKS), concurrency=8)
        assert peak == 3


class TestPanel:
    def test_their_marks_are_averaged(self, tmp_path: Path) -> None:
        yes, no = agent(), agent(critique=written(right="no"))
        no.name = "scripted/other"
        rubric = LOOKS.replace("looks: {count: 3}", "")
        item = only(play(tmp_path, yes, tiny(tmp_path, rubric), panel=[no], max_rounds=0))
        assert item.attempts[0].grade
        assert item.attempts[0].grade.looks == (1.0, 0.0)
        assert item.attempts[0].grade.score == 0.5

    def test_a_member_that_fails_leaves_no_grade(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentloop.models.limits.BACKOFF", 0.0)
        dead = agent(critique=TransientError("500"))
        run = play(tmp_path, agent(), tiny(tmp_path), panel=[dead])
        assert run.counts["failed"] == 1


LEVELS = ("wrong", "partly", "right")
SCALE = parse_rubric(
    "name: s\naccept_at: 0.5\ncriteria:\n  - name: a\n    ask: Is it?\n"
    '    levels: ["wrong", "partly", "right"]',
    "s",
)


@given(st.lists(st.sampled_from(LEVELS), min_size=2, max_size=7))
def test_a_mean_mark_lies_within_its_looks(levels: list[str]) -> None:
    def look(level: str) -> tuple[tuple[Mark, ...], float]:
        value = SCALE.criteria[0].value(level)
        return (Mark(criterion="a", level=level, value=value, how="written", reason=level),), 1.0

    (mean,) = mean_marks(SCALE, [look(level) for level in levels])
    ranks = [LEVELS.index(level) for level in levels]
    assert min(ranks) <= LEVELS.index(mean.level) <= max(ranks)
    assert mean.value == pytest.approx(sum(ranks) / len(ranks) / 2)
    assert bool(mean.reason) == (mean.level != "right")
    assert not mean.reason or mean.reason in levels


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_contains_the_fence_that_closes_it_in(answer: str, reference: str) -> None:
    fence = given_to_judge({"p": "x"}, {"answer": answer}, reference)["fence"]
    assert len(fence) == 12
    assert fence not in answer + reference
    wise = given_to_judge({"p": "x"}, {"answer": f"--- {fence} end ---"}, reference)["fence"]
    assert wise != fence


OWN_CHECK = Check("polite", lambda *_: fail("it is rude"), veto=False)
POLITE = """
name: polite
accept_at: 0.5
criteria:
  - {name: right, ask: "Is it right?"}
  - {name: manners, check: polite, veto: true}
"""


def test_a_rubrics_veto_holds_for_the_recipes_own_check(tmp_path: Path) -> None:
    item = only(play(tmp_path, agent(), tiny(tmp_path, POLITE, checks=(OWN_CHECK,)), max_rounds=0))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("rejected", "failed_check")
    assert item.attempts[0].checks[0].veto


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("veto: true", "with: {words: [1, 2]}", "`with` belongs to a packaged check"),
        ("name: manners, check: polite, veto: true", "name: polite, check: length", "own check"),
        ("name: right", "name: own_1", "written for an item"),
        ("check: polite", "check: length, with: {field: answer, words: [9, 1]}", "least and most"),
        ("check: polite", "check: length, with: {field: answer, words: [a, b]}", "whole numbers"),
        ("check: polite", "check: no_pii, with: {fields: answer}", "must be a list"),
        ("check: polite", "check: no_pii, with: {fields: [anwser]}", "candidate.anwser"),
        ("check: polite", "check: avoids, with: {field: answer, phrases: so, why: no}", "a list"),
    ],
)
def test_what_could_never_work_is_refused_before_a_call(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in POLITE
    rubric = POLITE.replace(old, new) + "per_item: 2\n"
    model = agent()
    with pytest.raises(UserError, match=said):
        play(tmp_path, model, tiny(tmp_path, rubric, checks=(OWN_CHECK,)))
    assert not model.requests


def test_a_criterion_with_the_name_of_anothers_check_is_refused() -> None:
    text = POLITE.replace('name: right, ask: "Is it right?"', "name: polite, check: length")
    with pytest.raises(RubricError, match="name of a check that another one names"):
        parse_rubric(text, "polite.yaml")


def test_a_revision_that_scores_less_than_its_parent_is_not_accepted(tmp_path: Path) -> None:
    """Below a floor with .86, then above it with .57: that is no repair."""
    rubric = """
name: floor
accept_at: 0.5
criteria:
  - {name: right, ask: "Is it right?", floor: "yes"}
  - {name: clear, ask: "Is it clear?", weight: 6}
"""
    first = {"right": mark("no", "wrong"), "clear": mark()}
    second = {"right": mark(), "clear": mark("no", "muddy")}
    model = agent(critique=[json.dumps(first), json.dumps(second)], revise=draft("Otherwise."))
    item = only(play(tmp_path, model, tiny(tmp_path, rubric.replace("0.5", "0.1")), max_rounds=1))
    assert item.verdict
    assert item.verdict.verdict == "rejected"
    assert item.attempts[1].detail == "the revision scores less than its parent: 0.14 < 0.85"


def test_weak_grading_prompts_are_told_at_the_start(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, RUBRIC + "looks: {count: 3}\n")
    (tmp_path / "prompts" / "critique.md").write_text("CRITIQUE {{ candidate.answer }}")
    notes: list[str] = []
    play(
        tmp_path, agent(), recipe,
        progress=lambda event: notes.append(str(event.data)) if event.kind == "note" else None,
    )  # fmt: skip
    assert len(notes) == 2
    assert "`critique.md`: the candidate stands without" in notes[0]
    assert "up to 3 looks, and there are 1 wordings" in notes[1]


def test_a_rubrics_own_criteria_change_no_hash() -> None:
    rubric: Rubric = SCALE.with_criteria([{"name": "own_1", "ask": "Is it one?"}])
    assert [c.name for c in rubric.criteria] == ["a", "own_1"]
    assert rubric.reply_schema["required"] == ["a", "own_1"]
    assert SCALE.reply_schema["required"] == ["a"]
