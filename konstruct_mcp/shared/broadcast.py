"""Short messages to all servers of an installation, by publish and subscribe.

What could not be sent, as the server was away or hesitated, is sent again for a minute: a cancellation or a notice
comes late rather than not at all. A number in each message shows whoever receives it twice that it is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable

from redis.exceptions import RedisError

from konstruct_mcp.core.shares import Shares
from konstruct_mcp.core.sharing import LocalBroadcast
from konstruct_mcp.shared.connection import BEAT_S, GONE_S, Connection

_log = logging.getLogger(__name__)

_MOST_BYTES = 64 * 1024  # of one message; more is not sent, and not read
_AGAIN_S = 0.5  # before the next attempt to listen
_ECHO = "echo"  # the topic of messages by which a server hears that it hears
_UNSENT_S, _UNSENT_BYTES = 60.0, 500_000  # for how long, and up to what size, what could not be sent is kept
_ENTRY_BYTES = 200  # that each such message takes beside itself
_MOST_HEARD = 10_000  # messages by which one that comes twice is known
_ID_BYTES = 64  # of a sender and a number together


class ValkeyBroadcast:
    """Messages by one channel for all topics. Within this process they arrive at once, with the server away too."""

    def __init__(self, connection: Connection, on_listening: Callable[[], None] = lambda: None) -> None:
        """`on_listening` is called whenever it begins to hear: what was said before may never be said again."""
        self._connection, self._on_listening = connection, on_listening
        self._local = LocalBroadcast()
        self._channel = connection.key("messages")
        self._number = 0  # of the last message
        self._unsent: Shares[int, tuple[int, bytes]] = Shares(_UNSENT_BYTES, _UNSENT_S)
        self._heard: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()  # sender, number
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

    def publish(self, topic: str, message: bytes, tenant: str = "") -> None:
        number, sent = self._made(topic, message)

        def keep() -> None:
            self._unsent.keep(tenant, number, (number, sent), len(sent) + _ENTRY_BYTES)

        if len(sent) <= _MOST_BYTES:
            self._connection.send("PUBLISH", self._channel, sent, on_lost=keep)
        self._local.publish(topic, message)

    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> Callable[[], None]:
        return self._local.subscribe(topic, receive)

    def tell_others(self, topic: str, message: bytes) -> None:
        """Send a message to the other servers only, now or not at all."""
        _, sent = self._made(topic, message)
        if len(sent) <= _MOST_BYTES:
            self._connection.send("PUBLISH", self._channel, sent)

    def send_again(self) -> None:
        """Send what could not be sent within the last minute. It is sent more than once, since another server may begin
        to listen again later than this one to send."""
        for _, sent in sorted(self._unsent.values()):
            self._connection.send("PUBLISH", self._channel, sent)

    def _made(self, topic: str, message: bytes) -> tuple[int, bytes]:
        self._number += 1
        return self._number, b"%s\n%d\n%s\n%s" % (self._connection.id.encode(), self._number, topic.encode(), message)

    async def _echo(self) -> None:
        """An idle connection that is broken looks like one on which nobody says anything."""
        while True:
            self.tell_others(_ECHO, b"")
            self.send_again()
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
        """Pass a message on; one that no server of ours has sent is dropped, and so is one that was heard before."""
        if not isinstance(sent, bytes) or len(sent) > _MOST_BYTES or sent.count(b"\n") < 3:
            return
        sender, number, topic, message = sent.split(b"\n", 3)
        id_ = sender, number
        if sender == self._connection.id.encode() or id_ in self._heard or len(sender + number) > _ID_BYTES:
            return
        self._heard[id_] = None
        if len(self._heard) > _MOST_HEARD:
            self._heard.popitem(last=False)
        try:
            self._local.publish(topic.decode(errors="replace"), message)
        except Exception as error:  # whoever receives parses it, and must not end the listening
            _log.warning("a message of another server could not be taken: %s", type(error).__name__)
