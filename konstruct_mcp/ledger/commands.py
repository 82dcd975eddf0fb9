"""What is sent to the thread that writes the ledger. `done` is where the sender waits, on its own event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from konstruct_mcp.core.budgets import Decision, Reserve
from konstruct_mcp.core.spending import Call

if TYPE_CHECKING:
    from konstruct_mcp.ledger.store import Store


@dataclass(frozen=True, slots=True)
class RecordCall:
    """Write the row of a call."""

    call: Call
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class ReserveCost:
    """Reserve what a call can cost; the answer is the state of its budgets where they do not afford it."""

    wanted: Reserve
    done: asyncio.Future[Decision]


@dataclass(frozen=True, slots=True)
class GiveUpReservation:
    """Delete a reservation that was granted after its call had ended. Nobody waits for this."""

    unwanted: Reserve


@dataclass(frozen=True, slots=True)
class GetStore:
    """Hand out the store to read from, with all in it that can be written now."""

    done: asyncio.Future[Store]


@dataclass(frozen=True, slots=True)
class AcceptNew:
    """Take another ledger in place of the one that has disappeared."""

    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class LookAgain:
    """See whether the database is back. Nobody waits for this."""


Question = RecordCall | ReserveCost | GetStore | AcceptNew
Message = Question | GiveUpReservation | LookAgain
