"""Whatever a critic says, a grade is one that the rubric's schema allows, or there is none.

The schema is checked by hand here, from its text alone, so that the code that reads replies is not its
own witness.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentloop.agents import Agents
from agentloop.errors import MalformedReply, RefusedReply
from agentloop.models.base import NoJournal, Reply
from agentloop.models.channel import Channel, Endpoint, RoleSettings
from agentloop.models.choose import traits_of
from agentloop.models.limits import Limits
from agentloop.models.replies import read_object
from agentloop.records import Json, Mark
from agentloop.rubric import parse_rubric
from agentloop.state import Context
from tests.builders import agent, draft, tiny

PASSAGE = "The river Elbe rises in the Giant Mountains and flows into the North Sea near Cuxhaven."
CANDIDATE = {"question": "Where does it rise?", "answer": "In the Giant Mountains."}
RUBRIC = """
name: three
accept_at: 0.8
criteria:
  - {name: right, ask: "Is it right?", floor: "yes"}
  - {name: clear, ask: "Is it clear?", levels: [muddy, plain, lucid], weight: 2}
  - {name: grounded, ask: "Does the passage carry it?", evidence: quote}
"""
LEVELS = {"right": ["no", "yes"], "clear": ["muddy", "plain", "lucid"], "grounded": ["no", "yes"]}
RULES = parse_rubric(RUBRIC, "here")
GOOD: Json = {
    "right": {"reason": "so it says", "level": "yes"},
    "clear": {"reason": "", "level": "plain"},
    "grounded": {"quote": "rises in the Giant Mountains", "reason": "", "level": "yes"},
}

EDGES = ".,;:!?()[]\"'-"
TEXT = st.text(max_size=20)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
WORDS = st.sampled_from([*LEVELS, "quote", "reason", "level", "score", "verdict"])
LEVEL = st.sampled_from(["no", "yes", "muddy", "plain", "lucid", "Yes", " yes", "superb", ""])
QUOTES = st.sampled_from(
    ["rises in the Giant Mountains", "rises in the", "The river Rhine", "e", ""]
)
MARKS = st.fixed_dictionaries(
    {"level": LEVEL | LEAVES}, optional={"quote": QUOTES | LEAVES, "reason": TEXT, "score": LEAVES}
)
VALUES = st.recursive(
    LEAVES | MARKS,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(WORDS | TEXT, v, max_size=3),
    max_leaves=8,
)
GRADES = st.fixed_dictionaries({}, optional=dict.fromkeys(LEVELS, MARKS | VALUES))


def spliced(draw: Any) -> str:
    """Cut something out of a good reply and put something else there."""
    text = json.dumps(GOOD)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 40)))
    put = draw(TEXT | st.sampled_from(['"', "{", "}", '"level": "yes", ', "null", "\\", "<think>"]))
    return f"{text[:start]}{put}{text[end:]}"


@st.composite
def splices(draw: st.DrawFn) -> str:
    return spliced(draw)


@st.composite
def wrapped(draw: st.DrawFn) -> str:
    """Put a reply, or two, into a fence, into prose, behind a thought."""
    inner = json.dumps(draw(GRADES | st.just(GOOD)))
    before = draw(
        TEXT | st.sampled_from(["```json\n", "<think>", "</think>", inner, "Sure: ", "["])
    )
    after = draw(TEXT | st.sampled_from(["\n```", "</think>" + inner, "]", inner, "}"]))
    return before + inner + after


def twice(reply: Json) -> str:
    """Write a reply whose every criterion stands twice."""
    text = json.dumps(reply)
    return text[:-1] + ", " + text[1:] if reply else text


SAID = (
    st.text()
    | VALUES.map(json.dumps)
    | GRADES.map(json.dumps)
    | GRADES.map(twice)
    | splices()
    | wrapped()
)
FINISHED = st.sampled_from(["stop", "stop", "stop", "length", "content_filter", "tool_calls"])
REPLIES = st.builds(Reply, SAID, finish_reason=FINISHED)

Problem: TypeAlias = str | None


def problem_of(marks: tuple[Mark, ...]) -> Problem:
    """Say what the rubric forbids about these marks; None when it allows them."""
    if [m.criterion for m in marks] != list(LEVELS):
        return "not one mark for each criterion"
    for mark in marks:
        levels = LEVELS[mark.criterion]
        if mark.level not in levels:
            return f"{mark.level} is no level of {mark.criterion}"
        if mark.value != levels.index(mark.level) / (len(levels) - 1):
            return "a value that is not its level's"
        if mark.criterion == "grounded" and mark.level == "yes" and not stands(mark.quote):
            return f"{mark.quote!r} does not stand in the passage"
    return None


def stands(quote: str) -> bool:
    """Whether every word of a quote is one of the passage's, or spelled much like it."""
    known = [word.strip(".") for word in PASSAGE.casefold().split()]
    words = [word.strip(EDGES) for word in quote.casefold().split()]
    return any(words) and all(not w or get_close_matches(w, known, 1, 0.7) for w in words)


def problem_with(schema: Json, value: object) -> Problem:
    """Say what a JSON schema of the kind that is sent to critics forbids about a value."""
    if schema["type"] == "string":
        allowed = schema.get("enum")
        fits = isinstance(value, str) and (allowed is None or value in allowed)
        return None if fits else f"{value!r} is not allowed"
    if not isinstance(value, dict) or value.keys() != schema["properties"].keys():
        return f"{value!r} has not the keys asked for"
    parts = (problem_with(part, value[key]) for key, part in schema["properties"].items())
    return next((found for found in parts if found), None)


def written(marks: tuple[Mark, ...]) -> Json:
    """Write a grade as the reply that a critic is asked for."""
    return {
        mark.criterion: {"reason": mark.reason, "level": mark.level}
        | ({"quote": mark.quote} if mark.criterion == "grounded" else {})
        for mark in marks
    }


@settings(max_examples=8 * settings().max_examples)
@given(REPLIES)
@example(Reply(json.dumps(GOOD)))
@example(Reply(json.dumps(GOOD), finish_reason="length"))
def test_a_reply_gives_marks_that_the_schema_allows_or_a_complaint(reply: Reply) -> None:
    try:
        marks = RULES.read_marks(read_object(reply), {"passage": PASSAGE}, CANDIDATE)
    except (MalformedReply, RefusedReply) as error:
        assert str(error).strip()  # noqa: PT017
        return
    assert reply.finish_reason not in ("length", "content_filter")
    assert problem_of(marks) is None
    assert problem_with(RULES.reply_schema, written(marks)) is None
    for mark in marks:
        assert json.dumps(mark.level)[1:-1] in reply.text, "a level that nobody wrote"


def test_the_witness_can_tell_good_from_bad() -> None:
    marks = RULES.read_marks(GOOD, {"passage": PASSAGE}, CANDIDATE)
    assert problem_of(marks) is problem_with(RULES.reply_schema, written(marks)) is None
    bad = marks[0].model_copy(update={"level": "superb"})
    assert problem_of((bad, *marks[1:]))
    assert problem_with(RULES.reply_schema, written((bad, *marks[1:])))
    assert problem_of(marks[1:])
    assert problem_of((*marks[:2], marks[2].model_copy(update={"quote": "The river Rhine"})))


Play: TypeAlias = Callable[[list[Reply]], Json]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Walk one item through the graph, its critic saying the given replies."""
    recipe = tiny(tmp_path_factory.mktemp("parsing"), RUBRIC, reads=("passage",))
    graph, kit = recipe.compile(), recipe.load()

    def walk(replies: list[Reply]) -> Json:
        model = agent(generate=draft(CANDIDATE["answer"]), critique=replies, revise="no")
        endpoint = Endpoint(Limits(model, 1), traits_of(model))
        channels = {
            role: Channel(role, endpoint, NoJournal(), RoleSettings(), seed=0)
            for role in ("generator", "critic", "reviser")
        }
        agents = Agents("item", channels, kit.prompts, kit.rubric, recipe.candidate)
        given = {"item": "item", "seed": {"passage": PASSAGE}, "inputs": {"sample": 0}}
        state: Json = asyncio.run(
            graph.ainvoke(given, context=Context(agents=agents, max_rounds=0))
        )
        return state

    return walk


@given(replies=st.lists(REPLIES, min_size=3, max_size=3))
@example(replies=[Reply("no"), Reply("still no"), Reply(json.dumps(GOOD))])
@example(replies=[Reply("no")] * 3)
def test_an_item_is_graded_by_the_rubric_or_ungradable(play: Play, replies: list[Reply]) -> None:
    """Nothing that a critic says three times makes the graph fail, or a score of its own."""
    state = play(replies)
    verdict, (attempt,) = state["verdict"], state["attempts"]
    if verdict["verdict"] == "ungradable":
        assert verdict["reason"] in ("judge_unreadable", "refused")
        assert (verdict["score"], attempt["grade"]) == (None, None)
        return
    marks = tuple(Mark.model_validate(mark) for mark in attempt["grade"]["marks"])
    assert problem_of(marks) is None
    right, clear, grounded = (mark.value for mark in marks)
    score = (right + 2 * clear + grounded) / 4
    assert verdict["score"] == pytest.approx(score)
    assert (verdict["verdict"] == "accepted") == (right == 1 and score >= 0.8)


def test_both_ends_are_reached(play: Play) -> None:
    good = json.dumps({**GOOD, "clear": {"reason": "", "level": "lucid"}})
    assert play([Reply("no"), Reply("no"), Reply(good)])["verdict"]["verdict"] == "accepted"
    ended = play([Reply("no")] * 3)["verdict"]
    assert (ended["verdict"], ended["reason"]) == ("ungradable", "judge_unreadable")
