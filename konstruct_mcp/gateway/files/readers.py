"""Reads files beside the event loop. A disk can hang, so that a read is waited for no longer than its call may take."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence

import anyio

from konstruct_mcp.core.threads import in_own_thread
from konstruct_mcp.gateway.files.reading import FileAccess, ReadFiles, read_files

_AT_ONCE = 4  # reads of one tenant: its disk may hang, and no other's calls wait for that


class FileReaders:
    """The threads that read files, so many for each tenant."""

    def __init__(self) -> None:
        self._places: defaultdict[str | None, anyio.Semaphore] = defaultdict(
            lambda: anyio.Semaphore(_AT_ONCE, max_value=_AT_ONCE)
        )

    async def read(self, paths: Sequence[str], access: FileAccess, tenant: str | None) -> ReadFiles:
        """Read files. If this is cancelled, the thread goes on, and keeps its place until it has ended.

        Args:
            tenant: whose they are; None for those of the process's own client.
        """
        places = self._places[tenant]
        await places.acquire()
        return await in_own_thread(functools.partial(read_files, tuple(paths), access), places.release)
