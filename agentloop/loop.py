"""The loop: state, context, recipe, and the standard nodes for LangGraph.

    seed ─ generate ─ check ─ grade ─┬─ accept
                        ▲            ├─ revise ─┐ (new evidence only, keep-best)
                        └────────────┼──────────┘
                                     └─ reject · ungradable · failed

Enters: one seed with its inputs, and the agents that serve it. Leaves: attempts and a verdict, as
plain JSON in the state. Refuses to know: the store, other items, caps, progress.

A recipe is a candidate type, prompts, a rubric, perhaps checks:

    class QA(Candidate):
        question: str
        answer: str

    recipe = Recipe(name="my_qa", reads=("passage",), candidate=QA, prompts="prompts/my_qa")
    graph = recipe.compile()
"""

from __future__ import annotations

import operator
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command
from typing_extensions import TypedDict

from agentloop.agents import Agents, critique_of
from agentloop.checks import Check, run_checks, source_hash
from agentloop.errors import (
    AccessError,
    ModelError,
    PromptError,
    RecipeError,
    RefusedReply,
    ReplyError,
    UnreachableError,
)
from agentloop.models.base import NoJournal
from agentloop.models.channel import Channel, Endpoint, RoleSettings
from agentloop.models.choose import ModelChoice, default_model, open_model, traits_of
from agentloop.models.limits import Limits
from agentloop.prompting import Prompt, PromptFolder
from agentloop.records import Attempt, Candidate, CheckResult, Json, Reason, Verdict, digest
from agentloop.rubric import Rubric, read_rubric

REQUIRED_PROMPTS = ("generate", "critique", "ask", "evidence", "revise")
DEFAULT_ROUNDS = 2


class State(TypedDict, total=False):
    """One item on its way; plain JSON, so that any checkpointer or Studio can hold it."""

    item: str
    seed: dict[str, Any]
    """The seed's fields."""
    inputs: dict[str, Any]
    round: int
    candidate: dict[str, Any]
    checks: list[dict[str, Any]]
    """What the checks found in the candidate at hand."""
    wrote: dict[str, str]
    """`model` and `prompt` hash of the candidate at hand."""
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


@dataclass(frozen=True)
class Recipe:
    """Candidate type, prompts, rubric, checks and graph under one name."""

    name: str
    candidate: type[Candidate]
    reads: tuple[str, ...] = ()
    """Seed fields that the prompts read; a seed without them is refused before the run."""
    checks: tuple[Check, ...] = ()
    prompts: str | Path = ""
    """Folder of its own prompts and `rubric.yaml`, from its file's folder; `prompts/NAME` if empty."""
    about: str = ""
    """One line for `agentloop recipes`."""
    draw: Callable[[Json, int], Json] | None = None
    """Draws an item's inputs from the seed's fields and the sample index, before its first call."""
    build: Callable[[Recipe], StateGraph[Any, Any, Any, Any]] | None = None
    """Makes another graph; the standard loop by default."""

    @property
    def home(self) -> Path:
        """The folder of the file that declares the candidate type: the recipe's own."""
        module = sys.modules.get(self.candidate.__module__)
        return Path(getattr(module, "__file__", None) or "").parent

    def compile(self) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Return the compiled graph, without a checkpointer."""
        make = self.build or standard_graph
        return make(self).compile(name=self.name)

    def inputs(self, seed: Json, sample: int) -> Json:
        """Return everything that an item takes from outside besides its seed."""
        return {"sample": sample, **(self.draw(seed, sample) if self.draw else {})}

    def folder(self, *mine: str | Path) -> PromptFolder:
        """Return where its prompts are looked for: `mine`, its own, the packaged ones."""
        beside = self.home / (self.prompts or Path("prompts") / self.name)
        own = [beside] if self.prompts or beside.is_dir() else []
        return PromptFolder.of(self.name, *mine, *own)

    def load(self, rubric: str | Path = "", *prompts: str | Path) -> Kit:
        """Read rubric and prompts. Raises RubricError or PromptError."""
        folder = self.folder(*prompts)
        found = _rubric_file(rubric, folder)
        loaded = read_rubric(found)
        names = [*REQUIRED_PROMPTS, *(["reference"] if loaded.reference else [])]
        return Kit(self, loaded, folder.prompts(names))


@dataclass(frozen=True)
class Kit:
    """A recipe with its rubric and prompts read: all that a run needs besides models."""

    recipe: Recipe
    rubric: Rubric
    prompts: Mapping[str, Prompt]

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Seed fields that the recipe declares or its generator's prompt names."""
        named = self.prompts["generate"].seed_fields()
        return tuple(dict.fromkeys([*self.recipe.reads, *sorted(named)]))

    @cached_property
    def identity(self) -> Json:
        """Everything here that makes another run: names to content hashes."""
        return {
            "recipe": self.recipe.name,
            "candidate": digest(self.recipe.candidate.model_json_schema(), 8),
            "rubric": self.rubric.hash,
            **{f"prompts.{name}": prompt.hash for name, prompt in sorted(self.prompts.items())},
            **{f"checks.{check.name}": check.hash for check in self.recipe.checks},
            **({"draw": source_hash(self.recipe.draw)} if self.recipe.draw else {}),
        }


def _rubric_file(rubric: str | Path, folder: PromptFolder) -> Any:
    if rubric:
        path = Path(rubric)
        if path.is_file():
            return path
        named = folder.find(str(rubric)) or folder.find(f"{rubric}.yaml")
        if named is None:
            raise PromptError(f"there is no rubric `{rubric}`")
        return named
    found = folder.find("rubric.yaml")
    if found is None:
        raise RecipeError(
            f"recipe `{folder.recipe}` has no `rubric.yaml`; name one: `--rubric FILE`"
        )
    return found


def standard_graph(recipe: Recipe) -> StateGraph[Any, Any, Any, Any]:
    """Return the standard loop for a recipe, not yet compiled: add nodes to it as you like."""
    nodes = Nodes(recipe)
    graph = StateGraph(State, context_schema=Context)
    graph.add_node("generate", nodes.generate)
    graph.add_node("check", nodes.check)
    graph.add_node("grade", nodes.grade)
    graph.add_node("revise", nodes.revise)
    graph.add_edge(START, "generate")
    return graph


def recursion_limit(max_rounds: int) -> int:
    """Return LangGraph's step limit for a number of rounds: three steps each, and some room."""
    return 3 * (max_rounds + 1) + 8


class Nodes:
    """The standard nodes, bound to a recipe. Each returns where to go next."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe

    async def generate(
        self, state: State, runtime: Runtime[Context]
    ) -> Command[Literal["check", "__end__"]]:
        """Write the first draft."""
        try:
            async with agents_of(runtime, self.recipe, state) as agents:
                inputs = state.get("inputs") or self.recipe.inputs(state["seed"], 0)
                draft = await agents.generate(state["seed"], inputs)
        except Exception as error:
            return _go("__end__", verdict=failure(error))
        wrote = {"model": draft.model, "prompt": draft.prompt}
        return _go("check", candidate=draft.candidate.model_dump(mode="json"), wrote=wrote, round=0)

    async def check(
        self, state: State, runtime: Runtime[Context]
    ) -> Command[Literal["grade", "revise", "__end__"]]:
        """Run the checks; a failed veto spares the judge."""
        results = run_checks(self.recipe.checks, state["candidate"], state["seed"])
        failed = [r for r in results if r.veto and not r.passed]
        if not failed:
            return _go("grade", checks=[r.model_dump() for r in results])
        detail = "; ".join(r.evidence or r.name for r in failed)
        attempt = self._attempt(state, results, reason="failed_check", detail=detail)
        return self._next(state, runtime, attempt)

    async def grade(
        self, state: State, runtime: Runtime[Context]
    ) -> Command[Literal["revise", "__end__"]]:
        """Let the critic mark every criterion; code scores and decides."""
        results = [CheckResult.model_validate(r) for r in state["checks"]]
        try:
            async with agents_of(runtime, self.recipe, state) as agents:
                grade = await agents.grade(state["seed"], state["candidate"], state["round"])
        except ReplyError as error:
            return self._ungradable(state, results, error)
        except ModelError as error:
            verdict = failure(error)
            attempt = self._attempt(state, results, reason="error", detail=verdict["detail"])
            return _go("__end__", attempts=[attempt.model_dump(mode="json")], verdict=verdict)
        reason, detail = agents.rubric.decide(grade)
        failed = [{"name": r.name, "evidence": r.evidence} for r in results if not r.passed]
        attempt = self._attempt(
            state,
            results,
            grade=grade,
            critique=critique_of(grade, failed, agents.rubric),
            accepted=reason is None,
            reason=reason,
            detail=detail,
        )
        return self._next(state, runtime, attempt)

    async def revise(
        self, state: State, runtime: Runtime[Context]
    ) -> Command[Literal["check", "__end__"]]:
        """Write another draft from the latest attempt and the evidence against it."""
        parent = Attempt.model_validate(state["attempts"][-1])
        round = state["round"] + 1
        try:
            async with agents_of(runtime, self.recipe, state) as agents:
                draft = await agents.revise(state["seed"], parent.candidate, parent.critique, round)
        except (AccessError, UnreachableError):
            raise
        except (ReplyError, ModelError):
            return _go("__end__", verdict=settle(state["attempts"]))
        if draft.candidate.model_dump(mode="json") == parent.candidate:
            return _go("__end__", verdict=settle(state["attempts"]))
        wrote = {"model": draft.model, "prompt": draft.prompt}
        return _go(
            "check", candidate=draft.candidate.model_dump(mode="json"), wrote=wrote, round=round
        )

    def _attempt(self, state: State, results: Sequence[CheckResult], **found: Any) -> Attempt:
        candidate = self.recipe.candidate.model_validate(state["candidate"])
        if "critique" not in found:
            failed = [{"name": r.name, "evidence": r.evidence} for r in results if not r.passed]
            found["critique"] = {"checks": failed}
        return Attempt(
            round=state["round"],
            candidate=state["candidate"],
            messages=candidate.messages(state["seed"]),
            checks=tuple(results),
            model=state["wrote"]["model"],
            prompt=state["wrote"]["prompt"],
            **found,
        )

    def _ungradable(
        self, state: State, results: Sequence[CheckResult], error: ReplyError
    ) -> Command[Any]:
        detail = f"the critic's reply cannot be used: {error}"
        attempt = self._attempt(state, results, reason=reply_reason(error), detail=detail)
        attempts = [attempt.model_dump(mode="json")]
        best = max((Attempt.model_validate(a) for a in state.get("attempts", [])), default=None,
                   key=lambda a: a.rank)  # fmt: skip
        kept = Verdict(
            verdict="ungradable",
            reason=reply_reason(error),
            detail=f"{detail} ({excerpt(error.text)})" if error.text else detail,
            round=best.round if best and best.grade else attempt.round,
        )
        return _go("__end__", attempts=attempts, verdict=kept.model_dump(mode="json"))

    def _next(self, state: State, runtime: Runtime[Context], attempt: Attempt) -> Command[Any]:
        """Accept, revise on new evidence, or settle for the best attempt."""
        earlier = [Attempt.model_validate(a) for a in state.get("attempts", [])]
        attempts = [attempt.model_dump(mode="json")]
        worse = any(a.rank > attempt.rank for a in earlier)
        out_of_rounds = attempt.round >= context_of(runtime).max_rounds
        if attempt.accepted or worse or out_of_rounds or attempt.critique.empty:
            verdict = settle([*state.get("attempts", []), *attempts])
            return _go("__end__", attempts=attempts, verdict=verdict)
        return _go("revise", attempts=attempts)


def _go(to: str, **update: Any) -> Command[Any]:
    return Command(update=update, goto=to)


def context_of(runtime: Runtime[Context]) -> Context:
    """Return the context, with defaults where Studio gives none."""
    context: Context | None = runtime.context
    return Context() if context is None else context


@asynccontextmanager
async def agents_of(
    runtime: Runtime[Context], recipe: Recipe, state: State
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
        yield Agents(item, channels, kit.prompts, kit.rubric, recipe.candidate)
    finally:
        await model.aclose()


def settle(attempts: Sequence[Json]) -> Json:
    """Return the verdict of the best attempt, the later one among equals."""
    best = max((Attempt.model_validate(a) for a in attempts), key=lambda a: (a.rank, a.round))
    verdict = Verdict(
        verdict="accepted" if best.accepted else "rejected",
        reason=best.reason,
        detail=best.detail,
        round=best.round,
        score=best.grade.score if best.grade else None,
    )
    return verdict.model_dump(mode="json")


def failure(error: Exception) -> Json:
    """Return the verdict for an item that produced no draft or no grade.

    Raises the error again when it is the endpoint's and not the item's: a wrong key or a dead
    endpoint gives no verdict. (A bug in a prompt or a node is `error`, with its text.)
    """
    if isinstance(error, AccessError | UnreachableError | PromptError):
        raise error
    if not isinstance(error, ReplyError | ModelError):
        raise error
    reason: Reason = reply_reason(error, "malformed") if isinstance(error, ReplyError) else "error"
    text = error.text if isinstance(error, ReplyError) else ""
    detail = f"{error} ({excerpt(text)})" if text else str(error)
    return Verdict(verdict="failed", reason=reason, detail=detail).model_dump(mode="json")


def reply_reason(error: ReplyError, otherwise: Reason = "judge_unreadable") -> Reason:
    """Return the reason for a reply that could not be used."""
    return "refused" if isinstance(error, RefusedReply) else otherwise


def excerpt(text: str, size: int = 200) -> str:
    """Return the beginning of what a model wrote, in one line, as data."""
    line = " ".join(text.split())
    return f"it said: {line[:size]}…" if len(line) > size else f"it said: {line}"
