"""What a call costs, and what it can cost at most: by the prices of the config first, and those of `models` second.

Plain code over data. A price in the config stands in place of all that the tables say of that side, input or output.
Where they have no price, or say 0, the price is unknown: only the config can say that something costs nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.config.models import entry, is_number, is_price
from konstruct_mcp.core.budgets import Quote
from konstruct_mcp.core.messages import Message, ResponseFormat, Tool
from konstruct_mcp.core.money import NUSD, exact, to_nusd
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.schemas import json_bytes
from konstruct_mcp.core.text import quoted
from konstruct_mcp.providers.litellm.profiles.limits import is_output_limit, output_limit
from konstruct_mcp.providers.litellm.transport import TRANSPORT
from konstruct_mcp.routing.facts import Facts


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a provider counted: of those sent, which it had in its cache or has written to it, and of these which for an
    hour; of those answered, which were reasoning."""

    sent: int
    cached: int
    written: int
    answered: int
    reasoned: int
    lasting: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """In which way it answered, in its own words; "" where it says nothing. It goes by these what it bills.

    Attributes:
        tier: `default`, `priority`, `flex` …
        speed: `standard`, `fast`.
        region: where the model ran, `us` or `global`.
    """

    tier: str = ""
    speed: str = ""
    region: str = ""


def facts_of(deployment: Deployment) -> Facts:
    """What the config says of the model, and what the tables say where the config is silent."""
    known, rates = entry(deployment), _rates(deployment)
    supports = {ours: bool(known.get(theirs, False)) for ours, theirs in _CAPABILITIES.items()} if known else {}
    return Facts(
        input_cost=rates.shown("input_cost_per_token"),
        output_cost=rates.shown("output_cost_per_token"),
        free=rates.are_zero,
        context_window=deployment.context_window or known.get("max_input_tokens"),
        longest_answer=longest_answer(deployment),
        retires=known.get("deprecation_date"),
        supports=supports | dict(deployment.supports),
        unboundable=_unboundable(deployment, rates),
    )


def longest_answer(deployment: Deployment) -> int | None:
    """How many tokens the model answers with at most; None where nobody says."""
    return deployment.max_output_tokens or entry(deployment).get("max_output_tokens")


_CAPABILITIES = {
    "tools": "supports_function_calling",
    "vision": "supports_vision",
    "structured_output": "supports_response_schema",
}


# -- prices ------------------------------------------------------------------------------------------------------------

# What is billed by the token, and by which other price where there is none of its own.
_OTHERWISE = {
    "input_cost_per_token": "",
    "output_cost_per_token": "",
    "cache_read_input_token_cost": "input_cost_per_token",
    "cache_creation_input_token_cost": "input_cost_per_token",
    "output_cost_per_reasoning_token": "output_cost_per_token",
}
_KEY = re.compile(rf"({'|'.join(_OTHERWISE)})((?:_above_\d+(?:k_tokens|hr))*)(?:_([a-z]+(?:_[a-z]+)*))?")
_ABOVE, _HOURS = re.compile(r"_above_(\d+)k_tokens"), re.compile(r"_above_(\d+)hr")
# What no call of ours has: it can send images, which are billed as the tokens they are, and gets text.
_NOT_OURS = re.compile(r"audio|video|character|_per_second|_per_image|image_token|token_cache_hit|^explicit_cache_read")
_STANDARD, _OFF_PEAK = "", "off peak"
_SIDES = ("input", "output")
_UNSAID = Served()
# How providers call the way that needs no word; the last two are OpenAI's for capacity paid for in advance, and Groq's.
_STANDARDS = ("", "default", "standard", "auto", "standard_only", "scale", "on_demand")


@dataclass(frozen=True, slots=True)
class _Price:
    """A price per token, and when it applies: of prompts above so many tokens, of what is kept above so many hours."""

    nusd: Fraction
    above: int = 0
    hours: int = 0


def _parsed(key: str) -> tuple[str, int, int, str] | None:
    """What is billed, above how many tokens and hours, and in which way; None for what no call of ours is billed by."""
    match = _KEY.fullmatch(key)
    if match is None or _NOT_OURS.search(key):
        return None
    above, hours = _ABOVE.search(match[2]), _HOURS.search(match[2])
    return match[1], int(above[1]) * 1000 if above else 0, int(hours[1]) if hours else 0, match[3] or _STANDARD


class _Rates:
    """The prices of a deployment, by what is billed and in which way: `""` is the one that needs no word, others are
    service tiers and the like."""

    def __init__(self) -> None:
        self._prices: dict[tuple[str, str], list[_Price]] = {}
        self.flat: set[str] = set()  # sides, `input` and `output`, that the config prices, whatever way is asked for
        self.strange: list[str] = []  # prices above 0 of what nobody here counts, and those of 0 that are none
        self.off_peak: Mapping[str, Any] = {}  # when that applies

    def add(self, key: str, usd: float, way: str | None = None, above: int | None = None) -> None:
        parsed = _parsed(key)
        if parsed is not None:
            billed, over, hours, own_way = parsed
            price = _Price(to_nusd(usd), over if above is None else above, hours)
            self._prices.setdefault((billed, own_way if way is None else way), []).append(price)
        elif usd > 0 and not _NOT_OURS.search(key):
            self.strange.append(key)

    def never_free(self, key: str, usd: float, place: str) -> None:
        """Take a price of 0 in a table's `place` for one that nobody knows."""
        if not usd and key in _OTHERWISE and not _OTHERWISE[key]:
            self.strange.append(f"{place}: {key} of 0")

    @property
    def is_flat(self) -> bool:
        return len(self.flat) == len(_SIDES)

    @property
    def are_zero(self) -> bool:
        """Whether the config says that nothing costs anything."""
        return self.is_flat and not any(p.nusd for prices in self._prices.values() for p in prices)

    def has_way(self, way: str) -> bool:
        return way in _STANDARDS or all(
            side in self.flat or (f"{side}_cost_per_token", way) in self._prices for side in _SIDES
        )

    def shown(self, billed: str) -> float | None:
        """US dollars per token, of an ordinary request."""
        prices = self._prices.get((billed, _STANDARD))
        return None if not prices else float(min(prices, key=lambda price: price.above).nusd / NUSD)

    def price(self, billed: str, way: str, sent: int, hours: int = 0) -> Fraction:
        """Nano-dollars per token, of a prompt of so many tokens."""
        side = "output" if billed.startswith("output") else "input"
        if side in self.flat:
            way = _STANDARD
        found = self._at(billed, way, sent, hours)
        if found is None and way != _STANDARD:
            # Of a way that has a price for the side alone: what else is billed there goes up and down with it.
            ordinary, special = (self._at(f"{side}_cost_per_token", w, 0, 0) for w in (_STANDARD, way))
            found = self._at(billed, _STANDARD, sent, hours)
            if found is not None and ordinary and special is not None and way != _OFF_PEAK:
                found *= special / ordinary
        if found is None:
            found = self.price(_OTHERWISE[billed], way, sent) if _OTHERWISE[billed] else Fraction(0)
        return found

    def _at(self, billed: str, way: str, sent: int, hours: int) -> Fraction | None:
        prices = self._prices.get((billed, way), ())
        apply = [p for p in prices if (p.above == 0 or p.above < sent) and (p.hours == 0 or hours)]
        return max(apply, key=lambda price: (price.hours, price.above)).nusd if apply else None

    def most(self, billed: Collection[str], ways: Iterable[str], sent: int) -> Fraction:
        """The highest that can apply to a request of at most so many tokens."""
        limits = {price.above for prices in self._prices.values() for price in prices} | {0}
        return max(
            self.price(what, way, reached + 1, hours)
            for what in billed
            for way in ways
            for reached in limits
            for hours in (0, 1)
            if reached == 0 or reached < sent
        )


_INPUT = ("input_cost_per_token", "cache_read_input_token_cost", "cache_creation_input_token_cost")
_OUTPUT = ("output_cost_per_token", "output_cost_per_reasoning_token")


_made: WeakKeyDictionary[Deployment, _Rates] = WeakKeyDictionary()  # each call looks at them twice


def _rates(deployment: Deployment) -> _Rates:
    rates = _made.get(deployment)
    if rates is None:
        rates = _made[deployment] = _rates_of(deployment)
    return rates


def _rates_of(deployment: Deployment) -> _Rates:
    known, rates = entry(deployment), _Rates()
    given = {key: price for key, price in deployment.params.items() if is_price(key)}
    rates.flat = {
        side
        for side, price in (("input", deployment.input_cost), ("output", deployment.output_cost))
        if price is not None
    }
    for key, usd in given.items():
        rates.add(key, usd)
    ours = {
        key: usd for key, usd in known.items() if is_price(key) and key not in given and _side(key) not in rates.flat
    }
    tiers = [] if rates.flat else known.get("tiered_pricing", [])
    if any(ours.values()):  # else it says 0 of all, which is no word that it costs nothing
        for key, usd in ours.items():
            rates.add(key, usd)
    for tier in tiers:
        first, *_ = tier["range"] if isinstance(tier.get("range"), list) and tier["range"] else (None,)
        for key, usd in tier.items():
            if is_price(key) and is_number(usd) and isinstance(first, int | float):
                rates.add(key, usd, above=int(first))
                rates.never_free(key, usd, "tiered_pricing")
    off_peak = {} if rates.flat else known.get("off_peak_pricing", {})
    for key, usd in off_peak.items():
        if is_price(key) and is_number(usd):
            rates.add(key, usd, way=_OFF_PEAK)
            rates.never_free(key, usd, "off_peak_pricing")
            rates.off_peak = off_peak
    return rates


def _side(key: str) -> str:
    return "output" if key.startswith("output_") else "input"


def own_cost(
    tokens: Tokens, deployment: Deployment, served: Served = _UNSAID, now: datetime | None = None
) -> float | None:
    """US dollars; None where it is billed in a way whose prices nobody has said. By our own table: LiteLLM's is as old
    as its release, and it notes the prices of a config under the model's name, for every deployment in the process."""
    rates = _rates(deployment)
    ways = () if rates.strange else _ways_of(served, deployment, rates)
    if not ways:
        return None
    if ways == (_STANDARD,) and _is_off_peak(rates.off_peak, now or datetime.now(UTC)):
        ways = (_OFF_PEAK,)
    if _asked(deployment, "prompt_cache_retention") == "24h":
        tokens = replace(tokens, lasting=tokens.written)
    factors = _factors_of(served, deployment, rates)
    return float(max(_cost(tokens, rates, way, factors) for way in ways) / NUSD)


def _cost(tokens: Tokens, rates: _Rates, way: str, factors: Mapping[str, Fraction]) -> Fraction:
    def price(billed: str, hours: int = 0) -> Fraction:
        return rates.price(billed, way, tokens.sent, hours)

    sent = (
        (tokens.sent - tokens.cached - tokens.written) * price("input_cost_per_token")
        + tokens.cached * price("cache_read_input_token_cost")
        + (tokens.written - tokens.lasting) * price("cache_creation_input_token_cost")
        + tokens.lasting * price("cache_creation_input_token_cost", 1)
    )
    answered = (tokens.answered - tokens.reasoned) * price("output_cost_per_token") + tokens.reasoned * price(
        "output_cost_per_reasoning_token"
    )
    return sent * factors["input"] + answered * factors["output"]


def _asked(deployment: Deployment, key: str) -> str:
    """What the config asks for, of that kind; "" for nothing."""
    value = deployment.params.get(key)
    extra = deployment.params.get("extra_body")
    if value is None and isinstance(extra, Mapping):
        value = extra.get(key)
    return value.lower() if isinstance(value, str) else ""


def _ways_of(served: Served, deployment: Deployment, rates: _Rates) -> tuple[str, ...]:
    """The ways in which an answer may have been billed; none where one of them has no price that anybody knows."""
    speed = served.speed.lower() or _asked(deployment, "speed")
    if not rates.is_flat and speed not in _STANDARDS and speed not in _multipliers(deployment):
        return (speed,) if rates.has_way(speed) else ()
    tier, asked = served.tier.lower(), _asked(deployment, "service_tier")
    if tier in _STANDARDS[1:]:
        return (_STANDARD,)
    if tier:
        return (tier,) if rates.has_way(tier) else ()
    if asked in _STANDARDS:
        return (_STANDARD,)
    return (_STANDARD, asked) if rates.has_way(asked) else ()


def _possible_ways(deployment: Deployment, rates: _Rates) -> list[str]:
    """Those in which a call may come to be billed. Unasked, an account's settings may still say priority."""
    asked, speed = _asked(deployment, "service_tier"), _asked(deployment, "speed")
    tiers = ["priority"] if asked in ("", "auto") else [asked]
    return [_STANDARD, *(way for way in (*tiers, speed, _OFF_PEAK) if way not in _STANDARDS and rates.has_way(way))]


def _is_off_peak(when: Mapping[str, Any], now: datetime) -> bool:
    """`hours_utc` is `HH:MM-HH:MM` or a list of such; `windows` are of some days of the week, Monday is 1."""
    if _within(when.get("hours_utc"), now):
        return True
    for window in when.get("windows") or ():
        days = window.get("weekdays")
        if (days is None or now.isoweekday() in days) and _within(window.get("hours_utc"), now):
            return True
    return False


def _within(hours: Any, now: datetime) -> bool:
    minute = f"{now:%H:%M}"
    for span in [hours] if isinstance(hours, str) else hours if isinstance(hours, list) else ():
        if isinstance(span, str) and (match := _SPAN.fullmatch(span)):
            first, end = match.groups()
            if first <= minute < end or (end <= first and (minute >= first or minute < end)):
                return True
    return False


_SPAN = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)")


# -- what multiplies prices --------------------------------------------------------------------------------------------


def _uplift(deployment: Deployment) -> Fraction:
    """By the address that is asked."""
    known, host = entry(deployment), urlsplit(str(deployment.params.get("api_base", ""))).hostname or ""
    factor = Fraction(1)
    for region in ("eu", "us"):
        if host == f"{region}.api.openai.com":
            factor *= exact(known.get(f"regional_processing_uplift_multiplier_{region}", 1))
    if host == "gov.api.openai.com":
        factor *= exact(known.get("fedramp_uplift_multiplier", 1))
    if str(deployment.params.get("vertex_location")).lower() != "global":  # unsaid, it is a region
        factor *= exact(known.get("regional_endpoint_uplift_multiplier", 1))
    return factor


def _multipliers(deployment: Deployment) -> dict[str, Fraction]:
    """By what the provider multiplies its prices where it answers in a certain way: faster, or in one country."""
    found = entry(deployment).get("provider_specific_entry", {})
    return {way.lower(): exact(factor) for way, factor in found.items() if is_number(factor) and factor > 0}


def _factors_of(served: Served, deployment: Deployment, rates: _Rates) -> dict[str, Fraction]:
    """By side. What the config says that something costs is what it costs."""
    known = _multipliers(deployment)
    speed = (served.speed or _asked(deployment, "speed")).lower()
    region = (served.region or _asked(deployment, "inference_geo")).lower()
    factor = _uplift(deployment) * known.get(speed, 1) * (known.get(region, 1) if region != speed else 1)
    return {side: Fraction(1) if side in rates.flat else factor for side in _SIDES}


def _most_factors(deployment: Deployment, rates: _Rates) -> dict[str, Fraction]:
    """Unasked, an account's settings may still say where its models run."""
    known, speed = _multipliers(deployment), _asked(deployment, "speed")
    regions = (
        [] if _asked(deployment, "inference_geo") == "global" else [f for way, f in known.items() if way != "fast"]
    )
    factor = _uplift(deployment) * max([Fraction(1), *regions]) * max(Fraction(1), known.get(speed, Fraction(1)))
    return {side: Fraction(1) if side in rates.flat else factor for side in _SIDES}


# -- what a call can cost at most --------------------------------------------------------------------------------------

# Keys of litellm_params that say where to ask, and as whom, and those that say how to choose words. Any other goes into
# the request as it is, where it may ask for more than we know of: further answers, searches, sounds.
_REACHED = re.compile(
    r"model|base_model|api_(base|key|version|type)|organization|project|custom_llm_provider|region_name|tenant_id"
    r"|client_id|client_secret|(aws|azure|vertex|watsonx|databricks)_\w+|(extra|default)_headers|ssl_verify|(additional_)?drop_params"
)
_CHOOSES_WORDS = re.compile(
    r"temperature|top_p|top_k|min_p|seed|stop|logit_bias|(presence|frequency|repetition)_penalty|verbosity"
    r"|reasoning_effort|thinking|parallel_tool_calls|service_tier|speed|inference_geo"
    r"|prompt_cache_(key|retention)|keep_alive"
)
_SEARCHES = re.compile(r"(^|/)perplexity/|-search\b|:online\b|^groq/compound")  # look things up, and bill it, unasked
# Reason, beyond max_tokens and for money; which of them do, the map does not always say.
_REASONS = re.compile(r"^xai/(?!.*(non-reasoning|grok-2|grok-3(?!-mini)|grok-(vision-)?beta))")
_CHOOSES = re.compile(r"^azure_ai/model_router|^openrouter/(openrouter/)?auto\b")  # bill what another model costs


def _unboundable(deployment: Deployment, rates: _Rates) -> str:
    """Why nobody can say what a call to it can cost at most, as the end of a sentence; empty where that can be said."""
    if open_ended := [
        key
        for key in deployment.params
        if key == "extra_query" or not (_CHOOSES_WORDS.fullmatch(key) or _is_of_the_way(key) or is_output_limit(key))
    ]:
        return f"has {' and '.join(open_ended)} in its litellm_params, with which a call may cost anything"
    dropped = deployment.params.get("additional_drop_params")
    if isinstance(dropped, list) and any(limit in dropped for limit in ("max_tokens", "max_completion_tokens")):
        return "drops max_tokens (additional_drop_params), so that a call may cost anything"
    if _SEARCHES.search(deployment.model) or "citation_cost_per_token" in rates.strange:
        return "searches the web unasked, so that a call may cost anything"
    if _CHOOSES.search(deployment.model):
        return "chooses a model by itself, so that a call may cost anything"
    if _REASONS.search(deployment.model):
        return "bills its reasoning beyond max_tokens, so that a call may cost anything"
    if rates.strange:
        return f"has a price that nobody here reckons with ({', '.join(rates.strange)})"
    if not rates.has_way(tier := _asked(deployment, "service_tier")):
        return f"has no price for service_tier {quoted(tier)}, which its litellm_params ask for"
    speed = _asked(deployment, "speed")
    if not (speed in _STANDARDS or rates.is_flat or speed in _multipliers(deployment) or rates.has_way(speed)):
        return f"has no price for speed {quoted(speed)}, which its litellm_params ask for"
    return ""


def _is_of_the_way(key: str) -> bool:
    """Whether it goes into no request."""
    return _REACHED.fullmatch(key) is not None or is_price(key) or key in TRANSPORT


# Bytes around what is said, in the format that has the most of them, and tokens that a provider adds to it; each more
# than any is known to. What is no prose (tools, schemas) counts twice, as each provider writes it for its model in its
# own way.
_PER_REQUEST, _PER_MESSAGE, _PER_TEXT, _PER_TOOL = 88, 56, 32, 128
_FOR_TOOLS, _FOR_FORMAT, _PER_IMAGE = 1024, 1024, 50_000
_UNKNOWN_LONGEST = 4096  # tokens of an answer where nobody says how long the model's can be


def _most_tokens(deployment: Deployment, request: Request, beside: int = 0) -> int:
    """The most tokens that this request can be there, and the most bytes of the body that it is sent in, but for those
    of images. `beside` is how many of these are not in it.

    Bounded from above without counting: a token is at least one byte, in every tokenizer that providers use.
    """
    said = {key: value for key, value in deployment.params.items() if not _is_of_the_way(key)}
    tokens = beside + _PER_REQUEST + len(deployment.model) + len(json.dumps(said, default=str))
    tokens += sum(map(_bytes_of_message, request.messages))
    called = {call.function.name for message in request.messages for call in message.tool_calls or ()}
    if request.tools or called:
        # For the sake of those that were called, some get tools.
        names = () if request.tools else called
        tokens += _FOR_TOOLS + sum(_PER_TOOL + 2 * _bytes(tool) for tool in request.tools or ())
        tokens += sum(_PER_TOOL + 2 * json_bytes(name) for name in names)
    if request.response_format is not None:
        tokens += _FOR_FORMAT + 2 * _bytes(request.response_format)
    return tokens + request.growth


def quote(deployment: Deployment, request: Request, beside: int = 0) -> Quote:
    """The most that this request can cost there, at a deployment whose prices are known. `beside` is how many bytes go
    out with it that are not in it."""
    tokens = _most_tokens(deployment, request, beside)
    longest = output_limit(deployment, entry(deployment), request.max_tokens)
    if longest is None:
        longest = longest_answer(deployment) or _UNKNOWN_LONGEST
    rates = _rates(deployment)
    factors = _most_factors(deployment, rates)
    ways = _possible_ways(deployment, rates)
    return Quote(
        input_tokens=tokens,
        input_nusd=rates.most(_INPUT, ways, tokens) * tokens * factors["input"],
        token_nusd=rates.most(_OUTPUT, ways, tokens) * factors["output"],
        max_tokens=int(longest),
        fixed=request.max_tokens is not None,
    )


def _bytes(part: Tool | ResponseFormat) -> int:
    return len(json.dumps(part.model_dump(exclude_none=True, by_alias=True), ensure_ascii=False).encode())


def _bytes_of_message(message: Message) -> int:
    """An image counts as many as the greediest provider makes of one."""
    images = 0
    texts = [message.content] if isinstance(message.content, str) else []
    for part in message.content if isinstance(message.content, list) else ():
        images += part.image_url is not None
        texts.append(part.text or "")
    for call in message.tool_calls or ():
        # The name comes again with the result.
        texts += [call.id, call.function.name, call.function.name, call.function.arguments]
    texts += filter(None, (message.name, message.tool_call_id))
    return _PER_MESSAGE + sum(_PER_TEXT + json_bytes(text) for text in texts) + _PER_IMAGE * images
