"""One item's story: why it is there, or why not.

Enters: an item and its calls. Leaves: plain text for people, a dict for programs, its lines for those
who show them otherwise. Refuses to know: where they were stored, colours, screens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from agentloop.changes import Finder, Piece
from agentloop.excerpts import as_text, on_a_terminal, signed, texts
from agentloop.models.family import related
from agentloop.plain import plain
from agentloop.records import Attempt, Critique, Grade, Item, Json, Mark, VerdictName, floored

SHOWN = 600  # characters of one field
LONGEST = 3000  # characters of one line
LOOKED_AT = 20  # times as many characters as are shown, for spaces may fall away
BESIDE = 40  # characters on either side of a quote
Tone: TypeAlias = Literal[VerdictName, "head", "good", "bad", "plain", "quote", "faint"]
"""What a line says, for those who have colours."""


class Line(NamedTuple):
    """One line of a story."""

    text: str
    tone: Tone = "plain"
    depth: int = 0
    """Steps to the right."""

    @property
    def shown(self) -> str:
        """The text, harmless and no longer than anybody wants to read."""
        return _cut(self.text, LONGEST)


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
        """Return the story as text: seed, attempts, changes, marks, quotes, checks, cost, hashes."""
        lines, finder = [*head_lines(self), Line(""), *_seed_lines(self.item)], Finder()
        for attempt in self.item.attempts:
            lines += [Line(""), *_attempt_lines(attempt, self.item, finder)]
        lines += [Line(""), *call_lines(self)]
        return "\n".join("  " * line.depth + line.shown for line in lines)


def head_lines(story: Story) -> Iterator[Line]:
    """Yield which item it is, and how it ended."""
    item, verdict = story.item, story.item.verdict
    again = f"  ·  grading {verdict.grading}" if verdict and verdict.grading else ""
    yield Line(f"item {item.id}  ·  run {item.run}{again}  ·  recipe {story.recipe}", "head")
    if verdict is None:
        yield Line("no verdict yet: the run was stopped before this item was settled")
        return
    reason = f" · {verdict.reason}" if verdict.reason else ""
    score = f" · score {floored(verdict.score)}" if verdict.score is not None else ""
    yield Line(f"{verdict.verdict}{reason}{score}", verdict.verdict)
    if verdict.detail:
        yield Line(verdict.detail, depth=1)


def seed_title(item: Item) -> Line:
    """Return which seed it is made from."""
    return Line(f"seed {item.seed.id} · sample {item.inputs.get('sample', 0)}", "head")


def drawn_lines(item: Item) -> Iterator[Line]:
    """Yield what was drawn for an item beside its seed."""
    drawn = {key: value for key, value in item.inputs.items() if key != "sample"}
    if drawn:
        yield Line("drawn for it", "head")
    yield from (Line(f"{key}: {_short(value)}", depth=1) for key, value in drawn.items())


def _seed_lines(item: Item) -> Iterator[Line]:
    yield seed_title(item)
    for key, value in texts(item.seed.fields):
        yield Line(f"{key}: {_short(value)}", depth=1)
    yield from drawn_lines(item)


def _attempt_lines(attempt: Attempt, item: Item, finder: Finder) -> Iterator[Line]:
    yield attempt_title(attempt, item)
    before = parent_of(attempt, item)
    for key, value in texts(attempt.candidate):
        yield Line(f"{key}: {_short(value)}", depth=1)
        if before is not None:
            old = as_text(before.candidate.get(key, ""))
            yield Line(_changed(old, value, finder), "faint", 2)
    yield from finding_lines(attempt, item, finder)


def _changed(before: str, after: str, finder: Finder) -> str:
    if before == after:
        return "as before"
    return f"changed: {signed(on_a_terminal(finder.changes(before, after)))}"


def attempt_title(attempt: Attempt, item: Item) -> Line:
    """Return which attempt it is, and who wrote it."""
    kept = item.verdict is not None and item.verdict.round == attempt.round
    title = attempt_name(attempt)
    written = f", prompt {attempt.prompt[:8]}" if attempt.prompt else ""
    return Line(f"{title} by {attempt.model}{written}{' (kept)' if kept else ''}", "head")


def attempt_name(attempt: Attempt) -> str:
    """Return an attempt's name among its item's: a draft that revises nothing is no revision."""
    if attempt.parent is not None:
        return f"revision {attempt.round}"
    return f"draft {attempt.round + 1}" if attempt.round else "first draft"


def parent_of(attempt: Attempt, item: Item) -> Attempt | None:
    """Return the attempt that this one revises; None for a draft of its own."""
    return next((one for one in item.attempts if one.round == attempt.parent), None)


def candidate_pieces(
    attempt: Attempt, before: Attempt | None, finder: Finder
) -> Iterator[tuple[str, list[Piece]]]:
    """Yield a candidate's fields: what changed since `before`, in a draft what its marks quote of it."""
    marks = attempt.grade.marks if attempt.grade else ()
    for name, text in texts(attempt.candidate):
        if before is None:
            yield name, finder.quoted(text, [(mark.quote, mark.criterion) for mark in marks])
        else:
            yield name, finder.changes(as_text(before.candidate.get(name, "")), text)


def finding_lines(attempt: Attempt, item: Item, finder: Finder) -> Iterator[Line]:
    """Yield what was found out about an attempt: checks, grade, marks, critique."""
    for check in attempt.checks:
        found = "passed" if check.passed else check.evidence
        yield Line(f"check {check.name}: {found}", _tone(check.passed), 1)
    if attempt.grade is None:
        yield Line("no grade" + (f": {attempt.detail}" if attempt.detail else ""), depth=1)
    else:
        yield from _grade_lines(attempt, attempt.grade, item, finder)
    yield from _critique_lines(attempt.critique)


def _grade_lines(attempt: Attempt, grade: Grade, item: Item, finder: Finder) -> Iterator[Line]:
    judges = _judges(attempt.model, grade)
    graded = f"score {floored(grade.score)} by {judges}, rubric {grade.rubric[:8]}"
    yield Line(graded, _tone(attempt.accepted), 1)
    if grade.prompts:
        asked = ", ".join(f"{name} {text[:8]}" for name, text in sorted(grade.prompts.items()))
        yield Line(f"asked by the prompts {asked}", "faint", 1)
    if grade.reference:
        yield Line(f"compared with: {_short(grade.reference)}", depth=1)
    if grade.looks:
        yield Line(f"looks: {', '.join(map(floored, grade.looks))}", depth=1)
    own = {entry["name"]: entry["ask"] for entry in grade.criteria}
    for mark in grade.marks:
        if mark.criterion in own:
            yield Line(f"asked for this item: {_short(own[mark.criterion])}", depth=1)
        yield from _mark_lines(mark, attempt, item, finder)
    if not attempt.accepted and attempt.detail:
        yield Line(f"not accepted: {attempt.detail}", "bad", 1)


def _judges(writer: str, grade: Grade) -> str:
    """Return who graded, and how close they are to who wrote."""
    others = [name for name in grade.judges if name != grade.model]
    told = grade.model + (f" with {', '.join(others)}" if others else "")
    if writer in (grade.model, *others):
        return f"{told}, its own author"
    return f"{told}, of its author's family" if related(writer, grade.judges) else told


def _mark_lines(mark: Mark, attempt: Attempt, item: Item, finder: Finder) -> Iterator[Line]:
    value = f"{floored(mark.value)}, {mark.how}"
    yield Line(f"mark {mark.criterion}: {mark.level} ({value})", depth=1)
    if mark.quote:
        yield Line(f'quote: "{_short(mark.quote)}"', "quote", 2)
        yield Line(_place(mark.quote, attempt, item, finder), "faint", 3)
    if mark.reason:
        yield Line(f"reason: {_short(mark.reason)}", depth=2)


def _place(quote: str, attempt: Attempt, item: Item, finder: Finder) -> str:
    """Return where a quote stands, with what is around it."""
    found = [(f"seed.{name}", text) for name, text in texts(item.seed.fields)]
    found += [(f"candidate.{name}", text) for name, text in texts(attempt.candidate)]
    unsure = False
    for near in (False, True):
        for name, text in found:
            place = finder.place(quote, text, near=near)
            unsure |= finder.hurried
            if place is not None:
                return f"in {name}: {_around(text, *place)}"
    if unsure:
        return "stands nowhere word for word, as far as was looked"
    return "stands in neither seed nor candidate"


def _around(text: str, start: int, end: int) -> str:
    before, after = text[max(0, start - BESIDE) : start], text[end : end + BESIDE]
    before = before if start <= BESIDE else f"…{before}"
    after = after if len(text) <= end + BESIDE else f"{after}…"
    return f"{before}«{_short(text[start:end])}»{after}"


def _critique_lines(critique: Critique) -> Iterator[Line]:
    """Yield what was to be repaired."""
    for mark in critique.marks:
        why = _short(mark.get("reason") or mark.get("quote") or mark.get("ask", ""))
        yield Line(f"critique of {mark.get('name')} ({mark.get('level')}): {why}", depth=1)
    for check in critique.checks:
        why = _short(check.get("evidence", ""))
        yield Line(f"critique of check {check.get('name')}: {why}", depth=1)


def call_lines(story: Story) -> Iterator[Line]:
    """Yield an item's calls, and what they came to."""
    tokens_in = sum(call["prompt_tokens"] or 0 for call in story.calls)
    tokens_out = sum(call["completion_tokens"] or 0 for call in story.calls)
    cost = "cost unknown" if story.cost_usd is None else f"{story.cost_usd:.6f} USD"
    yield Line(
        f"{len(story.calls)} calls · {tokens_in} tokens in, {tokens_out} out · {cost}", "head"
    )
    for call in story.calls:
        yield Line(f"{call['key']}  {_ended(call)}  {str(call['digest'])[:8]}", "faint", 1)


def _ended(call: Json) -> str:
    if call.get("from_run"):
        return f"answered from run {call['from_run']}"
    ended = call["finish_reason"] if call["answered"] else f"no reply: {call['error']}"
    return f"{call['model']}  {ended}"


def _tone(good: bool) -> Tone:
    return "good" if good else "bad"


def _short(value: object) -> str:
    return _cut(str(value), SHOWN)


def _cut(text: str, size: int) -> str:
    return plain(text[: LOOKED_AT * size], size)
