"""Places in settings and in providers' bodies: the way of keys to a value, `("output_config", "effort")`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Place = tuple[str, ...]

# The places that say how to think.
THINKING_PLACES: tuple[Place, ...] = (
    *(("thinking",), ("reasoning",), ("reasoning_effort",), ("output_config", "effort"), ("prompt_mode",)),
    ("generationConfig", "thinkingConfig"),
    *(("additionalModelRequestFields", key) for key in ("thinking", "reasoning_effort", "reasoningConfig")),
    ("additionalModelRequestFields", "output_config", "effort"),
)


def at(body: Mapping[str, Any], place: Place) -> Any:
    """What is at a place; None where nothing is."""
    found: Any = body
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def without(body: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The body without what is at this place, and without objects that become empty by that."""
    key, *further = place
    less = dict(body)
    if not further:
        less.pop(key, None)
    elif isinstance(inner := less.get(key), Mapping) and not (kept := without(inner, tuple(further))):
        if inner:
            del less[key]
    elif isinstance(inner, Mapping):
        less[key] = kept
    return less
