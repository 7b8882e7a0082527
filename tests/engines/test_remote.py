"""A worker's side: its questions, its leave to send; and the wire between both."""

from __future__ import annotations

import asyncio
import pickle
import socket
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.engines.hand import Hand
from agentloop.engines.parcel import Place
from agentloop.engines.remote import LeasedPace, Permit, Questions, RemoteBank, RemoteJournal
from agentloop.engines.wire import HEAD, Message, Wire
from agentloop.engines.worker import portable
from agentloop.errors import (
    AgentloopError,
    BudgetReached,
    MalformedReply,
    StoreError,
    TransientError,
)
from agentloop.models.base import Call, CallKey, Reply, Request, Structured
from agentloop.models.limits import Limits
from agentloop.models.scripted import ScriptedModel
from tests.models.asking import PLAIN
from tests.models.test_limits import play

CALL = Call("item", CallKey("critic"), "digest", "m")


class Line(Wire):
    """A wire that keeps what is sent."""

    def __init__(self) -> None:
        super().__init__(lambda _: None, lambda: None)
        self.sent: list[Message] = []

    def send(self, *message: Any) -> None:
        self.sent.append(message)


async def turn() -> None:
    await asyncio.sleep(0)


class TestQuestions:
    def test_a_reply_is_safe_only_when_the_driver_says_so(self) -> None:
        async def work() -> None:
            line = Line()
            questions = Questions(line)
            record = asyncio.create_task(RemoteJournal("r", questions).record(CALL, Reply("hello")))
            await turn()
            ((kind, number, name, item, page),) = line.sent
            assert (kind, name, item) == ("page", "item critic/0/-/0/0/0", "item")
            assert b'"text":"hello"' in page.line
            assert page.reply.text == ""
            assert not record.done()
            questions.answered(number, None)
            await record

        asyncio.run(work())

    def test_a_driver_that_cannot_keep_it_says_why(self) -> None:
        async def work() -> None:
            line = Line()
            questions = Questions(line)
            asked = asyncio.create_task(RemoteBank(questions).purse(CALL).reserve(2.0))
            await turn()
            assert line.sent == [("reserve", 0, "item critic/0/-/0/0/0", 2.0)]
            questions.answered(0, BudgetReached("no"))
            with pytest.raises(BudgetReached):
                await asked

        asyncio.run(work())

    def test_what_is_announced_and_not_sent_is_closed(self) -> None:
        async def work() -> None:
            line = Line()
            announced = asyncio.create_task(RemoteJournal("r", Questions(line)).announce(CALL, 0.5))
            await turn()
            announced.cancel()
            with pytest.raises(asyncio.CancelledError):
                await announced
            assert [message[0] for message in line.sent] == ["page", "called_off", "page"]
            assert [line.sent[n][4].kind for n in (0, 2)] == ["money", "failure"]

        asyncio.run(work())


class TestLease:
    def test_each_call_waits_for_leave_of_its_own(self) -> None:
        async def work() -> list[Message]:
            line, limited = Line(), Limits(ScriptedModel(lambda _: "yes"), 4)
            pace = LeasedPace(line, "critic", counts_tokens=False)
            limited.share(4, pace)
            pace.wake = limited.look_again
            calls = [asyncio.create_task(limited.complete(PLAIN, "prompt")) for _ in range(3)]
            for number in range(3):
                await turn()  # the one before has come home, and the next has asked
                assert line.sent.count(("permit", "critic", 0)) == number + 1
                assert limited.model.requests == [PLAIN] * number  # type: ignore[attr-defined]
                pace.granted(Permit(number, 0))
                await asyncio.wait(calls, return_when="FIRST_COMPLETED")
                calls = [call for call in calls if not call.done()]
            return line.sent

        sent = asyncio.run(work())
        used = [(message[2], message[4]) for message in sent if message[0] == "paced"]
        assert used == [(0, True), (1, True), (2, True)]

    @pytest.mark.parametrize("tokens", [0, 40])
    def test_leave_comes_home_however_its_call_ends(self, tokens: int) -> None:
        """An answer that says no usage, a failure, a call that is cut off: booked as was thought."""
        heard = asyncio.Event()

        class Model(ScriptedModel):
            async def complete(self, request: Request, structured: Structured) -> Reply:
                if not self.requests:
                    return await super().complete(request, structured)
                heard.set()
                return await asyncio.Future()

        async def work() -> list[Message]:
            line, limited = Line(), Limits(Model([Reply("yes")]), 4)
            pace = LeasedPace(line, "critic", counts_tokens=bool(tokens))
            pace.estimate = lambda request: tokens  # type: ignore[method-assign]
            limited.share(4, pace)
            pace.wake = limited.look_again
            for number in range(2):
                call = asyncio.create_task(limited.complete(PLAIN, "prompt"))
                await turn()
                pace.granted(Permit(number, tokens))
                if number == 0:
                    await call
            await heard.wait()
            call.cancel()
            await asyncio.wait([call])
            return line.sent

        sent = [message[2:] for message in asyncio.run(work()) if message[0] == "paced"]
        assert sent == [(0, tokens, True), (1, tokens, True)]

    def test_a_failure_gives_its_leave_back_before_the_next_try(self) -> None:
        async def work() -> list[Message]:
            line, limited = Line(), Limits(ScriptedModel([TransientError("broken"), "yes"]), 4)
            pace = LeasedPace(line, "critic", counts_tokens=False)
            limited.share(4, pace)
            pace.wake = limited.look_again
            call = asyncio.create_task(limited.complete(PLAIN, "prompt"))
            for number in range(2):
                await asyncio.sleep(2)  # on a clock that jumps
                pace.granted(Permit(number, 0))
            await call
            return line.sent

        sent, _ = play(work)
        assert isinstance(sent, list)
        assert [message[2] for message in sent if message[0] == "paced"] == [0, 1]

    def test_leave_that_nobody_can_use_goes_back(self) -> None:
        line = Line()
        pace = LeasedPace(line, "critic", counts_tokens=True)
        assert pace.delay(0.0, 100) == inf
        assert pace.delay(0.0, 100) == inf
        pace.granted(Permit(7, 100))
        assert line.sent == [("permit", "critic", 100), ("paced", "critic", 7, 0, False)]
        assert pace.delay(0.0, 100) == inf
        assert line.sent[2:] == [("permit", "critic", 100)]


@given(st.lists(st.integers(1, 64), min_size=1, max_size=20), st.integers(1, 64))
def test_shares_make_up_the_whole(wholes: list[int], among: int) -> None:
    places = [Place(number, among) for number in range(among)]
    for whole in wholes:
        shares = [place.share(whole) for place in places]
        assert sum(shares) == whole
        assert max(shares) - min(shares) <= 1


class Odd(MalformedReply):
    """An error that Python cannot build again."""

    def __init__(self, one: str, other: str):
        super().__init__(f"{one} {other}")


def test_a_worker_that_nobody_waits_for_any_more_may_be_ready_or_refuse() -> None:
    async def work() -> None:
        hand = Hand(SimpleNamespace(number=0), lambda _: None, lambda: None)  # type: ignore[arg-type]
        hand._ready.cancel()
        hand._take(("ready", ""))
        hand._take(("refused", StoreError("x")))

    asyncio.run(work())


def test_what_has_come_is_heard_before_the_end_although_another_holds_the_socket() -> None:
    async def work() -> list[Message]:
        got: list[Message] = []
        ended = asyncio.Event()
        ours, theirs = socket.socketpair()
        with theirs:
            wire = await Wire.over(ours, got.append, ended.set)
            frame = pickle.dumps([("last", "word")])
            theirs.sendall(HEAD.pack(len(frame)) + frame)
            wire.drain()
            assert got == [("last", "word")]
            await ended.wait()
            wire.drain()
        return got

    assert asyncio.run(work()) == [("last", "word")]


def test_errors_come_home_as_what_they_are() -> None:
    busy = TransientError("busy", retry_after=3.0, billed=True)
    home = pickle.loads(pickle.dumps(portable(busy)))
    assert (type(home), str(home), home.retry_after, home.billed) == (
        TransientError,
        "busy",
        3.0,
        True,
    )
    assert type(portable(StoreError("x"))) is StoreError
    odd = portable(Odd("a", "b"))
    assert (type(odd), str(odd)) == (MalformedReply, "a b")
    assert isinstance(odd, AgentloopError)


MESSAGES = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.binary(max_size=300)), max_size=8)


@given(MESSAGES, st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_messages_arrive_however_they_are_cut(messages: list[Message], cuts: list[int]) -> None:
    got: list[Message] = []
    wire = Wire(got.append, lambda: None)
    frames = [pickle.dumps([message]) for message in messages]
    data = b"".join(HEAD.pack(len(frame)) + frame for frame in frames)
    for cut in [*cuts, len(data)]:
        wire.data_received(data[:cut])
        data = data[cut:]
    assert got == messages


def test_both_ends_hear_each_other_in_order_and_the_end() -> None:
    async def work() -> list[Any]:
        ours, theirs = socket.socketpair()
        got: list[Any] = []
        ended = asyncio.Event()
        one = await Wire.over(ours, got.append, lambda: None)
        other = await Wire.over(theirs, lambda message: other.send("heard", *message), ended.set)
        for number in range(100):
            one.send("number", number, b"x" * 10_000)
        while len(got) < 100:
            await turn()
        one.close()
        await ended.wait()
        other.send("to nobody")
        other.flush()
        return got

    assert [message[2] for message in asyncio.run(work())] == list(range(100))
