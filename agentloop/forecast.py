"""What a run would do and cost, without a call: `agentloop run --dry-run`.

Enters: a plan. Leaves: the first rendered prompts, and ranges of calls, tokens and USD. Refuses to know:
stores, what models answer. Where a prompt needs what a model would have written, its name stands in
angle brackets.

The low end is a run whose every draft is accepted at once; the high end one whose every item needs
all its revisions and fails its last, with every answer as long as it may be and no reply re-asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from agentloop.errors import PromptError
from agentloop.judging import given_to_judge, look_at
from agentloop.models.base import Request
from agentloop.models.estimate import prompt_tokens
from agentloop.plain import plain
from agentloop.plan import Plan
from agentloop.prompting import Message
from agentloop.records import Json

ANSWER_SHARE = 0.1  # of an answer's limit, at the low end
PROMPT_SHARE = 0.5  # of the longest first prompt, by an estimate that errs to the high side


@dataclass(frozen=True)
class Forecast:
    """A run's plan in numbers; each pair is a low and a high end."""

    plan: Plan
    first: Mapping[str, tuple[Message, ...]]
    """The first item's first prompts, by the prompt's name."""
    items: tuple[int, int]
    calls: tuple[int, int]
    prompt_tokens: tuple[int, int]
    completion_tokens: tuple[int, int]
    cost_usd: tuple[float, float] | None
    """None when a price is unknown."""

    def as_dict(self) -> Json:
        """Return it as JSON values."""
        return {
            "run": self.plan.run,
            "recipe": self.plan.found.recipe.name,
            "seeds": self.plan.seeds.count,
            "shard": self.plan.settings.shard,
            "models": {role: e.name for role, e in self.plan.endpoints.items()},
            "first_prompts": {name: list(turns) for name, turns in self.first.items()},
            **{
                name: list(getattr(self, name))
                for name in ("items", "calls", "prompt_tokens", "completion_tokens")
            },
            "cost_usd": None if self.cost_usd is None else list(self.cost_usd),
        }

    def told(self) -> str:
        """Return it as text for a person."""
        plan = self.plan
        lines = [
            f"run {plan.run} · recipe {plan.found.recipe.name} · {plan.seeds.told}",
            *(f"  {role:<10} {endpoint.name}" for role, endpoint in plan.endpoints.items()),
            "  no call was made; a run would need",
            f"  {_range(self.items)} items, {_range(self.calls)} calls",
            f"  {_range(self.prompt_tokens)} tokens in, {_range(self.completion_tokens)} out",
            "  cost unknown: a price is missing"
            if self.cost_usd is None
            else f"  {self.cost_usd[0]:.4f} to {self.cost_usd[1]:.4f} USD",
        ]
        for name, turns in self.first.items():
            lines += ["", f"=== {name}, the first one"]
            for message in turns:
                lines += ["", f"[{message['role']}]", *map(plain, message["content"].splitlines())]
        return "\n".join(lines)


def _range(ends: tuple[int, int]) -> str:
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def forecast(plan: Plan) -> Forecast:
    """Estimate a run from its first seed's prompts."""
    (_, first_seed), *_ = islice(plan.seeds.items(0, _none), 1)
    seed = first_seed.fields
    inputs = plan.found.recipe.inputs(seed, 0, plan.settings.seed)
    first = first_prompts(plan, seed, inputs)
    low, high = _items(plan)
    size = max(prompt_tokens(Request(messages=turns)) for turns in first.values())
    least = _calls(plan, 0)
    most = _calls(plan, plan.max_rounds)
    return Forecast(
        plan=plan,
        first=first,
        items=(low, high),
        calls=(low * sum(least.values()), high * sum(most.values())),
        prompt_tokens=(
            int(low * sum(least.values()) * size * PROMPT_SHARE),
            high * sum(most.values()) * 2 * size,
        ),
        completion_tokens=(
            int(low * _answers(plan, least) * ANSWER_SHARE),
            high * _answers(plan, most),
        ),
        cost_usd=_cost(
            plan,
            (low, least, int(size * PROMPT_SHARE), ANSWER_SHARE),
            (high, most, 2 * size, 1.0),
        ),
    )


def _none(names: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.zeros(len(names), np.bool_)


def first_prompts(plan: Plan, seed: Json, inputs: Json) -> dict[str, tuple[Message, ...]]:
    """Return what each role would be asked first about an item."""
    kit, critic = plan.kit, plan.endpoints["critic"]
    candidate = {name: f"<{name}>" for name in kit.recipe.candidate.model_fields}
    criterion = next(iter(kit.rubric.judged), kit.rubric.criteria[0])
    mark = {"name": criterion.name, "ask": criterion.ask, "level": criterion.levels[0]}
    given = given_to_judge(seed, candidate, "<reference>" if kit.rubric.reference else "")
    asked: dict[str, Callable[[], tuple[Message, ...]]] = {}
    if kit.rubric.reference is True:
        reference = kit.prompts["reference"]
        asked["reference"] = lambda: reference.render(
            seed=seed, candidate=candidate, fence=given["fence"]
        )
    if critic.logprobs:
        asked["ask"] = lambda: look_at(kit.prompts["ask"], criterion, given)
    else:
        critique = kit.prompts["critique"]
        asked["critique"] = lambda: critique.render(criteria=kit.rubric.judged, **given)
    if plan.max_rounds and "revise" in kit.prompts:
        marks = [{**mark, "quote": "", "reason": "<reason>"}]
        shown = {"seed": seed, "inputs": inputs, "candidate": candidate, "marks": marks}
        asked["revise"] = lambda: kit.prompts["revise"].render(**shown, checks=[])
    if "generate" in kit.prompts:
        first = {"generate": kit.prompts["generate"].render(seed=seed, inputs=inputs)}
    else:
        shown = {"seed": seed, "inputs": inputs, "candidate": candidate, "fence": "<fence>"}
        first = {n: _rendered(partial(kit.prompts[n].render, **shown)) for n in kit.recipe.asks}
    return first | {name: _rendered(render) for name, render in asked.items()}


def _rendered(render: Callable[[], tuple[Message, ...]]) -> tuple[Message, ...]:
    """Return a prompt; one that computes with the candidate's values needs a real one."""
    try:
        return render()
    except PromptError:
        return ({"role": "user", "content": "(it can be rendered once there is a draft)"},)


def _items(plan: Plan) -> tuple[int, int]:
    """Return the fewest and the most items that will be settled."""
    settings, seeds = plan.settings, plan.seeds.count
    if settings.accept is None and settings.items is None:
        return seeds, seeds
    most = min(settings.items or seeds * settings.per_seed, seeds * settings.per_seed)
    return min(settings.accept or most, most), most


def _calls(plan: Plan, rounds: int) -> dict[str, int]:
    """Return calls of each role for an item of so many revisions."""
    critic = plan.endpoints["critic"]
    judging = len(plan.kit.rubric.judged) + 1 if critic.logprobs else 1
    judging = judging * plan.kit.rubric.looks.count + (plan.kit.rubric.reference is True)
    critic_calls = judging * (rounds + 1)
    written = max(1, plan.found.recipe.calls - 1)
    return {"generator": written, "critic": critic_calls, "reviser": rounds}


def _answers(plan: Plan, calls: dict[str, int]) -> int:
    return sum(count * plan.roles[role].max_tokens_of(role) for role, count in calls.items())


def _cost(plan: Plan, *ends: tuple[int, dict[str, int], int, float]) -> tuple[float, float] | None:
    prices = {role: endpoint.price for role, endpoint in plan.endpoints.items()}
    if any(price is None for price in prices.values()):
        return None
    found = []
    for items, calls, size, share in ends:
        usd = 0.0
        for role, count in calls.items():
            price = prices[role]
            assert price is not None
            answer = plan.roles[role].max_tokens_of(role) * share
            usd += items * count * (size * price.input + answer * price.output) / 1e6
        found.append(usd)
    return found[0], found[1]
