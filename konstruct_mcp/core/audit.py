"""The audit log: a line for each caller that is refused, and for each change of a key or a tenant.

Its logger is `konstruct_mcp.audit`, its level always INFO. A line holds no secret: of a key its visible prefix. Who is
refused over and over fills no log: of each code and tenant so many lines are written in a minute, and then one that
says how many more there were.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from konstruct_mcp.core.errors import (
    BudgetExceededError,
    OverloadedError,
    RateLimitedError,
    UnknownGroupError,
    UnknownTenantError,
)
from konstruct_mcp.core.events import CallClosed, Event, Refused
from konstruct_mcp.core.text import cut

LOGGER = "konstruct_mcp.audit"
_log = logging.getLogger(LOGGER)

_MOST_LINES, _WINDOW_S = 10, 60.0  # of one code and tenant: a reader sees what goes on, and a log does not fill
_MOST_WINDOWS = 1000  # pairs of code and tenant that are remembered
# Codes of calls that were not made because of who asks, or of how much. Others are a matter of the call itself.
_AUDITED = frozenset(
    (
        *(UnknownTenantError.code, UnknownGroupError.code),  # what another tenant may ask for is unknown, too
        *(OverloadedError.code, BudgetExceededError.code, RateLimitedError.code),
    )
)

Value = str | int | None


def note(action: str, **fields: Value) -> None:
    """Write a line.

    Args:
        action: what was done, in two or three words: `key created`, `tenant disabled`, `refused`.
        fields: what it was done to. None is left out.
    """
    said = {name: cut(value, 200) if isinstance(value, str) else value for name, value in fields.items()}
    said = {name: value for name, value in said.items() if value is not None}
    text = " ".join((f"audit: {action}", *(f"{name}={value}" for name, value in said.items())))
    _log.info("%s", text, extra={"audit": {"action": action, **said}})


@dataclass(slots=True)
class _Window:
    """The refusals of one code and tenant in a minute."""

    began: float
    lines: int = 0
    more: int = 0


class RefusalLog:
    """The lines of refusals."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds from any fixed point."""
        self._clock = clock
        self._listeners: list[Callable[[str], None]] = []
        self._windows: OrderedDict[tuple[str, str | None], _Window] = OrderedDict()

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """From now on call `listener` with the code of each request that was refused before it came to be a call; the
        refused calls are told by events. Returns what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def refused(self, code: str, tenant: str | None = None, **fields: Value) -> None:
        """A request was refused before it came to be a call.

        Args:
            code: an error's.
            tenant: on whose account it would have been, where that is known.
            fields: what else is known.
        """
        for listener in self._listeners:
            listener(code)
        self._write(code, tenant, fields)

    def _write(self, code: str, tenant: str | None, fields: Mapping[str, Value]) -> None:
        """Write that somebody was refused, unless there are too many such lines."""
        key, now = (code, tenant), self._clock()
        window = self._windows.get(key)
        if window is None or now >= window.began + _WINDOW_S:
            self._close(key)
            if len(self._windows) >= _MOST_WINDOWS:
                self._close(next(iter(self._windows)))
            window = self._windows[key] = _Window(now)
        if window.lines < _MOST_LINES:
            window.lines += 1
            note("refused", code=code, tenant=tenant, **fields)
            return
        window.more += 1
        if window.more == 1:
            with suppress(RuntimeError):  # no event loop: then the line is written at the next refusal, or at the end
                left_s = max(0.0, window.began + _WINDOW_S - now)
                asyncio.get_running_loop().call_later(left_s, self._close, key, window)

    def flush(self) -> None:
        """Write how many more there were, of each code and tenant: when the server ends."""
        for key in list(self._windows):
            self._close(key)

    def __call__(self, event: Event) -> None:
        """A hook: calls that were refused."""
        if isinstance(event, Refused) and event.code in _AUDITED:
            self._write(event.code, event.tenant, {"group": event.group_asked})
        elif isinstance(event, CallClosed) and event.outcome in _AUDITED:
            self._write(event.outcome, event.tenant, {"group": event.group_asked})

    def _close(self, key: tuple[str, str | None], only: _Window | None = None) -> None:
        window = self._windows.get(key)
        if window is None or (only is not None and window is not only):
            return
        del self._windows[key]
        if window.more:
            code, tenant = key
            note("refused again", code=code, tenant=tenant, times=window.more)


refusals = RefusalLog()  # of this process
