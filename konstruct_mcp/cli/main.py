"""The command line. Results go to stdout, everything else to stderr; 2 is a user's mistake, 1 a failure.

Each command has its own module, named after it. Imports that cost (mcp, rich) are made by the command that needs them.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from konstruct_mcp.cli.attach import attach, detach
from konstruct_mcp.cli.check import check
from konstruct_mcp.cli.complete import complete
from konstruct_mcp.cli.config import config
from konstruct_mcp.cli.credentials import credentials
from konstruct_mcp.cli.groups import groups
from konstruct_mcp.cli.init import init
from konstruct_mcp.cli.keys import keys
from konstruct_mcp.cli.ledger import ledger
from konstruct_mcp.cli.logs import set_up_logging
from konstruct_mcp.cli.models import models
from konstruct_mcp.cli.output import FAILURE, INTERRUPTED, MISTAKE, config_faults, say
from konstruct_mcp.cli.serve import serve
from konstruct_mcp.cli.tenants import tenants
from konstruct_mcp.cli.usage import budgets, usage
from konstruct_mcp.core.errors import ConfigError, KonstructError, RequestError

_COMPLETE = "_KONSTRUCT_MCP_COMPLETE"  # set by a shell that completes a line; the same whatever the script is called


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script. Ends the process; no traceback reaches a user.

    Args:
        arguments: in place of the process's own.
    """
    _open_streams()
    _leave_removed_folder()
    try:
        status: int = cli.main(arguments, standalone_mode=False, complete_var=_COMPLETE) or 0
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue().removesuffix("\n"))
        status = error.exit_code
    except ConfigError as error:
        say(*config_faults(error))
        status = MISTAKE
    except KonstructError as error:
        say(f"error: {error}")
        status = MISTAKE if isinstance(error, RequestError) else FAILURE
    except (click.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except OSError as error:  # a full disk; a reader that has gone is click's, which ends in silence
        say(f"error: {error.strerror}")
        status = FAILURE
    except Exception:
        logging.getLogger(__name__).debug("a defect", exc_info=True)
        say("error: internal: a defect in konstruct-mcp; KONSTRUCT_LOG_LEVEL=DEBUG shows where")
        status = FAILURE
    _flush(sys.stdout, sys.stderr)
    sys.exit(status)


def _open_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed by the shell. The next file or socket would take its number, and what is written to it.
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  open as long as the process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character shows a substitute, instead of ending the answer.
            stream.reconfigure(errors="replace")


def _leave_removed_folder() -> None:
    try:
        Path.cwd()
    except OSError:  # it was removed under us, and LiteLLM asks for it when it is loaded
        os.chdir(Path(sys.executable).anchor)


def _flush(*streams: Any) -> None:
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            # Else the interpreter tries again at exit, and complains.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "path", type=click.Path(path_type=Path), metavar="FILE", help="The YAML config to use.")
@click.version_option(package_name="konstruct-mcp", prog_name="konstruct-mcp")
@click.pass_context
def cli(context: click.Context, path: Path | None) -> None:
    """Completions from other language models, by model group, for assistants that speak MCP.

    Without a command it serves MCP over stdio.
    """
    set_up_logging()
    context.obj = path
    if context.invoked_subcommand is None:
        context.invoke(serve)


_COMMANDS = (
    *(init, attach, detach, serve, complete, groups, models, check, config, credentials),
    *(usage, budgets, keys, tenants, ledger),
)
for _command in _COMMANDS:
    cli.add_command(_command)
