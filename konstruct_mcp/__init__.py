"""Completions from other language models, by model group, with retries and fallback.

`Konstruct` is the library face; the command `konstruct-mcp` serves the same over the Model Context Protocol. Importing
this package imports neither litellm nor mcp.
"""

from konstruct_mcp.config.model import Config
from konstruct_mcp.core.budgets import BudgetState
from konstruct_mcp.core.errors import (
    AllFailedError,
    BadRequestError,
    BudgetExceededError,
    CompletionError,
    ConfigError,
    ContentPolicyError,
    ContextOverflowError,
    DeadlineError,
    EmbeddedError,
    ForbiddenTokenError,
    InternalError,
    InvalidAnswerError,
    InvalidArgumentError,
    InvalidTokenError,
    KonstructError,
    LedgerError,
    ModelDataError,
    OverloadedError,
    RateLimitedError,
    RequestError,
    UnavailableError,
    UnknownGroupError,
    UnknownTenantError,
    UnknownThreadError,
    UnpricedError,
    UnsupportedError,
    UnverifiedError,
)
from konstruct_mcp.core.messages import FunctionCall, Message, ToolCall
from konstruct_mcp.core.results import Attempt, Completion, DeploymentStatus, GroupStatus, ParsedCompletion, Usage
from konstruct_mcp.core.spending import Spend, UsageReport
from konstruct_mcp.gateway.konstruct import Konstruct

__all__ = [
    "AllFailedError",
    "Attempt",
    "BadRequestError",
    "BudgetExceededError",
    "BudgetState",
    "Completion",
    "CompletionError",
    "Config",
    "ConfigError",
    "ContentPolicyError",
    "ContextOverflowError",
    "DeadlineError",
    "DeploymentStatus",
    "EmbeddedError",
    "ForbiddenTokenError",
    "FunctionCall",
    "GroupStatus",
    "InternalError",
    "InvalidAnswerError",
    "InvalidArgumentError",
    "InvalidTokenError",
    "Konstruct",
    "KonstructError",
    "LedgerError",
    "Message",
    "ModelDataError",
    "OverloadedError",
    "ParsedCompletion",
    "RateLimitedError",
    "RequestError",
    "Spend",
    "ToolCall",
    "UnavailableError",
    "UnknownGroupError",
    "UnknownTenantError",
    "UnknownThreadError",
    "UnpricedError",
    "UnsupportedError",
    "UnverifiedError",
    "Usage",
    "UsageReport",
]
