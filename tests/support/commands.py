"""The command line: run in this process, started in one of its own, and shown at a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.default_groups import ANTHROPIC_KEY, KEYS, OPENAI_KEY
from support.fork_server import shared

from konstruct_mcp.cli.main import main

LIMIT_S = 60  # for any one wait; importing LiteLLM takes three seconds on two cores that are idle


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it wrote where."""

    code: int
    out: str
    err: str

    def __post_init__(self) -> None:
        for secret in (ANTHROPIC_KEY, OPENAI_KEY, "Traceback"):
            assert secret not in self.out + self.err


def run(*arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] = KEYS) -> Ran:
    """The console script in this process."""
    with CliRunner().isolation(stdin, env) as (out, err, _):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert isinstance(end.value.code, int)
        return Ran(end.value.code, out.getvalue().decode(), err.getvalue().decode())


@contextlib.contextmanager
def started(
    *arguments: str | Path,
    env: Mapping[str, str] = KEYS,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    forked: bool = True,
) -> Iterator[subprocess.Popen[bytes]]:
    """The console script in a process of its own, gone at the end.

    Args:
        forked: False where Python itself, or what is imported, goes by the environment, or where it counts how the
            interpreter ends: a forked one ends by `os._exit`.
    """
    words = [str(argument) for argument in arguments]
    environ = {**os.environ, "PYTHONFAULTHANDLER": "1", **env}
    # The first two would stand above the terminal's own size; without the third, what is written is buffered.
    for name in ("COLUMNS", "LINES", "PYTHONUNBUFFERED"):
        environ.pop(name, None)
    fork_server = shared() if forked else None
    command = [sys.executable, "-m", "konstruct_mcp", *words]
    with (
        fork_server.start(environ, words, stdin, stdout, stderr)
        if fork_server
        else subprocess.Popen(command, env=environ, stdin=stdin, stdout=stdout, stderr=stderr)
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> Ran:
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # says on stderr where each of its threads is
        _, err = process.communicate(timeout=LIMIT_S)
        pytest.fail(f"it does not end: {(err or b'').decode()}")
    return Ran(process.returncode, (out or b"").decode(), (err or b"").decode())


class Terminal:
    """What a process takes for a terminal; `shown` is all that it has been sent."""

    def __init__(self, columns: int = 80) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ours)
        self.hand_over()

    def hand_over(self) -> None:
        """Leave the other end to the process alone, so that its end is the end of what is shown."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def read_until(self, predicate: Callable[[], bool] = lambda: False) -> str:
        """Read until the predicate holds or the process has closed its end; fails when neither comes in time."""
        deadline = time.monotonic() + LIMIT_S
        while not predicate():
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"only {self.shown!r}"
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # EIO: nobody has the other end any more
                data = b""
            if not data:
                break
            self.shown += data.decode().replace("\r\n", "\n")
        return self.shown
