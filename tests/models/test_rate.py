"""Requests and tokens per minute, on a clock that jumps instead of waiting."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import TransientError
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.limits import Limits
from agentloop.models.rate import Rate
from agentloop.records import Usage
from tests.models.test_limits import Server, all_at_once, busy, play, saying

TICK = 1e-3  # seconds that a request may be early by


def most_in_a_minute(taken: list[tuple[float, int]]) -> int:
    """Return the most that was taken in any 60 s."""
    most = total = first = 0
    for at, amount in taken:
        total += amount
        while taken[first][0] <= at - 60 + TICK:
            total -= taken[first][1]
            first += 1
        most = max(most, total)
    return most


class Metered(Server):
    """Writes down what each request takes, and tells."""

    def __init__(self, seconds: float = 0.02) -> None:
        super().__init__(seconds=seconds)
        self.taken: list[tuple[float, int]] = []

    async def complete(self, request: Request, structured: Structured) -> Reply:
        now = asyncio.get_running_loop().time()
        answer = (request.max_tokens or 0) * int(request.seed or 0) // 100
        prompt = len(request.messages[0]["content"]) // 4
        self.taken.append((now, prompt + answer))
        await super().complete(request, structured)
        return Reply("x", usage=Usage(prompt_tokens=prompt, completion_tokens=answer))


@given(st.integers(1, 600), st.integers(1, 300), st.sampled_from([0.02, 3.0]))
def test_no_minute_holds_more_requests_than_allowed(
    allowed: int, calls: int, seconds: float
) -> None:
    model = Server(seconds=seconds)
    limited = Limits(model, 64, rate=Rate(requests_per_minute=allowed))
    replies, took = play(lambda: all_at_once(limited, calls))
    assert isinstance(replies, list)
    assert most_in_a_minute([(at, 1) for at in model.at]) <= allowed
    ideal = max(60 * (calls - 1) / allowed, seconds * calls / 64)
    assert took <= 1.05 * ideal + 60 / allowed + 2 * seconds + 0.1


def test_requests_go_evenly() -> None:
    model = Server()
    limited = Limits(model, 64, rate=Rate(requests_per_minute=60))
    play(lambda: all_at_once(limited, 150))
    gaps = [later - earlier for earlier, later in pairwise(model.at)]
    assert gaps == pytest.approx([1.0] * 149, abs=0.01)


@given(
    st.integers(200, 20_000),
    st.lists(
        st.tuples(st.integers(4, 4000), st.integers(0, 500), st.integers(0, 100)),
        min_size=1,
        max_size=100,
    ),
    st.sampled_from([0.02, 5.0, 90.0]),
)
def test_no_minute_holds_more_tokens_than_allowed_but_one_request_larger_than_it(
    allowed: int, calls: list[tuple[int, int, int]], seconds: float
) -> None:
    model = Metered(seconds)
    limited = Limits(model, 16, rate=Rate(tokens_per_minute=allowed))
    asked = [saying("x" * size, max_tokens=most, seed=used) for size, most, used in calls]

    async def work() -> list[Reply]:
        return await asyncio.gather(*(limited.complete(request, "prompt") for request in asked))

    replies, _ = play(work)
    assert isinstance(replies, list)
    assert len(replies) == len(calls)
    largest = max(size // 4 + most * used // 100 for size, most, used in calls)
    assert most_in_a_minute(model.taken) <= max(allowed, largest)


def test_what_an_answer_did_not_take_is_given_back() -> None:
    model = Metered()
    limited = Limits(model, 16, rate=Rate(tokens_per_minute=60_000))
    request = saying("x" * 400, max_tokens=900, seed=10)  # 1000 estimated, 190 taken

    async def work() -> list[Reply]:
        return await asyncio.gather(*(limited.complete(request, "prompt") for _ in range(2000)))

    _, took = play(work)
    assert took == pytest.approx(2000 * 190 / 60_000 * 60, rel=0.05)


def test_an_endpoint_that_does_not_count_is_taken_at_the_estimate() -> None:
    limited = Limits(Server(), 16, rate=Rate(tokens_per_minute=6000))
    request = saying("x" * 276, max_tokens=900)  # 1000 by the estimate

    async def work() -> list[Reply]:
        return await asyncio.gather(*(limited.complete(request, "prompt") for _ in range(60)))

    _, took = play(work)
    assert took == pytest.approx(60 * 1000 / 6000 * 60, rel=0.05)


def test_every_try_is_a_request_but_not_one_that_nobody_heard() -> None:
    """Three are asked for in all; the first two meet nobody, the third is told to come again."""
    gone = TransientError("`http://h/v1`", connected=False)
    failures = {1: gone, 2: gone, 3: busy(retry_after=1)}
    model = Server(lambda number, _: failures.get(number))
    limited = Limits(model, 4, rate=Rate(requests_per_minute=1))
    replies, _ = play(lambda: all_at_once(limited, 2))
    assert isinstance(replies, list)
    assert [reply.tries for reply in replies] in ([2, 1], [1, 2])
    assert model.at == pytest.approx([0, 0.5, 1.5, 61.5, 121.5])


def test_a_request_that_is_refused_takes_no_tokens() -> None:
    model = Server(lambda number, _: busy(retry_after=1) if number == 1 else None)
    limited = Limits(model, 4, rate=Rate(tokens_per_minute=600))
    play(lambda: limited.complete(saying("x" * 400, max_tokens=400), "prompt"))
    assert model.at == [0, pytest.approx(1.05, abs=0.05)]
