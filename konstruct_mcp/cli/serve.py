"""`serve`: MCP over stdin and stdout."""

from __future__ import annotations

import gc
import logging
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import click

from konstruct_mcp.cli.logs import BackgroundHandler, log_to, tell
from konstruct_mcp.cli.opening import warnings
from konstruct_mcp.cli.output import config_faults, say
from konstruct_mcp.core.errors import KonstructError
from konstruct_mcp.gateway.konstruct import Konstruct

_TERMINAL_NOTE = """\
konstruct-mcp serves the Model Context Protocol on this terminal's input and output; an assistant usually starts it.
To try it by hand:  konstruct-mcp complete "Why is the sky blue?"     To see what can be called:  konstruct-mcp groups
End with Ctrl-C."""


@click.command()
@click.pass_obj
def serve(path: Path | None) -> None:
    """Serve MCP over stdin and stdout (the default)."""
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
    from konstruct_mcp.protocol.server import KonstructServer
    from konstruct_mcp.transports.stdio.serve import serve_stdio

    gc.freeze()
    gc.enable()

    async def run() -> None:
        server, served = KonstructServer(konstruct), anyio.Event()
        async with konstruct, anyio.create_task_group() as tasks:
            tasks.start_soon(_say_ledger_faults, konstruct)
            tasks.start_soon(server.follow_config, served)
            await serve_stdio(server, konstruct.aclose, konstruct.kill)
            served.set()
            tasks.cancel_scope.cancel()

    anyio.run(run)


async def _say_ledger_faults(konstruct: Konstruct) -> None:
    """Say at the start, and not at the first call, that no account can be kept."""
    try:
        await konstruct.opened()
    except KonstructError as error:
        tell(logging.ERROR, f"error: {error}")
    with suppress(KonstructError):  # which is said when a call needs it
        for line in await konstruct.spent_under_former_names():
            logging.getLogger(__name__).warning("%s", line)
