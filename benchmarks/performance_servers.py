"""The MCP servers that `performance.py` measures: how each is started, and spoken to in lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from harness import WAIT_S, LineProcess

PROMPT = "Why is the sky blue?"
END_S = 5  # for a server to end by itself once its input has ended


@dataclass(frozen=True)
class ServerCommand:
    """A server that can be started.

    Attributes:
        tool: the one of its tools that is called.
        arguments: of that tool; a string in it that has `{prompt}` has the prompt there.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    tool: str
    arguments: Mapping[str, Any]

    @contextlib.asynccontextmanager
    async def running(self, **environ: str) -> AsyncIterator[Server]:
        """Start it, ready for requests."""
        async with self.started(**environ) as server:
            await server.initialize()
            yield server

    @contextlib.asynccontextmanager
    async def started(self, **environ: str) -> AsyncIterator[Server]:
        """Start it, and send it nothing yet."""
        began = time.perf_counter()
        process = await LineProcess.start(self.command, stderr=subprocess.DEVNULL, env={**self.environ, **environ})
        server = Server(self, process, began)
        try:
            yield server
        finally:
            await server.close()

    def call(self, prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
        """The parameters of a call of its tool, with `more` arguments."""

        def filled(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: filled(item) for key, item in value.items()}
            if isinstance(value, list):
                return [filled(item) for item in value]
            return value.replace("{prompt}", prompt) if isinstance(value, str) else value

        return {"name": self.tool, "arguments": {**filled(dict(self.arguments)), **more}}


@dataclass(frozen=True)
class Response:
    """A line that answers a request, when it came, and its length in bytes."""

    message: dict[str, Any]
    came: float
    size: int


class ServerFailedError(Exception):
    """A server does not do what is asked of it; the text says what it did."""


class Server:
    """A running server."""

    def __init__(self, started_by: ServerCommand, process: LineProcess, began: float) -> None:
        self.name = started_by.name
        self.began = began
        self._started_by = started_by
        self._process = process
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._last_id = 0
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for line in self._process.lines():
            came = time.perf_counter()  # before it is parsed, which takes milliseconds of a long one
            message = json.loads(line)
            waiting = self._waiting.pop(message.get("id"), None) if "method" not in message else None
            if waiting is not None and not waiting.done():
                waiting.set_result(Response(message, came, len(line)))
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ServerFailedError(f"{self.name} has ended"))

    async def request(self, method: str, params: Mapping[str, Any] | None = None) -> Response:
        """Send a request, which has to be answered with a result."""
        self._last_id += 1
        waiting = self._waiting[self._last_id] = asyncio.get_running_loop().create_future()
        message = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params or {}}
        self._process.send(json.dumps(message).encode())
        response: Response = await asyncio.wait_for(waiting, WAIT_S)
        if "result" not in response.message:
            raise ServerFailedError(f"{self.name}, {method}: {response.message}")
        return response

    async def initialize(self) -> Response:
        client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}
        response = await self.request("initialize", client)
        self._process.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return response

    async def call(self, prompt: str = PROMPT, *, fails: bool = False, **more: Any) -> Response:
        """Call its tool, with `more` arguments; the call has to fail if it `fails`."""
        response = await self.request("tools/call", self._started_by.call(prompt, **more))
        if bool(response.message["result"].get("isError")) is not fails:
            raise ServerFailedError(f"{self.name}, {self._started_by.tool}: {str(response.message)[:300]}")
        return response

    async def call_ms(self, prompt: str = PROMPT, **more: Any) -> float:
        """What a call takes, until its answer has been read."""
        began = time.perf_counter()
        return ((await self.call(prompt, **more)).came - began) * 1000

    @property
    def figures(self) -> psutil.Process:
        return self._process.figures

    @property
    def cpu_s(self) -> float:
        return self._process.cpu_s

    @property
    def rss_mb(self) -> float:
        return self._process.rss / 1e6

    async def close(self) -> None:
        await self._process.close(END_S)
        await self._reading
