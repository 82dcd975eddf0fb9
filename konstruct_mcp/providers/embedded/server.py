"""The parent's side of the embedded model: how its child process is started, found and ended.

A process of its own, because llama.cpp aborts on its own defects, writes to stdout (which belongs to MCP here) and
cannot be unloaded. Parent and child (the module `child`) speak over the child's stdin and stdout:

    parent → child   {"model": path, "key": key}       one line, so that neither shows in argv or environment
    child → parent   {"address": url} or {"error": …}  one line
    parent → child   end of file                       the child leaves, however the parent ended

What could be better: a process that the parent forked without exec holds the pipe too, and the child lives until that
one ends; and while xllamacpp loads a model it holds the interpreter's lock, so a child whose parent dies then leaves
only once the model is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import threading
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from pydantic import SecretStr

from konstruct_mcp.core.errors import EmbeddedError

START_LIMIT_S = 120.0  # as long as one try may take: a file of several GB on a slow disk needs most of it
_LEAVE_LIMIT_S = 5.0  # a child that is leaving, or was killed, needs milliseconds

# What the child gets of the environment: how to find itself, its libraries and its graphics card. No key of any
# provider is in here, and none that is invented tomorrow will be.
_INHERITED = re.compile(
    r"(?:PATH|HOME|USERPROFILE|LANG|TMPDIR|TEMP|TMP|SYSTEMROOT|SYSTEMDRIVE|WINDIR"
    r"|VIRTUAL_ENV|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|(?:PYTHON|LC_|CUDA_|HIP_|ROCR_|HSA_|GGML_|OMP_).*"
    r"|COVERAGE_PROCESS_.*)\Z",  # the last so that coverage sees the child's side
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the child answers. `base_url` ends in `/v1`; `api_key` goes into a Bearer header."""

    base_url: str
    api_key: SecretStr


@dataclass(frozen=True, slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    endpoint: Endpoint


class EmbeddedServer:
    """The child process that serves one model, started when it is first needed.

    Any thread and any event loop may call it. Once `kill` or `aclose` was called it stays ended, until `reopen`.
    """

    def __init__(self, model: Path, *, start_limit_s: float = START_LIMIT_S) -> None:
        """`model` is a GGUF file, as `find_model` returns it; a start may take `start_limit_s` seconds."""
        self._model = model
        self._start_limit_s = start_limit_s
        self._lock = threading.Lock()  # guards _start; never taken by kill, which may interrupt its holder
        self._start: Future[_Child] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    async def endpoint(self) -> Endpoint:
        """Where to send requests now; starts the child if it is not running, once for all callers.

        Raises:
            EmbeddedError: the child does not start, or this server was closed.
        """
        with self._lock:
            if self._closed:
                raise EmbeddedError("the embedded model was stopped; start konstruct-mcp again")
            if self._start is None or _is_over(self._start):
                self._start = Future()
                # Marked as running it cannot be cancelled: a caller that is cancelled leaves the others' start alone.
                self._start.set_running_or_notify_cancel()
                threading.Thread(target=self._run, args=(self._start,), name="embedded-start", daemon=True).start()
            start = self._start
        return (await asyncio.wrap_future(start)).endpoint

    def reopen(self) -> None:
        """Lets the child be started again after an `aclose`."""
        self._closed = False

    async def aclose(self) -> None:
        """Ends the child and waits until it is gone. May be called again."""
        self.kill()
        await asyncio.to_thread(self._reap)

    def kill(self) -> None:
        """Ends the child at once, also one that is just starting. For signal handlers: never waits, takes no lock."""
        # The starting thread stores _process first and reads _closed second: one of the two sees the other.
        self._closed = True
        if self._process is not None:
            self._process.kill()

    def _run(self, start: Future[_Child]) -> None:
        try:
            child = self._launch()
        except BaseException as error:  # whatever it is, somebody is waiting for it
            start.set_exception(error)
        else:
            start.set_result(child)

    def _launch(self) -> _Child:
        key = secrets.token_urlsafe(32)
        try:
            process = _spawn()
        except OSError as error:
            raise EmbeddedError("no process could be started for the embedded model; free some memory") from error
        self._process = process
        if self._closed:
            process.kill()
        stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)  # both are pipes
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._start_limit_s, give_up)
        timer.daemon = True
        timer.start()
        line = b""
        with stdout, contextlib.suppress(OSError):  # a broken pipe: it died before it could read
            stdin.write(json.dumps({"model": str(self._model), "key": key}).encode() + b"\n")
            line = stdout.readline()
        timer.cancel()
        answer = json.loads(line) if line.endswith(b"\n") else {}
        if "address" in answer:
            return _Child(process, Endpoint(answer["address"] + "/v1", SecretStr(key)))
        code = _end(process)
        if self._closed:
            raise EmbeddedError("the embedded model was stopped while it was starting")
        if late.is_set():
            raise EmbeddedError(
                f"the embedded model did not start within {self._start_limit_s:g} s; use a smaller file"
            )
        raise EmbeddedError(
            answer.get("error")
            or f"the embedded model's process ended while it was starting (exit code {code}); "
            "KONSTRUCT_LOG_LEVEL=DEBUG shows its log"
        )

    def _reap(self) -> None:
        if self._start is not None:
            wait([self._start])  # its child was killed, so it ends
        if self._process is not None:
            _end(self._process)


def _is_over(start: Future[_Child]) -> bool:
    """Whether this start failed, or its child has died since; the dead one is cleared away."""
    if not start.done():
        return False
    if start.exception() is not None:
        return True
    process = start.result().process
    if process.poll() is None:
        return False
    _end(process)
    return True


def _spawn() -> subprocess.Popen[bytes]:
    """The child, waiting for its first line."""
    # With debug logging the child shares our stderr; otherwise llama.cpp's pages of log go nowhere.
    debug = os.environ.get("KONSTRUCT_LOG_LEVEL", "").upper() == "DEBUG"
    home = Path(__file__).resolve().parents[3]  # the folder that the package is in
    environ = {name: text for name, text in os.environ.items() if _INHERITED.match(name)}
    # The same modules as here, wherever they come from, but nothing from the current folder: it may be a stranger's
    # repository. Only a run from a checkout has the package itself there.
    places = [Path(entry) for entry in sys.path if Path(entry).is_absolute()]
    with contextlib.suppress(FileNotFoundError):  # the current folder was deleted
        current = Path.cwd()
        places = [place for place in places if place != current or place == home]
    environ["PYTHONPATH"] = os.pathsep.join(map(str, places))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "konstruct_mcp.providers.embedded.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if debug else subprocess.DEVNULL,
        bufsize=0,  # a buffer would raise when it is closed after the child's death
        cwd=home,  # not the user's folder: libraries are looked for there too, and Windows could not delete it
        env=environ,
        start_new_session=True,  # a terminal's Ctrl-C and hang-up go to the parent alone; ignored on Windows …
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # … where having no console does the same
    )


def _end(process: subprocess.Popen[bytes]) -> int | None:
    """Its exit code, after asking it to leave and, if it does not, killing it. None: even that takes too long."""
    cast("IO[bytes]", process.stdin).close()
    for _ in range(2):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_LEAVE_LIMIT_S)
        process.kill()
    return None
