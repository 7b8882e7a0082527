"""A role's way to its model: the journal, the steps down, the settings, the seeds."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import AccessError, ModelError, RefusedRequest, TransientError
from agentloop.models import limits
from agentloop.models.base import (
    Call,
    CallKey,
    Model,
    NoJournal,
    Reply,
    Request,
    Structured,
    Traits,
)
from agentloop.models.channel import Channel, RoleSettings, call_seed
from agentloop.models.channel import Endpoint as Shared
from agentloop.models.direct import DirectModel
from agentloop.models.limits import Limits
from agentloop.models.scripted import ScriptedModel
from agentloop.records import Json
from tests.endpoint import Endpoint
from tests.models.asking import MESSAGES, PLAIN, REQUEST, SCHEMA

KEY = CallKey("critic", 1, "faithful")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF", 0)


class Memory:
    """A journal in memory."""

    def __init__(self) -> None:
        self.replies: dict[tuple[str, CallKey, str], Reply] = {}
        self.failures: list[tuple[str, str, int]] = []

    def recall(self, call: Call) -> Reply | None:
        return self.replies.get((call.item, call.key, call.digest))

    async def announce(self, call: Call, usd: float) -> str:
        raise AssertionError("no budget was set")

    async def record(self, call: Call, reply: Reply, row: str = "") -> None:
        self.replies[call.item, call.key, call.digest] = reply

    async def record_failure(
        self, call: Call, error: BaseException, tries: int, row: str = ""
    ) -> None:
        self.failures.append((call.model, str(error), tries))


def shared(model: Model, notes: list[str] | None = None, **traits: Any) -> Shared:
    told = [] if notes is None else notes
    return Shared(Limits(model, 8), Traits(**traits), told.append)


def channel(model: Model, journal: Any = None, role: str = "critic", **settings: Any) -> Channel:
    return Channel(role, shared(model), journal or NoJournal(), RoleSettings(**settings), 5)


def ask(role: Channel, key: CallKey = KEY, item: str = "item", **more: Any) -> Reply:
    return asyncio.run(role.ask(item, key, MESSAGES, **more))


class TestJournal:
    def test_what_was_answered_is_never_asked_again(self) -> None:
        model, journal = ScriptedModel(["first", "second"]), Memory()
        first = ask(channel(model, journal))
        assert ask(channel(model, journal)) == first
        assert len(model.requests) == 1

    @pytest.mark.parametrize(
        ("more", "settings"),
        [
            ({"key": KEY._replace(repair=1)}, {}),
            ({"item": "other"}, {}),
            ({"schema": SCHEMA}, {}),
            ({"max_tokens": 3}, {}),
            ({"temperature": 0.7}, {}),
            ({"logprobs": True}, {}),
            ({}, {"temperature": 0.3}),
            ({}, {"extra": {"top_p": 0.1}}),
        ],
    )
    def test_another_question_is_asked(self, more: Json, settings: Json) -> None:
        model, journal = ScriptedModel(["first", "second"]), Memory()
        ask(channel(model, journal))
        assert ask(channel(model, journal, **settings), **more).text == "second"

    def test_another_models_answer_is_no_answer(self) -> None:
        journal = Memory()
        ask(channel(ScriptedModel(["first"]), journal))
        other = ScriptedModel(["second"], name="scripted/other")
        assert ask(channel(other, journal)).text == "second"

    def test_a_timeout_is_no_other_question(self) -> None:
        model, journal = ScriptedModel(["first"]), Memory()
        ask(channel(model, journal))
        assert ask(channel(model, journal, timeout=1.0)).text == "first"

    def test_a_failure_is_written_down_with_its_tries_and_asked_again(self) -> None:
        model = ScriptedModel([TransientError("busy"), RefusedRequest("no"), "yes"])
        journal = Memory()
        with pytest.raises(RefusedRequest):
            ask(channel(model, journal))
        assert journal.failures == [("scripted/model", "no", 2)]
        assert ask(channel(model, journal)).text == "yes"

    @pytest.mark.parametrize("content", [5, ["x"], {"a": 1}, None, "text"])
    def test_whatever_an_endpoint_answers_is_written_down(self, content: Any) -> None:
        def odd(*_: Any) -> web.Response:
            return web.json_response({"choices": [{"message": {"content": content}}]})

        async def session(model: Model) -> None:
            try:
                with contextlib.suppress(ModelError):
                    await channel(model, journal).ask("item", KEY, MESSAGES)
            finally:
                await model.aclose()

        journal = Memory()
        with Endpoint(misbehave=odd) as server:
            asyncio.run(session(DirectModel("openai/fake", server.url)))
            assert len(journal.replies) + len(journal.failures) == 1
            tries = [r.tries for r in journal.replies.values()]
            assert sum(tries) + sum(f[2] for f in journal.failures) == server.requests


class TestSettings:
    @pytest.mark.parametrize(
        ("role", "temperature", "tokens"),
        [("generator", 0.8, 2048), ("reviser", 0.6, 2048), ("critic", 0.0, 1024)],
    )
    def test_a_role_has_its_defaults(self, role: str, temperature: float, tokens: int) -> None:
        model = ScriptedModel(["a", "b"])
        ask(channel(model, role=role))
        ask(channel(model, role=role, temperature=0.0, max_tokens=9, extra={"x": 1}, timeout=3.0))
        first, second = model.requests
        assert (first.temperature, first.max_tokens) == (temperature, tokens)
        assert (second.temperature, second.max_tokens) == (0.0, 9)
        assert (second.extra, second.timeout) == ({"x": 1}, 3.0)

    def test_a_call_may_ask_for_less(self) -> None:
        model = ScriptedModel(["a"])
        ask(channel(model, max_tokens=99, temperature=1.0), max_tokens=1, temperature=0.0)
        assert (model.requests[0].max_tokens, model.requests[0].temperature) == (1, 0.0)

    def test_parameters_are_identity_and_a_timeout_is_not(self) -> None:
        base = RoleSettings().identity("critic")
        assert RoleSettings(timeout=1.0).identity("critic") == base
        assert RoleSettings(temperature=0.0, max_tokens=1024).identity("critic") == base
        assert RoleSettings(temperature=0.1).identity("critic") != base
        assert RoleSettings(extra={"a": 1}).identity("critic") != base


class Picky:
    """An endpoint that knows some ways of asking for JSON; refuses the others with a 400."""

    name = "picky"
    identity: Json = {"model": "picky"}  # noqa: RUF012

    def __init__(self, *known: Structured) -> None:
        self.known = known
        self.asked: list[tuple[Structured, str]] = []

    async def complete(self, request: Request, structured: Structured) -> Reply:
        self.asked.append((structured, request.messages[-1]["content"]))
        if request.schema is not None and structured not in self.known:
            raise RefusedRequest(f"{structured} is not supported")
        return Reply("{}")

    async def aclose(self) -> None:
        pass


class TestStepsDown:
    @pytest.mark.parametrize(
        ("known", "asked"),
        [
            ("json_schema", ["json_schema"]),
            ("json_object", ["json_schema", "json_object"]),
            ("prompt", ["json_schema", "json_object", "prompt"]),
        ],
    )
    def test_the_next_way_is_taken_and_kept(self, known: Structured, asked: list[str]) -> None:
        model, notes = Picky(known), list[str]()
        endpoint = shared(model, notes)
        replies = [asyncio.run(endpoint.complete(REQUEST)) for _ in range(2)]
        assert [way for way, _ in model.asked] == [*asked, known]
        assert [r.tries for r in replies] == [len(asked), 1]
        assert len(notes) == (known != "json_schema")
        assert all(f"asking by `{known}` from here on" in note for note in notes)

    def test_a_schema_that_is_not_enforced_stands_in_the_last_message(self) -> None:
        model = Picky("prompt")
        asyncio.run(shared(model).complete(REQUEST))
        told = {way: text for way, text in model.asked}  # noqa: C416
        assert told["json_schema"] == MESSAGES[-1]["content"]
        for way in ("json_object", "prompt"):
            assert told[way].startswith(MESSAGES[-1]["content"])
            assert '"required":["answer"]' in told[way]

    def test_a_refusal_without_a_schema_is_the_requests_own_fault(self) -> None:
        model = ScriptedModel([RefusedRequest("too long")])
        with pytest.raises(RefusedRequest):
            asyncio.run(shared(model).complete(PLAIN))
        assert len(model.requests) == 1

    def test_once_a_way_has_worked_a_refusal_is_the_requests_own_fault(self) -> None:
        model = ScriptedModel(["{}", RefusedRequest("too long"), "{}"])
        endpoint = shared(model)
        asyncio.run(endpoint.complete(REQUEST))
        with pytest.raises(RefusedRequest) as caught:
            asyncio.run(endpoint.complete(REQUEST))
        assert (caught.value.tries, endpoint.structured) == (1, "json_schema")

    def test_refused_in_every_way_is_refused_with_all_tries_and_nothing_learnt(self) -> None:
        model, notes = Picky(), list[str]()
        endpoint = shared(model, notes)
        with pytest.raises(RefusedRequest) as caught:
            asyncio.run(endpoint.complete(REQUEST))
        assert (caught.value.tries, endpoint.structured, notes) == (3, "json_schema", [])

    def test_an_error_on_the_way_down_counts_every_request(self) -> None:
        model = ScriptedModel([RefusedRequest("no"), AccessError("401")])
        with pytest.raises(AccessError) as caught:
            asyncio.run(shared(model).complete(REQUEST))
        assert caught.value.tries == 2

    def test_a_refusal_that_comes_late_steps_down_too(self) -> None:
        asked, late = asyncio.Event(), asyncio.Event()
        gates = iter([asked, late])

        class Slow(Picky):
            async def complete(self, request: Request, structured: Structured) -> Reply:
                if structured == "json_schema":
                    gate = next(gates)
                    if gate is late:
                        asked.set()
                    await gate.wait()
                return await super().complete(request, structured)

        async def both() -> list[str]:
            endpoint = shared(Slow("json_object"))
            first = asyncio.create_task(endpoint.complete(REQUEST))
            second = asyncio.create_task(endpoint.complete(REQUEST))
            texts = [(await first).text]
            late.set()
            return [*texts, (await second).text]

        assert asyncio.run(both()) == ["{}", "{}"]

    def test_logprobs_are_given_up_once_for_the_run(self) -> None:
        notes = list[str]()
        endpoint = shared(ScriptedModel([]), notes, logprobs=True)
        endpoint.no_logprobs()
        endpoint.no_logprobs()
        assert not endpoint.logprobs
        assert notes == ["`scripted/model` gives no log-probabilities: levels are written "
                         "from here on"]  # fmt: skip


KEYS = st.builds(
    CallKey,
    st.sampled_from(["generator", "critic"]),
    st.integers(0, 3),
    st.sampled_from(["-", "a", "b"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 2),
)


@given(st.integers(), st.text(st.characters(exclude_categories=["Cs"])), KEYS, KEYS)
def test_a_calls_seed_depends_on_its_place_alone(
    seed: int, item: str, one: CallKey, other: CallKey
) -> None:
    assert 0 <= call_seed(seed, item, one) < 2**31
    assert (call_seed(seed, item, one) == call_seed(seed, item, other)) == (one == other)
    assert call_seed(seed, item, one) != call_seed(seed + 1, item, one)


def test_the_seed_is_sent_and_differs_from_repair_to_repair() -> None:
    model = ScriptedModel(["a", "b", "c"])
    for key in (KEY, KEY._replace(repair=1), KEY._replace(sample=1)):
        ask(channel(model), key)
    assert len({r.seed for r in model.requests}) == 3
