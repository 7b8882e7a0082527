"""The public test double."""

from __future__ import annotations

import pytest

from agentloop.errors import RefusedRequest, TransientError
from agentloop.models.base import Reply, Request
from agentloop.models.scripted import ScriptedModel
from tests.models.asking import PLAIN, ask, one


def test_a_list_is_answered_in_order_and_then_used_up() -> None:
    model = ScriptedModel(["a", Reply("b", finish_reason="length")])
    replies = ask(model, PLAIN, PLAIN)
    assert [(r.text, r.finish_reason) for r in replies] == [("a", "stop"), ("b", "length")]
    with pytest.raises(RefusedRequest, match="the script is used up"):
        one(model)
    assert model.requests == [PLAIN] * 3


def test_a_function_sees_the_request() -> None:
    def answer(request: Request) -> str:
        return request.messages[-1]["content"].upper()

    reply = one(ScriptedModel(answer, name="scripted/judge"))
    assert reply.text == PLAIN.messages[0]["content"].upper()
    assert reply.usage.prompt_tokens == reply.usage.completion_tokens > 0
    assert reply.cost_usd == 0


def test_an_exception_in_the_script_is_raised() -> None:
    with pytest.raises(TransientError, match="busy"):
        one(ScriptedModel([TransientError("busy")]))


def test_its_name_is_its_identity() -> None:
    assert ScriptedModel([]).identity == {"model": "scripted/model", "endpoint": None}
    assert ScriptedModel([], name="scripted/b").identity["model"] == "scripted/b"
