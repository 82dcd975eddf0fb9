"""Folders and files that only this user, and root, may write.

They are made so whatever the umask is. One that others can write is put right, with a line in the log, or refused where
it belongs to another user.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

_log = logging.getLogger(__name__)

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0
_HAS_MODES = os.name == "posix"  # elsewhere a file has no mode, and Python does not know its owner
# Do not follow a link, and do not wait for the other end of a pipe.
_OPEN_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_warned: set[str] = set()  # places of which the log says already that a group can write them


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is in, where they are missing. Nobody else may use what is made.

    Raises:
        OSError: it cannot be made.
    """
    try:
        folder.mkdir(mode=stat.S_IRWXU)
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        make_folder(folder.parent)
        folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
    except OSError:
        if not folder.is_dir():
            raise


def new_file(file: Path, mode: int = stat.S_IRUSR | stat.S_IWUSR) -> BinaryIO:
    """Make a file and open it for writing. `mode` is its mode, less what the umask takes away.

    Raises:
        OSError: it cannot be made, or something of that name exists.
    """
    return open(file, "xb", opener=lambda path, flags: os.open(path, flags, mode))


def replace_file(
    file: Path, content: bytes, mode: int = stat.S_IRUSR | stat.S_IWUSR, *, is_exact: bool = False
) -> None:
    """Write a file in one step: whoever reads it meanwhile, or after a crash, gets all of the old or all of the new.

    Args:
        file: where it is to be. A link is replaced, not followed.
        mode: of the new file, whatever the umask is.

    Raises:
        OSError: it cannot be written. Nothing has changed.
    """
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with new_file(beside) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.chmod(mode)
        beside.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def keep_folder(folder: Path, *, is_shared: bool = False) -> None:
    """See that nobody but this user, and root, can write a folder; if its mode lets others, change the mode.

    A folder that `is_shared` may also be one like /tmp, in which everybody can write and nobody can remove what belongs
    to another.

    Raises:
        OSError: others can write it and this user cannot change that, or there is no such folder.
    """
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not (is_shared and found.st_uid == _ROOT and found.st_mode & stat.S_ISVTX):
        _keep(folder, found, "folder")


def keep_file(file: Path) -> None:
    """The same for a file. A link is refused."""
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    _keep(file, found, "file")


def _keep(place: Path, found: os.stat_result, what: str) -> None:
    if not _HAS_MODES:
        return
    if why := _foreign(found):
        raise PermissionError(errno.EPERM, f"its {what} {why}")
    if not found.st_mode & _OTHERS:
        return
    if found.st_uid == os.geteuid():
        place.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
        if not place.stat().st_mode & _OTHERS:  # else it is on a file system without modes
            _log.warning("others could write this %s, and only this user can now: %s", what, place)
            return
    elif not found.st_mode & stat.S_IWOTH and found.st_gid in (os.getegid(), *os.getgroups()):
        if str(place) not in _warned:  # an administrator has given our group a volume, most likely for us alone
            _warned.add(str(place))
            _log.warning("a group can write this %s, which is root's: %s", what, place)
        return
    raise PermissionError(errno.EPERM, f"others can write its {what}")


def read_kept(file: Path, most: int) -> bytes:
    """The content of a file that belongs to this user or root and that nobody else can write.

    Raises:
        ValueError: it is no such file, or holds more than `most` bytes. The message continues the file's name: "is …".
        OSError: it cannot be read.
    """
    if why := _fault(file.lstat(), most):  # before it is opened: opening a device can have an effect
        raise ValueError(why)
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | _OPEN_FLAGS)) as stream:
        if why := _fault(os.fstat(stream.fileno()), most):
            raise ValueError(why)
        return stream.read(most)


def _fault(found: os.stat_result, most: int) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "is no file"
    if why := _foreign(found):
        return why
    if _HAS_MODES and found.st_mode & _OTHERS:
        return "can be written by others"
    return "is too long" if found.st_size > most else ""


def _foreign(found: os.stat_result) -> str:
    return "belongs to another user" if _HAS_MODES and found.st_uid not in (_ROOT, os.geteuid()) else ""
