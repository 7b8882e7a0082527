"""Concurrency and retries: the one layer that owns them.

Enters: a model and how many calls it may have in flight. Leaves: its replies, with the number of
requests each took. Refuses to know: prices, roles, what is being asked.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

from agentloop.errors import ModelError, TransientError, UnreachableError
from agentloop.models.base import Model, Reply, Request, Structured

MAX_TRIES = 6
BACKOFF = 0.5  # seconds before the second try; doubles, jittered
MAX_WAIT = 30.0
FIRST_PATIENCE = 10.0  # seconds until an endpoint that never answered is called unreachable
PATIENCE = 300.0  # seconds once it has answered


class Limits:
    """A model behind a limit of calls in flight, with jittered back-off."""

    def __init__(self, model: Model, concurrency: int):
        self.model = model
        self.concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._answered = False

    async def complete(self, request: Request, structured: Structured) -> Reply:
        """Answer, trying again what is worth it; a ModelError carries the `tries` it took."""
        async with self._slots:
            return await self._try(request, structured)

    async def _try(self, request: Request, structured: Structured) -> Reply:
        loop = asyncio.get_running_loop()
        start = loop.time()
        tries = refused = 0
        while True:
            tries += 1
            try:
                reply = await self.model.complete(request, structured)
            except TransientError as error:
                self._answered |= error.connected
                tries -= not error.connected  # no request was sent
                refused += not error.connected
                wait = self._wait(error, tries, refused, loop.time() - start)
                await asyncio.sleep(wait)
            except ModelError as error:
                self._answered = True
                error.tries = tries
                raise
            else:
                self._answered = True
                return replace(reply, tries=tries)

    def _wait(self, error: TransientError, tries: int, refused: int, waited: float) -> float:
        """Return the pause before the next try, or raise when it is not worth one.

        `tries` were sent; `refused` found nobody who listened.
        """
        patience = PATIENCE if self._answered else FIRST_PATIENCE
        if not error.connected and waited >= patience:
            unreachable = UnreachableError(
                f"nobody answers at {error} (waited {waited:.0f} s): is the server running?"
            )
            unreachable.tries = tries
            raise unreachable from error
        if error.connected and tries >= MAX_TRIES:
            error.tries = tries
            raise error
        backoff = min(MAX_WAIT, BACKOFF * 2.0 ** (tries + refused - 1)) * random.uniform(0.5, 1.0)
        if error.connected:
            wish = error.retry_after or 0.0
            if wish > PATIENCE:
                error.tries = tries
                raise error
            return max(backoff, wish)
        return min(backoff, max(0.1, patience - waited))
