"""The agents of one item: prompt → model → record.

Enters: a seed's fields, a candidate, a critique. Leaves: a candidate, a grade; or the error that
becomes the item's verdict. Refuses to know: rounds left, the store, the graph.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from agentloop.asking import Asker, all_of
from agentloop.checks import Check
from agentloop.drafts import (
    candidate_schema,
    hidden_fields,
    picked,
    question_of,
    read_candidate,
    text_of,
    verbalised_schema,
)
from agentloop.errors import Disagreement
from agentloop.judging import Judge, Look, given_to_judge
from agentloop.models.base import CallKey, Reply
from agentloop.models.channel import Channel
from agentloop.models.replies import read_object, read_text
from agentloop.prompting import Message, Prompt
from agentloop.records import Candidate, CheckResult, Critique, Grade, Json, Mark, digest, floored
from agentloop.rubric import Criterion, Rubric, closed

REFERENCE_TOKENS = 160
REFERENCE, CRITERIA = "+reference", "+criteria"
"""Places of calls that belong to no criterion; no criterion can have these names."""


@dataclass(frozen=True)
class Draft:
    """A candidate and what it was written by."""

    candidate: Candidate
    model: str
    prompt: str
    """Content hash of the prompt."""


@dataclass(frozen=True)
class Agents:
    """Generator, critic and reviser of one item; the panel and the auditor where there are such."""

    item: str
    channels: Mapping[str, Channel]
    prompts: Mapping[str, Prompt]
    rubric: Rubric
    candidate: type[Candidate]
    checks: tuple[Check, ...] = ()
    opening: int = 0
    """How often the item was opened again: replies that could not be read are asked for anew."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """What each judge of a panel counts; 1 unless it is named here."""
    sample: int = 0
    """Which time the same item is graded, where it is graded several times to see how it varies."""

    async def generate(self, seed: Json, inputs: Json) -> Draft:
        """Write the first draft. Raises ReplyError or ModelError."""
        messages = self._wished(self.prompts["generate"].render(seed=seed, inputs=inputs), inputs)
        return await self._draft("generator", 0, "generate", messages, inputs.get("verbalised"))

    async def revise(
        self, seed: Json, inputs: Json, candidate: Json, critique: Critique, round: int
    ) -> Draft:
        """Write a draft from its parent and the evidence against it; never shown a score."""
        messages = self.prompts["revise"].render(
            seed=seed,
            inputs=inputs,
            candidate=candidate,
            marks=critique.marks,
            checks=critique.checks,
        )
        return await self._draft("reviser", round, "revise", messages)

    async def write(
        self,
        state: Mapping[str, Any],
        prompt: str,
        *fields: str,
        role: str = "generator",
        number: int = 0,
        wishes: bool = False,
        **given: Any,
    ) -> dict[str, str]:
        """Let a role write some texts, by a prompt of the recipe's own; raises ReplyError or ModelError.

        The prompt is given `seed, inputs, made, candidate, marks, checks` of the item's state, and what
        else is `given`. `number` tells several calls of one prompt apart; `wishes` adds what the run
        asks of this item: its attributes, phrases to avoid.
        """

        def read(reply: Reply) -> dict[str, str]:
            said = read_object(reply)
            return {name: text_of(said, name) for name in fields}

        key, messages = self._step(state, prompt, CallKey(role, 0, "", number), given, wishes)
        schema = closed({name: {"type": "string"} for name in fields})
        return await self._asker.ask(key, messages, read, schema=schema)

    async def say(
        self,
        state: Mapping[str, Any],
        prompt: str,
        *,
        role: str = "generator",
        number: int = 0,
        wishes: bool = False,
        **given: Any,
    ) -> str:
        """Let a role answer in plain text, by a prompt of the recipe's own; like `write`."""
        key, messages = self._step(state, prompt, CallKey(role, 0, "", number), given, wishes)
        return await self._asker.ask(key, messages, read_text)

    def _step(
        self, state: Mapping[str, Any], prompt: str, place: CallKey, given: Json, wishes: bool
    ) -> tuple[CallKey, tuple[Message, ...]]:
        against = state.get("critique") or {}
        shown = {name: state.get(name) or {} for name in ("seed", "inputs", "made", "candidate")}
        fence = given_to_judge({**shown, "given": given}, against, "")["fence"]
        messages = self.prompts[prompt].render(
            **shown,
            marks=against.get("marks", ()),
            checks=against.get("checks", ()),
            given=given,
            fence=fence,
        )
        if wishes:
            messages = self._wished(messages, shown["inputs"])
        return place._replace(round=state.get("round", 0), criterion=f"+{prompt}"), messages

    def _wished(self, messages: tuple[Message, ...], inputs: Json) -> tuple[Message, ...]:
        """Return messages with what the run asks of this item at the end of the last one."""
        wishes = {name: inputs.get(name) for name in ("attributes", "avoid")}
        if not any(wishes.values()):
            return messages
        *first, last = messages
        (said,) = self.prompts["wishes"].render(**wishes)
        return (*first, {**last, "content": f"{last['content']}\n\n{said['content']}"})

    def wrote(self, role: str, *prompts: str) -> dict[str, str]:
        """Return `model` and `prompt` of a draft: who wrote it, and the hash of what it was asked by."""
        hashes = [self.prompts[name].hash for name in prompts]
        hash = hashes[0] if len(hashes) == 1 else digest(hashes)
        return {"model": self.channels[role].endpoint.name, "prompt": hash}

    async def write_criteria(self, seed: Json) -> tuple[Json, ...]:
        """Let the critic write the item's own criteria, from its seed alone. Raises ReplyError."""
        count = self.rubric.per_item
        fence = given_to_judge(seed, {}, "")["fence"]
        messages = self.prompts["criteria"].render(
            seed=seed, count=count, criteria=self.rubric.judged, fence=fence
        )
        names = [f"own_{number + 1}" for number in range(count)]

        def read(reply: Reply) -> tuple[Json, ...]:
            said = read_object(reply)
            return tuple({"name": name, "ask": question_of(said, name)} for name in names)

        schema = closed({name: {"type": "string"} for name in names})
        return await self._asker.ask(CallKey("critic", 0, CRITERIA), messages, read, schema=schema)

    async def grade(
        self,
        seed: Json,
        candidate: Json,
        round: int,
        results: Sequence[CheckResult] = (),
        own: Sequence[Json] = (),
    ) -> Grade:
        """Grade a candidate; judges are told neither the round nor the parent.

        `results` are what the checks found, `own` the item's own criteria. Raises ReplyError when a
        judge cannot be read, or judges are too far apart: that is `ungradable`, never a low mark.
        """
        rubric = self.rubric.with_criteria(own)
        found = rubric.check_marks(results)
        if not rubric.judged:
            return self._grade(found, rubric, "", own)
        candidate = self._shown(candidate)
        reference = await self._reference(seed, candidate, round)
        given = given_to_judge(seed, candidate, reference)
        panel = [self._judge(role) for role in self.channels if role.partition(".")[0] == "critic"]
        looks = await self._looks(panel, rubric, given, found, round)
        scores = tuple(rubric.score((*found, *marks)) for marks, _ in looks)
        limit = rubric.looks.max_spread
        first, told = panel[0], looks
        if limit is not None and statistics.pstdev(scores) > limit:
            if "escalation" not in self.channels:
                raise Disagreement(f"looks at it end in scores from {_ends(scores)}")
            first = self._judge("escalation")
            told = [(await first.marks(rubric, given, Look(round)), 1.0)]
        marks = mean_marks(rubric, told)
        if first.endpoint.logprobs:  # written marks bring their evidence
            marks = await first.with_evidence(rubric, marks, given, round)
        grade = self._grade((*found, *marks), rubric, reference, own, first)
        judges = dict.fromkeys(judge.endpoint.name for judge in (*panel, first))
        several = scores if len(scores) > 1 else ()
        return grade.model_copy(update={"looks": several, "judges": tuple(judges)})

    async def audit(
        self,
        seed: Json,
        candidate: Json,
        round: int,
        results: Sequence[CheckResult] = (),
        own: Sequence[Json] = (),
    ) -> Grade:
        """Grade a candidate once more, blind, in other words; nobody who works on the item hears of it.

        Raises ReplyError when the auditor cannot be read.
        """
        rubric = self.rubric.with_criteria(own)
        found = rubric.check_marks(results)
        if not rubric.judged:
            return self._grade(found, rubric, "", own)
        reference = str(seed.get(rubric.reference_field, ""))
        given = given_to_judge(seed, self._shown(candidate), reference)
        auditor = self._judge("auditor")
        marks = await auditor.marks(rubric, given, Look(round))
        return self._grade((*found, *marks), rubric, given["reference"], own, auditor)

    def _shown(self, candidate: Json) -> Json:
        """Return what a judge is shown of a candidate: its hidden fields tell how it came about."""
        hidden = hidden_fields(self.candidate)
        return {name: value for name, value in candidate.items() if name not in hidden}

    async def _looks(
        self,
        panel: Sequence[Judge],
        rubric: Rubric,
        given: Json,
        found: Sequence[Mark],
        round: int,
    ) -> list[tuple[tuple[Mark, ...], float]]:
        """Return the marks of every look of every judge with its weight, all asked at once.

        More are asked where the mean is so near the threshold that chance would decide.
        """
        settings = rubric.looks

        async def at(numbers: range) -> list[tuple[tuple[Mark, ...], float]]:
            places = [(judge, number) for judge in panel for number in numbers]
            marks = await all_of([j.marks(rubric, given, Look(round, n)) for j, n in places])
            weights = [self.weights.get(judge.role, 1.0) for judge, _ in places]
            return list(zip(marks, weights, strict=True))

        looks = await at(range(settings.count))
        score = rubric.score((*found, *mean_marks(rubric, looks)))
        if settings.extra and abs(score - rubric.accept_at) <= settings.band:
            looks += await at(range(settings.count, settings.count + settings.extra))
        return looks

    def _judge(self, role: str) -> Judge:
        """Return a judge; the auditor is asked in other words than the critic."""
        names = ("audit", "audit_ask") if role == "auditor" else ("critique", "ask")
        written, asked = (wordings(self.prompts, name) for name in names)
        return Judge(role, self._asker, written, asked, self.prompts["evidence"])

    def _grade(
        self,
        marks: Sequence[Mark],
        rubric: Rubric,
        reference: str,
        own: Sequence[Json],
        judge: Judge | None = None,
    ) -> Grade:
        by_name = {mark.criterion: mark for mark in marks}
        prompts = judge.prompts if judge else {}
        if judge and "reference" in self.prompts:
            prompts["reference"] = self.prompts["reference"].hash
        return Grade(
            marks=tuple(by_name[c.name] for c in rubric.criteria),
            score=rubric.score(marks),
            rubric=self.rubric.hash,
            model=judge.endpoint.name if judge else "checks",
            reference=reference,
            criteria=tuple(own),
            prompts=prompts,
        )

    @cached_property
    def _asker(self) -> Asker:
        return Asker(self.item, self.channels, self.opening, self.sample)

    async def _draft(
        self,
        role: str,
        round: int,
        prompt: str,
        messages: tuple[Message, ...],
        verbalised: Json | None = None,
    ) -> Draft:
        def read(reply: Reply) -> Candidate:
            said = read_object(reply)
            if verbalised:
                said = picked(said, verbalised["pick"])
            return read_candidate(self.candidate, said)

        schema = candidate_schema(self.candidate)
        if verbalised:
            *first, last = messages
            (said,) = self.prompts["verbalise"].render(among=verbalised["among"])
            messages = (*first, {**last, "content": f"{last['content']}\n\n{said['content']}"})
            schema = verbalised_schema(self.candidate)
        candidate = await self._asker.ask(CallKey(role, round), messages, read, schema=schema)
        channel = self.channels[role]
        return Draft(candidate, channel.endpoint.name, self.prompts[prompt].hash)

    async def _reference(self, seed: Json, candidate: Json, round: int) -> str:
        """Return the seed's own answer, or let the critic answer, greedily, before it judges."""
        if self.rubric.reference_field:
            return str(seed.get(self.rubric.reference_field, ""))
        if not self.rubric.reference:
            return ""
        given = given_to_judge(seed, candidate, "")
        messages = self.prompts["reference"].render(
            seed=seed, candidate=candidate, fence=given["fence"]
        )

        def read(reply: Reply) -> str:
            return reply.text.strip() if reply.finish_reason == "length" else read_text(reply)

        return await self._asker.ask(
            CallKey("critic", round, REFERENCE),
            messages,
            read,
            max_tokens=REFERENCE_TOKENS,
            temperature=0.0,
        )


def _ends(scores: Sequence[float]) -> str:
    return f"{floored(min(scores))} to {floored(max(scores))}"


def wordings(prompts: Mapping[str, Prompt], name: str) -> tuple[Prompt, ...]:
    """Return a prompt and its other wordings: `critique`, `critique_2`, `critique_3` and so on."""
    found = [prompts[name]]
    while other := prompts.get(f"{name}_{len(found) + 1}"):
        found.append(other)
    return tuple(found)


def mean_marks(rubric: Rubric, looks: Sequence[tuple[Sequence[Mark], float]]) -> tuple[Mark, ...]:
    """Return the weighted mean of several looks' marks; of one look, its own.

    The level is the one nearest to the mean, the lower of two; quote and reason are those of the
    nearest look that has one.
    """
    if len(looks) == 1:
        return tuple(looks[0][0])
    total = sum(weight for _, weight in looks)
    means = []
    for criterion in rubric.judged:
        given = [
            (next(m for m in marks if m.criterion == criterion.name), weight)
            for marks, weight in looks
        ]
        value = min(1.0, sum(mark.value * weight for mark, weight in given) / total)
        means.append(_mean_mark(criterion, value, [mark for mark, _ in given]))
    return tuple(means)


def _mean_mark(criterion: Criterion, value: float, marks: Sequence[Mark]) -> Mark:
    steps = len(criterion.levels) - 1
    index = math.ceil(value * steps - 0.5 - 1e-9)
    level = criterion.levels[max(0, index)]
    nearest = sorted(marks, key=lambda m: (m.level != level, abs(criterion.value(m.level) - value)))
    below = level != criterion.top
    return Mark(
        criterion=criterion.name,
        level=level,
        value=value,
        how="mean",
        quote=next((m.quote for m in nearest if m.quote), "")
        if criterion.needs_quote(level)
        else "",
        reason=next((m.reason for m in nearest if m.reason), "") if below else "",
    )


def critique_of(grade: Grade | None, failed: Sequence[Json], rubric: Rubric) -> Critique:
    """Return what a reviser is shown: failed checks, and marks below the top with their evidence."""
    marks = rubric.below_top(grade) if grade else ()
    return Critique(marks=marks, checks=tuple(failed))
