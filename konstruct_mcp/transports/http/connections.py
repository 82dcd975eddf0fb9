"""Bounds on one connection, which uvicorn has not: the size of a request's head, and the time for it to come."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from konstruct_mcp.config.http import HttpSettings

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"  # RFC 6585
)
_Protocol: Any = AutoHTTPProtocol  # that of httptools where it is installed, else that of h11
_AROUND_A_PIECE = 32  # bytes that come with a piece of a body: its length in hexadecimal, and line breaks


def bounded_protocol(settings: HttpSettings) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol with the bounds of these settings."""

    class BoundedProtocol(_Protocol):  # type: ignore[misc]
        """Closes a connection whose next request does not begin, or whose head is too long: also one that comes behind
        a request under way, and what comes behind a body."""

        _head_bytes = 0  # what has come since the last head, without bodies
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            if self._is_between_requests() and self._head_timer is None:
                self._await_head()
            self._head_bytes += len(data)
            super().data_received(data)
            if self.cycle is not before or not (self._is_between_requests() or _tells_bodies()):
                self._head_bytes = 0
                self._forget_timer()
            elif self._head_bytes > settings.max_header_bytes and not self.transport.is_closing():
                if self._is_between_requests():
                    self.transport.write(_TOO_LARGE)
                self.transport.close()

        def on_body(self, body: bytes) -> None:
            if not self._is_between_requests():
                self._head_bytes = max(0, self._head_bytes - len(body) - _AROUND_A_PIECE)
            super().on_body(body)

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_timer()
            super().connection_lost(exc)

        def _is_between_requests(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _await_head(self) -> None:
            self._head_timer = self.loop.call_later(settings.header_timeout_s, self._give_up)

        def _give_up(self) -> None:
            self._head_timer = None
            if self._is_between_requests() and not self.transport.is_closing():
                self.transport.close()

        def _forget_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return BoundedProtocol


def _tells_bodies() -> bool:
    """Whether the protocol tells bodies from heads. h11 does not, and bounds what it has yet to understand itself."""
    return hasattr(_Protocol, "on_body")
