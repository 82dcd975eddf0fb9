"""The command line. Results go to stdout, everything else to stderr; 2 is a user's mistake, 1 a failure.

Imports that cost (mcp, rich) are made by the command that needs them.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import queue
import re
import select
import shlex
import shutil
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar, get_args

import anyio
import click

from konstruct_mcp.core.budgets import BudgetState
from konstruct_mcp.core.errors import TABLE_ADVICE, ConfigError, KonstructError, RequestError, install_advice
from konstruct_mcp.core.money import NUSD, dollars
from konstruct_mcp.core.results import Completion, DeploymentStatus, GroupStatus, ModelTable
from konstruct_mcp.core.spending import Dimension, Spend, UsageReport, summed
from konstruct_mcp.core.text import cut, is_day, scrubbed
from konstruct_mcp.gateway.konstruct import Konstruct

_T = TypeVar("_T")

_FAILURE, _MISTAKE, _INTERRUPTED = 1, 2, 130
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_MOST_LINES = 1000  # of the log that a client has yet to take; they are all it would look for
_LAST_LINES_S = 0.2
# What rewrites a terminal's screen, and what has its lines read in another order than they are written.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LONGEST_NAME = 512  # characters, of a name from the ledger
_LONGEST_PATH = 4096
_FORMULA = tuple("=+-@＝＋－＠")  # what a spreadsheet takes for the beginning of one
_PLAIN_CELL = re.compile(r"[\w./:@ -]*")
_PIPE_TABLE_WIDTH = 200  # columns, of a table with bars
_BAR_WIDTH, _LEAST_BAR_WIDTH, _LEAST_TEXT_WIDTH, _GAP = 20, 6, 12, 2
_PIPE_WIDTH = 10_000  # columns: who reads a pipe reads lines, and finds one deployment on each

_TERMINAL_NOTE = """\
konstruct-mcp serves the Model Context Protocol on this terminal's input and output; an assistant usually starts it.
To try it by hand:  konstruct-mcp complete "Why is the sky blue?"     To see what can be called:  konstruct-mcp groups
End with Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script. Ends the process; no traceback reaches a user.

    `arguments` stands in for those of the process.
    """
    _open_streams()
    _stand_somewhere()
    try:
        status: int = cli.main(arguments, standalone_mode=False) or 0
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        _say(shown.getvalue().removesuffix("\n"))
        status = error.exit_code
    except ConfigError as error:
        _say(*_faults(error))
        status = _MISTAKE
    except KonstructError as error:
        _say(f"error: {error}")
        status = _MISTAKE if isinstance(error, RequestError) else _FAILURE
    except (click.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    except OSError as error:  # a full disk; a reader that has gone is click's, which ends in silence
        _say(f"error: {error.strerror}")
        status = _FAILURE
    except Exception:
        logging.getLogger(__name__).debug("a defect", exc_info=True)
        _say("error: internal: a defect in konstruct-mcp; KONSTRUCT_LOG_LEVEL=DEBUG shows where")
        status = _FAILURE
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


def _stand_somewhere() -> None:
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


def _shown(text: str) -> str:
    return _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", text)


def _print(text: str, *, as_it_is: bool = False) -> None:
    # The stream and the colours are named, else click writes UTF-8 to a terminal that has said it reads ASCII, and
    # takes out of a model's answer what looks like a colour.
    click.echo(text if as_it_is else _shown(text), file=sys.stdout, color=True)


def _say(*lines: str) -> None:
    with suppress(OSError):  # nobody can be told; the log goes on without, too
        for line in lines:
            click.echo(_shown(line), file=sys.stderr)


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
    _log_to(logging.StreamHandler(sys.stderr))
    # Ours alone: what HTTP libraries say below a warning can hold keys.
    logging.getLogger("konstruct_mcp").setLevel(level)


def _log_to(handler: logging.Handler) -> None:
    handler.setFormatter(_Line("konstruct-mcp: %(levelname)s: %(message)s"))
    handler.addFilter(_is_ours_or_serious)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _shown(super().format(record))


def _is_ours_or_serious(record: logging.LogRecord) -> bool:
    """Libraries set their own levels by variables of their own (OPENAI_LOG …), and then tell prompts and headers."""
    return record.levelno >= logging.WARNING or record.name.split(".")[0] == "konstruct_mcp"


class _Patient(logging.Handler):
    """Writes to stderr in a thread of its own: a client that does not read it keeps no call waiting. What it does not
    take in time is dropped, and that is said when it takes something again."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str] = queue.Queue(_MOST_LINES)
        self._dropped = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1
        except Exception:  # of a library's log call that does not fit its own text, as any handler has it
            self.handleError(record)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            if dropped := self._dropped:
                self._dropped -= dropped
                line += f"\nkonstruct-mcp: WARNING: {dropped} lines before this were not taken, and are lost"
            unsent = f"{line}\n".encode(errors="replace")
            with suppress(OSError):  # closed, or a disk that is full: then there is nobody to tell
                while unsent:
                    try:
                        # Not through sys.stderr, whose lock a blocked write would keep from everybody else.
                        unsent = unsent[os.write(sys.stderr.fileno(), unsent) :]
                    except BlockingIOError:  # whoever made the pipe does not want to wait for it; we do
                        select.select([], [sys.stderr.fileno()], [])
            self._lines.task_done()

    def flush(self) -> None:
        """Wait until all is written, but not for long: this is called when the process ends."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, _LAST_LINES_S)


def _open(path: Path | None) -> Konstruct:
    """For a command that is about something else than the config."""
    konstruct = Konstruct.from_config(path)
    if count := len(konstruct.config.warnings):
        named = "" if path is None else f" --config {shlex.quote(str(path))}"
        _say(f"{_many(count, 'warning')} about the config; see `konstruct-mcp{named} check`")
    return konstruct


def _open_and_warn(path: Path | None) -> Konstruct:
    konstruct = Konstruct.from_config(path)
    _warn(konstruct)
    return konstruct


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _warn(konstruct: Konstruct) -> None:
    for warning in konstruct.config.warnings:
        _say(f"warning: {warning}")


@cli.command()
@click.pass_obj
def serve(path: Path | None) -> None:
    """Serve MCP over stdin and stdout (the default)."""
    konstruct = Konstruct.for_server(path)
    if konstruct.config_error is None:
        _warn(konstruct)
    else:
        _say(*(f"warning: {warning}" for warning in konstruct.config_error.warnings), *_faults(konstruct.config_error))
    _log_to(_Patient())
    if sys.stdin.isatty():
        _say(_TERMINAL_NOTE)
    # Whatever an import makes is there to stay, so there is nothing to collect in it, now or later.
    gc.disable()
    from konstruct_mcp.protocol.server import KonstructServer
    from konstruct_mcp.transports.stdio import serve_stdio

    gc.freeze()
    gc.enable()

    async def run() -> None:
        server, served = KonstructServer(konstruct), anyio.Event()
        async with konstruct, anyio.create_task_group() as tasks:
            tasks.start_soon(_look_at_ledger, konstruct)
            tasks.start_soon(server.follow_config, served)
            await serve_stdio(server, konstruct.aclose, konstruct.kill)
            served.set()
            tasks.cancel_scope.cancel()

    anyio.run(run)


async def _look_at_ledger(konstruct: Konstruct) -> None:
    """Say at once that no call will be answered, for whoever reads what a server says."""
    try:
        await konstruct.opened()
    except KonstructError as error:
        _say(f"error: {error}")
    with suppress(KonstructError):  # which is said when a call needs it
        for line in await konstruct.spent_under_former_names():
            logging.getLogger(__name__).warning("%s", line)


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
        prompt = sys.stdin.buffer.read().decode(errors="replace")
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages.append({"role": "user", "content": prompt})
    konstruct = _open(path)

    async def run() -> Completion:
        async with konstruct:
            return await konstruct.complete(messages, model_group=group, tenant_id=tenant, on_wait=show)

    with _spinner(f"waiting for {group or konstruct.default_group}") as show:
        completion = anyio.run(run)
    if as_json:
        _print_json(completion.as_dict())
    else:
        _print(completion.content, as_it_is=not sys.stdout.isatty())
        _say(*(f"({attempt.deployment}: {attempt.error})" for attempt in completion.attempts))
        _say(*(f"({note})" for note in completion.notes))
        _say(_summary(completion))


def _summary(completion: Completion) -> str:
    if completion.cost_usd is not None:
        cost = f"${Decimal(f'{completion.cost_usd:.3g}'):f}"
    elif completion.at_most_usd is not None:
        cost = f"at most ${Decimal(f'{completion.at_most_usd:.3g}'):f}"
    else:
        cost = "unpriced"
    tokens = f"{completion.usage.input_tokens} + {completion.usage.output_tokens} tokens"
    ending = "" if completion.finish_reason == "stop" else f", ended by {completion.finish_reason}"
    return f"({completion.model}, {completion.duration_ms / 1000:.1f} s, {tokens}, {cost}{ending})"


def _print_json(value: dict[str, Any]) -> None:
    """In ASCII, which every terminal shows, and without lone surrogates, which not every reader takes."""
    _print(json.dumps(scrubbed(value), indent=2))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def groups(path: Path | None, as_json: bool) -> None:
    """List the groups, their deployments, and what can be called."""
    konstruct = _open(path)
    statuses, default = konstruct.groups(), konstruct.default_group
    if as_json:
        _print_json({"default_group": default, "groups": [group.as_dict() for group in statuses]})
        return
    page = _page()
    for group in statuses:
        page.write_text(_titled(group, is_default=group.name == default))
        if group.alias_of is not None:
            continue
        with page.indentation():
            page.write_dl(
                [(deployment.model, _described(deployment)) for deployment in group.deployments], page.width // 2
            )
    _print(page.getvalue().removesuffix("\n"))
    _print_patterns(konstruct)


def _print_patterns(konstruct: Konstruct) -> None:
    if patterns := " or ".join(konstruct.patterns):
        _print(f"also any model's name that matches {patterns}")


def _titled(group: GroupStatus, *, is_default: bool) -> str:
    default = "; the default group" if is_default else ""
    fallbacks = f"; falls back to {', '.join(group.fallbacks)}" if group.fallbacks else ""
    alias = f"; alias of {group.alias_of}" if group.alias_of else ""
    return f"{group.name}: {group.description}{alias}{default}{fallbacks}"


def _described(deployment: DeploymentStatus) -> str:
    facts = deployment.reason or "ready", _price_of(deployment), *_abilities_of(deployment)
    return "; ".join(filter(None, facts))


def _known_of(deployment: DeploymentStatus) -> str:
    answer = deployment.max_output_tokens
    longest = f"answers of up to {answer:,} tokens" if answer else ""
    window, abilities, retires = _abilities_of(deployment)
    return "; ".join(filter(None, (_price_of(deployment), window, longest, abilities, retires)))


def _price_of(deployment: DeploymentStatus) -> str:
    prices = deployment.input_usd_per_million, deployment.output_usd_per_million
    if None in prices:
        return "unpriced"
    return "${:g} in, ${:g} out per million tokens".format(*prices) if any(prices) else "free"


def _abilities_of(deployment: DeploymentStatus) -> tuple[str, str, str]:
    window = f"window of {deployment.context_window:,} tokens" if deployment.context_window else ""
    retires = f"retires {deployment.retires}" if deployment.retires else ""
    return window, ", ".join(deployment.supports), retires


@cli.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """Say what is known of each model, and how old that is."""
    if context.invoked_subcommand is not None:
        return
    konstruct = _open_and_warn(context.obj)
    statuses, tables, today = konstruct.groups(), konstruct.model_tables(), datetime.now(UTC).date()
    if as_json:
        shown = [
            {"group": group.name, **{key: value for key, value in deployment.as_dict().items() if key in _OF_A_MODEL}}
            for group in statuses
            for deployment in group.deployments
        ]
        sources = [{**asdict(table), "age_days": _age(table, today)} for table in tables]
        _print_json({"models": shown, "tables": sources})
        return
    rows = []
    for group in statuses:
        if group.alias_of is not None:
            rows.append((group.name, "", f"alias of {group.alias_of}"))
            continue
        for deployment in group.deployments:
            rows.append((group.name, deployment.model, _known_of(deployment) or "nothing is known of it"))
    _table(("group", "model", "what is known of it"), *rows)
    _print_patterns(konstruct)
    for position, table in enumerate(tables):
        age = _age(table, today)
        read = f"read on {table.date}" if age is None else f"read on {table.date}, {_days_ago(age)}"
        said = (f"LiteLLM {table.litellm}" if table.litellm else "", read if table.date else "")
        whence = ", ".join(filter(None, said)) or "it does not say how old it is"
        _print(f"{'model data' if position == 0 else 'and behind it'}: {table.place} ({whence})")


_OF_A_MODEL = (
    *("model", "input_usd_per_million", "output_usd_per_million", "context_window", "max_output_tokens", "supports"),
    "retires",
)


def _age(table: ModelTable, today: date) -> int | None:
    """In days; None where it does not say."""
    try:
        return (today - date.fromisoformat(table.date or "")).days
    except ValueError:
        return None


def _days_ago(days: int) -> str:
    return "today" if days <= 0 else f"{days} {'day' if days == 1 else 'days'} ago"


@models.command()
@click.option("--from", "source", metavar="FILE|URL", help="A table of LiteLLM's; its public one if left out.")
@click.option("--force", is_flag=True, help="Take a price too that becomes 0 or unknown, or moves more than tenfold.")
@click.pass_obj
def update(path: Path | None, source: str | None, force: bool) -> None:
    """Fetch newer model data into your own table, and say what changes.

    Prices, windows, abilities and retirement dates, from LiteLLM's public table. A server takes it up at once.
    """
    konstruct = Konstruct.for_update(path)
    _warn(konstruct)
    with _spinner("fetching"):
        done = anyio.run(partial(konstruct.update_models, source, force=force))
    for line in done.left[:_MOST_CHANGES]:
        _say(f"warning: {line}; this model stays as it was known")
    used = {deployment.model.partition("/")[2] for group in konstruct.groups() for deployment in group.deployments}
    # Those that the config has, first.
    ordered = sorted(done.changes, key=lambda name: (not used & {name, name.partition("/")[2]}, name))
    for name in ordered[:_MOST_CHANGES]:
        _print(f"{name}: {'; '.join(done.changes[name])}")
    if len(ordered) > _MOST_CHANGES:
        _print(f"… and {len(ordered) - _MOST_CHANGES} more")
    _print(f"{_many(done.models, 'model')}: {len(done.new):,} new, {len(ordered):,} changed; written to {done.place}")
    if done.broken is not None:
        _print(f"your table before could not be used, and is {done.broken} now")


_MOST_CHANGES = 100  # models whose changes are written out: nobody reads more


@cli.command()
@click.option("--live", is_flag=True, help="Also ask each deployment for one token, on the default tenant's account.")
@click.option("--strict", is_flag=True, help="Fail also where something of the config has no effect.")
@click.pass_obj
def check(path: Path | None, live: bool, strict: bool) -> int:
    """Say what is wrong with the config, and what cannot be called.

    Exit status: 0 all is ready; 1 something cannot be called, has no price that a budget needs, or no account can be
    kept, or with --strict, something has no effect; 2 the config is broken.
    """
    try:
        konstruct = _open_and_warn(path)
    except ConfigError as error:
        _say(*(f"warning: {warning}" for warning in error.warnings))
        _print("\n".join(_faults(error)))
        return _MISTAKE
    config = konstruct.config
    deployments = [deployment for group in config.groups.values() for deployment in group.deployments]
    deployments += [deployment for wildcard in config.wildcards for deployment in wildcard.deployments]
    deployments = list({deployment.id: deployment for deployment in deployments}.values())
    unpriced = konstruct.unpriced()
    if live:
        with _spinner("asking each deployment for one token"):
            ledger_fault, lost, verdicts = anyio.run(_ask_each, konstruct)
    else:
        ledger_fault, lost = _from_ledger(konstruct, partial(_look_into_ledger, konstruct))
        verdicts = {deployment.id: deployment.unavailable for deployment in deployments}
    fine = "answers" if live else "ready"
    patterns = {wildcard.pattern for wildcard in config.wildcards}
    rows = [
        (
            deployment.group,
            deployment.name,
            verdicts[deployment.id] or ("ready" if deployment.group in patterns else fine),
        )
        for deployment in deployments
    ]
    _table(("group", "model", "state"), *rows)
    _print(f"config: {cut(konstruct.config.source, _LONGEST_PATH)}")
    _print(f"ledger: {cut(konstruct.config.ledger.shown, _LONGEST_PATH)}{f'; {ledger_fault}' if ledger_fault else ''}")
    for deployment in deployments:
        if why := unpriced.get(deployment.id):
            _print(f"{deployment.group}: {deployment.name} {why}; no tenant with a budget can use it")
    for line in (*konstruct.retiring(), *konstruct.unknown_models(), *lost):
        _print(line)
    if len(rows) == 1:
        all_fine, some = f"the one deployment {'answers' if live else 'is ready'}", "the one deployment"
    else:
        all_fine = f"all {len(rows)} deployments {'answer' if live else 'are ready'}"
        some = f"{sum(verdict is not None for verdict in verdicts.values())} of {len(rows)} deployments"
    if failing := any(verdict is not None for verdict in verdicts.values()):
        _print(f"{some} cannot be called; the state above says why")
    elif unpriced:
        _print(f"{all_fine}, but {f'{len(unpriced)} of them ' if len(rows) > 1 else ''}not for a tenant with a budget")
    else:
        _print(all_fine)
    if strict and config.warnings:
        _print("not all of the config has an effect; the warnings say what has none")
        return _FAILURE
    if strict:
        _print("nothing in the config is without effect")
    return _FAILURE if failing or unpriced or ledger_fault else 0


async def _look_into_ledger(konstruct: Konstruct) -> tuple[str | None, list[str]]:
    """Why no account can be kept, and what was spent that no budget counts any more."""
    fault = await konstruct.ledger_fault()
    return fault, [] if fault else await konstruct.spent_under_former_names()


async def _ask_each(konstruct: Konstruct) -> tuple[str | None, list[str], dict[str, str | None]]:
    async with konstruct:
        fault, lost = await _look_into_ledger(konstruct)
        return fault, lost, await konstruct.check()


def _stripped(_context: click.Context, _option: click.Parameter, tenant: str | None) -> str | None:
    return (tenant or "").strip() or None


_TENANT = click.option(
    "--tenant",
    envvar="KONSTRUCT_TENANT_ID",
    show_envvar=True,
    callback=_stripped,
    help="Of this tenant alone; of all, if left out or empty.",
)


def _day(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """An ISO date; that of `7d` is seven days ago."""
    if text is None:
        return None
    if match := re.fullmatch(r"(\d{1,5})d", text):
        return (datetime.now(UTC).date() - timedelta(days=int(match[1]))).isoformat()
    if is_day(text):
        return text
    raise click.BadParameter("should be a date like 2026-01-31, or 7d for seven days ago")


@cli.command()
@_TENANT
@click.option("--group", help="What this model group answered.")
@click.option("--since", metavar="DAY", callback=_day, help="The first day (UTC): a date, or 7d for seven days ago.")
@click.option("--until", metavar="DAY", callback=_day, help="The last day, in the same way.")
@click.option("--by", type=click.Choice(get_args(Dimension)), default="group", help="What a line is of.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the lines as CSV.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page with charts."
)
@click.pass_obj
def usage(
    path: Path | None,
    tenant: str | None,
    group: str | None,
    since: str | None,
    until: str | None,
    by: Dimension,
    as_json: bool,
    as_csv: bool,
    html: Path | None,
) -> None:
    """Say what tenants spent, on which groups and models, and when."""
    if as_json + as_csv + (html is not None) > 1:
        raise click.UsageError("--json, --csv and --html exclude each other")
    konstruct = _open(path)
    report = _from_ledger(konstruct, lambda: konstruct.usage(tenant, group=group, since=since, until=until))
    if html is not None:
        _write_page(report, html)
    elif as_json:
        _print_json(report.as_dict())
    elif as_csv:
        _print_csv(report, by)
    else:
        _print_usage(report, by)


def _from_ledger(konstruct: Konstruct, read: Callable[[], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        try:
            return await read()
        finally:
            await konstruct.aclose()

    return anyio.run(run)


def _write_page(report: UsageReport, file: Path) -> None:
    try:
        from konstruct_mcp.cli.page import page

        file.write_text(page(report), "utf-8")
    except ImportError:
        raise click.ClickException(f"charts need the extra `charts`: {install_advice('charts')}") from None
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from None
    _say(f"written to {file}")


def _print_csv(report: UsageReport, by: Dimension) -> None:
    _print(",".join((by, *_NO_SPEND.as_dict())))
    for line in summed(report.lines, by):
        # As a decimal: a spreadsheet takes 1.6e-05 for a text, or for a name.
        figures = line.as_dict() | {
            "cost_usd": "" if line.is_unknown else f"{Decimal(line.cost_nusd) / NUSD:f}",
            "at_most_usd": "" if line.most_nusd is None else f"{Decimal(line.most_nusd) / NUSD:f}",
        }
        _print(",".join((_cell(getattr(line, by)), *map(str, figures.values()))))


def _cell(name: str) -> str:
    """A name that a spreadsheet takes for a text, wherever it sees one cell end and another begin."""
    text = cut(name, _LONGEST_NAME)
    text = f"'{text}" if text.startswith(_FORMULA) else text
    return text if _PLAIN_CELL.fullmatch(text) else '"' + text.replace('"', '""') + '"'


def _print_usage(report: UsageReport, by: Dimension) -> None:
    if report.tenant is not None:
        _print(f"tenant {report.tenant}\n")
    if not report.lines:
        _print("no calls")
    else:
        lines, [total] = summed(report.lines, by), summed(report.lines)
        most = max(line.cost_nusd for line in lines) or 1
        columns: tuple[str, ...] = _COLUMNS
        figures = _figures
        if any(line.held_nusd for line in lines):
            columns, figures = (*columns, "at most"), lambda line: [*_figures(line), _bound(line)]
        rows = [
            _Row((getattr(line, by) or "(nobody answered)", *figures(line)), line.cost_nusd / most) for line in lines
        ]
        _print_table((by, *columns), [*rows, _Row(("total", *figures(total)))])
        if total.unpriced:
            _print(f"the cost of {total.unpriced:,} of {total.calls:,} calls is unknown, and not in these sums")
    if report.budgets:
        _print("")
        _print_budgets(report.budgets)


_COLUMNS = ("calls", "failed", "tokens in", "out", "cached", "cost")
_NO_SPEND = Spend("", "", "", "")


def _figures(line: Spend) -> list[str]:
    counts = (line.calls, line.failed, line.input_tokens, line.output_tokens, line.cached_tokens)
    return [*(f"{count:,}" for count in counts), line.cost]


def _bound(line: Spend) -> str:
    return "unknown" if line.most_nusd is None else dollars(line.most_nusd)


@cli.command()
@_TENANT
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def budgets(path: Path | None, tenant: str | None, as_json: bool) -> None:
    """List the budgets: what is spent, held, reserved and left."""
    konstruct = _open(path)
    states = _from_ledger(konstruct, lambda: konstruct.budgets(tenant))
    if as_json:
        _print_json({"budgets": [state.as_dict() for state in states]})
    elif states:
        _print_budgets(states)
    else:
        _print("no budgets")


def _print_budgets(states: Sequence[BudgetState]) -> None:
    rows = []
    holds = any(state.held_nusd for state in states)
    for state in states:
        held = (state.held_nusd,) if holds else ()
        amounts = (dollars(nusd) for nusd in (state.spent_nusd, *held, state.reserved_nusd, state.left_nusd))
        renews = state.renews_at[:10] if state.renews_at else "never"
        used = 1 - state.left_nusd / state.limit_nusd if state.limit_nusd else 1.0
        rows.append(_Row((state.tenant, state.name, *amounts, renews), used))
    held_too = ("held",) if holds else ()
    _print_table(("tenant", "budget", "spent", *held_too, "reserved", "left", "renews"), rows, texts=2)
    if holds:
        _print("held: the most that tries of unknown cost can have cost, such as those that were broken off")


@cli.group()
def ledger() -> None:
    """Act on the accounts' database itself."""


@ledger.command()
@click.pass_obj
def accept_new(path: Path | None) -> None:
    """Begin with another ledger after one is gone.

    While there are budgets, no other ledger takes the place of one that was moved, removed or replaced: calls with a
    budget are refused, since nobody knows what is left. Put it back, and all is as it was. Else this takes what is
    there now, or an empty one, for the ledger: what was spent before counts towards no budget any more, and the calls
    that wait in the spool are written into it. Servers that run take it up by themselves. Where nothing has
    disappeared, this changes nothing and fails.
    """
    konstruct = _open(path)
    calls = _from_ledger(konstruct, konstruct.accept_new_ledger)
    _print(
        f"{konstruct.config.ledger.shown} is the ledger now, with {_many(calls, 'call')} in it; what was spent before "
        "counts towards no budget any more"
    )


class _Row(NamedTuple):
    """The cells of a line, and how much of its bar is filled."""

    cells: Sequence[str]
    bar: float = 0.0


def _print_table(header: Sequence[str], rows: Sequence[_Row], *, texts: int = 1) -> None:
    """With a bar at the end of each line, if there is room. The first columns are text, the others figures: where the
    terminal is narrow, texts are folded, and figures go beyond its edge rather than being cut."""
    from rich.bar import Bar
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_TABLE_WIDTH, highlight=False)
    rows = [row._replace(cells=[cut(cell, _LONGEST_NAME) for cell in row.cells]) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(header, *(row.cells for row in rows), strict=True)]
    gaps = _GAP * (len(widths) - 1)
    bar = min(_BAR_WIDTH, console.width - sum(widths) - gaps - _GAP)
    if bar < _LEAST_BAR_WIDTH:
        bar = 0
        room = console.width - sum(widths[texts:]) - gaps
        for position in range(texts):
            widths[position] = min(widths[position], max(_LEAST_TEXT_WIDTH, room // (texts - position)))
            room -= widths[position]
    console.width = max(console.width, sum(widths) + gaps)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="", show_edge=False)
    for position, (column, width) in enumerate(zip(header, widths, strict=True)):
        table.add_column(column, justify="left" if position < texts else "right", overflow="fold", width=width)
    if bar:
        table.add_column("", width=bar)
    for row in rows:
        # As text: rich would read a name in brackets as a style.
        table.add_row(*map(Text, row.cells), *([Bar(1, 0, row.bar)] if bar else []))
    with console.capture() as printed:
        console.print(table)
    _print("\n".join(line.rstrip() for line in printed.get().splitlines()))


def _faults(error: ConfigError) -> list[str]:
    lines = []
    if others := [fault for fault in error.faults if fault not in error.table_faults]:
        lines += [f"{error.source} cannot be used:", *(f"  {fault}" for fault in others)]
    if error.table_faults:
        lines += [
            f"{error.table} cannot be used:",
            *(f"  {fault}" for fault in error.table_faults),
            f"  {TABLE_ADVICE}",
        ]
    return lines


def _table(*rows: tuple[str, str, str]) -> None:
    """Two columns as wide as they need to be, and one that wraps; on a narrow page it begins on the next line."""
    page = _page()
    width = max(len(first) for first, _, _ in rows)
    page.write_dl([(f"{first:{width}}  {second}", third) for first, second, third in rows], page.width // 2)
    _print(page.getvalue())


def _page() -> click.HelpFormatter:
    return click.HelpFormatter(width=shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH)


@contextmanager
def _spinner(text: str) -> Iterator[Callable[[str], None] | None]:
    """Shows at a terminal what is being waited for, and gives what changes that; says nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    def as_text(line: str) -> Text:
        """Rich would read a name in brackets as a style."""
        return Text(cut(line, _LONGEST_NAME))

    with Console(stderr=True).status(as_text(text)) as status:
        yield lambda line: status.update(as_text(line))
