"""What a program that has given hooks to `Konstruct` hears of: the events of a call, and who is called with them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence

from konstruct_mcp.core.events import CallClosed, Event, TryEnded
from konstruct_mcp.core.spending import Call, Charge
from konstruct_mcp.routing.walk import Try

_log = logging.getLogger(__name__)

Hook = Callable[[Event], None]


class Hooks:
    """Several hooks as one, which raises nothing.

    Each is called in the order in which it was given. A hook that raises is called again for the next event; only its
    first failure is logged, since the others would fill the log.
    """

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        """Raises TypeError as `add` does."""
        self._hooks: tuple[Hook, ...] = ()
        for hook in hooks:
            self.add(hook)
        self._failed: set[int] = set()  # positions

    def add(self, hook: Hook) -> None:
        """Call this one too from now on, after the others.

        Raises:
            TypeError: it is a coroutine function, which would be called and never awaited.
        """
        if inspect.iscoroutinefunction(hook):
            raise TypeError(f"the hook {hook!r} is a coroutine function; a hook is called and not awaited")
        self._hooks = (*self._hooks, hook)

    def __call__(self, event: Event) -> None:
        for position, hook in enumerate(self._hooks):
            try:
                hook(event)
            except (Exception, asyncio.CancelledError):  # the second as a hook's own: of a future that it asks, say
                if position not in self._failed:
                    self._failed.add(position)
                    _log.exception("the hook %r failed; its later failures are not logged", hook)


def try_ended(
    attempt: Try, tenant: str, group_asked: str, outcome: str, charges: Sequence[Charge], duration_s: float
) -> TryEnded:
    """The event of a try.

    Args:
        charges: what it put on the account: one, or none where it cost nothing.
    """
    costs = [charge.cost_nusd for charge in charges]
    known = [cost for cost in costs if cost is not None]
    return TryEnded(
        tenant=tenant,
        group_asked=group_asked,
        group=attempt.group,
        deployment=attempt.deployment.id,
        model=attempt.deployment.model,
        outcome=outcome,
        duration_s=duration_s,
        input_tokens=sum(charge.input_tokens for charge in charges),
        output_tokens=sum(charge.output_tokens for charge in charges),
        cached_tokens=sum(charge.cached_tokens for charge in charges),
        cost_nusd=sum(known) if len(known) == len(costs) else None,
    )


def call_closed(call: Call) -> CallClosed:
    """The event of a call whose account is closed."""
    return CallClosed(
        tenant=call.tenant,
        group_asked=call.group_asked,
        group_served=call.group_served,
        model=call.model,
        outcome=call.outcome,
        duration_s=call.duration_ms / 1000,
        attempts=call.attempts,
        input_tokens=sum(charge.input_tokens for charge in call.charges),
        output_tokens=sum(charge.output_tokens for charge in call.charges),
        cached_tokens=sum(charge.cached_tokens for charge in call.charges),
        cost_nusd=call.cost_nusd,
    )
