"""Limits how many connections to providers are open at once, over all HTTP clients of an event loop.

The limit is the number of files that the process may open, less those that everything else needs. LiteLLM has a pool
for each client, which knows nothing of the others and keeps connections for minutes. So before there are too many, the
idle ones are closed, those first that have been idle longest; where all are in use, the next request waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from weakref import WeakKeyDictionary, WeakSet

_OTHERS = 64  # files for everything else: the ledger's, the transport's, and what libraries read
_PARTS = 4  # two event loops, and half of the files of each
_LEAST = 4
_UNLIMITED = 2**20


def most_connections() -> int:
    """The limit of each of the two event loops that providers are asked on: the main one, and that for large requests.

    It is half of the loop's files, since beside each connection there may be one to a name server, and one that is
    about to be closed.
    """
    try:
        resource = importlib.import_module("resource")
    except ImportError:  # on Windows, where sockets are no files
        return _UNLIMITED
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if limit == resource.RLIM_INFINITY else max(_LEAST, (limit - _OTHERS) // _PARTS)


class Connections:
    """The connections of one event loop."""

    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Connections]] = WeakKeyDictionary()

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = asyncio.Semaphore(most)
        self._in_use = 0
        self._clients: WeakSet[Any] = WeakSet()
        self._room = 0  # how many may be opened before they are counted again

    @classmethod
    def here(cls) -> Connections:
        """Those of the running loop."""
        loop = asyncio.get_running_loop()
        if (found := cls._of_loops.get(loop)) is None:
            found = cls._of_loops[loop] = cls(most_connections())
        return found

    async def take(self, client: Any) -> Callable[[], None]:
        """Wait for the right to use one connection of a client of httpx's. Call what is returned to give it back."""
        await self._free.acquire()
        self._in_use += 1
        self._clients.add(client)
        if self._room <= 0:
            self._make_room()
        self._room -= 1
        is_taken = True

        def give_back() -> None:
            nonlocal is_taken
            if is_taken:
                is_taken = False
                self._in_use -= 1
                self._free.release()

        return give_back

    def _make_room(self) -> None:
        """Close idle connections until there is room; a quarter of the limit at a time, so that it is done seldom."""
        idle = sorted((one for client in self._clients for one in _idle(client)), key=lambda one: one[0])
        too_many = self._in_use + len(idle) - self._most
        if too_many > 0:
            closing = idle[: max(too_many, self._most // 4)]
            for _, close in closing:
                close()
            too_many -= len(closing)
        self._room = max(1, -too_many)


def _idle(client: Any) -> Iterator[tuple[float, Callable[[], Any]]]:
    """For each idle connection of a client of httpx's: since when it is idle, and what closes it."""
    for transport in (client._transport, *client._mounts.values()):
        connector = getattr(getattr(transport, "client", None), "connector", None)  # of the aiohttp session beneath
        for waiting in getattr(connector, "_conns", {}).values():
            yield from ((since, protocol.abort) for protocol, since in waiting if protocol.is_connected())
        pool = getattr(transport, "_pool", None)  # of httpcore, which closes idle ones itself after seconds
        yield from ((0.0, _closing(one)) for one in getattr(pool, "connections", ()) if one.is_idle())


_closings: set[asyncio.Task[None]] = set()  # a task that nobody keeps may be lost


def _closing(connection: Any) -> Callable[[], None]:
    async def close() -> None:
        with contextlib.suppress(Exception):
            await connection.aclose()

    def begin() -> None:
        closing = asyncio.ensure_future(close())
        _closings.add(closing)
        closing.add_done_callback(_closings.discard)

    return begin
