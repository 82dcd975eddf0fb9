"""What the editors of JSON, TOML and YAML have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Value = str | int | bool | Sequence[str] | Mapping[str, Any]


class Unreadable(Exception):  # noqa: N818  it is a state of a file, told in one line
    """A text that is not of its format, or not in a form that can be edited.

    Args:
        text: the text, or none where there is no place to name.
        at: where in it.
    """

    def __init__(self, text: str, at: int, why: str) -> None:
        super().__init__(f"line {text.count(chr(10), 0, at) + 1}: {why}" if text else why)


class Format(Protocol):
    """An editor of one format. Each edit gives the whole text, changed in one place."""

    name: str

    def read(self, text: str) -> Any: ...

    def show(self, value: Mapping[str, Any]) -> str: ...

    def put(self, text: str, path: Sequence[str], value: Value) -> str: ...

    def drop(self, text: str, path: Sequence[str]) -> str: ...


def indentation(text: str, at: int) -> str:
    """The white space at the beginning of the line."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def indented(text: str, indent: str) -> str:
    """With all lines but the first moved to the right."""
    return re.sub(r"\n(?=[^\n])", "\n" + indent, text)


def nested(path: Sequence[str], value: Value) -> Value:
    """The value in an object for each name of `path`."""
    for key in reversed(path):
        value = {key: value}
    return value
