"""Konstruct: the one request path. Who asks, may they, route, account, answer.

The MCP server, the command line and a Python program stand on this class and on nothing beneath it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio

from konstruct_mcp.config.embedded import EmbeddedServer, find_model
from konstruct_mcp.config.model import Config, Deployment, Group, Tenant, default_among, load_config
from konstruct_mcp.config.models import PUBLIC_TABLE, entry, shipped, update_from, write_file
from konstruct_mcp.config.source import changes, located
from konstruct_mcp.core.budgets import Budget, BudgetState, Grant, Quote, Reserve
from konstruct_mcp.core.errors import (
    AllFailedError,
    ConfigError,
    DeadlineError,
    InternalError,
    InvalidArgumentError,
    KonstructError,
    LedgerError,
    ModelDataError,
    OverloadedError,
    UnknownGroupError,
    UnknownTenantError,
    UnpricedError,
)
from konstruct_mcp.core.fairness import Admission, Step, turn
from konstruct_mcp.core.money import NUSD, dollars, to_nusd
from konstruct_mcp.core.requests import Limits, Request, is_timeout
from konstruct_mcp.core.results import Attempt, Completion, GroupStatus, ModelTable, ModelUpdate, Usage
from konstruct_mcp.core.sizes import is_large
from konstruct_mcp.core.spending import Call, Charge, UsageReport
from konstruct_mcp.core.text import TENANT_ID, TENANT_ID_RULE, cut, is_day, quoted
from konstruct_mcp.core.threads import in_thread, in_thread_if_large
from konstruct_mcp.ledger.ledger import Ledger
from konstruct_mcp.providers.client import ModelRouter
from konstruct_mcp.providers.faults import is_cut_short
from konstruct_mcp.providers.litellm.reasoning.memory import Recalled
from konstruct_mcp.providers.litellm.responses import Reply, Tried
from konstruct_mcp.routing.outcomes import Fault, FaultKind, TryResult
from konstruct_mcp.routing.walk import Hold, Try, Walk

_log = logging.getLogger(__name__)

# An answer that is being read when its client goes is still counted; a provider that is at work is left this late.
_GRACE_S = 0.01
_NOTICE_DAYS = 60  # before a model is shut down, that is a time to test another


@dataclass(eq=False, slots=True)
class _Terms:
    """What holds for a call to its end: the config as it was when the call came, and the router over it."""

    config: Config
    router: ModelRouter
    calls: int = 0  # under way on these terms


class Konstruct:
    """Completions by model group, with retries and fallback.

        async with Konstruct.from_config() as konstruct:
            completion = await konstruct.complete([{"role": "user", "content": "Hello"}], model_group="quality")
            print(completion.content, completion.model, completion.cost_usd)

    It owns the config, the provider connections and the embedded model, opens them on entry and closes them on exit.
    Use one for the life of the process, within one event loop (asyncio): any number of calls may run at once.
    """

    def __init__(
        self, config: Config | ConfigError, *, environ: Mapping[str, str] | None = None, ledger: Ledger | None = None
    ) -> None:
        """Prefer `from_config`. A ConfigError stands in for a config that cannot be used yet; `environ` (default: the
        process's) says which file the embedded model is in; `ledger` (default: the config's) keeps the accounts."""
        self._environ = os.environ if environ is None else environ
        self._path: Path | None = None  # of the config, where it was named
        self._embedded: EmbeddedServer | None = None
        self._in_use: _Terms | None = None
        self._earlier: list[_Terms] = []  # those that calls may still be under way on
        self._books = ledger
        self._config_error: ConfigError | None = None
        self._reloading = asyncio.Lock()
        self._making: dict[str, asyncio.Future[None]] = {}  # groups on demand
        self._makers = Admission(1)  # of which one is made after another, for whoever wants it in turn
        self._entered = False
        self._begun = anyio.Event()
        if isinstance(config, Config):
            self._begin(config)
        else:
            self._config_error = config

    def _begin(self, config: Config) -> None:
        """Set up what the first config that can be used asks for."""
        self._embedded = _embedded_server(config, self._environ)
        self._in_use = _Terms(config, ModelRouter(config, self._embedded))
        self._admission = Admission(config.max_concurrency, config.max_queue, config.callers)
        self._books = self._books or Ledger(config.ledger.url, config.ledger.spool)
        self._books.has_budgets = _has_budgets(config)
        self._begun.set()
        if self._entered:
            self._start()

    def _start(self) -> None:
        self._terms.router.start()
        self._ledger.start()

    @classmethod
    def from_config(cls, path: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Self:
        """From a YAML file: `path`, else `$KONSTRUCT_CONFIG`, the user's config folder, the built-in config.

        `environ` stands in for the process's environment, where keys and addresses are looked up.

        Raises:
            ConfigError: naming every fault of the config at once.
        """
        path = None if path is None else Path(path)
        environ = os.environ if environ is None else environ
        made = cls(load_config(path, environ), environ=environ)
        made._path = path
        return made

    @classmethod
    def for_server(cls, path: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Self:
        """The same for a server, which a config that cannot be used does not keep from starting: a client would only
        say that it has failed. Until `follow_config` finds one that can be used, all else raises the ConfigError."""
        path = None if path is None else Path(path)
        environ = os.environ if environ is None else environ
        config: Config | ConfigError
        try:
            config = load_config(path, environ)
        except ConfigError as error:
            config = error
        made = cls(config, environ=environ)
        made._path = path
        return made

    @classmethod
    def for_update(cls, path: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Self:
        """The same for `update_models`, which replaces a table of the user's that cannot be used."""
        path = None if path is None else Path(path)
        environ = os.environ if environ is None else environ
        return cls(load_config(path, environ, needs_table=False), environ=environ)

    @property
    def config(self) -> Config:
        """The config that is in use now.

        Raises:
            ConfigError: there is none yet.
        """
        return self._terms.config

    @property
    def _terms(self) -> _Terms:
        if self._in_use is None:
            raise self._unusable()
        return self._in_use

    @property
    def _ledger(self) -> Ledger:
        if self._in_use is None or self._books is None:
            raise self._unusable()
        return self._books

    def _unusable(self) -> ConfigError:
        error = self._config_error or ConfigError(())
        # A fault may name another tenant, or a group of one.
        if error.is_private or self._environ.get("KONSTRUCT_TENANT_ID", "").strip():
            return ConfigError(["cannot be used; the server's log says why"], source=error.source)
        return ConfigError(error.faults, source=error.source, table=error.table, table_faults=error.table_faults)

    async def __aenter__(self) -> Self:
        self._entered = True
        if self._in_use is not None:
            self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Shielded: what is open must be closed even when the block is left by cancellation.
        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def aclose(self) -> None:
        """Close the ledger, provider connections and the embedded model; safe to call twice."""
        for making in self._making.values():
            making.cancel()
        if self._making:
            await asyncio.wait(list(self._making.values()))
        if self._embedded is not None:
            await self._embedded.aclose()
        for terms in (*self._earlier, self._in_use):
            if terms is not None:
                await terms.router.aclose()
        if self._books is not None:
            await self._books.aclose()  # last: calls that were cut off are on the account too

    def kill(self) -> None:
        """Bring to the disk what the ledger has not written, and end the embedded model's process, at once and without
        an event loop: for the way out of a dying process."""
        if self._books is not None:
            self._books.kill()
        if self._embedded is not None:
            self._embedded.kill()

    # -- the config, which may change ----------------------------------------------------------------------------------

    @property
    def config_faults(self) -> tuple[str, ...]:
        """What is wrong with the config file as it is now, where that is why an earlier state of it is in use, or none
        is."""
        return () if self._config_error is None else self._config_error.faults

    @property
    def config_error(self) -> ConfigError | None:
        """The same as an error, which also says what file it is."""
        return self._config_error

    async def reload(self) -> bool:
        """Take up the config file as it is now; whether anything has changed.

        Groups, tenants, budgets and limits change in one step: calls under way end on what held when they came. The
        ledger is where it was at the start.

        Raises:
            ConfigError: naming every fault of the config at once. Nothing has changed.
        """
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> bool:
        try:
            config = await asyncio.to_thread(load_config, self._path, self._environ)
            if self._in_use is not None and self.config.file is not None and config.file != self.config.file:
                raise ConfigError(
                    ["cannot be read: it is gone"], source=f"the config file {quoted(self.config.file.name)}"
                )
        except ConfigError as error:
            self._config_error = error
            raise
        if self._in_use is None:
            self._begin(config)
            self._config_error = None
            return True
        if config.ledger != self.config.ledger:
            _log.warning("konstruct.ledger_url has changed, which takes effect at the next start")
            config = config.with_ledger_of(self.config)
        for name in self.config.on_demand:
            if name not in config.groups and (group := config.matching(name)) is not None:
                config = config.with_group(group)
        if config == self.config:
            self._config_error = None
            return False
        if self._embedded is None:
            self._embedded = _embedded_server(config, self._environ)
        await self._change_to(config)
        self._config_error = None
        self._admission.resize(config.max_concurrency, config.max_queue, config.callers)
        return True

    async def _change_to(self, config: Config) -> None:
        """Make it what calls are made on from now on, in one step."""
        # Before the step, so that no call waits for it, and beside the loop: of many deployments it takes long.
        await self._terms.router.ready()
        router = await asyncio.to_thread(ModelRouter.after, self._terms.router, config, self._embedded)
        terms = _Terms(config, router)
        await terms.router.ready()
        self._earlier.append(self._terms)
        self._in_use = terms
        self._ledger.has_budgets = _has_budgets(config)
        self._drop_earlier()

    async def _make_group(self, name: str, tenant: str) -> None:
        """Make the group of a name that a wildcard matches one of the config's, which a tenant asks for."""
        async with self._makers.turn(0, tenant), self._reloading:
            config = self.config
            if name not in config.groups and (group := config.matching(name)) is not None:
                await self._change_to(config.with_group(group))

    def _drop_earlier(self) -> None:
        """Let go of the terms that no call is under way on."""
        for terms in [terms for terms in self._earlier if not terms.calls]:
            self._earlier.remove(terms)
            self._terms.router.take_over(terms.router)

    async def follow_config(self, until: anyio.Event) -> AsyncIterator[bool]:
        """Take up each change of the config's files, or of the user's table of models, until the event, and say so in
        the log. Yields True after each, and False where only `config_faults` have changed. Where there is no config
        that can be used yet, it is waited for."""
        if not self._followed():
            return
        async for _ in changes(self._followed, until):
            if (changed := await self._take_up()) is not None:
                yield changed

    def _followed(self) -> list[Path]:
        """The files that the config is made of, or would be."""
        error = self._config_error
        found: list[Path | None] = [] if error is None else [*error.files, error.table]
        if self._in_use is None:
            found.append(located(self._path, self._environ))
        else:
            found += [*self.config.files, self.config.models_file]
        return list(dict.fromkeys(file for file in found if file is not None))

    async def _take_up(self) -> bool | None:
        """Reload, and say in the log what came of it: True where the config has changed, False where only its faults
        have, None where nothing has."""
        faults = self.config_faults
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
            _log.warning("the config has changed and is in use now; groups: %s", ", ".join(self.config.groups))
            for warning in self.config.warnings:
                _log.warning("%s", warning)
            with contextlib.suppress(LedgerError):  # which says so itself
                for warning in await self.spent_under_former_names():
                    _log.warning("%s", warning)
        elif faults:
            _log.warning("the config can be used again, and is what is in use")
        return changed if changed or faults else None

    # -- what is known of models ---------------------------------------------------------------------------------------

    def model_tables(self) -> list[ModelTable]:
        """The tables of model data in use, the first that is looked into first."""
        models, file = self.config.models, self.config.models_file
        found = [] if models.own is None else [(str(file), models.own)]
        return [
            ModelTable(place, table.about.get("litellm"), table.about.get("date"), table.about.get("source"))
            for place, table in [*found, ("the one that ships with konstruct-mcp", shipped())]
        ]

    def retiring(self) -> list[str]:
        """One line for each model that its provider has shut down, or will before long, with the groups that ask it."""
        today = datetime.now(UTC).date()
        found: dict[str, list[str]] = {}  # what is to be said → the groups
        for group in self.config.groups.values():
            if group.alias_of is not None:
                continue
            for deployment in group.deployments:
                known = entry(deployment)
                retires = known.get("deprecation_date")
                days = None if retires is None else (date.fromisoformat(retires) - today).days
                if days is None or days > _NOTICE_DAYS:
                    continue
                successor = known.get("successor_model")
                instead = f"; its provider names {cut(successor)} for it" if successor else ""
                left = "in 1 day" if days == 1 else f"in {days} days"
                when = f"was shut down on {retires}" if days <= 0 else f"is shut down on {retires}, {left}"
                asking = found.setdefault(f"{deployment.model} {when}{instead}", [])
                if group.name not in asking:
                    asking.append(group.name)
        return [f"{', '.join(groups)}: {said}" for said, groups in found.items()]

    def unknown_models(self) -> list[str]:
        """One line for each model that no table knows and that is nearly one that they know: it may be misspelt."""
        found = {}
        known = list(self.config.models.known())
        for group in self.config.groups.values():
            for deployment in group.deployments:
                provider, _, name = deployment.model.partition("/")
                is_own = "api_base" in deployment.params or provider in ("ollama", "embedded")
                is_known = not {"litellm_provider", "mode"}.isdisjoint(entry(deployment))
                if is_own or is_known or deployment.unavailable is not None:
                    continue
                names = [one.removeprefix(f"{provider}/") for one in known]
                if close := get_close_matches(name, names, n=1, cutoff=0.8):
                    found[deployment.model] = f"{deployment.model} is in no table of models; did you mean {close[0]}?"
        return list(found.values())

    async def update_models(self, source: str | None = None, *, force: bool = False) -> ModelUpdate:
        """Put a newer table of LiteLLM's into the user's own, the one that the config names.

        Args:
            source: a file or a URL; LiteLLM's public table if None.
            force: take a price too that becomes 0 or unknown, or moves more than tenfold.

        Raises:
            ModelDataError: it cannot be had, or is none, or has such a price. Nothing has changed.
        """
        file = self.config.models_file
        if file is None:
            raise ModelDataError("this user has no data folder to keep it in; konstruct.models_file names a file")
        where = source or PUBLIC_TABLE
        found = await asyncio.to_thread(update_from, where, self.config.models.own)
        if found.doubtful and not force:
            listed = "".join(f"\n  {line}" for line in found.doubtful)
            raise ModelDataError(
                f"{len(found.doubtful)} prices become 0 or unknown, or move more than tenfold, which is more often a "
                f"slip than a price; nothing was changed. Look them up, and take them with --force:{listed}"
            )
        kept = await asyncio.to_thread(write_file, file, found.text, keep=self.config.broken_table)
        broken = None if kept is None else str(kept)
        return ModelUpdate(str(file), found.models, found.new, found.changes, broken, found.left)

    # -- a completion --------------------------------------------------------------------------------------------------

    async def complete(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        model_group: str | None = None,
        tenant_id: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout_s: float | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> Completion:
        """One completion. Messages, tools, tool_choice and response_format are in OpenAI's format.

        Args:
            messages: roles system, developer, user, assistant and tool; images as `data:` URLs only. A text is one
                message of the user's.
            model_group: the config's default group if None.
            tenant_id: on whose account; `$KONSTRUCT_TENANT_ID`, else the config's default tenant, if None.
            timeout_s: the deadline of the whole call in seconds, from now to the answer, waiting for its turn, retries
                and fallbacks included; the config's if None.
            on_wait: is told in one line what is being waited for, whenever that changes.

        Raises:
            RequestError: the request is at fault (InvalidArgumentError, UnknownGroupError, ContextOverflowError, …).
            CompletionError: no provider answered (AllFailedError, UnavailableError, OverloadedError, …).
            LedgerError: the call cannot be accounted for, or its budget not be checked.
        """
        arguments = {
            "messages": [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages),
            "model_group": model_group,
            "tenant_id": tenant_id,
            "tools": None if tools is None else list(tools),
            "tool_choice": tool_choice,
            "response_format": response_format,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "timeout_s": timeout_s,
        }
        arrived = time.monotonic()
        return await self.answer(await self.request(arguments), on_wait, arrived=arrived)

    async def request(self, arguments: Mapping[str, Any]) -> Request:
        """What is asked for by arguments that have come as they are.

        Raises:
            InvalidArgumentError: naming each that is missing, unknown or ill-typed, or what there is too much of.
        """
        config = None if self._in_use is None else self._in_use.config
        limits = Limits() if config is None else config.limits
        if not is_large(arguments):
            return Request.parse(arguments, limits)
        asked_s = arguments.get("timeout_s")
        patience_s = asked_s if is_timeout(asked_s) else None if config is None else config.timeout_s
        with anyio.move_on_after(patience_s):
            return await in_thread(_parsed, arguments, limits)
        raise DeadlineError(f"no answer within {patience_s:g} s, waiting for the arguments to be read; ask for less")

    async def answer(
        self, request: Request, on_wait: Callable[[str], None] | None = None, *, arrived: float | None = None
    ) -> Completion:
        """The same for a request that is parsed already. `arrived` is when it came, a reading of `time.monotonic`; now,
        if None."""
        timeout_s = request.timeout_s or self.config.timeout_s
        deadline = (time.monotonic() if arrived is None else arrived) + timeout_s
        tenant = _tenant(self.config, request.tenant_id)
        group = _group_name(self.config, request.model_group, tenant)
        async with self._account(tenant, group, deadline) as account:
            if group not in self.config.groups:
                await self._on_demand(group, request, tenant.id, timeout_s, deadline)
                account.tenant = tenant = _tenant(self.config, request.tenant_id)
                _group_name(self.config, group, tenant)  # the config may be another by now
            terms = self._terms
            walk = terms.router.walk(request, group, deadline, tenant, on_wait or _nobody)
            terms.calls += 1
            try:
                with anyio.move_on_after(max(0.0, deadline - time.monotonic())):
                    try:
                        return await self._ask(walk, request, account, terms)
                    except KonstructError:
                        raise
                    except Exception:
                        _log.exception("a completion failed in konstruct_mcp itself")
                        raise InternalError("a defect in konstruct_mcp; its log has the details") from None
            finally:
                terms.calls -= 1
                if terms is not self._terms:
                    self._drop_earlier()
            failed = "".join(f"; {attempt.deployment}: {attempt.error}" for attempt in walk.attempts[-3:])
            raise DeadlineError(
                f"no answer within {timeout_s:g} s, waiting for {walk.waiting_for}{failed}; "
                "raise timeout_s, ask for less, or use a faster group",
                walk.attempts,
            )

    async def _on_demand(self, name: str, request: Request, tenant: str, timeout_s: float, deadline: float) -> None:
        """Have the group of a name that a wildcard matches made one of the config's."""
        with anyio.move_on_after(max(0.0, deadline - time.monotonic())):
            async with self._admission.turn(request.chars, tenant):
                # Many others that are made meanwhile can have it go again, and a change of the config its wildcard.
                while name not in self.config.groups and self.config.matching(name) is not None:
                    # In a task of its own: what another call may wait for too is not broken off with this one.
                    if (making := self._making.get(name)) is None:
                        making = self._making[name] = asyncio.ensure_future(self._make_group(name, tenant))
                        making.add_done_callback(lambda _: self._making.pop(name, None))
                    await asyncio.shield(making)
                return
        raise DeadlineError(
            f"no answer within {timeout_s:g} s, waiting for {quoted(name)} to be set up; raise timeout_s, or try again"
        )

    async def _ask(self, walk: Walk, request: Request, account: _Account, terms: _Terms) -> Completion:
        """The first answer on the walk."""
        walk.wait_for(f"its turn, {self._admission.waiting} calls before it")
        async with self._admission.turn(request.chars, account.tenant.id):
            await turn(Step.BEGIN)
            walk.wait_for("LiteLLM to load")
            await terms.router.ready()
            walk.wait_for("the ledger to open")
            await self._ledger.opened()
            # Closed however this ends: a walk may hold the one probe of a deployment that is cooling down.
            with contextlib.closing(walk.tries()) as tries:
                step = next(tries, None)
                while step is not None:
                    result: TryResult | None = None
                    if isinstance(step, Hold):
                        over = asyncio.Event()
                        with walk.watching(step, over.set), anyio.move_on_after(step.wait_s):
                            await over.wait()
                    else:
                        await anyio.sleep(step.wait_s)
                        began = time.monotonic()
                        tried = await self._try(step, request, account, terms, walk.wait_for)
                        result = TryResult(tried.outcome, time.monotonic() - began)
                        if tried.reply is not None:
                            with contextlib.suppress(StopIteration):
                                tries.send(result)
                            walk.wait_for("the ledger to take note of the answer")
                            return account.completion(tried.reply, tried, step, walk.attempts)
                        _log.info("%s: %s", step.deployment.name, tried.outcome)
                    try:
                        step = tries.send(result)
                    except StopIteration:
                        step = None
            raise walk.failure()

    async def _try(
        self, attempt: Try, request: Request, account: _Account, terms: _Terms, wait_for: Callable[..., None]
    ) -> Tried:
        """Ask one deployment once, if the budgets afford it, and put what it counts on the account."""
        router, deployment = terms.router, attempt.deployment
        wait_for(f"its turn at {deployment.name}")
        async with router.turn(deployment, account.tenant.id):
            wait_for(f"the ledger, before {deployment.name} is asked")
            recalled = await in_thread_if_large(
                router.recall, deployment, request, account.tenant.id, is_large=request.is_large
            )
            try:
                grant = await self._reserve(attempt, request, account, terms, recalled)
            except UnpricedError as error:
                return Tried(Fault(FaultKind.UNPRICED, reason=error.message, sent=False))
            if isinstance(grant, Fault):
                return Tried(grant)
            wait_for(deployment.name, trying=True)
            asking = asyncio.ensure_future(router.ask(attempt, request, account.tenant.id, recalled, grant))
            try:
                await asyncio.wait({asking})
            finally:
                if not asking.done():
                    await _ended(asking, within_s=_GRACE_S)
                    asking.cancel()
                    await _ended(asking)
                tried = _outcome(asking)
                account.add(
                    attempt,
                    tried,
                    free=router.free(deployment),
                    grant=grant,
                    bound=lambda: router.most_nusd(deployment, request, recalled),
                )
            if tried is None:  # only a cancellation gets here without an outcome, and goes on by itself
                raise asyncio.CancelledError
            return tried

    async def _reserve(
        self, attempt: Try, request: Request, account: _Account, terms: _Terms, recalled: Recalled
    ) -> Grant | Fault | None:
        """What is set aside for a try; None where no budget applies or it costs nothing; else what the budgets say."""
        min_tokens = terms.config.min_answer_tokens
        budgets = tuple(budget for budget in account.tenant.budgets if budget.covers(attempt.group))
        if not budgets:
            return None
        quote = await in_thread_if_large(
            terms.router.quote, attempt.deployment, request, recalled, is_large=request.is_large
        )
        if quote is None:
            return None
        granted = await self._ledger.reserve(account.wants(attempt, quote, budgets, min_tokens))
        await turn(Step.ASK)
        if isinstance(granted, Grant):
            return granted
        tightest = min(granted, key=lambda state: state.left_nusd)
        detail = f"{tightest.name}: {dollars(tightest.left_nusd)} left"
        reason = _refusal(attempt.deployment, quote, tightest, min_tokens)
        return Fault(FaultKind.BUDGET, detail, reason, sent=False)

    @contextlib.asynccontextmanager
    async def _account(self, tenant: Tenant, group: str, deadline: float) -> AsyncIterator[_Account]:
        """One call's account: written when the block ends, however that is, and before anything leaves it. A call that
        was turned away at the door has none: a flood of them is not to become one of rows."""
        account = _Account(tenant, group)
        try:
            yield account
        except BaseException as error:
            account.outcome = error.code if isinstance(error, KonstructError) else "cancelled"
            raise
        finally:
            if account.outcome not in _TURNED_AWAY:
                with anyio.CancelScope(shield=True):
                    await self._ledger.record(account.closed(), within_s=deadline - time.monotonic())
                    await turn(Step.ANSWER)

    # -- tenants, and what they have spent ---------------------------------------------------------------------------

    async def usage(
        self,
        tenant_id: str | None = None,
        *,
        group: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> UsageReport:
        """What a tenant spent, or all of them for None, on one group or all, from one day to another.

        Args:
            since, until: ISO dates (UTC), both included.

        Raises:
            InvalidArgumentError: a date or an id is malformed.
            UnknownGroupError: listing the groups there are.
            LedgerError: the ledger cannot be read.
        """
        _check_tenant_id(tenant_id)
        for name, day in (("since", since), ("until", until)):
            if day is not None and not is_day(day):
                raise InvalidArgumentError(f"{name}: should be a date like 2026-01-31")
        if since is not None and until is not None and since > until:
            raise InvalidArgumentError(f"since: {since} is after until, {until}")
        await self._ledger.opened()
        lines = await self._ledger.lines(tenant=tenant_id, group=group, since=since, until=until)
        if group is not None and not lines:  # one that is in the config no more has its lines all the same
            _group_name(self.config, group, None)
        return UsageReport(tenant_id, since, until, tuple(lines), tuple(await self.budgets(tenant_id)))

    async def budgets(self, tenant_id: str | None = None) -> list[BudgetState]:
        """Each budget of a tenant, or of all of them for None, and what is left of it.

        Raises:
            InvalidArgumentError: the id is malformed.
            LedgerError: the ledger cannot be read.
        """
        _check_tenant_id(tenant_id)
        ledger = self._ledger
        await ledger.opened()
        if tenant_id is not None:
            names = [tenant_id]
        else:
            default = [self.config.default_tenant] if self.config.allow_unknown else []
            names = list(dict.fromkeys([*self.config.tenants, *default, *(await ledger.tenants())]))
        return await ledger.states([(name, budget) for name in names for budget in self._budgets_of(name)])

    async def spent_under_former_names(self) -> list[str]:
        """One line for each group that the config does not name any more and on which was spent what budgets on groups
        would count now, had it kept its name.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        config, now = self.config, datetime.now(UTC)
        everybodys = [budget for budget in config.budgets if budget.groups] if config.allow_unknown else []
        windows = {
            tenant.id: [budget.days(now) for budget in tenant.budgets if budget.groups]
            for tenant in config.tenants.values()
        }
        others = [budget.days(now) for budget in everybodys]
        firsts = [first for days in (*windows.values(), others) for first, _ in days]
        if not firsts:
            return []

        def is_known(name: str) -> bool:
            return name in config.groups or name in config.former_groups or config.matching(name) is not None

        sums: dict[str, int] = {}
        for name, tenant, day, nusd in await self._ledger.spent_on_unknown(is_known, min(firsts)):
            if any(first <= day <= last for first, last in windows.get(tenant, others)):
                sums[name] = sums.get(name, 0) + nusd
        return [
            f"{dollars(nusd)} was spent on the group {quoted(name)}, which the config does not name any more, so that "
            "no budget on groups counts it; if it has another name now, list this one under "
            "konstruct.groups.<its name>.formerly"
            for name, nusd in sums.items()
        ]

    async def accept_new_ledger(self) -> int:
        """Let what is there now, or an empty one, take the place of a ledger that has disappeared; how many calls it
        has. What was spent before counts towards no budget any more.

        Raises:
            LedgerError: none has disappeared, or it is out of reach.
        """
        self._ledger.has_budgets = True  # else one that is missed by a server with another config is not missed here
        await self._ledger.opened()
        await self._ledger.accept_new()
        return sum(line.calls for line in await self._ledger.lines())

    def _budgets_of(self, name: str) -> tuple[Budget, ...]:
        if (tenant := self.config.tenants.get(name)) is not None:
            return tenant.budgets
        return self.config.budgets if self.config.allow_unknown else ()

    async def opened(self) -> None:
        """Wait until there is a config that can be used, and it is known whether accounts can be kept. A database that
        is out of reach can be used later.

        Raises:
            LedgerError: never by this version, or not with this URL: each call will be refused.
        """
        await self._begun.wait()
        await self._ledger.opened()

    async def ledger_fault(self) -> str | None:
        """Why no account can be kept now; None where it can."""
        try:
            await self._ledger.opened(to_write=True)
            await self._ledger.tenants()
        except LedgerError as error:
            return error.message
        return None

    def unpriced(self) -> dict[str, str]:
        """Deployments that a tenant with a budget cannot use: deployment id → why, as the end of a sentence."""
        allowed = [(tenant.groups, tenant.budgets) for tenant in self.config.tenants.values()]
        if self.config.allow_unknown:
            allowed.append((tuple(self.config.groups), self.config.budgets))
        return {
            deployment.id: why
            for name, group in self.config.groups.items()
            for deployment in group.deployments
            if (why := self._terms.router.why_no_budget(deployment))
            and any(name in groups and any(b.covers(name) for b in budgets) for groups, budgets in allowed)
        }

    # -- groups ------------------------------------------------------------------------------------------------------

    def groups(self) -> list[GroupStatus]:
        """The model groups of the default tenant, their deployments and whether each can be called now. Asks no
        provider. What a wildcard stands for is not among them."""
        shown = self._listed_groups()
        return [
            replace(
                status,
                fallbacks=tuple(name for name in status.fallbacks if name in shown),
                alias_of=status.alias_of if status.alias_of in shown else None,
            )
            for status in self._terms.router.statuses()
            if status.name in shown
        ]

    def group(self, name: str) -> GroupStatus:
        """One of `groups`.

        Raises:
            UnknownGroupError: listing the groups there are.
        """
        groups = {status.name: status for status in self.groups()}
        if name not in groups:
            raise _no_group(name, groups, self.patterns)
        return groups[name]

    @property
    def model_groups(self) -> list[Group]:
        """The same groups as the config describes them, without a look at their state."""
        return [self.config.groups[name] for name in self._listed_groups()]

    @property
    def patterns(self) -> tuple[str, ...]:
        """The wildcards that a name may match which none of the groups has."""
        return self._shown_tenant().patterns

    @property
    def default_group(self) -> str:
        """The group of a call that names neither a group nor a tenant; "" where it has to name one."""
        return default_among(self.config.default_group, self._shown_tenant().groups)

    def _shown_tenant(self) -> Tenant:
        """That of a call that names none; one who may use all, where it has to name one."""
        try:
            return _tenant(self.config, None)
        except UnknownTenantError:
            return _anybody(self.config, "")

    def _listed_groups(self) -> list[str]:
        return [name for name in self._shown_tenant().groups if self.config.groups[name].is_listed]

    async def check(self) -> dict[str, str | None]:
        """Ask each deployment that can be called for one token, all at once, on the default tenant's account.

        Returns: deployment id → one line of why it does not answer, or None if it does.
        """
        verdicts: dict[str, str | None] = {}
        request = Request.parse({"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 1})
        tenant = self.config.tenants.get(
            self.config.default_tenant,
            _anybody(self.config, self.config.default_tenant),
        )

        async def ask(twins: list[Deployment]) -> None:
            deployment = twins[0]
            deadline = time.monotonic() + deployment.timeout_s
            async with self._account(tenant, deployment.group, deadline) as account:
                attempt = Try(deployment, deployment.group, 0, deployment.timeout_s)
                tried = await self._try(attempt, request, account, self._terms, _nobody)
                fault = tried.outcome if isinstance(tried.outcome, Fault) else None
                account.outcome = "ok" if fault is None else AllFailedError.code
            verdict = None if fault is None else str(fault)
            if fault is not None and fault.reason not in str(fault):
                verdict = f"{fault}: {fault.reason}"
            if fault is not None and is_cut_short(fault):
                # A reasoning model needs more than one token to say anything: it was reached, and read us.
                verdict = None
            for twin in twins:
                verdicts[twin.id] = verdict

        await self._ledger.opened()
        await self._terms.router.ready()
        asked: list[list[Deployment]] = []
        for wildcard in self.config.wildcards:
            verdicts |= {deployment.id: deployment.unavailable for deployment in wildcard.deployments}
        for group in self.config.groups.values():
            for deployment in group.deployments:
                if deployment.unavailable is not None:
                    verdicts[deployment.id] = deployment.unavailable
                elif twins := next((t for t in asked if t[0].params == deployment.params), None):
                    twins.append(deployment)  # the same model at the same address: one answer says it for both
                else:
                    asked.append([deployment])
        async with anyio.create_task_group() as tasks:
            for twins in asked:
                tasks.start_soon(ask, twins)
        return verdicts


@dataclass(slots=True)
class _Account:
    """What one call has cost so far, and how it ended."""

    tenant: Tenant
    group: str
    outcome: str = "ok"
    _id: str = field(default_factory=lambda: str(uuid.uuid4()))
    _started: float = field(default_factory=time.monotonic)
    _served: tuple[str, str] | tuple[None, None] = (None, None)
    _charges: list[Charge] = field(default_factory=list)
    _tries: int = 0
    _reservations: int = 0
    _kept: list[int] = field(default_factory=list)

    def wants(self, attempt: Try, quote: Quote, budgets: tuple[Budget, ...], min_tokens: int) -> Reserve:
        """The reservation for a try. Those of earlier tries are given up with it, but for what was counted."""
        self._reservations += 1
        return Reserve(
            call_id=self._id,
            attempt=self._reservations,
            kept=tuple(self._kept),
            owner="",
            tenant=self.tenant.id,
            group=attempt.group,
            model=attempt.deployment.model,
            quote=quote,
            budgets=budgets,
            min_tokens=min_tokens,
        )

    def add(
        self,
        attempt: Try,
        tried: Tried | None,
        *,
        free: bool,
        grant: Grant | None,
        bound: Callable[[], int | None],
    ) -> None:
        """Take note of how a try went; None for one that was broken off before it had begun. `bound` says what it can
        have cost at most where nothing was granted."""
        self._tries += 1
        if tried is None:
            return
        answered, usage = tried.reply is not None, tried.usage
        if answered:
            self._served = (attempt.group, attempt.deployment.model)
        elif usage is None and (free or not (isinstance(tried.outcome, Fault) and tried.outcome.may_be_billed)):
            return
        cost = 0 if free else None if tried.cost_usd is None else round(to_nusd(tried.cost_usd))
        most = None
        if grant is not None:
            self._kept.append(self._reservations)
            most = grant.amount_nusd
            # More tokens than were sent, or than it was let answer with.
            if cost > most if cost is not None else usage is not None and usage.output_tokens > grant.max_tokens:
                cost, usage = None, None
        elif cost is None:
            most = bound()
        tokens = usage or Usage(0, 0)
        self._charges.append(
            Charge(
                attempt.group,
                attempt.deployment.model,
                tokens.input_tokens,
                tokens.output_tokens,
                tokens.cached_tokens,
                cost,
                most_nusd=most if cost is None else None,
                uncounted=usage is None and (answered or tried.usage is not None),
            )
        )

    def completion(self, reply: Reply, tried: Tried, attempt: Try, attempts: Sequence[Attempt]) -> Completion:
        """The call's answer."""
        charge = self._charges[-1]
        is_bounded = charge.cost_nusd is None and charge.most_nusd is not None
        notes = tried.notes
        if charge.uncounted and tried.usage is not None:
            notes = (*notes, f"usage unknown: {attempt.deployment.model} has counted more than was reserved for it")
        return Completion(
            content=reply.content,
            tool_calls=reply.tool_calls,
            finish_reason=reply.finish_reason,
            model_group=self.group,
            served_group=attempt.group,
            model=attempt.deployment.model,
            attempts=tuple(attempts),
            usage=Usage(charge.input_tokens, charge.output_tokens, charge.cached_tokens),
            cost_usd=None if charge.cost_nusd is None else tried.cost_usd,
            duration_ms=_ms_since(self._started),
            notes=notes,
            at_most_usd=charge.most_nusd / NUSD if is_bounded and charge.most_nusd is not None else None,
        )

    def closed(self) -> Call:
        """The call as a row of the ledger."""
        costs = [charge.cost_nusd for charge in self._charges]
        known = [cost for cost in costs if cost is not None]
        bounds = [charge.most_nusd for charge in self._charges if charge.cost_nusd is None]
        limits = [bound for bound in bounds if bound is not None]
        group_served, model = self._served
        return Call(
            id=self._id,
            time=datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z",
            tenant=self.tenant.id,
            group_asked=self.group,
            group_served=group_served,
            model=model,
            charges=tuple(self._charges),
            cost_nusd=None if bounds else sum(known),
            duration_ms=_ms_since(self._started),
            outcome=self.outcome,
            attempts=self._tries,
            reserved=self._reservations > 0,
            most_nusd=sum(known) + sum(limits) if bounds and len(limits) == len(bounds) else None,
        )


_TURNED_AWAY = (OverloadedError.code, UnknownGroupError.code, UnknownTenantError.code)


def _refusal(deployment: Deployment, quote: Quote, budget: BudgetState, min_tokens: int) -> str:
    """Why a budget refuses a try, and what would help."""
    tokens = quote.max_tokens if quote.fixed else min(min_tokens, quote.max_tokens)
    most, affordable = quote.most_nusd(tokens), quote.affordable(budget.left_nusd)
    if most > budget.limit_nusd:
        renews = "; not even the whole of it would"
    else:
        renews = f"; it renews at {budget.renews_at}" if budget.renews_at else "; it does not renew"
    advice = f"; ask for max_tokens of {affordable} or less" if affordable >= 1 else ""
    held = f", held for tries of unknown cost {dollars(budget.held_nusd)}" if budget.held_nusd else ""
    return (
        f"the budget of {budget.name} does not afford {deployment.name}: with {tokens} tokens of an answer the call "
        f"can cost {dollars(most)}; spent {dollars(budget.spent_nusd)}{held}, reserved by calls under way "
        f"{dollars(budget.reserved_nusd)}, left {dollars(budget.left_nusd)}{renews}{advice}"
    )


def _tenant(config: Config, claimed: str | None) -> Tenant:
    """On whose account a call is. The one place that decides it: a transport that has verified who calls passes that
    identity here, and one that has not, what the caller says.

    Raises:
        UnknownTenantError: there is no such tenant.
    """
    name = config.default_tenant if claimed is None else claimed
    tenant = config.tenants.get(name)
    if config.pin_tenant and name != config.default_tenant:
        tenant = None  # said of one that there is in the words for one that there is not
    elif tenant is None and config.allow_unknown:
        tenant = _anybody(config, name)
    if tenant is not None:
        return tenant
    advice = ", which calls without a tenant_id are on; pass the one you were given"
    if claimed is not None:
        is_alone = config.pin_tenant or list(config.tenants) == [config.default_tenant]
        advice = " here; leave tenant_id out" if is_alone else "; pass the one you were given"
    raise UnknownTenantError(f"no tenant {quoted(name)}{advice}")


def _anybody(config: Config, name: str) -> Tenant:
    """A tenant that the config does not name."""
    patterns = tuple(wildcard.pattern for wildcard in config.wildcards)
    return Tenant(name, tuple(config.groups), config.budgets, patterns=patterns)


def _group_name(config: Config, name: str | None, tenant: Tenant | None) -> str:
    """The group of this name, of those that a tenant, or anybody for None, may use."""
    allowed = tuple(config.groups) if tenant is None else tenant.groups
    patterns = () if tenant is None else tenant.patterns
    if name is None:
        if default := default_among(config.default_group, allowed):
            return default
        raise InvalidArgumentError(f"model_group: is needed: a name that matches {' or '.join(patterns)}")
    group = config.groups.get(name) or (config.matching(name) if patterns else None)
    if group is None or not (name in allowed or group.pattern in patterns):
        listed = [one for one in allowed if config.groups[one].is_listed]
        raise _no_group(name, listed, patterns)
    return name


def _has_budgets(config: Config) -> bool:
    return bool(config.budgets) or any(tenant.budgets for tenant in config.tenants.values())


def _no_group(name: str, groups: Iterable[str], patterns: Sequence[str] = ()) -> UnknownGroupError:
    there_are = [f"groups: {', '.join(sorted(groups))}"] if (groups := list(groups)) else []
    there_are += [f"or a chat model's name that matches {' or '.join(patterns)}"] if patterns else []
    close = get_close_matches(cut(name).lower(), groups, n=1, cutoff=0.7)
    meant = [f"did you mean {close[0]}?"] if close else []
    return UnknownGroupError(f"no group {quoted(name)}; {' '.join([*meant, ', '.join(there_are)])}")


def _check_tenant_id(tenant_id: str | None) -> None:
    if tenant_id is not None and not TENANT_ID.match(tenant_id):
        raise InvalidArgumentError(f"tenant_id: {TENANT_ID_RULE}")


def _parsed(arguments: Mapping[str, Any], limits: Limits) -> Request:
    """The request, with all known of it that takes long to find out."""
    request = Request.parse(arguments, limits)
    _ = request.chars, request.has_images, request.is_large
    return request


def _outcome(asking: asyncio.Future[Tried]) -> Tried | None:
    """How a try went that has ended; None for one that was broken off. One that fails in itself may have been answered,
    and billed."""
    if asking.cancelled():
        return None
    if (error := asking.exception()) is None:
        return asking.result()
    _log.error("a try failed in konstruct_mcp itself", exc_info=error)
    return Tried(Fault(FaultKind.BAD_ANSWER, "an answer that is not understood"))


async def _ended(task: asyncio.Future[Any], within_s: float | None = None) -> None:
    """Wait for a task although whoever waits has been cancelled, perhaps more than once: what it has cost must be
    known. Only on the way out of a cancellation, which is the one that goes on."""
    waiting = asyncio.ensure_future(asyncio.wait({task}, timeout=within_s))
    while not waiting.done():
        with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(waiting)


def _nobody(*_: object, **__: object) -> None:
    """Is told."""


def _ms_since(moment: float) -> int:
    return round((time.monotonic() - moment) * 1000)


def _embedded_server(config: Config, environ: Mapping[str, str]) -> EmbeddedServer | None:
    for group in config.groups.values():
        for deployment in group.deployments:
            if deployment.model.startswith("embedded/") and deployment.unavailable is None:
                return EmbeddedServer(find_model(environ))
    return None
