"""Edits of TOML as text: a table is put in or taken out, and every other byte stays.

tomlkit takes a comment behind a table for part of it: it would go with our table, and the line ends would be mixed.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.cli.attach.text import Unreadable, Value

_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}\n]|[^"\'#\[\]{}\n]+',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Statement:
    """A header `[a.b]` or an assignment.

    Attributes:
        table: the table that the header begins, or that the assignment is in.
        key: the names before the `=`; none for a header.
        start: where its line begins.
        end: behind it, before a comment on the same line.
        line_end: behind the line's end.
    """

    table: tuple[str, ...]
    key: tuple[str, ...]
    start: int
    end: int
    line_end: int


class TomlText:
    """TOML as Codex reads it. Tables have headers of their own: a table inside of a line is left to the user."""

    name = "TOML"

    def read(self, text: str) -> Any:
        """The data.

        Raises:
            Unreadable: it is not TOML.
        """
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise Unreadable("", 0, str(error)) from None

    def show(self, value: Mapping[str, Any]) -> str:
        """A text of its own."""
        return self._table((), value)

    def put(self, text: str, path: Sequence[str], value: Value) -> str:
        """The text with a value at `path`. A table that is new goes to the end, or behind the one that it is in.

        Raises:
            Unreadable: the table on the way is written inside of a line.
        """
        table, key = tuple(path[:-1]), path[-1]
        found = [statement for statement in _statements(text) if statement.table == table]
        if isinstance(value, Mapping):
            within = [s for s in _statements(text) if s.table[: len(table)] == table and len(path) > 2]
            return _inserted(text, within[-1].line_end if within else len(text), self._table(tuple(path), value))
        line = f"{_key(key)} = {_value(value)}"
        for statement in found:
            if statement.key == (key,):
                return text[: statement.start] + line + text[statement.end :]
        if not any(not statement.key for statement in found):
            raise Unreadable("", 0, f"{'.'.join(table)} is not written as a table, [{'.'.join(table)}]")
        at = found[-1].line_end
        return text[:at] + ("" if text[:at].endswith("\n") else "\n") + line + "\n" + text[at:]

    def drop(self, text: str, path: Sequence[str]) -> str:
        """The text without the table or the value at `path`. A comment behind a table stays."""
        whole = tuple(path)
        gone = [s for s in _statements(text) if (s.table + s.key)[: len(whole)] == whole]
        spans: list[tuple[int, int]] = []
        for position, statement in enumerate(gone):
            starts_anew = not statement.key or position == 0
            if spans and not (starts_anew and text[spans[-1][1] : statement.start].strip()):
                spans[-1] = spans[-1][0], statement.line_end
            else:
                spans.append((statement.start, statement.line_end))
        for start, end in reversed(spans):
            before = text[:start]
            blank = re.search(r"(?:\A|(?<=\n))\r?\n\Z", before)
            text = (before[: blank.start()] if blank else before) + text[end:]
        return text

    def _table(self, path: tuple[str, ...], value: Mapping[str, Any]) -> str:
        plain = {key: item for key, item in value.items() if not isinstance(item, Mapping)}
        lines = [f"[{'.'.join(map(_key, path))}]\n"] if path and (plain or not value) else []
        lines += [f"{_key(key)} = {_value(item)}\n" for key, item in plain.items()]
        tables = [self._table((*path, key), item) for key, item in value.items() if isinstance(item, Mapping)]
        return "\n".join(["".join(lines), *tables] if lines else tables)


def _inserted(text: str, at: int, table: str) -> str:
    before, after = text[:at], text[at:]
    if before and not before.endswith("\n"):
        before += "\n"
    if before and not re.search(r"(?:\A|\n)\r?\n\Z", before):
        before += "\n"
    return before + table + after


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, str):  # a basic string of TOML has JSON's escapes, but for the delete character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    return str(value)


def _statements(text: str) -> Iterator[_Statement]:
    """All statements, in their order. The text is TOML."""
    table: tuple[str, ...] = ()
    for start, end, line_end in _lines(text):
        written = text[start:end]
        if written.startswith("["):
            table = tuple(_names(tomllib.loads(written)))
            yield _Statement(table, (), start, end, line_end)
        else:
            yield _Statement(table, tuple(_names(_key_alone(written))), start, end, line_end)


def _key_alone(assignment: str) -> dict[str, Any]:
    """The data that an assignment makes, with another value."""
    for token in _TOKEN.finditer(assignment):
        if "=" in token[0] and token[0][0] not in "\"'":
            key = assignment[: token.start() + token[0].index("=")]
            return tomllib.loads(f"{key} = 0")
    return {}


def _names(data: Any) -> Iterator[str]:
    """The names of a table in a table in a table."""
    while isinstance(data, dict) and data:
        [(name, data)] = data.items()
        yield name
        if isinstance(data, list):  # [[a.b]]
            data = data[0]


def _lines(text: str) -> Iterator[tuple[int, int, int]]:
    """Where each statement begins, where it ends, and where the line ends at which it ends."""
    depth, start, end, at = 0, -1, -1, 0
    for token in _TOKEN.finditer(text):
        at, found = token.end(), token[0]
        if found == "\n":
            if depth == 0 and start >= 0:
                yield start, end, at
                start = -1
            continue
        if found.startswith("#"):
            continue
        depth += (found in "[{") - (found in "]}")
        if bare := found.strip():
            if start < 0:
                start = token.start() + found.index(bare)
            end = token.start() + found.rindex(bare) + len(bare)
    if start >= 0:
        yield start, end, at
