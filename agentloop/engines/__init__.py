"""Engines: what walks a run's items, in this process or in others.

The contract, which every engine keeps and `tests/engines` holds all of them to:

- A `Task` goes in, a `Walked` comes out: how the item ended before the door, and the rows that say so.
  An error that is the item's own is a verdict; one that is the run's (a wrong key, a dead endpoint, the
  budget, a full disk) is raised.
- Backpressure is the number of tasks that whoever drives has open; an engine takes each at once.
- A task that is cancelled stops; what it has sent in vain is written down before `walk` raises.
- Whoever drives keeps the journal, the budget and the rate. A reply is safe in the journal before a
  graph sees it, wherever that graph runs; what may be spent and sent is one for all.
- What is to be said to a person on the way is given to the driver's `note`.
- Items may end in any order. Each has the verdict that any other engine would come to.

Enters: a plan. Leaves: an engine. Refuses to know: seeds, the store, admission, when a run is over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from agentloop.models.budget import Budget
from agentloop.models.channel import Note
from agentloop.plan import Plan
from agentloop.records import Json, Verdict
from agentloop.store.files import Entry
from agentloop.store.journal import RunJournal
from agentloop.verdicts import Kept

FEW = 8  # calls at once up to which every item waits for its own
AHEAD = 64  # items more than calls, at most


class Task(NamedTuple):
    """One item to be walked; what is known of its replies stands in the journal."""

    item: str
    opening: int
    seed: Json
    """The seed's fields."""
    inputs: Json
    """What it takes from outside besides; among it, which `sample` of its seed it is."""
    rounds: int
    """Revisions that it may have."""


class Walked(NamedTuple):
    """What graph and auditor made of an item."""

    verdict: Verdict
    kept: Kept | None = None
    lines: Sequence[Entry] = ()
    """The rows of its attempts and grades, and of what was watched."""


@dataclass(frozen=True)
class Driver:
    """What an engine finds at whoever drives it."""

    journal: RunJournal
    budget: Budget | None
    note: Note
    refused: Callable[[], None] = lambda: None
    """Called for each request that a limit refused."""


class Engine(Protocol):
    """Walks items; see the contract above."""

    async def start(self, driver: Driver) -> None:
        """Be ready to walk. Raises UserError where that cannot be, with nothing left behind."""

    async def walk(self, task: Task) -> Walked:
        """Return what becomes of an item. Raises AgentloopError for what is the run's own."""

    @property
    def answered(self) -> bool:
        """Whether an endpoint ever answered a call, be it that it was refused for what it asks."""

    async def close(self) -> None:
        """Let go of processes and connections; safe to call twice, and before `start`."""


def items_at_once(calls: int) -> int:
    """Return how many items are on their way, so that so many calls are under way all the time.

    Between two calls an item waits for its turn at the processor: others call meanwhile.
    """
    return calls if calls <= FEW else calls + min(calls // 2, AHEAD)


def processors() -> int:
    """Return how many processors this process may use."""
    own = getattr(os, "sched_getaffinity", None)
    return len(own(0)) if own else os.cpu_count() or 1


def engine_for(plan: Plan) -> Engine:
    """Return the engine that a plan asks for. Raises SettingsError for what no worker can be given."""
    from agentloop.engines.inside import Inside

    if plan.settings.engine == "ray":
        from agentloop.engines.cluster import Cluster

        return Cluster(plan)
    workers = plan.settings.workers or 1
    if workers == 1 or (workers == "auto" and processors() == 1):
        return Inside(plan)
    from agentloop.engines.processes import Processes

    return Processes(plan)
