"""Checks: deterministic verifiers that look at a candidate before any judge is paid.

Enters: a candidate and its seed, as plain JSON. Leaves: a `CheckResult` each, with the evidence that
the reviser is shown word for word. Refuses to know: models, scores, rounds.

A check of one's own is a function with a name and its settings:

    def no_shouting(candidate, seed):
        loud = candidate["answer"].isupper()
        return fail("the answer is in capitals") if loud else passed()

    recipe = Recipe(..., checks=[Check("no_shouting", no_shouting)])

A function that takes more than a few milliseconds is marked `slow=True` and must be safe in a thread.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from agentloop.records import CheckResult, Json, digest


class Finding(NamedTuple):
    """What a check function returns; `fraction` is the share that passed, 0..1."""

    passed: bool
    evidence: str = ""
    fraction: float = 1.0


def passed() -> Finding:
    """Return that there is nothing to repair."""
    return Finding(True)


def fail(evidence: str, fraction: float = 0.0) -> Finding:
    """Return what is wrong, in words that a reviser can act on."""
    return Finding(False, evidence, fraction)


CheckFunction = Callable[[Json, Json], Finding]


@dataclass(frozen=True)
class Check:
    """A named check: `run(candidate, seed)`; its settings and code belong to a run's identity."""

    name: str
    run: CheckFunction
    settings: Json = field(default_factory=dict)
    veto: bool = True
    slow: bool = False
    """Whether it takes long enough to run beside the event loop, in a thread: it runs a program."""

    @property
    def hash(self) -> str:
        """Name a check by its settings and its source text, where Python can show it."""
        source = source_hash(self.run)
        return digest({"settings": self.settings, "veto": self.veto, "source": source}, 8)


def source_hash(function: Callable[..., object]) -> str:
    """Return the hash of a function's source text; of nothing where Python cannot show it."""
    try:
        return digest(inspect.getsource(function), 8)
    except (OSError, TypeError):
        return ""


async def run_checks(
    checks: Sequence[Check], candidate: Json, seed: Json
) -> tuple[CheckResult, ...]:
    """Run every check in order, so that a reviser sees all failures at once.

    A slow one runs in a thread, as many at once as there are cores.
    """
    loop, results = asyncio.get_running_loop(), []
    for check in checks:
        if check.slow:
            ran = await loop.run_in_executor(_threads(), _run_slow, check, candidate, seed)
            results.append(ran)
        else:
            results.append(_run(check, candidate, seed))
    return tuple(results)


def _run(check: Check, candidate: Json, seed: Json) -> CheckResult:
    found = check.run(copy.deepcopy(candidate), copy.deepcopy(seed))
    return CheckResult(
        name=check.name,
        passed=found.passed,
        evidence=found.evidence,
        fraction=found.fraction,
        veto=check.veto,
    )


def _run_slow(check: Check, candidate: Json, seed: Json) -> CheckResult:
    global _waited
    begun, used = time.monotonic(), time.thread_time()
    try:
        return _run(check, candidate, seed)
    finally:
        with _counting:
            _waited += (time.monotonic() - begun) - (time.thread_time() - used)


def program_seconds() -> float:
    """Return how long slow checks of this process have waited for the programs that they run."""
    return _waited


_waited = 0.0
_counting = threading.Lock()
_sharing = 1
"""Processes that run slow checks on this machine, this one included."""


def share_cores(processes: int) -> None:
    """Run only so many slow checks at once from now on that others have their part."""
    global _sharing
    if processes != _sharing:
        _sharing = processes
        _threads.cache_clear()  # those of before end when they have no more to do


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads of all slow checks of this process."""
    cores = (os.cpu_count() or 1) // _sharing
    return ThreadPoolExecutor(max(1, cores), thread_name_prefix="check")
