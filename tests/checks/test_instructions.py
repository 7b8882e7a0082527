"""The 25 kinds of instruction: what each asks, what a reviser is told, what is refused."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks import Finding, run_checks
from agentloop.checks.instructions import INSTRUCTIONS, Constraint, follow, follow_all
from agentloop.checks.instructions import follows_instructions as factory
from agentloop.errors import RecipeError, SeedError, SettingsError
from agentloop.records import Json

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("AGENTLOOP_SHARED", ROOT.parent / "shared"))
IFEVAL = SHARED / "data" / "ifeval"
MODEL = importlib.util.find_spec("py3langid") is not None
NEEDS_MODEL = pytest.mark.skipif(not MODEL, reason="the language extra is not installed")

ENGLISH = "there is a river in the valley and it runs to the sea"
AT_LEAST_2: Json = {"num_words": 2, "relation": "at least"}

# kind, parameters, a text that follows, one that does not, what the reviser is told of it
CASES: list[tuple[str, Json, str, str, str]] = [
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "A BIG house",
        "One BIG house",
        "has 1 word in all capitals; at least 2 are asked",
    ),
    (
        "change_case:english_capital",
        {},
        ENGLISH.upper(),
        "A RIVER Runs HERE",
        'is not all in capital letters: see "Runs"',
    ),
    (
        "change_case:english_lowercase",
        {},
        ENGLISH,
        "a river\nRuns here",
        'is not all in lower-case letters: see "Runs"',
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": " Say it. "},
        "\nsay it. It is said.",
        "It is said.",
        'does not start with the request, repeated unchanged: "Say it."',
    ),
    (
        "combination:two_responses",
        {},
        "one\n******\ntwo",
        "one\n******\none",
        "gives the same response twice",
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        "[name] of [place]",
        "[name] of [\nplace]",
        "has 1 placeholder in square brackets; at least 2 are asked",
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.P.S"},
        "Bye.\np. p.s now",
        "Bye.\nP.S. now",
        'has no postscript that starts with "P.P.S"',
    ),
    (
        "detectable_format:constrained_response",
        {},
        "So: My answer is no.",
        "my answer is no",
        'holds none of "My answer is yes.", "My answer is no.", "My answer is maybe."',
    ),
    (
        "detectable_format:json_format",
        {},
        '```json\n{"a": [1]}\n```',
        'Here:\n{"a": 1}',
        "is not JSON as a whole: Expecting value at line 1",
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Part", "num_sections": 2},
        "Part 1\na\nPart 2\nb",
        "Part one\nPart 2",
        'has 1 section headed like "Part 1"; at least 2 are asked',
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        "* one\n  - two\n**bold**",
        "* one\n- two\n- three",
        "has 3 bullets in lines that start with `*` or `-`; exactly 2 are asked",
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        "*one* and **two**",
        "*one* and ** ** and *two\nlines*",
        "has 1 section highlighted like `*this*`; at least 2 are asked",
    ),
    (
        "detectable_format:title",
        {},
        "<<A title>>\ntext",
        "<< >>\n<<no\ntitle>>",
        "has no title in double angular brackets, like <<title>>",
    ),
    (
        "keywords:existence",
        {"keywords": ["cat", "c++"]},
        "Concatenate in C++",
        "a dog",
        'does not contain words "cat", "c++"',
    ),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["cat", "dog"]},
        "concatenate dogs",
        "The Cat sat",
        'contains the forbidden word "cat"',
    ),
    (
        "keywords:frequency",
        {"keyword": "is", "frequency": 2, "relation": "at least"},
        "This IS it",
        "He was, she is",
        'has 1 occurrence of "is"; at least 2 are asked',
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"},
        "a #",
        "# #",
        'has 2 occurrences of the letter "#"; less than 2 are asked',
    ),
    (
        "language:response_language",
        {"language": "ko"},
        "가장 가까운 기차역 (KTX)",
        "The nearest station (역)",
        "is written in Latin letters; the language `ko` is asked",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        'One.\n\n"then," he said',
        "One.\n\nSo then",
        'starts paragraph 2 with "So"; "Then" is asked',
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        "***one***\ntwo\n",
        "one\n\ntwo",
        "has 1 paragraph parted by `***`; exactly 2 are asked",
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        "Dr. J. Who said, e.g. this",
        'He came. "He saw!" he said',
        "has 3 sentences; less than 2 are asked",
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        "it's so",
        "only — two",
        "has 2 words; at least 3 are asked",
    ),
    ("punctuation:no_comma", {}, "a; b", "a, b, c", "has 2 commas; none may be used"),
    (
        "startend:end_checker",
        {"end_phrase": "The End."},
        'so.\n"the end."\n',
        "The end. Really",
        'ends with "the end. really"; it must end with "The End."',
    ),
    (
        "startend:quotation",
        {},
        ' "all of it"\n',
        '"some" of it',
        'is not wrapped as a whole in double quotation marks (")',
    ),
]
PARAMETERS = {kind: parameters for kind, parameters, *_ in CASES}
BY_MODEL = {"change_case:english_capital", "change_case:english_lowercase"}


def found(kind: str, text: str, **parameters: Any) -> Finding:
    return follow(text, kind, PARAMETERS[kind] | parameters)


def test_every_kind_of_ifeval_is_there_and_has_a_case() -> None:
    assert len(INSTRUCTIONS) == 25
    assert set(INSTRUCTIONS) == set(PARAMETERS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_a_text_that_follows_passes(case: tuple[str, Json, str, str, str]) -> None:
    kind, parameters, good, *_ = case
    if kind in BY_MODEL and not MODEL:
        with pytest.raises(SettingsError, match=r"pip install 'agentloop-data\[language\]'"):
            follow(good, kind, parameters)
        return
    assert follow(good, kind, parameters) == (True, "", 1.0)
    assert follow(good, f"en:{kind}", parameters).passed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_a_text_that_does_not_is_told_why(case: tuple[str, Json, str, str, str]) -> None:
    kind, parameters, _, bad, evidence = case
    assert follow(bad, kind, parameters) == (False, evidence, 0.0)


@pytest.mark.parametrize("kind", INSTRUCTIONS)
@pytest.mark.parametrize("text", ["", " \n\t\u2003"])
def test_an_empty_text_follows_nothing(kind: str, text: str) -> None:
    assert found(kind, text) == (False, "is empty", 0.0)


@given(st.text() | st.text("*-<>[]\"'.,! \n\x00{}1aA\ud800é語", max_size=60))
def test_any_text_is_judged(text: str) -> None:
    for kind in sorted(set(INSTRUCTIONS) - (set() if MODEL else BY_MODEL)):
        finding = found(kind, text)
        assert finding.passed == (finding.evidence == "") == (finding.fraction == 1.0)


@pytest.mark.parametrize("piece", ["*", "[", "<<a", "\n -", "!)", ". ", "{", "語"])
def test_a_text_of_a_million_characters_is_judged(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    for kind in sorted(set(INSTRUCTIONS) - (set() if MODEL else BY_MODEL)):
        assert len(found(kind, text).evidence) < 300


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("One. Two! Three?", 3),
        ("No full stop", 1),
        ("One... two", 2),
        ("“One.” (Two.) *Three.* four", 4),
        ("Mr. Holt, Mrs. Holt and J. Holt came, i.e. all", 1),
        ("So do I. And you", 2),
        ("Version 2.5 is out at example.org now.", 1),
        ("1. First\n2. Second", 3),
        ("A heading\n\nA line\nanother", 1),
        ("一つ。二つ！三つ？", 3),
        ("यह एक है। वह दो है।", 2),
    ],
)
def test_sentences_are_counted(text: str, number: int) -> None:
    kind = "length_constraints:number_sentences"
    assert found(kind, text, num_sentences=number, relation="at least").passed
    assert not found(kind, text, num_sentences=number, relation="less than").passed


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("one", "has 1 response; exactly 2 are asked, parted by `******`"),
        ("one******two******three", "has 3 responses; exactly 2 are asked, parted by `******`"),
        ("one****** ******two", "has nothing between two `******`"),
        ("******one******two******", ""),
    ],
)
def test_two_responses_are_two(text: str, evidence: str) -> None:
    assert found("combination:two_responses", text).evidence == evidence


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("a***b", ""),
        ("***a***b***", ""),
        ("a*** ***b", "has an empty paragraph between two `***`"),
        ("a***b***c", "has 3 paragraphs parted by `***`; exactly 2 are asked"),
    ],
)
def test_paragraphs_are_parted_by_asterisks(text: str, evidence: str) -> None:
    assert found("length_constraints:number_paragraphs", text).evidence == evidence


@pytest.mark.parametrize(
    ("text", "nth", "evidence"),
    [
        ("a\n\nthen", 2, ""),
        ("a\n\n\n\nthen", 3, 'starts paragraph 3 with nothing; "Then" is asked'),
        ("a\n\n\n\nthen", 2, 'starts paragraph 2 with nothing; "Then" is asked'),
        ("'Then?\n\nb", 1, ""),
        ("Thenceforth\n\nb", 1, 'starts paragraph 1 with "Thenceforth"; "Then" is asked'),
        ("then\n\nb", 0, 'starts paragraph 0 with nothing; "Then" is asked'),
        ("then", 1, "has 1 paragraph parted by an empty line; exactly 2 are asked"),
    ],
)
def test_a_paragraph_starts_with_a_word(text: str, nth: int, evidence: str) -> None:
    kind = "length_constraints:nth_paragraph_first_word"
    assert found(kind, text, nth_paragraph=nth).evidence == evidence


@pytest.mark.parametrize(
    ("text", "number"),
    [("NASA/ESA and COVID-19", 2), ("DON'T", 2), ("R&D", 2), ("3,000 I", 1), ("*WOW!* Ok", 1)],
)
def test_capital_words_are_counted_as_the_reference_parts_them(text: str, number: int) -> None:
    kind = "change_case:capital_word_frequency"
    assert found(kind, text, capital_frequency=number).passed
    assert not found(kind, text, capital_frequency=number + 1).passed


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "1" * 5000, '{"a": 1} {"b": 2}', "```\n{'a': 1}\n```", '{"a":']
)
def test_what_is_not_json_is_no_error(text: str) -> None:
    assert "is not JSON" in found("detectable_format:json_format", text).evidence


@pytest.mark.parametrize(
    ("marker", "text", "ok"),
    [
        ("P.S.", "Bye. P. s. more", True),
        ("P.S.", "Bye. PS more", False),
        ("Note:", "bye NOTE: more", True),
        ("a+", "aaa", False),
    ],
)
def test_a_postscript_starts_with_its_marker(marker: str, text: str, ok: bool) -> None:
    kind = "detectable_content:postscript"
    assert found(kind, text, postscript_marker=marker).passed is ok


@pytest.mark.parametrize("kind", sorted(BY_MODEL))
def test_a_text_without_case_has_neither_case(kind: str) -> None:
    assert found(kind, "1, 語").evidence.endswith("letters: it has no letters with a case")


def test_evidence_names_five_words_and_no_control_characters() -> None:
    words = ["a\x1b[31m", *"bcdefg"]
    finding = found("keywords:existence", "-", keywords=words)
    assert finding.evidence == (
        'does not contain words "a\\x1b[31m", "b", "c", "d", "e" and 2 more'
    )


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("punctuation:no_coma", {}, "unknown instruction `punctuation:no_coma` (did you mean"),
        ("", {}, "unknown instruction ``"),
        ("length_constraints:number_words", {"num_words": 3}, "parameter `relation` is missing"),
        ("length_constraints:number_words", {**AT_LEAST_2, "n": 1}, "there is no parameter `n`"),
        ("length_constraints:number_words", {**AT_LEAST_2, "num_words": -1}, "got `-1`"),
        ("length_constraints:number_words", {**AT_LEAST_2, "relation": "about"}, "'at least' or"),
        ("keywords:existence", {"keywords": []}, "parameter `keywords`: List should have at least"),
        ("keywords:existence", {"keywords": ["a", " "]}, "parameter `keywords.1`: String should"),
        ("keywords:letter_frequency", {"letter": "ab"}, "parameter `letter`: String should have"),
        ("language:response_language", {"language": "xq"}, "unknown language `xq`"),
        ("punctuation:no_comma", {"text": "x"}, "parameter `text`"),
    ],
)
def test_a_bad_instruction_is_named(kind: str, parameters: Json, message: str) -> None:
    with pytest.raises(SeedError) as caught:
        follow("some text", kind, parameters)
    assert message in str(caught.value)


ASKED: list[Json] = [
    {"id": "punctuation:no_comma", "parameters": {}},
    {"id": "length_constraints:number_words", "parameters": AT_LEAST_2},
    {"id": "startend:quotation"},
    {"id": "detectable_format:title", "parameters": None},
]
IFEVAL_SHAPE = {
    "instruction_id_list": ["en:" + one["id"] for one in ASKED],
    "kwargs": [{}, {**AT_LEAST_2, "letter": None}, {"keywords": None}, None],
}


@pytest.mark.parametrize(
    ("seed", "constraints"),
    [
        ({"constraints": ASKED}, "seed.constraints"),
        ({"asked": IFEVAL_SHAPE}, "seed.asked"),
        (IFEVAL_SHAPE, "seed.constraints"),
    ],
)
def test_all_that_a_seed_asks_is_followed_or_told(seed: Json, constraints: str) -> None:
    check = factory("answer", constraints=constraints)
    (result,) = asyncio.run(run_checks([check], {"answer": "one, two"}, seed))
    assert result.name == "instructions_answer"
    assert result.fraction == 0.25
    assert result.evidence == (
        "`answer` has 1 comma; none may be used. It is not wrapped as a whole in double quotation "
        'marks ("). It has no title in double angular brackets, like <<title>>'
    )
    assert asyncio.run(run_checks([check], {"answer": '"<<a>> word"'}, seed))[0].passed


def test_nothing_asked_is_followed() -> None:
    assert factory().run({"response": ""}, {"constraints": []}).passed


def test_a_missing_answer_follows_nothing() -> None:
    finding = factory().run({}, {"constraints": ASKED})
    assert finding == (False, "`response` is empty", 0.0)


BAD = [
    ({}, "there is neither a list of `{id, parameters}` nor an `instruction_id_list`"),
    ({"constraints": "no_comma"}, "there is neither a list"),
    ({"constraints": ["punctuation:no_comma"]}, "each entry must be an object"),
    ({"constraints": [{"id": "a", "kwargs": {}}]}, "each entry must be an object"),
    ({"constraints": [{"id": 3}]}, "an `id` must be text"),
    ({"constraints": [{"id": "a", "parameters": []}]}, "an `id` must be text"),
    ({"constraints": [{"id": "a:b"}]}, "unknown instruction `a:b`"),
    ({"instruction_id_list": ["a"]}, "`instruction_id_list` and `kwargs` must be lists"),
    ({"instruction_id_list": ["a"], "kwargs": []}, "there are 1 ids and 0 `kwargs`"),
]


@pytest.mark.parametrize(("record", "message"), BAD)
def test_bad_constraints_in_a_seed_are_an_error(record: Json, message: str) -> None:
    with pytest.raises(SeedError) as caught:
        factory().run({"response": "x"}, record)
    assert str(caught.value).startswith("`seed.constraints`: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(("record", "message"), BAD)
def test_bad_constraints_in_a_candidate_are_to_be_repaired(record: Json, message: str) -> None:
    check = factory(constraints="candidate.constraints")
    finding = check.run({"response": "x", **record}, {})
    assert not finding.passed
    assert finding.evidence.startswith("`constraints` cannot be checked: ")
    assert message in finding.evidence


@pytest.mark.parametrize("constraints", ["constraints", "seed", "seed.", "item.constraints", ""])
def test_constraints_come_from_a_field_of_seed_or_candidate(constraints: str) -> None:
    with pytest.raises(RecipeError, match=r"is `seed\.FIELD` or `candidate\.FIELD`"):
        factory(constraints=constraints)


@given(st.text(), st.lists(st.sampled_from(sorted(set(INSTRUCTIONS) - BY_MODEL))))
def test_the_fraction_is_the_share_followed(text: str, kinds: list[str]) -> None:
    constraints = [Constraint(kind, PARAMETERS[kind]) for kind in kinds]
    finding = follow_all(text, constraints)
    followed = sum(follow(text, *one).passed for one in constraints)
    assert finding.fraction == pytest.approx(followed / len(kinds) if kinds else 1.0)
    assert 0 <= finding.fraction <= 1
    assert finding.passed == (followed == len(kinds))


def _lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _verdicts() -> list[tuple[str, int, str, Json, str, bool]]:
    asked = _lines(IFEVAL / "en_input_data.jsonl")
    return [
        (path.stem, prompt["key"], id.removeprefix("en:"), parameters, row["response"], verdict)
        for path in sorted((IFEVAL / "responses").glob("*.jsonl"))
        for prompt, row in zip(asked, _lines(path), strict=True)
        for id, parameters, verdict in zip(
            prompt["instruction_id_list"],
            prompt["kwargs"],
            row["follow_instruction_list"],
            strict=True,
        )
    ]


@pytest.mark.skipif(not IFEVAL.is_dir(), reason="the shared IFEval data is not here")
def test_the_kinds_without_languages_agree_with_the_stored_verdicts() -> None:
    rows = [row for row in _verdicts() if row[2] not in BY_MODEL | {"language:response_language"}]
    assert len(rows) == 1478
    differ = {
        (model, key, kind)
        for model, key, kind, parameters, text, verdict in rows
        if follow(text, kind, parameters).passed != verdict
    }
    # `#` and `!`: the reference counts a random letter in their place
    letters = "keywords:letter_frequency"
    assert {(key, kind) for _, key, kind in differ} == {(1122, letters), (1129, letters)}
    assert len(differ) == 4


@NEEDS_MODEL
@pytest.mark.skipif(not IFEVAL.is_dir(), reason="the shared IFEval data is not here")
def test_languages_agree_with_the_stored_verdicts_but_for_three_texts() -> None:
    rows = [row for row in _verdicts() if row[2] in BY_MODEL | {"language:response_language"}]
    assert len(rows) == 190
    differ = {row[1] for row in rows if follow(row[4], row[2], row[3]).passed != row[5]}
    assert differ <= {1843, 3305, 3617}  # benchmarks/instructions.py says why
