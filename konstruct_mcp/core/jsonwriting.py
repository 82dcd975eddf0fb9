"""A writer of JSON that writes numbers as JavaScript does: 0 for 0.0, 0.000025 for 2.5e-05.

A client may show its model a result's text and its structure unless the text is, to the letter, what it makes of the
structure itself. In JavaScript that is what `JSON.stringify` does. Copilot does it in Rust, which differs below 1e-5.
And people read an amount of money in decimals.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

JAVASCRIPTS_LEAST_DECIMAL, RUSTS_LEAST_DECIMAL = 1e-6, 1e-5  # they write what is smaller with an exponent
_LEAST_POWER = 1e21  # JavaScript writes that and what is larger with an exponent
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder().encode


def written(value: Any, least_decimal: float = JAVASCRIPTS_LEAST_DECIMAL) -> str:
    """The JSON of a value, without spaces; smaller numbers than `least_decimal` with an exponent."""
    return _written(value, _encode, least_decimal)


def indented(value: Any) -> str:
    """The JSON of a value for people, in ASCII."""
    return _written(value, _encode_ascii, JAVASCRIPTS_LEAST_DECIMAL, "\n", "  ")


def with_whole_numbers(value: Any) -> Any:
    """The value with integers in the place of whole floats, so that whoever writes it writes 0 and not 0.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: with_whole_numbers(item) for key, item in value.items()}
    return [with_whole_numbers(item) for item in value] if isinstance(value, list | tuple) else value


def _written(value: Any, encode: Callable[[Any], str], least_decimal: float, newline: str = "", step: str = "") -> str:
    """`newline` begins each line of the value's own level; empty for a value on one line."""
    if isinstance(value, float):
        return _number(value, least_decimal)
    if not (isinstance(value, dict | list | tuple) and value):
        return encode(value)
    inside, comma = newline + step, f",{newline + step}"
    write = functools.partial(_written, encode=encode, least_decimal=least_decimal, newline=inside, step=step)
    if isinstance(value, dict):
        colon = ": " if newline else ":"
        items = (f"{encode(str(key))}{colon}{write(item)}" for key, item in value.items())
        return f"{{{inside}{comma.join(items)}{newline}}}"
    return f"[{inside}{comma.join(map(write, value))}{newline}]"


def _number(value: float, least_decimal: float) -> str:
    if value == 0:
        return "0"
    text = repr(value)
    if least_decimal <= abs(value) < _LEAST_POWER:
        return format(Decimal(text), "f").removesuffix(".0")
    digits, _, power = text.partition("e")
    return f"{digits}e{int(power):+d}" if power else "null"  # which JavaScript writes for what is no number
