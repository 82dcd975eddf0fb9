"""Values as the texts that go out. A large value is made a text beside the event loop."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import yaml
from mcp import types

from konstruct_mcp.core.errors import InternalError, KonstructError
from konstruct_mcp.core.sizes import is_large
from konstruct_mcp.core.threads import in_thread_if_large

_T = TypeVar("_T")
ERROR_META_KEY = "konstruct-mcp/error"


async def beside_if_large(function: Callable[..., _T], value: Any, *args: Any) -> _T:
    """What a function makes of a value; in a thread, if the value is large."""
    return await in_thread_if_large(function, value, *args, is_large=is_large(value))


def result(answer: dict[str, Any]) -> types.CallToolResult:
    """The same object twice: some clients show the model only the structure, others only the text."""
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=as_json(answer))], structured_content=answer
    )


def error_result(error: KonstructError) -> types.CallToolResult:
    """A tool's error, in one line. What of it a program would have to read out of that is in `_meta`: clients hold a
    structured result, even an error's, to the schema of a completion."""
    figures = {name: getattr(error, name) for name in error.figures}
    meta = {ERROR_META_KEY: {"code": error.code, **figures}} if figures else None
    return types.CallToolResult(content=[types.TextContent(type="text", text=str(error))], is_error=True, _meta=meta)


def defect() -> InternalError:
    """What a client is told of an exception that nobody has foreseen, which is logged."""
    return InternalError("a defect in konstruct_mcp; its log has the details")


def document(text: str, uri: str, mime_type: str) -> types.ReadResourceResult:
    """What a resource holds."""
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)])


def as_json(value: Any) -> str:
    """A value as JavaScript writes it, without spaces: an assistant pays for every byte, and a client that compares the
    text of a result with what it makes of the structure shows both where they differ."""
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_PLAIN(str(key))}:{as_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(as_json, value)) + "]"
    return _PLAIN(value)


_PLAIN = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode
_LEAST_DECIMAL, _MOST_DECIMAL = 1e-6, 1e21  # between these JavaScript writes no exponent


def _number(value: float) -> str:
    """The shortest text of a finite number, as ECMAScript (and RFC 8785) have it: `0`, `0.000025`, `1e-7`."""
    if value == 0:
        return "0"
    if _LEAST_DECIMAL <= abs(value) < _MOST_DECIMAL:
        text = f"{Decimal(repr(value)):f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return re.sub(r"(?<=e[+-])0+|\.0(?=e)", "", repr(value))


def as_yaml(value: Any) -> str:
    text: str = yaml.safe_dump(_with_plain_containers(value), sort_keys=False, allow_unicode=True)
    return text


def _with_plain_containers(value: Any) -> Any:
    """Frozen mappings and tuples as the dicts and lists that a YAML writer knows."""
    if isinstance(value, Mapping):
        return {key: _with_plain_containers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_plain_containers(item) for item in value]
    return value
