"""How large a JSON value is: how many values, characters and levels of lists and objects are in it.

What is large is worked on in a thread (`threads`), so that the event loop keeps turning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

# Beyond these the way from the line that came in to the provider's body takes some ten milliseconds.
LARGE_VALUES, LARGE_CHARS = 4_000, 250_000


class Extent(NamedTuple):
    """How many values there are, how many characters in texts and keys, and how many levels of lists and objects."""

    values: int
    chars: int
    levels: int


def extent(value: Any, most_values: float = math.inf, most_chars: float = math.inf) -> Extent:
    """The extent of a value. Counting stops soon after `most_values` or `most_chars` is exceeded.

    It goes level by level and does not recurse, so no depth is too much for it.
    """
    values = chars = levels = 0
    level = [value]
    while level:
        values += len(level)
        if values > most_values or chars > most_chars:
            break
        below: list[Any] = []
        has_containers = False
        for item in level:
            if isinstance(item, str):
                chars += len(item)
            elif isinstance(item, list | tuple):
                has_containers = True
                below.extend(item)
            elif isinstance(item, Mapping):
                has_containers = True
                chars += sum(len(key) for key in item if isinstance(key, str))
                below.extend(item.values())
            if len(below) > most_values:
                break
        levels += has_containers
        level = below
    return Extent(values, chars, levels)


def is_large(value: Any) -> bool:
    """Whether work on this value takes so long that it belongs in a thread."""
    found = extent(value, LARGE_VALUES, LARGE_CHARS)
    return found.values > LARGE_VALUES or found.chars > LARGE_CHARS
