"""Who has the event loop next, where many calls at once want it: one step of one call in each turn of the loop.

Without it everything that is ready runs before the loop looks at anything else, and five hundred answers that come
together keep a `ping`, a cancellation and a deadline waiting for a second. Steps of calls that have come further go
first, so that the first request is on its way while the last one is still being read, and not all of them after that.

What does not wait costs next to nothing: a call that is alone never does.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import itertools
import threading


class Step(enum.IntEnum):
    """What a call is about to do."""

    TAKE = -1  # a piece of a large answer is taken in, which is to keep nobody else waiting
    BEGIN = 0  # its request is looked at, and its budget asked
    ASK = 1  # a provider's request is made and sent
    READ = 2  # a provider's answer is read
    ANSWER = 3  # the answer is written


class _Pace:
    """The steps of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._turning = False  # whether `_turn` is to be called in the next turn of the loop

    def next(self, step: Step) -> asyncio.Future[None] | None:
        """When it is this step's turn; None for at once."""
        if not self._turning:
            self._turning = True
            self.loop.call_soon(self._turn)
            return None
        turn = self.loop.create_future()
        heapq.heappush(self._waiting, (-step, next(self._numbers), turn))
        return turn

    def _turn(self) -> None:
        self._turning = False
        if not self._waiting:
            return
        self._turning = True
        self.loop.call_soon(self._turn)
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():  # else whoever waited has been cancelled
                turn.set_result(None)
                return


class _Here(threading.local):
    """The pace of the loop that runs in this thread."""

    pace: _Pace | None = None


_here = _Here()


async def turn(step: Step) -> None:
    """Wait until it is this call's turn to do this."""
    loop, pace = asyncio.get_running_loop(), _here.pace
    if pace is None or pace.loop is not loop:
        pace = _here.pace = _Pace(loop)
    if (waits := pace.next(step)) is not None:
        await waits
