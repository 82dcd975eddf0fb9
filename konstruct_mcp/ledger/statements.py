"""The SQL of the ledger, for SQLite and PostgreSQL alike. Each statement is made once, not for each call."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from konstruct_mcp.core.budgets import Budget
from konstruct_mcp.core.spending import SPEND_SUMS
from konstruct_mcp.ledger.schema import calls, reservations, spend, tenants


class CompiledStatement:
    """A statement that is compiled once for each driver and then handed to the driver as text.

    Every call executes these. SQLAlchemy takes longer to find a compiled statement in its cache and to bind its values
    than the database takes to execute it.
    """

    def __init__(self, statement: sa.ClauseElement) -> None:
        self._statement = statement
        # By dialect and driver: the SQL, and the order of its values.
        self._compiled: dict[tuple[str, str], tuple[str, list[str] | None]] = {}

    def execute(self, connection: sa.Connection, *rows: Mapping[str, Any]) -> int:
        """Execute it once for each row of values. Returns how many rows of the table it has changed."""
        dialect = connection.dialect
        compiled = self._compiled.get((dialect.name, dialect.driver))
        if compiled is None:
            made: Any = self._statement.compile(dialect=dialect)
            compiled = self._compiled[dialect.name, dialect.driver] = str(made), made.positiontup
        sql, names = compiled
        values: list[Any] = list(rows) if names is None else [tuple(row[name] for name in names) for row in rows]
        result = connection.exec_driver_sql(sql, values if len(values) > 1 else values[0], _WITH_ROW_COUNT)
        return result.rowcount


_WITH_ROW_COUNT = {"preserve_rowcount": True}
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)

# -- calls and their sums --------------------------------------------------------------------------------------------

SPEND_KEY = tuple(column.name for column in spend.primary_key.columns)
# The names of the values of ADD_SPEND: which row, and how much is added to each sum.
KEY_VALUES, SUM_VALUES = [f"of_{name}" for name in SPEND_KEY], [f"more_{name}" for name in SPEND_SUMS]

INSERT_CALL = CompiledStatement(sa.insert(calls))
INSERT_SPEND = sa.insert(spend)
ADD_SPEND = CompiledStatement(
    sa.update(spend)
    .where(*(spend.c[name] == sa.bindparam(value) for name, value in zip(SPEND_KEY, KEY_VALUES, strict=True)))
    .values({name: spend.c[name] + sa.bindparam(value) for name, value in zip(SPEND_SUMS, SUM_VALUES, strict=True)})
)
FIND_CALLS = sa.select(calls.c.id, calls.c.outcome, calls.c.time).where(calls.c.id.in_(_IDS))
DELETE_CALLS = sa.delete(calls).where(calls.c.id.in_(_IDS))

# -- tenants ---------------------------------------------------------------------------------------------------------

FIND_TENANTS = sa.select(tenants.c.id).where(tenants.c.id.in_(_IDS))
# In the order of their ids, so that two processes never wait for each other.
LOCK_TENANTS = sa.select(tenants.c.id).where(tenants.c.id.in_(_IDS)).order_by(tenants.c.id).with_for_update()

# -- reservations ----------------------------------------------------------------------------------------------------

_IS_OPEN = reservations.c.held_on.is_(None)
_IS_ONE = sa.and_(reservations.c.call_id == sa.bindparam("id"), reservations.c.attempt == sa.bindparam("of_attempt"))
# A process never takes its own reservations for lapsed: it is alive, though its machine may have slept.
_IS_LAPSED = sa.and_(
    reservations.c.lapses_at < sa.bindparam("now"), reservations.c.owner != sa.bindparam("owner"), _IS_OPEN
)
FIND_TENANTS_WITH_LAPSED = sa.select(reservations.c.tenant).where(_IS_LAPSED).distinct()
FIND_LAPSED = (
    sa.select(reservations)
    .where(_IS_LAPSED, reservations.c.tenant.in_(_IDS))
    .order_by(reservations.c.call_id, reservations.c.attempt)
    .with_for_update()
)
# A reservation that has lapsed is held: its amount stays on the budgets until its cost is known.
HOLD = sa.update(reservations).where(_IS_ONE).values(held_on=sa.bindparam("day"))
FIND_HELD = (
    sa.select(reservations)
    .where(reservations.c.call_id.in_(_IDS), sa.not_(_IS_OPEN))
    .order_by(reservations.c.call_id, reservations.c.attempt)
)
DELETE_OLD_HELD = sa.delete(reservations).where(reservations.c.lapses_at < sa.bindparam("before"), sa.not_(_IS_OPEN))
# A dead process whose clock was ahead leaves a reservation that would stand for as long as that clock was ahead. It
# does not lapse at once: its process may be alive, and renews it when it next looks at its clock.
SHORTEN = (
    sa.update(reservations)
    .where(reservations.c.lapses_at > sa.bindparam("latest"))
    .values(lapses_at=sa.bindparam("instead"))
)
RENEW = (
    sa.update(reservations)
    .where(reservations.c.owner == sa.bindparam("of_owner"))
    .values(lapses_at=sa.bindparam("until"))
)
GIVE_UP = sa.delete(reservations).where(_IS_ONE, _IS_OPEN)
GIVE_UP_ALL_OF_CALLS = sa.delete(reservations).where(reservations.c.call_id.in_(_IDS))
GIVE_UP_ALL_BUT = sa.delete(reservations).where(
    reservations.c.call_id == sa.bindparam("id"),
    reservations.c.attempt.not_in(sa.bindparam("kept", expanding=True)),
    _IS_OPEN,
)

# -- reports ---------------------------------------------------------------------------------------------------------

NEXT_GROUP = sa.select(sa.func.min(spend.c.group)).where(spend.c.group > sa.bindparam("name"))
SPENT_ON_GROUP = (
    sa.select(spend.c.tenant, spend.c.day, sa.func.sum(spend.c.cost_nusd + spend.c.held_nusd))
    .where(spend.c.group == sa.bindparam("name"), spend.c.day >= sa.bindparam("since"))
    .group_by(spend.c.tenant, spend.c.day)
)

# -- budgets: `groups` is how many groups a budget counts, 0 for all --------------------------------------------------

_ZERO: sa.ColumnElement[int] = sa.literal_column("0")


@functools.cache
def budget_amounts(groups: int) -> sa.Select[int, int, int, int]:
    """Of one budget: what is spent, what is held, what is reserved, and how much of the reserved has lapsed."""
    return sa.select(
        _spent(spend.c.cost_nusd, "", groups),
        _spent(spend.c.held_nusd, "", groups),
        _reserved("", groups),
        _reserved("", groups, _IS_LAPSED),
    )


@functools.cache
def reserve_within(budgets: tuple[int, ...]) -> CompiledStatement:
    """Insert a reservation, if each budget affords it. `budgets` has the number of groups of each budget."""
    amount = sa.cast(sa.bindparam("amount_nusd"), sa.BigInteger)
    query = sa.select(*(sa.cast(sa.bindparam(column.name), column.type) for column in reservations.columns))
    for number, groups in enumerate(budgets):
        suffix = budget_suffix(number)
        limit = sa.cast(sa.bindparam(f"limit{suffix}"), sa.BigInteger)
        spent = _spent(spend.c.cost_nusd + spend.c.held_nusd, suffix, groups)
        query = query.where(limit - spent - _reserved(suffix, groups) >= amount)
    return CompiledStatement(
        sa.insert(reservations).from_select([column.name for column in reservations.columns], query)
    )


def budget_suffix(number: int) -> str:
    """What tells the values of one budget from those of another in `reserve_within`."""
    return f"_of_{number}"


def budget_values(budget: Budget, now: datetime, suffix: str = "") -> dict[str, Any]:
    """The values of a budget for the statements above, besides the tenant's id."""
    first, last = budget.days(now)
    groups = {f"group{number}{suffix}": group for number, group in enumerate(budget.counted)}
    return {f"first{suffix}": first, f"last{suffix}": last, f"limit{suffix}": budget.limit_nusd, **groups}


def _spent(what: sa.ColumnElement[int], suffix: str, groups: int) -> sa.ColumnElement[int]:
    """The sum of a column over the days of a budget."""
    query = sa.select(sa.func.coalesce(sa.func.sum(what), _ZERO)).where(
        spend.c.tenant == sa.bindparam("tenant"),
        spend.c.day.between(sa.bindparam(f"first{suffix}"), sa.bindparam(f"last{suffix}")),
    )
    return _on_groups(query, spend.c.group, suffix, groups)


def _reserved(suffix: str, groups: int, *which: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    """What is reserved on a budget now, whether or not it has lapsed."""
    query = sa.select(sa.func.coalesce(sa.func.sum(reservations.c.amount_nusd), _ZERO)).where(
        reservations.c.tenant == sa.bindparam("tenant"), _IS_OPEN, *which
    )
    return _on_groups(query, reservations.c.group, suffix, groups)


def _on_groups(query: sa.Select[Any], group: sa.Column[str], suffix: str, groups: int) -> sa.ColumnElement[int]:
    if groups:
        query = query.where(group.in_([sa.bindparam(f"group{number}{suffix}") for number in range(groups)]))
    return query.scalar_subquery()
