"""Edits of JSON as text: one value is put in or taken out, and every other byte stays.

A scanner finds where each value begins and ends, comments and trailing commas included, and the edit is a splice there.
The libraries for Python that keep comments write the rest of the text anew, or are not kept up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from konstruct_mcp.cli.attach.text import Unreadable, Value, indentation, indented, nested

_SPACE = re.compile(r"[ \t\r\n]*")
_BETWEEN = re.compile(r"(?:[ \t\r\n]|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_SCALAR = re.compile(r"-?\d[\d.eE+-]*|true|false|null")
_COMMENT = re.compile(r"//|/\*")
_DEPTH = 200  # levels; no client's file has ten, and Python itself ends at a thousand


@dataclass(slots=True)
class _Node:
    """A value and where it stands.

    Attributes:
        key: its name in the object that it is in.
        begin: where it begins, with its name.
        start: where it begins without its name.
        end: behind its last character.
        comma: where the comma behind it is, if there is one.
        children: what is in it, where it is an object or a list.
    """

    value: Any
    start: int
    end: int = 0
    key: str | None = None
    begin: int = 0
    comma: int | None = None
    children: list[_Node] = field(default_factory=list)

    def child(self, key: str) -> _Node | None:
        return next((child for child in reversed(self.children) if child.key == key), None)


class _Scanner:
    def __init__(self, text: str, *, comments: bool, commas: bool) -> None:
        self._text = text
        self._comments = comments
        self._commas = commas
        self._at = 0

    def document(self) -> _Node:
        self._skip()
        node = self._value(0)
        self._skip()
        if self._at < len(self._text):
            self._fail("something follows the end")
        return node

    def _fail(self, why: str) -> NoReturn:
        raise Unreadable(self._text, self._at, why)

    def _token(self, pattern: re.Pattern[str], why: str) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            self._fail(why)
        self._at = match.end()
        return match[0]

    def _skip(self) -> None:
        self._token(_BETWEEN if self._comments else _SPACE, "")  # they match anything
        if not self._comments and _COMMENT.match(self._text, self._at):
            self._fail("a comment, which this client does not read")

    def _value(self, depth: int) -> _Node:
        node = _Node(None, self._at, begin=self._at)
        opening = self._text[self._at : self._at + 1]
        if opening in ("{", "["):
            if depth == _DEPTH:
                self._fail("too deep")
            self._at += 1
            self._items(node, "}" if opening == "{" else "]", depth)
            children = node.children
            node.value = {c.key: c.value for c in children} if opening == "{" else [c.value for c in children]
        else:
            node.value = self._plain(_STRING if opening == '"' else _SCALAR)
        node.end = self._at
        return node

    def _plain(self, pattern: re.Pattern[str]) -> Any:
        start = self._at
        try:
            return json.loads(self._token(pattern, "no value of JSON"))
        except ValueError:
            self._at = start
            self._fail("no value of JSON")

    def _items(self, node: _Node, closing: str, depth: int) -> None:
        self._skip()
        while not self._text.startswith(closing, self._at):
            if node.children and node.children[-1].comma is None:
                self._fail(f"a comma or {closing} is missing")
            begin, key = self._at, None
            if closing == "}":
                key = self._key()
            child = self._value(depth + 1)
            child.begin, child.key = begin, key
            node.children.append(child)
            self._skip()
            if self._text.startswith(",", self._at):
                child.comma = self._at
                self._at += 1
                self._skip()
        if node.children and node.children[-1].comma is not None and not self._commas:
            self._fail("a comma too many, which this client does not read")
        self._at += 1

    def _key(self) -> str:
        if not self._text.startswith('"', self._at):
            self._fail("a name in quotes is missing")
        key: str = self._plain(_STRING)
        self._skip()
        if not self._text.startswith(":", self._at):
            self._fail("a colon is missing")
        self._at += 1
        self._skip()
        return key


class JsonText:
    """JSON as a client writes it.

    Args:
        comments: whether the client reads comments in it.
        commas: whether it reads a comma behind the last item.
    """

    name = "JSON"

    def __init__(self, *, comments: bool = False, commas: bool = False) -> None:
        self._comments = comments
        self._commas = commas

    def read(self, text: str) -> Any:
        """The data; an empty object for a text of white space.

        Raises:
            Unreadable: it is not JSON, or has comments that the client does not read.
        """
        return self._scan(text).value if text.strip() else {}

    def show(self, value: Mapping[str, Any]) -> str:
        """A text of its own."""
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

    def put(self, text: str, path: Sequence[str], value: Value) -> str:
        """The text with a value at `path`, and with the objects that it is in.

        Raises:
            Unreadable: something on the way is no object.
        """
        if not text.strip():
            return self.show({path[0]: nested(path[1:], value)})
        root = node = self._scan(text)
        unit = _unit(text, root)
        for position, key in enumerate(path):
            if not isinstance(node.value, dict):
                raise Unreadable(text, node.start, f"{'.'.join(path[:position]) or 'it'} should be an object")
            child = node.child(key)
            if child is None:
                name = json.dumps(key, ensure_ascii=False)
                return _insert(text, node, f"{name}: ", nested(path[position + 1 :], value), unit)
            node = child
        return text[: node.start] + _rendered(value, unit, indentation(text, node.begin)) + text[node.end :]

    def drop(self, text: str, path: Sequence[str]) -> str:
        """The text without what is at `path`."""
        *_, parent, node = self._nodes(text, path)
        return _delete(text, parent, parent.children.index(node))

    def append(self, text: str, path: Sequence[str], item: str) -> str:
        """The text with one more item of the list at `path`."""
        nodes = self._nodes(text, path) if text.strip() else []
        if len(nodes) <= len(path):
            return self.put(text, path, [item])
        if not isinstance(nodes[-1].value, list):
            raise Unreadable(text, nodes[-1].start, f"{'.'.join(path)} should be a list")
        return _insert(text, nodes[-1], "", item, _unit(text, nodes[0]))

    def discard(self, text: str, path: Sequence[str], item: str) -> str:
        """The text without an item of the list at `path`."""
        node = self._nodes(text, path)[-1]
        return _delete(text, node, [child.value for child in node.children].index(item))

    def _scan(self, text: str) -> _Node:
        return _Scanner(text, comments=self._comments, commas=self._commas).document()

    def _nodes(self, text: str, path: Sequence[str]) -> list[_Node]:
        """The nodes on the way, the document's first, as far as there are some."""
        nodes = [self._scan(text)]
        for key in path:
            child = nodes[-1].child(key) if isinstance(nodes[-1].value, dict) else None
            if child is None:
                break
            nodes.append(child)
        return nodes


def _unit(text: str, root: _Node) -> str:
    """By how much a level is indented."""
    if root.children and "\n" in text[root.start : root.children[0].begin]:
        return indentation(text, root.children[0].begin) or "  "
    return "  "


def _rendered(value: Value, unit: str, indent: str) -> str:
    return indented(json.dumps(value, indent=unit, ensure_ascii=False), indent)


def _insert(text: str, node: _Node, name: str, value: Value, unit: str) -> str:
    """Behind all that is in an object or a list."""
    close = node.end - 1
    outer = indentation(text, node.begin)
    if not node.children:
        inner = text[node.start + 1 : close].rstrip()
        indent = outer + unit
        made = f"{inner}\n{indent}{name}{_rendered(value, unit, indent)}\n{outer}"
        return text[: node.start + 1] + made + text[close:]
    first, last = node.children[0], node.children[-1]
    end = last.end if last.comma is None else last.comma + 1
    behind = last.end + len(text[last.end : close].rstrip())  # behind the comments that follow the last item
    if "\n" in text[node.start : first.begin] or "\n" in text[last.end : close]:
        indent = indentation(text, last.begin)
        made = f"\n{indent}{name}{_rendered(value, unit, indent)}"
    else:
        made = f" {name}{json.dumps(value, ensure_ascii=False)}"
    if last.comma is None:
        return text[:end] + "," + text[end:behind] + made + text[behind:]
    return text[:behind] + made + "," + text[behind:]


def _delete(text: str, node: _Node, position: int) -> str:
    child = node.children[position]
    start = len(text[: child.begin].rstrip())
    end = child.end if child.comma is None else child.comma + 1
    if len(node.children) == 1:
        left = text[node.start + 1 : start] + text[end : node.end - 1]
        return text[: node.start + 1] + (left if left.strip() else "") + text[node.end - 1 :]
    before = node.children[position - 1]
    if position == len(node.children) - 1 and child.comma is None and before.comma is not None:
        return text[: before.comma] + text[before.comma + 1 : start] + text[end:]
    return text[:start] + text[end:]
