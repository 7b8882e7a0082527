"""A hard cap on money: what a try may cost at worst is set aside before it is sent.

Enters: a cap, what was spent before, tries before and after they are made. Leaves: permission to
send, or BudgetReached. Refuses to know: runs, roles, the store.

A try that does not fit waits while others are in flight, for they will cost less than was set aside;
once nothing is in flight, the cap is reached. So spending passes it by the estimate's error at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from agentloop.errors import BudgetReached
from agentloop.models.base import Call, Request
from agentloop.models.estimate import answer_tokens, prompt_tokens
from agentloop.models.prices import Price


def worst_case(request: Request, price: Price) -> float:
    """Return the most that one answer to a request can cost, in USD."""
    tokens = prompt_tokens(request)
    rates = price.rates(tokens)
    dearest_input = max(rates.input, rates.cached or 0.0)
    dearest_output = max(rates.output, rates.reasoning or 0.0)
    return (tokens * dearest_input + answer_tokens(request) * dearest_output) / 1e6


class Purse(Protocol):
    """Where the money for one call is set aside."""

    async def reserve(self, amount: float) -> None:
        """Set an amount of USD aside; it may have to wait. Raises BudgetReached."""

    def settle(self, amount: float, cost: float) -> None:
        """Book what a call did cost in place of what was set aside for it."""


class Bank(Protocol):
    """Who keeps a budget."""

    def purse(self, call: Call) -> Purse:
        """Return where the money for a call is set aside."""


async def _unsaid(usd: float) -> str:
    return ""


class Budget:
    """USD that may be spent; shared by all roles of a run."""

    def __init__(self, cap: float, spent: float = 0.0):
        self.cap = cap
        self.spent = spent
        """Settled, and left open by a session that was killed."""
        self.reserved = 0.0
        self._open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def purse(self, call: Call) -> Budget:
        """Return the one purse of all calls."""
        return self

    async def reserve(self, amount: float) -> None:
        """Set an amount aside; waits for calls in flight; BudgetReached when it never will fit."""
        while self.spent + self.reserved + amount > self.cap:
            if not self._open:
                raise BudgetReached(
                    f"the budget of {self.cap:g} USD is reached: {self.spent:.4f} USD are spent, and "
                    f"the next call may cost {amount:.4f}; a higher `--budget-usd` goes on"
                )
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self.reserved += amount
        self._open += 1

    def settle(self, amount: float, cost: float) -> None:
        """Book what a call did cost in place of what was set aside for it."""
        self._open -= 1
        self.reserved = self.reserved - amount if self._open else 0.0  # no rounding is left behind
        self.spent += cost
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)


class Stake:
    """What becomes of one call: its tries, and what each may cost at worst, set aside and made safe.

    A try that was sent and brought no reply may have been billed: nobody will say what it cost, so
    what was set aside for it stays booked. Without a budget tries are only counted. `announce` writes an
    amount down and names its row.
    """

    def __init__(
        self,
        purse: Purse | None = None,
        amount: float = 0.0,
        announce: Callable[[float], Awaitable[str]] = _unsaid,
    ):
        self.tries = 0
        """Requests sent, the one that is under way included."""
        self.row = ""
        """The row that says what is set aside now."""
        self._purse = purse
        self._amount = amount
        self._announce = announce
        self._reserved = False
        self._under_way = False

    async def reserve(self) -> None:
        """Set the amount aside, unless it still is; it may have to wait. Raises BudgetReached."""
        if self._purse is not None and not self._reserved:
            await self._purse.reserve(self._amount)
            self._reserved = True

    async def send(self) -> None:
        """Take note that a try is sent now; what it may cost is safe when this returns."""
        if self._purse is not None and not self.row:
            self.row = await self._announce(self._amount)
        self.tries += 1
        self._under_way = True

    def came_back(self, *, heard: bool = True, billed: bool = False) -> None:
        """Take note of a try's end without a reply; one that nobody heard was no request."""
        self._under_way = False
        if not heard:
            self.tries -= 1
        if billed:
            self._close(self._amount)
            self.row = ""

    def settle(self, cost: float | None) -> None:
        """Book what the reply did cost; the whole amount when nobody knows."""
        self._close(self._amount if cost is None else cost)

    def cut_off(self) -> None:
        """Book a call that ends without a word: a try that is under way may be billed."""
        self.came_back(billed=self._under_way)
        self._close(0.0)

    def _close(self, cost: float) -> None:
        if self._purse is not None and self._reserved:
            self._reserved = False
            self._purse.settle(self._amount, cost)
