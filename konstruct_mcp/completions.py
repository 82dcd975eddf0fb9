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
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio

from .accounts import Budget, Call, Charge, Grant, Quote, Reserve, to_nusd
from .config import Config, Deployment, Group, Tenant, default_among, load_config
from .embedded import EmbeddedServer, find_model
from .errors import (
    AllFailedError,
    DeadlineError,
    InternalError,
    InvalidArgumentError,
    KonstructError,
    LedgerError,
    UnknownGroupError,
    UnknownTenantError,
    UnpricedError,
    quoted,
)
from .ledger import Ledger
from .router import ModelRouter, Reply, Tried
from .routing import Fault, FaultKind, Try, Walk
from .types import (
    TENANT_ID,
    TENANT_ID_RULE,
    Attempt,
    BudgetState,
    Completion,
    GroupStatus,
    Request,
    Usage,
    UsageReport,
    dollars,
    is_day,
)

_log = logging.getLogger(__name__)

# An answer that is being read when its client goes is still counted; a provider that is at work is left this late.
_GRACE_S = 0.01


class Konstruct:
    """Completions by model group, with retries and fallback.

        async with Konstruct.from_config() as konstruct:
            completion = await konstruct.complete([{"role": "user", "content": "Hello"}], model_group="quality")
            print(completion.content, completion.model, completion.cost_usd)

    It owns the config, the provider connections and the embedded model, opens them on entry and closes them on exit.
    Use one for the life of the process, within one event loop (asyncio): any number of calls may run at once.
    """

    def __init__(
        self, config: Config, *, environ: Mapping[str, str] | None = None, ledger: Ledger | None = None
    ) -> None:
        """Prefer `from_config`. `environ` (default: the process's) says which file the embedded model is in; `ledger`
        (default: the config's) keeps the accounts."""
        self.config = config
        self._embedded = _embedded_server(config, os.environ if environ is None else environ)
        self._router = ModelRouter(config, self._embedded)
        self._ledger = ledger or Ledger(config.ledger.url, config.ledger.spool)

    @classmethod
    def from_config(cls, path: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Self:
        """From a YAML file: `path`, else `$KONSTRUCT_CONFIG`, the user's config folder, the built-in config.

        `environ` stands in for the process's environment, where keys and addresses are looked up.

        Raises:
            ConfigError: naming every fault of the config at once.
        """
        environ = os.environ if environ is None else environ
        return cls(load_config(None if path is None else Path(path), environ), environ=environ)

    async def __aenter__(self) -> Self:
        self._router.start()
        self._ledger.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Shielded: what is open must be closed even when the block is left by cancellation.
        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def aclose(self) -> None:
        """Close the ledger, provider connections and the embedded model; safe to call twice."""
        await self._router.aclose()
        await self._ledger.aclose()  # last: calls that were cut off are on the account too

    def kill(self) -> None:
        """Bring to the disk what the ledger has not written, and end the embedded model's process, at once and without
        an event loop: for the way out of a dying process."""
        self._ledger.kill()
        if self._embedded is not None:
            self._embedded.kill()

    async def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        model_group: str | None = None,
        tenant_id: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout_s: float | None = None,
    ) -> Completion:
        """One completion. Messages, tools, tool_choice and response_format are in OpenAI's format.

        Args:
            messages: roles system, user, assistant and tool; images as `data:` URLs only.
            model_group: the config's default group if None.
            tenant_id: on whose account; `$KONSTRUCT_TENANT_ID`, else the config's default tenant, if None.
            timeout_s: the deadline of the whole call in seconds, retries and fallbacks included; the config's if None.

        Raises:
            RequestError: the request is at fault (InvalidArgumentError, UnknownGroupError, ContextOverflowError, …).
            CompletionError: no provider answered (AllFailedError, UnavailableError, BudgetExceededError, …).
            LedgerError: the call cannot be accounted for, or its budget not be checked.
        """
        arguments = {
            "messages": list(messages),
            "model_group": model_group,
            "tenant_id": tenant_id,
            "tools": None if tools is None else list(tools),
            "tool_choice": tool_choice,
            "response_format": response_format,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "timeout_s": timeout_s,
        }
        return await self.answer(Request.parse(arguments))

    async def answer(self, request: Request) -> Completion:
        """The same for a request that is parsed already."""
        tenant = self._tenant(request.tenant_id)
        group = self._group_name(request.model_group, tenant)
        timeout_s = request.timeout_s or self.config.timeout_s
        walk = self._router.walk(request, group, time.monotonic() + timeout_s, tenant.groups)
        async with self._account(tenant, group) as account:
            with anyio.move_on_after(timeout_s):
                try:
                    return await self._ask(walk, request, account)
                except KonstructError:
                    raise
                except Exception:
                    _log.exception("a completion failed in konstruct_mcp itself")
                    raise InternalError("a defect in konstruct_mcp; its log has the details") from None
            failed = "".join(f"; {attempt.deployment}: {attempt.error}" for attempt in walk.attempts[-3:])
            raise DeadlineError(
                f"no answer within {timeout_s:g} s, waiting for {walk.waiting_for}{failed}; "
                "raise timeout_s, ask for less, or use a faster group",
                walk.attempts,
            )

    async def _ask(self, walk: Walk, request: Request, account: _Account) -> Completion:
        """The first answer on the walk."""
        walk.waiting_for = "LiteLLM to load"
        await self._router.ready()
        walk.waiting_for = "the ledger to open"
        await self._ledger.opened()
        # Closed however this ends: a walk may hold the one probe of a deployment that is cooling down.
        with contextlib.closing(walk.tries()) as tries:
            attempt = next(tries, None)
            while attempt is not None:
                await anyio.sleep(attempt.wait_s)
                began = time.monotonic()
                tried = await self._try(attempt, request, account)
                if tried.reply is not None:
                    with contextlib.suppress(StopIteration):
                        tries.send(tried.outcome)
                    return account.completion(tried.reply, tried, attempt, walk.attempts)
                walk.attempts.append(Attempt(attempt.deployment.name, str(tried.outcome), _ms_since(began)))
                _log.info("%s: %s", attempt.deployment.name, tried.outcome)
                try:
                    attempt = tries.send(tried.outcome)
                except StopIteration:
                    attempt = None
        raise walk.failure()

    async def _try(self, attempt: Try, request: Request, account: _Account) -> Tried:
        """Ask one deployment once, if the budgets afford it, and put what it counts on the account."""
        try:
            grant = await self._reserve(attempt, request, account)
        except UnpricedError as error:
            return Tried(Fault(FaultKind.UNPRICED, reason=error.message, sent=False))
        if isinstance(grant, Fault):
            return Tried(grant)
        max_tokens = None if grant is None else grant.max_tokens
        asking = asyncio.ensure_future(self._router.ask(attempt, request, account.tenant.id, max_tokens))
        try:
            await asyncio.wait({asking})
        finally:
            if not asking.done():
                await _ended(asking, within_s=_GRACE_S)
                asking.cancel()
                await _ended(asking)
            tried = None if asking.cancelled() else asking.result()
            account.add(attempt, tried, free=self._router.free(attempt.deployment), grant=grant)
        if tried is None:  # only a cancellation gets here without an outcome, and goes on by itself
            raise asyncio.CancelledError
        return tried

    async def _reserve(self, attempt: Try, request: Request, account: _Account) -> Grant | Fault | None:
        """What is set aside for a try; None where no budget applies or it costs nothing; else what the budgets say."""
        budgets = tuple(budget for budget in account.tenant.budgets if budget.covers(attempt.group))
        quote = self._router.quote(attempt.deployment, request) if budgets else None
        if quote is None:
            return None
        wanted = account.wants(attempt, quote, budgets, self.config.min_answer_tokens)
        granted = await self._ledger.reserve(wanted)
        if isinstance(granted, Grant):
            return granted
        tightest = min(granted, key=lambda state: state.left_nusd)
        detail = f"{tightest.name}: {dollars(tightest.left_nusd)} left"
        reason = _refusal(attempt.deployment, quote, tightest, self.config.min_answer_tokens)
        return Fault(FaultKind.BUDGET, detail, reason, sent=False)

    @contextlib.asynccontextmanager
    async def _account(self, tenant: Tenant, group: str) -> AsyncIterator[_Account]:
        """One call's account: written when the block ends, however that is, and before anything leaves it."""
        account = _Account(tenant, group)
        try:
            yield account
        except BaseException as error:
            account.outcome = error.code if isinstance(error, KonstructError) else "cancelled"
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._ledger.record(account.closed())

    # -- tenants, and what they have spent ---------------------------------------------------------------------------

    def _tenant(self, claimed: str | None) -> Tenant:
        """On whose account a call is. The one place that decides it: a transport that has verified who calls passes
        that identity here, and one that has not, what the caller says.

        Raises:
            UnknownTenantError: there is no such tenant.
        """
        name = self.config.default_tenant if claimed is None else claimed
        if (tenant := self.config.tenants.get(name)) is not None:
            return tenant
        if not self.config.allow_unknown:
            advice = (
                "" if claimed is not None else ", which calls without a tenant_id are on; pass the one you were given"
            )
            raise UnknownTenantError(f"no tenant {quoted(name)}{advice}")
        return Tenant(name, tuple(self.config.groups), self.config.budgets)

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
            self._group_name(group, None)
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

    def _budgets_of(self, name: str) -> tuple[Budget, ...]:
        if (tenant := self.config.tenants.get(name)) is not None:
            return tenant.budgets
        return self.config.budgets if self.config.allow_unknown else ()

    async def opened(self) -> None:
        """Wait until it is known whether accounts can be kept. A database that is out of reach can be used later.

        Raises:
            LedgerError: never by this version, or not with this URL: each call will be refused.
        """
        await self._ledger.opened()

    async def ledger_fault(self) -> str | None:
        """Why no account can be kept now; None where it can."""
        try:
            await self.opened()
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
            if (why := self._router.why_no_budget(deployment))
            and any(name in groups and any(b.covers(name) for b in budgets) for groups, budgets in allowed)
        }

    # -- groups ------------------------------------------------------------------------------------------------------

    def groups(self) -> list[GroupStatus]:
        """The model groups of the default tenant, their deployments and whether each can be called now. Asks no
        provider."""
        shown = self._shown_groups()
        return [
            replace(status, fallbacks=tuple(name for name in status.fallbacks if name in shown))
            for status in self._router.statuses()
            if status.name in shown
        ]

    def group(self, name: str) -> GroupStatus:
        """One of `groups`.

        Raises:
            UnknownGroupError: listing the groups there are.
        """
        groups = {status.name: status for status in self.groups()}
        if name not in groups:
            raise _no_group(name, groups)
        return groups[name]

    @property
    def model_groups(self) -> list[Group]:
        """The same groups as the config describes them, without a look at their state."""
        return [self.config.groups[name] for name in self._shown_groups()]

    @property
    def default_group(self) -> str:
        """The group of a call that names neither a group nor a tenant."""
        return default_among(self.config.default_group, self._shown_groups())

    def _shown_groups(self) -> tuple[str, ...]:
        """Of a call that names no tenant; all, where it has to name one."""
        try:
            return self._tenant(None).groups
        except UnknownTenantError:
            return tuple(self.config.groups)

    def _group_name(self, name: str | None, tenant: Tenant | None) -> str:
        allowed = tuple(self.config.groups) if tenant is None else tenant.groups
        if name is None:
            return default_among(self.config.default_group, allowed)
        if name not in allowed:
            raise _no_group(name, allowed)
        return name

    async def check(self) -> dict[str, str | None]:
        """Ask each deployment that can be called for one token, all at once, on the default tenant's account.

        Returns: deployment id → one line of why it does not answer, or None if it does.
        """
        verdicts: dict[str, str | None] = {}
        request = Request.parse({"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 1})
        tenant = self.config.tenants.get(
            self.config.default_tenant,
            Tenant(self.config.default_tenant, tuple(self.config.groups), self.config.budgets),
        )

        async def ask(twins: list[Deployment]) -> None:
            deployment = twins[0]
            async with self._account(tenant, deployment.group) as account:
                tried = await self._try(Try(deployment, deployment.group, 0, deployment.timeout_s), request, account)
                fault = tried.outcome if isinstance(tried.outcome, Fault) else None
                account.outcome = "ok" if fault is None else AllFailedError.code
            verdict = None if fault is None else f"{fault}: {fault.reason}" if fault.reason else str(fault)
            if fault is not None and fault.sent and "max_tokens" in fault.reason:
                # A reasoning model needs more than one token to say anything: it was reached, and read us.
                verdict = None
            for twin in twins:
                verdicts[twin.id] = verdict

        await self._ledger.opened()
        await self._router.ready()
        asked: list[list[Deployment]] = []
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
    _unknown: bool = False  # whether a provider may have counted what we never saw

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
            quote=quote,
            budgets=budgets,
            min_tokens=min_tokens,
        )

    def add(self, attempt: Try, tried: Tried | None, *, free: bool, grant: Grant | None) -> None:
        """Take note of how a try went; None for one that was broken off."""
        self._tries += 1
        answered = tried is not None and tried.reply is not None
        usage = None if tried is None else tried.usage
        if answered:
            self._served = (attempt.group, attempt.deployment.model)
        if not answered and usage is None:
            broken_off = tried is None or (isinstance(tried.outcome, Fault) and tried.outcome.may_be_billed)
            self._unknown |= broken_off and not free
            return
        cost = 0 if free else None
        if not free and tried is not None and tried.cost_usd is not None:
            cost = round(to_nusd(tried.cost_usd))
        if grant is not None:
            self._kept.append(self._reservations)
            if cost is None:
                # The provider does not say what it has counted: where a budget has to hold, the most it can be.
                cost = grant.amount_nusd
        tokens = usage or Usage(0, 0)
        self._charges.append(
            Charge(
                attempt.group,
                attempt.deployment.model,
                tokens.input_tokens,
                tokens.output_tokens,
                tokens.cached_tokens,
                cost,
            )
        )

    def completion(self, reply: Reply, tried: Tried, attempt: Try, attempts: Sequence[Attempt]) -> Completion:
        """The call's answer."""
        return Completion(
            content=reply.content,
            tool_calls=reply.tool_calls,
            finish_reason=reply.finish_reason,
            model_group=self.group,
            served_group=attempt.group,
            model=attempt.deployment.model,
            attempts=tuple(attempts),
            usage=tried.usage or Usage(0, 0),
            cost_usd=tried.cost_usd,
            duration_ms=_ms_since(self._started),
        )

    def closed(self) -> Call:
        """The call as a row of the ledger."""
        costs = [charge.cost_nusd for charge in self._charges]
        known = [cost for cost in costs if cost is not None]
        unknown = self._unknown or len(known) < len(costs)
        group_served, model = self._served
        return Call(
            id=self._id,
            time=datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z",
            tenant=self.tenant.id,
            group_asked=self.group,
            group_served=group_served,
            model=model,
            charges=tuple(self._charges),
            cost_nusd=None if unknown else sum(known),
            duration_ms=_ms_since(self._started),
            outcome=self.outcome,
            attempts=self._tries,
            reserved=self._reservations > 0,
        )


def _refusal(deployment: Deployment, quote: Quote, budget: BudgetState, min_tokens: int) -> str:
    """Why a budget refuses a try, and what would help."""
    tokens = quote.max_tokens if quote.fixed else min(min_tokens, quote.max_tokens)
    most, affordable = quote.most_nusd(tokens), quote.affordable(budget.left_nusd)
    if most > budget.limit_nusd:
        renews = "; not even the whole of it would"
    else:
        renews = f"; it renews at {budget.renews_at}" if budget.renews_at else "; it does not renew"
    advice = f"; ask for max_tokens of {affordable} or less" if affordable >= 1 else ""
    return (
        f"the budget of {budget.name} does not afford {deployment.name}: with {tokens} tokens of an answer the call "
        f"can cost {dollars(most)}; spent {dollars(budget.spent_nusd)}, reserved by calls under way "
        f"{dollars(budget.reserved_nusd)}, left {dollars(budget.left_nusd)}{renews}{advice}"
    )


def _no_group(name: str, groups: Iterable[str]) -> UnknownGroupError:
    return UnknownGroupError(f"no group {quoted(name)}; groups: {', '.join(sorted(groups))}")


def _check_tenant_id(tenant_id: str | None) -> None:
    if tenant_id is not None and not TENANT_ID.match(tenant_id):
        raise InvalidArgumentError(f"tenant_id: {TENANT_ID_RULE}")


async def _ended(task: asyncio.Future[Any], within_s: float | None = None) -> None:
    """Wait for a task although whoever waits has been cancelled, perhaps more than once: what it has cost must be
    known. Only on the way out of a cancellation, which is the one that goes on."""
    waiting = asyncio.ensure_future(asyncio.wait({task}, timeout=within_s))
    while not waiting.done():
        with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(waiting)


def _ms_since(moment: float) -> int:
    return round((time.monotonic() - moment) * 1000)


def _embedded_server(config: Config, environ: Mapping[str, str]) -> EmbeddedServer | None:
    for group in config.groups.values():
        for deployment in group.deployments:
            if deployment.model.startswith("embedded/") and deployment.unavailable is None:
                return EmbeddedServer(find_model(environ))
    return None
