"""The workers of one start of something long: what ends them, and what is told meanwhile.

Enters: a function that works until it has nothing left to do, and how many are to do so side by side.
Leaves: they have come home, by themselves, by Ctrl-C, by a clock or by one error that is nobody's own.
Refuses to know: what they work on, the store, models.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeAlias

from agentloop.errors import AgentloopError, UnreachableError
from agentloop.interrupts import on_interrupt
from agentloop.progress import Progress, Silent
from agentloop.records import Event

StoppedBy: TypeAlias = Literal[
    "accept", "items", "seeds", "budget", "seconds", "collapse", "interrupt", "endpoint", "error"
]
GRACE = 20.0  # seconds that what is in flight gets after the first Ctrl-C


class Crew:
    """Workers, and the word to those who watch them."""

    def __init__(self, progress: Progress, run: str, wake: Callable[[], None] = lambda: None):
        """`run` names what they do in every event; `wake` is called when they are to stop."""
        self.stopped_by: StoppedBy | None = None
        """Why no further work is begun; None as long as it is."""
        self.error: AgentloopError | None = None
        self._progress = progress
        self._run = run
        self._wake = wake
        self._workers: list[asyncio.Task[None]] = []
        self._winding_up = False

    async def work(self, worker: Callable[[], Coroutine[Any, Any, None]], width: int) -> None:
        """Let `width` workers work until all have come home. Raises what is a bug in one of them."""
        with on_interrupt(self._interrupt):
            self._workers = [asyncio.create_task(worker()) for _ in range(width)]
            await asyncio.gather(*self._workers, return_exceptions=True)
        for done in self._workers:
            if not done.cancelled() and (bug := done.exception()):
                raise bug

    def stop(self, error: AgentloopError) -> None:
        """End for a reason that is no item's: what is in flight is cut off, and will replay."""
        if self.error is None:
            self.error = error
            self.stopped_by = "endpoint" if isinstance(error, UnreachableError) else "error"
            self._cancel()

    def wind_up(self, why: StoppedBy, hint: str = "") -> None:
        """Begin nothing new; what is in flight gets a while, then it is left for the next start."""
        if self._winding_up and why != "interrupt":
            return
        self._winding_up = True
        if self.stopped_by is None or why == "interrupt":
            self.stopped_by = why
        asyncio.get_running_loop().call_later(GRACE, self._cut_off, why)
        self._wake()
        self.note(f"stopping: items in flight get {GRACE:.0f} s{hint}")

    def tell(self, kind: Any, **data: Any) -> None:
        """Tell those who watch."""
        event = Event(kind=kind, run=self._run, at=time.time(), data=data)
        try:
            self._progress.event(event)
        except OSError:  # nobody reads on; the work is worth more than its progress
            self._progress = Silent()

    def note(self, text: str) -> None:
        """Tell those who watch something in words."""
        self.tell("note", text=text)

    def _interrupt(self) -> None:
        """First Ctrl-C: begin nothing new; second: now."""
        if self.stopped_by == "interrupt":
            self._cancel()
        else:
            self.wind_up("interrupt", "; press again to stop at once")

    def _cut_off(self, why: StoppedBy) -> None:
        """Leave what is still in flight: that, and not that nothing was left to begin, ends the work."""
        if not all(worker.done() for worker in self._workers):
            self.stopped_by = why
            self._cancel()

    def _cancel(self) -> None:
        for worker in self._workers:
            if worker is not asyncio.current_task():
                worker.cancel()
