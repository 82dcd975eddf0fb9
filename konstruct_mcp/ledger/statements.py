"""The SQL of the ledger. Each statement is made once, not for each call.

Those whose names begin with PG_ are for PostgreSQL alone, in psycopg's form. They take rows as one JSON array, so that
their text is the same for any number of rows, and the database plans each of them once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from konstruct_mcp.core.spending import SPEND_SUMS
from konstruct_mcp.ledger.schema import calls, counters, reservations, spend, tenants


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
        return self._execute(connection, rows).rowcount

    def read(self, connection: sa.Connection, values: Mapping[str, Any]) -> Sequence[sa.Row[Any]]:
        """The rows that it finds."""
        return self._execute(connection, [values]).all()

    def _execute(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> sa.CursorResult[Any]:
        dialect = connection.dialect
        compiled = self._compiled.get((dialect.name, dialect.driver))
        if compiled is None:
            made: Any = self._statement.compile(dialect=dialect)
            compiled = self._compiled[dialect.name, dialect.driver] = str(made), made.positiontup
        sql, names = compiled
        values: list[Any] = list(rows) if names is None else [tuple(row[name] for name in names) for row in rows]
        return connection.exec_driver_sql(sql, values if len(values) > 1 else values[0], _WITH_ROW_COUNT)


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
LAPSED_OF_TENANTS = (
    sa.select(reservations.c.tenant, reservations.c.group, sa.func.sum(reservations.c.amount_nusd).label("amount_nusd"))
    .where(_IS_LAPSED, reservations.c.tenant.in_(_IDS))
    .group_by(reservations.c.tenant, reservations.c.group)
)
INSERT_RESERVATION = CompiledStatement(sa.insert(reservations))
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
        _spent(spend.c.cost_nusd, groups),
        _spent(spend.c.held_nusd, groups),
        _reserved(groups),
        _reserved(groups, _IS_LAPSED),
    )


@functools.cache
def window_amounts(groups: int) -> CompiledStatement:
    """Of one budget: what is spent, what is held, and what is reserved, whether or not that has lapsed."""
    return CompiledStatement(
        sa.select(_spent(spend.c.cost_nusd, groups), _spent(spend.c.held_nusd, groups), _reserved(groups))
    )


def window_values(groups: Sequence[str], first: str, last: str) -> dict[str, Any]:
    """The values of a budget for the statements above, besides the tenant's id."""
    return {"first": first, "last": last, **{f"group{number}": group for number, group in enumerate(groups)}}


def _spent(what: sa.ColumnElement[int], groups: int) -> sa.ColumnElement[int]:
    """The sum of a column over the days of a budget."""
    query = sa.select(sa.func.coalesce(sa.func.sum(what), _ZERO)).where(
        spend.c.tenant == sa.bindparam("tenant"),
        spend.c.day.between(sa.bindparam("first"), sa.bindparam("last")),
    )
    return _on_groups(query, spend.c.group, groups)


def _reserved(groups: int, *which: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    """What is reserved on a budget now, whether or not it has lapsed."""
    query = sa.select(sa.func.coalesce(sa.func.sum(reservations.c.amount_nusd), _ZERO)).where(
        reservations.c.tenant == sa.bindparam("tenant"), _IS_OPEN, *which
    )
    return _on_groups(query, reservations.c.group, groups)


def _on_groups(query: sa.Select[Any], group: sa.Column[str], groups: int) -> sa.ColumnElement[int]:
    if groups:
        query = query.where(group.in_([sa.bindparam(f"group{number}") for number in range(groups)]))
    return query.scalar_subquery()


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]  # of SQLAlchemy's own


def _columns(table: sa.Table, *names: str) -> tuple[str, str]:
    """Columns of a table as they stand in a statement: their names, and these with their types."""
    columns = [table.c[name] for name in names] if names else list(table.columns)
    quoted = [f'"{column.name}"' for column in columns]
    types = [column.type.compile(dialect=_POSTGRESQL) for column in columns]
    return ", ".join(quoted), ", ".join(" ".join(pair) for pair in zip(quoted, types, strict=True))


_ROWS = "json_to_recordset(%s) AS new"
_CALL_NAMES, _CALL_TYPES = _columns(calls)
_SPEND_NAMES, _SPEND_TYPES = _columns(spend)
_RESERVATION_NAMES, _RESERVATION_TYPES = _columns(reservations)

PG_INTRODUCE = """
    INSERT INTO konstruct_tenants SELECT name FROM unnest(%s::text[]) AS name ORDER BY name ON CONFLICT DO NOTHING
"""
PG_LOCK_TENANTS = "SELECT FROM konstruct_tenants WHERE id = ANY (%s) ORDER BY id FOR UPDATE"
PG_INSERT_CALLS = f"INSERT INTO konstruct_calls ({_CALL_NAMES}) SELECT {_CALL_NAMES} FROM {_ROWS} ({_CALL_TYPES})"  # noqa: S608  names of ours
# While this is set, until the transaction ends, no trigger counts what is changed.
PG_COUNT_HERE, PG_COUNT_BY_TRIGGERS = (f"SELECT set_config('konstruct.counted', '{how}', true)" for how in ("here", ""))
# In one statement, so that each counter changes once: the reservations that are given up, what is added to sums, and
# the reservations of those tenants whose counters afford what is needed of them. A counter that is not there affords
# nothing. All counters are locked first, in one order, because of versions before that change some by triggers.
PG_SETTLE = f"""
    WITH ended AS (
        DELETE FROM konstruct_reservations WHERE call_id = ANY (%s) RETURNING tenant, "group", amount_nusd, held_on
    ), more AS (
        SELECT * FROM {_ROWS} ({_SPEND_TYPES})
    ), summed AS (
        INSERT INTO konstruct_spend ({_SPEND_NAMES}) SELECT {_SPEND_NAMES} FROM more
        ON CONFLICT ({_columns(spend, *SPEND_KEY)[0]})
        DO UPDATE SET {", ".join(f"{name} = konstruct_spend.{name} + excluded.{name}" for name in SPEND_SUMS)}
    ), wanted AS (
        SELECT * FROM {_ROWS} ({_RESERVATION_TYPES})
    ), changed AS (
        SELECT tenant, "group", day, sum(cost_nusd) AS spent, sum(held_nusd) AS held, 0 AS reserved
        FROM more GROUP BY tenant, "group", day
        UNION ALL SELECT tenant, "group", NULL, 0, 0, -sum(amount_nusd)
        FROM ended WHERE held_on IS NULL GROUP BY tenant, "group"
    ), counter AS MATERIALIZED (
        SELECT * FROM konstruct_counters
        WHERE tenant IN (SELECT tenant FROM changed UNION SELECT tenant FROM wanted) ORDER BY tenant, id FOR UPDATE
    ), counted AS (
        SELECT tenant, id, sum(changed.spent) AS spent, sum(changed.held) AS held, sum(changed.reserved) AS reserved
        FROM changed JOIN counter USING (tenant)
        WHERE (groups = '{{}}' OR "group" = ANY (groups)) AND (day IS NULL OR day BETWEEN first AND last)
        GROUP BY tenant, id
    ), short AS (
        SELECT tenant FROM {_ROWS} ({_columns(counters, "tenant", "id")[1]}, amount NUMERIC, "limit" NUMERIC)
        LEFT JOIN counter USING (tenant, id) LEFT JOIN counted USING (tenant, id)
        WHERE (
            counter.spent + counter.held + counter.reserved + amount
            + coalesce(counted.spent + counted.held + counted.reserved, 0) <= "limit"
        ) IS NOT TRUE
    ), made AS (
        INSERT INTO konstruct_reservations ({_RESERVATION_NAMES}) SELECT {_RESERVATION_NAMES} FROM wanted
        WHERE tenant NOT IN (SELECT tenant FROM short) RETURNING call_id, attempt, tenant, "group", amount_nusd
    ), net AS (
        SELECT tenant, id, sum(spent) AS spent, sum(held) AS held, sum(reserved) AS reserved
        FROM (
            SELECT tenant, id, spent, held, reserved FROM counted
            UNION ALL SELECT tenant, id, 0, 0, amount_nusd FROM made JOIN counter USING (tenant)
            WHERE groups = '{{}}' OR "group" = ANY (groups)
        ) AS parts GROUP BY tenant, id
    ), updated AS (
        UPDATE konstruct_counters AS counter
        SET spent = counter.spent + net.spent, held = counter.held + net.held,
            reserved = counter.reserved + net.reserved
        FROM net WHERE counter.tenant = net.tenant AND counter.id = net.id
    )
    SELECT call_id, attempt FROM made
"""  # noqa: S608  names of ours
PG_GIVE_UP_ALL_BUT = """
    DELETE FROM konstruct_reservations
    WHERE call_id = %s AND NOT attempt = ANY (%s::integer[]) AND held_on IS NULL
"""
PG_READ_COUNTERS = f"""
    SELECT tenant, id, spent, held, reserved
    FROM json_to_recordset(%s) AS wanted ({_columns(counters, "tenant", "id")[1]})
    JOIN konstruct_counters USING (tenant, id)
"""  # noqa: S608  names of ours
PG_DELETE_EXPIRED_COUNTERS = "DELETE FROM konstruct_counters WHERE tenant = ANY (%s) AND last < %s"
# This lock keeps a row from being deleted, and lets its process renew it.
PG_KEEP_RESERVATIONS = """
    SELECT FROM konstruct_reservations WHERE tenant = ANY (%s) AND held_on IS NULL ORDER BY call_id, attempt
    FOR KEY SHARE
"""
_OF_SPEND = """
    konstruct_spend AS old WHERE old.tenant = new.tenant AND old.day BETWEEN new.first AND new.last
    AND (new.groups = '{}' OR old."group" = ANY (new.groups))
"""
_OF_RESERVATIONS = """
    konstruct_reservations AS old WHERE old.tenant = new.tenant AND old.held_on IS NULL
    AND (new.groups = '{}' OR old."group" = ANY (new.groups))
"""
PG_MAKE_COUNTERS = f"""
    INSERT INTO konstruct_counters (tenant, id, groups, first, last, spent, held, reserved)
    SELECT tenant, id, groups, first, last,
        (SELECT coalesce(sum(cost_nusd), 0) FROM {_OF_SPEND}),
        (SELECT coalesce(sum(held_nusd), 0) FROM {_OF_SPEND}),
        (SELECT coalesce(sum(amount_nusd), 0) FROM {_OF_RESERVATIONS})
    FROM json_to_recordset(%s) AS new ({_columns(counters, "tenant", "id", "groups", "first", "last")[1]})
    RETURNING tenant, id, spent, held, reserved
"""  # noqa: S608  names of ours
