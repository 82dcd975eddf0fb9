"""Servers that start in a tenth of a second: forked from a process that has imported everything already.

What runs is the product, from `main` on. Only its imports, which take three seconds of any other start, are made once.

Run as a script this is the process that they are forked from. It takes two kinds of messages on its socket: an
environment, arguments and three file descriptors, answered with the id of the process that now serves on them; and the
id of such a process, answered with its exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import functools
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

CHUNK = 2**16


class ForkServer:
    """The process that servers are forked from; a context manager.

    Args:
        within: what comes before its command, such as `unshare`.
    """

    def __init__(self, within: Sequence[str] = ()) -> None:
        self._within = within
        self._asking = threading.Lock()

    def __enter__(self) -> Self:
        self._socket, theirs = socket.socketpair()
        command = [*self._within, sys.executable, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=Path(__file__).parents[2])
        theirs.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()
        self._process.wait(60)

    def start(
        self,
        environ: Mapping[str, str],
        arguments: Sequence[str] = (),
        stdin: IO[bytes] | int = subprocess.PIPE,
        stdout: IO[bytes] | int = subprocess.PIPE,
        stderr: IO[bytes] | int = subprocess.PIPE,
        *,
        sockets: bool = False,
    ) -> subprocess.Popen[bytes]:
        """A server, or another command, with this environment and no other; on pipes or, as some hosts have it, on
        sockets, which do not block."""
        theirs: list[int] = []
        ours: list[IO[bytes] | None] = []
        with contextlib.ExitStack() as closing:
            for number, given in enumerate((stdin, stdout, stderr)):
                if given == subprocess.PIPE:
                    one, other = _sockets() if sockets else os.pipe()
                    there, here = (one, other) if number == 0 else (other, one)
                    if number < 2:
                        os.set_blocking(there, not sockets)
                    ours.append(os.fdopen(here, "rb" if number else "wb", 0))
                    closing.callback(os.close, there)
                elif given == subprocess.DEVNULL:
                    there = os.open(os.devnull, os.O_RDWR)
                    ours.append(None)
                    closing.callback(os.close, there)
                else:
                    there = given if isinstance(given, int) else given.fileno()
                    ours.append(None)
                theirs.append(there)
            order = json.dumps({"environ": dict(environ), "arguments": list(arguments)}).encode()
            assert len(order) < CHUNK, "more than the fork server reads at once"
            with self._asking:
                socket.send_fds(self._socket, [order], theirs)
                pid = self._answer()
        return cast("subprocess.Popen[bytes]", _Child(self, pid, *ours))

    def status(self, pid: int) -> int:
        """How a process has ended, as a Popen has it."""
        with self._asking:
            self._socket.send(json.dumps({"ended": pid}).encode())
            return self._answer()

    def _answer(self) -> int:
        assert select.select([self._socket], [], [], 60)[0], "the fork server does not answer"
        answer = self._socket.recv(CHUNK)
        assert answer, "the fork server has ended"
        return int(answer)


@functools.cache
def shared() -> ForkServer | None:
    """The one of this process, which ends with it; None where the system cannot do that."""
    if not hasattr(os, "pidfd_open"):
        return None
    server = ForkServer().__enter__()
    atexit.register(server.__exit__, None, None, None)
    return server


def _sockets() -> tuple[int, int]:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


class _Child:
    """As much of a Popen as tests use."""

    def __init__(
        self,
        fork_server: ForkServer,
        pid: int,
        stdin: IO[bytes] | None,
        stdout: IO[bytes] | None,
        stderr: IO[bytes] | None,
    ) -> None:
        self.pid, self.stdin, self.stdout, self.stderr = pid, stdin, stdout, stderr
        self._fork_server = fork_server
        self._alive: int | None = os.pidfd_open(pid)
        self.returncode: int | None = None
        self._read: dict[IO[bytes], bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait(60)

    def communicate(self, timeout: float) -> tuple[bytes, bytes]:
        """Send no more, and read all that comes until its end. What came before a time-out is kept."""
        if self.stdin is not None:
            self.stdin.close()
        until = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for pipe in (self.stdout, self.stderr):
                if pipe is not None and not pipe.closed:
                    selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, until - time.monotonic()))
                if not ready:
                    raise subprocess.TimeoutExpired("a forked process", timeout)
                for key, _ in ready:
                    file = cast("IO[bytes]", key.fileobj)
                    data = os.read(key.fd, CHUNK)
                    self._read[file] = self._read.get(file, b"") + data
                    if not data:
                        selector.unregister(file)
                        file.close()
        self.wait(max(0.0, until - time.monotonic()))
        out, err = (b"" if pipe is None else self._read.get(pipe, b"") for pipe in (self.stdout, self.stderr))
        return out, err

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self._alive is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._alive, number)

    def wait(self, timeout: float) -> int:
        if self._alive is not None:
            if not select.select([self._alive], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            os.close(self._alive)
            self._alive = None
            self.returncode = self._fork_server.status(self.pid)
        assert self.returncode is not None
        return self.returncode


def main(asking: socket.socket) -> None:
    faulthandler.enable()
    _import_everything()
    while True:
        message, descriptors, _, _ = socket.recv_fds(asking, CHUNK, 3)
        if not message:
            os._exit(0)  # what was imported would take a second to clear away
        order = json.loads(message)
        if "ended" in order:
            _, status = os.waitpid(order["ended"], 0)
            asking.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            asking.close()
            _serve(order["environ"], order["arguments"], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        asking.send(str(pid).encode())


def _import_everything() -> None:
    """Import what a server imports until it has answered its first call: whatever is missing here is imported again in
    each of them."""
    from konstruct_mcp.ledger import store  # noqa: F401
    from konstruct_mcp.protocol import server  # noqa: F401
    from konstruct_mcp.providers.litellm.set_up import set_environment
    from konstruct_mcp.transports.http import serve as serve_http  # noqa: F401
    from konstruct_mcp.transports.stdio import serve  # noqa: F401

    set_environment()
    import anyio._backends._asyncio  # noqa: F401
    import openai  # noqa: F401
    import sqlalchemy.dialects.sqlite  # noqa: F401
    from alembic import command, config  # noqa: F401  # which make the tables of a new ledger
    from litellm import router as litellms  # noqa: F401
    from litellm.llms.anthropic.chat import handler, transformation  # noqa: F401
    from litellm.llms.openai import openai as provider  # noqa: F401


def _serve(environ: Mapping[str, str], arguments: Sequence[str], descriptors: list[int]) -> Any:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # The old ones remember what kind of file they were opened on.
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", 1, errors="backslashreplace")
    os.environ.clear()
    os.environ.update(environ)
    from konstruct_mcp.cli.main import main as serve

    status = 1
    try:
        serve(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main(socket.socket(fileno=int(sys.argv[1])))
