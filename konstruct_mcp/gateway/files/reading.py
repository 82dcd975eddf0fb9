"""Finds the files that a caller names, opens each beneath its root, and reads it.

What counts is what is open, not what a path said a moment ago:

1. The path is resolved. What it leads to has to lie within a root, component by component.
2. The file is opened from the root downward, one component after another, and no link is followed on the way. Whoever
   puts a link there meanwhile, or another file in its place, has it refused, or read as what now is within the root.
3. What is open has to be an ordinary file and none of our own. So much is read of it as may be sent, and no more,
   however fast it grows.

A second hard link to a file outside is not told from the file: to make one takes the right to that file itself, and
what is in it is looked at as in any other.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from konstruct_mcp.config.files import FileSettings, is_system_path
from konstruct_mcp.core.file_names import is_kept_back

MOST_FILES = 100  # of a call, wildcards written out
_KEPT_BACK = "not there, not in a folder that is open to you, or kept back because it may hold secrets"
_KEPT_BACK_ANYWHERE = "not there, not readable, or kept back because it may hold secrets"
_A_FOLDER = "a folder; name its files, as in folder/*.py"
_STEP = 1 << 20  # bytes that are read at once
_WILD = re.compile(r"[*?\[]")
_NO_LINK, _CLOEXEC = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_CLOEXEC", 0)
# A folder on the way need not be readable, where the system can open it all the same.
_AS_FOLDER = getattr(os, "O_DIRECTORY", 0) | _NO_LINK | _CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
# A pipe is not waited for, and a terminal does not become this process's.
_AS_FILE = (os.O_RDONLY | _NO_LINK | _CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)) | getattr(
    os, "O_BINARY", 0
)
_AS_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _CLOEXEC
_OPENS_BENEATH = os.open in os.supports_dir_fd


@dataclass(frozen=True, slots=True)
class FileAccess:
    """Which files a call may name.

    Attributes:
        settings: of the config.
        roots: the folders that they may be in; None for anywhere, relative to the current folder.
    """

    settings: FileSettings
    roots: tuple[Path, ...] | None


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that was read: as the caller named it, its path relative to its root, and what is in it."""

    named: str
    path: str
    data: bytes


@dataclass(slots=True)
class ReadFiles:
    """The files that were read, and what is wrong with the others.

    Attributes:
        kept_back: the one reason for what is not there, may not be read, or holds a secret.
        faults: a reason → the files, as the caller named them; no more than a call may send.
        unnamed: how many faults more there are.
    """

    kept_back: str
    files: list[FoundFile] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    unnamed: int = 0

    def fault(self, named: str, reason: str = "") -> None:
        """A file is not sent; without a reason, it is kept back."""
        if sum(map(len, self.faults.values())) >= MOST_FILES:
            self.unnamed += 1
        elif named not in (names := self.faults.setdefault(reason or self.kept_back, [])):
            names.append(named)


def read_files(paths: Sequence[str], access: FileAccess) -> ReadFiles:
    """Read the files of these paths and wildcards, each once, in their order. May hang as a disk does."""
    reader = _Reader(access)
    for path in paths:
        reader.add(path)
    return reader.read


class _RefusedError(Exception):
    """A file is not read.

    Attributes:
        reason: as the caller is told; "" where it is not told whether there is such a file.
        is_hidden: whether a wildcard passes over it, as if it were not there.
    """

    def __init__(self, reason: str = "", *, is_hidden: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.is_hidden = reason, is_hidden


class _TooManyError(_RefusedError):
    def __init__(self) -> None:
        super().__init__(f"more than {MOST_FILES} files in one call; name fewer", is_hidden=False)


class _Reader:
    def __init__(self, access: FileAccess) -> None:
        self.read = ReadFiles(_KEPT_BACK if access.roots is not None else _KEPT_BACK_ANYWHERE)
        self._settings = access.settings
        self._is_anywhere = access.roots is None
        self._folder = os.path.realpath(os.curdir) if access.roots is None else ""
        self._roots = [Path(os.path.realpath(root)) for root in access.roots or ()]
        self._own = [Path(os.path.realpath(own)) for own in access.settings.own]
        self._own_ids = frozenset(_id(found) for own in self._own if (found := _status(own)) is not None)
        self._seen: set[tuple[int, int]] = set()
        self._left = access.settings.max_bytes

    def add(self, named: str) -> None:
        """Read a file, or those that a wildcard stands for."""
        if self._is_anywhere:
            path = os.path.join(self._folder, named)  # noqa: PTH118  an absolute one stays as it is
        elif Path(named).is_absolute():
            path = named
        else:
            self.read.fault(named, "no absolute path")
            return
        folder, name = os.path.split(path)
        try:
            if not name:  # a slash at the end
                raise _RefusedError(_A_FOLDER)
            try:
                self._add_one(named, path)
            except _RefusedError as error:
                if not (error.is_hidden and _WILD.search(name)):
                    raise
                self._add_matching(folder, name)
        except _RefusedError as error:
            self.read.fault(named, error.reason)

    def _add_matching(self, folder: str, pattern: str) -> None:
        real, root = self._resolved(folder)
        with _opened_folder(root, real, self._own_ids) as handle, _closing() as keep, _no_os_error():
            listed = real if handle is None else keep(os.open(os.curdir, _AS_LIST, dir_fd=handle))
            names = os.listdir(listed)  # noqa: PTH208  of what is open
        # As in a shell, a star stands for no dot at the beginning.
        matching = (
            name
            for name in sorted(names)
            if fnmatch.fnmatchcase(name, pattern) and (pattern.startswith(".") or not name.startswith("."))
        )
        count = 0
        for name in matching:
            try:
                self._add_one(os.path.join(folder, name), str(real / name))  # noqa: PTH118  as it was named
            except _TooManyError:
                raise
            except _RefusedError as error:
                if error.is_hidden:
                    continue
                self.read.fault(os.path.join(folder, name), error.reason)  # noqa: PTH118
            if (count := count + 1) > MOST_FILES:
                raise _TooManyError
        if count == 0:
            raise _RefusedError

    def _add_one(self, named: str, path: str) -> None:
        real, root = self._resolved(path)
        with _opened(root, real, self._own_ids) as handle:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or _id(status) in self._own_ids:
                raise _RefusedError
            if _id(status) in self._seen:
                return
            if len(self.read.files) >= MOST_FILES:
                raise _TooManyError
            data = b""
            if status.st_size <= self._left:  # else nothing of it is read
                with _no_os_error():
                    data = _read(handle, self._left)
            if max(status.st_size, len(data)) > self._left:
                size, most = max(status.st_size, len(data)), self._settings.max_bytes
                raise _RefusedError(
                    f"too large, with the other files: it has {size:,} bytes, and a call may send {most:,} "
                    "(konstruct.files.max_bytes)",
                    is_hidden=False,
                )
        self._seen.add(_id(status))
        self._left -= len(data)
        self.read.files.append(FoundFile(named, self._shown(real, root), data))

    def _resolved(self, path: str) -> tuple[Path, Path]:
        """Where a path leads to now, without any link in it, and the root that this is in."""
        with _no_os_error():
            real = Path(os.path.realpath(path, strict=True))
        open_to_it = [Path(real.anchor)] if self._is_anywhere else self._roots
        roots = [root for root in open_to_it if real.is_relative_to(root)]
        deny = self._settings.deny
        if not roots or is_system_path(real) or any(real.is_relative_to(own) for own in self._own):
            raise _RefusedError
        if is_kept_back(Path(path).parts[1:], deny) or is_kept_back(real.parts[1:], deny):
            raise _RefusedError
        return real, max(roots, key=lambda root: len(root.parts))

    def _shown(self, real: Path, root: Path) -> str:
        relative = os.path.relpath(real, self._folder) if self._is_anywhere else str(real.relative_to(root))
        return relative.replace(os.sep, "/")


def _read(handle: int, most: int) -> bytes:
    """What is in an open file; of a longer one, one byte more than `most`."""
    pieces: list[bytes] = []
    left = most + 1
    while left > 0 and (piece := os.read(handle, min(left, _STEP))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _id(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


@contextmanager
def _no_os_error(*, is_hidden: bool = True) -> Iterator[None]:
    """Within the block, a refusal of the system is one of ours. It tells nothing of why."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: there can be no such path
        denied = isinstance(error, PermissionError)
        raise _RefusedError(is_hidden=is_hidden and not denied) from None


# -- opening ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(root: Path, real: Path, own: Collection[tuple[int, int]]) -> Iterator[int]:
    """A file beneath a root, open for reading; `real` has no link in it, or had none a moment ago."""
    if real == root:
        raise _RefusedError(_A_FOLDER)
    with _opened_folder(root, real.parent, own) as folder, _closing() as keep:
        with _no_os_error():
            name = str(real) if folder is None else real.name
            # Looked at before it is opened, because opening a device can have an effect.
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                raise _RefusedError(_A_FOLDER if stat.S_ISDIR(found.st_mode) else "")
            handle = keep(os.open(name, _AS_FILE, dir_fd=folder))
            if sys.platform == "win32" and not _final_path(handle).is_relative_to(root):
                raise _RefusedError
        yield handle


@contextmanager
def _opened_folder(root: Path, real: Path, own: Collection[tuple[int, int]]) -> Iterator[int | None]:
    """A folder beneath a root, or the root itself; None where the system opens no folders. None on the way is our
    `own`."""
    if not _OPENS_BENEATH:
        yield None
        return
    with _closing() as keep:
        with _no_os_error():
            handle = keep(os.open(root, _AS_FOLDER))
            for name in real.relative_to(root).parts:
                handle = keep(os.open(name, _AS_FOLDER, dir_fd=handle))
                if _id(os.fstat(handle)) in own:
                    raise _RefusedError
        yield handle


if sys.platform == "win32":  # where no folder can be opened, the system says what is open

    def _final_path(handle: int) -> Path:
        import ctypes
        import msvcrt
        from ctypes import wintypes

        final = ctypes.WinDLL("kernel32", use_last_error=True).GetFinalPathNameByHandleW
        final.argtypes = (wintypes.HANDLE, wintypes.LPWSTR, wintypes.DWORD, wintypes.DWORD)
        final.restype = wintypes.DWORD
        longest = 32_768  # letters of a path, the most that Windows has
        path = ctypes.create_unicode_buffer(longest)
        if not 0 < final(msvcrt.get_osfhandle(handle), path, longest, 0) < longest:
            raise OSError(ctypes.get_last_error(), "no path of what is open")
        return Path(path.value.removeprefix("\\\\?\\"))


@contextmanager
def _closing() -> Iterator[Callable[[int], int]]:
    """What is kept in the block is closed behind it."""
    handles: list[int] = []

    def keep(handle: int) -> int:
        handles.append(handle)
        return handle

    try:
        yield keep
    finally:
        for handle in handles:
            os.close(handle)
