"""YAML and environment → one frozen `Config`, every fault named at once.

Whatever the file holds, the outcome is a `Config` or one `ConfigError`. It is full of secrets, and any value may be
one. So what is said about it names places, keys, groups and environment variables, and never quotes another value;
and what is shown of it (`Config.public`) is by permission, key by key.

Three steps, each of which sees only what the one before let through: `source` reads YAML into plain data; the pydantic
models parse section by section; `_Reading` crosses them with the environment and with each other. Faults are
collected, not raised, until all of it has been read.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from konstruct_mcp.config import embedded
from konstruct_mcp.config.access import Access, absent, access, asks_for_key, is_provider, provider_of, where
from konstruct_mcp.config.environment import (
    REFERENCE,
    is_placeholder,
    is_reference,
    is_sendable,
    is_unexpanded,
    is_url,
    process_environ,
    reference,
    value_of,
    variables_of,
)
from konstruct_mcp.config.litellm_keys import (
    KNOWN_LITELLM_SETTINGS,
    KNOWN_PARAMS,
    KNOWN_ROUTER_SETTINGS,
    TAKE_THE_GENERAL_ADDRESS,
    meant,
    typed,
)
from konstruct_mcp.config.masking import masked, masked_url, masked_values, which_database
from konstruct_mcp.config.models import Models, embeds, is_mode, merged, read_file, sound
from konstruct_mcp.config.models import is_price as is_price  # of litellm_params, too
from konstruct_mcp.config.source import Source, data_folder, read_source
from konstruct_mcp.config.spending import PERIODS, limits, warning
from konstruct_mcp.config.wildcards import is_pattern, match, model_of
from konstruct_mcp.core.budgets import Budget, Per
from konstruct_mcp.core.errors import ConfigError, EmbeddedError, install_advice
from konstruct_mcp.core.jsontext import MOST_VALUES
from konstruct_mcp.core.money import NUSD
from konstruct_mcp.core.requests import Limits
from konstruct_mcp.core.text import LONGEST_NAME, TENANT_ID, TENANT_ID_RULE, cut, quoted
from konstruct_mcp.core.validation import flaws

RoutingStrategy = Literal[
    "latency-based-routing",
    "simple-shuffle",
    "least-busy",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based-routing",
]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Deployment:
    """One provider's model, as the config names it.

    Attributes:
        id: unique in the config: `group/position`, counted from 1.
        group: the model group it belongs to.
        name: what users read: its model, with `#2` … behind it where its group has that model more than once.
        model: `provider/model` as users read it; the provider of Ollama's two LiteLLM names is `ollama`.
        params: what a provider call needs beside the request: `model` as the config has it, `api_base`, `api_key`,
            `api_version` … with environment references resolved. Holds secrets. Prices are in it too, because LiteLLM
            computes the cost from them; routing keys are not.
        order: lower is asked first; None (not given) comes after every number.
        timeout_s: what one try may take, in seconds.
        num_retries: further tries after the first, for what a retry can cure.
        cooldown_s: how long it is passed over after failing too often, in seconds.
        weight: its share under `simple-shuffle`, None where not given.
        copies: how many entries of the file it stands for, being the same.
        rpm, tpm, max_parallel_requests: the operator's own limits, None where not given.
        input_cost, output_cost: US dollars per token, None where the config gives none.
        context_window, max_output_tokens: tokens, None where the config gives none.
        supports: capability (`tools`, `vision`, `structured_output`) → whether, for those the config settles.
        data: what is known of its model, in LiteLLM's field names: `models.entry`.
        unavailable: why it cannot be called ("ANTHROPIC_API_KEY is not set"), None when it can.
        secrets: the texts of `params` that came from the environment, but for its model.
    """

    id: str
    group: str
    name: str
    model: str
    params: Mapping[str, Any] = field(repr=False, hash=False)
    order: int | None = None
    timeout_s: float = 120.0
    num_retries: int = 2
    cooldown_s: float = 30.0
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


@dataclass(frozen=True, slots=True)
class Group:
    """A model group: deployments in the file's order, and the groups behind it.

    An alias is a group of the same deployments, which keep the name of their own group. `is_listed` says whether it is
    shown to who chooses one; `pattern` is the wildcard that it was made from, None for one that the file names;
    `alias_of` is the group that it is another name of.
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
    """Model names that may be asked for although no group has them: `openai/*`. Its deployments are those that one is
    made from, with the `*` still in their models."""

    pattern: str
    deployments: tuple[Deployment, ...]


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody on whose account calls are made: the groups and wildcards they may use, in the file's order, and their
    budgets."""

    id: str
    groups: tuple[str, ...]
    budgets: tuple[Budget, ...] = ()
    note: str | None = None
    patterns: tuple[str, ...] = ()

    def may_use(self, group: Group) -> bool:
        return group.name in self.groups or group.pattern in self.patterns


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Where the accounts are kept: a SQLAlchemy URL, which may hold a password, and the folder for what cannot be
    written there."""

    url: str = field(repr=False)
    spool: Path

    @property
    def shown(self) -> str:
        """For whoever runs it: a file's path, or where a database is."""
        if self.url.startswith("sqlite"):
            return self.url.partition("://")[2].partition("?")[0].removeprefix("/")
        return masked_url(self.url)


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration.

    Attributes:
        source: where it came from, for the operator: a path, or "the built-in config".
        file: the absolute path of its file, None for the built-in one.
        files: those of it and of what it includes.
        groups: by name, in the file's order; then the aliases, and what was made from wildcards.
        wildcards: in the file's order.
        on_demand: the groups that calls have had made from wildcards, oldest first.
        default_group: the group of a call that names none; a key of `groups`, or "" where there are wildcards only.
        default_tenant: the tenant of a call that names none.
        known_tenant: whose server this is, where the environment or the config says so.
        tenants: those that are named, by id.
        allow_unknown: whether there are others.
        pin_tenant: whether calls are on the account of `default_tenant` alone.
        former_groups: names that groups had before, by which what was spent on them is known.
        budgets: of every tenant that has none of its own.
        budget_fallback: the group whose free deployments may answer where a budget does not afford the call.
        min_answer_tokens: an answer that a budget affords no more than this many tokens of is not worth asking for.
        ledger: where the accounts are kept.
        timeout_s: the deadline of a whole call, in seconds.
        max_concurrency: calls under way at once.
        max_queue: calls that may wait for their turn; more are refused.
        max_result_chars: characters of an answer that an assistant is given at once.
        max_response_bytes: that are read of a provider's answer.
        limits: what one request may hold.
        allowed_fails: failed tries within a minute that a deployment may have before it cools down.
        routing_strategy: how to choose among deployments of equal order.
        variables: those that the file sets in the environment for LiteLLM and the clouds' own clients: without those
            whose values are in `params` and that nobody else needs. Holds secrets.
        warnings: what of the file is lost or has no effect here, one line each.
        public: the effective config as plain data, every secret masked.
        models: what is known of models.
        models_file: the user's own table of them, which need not exist; None for a user without a data folder.
        broken_table: whether it is there and cannot be used, in a config that is loaded to replace it.
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
    max_result_chars: int
    max_response_bytes: int
    allowed_fails: int
    routing_strategy: RoutingStrategy
    warnings: tuple[str, ...]
    public: Mapping[str, Any]
    pin_tenant: bool = False
    models: Models = field(default_factory=Models, repr=False, compare=False)  # what is used is in the deployments
    models_file: Path | None = None
    broken_table: bool = False
    files: tuple[Path, ...] = ()
    wildcards: tuple[Wildcard, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    former_groups: frozenset[str] = frozenset()
    on_demand: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    make: Callable[[str], Group | None] = field(default=lambda _: None, repr=False, compare=False)

    @property
    def callers(self) -> Collection[str]:
        """The tenants that are named and may call here."""
        return (self.default_tenant,) if self.pin_tenant else self.tenants.keys()

    def matching(self, name: str) -> Group | None:
        """The group of this name that a wildcard stands for; None where none does. It is one of the config's, or is to
        be made one by `with_group`."""
        return self.groups.get(name) or self.make(name)

    def with_group(self, group: Group) -> Config:
        """The same with a group made on demand, and without the oldest of those if there are too many."""
        names = (*(name for name in self.on_demand if name != group.name), group.name)
        kept = names[-_MOST_ON_DEMAND:]
        groups = {name: one for name, one in self.groups.items() if name not in names or name in kept}
        return replace(self, groups=MappingProxyType(groups | {group.name: group}), on_demand=kept)

    def with_ledger_of(self, other: Config) -> Config:
        """The same, but for the ledger."""
        shown = {**self.public["konstruct"], "ledger_url": other.public["konstruct"]["ledger_url"]}
        return replace(self, ledger=other.ledger, public={**self.public, "konstruct": shown})


def default_among(default_group: str, allowed: Sequence[str]) -> str:
    """The group of a call that names none, of a tenant who may use these; "" where there is none."""
    return default_group if default_group in allowed else next(iter(allowed), "")


_MOST_ON_DEMAND = 32  # each is a deployment, with connections of its own; who asks for more models names them


def load_config(
    path: Path | None = None, environ: Mapping[str, str] | None = None, *, needs_table: bool = True
) -> Config:
    """The effective config: from `path`, else `$KONSTRUCT_CONFIG`, the user's config folder, the built-in one.

    Without `needs_table` a table of the user's that cannot be used counts as none: it is to be replaced.

    Raises:
        ConfigError: holding every fault, each with its place.
    """
    environ = process_environ() if environ is None or environ is os.environ else environ
    source = read_source(path, environ)
    if source.path is None:
        if not embedded.installed():
            _drop_embedded(source.document)
        _name_ollamas_model(source.document, environ)
    reading = _Reading(environ, source, needs_table=needs_table)
    config = reading.config()
    if config is None:
        raise ConfigError(
            reading.faults,
            source=source.origin,
            files=source.files,
            table=reading.table,
            table_faults=reading.table_faults,
            warnings=reading.warnings,
            is_private=_pins_tenant(source.document),
        )
    return config


def _pins_tenant(document: Mapping[str, Any]) -> bool:
    """Whether it means to, whatever else is wrong with it."""
    section = document.get("konstruct")
    return isinstance(section, dict) and bool(section.get("pin_tenant"))


def _drop_embedded(document: dict[str, Any]) -> None:
    """Take the embedded group out of the built-in config: without its extra it would only ever be unavailable."""
    entries = document["model_list"]
    ours = {e["model_name"] for e in entries if e["litellm_params"]["model"].startswith("embedded/")}
    document["model_list"] = [e for e in entries if e["model_name"] not in ours]
    for name in ours:
        document["konstruct"]["groups"].pop(name, None)


def _name_ollamas_model(document: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Put another model in the place of the built-in config's local one, where the environment names one."""
    name = environ.get("KONSTRUCT_OLLAMA_MODEL", "").strip().removeprefix("ollama/").removeprefix("ollama_chat/")
    if name and not is_unexpanded(name):
        for entry in document["model_list"]:
            if entry["litellm_params"]["model"].startswith("ollama/"):
                entry["litellm_params"]["model"] = f"ollama/{name}"


# ---- words that may be shown -----------------------------------------------------------------------------------------

_MOST_LISTED = 100  # faults and warnings: nobody reads more, and a file can hold thousands
_MOST_IDLE = 30  # places in one line
_IN_AN_ENTRY = re.compile(r"(?:.*: )?model_list\[\d+\](?:\.(.+)| \((.+)\))")


def _summed_up(places: Iterable[str]) -> list[str]:
    """The places, but one for all the entries of `model_list` that have the same in them."""
    found: dict[str, list[str]] = {}
    for place in places:
        inside = _IN_AN_ENTRY.fullmatch(place)
        found.setdefault(place if inside is None else f"\0{inside[1]}\0{inside[2]}", []).append(place)
    lines = []
    for key, same in found.items():
        _, key_inside, kind = [*key.split("\0"), "", ""][:3] if key.startswith("\0") else ("", "", "")
        if len(same) == 1 or not key.startswith("\0"):
            lines.append(same[0])
        else:
            what = f"{len(same)} entries of model_list"
            lines.append(f"{key_inside} of {what}" if key_inside != "None" else f"{what} ({kind})")
    return lines


def _at(place: str, document: Any) -> Any:
    """What is at a place in the document; None where it is in a list."""
    for key in place.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _besides(place: str, section: Any, told: Collection[str]) -> Iterator[str]:
    """The places within a section in which something is beside what is told of it."""
    if isinstance(section, dict) and not is_provider(place.rpartition(".")[2]):
        for key, value in section.items():
            here = f"{place}.{cut(key)}"
            if here in told:
                yield from _besides(here, value, told)
            elif key not in PERIODS and not _is_nothing(value):
                yield here


def _is_nothing(value: Any) -> bool:
    """Whether it turns nothing on, so that nothing is lost without it."""
    return value is None or value is False or (isinstance(value, str | list | dict) and not value)


def _is_true(value: Any) -> bool:
    return value is True or value == 1 or (isinstance(value, str) and value.strip().lower() in ("true", "1"))


def _header(value: Any) -> str | None:
    """The text of a header's value; None where there is none."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip() if isinstance(value, str | int | float) else None


def _is_empty(value: Any) -> bool:
    return value in ([], {}) or (isinstance(value, str) and not value.strip())


def _listed(names: Iterable[str]) -> str:
    return cut(", ".join(itertools.islice((cut(name) for name in sorted(names)), _MOST_LISTED)), 500)


def _suggestion(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    close = difflib.get_close_matches(word[:LONGEST_NAME].lower(), list(known), n=1, cutoff=likeness)
    return close[0] if close else None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ---- the sections, each as a model -----------------------------------------------------------------------------------


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic takes true for 1
        raise ValueError("should be a number")  # noqa: TRY004  pydantic makes a flaw of a ValueError only
    return value


def _usd(value: Any) -> Decimal:
    try:
        return Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError("should be a number of US dollars") from None


# Blanks, and what joins the parts of an emoji and the letters of some scripts: no more than that is in a name.
_ALSO_PRINTABLE = dict.fromkeys(map(ord, "\u00a0\u200c\u200d\u202f\u3000"))


def _is_one_line(text: str) -> bool:
    return text.translate(_ALSO_PRINTABLE).isprintable()


def _one_line(text: str) -> str:
    if not _is_one_line(text):
        raise ValueError("should be one line of printable characters")
    return text


# Numbers may be numeric strings: LiteLLM users write them, references resolve to them, and YAML 1.1 reads 3e-06 as one.
_Number = BeforeValidator(_not_bool)
_Seconds = Annotated[float, _Number, Field(gt=0, le=86400)]  # a day, as in a request
# LiteLLM's: 0 counts as not given there, and a longer one ends with the call.
_Patience = Annotated[float | None, _Number, Field(ge=0), AfterValidator(lambda s: min(s, 86400.0) if s else None)]
_Cooldown = Annotated[float, _Number, Field(ge=0, le=86400)]
# More than a hundred are a slip: each waits longer than the one before.
_Retries = Annotated[int, _Number, Field(ge=0), AfterValidator(lambda retries: min(retries, 100))]
_Count = Annotated[int, _Number, Field(ge=1, le=2**53)]  # what JSON readers keep exact
_Bytes = Annotated[int, _Number, Field(ge=10_000, le=2**53)]  # fewer hold no answer
_Characters = Annotated[int, _Number, Field(ge=100, le=2**53)]  # fewer hold no sentence
_CountOrNone = Annotated[int, _Number, Field(ge=0, le=2**53)]
_MOST_DOLLARS = 1000  # per token: what the ledger's integers hold, times a million tokens
_Price = Annotated[float, _Number, Field(ge=0, le=_MOST_DOLLARS)]
_LONGEST_GROUP = 128
_Name = Annotated[str, Field(min_length=1, max_length=_LONGEST_GROUP), AfterValidator(_one_line)]
# A mapping is what a list of one mapping says.
_Fallbacks = Annotated[list[Any], BeforeValidator(lambda given: [given] if isinstance(given, dict) else given)]

_DOLLARS = TypeAdapter[float](_Price)


class _Section(BaseModel):
    """What is null counts as not given, as it does for LiteLLM. Unknown keys are kept, to be named or passed on."""

    model_config = ConfigDict(
        frozen=True, extra="allow", str_strip_whitespace=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ours = {*cls.model_fields, *_ALIASES.values()}  # an unknown key stays one, with or without a value
        return {key: item for key, item in value.items() if item is not None or key not in ours}


class _LiteLLMs(_Section):
    """One of LiteLLM's, for which an empty value is none, whatever it is empty of. An empty list of fallbacks is one:
    nobody is behind a group."""

    @model_validator(mode="before")
    @classmethod
    def _without_empties(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return {} if value in ([], "") else value
        ours = {*(key for key, one in cls.model_fields.items() if not one.is_required()), *_ALIASES.values()}
        return {
            key: item
            for key, item in value.items()
            if key not in ours or not _is_empty(item) or (item == [] and key.endswith("fallbacks"))
        }


class _Routing(_LiteLLMs):
    num_retries: _Retries | None = None
    cooldown_time: _Cooldown | None = None
    allowed_fails: _CountOrNone | None = None
    fallbacks: _Fallbacks | None = None
    context_window_fallbacks: _Fallbacks | None = None
    content_policy_fallbacks: _Fallbacks | None = None
    default_fallbacks: Any = None
    model_group_alias: dict[str, Any] = {}


class _RouterSettings(_Routing):
    timeout: _Patience = None
    routing_strategy: Any = None
    default_litellm_params: dict[str, Any] = {}
    default_max_parallel_requests: _CountOrNone | None = None
    enable_pre_call_checks: Any = None  # what it turns on is always done here


class _LiteLLMSettings(_Routing):
    request_timeout: _Patience = None
    drop_params: Any = None
    api_base: str | None = None
    api_key: str | None = None
    api_version: str | None = None
    organization: str | None = None
    ssl_verify: Any = None
    vertex_project: str | None = None
    vertex_location: str | None = None


# Keys of one provider, beside the general `api_key`.
_PROVIDER_KEYS = _words(
    "openai_key groq_key gigachat_key databricks_key azure_key anthropic_key replicate_key bytez_key cohere_key"
    " clarifai_key maritalk_key ai21_key ollama_key openrouter_key datarobot_key predibase_key huggingface_key"
    " vercel_ai_gateway_key baseten_key nebius_key"
)
_GENERAL = ("api_base", "api_key", "api_version", "organization")  # for providers that have none of their own
_VERTEX = ("vertex_project", "vertex_location")


_OF_A_REQUEST = Limits()


class _KonstructSettings(_Section):
    model_config = ConfigDict(extra="forbid")

    default_group: str | None = None
    groups: dict[str, Any] = {}
    timeout_s: _Seconds = 300.0
    max_concurrency: _Count = 200  # more than any one assistant has; a call under way holds its request in memory
    max_queue: _CountOrNone = 1000
    max_result_chars: _Characters = 100_000  # some 25,000 tokens, what several clients take in one result
    max_response_bytes: _Bytes = 64_000_000  # several large images, which come as text
    max_messages: _Count = _OF_A_REQUEST.max_messages
    max_parts: _Count = _OF_A_REQUEST.max_parts
    max_tool_calls: _Count = _OF_A_REQUEST.max_tool_calls
    max_tools: _Count = _OF_A_REQUEST.max_tools
    max_values: Annotated[_Count, Field(le=MOST_VALUES)] = _OF_A_REQUEST.max_values
    max_request_chars: _Characters = _OF_A_REQUEST.max_request_chars
    default_tenant: str | None = None
    tenants: dict[str, Any] | None = None
    allow_unknown: bool | None = None
    pin_tenant: bool | None = None
    budgets: list[Any] = []
    budget_fallback: str | None = None
    min_answer_tokens: _Count = 256
    ledger_url: str | None = None
    models_file: str | None = None

    @field_validator("default_tenant")
    @classmethod
    def _is_well_formed(cls, tenant: str) -> str:
        if not TENANT_ID.match(tenant):
            raise ValueError(TENANT_ID_RULE)
        return tenant


class _TenantSettings(_Section):
    model_config = ConfigDict(extra="forbid")

    groups: list[str] | None = None
    budgets: list[Any] | None = None
    note: Annotated[str, Field(max_length=500), AfterValidator(_one_line)] | None = None


class _BudgetSettings(_Section):
    model_config = ConfigDict(extra="forbid")

    usd: Annotated[Decimal, BeforeValidator(_usd), Field(ge=0, le=10**9)]
    per: Per
    groups: list[str] | None = None


class _GroupSettings(_Section):
    model_config = ConfigDict(extra="forbid")

    description: Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_one_line)] | None = None
    formerly: list[Annotated[str, Field(min_length=1)]] = []


class _Entry(_LiteLLMs):
    model_name: _Name
    litellm_params: dict[str, Any]
    model_info: dict[str, Any] = {}


class _Credential(_LiteLLMs):
    credential_name: str
    credential_values: dict[str, Any] = {}


class _Prices(_LiteLLMs):
    input_cost_per_token: _Price | None = None
    output_cost_per_token: _Price | None = None


class _Params(_Prices):
    """The keys of litellm_params that we read. The others are LiteLLM's, and go through untouched."""

    model: Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_one_line)]
    api_base: str | None = Field(default=None, validation_alias=AliasChoices("api_base", "base_url"))
    api_key: str | None = None
    order: Annotated[int, _Number, Field(ge=-(2**53), le=2**53)] | None = None
    timeout: _Patience = None
    num_retries: _Retries | None = Field(default=None, validation_alias=AliasChoices("num_retries", "max_retries"))
    cooldown_time: _Cooldown | None = None
    # Bounded, so that a sum of them is finite.
    weight: Annotated[float, _Number, Field(ge=0, le=10**9)] | None = None
    rpm: _CountOrNone | None = None
    tpm: _CountOrNone | None = None
    max_parallel_requests: _CountOrNone | None = None


class _Info(_Prices):
    """The keys of model_info that we read. The others are notes, for LiteLLM's proxy or for people."""

    base_model: str | None = None
    max_input_tokens: _Count | None = None
    max_tokens: _Count | None = None
    max_output_tokens: _Count | None = None
    supports_function_calling: bool | None = None
    supports_vision: bool | None = None
    supports_response_schema: bool | None = None

    @property
    def supports(self) -> dict[str, bool]:
        said = {
            "tools": self.supports_function_calling,
            "vision": self.supports_vision,
            "structured_output": self.supports_response_schema,
        }
        return {capability: value for capability, value in said.items() if value is not None}


_NO_MODEL = "(no model)"
_OF_AN_ENTRY = frozenset({"model_name", "litellm_params", "model_info"})
_ENVIRONMENTS = ("development", "staging", "production")
_NAMES = {"base_url": "api_base"}
_SECTIONS = (
    "model_list",
    "router_settings",
    "litellm_settings",
    "environment_variables",
    "credential_list",
    "konstruct",
)
# Those of LiteLLM's proxy.
_ELSEWHERE = (
    "general_settings",
    "assistant_settings",
    "callback_settings",
    "files_settings",
    "finetune_settings",
    "guardrails",
    "mcp_servers",
    "vector_store_registry",
)
_STRATEGIES: tuple[RoutingStrategy, ...] = get_args(RoutingStrategy)
# By another name that counts where there is one.
_NAMED_TOO = {
    "api_base": "base_url",
    "vertex_project": "vertex_ai_project",
    "vertex_location": "vertex_ai_location",
}
_ALIASES = {"api_base": "base_url", "num_retries": "max_retries"}
_CHAT_MODES = (None, "chat", "completion", "responses")
# Prices that a deployment may have beside those per token in and out, also in model_info; LiteLLM has yet others.
_MORE_PRICES = re.compile(
    r"((input|output)_cost_per_token|cache_(read|creation)_input_token_cost|output_cost_per_reasoning_token)"
    r"(_above_\d+(k_tokens|hr))*(_(priority|flex|ultrafast|balanced))?"
)

# Keys of litellm_params with no effect here: each would change what is asked (the request says that), who is asked
# after whom (routing says that), whom the call is accounted to, or whether a provider is asked at all.
_REFUSED = _words(
    "stream stream_options stream_timeout n messages prompt functions function_call tools tool_choice response_format"
    " user metadata litellm_metadata tags model_group model_list model_info deployment_id specific_deployment id"
    " fallbacks default_fallbacks context_window_fallbacks context_window_fallback_dict content_policy_fallbacks"
    " allowed_fails allowed_fails_policy retry_policy retry_strategy priority request_timeout force_timeout"
    " mock_response mock_tool_calls mock_timeout mock_delay mock_testing_fallbacks caching cache cache_key"
    " preset_cache_key ttl acompletion atext_completion text_completion litellm_call_id litellm_trace_id"
    " litellm_logging_obj logger_fn verbose callbacks success_callback failure_callback proxy_server_request"
    " secret_fields client use_client enable_preview_features fastest_response use_in_pass_through mode"
    " configurable_clientside_auth_params tag_regex max_file_size_mb litellm_request_debug"
    # What the proxy or a callback does with a call: LiteLLM takes these, and does nothing.
    " guardrails prompt_id prompt_label prompt_variables prompt_version search_tool_name litellm_session_id no-log"
    " turn_off_message_logging litellm_disabled_callbacks langfuse_host langfuse_prompt_version langfuse_public_key"
    " langfuse_secret langfuse_secret_key langsmith_api_key langsmith_base_url langsmith_project langsmith_tenant_id"
    " langsmith_sampling_rate arize_api_key arize_space_id arize_space_key humanloop_api_key posthog_api_key"
    " posthog_api_url weave_project_id"
)

_DEFAULT_TENANT = "default"
# Keys of litellm_params without which there is nobody to ask. What else refers to a variable that is not set is left
# out, as in LiteLLM.
_NEEDED = ("model", "api_base", "base_url", "api_key")
_LIMITS = ("max_budget", "budget_duration")
_FIRST = re.compile(r"[.\[]")  # what ends the first key of a place
_PLACEHOLDER = "has a placeholder, which nobody fills in here; a variable is os.environ/NAME by itself"
_NO_NAME = "names no variable; should be os.environ/NAME, a name of letters, digits and _"
_SCHEME = re.compile(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?\Z")
_WINDOWS = {"embedded": embedded.CONTEXT_TOKENS}  # of the servers that we start
_BARE = ((re.compile(r"(ft:)?(gpt-|o\d|chatgpt-)"), "openai"), (re.compile(r"claude-"), "anthropic"))

_Model = TypeVar("_Model", bound=_Section)


# ---- the reading -----------------------------------------------------------------------------------------------------


def _defaults(router: _RouterSettings, litellm: _LiteLLMSettings, num_retries: int, cooldown_s: float) -> _Defaults:
    params = {key: value for key, value in router.default_litellm_params.items() if key not in _REFUSED}
    if _is_true(litellm.drop_params):
        params.setdefault("drop_params", True)
    if litellm.ssl_verify is not None:
        params.setdefault("ssl_verify", litellm.ssl_verify)

    def given(keys: Iterable[str]) -> dict[str, Any]:
        return {key: value for key in keys if (value := getattr(litellm, key)) is not None}

    keys = {
        key.removesuffix("_key"): value
        for key, value in (litellm.model_extra or {}).items()
        if key in _PROVIDER_KEYS and isinstance(value, str)
    }
    return _Defaults(
        router.timeout or litellm.request_timeout or 120.0,
        num_retries,
        cooldown_s,
        router.default_max_parallel_requests,
        params,
        given(_GENERAL),
        given(_VERTEX),
        keys,
    )


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What holds for a deployment that says nothing of it. `params` are those of every deployment, `general` those of
    providers without an address of their own, `vertex` Google's, `keys` by provider."""

    timeout_s: float = 120.0
    num_retries: int = 2
    cooldown_s: float = 30.0
    max_parallel_requests: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    general: Mapping[str, Any] = field(default_factory=dict)
    vertex: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    def of(self, provider: str) -> dict[str, Any]:
        """Those of a provider's deployments, in LiteLLM's words."""
        found = dict(self.params)
        if provider in TAKE_THE_GENERAL_ADDRESS:
            found |= self.general
        if provider in self.keys:
            found["api_key"] = self.keys[provider]
        if provider.startswith("vertex_ai"):
            found |= self.vertex
        return found


_UNSET = object()  # what a reference to a variable that is not set comes to


class _Reading:
    """One pass over one document: the faults and the idle places found so far, and what they were found with.

    It outlives the pass where there are wildcards, to make the group of a name that one of them matches.
    """

    def __init__(self, environ: Mapping[str, str], source: Source, *, needs_table: bool = True) -> None:
        self.faults: list[str] = []
        self.table: Path | None = None  # the user's table of models, where it cannot be used
        self.table_faults: list[str] = []
        self.warnings: tuple[str, ...] = ()
        self._needs_table = needs_table
        self._lost: list[str] = list(source.warnings)  # what is read in another way than it is written, or not at all
        self._idle: list[str] = []  # places of what has no effect here
        self._source = source
        self._process = environ
        self._environ = environ  # with the variables that the file sets
        self._used: set[str] = set()  # variables whose values are in the config
        self._needed: set[str] = set()  # those that a cloud's own client looks up, once it is asked
        self._tables = Models()
        self._defaults = _Defaults()
        self._credentials: dict[str, dict[str, Any]] = {}
        self._named: Counter[str] = Counter()  # group names as written → their entries, right or wrong
        self._skipped: Counter[str] = Counter()  # group names → their entries that are passed over
        self._passed: Counter[str] = Counter()  # why entries are passed over → how many
        self._known: dict[str, None] = {}  # the groups in the file's order, but for those wholly passed over
        self._listing = ""  # the known groups, to be named in a fault
        self._groups: dict[str, list[Deployment]] = {}
        self._asking: dict[str, str] = {}  # model as LiteLLM names it → the first group that asks it
        self._aliases: dict[str, str] = {}  # alias → the group that it is another name of
        self._hidden: set[str] = set()  # aliases that are not listed
        self._wild: dict[str, list[tuple[str, _Entry]]] = {}  # wildcard → the entries of that name, with their places
        self._templates: dict[str, list[Deployment]] = {}  # wildcard → its deployments as written
        self._made_from: dict[str, str] = {}  # group → the wildcard that it was made from
        self._lists: dict[str, dict[str, tuple[str, ...]]] = {}  # kind of fallback → group → the groups behind it
        self._last_resort: tuple[str, ...] = ()
        self._shown: list[dict[str, Any]] = []  # the entries as they are to be masked and shown
        self._embedded: dict[str, str] = {}  # group → place of its embedded deployment
        self._patience: list[tuple[str, float]] = []  # places of time-outs, and how long they are
        self._spending: list[tuple[str, str, Mapping[str, Any]]] = []  # place, group and litellm_params with a limit

    def config(self) -> Config | None:
        """The config that the document and the environment make; None when there are faults."""
        source, document = self._source, self._source.document
        self._top_level(document)
        variables = self._variables(document.get("environment_variables"))
        self._credentials = self._credential_list(document.get("credential_list"))
        router = self._section(_RouterSettings, document, "router_settings", KNOWN_ROUTER_SETTINGS)
        litellm = self._section(_LiteLLMSettings, document, "litellm_settings", KNOWN_LITELLM_SETTINGS)
        konstruct = self._section(_KonstructSettings, document, "konstruct", is_ours=True)

        def setting(name: str, default: Any) -> Any:
            given = (getattr(router, name), getattr(litellm, name))
            return next((value for value in given if value is not None), default)

        models_file = self._models_file(konstruct.models_file, source)

        def home(name: str) -> str:
            return "router_settings" if getattr(router, name) is not None else "litellm_settings"

        for place, limit_s in (
            ("router_settings.timeout", router.timeout),
            ("litellm_settings.request_timeout", litellm.request_timeout),
        ):
            self._patience += [] if limit_s is None else [(place, limit_s)]
        self._defaults = _defaults(router, litellm, setting("num_retries", 2), setting("cooldown_time", 30.0))
        self._model_list(document.get("model_list"))
        self._alias_groups(router.model_group_alias or litellm.model_group_alias)
        for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
            self._lists[kind] = self._chains(f"{home(kind)}.{kind}", setting(kind, []))
        everybody = self._lists["fallbacks"].pop("*", ())
        if (given := setting("default_fallbacks", None)) is not None:
            everybody = self._targets(f"{home('default_fallbacks')}.default_fallbacks", given)
        self._last_resort = everybody

        described = self._described(konstruct.groups)
        descriptions = {name: settings.description for name, settings in described.items()}
        self._formerly = {name: tuple(settings.formerly) for name, settings in described.items()}
        default_group = konstruct.default_group
        if default_group is None:
            default_group = "balanced" if "balanced" in self._known else next(iter(self._known), "")
        elif not self._find(default_group):
            self._fault("konstruct.default_group", self._no_group(default_group))
        budgets = self._budgets(konstruct.budgets, "konstruct.budgets")
        fallback = konstruct.budget_fallback
        if (
            fallback is not None
            and self._is_group("konstruct.budget_fallback", fallback)
            and fallback in self._embedded
        ):
            self._fault("konstruct.budget_fallback", f"{quoted(fallback)} is the embedded model, too weak for that")
        # A budget that every invented name had a copy of would hold nothing.
        allow_unknown = konstruct.allow_unknown
        if allow_unknown is None:
            allow_unknown = konstruct.tenants is None and not budgets
        if konstruct.tenants == {} and not allow_unknown:
            self._fault("konstruct.tenants", "should name a tenant, or nobody is one")
        known_tenant = self._known_tenant(konstruct.default_tenant)
        pin_tenant = konstruct.pin_tenant
        if pin_tenant is None:
            pin_tenant = konstruct.tenants is not None and self._value("KONSTRUCT_TENANT_ID") is not None
        if pin_tenant:
            known_tenant = known_tenant or _DEFAULT_TENANT
        default_tenant = known_tenant or _DEFAULT_TENANT
        entries = konstruct.tenants
        if entries is None:
            entries = {} if allow_unknown else {default_tenant: None}
        tenants = self._tenants(entries, budgets)
        if tenants and not allow_unknown and default_tenant not in tenants:
            self._no_default_tenant(konstruct.default_tenant, is_needed=pin_tenant)
        ledger = self._ledger(konstruct.ledger_url)
        strategy = self._strategy(router.routing_strategy)
        self._too_patient(konstruct.timeout_s)
        self.warnings = self._warnings(document, budgets)
        if self.faults:
            return None

        groups = {name: self._group(name, descriptions.get(name)) for name in self._known}
        # One tenant never sees another's: where this is a tenant's server, its own entry and groups are all there is.
        own = tenants.get(known_tenant or "")
        visible = [name for name, group in groups.items() if own is None or own.may_use(group)]
        seen = {*visible, *(self._wild if own is None else own.patterns)}
        fallbacks = {
            kind: [
                {name: to} for name in visible if (to := [one for one in getattr(groups[name], kind) if one in visible])
            ]
            for kind in self._lists
        }
        listed = [name for name in visible if groups[name].is_listed]
        defaults = self._defaults
        limits = Limits(**{limit.name: getattr(konstruct, limit.name) for limit in fields(Limits)})
        public = {
            "source": source.origin,
            "model_list": [masked(entry) for entry in self._shown if entry["model_name"] in seen],
            "router_settings": {
                "routing_strategy": strategy,
                "num_retries": defaults.num_retries,
                "timeout": defaults.timeout_s,
                "cooldown_time": defaults.cooldown_s,
                "allowed_fails": setting("allowed_fails", 2),
                **fallbacks,
                **self._shown_aliases(visible),
            },
            "konstruct": {
                "default_group": default_among(default_group, visible),
                "default_tenant": default_tenant,
                "timeout_s": konstruct.timeout_s,
                "max_concurrency": konstruct.max_concurrency,
                "max_queue": konstruct.max_queue,
                "max_result_chars": konstruct.max_result_chars,
                "max_response_bytes": konstruct.max_response_bytes,
                **asdict(limits),
                "allow_unknown": allow_unknown,
                "pin_tenant": pin_tenant,
                "tenants": {
                    tenant.id: _shown_tenant(tenant, visible, with_note=known_tenant is None)
                    for tenant in tenants.values()
                    if known_tenant in (None, tenant.id)
                },
                "budgets": _shown_budgets(budgets, visible),
                "budget_fallback": fallback if fallback in visible else None,
                "min_answer_tokens": konstruct.min_answer_tokens,
                "ledger_url": masked_url(ledger.url),
                "models_file": None if konstruct.models_file is None else "***",
                "groups": {
                    name: {
                        "description": groups[name].description,
                        **({"formerly": list(former)} if (former := self._formerly.get(name)) else {}),
                    }
                    for name in listed
                },
            },
        }
        if own is None:
            public |= self._shown_secrets(document)
        return Config(
            source=source.path or source.origin,
            file=None if source.path is None else Path(source.path),
            files=source.files,
            groups=MappingProxyType(groups),
            default_group=default_group,
            default_tenant=default_tenant,
            known_tenant=known_tenant,
            pin_tenant=pin_tenant,
            tenants=MappingProxyType(tenants),
            allow_unknown=allow_unknown,
            budgets=budgets,
            budget_fallback=fallback,
            min_answer_tokens=konstruct.min_answer_tokens,
            ledger=ledger,
            models=self._tables,
            models_file=models_file,
            broken_table=self.table is not None,
            timeout_s=konstruct.timeout_s,
            max_concurrency=konstruct.max_concurrency,
            max_queue=konstruct.max_queue,
            max_result_chars=konstruct.max_result_chars,
            max_response_bytes=konstruct.max_response_bytes,
            limits=limits,
            allowed_fails=setting("allowed_fails", 2),
            routing_strategy=strategy,
            warnings=self.warnings,
            public=public,
            wildcards=tuple(Wildcard(pattern, tuple(made)) for pattern, made in self._templates.items()),
            variables=MappingProxyType(
                {n: v for n, v in variables.items() if n in self._needed or n not in self._used}
            ),
            former_groups=frozenset(itertools.chain(*self._formerly.values())),
            make=self.make,
        )

    # -- saying what is wrong

    def _fault(self, place: str, message: str) -> None:
        if len(self.faults) < _MOST_LISTED:
            self.faults.append(f"{cut(place, 200)}: {message}")

    def _warnings(self, document: Mapping[str, Any], budgets: tuple[Budget, ...]) -> tuple[str, ...]:
        """Money first, and what does nothing here last."""
        found = []
        settings = {
            name: section
            for name in ("litellm_settings", "router_settings", "general_settings")
            if isinstance(section := document.get(name), dict)
        }
        groups_of: dict[str, list[str]] = {}
        for name, deployments in self._groups.items():
            for provider in dict.fromkeys(deployment.model.partition("/")[0] for deployment in deployments):
                groups_of.setdefault(provider, []).append(name)
        limited = limits(settings, self._spending, groups_of)
        if (spending := warning(limited, budgets)) is not None:
            found.append(spending)
        of_limits = {limit.place for limit in limited}
        more = len(self._lost) - _MOST_LISTED
        found += [cut(line, 500) for line in self._lost[:_MOST_LISTED]]
        found += [f"and {more} more of this kind"] if more > 0 else []
        told = {place for limit in of_limits for place in (limit, limit.rpartition(".")[0])}
        others = [
            other
            for place in self._idle
            if not place.endswith(".budget_duration")
            for other in (_besides(place, _at(place, document), told) if place in told else [place])
        ]
        if idle := _summed_up(others):
            more = len(idle) - _MOST_IDLE
            listed = ", ".join(cut(place, 200) for place in idle[:_MOST_IDLE])
            found.append(f"no effect here: {listed}" + (f" and {more} more" if more > 0 else ""))
        return tuple(found)

    def _strategy(self, name: Any) -> RoutingStrategy:
        if name is None:
            return "latency-based-routing"
        for strategy in _STRATEGIES:
            if name == strategy:
                return strategy
        self._lost.append(
            f"router_settings.routing_strategy: is not known here, as are {', '.join(_STRATEGIES)}; "
            "latency-based-routing is used"
        )
        return "latency-based-routing"

    def _too_patient(self, timeout_s: float) -> None:
        """A word on the time-outs that can never be reached."""
        if longer := [place for place, limit_s in self._patience if limit_s > timeout_s]:
            more = f" and {len(longer) - _MOST_IDLE} more" if len(longer) > _MOST_IDLE else ""
            self._lost.append(
                f"longer than konstruct.timeout_s ({timeout_s:g} s), which ends the whole call: "
                f"{', '.join(longer[:_MOST_IDLE])}{more}"
            )

    def _parse(
        self,
        model: type[_Model],
        value: Any,
        place: str,
        names: Mapping[str, str | None] | None = None,
        *,
        needed: Collection[str] | None = None,
    ) -> _Model | None:
        """What is sound of `value`, its flaws noted; None when that is not enough.

        `names` tells which keys were environment references, so that the flaw names the variable. A flaw is a fault in
        the keys that are `needed`, None for all of them, and in the whole where there are such; elsewhere it is none,
        and what is wrong is left out.
        """
        try:
            return model.model_validate(value)
        except ValidationError as error:
            for where, message in flaws(error):
                if message == "unknown field":
                    close = _suggestion(where, model.model_fields)
                    message = f"unknown key; did you mean {close}?" if close else "unknown key"
                at = f"{cut(place, 120)}.{cut(where)}" if where else place
                if (name := (names or {}).get(where)) is not None:
                    at = f"{at} ({cut(name)})"
                if needed is None or (needed and (not where or _FIRST.split(where, 1)[0] in needed)):
                    self._fault(at, message)
                else:
                    self._lost.append(f"{at}: {message}; left out")
            bad = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        if not bad or not isinstance(value, dict):  # an empty list passes for nothing at all
            return None
        try:
            return model.model_validate({k: v for k, v in value.items() if k not in bad})
        except ValidationError:
            return None

    # -- sections

    def _top_level(self, document: dict[str, Any]) -> None:
        for key, value in document.items():
            if key in _SECTIONS:
                continue
            if key not in _ELSEWHERE and (close := _suggestion(key, (*_SECTIONS, *_ELSEWHERE), 0.8)):
                unknown = f"unknown section; did you mean {close}?"
                if close == "konstruct" or (close == "model_list" and close not in document):
                    self._fault(cut(key), unknown)
                else:
                    self._lost.append(
                        f"{cut(key)}: {unknown}" + ("" if close in _SECTIONS else " It has no effect here either")
                    )
            elif not _is_nothing(value):
                self._idle.append(key)

    def _section(
        self,
        model: type[_Model],
        document: dict[str, Any],
        name: str,
        known: frozenset[str] = frozenset(),
        *,
        is_ours: bool = False,
    ) -> _Model:
        """A section. What a reference of it names has to be there where the section is ours, which says who may do
        what; elsewhere it is left out, as in LiteLLM."""
        raw = document.get(name)
        names: dict[str, str | None] = {}
        value: Any = {} if raw is None else raw
        if isinstance(raw, dict):
            names = {key: reference(item) for key, item in raw.items()}
            value = {}
            for key, item in raw.items():
                if (key in model.model_fields and key != "ledger_url") or (key in _PROVIDER_KEYS and not is_ours):
                    item = self._resolve(item, f"{name}.{key}", self._missing if is_ours else self._left_out)
                if item is not _UNSET:
                    value[key] = item
        section = self._parse(model, value, name, names, needed=None if is_ours else ()) or model()
        for key, item in (section.model_extra or {}).items():
            if close := self._meant(key, known):
                self._lost.append(f"{name}.{cut(key)}: unknown key; did you mean {close}?")
            elif not _is_nothing(item) and key not in _PROVIDER_KEYS:
                self._idle.append(f"{name}.{key}")
        return section

    def _missing(self, place: str, name: str | None) -> None:
        self._fault(f"{place} ({cut(name)})" if name else place, "is not set" if name else _NO_NAME)

    def _left_out(self, place: str, name: str | None) -> None:
        self._lost.append(f"{place}: {f'{cut(name)} is not set' if name else _NO_NAME}; left out")

    def _variables(self, section: Any) -> dict[str, str]:
        if section is None:
            return {}
        if not isinstance(section, dict):
            self._fault("environment_variables", "should be an object")
            return {}
        found, refused = variables_of(section, self._process)
        for name in refused:
            self._lost.append(f"environment_variables.{cut(name)}: cannot be set here; set it where the server starts")
        self._environ = {**self._process, **found}
        return found

    def _credential_list(self, entries: Any) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        if entries and not isinstance(entries, list):
            self._lost.append("credential_list: should be a list; left out")
            return found
        for position, raw in enumerate(entries or ()):
            entry = self._parse(_Credential, raw, self._source.place("credential_list", position), needed=())
            if entry is not None:
                found.setdefault(entry.credential_name, entry.credential_values)
        return found

    def _shown_secrets(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The sections that hold little else, with nothing but their names."""
        shown: dict[str, Any] = {}
        if isinstance(section := document.get("environment_variables"), dict):
            shown["environment_variables"] = masked_values(section)
        if self._credentials:
            shown["credential_list"] = [
                {"credential_name": cut(name), "credential_values": masked_values(values)}
                for name, values in self._credentials.items()
            ]
        return shown

    def _described(self, groups: Mapping[str, Any]) -> dict[str, _GroupSettings]:
        found = {}
        for name, value in groups.items():
            place = f"konstruct.groups.{cut(name)}"
            if name not in self._known and name in self._named:  # passed over
                self._idle.append(place)
            elif name not in self._known:
                self._fault(place, f"no such group; groups: {self._listing}")
            settings = self._parse(_GroupSettings, {} if value is None else value, place)
            if settings is None:
                continue
            found[name] = settings
            for position, former in enumerate(settings.formerly):
                if former in self._known:
                    self._fault(f"{place}.formerly[{position}]", f"{quoted(former)} is still a group of this config")
        return found

    # -- tenants and their budgets

    def _tenants(self, entries: Mapping[str, Any], defaults: tuple[Budget, ...]) -> dict[str, Tenant]:
        found: dict[str, Tenant] = {}
        everything: set[str] = set()  # tenants that may use all there is
        for name, value in entries.items():
            place = f"konstruct.tenants.{cut(name)}"
            if name in _KonstructSettings.model_fields and not isinstance(value, dict | None):
                self._fault(place, f"belongs one level up: konstruct.{name}")
                continue
            if not TENANT_ID.match(name):
                self._fault(place, TENANT_ID_RULE)
            settings = self._parse(_TenantSettings, {} if value is None else value, place)
            if settings is None:
                continue
            groups: tuple[str, ...] = ()
            patterns = tuple(self._wild)
            if settings.groups is None:
                everything.add(name)
            else:
                patterns = tuple(pattern for pattern in self._wild if pattern in settings.groups)
                groups = self._groups_of([one for one in settings.groups if one not in self._wild], place, patterns)
            own = None if settings.budgets is None else self._budgets(settings.budgets, f"{place}.budgets")
            found[name] = Tenant(name, groups, defaults if own is None else own, settings.note, patterns)
        # Now that all is made from wildcards that anybody is to use by name.
        for name, tenant in found.items():
            of_patterns = {group for group, pattern in self._made_from.items() if pattern in tenant.patterns}
            allowed = self._known if name in everything else {*tenant.groups, *of_patterns}
            found[name] = replace(tenant, groups=tuple(group for group in self._known if group in allowed))
        return found

    def _groups_of(self, names: Sequence[str], place: str, besides: Sequence[str] = ()) -> tuple[str, ...]:
        """Those of these names, in the file's order. There has to be one, or a wildcard `besides`: none means all of
        them elsewhere."""
        faults = len(self.faults)
        found = {name for i, name in enumerate(names) if self._is_group(f"{place}.groups[{i}]", name)}
        if not found and not besides and len(self.faults) == faults:
            self._fault(f"{place}.groups", "should name a group that can be asked; without this key it is all of them")
        return tuple(name for name in self._known if name in found)

    def _family(self, names: Sequence[str]) -> tuple[str, ...]:
        """These groups, and those that are the same by another name."""
        homes = {self._aliases.get(name, name) for name in names}
        return tuple(name for name in self._known if self._aliases.get(name, name) in homes)

    def _budgets(self, entries: Sequence[Any], place: str) -> tuple[Budget, ...]:
        found: list[Budget] = []
        for position, entry in enumerate(entries):
            here = f"{place}[{position}]"
            settings = self._parse(_BudgetSettings, entry, here)
            if settings is None:
                continue
            # Rounded down: a budget is never more than what is written.
            limit = int(settings.usd * NUSD)
            if settings.groups is None:
                found.append(Budget(limit, settings.per))
            elif groups := self._groups_of(settings.groups, here):
                family = self._family(groups)
                former = dict.fromkeys(itertools.chain(*(self._formerly.get(name, ()) for name in family)))
                found.append(Budget(limit, settings.per, family, tuple(former)))
        return tuple(found)

    def _known_tenant(self, default: str | None) -> str | None:
        """Whose server this is; None where nothing says so."""
        tenant = self._value("KONSTRUCT_TENANT_ID")
        if tenant is None:
            return default
        if not TENANT_ID.match(tenant):
            self._fault("KONSTRUCT_TENANT_ID", TENANT_ID_RULE)
            return None
        return tenant

    def _no_default_tenant(self, default: str | None, *, is_needed: bool) -> None:
        """A call that names no tenant is on nobody's account."""
        if self._value("KONSTRUCT_TENANT_ID") is not None:
            self._fault("KONSTRUCT_TENANT_ID", "is no tenant of konstruct.tenants")
        elif default is not None:
            self._fault("konstruct.default_tenant", "is no tenant of konstruct.tenants")
        elif is_needed:
            self._fault(
                "konstruct.pin_tenant",
                f'there is no "{_DEFAULT_TENANT}" in konstruct.tenants; konstruct.default_tenant or '
                "KONSTRUCT_TENANT_ID has to say whose server this is",
            )
        else:
            self._lost.append(
                f'konstruct.tenants: there is no "{_DEFAULT_TENANT}", so a call without a tenant_id is refused; '
                "konstruct.default_tenant or KONSTRUCT_TENANT_ID can name another"
            )

    def _ledger(self, given: str | None) -> LedgerPlace:
        """The ledger that the environment, else the config names, else a file in the user's data folder."""
        place, url = "KONSTRUCT_LEDGER_URL", self._value("KONSTRUCT_LEDGER_URL")
        if url is None:
            place, url = "konstruct.ledger_url", (given or "").strip()
            if name := reference(url):
                place, url = f"{place} ({cut(name)})", self._value(name) or ""
                if not url:
                    self._fault(place, "is not set")
        folder = data_folder(self._process)
        if not url:
            if folder is None:
                self._fault("KONSTRUCT_LEDGER_URL", "is needed: this user has no data folder for the ledger")
                return LedgerPlace("", Path())
            file = folder / "ledger.sqlite3"
            return LedgerPlace(f"sqlite:///{file}", file.with_name(f"{file.name}.spool"))
        scheme, separator, rest = url.partition("://")
        if not separator or not _SCHEME.match(scheme):
            self._fault(place, "should be a SQLAlchemy URL, like sqlite:////absolute/path or postgresql://host/name")
        elif scheme.startswith("sqlite"):
            file = Path(rest.partition("?")[0].removeprefix("/"))
            if not file.is_absolute():  # the current folder is whatever a client has started the server in
                self._fault(place, "should name an absolute path: sqlite:////absolute/path/ledger.sqlite3")
            return LedgerPlace(url, file.with_name(f"{file.name}.spool") if file.name else file)
        elif scheme in ("postgres", "postgresql", "postgresql+psycopg"):
            url = f"postgresql+psycopg://{rest}"
            if importlib.util.find_spec("psycopg") is None:
                self._fault(place, f"needs the extra `postgres`: {install_advice('postgres')}")
        if folder is None:
            self._fault(place, "this user has no data folder, which is needed beside a database server")
            return LedgerPlace(url, Path())
        which = hashlib.sha256(which_database(url).encode()).hexdigest()[:16]
        return LedgerPlace(url, folder / f"ledger-{which}.spool")

    def _models_file(self, given: str | None, source: Source) -> Path | None:
        """Where the user's table of model data is; read if it is there."""
        place = "models.json in the user's data folder"
        if given is not None:
            place, named = "konstruct.models_file", given.strip()
            if name := reference(named):
                place, named = f"{place} ({cut(name)})", self._value(name) or ""
            try:
                file = Path(source.path or os.sep).parent / Path(named).expanduser()
            except RuntimeError:
                named = ""
            if not named:
                self._fault(place, "should name a file")
                return None
        elif (folder := data_folder(self._process)) is None:
            return None
        else:
            file = folder / "models.json"
        if os.path.lexists(file):  # else `models update` makes it
            try:
                self._tables = Models(table := read_file(file))
                self._lost += [f"{place}: {slip}" for slip in table.slips]
            except ValueError as error:
                self.table, known = file, len(self.faults)
                for line in str(error).splitlines() if self._needs_table else ():
                    self._fault(place, line)
                self.table_faults = self.faults[known:]
        elif given is not None:
            self._lost.append(f"{place}: there is no such file; `konstruct-mcp models update` makes it")
        return file

    # -- the groups and who is behind them

    def _no_group(self, name: str) -> str:
        return f"no group {quoted(name)}; groups: {self._listing}"

    def _chains(self, place: str, lists: _Fallbacks) -> dict[str, tuple[str, ...]]:
        """group → the groups behind it. It may be behind itself in a roundabout way: a call visits each once."""
        found: dict[str, tuple[str, ...]] = {}
        for position, item in enumerate(lists):
            if not isinstance(item, dict):
                self._lost.append(f"{place}[{position}]: should be an object; left out")
                continue
            for source, names in item.items():
                here = f"{place}[{position}].{cut(source)}"
                if source == "*":
                    if not place.endswith(".fallbacks"):
                        self._idle.append(here)
                    elif "*" in found:
                        self._lost.append(f"{here}: there is another; the last one counts")
                elif not self._find(source):
                    self._not_found(here, source)
                    continue
                elif source in found:
                    self._lost.append(f"{here}: this group has a list already; the first one counts")
                    continue
                found[source] = tuple(name for name in self._targets(here, names) if name != source)
        return found

    def _targets(self, place: str, names: Any) -> tuple[str, ...]:
        """The groups of a list of fallbacks, or of one that is written without a list."""
        found: dict[str, None] = {}
        if _is_nothing(names):
            return ()
        if isinstance(names, str | int | float):
            self._lost.append(f"{place}: is read as a list of one")
            names = [names]
        if not isinstance(names, list):
            self._lost.append(f"{place}: should be a list of groups; left out")
            return ()
        for position, given in enumerate(names):
            here = f"{place}[{position}]"
            if isinstance(given, dict) and isinstance(given.get("model"), str):
                name = given["model"]
                if len(given) > 1:
                    self._lost.append(f"{here}: only its model counts; the request is sent as it is")
            elif isinstance(given, str | int | float) and not isinstance(given, bool):
                name = str(given)
            else:
                self._lost.append(f"{here}: should be the name of a group; left out")
                continue
            if (meant := self._meant_group(here, name)) is None:
                self._not_found(here, name)
            elif meant in self._embedded:
                self._fault(here, f"{quoted(name)} is the embedded model, too weak to answer in another's name")
            else:
                found[meant] = None
        return tuple(found)

    def _meant_group(self, place: str, name: str) -> str | None:
        """The group of this name; else the first one with a deployment of just this model, by which LiteLLM finds it,
        too."""
        if self._find(name):
            return name
        if (found := self._asking.get(name)) is not None:
            self._lost.append(f"{place}: no group {quoted(name)}; read as {quoted(found)}, which asks that model")
        return found

    def _not_found(self, place: str, name: str) -> None:
        """Of a group that LiteLLM's own settings name."""
        if name in self._named:  # passed over: LiteLLM's files chain embedding models too
            self._idle.append(place)
        else:
            self._lost.append(f"{place}: {self._no_group(name)}; left out")

    def _is_group(self, place: str, name: str) -> bool:
        """Whether it is one; a fault if it is not, as it has to be where our own section names it."""
        if self._find(name):
            return True
        if name in self._named:
            self._idle.append(place)
        else:
            self._fault(place, self._no_group(name))
        return False

    def _find(self, name: str) -> bool:
        """Whether there is such a group, made from a wildcard if need be."""
        if name not in self._known and name not in self._named and (made := self._made(name)) is not None:
            self._made_from[name], self._groups[name] = made
            self._known[name] = None
        return name in self._known

    def _alias_groups(self, aliases: Mapping[str, Any]) -> None:
        """Make each alias a group. As in LiteLLM, one that is the name of a group as well stands in its place."""
        for alias, given in aliases.items():
            place = f"router_settings.model_group_alias.{cut(alias)}"
            target = given.get("model") if isinstance(given, dict) else given
            if not isinstance(target, str) or not alias or len(alias) > _LONGEST_GROUP or not _is_one_line(alias):
                self._lost.append(f"{place}: should name a group; left out")
            elif target == alias:
                continue
            elif (meant := self._meant_group(place, target)) is None:
                self._not_found(place, target)
            elif meant != alias:
                if alias in self._known:
                    self._lost.append(f"{place}: nobody reaches the group of this name, which the alias stands for")
                self._aliases[alias] = meant
                if isinstance(given, dict) and given.get("hidden") is True:
                    self._hidden.add(alias)
        groups = dict(self._groups)
        for alias, target in self._aliases.items():
            self._groups[alias] = groups[target]
            self._made_from.pop(alias, None)
            self._known.setdefault(alias, None)
            if target in self._embedded:
                self._embedded[alias] = self._embedded[target]
        self._listing = _listed(self._known)

    def _shown_aliases(self, visible: Collection[str]) -> dict[str, Any]:
        shown = {
            alias: {"model": target, "hidden": True} if alias in self._hidden else target
            for alias, target in self._aliases.items()
            if alias in visible and target in visible
        }
        return {"model_group_alias": shown} if shown else {}

    def _group(self, name: str, description: str | None) -> Group:
        deployments = self._groups[name]
        return Group(
            name,
            description or _describe(deployments),
            tuple(deployments),
            **self._lists_of(name),
            is_listed=name not in self._hidden and name not in self._made_from,
            pattern=self._made_from.get(name),
            alias_of=self._aliases.get(name),
        )

    def _lists_of(self, name: str) -> dict[str, tuple[str, ...]]:
        """The groups behind a group, by the kind of fallback. Each list of the file may name it, the group that it is
        an alias of, or the model without its provider."""
        target = self._aliases.get(name, name)
        lists = {}
        for kind, chains in self._lists.items():
            otherwise = self._last_resort if kind == "fallbacks" else ()
            found = next((chains[one] for one in (name, target, _bare(name)) if one in chains), otherwise)
            lists[kind] = tuple(one for one in found if one not in (name, target))
        return lists

    # -- wildcards

    def make(self, name: str) -> Group | None:
        """The group of a name that a wildcard matches, once all has been read."""
        # What is to be said of the entry has been.
        self.faults, self._lost, self._idle, self._shown, self._patience, self._spending = [], [], [], [], [], []
        if name in self._named or (made := self._made(name)) is None:
            return None
        pattern, deployments = made
        return Group(
            name,
            _describe(deployments),
            tuple(deployments),
            **self._lists_of(name),
            is_listed=False,
            pattern=pattern,
            alias_of=None,
        )

    def _made(self, name: str) -> tuple[str, list[Deployment]] | None:
        """The wildcard that a name matches, and the deployments that it makes of it."""
        if is_pattern(name) or not 0 < len(name) <= _LONGEST_GROUP or not _is_one_line(name):
            return None
        found = match(name, self._wild)
        if found is None and "/" not in name and (provider := self._display({"model": name})[1]):
            found = match(f"{provider}/{name}", self._wild)
        if found is None:
            return None
        pattern, matched = found
        deployments: list[Deployment] = []
        for place, entry in self._wild[pattern]:
            params = {**entry.litellm_params, "model": model_of(matched, entry.litellm_params["model"])}
            one = entry.model_copy(update={"model_name": name, "litellm_params": params})
            if self._is_chat(one):
                deployments += self._deployments(place, one, deployments)
        return (pattern, deployments) if deployments else None

    # -- deployments

    def _model_list(self, entries: Any) -> None:
        if not isinstance(entries, list):
            self._fault("model_list", "required, but missing" if entries is None else "should be a list")
            return
        faults = len(self.faults)
        seen: dict[str, tuple[str, int]] = {}
        for position, entry in enumerate(entries):
            name = entry.get("model_name") if isinstance(entry, dict) else None
            if isinstance(name, str) and not is_reference(name):
                self._named[name.strip()] += 1
            self._entry(self._source.place("model_list", position), entry, seen)
        # Also those whose entries are all faulty: that is said once, and not again where the group is named.
        self._known = {name: None for name, count in self._named.items() if self._skipped[name] < count}
        self._listing = _listed(self._known)
        for group, place in self._embedded.items():
            if self._named[group] > 1:
                self._fault(place, f"the embedded model needs a group of its own; {quoted(group)} has others")
        if not self._groups and not self._wild and len(self.faults) == faults:
            passed = "; ".join(f"{count} of its entries, {why}" for why, count in self._passed.items())
            self._fault("model_list", f"no deployment (passed over: {passed})" if passed else "no deployment")

    def _entry(self, place: str, raw: Any, seen: dict[str, tuple[str, int]]) -> None:
        if isinstance(raw, dict) and is_reference(raw.get("model_name")):
            name = self._resolve(raw["model_name"], f"{place}.model_name", self._missing)
            if name is _UNSET:
                return
            self._named[name] += 1
            raw = {**raw, "model_name": name}
        for key in raw if isinstance(raw, dict) else ():
            if close := self._meant(str(key), _OF_AN_ENTRY):
                self._lost.append(f"{place}.{cut(key)}: unknown key; did you mean {close}?")
        entry = self._parse(_Entry, raw, place, needed=("model_name", "litellm_params"))
        if entry is None:
            if isinstance(raw, dict) and isinstance(raw.get("litellm_params"), dict):
                self._deployments(place, _Entry(model_name="?", litellm_params=raw["litellm_params"]), ())
            return
        limits = {key: value for key, value in (entry.model_extra or {}).items() if key in ("rpm", "tpm")}
        others = {key: value for key, value in (entry.model_extra or {}).items() if key not in limits}
        self._idle += [f"{place}.{key}" for key, value in others.items() if not _is_nothing(value)]
        entry = entry.model_copy(update={"litellm_params": limits | entry.litellm_params})
        is_for_here = self._is_for_here(entry)
        if is_pattern(entry.model_name):
            del self._named[entry.model_name]
            templates = self._templates.get(entry.model_name, ())
            if is_for_here and (deployments := self._deployments(place, entry, templates)):
                self._wild.setdefault(entry.model_name, []).append((place, entry))
                self._templates.setdefault(entry.model_name, []).extend(deployments)
            return
        if not is_for_here:
            why = "for another environment"
        elif is_pattern(str(entry.litellm_params.get("model"))):
            why = "a wildcard under a name that is none"
        elif not self._is_chat(entry):
            why = "not a chat model"
        else:
            group = self._groups.setdefault(entry.model_name, [])
            # As text, because True equals 1 and a dictionary is no key.
            contents = json.dumps([entry.model_name, entry.litellm_params], sort_keys=True)
            if contents in seen:
                earlier, position = seen[contents]
                self._lost.append(f"{place}: the same as {earlier}; they count as one, with the weight of all")
                group[position] = replace(group[position], copies=group[position].copies + 1)
            elif deployments := self._deployments(place, entry, group):
                seen[contents] = place, len(group)
                group += deployments
                self._asking.setdefault(deployments[0].params["model"], entry.model_name)
            if not group:
                del self._groups[entry.model_name]
            return
        self._skipped[entry.model_name] += 1
        self._passed[why] += 1
        if is_for_here:
            self._idle.append(f"{place} ({why})")

    def _is_for_here(self, entry: _Entry) -> bool:
        """Whether it is for the environment that LITELLM_ENVIRONMENT says this is; where nobody says it, that is what
        its deployment lacks."""
        environments = entry.model_info.get("supported_environments")
        return not isinstance(environments, list) or self._environment() in (None, *environments)

    def _environment(self) -> str | None:
        """Which of those this is that LiteLLM knows; None where nobody says it."""
        here = self._value("LITELLM_ENVIRONMENT")
        return here if here in _ENVIRONMENTS else None

    def _is_chat(self, entry: _Entry) -> bool:
        """Whether it is a model to talk to, by what the config says, else by what is known of the model."""
        mode = entry.model_info.get("mode")
        if isinstance(mode, str) and is_mode(mode):  # any other word tells nothing, as in LiteLLM
            return mode in _CHAT_MODES
        params = entry.litellm_params
        model = params.get("model")
        if (name := reference(model)) is not None:
            model = value_of(name, self._environ)
        shown, _ = self._display({**params, "model": model})
        base = self._resolve(
            params.get("base_model") or entry.model_info.get("base_model"), "", lambda *_: None
        )  # what is unset is said where the deployment is made
        known = self._tables.find(shown, {"base_model": base})
        return known["mode"] in _CHAT_MODES if "mode" in known else base is not None or not embeds(shown)

    def _deployments(self, place: str, entry: _Entry, earlier: Sequence[Deployment]) -> list[Deployment]:
        """What an entry makes: one deployment, or one for each of several organizations."""
        organizations = entry.litellm_params.get("organization")
        if not isinstance(organizations, list):
            organizations = [organizations]
        found: list[Deployment] = []
        for organization in organizations:
            params = {**entry.litellm_params, "organization": organization}
            made = self._deployment(place, entry.model_name, params, entry.model_info, [*earlier, *found])
            found += [] if made is None else [made]
        return found

    def _written(self, place: str, given: Mapping[str, Any], reasons: list[str]) -> dict[str, Any]:
        """Those of the litellm_params that count, with what a credential adds to them."""
        raw: dict[str, Any] = {}
        for key, value in given.items():
            if key in _LIMITS:
                continue  # the budgets say it
            if key in _REFUSED:
                self._idle += [] if _is_nothing(value) else [f"{place}.{key}"]
            elif value is None or (isinstance(value, str) and not value.strip()):
                continue
            elif key == "drop_params" and isinstance(value, list | dict):
                self._lost.append(f"{place}.{key}: should be true or false; a list is additional_drop_params; left out")
            elif close := self._meant(key):
                self._lost.append(f"{place}.{cut(key)}: unknown key, which is not sent; did you mean {close}?")
                if close in ("api_base", "base_url", "api_key") and given.get(close) is None:
                    reasons.append(f"{cut(key)} is no key of LiteLLM's; did you mean {close}?")
            else:
                raw[key] = value
        if (credential := raw.pop("litellm_credential_name", None)) is not None:
            name = self._resolve(credential, f"{place}.litellm_credential_name", self._left_out)
            if name in self._credentials:
                raw = self._credentials[name] | raw
            elif name is not _UNSET:
                self._lost.append(f"{place}.litellm_credential_name: no such name in credential_list; left out")
        # As LiteLLM has it: an address by its other name wins, and its client's retries are not the Router's.
        for key, loser in (("base_url", "api_base"), ("num_retries", "max_retries")):
            if key in raw and loser in raw:
                self._lost.append(f"{place}.{loser}: is {key} by another name, which counts")
                del raw[loser]
        return raw

    def _meant(self, key: str, known: frozenset[str] = KNOWN_PARAMS) -> str | None:
        """The key that this one is a slip away from, in a file that has not too many of them."""
        return meant(key, known) if len(self._lost) < _MOST_LISTED else None

    def _deployment(
        self,
        place: str,
        group: str,
        given: Mapping[str, Any],
        model_info: Mapping[str, Any],
        earlier: Sequence[Deployment],
    ) -> Deployment | None:
        here = f"{place}.litellm_params"
        if not _is_nothing(given.get("max_budget")):
            self._spending.append((here, group, given))
        reasons: list[str] = []
        raw = self._written(here, given, reasons)
        named = self._resolve(raw.get("model"), f"{here}.model", lambda *_: None)
        if named is _UNSET:
            named = raw["model"]  # so that an unset one can at least be named
        named = _NO_MODEL if named is None else named
        shown = self._resolve(raw, here, lambda *_: None) | {"model": named}
        model, provider = self._display(shown)
        local = provider in ("ollama", "embedded")
        for key, value in self._defaults.of(provider).items():
            if key not in raw and _NAMED_TOO.get(key) not in raw:
                raw[key] = value

        def unset(where: str, name: str | None) -> None:
            key = where.removeprefix(f"{here}.")
            if key in _NEEDED and not (key == "api_key" and not asks_for_key(provider)):
                reasons.append(f"{cut(name)} is not set" if name else f"{key} {_NO_NAME}")
            else:
                self._left_out(where, name)

        resolved = self._resolve(raw, here, unset)
        resolved.setdefault("model", named)
        if "custom_llm_provider" in shown:
            resolved.setdefault("custom_llm_provider", shown["custom_llm_provider"])
        reach = self._access(model, provider, raw, resolved)
        implied = {key: f"{REFERENCE}{name}" for key, name in reach.implied.items()}
        raw |= implied
        resolved |= self._resolve(implied, here, lambda *_: None)
        reasons += reach.wants
        if isinstance(model_info.get("supported_environments"), list) and self._environment() is None:
            reasons.append(f"LITELLM_ENVIRONMENT says none of {', '.join(_ENVIRONMENTS)}; it is for some")
        names = {key: reference(value) for key, value in raw.items()}
        self._check_address(here, resolved, names, reasons)
        self._sendable(resolved, here)
        reasons += absent(resolved)
        if provider == "embedded":
            self._embedded[group] = place
            try:
                embedded.find_model(self._process)
            except EmbeddedError as error:
                reasons.append(error.message)

        notes = self._resolve(model_info, f"{place}.model_info", self._left_out)
        for section, name in ((resolved, here), (notes, f"{place}.model_info")):
            self._sound_prices(section, name)
        params = self._parse(_Params, resolved, here, names, needed=("model",))
        info = self._parse(_Info, notes, f"{place}.model_info", needed=()) or _Info()
        if params is None:
            return None
        others = self._others(params)
        for prices, name in ((info, f"{place}.model_info"), (params, here)):
            others |= self._more_prices(prices, name)
        others |= where(provider, params.model, others, lambda name: value_of(name, self._environ))
        if local:
            others.pop("custom_llm_provider", None)  # it is settled: these are reached through a client of our choice

        input_cost, output_cost = (
            next((value for value in given if value is not None), 0.0 if local else None)
            for given in (
                (params.input_cost_per_token, info.input_cost_per_token),
                (params.output_cost_per_token, info.output_cost_per_token),
            )
        )
        call = {
            "model": params.model,
            "api_base": params.api_base,
            "api_key": params.api_key or ("not-needed" if reach.keyless else None),
            "base_model": info.base_model,
            "input_cost_per_token": input_cost,
            "output_cost_per_token": output_cost,
        }
        if params.timeout is not None:
            self._patience.append((f"{here}.timeout", params.timeout))
        most = params.max_parallel_requests
        call = {key: value for key, value in call.items() if value is not None} | others
        twins = 1 + sum(other.model == model for other in earlier)
        self._shown.append({"model_name": group, "litellm_params": raw, "model_info": dict(model_info)})
        return Deployment(
            id=f"{group}/{len(earlier) + 1}",
            group=group,
            name=model if twins == 1 else f"{model}#{twins}",
            model=model,
            params=MappingProxyType(call),
            order=params.order,
            timeout_s=self._defaults.timeout_s if params.timeout is None else params.timeout,
            num_retries=self._defaults.num_retries if params.num_retries is None else params.num_retries,
            cooldown_s=self._defaults.cooldown_s if params.cooldown_time is None else params.cooldown_time,
            weight=params.weight,
            rpm=params.rpm,
            tpm=params.tpm,
            max_parallel_requests=(self._defaults.max_parallel_requests if most is None else most) or None,
            input_cost=input_cost,
            output_cost=output_cost,
            max_output_tokens=info.max_output_tokens,
            context_window=info.max_input_tokens or info.max_tokens or _WINDOWS.get(provider),
            supports=MappingProxyType(self._abilities(provider) | info.supports),
            data=MappingProxyType(merged(_said(notes), self._tables.find(model, call))),
            unavailable="; ".join(dict.fromkeys(reasons)) or None,
            secrets=frozenset(self._from_environment({**raw, "model": None})),
        )

    def _sendable(self, resolved: dict[str, Any], place: str) -> None:
        """Give headers and switches the type that they are sent or read with, and take out those that have none."""
        for key in ("headers", "extra_headers", "default_headers"):
            given = resolved.get(key)
            if isinstance(given, dict):
                resolved[key] = {}
                for name, value in given.items():
                    text = _header(value)
                    if text is not None and is_sendable(text) and is_sendable(name, " :"):
                        resolved[key][name] = text
                    else:
                        self._lost.append(f"{place}.{key}.{cut(name)}: cannot be sent in a header; left out")
            elif given is not None:
                self._lost.append(f"{place}.{key}: should be an object; left out")
                del resolved[key]
        if "drop_params" in resolved:
            resolved["drop_params"] = _is_true(resolved["drop_params"])
        if not isinstance(resolved.get("additional_drop_params", []), list):
            self._lost.append(f"{place}.additional_drop_params: should be a list; left out")
            del resolved["additional_drop_params"]

    def _check_address(
        self, place: str, resolved: dict[str, Any], names: Mapping[str, str | None], reasons: list[str]
    ) -> None:
        """Take out an address or a key that no request can go to or carry: this deployment cannot be called, and the
        others can."""
        model = resolved.get("model")
        if isinstance(model, str) and is_placeholder(model) and not is_reference(model):
            reasons.append(f"model {_PLACEHOLDER}")
        for key, is_sound, why in (
            ("api_base", is_url, "should be an http:// or https:// address with a host"),
            ("base_url", is_url, "should be an http:// or https:// address with a host"),
            ("api_key", is_sendable, "holds characters that cannot be sent"),
        ):
            value = resolved.get(key)
            if isinstance(value, str) and key == "api_key" and is_placeholder(value.strip()):
                self._lost.append(f"{place}.{key}: {_PLACEHOLDER}")
                reasons.append(f"{cut(names.get(key) or key)} {_PLACEHOLDER}")
                del resolved[key]
            elif value is not None and not (isinstance(value, str) and is_sound(value.strip())):
                name = names.get(key) or key
                if name == "OLLAMA_BASE_URL" and name not in self._environ:  # so that it is what the other one says
                    name, why = "OLLAMA_HOST", "should be a host, a host with a port, or an http:// address"
                reasons.append(f"{cut(name)} {why if isinstance(value, str) else 'should be text'}")
                del resolved[key]

    def _sound_prices(self, section: dict[str, Any], place: str) -> None:
        """Take out the prices that are none, and have a word on those that look like one of a million tokens."""
        for key in [key for key in section if is_price(key)]:
            value = section[key]
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                continue
            try:
                price = float(value)
            except ValueError:
                continue
            if not 0 <= price <= _MOST_DOLLARS:
                self._lost.append(f"{place}.{cut(key)}: is no price of a token in US dollars; left out")
                del section[key]
            elif price > 1:
                self._lost.append(f"{place}.{cut(key)}: is more than a dollar for each token; it is not per million")

    def _abilities(self, provider: str) -> dict[str, bool]:
        """What is known of the two local servers, whose models LiteLLM's map does not have."""
        if provider == "ollama":
            return {"structured_output": True}
        if provider == "embedded":
            # SmolLM2's chat template has no tools; a file that the user chose may have them.
            tools = {} if self._value("KONSTRUCT_GGUF") else {"tools": False}
            return tools | {"vision": False, "structured_output": True}
        return {}

    def _display(self, params: dict[str, Any]) -> tuple[str, str]:
        """`provider/model` as users read it, and the provider: empty where LiteLLM knows none of it."""
        model, provider = params["model"], params.get("custom_llm_provider")
        if not isinstance(model, str):
            return "", ""
        model = model.strip()
        if isinstance(provider, str) and provider:
            model = model if model.startswith(f"{provider}/") else f"{provider}/{model}"
        elif not is_provider(model.partition("/")[0]):
            address = params.get("api_base", params.get("base_url"))
            provider = provider_of(model, address if isinstance(address, str) else None)
            if not provider and (provider := next((one for bare, one in _BARE if bare.match(model)), "")):
                params["custom_llm_provider"] = provider  # which LiteLLM would not make of it
            model = f"{provider}/{model}" if provider else model
        provider, slash, name = model.partition("/")
        if provider == "ollama_chat":
            provider, model = "ollama", f"ollama/{name}"
        elif provider == "embedded" and (file := self._environ.get("KONSTRUCT_GGUF", "").strip()):
            model = f"embedded/{cut(Path(file).stem)}"
        return model, provider if slash else ""

    def _access(self, model: str, provider: str, raw: Mapping[str, Any], resolved: Mapping[str, Any]) -> Access:
        """What it needs before it can be asked; `raw` are its parameters as they are written."""
        if model == _NO_MODEL:
            return Access(wants=("its litellm_params have no model",))
        given = {_NAMES.get(key, key): value for key, value in resolved.items() if value is not None}
        if provider == "ollama" and "api_base" not in given:
            return Access({"api_base": "OLLAMA_BASE_URL"})
        unset = {
            _NAMES.get(key, key): name
            for key, value in raw.items()
            if resolved.get(key) is None and (name := reference(value))
        }
        if reference(model) or is_pattern(model.partition("/")[0]):  # so that nobody can tell whose it is
            return Access()
        for key, value in raw.items():
            if is_reference(value) and reference(value) is None:  # what is wrong there has been said
                given.setdefault(_NAMES.get(key, key), value)
        looked_up: set[str] = set()

        def lookup(name: str) -> str | None:
            if (value := value_of(name, self._environ)) is not None:
                looked_up.add(name)
            return value

        found = access(provider, given, unset, lookup)
        self._needed |= looked_up - {*found.implied.values()}
        return found

    def _value(self, name: str) -> str | None:
        self._used.add(name)
        return value_of(name, self._environ)

    def _resolve(self, value: Any, place: str, unset: Callable[[str, str | None], None]) -> Any:
        """The value with its environment references resolved, and without those that are not set: `unset` is told the
        place and the variable of each, None for one that names none."""
        match value:
            case dict():
                pairs = ((key, self._resolve(item, f"{place}.{cut(key)}", unset)) for key, item in value.items())
                return {key: item for key, item in pairs if item is not _UNSET}
            case list():
                items = (self._resolve(item, f"{place}[{i}]", unset) for i, item in enumerate(value))
                return [item for item in items if item is not _UNSET]
            case str() if is_reference(value):
                name = reference(value)
                if name is not None and (found := self._value(name)) is not None:
                    return found
                unset(place, name)
                return _UNSET
            case _:
                return value

    def _from_environment(self, written: Any) -> Iterator[str]:
        """Every text that was a reference as it was written."""
        if isinstance(written, dict | list):
            for item in written.values() if isinstance(written, dict) else written:
                yield from self._from_environment(item)
        elif (name := reference(written)) is not None and (found := self._environ.get(name, "").strip()):
            yield found

    def _others(self, params: _Params) -> dict[str, Any]:
        """The keys that only LiteLLM reads."""
        others = {key: value for key, value in (params.model_extra or {}).items() if value is not None}
        return {key: typed(key, value) for key, value in others.items() if not is_price(key)}

    def _more_prices(self, section: _Prices, place: str) -> dict[str, float]:
        prices = {}
        for key, value in (section.model_extra or {}).items():
            if value is None or not is_price(key):
                continue
            if not _MORE_PRICES.fullmatch(key):
                self._idle.append(f"{place}.{cut(key)}")
                continue
            try:
                prices[key] = _DOLLARS.validate_python(value)
            except ValidationError:
                self._lost.append(f"{place}.{cut(key)}: should be US dollars per token; left out")
        return prices


def _bare(name: str) -> str:
    """A group's name without its provider, by which LiteLLM looks for the fallbacks of `openai/gpt-4o` too; empty for
    one that begins with none."""
    provider, _, rest = name.partition("/")
    return rest if is_provider(provider) else ""


def _said(notes: Mapping[str, Any]) -> dict[str, Any]:
    """What `model_info` says of the model. Its prices are among the params, where they are reckoned with."""
    return {key: value for key, value in sound(notes).items() if value is not None and not is_price(key)}


def _shown_budgets(budgets: Iterable[Budget], seen: Collection[str]) -> list[dict[str, Any]]:
    """Those that are on a group that is seen."""
    shown = []
    for budget in budgets:
        groups = [name for name in budget.groups if name in seen]
        if groups or not budget.groups:
            shown.append({"usd": budget.limit_nusd / NUSD, "per": budget.per, **({"groups": groups} if groups else {})})
    return shown


def _shown_tenant(tenant: Tenant, seen: Collection[str], *, with_note: bool) -> dict[str, Any]:
    shown = {"groups": [*tenant.groups, *tenant.patterns], "budgets": _shown_budgets(tenant.budgets, seen)}
    return shown | ({"note": tenant.note} if tenant.note and with_note else {})


def _describe(deployments: Iterable[Deployment]) -> str:
    """Its models in the order in which they are asked: `a or b, then c`."""

    def rank(deployment: Deployment) -> tuple[bool, int]:
        return deployment.order is None, deployment.order or 0

    ranks = itertools.groupby(sorted(deployments, key=rank), rank)
    return cut(", then ".join(" or ".join(dict.fromkeys(d.model for d in equals)) for _, equals in ranks), 120)
