"""Money and limits together: what is set aside for tries, on a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import BudgetReached, ModelError, TransientError
from agentloop.models.base import Reply
from agentloop.models.budget import Budget, Stake
from agentloop.models.limits import Limits
from agentloop.models.rate import Rate
from tests.models.test_limits import Server, busy, play, saying

GONE = TransientError("`http://h/v1`", connected=False)
CUT = TransientError("it broke off", billed=True)
BROKEN = TransientError("500")


class Bank:
    """Asks with stakes as a channel does, and keeps what was announced."""

    def __init__(self, limited: Limits, cap: float):
        self.limited = limited
        self.budget = Budget(cap)
        self.rows = itertools.count(1)
        self.tries = 0

    async def announce(self, usd: float) -> str:
        return f"row {next(self.rows)}"

    async def ask(self, name: int) -> Reply | Exception:
        stake = Stake(self.budget, 1.0, self.announce)
        try:
            reply = await self.limited.complete(saying(name), "prompt", stake)
        except ModelError as error:
            self.tries += stake.tries
            stake.settle(0.0)
            return error
        except BudgetReached as error:
            self.tries += stake.tries
            return error
        except asyncio.CancelledError:
            stake.cut_off()
            self.tries += stake.tries
            raise
        self.tries += stake.tries
        stake.settle(0.25)
        return reply


@given(
    width=st.integers(1, 6),
    calls=st.integers(1, 20),
    cap=st.floats(1, 12),
    seed=st.integers(0, 10**6),
    fault=st.sampled_from([busy(1.0), busy(), GONE, CUT, BROKEN]),
)
def test_near_the_end_of_the_money_no_fault_makes_anybody_wait_for_ever(
    width: int, calls: int, cap: float, seed: int, fault: TransientError
) -> None:
    """Who waits for money keeps nobody from the gate: all end, and nothing stays set aside."""
    chance = random.Random(seed)
    model = Server(lambda number, now: fault if chance.random() < 0.3 else None, 1)
    bank = Bank(Limits(model, width), cap)

    async def work() -> list[Any]:
        async with asyncio.timeout(3600):
            return await asyncio.gather(*(bank.ask(n) for n in range(calls)))

    found, _ = play(work)
    assert isinstance(found, list)
    assert len(found) == calls
    assert bank.budget.reserved == 0
    assert bank.budget.spent <= cap
    heard = len(model.asked) if fault is not GONE else None
    assert heard in (None, bank.tries)


@given(st.integers(0, 10**6), st.lists(st.floats(0, 8), min_size=1, max_size=12))
def test_whoever_is_cut_off_leaves_nothing_set_aside(seed: int, patience: list[float]) -> None:
    chance = random.Random(seed)
    faults = [busy(1.0), CUT, GONE, BROKEN, None, None, None]
    model = Server(lambda *_: chance.choice(faults), 1)
    bank = Bank(Limits(model, 3), 1000)

    async def one(name: int, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await bank.ask(name)
        except TimeoutError:
            pass

    async def work() -> None:
        await asyncio.gather(*(one(n, seconds) for n, seconds in enumerate(patience)))

    play(work)
    assert bank.budget.reserved == 0
    assert bank.budget._open == 0


@pytest.mark.parametrize(
    ("server", "spent"),
    [
        pytest.param(Server(lambda *_: busy(60)), 0, id="waiting after a refusal, which is free"),
        pytest.param(Server(seconds=60), 1, id="on the way, which may be billed"),
    ],
)
def test_one_who_is_cut_off_pays_for_what_may_be_billed(server: Server, spent: float) -> None:
    bank = Bank(Limits(server, 1), 10)

    async def work() -> None:
        try:
            async with asyncio.timeout(5):
                await bank.ask(1)
        except TimeoutError:
            pass

    play(work)
    assert bank.budget.spent == spent
    assert bank.tries == 1


def test_waiting_for_money_uses_up_no_requests_a_minute() -> None:
    model = Server(seconds=1)
    bank = Bank(Limits(model, 64, rate=Rate(requests_per_minute=60)), 1.5)
    bank.budget.cap = 80

    async def work() -> None:
        held = asyncio.create_task(bank.budget.reserve(79.5))
        await held
        waiting = [asyncio.create_task(bank.ask(n)) for n in range(100)]
        await asyncio.sleep(50)
        bank.budget.settle(79.5, 0.0)
        await asyncio.gather(*waiting)

    play(work)
    at = model.at
    assert max(sum(start <= t < start + 60 for t in at) for start in at) <= 60


@pytest.mark.parametrize("workers", [1, 4])
def test_calls_that_can_never_succeed_do_not_stop_those_behind_them(workers: int) -> None:
    """They fill all workers at the beginning, and look like a dead endpoint."""

    class Poisoned(Server):
        async def complete(self, request: Any, structured: Any) -> Reply:
            if int(request.messages[-1]["content"]) < workers:
                await asyncio.sleep(0.1)
                raise TransientError("500")
            return await super().complete(request, structured)

    limited = Limits(Poisoned(), workers)
    numbers = iter(range(40))
    found: list[Any] = []

    async def worker() -> None:
        for number in numbers:
            try:
                found.append(await limited.complete(saying(number), "prompt"))
            except TransientError as error:
                found.append(error)

    async def work() -> None:
        await asyncio.gather(*(worker() for _ in range(workers)))

    _, took = play(work)
    assert sum(isinstance(reply, Reply) for reply in found) == 40 - workers
    assert took < 300
