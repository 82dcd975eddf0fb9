"""Model names with a `*` in them: which requested name one matches, and which model is meant. Plain code.

As LiteLLM has it: `*` stands for any text, the longest pattern that matches wins, and what its stars stood for is put
in place of the stars of the deployment's model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def is_pattern(name: str) -> bool:
    return "*" in name


def match(name: str, patterns: Iterable[str]) -> tuple[str, re.Match[str]] | None:
    """The most specific of these patterns that the name matches, and how."""
    for pattern in sorted(patterns, key=lambda pattern: (len(re.escape(pattern)), pattern.count("*")), reverse=True):
        if found := re.match(re.escape(pattern).replace(r"\*", "(.*)"), name):
            return pattern, found
    return None


def model_of(found: re.Match[str], model: str) -> str:
    """The model that a deployment's `model` stands for where a name has matched."""
    if not is_pattern(model):
        return model
    parts = found.groups()
    if len(parts) > model.count("*"):
        return found.string
    for part in parts:
        model = model.replace("*", part, 1)
    return model
