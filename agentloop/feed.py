"""The feed: which item is next, with all that earlier sessions and ancestors know of it.

Enters: a plan and its store. Leaves: items without a verdict, those begun before first, each with its
journaled replies at hand. Refuses to know: graphs, targets, how an item ends.

An item of a made seed waits until there is room for it among those of real ones, so that none is paid
for that cannot be accepted. Some wait at hand; those beyond are met again on a further walk.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from agentloop.errors import StoreError
from agentloop.novelty.lineage import depth_of
from agentloop.plan import Plan, check_identity
from agentloop.records import Json
from agentloop.store.files import StoreBusy
from agentloop.store.journal import RunJournal
from agentloop.store.names import Names
from agentloop.store.resume import (
    Earlier,
    Owed,
    ancestry,
    identity_of,
    inputs_of,
    opened_again,
    read_earlier,
    settled_as,
)
from agentloop.store.taken import (
    Standing,
    Stratum,
    Taken,
    accepted_names,
    ends_of,
    read_others,
    read_standing,
    read_strata,
    read_taken,
)
from agentloop.store.writer import LAST_PATIENCE, Writer

if TYPE_CHECKING:
    import duckdb

DRAWN_BY = ("draw", "seed", "attributes", "generator.mix", "verbalise")
"""What of a run's identity decides what its items take from outside."""
BATCH = 256  # items whose journaled replies are looked up together
HELD = 5000  # items of made seeds that wait at hand

Room = Callable[[int], bool]
"""`room(made)`: whether an item of a made seed may begin while so many of them are on their way."""


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
        plan.seeds.keep()
        self.new = self.earlier.identity is None
        self._items = self._walk()
        self._late = self._met_again()
        self._held: deque[Owed] = deque()
        self._passed: set[str] = set()
        """Items of made seeds that are met again on a further walk."""
        self._open: dict[str, bool] = {}
        """Items that were handed out and have not ended: whether their seed was made."""
        self._ready: deque[Owed] = deque()
        self._taking = asyncio.Lock()

    def strata(self) -> list[Stratum]:
        """Return the settled items of earlier sessions by what they were drawn with."""
        with self._writer.reading() as connection:
            return read_strata(connection, self._plan.run, sorted(self._again))

    def others(self) -> Mapping[str, Standing]:
        """Return what other runs of the recipe have accepted that this one shares no items with."""
        plan = self._plan
        with self._writer.reading() as connection:
            return read_others(connection, plan.run, plan.found.recipe.name, plan.parent)

    def names(self, run: str) -> list[str]:
        """Return what a run has accepted until now, in the order settled."""
        self._fold()
        with self._writer.reading() as connection:
            return accepted_names(connection, run)

    def ends(self, first: int, last: int, depth: int) -> list[str]:
        """Return the run's first accepted items, and its last ones of less than a depth."""
        with self._writer.reading() as connection:
            return ends_of(connection, self._plan.run, first, last, depth)

    def taken(self, run: str, items: Sequence[str] | None = None) -> Iterator[Taken]:
        """Yield what a run has accepted, or those that are named, in the order settled."""
        with self._writer.reading() as connection:
            yield from read_taken(connection, run, items)

    def _fold(self) -> None:
        """Bring what this session has settled into the database; a reader may be in the way."""
        deadline = time.monotonic() + LAST_PATIENCE
        while True:
            try:
                return self._writer.flush()
            except StoreBusy:
                if time.monotonic() > deadline:
                    raise

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
        again = self._to_open_again(connection, earlier)
        self._again = {item for item, *_ in again}
        if not again:
            return earlier
        return dataclasses.replace(
            earlier,
            verdicts=earlier.verdicts - Counter((verdict, reason) for _, verdict, reason in again),
            settled=earlier.settled.without(Names.of(self._again)),
            owed=[*earlier.owed, *opened_again(connection, plan.run, sorted(self._again))],
        )

    def _draws_alike(self, parent: Json | None) -> bool:
        """Whether an ancestor's items took from outside what this run's would."""
        if parent is None:
            raise StoreError(
                f"store `{self._plan.store}` has no run `{self._ancestors[0]}` to fork"
            )
        own = self._plan.identity
        return all(parent.get(key) == own.get(key) for key in DRAWN_BY)

    def _to_open_again(
        self, connection: duckdb.DuckDBPyConnection, earlier: Earlier
    ) -> list[tuple[str, str, str | None]]:
        """Return items that `--retry` names, and as many good ones as a higher target has room for."""
        settings = self._plan.settings
        room = None
        if settings.accept is not None:
            room = settings.accept - len(earlier.accepted)
            if room <= 0:
                return []
        words = {"over_target", *settings.retry}
        if not any(words & {*pair} for pair in earlier.verdicts):
            return []
        found = settled_as(connection, self._plan.run, *words)
        over = [row for row in found if row[2] == "over_target"]
        return [row for row in found if row[2] != "over_target"] + over[:room]

    def _walk(self) -> Iterator[Owed]:
        """Yield items without a verdict, those begun before first, until nothing is owed."""
        begun = {owed.item for owed in self.earlier.owed}
        yield from self.earlier.owed
        yield from (owed for owed in self._sown(self.earlier.settled) if owed.item not in begun)

    def _met_again(self) -> Iterator[Owed]:
        """Yield, once the walk has ended, the items that were passed over."""
        if self._passed:
            yield from (owed for owed in self._sown(Names()) if owed.item in self._passed)

    def _sown(self, but: Names) -> Iterator[Owed]:
        """Yield an item for every seed, as often as seeds may be used, without those in `but`."""
        settings = self._plan.settings
        with_target = settings.accept or settings.items
        for sample in range(settings.per_seed if with_target else 1):
            for item, seed in self._plan.seeds.items(sample, but.has):
                yield Owed(item, seed, sample)

    async def take(self, room: Room) -> Owed | None:
        """Return the next item; None when there is none, or none yet: see `waits`."""
        async with self._taking:
            if not self._ready:
                batch = self._pull(BATCH if self._replays else 1, room)
                if self._replays and batch and not batch[0].crowded:
                    batch = await asyncio.to_thread(self._look_up, batch)
                self._ready.extend(batch)
            return self._ready.popleft() if self._ready else None

    @property
    def waits(self) -> bool:
        """Whether there are items that wait for others to end."""
        return bool(self._held)

    def ended(self, owed: Owed) -> None:
        """Take note that an item is no longer on its way."""
        self._open.pop(owed.item, None)

    def _pull(self, most: int, room: Room) -> list[Owed]:
        """Take items from those that wait and from the walk, as far as there is room for them."""
        batch: list[Owed] = []
        while len(batch) < most:
            if self._held and room(sum(self._open.values())):
                owed = self._held.popleft()
            elif (further := next(self._items, None)) is not None:
                owed = further
                if is_made(owed) and not room(sum(self._open.values())):
                    self._hold(owed)
                    continue
            elif not self._held and (late := next(self._late, None)) is not None:
                self._held.append(late)
                continue
            elif self._held and not self._open:
                batch.append(self._held.popleft()._replace(crowded=True))
                continue
            else:
                break
            self._open[owed.item] = is_made(owed)
            batch.append(owed)
        return batch

    def _hold(self, owed: Owed) -> None:
        """Let an item wait, at hand or for a further walk; one begun before is on no walk."""
        if len(self._held) < HELD or owed.inputs is not None:
            self._held.append(owed)
        else:
            self._passed.add(owed.item)

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


def is_made(owed: Owed) -> bool:
    """Whether an item's seed was not written by people."""
    return depth_of(owed.seed.fields, {}) > 1
