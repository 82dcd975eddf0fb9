"""Lines into messages, and messages into lines.

This is the edge at which text is made valid Unicode: once on the way in, so that nothing behind it meets a lone
surrogate, and once on the way out, where one from elsewhere (a model's answer can hold one) could not be encoded.
"""

from __future__ import annotations

import codecs
import json
import logging
from typing import Any

from mcp import types
from mcp.server import Server
from mcp.types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from konstruct_mcp.core import jsontext
from konstruct_mcp.core.sizes import extent
from konstruct_mcp.core.text import scrubbed
from konstruct_mcp.transports.stdio.pipes import LONGEST_LINE

_log = logging.getLogger(__name__)

LONG_LINE = 250_000  # bytes: it takes some milliseconds to read
_LONGEST_OTHER = 1_000_000  # bytes, of a message without the arguments of a tool: an icon, a path, a token
_LONGEST_ID = 100_000  # characters: it is written into each answer and each report of progress
_DEEPEST = 256  # levels of a message: what is made of it is gone through by recursion
_STEP = 1 << 20  # bytes that are decoded at once

# -- in --------------------------------------------------------------------------------------------------------------


def read_message(line: bytes) -> types.JSONRPCRequest | types.JSONRPCNotification | types.JSONRPCError | None:
    """The message on a line, or the error that answers it; None where it is owed no answer.

    Lone surrogates, bytes that are not UTF-8 and a byte order mark are mended.
    """
    if len(line) > LONGEST_LINE:
        return refusal(types.PARSE_ERROR, f"Parse error: the line is longer than {LONGEST_LINE:,} bytes")
    text = _decoded(line).lstrip("\ufeff").strip()
    if not text:
        return None
    try:
        value, excess = _parsed(text)
    except ValueError:
        return refusal(types.PARSE_ERROR, "Parse error: the line is not JSON")
    if isinstance(value, list):
        return refusal(types.INVALID_REQUEST, "Invalid request: batches are not supported, send one message a line")
    if not isinstance(value, dict):
        return refusal(types.INVALID_REQUEST, "Invalid request: not a JSON-RPC 2.0 message")
    if "method" not in value and ("result" in value or "error" in value):
        return None  # an answer, though nothing was asked
    request_id = value.get("id")
    if not isinstance(request_id, str | int) or isinstance(request_id, bool):
        request_id = None
    if isinstance(request_id, str) and len(request_id) > _LONGEST_ID:
        return refusal(types.INVALID_REQUEST, f"Invalid request: the id is longer than {_LONGEST_ID:,} characters")
    if excess:
        return refusal(types.INVALID_REQUEST, f"Invalid request: {excess}", request_id)
    if len(line) > _LONGEST_OTHER and _long_beside(value) > _LONGEST_OTHER:
        what = f"more than {_LONGEST_OTHER:,} characters beside the arguments of a tool"
        return refusal(types.INVALID_REQUEST, f"Invalid request: {what}", request_id)
    try:
        if "id" in value:
            return types.JSONRPCRequest.model_validate(value)
        return types.JSONRPCNotification.model_validate(value)
    except ValidationError:
        return refusal(types.INVALID_REQUEST, "Invalid request: not a JSON-RPC 2.0 message", request_id)


def _decoded(line: bytes) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pieces = [decoder.decode(line[at : at + _STEP]) for at in range(0, len(line), _STEP)]
    return "".join((*pieces, decoder.decode(b"", final=True)))


def _parsed(text: str) -> tuple[Any, str]:
    """The value of a JSON text, and what there is too much of in it: then only its outermost object is whole."""
    excess = ""
    try:
        if len(text) > LONG_LINE:
            value, excess = jsontext.read(text, jsontext.MOST_VALUES, _DEEPEST)
        else:
            value = jsontext.read_at_once(text)
        return (scrubbed(value) if "\\u" in text else value), excess  # only an escape can spell a lone surrogate
    except RecursionError:
        return jsontext.read(text, jsontext.MOST_VALUES, _DEEPEST)


def _long_beside(message: dict[str, Any]) -> int:
    """How many characters a message has beside the arguments of the tool that it calls."""
    params = message.get("params")
    if message.get("method") == "tools/call" and isinstance(params, dict):
        message = message | {"params": {**params, "arguments": None}}
    return extent(message)[1]


def refusal(code: int, message: str, request_id: str | int | None = None) -> types.JSONRPCError:
    """The error that answers a message."""
    return types.JSONRPCError(jsonrpc="2.0", id=request_id, error=types.ErrorData(code=code, message=message))


def answer_discover(server: Server[Any], request: types.JSONRPCRequest) -> types.JSONRPCResponse | types.JSONRPCError:
    """The answer to `server/discover` as the SDK would give it, without the SDK's choice of a protocol era."""
    meta = (request.params or {}).get("_meta")
    version = meta.get(types.PROTOCOL_VERSION_META_KEY) if isinstance(meta, dict) else None
    supported = list(MODERN_PROTOCOL_VERSIONS)
    if version is not None and not isinstance(version, str):
        return refusal(types.INVALID_PARAMS, "the protocol version should be a string", request.id)
    if version is not None and version not in supported:
        error = types.ErrorData(
            code=types.UNSUPPORTED_PROTOCOL_VERSION,
            message="Unsupported protocol version",
            data={"supported": supported, "requested": version},
        )
        return types.JSONRPCError(jsonrpc="2.0", id=request.id, error=error)
    result = types.DiscoverResult(
        supported_versions=supported,
        capabilities=server.get_capabilities(protocol_version=LATEST_MODERN_VERSION),
        instructions=server.instructions,
    ).model_dump(by_alias=True, mode="json", exclude_none=True)
    result["_meta"] = {types.SERVER_INFO_META_KEY: server.server_info_stamp}
    return types.JSONRPCResponse(jsonrpc="2.0", id=request.id, result=result)


# -- out -------------------------------------------------------------------------------------------------------------


def write_message(message: types.JSONRPCMessage, *, is_long: bool = False) -> bytes:
    """The line of a message. Lone surrogates are mended, and an answer that cannot be JSON becomes an error.

    Args:
        is_long: whether it is encoded in steps, between which another thread can go on.
    """
    try:
        return _line(message, is_long=is_long)
    except ValueError:
        pass
    try:
        mended = type(message).model_validate(scrubbed(message.model_dump(exclude_unset=True)))
        return _line(mended, is_long=is_long)
    except (ValueError, RecursionError):
        _log.exception("a message that cannot be written as JSON")
    if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
        return _line(refusal(types.INTERNAL_ERROR, "internal: the answer cannot be written as JSON", message.id))
    return b""


def _line(message: types.JSONRPCMessage, *, is_long: bool = False) -> bytes:
    if is_long:
        text = "".join(_encoder.iterencode(message.model_dump(by_alias=True, exclude_unset=True)))
        return text.encode() + b"\n"
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
