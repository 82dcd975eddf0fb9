"""Serve many clients over HTTP, and end without losing a call.

On SIGTERM or SIGINT: `/readyz` says no, for `pause_s`; no new connections are taken; calls under way go on for
`drain_s`; the rest are cancelled, which puts them on the account; the process ends with status 0. A second signal skips
what is left of the waiting. uvicorn's own end would break off answers at once and lose their rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence

import anyio
import anyio.abc
import uvicorn
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from konstruct_mcp.config.http import HttpSettings
from konstruct_mcp.core.errors import KonstructError
from konstruct_mcp.gateway.konstruct import Konstruct
from konstruct_mcp.protocol.server import KonstructServer
from konstruct_mcp.transports.http.app import http_app
from konstruct_mcp.transports.http.connections import bounded_protocol
from konstruct_mcp.transports.http.probes import Probes

_log = logging.getLogger(__name__)
_LAST_ANSWERS_S = 2.0  # for answers that are on their way when the last call has ended
_LAST_ROWS_S = 10.0  # for rows of cancelled calls; the ledger waits six seconds for its database
_BACKLOG = 2048  # connections that the system holds until they are taken


class ListenError(KonstructError):
    """The server cannot listen as it is told to."""

    code = "listen"


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `serve_http`'s."""
        yield

    def take_no_more(self) -> None:
        """Close the listening sockets, and connections once their answers are sent."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()

    async def idle(self) -> None:
        """Wait until no request is being answered, nor on its way in."""
        while tasks := set(self.server_state.tasks):
            await asyncio.wait(tasks)


async def serve_http(
    konstruct: Konstruct,
    server: KonstructServer,
    settings: HttpSettings,
    *,
    listening: socket.socket,
    verified: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    routes: Sequence[BaseRoute] = (),
) -> None:
    """Serve until a signal ends it.

    Args:
        konstruct: open.
        listening: a bound socket; see `listen`.
        verified, routes: as in `http_app`.
    """
    probes = Probes(konstruct)
    app = http_app(server, settings, probes, verified=verified, routes=routes)
    config = uvicorn.Config(
        app,
        http=bounded_protocol(settings),
        h11_max_incomplete_event_size=settings.max_header_bytes,  # where httptools is not installed
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # its warnings are of what anybody sends, a line each
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=round(settings.keep_alive_s),
        timeout_graceful_shutdown=round(_LAST_ANSWERS_S),
        backlog=_BACKLOG,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    running = _Uvicorn(config)
    async with anyio.create_task_group() as tasks:
        ending = _Ending()
        await tasks.start(ending.watch)
        serving = asyncio.ensure_future(running.serve([listening]))
        await asyncio.wait({serving, ending.asked}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await _drain(running, server, probes, settings, ending)
            running.should_exit = True
            await asyncio.wait({serving}, timeout=_LAST_ANSWERS_S + 1)
        tasks.cancel_scope.cancel()
        if serving.done():
            serving.result()  # a defect of it is no end with status 0


async def _drain(
    running: _Uvicorn, server: KonstructServer, probes: Probes, settings: HttpSettings, ending: _Ending
) -> None:
    """Let calls end, cancel the rest, and wait until all of them are on the account."""
    probes.is_ending = True
    _log.warning("ending; requests under way: %d", server.requests.count)
    with ending.waiting(settings.pause_s):
        await anyio.sleep_forever()
    running.take_no_more()
    server.stop_listening()
    with ending.waiting(settings.drain_s):
        await running.idle()
    if server.requests.count:
        _log.warning("ending; requests cancelled: %d", server.requests.count)
    server.requests.cancel_all("this server is ending; ask again")
    with anyio.move_on_after(_LAST_ROWS_S):
        await server.requests.idle()


class _Ending:
    """That the process is asked to end by SIGTERM or SIGINT: once, and perhaps again.

    Attributes:
        asked: is done when it is asked the first time.
    """

    def __init__(self) -> None:
        self.asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_urgent = False
        self._waiting: anyio.CancelScope | None = None

    async def watch(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                if not self.asked.done():
                    self.asked.set_result(None)
                    continue
                self._is_urgent = True
                if self._waiting is not None:
                    self._waiting.cancel()

    @contextlib.contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """The block is left after so many seconds, or when the process is asked again."""
        with anyio.move_on_after(0 if self._is_urgent else seconds) as self._waiting:
            yield
        self._waiting = None


def _why_not(settings: HttpSettings, error: OSError) -> str:
    """Which of the TLS files cannot be used, and why."""
    for name, path in (("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key)):
        try:
            assert path is not None  # noqa: S101  the config has both or none
            path.open("rb").close()
        except OSError as unread:
            return f"{name}: {unread.strerror}"
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "tls_key is not the key of tls_cert"
    return "tls_cert should have a certificate and tls_key its key without a password, both in PEM"


def listen(settings: HttpSettings) -> socket.socket:
    """A bound socket, on which connections wait from now on.

    Raises:
        ListenError: it cannot be had, or the TLS files cannot be used.
    """
    if settings.tls_cert is not None:
        try:
            # A key with a password is refused: OpenSSL would ask the terminal for it.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key, lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise ListenError(f"the TLS files cannot be used: {_why_not(settings, error)}") from None
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise ListenError(f"cannot listen on {settings.address}: {error.strerror}") from None
    except OSError as error:  # its text is another in each version of Python
        raise ListenError(f"cannot listen on {settings.address}: {os.strerror(error.errno or 0)}") from None
