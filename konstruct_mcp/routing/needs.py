"""What a request needs of a deployment."""

from __future__ import annotations

from konstruct_mcp.core.requests import Request
from konstruct_mcp.routing.facts import Needs

_CHARS_PER_TOKEN = 3  # fewer than in any common language, so that the rough count errs on the long side


def needs_of(request: Request) -> Needs:
    """The capabilities and the context window that a request needs."""
    input_tokens = request.text_chars // _CHARS_PER_TOKEN
    return Needs(
        tools=bool(request.tools),
        vision=request.has_images,
        structured_output=request.response_format is not None and request.response_format.type == "json_schema",
        tokens=input_tokens + (request.max_tokens or 0),
        input_tokens=input_tokens,
    )
