"""The ledger: every call accounted for, before its answer leaves, and budgets that hold.

One thread writes, and takes all that waits in one transaction: the more calls there are at once, the fewer transactions
each of them costs. What the database does not take goes to the spool, and into the database when it is back. Reports
are read beside that thread, so that no call waits for one.

SQLAlchemy is imported by that thread, beside the start of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import queue
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from konstruct_mcp.config.masking import without_password
from konstruct_mcp.core.budgets import Budget, BudgetState, Grant, Reserve
from konstruct_mcp.core.errors import LedgerError
from konstruct_mcp.core.spending import Call, Spend, read_call
from konstruct_mcp.core.text import cut
from konstruct_mcp.ledger.spool import Spool

if TYPE_CHECKING:
    from konstruct_mcp.ledger.store import Store

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_PATIENCE_S = 5.0  # for the database to answer, or for another process to give its lock
_LONGEST_S = _PATIENCE_S + 1  # for an answer of the thread: a database that hangs may keep none of its own limits
_RETRY_S = 1.0  # between looks whether a database that was out of reach is back
_RENEW_S = 20.0  # well within what a reservation is good for
_SYNC_S = 0.1  # at most between what is written and its way to the disk itself, under a load that never ends
_MOST_AT_ONCE = 500  # rows in one transaction, so that none keeps the lock for long
_SHORTEST_S = 0.5  # that a call waits for the database, however near its deadline is: it should come before the spool
_MOST_IN_MEMORY = 10_000  # calls, some 10 MB
_OUT_OF_REACH = "the ledger is out of reach; try again later"
_MEMORY = "calls are kept in memory, and lost if this process ends first"
_GONE = "the ledger that was here is gone, so that nobody knows what is left of a budget"
_HOW_ON = "put it back, or run `konstruct-mcp ledger accept-new` to begin with what is there now"


@dataclass(slots=True)
class _Job:
    """What somebody waits for: a call to be recorded, a reservation, a store to read, or another ledger to be accepted.
    Or what nobody waits for: a reservation to be given up, or nothing, to wake."""

    call: Call | None = None
    wanted: Reserve | None = None
    unwanted: Reserve | None = None
    reading: bool = False
    accepting: bool = False
    done: asyncio.Future[Any] | None = None


class Ledger:
    """The accounts at one SQLAlchemy URL, with a spool beside them. `start` begins to open them, `aclose` ends.

    Calls that neither of them takes are kept, `most_in_memory` at most: the newest, and lost if the process ends.

    `has_budgets` says that somebody's spending is compared with what is in it: then one that disappears is missed, and
    no other one takes its place by itself.
    """

    def __init__(self, url: str, spool: Path, *, most_in_memory: int = _MOST_IN_MEMORY) -> None:
        self._url, self._file = url, _file(url)
        self._place = f": {self._file}" if self._file else ""  # the end of a sentence
        self._spool = Spool(spool)
        self._owner = str(uuid.uuid4())
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing: threading.Thread | None = None
        self._store: Store | None = None
        self._looked: Future[None] = Future()  # done when it is known whether the ledger can be used
        self._refusal: str | None = None
        self.has_budgets = False
        self._id: str | None = None  # of the one that was last open
        self._is_gone = False
        self._holding: set[str] = set()  # calls that have a reservation, of which only the thread knows
        self._renewed = self._looked_at = self._synced = 0.0
        self._busy_since: float | None = None  # while the thread works
        self._broken = False  # whether the last failure was of the connection, so that a new one may do
        self._fault: str | None = None  # why no call could be written, until one is
        self._spool_fault: OSError | None = None
        self._spooled = False  # since the spool was last folded in
        self._unwritten: dict[str, Call] = {}  # handed over to the thread
        self._stranded: OrderedDict[str, Call] = OrderedDict()  # neither the database nor the spool has taken them
        self._most_in_memory = most_in_memory
        self._dropped = 0  # of those, since the database was last written
        self._keeps = False  # whether it is there for calls, and not for somebody who reads reports alone
        self._tries_out = False  # whether somebody else wants to know that it can be written
        self._telling = threading.Lock()
        self._told = self._told_of_spool = self._told_of_reading = False

    def start(self) -> None:
        """Begin to open the ledger in its thread, for calls that will come; returns at once."""
        if not self._keeps:
            self._keeps = True
            self._tell()
        self._begin()

    def _begin(self) -> None:
        if self._thread is None:
            self._looked = Future()
            # A daemon, so that a process told to end does not wait for an import.
            self._thread = threading.Thread(target=self._run, args=(self._closing,), name="ledger", daemon=True)
            self._thread.start()

    async def opened(self, *, to_write: bool = False) -> None:
        """Wait until it is known whether the ledger can be used. One that is out of reach now can be used later.

        Args:
            to_write: whether one counts as out of reach that can only be read; for calls it always does.

        Raises:
            LedgerError: never by this version, or not with this URL.
        """
        self._tries_out |= to_write
        self._begin()
        if not self._looked.done():
            await asyncio.shield(asyncio.wrap_future(self._looked))
        if self._refusal is not None:
            raise LedgerError(self._refusal)

    async def reserve(self, wanted: Reserve) -> Grant | list[BudgetState]:
        """Set aside what a call can cost; the state of its budgets where they do not afford it.

        Raises:
            LedgerError: the budgets cannot be checked now.
        """
        self.start()
        granted: Grant | list[BudgetState] = await self._answer(_Job(wanted=replace(wanted, owner=self._owner)))
        return granted

    async def record(self, call: Call, *, within_s: float | None = None) -> None:
        """Put a call on the account: when this returns, it is written. Raises nothing.

        Once it has begun it ends, even if whoever waits for it is cancelled.

        Args:
            within_s: how long to wait for the database before the call goes to the spool; it is given half a second
                at least, and six at most, which is also what None means.
        """
        self.start()
        if self._refusal is not None and not call.charges:
            return  # refused for the ledger's sake: nobody was asked
        self._unwritten[call.id] = call
        if not self._is_held_up():
            patience_s = _LONGEST_S if within_s is None else min(max(within_s, _SHORTEST_S), _LONGEST_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._ask(_Job(call=call))
                    return
        # Beside the thread, which waits for the database. Should that take the row yet, it counts once.
        await _beside(lambda: self._put_aside([call]))
        self._jobs.put(_Job())  # in case it is back since

    def _is_held_up(self) -> bool:
        """Whether the database is known to be out of reach, or has not answered for long."""
        if self._looked.done() and self._store is None:
            return True
        busy_since = self._busy_since
        return busy_since is not None and time.monotonic() > busy_since + _LONGEST_S

    async def accept_new(self) -> None:
        """Let what is there now, or an empty one, take the place of the ledger that has disappeared.

        Raises:
            LedgerError: none has, or it is out of reach.
        """
        await self._answer(_Job(accepting=True))

    async def lines(self, **which: str | None) -> list[Spend]:
        """What was spent; see `Store.lines`.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        return await self._report(lambda store: store.lines(**which))

    async def spent_on_unknown(self, known: Callable[[str], bool], since: str) -> list[tuple[str, str, str, int]]:
        """What was spent under names that are not known; see `Store.spent_on_unknown`.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        return await self._report(lambda store: store.spent_on_unknown(known, since))

    async def tenants(self) -> list[str]:
        """All that have ever made a call.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        return await self._report(lambda store: store.tenants())

    async def states(self, budgets: Sequence[tuple[str, Budget]]) -> list[BudgetState]:
        """The state of each tenant's budget.

        Raises:
            LedgerError: the ledger is out of reach.
        """
        return await self._report(lambda store: store.states(budgets))

    async def _report(self, read: Callable[[Store], _T]) -> _T:
        store: Store = await self._answer(_Job(reading=True))
        try:
            async with asyncio.timeout(_LONGEST_S):
                report = await _beside(lambda: read(store))
        except Exception as error:
            why = self._reason(error) or "it does not answer"
            if self._keeps and not self._told_of_reading:
                self._told_of_reading = True
                _log.warning("the ledger cannot be read (%s%s)", why, self._place)
            raise LedgerError(self._out_of_reach(why)) from None
        self._told_of_reading = False
        return report

    async def _answer(self, job: _Job) -> Any:
        try:
            async with asyncio.timeout(_LONGEST_S):
                return await self._ask(job)
        except TimeoutError:
            raise LedgerError(self._out_of_reach(self._fault or "it does not answer")) from None

    def _ask(self, job: _Job) -> asyncio.Future[Any]:
        job.done = asyncio.get_running_loop().create_future()
        self._begin()
        self._jobs.put(job)
        return job.done

    async def aclose(self) -> None:
        """Write what waits, and close; safe to call twice. What comes later opens it again."""
        if (thread := self._thread) is not None:
            self._thread, self._closing = None, thread
            self._jobs.put(None)
            await _beside(lambda: thread.join(2 * _PATIENCE_S))
            if thread.is_alive():  # the database does not answer
                self.kill()

    def kill(self) -> None:
        """Bring what is not written yet to the spool, at once: for the way out of a dying process."""
        self._put_aside([*self._unwritten.values(), *self._stranded.values()])

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self, earlier: threading.Thread | None) -> None:
        if earlier is not None:
            earlier.join()  # there is one at a time
        self._open()
        self._looked.set_result(None)
        ended = False
        while not ended:
            self._busy_since = None
            jobs, ended = self._next_jobs()
            self._busy_since = time.monotonic()
            try:
                self._keep_up()
                self._work(jobs)
                if self._jobs.empty() or time.monotonic() > self._synced + _SYNC_S:
                    self._with_store(lambda store: store.sync())
                    self._synced = time.monotonic()
            except Exception:
                _log.exception("a defect of the ledger")
                self._put_aside([job.call for job in jobs if job.call is not None])
                defect = LedgerError("a defect in konstruct_mcp; its log has the details")
                self._answer_all([(job, None if job.call is not None else defect) for job in jobs])
        if self._stranded:
            self._put_aside(list(self._stranded.values()))
            if self._stranded and self._store is None:
                self._open()
        if self._store is not None:
            self._store.close()
            self._store = None

    def _keep_up(self) -> None:
        """What is due beside the jobs."""
        now = time.monotonic()
        if self._store is None and self._refusal is None and now >= self._looked_at + _RETRY_S:
            self._open()
            if self._store is None and self._spool_fault is None:
                self._put_aside(list(self._stranded.values())[:_MOST_AT_ONCE])
        if self._spooled or self._stranded:
            self._with_store(self._fold)
        # By the clock on the wall, which goes on while a machine sleeps, as the leases do.
        if self._holding and abs(time.time() - self._renewed) >= _RENEW_S:
            self._renewed = time.time()
            self._with_store(lambda store: store.renew(self._owner))

    def _next_jobs(self) -> tuple[list[_Job], bool]:
        """All that waits, at least one unless something else is due; and whether that is the end."""
        patience = _RETRY_S if self._store is None else _RENEW_S if self._holding else None
        jobs: list[_Job] = []
        with contextlib.suppress(queue.Empty):
            job = self._jobs.get(timeout=patience)
            while job is not None:
                jobs.append(job)
                if len(jobs) == _MOST_AT_ONCE:
                    return jobs, False
                job = self._jobs.get_nowait()
            return jobs, True
        return jobs, False

    def _open(self, *, accepting: bool = False) -> None:
        """Open the database, and fold in what could not be written before. `accepting` takes another one for it."""
        is_missed = self.has_budgets and not accepting
        store = None
        try:
            from konstruct_mcp.ledger.store import Store

            marked = self._spool.ledger_id()
            known = marked or self._id
            self._is_gone = known is not None and is_missed and not self._has_file()
            store = None if self._is_gone else Store(self._url, _PATIENCE_S)
            if store is None or (known not in (None, store.id) and is_missed):
                self._is_gone = True
                if marked is None and self._keeps and known is not None:
                    self._spool.mark(known)  # the folder has gone with it, and who accepts another is to see that
                raise FileNotFoundError(errno.ENOENT, "it is gone, or another one is in its place")
            if self._keeps or self._tries_out:
                store.try_out()
            self._spool_fault = self._spool.prepare()
            self._id = store.id
            if known is None and self._keeps:
                self._spool.mark(store.id)
            self._fold(store)
        except LedgerError as error:
            self._refusal = error.message
        except Exception as error:
            if store is not None:
                store.close()
            self._lost(error)
        else:
            self._store = store
            self._tell()
        self._looked_at = time.monotonic()

    def _has_file(self) -> bool:
        """Whether the ledger's file is there; True for a database server."""
        return not self._file or Path(self._file).exists()

    def _accept(self) -> LedgerError | None:
        """Take what is there for the ledger; why not, where it cannot be."""
        if self._store is None:
            self._open()
        if self._store is not None:
            return LedgerError("nothing has disappeared: the ledger is the one that it was")
        if self._is_gone:
            self._open(accepting=True)
        if self._store is None:
            return LedgerError(self._unusable())
        self._spool.mark(self._store.id)
        return None

    def _fold(self, store: Store) -> None:
        """Write what waits in memory and in the spool."""
        self._spooled = False
        folded = 0
        while stranded := list(self._stranded.values())[:_MOST_AT_ONCE]:
            store.write(stranded, [], again=True)
            folded += len(stranded)
            self._forget(stranded)
            self._holding -= {call.id for call in stranded}
        rows = ((file, call) for file, row in self._spool.rows() if (call := self._read(file, row)) is not None)
        while some := list(itertools.islice(rows, _MOST_AT_ONCE)):
            try:
                store.write([call for _, call in some], [], again=True)
            except Exception:
                if not store.can_be_written():
                    raise
                some = [(file, call) for file, call in some if self._fold_one(store, file, call)]
            folded += len(some)
            self._holding -= {call.id for _, call in some}
            store.sync()  # as the files are, which go now
            for file, _ in some:
                self._spool.drop(file)
        if folded:
            self._fault = None
            self._tell(folded)

    def _fold_one(self, store: Store, file: Path, call: Call) -> bool:
        """Whether it could be; one that the database refuses stays, and not in the way of the others."""
        try:
            store.write([call], [], again=True)
        except Exception as error:
            if not store.can_be_written():
                raise
            self._spool.leave(file, self._reason(error))
            return False
        return True

    def _read(self, file: Path, row: bytes) -> Call | None:
        try:
            return read_call(row)
        except ValueError:
            self._spool.put_aside(file)
            return None

    def _work(self, jobs: list[_Job]) -> None:
        calls = [job.call for job in jobs if job.call is not None]
        # A reservation that nobody waits for any more would never be given up: its call may be recorded already.
        wanting = [job for job in jobs if job.wanted is not None and job.done is not None and not job.done.cancelled()]
        wanted = [job.wanted for job in wanting if job.wanted is not None]
        answers: list[tuple[_Job, Any]] = [(job, None) for job in jobs if job.call is not None]
        if wanted:
            self._with_store(self._fold)  # what another process could not write is spent all the same
        granted = self._write(calls, wanted) if calls or wanted else []
        if granted is None:
            self._put_aside(calls)
            answers += [(job, LedgerError(self._unusable())) for job in wanting]
        else:
            self._written(calls)
            answers += list(zip(wanting, granted, strict=True))
            self._holding |= {
                reserve.call_id for reserve, grant in zip(wanted, granted, strict=True) if isinstance(grant, Grant)
            }
        self._holding -= {call.id for call in calls}
        self._answer_all(answers)
        if unwanted := [job.unwanted for job in jobs if job.unwanted is not None]:
            self._with_store(lambda store: store.give_up(unwanted))
            self._holding -= {reserve.call_id for reserve in unwanted}
        if accepting := [job for job in jobs if job.accepting]:
            self._answer_all([(job, self._accept()) for job in accepting])
        if reading := [job for job in jobs if job.reading]:
            readable = self._readable()
            self._answer_all([(job, readable) for job in reading])

    def _answer_all(self, answers: Sequence[tuple[_Job, Any]]) -> None:
        """Tell all who wait, each on its own event loop and all of one at once."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Any]]] = {}
        for job, answer in answers:
            if job.done is not None:
                loops.setdefault(job.done.get_loop(), []).append((job, answer))
        for loop, ready in loops.items():
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
                loop.call_soon_threadsafe(self._settle, ready)

    def _settle(self, ready: Sequence[tuple[_Job, Any]]) -> None:
        for job, answer in ready:
            assert job.done is not None  # noqa: S101  # or it has no loop
            if job.done.done():
                if isinstance(answer, Grant):  # its call has ended, perhaps before this was granted
                    self._jobs.put(_Job(unwanted=job.wanted))
            elif isinstance(answer, LedgerError):
                job.done.set_exception(answer)
            else:
                job.done.set_result(answer)

    def _readable(self) -> Store | LedgerError:
        """The store, with all that waits in it, or why there is none."""
        if self._refusal is None and (self._store is None or (not self._with_store(self._fold) and self._broken)):
            self._open()  # somebody is looking at it now
        return self._store or LedgerError(self._unusable())

    def _write(self, calls: list[Call], wanted: list[Reserve]) -> list[Grant | list[BudgetState]] | None:
        """What was granted, or None where nothing was written."""
        granted: list[Any] = []
        # One that its caller has put into the spool meanwhile may have been folded in.
        again = any(call.id not in self._unwritten for call in calls)
        if self._with_store(lambda store: granted.append(store.write(calls, wanted, again=again))):
            return list(granted[0])
        if self._broken:
            # The connection was cut, as a server does that is started again. A new one will tell; whether the old one
            # has committed is unknown.
            self._open()
            if self._with_store(lambda store: granted.append(store.write(calls, wanted, again=True))):
                return list(granted[0])
        return None

    def _with_store(self, act: Callable[[Store], None]) -> bool:
        """Whether it was done. If not, the database counts as out of reach until it has been opened again."""
        if self._store is None:
            return False
        try:
            self._store.is_there()
            act(self._store)
        except Exception as error:
            self._lost(error)
            return False
        return True

    def _lost(self, error: Exception) -> None:
        self._broken = bool(getattr(error, "connection_invalidated", False))
        self._fault = self._reason(error)
        if self._store is not None:
            self._is_gone = self.has_budgets and not self._has_file()
        self._spool_fault = self._spool.prepare()
        self._tell()
        if self._store is not None:
            with contextlib.suppress(Exception):
                self._store.close()
        self._store = None
        self._looked_at = time.monotonic()

    def _reason(self, error: Exception) -> str:
        """The database's own words, or the system's, in one line; what follows there are hints."""
        if isinstance(error, FileExistsError):
            return "a file is where its folder should be"
        said = error.strerror if isinstance(error, OSError) else getattr(error, "orig", None)
        first_line = str(said or error).strip().partition("\n")[0]
        return cut(without_password(first_line, self._url), 200)

    def _unusable(self) -> str:
        if self._is_gone and self._refusal is None:
            return f"{_GONE}; {_HOW_ON}"
        return self._refusal or self._out_of_reach(self._fault)

    def _out_of_reach(self, why: str | None) -> str:
        """Who reads reports alone is the operator, and is told why; in a server that is in the log."""
        return _OUT_OF_REACH if self._keeps or not why else f"the ledger is out of reach ({why}); try again later"

    def _written(self, calls: Sequence[Call]) -> None:
        self._forget(calls)
        if calls:
            self._fault = None
            self._tell()

    def _forget(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._unwritten.pop(call.id, None)
            self._stranded.pop(call.id, None)

    def _put_aside(self, calls: Sequence[Call]) -> None:
        """Into the spool; what does not even fit there stays in memory until one of them can be written."""
        for call in calls:
            try:
                self._spool.put(call.id, asdict(call))
            except OSError as error:
                self._spool_fault = error
                self._keep(call)
            else:
                self._stranded.pop(call.id, None)
                self._spooled = True
            self._unwritten.pop(call.id, None)
        self._tell()

    def _keep(self, call: Call) -> None:
        self._stranded[call.id] = call
        with self._telling:
            if len(self._stranded) > self._most_in_memory:
                self._stranded.popitem(last=False)
                self._dropped += 1
                if self._dropped == 1:
                    _log.error("no more than %d calls are kept in memory: the oldest are lost", self._most_in_memory)

    def _tell(self, folded: int = 0) -> None:
        """Say in one line what has changed since it was last said; nothing to somebody who reads reports alone."""
        if not self._keeps:
            return
        is_well = self._fault is None and self._spool_fault is None
        if is_well and not (self._told or self._told_of_spool or folded):
            return  # as after every call
        with self._telling:
            fault, spool_fault = self._fault, self._spool_fault
            ledger = f"{fault}{self._place}{f'; {_HOW_ON}' if self._is_gone else ''}"
            spool = "" if spool_fault is None else f"{self._reason(spool_fault)}: {self._spool.folder}"
            if fault is not None and not self._told:
                if spool_fault is None:
                    _log.warning("the ledger cannot be written (%s); calls go to its spool until it can", ledger)
                else:
                    _log.error("neither the ledger (%s) nor its spool (%s) can be written; %s", ledger, spool, _MEMORY)
            elif spool_fault is not None and not self._told_of_spool:
                level = logging.WARNING if fault is None else logging.ERROR
                _log.log(
                    level, "the spool of the ledger cannot be written (%s); without the ledger, %s", spool, _MEMORY
                )
            if fault is None and self._told:
                waited = f", with {_counted(folded)} that had to wait" if folded else ""
                lost = f"; {_counted(self._dropped)} lost" if self._dropped else ""
                _log.warning("the ledger is written again%s%s", waited, lost)
                self._dropped = 0
            elif folded:
                _log.warning("in the ledger now: %s that had to wait", _counted(folded))
            self._told = fault is not None
            self._told_of_spool = spool_fault is not None or (self._told and self._told_of_spool)


def _counted(calls: int) -> str:
    return "1 call" if calls == 1 else f"{calls} calls"


def _file(url: str) -> str:
    """Which file it is; empty for a database server, whose driver says where that is."""
    scheme, _, rest = url.partition("://")
    return rest.partition("?")[0][1:] if scheme.startswith("sqlite") and rest.startswith("/") else ""


async def _beside(act: Callable[[], _T]) -> _T:
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
