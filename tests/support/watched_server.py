"""The server in a process that is watched: run as a script in place of `python -m konstruct_mcp`.

Its first argument says what is watched:

offline            every connection and name look-up but on loopback raises, and is named on stderr
held-import PIPE   the import of litellm waits until the named pipe is written to
imports NAME…      stderr says LOADING when litellm is imported, and at the end which of these modules were loaded
pauses FILE        each pause of the event loop of more than 20 ms is a line of FILE: when it ended, and how long
held-thread EVENT  LiteLLM's thread stops before its first such audit event and says WAITING, until the process ends,
                   which then waits for the thread
"""

import asyncio
import atexit
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from konstruct_mcp.cli.main import main

LOOPBACK = (None, "", "localhost", "127.0.0.1", "::1")


def offline(event: str, args: tuple[Any, ...]) -> None:
    match event:
        case "socket.connect" | "socket.sendto":
            host = args[1][0] if isinstance(args[1], tuple) else None  # a Unix socket is on this machine
        case "socket.getaddrinfo" | "socket.gethostbyname" | "socket.gethostbyaddr":
            host = args[0].decode() if isinstance(args[0], bytes) else args[0]
        case _:
            return
    if host not in LOOPBACK:
        print(f"NETWORK {event} {host}", file=sys.stderr, flush=True)  # in case the error is swallowed
        raise OSError("no network here")


def held_import(pipe: str) -> Callable[[str, tuple[Any, ...]], None]:
    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "import" and args[0] == "litellm":
            Path(pipe).read_bytes()

    return hook


def imports(event: str, args: tuple[Any, ...]) -> None:
    if event == "import" and args[0] == "litellm":
        print("LOADING", file=sys.stderr, flush=True)


def say_what_was_loaded(names: list[str]) -> None:
    print("LOADED", *(name for name in names if name in sys.modules), file=sys.stderr, flush=True)


def watch_loops(report: Path) -> None:
    """Have each event loop of this process looked at every few milliseconds, from a thread."""
    run_forever = asyncio.BaseEventLoop.run_forever

    def watch(loop: asyncio.AbstractEventLoop) -> None:
        has_turned = threading.Event()
        with report.open("a") as lines:
            while not loop.is_closed():
                asked = time.monotonic()
                has_turned.clear()
                with contextlib.suppress(RuntimeError):  # it is closed
                    loop.call_soon_threadsafe(has_turned.set)
                has_turned.wait(600)
                now = time.monotonic()
                if now - asked > 0.02:
                    lines.write(f"{now:.3f} {now - asked:.3f}\n")
                    lines.flush()
                time.sleep(0.005)

    def watched(self: asyncio.BaseEventLoop) -> None:
        if threading.current_thread() is threading.main_thread():  # not the loop of LiteLLM's warm-up
            threading.Thread(target=watch, args=(self,), daemon=True).start()
        run_forever(self)

    asyncio.BaseEventLoop.run_forever = watched  # type: ignore[method-assign]


def held_thread(awaited: str) -> Callable[[str, tuple[Any, ...]], None]:
    is_ending = threading.Event()
    waiting: list[threading.Thread] = []

    def end() -> None:
        is_ending.set()
        for thread in waiting:
            thread.join(60)

    def hook(event: str, _args: tuple[Any, ...]) -> None:
        thread = threading.current_thread()
        if event == awaited and thread.name == "litellm" and not waiting:
            waiting.append(thread)
            print("WAITING", file=sys.stderr, flush=True)
            is_ending.wait(60)

    atexit.register(end)
    return hook


match sys.argv[1:]:
    case ["offline"]:
        sys.addaudithook(offline)
    case ["held-import", pipe]:
        sys.addaudithook(held_import(pipe))
    case ["imports", *names]:
        sys.addaudithook(imports)
        atexit.register(say_what_was_loaded, names)
    case ["pauses", report]:
        watch_loops(Path(report))
    case ["held-thread", event]:
        sys.addaudithook(held_thread(event))
    case _:
        sys.exit("see the docstring")
del sys.argv[1:]
main()
