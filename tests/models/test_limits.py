"""Concurrency, retries and patience, on a clock that jumps instead of waiting."""

from __future__ import annotations

import asyncio
import contextlib
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
from agentloop.models.limits import Limits
from agentloop.models.scripted import ScriptedModel
from tests.models.asking import PLAIN

T = TypeVar("T")
GONE = TransientError("`http://h/v1`", connected=False)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing else is to be done."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        waiting: Any = self
        if not waiting._ready and waiting._scheduled:
            self.now = max(self.now, waiting._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


def play(work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T | ModelError, float]:
    """Return the result or the ModelError, and the seconds that the clock jumped."""
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
    return TransientError("busy", retry_after=retry_after)


@given(st.integers(0, limits.MAX_TRIES - 1))
def test_what_is_worth_it_is_tried_again_and_counted(failures: int) -> None:
    reply, seconds, asked = complete(*[busy() for _ in range(failures)], "at last")
    assert (reply.text, reply.tries, asked) == ("at last", failures + 1, failures + 1)
    assert (
        sum(0.25 * 2**n for n in range(failures))
        <= seconds
        <= sum(0.5 * 2**n for n in range(failures))
    )


def test_at_some_point_it_is_enough() -> None:
    error, _, asked = complete(*[busy() for _ in range(20)])
    assert isinstance(error, TransientError)
    assert error.tries == asked == limits.MAX_TRIES


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


@pytest.mark.parametrize("wish", [3600.0, 86_400.0, 1e7])
def test_no_wish_makes_a_run_sleep_for_hours(wish: float) -> None:
    _, seconds, _ = complete(busy(retry_after=wish), "at last")
    assert seconds <= limits.PATIENCE


def test_an_endpoint_that_never_answered_is_soon_unreachable() -> None:
    error, seconds, asked = complete(*[GONE] * 99)
    assert isinstance(error, UnreachableError)
    assert "nobody answers at `http://h/v1`" in str(error)
    assert "is the server running?" in str(error)
    assert asked > 1
    assert error.tries == 0  # nobody listened: no request was sent
    assert limits.FIRST_PATIENCE <= seconds <= limits.FIRST_PATIENCE + 1


@pytest.mark.parametrize("first", ["hello", busy(), RefusedRequest("no")])
def test_an_endpoint_that_has_answered_gets_more_patience(first: str | Exception) -> None:
    model = ScriptedModel([first, *[GONE] * 999])
    limited = Limits(model, 1)

    async def twice() -> Reply:
        with contextlib.suppress(RefusedRequest):
            await limited.complete(PLAIN, "prompt")
        return await limited.complete(PLAIN, "prompt")

    error, seconds = play(twice)
    assert isinstance(error, UnreachableError)
    assert limits.PATIENCE <= seconds <= limits.PATIENCE + limits.MAX_WAIT


def test_patience_is_for_one_silence_and_not_for_all_of_them() -> None:
    model = ScriptedModel([GONE, "a", GONE, GONE, "b"])
    limited = Limits(model, 1)

    async def twice() -> list[tuple[str, int]]:
        replies = [await limited.complete(PLAIN, "prompt") for _ in range(2)]
        return [(reply.text, reply.tries) for reply in replies]

    assert play(twice)[0] == [("a", 1), ("b", 1)]


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
