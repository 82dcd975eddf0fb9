"""Watches the event loop that runs.

    async with watched_loop() as seen:
        ...
    assert seen.longest_work_s < 0.25

A task that wants to run every few milliseconds sees each time in which nothing else could: a `ping`, a cancellation or
a deadline would have waited as long. Of that it counts the work of the loop's own thread, which does not grow with what
other processes do on a busy machine.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

SLOWDOWN = 1 if sys.gettrace() is None else 10  # how much longer work takes where coverage counts each line
_TICK_S = 0.005


@dataclass
class LoopWatch:
    """What was seen until now.

    Attributes:
        longest_work_s: seconds of the processor that the loop's thread has worked before it came round.
    """

    longest_work_s: float = 0.0

    def add(self, worked_s: float) -> None:
        self.longest_work_s = max(self.longest_work_s, worked_s)


@asynccontextmanager
async def watched_loop() -> AsyncIterator[LoopWatch]:
    seen = LoopWatch()

    async def tick() -> None:
        worked = time.thread_time()
        try:
            while True:
                await asyncio.sleep(_TICK_S)
                seen.add(time.thread_time() - worked)
                worked = time.thread_time()
        finally:
            seen.add(time.thread_time() - worked)

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0)  # so that it has begun
    try:
        yield seen
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
