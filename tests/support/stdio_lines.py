"""A server process on a pair of pipes, and a client that is nothing but lines: it can send what no SDK would."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.fork_server import ForkServer

SERVER = [sys.executable, "-m", "konstruct_mcp"]
CHUNK = 2**16  # bytes, what a pipe holds
WAIT_S = 60  # for one line: the first answer of a model waits for the import of litellm
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "lines", "version": "1"},
}


class ServerProcess:
    """A running server, in a process of its own, or forked from the fork server.

    Reads its output as it comes; all waits are bounded.
    """

    def __init__(
        self,
        config: Path,
        *,
        environ: Mapping[str, str] = {},
        command: Sequence[str] = tuple(SERVER),
        fork_server: ForkServer | None = None,
        sockets: bool = False,
        stderr: Path | None = None,
    ) -> None:
        kept = {
            name: os.environ[name] for name in os.environ if name.startswith(("PATH", "HOME", "XDG", "COV", "PYTHON"))
        }
        environ = {**kept, "KONSTRUCT_CONFIG": str(config), **environ}
        pipe = subprocess.PIPE
        with stderr.open("wb") if stderr else contextlib.nullcontext(pipe) as errors:
            self.process = (
                fork_server.start(environ, stderr=errors, sockets=sockets)
                if fork_server
                else subprocess.Popen(list(command), env=environ, stdin=pipe, stdout=pipe, stderr=errors)
            )
        self._unread = bytearray()
        self._next_id = 0
        self._answers: dict[Any, dict[str, Any]] = {}
        self.notices: list[dict[str, Any]] = []
        self.errors = bytearray()
        self._errors_ended = threading.Event()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        # Politely first: a process that is killed writes no coverage.
        try:
            self.close_stdin()
            self.process.wait(WAIT_S)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait(WAIT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._errors_ended.wait(WAIT_S)

    def _read_errors(self) -> None:
        if self.process.stderr is not None:  # else it is a file
            with self.process.stderr as stream:
                while chunk := os.read(stream.fileno(), CHUNK):
                    self.errors += chunk
        self._errors_ended.set()

    def send_raw(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def pour(self, data: bytes, patience_s: float = WAIT_S) -> int:
        """Send as much as is taken, read nothing; how many bytes, once none was taken for so long."""
        assert self.process.stdin is not None
        descriptor, sent = self.process.stdin.fileno(), 0
        os.set_blocking(descriptor, False)
        while sent < len(data) and select.select([], [descriptor], [], patience_s)[1]:
            sent += os.write(descriptor, data[sent : sent + CHUNK])
        os.set_blocking(descriptor, True)
        return sent

    def send(self, method: str, params: Mapping[str, Any] | None = None, *, modern: bool = False) -> int:
        """Send a request; returns its id."""
        self._next_id += 1
        params = dict(params or {})
        if modern:
            params["_meta"] = {**params.get("_meta", {}), **MODERN}
        message = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params}
        self.send_raw(json.dumps(message).encode())
        return self._next_id

    def line(self) -> dict[str, Any]:
        """The next message, whatever it is. Everything on stdout must be one."""
        assert self.process.stdout is not None
        output = self.process.stdout.fileno()
        ended = b"\n" in self._unread
        while not ended:
            assert select.select([output], [], [], WAIT_S)[0], f"no answer; stderr: {self.errors.decode()}"
            chunk = os.read(output, CHUNK)
            assert chunk, f"stdout ended; stderr: {self.errors.decode()}"
            self._unread += chunk
            ended = b"\n" in chunk  # not in all of it, which can be a hundred megabytes
        line, _, rest = self._unread.partition(b"\n")
        self._unread = rest
        message = json.loads(line, parse_constant=_no_json)
        assert message["jsonrpc"] == "2.0"
        return dict(message)

    def has_line(self) -> bool:
        """Whether `line` would return at once; False also at the end of stdout."""
        assert self.process.stdout is not None
        output = self.process.stdout.fileno()
        while b"\n" not in self._unread and select.select([output], [], [], 0)[0]:
            chunk = os.read(output, CHUNK)
            if not chunk:
                break
            self._unread += chunk
        return b"\n" in self._unread

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        self.send_raw(json.dumps({"jsonrpc": "2.0", "method": method, "params": dict(params)}).encode())

    def answer(self, *ids: Any) -> dict[str, Any]:
        """The answer to this request, or to one of these; those to others are kept for their turn, and so are
        notices."""
        while not (answered := [id_ for id_ in ids if id_ in self._answers]):
            self._keep(self.line())
        return self._answers.pop(answered[0])

    def has_answer(self, request_id: Any) -> bool:
        """Whether `answer` would return at once."""
        while request_id not in self._answers and self.has_line():
            self._keep(self.line())
        return request_id in self._answers

    def _keep(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
        else:
            self.notices.append(message)

    def notice(self, method: str) -> dict[str, Any]:
        """The next notice of this method, whatever comes before it."""
        while not any(message["method"] == method for message in self.notices):
            self._keep(self.line())
        found = next(message for message in self.notices if message["method"] == method)
        self.notices.remove(found)
        return found

    def ask(self, method: str, params: Mapping[str, Any] | None = None, *, modern: bool = False) -> dict[str, Any]:
        """Send a request and wait for its result."""
        answer = self.answer(self.send(method, params, modern=modern))
        assert "result" in answer, answer
        return dict(answer["result"])

    def initialize(self) -> dict[str, Any]:
        info = {"name": "lines", "version": "1"}
        result = self.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info})
        self.send_raw(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}')
        return result

    def complete(self, group: str, **arguments: Any) -> dict[str, Any]:
        return self.ask("tools/call", call(group, **arguments))

    def send_call(self, group: str, **arguments: Any) -> Any:
        """Ask for a completion and do not wait; its id, for `answer`."""
        return self.send("tools/call", call(group, **arguments))

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close_stdout(self) -> None:
        """Stop listening: the next write of the server meets a closed pipe."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    def leave_unread(self) -> None:
        """On sockets: do not read an answer, and send something where nobody reads it."""
        self.send("ping")
        assert self.process.stdout is not None
        output = self.process.stdout.fileno()
        assert select.select([output], [], [], WAIT_S)[0]
        os.write(output, b"?")

    def wait(self, seconds: float = WAIT_S) -> int:
        """The exit status; all of stderr is in `errors` then."""
        status = self.process.wait(seconds)
        assert self._errors_ended.wait(WAIT_S)
        return status


def _no_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def call(group: str, **arguments: Any) -> dict[str, Any]:
    """The parameters of a `tools/call` of `complete`."""
    messages = [{"role": "user", "content": "Hello"}]
    return {"name": "complete", "arguments": {"messages": messages, "model_group": group, **arguments}}
