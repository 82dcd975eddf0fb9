"""The YAML of a config into plain data, within bounds.

The file is trusted to be the user's own, but not to be right. What could run code, or grow without end when aliases are
expanded, is refused with its line. Any value may be a secret, so no message quotes one.
"""

from __future__ import annotations

import re
from typing import Any, cast

import yaml

from konstruct_mcp.core.errors import ConfigError
from konstruct_mcp.core.text import quoted

MAX_VALUES = 50_000  # aliases expanded; a thousand deployments have about 15,000, and PyYAML reads 15,000 a second
_LONG_TEXT = 100  # characters that weigh as much as one more value, so that aliases cannot multiply one huge text
MAX_DEPTH = 50  # aliases expanded; every step that walks the data recurses, and LiteLLM's files are six deep
MAX_NUMBER = 1e300  # what fits a float; also keeps out infinities and integers that Python refuses to print
_MOST_REPEATED = 20  # repeated keys that are listed: nobody reads more
_LONGEST_NUMBER = 100  # characters: YAML's numbers of base sixty (`1:30:00`) take ever longer with each of their parts
_LONGEST_KEY = 1000  # characters
_YAML = "tag:yaml.org,2002:"
_TAGS = frozenset(_YAML + name for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge"))

_NUMBERS = (_YAML + "int", _YAML + "float")


class _Loader(yaml.SafeLoader):
    """Loads one document of plain data.

    - Tags, a second document, and values beyond the bounds above are refused. That is checked as nodes are composed,
      before any value is made of them.
    - Every key is text as it is written: a group called `no` or `8` is neither a boolean nor a number.
    - Dates stay text too (Azure's `api_version: 2024-06-01`).
    - Of two equal keys the last one counts; `repeated` has a line for each that does not.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  the stubs make it an instance's, which a ClassVar cannot override
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _TAGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._extents: dict[yaml.Node, tuple[int, int]] = {}  # finished nodes → values and levels, aliases expanded
        self._level = 0
        self.repeated: list[str] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        self._level += 1
        if self._level > MAX_DEPTH:
            raise _refusal("nested too deep", event)
        node = cast(yaml.Node, super().compose_node(parent, index))  # None only where there is no document
        self._level -= 1
        if node in self._extents:  # an alias
            return node
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("an alias inside what it stands for", event)
        if node.tag not in _TAGS:
            raise _refusal("a tag; only plain YAML is read", event)
        if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            raise _refusal(f"a number of more than {_LONGEST_NUMBER} characters", event)
        match node:
            case yaml.MappingNode():
                below = [self._extents[child] for pair in node.value for child in pair]
            case yaml.SequenceNode():
                below = [self._extents[child] for child in node.value]
            case _:
                below = [(len(node.value) // _LONG_TEXT, 0)]
        values = 1 + sum(values for values, _ in below)
        levels = 1 + max((levels for _, levels in below), default=0)
        if max(values, len(self._extents)) > MAX_VALUES:
            raise _refusal(f"more than {MAX_VALUES} values, aliases expanded", event)
        if levels > MAX_DEPTH:
            raise _refusal("nested too deep", event)
        self._extents[node] = values, levels
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for position, (key, value) in enumerate(node.value):
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key that is not plain text", key)
            if len(key.value) > _LONGEST_KEY:
                raise _refusal(f"a key of more than {_LONGEST_KEY:,} characters", key)
            if key.value in seen and key.tag != _YAML + "merge" and len(self.repeated) < _MOST_REPEATED:
                place = f"line {key.start_mark.line + 1}, column {key.start_mark.column + 1}"
                self.repeated.append(f"{place}: the key {quoted(key.value)} is there twice; the last one counts")
            seen.add(key.value)
            if key.tag != _YAML + "merge":
                text = yaml.ScalarNode(_YAML + "str", key.value, key.start_mark, key.end_mark)
                self._extents[text] = self._extents[key]
                node.value[position] = text, value
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # an escape can spell half a surrogate pair, which no output takes
            elif isinstance(value, int | float) and not abs(value) < MAX_NUMBER:
                raise ValueError
        except (ValueError, LookupError):  # PyYAML's own for `!!int x`, `!!bool x`
            raise _refusal("a value that cannot be read", node) from None
        return value


def _refusal(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def parse(text: str, origin: str, prefix: str, *, may_be_empty: bool = False) -> tuple[dict[str, Any], list[str]]:
    """The mapping that a text of YAML holds, and a line for each of its values that is lost.

    Args:
        text: the YAML.
        origin: what to call the config in an error.
        prefix: put before each line; says which of several files it is about.
        may_be_empty: whether an empty text counts as a mapping without keys.

    Raises:
        ConfigError: it is not YAML, not plain data, or no mapping. PyYAML's own message is used only where it does not
            quote the text.
    """
    place, problem = "", "not valid YAML"
    try:
        loader = _Loader(text)
        document = loader.get_single_data()
        if document is None and may_be_empty:
            document = {}
        if isinstance(document, dict):
            return document, [f"{prefix}{line}" for line in loader.repeated]
        problem = "is empty" if document is None else "should be a mapping of sections"
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = f"line {before.count(chr(10)) + 1}, column {error.position - before.rfind(chr(10))}: "
        problem = "a character that YAML does not allow"
    except yaml.MarkedYAMLError as error:
        if mark := error.problem_mark:
            place = f"line {mark.line + 1}, column {mark.column + 1}: "
        said = (error.problem or problem).removeprefix("but ")
        # Besides our own, quotes are safe around one character and around the kind of a token: '<scalar>'.
        unquoted = re.sub(r"'(?:<[a-z ]+>|[^'\\]|\\[nrt])'", "", said)
        if type(error) is yaml.MarkedYAMLError or not re.search("['\"]", unquoted):
            problem = said
    except (ValueError, OverflowError):  # PyYAML does not catch these: the escape \UFFFFFFFF, a %YAML 1.99…
        pass
    raise ConfigError([prefix + place + problem], source=origin)
