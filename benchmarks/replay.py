"""LLMBar's recorded judges through the real rubric engine: the same ratings come out as went in.

    python benchmarks/replay.py

A rubric of one criterion with the levels 0 to 9 is graded by a scripted model that replies what GPT-4
replied, its four prompts as four looks, and ChatGPT's one as one. Prints one JSON object: outputs
graded, those whose marks or mean differ from the log (none should), and those that the engine calls
ungradable: there a filter answered in the judge's place, or the rating is off the scale.
`benchmarks/llmbar.py` has the figures of these ratings; the data is read as there.
"""

import asyncio
import json
from collections.abc import Sequence
from statistics import fmean

from judge_logs import CHATGPT, FOUR, TOP, Output, data_folder, read_outputs

import agentloop as al
from agentloop.agents import Agents
from agentloop.errors import ReplyError
from agentloop.models.base import NoJournal, Traits
from agentloop.models.channel import Channel, Endpoint, RoleSettings
from agentloop.models.limits import Limits
from agentloop.prompting import PromptFolder
from agentloop.records import Grade
from agentloop.rubric import parse_rubric

RUBRIC = """
name: replay
accept_at: 0.77
looks: {count: %d}
criteria:
  - name: quality
    ask: How well does the output follow the instruction?
    levels: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
"""


class Answer(al.Candidate):
    text: str

    def conversation(self, seed):
        return [("user", seed["instruction"]), ("assistant", self.text)]


def reply(rating: int | None) -> str:
    mark = {"reason": "", "level": "" if rating is None else str(rating)}
    return json.dumps({"quality": mark})


async def graded(output: Output, judges: Sequence[str], prompts) -> Grade | None:
    """Return the engine's grade; None where it is ungradable."""
    said = [reply(output.rating(judge)) for judge in judges]
    tried = said * 3 if len(said) == 1 else [*said, *[reply(None)] * 8]  # a repair gets no better
    endpoint = Endpoint(Limits(al.ScriptedModel(tried), len(judges)), Traits())
    channels = {"critic": Channel("critic", endpoint, NoJournal(), RoleSettings(), 0)}
    rubric = parse_rubric(RUBRIC % len(judges), "replay")
    agents = Agents("item", channels, prompts, rubric, Answer)
    try:
        return await agents.grade({"instruction": output.instruction}, {"text": output.text}, 0)
    except ReplyError:
        return None


async def compare(outputs: Sequence[Output], judges: Sequence[str], prompts) -> dict[str, int]:
    found = {"outputs": len(outputs), "graded": 0, "ungradable": 0, "unusable": 0, "differ": 0}
    for output in outputs:
        ratings = [output.rating(judge) for judge in judges]
        grade = await graded(output, judges, prompts)
        answered = all(rating is not None and 0 <= rating <= TOP for rating in ratings)
        found["unusable"] += not answered
        found["ungradable" if grade is None else "graded"] += 1
        if grade is None or not answered:
            found["differ"] += grade is not None or answered
            continue
        looks = grade.looks or (grade.score,)
        same = [round(score * TOP, 9) for score in looks] == ratings
        found["differ"] += not same or abs(grade.score * TOP - fmean(ratings)) > 1e-9
    return found


def main() -> None:
    outputs = read_outputs(data_folder(None))
    prompts = PromptFolder.of("replay").prompts(["critique", "ask", "evidence"])
    report = {
        "GPT-4, four prompts": asyncio.run(compare(outputs, FOUR, prompts)),
        "ChatGPT, one prompt": asyncio.run(compare(outputs, [CHATGPT], prompts)),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
