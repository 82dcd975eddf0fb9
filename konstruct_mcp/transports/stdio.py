"""The stdio loop: what a client sends or does must not end it, and what must end it does so at once.

It stands where the SDK's `stdio_server` would. What comes in:

- A line is a message. One that is none is answered with an error, under its id if it has one: dropped, as by the SDK,
  it would leave the client waiting for ever. What can be mended is mended.
- A long one is read beside the loop, while shorter ones behind it are taken.
- `server/discover` is answered here until another request has come: the SDK takes the first request as the choice of
  the protocol era, and some clients probe first and then `initialize`.

What goes out:

- Handlers hand over what they have to say and are done. It is kept as the bytes of its line, in order, and written
  while we read on: a client may send all it has before it reads.
- What is kept is bounded, and so are the requests under way. Beyond that nothing is read until the client has taken
  something, or a request has ended. Calls of tools are not counted: they last, and `Konstruct` bounds them.
- What cannot be encoded is mended, or replaced by an error.

How it ends:

- At the end of input, calls under way are broken off, and what is left goes out as long as the client takes it.
- SIGTERM, SIGINT and a client that closes our output, or dies, break off the calls and end the process after a bounded
  clean-up through `os._exit`: a thread may sit in a blocking read or write, which nothing can wake. The output is
  watched, so that this is not left to the next write.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import select
import signal
import stat
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.abc
from anyio.streams.memory import MemoryObjectSendStream
from mcp import types
from mcp.server import Server
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.message import SessionMessage
from mcp.types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from konstruct_mcp.core import jsontext
from konstruct_mcp.core.sizes import extent, is_large
from konstruct_mcp.core.text import scrubbed
from konstruct_mcp.core.threads import in_thread

_log = logging.getLogger(__name__)

# A client that has asked a process to end waits a second or two before it kills; the clean-up must fit in that.
_CLEAN_UP_S = 0.5
_STALLED_S = 1.0  # after the end of input, a client that takes nothing for so long is not going to
_CHUNK = 1 << 16  # bytes, what a pipe holds
_AT_ONCE = 4096  # bytes: a pipe that takes anything takes so many without waiting (PIPE_BUF, pipe(7))
_READABLE, _HUNG_UP = getattr(select, "POLLIN", 0), getattr(select, "POLLHUP", 0)  # 0 where there is no `poll`
_LONGEST_LINE = 100_000_000  # bytes: more than any provider accepts; a line that never ends must not fill the memory
_LONG_LINE = 250_000  # bytes: it takes some milliseconds to read
_LONGEST_OTHER = 1_000_000  # bytes, of a message without the arguments of a tool: an icon, a path, a token
_LONGEST_ID = 100_000  # characters: it is written into each answer and each report of progress
_MOST_READ = 200_000_000  # bytes of long lines that are being read
_DEEPEST = 256  # levels of a message: what is made of it is gone through by recursion
_STEP = 1 << 20  # bytes that are decoded at once
_MOST_UNSENT = 64_000_000  # bytes: ten thousand lists of groups, asked for before the first is read
_MOST_CALLS, _MOST_HELD = 1000, 16_000_000  # calls of tools that wait until what has come with them is handed over
_MOST_UNDER_WAY = 100  # requests: they end within milliseconds, or wait for the database, which would not serve more

# Not counted among them: completions last for minutes, and `Konstruct` bounds them; a subscription lasts until its
# client ends it, and the SDK bounds those.
_LASTING = ("tools/call", "subscriptions/listen")


async def serve_stdio(server: Server[Any], clean_up: Callable[[], Awaitable[None]], kill: Callable[[], None]) -> None:
    """Serve one client over stdin and stdout; returns at the end of its input.

    On SIGTERM or SIGINT, or when the client closes our output or reads no more after the end of its input, the process
    ends here with status 0: `clean_up` is awaited for half a second at most, then `kill` ends what must not outlive us.
    """

    incoming, outgoing = _claimed()
    outbox = _Outbox(outgoing)
    server.middleware.append(outbox.count)
    serving = anyio.CancelScope()
    all_is_sent = False

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

    async def stop() -> None:
        # The calls first: one that saw its connection closed by the clean-up would be tried again.
        serving.cancel()
        await anyio.sleep(_CLEAN_UP_S)
        exit_now(0)  # the clean-up has not come to its end

    async def stop_on_signal(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                await stop()

    async def stop_on_hang_up() -> None:
        await _hung_up(outgoing)
        _log.info("the client closed the pipe")
        await stop()

    async def write() -> None:
        try:
            await outbox.write()
        except OSError:
            _log.info("the client closed the pipe")
            await stop()

    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":  # there a process is ended from outside, without a signal to catch
            await tasks.start(stop_on_signal)
            tasks.start_soon(stop_on_hang_up)
        tasks.start_soon(write)
        to_server, from_relay = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        tasks.start_soon(_Relay(server, incoming, to_server, outbox).run)
        try:
            with serving:
                await server.run(from_relay, outbox, server.create_initialization_options())
                all_is_sent = await outbox.emptied()
        except Exception:
            _log.exception("the server ended by a defect of its own")
            await leave(1)
        if not all_is_sent:
            await leave()
        tasks.cancel_scope.cancel()


def _claimed() -> tuple[int, int]:
    """The client's pipes, for us alone. Whatever else reads from stdin meets its end, and what it prints goes to
    stderr."""
    pipes = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return pipes


async def _hung_up(output: int) -> None:
    """Return once nobody can read any more what we write."""
    with suppress(OSError):  # a file cannot be watched, and nobody closes it
        while True:
            await anyio.wait_readable(output)
            if _polled(output, 0):
                return
            # A socket on which something was sent to us, where nothing should be. It stays readable.
            await anyio.sleep(_STALLED_S)
    await anyio.sleep_forever()


# -- out -------------------------------------------------------------------------------------------------------------


class _Outbox:
    """What the client has yet to get: lines to be written, and requests to be answered.

    It is the write stream of `Server.run`, and one of the server's middlewares.
    """

    def __init__(self, output: int) -> None:
        self._output = output
        self._is_pipe = _is_pipe(output)
        self._unsent = bytearray()
        self._is_writing = False
        self._under_way = 0
        self._is_ending = False
        self._handed_over = anyio.Event()
        self._moved = anyio.Event()

    async def send(self, item: SessionMessage) -> None:
        """Hand over a message, and wait while there are too many: in this order, so that none overtakes another."""
        message = item.message
        if isinstance(message, types.JSONRPCResponse) and is_large(message.result):
            self._put(await in_thread(_encoded, message, True))
        else:
            self.put(message)
        while len(self._unsent) > _MOST_UNSENT and not self._is_ending:
            await self._moved.wait()

    def put(self, message: types.JSONRPCMessage) -> None:
        """Hand over a message, and do not wait."""
        self._put(_encoded(message))

    def _put(self, line: bytes) -> None:
        self._unsent += line
        if not self._write_at_once():
            self._handed_over.set()

    async def count(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None or ctx.method in _LASTING:
            return await call_next(ctx)
        self._under_way += 1
        try:
            return await call_next(ctx)
        finally:
            self._under_way -= 1
            self._move()

    async def write(self) -> None:
        """Write what is handed over, for ever.

        Raises:
            OSError: the client has closed the pipe.
        """
        while True:
            while not self._unsent:
                self._handed_over = anyio.Event()
                await self._handed_over.wait()
            chunk = bytes(self._unsent[:_CHUNK])
            self._is_writing = True
            try:
                written = await anyio.to_thread.run_sync(os.write, self._output, chunk, abandon_on_cancel=True)
            except BlockingIOError:  # whoever made the pipe does not want to wait for it
                await anyio.wait_writable(self._output)
                continue
            finally:
                self._is_writing = False
            del self._unsent[:written]
            self._move()

    def _write_at_once(self) -> bool:
        """Write without a thread what a pipe takes without waiting; whether that was all."""
        waits = self._is_writing or not self._is_pipe or len(self._unsent) > _AT_ONCE
        if waits or not _is_ready(self._output, select.POLLOUT):
            return False
        try:
            written = os.write(self._output, self._unsent)
        except OSError:  # which `write` meets too, and says
            return False
        del self._unsent[:written]
        self._move()
        return not self._unsent

    async def has_room(self) -> bool:
        """Wait until more may be asked for; False if nothing moves."""
        while not self.is_open:
            if not await self._moves():
                return False
        return True

    @property
    def is_open(self) -> bool:
        """Whether there is room now."""
        return len(self._unsent) <= _MOST_UNSENT and self._under_way < _MOST_UNDER_WAY

    async def emptied(self) -> bool:
        """Wait until everything is written; False if nothing moves."""
        while self._unsent:
            if not await self._moves():
                return False
        return True

    def end(self) -> None:
        """Nobody waits any more to hand something over."""
        self._is_ending = True
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    async def _moves(self) -> bool:
        with anyio.move_on_after(_STALLED_S) as waiting:
            await self._moved.wait()
        return not waiting.cancelled_caught

    async def aclose(self) -> None:
        """The server has ended. What it has handed over goes out all the same."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _encoded(message: types.JSONRPCMessage, is_long: bool = False) -> bytes:
    """The line of a message. A lone surrogate in it is mended; an answer that is no JSON at all becomes an error."""
    try:
        return _line(message, is_long)
    except ValueError:
        pass
    try:
        return _line(type(message).model_validate(scrubbed(message.model_dump(exclude_unset=True))), is_long)
    except (ValueError, RecursionError):
        _log.exception("a message that cannot be written as JSON")
    if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
        return _line(_refusal(types.INTERNAL_ERROR, "internal: the answer cannot be written as JSON", message.id))
    return b""


def _line(message: types.JSONRPCMessage, is_long: bool = False) -> bytes:
    if is_long:
        # In steps, between which the loop can go on.
        text = "".join(_encoder.iterencode(message.model_dump(by_alias=True, exclude_unset=True)))
        return text.encode() + b"\n"
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


# -- in --------------------------------------------------------------------------------------------------------------


class _Relay:
    """Hands over to the server what comes in. Calls of tools come after all else that has come with them: what is asked
    beside five hundred of them, or takes one back, does not wait for the work that they make."""

    def __init__(
        self,
        server: Server[Any],
        incoming: int,
        to_server: MemoryObjectSendStream[SessionMessage | Exception],
        outbox: _Outbox,
    ) -> None:
        self._server = server
        self._incoming = incoming
        self._to_server = to_server
        self._outbox = outbox
        self._era_is_open = True
        self._calls: deque[tuple[types.JSONRPCRequest, int]] = deque()  # with the bytes of their lines
        self._held = 0  # bytes, of them all
        self._read = 0  # bytes of long lines that are being read
        self._read_on = anyio.Event()
        self._taken_back: set[str] = set()  # what has been cancelled meanwhile

    async def run(self) -> None:
        with suppress(anyio.BrokenResourceError):  # the server has ended
            async with self._to_server, anyio.create_task_group() as reading:
                async for line in _lines(self._incoming):
                    if line is not None and len(line) > _LONG_LINE:
                        self._read += len(line)
                        reading.start_soon(self._take_long, line)
                    elif line is not None:
                        await self._take(_read(line), len(line))
                    is_idle = line is None and not _is_ready(self._incoming)
                    while self._calls and (is_idle or self._is_full() or not self._outbox.is_open):
                        await self._hand_over_call()
                        is_idle = is_idle and not _is_ready(self._incoming)
                    if not await self._may_go_on():
                        break
                while self._calls:
                    await self._hand_over_call()
        self._outbox.end()

    async def _take_long(self, line: bytes) -> None:
        item = await in_thread(_read, line)
        if not (isinstance(item, types.JSONRPCRequest) and str(item.id) in self._taken_back):
            with suppress(anyio.BrokenResourceError):
                await self._take(item, len(line), is_late=True)
        self._read -= len(line)
        if not self._read:
            self._taken_back.clear()
        self._read_on.set()
        self._read_on = anyio.Event()

    async def _take(self, item: types.JSONRPCMessage | None, size: int, *, is_late: bool = False) -> None:
        is_first = isinstance(item, types.JSONRPCRequest) and self._era_is_open
        if isinstance(item, types.JSONRPCRequest) and is_first:
            if item.method == "server/discover":
                item = _discovered(self._server, item)
            else:
                self._era_is_open = False
        if isinstance(item, types.JSONRPCRequest) and item.method == "tools/call" and not (is_first or is_late):
            self._calls.append((item, size))
            self._held += size
        elif isinstance(item, types.JSONRPCRequest | types.JSONRPCNotification):
            if item.method == "notifications/cancelled":
                self._take_back(str((item.params or {}).get("requestId")))
            await self._to_server.send(SessionMessage(item))
        elif item is not None:
            self._outbox.put(item)

    async def _hand_over_call(self) -> None:
        call, size = self._calls.popleft()
        self._held -= size
        await self._to_server.send(SessionMessage(call))

    def _take_back(self, request_id: str) -> None:
        """A call that is cancelled before it was handed over never is, and is owed no answer."""
        if self._read:
            self._taken_back.add(request_id)
        for index, (call, size) in enumerate(self._calls):
            if str(call.id) == request_id:
                del self._calls[index]
                self._held -= size
                return

    def _is_full(self) -> bool:
        return len(self._calls) > _MOST_CALLS or self._held > _MOST_HELD

    async def _may_go_on(self) -> bool:
        """Wait until there is room for more; False if the input has ended, behind lines that nobody waits for."""
        while self._read > _MOST_READ:
            await self._read_on.wait()
        while not await self._outbox.has_room():
            if _is_closed(self._incoming):
                return False
        return True


async def _lines(descriptor: int) -> AsyncIterator[bytes | None]:
    """What comes in, line by line; of one that is too long, its beginning. None before it waits for more."""
    line, is_pipe = bytearray(), _is_pipe(descriptor)
    while True:
        if not _is_ready(descriptor):
            yield None
        if not (chunk := await _chunk(descriptor, is_pipe=is_pipe)):
            break
        first, *others = chunk.split(b"\n")
        line += first[: _LONGEST_LINE + 1 - len(line)]
        for other in others:
            yield bytes(line)
            line = bytearray(other)
    yield bytes(line)


async def _chunk(descriptor: int, *, is_pipe: bool) -> bytes:
    """Some bytes; none at the end."""
    while True:
        try:
            if _is_ready(descriptor):
                return os.read(descriptor, _CHUNK)
            if is_pipe:
                await anyio.wait_readable(descriptor)
                continue
            return await anyio.to_thread.run_sync(os.read, descriptor, _CHUNK, abandon_on_cancel=True)
        except BlockingIOError:
            await anyio.wait_readable(descriptor)
        except OSError:  # a terminal that was closed, a socket that was reset
            return b""


def _is_pipe(descriptor: int) -> bool:
    """Whether it is one that says when it can be used, and keeps that word: a thread that waits in our place costs as
    much as a quarter of all else that is done for a call."""
    return sys.platform == "linux" and stat.S_ISFIFO(os.fstat(descriptor).st_mode)


def _is_ready(descriptor: int, event: int = _READABLE) -> bool:
    """Whether there is something to read, or room to write."""
    return bool(_polled(descriptor, event) & (event | _HUNG_UP))


def _is_closed(incoming: int) -> bool:
    """Whether nobody can send any more, though there may be something to read."""
    return bool(
        _polled(incoming, getattr(select, "POLLRDHUP", 0))
    )  # half of a socket can be closed; Linux alone says so


def _polled(descriptor: int, event: int) -> int:
    """Which of these events, and of those that nobody has to ask for, have come; none where that cannot be told."""
    if sys.platform == "win32":
        return 0
    watch = select.poll()
    watch.register(descriptor, event)
    return next((found for _, found in watch.poll(0)), 0)


def _read(line: bytes) -> types.JSONRPCRequest | types.JSONRPCNotification | types.JSONRPCError | None:
    """The message in a line, or the error it is owed; None for what is owed nothing.

    Mended are a lone surrogate (escaped in JSON, it is no valid text), bytes that are no text, and a byte order mark.
    """
    if len(line) > _LONGEST_LINE:
        return _refusal(types.PARSE_ERROR, f"Parse error: the line is longer than {_LONGEST_LINE:,} bytes")
    text = _decoded(line).lstrip("\ufeff").strip()
    if not text:
        return None
    try:
        value, excess = _parsed(text)
    except ValueError:
        return _refusal(types.PARSE_ERROR, "Parse error: the line is not JSON")
    if isinstance(value, list):
        return _refusal(types.INVALID_REQUEST, "Invalid request: batches are not supported, send one message a line")
    if not isinstance(value, dict):
        return _refusal(types.INVALID_REQUEST, "Invalid request: not a JSON-RPC 2.0 message")
    if "method" not in value and ("result" in value or "error" in value):
        return None  # an answer, though nothing was asked
    request_id = value.get("id")
    if not isinstance(request_id, str | int) or isinstance(request_id, bool):
        request_id = None
    if isinstance(request_id, str) and len(request_id) > _LONGEST_ID:
        return _refusal(types.INVALID_REQUEST, f"Invalid request: the id is longer than {_LONGEST_ID:,} characters")
    if excess:
        return _refusal(types.INVALID_REQUEST, f"Invalid request: {excess}", request_id)
    if len(line) > _LONGEST_OTHER and _long_beside(value) > _LONGEST_OTHER:
        what = f"more than {_LONGEST_OTHER:,} characters beside the arguments of a tool"
        return _refusal(types.INVALID_REQUEST, f"Invalid request: {what}", request_id)
    try:
        if "id" in value:
            return types.JSONRPCRequest.model_validate(value)
        return types.JSONRPCNotification.model_validate(value)
    except ValidationError:
        return _refusal(types.INVALID_REQUEST, "Invalid request: not a JSON-RPC 2.0 message", request_id)


def _decoded(line: bytes) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pieces = [decoder.decode(line[at : at + _STEP]) for at in range(0, len(line), _STEP)]
    return "".join((*pieces, decoder.decode(b"", final=True)))


def _parsed(text: str) -> tuple[Any, str]:
    """What the text says, and what there is too much of in it: then only its outermost object is whole."""
    excess = ""
    try:
        if len(text) > _LONG_LINE:
            value, excess = jsontext.read(text, jsontext.MOST_VALUES, _DEEPEST)
        else:
            value = jsontext.read_at_once(text)
        return (scrubbed(value) if "\\u" in text else value), excess  # nothing else can stand for a lone surrogate
    except RecursionError:
        return jsontext.read(text, jsontext.MOST_VALUES, _DEEPEST)


def _long_beside(message: dict[str, Any]) -> int:
    """How many characters a message has beside the arguments of the tool that it calls."""
    params = message.get("params")
    if message.get("method") == "tools/call" and isinstance(params, dict):
        message = message | {"params": {**params, "arguments": None}}
    return extent(message)[1]


def _refusal(code: int, message: str, request_id: str | int | None = None) -> types.JSONRPCError:
    return types.JSONRPCError(jsonrpc="2.0", id=request_id, error=types.ErrorData(code=code, message=message))


def _discovered(server: Server[Any], request: types.JSONRPCRequest) -> types.JSONRPCResponse | types.JSONRPCError:
    """The answer to a probe, as the SDK would give it, without its choice of an era."""
    meta = (request.params or {}).get("_meta")
    version = meta.get(types.PROTOCOL_VERSION_META_KEY) if isinstance(meta, dict) else None
    supported = list(MODERN_PROTOCOL_VERSIONS)
    if version is not None and not isinstance(version, str):
        return _refusal(types.INVALID_PARAMS, "the protocol version should be a string", request.id)
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
