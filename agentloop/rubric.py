"""Rubrics: criteria with ordered levels, read from YAML, hashed, scored and decided by code.

Enters: a YAML text; later the marks of one judging. Leaves: a `Rubric`, the JSON schema a critic
answers in, checked marks, a computed score, a decision with its reason.
Refuses to know: models, prompts, rounds, who is judged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agentloop.checks.quotes import stands
from agentloop.errors import MalformedReply, RubricError, did_you_mean
from agentloop.records import CheckResult, Grade, Json, Mark, Reason, digest, floored

MAX_LEVELS = 10  # a level is asked for as one digit when it is asked by logprobs
YES_NO = ("no", "yes")


class Example(BaseModel):
    """One judged example, shown to a critic that is asked for a single word."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seed: Json = {}
    candidate: Json
    reference: str = ""
    level: str


class Criterion(BaseModel):
    """One question with ordered levels, worst first."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    ask: str = ""
    """The question; a criterion has this, or a `check`."""
    check: str = ""
    """A check of the recipe's by its name, or a packaged one, made `with` these settings."""
    settings: Json = Field(default={}, alias="with")
    veto: bool = False
    """Whether no score buys the item back once the check has failed."""
    levels: tuple[str, ...] = YES_NO
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    floor: str | None = None
    evidence: Literal["reason", "quote"] = "reason"
    quote_from: str = Field(default="seed.passage", pattern=r"^(seed|candidate)\.\w+$")
    quoted_by: str = Field(default="", pattern=r"^(candidate\.\w+)?$")
    """A field of the candidate that already quotes: with log-probabilities it is the mark's quote."""
    examples: tuple[Example, ...] = ()

    @field_validator("levels", mode="before")
    @classmethod
    def _words(cls, levels: object) -> object:
        if isinstance(levels, Sequence) and any(isinstance(x, bool) for x in levels):
            raise ValueError(
                "YAML reads an unquoted yes or no as true or false: "
                'quote them, as in `levels: ["no", "yes"]`'
            )
        return levels

    @model_validator(mode="after")
    def _consistent(self) -> Criterion:
        if not 2 <= len(self.levels) <= MAX_LEVELS:
            raise ValueError(f"`levels` needs 2 to {MAX_LEVELS} entries, worst first")
        if bool(self.ask.strip()) == bool(self.check):
            raise ValueError("a criterion has either `ask`, for a judge, or `check`")
        if (self.settings or self.veto) and not self.check:
            raise ValueError(
                "`with` and `veto` belong to a `check`; a judged criterion has `floor`"
            )
        if len(set(self.levels)) < len(self.levels) or not all(x.strip() for x in self.levels):
            raise ValueError("`levels` must be different and not empty")
        for level in [self.floor, *(e.level for e in self.examples)]:
            if level is not None and level not in self.levels:
                raise ValueError(f"`{level}` is not a level{did_you_mean(level, self.levels)}")
        return self

    @property
    def top(self) -> str:
        """The best level."""
        return self.levels[-1]

    def value(self, level: str) -> float:
        """Return the rank of a level in 0..1: index ÷ (levels − 1)."""
        return self.levels.index(level) / (len(self.levels) - 1)

    def level_of(self, fraction: float) -> str:
        """Return the highest level that a share of passed tests reaches; the top one for all only."""
        return self.levels[int(fraction * (len(self.levels) - 1) + 1e-9)]

    def needs_quote(self, level: str) -> bool:
        """Whether a mark of this level must quote: only above the lowest level."""
        return self.evidence == "quote" and level != self.levels[0]

    def source(self, seed: Json, candidate: Json) -> str:
        """Return the text that a quote must stand in."""
        where, field = self.quote_from.split(".", 1)
        return str({"seed": seed, "candidate": candidate}[where].get(field, ""))


class Looks(BaseModel):
    """How often a candidate is looked at; each look has another wording, and they are averaged.

    Four wordings averaged leave 3 % of pairs tied where one leaves 16–21 %, and their scores can be
    calibrated where one's cannot (GPT-4's ratings of LLMBar: `benchmarks/llmbar.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    count: int = Field(default=1, ge=1, le=16)
    band: float = Field(default=0.0, ge=0, le=1)
    """A mean score that is no further from the threshold gets …"""
    extra: int = Field(default=0, ge=0, le=16)
    """… so many more looks."""
    max_spread: float | None = Field(default=None, gt=0, le=1)
    """Scores whose standard deviation is larger: a stronger judge is asked, or nobody is believed."""


class Rubric(BaseModel):
    """Criteria, acceptance threshold, version; its hash travels with every grade."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1)
    accept_at: float = Field(gt=0, le=1)
    version: int = 1
    reference: bool | str = False
    """Whether the critic first answers by itself (prompt `reference.md`), to compare with; or the field
    of the seed that holds the right answer, as in `seed.answer`."""
    per_item: int = Field(default=0, ge=0, le=20)
    """Criteria that the critic writes for each item (prompt `criteria.md`), seeing its seed only."""
    looks: Looks = Looks()
    criteria: tuple[Criterion, ...] = Field(min_length=1)

    @field_validator("reference")
    @classmethod
    def _field(cls, value: bool | str) -> bool | str:
        if isinstance(value, str) and not re.fullmatch(r"seed\.\w+", value):
            raise ValueError("must be true, false, or a field of the seed as in `seed.answer`")
        return value

    @model_validator(mode="after")
    def _distinct(self) -> Rubric:
        names = [c.name for c in self.criteria]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"criterion `{name}` stands twice")
        checked = [c for c in self.criteria if c.check]
        for criterion in checked:
            if any(c.check == criterion.name != criterion.check for c in checked):
                raise ValueError(
                    f"criterion `{criterion.name}` has the name of a check that another one names"
                )
        return self

    @cached_property
    def hash(self) -> str:
        """Content hash over everything that can change a grade or a verdict."""
        content = self.model_dump(mode="json", exclude={"name", "version"})
        return digest(json.dumps(content, sort_keys=True))

    @cached_property
    def judged(self) -> tuple[Criterion, ...]:
        """The criteria that a judge is asked."""
        return tuple(c for c in self.criteria if c.ask)

    @cached_property
    def checked(self) -> tuple[Criterion, ...]:
        """The criteria that a check decides."""
        return tuple(c for c in self.criteria if c.check)

    @cached_property
    def reference_field(self) -> str:
        """The field of the seed that holds the reference answer; empty when the critic writes it."""
        return self.reference.partition(".")[2] if isinstance(self.reference, str) else ""

    def with_criteria(self, own: Sequence[Json]) -> Rubric:
        """Return the rubric with an item's own criteria (`name, ask`) beside the common ones."""
        if not own:
            return self
        added = tuple(Criterion(name=entry["name"], ask=entry["ask"]) for entry in own)
        return self._with(criteria=(*self.criteria, *added))

    def accepting_at(self, threshold: float) -> Rubric:
        """Return the rubric with another threshold."""
        return self._with(accept_at=threshold)

    def _with(self, **changed: Any) -> Rubric:
        kept = {name: getattr(self, name) for name in Rubric.model_fields}
        return Rubric(**{**kept, **changed})

    @cached_property
    def reply_schema(self) -> Json:
        """JSON schema of a written grade: for each criterion the quote, the reason, the level."""
        fields = {c.name: _mark_schema(c) for c in self.judged}
        return closed(fields)

    def criterion(self, name: str) -> Criterion:
        """Return one criterion; RubricError names the known ones otherwise."""
        for criterion in self.criteria:
            if criterion.name == name:
                return criterion
        known = [c.name for c in self.criteria]
        raise RubricError(
            f"rubric `{self.name}` has no criterion `{name}`{did_you_mean(name, known)}"
        )

    def read_marks(self, reply: object, seed: Json, candidate: Json) -> tuple[Mark, ...]:
        """Return one mark a criterion from a critic's JSON.

        Raises MalformedReply for a missing, unknown or off-menu criterion, and for a quote that does
        not stand in its source: a broken judge is never a low mark.
        """
        if not isinstance(reply, dict):
            raise MalformedReply("the reply must be one JSON object with a key for each criterion")
        names = {c.name for c in self.judged}
        if unknown := sorted(str(key) for key in reply.keys() - names):
            raise MalformedReply(f"unknown criterion `{unknown[0]}`")
        if missing := [c.name for c in self.judged if c.name not in reply]:
            raise MalformedReply(f"criterion `{missing[0]}` is missing")
        return tuple(_read_mark(c, reply[c.name], seed, candidate) for c in self.judged)

    def check_marks(self, results: Sequence[CheckResult]) -> tuple[Mark, ...]:
        """Return the marks of the criteria that checks decide; RubricError where a check did not run."""
        found = {result.name: result for result in results}
        marks = []
        for criterion in self.checked:
            result = found.get(criterion.check) or found.get(criterion.name)
            if result is None:
                raise RubricError(f"criterion `{criterion.name}`: the check did not run")
            share = 1.0 if result.passed else min(result.fraction, 1 - 1e-9)
            marks.append(
                Mark(
                    criterion=criterion.name,
                    level=criterion.level_of(share),
                    value=1.0 if result.passed else result.fraction,
                    how="check",
                    reason=result.evidence,
                )
            )
        return tuple(marks)

    def score(self, marks: Sequence[Mark]) -> float:
        """Return Σ weight·value ÷ Σ weight; RubricError unless there is one mark a criterion."""
        by_name = {mark.criterion: mark for mark in marks}
        if len(marks) != len(self.criteria) or any(c.name not in by_name for c in self.criteria):
            raise RubricError(f"a grade by rubric `{self.name}` needs one mark for each criterion")
        scale = max(c.weight for c in self.criteria)  # so that no weight is too large or too small
        total = math.fsum(c.weight / scale for c in self.criteria)
        marked = math.fsum(c.weight / scale * by_name[c.name].value for c in self.criteria)
        score = marked / total
        return min(1.0, max(0.0, score))

    def decide(self, grade: Grade) -> tuple[Reason | None, str]:
        """Return `(None, "")` to accept, else the reason and one readable line.

        Floors compare levels; the threshold compares the score.
        """
        for criterion in self.criteria:
            mark = grade.mark(criterion.name)
            floor = criterion.floor
            if floor and criterion.value(mark.level) < criterion.value(floor):
                detail = f"`{criterion.name}` is `{mark.level}`, its floor is `{floor}`"
                return "under_floor", f"{detail}: {mark.reason}" if mark.reason else detail
        if grade.score < self.accept_at:
            weakest = min(grade.marks, key=lambda m: m.value)
            detail = (
                f"score {floored(grade.score)} < {self.accept_at:g}; weakest `{weakest.criterion}`"
            )
            return "below_threshold", f"{detail}: {weakest.reason}" if weakest.reason else detail
        return None, ""

    def below_top(self, grade: Grade) -> tuple[Json, ...]:
        """Return what a reviser may see of each mark below its top level: those with evidence."""
        return tuple(
            {"name": c.name, "ask": c.ask, "level": m.level, "quote": m.quote, "reason": m.reason}
            for c in self.criteria
            if (m := grade.mark(c.name)).level != c.top and (m.quote or m.reason)
        )


def closed(properties: Json) -> Json:
    """Return the JSON schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _mark_schema(criterion: Criterion) -> Json:
    level = {"type": "string", "enum": list(criterion.levels)}
    text = {"type": "string"}
    if criterion.evidence == "quote":
        return closed({"quote": text, "reason": text, "level": level})
    return closed({"reason": text, "level": level})


def _read_mark(criterion: Criterion, given: object, seed: Json, candidate: Json) -> Mark:
    name = criterion.name
    if not isinstance(given, dict):
        raise MalformedReply(f"`{name}` must be an object with `level`")
    fields = cast(Mapping[str, object], given)
    if unknown := sorted(str(key) for key in fields.keys() - {"quote", "reason", "level"}):
        raise MalformedReply(f"`{name}` has the unknown key `{unknown[0]}`")
    texts = {key: fields.get(key, "") for key in ("quote", "reason", "level")}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise MalformedReply(f"`{name}.{key}` must be text")
    quote, reason, level = (cast(str, text) for text in texts.values())
    if level not in criterion.levels:
        allowed = ", ".join(f"`{x}`" for x in criterion.levels)
        raise MalformedReply(f"`{name}.level` must be one of {allowed}")
    verify_quote(criterion, level, quote, seed, candidate)
    if "reason" not in fields:
        raise MalformedReply(f"`{name}` lacks `reason`")
    return Mark(
        criterion=name,
        level=level,
        value=criterion.value(level),
        how="written",
        quote=quote.strip(),
        reason=reason.strip(),
    )


def verify_quote(criterion: Criterion, level: str, quote: str, seed: Json, candidate: Json) -> None:
    """Raise MalformedReply unless a quote that is required stands in its source."""
    if criterion.needs_quote(level) and not stands(quote, criterion.source(seed, candidate)):
        raise MalformedReply(
            f"`{criterion.name}.quote` must be copied word for word from `{criterion.quote_from}`"
        )


def read_rubric(path: Path | Any) -> Rubric:
    """Read a rubric from a YAML file (a Path, or a packaged resource with `read_text`).

    Raises RubricError with the file, the place and the way out.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RubricError(f"rubric `{path}` cannot be read: {error}") from error
    return parse_rubric(text, str(path))


class _UniqueKeys(yaml.SafeLoader):
    """YAML without surprises: a key that stands twice is an error, not the last one's victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key}` stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def parse_rubric(text: str, where: str) -> Rubric:
    """Read a rubric from YAML text; `where` names it in errors."""
    try:
        data = yaml.load(text, _UniqueKeys)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = " ".join(str(error).split())
        raise RubricError(f"rubric `{where}` is not YAML: {line}") from error
    if not isinstance(data, dict):
        raise RubricError(f"rubric `{where}` must hold `name`, `accept_at` and `criteria`")
    try:
        return Rubric.model_validate(data)
    except ValidationError as error:
        raise RubricError(f"rubric `{where}`: {_explain(error, data)}") from error


def _explain(error: ValidationError, data: Json) -> str:
    """Return the first problem in one line, with a hint for unknown keys."""
    first = error.errors()[0]
    place = _place(first["loc"], data)
    if first["type"] == "extra_forbidden":
        owners: dict[int, type[BaseModel]] = {1: Rubric, 3: Criterion}
        owner = owners.get(len(first["loc"]), Example)
        return f"unknown key `{place}`{did_you_mean(str(first['loc'][-1]), owner.model_fields)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"`{place}`: {message}" if place else message


def _place(loc: tuple[int | str, ...], data: Json) -> str:
    """Write a place as `criteria.faithful.floor`: criteria by name where they have one."""
    parts = [str(part) for part in loc]
    if len(loc) > 1 and loc[0] == "criteria" and isinstance(loc[1], int):
        entry = data["criteria"][loc[1]]
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            parts[1] = entry["name"]
    return ".".join(parts)
