"""Calls the hooks that a program has given to `Konstruct` with each event. One that fails harms no call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from konstruct_mcp.core.events import Event

_log = logging.getLogger(__name__)

Hook = Callable[[Event], None]


class Hooks:
    """Several hooks as one, which raises nothing.

    Each is called in the order in which it was given. A hook that raises is called again for the next event; only its
    first failure is logged, since the others would fill the log.
    """

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        self._hooks = tuple(hooks)
        self._failed: set[int] = set()  # positions

    def __call__(self, event: Event) -> None:
        for position, hook in enumerate(self._hooks):
            try:
                hook(event)
            except Exception:
                if position not in self._failed:
                    self._failed.add(position)
                    _log.exception("the hook %r failed; its later failures are not logged", hook)
