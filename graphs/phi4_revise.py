"""A question from a passage that divides those who answer, and the plurality's answer, revised.

After Phi-4 (Abdin et al. 2024, arXiv 2412.08905): questions are kept by plurality over several
answers, dropped when all agree (too easy) or none do (too hard or ambiguous); the model then
criticises and improves its output by rubrics. As published: 50 kinds of data, 400 billion tokens.

What we do differently: the answers are written with the passage in sight, so that agreement tells of
the question and not of what a model knows by heart; a revision keeps the question and must come to the
plurality's answer.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import SkipJsonSchema

import agentloop as al
from agentloop.asking import all_of
from agentloop.checks.form import length, numbers_stand
from agentloop.checks.votes import agrees, plurality


class Reasoned(al.Candidate):
    """A question with the reasoning that answers it; how many answers agreed."""

    question: str
    reasoning: str
    answer: str
    plurality: SkipJsonSchema[str] = ""
    agreed: SkipJsonSchema[float] = 0.0

    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        """The passage belongs to the question: it cannot be answered without."""
        user, answer = f"{seed['passage']}\n\n{self.question}", f"Answer: {self.answer}"
        return [("user", user), ("assistant", f"{self.reasoning}\n\n{answer}")]

    def novelty(self, seed: dict[str, Any]) -> str:
        """A known question stays known beside another passage."""
        return self.question


async def ask(agents: al.Agents, state: al.State) -> al.State:
    """Write a question that combines facts of the passage."""
    return {"made": {"question": await agents.say(state, "question", wishes=True)}}


async def vote(agents: al.Agents, state: al.State) -> al.State:
    """Answer it several times; only a question that divides is kept, with the plurality's answer."""
    fields = ("reasoning", "answer")
    answers = await all_of([agents.write(state, "answer", *fields, number=n) for n in range(5)])
    found = plurality([said["answer"] for said in answers])
    if found.unanimous or found.scattered:
        raise al.Filtered(f"{len(found.members)} of {found.total} answers agree")
    best = answers[found.members[0]]
    return {"made": {**best, "plurality": best["answer"], "agreed": found.share}}


async def improve(agents: al.Agents, state: al.State) -> al.State:
    """Rewrite reasoning and answer by the critique."""
    return {"made": await agents.write(state, "improve", "reasoning", "answer", role="reviser")}


recipe = al.Recipe(
    name="phi4_revise",
    about="a passage → a question that divides five answers, and the plurality's answer, revised",
    reads=("passage",),
    candidate=Reasoned,
    steps=(ask, vote),
    asks=("question", "answer", "improve"),
    revision=improve,
    calls=7,
    checks=(
        length("question", words=(6, 60)),
        length("reasoning", words=(8, 300)),
        numbers_stand("question", "passage"),
        agrees("answer", "plurality"),
    ),
)
graph = recipe.compile()
