"""Values as the texts that go out. A large value is made a text beside the event loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import yaml
from mcp import types

from konstruct_mcp.core.errors import InternalError, KonstructError
from konstruct_mcp.core.jsonwriting import JAVASCRIPTS_LEAST_DECIMAL, with_whole_numbers, written
from konstruct_mcp.core.sizes import is_large
from konstruct_mcp.core.threads import in_thread_if_large

_T = TypeVar("_T")
ERROR_META_KEY = "konstruct-mcp/error"


async def beside_if_large(function: Callable[..., _T], value: Any, *args: Any) -> _T:
    """What a function makes of a value; in a thread, if the value is large."""
    return await in_thread_if_large(function, value, *args, is_large=is_large(value))


def result(answer: dict[str, Any], least_decimal: float = JAVASCRIPTS_LEAST_DECIMAL) -> types.CallToolResult:
    """The same object twice: some clients show the model only the structure, others only the text. Numbers of the text
    that are smaller than `least_decimal` have an exponent."""
    text = written(answer, least_decimal)
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=with_whole_numbers(answer)
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
    """Without spaces: an assistant pays for every byte."""
    return written(value)


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
