"""The records that travel: seeds, attempts, marks, grades, verdicts, items, events.

Enters: plain values. Leaves: frozen pydantic models with properties only, and the hashes that name
content. Refuses to know: models, files, the store, how a grade came about.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import orjson
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

VerdictName: TypeAlias = Literal["accepted", "rejected", "ungradable", "failed"]
Reason: TypeAlias = Literal[
    "below_threshold",
    "under_floor",
    "failed_check",
    "failed_audit",
    "filtered",
    "duplicate",
    "too_similar",
    "contaminated",
    "over_quota",
    "over_target",
    "too_deep",
    "malformed",
    "judge_unreadable",
    "refused",
    "error",
]
Json: TypeAlias = dict[str, Any]


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest(value: Any, size: int = 16) -> str:
    """Return the hex BLAKE2b of a JSON value or of text, `size` bytes long."""
    data = value.encode() if isinstance(value, str) else canonical(value)
    return hashlib.blake2b(data, digest_size=size).hexdigest()


class Record(BaseModel):
    """Base of all records: frozen, closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Seed(Record):
    """What an item starts from, named by its content and not by its place in a file."""

    id: str
    """16 hex digits of the fields' hash."""
    fields: Json

    @classmethod
    def of(cls, fields: Json) -> Seed:
        """Name a real record by its content."""
        return cls(id=digest(fields, 8), fields=fields)


class Usage(Record):
    """Tokens of one call. Cached and reasoning tokens are parts of the first two, priced apart."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Candidate(Record):
    """Base of a recipe's candidate type: one draft example.

    The fields are what the generator is asked for; `conversation` is what a trainer reads.
    """

    def conversation(self, seed: Json) -> list[tuple[str, str]]:
        """Return `(role, text)` turns. By default the first two fields, as user and assistant.

        A type with one field only must say its own.
        """
        prompt, answer, *_ = (str(value) for value in self.model_dump().values())
        return [("user", prompt), ("assistant", answer)]

    def novelty(self, seed: Json) -> str:
        """Return the text that must be new among all accepted; by default all that is said."""
        return "\n".join(text for _, text in self.conversation(seed))

    def written(self) -> str:
        """Return what a model wrote: by default the texts of all that it is asked for, a line apart.

        The variety of a run is that of these texts. A type in which some of them are drawn or copied
        says its own: they differ though nothing new is written.
        """
        return "\n".join(_texts(self))

    def messages(self, seed: Json) -> tuple[dict[str, str], ...]:
        """Return the conversation as chat messages."""
        return tuple({"role": role, "content": text} for role, text in self.conversation(seed))


_SKIPPED: Any = SkipJsonSchema  # to type checkers it is a form of `Annotated`, at run time a class


def asked_fields(kind: type[BaseModel]) -> list[str]:
    """Return the fields of a type that a model is asked for: those that its schema does not skip."""
    return [
        name
        for name, field in kind.model_fields.items()
        if not any(isinstance(mark, _SKIPPED) for mark in field.metadata)
    ]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseModel):
        for name in asked_fields(type(value)):
            yield from _texts(getattr(value, name))
    elif isinstance(value, Mapping):
        yield from _texts([*value.values()])
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


class CheckResult(Record):
    """What a deterministic check found."""

    name: str
    passed: bool
    evidence: str = ""
    """What the reviser is shown, word for word."""
    fraction: float = Field(default=1.0, ge=0, le=1)
    """Share that passed, for checks that count."""
    veto: bool = True
    """A failed veto is never bought back by a score."""


def floored(score: float) -> str:
    """Return a score with two digits, never rounded up: at 0.7999 it might look accepted."""
    return f"{math.floor(score * 100 + 1e-9) / 100:.2f}"  # 0.29 * 100 is a little less than 29


class Mark(Record):
    """One criterion answered."""

    criterion: str
    level: str
    """The most probable or the written level."""
    value: float = Field(ge=0, le=1)
    """Expected index of the level ÷ (levels − 1)."""
    how: Literal["written", "logprobs", "check", "mean"]
    quote: str = ""
    """Stands in the field that the criterion names; verified by code."""
    reason: str = ""


class Grade(Record):
    """All marks of one judging. The score is computed by the rubric, never asked for."""

    marks: tuple[Mark, ...]
    score: float = Field(ge=0, le=1)
    rubric: str
    """The rubric's content hash."""
    model: str
    """The critic as the user named it."""
    judges: tuple[str, ...] = ()
    """Everyone who took part, as the user named them: the panel, and who decided in the end."""
    reference: str = ""
    """What the candidate's answer was compared with: the critic's own, or the seed's."""
    criteria: tuple[Json, ...] = ()
    """`name, ask` of the criteria that were written for this item alone."""
    looks: tuple[float, ...] = ()
    """The score of each look, where there were several; `score` is that of their mean."""
    prompts: dict[str, str] = {}
    """Content hash of each grading prompt."""

    def mark(self, criterion: str) -> Mark:
        """Return the mark of one criterion; KeyError when the grade has none."""
        return {m.criterion: m for m in self.marks}[criterion]


class Critique(Record):
    """What to repair, tied to marks and failed checks; holds neither score nor threshold."""

    marks: tuple[Json, ...] = ()
    """`name, ask, level, quote, reason` of each mark below its top level."""
    checks: tuple[Json, ...] = ()
    """`name, evidence` of each failed check."""

    @property
    def evidence(self) -> frozenset[tuple[str, str]]:
        """What there is to act on: what was looked at, and the words that speak against it."""
        marked = {(m["name"], f"{m['quote']}\0{m['reason']}") for m in self.marks}
        return frozenset(marked | {(c["name"], c["evidence"]) for c in self.checks})


class Attempt(Record):
    """One candidate with what was found out about it, written once."""

    round: int
    """Its number among the item's attempts; 0 for the first draft."""
    parent: int | None = None
    """The attempt that it revises; None for a draft of its own."""
    candidate: Json
    messages: tuple[dict[str, str], ...] = ()
    """The candidate as a conversation, for export."""
    checks: tuple[CheckResult, ...] = ()
    grade: Grade | None = None
    """None when a failed check spared the judge, or no readable grade came."""
    critique: Critique = Critique()
    accepted: bool = False
    """Whether checks, floors and threshold all passed."""
    reason: Reason | None = None
    """Why not, when not accepted."""
    detail: str = ""
    model: str = ""
    """Who wrote the candidate, as the user named it."""
    prompt: str = ""
    """Content hash of the prompt that it was written from."""

    @property
    def rank(self) -> tuple[int, float, float]:
        """Order for keep-best: accepted, then share of checks passed, then score."""
        passed = sum(c.passed for c in self.checks) / len(self.checks) if self.checks else 1.0
        return int(self.accepted), passed, self.grade.score if self.grade else -1.0


class Verdict(Record):
    """How an item ended; append-only, one for each grading."""

    verdict: VerdictName
    reason: Reason | None = None
    detail: str = ""
    round: int | None = None
    """The attempt kept; None when there is none."""
    score: float | None = None
    grading: int = 0
    """0 is the run's own grading."""


class Item(Record):
    """Seed, attempts and verdict: the one thing that travels."""

    run: str
    id: str
    seed: Seed
    inputs: Json
    """Everything the item took from outside, drawn once by the runner."""
    attempts: tuple[Attempt, ...] = ()
    verdict: Verdict | None = None

    @property
    def best(self) -> Attempt | None:
        """The attempt that the verdict names."""
        if self.verdict is None or self.verdict.round is None:
            return None
        return next((a for a in self.attempts if a.round == self.verdict.round), None)

    @property
    def candidate(self) -> Json | None:
        """The kept candidate."""
        return self.best.candidate if self.best else None


class Event(Record):
    """What a run tells those who watch it."""

    kind: Literal["started", "settled", "counts", "note", "stopped"]
    run: str
    at: float
    """Seconds since the epoch."""
    data: Json = {}
