"""Folders and files that nobody else may write: made so whatever the umask, put right where they are not, and refused
where that is not ours to do. Only the file system, and a word in the log."""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path
from typing import BinaryIO

_log = logging.getLogger(__name__)

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0
_HAS_MODES = os.name == "posix"  # elsewhere a file has no mode, and an owner that Python does not know
# Never the target of a link, and no wait for whoever has the other end of a pipe.
_AS_IT_IS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_told: set[str] = set()  # of which places it has been said that a group can write them


def make_folder(folder: Path) -> None:
    """Make it, and the folders it is in, where they are missing: for nobody else, whatever the umask.

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
    """A file that was not there, open to be written; `mode` is the most that anybody may do with it.

    Raises:
        OSError: it cannot be made, or something is there.
    """
    return open(file, "xb", opener=lambda path, flags: os.open(path, flags, mode))


def keep_folder(folder: Path, *, is_shared: bool = False) -> None:
    """See that nobody but this user, and root, can write a folder. Where its mode lets others, that is put right, with
    a word in the log. One that `is_shared` may be one in which nobody can take away what is another's, as /tmp.

    Raises:
        OSError: others can write it, and it is not ours to put right; or there is none.
    """
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not (is_shared and found.st_uid == _ROOT and found.st_mode & stat.S_ISVTX):
        _keep(folder, found, "folder")


def keep_file(file: Path) -> None:
    """The same for a file, which may not be a link."""
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    _keep(file, found, "file")


def _keep(place: Path, found: os.stat_result, what: str) -> None:
    if not _HAS_MODES:
        return
    if why := _whose(found):
        raise PermissionError(errno.EPERM, f"its {what} {why}")
    if not found.st_mode & _OTHERS:
        return
    if found.st_uid == os.geteuid():
        place.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
        if not place.stat().st_mode & _OTHERS:  # else of a file system without modes
            _log.warning("others could write this %s, and only this user can now: %s", what, place)
            return
    elif not found.st_mode & stat.S_IWOTH and found.st_gid in (os.getegid(), *os.getgroups()):
        if str(place) not in _told:  # a volume that an administrator has given to our group, most likely to us alone
            _told.add(str(place))
            _log.warning("a group can write this %s, which is root's: %s", what, place)
        return
    raise PermissionError(errno.EPERM, f"others can write its {what}")


def read_kept(file: Path, most: int) -> bytes:
    """What is in a file of this user's, or root's, that nobody else could write.

    Raises:
        ValueError: it is none, or holds more than `most` bytes; says so in words that its name goes before.
        OSError: it cannot be read.
    """
    if why := _why_not(file.lstat(), most):  # before it is opened, of which a device may take note
        raise ValueError(why)
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | _AS_IT_IS)) as stream:
        if why := _why_not(os.fstat(stream.fileno()), most):
            raise ValueError(why)
        return stream.read(most)


def _why_not(found: os.stat_result, most: int) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "is no file"
    if why := _whose(found):
        return why
    if _HAS_MODES and found.st_mode & _OTHERS:
        return "can be written by others"
    return "is too long" if found.st_size > most else ""


def _whose(found: os.stat_result) -> str:
    return "belongs to another user" if _HAS_MODES and found.st_uid not in (_ROOT, os.geteuid()) else ""
