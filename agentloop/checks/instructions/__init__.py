"""Instruction constraints: the 25 kinds of IFEval, in its strict mode.

Enters: a text, and what was asked of it as ids and parameters. Leaves: whether each was followed, in
words that a reviser can act on. Refuses to know: whether the text is any good; put a rubric beside it.

Kinds and parameters are those of IFEval (Zhou et al. 2023, arXiv:2311.07911). Where these differ from
the reference on purpose: a keyword is no pattern, `#` is a letter that can be counted, a text without
letters is in no language. `benchmarks/instructions.py` compares them with stored verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError, validate_call

from agentloop.checks import Check, Finding, fail, passed
from agentloop.checks.instructions import form, keywords, length, wording
from agentloop.errors import RecipeError, SeedError, did_you_mean
from agentloop.plain import plain
from agentloop.records import Json

_FAMILIES = form.INSTRUCTIONS | keywords.INSTRUCTIONS | length.INSTRUCTIONS | wording.INSTRUCTIONS
INSTRUCTIONS: dict[str, Callable[..., Finding]] = {
    id: validate_call(_FAMILIES[id]) for id in sorted(_FAMILIES)
}
"""Every kind by its id: `INSTRUCTIONS["punctuation:no_comma"](text)`."""


class Constraint(NamedTuple):
    """One thing asked of a text; `parameters` are IFEval's, by name."""

    id: str
    parameters: Json


def follows_instructions(
    field: str = "response", *, constraints: str = "seed.constraints"
) -> Check:
    """A text field follows all that is asked of it; the fraction is the share that it follows.

    `constraints` names a field of the seed or the candidate: a list of `{id, parameters}`, or an object
    with `instruction_id_list` and `kwargs`. Where there is no such field, those two are looked for
    beside it. What is wrong in a seed is a SeedError; in a candidate it is a failure to repair.
    """
    where, dot, name = constraints.partition(".")
    if where not in ("seed", "candidate") or not (dot and name):
        raise RecipeError(
            f"`constraints` is `seed.FIELD` or `candidate.FIELD`, not `{constraints}`"
        )

    def run(candidate: Json, seed: Json) -> Finding:
        record = seed if where == "seed" else candidate
        try:
            asked = read_constraints(record, name)
            found = follow_all(str(candidate.get(field, "")), asked)
        except SeedError as error:
            if where == "candidate":
                return fail(f"`{name}` cannot be checked: {error}")
            raise SeedError(f"`{constraints}`: {error}") from error
        return found if found.passed else found._replace(evidence=f"`{field}` {found.evidence}")

    return Check(f"instructions_{field}", run, {"field": field, "constraints": constraints})


def read_constraints(record: Mapping[str, Any], name: str) -> list[Constraint]:
    """Return what a record asks for in a field, in either shape; SeedError for any other."""
    value = record.get(name)
    if value is None and "instruction_id_list" in record:
        value = record
    if isinstance(value, Mapping) and "instruction_id_list" in value:
        ids, parameters = value["instruction_id_list"], value.get("kwargs")
        if not (isinstance(ids, list) and isinstance(parameters, list)):
            raise SeedError("`instruction_id_list` and `kwargs` must be lists")
        if len(ids) != len(parameters):
            raise SeedError(f"there are {len(ids)} ids and {len(parameters)} `kwargs`")
        return [_constraint(*pair) for pair in zip(ids, parameters, strict=True)]
    if not isinstance(value, list):
        raise SeedError(
            "there is neither a list of `{id, parameters}` nor an `instruction_id_list`"
        )
    return [_entry(one) for one in value]


def _entry(entry: object) -> Constraint:
    if not isinstance(entry, Mapping) or set(entry) - {"id", "parameters"}:
        raise SeedError("each entry must be an object with `id` and `parameters`")
    return _constraint(entry.get("id"), entry.get("parameters"))


def _constraint(id: object, parameters: object) -> Constraint:
    """Return a constraint, without the null parameters that tables pad it with."""
    if not isinstance(id, str) or not isinstance(parameters, Mapping | None):
        raise SeedError("an `id` must be text, and its parameters an object")
    given = parameters or {}
    return Constraint(id, {key: value for key, value in given.items() if value is not None})


def follow_all(text: str, constraints: list[Constraint]) -> Finding:
    """Return the share of constraints that a text follows, with evidence of all others."""
    found = [follow(text, *constraint) for constraint in constraints]
    failed = [one.evidence for one in found if not one.passed]
    if not failed:
        return passed()
    return fail(". It ".join(dict.fromkeys(failed)), 1 - len(failed) / len(found))


def follow(text: str, id: str, parameters: Json) -> Finding:
    """Whether a text follows one instruction; an empty one follows none.

    SeedError for an unknown id or bad parameters; SettingsError where an extra is missing. A prefix of
    the id, as in `en:punctuation:no_comma`, is ignored.
    """
    kind = ":".join(id.split(":")[-2:])
    if kind not in INSTRUCTIONS:
        raise SeedError(f"unknown instruction `{plain(id, 80)}`{did_you_mean(kind, INSTRUCTIONS)}")
    try:
        found = INSTRUCTIONS[kind](text, **parameters)
    except ValidationError as error:
        raise SeedError(f"instruction `{kind}`: {_explain(error)}") from error
    return found if text.strip() else fail("is empty")


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing_keyword_only_argument":
        return f"parameter `{name}` is missing"
    if first["type"] == "unexpected_keyword_argument":
        return f"there is no parameter `{plain(name, 80)}`"
    message = first["msg"].removeprefix("Value error, ")
    return f"parameter `{name}`: {plain(message, 300)} (got `{plain(first['input'], 80)}`)"
