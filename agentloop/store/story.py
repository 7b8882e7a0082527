"""One item's story: why it is there, or why not.

Enters: an item and its calls. Leaves: plain text for people, a dict for programs.
Refuses to know: where they were stored, colours.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentloop.models.family import related
from agentloop.plain import plain
from agentloop.records import Attempt, Grade, Item, Json

SHOWN = 600  # characters of one field


@dataclass(frozen=True)
class Story:
    """An item with everything that was found out about it."""

    item: Item
    recipe: str
    calls: list[Json]

    @property
    def cost_usd(self) -> float | None:
        """What its calls cost; None when a price is unknown."""
        costs = [call["cost_usd"] for call in self.calls if call["answered"] and call["tries"]]
        return None if None in costs else sum(costs)

    def as_dict(self) -> Json:
        """Return the story as JSON values."""
        data = self.item.model_dump(mode="json")
        return {"recipe": self.recipe, **data, "cost_usd": self.cost_usd, "calls": self.calls}

    def why(self) -> str:
        """Return the story as text: seed, attempts, marks, quotes, checks, cost, hashes."""
        return "\n".join(_clean(line) for line in _lines(self))


def _lines(story: Story) -> list[str]:
    item = story.item
    again = f"  ·  grading {item.verdict.grading}" if item.verdict and item.verdict.grading else ""
    lines = [f"item {item.id}  ·  run {item.run}{again}  ·  recipe {story.recipe}"]
    if item.verdict is None:
        lines.append("no verdict yet: the run was stopped before this item was settled")
    else:
        verdict = item.verdict
        reason = f" · {verdict.reason}" if verdict.reason else ""
        score = f" · score {verdict.score:.2f}" if verdict.score is not None else ""
        lines.append(f"{verdict.verdict}{reason}{score}")
        if verdict.detail:
            lines.append(f"  {verdict.detail}")
    lines += ["", f"seed {item.seed.id} · sample {item.inputs.get('sample', 0)}"]
    lines += [f"  {key}: {_short(value)}" for key, value in item.seed.fields.items()]
    drawn = {key: value for key, value in item.inputs.items() if key != "sample"}
    lines += ["drawn for it"] if drawn else []
    lines += [f"  {key}: {_short(value)}" for key, value in drawn.items()]
    for attempt in item.attempts:
        lines += ["", *_attempt_lines(attempt, item)]
    lines += ["", *_call_lines(story)]
    return lines


def _attempt_lines(attempt: Attempt, item: Item) -> list[str]:
    kept = item.verdict is not None and item.verdict.round == attempt.round
    title = "first draft" if attempt.round == 0 else f"revision {attempt.round}"
    written = f", prompt {attempt.prompt[:8]}" if attempt.prompt else ""
    lines = [f"{title} by {attempt.model}{written}{' (kept)' if kept else ''}"]
    lines += [f"  {key}: {_short(value)}" for key, value in attempt.candidate.items()]
    for check in attempt.checks:
        lines.append(f"  check {check.name}: {'passed' if check.passed else check.evidence}")
    if attempt.grade is None:
        lines.append("  no grade" + (f": {attempt.detail}" if attempt.detail else ""))
        return lines
    grade = attempt.grade
    lines.append(
        f"  score {grade.score:.2f} by {_judges(attempt.model, grade)}, rubric {grade.rubric[:8]}"
    )
    if grade.prompts:
        asked = ", ".join(f"{name} {text[:8]}" for name, text in sorted(grade.prompts.items()))
        lines.append(f"  asked by the prompts {asked}")
    if grade.reference:
        lines.append(f"  compared with: {_short(grade.reference)}")
    if grade.looks:
        lines.append(f"  looks: {', '.join(f'{score:.2f}' for score in grade.looks)}")
    lines += _mark_lines(grade)
    if not attempt.accepted and attempt.detail:
        lines.append(f"  not accepted: {attempt.detail}")
    return lines


def _judges(writer: str, grade: Grade) -> str:
    """Return who graded, and how close they are to who wrote."""
    others = [name for name in grade.judges if name != grade.model]
    told = grade.model + (f" with {', '.join(others)}" if others else "")
    if writer in (grade.model, *others):
        return f"{told}, its own author"
    return f"{told}, of its author's family" if related(writer, grade.judges) else told


def _mark_lines(grade: Grade) -> list[str]:
    lines = []
    own = {entry["name"]: entry["ask"] for entry in grade.criteria}
    for mark in grade.marks:
        if mark.criterion in own:
            lines.append(f"  asked for this item: {_short(own[mark.criterion])}")
        lines.append(f"  mark {mark.criterion}: {mark.level} ({mark.value:.2f}, {mark.how})")
        if mark.quote:
            lines.append(f'    quote: "{_short(mark.quote)}"')
        if mark.reason:
            lines.append(f"    reason: {_short(mark.reason)}")
    return lines


def _call_lines(story: Story) -> list[str]:
    tokens_in = sum(call["prompt_tokens"] or 0 for call in story.calls)
    tokens_out = sum(call["completion_tokens"] or 0 for call in story.calls)
    cost = "cost unknown" if story.cost_usd is None else f"{story.cost_usd:.6f} USD"
    lines = [f"{len(story.calls)} calls · {tokens_in} tokens in, {tokens_out} out · {cost}"]
    for call in story.calls:
        lines.append(f"  {call['key']}  {_ended(call)}  {str(call['digest'])[:8]}")
    return lines


def _ended(call: Json) -> str:
    if call.get("from_run"):
        return f"answered from run {call['from_run']}"
    ended = call["finish_reason"] if call["answered"] else f"no reply: {call['error']}"
    return f"{call['model']}  {ended}"


def _clean(line: str) -> str:
    """Return a line without controls, whoever wrote its parts; its indentation stays."""
    indentation = len(line) - len(line.lstrip(" "))
    return line[:indentation] + plain(line)


def _short(value: object) -> str:
    return plain(value, SHOWN)
