"""One worker process, as who drives sees it: started, spoken to, ended.

Enters: orders. Leaves: its messages, and the word that it is gone, with how. Refuses to know: items,
money, which worker should do what.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

from agentloop.engines.parcel import Orders
from agentloop.engines.wire import Message, Wire
from agentloop.errors import WorkerError

FAREWELL = 5.0  # seconds that a worker has to let go of its connections
WORKER = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from agentloop.engines.worker import main
main(int(sys.argv[2]), int(sys.argv[3]))
"""


class Hand:
    """A worker process."""

    def __init__(
        self,
        orders: Orders,
        received: Callable[[Message], None],
        gone: Callable[[], None],
    ):
        self.number = orders.number
        self.log = ""
        """Where it writes what is not brought home; nothing where that is our own stderr."""
        self._orders = orders
        self._received = received
        self._gone = gone
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: Wire | None = None
        self._closing = False

    @property
    def name(self) -> str:
        """How it is called when a person is told of it."""
        return f"worker {self.number + 1}"

    async def start(self) -> None:
        """Start it and wait until it can walk. Raises WorkerError, or the UserError it refuses with."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _spawn(theirs)
            except OSError as error:
                ours.close()
                raise WorkerError(f"{self.name} does not start: {error}") from error
        self._wire = await Wire.over(ours, self._take, self._lost)
        watched = (self._process, self._wire, asyncio.get_running_loop())
        threading.Thread(target=_watch, args=watched, daemon=True).start()
        self.send("begin", self._orders)
        await self._ready

    def send(self, *message: object) -> None:
        """Send it a message."""
        if self._wire is not None:
            self._wire.send(*message)

    async def close(self) -> None:
        """End it: kindly at first. Safe to call twice, and for one that is gone."""
        self._closing = True
        process, self._process = self._process, None
        if process is None:
            return
        self.send("end")
        if self._wire is not None:
            self._wire.flush()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, FAREWELL if self._ready.done() else 0.0)
        finally:
            _reap(process)
            if self._wire is not None:
                self._wire.drain()

    async def ended(self) -> str:
        """Wait for one that is gone; return how it ended."""
        process, self._process = self._process, None
        if process is None:
            return "ended"
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, FAREWELL)
        finally:
            _reap(process)
        return told(process.returncode)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()

    def _take(self, message: Message) -> None:
        if message[0] == "ready":
            self.log = message[1]
            if not self._ready.done():
                self._ready.set_result(None)
        elif message[0] == "refused":
            self._closing = True
            if not self._ready.done():
                self._ready.set_exception(message[1])
        else:
            self._received(message)

    def _lost(self) -> None:
        if self._ready.done():
            if not self._closing:
                self._gone()
            return
        self._closing = True
        task = asyncio.create_task(self.ended())
        task.add_done_callback(self._not_started)

    def _not_started(self, how: asyncio.Task[str]) -> None:
        if not self._ready.done():
            self._ready.set_exception(WorkerError(f"{self.name} does not start: it {how.result()}"))


def _spawn(end: socket.socket) -> subprocess.Popen[bytes]:
    """Start a worker that finds modules where this process does, in the same order."""
    path = json.dumps([str(entry) for entry in sys.path])
    return subprocess.Popen(
        [sys.executable, "-P", "-c", WORKER, path, str(end.fileno()), str(os.getpid())],
        stdin=subprocess.PIPE,  # its end is the worker's end
        pass_fds=[end.fileno()],
        start_new_session=True,  # Ctrl-C is the driver's
    )


def _watch(process: subprocess.Popen[bytes], wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
    """Wait for a worker's end; what it has started may hold its end of the connection for longer."""
    process.wait()
    with contextlib.suppress(RuntimeError):  # the loop has ended too
        loop.call_soon_threadsafe(wire.drain)


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def told(code: int) -> str:
    """Return an exit status in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
