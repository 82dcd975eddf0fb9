"""JSON schemas as the providers take them."""

from __future__ import annotations

from typing import Any

import pytest

from konstruct_mcp.providers.litellm.formats.json_schemas import (
    closed_schema,
    has_refs,
    object_schema,
    property_names,
    without_titles,
)

NAME = {"type": "string", "minLength": 2}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_objects_are_closed_and_bounds_go_into_the_descriptions() -> None:
    found = closed_schema({**of(name={**NAME, "description": "Whose."}), "$comment": "x", "required": ["name"]})
    assert found == (
        {
            "type": "object",
            "properties": {"name": {"type": "string", "description": "Whose. (minLength: 2)"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        frozenset({"minLength"}),
    )


def test_references_are_kept_and_one_of_is_any_of() -> None:
    place = {"$defs": {"place": of(at={"oneOf": [{"type": "integer"}, {"type": "null"}]})}}
    found = closed_schema({**of(near={"$ref": "#/$defs/place"}), **place})
    assert found is not None
    schema, in_words = found
    assert schema["properties"] == {"near": {"$ref": "#/$defs/place"}}
    assert schema["$defs"]["place"]["properties"] == {"at": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}
    assert not in_words


@pytest.mark.parametrize(
    "schema",
    [
        of(by_name={"type": "object"}),
        {**of(), "additionalProperties": True},
        of(one={"not": {"type": "string"}}),
        of(one={"$ref": "https://example.com/schema"}),
        of(one={"enum": [{}]}),
        of(one=7),
        {"$defs": {"a": of(b={"$ref": "#/$defs/b"}), "b": of(a={"$ref": "#/$defs/a"})}, **of()},
    ],
    ids=["any object", "open keys", "not", "reference outside", "enum of objects", "no schema", "recursive"],
)
def test_what_structured_outputs_cannot_express_is_refused(schema: dict[str, Any]) -> None:
    assert closed_schema(schema) is None


def test_a_definition_that_two_others_refer_to_is_not_recursive() -> None:
    definitions = {"a": of(c={"$ref": "#/$defs/c"}), "b": of(c={"$ref": "#/$defs/c"}), "c": of(name=NAME)}
    assert closed_schema({"$defs": definitions, **of()}) is not None


def test_a_tool_without_parameters_says_that_it_has_none() -> None:
    assert object_schema(None) == {"type": "object", "properties": {}}
    assert object_schema({"anyOf": [{}]}) == {"type": "object", "anyOf": [{}]}


def test_titles_go_and_properties_of_that_name_stay() -> None:
    schema = {"title": "T", **of(title={"type": "string", "title": "T", "enum": [{"title": "kept"}]})}
    assert without_titles(schema) == of(title={"type": "string", "enum": [{"title": "kept"}]})


def test_names_and_references_are_found_at_any_depth() -> None:
    schema = {"items": [of(a={"anyOf": [of(b={"$ref": "#/x"})]})]}
    assert list(property_names(schema)) == ["a", "b"]
    assert has_refs(schema)
    assert not has_refs(of(a={}))
