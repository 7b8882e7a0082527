"""The sandbox: what runs, what is stopped and by which limit, what cannot be faked or left behind."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.checks import sandbox
from agentloop.checks.sandbox import ALL_WALLS, Limits, Outcome, Part, Program, SandboxError, run

TIGHT = Limits(cpu_s=1, wall_s=20.0, total_s=60.0, memory_mb=256, processes=6, file_mb=4)
PATIENT = replace(TIGHT, cpu_s=15)
SOON = Limits(cpu_s=5, wall_s=0.5, total_s=60.0)
STANDING = sandbox.walls()
NO_WALLS: frozenset[str] = frozenset()
LANDLOCK_ONLY = frozenset({"landlock"})
ROOT = Path(__file__).resolve().parent.parent.parent

linux = pytest.mark.skipif(sys.platform != "linux", reason="this wall is built on Linux only")


def needs(*names: str) -> pytest.MarkDecorator:
    missing = sorted(set(names) - set(STANDING))
    return pytest.mark.skipif(bool(missing), reason=f"this machine allows no wall {missing}")


def one(source: str, limits: Limits = TIGHT, walls: frozenset[str] = ALL_WALLS) -> Outcome:
    return run([Program.of(source)], limits, walls=walls)[0]


def test_a_program_that_runs_to_its_end_has_passed() -> None:
    outcome = one("import sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert (outcome.passed, outcome.limit, outcome.error, outcome.exit) == (True, "", "", 0)
    assert outcome.stdout == "out\n"
    assert outcome.wall_s >= outcome.cpu_s > 0
    assert one("raise SystemExit('no')").stderr == ""


def test_an_error_is_told_with_its_line_and_part() -> None:
    parts = (Part("code", "def half(n):\n    return n / 0\n"), Part("test", "half(\n  2)"))
    (outcome,) = run([Program(parts)])
    assert not outcome.passed
    assert outcome.error == "ZeroDivisionError: division by zero"
    assert outcome.place == "line 2 of the code: `return n / 0`"
    assert outcome.part == "test"


def test_code_that_is_no_python_is_told_with_its_line() -> None:
    outcome = one("x = 1\ndef broken(:\n")
    assert outcome.error.startswith("SyntaxError: ")
    assert outcome.place == "line 2 of the program: `def broken(:`"
    assert not one("a\0b").passed
    assert not one("x = '\ud800'").passed
    assert not one("(" * 100_000).passed


def test_values_are_shown_when_an_assertion_fails() -> None:
    parts = (
        Part("code", "def f(n):\n    print('called')\n    return n"),
        Part("test", "assert f(1) == 2"),
    )
    (outcome,) = run([Program(parts, ("f(1)", "nowhere", "f.x"))])
    assert outcome.shown[0] == "1"
    assert outcome.shown[1].startswith("NameError: ")
    assert outcome.shown[2].startswith("AttributeError: ")
    assert outcome.stdout == "called\n"  # by the test, not by looking


def test_programs_share_nothing() -> None:
    leave = "import builtins, json\nbuiltins.left = json.left = 1\nopen('left', 'w').close()"
    look = (
        "import builtins, json, os\n"
        "assert not hasattr(builtins, 'left') and not hasattr(json, 'left')\n"
        "assert os.listdir() == []"
    )
    outcomes = run([Program.of(leave), Program.of(look)])
    assert [o.passed for o in outcomes] == [True, True]


def test_an_endless_program_takes_no_other_verdict() -> None:
    endless, fine = Program.of("while True: pass"), Program.of("")
    outcomes = run([fine, endless, fine], SOON)
    assert [o.passed for o in outcomes] == [True, False, True]


def test_programs_whose_turn_does_not_come_are_not_passed() -> None:
    limits = Limits(wall_s=30.0, total_s=0.5)
    outcomes = run([Program.of("import time\ntime.sleep(60)"), Program.of("")], limits)
    assert [(o.passed, o.limit) for o in outcomes] == [(False, "total"), (False, "total")]
    assert outcomes[1].exit is None


def test_no_program_gives_no_outcome() -> None:
    assert run([]) == ()


HOSTILE = {
    "endless loop": ("while True: pass", "cpu"),
    "endless loop that hears no signal": (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "cpu",
    ),
    "memory bomb": ("x = []\nwhile True: x.append(bytearray(10**6))", "memory"),
    "huge allocation": ("bytearray(10**11)", "memory"),
    "file bomb": ("with open('big', 'wb') as f:\n  while True: f.write(bytes(10**5))", "files"),
    "open files": ("x = [open(str(i), 'w') for i in range(1000)]", "open"),
    "endless output": ("while True: print('x' * 1000)", "output"),
    "endless line": ("import os\nwhile True: os.write(2, b'x' * 9999)", "output"),
    "opening a socket": ("import socket\nsocket.socket()", "network"),
    "connecting": ("import socket\nsocket.create_connection(('127.0.0.1', 80))", "network"),
    "looking up a name": ("import socket\nsocket.getaddrinfo('example.org', 80)", "network"),
    "killing the parent": ("import os\nos.kill(os.getppid(), 9)", "signals"),
    "killing the first": ("import os\nos.kill(1, 9)", "signals"),
    "killing everybody": ("import os\nos.kill(-1, 9)", "signals"),
    "reading a secret": ("import os\nos.environ['OPENAI_API_KEY']", "environment"),
    "walking memory": ("import gc\ngc.get_objects()", "python"),
    "tracing": ("import sys\nsys.settrace(print)", "python"),
    "native calls": ("import ctypes", "python"),
    "native calls by another name": ("import _ctypes", "python"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs_are_stopped_by_a_limit_with_a_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    source, limit = HOSTILE[name]
    if limit == "memory" and sys.platform != "linux":
        pytest.skip("memory is limited on Linux only")
    outcome = one(source, TIGHT if limit == "cpu" else PATIENT)
    assert not outcome.passed
    assert outcome.limit == limit
    assert TIGHT.say(limit)
    assert len(outcome.stdout) <= 4096


def test_sleeping_is_stopped_by_wall_time() -> None:
    outcome = one("import time\ntime.sleep(600)", SOON)
    assert (outcome.passed, outcome.limit, outcome.exit) == (False, "wall", -9)


def test_closing_every_file_does_not_hide_a_program() -> None:
    outcome = one("import os, time\nos.closerange(0, 100)\ntime.sleep(600)", SOON)
    assert (outcome.passed, outcome.limit) == (False, "wall")


@needs("processes")
@pytest.mark.parametrize(
    "source",
    [
        "import os\nwhile True: os.fork()",
        "import os, time\nfor _ in range(20):\n  if os.fork() == 0: time.sleep(600)",
        "import threading, time\nfor _ in range(50): threading.Timer(600, print).start()",
    ],
)
def test_a_fork_bomb_meets_the_number_of_processes(source: str) -> None:
    outcome = one(source)
    assert (outcome.passed, outcome.limit) == (False, "processes")


@needs("processes")
def test_some_processes_are_allowed() -> None:
    assert one("import os\nfor _ in range(4):\n  if os.fork() == 0: os._exit(0)").passed
    assert one(
        "import multiprocessing as m\nwith m.Pool(2) as p: assert p.map(abs, [-1]) == [1]"
    ).passed


@needs("together")
def test_processes_share_one_limit_of_memory() -> None:
    outcome = one(
        "import os, time\n"
        "for _ in range(4):\n  if os.fork() == 0: break\n"
        "x = bytearray(80 * 2**20)\n"
        "time.sleep(600)"
    )
    assert (outcome.passed, outcome.limit) == (False, "memory")


@needs("namespaces")
def test_nothing_that_a_program_started_outlives_it() -> None:
    daemon = (
        "import os, time\n"
        "if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0: time.sleep(600)\n  os._exit(0)\n"
    )
    crowd = "import os\nassert [p for p in range(3, 100) if p != os.getpid() and alive(p)] == []"
    alive = (
        "def alive(p):\n  try: os.kill(p, 0)\n  except ProcessLookupError: return False\n"
        "  except PermissionError: pass\n  return True\n"
    )
    outcomes = run([Program.of(daemon), Program.of(f"{alive}{crowd}")], TIGHT)
    assert [o.passed for o in outcomes] == [True, True], outcomes[1].error


WRITES = [
    "open('{place}', 'w')",
    "import os\nos.mkdir('{place}')",
    "import os\nos.open('{place}', os.O_CREAT | os.O_WRONLY)",
    "import os\nopen('inner', 'w').close()\nos.rename('inner', '{place}')",
    "import os\nos.symlink('/', 'way')\nopen('way{place}', 'w')",
    "open('../../../../../../..{place}', 'w')",
]


@pytest.mark.parametrize(
    "walls", [ALL_WALLS, LANDLOCK_ONLY, NO_WALLS], ids=["all", "landlock", "none"]
)
@pytest.mark.parametrize("source", WRITES)
def test_nothing_is_written_outside(source: str, walls: frozenset[str], tmp_path: Path) -> None:
    place = tmp_path / "escaped"
    outcome = one(source.format(place=place), walls=walls)
    assert not outcome.passed
    assert outcome.limit == "outside" or "way/" in outcome.error
    assert not place.exists()


@pytest.mark.parametrize("walls", [ALL_WALLS, LANDLOCK_ONLY], ids=["all", "landlock"])
def test_the_hosts_files_cannot_be_read(walls: frozenset[str], tmp_path: Path) -> None:
    if not set(sandbox.walls(walls)) & {"tree", "landlock"}:
        pytest.skip("this machine has no wall around files")
    secret = tmp_path / "secret"
    secret.write_text("sk-secret")
    for path in (secret, f"/proc/{os.getpid()}/environ", "/proc/self/environ", "/etc/passwd"):
        outcome = one(f"print(open({str(path)!r}).read())", walls=walls)
        assert (outcome.passed, outcome.limit, outcome.stdout) == (False, "outside", "")


def test_the_environment_holds_nothing_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    outcome = one("import os\nprint(sorted(os.environ))")
    known = {"LANG", "PATH", "PYTHONHASHSEED", "PYTHONUTF8", "MALLOC_ARENA_MAX", "HOME", "TMPDIR"}
    assert set(eval(outcome.stdout)) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} == known


@needs("namespaces", "tree", "landlock", "processes")
@pytest.mark.parametrize(
    "escape",
    [
        "socket.create_connection(('127.0.0.1', 22), 1)",
        "socket.create_connection(('192.0.2.1', 80), 1)",
        "open('/escaped', 'w')",
        "os.listdir('/')",
        "os.listdir('/proc')",
        "os.setuid(0) if os.getuid() else os.chroot('/')",
        "os.mknod('device', 0o600 | stat.S_IFCHR, os.makedev(1, 3))",
        "check(ctypes.CDLL(None, use_errno=True).mount(b'x', b'/tmp', b'tmpfs', 0, None))",
        "check(ctypes.CDLL(None, use_errno=True).ptrace(16, 1, None, None))",
    ],
)
def test_the_kernels_walls_hold_without_pythons_own_refusals(escape: str) -> None:
    """A Python that the program starts has no guard in it."""
    inner = (
        "import ctypes, os, socket, stat\n"
        "def check(n):\n  if n < 0: raise OSError(ctypes.get_errno(), '')\n"
        f"try: {escape}\nexcept OSError: print('held')\nelse: print('escaped')"
    )
    outcome = one(
        f"import subprocess, sys\ncommand = [sys.executable, '-S', '-c', {inner!r}]\n"
        "done = subprocess.run(command, capture_output=True, text=True)\n"
        "assert done.stdout == 'held\\n', done"
    )
    assert outcome.passed, outcome.error


@needs("namespaces", "processes")
def test_the_keeper_hears_no_signal_from_within() -> None:
    inner = (
        "import os\n"
        "for number in range(1, 65):\n  try: os.kill(1, number)\n  except OSError: pass\n"
        "print('alive')"
    )
    signals = (
        f"import subprocess, sys\ncommand = [sys.executable, '-S', '-c', {inner!r}]\n"
        "assert subprocess.run(command, capture_output=True).stdout == b'alive\\n'"
    )
    outcomes = run([Program.of(signals), Program.of("")], TIGHT)
    assert [o.passed for o in outcomes] == [True, True], outcomes[0].error


FAKES = {
    "leaving with success": "import os\nos._exit(0)",
    "leaving politely": "import sys\nsys.exit(0)",
    "a marker printed": "print('PASSED')\nimport os\nos._exit(0)",
    "every file written": (
        "import os\n"
        "for f in range(3, 99):\n  try: os.write(f, b'+' * 17)\n  except OSError: pass\n"
        "os._exit(0)"
    ),
    "a report of its own": "import os\nos.write(3, b'0' * 16)\nos._exit(0)",
    "another exit": "import os\nos._exit = lambda code: None\n1 / 0",
    "another write": "import os\nw = os.write\nos.write = lambda f, b: w(f, b'')\n1 / 0",
    "other builtins": "import builtins\nbuiltins.exec = builtins.map = print\n1 / 0",
    "what frames hold": (
        "import os, sys\n"
        "f = sys._getframe()\n"
        "while f:\n"
        "  for v in list(f.f_locals.values()):\n"
        "    if isinstance(v, bytes): os.write(3, v)\n"
        "    if isinstance(v, list) and v and isinstance(v[0], bytes): os.write(3, v[0])\n"
        "  f = f.f_back\n"
        "os._exit(0)"
    ),
    "the hook taken apart": (
        "import builtins, gc, os, sys\n"
        "f, frames = sys._getframe(), []\n"
        "while f: frames.append(f); f = f.f_back\n"
        "kind = type\n"
        "for f in frames[1:]:\n"
        "  for n in [n for n in f.f_globals if n.isupper()]: f.f_globals[n] = None\n"
        "builtins.type = lambda x: None\n"
        "sys.addaudithook(lambda *a: None)\n"
        "for f in frames:\n"
        "  for v in gc.get_referents(f):\n"
        "    if kind(v) is bytes and len(v) == 16: os.write(3, v)\n"
        "os._exit(0)"
    ),
    "a thread that goes on": (
        "import threading, os\n"
        "t = threading.Thread(target=os._exit, args=(0,))\nt.start()\nt.join()"
    ),
    "a handler at the end": "import atexit, os\natexit.register(os._exit, 0)\nraise SystemExit(0)",
}


@pytest.mark.parametrize("name", FAKES)
def test_success_cannot_be_claimed(name: str) -> None:
    fake, test = Part("code", FAKES[name]), Part("test", "raise AssertionError('reached')")
    assert not run([Program((fake, test))], TIGHT)[0].passed


def test_a_part_cannot_take_the_next_ones_builtins() -> None:
    blind = (
        "import builtins\nbuiltins.len = builtins.set = lambda x: 0\n__builtins__ = {'len': len}"
    )
    (outcome,) = run([Program((Part("code", blind), Part("test", "assert len('ab') == 2")))])
    assert outcome.passed, outcome.error


def test_an_iterator_in_a_frame_cannot_be_used_up_to_skip_the_test() -> None:
    skip = (
        "import sys\n"
        "f = sys._getframe()\n"
        "while f:\n"
        "  for v in list(f.f_locals.values()):\n"
        "    try: [None for _ in v] if hasattr(v, '__next__') else None\n"
        "    except Exception: pass\n"
        "  f.f_locals.update(codes=(), parts=[], test='')\n"
        "  f = f.f_back\n"
    )
    assert not run([Program((Part("code", skip), Part("test", "assert False")))])[0].passed


@needs("namespaces", "tree", "landlock")
def test_walls_are_counted_by_those_that_stand() -> None:
    assert set(STANDING) <= set(sandbox.WALLS)
    assert set(sandbox.walls(LANDLOCK_ONLY)) == {"limits", "landlock"}
    assert sandbox.walls(NO_WALLS) == ("limits",)


@pytest.mark.parametrize("walls", [LANDLOCK_ONLY, NO_WALLS], ids=["landlock", "none"])
def test_with_fewer_walls_python_itself_refuses(walls: frozenset[str]) -> None:
    for source, limit in (
        ("import os\nos.fork()", "processes"),
        ("import subprocess\nsubprocess.run(['true'])", "processes"),
        ("import os\nos.kill(os.getppid(), 9)", "signals"),
        ("import socket\nsocket.socket()", "network"),
        ("while True: pass", "cpu"),
    ):
        outcome = one(source, walls=walls)
        assert (outcome.passed, outcome.limit) == (False, limit)
    assert one(
        "open('inner', 'w').write('x')\nassert open('inner').read() == 'x'", walls=walls
    ).passed


@linux
def test_orphans_are_found_without_namespaces_too() -> None:
    """`multiprocessing` starts a process in a way that Python does not let anyone refuse."""
    orphan = "import os, sys, time; os.setsid(); os.write(int(sys.argv[1]), b'1'); time.sleep(600)"
    outcome = one(
        "import os, sys\n"
        "from multiprocessing.util import spawnv_passfds\n"
        "read, write = os.pipe()\n"
        f"arguments = [b'python', b'-S', b'-c', {orphan.encode()!r}, str(write).encode()]\n"
        "print(spawnv_passfds(sys.executable.encode(), arguments, [write]))\n"
        "os.read(read, 1)",
        walls=NO_WALLS,
    )
    assert outcome.passed, outcome.error
    with pytest.raises(ProcessLookupError):
        os.kill(int(outcome.stdout), 0)


def test_the_folder_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    messy = "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\nos.chmod('a', 0)"
    assert one(messy).passed
    assert one(messy, walls=NO_WALLS).passed
    assert list(tmp_path.iterdir()) == []


STARTED = """\
import sys
sys.path.insert(0, sys.argv[1])
from agentloop.checks.sandbox import Program, run
run([Program.of("import time\\ntime.sleep(600)")])
"""


@contextmanager
def pidfds(pids: list[int]) -> Iterator[list[int]]:
    files = [os.pidfd_open(pid) for pid in pids]
    try:
        yield files
    finally:
        for file in files:
            os.close(file)


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


@linux
def test_a_killed_parent_leaves_no_process_behind(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", STARTED, str(ROOT)], env=env) as parent:
        family: list[int] = []
        while len(family) < 3 and parent.poll() is None:  # starter, keeper, program
            family = descendants(parent.pid)
        with pidfds(family) as files:
            parent.kill()
            left = set(files)
            while left:
                ended = set(select.select(list(left), [], [], 30)[0])
                assert ended, "a process outlives its parent"
                left -= ended


def test_many_at_once_do_not_disturb_each_other() -> None:
    results: dict[int, str] = {}

    def work(number: int) -> None:
        results[number] = one(f"print({number})").stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n" for number in range(6)}


def test_a_sandbox_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_START", "raise RuntimeError('no walls today')")
    with pytest.raises(SandboxError, match="no walls today"):
        run([Program.of("")])


def test_a_sandbox_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_START", "import time\ntime.sleep(600)")
    monkeypatch.setattr(sandbox, "GRACE", 0.2)
    with pytest.raises(SandboxError, match="it said nothing"):
        run([Program.of("")], Limits(total_s=0.1))


@settings(max_examples=15)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_any_text_gives_an_outcome_each(sources: list[str]) -> None:
    outcomes = run([Program.of(source) for source in sources], TIGHT)
    for source, outcome in zip(sources, outcomes, strict=True):
        assert outcome.passed == _plain(source)


def _plain(source: str) -> bool:
    """Whether a text that cannot do harm, for it is short and random, runs here."""
    try:
        compile(source, "x", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return subprocess.run([sys.executable, "-S", "-c", source], capture_output=True).returncode == 0


INTERPRETER = """\
try: import _interpreters as i
except ImportError: import _xxsubinterpreters as i
import sys
f = sys._getframe()
while f.f_back and 'codes' not in f.f_locals: f = f.f_back
done, codes = compile('0', 'x', 'exec'), f.f_locals.get('codes', (0, 0))
try: new = i.create(isolated=False)
except TypeError: new = i.create()
i.run_string(new, f'''import ctypes
pointer = ctypes.cast({id(codes)} + 24, ctypes.POINTER(ctypes.c_void_p))
pointer[2] = {id(done)}''')
"""
BELOW = """\
import dis, marshal, os
codes = [dis.opmap[n] for n in ('RESUME', 'EXTENDED_ARG', 'LOAD_FAST', 'RETURN_VALUE')]
def reader(back):
  n = -back & 0xffffffff
  high = [codes[1], n >> 24, codes[1], n >> 16 & 255, codes[1], n >> 8 & 255]
  return bytes([codes[0], 0, *high, codes[2], n & 255, codes[3], 0])
def g(): pass
def crafted(data):
  whole = compile('def g():\\n  x = y + y + y\\n  return x', 'x', 'exec')
  inner = whole.co_consts[0].co_code
  blank = marshal.dumps(whole)
  at, size = blank.index(inner), len(inner)
  return blank[: at - 4] + len(data).to_bytes(4, 'little') + data + blank[at + size :]
def word(make):
  for back in range(10, 120):
    made = make(reader(back))
    g.__code__ = made.co_consts[0] if made.co_name == '<module>' else made
    child = os.fork()
    if child == 0:
      try: v = g(); os._exit(7 * (type(v) is bytes and len(v) == 16))
      except BaseException: os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7: return g()
def say(make):
  os.write(3, word(make))
  os._exit(0)
"""
IMPORTED = """\
import importlib.util, importlib.machinery
def imported(data):
  with open('m.pyc', 'wb') as f: f.write(importlib.util.MAGIC_NUMBER + bytes(12) + crafted(data))
  return importlib.machinery.SourcelessFileLoader('m', 'm.pyc').get_code('m')
say(imported)
"""
OPENED = """\
import gc
try: gc.get_objects()
except PermissionError as error: trace = error.__traceback__
while trace.tb_next: trace = trace.tb_next
for held in list(trace.tb_frame.f_locals.values()):
  if isinstance(held, dict): held.clear()
  if hasattr(held, '__code__') and held.__module__ != 'posixpath': held.__code__ = 1
gc.get_objects()
"""
BREAKERS = {
    "another interpreter": INTERPRETER,
    "bytecode": f"{BELOW}say(lambda data: g.__code__.replace(co_code=data, co_stacksize=4))",
    "bytecode, unmarshalled": f"{BELOW}say(lambda data: marshal.loads(crafted(data)))",
    "bytecode, imported": f"{BELOW}{IMPORTED}",
    "the hook opened by its own refusal": OPENED,
}


@pytest.mark.parametrize("walls", [ALL_WALLS, NO_WALLS], ids=["all", "none"])
@pytest.mark.parametrize("name", BREAKERS)
def test_what_could_read_the_word_is_refused(name: str, walls: frozenset[str]) -> None:
    code, test = Part("code", BREAKERS[name]), Part("test", "raise AssertionError('reached')")
    both = run([Program((code, test)), Program((code,), (), (test,))], TIGHT, walls=walls)
    assert [(o.passed, o.limit) for o in both] == [(False, "python")] * 2, both


@pytest.mark.parametrize("name", FAKES)
def test_success_cannot_be_claimed_from_another_process(name: str) -> None:
    assert not claimed(FAKES[name], "raise AssertionError('reached')").passed


def test_the_librarys_own_bytecode_is_still_read() -> None:
    outcome = one(
        "import asyncio, decimal, types, xml.dom.minidom\n"
        "async def f(): await asyncio.sleep(0); return 1\n"
        "assert asyncio.run(f()) == 1\n"
        "@types.coroutine\n"
        "def g(): yield"
    )
    assert outcome.passed, outcome.error


def claimed(code: str, claim: str, shows: tuple[str, ...] = ()) -> Outcome:
    return run([Program((Part("code", code),), shows, (Part("test", claim),))], TIGHT)[0]


CARRIED = (
    "None",
    "True",
    "-(2**70)",
    "-0.5",
    "float('inf')",
    "2 - 3j",
    "'\\ud800;\\0'",
    "b'\\xff;'",
    "bytearray(b'x')",
    "[1, (2, [3]), {4: {5}}, frozenset({6})]",
    "range(2, 9, 3)",
    "collections.Counter('aab')",
    "collections.deque([1, 2], 2)",
    "collections.OrderedDict(a=1)",
    "fractions.Fraction(1, 3)",
    "decimal.Decimal('0.10')",
    "datetime.date(2020, 2, 29)",
    "int",
    "math",
)


def test_values_are_carried_to_the_claims_and_back() -> None:
    imports = "import collections, datetime, decimal, fractions, math\n"
    values = f"[{', '.join(CARRIED)}]"
    outcome = claimed(
        f"{imports}def f(): return {values}\n"
        "def same(x): return [(type(v), v) for v in x] == [(type(v), v) for v in f()]",
        f"{imports}x = {values}\n"
        "assert [(type(v), v) for v in x] == [(type(v), v) for v in f()]\n"
        "assert same(x)",
    )
    assert outcome.passed, f"{outcome.error} {outcome.place}"


OBJECTS = """\
class Stack(list):
  def push(self, x): self.append(x); return self
class Money:
  def __init__(self, n): self.n = n
  def __add__(self, other): return Money(self.n + getattr(other, 'n', other))
  __radd__ = __add__
  def __eq__(self, other): return isinstance(other, Money) and self.n == other.n
def count():
  n = 0
  while True: yield n; n += 1
def reverse(items): items.reverse()
total = 0
def more():
  global total
  total += 1
def amount(): return total
"""
OF_OBJECTS = """\
s = Stack().push(1).push(2)
assert s == [1, 2] and len(s) == 2 and s[0] == 1 and 2 in s and isinstance(s, Stack)
assert Money(1) + Money(2) == Money(3) and 1 + Money(2) == Money(3) != Money(4)
assert (Money(1) + 1).n == 2 and not isinstance(s, Money)
assert [n for n, _ in zip(count(), 'abc')] == [0, 1, 2]
items = [1, [2]]
reverse(items)
assert items == [[2], 1]
more()
more()
assert total == 2
total = 5
more()
assert amount() == 6
"""


def test_objects_stay_with_the_code_and_answer_from_there() -> None:
    outcome = claimed(OBJECTS, OF_OBJECTS)
    assert outcome.passed, f"{outcome.error} {outcome.place}"


@pytest.mark.parametrize(
    "code",
    [
        "class A:\n  def __eq__(self, other): return True\ndef f(): return A()",
        "class A(int):\n  def __eq__(self, other): return True\ndef f(): return A(1)",
        "import os\nos.write(3, b'x' * 99)\ndef f(): os._exit(0)",
        "import os\ndef f():\n  for n in range(3, 99):\n    try: os.write(n, b'+' * 17)\n"
        "    except OSError: pass\n  os._exit(0)",
        "import os\ndef f(): os.killpg(0, 9)",
    ],
)
def test_only_a_right_answer_makes_a_claim_true(code: str) -> None:
    assert not claimed(code, "assert f() == 2").passed


def test_claims_that_hand_over_what_cannot_be_sent_share_the_codes_module() -> None:
    code = "def apply(f, x): return f(x)"
    assert claimed(code, "assert apply(lambda x: x + 1, 1) == 2").passed
    outcome = claimed(code, "assert apply(lambda x: x + 1, 1) == 3", ("apply(abs, -4)",))
    assert (outcome.passed, outcome.error, outcome.shown) == (False, "AssertionError", ("4",))


def test_a_failure_of_code_that_stands_apart_is_told_like_any_other() -> None:
    outcome = claimed("def f(n):\n  print('said', end='')\n  return n / 0", "assert f(1)")
    assert outcome.error == "ZeroDivisionError: division by zero"
    assert outcome.place == "line 3 of the code: `return n / 0`"
    assert outcome.stdout == "said"
    assert claimed("def f(:", "assert f(1)").place == "line 1 of the code: `def f(:`"
    assert claimed("while True: pass", "assert f(1)").limit == "cpu"
    assert claimed("def f(): return [0] * 10**9", "assert f()").limit == "memory"
    outcome = claimed("import os\ndef f(): os._exit(3)", "assert f()")
    assert outcome.error == "it ended before its last line, with exit code 3"


@pytest.mark.parametrize("call", ["os.kill(os.getpid(), 9)", "os.killpg(0, 9)"])
def test_a_program_that_kills_itself_is_told_so(call: str) -> None:
    outcome = one(f"import os\n{call}")
    assert (outcome.passed, outcome.limit, outcome.exit) == (False, "", -9)
    assert outcome.error.startswith("it was killed by SIGKILL: by itself")


@linux
def test_recursion_without_an_end_meets_a_limit_with_a_name() -> None:
    code = "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x) + 1"
    for outcome in (one(f"{code}\nf(1)"), claimed(code, "assert f(1)")):
        assert not outcome.passed
        assert outcome.limit in ("cpu", "memory")


@needs("calls")
def test_memory_that_is_no_processs_is_refused() -> None:
    outcome = one("import os\nfile = os.memfd_create('m')\nos.write(file, b'x')")
    assert (outcome.passed, outcome.limit) == (False, "memory")
