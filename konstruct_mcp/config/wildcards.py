"""Wildcards: patterns such as `openai/*`, which names match them, and which model a name stands for.

As in LiteLLM: `*` stands for any text, the longest pattern that matches wins, and what its stars stand for replaces the
stars in the deployment's model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def is_pattern(name: str) -> bool:
    return "*" in name


def match(name: str, patterns: Iterable[str]) -> tuple[str, re.Match[str]] | None:
    """The longest of these patterns that the name matches, and the match; None where it matches none."""
    for pattern in sorted(patterns, key=lambda pattern: (len(re.escape(pattern)), pattern.count("*")), reverse=True):
        if found := re.match(re.escape(pattern).replace(r"\*", "(.*)"), name):
            return pattern, found
    return None


def model_of(found: re.Match[str], model: str) -> str:
    """The model that is asked where a name has matched: `model` with its stars replaced, or the name itself where the
    pattern has more stars than `model`."""
    if not is_pattern(model):
        return model
    parts = found.groups()
    if len(parts) > model.count("*"):
        return found.string
    for part in parts:
        model = model.replace("*", part, 1)
    return model
