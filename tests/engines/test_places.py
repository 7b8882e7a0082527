"""Who drives, with workers that are none: what it does when they die, and whom it gives what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from agentloop.engines import Driver, Task, Walked, items_at_once
from agentloop.engines.parcel import Orders
from agentloop.engines.processes import GUILTY, Processes
from agentloop.engines.wire import Message
from agentloop.errors import WorkerError
from agentloop.models.limits import Limits
from agentloop.models.scripted import ScriptedModel
from agentloop.records import Verdict

WORKERS = 2
WIDE = 12
DONE = Walked(Verdict(verdict="rejected", reason="filtered"))


class Puppet:
    """A worker that does nothing by itself."""

    def __init__(
        self, orders: Orders, received: Callable[[Message], None], gone: Callable[[], None]
    ):
        self.number = orders.place.number
        self.name = f"worker {self.number + 1}"
        self.says, self.dies = received, gone
        self.heard: list[Message] = []

    async def start(self) -> None: ...

    def send(self, *message: Any) -> None:
        self.heard.append(message)

    async def ended(self) -> str:
        return "was killed"

    def kill(self) -> None: ...

    async def close(self) -> None: ...

    @property
    def walks(self) -> list[int]:
        """The numbers of the items that it was given."""
        return [message[1] for message in self.heard if message[0] == "walk"]


class Stage:
    """An engine whose workers are puppets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, note: Callable[[str], None]):
        self.hands: list[Puppet] = []
        self.spoilt: Exception | None = None
        """Why no further worker starts."""
        monkeypatch.setattr("agentloop.engines.processes.pack", lambda _: None)
        monkeypatch.setattr("agentloop.engines.processes.Hand", self._hand)
        limits = Limits(ScriptedModel([]), WIDE)
        self.settings = SimpleNamespace(workers=WORKERS)
        plan: Any = SimpleNamespace(
            endpoints={"critic": SimpleNamespace(limits=limits)},
            settings=self.settings,
            concurrency=WIDE,
        )
        self.engine = Processes(plan)
        journal: Any = SimpleNamespace(memory=lambda _: None)
        self._driver = Driver(journal, None, note)

    def _hand(self, *given: Any) -> Puppet:
        if self.spoilt is not None:
            raise self.spoilt
        self.hands.append(Puppet(*given))
        return self.hands[-1]

    async def begin(self, count: int) -> list[asyncio.Task[Walked]]:
        """Start, and have so many items walked."""
        await self.engine.start(self._driver)
        walks = [
            asyncio.create_task(self.engine.walk(Task(f"item {n}", 0, {}, {}, 0)))
            for n in range(count)
        ]
        await self.settle()
        return walks

    async def kill(self, hand: Puppet) -> None:
        hand.dies()
        await self.settle()

    async def settle(self) -> None:
        """Let everything happen that needs no word from outside."""
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, notes: list[str]) -> Stage:
    return Stage(monkeypatch, notes.append)


def act(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def in_time() -> None:
        await asyncio.wait_for(work(), 60)

    asyncio.run(in_time())


def test_items_run_ahead_of_calls_as_in_one_process(stage: Stage) -> None:
    async def work() -> None:
        walks = await stage.begin(99)
        assert sum(len(hand.walks) for hand in stage.hands) == items_at_once(WIDE) > WIDE
        for walk in walks:
            walk.cancel()

    act(work)


def test_there_are_as_many_as_processors_where_nobody_counts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentloop.engines.processes.processors", lambda: 3)
    stage.settings.workers = "auto"

    async def work() -> None:
        await stage.begin(0)
        assert [hand.number for hand in stage.hands] == [0, 1, 2]

    act(work)


def test_workers_that_die_one_after_the_other_end_the_run(stage: Stage) -> None:
    """None of the items is to blame: the run ends, and nothing more is begun."""

    async def work() -> None:
        walks = await stage.begin(99)
        most = GUILTY * (WORKERS + 1)
        for _ in range(most):
            await stage.kill(stage.hands[-1])
        assert not all(walk.done() for walk in walks)
        await stage.kill(stage.hands[-1])
        ended = await asyncio.gather(*walks, return_exceptions=True)
        assert any(isinstance(one, WorkerError) for one in ended)
        with pytest.raises(WorkerError, match=f"{most + 1} workers died one after the other"):
            await stage.engine.walk(Task("one more", 0, {}, {}, 0))
        assert len(stage.hands) == WORKERS + most

    act(work)


def test_deaths_between_which_items_come_home_end_no_run(stage: Stage) -> None:
    async def work() -> None:
        walks = await stage.begin(99)
        for _ in range(30):
            hand = stage.hands[-1]
            hand.says(("walked", hand.walks[0], DONE))
            await stage.kill(hand)
        errors = [walk.exception() for walk in walks if walk.done()]
        assert len(errors) >= 30
        assert errors == [None] * len(errors)
        for walk in walks:
            walk.cancel()

    act(work)


def test_a_watcher_that_fails_at_a_workers_death_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def note(text: str) -> None:
        raise KeyError("item")

    async def work() -> None:
        stage = Stage(monkeypatch, note)
        walks = await stage.begin(3)
        await stage.kill(stage.hands[0])
        with pytest.raises(WorkerError, match="KeyError: 'item'"):
            await asyncio.gather(*walks)

    act(work)


def test_where_a_worker_cannot_be_replaced_others_go_on(stage: Stage, notes: list[str]) -> None:
    async def work() -> None:
        walks = await stage.begin(4)
        first, second = stage.hands
        stage.spoilt = WorkerError("worker 1 does not start: no memory")
        await stage.kill(first)
        assert "worker 1 stays away" in notes[-1]
        for number in (*second.walks[:2], *first.walks):
            second.says(("walked", number, DONE))
        assert await asyncio.gather(*walks) == [DONE] * 4

    act(work)


def test_where_no_worker_can_be_replaced_the_run_ends(stage: Stage) -> None:
    async def work() -> None:
        walks = await stage.begin(4)
        stage.spoilt = WorkerError("worker 1 does not start: no memory")
        for hand in stage.hands[:2]:
            await stage.kill(hand)
        ended = await asyncio.gather(*walks, return_exceptions=True)
        assert ended == [stage.spoilt] * 4
        with pytest.raises(WorkerError, match="no memory"):
            await stage.engine.walk(Task("one more", 0, {}, {}, 0))

    act(work)


def test_all_workers_know_that_a_model_has_answered(stage: Stage) -> None:
    """Those that are there, and one that takes another's place."""

    async def work() -> None:
        await stage.begin(0)
        first, second = stage.hands
        answered = [stage.engine.answered]
        first.says(("heard", "critic"))
        second.says(("heard", "critic"))
        assert [*answered, stage.engine.answered] == [False, True]
        assert second.heard.count(("heard", "critic")) == 1
        await stage.kill(first)
        assert stage.hands[-1] not in (first, second)
        assert ("heard", "critic") in stage.hands[-1].heard

    act(work)
