"""Concurrency, retries and who goes first, on a clock that jumps instead of waiting."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import (
    AccessError,
    ModelError,
    RefusedRequest,
    TransientError,
    UnreachableError,
)
from agentloop.models import limits
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.breaker import MANY, Width
from agentloop.models.limits import Limits
from agentloop.models.scripted import ScriptedModel
from tests.models.asking import PLAIN

T = TypeVar("T")


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing else is to be done."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        waiting: Any = self
        timers = waiting._scheduled
        while timers and timers[0].cancelled():  # as asyncio does, but before the jump
            waiting._timer_cancelled_count -= 1
            heapq.heappop(timers)._scheduled = False
        if not waiting._ready and timers:
            self.now = max(self.now, timers[0].when())
        super()._run_once()  # type: ignore[misc]


def play(work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T | ModelError, float]:
    """Return the result or the ModelError, and the seconds that the clock jumped."""
    random.seed(0)  # the jitter, always the same
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        try:
            result: T | ModelError = runner.run(work())
        except ModelError as error:
            result = error
        return result, runner.get_loop().time()


def complete(*script: str | Exception) -> tuple[Any, float, int]:
    """Ask once; return what came of it, the seconds it took and the requests that were made."""
    model = ScriptedModel(script)
    limited = Limits(model, 4)
    result, seconds = play(lambda: limited.complete(PLAIN, "prompt"))
    return result, seconds, len(model.requests)


def busy(retry_after: float | None = None) -> TransientError:
    return TransientError("busy", retry_after=retry_after, busy=True)


def broken() -> TransientError:
    return TransientError("broken")


@given(st.integers(0, limits.MAX_TRIES - 1))
def test_what_is_worth_it_is_tried_again_and_counted(failures: int) -> None:
    reply, seconds, asked = complete(*[broken() for _ in range(failures)], "at last")
    assert (reply.text, reply.tries, asked) == ("at last", failures + 1, failures + 1)
    assert (
        sum(0.25 * 2**n for n in range(failures))
        <= seconds
        <= sum(0.5 * 2**n for n in range(failures))
    )


def test_at_some_point_it_is_enough() -> None:
    error, _, asked = complete(*[broken() for _ in range(20)])
    assert isinstance(error, TransientError)
    assert error.tries == asked == limits.MAX_TRIES


def test_a_limit_uses_up_no_tries() -> None:
    reply, _, asked = complete(*[busy() for _ in range(3 * limits.MAX_TRIES)], "at last")
    assert (reply.text, reply.tries, asked) == ("at last", 19, 19)


def test_what_a_limit_refuses_is_told_and_no_other_failure() -> None:
    told: list[str] = []
    limited = Limits(ScriptedModel([busy(), broken(), busy(0.5), "at last"]), 4)
    limited.on_refusal = lambda: told.append("refused")
    play(lambda: limited.complete(PLAIN, "prompt"))
    assert told == ["refused"] * 2


def test_an_endpoint_that_only_refuses_is_given_up_with_patience() -> None:
    limited = Limits(Server(lambda *_: busy()), 4)
    error, seconds = play(lambda: all_at_once(limited, 8))
    assert isinstance(error, UnreachableError)
    assert limits.PATIENCE <= seconds <= limits.PATIENCE + limits.MAX_WAIT


def test_a_call_that_alone_is_refused_is_given_up_alone() -> None:
    class Choosy(Server):
        async def complete(self, request: Request, structured: Structured) -> Reply:
            if request.messages[-1]["content"] == "0":
                await asyncio.sleep(0.02)
                raise busy()
            return await super().complete(request, structured)

    async def work() -> tuple[Reply | BaseException, ...]:
        first = asyncio.create_task(limited.complete(saying(0), "prompt"))
        others = []
        for number in range(1, 400):
            others.append(await limited.complete(saying(number), "prompt"))
            await asyncio.sleep(1)
        return (*await asyncio.gather(first, return_exceptions=True), *others)

    limited = Limits(Choosy(), 4)
    found, _ = play(work)
    assert isinstance(found, tuple)
    error, *replies = found
    assert isinstance(error, TransientError)
    assert error.tries > limits.MAX_TRIES
    assert len(replies) == 399


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("per_minute", [20, 60])
def test_an_endpoint_of_few_requests_a_minute_serves_everyone(per_minute: int, named: bool) -> None:
    """It counts by fixed minutes, as many do; more calls want in than a minute bears."""
    chance = random.Random(3)
    minutes: dict[int, int] = {}

    def judge(number: int, now: float) -> Exception | None:
        minute = int(now // 60)
        minutes[minute] = minutes.get(minute, 0) + 1
        left = 60 - now % 60
        return None if minutes[minute] <= per_minute else busy(left if named else None)

    limited = Limits(Server(judge, seconds=chance.uniform(0.5, 2)), 64)
    calls = 8 * per_minute
    replies, took = play(lambda: all_at_once(limited, calls))
    assert isinstance(replies, list)
    assert took <= 60 * (calls / per_minute) * 1.3


@pytest.mark.parametrize("kind", [AccessError, RefusedRequest, UnreachableError])
def test_what_is_not_worth_it_is_asked_once(kind: type[ModelError]) -> None:
    error, seconds, asked = complete(kind("no"), "never asked")
    assert type(error) is kind
    assert (error.tries, asked, seconds) == (1, 1, 0)


def test_an_error_after_a_retry_counts_both() -> None:
    error, _, _ = complete(busy(), RefusedRequest("no"))
    assert error.tries == 2


def test_the_endpoints_wish_is_kept() -> None:
    _, seconds, _ = complete(busy(retry_after=20), "at last")
    assert 20 <= seconds <= 21


@pytest.mark.parametrize("wish", [301.0, 3600.0, 86_400.0, 1e7])
def test_no_wish_makes_a_run_sleep_for_hours(wish: float) -> None:
    error, seconds, asked = complete(busy(retry_after=wish), "never asked")
    assert isinstance(error, UnreachableError)  # nobody else was served: it means all
    assert (error.tries, asked, seconds) == (1, 1, 0)


class Counting:
    """Counts the calls in flight."""

    name = "counting"
    identity: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.now = self.peak = 0

    async def complete(self, request: Request, structured: Structured) -> Reply:
        self.now += 1
        self.peak = max(self.peak, self.now)
        await asyncio.sleep(1)
        self.now -= 1
        return Reply("x")

    async def aclose(self) -> None:
        pass


@given(st.integers(1, 20), st.integers(1, 40))
def test_no_more_calls_are_in_flight_than_allowed(allowed: int, calls: int) -> None:
    model = Counting()
    limited = Limits(model, allowed)

    async def all_at_once() -> list[Reply]:
        return await asyncio.gather(*(limited.complete(PLAIN, "prompt") for _ in range(calls)))

    replies, _ = play(all_at_once)
    assert isinstance(replies, list)
    assert len(replies) == calls
    assert model.peak == min(allowed, calls)


class Server:
    """Answers each request after some seconds; `judge` says by number and time what it gets."""

    name = "server"
    identity: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self,
        judge: Callable[[int, float], Exception | None] = lambda number, now: None,
        seconds: float = 0.02,
    ) -> None:
        self.judge = judge
        self.seconds = seconds
        self.asked: list[str] = []
        self.at: list[float] = []
        self.inside = self.peak = 0

    async def complete(self, request: Request, structured: Structured) -> Reply:
        now = asyncio.get_running_loop().time()
        self.asked.append(request.messages[0]["content"])
        self.at.append(now)
        if wrong := self.judge(len(self.asked), now):
            raise wrong
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.inside -= 1
        return Reply(request.messages[0]["content"])

    async def aclose(self) -> None:
        pass


def saying(text: object, **more: Any) -> Request:
    return Request(({"role": "user", "content": str(text)},), **more)


async def all_at_once(limited: Limits, count: int, first: int = 0) -> list[Reply]:
    numbers = range(first, first + count)
    return await asyncio.gather(*(limited.complete(saying(n), "prompt") for n in numbers))


def every_tenth(number: int, now: float) -> Exception | None:
    return busy(retry_after=1) if number % 10 == 0 else None


def test_scattered_refusals_cost_little_time() -> None:
    """The arithmetic of it: those refused twice take 2 s, whatever else is done."""
    took = {}
    for judge in (Server().judge, every_tenth):
        model = Server(judge)
        limited = Limits(model, 32)
        replies, took[judge] = play(lambda limited=limited: all_at_once(limited, 600))  # type: ignore[misc]
        assert isinstance(replies, list)
        assert len(replies) == 600
        assert model.peak >= 31
    without, with_refusals = took.values()
    assert with_refusals <= 1.5 * without + 2


@pytest.mark.parametrize("seconds", [0.02, 0.5, 10])
def test_scattered_refusals_never_narrow_for_long(seconds: float) -> None:
    chance = random.Random(7)
    model = Server(lambda *_: busy(retry_after=1) if chance.random() < 0.1 else None, seconds)
    limited = Limits(model, 32)
    _, took = play(lambda: all_at_once(limited, 6400))
    assert took <= 1.15 * 200 * seconds + 5


def test_a_call_that_waits_keeps_no_other_from_going() -> None:
    model = Server(lambda number, _: busy(retry_after=20) if number == 1 else None, seconds=1)
    limited = Limits(model, 1)
    ends: list[tuple[str, float]] = []

    async def ask(name: str) -> None:
        reply = await limited.complete(saying(name), "prompt")
        ends.append((reply.text, asyncio.get_running_loop().time()))

    async def work() -> None:
        await asyncio.gather(ask("refused"), ask("next"), ask("last"))

    play(work)
    assert ends[:2] == [("next", 1), ("last", 2)]
    (last,) = ends[2:]
    assert last[0] == "refused"
    assert 21 <= last[1] <= 22


def test_who_has_waited_goes_before_who_is_new_and_else_first_come_first_served() -> None:
    model = Server(lambda number, _: busy(retry_after=2.5) if number <= 2 else None, seconds=1)
    limited = Limits(model, 1)
    play(lambda: all_at_once(limited, 7))
    assert model.asked[:5] == ["0", "1", "2", "3", "4"]
    assert sorted(model.asked[5:7]) == ["0", "1"]
    assert model.asked[7:] == ["5", "6"]


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 6), st.floats(0, 6)), min_size=1, max_size=20),
    st.integers(1, 6),
)
def test_a_cancelled_call_leaves_no_trace(
    width: int, calls: list[tuple[float, float]], tenth: int
) -> None:
    """Cancelled when queued, inside, in back-off or just let in: all places are free after it."""
    model = Server(lambda number, _: broken() if number % tenth == 0 and number < 30 else None, 1)
    limited = Limits(model, width)

    async def one(name: int, start: float, patience: float) -> None:
        await asyncio.sleep(start)
        with contextlib.suppress(TimeoutError, TransientError):
            async with asyncio.timeout(patience):
                await limited.complete(saying(name), "prompt")

    async def work() -> float:
        await asyncio.gather(*(one(n, *times) for n, times in enumerate(calls)))
        model.judge = lambda *_: None
        await limited.complete(saying("ends a silence, if there is one"), "prompt")
        model.peak = 0
        start = asyncio.get_running_loop().time()
        await all_at_once(limited, 3 * width)
        return asyncio.get_running_loop().time() - start

    took, _ = play(work)
    assert took == pytest.approx(3)
    assert model.peak == width


def test_one_that_is_cancelled_as_it_is_let_in_gives_its_place_on() -> None:
    class Cancelling(Server):
        victim: asyncio.Task[Any] | None = None

        async def complete(self, request: Request, structured: Structured) -> Reply:
            reply = await super().complete(request, structured)
            if self.victim is not None:  # runs when its place is free, and before it knows
                asyncio.get_running_loop().call_soon(self.victim.cancel)
            return reply

    model = Cancelling(seconds=1)
    limited = Limits(model, 1)

    async def work() -> Reply:
        first, model.victim, third = (
            asyncio.create_task(limited.complete(saying(name), "prompt"))
            for name in ("first", "second", "third")
        )
        await first
        return await third

    reply, seconds = play(work)
    assert isinstance(reply, Reply)
    assert (reply.text, seconds, model.asked) == ("third", 2, ["first", "third"])


def test_a_failure_that_is_no_model_error_leaves_its_place() -> None:
    def judge(number: int, now: float) -> Exception | None:
        return ValueError("a bug") if number == 1 else None

    limited = Limits(Server(judge), 1)

    async def work() -> Reply:
        with pytest.raises(ValueError, match="a bug"):
            await limited.complete(PLAIN, "prompt")
        return await limited.complete(PLAIN, "prompt")

    assert isinstance(play(work)[0], Reply)


class TestAnotherWidth:
    """Calls are divided anew while some are under way."""

    def test_what_is_under_way_ends_and_no_more_begin(self) -> None:
        async def work() -> list[float]:
            loop, took = asyncio.get_running_loop(), list[float]()
            limits = Limits(Slow(), 6)
            calls = [asyncio.create_task(limits.complete(PLAIN, "prompt")) for _ in range(12)]
            await asyncio.sleep(0.5)
            limits.bound(2)
            await limits.fit()
            took.append(loop.time())
            limits.bound(3)
            await limits.fit()
            took.append(loop.time())
            await asyncio.gather(*calls)
            return [*took, loop.time()]

        # six at once until 1 s; then three at once, of the other six
        assert play(work)[0] == [1.0, 1.0, 3.0]

    def test_an_endpoint_bears_as_large_a_part_of_it_as_before(self) -> None:
        width = Width(16)
        for _ in range(MANY):
            width.refused(1.0, 0, 1.0)
        assert width.calls == 8
        for ceiling, calls in ((4, 2), (1, 1), (8, 4)):
            width.bound(ceiling)
            assert (width.calls, width.full) == (calls, False)

    @given(st.lists(st.integers(1, 200), min_size=1))
    def test_all_of_it_stays_all_of_it(self, ceilings: list[int]) -> None:
        width = Width(7)
        for ceiling in ceilings:
            width.bound(ceiling)
            assert (width.calls, width.full) == (ceiling, True)


class Slow:
    """A model that answers after a second."""

    name = "own/slow"
    identity = {"model": "own/slow"}  # noqa: RUF012

    async def complete(self, request: Request, structured: Structured) -> Reply:
        await asyncio.sleep(1.0)
        return Reply("well")

    async def aclose(self) -> None: ...
