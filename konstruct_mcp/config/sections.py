"""The sections of a config file, each as a pydantic model that says which keys are read and what they may hold."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)

from konstruct_mcp.core.budgets import Per
from konstruct_mcp.core.effort import Effort
from konstruct_mcp.core.jsontext import MOST_VALUES
from konstruct_mcp.core.requests import Limits
from konstruct_mcp.core.text import TENANT_ID, TENANT_ID_RULE

# Not printable for Python, and yet in names: blanks, and what joins the parts of an emoji or letters of some scripts.
_ALSO_PRINTABLE = dict.fromkeys(map(ord, "\u00a0\u200c\u200d\u202f\u3000"))


def is_one_line(text: str) -> bool:
    """Whether a text is one line of printable characters."""
    return text.translate(_ALSO_PRINTABLE).isprintable()


def _one_line(text: str) -> str:
    if not is_one_line(text):
        raise ValueError("should be one line of printable characters")
    return text


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic takes true for 1
        raise ValueError("should be a number")  # noqa: TRY004  pydantic makes a flaw of a ValueError only
    return value


def _usd(value: Any) -> Decimal:
    try:
        return Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError("should be a number of US dollars") from None


# Numbers may be written as text: LiteLLM's users do so, environment variables hold text, and YAML 1.1 reads 3e-06 so.
_Number = BeforeValidator(_not_bool)
_Seconds = Annotated[float, _Number, Field(gt=0, le=86400)]  # a day, as in a request
# LiteLLM's time-outs: 0 counts as not given, and one of more than a day as a day.
_Patience = Annotated[float | None, _Number, Field(ge=0), AfterValidator(lambda s: min(s, 86400.0) if s else None)]
_Cooldown = Annotated[float, _Number, Field(ge=0, le=86400)]
# At most a hundred, because each retry waits longer than the one before.
_Retries = Annotated[int, _Number, Field(ge=0), AfterValidator(lambda retries: min(retries, 100))]
_Count = Annotated[int, _Number, Field(ge=1, le=2**53)]  # what JSON readers keep exact
_Bytes = Annotated[int, _Number, Field(ge=10_000, le=2**53)]  # fewer hold no answer
_Characters = Annotated[int, _Number, Field(ge=100, le=2**53)]  # fewer hold no sentence
_CountOrNone = Annotated[int, _Number, Field(ge=0, le=2**53)]
MOST_DOLLARS = 1000  # per token: what the ledger's integers hold, times a million tokens
_Price = Annotated[float, _Number, Field(ge=0, le=MOST_DOLLARS)]
LONGEST_GROUP = 128
_Name = Annotated[str, Field(min_length=1, max_length=LONGEST_GROUP), AfterValidator(_one_line)]
# A mapping by itself counts as a list of it.
Fallbacks = Annotated[list[Any], BeforeValidator(lambda given: [given] if isinstance(given, dict) else given)]

DOLLARS_PER_TOKEN = TypeAdapter[float](_Price)
# Keys that have two names in LiteLLM.
_ALIASES = {"api_base": "base_url", "num_retries": "max_retries"}


def _is_empty(value: Any) -> bool:
    return value in ([], {}) or (isinstance(value, str) and not value.strip())


class Section(BaseModel):
    """A section. A key whose value is null counts as not given, as for LiteLLM. Unknown keys are kept, so that they can
    be named in a warning or passed on."""

    model_config = ConfigDict(
        frozen=True, extra="allow", str_strip_whitespace=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ours = {*cls.model_fields, *_ALIASES.values()}  # an unknown key is named, with or without a value
        return {key: item for key, item in value.items() if item is not None or key not in ours}


class _LiteLLMSection(Section):
    """A section of LiteLLM's. An empty text, list or mapping counts as not given there, except for an empty list of
    fallbacks, which says that there are none."""

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


class _Routing(_LiteLLMSection):
    num_retries: _Retries | None = None
    cooldown_time: _Cooldown | None = None
    allowed_fails: _CountOrNone | None = None
    fallbacks: Fallbacks | None = None
    context_window_fallbacks: Fallbacks | None = None
    content_policy_fallbacks: Fallbacks | None = None
    default_fallbacks: Any = None
    model_group_alias: dict[str, Any] = {}


class RouterSettings(_Routing):
    timeout: _Patience = None
    routing_strategy: Any = None
    default_litellm_params: dict[str, Any] = {}
    default_max_parallel_requests: _CountOrNone | None = None
    enable_pre_call_checks: Any = None  # what it turns on is always done here
    redis_url: str | None = None
    redis_host: str | None = None
    redis_port: int | str | None = None
    redis_password: str | None = None
    redis_db: int | str | None = None


class LiteLLMSettings(_Routing):
    request_timeout: _Patience = None
    drop_params: Any = None
    api_base: str | None = None
    api_key: str | None = None
    api_version: str | None = None
    organization: str | None = None
    ssl_verify: Any = None
    vertex_project: str | None = None
    vertex_location: str | None = None
    cache_params: Any = None  # where the Valkey server is; answers are not kept to be given again


_OF_A_REQUEST = Limits()


class KonstructSettings(Section):
    model_config = ConfigDict(extra="forbid")

    default_group: str | None = None
    groups: dict[str, Any] = {}
    timeout_s: _Seconds = 300.0
    max_concurrency: _Count = 200  # more than any one assistant has; a call under way holds its request in memory
    max_queue: _CountOrNone = 1000
    max_result_chars: _Characters | None = None  # what the client shows to its model
    parallel_calls: bool = True
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
    redis_url: str | None = None
    redis_prefix: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_one_line)] | None = None
    replicas: Annotated[_Count, Field(le=10_000)] | None = None
    threads: Any = None
    http: Any = None
    auth: Any = None
    metrics: Any = None
    files: Any = None
    models_file: str | None = None

    @field_validator("default_tenant")
    @classmethod
    def _is_well_formed(cls, tenant: str) -> str:
        if not TENANT_ID.match(tenant):
            raise ValueError(TENANT_ID_RULE)
        return tenant


class TenantSettings(Section):
    model_config = ConfigDict(extra="forbid")

    groups: list[str] | None = None
    budgets: list[Any] | None = None
    note: Annotated[str, Field(max_length=500), AfterValidator(_one_line)] | None = None
    max_concurrency: _Count | None = None
    rpm: _Count | None = None
    tpm: _Count | None = None
    max_effort: Effort | None = None
    files: list[str] | None = None


class BudgetSettings(Section):
    model_config = ConfigDict(extra="forbid")

    usd: Annotated[Decimal, BeforeValidator(_usd), Field(ge=0, le=10**9)]
    per: Per
    groups: list[str] | None = None


class GroupSettings(Section):
    model_config = ConfigDict(extra="forbid")

    description: Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_one_line)] | None = None
    formerly: list[Annotated[str, Field(min_length=1)]] = []


class ModelEntry(_LiteLLMSection):
    model_name: _Name
    litellm_params: dict[str, Any]
    model_info: dict[str, Any] = {}


class Credential(_LiteLLMSection):
    credential_name: str
    credential_values: dict[str, Any] = {}


class Prices(_LiteLLMSection):
    input_cost_per_token: _Price | None = None
    output_cost_per_token: _Price | None = None


class LiteLLMParams(Prices):
    """The keys of litellm_params that are read here. The others are passed on to LiteLLM."""

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


class ModelInfo(Prices):
    """The keys of model_info that are read here. The others are notes, for LiteLLM's proxy or for people."""

    base_model: str | None = None
    max_input_tokens: _Count | None = None
    max_tokens: _Count | None = None
    max_output_tokens: _Count | None = None
    supports_function_calling: bool | None = None
    supports_vision: bool | None = None
    supports_pdf_input: bool | None = None
    supports_response_schema: bool | None = None

    @property
    def supports(self) -> dict[str, bool]:
        said = {
            "tools": self.supports_function_calling,
            "vision": self.supports_vision,
            "pdf": self.supports_pdf_input,
            "structured_output": self.supports_response_schema,
        }
        return {capability: value for capability, value in said.items() if value is not None}
