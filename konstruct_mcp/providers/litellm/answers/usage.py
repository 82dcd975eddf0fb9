"""What providers count and bill: tokens, service tier, and the cost where they state it themselves.

All reading of counts is here, whoever has made them: a provider's own JSON, LiteLLM's `usage` object, and Ollama's. A
count may be missing, and anybody may have sent it: with one that is no number of tokens, none of the answer's counts is
believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from konstruct_mcp.providers.costs import Served, Tokens
from konstruct_mcp.providers.litellm.answers.fields import object_in, text_in, word_in

_MOST_TOKENS = 10**8  # of one try; more is no count
MOST_USD = 10**6  # of one try; more is no price that anybody would pay
# The names of the counts, in each format.
_SENT = ("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens")
_ANSWERED = ("completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens")
_CACHED = ("cache_read_input_tokens", "cacheReadInputTokens")
_REASONED = ("reasoning_tokens", "thinking_tokens")  # among the details of those answered
_WRITTEN = ("cache_creation_input_tokens", "cacheWriteInputTokens")
# Stands for the counts of an answer in which one is no number of tokens.
MISCOUNTED = Tokens(0, 0, 0, 0, 0)


COUNTS_OF_OLLAMA = ("prompt_eval_count", "eval_count")  # tokens read and written, in its own API


def count_of(value: Any) -> int | None:
    """The number of tokens that a provider states; None where it is no such number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS
    return value if is_count else None


# -- in a provider's own JSON ------------------------------------------------------------------------------------------


def tokens_of(usage: Any) -> Tokens | None:
    """The tokens in a `usage` object of any provider; None where it counts nothing, `MISCOUNTED` where something in it
    is no count."""
    try:
        return _tokens_in(_counts(usage))
    except _NoCountError:
        return MISCOUNTED


def _tokens_in(usage: Mapping[str, Any]) -> Tokens | None:
    before = _counts(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    after = _counts(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    sent, answered = _count(usage, *_SENT), _count(usage, *_ANSWERED)
    cached, written = _count(usage, *_CACHED), _count(usage, *_WRITTEN)
    if "prompt_tokens" not in usage:  # Anthropic and Bedrock do not count these among the tokens sent
        sent += cached + written
    cached = max(cached, _count(before, "cached_tokens"), _count(usage, "cachedContentTokenCount"))
    thoughts = _count(usage, "thoughtsTokenCount")  # Gemini does not count these among the tokens answered
    answered, reasoned = answered + thoughts, max(thoughts, _count(after, *_REASONED))
    answered += _beside(sent, answered, reasoned, _count(usage, "total_tokens"))
    lasting = _count(_counts(usage.get("cache_creation")), "ephemeral_1h_input_tokens")
    if not sent and not answered:
        return None
    cached = min(sent, cached)
    written = min(sent - cached, written)
    return Tokens(sent, cached, written, answered, min(answered, reasoned), min(written, lasting))


def _beside(sent: int, answered: int, reasoned: int, total: int) -> int:
    """The tokens of reasoning that are not among those answered, which the total then says, as Grok's does on other
    clouds."""
    return reasoned if reasoned and total == sent + answered + reasoned else 0


class _NoCountError(ValueError):
    pass


def _counts(value: Any) -> Mapping[str, Any]:
    """An object of counts. Some servers have another empty value in its place."""
    if value and not isinstance(value, dict):
        raise _NoCountError
    return value or {}


def _count(counts: Mapping[str, Any], *names: str) -> int:
    """The count under the first of these names that is there and not 0; each that is there has to be a count."""
    found = [count_of(value) for name in names if (value := counts.get(name)) is not None]
    if None in found:
        raise _NoCountError
    return next(filter(None, found), 0)


# -- in LiteLLM's usage object -----------------------------------------------------------------------------------------


def tokens_of_litellm(usage: Any, provider: str) -> Tokens | None:
    """The tokens in LiteLLM's `usage`; None where it counts nothing, or something that is no count."""
    if any(count_of(getattr(usage, name, None) or 0) is None for name in ("prompt_tokens", "completion_tokens")):
        return None
    sent, answered = _attribute(usage, "prompt_tokens"), _attribute(usage, "completion_tokens")
    cached = min(sent, _attribute(getattr(usage, "prompt_tokens_details", None), "cached_tokens"))
    reasoned = _attribute(getattr(usage, "completion_tokens_details", None), "reasoning_tokens")
    # xAI does not count reasoning among the tokens answered.
    total = _attribute(usage, "total_tokens")
    answered += reasoned if provider == "xai" else _beside(sent, answered, reasoned, total)
    written = min(sent - cached, _attribute(usage, "cache_creation_input_tokens"))
    details = getattr(getattr(usage, "prompt_tokens_details", None), "cache_creation_token_details", None)
    tokens = Tokens(
        sent=sent,
        cached=cached,
        written=written,
        lasting=min(written, _attribute(details, "ephemeral_1h_input_tokens")),
        answered=answered,
        reasoned=min(answered, reasoned),
    )
    return tokens if sent or answered else None


def _attribute(usage: Any, name: str) -> int:
    return count_of(getattr(usage, name, 0)) or 0


# -- in Ollama's answer ------------------------------------------------------------------------------------------------


def tokens_of_ollama(answer: Mapping[str, Any]) -> tuple[int, int] | None:
    """The tokens of the prompt and of the answer; None where one of them is no count."""
    counts = [count_of(answer.get(name) or 0) for name in COUNTS_OF_OLLAMA]
    sent, answered = counts
    return None if sent is None or answered is None else (sent, answered)


# -- tier and bill -----------------------------------------------------------------------------------------------------


def served_in(answer: Mapping[str, Any]) -> Served:
    """How a provider says that it has served the request; each says it in another place."""
    usage, google = object_in(answer.get("usage")), object_in(answer.get("usageMetadata"))
    amazon = object_in(answer.get("serviceTier"))
    tier = word_in(answer.get("service_tier")) or word_in(usage.get("service_tier")) or word_in(amazon.get("type"))
    return Served(
        tier=tier or tier_of_google(google.get("trafficType")),
        speed=text_in(usage.get("speed")),
        region=text_in(usage.get("inference_geo")),
    )


def tier_of_google(traffic: Any) -> str:
    """The service tier in Google's `trafficType`: `ON_DEMAND`, `ON_DEMAND_PRIORITY`, `FLEX`."""
    return text_in(traffic).lower().replace("on_demand_", "").replace("on_demand", "")


def billed_usd(usage: Any) -> float | None:
    """What OpenRouter says that it has billed, in US dollars; None where nobody says it. A user with a provider's key
    of their own pays its fee and the provider."""
    usage = object_in(usage)
    parts = [usage.get("cost")]
    if usage.get("is_byok"):
        parts.append(object_in(usage.get("cost_details")).get("upstream_inference_cost"))
    numbers = [
        part for part in parts if isinstance(part, int | float) and not isinstance(part, bool) and 0 <= part < MOST_USD
    ]
    return float(sum(numbers)) if len(numbers) == len(parts) else None
