"""The connection to a Valkey or Redis server that no call has to wait for.

- Commands are queued, and whatever has been queued meanwhile goes out as one pipeline: one connection serves all calls.
- A command that is not answered within a tenth of a second opens the *circuit*: from then on every command fails at
  once, and so do those that were waiting. A frozen server costs a call this tenth once, and a dead one nothing.
- While the circuit is open, the *heartbeat* is tried in the background: a small write, so that a server that is full,
  or that takes no writes, counts as away too. If the first one succeeds, it was a hiccup of which nobody is told.
- The heartbeat also says how many servers there are.

redis-py's own retries would make a dead server cost a call 3.6 s, and a frozen one 3 s; so it has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from konstruct_mcp.core.sharing import patience

T = TypeVar("T")

_log = logging.getLogger(__name__)

PATIENCE_S = 0.1  # for one pipeline: what a frozen server costs the calls that find it out
_BATCH = 200  # commands in one pipeline
_MOST_QUEUED = 10_000  # commands; more are dropped, as if the server were away
BEAT_S, GONE_S = 5.0, 15.0  # between heartbeats, and after which silence a server counts no more
_BEAT_PATIENCE_S = 0.5  # for a heartbeat, on which no call waits; an event loop can be busy for longer than a tenth
_AGAIN_FIRST_S, _AGAIN_MAX_S = 0.1, 1.0  # between looks at a server that is away
_SLICE_S = 0.02  # of what is waited for
_CLOSING_S = 0.5
_SAY_AGAIN_S = 60.0  # between two lines in the log about refused commands
_MOST_REPLICAS = 10_000  # whatever the server says

# Counts this server among those that are there, and answers how many they are.
_BEAT = """
local now = redis.call('TIME')[1]
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""


class AwayError(Exception):
    """The server does not answer, or not in time."""


class Connection:
    """A connection to the server, used within one event loop from `start` to `aclose`.

    Attributes:
        id: of this process, by which others can tell its messages from their own.
        prefix: of all keys and channels.
        replicas: how many servers there were when the server last answered; what the config says before that.
        away_since: a reading of `time.monotonic`; None while the server answers.
    """

    def __init__(self, url: str, prefix: str, replicas: int, on_back: Callable[[], None]) -> None:
        """`on_back` is called whenever the server begins to answer, first at the start."""
        self.id, self.prefix, self.replicas = uuid.uuid4().hex[:16], prefix, replicas
        self.away_since: float | None = None
        self._on_back = on_back
        self._url = url
        self._client = new_client(url, _BEAT_PATIENCE_S)
        self._is_open = False  # the circuit: whether commands fail at once
        self._is_warned = False
        self._failed, self._refused_until = 0, 0.0
        self._queue: deque[tuple[tuple[Any, ...], asyncio.Future[Any]]] = deque()
        self._wake = asyncio.Event()
        self._broken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; returns at once. Until the server has answered for the first time, it counts as away."""
        if not self._tasks:
            self._is_open = True
            self._tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._beat())]

    async def aclose(self) -> None:
        """Say that this server is gone, and close; safe to call twice."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        was_away, self._is_open = self._is_open, True
        self._fail_all()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSING_S):
                if not was_away:
                    await self._client.zrem(self.key("replicas"), self.id)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSING_S):
                await self._client.aclose()

    def key(self, name: str) -> str:
        """The key or channel of this name."""
        return f"{self.prefix}{name}"

    def listening_client(self) -> Redis:
        """A client for a connection of its own, on which messages come."""
        return new_client(self._url, None)

    @property
    def is_away(self) -> bool:
        """Whether commands fail at once now."""
        return self._is_open

    # -- commands ------------------------------------------------------------------------------------------------------

    async def run(self, *command: Any) -> Any:
        """The answer to a command.

        Raises:
            AwayError: there is none within a tenth of a second, or within what is left of the call's patience.
        """
        with patience(PATIENCE_S) as left_s:
            if self._is_open or left_s <= 0 or len(self._queue) >= _MOST_QUEUED:
                raise AwayError
            try:
                return await _within(left_s, self._put(command))
            except TimeoutError:
                raise AwayError from None

    def send(self, *command: Any, on_lost: Callable[[], None] = lambda: None) -> None:
        """Have a command carried out whose answer nobody needs.

        Args:
            on_lost: is called where it is not known to be carried out.
        """
        if self._is_open or not self._tasks or len(self._queue) >= _MOST_QUEUED:
            on_lost()
        else:
            self._put(command).add_done_callback(lambda answer: on_lost() if answer.exception() else None)

    def _put(self, command: tuple[Any, ...]) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((command, answer))
        self._wake.set()
        return answer

    async def _pump(self) -> None:
        """Carry out what is queued."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
                try:
                    answers = await _within(PATIENCE_S, self._pipeline([command for command, _ in batch]))
                except (RedisError, OSError, TimeoutError) as error:
                    self._queue.extendleft(reversed(batch))
                    self._open(error)
                    continue
                for (_, future), answer in zip(batch, answers, strict=True):
                    if isinstance(answer, Exception):
                        self._open(answer)
                    if future.done():
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(AwayError())
                    else:
                        future.set_result(answer)

    async def _pipeline(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)

    # -- the circuit ---------------------------------------------------------------------------------------------------

    def _open(self, error: Exception) -> None:
        """From now on commands fail at once, until a heartbeat has succeeded."""
        if isinstance(error, ResponseError):
            self._refused(error)
        _log.debug("the Valkey or Redis server has not carried out a command: %s", said(error))
        self._is_open = True
        self._fail_all()
        self._broken.set()

    def _fail_all(self) -> None:
        while self._queue:
            _, answer = self._queue.popleft()
            if not answer.done():
                answer.set_exception(AwayError())

    async def _beat(self) -> None:
        """Keep the heartbeat, and the circuit by it."""
        pause_s = 0.0
        while True:
            self._broken.clear()
            try:
                beat = ("EVAL", _BEAT, 1, self.key("replicas"), self.id, round(GONE_S))
                (count,) = await _within(_BEAT_PATIENCE_S, self._pipeline([beat]))
                if isinstance(count, Exception):
                    raise count
            except (RedisError, OSError, TimeoutError) as error:
                self._fell_away(error)
                pause_s = min(_AGAIN_MAX_S, max(_AGAIN_FIRST_S, 2 * pause_s))
                await asyncio.sleep(pause_s)
                continue
            pause_s = 0.0
            if isinstance(count, int) and 0 < count <= _MOST_REPLICAS:
                self.replicas = count
            self._is_back()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._broken.wait()

    def look_now(self) -> None:
        """Have a heartbeat now: the number of servers has changed."""
        self._broken.set()

    def _fell_away(self, error: Exception) -> None:
        self._is_open = True
        self._fail_all()
        if self.away_since is None:
            self.away_since = time.monotonic()
        self._failed += 1
        if self._failed > 1 and not self._is_warned:  # one is a hiccup
            self._is_warned = True
            _log.warning(
                "the Valkey or Redis server is away (%s): this server goes by what it knows itself, and keeps to a "
                "share of each limit; looked for again each second",
                said(error),
            )

    def _is_back(self) -> None:
        was_open, self._is_open, self._failed = self._is_open, False, 0
        self.away_since = None
        if self._is_warned:
            self._is_warned = False
            _log.warning("the Valkey or Redis server is back; servers there: %d", self.replicas)
        if was_open:
            self._on_back()

    def _refused(self, error: ResponseError) -> None:
        """A heartbeat may still succeed, so that nothing else would say that a command is refused."""
        now = time.monotonic()
        if now >= self._refused_until:
            self._refused_until = now + _SAY_AGAIN_S
            _log.warning(
                "the Valkey or Redis server refuses a command (%s): the call went by what is known here", said(error)
            )


async def _within(seconds: float, awaited: Awaitable[T]) -> T:
    """What is awaited, if it comes within so many seconds. For what an event loop that is busy comes late itself, it is
    not the server's: so it is waited for in slices.

    Raises:
        TimeoutError: it has not come, and is cancelled.
    """
    future = asyncio.ensure_future(awaited)
    try:
        while seconds > 0 and not future.done():
            await asyncio.wait({future}, timeout=min(_SLICE_S, seconds))
            seconds -= _SLICE_S
    finally:
        if not future.done():
            future.cancel()
            await asyncio.wait({future})
    if future.cancelled():
        raise TimeoutError
    return future.result()


def new_client(url: str, patience_s: float | None) -> Redis:
    return Redis.from_url(
        url,
        socket_timeout=patience_s,
        socket_connect_timeout=_BEAT_PATIENCE_S,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        health_check_interval=0,
        client_name="konstruct-mcp",
    )


def said(error: Exception) -> str:
    """Why, in words that hold nothing of an address or a password."""
    if isinstance(error, ResponseError):
        word = str(error).split(maxsplit=1)[0] if str(error) else ""
        return word if word.isupper() and word.isalpha() else "it refuses a command"
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
