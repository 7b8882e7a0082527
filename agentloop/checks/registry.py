"""The packaged checks by the names that a rubric may give: `check: python_tests`.

Enters: a name and settings, as a rubric's YAML holds them. Leaves: a `Check`; RubricError for an
unknown name or settings that it does not take. Refuses to know: criteria, scores.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from agentloop.checks import Check
from agentloop.errors import AgentloopError, RubricError, did_you_mean
from agentloop.records import Json

PLACES = {
    "adds_to": "form",
    "avoids": "form",
    "dates_stand": "form",
    "follows_instructions": "instructions",
    "language": "language",
    "json_schema": "structure",
    "length": "form",
    "maths_equals": "maths",
    "no_pii": "privacy",
    "no_secrets": "privacy",
    "number_equals": "maths",
    "numbers_stand": "form",
    "python_tests": "python",
    "quote_stands": "form",
}
"""Name → module of `agentloop.checks`; imported when it is named."""
OF_CANDIDATE = ("field", "other", "code")
OF_SEED = ("source", "answer")
"""Settings that name a field; others name one as `seed.NAME` or `candidate.NAME`."""
NO_FIELD = {("language", "code")}


def packaged_check(name: str, settings: Json, where: str) -> Check:
    """Return a packaged check made with settings; `where` says who asks for it in errors."""
    if name not in PLACES:
        raise RubricError(f"{where}: unknown check `{name}`{did_you_mean(name, PLACES)}")
    module = importlib.import_module(f"agentloop.checks.{PLACES[name]}")
    make: Callable[..., Any] = getattr(module, name)
    takes = inspect.signature(make).parameters
    for key in settings:
        if key not in takes:
            raise RubricError(f"{where}: check `{name}` has no `{key}`{did_you_mean(key, takes)}")
    listed = [key for key in settings if takes[key].kind is inspect.Parameter.VAR_POSITIONAL]
    for key in listed:
        if not isinstance(settings[key], list | tuple):
            raise RubricError(f"{where}: check `{name}`: `{key}` must be a list")
    named = {key: value for key, value in settings.items() if key not in listed}
    try:
        made: Check = make(*(value for key in listed for value in settings[key]), **named)
    except AgentloopError as error:
        raise RubricError(f"{where}: check `{name}`: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        line = str(error).replace(f"{name}() ", "")
        raise RubricError(f"{where}: check `{name}`: {line}") from error
    return made


def fields_named(name: str, settings: Json) -> list[tuple[str, str]]:
    """Return the fields that a check's settings name: `("seed", "answer")`, `("candidate", "code")`."""
    found = []
    for key, value in settings.items():
        if (name, key) in NO_FIELD:
            continue
        if key == "fields" and isinstance(value, list | tuple):
            found += [("candidate", str(field)) for field in value]
            continue
        where, _, field = value.partition(".") if isinstance(value, str) else ("", "", "")
        if key in OF_CANDIDATE:
            found.append(("candidate", str(value)))
        elif key in OF_SEED:
            found.append(("seed", str(value)))
        elif where in ("seed", "candidate") and field:
            found.append((where, field))
    return found
