"""Budgets of tenants, what is left of them, and what is reserved from them before a provider is asked.

Pure code: no I/O, and no clock but the one that it is given. All amounts are whole nano-dollars: what may be spent is
rounded down and what a call can cost is rounded up, so that rounding never adds to what a budget allows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, Literal

from konstruct_mcp.core.money import NUSD, dollars

Per = Literal["day", "month", "total"]


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget of a tenant and what is left of it, in nano-dollars.

    Attributes:
        per: `day`, `month` (of the calendar, UTC) or `total`.
        groups: the groups whose calls count towards it; empty means all.
        reserved_nusd: the most that calls under way may cost.
        renews_at: when its window ends (ISO, UTC); None for one that does not renew.
        held_nusd: the most that tries of unknown cost can have cost, such as those that were broken off.
    """

    tenant: str
    limit_nusd: int
    per: Per
    groups: tuple[str, ...]
    spent_nusd: int
    reserved_nusd: int
    renews_at: str | None
    held_nusd: int = 0

    @property
    def left_nusd(self) -> int:
        return max(0, self.limit_nusd - self.spent_nusd - self.held_nusd - self.reserved_nusd)

    @property
    def usd(self) -> float:
        """The whole of it in US dollars, as are the amounts below."""
        return self.limit_nusd / NUSD

    @property
    def spent_usd(self) -> float:
        return self.spent_nusd / NUSD

    @property
    def held_usd(self) -> float:
        return self.held_nusd / NUSD

    @property
    def reserved_usd(self) -> float:
        return self.reserved_nusd / NUSD

    @property
    def left_usd(self) -> float:
        return self.left_nusd / NUSD

    @property
    def name(self) -> str:
        """`$5 per day for quality`."""
        window = "in total" if self.per == "total" else f"per {self.per}"
        return f"{dollars(self.limit_nusd)} {window}" + (f" for {', '.join(self.groups)}" if self.groups else "")

    def shown(self, groups: Collection[str]) -> BudgetState:
        """The same for whoever may know of these groups alone. What is spent on the others counts all the same."""
        return replace(self, groups=tuple(group for group in self.groups if group in groups))

    def as_dict(self) -> dict[str, Any]:
        figures = {f"{name}_usd": getattr(self, f"{name}_usd") for name in ("spent", "held", "reserved", "left")}
        return {
            "tenant": self.tenant,
            "usd": self.usd,
            "per": self.per,
            "groups": list(self.groups),
            **figures,
            "renews_at": self.renews_at,
        }


@dataclass(frozen=True, slots=True)
class Budget:
    """What a tenant may spend in a window of the UTC calendar, on all groups or on `groups` together."""

    limit_nusd: int
    per: Per
    groups: tuple[str, ...] = ()
    formerly: tuple[str, ...] = ()  # earlier names of these groups

    @property
    def counted(self) -> tuple[str, ...]:
        """The groups whose spending counts, under their present and earlier names; empty for all."""
        return (*self.groups, *self.formerly)

    def covers(self, group: str) -> bool:
        return not self.groups or group in self.groups

    def days(self, now: datetime) -> tuple[str, str]:
        """The first and the last ISO date whose spending counts now, both included.

        That is the present window and one day more, in which a call of the window may end. A later date can only come
        from a clock that was ahead; what was spent then counts when that day comes.
        """
        return _days(self.per, now.date())

    def renews_at(self, now: datetime) -> str | None:
        """When the present window ends (ISO, UTC); None for a budget that does not renew."""
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


@functools.lru_cache(100)
def _days(per: Per, today: date) -> tuple[str, str]:
    match per:
        case "day":
            first, last = today, today + timedelta(days=1)
        case "month":
            first = today.replace(day=1)
            last = (first + timedelta(days=32)).replace(day=1)
        case "total":
            first, last = date.min, date.max
    return first.isoformat(), last.isoformat()


@dataclass(frozen=True, slots=True)
class Quote:
    """The most that a call can cost at one deployment.

    Attributes:
        input_tokens: the most tokens that the request can be, which is also the most bytes that its body may have.
        input_nusd: the cost of these, however the provider counts them.
        token_nusd: the cost of each token of the answer, at the highest price that can apply.
        max_tokens: the longest that the answer may be.
        fixed: whether the caller asked for `max_tokens`; if not, a shorter answer will do.
    """

    input_tokens: int
    input_nusd: Fraction
    token_nusd: Fraction
    max_tokens: int
    fixed: bool

    def most_nusd(self, max_tokens: int) -> int:
        """The most that the call can cost with an answer of so many tokens, in whole nano-dollars."""
        return math.ceil(self.input_nusd + self.token_nusd * max_tokens)

    def affordable(self, left_nusd: int) -> int:
        """The longest answer, in tokens, that this amount pays for; negative where it does not pay for the request."""
        left = Fraction(left_nusd) - self.input_nusd
        if left < 0:
            return -1
        return self.max_tokens if not self.token_nusd else min(self.max_tokens, math.floor(left / self.token_nusd))


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A budget that does not afford a call.

    Attributes:
        left_nusd: what is left of it.
        renews_at: when it renews (ISO, UTC); None where it does not, or where not even the whole of it would do.
    """

    left_nusd: int
    renews_at: str | None


@dataclass(frozen=True, slots=True)
class Reserve:
    """A reservation that a call asks for before a try: what the try can cost, and the budgets that must afford it.

    Attributes:
        attempt: the number of this reservation within the call. The call's earlier ones end with it, except for those
            in `kept`, whose tries cost something that nobody knows.
        owner: the process that makes the call.
        min_tokens: the shortest answer that is worth asking for.
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
    """A reservation that was made.

    Attributes:
        amount_nusd: what is reserved.
        max_tokens: the longest answer that it pays for.
        input_tokens: the longest request that it pays for, in tokens, which is also the most bytes of its body.
    """

    amount_nusd: int
    max_tokens: int
    input_tokens: int


# What becomes of a `Reserve`: the grant, or the state of each of its budgets where they do not afford the call.
Decision = Grant | list[BudgetState]
