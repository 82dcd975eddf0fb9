"""A cache that several tenants share, with one size for all of them.

Where there is no more room, the oldest entry of the tenant that keeps most is dropped: a tenant that keeps a great deal
pushes out its own entries and not another's. It may be used in several threads, and reads no clock but the given one.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
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
    """Entries of several tenants; each key belongs to one of them."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` is the size of all entries together, in the unit that `keep` is given; each is kept for `seconds`."""
        self._most, self._seconds, self._clock = most, seconds, clock
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()  # oldest first
        self._by_tenant: dict[str, OrderedDict[K, None]] = {}  # the same keys, oldest first
        self._sizes: dict[str, int] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value of a key; None where it is not kept any more."""
        entry = self._entries.get(key)
        return None if entry is None or entry.until <= self._clock() else entry.value

    def keep(self, tenant: str, key: K, value: V, size: int) -> bool:
        """Keep a value of this size. False, and nothing is kept, if it is larger than the whole cache."""
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
        self._by_tenant.setdefault(tenant, OrderedDict())[key] = None
        self._sizes[tenant] = self._sizes.get(tenant, 0) + size
        while sum(self._sizes.values()) > self._most:
            self.drop(next(iter(self._by_tenant[max(self._sizes, key=self._sizes.__getitem__)])))

    def renew(self, key: K) -> bool:
        """Keep a key as long as one that is kept now, and let it be the last to be dropped; whether it is there."""
        with self._lock:
            entry = self._entries.get(key)
            now = self._clock()
            if entry is None or entry.until <= now:
                return False
            self._entries[key] = replace(entry, until=now + self._seconds)
            self._entries.move_to_end(key)
            self._by_tenant[entry.tenant].move_to_end(key)
            return True

    def values(self) -> list[V]:
        """The values that are kept, oldest first."""
        with self._lock:
            now = self._clock()
            return [entry.value for entry in self._entries.values() if entry.until > now]

    def drop(self, key: K) -> None:
        """Forget a key; without effect if it is not there."""
        with self._lock:
            if (entry := self._entries.pop(key, None)) is None:
                return
            del self._by_tenant[entry.tenant][key]
            self._sizes[entry.tenant] -= entry.size
            if not self._by_tenant[entry.tenant]:
                del self._by_tenant[entry.tenant], self._sizes[entry.tenant]
