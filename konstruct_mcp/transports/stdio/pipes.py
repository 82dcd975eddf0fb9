"""The client's pipes: claimed for us alone, read line by line, and watched for their end."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import anyio.to_thread

CHUNK = 1 << 16  # bytes, what a pipe holds
LONGEST_LINE = 100_000_000  # bytes: more than any provider accepts; a line that never ends must not fill the memory
_LOOK_AGAIN_S = 1.0  # at an output that says without end that it can be read
# 0 where there is no `poll`.
_READABLE, _WRITABLE = getattr(select, "POLLIN", 0), getattr(select, "POLLOUT", 0)
_HUNG_UP, _HALF_CLOSED = getattr(select, "POLLHUP", 0), getattr(select, "POLLRDHUP", 0)


def claim_pipes() -> tuple[int, int]:
    """Take stdin and stdout, and return their descriptors.

    Whatever else reads from stdin afterwards meets its end, and what it prints goes to stderr.
    """
    pipes = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return pipes


async def until_hung_up(output: int) -> None:
    """Return once nobody can read any more what we write."""
    with suppress(OSError):  # a file cannot be watched, and nobody closes it
        while True:
            await anyio.wait_readable(output)
            if _polled(output, 0):
                return
            # A socket on which something was sent to us, where nothing should be. It stays readable.
            await anyio.sleep(_LOOK_AGAIN_S)
    await anyio.sleep_forever()


async def read_lines(descriptor: int) -> AsyncIterator[bytes | None]:
    """Each line that comes in; of one longer than `LONGEST_LINE`, its beginning. None before it waits for more."""
    line, waits_well = bytearray(), says_when_ready(descriptor)
    while True:
        if not is_readable(descriptor):
            yield None
        if not (chunk := await _read_chunk(descriptor, waits_well=waits_well)):
            break
        first, *others = chunk.split(b"\n")
        line += first[: LONGEST_LINE + 1 - len(line)]
        for other in others:
            yield bytes(line)
            line = bytearray(other)
    yield bytes(line)


async def _read_chunk(descriptor: int, *, waits_well: bool) -> bytes:
    """Some bytes; none at the end."""
    while True:
        try:
            if is_readable(descriptor):
                return os.read(descriptor, CHUNK)
            if waits_well:
                await anyio.wait_readable(descriptor)
                continue
            return await anyio.to_thread.run_sync(os.read, descriptor, CHUNK, abandon_on_cancel=True)
        except BlockingIOError:
            await anyio.wait_readable(descriptor)
        except OSError:  # a terminal that was closed, a socket that was reset
            return b""


def says_when_ready(descriptor: int) -> bool:
    """Whether the event loop can wait for it: a pipe on Linux.

    Elsewhere a thread has to wait, which costs a quarter as much as all else that is done for a call.
    """
    return sys.platform == "linux" and stat.S_ISFIFO(os.fstat(descriptor).st_mode)


def is_readable(descriptor: int) -> bool:
    """Whether there is something to read, or its end."""
    return bool(_polled(descriptor, _READABLE) & (_READABLE | _HUNG_UP))


def is_writable(descriptor: int) -> bool:
    """Whether there is room to write, or nobody to read it."""
    return bool(_polled(descriptor, _WRITABLE) & (_WRITABLE | _HUNG_UP))


def is_closed(descriptor: int) -> bool:
    """Whether nobody can send any more, though there may be something to read.

    Half of a socket can be closed, which Linux alone tells.
    """
    return bool(_polled(descriptor, _HALF_CLOSED))


def _polled(descriptor: int, events: int) -> int:
    """Which of these events have come, and of those that are always reported; none where that cannot be told."""
    if sys.platform == "win32":
        return 0
    watch = select.poll()
    watch.register(descriptor, events)
    return next((found for _, found in watch.poll(0)), 0)
