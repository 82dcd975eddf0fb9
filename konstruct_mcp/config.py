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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import parse_qsl, urlsplit, urlunsplit

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

from . import embedded
from .access import Access, access, is_provider, provider_of
from .accounts import Budget
from .errors import LONGEST_NAME, ConfigError, EmbeddedError, cut, quoted
from .models import Models, merged, read_file, sound
from .models import is_price as is_price  # of litellm_params, too
from .source import Source, data_folder, read_source
from .types import NUSD, TENANT_ID, TENANT_ID_RULE, Per, flaws

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
        weight: its share under `simple-shuffle`.
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
    weight: float = 1.0
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
    """A model group: deployments in the file's order, and the groups behind it."""

    name: str
    description: str
    deployments: tuple[Deployment, ...]
    fallbacks: tuple[str, ...] = ()
    context_window_fallbacks: tuple[str, ...] = ()
    content_policy_fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody on whose account calls are made: the groups they may use, in the file's order, and their budgets."""

    id: str
    groups: tuple[str, ...]
    budgets: tuple[Budget, ...] = ()
    note: str | None = None


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
        return _masked_url(self.url)


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration.

    Attributes:
        source: where it came from, for the operator: a path, or "the built-in config".
        file: the absolute path of its file, None for the built-in one.
        groups: by name, in the file's order.
        default_group: the group of a call that names none; a key of `groups`.
        default_tenant: the tenant of a call that names none.
        known_tenant: whose server this is, where the environment or the config says so.
        tenants: those that are named, by id.
        allow_unknown: whether there are others.
        budgets: of every tenant that has none of its own.
        budget_fallback: the group whose free deployments may answer where a budget does not afford the call.
        min_answer_tokens: an answer that a budget affords no more than this many tokens of is not worth asking for.
        ledger: where the accounts are kept.
        timeout_s: the deadline of a whole call, in seconds.
        max_concurrency: calls under way at once.
        max_queue: calls that may wait for their turn; more are refused.
        max_result_chars: characters of an answer that an assistant is given at once.
        allowed_fails: failed tries within a minute that a deployment may have before it cools down.
        routing_strategy: how to choose among deployments of equal order.
        warnings: what the file holds that has no effect here, one line each.
        public: the effective config as plain data, every secret masked.
        models: what is known of models.
        models_file: the user's own table of them, which need not exist; None for a user without a data folder.
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
    allowed_fails: int
    routing_strategy: RoutingStrategy
    warnings: tuple[str, ...]
    public: Mapping[str, Any]
    models: Models = field(default_factory=Models, repr=False, compare=False)  # what is used is in the deployments
    models_file: Path | None = None

    def with_ledger_of(self, other: Config) -> Config:
        """The same, but for the ledger."""
        shown = {**self.public["konstruct"], "ledger_url": other.public["konstruct"]["ledger_url"]}
        return replace(self, ledger=other.ledger, public={**self.public, "konstruct": shown})


def default_among(default_group: str, allowed: Sequence[str]) -> str:
    """The group of a call that names none, of a tenant who may use these."""
    return default_group if default_group in allowed else allowed[0]


def load_config(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The effective config: from `path`, else `$KONSTRUCT_CONFIG`, the user's config folder, the built-in one.

    Raises:
        ConfigError: holding every fault, each with its place.
    """
    environ = os.environ if environ is None else environ
    source = read_source(path, environ)
    if source.path is None:
        if not embedded.installed():
            _drop_embedded(source.document)
        _name_ollamas_model(source.document, environ)
    reading = _Reading(environ)
    config = reading.config(source)
    if config is None:
        raise ConfigError(reading.faults, source=source.origin)
    return config


def _drop_embedded(document: dict[str, Any]) -> None:
    """Take the embedded group out of the built-in config: without its extra it would only ever be unavailable."""
    entries = document["model_list"]
    ours = {e["model_name"] for e in entries if e["litellm_params"]["model"].startswith("embedded/")}
    document["model_list"] = [e for e in entries if e["model_name"] not in ours]
    for name in ours:
        document["konstruct"]["groups"].pop(name, None)


def _name_ollamas_model(document: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Put another model in the place of the built-in config's local one, where the environment names one."""
    name = environ.get("KONSTRUCT_OLLAMA_MODEL", "").strip().removeprefix("ollama/")
    if name and not _UNEXPANDED.match(name):
        for entry in document["model_list"]:
            if entry["litellm_params"]["model"].startswith("ollama/"):
                entry["litellm_params"]["model"] = f"ollama/{name}"


# ---- words that may be shown -----------------------------------------------------------------------------------------

_REFERENCE = "os.environ/"
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MOST_LISTED = 100  # faults, and idle places: nobody reads more, and a file can hold thousands


def _listed(names: Iterable[str]) -> str:
    return cut(", ".join(itertools.islice((cut(name) for name in sorted(names)), _MOST_LISTED)), 500)


def _suggestion(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    close = difflib.get_close_matches(word[:LONGEST_NAME].lower(), list(known), n=1, cutoff=likeness)
    return close[0] if close else None


def _reference(value: Any) -> str | None:
    """The NAME of a well-formed `os.environ/NAME`."""
    if isinstance(value, str) and value.startswith(_REFERENCE) and _ENV_NAME.match(value, len(_REFERENCE)):
        return value.removeprefix(_REFERENCE)
    return None


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        host = (url.hostname or "").encode("idna")  # refuses a name with an empty part, as every resolver would
        return url.scheme in ("http", "https") and bool(host) and url.port != 0 and _sendable(text, " ")
    except ValueError:  # unbalanced brackets, a port that is no number, a host that is no name
        return False


def _sendable(text: str, without: str = "") -> bool:
    """Whether it can go in an HTTP header: httpx sends those as ASCII."""
    return text.isascii() and text.isprintable() and not any(c in text for c in without)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What of litellm_params and model_info is shown as written, if it is a scalar. Everything else is masked.
_SHOWN = _words(
    "model order timeout num_retries max_retries cooldown_time weight rpm tpm max_parallel_requests"
    " api_version drop_params custom_llm_provider region_name aws_region_name vertex_location"
    " max_tokens max_completion_tokens temperature top_p reasoning_effort"
    " mode base_model max_input_tokens max_output_tokens"
    " supports_function_calling supports_vision supports_response_schema"
    " input_cost_per_token output_cost_per_token"
    " cache_read_input_token_cost cache_creation_input_token_cost"
)


def _shown(key: str, value: Any) -> Any:
    if _reference(value):
        return value
    if key in ("api_base", "base_url") and isinstance(value, str):
        url = urlsplit(value.strip())
        host = url.netloc.rpartition("@")[2]
        netloc = f"***@{host}" if "@" in url.netloc else host
        path = url.path if url.path in ("", "/", "/v1", "/v1/") else "/***"  # gateways put tokens there
        return urlunsplit((url.scheme, netloc, path, "***" if url.query else "", ""))
    return value if key in _SHOWN and not isinstance(value, dict | list) else "***"


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


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("should be one line of printable characters")
    return text


# Numbers may be numeric strings: LiteLLM users write them, references resolve to them, and YAML 1.1 reads 3e-06 as one.
_Number = BeforeValidator(_not_bool)
_Seconds = Annotated[float, _Number, Field(gt=0, le=86400)]  # a day, as in a request
_Cooldown = Annotated[float, _Number, Field(ge=0, le=86400)]
_Retries = Annotated[int, _Number, Field(ge=0, le=100)]  # more is a slip: each waits longer than the one before
_Count = Annotated[int, _Number, Field(ge=1, le=2**53)]  # what JSON readers keep exact
_Characters = Annotated[int, _Number, Field(ge=100, le=2**53)]  # fewer hold no sentence
_CountOrNone = Annotated[int, _Number, Field(ge=0, le=2**53)]
_Price = Annotated[float, _Number, Field(ge=0, le=1)]  # a dollar per token is a slip of six digits
_Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_one_line)]
_Fallbacks = list[dict[str, list[str]]]

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


class _Routing(_Section):
    num_retries: _Retries | None = None
    cooldown_time: _Cooldown | None = None
    allowed_fails: _CountOrNone | None = None
    fallbacks: _Fallbacks | None = None
    context_window_fallbacks: _Fallbacks | None = None
    content_policy_fallbacks: _Fallbacks | None = None
    default_fallbacks: list[str] | None = None


class _RouterSettings(_Routing):
    timeout: _Seconds | None = None
    routing_strategy: RoutingStrategy = "latency-based-routing"

    @field_validator("routing_strategy", mode="before")
    @classmethod
    def _is_one_of_ours(cls, name: Any) -> Any:
        if name not in get_args(RoutingStrategy):
            raise ValueError(f"this strategy is not supported; use one of {', '.join(get_args(RoutingStrategy))}")
        return name


class _LiteLLMSettings(_Routing):
    request_timeout: _Seconds | None = None


class _KonstructSettings(_Section):
    model_config = ConfigDict(extra="forbid")

    default_group: str | None = None
    groups: dict[str, Any] = {}
    timeout_s: _Seconds = 300.0
    max_concurrency: _Count = 200  # more than any one assistant has; a call under way holds its request in memory
    max_queue: _CountOrNone = 1000
    max_result_chars: _Characters = 100_000  # some 25,000 tokens, what several clients take in one result
    default_tenant: str | None = None
    tenants: dict[str, Any] | None = None
    allow_unknown: bool | None = None
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


class _Entry(_Section):
    model_name: _Name
    litellm_params: dict[str, Any]
    model_info: dict[str, Any] = {}


class _Prices(_Section):
    input_cost_per_token: _Price | None = None
    output_cost_per_token: _Price | None = None


class _Params(_Prices):
    """The keys of litellm_params that we read. The others are LiteLLM's, and go through untouched."""

    model: Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_one_line)]
    api_base: str | None = Field(default=None, validation_alias=AliasChoices("api_base", "base_url"))
    api_key: str | None = None
    order: Annotated[int, _Number, Field(ge=-(2**53), le=2**53)] | None = None
    timeout: _Seconds | None = None
    num_retries: _Retries | None = Field(default=None, validation_alias=AliasChoices("num_retries", "max_retries"))
    cooldown_time: _Cooldown | None = None
    weight: Annotated[float, _Number, Field(gt=0, le=10**9)] = 1.0  # bounded, so that a sum of them is finite
    rpm: _Count | None = None
    tpm: _Count | None = None
    max_parallel_requests: _Count | None = None

    @field_validator("api_base")
    @classmethod
    def _has_a_host(cls, url: str) -> str:
        if not _is_url(url):
            raise ValueError("should be an http:// or https:// address with a host")
        return url

    @field_validator("api_key")
    @classmethod
    def _can_be_sent(cls, key: str) -> str:
        if not _sendable(key):
            raise ValueError("holds characters that cannot be sent")
        return key


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


_SECTIONS = ("model_list", "router_settings", "litellm_settings", "konstruct")
_NO_MODEL = "(no model)"
_NAMES = {"base_url": "api_base"}
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
    " secret_fields max_budget budget_duration client use_client enable_preview_features fastest_response"
)

_OLLAMA_PORT = {"": 11434, "http": 80, "https": 443}  # as Ollama reads OLLAMA_HOST: that of a scheme where it has one
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  where Ollama listens; a client asks this machine
_DEFAULT_TENANT = "default"
_SCHEME = re.compile(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?\Z")
_UNEXPANDED = re.compile(r"\$\{[^}]*\}\Z|\$[A-Za-z_][A-Za-z0-9_]*\Z|%[A-Za-z_][A-Za-z0-9_]*%\Z")
_WINDOWS = {"embedded": embedded.CONTEXT_TOKENS}  # of the servers that we start
_BARE = ((re.compile(r"gpt-|o\d|chatgpt-"), "openai"), (re.compile(r"claude-"), "anthropic"))

_Model = TypeVar("_Model", bound=_Section)


# ---- the reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What holds for a deployment that says nothing of it."""

    timeout_s: float
    num_retries: int
    cooldown_s: float


class _Reading:
    """One pass over one document: the faults and the idle places found so far, and what they were found with."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.faults: list[str] = []
        self._idle: list[str] = []  # places of what has no effect here
        self._environ = environ
        self._tables = Models()
        self._named: Counter[str] = Counter()  # group names as written → their entries, right or wrong
        self._skipped: Counter[str] = Counter()  # group names → their entries that are passed over
        self._known: dict[str, None] = {}  # the groups in the file's order, but for those wholly passed over
        self._listing = ""  # the known groups, to be named in a fault
        self._groups: dict[str, list[Deployment]] = {}
        self._shown: list[dict[str, Any]] = []  # the entries as they are to be masked and shown
        self._models: Counter[tuple[str, str]] = Counter()  # group and model → deployments so far
        self._embedded: dict[str, str] = {}  # group → place of its embedded deployment

    def config(self, source: Source) -> Config | None:
        """The config that the document and the environment make; None when there are faults."""
        document = source.document
        self._top_level(document)
        router = self._section(_RouterSettings, document, "router_settings")
        litellm = self._section(_LiteLLMSettings, document, "litellm_settings")
        konstruct = self._section(_KonstructSettings, document, "konstruct")

        def setting(name: str, default: Any) -> Any:
            given = (getattr(router, name), getattr(litellm, name))
            return next((value for value in given if value is not None), default)

        models_file = self._models_file(konstruct.models_file, source)
        timeout = router.timeout or litellm.request_timeout or 120.0
        defaults = _Defaults(timeout, setting("num_retries", 2), setting("cooldown_time", 30.0))
        self._model_list(document.get("model_list"), defaults)

        chains = {}
        for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
            home = "router_settings" if getattr(router, kind) is not None else "litellm_settings"
            chains[kind] = self._chains(f"{home}.{kind}", setting(kind, []), circular=kind != "fallbacks")
            if kind == "fallbacks":
                for cycle in _cycles(chains[kind]):
                    self._fault(f"{home}.{kind}", " → ".join(map(cut, cycle)) + " goes round in a circle")
        home = "router_settings" if router.default_fallbacks is not None else "litellm_settings"
        last_resort = self._targets(f"{home}.default_fallbacks", setting("default_fallbacks", []))
        last_resort = tuple(dict.fromkeys((*chains["fallbacks"].pop("*", ()), *last_resort)))  # LiteLLM's other way
        # Whoever is behind the defaults, directly or further on, gets none of them: it would lead in a circle.
        behind = _reachable(last_resort, chains["fallbacks"])
        for name in self._known:
            if name not in behind:
                chains["fallbacks"].setdefault(name, last_resort)

        descriptions = self._descriptions(konstruct.groups)
        default_group = konstruct.default_group
        if default_group is None:
            default_group = "balanced" if "balanced" in self._known else next(iter(self._known), "")
        elif default_group not in self._known:
            self._fault("konstruct.default_group", self._no_group(default_group))
        budgets = self._budgets(konstruct.budgets, "konstruct.budgets")
        tenants = self._tenants(konstruct.tenants or {}, budgets)
        allow_unknown = konstruct.tenants is None if konstruct.allow_unknown is None else konstruct.allow_unknown
        if not allow_unknown and not konstruct.tenants:
            self._fault("konstruct.tenants", "should name a tenant, or nobody is one; without this key everybody is")
        known_tenant = self._known_tenant(konstruct.default_tenant, None if allow_unknown else tenants)
        fallback = konstruct.budget_fallback
        if (
            fallback is not None
            and self._is_group("konstruct.budget_fallback", fallback)
            and fallback in self._embedded
        ):
            self._fault("konstruct.budget_fallback", f"{quoted(fallback)} is the embedded model, too weak for that")
        ledger = self._ledger(konstruct.ledger_url)
        if self.faults:
            return None

        groups = {
            name: Group(
                name,
                descriptions.get(name) or _describe(deployments),
                tuple(deployments),
                **{kind: lists.get(name, ()) for kind, lists in chains.items()},
            )
            for name, deployments in self._groups.items()
        }
        # One tenant never sees another's: where this is a tenant's server, its own entry and groups are all there is.
        own = tenants.get(known_tenant or "")
        visible = [name for name in groups if own is None or name in own.groups]
        fallbacks = {
            kind: [{name: to} for name in visible if (to := [one for one in lists.get(name, ()) if one in visible])]
            for kind, lists in chains.items()
        }
        public = {
            "source": source.origin,
            "model_list": [_masked(entry) for entry in self._shown if entry["model_name"] in visible],
            "router_settings": {
                "routing_strategy": router.routing_strategy,
                "num_retries": defaults.num_retries,
                "timeout": defaults.timeout_s,
                "cooldown_time": defaults.cooldown_s,
                "allowed_fails": setting("allowed_fails", 2),
                **fallbacks,
            },
            "konstruct": {
                "default_group": default_among(default_group, visible),
                "default_tenant": known_tenant or _DEFAULT_TENANT,
                "timeout_s": konstruct.timeout_s,
                "max_concurrency": konstruct.max_concurrency,
                "max_queue": konstruct.max_queue,
                "max_result_chars": konstruct.max_result_chars,
                "allow_unknown": allow_unknown,
                "tenants": {
                    tenant.id: _shown_tenant(tenant, visible, with_note=known_tenant is None)
                    for tenant in tenants.values()
                    if known_tenant in (None, tenant.id)
                },
                "budgets": _shown_budgets(budgets, visible),
                "budget_fallback": fallback if fallback in visible else None,
                "min_answer_tokens": konstruct.min_answer_tokens,
                "ledger_url": _masked_url(ledger.url),
                "models_file": None if konstruct.models_file is None else "***",
                "groups": {name: {"description": groups[name].description} for name in visible},
            },
        }
        return Config(
            source=source.path or source.origin,
            file=None if source.path is None else Path(source.path),
            groups=MappingProxyType(groups),
            default_group=default_group,
            default_tenant=known_tenant or _DEFAULT_TENANT,
            known_tenant=known_tenant,
            tenants=MappingProxyType(tenants),
            allow_unknown=allow_unknown,
            budgets=budgets,
            budget_fallback=fallback,
            min_answer_tokens=konstruct.min_answer_tokens,
            ledger=ledger,
            models=self._tables,
            models_file=models_file,
            timeout_s=konstruct.timeout_s,
            max_concurrency=konstruct.max_concurrency,
            max_queue=konstruct.max_queue,
            max_result_chars=konstruct.max_result_chars,
            allowed_fails=setting("allowed_fails", 2),
            routing_strategy=router.routing_strategy,
            warnings=self._warnings(),
            public=public,
        )

    # -- saying what is wrong

    def _fault(self, place: str, message: str) -> None:
        if len(self.faults) < _MOST_LISTED:
            self.faults.append(f"{cut(place, 200)}: {message}")

    def _warnings(self) -> tuple[str, ...]:
        if not self._idle:
            return ()
        more = len(self._idle) - _MOST_LISTED
        listed = ", ".join(cut(place, 200) for place in self._idle[:_MOST_LISTED])
        return (f"no effect here: {listed}" + (f" and {more} more" if more > 0 else ""),)

    def _parse(
        self, model: type[_Model], value: Any, place: str, names: Mapping[str, str | None] | None = None
    ) -> _Model | None:
        """What is sound of `value`, its flaws noted; None when that is not enough.

        `names` tells which keys were environment references, so that the flaw names the variable.
        """
        try:
            return model.model_validate(value)
        except ValidationError as error:
            for where, message in flaws(error):
                if message == "unknown field":
                    close = _suggestion(where, model.model_fields)
                    message = f"unknown key; did you mean {close}?" if close else "unknown key"
                at = f"{cut(place, 120)}.{cut(where)}" if where else place
                self._fault(f"{at} ({cut(name)})" if (name := (names or {}).get(where)) else at, message)
            bad = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        try:
            return model.model_validate({k: v for k, v in value.items() if k not in bad}) if bad else None
        except ValidationError:
            return None

    # -- sections

    def _top_level(self, document: dict[str, Any]) -> None:
        for key in document:
            if key in _SECTIONS:
                continue
            if close := _suggestion(key, ("konstruct", "model_list", "router_settings"), 0.8):
                self._fault(cut(key), f"unknown section; did you mean {close}?")
            else:
                self._idle.append(key)

    def _section(self, model: type[_Model], document: dict[str, Any], name: str) -> _Model:
        value = document.get(name)
        section = self._parse(model, {} if value is None else value, name) or model()
        self._idle += [f"{name}.{key}" for key in section.model_extra or ()]
        return section

    def _descriptions(self, groups: Mapping[str, Any]) -> dict[str, str | None]:
        found = {}
        for name, value in groups.items():
            place = f"konstruct.groups.{cut(name)}"
            if name not in self._known:
                self._fault(place, f"no such group; groups: {self._listing}")
            settings = self._parse(_GroupSettings, {} if value is None else value, place)
            found[name] = settings.description if settings else None
        return found

    # -- tenants and their budgets

    def _tenants(self, entries: Mapping[str, Any], defaults: tuple[Budget, ...]) -> dict[str, Tenant]:
        found = {}
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
            groups = tuple(self._known) if settings.groups is None else self._groups_of(settings.groups, place)
            own = None if settings.budgets is None else self._budgets(settings.budgets, f"{place}.budgets")
            found[name] = Tenant(name, groups, defaults if own is None else own, settings.note)
        return found

    def _groups_of(self, names: Sequence[str], place: str) -> tuple[str, ...]:
        """Those of these names, in the file's order. There has to be one: none means all of them elsewhere."""
        faults = len(self.faults)
        found = {name for i, name in enumerate(names) if self._is_group(f"{place}.groups[{i}]", name)}
        if not found and len(self.faults) == faults:
            self._fault(f"{place}.groups", "should name a group that can be asked; without this key it is all of them")
        return tuple(name for name in self._known if name in found)

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
                found.append(Budget(limit, settings.per, groups))
        return tuple(found)

    def _known_tenant(self, default: str | None, named: Mapping[str, Tenant] | None) -> str | None:
        """Whose server this is; `named` are the tenants there are, None where there may be others."""
        place, tenant = "KONSTRUCT_TENANT_ID", self._value("KONSTRUCT_TENANT_ID")
        if tenant is None:
            place, tenant = "konstruct.default_tenant", default
        elif not TENANT_ID.match(tenant):
            self._fault(place, TENANT_ID_RULE)
            return None
        if tenant is not None and named is not None and tenant not in named:
            self._fault(place, "is no tenant of konstruct.tenants")
        return tenant

    def _ledger(self, given: str | None) -> LedgerPlace:
        """The ledger that the environment, else the config names, else a file in the user's data folder."""
        place, url = "KONSTRUCT_LEDGER_URL", self._value("KONSTRUCT_LEDGER_URL")
        if url is None:
            place, url = "konstruct.ledger_url", (given or "").strip()
            if name := _reference(url):
                place, url = f"{place} ({cut(name)})", self._value(name) or ""
                if not url:
                    self._fault(place, "is not set")
        folder = data_folder(self._environ)
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
                self._fault(place, "needs the extra `postgres`: pip install 'konstruct-mcp[postgres]'")
        if folder is None:
            self._fault(place, "this user has no data folder, which is needed beside a database server")
            return LedgerPlace(url, Path())
        which = hashlib.sha256(_which_database(url).encode()).hexdigest()[:16]
        return LedgerPlace(url, folder / f"ledger-{which}.spool")

    def _models_file(self, given: str | None, source: Source) -> Path | None:
        """Where the user's table of model data is; read if it is there."""
        place = "models.json in the user's data folder"
        if given is not None:
            place, named = "konstruct.models_file", given.strip()
            if name := _reference(named):
                place, named = f"{place} ({cut(name)})", self._value(name) or ""
            try:
                file = Path(source.path or os.sep).parent / Path(named).expanduser()
            except RuntimeError:
                named = ""
            if not named:
                self._fault(place, "should name a file")
                return None
        elif (folder := data_folder(self._environ)) is None:
            return None
        else:
            file = folder / "models.json"
        if os.path.lexists(file):  # else `models update` makes it
            try:
                self._tables = Models(read_file(file))
            except ValueError as error:
                for line in str(error).splitlines():
                    self._fault(place, line)
        return file

    # -- the groups and who is behind them

    def _no_group(self, name: str) -> str:
        return f"no group {quoted(name)}; groups: {self._listing}"

    def _chains(self, place: str, lists: _Fallbacks, *, circular: bool) -> dict[str, tuple[str, ...]]:
        """group → the groups behind it. `circular`: not even itself is refused elsewhere."""
        found: dict[str, tuple[str, ...]] = {}
        for position, item in enumerate(lists):
            for source, names in item.items():
                here = f"{place}[{position}].{cut(source)}"
                if source != "*" and not self._is_group(here, source):
                    continue
                targets = self._targets(here, names)
                if circular and source in targets:
                    self._fault(here, "a group cannot be its own fallback")
                if source in found:
                    self._fault(here, "this group has a list already")
                found.setdefault(source, targets)
        return found

    def _targets(self, place: str, names: Sequence[str]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for position, name in enumerate(names):
            here = f"{place}[{position}]"
            if not self._is_group(here, name):
                continue
            if name in self._embedded:
                self._fault(here, f"{quoted(name)} is the embedded model, too weak to answer in another's name")
            if name in found:
                self._fault(here, f"{quoted(name)} is there twice")
            found[name] = None
        return tuple(found)

    def _is_group(self, place: str, name: str) -> bool:
        if name in self._known:
            return True
        if name in self._named:  # passed over: LiteLLM's files chain embedding models too
            self._idle.append(place)
        else:
            self._fault(place, self._no_group(name))
        return False

    # -- deployments

    def _model_list(self, entries: Any, defaults: _Defaults) -> None:
        if not isinstance(entries, list):
            self._fault("model_list", "required, but missing" if entries is None else "should be a list")
            return
        faults = len(self.faults)
        seen: dict[str, str] = {}
        for position, entry in enumerate(entries):
            place = f"model_list[{position}]"
            if isinstance(entry, dict) and isinstance(entry.get("model_name"), str):
                self._named[entry["model_name"].strip()] += 1
            self._entry(place, entry, defaults, seen)
        # Also those whose entries are all faulty: that is said once, and not again where the group is named.
        self._known = {name: None for name, count in self._named.items() if self._skipped[name] < count}
        self._listing = _listed(self._known)
        for group, place in self._embedded.items():
            if self._named[group] > 1:
                self._fault(place, f"the embedded model needs a group of its own; {quoted(group)} has others")
        if not self._groups and len(self.faults) == faults:
            self._fault("model_list", "no deployment")

    def _entry(self, place: str, raw: Any, defaults: _Defaults, seen: dict[str, str]) -> None:
        entry = self._parse(_Entry, raw, place)
        if entry is None:
            if isinstance(raw, dict) and isinstance(raw.get("litellm_params"), dict):
                self._deployment(place, _Entry(model_name="?", litellm_params=raw["litellm_params"]), defaults)
            return
        self._idle += [f"{place}.{key}" for key in entry.model_extra or ()]
        if "*" in entry.model_name or "*" in str(entry.litellm_params.get("model")):
            why = "a wildcard"
        elif entry.model_info.get("mode") not in _CHAT_MODES:
            why = "not a chat model"
        else:
            # As text, because True equals 1 and a dictionary is no key.
            contents = json.dumps([entry.model_name, entry.litellm_params], sort_keys=True)
            if (earlier := seen.setdefault(contents, place)) != place:
                self._fault(place, f"the same as {earlier}; remove one of them")
            deployment = self._deployment(place, entry, defaults)
            if deployment is not None:
                self._groups.setdefault(entry.model_name, []).append(deployment)
            return
        self._skipped[entry.model_name] += 1
        self._idle.append(f"{place} ({why})")

    def _deployment(self, place: str, entry: _Entry, defaults: _Defaults) -> Deployment | None:
        raw = {}
        for key, value in entry.litellm_params.items():
            if key in _REFUSED:
                self._idle.append(f"{place}.litellm_params.{key}")
            elif value is not None and not (isinstance(value, str) and not value.strip()):
                raw[key] = value
        for key, alias in _ALIASES.items():
            if key in raw and alias in raw:
                self._fault(f"{place}.litellm_params.{alias}", f"is {key} by another name; give one of them")
                del raw[alias]

        reasons: list[str] = []
        resolved = self._resolve(raw, f"{place}.litellm_params", reasons)
        if resolved.get("model") is None and _reference(raw.get("model")):
            resolved["model"] = raw["model"]  # so that an unset one can at least be named
        if resolved.get("model") is None:
            resolved["model"] = _NO_MODEL
        model, provider = self._display(resolved)
        local = provider in ("ollama", "embedded")
        reach = Access()
        if resolved.pop("litellm_credential_name", None) is not None:
            reasons.append("litellm_credential_name is resolved by the LiteLLM proxy only")
        else:
            reach = self._access(model, provider, raw, resolved)
            implied = {key: f"{_REFERENCE}{name}" for key, name in reach.implied.items()}
            raw |= implied
            resolved |= self._resolve(implied, f"{place}.litellm_params", reasons)
            reasons += reach.wants
        names = {key: _reference(value) for key, value in raw.items()}
        if (name := names.get("api_key")) and not _sendable(resolved["api_key"] or ""):
            reasons.append(f"{cut(name)} holds characters that cannot be sent")
            del resolved["api_key"]
        if provider == "embedded":
            self._embedded[entry.model_name] = place
            try:
                embedded.find_model(self._environ)
            except EmbeddedError as error:
                reasons.append(error.message)

        notes = self._resolve(entry.model_info, f"{place}.model_info", reasons)
        params = self._parse(_Params, resolved, f"{place}.litellm_params", names)
        info = self._parse(
            _Info, notes, f"{place}.model_info", {key: _reference(value) for key, value in entry.model_info.items()}
        )
        if params is None or info is None:
            return None
        others = self._others(params, f"{place}.litellm_params")
        for section, name in ((info, "model_info"), (params, "litellm_params")):
            others |= self._more_prices(section, f"{place}.{name}")
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
        group = entry.model_name
        self._models[group, model] += 1
        twins = self._models[group, model]
        self._shown.append({"model_name": group, "litellm_params": raw, "model_info": entry.model_info})
        return Deployment(
            id=f"{group}/{len(self._groups.get(group, ())) + 1}",
            group=group,
            name=model if twins == 1 else f"{model}#{twins}",
            model=model,
            params=MappingProxyType({key: value for key, value in call.items() if value is not None} | others),
            order=params.order,
            timeout_s=defaults.timeout_s if params.timeout is None else params.timeout,
            num_retries=defaults.num_retries if params.num_retries is None else params.num_retries,
            cooldown_s=defaults.cooldown_s if params.cooldown_time is None else params.cooldown_time,
            weight=params.weight,
            rpm=params.rpm,
            tpm=params.tpm,
            max_parallel_requests=params.max_parallel_requests,
            input_cost=input_cost,
            output_cost=output_cost,
            max_output_tokens=info.max_output_tokens,
            context_window=info.max_input_tokens or info.max_tokens or _WINDOWS.get(provider),
            supports=MappingProxyType(self._abilities(provider) | info.supports),
            data=MappingProxyType(merged(_said(notes), self._tables.find(model, call))),
            unavailable="; ".join(dict.fromkeys(reasons)) or None,
            secrets=frozenset(_from_environment({**raw, "model": None}, resolved)),
        )

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
            if resolved.get(key) is None and (name := _reference(value))
        }
        if _reference(model):  # so that nobody can tell whose it is
            return Access()
        return access(provider, given, unset, self._value)

    def _value(self, name: str) -> str | None:
        value = self._environ.get(name, "").strip()
        # `${ANTHROPIC_API_KEY}` as the value itself: a client has passed on what it should have expanded.
        if value and not _UNEXPANDED.match(value):
            return value
        if name == "OLLAMA_BASE_URL":
            url = _ollama_url(self._value("OLLAMA_HOST") or "")
            return url if _is_url(url) else _ollama_url("")
        return None

    def _resolve(self, value: Any, place: str, reasons: list[str]) -> Any:
        """The value with its environment references resolved; those that are not set are None, and a reason."""
        match value:
            case dict():
                return {key: self._resolve(item, f"{place}.{cut(key)}", reasons) for key, item in value.items()}
            case list():
                return [self._resolve(item, f"{place}[{i}]", reasons) for i, item in enumerate(value)]
            case str() if value.startswith(_REFERENCE):
                if (name := _reference(value)) is None:
                    self._fault(place, "should be os.environ/NAME, a name of letters, digits and _")
                elif (found := self._value(name)) is not None:
                    return found
                else:
                    reasons.append(f"{cut(name)} is not set")
                return None
            case _:
                return value

    def _others(self, params: _Params, place: str) -> dict[str, Any]:
        """The keys that only LiteLLM reads."""
        others = {key: value for key, value in (params.model_extra or {}).items() if value is not None}
        prices = set(filter(is_price, others))
        self._idle += [f"{place}.{cut(key)}" for key in prices if not _MORE_PRICES.fullmatch(key)]
        return {key: value for key, value in others.items() if key not in prices}

    def _more_prices(self, section: _Prices, place: str) -> dict[str, float]:
        prices = {}
        for key, value in (section.model_extra or {}).items():
            if _MORE_PRICES.fullmatch(key) and value is not None:
                try:
                    prices[key] = _DOLLARS.validate_python(value)
                except ValidationError:
                    self._fault(f"{place}.{cut(key)}", "should be US dollars per token, from 0 to 1")
        return prices


def _ollama_url(host: str) -> str:
    """The address of a client, of what OLLAMA_HOST says: `0.0.0.0`, `gpu-1`, `gpu-1:8080`, `:8080`, `https://gpu-1`,
    `[::1]:11434`."""
    host = host.strip("\"' ")
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "", host
    place, slash, path = rest.partition("/")
    if place.count(":") > 1 and not place.startswith("["):  # an IPv6 address by itself
        place = f"[{place}]"
    try:
        url = urlsplit(f"//{place}")
        name, port = url.hostname or "", url.port or _OLLAMA_PORT.get(scheme, 11434)
    except ValueError:
        return host
    name = "localhost" if name in _EVERYWHERE else f"[{name}]" if ":" in name else name
    return f"{scheme or 'http'}://{name}:{port}{slash}{path}".rstrip("/")


def _said(notes: Mapping[str, Any]) -> dict[str, Any]:
    """What `model_info` says of the model. Its prices are among the params, where they are reckoned with."""
    return {key: value for key, value in sound(notes).items() if value is not None and not is_price(key)}


def _from_environment(written: Any, resolved: Any) -> Iterator[str]:
    """Every text that was a reference as it was written."""
    match written, resolved:
        case dict(), dict():
            for key, value in written.items():
                yield from _from_environment(value, resolved.get(key))
        case list(), list():
            for value, found in zip(written, resolved, strict=False):
                yield from _from_environment(value, found)
        case str(), str() if _reference(written):
            yield resolved


def _masked(entry: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"model_name": entry["model_name"]}
    for section in ("litellm_params", "model_info"):
        if entry[section]:
            shown[section] = {k: _shown(k, value) for k, value in entry[section].items() if value is not None}
    return shown


def _without_secrets(url: str) -> str:
    """A database's URL without user, password and query, each of which can hold a secret."""
    scheme, _, rest = url.partition("://")
    # A password may hold any character but @; SQLAlchemy takes it to end at the first, and we at the last.
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def _which_database(url: str) -> str:
    """What tells one from another; not the password, whose change may be why rows are waiting in the spool."""
    credentials, _, place = url.partition("://")[2].rpartition("@")
    query = parse_qsl(place.partition("?")[2])
    told = sorted((key, value) for key, value in query if key in ("host", "hostaddr", "port", "dbname", "user"))
    return f"{credentials.partition(':')[0]} {_without_secrets(url)} {told}"


def _masked_url(url: str) -> str:
    """As a person is to see it: without the folders of a file, too."""
    scheme, _, rest = _without_secrets(url).partition("://")
    if "@" in url.partition("?")[2]:  # it is hard to say what of it is no secret
        return f"{scheme}://***"
    host, slash, path = rest.partition("/")
    folders, last_slash, name = path.rpartition("/")
    return f"{scheme}://{'***@' if '@' in url else ''}{host}{slash}{'/***' if folders else ''}{last_slash}{name}"


def _shown_budgets(budgets: Iterable[Budget], seen: Collection[str]) -> list[dict[str, Any]]:
    """Those that are on a group that is seen."""
    shown = []
    for budget in budgets:
        groups = [name for name in budget.groups if name in seen]
        if groups or not budget.groups:
            shown.append({"usd": budget.limit_nusd / NUSD, "per": budget.per, **({"groups": groups} if groups else {})})
    return shown


def _shown_tenant(tenant: Tenant, seen: Collection[str], *, with_note: bool) -> dict[str, Any]:
    shown = {"groups": list(tenant.groups), "budgets": _shown_budgets(tenant.budgets, seen)}
    return shown | ({"note": tenant.note} if tenant.note and with_note else {})


def _describe(deployments: Iterable[Deployment]) -> str:
    """Its models in the order in which they are asked: `a or b, then c`."""

    def rank(deployment: Deployment) -> tuple[bool, int]:
        return deployment.order is None, deployment.order or 0

    ranks = itertools.groupby(sorted(deployments, key=rank), rank)
    return cut(", then ".join(" or ".join(dict.fromkeys(d.model for d in equals)) for _, equals in ranks), 120)


def _cycles(chains: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Circles among the fallbacks, each from its first group in the file's order and back to it."""
    graph = dict(chains)
    order = {name: position for position, name in enumerate(graph)}
    for _ in range(_MOST_LISTED):
        try:
            TopologicalSorter(graph).prepare()
            return
        except CycleError as error:
            circle = error.args[1][:0:-1]  # graphlib names predecessors first, and the first group again at the end
            start = circle.index(min(circle, key=order.__getitem__))
            yield [*circle[start:], *circle[: start + 1]]
            del graph[circle[start]]


def _reachable(start: Iterable[str], chains: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    ahead = list(start)
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += chains.get(name, ())
    return found
