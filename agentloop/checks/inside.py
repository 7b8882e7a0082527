"""What runs in the sandbox's process: a keeper, and each program in a fork of its own behind the walls.

    agentloop ── starter (enters namespaces) ── keeper (their first process) ─┬─ program 1
                                                                              └─ program 2 ── its code

Enters: one job on stdin (`sandbox.py` writes it), a pipe that stays open as long as somebody waits.
Leaves: a line on stdout for the walls, then one for each program. Refuses to know: what the programs are
for; it believes nothing that they say, but for one thing: that they ran to their end.

The word for it is drawn by the keeper once the program's process exists. A program with claims runs
its code in a child of that process (`apart`), which never holds the word: the code can answer what the
claims ask, and nothing it does in its own memory makes them true. In a program without claims, code and
word share a process. There the word lies on the interpreter's evaluation stack only, and what is known
to look deeper (`gc`, `ctypes`, tracing, crafted bytecode, a second interpreter) is refused: that stops
mistakes and the usual tricks; it is no proof against a program that corrupts its interpreter.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` takes as long as all the others
import builtins
import marshal
import os
import select
import sys
import time

from agentloop.checks.account import Parts, account, clip, value
from agentloop.checks.apart import Beyond, Link, answer, flush
from agentloop.checks.confine import Place, end_with_parent
from agentloop.checks.guard import forget, guard
from agentloop.checks.remote import Asking, Names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TAIL = 4096  # bytes kept of each stream
OUTPUT_LIMIT = 10 << 20  # bytes written, after which a program is stopped
REPORT = 16384  # bytes read of what a program says about its failure
TICK = 0.02  # seconds between looks at memory, and at processes where the kernel tells of none
PAGE = os.sysconf("SC_PAGE_SIZE")
OPEN_TOP = 64  # the keeper never has that many files open
READY = b"+"  # the first byte of a report: the walls stand
BEYOND = b"beyond"  # what a claim asks can be asked in the code's own process only

_RESTORE = compile(
    "holder.__dict__.update(saved); space['__builtins__'] = holder", "<restore>", "exec"
)


def main() -> None:
    """Read the job, go behind the walls, leave the work to the keeper and wait for it."""
    job = marshal.loads(sys.stdin.buffer.read())  # noqa: S302 - written by the parent
    life = os.dup(job["life"])
    os.close(job["life"])
    place = Place(job["base"], frozenset(job["walls"]))
    place.separate()
    keeper = os.fork()
    if keeper:
        _, status = os.waitpid(keeper, 0)
        os._exit(int(status != 0))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # its first process hears nothing from within
    place.settle()
    Keeper(job, place, life).keep()


Whole = tuple[Parts, list[str], Parts]  # parts, shows, claims


class Keeper:
    """Runs one program after the other, and sees to it that none outlives its turn."""

    def __init__(self, job: dict[str, object], place: Place, life: int):
        self.programs: list[Whole] = job["programs"]  # type: ignore[assignment]
        self.limits: dict[str, float] = job["limits"]  # type: ignore[assignment]
        self.place = place
        self.life = life
        self.results = os.dup(1)

    def keep(self) -> None:
        """Write the walls, then what became of each program."""
        self._say(sorted(self.place.walls))
        until = time.monotonic() + self.limits["total_s"]
        for number, program in enumerate(self.programs):
            left = until - time.monotonic()
            if left <= 0:
                self._say({"limit": "total"})
            else:
                self._say(self._either(number, program, left))
        os._exit(0)

    def _either(self, number: int, program: Whole, left: float) -> dict[str, object]:
        """Run a program; once more, in one process, where its claims ask for that."""
        began = time.monotonic()
        told = self._run(number, program, left)
        if told.pop("beyond"):
            parts, shows, claims = program
            left = max(left - (time.monotonic() - began), TICK)
            told = self._run(len(self.programs) + number, (parts + claims, shows, []), left)
            told.pop("beyond")
        return told

    def _say(self, value: object) -> None:
        data = ascii(value).encode() + b"\n"
        while data:
            data = data[os.write(self.results, data) :]

    def _run(self, number: int, program: Whole, left: float) -> dict[str, object]:
        pipes = [os.pipe() for _ in range(3)]
        given, give = os.pipe()
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                self._become(number, program, [write for _, write in pipes], given)
            except BaseException:  # a wall does not hold: nothing was run
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        word = os.urandom(16)
        os.write(give, word)
        for file in (given, give, *(write for _, write in pipes)):
            os.close(file)
        wall = self.limits["wall_s"]
        watch = Watch(pid, [read for read, _ in pipes], self, apart=bool(program[2]))
        watch.wait(began + min(wall, left), "wall" if wall <= left else "total")
        return watch.outcome(word, time.monotonic() - began)

    def _become(
        self,
        number: int,
        program: Whole,
        writes: list[int],
        given: int,
    ) -> None:
        """Turn this fork into the program: nothing open but its output, its report and its word."""
        os.setsid()
        nothing = os.open("/dev/null", os.O_RDONLY)
        high = [os.dup2(file, OPEN_TOP + at) for at, file in enumerate([nothing, *writes, given])]
        for at, file in enumerate(high):
            os.dup2(file, at, inheritable=at < 3)
        os.closerange(5, OPEN_TOP + len(high))
        parts, shows, claims = program
        more = 1 if claims else 0  # the process that asks
        self.place.enter(number, {**self.limits, "processes": self.limits["processes"] + more})
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        asking = self._part(parts) if claims else None
        words = [os.read(4, 16)]
        os.close(4)
        forget()
        guard(self.place.walls, os.getcwd())
        os.write(3, READY)
        perform(3, words, claims or parts, shows, asking)

    def _part(self, parts: Parts) -> Asking:
        """Run the code in a child that has neither the word nor the report, and return the link."""
        down, up = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            for file in (3, 4, up[0], down[1]):
                os.close(file)
            end_with_parent()
            forget()
            guard(self.place.walls, os.getcwd())
            answer(Link(down[0], up[1]), parts)
        os.close(down[0])
        os.close(up[1])
        return Asking(Link(up[0], down[1]), child)

    def kill_all(self, leader: int) -> None:
        """Kill a program and whatever it started, and wait until they are gone."""
        if os.getpid() == 1:  # of the sandbox's own process namespace: -1 is everyone within
            _kill(-1)
        else:
            try:
                os.killpg(leader, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                _kill(leader)
            while children := _children():  # the orphans of orphans come here, one level a round
                for child in children:
                    _kill(child)
                    os.waitpid(child, 0)
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def memory(self) -> int:
        """Return the bytes that all processes of the program hold, where the keeper can see them."""
        if self.place.proc is None:
            return 0
        total = 0
        for name in os.listdir(self.place.proc):
            if name.isdigit() and name != "1":
                total += _resident(f"{name}/statm", self.place.proc)
        return total


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # gone already


def _children() -> list[int]:
    """Return this process's children, on Linux."""
    try:
        file = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
    except OSError:
        return []
    text = os.read(file, 65536)
    os.close(file)
    return [int(pid) for pid in text.split()]


def _resident(path: str, folder: int) -> int:
    try:
        file = os.open(path, os.O_RDONLY, dir_fd=folder)
    except OSError:  # it ended meanwhile
        return 0
    try:
        return int(os.read(file, 200).split()[1]) * PAGE
    except (OSError, IndexError):
        return 0
    finally:
        os.close(file)


class Watch:
    """Reads what a program writes while it runs, never keeping more than the ends, and stops it."""

    def __init__(self, pid: int, reads: list[int], keeper: Keeper, *, apart: bool):
        self.pid = pid
        self.apart = apart
        self.keeper = keeper
        self.kept = dict.fromkeys(reads, b"")
        self.reads = reads
        self.open = list(reads)
        self.written = 0
        self.stopped = ""
        self.status = 0
        self.cpu = 0.0
        for read in reads:
            os.set_blocking(read, False)

    def wait(self, until: float, name: str) -> None:
        """Wait until the program has ended, or stop it at a limit; `name` is that of the time."""
        ended = _end_of(self.pid)
        look = time.monotonic() + TICK
        while not self.stopped and not self._reaped():
            tick = TICK if self.open or ended else TICK / 20
            some = [*self.open, self.keeper.life, *ended]
            self._read(select.select(some, [], [], tick)[0])
            now = time.monotonic()
            if now >= until:
                self.stopped = name
            elif now >= look:
                look = now + TICK
                if self.keeper.memory() > int(self.keeper.limits["memory_mb"]) << 20:
                    self.stopped = "memory"
        self._finish(ended)

    def _reaped(self) -> bool:
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid:
            self.status, self.cpu = status, usage.ru_utime + usage.ru_stime
        return pid != 0

    def _read(self, ready: list[int]) -> None:
        if self.keeper.life in ready:  # nobody waits for the outcome any more
            self.keeper.kill_all(self.pid)
            os._exit(1)
        for file in ready:
            if file not in self.open:
                continue
            chunk = os.read(file, 65536)
            if not chunk:
                self.open.remove(file)
            self.written += len(chunk)
            kept = self.kept[file] + chunk
            self.kept[file] = kept[:REPORT] if file == self.reads[2] else kept[-TAIL:]
        if self.written > OUTPUT_LIMIT:
            self.stopped = self.stopped or "output"

    def _finish(self, ended: list[int]) -> None:
        if self.stopped:
            _kill(self.pid)
            _, self.status, usage = os.wait4(self.pid, 0)
            self.cpu = usage.ru_utime + usage.ru_stime
        self.keeper.kill_all(self.pid)
        for _ in range(3):  # what still lies in the pipes: 64 KiB each
            self._read(select.select(self.open, [], [], 0)[0])
        for file in [*self.reads, *ended]:
            os.close(file)

    def outcome(self, word: bytes, wall: float) -> dict[str, object]:
        """Return what became of the program; it passed only if it said the word, and nothing else."""
        out, err, report = (self.kept[read] for read in self.reads)
        code = os.waitstatus_to_exitcode(self.status)
        passed = report == READY + word and code == 0 and not self.stopped
        said = [] if passed else report[1:].decode("utf-8", "replace").split("\0")
        return {
            "beyond": report == READY + BEYOND and self.apart,
            "passed": passed,
            "usable": report[:1] == READY,
            "limit": self.stopped or self._by_signal(code),
            "said": said,
            "exit": code,
            "stdout": out.decode("utf-8", "replace"),
            "stderr": err.decode("utf-8", "replace"),
            "wall_s": wall,
            "cpu_s": self.cpu,
        }

    def _by_signal(self, code: int) -> str:
        spent = self.cpu >= self.keeper.limits["cpu_s"]
        return "cpu" if code == -signal.SIGXCPU or (code == -signal.SIGKILL and spent) else ""


def _end_of(pid: int) -> list[int]:
    """Return a file that becomes readable when a process ends, where the kernel has such files."""
    try:
        return [os.pidfd_open(pid)]
    except (AttributeError, OSError):
        return []


def perform(
    report: int, words: list[bytes], parts: Parts, shows: list[str], asking: Asking | None
) -> None:
    """Run the parts in one fresh module and say the word if they ran to their end; never returns.

    The line that says it loads all that it calls before any part runs, so that no part can replace it,
    and the builtins are put back between the parts.
    """
    leave, spare = os._exit, [bytearray(1 << 20)]
    space = _space(asking)
    try:
        if asking:
            asking.hear()
        codes = tuple(
            code
            for name, source in parts
            for code in (compile(source, f"<{name}>", "exec", dont_inherit=True), _RESTORE)
        )
        os.write(
            report,
            (
                words.pop(),
                tuple(
                    map(
                        exec,
                        codes,
                        (space, {"holder": builtins, "saved": dict(vars(builtins)), "space": space})
                        * len(parts),
                    )
                ),
            )[0],
        )
    except Beyond:
        os.write(report, BEYOND)
        leave(1)
    except BaseException as error:
        spare.clear()  # so that running out of memory can be told
        _explain(report, error, parts, shows, space)
        if asking:
            asking.end()
        leave(1)
    if asking:
        asking.end()
    leave(0)


def _space(asking: Asking | None) -> dict[str, Any]:
    """Return the names of a fresh module."""
    if asking:
        return Names(asking)
    module = type(sys)("candidate")
    sys.modules["candidate"] = sys.modules["__main__"] = module
    module.__dict__["__builtins__"] = builtins
    return module.__dict__


def _explain(
    report: int, error: BaseException, parts: Parts, shows: list[str], space: dict[str, Any]
) -> None:
    """Tell why a program failed and, after an assertion, what the expressions to show give."""
    _report(report, getattr(error, "told", None) or account(error, parts))
    if isinstance(error, AssertionError):
        flush()
        sys.stdout = sys.stderr = None  # what was printed was printed by the test
        if isinstance(space, Names):
            space.asking.ask("hush")
        for show in shows:
            _report(report, ["", clip(value(show, space))])
    flush()


def _report(file: int, texts: list[str]) -> None:
    os.write(file, "\0".join(texts).encode("utf-8", "backslashreplace"))
