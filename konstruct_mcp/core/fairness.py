"""Who goes next where many calls want the same thing: one step of the event loop, or a place among the calls under way.

- `turn`: one step of one call in each turn of the event loop. Otherwise everything that is ready would run before the
  loop looks at anything else: five hundred answers that arrive together would keep a `ping`, a cancellation and a
  deadline waiting for a second. Calls that have come further go first, so that the first request is on its way while
  the last one is still being read. A call that is alone never waits, and pays next to nothing.
- `Admission`: how many calls are under way at once, how many may wait, and that no tenant keeps out another.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import itertools
import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from cachetools import LRUCache

from konstruct_mcp.core.errors import OverloadedError

_USUAL_S = 5  # that a call takes, until a tenant's first has ended
_CALLS_OF_A_PACE = 8  # about so many last calls count for how long one takes
_MOST_PACES = 1000  # tenants whose pace is known; of another the usual one is assumed
_LONGEST_RETRY_S = 60  # that somebody who is turned away is told to wait
_MOST_CHARS = 64 * 2**20  # in the requests that wait, which are held in memory: sixty of a million characters each


class Step(enum.IntEnum):
    """What a call is about to do; the higher number goes first."""

    TAKE = -1  # take in a piece of a large answer; all else comes before it
    BEGIN = 0  # look at the request, and ask the budget
    ASK = 1  # make the provider's request and send it
    READ = 2  # read the provider's answer
    ANSWER = 3  # write the answer


class _Steps:
    """The steps that wait for their turn on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._turning = False  # whether `_turn` is to be called in the next turn of the loop

    def next(self, step: Step) -> asyncio.Future[None] | None:
        """A future that is done when it is this step's turn; None where it need not wait."""
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
            if not turn.done():  # else its call has been cancelled
                turn.set_result(None)
                return


class _ThisThread(threading.local):
    """The steps of the event loop that runs in this thread."""

    steps: _Steps | None = None


_this_thread = _ThisThread()


async def turn(step: Step) -> None:
    """Wait until it is this call's turn to take this step."""
    loop, steps = asyncio.get_running_loop(), _this_thread.steps
    if steps is None or steps.loop is not loop:
        steps = _this_thread.steps = _Steps(loop)
    if (waits := steps.next(step)) is not None:
        await waits


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A call that waits. `turn` is done when the call has its turn or is turned away."""

    chars: int
    turn: asyncio.Future[None]


@dataclass(slots=True)
class _Queue:
    """The waiting calls of one tenant, oldest first."""

    calls: dict[_Call, None] = field(default_factory=dict)
    chars: int = 0


class Admission:
    """How many calls are under way at once. A bounded number wait for their turn, and the rest are turned away.

    - What waits is bounded in number and in size, because each waiting call holds its request in memory.
    - Waiting tenants have their turns one after another, however many calls each has there; the calls of one tenant go
      in the order in which they came.
    - Where no more can wait, the newest call of the tenant that has most there makes room.
    - For each tenant that the config names and that has no call under way a place is kept free; these are at most half
      of all places.
    - A tenant with a limit of its own has no more calls under way than that.
    """

    def __init__(
        self,
        at_once: int,
        waiting: float = math.inf,
        named: Collection[str] = (),
        most_of: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """
        Args:
            at_once, waiting: numbers of calls.
            named: the tenants for which places are kept free.
            most_of: how many calls of a tenant may be under way, of those that have such a limit.
        """
        self._at_once, self._most_waiting, self._named, self._most_of = at_once, waiting, frozenset(named), most_of
        self._under_way: Counter[str] = Counter()
        self._places = 0  # how many are taken
        self._present = 0  # how many of the named tenants have one
        self._queues: OrderedDict[str, _Queue] = OrderedDict()  # by tenant, the one whose turn is next first
        self._waiting = self._chars = 0
        self._paces: LRUCache[str, float] = LRUCache(_MOST_PACES)  # by tenant, how long its last calls took

    def resize(
        self,
        at_once: int,
        waiting: float,
        named: Collection[str],
        most_of: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Change the limits from now on. No call that is under way or waiting is turned away."""
        self._at_once, self._most_waiting, self._named, self._most_of = at_once, waiting, frozenset(named), most_of
        self._present = len(self._named & self._under_way.keys())
        self._go_on()

    @property
    def under_way(self) -> int:
        """How many calls have their turn."""
        return self._places

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self._waiting

    def waiting_of(self, tenant: str) -> int:
        """How many calls of a tenant wait."""
        return len(self._queues[tenant].calls) if tenant in self._queues else 0

    @asynccontextmanager
    async def turn(self, chars: int, tenant: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it while the block runs. `chars` is the length of the request.

        Raises:
            OverloadedError: too many calls wait, or this one had to make room while it waited.
        """
        if tenant not in self._queues and self._has_place(tenant):
            self._begin(tenant)
        else:
            await self._wait(tenant, chars)
        began = time.monotonic()
        try:
            yield
        finally:
            lasted_s = time.monotonic() - began
            before_s = self._paces.get(tenant, lasted_s)
            self._paces[tenant] = before_s + (lasted_s - before_s) / _CALLS_OF_A_PACE
            self._end(tenant)

    def _begin(self, tenant: str) -> None:
        self._present += tenant in self._named and tenant not in self._under_way
        self._under_way[tenant] += 1
        self._places += 1

    def _end(self, tenant: str) -> None:
        self._under_way[tenant] -= 1
        self._places -= 1
        if not self._under_way[tenant]:
            del self._under_way[tenant]
            self._present -= tenant in self._named
        self._go_on()

    def _has_place(self, tenant: str) -> bool:
        """Whether there is a place for a call of this tenant, those left out that are kept free for others."""
        free = self._at_once - self._places
        if self._under_way[tenant] >= self._most_of.get(tenant, self._at_once):
            return False
        if tenant in self._named and tenant not in self._under_way:
            return free > 0
        return free > min(len(self._named) - self._present, self._at_once // 2)

    def _go_on(self) -> None:
        """Give turns to waiting calls as long as there are places."""
        while self._places < self._at_once:
            if (tenant := next(filter(self._has_place, self._queues), None)) is None:
                return
            self._queues.move_to_end(tenant)
            call = next(iter(self._queues[tenant].calls))
            self._leave(tenant, call)
            if not call.turn.done():  # else it has been cancelled
                self._begin(tenant)
                call.turn.set_result(None)

    async def _wait(self, tenant: str, chars: int) -> None:
        self._make_room(tenant, chars)
        call = _Call(chars, asyncio.get_running_loop().create_future())
        queue = self._queues.setdefault(tenant, _Queue())
        queue.calls[call] = None
        queue.chars += chars
        self._waiting += 1
        self._chars += chars
        try:
            await call.turn
        except asyncio.CancelledError:
            if call.turn.cancelled() or call.turn.exception() is not None:
                self._leave(tenant, call)
            else:  # its turn had come just before the cancellation
                self._end(tenant)
            raise

    def _leave(self, tenant: str, call: _Call) -> None:
        queue = self._queues.get(tenant)
        if queue is None or call not in queue.calls:
            return
        del queue.calls[call]
        queue.chars -= call.chars
        self._waiting -= 1
        self._chars -= call.chars
        if not queue.calls:
            del self._queues[tenant]

    def _make_room(self, tenant: str, chars: int) -> None:
        """Make room for one more waiting call, by turning away the newest of the tenant that has most there.

        Raises:
            OverloadedError: the call's own tenant has most, or already has its equal part.
        """
        while True:
            size: Callable[[str], int]
            if self._waiting >= self._most_waiting:
                size, more, most = self.waiting_of, 1, self._most_waiting
            elif self._waiting and self._chars + chars > _MOST_CHARS:
                size, more, most = self._chars_of, chars, _MOST_CHARS
            else:
                return
            greediest = max(self._queues, key=size, default=tenant)
            equal_part = most / len(self._queues.keys() | {tenant})
            if not size(tenant) + more <= min(equal_part, size(greediest) - 1):
                raise self._overloaded(tenant)
            newest = next(reversed(self._queues[greediest].calls))
            self._leave(greediest, newest)
            if not newest.turn.done():
                newest.turn.set_exception(self._overloaded(greediest))

    def _chars_of(self, tenant: str) -> int:
        return self._queues[tenant].chars if tenant in self._queues else 0

    def _overloaded(self, tenant: str) -> OverloadedError:
        """The error for a tenant, which is told of its own calls alone."""
        under_way, waiting = self._under_way[tenant], self.waiting_of(tenant)
        wait_s = self._paces.get(tenant, _USUAL_S) * (waiting + 1) / max(1, under_way)
        retry_after_s = min(_LONGEST_RETRY_S, max(1, math.ceil(wait_s)))
        return OverloadedError(
            f"too many calls at once ({under_way} under way, {waiting} waiting); send fewer, or try again in "
            f"{retry_after_s} s",
            retry_after_s,
        )
