"""Notices to the clients that a list or a resource has changed.

They say what to look at again, and nothing of what is in it: each client then sees what its own caller may see. A
notice of one server goes to the clients of all: a client listens at one, and asks another.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

import anyio
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    SubscriptionBus,
    ToolsListChanged,
)

from konstruct_mcp.core.sharing import Broadcast

NOTICES = "notices"  # the topic of what has changed
_MOST_BYTES = 32 * 1024  # of one message; where more tenants are concerned, everybody is told
_PATIENCE_S = 5.0  # for a client to take a notice: one that reads nothing keeps no other from hearing
_LISTS: dict[str, type[ToolsListChanged | ResourcesListChanged]] = {
    "tools": ToolsListChanged,
    "resources": ResourcesListChanged,
}

Tenants = Collection[str] | None  # who is told; None for everybody. Whoever is no tenant is always told.
_Listener = tuple[str | None, Callable[[ServerEvent], None]]


class ChangeNotices:
    """Tells the clients of a server: those of the 2026 era that listen, over a bus of each tenant, and those of the
    handshake era on their connections."""

    def __init__(self, broadcast: Broadcast) -> None:
        """`broadcast` carries notices between servers."""
        self._broadcast = broadcast
        self._listeners: dict[object, _Listener] = {}
        self._sessions: dict[object, tuple[str | None, ServerSession]] = {}
        broadcast.subscribe(NOTICES, self._heard)

    def bus_of(self, tenant: str | None) -> SubscriptionBus:
        """What the SDK's listening hears the notices of a tenant by; None for whoever is no tenant."""
        return _Bus(self, tenant)

    def join(self, session: ServerSession, tenant: str | None) -> None:
        """From now on, until its connection closes, a client of the handshake era is told."""
        connection = session._connection  # the SDK has the connection's end nowhere else
        if connection.has_standalone_channel and connection not in self._sessions:
            self._sessions[connection] = tenant, session
            connection.exit_stack.callback(self._sessions.pop, connection, None)

    def config_changed(self, config_uri: str, tenants: Tenants = None) -> None:
        """Announce that the config resource has changed. Returns at once."""
        self.publish(ResourceUpdated(uri=config_uri), tenants)

    def groups_changed(self, groups_uri: str, tenants: Tenants = None) -> None:
        """Announce to those who listen that the groups have changed, and with them the tools and the resources. Returns
        at once."""
        for event in (ResourceUpdated(uri=groups_uri), ToolsListChanged(), ResourcesListChanged()):
            self.publish(event, tenants)

    async def tell_sessions(self, tenants: Tenants = None) -> None:
        """Announce the same to the clients of the handshake era that are connected here."""
        async with anyio.create_task_group() as tasks:
            for tenant, session in list(self._sessions.values()):
                if _concerns(tenants, tenant):
                    tasks.start_soon(_tell, session.send_tool_list_changed, session.send_resource_list_changed)

    def publish(self, event: ServerEvent, tenants: Tenants) -> None:
        """Tell the clients of all servers."""
        named = None if tenants is None else sorted(tenants)
        kind = next((kind for kind, made in _LISTS.items() if isinstance(event, made)), None)
        told = kind or (event.uri if isinstance(event, ResourceUpdated) else "")
        message = json.dumps([kind is not None, told, named]).encode()
        if len(message) > _MOST_BYTES:
            message = json.dumps([kind is not None, told, None]).encode()
        self._broadcast.publish(NOTICES, message)

    def subscribe(self, tenant: str | None, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """From now on call this with what a tenant is told. Returns what ends it."""
        token = object()
        self._listeners[token] = tenant, listener
        return lambda: (self._listeners.pop(token, None), None)[1]

    def _heard(self, message: bytes) -> None:
        try:
            is_list, told, tenants = json.loads(message)
            event: ServerEvent = _LISTS[told]() if is_list else ResourceUpdated(uri=str(told))
        except (ValueError, TypeError, KeyError):  # nothing of ours
            return
        named = frozenset(one for one in tenants if isinstance(one, str)) if isinstance(tenants, list) else None
        for tenant, listener in list(self._listeners.values()):
            if _concerns(named, tenant):
                listener(event)


class _Bus:
    """The notices of one tenant, as the SDK wants them."""

    def __init__(self, notices: ChangeNotices, tenant: str | None) -> None:
        self._notices, self._tenant = notices, tenant

    async def publish(self, event: ServerEvent) -> None:
        self._notices.publish(event, None if self._tenant is None else [self._tenant])

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        return self._notices.subscribe(self._tenant, listener)


def _concerns(tenants: Tenants, tenant: str | None) -> bool:
    return tenants is None or tenant is None or tenant in tenants


async def _tell(*notices: Callable[[], Awaitable[None]]) -> None:
    with anyio.move_on_after(_PATIENCE_S), suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        for notice in notices:
            await notice()
