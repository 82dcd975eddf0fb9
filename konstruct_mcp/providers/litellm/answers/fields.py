"""Reading fields of JSON that anybody may have sent: any of them may be missing or of another type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def word_in(value: Any) -> str | None:
    """The text of a field; None where it is empty, missing or no text."""
    return value if isinstance(value, str) and value else None


def text_in(value: Any) -> str:
    """The text of a field; empty where it is missing or no text."""
    return value if isinstance(value, str) else ""


def object_in(value: Any) -> Mapping[str, Any]:
    """The object in a field; an empty one where it is missing or no object."""
    return value if isinstance(value, dict) else {}


def objects_in(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none where it is missing or no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def own_text(value: Any) -> str:
    """A text of the model's answer; empty where it is missing.

    Raises:
        TypeError: it is no text.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError("a text of another type")
    return value or ""
