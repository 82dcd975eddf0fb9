"""The prices of a deployment: those of its config first, and those of the tables of model data second.

- A price in the config stands in place of all that the tables say of that side, input or output.
- Where the tables have no price, or say 0, the price is unknown: only the config can say that something costs nothing.
- A price may hold for one way of being served alone (a service tier, off-peak hours), above a number of tokens, or for
  a cache that is kept for hours.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from konstruct_mcp.config.model import Deployment, entry
from konstruct_mcp.config.model_fields import is_number, is_price
from konstruct_mcp.core.money import NUSD, exact, to_nusd

# What is billed by the token → the price that holds where it has none of its own.
_OTHERWISE = {
    "input_cost_per_token": "",
    "output_cost_per_token": "",
    "cache_read_input_token_cost": "input_cost_per_token",
    "cache_creation_input_token_cost": "input_cost_per_token",
    "output_cost_per_reasoning_token": "output_cost_per_token",
}
_KEY = re.compile(rf"({'|'.join(_OTHERWISE)})((?:_above_\d+(?:k_tokens|hr))*)(?:_([a-z]+(?:_[a-z]+)*))?")
_ABOVE, _HOURS = re.compile(r"_above_(\d+)k_tokens"), re.compile(r"_above_(\d+)hr")
# Prices of what no call of ours has. Images are sent, but billed as tokens; answers are text.
_NOT_OURS = re.compile(r"audio|video|character|_per_second|_per_image|image_token|token_cache_hit|^explicit_cache_read")
STANDARD, OFF_PEAK = "", "off peak"  # ways of being served, of which service tiers are others
SIDES = ("input", "output")
# What providers call the standard way. `scale` is OpenAI's capacity paid for in advance, `on_demand` is Groq's.
STANDARD_WAYS = ("", "default", "standard", "auto", "standard_only", "scale", "on_demand")


@dataclass(frozen=True, slots=True)
class _Price:
    """A price per token, for prompts above so many tokens and for what is cached above so many hours."""

    nusd: Fraction
    above: int = 0
    hours: int = 0


def _parsed(key: str) -> tuple[str, int, int, str] | None:
    """A price's key as what is billed, above how many tokens, above how many hours, and in which way of being served.

    None for a price that no call of ours is billed by.
    """
    match = _KEY.fullmatch(key)
    if match is None or _NOT_OURS.search(key):
        return None
    above, hours = _ABOVE.search(match[2]), _HOURS.search(match[2])
    return match[1], int(above[1]) * 1000 if above else 0, int(hours[1]) if hours else 0, match[3] or STANDARD


class Rates:
    """The prices of a deployment, by what is billed and by the way of being served.

    Attributes:
        flat: the sides (`input`, `output`) that the config prices; its price holds for every way of being served.
        strange: prices that cannot be reckoned with: of what nobody here counts, and 0 in a table.
        off_peak: when the off-peak prices hold, as the table has it.
    """

    def __init__(self) -> None:
        self._prices: dict[tuple[str, str], list[_Price]] = {}
        self.flat: set[str] = set()
        self.strange: list[str] = []
        self.off_peak: Mapping[str, Any] = {}

    def add(self, key: str, usd: float, way: str | None = None, above: int | None = None) -> None:
        parsed = _parsed(key)
        if parsed is not None:
            billed, over, hours, own_way = parsed
            price = _Price(to_nusd(usd), over if above is None else above, hours)
            self._prices.setdefault((billed, own_way if way is None else way), []).append(price)
        elif usd > 0 and not _NOT_OURS.search(key):
            self.strange.append(key)

    def never_free(self, key: str, usd: float, place: str) -> None:
        """Note a price of 0 in a table's `place` as unknown."""
        if not usd and key in _OTHERWISE and not _OTHERWISE[key]:
            self.strange.append(f"{place}: {key} of 0")

    @property
    def is_flat(self) -> bool:
        return len(self.flat) == len(SIDES)

    @property
    def are_zero(self) -> bool:
        """Whether the config says that every price is 0."""
        return self.is_flat and not any(p.nusd for prices in self._prices.values() for p in prices)

    def has_way(self, way: str) -> bool:
        return way in STANDARD_WAYS or all(
            side in self.flat or (f"{side}_cost_per_token", way) in self._prices for side in SIDES
        )

    def shown(self, billed: str) -> float | None:
        """US dollars per token of a standard request, as users are shown it; None where unknown."""
        prices = self._prices.get((billed, STANDARD))
        return None if not prices else float(min(prices, key=lambda price: price.above).nusd / NUSD)

    def price(self, billed: str, way: str, sent: int, hours: int = 0) -> Fraction:
        """Nano-dollars per token.

        Args:
            sent: how many tokens the prompt has.
            hours: for how many hours a cache is kept.
        """
        side = "output" if billed.startswith("output") else "input"
        if side in self.flat:
            way = STANDARD
        found = self._at(billed, way, sent, hours)
        if found is None and way != STANDARD:
            # This way has its own price for ordinary tokens alone: the other prices change in the same proportion.
            ordinary, special = (self._at(f"{side}_cost_per_token", w, 0, 0) for w in (STANDARD, way))
            found = self._at(billed, STANDARD, sent, hours)
            if found is not None and ordinary and special is not None and way != OFF_PEAK:
                found *= special / ordinary
        if found is None:
            found = self.price(_OTHERWISE[billed], way, sent) if _OTHERWISE[billed] else Fraction(0)
        return found

    def _at(self, billed: str, way: str, sent: int, hours: int) -> Fraction | None:
        prices = self._prices.get((billed, way), ())
        apply = [p for p in prices if (p.above == 0 or p.above < sent) and (p.hours == 0 or hours)]
        return max(apply, key=lambda price: (price.hours, price.above)).nusd if apply else None

    def most(self, billed: Collection[str], ways: Iterable[str], sent: int) -> Fraction:
        """The highest price that can apply, in nano-dollars per token, to a request of at most `sent` tokens."""
        limits = {price.above for prices in self._prices.values() for price in prices} | {0}
        return max(
            self.price(what, way, reached + 1, hours)
            for what in billed
            for way in ways
            for reached in limits
            for hours in (0, 1)
            if reached == 0 or reached < sent
        )


_made: WeakKeyDictionary[Deployment, Rates] = WeakKeyDictionary()  # each call reads them twice


def rates_of(deployment: Deployment) -> Rates:
    """The prices of a deployment, made once."""
    rates = _made.get(deployment)
    if rates is None:
        rates = _made[deployment] = _made_rates(deployment)
    return rates


def _made_rates(deployment: Deployment) -> Rates:
    known, rates = entry(deployment), Rates()
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
    if any(ours.values()):  # a table that says 0 of everything knows no price
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
            rates.add(key, usd, way=OFF_PEAK)
            rates.never_free(key, usd, "off_peak_pricing")
            rates.off_peak = off_peak
    return rates


def _side(key: str) -> str:
    return "output" if key.startswith("output_") else "input"


def asked_for(deployment: Deployment, key: str) -> str:
    """What the config sets for a parameter such as `service_tier`, in lower case; "" where it sets nothing."""
    value = deployment.params.get(key)
    extra = deployment.params.get("extra_body")
    if value is None and isinstance(extra, Mapping):
        value = extra.get(key)
    return value.lower() if isinstance(value, str) else ""


def multipliers(deployment: Deployment) -> dict[str, Fraction]:
    """Factors on the prices of a faster answer or one from a certain region, by the provider's word for it."""
    found = entry(deployment).get("provider_specific_entry", {})
    return {way.lower(): exact(factor) for way, factor in found.items() if is_number(factor) and factor > 0}


def uplift(deployment: Deployment) -> Fraction:
    """The factor on all prices that goes with the address: some regions cost more."""
    known, host = entry(deployment), urlsplit(str(deployment.params.get("api_base", ""))).hostname or ""
    factor = Fraction(1)
    for region in ("eu", "us"):
        if host == f"{region}.api.openai.com":
            factor *= exact(known.get(f"regional_processing_uplift_multiplier_{region}", 1))
    if host == "gov.api.openai.com":
        factor *= exact(known.get("fedramp_uplift_multiplier", 1))
    if str(deployment.params.get("vertex_location")).lower() != "global":  # without a location, a region is asked
        factor *= exact(known.get("regional_endpoint_uplift_multiplier", 1))
    return factor
