"""Dialogues between a drawn person and an assistant. Seeds carry `task`, or `persona` and `task`.

After Llama 3 (1M on code), Nemotron-4 (3 turns). What we do differently: a role plays the person.
"""

from __future__ import annotations

import random
from typing import Any, Literal

import agentloop as al
from agentloop.checks.derived import turns_apart
from agentloop.records import Record

REPLIES = ("reply_1", "reply_2", "reply_3")
ASK = "Does the assistant's message {} give the user what the user's message {} asks for?"


class Turn(Record):
    """What one of the two says."""

    role: Literal["user", "assistant"]
    text: str


class Dialogue(al.Candidate):
    """A person's dialogue with an assistant."""

    persona: str
    turns: list[Turn]

    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        """All turns; who the person is stays unsaid."""
        return [(turn.role, turn.text) for turn in self.turns]

    def written(self) -> str:
        """The person was drawn."""
        return "\n".join(turn.text for turn in self.turns)


def draw(seed: dict[str, Any], sample: int, chance: random.Random) -> dict[str, Any]:
    """Draw a person, another one for each sample; each reply has a criterion of its own."""
    drawn = chance.sample(who := recipe.listed("personas.txt"), len(who))[sample % len(who)]
    asks = [{"name": name, "ask": ASK.format(n, n)} for n, name in enumerate(REPLIES, 1)]
    return {"persona": seed.get("persona") or drawn, "criteria": asks}


async def talk(agents: al.Agents, state: al.State) -> al.State:
    """Let the two write in turn."""
    turns: list[dict[str, str]] = []
    now: dict[str, Any] = {**state, "made": {"persona": state["inputs"]["persona"], "turns": turns}}
    for n in range(len(REPLIES)):
        said = await agents.say(now, "speak", role="user", number=n, wishes=n == 0)
        turns.append({"role": "user", "text": said})
        turns.append({"role": "assistant", "text": await agents.say(now, "reply", number=n)})
    return {"made": now["made"]}


async def mend(agents: al.Agents, state: al.State) -> al.State:
    """Rewrite the replies; the person's messages stay."""
    new = iter((await agents.write(state, "mend", *REPLIES, role="reviser")).values())
    old = state["candidate"]["turns"]
    return {"made": {"turns": [t if t["role"] == "user" else t | {"text": next(new)} for t in old]}}


recipe = al.Recipe(
    name="dialogue",
    about="a task → a drawn person's dialogue with an assistant, graded turn by turn",
    reads=("task",),
    candidate=Dialogue,
    draw=draw,
    lists=("personas.txt",),
    roles=("user",),
    steps=(talk,),
    asks=("speak", "reply", "mend"),
    revision=mend,
    checks=(turns_apart("turns"),),
    calls=2 * len(REPLIES) + 1,
)
graph = recipe.compile()
