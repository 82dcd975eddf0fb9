"""What several servers of one installation share and what may be lost: short messages, and values for a while.

Each has a local form, of a server that stands alone, and a shared one in `konstruct_mcp.shared`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Broadcast(Protocol):
    """Short messages to all servers of an installation, this one included. A message can be lost."""

    def publish(self, topic: str, message: bytes) -> None:
        """Send a message. Returns at once and raises nothing."""
        ...

    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> Callable[[], None]:
        """From now on call `receive` with each message on the topic, in the event loop. Returns what ends it."""
        ...


class LocalBroadcast:
    """Messages within this process. `receive` is called before `publish` returns."""

    def __init__(self) -> None:
        self._receivers: dict[str, list[Callable[[bytes], None]]] = {}

    def publish(self, topic: str, message: bytes) -> None:
        for receive in list(self._receivers.get(topic, ())):
            receive(message)

    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> Callable[[], None]:
        receivers = self._receivers.setdefault(topic, [])
        receivers.append(receive)
        return lambda: receivers.remove(receive) if receive in receivers else None


class SharedValues(Protocol):
    """Values that every server of an installation can read for a while. A value can be lost."""

    async def put(self, key: str, value: bytes, ttl_s: float) -> bool:
        """Keep a value for so many seconds; whether it is kept. Raises nothing."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The value; None where there is none, or none any more. Raises nothing."""
        ...
