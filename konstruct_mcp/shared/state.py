"""All that several servers share in Valkey or Redis, with one connection for commands and one for messages."""

from __future__ import annotations

import time

from konstruct_mcp.config.redis import RedisPlace
from konstruct_mcp.shared.broadcast import ValkeyBroadcast
from konstruct_mcp.shared.connection import Connection
from konstruct_mcp.shared.cooldowns import Cooldowns, SharedHealthStore
from konstruct_mcp.shared.limits import CatchingUp, SharedLimitStore
from konstruct_mcp.shared.values import ValkeyValues

_JOINED = "joined"  # the topic of messages that a server is there, so that the others count again


class SharedState:
    """What this server shares with others. Use it within one event loop, from `start` to `aclose`.

    Attributes:
        broadcast, values: for whoever has something to say, or to keep.
        health_store, limit_store: for the routes of the config in use, which make their own of them for the next one.
        tenant_limit_store: for the limits of tenants.
    """

    def __init__(self, place: RedisPlace) -> None:
        self._connection = Connection(place.url, place.prefix, place.replicas, self._is_back)
        self.broadcast = ValkeyBroadcast(self._connection, self._hears)
        self.values = ValkeyValues(self._connection)
        self.health_store = SharedHealthStore(time.monotonic, lambda key: self._cooldowns.tell(key))
        self.limit_store = SharedLimitStore(self._connection)
        self.tenant_limit_store = SharedLimitStore(self._connection)
        self._cooldowns = Cooldowns(self._connection, self.broadcast, lambda: self.health_store)
        self._catching_up = CatchingUp(lambda: (self.limit_store, self.tenant_limit_store))

    def use(self, health_store: object, limit_store: object) -> None:
        """Go by these stores from now on: those that a new config has made of the ones before."""
        if isinstance(health_store, SharedHealthStore) and isinstance(limit_store, SharedLimitStore):
            self.health_store, self.limit_store = health_store, limit_store
            self._cooldowns.read()

    def start(self) -> None:
        """Begin; returns at once."""
        self._connection.start()
        self.broadcast.start()
        self._cooldowns.start()
        self.broadcast.subscribe(_JOINED, lambda _: self._connection.look_now())

    async def aclose(self) -> None:
        """End; safe to call twice."""
        await self._cooldowns.aclose()
        await self._catching_up.aclose()
        await self.broadcast.aclose()
        await self._connection.aclose()

    def _hears(self) -> None:
        """Find out what has been said before this server listened, or while it did not."""
        self._connection.look_now()
        self._cooldowns.read()

    def _is_back(self) -> None:
        self.broadcast.tell_others(_JOINED, b"")
        self.broadcast.send_again()
        self._cooldowns.read()
        self._catching_up.begin()

    @property
    def status(self) -> str:
        """`ok`, or since when and how the server is away; it names no address."""
        since = self._connection.away_since
        if since is None:
            return "ok" if not self._connection.is_away else "away for 0 s"
        return f"away for {time.monotonic() - since:.0f} s"
