"""A task that a strong solver does clearly better than a weak one, by a rubric of its own.

After Autodata's Agentic Self-Instruct (Kulikov et al. 2026, arXiv 2606.25996): tasks from documents,
tried by a weak and a strong solver, marked by a rubric of the task. As published (read second-hand):
kept at strong ≥ 0.65, weak < 0.50 and a gap ≥ 0.20; the mean gap grew from 1.9 points to 34.

What we do differently: one try a task; the critic writes the rubric before any solution exists, and
marks unaware of who solved; both are stored, as a preference pair. Name a weak model: `[roles.weak]`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic.json_schema import SkipJsonSchema

import agentloop as al
from agentloop.asking import all_of
from agentloop.checks.form import length

MARGIN = 0.2
SOLVERS = ("strong", "weak")


class Solution(al.Candidate):
    """A task and one solver's response."""

    task: str
    response: str
    solver: SkipJsonSchema[str] = ""

    def novelty(self, seed: dict[str, object]) -> str:
        """Another solution of a known task is nothing new."""
        return self.task


async def pose(agents: al.Agents, state: al.State) -> al.State:
    """Write a task from the passage that stands without it."""
    return {"made": {"task": await agents.say(state, "pose", wishes=True)}}


async def prepare(agents: al.Agents, state: al.State) -> al.State:
    """Let the critic write the task's own criteria."""
    names = [f"own_{number + 1}" for number in range(agents.rubric.per_item)]
    said = await agents.write(state, "marking", *names, role="critic")
    return {"criteria": [{"name": name, "ask": ask} for name, ask in said.items()]}


async def solve(agents: al.Agents, state: al.State) -> al.State:
    """Let both solve the task, seeing nothing but the task."""
    said = await all_of([agents.say(state, "solve", role=solver) for solver in SOLVERS])
    made = [
        {**state["made"], "response": r, "solver": s} for r, s in zip(said, SOLVERS, strict=True)
    ]
    return {"drafts": [{"candidate": m, "wrote": agents.wrote(m["solver"], "solve")} for m in made]}


def gap(attempts: Sequence[al.Attempt]) -> str:
    """Say why a task is too easy or too hard to learn from."""
    known = [a for a in attempts if a.grade or a.reason == "failed_check"]
    score = {a.candidate["solver"]: a.grade.score if a.grade else 0.0 for a in known}
    lead = score.get("strong", 0.0) - score.get("weak", 1.0)
    return "" if lead >= MARGIN else f"strong beats weak by {lead:.2f}, less than {MARGIN}"


recipe = al.Recipe(
    name="solver_gap",
    about="a passage → a task, its own rubric, two solvers; kept where the strong one is ahead",
    reads=("passage",),
    candidate=Solution,
    steps=(pose, prepare, solve),
    asks=("pose", "marking", "solve"),
    roles=SOLVERS,
    refuse=gap,
    max_rounds=0,
    calls=6,
    checks=(length("task", words=(6, 200)), length("response", words=(1, 600))),
    build=al.ranked_graph,
)
graph = recipe.compile()
