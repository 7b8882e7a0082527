"""The engine of a Ray cluster: workers in actors, on whatever machines the cluster has.

Enters: tasks. Leaves: what became of them. Refuses to know: what a worker does (`seat`, `worker`), who
is given what and who is to blame for a death (`processes`).

Ray starts the workers, finds room for them and says when one is gone; what they say comes over a
connection of their own (`seal`), for an actor's call costs the driver about a millisecond. Ray tries
nothing again by itself: an item whose worker dies goes on in another, from the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from agentloop import __version__
from agentloop.engines import Driver, processors
from agentloop.engines.bench import Bench
from agentloop.engines.connected import joined, started_here
from agentloop.engines.hand import FAREWELL, Hand
from agentloop.engines.luggage import Luggage
from agentloop.engines.parcel import Orders, Parcel, pack
from agentloop.engines.processes import Processes
from agentloop.engines.seal import fresh, welcomed
from agentloop.engines.wire import Message, Wire
from agentloop.errors import SettingsError, WorkerError
from agentloop.models.choose import OPENAI_COMPATIBLE, Provider
from agentloop.models.embedded import EmbeddedModel
from agentloop.plan import Plan

if TYPE_CHECKING:
    from ray.actor import ActorHandle

SOON = 10.0  # seconds after which those who are there begin, and others join them later


class ActorHand(Hand):
    """A worker in an actor."""

    def __init__(
        self,
        orders: Orders,
        received: Callable[[Message], None],
        gone: Callable[[], None],
        host: str,
    ):
        """`host` is the address by which other machines find this one."""
        super().__init__(orders, received, gone)
        self._host = host
        self._actor: ActorHandle[Any] | None = None
        self._service: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and wait until it can walk. Raises WorkerError, or the UserError it refuses with."""
        with socket.create_server((self._host, 0)) as listener:
            listener.setblocking(False)
            secret = fresh()
            self._actor = _seat()
            self._service = asyncio.create_task(
                _served(self._actor, listener.getsockname()[:2], secret)
            )
            coming = asyncio.create_task(welcomed(listener, secret))
            try:
                await asyncio.wait((coming, self._service), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    raise WorkerError(f"{self.name} does not start: it {_how(self._service)}")
                end, seals = coming.result()
            except BaseException:
                coming.cancel()
                await asyncio.wait([coming])
                if not coming.cancelled() and not coming.exception():
                    coming.result()[0].close()
                raise
        self._wire = await Wire.over(end, self._take, self._lost, seals)
        self._service.add_done_callback(self._over)
        self.send("begin", self._orders)
        await self._ready

    def _over(self, service: asyncio.Task[None]) -> None:
        """Take what it has still said; what it has started may hold its end of the connection."""
        if not service.cancelled():
            service.exception()  # seen: it is told where somebody asks how it ended
        if self._wire is not None:
            self._wire.drain()

    async def close(self) -> None:
        """End it: kindly at first. Safe to call twice, and for one that is gone."""
        self._closing = True
        actor, self._actor = self._actor, None
        if actor is None or self._service is None:
            return
        self.send("end")
        if self._wire is not None:
            self._wire.flush()
        try:
            await asyncio.wait([self._service], timeout=FAREWELL if self._ready.done() else 0.0)
        finally:
            _kill(actor)
            if self._wire is not None:
                self._wire.drain()
            self._service.cancel()

    async def ended(self) -> str:
        """Wait for one that is gone; return how it ended."""
        actor, self._actor = self._actor, None
        if actor is None or self._service is None:
            return "ended"
        await asyncio.wait([self._service], timeout=FAREWELL)
        _kill(actor)
        await asyncio.wait([self._service], timeout=FAREWELL)
        where = f"; what it wrote is in {self.log}" if self.log else ""
        return f"{_how(self._service)}{where}"

    def kill(self) -> None:
        """End it at once."""
        if self._actor is not None:
            _kill(self._actor)


def _seat() -> ActorHandle[Any]:
    """Ask the cluster for an actor, wherever there is a processor for it."""
    import ray

    from agentloop.engines.seat import Seat

    options = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
    return ray.remote(Seat).options(**options, scheduling_strategy="SPREAD").remote()


async def _served(actor: ActorHandle[Any], address: tuple[str, int], secret: bytes) -> None:
    """Have an actor serve; return when it does no more. Raises RayError."""
    await actor.serve.remote(address, secret, __version__, [str(entry) for entry in sys.path])


def _kill(actor: ActorHandle[Any]) -> None:
    import ray

    with contextlib.suppress(Exception):  # Ray itself may be gone
        ray.kill(actor)


def _how(service: asyncio.Task[None]) -> str:
    """Return how an actor ended, in one line."""
    if not service.done() or service.cancelled():
        return "is not heard of"
    error = service.exception()
    if error is None:
        return "ended"
    from ray.exceptions import RayActorError, RayTaskError

    if isinstance(error, RayTaskError):
        error = error.cause or error
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, RayActorError):
        return f"was lost ({said[0]})"
    return f"says {type(error).__name__}: {said[-1] if said else ''}"


class Cluster(Processes):
    """Walks items in actors."""

    def __init__(self, plan: Plan):
        """Pack what workers need. Raises SettingsError for what cannot be sent to them."""
        if importlib.util.find_spec("ray") is None:
            raise SettingsError(
                "`--engine ray` needs the ray extra: `pip install 'agentloop-data[ray]'`"
            )
        super().__init__(plan)
        self._address = plan.settings.ray_address or os.environ.get("RAY_ADDRESS", "")
        if "://" in self._address:
            raise SettingsError(
                f"`--ray-address {self._address}`: name HOST:PORT, on a machine of the cluster: "
                "workers connect to the process that drives"
            )
        self._own = False
        """Whether the cluster is one of our own, of this machine alone."""
        self._host = ""
        self._free = 0
        """Processors that nobody in the cluster uses."""
        self._keys: dict[str, str] = {}
        self._last = contextlib.ExitStack()
        """What is closed at the end."""

    def _packed(self) -> Parcel:
        return pack(self._plan, Luggage.of(self._plan))

    async def start(self, driver: Driver) -> None:
        """Join the cluster, or start one here, and its workers. Raises UserError."""
        self._join_cluster()
        await super().start(driver)

    def _join_cluster(self) -> None:
        """Connect to Ray; where this process is connected already, that is not ours to end."""
        there = "ray" in sys.modules and sys.modules["ray"].is_initialized()
        self._own = not (self._address or there)
        if self._own:
            said = self._plan.settings.workers
            wanted = said if isinstance(said, int) else 1
            self._last.enter_context(started_here(max(wanted, processors())))
        elif not there:
            self._last.enter_context(joined(self._address))
        import ray  # its constants are read from the environment, which stands now

        self._keys = {} if self._own else _keys_of(self._plan)
        self._host = ray.util.get_node_ip_address()
        self._free = int(ray.available_resources().get("CPU", 0))
        embedded = [m for m in self._limits.values() if isinstance(m.model, EmbeddedModel)]
        if embedded and len([node for node in ray.nodes() if node["Alive"]]) > 1:
            raise SettingsError(
                f"`{embedded[0].model.name}` answers on this machine alone, and the cluster has "
                "others: name a model that all can reach"
            )

    def _at_first(self) -> int:
        said = self._plan.settings.workers
        return said if isinstance(said, int) else max(1, self._free)

    def _scales(self) -> bool:
        return not isinstance(self._plan.settings.workers, int)

    def _room(self) -> int:
        """Return as many as calls allow: an actor that waits is what makes a cluster grow."""
        return processors() if self._own else self._most

    def _hire(
        self, orders: Orders, received: Callable[[Message], None], gone: Callable[[], None]
    ) -> Hand:
        return ActorHand(replace(orders, keys=self._keys), received, gone, self._host)

    async def _assembled(self, started: Mapping[asyncio.Task[None], Bench]) -> None:
        """Begin with those whom the cluster has room for; others join when it has more."""
        waiting, told = set(started), False
        while waiting:
            done, waiting = await asyncio.wait(
                waiting, timeout=SOON, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
            if not done and len(waiting) < len(started):
                break
            if not done and not told:
                self._driver.note(
                    "no worker stands yet: the cluster is slow, or has no processor free"
                )
                told = True
        if waiting:
            self._driver.note(
                f"workers: {len(started) - len(waiting)} of {len(started)} for now; others join when "
                "the cluster has a processor for them"
            )
        for task in waiting:
            self._staff.expect(started[task], partial(_result, task))

    async def close(self) -> None:
        """End the workers, and leave the cluster."""
        try:
            await super().close()
        finally:
            self._last.close()


async def _result(task: asyncio.Task[None]) -> None:
    await task


def _keys_of(plan: Plan) -> dict[str, str]:
    """Return the keys that the environment holds for the models of a run."""
    found = {}
    for endpoint in plan.endpoints.values():
        prefix = endpoint.name.partition("/")[0]
        usual = Provider(f"{prefix.upper()}_API_KEY")
        variable = OPENAI_COMPATIBLE.get(prefix, usual).key
        if variable and (key := os.environ.get(variable)):
            found[variable] = key
    return found
