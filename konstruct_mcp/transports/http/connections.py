"""What uvicorn does not do on one connection: it bounds neither the size of a request's head nor the time for it to
come, and drops the body of a request that offers HTTP/2."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from konstruct_mcp.config.http import HttpSettings

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"  # RFC 6585
)
_Protocol: Any = AutoHTTPProtocol  # that of httptools where it is installed, else that of h11
_MOST_UNANSWERED = 16  # requests that are read of one connection
_KEEPS_ALL = hasattr(_Protocol, "on_headers_complete")  # httptools; h11 itself keeps 64 KiB of what is no body
# Java's own client offers HTTP/2 with each request that is not encrypted. Nobody has to take that up, but httptools
# reads no body behind it.
_OFFER = re.compile(rb"(?<=\r\n)upgrade(?=:)", re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"


def bounded_protocol(settings: HttpSettings) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol with the bounds of these settings."""

    class BoundedProtocol(_Protocol):  # type: ignore[misc]
        """Closes a connection whose next request does not begin, or whose head is too long. What follows a body in
        pieces (trailers), and the head of a request behind one that is not answered yet, have the same bound.

        All requests of a connection that is lost are told so. uvicorn tells the newest one alone; and as soon as there
        are two it stops to read, so that it does not see the client go.
        """

        _head_bytes = 0  # since there was a whole head, or more of a body
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            self._unanswered = deque[Any]()  # requests, in the order in which they came and are answered
            super().connection_made(transport)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            self._head_bytes += len(data)
            if self._is_between_requests():
                end = data.find(_END_OF_HEAD)
                end = len(data) if end < 0 else end
                if _OFFER.search(data, 0, end):  # else nothing of a large body is copied
                    data = _OFFER.sub(b"x-upgrade", data[:end]) + data[end:]
                if self._head_timer is None:
                    self._await_head()
            super().data_received(data)
            is_between = self._is_between_requests()
            if not is_between:
                self._forget_timer()
                self._head_bytes *= _KEEPS_ALL
            if self._head_bytes > settings.max_header_bytes and not self.transport.is_closing():
                if is_between:  # else it would stand in the middle of an answer
                    self.transport.write(_TOO_LARGE)
                self.transport.close()

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._head_bytes = 0
            while self._unanswered and self._unanswered[0].response_complete:
                self._unanswered.popleft()
            self._unanswered.append(self.cycle)
            if len(self._unanswered) <= _MOST_UNANSWERED:
                self.flow.resume_reading()

        def on_body(self, body: bytes) -> None:
            super().on_body(body)
            if not self._is_between_requests():  # else nobody reads it
                self._head_bytes = 0

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_timer()
            for request in self._unanswered:
                request.disconnected = True
                request.message_event.set()
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
