"""The standard nodes: draft, check, grade, revise; or grade several drafts side by side.

Enters: an item's state. Leaves: what a node found, as an update of it; an error of the item's own is a
verdict. Refuses to know: the graph that the nodes stand in, the store, other items.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from langgraph.runtime import Runtime

from agentloop.agents import Agents, Draft, critique_of
from agentloop.asking import all_of
from agentloop.checks import run_checks
from agentloop.drafts import read_candidate
from agentloop.errors import ReplyError
from agentloop.records import Attempt, CheckResult, Critique, Json, Reason, floored
from agentloop.state import Context, Served, State, Step, agents_of, context_of
from agentloop.verdicts import (
    failure,
    is_items_own,
    may_pass,
    reply_reason,
    settle,
    ungradable,
)


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

    def step(self, function: Step) -> Callable[[State, Runtime[Context]], Awaitable[State]]:
        """Return a node of a step: what it makes is added to `made`, what it raises is a verdict."""

        async def node(state: State, runtime: Runtime[Context]) -> State:
            given = cast("State", {**state, "inputs": self._inputs(state)})
            try:
                async with agents_of(runtime, self.recipe, state) as agents:
                    return await function(agents, given)
            except Exception as error:
                return {"verdict": failure(error)}

        return node

    async def draft(self, state: State, runtime: Runtime[Context]) -> State:
        """Make a candidate of what the steps have made."""
        try:
            async with agents_of(runtime, self.recipe, state) as agents:
                candidate = read_candidate(
                    self.recipe.candidate, _fields(self.recipe, state["made"])
                )
                wrote = agents.wrote("generator", *self.recipe.asks)
        except Exception as error:
            return {"verdict": failure(error)}
        return _drafted(Draft(candidate, wrote["model"], wrote["prompt"]), 0)

    async def rank(self, state: State, runtime: Runtime[Context]) -> State:
        """Check and grade several drafts side by side; the best is kept, the others stand beside it."""
        looked = await all_of(
            [self._looked_at(state, draft, n, runtime) for n, draft in enumerate(state["drafts"])]
        )
        attempts = [attempt for update in looked for attempt in update.get("attempts", [])]
        ended = [update["verdict"] for update in looked if update.get("verdict")]
        wrong = [verdict for verdict in ended if verdict["verdict"] in ("failed", "ungradable")]
        graded = [attempt for attempt in attempts if attempt["reason"] != "error"]
        compares = self.recipe.refuse is not None  # one that nobody could judge compares with none
        if wrong and (compares or not any(attempt["accepted"] for attempt in attempts)):
            return {"attempts": attempts, "verdict": wrong[0]}
        tried = [Attempt.model_validate(attempt) for attempt in graded]
        return {"attempts": attempts, "verdict": settle(tried, self.recipe.refuse)}

    async def _looked_at(
        self, state: State, draft: Json, number: int, runtime: Runtime[Context]
    ) -> State:
        """Return one draft's attempt, or the verdict that it ended in."""
        at = cast("State", {**state, **draft, "round": number, "parent": None, "attempts": []})
        found = await self.check(at, runtime)
        if found.get("attempts") or found.get("verdict"):
            return found
        return await self.grade(cast("State", {**at, **found}), runtime)

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
        own = state.get("criteria") or self._inputs(state).get("criteria") or []
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
            tried = [*_tried(state), attempt]
            told = attempt.model_dump(mode="json")
            return {"attempts": [told], "verdict": ungradable(error, tried)}
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
        return {**self._weigh(state, runtime, attempt), "criteria": own}

    async def revise(self, state: State, runtime: Runtime[Context]) -> State:
        """Write another draft from the latest attempt and the evidence against it."""
        parent = Attempt.model_validate(state["attempts"][-1])
        round = state["round"] + 1
        try:
            async with agents_of(runtime, self.recipe, state) as agents:
                draft = await self._revised(agents, state, parent, round)
        except Exception as error:
            if may_pass(error) or not is_items_own(error):
                return {"verdict": failure(error)}
            return {"verdict": settle(_tried(state))}
        if draft.candidate.model_dump(mode="json") == parent.candidate:
            return {"verdict": settle(_tried(state))}
        return _drafted(draft, round, parent.round)

    async def _revised(self, agents: Agents, state: State, parent: Attempt, round: int) -> Draft:
        """Return a revision: the recipe's own, of some fields, or a whole one by the reviser."""
        inputs = self._inputs(state)
        if self.recipe.revision is None:
            return await agents.revise(
                state["seed"], inputs, parent.candidate, parent.critique, round
            )
        found = {
            **state,
            "inputs": inputs,
            "round": round,
            "candidate": parent.candidate,
            "critique": parent.critique.model_dump(mode="json"),
        }
        made = (await self.recipe.revision(agents, cast("State", found)))["made"]
        fields = _fields(self.recipe, {**parent.candidate, **made})
        wrote = agents.wrote("reviser", *self.recipe.asks)
        return Draft(read_candidate(self.recipe.candidate, fields), wrote["model"], wrote["prompt"])

    def _inputs(self, state: State) -> Json:
        """Return what the runner drew; Studio draws nothing."""
        return state.get("inputs") or self.recipe.inputs(state["seed"], 0)

    def _ungraded(self, state: State, error: Exception) -> State:
        """Settle an item whose judging failed: by an earlier grade, where there is one."""
        verdict = failure(error)
        attempt = _attempt(state, reason="error", detail=verdict["detail"])
        earlier = _tried(state)
        own = is_items_own(error) and not may_pass(error)
        if own and any(a.grade for a in earlier):
            verdict = settle(earlier)
        return {"attempts": [attempt.model_dump(mode="json")], "verdict": verdict}

    def _weigh(self, state: State, runtime: Runtime[Context], attempt: Attempt) -> State:
        """Accept, leave it to a revision on new evidence, or settle for the best attempt."""
        before = _tried(state)
        attempt = not_worse(attempt, before)
        out_of_rounds = attempt.round >= context_of(runtime).max_rounds
        found: State = {"attempts": [attempt.model_dump(mode="json")]}
        if attempt.accepted or out_of_rounds or self._is_idle(before, attempt):
            found["verdict"] = settle([*before, attempt])
        return found

    def _is_idle(self, before: Sequence[Attempt], attempt: Attempt) -> bool:
        """Whether another revision would lead nowhere: it was worse, or there is nothing new to say."""
        if any(earlier.rank > attempt.rank for earlier in before):
            return True
        return not (self.recipe.own_evidence or news(before, attempt))


def news(before: Sequence[Attempt], latest: Attempt) -> bool:
    """Whether the latest attempt's critique holds evidence that no earlier one's did."""
    known = (attempt.critique.evidence for attempt in before)
    return bool(latest.critique.evidence.difference(*known))


def not_worse(attempt: Attempt, before: Sequence[Attempt]) -> Attempt:
    """Return an attempt; one that is worse than its parent in anything measured is not accepted.

    A revision that mends one thing and breaks another is no repair, whatever it scores.
    """
    if not attempt.accepted:
        return attempt
    parent = next((a for a in before if a.round == attempt.parent), None)
    if parent is None:
        return attempt
    reason, detail = _worse(attempt, parent)
    if reason is None:
        return attempt
    return attempt.model_copy(update={"accepted": False, "reason": reason, "detail": detail})


def _worse(attempt: Attempt, parent: Attempt) -> tuple[Reason | None, str]:
    """Return in what an attempt is worse than its parent."""
    before = {check.name: check for check in parent.checks}
    for check in attempt.checks:
        earlier = before.get(check.name)
        if earlier is None:
            continue
        if earlier.passed and not check.passed:
            return "failed_check", f"the revision fails `{check.name}`, which its parent passed"
        if check.fraction < earlier.fraction - 1e-9:
            return "failed_check", f"the revision passes less of `{check.name}` than its parent"
    if attempt.grade and parent.grade and attempt.grade.score < parent.grade.score - 1e-9:
        less, more = floored(attempt.grade.score), floored(parent.grade.score)
        if less == more:
            less, more = f"{attempt.grade.score:.6g}", f"{parent.grade.score:.6g}"
        return "below_threshold", f"the revision scores less than its parent: {less} < {more}"
    return None, ""


def _fields(recipe: Served, made: Json) -> Json:
    return {name: made[name] for name in recipe.candidate.model_fields if name in made}


def _drafted(draft: Draft, round: int, parent: int | None = None) -> State:
    return {
        "parent": parent,
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
        parent=state.get("parent"),
        candidate=state["candidate"],
        messages=tuple(state["messages"]),
        checks=tuple(CheckResult.model_validate(c) for c in state["checks"]),
        model=state["wrote"]["model"],
        prompt=state["wrote"]["prompt"],
        **found,
    )


def _tried(state: State) -> list[Attempt]:
    return [Attempt.model_validate(attempt) for attempt in state.get("attempts", [])]
