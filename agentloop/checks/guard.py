"""What Python refuses by itself in the sandbox's process: a hook that no program can take away.

Enters: the walls that stand, the folder that may be written. Leaves: an audit hook (PEP 578), which
turns some events into a PermissionError whose words name the limit. Refuses to know: what runs.

Where the kernel's walls stand they do the work and the hook gives them words; it keeps alone what reads
the interpreter's memory, and, where a wall is missing, a program in Python from what it would have held.
A hook is one interpreter's and runs inside it (PEP 578): it refuses the known ways around it, such as a
second interpreter or bytecode that no compiler made, but it is no wall against whoever finds another.
"""

from __future__ import annotations

import _frozen_importlib_external as importer
import _functools  # type: ignore[import-not-found]
import errno
import gc
import os
import sys
import types

from agentloop.checks import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Hook = Callable[[str, tuple[Any, ...]], None]
    Refusals = tuple[tuple[str, frozenset[str]], ...]

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

PEEKING = (
    "cpython.PyInterpreterState_New",  # the hook is this interpreter's alone
    "gc.get_objects",
    "gc.get_referents",
    "gc.get_referrers",
    "marshal.load",
    "sys._current_exceptions",
    "sys._current_frames",
    "sys.addaudithook",
    "sys.monitoring.register_callback",
    "sys.setprofile",
    "sys.settrace",
)
CODE = ("code.__new__", "marshal.loads")  # bytecode may read past the end of its stack
STARTING = ("os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "subprocess.Popen")
LOOKING_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
MOVING = ("os.rename", "os.link", "os.symlink")  # two paths
WRITING = ("open", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", *MOVING)
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NATIVE = ("ctypes", "_ctypes")
INNER = (
    *NATIVE,
    "_ctypes_test",
    "_interpchannels",
    "_interpqueues",
    "_interpreters",
    "_testbuffer",
    "_testcapi",
    "_testinternalcapi",
    "_testlimitedcapi",
    "_xxinterpchannels",
    "_xxsubinterpreters",
    "interpreters",
)


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
    sys.dont_write_bytecode = True  # none of a program's own would be read
    sys.addaudithook(_hook(_refusals(walls), os.path.realpath(folder)))


def _refusals(walls: set[str]) -> Refusals:
    """Return the events that are refused whatever they are about, or, when writing, mostly."""
    refused = [(NO_PEEKING, PEEKING), (NO_NETWORK, LOOKING_UP)]
    if confine.PROCESSES not in walls:
        refused.append((NO_PROCESSES, STARTING))
    if confine.TREE not in walls:
        refused.append((NO_NETWORK, ("socket.connect",)))
    if not walls & {confine.TREE, confine.LANDLOCK}:
        refused.append((NO_WRITING, WRITING))
    return tuple((why, frozenset(events)) for why, events in refused)


def _hook(refusals: Refusals, where: str) -> Hook:
    """Return the hook.

    All that it uses stands in its defaults, and none of that can be changed: a refusal's traceback
    shows the program this frame with its names and the module's. So there is no dict or function.
    """
    judge, within = _sealed(_about()), _sealed(_inside)

    def hook(
        event: str,
        arguments: tuple[Any, ...],
        *,
        refused: Refusals = refusals,
        folder: str = where,
        about: Callable[[str, tuple[Any, ...]], str] = judge,
        allowed: Callable[..., bool] = within,
        real: Callable[[str], str] = os.path.realpath,
        writing: str = NO_WRITING,
        refusal: type[PermissionError] = PermissionError,
        number: int = errno.EPERM,
    ) -> None:
        why = about(event, arguments)
        for reason, events in refused:
            if event in events:
                why = reason
        if why is writing and allowed(event, arguments, folder, real):
            why = ""
        if why:
            raise refusal(number, why)

    return hook


def _about() -> Callable[[str, tuple[Any, ...]], str]:
    """Return what says why an event is refused for what it is about; empty where it is not."""
    library = _sealed(_own_code())
    those = frozenset((-1, 1, os.getppid()))

    def about(
        event: str,
        arguments: tuple[Any, ...],
        *,
        words: tuple[str, str, str] = (NO_PEEKING, NO_NETWORK, NO_SIGNALS),
        kinds: tuple[type, type] = (str, int),
        inner: frozenset[str] = frozenset(INNER),
        parents: frozenset[int] = those,
        own: Callable[..., bool] = library,
        code: frozenset[str] = frozenset(CODE),
        kind: Callable[[object], type] = type,
    ) -> str:
        first = arguments[0] if arguments else ""
        exact = kind(first) in kinds
        if event == "import":
            return words[0] if not exact or first.rpartition(".")[2] in inner else ""
        if event in code:
            return "" if own(event, arguments) else words[0]
        if event == "socket.__new__":  # 1 is AF_UNIX
            return words[1] if kind(arguments[1]) is not kinds[1] or arguments[1] != 1 else ""
        if event == "os.kill":
            return words[2] if exact and first in parents else ""
        return words[0] if event.startswith("ctypes.") else ""

    return about


def _sealed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as one whose code can be neither reached nor replaced."""
    sealed: Callable[..., Any] = _functools._lru_cache_wrapper(function, 0, False, None)
    return sealed


def _own_code() -> Callable[[str, Any], bool]:
    """Return a test of whether Python's own library makes bytecode: of its compiled files, or flags.

    `types.coroutine` copies code with one flag more, and an import reads a file of bytecode. That must
    be one of the library's, and hold what is read: any function can be called by anybody.
    """
    places = tuple(f"{path}/" for path in confine.needed() if os.path.isdir(path))

    def own(
        event: str,
        arguments: tuple[Any, ...],
        *,
        caller: Callable[[int], Any] = sys._getframe,
        makers: tuple[Any, Any] = (
            types.coroutine.__code__,
            vars(importer)["_compile_bytecode"].__code__,
        ),
        library: tuple[str, ...] = places,
        kinds: tuple[type, type, type, type] = (types.CodeType, str, bytes, memoryview),
        calls: tuple[Callable[..., Any], ...] = (os.open, os.read, os.close, type, len),
    ) -> bool:
        frame, data = caller(3), arguments[0]  # past `about` and the hook
        opened, read, close, kind, size = calls
        names = frame.f_locals
        if event == "code.__new__":
            code = names.get("co")
            copied = frame.f_code is makers[0] and kind(code) is kinds[0]
            return copied and (code.co_code, code.co_stacksize) == (data, arguments[7])
        if frame.f_code is not makers[1]:
            return False
        held, path = names["data"], names["bytecode_path"]
        if kind(held) is kinds[3]:
            held = held.obj  # what another thread could not change meanwhile
        if kind(held) is not kinds[2] or kind(path) is not kinds[1]:
            return False
        if not path.startswith(library) or "/../" in path:
            return False
        file = opened(path, 0)  # O_RDONLY
        try:
            found = b""
            while chunk := read(file, size(data) + 17 - size(found)):
                found += chunk
        finally:
            close(file)
        return bool(found[16:] == data)  # after the header of a `.pyc` (PEP 552)

    return own


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
