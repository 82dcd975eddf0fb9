"""On PostgreSQL, triggers count nothing where the code that writes does: several changes of a counter become one.

What says so holds for a transaction. Servers of the versions before do not say it, and their changes are counted as
they were.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

_TABLES = {
    "insert": "NEW TABLE AS new_rows",
    "update": "NEW TABLE AS new_rows OLD TABLE AS old_rows",
    "delete": "OLD TABLE AS old_rows",
}


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute("LOCK TABLE konstruct_tenants IN EXCLUSIVE MODE")  # as in 0004
    for table in ("konstruct_reservations", "konstruct_spend"):
        for event, rows in _TABLES.items():
            name = f"{table}_{event}"
            op.execute(f"DROP TRIGGER {name} ON {table}")
            op.execute(
                f"CREATE TRIGGER {name} AFTER {event} ON {table} REFERENCING {rows} FOR EACH STATEMENT "
                "WHEN (current_setting('konstruct.counted', true) IS DISTINCT FROM 'here') "
                f"EXECUTE FUNCTION {name}()"
            )
