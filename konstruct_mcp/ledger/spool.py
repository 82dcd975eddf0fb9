"""The folder in which rows wait while the ledger cannot be written: one file for each row.

- A file is written under another name, brought to the disk and then renamed. It is never changed afterwards.
- It is removed only after its row is in the ledger.
- A row has its id, so that it counts once, whichever process writes it into the ledger, and however often.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from konstruct_mcp.core.files import keep_folder, make_folder, new_file, read_kept
from konstruct_mcp.core.text import cut

_log = logging.getLogger(__name__)

_BALLAST_BYTES = 1 << 20  # the room of about 250 rows, which is released when the disk is full
_ROW_BYTES = 1 << 12  # no less than a usual row needs
_MOST_BYTES = 1 << 20  # of a row: far more than that of a call with hundreds of tries
_AGAIN_S = 60.0  # until a row that the database has refused is tried again
_LONGEST_ID = 64  # bytes of a ledger's id
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Spool:
    """The rows that wait in one `folder`, which several processes may share. Its methods block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        self._said: set[str] = set()  # files of which the log says that they cannot be read or are refused
        self._mark = folder / "ledger.id"
        self._unremovable: set[str] = set()  # files that are done with, in a folder that lets nobody remove them
        self._retry_at: dict[str, float] = {}  # of each file whose row the database has refused

    def ledger_id(self) -> str | None:
        """The id of the ledger that this folder belongs to, as `mark` has noted it; None where nobody has."""
        try:
            return read_kept(self._mark, _LONGEST_ID).decode().strip() or None
        except (OSError, ValueError):
            return None

    def mark(self, ledger_id: str) -> None:
        """Note which ledger this folder belongs to, if the folder can be written."""
        with contextlib.suppress(OSError):
            self._enter()
            with self._replacing(self._mark) as file:
                file.write(ledger_id.encode())

    def prepare(self) -> OSError | None:
        """Make the folder, and in it the ballast: a file that keeps room for rows when the disk is full.

        Returns: why no row can be put here now, None where one can.
        """
        try:
            self._enter()
            if not self._ballast.exists():
                with contextlib.suppress(OSError):
                    self._try_out(_BALLAST_BYTES, self._ballast)
            self._try_out(_ROW_BYTES)
        except OSError as error:
            if error.errno not in _FULL or not self._ballast.exists():
                return error
        return None

    def _enter(self) -> None:
        """See that the folder is there, and that nobody else can write it.

        Raises:
            OSError: it is not, or others can.
        """
        make_folder(self.folder)
        keep_folder(self.folder)

    def _try_out(self, size: int, keep_as: Path | None = None) -> None:
        with self._replacing(keep_as) as file:
            # Random, since a file system may compress equal bytes, or not store them at all.
            file.write(os.urandom(size))

    @contextlib.contextmanager
    def _replacing(self, place: Path | None) -> Iterator[BinaryIO]:
        """A file to write, under a name that nobody can foresee. Once written it replaces `place`, if one is given."""
        part = self.folder / f"{uuid.uuid4()}.part"
        try:
            with new_file(part) as file:
                yield file
            if place is not None:
                part.replace(place)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def put(self, row_id: str, row: dict[str, Any]) -> None:
        """Bring a row to the disk, in the room of the ballast if there is no other.

        Raises:
            OSError: it cannot be written.
        """
        try:
            self._write(row_id, row)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._ballast.unlink(missing_ok=True)
            self._write(row_id, row)

    def _write(self, row_id: str, row: dict[str, Any]) -> None:
        self._enter()
        with self._replacing(self.folder / f"{row_id}.json") as file:  # two threads may put the same row
            file.write(json.dumps(row).encode())
            file.flush()
            os.fsync(file.fileno())
        self._sync_folder()

    def _sync_folder(self) -> None:
        if os.name == "posix":  # elsewhere a folder cannot be opened, nor need it be
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def count(self) -> int:
        """How many rows wait; 0 where there is no such folder."""
        try:
            return sum(entry.name.endswith(".json") for entry in os.scandir(self.folder))
        except OSError:
            return 0

    def rows(self) -> Iterator[tuple[Path, bytes]]:
        """Each file that waits, and its content. A file that cannot be ours is put aside."""
        try:
            keep_folder(self.folder)
            files = sorted(file for file in self.folder.iterdir() if file.name.endswith(".json"))
        except OSError:
            return
        for file in files:
            name = file.name
            if name in self._unremovable or self._retry_at.get(name, 0.0) > time.monotonic():
                continue
            try:
                row = read_kept(file, _MOST_BYTES)
            except FileNotFoundError:
                continue  # another process has folded it in
            except ValueError as error:
                self.put_aside(file, str(error))
            except OSError as error:
                self._say_once(name, "a row of the spool cannot be read (%s): %s", error.strerror, cut(name))
            else:
                yield file, row

    def put_aside(self, file: Path, why: str = "is damaged") -> None:
        """Keep a file that can never be written into the ledger under another name, for somebody to look at."""
        _log.error("a row of the spool %s and is put aside: %s", why, cut(file.name))
        try:
            file.replace(file.with_suffix(".bad"))
        except OSError:
            self._unremovable.add(file.name)

    def leave(self, file: Path, why: str) -> None:
        """Keep a row that the database refuses for reasons of its own, and try it again later."""
        self._retry_at[file.name] = time.monotonic() + _AGAIN_S
        self._say_once(file.name, "the ledger refuses a row of its spool, where it stays (%s): %s", why, cut(file.name))

    def _say_once(self, name: str, *line: object) -> None:
        if name not in self._said:
            self._said.add(name)
            _log.warning(*line)

    def drop(self, file: Path) -> None:
        """Remove a file whose row is in the ledger."""
        self._retry_at.pop(file.name, None)
        try:
            file.unlink(missing_ok=True)
        except OSError:
            self._unremovable.add(file.name)
