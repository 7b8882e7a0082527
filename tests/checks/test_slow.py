"""Slow checks run beside the event loop, in order, and only so many at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from agentloop.checks import Check, Finding, fail, passed, program_seconds, run_checks
from agentloop.records import Json

PATIENCE = 30.0  # seconds after which a deadlock is a failure


def test_results_keep_their_order_and_names() -> None:
    checks = [
        Check("one", lambda *_: fail("first")),
        Check("two", lambda *_: fail("second", 0.5), slow=True, veto=False),
        Check("three", lambda *_: passed()),
    ]
    results = asyncio.run(run_checks(checks, {}, {}))
    assert [(r.name, r.passed, r.evidence, r.veto) for r in results] == [
        ("one", False, "first", True),
        ("two", False, "second", False),
        ("three", True, "", True),
    ]
    assert results[1].fraction == 0.5


def test_the_loop_goes_on_while_a_slow_check_runs() -> None:
    looped = threading.Event()

    def waits(candidate: Json, seed: Json) -> Finding:
        return passed() if looped.wait(PATIENCE) else fail("the loop stood still")

    async def both() -> bool:
        task = asyncio.create_task(run_checks([Check("waits", waits, slow=True)], {}, {}))
        await asyncio.sleep(0)
        looped.set()
        return (await task)[0].passed

    assert asyncio.run(both())


def test_a_quick_check_stays_in_the_loops_thread() -> None:
    threads = []

    def where(candidate: Json, seed: Json) -> Finding:
        threads.append(threading.current_thread())
        return passed()

    asyncio.run(run_checks([Check("quick", where), Check("slow", where, slow=True)], {}, {}))
    assert threads[0] is threading.current_thread()
    assert threads[1] is not threading.current_thread()


def test_no_more_run_at_once_than_there_are_cores() -> None:
    cores = os.cpu_count() or 1
    running, most = [0], [0]
    entered, go, lock = threading.Semaphore(0), threading.Event(), threading.Lock()

    def counts(candidate: Json, seed: Json) -> Finding:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        entered.release()
        ended = go.wait(PATIENCE)
        with lock:
            running[0] -= 1
        return passed() if ended else fail("never all at once")

    def all_in() -> bool:
        return all(entered.acquire(timeout=PATIENCE) for _ in range(cores))

    async def crowd() -> None:
        work = [run_checks([Check("c", counts, slow=True)], {}, {}) for _ in range(3 * cores)]
        tasks = [asyncio.create_task(one) for one in work]
        assert await asyncio.to_thread(all_in)
        go.set()
        assert all(results[0].passed for results in await asyncio.gather(*tasks))

    asyncio.run(crowd())
    assert most[0] == cores


def test_an_error_in_a_slow_check_reaches_its_caller() -> None:
    def broken(candidate: Json, seed: Json) -> Finding:
        raise KeyError("answer")

    with pytest.raises(KeyError, match="answer"):
        asyncio.run(run_checks([Check("broken", broken, slow=True)], {}, {}))


def test_a_slow_check_cannot_change_the_candidate() -> None:
    def clears(candidate: Json, seed: Json) -> Finding:
        candidate.clear()
        return passed()

    candidate: Json = {"answer": "x"}
    asyncio.run(run_checks([Check("clears", clears, slow=True)], candidate, {}))
    assert candidate == {"answer": "x"}


def test_what_programs_take_is_counted_of_slow_checks() -> None:
    """A worker that waits for them does not idle."""

    def runs(candidate: Json, seed: Json) -> Finding:
        subprocess.run([sys.executable, "-c", ""], check=True)
        return passed()

    before = program_seconds()
    asyncio.run(run_checks([Check("quick", runs)], {}, {}))
    assert program_seconds() == before
    asyncio.run(run_checks([Check("slow", runs, slow=True)], {}, {}))
    assert program_seconds() > before
