"""`serve`: MCP over stdin and stdout, or over HTTP."""

from __future__ import annotations

import gc
import logging
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from konstruct_mcp.cli.logs import BackgroundHandler, log_to, tell
from konstruct_mcp.cli.opening import warnings
from konstruct_mcp.cli.output import config_faults, say
from konstruct_mcp.config.http import HttpSettings, parse_address
from konstruct_mcp.config.packages import installed
from konstruct_mcp.core.errors import KonstructError
from konstruct_mcp.gateway.konstruct import Konstruct

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_TERMINAL_NOTE = """\
konstruct-mcp serves the Model Context Protocol on this terminal's input and output; an assistant usually starts it.
To try it by hand:  konstruct-mcp complete "Why is the sky blue?"     To see what can be called:  konstruct-mcp groups
End with Ctrl-C."""

_UNVERIFIED = (
    "nobody is asked for a key here: whoever is on this machine asks as the default tenant; "
    "`konstruct.auth.required: true` asks for keys"
)

# For the last traces at the end. A client kills a process that takes a second or two; a container has longer.
_LAST_SPANS_STDIO_S, _LAST_SPANS_HTTP_S = 0.3, 3.0


class _Address(click.ParamType[Any]):
    name = "host:port"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int] | str:
        if value == _AS_CONFIGURED:
            return value
        try:
            return parse_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_AS_CONFIGURED = ""  # `--http` without an address


@click.command()
@click.option(
    "--http",
    "address",
    type=_Address(),
    is_flag=False,
    flag_value=_AS_CONFIGURED,
    metavar="[HOST:PORT]",
    help="Serve over HTTP, to many clients; at konstruct.http.listen (127.0.0.1:8321) without an address.",
)
@click.pass_obj
def serve(path: Path | None, address: tuple[str, int] | str | None = None) -> None:
    """Serve MCP over stdin and stdout (the default), or over HTTP."""
    if address is not None:
        _serve_http(path, None if isinstance(address, str) else address)
        return
    konstruct = Konstruct.for_server(path)
    if konstruct.config_error is None:
        tell(logging.WARNING, *warnings(konstruct.config.warnings))
    else:
        error = konstruct.config_error
        tell(logging.WARNING, *warnings(error.warnings))
        tell(logging.ERROR, *config_faults(error))
    log_to(BackgroundHandler())
    if sys.stdin.isatty():
        say(_TERMINAL_NOTE)
    # Whatever an import makes is there to stay, so there is nothing to collect in it, now or later.
    gc.disable()
    from konstruct_mcp.cli.watching import traced
    from konstruct_mcp.protocol.server import KonstructServer
    from konstruct_mcp.transports.stdio.serve import serve_stdio

    gc.freeze()
    gc.enable()

    async def run() -> None:
        server, served = KonstructServer(konstruct), anyio.Event()
        async with konstruct, anyio.create_task_group() as tasks:
            tasks.start_soon(_say_ledger_faults, konstruct)
            tasks.start_soon(server.follow_config, served)
            with traced(konstruct, server, last_s=_LAST_SPANS_STDIO_S) as send_rest:

                def kill() -> None:
                    konstruct.kill()
                    send_rest()

                await serve_stdio(server, konstruct.aclose, kill)
            served.set()
            tasks.cancel_scope.cancel()

    anyio.run(run)


def _serve_http(path: Path | None, address: tuple[str, int] | None) -> None:
    """Serve over HTTP. A config that cannot be used ends the process here: whoever starts a server reads what it says,
    and a load balancer keeps the ones before.

    Args:
        address: where to listen; None for what the config says.
    """
    konstruct = Konstruct.from_config(path)
    tell(logging.WARNING, *warnings(konstruct.config.warnings))
    settings = konstruct.config.http
    if address is not None:
        settings = replace(settings, host=address[0], port=address[1])
    auth = konstruct.config.auth
    is_verifying = auth.is_needed(settings)
    if is_verifying and not auth.can_verify():
        raise click.UsageError(
            f"{settings.address} can be reached by others, and konstruct.auth names nothing to verify them with; "
            "name an issuer of tokens, or leave keys on"
        )
    log_to(BackgroundHandler())
    gc.disable()
    from konstruct_mcp.cli.watching import audited, measured, traced
    from konstruct_mcp.protocol.server import KonstructServer
    from konstruct_mcp.transports.http.auth.authenticator import Authenticator
    from konstruct_mcp.transports.http.auth.doors import anybody, authenticated, caller_of, routes, verify_again
    from konstruct_mcp.transports.http.operators.routes import operator_routes
    from konstruct_mcp.transports.http.serve import listen, serve_http

    gc.freeze()
    gc.enable()

    async def run() -> None:
        listening = listen(settings)
        server = (
            KonstructServer(konstruct, caller_of=caller_of, verify_again=verify_again)
            if is_verifying
            else KonstructServer(konstruct, caller_of=anybody)
        )
        served, authenticator = anyio.Event(), Authenticator(konstruct)

        def verified(app: ASGIApp) -> ASGIApp:
            return authenticated(app, authenticator, settings) if is_verifying else app

        async with konstruct, anyio.create_task_group() as tasks:
            tasks.start_soon(_say_ledger_faults, konstruct)
            tasks.start_soon(konstruct.follow_tenants)
            tasks.start_soon(server.follow_config, served)
            with (
                audited(konstruct),
                measured(konstruct, konstruct.config.metrics),
                traced(konstruct, server, last_s=_LAST_SPANS_HTTP_S),
            ):
                tell(logging.WARNING, f"serving MCP over HTTP at {_where(settings, listening.getsockname()[1])}")
                if not is_verifying:
                    tell(logging.WARNING, _UNVERIFIED)
                await serve_http(
                    konstruct,
                    server,
                    settings,
                    listening=listening,
                    verified=verified,
                    routes=[
                        *routes(authenticator, settings),
                        *operator_routes(konstruct, authenticator if is_verifying else None),
                    ],
                )
            served.set()
            tasks.cancel_scope.cancel()

    anyio.run(run, backend_options={"use_uvloop": installed("uvloop")})


def _where(settings: HttpSettings, port: int) -> str:
    scheme = "http" if settings.tls_cert is None else "https"
    own = f"{scheme}://{replace(settings, port=port).address}{settings.path}"
    return own if settings.public_url is None else f"{own} (clients know it as {settings.public_url})"


async def _say_ledger_faults(konstruct: Konstruct) -> None:
    """Say at the start, and not at the first call, that no account can be kept."""
    try:
        await konstruct.opened()
    except KonstructError as error:
        tell(logging.ERROR, f"error: {error}")
    with suppress(KonstructError):  # which is said when a call needs it
        for line in await konstruct.spent_under_former_names():
            logging.getLogger(__name__).warning("%s", line)
