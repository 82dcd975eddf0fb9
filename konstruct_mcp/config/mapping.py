"""A config that a program gives as a mapping, into the plain data that the YAML of a file is read into.

The same holds of it: keys are texts, and values are texts, numbers, booleans, nothing, lists and mappings, within the
bounds of a file. A date is the text that a file would have, and a path is its text. No message quotes a value, which
may be a secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from typing import Any

from konstruct_mcp.config.yaml import MAX_DEPTH, MAX_NUMBER, MAX_VALUES
from konstruct_mcp.core.errors import ConfigError
from konstruct_mcp.core.text import cut

_MOST_FAULTS = 20  # that are listed: nobody reads more


def plain_document(given: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """A copy of a mapping as plain data.

    Args:
        origin: what to call the config in an error.

    Raises:
        ConfigError: naming the place of each value that no file could have.
    """
    copying = _Copying()
    document: dict[str, Any] = copying.value(given, "", 1)
    if copying.faults:
        raise ConfigError(copying.faults, source=origin)
    return document


class _Copying:
    """One copy under way."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._values = 0

    def value(self, value: Any, place: str, level: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            if self._values == MAX_VALUES + 1:
                self.faults.append(f"more than {MAX_VALUES} values")
            return None
        match value:
            case None | bool():
                return value
            case int() | float():
                return value if abs(value) < MAX_NUMBER else self._fault(place, "a number that cannot be read")
            case str():
                return self._text(value, place)
            case date():
                return value.isoformat()
            case os.PathLike():
                return self._text(os.fspath(value), place)
            case Mapping() | list() | tuple() if level > MAX_DEPTH:
                return self._fault(place, "nested too deep")
            case Mapping():
                named = {key: f"{place}.{cut(str(key))}" if place else cut(str(key)) for key in value}
                return {self._key(key, place): self.value(item, named[key], level + 1) for key, item in value.items()}
            case list() | tuple():
                return [self.value(item, f"{place}[{position}]", level + 1) for position, item in enumerate(value)]
            case _:
                return self._fault(place, f"a value of the type {type(value).__name__}, which no config has")

    def _key(self, key: Any, place: str) -> str:
        if isinstance(key, str):
            return str(self._text(key, place))
        self._fault(place, f"a key of the type {type(key).__name__}; keys are texts")
        return str(key)

    def _text(self, text: str | bytes, place: str) -> str | None:
        what = "a text with half a character in it"  # which no output takes
        try:
            if isinstance(text, str):
                text.encode()
                return str.__str__(text)  # of a subclass, such as the member of an enumeration, its text alone
            what = "a path of bytes; give a text"
        except UnicodeEncodeError:
            pass
        self._fault(place, what)
        return None

    def _fault(self, place: str, what: str) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(f"{place}: {what}" if place else what)
