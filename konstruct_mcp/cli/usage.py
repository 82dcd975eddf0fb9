"""`usage` and `budgets`: what tenants spent, and what is left, as a table, JSON, CSV or a page with charts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import get_args

import click

from konstruct_mcp.cli.completion import complete_group, complete_tenant
from konstruct_mcp.cli.opening import open_konstruct, read_ledger
from konstruct_mcp.cli.output import Row, csv_cell, say, show, show_json, show_table
from konstruct_mcp.core.budgets import BudgetState
from konstruct_mcp.core.errors import install_advice
from konstruct_mcp.core.money import NUSD, dollars
from konstruct_mcp.core.spending import Dimension, Spend, UsageReport, name_of, summed
from konstruct_mcp.core.text import is_day

_COLUMNS = ("calls", "failed", "tokens in", "out", "cached", "cost")
_NO_SPEND = Spend("", "", "", "")


def _stripped(_context: click.Context, _option: click.Parameter, tenant: str | None) -> str | None:
    return (tenant or "").strip() or None


def day(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """An ISO date; that of `7d` is seven days ago."""
    if text is None:
        return None
    if match := re.fullmatch(r"(\d{1,5})d", text):
        return (datetime.now(UTC).date() - timedelta(days=int(match[1]))).isoformat()
    if is_day(text):
        return text
    raise click.BadParameter("should be a date like 2026-01-31, or 7d for seven days ago")


TENANT = click.option(
    "--tenant",
    shell_complete=complete_tenant,
    envvar="KONSTRUCT_TENANT_ID",
    show_envvar=True,
    callback=_stripped,
    help="Of this tenant alone; of all, if left out or empty.",
)


@click.command()
@TENANT
@click.option("--group", shell_complete=complete_group, help="What this model group answered.")
@click.option("--since", metavar="DAY", callback=day, help="The first day (UTC): a date, or 7d for seven days ago.")
@click.option("--until", metavar="DAY", callback=day, help="The last day, in the same way.")
@click.option("--by", type=click.Choice(get_args(Dimension)), default="group", help="What a line is of.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the lines as CSV.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with charts; - for stdout.",
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
    konstruct = open_konstruct(path)
    report = read_ledger(konstruct, lambda: konstruct.usage(tenant, group=group, since=since, until=until))
    if html is not None:
        _write_page(report, html)
    elif as_json:
        show_json(report.as_dict())
    elif as_csv:
        _show_csv(report, by)
    else:
        _show_usage(report, by)


def _write_page(report: UsageReport, file: Path) -> None:
    try:
        from konstruct_mcp.pages.usage import page

        if str(file) == "-":
            show(page(report))
            return
        file.write_text(page(report), "utf-8")
    except ImportError:
        raise click.ClickException(f"charts need the extra `charts`: {install_advice('charts')}") from None
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from None
    say(f"written to {file}")


def _show_csv(report: UsageReport, by: Dimension) -> None:
    show(",".join((by, *_NO_SPEND.as_dict())))
    for line in summed(report.lines, by):
        # As a decimal: a spreadsheet takes 1.6e-05 for a text, or for a name.
        figures = line.as_dict() | {
            "cost_usd": "" if line.is_unknown else f"{Decimal(line.cost_nusd) / NUSD:f}",
            "at_most_usd": "" if line.most_nusd is None else f"{Decimal(line.most_nusd) / NUSD:f}",
        }
        show(",".join((csv_cell(getattr(line, by)), *map(str, figures.values()))))


def _show_usage(report: UsageReport, by: Dimension) -> None:
    if report.tenant is not None:
        show(f"tenant {report.tenant}\n")
    if not report.lines:
        show("no calls")
    else:
        lines, [total] = summed(report.lines, by), summed(report.lines)
        most = max(line.cost_nusd for line in lines) or 1
        columns: tuple[str, ...] = _COLUMNS
        figures = _figures
        if any(line.held_nusd for line in lines):
            columns, figures = (*columns, "at most"), lambda line: [*_figures(line), _bound(line)]
        rows = [Row((name_of(getattr(line, by)), *figures(line)), line.cost_nusd / most) for line in lines]
        show_table((by, *columns), [*rows, Row(("total", *figures(total)))])
        if total.unpriced:
            show(f"the cost of {total.unpriced:,} of {total.calls:,} calls is unknown, and not in these sums")
    if report.budgets:
        show("")
        _show_budgets(report.budgets)


def _figures(line: Spend) -> list[str]:
    counts = (line.calls, line.failed, line.input_tokens, line.output_tokens, line.cached_tokens)
    return [*(f"{count:,}" for count in counts), line.cost]


def _bound(line: Spend) -> str:
    return "unknown" if line.most_nusd is None else dollars(line.most_nusd)


@click.command()
@TENANT
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def budgets(path: Path | None, tenant: str | None, as_json: bool) -> None:
    """List the budgets: what is spent, held, reserved and left."""
    konstruct = open_konstruct(path)
    states = read_ledger(konstruct, lambda: konstruct.budgets(tenant))
    if as_json:
        show_json({"budgets": [state.as_dict() for state in states]})
    elif states:
        _show_budgets(states)
    else:
        show("no budgets")


def _show_budgets(states: Sequence[BudgetState]) -> None:
    rows = []
    holds = any(state.held_nusd for state in states)
    for state in states:
        held = (state.held_nusd,) if holds else ()
        amounts = (dollars(nusd) for nusd in (state.spent_nusd, *held, state.reserved_nusd, state.left_nusd))
        renews = state.renews_at[:10] if state.renews_at else "never"
        used = 1 - state.left_nusd / state.limit_nusd if state.limit_nusd else 1.0
        rows.append(Row((state.tenant, state.name, *amounts, renews), used))
    held_too = ("held",) if holds else ()
    show_table(("tenant", "budget", "spent", *held_too, "reserved", "left", "renews"), rows, texts=2)
    if holds:
        show("held: the most that tries of unknown cost can have cost, such as those that were broken off")
