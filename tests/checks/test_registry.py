"""The packaged checks by the names that a rubric may give."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from agentloop.checks.registry import PLACES, fields_named, packaged_check
from agentloop.errors import RubricError

SETTINGS: dict[str, dict[str, Any]] = {
    "adds_to": {"field": "answer", "other": "question"},
    "avoids": {"field": "answer", "phrases": ["as an AI"], "why": "say it yourself"},
    "dates_stand": {"field": "answer", "source": "passage"},
    "follows_instructions": {"field": "answer", "constraints": "seed.constraints"},
    "json_schema": {"field": "answer", "schema": {"type": "object"}},
    "language": {"field": "answer", "code": "el"},
    "length": {"field": "answer", "words": [1, 9]},
    "maths_equals": {"field": "answer", "answer": "solution"},
    "no_pii": {"fields": ["answer"]},
    "no_secrets": {},
    "number_equals": {"field": "answer", "answer": "solution"},
    "numbers_stand": {"field": "answer", "source": "passage"},
    "python_tests": {"code": "answer", "tests": "seed.tests"},
    "quote_stands": {"field": "answer", "source": "passage"},
}


@pytest.mark.parametrize("name", PLACES)
def test_every_name_makes_a_check_from_settings_that_yaml_can_hold(name: str) -> None:
    if name == "maths_equals":
        pytest.importorskip("math_verify", reason="needs the `maths` extra")
    made = packaged_check(name, SETTINGS[name], "here")
    assert made.hash
    assert made.hash != packaged_check(name, SETTINGS[name], "here").name


def test_the_list_holds_every_factory() -> None:
    """What is public, returns a Check and stands in a module of the list can be named."""
    for module in {f"agentloop.checks.{place}" for place in PLACES.values()}:
        for name, member in inspect.getmembers(importlib.import_module(module), inspect.isfunction):
            here = member.__module__.startswith(module) and not name.startswith("_")
            if here and member.__annotations__.get("return") == "Check":
                assert name in PLACES


@pytest.mark.parametrize("settings", [{"field": 5}, {"words": [1, 2]}, {"field": "a", "words": 3}])
def test_wrong_settings_name_the_check_in_one_line(settings: dict[str, Any]) -> None:
    with pytest.raises(RubricError, match=r"^here: check `length`") as caught:
        packaged_check("length", settings, "here")
    assert "\n" not in str(caught.value)


def test_fields_are_found_whatever_they_are_called() -> None:
    given = {"code": "solution", "tests": "seed.tests", "answer": "gold", "words": [1, 2]}
    found = fields_named("python_tests", given)
    assert found == [("candidate", "solution"), ("seed", "tests"), ("seed", "gold")]
    assert fields_named("language", {"field": "answer", "code": "el"}) == [("candidate", "answer")]
