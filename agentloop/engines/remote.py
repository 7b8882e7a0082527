"""Journal, money and rate as a worker has them: kept by whoever drives, asked for over the wire.

Enters: what a channel asks of a journal, a bank and a pace. Leaves: the same, once the driver has
answered. Refuses to know: files, budgets, allowances.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from agentloop.engines.wire import Wire
from agentloop.models.base import Call, Reply, Request
from agentloop.models.estimate import answer_tokens, prompt_tokens
from agentloop.store.files import encoded
from agentloop.store.journal import Page, Pages


class Questions:
    """Questions to the driver that wait for their answers."""

    def __init__(self, wire: Wire):
        self.wire = wire
        self._numbers = itertools.count()
        self._open: dict[int, asyncio.Future[None]] = {}

    async def ask(self, kind: str, name: str, *parts: Any) -> None:
        """Ask for a call of that name, and wait. Raises what the driver answers with.

        One who stops waiting calls the question off.
        """
        number = next(self._numbers)
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        self.wire.send(kind, number, name, *parts)
        try:
            await answer
        except asyncio.CancelledError:
            self.wire.send("called_off", number, kind, name)
            raise
        finally:
            del self._open[number]

    def answered(self, number: int, error: Exception | None) -> None:
        """Hand an answer to whom it is for, if that one still waits."""
        answer = self._open.get(number)
        if answer is None or answer.done():
            return
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)


class RemoteJournal(Pages):
    """Makes pages, and has the driver keep them."""

    def __init__(self, run: str, questions: Questions):
        super().__init__(run)
        self._questions = questions

    async def _keep(self, page: Page) -> None:
        await self._questions.ask("page", *_sent(page))

    def _note(self, page: Page) -> None:
        self._questions.wire.send("page", None, *_sent(page))


def _sent(page: Page) -> tuple[str, str, Page]:
    """Return the names of a page's call and item; the page as a line, with the reply's counts only."""
    assert not isinstance(page.line, bytes)
    row, reply = page.line[1], page.reply
    slim = reply and Reply("", usage=reply.usage, cost_usd=reply.cost_usd)
    name = call_name(row["item"], row["key"])
    return name, row["item"], page._replace(line=encoded([page.line]), reply=slim)


def call_name(item: str, key: object) -> str:
    """Return what tells one call of a run from all others."""
    return f"{item} {key}"


class RemoteBank:
    """A budget that the driver keeps."""

    def __init__(self, questions: Questions):
        self._questions = questions

    def purse(self, call: Call) -> RemotePurse:
        """Return where the money for a call is set aside."""
        return RemotePurse(self._questions, call_name(call.item, call.key))


class RemotePurse:
    """The money for one call."""

    def __init__(self, questions: Questions, name: str):
        self._questions = questions
        self._name = name

    async def reserve(self, amount: float) -> None:
        """Set an amount aside. Raises BudgetReached."""
        await self._questions.ask("reserve", self._name, amount)

    def settle(self, amount: float, cost: float) -> None:
        """Book what the call did cost."""
        self._questions.wire.send("settle", self._name, cost)


class Permit(NamedTuple):
    """Leave to send one request."""

    number: int
    tokens: int


class LeasedPace:
    """One endpoint's pace, kept by the driver: it gives leave for one request at a time.

    Leave that nobody can use just now goes back at once, so that another worker may have it.
    """

    def __init__(self, wire: Wire, endpoint: str, *, counts_tokens: bool):
        self.wake: Callable[[], None] = lambda: None
        """Called when there is leave for a request."""
        self._wire = wire
        self._endpoint = endpoint
        self._counts_tokens = counts_tokens
        self._permit: Permit | None = None
        self._asked = False

    def estimate(self, request: Request) -> int:
        """Return the tokens that a request may take; zero where nobody counts them."""
        return prompt_tokens(request) + answer_tokens(request) if self._counts_tokens else 0

    def delay(self, now: float, tokens: int) -> float:
        """Return 0 where there is leave for so many tokens; else ask for it."""
        if self._permit is not None and self._permit.tokens >= tokens:
            return 0.0
        self._give_back()
        if not self._asked:
            self._asked = True
            self._wire.send("permit", self._endpoint, tokens)
        return inf

    def granted(self, permit: Permit) -> None:
        """Use leave, or give it back."""
        self._asked = False
        self._permit = permit
        self.wake()
        self._give_back()

    def book(self, now: float, tokens: int) -> Permit | None:
        """Take the leave that there is."""
        permit, self._permit = self._permit, None
        return permit

    def settle(self, booking: Permit | None, tokens: int, *, sent: bool = True) -> None:
        """Say what a request took; one that was never sent was none."""
        if booking is not None:
            self._wire.send("paced", self._endpoint, booking.number, tokens, sent)

    def _give_back(self) -> None:
        permit, self._permit = self._permit, None
        self.settle(permit, 0, sent=False)
