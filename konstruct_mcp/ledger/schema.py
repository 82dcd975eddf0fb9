"""The ledger's tables.

    konstruct_calls         one row per call
    konstruct_spend         the calls' sums by day, tenant, group and model: what budgets and reports read
    konstruct_reservations  the most that calls under way can cost; a row lapses unless its process renews it
    konstruct_tenants       one row per tenant, to lock
    konstruct_ledger        one row: the ledger's id
    konstruct_counters      on PostgreSQL alone: what is spent, held and reserved in the window of each budget, which
                            whoever writes sums or reservations changes too, or triggers do for versions before
    konstruct_keys          access keys: their digests, and whom they stand for
    konstruct_tenant_settings  tenants that no config names, with what a config could say of them
    konstruct_version       one row: the oldest version of the tables whose code can use these ones
    konstruct_revision      one row: the version that these tables are

All amounts are whole nano-dollars, all times UTC. A change of a table needs a migration and a new `HEAD`. One that
code of the versions before would not survive needs a new `USABLE_FROM` too, and a release between: what they need is
kept until none of them runs any more.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

HEAD = "0006"  # the newest migration, which this version reads and writes
USABLE_FROM = "0003"  # the oldest whose code can use the tables of `HEAD`, also while this version uses them
# The code of 0003 refuses whatever it finds a later number in than its own. So that is where `USABLE_FROM` is.
USABLE_FROM_TABLE, REVISION_TABLE = "konstruct_version", "konstruct_revision"

metadata = sa.MetaData()
postgresql_metadata = sa.MetaData()  # of the tables that only PostgreSQL has
_id = sa.String(36)
_tenant = sa.String(128)
_name = sa.String(512)

calls = sa.Table(
    "konstruct_calls",
    metadata,
    sa.Column("id", _id, primary_key=True),
    sa.Column("time", sa.String(27), nullable=False),  # ISO 8601, UTC: sorts by time in every database
    sa.Column("tenant", _tenant, nullable=False),
    sa.Column("group_asked", _name, nullable=False),
    sa.Column("group_served", _name),
    sa.Column("model", _name),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_nusd", sa.BigInteger),
    sa.Column("duration_ms", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.String(32), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("most_nusd", sa.BigInteger),
    sa.Column("uncounted", sa.Integer, nullable=False, server_default="0"),
)
spend = sa.Table(
    "konstruct_spend",
    metadata,
    sa.Column("tenant", _tenant, primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("group", _name, primary_key=True),
    sa.Column("model", _name, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("unpriced", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_nusd", sa.BigInteger, nullable=False),
    sa.Column("held_nusd", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("unbounded", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("ix_konstruct_spend_group", "group", "day"),
)
tenants = sa.Table("konstruct_tenants", metadata, sa.Column("id", _tenant, primary_key=True))
ledger = sa.Table("konstruct_ledger", metadata, sa.Column("id", _id, primary_key=True))
reservations = sa.Table(
    "konstruct_reservations",
    metadata,
    sa.Column("call_id", _id, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("owner", _id, nullable=False, index=True),
    sa.Column("tenant", _tenant, nullable=False, index=True),
    sa.Column("group", _name, nullable=False),
    sa.Column("amount_nusd", sa.BigInteger, nullable=False),
    sa.Column("lapses_at", sa.BigInteger, nullable=False, index=True),  # seconds since 1970
    sa.Column("model", _name),
    sa.Column("held_on", sa.String(10)),  # the day whose sums hold it, once it has lapsed
)
counters = sa.Table(
    "konstruct_counters",
    postgresql_metadata,
    sa.Column("tenant", _tenant, primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),  # made of the three columns that follow
    sa.Column("groups", postgresql.ARRAY(_name), nullable=False),  # empty for all
    sa.Column("first", sa.String(10), nullable=False),
    sa.Column("last", sa.String(10), nullable=False),
    sa.Column("spent", sa.Numeric, nullable=False),  # more than 64 bits: no sum may refuse a call's row
    sa.Column("held", sa.Numeric, nullable=False),
    sa.Column("reserved", sa.Numeric, nullable=False),
)
keys = sa.Table(
    "konstruct_keys",
    metadata,
    sa.Column("prefix", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),  # SHA-256 in hexadecimal digits
    sa.Column("tenant", _tenant, nullable=False, index=True),
    sa.Column("scopes", sa.String(512), nullable=False),  # with blanks between them
    sa.Column("note", sa.String(500)),
    sa.Column("created", sa.String(20), nullable=False),  # ISO 8601, UTC, as the others
    sa.Column("expires", sa.String(20)),
    sa.Column("used", sa.String(20)),
    sa.Column("revoked", sa.String(20)),
)
tenant_settings = sa.Table(
    "konstruct_tenant_settings",
    metadata,
    sa.Column("id", _tenant, primary_key=True),
    sa.Column("settings", sa.Text, nullable=False),  # JSON
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),  # grows with each change; rows are never deleted
)
