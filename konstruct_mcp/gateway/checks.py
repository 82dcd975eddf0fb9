"""What is wrong with a config that can be used: for whoever looks after it, as `konstruct-mcp check` says it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import anyio

from konstruct_mcp.config.model import Config, Deployment
from konstruct_mcp.core.errors import AllFailedError, LedgerError
from konstruct_mcp.core.money import dollars
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.text import cut, quoted
from konstruct_mcp.gateway.account import open_account
from konstruct_mcp.gateway.call import Shared, Tries, ignore
from konstruct_mcp.gateway.caller import default_account
from konstruct_mcp.gateway.reload import Generation
from konstruct_mcp.ledger.ledger import Ledger
from konstruct_mcp.providers.faults.refusals import is_cut_short
from konstruct_mcp.routing.outcomes import Fault
from konstruct_mcp.routing.walk import Try

_LONGEST_PATH = 300


async def ask_each(shared: Shared) -> dict[str, str | None]:
    """Ask each deployment that can be called for one token: see `Konstruct.check`."""
    generation = shared.generations.in_use()
    config = generation.config
    verdicts: dict[str, str | None] = {}

    async def ask(twins: list[Deployment]) -> None:
        verdict = await _ask(shared, generation, twins[0])
        for twin in twins:
            verdicts[twin.id] = verdict

    await shared.ledger.opened()
    await generation.client.ready()
    asked: list[list[Deployment]] = []
    for wildcard in config.wildcards:
        verdicts |= {deployment.id: deployment.unavailable for deployment in wildcard.deployments}
    for deployment in config.deployments.values():
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


async def _ask(shared: Shared, generation: Generation, deployment: Deployment) -> str | None:
    """Why a deployment does not answer, in one line; None if it does."""
    request = Request.parse({"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 1})
    tenant = default_account(generation.config)
    deadline = time.monotonic() + deployment.timeout_s
    async with open_account(tenant, deployment.group, deadline, shared.ledger, shared.emit) as account:
        attempt = Try(deployment, deployment.group, 0, deployment.timeout_s)
        tried = await Tries(shared, request, account, generation).once(attempt, ignore)
        fault = tried.outcome if isinstance(tried.outcome, Fault) else None
        account.outcome = "ok" if fault is None else AllFailedError.code
    # A reasoning model needs more than one token to say anything: it was reached, and read the request.
    if fault is None or is_cut_short(fault):
        return None
    return str(fault) if fault.reason in str(fault) else f"{fault}: {fault.reason}"


def unpriced(generation: Generation) -> dict[str, str]:
    """Deployments that a tenant with a budget cannot use: deployment id → why, as the end of a sentence."""
    config = generation.config
    allowed = [(tenant.groups, tenant.budgets) for tenant in config.tenants.values()]
    if config.allow_unknown:
        allowed.append((tuple(config.groups), config.budgets))
    return {
        deployment.id: why
        for name, group in config.groups.items()
        for deployment in group.deployments
        if (why := generation.routes.facts(deployment).why_no_budget)
        and any(name in groups and any(b.covers(name) for b in budgets) for groups, budgets in allowed)
    }


async def ledger_fault(ledger: Ledger) -> str | None:
    """Why no account can be kept now; None where it can."""
    try:
        await ledger.opened(to_write=True)
        await ledger.tenants()
    except LedgerError as error:
        return error.message
    return None


def missing_file_roots(config: Config) -> list[str]:
    """One line for each folder whose files might be sent, and that is not there."""
    of_tenants = (root for tenant in config.tenants.values() for root in tenant.files or ())
    roots = dict.fromkeys((*config.file_access.roots, *of_tenants))
    return [
        f"there is no folder {cut(str(root), _LONGEST_PATH)}, of which files may be sent"
        for root in roots
        if not root.is_dir()
    ]


def unreadable_files(config: Config) -> list[str]:
    """One line for each file that a server over HTTP would read and that cannot be read."""
    named = [(f"konstruct.auth.jwt[{at}].jwks_file", one.jwks_file) for at, one in enumerate(config.auth.jwt)]
    named += [("konstruct.http.tls_cert", config.http.tls_cert), ("konstruct.http.tls_key", config.http.tls_key)]
    found = []
    for place, path in named:
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            found.append(f'{place}: "{cut(str(path), _LONGEST_PATH)}" cannot be read: {error.strerror}')
    return found


async def spent_under_former_names(config: Config, ledger: Ledger) -> list[str]:
    """One line for each group whose spending no budget counts any more: see `Konstruct.spent_under_former_names`."""
    now = datetime.now(UTC)
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
    for name, tenant, day, nusd in await ledger.spent_on_unknown(is_known, min(firsts)):
        if any(first <= day <= last for first, last in windows.get(tenant, others)):
            sums[name] = sums.get(name, 0) + nusd
    return [
        f"{dollars(nusd)} was spent on the group {quoted(name)}, which the config does not name any more, so that "
        "no budget on groups counts it; if it has another name now, list this one under "
        "konstruct.groups.<its name>.formerly"
        for name, nusd in sums.items()
    ]


def has_budgets(config: Config) -> bool:
    """Whether anybody's spending is held to a budget."""
    return bool(config.budgets) or any(tenant.budgets for tenant in config.tenants.values())
