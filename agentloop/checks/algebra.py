"""The process in which math-verify compares answers: it may hang, use signals, or fill the memory.

Enters: a JSON line `{"gold": …, "answer": …, "watchdog": …}` each on stdin. Leaves: `{"equal": true}`,
or `{"unread": "gold"}` where an expression cannot be read. Refuses to know: fields, candidates.
It imports nothing of agentloop, so that it starts fast.

math-verify's own time-outs use `signal.alarm` and turn into "not equal" in silence: they are off, and
the parent kills this process. A watchdog thread ends it if the parent died meanwhile, after `watchdog`
seconds, even within one long operation. Comparing is not symmetric: the gold answer comes first.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import resource
import sys

from math_verify import parse, verify

MEMORY = 2 * 2**30  # bytes of address space


def main() -> None:
    """Compare until stdin ends."""
    with contextlib.suppress(ValueError, OSError):  # macOS refuses
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answers, sys.stdout = sys.stdout, sys.stderr
    parse("$1$", parsing_timeout=None)  # the first one loads the grammar
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        faulthandler.dump_traceback_later(asked["watchdog"], exit=True)
        answer = compared(asked["gold"], asked["answer"])
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(answer), file=answers, flush=True)


def compared(gold: str, answer: str) -> dict[str, object]:
    """Compare two texts by their mathematics."""
    right = parse(gold, parsing_timeout=None)
    if not right:
        return {"unread": "gold"}
    given = parse(answer, parsing_timeout=None)
    if not given:
        return {"unread": "answer"}
    return {"equal": bool(verify(right, given, timeout_seconds=None))}


if __name__ == "__main__":
    main()
