"""The agents of one item: prompt → model → record, with repair of malformed replies.

Enters: a seed's fields, a candidate, a critique. Leaves: a candidate, a grade; or the error that
becomes the item's verdict. Refuses to know: rounds left, thresholds, the store, the graph.

The critic grades in one of two ways, a property of its model and not of the rubric:
written (one call, for each criterion a quote or reason, then the level), or by log-probabilities (one
token a criterion, nothing reasoned before it; quotes and reasons are asked apart afterwards).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import ValidationError
from typing_extensions import TypedDict, Unpack

from agentloop.checks.quotes import stands
from agentloop.errors import AgentloopError, MalformedReply, RefusedRequest, ReplyError
from agentloop.models.base import CallKey, Reply
from agentloop.models.channel import Channel
from agentloop.models.replies import read_object, read_text
from agentloop.prompting import Message, Prompt
from agentloop.records import Candidate, Critique, Grade, Json, Mark
from agentloop.rubric import YES_NO, Criterion, Rubric, closed, verify_quote

MAX_REPAIRS = 2
REFERENCE_TOKENS = 160
ALL, REFERENCE, EVIDENCE = "+all", "+reference", "+evidence"
"""Places of calls that belong to no single criterion; no criterion can have these names."""

T = TypeVar("T")


class How(TypedDict, total=False):
    """How a channel is asked, besides the messages."""

    schema: Json
    max_tokens: int
    temperature: float
    logprobs: bool


class _NoLogprobs(AgentloopError):
    """The critic's endpoint gave no log-probabilities."""


@dataclass(frozen=True)
class Draft:
    """A candidate and what it was written by."""

    candidate: Candidate
    model: str
    prompt: str
    """Content hash of the prompt."""


@dataclass(frozen=True)
class Agents:
    """Generator, critic and reviser of one item."""

    item: str
    channels: Mapping[str, Channel]
    prompts: Mapping[str, Prompt]
    rubric: Rubric
    candidate: type[Candidate]
    opening: int = 0
    """How often the item was opened again: replies that could not be read are asked for anew."""

    async def generate(self, seed: Json, inputs: Json) -> Draft:
        """Write the first draft. Raises ReplyError or ModelError."""
        messages = self.prompts["generate"].render(seed=seed, inputs=inputs)
        return await self._draft("generator", 0, "generate", messages)

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

    async def grade(self, seed: Json, candidate: Json, round: int) -> Grade:
        """Grade a candidate; the critic is told neither the round nor the parent.

        Raises ReplyError when the critic cannot be read: that is `ungradable`, never a low mark.
        """
        reference = ""
        if self.rubric.reference:
            reference = await self._reference(seed, candidate, round)
        given = {"seed": seed, "candidate": candidate, "reference": reference}
        critic = self.channels["critic"].endpoint
        if critic.logprobs:
            try:
                marks = await self._marks_by_logprobs(given, round)
            except _NoLogprobs:
                critic.no_logprobs()
                marks = await self._written_marks(given, round)
        else:
            marks = await self._written_marks(given, round)
        names = ("critique", "ask", "evidence", "reference")
        return Grade(
            marks=marks,
            score=self.rubric.score(marks),
            rubric=self.rubric.hash,
            model=critic.name,
            reference=reference,
            prompts={name: self.prompts[name].hash for name in names if name in self.prompts},
        )

    async def _draft(
        self, role: str, round: int, prompt: str, messages: tuple[Message, ...]
    ) -> Draft:
        def read(reply: Reply) -> Candidate:
            return read_candidate(self.candidate, read_object(reply))

        schema = candidate_schema(self.candidate)
        candidate = await self._ask(CallKey(role, round), messages, read, schema=schema)
        channel = self.channels[role]
        return Draft(candidate, channel.endpoint.name, self.prompts[prompt].hash)

    async def _reference(self, seed: Json, candidate: Json, round: int) -> str:
        """Let the critic answer by itself, greedily, before it judges."""
        messages = self.prompts["reference"].render(seed=seed, candidate=candidate)

        def read(reply: Reply) -> str:
            return reply.text.strip() if reply.finish_reason == "length" else read_text(reply)

        return await self._ask(
            CallKey("critic", round, REFERENCE),
            messages,
            read,
            max_tokens=REFERENCE_TOKENS,
            temperature=0.0,
        )

    async def _written_marks(self, given: Json, round: int) -> tuple[Mark, ...]:
        messages = self.prompts["critique"].render(criteria=self.rubric.criteria, **given)

        def read(reply: Reply) -> tuple[Mark, ...]:
            return self.rubric.read_marks(read_object(reply), given["seed"], given["candidate"])

        return await self._ask(
            CallKey("critic", round, ALL), messages, read, schema=self.rubric.reply_schema
        )

    async def _marks_by_logprobs(self, given: Json, round: int) -> tuple[Mark, ...]:
        looks = [self._look(criterion, given, round) for criterion in self.rubric.criteria]
        marks = await _all(looks)
        return await self._with_evidence(marks, given, round)

    async def _look(self, criterion: Criterion, given: Json, round: int) -> Mark:
        """Ask one criterion with one token."""
        words = options(criterion)
        messages = look_at(self.prompts["ask"], criterion, given)

        def read(reply: Reply) -> list[float]:
            return option_shares(self._first_token(reply), words)

        try:
            shares = await self._ask(
                CallKey("critic", round, criterion.name),
                messages,
                read,
                max_tokens=1,
                temperature=0.0,
                logprobs=True,
            )
        except RefusedRequest as error:
            if self.channels["critic"].endpoint.may_lack_logprobs():
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
        endpoint = self.channels["critic"].endpoint
        if reply.logprobs:
            endpoint.gave_logprobs()
            return reply.logprobs[0]
        if endpoint.may_lack_logprobs():
            raise _NoLogprobs("the reply holds none")
        raise MalformedReply("the reply holds no log-probabilities")

    async def _with_evidence(
        self, marks: Sequence[Mark], given: Json, round: int
    ) -> tuple[Mark, ...]:
        """Ask apart for the quotes that marks need and the reasons that a reviser needs."""
        marks = [self._own_quote(mark, given) for mark in marks]
        wanted = wanted_evidence(self.rubric, marks)
        if not wanted:
            return tuple(marks)
        messages = self.prompts["evidence"].render(wanted=wanted, **given)

        def read(reply: Reply) -> tuple[Mark, ...]:
            said = read_object(reply)
            return tuple(self._evident(mark, wanted, said, given) for mark in marks)

        key = CallKey("critic", round, EVIDENCE)
        return await self._ask(key, messages, read, schema=evidence_schema(wanted))

    def _own_quote(self, mark: Mark, given: Json) -> Mark:
        """Let the quote that the candidate brings be the evidence, where the rubric says so."""
        criterion = self.rubric.criterion(mark.criterion)
        if not criterion.quoted_by or not criterion.needs_quote(mark.level):
            return mark
        own = str(given["candidate"].get(criterion.quoted_by.partition(".")[2], ""))
        if stands(own, criterion.source(given["seed"], given["candidate"])):
            return mark.model_copy(update={"quote": own})
        return mark

    def _evident(self, mark: Mark, wanted: Sequence[Json], said: Json, given: Json) -> Mark:
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
            criterion = self.rubric.criterion(mark.criterion)
            verify_quote(criterion, mark.level, found["quote"], given["seed"], given["candidate"])
        return mark.model_copy(update=found)

    async def _ask(
        self,
        key: CallKey,
        messages: tuple[Message, ...],
        read: Callable[[Reply], T],
        **how: Unpack[How],
    ) -> T:
        """Ask until the reply can be read, at most twice again with what was wrong with it."""

        async def ask(place: CallKey) -> T:
            told = messages
            while True:
                reply = await self.channels[key.role].ask(self.item, place, told, **how)
                try:
                    return read(reply)
                except ReplyError as error:
                    error.text = error.text or reply.text
                    if place.repair == MAX_REPAIRS:
                        raise
                    told = (*told, *_complaint(reply, error, as_json="schema" in how))
                    place = place._replace(repair=place.repair + 1)

        return await self._anew(ask, key)

    async def _anew(self, ask: Callable[[CallKey], Coroutine[Any, Any, T]], key: CallKey) -> T:
        """Ask; in an item that was opened again, ask another sample of what could not be read.

        What could be read is answered by the journal, as everything was asked before.
        """
        for sample in range(self.opening):
            try:
                return await ask(key._replace(sample=sample))
            except ReplyError:
                continue
        return await ask(key._replace(sample=self.opening))


def _complaint(reply: Reply, error: ReplyError, *, as_json: bool) -> tuple[Message, Message]:
    said = {"role": "assistant", "content": reply.text or "(nothing)"}
    wrong = f"This cannot be used: {error}. Answer again"
    wrong += ", with the JSON object only." if as_json else ", as asked above."
    return said, {"role": "user", "content": wrong}


async def _all(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all; raise the first failure only when every paid call has come home."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


@lru_cache(maxsize=64)
def candidate_schema(kind: type[Candidate]) -> Json:
    """Return the JSON schema of a candidate type, made once."""
    return kind.model_json_schema()


def read_candidate(kind: type[Candidate], data: Json) -> Candidate:
    """Return a candidate of the recipe's type; MalformedReply says what is wrong with it."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedReply(f"`{place}`: {first['msg']}") from error


def few_shot(prompt: Prompt, criterion: Criterion, options: Sequence[Json]) -> list[Message]:
    """Return the criterion's examples as turns of one chat.

    Measured on the embedded model: as turns the values spread over 0.03 to 1.00, within one message they
    stay in 0.40 to 0.70. The beginning is the same for every item, so that it stays cached.
    """
    words = {option["level"]: option["word"] for option in options}
    turns: list[Message] = []
    for example in criterion.examples:
        shown = {
            "seed": example.seed,
            "candidate": example.candidate,
            "reference": example.reference,
        }
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
    """Return the one-token word for each level: Yes and No, else digits from 1."""
    if criterion.levels == YES_NO:
        return ("No", "Yes")
    return tuple(str(index + 1) for index in range(len(criterion.levels)))


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
        if mark.level != criterion.top:
            name = f"{mark.criterion}_reason" if quote else mark.criterion
            wanted.append({**asked, "name": name, "need": "reason"})
    return wanted


def evidence_schema(wanted: Sequence[Json]) -> Json:
    """Return the JSON schema of the evidence: one text for each thing wanted."""
    return closed({entry["name"]: {"type": "string"} for entry in wanted})


def critique_of(grade: Grade | None, failed: Sequence[Json], rubric: Rubric) -> Critique:
    """Return what a reviser is shown: failed checks, and marks below the top with their evidence."""
    marks = rubric.below_top(grade) if grade else ()
    return Critique(marks=marks, checks=tuple(failed))
