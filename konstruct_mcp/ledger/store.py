"""The ledger's tables, and what is done to them in one transaction: the only module that knows SQLAlchemy.

Plain SQL that every database speaks. What makes it safe for several processes at once is one lock: SQLite gives its
only writer's lock with BEGIN IMMEDIATE, others lock the row of each tenant that a transaction touches, in the order
of their ids. Under it, reading what is spent, comparing and adding to it are one step.

    konstruct_calls         one row per call
    konstruct_spend         its sums by day, tenant, group and model: what budgets and reports read
    konstruct_reservations  what calls under way can cost at most; a row lapses unless its process renews it
    konstruct_tenants       a row to lock
    konstruct_ledger        one row: which ledger this is

What a call can have cost stays on its budgets until it is known. A reservation that lapses is not money that is free
again: its process has died while a provider was at work, so that its call becomes a row of its own (`lost`), of unknown
cost and with the reservation as its bound. Should the process be back, its own row takes the place of that one.

All amounts are whole nano-dollars; times are UTC.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import sqlite3
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from konstruct_mcp.config.masking import with_whole_password
from konstruct_mcp.core.budgets import Budget, BudgetState, Grant, Quote, Reserve
from konstruct_mcp.core.errors import LedgerError
from konstruct_mcp.core.files import keep_file, keep_folder, make_folder
from konstruct_mcp.core.money import MOST_NUSD
from konstruct_mcp.core.spending import SPEND_SUMS, Call, Charge, Spend

HEAD = "0003"  # the newest migration: what this version reads and writes
_VERSION_TABLE = "konstruct_version"
_MIGRATION_LOCK = 0x6B6F6E73747275  # any number that no other program uses for a PostgreSQL advisory lock
LEASE_S = 120  # what a reservation is good for unless it is renewed
LOST = "lost"  # the outcome of a call whose process has died
_DISAGREE_S = 120  # how far the clocks of machines that share a ledger may be apart (docs/tenants-and-budgets.md)
_TIDY_S = 5  # between two looks for reservations that have lapsed,
_LONG_AGO_S = 86_400  # and how long it is remembered what each was, for a process that comes back
_SWITCH_S = 0.01  # between tries to switch a new file to WAL


metadata = sa.MetaData()
_id = sa.String(36)
_tenant = sa.String(128)
_name = sa.String(512)

calls = sa.Table(
    "konstruct_calls",
    metadata,
    sa.Column("id", _id, primary_key=True),
    sa.Column("time", sa.String(27), nullable=False),  # ISO 8601, UTC: sorts by time in every database
    sa.Column("tenant", _tenant, nullable=False),
    sa.Column("group_asked", _name, nullable=False),
    sa.Column("group_served", _name),
    sa.Column("model", _name),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_nusd", sa.BigInteger),
    sa.Column("duration_ms", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.String(32), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("most_nusd", sa.BigInteger),
    sa.Column("uncounted", sa.Integer, nullable=False, server_default="0"),
)
spend = sa.Table(
    "konstruct_spend",
    metadata,
    sa.Column("tenant", _tenant, primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("group", _name, primary_key=True),
    sa.Column("model", _name, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("unpriced", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_nusd", sa.BigInteger, nullable=False),
    sa.Column("held_nusd", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("unbounded", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("ix_konstruct_spend_group", "group", "day"),
)
tenants = sa.Table("konstruct_tenants", metadata, sa.Column("id", _tenant, primary_key=True))
ledger = sa.Table("konstruct_ledger", metadata, sa.Column("id", _id, primary_key=True))
reservations = sa.Table(
    "konstruct_reservations",
    metadata,
    sa.Column("call_id", _id, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("owner", _id, nullable=False, index=True),
    sa.Column("tenant", _tenant, nullable=False, index=True),
    sa.Column("group", _name, nullable=False),
    sa.Column("amount_nusd", sa.BigInteger, nullable=False),
    sa.Column("lapses_at", sa.BigInteger, nullable=False, index=True),  # seconds since 1970
    sa.Column("model", _name),
    sa.Column("held_on", sa.String(10)),  # since it has lapsed, and is in the sums of that day
)
_KEY = tuple(column.name for column in spend.primary_key.columns)
_OF, _MORE = [f"of_{name}" for name in _KEY], [f"more_{name}" for name in SPEND_SUMS]


class _Ready:
    """A statement that every call executes, as the driver takes it: SQLAlchemy takes longer to look up what it has
    compiled, and to fit the values into it, than the database takes to execute it."""

    def __init__(self, statement: sa.ClauseElement) -> None:
        self._statement = statement
        # By dialect and driver: SQL, and the order of its values.
        self._written: dict[tuple[str, str], tuple[str, list[str] | None]] = {}

    def execute(self, connection: sa.Connection, *rows: Mapping[str, Any]) -> int:
        """How many rows it has changed."""
        dialect = connection.dialect
        written = self._written.get((dialect.name, dialect.driver))
        if written is None:
            compiled: Any = self._statement.compile(dialect=dialect)
            written = self._written[dialect.name, dialect.driver] = str(compiled), compiled.positiontup
        sql, names = written
        values: list[Any] = list(rows) if names is None else [tuple(row[name] for name in names) for row in rows]
        result = connection.exec_driver_sql(sql, values if len(values) > 1 else values[0], _COUNTING)
        return result.rowcount


_COUNTING = {"preserve_rowcount": True}

# What every call executes, made once: to make it takes SQLAlchemy longer than the database takes for it.
_INSERT_CALL = _Ready(sa.insert(calls))
_INSERT_SPEND = sa.insert(spend)
_ADD_SPEND = _Ready(
    sa.update(spend)
    .where(*(spend.c[name] == sa.bindparam(of) for name, of in zip(_KEY, _OF, strict=True)))
    .values({name: spend.c[name] + sa.bindparam(more) for name, more in zip(SPEND_SUMS, _MORE, strict=True)})
)
_FIND_CALLS = sa.select(calls.c.id, calls.c.outcome, calls.c.time).where(
    calls.c.id.in_(sa.bindparam("ids", expanding=True))
)
_FIND_TENANTS = sa.select(tenants.c.id).where(tenants.c.id.in_(sa.bindparam("ids", expanding=True)))
_LOCK = (
    sa.select(tenants.c.id)
    .where(tenants.c.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(tenants.c.id)
    .with_for_update()
)
_IS_OPEN = reservations.c.held_on.is_(None)
# Its own a process never takes for lapsed: it is there, though its machine may have slept.
_IS_LAPSED = sa.and_(
    reservations.c.lapses_at < sa.bindparam("now"), reservations.c.owner != sa.bindparam("owner"), _IS_OPEN
)
_WHOSE_LAPSED = sa.select(reservations.c.tenant).where(_IS_LAPSED).distinct()
_LAPSED = (
    sa.select(reservations)
    .where(_IS_LAPSED, reservations.c.tenant.in_(sa.bindparam("ids", expanding=True)))
    .order_by(reservations.c.call_id, reservations.c.attempt)
    .with_for_update()
)
_HOLD = (
    sa.update(reservations)
    .where(reservations.c.call_id == sa.bindparam("id"), reservations.c.attempt == sa.bindparam("of_attempt"))
    .values(held_on=sa.bindparam("day"))
)
_HELD = (
    sa.select(reservations)
    .where(reservations.c.call_id.in_(sa.bindparam("ids", expanding=True)), sa.not_(_IS_OPEN))
    .order_by(reservations.c.call_id, reservations.c.attempt)
)
_FORGET_HELD = sa.delete(reservations).where(reservations.c.lapses_at < sa.bindparam("before"), sa.not_(_IS_OPEN))
_TAKE_BACK = sa.delete(calls).where(calls.c.id.in_(sa.bindparam("ids", expanding=True)))
# One made by a clock that was ahead, of a process that is dead, would stand for as long as that clock was ahead. It is
# not taken for lapsed at once, since its process may be there, and renews it when it next looks at its clock.
_SHORTEN = (
    sa.update(reservations)
    .where(reservations.c.lapses_at > sa.bindparam("latest"))
    .values(lapses_at=sa.bindparam("instead"))
)
_GIVE_UP = sa.delete(reservations).where(reservations.c.call_id.in_(sa.bindparam("ids", expanding=True)))
_GIVE_UP_ONE = sa.delete(reservations).where(
    reservations.c.call_id == sa.bindparam("id"), reservations.c.attempt == sa.bindparam("of_attempt"), _IS_OPEN
)
_GIVE_UP_BUT = sa.delete(reservations).where(
    reservations.c.call_id == sa.bindparam("id"),
    reservations.c.attempt.not_in(sa.bindparam("kept", expanding=True)),
    _IS_OPEN,
)


_NEXT_GROUP = sa.select(sa.func.min(spend.c.group)).where(spend.c.group > sa.bindparam("name"))
_SPENT_ON = (
    sa.select(spend.c.tenant, spend.c.day, sa.func.sum(spend.c.cost_nusd + spend.c.held_nusd))
    .where(spend.c.group == sa.bindparam("name"), spend.c.day >= sa.bindparam("since"))
    .group_by(spend.c.tenant, spend.c.day)
)
_ZERO: sa.ColumnElement[int] = sa.literal_column("0")


def _spent(what: sa.ColumnElement[int], suffix: str, groups: int) -> sa.ColumnElement[int]:
    """What of it a tenant has spent between two days, on so many groups or, for 0, on all."""
    query = sa.select(sa.func.coalesce(sa.func.sum(what), _ZERO)).where(
        spend.c.tenant == sa.bindparam("tenant"),
        spend.c.day.between(sa.bindparam(f"first{suffix}"), sa.bindparam(f"last{suffix}")),
    )
    return _on(query, spend.c.group, suffix, groups)


def _reserved(suffix: str, groups: int, *which: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    """What a tenant has reserved now, whether or not it has lapsed."""
    query = sa.select(sa.func.coalesce(sa.func.sum(reservations.c.amount_nusd), _ZERO)).where(
        reservations.c.tenant == sa.bindparam("tenant"), _IS_OPEN, *which
    )
    return _on(query, reservations.c.group, suffix, groups)


def _on(query: sa.Select[Any], group: sa.Column[str], suffix: str, groups: int) -> sa.ColumnElement[int]:
    if groups:
        query = query.where(group.in_([sa.bindparam(f"group{number}{suffix}") for number in range(groups)]))
    return query.scalar_subquery()


@functools.cache
def _looking(groups: int) -> sa.Select[int, int, int, int]:
    """What is spent of a budget on so many groups, what is held of it, what is reserved, and what of that has lapsed:
    it is as good as held."""
    return sa.select(
        _spent(spend.c.cost_nusd, "", groups),
        _spent(spend.c.held_nusd, "", groups),
        _reserved("", groups),
        _reserved("", groups, _IS_LAPSED),
    )


@functools.cache
def _reserving(groups: tuple[int, ...]) -> _Ready:
    """The insertion of a reservation within budgets, each on so many groups of its own."""
    amount = sa.cast(sa.bindparam("amount_nusd"), sa.BigInteger)
    query = sa.select(*(sa.cast(sa.bindparam(column.name), column.type) for column in reservations.columns))
    for number, count in enumerate(groups):
        suffix = f"_of_{number}"
        limit = sa.cast(sa.bindparam(f"limit{suffix}"), sa.BigInteger)
        spent = _spent(spend.c.cost_nusd + spend.c.held_nusd, suffix, count)
        query = query.where(limit - spent - _reserved(suffix, count) >= amount)
    return _Ready(sa.insert(reservations).from_select([column.name for column in reservations.columns], query))


def _values_of(budget: Budget, now: datetime, suffix: str = "") -> dict[str, Any]:
    first, last = budget.days(now)
    groups = {f"group{number}{suffix}": group for number, group in enumerate(budget.counted)}
    return {f"first{suffix}": first, f"last{suffix}": last, f"limit{suffix}": budget.limit_nusd, **groups}


_NO_QUOTE = Quote(0, Fraction(), Fraction(), 0, True)
_NOBODYS_RESERVE = Reserve("", 1, (), "", "", "", "", _NO_QUOTE, (Budget(0, "total"),), 0)
_NOBODYS_CALL = Call("", "", "", "", "", "", (Charge("", "", 0, 0, 0, 0),), 0, 0, "ok", 1, reserved=True)


class _TakenBackError(Exception):
    """What was written was not meant to stay."""


class MovedError(OSError):
    """The ledger's file is not where it was: what is written to the open one, nobody will find."""

    connection_invalidated = True  # as SQLAlchemy says of an error after which only a new connection helps


class Store:
    """An open ledger. Its methods block; each is one transaction, or two where it says so. Its `id` says which one it
    is, whatever its file is called.

    Raises:
        LedgerError: the URL cannot be used at all, or a newer version wrote the ledger.
        sqlalchemy.exc.DBAPIError, OSError: it is out of reach now. So does every method.
    """

    def __init__(self, url: str, patience_s: float) -> None:
        try:
            self._url = sa.make_url(with_whole_password(url))
            self._engine = sa.create_engine(self._url, **_engine_arguments(self._url, patience_s))
        except (sa.exc.ArgumentError, ImportError, ValueError) as error:
            what = "driver is not installed" if isinstance(error, ImportError) else "URL cannot be used"
            raise LedgerError(f"the ledger's {what}; see konstruct.ledger_url and KONSTRUCT_LEDGER_URL") from None
        self._introduced: set[str] = set()
        self._tidied_at = 0.0  # by the clock on the wall, as the reservations are
        self._unsynced = False
        self._sqlite = self._url.get_backend_name() == "sqlite"
        self._wal: int | None = None
        obstacle = None
        if self._sqlite:
            sa.event.listen(self._engine, "connect", functools.partial(_set_up_sqlite, patience_s))
            sa.event.listen(self._engine, "begin", _begin_sqlite)
            obstacle = self._make_room()
            if obstacle is None:
                self._keep()
        self._writer: sa.Connection | None = None
        try:
            self._migrate()
            with self._reading() as connection:
                self.id = str(connection.scalar(sa.select(ledger.c.id).limit(1)))
            # Kept: to take one from the pool for each transaction would take as long as what is done in it.
            self._writer = self._engine.connect()
            self._identity = self._identify()
        except BaseException as error:
            self.close()
            if obstacle is not None and isinstance(error, sa.exc.DBAPIError):
                raise obstacle from None  # SQLite says no more than that it cannot open the file
            raise

    def close(self) -> None:
        if self._wal is not None:
            os.close(self._wal)
            self._wal = None
        if self._writer is not None:
            self._writer.close()
        self._engine.dispose()

    def is_there(self) -> None:
        """Whether what is open is what the next process will open.

        Raises:
            MovedError: it is not.
        """
        is_cut_off = self._wal is not None and os.fstat(self._wal).st_nlink == 0
        if is_cut_off or self._identify() != self._identity:
            raise MovedError(errno.ENOENT, "its file was moved or removed")

    def _identify(self) -> tuple[int, int] | None:
        """Which file it is; None for none, and for a database server."""
        if not self._sqlite:
            return None
        try:
            found = os.stat(self._url.database or "")  # noqa: PTH116  at every turn of the ledger, and a Path takes longer
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        assert self._writer is not None  # noqa: S101  # or there is no store
        with self._writer.begin():
            yield self._writer

    def can_be_written(self) -> bool:
        """Whether it can, just after it was not: then it is what was to be written that it refuses."""
        try:
            self.is_there()
            self.try_out()
        except Exception:  # whatever it is, the database is in no state to judge a row by
            return False
        return True

    def _make_room(self) -> OSError | None:
        """The file's folder and the file, for nobody else to read; what stands in the way of that."""
        file = Path(self._url.database or "")
        try:
            make_folder(file.parent)
            file.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not os.access(file, os.R_OK | os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            return error
        return None

    def _keep(self) -> None:
        """See that nobody else can write the file, what SQLite has beside it, or the folder that it is in.

        Raises:
            OSError: others can.
        """
        file = Path(self._url.database or "").resolve()
        keep_folder(file.parent, is_shared=True)
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                keep_file(file.with_name(f"{file.name}{suffix}"))

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            if self._revision(connection.execution_options(reading=True)) == HEAD:
                return
        with self._engine.begin() as connection:
            if self._url.get_backend_name() == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            if self._revision(connection) != HEAD:  # else another process was here first
                from konstruct_mcp.ledger.migrations import upgrade

                upgrade(connection, _VERSION_TABLE)

    def _revision(self, connection: sa.Connection) -> str | None:
        if not sa.inspect(connection).has_table(_VERSION_TABLE):
            return None
        revision = connection.scalar(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608  our constant
        if revision is not None and revision > HEAD:
            raise LedgerError(
                f"the ledger was written by a newer version of konstruct-mcp (its revision is {revision}, and this "
                f"version knows those up to {HEAD}); upgrade konstruct-mcp, or name another ledger"
            )
        return None if revision is None else str(revision)

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(
        self, recorded: Sequence[Call], wanted: Sequence[Reserve], *, again: bool = False
    ) -> list[Grant | list[BudgetState]]:
        """Record these calls, then reserve for those: all, or nothing where it raises.

        `again` says that some of it may have been written already; each counts once.

        Args:
            wanted: all of one owner.

        Returns: for each reservation the grant, or the state of its budgets where they do not afford it.
        """
        try:
            return self._write(recorded, wanted, again=again)
        except sa.exc.IntegrityError:
            if again:
                raise
            # Its reservation had lapsed, perhaps while this machine slept, and its call was taken for lost.
            return self._write(recorded, wanted, again=True)

    def _write(
        self, recorded: Sequence[Call], wanted: Sequence[Reserve], *, again: bool
    ) -> list[Grant | list[BudgetState]]:
        names = {call.tenant for call in recorded} | {reserve.tenant for reserve in wanted}
        self._introduce(names)
        if wanted:
            self._tidy(wanted[0].owner)
        with self._writing() as connection:
            self._lock(connection, names)
            if recorded:
                # Of a call that nobody has counted anything for, no more is lost than that it failed.
                self._unsynced |= self._sqlite and any(call.charges or call.cost_nusd != 0 for call in recorded)
                _record(connection, recorded, again=again)
            if not wanted:
                return []
            now = datetime.now(UTC)
            return [_reserve(connection, reserve, now, again=again) for reserve in wanted]

    def _tidy(self, owner: str) -> None:
        """Now and then, make lost calls of the reservations that have lapsed. Until then these count as they are."""
        now = datetime.now(UTC)
        if abs(now.timestamp() - self._tidied_at) < _TIDY_S:
            return
        self._tidied_at = now.timestamp()
        values = {"now": int(now.timestamp()), "owner": owner}
        with self._writing() as connection:
            _shorten(connection, now)
            connection.execute(_FORGET_HELD, {"before": int(now.timestamp()) - _LONG_AGO_S})
            names = set(connection.scalars(_WHOSE_LAPSED, values))
        if names:
            with self._writing() as connection:
                self._lock(connection, names)
                lapsed = connection.execute(_LAPSED, {**values, "ids": sorted(names)}).mappings().all()
                _lose(connection, lapsed)

    def _lock(self, connection: sa.Connection, names: set[str]) -> None:
        if not self._sqlite:  # whose lock is held since BEGIN IMMEDIATE
            connection.execute(_LOCK, {"ids": sorted(names)}).all()

    def _introduce(self, names: set[str]) -> None:
        """Give each new tenant the row to lock; in a transaction of its own: inserting waits for others' locks."""
        if new := names - self._introduced:
            with self._writing() as connection:
                for name in sorted(new - set(connection.scalars(_FIND_TENANTS, {"ids": sorted(new)}))):
                    with contextlib.suppress(sa.exc.IntegrityError), connection.begin_nested():
                        connection.execute(sa.insert(tenants), {"id": name})
            self._introduced |= new

    def sync(self) -> None:
        """Bring to the disk the calls that the system has been given: no killed process loses those, but a power cut
        may. Other databases than SQLite do it by themselves.

        Raises:
            OSError: the disk has not taken it.
        """
        if self._unsynced:
            self._unsynced = False
            self._open_wal()
            if self._wal is not None:
                os.fsync(self._wal)

    def _open_wal(self) -> None:
        """Kept, for when the process may open no more files; the same while the writer is."""
        if self._sqlite and self._wal is None:
            with contextlib.suppress(FileNotFoundError):  # no WAL on this file system: SQLite waits for the disk
                self._wal = os.open(f"{self._url.database}-wal", os.O_RDWR)

    def give_up(self, unwanted: Sequence[Reserve]) -> None:
        """Take back these reservations."""
        with self._writing() as connection:
            for reserve in unwanted:
                connection.execute(_GIVE_UP_ONE, {"id": reserve.call_id, "of_attempt": reserve.attempt})

    def try_out(self) -> None:
        """See whether it can be written, which it need not be where it can be opened. No reservation stands for longer
        then than one that is made now."""
        now = datetime.now(UTC)
        with self._writing() as connection:
            _shorten(connection, now)
            # A call, and taken back: what it executes is made ready, for which the first one would have to wait.
            with contextlib.suppress(_TakenBackError), connection.begin_nested():
                connection.scalars(_FIND_TENANTS, {"ids": [""]}).all()
                _reserve(connection, _NOBODYS_RESERVE, now, again=True)
                _record(connection, [_NOBODYS_CALL], again=True)
                raise _TakenBackError
        self._open_wal()

    def renew(self, owner: str) -> None:
        """Keep this process's reservations from lapsing."""
        lapses_at = int(datetime.now(UTC).timestamp()) + LEASE_S
        with self._writing() as connection:
            connection.execute(sa.update(reservations).where(reservations.c.owner == owner).values(lapses_at=lapses_at))

    # -- reading -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            yield connection.execution_options(reading=True)

    def lines(
        self, tenant: str | None = None, group: str | None = None, since: str | None = None, until: str | None = None
    ) -> list[Spend]:
        """What was spent, of one tenant or all, on one group or all, between two days (both included)."""
        query = sa.select(*(spend.c[name] for name in ("day", "tenant", "group", "model", *SPEND_SUMS)))
        if tenant is not None:
            query = query.where(spend.c.tenant == tenant)
        if group is not None:
            query = query.where(spend.c.group == group)
        if since is not None:
            query = query.where(spend.c.day >= since)
        if until is not None:
            query = query.where(spend.c.day <= until)
        with self._reading() as connection:
            found = connection.execute(query.order_by(*spend.primary_key.columns))
            return [Spend(**{key: _plain(value) for key, value in row._mapping.items()}) for row in found]

    def spent_on_unknown(self, known: Callable[[str], bool], since: str) -> list[tuple[str, str, str, int]]:
        """What was spent, or is held, from a day on under names of groups that are not known: (name, tenant, day,
        nano-dollars). Looks up each name once, and reads the lines of those alone."""
        found: list[tuple[str, str, str, int]] = []
        with self._reading() as connection:
            name: str | None = ""
            while (name := connection.scalar(_NEXT_GROUP, {"name": name})) is not None:
                if not known(name):
                    lines = connection.execute(_SPENT_ON, {"name": name, "since": since})
                    found += [(name, tenant, day, int(nusd)) for tenant, day, nusd in lines if nusd]
        return found

    def tenants(self) -> list[str]:
        """All that have ever made a call."""
        with self._reading() as connection:
            return list(connection.scalars(sa.select(tenants.c.id).order_by(tenants.c.id)))

    def states(self, budgets: Sequence[tuple[str, Budget]]) -> list[BudgetState]:
        """The state of each tenant's budget."""
        now = datetime.now(UTC)
        with self._reading() as connection:
            return [_state(connection, tenant, budget, now) for tenant, budget in budgets]


def _engine_arguments(url: sa.URL, patience_s: float) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": patience_s}}
    # Whatever the server's default: what is read under the lock has to be what the one before has written.
    arguments: dict[str, Any] = {"isolation_level": "READ COMMITTED"}
    if url.get_backend_name() == "postgresql":
        milliseconds = round(patience_s * 1000)
        limits = f"-c lock_timeout={milliseconds} -c statement_timeout={milliseconds}"
        arguments["connect_args"] = {
            "connect_timeout": max(2, round(patience_s)),
            "options": f"{limits} {url.query.get('options', '')}".strip(),
            "tcp_user_timeout": milliseconds,
        }
    return arguments


def _set_up_sqlite(patience_s: float, connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # else the driver begins transactions of its own kind
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        mode = _switch_to_wal(connection, patience_s)
    # To wait for a disk that was idle takes longer than all else; `sync` does it when the answer is on its way.
    connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == 'wal' else 'FULL'}")


def _switch_to_wal(connection: sqlite3.Connection, patience_s: float) -> Any:
    """The journal mode after that. SQLite itself does not wait where another process is writing the file, as the other
    of two does that are the first to open it."""
    until = time.monotonic() + patience_s
    while True:
        try:
            return connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_SWITCH_S)


def _begin_sqlite(connection: sa.Connection) -> None:
    # The writer's lock at once: one that is taken over halfway can be refused to both who want it.
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reading") else "BEGIN IMMEDIATE")


def _record(connection: sa.Connection, recorded: Sequence[Call], *, again: bool) -> None:
    no_more: list[Call] = []
    if again:
        found = connection.execute(_FIND_CALLS, {"ids": [call.id for call in recorded]}).all()
        there = {row.id for row in found if row.outcome != LOST}
        recorded = [call for call in recorded if call.id not in there]
        if not recorded:
            return
        if lost := [row.id for row in found if row.outcome == LOST]:
            held = connection.execute(_HELD, {"ids": lost}).mappings().all()
            no_more = [_lost(rows, rows[-1]["held_on"]) for rows in _by_call(held)]
            connection.execute(_TAKE_BACK, {"ids": lost})
    _INSERT_CALL.execute(connection, *map(_row, recorded))
    if reserved := [call.id for call in recorded if call.reserved]:
        connection.execute(_GIVE_UP, {"ids": reserved})
    taken_back = ((key, [-figure for figure in figures]) for call in no_more for key, figures in _entries(call))
    _add(connection, [*taken_back, *(entry for call in recorded for entry in _entries(call))])


def _add(connection: sa.Connection, entries: Iterable[tuple[_Key, list[int]]]) -> None:
    sums: defaultdict[_Key, list[int]] = defaultdict(lambda: [0] * len(SPEND_SUMS))
    for key, figures in entries:
        sums[key] = [a + b for a, b in zip(sums[key], figures, strict=True)]
    for key in sorted(sums):
        values = dict(zip((*_OF, *_MORE), (*key, *sums[key]), strict=True))
        if not _ADD_SPEND.execute(connection, values):
            connection.execute(_INSERT_SPEND, dict(zip((*_KEY, *SPEND_SUMS), (*key, *sums[key]), strict=True)))


def _row(call: Call) -> dict[str, Any]:
    return {
        "id": call.id,
        "time": call.time,
        "tenant": call.tenant,
        "group_asked": call.group_asked,
        "group_served": call.group_served,
        "model": call.model,
        "input_tokens": sum(charge.input_tokens for charge in call.charges),
        "output_tokens": sum(charge.output_tokens for charge in call.charges),
        "cached_tokens": sum(charge.cached_tokens for charge in call.charges),
        "cost_nusd": None if call.cost_nusd is None else min(call.cost_nusd, MOST_NUSD),
        "duration_ms": call.duration_ms,
        "outcome": call.outcome,
        "attempts": call.attempts,
        "most_nusd": None if call.most_nusd is None else min(call.most_nusd, MOST_NUSD),
        "uncounted": sum(charge.uncounted for charge in call.charges),
    }


_Key = tuple[str, str, str, str]


def _entries(call: Call) -> Iterator[tuple[_Key, list[int]]]:
    """What a call adds to which sums: itself where it was answered, each charge where it was made, and that its cost is
    unknown where the first is that makes it so."""
    day = call.time[:10]
    own = call.tenant, day, call.group_served or call.group_asked, call.model or ""
    yield own, _figures(calls=1, failed=int(call.outcome != "ok"))
    if call.cost_nusd is None:
        charge = next((charge for charge in call.charges if charge.cost_nusd is None), None)
        where = own if charge is None else (call.tenant, day, charge.group, charge.model)
        yield where, _figures(unpriced=1, unbounded=int(call.most_nusd is None))
    yield from _charged(call)


def _charged(call: Call) -> Iterator[tuple[_Key, list[int]]]:
    for charge in call.charges:
        held = charge.most_nusd if charge.cost_nusd is None else 0
        yield (
            (call.tenant, call.time[:10], charge.group, charge.model),
            _figures(
                input_tokens=charge.input_tokens,
                output_tokens=charge.output_tokens,
                cached_tokens=charge.cached_tokens,
                cost_nusd=min(charge.cost_nusd or 0, MOST_NUSD),
                held_nusd=min(held or 0, MOST_NUSD),
            ),
        )


def _figures(**figures: int) -> list[int]:
    return [*(dict.fromkeys(SPEND_SUMS, 0) | figures).values()]


_Reserved = Mapping[Any, Any]  # a row of the reservations, by its columns' names


def _lose(connection: sa.Connection, lapsed: Sequence[_Reserved]) -> None:
    """Make lost calls of reservations that have lapsed."""
    ids = sorted({row["call_id"] for row in lapsed})
    found = {row.id: row for row in connection.execute(_FIND_CALLS, {"ids": ids})}
    new: list[Call] = []
    for rows in _by_call(lapsed):
        id_ = rows[0]["call_id"]
        known = found.get(id_)
        if known is not None and known.outcome != LOST:  # granted after its end, and spent by nobody
            connection.execute(_GIVE_UP, {"ids": [id_]})
            continue
        latest = datetime.fromtimestamp(max(row["lapses_at"] for row in rows) - LEASE_S, UTC)
        day = latest.date().isoformat() if known is None else known.time[:10]
        for row in rows:
            connection.execute(_HOLD, {"id": id_, "of_attempt": row["attempt"], "day": day})
        call = _lost(rows, day)
        if known is None:
            new.append(call)
        else:  # its process was back, and has gone again
            _add(connection, _charged(call))
    if new:
        _record(connection, new, again=False)


def _by_call(held: Iterable[_Reserved]) -> Iterator[list[_Reserved]]:
    """Those of one call together, where they stand so."""
    return (list(rows) for _, rows in itertools.groupby(held, lambda row: row["call_id"]))


def _lost(held: Sequence[_Reserved], day: str) -> Call:
    """The call that these reservations were made for, as far as they tell."""
    charges = tuple(
        Charge(row["group"], row["model"] or "", 0, 0, 0, None, most_nusd=int(row["amount_nusd"])) for row in held
    )
    return Call(
        id=held[0]["call_id"],
        time=f"{day}T00:00:00.000000Z",
        tenant=held[0]["tenant"],
        group_asked=held[0]["group"],
        group_served=None,
        model=None,
        charges=charges,
        cost_nusd=None,
        duration_ms=0,
        outcome=LOST,
        attempts=len(held),
        most_nusd=sum(charge.most_nusd or 0 for charge in charges),
    )


def _shorten(connection: sa.Connection, now: datetime) -> None:
    lapses_at = int(now.timestamp()) + LEASE_S
    connection.execute(_SHORTEN, {"latest": lapses_at + _DISAGREE_S, "instead": lapses_at})


def _reserve(connection: sa.Connection, wanted: Reserve, now: datetime, *, again: bool) -> Grant | list[BudgetState]:
    if wanted.attempt > 1 or again:
        connection.execute(_GIVE_UP_BUT, {"id": wanted.call_id, "kept": wanted.kept})
    first = _grant(connection, wanted, wanted.quote.max_tokens, now)
    if first is not None:
        return first
    states = [_state(connection, wanted.tenant, budget, now, wanted.owner) for budget in wanted.budgets]
    tokens = wanted.quote.affordable(min(state.left_nusd for state in states))
    if tokens < (wanted.quote.max_tokens if wanted.quote.fixed else min(wanted.min_tokens, wanted.quote.max_tokens)):
        return states
    return _grant(connection, wanted, tokens, now) or states


def _grant(connection: sa.Connection, wanted: Reserve, tokens: int, now: datetime) -> Grant | None:
    """Reserve what an answer of so many tokens can cost, if all budgets afford it: one statement looks and writes."""
    seconds = int(now.timestamp())
    amount = wanted.quote.most_nusd(tokens)
    if amount > MOST_NUSD:
        return None
    values: dict[str, Any] = {
        "call_id": wanted.call_id,
        "attempt": wanted.attempt,
        "owner": wanted.owner,
        "tenant": wanted.tenant,
        "group": wanted.group,
        "amount_nusd": amount,
        "lapses_at": seconds + LEASE_S,
        "model": wanted.model,
        "held_on": None,
    }
    for number, budget in enumerate(wanted.budgets):
        values |= _values_of(budget, now, f"_of_{number}")
    reserving = _reserving(tuple(len(budget.counted) for budget in wanted.budgets))
    if reserving.execute(connection, values) != 1:
        return None
    return Grant(amount, tokens, wanted.quote.input_tokens)


def _state(connection: sa.Connection, tenant: str, budget: Budget, now: datetime, owner: str = "") -> BudgetState:
    values = {"tenant": tenant, "now": int(now.timestamp()), "owner": owner, **_values_of(budget, now)}
    found = connection.execute(_looking(len(budget.counted)), values).one()
    spent, held, reserved, lapsed = map(int, found)
    return budget.state(tenant, spent, held + lapsed, reserved - lapsed, now)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else int(value)  # a database may count in decimals
