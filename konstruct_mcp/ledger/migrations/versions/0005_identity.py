"""Access keys, and tenants that no config names."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "konstruct_keys",
        sa.Column("prefix", sa.String(16), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(128), nullable=False, index=True),
        sa.Column("scopes", sa.String(512), nullable=False),
        sa.Column("note", sa.String(500)),
        sa.Column("created", sa.String(20), nullable=False),
        sa.Column("expires", sa.String(20)),
        sa.Column("used", sa.String(20)),
        sa.Column("revoked", sa.String(20)),
    )
    op.create_table(
        "konstruct_tenant_settings",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
