"""A worker: a process that walks the items that it is given, and keeps nothing.

Enters: `python -m agentloop.engines.worker FD`, the number of a connected socket; a parcel, then tasks.
Leaves: what became of them; the end of stdin (who drives has closed it, or died) ends the process.
Refuses to know: seeds, the store, the door.

Ctrl-C is the driver's: it winds up and tells its workers what to leave.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import threading
import traceback

from agentloop.checks import share_cores
from agentloop.collecting import seldom_collecting
from agentloop.engines import Task, Walked
from agentloop.engines.parcel import Orders, limits_of, unpack
from agentloop.engines.remote import LeasedPace, Permit, Questions, RemoteBank, RemoteJournal
from agentloop.engines.walk import Walker
from agentloop.engines.wire import Message, Wire
from agentloop.errors import AgentloopError
from agentloop.models.embedded import EmbeddedModel
from agentloop.models.limits import Limits
from agentloop.models.rate import UNLIMITED
from agentloop.store.files import encoded
from agentloop.store.journal import Memory


class Worker:
    """Walks items for a driver."""

    def __init__(self, wire: Wire, orders: Orders):
        """Open a workshop. Raises UserError."""
        self._wire = wire
        self._shop = shop = unpack(orders.parcel)
        self._questions = Questions(wire)
        self._journal = RemoteJournal(orders.parcel.run, self._questions)
        bank = RemoteBank(self._questions) if orders.budget else None
        self._walker = Walker(shop, orders.parcel.run, self._journal, bank)
        self._walks: dict[int, asyncio.Task[None]] = {}
        self._paces: dict[str, LeasedPace] = {}
        for endpoint in set(shop.endpoints.values()):
            endpoint.note = endpoint.limits.note = self._note
        for role, limits in limits_of(shop).items():
            self._take_share(role, limits, orders)
        share_cores(orders.place.among)

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

    def walk(self, number: int, task: Task, memory: Memory | None, lines: list[bytes]) -> None:
        """Begin with an item, of which so much is known."""
        self._journal.remember(task.item, memory, lines)
        walk = asyncio.create_task(self._walk(number, task))
        self._walks[number] = walk

    async def _walk(self, number: int, task: Task) -> None:
        try:
            walked = await self._walker.walk(task)
        except asyncio.CancelledError:
            self._wire.send("left", number)
        except AgentloopError as error:
            self._wire.send("raised", number, portable(error), self.answered)
        except BaseException:
            bug = RuntimeError(f"in a worker process:\n{traceback.format_exc()}")
            self._wire.send("raised", number, bug, self.answered)
        else:
            self._wire.send("walked", number, _slim(walked), self.answered)
        finally:
            self._journal.forget(task.item)
            del self._walks[number]

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

    @property
    def answered(self) -> bool:
        """Whether a call was ever answered."""
        return any(endpoint.limits.answered for endpoint in self._shop.endpoints.values())

    async def close(self) -> None:
        """Stop all walks, and let go of connections."""
        for walk in list(self._walks.values()):
            walk.cancel()
        for limits in limits_of(self._shop).values():
            await limits.model.aclose()


def _slim(walked: Walked) -> Walked:
    return walked._replace(lines=[encoded([line]) for line in walked.lines])


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


class Post:
    """What comes over the wire, handed to the worker once there is one."""

    def __init__(self) -> None:
        self.orders: asyncio.Future[Orders] = asyncio.get_running_loop().create_future()
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


async def serve(end: socket.socket) -> None:
    """Walk what comes until the other end has had enough."""
    from langsmith import tracing_context

    post = Post()
    wire = await Wire.over(end, post.received, post.ended.set)
    orders = await post.orders
    try:
        post.worker = Worker(wire, orders)
    except Exception as error:
        wire.send("refused", portable(error) if isinstance(error, AgentloopError) else _bug())
        wire.close()
        return
    with seldom_collecting(), tracing_context(enabled=False):
        wire.send("ready")
        await post.ended.wait()
        await post.worker.close()
    wire.close()


def _bug() -> RuntimeError:
    return RuntimeError(f"in a worker process:\n{traceback.format_exc()}")


def _end_with_driver() -> None:
    """End at once when stdin does, whatever the main thread is busy with."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Serve one connection."""
    os.dup2(2, 1)  # the driver's stdout is for data
    _, _, path = os.environ.pop("PYTHONPATH").partition(os.pathsep)
    os.environ |= (
        {"PYTHONPATH": path} if path else {}
    )  # what it starts is not to find more than the driver
    threading.Thread(target=_end_with_driver, daemon=True).start()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # not SIG_IGN, which programs it starts would inherit
        signal.signal(number, lambda *_: None)
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what a recipe has left behind, a thread say, keeps nobody waiting


if __name__ == "__main__":
    main()
