"""What was spent: one call and its charges as a row of the ledger, and sums of them by day, tenant, group and model.

Pure code. All amounts are whole nano-dollars; an unknown cost is None, never 0.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import TypeAdapter

from konstruct_mcp.core.budgets import BudgetState
from konstruct_mcp.core.money import MOST_NUSD, NUSD, dollars
from konstruct_mcp.core.text import TENANT_ID

Dimension = Literal["day", "group", "model", "tenant"]


@dataclass(frozen=True, slots=True)
class Charge:
    """What a provider counted for one try, or may have counted.

    Attributes:
        cost_nusd: None where it is unknown.
        most_nusd: where the cost is unknown, the most that it can be; None if it has no bound.
        uncounted: whether an answer came without a token count, or with an impossible one.
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
        group_served, model: what answered; None where nothing did.
        charges: one for each try that a provider counted or may have counted, that of the answer last.
        cost_nusd: of all charges together; None where one of them is unknown.
        outcome: `ok`, an error's code, `cancelled`, or `lost` where the process that made the call died.
        attempts: how many tries were made, the answer's included.
        reserved: whether it held a reservation.
        most_nusd: where the cost is unknown, the most that all charges together can be; None if they have no bound.
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


_LONGEST_TIME = 32  # characters: an ISO time with microseconds and an offset


@functools.cache
def _rows() -> TypeAdapter[Call]:
    return TypeAdapter(Call)


def read_call(row: bytes) -> Call:
    """A call from its JSON form: what `json.dumps` makes of `dataclasses.asdict`.

    Raises:
        ValueError: this is no call, or one that cannot have been made.
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
class Spend:
    """What was spent on one day (UTC), by one tenant, on one group and model.

    In a line that sums over some of these four, those are "".

    Attributes:
        day: ISO date on which the calls ended.
        group: the one that answered; for calls without an answer, the one that was asked for.
        model: `provider/model`; "" for calls without an answer.
        calls: how many, however they ended.
        failed: how many of them ended without an answer.
        unpriced: how many of them have a cost here that is unknown.
        cost_nusd: the known costs, in nano-dollars.
        held_nusd: the most that the unknown costs can be, as far as they have a bound. Budgets count it as spent.
        unbounded: how many of the unpriced calls have no bound.
    """

    day: str
    tenant: str
    group: str
    model: str
    calls: int = 0
    failed: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_nusd: int = 0
    held_nusd: int = 0
    unbounded: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether some of the cost is unknown, and so missing from `cost_nusd`."""
        return bool(self.unpriced or self.held_nusd)

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known of the cost, which must not be shown as $0."""
        return self.is_partial and not self.cost_nusd

    @property
    def most_nusd(self) -> int | None:
        """The most that the cost can be: the cost itself where all of it is known; None where it has no bound."""
        is_bounded = not self.unbounded and (self.held_nusd or not self.unpriced)
        return self.cost_nusd + self.held_nusd if is_bounded else None

    @property
    def cost(self) -> str:
        """`$1.25`; `≥ $1.25` where some of the cost is unknown; `unknown` where all of it is."""
        if self.is_unknown:
            return "unknown"
        return ("≥ " if self.is_partial else "") + dollars(self.cost_nusd)

    @property
    def bounded_cost(self) -> str:
        """`cost`, and the bound where there is one: `≥ $1.25, at most $2`."""
        if not self.is_partial or self.most_nusd is None:
            return self.cost
        return f"{self.cost}, at most {dollars(self.most_nusd)}"

    @property
    def cost_usd(self) -> float | None:
        """The known costs in US dollars; None where nothing is known of them."""
        return None if self.is_unknown else self.cost_nusd / NUSD

    @property
    def at_most_usd(self) -> float | None:
        """The most that the cost can be, in US dollars; None where it has no bound."""
        return None if self.most_nusd is None else self.most_nusd / NUSD

    def as_dict(self) -> dict[str, Any]:
        """The JSON form of the figures alone. `cost_usd` is null where it is unknown, `at_most_usd` where there is no
        bound."""
        return {name: getattr(self, name) for name in (*_SPEND_FIGURES, "cost_usd", "at_most_usd")}


_SPEND_FIGURES = ("calls", "failed", "unpriced", "input_tokens", "output_tokens", "cached_tokens")
SPEND_SUMS = (*_SPEND_FIGURES, "cost_nusd", "held_nusd", "unbounded")


def summed(lines: Iterable[Spend], by: Dimension | None = None) -> list[Spend]:
    """One line for each value of a dimension: days in order, other dimensions by cost, the highest first. Without a
    dimension, one line for all."""
    sums: dict[str, list[Spend]] = {}
    for line in lines:
        sums.setdefault(getattr(line, by) if by else "", []).append(line)
    total = []
    for value, of_value in sums.items():
        figures = {name: sum(getattr(line, name) for line in of_value) for name in SPEND_SUMS}
        kept = {by: value} if by else {}
        total.append(Spend(**{"day": "", "tenant": "", "group": "", "model": "", **kept}, **figures))  # type: ignore[arg-type]
    if by == "day":
        return sorted(total, key=lambda line: line.day)
    return sorted(total, key=lambda line: (-line.cost_nusd, -line.calls, getattr(line, by or "day")))


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What was spent between two days (UTC, both included; None is open), and the state of the budgets.

    `tenant` is None in an operator's report, which covers all tenants. `lines` has one line for each day, tenant, group
    and model; the sums over them are as in the JSON form.
    """

    tenant: str | None
    since: str | None
    until: str | None
    lines: tuple[Spend, ...]
    budgets: tuple[BudgetState, ...]

    @property
    def total(self) -> Spend:
        """The sum of all lines."""
        [total] = summed(self.lines) or [Spend("", "", "", "")]
        return total

    @property
    def by_group(self) -> tuple[Spend, ...]:
        """A line for each group, the one that cost most first."""
        return tuple(summed(self.lines, "group"))

    @property
    def by_model(self) -> tuple[Spend, ...]:
        """A line for each model, the one that cost most first."""
        return tuple(summed(self.lines, "model"))

    @property
    def by_day(self) -> tuple[Spend, ...]:
        """A line for each day on which calls ended, in order."""
        return tuple(summed(self.lines, "day"))

    @property
    def by_tenant(self) -> tuple[Spend, ...]:
        """A line for each tenant, the one that cost most first."""
        return tuple(summed(self.lines, "tenant"))

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: the total, and the same by group, model and day; by tenant too where it covers all."""
        dimensions: tuple[Dimension, ...] = ("group", "model", "day") if self.tenant else _ALL_DIMENSIONS
        return {
            "tenant": self.tenant,
            "since": self.since,
            "until": self.until,
            "total": self.total.as_dict(),
            **{
                f"by_{by}": [{by: getattr(line, by), **line.as_dict()} for line in summed(self.lines, by)]
                for by in dimensions
            },
            "budgets": [budget.as_dict() for budget in self.budgets],
        }


_ALL_DIMENSIONS: tuple[Dimension, ...] = ("group", "model", "day", "tenant")


def name_of(value: str) -> str:
    """A model or a group as it is shown; the empty one of calls that nobody answered too."""
    return value or "(nobody answered)"
