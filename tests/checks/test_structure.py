"""JSON fields: strictness, schemas, evidence; nothing is fetched."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks import Finding
from agentloop.checks.structure import json_schema
from agentloop.errors import RecipeError
from agentloop.records import Json

ORDER: Json = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "uniqueItems": True,
            "items": {
                "type": "object",
                "properties": {"price": {"type": "number"}},
                "required": ["price"],
                "additionalProperties": False,
            },
        },
        "note": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/stars"}]},
    },
    "$defs": {"stars": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}},
}


def found(value: Any, schema: Json = ORDER) -> Finding:
    return json_schema("order", schema).run({"order": value}, {})


@pytest.mark.parametrize(
    "value",
    [
        '{"items": [{"price": 1}, {"price": 2.5}]}',
        ' {"note": {"n": 3}}\n',
        {"items": [{"price": 1}]},
        "{}",
    ],
)
def test_text_and_values_that_keep_the_schema_pass(value: Any) -> None:
    assert found(value).passed


@pytest.mark.parametrize(
    ("value", "evidence"),
    [
        ("", "`order` is not JSON: it is empty"),
        ("[1, 2", "`order` is not JSON: expecting ',' delimiter at line 1, column 6"),
        ('{"a": 1, "b": 2, "a": 3}', "`order` is not JSON: the key `a` stands twice"),
        ('{"a": NaN}', "`order` is not JSON: `NaN` is no number of JSON's"),
        ("-Infinity", "`order` is not JSON: `-Infinity` is no number of JSON's"),
        ("1e999", "`order` is not JSON: a number is too large"),
        ("9" * 5000, "`order` is not JSON: a number is too large"),
        ("[" * 100_000, "`order` is nested too deeply"),
        ("```json\n{}\n```", "`order` is not JSON: expecting value at line 1, column 1"),
        (
            '{"items": [{"price": "free"}]}',
            "`order` breaks its schema: `$.items[0].price`: \"free\" is not of type 'number'",
        ),
        (
            '{"items": [{}]}',
            "`order` breaks its schema: `$.items[0]`: 'price' is a required property",
        ),
        (
            '{"items": [{"price": 1}, {"price": 1.0}]}',
            "`order` breaks its schema: `$.items`: two of its items are the same",
        ),
        (
            '{"note": {"n": 1}}',
            "`order` breaks its schema: `$.note.n`: 1 is less than the minimum of 3",
        ),
        ([], "`order` breaks its schema: `$`: [] is not of type 'object'"),
    ],
)
def test_evidence_says_where_and_what(value: Any, evidence: str) -> None:
    result = found(value)
    assert not result.passed
    assert result.evidence == evidence


def test_a_missing_field_is_empty() -> None:
    assert json_schema("order", {}).run({}, {}).evidence == "`order` is not JSON: it is empty"


def test_evidence_stays_short_counts_the_rest_and_shows_no_control_characters() -> None:
    many = [{"price": "\x1b\ud800" + "x" * 10**5}] * 90
    evidence = found({"items": [{**item, "n": n} for n, item in enumerate(many)]}).evidence
    assert len(evidence) < 900
    assert evidence.endswith("and at least 47 more")
    assert evidence.isprintable()
    assert found(
        '{"items": [{}, {"price": "a"}, {"price": "b"}, {"price": "c"}]}'
    ).evidence.endswith("; and 1 more")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).filter(lambda value: "Infinity" not in json.dumps(value))


@given(JSON)
def test_all_json_passes_where_nothing_is_asked_and_only_itself_where_it_is(value: Any) -> None:
    text = json.dumps(value)
    assert found(text, {}).passed
    assert found(text, {"const": value}).passed
    assert not found(text, {"not": {"const": value}}).passed


@given(st.text())
def test_any_text_gets_an_answer(text: str) -> None:
    assert found(text).passed in (True, False)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "nope"}, "is wrong at `$.type`"),
        ({"pattern": "("}, "is wrong at `$.pattern`"),
        ({"$schema": "https://example.com/draft"}, "names an unknown draft"),
        ({"$schema": 5}, "names an unknown draft: `5`"),
        ({"$ref": "https://example.com/other.json"}, "refers to `https://example.com/other.json`"),
        ({"properties": {"a": {"$ref": "other.json"}}}, "refers to `other.json`"),
        ({"properties": {"a": {"$ref": "#/$defs/gone"}}}, "nothing is fetched"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"const": object()}, "is not JSON"),
        ({"minimum": float("nan")}, "is not JSON"),
        ([], "must be an object"),
    ],
)
def test_a_wrong_schema_is_said_when_the_check_is_made(schema: Any, says: str) -> None:
    with pytest.raises(RecipeError, match="the schema of `order`") as error:
        json_schema("order", schema)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"$id": "urn:a", "$defs": {"x": {"$anchor": "b", "type": "object"}}, "$ref": "#b"},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"o": {"type": "object"}},
            "allOf": [{"$ref": "#/definitions/o"}],
        },
        {"properties": {"$ref": {"type": "string"}}, "type": "object"},
    ],
)
def test_references_within_and_to_the_drafts_are_followed(schema: Json) -> None:
    assert found("{}", schema).passed
    assert not found("[]", schema).passed


def test_settings_name_the_schema_and_later_changes_to_it_do_nothing() -> None:
    schema = {"type": "string"}
    check = json_schema("order", schema)
    schema["type"] = "number"
    assert check.run({"order": '"text"'}, {}).passed
    assert check.settings == {"field": "order", "schema": {"type": "string"}}
    assert check.hash != json_schema("order", schema).hash


def test_the_library_is_loaded_by_the_first_check_made() -> None:
    code = (
        "import sys; from agentloop.checks.structure import json_schema\n"
        "assert 'jsonschema' not in sys.modules\n"
        "json_schema('a', {}); assert 'jsonschema' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_long_list_of_objects_is_compared_once() -> None:
    items = json.dumps({"items": [{"price": n} for n in range(20_000)]})
    assert found(items).passed
