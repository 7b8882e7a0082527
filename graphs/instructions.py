"""An instruction and a good response to it, from a task seed.

Seeds carry `task`: what somebody wants done. The generator writes the instruction as that person
would, and the response; the critic marks whether it follows, is right and is complete.
"""

from __future__ import annotations

from agentloop import Candidate, Recipe
from agentloop.checks.form import length


class Instruction(Candidate):
    """One turn of instruction and response."""

    instruction: str
    response: str


recipe = Recipe(
    name="instructions",
    about="a task → the instruction as a person would type it, and a response",
    reads=("task",),
    candidate=Instruction,
    checks=(length("instruction", words=(3, 200)), length("response", words=(1, 600))),
)
graph = recipe.compile()
