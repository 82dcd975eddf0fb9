"""Notices to the clients that a list or a resource has changed.

They say what to look at again, and nothing of what is in it: each client then sees what its own caller may see.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
from mcp.server.session import ServerSession
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated, SubscriptionBus, ToolsListChanged

_PATIENCE_S = 5.0  # for a client to take a notice: one that reads nothing keeps no other from hearing


class ChangeNotices:
    """Tells every client of a server: those of the 2026 era that listen, over a bus, and those of the handshake era on
    their connections.

    The bus is the SDK's `SubscriptionBus`, of two methods. Where several servers share one, each tells the clients of
    all.
    """

    def __init__(self, bus: SubscriptionBus) -> None:
        self._bus = bus
        self._sessions: dict[object, ServerSession] = {}

    def join(self, session: ServerSession) -> None:
        """From now on, until its connection closes, a client of the handshake era is told."""
        connection = session._connection  # the SDK has the connection's end nowhere else
        if connection.has_standalone_channel and connection not in self._sessions:
            self._sessions[connection] = session
            connection.exit_stack.callback(self._sessions.pop, connection, None)

    async def config_faults_changed(self, config_uri: str) -> None:
        """Announce that the config resource has changed."""
        with anyio.move_on_after(_PATIENCE_S):
            await self._bus.publish(ResourceUpdated(uri=config_uri))

    async def groups_changed(self, groups_uri: str) -> None:
        """Announce that the groups have changed, and with them the tools and the resources."""
        with anyio.move_on_after(_PATIENCE_S):
            await self._bus.publish(ResourceUpdated(uri=groups_uri))
            await self._bus.publish(ToolsListChanged())
            await self._bus.publish(ResourcesListChanged())
        async with anyio.create_task_group() as tasks:
            for session in list(self._sessions.values()):
                tasks.start_soon(_tell, session.send_tool_list_changed, session.send_resource_list_changed)


async def _tell(*notices: Callable[[], Awaitable[None]]) -> None:
    with anyio.move_on_after(_PATIENCE_S), suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        for notice in notices:
            await notice()
