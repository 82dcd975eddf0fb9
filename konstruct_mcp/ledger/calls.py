"""How a call is recorded: its row, and what it adds to the sums. Within the transaction of whoever calls this, who has
locked the call's tenant.

A call whose process has died is recorded as lost. If the process was alive after all, the call's own row takes the
place of the lost one, and what the lost one added is subtracted.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from konstruct_mcp.core.money import MOST_NUSD
from konstruct_mcp.core.spending import SPEND_SUMS, Call, Charge
from konstruct_mcp.ledger import statements
from konstruct_mcp.ledger.transactions import SpendKey, Transaction

LOST = "lost"  # the outcome of a call whose process has died

Reservation = Mapping[Any, Any]  # a row of the reservations, by its columns' names
_Sums = list[int]  # in the order of SPEND_SUMS


def record(transaction: Transaction, calls: Sequence[Call], *, again: bool) -> None:
    """Record calls, and give up their reservations.

    Args:
        again: whether some of them may be recorded already; each counts once.
    """
    lost: list[Call] = []
    if again:
        found = transaction.read(statements.FIND_CALLS, {"ids": [call.id for call in calls]})
        recorded = {row["id"] for row in found if row["outcome"] != LOST}
        calls = [call for call in calls if call.id not in recorded]
        if not calls:
            return
        if lost_ids := [row["id"] for row in found if row["outcome"] == LOST]:
            held = transaction.read(statements.FIND_HELD, {"ids": lost_ids})
            lost = [lost_call(rows, rows[-1]["held_on"]) for rows in by_call(held)]
            transaction.run(statements.DELETE_CALLS, {"ids": lost_ids})
    transaction.insert_calls([_row(call) for call in calls])
    if reserved := [call.id for call in calls if call.reserved]:
        transaction.give_up_reservations(reserved)
    subtracted = ((key, [-figure for figure in figures]) for call in lost for key, figures in _entries(call))
    _add(transaction, [*subtracted, *(entry for call in calls for entry in _entries(call))])


def add_charges(transaction: Transaction, call: Call) -> None:
    """Add a call's charges to the sums, but not the call itself, which is recorded already."""
    _add(transaction, _charges(call))


def lost_call(held: Sequence[Reservation], day: str) -> Call:
    """The lost call that these reservations were made for: of unknown cost, with the reservations as its bound."""
    charges = tuple(
        Charge(row["group"], row["model"] or "", 0, 0, 0, None, most_nusd=int(row["amount_nusd"])) for row in held
    )
    return Call(
        id=held[0]["call_id"],
        time=f"{day}T00:00:00.000000Z",
        tenant=held[0]["tenant"],
        group_asked=held[0]["group"],
        group_served=None,
        model=None,
        charges=charges,
        cost_nusd=None,
        duration_ms=0,
        outcome=LOST,
        attempts=len(held),
        most_nusd=sum(charge.most_nusd or 0 for charge in charges),
    )


def by_call(rows: Iterable[Reservation]) -> Iterator[list[Reservation]]:
    """The reservations of each call, from rows that are sorted by call."""
    return (list(of_call) for _, of_call in itertools.groupby(rows, lambda row: row["call_id"]))


def _add(transaction: Transaction, entries: Iterable[tuple[SpendKey, _Sums]]) -> None:
    sums: defaultdict[SpendKey, _Sums] = defaultdict(lambda: [0] * len(SPEND_SUMS))
    for key, figures in entries:
        sums[key] = [a + b for a, b in zip(sums[key], figures, strict=True)]
    transaction.add_spend({key: sums[key] for key in sorted(sums)})


def _row(call: Call) -> dict[str, Any]:
    return {
        "id": call.id,
        "time": call.time,
        "tenant": call.tenant,
        "group_asked": call.group_asked,
        "group_served": call.group_served,
        "model": call.model,
        "input_tokens": sum(charge.input_tokens for charge in call.charges),
        "output_tokens": sum(charge.output_tokens for charge in call.charges),
        "cached_tokens": sum(charge.cached_tokens for charge in call.charges),
        "cost_nusd": None if call.cost_nusd is None else min(call.cost_nusd, MOST_NUSD),
        "duration_ms": call.duration_ms,
        "outcome": call.outcome,
        "attempts": call.attempts,
        "most_nusd": None if call.most_nusd is None else min(call.most_nusd, MOST_NUSD),
        "uncounted": sum(charge.uncounted for charge in call.charges),
    }


def _entries(call: Call) -> Iterator[tuple[SpendKey, _Sums]]:
    """What a call adds to the sums.

    - The call itself counts where it was answered.
    - Each charge counts where it was made.
    - An unknown cost counts at the first charge whose cost is unknown.
    """
    day = call.time[:10]
    own = call.tenant, day, call.group_served or call.group_asked, call.model or ""
    yield own, _figures(calls=1, failed=int(call.outcome != "ok"))
    if call.cost_nusd is None:
        charge = next((charge for charge in call.charges if charge.cost_nusd is None), None)
        where = own if charge is None else (call.tenant, day, charge.group, charge.model)
        yield where, _figures(unpriced=1, unbounded=int(call.most_nusd is None))
    yield from _charges(call)


def _charges(call: Call) -> Iterator[tuple[SpendKey, _Sums]]:
    for charge in call.charges:
        held = charge.most_nusd if charge.cost_nusd is None else 0
        yield (
            (call.tenant, call.time[:10], charge.group, charge.model),
            _figures(
                input_tokens=charge.input_tokens,
                output_tokens=charge.output_tokens,
                cached_tokens=charge.cached_tokens,
                cost_nusd=min(charge.cost_nusd or 0, MOST_NUSD),
                held_nusd=min(held or 0, MOST_NUSD),
            ),
        )


def _figures(**figures: int) -> _Sums:
    return [*(dict.fromkeys(SPEND_SUMS, 0) | figures).values()]
