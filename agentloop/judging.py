"""One judge: a model that marks a candidate by a rubric, quote or reason first.

A judge marks in one of two ways, a property of its model and not of the rubric: written (one call, for
each criterion a quote or reason, then the level), or by log-probabilities (one token a criterion,
nothing reasoned before it; quotes and reasons are asked apart afterwards).

Enters: a rubric; a seed, a candidate, a reference answer, as plain JSON. Leaves: one mark for each
criterion that is judged. Refuses to know: rounds left, parents, thresholds, what other judges say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agentloop.asking import Asker, all_of
from agentloop.checks.quotes import stands
from agentloop.errors import AgentloopError, MalformedReply, RefusedRequest
from agentloop.models.base import CallKey, Reply
from agentloop.models.channel import Endpoint
from agentloop.models.replies import read_own_object
from agentloop.prompting import Message, Prompt
from agentloop.records import Json, Mark, digest
from agentloop.rubric import MAX_LEVELS, YES_NO, Criterion, Rubric, closed, verify_quote

ALL, EVIDENCE = "+all", "+evidence"
"""Places of calls that belong to no single criterion; no criterion can have these names."""


class _NoLogprobs(AgentloopError):
    """The judge's endpoint gave no log-probabilities."""


class Look(NamedTuple):
    """Where a judging stands in its item."""

    round: int
    number: int = 0


@dataclass(frozen=True)
class Judge:
    """One role that judges, with the wordings that it may be asked in."""

    role: str
    asker: Asker
    written: Sequence[Prompt]
    """Prompts that ask for all marks at once; look after look in turn."""
    asked: Sequence[Prompt]
    """Prompts that ask for one criterion with one token."""
    evidence: Prompt

    @property
    def endpoint(self) -> Endpoint:
        """The model that judges."""
        return self.asker.channels[self.role].endpoint

    @property
    def prompts(self) -> dict[str, str]:
        """Content hash of each prompt, by its name."""
        return {p.name: p.hash for p in (*self.written, *self.asked, self.evidence)}

    async def marks(self, rubric: Rubric, given: Json, look: Look) -> tuple[Mark, ...]:
        """Mark every judged criterion. Raises ReplyError when the judge cannot be read."""
        if self.endpoint.logprobs:
            try:
                looks = [self._level(c, given, look) for c in rubric.judged]
                return tuple(await all_of(looks))
            except _NoLogprobs:
                self.endpoint.no_logprobs()
        return await self._written_marks(rubric, given, look)

    async def _written_marks(self, rubric: Rubric, given: Json, look: Look) -> tuple[Mark, ...]:
        prompt = self.written[look.number % len(self.written)]
        messages = prompt.render(criteria=rubric.judged, **given)

        def read(reply: Reply) -> tuple[Mark, ...]:
            said = read_own_object(reply, given)
            return rubric.read_marks(said, given["seed"], given["candidate"])

        key = CallKey(self.role, look.round, ALL, look.number)
        return await self.asker.ask(key, messages, read, schema=rubric.reply_schema)

    async def _level(self, criterion: Criterion, given: Json, look: Look) -> Mark:
        """Ask one criterion with one token."""
        words = options(criterion)
        prompt = self.asked[look.number % len(self.asked)]

        def read(reply: Reply) -> list[float]:
            return option_shares(self._first_token(reply), words)

        key = CallKey(self.role, look.round, criterion.name, look.number)
        try:
            shares = await self.asker.ask(
                key,
                look_at(prompt, criterion, given),
                read,
                max_tokens=1,
                temperature=0.0,
                logprobs=True,
            )
        except RefusedRequest as error:
            if self.endpoint.may_lack_logprobs():
                raise _NoLogprobs(str(error)) from error
            raise
        best = max(range(len(words)), key=shares.__getitem__)
        expected = math.fsum(i * share for i, share in enumerate(shares)) / (len(words) - 1)
        return Mark(
            criterion=criterion.name,
            level=criterion.levels[best],
            value=min(1.0, max(0.0, expected)),
            how="logprobs",
        )

    def _first_token(self, reply: Reply) -> Mapping[str, float]:
        """Return the log-probabilities of a reply's one token."""
        if reply.logprobs:
            self.endpoint.gave_logprobs()
            return reply.logprobs[0]
        if self.endpoint.may_lack_logprobs():
            raise _NoLogprobs("the reply holds none")
        raise MalformedReply("the reply holds no log-probabilities")

    async def with_evidence(
        self, rubric: Rubric, marks: Sequence[Mark], given: Json, round: int
    ) -> tuple[Mark, ...]:
        """Ask apart for the quotes that marks need and the reasons that a reviser needs."""
        marks = [_own_quote(rubric, mark, given) for mark in marks]
        wanted = wanted_evidence(rubric, marks)
        if not wanted:
            return tuple(marks)
        messages = self.evidence.render(wanted=wanted, **given)

        def read(reply: Reply) -> tuple[Mark, ...]:
            said = read_own_object(reply, given)
            return tuple(_evident(rubric, mark, wanted, said, given) for mark in marks)

        key = CallKey(self.role, round, EVIDENCE)
        return await self.asker.ask(key, messages, read, schema=evidence_schema(wanted))


def given_to_judge(seed: Json, candidate: Json, reference: str) -> Json:
    """Return what a judge is shown, with a fence that no text in it can contain.

    The fence is a hash of the very texts that it closes in: who writes one of them would have to know
    the hash of what he is writing.
    """
    shown = {"seed": seed, "candidate": candidate, "reference": reference}
    return {**shown, "fence": digest([seed, candidate, reference], 6)}


def _own_quote(rubric: Rubric, mark: Mark, given: Json) -> Mark:
    """Let the quote that the candidate brings be the evidence, where the rubric says so."""
    criterion = rubric.criterion(mark.criterion)
    if not criterion.quoted_by or not criterion.needs_quote(mark.level):
        return mark
    own = str(given["candidate"].get(criterion.quoted_by.partition(".")[2], ""))
    if stands(own, criterion.source(given["seed"], given["candidate"])):
        return mark.model_copy(update={"quote": own})
    return mark


def _evident(rubric: Rubric, mark: Mark, wanted: Sequence[Json], said: Json, given: Json) -> Mark:
    """Return a mark with its evidence; MalformedReply when a needed quote does not stand."""
    found: dict[str, str] = {}
    for entry in wanted:
        if entry["criterion"] != mark.criterion:
            continue
        text = said.get(entry["name"])
        if not isinstance(text, str):
            raise MalformedReply(f"`{entry['name']}` must be there, as text")
        found[entry["need"]] = text.strip()
    if "quote" in found:
        criterion = rubric.criterion(mark.criterion)
        verify_quote(criterion, mark.level, found["quote"], given["seed"], given["candidate"])
    return mark.model_copy(update=found)


def few_shot(prompt: Prompt, criterion: Criterion, options: Sequence[Json]) -> list[Message]:
    """Return the criterion's examples as turns of one chat.

    Measured on the embedded model: as turns the values spread over 0.03 to 1.00, within one message they
    stay in 0.40 to 0.70. The beginning is the same for every item, so that it stays cached.
    """
    words = {option["level"]: option["word"] for option in options}
    turns: list[Message] = []
    for example in criterion.examples:
        shown = given_to_judge(example.seed, example.candidate, example.reference)
        turns += prompt.render(criterion=criterion, options=options, **shown)
        turns.append({"role": "assistant", "content": words[example.level]})
    return turns


def look_at(prompt: Prompt, criterion: Criterion, given: Json) -> tuple[Message, ...]:
    """Return the turns that ask for one criterion with one token, its examples first."""
    listed = listed_options(criterion)
    question = prompt.render(criterion=criterion, options=listed, **given)
    return one_system([*few_shot(prompt, criterion, listed), *question])


def one_system(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Return the turns with one system message, the first, in front."""
    first = [turn for turn in turns if turn["role"] == "system"][:1]
    return (*first, *(turn for turn in turns if turn["role"] != "system"))


def listed_options(criterion: Criterion) -> list[Json]:
    """Return what `ask.md` is given: the word that stands for each level."""
    words = options(criterion)
    return [{"word": word, "level": x} for word, x in zip(words, criterion.levels, strict=True)]


def options(criterion: Criterion) -> tuple[str, ...]:
    """Return the one-token word for each level: Yes and No, else digits from 1, from 0 for ten."""
    if criterion.levels == YES_NO:
        return ("No", "Yes")
    count = len(criterion.levels)
    first = 0 if count == MAX_LEVELS else 1
    return tuple(str(index) for index in range(first, first + count))


def option_shares(top: Mapping[str, float], words: Sequence[str]) -> list[float]:
    """Return the probability of each word among the words; MalformedReply when none occurs.

    Tokens are compared without case and surrounding space, so that `Yes` and ` yes` count together.
    """
    mass = dict.fromkeys((word.casefold() for word in words), 0.0)
    for token, logprob in top.items():
        word = token.strip().casefold()
        if word in mass:
            mass[word] += math.exp(min(logprob, 0.0))
    total = math.fsum(mass.values())
    if total <= 0:
        raise MalformedReply(f"none of {', '.join(f'`{w}`' for w in words)} was considered")
    return [mass[word.casefold()] / total for word in words]


def wanted_evidence(rubric: Rubric, marks: Sequence[Mark]) -> list[Json]:
    """Return what to ask apart: quotes above the lowest level, reasons below the top.

    `name` is the key of the answer: the criterion's, or `NAME_reason` where it also quotes.
    """
    wanted = []
    for mark in marks:
        criterion = rubric.criterion(mark.criterion)
        asked = {"criterion": mark.criterion, "ask": criterion.ask, "level": mark.level}
        quote = criterion.needs_quote(mark.level) and not mark.quote
        if quote:
            wanted.append({**asked, "name": mark.criterion, "need": "quote"})
        if mark.level != criterion.top and not mark.reason:
            name = f"{mark.criterion}_reason" if quote else mark.criterion
            wanted.append({**asked, "name": name, "need": "reason"})
    return wanted


def evidence_schema(wanted: Sequence[Json]) -> Json:
    """Return the JSON schema of the evidence: one text for each thing wanted."""
    return closed({entry["name"]: {"type": "string"} for entry in wanted})
