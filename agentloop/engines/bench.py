"""The places of workers and what lies there: jobs in hand, money, how much is to do.

Enters: a worker, once it stands, and items. Leaves: what a place still holds when its worker is gone.
Refuses to know: which item should go where, how many places there should be (`processes`, `staff`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentloop.engines import Task, Walked
from agentloop.engines.demand import Load
from agentloop.engines.hand import Hand
from agentloop.engines.parcel import Place
from agentloop.engines.till import Till
from agentloop.store.journal import Memory

SUSPECT = 2  # deaths that an item has seen before it is walked apart from others that have


@dataclass(eq=False)
class Job:
    """A task on its way."""

    number: int
    task: Task
    memory: Memory | None
    done: asyncio.Future[Walked]
    lines: list[bytes] = field(default_factory=list)
    """What was written of its calls in this sitting."""
    deaths: int = 0
    """Workers that died with it in their hands."""
    bench: Bench | None = None
    """Where it is walked; None while it waits."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once nobody walks it any more."""


@dataclass(eq=False)
class Bench:
    """A worker's place, which is filled anew when the worker dies."""

    number: int
    """By which a person is told of it; none has had it before."""
    place: Place
    """Its part of the calls."""
    hand: Hand | None = None
    """None while nobody is there who can walk."""
    came: bool = False
    """Whether anybody ever was."""
    open: bool = False
    """Whether it is given items."""
    leaving: bool = False
    """Whether it is let go as soon as it has none."""
    till: Till | None = None
    jobs: dict[int, Job] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)
    """What it has said, and how often."""
    loads: list[Load] = field(default_factory=list)
    """How much it had to do, since that was last judged."""
    came_home: int = 0
    """Items that it has ended since its last report."""
    bounds: tuple[int, Sequence[Place]] = (-1, ())
    """The places whose parts bound its calls, and the number of that word; none but its own at first."""
    cleared: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it has no jobs left, and is given none."""
    _obeyed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def suspects(self) -> bool:
        """Whether it walks an item that has seen workers die."""
        return any(job.deaths >= SUSPECT for job in self.jobs.values())

    def leave(self) -> None:
        """Take no more items, to be let go once there are none."""
        self.open, self.leaving = False, True
        self._look()

    def stay(self) -> None:
        """Be let go no more."""
        self.open, self.leaving = True, False
        self.cleared.clear()

    def weigh(self, load: Load) -> None:
        """Take note of a report; one without an item's end says nothing of what there is to do."""
        if self.came_home and self.open:
            self.loads.append(load)
        self.came_home = 0

    def ended(self, number: int) -> Job:
        """Return a job that nobody walks here any more."""
        job = self.jobs.pop(number)
        job.bench = None
        job.left.set()
        self.came_home += 1
        self._look()
        return job

    def bereft(self) -> list[Job]:
        """Return the jobs of a worker that is gone, and wait for nothing that it should have said."""
        jobs = [self.ended(number) for number in list(self.jobs)]
        self._obeyed.set()
        self.loads, self.came_home = [], 0
        return jobs

    async def bound(self, number: int, places: Sequence[Place]) -> None:
        """Have the worker make no more calls than each place allows; return once that is so.

        One that is not there makes none; the next one hears of it when it comes (`stood`).
        """
        self.bounds = number, places
        self._obeyed.clear()
        if self.hand is None:
            return
        self.hand.send("bound", number, places)
        await self._obeyed.wait()

    def stood(self, hand: Hand) -> None:
        """Take a worker who can walk."""
        self.hand, self.came = hand, True
        number, places = self.bounds
        if places:
            hand.send("bound", number, places)

    def obeyed(self, number: int) -> None:
        """Take note that the worker makes no more calls than it was told."""
        if number == self.bounds[0]:
            self._obeyed.set()

    def _look(self) -> None:
        if self.leaving and not self.jobs:
            self.cleared.set()
