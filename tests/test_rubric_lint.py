"""The rubric linter: criteria written for this test, good and bad, and what it says of each."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.cli import run_cli
from agentloop.rubric import Criterion, Rubric, parse_rubric, read_rubric
from agentloop.rubric_lint import KINDS, Flag, lint

ROOT = Path(__file__).resolve().parent.parent

GOOD = [
    "Is every claim in the answer carried by the passage?",
    "Would someone who lacks the passage be better off with this answer?",
    "Do the question and the answer speak of the same event?",
    "Does the response keep to the terms and conditions that the user pasted?",
    "Is the difference between the question and the answer plain to a beginner?",
    "Does the answer follow from the facts and figures in the passage?",
    "Does the program read its input and output files from the folder named in the task?",
    "Does the answer say so where the passage gives no figure?",
    "If the passage gives no answer, does the response say so plainly?",
    "Does the answer admit what the writer does not know?",
    "Would an untrained reader understand every step of the proof?",
    "Does the response tell the user that the request cannot be met?",
    "Is the summary at most as long as the paragraph it sums up?",
    "Is the summary no longer than the paragraph that it sums up?",
    "Is the headline short enough to fit on one line?",
    "Does the code raise an error on every input that is invalid?",
    "Does the answer correct the wrong belief that the question starts from?",
    "Does the response point out each unsupported claim in the draft?",
    "Is the question unambiguous to someone who has read the passage?",
    "Does the story take place under water, as the task demands?",
    "Does the unit of every quantity match the one in the table?",
    'Does the reply use the word "not" exactly as the user asked?',
    "Does the answer name a person or a place from the passage?",
    "Is everything that the response states or computes correct?",
    "Does the letter say how long the repair will take?",
    "Is the tone of the reply one that a bank would use with a customer?",
    "Does the translation read as well as the original does?",
    "Does the dialogue let the teacher and the pupil speak in turn?",
    "Does each step of the solution follow from the one before it?",
    "Does the answer explain cause and effect in the order of the passage?",
    "Is the sum of income and expenses right to the cent?",
    "Are the details in the answer the ones that the passage gives?",
    "Does the answer give the year that the question asks for?",
    "Does the summary keep the order of events and people of the story?",
    "Does the response use each of the given words at least once?",
    "Does the example show how the rule works in practice?",
    "Can the riddle be solved from its clues alone by a child?",
    "Does the plan fit into the time between Monday and Friday?",
    "Is the poem as many lines long as the user asked for?",
    "Does the function return the same result for positive and negative numbers?",
    "Do all names (of people and of places) stand in the passage as well?",
    "Is the reply written in the language of the user's message?",
    "Would someone who has read the passage and knows the subject agree?",
    "If the user writes in French and gives a name, does the reply open with this name?",
]
FALSE_ALARM = "Does the story that nobody was told at first come to light in the end?"

BAD = {
    "compound": [
        "Is the answer correct and complete for the question asked?",
        "Does the answer quote the passage and name its author?",
        "Is the response helpful, and does it stay polite throughout?",
        "Is the answer short but complete in the eyes of an expert?",
        "Does the summary name the author as well as the year?",
        "Is the answer right? Is it also easy to follow for beginners?",
        "Is every claim sourced; does every source exist in the list?",
        "Does the reply answer both the first and the second question?",
        "Is the code readable and well commented in every function?",
        "Does the response explain the rule clearly and correctly to a child?",
        "Does the recipe use metric units and list its ingredients first?",
        "Is the poem original and in the form that was asked for?",
        "Would a reader understand and remember the main point of the text?",
        "Does the answer say what happened and why it happened?",
        "Does the response give the cause of the fault and its remedy in one sentence?",
        "Is the answer polite and/or friendly towards the person who asked?",
        "Does the response cite its sources in addition to answering the question?",
        "Does the report name the buyer, the seller and the price of the house?",
        "Does the reply stay friendly while keeping to the rules of the shop?",
        "Is the grammar and the spelling of the reply right in every line?",
        "Does the answer show accuracy and clarity in every sentence?",
        "Is the plan feasible for one person and cheap to carry out?",
    ],
    "negative": [
        "Does the answer not contradict anything in the passage?",
        "Is the response free of spelling mistakes in every sentence?",
        "Does the summary avoid opinions of its own about the events?",
        "Does the answer never mention the passage that it comes from?",
        "Is the code written without global variables of any kind?",
        "Are there no claims in the answer that the passage lacks?",
        "Does the answer contain claims that are unsupported by the passage?",
        "Is any step of the given solution wrong in its arithmetic?",
        "Doesn't the reply pass over a wish that the user has stated?",
        "Does the answer refrain from repeating the words of the question?",
        "Is none of the figures in the answer made up by the writer?",
        "Is the answer a text that does not name the passage?",
        "If the user asks for prose, does the response avoid bullet points?",
        "Does the summary include any errors about the dates of the events?",
    ],
    "overlong": [
        "Does the answer, when it is read by somebody who has been given the passage, the question "
        "that was asked about it, the answer that an expert wrote in an hour of quiet work, say the "
        "same thing as this expert would say if asked once more a day later?",
    ],
    "short": ["Is the answer correct?", "Accuracy", "Would a child like it?"],
    "rewards_length": [
        "Is the answer as detailed as the question allows it to be?",
        "Does the response give a comprehensive account of the subject?",
        "Is the explanation thorough enough for a student of the subject?",
        "Does the answer hold as much information as possible about the river?",
        "Does the essay treat its subject in depth throughout the text?",
        "Does the response describe each of the steps in great detail?",
        "Is the story long enough to keep a child busy for an evening?",
        "Does the answer give an exhaustive list of the causes of the war?",
        "Does the review name as many strengths of the book as possible?",
        "Does the reply elaborate on every point that the user raised?",
        "Is the report extensive in its treatment of the causes?",
    ],
}

ALSO = {
    "Is the answer right? Is it also easy to follow for beginners?": {"compound"},
    "Does the answer do all that is asked and nothing else?": {"compound", "negative"},
    "Is it comprehensive and free of errors?": {
        "compound", "negative", "short", "rewards_length"},
}  # fmt: skip
"""Criteria with the whole set of their kinds."""

SAME = [
    ("Is the answer correct?", "Is the answer accurate?"),
    (
        "Is every claim in the answer carried by the passage?",
        "Does the passage support every claim of the answer?",
    ),
    (
        "Is the answer easy to understand for a beginner?",
        "Would a beginner find the answer easy to understand?",
    ),
    (
        "Is the response written in polite language throughout the text?",
        "Is the language of the response polite from start to end?",
    ),
    (
        "Does the code return the right result for every input?",
        "Is the result that the code returns right on all inputs?",
    ),
    (
        "Is the summary true to the facts of the article?",
        "Are the facts in the summary those of the article?",
    ),
    (
        "Does the reply do what the instruction asks for?",
        "Does the response do all that the instruction asks?",
    ),
    (
        "Does the answer stay on the topic of the question?",
        "Is the answer about the topic that the question raises?",
    ),
    (
        "Is the headline one that makes a reader curious about the text?",
        "Does the headline make readers curious to read the text?",
    ),
    (
        "Does the response answer the question that the user asked?",
        "Is the question of the user answered by the response?",
    ),
    (
        "Does the story end in a way that surprises the reader?",
        "Is the reader surprised by the end of the story?",
    ),
    (
        "Is the tone of the reply friendly to the customer?",
        "Does the reply speak to the customer in a friendly tone?",
    ),
]

APART = [
    (
        "Is the answer written in clear English for a beginner?",
        "Is the answer written in formal English for a beginner?",
    ),
    (
        "Is the question clear to someone who has read the passage?",
        "Is the answer clear to someone who has read the passage?",
    ),
    (
        "Does the answer give the year of the event in question?",
        "Does the answer give the place of the event in question?",
    ),
    (
        "Does the title fit the story that follows it?",
        "Does the ending fit the story that precedes it?",
    ),
    (
        "Does the code print the sum of the numbers?",
        "Does the code print the product of the numbers?",
    ),
    (
        "Is every claim in the answer carried by the passage?",
        "Would someone who lacks the passage be better off with this answer?",
    ),
    (
        "Does the quote say everything that the answer says?",
        "Is this the right answer to the question?",
    ),
    (
        "Is everything that the response states or computes correct?",
        "Would the person who typed the instruction be glad of this response?",
    ),
    (
        "Does the summary name the author of the article?",
        "Is the summary shorter than the article it sums up?",
    ),
    (
        "Is the first sentence of the answer a direct answer to the question?",
        "Is the last sentence of the answer a question to the user?",
    ),
    (
        "Does the reply use the name of the customer?",
        "Does the reply name a person whom the customer can call?",
    ),
    (
        "Is the plan one that a single person can carry out?",
        "Is the plan one that fits into a single day?",
    ),
    (
        "Does the answer quote the passage word for word?",
        "Does the quote in the answer hold the fact that is asked for?",
    ),
    (
        "Is the question one that the passage answers?",
        "Is the answer one that the passage gives to this question?",
    ),
    (
        "Does the poem have four lines in each verse?",
        "Do the second and the fourth line of each verse rhyme?",
    ),
    (
        "Does each step of the proof follow from the one before?",
        "Does the proof end with the statement that was to be proved?",
    ),
]
MISSED = 1
"""Of SAME, and as many of APART are flagged: the rules see words, not meaning."""

NEUTRAL = "Does the reply open with the name of the customer?"


def rubric(*asks: str, **more: Any) -> Rubric:
    criteria = tuple(
        Criterion(name=f"c{number}", ask=ask, **more) for number, ask in enumerate(asks)
    )
    return Rubric(name="r", accept_at=0.5, criteria=criteria)


def kinds(ask: str, **more: Any) -> set[str]:
    return {flag.kind for flag in lint(rubric(ask, **more))}


def overlap(pair: tuple[str, str]) -> bool:
    return "overlapping" in {flag.kind for flag in lint(rubric(*pair))}


class TestOneCriterion:
    @pytest.mark.parametrize(
        "ask",
        [
            *GOOD,
            pytest.param(FALSE_ALARM, marks=pytest.mark.xfail(reason="a negation after `that`")),
        ],
    )
    def test_a_good_one_is_left_alone(self, ask: str) -> None:
        assert lint(rubric(ask)) == []

    @pytest.mark.parametrize(
        ("kind", "ask"), [(kind, ask) for kind, asks in BAD.items() for ask in asks]
    )
    def test_a_bad_one_is_flagged_for_what_it_is(self, kind: str, ask: str) -> None:
        assert kinds(ask) == {kind}

    @pytest.mark.parametrize("ask", ALSO)
    def test_one_may_be_bad_in_several_ways(self, ask: str) -> None:
        assert kinds(ask) == ALSO[ask]

    def test_one_that_a_check_decides_is_asked_of_nobody(self) -> None:
        checked = Criterion(name="right", check="number_equals")
        asked = rubric(GOOD[0])
        both = Rubric(name="r", accept_at=0.5, criteria=(*asked.criteria, checked))
        assert lint(both) == []

    def test_there_are_enough_of_them(self) -> None:
        assert len(GOOD) >= 30
        assert sum(map(len, BAD.values())) >= 30
        assert set(BAD) | {"overlapping", "unanchored"} == set(KINDS)

    @pytest.mark.parametrize(
        ("words", "kind"), [(7, "short"), (8, None), (40, None), (41, "overlong")]
    )
    def test_eight_to_forty_words_are_right(self, words: int, kind: str | None) -> None:
        assert kinds(" ".join(["word"] * words)) == ({kind} if kind else set())

    @pytest.mark.parametrize(
        "ask", ["答えは正しいですか", "答案是否与 JSON 一致", "هل الإجابة صحيحة"]
    )
    def test_words_are_not_counted_where_there_are_no_capitals(self, ask: str) -> None:
        assert kinds(ask) == set()

    def test_what_is_quoted_or_in_brackets_is_not_asked(self) -> None:
        assert kinds("Does the reply say “I do not know and I cannot tell” to the user?") == set()
        assert kinds("Are the figures (numbers and never dates) those of the table?") == set()


class TestLevels:
    @pytest.mark.parametrize(
        "levels", [("1", "2", "3", "4", "5"), ("0", "10"), ("0.0", "0.5", "1.0"), ("C", "B", "A")]
    )
    def test_bare_numbers_are_unanchored(self, levels: tuple[str, ...]) -> None:
        (flag,) = lint(rubric(NEUTRAL, levels=levels))
        assert flag.kind == "unanchored"
        assert all(f"`{level}`" in flag.what for level in levels)

    @pytest.mark.parametrize(
        "levels",
        [("no", "yes"), ("1: not named", "2: named later", "3: named first"), ("否", "是")],
    )
    def test_levels_that_say_something_are_not(self, levels: tuple[str, ...]) -> None:
        assert kinds(NEUTRAL, levels=levels) == set()

    @pytest.mark.parametrize(
        "levels",
        [("yes", "no"), ("many errors", "no errors"), ("wrong", "not wrong"), ("some", "none")],
    )
    def test_a_best_level_that_denies_is_negative(self, levels: tuple[str, ...]) -> None:
        (flag,) = lint(rubric(NEUTRAL, levels=levels))
        assert flag.kind == "negative"
        assert f"`{levels[-1]}`" in flag.what

    def test_a_best_level_that_is_long_rewards_length(self) -> None:
        assert kinds(NEUTRAL, levels=("short", "medium", "long")) == {"rewards_length"}
        assert kinds(NEUTRAL, levels=("long", "short")) == set()


def test_what_a_check_decides_is_asked_of_nobody() -> None:
    rubric = parse_rubric(
        "name: checked\naccept_at: 0.5\ncriteria:\n"
        "  - {name: result, check: number_equals, with: {field: a, answer: b}, veto: true}\n"
        "  - {name: long, check: length, with: {field: a, words: [1, 9]}, levels: ['1', '2', '3']}\n",
        "here",
    )
    assert lint(rubric) == []


class TestSeveralCriteria:
    def test_pairs_that_ask_the_same_are_flagged_and_others_are_not(self) -> None:
        missed = [pair for pair in SAME if not overlap(pair)]
        false = [pair for pair in APART if overlap(pair)]
        assert len(missed) <= MISSED, missed
        assert len(false) <= MISSED, false

    def test_the_later_one_names_the_earliest(self) -> None:
        same = "Is every claim in the answer carried by the passage?"
        flags = lint(rubric(NEUTRAL, same, same, same))
        assert [(flag.criterion, flag.kind) for flag in flags] == [
            ("c2", "overlapping"),
            ("c3", "overlapping"),
        ]
        assert all("`c1`" in flag.what for flag in flags)

    def test_flags_come_in_the_order_of_the_criteria(self) -> None:
        flags = lint(
            rubric("Is it right?", NEUTRAL, "Does the reply never name the customer at all?")
        )
        assert [(flag.criterion, flag.kind) for flag in flags] == [
            ("c0", "short"),
            ("c2", "negative"),
        ]


PIECES = (
    "is the answer and both no not free of from long in depth detail , ; ? that says who never as "
    "much possible name wrong contain ( ) ` \" & / - ' while -ing"
)
WORDS = st.sampled_from(PIECES.split())


class TestAnyText:
    @given(st.lists(WORDS | st.text(max_size=5), min_size=1, max_size=30))
    def test_every_text_is_linted_and_told_why(self, parts: list[str]) -> None:
        ask = f"Is it {' '.join(parts)}"
        for flag in lint(rubric(ask, ask)):
            assert flag.kind in KINDS
            assert flag.what
            assert flag.way_out

    @given(st.lists(st.sampled_from(GOOD), min_size=1, max_size=4, unique=True), st.randoms())
    def test_case_and_spacing_change_nothing(self, asks: list[str], random: Any) -> None:
        changed = [
            "".join(random.choice((c.lower(), c.upper())) for c in ask).replace(" ", "  ")
            for ask in asks
        ]
        assert [f.kind for f in lint(rubric(*asks))] == [f.kind for f in lint(rubric(*changed))]

    @pytest.mark.parametrize(
        "part",
        [
            "a",
            "(",
            '"',
            "“",
            "`",
            " and",
            " no",
            " while",
            " not clearly",
            ", ",
            "-",
            " long",
            " name the",
        ],
    )
    def test_a_huge_criterion_ends(self, part: str) -> None:
        huge = part * (300_000 // len(part))
        assert all(flag.kind in KINDS for flag in lint(rubric("x" + huge, "y" + huge + "ing")))


class TestOurOwn:
    def test_the_packaged_rubrics_are_clean(self) -> None:
        flagged = Counter(
            (path.parent.name, flag.criterion, flag.kind)
            for path in ROOT.glob("prompts/*/rubric.yaml")
            for flag in lint(read_rubric(path))
        )
        assert set(flagged) == set()


class TestCommandLine:
    def write(self, tmp_path: Path, *asks: str) -> str:
        path = tmp_path / "rubric.yaml"
        path.write_text(rubric(*asks).model_dump_json(), encoding="utf-8")
        return str(path)

    def test_no_flags_are_exit_0_and_an_empty_stdout(self, tmp_path: Path, capsys: Any) -> None:
        assert run_cli(["rubric", "lint", self.write(tmp_path, NEUTRAL)]) == 0
        out, err = capsys.readouterr()
        assert out == ""
        assert err == "rubric r: 0 of 1 criteria flagged\n"

    def test_a_flag_is_exit_3_with_what_and_the_way_out(self, tmp_path: Path, capsys: Any) -> None:
        file = self.write(tmp_path, NEUTRAL, "Does the reply never name the customer at all?")
        assert run_cli(["rubric", "lint", file]) == 3
        out, err = capsys.readouterr()
        what, way_out = out.splitlines()
        assert what == "`c1` negative: `never name` asks for an absence"
        assert way_out.startswith("  ask for what should be there")
        assert err == "rubric r: 1 of 2 criteria flagged\n"

    def test_json_is_a_list_of_the_same_flags(self, tmp_path: Path, capsys: Any) -> None:
        asks = ["Is it right?", "Is it right?"]
        assert run_cli(["rubric", "lint", self.write(tmp_path, *asks), "--json"]) == 3
        flags = [Flag(**flag) for flag in json.loads(capsys.readouterr().out)]
        assert flags == lint(rubric(*asks))
        assert run_cli(["rubric", "lint", self.write(tmp_path, NEUTRAL), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []

    def test_a_recipe_s_own_rubric_is_found_by_name_and_by_file(self, capsys: Any) -> None:
        assert run_cli(["rubric", "lint", "grounded_qa"]) == 0
        assert "rubric grounded_qa:" in capsys.readouterr().err
        assert run_cli(["rubric", "lint", str(ROOT / "examples" / "write_graph.py")]) == 0
        assert "rubric headline:" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("file", "says"),
        [
            ("nowhere.yaml", "rubric `nowhere.yaml` cannot be read"),
            ("grounded_aq", "did you mean `grounded_qa`"),
            (".", "cannot be read"),
        ],
    )
    def test_what_cannot_be_read_is_one_line_and_exit_2(
        self, file: str, says: str, capsys: Any
    ) -> None:
        assert run_cli(["rubric", "lint", file]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert says in err
        assert len(err.splitlines()) == 1

    def test_no_escape_sequence_reaches_the_terminal(self, tmp_path: Path, capsys: Any) -> None:
        path = tmp_path / "evil.yaml"
        level = "no\x1b[2J"
        criterion = Criterion(name="a", ask=NEUTRAL, levels=("x y", level))
        evil = Rubric(name="r\x1b]0;", accept_at=0.5, criteria=(criterion,))
        path.write_text(evil.model_dump_json(), encoding="utf-8")
        assert run_cli(["rubric", "lint", str(path)]) == 3
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert "`no\\x1b[2J`" in out
