"""What one call costs: the account that is kept while it is under way, and the row that it becomes.

The row is written before anything of the call leaves, however it ends. A call that is turned away at the door has no
row: otherwise a flood of calls would become a flood of rows.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from konstruct_mcp.config.model import Tenant
from konstruct_mcp.core.budgets import Budget, Grant, Quote, Reserve
from konstruct_mcp.core.errors import (
    KonstructError,
    OverloadedError,
    RateLimitedError,
    UnknownGroupError,
    UnknownTenantError,
)
from konstruct_mcp.core.events import Event, Refused
from konstruct_mcp.core.fairness import Step, turn
from konstruct_mcp.core.money import NUSD, to_nusd
from konstruct_mcp.core.results import Attempt, Completion, Usage
from konstruct_mcp.core.spending import Call, Charge
from konstruct_mcp.gateway.events import call_closed
from konstruct_mcp.ledger.ledger import Ledger
from konstruct_mcp.providers.tried import Reply, Tried
from konstruct_mcp.routing.outcomes import Fault
from konstruct_mcp.routing.walk import Try

_TURNED_AWAY = (OverloadedError.code, RateLimitedError.code, UnknownGroupError.code, UnknownTenantError.code)


@asynccontextmanager
async def open_account(
    tenant: Tenant, group: str, deadline: float, ledger: Ledger, emit: Callable[[Event], None]
) -> AsyncIterator[Account]:
    """The account of one call, which is closed when the block ends.

    Args:
        group: the model group that is asked for.
        deadline: of the call, a reading of `time.monotonic`: the ledger is waited for until then.
        emit: is called with the event of its end.
    """
    account = Account(tenant, group)
    try:
        yield account
    except BaseException as error:
        account.outcome = error.code if isinstance(error, KonstructError) else "cancelled"
        raise
    finally:
        if account.outcome in _TURNED_AWAY:
            emit(Refused(tenant.id, None if account.outcome == UnknownGroupError.code else group, account.outcome))
        else:
            call = account.closed()
            with anyio.CancelScope(shield=True):
                try:
                    await ledger.record(call, within_s=deadline - time.monotonic())
                finally:
                    emit(call_closed(call))  # behind the row, which no hook may keep from being written
                await turn(Step.ANSWER)


@dataclass(slots=True)
class Account:
    """What one call has cost so far, and how it ended.

    Attributes:
        tenant: on whose account the call is.
        group: the model group that was asked for.
        outcome: `ok`, an error's code, or `cancelled`.
        charges: what providers have counted, or may have, so far.
    """

    tenant: Tenant
    group: str
    outcome: str = "ok"
    charges: list[Charge] = field(default_factory=list)
    _id: str = field(default_factory=lambda: str(uuid.uuid4()))
    _started: float = field(default_factory=time.monotonic)
    _served: tuple[str, str] | tuple[None, None] = (None, None)
    _tries: int = 0
    _reservations: int = 0
    _kept: list[int] = field(default_factory=list)

    def reservation(self, attempt: Try, quote: Quote, budgets: tuple[Budget, ...], min_tokens: int) -> Reserve:
        """The reservation for a try. It replaces those of earlier tries, but for what a provider counted."""
        self._reservations += 1
        return Reserve(
            call_id=self._id,
            attempt=self._reservations,
            kept=tuple(self._kept),
            owner="",
            tenant=self.tenant.id,
            group=attempt.group,
            model=attempt.deployment.model,
            quote=quote,
            budgets=budgets,
            min_tokens=min_tokens,
        )

    def add(
        self,
        attempt: Try,
        tried: Tried | None,
        *,
        free: bool,
        grant: Grant | None,
        bound: Callable[[], int | None],
    ) -> None:
        """Take note of a try that has ended. It is charged unless nothing is billed for it.

        Args:
            tried: how it went; None for one that was broken off before it had begun.
            free: whether the deployment costs nothing.
            grant: what was reserved for it.
            bound: gives the most nano-dollars that it can have cost, where nothing was reserved; None where nobody can
                say.
        """
        self._tries += 1
        if tried is None:
            return
        answered, usage = tried.reply is not None, tried.usage
        if answered:
            self._served = (attempt.group, attempt.deployment.model)
        elif usage is None and (free or not (isinstance(tried.outcome, Fault) and tried.outcome.may_be_billed)):
            return
        cost = 0 if free else None if tried.cost_usd is None else round(to_nusd(tried.cost_usd))
        most = None
        if grant is not None:
            self._kept.append(self._reservations)
            most = grant.amount_nusd
            # A count beyond what was sent, or beyond the answer that was allowed, is not believed.
            if cost > most if cost is not None else usage is not None and usage.output_tokens > grant.max_tokens:
                cost, usage = None, None
        elif cost is None:
            most = bound()
        tokens = usage or Usage(0, 0)
        self.charges.append(
            Charge(
                attempt.group,
                attempt.deployment.model,
                tokens.input_tokens,
                tokens.output_tokens,
                tokens.cached_tokens,
                cost,
                most_nusd=most if cost is None else None,
                uncounted=usage is None and (answered or tried.usage is not None),
            )
        )

    def completion(self, reply: Reply, tried: Tried, attempt: Try, attempts: Sequence[Attempt]) -> Completion:
        """The call's answer. `attempts` are the failed tries before it."""
        charge = self.charges[-1]
        notes = tried.notes
        reasoned = 0 if charge.uncounted or tried.usage is None else tried.usage.reasoning_tokens
        if charge.uncounted and tried.usage is not None:
            notes = (*notes, f"usage unknown: {attempt.deployment.model} has counted more than was reserved for it")
        return Completion(
            content=reply.content,
            tool_calls=reply.tool_calls,
            finish_reason=reply.finish_reason,
            model_group=self.group,
            served_group=attempt.group,
            model=attempt.deployment.model,
            attempts=tuple(attempts),
            usage=Usage(charge.input_tokens, charge.output_tokens, charge.cached_tokens, reasoned),
            cost_usd=None if charge.cost_nusd is None else tried.cost_usd,
            duration_ms=_ms_since(self._started),
            notes=notes,
            at_most_usd=None if charge.most_nusd is None else charge.most_nusd / NUSD,  # set where the cost is unknown
        )

    @property
    def tokens(self) -> int:
        """Those that providers have counted so far."""
        return sum(charge.input_tokens + charge.output_tokens for charge in self.charges)

    def closed(self) -> Call:
        """The call as a row of the ledger."""
        costs = [charge.cost_nusd for charge in self.charges]
        known = [cost for cost in costs if cost is not None]
        bounds = [charge.most_nusd for charge in self.charges if charge.cost_nusd is None]
        limits = [bound for bound in bounds if bound is not None]
        group_served, model = self._served
        return Call(
            id=self._id,
            time=datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z",
            tenant=self.tenant.id,
            group_asked=self.group,
            group_served=group_served,
            model=model,
            charges=tuple(self.charges),
            cost_nusd=None if bounds else sum(known),
            duration_ms=_ms_since(self._started),
            outcome=self.outcome,
            attempts=self._tries,
            reserved=self._reservations > 0,
            most_nusd=sum(known) + sum(limits) if bounds and len(limits) == len(bounds) else None,
        )


def _ms_since(moment: float) -> int:
    """Milliseconds since a reading of `time.monotonic`."""
    return round((time.monotonic() - moment) * 1000)
