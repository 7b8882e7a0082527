"""Checks of structure: a field that is JSON, valid by a schema.

Enters: a JSON schema, given once; then candidates. Leaves: what is wrong and where, in a line.
Refuses to know: recipes, files, the network: a `$ref` reaches the schema itself and the drafts' own.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

from agentloop.checks import Check, Finding, fail, passed
from agentloop.errors import RecipeError
from agentloop.plain import plain
from agentloop.records import Json

LISTED = 3  # problems that evidence names
COUNTED = 50  # problems that are looked for
REASON, PLACE, VALUE = 160, 80, 40  # characters of a problem's parts


class _NotJson(ValueError):
    """A text that breaks a rule of JSON's."""


def json_schema(field: str, schema: Json) -> Check:
    """A field is JSON, as text or as a value, and valid by a JSON schema.

    The draft is the one that `$schema` names, else 2020-12; `format` is a note, as the drafts have it.
    JSON is strict: no key twice, no NaN, no number beyond a float. RecipeError for a schema that is
    wrong, or refers to what it does not hold.
    """
    own = _copied(schema, field)
    validator = _validator(own, field)

    def run(candidate: Json, seed: Json) -> Finding:
        value = candidate.get(field, "")
        try:
            value = _load(value) if isinstance(value, str) else value
            problems = list(islice(validator.iter_errors(value), COUNTED))
            return fail(_listed(field, problems)) if problems else passed()
        except _NotJson as error:
            return fail(f"`{field}` is not JSON: {error}")
        except RecursionError:
            return fail(f"`{field}` is nested too deeply")

    return Check(f"schema_{field}", run, {"field": field, "schema": own})


def _copied(schema: Json, field: str) -> Json:
    try:
        copy: Json = json.loads(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise RecipeError(f"the schema of `{field}` is not JSON: {error}") from error
    if not isinstance(copy, dict):
        raise RecipeError(f"the schema of `{field}` must be an object")
    return copy


def _validator(schema: Json, field: str) -> Any:
    """Return a validator that fetches nothing; RecipeError for a wrong schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import extend, validator_for
    from jsonschema_specifications import REGISTRY
    from referencing import Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    named = schema.get("$schema", Draft202012Validator.META_SCHEMA["$id"])
    draft = validator_for({"$schema": str(named)}, default=None)
    if draft is None:
        raise RecipeError(f"the schema of `{field}` names an unknown draft: `{named}`")
    try:
        draft.check_schema(schema)
        whole = Resource.from_contents(schema, default_specification=DRAFT202012)
        _resolve(whole, REGISTRY.with_resource(whole.id() or "", whole).resolver(whole.id() or ""))
        validator = extend(draft, {"uniqueItems": _unique})(schema, registry=REGISTRY)
        validator.is_valid(None)
    except SchemaError as error:
        place = error.json_path
        raise RecipeError(
            f"the schema of `{field}` is wrong at `{place}`: {error.message}"
        ) from error
    except Unresolvable as error:
        raise RecipeError(
            f"the schema of `{field}` refers to `{error.ref}`, which it does not hold; "
            "nothing is fetched: put it under `$defs`"
        ) from error
    except RecursionError as error:
        raise RecipeError(f"the schema of `{field}` refers to itself without end") from error
    return validator


def _resolve(schema: Any, resolver: Any) -> None:
    """Look up every reference within a schema; raises Unresolvable."""
    if isinstance(schema.contents, dict):
        for key in ("$ref", "$dynamicRef"):
            if isinstance(reference := schema.contents.get(key), str):
                resolver.lookup(reference)
    for inner in schema.subresources():
        _resolve(inner, resolver.in_subresource(inner))


def _unique(validator: Any, asked: bool, value: Any, schema: Json) -> Iterator[Exception]:
    """Find equal items by their text: the library compares every pair, hours for a long list."""
    from jsonschema.exceptions import ValidationError

    items = value if asked and isinstance(value, list) else []
    if len({json.dumps(item, sort_keys=True) for item in items}) < len(items):
        yield ValidationError("two of its items are the same")


def _listed(field: str, problems: list[Any]) -> str:
    told = "; ".join(_told(problem) for problem in problems[:LISTED])
    more = len(problems) - LISTED
    least = "at least " if len(problems) == COUNTED else ""
    rest = f"; and {least}{more} more" if more > 0 else ""
    return f"`{field}` breaks its schema: {told}{rest}"


def _told(problem: Any) -> str:
    """Return place and reason; the wrong value is shown short, as JSON."""
    from jsonschema.exceptions import best_match

    deepest = best_match([problem])
    reason = deepest.message
    shown = repr(deepest.instance)
    if reason.startswith(shown):
        value = json.dumps(deepest.instance, ensure_ascii=False)
        reason = plain(value, VALUE) + reason.removeprefix(shown)
    return f"`{plain(deepest.json_path, PLACE)}`: {plain(reason, REASON)}"


def _load(text: str) -> Any:
    if not text.strip():
        raise _NotJson("it is empty")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _NotJson(f"{error.msg.lower().removesuffix(' at')} at {place}") from error


def _object(pairs: list[tuple[str, Any]]) -> Json:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise _NotJson(f"the key `{plain(twice, VALUE)}` stands twice")
    return value


def _constant(name: str) -> NoReturn:
    raise _NotJson(f"`{name}` is no number of JSON's")


def _integer(digits: str) -> int:
    if len(digits) > 310:  # a float ends there; and Python reads no more than 4,300
        raise _NotJson("a number is too large")
    return int(digits)


def _float(digits: str) -> float | int:
    value = float(digits)
    if math.isinf(value):
        raise _NotJson("a number is too large")
    return int(value) if value.is_integer() else value  # 2.0 and 2 are one number in JSON


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float
)
