"""The only fake of the test suite: providers on loopback, scripted per test.

The rule: tests fake the network at this edge and nowhere else. A `Provider` speaks one wire format (see
`provider_formats`), gives the answers that the test scripted, one per request, and records what it was sent. Nothing in
here knows the package under test.

    with Provider("openai") as openai:
        openai.script(Status(503), Text("at the second try"))
        ...
        assert openai.calls == 2

How it works: all providers of a process run on the event loop of one background thread, so that the same plain,
synchronous calls serve synchronous tests, asynchronous ones and tests of a subprocess. State is read from any thread;
whatever changes it notifies `wait_for`. HTTP is h11 over a bare asyncio connection (`provider_connection`), which
leaves room to drop, reset, truncate and dribble.

Error bodies follow the providers in shape, type, code and wording, because clients classify by all four.
"""

# Above 400 lines: who scripts a provider finds it and every answer that it can give in one place.
from __future__ import annotations

import asyncio
import copy
import functools
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import h11
from support.provider_connection import CHUNK, Connection, HttpRequest
from support.provider_formats import FORMATS
from support.provider_shapes import Asked, Finish, Format, OtherWire, Refused, Render, Wire

__all__ = ["Finish", "OtherWire", "Wire"]

NO_HOST = "http://" + ".".join(["longer-than-255-characters"] * 10)  # so that no name server is asked


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
        assert self._route is not None
        return self._route[0]

    @property
    def render(self) -> Render:
        """How a completion is written for it."""
        assert self._route is not None
        return self._route[1]

    @property
    def format(self) -> Format:
        return FORMATS[self.wire]

    @functools.cached_property
    def _route(self) -> tuple[Asked, Render] | None:
        return self.format.asked(self.path, self.body) if self.method == "POST" else None


class Provider:
    """One fake provider on 127.0.0.1, a context manager. Its attributes may be read from any thread.

    `tls` makes it speak HTTPS, which is asked for nothing where its certificate is not trusted.

    requests      every request in order, also those for something else (they are answered as `also` says, or 404)
    also          by path, what is answered to those, as JSON: Ollama's `/api/show`; or a `Raw` or `Endless` answer, or
                  what makes one of these of the request
    calls         how many completion requests came in
    in_flight     how many of them are being answered now; `most_in_flight` is the highest that this ever was
    disconnected  how many clients went away before their answer was complete

    An exception inside a scripted callable is raised again when the `with` block ends.
    """

    def __init__(self, wire: Wire | OtherWire, tls: ssl.SSLContext | None = None) -> None:
        self.wire: Wire | OtherWire = wire
        self.also: dict[str, Any] = copy.deepcopy(dict(FORMATS[wire].also))  # since a test may change it
        self._tls = tls
        self.requests: list[Received] = []
        self.calls = self.in_flight = self.most_in_flight = self.disconnected = 0
        self._port = 0
        self._server: asyncio.Server | None = None
        self._kept: socket.socket | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._changed = threading.Condition()
        self._opened = asyncio.Event()
        self._failures: list[Exception] = []
        self._script: deque[Answer | AnswerFor] = deque([Text(f"Hello from {wire}")])

    def __repr__(self) -> str:
        state = ("calls", "in_flight", "most_in_flight", "disconnected")
        return f"<Provider {self.wire} {' '.join(f'{name}={getattr(self, name)}' for name in state)}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        self._give_up_port()
        if self._failures:
            raise self._failures[0]  # with `error`, most likely its consequence, as its context

    @property
    def url(self) -> str:
        """What goes into `api_base`: with `/v1` for OpenAI, the bare root for Anthropic and Ollama."""
        return self.root + FORMATS[self.wire].base

    @property
    def root(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def script(self, *answers: Answer | AnswerFor) -> None:
        """The answers to the next requests, one each; the last one repeats for ever. Closes the gate again."""
        with self._change():
            self._script = deque(answers)
        _loop().call_soon_threadsafe(self._opened.clear)

    def release(self) -> None:
        """Let go every answer that a `Gate` holds, and those to come."""
        _loop().call_soon_threadsafe(self._opened.set)

    def start(self) -> None:
        """Listen; after a `stop`, on the same port as before."""
        _on_loop(self._start())

    def stop(self) -> None:
        """Drop every connection and refuse new ones."""
        _on_loop(self._stop())

    def wait_for(self, predicate: Callable[[], bool], timeout: float = 30) -> None:
        """Block until `predicate()` holds, looking after each change of state: `p.wait_for(lambda: p.in_flight == 50)`.

        On an event loop that runs the client too, use `until`.
        """
        with self._changed:
            if not self._changed.wait_for(predicate, timeout):
                raise TimeoutError(f"not within {timeout} s: {self!r}")

    async def until(self, predicate: Callable[[], bool]) -> None:
        """`wait_for` for asynchronous tests: their loop goes on meanwhile."""
        await asyncio.to_thread(self.wait_for, predicate)

    # From here on, everything runs on the background loop.

    async def _start(self) -> None:
        self._give_up_port()
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self._port, limit=CHUNK, backlog=1024, ssl=self._tls
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server:
            # What is accepted and has no transport yet would be lost by `close`, and its socket left open.
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            await asyncio.sleep(0)
            self._server.close()
            self._server = None
            # Bound and not listened on, it refuses, and nobody else gets it meanwhile.
            self._kept = socket.socket()
            self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._kept.bind(("127.0.0.1", self._port))
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _give_up_port(self) -> None:
        if self._kept:
            self._kept.close()
            self._kept = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # we have stopped since it was accepted
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        connection = Connection(reader, writer)
        try:
            while request := await connection.receive():
                await self._respond(Received.of(self.wire, request), connection)
                if not connection.reusable():
                    break
        except (ConnectionError, h11.RemoteProtocolError):
            pass  # the client is gone; where that cut an answer short, `_respond` has counted it
        except asyncio.CancelledError:
            pass  # by `_stop`; asyncio's streams would log a handler that ends cancelled as an error
        finally:
            self._connections.discard(task)
            writer.close()

    async def _respond(self, received: Received, connection: Connection) -> None:
        if not received.completes:
            with self._change():
                self.requests.append(received)
            if (known := self.also.get(received.path)) is not None:
                known = known(received) if callable(known) else known
                whole = known if isinstance(known, Raw | Endless) else Raw(json.dumps(known).encode())
                await connection.unless_gone(whole.give(received, connection))
            else:
                await connection.send(404, b'{"error": "the fake has no such endpoint"}')
            return
        with self._change():
            self.requests.append(received)
            self.calls += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            answer = self._script[0] if len(self._script) == 1 else self._script.popleft()
        try:
            cut_short = not await connection.unless_gone(self._give(answer, received, connection))
        finally:
            with self._change():
                self.in_flight -= 1
        if cut_short:
            with self._change():
                self.disconnected += 1
            raise ConnectionResetError

    async def _give(self, answer: Answer | AnswerFor, received: Received, connection: Connection) -> None:
        try:
            while callable(answer):
                answer = answer(received)
            if isinstance(answer, Gate):
                await self._opened.wait()
            await answer.give(received, connection)
        except ConnectionError:
            raise
        except Exception as error:  # a mistake in the test; `__exit__` raises it there
            self._failures.append(error)
            connection.reset()

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()


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


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The background loop, made at first use; a daemon, because it has nothing to save when the process ends."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="fake providers", daemon=True).start()
    return loop


def _on_loop(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, _loop()).result(timeout=10)  # s; loopback work takes milliseconds
