"""The bounded streams that take the place of an HTTP response's own. Imports httpx, so it is itself imported late."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx

from konstruct_mcp.core.fairness import Step, turn
from konstruct_mcp.providers.litellm.response_limits import Intake

_PIECES_AT_ONCE = 64  # of a response that are taken in before other calls have their turn


class BoundedStream(httpx.AsyncByteStream):
    """A response's stream on the event loop.

    It waits for its turn here, between two pieces, and not further out: httpx reads a whole body within `send`, and a
    large one would keep every other call waiting before any other code of ours is reached.
    """

    def __init__(self, inner: Any, intake: Intake, give_back: Callable[[], None]) -> None:
        """`give_back` returns the connection's place among those that may be open."""
        self._inner, self._intake, self._give_back = inner, intake, give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = 0
        async with contextlib.aclosing(self._inner.__aiter__()) as coming:
            async for raw in coming:
                for piece in self._intake.take(raw):
                    yield piece
                    await turn(Step.TAKE)
                if self._intake.is_full:
                    break
                if (pieces := pieces + 1) % _PIECES_AT_ONCE == 0:  # many may have come in one, a byte each
                    await turn(Step.TAKE)
        for index, piece in enumerate(self._intake.end()):
            if index:  # not a small response
                await turn(Step.TAKE)
            yield piece

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._give_back()


class BoundedSyncStream(httpx.SyncByteStream):
    """A response's stream in a thread, which keeps nobody waiting."""

    def __init__(self, inner: Any, intake: Intake) -> None:
        self._inner, self._intake = inner, intake

    def __iter__(self) -> Iterator[bytes]:
        return self._intake.all_of(self._inner)

    def close(self) -> None:
        self._inner.close()
