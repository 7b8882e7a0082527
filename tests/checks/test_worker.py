"""A child process that answers, hangs, dies, or never starts."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import pytest

from agentloop.checks.worker import Worker
from agentloop.errors import UserError

CHILD = """
import json, os, sys, time
print("{}", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["do"] == "hang":
        while True: time.sleep(60)
    if asked["do"] == "die":
        os._exit(3)
    if asked["do"] == "environment":
        asked["names"] = sorted(os.environ)
    print(json.dumps({**asked, "pid": os.getpid()}), flush=True)
    if asked["do"] == "answer and die":
        break
"""


@pytest.fixture
def worker() -> Iterator[Worker]:
    child = Worker([sys.executable, "-c", CHILD])
    yield child
    child.close()


def test_one_child_answers_question_after_question(worker: Worker) -> None:
    first = worker.ask({"do": "echo", "text": "\ud800\n" * 100_000}, 60)
    second = worker.ask({"do": "echo", "text": "b"}, 60)
    assert first["text"] == "\ud800\n" * 100_000
    assert second["text"] == "b"
    assert first["pid"] == second["pid"]


def test_a_child_that_hangs_is_killed_and_another_one_answers(worker: Worker) -> None:
    before = worker.ask({"do": "echo"}, 60)["pid"]
    with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
        worker.ask({"do": "hang"}, 0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    assert worker.ask({"do": "echo"}, 60)["pid"] != before


def test_a_child_that_dies_is_said_and_replaced(worker: Worker) -> None:
    with pytest.raises(EOFError):
        worker.ask({"do": "die"}, 60)
    assert worker.ask({"do": "echo"}, 60)["do"] == "echo"


def test_a_child_that_died_between_questions_is_said_and_replaced(worker: Worker) -> None:
    pid = worker.ask({"do": "answer and die"}, 60)["pid"]
    with pytest.raises(EOFError):
        worker.ask({"do": "echo"}, 60)
    assert worker.ask({"do": "echo"}, 60)["pid"] != pid


def test_a_child_gets_no_keys(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hidden")
    names = worker.ask({"do": "environment"}, 60)["names"]
    assert "SOME_API_KEY" not in names
    assert "PATH" in names


def test_a_command_that_does_not_start_is_an_error_of_the_users() -> None:
    with pytest.raises(UserError, match="does not start"):
        Worker([sys.executable, "-c", "raise SystemExit(1)"]).ask({}, 60)


def test_threads_take_turns(worker: Worker) -> None:
    answers: dict[int, int] = {}

    def ask(number: int) -> None:
        answers[number] = worker.ask({"do": "echo", "number": number}, 60)["number"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: number for number in range(8)}
