"""What a call costs, and what it can cost at most: by the prices of the config first, and those of `models` second.

Plain code over data. A price in the config stands in place of all that the tables say of that side, input or output.
Where they have no price, or say 0, the price is unknown: only the config can say that something costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .accounts import Quote, exact, to_nusd
from .config import Deployment, is_price
from .forms import limit
from .models import entry
from .routing import Facts
from .types import NUSD, Message, Request, ResponseFormat, Tool


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a provider counted: of those sent, which it had in its cache or has written to it; of those answered, which
    were reasoning."""

    sent: int
    cached: int
    written: int
    answered: int
    reasoned: int


def facts_of(deployment: Deployment) -> Facts:
    """What the config says of the model, and what the tables say where the config is silent."""
    known, prices = entry(deployment), _prices(deployment)
    supports = {ours: bool(known.get(theirs, False)) for ours, theirs in _CAPABILITIES.items()} if known else {}
    return Facts(
        input_cost=prices.get("input_cost_per_token"),
        output_cost=prices.get("output_cost_per_token"),
        free={"input_cost_per_token", "output_cost_per_token"} <= prices.keys() and not any(prices.values()),
        context_window=deployment.context_window or known.get("max_input_tokens"),
        supports=supports | dict(deployment.supports),
        unboundable=_unboundable(deployment, known),
    )


_CAPABILITIES = {
    "tools": "supports_function_calling",
    "vision": "supports_vision",
    "structured_output": "supports_response_schema",
}


# -- prices ------------------------------------------------------------------------------------------------------------


def has_own_prices(deployment: Deployment) -> bool:
    """Whether the config says anything of its prices."""
    return any(map(is_price, deployment.params))


def _prices(deployment: Deployment) -> dict[str, float]:
    """Those by which a call is charged."""
    known = {key: price for key, price in entry(deployment).items() if is_price(key) and _is_number(price)}
    own = {key: price for key, price in deployment.params.items() if is_price(key)}
    if not own:
        return known if any(known.values()) else {}
    for key, price in known.items():
        if (deployment.output_cost if key.startswith("output_") else deployment.input_cost) is None:
            own.setdefault(key, price)
    return own


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def own_cost(tokens: Tokens, deployment: Deployment) -> float:
    """What they cost by the prices of the config, in US dollars. LiteLLM would take what the config leaves open for 0,
    and note the prices under the model's name, for every deployment in the process."""
    prices = _prices(deployment)

    def price(key: str, otherwise: Fraction = Fraction(0)) -> Fraction:
        found = {0: to_nusd(prices[key])} if key in prices else {0: otherwise}
        for tier, of_tier in prices.items():
            if (above := _ABOVE.search(tier)) and tier == key + above[0]:
                found[int(above[1]) * 1000] = to_nusd(of_tier)
        return found[max(least for least in found if least == 0 or least < tokens.sent)]

    of_input, of_output = price("input_cost_per_token"), price("output_cost_per_token")
    nusd = (
        (tokens.sent - tokens.cached - tokens.written) * of_input
        + tokens.cached * price("cache_read_input_token_cost", of_input)
        + tokens.written * price("cache_creation_input_token_cost", of_input)
        + (tokens.answered - tokens.reasoned) * of_output
        + tokens.reasoned * price("output_cost_per_reasoning_token", of_output)
    )
    return float(nusd / NUSD)


# -- what a call can cost at most --------------------------------------------------------------------------------------

# Keys of litellm_params that say where to ask, as whom, or how to choose words. Any other goes into the request as it
# is, where it may ask for more than we know of: further answers, searches, sounds.
_HARMLESS = re.compile(
    r"model|base_model|api_(base|key|version|type)|organization|project|custom_llm_provider|region_name|tenant_id"
    r"|client_id|client_secret|(aws|azure|vertex|watsonx|databricks)_\w+|(extra|default)_headers|ssl_verify|drop_params"
    r"|temperature|top_p|top_k|min_p|seed|stop|logit_bias|(presence|frequency|repetition)_penalty|verbosity"
    r"|max_tokens|max_completion_tokens|reasoning_effort|thinking|parallel_tool_calls|service_tier|speed|keep_alive"
)
_SEARCHES = re.compile(r"(^|/)perplexity/|-search\b|:online\b|^groq/compound")  # look things up, and bill it, unasked
# Reason, beyond max_tokens and for money; which of them do, the map does not always say.
_REASONS = re.compile(r"^xai/(?!.*(non-reasoning|grok-2|grok-3(?!-mini)|grok-(vision-)?beta))")
_CHOOSES = re.compile(r"^azure_ai/model_router|^openrouter/(openrouter/)?auto\b")  # bill what another model costs


def _unboundable(deployment: Deployment, known: Mapping[str, Any]) -> str:
    """Why nobody can say what a call to it can cost at most, as the end of a sentence; empty where that can be said."""
    if open_ended := [key for key in deployment.params if not (_HARMLESS.fullmatch(key) or is_price(key))]:
        return f"has {' and '.join(open_ended)} in its litellm_params, with which a call may cost anything"
    if _SEARCHES.search(deployment.model) or "citation_cost_per_token" in known:
        return "searches the web unasked, so that a call may cost anything"
    if _CHOOSES.search(deployment.model):
        return "chooses a model by itself, so that a call may cost anything"
    if _REASONS.search(deployment.model):
        return "bills its reasoning beyond max_tokens, so that a call may cost anything"
    return ""


# What makes a price apply is in the response, so each that could apply counts. Not those of other ways to ask.
_OTHER_WAYS = re.compile(r"_(flex|priority|balanced|ultrafast|above_\d+hr)(_above_\d+k_tokens)?\Z|_above_\d+hr_")
_ABOVE = re.compile(r"_above_(\d+)k_tokens\Z")
_INPUT_PRICES = re.compile(
    r"(input_cost_per_token|cache_(creation|read)_input_token_cost)(?![a-z_]*(audio|image|cache_hit))"
)
_OUTPUT_PRICES = re.compile(r"output_cost_per_(reasoning_)?token(?!_batches)")

# Tokens that a provider adds to what was sent; each more than any is known to. What is no prose (tools, schemas) counts
# twice, as each provider writes it for its model in its own way.
_PER_MESSAGE, _PER_TOOL, _FOR_TOOLS, _FOR_FORMAT, _PER_IMAGE = 16, 64, 1024, 1024, 50_000
_UNKNOWN_LONGEST = 4096  # tokens of an answer where nobody says how long the model's can be


def quote(deployment: Deployment, request: Request, beside: int = 0) -> Quote:
    """The most that this request can cost there, at a deployment whose prices are known. `beside` is how many bytes go
    out with it that are not in it.

    Bounded from above without counting: a token is at least one byte, in every tokenizer that providers use.
    """
    tokens = beside + sum(_PER_MESSAGE + _bytes(message) for message in request.messages)
    if request.tools or any(message.tool_calls for message in request.messages):  # for whose sake some get tools
        tokens += _FOR_TOOLS + sum(_PER_TOOL + 2 * _bytes(tool) for tool in request.tools or ())
    if request.response_format is not None:
        tokens += _FOR_FORMAT + 2 * _bytes(request.response_format)
    known, prices = entry(deployment), _prices(deployment)
    written = "".join(map(str, deployment.params))
    factor = max([1.0, *(f for way, f in _factors(known) if way != "fast" or "speed" in written)])
    longest = limit(deployment, known, request.max_tokens)
    if longest is None:
        longest = deployment.max_output_tokens or known.get("max_output_tokens") or _UNKNOWN_LONGEST

    def highest(pattern: re.Pattern[str]) -> Fraction:
        found = [0.0]
        for key, price in prices.items():
            above = _ABOVE.search(key)
            applies = above is None or tokens > int(above[1]) * 1000
            if pattern.match(key) and applies and ("tier" in written or not _OTHER_WAYS.search(key)):
                found.append(price)
        return to_nusd(max(found)) * exact(factor)

    return Quote(
        input_nusd=highest(_INPUT_PRICES) * tokens,
        token_nusd=highest(_OUTPUT_PRICES),
        max_tokens=int(longest),
        fixed=request.max_tokens is not None,
    )


def _factors(known: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """By what the provider multiplies its prices where it answers in a certain way: faster, or in one country."""
    entry = known.get("provider_specific_entry")
    for way, factor in (entry if isinstance(entry, dict) else {}).items():
        if _is_number(factor):
            yield way, float(factor)


def _bytes(part: Message | Tool | ResponseFormat) -> int:
    """The most tokens that its text can be. An image counts as many as the greediest provider makes of one."""
    if not isinstance(part, Message):
        return len(part.model_dump_json(exclude_none=True, by_alias=True).encode())
    images = 0
    texts = [part.content] if isinstance(part.content, str) else []
    for piece in part.content if isinstance(part.content, list) else ():
        images += piece.image_url is not None
        texts.append(piece.text or "")
    for call in part.tool_calls or ():
        texts += [call.id, call.function.name, call.function.arguments]
    texts.append(part.tool_call_id or "")
    spaces = _PER_MESSAGE * len(texts)  # what stands between the pieces
    return sum(len(text.encode()) for text in texts) + spaces + _PER_IMAGE * images
