"""Checks of maths: the answer of a solution against the right one.

Enters: the names of the candidate's field and of the seed's. Leaves: `Check` objects for a recipe.
Refuses to know: the steps in between. Evidence never tells the right answer: a reviser who is shown
it would write it down and keep the wrong steps.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import sys
from pathlib import Path

from agentloop.checks import Check, Finding, fail, passed
from agentloop.checks.answers import final_answer
from agentloop.checks.worker import Worker
from agentloop.errors import UserError
from agentloop.plain import plain
from agentloop.records import Json

SHOWN = 40  # characters of a candidate's answer that evidence repeats
LONGEST = 20_000  # characters of a solution that are compared, from its end
GRACE = 1.0  # seconds after the limit in which a process whose parent died ends by itself

_MARKED = re.compile(r"\$|\\\(|\\\[|\\boxed")
_PROSE = re.compile(r"[A-Za-z]{2} +[A-Za-z]{2}")


def number_equals(field: str, answer: str) -> Check:
    """A solution in `field` ends in the number that the seed's `answer` ends in, exactly.

    How the number is found, and which forms are read: `agentloop.checks.answers`. All 5,276 recorded
    verdicts on GSM8K's example solutions come out the same (`benchmarks/maths.py`).
    """

    def run(candidate: Json, seed: Json) -> Finding:
        right = final_answer(str(seed.get(answer, "")))
        if right is None:
            return fail(f"the seed's `{answer}` gives no final number: nothing can equal it")
        given = final_answer(str(candidate.get(field, "")))
        if given is None:
            return fail(f"`{field}` gives no single final number: it must end as in `#### 42`")
        if given.same(right):
            return passed()
        return fail(
            f"`{field}` comes to {plain(given.value, SHOWN)}, which is not the right answer"
        )

    return Check(f"number_{field}", run, {"field": field, "answer": answer})


def maths_equals(field: str, answer: str, *, seconds: float = 5.0) -> Check:
    """An expression in `field` equals the seed's `answer` mathematically, by math-verify.

    Fractions, roots, sets, intervals, equations, in LaTeX or plain. math-verify runs in a process of
    its own, which is killed after `seconds` of wall time; that is a failure too.
    UserError without the `maths` extra.
    """
    if importlib.util.find_spec("math_verify") is None:
        raise UserError(
            "the check `maths_equals` needs the maths extra: `pip install 'agentloop-data[maths]'`"
        )

    def run(candidate: Json, seed: Json) -> Finding:
        asked: Json = {
            "gold": _expression(str(seed.get(answer, ""))),
            "answer": _expression(str(candidate.get(field, ""))),
            "watchdog": seconds + GRACE,
        }
        try:
            reply = _worker(os.getpid()).ask(asked, seconds)
        except (TimeoutError, EOFError) as error:
            limit = f"within {seconds:g} s" if isinstance(error, TimeoutError) else "at all"
            return fail(
                f"`{field}` could not be compared with the right answer {limit}: "
                "give the final answer in its simplest form"
            )
        return _judged(reply, field, answer)

    settings: Json = {"field": field, "answer": answer, "seconds": seconds}
    return Check(f"maths_{field}", run, settings, slow=True)


def _judged(reply: Json, field: str, answer: str) -> Finding:
    if reply.get("unread") == "gold":
        return fail(f"the seed's `{answer}` gives no expression: nothing can equal it")
    if reply.get("unread"):
        return fail(f"`{field}` gives no expression: put the final answer in `\\boxed{{…}}`")
    if reply["equal"]:
        return passed()
    return fail(f"the final answer of `{field}` does not equal the right one")


def _expression(text: str) -> str:
    """Return what math-verify reads: what follows `####`, and a bare formula between dollar signs."""
    end = text.rpartition("####")[2].strip()[-LONGEST:]
    if _MARKED.search(end) or _PROSE.search(end) or "\n" in end:
        return end
    return f"${end}$"


@functools.cache
def _worker(owner: int) -> Worker:
    """Return this process's worker; one that was forked off starts its own."""
    # -P: the modules beside it must not stand in for others of their names
    return Worker([sys.executable, "-P", str(Path(__file__).with_name("algebra.py"))])
