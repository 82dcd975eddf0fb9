"""The thread that writes the ledger.

- It takes everything that waits and writes it in one transaction.
- While the database is out of reach, it looks every second whether it is back.
- What the database refuses goes to the spool, and from there into the database when it is back.
- While calls hold reservations, it renews them.

A little long: what the thread may do between two transactions is read in one place.
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
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from konstruct_mcp.core.budgets import Decision, Grant, Reserve
from konstruct_mcp.core.errors import LedgerError
from konstruct_mcp.core.spending import Call, read_call
from konstruct_mcp.ledger.backlog import Backlog
from konstruct_mcp.ledger.commands import (
    AcceptNew,
    GetStore,
    GiveUpReservation,
    LookAgain,
    Message,
    Question,
    RecordCall,
    ReserveCost,
)
from konstruct_mcp.ledger.notices import Notices

if TYPE_CHECKING:
    from konstruct_mcp.ledger.store import Store

_log = logging.getLogger(__name__)

_PATIENCE_S = 5.0  # for the database to answer, or for another process to release its lock
LONGEST_ANSWER_S = _PATIENCE_S + 1  # for an answer of this thread: a database that hangs may keep no limit of its own
LONGEST_END_S = 2 * _PATIENCE_S  # for this thread to end after `stop`
_RETRY_S = 1.0  # between looks whether a database that was out of reach is back
_RENEW_S = 20.0  # well within the time after which a reservation lapses
_SYNC_S = 0.1  # at most from a write until it is on the disk, under a load that never ends
_MOST_AT_ONCE = 500  # rows in one transaction, so that none keeps the lock for long


class Writer:
    """The thread, which `start` begins and `stop` ends; it can be started again.

    Attributes:
        owner: this process, as the owner of its reservations.
        has_budgets: whether there are budgets. Then another ledger does not take the place of one that disappears.
        tries_out: whether a ledger that cannot be written counts as out of reach though no calls are made.
    """

    def __init__(self, url: str, file: str, backlog: Backlog, notices: Notices) -> None:
        """`file` is the ledger's, empty for a database server."""
        self._url, self._file = url, file
        self._backlog, self._spool, self._notices = backlog, backlog.spool, notices
        self.owner = str(uuid.uuid4())
        self.has_budgets = False
        self.tries_out = False
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()  # None ends the thread
        self._thread: threading.Thread | None = None
        self._ending: threading.Thread | None = None  # the one before
        self._first_opened: Future[None] = Future()  # done when it is known whether the ledger can be used
        self._store: Store | None = None
        self._ledger_id: str | None = None  # of the ledger that was last open
        self._reserving: set[str] = set()  # ids of the calls that hold a reservation
        self._renewed_at = 0.0  # by the wall clock, which goes on while a machine sleeps, as the leases do
        self._opened_at = self._synced_at = 0.0
        self._busy_since: float | None = None  # while the thread works
        self._needs_new_connection = False  # whether the last failure was of the connection, so that a new one may do

    # -- for other threads -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to open the ledger, unless that has begun; returns at once."""
        if self._thread is None:
            self._first_opened = Future()
            # A daemon, so that a process told to end does not wait for an import.
            self._thread = threading.Thread(target=self._run, args=(self._ending,), name="ledger", daemon=True)
            self._thread.start()

    def stop(self) -> threading.Thread | None:
        """Let the thread end when it has written what waits. Returns it, None where it has ended before."""
        if (thread := self._thread) is not None:
            self._thread, self._ending = None, thread
            self._messages.put(None)
        return thread

    def put(self, message: Message) -> None:
        self._messages.put(message)

    async def opened(self) -> None:
        """Wait until the thread has tried to open the ledger once."""
        if not self._first_opened.done():
            await asyncio.shield(asyncio.wrap_future(self._first_opened))

    @property
    def open_reservations(self) -> int:
        """How many calls hold a reservation."""
        return len(self._reserving)

    def is_held_up(self) -> bool:
        """Whether the database is known to be out of reach, or has not answered for long."""
        if self._first_opened.done() and self._store is None:
            return True
        busy_since = self._busy_since
        return busy_since is not None and time.monotonic() > busy_since + LONGEST_ANSWER_S

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self, earlier: threading.Thread | None) -> None:
        if earlier is not None:
            earlier.join()  # there is one at a time
        self._open()
        self._first_opened.set_result(None)
        ended = False
        while not ended:
            self._busy_since = None
            messages, ended = self._next_messages()
            self._busy_since = time.monotonic()
            try:
                self._keep_up()
                self._work(messages)
                if self._messages.empty() or time.monotonic() > self._synced_at + _SYNC_S:
                    self._with_store(lambda store: store.sync())
                    self._synced_at = time.monotonic()
            except Exception:
                _log.exception("a defect of the ledger")
                self._fail(messages)
        if self._backlog.has_memory:
            self._backlog.put_aside(self._backlog.from_memory())
            if self._backlog.has_memory and self._store is None:
                self._open()
        if self._store is not None:
            self._store.close()
            self._store = None

    def _next_messages(self) -> tuple[list[Message], bool]:
        """All that waits, at least one unless something else is due; and whether that is the end."""
        patience = _RETRY_S if self._store is None else _RENEW_S if self._reserving else None
        messages: list[Message] = []
        with contextlib.suppress(queue.Empty):
            message = self._messages.get(timeout=patience)
            while message is not None:
                messages.append(message)
                if len(messages) == _MOST_AT_ONCE:
                    return messages, False
                message = self._messages.get_nowait()
            return messages, True
        return messages, False

    def _keep_up(self) -> None:
        """Do what is due besides the messages: open again, fold in what had to wait, renew reservations."""
        now = time.monotonic()
        if self._store is None and self._notices.refusal is None and now >= self._opened_at + _RETRY_S:
            self._open()
            if self._store is None and self._notices.spool_fault is None:
                self._backlog.put_aside(self._backlog.from_memory(_MOST_AT_ONCE))
        if self._backlog.has_spooled or self._backlog.has_memory:
            self._with_store(self._fold)
        if self._reserving and abs(time.time() - self._renewed_at) >= _RENEW_S:
            self._renewed_at = time.time()
            self._with_store(lambda store: store.renew(self.owner))

    def _work(self, messages: Sequence[Message]) -> None:
        recording: list[RecordCall] = []
        reserving: list[ReserveCost] = []
        unwanted: list[Reserve] = []
        accepting: list[AcceptNew] = []
        reading: list[GetStore] = []
        for message in messages:
            match message:
                case RecordCall():
                    recording.append(message)
                case ReserveCost(done=done):
                    # Without anybody waiting it would never be given up: its call may be recorded already.
                    if not done.cancelled():
                        reserving.append(message)
                case GiveUpReservation(unwanted=reservation):
                    unwanted.append(reservation)
                case AcceptNew():
                    accepting.append(message)
                case GetStore():
                    reading.append(message)
                case LookAgain():
                    pass  # which `_keep_up` has done
        self._write_all(recording, reserving)
        if unwanted:
            self._with_store(lambda store: store.give_up(unwanted))
            self._reserving -= {reservation.call_id for reservation in unwanted}
        self._answer([(message, self._accept()) for message in accepting])
        if reading:
            readable = self._readable()
            self._answer([(message, readable) for message in reading])

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write_all(self, recording: Sequence[RecordCall], reserving: Sequence[ReserveCost]) -> None:
        """Record calls and reserve for others, in one transaction."""
        calls, wanted = [message.call for message in recording], [message.wanted for message in reserving]
        answers: list[tuple[Question, Any]] = [(message, None) for message in recording]
        if wanted:
            self._with_store(self._fold)  # what another process could not write is spent all the same
        granted = self._write(calls, wanted) if calls or wanted else []
        if granted is None:
            self._backlog.put_aside(calls)
            answers += [(message, LedgerError(self._notices.unusable())) for message in reserving]
        else:
            self._note_written(calls)
            decisions = self._decide_all(wanted, granted)
            answers += zip(reserving, decisions, strict=True)
            decided = zip(wanted, decisions, strict=True)
            self._reserving |= {reserve.call_id for reserve, decision in decided if isinstance(decision, Grant)}
        self._reserving -= {call.id for call in calls}
        self._answer(answers)

    def _write(
        self, calls: list[Call], wanted: list[Reserve], *, in_turn: bool = False
    ) -> Sequence[Decision | None] | None:
        """As `Store.write`, again where the connection was cut; returns None where nothing was written."""
        granted: list[Sequence[Decision | None]] = []
        # A call that was put into the spool meanwhile may have been folded in.
        again = not all(map(self._backlog.is_handed_over, calls))
        if self._with_store(lambda store: granted.append(store.write(calls, wanted, again=again, in_turn=in_turn))):
            return granted[0]
        if self._needs_new_connection:
            # The connection was cut, as by a server that restarts. Whether it has committed is unknown.
            self._open()
            if self._with_store(lambda store: granted.append(store.write(calls, wanted, again=True))):
                return granted[0]
        return None

    def _decide_all(self, wanted: list[Reserve], decisions: Sequence[Decision | None]) -> list[Decision | LedgerError]:
        """Decide in turn where nothing is decided yet: the first look at a budget, and whatever is scarce."""
        rest = [reserve for reserve, decision in zip(wanted, decisions, strict=True) if decision is None]
        in_turn = iter((self._write([], rest, in_turn=True) if rest else None) or [None] * len(rest))
        decided = (next(in_turn) if decision is None else decision for decision in decisions)
        return [LedgerError(self._notices.unusable()) if decision is None else decision for decision in decided]

    def _note_written(self, calls: Sequence[Call]) -> None:
        self._backlog.forget(calls)
        if calls:
            self._notices.ledger_fault = None
            self._notices.say_changes()

    def _fold(self, store: Store) -> None:
        """Write what waits in memory and in the spool."""
        self._backlog.has_spooled = False
        folded = 0
        while kept := self._backlog.from_memory(_MOST_AT_ONCE):
            store.write(kept, [], again=True)
            folded += len(kept)
            self._backlog.forget(kept)
            self._reserving -= {call.id for call in kept}
        rows = ((file, call) for file, row in self._spool.rows() if (call := self._read(file, row)) is not None)
        while some := list(itertools.islice(rows, _MOST_AT_ONCE)):
            try:
                store.write([call for _, call in some], [], again=True)
            except Exception:
                if not store.can_be_written():
                    raise
                some = [(file, call) for file, call in some if self._fold_one(store, file, call)]
            folded += len(some)
            self._reserving -= {call.id for _, call in some}
            store.sync()  # before the files go, which are on the disk
            for file, _ in some:
                self._spool.drop(file)
        if folded:
            self._notices.ledger_fault = None
            self._notices.say_changes(folded)

    def _fold_one(self, store: Store, file: Path, call: Call) -> bool:
        """Write one row of the spool. One that the database refuses stays there, without holding up the others."""
        try:
            store.write([call], [], again=True)
        except Exception as error:
            if not store.can_be_written():
                raise
            self._spool.leave(file, self._notices.reason(error))
            return False
        return True

    def _read(self, file: Path, row: bytes) -> Call | None:
        try:
            return read_call(row)
        except ValueError:
            self._spool.put_aside(file)
            return None

    # -- the database ------------------------------------------------------------------------------------------------

    def _open(self, *, accepting: bool = False) -> None:
        """Open the database, and fold in what could not be written before.

        Args:
            accepting: whether another ledger may take the place of the one that has disappeared.
        """
        is_missed = self.has_budgets and not accepting
        store = None
        serves_calls = self._notices.serves_calls
        try:
            from konstruct_mcp.ledger.store import Store

            marked = self._spool.ledger_id()
            known = marked or self._ledger_id
            self._notices.is_gone = known is not None and is_missed and not self._has_file()
            store = None if self._notices.is_gone else Store(self._url, _PATIENCE_S)
            if store is None or (known not in (None, store.id) and is_missed):
                self._notices.is_gone = True
                if marked is None and serves_calls and known is not None:
                    self._spool.mark(known)  # the folder has gone with it; a process that accepts another needs this
                raise FileNotFoundError(errno.ENOENT, "it is gone, or another one is in its place")
            if serves_calls or self.tries_out:
                store.try_out()
            self._notices.spool_fault = self._spool.prepare()
            self._ledger_id = store.id
            if known is None and serves_calls:
                self._spool.mark(store.id)
            self._fold(store)
        except LedgerError as error:
            self._notices.refusal = error.message
        except Exception as error:
            if store is not None:
                store.close()
            self._lose_store(error)
        else:
            self._store = store
            self._notices.say_changes()
        self._opened_at = time.monotonic()

    def _has_file(self) -> bool:
        """Whether the ledger's file is there; True for a database server."""
        return not self._file or Path(self._file).exists()

    def _with_store(self, act: Callable[[Store], None]) -> bool:
        """Do this, if the database is open. Where that fails, it counts as out of reach until it is opened again.

        Returns: whether it was done.
        """
        if self._store is None:
            return False
        try:
            self._store.is_there()
            act(self._store)
        except Exception as error:
            self._lose_store(error)
            return False
        return True

    def _lose_store(self, error: Exception) -> None:
        self._needs_new_connection = bool(getattr(error, "connection_invalidated", False))
        self._notices.ledger_fault = self._notices.reason(error)
        if self._store is not None:
            self._notices.is_gone = self.has_budgets and not self._has_file()
        self._notices.spool_fault = self._spool.prepare()
        self._notices.say_changes()
        if self._store is not None:
            with contextlib.suppress(Exception):
                self._store.close()
        self._store = None
        self._opened_at = time.monotonic()

    def _readable(self) -> Store | LedgerError:
        """The store, with everything in it that waits, or why there is none."""
        if self._notices.refusal is None and (
            self._store is None or (not self._with_store(self._fold) and self._needs_new_connection)
        ):
            self._open()  # somebody is looking at it now
        return self._store or LedgerError(self._notices.unusable())

    def _accept(self) -> LedgerError | None:
        """Take the ledger that is there. Returns why not, where it cannot be taken."""
        if self._store is None:
            self._open()
        if self._store is not None:
            return LedgerError("nothing has disappeared: the ledger is the one that it was")
        if self._notices.is_gone:
            self._open(accepting=True)
        if self._store is None:
            return LedgerError(self._notices.unusable())
        self._spool.mark(self._store.id)
        return None

    # -- answers -----------------------------------------------------------------------------------------------------

    def _fail(self, messages: Sequence[Message]) -> None:
        self._backlog.put_aside([message.call for message in messages if isinstance(message, RecordCall)])
        defect = LedgerError("a defect in konstruct_mcp; its log has the details")
        questions = [message for message in messages if isinstance(message, Question)]
        self._answer([(message, None if isinstance(message, RecordCall) else defect) for message in questions])

    def _answer(self, answers: Sequence[tuple[Question, Any]]) -> None:
        """Answer all who wait, each on its own event loop and all of one loop at once."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Question, Any]]] = {}
        for message, answer in answers:
            loops.setdefault(message.done.get_loop(), []).append((message, answer))
        for loop, ready in loops.items():
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
                loop.call_soon_threadsafe(self._settle, ready)

    def _settle(self, ready: Sequence[tuple[Question, Any]]) -> None:
        for message, answer in ready:
            if message.done.done():
                if isinstance(message, ReserveCost) and isinstance(answer, Grant):  # its call has ended meanwhile
                    self._messages.put(GiveUpReservation(message.wanted))
            elif isinstance(answer, LedgerError):
                message.done.set_exception(answer)
            else:
                message.done.set_result(answer)
