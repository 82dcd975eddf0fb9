"""The server of `soak.py`: the product, in a process that also tells what only it knows.

    python benchmarks/soak_server.py DESCRIPTOR [--types]

It writes lines of JSON to DESCRIPTOR: its versions at the start; at SIGUSR1 what is under way; at SIGUSR2 what Python
has allocated, with `--types` by type. It imports nothing of the other benchmarks, whose memory would count as its own,
and runs on a Python that may have the product alone.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
from collections import Counter
from importlib.metadata import version
from typing import Any

from konstruct_mcp.cli.main import main


class Inspector:
    """Tells about its own process when it gets a signal.

    Args:
        descriptor: where it writes.
        with_types: whether it counts objects by type.
    """

    def __init__(self, descriptor: int, *, with_types: bool) -> None:
        self._descriptor = descriptor
        self._with_types = with_types
        self._has_threads = False

    def tell(self, **words: Any) -> None:
        os.write(self._descriptor, json.dumps(words).encode() + b"\n")

    def tell_what_is_under_way(self, *_: object) -> None:
        loop: Any = asyncio.get_running_loop()
        if not self._has_threads:
            self._has_threads = True
            _start_all_threads(loop)
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # which no public name tells
        self.tell(
            tasks=Counter(_named(task.get_coro()) for task in asyncio.all_tasks(loop)),
            timers=Counter(_named(timer._callback) for timer in timers),
            threads=Counter(thread.name for thread in threading.enumerate()),
        )

    def tell_what_is_allocated(self, *_: object) -> None:
        gc.collect()
        objects = gc.get_objects() if self._with_types else []
        self.tell(
            blocks=sys.getallocatedblocks(),
            types=Counter(f"{type(it).__module__}.{type(it).__qualname__}" for it in objects),
        )


def _named(what: Any) -> str:
    return str(getattr(what, "__qualname__", type(what).__qualname__))


def _start_all_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Have asyncio start as many threads as it ever has, so that none of them counts as growth later."""
    pool = min(32, (os.cpu_count() or 1) + 4)
    together = threading.Barrier(pool)
    for _ in range(pool):
        loop.run_in_executor(None, together.wait)


if __name__ == "__main__":
    inspector = Inspector(int(sys.argv[1]), with_types="--types" in sys.argv)
    signal.signal(signal.SIGUSR1, inspector.tell_what_is_under_way)
    signal.signal(signal.SIGUSR2, inspector.tell_what_is_allocated)
    inspector.tell(litellm=version("litellm"), python=sys.version.split()[0])
    main([])
