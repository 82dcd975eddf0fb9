"""How many calls at once: so many are under way, a bounded number wait for their turn, and the rest are turned away.

What waits is bounded in number and in size, because each call that waits holds its request in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from .errors import OverloadedError

_MOST_CHARS = 64 * 2**20  # of the requests that wait: sixty of a million, or a thousand of the usual size


class Admission:
    """Turns, given in the order in which calls came."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._most_waiting = waiting
        self._waiting = 0
        self._chars = 0

    def resize(self, at_once: int, waiting: int) -> None:
        """From now on; nobody who is under way or waiting already is turned away."""
        self._limiter.total_tokens = at_once
        self._most_waiting = waiting

    @property
    def waiting(self) -> int:
        return self._waiting

    @asynccontextmanager
    async def turn(self, chars: int) -> AsyncIterator[None]:
        """Wait for one's turn and have it. `chars` is the length of the request.

        Raises:
            OverloadedError: at once, when too many wait already.
        """
        whose = object()  # one task may have several
        try:
            self._limiter.acquire_on_behalf_of_nowait(whose)
        except anyio.WouldBlock:
            await self._wait(whose, chars)
        try:
            yield
        finally:
            self._limiter.release_on_behalf_of(whose)

    async def _wait(self, whose: object, chars: int) -> None:
        if self._waiting >= self._most_waiting or (self._waiting and self._chars + chars > _MOST_CHARS):
            raise OverloadedError(
                f"too many calls at once ({self._limiter.borrowed_tokens:g} under way, {self._waiting} waiting); "
                "send fewer, or try again in a moment"
            )
        self._waiting += 1
        self._chars += chars
        try:
            await self._limiter.acquire_on_behalf_of(whose)
        finally:
            self._waiting -= 1
            self._chars -= chars
