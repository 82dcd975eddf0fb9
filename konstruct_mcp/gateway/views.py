"""What a caller is shown: groups, the effective config, usage and budgets. Who may see what is `Caller`'s to decide."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.config.model import Config, Deployment, Group, default_among
from konstruct_mcp.config.public import public_config
from konstruct_mcp.core.budgets import Budget, BudgetState
from konstruct_mcp.core.errors import ConfigError, InvalidArgumentError, UnknownTenantError
from konstruct_mcp.core.results import DeploymentStatus, GroupStatus
from konstruct_mcp.core.spending import UsageReport
from konstruct_mcp.core.text import is_day, quoted
from konstruct_mcp.gateway.caller import Caller, check_tenant_id, group_of
from konstruct_mcp.gateway.reload import Generation
from konstruct_mcp.ledger.ledger import Ledger
from konstruct_mcp.routing.routes import Routes

_FAULTY = "the file has changed and cannot be used; the server's log says why"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a caller may ask for.

    Attributes:
        groups: as the config describes them, without a look at their state. What a wildcard stands for is not among
            them.
        default_group: of a call that names none; "" where it has to name one.
        patterns: the wildcards: any model's name that matches one may be asked for too.
        has_threads: whether an earlier answer can be continued.
        parallel_calls: whether clients are told that calls change nothing.
        default_reason: why that is the default group, where the built-in config has chosen it; "" else.
        takes_files: whether files can be named.
    """

    groups: tuple[Group, ...]
    default_group: str
    patterns: tuple[str, ...]
    has_threads: bool = False
    parallel_calls: bool = True
    default_reason: str = ""
    takes_files: bool = False


def choice(config: Config, caller: Caller) -> Choice:
    """Raises UnknownTenantError where there is no tenant of a verified caller."""
    tenant = caller.shown(config)
    listed = tuple(config.groups[name] for name in tenant.groups if config.groups[name].is_listed)
    default = default_among(config.default_group, tenant.groups)
    reason = config.default_reason if default == config.default_group else ""
    has_threads = config.threads.keep != "off"
    takes_files = caller.file_roots(config, tenant) != ()
    return Choice(
        listed,
        default,
        tenant.patterns,
        has_threads=has_threads,
        takes_files=takes_files,
        parallel_calls=config.parallel_calls,
        default_reason=reason,
    )


def groups(generation: Generation, caller: Caller) -> list[GroupStatus]:
    """The groups that a caller may ask for, their deployments and the state of each. Asks no provider."""
    shown = {group.name for group in choice(generation.config, caller).groups}
    return _statuses(generation, shown, caller.only(generation.config))


def all_groups(generation: Generation) -> list[GroupStatus]:
    """The same of every group that the config names, as the operator sees them."""
    return _statuses(generation, generation.config.groups.keys() - generation.config.on_demand.keys(), None)


def _statuses(generation: Generation, shown: Collection[str], reader: str | None) -> list[GroupStatus]:
    """`reader` is the tenant who sees them; None for the operator."""
    config, routes = generation.config, generation.routes
    return [
        GroupStatus(
            name=group.name,
            description=group.description,
            fallbacks=tuple(name for name in group.fallbacks if name in shown),
            deployments=tuple(_status(deployment, routes, reader) for deployment in group.deployments),
            alias_of=group.alias_of if group.alias_of in shown else None,
        )
        for group in config.groups.values()
        if group.name in shown
    ]


def effective_config(config: Config, error: ConfigError | None, caller: Caller) -> Mapping[str, Any]:
    """The config in use as plain data, every secret masked; before it, what is wrong with its file, if that has changed
    since and cannot be used."""
    shown = public_config(config, caller.account(config) if caller.is_verified else None)
    if error is None or not error.faults:
        return shown
    is_private = caller.only(config) is not None  # a fault may name another tenant, or a group of one
    return {"faults": [_FAULTY] if is_private else list(error.faults), **shown}


def _readable(config: Config, tenant_id: str | None, caller: Caller | None) -> str | None:
    """The tenant whose account is read, None for all of them.

    Raises:
        InvalidArgumentError: the id is malformed.
        UnknownTenantError: the caller may not read that account.
    """
    if tenant_id is not None:
        check_tenant_id(tenant_id)
    if caller is None:
        return tenant_id
    if tenant_id is not None and not caller.may_read_account(config, tenant_id):
        raise UnknownTenantError(f"no account of {quoted(tenant_id)} here; leave tenant_id out")
    return tenant_id or caller.only_account(config)


async def usage(
    config: Config,
    ledger: Ledger,
    caller: Caller | None,
    tenant_id: str | None,
    *,
    group: str | None,
    since: str | None,
    until: str | None,
) -> UsageReport:
    """What was spent: see `Konstruct.usage`."""
    tenant_id = _readable(config, tenant_id, caller)
    for name, day in (("since", since), ("until", until)):
        if day is not None and not is_day(day):
            raise InvalidArgumentError(f"{name}: should be a date like 2026-01-31")
    if since is not None and until is not None and since > until:
        raise InvalidArgumentError(f"since: {since} is after until, {until}")
    await ledger.opened()
    lines = await ledger.lines(tenant=tenant_id, group=group, since=since, until=until)
    if group is not None and not lines:  # a group that the config names no more may still have lines
        is_one_tenant = caller is not None and caller.is_verified and not caller.is_operator
        group_of(config, group, caller.account(config) if caller is not None and is_one_tenant else None)
    states = await _states(config, ledger, tenant_id, caller)
    return UsageReport(tenant_id, since, until, tuple(lines), tuple(states))


async def budgets(config: Config, ledger: Ledger, caller: Caller | None, tenant_id: str | None) -> list[BudgetState]:
    """Each budget and what is left of it: see `Konstruct.budgets`."""
    tenant_id = _readable(config, tenant_id, caller)
    await ledger.opened()
    return await _states(config, ledger, tenant_id, caller)


async def _states(config: Config, ledger: Ledger, tenant_id: str | None, caller: Caller | None) -> list[BudgetState]:
    if tenant_id is not None:
        names = [tenant_id]
    else:
        default = [config.default_tenant] if config.allow_unknown else []
        names = list(dict.fromkeys([*config.tenants, *default, *(await ledger.tenants())]))
    states = await ledger.states([(name, budget) for name in names for budget in _budgets_of(config, name)])
    if caller is None or caller.only_account(config) is None:
        return states
    known = caller.shown(config).groups
    shown = [state.shown(known) for state in states]
    # One on groups of others alone is nothing to this reader; without them it would look like one on every group.
    return [one for state, one in zip(states, shown, strict=True) if one.groups or not state.groups]


def _budgets_of(config: Config, name: str) -> tuple[Budget, ...]:
    if (tenant := config.tenants.get(name)) is not None:
        return tenant.budgets
    return config.budgets if config.allow_unknown else ()


def _status(deployment: Deployment, routes: Routes, tenant: str | None) -> DeploymentStatus:
    facts = routes.facts(deployment)
    state, reason = routes.state(deployment, tenant)
    return DeploymentStatus(
        model=deployment.model,
        state=state,
        reason=reason,
        input_usd_per_million=_per_million(facts.input_cost),
        output_usd_per_million=_per_million(facts.output_cost),
        context_window=facts.context_window,
        supports=tuple(name for name, supported in facts.supports.items() if supported),
        max_output_tokens=facts.longest_answer,
        retires=facts.retires,
    )


def _per_million(cost: float | None) -> float | None:
    # Ten digits are more than any price has, and take back what the multiplication added.
    return None if cost is None else float(f"{cost * 1_000_000:.10g}")
