"""Being connected to Ray: to a cluster that runs, or to one of our own that lasts as long.

Enters: an address, or how many processors. Leaves: a process that Ray knows, as quiet as it was before.
Refuses to know: what is done there (`cluster`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from agentloop.errors import WorkerError, boundary

SMALL = 80 * 2**20  # bytes of Ray's object store, which is not used
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a FutureWarning
}
OURS = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # listens on loopback alone, as there
MODE = "RAY_AUTH_MODE"
PATIENCE = 10.0  # seconds within which somebody listens at an address


@contextlib.contextmanager
def started_here(processors: int) -> Iterator[None]:
    """Run a cluster on this machine, which nobody else reaches. Raises WorkerError."""
    own = {"num_cpus": processors, "object_store_memory": SMALL, "include_dashboard": False}
    with _environment(QUIET | _ours()):
        if (
            "ray" not in sys.modules
        ):  # it reads the mode at its import; one imported before, at its start
            os.environ[MODE] = "token"
        import ray

        with _on_loopback(), _connected("local", "Ray does not start", **own):
            _refuse_an_open(ray.get_runtime_context().gcs_address)
            yield


@contextlib.contextmanager
def joined(address: str) -> Iterator[None]:
    """Be connected to a cluster that runs already. Raises WorkerError."""
    _knock(address)
    with _environment(QUIET), _connected(address, f"`--ray-address {address}`"):
        yield


@contextlib.contextmanager
def _connected(address: str, what: str, **more: Any) -> Iterator[None]:
    """Be connected; `what` says in a failure's line what has failed."""
    import ray  # its constants are read from the environment, which stands now

    with _own_signals(), _said_by(what):
        try:
            ray.init(address, log_to_driver=False, configure_logging=False, **more)
        except SystemExit:  # SIGTERM, as Ray hears it
            raise KeyboardInterrupt from None
    with _silent():
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Have Ray listen on loopback alone, also where it was imported before.

    It takes 127.0.0.1 as `_node_ip_address` for the machine's own address, unless this says otherwise.
    """
    constants: Any = importlib.import_module("ray._private.ray_constants")
    usual = getattr(constants, "ENABLE_RAY_CLUSTER", True)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = usual


def _refuse_an_open(address: str) -> None:
    """Raise WorkerError for a cluster of our own that others could reach, or enter without a token."""
    host = address.rpartition(":")[0].strip("[]")
    if not ipaddress.ip_address(host).is_loopback:
        raise WorkerError(f"Ray listens at {address}, where others reach it, not on loopback alone")
    if os.environ.get(MODE) != "token":
        raise WorkerError(f"Ray asks nobody for a token: set {MODE}=token before it is imported")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep Ray from saying on stdout, where our data goes, that a worker has died."""
    worker: Any = sys.modules.get("ray._private.worker")  # there is no setting for it
    usual = getattr(worker, "print_to_stdstream", None)
    if usual is None:
        yield
        return
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = usual


def _knock(address: str) -> None:
    """Raise WorkerError where nobody listens: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        with boundary(WorkerError, f"no Ray cluster answers at `{address}`", OSError):
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


@contextlib.contextmanager
def _said_by(what: str) -> Iterator[None]:
    """Say in one line what Ray raises, and keep its own lines back."""
    log = logging.getLogger("ray")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    except Exception as error:  # whatever it raises
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise WorkerError(f"{what}: {said}") from error
    finally:
        log.setLevel(before)


@functools.cache
def _ours() -> dict[str, str]:
    """Return what makes a cluster of one's own: nobody else gets in."""
    return OURS | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set, for a while; what Ray sets besides goes with them."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    os.environ.update({**values, **before})
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM as they were: Ray takes the latter."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
