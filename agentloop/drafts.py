"""Drafts as models write them: schemas that ask for one, and reading one out of JSON.

Enters: a candidate type; the JSON object of a reply. Leaves: a candidate or a text of it; MalformedReply
with a line that the model can act on. Refuses to know: prompts, roles, who is asked.
"""

from __future__ import annotations

from functools import lru_cache

import orjson
from pydantic import ValidationError

from agentloop.errors import MalformedReply
from agentloop.records import Candidate, Json
from agentloop.rubric import closed


def text_of(said: Json, name: str) -> str:
    """Return one text of an object; MalformedReply where there is none."""
    text = said.get(name)
    if not isinstance(text, str) or not text.strip():
        raise MalformedReply(f"`{name}` must be there, as text")
    return text.strip()


def question_of(said: Json, name: str) -> str:
    """Return one text of an object in one line; MalformedReply where there is none."""
    return " ".join(text_of(said, name).split())


def picked(said: Json, pick: float) -> Json:
    """Return one of several drafts; each has the same chance, whatever the model thinks likely.

    Verbalised sampling: a model that lists several answers with their probabilities shows more of what
    it could have written (Zhang et al. 2025, arXiv 2510.01171: 1.6 to 2.1 times as diverse).
    """
    drafts = said.get("drafts")
    if not isinstance(drafts, list) or not drafts or not all(isinstance(d, dict) for d in drafts):
        raise MalformedReply("`drafts` must be a list of objects")
    chosen = drafts[int(pick * len(drafts))]
    return {name: value for name, value in chosen.items() if name != "probability"}


@lru_cache(maxsize=64)
def verbalised_schema(kind: type[Candidate]) -> Json:
    """Return the JSON schema of several drafts with their probabilities."""
    one = candidate_schema(kind)
    inner = {key: value for key, value in one.items() if key != "$defs"}
    inner["properties"] = {**one["properties"], "probability": {"type": "number"}}
    inner["required"] = [*one.get("required", []), "probability"]
    whole = closed({"drafts": {"type": "array", "items": inner}})
    return {**whole, **({"$defs": one["$defs"]} if "$defs" in one else {})}


@lru_cache(maxsize=64)
def candidate_schema(kind: type[Candidate]) -> Json:
    """Return the JSON schema of a candidate type, made once."""
    return kind.model_json_schema()


@lru_cache(maxsize=64)
def hidden_fields(kind: type[Candidate]) -> frozenset[str]:
    """Return the fields of a candidate type that say where it comes from: no model is asked for them."""
    asked = kind.model_json_schema(by_alias=False).get("properties", {})
    return frozenset(kind.model_fields.keys() - asked.keys())


def read_candidate(kind: type[Candidate], data: Json) -> Candidate:
    """Return a candidate of the recipe's type; MalformedReply says what is wrong with it."""
    try:
        candidate = kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedReply(f"`{place}`: {first['msg']}") from error
    _check_storable(candidate)
    return candidate


def _check_storable(candidate: Candidate) -> None:
    """Raise MalformedReply for what JSON cannot hold: a type may read "nan" or "1e30" as a number."""
    try:
        dumped = candidate.model_dump(mode="json")
        same = orjson.loads(orjson.dumps(dumped)) == dumped
    except (TypeError, ValueError) as error:  # of pydantic, too
        raise MalformedReply(f"a value that JSON cannot hold: {error}") from error
    if not same:
        raise MalformedReply("a number that JSON cannot hold")
