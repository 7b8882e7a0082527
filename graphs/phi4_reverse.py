"""An instruction that a real piece of code or text could be the answer to.

After Phi-4's instruction reversal (Abdin et al. 2024, arXiv 2412.08905): from a code snippet the
instruction is written that it fulfils, code is made anew from it, and the pair is kept when new and
original code are much alike. As published: "high fidelity"; neither measure nor threshold. The same
turned about is back-translation (Humpback, Li et al. 2023, arXiv 2308.06259; its five-point gate
keeps only fives: from memory).

What we do differently: texts as well as code; fidelity is computed: the shapes of the syntax trees of
Python, the words of all else; an instruction that copies the artefact is refused, for anything can be
made from itself; an instruction that falls short is written again with what went missing. The original
stands as the response.
"""

from __future__ import annotations

import random
from typing import Any

from pydantic.json_schema import SkipJsonSchema

import agentloop as al
from agentloop.checks.form import length
from agentloop.checks.likeness import alike, is_code, not_copied


class Reversed(al.Candidate):
    """The instruction; the artefact is its response."""

    instruction: str
    regenerated: SkipJsonSchema[str] = ""
    """What a model made of the instruction alone."""

    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        """The response is real, not written by a model."""
        return [("user", self.instruction), ("assistant", str(seed["artefact"]))]


def draw(seed: dict[str, Any], sample: int, chance: random.Random) -> dict[str, Any]:
    """Say what kind of artefact it is."""
    return {"kind": "Python code" if is_code(str(seed["artefact"])) else "text"}


async def describe(agents: al.Agents, state: al.State) -> al.State:
    """Write the instruction that the artefact fulfils."""
    return {"made": {"instruction": await agents.say(state, "describe", wishes=True)}}


async def regenerate(agents: al.Agents, state: al.State) -> al.State:
    """Follow the instruction without the artefact in sight."""
    instruction = state["made"]["instruction"]
    return {"made": {"regenerated": await agents.say(state, "follow", instruction=instruction)}}


async def describe_again(agents: al.Agents, state: al.State) -> al.State:
    """Write the instruction anew by what was missing, and follow it again."""
    written = await agents.say(state, "describe_again", role="reviser")
    made = await agents.say(state, "follow", instruction=written)
    return {"made": {"instruction": written, "regenerated": made}}


recipe = al.Recipe(
    name="phi4_reverse",
    about="a piece of code or text → the instruction for it; kept if it can be made from that",
    reads=("artefact",),
    candidate=Reversed,
    draw=draw,
    steps=(describe, regenerate),
    asks=("describe", "follow", "describe_again"),
    revision=describe_again,
    calls=3,
    checks=(
        length("instruction", words=(6, 200)),
        not_copied("instruction", "artefact"),
        alike("regenerated", "artefact"),
    ),
)
graph = recipe.compile()
