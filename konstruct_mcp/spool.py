"""Where rows of the ledger wait while it cannot be written: a folder with one file for each.

A file is written whole under another name, brought to the disk and then renamed; it is never changed, and removed only
after its row is in the ledger. A row carries its id, so whoever folds it in, and however often, it counts once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

_BALLAST_BYTES = 1 << 20  # kept free for the rows of about 250 calls, for the day when the disk is full
_ROW_BYTES = 1 << 12  # at least as many as a row needs
_LONGEST_ID = 64  # bytes of a ledger's id
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Spool:
    """The rows that wait in one `folder`, which several processes may share. Its methods block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        self._mark = folder / "ledger.id"
        self._unreadable: set[str] = set()  # of which it has been said
        self._done: set[str] = set()  # of no use any more, but in a folder that lets nobody remove them

    def ledger_id(self) -> str | None:
        """Which ledger this folder is beside, as `mark` has noted it; None where nobody has."""
        try:
            # Whatever else lies under that name, no pipe is waited for.
            found = os.open(self._mark, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            try:
                return os.read(found, _LONGEST_ID).decode().strip() or None
            finally:
                os.close(found)
        except (OSError, ValueError):
            return None

    def mark(self, ledger_id: str) -> None:
        """Note beside which ledger this folder is, as far as it can be written."""
        part = self.folder / f"{ledger_id}.{os.getpid()}.{threading.get_ident()}.part"
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(ledger_id)
            part.replace(self._mark)

    def prepare(self) -> OSError | None:
        """Make the folder, and in it a file that only takes up room, which a full disk would not give us.

        Returns: why no row can be brought here now, None where one can.
        """
        try:
            self.folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
            if not self._ballast.exists():
                with contextlib.suppress(OSError):
                    self._try_out(_BALLAST_BYTES, self._ballast)
            self._try_out(_ROW_BYTES)
        except OSError as error:
            if error.errno not in _FULL or not self._ballast.exists():
                return error
        return None

    def _try_out(self, size: int, keep_as: Path | None = None) -> None:
        part = self.folder / f"{size}.{os.getpid()}.{threading.get_ident()}.part"
        try:
            # Random, since a file system may compress or leave out what is all the same.
            part.write_bytes(os.urandom(size))
            if keep_as is not None:
                part.replace(keep_as)
        finally:
            part.unlink(missing_ok=True)

    def put(self, row_id: str, row: dict[str, Any]) -> None:
        """Bring a row to the disk.

        Raises:
            OSError: it cannot be; not even in the room of the ballast.
        """
        try:
            self._write(row_id, row)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._ballast.unlink(missing_ok=True)
            self._write(row_id, row)

    def _write(self, row_id: str, row: dict[str, Any]) -> None:
        self.folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
        part = self.folder / f"{row_id}.{threading.get_ident()}.part"  # two threads may bring the same row
        try:
            with part.open("wb") as file:
                file.write(json.dumps(row).encode())
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / f"{row_id}.json")
            self._sync_folder()
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise

    def _sync_folder(self) -> None:
        if os.name == "posix":  # elsewhere a folder cannot be opened, nor need it be
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def rows(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Each row that waits, and its file; what cannot be read is put aside."""
        try:
            files = sorted(self.folder.glob("*.json"))
        except OSError:
            return
        for file in files:
            if file.name in self._done:
                continue
            try:
                row = json.loads(file.read_bytes())
                if not isinstance(row, dict):
                    raise ValueError("no row")  # noqa: TRY004  as what JSON raises
            except FileNotFoundError:
                continue  # another process has folded it in
            except ValueError:
                self.put_aside(file)
            except OSError as error:
                if file.name not in self._unreadable:
                    self._unreadable.add(file.name)
                    _log.warning("a row of the spool cannot be read (%s): %s", error.strerror, file.name)
            else:
                yield file, row

    def put_aside(self, file: Path) -> None:
        """Keep a row that can never be folded in, for somebody to look at."""
        _log.error("a row of the spool is damaged and is put aside: %s", file.name)
        try:
            file.replace(file.with_suffix(".bad"))
        except OSError:
            self._done.add(file.name)

    def drop(self, file: Path) -> None:
        """Its row is in the ledger."""
        try:
            file.unlink(missing_ok=True)
        except OSError:
            self._done.add(file.name)
