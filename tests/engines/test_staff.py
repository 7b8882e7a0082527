"""Workers that come and go: all calls are divided among them, and never more are made."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentloop.engines.bench import Bench, Job
from agentloop.engines.demand import ROUNDS, Load
from agentloop.engines.parcel import Place
from agentloop.engines.staff import Staff
from agentloop.errors import WorkerError

WHOLE = 12


class Caller:
    """A worker that makes as many calls as it may; each ends when it is told to."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.most = bench.place.share(WHOLE)
        self.calls = 0
        self.asked: int | None = None

    def send(self, kind: str, number: int, places: Sequence[Place]) -> None:
        assert kind == "bound"
        self.most, self.asked = min(place.share(WHOLE) for place in places), number
        self.tell()

    def tell(self) -> None:
        if self.asked is not None and self.calls <= self.most:
            number, self.asked = self.asked, None
            asyncio.get_running_loop().call_soon(self.bench.obeyed, number)

    def call(self) -> None:
        """Make all the calls that there may be, for the items in hand."""
        if self.bench.open:
            self.bench.jobs[0] = job(self.bench)
        if self.bench.jobs:
            self.calls = max(self.calls, self.most)

    def end(self) -> None:
        """End a call; with the last one the items end."""
        self.calls = max(0, self.calls - 1)
        self.tell()
        if not self.calls and self.bench.jobs:
            self.bench.ended(0)

    async def close(self) -> None:
        assert self.calls == 0


def job(bench: Bench) -> Job:
    task: Any = None
    return Job(0, task, None, asyncio.get_running_loop().create_future(), bench=bench)


class Stage:
    """A staff of callers."""

    def __init__(self) -> None:
        self.hands: dict[Bench, Caller] = {}
        self.told: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.refused: Exception | None = None
        self.staff = Staff(self.fill, self.background, self.told.append)

    async def fill(self, bench: Bench) -> None:
        await asyncio.sleep(0)
        if self.refused is not None:
            raise self.refused
        hand: Any = Caller(bench)
        self.hands[bench] = hand
        bench.stood(hand)

    def background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    @classmethod
    async def of(cls, count: int, room: int) -> Stage:
        """Return a staff of so many that has begun."""
        stage = cls()
        stage.staff.make(count, room)
        for bench in stage.staff.benches:
            await stage.fill(bench)
        await stage.staff.begin()
        return stage

    def weigh(self, busy: float) -> None:
        for bench in list(self.staff.benches):
            self.report(bench, busy)

    def report(self, bench: Bench, busy: float, rounds: int = ROUNDS) -> None:
        """Have one say so often how busy it was while an item ended."""
        for _ in range(rounds):
            bench.came_home += 1
            self.staff.weigh(bench, Load(busy, borne=True))

    @property
    def calls(self) -> int:
        return sum(hand.calls for hand in self.hands.values())

    async def rest(self) -> None:
        """Have all happen that happens by itself."""
        for _ in range(500):
            await asyncio.sleep(0)


EVENTS = st.lists(
    st.sampled_from(["busy", "idle", "call", "call", "end", "end", "end", "die", "turn"]),
    max_size=60,
)


@settings(deadline=None)
@given(st.integers(1, 8), EVENTS)
@example(7, ["call"] * 7 + ["busy"] + ["turn"] * 6 + ["call"] * 16)  # one of the old gets more
def test_no_more_calls_are_made_than_one_process_would_make(count: int, events: list[str]) -> None:
    async def work() -> None:
        stage = await Stage.of(count, WHOLE)
        for number, event in enumerate(events):
            await happen(stage, event, number)
            assert stage.calls <= WHOLE
        while stage.calls:
            for hand in stage.hands.values():
                hand.end()
            await stage.rest()
        await stage.rest()
        for hand in stage.hands.values():
            hand.call()
        assert stage.calls == WHOLE
        for task in stage.tasks:
            assert task.cancelled() or task.result() is None

    asyncio.run(work())


async def happen(stage: Stage, event: str, number: int) -> None:
    hands = [stage.hands[bench] for bench in stage.staff.benches if bench.hand is not None]
    if event in ("busy", "idle"):
        stage.weigh(0.97 if event == "busy" else 0.1)
    elif event == "turn":
        await asyncio.sleep(0)
    elif event == "die" and hands:
        await revive(stage, hands[number % len(hands)].bench)
    elif hands:
        hand = hands[number % len(hands)]
        hand.call() if event == "call" else hand.end()


async def revive(stage: Stage, bench: Bench) -> None:
    """Have a worker die, and another take its place."""
    bench.hand = None
    stage.hands.pop(bench).calls = 0
    bench.bereft()
    await asyncio.sleep(0)
    if bench.cleared.is_set():
        return
    await stage.fill(bench)


def test_one_that_is_let_go_ends_its_items_first() -> None:
    async def work() -> None:
        stage = await Stage.of(2, 2)
        kept, idle = stage.staff.benches
        idle.jobs[7] = job(idle)
        stage.weigh(0.1)
        await stage.rest()
        assert (stage.staff.benches, idle.open, kept.open) == ([kept, idle], False, True)
        idle.ended(7)
        await stage.rest()
        assert (stage.staff.benches, stage.hands[kept].most) == ([kept], WHOLE)
        assert stage.told == ["workers: 1 from here on: more had too little to do"]

    asyncio.run(work())


def test_one_that_does_not_stand_yet_is_no_longer_expected() -> None:
    async def work() -> None:
        stage = await Stage.of(2, 4)
        never = asyncio.get_running_loop().create_future()
        stage.staff.expect(Bench(9, Place(0, 2)), lambda: never)
        stage.weigh(0.97)  # somebody is expected already
        await stage.rest()
        assert len(stage.staff.everybody) == 3
        stage.weigh(0.7)  # less to do for a moment is no reason
        assert len(stage.staff.everybody) == 3
        stage.weigh(0.1)
        await stage.rest()
        assert (len(stage.staff.everybody), never.cancelled()) == (1, True)

    asyncio.run(work())


def test_where_one_stays_away_others_go_on_and_no_more_are_asked_for() -> None:
    async def work() -> None:
        stage = await Stage.of(1, 4)
        stage.refused = WorkerError("no room")
        stage.weigh(0.97)
        await stage.rest()
        assert stage.told == ["worker 2 stays away, and what is left of them goes on: no room"]
        stage.weigh(0.97)
        await stage.rest()
        assert (len(stage.staff.everybody), len(stage.told)) == (1, 1)

    asyncio.run(work())


def test_nobody_is_asked_for_while_one_is_still_leaving() -> None:
    """There is room for two, and each has a call at least."""

    async def work() -> None:
        stage = await Stage.of(2, 2)
        one, other = stage.staff.benches
        other.jobs[7] = job(other)
        stage.weigh(0.1)
        stage.report(one, 0.97)
        await stage.rest()
        assert stage.staff.everybody == [one, other]

    asyncio.run(work())


def test_who_comes_during_a_division_is_told_of_it() -> None:
    async def work() -> None:
        bench = Bench(0, Place(0, 2))
        await bench.bound(3, (Place(0, 2), Place(0, 4)))
        hand: Any = Caller(bench)
        bench.stood(hand)
        assert hand.most == WHOLE // 4

    asyncio.run(work())


def test_one_that_dies_before_it_is_judged_is_not_let_go_while_another_comes() -> None:
    """Its place is being filled: who comes would be forgotten."""

    async def work() -> None:
        stage = await Stage.of(2, 2)
        one, other = stage.staff.benches
        stage.report(other, 0.1)
        other.hand = None
        other.bereft()
        stage.report(one, 0.1)
        await stage.fill(other)
        await stage.rest()
        assert stage.staff.everybody == [one, other]
        assert other.open

    asyncio.run(work())


def test_one_that_stood_and_died_is_still_expected() -> None:
    async def work() -> None:
        stage = await Stage.of(2, 4)
        for hand in stage.hands.values():
            hand.call()  # these calls end before another may begin
        stage.weigh(0.97)
        await stage.rest()
        new = stage.staff.everybody[-1]
        new.hand = None
        new.bereft()
        stage.weigh(0.1)
        await stage.rest()
        assert new in stage.staff.everybody

    asyncio.run(work())


def test_the_last_one_stays_although_it_was_to_go() -> None:
    async def work() -> None:
        stage = await Stage.of(2, 2)
        one, other = stage.staff.benches
        other.jobs[7] = job(other)
        stage.weigh(0.1)
        assert other.leaving
        await stage.staff.do_without(one, WorkerError("it has other prompts"))
        other.ended(7)
        await stage.rest()
        assert stage.staff.benches == [other]
        assert (other.open, stage.hands[other].most) == (True, WHOLE)

    asyncio.run(work())


def test_as_long_as_first_answers_are_waited_for_nobody_is_let_go() -> None:

    async def work() -> None:
        stage = await Stage.of(2, 2)
        one, other = stage.staff.benches
        for bench in 5 * [one, other]:
            stage.staff.weigh(bench, Load(0.0, borne=True))
        stage.report(one, 0.0)
        stage.report(other, 0.0, ROUNDS - 1)
        assert not other.leaving
        stage.report(other, 0.0, 1)
        await stage.rest()
        assert stage.staff.benches == [one]

    asyncio.run(work())


def test_without_the_last_one_nothing_goes_on() -> None:
    async def work() -> None:
        stage = await Stage.of(1, 1)
        with pytest.raises(WorkerError, match="gone"):
            await stage.staff.do_without(stage.staff.benches[0], WorkerError("gone"))

    asyncio.run(work())
