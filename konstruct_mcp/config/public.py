"""The effective config as it is shown, every secret masked: all of it to the operator, and its own part to a tenant."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict
from typing import Any

from konstruct_mcp.config.masking import masked_url
from konstruct_mcp.config.model import FALLBACK_KINDS, Config, Group, Tenant, default_among
from konstruct_mcp.core.budgets import Budget
from konstruct_mcp.core.money import NUSD
from konstruct_mcp.core.secrets import MASK


def public_config(config: Config, reader: Tenant | None = None) -> dict[str, Any]:
    """The config as plain data, in the shape of its file.

    Args:
        reader: the tenant that it is shown to, who gets nothing of another: its own entry, its groups and the
            fallbacks among them, and its budgets. None for whoever runs the process: all of it, or, where the process
            is one tenant's (`known_tenant`), that tenant's part.
    """
    tenant_id = config.known_tenant if reader is None else reader.id
    own = config.tenants.get(tenant_id or "") if reader is None else reader
    written = config.written
    # A group that a call has had made from a wildcard is not in the file.
    groups = {
        name: group
        for name, group in config.groups.items()
        if name not in config.on_demand and (own is None or own.may_use(group))
    }
    patterns = {wildcard.pattern for wildcard in config.wildcards} if own is None else set(own.patterns)
    return {
        "source": written.source,
        "model_list": [entry for entry in written.model_list if entry["model_name"] in {*groups, *patterns}],
        "router_settings": {
            "routing_strategy": config.routing_strategy,
            "num_retries": written.num_retries,
            "timeout": written.timeout_s,
            "cooldown_time": written.cooldown_s,
            "allowed_fails": config.allowed_fails,
            **{kind: _fallbacks(groups, kind) for kind in FALLBACK_KINDS},
            **_aliases(config, groups),
        },
        "konstruct": {
            "default_group": default_among(config.default_group, list(groups)),
            "default_tenant": config.default_tenant if reader is None else reader.id,
            "timeout_s": config.timeout_s,
            "max_concurrency": config.max_concurrency,
            "max_queue": config.max_queue,
            "max_result_chars": config.max_result_chars,
            "parallel_calls": config.parallel_calls,
            "max_response_bytes": config.max_response_bytes,
            **asdict(config.limits),
            "threads": {"keep": config.threads.keep, "hours": config.threads.hours},
            "allow_unknown": config.allow_unknown,
            "pin_tenant": config.pin_tenant,
            "tenants": {
                tenant.id: _tenant(tenant, groups, with_note=tenant_id is None)
                for tenant in config.tenants.values()
                if tenant_id in (None, tenant.id)
            },
            "budgets": _budgets(_everybodys_budgets(config, reader), groups),
            "budget_fallback": config.budget_fallback if config.budget_fallback in groups else None,
            "min_answer_tokens": config.min_answer_tokens,
            "ledger_url": masked_url(config.ledger.url),
            "models_file": "***" if written.names_models_file else None,
            # How many roots there are, and not where: no path of this machine is shown.
            **({"files": _files(config)} if config.file_access.roots and reader is None else {}),
            "groups": {name: _group(config, group) for name, group in groups.items() if group.is_listed},
        },
        **(written.secrets if own is None else {}),
    }


def public_tenant(config: Config, tenant_id: str) -> dict[str, Any]:
    """The entry of a tenant as the operator is shown it."""
    return _tenant(config.tenants[tenant_id], config.groups, with_note=True)


def _files(config: Config) -> dict[str, Any]:
    files = config.file_access
    return {"roots": [MASK] * len(files.roots), "max_bytes": files.max_bytes, "deny": list(files.deny)}


def _fallbacks(groups: dict[str, Group], kind: str) -> list[dict[str, list[str]]]:
    behind = {name: [one for one in getattr(group, kind) if one in groups] for name, group in groups.items()}
    return [{name: names} for name, names in behind.items() if names]


def _aliases(config: Config, groups: Collection[str]) -> dict[str, Any]:
    written = config.written
    shown = {
        alias: {"model": target, "hidden": True} if alias in written.unlisted_aliases else target
        for alias, target in written.aliases.items()
        if alias in groups and target in groups
    }
    return {"model_group_alias": shown} if shown else {}


def _group(config: Config, group: Group) -> dict[str, Any]:
    former = config.written.former_names.get(group.name)
    return {"description": group.description, **({"formerly": list(former)} if former else {})}


def _tenant(tenant: Tenant, groups: Collection[str], *, with_note: bool) -> dict[str, Any]:
    """A note is between the operator and the file."""
    limits = {
        "max_concurrency": tenant.max_concurrency,
        "rpm": tenant.rpm,
        "tpm": tenant.tpm,
        "max_effort": tenant.max_effort,
    }
    shown = {
        "groups": [*tenant.groups, *tenant.patterns],
        "budgets": _budgets(tenant.budgets, groups),
        **{name: limit for name, limit in limits.items() if limit is not None},
        **({} if tenant.files is None else {"files": [MASK] * len(tenant.files)}),
    }
    return shown | ({"note": tenant.note} if tenant.note and with_note else {})


def _everybodys_budgets(config: Config, reader: Tenant | None) -> tuple[Budget, ...]:
    """The budgets of tenants that have none of their own: to a reader that has some, they are others'."""
    return config.budgets if reader is None or reader.budgets == config.budgets else ()


def _budgets(budgets: Iterable[Budget], groups: Collection[str]) -> list[dict[str, Any]]:
    """Those that are on every group or on one that is shown."""
    shown = []
    for budget in budgets:
        names = [name for name in budget.groups if name in groups]
        if names or not budget.groups:
            shown.append({"usd": budget.limit_nusd / NUSD, "per": budget.per, **({"groups": names} if names else {})})
    return shown
