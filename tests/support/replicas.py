"""Replicas of the server on this machine, behind a proxy that gives each new connection to the next one.

    async with Replicas(folder, config, 4) as replicas:
        url = replicas.url                       # of the proxy
        replicas[0].signal(signal.SIGKILL)
        await replicas[0].start()

A replica keeps its port and its data folder for life, as one on a machine of its own does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import psutil
import yaml

from konstruct_mcp import Konstruct

START_S = 60  # importing LiteLLM takes three seconds of a core, and several start at once
_CHUNK = 65536
_POLL_S = 0.02


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


async def create_keys(config: Path, *tenants: str) -> list[str]:
    """A key of each of these tenants."""
    async with Konstruct.from_config(config) as konstruct:
        return [(await konstruct.create_key(tenant)).key for tenant in tenants]


class Replica:
    """One `konstruct-mcp serve --http`, which can be ended and started again."""

    def __init__(self, folder: Path, config: Path, environ: Mapping[str, str], port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        self._folder = folder
        homes = {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "XDG_CONFIG_HOME": str(folder)}
        self._environ = {**os.environ, **homes, "KONSTRUCT_CONFIG": str(config), **environ}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/mcp"

    @property
    def figures(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def log(self) -> str:
        """What it has written to stderr, in all its lives."""
        return (self._folder / "log").read_text(errors="replace")

    async def start(self) -> None:
        """Start it, and wait until it is ready for requests."""
        command = [sys.executable, "-m", "konstruct_mcp", "serve", "--http", f"127.0.0.1:{self.port}"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # it is killed where there is no event loop any more
                command, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        async with httpx2.AsyncClient() as http, asyncio.timeout(START_S):
            while not await self._is_ready(http):
                assert self._process.poll() is None, self.log
                await asyncio.sleep(_POLL_S)

    async def _is_ready(self, http: httpx2.AsyncClient) -> bool:
        try:
            return (await http.get(f"{self.root}/readyz")).status_code == 200
        except httpx2.TransportError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, START_S)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Replicas(Sequence[Replica]):
    """So many replicas of one config, and the proxy before them."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        count: int = 1,
        environ: Mapping[str, str] | None = None,
        ports: Sequence[int] = (),
    ) -> None:
        """
        Args:
            ports: of the replicas, where the config has to name them; else free ones.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.config = path = folder / "konstruct.yaml"
        path.write_text(yaml.safe_dump(dict(config)))
        ports = ports or [free_port() for _ in range(count)]
        self._replicas = [Replica(folder / f"replica-{n}", path, environ or {}, port) for n, port in enumerate(ports)]
        self._proxy = RoundRobin([replica.port for replica in self._replicas])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._proxy.port}/mcp"

    def __getitem__(self, index: Any) -> Any:
        return self._replicas[index]

    def __len__(self) -> int:
        return len(self._replicas)

    async def __aenter__(self) -> Self:
        try:
            first, *others = self._replicas
            await first.start()  # makes the ledger's tables
            await asyncio.gather(*(replica.start() for replica in others))
            await self._proxy.start()
        except BaseException:
            self._kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._proxy.stop()
        self._kill()

    def _kill(self) -> None:
        for replica in self._replicas:
            replica.kill()


class RoundRobin:
    """A proxy on loopback: each connection goes to the next port that takes it."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.port = 0
        self._ports, self._next = ports, itertools.count()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in [*self._connections]:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        try:
            there = await self._connect()
            if there is not None:
                writers.append(there[1])
                await _both(_copy(reader, there[1]), _copy(there[0], writer))
        except asyncio.CancelledError:  # by `stop`, which waits until all is closed
            pass
        finally:
            for each in writers:
                each.close()
            await asyncio.gather(*(each.wait_closed() for each in writers), return_exceptions=True)
            self._connections.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._ports:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", self._ports[next(self._next) % len(self._ports)])
        return None


async def _both(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one of the two ends has closed."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
