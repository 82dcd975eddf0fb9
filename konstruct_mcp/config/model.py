"""The configuration, as frozen values: `Config` and what it is made of.

`reading.load_config` makes it. It is full of secrets. `public.public_config` gives what may be shown of it.
A little long, because each field is told at its class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from konstruct_mcp.config.auth import AuthSettings
from konstruct_mcp.config.files import FileSettings
from konstruct_mcp.config.http import HttpSettings
from konstruct_mcp.config.masking import masked_url
from konstruct_mcp.config.metrics import MetricsSettings
from konstruct_mcp.config.model_fields import Entry
from konstruct_mcp.config.model_lookup import Models
from konstruct_mcp.config.redis import RedisPlace
from konstruct_mcp.config.threads import ThreadSettings
from konstruct_mcp.core.budgets import Budget
from konstruct_mcp.core.effort import Effort
from konstruct_mcp.core.identity import StoredTenant
from konstruct_mcp.core.requests import Limits

RoutingStrategy = Literal[
    "latency-based-routing",
    "simple-shuffle",
    "least-busy",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based-routing",
]

_MOST_ON_DEMAND = 32  # groups: each has deployments with connections of their own. A config that uses more names them


FALLBACK_KINDS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")  # lists of groups, of a `Group`
# What holds where a config says nothing else.
TRY_TIMEOUT_S = 120.0
NUM_RETRIES = 2  # of a try that a retry can cure
ALLOWED_FAILS = 2  # failed tries of a deployment within a minute, before it cools down
COOLDOWN_S = 30.0


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Deployment:
    """One provider's model, as the config names it.

    Attributes:
        id: unique in the config: `group/position`, counted from 1.
        group: the model group it belongs to.
        name: what users read: its model, with `#2` … behind it where its group has that model more than once.
        model: `provider/model` as users read it. LiteLLM has two names for Ollama; here its provider is `ollama`.
        params: what a provider call needs beside the request: `model` as the config has it, `api_base`, `api_key`,
            `api_version` … with environment references resolved. Holds secrets. Prices are in it too, because LiteLLM
            computes the cost from them; routing keys are not.
        order: the lowest is asked first; None (not given) comes after every number.
        timeout_s: what one try may take, in seconds.
        num_retries: further tries after a first one that failed in a way that a retry can cure.
        cooldown_s: how long it is passed over after failing too often, in seconds.
        weight: its share under `simple-shuffle`, None where not given.
        copies: how many identical entries of the file it stands for.
        rpm, tpm, max_parallel_requests: the operator's own limits, None where not given.
        input_cost, output_cost: US dollars per token, None where the config gives none.
        context_window, max_output_tokens: tokens, None where the config gives none.
        supports: capability (`tools`, `vision`, `pdf`, `structured_output`) → whether it has it, if the config says so.
        data: what is known of its model, in LiteLLM's field names; see `entry`.
        unavailable: why it cannot be called ("ANTHROPIC_API_KEY is not set"), None when it can.
        secrets: the texts of `params` that came from the environment, except for its model.
    """

    id: str
    group: str
    name: str
    model: str
    params: Mapping[str, Any] = field(repr=False, hash=False)
    order: int | None = None
    timeout_s: float = TRY_TIMEOUT_S
    num_retries: int = NUM_RETRIES
    cooldown_s: float = COOLDOWN_S
    weight: float | None = None
    copies: int = 1
    rpm: int | None = None
    tpm: int | None = None
    max_parallel_requests: int | None = None
    input_cost: float | None = None
    output_cost: float | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    supports: Mapping[str, bool] = field(default_factory=dict, hash=False)
    data: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    unavailable: str | None = None
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


def entry(deployment: Deployment) -> Entry:
    """What is known of a deployment's model, in LiteLLM's field names; empty where nothing is known.

    It comes from the tables of model data and, above those, from the config's `model_info`. Every field in it is of the
    type that `model_fields` says.
    """
    return deployment.data


@dataclass(frozen=True, slots=True)
class Group:
    """A model group.

    An alias is a group too, of the same deployments; these keep the name of their own group.

    Attributes:
        deployments: in the file's order.
        fallbacks, context_window_fallbacks, content_policy_fallbacks: the groups that are asked after it.
        is_listed: whether it is shown to those who choose a group.
        pattern: the wildcard that it was made from, None for a group that the file names.
        alias_of: the group that it is another name of, None for one that is no alias.
    """

    name: str
    description: str
    deployments: tuple[Deployment, ...]
    fallbacks: tuple[str, ...] = ()
    context_window_fallbacks: tuple[str, ...] = ()
    content_policy_fallbacks: tuple[str, ...] = ()
    is_listed: bool = True
    pattern: str | None = None
    alias_of: str | None = None

    @property
    def is_set_up(self) -> bool:
        """Whether one of its deployments can be asked."""
        return any(deployment.unavailable is None for deployment in self.deployments)


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A pattern such as `openai/*`: any model name that matches it may be asked for, although no group has that name.

    The models of its deployments still have the `*`; the deployments of a group that is made on demand have the name in
    its place.
    """

    pattern: str
    deployments: tuple[Deployment, ...]


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody on whose account calls are made.

    Attributes:
        groups: the groups that may be used, in the file's order.
        budgets: those of this tenant, or of every tenant where it has none of its own.
        note: for the operator.
        patterns: the wildcards that may be used, in the file's order.
        max_concurrency: its calls that may be under way at once at one server; None for as many as there are places.
        rpm, tpm: requests and tokens that it may use within a minute, on all servers together; None without limit.
        max_effort: how hard it may have a model think; None without limit.
        files: the folders that its files may be in; None where its entry says nothing of them.
    """

    id: str
    groups: tuple[str, ...]
    budgets: tuple[Budget, ...] = ()
    note: str | None = None
    patterns: tuple[str, ...] = ()
    max_concurrency: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    max_effort: Effort | None = None
    files: tuple[Path, ...] | None = None

    def may_use(self, group: Group) -> bool:
        return group.name in self.groups or group.pattern in self.patterns


@dataclass(frozen=True, slots=True)
class StoredReading:
    """A tenant of the ledger's database, as a config reads it.

    Attributes:
        tenant: None where nothing can be made of its entry.
        faults: what is wrong with the entry, one line each, as for an entry of the config.
        groups: its groups that were made from wildcards.
    """

    tenant: Tenant | None
    faults: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Where the accounts are kept.

    Attributes:
        url: SQLAlchemy's URL of the database. May hold a password.
        spool: the folder for rows that cannot be written there for the moment.
    """

    url: str = field(repr=False)
    spool: Path

    @property
    def shown(self) -> str:
        """The place as the operator may see it: a file's path, or the masked URL of a database."""
        if self.url.startswith("sqlite"):
            return self.url.partition("://")[2].partition("?")[0].removeprefix("/")
        return masked_url(self.url)


@dataclass(frozen=True, slots=True)
class Written:
    """What a config shows of its file, beyond what the file means: plain data, every secret masked.

    Attributes:
        source: where it came from, without a path.
        model_list: the entries for chat models, in the file's order.
        num_retries, timeout_s, cooldown_s: of deployments that have none of their own.
        aliases: alias → the group that it is another name of.
        unlisted_aliases: the aliases that are not listed.
        former_names: group → the names that it had before.
        names_models_file: whether `konstruct.models_file` is given.
        secrets: the sections that hold little but secrets (`environment_variables`, `credential_list`): names alone.
    """

    source: str = ""
    model_list: tuple[Mapping[str, Any], ...] = ()
    num_retries: int = NUM_RETRIES
    timeout_s: float = TRY_TIMEOUT_S
    cooldown_s: float = COOLDOWN_S
    aliases: Mapping[str, str] = field(default_factory=dict)
    unlisted_aliases: frozenset[str] = frozenset()
    former_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names_models_file: bool = False
    secrets: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration.

    Attributes:
        source: where it came from, for the operator: a path, "the built-in config", or "the given config".
        file: the absolute path of its file; None for the built-in one, and for one that a program gave.
        is_built_in: whether it is the built-in one.
        files: the absolute paths of its file and of those that it includes.
        groups: by name, in the file's order; then the aliases, and the groups that were made from wildcards.
        wildcards: in the file's order.
        on_demand: the groups that were made from wildcards because a call named them, oldest first, each with the
            tenant whose call it was.
        default_group: the group of a call that names none; a key of `groups`, or "" where there are wildcards only.
        default_reason: why that is the default group of the built-in config, as the end of a sentence; "" for a file.
        ways_on: what to do where nothing of the built-in config is set up; "" else.
        default_tenant: the tenant of a call that names none.
        known_tenant: the tenant whose server this is, where the environment or the config says so.
        tenants: those that the config names, by id; then those that the ledger's database has.
        stored_tenants: the ids of the latter.
        refused_tenants: ids of the database's tenants that are disabled, or whose entries this config has no use for.
        allow_unknown: whether a call may be on the account of a tenant that the config does not name.
        pin_tenant: whether all calls are on the account of `default_tenant`.
        former_groups: names that groups had before; what was spent under these still counts.
        budgets: those of every tenant that has none of its own.
        budget_fallback: the group whose free deployments may answer where a budget does not afford the call.
        min_answer_tokens: where a budget affords no more tokens of an answer than this, the provider is not asked.
        ledger: where the accounts are kept.
        timeout_s: the deadline of a whole call, in seconds.
        max_concurrency: calls that may be under way at once.
        max_queue: calls that may wait for their turn; more are refused.
        max_result_chars: characters of an answer that an assistant is given at once; None for what its client shows.
        parallel_calls: whether clients are told that calls change nothing, so that they may make several at once.
        max_response_bytes: bytes that are read of a provider's answer.
        limits: what one request may hold.
        threads: where conversations are kept, to be continued.
        http, auth, metrics: how it is served over HTTP, whose requests are answered, where metrics are.
        file_access: which files may be sent to models.
        redis: where what servers share is kept; None where each is alone.
        allowed_fails: failed tries within a minute that a deployment may have before it cools down.
        routing_strategy: how to choose among deployments of equal order.
        variables: the environment variables that the file sets for LiteLLM and the clouds' own clients; without those
            that only `params` refer to. Holds secrets.
        warnings: what of the file is lost or has no effect here, one line each.
        written: what is shown of the file as it is written, every secret masked.
        models: the tables of model data.
        models_file: the user's own table, which need not exist; None for a user without a data folder.
        broken_table: whether that table cannot be used; such a config is loaded only to replace the table.
        make: makes the group of a name from a wildcard that it matches; gives None where none does.
        read_stored: reads a tenant of the database; see `StoredReading`.
    """

    source: str
    file: Path | None
    groups: Mapping[str, Group]
    default_group: str
    default_tenant: str
    known_tenant: str | None
    tenants: Mapping[str, Tenant]
    allow_unknown: bool
    budgets: tuple[Budget, ...]
    budget_fallback: str | None
    min_answer_tokens: int
    ledger: LedgerPlace
    timeout_s: float
    max_concurrency: int
    max_queue: int
    max_result_chars: int | None
    max_response_bytes: int
    allowed_fails: int
    routing_strategy: RoutingStrategy
    warnings: tuple[str, ...]
    written: Written = field(default_factory=Written)
    pin_tenant: bool = False
    parallel_calls: bool = True
    default_reason: str = ""
    ways_on: str = ""
    models: Models = field(default_factory=Models, repr=False, compare=False)  # what is used is in the deployments
    models_file: Path | None = None
    broken_table: bool = False
    is_built_in: bool = False
    files: tuple[Path, ...] = ()
    wildcards: tuple[Wildcard, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    former_groups: frozenset[str] = frozenset()
    on_demand: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    threads: ThreadSettings = field(default_factory=ThreadSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    file_access: FileSettings = field(default_factory=FileSettings)
    redis: RedisPlace | None = None
    make: Callable[[str], Group | None] = field(default=lambda _: None, repr=False, compare=False)
    stored_tenants: frozenset[str] = frozenset()
    refused_tenants: frozenset[str] = frozenset()
    read_stored: Callable[[StoredTenant], StoredReading] = field(
        default=lambda _: StoredReading(None), repr=False, compare=False
    )

    @property
    def callers(self) -> Collection[str]:
        """The tenants that the config names and that may call here."""
        return (self.default_tenant,) if self.pin_tenant else self.tenants.keys()

    @property
    def most_at_once(self) -> dict[str, int]:
        """How many calls of a tenant may be under way at once, of those that have such a limit."""
        limits = {tenant.id: tenant.max_concurrency for tenant in self.tenants.values()}
        return {tenant: limit for tenant, limit in limits.items() if limit is not None}

    @property
    def deployments(self) -> dict[str, Deployment]:
        """The deployments of all groups by their ids, each once though an alias of its group has it too."""
        return {deployment.id: deployment for group in self.groups.values() for deployment in group.deployments}

    def matching(self, name: str) -> Group | None:
        """The group of this name: one of the config's, or one made from the wildcard that the name matches, which
        `with_group` can add to the config. None where there is neither."""
        return self.groups.get(name) or self.make(name)

    def with_group(self, group: Group, tenant: str) -> Config:
        """The same config with a group that was made on demand of a tenant. If there are too many, the tenant that has
        most of them loses its oldest."""
        kept = {name: whose for name, whose in self.on_demand.items() if name != group.name} | {group.name: tenant}
        while len(kept) > _MOST_ON_DEMAND:
            [(greediest, _)] = Counter(kept.values()).most_common(1)
            del kept[next(name for name, whose in kept.items() if whose == greediest)]
        groups = {name: one for name, one in self.groups.items() if name not in self.on_demand or name in kept}
        return replace(self, groups=MappingProxyType(groups | {group.name: group}), on_demand=MappingProxyType(kept))

    def with_stored(self, stored: Sequence[StoredTenant]) -> Config:
        """The same config with exactly these tenants of the database. One whose name the config has too is passed over:
        the config's own entries win."""
        tenants = {name: tenant for name, tenant in self.tenants.items() if name not in self.stored_tenants}
        groups, own, refused, named = dict(self.groups), frozenset(tenants), set[str](), set[str]()
        for one in stored:
            if one.id in own:
                continue
            read = self.read_stored(one)
            if one.disabled or read.tenant is None or read.faults:
                refused.add(one.id)
                continue
            tenants[one.id] = read.tenant
            groups |= {group.name: group for group in read.groups if group.name not in groups}
            named |= {group.name for group in read.groups}
        return replace(
            self,
            groups=MappingProxyType(groups),
            on_demand=MappingProxyType({n: whose for n, whose in self.on_demand.items() if n not in named}),
            tenants=MappingProxyType(tenants),
            stored_tenants=frozenset(tenants) - own,
            refused_tenants=frozenset(refused),
        )

    def with_redis_of(self, other: Config) -> Config:
        """The same config with the other's Valkey server."""
        return replace(self, redis=other.redis)

    def with_ledger_of(self, other: Config) -> Config:
        """The same config with the other's ledger."""
        return replace(self, ledger=other.ledger)


def default_among(default_group: str, allowed: Sequence[str]) -> str:
    """The group of a call that names none, for a tenant who may use the `allowed` ones; "" where that is none."""
    return default_group if default_group in allowed else next(iter(allowed), "")
