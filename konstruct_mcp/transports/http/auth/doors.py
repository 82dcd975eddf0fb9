"""What a request over HTTP has to show before anything else of it is looked at, and what it is answered without.

The answers are those of RFC 6750: 401 without a token or with one that proves nothing, 403 with one whose bearer may
not ask here, 400 for a request that names its token twice; and 503 while nobody can say. Their `WWW-Authenticate` names
the metadata of RFC 9728, by which an MCP client finds where to log in. No answer says more of a token than why it was
refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from mcp.server.context import ServerRequestContext
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from konstruct_mcp.config.http import HttpSettings
from konstruct_mcp.core.audit import refusals
from konstruct_mcp.core.errors import (
    ForbiddenTokenError,
    InvalidTokenError,
    KonstructError,
    UnknownTenantError,
    UnverifiedError,
)
from konstruct_mcp.core.fairness import Admission
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.transports.http.auth.authenticator import Authenticator
from konstruct_mcp.transports.http.doors import address_of

_METADATA = "/.well-known/oauth-protected-resource"
_CALLER, _AGAIN = "caller", "verify again"  # in the state of a request
_SCHEME = "bearer"
_RETRY_S = 5  # where nothing else is known of when it will be better


class _NoTokenError(Exception):
    """A request whose token cannot be told.

    Attributes:
        error: as RFC 6750 names what is wrong; None for a request that carries none, which has nothing wrong.
        status: of the answer.
    """

    def __init__(self, message: str, error: str | None = None, status: int = 401) -> None:
        super().__init__(message)
        self.message, self.error, self.status = message, error, status


def authenticated(app: ASGIApp, authenticator: Authenticator, settings: HttpSettings) -> ASGIApp:
    """The app for verified callers, each of whom is in the state of the request. Others are answered here.

    One request begins in each turn of the event loop, and tenants take turns. Else a hundred of one tenant's would have
    each step of another's call wait for a step of all of them.
    """
    beginnings = Admission(1)

    async def authenticate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "OPTIONS":  # which carries no token, and asks for nothing
            await app(scope, receive, send)
            return
        try:
            token = _token_of(scope)
            caller = await authenticator.caller(token)
        except (KonstructError, _NoTokenError) as error:
            response = _refusal(error, authenticator, _resource(scope, settings))
            audit_refusal(error, scope)
            await response(scope, receive, send)
            return
        async with beginnings.turn(0, caller.tenant or ""):
            await asyncio.sleep(0)
        state = {**scope.get("state", {}), _CALLER: caller, _AGAIN: partial(authenticator.caller, token)}
        await app({**scope, "state": state}, receive, send)

    return authenticate


def caller_of(ctx: ServerRequestContext[Any]) -> Caller:
    """The caller of a request that has come through `authenticated`.

    Raises:
        UnknownTenantError: it has not.
    """
    scope: Mapping[str, Any] = getattr(ctx.request, "scope", {})
    caller = scope.get("state", {}).get(_CALLER)
    if not isinstance(caller, Caller):
        raise UnknownTenantError("nobody has verified who sends this request")
    return caller


def anybody(_: ServerRequestContext[Any]) -> Caller:
    """The caller of a request where nobody is verified: the process's client, as far as it can be one over HTTP."""
    return Caller(is_remote=True)


async def verify_again(ctx: ServerRequestContext[Any]) -> None:
    """See whether the caller of a request that has come through `authenticated` may still ask.

    Raises:
        InvalidTokenError, ForbiddenTokenError: they may not.
        UnverifiedError: nobody can say now.
    """
    scope: Scope = getattr(ctx.request, "scope", {})
    try:
        await scope["state"][_AGAIN]()
    except KonstructError as error:
        if not isinstance(error, UnverifiedError):
            audit_refusal(error, scope)
        raise


def routes(authenticator: Authenticator, settings: HttpSettings) -> list[Route]:
    """The metadata of the protected resource (RFC 9728), which anybody may read."""

    async def metadata(request: Request) -> Response:
        if not (issuers := authenticator.issuers):
            return JSONResponse({"error": "not_found"}, 404)
        scopes = authenticator.scopes
        return JSONResponse(
            {
                "resource": _resource(request.scope, settings),
                "authorization_servers": list(issuers),
                **({"scopes_supported": list(scopes)} if scopes else {}),
                "bearer_methods_supported": ["header"],
                "resource_name": "Konstruct",
            },
            headers={"cache-control": "max-age=300"},
        )

    return [Route(path, metadata, methods=["GET"]) for path in (_METADATA, f"{_METADATA}{settings.path}")]


def _token_of(scope: Scope) -> str:
    """The token of a request, which is in its one header `Authorization`, and nowhere else."""
    headers: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if not headers:
        raise _NoTokenError("send a key or an access token in the header Authorization, as Bearer")
    if len(headers) > 1:
        raise _NoTokenError("there is more than one header Authorization", "invalid_request", 400)
    scheme, _, token = headers[0].decode("latin-1").strip().partition(" ")
    if scheme.lower() != _SCHEME:
        raise _NoTokenError("the header Authorization should have the scheme Bearer")
    if not (token := token.strip()) or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidTokenError("this is neither a key nor an access token")
    return token


def _resource(scope: Scope, settings: HttpSettings) -> str:
    """The endpoint's address as this client knows it."""
    if settings.public_url is not None:
        return settings.public_url
    return str(URL(scope=scope).replace(path=settings.path, query="", fragment=""))


def _metadata_of(resource: str) -> str:
    """Where the metadata of a resource is: its path behind the well-known one (RFC 9728, 3.1)."""
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}{_METADATA}{parts.path.rstrip('/')}"


def _refusal(error: KonstructError | _NoTokenError, authenticator: Authenticator, resource: str) -> Response:
    match error:
        case _NoTokenError():
            status, said, wanted = error.status, error.error, authenticator.scopes
        case InvalidTokenError():
            status, said, wanted = 401, error.code, authenticator.scopes
        case ForbiddenTokenError():
            status, wanted = 403, error.missing_scopes
            # A client that is told of a scope asks for it, and would ask for nothing over and over.
            said = "insufficient_scope" if wanted else None
        case _:
            retry_s = error.retry_after_s if isinstance(error, UnverifiedError) else _RETRY_S
            body = {"error": "temporarily_unavailable", "error_description": error.message}
            return JSONResponse(body, 503, headers={"retry-after": str(retry_s), "cache-control": "no-store"})
    challenge = {"error": said, "error_description": error.message.replace('"', "'")} if said else {}
    if wanted:
        challenge["scope"] = " ".join(wanted)
    if authenticator.issuers:
        challenge["resource_metadata"] = _metadata_of(resource)
    told = ", ".join(f'{name}="{value}"' for name, value in challenge.items())
    body = {"error": said or ("forbidden" if status == 403 else "missing_token"), "error_description": error.message}
    headers = {"www-authenticate": f"Bearer {told}".strip(), "cache-control": "no-store"}
    return JSONResponse(body, status, headers=headers)


def audit_refusal(error: KonstructError | _NoTokenError, scope: Scope) -> None:
    """Note in the audit log why a request was refused, and from which address it came: a proxy's, where none is
    trusted."""
    code = error.code if isinstance(error, KonstructError) else error.error or "missing_token"
    refusals.refused(code, why=error.message, client=address_of(scope))
