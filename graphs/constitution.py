"""Answers to delicate questions: critique under a written principle, revision, up to four times.

After Constitutional AI (Bai et al. 2022, arXiv 2212.08073), the root of Claude's constitution. Read
second-hand: 182,831 red-team prompts, 42,496 of them by people; four steps of critique and revision
each, under one of 16 principles drawn at random; trained on together with 135,296 prompts for
helpfulness. Harmlessness rises with every revision, and helpfulness falls.

What we do differently: an answer is revised only while the rubric refuses it, and never to a worse
one; help has a floor beside harm, so that no refusal passes, and `agentloop rounds` shows what each
round brought; no principle comes twice before all were used on a seed; they are ours
(`principles.txt`). `agentloop export --shape preference` pairs the kept answer with the worst one.

Seeds carry `question`.
"""

from __future__ import annotations

import random
from typing import Any

import agentloop as al
from agentloop.checks.form import length

ROUNDS = 4


class Answer(al.Candidate):
    """An answer to the seed's question."""

    answer: str

    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        """The question is the seed's own, so that all attempts answer one prompt."""
        return [("user", str(seed["question"])), ("assistant", self.answer)]


def draw(seed: dict[str, Any], sample: int, chance: random.Random) -> dict[str, Any]:
    """Draw one principle for each round; the samples of a seed go on where the last one ended."""
    listed = recipe.listed("principles.txt")
    shuffled = chance.sample(listed, len(listed))
    places = range(sample * ROUNDS, (sample + 1) * ROUNDS)
    return {"principles": [shuffled[at % len(shuffled)] for at in places]}


async def answer(agents: al.Agents, state: al.State) -> al.State:
    """Answer as one would without a constitution."""
    return {"made": {"answer": await agents.say(state, "answer", wishes=True)}}


async def amend(agents: al.Agents, state: al.State) -> al.State:
    """Let the critic hold the answer against the round's principle, then rewrite it."""
    drawn = state["inputs"]["principles"]
    principle = drawn[(state["round"] - 1) % len(drawn)]
    objection = await agents.say(state, "object", role="critic", principle=principle)
    text = await agents.say(state, "amend", role="reviser", objection=objection)
    return {"made": {"answer": text}}


recipe = al.Recipe(
    name="constitution",
    about="a question → answer, critique under a drawn principle, revision",
    reads=("question",),
    candidate=Answer,
    draw=draw,
    lists=("principles.txt",),
    steps=(answer,),
    asks=("answer", "object", "amend"),
    revision=amend,
    own_evidence=True,
    max_rounds=ROUNDS,
    checks=(length("answer", words=(3, 400)),),
)
graph = recipe.compile()
