"""One client's connection to a fake provider: HTTP by h11 over a bare stream, and the means to end it rudely."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11

CHUNK = 2**20  # bytes; large enough that a request of 20 MB is a few dozen reads


@dataclass(frozen=True)
class HttpRequest:
    """A request as it came in; header names in lower case, `body` parsed where it is JSON and raw bytes where not."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Connection:
    """A connection that requests come in on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def receive(self) -> HttpRequest | None:
        """The next request, or None when the client has closed the connection."""
        request: h11.Request | None = None
        body = bytearray()
        while True:
            match self._http.next_event():
                case h11.Request() as request:
                    pass
                case h11.Data() as data:
                    body += data.data
                case h11.EndOfMessage():
                    assert request is not None  # noqa: S101  h11 gives it first
                    break
                case h11.ConnectionClosed():
                    return None
                case _:  # NEED_DATA
                    self._http.receive_data(await self._reader.read(CHUNK))
        parsed: Any = bytes(body)
        with suppress(ValueError):
            parsed = json.loads(parsed)
        return HttpRequest(
            method=request.method.decode(),
            path=request.target.decode(),
            headers={name.decode(): value.decode("latin-1") for name, value in request.headers},
            body=parsed,
        )

    async def unless_gone(self, answering: Coroutine[Any, Any, None]) -> bool:
        """Run `answering` to its end; False where the client closed the connection before."""
        task = asyncio.ensure_future(answering)
        reading = asyncio.ensure_future(self._read_on())  # ends when the client goes
        try:
            await asyncio.wait((task, reading), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            return task.done()
        except ConnectionError:
            return False
        finally:
            task.cancel()
            reading.cancel()
            await asyncio.gather(task, reading, return_exceptions=True)

    async def _read_on(self) -> None:
        """Until the client goes. One that has the end of its answer may send the next request before we have noticed
        that we are done."""
        while early := await self._reader.read(CHUNK):
            self._http.receive_data(early)

    def reusable(self) -> bool:
        """Whether the answer was complete and the client may send another request; then ready for it."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def send(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """A whole answer."""
        await self.open(status, len(body), content_type, headers)
        await self.write(body)
        await self.finish()

    async def open(
        self,
        status: int,
        length: int,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The status line and the headers of an answer of `length` bytes."""
        fields = {"content-type": content_type, "content-length": str(length), **(headers or {})}
        await self._send(h11.Response(status_code=status, headers=list(fields.items())))

    async def write(self, data: bytes) -> None:
        await self._send(h11.Data(data=data))

    async def finish(self) -> None:
        await self._send(h11.EndOfMessage())

    def reset(self) -> None:
        """End the connection with RST instead of FIN: closing with a linger time of 0 discards what is unsent."""
        linger_zero = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        self._writer.transport.abort()

    async def _send(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()
