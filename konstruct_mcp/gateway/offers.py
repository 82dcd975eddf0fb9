"""What tenants may choose among, to be compared with what it was: who is told that the groups have changed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.config.model import Config, Tenant, default_among
from konstruct_mcp.gateway.caller import anybody
from konstruct_mcp.gateway.reload import Generation


@dataclass(frozen=True, slots=True)
class _Choice:
    """Of one tenant, by name."""

    groups: tuple[str, ...]
    rest: Hashable


@dataclass(frozen=True, slots=True)
class Offers:
    """The groups as they are described, and which of them each tenant may choose.

    Attributes:
        groups: of each group that is listed, all that is said of it but its state.
        tenants: those that the config or the ledger's database names.
        anybody: a tenant that nothing names; None where there can be none.
    """

    groups: Mapping[str, Any]
    tenants: Mapping[str, _Choice]
    anybody: _Choice | None

    def changed_since(self, earlier: Offers) -> frozenset[str] | None:
        """The tenants who are offered something else than before; None where those are among them whom nothing names,
        and so perhaps everybody."""
        names = {*self.groups, *earlier.groups}
        groups = {name for name in names if self.groups.get(name) != earlier.groups.get(name)}

        def differs(now: _Choice | None, before: _Choice | None) -> bool:
            return now != before or (now is not None and not groups.isdisjoint(now.groups))

        if differs(self.anybody, earlier.anybody):
            return None
        tenants = {*self.tenants, *earlier.tenants}
        return frozenset(name for name in tenants if differs(self.tenants.get(name), earlier.tenants.get(name)))


def offers(generation: Generation) -> Offers:
    """Those of the config in use."""
    config, routes = generation.config, generation.routes
    listed = [group for group in config.groups.values() if group.is_listed]
    return Offers(
        {group.name: (group, [routes.facts(deployment) for deployment in group.deployments]) for group in listed},
        {name: _choice(config, tenant) for name, tenant in config.tenants.items()},
        _choice(config, anybody(config, "")) if config.allow_unknown else None,
    )


def _choice(config: Config, tenant: Tenant) -> _Choice:
    groups = tuple(name for name in tenant.groups if config.groups[name].is_listed)
    default, has_threads = default_among(config.default_group, tenant.groups), config.threads.keep != "off"
    reads_files = bool(config.file_access.roots if tenant.files is None else tenant.files)  # whose argument is offered
    return _Choice(groups, (tenant.patterns, default, has_threads, reads_files, config.parallel_calls))
