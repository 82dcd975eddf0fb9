"""Reports of progress while a call is under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext

from konstruct_mcp.core.text import scrubbed

_FIRST_S, _NEXT_S = 0.5, 2.0  # many clients start their time-out again at each report


@asynccontextmanager
async def reported(ctx: ServerRequestContext[Any]) -> AsyncIterator[Callable[[str], None]]:
    """Gives a function that takes note of what is being waited for. Until the block ends, the latest of it is reported
    to the client of this request, if that has asked for progress."""
    began, line = time.monotonic(), ""

    def note(news: str) -> None:
        nonlocal line
        line = news

    async def report() -> None:
        while True:
            await ctx.session.report_progress(round(time.monotonic() - began, 3), message=scrubbed(line))
            await anyio.sleep(_NEXT_S)

    reporting: list[asyncio.Future[None]] = []
    # A timer until then: most answers come before the first report, and a task would cost as much as all of this.
    starting = asyncio.get_running_loop().call_later(
        _FIRST_S, lambda: reporting.append(asyncio.ensure_future(report()))
    )
    try:
        yield note
    finally:
        starting.cancel()
        for task in reporting:
            task.cancel()
