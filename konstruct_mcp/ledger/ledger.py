"""The ledger: each call is recorded before its answer leaves, and no call is made that a budget does not afford.

One thread writes, and takes everything that waits in one transaction: the more calls there are at once, the fewer
transactions each of them costs. What the database does not take goes to the spool, and into the database when it is
back. Reports are read in other threads, so that no call waits for one.

SQLAlchemy is imported in the writer's thread, so that a server starts without waiting for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from konstruct_mcp.core.budgets import Budget, BudgetState, Decision, Reserve
from konstruct_mcp.core.errors import LedgerError
from konstruct_mcp.core.spending import Call, Spend
from konstruct_mcp.ledger.backlog import Backlog
from konstruct_mcp.ledger.commands import AcceptNew, GetStore, LookAgain, Question, RecordCall, ReserveCost
from konstruct_mcp.ledger.notices import Notices
from konstruct_mcp.ledger.spool import Spool
from konstruct_mcp.ledger.writer import LONGEST_ANSWER_S, LONGEST_END_S, Writer

if TYPE_CHECKING:
    from konstruct_mcp.ledger.store import Store

_T = TypeVar("_T")

_MOST_IN_MEMORY = 10_000  # calls, some 10 MB
_SHORTEST_WAIT_S = 0.5  # for the database, however near the call's deadline is: it should come before the spool


class Ledger:
    """The accounts at one SQLAlchemy URL, with a spool beside them. `start` begins to open them, `aclose` ends.

    Calls that neither the database nor the spool takes are kept in memory: the newest `most_in_memory`, which are lost
    if the process ends.
    """

    def __init__(self, url: str, spool: Path, *, most_in_memory: int = _MOST_IN_MEMORY) -> None:
        """Nothing is opened yet. `spool` is a folder."""
        file = _file_of(url)
        self._notices = Notices(url, file, spool)
        self._backlog = Backlog(Spool(spool), self._notices, most_in_memory)
        self._writer = Writer(url, file, self._backlog, self._notices)
        self._counting: asyncio.Future[int] | None = None

    @property
    def has_budgets(self) -> bool:
        """Whether there are budgets. Then no other ledger takes the place of one that disappears by itself."""
        return self._writer.has_budgets

    @has_budgets.setter
    def has_budgets(self, has_budgets: bool) -> None:
        self._writer.has_budgets = has_budgets

    @property
    def is_up(self) -> bool:
        """Whether the database takes rows, as far as is known."""
        return not self._writer.is_held_up()

    @property
    def open_reservations(self) -> int:
        """How many calls of this process hold a reservation."""
        return self._writer.open_reservations

    async def waiting_rows(self) -> int:
        """How many rows wait for the database, in the spool and in memory. The spool may be several processes'."""
        # One look at once: that at a drive which hangs goes on after its caller has given up.
        if self._counting is None or self._counting.done():
            self._counting = asyncio.ensure_future(_in_own_thread(self._backlog.count))
        return await asyncio.shield(self._counting)

    def start(self) -> None:
        """Begin to open the ledger in its thread, for calls that will come; returns at once."""
        if not self._notices.serves_calls:
            self._notices.serves_calls = True
            self._notices.say_changes()
        self._writer.start()

    async def opened(self, *, to_write: bool = False) -> None:
        """Wait until it is known whether the ledger can be used. One that is out of reach now can be used later.

        Args:
            to_write: whether a ledger that can only be read counts as out of reach; for calls it always does.

        Raises:
            LedgerError: this version can never use it, or not with this URL.
        """
        self._writer.tries_out |= to_write
        self._writer.start()
        await self._writer.opened()
        if self._notices.refusal is not None:
            raise LedgerError(self._notices.refusal)

    # -- calls -------------------------------------------------------------------------------------------------------

    async def reserve(self, wanted: Reserve) -> Decision:
        """Reserve what a call can cost; the state of its budgets where they do not afford it.

        Raises:
            LedgerError: the budgets cannot be checked now.
        """
        self.start()
        wanted = replace(wanted, owner=self._writer.owner)
        return await self._ask(lambda done: ReserveCost(wanted, done))

    async def record(self, call: Call, *, within_s: float | None = None) -> None:
        """Put a call on the account: when this returns, it is written. Raises nothing.

        Once it has begun it ends, even if whoever waits for it is cancelled.

        Args:
            within_s: how many seconds to wait for the database before the call goes to the spool: at least half a
                second, and at most six, which is also what None means.
        """
        self.start()
        if self._notices.refusal is not None and not call.charges:
            return  # refused because of the ledger: nobody was asked
        self._backlog.hand_over(call)
        if not self._writer.is_held_up():
            patience_s = LONGEST_ANSWER_S if within_s is None else within_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(patience_s, _SHORTEST_WAIT_S), LONGEST_ANSWER_S)):
                    await self._send(lambda done: RecordCall(call, done))
                    return
        # The writer waits for the database, so another thread does this. Should the database still take the row, it
        # counts once.
        await _in_own_thread(lambda: self._backlog.put_aside([call]))
        self._writer.put(LookAgain())

    # -- reports -----------------------------------------------------------------------------------------------------

    async def lines(self, **which: str | None) -> list[Spend]:
        """What was spent; see `Store.lines`.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        return await self.report(lambda store: store.lines(**which))

    async def spent_on_unknown(self, known: Callable[[str], bool], since: str) -> list[tuple[str, str, str, int]]:
        """What was spent on groups whose names are not known; see `Store.spent_on_unknown`.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        return await self.report(lambda store: store.spent_on_unknown(known, since))

    async def tenants(self) -> list[str]:
        """All tenants that have ever made a call.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        return await self.report(lambda store: store.tenants())

    async def states(self, budgets: Sequence[tuple[str, Budget]]) -> list[BudgetState]:
        """The state of each budget, given with its tenant.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        return await self.report(lambda store: store.states(budgets))

    async def report(self, read: Callable[[Store], _T]) -> _T:
        """What a function of the store gives, which is called in a thread of its own.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        store = await self._ask(GetStore)
        try:
            async with asyncio.timeout(LONGEST_ANSWER_S):
                report = await _in_own_thread(lambda: read(store))
        except Exception as error:
            why = self._notices.reason(error) or "it does not answer"
            self._notices.say_unreadable(why)
            raise LedgerError(self._notices.out_of_reach(why)) from None
        self._notices.note_readable()
        return report

    # -- the operator's ----------------------------------------------------------------------------------------------

    async def accept_new(self) -> None:
        """Take what is there now, or an empty ledger, in place of the ledger that has disappeared.

        Raises:
            LedgerError: none has disappeared, or it is out of reach.
        """
        await self._ask(AcceptNew)

    async def prune(self, before: str, *, dry_run: bool = False) -> int:
        """Delete the rows of calls that ended before an ISO date, and keep their sums. However long that takes.

        Args:
            dry_run: whether they are only counted.

        Returns: how many they are.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        return await self._look_after(lambda store: store.count_before(before) if dry_run else store.prune(before))

    async def export(self, write: Callable[[Iterator[dict[str, Any]]], None], **which: str | None) -> None:
        """Hand the rows of calls to a function, which may block; see `Store.calls`. However long that takes.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        await self._look_after(lambda store: write(store.calls(**which)))

    async def _look_after(self, act: Callable[[Store], _T]) -> _T:
        store = await self._ask(GetStore)
        try:
            return await _in_own_thread(lambda: act(store))
        except Exception as error:
            if getattr(error, "orig", None) is None:
                raise  # not the database's
            raise LedgerError(self._notices.out_of_reach(self._notices.reason(error))) from None

    async def aclose(self) -> None:
        """Write what waits, and close; safe to call twice. What comes later opens it again."""
        if (thread := self._writer.stop()) is not None:
            await _in_own_thread(lambda: thread.join(LONGEST_END_S))
            if thread.is_alive():  # the database does not answer
                self.kill()

    def kill(self) -> None:
        """Bring what is not written yet to the spool, at once: for the way out of a dying process."""
        self._backlog.put_all_aside()

    # -- the writer --------------------------------------------------------------------------------------------------

    async def _ask(self, question: Callable[[asyncio.Future[_T]], Question]) -> _T:
        try:
            async with asyncio.timeout(LONGEST_ANSWER_S):
                return await self._send(question)
        except TimeoutError:
            why = self._notices.ledger_fault or "it does not answer"
            raise LedgerError(self._notices.out_of_reach(why)) from None

    def _send(self, question: Callable[[asyncio.Future[_T]], Question]) -> asyncio.Future[_T]:
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._writer.start()
        self._writer.put(question(done))
        return done


def _file_of(url: str) -> str:
    """The path of the database's file; empty for a database server, whose driver says where that is."""
    scheme, _, rest = url.partition("://")
    return rest.partition("?")[0][1:] if scheme.startswith("sqlite") and rest.startswith("/") else ""


async def _in_own_thread(act: Callable[[], _T]) -> _T:
    """Do what blocks in a thread of its own: one that hangs keeps nobody else waiting, nor the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(finish: Callable[[Any], None], outcome: Any) -> None:
        if not done.done():
            finish(outcome)

    def run() -> None:
        try:
            finish, outcome = done.set_result, act()
        except BaseException as error:
            finish, outcome = done.set_exception, error  # type: ignore[assignment]
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, finish, outcome)

    threading.Thread(target=run, name="beside the ledger", daemon=True).start()
    return await done
