"""On PostgreSQL, counters of what is spent, held and reserved in each budget's window, kept by the database itself.

Triggers keep them, and not the code that writes: servers of the version before, which may run meanwhile, write sums and
reservations without knowing of counters. SQLite has none: what it sums is in the process's own memory, and its lock is
held over no round trip.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

_SPENT = 'SELECT tenant, "group", day, {sign}cost_nusd AS spent, {sign}held_nusd AS held, 0 AS reserved FROM {rows}'
_RESERVED = """
    SELECT tenant, "group", NULL AS day, 0 AS spent, 0 AS held, {sign}amount_nusd AS reserved FROM {rows}
    WHERE held_on IS NULL
"""
_TRIGGER = """
CREATE TRIGGER {name} AFTER {event} ON {table} REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION {name}()
"""
# - What does not change an amount, as a renewal, touches no counter.
# - The counters of a statement are locked in one order, so that two statements never wait for each other.
_FUNCTION = """
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM konstruct_counters WHERE tenant IN (SELECT tenant FROM ({changes}) AS changed)
        ORDER BY tenant, id FOR UPDATE;
    UPDATE konstruct_counters AS counter
        SET spent = counter.spent + more.spent, held = counter.held + more.held,
            reserved = counter.reserved + more.reserved
        FROM (
            SELECT counted.tenant, counted.id, sum(changed.spent) AS spent, sum(changed.held) AS held,
                sum(changed.reserved) AS reserved
            FROM ({changes}) AS changed JOIN konstruct_counters AS counted ON counted.tenant = changed.tenant
                AND (counted.groups = '{{}}' OR changed."group" = ANY (counted.groups))
                AND (changed.day IS NULL OR changed.day BETWEEN counted.first AND counted.last)
            GROUP BY counted.tenant, counted.id
        ) AS more
        WHERE counter.tenant = more.tenant AND counter.id = more.id;
    RETURN NULL;
END $$
"""
_CHANGES = """
    SELECT tenant, "group", day, sum(spent) AS spent, sum(held) AS held, sum(reserved) AS reserved
    FROM ({rows}) AS signed GROUP BY tenant, "group", day
    HAVING sum(spent) <> 0 OR sum(held) <> 0 OR sum(reserved) <> 0
"""
_NEW, _OLD = ("", "new_rows"), ("-", "old_rows")
_EVENTS = {"INSERT": (_NEW,), "UPDATE": (_NEW, _OLD), "DELETE": (_OLD,)}


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    # Whoever writes sums begins with a row of this table, so that nobody holds a part of what is locked below.
    op.execute("LOCK TABLE konstruct_tenants IN EXCLUSIVE MODE")
    op.create_table(
        "konstruct_counters",
        sa.Column("tenant", sa.String(128), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("groups", postgresql.ARRAY(sa.String(512)), nullable=False),
        sa.Column("first", sa.String(10), nullable=False),
        sa.Column("last", sa.String(10), nullable=False),
        sa.Column("spent", sa.Numeric, nullable=False),
        sa.Column("held", sa.Numeric, nullable=False),
        sa.Column("reserved", sa.Numeric, nullable=False),
        postgresql_with={"fillfactor": 25},  # few rows that change with each call: the new form stays on its page
    )
    for table, counted in (("konstruct_reservations", _RESERVED), ("konstruct_spend", _SPENT)):
        for event, sources in _EVENTS.items():
            name = f"{table}_{event.lower()}"
            rows = " UNION ALL ".join(counted.format(sign=sign, rows=rows) for sign, rows in sources)
            tables = " ".join(f"{'NEW' if sign == '' else 'OLD'} TABLE AS {rows}" for sign, rows in sources)
            op.execute(_FUNCTION.format(name=name, changes=_CHANGES.format(rows=rows)))
            op.execute(_TRIGGER.format(name=name, event=event, table=table, tables=tables))
