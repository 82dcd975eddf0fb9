"""The bound of an unknown cost, what budgets hold for it, and which ledger this is."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # Servers of the version before, which may still run, write none of these.
    op.add_column("konstruct_calls", sa.Column("most_nusd", sa.BigInteger))
    op.add_column("konstruct_calls", sa.Column("uncounted", sa.Integer, nullable=False, server_default="0"))
    op.add_column("konstruct_spend", sa.Column("held_nusd", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("konstruct_spend", sa.Column("unbounded", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("UPDATE konstruct_spend SET unbounded = unpriced WHERE unpriced > 0")
    op.create_index("ix_konstruct_spend_group", "konstruct_spend", ["group", "day"])
    op.add_column("konstruct_reservations", sa.Column("model", sa.String(512)))
    op.add_column("konstruct_reservations", sa.Column("held_on", sa.String(10)))
    ledger = op.create_table("konstruct_ledger", sa.Column("id", sa.String(36), primary_key=True))
    op.bulk_insert(ledger, [{"id": str(uuid.uuid4())}])
