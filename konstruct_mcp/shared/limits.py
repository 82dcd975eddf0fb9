"""Requests and tokens of the last minute over all servers, by which limits are held.

- Before a try, one script looks at all limits that concern it and counts the request, at once and by Valkey's clock. So
  no two servers take the same last request.
- What this server uses it also counts for itself. While Valkey is away, it goes by that and by its share of each limit.
- When Valkey is back, what it has missed is told to it: what was used meanwhile, or all of the last minute where it has
  forgotten that.
"""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from konstruct_mcp.routing.limits import MemoryLimitStore, Used
from konstruct_mcp.shared.connection import AwayError, Connection

_WINDOW_S = 60
_ANY = -1  # for no limit

# Of a counter: a hash with `from`, the oldest second that is in it; `r` and `t`, the requests and tokens of all its
# seconds; and `r:SECOND` and `t:SECOND` for each. What is no such hash is deleted.
_COUNTER = """
local now = tonumber(redis.call('TIME')[1])
local function number(key, name) return tonumber(redis.call('HGET', key, name) or 0) or 0 end
local function trim(key)
  if redis.call('TYPE', key).ok ~= 'hash' then redis.call('DEL', key) return end
  local from = number(key, 'from')
  if not (from > now - 3600 and from <= now) then redis.call('DEL', key) return end
  if from >= now - 60 then return end
  local r, t, gone = number(key, 'r'), number(key, 't'), {}
  for second = from, now - 61 do
    r, t = r - number(key, 'r:' .. second), t - number(key, 't:' .. second)
    gone[#gone + 1] = 'r:' .. second
    gone[#gone + 1] = 't:' .. second
    if #gone > 1000 then redis.call('HDEL', key, unpack(gone)) gone = {} end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  redis.call('HSET', key, 'from', now - 60, 'r', math.max(0, r), 't', math.max(0, t))
end
local function count(key, second, r, t)
  local from = number(key, 'from')
  if from == 0 or second < from then redis.call('HSET', key, 'from', second) end
  for name, more in pairs({r = r, t = t}) do
    if more ~= 0 then
      local whole, one = number(key, name), number(key, name .. ':' .. second)
      if more < 0 then more = -math.min(-more, one, whole) end
      redis.call('HSET', key, name, whole + more, name .. ':' .. second, one + more)
    end
  end
  redis.call('EXPIRE', key, 120)
end
local function free(key, name)
  for second = math.max(number(key, 'from'), now - 60), now do
    if number(key, name .. ':' .. second) > 0 then return second + 61 - now end
  end
  return 1
end
"""

# ARGV: rpm and tpm. Answers nothing where the request is counted; else the used requests and tokens, and the seconds
# until there may be room.
_TAKE = (
    _COUNTER
    + """
local key, rpm, tpm = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
trim(key)
local r, t, wait = number(key, 'r'), number(key, 't'), 0
if rpm >= 0 and r >= rpm then wait = free(key, 'r') end
if tpm >= 0 and t >= tpm then wait = math.max(wait, free(key, 't')) end
if wait > 0 then return {r, t, wait} end
count(key, now, 1, 0)
return {}
"""
)

# ARGV: how many seconds ago, requests, tokens; any number of these.
_ADD = (
    _COUNTER
    + """
trim(KEYS[1])
for i = 1, #ARGV, 3 do
  local ago = tonumber(ARGV[i])
  if ago >= 0 and ago <= 60 then count(KEYS[1], now - ago, tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])) end
end
"""
)


@dataclass(slots=True)
class _Full:
    """What all servers had used when a claim was refused, and until when that holds."""

    used: Used
    until: float


@dataclass(slots=True)
class _Shared:
    """What the stores of successive configs have in common.

    Attributes:
        epoch: by which it is seen that Valkey has forgotten all; "" before it was first seen.
        refused: how many claims were refused that `take_back` has not heard of yet, by key.
        missed: what was used while Valkey was away, by key: (when, requests, tokens).
    """

    full: dict[str, _Full] = field(default_factory=dict)
    missed: dict[str, list[tuple[float, int, int]]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    epoch: bytes = b""


class SharedLimitStore(MemoryLimitStore):
    """Counts over all servers, and beside them this one's own."""

    def __init__(self, connection: Connection, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is that by which the readings are that the methods are given."""
        super().__init__()
        self._connection, self._clock = connection, clock
        self._shared = _Shared()

    async def claim(self, key: str, now: float, rpm: int | None, tpm: int | None) -> Used | None:
        limits = [_ANY if limit is None else limit for limit in (rpm, tpm)]
        try:
            said = await self._connection.run("EVAL", _TAKE, 1, self._name(key), *limits)
        except AwayError:
            used = self._claim_alone(key, now, rpm, tpm)
            if used is None:  # else nobody counts it
                self._miss(key, now, 1, 0)
            return used
        match said:
            case [int(requests), int(tokens), int(wait_s)]:
                self._refuse(key, Used(requests, tokens), now + min(max(wait_s, 1), _WINDOW_S + 1))
                return Used(requests, tokens)
            case _:
                self._shared.full.pop(key, None)
                return None

    def _claim_alone(self, key: str, now: float, rpm: int | None, tpm: int | None) -> Used | None:
        """The same by what this server has used, and its share of each limit."""
        own, servers = super().used(key, now), self._connection.replicas
        requests_full = rpm is not None and own.requests > max(1, rpm // servers)  # `add` has counted this one
        tokens_full = tpm is not None and own.tokens >= max(1, tpm // servers)
        if not requests_full and not tokens_full:
            return None
        used = Used(rpm if rpm and requests_full else own.requests, tpm if tpm and tokens_full else own.tokens)
        self._refuse(key, used, now + super().until_less(key, now))
        return used

    def _refuse(self, key: str, used: Used, until: float) -> None:
        self._shared.full[key] = _Full(used, until)
        self._shared.refused[key] += 1

    def add(self, key: str, now: float, requests: int, tokens: int) -> None:
        super().add(key, now, requests, tokens)
        if tokens:  # a request is counted when it is claimed
            self._tell(key, now, 0, tokens)

    def take_back(self, key: str, began: float) -> None:
        super().take_back(key, began)
        if not self._shared.refused[key]:
            del self._shared.refused[key]
            self._tell(key, began, -1, 0)
        else:
            self._shared.refused[key] -= 1  # which Valkey has not counted either

    def used(self, key: str, now: float) -> Used:
        own, full = super().used(key, now), self._shared.full.get(key)
        if full is None:
            return own
        if full.until <= now:
            del self._shared.full[key]
            return own
        return Used(max(own.requests, full.used.requests), max(own.tokens, full.used.tokens))

    def until_less(self, key: str, now: float) -> float:
        full = self._shared.full.get(key)
        return super().until_less(key, now) if full is None else full.until - now

    def of_these(self, keys: Collection[str]) -> SharedLimitStore:
        made = SharedLimitStore(self._connection, self._clock)
        made._minutes.update((key, self._minutes[key]) for key in keys)
        made._shared = self._shared
        return made

    # -- what Valkey has missed ----------------------------------------------------------------------------------------

    def _tell(self, key: str, when: float, requests: int, tokens: int) -> None:
        """It may be told twice where it is not known whether it was heard: a limit is kept too strictly then."""
        ago = max(0, round(self._clock() - when))
        missed = functools.partial(self._miss, key, when, requests, tokens)
        self._connection.send("EVAL", _ADD, 1, self._name(key), ago, requests, tokens, on_lost=missed)

    def _miss(self, key: str, when: float, requests: int, tokens: int) -> None:
        missed = self._shared.missed.setdefault(key, [])
        if missed and int(missed[-1][0]) == int(when):
            last, earlier_requests, earlier_tokens = missed[-1]
            missed[-1] = last, earlier_requests + requests, earlier_tokens + tokens
        else:
            missed.append((when, requests, tokens))
        while missed[0][0] < when - _WINDOW_S - 1:
            missed.pop(0)

    async def catch_up(self) -> None:
        """Tell Valkey, which has begun to answer, what it does not know.

        Raises:
            AwayError: it is away again.
        """
        made = uuid.uuid4().hex.encode()
        epoch = await self._connection.run("EVAL", _EPOCH, 1, self._connection.key("epoch"), made)
        if not isinstance(epoch, bytes):
            return
        has_forgotten = self._shared.epoch not in (b"", epoch)
        self._shared.epoch = epoch
        if has_forgotten:
            self._shared.missed.clear()
            for key, minute in list(self._minutes.items()):
                self._shared.missed[key] = [(one.at, one.requests, one.tokens) for one in minute.seconds]
        now = self._clock()
        for key in list(self._shared.missed):
            missed = self._shared.missed.pop(key)
            told = [part for when, *used in missed for part in (max(0, round(now - when)), *used)]
            if told:
                try:
                    await self._connection.run("EVAL", _ADD, 1, self._name(key), *told)
                except AwayError:
                    self._shared.missed[key] = missed + self._shared.missed.get(key, [])  # more since then
                    raise

    def _name(self, key: str) -> str:
        return self._connection.key(f"limit:{key}")


# A value that is there for as long as the server forgets nothing; the given one, where there was none.
_EPOCH = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""


class CatchingUp:
    """Has the stores in use tell Valkey what it has missed, whenever it is back."""

    def __init__(self, stores: Callable[[], Iterable[SharedLimitStore]]) -> None:
        self._stores = stores
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            for store in self._stores():
                await store.catch_up()
        except AwayError:
            return  # it begins again when the server is back

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
