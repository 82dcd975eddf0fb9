"""The config in use, which may change while calls are under way.

- Groups, tenants, budgets and limits change in one step. A call ends on the `Generation` that was in use when it came.
- A config that cannot be used changes nothing: the one before stays in use, and the fault is kept to be shown.
- A group that a wildcard stands for is made when a call first asks for it, which is a change of the config too.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from konstruct_mcp.config.embedded import find_model
from konstruct_mcp.config.keychain import file_of_names
from konstruct_mcp.config.model import Config
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.config.source import Given, changes, located, place
from konstruct_mcp.core.errors import ConfigError, KonstructError
from konstruct_mcp.core.events import HealthChange
from konstruct_mcp.core.fairness import Admission
from konstruct_mcp.core.identity import StoredTenant
from konstruct_mcp.core.text import quoted
from konstruct_mcp.gateway.ollama_look import OllamaLook, address_of_ollama
from konstruct_mcp.gateway.sharing import LocalSharing, Sharing, sharing_of
from konstruct_mcp.providers.client import ProviderClient
from konstruct_mcp.providers.embedded.server import EmbeddedServer
from konstruct_mcp.providers.model_facts import facts_by_id
from konstruct_mcp.routing.routes import Routes

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Generation:
    """A config as it was loaded, the routes over its deployments, and the client that asks them."""

    config: Config
    routes: Routes
    client: ProviderClient
    calls: int = 0  # under way on it

    @classmethod
    def of(
        cls,
        config: Config,
        embedded: EmbeddedServer | None,
        on_change: Callable[[HealthChange], None],
        earlier: Generation | None = None,
        *,
        sharing: Sharing,
    ) -> Generation:
        """That of a config. Deployments that it leaves as they were in the earlier one keep their health and their
        limits. Takes long for many deployments; may be called in a thread.

        Args:
            on_change: is called when the health of a deployment changes.
            sharing: what the first one stands on.
        """
        facts = facts_by_id(config)
        routes = Routes(
            config,
            facts,
            report=_log.warning,
            on_change=on_change,
            health_store=sharing.health_store,
            limit_store=sharing.limit_store,
            earlier=None if earlier is None else earlier.routes,
        )
        client = ProviderClient(
            config,
            facts,
            embedded,
            earlier=None if earlier is None else earlier.client,
            values=sharing.values,
        )
        return cls(config, routes, client)


class Generations:
    """The generation in use, and the earlier ones that calls are still under way on."""

    def __init__(
        self,
        first: Config | ConfigError,
        environ: Mapping[str, str],
        take_up: Callable[[Config], None],
        on_change: Callable[[HealthChange], None],
    ) -> None:
        """Begin with a config.

        Args:
            first: a ConfigError stands in for a config that cannot be used yet, until a `reload` finds one.
            environ: what configs are read with.
            take_up: is called with each config when it comes into use.
            on_change: is called when the health of a deployment changes.
        """
        self.given: Given = None  # the config, or its file, where one was given
        self.sharing: Sharing = LocalSharing()  # as the first config that can be used says
        self.error: ConfigError | None = None  # why the file as it is now cannot be used
        self._environ, self._take_up, self._on_change = environ, take_up, on_change
        self._in_use: Generation | None = None
        self._earlier: list[Generation] = []
        self._embedded: EmbeddedServer | None = None
        self.when_offers_change: Callable[[], None] = lambda: None  # other than by a change of the config's file
        self._stored: tuple[StoredTenant, ...] = ()  # the tenants of the ledger's database
        self._reloading = asyncio.Lock()
        self._making: dict[str, asyncio.Future[None]] = {}  # groups that a wildcard stands for, by name
        self._makers = Admission(1)  # one is made after another, and tenants take turns
        self._ollama = OllamaLook()  # by which the built-in config goes
        if isinstance(first, ConfigError):
            self.error = first
        else:
            self._begin(first)

    def _begin(self, config: Config) -> None:
        self._embedded = _embedded_server(config, self._environ)
        self.sharing = sharing_of(config.redis)
        self._in_use = Generation.of(config, self._embedded, self._on_change, sharing=self.sharing)
        self.sharing.use(*self._in_use.routes.stores)
        self._take_up(config)

    @property
    def current(self) -> Generation | None:
        """The one in use; None where there is no config that can be used yet."""
        return self._in_use

    def in_use(self, *, private: bool = False) -> Generation:
        """The one in use.

        Args:
            private: whether whoever asks may learn nothing of what the file holds.

        Raises:
            ConfigError: there is none yet.
        """
        if self._in_use is not None:
            return self._in_use
        error = self.error or ConfigError(())
        # A fault may name another tenant, or a group of one.
        if private or error.is_private or self._environ.get("KONSTRUCT_TENANT_ID", "").strip():
            raise ConfigError(["cannot be used; the server's log says why"], source=error.source)
        raise ConfigError(error.faults, source=error.source, table=error.table, table_faults=error.table_faults)

    @contextmanager
    def call(self) -> Iterator[Generation]:
        """The generation in use, which stays open until the block ends."""
        generation = self.in_use()
        generation.calls += 1
        try:
            yield generation
        finally:
            generation.calls -= 1
            if generation is not self._in_use:
                self._drop_earlier()

    def start(self) -> None:
        """Begin to get ready to ask providers, also once more after an `aclose`; returns at once."""
        if self._embedded is not None:
            self._embedded.reopen()
        self.in_use().client.start()
        self.sharing.start()

    async def aclose(self) -> None:
        """Close the embedded model and the provider connections; safe to call twice."""
        under_way = [*self._making.values(), *self._ollama.under_way]
        for making in under_way:
            making.cancel()
        if under_way:
            await asyncio.wait(under_way)
        if self._embedded is not None:
            await self._embedded.aclose()
        for generation in (*self._earlier, self._in_use):
            if generation is not None:
                await generation.client.aclose()

    def kill(self) -> None:
        """End the embedded model's process at once, without an event loop."""
        if self._embedded is not None:
            self._embedded.kill()

    # -- a change of the file ------------------------------------------------------------------------------------------

    async def reload(self) -> bool:
        """Take up the config file as it is now; whether anything has changed.

        The ledger stays where it was at the start.

        Raises:
            ConfigError: naming every fault of the config at once. Nothing has changed.
        """
        async with self._reloading:
            try:
                config = await self._read()
            except ConfigError as error:
                self.error = error
                raise
            changed = await self._use(config)
            self.error = None
            return changed

    async def _read(self) -> Config:
        load = functools.partial(load_config, self.given, self._environ, ollama=self._ollama.seen)
        config = await asyncio.to_thread(load)
        before = None if self._in_use is None else self._in_use.config.file
        if before is not None and config.file != before:
            raise ConfigError(["cannot be read: it is gone"], source=f"the config file {quoted(before.name)}")
        return config

    async def _use(self, config: Config) -> bool:
        if self._in_use is None:
            self._begin(config)
            return True
        before = self._in_use.config
        if config.ledger != before.ledger:
            _log.warning("konstruct.ledger_url has changed, which takes effect at the next start")
            config = config.with_ledger_of(before)
        config = config.with_stored(self._stored)
        if config.redis != before.redis:
            _log.warning("konstruct.redis_url has changed, which takes effect at the next start")
            config = config.with_redis_of(before)
        _warn_of_what_waits(before, config)
        for name, tenant in before.on_demand.items():
            if name not in config.groups and (group := config.matching(name)) is not None:
                config = config.with_group(group, tenant)
        if config == before:
            return False
        if self._embedded is None:
            self._embedded = _embedded_server(config, self._environ)
        await self._change_to(config)
        return True

    async def look(self) -> None:
        """Have the built-in config go by what Ollama there is now. Takes two seconds at most; it takes none for
        any other config, and where that was looked at a moment ago."""
        config = None if self._in_use is None else self._in_use.config
        if config is not None and config.is_built_in:
            await self._ollama.look(address_of_ollama(config), self._saw_ollama)

    async def _saw_ollama(self) -> None:
        try:
            async with self._reloading:
                config = await self._read()
                # A first file of the user's is taken up by whoever follows it, and says so in the log.
                changed = config.is_built_in and await self._use(config)
        except KonstructError as error:
            _log.warning("what Ollama has cannot be taken up: %s", error.message)
            return
        if changed:
            self.when_offers_change()

    async def take_tenants(self, stored: Sequence[StoredTenant]) -> None:
        """Have these be the tenants of the ledger's database from now on."""
        async with self._reloading:
            self._stored = tuple(stored)
            before = self.in_use().config
            config = before.with_stored(self._stored)
            for name in sorted(config.refused_tenants - before.refused_tenants):
                one = next(one for one in self._stored if one.id == name)
                for fault in config.read_stored(one).faults:
                    _log.warning("a tenant of the ledger's database is refused: %s", fault)
            if config == before:
                return
            if config.groups == before.groups:
                # Nothing else depends on them: calls go on with the same routes and clients.
                self.in_use().config = config
                self._take_up(config)
            else:
                await self._change_to(config)
            self.when_offers_change()

    async def _change_to(self, config: Config) -> None:
        """Make this the config that calls are made on from now on."""
        before = self.in_use()
        # Before the step, so that no call waits for it, and in a thread: of many deployments it takes long.
        generation = await asyncio.to_thread(
            functools.partial(Generation.of, config, self._embedded, self._on_change, before, sharing=self.sharing)
        )
        if before.client.is_ready:
            await generation.client.ready()
        elif before.client.is_started:
            generation.client.start()
        self._earlier.append(before)
        self._in_use = generation
        self.sharing.use(*generation.routes.stores)
        self._take_up(config)
        self._drop_earlier()

    def _drop_earlier(self) -> None:
        """Let go of the generations that no call is under way on."""
        current = self.in_use()
        for generation in [generation for generation in self._earlier if not generation.calls]:
            if generation.client.is_ready and not current.client.is_ready:
                continue  # whose connections it cannot take yet
            self._earlier.remove(generation)
            current.client.take_over(generation.client)

    async def follow(self, until: anyio.Event) -> AsyncIterator[bool]:
        """Take up each change of the config's files, or of the user's table of models, until the event, and log it.
        Yields True after each, and False where only `error` has changed. Where there is no config that can be used yet,
        one is waited for."""
        if not self._followed():
            return
        async for _ in changes(self._followed, until):
            if (changed := await self._reload_and_log()) is not None:
                yield changed

    def _followed(self) -> list[Path]:
        """The files that the config is made of, or would be."""
        found: list[Path | None] = [] if self.error is None else [*self.error.files, self.error.table]
        if self._in_use is None:
            found.append(located(self.given, self._environ))
        else:
            config = self._in_use.config
            found += [*config.files, config.models_file, file_of_names(self._environ)]
            if config.is_built_in:
                found.append(place(None, self._environ))
        return list(dict.fromkeys(file for file in found if file is not None))

    async def _reload_and_log(self) -> bool | None:
        """True where the config has changed, False where only its faults have, None where nothing has."""
        faults = () if self.error is None else self.error.faults
        try:
            changed = await self.reload()
        except ConfigError as error:
            if error.faults == faults:
                return None
            changes_nothing = "" if self._in_use is None else ", so nothing changes"
            _log.error("the config has changed and cannot be used%s: %s", changes_nothing, error.message)
            return False
        except KonstructError as error:
            _log.error("the config has changed and cannot be taken up: %s", error.message)
            return None
        if changed:
            config = self.in_use().config
            _log.warning("the config has changed and is in use now; groups: %s", ", ".join(config.groups))
            for warning in config.warnings:
                _log.warning("%s", warning)
        elif faults:
            _log.warning("the config can be used again, and is what is in use")
        return changed if changed or faults else None

    # -- groups that wildcards stand for -------------------------------------------------------------------------------

    async def make_group(self, name: str, tenant: str) -> None:
        """Have the group of a name that a wildcard matches made one of the config's, for a tenant that asks for it."""
        # More than once where calls for many other names push it out again, or a reload takes its wildcard away.
        while name not in (config := self.in_use().config).groups and config.matching(name) is not None:
            # In a task of its own: another call may wait for it too, and this one may be cancelled.
            if (making := self._making.get(name)) is None:
                making = self._making[name] = asyncio.ensure_future(self._make_group(name, tenant))
                making.add_done_callback(lambda _: self._making.pop(name, None))
            await asyncio.shield(making)

    async def _make_group(self, name: str, tenant: str) -> None:
        async with self._makers.turn(0, tenant), self._reloading:
            config = self.in_use().config
            if name not in config.groups and (group := config.matching(name)) is not None:
                await self._change_to(config.with_group(group, tenant))


def _warn_of_what_waits(before: Config, config: Config) -> None:
    """Say what a server over HTTP settles at its start, so that nobody takes it to be in use: least of all that callers
    are verified now."""
    is_needed, was_needed = (one.auth.is_needed(one.http) for one in (config, before))
    for what, has_changed in (
        ("konstruct.http", config.http != before.http),
        ("konstruct.metrics", config.metrics != before.metrics),
        ("whether callers are verified (konstruct.auth)", is_needed != was_needed),
    ):
        if has_changed:
            _log.warning("%s has changed, which takes effect at the next start of a server over HTTP", what)


def _embedded_server(config: Config, environ: Mapping[str, str]) -> EmbeddedServer | None:
    for deployment in config.deployments.values():
        if deployment.model.startswith("embedded/") and deployment.unavailable is None:
            return EmbeddedServer(find_model(environ))
    return None
