"""Who makes each request, as the transport knows it.

A server is built with a function from the context of a request to its `Caller`. Over stdio that is `the_process`; over
HTTP with a token verifier, what `verified_callers` gives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.context import ServerRequestContext

from konstruct_mcp.core.errors import UnknownTenantError
from konstruct_mcp.gateway.caller import Caller

CallerOf = Callable[[ServerRequestContext[Any]], Caller]
VerifyAgain = Callable[[ServerRequestContext[Any]], Awaitable[object]]

_PROCESS = Caller()
_CURRENT: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """The caller of the request that is being handled."""
    return _CURRENT.get()


@contextmanager
def request_of(caller: Caller) -> Iterator[None]:
    """What is handled in the block is a request of this caller."""
    token = _CURRENT.set(caller)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def the_process(_: ServerRequestContext[Any]) -> Caller:
    """Every request is the process's own: whoever starts the server says whose it is."""
    return _PROCESS


def verified_callers(tenant_of: Callable[[AccessToken], str | None]) -> CallerOf:
    """Each request is of the tenant that its access token stands for, which the SDK's HTTP app has verified.

    Args:
        tenant_of: the tenant's id of a token; None for a token that stands for no tenant. Whoever builds the server
            decides it, because only they know what their tokens say. A subject is unique for one issuer alone. With one
            issuer whose subjects are the tenants:

                verified_callers(lambda token: token.subject)

            With a claim of its own:

                verified_callers(lambda token: (token.claims or {}).get("tenant"))

    The SDK binds a session to its token's client, issuer and subject. Give each tenant's tokens a subject of its own,
    or serve without sessions: otherwise whoever learns a session's id can cancel its calls and end it.

    The function that is returned raises UnknownTenantError for a request without a token, and for a token that stands
    for no tenant: nobody is taken for the process.
    """

    def caller_of(_: ServerRequestContext[Any]) -> Caller:
        token = get_access_token()
        if token is None:
            raise UnknownTenantError("this request carries no access token")
        tenant = tenant_of(token)
        if not isinstance(tenant, str) or not tenant:
            raise UnknownTenantError("this access token stands for no tenant; ask whoever runs this server")
        return Caller.verified(tenant, subject=token.subject or token.client_id, scopes=token.scopes)

    return caller_of
