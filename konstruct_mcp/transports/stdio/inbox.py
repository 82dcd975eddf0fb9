"""What the client sends, handed over to the server.

- A line that is no message is answered with an error, under its id if it has one. The SDK would drop it, and the
  client would wait for ever.
- A long line is read in a thread, while shorter ones behind it are handed over.
- `server/discover` is answered here until another request has come: the SDK takes the first request as the choice of
  the protocol era, and some clients send that first and then `initialize`.
- Calls of tools come after everything else that has come with them. What is asked beside five hundred of them, or
  cancels one, does not wait for the work that they make.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from mcp import types
from mcp.server import Server
from mcp.shared.message import SessionMessage

from konstruct_mcp.core.threads import in_thread
from konstruct_mcp.transports.stdio.jsonrpc import LONG_LINE, answer_discover, read_message
from konstruct_mcp.transports.stdio.outbox import Outbox
from konstruct_mcp.transports.stdio.pipes import is_closed, is_readable, read_lines

_MOST_READ = 200_000_000  # bytes of long lines that are being read
_MOST_CALLS, _MOST_HELD = 1000, 16_000_000  # calls of tools, and bytes of them, that wait for what came with them


class Inbox:
    """Reads the client's lines until the input ends, and hands over what they say."""

    def __init__(
        self,
        server: Server[Any],
        incoming: int,
        to_server: MemoryObjectSendStream[SessionMessage | Exception],
        outbox: Outbox,
    ) -> None:
        """`incoming` is the descriptor to read from."""
        self._server = server
        self._incoming = incoming
        self._to_server = to_server
        self._outbox = outbox
        self._era_is_open = True  # no request but `server/discover` has come
        self._calls: deque[tuple[types.JSONRPCRequest, int]] = deque()  # of tools, with the bytes of their lines
        self._held = 0  # bytes of those calls
        self._read = 0  # bytes of long lines that are being read
        self._read_on = anyio.Event()  # one of them has been read
        self._cancelled: set[str] = set()  # ids that were cancelled while long lines are being read

    async def run(self) -> None:
        """Returns at the end of the input, when everything is handed over."""
        with suppress(anyio.BrokenResourceError):  # the server has ended
            async with self._to_server, anyio.create_task_group() as reading:
                async for line in read_lines(self._incoming):
                    if line is not None and len(line) > LONG_LINE:
                        self._read += len(line)
                        reading.start_soon(self._take_long, line)
                    elif line is not None:
                        await self._take(read_message(line), len(line))
                    is_idle = line is None and not is_readable(self._incoming)
                    while self._calls and (is_idle or self._is_full() or not self._outbox.has_room):
                        await self._hand_over_call()
                        is_idle = is_idle and not is_readable(self._incoming)
                    if not await self._may_go_on():
                        break
                while self._calls:
                    await self._hand_over_call()
        self._outbox.end()

    async def _take_long(self, line: bytes) -> None:
        item = await in_thread(read_message, line)
        if not (isinstance(item, types.JSONRPCRequest) and str(item.id) in self._cancelled):
            with suppress(anyio.BrokenResourceError):
                await self._take(item, len(line), is_late=True)
        self._read -= len(line)
        if not self._read:
            self._cancelled.clear()
        self._read_on.set()
        self._read_on = anyio.Event()

    async def _take(self, item: types.JSONRPCMessage | None, size: int, *, is_late: bool = False) -> None:
        """Hand over a message, keep a call of a tool for later, or answer with an error.

        Args:
            size: bytes of its line.
            is_late: whether what came with it has been handed over already.
        """
        is_first = isinstance(item, types.JSONRPCRequest) and self._era_is_open
        if isinstance(item, types.JSONRPCRequest) and is_first:
            if item.method == "server/discover":
                item = answer_discover(self._server, item)
            else:
                self._era_is_open = False
        if isinstance(item, types.JSONRPCRequest) and item.method == "tools/call" and not (is_first or is_late):
            self._calls.append((item, size))
            self._held += size
        elif isinstance(item, types.JSONRPCRequest | types.JSONRPCNotification):
            if item.method == "notifications/cancelled":
                self._cancel(str((item.params or {}).get("requestId")))
            await self._to_server.send(SessionMessage(item))
        elif item is not None:
            self._outbox.put(item)

    async def _hand_over_call(self) -> None:
        call, size = self._calls.popleft()
        self._held -= size
        await self._to_server.send(SessionMessage(call))

    def _cancel(self, request_id: str) -> None:
        """Drop a call that was not handed over yet: it is never made, and owed no answer."""
        if self._read:
            self._cancelled.add(request_id)
        for index, (call, size) in enumerate(self._calls):
            if str(call.id) == request_id:
                del self._calls[index]
                self._held -= size
                return

    def _is_full(self) -> bool:
        return len(self._calls) > _MOST_CALLS or self._held > _MOST_HELD

    async def _may_go_on(self) -> bool:
        """Wait until there is room for more. Returns False if the client is gone and takes nothing more."""
        while self._read > _MOST_READ:
            await self._read_on.wait()
        while not await self._outbox.gets_room():
            if is_closed(self._incoming):
                return False
        return True
