"""What the ledger says when it cannot be used: in the log, and to the callers whom it refuses."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from konstruct_mcp.core.secrets import without_password
from konstruct_mcp.core.text import cut

_log = logging.getLogger(__name__)

_OUT_OF_REACH = "the ledger is out of reach; try again later"
_MEMORY = "calls are kept in memory, and lost if this process ends first"
_GONE = "the ledger that was here is gone, so that nobody knows what is left of a budget"
_HOW_ON = "put it back, or run `konstruct-mcp ledger accept-new` to begin with what is there now"


class Notices:
    """The state of the ledger and of its spool, and what is said of it. Each change is said once, in one line.

    Attributes:
        serves_calls: whether calls are made. Somebody who only reads reports gets errors, and no log.
        refusal: why the ledger can never be used by this process; None where it can.
        ledger_fault: why no call could be written; None since one was.
        spool_fault: why the spool cannot be written; None where it can.
        is_gone: whether the ledger that was here has disappeared, and its budgets with it.
    """

    def __init__(self, url: str, file: str, spool_folder: Path) -> None:
        """`file` is the ledger's, empty for a database server."""
        self._url = url
        self._place = f": {file}" if file else ""  # the end of a sentence
        self._spool_folder = spool_folder
        self.serves_calls = False
        self.refusal: str | None = None
        self.ledger_fault: str | None = None
        self.spool_fault: OSError | None = None
        self.is_gone = False
        self._lock = threading.Lock()
        self._lost_calls = 0  # since the ledger was last written
        self._said_ledger = self._said_spool = self._said_reading = False

    def reason(self, error: Exception) -> str:
        """The words of the database or the system, in one line; what follows there are hints."""
        if isinstance(error, FileExistsError):
            return "a file is where its folder should be"
        said = error.strerror if isinstance(error, OSError) else getattr(error, "orig", None)
        first_line = str(said or error).strip().partition("\n")[0]
        return cut(without_password(first_line, self._url), 200)

    def unusable(self) -> str:
        """What a caller is told whom the ledger refuses."""
        if self.is_gone and self.refusal is None:
            return f"{_GONE}; {_HOW_ON}"
        return self.refusal or self.out_of_reach(self.ledger_fault)

    def out_of_reach(self, why: str | None) -> str:
        """Who only reads reports is the operator and is told why; a server says that in its log."""
        return _OUT_OF_REACH if self.serves_calls or not why else f"the ledger is out of reach ({why}); try again later"

    def say_unreadable(self, why: str) -> None:
        """Say once that a report could not be read."""
        if self.serves_calls and not self._said_reading:
            self._said_reading = True
            _log.warning("the ledger cannot be read (%s%s)", why, self._place)

    def note_readable(self) -> None:
        """A report was read."""
        self._said_reading = False

    def count_lost(self, most_in_memory: int) -> None:
        """A call is lost: neither the ledger nor the spool took it, and there was no more room in memory."""
        with self._lock:
            self._lost_calls += 1
            if self._lost_calls == 1:
                _log.error("no more than %d calls are kept in memory: the oldest are lost", most_in_memory)

    def say_changes(self, folded: int = 0) -> None:
        """Say what has changed since it was last said.

        Args:
            folded: how many calls that had to wait were written into the ledger now.
        """
        if not self.serves_calls:
            return
        is_well = self.ledger_fault is None and self.spool_fault is None
        if is_well and not (self._said_ledger or self._said_spool or folded):
            return  # as after every call
        with self._lock:
            fault, spool_fault = self.ledger_fault, self.spool_fault
            self._say_faults(fault, spool_fault)
            if fault is None and self._said_ledger:
                waited = f", with {_counted(folded)} that had to wait" if folded else ""
                lost = f"; {_counted(self._lost_calls)} lost" if self._lost_calls else ""
                _log.warning("the ledger is written again%s%s", waited, lost)
                self._lost_calls = 0
            elif folded:
                _log.warning("in the ledger now: %s that had to wait", _counted(folded))
            self._said_ledger = fault is not None
            self._said_spool = spool_fault is not None or (self._said_ledger and self._said_spool)

    def _say_faults(self, fault: str | None, spool_fault: OSError | None) -> None:
        ledger = f"{fault}{self._place}{f'; {_HOW_ON}' if self.is_gone else ''}"
        spool = "" if spool_fault is None else f"{self.reason(spool_fault)}: {self._spool_folder}"
        if fault is not None and not self._said_ledger:
            if spool_fault is None:
                _log.warning("the ledger cannot be written (%s); calls go to its spool until it can", ledger)
            else:
                _log.error("neither the ledger (%s) nor its spool (%s) can be written; %s", ledger, spool, _MEMORY)
        elif spool_fault is not None and not self._said_spool:
            level = logging.WARNING if fault is None else logging.ERROR
            _log.log(level, "the spool of the ledger cannot be written (%s); without the ledger, %s", spool, _MEMORY)


def _counted(calls: int) -> str:
    return "1 call" if calls == 1 else f"{calls} calls"
