"""How many requests and tokens a tenant may use within a minute."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from konstruct_mcp.config.model import Tenant
from konstruct_mcp.core.errors import RateLimitedError
from konstruct_mcp.routing.limits import LimitStore


class TenantLimits:
    """Counts what tenants with limits (`rpm`, `tpm`) use; it outlives every config."""

    def __init__(self, store: LimitStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock

    async def admit(self, tenant: Tenant) -> None:
        """Count a request of a tenant.

        Raises:
            RateLimitedError: it may make none now. The request is not counted.
        """
        if tenant.rpm is None and tenant.tpm is None:
            return
        key, now = _key(tenant), self._clock()
        limit = self._store.used(key, now).reached(tenant.rpm, tenant.tpm)
        if limit is None:
            self._store.add(key, now, 1, 0)
            everywhere = await self._store.claim(key, now, tenant.rpm, tenant.tpm)
            if everywhere is None:
                return
            self._store.take_back(key, now)
            limit = everywhere.reached(tenant.rpm, tenant.tpm)
        wait_s = max(1, math.ceil(self._store.until_less(key, now)))
        raise RateLimitedError(f"at the limit of {limit} a minute; try again in {wait_s} s", wait_s)

    def use(self, tenant: Tenant, tokens: int) -> None:
        """Count tokens that a call of a tenant has used."""
        if tokens and tenant.tpm is not None:
            self._store.add(_key(tenant), self._clock(), 0, tokens)


def _key(tenant: Tenant) -> str:
    return f"tenant:{tenant.id}"
