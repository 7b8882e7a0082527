"""litellm gives what the direct client gives; few tests, for its import takes seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentloop.errors import AccessError, ModelError, RefusedRequest, TransientError
from agentloop.models import limits
from agentloop.models.base import Request, Structured
from agentloop.models.limits import Limits
from agentloop.models.prices import Price
from agentloop.models.via_litellm import LitellmModel
from tests.endpoint import Endpoint
from tests.models.asking import (
    MESSAGES,
    PLAIN,
    REQUEST,
    HangUp,
    answering,
    direct,
    failing,
    nobody,
    one,
)

TOKENS = [{"token": "Yes", "logprob": -0.1, "bytes": None,
           "top_logprobs": [{"token": "Yes", "logprob": -0.1, "bytes": None}]}]  # fmt: skip
BODY = {
    "id": "c1",
    "object": "chat.completion",
    "created": 0,
    "model": "fake-2",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Yes", "reasoning_content": "hm"},
            "finish_reason": "length",
            "logprobs": {"content": TOKENS},
        }
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 5},
    },
}


def via_litellm(url: str, **more: Any) -> LitellmModel:
    return LitellmModel("openai/fake", base_url=url, api_key="none", **more)


def caught(url: str, request: Request = PLAIN) -> ModelError:
    with pytest.raises(ModelError) as found:
        one(via_litellm(url), request)
    assert "\n" not in str(found.value)
    return found.value


@pytest.mark.parametrize("structured", ["json_schema", "json_object", "prompt"])
def test_the_same_request_arrives_and_the_same_reply_leaves(
    endpoint: Endpoint, structured: Structured
) -> None:
    request = replace(REQUEST, top_logprobs=5, extra={"top_p": 0.5})
    price = Price(input=1, output=10)
    replies = [
        replace(one(model, request, structured), latency=0)
        for model in (direct(endpoint.url, price=price), via_litellm(endpoint.url, price=price))
    ]
    assert endpoint.bodies[0] == endpoint.bodies[1]
    assert replies[0] == replies[1]


def test_the_same_full_answer_is_read() -> None:
    with Endpoint(misbehave=answering(200, BODY)) as server:
        ours = one(direct(server.url))
        theirs = one(via_litellm(server.url))
    assert replace(theirs, latency=0) == replace(ours, latency=0)
    assert (theirs.finish_reason, theirs.usage.cached_tokens) == ("length", 40)
    assert theirs.logprobs == ({"Yes": -0.1},)


def test_extra_parameters_win_as_they_do_with_the_direct_client(endpoint: Endpoint) -> None:
    request = replace(PLAIN, temperature=0.5, extra={"temperature": 0.1})
    for model in (direct(endpoint.url), via_litellm(endpoint.url)):
        one(model, request)
    assert [body["temperature"] for body in endpoint.bodies] == [0.1, 0.1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedRequest),
        (422, RefusedRequest),
        (401, AccessError),
        (403, AccessError),
        (404, AccessError),
        (429, TransientError),
        (500, TransientError),
        (503, TransientError),
    ],
)
def test_a_status_is_sorted_as_by_the_direct_client(status: int, kind: type[ModelError]) -> None:
    with Endpoint(misbehave=failing(status, "because of this", Retry_After="7")) as server:
        error = caught(server.url)
        assert type(error) is kind
        assert server.requests == 1
        assert "because of this" in str(error)
        assert server.url in str(error)
    assert not isinstance(error, TransientError) or error.retry_after == 7


def test_a_refused_connection_is_known_as_one() -> None:
    with nobody() as url:
        error = caught(url)
    assert isinstance(error, TransientError)
    assert not error.connected
    assert url in str(error)


def test_broken_and_late_answers_are_transient() -> None:
    with Endpoint(misbehave=lambda *_: HangUp()) as server:
        assert isinstance(caught(server.url), TransientError)
    with Endpoint(latency=0.5) as server:
        late = caught(server.url, Request(MESSAGES, timeout=0.05))
    assert isinstance(late, TransientError)
    assert late.connected


@pytest.mark.parametrize("body", [b"", b"<html>", {}, {"choices": []}, {"choices": [{}]}])
def test_an_odd_200_is_a_model_error(body: Any) -> None:
    with Endpoint(misbehave=answering(200, body)) as server:
        caught(server.url)


async def _tries(url: str) -> int:
    model = via_litellm(url)
    try:
        return (await Limits(model, 1).complete(PLAIN, "prompt")).tries
    finally:
        await model.aclose()


def test_retries_are_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(limits, "BACKOFF", 0)
    wrong = failing(500)
    with Endpoint(misbehave=lambda body, n: wrong(body, n) if n < 3 else None) as server:
        assert asyncio.run(_tries(server.url)) == server.requests == 3
