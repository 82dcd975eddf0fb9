"""Whose request is being handled, for the log: set where a request comes in, and seen by whatever it leads to."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from konstruct_mcp.core.text import cut


@dataclass(slots=True)
class RequestContext:
    """One request.

    Attributes:
        rpc_id: its id as the client has it, which is unique in one connection at most.
        tenant: on whose account it is; None as long as that is not known.
        id: its id in the log, which no other request has.
    """

    rpc_id: str | None = None
    tenant: str | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(8))


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def current_request() -> RequestContext | None:
    """The request that is being handled; None where there is none."""
    return _current.get()


@contextmanager
def handling(rpc_id: object) -> Iterator[None]:
    """What is done in the block is done for a request, whose id the client says, if it has one."""
    token = _current.set(RequestContext(None if rpc_id is None else cut(str(rpc_id))))
    try:
        yield
    finally:
        _current.reset(token)


def note_tenant(tenant: str) -> None:
    """It is known now on whose account the request is. No effect where there is no request."""
    if (request := _current.get()) is not None:
        request.tenant = tenant
