"""What the client has yet to get: lines to be written, and requests to be answered.

- A handler hands over what it has to say and goes on. It is kept as the bytes of its line, in order, and written while
  we read on: a client may send all it has before it reads.
- What is kept is bounded, and so are the requests under way. Beyond that nothing is read until the client has taken
  something, or a request has ended.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread
from mcp import types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.message import SessionMessage

from konstruct_mcp.core.sizes import is_large
from konstruct_mcp.core.threads import in_thread
from konstruct_mcp.transports.stdio.jsonrpc import write_message
from konstruct_mcp.transports.stdio.pipes import CHUNK, is_writable, says_when_ready

_STALLED_S = 1.0  # a client that takes nothing for so long after the end of its input is not going to
_AT_ONCE = 4096  # bytes: a pipe that takes anything takes so many without waiting (PIPE_BUF, pipe(7))
_MOST_UNSENT = 64_000_000  # bytes: ten thousand lists of groups, asked for before the first is read
_MOST_UNDER_WAY = 100  # requests: they end within milliseconds, or wait for the database, which would not serve more
# Not counted among them: completions last for minutes, and `Konstruct` bounds them; a subscription lasts until its
# client ends it, and the SDK bounds those.
_LASTING = ("tools/call", "subscriptions/listen")


class Outbox:
    """The write stream of `Server.run`, whose method `count` is one of the server's middlewares."""

    def __init__(self, output: int) -> None:
        """`output` is the descriptor to write to."""
        self._output = output
        self._says_when_ready = says_when_ready(output)
        self._unsent = bytearray()
        self._is_writing = False  # in a thread
        self._under_way = 0  # requests
        self._is_ending = False
        self._handed_over = anyio.Event()
        self._moved = anyio.Event()  # something was written, or a request has ended

    async def send(self, item: SessionMessage) -> None:
        """Hand over a message, and wait while there are too many: in this order, so that none overtakes another."""
        message = item.message
        if isinstance(message, types.JSONRPCResponse) and is_large(message.result):
            self._put(await in_thread(lambda: write_message(message, is_long=True)))
        else:
            self.put(message)
        while len(self._unsent) > _MOST_UNSENT and not self._is_ending:
            await self._moved.wait()

    def put(self, message: types.JSONRPCMessage) -> None:
        """Hand over a message, and do not wait."""
        self._put(write_message(message))

    def _put(self, line: bytes) -> None:
        self._unsent += line
        if not self._write_at_once():
            self._handed_over.set()

    async def count(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Count the requests under way, as a middleware of the server."""
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
            chunk = bytes(self._unsent[:CHUNK])
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
        """Write without a thread what a pipe takes without waiting. Returns whether that was everything."""
        waits = self._is_writing or not self._says_when_ready or len(self._unsent) > _AT_ONCE
        if waits or not is_writable(self._output):
            return False
        try:
            written = os.write(self._output, self._unsent)
        except OSError:  # which `write` meets too, and raises
            return False
        del self._unsent[:written]
        self._move()
        return not self._unsent

    @property
    def has_room(self) -> bool:
        """Whether more may be asked for now."""
        return len(self._unsent) <= _MOST_UNSENT and self._under_way < _MOST_UNDER_WAY

    async def gets_room(self) -> bool:
        """Wait until more may be asked for. Returns False if nothing moves for a second."""
        while not self.has_room:
            if not await self._moves():
                return False
        return True

    async def emptied(self) -> bool:
        """Wait until everything is written. Returns False if nothing moves for a second."""
        while self._unsent:
            if not await self._moves():
                return False
        return True

    def end(self) -> None:
        """The input has ended: keep no handler waiting any more."""
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
