"""New instructions from a pool of examples, each with an instance. Seeds carry `instruction`.

After Self-Instruct (Wang et al. 2022, arXiv 2212.10560). Read in its code: 175 tasks by people,
eight of the pool shown for a new one, temperature 0.7; kept if no ROUGE-L to the pool is above 0.7,
of more than 3 and at most 150 words, without words for images or files and without "Write a
program…"; 52K came out. From memory: 6 of the eight by people; a classification's instance has its
output written before its input.

What we do differently: likeness to the shown examples ends an item before its instance is paid for
(all of the pool stands at the door: `novelty`); what breaks a word rule is repaired, not dropped; a
critic grades; any script may open. Measured: 0.7 takes 0.3 to 2.8 % of human prompts for copies.
"""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

import agentloop as al
from agentloop.checks.derived import rouge_l, text_alone
from agentloop.checks.form import length

ALIKE = 0.7
NO_INPUT = frozenset({"none", "no input", "n/a", "-", "empty", "not needed"})


class Task(al.Candidate):
    """An instruction with one instance of it."""

    instruction: str
    input: str = ""
    output: str

    @field_validator("input")
    @classmethod
    def _none(cls, text: str) -> str:
        return "" if text.strip(" .").lower() in NO_INPUT else text

    def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
        """The input stands below the instruction."""
        return [("user", f"{self.instruction}\n\n{self.input}".strip()), ("assistant", self.output)]

    def novelty(self, seed: dict[str, Any]) -> str:
        """Instructions must differ; two of them may well have the same input."""
        return self.instruction


async def instruct(agents: al.Agents, state: al.State) -> al.State:
    """Write an instruction unlike the examples; where a run gives none, the seed is the only one."""
    given = state["inputs"].get("examples") or [{"fields": state["seed"]}]
    shown = [str(example["fields"].get("instruction", "")) for example in given]
    said = await agents.write(state, "instruct", "instruction", wishes=True, examples=shown)
    nearest = max(shown, key=lambda example: rouge_l(example, said["instruction"]))
    if rouge_l(nearest, said["instruction"]) > ALIKE:
        raise al.Filtered(f"too like an example that was shown: {nearest[:80]}")
    return {"made": {**said}}


async def instance(agents: al.Agents, state: al.State) -> al.State:
    """Write input and output; a label comes first, or most inputs would have the same one."""
    labels = (await agents.say(state, "classify")).lower().startswith("yes")
    asked = ("label", "output", "input") if labels else ("instance", "input", "output")
    return {"made": {**await agents.write(state, *asked)}}


recipe = al.Recipe(
    name="self_instruct",
    about="tasks by people and the run's own → a new instruction with input and output",
    reads=("instruction",),
    candidate=Task,
    pool=(6, 2),
    alike="instruction",
    steps=(instruct, instance),
    asks=("instruct", "classify", "label", "instance"),
    calls=4,
    checks=(length("instruction", words=(4, 150)), text_alone("instruction")),
)
graph = recipe.compile()
