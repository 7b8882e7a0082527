"""The loop: state, context, and the standard nodes for LangGraph.

    seed ─ generate ─ check ─ grade ─┬─ accept
                        ▲            ├─ revise ─┐ (new evidence only, keep-best)
                        └────────────┼──────────┘
                                     └─ reject · ungradable · failed

Enters: one seed with its inputs, and the agents that serve it. Leaves: attempts and a verdict, as
plain JSON in the state. Refuses to know: the store, other items, caps, progress.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict

from agentloop.agents import Agents, Draft, critique_of
from agentloop.checks import Check, run_checks
from agentloop.errors import ReplyError
from agentloop.models.base import NoJournal
from agentloop.models.channel import Channel, Endpoint, RoleSettings
from agentloop.models.choose import ModelChoice, default_model, open_model, traits_of
from agentloop.models.limits import Limits
from agentloop.prompting import Prompt
from agentloop.records import Attempt, Candidate, CheckResult, Critique, Json
from agentloop.rubric import Rubric
from agentloop.verdicts import (
    failure,
    is_items_own,
    may_pass,
    reply_reason,
    settle,
    ungradable,
)

DEFAULT_ROUNDS = 2


class State(TypedDict, total=False):
    """One item on its way; plain JSON, so that any checkpointer or Studio can hold it."""

    item: str
    seed: dict[str, Any]
    """The seed's fields."""
    inputs: dict[str, Any]
    round: int
    candidate: dict[str, Any]
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


class Served(Protocol):
    """What the nodes ask of a recipe."""

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


def standard_graph(recipe: Served, *, drafts_to: str = "check") -> StateGraph[Any, Any, Any, Any]:
    """Return the standard loop for a recipe, not yet compiled.

    `drafts_to` names a node of one's own that every draft goes to, on its way to `check`. The nodes
    only say what they found and the edges say where to go: a wholly different graph is plain LangGraph
    over `State` with the methods of `Nodes(recipe)` and the edges `unless_settled` and `after_check`.
    """
    nodes = Nodes(recipe)
    graph = StateGraph(State, context_schema=Context)
    graph.add_node("generate", nodes.generate)
    graph.add_node("check", nodes.check)
    graph.add_node("grade", nodes.grade)
    graph.add_node("revise", nodes.revise)
    graph.add_edge(START, "generate")
    graph.add_conditional_edges("generate", unless_settled(drafts_to), [drafts_to, END])
    graph.add_conditional_edges("check", after_check)
    graph.add_conditional_edges("grade", unless_settled("revise"), ["revise", END])
    graph.add_conditional_edges("revise", unless_settled(drafts_to), [drafts_to, END])
    return graph


def unless_settled(node: str) -> Callable[[State], str]:
    """Return the way of an item: to a node, or to the end once it has a verdict."""

    def settled_or_on(state: State) -> str:
        return END if state.get("verdict") else node

    return settled_or_on


def after_check(state: State) -> Literal["grade", "revise", "__end__"]:
    """Spare the judge when a veto failed."""
    if state.get("verdict"):
        return "__end__"
    return "revise" if any(_vetoed(c) for c in state["checks"]) else "grade"


def _vetoed(check: Json) -> bool:
    return check["veto"] and not check["passed"]


def recursion_limit(max_rounds: int) -> int:
    """Return LangGraph's step limit for a number of rounds: three steps each, and some room."""
    return 3 * (max_rounds + 1) + 8


class Nodes:
    """The standard nodes, bound to a recipe. Each returns what it found, as an update of the state."""

    def __init__(self, recipe: Served):
        self.recipe = recipe

    async def generate(self, state: State, runtime: Runtime[Context]) -> State:
        """Write the first draft."""
        try:
            async with agents_of(runtime, self.recipe, state) as agents:
                draft = await agents.generate(state["seed"], self._inputs(state))
        except Exception as error:
            return {"verdict": failure(error)}
        return _drafted(draft, 0)

    async def check(self, state: State, runtime: Runtime[Context]) -> State:
        """Run the checks; a failed veto is an attempt without a grade."""
        try:
            async with agents_of(runtime, self.recipe, state) as agents:
                results = await run_checks(agents.checks, state["candidate"], state["seed"])
            candidate = self.recipe.candidate.model_validate(state["candidate"])
            messages = candidate.messages(state["seed"])
        except Exception as error:  # a bug in a check costs one item, and is named
            return {"verdict": failure(error)}
        found: State = {
            "checks": [r.model_dump() for r in results],
            "messages": list(messages),
        }
        failed = [r for r in results if r.veto and not r.passed]
        if not failed:
            return found
        detail = "; ".join(r.evidence or r.name for r in failed)
        attempt = _attempt({**state, **found}, reason="failed_check", detail=detail)
        return {**found, **self._weigh(state, runtime, attempt)}

    async def grade(self, state: State, runtime: Runtime[Context]) -> State:
        """Let the critic mark every criterion; code scores and decides."""
        results = [CheckResult.model_validate(c) for c in state["checks"]]
        own = state.get("criteria") or []
        try:
            async with agents_of(runtime, self.recipe, state) as agents:
                if agents.rubric.per_item and not own:
                    own = list(await agents.write_criteria(state["seed"]))
                grade = await agents.grade(
                    state["seed"], state["candidate"], state["round"], results, own
                )
                rubric = agents.rubric.with_criteria(own)
                reason, detail = rubric.decide(grade)
                critique = critique_of(grade, _failed(state["checks"]), rubric)
        except ReplyError as error:
            attempt = _attempt(state, reason=reply_reason(error), detail=str(error))
            tried = _with(state, attempt)
            return {"attempts": tried[-1:], "verdict": ungradable(error, tried)}
        except Exception as error:
            return self._ungraded(state, error)
        attempt = _attempt(
            state,
            grade=grade,
            critique=critique,
            accepted=reason is None,
            reason=reason,
            detail=detail,
        )
        update = self._weigh(state, runtime, not_worse(attempt, state.get("attempts", [])))
        return {**update, "criteria": own}

    async def revise(self, state: State, runtime: Runtime[Context]) -> State:
        """Write another draft from the latest attempt and the evidence against it."""
        parent = Attempt.model_validate(state["attempts"][-1])
        round = state["round"] + 1
        try:
            async with agents_of(runtime, self.recipe, state) as agents:
                draft = await agents.revise(
                    state["seed"], self._inputs(state), parent.candidate, parent.critique, round
                )
        except Exception as error:
            if may_pass(error) or not is_items_own(error):
                return {"verdict": failure(error)}
            return {"verdict": settle(state["attempts"])}
        if draft.candidate.model_dump(mode="json") == parent.candidate:
            return {"verdict": settle(state["attempts"])}
        return _drafted(draft, round)

    def _inputs(self, state: State) -> Json:
        """Return what the runner drew; Studio draws nothing."""
        return state.get("inputs") or self.recipe.inputs(state["seed"], 0)

    def _ungraded(self, state: State, error: Exception) -> State:
        """Settle an item whose judging failed: by an earlier grade, where there is one."""
        verdict = failure(error)
        attempt = _attempt(state, reason="error", detail=verdict["detail"])
        earlier = state.get("attempts", [])
        own = is_items_own(error) and not may_pass(error)
        if own and any(a["grade"] for a in earlier):
            verdict = settle(earlier)
        return {"attempts": [attempt.model_dump(mode="json")], "verdict": verdict}

    def _weigh(self, state: State, runtime: Runtime[Context], attempt: Attempt) -> State:
        """Accept, leave it to a revision on new evidence, or settle for the best attempt."""
        tried = _with(state, attempt)
        worse = any(Attempt.model_validate(a).rank > attempt.rank for a in tried[:-1])
        out_of_rounds = attempt.round >= context_of(runtime).max_rounds
        if attempt.accepted or worse or out_of_rounds or attempt.critique.empty:
            return {"attempts": tried[-1:], "verdict": settle(tried)}
        return {"attempts": tried[-1:]}


def not_worse(attempt: Attempt, before: Sequence[Json]) -> Attempt:
    """Return an attempt; one that lost a check which its parent passed is not accepted any more.

    A revision that mends one thing and breaks another is no repair, whatever it scores.
    """
    if not attempt.accepted or not before:
        return attempt
    parent = Attempt.model_validate(before[-1])
    passed = {check.name for check in parent.checks if check.passed}
    lost = [check.name for check in attempt.checks if check.name in passed and not check.passed]
    if not lost:
        return attempt
    detail = f"the revision fails `{lost[0]}`, which its parent passed"
    return attempt.model_copy(
        update={"accepted": False, "reason": "failed_check", "detail": detail}
    )


def _drafted(draft: Draft, round: int) -> State:
    return {
        "candidate": draft.candidate.model_dump(mode="json"),
        "wrote": {"model": draft.model, "prompt": draft.prompt},
        "round": round,
    }


def _failed(checks: Sequence[Json]) -> list[Json]:
    return [{"name": c["name"], "evidence": c["evidence"]} for c in checks if not c["passed"]]


def _attempt(state: State, **found: Any) -> Attempt:
    """Return the candidate at hand with what was found out about it."""
    found.setdefault("critique", Critique(checks=tuple(_failed(state["checks"]))))
    return Attempt(
        round=state["round"],
        candidate=state["candidate"],
        messages=tuple(state["messages"]),
        checks=tuple(CheckResult.model_validate(c) for c in state["checks"]),
        model=state["wrote"]["model"],
        prompt=state["wrote"]["prompt"],
        **found,
    )


def _with(state: State, attempt: Attempt) -> list[Json]:
    return [*state.get("attempts", []), attempt.model_dump(mode="json")]


def context_of(runtime: Runtime[Context]) -> Context:
    """Return the context, with defaults where Studio gives none."""
    context: Context | None = runtime.context
    return Context() if context is None else context


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
        for role in ("generator", "critic", "reviser")
    }
    item = state.get("item") or "studio"
    try:
        yield Agents(item, channels, kit.prompts, kit.rubric, recipe.candidate, kit.checks)
    finally:
        await model.aclose()
