"""The work of the engines' tests: items that end in every way, and models that can be sent away."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from aiohttp import web

import agentloop as al
from agentloop.models.base import Reply, Request
from agentloop.models.prices import Price
from tests.builders import (
    PASSAGE,
    agent,
    draft,
    marks,
    per_seed,
    said_by,
    write_graph,
    write_prompts,
)
from tests.endpoint import HANG, Endpoint, Misbehave

GRAPH = """
import agentloop as al


class QA(al.Candidate):
    question: str
    answer: str


def long_enough(candidate, seed):
    if "number 13." in seed["passage"]:
        raise RuntimeError("a bug of one's own")
    short = candidate["answer"].startswith("short")
    return al.fail("it is too short") if short else al.passed()


recipe = al.Recipe(
    name="mine",
    reads=("passage",),
    candidate=QA,
    prompts="prompts",
    checks=(al.Check("long_enough", long_enough),),
)
graph = recipe.compile()
"""
ACTORS = 4  # of the tests' cluster, at once: those of a run that has ended may still be going
PRICE = Price(input=1000, output=4000)
SMALL: dict[str, Any] = {
    "roles": {role: {"max_tokens": 40} for role in ("generator", "critic", "reviser")}
}


def seeds(count: int) -> list[dict[str, str]]:
    return [{"passage": f"{PASSAGE} This is passage number {n}."} for n in range(count)]


def number(text: str) -> int:
    """Return the first number in a text; 0 where a canary has left none."""
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0


def write(prompt: str) -> str:
    """Write a draft that is sound, too short, wrong, or no JSON at all, by the passage's number."""
    n = number(prompt)
    kinds = {1: "short", 2: "wrong", 3: ""}
    if n % 6 == 3:
        return "I would rather not."
    return draft(f"{kinds.get(n % 6, 'good')} as in passage number {n}.")


def judge(prompt: str) -> str:
    if number(prompt) % 6 == 4:
        return "Good, I think."
    return marks("no") if "wrong" in prompt else marks()


def repair(prompt: str) -> str:
    kind = "still wrong" if "wrong" in prompt else "longer"
    return draft(f"{kind}, as in passage number {number(prompt)}.")


def cast(**scripts: Any) -> al.ScriptedModel:
    """Return a model that plays every role; it stays in the process that made it."""
    return agent(
        **{"generate": write, "critique": judge, "audit": judge, "revise": repair, **scripts}
    )


def said(request: Request) -> str:
    """Answer like `cast`, and can be sent to another process."""
    prompt = request.messages[0]["content"]
    plays = {"GENERATE": write, "CRITIQUE": judge, "AUDIT": judge, "REVISE": repair}
    return plays[prompt.split(maxsplit=1)[0]](prompt)


def gladly(request: Request) -> str:
    prompt = request.messages[0]["content"]
    return per_seed(prompt) if prompt.startswith("GENERATE") else marks()


def silent_after(answers: int, model: al.ScriptedModel) -> Misbehave:
    """Return what answers so many calls, and says nothing any more."""
    left = iter(range(answers))

    def answer(body: dict[str, Any], number: int) -> web.Response:
        return HANG if next(left, None) is None else web.json_response(said_by(model, body))

    return answer


class Gathering(Endpoint):
    """Answers nobody until so many wait at once."""

    def __init__(self, model: al.ScriptedModel, together: int):
        super().__init__(0.02, lambda body, _: web.json_response(said_by(model, body)))
        self._missing = together
        self._together = asyncio.Event()

    async def _chat(self, request: web.Request) -> web.Response:
        self._missing -= 1
        if self._missing <= 0:
            self._together.set()
        await self._together.wait()
        return await super()._chat(request)


class Echo:
    """A model of one's own, of a class that other processes can import."""

    name = "own/echo"
    identity = {"model": "own/echo", "endpoint": None}  # noqa: RUF012
    price = PRICE

    async def complete(self, request: Request, structured: str) -> Reply:
        return Reply(gladly(request), cost_usd=0.25)

    async def aclose(self) -> None: ...


class Shut(Echo):
    """A model whose own code refuses to be sent."""

    def __init__(self, error: Exception):
        self._error = error

    def __reduce__(self) -> Any:
        raise self._error


class Jammed(Echo):
    """A model that nobody can open elsewhere."""

    def __init__(self) -> None:
        self.address = "here"

    def __setstate__(self, state: Any) -> None:
        raise ValueError("no server here")


class QA(al.Candidate):
    question: str
    answer: str


def recipe_in(folder: Path, text: str = GRAPH) -> Path:
    return write_graph(folder, text)


def items_of(run: al.Run) -> dict[str, Any]:
    """Return everything that was found out about each item."""
    store = al.Store(run.store)
    found = {}
    for row in run.items("all"):
        item = store.item(row["item"], run=run.name).item
        found[item.id] = json.loads(item.model_dump_json(exclude={"run"}))
    return found


def recipe_at(folder: Path) -> al.Recipe:
    """Return a recipe whose parts other processes can import."""
    return al.Recipe(
        name="mine",
        reads=("passage",),
        candidate=QA,
        prompts=str(write_prompts(folder / "prompts")),
    )
