"""The lock that the kernel frees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentloop.errors import AgentloopError
from agentloop.filelock import FileLock
from tests.builders import python

HOLD = """
import sys
from pathlib import Path
from agentloop.filelock import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def test_only_one_holds_it(tmp_path: Path) -> None:
    one, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.acquire()
    assert not other.acquire()
    assert other.owner == os.getpid()
    one.release()
    assert other.acquire()
    other.release()


def test_releasing_twice_is_harmless(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    lock.release()
    assert lock.acquire()
    lock.release()
    lock.release()
    assert (tmp_path / "lock").exists()


def test_a_block_frees_it_even_after_an_error(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock", wait=True)
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert FileLock(tmp_path / "lock").acquire()


def test_a_block_is_never_entered_without_the_lock(tmp_path: Path) -> None:
    holder = FileLock(tmp_path / "lock")
    assert holder.acquire()
    with pytest.raises(AgentloopError, match=str(os.getpid())), FileLock(tmp_path / "lock"):
        pass
    holder.release()


def test_a_killed_owner_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with python(HOLD, path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "True\n"
        assert not FileLock(path).acquire()
        assert FileLock(path).owner == owner.pid
        owner.kill()
        owner.wait()
        lock = FileLock(path)
        assert lock.acquire()
        lock.release()


@pytest.mark.parametrize("content", ["", "words", "0"])
def test_a_file_without_a_pid_names_no_owner(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lock"
    assert FileLock(path).owner is None
    path.write_text(content)
    assert FileLock(path).owner is None
