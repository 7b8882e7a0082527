"""What a worker has of money and rate, and that both are right whenever it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.engines.till import Permits, Till, Waiting
from agentloop.errors import BudgetReached
from agentloop.models.base import Reply
from agentloop.models.budget import Budget
from agentloop.models.rate import Rate
from agentloop.store.journal import Page
from tests.models.test_limits import play

MONEY = Page("money", b"")
FAILURE = Page("failure", b"")


def reply(cost: float | None) -> Page:
    return Page("reply", b"", Reply("", cost_usd=cost))


class Sent:
    """What a worker hears from its till."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []

    def __call__(self, *message: Any) -> None:
        self.messages.append(message)


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def with_till(cap: float, act: Callable[[Till, Budget, Sent], Coroutine[Any, Any, None]]) -> Budget:
    """Let a worker act and die; return what is left of the budget."""
    budget = Budget(cap)

    async def live() -> None:
        sent = Sent()
        till = Till(budget, {}, sent)
        await act(till, budget, sent)
        till.cut_off()
        await turns()

    asyncio.run(live())
    assert budget.reserved == 0
    return budget


@pytest.mark.parametrize(
    ("pages", "spent"),
    [
        pytest.param([], 0.0, id="nothing was sent"),
        pytest.param([MONEY], 2.0, id="under way: it may be billed in full"),
        pytest.param([MONEY, reply(0.5)], 0.5, id="answered, and in the journal"),
        pytest.param([MONEY, reply(None)], 2.0, id="answered, and nobody says what it cost"),
        pytest.param([MONEY, FAILURE], 0.0, id="refused, which is free"),
    ],
)
def test_what_a_dead_worker_had_set_aside_is_booked(pages: list[Page], spent: float) -> None:
    async def act(till: Till, budget: Budget, sent: Sent) -> None:
        till.reserve(1, "a call", 2.0)
        await turns()
        assert sent.messages == [("answer", 1, None)]
        for page in pages:
            till.noted("a call", page)

    assert with_till(10.0, act).spent == spent


def test_a_worker_that_waits_for_money_and_dies_leaves_the_queue() -> None:
    async def act(till: Till, budget: Budget, sent: Sent) -> None:
        till.reserve(1, "first", 6.0)
        till.reserve(2, "second", 6.0)
        await turns()
        assert sent.messages == [("answer", 1, None)]

    budget = with_till(10.0, act)
    assert (budget.spent, budget._open) == (0.0, 0)


@pytest.mark.parametrize("late", [False, True], ids=["while it waits", "when it was granted"])
def test_a_question_that_is_called_off_sets_nothing_aside(late: bool) -> None:
    async def act(till: Till, budget: Budget, sent: Sent) -> None:
        till.reserve(1, "a call", 2.0)
        await turns(3 * late)
        till.called_off(1, "reserve", "a call")
        await turns()
        assert (budget.reserved, budget._open) == (0.0, 0)

    assert with_till(10.0, act).spent == 0.0


def test_a_budget_that_is_reached_is_the_answer() -> None:
    async def act(till: Till, budget: Budget, sent: Sent) -> None:
        till.reserve(1, "a call", 2.0)
        await turns()
        ((_, number, error),) = sent.messages
        assert number == 1
        assert isinstance(error, BudgetReached)

    with_till(1.0, act)


@given(
    per_minute=st.integers(1, 600),
    asking=st.lists(st.tuples(st.floats(0, 90), st.booleans()), min_size=1, max_size=60),
)
def test_however_many_ask_no_minute_has_more_than_its_permits(
    per_minute: int, asking: list[tuple[float, bool]]
) -> None:
    """Some give theirs back unused, which others may have."""
    permits = Permits(Rate(requests_per_minute=per_minute))
    used: list[float] = []
    given_out: list[int] = []

    async def ask(when: float, uses: bool) -> None:
        await asyncio.sleep(when)
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[int] = loop.create_future()
        permits.ask(Waiting(None, 0, granted.set_result))
        number = await granted
        given_out.append(number)
        if uses:
            used.append(loop.time())
        permits.settle(number, 0, sent=uses)

    async def work() -> None:
        await asyncio.gather(*(ask(*one) for one in asking))
        permits.close()

    play(work)
    assert len(used) == sum(uses for _, uses in asking)
    assert len(set(given_out)) == len(given_out) == len(asking)
    assert all(sum(at <= t < at + 60 - 1e-6 for t in used) <= per_minute for at in used)


def test_who_is_gone_waits_for_no_permit() -> None:
    granted: list[int] = []

    async def work() -> None:
        permits = Permits(Rate(requests_per_minute=60))
        gone, here = object(), object()
        for who in (gone, gone, here):
            permits.ask(Waiting(who, 0, granted.append))
        assert len(granted) == 1
        permits.forget(gone)
        await asyncio.sleep(1.5)
        permits.close()
        assert len(granted) == 2

    _, took = play(work)
    assert took >= 1.5
