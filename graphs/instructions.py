"""An instruction and a good response to it, from a task. Seeds carry `task`: what somebody wants.

After the single-turn sets that assistants are tuned on. AlpaGasus graded Alpaca's 52K pairs from 0
to 5: the 9K (18 %) that kept best beat all 52K (as published; its threshold of 4.5 from memory).
Nemotron-4 340B was aligned on data that is more than 98 % synthetic, from 20K human items (read
second-hand).

What we do differently: the task is a person's, and the generator only types it as that person
would; three questions with a floor instead of one grade; what falls short is repaired with the
critic's reasons, and dropped only then; attributes and phrases to avoid reach it as wishes.
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
    alike="instruction=task",
    checks=(length("instruction", words=(3, 200)), length("response", words=(1, 600))),
)
graph = recipe.compile()
