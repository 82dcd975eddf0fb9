"""The requests under way in a server, so that they can be cancelled from outside the connection that they came on.

A client of the handshake era cancels by a notification. Where there are no sessions, it comes on another connection and
perhaps at another server: it is passed to all servers, and the one that has the request cancels it. A request is known
by its tenant, its session's name and its id, so that nobody can cancel another tenant's.

On its own connection it may be faster than its request, whose body is large or whose key is being looked up. So each
server remembers for a while what it has no request for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
from mcp import types
from mcp.shared.exceptions import MCPError

from konstruct_mcp.core.shares import Shares
from konstruct_mcp.core.sharing import Broadcast

CANCELLED = "cancel"  # the topic of cancellations
_MOST_BYTES = 2048  # of a cancellation: ids of a client that are longer name no request here
_EARLY_S = 60.0  # that a cancellation waits for its request: as long as a body may take by default
_EARLY_BYTES = 2 * 2**20  # of all that wait

Key = tuple[str | None, str, str]  # tenant, the session's name, request id


class RequestsUnderWay:
    """The requests that a server is answering."""

    def __init__(self, broadcast: Broadcast) -> None:
        """`broadcast` carries cancellations between servers."""
        self._broadcast = broadcast
        self._named: dict[Key, anyio.CancelScope] = {}
        self._scopes: set[anyio.CancelScope] = set()
        self._early: Shares[Key, bool] = Shares(_EARLY_BYTES, _EARLY_S)
        self._idle = anyio.Event()
        self._idle.set()
        self.refusing: str | None = None  # why no request is answered any more
        self._unsubscribe = broadcast.subscribe(CANCELLED, self._cancelled)

    @contextmanager
    def answering(self, key: Key | None) -> Iterator[None]:
        """A request is answered in the block; `key` is what it can be cancelled by, None where it cannot.

        Raises:
            MCPError: it was cancelled, or no request is answered any more.
        """
        if self.refusing is not None:
            raise MCPError(types.INTERNAL_ERROR, self.refusing)
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        self._idle = anyio.Event() if self._idle.is_set() else self._idle
        if key is not None:
            self._named[key] = scope
            if self._early.get(key):
                self._early.drop(key)
                scope.cancel()
        try:
            with scope:
                yield
        finally:
            self._scopes.discard(scope)
            if key is not None and self._named.get(key) is scope:
                del self._named[key]
            if not self._scopes:
                self._idle.set()
        if scope.cancelled_caught:
            raise MCPError(types.INTERNAL_ERROR, self.refusing or "the request was cancelled by its client")

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._scopes)

    async def idle(self) -> None:
        """Wait until there is none."""
        while self._scopes:
            await self._idle.wait()

    def cancel_all(self, why: str) -> None:
        """Cancel each, and answer no further one; `why` is what their clients are told."""
        self.refusing = why
        for scope in list(self._scopes):
            scope.cancel()

    def cancel_anywhere(self, key: Key) -> None:
        """Have the server that answers this request cancel it. Returns at once."""
        message = json.dumps(key).encode()
        if len(message) <= _MOST_BYTES:
            self._broadcast.publish(CANCELLED, message, str(key[0]))

    def _cancelled(self, message: bytes) -> None:
        try:
            tenant, session, request_id = json.loads(message)
            scope = self._named.get(key := (tenant, session, request_id))
        except (ValueError, TypeError):  # nothing of ours
            return
        if scope is not None:
            scope.cancel()
        else:
            self._early.keep(str(tenant), key, True, len(message))


def request_key(tenant: str | None, session: str | None, request_id: Any) -> Key | None:
    """The key of a request; None where it has no session's name, and so cannot be cancelled by a notification."""
    # An integer and its text are one id, as for the SDK.
    return None if not session or request_id is None else (tenant, session, str(request_id))


def cancelled_request(params: Mapping[str, Any] | None) -> Any:
    """The request id in a notification of cancellation; None where there is none."""
    request_id = (params or {}).get("requestId")
    return request_id if isinstance(request_id, str | int) and not isinstance(request_id, bool) else None
