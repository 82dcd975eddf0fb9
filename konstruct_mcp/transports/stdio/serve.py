"""Serve one client over stdin and stdout. It stands where the SDK's `stdio_server` would.

Whatever a client sends does not end the process, and what must end it does so at once:

- At the end of input, calls under way are cancelled, and what is left goes out as long as the client takes it.
- SIGTERM, SIGINT and a client that closes our output, or dies, cancel the calls and end the process after a bounded
  clean-up through `os._exit`: a thread may sit in a blocking read or write, which nothing can wake. The output is
  watched, so that this does not wait for the next write.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
from mcp.server import Server
from mcp.shared.message import SessionMessage

from konstruct_mcp.transports.stdio.inbox import Inbox
from konstruct_mcp.transports.stdio.outbox import Outbox
from konstruct_mcp.transports.stdio.pipes import claim_pipes, until_hung_up

_log = logging.getLogger(__name__)

# A client that has asked a process to end waits a second or two before it kills; the clean-up must fit in that.
_CLEAN_UP_S = 0.5


async def serve_stdio(server: Server[Any], clean_up: Callable[[], Awaitable[None]], kill: Callable[[], None]) -> None:
    """Serve one client over stdin and stdout; returns at the end of its input.

    On SIGTERM or SIGINT, or when the client closes our output or reads no more after the end of its input, the process
    ends here with status 0.

    Args:
        clean_up: awaited for half a second at most before the process ends.
        kill: called after that, to end what must not outlive the process.
    """
    incoming, outgoing = claim_pipes()
    outbox = Outbox(outgoing)
    server.middleware.append(outbox.count)
    serving = anyio.CancelScope()
    ending = _Ending(serving, clean_up, kill)
    all_is_sent = False
    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":  # there a process is ended from outside, without a signal to catch
            await tasks.start(ending.on_signal)
            tasks.start_soon(ending.on_hang_up, outgoing)
        tasks.start_soon(ending.write_until_closed, outbox)
        to_server, from_inbox = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        tasks.start_soon(Inbox(server, incoming, to_server, outbox).run)
        try:
            with serving:
                await server.run(from_inbox, outbox, server.create_initialization_options())
                all_is_sent = await outbox.emptied()
        except Exception:
            _log.exception("the server ended by a defect of its own")
            await ending.leave(1)
        if not all_is_sent:
            await ending.leave()
        tasks.cancel_scope.cancel()


class _Ending:
    """How the process ends, and what ends it."""

    def __init__(
        self, serving: anyio.CancelScope, clean_up: Callable[[], Awaitable[None]], kill: Callable[[], None]
    ) -> None:
        self._serving = serving
        self._clean_up = clean_up
        self._kill = kill

    async def on_signal(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                await self._stop()

    async def on_hang_up(self, outgoing: int) -> None:
        await until_hung_up(outgoing)
        _log.info("the client closed the pipe")
        await self._stop()

    async def write_until_closed(self, outbox: Outbox) -> None:
        """Write what the outbox has, until the client has closed the pipe."""
        try:
            await outbox.write()
        except OSError:
            _log.info("the client closed the pipe")
            await self._stop()

    async def leave(self, status: int = 0) -> None:
        """Clean up, and end the process."""
        with anyio.move_on_after(_CLEAN_UP_S, shield=True):
            try:
                await self._clean_up()
            except Exception:
                _log.exception("while ending")
        self._exit_now(status)

    async def _stop(self) -> None:
        # The calls first: one that saw its connection closed by the clean-up would be tried again.
        self._serving.cancel()
        await anyio.sleep(_CLEAN_UP_S)
        self._exit_now(0)  # the clean-up has not come to its end

    def _exit_now(self, status: int) -> None:
        self._kill()
        logging.shutdown()
        os._exit(status)
