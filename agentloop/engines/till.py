"""What one worker has of the run's money and rate: so that both are right when it dies.

Enters: what it sets aside, is permitted, settles and leaves behind. Leaves: the run's budget and paces,
booked; answers to the worker. Refuses to know: processes, items, the journal's file.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentloop.errors import AgentloopError
from agentloop.models.budget import Budget
from agentloop.models.rate import Pace, Rate
from agentloop.store.journal import Page


class Waiting(NamedTuple):
    """A request that waits for leave to be sent."""

    who: object
    tokens: int
    grant: Callable[[int], None]
    """Called with the permit's number."""


class Permits:
    """One endpoint's pace for all workers: leave for one request each, in the order asked for."""

    def __init__(self, rate: Rate):
        self._pace = Pace(rate)
        self._queue: deque[Waiting] = deque()
        self._given: dict[int, Any] = {}
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, waiting: Waiting) -> None:
        """Give leave as soon as the pace allows it."""
        self._queue.append(waiting)
        self._look()

    def settle(self, number: int, tokens: int, *, sent: bool) -> None:
        """Correct what a permit was booked as; one that was not used may be given again."""
        self._pace.settle(self._given.pop(number, None), tokens, sent=sent)
        self._look()

    def forget(self, who: object) -> None:
        """Drop what one who is gone waits for; what was given may have been used, and stays booked."""
        self._queue = deque(waiting for waiting in self._queue if waiting.who is not who)

    def close(self) -> None:
        """Give no more leave."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            now, first = loop.time(), self._queue[0]
            delay = self._pace.delay(now, first.tokens)
            if delay > 0.0:
                self._timer = loop.call_later(delay, self._look)
                return
            self._queue.popleft()
            number = next(self._numbers)
            self._given[number] = self._pace.book(now, first.tokens)
            first.grant(number)


@dataclass
class _Aside:
    """Money that is set aside for a call."""

    amount: float
    announced: bool = False
    """Whether a try may be under way."""
    cost: float | None = None
    """What it did cost, once that is in the journal."""


class Till:
    """The money of one worker's calls, and its leave to send them."""

    def __init__(
        self, budget: Budget | None, permits: Mapping[str, Permits], send: Callable[..., None]
    ):
        """`permits` are those of each endpoint with a rate; `send` reaches the worker."""
        self._budget = budget
        self._permits = permits
        self._send = send
        self._aside: dict[str, _Aside] = {}
        self._reserving: dict[int, asyncio.Task[None]] = {}

    def reserve(self, number: int, name: str, amount: float) -> None:
        """Set money aside for a call, and answer the question of that number once it is."""
        self._reserving[number] = asyncio.create_task(self._reserve(number, name, amount))

    async def _reserve(self, number: int, name: str, amount: float) -> None:
        assert self._budget is not None
        refused: AgentloopError | None = None
        try:
            await self._budget.reserve(amount)
            self._aside[name] = _Aside(amount)
        except AgentloopError as error:
            refused = error
        finally:
            self._reserving.pop(number, None)
        self._send("answer", number, refused)

    def called_off(self, number: int, kind: str, name: str) -> None:
        """Take back what nobody waits for any more, be it that the answer is on its way."""
        task = self._reserving.get(number)
        if task is not None:
            task.cancel()
        elif kind == "reserve":
            self.settle(name, 0.0)

    def noted(self, name: str, page: Page) -> None:
        """Take note of what is in the journal."""
        aside = self._aside.get(name)
        if aside is None:
            return
        aside.announced = True
        if page.kind == "reply":
            cost = page.reply.cost_usd if page.reply else None
            aside.cost = aside.amount if cost is None else cost
        elif page.kind == "failure":
            aside.cost = 0.0

    def settle(self, name: str, cost: float) -> None:
        """Book what a call did cost; nothing where nothing is set aside."""
        aside = self._aside.pop(name, None)
        if aside is not None and self._budget is not None:
            self._budget.settle(aside.amount, cost)

    def permit(self, role: str, tokens: int) -> None:
        """Give leave for a request as soon as the endpoint's pace allows it."""

        def grant(number: int) -> None:
            self._send("permit", role, number, tokens)

        self._permits[role].ask(Waiting(self, tokens, grant))

    def paced(self, role: str, number: int, tokens: int, sent: bool) -> None:
        """Correct what a request was booked as."""
        self._permits[role].settle(number, tokens, sent=sent)

    def cut_off(self) -> None:
        """Book what the worker leaves behind: a try that was under way may be billed in full."""
        for task in self._reserving.values():
            task.cancel()
        for permits in self._permits.values():
            permits.forget(self)
        for name, aside in list(self._aside.items()):
            under_way = aside.amount if aside.announced else 0.0
            self.settle(name, under_way if aside.cost is None else aside.cost)
