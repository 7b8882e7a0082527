"""A worked solution to a problem with a known answer; a wrong one again, with a hint.

After STaR (Zelikman et al. 2022, arXiv 2203.14465): solve with a rationale, keep what ends in the
right answer, rationalise the rest by giving the answer as a hint, keep those that end right now,
train, repeat. As published, for GPT-J on CommonsenseQA: 36.6 % few-shot, 60.0 % trained on answers
alone, 68.8 % by STaR without rationalising and about 72 % with it (read second-hand).

What we do differently: nothing is trained; a critic marks whether each step holds, for a right answer
may stand on wrong steps, and such a solution is written again with the hint, too; a solution that talks
of its hint is refused; `hinted` is stored with each candidate, so that an export can leave hinted ones
out (`--where`). The answer check is the rubric's: `maths_equals` instead reads algebra.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import SkipJsonSchema

import agentloop as al
from agentloop.checks.form import avoids, length


class Rationale(al.Candidate):
    """A worked solution that ends in its answer."""

    rationale: str
    hinted: SkipJsonSchema[bool] = False
    """Whether it was written with the right answer in sight."""

    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        """The question is the seed's."""
        return [("user", str(seed["question"])), ("assistant", self.rationale)]


async def solve(agents: al.Agents, state: al.State) -> al.State:
    """Solve the problem step by step, knowing nothing of the answer."""
    return {"made": {"rationale": await agents.say(state, "solve", wishes=True)}}


async def rationalise(agents: al.Agents, state: al.State) -> al.State:
    """Write the solution again, with the right answer as a hint."""
    hint = str(state["seed"]["answer"]).rpartition("####")[2].strip()
    said = await agents.say(state, "rationalise", role="reviser", hint=hint)
    return {"made": {"rationale": said, "hinted": True}}


recipe = al.Recipe(
    name="star",
    about="a problem with a known answer → a worked solution; wrong ones again with a hint",
    reads=("question", "answer"),
    candidate=Rationale,
    steps=(solve,),
    asks=("solve", "rationalise"),
    revision=rationalise,
    max_rounds=1,
    checks=(
        length("rationale", words=(8, 400)),
        avoids(
            "rationale",
            phrases=("hint", "given answer", "known answer", "correct answer", "expected answer"),
            why="a solution finds its answer and is not told it",
        ),
    ),
)
graph = recipe.compile()
