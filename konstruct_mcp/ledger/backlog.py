"""Calls that have ended and are not in the database yet. Its methods may be called in any thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict

from konstruct_mcp.core.spending import Call
from konstruct_mcp.ledger.notices import Notices
from konstruct_mcp.ledger.spool import Spool


class Backlog:
    """Where a call is until the database has taken it.

    - Handed over: the writer's thread has it.
    - In the spool: the database did not take it in time.
    - In memory: the spool did not take it either. The newest `most_in_memory` are kept until the process ends.

    Attributes:
        spool: its rows may be another process's.
        has_spooled: whether a row was put into the spool since that was last folded in.
    """

    def __init__(self, spool: Spool, notices: Notices, most_in_memory: int) -> None:
        self.spool = spool
        self.has_spooled = False
        self._notices = notices
        self._most_in_memory = most_in_memory
        self._handed_over: dict[str, Call] = {}
        self._in_memory: OrderedDict[str, Call] = OrderedDict()
        self._lock = threading.Lock()

    def hand_over(self, call: Call) -> None:
        """Note a call before it is sent to the writer."""
        self._handed_over[call.id] = call

    def is_handed_over(self, call: Call) -> bool:
        """Whether nobody has put this call aside since it was handed over."""
        return call.id in self._handed_over

    @property
    def has_memory(self) -> bool:
        """Whether there are calls in memory."""
        return bool(self._in_memory)

    def count(self) -> int:
        """How many calls wait, in the spool and in memory. Reads a folder, which can block."""
        return len(self._in_memory) + self.spool.count()

    def from_memory(self, most: int | None = None) -> list[Call]:
        """The oldest calls in memory; all for None."""
        return list(self._in_memory.values())[:most]

    def forget(self, calls: Sequence[Call]) -> None:
        """These are in the database."""
        for call in calls:
            self._handed_over.pop(call.id, None)
            self._in_memory.pop(call.id, None)

    def put_aside(self, calls: Sequence[Call]) -> None:
        """Bring calls to the spool, or keep them in memory where it does not take them."""
        for call in calls:
            try:
                self.spool.put(call.id, asdict(call))
            except OSError as error:
                self._notices.spool_fault = error
                self._keep(call)
            else:
                self._in_memory.pop(call.id, None)
                self.has_spooled = True
            self._handed_over.pop(call.id, None)
        self._notices.say_changes()

    def put_all_aside(self) -> None:
        """Bring everything to the spool that is not in the database."""
        self.put_aside([*self._handed_over.values(), *self._in_memory.values()])

    def _keep(self, call: Call) -> None:
        with self._lock:
            self._in_memory[call.id] = call
            if len(self._in_memory) <= self._most_in_memory:
                return
            self._in_memory.popitem(last=False)
        self._notices.count_lost(self._most_in_memory)
