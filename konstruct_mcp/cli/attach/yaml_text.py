"""Edits of YAML as text: an entry is put in or taken out, and every other byte stays.

PyYAML says where each value begins and ends, and the edit is a splice there. ruamel.yaml, which keeps comments, would
write indentation and line breaks of the rest anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from konstruct_mcp.cli.attach.text import Unreadable, Value, indented, nested


class YamlText:
    """YAML with mappings that go over several lines.

    Args:
        named: where a list is whose items have a `name`. It is read, and edited, as a mapping from these names.
    """

    name = "YAML"

    def __init__(self, named: str | None = None) -> None:
        self._named = named

    def read(self, text: str) -> Any:
        """The data; an empty mapping for a text without any.

        Raises:
            Unreadable: it is not YAML.
        """
        try:
            data = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise Unreadable("", 0, _why(error)) from None
        if data is None:
            return {}
        if self._named and isinstance(data, dict) and isinstance(data.get(self._named), list):
            data = {**data, self._named: dict(_by_name(data[self._named]))}
        return data

    def show(self, value: Mapping[str, Any]) -> str:
        """A text of its own."""
        if self._named and self._named in value:
            value = {**value, self._named: list(value[self._named].values())}
        return _dumped(value)

    def put(self, text: str, path: Sequence[str], value: Value) -> str:
        """The text with a value at `path`, and with the mappings that it is in.

        Raises:
            Unreadable: something on the way is no mapping, or is written inside of a line.
        """
        node = yaml.compose(text, yaml.SafeLoader)
        if node is None or node.tag.endswith(":null"):
            begun = text if not text or text.endswith("\n") else text + "\n"
            return begun + self.show({path[0]: nested(path[1:], value)})
        column = 0
        for position, key in enumerate(path):
            found = self._child(node, key)
            if found is None:
                made: Any = nested(path[position:], value)
                if position == 0 and key == self._named:
                    made = {key: [nested(path[2:], value)]}
                elif position == 1 and path[0] == self._named:
                    made = [nested(path[2:], value)]
                return _inserted(text, node, made, column)
            column, node = found[0].column, found[1]
        if isinstance(value, Mapping) or (isinstance(node, yaml.CollectionNode) and not node.flow_style):
            raise Unreadable(text, node.start_mark.index, "it is there, over several lines")
        return text[: node.start_mark.index] + json.dumps(value) + text[node.end_mark.index :]

    def drop(self, text: str, path: Sequence[str]) -> str:
        """The text without what is at `path`, whole lines of it. What was in it alone is left empty."""
        parent, mark, node = None, None, yaml.compose(text, yaml.SafeLoader)
        for key in path:
            found = None if node is None else self._child(node, key)
            if found is None:
                return text
            parent, (mark, node) = node, found
        if node is None or parent is None or mark is None:
            return text
        start, end = text.rfind("\n", 0, mark.index) + 1, text.find("\n", _end(text, node))
        rest = "" if end < 0 else text[end + 1 :]
        if len(parent.value) == 1 and len(path) > 1:
            return f"{text[:start].rstrip()} {'[]' if isinstance(parent, yaml.SequenceNode) else '{}'}\n{rest}"
        return text[:start] + rest

    def _child(self, node: yaml.Node, key: str) -> tuple[yaml.Mark, yaml.Node] | None:
        """Where what is of this name begins, and its value."""
        if isinstance(node, yaml.MappingNode):
            return next(((name.start_mark, value) for name, value in node.value if name.value == key), None)
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                named = self._child(item, "name") if isinstance(item, yaml.MappingNode) else None
                if named and named[1].value == key:
                    return item.start_mark, item
        return None


def _inserted(text: str, node: yaml.Node, made: Any, column: int) -> str:
    """With one more item at the end of a mapping or a list.

    Args:
        column: of the name of which it is the value.
    """
    at = node.start_mark.index
    if not node.value or node.tag.endswith(":null"):
        indent = " " * (column + (0 if isinstance(made, list) else 2))
        block = indented(_dumped(made).rstrip("\n"), indent)
        return f"{text[:at].rstrip(' ')}\n{indent}{block}{text[node.end_mark.index :]}"
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        raise Unreadable(text, at, "a mapping over several lines should be here")
    indent = " " * node.start_mark.column
    end = text.find("\n", _end(text, node))
    before, after = (text + "\n", "") if end < 0 else (text[: end + 1], text[end + 1 :])
    return before + indent + indented(_dumped(made), indent) + after


def _by_name(items: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    nameless = 0
    for item in items:
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            yield item["name"], item
        else:
            nameless += 1
            yield f"without a name: {nameless}", item


def _dumped(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
    return text


def _end(text: str, node: yaml.Node) -> int:
    """Behind the last character of a value; PyYAML has the end of one with several lines where the next one begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    return len(text[: node.end_mark.index].rstrip())


def _why(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be read"
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)
