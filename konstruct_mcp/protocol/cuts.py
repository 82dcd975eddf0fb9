"""How much of a long answer goes into one result, and the argument `read`, by which a model goes on in the rest."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.core.errors import InvalidArgumentError
from konstruct_mcp.core.text import cut
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.protocol.clients import Client
from konstruct_mcp.protocol.texts import as_json, beside_if_large

_SENTENCE_END = re.compile(r"""[.!?…]["'”’»)\]]*(?=\s|\Z)|[。！？]["'”’»」）)\]]*|\n""")
_LEAST = 100  # characters of an answer that are shown beside whatever else there is in a result
_LINK = 250  # what the link to a kept answer takes
_WRAPPING = 100  # what holds the two copies of a result together
_ANY_URI = "konstruct://completions/" + "x" * 36
_EMPTY: tuple[Any, ...] = (None, "", [], {})  # what some clients send instead of leaving an argument out


@dataclass(frozen=True, slots=True)
class Room:
    """What one result may hold.

    Attributes:
        client: whom it is for.
        most: so many characters of the text and the tool calls together, which the config says; None for as much as
            the client shows of a whole result.
    """

    client: Client
    most: int | None

    def beside(self, answer: Mapping[str, Any]) -> int:
        """What is left for text and tool calls, beside the rest of an answer."""
        if self.most is not None:
            return self.most
        rest = {**answer, "content": "", "tool_calls": []}
        return max(_LEAST, self.client.shows - _LINK - _WRAPPING - self.client.size(as_json(rest)))

    def text(self, text: str) -> int:
        """What a text takes."""
        return len(text) if self.most is not None else self.client.size(as_json(text)[1:-1])

    def call(self, call: Mapping[str, Any]) -> int:
        """What a tool call takes."""
        written = as_json(call)
        return len(written) if self.most is not None else self.client.size(f"{written},")

    def fitting(self, text: str, most: int) -> int:
        """How many of the first characters of a text take at most so much."""
        if self.most is not None or (len(text) <= most and self.text(text) <= most):
            return min(len(text), most)
        fits, too_many = 0, min(len(text), most) + 1  # each takes one at least
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            fits, too_many = (middle, too_many) if self.text(text[:middle]) <= most else (fits, middle)
        return fits


async def cut_to(room: Room, answer: dict[str, Any]) -> tuple[str, str] | None:
    """Shorten an answer to what a result may hold, and note in it what was cut, where the rest is still to be said
    (`uri`). Returns the whole of it as a text, and the MIME type of that; None where nothing had to be cut."""
    return await beside_if_large(lambda value: _cut_to(room, value), answer)


def _cut_to(room: Room, answer: dict[str, Any]) -> tuple[str, str] | None:
    content, calls = answer["content"], answer["tool_calls"]
    sizes = [room.call(call) for call in calls]
    most = room.beside(answer)
    if len(content) <= most and room.text(content) + sum(sizes) <= most:
        return None
    note = {"shown_chars": 0, "chars": len(content), "uri": None, "next_offset": 0}
    counts = {"shown_tool_calls": 0, "tool_calls": len(calls)}
    most = room.beside({**answer, "truncated": {**note, **counts, **_largest(len(content))}})
    # Half of it is the text's, where the calls want more than the other half.
    shown = sum(size <= most - min(room.text(content[:most]), most // 2) for size in itertools.accumulate(sizes))
    answer["tool_calls"] = calls[:shown]
    answer["content"] = beginning(content, room.fitting(content, most - sum(sizes[:shown]))).rstrip()
    answer["truncated"] = note
    note["shown_chars"] = len(answer["content"])
    if shown == len(calls):
        note["next_offset"] = len(answer["content"])
        return content, "text/plain"
    note |= counts | {"shown_tool_calls": shown}
    return as_json({"content": content, "tool_calls": calls}), "application/json"


def page(whole: str, room: Room, uri: str, offset: int) -> dict[str, Any]:
    """So much of a kept answer from this character on as one result may hold.

    Raises:
        InvalidArgumentError: the answer is not that long.
    """
    if offset > len(whole):
        raise InvalidArgumentError(f"offset: the answer has {len(whole):,} characters")
    rest = whole[offset : offset + (room.client.shows if room.most is None else room.most) + 1]
    fits = room.fitting(rest, room.beside({"truncated": _largest(len(whole))}))
    if fits == len(rest):
        return {"content": rest}
    shown = beginning(rest, max(1, fits))
    end = offset + len(shown)
    return {
        "content": shown,
        "truncated": {"shown_chars": len(shown), "chars": len(whole), "uri": uri, "next_offset": end},
    }


def beginning(text: str, most: int) -> str:
    """The beginning of a text, up to the end of a sentence, or of a word where the last sentence is a very long one."""
    head = text[: most + 1]  # with what follows the last character that fits: it may be the end of a word
    ends = [match.end() for match in _SENTENCE_END.finditer(head, most // 2) if match.end() <= most]
    end = ends[-1] if ends else head.rfind(" ", most // 2)
    return head[: end if end > 0 else most]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a call asks to go on reading."""

    uri: str
    offset: int

    @classmethod
    def asked_for(cls, arguments: Mapping[str, Any], caller: Caller) -> Reading | None:
        """What the arguments of `complete` ask to read; None where they ask for a completion.

        Raises:
            InvalidArgumentError: they are wrong, or ask for both.
            UnknownTenantError: they name another tenant than the verified caller.
        """
        uri, offset = arguments.get("read"), arguments.get("offset")
        if uri in _EMPTY:
            if offset in (*_EMPTY, 0):
                return None
            raise InvalidArgumentError("offset: goes with read, the uri of an answer that was cut")
        for name, value in arguments.items():
            if name not in ("read", "offset", "tenant_id") and value not in _EMPTY:
                raise InvalidArgumentError(f"{cut(str(name))}: does not go with read; send read and offset alone")
        if not isinstance(uri, str):
            raise InvalidArgumentError("read: should be a text, the uri of an answer that was cut")
        if isinstance(offset, float) and offset.is_integer():
            offset = int(offset)
        if offset in _EMPTY:
            offset = 0
        if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            raise InvalidArgumentError("offset: should be a whole number of characters, 0 or more")
        if (tenant := arguments.get("tenant_id")) not in _EMPTY:
            caller.naming(str(tenant))
        return cls(uri, offset)


def without_reading(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a completion, where a client has sent those of reading empty."""
    if "read" in arguments or "offset" in arguments:
        return {name: value for name, value in arguments.items() if name not in ("read", "offset")}
    return arguments


def _largest(chars: int) -> dict[str, Any]:
    """A note on a cut answer of so many characters, as long as one can be."""
    return {"shown_chars": chars, "chars": chars, "uri": _ANY_URI, "next_offset": chars}
