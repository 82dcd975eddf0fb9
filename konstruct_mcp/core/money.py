"""Money as whole nano-dollars: the unit of every account, how prices are turned into it, and how it is shown."""

from __future__ import annotations

import functools
from decimal import Decimal
from fractions import Fraction

NUSD = 1_000_000_000  # nano-dollars in a dollar
MOST_NUSD = 10**15  # a million dollars: the most for one try, so that sums of many stay within 64 bits


@functools.lru_cache(1024)  # each call asks for the same few prices
def exact(number: float) -> Fraction:
    """The number as it was written in decimals, without what its binary form adds."""
    return Fraction(repr(number))


@functools.lru_cache(1024)
def to_nusd(usd: float) -> Fraction:
    """Nano-dollars of a price in dollars, exactly as it was written in decimals."""
    return exact(usd) * NUSD


def dollars(nusd: int) -> str:
    """`$5`, `$0.25`, `$0.000163`: to the micro-dollar; an amount below that is `<$0.000001`, never `$0`."""
    if 0 < nusd < NUSD // 1_000_000:
        return "<$0.000001"
    text = f"{Decimal(nusd) / NUSD:,.6f}".rstrip("0").rstrip(".")
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents:0<2}" if cents else f"${whole}"
