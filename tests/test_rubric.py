"""Rubrics: reading, hashing, marks out of replies, scores, decisions."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import MalformedReply, ReplyError, RubricError
from agentloop.models.base import Reply
from agentloop.models.replies import read_object
from agentloop.records import Grade, Json, Mark
from agentloop.rubric import Criterion, Rubric, parse_rubric, read_rubric

PASSAGE = "The river Elbe rises in the Giant Mountains and flows into the North Sea."
SEED = {"passage": PASSAGE}
CANDIDATE = {"answer": "It rises in the Giant Mountains."}
FULL = """
name: qa
accept_at: 0.75
criteria:
  - name: faithful
    ask: Is every claim carried by the passage?
    levels: ["contradicted", "partly supported", "supported"]
    weight: 3
    floor: "partly supported"
    evidence: quote
  - name: useful
    ask: Is it useful?
"""
QA = parse_rubric(FULL, "rubric.yaml")


def written(level: str, **more: Any) -> Json:
    return {"reason": "", "level": level, **more}


def reply(faithful: Any = None, useful: Any = None) -> Json:
    quote = "rises in the Giant Mountains"
    return {
        "faithful": written("supported", quote=quote) if faithful is None else faithful,
        "useful": written("yes") if useful is None else useful,
    }


def mark(criterion: Criterion, value: float, level: str | None = None) -> Mark:
    level = criterion.top if level is None else level
    return Mark(criterion=criterion.name, level=level, value=value, how="mean")


def grade(rubric: Rubric, marks: list[Mark]) -> Grade:
    return Grade(marks=tuple(marks), score=rubric.score(marks), rubric=rubric.hash, model="m")


LEVELS = st.lists(st.text("abcdef ", min_size=1).filter(str.strip), min_size=2, max_size=9,
                  unique=True)  # fmt: skip


@st.composite
def rubrics(draw: st.DrawFn) -> Rubric:
    criteria = []
    for number in range(draw(st.integers(1, 5))):
        levels = tuple(draw(LEVELS))
        criteria.append(
            Criterion(
                name=f"c{number}",
                ask="?",
                levels=levels,
                weight=draw(st.floats(0.001, 1000)),
                floor=draw(st.none() | st.sampled_from(levels)),
                evidence=draw(st.sampled_from(["reason", "quote"])),
            )
        )
    return Rubric(name="r", accept_at=draw(st.floats(0.01, 1)), criteria=tuple(criteria))


@st.composite
def graded(draw: st.DrawFn) -> tuple[Rubric, list[Mark]]:
    rubric = draw(rubrics())
    marks = []
    for criterion in rubric.criteria:
        level = draw(st.sampled_from(criterion.levels))
        value = draw(st.just(criterion.value(level)) | st.floats(0, 1))
        marks.append(mark(criterion, value, level))
    return rubric, marks


class TestReading:
    def test_defaults_are_those_of_the_design(self) -> None:
        useful = QA.criterion("useful")
        assert (useful.levels, useful.weight, useful.floor) == (("no", "yes"), 1.0, None)
        assert (useful.evidence, useful.quote_from) == ("reason", "seed.passage")
        assert QA.criterion("faithful").top == "supported"

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("accept_at", "acept_at", ["`accept_at`"]),
            ("name: qa", "name: qa\nthreshold: 1", ["unknown key `threshold`", "`accept_at`"]),
            ("weight: 3", "wieght: 3", ["`criteria.faithful.wieght`", "did you mean `weight`?"]),
            ("weight: 3", "weight: -3", ["`criteria.faithful.weight`", "greater than 0"]),
            ("weight: 3", "weight: .inf", ["`criteria.faithful.weight`"]),
            ("weight: 3", "weight: .nan", ["`criteria.faithful.weight`"]),
            ("accept_at: 0.75", "accept_at: 75", ["`accept_at`", "less than or equal to 1"]),
            ("accept_at: 0.75", "accept_at: .nan", ["`accept_at`"]),
            ("accept_at: 0.75", "accept_at: 0", ["`accept_at`", "greater than 0"]),
            ('floor: "partly supported"', "floor: partially supported", [
                "`partially supported` is not a level", "did you mean `partly supported`?"]),
            ('floor: "partly supported"', "floor: yes", ["`criteria.faithful.floor`"]),
            ("name: useful", "name: Useful", ["`criteria.Useful.name`"]),
            ("name: useful", "name: faithful", ["criterion `faithful` stands twice"]),
            ("ask: Is it useful?", "ask: ''", ["either `ask`"]),
            ("ask: Is it useful?", "ask: x\n    levels: [no, yes]", ["quote them",
                                                                      'levels: ["no", "yes"]']),
            ("ask: Is it useful?", "ask: x\n    levels: [one]", ["2 to 10 entries"]),
            ("ask: Is it useful?", "ask: x\n    levels: [a, a]", ["must be different"]),
            ("ask: Is it useful?", "ask: x\n    levels: [a, ' ']", ["not empty"]),
            ("ask: Is it useful?", "ask: x\n    evidence: qoute", ["`criteria.useful.evidence`"]),
            ("ask: Is it useful?", "ask: x\n    quote_from: passage", ["quote_from"]),
            ("ask: Is it useful?", "ask: x\n    examples: [{candidate: {}, level: maybe}]",
             ["`maybe` is not a level"]),
            ("ask: Is it useful?", "ask: x\n    examples: [{candidat: {}, level: 'no'}]",
             ["candidat"]),
        ],
    )  # fmt: skip
    def test_a_wrong_entry_is_named_in_one_line(self, old: str, new: str, words: list[str]) -> None:
        assert old in FULL
        with pytest.raises(RubricError, match=r"^rubric `r\.yaml`") as caught:
            parse_rubric(FULL.replace(old, new), "r.yaml")
        said = str(caught.value)
        assert "\n" not in said
        assert [word for word in words if word not in said] == []

    @pytest.mark.parametrize(
        "text",
        ["", "- a", "just words", "a: [", "{a: b}: c", "1: 2", "\x00", "criteria: {a: {ask: x}}",
         "name: x\naccept_at: 2001-99-99\ncriteria: []", "name: !!python/object:os.system x",
         "name: x\naccept_at: 0.5\ncriteria: []", "[" * 600, "a: &a [*a]"],
    )  # fmt: skip
    def test_what_is_no_rubric_is_a_rubric_error_in_one_line(self, text: str) -> None:
        with pytest.raises(RubricError, match=r"^rubric `r\.yaml`") as caught:
            parse_rubric(text, "r.yaml")
        assert "\n" not in str(caught.value)

    def test_a_key_that_stands_twice_is_refused(self) -> None:
        with pytest.raises(RubricError, match="accept_at"):
            parse_rubric(FULL.replace("name: qa", "name: qa\naccept_at: 0.1"), "r.yaml")

    def test_numbers_in_examples_may_be_of_any_size(self) -> None:
        example = "examples: [{candidate: {n: 123456789012345678901234567890}, level: 'no'}]"
        text = FULL.replace("ask: Is it useful?", f"ask: x\n    {example}")
        assert parse_rubric(text, "r.yaml").hash

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(RubricError, match=r"gone\.yaml` cannot be read"):
            read_rubric(tmp_path / "gone.yaml")
        (tmp_path / "bad.yaml").write_bytes(b"name: \xff")
        with pytest.raises(RubricError, match=r"bad\.yaml` cannot be read"):
            read_rubric(tmp_path / "bad.yaml")

    def test_a_file_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "r.yaml").write_text(FULL)
        assert read_rubric(tmp_path / "r.yaml") == QA

    @given(st.text())
    def test_any_text_is_a_rubric_or_a_rubric_error(self, text: str) -> None:
        with pytest.raises(RubricError):
            parse_rubric(text, "r.yaml")

    def test_an_unknown_criterion_is_answered_with_a_near_one(self) -> None:
        with pytest.raises(RubricError, match=r"`faithfull` .did you mean `faithful`"):
            QA.criterion("faithfull")


class TestHash:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("accept_at: 0.75", "accept_at: 0.8"),
            ("weight: 3", "weight: 2"),
            ('floor: "partly supported"', 'floor: "supported"'),
            ("evidence: quote", "evidence: reason"),
            ("evidence: quote", "evidence: quote\n    quote_from: candidate.answer"),
            ("Is it useful?", "Is it of use?"),
            ('"contradicted"', '"wrong"'),
            ("name: useful", "name: helpful"),
            ("name: qa", "name: qa\nreference: true"),
            ("ask: Is it useful?", "ask: Is it useful?\n    examples: "
             "[{candidate: {a: b}, level: 'no'}]"),
        ],
    )  # fmt: skip
    def test_it_changes_with_what_can_change_a_verdict(self, old: str, new: str) -> None:
        assert parse_rubric(FULL.replace(old, new), "r.yaml").hash != QA.hash

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("name: qa", "name: other"),
            ("name: qa", "name: qa\nversion: 7"),
            ("weight: 3", "weight: 3.0  # a comment"),
            ("name: useful", "name: useful\n    weight: 1"),
        ],
    )
    def test_it_does_not_change_with_name_version_and_spelling(self, old: str, new: str) -> None:
        assert parse_rubric(FULL.replace(old, new), "r.yaml").hash == QA.hash


class TestMarks:
    def test_a_reply_becomes_one_mark_a_criterion_in_the_rubrics_order(self) -> None:
        said = dict(reversed(reply().items()))
        marks = QA.read_marks(said, SEED, CANDIDATE)
        assert [(m.criterion, m.level, m.value, m.how) for m in marks] == [
            ("faithful", "supported", 1.0, "written"),
            ("useful", "yes", 1.0, "written"),
        ]
        assert marks[0].quote == "rises in the Giant Mountains"

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ([], "one JSON object"),
            ({"useful": written("yes")}, "`faithful` is missing"),
            (reply() | {"score": 9}, "unknown criterion `score`"),
            (reply(useful="yes"), "`useful` must be an object"),
            (reply(useful=written("Yes")), "`useful.level` must be one of `no`, `yes`"),
            (reply(useful=written("")), "`useful.level` must be one of"),
            (reply(useful={"reason": ""}), "`useful.level` must be one of"),
            (reply(useful=written("yes", score=1)), "unknown key `score`"),
            (reply(useful={"level": "yes", "reason": 1}), "`useful.reason` must be text"),
            (reply(useful={"level": ["yes"]}), "`useful.level` must be text"),
            (reply(useful={"level": True}), "`useful.level` must be text"),
            (reply(faithful=written("supported")), "`faithful.quote` must be copied"),
            (reply(faithful=written("supported", quote="made up by the judge")), "seed.passage"),
            (reply(faithful=written("partly supported", quote="Elbe")), "word for word"),
        ],
    )
    def test_an_unreadable_grade_says_what_is_wrong(self, said: Any, words: str) -> None:
        with pytest.raises(MalformedReply) as caught:
            QA.read_marks(said, SEED, CANDIDATE)
        assert words in str(caught.value)

    def test_the_lowest_level_needs_no_quote(self) -> None:
        marks = QA.read_marks(reply(faithful=written("contradicted")), SEED, CANDIDATE)
        assert marks[0].value == 0.0

    def test_a_quote_may_be_asked_from_the_candidate(self) -> None:
        text = FULL.replace("evidence: quote", "evidence: quote\n    quote_from: candidate.answer")
        rubric = parse_rubric(text, "r.yaml")
        quote = written("supported", quote="the Giant Mountains.")
        assert rubric.read_marks(reply(faithful=quote), {}, CANDIDATE)
        with pytest.raises(MalformedReply, match=r"candidate\.answer"):
            rubric.read_marks(reply(faithful=quote), SEED, {})

    def test_the_schema_is_closed_and_asks_for_the_quote_first(self) -> None:
        schema = QA.reply_schema
        assert schema["required"] == ["faithful", "useful"]
        faithful, useful = schema["properties"].values()
        assert faithful["required"] == ["quote", "reason", "level"]
        assert useful["required"] == ["reason", "level"]
        assert faithful["properties"]["level"]["enum"] == list(QA.criteria[0].levels)
        assert not any(s["additionalProperties"] for s in (schema, faithful, useful))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@st.composite
def nearly(draw: st.DrawFn) -> tuple[Rubric, Any]:
    """Return a rubric and a reply that is right, or nearly so."""
    rubric = draw(rubrics())
    said: Json = {}
    for c in rubric.criteria:
        right = st.fixed_dictionaries(
            {"level": st.sampled_from(c.levels)},
            optional={"reason": st.text(), "quote": st.sampled_from([PASSAGE[:30], "no", PASSAGE])},
        )
        said[c.name] = draw(st.one_of(right, right, right, right, ANY))
    if draw(st.integers(0, 9)) == 0:
        said |= draw(st.dictionaries(st.text(), ANY, max_size=2))
    return rubric, said


def fits(rubric: Rubric, marks: tuple[Mark, ...]) -> bool:
    """Whether marks are what the reply's schema and the quote rule allow."""
    return [m.criterion for m in marks] == [c.name for c in rubric.criteria] and all(
        m.level in c.levels
        and m.value == c.value(m.level)
        and (m.quote in PASSAGE or not c.needs_quote(m.level))
        for c, m in zip(rubric.criteria, marks, strict=True)
    )


@given(nearly())
def test_any_object_gives_marks_that_the_schema_allows_or_a_malformed_reply(
    given_: tuple[Rubric, Any],
) -> None:
    rubric, said = given_
    try:
        marks = rubric.read_marks(said, SEED, CANDIDATE)
    except MalformedReply:
        return
    assert fits(rubric, marks)


@given(nearly(), st.text(), st.text())
def test_any_text_gives_marks_that_the_schema_allows_or_a_reply_error(
    given_: tuple[Rubric, Any], before: str, after: str
) -> None:
    rubric, said = given_
    try:
        read = read_object(Reply(f"{before}{json.dumps(said)}{after}"))
        marks = rubric.read_marks(read, SEED, CANDIDATE)
    except ReplyError:
        return
    assert fits(rubric, marks)


class TestScore:
    @given(graded())
    def test_it_is_the_weighted_mean_of_the_values(self, given_: tuple[Rubric, list[Mark]]) -> None:
        rubric, marks = given_
        weights = [c.weight for c in rubric.criteria]
        mean = sum(w * m.value for w, m in zip(weights, marks, strict=True)) / sum(weights)
        assert 0 <= rubric.score(marks) <= 1
        assert math.isclose(rubric.score(marks), mean, abs_tol=1e-9)
        values = [m.value for m in marks]
        assert min(values) - 1e-9 <= rubric.score(marks) <= max(values) + 1e-9

    @given(graded(), st.integers())
    def test_the_order_of_marks_does_not_matter(
        self, given_: tuple[Rubric, list[Mark]], seed: int
    ) -> None:
        rubric, marks = given_
        mixed = random.Random(seed).sample(marks, len(marks))
        assert rubric.score(mixed) == rubric.score(marks)

    @given(graded())
    def test_the_order_of_criteria_does_not_matter(self, given_: tuple[Rubric, list[Mark]]) -> None:
        rubric, marks = given_
        turned = rubric.model_copy(update={"criteria": rubric.criteria[::-1]})
        assert turned.score(marks) == rubric.score(marks)

    @given(graded(), st.floats(0.001, 1000))
    def test_only_the_proportions_of_weights_matter(
        self, given_: tuple[Rubric, list[Mark]], factor: float
    ) -> None:
        rubric, marks = given_
        criteria = [c.model_copy(update={"weight": c.weight * factor}) for c in rubric.criteria]
        scaled = rubric.model_copy(update={"criteria": tuple(criteria)})
        assert math.isclose(scaled.score(marks), rubric.score(marks), abs_tol=1e-9)

    @given(graded(), st.data())
    def test_a_better_mark_never_lowers_it(
        self, given_: tuple[Rubric, list[Mark]], data: st.DataObject
    ) -> None:
        rubric, marks = given_
        at = data.draw(st.integers(0, len(marks) - 1))
        better = data.draw(st.floats(marks[at].value, 1))
        raised = [*marks[:at], marks[at].model_copy(update={"value": better}), *marks[at + 1 :]]
        assert rubric.score(raised) >= rubric.score(marks) - 1e-12

    @given(rubrics())
    def test_all_top_is_1_and_all_bottom_is_0(self, rubric: Rubric) -> None:
        assert math.isclose(rubric.score([mark(c, c.value(c.top)) for c in rubric.criteria]), 1)
        assert rubric.score([mark(c, c.value(c.levels[0])) for c in rubric.criteria]) == 0

    @pytest.mark.parametrize("weight", ["1.0e+308", "5.0e-324"])
    def test_extreme_weights_are_refused_or_harmless(self, weight: str) -> None:
        text = FULL.replace("weight: 3", f"weight: {weight}") + f"    weight: {weight}\n"
        try:
            rubric = parse_rubric(text, "r.yaml")
        except RubricError:
            return
        assert rubric.score([mark(c, 0.5) for c in rubric.criteria]) == pytest.approx(0.5)

    @pytest.mark.parametrize("wrong", [[], [0], [0, 0], [0, 1, 1], [1]])
    def test_it_needs_just_one_mark_a_criterion(self, wrong: list[int]) -> None:
        with pytest.raises(RubricError, match="one mark for each criterion"):
            QA.score([mark(QA.criteria[i], 1) for i in wrong])


class TestDecide:
    @given(graded())
    def test_floors_come_before_the_threshold(self, given_: tuple[Rubric, list[Mark]]) -> None:
        rubric, marks = given_
        reason, detail = rubric.decide(grade(rubric, marks))
        low = [
            c.name
            for c, m in zip(rubric.criteria, marks, strict=True)
            if c.floor is not None and c.levels.index(m.level) < c.levels.index(c.floor)
        ]
        if low:
            assert reason == "under_floor"
            assert f"`{low[0]}`" in detail
        else:
            short = rubric.score(marks) < rubric.accept_at
            assert reason == ("below_threshold" if short else None)
        assert bool(detail) == (reason is not None)

    def test_a_floor_compares_the_level_and_not_the_value(self) -> None:
        marks = [mark(QA.criteria[0], 1.0, "contradicted"), mark(QA.criteria[1], 1.0)]
        reason, detail = QA.decide(grade(QA, marks))
        assert reason == "under_floor"
        assert detail == "`faithful` is `contradicted`, its floor is `partly supported`"

    def test_the_detail_carries_the_weakest_marks_reason(self) -> None:
        marks = [mark(QA.criteria[0], 0.5, "partly supported"), mark(QA.criteria[1], 0.9)]
        marks[0] = marks[0].model_copy(update={"reason": "the year is missing"})
        reason, detail = QA.decide(grade(QA, marks))
        assert reason == "below_threshold"
        assert detail == "score 0.60 < 0.75; weakest `faithful`: the year is missing"

    def test_the_threshold_itself_is_enough(self) -> None:
        marks = [mark(c, 0.75) for c in QA.criteria]
        assert QA.decide(grade(QA, marks)) == (None, "")

    def test_a_reviser_sees_marks_below_the_top_and_no_score(self) -> None:
        below = mark(QA.criteria[0], 0.5, "partly supported")
        marks = [below, mark(QA.criteria[1], 1.0)]
        assert not QA.below_top(grade(QA, marks))  # nothing speaks against it
        marks[0] = below.model_copy(update={"reason": "the year is missing"})
        (shown,) = QA.below_top(grade(QA, marks))
        assert shown["name"] == "faithful"
        assert set(shown) == {"name", "ask", "level", "quote", "reason"}
