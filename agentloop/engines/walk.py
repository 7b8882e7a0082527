"""The walk of one item: its graph, then the auditor and the canary where they are drawn.

Enters: a task. Leaves: its verdict before the door, and the rows of what was found. Refuses to know:
which process this is, other items, the store's file.
"""

from __future__ import annotations

import time

from agentloop.agents import Agents
from agentloop.auditing import audit, audit_line, canary_line, gate, try_canary
from agentloop.canaries import canary, chosen
from agentloop.drafts import hidden_fields
from agentloop.engines import Task, Walked
from agentloop.errors import AgentloopError
from agentloop.loop import recursion_limit
from agentloop.models.base import Journal
from agentloop.models.budget import Bank
from agentloop.models.channel import Channel, Endpoint
from agentloop.plan import Workshop
from agentloop.records import Attempt, Json, Verdict
from agentloop.rows import attempt_lines
from agentloop.state import Context
from agentloop.store.files import encoded
from agentloop.store.journal import Line
from agentloop.verdicts import Kept, failure


class Walker:
    """Walks items of one run with what is in its workshop."""

    def __init__(self, shop: Workshop, run: str, journal: Journal, bank: Bank | None):
        self._shop = shop
        self._run = run
        self._journal = journal
        self._bank = bank
        self._steps = len(shop.found.recipe.steps)

    async def walk(self, task: Task) -> Walked:
        """Return what becomes of an item; a bug in a node of one's own costs that item."""
        attempts: list[Attempt] = []
        watched: list[Line] = []
        try:
            verdict = await self._walked(task, attempts, watched)
            lines = attempt_lines(self._run, task.item, task.opening, attempts)
            found = [encoded([line]) for line in (*watched, *lines)]
        except AgentloopError:
            raise
        except Exception as error:
            return Walked(Verdict.model_validate(failure(error)))
        return Walked(verdict, Kept.of(attempts, verdict), found)

    async def _walked(self, task: Task, attempts: list[Attempt], watched: list[Line]) -> Verdict:
        """Return a verdict; fill in the attempts and what was watched."""
        agents = self._agents(task)
        state = await self._shop.found.graph.ainvoke(
            {"item": task.item, "seed": task.seed, "inputs": task.inputs},
            context=Context(agents=agents, max_rounds=task.rounds),
            config={"recursion_limit": recursion_limit(task.rounds, self._steps)},
            output_keys=["verdict", "attempts"],
        )
        verdict = Verdict.model_validate(state["verdict"])
        attempts += [Attempt.model_validate(a) for a in state.get("attempts", [])]
        verdict = await self._audit(task, agents, attempts, verdict, watched)
        await self._try_canary(task, agents, attempts, watched)
        return verdict

    async def _audit(
        self,
        task: Task,
        agents: Agents,
        attempts: list[Attempt],
        verdict: Verdict,
        watched: list[Line],
    ) -> Verdict:
        """Let the auditor see a sample; return the verdict, which only an audit of all can change."""
        settings = self._shop.settings
        drawn = chosen(settings.audit, settings.seed, task.item, "audit")
        if not drawn or verdict.verdict not in ("accepted", "rejected"):
            return verdict
        found = await audit(agents, task.seed, attempts)
        now = time.time()
        watched += [audit_line(self._run, task.item, task.opening, f, now) for f in found]
        return gate(verdict, found) if settings.audit == 1 else verdict

    async def _try_canary(
        self, task: Task, agents: Agents, attempts: list[Attempt], watched: list[Line]
    ) -> None:
        """Show the critic something whose right verdict is known, with some items."""
        settings, kit = self._shop.settings, self._shop.kit
        graded = next((a for a in attempts if a.grade and a.grade.judges), None)
        if graded is None or not chosen(settings.canaries, settings.seed, task.item, "canary"):
            return
        last = graded.messages[-1]["content"] if graded.messages else ""
        hidden = hidden_fields(kit.recipe.candidate)
        shown = canary(task.item, graded.candidate, last, kit.canaries, hidden)
        if shown is None or graded.grade is None:
            return
        own = graded.grade.criteria if shown.seed is None else ()
        found = await try_canary(agents, shown.seed or task.seed, shown, own)
        watched.append(canary_line(self._run, task.item, shown, found, time.time()))

    def _agents(self, task: Task) -> Agents:
        shop = self._shop
        channels: dict[str, Channel] = {
            role: Channel(
                role, endpoint, self._journal, shop.roles[role], shop.settings.seed, self._bank
            )
            for role, endpoint in self._endpoints(task.inputs).items()
        }
        return Agents(
            task.item,
            channels,
            shop.kit.prompts,
            shop.kit.rubric,
            shop.found.recipe.candidate,
            shop.kit.checks,
            task.opening,
            shop.judged.weights,
        )

    def _endpoints(self, inputs: Json) -> dict[str, Endpoint]:
        """Return who plays each role for an item: of several generators the one that it drew."""
        endpoints = self._shop.endpoints
        mine = {role: e for role, e in endpoints.items() if not role.startswith("generator.")}
        return mine | {"generator": endpoints[inputs.get("generator", "generator")]}
