"""Reservations, and a row of each tenant to lock while its budgets are compared with what is spent."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table("konstruct_tenants", sa.Column("id", sa.String(128), primary_key=True))
    op.execute("INSERT INTO konstruct_tenants (id) SELECT DISTINCT tenant FROM konstruct_spend")
    op.create_table(
        "konstruct_reservations",
        sa.Column("call_id", sa.String(36), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("owner", sa.String(36), nullable=False, index=True),
        sa.Column("tenant", sa.String(128), nullable=False, index=True),
        sa.Column("group", sa.String(512), nullable=False),
        sa.Column("amount_nusd", sa.BigInteger, nullable=False),
        sa.Column("lapses_at", sa.BigInteger, nullable=False, index=True),
    )
