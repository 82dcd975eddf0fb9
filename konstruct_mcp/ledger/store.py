"""An open ledger: what is read and written in one transaction.

One lock makes it safe for several processes at once: SQLite has a single writer's lock, and on a server the row of
each tenant that a transaction touches is locked. Reading what is spent, comparing it with a budget and reserving are
one step under that lock.

What a call can have cost stays on its budgets until the cost is known. A reservation that lapses does not free its
amount: its process has died while a provider was at work. Its call is recorded as lost, of unknown cost and with the
reservation as its bound. If the process was alive after all, the call's own row takes the place of the lost one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, TypeVar

import sqlalchemy as sa

from konstruct_mcp.core.budgets import Budget, BudgetState, Decision, Quote, Reserve
from konstruct_mcp.core.errors import LedgerError
from konstruct_mcp.core.spending import SPEND_SUMS, Call, Charge, Spend
from konstruct_mcp.ledger import statements
from konstruct_mcp.ledger.calls import record
from konstruct_mcp.ledger.databases import open_database
from konstruct_mcp.ledger.reservations import budget_state, lease_end, record_lost, reserve, reserve_at_once, shorten
from konstruct_mcp.ledger.schema import HEAD, REVISION_TABLE, USABLE_FROM_TABLE, calls, ledger, spend, tenants
from konstruct_mcp.ledger.transactions import Transaction

_T = TypeVar("_T")
_CHECK_LAPSED_S = 5  # between two looks for reservations that have lapsed
_AT_ONCE = 5_000  # rows of calls in memory
_AFTER_A_DAY = "U"  # behind an ISO date, sorts behind each time of that day, which goes on with a T
_DEADLOCK = "40P01"  # PostgreSQL's code
_FORGET_HELD_S = 86_400  # how long held reservations are remembered, for a process that comes back

_TRIAL_QUOTE = Quote(0, Fraction(), Fraction(), 0, True)
_TRIAL_RESERVE = Reserve("", 1, (), "", "", "", "", _TRIAL_QUOTE, (Budget(0, "total"),), 0)
_TRIAL_CALL = Call("", "", "", "", "", "", (Charge("", "", 0, 0, 0, 0),), 0, 0, "ok", 1, reserved=True)


class _RollBackError(Exception):
    """What was written was a trial."""


class Store:
    """An open ledger. Each of its methods blocks, and is one transaction, or two where it says so.

    Attributes:
        id: which ledger this is, whatever its file is called.

    Raises:
        LedgerError: the URL cannot be used at all, or a newer version wrote the ledger.
        sqlalchemy.exc.DBAPIError, OSError: the database is out of reach now. Every method may raise these.
    """

    def __init__(self, url: str, patience_s: float) -> None:
        self._database = open_database(url, patience_s)
        self._engine = self._database.engine
        self._introduced: set[str] = set()  # tenants that have their row
        self._checked_lapsed_at = 0.0  # by the wall clock, as reservations lapse
        self._unsynced = False
        self._writer: sa.Connection | None = None
        obstacle = self._database.prepare()
        try:
            self._migrate()
            with self._reading() as connection:
                self.id = str(connection.scalar(sa.select(ledger.c.id).limit(1)))
            # Kept: to take one from the pool for each transaction would take as long as what is done in it.
            self._writer = self._engine.connect()
            self._database.note_identity()
        except BaseException as error:
            self.close()
            if obstacle is not None and isinstance(error, sa.exc.DBAPIError):
                raise obstacle from None  # SQLite says no more than that it cannot open the file
            raise

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._database.close()

    def is_there(self) -> None:
        """See whether the database that is open is the one that the next process will open.

        Raises:
            MovedError: it is not.
        """
        self._database.check_identity()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Transaction]:
        assert self._writer is not None  # noqa: S101  # or there is no store
        with self._writer.begin():
            transaction = self._database.transaction(self._writer)
            yield transaction
            transaction.finish()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            yield connection.execution_options(reading=True)

    # -- opening -----------------------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            if self._is_ready(connection.execution_options(reading=True)):
                return
        with self._engine.begin() as connection:
            self._database.lock_migration(connection)
            if not self._is_ready(connection):  # else another process was here first
                from konstruct_mcp.ledger.migrations import upgrade

                upgrade(connection)

    def _is_ready(self, connection: sa.Connection) -> bool:
        """Whether the tables are those that this version uses, or newer ones that it can use as well.

        Raises:
            LedgerError: they are of a newer version, and this one cannot use them.
        """
        usable_from = _number_in(connection, USABLE_FROM_TABLE)
        if usable_from is not None and usable_from > HEAD:
            raise LedgerError(
                f"the ledger was written by a newer version of konstruct-mcp (its tables need revision {usable_from}, "
                f"and this version knows those up to {HEAD}); upgrade konstruct-mcp, or name another ledger"
            )
        revision = _number_in(connection, REVISION_TABLE)
        return revision is not None and revision >= HEAD

    def try_out(self) -> None:
        """Write a trial call and roll it back.

        This tells whether the ledger can be written, not only opened. It also compiles the statements, so that the
        first call need not wait for that, and shortens reservations that were made by a clock that was ahead.
        """
        now = datetime.now(UTC)
        with self._writing() as transaction:
            shorten(transaction, now)
        with contextlib.suppress(_RollBackError), self._writing() as transaction:
            transaction.read(statements.FIND_TENANTS, {"ids": [""]})
            reserve(transaction, [_TRIAL_RESERVE], now, again=True)
            record(transaction, [_TRIAL_CALL], again=True)
            transaction.read(statements.FIND_TENANTS, {"ids": [""]})  # which sends the rest
            raise _RollBackError
        self._database.open_log()

    def can_be_written(self) -> bool:
        """Whether it can be written, just after a write has failed: if so, the database refuses what was written."""
        try:
            self.is_there()
            self.try_out()
        except Exception:  # whatever it is, the database is in no state to judge a row by
            return False
        return True

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(
        self, recorded: Sequence[Call], wanted: Sequence[Reserve], *, again: bool = False, in_turn: bool = False
    ) -> Sequence[Decision | None]:
        """Record calls, then make reservations: all of it, or nothing where this raises.

        Args:
            wanted: reservations of one owner.
            again: whether some of it may have been written already; each counts once.
            in_turn: whether to decide one reservation after the other where budgets are scarce, which takes longer.

        Returns: what becomes of each reservation; None where it was not made, and has to be wanted `in_turn`.
        """
        try:
            return self._write(recorded, wanted, again=again, in_turn=in_turn)
        except sa.exc.IntegrityError:
            if again:
                raise
            # A reservation has lapsed, perhaps while this machine slept, and its call was recorded as lost.
            return self._write(recorded, wanted, again=True, in_turn=in_turn)
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _DEADLOCK:
                raise
            # The server ended this one of two that waited for each other. No two of ours do; the other was an
            # operator's own, or of the version before.
            return self._write(recorded, wanted, again=again, in_turn=in_turn)

    def _write(
        self, recorded: Sequence[Call], wanted: Sequence[Reserve], *, again: bool, in_turn: bool
    ) -> Sequence[Decision | None]:
        names = {call.tenant for call in recorded} | {reserve.tenant for reserve in wanted}
        self._introduce(names)
        if wanted:
            self._record_lapsed(wanted[0].owner)
        with self._writing() as transaction:
            transaction.lock_tenants(names)
            if recorded:
                # A call that cost nothing may be lost in a power cut: no account needs it.
                self._unsynced |= any(call.charges or call.cost_nusd != 0 for call in recorded)
                record(transaction, recorded, again=again)
            if not wanted:
                return []
            now = datetime.now(UTC)
            if transaction.decides and not again and not in_turn:
                return reserve_at_once(transaction, wanted, now)
            return reserve(transaction, wanted, now, again=again)

    def _introduce(self, names: set[str]) -> None:
        """Give each new tenant its row to lock; in a transaction of its own, as inserting waits for others' locks."""
        if new := names - self._introduced:
            with self._writing() as transaction:
                transaction.introduce(new)
            self._introduced |= new

    def _record_lapsed(self, owner: str) -> None:
        """Now and then, record the calls of lapsed reservations as lost. Until then the reservations count as open."""
        now = datetime.now(UTC)
        if abs(now.timestamp() - self._checked_lapsed_at) < _CHECK_LAPSED_S:
            return
        self._checked_lapsed_at = now.timestamp()
        values = {"now": int(now.timestamp()), "owner": owner}
        with self._writing() as transaction:
            shorten(transaction, now)
            transaction.run(statements.DELETE_OLD_HELD, {"before": int(now.timestamp()) - _FORGET_HELD_S})
            names = {row["tenant"] for row in transaction.read(statements.FIND_TENANTS_WITH_LAPSED, values)}
        if names:
            with self._writing() as transaction:
                transaction.lock_tenants(names)
                record_lost(transaction, transaction.read(statements.FIND_LAPSED, {**values, "ids": sorted(names)}))

    def give_up(self, unwanted: Sequence[Reserve]) -> None:
        """Delete these reservations."""
        with self._writing() as transaction:
            transaction.lock_tenants({one.tenant for one in unwanted})
            for one in unwanted:
                transaction.run(statements.GIVE_UP, {"id": one.call_id, "of_attempt": one.attempt})

    def renew(self, owner: str) -> None:
        """Keep the reservations of this process from lapsing."""
        with self._writing() as transaction:
            transaction.run(statements.RENEW, {"of_owner": owner, "until": lease_end(datetime.now(UTC))})

    def sync(self) -> None:
        """Bring the calls that were written to the disk.

        Raises:
            OSError: the disk has not taken them.
        """
        if self._unsynced:
            self._unsynced = False
            self._database.sync()

    # -- reading -----------------------------------------------------------------------------------------------------

    def lines(
        self, tenant: str | None = None, group: str | None = None, since: str | None = None, until: str | None = None
    ) -> list[Spend]:
        """What was spent, by day, tenant, group and model.

        Args:
            tenant, group: of this one alone; of all for None.
            since, until: the first and the last ISO date; without bound for None.
        """
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
            return [Spend(**{key: _text_or_int(value) for key, value in row._mapping.items()}) for row in found]

    def spent_on_unknown(self, known: Callable[[str], bool], since: str) -> list[tuple[str, str, str, int]]:
        """What was spent or is held on groups whose names are not known.

        It looks up each name once, and reads the rows of unknown names alone.

        Args:
            known: whether a group's name is known.
            since: the first ISO date.

        Returns: group, tenant, day and nano-dollars of each.
        """
        found: list[tuple[str, str, str, int]] = []
        with self._reading() as connection:
            name: str | None = ""
            while (name := connection.scalar(statements.NEXT_GROUP, {"name": name})) is not None:
                if not known(name):
                    lines = connection.execute(statements.SPENT_ON_GROUP, {"name": name, "since": since})
                    found += [(name, tenant, day, int(nusd)) for tenant, day, nusd in lines if nusd]
        return found

    def tenants(self) -> list[str]:
        """All tenants that have ever made a call."""
        with self._reading() as connection:
            return list(connection.scalars(sa.select(tenants.c.id).order_by(tenants.c.id)))

    def states(self, budgets: Sequence[tuple[str, Budget]]) -> list[BudgetState]:
        """The state of each budget, given with its tenant."""
        now = datetime.now(UTC)
        with self._reading() as connection:
            return [budget_state(connection, tenant, budget, now) for tenant, budget in budgets]

    # -- keys and tenants ----------------------------------------------------------------------------------------------

    def look(self, act: Callable[[sa.Connection], _T]) -> _T:
        """Do what only reads."""
        with self._reading() as connection:
            return act(connection)

    def change(self, act: Callable[[sa.Connection], _T]) -> _T:
        """Do what writes beside the writer, who is in another thread."""
        with self._engine.begin() as connection:
            done = act(connection)
        self._database.sync()
        return done

    # -- the operator's ----------------------------------------------------------------------------------------------

    def calls(
        self, tenant: str | None = None, since: str | None = None, until: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The rows of calls by their columns, the oldest first, which are read as they are wanted.

        Args:
            tenant, since, until: as those of `lines`.
        """
        query = sa.select(calls)
        if tenant is not None:
            query = query.where(calls.c.tenant == tenant)
        if since is not None:
            query = query.where(calls.c.time >= since)
        if until is not None:
            query = query.where(calls.c.time < f"{until}{_AFTER_A_DAY}")
        with self._reading() as connection:
            self._database.take_time(connection)
            rows = connection.execution_options(yield_per=_AT_ONCE).execute(query.order_by(calls.c.time, calls.c.id))
            for row in rows.mappings():
                yield dict(row)

    def count_before(self, day: str) -> int:
        """How many calls there are that ended before an ISO date."""
        with self._reading() as connection:
            self._database.take_time(connection)
            counted = sa.select(sa.func.count()).select_from(calls).where(calls.c.time < day)
            return int(connection.scalar(counted) or 0)

    def prune(self, before: str) -> int:
        """Delete the rows of calls that ended before an ISO date, and keep their sums. Returns how many there were.

        It is done in portions, so that no call waits long for its turn to be written.
        """
        some = sa.select(calls.c.id).where(calls.c.time < before).limit(self._database.portion)
        deleted = 0
        while True:
            with self._engine.begin() as connection:
                self._database.take_time(connection)
                found = connection.execute(sa.delete(calls).where(calls.c.id.in_(some))).rowcount
            deleted += found
            if self._database.portion is None or found < self._database.portion:
                return deleted


def _text_or_int(value: Any) -> Any:
    """A column's value as a `Spend` takes it: PostgreSQL returns sums as decimals."""
    return value if isinstance(value, str) else int(value)


def _number_in(connection: sa.Connection, table: str) -> str | None:
    """The number of a version in a table that holds one; None where there is no such table, or nothing in it."""
    if not sa.inspect(connection).has_table(table):
        return None
    found = connection.scalar(sa.text(f"SELECT version_num FROM {table}"))  # noqa: S608  a name of ours
    return None if found is None else str(found)
