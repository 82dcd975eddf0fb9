"""How large a JSON schema is where each `$ref` in it is written out: counted, and not written out.

A schema of two kilobytes can refer to its own parts so that it says gigabytes, and engines and providers do write it
out, on the way or for their models. So what may come in is decided by what it says, and so is what it can cost.

Plain code over data that anybody may have sent. Nothing here recurs, so that no depth of it is too much.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from json.encoder import encode_basestring
from typing import Any, NamedTuple
from urllib.parse import unquote

# Far more than any provider takes (OpenAI ten levels and 5,000 properties in all), and little enough for whoever goes
# through it by recursion: LiteLLM gives up at 100 levels, pydantic at 255.
MOST_LEVELS = 100
MOST_GROWTH = 1_000_000  # bytes that the references of one request may add
MOST_REFS = 10_000  # of them, where all are written out; LiteLLM takes 20 µs for each
_MOST_COPIES = 5_000_000  # LiteLLM copies the list of the definitions at each object

_AROUND = 4  # levels around a schema: the arguments, their tools, a tool, its function


def json_bytes(text: str) -> int:
    """The length of a text as JSON in UTF-8."""
    written = encode_basestring(text)
    return len(written) if written.isascii() else len(written.encode(errors="surrogatepass"))


def too_deep(arguments: Mapping[str, Any]) -> str | None:
    """What of a call is nested more than `MOST_LEVELS` deep, as one would write it in code; None where nothing is."""
    way = [iter(_inside(arguments))]
    keys: list[Any] = []  # on the way
    while way:
        for key, inner in way[-1]:
            if not isinstance(inner, str) and isinstance(inner, _NESTS):
                keys.append(key)
                way.append(iter(_inside(inner)))
                break
        else:
            way.pop()
            del keys[-1:]
        if len(keys) > MOST_LEVELS + _AROUND:
            named = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys[:_AROUND])
            return named.removeprefix(".")
    return None


_NESTS = (dict, list, tuple, Mapping)


def _inside(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, Mapping) else enumerate(value)


def growth(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """By the place of each of a request's schemas: how many bytes are added to its JSON where each reference is written
    out; 0 where they become fewer. Definitions are only there to be referred to, and recursion is written out once, as
    LiteLLM does.

    Raises:
        ValueError: they are more than anybody should be sent; it says where.
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
    """Take the definitions out of a schema, and those within them, and return them by their names; of two with the same
    name the one that is further out."""
    found: dict[str, Any] = {}
    ahead: deque[tuple[Any, bool]] = deque([(schema, False)])  # and whether its keys are names
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
    """An object in a schema: the level at which it stands and that of the lowest in it, how long its JSON is, and which
    of the schema's references are within it."""

    level: int
    lowest: int
    bytes: int
    refs: range


class _Outline:
    """A schema, and where its parts and its references are.

    Attributes:
        copies: definitions at objects.
        bytes_apart: those of the definitions.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        """The schema is taken apart."""
        self._schema, self._definitions = schema, set_apart(schema)
        self._refs: list[tuple[str, int]] = []  # and the level of each
        self._parts: dict[int, _Part] = {}  # by the object's id
        self._targets: dict[str, list[tuple[int, _Part]]] = {}
        self._gather(schema)
        self.bytes_apart = sum(map(self._gather, self._definitions.values()))
        self.copies = len(self._parts) * len(self._definitions)

    def _gather(self, whole: Any) -> int:
        """Note each object and each reference; how many bytes it has."""
        size, lowest = 0, [0]  # so far; in each value on the way to the present one
        ahead: list[tuple[Any, int, tuple[int, int] | None]] = [(whole, 0, None)]
        while ahead:
            value, level, began = ahead.pop()
            is_object = isinstance(value, dict)
            if began is not None:  # all of it has been seen
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
        """Each reference, one after another, with those that come of it, as many as whoever asks wants to see: how many
        bytes it adds, and the lowest level that it reaches."""
        root = self._parts[id(self._schema)]
        # The parts that are being written out.
        way: dict[int, tuple[_Part, int, Iterator[int]]] = {id(self._schema): (root, 0, iter(root.refs))}
        while way:
            around, level, ahead = next(reversed(way.values()))
            if (place := next(ahead, None)) is None:
                way.popitem()
                continue
            ref, at = self._refs[place]
            level += 1 + at - around.level
            added, reached = 0, 0
            for key, part in self._behind(ref):
                if key not in way:
                    added, reached = added + part.bytes, max(reached, level + part.lowest - part.level)
                    way[key] = (part, level, iter(part.refs))
            yield added, reached

    def _behind(self, ref: str) -> list[tuple[int, _Part]]:
        """The parts that a reference may mean, with their ids: LiteLLM goes by its last word alone, others by all of
        it. Two are written out one in the other, which is no less."""
        if ref not in self._targets:
            meant = map(id, (self._definitions.get(ref.rpartition("/")[2]), self._at(ref)))
            self._targets[ref] = [(key, self._parts[key]) for key in dict.fromkeys(meant) if key in self._parts]
        return self._targets[ref]

    def _at(self, ref: str) -> Any:
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
