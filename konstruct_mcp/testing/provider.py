"""`Provider`, a fake one on loopback.

How it works: all providers of a process run on the event loop of one background thread, so that the same plain,
synchronous calls serve synchronous tests, asynchronous ones and tests of a subprocess. State is read from any thread;
whatever changes it notifies `wait_for`. HTTP is h11 over a bare asyncio connection (`connection`), which leaves room to
drop, reset, truncate and dribble.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import h11

from konstruct_mcp.testing.answers import Answer, AnswerFor, Endless, Gate, Raw, Received, Text
from konstruct_mcp.testing.connection import CHUNK, Connection
from konstruct_mcp.testing.formats import FORMATS
from konstruct_mcp.testing.shapes import OtherWire, Wire


class Provider:
    """One fake provider on 127.0.0.1, a context manager. Its attributes may be read from any thread. Until `script`
    says otherwise, it answers `Hello from …`.

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
        if wire not in FORMATS:
            raise ValueError(f"no format {wire!r}; there are {', '.join(FORMATS)}")
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

    def litellm_params(self, model: str) -> dict[str, Any]:
        """What of a config's `litellm_params` has this fake asked for `provider/model`, as one would ask the genuine
        provider; the keys are made up. Vertex needs the package cryptography."""
        match self.wire:
            case "bedrock":
                keys = {"aws_access_key_id": "AKIATEST7F3A9C", "aws_secret_access_key": "aws-test-7f3a9c"}
                at: dict[str, Any] = {"aws_bedrock_runtime_endpoint": self.url, "aws_region_name": "us-east-1", **keys}
            case "vertex":
                from konstruct_mcp.testing.credentials import service_account  # nobody else needs its package

                name = model.partition("/")[2]
                publisher = "anthropic" if name.startswith("claude") else "google"
                at = {
                    "api_base": f"{self.url}/{publisher}/models/{name}",
                    "vertex_project": "fake",
                    "vertex_location": "us-central1",
                    "vertex_credentials": service_account(f"{self.root}/token"),
                }
            case "azure":
                at = {"api_base": self.url, "api_key": "sk-azure-test-7f3a9c", "api_version": "2025-04-01-preview"}
            case wire:
                at = {"api_base": self.url, "api_key": f"sk-{wire}-test-7f3a9c"}
        return {"model": model, **at}

    def script(self, *answers: Answer | AnswerFor) -> None:
        """The answers to the next requests, one each; the last one repeats for ever. Closes the gate again.

        Raises:
            TypeError: there is none, or one of them is no answer: a text goes into `Text`.
        """
        wrong = [answer for answer in answers if not (callable(answer) or hasattr(answer, "give"))]
        if wrong or not answers:
            found = type(wrong[0]).__name__ if wrong else "nothing"
            raise TypeError(f"a script is made of answers such as Text('Hello'), not of {found}")
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
        assert task is not None  # noqa: S101  asyncio serves each connection in a task
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


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The background loop, made at first use; a daemon, because it has nothing to save when the process ends."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="fake providers", daemon=True).start()
    return loop


def _on_loop(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, _loop()).result(timeout=10)  # s; loopback work takes milliseconds
