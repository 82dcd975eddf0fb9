"""What several servers of one installation share and what may be lost: short messages, and values for a while.

Both are in `konstruct_mcp.shared`. A server that stands alone has the local form of messages, and no such values. No
call waits for what is shared longer than a tenth of a second in all (`patience`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol

_CALL_S = 0.1  # that one call waits for what is shared, in all


class Look(NamedTuple):
    """What is seen of the Valkey server by who is no server himself.

    Attributes:
        fault: why servers cannot use it, without an address or a password; None where they can.
        servers: how many there are, by what they have told it.
    """

    fault: str | None
    servers: int = 0


class Broadcast(Protocol):
    """Short messages to all servers of an installation, this one included. A message can be lost."""

    def publish(self, topic: str, message: bytes, tenant: str = "") -> None:
        """Send a message, of 64 KiB at most. Returns at once and raises nothing.

        Args:
            tenant: whose it is: one tenant's messages push out no other's while they cannot be sent.
        """
        ...

    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> Callable[[], None]:
        """From now on call `receive` with each message on the topic, in the event loop. Returns what ends it."""
        ...


class LocalBroadcast:
    """Messages within this process. `receive` is called before `publish` returns."""

    def __init__(self) -> None:
        self._receivers: dict[str, list[Callable[[bytes], None]]] = {}

    def publish(self, topic: str, message: bytes, tenant: str = "") -> None:
        for receive in list(self._receivers.get(topic, ())):
            receive(message)

    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> Callable[[], None]:
        receivers = self._receivers.setdefault(topic, [])
        receivers.append(receive)
        return lambda: receivers.remove(receive) if receive in receivers else None


class SharedValues(Protocol):
    """Values that every server of an installation can read for a while. A value can be lost, and can be anything:
    whoever reads one looks what it is, and whose."""

    async def put(self, key: str, value: bytes, ttl_s: float) -> bool:
        """Keep a value for so many seconds; whether it is kept. Raises nothing."""
        ...

    async def renew(self, keys: Sequence[str], ttl_s: float) -> None:
        """Keep those of these values that are there for so many seconds from now. Raises nothing."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The value; None where there is none, or none any more. Raises nothing."""
        ...

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The value of each key."""
        ...


_left: ContextVar[list[float] | None] = ContextVar("left", default=None)  # seconds of the call under way, in a list


@contextmanager
def call_patience() -> Iterator[None]:
    """Within the block, which is one call, what is shared is waited for a tenth of a second in all."""
    token = _left.set([_CALL_S])
    try:
        yield
    finally:
        _left.reset(token)


@contextmanager
def patience(most_s: float) -> Iterator[float]:
    """The seconds for which the block may wait for what is shared: what is left of the call's, and `most_s` at most.
    What the block takes is taken off."""
    left = _left.get()
    if left is None:
        yield most_s
        return
    began = time.monotonic()
    try:
        yield min(most_s, left[0])
    finally:
        left[0] -= time.monotonic() - began
