"""Dead, overloaded and slow endpoints, on a clock that jumps instead of waiting."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.errors import ModelError, RefusedRequest, TransientError, UnreachableError
from agentloop.models import limits
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.limits import Limits
from agentloop.models.scripted import ScriptedModel
from tests.models.asking import PLAIN
from tests.models.test_limits import Server, all_at_once, busy, play, saying

GONE = TransientError("`http://h/v1`", connected=False)


def dead(*times: tuple[float, float]) -> Callable[[int, float], Exception | None]:
    """Return a judge: nobody listens between each two times."""

    def judge(number: int, now: float) -> Exception | None:
        away = any(start <= now < end for start, end in times)
        return TransientError("`http://h/v1`", connected=False) if away else None

    return judge


async def outcomes(limited: Limits, count: int) -> list[tuple[Any, float]]:
    """Ask at once; return what came of each call, and when."""

    async def one(name: int) -> tuple[Any, float]:
        found: Reply | ModelError
        try:
            found = await limited.complete(saying(name), "prompt")
        except ModelError as error:
            found = error
        return found, asyncio.get_running_loop().time()

    return await asyncio.gather(*(one(n) for n in range(count)))


def test_an_endpoint_that_never_answered_is_soon_unreachable_for_all() -> None:
    model = Server(dead((0, 999)))
    told: list[str] = []
    limited = Limits(model, 8, note=told.append)
    found, _ = play(lambda: outcomes(limited, 100))
    assert isinstance(found, list)
    assert model.at == [0, 0.5, 1.5, 3.5, 7.5, 10]
    assert {at for _, at in found} == {limits.FIRST_PATIENCE}
    for error, _ in found:
        assert isinstance(error, UnreachableError)
        assert error.tries == 0  # nobody listened: no request was sent
        assert str(error) == (
            "nobody answers at `http://h/v1` (waited 10 s): is the server running?"
        )
    assert len({id(error) for error, _ in found}) == 100  # each call has its own tries
    assert told == ["nobody answers at `http://h/v1`: waiting up to 10 s"]


@pytest.mark.parametrize("first", ["hello", busy(), RefusedRequest("no")])
@pytest.mark.parametrize("patience", [0.0, 5.0, 40.0, 300.0])
def test_an_endpoint_that_has_answered_gets_more_patience(
    first: str | Exception, patience: float
) -> None:
    limited = Limits(ScriptedModel([first, *[GONE] * 999]), 1, patience=patience)
    silent_from = 0.0

    async def twice() -> Reply:
        nonlocal silent_from
        with contextlib.suppress(RefusedRequest):
            await limited.complete(PLAIN, "prompt")
        return await limited.complete(PLAIN, "prompt")

    error, seconds = play(twice)
    assert isinstance(error, UnreachableError)
    assert patience <= seconds + 1e-3 <= patience + 1


def test_an_endpoint_that_has_answered_elsewhere_gets_more_patience() -> None:
    limited = Limits(ScriptedModel([GONE] * 999), 1, patience=40.0)
    limited.hear()
    error, seconds = play(lambda: limited.complete(PLAIN, "prompt"))
    assert isinstance(error, UnreachableError)
    assert 40.0 <= seconds + 1e-3 <= 41.0


def test_the_first_answer_is_told_once() -> None:
    told: list[int] = []
    limited = Limits(ScriptedModel([RefusedRequest("no"), "hello"]), 1)
    limited.on_answer = lambda: told.append(len(told))

    async def twice() -> Reply:
        with contextlib.suppress(RefusedRequest):
            await limited.complete(PLAIN, "prompt")
        return await limited.complete(PLAIN, "prompt")

    play(twice)
    assert told == [0]


def test_patience_is_for_one_silence_and_not_for_all_of_them() -> None:
    """A server that is away for 250 s three times, and once for longer."""
    silences = [(start, start + 250) for start in (100.0, 400.0, 700.0)] + [(1000.0, 2000.0)]
    told: list[str] = []
    model = Server(dead(*silences), seconds=1)
    limited = Limits(model, 4, note=told.append)

    async def work() -> float:
        with contextlib.suppress(UnreachableError):
            while True:
                await all_at_once(limited, 4)
        return asyncio.get_running_loop().time()

    end, _ = play(work)
    assert isinstance(end, float)
    assert 1299 <= end <= 1301
    waits = "nobody answers at `http://h/v1`: waiting up to 300 s"
    assert told == [waits, "`http://h/v1` answers again"] * 3 + [waits]


def test_one_knocks_and_all_go_on_when_somebody_answers() -> None:
    model = Server(dead((0, 60)), seconds=1)
    limited = Limits(model, 16, patience=100)

    async def work() -> list[tuple[Any, float]]:
        model.judge = lambda *_: None
        await all_at_once(limited, 1)
        model.judge = dead((0, 60))
        return await outcomes(limited, 64)

    found, _ = play(work)
    assert isinstance(found, list)
    assert all(isinstance(reply, Reply) and reply.tries == 1 for reply, _ in found)
    knocks = [at for at in model.at if at > 1]
    pauses = [later - earlier for earlier, later in pairwise(knocks)]
    assert pauses[:8] == pytest.approx([1, 2, 4, 8, 10, 10, 10, 10])
    heard = min(at for at in model.at if at >= 60)
    assert heard < 70
    at_once = Counter(at - heard for _, at in found)
    assert at_once == {1: 1, 2: 16, 3: 16, 4: 16, 5: 15}  # the one that knocked, then all


def test_calls_under_way_when_it_dies_do_not_open_the_door_nor_knock() -> None:
    """Three long calls outlive the listening socket."""
    told: list[str] = []
    model = Server(dead((1, 100)), seconds=3)
    limited = Limits(model, 8, note=told.append)

    async def work() -> None:
        early = [asyncio.create_task(limited.complete(saying(n), "prompt")) for n in range(3)]
        await asyncio.sleep(2)
        late = [asyncio.create_task(limited.complete(saying(n), "prompt")) for n in range(3, 5)]
        await asyncio.gather(*early, *late)

    play(work)
    assert len(told) == 2
    assert model.at[:8] == [0, 0, 0, 2, 2.5, 3.5, 5.5, 9.5]


def test_giving_up_is_no_vow() -> None:
    """Each later call knocks once; when somebody answers, all is as before."""
    model = Server(dead((0, 50)))
    limited = Limits(model, 4)

    async def work() -> tuple[list[tuple[Any, float]], list[Reply]]:
        await outcomes(limited, 3)
        await asyncio.sleep(10)
        later = await outcomes(limited, 3)
        await asyncio.sleep(100)
        return later, await all_at_once(limited, 8)

    found, _ = play(work)
    assert isinstance(found, tuple)
    later, replies = found
    assert [type(error) for error, _ in later] == [UnreachableError] * 3
    assert {at for _, at in later} == {20}
    assert model.at.count(20) <= 3
    assert len(replies) == 8


@given(st.lists(st.floats(0.1, 9.9), min_size=1, max_size=6))
def test_a_cancelled_probe_hands_its_place_on(times: list[float]) -> None:
    model = Server(dead((0, 9)), seconds=0.3)
    limited = Limits(model, 2)

    async def brief(seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await limited.complete(saying("brief"), "prompt")

    async def work() -> Reply:
        await asyncio.gather(*(brief(seconds) for seconds in times))
        return await limited.complete(saying("last"), "prompt")

    reply, seconds = play(work)
    assert isinstance(reply, Reply | UnreachableError)
    assert seconds <= 10.5


class Slow(Server):
    """Takes its time before it lets nobody in: packets are lost."""

    async def complete(self, request: Request, structured: Structured) -> Reply:
        await asyncio.sleep(self.seconds)
        return await super().complete(request, structured)


def test_time_to_connect_belongs_to_the_silence() -> None:
    limited = Limits(Slow(dead((0, 999)), seconds=10), 4)
    found, _ = play(lambda: outcomes(limited, 9))
    assert isinstance(found, list)
    assert all(isinstance(error, UnreachableError) for error, _ in found)
    assert {at for _, at in found} <= {10, 20}


def proxy(*times: tuple[float, float]) -> Callable[[int, float], Exception | None]:
    """Return a judge: between each two times somebody listens, and nothing is behind it."""

    def judge(number: int, now: float) -> Exception | None:
        away = any(start <= now < end for start, end in times)
        return TransientError("`http://h/v1` answered 502: Bad Gateway") if away else None

    return judge


@pytest.mark.parametrize("width", [4, 16, 64])
def test_a_proxy_with_nothing_behind_it_costs_no_call(width: int) -> None:
    model = Server(proxy((5, 205)), seconds=0.5)
    told: list[str] = []
    limited = Limits(model, width, note=told.append)
    found, took = play(lambda: outcomes(limited, 60 * width))
    assert isinstance(found, list)
    assert all(isinstance(reply, Reply) for reply, _ in found)
    assert took <= 30 + 200 + 20
    assert len([at for at in model.at if 6 < at < 205]) < 30  # probes
    assert told == [
        "every call fails (`http://h/v1` answered 502: Bad Gateway): waiting up to 300 s",
        "`server` answers again",
    ]


def test_a_proxy_with_nothing_behind_it_is_given_up_with_patience() -> None:
    limited = Limits(Server(proxy((5, 9999)), seconds=0.5), 16, patience=60)
    found, took = play(lambda: outcomes(limited, 400))
    assert isinstance(found, list)
    errors = [error for error, _ in found if not isinstance(error, Reply)]
    assert all(isinstance(error, UnreachableError) for error in errors)
    assert "502: Bad Gateway, and so it went with every call for 60 s" in str(errors[0])
    assert 64 <= took <= 66


@pytest.mark.parametrize("times", [(100, 1200), (100, 260)])
def test_an_endpoint_that_hangs_is_given_up_or_waited_for(times: tuple[float, float]) -> None:
    class Hanging(Server):
        async def complete(self, request: Request, structured: Structured) -> Reply:
            start = asyncio.get_running_loop().time()
            if times[0] <= start < times[1]:
                await asyncio.sleep(120)
                raise TransientError("`http://h/v1` did not answer within 120 s", billed=True)
            return await super().complete(request, structured)

    limited = Limits(Hanging(seconds=2), 16)
    found, took = play(lambda: outcomes(limited, 1600))
    assert isinstance(found, list)
    errors = [error for error, _ in found if not isinstance(error, Reply)]
    assert all(isinstance(error, UnreachableError) for error in errors)
    assert bool(errors) == (times[1] > 400)
    assert took <= 700


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_calls_that_can_never_succeed_fail_alone(share: float) -> None:
    """Also at the end, when no others are left."""
    chance = random.Random(11)
    poison = {str(n) for n in range(400) if chance.random() < share}

    class Poisoned(Server):
        async def complete(self, request: Request, structured: Structured) -> Reply:
            await asyncio.sleep(0.05)
            if request.messages[-1]["content"] in poison:
                raise TransientError("`http://h/v1` answered 500: no")
            return await super().complete(request, structured)

    limited = Limits(Poisoned(), 32)
    found, _ = play(lambda: outcomes(limited, 400))
    assert isinstance(found, list)
    errors = [error for error, _ in found if not isinstance(error, Reply)]
    assert len(errors) == len(poison)
    assert {type(error) for error in errors} == {TransientError}
    assert min(error.tries for error in errors) == limits.MAX_TRIES
    assert max(error.tries for error in errors) <= limits.MAX_TRIES + 3  # as a probe


class Crowded(Server):
    """Has so many places, and sends away who finds none."""

    def __init__(self, places: int, seconds: float = 1.0, **more: Any) -> None:
        super().__init__(self.no_place, seconds)
        self.places = places
        self.refused: list[float] = []
        self.more = more

    def no_place(self, number: int, now: float) -> Exception | None:
        if self.inside < self.places:
            return None
        self.refused.append(now)
        return TransientError("too many", busy=True, **self.more)


@pytest.mark.parametrize("seconds", [0.05, 1.0, 8.0])
@pytest.mark.parametrize("more", [{}, {"retry_after": 1.0}])
def test_overload_settles_near_what_the_endpoint_bears(seconds: float, more: Any) -> None:
    model = Crowded(8, seconds, **more)
    limited = Limits(model, 32)
    count = 1600
    found, took = play(lambda: outcomes(limited, count))
    assert isinstance(found, list)
    failed = sum(isinstance(error, ModelError) for error, _ in found)
    assert failed <= count / 400
    assert took <= 1.2 * count / 8 * seconds + 20
    late = [at for at in model.at if took / 4 < at < took * 0.9]
    refused = [at for at in model.refused if took / 4 < at < took * 0.9]
    assert len(refused) <= 0.2 * len(late)


def test_the_width_recovers_when_the_endpoint_widens() -> None:
    model = Crowded(8)
    limited = Limits(model, 32)

    async def work() -> float:
        calls = asyncio.create_task(outcomes(limited, 3000))
        await asyncio.sleep(40)
        model.places, model.peak = 99, 0
        await asyncio.sleep(30)
        found = model.inside
        await calls
        return found

    found, _ = play(work)
    assert found == 32
    assert model.peak == 32


def test_refusals_that_have_nothing_to_do_with_the_width_do_not_narrow_it_for_good() -> None:
    chance = random.Random(5)
    model = Server(lambda *_: busy(retry_after=0.5) if chance.random() < 0.3 else None, 0.5)
    limited = Limits(model, 32)
    _, took = play(lambda: outcomes(limited, 6400))
    assert took <= 2 * 200 * 0.5 / 0.7


@given(st.integers(1, 5))
def test_the_width_is_never_less_than_one(ceiling: int) -> None:
    model = Server(lambda number, _: busy(retry_after=1) if number <= 60 else None)
    limited = Limits(model, ceiling)
    found, _ = play(lambda: outcomes(limited, 40))
    assert isinstance(found, list)
    assert sum(isinstance(reply, Reply) for reply, _ in found) >= 20


class Queueing(Server):
    """Answers so many at once; others wait their turn without a word."""

    def __init__(self, places: int, seconds: float) -> None:
        super().__init__(seconds=seconds)
        self._places = asyncio.Semaphore(places)
        self.waiting: list[int] = []
        self._here = 0

    async def complete(self, request: Request, structured: Structured) -> Reply:
        self._here += 1
        self.waiting.append(self._here)
        try:
            async with self._places:
                return await super().complete(request, structured)
        finally:
            self._here -= 1


async def a_few_then_many(limited: Limits) -> None:
    for n in range(30):
        await all_at_once(limited, 2, 2 * n)
    await all_at_once(limited, 1000)


def test_load_that_only_makes_calls_slower_is_gently_taken_back() -> None:
    model = Queueing(2, seconds=1)
    limited = Limits(model, 32)
    _, took = play(lambda: a_few_then_many(limited))
    assert took == pytest.approx(30 + 1000 / 2)  # which loses nothing
    assert 4 <= sum(model.waiting[-600:-100]) / 500 <= 16


def test_a_server_that_batches_is_left_in_peace() -> None:
    """Four times slower at sixteen times the load is four times better."""
    model = Server()
    limited = Limits(model, 32)

    async def work() -> None:
        model.seconds = 1
        for n in range(30):
            await all_at_once(limited, 2, 2 * n)
        model.seconds = 4
        await all_at_once(limited, 2000)

    _, took = play(work)
    assert took == pytest.approx(30 + 2000 / 32 * 4, abs=6)


@given(st.integers(0, 2**16))
def test_noise_is_no_overload(seed: int) -> None:
    """Latencies of a long tail, at any load, narrow nothing."""
    chance = random.Random(seed)

    class Noisy(Server):
        async def complete(self, request: Request, structured: Structured) -> Reply:
            self.seconds = chance.lognormvariate(0, 0.8)
            return await super().complete(request, structured)

    model = Noisy()
    limited = Limits(model, 16)

    async def work() -> int:
        for width in (1, 3, 16, 5, 16, 2):
            for n in range(60 // width):
                await all_at_once(limited, width, n)
        model.peak = 0
        await all_at_once(limited, 100)
        return model.peak

    assert play(work)[0] == 16
