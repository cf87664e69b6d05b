"""Schemas of payloads: heeded as the standard says, refused when they could not be, checked in a bounded time."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import InvalidInput, InvalidPayload
from sightline.process.schemas import check_payload, check_schema

STEPS = {
    "type": "object",
    "required": ["steps"],
    "properties": {
        "steps": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "properties": {"a/b~c": {"type": "integer", "minimum": 0}}},
        }
    },
    "additionalProperties": False,
}


def refused(payload: Any, schema: dict[str, Any] | bool) -> tuple[str, str]:
    check_schema(schema, "schema")
    with pytest.raises(InvalidPayload) as refusal:
        check_payload(payload, schema)
    return refusal.value.pointer, refusal.value.detail


@pytest.mark.parametrize(
    ("payload", "pointer", "detail"),
    [
        ([], "", "must be object"),
        ({}, "", "must have 'steps'"),
        ({"steps": []}, "/steps", "must have at least 1 elements"),
        ({"steps": [{}, 7]}, "/steps/1", "must be object"),
        ({"steps": [{"a/b~c": -1}]}, "/steps/0/a~1b~0c", "must be at least 0"),
        ({"steps": [{}], "more": 1}, "/more", "is not allowed"),
    ],
)
def test_the_error_points_at_the_value_that_is_wrong(payload: Any, pointer: str, detail: str) -> None:
    assert refused(payload, STEPS) == (pointer, detail)


def test_the_field_of_the_error_is_the_place_in_the_payload() -> None:
    with pytest.raises(InvalidPayload) as refusal:
        check_payload({"steps": [7]}, STEPS)
    assert str(refusal.value) == "payload/steps/0: must be object"


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        (7, "schema"),
        ({"pattern": "(a+)+$"}, "schema/pattern"),
        ({"properties": {"a/b": {"patternProperties": {}}}}, "schema/properties/a~1b/patternProperties"),
        ({"type": "text"}, "schema/type"),
        ({"type": []}, "schema/type"),
        ({"anyOf": []}, "schema/anyOf"),
        ({"anyOf": [True, {"minimum": "1"}]}, "schema/anyOf/1/minimum"),
        ({"minLength": -1}, "schema/minLength"),
        ({"maxItems": 1.5}, "schema/maxItems"),
        ({"required": [1]}, "schema/required"),
        ({"enum": 1}, "schema/enum"),
        ({"uniqueItems": 1}, "schema/uniqueItems"),
        ({"$ref": "#/$defs/missing"}, "schema/$ref"),
        ({"$ref": "http://elsewhere/schema"}, "schema/$ref"),
        ({"items": [True]}, "schema/items"),
    ],
)
def test_what_could_not_be_heeded_is_refused_when_the_schema_comes(schema: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_schema(schema, "schema")
    assert refusal.value.field == field


def test_annotations_are_no_constraints() -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "T", "format": "date", "default": 1}
    check_schema(schema, "schema")
    check_payload("no date", schema)


def test_references_lead_into_the_same_schema_also_in_circles() -> None:
    tree = {
        "$defs": {"tree/~": {"type": "object", "additionalProperties": {"$ref": "#/$defs/tree~1~0"}}},
        "$ref": "#/$defs/tree~1~0",
    }
    check_schema(tree, "schema")
    check_payload({"a": {"b": {}}}, tree)
    assert refused({"a": {"b": 1}}, tree)[0] == "/a/b"
    assert refused([[1]], {"items": {"anyOf": [{"type": "string"}, {"$ref": "#"}]}, "type": "array"})[0] == "/0"


def test_a_schema_that_goes_round_without_end_is_told_of() -> None:
    assert "too long" in refused(1, {"$ref": "#"})[1]
    assert "too long" in refused(1, {"not": {"$ref": "#"}})[1]


def test_a_short_schema_that_means_a_long_one_takes_a_bounded_time() -> None:
    names = [f"d{number}" for number in range(30)]
    bomb: dict[str, Any] = {
        "$defs": {name: {"allOf": [{"$ref": f"#/$defs/{after}"}] * 2} for name, after in pairwise(names)},
        "$ref": "#/$defs/d0",
    }
    bomb["$defs"]["d29"] = True
    began = time.monotonic()
    assert "too long" in refused(1, bomb)[1]
    assert time.monotonic() - began < 5


def test_a_schema_or_a_payload_that_is_nested_without_end_is_refused() -> None:
    deep: Any = True
    value: Any = 1
    for _ in range(500):
        deep = {"not": deep}
        value = [value]
    with pytest.raises(InvalidInput, match="too deeply"):
        check_schema(deep, "schema")
    with pytest.raises(InvalidPayload, match="too long"):
        check_payload(value, {"items": {"$ref": "#"}})


# The standard's own words

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from((0.0, 1.0, 1.5, -2.5))
    | st.sampled_from(("", "a", "bb")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("a", "b", "c")), inner, max_size=3),
    max_leaves=6,
)
counts = st.integers(0, 3)
names = st.sampled_from(("a", "b", "c"))
type_names = st.sampled_from(("null", "boolean", "integer", "number", "string", "array", "object"))
plain = st.fixed_dictionaries(
    {},
    optional={
        "type": type_names | st.lists(type_names, min_size=1, max_size=2, unique=True),
        "const": values,
        "enum": st.lists(values, min_size=1, max_size=3),
        "minimum": st.integers(-2, 2),
        "maximum": st.integers(-2, 2),
        "exclusiveMinimum": st.integers(-2, 2),
        "exclusiveMaximum": st.sampled_from((0, 1.5, 2)),
        "minLength": counts,
        "maxLength": counts,
        "minItems": counts,
        "maxItems": counts,
        "minProperties": counts,
        "maxProperties": counts,
        "uniqueItems": st.booleans(),
        "required": st.lists(names, max_size=2, unique=True),
    },
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=2)
    return plain | st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(names, inner, max_size=2),
            "additionalProperties": inner,
            "items": inner,
            "prefixItems": several,
            "allOf": several,
            "anyOf": several,
            "oneOf": several,
            "not": inner,
            "$ref": st.just("#/$defs/x"),
            "type": type_names,
        },
    )


@settings(max_examples=400, deadline=None)
@given(schema=st.recursive(plain | st.booleans(), nested, max_leaves=6), defined=plain, payload=values)
def test_schemas_mean_what_the_standard_says(schema: Any, defined: dict[str, Any], payload: Any) -> None:
    if isinstance(schema, dict):
        schema = {**schema, "$defs": {"x": defined}}
    check_schema(schema, "schema")
    try:
        check_payload(payload, schema)
        allowed = True
    except InvalidPayload:
        allowed = False
    # References lead to the root's definitions here, as the root is all of the schema.
    assert allowed == jsonschema.Draft202012Validator(schema).is_valid(payload)
