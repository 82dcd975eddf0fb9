"""A writer of JSON that writes numbers as JavaScript does: 0 for 0.0, 0.000025 for 2.5e-05.

Clients in JavaScript show their model a result's text and its structure unless the text is, to the letter, what
`JSON.stringify` makes of the structure (Copilot's does). And people read an amount of money in decimals.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

_LEAST_DECIMAL, _LEAST_POWER = 1e-6, 1e21  # JavaScript writes what is smaller or larger with an exponent
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder().encode


def written(value: Any) -> str:
    """The JSON of a value, without spaces."""
    return _written(value, _encode, "", "")


def indented(value: Any) -> str:
    """The JSON of a value for people, in ASCII."""
    return _written(value, _encode_ascii, "\n", "  ")


def with_whole_numbers(value: Any) -> Any:
    """The value with integers in the place of whole floats, so that whoever writes it writes 0 and not 0.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: with_whole_numbers(item) for key, item in value.items()}
    return [with_whole_numbers(item) for item in value] if isinstance(value, list | tuple) else value


def _written(value: Any, encode: Callable[[Any], str], newline: str, step: str) -> str:
    """`newline` begins each line of the value's own level; empty for a value on one line."""
    if isinstance(value, float):
        return _number(value)
    if not (isinstance(value, dict | list | tuple) and value):
        return encode(value)
    inside, comma = newline + step, f",{newline + step}"
    if isinstance(value, dict):
        colon = ": " if newline else ":"
        items = (f"{encode(str(key))}{colon}{_written(item, encode, inside, step)}" for key, item in value.items())
        return f"{{{inside}{comma.join(items)}{newline}}}"
    return f"[{inside}{comma.join(_written(item, encode, inside, step) for item in value)}{newline}]"


def _number(value: float) -> str:
    if value == 0:
        return "0"
    text = repr(value)
    if _LEAST_DECIMAL <= abs(value) < _LEAST_POWER:
        return format(Decimal(text), "f").removesuffix(".0")
    digits, _, power = text.partition("e")
    return f"{digits}e{int(power):+d}" if power else "null"  # which JavaScript writes for what is no number
