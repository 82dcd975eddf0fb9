"""Where the turns of threads are kept: in memory, in a folder, and at all servers of an installation.

A store keeps bytes under ids and knows nothing of what they are. It has one size for all tenants: where there is no
more room, the tenant that keeps most loses what was continued least lately. A turn that is kept renews those before it,
so that none outlives what it stands on.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import anyio

from konstruct_mcp.core.files import keep_folder, make_folder, new_file, read_kept
from konstruct_mcp.core.shares import Shares
from konstruct_mcp.core.sharing import SharedValues
from konstruct_mcp.core.threads import in_own_thread

_T = TypeVar("_T")

MEMORY_BYTES = 64 * 2**20  # of all turns that one process keeps, as they are packed
DISK_BYTES = 512 * 2**20  # of all files, but for what has come since the last look
_LEAST_BYTES = 1000  # that a turn counts at least in memory, which bounds how many there are
_BLOCK_BYTES = 4096  # that a file counts at least, as on most disks
_LOOK_S = 600.0  # between two looks at what of a folder has expired
_LOOK_PATIENCE_S = 0.5  # that an answer waits for one
_PART_S = 3600.0  # after which nobody is still writing a file
_AT_ONCE = 4  # threads at work on a disk: one that hangs holds no more of them


class TurnStore(Protocol):
    """Turns of all tenants, each under its id and its tenant."""

    async def put(self, tenant: str, turn_id: str, turn: bytes, before: Sequence[str]) -> bool:
        """Keep a turn, and renew those before it, the oldest of which is first; whether all of them are here.

        Raises:
            OSError: why it is not.
        """
        ...

    async def get(self, tenant: str, turn_ids: Sequence[str]) -> list[bytes | None]:
        """The turns with these ids; None for each that is not there, or not any more."""
        ...


class MemoryStore:
    """Those of one process."""

    def __init__(self, seconds: float, clock: Callable[[], float], most: int = MEMORY_BYTES) -> None:
        """`clock` gives seconds; `most` is the size of all turns in bytes."""
        self._turns: Shares[tuple[str, str], bytes] = Shares(most, seconds, clock)

    async def put(self, tenant: str, turn_id: str, turn: bytes, before: Sequence[str]) -> bool:
        # Renewed first, so that they are not dropped for it; and again, so that they are not dropped before it.
        self._renew(tenant, before)
        is_kept = self._turns.keep(tenant, (tenant, turn_id), turn, max(_LEAST_BYTES, len(turn)))
        return self._renew(tenant, before) and is_kept

    def _renew(self, tenant: str, before: Sequence[str]) -> bool:
        return all(self._turns.renew((tenant, turn_id)) for turn_id in reversed(before))

    async def get(self, tenant: str, turn_ids: Sequence[str]) -> list[bytes | None]:
        return [self._turns.get((tenant, turn_id)) for turn_id in turn_ids]


class _File(NamedTuple):
    at: float  # when it was last renewed
    size: int
    path: Path


class DiskStore:
    """Those in a folder, which several processes may share. Only this user can read it.

    - A file is written under another name and then renamed, and never changed afterwards. Its time is when its turn was
      kept or renewed.
    - It is not brought to the disk at once: where the machine goes down, the last turns may be lost.
    - No name tells an id or a tenant.
    """

    def __init__(self, folder: Path, seconds: float, clock: Callable[[], float], most: int = DISK_BYTES) -> None:
        """`clock` gives seconds since 1970; `most` is the size of all files in bytes."""
        self._folder, self._seconds, self._clock, self._most = folder, seconds, clock, most
        self._look_at, self._written = 0.0, 0  # when the next look is due, and bytes since the last
        self._places = anyio.Semaphore(_AT_ONCE, max_value=_AT_ONCE)

    async def put(self, tenant: str, turn_id: str, turn: bytes, before: Sequence[str]) -> bool:
        is_whole = await self._beside(self._put, tenant, turn_id, turn, before)
        if self._is_look_due(max(_BLOCK_BYTES, len(turn))):
            # It goes on for as long as it takes: a hundred thousand files take ten seconds, and this turn is kept.
            with anyio.move_on_after(_LOOK_PATIENCE_S):
                await self._beside(self.clean)
        return is_whole

    async def get(self, tenant: str, turn_ids: Sequence[str]) -> list[bytes | None]:
        return await self._beside(self._get, tenant, turn_ids)

    async def _beside(self, function: Callable[..., _T], *args: Any) -> _T:
        await self._places.acquire()
        return await in_own_thread(functools.partial(function, *args), self._places.release)

    def _place(self, tenant: str, turn_id: str) -> Path:
        return self._folder / _digest(tenant)[:32] / _digest(turn_id)

    def _put(self, tenant: str, turn_id: str, turn: bytes, before: Sequence[str]) -> bool:
        if len(turn) > self._most:
            return False
        place, now = self._place(tenant, turn_id), self._clock()
        for folder in (self._folder, place.parent):
            make_folder(folder)
            keep_folder(folder)
            if folder.stat().st_mode & 0o077:  # it was not made here
                folder.chmod(0o700)
        part = place.with_name(f"{uuid.uuid4()}.part")
        try:
            with new_file(part) as file:
                file.write(turn)
            os.utime(part, (now, now))
            part.replace(place)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        is_whole = True
        for rank, one in enumerate(reversed(before), 1):
            try:
                os.utime(self._place(tenant, one), (now, now + rank / 1000))  # later, so that it is dropped later
            except FileNotFoundError:
                is_whole = False
        return is_whole

    def _get(self, tenant: str, turn_ids: Sequence[str]) -> list[bytes | None]:
        oldest = self._clock() - self._seconds
        found: list[bytes | None] = []
        for turn_id in turn_ids:
            place, turn = self._place(tenant, turn_id), None
            with contextlib.suppress(OSError, ValueError):
                if place.lstat().st_mtime > oldest:
                    turn = read_kept(place, self._most)
            found.append(turn)
        return found

    def _is_look_due(self, written: int) -> bool:
        """Whether it is time to look for what has expired or is too much, after so many bytes more."""
        now = self._clock()
        self._written += written
        if now < self._look_at and self._written <= self._most // 16:
            return False
        self._look_at, self._written = now + min(_LOOK_S, self._seconds), 0
        return True

    def clean(self) -> None:
        """Remove what has expired, what nobody will finish writing, and the oldest of what is too much."""
        now = self._clock()
        kept: defaultdict[Path, list[_File]] = defaultdict(list)
        for file in self._files():
            if file.at <= now - (_PART_S if file.path.suffix else self._seconds):
                _remove(file.path)
            elif not file.path.suffix:
                kept[file.path.parent].append(file)
        sizes = {folder: sum(file.size for file in files) for folder, files in kept.items()}
        for files in kept.values():
            files.sort(reverse=True)  # the oldest is last
        while sum(sizes.values()) > self._most:
            greediest = max(sizes, key=sizes.__getitem__)
            file = kept[greediest].pop()
            sizes[greediest] -= file.size
            _remove(file.path)

    def _files(self) -> Iterator[_File]:
        for folder in _entries(self._folder):
            for entry in _entries(Path(folder)) if folder.is_dir(follow_symlinks=False) else ():
                with contextlib.suppress(OSError):  # another process has removed it
                    found = entry.stat(follow_symlinks=False)
                    yield _File(found.st_mtime, max(_BLOCK_BYTES, found.st_size), Path(entry))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


class SharedStore:
    """Those of one store and, where servers share values, of all of them."""

    def __init__(self, own: TurnStore, values: Callable[[], SharedValues | None], seconds: float) -> None:
        self._own, self._values, self._seconds = own, values, seconds

    async def put(self, tenant: str, turn_id: str, turn: bytes, before: Sequence[str]) -> bool:
        if (values := self._values()) is None:
            return await self._own.put(tenant, turn_id, turn, before)
        is_shared = await values.put(_name(turn_id), turn, self._seconds)
        await values.renew([_name(one) for one in before], self._seconds)
        try:
            is_own = await self._own.put(tenant, turn_id, turn, before)  # not where another server has answered before
        except OSError:
            if not is_shared:
                raise
            return True
        return is_own or is_shared

    async def get(self, tenant: str, turn_ids: Sequence[str]) -> list[bytes | None]:
        found = await self._own.get(tenant, turn_ids)
        lacking = [place for place, turn in enumerate(found) if turn is None]
        if lacking and (values := self._values()) is not None:
            shared = await values.get_many([_name(turn_ids[place]) for place in lacking])
            for place, turn in zip(lacking, shared, strict=True):
                found[place] = turn
        return found


def _name(turn_id: str) -> str:
    return f"thread:{_digest(turn_id)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
