"""What a load balancer and an orchestrator ask: whether the server lives, and whether it should get requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from konstruct_mcp.core.errors import KonstructError
from konstruct_mcp.gateway.konstruct import Konstruct

_PATIENCE_S = 1.0  # for the ledger to say how it is


@dataclass(slots=True)
class Probes:
    """The routes `/healthz` and `/readyz`.

    A ledger that is out of reach is no reason to send requests elsewhere: every other server has the same one, and
    calls that cost nothing go on.

    Attributes:
        is_ending: whether the process is about to end.
    """

    konstruct: Konstruct
    is_ending: bool = False

    def routes(self) -> list[Route]:
        return [Route("/healthz", self._health, methods=["GET"]), Route("/readyz", self._readiness, methods=["GET"])]

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"alive": True})

    async def _readiness(self, _: Request) -> Response:
        reasons, degraded = await asyncio.gather(self._reasons(), self._degraded())
        body = {"ready": not reasons, "reasons": reasons, "degraded": degraded}
        return JSONResponse(body, 503 if reasons else 200, headers={"cache-control": "no-store"})

    async def _reasons(self) -> list[str]:
        if self.is_ending:
            return ["ending: calls under way are finished, and no others should come"]
        try:
            _ = self.konstruct.config
        except KonstructError:
            return ["config: cannot be used; see the log"]
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self.konstruct.opened()
        except TimeoutError:
            return ["ledger: is being opened"]
        except KonstructError:
            return ["ledger: cannot be used by this version, or not at all; see the log"]
        return []

    async def _degraded(self) -> list[str]:
        found = []
        if self.konstruct.config_error is not None:
            found.append("config: its file has changed and cannot be used; the one before is in use")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if await self.konstruct.ledger_fault() is not None:
                    found.append("ledger: out of reach; calls with a budget are refused")
        except (TimeoutError, KonstructError):
            found.append("ledger: does not answer; calls with a budget are refused")
        if self.konstruct.shared_state.startswith("away"):
            found.append("redis: out of reach; limits are divided by the number of servers, and cooldowns not shared")
        return found
