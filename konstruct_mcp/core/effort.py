"""How hard a model is to think: the levels that a call may ask for, those that models have, and which is nearest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Effort = Literal["none", "low", "medium", "high", "max"]
"""What a call may ask for, and a tenant be held to."""

LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")  # of all models, the lowest first


def is_above(level: str, most: str) -> bool:
    """Whether a level is above another one. A word that is no level is above none but "none"."""
    return rank(level) > rank(most) if level in LEVELS else most == "none"


def rank(level: str) -> int:
    """The place of a level among all."""
    return LEVELS.index(level)


def nearest(level: str, among: Sequence[str], most: str = "max") -> str:
    """The level that is nearest to this one, of those in `among`, which is not empty, that are not above `most`; of all
    in `among` where none is so low.

    The lower of two that are equally near; "none" only for "none", or where nothing else is there. A word that is no
    level stays as it is.
    """
    among = [one for one in among if not is_above(one, most)] or among
    if level in among or level not in LEVELS:
        return level
    others = [one for one in among if one != "none"] or list(among)
    return min(others, key=lambda one: (abs(rank(one) - rank(level)), rank(one)))
