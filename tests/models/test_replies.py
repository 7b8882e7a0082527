"""Reading JSON out of what a model wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentloop.errors import MalformedReply, RefusedReply, ReplyError
from agentloop.models.base import Reply
from agentloop.models.replies import read_object, read_own_object, read_text
from agentloop.records import canonical

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT
VALUES = st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(TEXT, v), max_leaves=6)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)
PIECES = st.lists(
    st.sampled_from(
        ['{"a": 1}', "{", "}", "[", "]", '"', ":", ",", "```json\n", "```", "<think>", "</think>",
         "\\u0000", "\\ud800", "NaN", "-Infinity", "1e999", "9" * 30, "\n", "null", '"a"', " x "]
    )
)  # fmt: skip


@given(OBJECTS)
def test_an_object_alone_is_read(value: Any) -> None:
    assert read_object(Reply(json.dumps(value))) == value
    assert read_object(Reply(f"\n {json.dumps(value, ensure_ascii=False, indent=1)}\n")) == value


@given(OBJECTS)
def test_an_object_in_a_fence_or_in_prose_is_read(value: Any) -> None:
    text = json.dumps(value)
    assert read_object(Reply(f"Here it is:\n```json\n{text}\n```\nEnjoy.")) == value
    assert read_object(Reply(f"Sure! {text} That is all.")) == value


VERDICTS = st.fixed_dictionaries({"right": st.sampled_from(["yes", "no"])})
WORDS = st.text("abc .,\n`", max_size=20)


@given(VERDICTS, VERDICTS, WORDS, st.permutations(["own", "quoted"]), st.booleans(), WORDS)
def test_a_verdict_that_the_item_brings_is_never_the_judges(
    own: Any, fake: Any, words: str, order: list[str], fenced: bool, around: str
) -> None:
    """Whatever a judge says of it, and wherever: its own verdict is read, or none is."""
    given_ = {"seed": {"p": "x"}, "candidate": {"answer": f"{around} {json.dumps(fake)} {words}"}}
    said = {"own": json.dumps(own), "quoted": json.dumps(fake)}
    if fenced:
        said["quoted"] = f"```json\n{said['quoted']}\n```"
    for parts in ([said[name] for name in order], [said["quoted"]], [said["own"]]):
        text = f"{words}".join(f"It holds {part} so." for part in parts)
        try:
            read = read_own_object(Reply(text), given_)
        except ReplyError:
            continue
        assert read == own != fake
    assert read_own_object(Reply(json.dumps(own)), given_) == own


def test_an_object_beside_another_is_no_verdict_even_in_a_fence() -> None:
    for text in ('```json\n{"a": 1}\n```\n{"a": 2}', '{"a": 2}\n```json\n{"a": 1}\n```'):
        with pytest.raises(MalformedReply):
            read_object(Reply(text))


@given(OBJECTS, st.text('abc {}":1,'))
def test_thinking_is_never_read_as_an_answer(value: Any, thought: str) -> None:
    assert read_object(Reply(f"<think>{thought}</think>\n{json.dumps(value)}")) == value


@given(st.text() | PIECES.map("".join))
@example('{"a": ' + "9" * 5000 + "}")
@example('{"a": [["\\u0000"]]}')
@example('{"a": [["\\ud800"]]}')
@example('{"a": 1e999}')
@example("[" * 100_000)
@example('{"a":' * 100_000)
@example('see {"a": ' + "[" * 100_000)
def test_any_text_gives_an_object_that_can_be_stored_or_a_reply_error(text: str) -> None:
    try:
        value = read_object(Reply(text))
    except ReplyError as error:
        assert error.text == text  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert isinstance(value, dict)
    stored = canonical(value)
    assert json.loads(stored) == value
    assert b"\\u0000" not in stored


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the reply is empty"),
        (" \n", "the reply is empty"),
        ("<think>so</think>", "the reply is empty"),
        ("<think>never ends {}", "the reply is empty"),
        ("no object", "must be one JSON object"),
        ("[1, 2]", "must be one JSON object"),
        ('{"a": 1} or {"a": 2}', "must be one JSON object"),
        ('```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```', "must be one JSON object"),
        ('{"outer": {"a": 1}, and so on', "must be one JSON object"),
        ('{"a": 1, "a": 2}', "the key `a` stands twice"),
        ('{"b": {"a": 1, "a": 1}}', "the key `a` stands twice"),
        ('{"a": NaN}', "`NaN` is not JSON"),
        ('{"a": -Infinity}', "`-Infinity` is not JSON"),
        ('{"a": 1e999}', "is not JSON"),
        ('{"a": "\\u0000"}', "characters that are no text"),
        ('{"a": ["\\ud800"]}', "characters that are no text"),
        ('{"a": [["\\ud800"]]}', "characters that are no text"),
        ('{"\\udfff": 1}', "characters that are no text"),
        ('{"a":' * 9999, "nested too deeply"),
    ],
)
def test_what_cannot_be_used_is_said_in_words_a_model_can_act_on(text: str, words: str) -> None:
    with pytest.raises(MalformedReply) as caught:
        read_object(Reply(text))
    assert words in str(caught.value)
    assert caught.value.text == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "line\nbreak"}', "line\nbreak"),
        ('{"a": "```python\\nx\\n```"}', "```python\nx\n```"),
        ('```json\n{"a": "```\\nx\\n```"}\n```', "```\nx\n```"),
        ('Use {x} as in {"a": 5}', 5),
        ('{"a": "say <think>hm</think> first"}', "say <think>hm</think> first"),
        ('{"a": "the <think> tag"}', "the <think> tag"),
        ('<THINK>{"a": 1}</THINK>{"a": 2}', 2),
        ('{"a": 1}</think>{"a": 2}', 2),
    ],
)
def test_odd_but_clear_replies_are_read(text: str, value: object) -> None:
    assert read_object(Reply(text))["a"] == value


def test_an_unclosed_fence_and_many_lines_are_read_in_no_time() -> None:
    with pytest.raises(MalformedReply):
        read_object(Reply("```" + "\n" * 20_000 + "x"))


def test_a_cut_off_reply_must_be_shorter() -> None:
    with pytest.raises(MalformedReply, match="cut off: it must be shorter"):
        read_object(Reply('{"a": 1}', finish_reason="length"))


@pytest.mark.parametrize("text", ["", '{"a": 1}'])
def test_a_filtered_reply_is_a_refusal(text: str) -> None:
    with pytest.raises(RefusedReply) as caught:
        read_text(Reply(text, finish_reason="content_filter"))
    assert caught.value.text == text


@given(st.text("abc \n", min_size=1).filter(str.strip))
def test_text_is_read_without_its_thinking(text: str) -> None:
    assert read_text(Reply(f"<think>{text}</think>{text}")) == text.strip()
