"""Tenants that no config names, in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from konstruct_mcp.core.identity import StoredTenant
from konstruct_mcp.ledger.schema import tenant_settings

State = tuple[int, int]  # of all of them: another one means that something has changed


def state(connection: sa.Connection) -> State:
    """How many there are, and the sum of their revisions."""
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(tenant_settings.c.revision), 0))
    [count, revisions] = connection.execute(query.select_from(tenant_settings)).one()
    return int(count), int(revisions)


def read_tenants(connection: sa.Connection, known: State | None) -> tuple[State, list[StoredTenant]] | None:
    """All of them by id, with their state; None where that is the known one."""
    # The state first: what is changed in between is read, and read once more the next time.
    if (now := state(connection)) == known:
        return None
    return now, [_stored(row) for row in connection.execute(sa.select(tenant_settings).order_by(tenant_settings.c.id))]


def find_tenant(connection: sa.Connection, tenant: str) -> StoredTenant | None:
    """The tenant of this id, locked until the transaction ends; None where there is none."""
    row = connection.execute(
        sa.select(tenant_settings).where(tenant_settings.c.id == tenant).with_for_update()
    ).one_or_none()
    return None if row is None else _stored(row)


def insert_tenant(connection: sa.Connection, tenant: str, settings: Mapping[str, Any]) -> None:
    """Raises sqlalchemy.exc.IntegrityError where there is one of this id."""
    values = {"id": tenant, "settings": json.dumps(settings), "disabled": False, "revision": 1}
    connection.execute(sa.insert(tenant_settings).values(values))


def update_tenant(connection: sa.Connection, tenant: StoredTenant) -> None:
    """Write the settings of one that there is, and whether it is disabled."""
    values = {
        "settings": json.dumps(dict(tenant.settings)),
        "disabled": tenant.disabled,
        "revision": tenant_settings.c.revision + 1,
    }
    connection.execute(sa.update(tenant_settings).where(tenant_settings.c.id == tenant.id).values(values))


def _stored(row: sa.Row[tuple[Any, ...]]) -> StoredTenant:
    return StoredTenant(row.id, json.loads(row.settings), bool(row.disabled), row.revision)
