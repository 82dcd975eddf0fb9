"""What a fake provider is asked with, and the answers that a script is made of.

Error bodies follow the providers in shape, type, code and wording, because clients classify by all four.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from konstruct_mcp.testing.connection import Connection, HttpRequest
from konstruct_mcp.testing.formats import FORMATS
from konstruct_mcp.testing.shapes import Asked, Finish, Format, OtherWire, Refused, Render, Wire


@dataclass(frozen=True)
class Received:
    """One request as it came in; header names in lower case, `body` parsed where it is JSON and raw bytes where not.
    `at` is a reading of `time.monotonic`."""

    wire: Wire | OtherWire
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, wire: Wire | OtherWire, request: HttpRequest) -> Self:
        return cls(wire, request.method, request.path, request.headers, request.body)

    @property
    def completes(self) -> bool:
        """Whether this asks for a completion."""
        return self._route is not None

    @property
    def asked(self) -> Asked:
        """What is asked for, of a request for a completion."""
        return self._completion[0]

    @property
    def render(self) -> Render:
        """How a completion is written for it."""
        return self._completion[1]

    @property
    def format(self) -> Format:
        return FORMATS[self.wire]

    @property
    def _completion(self) -> tuple[Asked, Render]:
        if self._route is None:
            raise ValueError(f"{self.method} {self.path} asks for no completion")
        return self._route

    @functools.cached_property
    def _route(self) -> tuple[Asked, Render] | None:
        return self.format.asked(self.path, self.body) if self.method == "POST" else None


class Answer(Protocol):
    """What a script is made of: something that answers one request on its connection, well or badly.

    The connection is kept alive after a complete answer and closed after anything else.
    """

    async def give(self, received: Received, connection: Connection) -> None: ...


AnswerFor = Callable[[Received], Answer]
"""May stand in for an answer: called with the request, on the background thread; must not call `start` or `stop`."""


@dataclass(frozen=True)
class Text:
    """A completion. The model's name is echoed; `usage` is (prompt tokens, completion tokens).

    tool_calls  (id, name, arguments as a JSON string) each; on Anthropic's wire the arguments travel as an object
    finish      "tool_calls" when there are any and nothing else is said, else "stop"
    ends        the provider's own word for it, in place of its usual one
    delay       seconds before the first byte of the answer
    """

    text: str | None
    finish: Finish | None = None
    usage: tuple[int, int] = (11, 7)
    tool_calls: Sequence[tuple[str, str, str]] = ()
    reasoning: str | None = None
    delay: float = 0
    ends: str | None = None

    async def give(self, received: Received, connection: Connection) -> None:
        await asyncio.sleep(self.delay)
        await connection.send(200, self.render(received))

    def render(self, received: Received) -> bytes:
        return json.dumps(received.render(self, received.asked)).encode()


@dataclass(frozen=True)
class Gate(Text):
    """A completion that is held back until `Provider.release()`."""


@dataclass(frozen=True)
class Status:
    """A refusal in the provider's own shape. Where nothing is said, type, code and message are its usual ones."""

    status: int
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    type: str | None = None
    code: str | None = None

    async def give(self, received: Received, connection: Connection) -> None:
        refused = Refused(self.status, self.message, self.type, self.code)
        body, headers = received.format.refusal(received.asked, refused)
        await connection.send(self.status, json.dumps(body).encode(), headers={**headers, **self.headers})


@dataclass(frozen=True)
class Changed:
    """A completion whose body the test changes: `Changed(Text("Hi"), lambda body: body.pop("usage"))`."""

    answer: Text
    change: Callable[[Any], Any]

    async def give(self, received: Received, connection: Connection) -> None:
        body = json.loads(self.answer.render(received))
        self.change(body)
        await connection.send(200, json.dumps(body).encode())


@dataclass(frozen=True)
class ContextOverflow:
    """The prompt does not fit the model's context window."""

    async def give(self, received: Received, connection: Connection) -> None:
        await _status(received.format.overflow).give(received, connection)


@dataclass(frozen=True)
class ContentPolicy:
    """The request is refused for what it says. Ollama itself never does; there, it is OpenAI's refusal."""

    async def give(self, received: Received, connection: Connection) -> None:
        await _status(received.format.policy).give(received, connection)


@dataclass(frozen=True)
class Raw:
    """Any bytes as the body of a well-formed HTTP answer: an HTML page with 200, an empty body, half a JSON text."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    async def give(self, received: Received, connection: Connection) -> None:
        await connection.send(self.status, self.body, self.content_type, self.headers)


@dataclass(frozen=True)
class Endless:
    """A body that begins so and goes on with the same piece until the client has had enough."""

    begin: bytes
    piece: bytes
    status: int = 200

    async def give(self, received: Received, connection: Connection) -> None:
        await connection.open(self.status, 2**60)
        await connection.write(self.begin)
        while True:
            await connection.write(self.piece)


@dataclass(frozen=True)
class Truncated:
    """Half of the bytes that Content-Length announces, then the end of the connection."""

    async def give(self, received: Received, connection: Connection) -> None:
        await _first_half(received, connection)


@dataclass(frozen=True)
class HangBody:
    """Half of a completion, then nothing until the client goes or the provider stops."""

    async def give(self, received: Received, connection: Connection) -> None:
        await _first_half(received, connection)
        await asyncio.Event().wait()


@dataclass(frozen=True)
class Hang:
    """Not a byte until the client goes or the provider stops."""

    async def give(self, received: Received, connection: Connection) -> None:
        await asyncio.Event().wait()


@dataclass(frozen=True)
class Dribble:
    """A completion byte by byte, `interval` seconds apart: about 20 s on end as it stands, and each read succeeds."""

    text: str = "Hello, slowly"
    interval: float = 0.05

    async def give(self, received: Received, connection: Connection) -> None:
        body = Text(self.text).render(received)
        await connection.open(200, len(body))
        for byte in body:
            await connection.write(bytes([byte]))
            await asyncio.sleep(self.interval)
        await connection.finish()


@dataclass(frozen=True)
class Drop:
    """The connection is closed as soon as the request is read."""

    async def give(self, received: Received, connection: Connection) -> None:
        pass  # an incomplete answer closes the connection


@dataclass(frozen=True)
class Reset:
    """The connection is reset (RST) as soon as the request is read."""

    async def give(self, received: Received, connection: Connection) -> None:
        connection.reset()


async def _first_half(received: Received, connection: Connection) -> None:
    body = Text("Hello, in part").render(received)
    await connection.open(200, len(body))
    await connection.write(body[: len(body) // 2])


def _status(refused: Refused) -> Status:
    return Status(refused.status, refused.message, type=refused.type, code=refused.code)
