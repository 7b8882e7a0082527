"""Ctrl-C and SIGTERM inside an event loop.

Enters: a function. Leaves: it is called for each signal; the handlers of before are put back afterwards.
Refuses to know: what is stopped, how long that takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def on_interrupt(handler: Callable[[], None]) -> Iterator[None]:
    """Call a function for each Ctrl-C or SIGTERM, in the main thread of a running loop.

    Where the loop listens to one already, that is left to whoever told it to.
    """
    loop = asyncio.get_running_loop()
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        # other threads can have no handler, and some loops none at all: their owner ends them
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            earlier = signal.getsignal(number)
            if getattr(earlier, "__module__", "").startswith("asyncio"):
                continue  # the loop's owner listens already, and knows what to do
            loop.add_signal_handler(number, handler)
            before[number] = earlier
    try:
        yield
    finally:
        for number, earlier in before.items():
            loop.remove_signal_handler(number)
            if earlier is not None:
                signal.signal(number, earlier)  # a notebook's own, say


@contextlib.contextmanager
def cut_off_by_interrupt() -> Iterator[None]:
    """Cut off what is awaited inside at Ctrl-C or SIGTERM. Raises KeyboardInterrupt then."""
    task = asyncio.current_task()
    assert task is not None
    heard: list[bool] = []

    def cut() -> None:
        heard.append(task.cancel())

    with on_interrupt(cut):
        try:
            yield
        except asyncio.CancelledError:
            if heard:
                raise KeyboardInterrupt from None
            raise
