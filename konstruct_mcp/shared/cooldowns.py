"""Cooldowns that all servers know: written when one trips, read from memory, and told to the others at once.

A server tells the others when a deployment begins to cool down, when that is prolonged, and when it has answered. Each
keeps all of it in its own memory, where calls read it. What is told is in seconds from now, as no two clocks agree. The
server also keeps it, for as long as the cooldown lasts, for a server that starts or has been cut off.

Each server counts failures for itself: the first that has counted enough tells the others. It alone says so in its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.core.text import cut
from konstruct_mcp.routing.health import COOLDOWN_MAX_S, HealthRecord, MemoryHealthStore
from konstruct_mcp.shared.broadcast import ValkeyBroadcast
from konstruct_mcp.shared.connection import AwayError, Connection

_TOPIC = "health"
_MOST_BYTES = 4096  # of one message
_FAULT_CHARS, _TENANT_CHARS = 300, 200
_AT_ONCE = 100  # deployments in one command
_SAME_S = 0.01  # cooldowns that end so near to each other are the same one


@dataclass(frozen=True, slots=True)
class _Told:
    """What the others have been told of a deployment, or have told. Times are readings of this process's clock."""

    until: float = 0.0
    only_for: str | None = None
    retry_at: float = 0.0
    next_probe: float = 0.0

    def is_news_after(self, earlier: _Told, now: float) -> bool:
        """Whether the others have to be told. That it is well again and that its cooldown is over is the same to them
        where it was over anyway; and a probe that is due sooner is a matter of each."""
        if self.until <= now and earlier.until <= now:
            return False
        return (
            abs(self.until - earlier.until) > _SAME_S
            or self.only_for != earlier.only_for
            or abs(self.retry_at - earlier.retry_at) > _SAME_S
            or self.next_probe > earlier.next_probe + _SAME_S
        )


class SharedHealthStore(MemoryHealthStore):
    """Health records in memory, of which the others are told what concerns them."""

    def __init__(self, clock: Callable[[], float], tell: Callable[[str], None] = lambda _: None) -> None:
        """`tell` is called with the key of a deployment of which there may be news."""
        super().__init__()
        self._clock, self._tell = clock, tell
        self._told: dict[str, _Told] = {}

    def changed(self, key: str) -> None:
        now, told = self._clock(), self._told.get(key)
        record = self.record(key)
        if told is None and record.cooling_until <= now:  # the usual case, at each answer
            return
        if _of(record).is_news_after(told or _Told(), now):
            self._told[key] = _of(record)
            self._tell(key)

    def of_these(self, keys: Collection[str]) -> SharedHealthStore:
        made = SharedHealthStore(self._clock, self._tell)
        made._records.update((key, self.record(key)) for key in keys)
        made._told = self._told  # the same: the others have been told once
        return made

    # -- what the others are told, and have told -----------------------------------------------------------------------

    @property
    def keys(self) -> list[str]:
        return list(self._records)

    def message(self, key: str) -> tuple[bytes, float] | None:
        """What there is to tell of a deployment, and for how many seconds it holds; 0 where it is well."""
        if key not in self._records:
            return None
        record, now = self._records[key], self._clock()
        left = max(0.0, record.cooling_until - now)
        said: dict[str, Any] = {"key": key, "left_s": round(left, 3)}
        if left > 0:
            said |= {
                "for": record.cooling_for,
                "retry_s": round(max(0.0, record.retry_at - now), 3),
                "probe_s": round(max(0.0, record.next_probe - now), 3),
                "failed": record.probes_failed,
                "hung": record.hung,
                "fault": cut(record.last_fault, _FAULT_CHARS),
            }
        return json.dumps(said).encode(), left

    def heard(self, message: bytes, left_s: float | None = None) -> None:
        """Take note of what another has told; what is malformed, or about no deployment of this config, is dropped.

        Args:
            left_s: how long it still holds, where it was told some time ago.
        """
        said = _parsed(message)
        if said is None or said["key"] not in self._records:
            return
        key, now, late_s = said["key"], self._clock(), 0.0 if left_s is None else max(0.0, said["left_s"] - left_s)
        record, left = self._records[key], said["left_s"] - late_s
        if left <= 0:
            record.failures.clear()
            record.cooling_until = record.retry_at = record.next_probe = 0.0
            record.probes_failed = 0
        else:
            is_same = record.cooling_until <= now or record.cooling_for == said["for"]
            record.cooling_for = said["for"] if is_same else None
            record.cooling_until = now + left
            record.retry_at = now + said["retry_s"] - late_s if said["retry_s"] > late_s else 0.0
            record.next_probe = max(record.next_probe, now + said["probe_s"] - late_s)
            record.probes_failed, record.hung, record.last_fault = said["failed"], said["hung"], said["fault"]
        self._told[key] = _of(record)


def _of(record: HealthRecord) -> _Told:
    return _Told(record.cooling_until, record.cooling_for, record.retry_at, record.next_probe)


class Cooldowns:
    """Tells the other servers of this one's cooldowns, and this one of theirs."""

    def __init__(
        self, connection: Connection, broadcast: ValkeyBroadcast, store: Callable[[], SharedHealthStore]
    ) -> None:
        """`store` gives the one in use."""
        self._connection, self._broadcast, self._store = connection, broadcast, store
        self._unsaid: dict[str, None] = {}  # keys, in order; what is known now is told of each
        self._wake = asyncio.Event()
        self._reading = False
        self._tasks: list[asyncio.Task[None]] = []
        self._end: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin; returns at once."""
        if not self._tasks:
            self._end = self._broadcast.subscribe(_TOPIC, lambda message: self._store().heard(message))
            self._tasks = [asyncio.create_task(self._run())]

    async def aclose(self) -> None:
        """End; safe to call twice."""
        self._end()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def tell(self, key: str) -> None:
        """Tell the others of a deployment, soon. May be called in a thread only before `start`."""
        self._unsaid[key] = None
        self._wake.set()

    def read(self) -> None:
        """Find out, soon, what is known of all deployments: the server has just begun to answer, or they are others."""
        self._reading = True
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            with contextlib.suppress(AwayError):  # what is unsaid is said when the server is back
                if not self._connection.is_away:
                    await self._say()
                    await self._read()

    async def _say(self) -> None:
        while self._unsaid:
            key = next(iter(self._unsaid))
            del self._unsaid[key]  # now, so that what comes up while this is told is told as well
            if (told := self._store().message(key)) is None:
                continue
            message, left_s = told
            try:
                if left_s > 0:
                    await self._connection.run("SET", self._key(key), message, "PX", max(1, round(left_s * 1000)))
                else:
                    await self._connection.run("DEL", self._key(key))
            except AwayError:
                self._unsaid[key] = None
                raise
            self._broadcast.tell_others(_TOPIC, message)

    async def _read(self) -> None:
        if not self._reading:
            return
        self._reading = False
        keys = self._store().keys
        try:
            for first in range(0, len(keys), _AT_ONCE):
                await self._read_these(keys[first : first + _AT_ONCE])
        except AwayError:
            self._reading = True
            raise

    async def _read_these(self, keys: Collection[str]) -> None:
        names = [self._key(key) for key in keys]
        found = await self._connection.run("EVAL", _READ, len(names), *names)
        for pair in found if isinstance(found, Iterable) else ():
            match pair:
                case [bytes(message), int(left_ms)] if left_ms > 0:
                    self._store().heard(message, left_ms / 1000)

    def _key(self, key: str) -> str:
        return self._connection.key(f"health:{key}")


# The values there are, and the milliseconds that each is still kept for.
_READ = """
local found = {}
for _, key in ipairs(KEYS) do
  if redis.call('TYPE', key).ok == 'string' then
    found[#found + 1] = {redis.call('GETRANGE', key, 0, 4096), redis.call('PTTL', key)}
  end
end
return found
"""


def _parsed(message: bytes) -> dict[str, Any] | None:
    """What another server has told, every field as it should be; None for anything else."""
    if len(message) > _MOST_BYTES:
        return None
    try:
        said = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("key"), str):
        return None
    numbers = {name: _seconds(said.get(name, 0)) for name in ("left_s", "retry_s", "probe_s")}
    failed, only_for, fault = said.get("failed", 0), said.get("for"), said.get("fault", "")
    if (
        None in numbers.values()
        or not isinstance(failed, int)
        or not 0 <= failed <= 1000
        or not (only_for is None or (isinstance(only_for, str) and len(only_for) <= _TENANT_CHARS))
        or not isinstance(fault, str)
    ):
        return None
    return {
        "key": said["key"],
        **numbers,
        "for": only_for,
        "failed": failed,
        "hung": said.get("hung") is True,
        "fault": cut(fault, _FAULT_CHARS),
    }


def _seconds(given: Any) -> float | None:
    """Seconds of a cooldown; None where it is no such number."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        return None
    return float(given) if 0 <= given <= COOLDOWN_MAX_S else None
