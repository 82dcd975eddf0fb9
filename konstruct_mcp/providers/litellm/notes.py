"""The notes that an answer carries about a request: wordings that several modules share."""

from __future__ import annotations


def not_taken(parameter: str, name: str) -> str:
    """A parameter was left out because the deployment of this name does not take it."""
    return f"{parameter} was left out: {name} does not take it"


def effort_changed(what: str, asked: str, level: str, name: str) -> str:
    """Another level was sent than was asked for; `what` is `effort` of a call, or `reasoning_effort` of a config."""
    return f"{what} {asked} became {level}, the nearest that {name} has"


def effort_capped(asked: str, most: str) -> str:
    """A lower level of effort was sent than the call asks for, because of its tenant's `max_effort`."""
    return f"effort {asked} became {most}, the most that this tenant may ask for"


def used_up(model: str) -> str:
    """The answer was cut before its first word."""
    return f"{model} used the whole limit of the answer for reasoning; raise max_tokens or lower effort"


def miscounted(model: str) -> str:
    """The provider's token counts cannot be used."""
    return f"usage unknown: {model} has counted its tokens in no way that can be used"
