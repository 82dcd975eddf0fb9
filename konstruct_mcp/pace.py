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
from weakref import WeakKeyDictionary


class Step(enum.IntEnum):
    """What a call is about to do."""

    BEGIN = 0  # its request is looked at, and its budget asked
    ASK = 1  # a provider's request is made and sent
    READ = 2  # a provider's answer is read
    ANSWER = 3  # the answer is written


class _Pace:
    """The steps of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._create_future = loop.create_future
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._turning = False  # whether `_turn` is to be called in the next turn of the loop

    async def step(self, step: Step) -> None:
        if not self._turning:
            self._turning = True
            self._call_soon(self._turn)
            return
        turn = self._create_future()
        heapq.heappush(self._waiting, (-step, next(self._numbers), turn))
        await turn

    def _turn(self) -> None:
        self._turning = False
        if not self._waiting:
            return
        self._turning = True
        self._call_soon(self._turn)
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():  # else whoever waited has been cancelled
                turn.set_result(None)
                return


_paces: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pace] = WeakKeyDictionary()


def _pace() -> _Pace:
    loop = asyncio.get_running_loop()
    pace = _paces.get(loop)
    if pace is None:
        pace = _paces[loop] = _Pace(loop)
    return pace


async def turn(step: Step) -> None:
    """Wait until it is this call's turn to do this."""
    await _pace().step(step)
