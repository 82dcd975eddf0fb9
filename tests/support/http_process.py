"""`serve --http` in a process of its own, on a free port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from support.processes import WAIT_S


class HttpProcess:
    """A running server. It has told its address when the block begins, and is ended by SIGTERM when it ends.

    Attributes:
        url: of its MCP endpoint.
        errors: the lines of its stderr so far.
    """

    def __init__(self, config: Path, *options: str, environ: Mapping[str, str] = {}) -> None:
        kept = {
            name: os.environ[name] for name in os.environ if name.startswith(("PATH", "HOME", "XDG", "COV", "PYTHON"))
        }
        self.url = ""
        self.errors: list[str] = []
        self._changed = threading.Condition()
        command = [sys.executable, "-m", "konstruct_mcp", "--config", str(config), "serve", "--http", "127.0.0.1:0"]
        self._process = subprocess.Popen(
            [*command, *options],
            env={**kept, **environ},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        self.url = self.said(r"serving MCP over HTTP at ([^\s\"]+)")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def said(self, pattern: str) -> str:
        """Wait for a line on stderr, and give what the pattern's first group is in it."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.errors if (match := re.search(pattern, line))), None)

        with self._changed:
            assert self._changed.wait_for(lambda: found() or self._process.poll() is not None, WAIT_S), self.errors
        match = found()
        assert match is not None, self.errors
        return match[1]

    def stop(self) -> int:
        """End it as whoever runs it does; returns its status. Safe to call twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(WAIT_S)
        finally:
            self._process.kill()
        self._reader.join(WAIT_S)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return status

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self.errors.append(line.removesuffix("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()
