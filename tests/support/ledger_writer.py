"""A process that reserves and records calls at random, and says on stdout what it has recorded.

    python ledger_writer.py URL SPOOL SEED TENANT=LIMIT_NUSD...

A line is `recorded ID`, once the ledger has said so. It goes on until a line comes on its standard input, or it
is killed.
"""

from __future__ import annotations

import asyncio
import random
import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from konstruct_mcp.core.budgets import Budget, Grant, Quote, Reserve
from konstruct_mcp.core.spending import Call, Charge
from konstruct_mcp.ledger.ledger import Ledger

AT_ONCE = 8
GROUPS = ("paid", "strong")


async def make_calls(ledger: Ledger, rng: random.Random, limits: dict[str, int]) -> None:
    while True:
        tenant, group, id_ = rng.choice(sorted(limits)), rng.choice(GROUPS), str(uuid.uuid4())
        most = limits[tenant]
        budgets = (Budget(most, "total"), Budget(most, "day", ("paid", "former")), Budget(most, "month"))
        quote = Quote(100, Fraction(rng.randint(1, 1000)), Fraction(10), rng.randint(1, 100), fixed=rng.random() < 0.5)
        applying = tuple(budget for budget in budgets if not budget.groups or group in budget.groups)
        wanted = Reserve(id_, 1, (), "", tenant, group, "openai/m", quote, applying, 1)
        granted = await ledger.reserve(wanted)
        if not isinstance(granted, Grant):
            if rng.random() < 0.2:  # a call that was refused is recorded too
                await record(ledger, call(id_, tenant, group, [], "budget_exceeded"))
            continue
        amounts = [granted.amount_nusd]
        if rng.random() < 0.3:  # a second try: the first may have cost something that nobody knows
            kept = rng.random() < 0.5
            again = await ledger.reserve(replace(wanted, attempt=2, kept=(1,) if kept else ()))
            amounts = [*(amounts if kept else []), *([again.amount_nusd] if isinstance(again, Grant) else [])]
        await asyncio.sleep(rng.uniform(0, 0.01))  # a provider's answer
        if rng.random() < 0.02:
            continue  # as a call of a process that has died: its reservation lapses
        charges = [
            Charge(group, "openai/m", 1, 1, 0, None, most_nusd=amount)
            if rng.random() < 0.1
            else Charge(group, "openai/m", 1, 1, 0, rng.randint(0, amount))
            for amount in amounts
        ]
        made = call(id_, tenant, group, charges, "ok", reserved=True)
        await record(ledger, made)
        if rng.random() < 0.1:
            await ledger.record(made)  # which counts once


def call(id_: str, tenant: str, group: str, charges: list[Charge], outcome: str, *, reserved: bool = False) -> Call:
    costs = [charge.cost_nusd for charge in charges]
    known = [cost for cost in costs if cost is not None]
    most = sum(known) + sum(charge.most_nusd or 0 for charge in charges)
    return Call(
        id=id_,
        time=datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z",
        tenant=tenant,
        group_asked=group,
        group_served=group if outcome == "ok" else None,
        model="openai/m" if outcome == "ok" else None,
        charges=tuple(charges),
        cost_nusd=sum(known) if len(known) == len(costs) else None,
        duration_ms=1,
        outcome=outcome,
        attempts=len(charges),
        reserved=reserved,
        most_nusd=None if len(known) == len(costs) else most,
    )


async def record(ledger: Ledger, made: Call) -> None:
    await ledger.record(made)
    sys.stdout.write(f"recorded {made.id}\n")
    sys.stdout.flush()


async def main() -> None:
    url, spool, seed, *tenants = sys.argv[1:]
    limits = {tenant: int(limit) for tenant, _, limit in (each.partition("=") for each in tenants)}
    ledger = Ledger(url, Path(spool))
    ledger.has_budgets = True
    await ledger.opened()
    calls = [
        asyncio.create_task(make_calls(ledger, random.Random(f"{seed} {number}"), limits)) for number in range(AT_ONCE)
    ]
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    done, _ = await asyncio.wait([over, *calls], return_when=asyncio.FIRST_COMPLETED)
    for task in calls:
        task.cancel()
    await asyncio.wait(calls)
    await ledger.aclose()
    for task in done:
        task.result()  # none ends but by a defect, and by the end of the input


if __name__ == "__main__":
    asyncio.run(main())
