"""How the cost of a call is reserved on its budgets, and what becomes of reservations whose process has died.

All within the transaction of whoever calls this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from konstruct_mcp.core.budgets import Budget, BudgetState, Decision, Grant, Reserve
from konstruct_mcp.core.money import MOST_NUSD
from konstruct_mcp.core.spending import Call
from konstruct_mcp.ledger import statements
from konstruct_mcp.ledger.calls import LOST, Reservation, add_charges, by_call, lost_call, record
from konstruct_mcp.ledger.transactions import Amounts, Need, Transaction, Window

_LEASE_S = 120  # until a reservation lapses that nobody renews
_CLOCKS_DIFFER_S = 120  # how far the clocks of machines that share a ledger may be apart (docs/tenants-and-budgets.md)


def lease_end(now: datetime) -> int:
    """When a reservation lapses that is made or renewed now, in seconds since 1970."""
    return int(now.timestamp()) + _LEASE_S


def reserve_at_once(transaction: Transaction, wanted: Sequence[Reserve], now: datetime) -> list[Grant | None]:
    """Reserve what the longest answers can cost, for each tenant whose budgets afford that for all of its calls.

    This is what `reserve` does where nothing is scarce, and ends the transaction, which has to decide by itself.

    Args:
        wanted: as those of `reserve`, none of which has been made already.

    Returns: for each the grant, or None where `reserve` has to decide.
    """
    _give_up_others(transaction, wanted, again=False)
    needs: defaultdict[str, dict[Window, Need]] = defaultdict(dict)
    for one in wanted:
        for budget in one.budgets:
            window = _window(one.tenant, budget, now)
            need = needs[one.tenant].setdefault(window, Need(window, 0, budget.limit_nusd))
            need.limit = min(need.limit, budget.limit_nusd)
    grants = [_longest(one) for one in wanted]
    for one, grant in zip(wanted, grants, strict=True):
        for need in needs[one.tenant].values():
            if need.window.counts(one.group):
                need.amount += need.limit + 1 if grant is None else grant.amount_nusd
    rows = [_row(one, grant, now) for one, grant in zip(wanted, grants, strict=True) if grant is not None]
    made = transaction.end_with_affordable(rows, [need for of_tenant in needs.values() for need in of_tenant.values()])
    return [grant if (one.call_id, one.attempt) in made else None for one, grant in zip(wanted, grants, strict=True)]


def reserve(transaction: Transaction, wanted: Sequence[Reserve], now: datetime, *, again: bool) -> list[Decision]:
    """Reserve what calls can cost, one after another, with a shorter answer where the budgets afford no more.

    Args:
        wanted: reservations of one owner, whose tenants are locked.
        again: whether some of them may have been made already.

    Returns: what becomes of each.
    """
    _give_up_others(transaction, wanted, again=again)
    windows = {(one.tenant, budget): _window(one.tenant, budget, now) for one in wanted for budget in one.budgets}
    amounts = transaction.amounts(set(windows.values()))
    of_tenant: defaultdict[str, list[Window]] = defaultdict(list)
    for window in amounts:
        of_tenant[window.tenant].append(window)
    grants: list[Grant | None] = []
    states: dict[int, list[tuple[Budget, Amounts]]] = {}  # by the place in `wanted`, as they were when it was refused
    rows = []
    for place, one in enumerate(wanted):
        found = [(budget, amounts[windows[one.tenant, budget]]) for budget in one.budgets]
        grant = _grant(one, min(budget.limit_nusd - taken.taken for budget, taken in found))
        grants.append(grant)
        if grant is None:
            states[place] = [(budget, replace(taken)) for budget, taken in found]
            continue
        rows.append(_row(one, grant, now))
        for window in of_tenant[one.tenant]:
            if window.counts(one.group):
                amounts[window].reserved += grant.amount_nusd
    if rows:
        transaction.insert_reservations(rows)
    refused = _refusals(transaction, wanted, states, now) if states else {}
    return [refused[place] if grant is None else grant for place, grant in enumerate(grants)]


def _give_up_others(transaction: Transaction, wanted: Sequence[Reserve], *, again: bool) -> None:
    for one in wanted:
        if one.attempt > 1 or again:
            transaction.give_up_others(one.call_id, one.kept)


def _window(tenant: str, budget: Budget, now: datetime) -> Window:
    return Window(tenant, budget.counted, *budget.days(now))


def _grant(wanted: Reserve, left_nusd: int) -> Grant | None:
    """The grant for the longest answer that this amount pays for; None where that would be too short."""
    quote = wanted.quote
    tokens = quote.max_tokens
    amount = quote.most_nusd(tokens)
    if amount > min(left_nusd, MOST_NUSD):
        tokens = quote.affordable(max(left_nusd, 0))
        if tokens < (quote.max_tokens if quote.fixed else min(wanted.min_tokens, quote.max_tokens)):
            return None
        amount = quote.most_nusd(tokens)
    return Grant(amount, tokens, quote.input_tokens) if amount <= min(left_nusd, MOST_NUSD) else None


def _longest(wanted: Reserve) -> Grant | None:
    """The grant for the longest answer; None where no reservation may be so large."""
    grant = _grant(wanted, MOST_NUSD)
    return grant if grant is not None and grant.max_tokens == wanted.quote.max_tokens else None


def _row(wanted: Reserve, grant: Grant, now: datetime) -> dict[str, Any]:
    return {
        "call_id": wanted.call_id,
        "attempt": wanted.attempt,
        "owner": wanted.owner,
        "tenant": wanted.tenant,
        "group": wanted.group,
        "amount_nusd": grant.amount_nusd,
        "lapses_at": lease_end(now),
        "model": wanted.model,
        "held_on": None,
    }


def _refusals(
    transaction: Transaction,
    wanted: Sequence[Reserve],
    states: Mapping[int, Sequence[tuple[Budget, Amounts]]],
    now: datetime,
) -> dict[int, list[BudgetState]]:
    """The states of budgets that did not afford a call. What has lapsed of the reserved is shown as held."""
    tenants = sorted({wanted[place].tenant for place in states})
    values = {"now": int(now.timestamp()), "owner": wanted[0].owner, "ids": tenants}
    lapsed = transaction.read(statements.LAPSED_OF_TENANTS, values)
    refused: dict[int, list[BudgetState]] = {}
    for place, found in states.items():
        tenant = wanted[place].tenant
        refused[place] = []
        for budget, taken in found:
            counts = _window(tenant, budget, now).counts
            late = sum(int(row["amount_nusd"]) for row in lapsed if row["tenant"] == tenant and counts(row["group"]))
            refused[place].append(budget.state(tenant, taken.spent, taken.held + late, taken.reserved - late, now))
    return refused


def budget_state(connection: sa.Connection, tenant: str, budget: Budget, now: datetime) -> BudgetState:
    """The state of a tenant's budget, for a report. A reservation that has lapsed counts as held."""
    values = {
        **{"tenant": tenant, "now": int(now.timestamp()), "owner": ""},
        **statements.window_values(budget.counted, *budget.days(now)),
    }
    found = connection.execute(statements.budget_amounts(len(budget.counted)), values).one()
    spent, held, reserved, lapsed = map(int, found)
    return budget.state(tenant, spent, held + lapsed, reserved - lapsed, now)


def shorten(transaction: Transaction, now: datetime) -> None:
    """See that no reservation stands for longer than one that is made now, whatever clock it was made by."""
    lapses_at = lease_end(now)
    transaction.run(statements.SHORTEN, {"latest": lapses_at + _CLOCKS_DIFFER_S, "instead": lapses_at})


def record_lost(transaction: Transaction, lapsed: Sequence[Reservation]) -> None:
    """Make lost calls of reservations that have lapsed."""
    ids = sorted({row["call_id"] for row in lapsed})
    found = {row["id"]: row for row in transaction.read(statements.FIND_CALLS, {"ids": ids})}
    new: list[Call] = []
    for rows in by_call(lapsed):
        id_ = rows[0]["call_id"]
        known = found.get(id_)
        if known is not None and known["outcome"] != LOST:  # it was granted after the call's end, and never used
            transaction.give_up_reservations([id_])
            continue
        reserved_at = datetime.fromtimestamp(max(row["lapses_at"] for row in rows) - _LEASE_S, UTC)
        day = reserved_at.date().isoformat() if known is None else known["time"][:10]
        for row in rows:
            transaction.run(statements.HOLD, {"id": id_, "of_attempt": row["attempt"], "day": day})
        call = lost_call(rows, day)
        if known is None:
            new.append(call)
        else:  # its process was back, and has died again
            add_charges(transaction, call)
    if new:
        record(transaction, new, again=False)
