"""A child process that answers one question after the other, and is killed when it takes too long.

Enters: a command that reads JSON lines from stdin and writes JSON lines to stdout, the first of them
once it is ready. Leaves: its answers; TimeoutError after a wall limit, EOFError when it died.
Refuses to know: what is asked.

Made for libraries that may hang or crash on hostile input: no signal, no thread of ours waits for them.
The child lives on between questions, for its imports cost more than most answers; it gets no key from
the environment and ends with its parent, whose end it sees as the end of stdin.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Sequence

from agentloop.errors import UserError
from agentloop.records import Json

START = 60.0  # seconds in which the child must be ready
CHUNK = 65536
INHERITED = ("PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class Worker:
    """One child, started by the first question, and anew after it was killed. Threads take turns."""

    def __init__(self, command: Sequence[str]):
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._turn = threading.Lock()
        atexit.register(self.close)

    def ask(self, question: Json, seconds: float) -> Json:
        """Return the child's answer.

        TimeoutError after `seconds` of wall time, not counting the start; EOFError when the child
        died; both end the child. UserError when it does not start.
        """
        with self._turn:
            process = self._started()
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps(question).encode() + b"\n")
                process.stdin.flush()
                return _line(process, seconds)
            except BaseException as error:  # an answer that comes late would be the next one's
                self.close()
                if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                    raise EOFError("the process died") from error
                raise

    def close(self) -> None:
        """Kill the child, if there is one; a later question starts another."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():  # a fork must not kill its parent's
            process.kill()
            process.wait()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.close()
            with contextlib.suppress(OSError):  # what was written last finds no reader
                process.stdin.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in INHERITED if name in os.environ},
                start_new_session=True,
            )
            try:
                _line(self._process, START)
            except (OSError, EOFError) as error:
                self.close()
                raise UserError(f"`{' '.join(self._command)}` does not start: {error}") from error
        return self._process


def _line(process: subprocess.Popen[bytes], seconds: float) -> Json:
    """Read one JSON line within a wall limit."""
    assert process.stdout is not None
    end = time.monotonic() + seconds
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not text.endswith(b"\n"):
            if not selector.select(max(0.0, end - time.monotonic())):
                raise TimeoutError(f"no answer within {seconds:g} s")
            chunk = os.read(process.stdout.fileno(), CHUNK)
            if not chunk:
                raise EOFError("it ended without an answer")
            text += chunk
    answer: Json = json.loads(text)
    return answer
