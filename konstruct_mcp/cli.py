"""The command line. Results go to stdout, everything else to stderr; 2 is a user's mistake, 1 a failure.

Imports that cost (mcp, rich) are made by the command that needs them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import anyio
import click

from .completions import Konstruct
from .errors import ConfigError, KonstructError, RequestError
from .types import Completion, GroupStatus

_FAILURE, _MISTAKE, _INTERRUPTED = 1, 2, 130
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# Where stdout is no terminal there is no width to fit into, and a cell cut short would be lost.
_PIPE_WIDTH = 400

_TERMINAL_NOTE = """\
konstruct-mcp serves the Model Context Protocol on this terminal's input and output; an assistant usually starts it.
To try it by hand:  konstruct-mcp complete "Why is the sky blue?"     To see what can be called:  konstruct-mcp groups
End with Ctrl-C."""


def main() -> NoReturn:
    """The console script. Ends the process; no traceback reaches a user."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character shows a substitute, instead of ending the answer.
            stream.reconfigure(errors="replace")
    try:
        status: int = cli.main(standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except ConfigError as error:
        _say(f"{error.source} cannot be used:", *(f"  {fault}" for fault in error.faults))
        status = _MISTAKE
    except KonstructError as error:
        _say(f"error: {error}")
        status = _MISTAKE if isinstance(error, RequestError) else _FAILURE
    except (click.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    except BrokenPipeError:
        status = _FAILURE  # whoever read our output has gone; there is nobody to tell
    except Exception:
        logging.getLogger(__name__).debug("a defect", exc_info=True)
        _say("error: internal: a defect in konstruct-mcp; KONSTRUCT_LOG_LEVEL=DEBUG shows where")
        status = _FAILURE
    _flush(sys.stdout, sys.stderr)
    sys.exit(status)


def _flush(*streams: Any) -> None:
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            # Else the interpreter tries again at exit, and complains.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(line, err=True)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "path", type=click.Path(path_type=Path), metavar="FILE", help="The YAML config to use.")
@click.version_option(package_name="konstruct-mcp", prog_name="konstruct-mcp")
@click.pass_context
def cli(context: click.Context, path: Path | None) -> None:
    """Completions from other language models, by model group, for assistants that speak MCP.

    Without a command it serves MCP over stdio.
    """
    _set_up_logging()
    context.obj = path
    if context.invoked_subcommand is None:
        context.invoke(serve)


def _set_up_logging() -> None:
    level = os.environ.get("KONSTRUCT_LOG_LEVEL", "").strip().upper() or "WARNING"
    if level not in _LOG_LEVELS:
        raise click.UsageError(f"KONSTRUCT_LOG_LEVEL should be one of {', '.join(_LOG_LEVELS)}")
    logging.basicConfig(stream=sys.stderr, format="konstruct-mcp: %(levelname)s: %(message)s", level=logging.WARNING)
    # Ours alone: what HTTP libraries say below a warning can hold keys.
    logging.getLogger("konstruct_mcp").setLevel(level)


def _open(path: Path | None) -> Konstruct:
    konstruct = Konstruct.from_config(path)
    for warning in konstruct.config.warnings:
        _say(f"warning: {warning}")
    return konstruct


@cli.command()
@click.pass_obj
def serve(path: Path | None) -> None:
    """Serve MCP over stdin and stdout (the default)."""
    konstruct = _open(path)
    if sys.stdin.isatty():
        _say(_TERMINAL_NOTE)
    from .server import make_server
    from .stdio import serve_stdio

    async def run() -> None:
        async with konstruct:
            await serve_stdio(make_server(konstruct), konstruct.aclose, konstruct.kill)

    anyio.run(run)


@cli.command()
@click.argument("prompt")
@click.option("--group", help="The model group to ask; the config's default group if left out.")
@click.option("--tenant", help="On whose account.")
@click.option("--system", help="A system message to put before the prompt.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.pass_obj
def complete(
    path: Path | None, prompt: str, group: str | None, tenant: str | None, system: str | None, as_json: bool
) -> None:
    """Print one completion of PROMPT; - reads it from stdin."""
    if prompt == "-":
        prompt = click.get_binary_stream("stdin").read().decode(errors="replace")
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages.append({"role": "user", "content": prompt})
    konstruct = _open(path)

    async def run() -> Completion:
        async with konstruct:
            return await konstruct.complete(messages, model_group=group, tenant_id=tenant)

    with _spinner(f"waiting for {group or konstruct.config.default_group}"):
        completion = anyio.run(run)
    if as_json:
        click.echo(json.dumps(completion.as_dict(), indent=2))
    else:
        click.echo(completion.content)
        _say(*(f"({attempt.deployment}: {attempt.error})" for attempt in completion.attempts))
        _say(_summary(completion))


def _summary(completion: Completion) -> str:
    cost = "unpriced" if completion.cost_usd is None else f"${completion.cost_usd:.6f}".rstrip("0").rstrip(".")
    tokens = f"{completion.usage.input_tokens} + {completion.usage.output_tokens} tokens"
    ending = "" if completion.finish_reason == "stop" else f", ended by {completion.finish_reason}"
    return f"({completion.model}, {completion.duration_ms / 1000:.1f} s, {tokens}, {cost}{ending})"


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def groups(path: Path | None, as_json: bool) -> None:
    """List the model groups, their deployments and whether each can be called."""
    konstruct = _open(path)
    statuses = konstruct.groups()
    if as_json:
        answer = {"default_group": konstruct.config.default_group, "groups": [group.as_dict() for group in statuses]}
        click.echo(json.dumps(answer, indent=2))
        return
    _table(
        ("group", "model", "state", "$ per million in / out", "window", "supports"),
        _rows(statuses, lambda group, index: _described(group, index)),
    )
    fallbacks = "; ".join(f"{g.name} falls back to {', '.join(g.fallbacks)}" for g in statuses if g.fallbacks)
    click.echo(f"default group: {konstruct.config.default_group}" + (f"; {fallbacks}" if fallbacks else ""))


def _described(group: GroupStatus, index: int) -> tuple[str, ...]:
    deployment = group.deployments[index]
    prices = deployment.input_usd_per_million, deployment.output_usd_per_million
    return (
        deployment.model,
        deployment.reason or "ready",
        "unpriced" if None in prices else "free" if not any(prices) else "{:g} / {:g}".format(*prices),
        f"{deployment.context_window:,}" if deployment.context_window else "",
        ", ".join(deployment.supports),
    )


@cli.command()
@click.option("--live", is_flag=True, help="Also ask each deployment for one token.")
@click.pass_obj
def check(path: Path | None, live: bool) -> int:
    """Say what is wrong with the config, and what cannot be called.

    Exit status: 0 all is ready, 1 something cannot be called, 2 the config is broken.
    """
    try:
        konstruct = _open(path)
    except ConfigError as error:
        click.echo(f"{error.source} cannot be used:")
        for fault in error.faults:
            click.echo(f"  {fault}")
        return _MISTAKE
    deployments = [d for group in konstruct.config.groups.values() for d in group.deployments]
    verdicts = {deployment.id: deployment.unavailable for deployment in deployments}
    if live:

        async def run() -> dict[str, str | None]:
            async with konstruct:
                return await konstruct.check()

        with _spinner("asking each deployment for one token"):
            verdicts = anyio.run(run)
    fine = "answers" if live else "ready"
    names = [[verdicts[d.id] for d in group.deployments] for group in konstruct.config.groups.values()]
    statuses = konstruct.groups()
    order = {group.name: verdict for group, verdict in zip(statuses, names, strict=True)}
    _table(
        ("group", "model", "state"),
        _rows(statuses, lambda group, index: (group.deployments[index].model, order[group.name][index] or fine)),
    )
    failing = sum(verdict is not None for verdict in verdicts.values())
    click.echo(f"config: {konstruct.config.source}")
    if failing:
        click.echo(f"{failing} of {len(verdicts)} deployments cannot be called; the state above says why")
        return _FAILURE
    click.echo(f"all {len(verdicts)} deployments {'answer' if live else 'are ready'}")
    return 0


def _rows(
    statuses: Iterable[GroupStatus], cells: Callable[[GroupStatus, int], tuple[str, ...]]
) -> Iterator[tuple[str, ...]]:
    for group in statuses:
        for index in range(len(group.deployments)):
            yield (group.name if index == 0 else "", *cells(group, index))


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        # Text, because a group's name is not markup.
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


@contextmanager
def _spinner(text: str) -> Iterator[None]:
    """Shows at a terminal that something is being waited for; says nothing elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
