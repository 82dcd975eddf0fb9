"""A pydantic model as the form of an answer: the `response_format` that asks for it, and the answer read by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from konstruct_mcp.core.errors import InvalidAnswerError, InvalidArgumentError
from konstruct_mcp.core.results import Completion, ParsedCompletion
from konstruct_mcp.core.text import cut
from konstruct_mcp.core.validation import flaws

_Model = TypeVar("_Model", bound=BaseModel)
_MOST_FLAWS = 8  # that one error names
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_NAME = 64
# Keywords of pydantic's schemas without which a value cannot be said, and that OpenAI's strict mode has no form for.
_NOT_STRICT = frozenset({"allOf", "not", "prefixItems", "patternProperties", "propertyNames", "contains"})
# What strict mode takes as it is, and what says nothing of a value. Other bounds, such as that of a text's length, are
# said in the description: pydantic holds the answer to them all the same.
_TAKEN = frozenset(
    {"type", "title", "description", "enum", "const", "multipleOf", "minimum", "maximum"}
    | {"exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"}
)
_SAY_NOTHING = frozenset(
    {"default", "discriminator", "required", "additionalProperties", "examples", "deprecated", "readOnly", "writeOnly"}
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_UNTAKEN_PATTERN = re.compile(r"\(\?|\\[1-9bB]")  # with lookaround or a back-reference


def response_format_of(model: type[BaseModel]) -> dict[str, Any]:
    """The `response_format` that asks for an answer by this model.

    Its schema is one of OpenAI's strict mode, by which an answer cannot but fit, where the model can be said in it:
    objects are closed, and every field is required. Open objects (`dict`), tuples and `Any` cannot.

    Raises:
        InvalidArgumentError: there is no JSON schema of it, or it is none of an object.
    """
    name = model.__name__
    if model is BaseModel:
        raise InvalidArgumentError("response_format: BaseModel itself has no fields; give a model of your own")
    try:
        schema = model.model_json_schema()
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidArgumentError(f"response_format: {name} has no JSON schema: {cut(reason)}") from None
    if "$ref" in schema:  # a model that refers to itself
        schema = {**_target(schema["$ref"], schema), "$defs": schema["$defs"]}
    if schema.get("type") != "object":
        raise InvalidArgumentError(f"response_format: {name} is no object in JSON; give a model that has it as a field")
    form: dict[str, Any] = {"name": _NOT_IN_A_NAME.sub("_", name)[:_LONGEST_NAME], "schema": schema}
    if _can_be_strict(schema):
        form |= {"schema": _strict(schema, schema, ()), "strict": True}
    return {"type": "json_schema", "json_schema": form}


def parsed_by(model: type[_Model], completion: Completion) -> ParsedCompletion[_Model | None]:
    """The same completion with its answer read by a model; `parsed` is None where the model called tools instead.

    Raises:
        InvalidAnswerError: the answer does not fit. It holds the completion.
    """
    value = None if completion.tool_calls else _read(model, completion)
    fields = {name: getattr(completion, name) for name in Completion.__dataclass_fields__}
    return ParsedCompletion(**fields, parsed=value)


def _read(model: type[_Model], completion: Completion) -> _Model:
    try:
        return model.model_validate_json(completion.content)
    except ValidationError as error:
        lines = [f"{place}: {message}" if place else message for place, message in flaws(error)]
        if (more := len(lines) - _MOST_FLAWS) > 0:
            lines[_MOST_FLAWS:] = [f"and {more} more"]
        raise InvalidAnswerError(_refusal(model, completion, "; ".join(lines)), completion) from None
    except Exception as error:  # a validator of the program's own has failed: what was paid for must not be lost
        reason = f"{type(error).__name__} in one of its validators"
        raise InvalidAnswerError(_refusal(model, completion, reason), completion) from error


def _refusal(model: type[BaseModel], completion: Completion, reason: str) -> str:
    match completion.finish_reason:
        case "length":
            advice = "it was cut off: raise max_tokens"
        case "content_filter":
            advice = "it was held back by a content filter: rephrase the request"
        case _:
            advice = "ask again, or use another group"
    return f"the answer of {completion.model} does not fit {model.__name__}: {reason}; {advice}"


# -- OpenAI's strict mode --------------------------------------------------------------------------------------------


def _target(ref: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definition that pydantic refers to."""
    found: Mapping[str, Any] = root["$defs"][ref.removeprefix("#/$defs/")]
    return found


def _can_be_strict(schema: Any) -> bool:
    """Whether strict mode can say all of a schema."""
    if not isinstance(schema, Mapping):  # true, for anything: a program may write parts of a schema itself
        return False
    if not _NOT_STRICT.isdisjoint(schema):
        return False
    if not {"type", "$ref", "anyOf", "oneOf", "enum", "const"} & schema.keys():  # `Any`
        return False
    if schema.get("type") == "object" and not schema.get("properties"):  # a mapping: its keys are open
        return False
    if isinstance(schema.get("additionalProperties"), Mapping):
        return False
    if schema.get("type") == "array" and "items" not in schema:
        return False
    return all(map(_can_be_strict, _parts(schema)))


def _parts(schema: Mapping[str, Any]) -> list[Any]:
    named = [part for key in ("properties", "$defs") for part in schema.get(key, {}).values()]
    several = [part for key in ("anyOf", "oneOf") for part in schema.get(key, ())]
    return [*named, *several, *([schema["items"]] if "items" in schema else ())]


def _strict(schema: Mapping[str, Any], root: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
    """A schema as strict mode has it: closed objects, each field required, and nothing beside a reference.

    Args:
        within: the references that have been written out around it.
    """
    if (ref := schema.get("$ref")) is not None:
        if len(schema) == 1 or ref in within:
            return {"$ref": ref}
        beside = {key: value for key, value in schema.items() if key not in ("$ref", "default")}
        # A description beside it: the definition is written out.
        return _strict({**_target(ref, root), **beside}, root, (*within, ref)) if beside else {"$ref": ref}
    made: dict[str, Any] = {}
    in_words: list[str] = []
    for key, value in schema.items():
        match key:
            case "properties" | "$defs":
                made[key] = {name: _strict(part, root, within) for name, part in value.items()}
            case "anyOf" | "oneOf":
                made["anyOf"] = [_strict(part, root, within) for part in value]
            case "items":
                made[key] = _strict(value, root, within)
            case "format" if value in _FORMATS:
                made[key] = value
            case "pattern" if not _UNTAKEN_PATTERN.search(value):
                made[key] = value
            case _ if key in _TAKEN:
                made[key] = value
            case _ if key not in _SAY_NOTHING:
                in_words.append(f"{key}: {value}")
    if in_words:
        told = ", ".join(in_words)
        made["description"] = f"{made['description']} ({told})" if "description" in made else told
    if "properties" in made:
        made |= {"required": list(made["properties"]), "additionalProperties": False}
    return made
