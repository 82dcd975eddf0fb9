"""The notes that an answer carries about a request: wordings that several modules share."""

from __future__ import annotations


def not_taken(parameter: str, name: str) -> str:
    """A parameter was left out because the deployment of this name does not take it."""
    return f"{parameter} was left out: {name} does not take it"


def effort_changed(asked: str, level: str, name: str) -> str:
    """Another level of effort was sent than the config asks for."""
    return f"reasoning_effort {asked} became {level}, the nearest that {name} has"


def miscounted(model: str) -> str:
    """The provider's token counts cannot be used."""
    return f"usage unknown: {model} has counted its tokens in no way that can be used"
