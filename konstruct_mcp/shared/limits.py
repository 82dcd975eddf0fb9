"""Requests and tokens of the last minute over all servers, by which limits are held.

- Before a try, one script looks at all limits that concern it and counts the request, at once and by Valkey's clock. So
  no two servers take the same last request.
- What this server uses it also counts for itself. While Valkey is away, it goes by that and by its share of each limit.
- When Valkey is back, what it has missed is told to it: what was used meanwhile, or all of the last minute where it has
  forgotten that.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from konstruct_mcp.routing.limits import Claim, MemoryLimitStore, Refusal, Used
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

# ARGV: rpm and tpm of each key. Answers the used requests and tokens of each; behind them, where a limit is reached,
# which key it is (from 1) and the seconds until there may be room.
_TAKE = (
    _COUNTER
    + """
local said, refused, wait = {}, 0, 0
for i, key in ipairs(KEYS) do
  trim(key)
  local r, t, rpm, tpm = number(key, 'r'), number(key, 't'), tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  if rpm >= 0 and r >= rpm then refused, wait = i, math.max(wait, free(key, 'r')) end
  if tpm >= 0 and t >= tpm then refused, wait = i, math.max(wait, free(key, 't')) end
  said[#said + 1], said[#said + 2] = r, t
end
if refused > 0 then
  said[#said + 1], said[#said + 2] = refused, wait
else
  for _, key in ipairs(KEYS) do count(key, now, 1, 0) end
end
return said
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
        missed: what was used while Valkey was away, by key: (when, requests, tokens).
    """

    full: dict[str, _Full] = field(default_factory=dict)
    missed: dict[str, list[tuple[float, int, int]]] = field(default_factory=dict)
    epoch: bytes = b""


class SharedLimitStore(MemoryLimitStore):
    """Counts over all servers, and beside them this one's own."""

    def __init__(self, connection: Connection, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is that by which the readings are that the methods are given."""
        super().__init__()
        self._connection, self._clock = connection, clock
        self._shared = _Shared()

    async def take(self, claims: Sequence[Claim], now: float) -> Refusal | None:
        numbers = [_ANY if limit is None else limit for claim in claims for limit in (claim.rpm, claim.tpm)]
        names = [self._name(claim.key) for claim in claims]
        try:
            said = await self._connection.run("EVAL", _TAKE, len(names), *names, *numbers)
        except AwayError:
            for claim in claims:
                self._miss(claim.key, now, 1, 0)
            return await super().take([self._part(claim) for claim in claims], now)
        if not isinstance(said, list) or not all(isinstance(one, int) for one in said):
            return None
        if len(said) == 2 * len(claims) + 2 and 0 < said[-2] <= len(claims):
            which, wait_s = said[-2] - 1, float(min(max(said[-1], 1), _WINDOW_S + 1))
            claim, used = claims[which], Used(said[2 * which], said[2 * which + 1])
            self._shared.full[claim.key] = _Full(used, self._clock() + wait_s)
            return Refusal(claim, wait_s)
        for claim in claims:
            self._shared.full.pop(claim.key, None)
            if not claim.is_counted:
                super().add(claim.key, now, 1, 0)
        return None

    def share(self, limit: int) -> int:
        return max(1, limit // self._connection.replicas) if self._connection.is_away else limit

    def add(self, key: str, now: float, requests: int, tokens: int) -> None:
        super().add(key, now, requests, tokens)
        if tokens:  # a request is counted when it is taken
            self._tell(key, now, 0, tokens)

    def take_back(self, key: str, began: float, *, was_taken: bool = True) -> None:
        super().take_back(key, began)
        if was_taken:
            self._tell(key, began, -1, 0)

    def used(self, key: str, now: float) -> Used:
        own, full = super().used(key, now), self._shared.full.get(key)
        if full is None or self._connection.is_away:
            return own
        if full.until <= now:
            del self._shared.full[key]
            return own
        return Used(max(own.requests, full.used.requests), max(own.tokens, full.used.tokens))

    def of_these(self, keys: Collection[str]) -> SharedLimitStore:
        made = SharedLimitStore(self._connection, self._clock)
        made._minutes.update((key, self._minutes[key]) for key in keys)
        made._shared = self._shared
        return made

    # -- what Valkey has missed ----------------------------------------------------------------------------------------

    def _tell(self, key: str, when: float, requests: int, tokens: int) -> None:
        if self._connection.is_away:
            self._miss(key, when, requests, tokens)
        else:
            ago = max(0, round(self._clock() - when))
            self._connection.send("EVAL", _ADD, 1, self._name(key), ago, requests, tokens)

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
                    self._shared.missed[key] = missed
                    raise

    def _part(self, claim: Claim) -> Claim:
        rpm, tpm = (None if limit is None else self.share(limit) for limit in (claim.rpm, claim.tpm))
        return Claim(claim.key, rpm, tpm, claim.is_counted)

    def _name(self, key: str) -> str:
        return self._connection.key(f"limit:{key}")


# A value that is there for as long as the server forgets nothing; the given one, where there was none.
_EPOCH = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""


class CatchingUp:
    """Has the store in use tell Valkey what it has missed, whenever it is back."""

    def __init__(self, store: Callable[[], SharedLimitStore]) -> None:
        self._store = store
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._store().catch_up()
        except AwayError:
            return  # it begins again when the server is back

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
