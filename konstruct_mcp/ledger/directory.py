"""Access keys, and tenants that no config names: who may ask, as the ledger's database has it.

SQLAlchemy is imported in the thread that asks the database, as everywhere in this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from konstruct_mcp.core.identity import StoredKey, StoredTenant, timestamp
from konstruct_mcp.ledger.ledger import Ledger

if TYPE_CHECKING:
    from konstruct_mcp.ledger.accounts import State
    from konstruct_mcp.ledger.store import Store


class Directory:
    """The keys and tenants beside the accounts of a ledger.

    Raises:
        LedgerError: the database is out of reach. Every method may raise it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # -- keys ----------------------------------------------------------------------------------------------------------

    async def add_key(self, key: StoredKey, digest: str) -> bool:
        """Keep a key; whether that could be done, since another may have its prefix."""

        def act(store: Store) -> bool:
            from konstruct_mcp.ledger import keys

            return _unless_there(store, lambda connection: keys.insert_key(connection, key, digest))

        return await self._ledger.report(act)

    async def keys_of(self, digests: Sequence[str]) -> dict[str, StoredKey]:
        """Those of the keys with these digests that there are, by digest."""

        def act(store: Store) -> dict[str, StoredKey]:
            from konstruct_mcp.ledger import keys

            return store.look(lambda connection: keys.find_keys(connection, digests))

        return await self._ledger.report(act)

    async def keys(self, tenant: str | None) -> list[StoredKey]:
        """The keys of a tenant, or all for None; the oldest first."""

        def act(store: Store) -> list[StoredKey]:
            from konstruct_mcp.ledger import keys

            return store.look(lambda connection: keys.list_keys(connection, tenant))

        return await self._ledger.report(act)

    async def revoke_key(self, prefix: str) -> StoredKey | None:
        """The key of this prefix, revoked now or before; None where there is none."""

        def act(store: Store) -> StoredKey | None:
            from konstruct_mcp.ledger import keys

            return store.change(lambda connection: keys.revoke_key(connection, prefix, timestamp(datetime.now(UTC))))

        return await self._ledger.report(act)

    async def note_uses(self, uses: Mapping[str, str]) -> None:
        """Note when keys were used, by prefix."""

        def act(store: Store) -> None:
            from konstruct_mcp.ledger import keys

            store.change(lambda connection: keys.note_uses(connection, uses))

        await self._ledger.report(act)

    # -- tenants -------------------------------------------------------------------------------------------------------

    async def tenants(self, known: State | None = None) -> tuple[State, list[StoredTenant]] | None:
        """All tenants by id, with their state; None where that is the known one."""

        def act(store: Store) -> tuple[State, list[StoredTenant]] | None:
            from konstruct_mcp.ledger import accounts

            return store.look(lambda connection: accounts.read_tenants(connection, known))

        return await self._ledger.report(act)

    async def add_tenant(self, tenant: str, settings: Mapping[str, Any]) -> bool:
        """Keep a tenant; whether that could be done, since there may be one."""

        def act(store: Store) -> bool:
            from konstruct_mcp.ledger import accounts

            return _unless_there(store, lambda connection: accounts.insert_tenant(connection, tenant, settings))

        return await self._ledger.report(act)

    async def change_tenant(
        self, tenant: str, settings: Callable[[Mapping[str, Any]], Mapping[str, Any]], *, disabled: bool | None = None
    ) -> StoredTenant | None:
        """Change a tenant; None where there is none.

        Args:
            settings: gives the new settings from those that it has. Called in another thread.
            disabled: whether it may do nothing from now on; as before for None.
        """

        def act(store: Store) -> StoredTenant | None:
            from konstruct_mcp.ledger import accounts

            def change(connection: Any) -> StoredTenant | None:
                found = accounts.find_tenant(connection, tenant)
                if found is None:
                    return None
                is_off = found.disabled if disabled is None else disabled
                changed = replace(
                    found, settings=settings(found.settings), disabled=is_off, revision=found.revision + 1
                )
                accounts.update_tenant(connection, changed)
                return changed

            return store.change(change)

        return await self._ledger.report(act)


def _unless_there(store: Store, insert: Callable[[Any], None]) -> bool:
    """Insert a row; whether there was none of its kind."""
    from sqlalchemy.exc import IntegrityError

    try:
        store.change(insert)
    except IntegrityError:
        return False
    return True
