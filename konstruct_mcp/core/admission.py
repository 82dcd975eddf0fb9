"""How many calls at once: so many are under way, a bounded number wait for their turn, and the rest are turned away.

What waits is bounded in number and in size, because each call that waits holds its request in memory.

Nobody's calls keep out another's. Tenants that wait have their turns one after another, however many calls each has
there; where no more can wait, the newest call of whoever has most of them waiting makes room; and for each tenant that
the config names and that has no call under way a place is kept free, as far as half of them go.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from konstruct_mcp.core.errors import OverloadedError

_MOST_CHARS = 64 * 2**20  # of the requests that wait: sixty of a million, or a thousand of the usual size


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """One that waits; `turn` is done when it has its turn, or is turned away."""

    chars: int
    turn: asyncio.Future[None]


@dataclass(slots=True)
class _Queue:
    """The calls of one tenant that wait, oldest first."""

    calls: dict[_Call, None] = field(default_factory=dict)
    chars: int = 0


class Admission:
    """Turns, given in the order in which a tenant's calls came."""

    def __init__(self, at_once: int, waiting: float = math.inf, named: Collection[str] = ()) -> None:
        """`named` are the tenants for which places are kept free."""
        self._at_once, self._most_waiting, self._named = at_once, waiting, frozenset(named)
        self._under_way: Counter[str] = Counter()
        self._places = 0  # that are taken
        self._present = 0  # of those that are named, who has one
        self._queues: OrderedDict[str, _Queue] = OrderedDict()  # whose turn is next, first
        self._waiting = self._chars = 0

    def resize(self, at_once: int, waiting: float, named: Collection[str]) -> None:
        """From now on; nobody who is under way or waiting already is turned away."""
        self._at_once, self._most_waiting, self._named = at_once, waiting, frozenset(named)
        self._present = len(self._named & self._under_way.keys())
        self._go_on()

    @property
    def waiting(self) -> int:
        return self._waiting

    @asynccontextmanager
    async def turn(self, chars: int, tenant: str) -> AsyncIterator[None]:
        """Wait for one's turn and have it. `chars` is the length of the request.

        Raises:
            OverloadedError: too many wait already, or came to.
        """
        if tenant not in self._queues and self._has_place(tenant):
            self._begin(tenant)
        else:
            await self._wait(tenant, chars)
        try:
            yield
        finally:
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
        free = self._at_once - self._places
        if tenant in self._named and tenant not in self._under_way:
            return free > 0
        return free > min(len(self._named) - self._present, self._at_once // 2)

    def _go_on(self) -> None:
        """Give turns to those who wait, as far as there are places."""
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
            else:  # its turn came together with the cancellation
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
        """Have a call fit in, at the cost of whoever has most there, as long as it is within its tenant's own part."""
        while True:
            size: Callable[[str], int]
            if self._waiting >= self._most_waiting:
                size, more, most = self._calls_of, 1, self._most_waiting
            elif self._waiting and self._chars + chars > _MOST_CHARS:
                size, more, most = self._chars_of, chars, _MOST_CHARS
            else:
                return
            greediest = max(self._queues, key=size, default=tenant)
            part = most / len(self._queues.keys() | {tenant})
            if not size(tenant) + more <= min(part, size(greediest) - 1):
                raise self._overloaded()
            newest = next(reversed(self._queues[greediest].calls))
            self._leave(greediest, newest)
            if not newest.turn.done():
                newest.turn.set_exception(self._overloaded())

    def _calls_of(self, tenant: str) -> int:
        return len(self._queues[tenant].calls) if tenant in self._queues else 0

    def _chars_of(self, tenant: str) -> int:
        return self._queues[tenant].chars if tenant in self._queues else 0

    def _overloaded(self) -> OverloadedError:
        return OverloadedError(
            f"too many calls at once ({self._places} under way, {self._waiting} waiting); "
            "send fewer, or try again in a moment"
        )
