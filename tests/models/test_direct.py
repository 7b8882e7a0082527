"""The lean client, against a loopback server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from email.utils import formatdate
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import AccessError, ModelError, RefusedRequest, TransientError
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.direct import DirectModel
from agentloop.models.prices import Price
from agentloop.models.wire import (
    clean,
    error_message,
    load_json,
    openai_parameters,
    read_logprobs,
    read_usage,
    retry_after,
)
from agentloop.records import Json, Usage, canonical
from tests.endpoint import Endpoint, completion
from tests.models.asking import (
    MESSAGES,
    PLAIN,
    REQUEST,
    SCHEMA,
    HangUp,
    answering,
    ask,
    direct,
    failing,
    nobody,
    one,
)

SECRET = "sk-very-secret-0123456789"


def chat(message: Any = None, **more: Any) -> Json:
    message = {"content": "hello"} if message is None else message
    return {
        "choices": [{"message": message, "finish_reason": "stop"} | more.pop("choice", {})]
    } | more


class TestRequest:
    def test_it_says_what_was_asked_and_nothing_else(self, endpoint: Endpoint) -> None:
        one(direct(endpoint.url), REQUEST)
        assert endpoint.bodies == [
            {
                "model": "fake",
                "messages": list(MESSAGES),
                "temperature": 0.5,
                "max_tokens": 64,
                "seed": 7,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True},
                },
            }
        ]
        assert "Authorization" not in endpoint.headers[0]

    @pytest.mark.parametrize(
        ("structured", "kind"),
        [("json_schema", "json_schema"), ("json_object", "json_object"), ("prompt", None)],
    )
    def test_json_is_asked_for_as_told(self, structured: Structured, kind: str | None) -> None:
        body = openai_parameters(REQUEST, structured)
        assert body.get("response_format", {}).get("type") == kind
        assert "response_format" not in openai_parameters(PLAIN, structured)

    def test_logprobs_zero_temperature_and_extras_are_sent(self, endpoint: Endpoint) -> None:
        extra = {"top_p": 0.5, "temperature": 0.1}
        one(direct(endpoint.url), Request(MESSAGES, temperature=0, top_logprobs=5, extra=extra))
        body = endpoint.bodies[0]
        assert (body["logprobs"], body["top_logprobs"]) == (True, 5)
        assert (body["top_p"], body["temperature"]) == (0.5, 0.1)
        one(direct(endpoint.url), Request(MESSAGES, temperature=0))
        assert endpoint.bodies[1]["temperature"] == 0

    def test_the_key_travels_in_its_header(self, endpoint: Endpoint) -> None:
        one(direct(endpoint.url + "/", api_key=SECRET))
        assert endpoint.headers[0]["Authorization"] == f"Bearer {SECRET}"

    @pytest.mark.parametrize(
        ("name", "sent"),
        [("openai/a/b", "a/b"), ("hosted_vllm/org/model", "org/model"), ("openai/x:y", "x:y")],
    )
    def test_the_prefix_stays_here(self, endpoint: Endpoint, name: str, sent: str) -> None:
        one(DirectModel(name, endpoint.url))
        assert endpoint.bodies[0]["model"] == sent

    def test_its_identity_is_what_the_user_named(self) -> None:
        assert direct("http://h/v1", api_key=SECRET).identity == {
            "model": "openai/fake",
            "endpoint": "http://h/v1",
        }
        assert direct("http://h:1/v1", identity={"weights": "w"}).identity == {"weights": "w"}

    def test_text_that_is_not_ascii_arrives(self, endpoint: Endpoint) -> None:
        messages = ({"role": "user", "content": "Grüße 東京 🙂 \u2028"},)
        one(direct(endpoint.url), Request(messages))
        assert endpoint.bodies[0]["messages"] == list(messages)


class TestReply:
    def test_it_carries_text_usage_cost_and_what_was_said_besides(self) -> None:
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 40},
            "completion_tokens_details": {"reasoning_tokens": 5},
        }
        message = {"content": "hello", "reasoning_content": "hm"}
        body = chat(
            message, usage=usage, id="c1", model="fake-2", choice={"finish_reason": "length"}
        )
        with Endpoint(misbehave=answering(200, body)) as server:
            reply = one(direct(server.url, price=Price(input=1, output=10)))
        assert (reply.text, reply.finish_reason, reply.tries) == ("hello", "length", 1)
        assert reply.usage == Usage(
            prompt_tokens=100, completion_tokens=20, cached_tokens=40, reasoning_tokens=5
        )
        assert reply.cost_usd == pytest.approx(300e-6)
        assert reply.raw == {"model": "fake-2", "id": "c1", "reasoning": "hm"}
        assert reply.latency > 0

    def test_an_unknown_price_is_no_cost_and_no_zero(self, endpoint: Endpoint) -> None:
        assert one(direct(endpoint.url)).cost_usd is None

    def test_logprobs_are_read_for_each_answer_token(self) -> None:
        tops = [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": -2.5}]
        tokens = [{"token": "Yes", "logprob": -0.1, "top_logprobs": tops},
                  {"token": ".", "logprob": -0.5, "top_logprobs": []}]  # fmt: skip
        body = chat(choice={"logprobs": {"content": tokens}})
        with Endpoint(misbehave=answering(200, body)) as server:
            reply = one(direct(server.url))
        assert reply.logprobs == ({"Yes": -0.1, "No": -2.5}, {".": -0.5})

    @pytest.mark.parametrize("data", [None, {}, {"content": None}, {"content": []}])
    def test_no_logprobs_are_none(self, data: Any) -> None:
        assert read_logprobs(data) is None

    def test_a_refusal_is_a_filtered_answer(self) -> None:
        body = chat({"content": None, "refusal": "I cannot help with that."})
        with Endpoint(misbehave=answering(200, body)) as server:
            reply = one(direct(server.url))
        assert (reply.text, reply.finish_reason) == ("", "content_filter")

    def test_a_lone_surrogate_becomes_a_replacement_character(self) -> None:
        raw = b'{"choices": [{"message": {"content": "a\\ud800b \\ud83d\\ude42"}}]}'
        with Endpoint(misbehave=answering(200, raw)) as server:
            assert one(direct(server.url)).text == "a\ufffdb 🙂"

    @pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}])
    def test_missing_usage_counts_nothing(self, usage: Any) -> None:
        assert read_usage(usage or {}) == Usage()

    def test_one_session_serves_many_requests(self, endpoint: Endpoint) -> None:
        assert len(ask(direct(endpoint.url), *[PLAIN] * 20)) == endpoint.requests == 20

    def test_a_closed_model_can_be_asked_and_closed_again(self, endpoint: Endpoint) -> None:
        model = direct(endpoint.url)
        assert one(model).text == one(model).text
        asyncio.run(model.aclose())


def caught(model: DirectModel, request: Request = PLAIN) -> ModelError:
    with pytest.raises(ModelError) as found:
        one(model, request)
    assert "\n" not in str(found.value)
    return found.value


class TestFailures:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [(400, RefusedRequest), (413, RefusedRequest), (422, RefusedRequest), (401, AccessError),
         (403, AccessError), (404, AccessError), (408, TransientError), (409, TransientError),
         (429, TransientError), (500, TransientError), (503, TransientError),
         (529, TransientError)],
    )  # fmt: skip
    def test_a_status_is_sorted_by_what_can_be_done(
        self, status: int, kind: type[ModelError]
    ) -> None:
        with Endpoint(misbehave=failing(status, "because of this")) as server:
            error = caught(direct(server.url))
            assert type(error) is kind
            assert server.url in str(error)
            assert "because of this" in str(error)
            assert str(status) in str(error) or status == 404
            assert server.requests == 1

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refused_key_names_its_variable(self, status: int) -> None:
        with Endpoint(misbehave=failing(status)) as server:
            error = caught(direct(server.url, api_key=SECRET, key_variable="OPENAI_API_KEY"))
        assert "is `OPENAI_API_KEY` set and right?" in str(error)

    @pytest.mark.parametrize("status", [400, 401, 429, 500])
    def test_a_key_that_an_endpoint_repeats_is_in_no_error(self, status: int) -> None:
        with Endpoint(misbehave=failing(status, f"Incorrect API key: {SECRET}")) as server:
            error = caught(direct(server.url, api_key=SECRET, key_variable="OPENAI_API_KEY"))
        assert SECRET not in str(error)

    def test_a_wrong_path_or_model_says_what_a_base_url_looks_like(self) -> None:
        with Endpoint() as server:
            error = caught(direct(server.url.removesuffix("/v1")))
        assert type(error) is AccessError
        assert "`fake`" in str(error)
        assert "usually ends in `/v1`" in str(error)

    @pytest.mark.parametrize(
        ("wish", "seconds"), [("7", 7.0), ("0.5", 0.5), ("soon", None), ("-3", 0.0)]
    )
    def test_the_wish_to_wait_is_carried(self, wish: str, seconds: float | None) -> None:
        with Endpoint(misbehave=failing(429, Retry_After=wish)) as server:
            error = caught(direct(server.url))
        assert isinstance(error, TransientError)
        assert error.retry_after == seconds
        assert error.connected

    def test_a_refused_connection_names_the_address(self) -> None:
        with nobody() as url:
            error = caught(direct(url))
        assert isinstance(error, TransientError)
        assert not error.connected
        assert url in str(error)

    @pytest.mark.skipif(sys.platform != "linux", reason="a full backlog refuses elsewhere")
    def test_a_host_that_never_picks_up_is_no_connection(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentloop.models.direct.CONNECT_TIMEOUT", 0.2)
        with contextlib.ExitStack() as held:
            full = held.enter_context(socket.socket())
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):
                waiting = held.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            error = caught(direct(f"http://127.0.0.1:{full.getsockname()[1]}/v1"))
        assert isinstance(error, TransientError)
        assert not error.connected

    def test_a_connection_that_breaks_off_is_transient(self) -> None:
        with Endpoint(misbehave=lambda *_: HangUp()) as server:
            error = caught(direct(server.url))
        assert isinstance(error, TransientError)
        assert error.connected
        assert server.url in str(error)

    def test_an_endpoint_that_takes_too_long_is_transient(self) -> None:
        with Endpoint(latency=0.5) as server:
            error = caught(direct(server.url), Request(MESSAGES, timeout=0.05))
        assert isinstance(error, TransientError)
        assert "did not answer within 0.05 s" in str(error)

    def test_https_where_http_is_spoken_says_so(self, endpoint: Endpoint) -> None:
        error = caught(direct(endpoint.url.replace("http:", "https:")))
        assert "ssl" in str(error).lower() or "tls" in str(error).lower()

    def test_a_redirect_leads_nowhere(self, endpoint: Endpoint) -> None:
        for status in (301, 302, 307, 308):
            away = answering(status, "", Location=f"{endpoint.url}/chat/completions")
            with Endpoint(misbehave=away) as server:
                caught(direct(server.url, api_key=SECRET))
        assert endpoint.requests == 0

    @pytest.mark.parametrize("key", ["with\nnewline", "with\r\nHost: evil", "nul\0"])
    def test_a_key_that_is_no_header_is_an_access_error(self, endpoint: Endpoint, key: str) -> None:
        error = caught(direct(endpoint.url, api_key=key, key_variable="OPENAI_API_KEY"))
        assert isinstance(error, AccessError)
        assert "OPENAI_API_KEY" in str(error)
        assert key not in str(error)


ODD: list[Any] = [
    b"", b"<html>busy</html>", b"[" * 100_000, b"\xff\xfe", [], None, 5, "words", {},
    {"error": {"message": "no credits left"}}, {"choices": []}, {"choices": None},
    {"choices": {}}, {"choices": [None]}, {"choices": ["x"]}, {"choices": [{}]},
    {"choices": [{"message": None}]}, {"choices": [{"message": "x"}]},
    chat({"content": 5}), chat({"content": {"a": 1}}), chat({"content": ["x"]}),
    chat(usage=[1]), chat(usage="many"), chat(usage={"prompt_tokens": "many"}),
    chat(usage={"prompt_tokens": 1.5}), chat(usage={"prompt_tokens_details": [1]}),
    chat(usage={"prompt_tokens": -5}), chat(usage={"prompt_tokens": 10**40}),
    chat(choice={"logprobs": [1]}), chat(choice={"logprobs": {"content": "x"}}),
    chat(choice={"logprobs": {"content": [{}]}}),
    chat(choice={"logprobs": {"content": [{"token": None, "logprob": -1}]}}),
    chat(choice={"logprobs": {"content": [{"token": "a", "logprob": None}]}}),
    chat(choice={"finish_reason": 5}), chat(id=5, model=[1]),
]  # fmt: skip


def storable(reply: Reply) -> bool:
    usage = reply.usage.model_dump()
    canonical([reply.text, reply.finish_reason, reply.raw, reply.logprobs, usage])
    return all(count >= 0 for count in usage.values())


class TestOddAnswers:
    @pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
    def test_a_200_of_any_shape_is_a_reply_or_a_model_error(self, body: Any) -> None:
        raw = body if isinstance(body, bytes) else _dumps(body)
        with Endpoint(misbehave=answering(200, raw)) as server:
            try:
                reply = one(direct(server.url))
            except ModelError as error:
                assert server.url in str(error)  # noqa: PT017
                return
        assert storable(reply)

    def test_what_a_200_says_went_wrong_is_passed_on(self) -> None:
        with Endpoint(misbehave=answering(200, {"error": {"message": "no credits"}})) as server:
            assert "no credits" in str(caught(direct(server.url)))

    def test_content_in_parts_is_text(self) -> None:
        parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
        with Endpoint(misbehave=answering(200, chat({"content": parts}))) as server:
            assert one(direct(server.url)).text == "hello"


def _dumps(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        return str(body).replace("'", '"').replace("None", "null").encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.text())
def test_cleaned_text_can_be_stored_and_is_otherwise_the_same(text: str) -> None:
    whole = not any("\ud800" <= c <= "\udfff" for c in text)
    assert (clean(text) == text) or not whole
    clean(text).encode()


@given(st.text() | st.floats().map(str) | st.datetimes().map(str))
def test_a_wish_is_a_time_from_now_or_none(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("value", "wished"), [("3", 3), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("nan", None)]
)
def test_a_wish_is_seconds_or_a_date_gone_by(value: str, wished: float | None) -> None:
    assert retry_after(value) == wished


def test_a_wish_is_a_date_to_come() -> None:
    before = int(time.time())
    seconds = retry_after(formatdate(before + 3600, usegmt=True))
    after = time.time()
    assert seconds is not None
    assert before + 3600 - after <= seconds <= 3600


@pytest.mark.parametrize("value", [None, "", "soon", "inf", "1e999", "²"])
def test_an_unreadable_wish_is_none(value: str | None) -> None:
    assert retry_after(value) is None


@given(st.binary() | JSON.map(lambda v: str(v).encode("utf-8", "replace")))
def test_what_went_wrong_is_one_short_line(raw: bytes) -> None:
    said = error_message(raw)
    assert len(said) <= 200
    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize(
    ("raw", "said"),
    [(b'{"error": {"message": "no\\n such"}}', "no such"), (b'{"error": "no"}', "no"),
     (b'{"message": "no"}', "no"), (b'{"detail": "no"}', "{'detail': 'no'}"), (b"no", "no"),
     (b'["no"]', "['no']"), (b"", "")],
)  # fmt: skip
def test_what_went_wrong_is_found_in_many_shapes(raw: bytes, said: str) -> None:
    assert error_message(raw) == said


@given(st.binary())
def test_any_body_is_json_or_a_transient_error(raw: bytes) -> None:
    try:
        load_json(raw, "`x`")
    except TransientError as error:
        assert "without JSON" in str(error)  # noqa: PT017


def test_the_loopback_server_misbehaves_by_number() -> None:
    def second_fails(body: Json, number: int) -> web.Response | None:
        return web.json_response(completion(body), status=500) if number == 2 else None

    with Endpoint(misbehave=second_fails) as server:
        one(direct(server.url))
        assert isinstance(caught(direct(server.url)), TransientError)
