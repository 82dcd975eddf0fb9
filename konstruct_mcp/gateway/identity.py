"""Keys and tenants of the ledger's database: made, changed, and looked up without being in the way of calls.

What was read lately is taken as it is. A key or a change that is older than that is asked for once more, by all who
wait for it together. While the database is away, a key that it has confirmed stays good for some minutes, and what it
has said of tenants holds; a key that it has not confirmed is neither good nor bad.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from konstruct_mcp.config.model import Config
from konstruct_mcp.config.public import public_tenant
from konstruct_mcp.core import audit
from konstruct_mcp.core.errors import (
    InvalidArgumentError,
    InvalidTokenError,
    KonstructError,
    LedgerError,
    UnknownTenantError,
    UnverifiedError,
)
from konstruct_mcp.core.identity import (
    DEFAULT_TENANT,
    OPERATOR,
    ListedTenant,
    NewKey,
    StoredKey,
    StoredTenant,
    digest_of,
    looks_like_key,
    new_key,
    prefix_of,
    timestamp,
)
from konstruct_mcp.core.text import quoted
from konstruct_mcp.gateway.caller import Caller, check_tenant_id
from konstruct_mcp.ledger.directory import Directory

if TYPE_CHECKING:
    from konstruct_mcp.ledger.accounts import State


CONFIRMED_S = 600.0  # a key stays good while the database is away: longer than a restart, shorter than a working day
_PATIENCE_S = 2.0  # with the database, where what it said before can be taken instead
_FIRST_PATIENCE_S = 7.0  # where it said nothing before: it may be being opened, and the ledger itself waits six seconds
_TAKE_UP_S = 30.0  # for the first tenants: one that names a model of a wildcard needs LiteLLM, which is being loaded
_AWAY_S = 5.0  # after the database has failed, it is not waited for
_MOST_KEYS = 10_000  # that are remembered, of those that there are and of those that there are not: some 5 MB
_MOST_WAITING = 10_000  # keys that are asked for at once
_MOST_IN_A_QUERY = 500  # keys
_USE_NOTED_S = 60.0  # between two notes of a key's use
_LONGEST_NOTE = 500  # characters, as of a tenant's note
SCOPES = (OPERATOR,)


@dataclass(slots=True)
class _Known:
    """What the database has said of a key.

    Attributes:
        key: None where there is none.
        at: when it was asked, a reading of `time.monotonic`.
        noted: when a use was last to be noted, the same.
    """

    key: StoredKey | None
    at: float
    noted: float = float("-inf")


class Identities:
    """The keys and tenants of one database, as one process knows them."""

    def __init__(
        self,
        directory: Directory,
        take_up: Callable[[Sequence[StoredTenant]], Awaitable[None]],
        recheck_s: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is asked yet.

        Args:
            take_up: is given all tenants whenever they have changed.
            recheck_s: gives for how many seconds what was read is taken as it is.
            clock: gives seconds.
        """
        self._directory, self._take_up, self._recheck_s, self._clock = directory, take_up, recheck_s, clock
        self._good: LRUCache[str, _Known] = LRUCache(_MOST_KEYS)  # by digest
        self._bad: LRUCache[str, _Known] = LRUCache(_MOST_KEYS)  # apart, so that garbage pushes out no good one
        self._waiting: dict[str, asyncio.Future[_Known]] = {}
        self._away_until = float("-inf")
        self._uses: dict[str, str] = {}  # prefix → when
        self._tenants_at = float("-inf")  # when the database was last asked for tenants
        self._state: State | None = None  # of the tenants that are known
        self._tasks: dict[str, asyncio.Task[Any]] = {}  # by what they do: one of each at once

    async def aclose(self) -> None:
        """Wait a moment for what is under way; safe to call twice."""
        if tasks := [*self._tasks.values()]:
            await asyncio.wait(tasks, timeout=_PATIENCE_S)
        for task in tasks:
            task.cancel()

    def _one(self, what: str, act: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[Any]:
        """The task that does this; there is one at once."""
        task = self._tasks.get(what)
        if task is None or task.done():
            task = self._tasks[what] = asyncio.create_task(act())
            task.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, if nobody waits any more
        return task

    # -- keys, as they are used ----------------------------------------------------------------------------------------

    async def verify(self, token: str) -> StoredKey:
        """The key that a token is.

        Raises:
            InvalidTokenError: it is none, or one that has expired or was revoked.
            UnverifiedError: nobody can say now.
        """
        if not looks_like_key(token):
            raise InvalidTokenError("this is no key")
        digest = digest_of(token)
        known = self._good.get(digest) or self._bad.get(digest)
        if known is None or self._clock() - known.at > self._recheck_s():
            known = await self._ask(digest, known)
        if known.key is None:
            raise InvalidTokenError("there is no such key")
        if (flaw := known.key.flaw(datetime.now(UTC))) is not None:
            raise InvalidTokenError(f"this key {flaw}")
        self._note_use(known)
        return known.key

    async def _ask(self, digest: str, known: _Known | None) -> _Known:
        """What the database says of a key; what it said before, where it is away and that is not too long ago."""
        try:
            if self._clock() < self._away_until or len(self._waiting) >= _MOST_WAITING:
                raise LedgerError("away")
            if (found := self._waiting.get(digest)) is None:
                found = self._waiting[digest] = asyncio.get_running_loop().create_future()
            self._one("keys", self._ask_for_all)
            async with asyncio.timeout(_FIRST_PATIENCE_S if known is None else _PATIENCE_S):
                return await asyncio.shield(found)
        except (TimeoutError, KonstructError) as error:
            if isinstance(error, TimeoutError):
                self._away_until = self._clock() + _AWAY_S
            if known is not None and known.key is not None and self._clock() - known.at < CONFIRMED_S:
                return known
            raise UnverifiedError("keys cannot be verified now; try again in a few seconds") from None

    def _remember(self, digest: str, key: StoredKey | None, asked: float) -> _Known:
        """Take note of what the database has said of a key, whether or not anybody still waits for it."""
        earlier = self._good.pop(digest, None) or self._bad.pop(digest, None)
        known = _Known(key, asked, float("-inf") if earlier is None else earlier.noted)
        (self._bad if key is None else self._good)[digest] = known
        return known

    async def _ask_for_all(self) -> None:
        """Look up all keys that are waited for, so many with one query, and one query after another: a flood of keys
        that there are not takes no more of the database than that."""
        await asyncio.sleep(0)  # those of this turn of the event loop together
        while self._waiting:
            digests = [*self._waiting][:_MOST_IN_A_QUERY]
            asked = self._clock()  # what is written from now on may be missed
            try:
                found = await self._directory.keys_of(digests)
            except KonstructError:
                self._away_until = self._clock() + _AWAY_S
                for digest in [*self._waiting]:
                    _settle(self._waiting.pop(digest), LedgerError("away"))
                return
            for digest in digests:
                _settle(self._waiting.pop(digest), self._remember(digest, found.get(digest), asked))

    def _note_use(self, known: _Known) -> None:
        if known.key is not None and self._clock() - known.noted > _USE_NOTED_S:
            known.noted = self._clock()
            self._uses[known.key.prefix] = timestamp(datetime.now(UTC))
            self._one("uses", self._write_uses)

    async def _write_uses(self) -> None:
        while self._uses and self._clock() >= self._away_until:
            uses, self._uses = self._uses, {}
            with contextlib.suppress(LedgerError):  # no account needs it
                await self._directory.note_uses(uses)

    # -- tenants, as they are used -------------------------------------------------------------------------------------

    @property
    def knows_tenants(self) -> bool:
        """Whether the database has ever said which tenants it has."""
        return self._state is not None

    async def refresh(self) -> None:
        """Have the database's tenants taken up as they are, or were lately.

        Raises:
            LedgerError: it has never said what they are, and does not now.
        """
        if self._clock() - self._tenants_at <= self._recheck_s():
            return
        if self.knows_tenants:  # while this one asks, others take what is known
            self._tenants_at = self._clock()
        failure = LedgerError("what tenants there are cannot be looked up now; try again in a few seconds")
        if self._clock() >= self._away_until:
            task = self._one("tenants", self._read_tenants)
            try:
                async with asyncio.timeout(_PATIENCE_S if self.knows_tenants else _TAKE_UP_S):
                    await asyncio.shield(task)
            except TimeoutError:
                pass  # it goes on, and is seen by those who come later
            except LedgerError as error:
                failure = error
        if not self.knows_tenants:
            raise failure

    async def _read_tenants(self) -> None:
        asked = self._clock()  # what is written from now on may be missed
        try:
            read = await self._directory.tenants(self._state)
        except LedgerError:
            self._away_until = self._clock() + _AWAY_S
            raise
        if read is not None:
            state, tenants = read
            await self._take_up(tenants)
            self._state = state
        self._tenants_at = asked

    def forget(self) -> None:
        """Have the tenants read anew by the next `refresh`."""
        self._tenants_at = float("-inf")

    # -- the operator's: keys ------------------------------------------------------------------------------------------

    async def create_key(
        self,
        config: Config,
        tenant: str,
        *,
        expires_in: timedelta | None,
        note: str | None,
        scopes: Sequence[str],
    ) -> NewKey:
        """A new key; see `Konstruct.create_key`."""
        Caller(tenant, "call").account(config.with_stored(await self._all_stored()))
        for scope in scopes:
            if scope not in SCOPES:
                raise InvalidArgumentError(f"scope: should be one of {', '.join(SCOPES)}")
        if expires_in is not None and expires_in <= timedelta():
            raise InvalidArgumentError("expires: should be in the future")
        if note is not None and (len(note) > _LONGEST_NOTE or not note.isprintable()):
            raise InvalidArgumentError(f"note: should be one line of at most {_LONGEST_NOTE} characters")
        now = datetime.now(UTC)
        try:
            expires = None if expires_in is None else timestamp(now + expires_in)
        except OverflowError:
            raise InvalidArgumentError("expires: is too far away") from None
        while True:
            key = new_key()
            stored = StoredKey(prefix_of(key), tenant, tuple(sorted(set(scopes))), note, timestamp(now), expires)
            if await self._directory.add_key(stored, digest_of(key)):
                break
        audit.note(
            "key created", key=stored.prefix, tenant=tenant, scopes=" ".join(stored.scopes) or None, expires=expires
        )
        return NewKey(key, stored)

    async def list_keys(self, tenant: str | None) -> list[StoredKey]:
        if tenant is not None:
            check_tenant_id(tenant)
        return await self._directory.keys(tenant)

    async def revoke_key(self, prefix: str) -> StoredKey:
        """See `Konstruct.revoke_key`."""
        # Whoever pastes a whole key has it in their shell's history, and wants it revoked all the more.
        found = await self._directory.revoke_key(prefix_of(prefix))
        if found is None:
            raise InvalidArgumentError(
                f"no key begins with {quoted(prefix_of(prefix))}; `konstruct-mcp keys list` lists them"
            )
        audit.note("key revoked", key=found.prefix, tenant=found.tenant)
        return found

    # -- the operator's: tenants ---------------------------------------------------------------------------------------

    async def create_tenant(self, config: Config, tenant: str, settings: Mapping[str, Any]) -> None:
        """See `Konstruct.create_tenant`."""
        check_tenant_id(tenant)
        if tenant == DEFAULT_TENANT:
            raise InvalidArgumentError(
                f'tenant: "{DEFAULT_TENANT}" is for calls that name none; give it an entry in the config'
            )
        if tenant in config.tenants and tenant not in config.stored_tenants:
            raise InvalidArgumentError(f"tenant: the config has an entry for {quoted(tenant)}, which would win")
        self._check(config, tenant, settings)
        if not await self._directory.add_tenant(tenant, _given(settings)):
            raise InvalidArgumentError(f"tenant: there is one of the name {quoted(tenant)}; `tenants set` changes it")
        self.forget()
        audit.note("tenant created", tenant=tenant)

    async def set_tenant(self, config: Config, tenant: str, changes: Mapping[str, Any]) -> None:
        """See `Konstruct.set_tenant`."""
        stored = await self._stored(config, tenant)
        self._check(config, tenant, {**stored.settings, **changes})
        await self._directory.change_tenant(tenant, lambda settings: _given({**settings, **changes}))
        self.forget()
        audit.note("tenant changed", tenant=tenant, settings=" ".join(sorted(changes)))

    async def switch_tenant(self, config: Config, tenant: str, *, disabled: bool) -> None:
        """See `Konstruct.disable_tenant`."""
        await self._stored(config, tenant)
        await self._directory.change_tenant(tenant, lambda settings: settings, disabled=disabled)
        self.forget()
        audit.note("tenant disabled" if disabled else "tenant enabled", tenant=tenant)

    async def list_tenants(self, config: Config) -> list[ListedTenant]:
        """See `Konstruct.list_tenants`."""
        stored = await self._all_stored()
        own = [name for name in config.tenants if name not in config.stored_tenants]
        found = [ListedTenant(name, "config", public_tenant(config, name)) for name in own]
        for one in stored:
            faults = config.read_stored(one).faults
            found.append(
                ListedTenant(
                    one.id,
                    "hidden" if one.id in own else "database",
                    one.settings,
                    one.disabled,
                    "; ".join(faults) or None,
                )
            )
        return found

    async def _all_stored(self) -> list[StoredTenant]:
        read = await self._directory.tenants()
        return [] if read is None else read[1]

    async def _stored(self, config: Config, tenant: str) -> StoredTenant:
        check_tenant_id(tenant)
        for one in await self._all_stored():
            if one.id == tenant:
                return one
        if tenant in config.tenants:
            raise InvalidArgumentError(f"tenant: {quoted(tenant)} is the config's; change it there")
        raise UnknownTenantError(f"no tenant {quoted(tenant)} in the database; `tenants create` makes one")

    def _check(self, config: Config, tenant: str, settings: Mapping[str, Any]) -> None:
        """Raises InvalidArgumentError, naming each fault of a tenant's settings as for an entry of the config."""
        # Of a revision that no other has: what is tried out is read each time.
        read = config.read_stored(StoredTenant(tenant, _given(settings), revision=-time.monotonic_ns()))
        if read.faults or read.tenant is None:
            raise InvalidArgumentError("; ".join(read.faults) or "the tenant's settings cannot be used")


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that are null, which say nothing."""
    return {key: value for key, value in settings.items() if value is not None}


def _settle(waited_for: asyncio.Future[_Known], outcome: _Known | KonstructError) -> None:
    if waited_for.done():
        return
    if isinstance(outcome, KonstructError):
        waited_for.set_exception(outcome)
        waited_for.exception()  # seen, even if nobody waits any more
    else:
        waited_for.set_result(outcome)
