"""The feed: which item is next, with all that earlier sessions and ancestors know of it.

Enters: a plan and its store. Leaves: items without a verdict, those begun before first, each with its
journaled replies at hand. Refuses to know: graphs, targets, how an item ends.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from agentloop.errors import StoreError
from agentloop.plan import Plan, check_identity
from agentloop.records import Json, Seed, digest
from agentloop.store.journal import RunJournal
from agentloop.store.resume import (
    Earlier,
    Owed,
    ancestry,
    identity_of,
    inputs_of,
    opened_again,
    read_earlier,
)
from agentloop.store.taken import Taken, read_standing, read_taken
from agentloop.store.writer import Writer

if TYPE_CHECKING:
    import duckdb

DRAWN_BY = ("draw", "seed", "attributes", "generator.mix", "verbalise")
"""What of a run's identity decides what its items take from outside."""
BATCH = 256  # items whose journaled replies are looked up together


class Feed:
    """Items of one run that have no verdict."""

    def __init__(self, plan: Plan, writer: Writer, journal: RunJournal):
        """Take up what the store knows; IdentityError when it is of another run of this name."""
        self._plan = plan
        self._writer = writer
        self._journal = journal
        self._ancestors: tuple[str, ...] = ()
        self._inherits = False
        with writer.reading() as connection:
            self.earlier = self._read(connection)
            self.standing = read_standing(connection, plan.run)
        self.new = self.earlier.identity is None
        self.settled = {item for item, *_ in self.earlier.verdicts}
        self._items = self._walk()
        self._ready: deque[Owed] = deque()
        self._taking = asyncio.Lock()

    def taken(self) -> Iterator[Taken]:
        """Yield the settled items of earlier sessions, in the order settled."""
        with self._writer.reading() as connection:
            yield from read_taken(connection, self._plan.run)

    def _read(self, connection: duckdb.DuckDBPyConnection) -> Earlier:
        plan = self._plan
        earlier = read_earlier(connection, plan.run)
        self._ancestors = earlier.ancestors
        if earlier.identity is not None:
            check_identity(earlier.identity, plan)
        elif plan.parent is not None:
            self._ancestors = ancestry(connection, plan.parent)
        if self._ancestors:
            self._inherits = self._draws_alike(identity_of(connection, self._ancestors[0]))
        again = opened_again(connection, plan.run, self._to_open_again(earlier))
        names = {owed.item for owed in again}
        return dataclasses.replace(
            earlier,
            verdicts=[row for row in earlier.verdicts if row[0] not in names],
            owed=[*earlier.owed, *again],
        )

    def _draws_alike(self, parent: Json | None) -> bool:
        """Whether an ancestor's items took from outside what this run's would."""
        if parent is None:
            raise StoreError(
                f"store `{self._plan.store}` has no run `{self._ancestors[0]}` to fork"
            )
        own = self._plan.identity
        return all(parent.get(key) == own.get(key) for key in DRAWN_BY)

    def _to_open_again(self, earlier: Earlier) -> list[str]:
        """Return items that `--retry` names, and as many good ones as a higher target has room for."""
        settings = self._plan.settings
        if settings.accept is not None and len(earlier.accepted) >= settings.accept:
            return []
        retried = [item for item, verdict, _ in earlier.verdicts if verdict in settings.retry]
        over = [item for item, _, reason in earlier.verdicts if reason == "over_target"]
        if settings.accept is not None:
            over = over[: settings.accept - len(earlier.accepted)]
        return retried + over

    def _walk(self) -> Iterator[Owed]:
        """Yield items without a verdict, those begun before first, until nothing is owed."""
        begun = {owed.item for owed in self.earlier.owed}
        yield from self.earlier.owed
        settings = self._plan.settings
        with_target = settings.accept or settings.items
        for sample in range(settings.per_seed if with_target else 1):
            for seed in self._plan.seeds:
                item = item_id(seed, sample)
                if item not in self.settled and item not in begun:
                    yield Owed(item, seed, sample)

    async def take(self) -> Owed | None:
        """Return the next item; None when there is none left."""
        async with self._taking:
            if not self._ready:
                batch = list(islice(self._items, BATCH if self._replays else 1))
                if self._replays and batch:
                    batch = await asyncio.to_thread(self._look_up, batch)
                self._ready.extend(batch)
            return self._ready.popleft() if self._ready else None

    def give_back(self, owed: Owed) -> None:
        """Take back an item that was not begun."""
        self._ready.appendleft(owed)

    @property
    def _replays(self) -> bool:
        return bool(self.earlier.owed or self._ancestors)

    def _look_up(self, batch: list[Owed]) -> list[Owed]:
        """Load the replies of earlier sessions and of ancestors, and what ancestors' items drew."""
        names = [owed.item for owed in batch]
        drawn: dict[str, Json] = {}
        with self._writer.reading() as connection:
            self._journal.load(connection, names, self._ancestors)
            if self._inherits:
                drawn = inputs_of(connection, self._ancestors[0], names)
        return [owed._replace(inputs=owed.inputs or drawn.get(owed.item)) for owed in batch]


def item_id(seed: Seed, sample: int) -> str:
    """Return an item's name, from its seed's content and sample index: 12 hex digits."""
    return digest([seed.id, sample], 6)
