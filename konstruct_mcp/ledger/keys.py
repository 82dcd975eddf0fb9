"""Access keys in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from konstruct_mcp.core.identity import StoredKey
from konstruct_mcp.ledger.schema import keys

_COLUMNS = tuple(column for column in keys.c if column is not keys.c.digest)


def insert_key(connection: sa.Connection, key: StoredKey, digest: str) -> None:
    """Raises sqlalchemy.exc.IntegrityError where another key has this prefix."""
    values = {**key.as_dict(), "scopes": " ".join(key.scopes), "digest": digest}
    connection.execute(sa.insert(keys).values(values))


def find_keys(connection: sa.Connection, digests: Sequence[str]) -> dict[str, StoredKey]:
    """Those of the keys with these digests that there are, by digest."""
    found = connection.execute(sa.select(keys.c.digest, *_COLUMNS).where(keys.c.digest.in_(digests)))
    return {row.digest: _stored(row) for row in found}


def list_keys(connection: sa.Connection, tenant: str | None) -> list[StoredKey]:
    """The keys of a tenant, or all for None; the oldest first."""
    query = sa.select(*_COLUMNS).order_by(keys.c.created, keys.c.prefix)
    if tenant is not None:
        query = query.where(keys.c.tenant == tenant)
    return [_stored(row) for row in connection.execute(query)]


def revoke_key(connection: sa.Connection, prefix: str, now: str) -> StoredKey | None:
    """The key of this prefix, revoked now or before; None where there is none."""
    found = keys.c.prefix == prefix
    connection.execute(sa.update(keys).where(found, keys.c.revoked.is_(None)).values(revoked=now))
    row = connection.execute(sa.select(*_COLUMNS).where(found)).one_or_none()
    return None if row is None else _stored(row)


def note_uses(connection: sa.Connection, uses: Mapping[str, str]) -> None:
    """Note when keys were used, by prefix."""
    later: sa.BindParameter[str] = sa.bindparam("at", type_=keys.c.used.type)
    statement = (
        sa.update(keys)
        .where(keys.c.prefix == sa.bindparam("of"), sa.or_(keys.c.used.is_(None), keys.c.used < later))
        .values(used=later)
    )
    # In one order, so that no two servers wait for each other.
    connection.execute(statement, [{"of": prefix, "at": at} for prefix, at in sorted(uses.items())])


def _stored(row: sa.Row[tuple[object, ...]]) -> StoredKey:
    values = {column.name: row._mapping[column] for column in _COLUMNS}
    return StoredKey(**{**values, "scopes": tuple(values["scopes"].split())})
