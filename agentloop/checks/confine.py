"""The walls of the sandbox, put up from within: namespaces, file tree, user, Landlock, limits.

Enters: a folder of the host, the limits in numbers, which walls are wanted. Leaves: a process that
cannot get out, and the names of the walls that stand. Refuses to know: what will run behind them.

This runs in the sandbox's own Python, before the program: it imports little, for each start waits for
it. The calls are those of the Linux man-pages user_namespaces(7), pid_namespaces(7), pivot_root(2)
and landlock(7). Where a wall cannot be built the others stay; outside Linux there are limits only.
"""

from __future__ import annotations

import os
import resource
import sys

LIMITS, SPACES, TREE, USER = "limits", "namespaces", "tree", "user"
LANDLOCK, PROCESSES, TOGETHER, CALLS = "landlock", "processes", "together", "calls"
HOME = "/tmp"  # within a tree of its own
OPEN_FILES = 64
INODES = 4096
FIRST_UID = (
    1_879_048_192  # above any account; each sandbox adds its number, so that none share a count
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

NEW_NS, NEW_UTS, NEW_IPC = 0x20000, 0x04000000, 0x08000000
NEW_USER, NEW_PID, NEW_NET = 0x10000000, 0x20000000, 0x40000000
ALL_SPACES = NEW_NS | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS
NOSUID, NODEV, NOEXEC, BIND, REC, PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
DETACH, ATTR_READ_ONLY, AT_RECURSIVE, AT_CWD = 2, 1, 0x8000, -100
PDEATHSIG, DUMPABLE, SUBREAPER, NO_NEW_PRIVS = 1, 4, 36, 38
MOUNT_SETATTR, LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 442, 444, 445, 446
SECCOMP, FILTER = 22, 2
CAPABILITY_VERSION, SIGKILL = 0x20080522, 9

# Memory that is no process's: memfd_create, memfd_secret, shmget, msgget. The first number is that of
# the machine in the kernel's audit (linux/audit.h), the others are its system calls.
UNCOUNTED = {
    "x86_64": (0xC000003E, (319, 447, 29, 68)),
    "aarch64": (0xC00000B7, (279, 447, 194, 186)),
}
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # instructions of linux/bpf_common.h
ALLOWED, NO_MEMORY = 0x7FFF0000, 0x0005000C  # the latter with the error's number, ENOMEM
FOREIGN = 0x40000000  # calls of a second table of numbers begin here

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1, 2, 4, 8, 1 << 14
MAKE_DEVICES = 1 << 6 | 1 << 11
SCOPES = 3  # abstract sockets, signals
TCP = 3  # bind, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

if sys.platform == "linux":
    import ctypes

    _libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    """Call a function of the C library; OSError when it fails."""
    done: int = getattr(_libc, name)(*arguments)
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return done


def _syscall(number: int, *arguments: object) -> int:
    return _call("syscall", ctypes.c_long(number), *arguments)


class Place:
    """Where programs run, and which walls stand around them."""

    def __init__(self, base: str, wanted: frozenset[str]):
        self.base = base
        """A folder of the host that only this sandbox uses."""
        self.wanted = wanted
        self.walls: set[str] = {LIMITS}
        self.number = os.getpid()
        self.uid = 0
        """The user to become; 0 stays who one is."""
        self.mapped = False
        """Whether a user namespace of its own counts its processes."""
        self.proc: int | None = None
        """A handle on the /proc of its own, for the keeper only."""

    def separate(self) -> None:
        """Give the processes started from here on namespaces of their own: all of them, or none."""
        if sys.platform != "linux" or SPACES not in self.wanted:
            return
        try:
            _call("unshare", ALL_SPACES)
        except OSError:
            if not _would(_map):
                return
            _map()
            self.mapped = True
        self.walls.add(SPACES)

    def settle(self) -> None:
        """Build what all programs share, as the first process in the new namespaces."""
        if sys.platform != "linux":
            return
        if SPACES not in self.walls:
            _call("prctl", SUBREAPER, 1, 0, 0, 0)
        elif TREE in self.wanted:
            self._plant()
        root = os.geteuid() == 0
        uid = FIRST_UID + self.number
        if root and USER in self.wanted and not self.mapped and _can_read(uid):
            self.uid = uid
            self.walls.add(USER)
            if TREE not in self.walls:
                os.chmod(self.base, 0o711)  # noqa: S103 - the other user passes through it
        if self.uid or (self.mapped and not root):
            self.walls.add(PROCESSES)
        if LANDLOCK in self.wanted and landlock_version() > 0:
            self.walls.add(LANDLOCK)
        known = sys.maxsize >> 32 and os.uname().machine in UNCOUNTED
        if CALLS in self.wanted and known and _would(_filtered):
            self.walls.add(CALLS)

    def _plant(self) -> None:
        try:
            self.proc = plant(self.base)
        except OSError:
            _libc.umount2(self.base.encode(), DETACH)
            return
        self.walls.add(TREE)
        if self.proc is not None:
            self.walls.add(TOGETHER)

    def enter(self, number: int, limits: dict[str, float]) -> None:
        """Shut this process in, in a folder of its own; OSError when a wall does not hold."""
        folder = self._folder(number, int(limits["file_mb"]))
        if self.uid:
            os.chown(folder, self.uid, self.uid)
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)
        os.chdir(folder)
        os.environ["HOME"] = os.environ["TMPDIR"] = folder
        if sys.platform == "linux":
            _give_up_rights()
        if LANDLOCK in self.walls:
            landlock(folder)
        if CALLS in self.walls:
            filter_calls()
        self._limit(limits)

    def _folder(self, number: int, megabytes: int) -> str:
        if TREE not in self.walls:
            folder = f"{self.base}/{number}"
            os.mkdir(folder, 0o700)
            return folder
        _call("unshare", NEW_NS)
        size = f"mode=700,size={megabytes}m,nr_inodes={INODES}"
        _mount("tmpfs", HOME, "tmpfs", NOSUID | NODEV | NOEXEC, size)
        return HOME

    def _limit(self, limits: dict[str, float]) -> None:
        seconds, size = int(limits["cpu_s"]), int(limits["file_mb"]) << 20
        _set(resource.RLIMIT_CPU, seconds, seconds + 1)
        _set(resource.RLIMIT_FSIZE, size)
        _set(resource.RLIMIT_CORE, 0)
        _set(resource.RLIMIT_NOFILE, OPEN_FILES)
        if sys.platform == "linux":
            _set(resource.RLIMIT_AS, int(limits["memory_mb"]) << 20)
        if PROCESSES in self.walls:
            others = 2 if self.mapped else 0  # those who started and keep it are of the same user
            _set(resource.RLIMIT_NPROC, int(limits["processes"]) + others)


def _set(what: int, soft: int, hard: int | None = None) -> None:
    """Lower a limit; never above the hard one that is in force."""
    most = resource.getrlimit(what)[1]
    hard = soft if hard is None else hard
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(what, (soft, hard))


def _map() -> None:
    """Enter the namespaces by way of one of users, in which one stays who one is."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", ALL_SPACES | NEW_USER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")


def _would(action: Callable[[], None]) -> bool:
    """Whether something works that cannot be undone: another process tries it."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY)
    os.write(file, text.encode())
    os.close(file)


def _can_read(uid: int) -> bool:
    """Whether another user could go on importing: this Python's library may lie in a closed home."""
    try:
        os.seteuid(uid)
    except OSError:  # a container's user namespace does not know that number
        return False
    try:
        library = os.path.dirname(os.__file__)
        return os.access(library, os.R_OK | os.X_OK, effective_ids=True)
    finally:
        os.seteuid(0)


def _give_up_rights() -> None:
    """Hold no capability, gain none, be looked into by nobody, die with the keeper."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())
    _call("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", DUMPABLE, 0, 0, 0, 0)
    _call("prctl", PDEATHSIG, SIGKILL, 0, 0, 0)


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends; on Linux."""
    if sys.platform == "linux":
        _call("prctl", PDEATHSIG, SIGKILL, 0, 0, 0)


def filter_calls() -> None:
    """Forbid this process and its children the calls of `UNCOUNTED` (seccomp(2)), for ever.

    Calls by another table of numbers are forbidden whole, for theirs would need a list of their own.
    """
    machine, calls = UNCOUNTED[os.uname().machine]
    refuse = len(calls)  # how far the refusal lies beyond the first of the comparisons
    steps = [
        (LOAD, 0, 0, 4),
        (EQUAL, 0, refuse + 3, machine),
        (LOAD, 0, 0, 0),
        (AT_LEAST, refuse + 1, 0, FOREIGN),
        *((EQUAL, refuse - at, 0, call) for at, call in enumerate(calls)),
        (RETURN, 0, 0, ALLOWED),
        (RETURN, 0, 0, NO_MEMORY),
    ]
    data = b"".join(
        code.to_bytes(2, sys.byteorder) + bytes((yes, no)) + value.to_bytes(4, sys.byteorder)
        for code, yes, no, value in steps
    )
    held = ctypes.create_string_buffer(data, len(data))
    program = len(steps).to_bytes(8, sys.byteorder) + ctypes.addressof(held).to_bytes(
        8, sys.byteorder
    )
    _call("prctl", SECCOMP, FILTER, program, 0, 0)


def _filtered() -> None:
    _call("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)
    filter_calls()


def needed() -> list[str]:
    """Return what of the host a program may read: Python's library and those it is linked with.

    No shell and no other command is among them.
    """
    lib = [f"{top}/{name}" for top in ("", "/usr", sys.base_prefix) for name in ("lib", "lib64")]
    paths = [*lib, *sys.path, "/usr/share/zoneinfo", "/etc/ld.so.cache", sys.executable]
    there = dict.fromkeys(os.path.normpath(path) for path in paths if os.path.exists(path))
    return [p for p in there if not any(p.startswith(f"{other}/") for other in there)]


def plant(base: str) -> int | None:
    """Put up a read-only tree of what is needed and make it the root; return its /proc, if allowed."""
    _mount(None, "/", None, REC | PRIVATE)
    _mount("tmpfs", base, "tmpfs", NOSUID | NODEV, "mode=755,size=1m")
    for path in [*needed(), *DEVICES]:
        _show(path, base)
    os.mkdir(base + HOME)
    os.symlink(HOME, f"{base}/dev/shm")  # where the C library keeps semaphores
    proc = _own_proc(f"{base}/proc")
    _read_only(base, 0)
    os.chdir(base)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", DETACH)
    os.chdir("/")
    return proc


def _show(path: str, base: str) -> None:
    """Let a file or folder of the host be seen under its own name, read-only; links stay links."""
    place = base + path
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.islink(path) and os.path.isdir(path):
        os.symlink(os.readlink(path), place)
        return
    if os.path.isdir(path):
        os.mkdir(place)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(path, place, None, BIND | REC)
    if path not in DEVICES:
        _read_only(place, AT_RECURSIVE)


def _own_proc(place: str) -> int | None:
    """Return a handle on a /proc that no path leads to; `None` where the kernel forbids one."""
    os.mkdir(place)
    try:
        _mount("proc", place, "proc", NOSUID | NODEV | NOEXEC)
    except OSError:
        return None
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    _call("umount2", place.encode(), DETACH)
    return handle


def _mount(source: str | None, place: str, kind: str | None, flags: int, data: str = "") -> None:
    names = [name.encode() if name is not None else None for name in (source, place, kind)]
    _call("mount", *names, ctypes.c_ulong(flags), data.encode())


def _read_only(place: str, how: int) -> None:
    """Forbid writing below a mount, without touching the flags that it is locked with."""
    flags = (ctypes.c_uint64 * 4)(ATTR_READ_ONLY | NOSUID, 0, 0, 0)
    _syscall(MOUNT_SETATTR, AT_CWD, place.encode(), how, flags, ctypes.c_size_t(32))


def landlock_version() -> int:
    """Return the version of Landlock's interface; 0 where the kernel has none."""
    if sys.platform != "linux":
        return 0
    try:
        return _syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    except OSError:
        return 0


def landlock(folder: str) -> None:
    """Let this process and its children read what is needed and write below one folder, for ever.

    From version 4 on no TCP either, from 6 on no signal to a process outside.
    """
    version = landlock_version()
    bits = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    files = (1 << bits) - 1
    asked = [files, TCP, SCOPES][: 1 if version < 4 else 2 if version < 6 else 3]
    rules = _syscall(
        LANDLOCK_CREATE, (ctypes.c_uint64 * 3)(*asked), ctypes.c_size_t(8 * len(asked)), 0
    )
    for path in needed():
        _allow(rules, path, READ_FILE | READ_DIR | EXECUTE)
    for path in DEVICES:
        _allow(rules, path, READ_FILE | WRITE_FILE)
    _allow(rules, folder, files & ~(EXECUTE | MAKE_DEVICES))
    _syscall(LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not there, so there is nothing to allow
        return
    if not os.path.isdir(path):
        rights &= EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
    rule = rights.to_bytes(8, sys.byteorder) + handle.to_bytes(4, sys.byteorder)
    _syscall(LANDLOCK_ADD, rules, 1, rule, 0)
    os.close(handle)
