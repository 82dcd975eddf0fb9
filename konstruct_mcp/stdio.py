"""The stdio loop, hardened: what a client sends or does must not end it, and what must end it does so at once.

The SDK's `stdio_server` reads and writes the pipe. Between its read stream and the server stands a relay, which

- answers `server/discover` itself until another request has come: the SDK takes the first request as the choice of
  the protocol era, and some clients probe first and then `initialize`;
- answers a line that is no valid message: the SDK drops it, and the client would wait for ever.

SIGTERM, SIGINT and a client that closes our stdout end the process after a bounded clean-up through `os._exit`: the
SDK's reader thread sits in a blocking read, which nothing can wake.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
from anyio.streams.memory import MemoryObjectSendStream
from mcp import types
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from .types import scrubbed

_log = logging.getLogger(__name__)

# A client that has asked a process to end waits a second or two before it kills; the clean-up must fit in that.
_CLEAN_UP_S = 0.5


async def serve_stdio(server: Server[Any], clean_up: Callable[[], Awaitable[None]], kill: Callable[[], None]) -> None:
    """Serve one client over stdin and stdout; returns at the end of its input.

    On SIGTERM or SIGINT, or when the client closes our output, the process ends here with status 0: `clean_up` is
    awaited for half a second at most, then `kill` ends what must not outlive us.
    """

    serving = anyio.CancelScope()

    async def leave(status: int = 0) -> None:
        with anyio.move_on_after(_CLEAN_UP_S, shield=True):
            try:
                await clean_up()
            except Exception:
                _log.exception("while ending")
        exit_now(status)

    def exit_now(status: int) -> None:
        kill()
        logging.shutdown()
        os._exit(status)

    async def leave_on_signal(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                # The calls first: one that saw its connection closed by the clean-up would be tried again.
                serving.cancel()
                await anyio.sleep(_CLEAN_UP_S)
                exit_now(0)  # the clean-up has not come to its end

    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":  # there a process is ended from outside, without a signal to catch
            await tasks.start(leave_on_signal)
        try:
            async with stdio_server() as (incoming, outgoing), anyio.create_task_group() as relaying:
                to_server, from_relay = anyio.create_memory_object_stream[SessionMessage | Exception](0)
                relaying.start_soon(_relay, server, incoming, to_server, outgoing)
                try:
                    with serving:
                        await server.run(from_relay, outgoing, server.create_initialization_options())
                except Exception:
                    _log.exception("the server ended by a defect of its own")
                    await leave(1)
                except BaseException:
                    # The writer met a closed pipe and has cancelled us. Going on would wait for the reader thread,
                    # that is for a client that has stopped listening to say more.
                    await leave()
                if serving.cancel_called:
                    await leave()
        except* OSError:
            _log.info("the client closed the pipe")
        tasks.cancel_scope.cancel()


async def _relay(
    server: Server[Any], incoming: Any, to_server: MemoryObjectSendStream[SessionMessage | Exception], outgoing: Any
) -> None:
    era_is_open = True
    async with to_server:
        async for item in incoming:
            if isinstance(item, Exception):
                item = _repair(item)
            if isinstance(item, SessionMessage):
                message = item.message
                if isinstance(message, types.JSONRPCNotification) and not message.method.startswith("notifications/"):
                    # The SDK reads a request whose id is null, true or fractional as a notification, and drops it.
                    item = _refusal(types.INVALID_REQUEST, "Invalid request: the id must be a string or an integer")
                elif isinstance(message, types.JSONRPCRequest) and era_is_open:
                    if message.method == "server/discover":
                        item = _discovered(server, message)
                    else:
                        era_is_open = False
            if isinstance(item, SessionMessage):
                await to_server.send(item)
            elif item is not None:
                await outgoing.send(SessionMessage(item))


def _repair(error: Exception) -> SessionMessage | types.JSONRPCError | None:
    """The message a refused line was meant to be, or the error it is owed; None for a blank line.

    What can be mended is mended: a lone surrogate (escaped in JSON, it is no valid text) and a byte order mark.
    """
    value = _input(error)
    if isinstance(value, str):
        line = value.lstrip("\ufeff").strip()
        if not line:
            return None
        try:
            value = scrubbed(json.loads(line))
        except (ValueError, RecursionError):
            return _refusal(types.PARSE_ERROR, "Parse error: the line is not JSON")
        try:
            return SessionMessage(types.jsonrpc_message_adapter.validate_python(value, by_name=False))
        except ValidationError:
            pass
    if isinstance(value, list):
        return _refusal(types.INVALID_REQUEST, "Invalid request: batches are not supported, send one message a line")
    request_id = value.get("id") if isinstance(value, dict) else None
    well_formed = isinstance(request_id, str | int) and not isinstance(request_id, bool)
    return _refusal(
        types.INVALID_REQUEST, "Invalid request: not a JSON-RPC 2.0 message", request_id if well_formed else None
    )


def _input(error: Exception) -> Any:
    """What the SDK could not read: the line as text, or the JSON value in it."""
    if not isinstance(error, ValidationError):
        return None
    for detail in error.errors(include_url=False):
        # A place of one step is the whole message, tried as one of its kinds. What misses a part is given whole too.
        if len(detail["loc"]) <= 1 or (detail["type"] == "missing" and len(detail["loc"]) == 2):
            return detail["input"]
    return None


def _refusal(code: int, message: str, request_id: str | int | None = None) -> types.JSONRPCError:
    return types.JSONRPCError(jsonrpc="2.0", id=request_id, error=types.ErrorData(code=code, message=message))


def _discovered(server: Server[Any], request: types.JSONRPCRequest) -> types.JSONRPCResponse | types.JSONRPCError:
    """The answer to a probe, as the SDK would give it, without its choice of an era."""
    meta = (request.params or {}).get("_meta")
    version = meta.get(types.PROTOCOL_VERSION_META_KEY) if isinstance(meta, dict) else None
    supported = list(MODERN_PROTOCOL_VERSIONS)
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
