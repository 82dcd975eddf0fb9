"""The most that a call can cost, known before it is made: what a budget reserves.

Bounded from above without counting tokens: a token is at least one byte, in every tokenizer that providers use.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction

from konstruct_mcp.config.model import Deployment, entry
from konstruct_mcp.config.model_fields import is_price
from konstruct_mcp.core.budgets import Quote
from konstruct_mcp.core.messages import Message, ResponseFormat, Tool
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.schema_sizes import json_bytes
from konstruct_mcp.core.text import quoted
from konstruct_mcp.providers.litellm.profiles.limits import is_output_limit, output_limit
from konstruct_mcp.providers.litellm.transport import TRANSPORT
from konstruct_mcp.providers.prices import (
    OFF_PEAK,
    SIDES,
    STANDARD,
    STANDARD_WAYS,
    Rates,
    asked_for,
    multipliers,
    rates_of,
    uplift,
)

_INPUT = ("input_cost_per_token", "cache_read_input_token_cost", "cache_creation_input_token_cost")
_OUTPUT = ("output_cost_per_token", "output_cost_per_reasoning_token")

# Bytes that a provider's format puts around the text, and tokens that it adds; each is more than any is known to add.
# Tools and schemas count twice: each provider rewrites them for its model in its own way.
_PER_REQUEST, _PER_MESSAGE, _PER_TEXT, _PER_TOOL = 88, 56, 32, 128
_FOR_TOOLS, _FOR_FORMAT, _FOR_EFFORT, _PER_IMAGE = 1024, 1024, 96, 50_000
_UNKNOWN_WINDOW = 1_000_000  # tokens that a PDF may have where the model's window is not known: what the largest take
_UNKNOWN_LONGEST = 4096  # tokens of an answer, where the longest answer of the model is not known

# Keys of litellm_params that say where the deployment is and with which credentials, and those that only tune the
# answer. Any other goes into the request as it is and may ask for what costs extra: further answers, searches, audio.
_ADDRESS_KEY = re.compile(
    r"model|base_model|api_(base|key|version|type)|organization|project|custom_llm_provider|region_name|tenant_id"
    r"|client_id|client_secret|(aws|azure|vertex|watsonx|databricks)_\w+|(extra|default)_headers|ssl_verify|(additional_)?drop_params"
)
_TUNING_KEY = re.compile(
    r"temperature|top_p|top_k|min_p|seed|stop|logit_bias|(presence|frequency|repetition)_penalty|verbosity"
    r"|reasoning_effort|thinking|parallel_tool_calls|service_tier|speed|inference_geo"
    r"|prompt_cache_(key|retention)|keep_alive"
)
# Models that search the web, and bill it, without being asked.
_SEARCHES = re.compile(r"(^|/)perplexity/|-search\b|:online\b|^groq/compound")
# Models that bill reasoning beyond max_tokens. The table does not always say which of them reason.
_REASONS = re.compile(r"^(vertex_ai/)?xai/(?!.*(non-reasoning|grok-2|grok-3(?!-mini)|grok-(vision-)?beta))")
# Models that choose another, and bill what that one costs.
_PICKS_MODEL = re.compile(r"^azure_ai/model_router|^openrouter/(openrouter/)?auto\b")


def quote(deployment: Deployment, request: Request, beside: int = 0) -> Quote:
    """The most that a request can cost at a deployment whose prices are known.

    Args:
        beside: bytes that go out with the request and are not part of it, such as earlier reasoning.
    """
    tokens = _most_tokens(deployment, request, beside)
    longest = output_limit(deployment, entry(deployment), request.max_tokens)
    if longest is None:
        longest = longest_answer(deployment) or _UNKNOWN_LONGEST
    rates = rates_of(deployment)
    factors = _most_factors(deployment, rates)
    ways = _possible_ways(deployment, rates)
    return Quote(
        input_tokens=tokens,
        input_nusd=rates.most(_INPUT, ways, tokens) * tokens * factors["input"],
        token_nusd=rates.most(_OUTPUT, ways, tokens) * factors["output"],
        max_tokens=int(longest),
        fixed=request.max_tokens is not None,
    )


def _most_tokens(deployment: Deployment, request: Request, beside: int = 0) -> int:
    """The most tokens that a request can have there, and the most bytes that its body can have without images."""
    said = {key: value for key, value in deployment.params.items() if not _is_not_sent(key)}
    tokens = beside + _PER_REQUEST + len(deployment.model) + len(json.dumps(said, default=str))
    tokens += sum(map(_bytes_of_message, request.messages))
    called = {call.function.name for message in request.messages for call in message.tool_calls or ()}
    if request.tools or called:
        # Some providers want the tools that the history calls to be defined.
        names = () if request.tools else called
        tokens += _FOR_TOOLS + sum(_PER_TOOL + 2 * _bytes(tool) for tool in request.tools or ())
        tokens += sum(_PER_TOOL + 2 * json_bytes(name) for name in names)
    if request.effort is not None:
        tokens += _FOR_EFFORT
    if request.response_format is not None:
        tokens += _FOR_FORMAT + 2 * _bytes(request.response_format)
    tokens += request.growth
    # What is in a PDF is compressed, so that its bytes bound nothing. No provider takes more than the model's window.
    return max(tokens, _window(deployment)) if request.has_pdfs else tokens


def _window(deployment: Deployment) -> int:
    return int(deployment.context_window or entry(deployment).get("max_input_tokens") or _UNKNOWN_WINDOW)


def _bytes(part: Tool | ResponseFormat) -> int:
    return len(json.dumps(part.model_dump(exclude_none=True, by_alias=True), ensure_ascii=False).encode())


def _bytes_of_message(message: Message) -> int:
    """The most bytes or tokens of a message. An image counts as many tokens as the provider that counts most."""
    images = 0
    texts = [message.content] if isinstance(message.content, str) else []
    for part in message.content if isinstance(message.content, list) else ():
        images += part.image_url is not None
        texts.append(part.text or "")
    for call in message.tool_calls or ():
        # Some formats repeat the name with the result.
        texts += [call.id, call.function.name, call.function.name, call.function.arguments]
    texts += filter(None, (message.name, message.tool_call_id))
    return _PER_MESSAGE + sum(_PER_TEXT + json_bytes(text) for text in texts) + _PER_IMAGE * images


def _possible_ways(deployment: Deployment, rates: Rates) -> list[str]:
    """The ways in which a call may come to be billed. An account's own settings may ask for `priority`."""
    asked, speed = asked_for(deployment, "service_tier"), asked_for(deployment, "speed")
    tiers = ["priority"] if asked in ("", "auto") else [asked]
    return [STANDARD, *(way for way in (*tiers, speed, OFF_PEAK) if way not in STANDARD_WAYS and rates.has_way(way))]


def _most_factors(deployment: Deployment, rates: Rates) -> dict[str, Fraction]:
    """The highest factor on the prices of each side. An account's own settings may say where its models run."""
    known, speed = multipliers(deployment), asked_for(deployment, "speed")
    regions = (
        [] if asked_for(deployment, "inference_geo") == "global" else [f for way, f in known.items() if way != "fast"]
    )
    factor = uplift(deployment) * max([Fraction(1), *regions]) * max(Fraction(1), known.get(speed, Fraction(1)))
    return {side: Fraction(1) if side in rates.flat else factor for side in SIDES}


def longest_answer(deployment: Deployment) -> int | None:
    """The most tokens that the model answers with; None where neither config nor table says."""
    return deployment.max_output_tokens or entry(deployment).get("max_output_tokens")


def unboundable(deployment: Deployment, rates: Rates) -> str:
    """Why the cost of a call to it has no known upper bound, as the end of a sentence; empty where it has one."""
    if open_ended := [
        key
        for key in deployment.params
        if key == "extra_query" or not (_TUNING_KEY.fullmatch(key) or _is_not_sent(key) or is_output_limit(key))
    ]:
        return f"has {' and '.join(open_ended)} in its litellm_params, with which a call may cost anything"
    dropped = deployment.params.get("additional_drop_params")
    if isinstance(dropped, list) and any(limit in dropped for limit in ("max_tokens", "max_completion_tokens")):
        return "drops max_tokens (additional_drop_params), so that a call may cost anything"
    if _SEARCHES.search(deployment.model) or "citation_cost_per_token" in rates.strange:
        return "searches the web unasked, so that a call may cost anything"
    if _PICKS_MODEL.search(deployment.model):
        return "chooses a model by itself, so that a call may cost anything"
    if _REASONS.search(deployment.model):
        return "bills its reasoning beyond max_tokens, so that a call may cost anything"
    if rates.strange:
        return f"has a price that nobody here reckons with ({', '.join(rates.strange)})"
    if not rates.has_way(tier := asked_for(deployment, "service_tier")):
        return f"has no price for service_tier {quoted(tier)}, which its litellm_params ask for"
    speed = asked_for(deployment, "speed")
    if not (speed in STANDARD_WAYS or rates.is_flat or speed in multipliers(deployment) or rates.has_way(speed)):
        return f"has no price for speed {quoted(speed)}, which its litellm_params ask for"
    return ""


def _is_not_sent(key: str) -> bool:
    """Whether this key of litellm_params goes into no request's body."""
    return _ADDRESS_KEY.fullmatch(key) is not None or is_price(key) or key in TRANSPORT
