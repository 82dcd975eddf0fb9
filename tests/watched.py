"""The server in a process that is watched: run as a script in place of `python -m konstruct_mcp`.

watched.py offline      every connection and name look-up but on loopback raises, and is told on stderr too
watched.py gated PIPE   the import of litellm waits until the named pipe is written to
watched.py told NAME…   the import of litellm is told on stderr, and at the end which of these modules were loaded
watched.py late EVENT   LiteLLM's thread waits before its first such audit event, and says so, until the process ends,
                        which then waits for the thread
"""

import atexit
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from konstruct_mcp.cli import main

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


def gated(pipe: str) -> Callable[[str, tuple[Any, ...]], None]:
    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "import" and args[0] == "litellm":
            Path(pipe).read_bytes()

    return hook


def told(event: str, args: tuple[Any, ...]) -> None:
    if event == "import" and args[0] == "litellm":
        print("LOADING", file=sys.stderr, flush=True)


def told_at_the_end(names: list[str]) -> None:
    print("LOADED", *(name for name in names if name in sys.modules), file=sys.stderr, flush=True)


def late(awaited: str) -> Callable[[str, tuple[Any, ...]], None]:
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
    case ["gated", pipe]:
        sys.addaudithook(gated(pipe))
    case ["told", *names]:
        sys.addaudithook(told)
        atexit.register(told_at_the_end, names)
    case ["late", event]:
        sys.addaudithook(late(event))
    case _:
        sys.exit("see the docstring")
del sys.argv[1:]
main()
