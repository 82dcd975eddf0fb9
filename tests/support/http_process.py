"""`konstruct-mcp serve --http` as a process of its own, asked over real connections.

    with HttpProcess(config) as server:
        answer = server.ask("tools/call", {...}, era="2025")

`era` is `2026` (a request stands alone) or `2025` (the revisions that begin with `initialize`).
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
from support.default_groups import HELLO
from support.fork_server import ForkServer
from support.processes import wait_for

from konstruct_mcp import Konstruct

LIMIT_S = 60.0
_IDS = itertools.count(1)
_ACCEPT = {"accept": "application/json, text/event-stream"}
_VERSIONS = {"2026": "2026-07-28", "2025": "2025-06-18"}


def message(method: str, params: Mapping[str, Any] | None = None, era: str = "2026", **more: Any) -> dict[str, Any]:
    """A request; a notification where `id=None`."""
    about = {
        "io.modelcontextprotocol/protocolVersion": _VERSIONS["2026"],
        "io.modelcontextprotocol/clientInfo": {"name": "a test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = dict(params or {})
    if era == "2026":
        params["_meta"] = {**about, **params.get("_meta", {})}
    made = {"jsonrpc": "2.0", "id": next(_IDS), "method": method, "params": params, **more}
    return {key: value for key, value in made.items() if value is not None}


def headers_for(sent: Mapping[str, Any], era: str, **more: str) -> dict[str, str]:
    headers = {**_ACCEPT, "content-type": "application/json", "mcp-protocol-version": _VERSIONS[era]}
    if era == "2026":
        headers["mcp-method"] = sent["method"]
        for key in ("name", "uri"):
            if key in sent["params"]:
                headers["mcp-name"] = sent["params"][key]
    return {**headers, **more}


def results(response: httpx2.Response) -> list[dict[str, Any]]:
    """The messages in a response, whether it is JSON or a stream of events."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        return [
            json.loads(line[5:]) for line in response.text.splitlines() if line.startswith("data:") and line[5:].strip()
        ]
    return [response.json()]


class HttpProcess:
    """A server, and what it has said on stderr."""

    def __init__(
        self,
        config: Path,
        *,
        env: Mapping[str, str] = {},
        token: str | None = None,
        listen: str = "127.0.0.1:0",
        fork_server: ForkServer | None = None,
    ) -> None:
        self.said: list[str] = []
        self.token = token
        environ = {**os.environ, **env}
        arguments = ["--config", str(config), "serve", f"--http={listen}"]
        self.process = (
            fork_server.start(environ, arguments)
            if fork_server
            else subprocess.Popen(
                [sys.executable, "-m", "konstruct_mcp", *arguments],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.url = ""

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.decode().rstrip("\n"))

    def __enter__(self) -> Self:
        wait_for(lambda: self._address() is not None or not self._reading.is_alive())
        address = self._address()
        assert address is not None, self.errors
        self.url = address
        self.http = httpx2.Client(timeout=LIMIT_S, headers=self.authorization, verify=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.http.close()
        if self._reading.is_alive():  # politely: a process that is killed writes no coverage
            self.terminate()
            self.terminate()
        self.ended()

    def _address(self) -> str | None:
        found = re.search(r"serving MCP over HTTP at ([^\s\"]+)", self.errors)
        return found and found[1]

    @property
    def errors(self) -> str:
        return "\n".join(self.said)

    @property
    def root(self) -> str:
        return self.url.rpartition("/mcp")[0]

    @property
    def authorization(self) -> dict[str, str]:
        return {} if self.token is None else {"authorization": f"Bearer {self.token}"}

    def post(self, sent: Mapping[str, Any], era: str = "2026", **headers: str) -> httpx2.Response:
        return self.http.post(self.url, json=sent, headers=headers_for(sent, era, **headers))

    def ask(self, method: str, params: Mapping[str, Any] | None = None, era: str = "2026", **headers: str) -> Any:
        """The result of a request."""
        sent = message(method, params, era)
        response = self.post(sent, era, **headers)
        assert response.status_code == 200, response.text
        answers = results(response)
        (answer,) = [one for one in answers if one.get("id") == sent["id"]]
        assert "result" in answer, answer
        return answer["result"]

    def connection(self) -> socket.socket:
        """A connection of its own, on which anything can be sent."""
        where = urlsplit(self.url)
        assert where.hostname is not None
        return socket.create_connection((where.hostname, where.port), timeout=LIMIT_S)

    def written(self, sent: Mapping[str, Any], era: str, **headers: str) -> tuple[bytes, bytes]:
        """A request as it stands on a connection: its head without the empty line behind it, and its body."""
        request = httpx2.Request("POST", self.url, json=sent, headers=headers_for(sent, era, **headers))
        lines = b"".join(b"%s: %s\r\n" % line for line in request.headers.raw)
        return b"POST /mcp HTTP/1.1\r\n" + lines, request.content

    def complete(self, group: str | None = None, era: str = "2026", **arguments: Any) -> Any:
        return self.ask("tools/call", call(group, **arguments), era)

    @contextmanager
    def under_way(
        self, group: str, era: str, *, session: str | None = None, id: Any = None
    ) -> Iterator[httpx2.Response]:
        """A call whose answer has not come yet; its connection is closed at the end."""
        sent = message("tools/call", call(group), era)
        if id is not None:
            sent["id"] = id
        named = {} if session is None else {"mcp-session-id": session}
        sent["params"].setdefault("_meta", {})["progressToken"] = 1  # the answer begins with the first progress
        with self.http.stream("POST", self.url, json=sent, headers=headers_for(sent, era, **named)) as response:
            yield response

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Its exit status, when it has ended."""
        try:
            status = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reading.join(LIMIT_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return status


Start = Callable[..., HttpProcess]


def call(group: str | None = None, **arguments: Any) -> dict[str, Any]:
    """The parameters of a call of `complete`."""
    given = {} if group is None else {"model_group": group}
    return {"name": "complete", "arguments": {"messages": HELLO, **given, **arguments}}


async def key_of(config: Path, tenant: str, **options: Any) -> str:
    """A new key of a tenant; `options` are those of `Konstruct.create_key`."""
    async with Konstruct.from_config(config) as konstruct:
        return (await konstruct.create_key(tenant, **options)).key
