"""What a call has cost: the tokens that its provider counted, at the deployment's prices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.money import NUSD
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


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a call, as its provider counted them.

    Attributes:
        sent: all tokens of the prompt.
        cached: those of `sent` that were read from the provider's cache.
        written: those of `sent` that were written to it.
        answered: all tokens of the answer.
        reasoned: those of `answered` that were reasoning.
        lasting: those of `written` that are kept for an hour or more.
    """

    sent: int
    cached: int
    written: int
    answered: int
    reasoned: int
    lasting: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """How a provider says that it has served a call, which decides what it bills; "" where it says nothing.

    Attributes:
        tier: `default`, `priority`, `flex` …
        speed: `standard`, `fast`.
        region: where the model ran, `us` or `global`.
    """

    tier: str = ""
    speed: str = ""
    region: str = ""


_UNSAID = Served()


def own_cost(
    tokens: Tokens, deployment: Deployment, served: Served = _UNSAID, now: datetime | None = None
) -> float | None:
    """What a call has cost, in US dollars; None where it was billed in a way whose prices are not known.

    By our own tables: LiteLLM's is as old as its release, and it keeps the prices of a config by the model's name, for
    all deployments in the process.
    """
    rates = rates_of(deployment)
    ways = () if rates.strange else _ways_of(served, deployment, rates)
    if not ways:
        return None
    if ways == (STANDARD,) and _is_off_peak(rates.off_peak, now or datetime.now(UTC)):
        ways = (OFF_PEAK,)
    if asked_for(deployment, "prompt_cache_retention") == "24h":
        tokens = replace(tokens, lasting=tokens.written)
    factors = _factors_of(served, deployment, rates)
    return float(max(_cost(tokens, rates, way, factors) for way in ways) / NUSD)


def _cost(tokens: Tokens, rates: Rates, way: str, factors: Mapping[str, Fraction]) -> Fraction:
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


def _ways_of(served: Served, deployment: Deployment, rates: Rates) -> tuple[str, ...]:
    """The ways of being served by which a call may have been billed; empty where the price of one is not known."""
    speed = served.speed.lower() or asked_for(deployment, "speed")
    if not rates.is_flat and speed not in STANDARD_WAYS and speed not in multipliers(deployment):
        return (speed,) if rates.has_way(speed) else ()
    tier, asked = served.tier.lower(), asked_for(deployment, "service_tier")
    if tier in STANDARD_WAYS[1:]:
        return (STANDARD,)
    if tier:
        return (tier,) if rates.has_way(tier) else ()
    if asked in STANDARD_WAYS:
        return (STANDARD,)
    return (STANDARD, asked) if rates.has_way(asked) else ()


def _is_off_peak(when: Mapping[str, Any], now: datetime) -> bool:
    """Whether off-peak prices hold now.

    Args:
        when: `hours_utc` is `HH:MM-HH:MM` or a list of such; `windows` hold on some days of the week, Monday is 1.
    """
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


def _factors_of(served: Served, deployment: Deployment, rates: Rates) -> dict[str, Fraction]:
    """The factor on the prices of each side; 1 where the config gives the price."""
    known = multipliers(deployment)
    speed = (served.speed or asked_for(deployment, "speed")).lower()
    region = (served.region or asked_for(deployment, "inference_geo")).lower()
    factor = uplift(deployment) * known.get(speed, 1) * (known.get(region, 1) if region != speed else 1)
    return {side: Fraction(1) if side in rates.flat else factor for side in SIDES}
