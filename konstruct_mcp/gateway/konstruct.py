"""`Konstruct`, the public face, on which the MCP server, the command line and Python programs stand.

What it does is in the modules beside it: `call` (one completion), `caller` (who may what), `views` (what is shown),
`reload` (the config in use), `checks` and `models` (for the operator). It is long because every public method is here
with its docstring, and it holds no logic.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import anyio
from pydantic import BaseModel

from konstruct_mcp.config.model import Config
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.config.source import Given
from konstruct_mcp.core.budgets import BudgetState
from konstruct_mcp.core.effort import Effort
from konstruct_mcp.core.errors import (
    ConfigError,
    ForbiddenTokenError,
    InvalidArgumentError,
    KonstructError,
    LedgerError,
    NotOpenError,
    UnknownTenantError,
    UnverifiedError,
)
from konstruct_mcp.core.events import Event, Refused
from konstruct_mcp.core.fairness import Admission
from konstruct_mcp.core.identity import DEFAULT_TENANT, ListedTenant, NewKey, StoredKey
from konstruct_mcp.core.messages import DumpsMessage, as_plain, plain_paths
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.response_models import parsed_by, response_format_of
from konstruct_mcp.core.results import Completion, GroupStatus, ModelTable, ModelUpdate, ParsedCompletion
from konstruct_mcp.core.sharing import Broadcast, Look, SharedValues
from konstruct_mcp.core.spending import UsageReport
from konstruct_mcp.core.text import iso_day
from konstruct_mcp.gateway import checks, models, views
from konstruct_mcp.gateway.call import CompletionCall, Shared, ignore, read_request
from konstruct_mcp.gateway.caller import Caller, unknown_group
from konstruct_mcp.gateway.events import Hooks
from konstruct_mcp.gateway.files.readers import FileReaders
from konstruct_mcp.gateway.gauges import Gauges, gauges
from konstruct_mcp.gateway.offers import Offers, offers
from konstruct_mcp.gateway.reload import Generation, Generations
from konstruct_mcp.gateway.sharing import look_at
from konstruct_mcp.gateway.tenant_limits import TenantLimits
from konstruct_mcp.gateway.threads import Threads
from konstruct_mcp.ledger.ledger import Ledger

if TYPE_CHECKING:
    from konstruct_mcp.gateway.identity import Identities

Messages = str | Sequence[Mapping[str, Any] | DumpsMessage]
_Model = TypeVar("_Model", bound=BaseModel)
_log = logging.getLogger(__name__)
_PROCESS = Caller(is_program=True)
_ROWS_KEPT = timedelta(days=7)  # at least; a spool may hold rows of those days that are in the ledger already
_LEAST_RECHECK_S = 1.0  # whatever is configured: each look asks the database


class Konstruct:
    """Completions by model group, with retries and fallback.

        async with Konstruct.from_config() as konstruct:
            completion = await konstruct.complete([{"role": "user", "content": "Hello"}], model_group="quality")
            print(completion.content, completion.model, completion.cost_usd)

    It owns the config, the provider connections and the embedded model, opens them on entry and closes them on exit.
    Use one for the life of the process, within one event loop (asyncio): any number of calls may run at once. Before
    that, afterwards and in another loop, whatever needs the providers or the ledger raises NotOpenError.

    What spends or shows something takes a `caller`. Without one, the program that holds this object asks, which may
    name any tenant that the config allows and read every account. A server passes the caller of each request
    (`gateway.caller.Caller`): `Caller()` is the client of this process, who reads only the account of
    `KONSTRUCT_TENANT_ID` where that is set, and a verified one is on no account and is shown nothing but its own.

    Metrics and traces come from `hooks`: each is called with each event (`core.events`: a try ended, a call closed or
    was refused, a deployment's health changed), in the event loop, and must return at once. One that raises is logged
    once and harms nothing. To log a line for each call:

        def log(event):
            if isinstance(event, CallClosed):
                print(event.tenant, event.group_served, event.outcome, f"{event.duration_s:.1f} s", event.cost_nusd)

        Konstruct.from_config(hooks=[log])
    """

    def __init__(
        self,
        config: Config | ConfigError,
        *,
        environ: Mapping[str, str] | None = None,
        ledger: Ledger | None = None,
        hooks: Sequence[Callable[[Event], None]] = (),
        threads: Threads | None = None,
    ) -> None:
        """Prefer `from_config`.

        Args:
            config: a ConfigError stands in for a config that cannot be used yet.
            environ: says which file the embedded model is in; the process's environment if None.
            ledger: keeps the accounts; the config's if None.
            hooks: are called with each event.
            threads: keeps conversations, to be continued; as the config says, if None.
        """
        self._ledger = ledger
        self._threads = threads or Threads()
        self._admission: Admission | None = None
        self._readers = Admission(1)  # of large arguments, which are read one after another
        self._file_readers = FileReaders()
        self._hooks = Hooks(hooks)
        self._loop: asyncio.AbstractEventLoop | None = None  # in which it is open
        self._serves = False  # whether it answers calls there
        self._was_closed = False
        self._begun = anyio.Event()  # set once there is a config that can be used
        self._identities: Identities | None = None
        self._generations = Generations(config, os.environ if environ is None else environ, self._take_up, self._hooks)

    @classmethod
    def from_config(
        cls,
        config: str | Path | Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        hooks: Sequence[Callable[[Event], None]] = (),
    ) -> Self:
        """From a YAML file: `config`, else `$KONSTRUCT_CONFIG`, the user's config folder, the built-in config.

        Args:
            config: the path of the file, or what it would hold, as a mapping. `reload` reads either again.
            environ: stands in for the process's environment, where keys and addresses are looked up.
            hooks: are called with each event.

        Raises:
            ConfigError: naming every fault of the config at once.
        """
        given = Path(config) if isinstance(config, str) else config
        environ = os.environ if environ is None else environ
        return cls._of(load_config(given, environ), given, environ, hooks)

    @classmethod
    def for_server(
        cls,
        path: str | Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        hooks: Sequence[Callable[[Event], None]] = (),
    ) -> Self:
        """The same for a server, which starts with a config that cannot be used too: if it did not, a client would say
        only that it has failed. Until `follow_config` finds one that can be used, everything raises the ConfigError."""
        path = None if path is None else Path(path)
        environ = os.environ if environ is None else environ
        config: Config | ConfigError
        try:
            config = load_config(path, environ)
        except ConfigError as error:
            config = error
        return cls._of(config, path, environ, hooks)

    @classmethod
    def for_update(cls, path: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Self:
        """The same for `update_models`, which replaces a table of the user's that cannot be used."""
        path = None if path is None else Path(path)
        environ = os.environ if environ is None else environ
        return cls(load_config(path, environ, needs_table=False), environ=environ)

    @classmethod
    def _of(
        cls,
        config: Config | ConfigError,
        given: Given,
        environ: Mapping[str, str],
        hooks: Sequence[Callable[[Event], None]],
    ) -> Self:
        made = cls(config, environ=environ, hooks=hooks)
        made._generations.given = given  # not of the public constructor, which takes a config as it was read
        return made

    # -- start and end -------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._open()
        self._serves = True
        if self._generations.current is not None:
            self._start()
        return self

    @contextlib.asynccontextmanager
    async def for_accounts(self) -> AsyncIterator[Self]:
        """Open it for the ledger alone, in place of `async with` itself: nothing is loaded with which providers are
        asked, and it does not count among the servers of the installation."""
        self._open()
        try:
            yield self
        finally:
            await self.__aexit__(None, None, None)

    def _open(self) -> None:
        self._check_not_elsewhere()
        self._loop = asyncio.get_running_loop()

    def _check_not_elsewhere(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._check_open()

    def _check_open(self) -> None:
        """
        Raises:
            NotOpenError: it is not open, or not in this event loop.
        """
        if self._loop is None:
            when = "closed" if self._was_closed else "not open yet"
            raise NotOpenError(f"this Konstruct is {when}; use it within `async with konstruct:`")
        if self._loop is not asyncio.get_running_loop():
            raise NotOpenError(
                "this Konstruct is open in another event loop; use it there, or open one of its own for each loop"
            )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Shielded: what is open must be closed even when the block is left by cancellation.
        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def aclose(self) -> None:
        """Close the ledger, provider connections and the embedded model; safe to call twice."""
        self._check_not_elsewhere()
        self._loop, self._serves, self._was_closed = None, False, True
        if self._identities is not None:
            await self._identities.aclose()
            self._identities = None  # it is of this event loop
        await self._generations.aclose()
        await self._generations.sharing.aclose()
        if self._ledger is not None:
            await self._ledger.aclose()  # last: calls that were cut off are on the account too

    def kill(self) -> None:
        """Bring to the disk what the ledger has not written, and end the embedded model's process, at once and without
        an event loop: for the way out of a dying process."""
        if self._ledger is not None:
            self._ledger.kill()
        self._generations.kill()

    def add_hook(self, hook: Callable[[Event], None]) -> None:
        """Call one more hook with each event from now on.

        Raises:
            TypeError: it is a coroutine function.
        """
        self._hooks.add(hook)

    def _take_up(self, config: Config) -> None:
        """Have what all calls share go by this config."""
        self._ledger = self._ledger or Ledger(config.ledger.url, config.ledger.spool)
        self._ledger.has_budgets = checks.has_budgets(config)
        self._threads.use(config.threads, lambda: self._generations.sharing.values)
        if self._admission is None:
            self._admission = Admission(config.max_concurrency, config.max_queue, config.callers, config.most_at_once)
            self._begun.set()
            if self._serves:
                self._start()
        else:
            self._admission.resize(config.max_concurrency, config.max_queue, config.callers, config.most_at_once)

    def _start(self) -> None:
        self._shared(None).ledger.start()
        self._generations.start()

    def _in_use(self, caller: Caller | None = None) -> Generation:
        return self._generations.in_use(private=caller is not None and caller.is_verified)

    def _shared(self, caller: Caller | None) -> Shared:
        """What all calls share.

        Raises:
            NotOpenError: it is not open here.
            ConfigError: there is no config that can be used yet.
        """
        self._check_open()
        self._in_use(caller)
        assert self._admission is not None  # noqa: S101  both are made with the first config that can be used
        assert self._ledger is not None  # noqa: S101
        limits = TenantLimits(self._generations.sharing.tenant_limit_store)
        return Shared(
            self._generations,
            self._admission,
            limits,
            self._file_readers,
            self._ledger,
            self._hooks,
            self._know_tenant,
            self._threads,
        )

    # -- who may ask ---------------------------------------------------------------------------------------------------

    def _known_identities(self) -> Identities:
        """Raises ConfigError where there is no config that can be used yet."""
        if self._identities is None:
            # A server over stdio, whose caller is the process, needs neither.
            from konstruct_mcp.gateway.identity import Identities
            from konstruct_mcp.ledger.directory import Directory

            self._identities = Identities(
                Directory(self._shared(None).ledger),
                self._generations.take_tenants,
                lambda: self.config.auth.recheck_s,
            )
        return self._identities

    async def verify_key(self, token: str) -> Caller:
        """The caller that a key of the ledger's database stands for.

        A key that is revoked is refused after 15 s at the latest. While the database is away, a key that it has
        confirmed within the last ten minutes is taken.

        Raises:
            InvalidTokenError: it is none, or one that has expired or was revoked.
            ForbiddenTokenError: there is no such tenant any more, or it is disabled.
            UnverifiedError: nobody can say now.
        """
        key = await self._known_identities().verify(token)
        return await self.admitted(Caller.verified(key.tenant, subject=key.prefix, scopes=key.scopes))

    async def admitted(self, caller: Caller) -> Caller:
        """The same verified caller, once it is known that there is such a tenant here.

        Raises:
            ForbiddenTokenError: there is none, or it is disabled.
            UnverifiedError: nobody can say now.
        """
        try:
            await self._know_tenant(caller)
            caller.account(self.config)
        except UnknownTenantError as error:
            raise ForbiddenTokenError(error.message) from None
        except LedgerError as error:
            raise UnverifiedError(error.message) from None
        return caller

    async def _know_tenant(self, caller: Caller) -> None:
        """Wait until it is known what the ledger's database says of a caller's tenant, unless the config says it.

        Raises:
            LedgerError: the database is out of reach, and has never said so.
        """
        config = self._in_use(caller).config
        tenant = caller.tenant_id(config)
        if tenant != DEFAULT_TENANT and (tenant not in config.tenants or tenant in config.stored_tenants):
            await self._known_identities().refresh()

    async def know_tenants(self) -> None:
        """Have the tenants of the ledger's database known, if they can be: so that no first call waits for that."""
        if self._shared(None).ledger.is_up:  # else what is asked for waits for the same database once more
            with contextlib.suppress(LedgerError):  # which that says better
                await self._known_identities().refresh()

    async def follow_tenants(self) -> None:
        """Take up each change of the database's tenants, until this is cancelled: so that no call has to look, and a
        client that asks for nothing and listens is told."""
        while True:
            try:
                await self.know_tenants()
            except Exception:
                _log.exception("the tenants of the ledger's database cannot be taken up")
            await anyio.sleep(self.recheck_s)

    @property
    def recheck_s(self) -> float:
        """Between two looks at what may have changed meanwhile: tenants, and the callers of what lasts."""
        return max(_LEAST_RECHECK_S, self.config.auth.recheck_s)

    async def create_key(
        self,
        tenant_id: str,
        *,
        expires_in: timedelta | None = None,
        note: str | None = None,
        scopes: Sequence[str] = (),
    ) -> NewKey:
        """A new key with which a client over HTTP is a tenant. The key is in what this returns, and nowhere else.

        Args:
            expires_in: from now; never if None.
            note: the operator's.
            scopes: `operator` lets it read everybody's usage and budgets besides.

        Raises:
            InvalidArgumentError, UnknownTenantError: naming what is wrong.
            LedgerError: the database is out of reach.
        """
        return await self._known_identities().create_key(
            self.config, tenant_id, expires_in=expires_in, note=note, scopes=scopes
        )

    async def list_keys(self, tenant_id: str | None = None) -> list[StoredKey]:
        """The keys of a tenant, or all for None, without the keys themselves; the oldest first.

        Raises:
            InvalidArgumentError: the id is malformed.
            LedgerError: the database is out of reach.
        """
        return await self._known_identities().list_keys(tenant_id)

    async def revoke_key(self, prefix: str) -> StoredKey:
        """Have a key open nothing from now on; on other servers after 15 s at the latest.

        Args:
            prefix: the key's first characters, as `list_keys` gives them.

        Raises:
            InvalidArgumentError: there is no such key.
            LedgerError: the database is out of reach.
        """
        return await self._known_identities().revoke_key(prefix)

    async def create_tenant(self, tenant_id: str, settings: Mapping[str, Any]) -> None:
        """Make a tenant in the ledger's database. Servers that run know it after 15 s at the latest.

        Args:
            settings: what a config could say of it under `konstruct.tenants`: `groups`, `budgets`, `note` …

        Raises:
            InvalidArgumentError: naming each fault; or there is one of this name.
            LedgerError: the database is out of reach.
        """
        await self._known_identities().create_tenant(self.config, tenant_id, settings)

    async def set_tenant(self, tenant_id: str, changes: Mapping[str, Any]) -> None:
        """Change settings of a tenant of the ledger's database. A setting that is None is taken away, which leaves what
        holds for those that say nothing of it.

        Raises:
            InvalidArgumentError: naming each fault; or it is the config's.
            UnknownTenantError: there is none.
            LedgerError: the database is out of reach.
        """
        await self._known_identities().set_tenant(self.config, tenant_id, changes)

    async def disable_tenant(self, tenant_id: str) -> None:
        """Refuse a tenant of the ledger's database from now on, until `enable_tenant`; calls under way go on.

        Raises:
            InvalidArgumentError: it is the config's.
            UnknownTenantError: there is none.
            LedgerError: the database is out of reach.
        """
        await self._known_identities().switch_tenant(self.config, tenant_id, disabled=True)

    async def enable_tenant(self, tenant_id: str) -> None:
        """The contrary of `disable_tenant`."""
        await self._known_identities().switch_tenant(self.config, tenant_id, disabled=False)

    async def list_tenants(self) -> list[ListedTenant]:
        """The tenants of the config, and those of the ledger's database.

        Raises:
            LedgerError: the database is out of reach.
        """
        return await self._known_identities().list_tenants(self.config)

    # -- what is shared with other servers -----------------------------------------------------------------------------

    @property
    def broadcast(self) -> Broadcast:
        """Messages to all servers of the installation, by Valkey; within this process where the config names none."""
        return self._generations.sharing.broadcast

    @property
    def values(self) -> SharedValues | None:
        """Values that all servers of the installation can read, in Valkey; None where the config names none."""
        return self._generations.sharing.values

    @property
    def shared_state(self) -> str:
        """How the Valkey server is that servers share: `ok` or `away for … s`; `local` where there is none."""
        return self._generations.sharing.status

    async def look_at_shared_state(self) -> Look | None:
        """Whether the config's Valkey server can be used now, and how many servers there are; None where it names none.
        Unlike `shared_state` it needs no server that runs here, and this process is not counted."""
        return await look_at(self.config.redis)

    # -- the config, which may change ----------------------------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The config that is in use now.

        Raises:
            ConfigError: there is none yet.
        """
        return self._in_use().config

    def offers(self) -> Offers:
        """What each tenant may choose among.

        Raises:
            ConfigError: there is no config yet.
        """
        return offers(self._in_use())

    def when_offers_change(self, tell: Callable[[], None]) -> None:
        """From now on call this, and nothing from before, when the tenants of the ledger's database have changed, or
        what `look_for_ollama` finds. A change of the config's file is `follow_config`'s to tell."""
        self._generations.when_offers_change = tell

    def config_for(self, caller: Caller) -> Config:
        """The same, for what is done for a caller.

        Raises:
            ConfigError: there is none yet; it tells a verified caller nothing of what the file holds.
            UnknownTenantError: there is no tenant of a verified caller.
        """
        config = self._in_use(caller).config
        if caller.is_verified:
            caller.account(config)
        return config

    def effective_config(self, *, caller: Caller | None = None) -> Mapping[str, Any]:
        """The config in use as plain data, every secret masked, as far as a caller may see it; before it, `faults`, if
        its file has changed since and cannot be used."""
        caller = caller or _PROCESS
        return views.effective_config(self.config_for(caller), self.config_error, caller)

    @property
    def config_faults(self) -> tuple[str, ...]:
        """What is wrong with the config file as it is now, where that is why an earlier state of it is in use, or none
        is."""
        return () if self.config_error is None else self.config_error.faults

    @property
    def config_error(self) -> ConfigError | None:
        """The same as an error, which also says what file it is."""
        return self._generations.error

    async def reload(self) -> bool:
        """Take up the config file as it is now; whether anything has changed.

        Groups, tenants, budgets and limits change in one step: calls under way end on what held when they came. The
        ledger is where it was at the start.

        Raises:
            ConfigError: naming every fault of the config at once. Nothing has changed.
        """
        self._check_open()
        return await self._generations.reload()

    async def follow_config(self, until: anyio.Event) -> AsyncIterator[bool]:
        """Take up each change of the config's files, or of the user's table of models, until the event, and say so in
        the log. Yields True after each, and False where only `config_faults` have changed. Where there is no config
        that can be used yet, it is waited for."""
        async for changed in self._generations.follow(until):
            if changed:
                with contextlib.suppress(LedgerError):  # which says so itself
                    for warning in await self.spent_under_former_names():
                        _log.warning("%s", warning)
            yield changed

    async def look_for_ollama(self, *, within_s: float = 2.0) -> None:
        """Have the built-in groups go by what Ollama there is now: which models it has, and whether it answers at all.

        A completion does this first. It is to be done before `groups`, `choice` and `default_group` where they are to
        say how things are now. It asks only the address that `OLLAMA_BASE_URL`, `OLLAMA_API_BASE` or `OLLAMA_HOST`
        names, else this machine. With a config of a file, and where that was looked at a moment ago, it does nothing.

        Args:
            within_s: seconds that are waited for; what is found after that counts later.
        """
        with anyio.move_on_after(within_s):
            await self._generations.look()

    # -- what is known of models ---------------------------------------------------------------------------------------

    def model_tables(self) -> list[ModelTable]:
        """The tables of model data in use, the first that is looked into first."""
        return models.model_tables(self.config)

    def retiring(self) -> list[str]:
        """One line for each model that its provider has shut down, or will before long, with the groups that ask it."""
        return models.retiring(self.config)

    def unknown_models(self) -> list[str]:
        """One line for each model that is in no table and has nearly the name of one that is: it may be misspelt."""
        return models.unknown_models(self.config)

    async def update_models(self, source: str | None = None, *, force: bool = False) -> ModelUpdate:
        """Put a newer table of LiteLLM's into the user's own, the one that the config names.

        Args:
            source: a file or a URL; LiteLLM's public table if None.
            force: take a price too that becomes 0 or unknown, or moves more than tenfold.

        Raises:
            ModelDataError: it cannot be had, or is none, or has such a price. Nothing has changed.
        """
        return await models.update_models(self.config, source, force=force)

    # -- a completion --------------------------------------------------------------------------------------------------

    @overload
    async def complete(
        self,
        messages: Messages,
        *,
        response_format: type[_Model],
        tools: None = None,
        model_group: str | None = None,
        tenant_id: str | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        effort: Effort | None = None,
        timeout_s: float | None = None,
        continue_: str | None = None,
        files: Sequence[str | Path] | None = None,
        on_wait: Callable[[str], None] | None = None,
        caller: Caller | None = None,
    ) -> ParsedCompletion[_Model]: ...

    @overload
    async def complete(
        self,
        messages: Messages,
        *,
        response_format: type[_Model],
        tools: Sequence[Mapping[str, Any]] | None,
        model_group: str | None = None,
        tenant_id: str | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        effort: Effort | None = None,
        timeout_s: float | None = None,
        continue_: str | None = None,
        files: Sequence[str | Path] | None = None,
        on_wait: Callable[[str], None] | None = None,
        caller: Caller | None = None,
    ) -> ParsedCompletion[_Model | None]: ...

    @overload
    async def complete(
        self,
        messages: Messages,
        *,
        model_group: str | None = None,
        tenant_id: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        effort: Effort | None = None,
        timeout_s: float | None = None,
        continue_: str | None = None,
        files: Sequence[str | Path] | None = None,
        on_wait: Callable[[str], None] | None = None,
        caller: Caller | None = None,
    ) -> Completion: ...

    async def complete(
        self,
        messages: Messages,
        *,
        model_group: str | None = None,
        tenant_id: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | type[BaseModel] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        effort: Effort | None = None,
        timeout_s: float | None = None,
        continue_: str | None = None,
        files: Sequence[str | Path] | None = None,
        on_wait: Callable[[str], None] | None = None,
        caller: Caller | None = None,
    ) -> Completion:
        """One completion. Messages, tools, tool_choice and response_format are in OpenAI's format.

        Args:
            messages: roles system, developer, user, assistant and tool; images as `data:` URLs only. Each is a mapping
                or has a `model_dump` that gives one: our `Message`, OpenAI's `ChatCompletionMessage`. A text is one
                message of the user's.
            response_format: or a pydantic model, by which the answer is asked for and read: it is `parsed` then.
            model_group: the config's default group if None.
            tenant_id: on whose account; `$KONSTRUCT_TENANT_ID`, else the config's default tenant, if None.
            effort: how hard the model is to think, as near as it has a level; as the config says, else as the model
                does by itself, if None.
            timeout_s: the deadline of the whole call in seconds, from now to the answer, waiting for its turn, retries
                and fallbacks included; the config's if None.
            continue_: the `thread` of an earlier completion, to which these messages are new.
            files: paths of files that are sent ahead of the last user message; a file's name may have wildcards. A
                caller's have to be in the folders that the config opens to it. Without a caller they may be anywhere,
                relative to the current folder too. Files that hold secrets are refused everywhere.
            on_wait: is called with one line on what is being waited for, whenever that changes.
            caller: who asks; the process if None.

        Raises:
            RequestError: the request is at fault (InvalidArgumentError, UnknownGroupError, ContextOverflowError, …).
            CompletionError: no provider answered (AllFailedError, UnavailableError, OverloadedError, …).
            LedgerError: the call cannot be accounted for, or its budget not be checked.
            InvalidAnswerError: the answer does not fit the pydantic model; it holds the completion.
            NotOpenError: there is no `async with` around it, or one in another event loop.
        """
        model: type[BaseModel] | None = None
        if isinstance(response_format, type) and issubclass(response_format, BaseModel):
            model = response_format
        arguments = {
            "messages": as_plain(messages),
            "model_group": model_group,
            "tenant_id": tenant_id,
            "tools": None if tools is None else list(tools),
            "tool_choice": tool_choice,
            "response_format": response_format if model is None else response_format_of(model),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "effort": effort,
            "timeout_s": timeout_s,
            "continue": continue_,
            "files": plain_paths(files),
        }
        self._check_open()
        arrived = time.monotonic()
        request = await self.request(arguments, caller=caller)
        completion = await self.answer(request, on_wait, arrived=arrived, caller=caller)
        return completion if model is None else parsed_by(model, completion)

    async def request(self, arguments: Mapping[str, Any], *, caller: Caller | None = None) -> Request:
        """What is asked for by arguments that have come as they are.

        Args:
            caller: who asks; the process if None.

        Raises:
            InvalidArgumentError: naming each that is missing, unknown or ill-typed, or what there is too much of.
        """
        generation = self._generations.current
        try:
            config = None if generation is None else generation.config
            tenant = "" if caller is None or caller.tenant is None else caller.tenant
            return await read_request(arguments, config, self._readers, tenant)
        except KonstructError as error:
            self._hooks(Refused(None if caller is None else caller.tenant, None, error.code))
            raise

    async def answer(
        self,
        request: Request,
        on_wait: Callable[[str], None] | None = None,
        *,
        arrived: float | None = None,
        caller: Caller | None = None,
    ) -> Completion:
        """The same for a request that is parsed already. `arrived` is when it came, a reading of `time.monotonic`; now,
        if None."""
        caller, arrived = caller or _PROCESS, time.monotonic() if arrived is None else arrived
        return await CompletionCall(self._shared(caller), request, caller, on_wait or ignore, arrived).answer()

    # -- tenants, and what they have spent ---------------------------------------------------------------------------

    async def usage(
        self,
        tenant_id: str | None = None,
        *,
        group: str | None = None,
        since: str | date | None = None,
        until: str | date | None = None,
        caller: Caller | None = None,
    ) -> UsageReport:
        """What a tenant spent, or all of them for None, on one group or all, from one day to another.

        Args:
            since, until: dates (UTC), or ISO dates as texts; both included.
            caller: who asks: one who may read one account alone gets that for None. None is the process, which may read
                all.

        Raises:
            InvalidArgumentError: a date or an id is malformed.
            UnknownTenantError: the caller may not read that account.
            UnknownGroupError: listing the groups there are.
            LedgerError: the ledger cannot be read.
        """
        shared = self._shared(caller)
        await self.know_tenants()
        config = shared.generations.in_use().config
        return await views.usage(
            config, shared.ledger, caller, tenant_id, group=group, since=iso_day(since), until=iso_day(until)
        )

    async def budgets(self, tenant_id: str | None = None, *, caller: Caller | None = None) -> list[BudgetState]:
        """Each budget of a tenant, or of all of them for None, and what is left of it.

        Raises:
            InvalidArgumentError: the id is malformed.
            UnknownTenantError: the caller may not read that account.
            LedgerError: the ledger cannot be read.
        """
        shared = self._shared(caller)
        await self.know_tenants()
        config = shared.generations.in_use().config
        return await views.budgets(config, shared.ledger, caller, tenant_id)

    async def spent_under_former_names(self) -> list[str]:
        """One line for each group that the config does not name any more and on which was spent what budgets on groups
        would count now, had it kept its name.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        return await checks.spent_under_former_names(self.config, self._shared(None).ledger)

    async def accept_new_ledger(self) -> int:
        """Let what is there now, or an empty one, take the place of a ledger that has disappeared; how many calls it
        has. What was spent before counts towards no budget any more.

        Raises:
            LedgerError: none has disappeared, or it is out of reach.
        """
        ledger = self._shared(None).ledger
        ledger.has_budgets = True  # else one that is missed by a server with another config is not missed here
        await ledger.opened()
        await ledger.accept_new()
        return sum(line.calls for line in await ledger.lines())

    async def prune_ledger(self, before: str | date, *, dry_run: bool = False) -> int:
        """Delete the rows of calls that ended before a date (UTC), or an ISO date as a text, and keep their sums, by
        which budgets and reports go; how many they are.

        Args:
            dry_run: whether they are only counted.

        Raises:
            InvalidArgumentError: the date is not a week ago.
            LedgerError: the ledger is out of reach.
        """
        before = iso_day(before)
        if before > (datetime.now(UTC).date() - _ROWS_KEPT).isoformat():
            raise InvalidArgumentError(f"before: should be at least {_ROWS_KEPT.days} days ago")
        ledger = self._shared(None).ledger
        await ledger.opened()
        return await ledger.prune(before, dry_run=dry_run)

    async def export_ledger(
        self,
        write: Callable[[Iterator[dict[str, Any]]], None],
        *,
        tenant: str | None = None,
        since: str | date | None = None,
        until: str | date | None = None,
    ) -> None:
        """Hand the rows of calls, by the columns of `konstruct_calls` and the oldest first, to a function.

        Args:
            write: is called in a thread of its own, and may block.
            tenant: of this one alone; of all for None.
            since, until: the first and the last date, or ISO date as a text; without bound for None.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        ledger = self._shared(None).ledger
        await ledger.opened()
        await ledger.export(write, tenant=tenant, since=iso_day(since), until=iso_day(until))

    async def opened(self) -> None:
        """Wait until there is a config that can be used, and it is known whether accounts can be kept. A database that
        is out of reach can be used later.

        Raises:
            LedgerError: never by this version, or not with this URL: each call will be refused.
        """
        await self._begun.wait()
        await self._shared(None).ledger.opened()

    async def ledger_fault(self) -> str | None:
        """Why no account can be kept now; None where it can."""
        return await checks.ledger_fault(self._shared(None).ledger)

    def unreadable_files(self) -> list[str]:
        """One line for each file that a server over HTTP would read and that cannot be read here."""
        return checks.unreadable_files(self.config)

    def missing_file_roots(self) -> list[str]:
        """One line for each folder whose files callers may send, and that is not there."""
        return checks.missing_file_roots(self.config)

    def unpriced(self) -> dict[str, str]:
        """Deployments that a tenant with a budget cannot use: deployment id → why, as the end of a sentence."""
        return checks.unpriced(self._in_use())

    async def gauges(self) -> Gauges:
        """How things stand now: calls under way and waiting, rows that wait for the ledger, each deployment's state.
        Asks no database and no provider, and takes half a second at most.

        Raises:
            ConfigError: there is no config that can be used yet.
        """
        shared = self._shared(None)
        is_up = None if self.shared_state == "local" else self.shared_state == "ok"
        return await gauges(self._in_use(), shared.admission, shared.ledger, shared_state_is_up=is_up)

    # -- groups --------------------------------------------------------------------------------------------------------

    def groups(self, *, caller: Caller | None = None) -> list[GroupStatus]:
        """The model groups that a caller may ask for, their deployments and whether each can be called now. Asks no
        provider. What a wildcard stands for is not among them."""
        return views.groups(self._in_use(caller), caller or _PROCESS)

    def all_groups(self) -> list[GroupStatus]:
        """The same for the operator: every group that the config names, whichever tenants may ask for it."""
        return views.all_groups(self._in_use())

    def group(self, name: str, *, caller: Caller | None = None) -> GroupStatus:
        """One of `groups`.

        Raises:
            UnknownGroupError: listing the groups there are.
        """
        groups = {status.name: status for status in self.groups(caller=caller)}
        if name not in groups:
            raise unknown_group(name, groups, self.choice(caller=caller).patterns)
        return groups[name]

    def choice(self, *, caller: Caller | None = None) -> views.Choice:
        """What a caller may ask for: the groups as configured, without their state; the default group; and the
        wildcards."""
        return views.choice(self._in_use(caller).config, caller or _PROCESS)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The wildcards of the process's `choice`."""
        return self.choice().patterns

    @property
    def default_group(self) -> str:
        """The group of a call that names neither a group nor a tenant; "" where it has to name one."""
        return self.choice().default_group

    @property
    def default_reason(self) -> str:
        """Why that is the default group, as the end of a sentence; "" where the config's file says which it is, and for
        a tenant who may not use that group."""
        return self.choice().default_reason

    async def check(self) -> dict[str, str | None]:
        """Ask each deployment that can be called for one token, all at once, on the default tenant's account.

        Returns: deployment id → one line of why it does not answer, or None if it does.
        """
        return await checks.ask_each(self._shared(None))
