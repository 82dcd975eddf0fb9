"""The routes of the operators' page.

Whoever has logged in has a cookie with their token, which every request verifies anew: no server keeps a session, any
server answers, and a key that is revoked opens nothing any more. No script is shown the cookie, no other site has it
sent, and it goes over HTTPS alone where the page came by it.

The page changes nothing; what changes keys and tenants is the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from konstruct_mcp.config.packages import installed
from konstruct_mcp.core.errors import AccessError, ForbiddenTokenError, KonstructError, UnverifiedError
from konstruct_mcp.core.spending import UsageReport
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.gateway.konstruct import Konstruct
from konstruct_mcp.pages.usage import chart_script
from konstruct_mcp.transports.http.auth.authenticator import Authenticator
from konstruct_mcp.transports.http.auth.doors import audit_refusal
from konstruct_mcp.transports.http.operators.page import PERIODS, Overview, login, overview

_COOKIE = "konstruct_operator"
_LOGGED_IN_S = 12 * 3600
_LONGEST_IN_A_COOKIE = 4000  # characters: browsers drop a larger cookie without a word (RFC 6265, 6.1)
_SCRIPT = "charts.js"
_PATIENCE_S = 5.0  # for the ledger
_SECURITY = {
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_T = TypeVar("_T")


def operator_routes(konstruct: Konstruct, authenticator: Authenticator | None) -> list[Route]:
    """The page at `/`, and what it needs.

    Args:
        authenticator: verifies tokens; None where nobody is verified, and everybody who reaches the server is the
            operator.
    """
    page = _OperatorsPage(konstruct, authenticator)
    return [
        Route("/", page.show, methods=["GET"]),
        Route("/login", page.log_in, methods=["POST"]),
        Route("/logout", page.log_out, methods=["POST"]),
        Route(f"/{_SCRIPT}", _chart_script, methods=["GET"]),
    ]


class _OperatorsPage:
    def __init__(self, konstruct: Konstruct, authenticator: Authenticator | None) -> None:
        self._konstruct, self._authenticator = konstruct, authenticator

    async def show(self, request: Request) -> Response:
        """The page, or the form to log in."""
        if self._authenticator is None:
            return await self._overview(request, Caller())
        token = request.cookies.get(_COOKIE)
        if token is None:
            return _html(login(None))
        try:
            caller = await _operator(self._authenticator, token)
        except KonstructError as error:
            audit_refusal(error, request.scope)
            response = _html(login(error.message), _status(error))
            if not isinstance(error, UnverifiedError):
                response.delete_cookie(_COOKIE)
            return response
        return await self._overview(request, caller)

    async def log_in(self, request: Request) -> Response:
        """Set the cookie, if the token is an operator's."""
        response = RedirectResponse(".", 303, headers=_SECURITY)
        if self._authenticator is None:
            return response
        token = _token_of(await request.body())
        try:
            await _operator(self._authenticator, token)
        except KonstructError as error:
            audit_refusal(error, request.scope)
            return _html(login(error.message), _status(error))
        if len(token) > _LONGEST_IN_A_COOKIE:
            return _html(login("this token is longer than a browser keeps; log in with a key of scope operator"), 400)
        is_https = request.url.scheme == "https"
        response.set_cookie(_COOKIE, token, _LOGGED_IN_S, httponly=True, secure=is_https, samesite="strict")
        return response

    async def log_out(self, _: Request) -> Response:
        """Take the cookie away."""
        response = RedirectResponse(".", 303, headers=_SECURITY)
        response.delete_cookie(_COOKIE)
        return response

    async def _overview(self, request: Request, caller: Caller) -> Response:
        period = request.query_params.get("period", "30")
        period = period if period in PERIODS else "30"
        faults = ["The config has changed and cannot be used: " + fault for fault in self._konstruct.config_faults]

        async def read(what: Callable[[], Awaitable[_T]]) -> _T | None:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    return await what()
            except (KonstructError, TimeoutError):
                return None

        report, keys, tenants = await asyncio.gather(
            read(lambda: self._usage(period, caller)),
            read(self._konstruct.list_keys),
            read(self._konstruct.list_tenants),
        )
        if None in (report, keys, tenants):
            faults.append("The ledger does not answer: usage, keys and tenants cannot all be shown.")
        shown = Overview(period, await self._now(), faults, report, keys, tenants, self._konstruct.all_groups())
        script = _SCRIPT if installed("plotly") else None
        # In a thread: of a long report it takes a second, in which no call would go on.
        may_log_out = self._authenticator is not None
        return _html(await asyncio.to_thread(overview, shown, chart_script=script, may_log_out=may_log_out))

    async def _usage(self, period: str, caller: Caller) -> UsageReport:
        since = None
        if period != "all":
            since = (datetime.now(UTC).date() - timedelta(days=int(period) - 1)).isoformat()
        return await self._konstruct.usage(since=since, caller=caller)

    async def _now(self) -> dict[str, str]:
        gauges = await self._konstruct.gauges()
        rows = "unknown" if gauges.spool_rows is None else f"{gauges.spool_rows:,}"
        return {
            "calls under way": f"{gauges.calls_under_way:,}",
            "calls waiting": f"{gauges.calls_waiting:,}",
            "ledger": "up" if gauges.ledger_is_up else "away",
            "rows waiting for it": rows,
            "reservations of this server": f"{gauges.open_reservations:,}",
        }


async def _operator(authenticator: Authenticator, token: str) -> Caller:
    """The operator that a token stands for.

    Raises:
        AccessError: it stands for none.
    """
    caller = await authenticator.caller(token)
    if not caller.is_operator:
        raise ForbiddenTokenError("this token is not an operator's: it lacks the scope operator")
    return caller


def _token_of(form: bytes) -> str:
    """The token in a form; "" where it is no such form."""
    try:
        sent = parse_qs(form.decode("utf-8", "replace"), max_num_fields=10)
    except ValueError:  # more fields than any form of ours has
        return ""
    return sent.get("token", [""])[0].strip()


async def _chart_script(_: Request) -> Response:
    try:
        script = await asyncio.to_thread(chart_script)
    except ImportError:
        return Response(status_code=404)
    return Response(script, media_type="text/javascript", headers={"cache-control": "public, max-age=86400"})


def _html(text: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(text, status, headers=_SECURITY)


def _status(error: KonstructError) -> int:
    if isinstance(error, ForbiddenTokenError):
        return 403
    return 401 if isinstance(error, AccessError) and not isinstance(error, UnverifiedError) else 503
