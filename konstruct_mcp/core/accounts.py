"""What is kept account of: calls and their charges, budgets, and what a call can cost at most.

Pure code: no I/O, and no clock but the one it is given.

All amounts are whole nano-dollars. What may be spent is rounded down and what a call can cost is rounded up, so that
rounding never adds to what a budget allows.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

from pydantic import TypeAdapter

from konstruct_mcp.core.types import NUSD, TENANT_ID, BudgetState, Per

MOST_NUSD = 10**15  # of one try, granted or counted, so that the sums stay within 64 bits: a million dollars


@dataclass(frozen=True, slots=True)
class Budget:
    """What a tenant may spend in a window of the UTC calendar: on every group, or on `groups` together."""

    limit_nusd: int
    per: Per
    groups: tuple[str, ...] = ()
    formerly: tuple[str, ...] = ()  # the names that these groups had before

    @property
    def counted(self) -> tuple[str, ...]:
        """The groups whose spending counts, by every name; empty for all."""
        return (*self.groups, *self.formerly)

    def covers(self, group: str) -> bool:
        return not self.groups or group in self.groups

    def days(self, now: datetime) -> tuple[str, str]:
        """From and to which ISO date what is spent counts, both included.

        That is the present window and one day more, when a call of the window may end. Beyond it are only calls that
        ended while a clock was ahead: they count when that time comes.
        """
        today = now.date()
        match self.per:
            case "day":
                first, last = today, today + timedelta(days=1)
            case "month":
                first = today.replace(day=1)
                last = (first + timedelta(days=32)).replace(day=1)
            case "total":
                first, last = date.min, date.max
        return first.isoformat(), last.isoformat()

    def renews_at(self, now: datetime) -> str | None:
        """When the present window ends."""
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC)
        match self.per:
            case "day":
                return (midnight + timedelta(days=1)).isoformat()
            case "month":
                return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1).isoformat()
            case "total":
                return None

    def state(self, tenant: str, spent_nusd: int, held_nusd: int, reserved_nusd: int, now: datetime) -> BudgetState:
        return BudgetState(
            tenant, self.limit_nusd, self.per, self.groups, spent_nusd, reserved_nusd, self.renews_at(now), held_nusd
        )


@dataclass(frozen=True, slots=True)
class Quote:
    """The most that a call can cost at one deployment.

    Attributes:
        input_tokens: the most that the request itself can be, and the most bytes of the body that it is sent in.
        input_nusd: for these, however the provider counts them.
        token_nusd: for each token of the answer, at the highest price that can apply.
        max_tokens: how long the answer may be.
        fixed: whether `max_tokens` is the caller's word; if not, a shorter answer will do.
    """

    input_tokens: int
    input_nusd: Fraction
    token_nusd: Fraction
    max_tokens: int
    fixed: bool

    def most_nusd(self, max_tokens: int) -> int:
        return math.ceil(self.input_nusd + self.token_nusd * max_tokens)

    def affordable(self, left_nusd: int) -> int:
        """The longest answer, in tokens, that so much pays for; negative where it does not pay for the request."""
        left = Fraction(left_nusd) - self.input_nusd
        if left < 0:
            return -1
        return self.max_tokens if not self.token_nusd else min(self.max_tokens, math.floor(left / self.token_nusd))


@dataclass(frozen=True, slots=True)
class Charge:
    """What a provider counted for one try, or may have counted.

    Attributes:
        cost_nusd: None where it is unknown.
        most_nusd: the most that it can be, where it is unknown; None there too where nobody can say.
        uncounted: whether an answer came without a count, or with one that cannot be.
    """

    group: str
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_nusd: int | None
    most_nusd: int | None = None
    uncounted: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it ended: a row of the ledger.

    Attributes:
        time: when it ended, ISO 8601 in UTC with microseconds.
        group_served, model: who answered; None where nobody did.
        charges: one for each try that a provider counted or may have, the answer's last.
        cost_nusd: of all of them together; None where the cost is unknown.
        outcome: `ok`, an error's code, `cancelled`, or `lost` with the process that made it.
        attempts: how many tries were made, the answer's included.
        reserved: whether it has held a reservation.
        most_nusd: the most that all of them together can have cost, where that is unknown; None there too where nobody
            can say.
    """

    id: str
    time: str
    tenant: str
    group_asked: str
    group_served: str | None
    model: str | None
    charges: tuple[Charge, ...]
    cost_nusd: int | None
    duration_ms: int
    outcome: str
    attempts: int
    reserved: bool = False
    most_nusd: int | None = None


_LONGEST_TIME = 32  # characters: microseconds, and an offset in numbers


@functools.cache
def _rows() -> TypeAdapter[Call]:
    return TypeAdapter(Call)


def read_call(row: bytes) -> Call:
    """A call as `dataclasses.asdict` and JSON have it.

    Raises:
        ValueError: it is none, or none that can have been made.
    """
    call = _rows().validate_json(row, strict=True, extra="forbid")
    for figures in (asdict(call), *map(asdict, call.charges)):
        if any(isinstance(value, int) and not 0 <= value <= MOST_NUSD for value in figures.values()):
            raise ValueError("a figure that no call comes to")
        if any(isinstance(value, str) and "\0" in value for value in figures.values()):
            raise ValueError("a name that not every database takes")
    if not TENANT_ID.match(call.tenant):
        raise ValueError("a tenant that is none")
    if len(call.time) > _LONGEST_TIME or datetime.fromisoformat(call.time).date().isoformat() != call.time[:10]:
        raise ValueError("a time that is none")
    return call


@dataclass(frozen=True, slots=True)
class Reserve:
    """A call that wants to be asked of a group: what it can cost there, and the budgets that must afford it.

    Attributes:
        attempt: which of the call's tries this is; its earlier reservations are given up, but for those in `kept`.
        min_tokens: an answer that may not even be this long is not worth asking for.
    """

    call_id: str
    attempt: int
    kept: tuple[int, ...]
    owner: str
    tenant: str
    group: str
    model: str
    quote: Quote
    budgets: tuple[Budget, ...]
    min_tokens: int


@dataclass(frozen=True, slots=True)
class Grant:
    """It is reserved: the amount, how many tokens of an answer that pays for, and how many of the request itself, which
    are bytes of its body too."""

    amount_nusd: int
    max_tokens: int
    input_tokens: int


@functools.lru_cache(1024)  # the same few prices, at each call
def exact(number: float) -> Fraction:
    """A number that was written in decimals, without what a binary fraction added."""
    return Fraction(repr(number))


@functools.lru_cache(1024)
def to_nusd(usd: float) -> Fraction:
    """Nano-dollars of a price that was written in decimals."""
    return exact(usd) * NUSD
