"""What is found wrong while a config is read: faults, losses, and what has no effect.

- A *fault* refuses the config. All faults are collected, so that one `ConfigError` names them together.
- A *loss* is a value that is left out, or read in another way than it is written. The config is used without it.
- An *idle* place holds something that is well-formed and has no effect here.

Losses and idle places become the warnings. Any value of a config may be a secret: lines name places, keys, groups and
environment variables, and quote no other value.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from konstruct_mcp.config.environment import shown_name
from konstruct_mcp.config.litellm_budgets import PERIODS, limits, warning
from konstruct_mcp.config.litellm_keys import KNOWN_PARAMS, meant
from konstruct_mcp.config.provider_needs import is_provider
from konstruct_mcp.config.sections import Section
from konstruct_mcp.core.budgets import Budget
from konstruct_mcp.core.text import LONGEST_NAME, cut
from konstruct_mcp.core.validation import flaws

NO_NAME = "names no variable; should be os.environ/NAME, a name of letters, digits and _"
_MOST_LISTED = 100  # faults and warnings: nobody reads more, and a file can hold thousands
_MOST_PLACES = 30  # in one line
_IN_AN_ENTRY = re.compile(r"(?:.*: )?model_list\[\d+\](?:\.(.+)| \((.+)\))")
_FIRST = re.compile(r"[.\[]")  # what ends the first key of a place

_Model = TypeVar("_Model", bound=Section)


class Findings:
    """The faults, the losses and the idle places of one config.

    A place is written as in code: `model_list[3].litellm_params.api_key`.

    Attributes:
        faults: one line for each fault, at most `_MOST_LISTED`.
        lost: one line for each loss.
        idle: places of what has no effect.
        time_outs: the place of each time-out in the file, and how long it is, in seconds.
        limits: place, group and litellm_params of each deployment with a spending limit of LiteLLM's.
    """

    def __init__(self, lost: Iterable[str] = ()) -> None:
        self.faults: list[str] = []
        self.lost = list(lost)
        self.idle: list[str] = []
        self.time_outs: list[tuple[str, float]] = []
        self.limits: list[tuple[str, str, Mapping[str, Any]]] = []

    def forget(self) -> None:
        """Start anew: what has been said of an entry is not said again when a group is made of it later."""
        self.faults, self.lost, self.idle, self.time_outs, self.limits = [], [], [], [], []

    def fault(self, place: str, message: str) -> None:
        if len(self.faults) < _MOST_LISTED:
            self.faults.append(f"{cut(place, 200)}: {message}")

    def loss(self, place: str, message: str) -> None:
        """A loss: a value is left out."""
        self.lost.append(f"{cut(place, 200)}: {message}; left out")

    def unset(self, place: str, name: str | None) -> None:
        """A fault: a variable that is needed is not set. `name` is None where the reference names none."""
        self.fault(f"{place} ({cut(name)})" if name else place, "is not set" if name else NO_NAME)

    def left_out(self, place: str, name: str | None) -> None:
        """A loss: a value is left out because its variable is not set, as in LiteLLM."""
        self.loss(place, f"{cut(name)} is not set" if name else NO_NAME)

    def meant(self, key: str, known: frozenset[str] = KNOWN_PARAMS) -> str | None:
        """The known key that this one is a misspelling of. Not looked for in a file that has too many losses already,
        because it takes time."""
        return meant(key, known) if len(self.lost) < _MOST_LISTED else None

    def parse(
        self,
        model: type[_Model],
        value: Any,
        place: str,
        names: Mapping[str, str | None] | None = None,
        *,
        needed: Collection[str] | None = None,
    ) -> _Model | None:
        """A section without what is wrong in it; None where nothing can be made of the rest.

        Args:
            model: what it should be.
            value: the section.
            place: where it is.
            names: key → the variable that its value was in, which is named too.
            needed: the keys in which a flaw is a fault; None for all. If there are any, it is one in the whole section
                too. Any other flaw is a loss.
        """
        try:
            return model.model_validate(value)
        except ValidationError as error:
            for where, message in flaws(error):
                if message == "unknown field":
                    close = suggestion(where, model.model_fields)
                    message = f"unknown key; did you mean {close}?" if close else "unknown key"
                at = f"{cut(place, 120)}.{cut(where)}" if where else place
                if (name := (names or {}).get(where)) is not None:
                    at = f"{at} ({cut(shown_name(name))})"
                if needed is None or (needed and (not where or _FIRST.split(where, 1)[0] in needed)):
                    self.fault(at, message)
                else:
                    self.lost.append(f"{at}: {message}; left out")
            bad = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        if not bad or not isinstance(value, dict):  # an empty list counts as no section at all
            return None
        try:
            return model.model_validate({k: v for k, v in value.items() if k not in bad})
        except ValidationError:
            return None

    def check_time_outs(self, timeout_s: float) -> None:
        """Note the time-outs that can never pass, because the whole call ends earlier."""
        if longer := [place for place, limit_s in self.time_outs if limit_s > timeout_s]:
            more = f" and {len(longer) - _MOST_PLACES} more" if len(longer) > _MOST_PLACES else ""
            self.lost.append(
                f"longer than konstruct.timeout_s ({timeout_s:g} s), which ends the whole call: "
                f"{', '.join(longer[:_MOST_PLACES])}{more}"
            )

    def warnings(
        self, document: Mapping[str, Any], groups_of: Mapping[str, Sequence[str]], budgets: Sequence[Budget]
    ) -> tuple[str, ...]:
        """The warnings: spending limits that nobody keeps first, then losses, then what has no effect.

        Args:
            document: the config as it is written.
            groups_of: provider → the groups that ask it.
            budgets: those of `konstruct.budgets`.
        """
        found = []
        settings = {
            name: section
            for name in ("litellm_settings", "router_settings", "general_settings")
            if isinstance(section := document.get(name), dict)
        }
        limited = limits(settings, self.limits, groups_of)
        if (spending := warning(limited, budgets)) is not None:
            found.append(spending)
        more = len(self.lost) - _MOST_LISTED
        found += [cut(line, 500) for line in self.lost[:_MOST_LISTED]]
        found += [f"and {more} more of this kind"] if more > 0 else []
        if idle := _summed_up(self._without_limits(document, {limit.place for limit in limited})):
            more = len(idle) - _MOST_PLACES
            listed = ", ".join(cut(place, 200) for place in idle[:_MOST_PLACES])
            found.append(f"no effect here: {listed}" + (f" and {more} more" if more > 0 else ""))
        return tuple(found)

    def _without_limits(self, document: Mapping[str, Any], limited: Collection[str]) -> Iterator[str]:
        """The idle places without spending limits, which have a warning of their own."""
        named = {place for limit in limited for place in (limit, limit.rpartition(".")[0])}
        for place in self.idle:
            if not place.endswith(".budget_duration"):
                yield from _besides(place, _at(place, document), named) if place in named else [place]


def _summed_up(places: Iterable[str]) -> list[str]:
    """The places; those that are the same within several entries of `model_list` as one line."""
    found: dict[str, list[str]] = {}
    for place in places:
        inside = _IN_AN_ENTRY.fullmatch(place)
        found.setdefault(place if inside is None else f"\0{inside[1]}\0{inside[2]}", []).append(place)
    lines = []
    for key, same in found.items():
        _, key_inside, kind = [*key.split("\0"), "", ""][:3] if key.startswith("\0") else ("", "", "")
        if len(same) == 1 or not key.startswith("\0"):
            lines.append(same[0])
        else:
            what = f"{len(same)} entries of model_list"
            lines.append(f"{key_inside} of {what}" if key_inside != "None" else f"{what} ({kind})")
    return lines


def _at(place: str, document: Any) -> Any:
    """What is at a place in the document; None where it is in a list."""
    for key in place.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _besides(place: str, section: Any, named: Collection[str]) -> Iterator[str]:
    """The places within a section that hold something, except for those that are named already."""
    if isinstance(section, dict) and not is_provider(place.rpartition(".")[2]):
        for key, value in section.items():
            here = f"{place}.{cut(key)}"
            if here in named:
                yield from _besides(here, value, named)
            elif key not in PERIODS and not is_nothing(value):
                yield here


def is_nothing(value: Any) -> bool:
    """Whether a value turns nothing on, so that nothing is lost without it."""
    return value is None or value is False or (isinstance(value, str | list | dict) and not value)


def listed(names: Iterable[str]) -> str:
    """Names in one line of bounded length, sorted."""
    return cut(", ".join(itertools.islice((cut(name) for name in sorted(names)), _MOST_LISTED)), 500)


def suggestion(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known word that this one is most like; None where none is like it enough (`likeness`, from 0 to 1)."""
    close = difflib.get_close_matches(word[:LONGEST_NAME].lower(), list(known), n=1, cutoff=likeness)
    return close[0] if close else None
