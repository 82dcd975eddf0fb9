"""How large a JSON schema becomes when each `$ref` in it is written out: counted here, without writing it out.

A schema of two kilobytes can refer to its own parts so often that it stands for gigabytes, and engines and providers do
write it out, on the way or for their models. So the size that it stands for decides whether it may come in, and what
the call can cost.

Pure code over data that anybody may have sent. Nothing here recurses, so no depth is too much for it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from json.encoder import encode_basestring
from typing import Any, NamedTuple
from urllib.parse import unquote

# Far more than any provider takes (OpenAI: ten levels and 5,000 properties in all), and few enough for code that
# recurses: LiteLLM gives up at 100 levels, pydantic at 255.
MOST_LEVELS = 100
MOST_GROWTH = 1_000_000  # bytes that all references of one request may add
MOST_REFS = 10_000  # references that are written out in one request; LiteLLM takes 20 µs for each
_MOST_COPIES = 5_000_000  # definitions times objects: LiteLLM copies the list of definitions at each object

_AROUND = 4  # levels around a schema: arguments, tools, a tool, its function


def json_bytes(text: str) -> int:
    """The length of a text as JSON in UTF-8."""
    written = encode_basestring(text)
    return len(written) if written.isascii() else len(written.encode(errors="surrogatepass"))


def too_deep(arguments: Mapping[str, Any]) -> str | None:
    """The place in a call's arguments that is nested more than `MOST_LEVELS` deep, written as in code
    (`tools[0].function`); None where there is none."""
    path = [iter(_inside(arguments))]
    keys: list[Any] = []  # of the values on the path
    while path:
        for key, inner in path[-1]:
            if not isinstance(inner, str) and isinstance(inner, _NESTS):
                keys.append(key)
                path.append(iter(_inside(inner)))
                break
        else:
            path.pop()
            del keys[-1:]
        if len(keys) > MOST_LEVELS + _AROUND:
            named = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys[:_AROUND])
            return named.removeprefix(".")
    return None


_NESTS = (dict, list, tuple, Mapping)


def _inside(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, Mapping) else enumerate(value)


def growth(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many bytes each of a request's schemas grows by when its references are written out, by the schema's place.

    It is 0 for a schema that becomes shorter. As in LiteLLM, what is written leaves out the definitions themselves, and
    has a recursive reference written out once.

    Raises:
        ValueError: they grow by more than any provider should be sent; the message names the schema's place.
    """
    found: dict[str, int] = {}
    refs = added = 0
    for place, schema in schemas.items():
        found[place] = 0
        written = json.dumps(schema)
        if not (there := written.count('"$ref"')):
            continue
        if refs + there > MOST_REFS:
            raise ValueError(f"{place}: {_TOO_MUCH}")
        outline = _Outline(json.loads(written))
        for more, level in outline.written_out():
            refs, added = refs + 1, added + more
            if level > MOST_LEVELS:
                raise ValueError(f"{place}: {_TOO_DEEP}")
            if refs > MOST_REFS or added > MOST_GROWTH or outline.copies > _MOST_COPIES:
                raise ValueError(f"{place}: {_TOO_MUCH}")
            found[place] += more
        found[place] = max(0, found[place] - outline.bytes_apart)
    return found


def set_apart(schema: dict[str, Any]) -> dict[str, Any]:
    """Take the definitions out of a schema, also those within definitions, and return them by name. Of two definitions
    with the same name, the outer one is returned."""
    found: dict[str, Any] = {}
    ahead: deque[tuple[Any, bool]] = deque([(schema, False)])  # and whether its keys are names of properties
    while ahead:
        value, has_names = ahead.popleft()
        if isinstance(value, list):
            ahead += ((inner, False) for inner in value)
        elif isinstance(value, dict):
            for home in () if has_names else _HOMES:
                if isinstance(value.get(home), dict):
                    parts = value.pop(home)
                    found = parts | found
                    ahead += ((part, False) for part in parts.values())
            ahead += ((inner, not has_names and key == "properties") for key, inner in value.items())
    return found


_HOMES = ("$defs", "definitions")
_TOO_DEEP = f"is nested more than {MOST_LEVELS} levels deep where its references ($ref) are written out"
_TOO_MUCH = (
    "its references ($ref) make too much of it: all in a request may be "
    f"{MOST_REFS:,} and add {MOST_GROWTH:,} bytes where they are written out"
)


class _Part(NamedTuple):
    """An object in a schema."""

    level: int  # at which it stands
    lowest: int  # the level of the most deeply nested value in it
    bytes: int  # of its JSON
    refs: range  # those of the schema's references that are in it


class _Outline:
    """A schema, and where its parts and its references are.

    Attributes:
        copies: the number of objects times the number of definitions.
        bytes_apart: how many bytes the definitions have.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        """The definitions are taken out of `schema`, which is changed."""
        self._schema, self._definitions = schema, set_apart(schema)
        self._refs: list[tuple[str, int]] = []  # each with its level
        self._parts: dict[int, _Part] = {}  # by the id() of the object
        self._targets: dict[str, list[tuple[int, _Part]]] = {}
        self._gather(schema)
        self.bytes_apart = sum(map(self._gather, self._definitions.values()))
        self.copies = len(self._parts) * len(self._definitions)

    def _gather(self, whole: Any) -> int:
        """Record each object and each reference in this value, and return how many bytes its JSON has."""
        # The bytes so far, and the lowest level in each of the values that are open.
        size, lowest = 0, [0]
        ahead: list[tuple[Any, int, tuple[int, int] | None]] = [(whole, 0, None)]
        while ahead:
            value, level, began = ahead.pop()
            is_object = isinstance(value, dict)
            if began is not None:  # everything in it has been seen
                reached = lowest.pop()
                lowest[-1] = max(lowest[-1], reached)
                if is_object:
                    self._parts[id(value)] = _Part(level, reached, size - began[0], range(began[1], len(self._refs)))
            elif isinstance(value, str):
                size += json_bytes(value)
            elif is_object or isinstance(value, list):
                ahead.append((value, level, (size, len(self._refs))))
                lowest.append(level)
                size += 2 + len(value)
                if is_object:
                    size += sum(map(json_bytes, value)) + len(value)
                    if isinstance(ref := value.get("$ref"), str):
                        self._refs.append((ref, level))
                ahead += ((inner, level + 1, None) for inner in (value.values() if is_object else value))
            else:
                size += len(json.dumps(value))
        return size

    def written_out(self) -> Iterator[tuple[int, int]]:
        """For each reference, and in turn for those that it leads to: how many bytes it adds, and the lowest level that
        it reaches. There may be endlessly many, so the caller stops when it has seen enough."""
        root = self._parts[id(self._schema)]
        # The parts that are being written out, each within the one before it.
        open_parts: dict[int, tuple[_Part, int, Iterator[int]]] = {id(self._schema): (root, 0, iter(root.refs))}
        while open_parts:
            around, level, ahead = next(reversed(open_parts.values()))
            if (place := next(ahead, None)) is None:
                open_parts.popitem()
                continue
            ref, at = self._refs[place]
            level += 1 + at - around.level
            added, reached = 0, 0
            for key, part in self._targets_of(ref):
                if key not in open_parts:
                    added, reached = added + part.bytes, max(reached, level + part.lowest - part.level)
                    open_parts[key] = (part, level, iter(part.refs))
            yield added, reached

    def _targets_of(self, ref: str) -> list[tuple[int, _Part]]:
        """The parts that a reference may mean, with their ids.

        LiteLLM goes by the last word of a reference alone, others by all of it. Where these are two parts, each is
        counted as written out within the other, which is at least as much as either reader makes of it.
        """
        if ref not in self._targets:
            meant = map(id, (self._definitions.get(ref.rpartition("/")[2]), self._value_at(ref)))
            self._targets[ref] = [(key, self._parts[key]) for key in dict.fromkeys(meant) if key in self._parts]
        return self._targets[ref]

    def _value_at(self, ref: str) -> Any:
        """What a JSON pointer into this schema refers to; None where it refers to nothing."""
        value: Any = self._schema if ref.startswith("#") else None
        for key in ref.split("/")[1:]:
            if key in _HOMES:
                value = self._definitions
                continue
            name = unquote(key).replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict):
                value = value.get(name)
            elif isinstance(value, list) and name.isdecimal() and name.isascii() and len(name) < 9:
                value = value[int(name)] if int(name) < len(value) else None
            else:
                return None
        return value
