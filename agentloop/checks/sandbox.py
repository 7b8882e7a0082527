r"""Untrusted Python programs, run in a confined process.

Enters: programs, limits. Leaves: an `Outcome` each: whether it ran to its end, else which limit
stopped it or what it raised, the ends of its output, its time. Refuses to know: what programs are for.

    outcome, = run([Program.of("print(6 * 7)")])
    outcome.passed, outcome.stdout         # True, "42\n"

All programs of a call share one process that is started for them, and each runs in a fork of it: none
sees what another left in memory or in its folder, and an endless one costs the others nothing but time.
Only Python's own library can be imported. The environment holds no variable of the host's.

On Linux the walls are namespaces (no network, no other process), a read-only file tree with nothing but
that library, another user where agentloop runs as root, Landlock, a count of processes and a watch on
their memory. `walls()` says which of them this machine allows. Elsewhere there are limits of time,
file size and open files, and what Python refuses by itself (no process, no network, no writing outside):
enough for a model's mistakes, not for an attacker.

A program that ends early, whatever it prints or writes, has not passed. Claims about it (`Program`)
are decided in another process than its code's, which has no way to pass but to answer rightly. Without
claims a program vouches for itself, and one that breaks its interpreter can say what it likes.
"""

from __future__ import annotations

import ast
import functools
import marshal
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from agentloop.errors import AgentloopError

GRACE = 10.0  # seconds that starting, stopping and clearing up may take
ALL_WALLS = frozenset({"namespaces", "tree", "user", "landlock", "calls"})
WALLS = {
    "limits": "CPU time, file size and open files of each process; memory on Linux",
    "namespaces": "no network, no process, no shared memory but its own",
    "tree": "a read-only file tree with Python's library; one folder in memory may be written",
    "user": "a user of its own, not root",
    "landlock": "the kernel forbids paths outside the folder, TCP and signals, each if new enough",
    "calls": "the kernel gives no memory that is no process's (memfd, System V)",
    "processes": "how many processes and threads at once",
    "together": "the memory of all processes together",
}
_START = """\
import sys
for name, path in zip(("agentloop", "agentloop.checks"), sys.argv[1:]):
    sys.modules[name] = module = type(sys)(name)
    module.__path__ = [path]
    if "." in name:
        sys.modules["agentloop"].checks = module
from agentloop.checks.inside import main
main()
"""


class SandboxError(AgentloopError):
    """The sandbox could not be put up, so nothing was run in it."""


@dataclass(frozen=True)
class Limits:
    """What a program may use; each holds for one program, but for `total_s`."""

    cpu_s: int = 10
    """CPU seconds of a process, whole ones."""
    wall_s: float = 20.0
    """Seconds from start to end: more than `cpu_s`, so that a busy machine changes no verdict."""
    total_s: float = 60.0
    """Seconds for all programs of a call; those whose turn has not come have not passed."""
    memory_mb: int = 512
    """MiB of address space of a process, and of memory of all its processes (`together`)."""
    processes: int = 8
    """Processes and threads at once, itself included."""
    file_mb: int = 16
    """MiB of a file, and of its whole folder (`tree`)."""

    def say(self, name: str) -> str:
        """Return a limit's words for a reader: what it is, and how much was allowed."""
        known = {
            "cpu": f"CPU time ({self.cpu_s} s)",
            "wall": f"wall time ({self.wall_s:g} s)",
            "total": f"wall time of all tests together ({self.total_s:g} s)",
            "memory": f"memory ({self.memory_mb} MB)",
            "processes": f"number of processes ({self.processes})",
            "files": f"file size ({self.file_mb} MB)",
            "open": "number of open files",
            "output": "amount of output (10 MB)",
            "network": "no network",
            "outside": "no files outside its folder",
            "environment": "no variables of the host's environment",
            "signals": "no signals to other processes",
            "python": "no looking into the interpreter (ctypes, gc, tracing, bytecode, interpreters)",
        }
        return known.get(name, "")


USUAL = Limits()


class Part(NamedTuple):
    """A piece of source text under a name that a reader is shown, such as `code`."""

    name: str
    source: str


@dataclass(frozen=True)
class Program:
    """Parts that run one after another in one fresh module."""

    parts: tuple[Part, ...]
    shows: tuple[str, ...] = ()
    """Expressions to evaluate there when an assertion failed."""
    claims: tuple[Part, ...] = ()
    """Parts that run afterwards in a process of their own, where the names of the others answer by
    message (`apart`). If they call those with what cannot be sent, such as a function, all run anew in
    one module, as if the claims were among the parts: the code has no say in that."""

    @classmethod
    def of(cls, source: str) -> Program:
        """Return a program of one part."""
        return cls((Part("program", source),))


@dataclass(frozen=True)
class Outcome:
    """What became of a program. Only `passed`, `exit` and the seconds are beyond its own making."""

    passed: bool
    """It ran to its end."""
    limit: str = ""
    """The name of the limit that stopped it (`Limits.say`), if one did."""
    error: str = ""
    """What it raised, as the last line of a traceback, or how it ended."""
    place: str = ""
    """The line that raised, with its part."""
    part: str = ""
    """The part that was running."""
    shown: tuple[str, ...] = ()
    """The values of `Program.shows`."""
    exit: int | None = None
    """Exit code of its process, a signal's number negative; `None` if it never started."""
    stdout: str = ""
    """The last 4 KiB."""
    stderr: str = ""
    wall_s: float = field(default=0.0, compare=False)
    cpu_s: float = field(default=0.0, compare=False)


def run(
    programs: Sequence[Program], limits: Limits = USUAL, *, walls: frozenset[str] = ALL_WALLS
) -> tuple[Outcome, ...]:
    """Run programs one after another, each behind as many of the `walls` as the machine allows.

    Returns after `total_s` and a few seconds at the latest. Raises SandboxError if a wall that the
    machine allows could not be put up.
    """
    _, told = _ask(programs, limits, walls)
    outcomes = [_outcome(one) for one in told]
    lost = Outcome(False, error="the sandbox was killed before the program could end")
    return (*outcomes, *[lost] * (len(programs) - len(outcomes)))


@functools.cache
def walls(wanted: frozenset[str] = ALL_WALLS) -> tuple[str, ...]:
    """Return the names of the walls that stand on this machine (keys of `WALLS`), found by a try."""
    found, told = _ask([Program.of("")], USUAL, wanted)
    _outcome(told[0])
    return found


def _ask(
    programs: Iterable[Program], limits: Limits, walls: frozenset[str]
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Start the sandbox, hand it the job, and return its walls and what it tells of each program."""
    with tempfile.TemporaryDirectory(prefix="agentloop-", ignore_cleanup_errors=True) as base:
        job = {
            "base": base,
            "walls": sorted(walls),
            "limits": asdict(limits),
            "programs": [
                ([tuple(part) for part in p.parts], list(p.shows), [tuple(c) for c in p.claims])
                for p in programs
            ],
        }
        out, err = _start(job, limits.total_s + GRACE)
    lines = [ast.literal_eval(line.decode()) for line in _whole_lines(out)]
    if not lines:
        said = err.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise SandboxError(f"the sandbox does not start: {said[-1]}")
    return tuple(lines[0]), lines[1:]


def _start(job: dict[str, Any], seconds: float) -> tuple[bytes, bytes]:
    """Run the sandbox's process and return its two streams; it ends when this process does."""
    here = Path(__file__).parent
    python = getattr(sys, "_base_executable", None) or sys.executable
    command = [python, "-s", "-S", "-P", "-c", _START, str(here.parent), str(here)]
    life, alive = os.pipe()
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=_environment(),
            pass_fds=(life,),
            start_new_session=True,
        ) as process:
            try:
                return process.communicate(marshal.dumps({**job, "life": life}), seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return process.communicate()
    finally:
        os.close(life)
        os.close(alive)


def _environment() -> dict[str, str]:
    """Return all the variables that a program sees; sets are ordered alike in every run."""
    return {
        "LANG": "C.UTF-8",
        "PATH": "/nowhere",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "MALLOC_ARENA_MAX": "1",  # else each thread takes 64 MB of address space
    }


def _whole_lines(data: bytes) -> Iterator[bytes]:
    return (line for line in data.splitlines(keepends=True) if line.endswith(b"\n"))


def _outcome(told: dict[str, Any]) -> Outcome:
    """Read what the keeper tells; raises SandboxError when the program's walls did not stand."""
    if told.get("limit") == "total" and "exit" not in told:
        return Outcome(False, "total", "it was not run")
    if not told["usable"] and not told["limit"]:
        said = told["stderr"].strip().splitlines() or [f"exit code {told['exit']}"]
        raise SandboxError(f"a wall of the sandbox does not stand: {said[-1]}")
    told["said"] += [""] * (4 - len(told["said"]))
    limit, error, place, part, *shown = told["said"]
    limit = told["limit"] or (limit if USUAL.say(limit) else "")
    return Outcome(
        passed=told["passed"],
        limit=limit,
        error=error or _ending(told),
        place=place,
        part=part,
        shown=tuple(shown),
        exit=told["exit"],
        stdout=told["stdout"],
        stderr=told["stderr"],
        wall_s=told["wall_s"],
        cpu_s=told["cpu_s"],
    )


def _ending(told: dict[str, Any]) -> str:
    """Return how a program ended that raised nothing."""
    code = told["exit"]
    if told["passed"] or told["limit"]:
        return ""
    if code == -signal.SIGKILL:
        return "it was killed by SIGKILL: by itself, or by the kernel for want of memory"
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    return f"it ended before its last line, with exit code {code}"
