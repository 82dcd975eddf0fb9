"""What is done in one transaction, in the SQL that suits the database.

    Transaction           statement by statement, on any database; what is taken of budgets is summed up
    PipelinedTransaction  on PostgreSQL: one statement for all rows of a kind, those that need no answer sent together;
                          what is taken of budgets is read from counters, and compared by the database where it can

Whoever writes sums or reservations of a tenant locks the tenant first. Only then is it exact to read an amount, decide
by it, and write.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from konstruct_mcp.core.spending import SPEND_SUMS
from konstruct_mcp.ledger import statements
from konstruct_mcp.ledger.schema import tenants

SpendKey = tuple[str, str, str, str]  # tenant, day, group and model of a row of sums
Attempt = tuple[str, int]  # a reservation's call, and its number within the call
Values = Mapping[str, Any]  # by columns or parameters


@dataclass(frozen=True, slots=True)
class Window:
    """What one budget counts: a tenant's spending from one day to another, on these groups, or on all for ()."""

    tenant: str
    groups: tuple[str, ...]
    first: str
    last: str

    @property
    def id(self) -> str:
        """Of its tenant's windows."""
        return _window_id(self.groups, self.first, self.last)

    def counts(self, group: str) -> bool:
        return not self.groups or group in self.groups


@functools.lru_cache(10_000)
def _window_id(groups: tuple[str, ...], first: str, last: str) -> str:
    """Short, however many groups there are and however long their names."""
    return hashlib.sha256(json.dumps([groups, first, last]).encode()).hexdigest()


@dataclass(slots=True)
class Amounts:
    """What is spent, held and reserved in a window, in nano-dollars."""

    spent: int
    held: int
    reserved: int

    @property
    def taken(self) -> int:
        return self.spent + self.held + self.reserved


@dataclass(slots=True)
class Need:
    """What reservations want of a window together, and the limit of its budget, in nano-dollars."""

    window: Window
    amount: int
    limit: int


class Transaction:
    """An open transaction of any database. Whoever has begun it ends it, after `finish`.

    Attributes:
        decides: whether it can compare what is wanted with what is left by itself, as `end_with_affordable` does.
    """

    decides = False

    def __init__(self, connection: sa.Connection, *, locks_rows: bool) -> None:
        """`locks_rows` is whether a transaction may write beside another one."""
        self._connection = connection
        self._locks_rows = locks_rows

    def lock_tenants(self, names: Iterable[str]) -> None:
        """Let no other transaction write sums or reservations of these tenants until this one has ended."""
        if self._locks_rows:
            self.read(statements.LOCK_TENANTS, {"ids": sorted(names)})

    def introduce(self, names: Iterable[str]) -> None:
        """Give tenants their rows to lock, as far as they have none."""
        ids = sorted(names)
        known = {row["id"] for row in self.read(statements.FIND_TENANTS, {"ids": ids})}
        for name in ids:
            if name not in known:
                with contextlib.suppress(sa.exc.IntegrityError), self._connection.begin_nested():
                    self.run(sa.insert(tenants), {"id": name})

    def insert_calls(self, rows: Sequence[Values]) -> None:
        statements.INSERT_CALL.execute(self._connection, *rows)

    def add_spend(self, sums: Mapping[SpendKey, Sequence[int]]) -> None:
        """Add to rows of sums, and make those that are not there yet. The figures are in the order of SPEND_SUMS."""
        for key, figures in sums.items():
            row = (*key, *figures)
            values = dict(zip((*statements.KEY_VALUES, *statements.SUM_VALUES), row, strict=True))
            if not statements.ADD_SPEND.execute(self._connection, values):
                self.run(statements.INSERT_SPEND, dict(zip((*statements.SPEND_KEY, *SPEND_SUMS), row, strict=True)))

    def insert_reservations(self, rows: Sequence[Values]) -> None:
        statements.INSERT_RESERVATION.execute(self._connection, *rows)

    def end_with_affordable(self, rows: Sequence[Values], needs: Sequence[Need]) -> set[Attempt]:
        """Insert the reservations of each tenant whose windows afford all that is needed of them, and commit.

        Returns: which were inserted. It may be fewer than are affordable.
        """
        raise NotImplementedError

    def give_up_reservations(self, call_ids: Sequence[str]) -> None:
        """Delete all reservations of these calls."""
        self.run(statements.GIVE_UP_ALL_OF_CALLS, {"ids": call_ids})

    def give_up_others(self, call_id: str, kept: Sequence[int]) -> None:
        """Delete the reservations of a call that have not lapsed, but for those of the attempts that are kept."""
        self.run(statements.GIVE_UP_ALL_BUT, {"id": call_id, "kept": kept})

    def amounts(self, windows: Iterable[Window]) -> dict[Window, Amounts]:
        """What is taken of each window, whose tenants are locked."""
        found = {}
        for window in windows:
            values = {"tenant": window.tenant, **statements.window_values(window.groups, window.first, window.last)}
            [amounts] = statements.window_amounts(len(window.groups)).read(self._connection, values)
            found[window] = Amounts(*map(int, amounts))
        return found

    def run(self, statement: sa.Executable, values: Values | None = None) -> None:
        """Execute any other statement."""
        self._connection.execute(statement, values)

    def read(self, statement: sa.Executable, values: Values) -> Sequence[sa.RowMapping]:
        """The rows that any other statement finds."""
        return self._connection.execute(statement, values).mappings().all()

    def finish(self) -> None:
        """Send what is not sent yet, with a COMMIT behind it where that saves a round trip."""


_EXPIRED_AFTER = timedelta(days=2)  # from the last day of a window until its counter is deleted


class PipelinedTransaction(Transaction):
    """An open transaction of PostgreSQL, through psycopg.

    What is written waits until something is read or the transaction ends, and is sent at once then: where nothing is
    read but what is taken of budgets, a transaction is two round trips, and one where it decides.
    """

    decides = True

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__(connection, locks_rows=True)
        self._waiting: list[tuple[str, tuple[Any, ...]]] = []
        # What waits to be settled in one statement: calls, rows of sums and of reservations, and what these need.
        self._ended, self._more, self._wanted, self._needs = list[str](), list[Values](), list[Values](), list[Values]()

    def introduce(self, names: Iterable[str]) -> None:
        self._waiting.append((statements.PG_INTRODUCE, (sorted(names),)))

    def lock_tenants(self, names: Iterable[str]) -> None:
        self._waiting.append((statements.PG_LOCK_TENANTS, (sorted(names),)))

    def insert_calls(self, rows: Sequence[Values]) -> None:
        self._waiting.append((statements.PG_INSERT_CALLS, (json.dumps(rows),)))

    def add_spend(self, sums: Mapping[SpendKey, Sequence[int]]) -> None:
        columns = (*statements.SPEND_KEY, *SPEND_SUMS)
        self._more += [dict(zip(columns, (*key, *figures), strict=True)) for key, figures in sums.items()]

    def insert_reservations(self, rows: Sequence[Values]) -> None:
        self._wanted += rows

    def end_with_affordable(self, rows: Sequence[Values], needs: Sequence[Need]) -> set[Attempt]:
        # Between two round trips this process would hold the locks while its threads wait for each other.
        self._wanted += rows
        self._needs += [
            {"tenant": need.window.tenant, "id": need.window.id, "amount": need.amount, "limit": need.limit}
            for need in needs
        ]
        return {(call_id, attempt) for call_id, attempt in self._send(commits=True)}

    def give_up_reservations(self, call_ids: Sequence[str]) -> None:
        self._ended += call_ids

    def give_up_others(self, call_id: str, kept: Sequence[int]) -> None:
        self._waiting.append((statements.PG_GIVE_UP_ALL_BUT, (call_id, list(kept))))

    def amounts(self, windows: Iterable[Window]) -> dict[Window, Amounts]:
        by_key = {(window.tenant, window.id): window for window in windows}
        keys = [{"tenant": tenant, "id": id_} for tenant, id_ in by_key]
        self._settle()
        self._waiting.append((statements.PG_READ_COUNTERS, (json.dumps(keys),)))
        found = self._send()
        if missing := by_key.keys() - {(row[0], row[1]) for row in found}:
            found += self._make_counters({key: by_key[key] for key in sorted(missing)})
        return {by_key[row[0], row[1]]: Amounts(*map(int, row[2:])) for row in found}

    def _make_counters(self, windows: Mapping[tuple[str, str], Window]) -> list[tuple[Any, ...]]:
        """Make the counters of these windows, from sums that nobody changes meanwhile, as their tenants are locked.

        Only the version before deletes a reservation without that lock. It is waited for, and waits for this.
        """
        tenants = sorted({tenant for tenant, _ in windows})
        expired = (datetime.now(UTC).date() - _EXPIRED_AFTER).isoformat()
        rows = [
            {"tenant": tenant, "id": id_, "groups": window.groups, "first": window.first, "last": window.last}
            for (tenant, id_), window in windows.items()
        ]
        self._waiting += [
            (statements.PG_DELETE_EXPIRED_COUNTERS, (tenants, expired)),
            (statements.PG_KEEP_RESERVATIONS, (tenants,)),
            (statements.PG_MAKE_COUNTERS, (json.dumps(rows),)),
        ]
        return self._send()

    def run(self, statement: sa.Executable, values: Values | None = None) -> None:
        self._send()
        super().run(statement, values)

    def read(self, statement: sa.Executable, values: Values) -> Sequence[sa.RowMapping]:
        self._send()
        return super().read(statement, values)

    def finish(self) -> None:
        self._send(commits=True)

    def _settle(self, *, is_last: bool = False) -> None:
        """Have what waits to be settled sent next; `is_last` if nothing comes behind it in this transaction."""
        if not (self._ended or self._more or self._wanted):
            return
        rows = (json.dumps(some) for some in (self._more, self._wanted, self._needs))
        self._waiting += [(statements.PG_COUNT_HERE, ()), (statements.PG_SETTLE, (self._ended, *rows))]
        if not is_last:
            self._waiting.append((statements.PG_COUNT_BY_TRIGGERS, ()))
        self._ended, self._more, self._wanted, self._needs = [], [], [], []

    def _send(self, *, commits: bool = False) -> list[tuple[Any, ...]]:
        """Send what waits, and what is to be settled, in one round trip; and a COMMIT behind it if wanted.

        Returns: the rows of the last statement before that.

        Raises:
            sqlalchemy.exc.DBAPIError: one of them has failed, and none behind it was executed.
        """
        self._settle(is_last=commits)
        if not self._waiting:
            return []
        waiting, self._waiting = self._waiting, []
        driver: Any = self._connection.connection.dbapi_connection
        dialect: Any = self._connection.dialect
        failure: BaseException | None = None
        cursors = []
        try:
            with driver.pipeline():
                try:
                    cursors += [driver.execute(sql, values or None) for sql, values in waiting]
                    if commits:
                        driver.execute("COMMIT")
                except dialect.dbapi.Error as error:  # kept from the pipeline, which would log those that follow
                    failure = error
        except dialect.dbapi.Error as error:
            failure = failure or error
        if failure is None:
            return cursors[-1].fetchall() if cursors[-1].description else []
        is_cut_off = dialect.is_disconnect(failure, driver, None)
        if is_cut_off:
            self._connection.invalidate(failure)
        raise sa.exc.DBAPIError.instance(
            None, None, failure, dialect.dbapi.Error, connection_invalidated=is_cut_off, dialect=dialect
        ) from failure
