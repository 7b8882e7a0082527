"""A recipe whose check burns 20 ms of CPU an item, and a model that answers at once, in the worker.

`BUSY_MS` in the environment sets other milliseconds; 0 leaves the calls alone.
"""

from __future__ import annotations

import os
import time

from endpoint import answer

import agentloop as al
from agentloop.models.base import Reply, Request
from agentloop.models.prices import FREE
from agentloop.records import Usage

BURNT = float(os.environ.get("BUSY_MS", "20")) / 1000  # seconds of CPU


class Pair(al.Candidate):
    """A question and its answer."""

    question: str
    answer: str


def sound(candidate: dict[str, str], seed: dict[str, str]) -> al.Finding:
    """Think for a while, in Python."""
    until = time.thread_time() + BURNT
    while time.thread_time() < until:
        pass
    return al.passed()


class Quick:
    """A model without an endpoint; it says what the benchmarks' endpoint says."""

    name = "scripted/quick"
    identity = {"model": "scripted/quick", "endpoint": None}  # noqa: RUF012
    price = FREE

    async def complete(self, request: Request, structured: str) -> Reply:
        prompt = request.messages[0]["content"]
        said = answer(prompt)
        return Reply(said, usage=Usage(prompt_tokens=len(prompt) // 4), cost_usd=0.0)

    async def aclose(self) -> None: ...


recipe = al.Recipe(
    name="busy", candidate=Pair, checks=(al.Check("sound", sound),), prompts="prompts/three_calls"
)
graph = recipe.compile()
