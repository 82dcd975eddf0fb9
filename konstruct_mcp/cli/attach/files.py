"""A client's file: read, edited, and written in one step, with what was there before kept beside it."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from konstruct_mcp.core.files import replace_file

_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
BACKUP = ".konstruct.bak"  # behind the file's own name


class FileError(Exception):
    """A file that cannot be read or written. Says why, and not which."""


@dataclass(frozen=True, slots=True)
class ClientFile:
    """One file of a client. A link is followed, and stays one.

    Attributes:
        mode: of the file where it is made.
    """

    path: Path
    mode: int = 0o600

    @property
    def backup(self) -> Path:
        return self.path.with_name(self.path.name + BACKUP)

    def read(self) -> str | None:
        """Its text, line ends as they are; None where there is no such file.

        Raises:
            FileError: it cannot be read.
        """
        return _read(self.path)

    def before(self) -> str | None:
        """What was there before the last change; None where there was no file, or nobody knows."""
        with contextlib.suppress(FileError):
            return _read(self.backup)
        return None

    def write(self, text: str, was: str | None, *, keep: bool = True) -> None:
        """Replace the text, in one step.

        Args:
            was: the text that was read.
            keep: whether that is kept as the backup.

        Raises:
            FileError: it cannot be written, or has changed since it was read.
        """
        target = Path(os.path.realpath(self.path))
        try:
            mode = self.mode if was is None else stat.S_IMODE(target.stat().st_mode)
            if not mode & stat.S_IWUSR:
                raise FileError("it is read-only")
            target.parent.mkdir(parents=True, exist_ok=True)
            if was is not None and keep:
                replace_file(self.backup, was.encode(), mode)
            if _read(target) != was:
                raise FileError("it has just been changed by another program; try again")
            replace_file(target, text.encode(), mode)
        except OSError as error:
            raise FileError(error.strerror or "it cannot be written") from None

    def remove(self) -> None:
        """Remove it, where a change had made it. A link to it stays."""
        try:
            Path(os.path.realpath(self.path)).unlink()
        except OSError as error:
            raise FileError(error.strerror or "it cannot be removed") from None

    def forget(self) -> None:
        """Remove the backup."""
        with contextlib.suppress(OSError):
            self.backup.unlink()


def is_there(path: Path) -> bool:
    """Whether a path leads to something. What cannot be looked at is not there."""
    return os.path.exists(path)  # noqa: PTH110  Path.exists raises in a folder of somebody else's


def edited(text: str, edit: Callable[[str], str]) -> str:
    """The text after an edit, with the byte order mark and the line ends that it had."""
    mark = _BOM if text.startswith(_BOM) else ""
    made = mark + edit(text.removeprefix(_BOM))
    if "\r\n" in text and not re.search(r"(?<!\r)\n", text):
        made = re.sub(r"(?<!\r)\n", "\r\n", made)
    return made


def plain(text: str) -> str:
    """The text without a byte order mark, and with one kind of line ends, as it is parsed."""
    return text.removeprefix(_BOM)


def _read(path: Path) -> str | None:
    try:
        if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
            raise FileError("it is no file")  # a pipe would keep us waiting, and a device would be replaced
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise FileError("it is not UTF-8") from None
    except OSError as error:
        raise FileError(error.strerror or "it cannot be read") from None
