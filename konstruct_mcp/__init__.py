"""Completions from other language models, by model group, with retries and fallback.

`Konstruct` is the library face; the command `konstruct-mcp` serves the same over the Model Context Protocol. Importing
this package imports neither litellm nor mcp.
"""

from .completions import Konstruct
from .config import Config
from .errors import (
    AllFailedError,
    BadRequestError,
    CompletionError,
    ConfigError,
    ContentPolicyError,
    ContextOverflowError,
    DeadlineError,
    EmbeddedError,
    InternalError,
    InvalidArgumentError,
    KonstructError,
    RequestError,
    UnavailableError,
    UnknownGroupError,
    UnsupportedError,
)
from .types import Attempt, Completion, DeploymentStatus, GroupStatus, ToolCall, Usage

__all__ = [
    "AllFailedError",
    "Attempt",
    "BadRequestError",
    "Completion",
    "CompletionError",
    "Config",
    "ConfigError",
    "ContentPolicyError",
    "ContextOverflowError",
    "DeadlineError",
    "DeploymentStatus",
    "EmbeddedError",
    "GroupStatus",
    "InternalError",
    "InvalidArgumentError",
    "Konstruct",
    "KonstructError",
    "RequestError",
    "ToolCall",
    "UnavailableError",
    "UnknownGroupError",
    "UnsupportedError",
    "Usage",
]
