"""What an item carries through its graph, and what a node finds beside it.

Enters: a recipe, and settings or live agents. Leaves: the state's and the context's shape, and
the agents that serve one item. Refuses to know: what a node does, where it stands in a graph.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

from langgraph.runtime import Runtime
from typing_extensions import TypedDict

from agentloop.agents import Agents
from agentloop.checks import Check
from agentloop.models.base import NoJournal
from agentloop.models.channel import Channel, Endpoint, RoleSettings
from agentloop.models.choose import ModelChoice, default_model, open_model, traits_of
from agentloop.models.limits import Limits
from agentloop.prompting import Prompt
from agentloop.records import Candidate, Json
from agentloop.rubric import Rubric
from agentloop.verdicts import Refuse

DEFAULT_ROUNDS = 2


class State(TypedDict, total=False):
    """One item on its way; plain JSON, so that any checkpointer or Studio can hold it."""

    item: str
    seed: dict[str, Any]
    """The seed's fields."""
    inputs: dict[str, Any]
    round: int
    made: Annotated[dict[str, Any], operator.or_]
    """What the steps before the first draft have made, by name."""
    candidate: dict[str, Any]
    parent: int | None
    """The attempt that the candidate at hand revises."""
    drafts: list[dict[str, Any]]
    """`candidate` and `wrote` of several drafts that are graded side by side."""
    critique: dict[str, Any]
    """What speaks against the latest attempt: `marks` and `checks`."""
    messages: list[dict[str, str]]
    """The candidate at hand as a conversation."""
    checks: list[dict[str, Any]]
    """What the checks found in it."""
    wrote: dict[str, str]
    """`model` and `prompt` hash of it."""
    criteria: list[dict[str, Any]]
    """The item's own criteria, where the rubric asks for such."""
    attempts: Annotated[list[dict[str, Any]], operator.add]
    verdict: dict[str, Any]


def joined(state: State, update: State) -> State:
    """Return a state with an update, as LangGraph would make it of the two."""
    both = {**state, **update}
    if "attempts" in update:
        both["attempts"] = [*state.get("attempts", ()), *update["attempts"]]
    if "made" in update:
        both["made"] = {**state.get("made", {}), **update["made"]}
    return cast("State", both)


@dataclass(frozen=True)
class Context:
    """What a graph is run with: settings in plain JSON, and the live agents behind them.

    LangGraph Studio gives the settings only; `agents` is then made from them on first use.
    """

    model: str = ""
    base_url: str = ""
    rubric: str = ""
    prompts: str = ""
    max_rounds: int = DEFAULT_ROUNDS
    agents: Any = None
    """An `Agents`; typed loosely, for a context schema must be plain."""


Step = Callable[[Agents, State], Awaitable[State]]
"""`async step(agents, state)`: returns what it adds to the state, as in `{"made": {"plan": text}}`.

Raises `Filtered` to drop the item for a reason of its own.
"""


class Served(Protocol):
    """What the nodes ask of a recipe."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """What makes a first draft, in a row; the generator alone where there are none."""

    @property
    def asks(self) -> tuple[str, ...]:
        """The names of the prompts that its steps ask by."""

    @property
    def revision(self) -> Step | None:
        """Rewrites some fields of a draft; None lets the reviser write it anew."""

    @property
    def refuse(self) -> Refuse | None:
        """Says why an item is dropped, by how its drafts compare; None where the best one decides."""

    @property
    def own_evidence(self) -> bool:
        """Whether its revision finds evidence of its own, and so waits for none of the critic's."""

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of its own, besides those that every recipe has."""

    @property
    def candidate(self) -> type[Candidate]:
        """The type of its drafts."""

    def inputs(self, seed: Json, sample: int, seed_of_run: int = 0) -> Json:
        """Return everything that an item takes from outside besides its seed."""

    def load(self, rubric: str | Path = "", *prompts: str | Path) -> Read:
        """Read rubric and prompts."""


class Read(Protocol):
    """What is read of a recipe's files."""

    @property
    def rubric(self) -> Rubric:
        """What the critic marks by."""

    @property
    def prompts(self) -> Mapping[str, Prompt]:
        """What the agents are asked with, by name."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """What looks at a draft before the critic."""


def context_of(runtime: Runtime[Context]) -> Context:
    """Return the context, with defaults where Studio gives none."""
    context: Context | None = runtime.context
    return Context() if context is None else context


def has_runner(runtime: Runtime[Context]) -> bool:
    """Whether a run walks the item, and not a person in Studio."""
    return isinstance(context_of(runtime).agents, Agents)


@asynccontextmanager
async def agents_of(
    runtime: Runtime[Context], recipe: Served, state: State
) -> AsyncIterator[Agents]:
    """Give the item's agents: the runner's, or ones made from the context's settings.

    The latter serve one node and close their connections: Studio tells nobody when it is done.
    """
    context = context_of(runtime)
    if isinstance(context.agents, Agents):
        yield context.agents
        return
    kit = recipe.load(context.rubric, *([context.prompts] if context.prompts else []))
    model = open_model(ModelChoice(context.model or default_model(), context.base_url or None))
    traits = traits_of(model)
    endpoint = Endpoint(Limits(model, traits.concurrency), traits)
    channels = {
        role: Channel(role, endpoint, NoJournal(), RoleSettings(), seed=0)
        for role in ("generator", "critic", "reviser", *recipe.roles)
    }
    item = state.get("item") or "studio"
    try:
        yield Agents(item, channels, kit.prompts, kit.rubric, recipe.candidate, kit.checks)
    finally:
        await model.aclose()
