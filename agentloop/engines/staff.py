"""Who is there: workers that come, have their part of the calls, and go.

Enters: benches, how one is filled, how many there may be. Leaves: benches among whom all calls are
divided, so that together they never make more than one process would, not even while some come or go.
Refuses to know: items, money, deaths.

A division has two steps: each is bound by its old part and its new one, and only when all make no more
calls than that is each given its new one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from agentloop.engines.bench import Bench
from agentloop.engines.demand import ROUNDS, Load, mean, wanted
from agentloop.engines.parcel import Place

Background = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Staff:
    """The workers of a run."""

    def __init__(
        self,
        fill: Callable[[Bench], Awaitable[None]],
        background: Background,
        changed: Callable[[str], None],
    ):
        """`fill` starts a worker and has it stand; `changed` is told of every change in a line."""
        self.benches: list[Bench] = []
        """Those among whom calls are divided."""
        self._coming: dict[Bench, asyncio.Task[None]] = {}
        """Those who take part once they stand, and others have made room."""
        self._room = 0
        self._numbers = itertools.count()
        self._fill = fill
        self._background = background
        self._changed = changed
        self._divisions = itertools.count()
        self._lock = asyncio.Lock()

    @property
    def everybody(self) -> list[Bench]:
        """All who stand, or are expected."""
        return [*self.benches, *self._coming]

    def make(self, count: int, room: int) -> None:
        """Make so many places; there may be more when they are called for, up to `room`."""
        self.benches = [Bench(next(self._numbers), Place(n, count)) for n in range(count)]
        self._room = room

    async def begin(self) -> None:
        """Have those take part who are there."""
        async with self._lock:
            await self._divide()
        for bench in self.benches:
            bench.open = True

    def expect(self, bench: Bench, standing: Callable[[], Awaitable[None]]) -> None:
        """Have one take part later, as soon as it stands: when what `standing` returns is over."""
        if bench in self.benches:
            self.benches.remove(bench)
        self._coming[bench] = self._background(self._join(bench, standing))

    async def _join(self, bench: Bench, standing: Callable[[], Awaitable[None]]) -> None:
        try:
            await standing()
        except Exception as error:
            await self.do_without(bench, error)
            return
        async with self._lock:
            del self._coming[bench]
            self.benches.append(bench)
            await self._divide()
            bench.open = True
        self._changed(f"workers: {len(self.benches)} from here on: another has come")

    async def do_without(self, bench: Bench, error: Exception) -> None:
        """Go on with the others, and ask for no more. Raises the error where there are none."""
        async with self._lock:
            self._forget(bench)
            others = self.everybody
            if not others:
                raise error
            if all(other.leaving for other in others):
                others[0].stay()
            self._room = len(self.benches)
            self._changed(
                f"worker {bench.number + 1} stays away, and what is left of them goes on: {error}"
            )
            await self._divide()

    def weigh(self, bench: Bench, load: Load) -> None:
        """Take note of a worker's report; once all have told enough, have more of them, or fewer."""
        bench.weigh(load)
        here = [bench for bench in self.benches if bench.open]
        if not here or min(len(one.loads) for one in here) < ROUNDS:
            return
        count = wanted([mean(one.loads) for one in here], self._room)
        for one in here:
            one.loads = []
        if count < len(here):
            self._call_off()
        elif not self._coming and len(here) == len(self.benches):  # nobody comes or goes
            for _ in range(count - len(here)):
                new = Bench(next(self._numbers), Place(0, count))
                self.expect(new, partial(self._fill, new))
        for idle in here[count:]:
            idle.leave()
            self._background(self._dismiss(idle))

    def _call_off(self) -> None:
        """Expect nobody any more who does not stand yet."""
        for bench, task in list(self._coming.items()):
            if not bench.came:
                del self._coming[bench]
                task.cancel()

    async def _dismiss(self, bench: Bench) -> None:
        """Let a worker go, once it has nothing more in hand."""
        await bench.cleared.wait()
        async with self._lock:
            if not bench.leaving:
                return
            hand, bench.hand = bench.hand, None
            if hand is not None:
                await hand.close()
            if bench.till is not None:
                bench.till.cut_off()
            self._forget(bench)
            await self._divide()
        self._changed(f"workers: {len(self.benches)} from here on: more had too little to do")

    def _forget(self, bench: Bench) -> None:
        if bench in self.benches:
            self.benches.remove(bench)
        self._coming.pop(bench, None)

    async def _divide(self) -> None:
        """Give each its part; nobody has more before all others have less. The lock is held."""
        places = [Place(number, len(self.benches)) for number in range(len(self.benches))]
        pairs = [*zip(self.benches, places, strict=True)]
        if all(bench.place == place for bench, place in pairs):
            return
        number = next(self._divisions)
        both = [bench.bound(number, (bench.place, place)) for bench, place in pairs]
        await asyncio.gather(*both)
        for bench, place in pairs:
            bench.place = place
        number = next(self._divisions)
        await asyncio.gather(*[bench.bound(number, (place,)) for bench, place in pairs])
