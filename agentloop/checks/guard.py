"""What Python refuses by itself in the sandbox's process: a hook that no program can take away.

Enters: the walls that stand, the folder that may be written. Leaves: an audit hook (PEP 578), which
turns some events into a PermissionError whose words name the limit. Refuses to know: what runs.

Where the kernel's walls stand they do the work and the hook gives them words; it keeps alone what reads
the interpreter's memory, and, where a wall is missing, a program in Python from what it would have held.
"""

from __future__ import annotations

import errno
import gc
import os
import sys

from agentloop.checks import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Hook = Callable[[str, tuple[Any, ...]], None]

NO_PEEKING = "the sandbox lets nobody look into the interpreter"
NO_PROCESSES = "no process can be started in this sandbox"
NO_NETWORK = "there is no network in the sandbox"
NO_SIGNALS = "no process outside the sandbox can be signalled"
NO_WRITING = "nothing outside the sandbox's folder can be written"
REFUSALS = {
    NO_PEEKING: "python",
    NO_PROCESSES: "processes",
    NO_NETWORK: "network",
    NO_SIGNALS: "signals",
    NO_WRITING: "outside",
}

PEEKING = ("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys.addaudithook")
TRACING = ("sys.settrace", "sys.setprofile", "sys.monitoring.register_callback")
STARTING = ("os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "subprocess.Popen")
LOOKING_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
MOVING = ("os.rename", "os.link", "os.symlink")  # two paths
WRITING = ("open", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", *MOVING)
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NATIVE = ("ctypes", "_ctypes")
AF_UNIX = 1


def forget() -> None:
    """Leave nothing at hand in this process that reads memory by its address."""
    confine.__dict__.pop("ctypes", None)
    confine.__dict__.pop("_libc", None)
    for name in [name for name in sys.modules if name.startswith((*NATIVE, "agentloop"))]:
        module = sys.modules.pop(name)
        if name.startswith(NATIVE):
            getattr(module, "_pointer_type_cache", {}).clear()
            vars(module).clear()
    gc.collect()


def guard(walls: set[str], folder: str) -> None:
    """Put up the hook, for as long as this process lives."""
    sys.addaudithook(_hook(_refusals(walls), os.path.realpath(folder)))


def _refusals(walls: set[str]) -> dict[str, str]:
    """Return the events that are refused whatever they are about, or, when writing, mostly."""
    refused = dict.fromkeys((*PEEKING, *TRACING), NO_PEEKING) | dict.fromkeys(
        LOOKING_UP, NO_NETWORK
    )
    if confine.PROCESSES not in walls:
        refused |= dict.fromkeys(STARTING, NO_PROCESSES)
    if confine.TREE not in walls:
        refused["socket.connect"] = NO_NETWORK
    if not walls & {confine.TREE, confine.LANDLOCK}:
        refused |= dict.fromkeys(WRITING, NO_WRITING)
    return refused


def _hook(refused: dict[str, str], folder: str) -> Hook:
    """Return the hook. All that it uses is bound here: what the program could replace could undo it."""
    peeking, network, signals, writing = NO_PEEKING, NO_NETWORK, NO_SIGNALS, NO_WRITING
    refusal, number, kind, text, whole = PermissionError, errno.EPERM, type, str, int
    native, parents, unix = frozenset(NATIVE), frozenset((-1, 1, os.getppid())), AF_UNIX
    inside, real = _inside, os.path.realpath

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        why, first = refused.get(event), arguments[0] if arguments else ""
        if event.startswith("ctypes."):
            why = peeking
        elif event == "import":
            if kind(first) is not text or first.rpartition(".")[2] in native:
                why = peeking
        elif event == "socket.__new__":
            if kind(arguments[1]) is not whole or arguments[1] != unix:
                why = network
        elif event == "os.kill":
            why = signals if kind(first) is whole and first in parents else why
        elif why is writing and inside(event, arguments, folder, real):
            why = None
        if why is not None:
            raise refusal(number, why)

    return hook


def _inside(
    event: str, arguments: tuple[Any, ...], folder: str, real: Callable[[str], str]
) -> bool:
    """Whether an event only reads, or names no path outside the folder."""
    flags = arguments[2] if event == "open" else WRITE_FLAGS
    if type(flags) is int and not flags & WRITE_FLAGS:
        return True
    named = arguments[: 2 if event in MOVING else 1]
    return all(
        type(n) is int or (type(n) is str and f"{real(n)}/".startswith(f"{folder}/")) for n in named
    )
