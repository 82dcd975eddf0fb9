"""Watches the event loop that runs, and the memory of its process.

    async with watched_loop() as seen:
        ...
    assert seen.longest_pause_s < 0.25

A task that wants to run every few milliseconds sees each time in which nothing else could: a `ping`, a cancellation or
a deadline would have waited as long. What other threads of the process do with the interpreter's lock held counts too,
and so does what other processes do on a busy machine: a test is better held to the work, which does not grow with that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 0.005
_PROC = Path("/proc/self")


@dataclass
class Seen:
    """What was seen until now.

    Attributes:
        longest_pause_s: seconds in which the loop did not come round.
        longest_work_s: seconds of the processor that its own thread has worked in one of them.
        grown_bytes: how much larger than at the start the process has been at most; 0 where the system does not say.
    """

    longest_pause_s: float = 0.0
    longest_work_s: float = 0.0
    grown_bytes: int = 0

    def add(self, paused_s: float, worked_s: float) -> None:
        self.longest_pause_s = max(self.longest_pause_s, paused_s)
        self.longest_work_s = max(self.longest_work_s, worked_s)


@asynccontextmanager
async def watched_loop() -> AsyncIterator[Seen]:
    seen = Seen()
    before = _resident()
    _forget_peak()

    async def tick() -> None:
        at, worked = time.monotonic(), time.thread_time()
        try:
            while True:
                await asyncio.sleep(_TICK_S)
                seen.add(time.monotonic() - at - _TICK_S, time.thread_time() - worked)
                at, worked = time.monotonic(), time.thread_time()
        finally:
            seen.add(time.monotonic() - at - _TICK_S, time.thread_time() - worked)

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0)  # so that it has begun
    try:
        yield seen
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        seen.grown_bytes = max(0, _peak() - before)


def _resident() -> int:
    try:
        return int((_PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        (_PROC / "clear_refs").write_text("5")


def _peak() -> int:
    try:
        lines = (_PROC / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
