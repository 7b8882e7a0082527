"""A passage made into another kind of text, a task on it, made harder by two agents, and the answer.

After AgentInstruct (Mitra et al. 2024, arXiv 2407.03502; Orca-3). Read second-hand: 25.8M pairs,
22M of them new, over 17 skills; agents transform raw text (a debate, an argument, a manual …),
others write instructions of more than 100 types, then a Suggester names ways to make each one
harder and an Editor applies them, again and again. No gate on quality is published; the model
gained 40 % on AGIEval and 54 % on GSM8K.

What we do differently: kind of text and type of task are drawn, without repeating one on a passage
before all were used; suggester and editor are roles that may have models of their own, and have one
turn each; every item is graded and repaired; and the text may hold no number that its passage
lacks.

Seeds carry `passage`.
"""

from __future__ import annotations

import random
from typing import Any

import agentloop as al
from agentloop.checks.form import length, numbers_stand


class Exercise(al.Candidate):
    """A text, a task on it, the answer."""

    text: str
    instruction: str
    answer: str

    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        """The reader sees the text and the task; the passage was raw material."""
        return [("user", f"{self.text}\n\n{self.instruction}"), ("assistant", self.answer)]


def draw(seed: dict[str, Any], sample: int, chance: random.Random) -> dict[str, Any]:
    """Draw a kind of text and a type of task, each from a shuffled list."""
    kinds, tasks = recipe.listed("transformations.txt"), recipe.listed("tasks.txt")
    kind = chance.sample(kinds, len(kinds))[sample % len(kinds)]
    return {"kind": kind, "task": chance.sample(tasks, len(tasks))[sample % len(tasks)]}


async def transform(agents: al.Agents, state: al.State) -> al.State:
    """Make the passage into another kind of text."""
    return {"made": {"text": await agents.say(state, "transform", wishes=True)}}


async def instruct(agents: al.Agents, state: al.State) -> al.State:
    """Write a task of the drawn type, let one agent suggest how to make it harder and another do it."""
    first = await agents.say(state, "instruct")
    ideas = await agents.say(state, "suggest", role="suggester", instruction=first)
    text = await agents.say(state, "edit", role="editor", instruction=first, ideas=ideas)
    return {"made": {"instruction": text}}


async def answer(agents: al.Agents, state: al.State) -> al.State:
    """Do the task."""
    return {"made": {"answer": await agents.say(state, "answer")}}


recipe = al.Recipe(
    name="agentinstruct",
    about="a passage → another kind of text, a task on it made harder, and the answer",
    reads=("passage",),
    candidate=Exercise,
    draw=draw,
    lists=("transformations.txt", "tasks.txt"),
    roles=("suggester", "editor"),
    steps=(transform, instruct, answer),
    asks=("transform", "instruct", "suggest", "edit", "answer"),
    calls=6,
    checks=(numbers_stand("text", "passage"), length("instruction", words=(4, 150))),
)
graph = recipe.compile()
