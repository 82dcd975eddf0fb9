"""JSON schemas as the providers take them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# Keywords that Anthropic's structured outputs take as they are. Those that say nothing of the value are left out, any
# other is written into the description of the value.
_SUPPORTED = frozenset(
    {"type", "enum", "const", "title", "description", "default", "format", "pattern", "required", "minItems"}
)
_WITHOUT_EFFECT = frozenset(
    {"$schema", "$id", "$comment", "$anchor", "examples", "deprecated", "readOnly", "writeOnly"}
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_UNSUPPORTED = frozenset(
    {"not", "if", "then", "else", "patternProperties", "prefixItems", "dependentSchemas", "unevaluatedProperties"}
    | {"$dynamicRef", "$recursiveRef", "contains"}
)
_UNSUPPORTED_PATTERN = re.compile(r"\(\?|\\[1-9bB]")  # with lookaround or a back-reference
_COMBINED = frozenset({"$ref", "anyOf", "oneOf", "allOf"})


def has_refs(schema: Any) -> bool:
    """Whether a schema refers to a part of itself."""
    if isinstance(schema, Mapping):
        return "$ref" in schema or any(map(has_refs, schema.values()))
    return isinstance(schema, list) and any(map(has_refs, schema))


def object_schema(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """The parameters of a tool with what is implied in them: Bedrock wants `type: object` to be said, and OpenAI the
    properties, even if there are none."""
    made = {"type": "object", **(schema or {})}
    if made["type"] != "object" or not _COMBINED.isdisjoint(made) or isinstance(made.get("properties"), Mapping):
        return made
    return {**made, "properties": {}}


def property_names(schema: Any) -> Iterator[str]:
    """The names of the properties of all objects in a schema, at any depth."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "properties" and isinstance(value, Mapping):
                yield from value
            yield from property_names(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from property_names(value)


def without_titles(schema: Any) -> Any:
    """A schema without titles, which some Geminis take for something to call."""
    if isinstance(schema, list):
        return [without_titles(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: {name: without_titles(part) for name, part in value.items()}
        if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping)
        else value
        if key in ("enum", "const", "default", "examples")
        else without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


class _UnsupportedSchemaError(Exception):
    pass


def closed_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]] | None:
    """A schema as Anthropic's structured outputs take it: objects are closed, references are kept, and bounds of values
    go into the descriptions.

    Returns:
        The schema, and the keywords that are in descriptions now. None for a schema that structured outputs cannot
        express: a recursive one, or one with objects whose keys are open.
    """
    in_words: set[str] = set()
    try:
        if _is_recursive(schema):
            return None
        return _closed_part(schema, in_words), frozenset(in_words)
    except (_UnsupportedSchemaError, AttributeError, TypeError, RecursionError):  # the last three: this is no schema
        return None


def _closed_part(schema: Any, in_words: set[str]) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or not _UNSUPPORTED.isdisjoint(schema):
        raise _UnsupportedSchemaError
    made: dict[str, Any] = {}
    words: dict[str, Any] = {}
    for key, value in schema.items():
        match key:
            case "$ref":
                if not isinstance(value, str) or not value.startswith(("#/$defs/", "#/definitions/")):
                    raise _UnsupportedSchemaError
                made[key] = value
            case "$defs" | "definitions" | "properties":
                made[key] = {name: _closed_part(part, in_words) for name, part in value.items()}
            case "items":
                made[key] = _closed_part(value, in_words)
            case "anyOf" | "oneOf" | "allOf":
                made["allOf" if key == "allOf" else "anyOf"] = [_closed_part(part, in_words) for part in value]
            case "additionalProperties":
                if value is not False:
                    raise _UnsupportedSchemaError
            case "enum" if any(isinstance(one, dict | list) for one in value):
                raise _UnsupportedSchemaError
            case "format" if value not in _FORMATS:
                words[key] = value
            case "pattern" if _UNSUPPORTED_PATTERN.search(value):
                words[key] = value
            case "minItems" if value not in (0, 1):
                words[key] = value
            case _ if key in _SUPPORTED:
                made[key] = value
            case _ if key not in _WITHOUT_EFFECT:
                words[key] = value
    if schema.get("type") == "object" or "properties" in schema:
        if "properties" not in schema:  # any object, whose keys are open
            raise _UnsupportedSchemaError
        made["additionalProperties"] = False
    if words:
        in_words.update(words)
        said, told = made.get("description"), ", ".join(f"{key}: {value}" for key, value in words.items())
        made["description"] = f"{said} ({told})" if said else told
    return made


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether one of the schema's definitions refers to itself, directly or through others."""
    definitions = {
        f"#/{home}/{name}": part for home in ("$defs", "definitions") for name, part in (schema.get(home) or {}).items()
    }
    behind = {ref: set(_refs(part)) for ref, part in definitions.items()}
    done: set[str] = set()
    under_way: set[str] = set()
    for start in behind:
        ahead = [(start, iter(behind[start]))]
        if start in done:
            continue
        under_way.add(start)
        while ahead:
            ref, further = ahead[-1]
            step = next(further, None)
            if step is None:
                ahead.pop()
                under_way.discard(ref)
                done.add(ref)
            elif step in under_way:
                return True
            elif step in behind and step not in done:
                under_way.add(step)
                ahead.append((step, iter(behind[step])))
    return False


def _refs(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(ref := part.get("$ref"), str):
            yield ref
        for value in part.values():
            yield from _refs(value)
    elif isinstance(part, list):
        for value in part:
            yield from _refs(value)
