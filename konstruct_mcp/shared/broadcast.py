"""Short messages to all servers of an installation, by publish and subscribe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from redis.exceptions import RedisError

from konstruct_mcp.core.sharing import LocalBroadcast
from konstruct_mcp.shared.connection import BEAT_S, GONE_S, Connection

_log = logging.getLogger(__name__)

_MOST_BYTES = 64 * 1024  # of one message; more is not sent, and not read
_AGAIN_S = 0.5  # before the next attempt to listen
_ECHO = "echo"  # the topic of messages by which a server hears that it hears


class ValkeyBroadcast:
    """Messages by one channel for all topics. Within this process they arrive at once, with the server away too."""

    def __init__(self, connection: Connection, on_listening: Callable[[], None] = lambda: None) -> None:
        """`on_listening` is called whenever it begins to hear: what was said before, nobody says again."""
        self._connection, self._on_listening = connection, on_listening
        self._local = LocalBroadcast()
        self._channel = connection.key("messages")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen; returns at once."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._echo())]

    async def aclose(self) -> None:
        """End; safe to call twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def publish(self, topic: str, message: bytes) -> None:
        self.tell_others(topic, message)
        self._local.publish(topic, message)

    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> Callable[[], None]:
        return self._local.subscribe(topic, receive)

    def tell_others(self, topic: str, message: bytes) -> None:
        """Send a message to the other servers only."""
        sent = b"\n".join((self._connection.id.encode(), topic.encode(), message))
        if len(sent) <= _MOST_BYTES:
            self._connection.send("PUBLISH", self._channel, sent)

    async def _echo(self) -> None:
        """An idle connection that is broken looks like one on which nobody says anything."""
        while True:
            self.tell_others(_ECHO, b"")
            await asyncio.sleep(BEAT_S)

    async def _listen(self) -> None:
        while True:
            client = self._connection.listening_client()
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with client, client.pubsub() as listening:
                    async with asyncio.timeout(GONE_S):
                        await listening.subscribe(self._channel)
                    while True:
                        async with asyncio.timeout(GONE_S):
                            received = await listening.get_message(timeout=None)
                        if received is not None and received["type"] == "subscribe":
                            self._on_listening()
                        elif received is not None and received["type"] == "message":
                            self._received(received["data"])
            await asyncio.sleep(_AGAIN_S)

    def _received(self, sent: object) -> None:
        """Pass a message on; one that no server of ours has sent is dropped."""
        if not isinstance(sent, bytes) or len(sent) > _MOST_BYTES or sent.count(b"\n") < 2:
            return
        sender, topic, message = sent.split(b"\n", 2)
        if sender == self._connection.id.encode():
            return
        try:
            self._local.publish(topic.decode(errors="replace"), message)
        except Exception as error:  # whoever receives parses it, and must not end the listening
            _log.warning("a message of another server could not be taken: %s", type(error).__name__)
