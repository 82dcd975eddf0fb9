"""What several servers of one installation share and what may be lost: short messages, and values for a while.

Each has a local form, of a server that stands alone, and a shared one in `konstruct_mcp.shared`. No call waits for it
longer than a tenth of a second in all (`patience`).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol

_CALL_S = 0.1  # that one call waits for what is shared, in all
_MOST_BYTES = 16 * 2**20  # of the values that a server keeps for itself


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

    def publish(self, topic: str, message: bytes) -> None:
        """Send a message, of 64 KiB at most. Returns at once and raises nothing."""
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
    """Values that every server of an installation can read for a while. A value can be lost, and can be anything:
    whoever reads one looks what it is, and whose."""

    async def put(self, key: str, value: bytes, ttl_s: float) -> bool:
        """Keep a value for so many seconds; whether it is kept. Raises nothing."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The value; None where there is none, or none any more. Raises nothing."""
        ...

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The value of each key."""
        ...


class LocalValues:
    """Values in the memory of this process, 16 MiB at most: the oldest make room."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._bytes, self._clock = 0, clock

    async def put(self, key: str, value: bytes, ttl_s: float) -> bool:
        self._drop(key)
        if len(value) > _MOST_BYTES:
            return False
        self._values[key] = value, self._clock() + ttl_s
        self._bytes += len(value)
        while self._bytes > _MOST_BYTES:
            self._drop(next(iter(self._values)))
        return True

    async def get(self, key: str) -> bytes | None:
        value, until = self._values.get(key, (None, 0.0))
        if until <= self._clock():
            self._drop(key)
            return None
        return value

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    def _drop(self, key: str) -> None:
        value, _ = self._values.pop(key, (b"", 0.0))
        self._bytes -= len(value)


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
