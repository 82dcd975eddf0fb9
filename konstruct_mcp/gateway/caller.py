"""Who makes a request, and what follows from it.

This is the one place that decides on whose account a call is, and whose groups, config, usage and kept answers are
shown. A transport makes a `Caller` for each request; everything else asks it.

- Over stdio, on the command line and in Python the caller is the process: `Caller()`. It may name any tenant that the
  config allows, and a server without a tenant of its own (`Config.known_tenant`) is the operator's: it shows all.
- A caller that a token has verified is one tenant. It spends and sees as that tenant and as no other. Another tenant's
  name is refused in the words for a name that there is not, so that nobody learns who else is a tenant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Self

from konstruct_mcp.config.model import Config, Tenant, default_among
from konstruct_mcp.core.errors import InvalidArgumentError, UnknownGroupError, UnknownTenantError
from konstruct_mcp.core.identity import OPERATOR
from konstruct_mcp.core.text import TENANT_ID, TENANT_ID_RULE, cut, quoted

Established = Literal["process", "call", "token"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Attributes:
        tenant: its id; None where the config's default tenant is meant.
        established: how that is known: it is the `process`'s default, the `call`'s own word, or a verified `token` says
            so.
        subject: whom the token was issued to: a key's prefix, or the subject of an issuer.
        scopes: what the token allows; `operator` lets it read everybody's account.
        is_program: whether it is the program itself, or the person at the command line, rather than a client of it:
            it may send any file that it can read, but for those that are always kept back.
        is_remote: whether it comes over HTTP, be it verified or not: the folders of the process's own client are not
            open to it.

    Raises:
        InvalidArgumentError: the id is malformed, or a token names no tenant.
    """

    tenant: str | None = None
    established: Established = "process"
    subject: str | None = None
    scopes: frozenset[str] = frozenset()
    is_program: bool = False
    is_remote: bool = False

    def __post_init__(self) -> None:
        if self.tenant is not None:
            check_tenant_id(self.tenant)
        if (self.tenant is None) is not (self.established == "process"):  # the process's own is for the config to say
            raise InvalidArgumentError("tenant_id: a caller has one if, and only if, its call or its token says so")

    @classmethod
    def verified(cls, tenant: str, *, subject: str | None = None, scopes: Iterable[str] = ()) -> Self:
        """A caller whose token has been verified, and stands for this tenant."""
        return cls(tenant, "token", subject, frozenset(scopes))

    @property
    def is_verified(self) -> bool:
        return self.established == "token"

    # -- on whose account ----------------------------------------------------------------------------------------------

    def naming(self, tenant_id: str | None) -> Caller:
        """The same caller, of a call that names this tenant; None for one that names none.

        Raises:
            UnknownTenantError: it is a verified caller, and this is another's name.
        """
        if tenant_id is None or tenant_id == self.tenant:
            return self
        if self.is_verified:
            raise UnknownTenantError(f"no tenant {quoted(tenant_id)} here; leave tenant_id out")
        return replace(self, tenant=tenant_id, established="call")

    def tenant_id(self, config: Config) -> str:
        """The id of the tenant on whose account it calls, whether there is such a tenant or not."""
        return config.default_tenant if self.tenant is None else self.tenant

    def account(self, config: Config) -> Tenant:
        """The tenant on whose account it calls.

        Raises:
            UnknownTenantError: there is no such tenant, or this is another tenant's server.
        """
        name = self.tenant_id(config)
        tenant = config.tenants.get(name)
        if config.pin_tenant and name != config.default_tenant:
            tenant = None  # refused in the words for a tenant that there is not
        elif tenant is None and config.allow_unknown and name not in config.refused_tenants:
            tenant = anybody(config, name)
        if tenant is None:
            raise UnknownTenantError(f"no tenant {quoted(name)}{self._advice(config)}")
        return tenant

    def _advice(self, config: Config) -> str:
        match self.established:
            case "process":
                return ", which calls without a tenant_id are on; pass the one you were given"
            case "token":
                return " here, which your access token stands for; ask whoever runs this server"
            case "call":
                is_alone = config.pin_tenant or list(config.tenants) == [config.default_tenant]
                return " here; leave tenant_id out" if is_alone else "; pass the one you were given"

    def file_roots(self, config: Config, tenant: Tenant) -> tuple[Path, ...] | None:
        """The folders that the files of its calls on this account may be in; None for anywhere."""
        if self.is_program:
            return None
        if tenant.files is not None:
            return tenant.files
        return () if self.is_remote or self.is_verified else config.file_access.roots

    # -- what is shown -------------------------------------------------------------------------------------------------

    def shown(self, config: Config) -> Tenant:
        """The tenant whose groups are shown. Where the process has no tenant of its own, so that each call has to name
        one, a stand-in that may use every group.

        Raises:
            UnknownTenantError: there is no tenant of this verified caller.
        """
        try:
            return self.account(config)
        except UnknownTenantError:
            if self.is_verified:
                raise
            return anybody(config, "")

    def only(self, config: Config) -> str | None:
        """The one tenant whose affairs it may read; None for whoever runs the process, who may read everybody's."""
        return self.tenant if self.is_verified else config.known_tenant

    def may_read(self, config: Config, tenant_id: str) -> bool:
        """Whether it may read this tenant's kept answers."""
        return self.only(config) in (None, tenant_id)

    @property
    def is_operator(self) -> bool:
        """Whether its token lets it read everybody's account, and nothing else of theirs."""
        return self.is_verified and OPERATOR in self.scopes

    def only_account(self, config: Config) -> str | None:
        """The one tenant whose usage and budgets it may read; None where it may read everybody's."""
        return None if self.is_operator else self.only(config)

    def may_read_account(self, config: Config, tenant_id: str) -> bool:
        """Whether it may read this tenant's usage and budgets."""
        return self.only_account(config) in (None, tenant_id)


def group_of(config: Config, name: str | None, tenant: Tenant | None) -> str:
    """The group that a call of a tenant asks for; `tenant` is None for the operator, who may name every group.

    Raises:
        UnknownGroupError: there is no such group for the tenant; it lists those there are.
        InvalidArgumentError: the call has to name a group, since there is no default one.
    """
    allowed = tuple(config.groups) if tenant is None else tenant.groups
    patterns = () if tenant is None else tenant.patterns
    if name is None:
        if default := default_among(config.default_group, allowed):
            return default
        raise InvalidArgumentError(f"model_group: is needed: a name that matches {' or '.join(patterns)}")
    group = config.matching(name) if patterns else config.groups.get(name)
    if group is None or not (tenant is None or tenant.may_use(group)):
        listed = [one for one in allowed if config.groups[one].is_listed]
        raise unknown_group(name, listed, patterns)
    return name


def unknown_group(name: str, groups: Iterable[str], patterns: Sequence[str] = ()) -> UnknownGroupError:
    """The error for a name that none of these groups has and none of these wildcards matches."""
    there_are = [f"groups: {', '.join(sorted(groups))}"] if (groups := list(groups)) else []
    there_are += [f"or a chat model's name that matches {' or '.join(patterns)}"] if patterns else []
    close = get_close_matches(cut(name).lower(), groups, n=1, cutoff=0.7)
    meant = [f"did you mean {close[0]}?"] if close else []
    return UnknownGroupError(f"no group {quoted(name)}; {' '.join([*meant, ', '.join(there_are)])}")


def check_tenant_id(tenant_id: str) -> None:
    """Raises InvalidArgumentError if it is no id of a tenant."""
    if not TENANT_ID.match(tenant_id):
        raise InvalidArgumentError(f"tenant_id: {TENANT_ID_RULE}")


def default_account(config: Config) -> Tenant:
    """The config's default tenant, whether it is named or not: a check of the operator's is on its account."""
    name = config.default_tenant
    return config.tenants.get(name) or anybody(config, name)


def anybody(config: Config, name: str) -> Tenant:
    """A tenant that the config does not name: it may use every group, within the budgets that are everybody's."""
    patterns = tuple(wildcard.pattern for wildcard in config.wildcards)
    # Not those that were made on demand: nobody learns which models others have asked for.
    groups = tuple(group for group in config.groups if group not in config.on_demand)
    return Tenant(name, groups, config.budgets, patterns=patterns)
