"""What this server shares with the others of its installation: all of it in memory, or in Valkey where the config names
one."""

from __future__ import annotations

from typing import Protocol

from konstruct_mcp.config.redis import RedisPlace
from konstruct_mcp.core.sharing import Broadcast, LocalBroadcast, LocalValues, Look, SharedValues
from konstruct_mcp.routing.health import HealthStore, MemoryHealthStore
from konstruct_mcp.routing.limits import LimitStore, MemoryLimitStore


class Sharing(Protocol):
    """Messages, values, and the stores that the routes of the config in use stand on."""

    @property
    def is_shared(self) -> bool:
        """Whether there can be other servers."""
        ...

    @property
    def broadcast(self) -> Broadcast: ...

    @property
    def values(self) -> SharedValues: ...

    @property
    def health_store(self) -> HealthStore: ...

    @property
    def limit_store(self) -> LimitStore: ...

    @property
    def tenant_limit_store(self) -> LimitStore: ...

    @property
    def status(self) -> str:
        """`local`, `ok`, or `away for … s`."""
        ...

    def use(self, health_store: HealthStore, limit_store: LimitStore) -> None:
        """Go by these stores from now on: those that a new config has made of the ones before."""
        ...

    def start(self) -> None:
        """Begin; returns at once."""
        ...

    async def aclose(self) -> None:
        """End; safe to call twice."""
        ...


class LocalSharing:
    """That of a server that stands alone."""

    is_shared = False
    status = "local"

    def __init__(self) -> None:
        self.broadcast: Broadcast = LocalBroadcast()
        self.values: SharedValues = LocalValues()
        self.health_store: HealthStore = MemoryHealthStore()
        self.limit_store: LimitStore = MemoryLimitStore()
        self.tenant_limit_store: LimitStore = MemoryLimitStore()

    def use(self, health_store: HealthStore, limit_store: LimitStore) -> None:
        self.health_store, self.limit_store = health_store, limit_store

    def start(self) -> None:
        """There is nothing to begin."""

    async def aclose(self) -> None:
        """There is nothing to end."""


def sharing_of(place: RedisPlace | None) -> Sharing:
    """That of a config's Valkey server; None for a server that stands alone."""
    if place is None:
        return LocalSharing()
    from konstruct_mcp.shared.state import SharedState  # which imports redis

    return SharedState(place)


async def look_at(place: RedisPlace | None) -> Look | None:
    """What is seen of a config's Valkey server; None where it names none."""
    if place is None:
        return None
    from konstruct_mcp.shared.look import look  # which imports redis

    return await look(place)
