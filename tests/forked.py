"""Servers that start in a tenth of a second: forked from a process that has imported everything already.

What runs is the product, from `main` on; only the imports, which take three seconds of every other start, are made
once. Run as a script it is that process: each message on its socket brings an environment and three file descriptors,
and is answered with the id of the process that now serves on them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

CHUNK = 2**16


class Nursery:
    """The process that the others are forked from."""

    def __enter__(self) -> Self:
        self._socket, theirs = socket.socketpair()
        self._process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        theirs.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()
        self._process.wait(60)

    def start(self, environ: Mapping[str, str], *, sockets: bool = False) -> subprocess.Popen[bytes]:
        """A server with this environment, on pipes or, as some hosts have it, on sockets, which do not block."""
        pipes = [_sockets() if sockets else os.pipe() for _ in range(3)]
        (stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = pipes
        for theirs in (stdin, stdout):
            os.set_blocking(theirs, not sockets)
        socket.send_fds(self._socket, [json.dumps(dict(environ)).encode()], [stdin, stdout, stderr])
        assert select.select([self._socket], [], [], 60)[0], "not started"
        pid = int(self._socket.recv(CHUNK))
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
        files = (os.fdopen(to_stdin, "wb", 0), os.fdopen(from_stdout, "rb", 0), os.fdopen(from_stderr, "rb", 0))
        return cast("subprocess.Popen[bytes]", _Child(pid, *files))


def _sockets() -> tuple[int, int]:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


class _Child:
    """As much of a Popen as `lines.Process` uses."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self.pid, self.stdin, self.stdout, self.stderr = pid, stdin, stdout, stderr
        self._alive: int | None = os.pidfd_open(pid)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self._alive is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._alive, number)

    def wait(self, timeout: float) -> int:
        if self._alive is not None:
            if not select.select([self._alive], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked server", timeout)
            os.close(self._alive)
            self._alive = None
        return 0


def main(nursery: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here asks how they ended
    _import_everything()
    while True:
        message, descriptors, _, _ = socket.recv_fds(nursery, CHUNK, 3)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            nursery.close()
            _serve(json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        nursery.send(str(pid).encode())


def _import_everything() -> None:
    from konstruct_mcp import router, server, stdio, store  # noqa: F401

    router._quieten_before_import()
    import openai  # noqa: F401
    from litellm.llms.anthropic.chat import handler, transformation  # noqa: F401
    from litellm.llms.openai import openai as provider  # noqa: F401


def _serve(environ: Mapping[str, str], descriptors: list[int]) -> Any:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # The old ones remember what kind of file they were opened on.
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.update(environ)
    from konstruct_mcp.cli import main as serve

    try:
        serve([])
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(socket.socket(fileno=int(sys.argv[1])))
