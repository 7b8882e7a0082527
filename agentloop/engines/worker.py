"""A worker: a process that walks the items that it is given, and keeps nothing.

Enters: the number of a connected socket, and that of the process which drives; a parcel, then tasks.
Leaves: what became of each, in one message; the end of stdin (who drives has closed it, or died) ends
it. Refuses to know: seeds, the store, the door.

Ctrl-C is the driver's: it winds up and tells its workers what to leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import pickle
import signal
import socket
import stat
import sys
import threading
import time
import traceback
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agentloop.checks import program_seconds, share_cores
from agentloop.collecting import seldom_collecting
from agentloop.engines import Task
from agentloop.engines.demand import Load
from agentloop.engines.parcel import Orders, Place, limits_of, unpack
from agentloop.engines.remote import LeasedPace, Permit, Questions, RemoteBank, RemoteJournal
from agentloop.engines.seal import Seals
from agentloop.engines.walk import Walker
from agentloop.engines.wire import Message, Wire
from agentloop.errors import AgentloopError
from agentloop.models.embedded import EmbeddedModel
from agentloop.models.limits import Limits
from agentloop.models.rate import UNLIMITED
from agentloop.store.journal import Memory

PR_SET_PDEATHSIG = 1  # from linux/prctl.h
WARNINGS = 100  # different ones that a worker on another machine may send home
LINE = 300  # characters of one


class Worker:
    """Walks items for a driver."""

    def __init__(self, wire: Wire, orders: Orders):
        """Open a workshop. Raises UserError."""
        self._wire = wire
        for variable, key in orders.keys.items():
            os.environ.setdefault(variable, key)
        shop = unpack(orders.parcel)
        self._questions = Questions(wire)
        self._journal = RemoteJournal(orders.parcel.run, self._questions)
        bank = RemoteBank(self._questions) if orders.budget else None
        self._walker = Walker(shop, orders.parcel.run, self._journal, bank)
        self._walks: dict[int, asyncio.Task[tuple[str, Any]]] = {}
        self._limits = limits_of(shop)
        self._whole = {role: limits.concurrency for role, limits in self._limits.items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._paces: dict[str, LeasedPace] = {}
        for endpoint in set(shop.endpoints.values()):
            endpoint.note = endpoint.limits.note = self._note
            endpoint.limits.on_refusal = self._on_refusal
        for role, limits in self._limits.items():
            self._take_share(role, limits, orders)
            limits.on_answer = partial(wire.send, "heard", role)
        share_cores(orders.place.among)
        if orders.report:
            self._beside(self._say_load(orders.report))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _say_load(self, every: float) -> None:
        """Say how busy this process was, again and again."""
        while True:
            at, used = time.monotonic(), processor_seconds()
            await asyncio.sleep(every)
            busy = (processor_seconds() - used) / (time.monotonic() - at)
            borne = all(limits.borne for limits in self._limits.values())
            self._wire.send("load", Load(busy, borne))

    def bound(self, number: int, places: Sequence[Place]) -> None:
        """Make no more calls at once than each place allows, and say when that is so."""
        for role, limits in self._limits.items():
            limits.bound(min(place.share(self._whole[role]) for place in places))
        share_cores(max(place.among for place in places))
        self._beside(self._obey(number))

    async def _obey(self, number: int) -> None:
        for limits in self._limits.values():
            await limits.fit()
        self._wire.send("obeyed", number)

    def _take_share(self, role: str, limits: Limits, orders: Orders) -> None:
        """Be one of several that use a model."""
        model = limits.model
        if isinstance(model, EmbeddedModel):
            model.join(orders.served[model.name])
        width = orders.place.share(limits.concurrency)
        if limits.rate == UNLIMITED:
            limits.share(width)
            return
        counted = limits.rate.tokens_per_minute is not None
        self._paces[role] = pace = LeasedPace(self._wire, role, counts_tokens=counted)
        limits.share(width, pace)
        pace.wake = limits.look_again

    def _note(self, text: str) -> None:
        self._wire.send("note", text)

    def _on_refusal(self) -> None:
        self._wire.send("busy")

    def walk(self, number: int, task: Task, memory: Memory | None, lines: list[bytes]) -> None:
        """Begin with an item, of which so much is known."""
        self._journal.remember(task.item, memory, lines)
        walk = self._walks[number] = asyncio.create_task(self._walk(task))
        walk.add_done_callback(partial(self._ended, number, task.item))

    async def _walk(self, task: Task) -> tuple[str, Any]:
        """Return what is to be said of an item."""
        try:
            return "walked", await self._walker.walk(task)
        except AgentloopError as error:
            return "raised", portable(error)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_left():
                raise
            return "raised", bug(error)

    def _ended(self, number: int, item: str, walk: asyncio.Task[tuple[str, Any]]) -> None:
        """Say what became of an item, be it that it was left before it began."""
        self._journal.forget(item)
        del self._walks[number]
        if walk.cancelled():
            self._wire.send("left", number)
        else:
            kind, what = walk.result()
            self._wire.send(kind, number, what)

    def leave(self, number: int) -> None:
        """Stop on the way, if it still is."""
        if number in self._walks:
            self._walks[number].cancel()

    def kept(self, numbers: list[int]) -> None:
        """Go on where pages were waited for."""
        for number in numbers:
            self._questions.answered(number, None)

    def answer(self, number: int, error: Exception | None) -> None:
        """Go on with the driver's answer."""
        self._questions.answered(number, error)

    def permit(self, role: str, number: int, tokens: int) -> None:
        """Use leave to send a request."""
        self._paces[role].granted(Permit(number, tokens))

    def heard(self, role: str) -> None:
        """Be as patient with a model as with one that has answered here."""
        self._limits[role].hear()

    async def close(self) -> None:
        """Stop all walks, and let go of connections."""
        for task in (*self._walks.values(), *self._tasks):
            task.cancel()
        for limits in self._limits.values():
            await limits.model.aclose()


def processor_seconds() -> float:
    """Return what this process has used of processors, and the programs that its checks run."""
    return time.process_time() + program_seconds()


def _is_left() -> bool:
    """Whether the driver wants no more of this walk; a recipe may cancel itself."""
    walk = asyncio.current_task()
    return walk is not None and walk.cancelling() > 0


def portable(error: AgentloopError) -> AgentloopError:
    """Return an error that survives the way home: one of a type of one's own may not."""
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        again = None
    if type(again) is type(error) and str(again) == str(error):
        return error
    kind = next(k for k in type(error).__mro__ if k.__module__ == AgentloopError.__module__)
    plain: AgentloopError = kind(str(error))
    return plain


def bug(error: BaseException) -> RuntimeError:
    """Return an error that nobody expected, as one that survives the way home: the gist comes first."""
    trace = "".join(traceback.format_exception(error))
    return RuntimeError(f"{type(error).__name__}: {error}, in a worker process:\n{trace}")


class Post:
    """What comes over the wire, handed to the worker once there is one."""

    def __init__(self) -> None:
        self.orders: asyncio.Future[Orders | None] = asyncio.get_running_loop().create_future()
        """None where the connection ended before any came."""
        self.ended = asyncio.Event()
        self.worker: Worker | None = None

    def received(self, message: Message) -> None:
        """Hand a message on."""
        kind, *parts = message
        if kind == "begin":
            self.orders.set_result(parts[0])
        elif kind == "end":
            self.ended.set()
        else:
            getattr(self.worker, kind)(*parts)

    def lost(self) -> None:
        """Take note that nothing more will come."""
        self.ended.set()
        if not self.orders.done():
            self.orders.set_result(None)


class Home(logging.Handler):
    """Sends warnings home, from a machine whose logs nobody reads: each once, and no endless stream."""

    def __init__(self, wire: Wire):
        super().__init__(logging.WARNING)
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._sent: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line, from whatever thread it comes."""
        try:
            text = f"{record.name}: {_first_line(record)}"
        except Exception:  # words and what belongs into them do not go together
            self.handleError(record)
            return
        if len(self._sent) == WARNINGS:
            text = f"a worker warns of more; the rest is in {_log() or 'its log'}"
        if text not in self._sent and len(self._sent) <= WARNINGS:
            self._sent.add(text)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wire.send, "note", text)


def _first_line(record: logging.LogRecord) -> str:
    line = next(iter(record.getMessage().splitlines()), "")
    return line if len(line) <= LINE else f"{line[: LINE - 1]}…"


def _log() -> str:
    """Return where this process writes what nobody sees, as `FILE on HOST`; nothing where unknown."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(2).st_mode):
            return f"{Path('/proc/self/fd/2').readlink()} on {socket.gethostname()}"
    return ""


async def serve(end: socket.socket, seals: Seals | None = None) -> int:
    """Walk what comes until the other end has had enough; return the process's exit code."""
    from langsmith import tracing_context

    post = Post()
    wire = await Wire.over(end, post.received, post.lost, seals)
    if seals is not None:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")  # its log
        logging.getLogger().addHandler(Home(wire))
    orders = await post.orders
    if orders is None:
        return 1
    try:
        post.worker = Worker(wire, orders)
    except Exception as error:
        wire.send("refused", portable(error) if isinstance(error, AgentloopError) else bug(error))
        wire.close()
        return 0
    with seldom_collecting(), tracing_context(enabled=False):
        wire.send("ready", _log() if seals is not None else "")
        await post.ended.wait()
        await post.worker.close()
    wire.close()
    return 0


def _end_with_driver(driver: int) -> None:
    """End at once when the driver does, whatever this process is busy with.

    The thread waits in vain while C code holds Python's lock. Linux needs no thread: it kills a process
    when the thread that has started it ends, and that is the one whose event loop drives.
    """
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != driver:
            os._exit(1)


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def main(descriptor: int, driver: int) -> None:
    """Serve one connection of the process that drives."""
    os.set_inheritable(descriptor, False)  # what it starts has no say in it
    os.dup2(2, 1)  # the driver's stdout is for data
    _end_with_driver(driver)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # not SIG_IGN, which programs it starts would inherit
        signal.signal(number, lambda *_: None)
    code = asyncio.run(serve(socket.socket(fileno=descriptor)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what a recipe has left behind, a thread say, keeps nobody waiting
