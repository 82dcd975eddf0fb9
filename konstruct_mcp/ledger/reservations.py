"""How the cost of a call is reserved on its budgets, and what becomes of reservations whose process has died.

All within the transaction of whoever calls this.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from konstruct_mcp.core.budgets import Budget, BudgetState, Grant, Reserve
from konstruct_mcp.core.money import MOST_NUSD
from konstruct_mcp.core.spending import Call
from konstruct_mcp.ledger import statements
from konstruct_mcp.ledger.calls import LOST, Reservation, add_charges, by_call, lost_call, record

_LEASE_S = 120  # until a reservation lapses that nobody renews
_CLOCKS_DIFFER_S = 120  # how far the clocks of machines that share a ledger may be apart (docs/tenants-and-budgets.md)


def lease_end(now: datetime) -> int:
    """When a reservation lapses that is made or renewed now, in seconds since 1970."""
    return int(now.timestamp()) + _LEASE_S


def reserve(connection: sa.Connection, wanted: Reserve, now: datetime, *, again: bool) -> Grant | list[BudgetState]:
    """Reserve what a call can cost, with a shorter answer where the budgets afford no more.

    Returns: the grant, or the state of each budget where they do not afford the call.
    """
    if wanted.attempt > 1 or again:
        connection.execute(statements.GIVE_UP_ALL_BUT, {"id": wanted.call_id, "kept": wanted.kept})
    first = _grant(connection, wanted, wanted.quote.max_tokens, now)
    if first is not None:
        return first
    states = [budget_state(connection, wanted.tenant, budget, now, wanted.owner) for budget in wanted.budgets]
    tokens = wanted.quote.affordable(min(state.left_nusd for state in states))
    if tokens < (wanted.quote.max_tokens if wanted.quote.fixed else min(wanted.min_tokens, wanted.quote.max_tokens)):
        return states
    return _grant(connection, wanted, tokens, now) or states


def _grant(connection: sa.Connection, wanted: Reserve, tokens: int, now: datetime) -> Grant | None:
    """Reserve what an answer of so many tokens can cost, if all budgets afford it: one statement checks and inserts."""
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
        "lapses_at": lease_end(now),
        "model": wanted.model,
        "held_on": None,
    }
    for number, budget in enumerate(wanted.budgets):
        values |= statements.budget_values(budget, now, statements.budget_suffix(number))
    reserving = statements.reserve_within(tuple(len(budget.counted) for budget in wanted.budgets))
    if reserving.execute(connection, values) != 1:
        return None
    return Grant(amount, tokens, wanted.quote.input_tokens)


def budget_state(connection: sa.Connection, tenant: str, budget: Budget, now: datetime, owner: str = "") -> BudgetState:
    """The state of a tenant's budget. A reservation that has lapsed counts as held, unless it is the owner's."""
    values = {
        **{"tenant": tenant, "now": int(now.timestamp()), "owner": owner},
        **statements.budget_values(budget, now),
    }
    found = connection.execute(statements.budget_amounts(len(budget.counted)), values).one()
    spent, held, reserved, lapsed = map(int, found)
    return budget.state(tenant, spent, held + lapsed, reserved - lapsed, now)


def shorten(connection: sa.Connection, now: datetime) -> None:
    """See that no reservation stands for longer than one that is made now, whatever clock it was made by."""
    lapses_at = lease_end(now)
    connection.execute(statements.SHORTEN, {"latest": lapses_at + _CLOCKS_DIFFER_S, "instead": lapses_at})


def record_lost(connection: sa.Connection, lapsed: Sequence[Reservation]) -> None:
    """Make lost calls of reservations that have lapsed."""
    ids = sorted({row["call_id"] for row in lapsed})
    found = {row.id: row for row in connection.execute(statements.FIND_CALLS, {"ids": ids})}
    new: list[Call] = []
    for rows in by_call(lapsed):
        id_ = rows[0]["call_id"]
        known = found.get(id_)
        if known is not None and known.outcome != LOST:  # it was granted after the call's end, and never used
            connection.execute(statements.GIVE_UP_ALL_OF_CALLS, {"ids": [id_]})
            continue
        reserved_at = datetime.fromtimestamp(max(row["lapses_at"] for row in rows) - _LEASE_S, UTC)
        day = reserved_at.date().isoformat() if known is None else known.time[:10]
        for row in rows:
            connection.execute(statements.HOLD, {"id": id_, "of_attempt": row["attempt"], "day": day})
        call = lost_call(rows, day)
        if known is None:
            new.append(call)
        else:  # its process was back, and has died again
            add_charges(connection, call)
    if new:
        record(connection, new, again=False)
