"""A worker, item by item: whatever becomes of one, the driver hears of it once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from agentloop.engines import Task, Walked
from agentloop.engines.parcel import Place
from agentloop.engines.wire import HEAD, Message
from agentloop.engines.worker import Worker, serve
from agentloop.errors import StoreError
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.limits import Limits
from agentloop.records import Verdict
from tests.engines.test_remote import Line
from tests.models.asking import PLAIN

TASK = Task("an item", 0, {}, {}, 0)
DROPPED = Verdict(verdict="rejected", reason="filtered")
Walk = Callable[[Task], Coroutine[Any, Any, Walked]]
Hear = Callable[[Walk], list[Message]]


@pytest.fixture
def hear(monkeypatch: pytest.MonkeyPatch) -> Hear:
    """Let an item be walked in some way; return what is said of it. It may be left at once."""
    shop = SimpleNamespace(endpoints={})
    orders: Any = SimpleNamespace(
        parcel=SimpleNamespace(run="r"),
        budget=False,
        place=Place(0, 2),
        served={},
        keys={},
        report=0.0,
    )
    monkeypatch.setattr("agentloop.engines.worker.unpack", lambda _: shop)
    monkeypatch.setattr("agentloop.engines.worker.share_cores", lambda _: None)

    async def work(walk: Walk, left: bool) -> list[Message]:
        monkeypatch.setattr(
            "agentloop.engines.worker.Walker", lambda *_: SimpleNamespace(walk=walk)
        )
        line = Line()
        worker = Worker(line, orders)
        worker.walk(7, TASK, None, [])
        if left:
            worker.leave(7)
        walks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(walks)
        await asyncio.sleep(0)
        return line.sent

    return lambda walk, left=False: asyncio.run(work(walk, left))  # type: ignore[misc]


def ends_with(result: Walked | BaseException) -> Walk:
    async def walk(task: Task) -> Walked:
        if isinstance(result, BaseException):
            raise result
        return result

    return walk


def test_an_item_that_is_walked_comes_home(hear: Hear) -> None:
    ((kind, number, walked, *_),) = hear(ends_with(Walked(DROPPED)))
    assert (kind, number, walked.verdict) == ("walked", 7, DROPPED)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        pytest.param(StoreError("full"), "full", id="the run's own"),
        pytest.param(
            SystemExit("no more"),
            "SystemExit: no more, in a worker process:\nTraceback",
            id="a recipe that leaves",
        ),
        pytest.param(
            asyncio.CancelledError(),
            "CancelledError: , in a worker process:\n",
            id="a recipe that cancels itself",
        ),
    ],
)
def test_an_error_comes_home_and_its_gist_comes_first(
    hear: Hear, result: BaseException, told: str
) -> None:
    ((kind, number, error, *_),) = hear(ends_with(result))
    assert (kind, number) == ("raised", 7)
    assert str(error).startswith(told)


def test_an_item_that_is_left_before_it_began_is_reported(hear: Hear) -> None:
    assert hear(ends_with(Walked(DROPPED)), left=True) == [("left", 7)]  # type: ignore[call-arg]


def test_a_worker_whose_orders_cannot_be_read_waits_for_no_others() -> None:
    async def work() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(HEAD.pack(4) + b"what")
            return await asyncio.wait_for(serve(theirs), 60)

    assert asyncio.run(work()) == 1


class Held:
    """A model whose answers are held back."""

    name = "own/held"
    identity = {"model": "own/held"}  # noqa: RUF012

    def __init__(self) -> None:
        self.under_way: list[asyncio.Future[None]] = []

    async def complete(self, request: Request, structured: Structured) -> Reply:
        answer = asyncio.get_running_loop().create_future()
        self.under_way.append(answer)
        await answer
        return Reply("well")

    async def aclose(self) -> None: ...


class Endpoint:
    """Where a role's calls go."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.note: Any = None


def test_a_worker_obeys_once_no_more_calls_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is bound by each of the places, and begins no call beyond them meanwhile."""

    async def work() -> None:
        model = Held()
        limits = Limits(model, 6)
        endpoint = Endpoint(limits)
        shop = SimpleNamespace(endpoints={"critic": endpoint})
        monkeypatch.setattr("agentloop.engines.worker.unpack", lambda _: shop)
        monkeypatch.setattr("agentloop.engines.worker.Walker", lambda *_: None)
        orders: Any = SimpleNamespace(
            parcel=SimpleNamespace(run="r"), budget=False, place=Place(0, 1), served={}, keys={}
        )
        orders.report = 0.0
        line = Line()
        worker = Worker(line, orders)
        calls = [asyncio.create_task(limits.complete(PLAIN, "prompt")) for _ in range(8)]
        await turns()
        assert len(model.under_way) == 6
        worker.bound(1, (Place(0, 3), Place(0, 2)))
        for answer in model.under_way[:4]:
            await turns()
            assert ("obeyed", 1) not in line.sent
            answer.set_result(None)
        await turns()
        assert len(model.under_way) == 6
        assert ("obeyed", 1) in line.sent
        worker.bound(2, (Place(0, 1),))
        await turns()
        assert ("obeyed", 2) in line.sent
        assert len(model.under_way) == 8
        for answer in model.under_way:
            if not answer.done():
                answer.set_result(None)
        await asyncio.gather(*calls)
        await worker.close()

    asyncio.run(work())


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
