"""What differs between databases: how they are opened, locked, brought to the disk and missed.

SQLite is one file, which can be moved or removed while it is open. Any other database is a server.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from konstruct_mcp.core.errors import LedgerError
from konstruct_mcp.core.files import keep_file, keep_folder, make_folder
from konstruct_mcp.core.secrets import with_whole_password
from konstruct_mcp.ledger.transactions import PipelinedTransaction, Transaction

_MIGRATION_LOCK = 0x6B6F6E73747275  # any number that no other program uses for a PostgreSQL advisory lock
_WAL_RETRY_S = 0.01  # between tries to switch a new file to WAL


def open_database(url: str, patience_s: float) -> Server | SQLite:
    """The database at a URL; nothing is connected yet.

    Args:
        patience_s: how long to wait for a connection, a lock or a statement.

    Raises:
        LedgerError: the URL cannot be used at all.
    """
    try:
        parsed = sa.make_url(with_whole_password(url))
        if parsed.get_backend_name() == "sqlite":
            return SQLite(parsed, patience_s)
        return Server(parsed, patience_s)
    except (sa.exc.ArgumentError, ImportError, ValueError) as error:
        what = "driver is not installed" if isinstance(error, ImportError) else "URL cannot be used"
        raise LedgerError(f"the ledger's {what}; see konstruct.ledger_url and KONSTRUCT_LEDGER_URL") from None


class MovedError(OSError):
    """The ledger's file is not where it was: nobody would find what is written to the open one."""

    connection_invalidated = True  # as SQLAlchemy says of an error after which only a new connection helps


class Server:
    """A database server: PostgreSQL, or another that SQLAlchemy knows.

    Attributes:
        portion: how many rows are deleted at once: all, as nobody waits for that, and each time all would be searched.
    """

    portion: int | None = None

    def __init__(self, url: sa.URL, patience_s: float) -> None:
        # Whatever the server's default: what is read under the lock must be what the holder before has written.
        options: dict[str, Any] = {"isolation_level": "READ COMMITTED"}
        self._is_postgresql = url.get_backend_name() == "postgresql"
        if self._is_postgresql:
            milliseconds = round(patience_s * 1000)
            more: dict[str, Any] = {}
            if url.query.get("pgbouncer") == "true":
                # It hands each transaction to another of its connections: what one prepares the next does not have, and
                # limits of a connection are the role's (docs/ledger.md).
                more["prepare_threshold"] = None
            else:
                limits = f"-c lock_timeout={milliseconds} -c statement_timeout={milliseconds}"
                more["options"] = f"{limits} {url.query.get('options', '')}".strip()
            url = url.difference_update_query(["pgbouncer"])
            options["connect_args"] = {
                "connect_timeout": max(2, round(patience_s)),
                "tcp_user_timeout": milliseconds,
                **more,
            }
        self.engine = sa.create_engine(url, **options)
        self._is_pipelined = self._is_postgresql and self.engine.dialect.driver == "psycopg"

    def prepare(self) -> OSError | None:
        """Nothing is needed before a connection."""
        return None

    def note_identity(self) -> None:
        """A server needs no note."""

    def check_identity(self) -> None:
        """A server stays where it is."""

    def lock_migration(self, connection: sa.Connection) -> None:
        """Let one process at a time migrate."""
        if self._is_postgresql:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))

    def transaction(self, connection: sa.Connection) -> Transaction:
        """What can be done in the transaction that is open on this connection."""
        if self._is_pipelined:
            return PipelinedTransaction(connection)
        return Transaction(connection, locks_rows=True)

    def take_time(self, connection: sa.Connection) -> None:
        """Let the statements of this transaction take as long as they take."""
        if self._is_postgresql:
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")

    def open_log(self) -> None:
        """A server keeps its own log."""

    def sync(self) -> None:
        """A server brings each transaction to its disk by itself."""

    def close(self) -> None:
        self.engine.dispose()


class SQLite:
    """An SQLite file in WAL mode, where the file system allows that.

    - BEGIN IMMEDIATE takes the only writer's lock, so that no row is locked besides.
    - A transaction is given to the system when it commits, and brought to the disk by `sync`.

    Attributes:
        portion: how many rows are deleted at once, while nobody else can write.
    """

    portion: int | None = 5_000

    def __init__(self, url: sa.URL, patience_s: float) -> None:
        self._path = url.database or ""
        self._wal: int | None = None  # the descriptor of the write-ahead log
        self._identity: tuple[int, int] | None = None
        self.engine = sa.create_engine(url, connect_args={"timeout": patience_s})
        sa.event.listen(self.engine, "connect", functools.partial(_set_up_connection, patience_s))
        sa.event.listen(self.engine, "begin", _begin)

    def prepare(self) -> OSError | None:
        """Make the file and its folder, and keep others from writing them.

        Returns: why the file cannot be opened, where it cannot; SQLite itself would not say.

        Raises:
            OSError: others can write it, and that cannot be changed.
        """
        file = Path(self._path)
        try:
            make_folder(file.parent)
            file.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not os.access(file, os.R_OK | os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            return error
        file = file.resolve()
        keep_folder(file.parent, is_shared=True)
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                keep_file(file.with_name(f"{file.name}{suffix}"))
        return None

    def note_identity(self) -> None:
        """Remember which file is open."""
        self._identity = self._identify()

    def check_identity(self) -> None:
        """See whether the file that is open is the one that the next process will open.

        Raises:
            MovedError: it is not.
        """
        is_cut_off = self._wal is not None and os.fstat(self._wal).st_nlink == 0
        if is_cut_off or self._identify() != self._identity:
            raise MovedError(errno.ENOENT, "its file was moved or removed")

    def _identify(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116  before each transaction, and a Path takes longer
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def lock_migration(self, connection: sa.Connection) -> None:
        """BEGIN IMMEDIATE has taken the lock."""

    def transaction(self, connection: sa.Connection) -> Transaction:
        """What can be done in the transaction that is open on this connection. BEGIN IMMEDIATE has taken the lock."""
        return Transaction(connection, locks_rows=False)

    def take_time(self, connection: sa.Connection) -> None:
        """Nothing limits them."""

    def open_log(self) -> None:
        """Open the write-ahead log once, for a time when the process may open no more files."""
        if self._wal is None:
            with contextlib.suppress(FileNotFoundError):  # no WAL on this file system: SQLite waits for the disk
                self._wal = os.open(f"{self._path}-wal", os.O_RDWR)

    def sync(self) -> None:
        """Bring what was committed to the disk. A killed process loses nothing without this, but a power cut may.

        Raises:
            OSError: the disk has not taken it.
        """
        self.open_log()
        if self._wal is not None:
            os.fsync(self._wal)

    def close(self) -> None:
        if self._wal is not None:
            os.close(self._wal)
            self._wal = None
        self.engine.dispose()


def _set_up_connection(patience_s: float, connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # else the driver begins transactions of its own kind
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        mode = _switch_to_wal(connection, patience_s)
    # To wait for a disk that was idle takes longer than all else; `sync` does it when the answer is on its way.
    connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == 'wal' else 'FULL'}")


def _switch_to_wal(connection: sqlite3.Connection, patience_s: float) -> Any:
    """Switch the file to WAL. Returns the journal mode that it has then.

    SQLite does not wait here while another process writes the file, as happens when two open a new one at once.
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            return connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_WAL_RETRY_S)


def _begin(connection: sa.Connection) -> None:
    # The writer's lock at once: a reader that turns into a writer may be refused, and so may the one it waits for.
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reading") else "BEGIN IMMEDIATE")
