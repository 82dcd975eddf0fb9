"""Tenants and budgets: who may call, which groups they may use, and what they may spend."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from konstruct_mcp.config.files import checked_roots
from konstruct_mcp.config.findings import Findings
from konstruct_mcp.config.groups import GroupReader
from konstruct_mcp.config.model import Tenant
from konstruct_mcp.config.sections import BudgetSettings, KonstructSettings, TenantSettings
from konstruct_mcp.core.budgets import Budget
from konstruct_mcp.core.identity import DEFAULT_TENANT
from konstruct_mcp.core.money import NUSD
from konstruct_mcp.core.text import TENANT_ID, TENANT_ID_RULE, cut, quoted


@dataclass(frozen=True, slots=True)
class Tenants:
    """What the section `konstruct` says of tenants and budgets; the attributes are those of `Config`."""

    known_tenant: str | None
    default_tenant: str
    pin_tenant: bool
    tenants: Mapping[str, Tenant]
    allow_unknown: bool
    budgets: tuple[Budget, ...]
    budget_fallback: str | None


class TenantReader:
    """Reads what the section `konstruct` says of tenants and budgets."""

    def __init__(self, findings: Findings, groups: GroupReader, former_names: Mapping[str, Sequence[str]]) -> None:
        self._findings = findings
        self._groups = groups
        self._former_names = former_names  # group → the names that it had before

    def read(self, konstruct: KonstructSettings, named: str | None) -> Tenants:
        """The tenants and the budgets of the section.

        Args:
            konstruct: the section.
            named: the tenant that $KONSTRUCT_TENANT_ID names, None where it is not set.
        """
        budgets = self._budgets(konstruct.budgets, "konstruct.budgets")
        self._check_budget_fallback(konstruct.budget_fallback)
        # Without `allow_unknown`, because every invented tenant would have a budget of its own, which limits nothing.
        allow_unknown = konstruct.allow_unknown
        if allow_unknown is None:
            # Nor with tokens: else whoever an issuer knows would be a tenant.
            allow_unknown = konstruct.tenants is None and not budgets and not self._has_tokens(konstruct)
        if konstruct.tenants == {} and not allow_unknown:
            self._findings.fault("konstruct.tenants", "should name a tenant, or nobody is one")
        known_tenant = konstruct.default_tenant if named is None else self._well_formed(named)
        pin_tenant = konstruct.pin_tenant
        if pin_tenant is None:
            pin_tenant = konstruct.tenants is not None and named is not None
        if pin_tenant:
            known_tenant = known_tenant or DEFAULT_TENANT
        default_tenant = known_tenant or DEFAULT_TENANT
        entries = konstruct.tenants
        if entries is None:
            entries = {} if allow_unknown else {default_tenant: None}
        tenants = self._tenants(entries, budgets)
        if tenants and not allow_unknown and default_tenant not in tenants:
            self._no_default_tenant(konstruct.default_tenant, named, is_needed=pin_tenant)
        return Tenants(
            known_tenant, default_tenant, pin_tenant, tenants, allow_unknown, budgets, konstruct.budget_fallback
        )

    @staticmethod
    def _has_tokens(konstruct: KonstructSettings) -> bool:
        return isinstance(konstruct.auth, dict) and bool(konstruct.auth.get("jwt"))

    def read_stored(self, name: str, settings: Mapping[str, Any], defaults: tuple[Budget, ...]) -> Tenant | None:
        """A tenant that the ledger's database has, in place of the config; None for one that cannot be read at all.

        Args:
            settings: what a config could say of it.
            defaults: the budgets of those that have none of their own.
        """
        return self._tenants({name: dict(settings)}, defaults, "tenants").get(name)

    def _check_budget_fallback(self, group: str | None) -> None:
        place = "konstruct.budget_fallback"
        if group is not None and self._groups.is_group(place, group) and self._groups.is_embedded(group):
            self._findings.fault(place, f"{quoted(group)} is the embedded model, too weak for that")

    def _well_formed(self, tenant: str) -> str | None:
        if not TENANT_ID.match(tenant):
            self._findings.fault("KONSTRUCT_TENANT_ID", TENANT_ID_RULE)
            return None
        return tenant

    def _tenants(
        self, entries: Mapping[str, Any], defaults: tuple[Budget, ...], section: str = "konstruct.tenants"
    ) -> dict[str, Tenant]:
        """The tenants of the section; `defaults` are the budgets of those that have none of their own."""
        found: dict[str, Tenant] = {}
        unrestricted: set[str] = set()  # tenants that may use all groups
        for name, value in entries.items():
            place = f"{section}.{cut(name)}"
            if name in KonstructSettings.model_fields and not isinstance(value, dict | None):
                self._findings.fault(place, f"belongs one level up: konstruct.{name}")
                continue
            if not TENANT_ID.match(name):
                self._findings.fault(place, TENANT_ID_RULE)
            settings = self._findings.parse(TenantSettings, {} if value is None else value, place)
            if settings is None:
                continue
            groups: tuple[str, ...] = ()
            wildcards = self._groups.wildcards
            patterns = tuple(wildcards)
            if settings.groups is None:
                unrestricted.add(name)
            else:
                patterns = tuple(pattern for pattern in wildcards if pattern in settings.groups)
                names = [one for one in settings.groups if one not in wildcards]
                groups = self._groups.named_in(names, place, patterns)
            own = None if settings.budgets is None else self._budgets(settings.budgets, f"{place}.budgets")
            found[name] = Tenant(
                name,
                groups,
                defaults if own is None else own,
                settings.note,
                patterns,
                settings.max_concurrency,
                settings.rpm,
                settings.tpm,
                settings.max_effort,
                None if settings.files is None else checked_roots(settings.files, f"{place}.files", self._findings),
            )
        # Only now all groups are made from wildcards that a tenant's entry names.
        for name, tenant in found.items():
            of_patterns = {group for group, pattern in self._groups.made_from.items() if pattern in tenant.patterns}
            allowed = self._groups.known if name in unrestricted else {*tenant.groups, *of_patterns}
            found[name] = replace(tenant, groups=tuple(group for group in self._groups.known if group in allowed))
        return found

    def _budgets(self, entries: Sequence[Any], place: str) -> tuple[Budget, ...]:
        found: list[Budget] = []
        for position, entry in enumerate(entries):
            here = f"{place}[{position}]"
            settings = self._findings.parse(BudgetSettings, entry, here)
            if settings is None:
                continue
            limit = int(settings.usd * NUSD)  # rounded down: never more than what is written
            if settings.groups is None:
                found.append(Budget(limit, settings.per))
            elif groups := self._groups.named_in(settings.groups, here):
                names = self._groups.with_aliases(groups)
                former = dict.fromkeys(itertools.chain(*(self._former_names.get(name, ()) for name in names)))
                found.append(Budget(limit, settings.per, names, tuple(former)))
        return tuple(found)

    def _no_default_tenant(self, default: str | None, named: str | None, *, is_needed: bool) -> None:
        """Say that a call which names no tenant is refused: a fault where somebody has named a default, else a loss."""
        if named is not None:
            self._findings.fault("KONSTRUCT_TENANT_ID", "is no tenant of konstruct.tenants")
        elif default is not None:
            self._findings.fault("konstruct.default_tenant", "is no tenant of konstruct.tenants")
        elif is_needed:
            self._findings.fault(
                "konstruct.pin_tenant",
                f'there is no "{DEFAULT_TENANT}" in konstruct.tenants; konstruct.default_tenant or '
                "KONSTRUCT_TENANT_ID has to say whose server this is",
            )
        else:
            self._findings.lost.append(
                f'konstruct.tenants: there is no "{DEFAULT_TENANT}", so a call without a tenant_id is refused; '
                "konstruct.default_tenant or KONSTRUCT_TENANT_ID can name another"
            )
