"""A hard cap on money: what a call may cost at worst is set aside before it is sent.

Enters: a cap, what was spent before, calls before and after they are made. Leaves: permission to
send, or BudgetReached. Refuses to know: runs, roles, the store.

A call that does not fit waits while others are in flight, for they will cost less than was set aside;
once nothing is in flight, the cap is reached. So spending passes it by the estimate's error at most.
"""

from __future__ import annotations

import asyncio
from collections import deque

import orjson

from agentloop.errors import BudgetReached
from agentloop.models.base import Request
from agentloop.models.prices import Price

BYTES_A_TOKEN = 3  # of UTF-8; English has about four, so this errs to the safe side
TOKENS_A_MESSAGE = 8
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def prompt_tokens(request: Request) -> int:
    """Return how many tokens a request's prompt has, estimated to the safe side."""
    size = sum(len(message["content"].encode()) for message in request.messages)
    if request.schema is not None:
        size += len(orjson.dumps(request.schema))
    return size // BYTES_A_TOKEN + TOKENS_A_MESSAGE * len(request.messages)


def worst_case(request: Request, price: Price) -> float:
    """Return the most that one answer to a request can cost, in USD."""
    dearest_input = max(price.input, price.cached or 0.0)
    dearest_output = max(price.output, price.reasoning or 0.0)
    answer = _answer_tokens(request) * dearest_output
    return (prompt_tokens(request) * dearest_input + answer) / 1e6


def _answer_tokens(request: Request) -> int:
    """Return the most tokens that may be answered; parameters of one's own win, as in the request."""
    asked = [request.max_tokens, *(request.extra.get(name) for name in LIMITS)]
    most = max(n for n in [0, *asked] if isinstance(n, int))
    copies = request.extra.get("n", 1)
    return most * (copies if isinstance(copies, int) and copies > 0 else 1)


class Budget:
    """USD that may be spent; shared by all roles of a run."""

    def __init__(self, cap: float, spent: float = 0.0):
        self.cap = cap
        self.spent = spent
        """Settled, and left open by a session that was killed."""
        self.reserved = 0.0
        self._open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

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
