"""Limits and retries: the one layer that owns them.

Enters: a model, how many calls it may have in flight, what it may be asked in a minute, how long a
silence is waited out. Leaves: its replies, with the number of requests each took. Refuses to know:
prices, roles, what is being asked.

A call goes in at the gate for each of its tries and comes out after it; while it waits, as a refusal's
`Retry-After` or its own back-off says, others go. How many may be inside, and whether anybody listens at
all, is learnt from what becomes of them (`breaker`); how many may go in a minute is set (`rate`).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any, NoReturn

from agentloop.errors import BudgetReached, ModelError, TransientError, UnreachableError
from agentloop.models.base import Model, Reply, Request, Structured
from agentloop.models.breaker import Breaker, Silence, Width
from agentloop.models.budget import Stake
from agentloop.models.rate import UNLIMITED, Pace, Pacing, Rate

MAX_TRIES = 6  # of a call that fails
MAX_REFUSALS = 30  # of one that a limit refuses, and as long as there is patience
BACKOFF = 0.5  # seconds before the second try; doubles, jittered
MAX_WAIT = 30.0
LATER = 0.1  # of a wish, and a second at most: not all whom it was told come back at once
FIRST_PATIENCE = 10.0  # seconds until an endpoint that never answered is called unreachable
PATIENCE = 300.0  # seconds of one silence, once it has answered; no longer wish is granted either

Waiter = tuple["Turn", asyncio.Future[str]]
"""A call at the gate, and what wakes it: an empty word to go in, else the reason to give up."""


class Turn:
    """One call on its way through its tries."""

    __slots__ = (
        "begun", "beside", "booking", "failures", "inside", "probe", "refusals", "sent", "tokens",
        "tries", "waited",
    )  # fmt: skip

    def __init__(self, tokens: int):
        self.tokens = tokens
        self.tries = 0
        """Requests sent."""
        self.failures = self.refusals = 0
        """Of them, those that count against it, and those that a limit refused."""
        self.begun: float | None = None
        """When it was first sent."""
        self.waited = False
        """Whether it has been inside before."""
        self.inside = False
        self.probe = False
        self.sent = 0.0
        self.beside = 0
        """Calls inside when it was sent, itself included."""
        self.booking: Any = None


class Gate:
    """Who may send now: first those who have waited for another try, then those who are new."""

    def __init__(self, width: Width, pace: Pacing, breaker: Breaker):
        self.inside = 0
        self._width = width
        self._pace = pace
        self._breaker = breaker
        self._again: deque[Waiter] = deque()
        self._new: deque[Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._left = asyncio.Event()

    async def enter(self, turn: Turn) -> None:
        """Wait until the call may send; UnreachableError once those who wait are told to give up."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        first = not self._again and (turn.waited or not self._new)
        if first and self._delay(turn, now) <= 0.0:
            self._let(turn, now)
            return
        future: asyncio.Future[str] = loop.create_future()
        (self._again if turn.waited else self._new).append((turn, future))
        self.pump()
        try:
            bad_news = await future
        except BaseException:
            if turn.inside:  # cancelled when it had just been let in
                self.leave(turn)
            else:
                self.pump()
            raise
        if bad_news:
            raise unreachable(bad_news, turn)

    def leave(self, turn: Turn) -> None:
        """Make way for others."""
        turn.inside = False
        self.inside -= 1
        self._left.set()
        if turn.probe:
            self._breaker.left()
        if self._again or self._new:
            self.pump()

    async def shrunk(self, calls: int) -> None:
        """Wait until no more than so many are inside."""
        while self.inside > calls:
            self._left.clear()
            await self._left.wait()

    def send_away(self, bad_news: str) -> None:
        """Make all who wait give up, at once."""
        for queue in (self._again, self._new):
            for _, future in queue:
                if not future.done():
                    future.set_result(bad_news)
            queue.clear()

    def _delay(self, turn: Turn, now: float) -> float:
        """Return the seconds until a call may go in; inf when only another's leaving can tell."""
        if self.inside >= self._width.calls:
            return inf
        delay = self._breaker.delay(now)
        return delay if delay > 0.0 else self._pace.delay(now, turn.tokens)

    def _let(self, turn: Turn, now: float) -> None:
        self.inside += 1
        turn.inside = turn.waited = True
        turn.sent, turn.beside = now, self.inside
        turn.begun = now if turn.begun is None else turn.begun
        turn.probe = self._breaker.let()
        turn.booking = self._pace.book(now, turn.tokens)

    def pump(self) -> None:
        """Let in whoever may go, and come back when the next one may."""
        while (queue := self._queue()) is not None:
            turn, future = queue[0]
            loop = future.get_loop()
            now = loop.time()
            delay = self._delay(turn, now)
            if delay > 0.0:
                self._come_back(loop, now + delay)
                return
            queue.popleft()
            self._let(turn, now)
            future.set_result("")
        self._forget_timer()

    def _queue(self) -> deque[Waiter] | None:
        """Return the queue whose head is next, having dropped those who were cancelled."""
        for queue in (self._again, self._new):
            while queue and queue[0][1].done():
                queue.popleft()
            if queue:
                return queue
        return None

    def _come_back(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if when == inf or (self._timer is not None and self._timer.when() <= when):
            return  # an early timer looks again, and sets another
        self._forget_timer()
        self._timer = loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.pump()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Limits:
    """A model behind limits that adapt, with jittered back-off and patience.

    `note` is called with one line for the person who watches, when a silence begins and when it ends.
    """

    def __init__(
        self,
        model: Model,
        concurrency: int,
        *,
        rate: Rate = UNLIMITED,
        patience: float = PATIENCE,
        note: Callable[[str], None] = lambda _: None,
    ):
        self.model = model
        self.rate = rate
        self.note = note
        self.on_refusal: Callable[[], None] = lambda: None
        """Called for each request that a limit refused."""
        self._patience = patience
        self.share(concurrency)
        self._where = ""
        """Where nobody answers, for those who were told so."""
        self._told = False
        self.answered = False
        """Whether a call was ever answered, be it that it was refused for what it asks."""
        self.on_answer: Callable[[], None] = lambda: None
        """Called with the first answer."""

    def share(self, concurrency: int, pace: Pacing | None = None) -> None:
        """Begin anew with so many calls at once, and a pace that is kept elsewhere; before any call."""
        self.concurrency = concurrency
        self._pace: Pacing = pace or Pace(self.rate)
        self._width = Width(concurrency)
        self._breaker = Breaker(min(FIRST_PATIENCE, self._patience), self._patience)
        self._gate = Gate(self._width, self._pace, self._breaker)

    @property
    def borne(self) -> bool:
        """Whether the endpoint is found to bear all calls at once that there may be."""
        return self._width.full

    def bound(self, concurrency: int) -> None:
        """Have other calls at once from now on; those that are under way go on."""
        self.concurrency = concurrency
        self._width.bound(concurrency)
        self._gate.pump()

    async def fit(self) -> None:
        """Wait until no more calls are under way than there may be."""
        await self._gate.shrunk(self.concurrency)

    def hear(self) -> None:
        """Take note that a call was answered elsewhere."""
        self.answered = True
        self._breaker.hear()

    def look_again(self) -> None:
        """Let in whoever may go by now: the pace has allowed more, unasked."""
        self._gate.pump()

    async def complete(
        self, request: Request, structured: Structured, stake: Stake | None = None
    ) -> Reply:
        """Answer, trying again what is worth it; an error carries the `tries` that it took.

        Money is set aside before the gate: who waits for it keeps nobody else from going. Raises
        ModelError, or BudgetReached.
        """
        stake = stake or Stake()
        turn = Turn(self._pace.estimate(request))
        while True:
            await _reserve(stake)
            await self._gate.enter(turn)
            try:
                await stake.send()
                reply = await self.model.complete(request, structured)
            except TransientError as error:
                stake.came_back(heard=error.connected, billed=error.billed)
                wait, rest = self._failed(error, turn)
                if rest:
                    await asyncio.sleep(rest)
            except ModelError as error:
                stake.came_back()
                self._answered(turn, tokens=0)
                error.tries = turn.tries
                raise
            except BaseException:  # it may have been heard
                self._pace.settle(turn.booking, turn.tokens)
                raise
            else:
                took = reply.usage.prompt_tokens + reply.usage.completion_tokens
                now = self._answered(turn, tokens=took or None)
                kind = (request.max_tokens, request.top_logprobs)
                load = max(turn.beside, self._gate.inside)
                self._width.served(kind, now - turn.sent, load, now)
                return reply if reply.tries == turn.tries else replace(reply, tries=turn.tries)
            finally:
                self._gate.leave(turn)
            if wait > rest:
                await asyncio.sleep(wait - rest)

    def _answered(self, turn: Turn, tokens: int | None) -> float:
        """Take note of an answer, and of the tokens it took where they are known; return the time."""
        now = asyncio.get_running_loop().time()
        turn.tries += 1
        if not self.answered:
            self.answered = True
            self.on_answer()
        self._pace.settle(turn.booking, turn.tokens if tokens is None else tokens)
        if self._breaker.answered(turn.probe, now) and self._where:
            self.note(f"{self._where} answers again")
            self._where = ""
        return now

    def _failed(self, error: TransientError, turn: Turn) -> tuple[float, float]:
        """Return the seconds until another try, and for how many its place stays empty.

        Raises what ends the call when it is not worth another try.
        """
        if not error.connected:
            self._pace.settle(turn.booking, 0, sent=False)
            now = asyncio.get_running_loop().time()
            self._heed(self._breaker.refused(turn.probe, turn.sent, now), error, turn)
            return 0.0, 0.0  # the gate knows when somebody may knock
        wait = self._refused(error, turn) if error.busy else self._broke(error, turn)
        rest = self._width.rest if error.busy and not self._breaker.away else 0.0
        return max(wait, rest), rest

    def _refused(self, error: TransientError, turn: Turn) -> float:
        """Return the seconds that a call waits which a limit refused.

        At a slow endpoint its turn comes late: so it is tried long, while others are served.
        """
        now = asyncio.get_running_loop().time()
        turn.tries += 1
        turn.refusals += 1
        self.on_refusal()
        self._pace.settle(turn.booking, 0)
        wish, patience = error.retry_after or 0.0, max(PATIENCE, self._patience)
        if wish > patience:
            self._give_up(f"{error} (it asks to wait {wish:.0f} s)", turn)
        usual = self._width.usual or 0.0
        silence = self._breaker.limited(turn.probe, turn.sent, now, wish, usual)
        if silence is None:
            self._width.refused(turn.sent, self._gate.inside, now)
        else:
            self._heed(silence, error, turn)
        begun = now if turn.begun is None else turn.begun
        if turn.refusals >= MAX_REFUSALS and now - begun > patience:
            error.tries = turn.tries
            raise error
        if wish:
            return wish + random.uniform(0.0, min(1.0, LATER * wish))
        return 0.0 if silence else _backoff(turn.refusals)

    def _broke(self, error: TransientError, turn: Turn) -> float:
        """Return the seconds that a call waits which failed."""
        now = asyncio.get_running_loop().time()
        turn.tries += 1
        self._pace.settle(turn.booking, turn.tokens)
        fresh = turn.tries == 1
        silence = self._breaker.failed(turn.probe, turn.sent, now, fresh, self._width.calls)
        if silence is not None:  # nobody is served: it is hardly this call's fault
            self._heed(silence, error, turn)
        turn.failures += silence is None or turn.probe
        if turn.failures >= MAX_TRIES:
            error.tries = turn.tries
            raise error
        return _backoff(turn.failures) if silence is None else 0.0

    def _heed(self, silence: Silence, error: TransientError, turn: Turn) -> None:
        """Say that a silence begins; UnreachableError for all when it has lasted too long."""
        patience = self._breaker.patience
        if silence == "begins" and error.busy:
            self._where = ""
            if not self._told:
                self.note(
                    f"`{self.model.name}` bears fewer calls ({error}): they wait for its limit"
                )
            self._told = True
        elif silence == "lasts" and error.connected and not error.busy and not self._where:
            self._where = f"`{self.model.name}`"
            self.note(f"every call fails ({error}): waiting up to {patience:.0f} s")
        elif silence == "begins" and error.connected:
            self._where = ""  # it may have been chance: the first probe tells
        elif silence == "begins":
            self._where = str(error)
            self.note(f"nobody answers at {error}: waiting up to {patience:.0f} s")
        elif silence == "over" and error.connected:
            self._give_up(f"{error}, and so it went with every call for {patience:.0f} s", turn)
        elif silence == "over":
            self._give_up(
                f"nobody answers at {error} (waited {patience:.0f} s): is the server running?", turn
            )

    def _give_up(self, bad_news: str, turn: Turn) -> NoReturn:
        """Tell all who wait, and raise UnreachableError."""
        self._gate.send_away(bad_news)
        raise unreachable(bad_news, turn)


async def _reserve(stake: Stake) -> None:
    """Set aside what the next try may cost; an error says how many were made before it."""
    try:
        await stake.reserve()
    except BudgetReached as error:
        error.tries = stake.tries
        raise


def _backoff(times: int) -> float:
    """Return the seconds to wait after so many failures: doubled each time, jittered."""
    return min(MAX_WAIT, BACKOFF * 2.0 ** (times - 1)) * random.uniform(0.5, 1.0)


def unreachable(bad_news: str, turn: Turn) -> UnreachableError:
    """Return the error of a call that gives up."""
    error = UnreachableError(bad_news)
    error.tries = turn.tries
    return error
