"""How long an answer may be: the output limit that a config sets, and the one that is sent.

A config may give the limit under any provider's name for it, and in any of the objects where providers have it. It is
sent once, under the name that the deployment takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.providers.litellm.profiles.api import api_of, provider_and_model

# Providers' names for the limit, in lower case and without underscores; and the objects in which it may stand.
_LIMIT_NAMES = frozenset(
    {"maxtokens", "maxcompletiontokens", "maxoutputtokens", "maxnewtokens", "maxtokenstosample", "maxtokencount"}
    | {"maxgenlen", "numpredict", "npredict"}
)
_AROUND_LIMITS = frozenset(
    {"extrabody", "options", "parameters", "inferenceconfig", "generationconfig", "textgenerationconfig"}
    | {"additionalmodelrequestfields"}
)
_LEAST_OF_RESPONSES = 16  # tokens; the Responses API takes no lower limit
# Tokens, for a Claude without data, since Anthropic requires a limit: each Claude since version 4 can answer as long.
_UNKNOWN_CLAUDE = 32_000


def is_output_limit(key: str) -> bool:
    """Whether a setting of this name is the output limit, in any provider's format."""
    return _normalized(key) in _LIMIT_NAMES


def without_limits(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a deployment, or what they add to a body, without the output limit wherever it stands in them."""
    kept: dict[str, Any] = {}
    for key, value in settings.items():
        if not is_output_limit(key):
            is_around = _normalized(key) in _AROUND_LIMITS and isinstance(value, Mapping)
            kept[key] = without_limits(value) if is_around else value
            if is_around and value and not kept[key]:
                del kept[key]
    return kept


def _limits_in(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The limits in these settings, each with the name that the config has for it."""
    for key, value in settings.items():
        if is_output_limit(key):
            yield key, value
        elif _normalized(key) in _AROUND_LIMITS and isinstance(value, Mapping):
            yield from _limits_in(value)


def _normalized(key: Any) -> str:
    return str(key).lower().replace("_", "")


def configured_limit(deployment: Deployment) -> int | None:
    """The lowest output limit in the deployment's config: the default, and the most that a call may ask for. None where
    there is none; Ollama's -1 and -2 are no limit."""
    given = (positive_int(value) for _, value in _limits_in(deployment.params))
    return min((number for number in given if number is not None), default=None)


def positive_int(value: Any) -> int | None:
    """A positive integer, which YAML and the environment may give as text or as a float; None for anything else."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None


def output_limit(deployment: Deployment, entry: Mapping[str, Any], asked: int | None) -> int | None:
    """The output limit to send, in tokens; None where none is sent, and the model's own holds.

    Args:
        entry: what is known of the model.
        asked: `max_tokens` of the request.
    """
    configured, api = configured_limit(deployment), api_of(deployment, entry)
    if asked is not None or configured is not None:
        least = _LEAST_OF_RESPONSES if api == "responses" else 1
        return max(least, min(number for number in (asked, configured) if number is not None))
    if api == "anthropic":
        longest = deployment.max_output_tokens or positive_int(entry.get("max_output_tokens"))
        return longest or _UNKNOWN_CLAUDE
    return None


def limit_key(
    deployment: Deployment, entry: Mapping[str, Any], *, is_known: bool
) -> Literal["max_tokens", "max_completion_tokens"]:
    """The name under which LiteLLM is given the limit.

    OpenAI's models that reason, and those still to come, take only `max_completion_tokens`; others that imitate its API
    know `max_tokens`, and often nothing else.
    """
    api, provider = api_of(deployment, entry), provider_and_model(deployment)[0]
    if api == "responses":
        return "max_completion_tokens"  # LiteLLM makes `max_output_tokens` of it
    if provider not in ("openai", "azure") or api != "openai":
        return "max_tokens"
    if is_known:
        is_newer = bool(entry.get("supports_reasoning"))
    else:  # with an address it is a server of the user's own, unless it is on Azure
        is_newer = provider == "azure" or "api_base" not in deployment.params
    is_named = any(name == "max_completion_tokens" for name, _ in _limits_in(deployment.params))
    return "max_completion_tokens" if is_newer or is_named else "max_tokens"
