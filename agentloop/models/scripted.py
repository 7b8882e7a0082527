"""The public test double: a model whose answers are written beforehand.

Enters: a list of replies, or a function of the request. Leaves: replies on the same path as any
model: journal, limits, parsing. Refuses to know: the network.

    model = ScriptedModel(['{"question": "…"}', ...])          # in order; an error when used up
    model = ScriptedModel(lambda request: "…", name="scripted/judge")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from agentloop.errors import RefusedRequest
from agentloop.models.base import Reply, Request, Structured
from agentloop.models.prices import FREE, Price
from agentloop.records import Json, Usage

Script = Callable[[Request], "str | Reply | Exception"] | Iterable["str | Reply | Exception"]


class ScriptedModel:
    """Answers from a list or a callable; an exception in the script is raised.

    Worker processes have copies of it, each with a state of its own: a list is refused there.
    """

    def __init__(self, script: Script, *, name: str = "scripted/model", price: Price | None = FREE):
        self.name = name
        self.identity: Json = {"model": name, "endpoint": None}
        self.price = price
        self.requests: list[Request] = []
        self.in_order = not callable(script)
        """Whether its answers are a list, each given once."""
        self._answer = script if callable(script) else _in_order(iter(script))

    async def complete(self, request: Request, structured: Structured) -> Reply:
        """Return the next scripted answer."""
        self.requests.append(request)
        answer = self._answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Reply):
            return answer
        prompt = sum(len(m["content"]) for m in request.messages)
        usage = Usage(prompt_tokens=prompt // 4, completion_tokens=len(answer) // 4)
        cost = None if self.price is None else self.price.cost(usage)
        return Reply(text=answer, usage=usage, cost_usd=cost)

    async def aclose(self) -> None:
        """Do nothing."""


def _in_order(
    answers: Iterator[str | Reply | Exception],
) -> Callable[[Request], str | Reply | Exception]:
    def answer(request: Request) -> str | Reply | Exception:
        try:
            return next(answers)
        except StopIteration:
            return RefusedRequest("the script is used up")

    return answer
