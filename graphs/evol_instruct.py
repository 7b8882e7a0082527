"""Instructions made one step harder, or led aside to a rarer one, each with its answer.

After Evol-Instruct (WizardLM, Xu et al. 2023, arXiv 2304.12244). The operators were read in its
prompts: in depth a constraint, a deeper or a more concrete question, more steps of reasoning, at
most 10 to 20 added words a step; in breadth a new, rarer instruction of the same field and length.
From memory: input made more complicated as a fifth operator in depth; four evolutions, 52K → 250K
instructions; out go those without gain over the parent, answers that say sorry in under 80 words or
nothing but stop words, and leaked words of the prompt.

What we do differently: what falls foul of a rule is repaired before it is dropped; the samples of a
seed take different operators; one step an item. A further one starts from accepted items, as seeds that
say how far they are from people: `--seeds "duckdb:STORE?SELECT candidate->>'evolved' AS instruction,
agentloop FROM examples WHERE verdict = 'accepted'"`.

Seeds carry `instruction`.
"""

from __future__ import annotations

import random
from typing import Any

import agentloop as al
from agentloop.checks.derived import answers, gains
from agentloop.checks.form import avoids, length

ADDED = 25  # words; the prompts ask for at most 20
LEAKED = ("task:", "change:", "evolved:", "remark:", "given prompt", "rewritten prompt")


class Evolved(al.Candidate):
    """An instruction that was made from the seed's, and a response to it."""

    evolved: str
    response: str


def draw(seed: dict[str, Any], sample: int, chance: random.Random) -> dict[str, Any]:
    """Draw an operator; no sample of a seed takes one again before all were taken."""
    listed = recipe.listed("operators.txt")
    name, _, text = chance.sample(listed, len(listed))[sample % len(listed)].partition(": ")
    return {"operator": name, "ask": text}


async def evolve(agents: al.Agents, state: al.State) -> al.State:
    """Rewrite the instruction by the operator."""
    prompt = "broaden" if state["inputs"]["operator"] == "broaden" else "deepen"
    return {"made": {**await agents.write(state, prompt, "evolved", wishes=True)}}


async def answer(agents: al.Agents, state: al.State) -> al.State:
    """Follow the new instruction."""
    return {"made": {"response": await agents.say(state, "answer")}}


recipe = al.Recipe(
    name="evol_instruct",
    about="an instruction → a harder or rarer one by a drawn operator, and a response",
    reads=("instruction",),
    candidate=Evolved,
    alike="evolved=instruction",
    draw=draw,
    lists=("operators.txt",),
    steps=(evolve, answer),
    asks=("deepen", "broaden", "answer"),
    calls=3,
    checks=(
        length("evolved", words=(4, 200)),
        gains("evolved", "instruction", most=ADDED),
        avoids(
            "evolved",
            phrases=LEAKED,
            why="words of the prompt have leaked into it",
        ),
        length("response", words=(1, 600)),
        answers("response"),
    ),
)
graph = recipe.compile()
