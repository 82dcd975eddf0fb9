"""What is kept for a while for several tenants, in a size for all of them. Plain code, but for the clock.

Where there is no more room, the oldest of whoever has most there makes some: one who keeps a great deal pushes out
their own, and not what another tenant has kept. It may be used in several threads.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    tenant: str
    value: V
    size: int
    until: float


class Shares(Generic[K, V]):
    """So much in all, each for so many seconds by the clock; a key is one tenant's."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()  # oldest first
        self._of: dict[str, OrderedDict[K, None]] = {}  # the same, by tenant
        self._sizes: dict[str, int] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        return None if entry is None or entry.until <= self._clock() else entry.value

    def keep(self, tenant: str, key: K, value: V, size: int) -> bool:
        """False where it is larger than all may be together."""
        if size > self._most:
            return False
        with self._lock:
            self._keep(tenant, key, value, size)
        return True

    def _keep(self, tenant: str, key: K, value: V, size: int) -> None:
        now = self._clock()
        self.drop(key)
        while self._entries and next(iter(self._entries.values())).until <= now:
            self.drop(next(iter(self._entries)))
        self._entries[key] = _Entry(tenant, value, size, now + self._seconds)
        self._of.setdefault(tenant, OrderedDict())[key] = None
        self._sizes[tenant] = self._sizes.get(tenant, 0) + size
        while sum(self._sizes.values()) > self._most:
            self.drop(next(iter(self._of[max(self._sizes, key=self._sizes.__getitem__)])))

    def drop(self, key: K) -> None:
        """Without effect where it is not there."""
        with self._lock:
            if (entry := self._entries.pop(key, None)) is None:
                return
            del self._of[entry.tenant][key]
            self._sizes[entry.tenant] -= entry.size
            if not self._of[entry.tenant]:
                del self._of[entry.tenant], self._sizes[entry.tenant]
