"""`ledger`: what an operator does to the accounts' database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from konstruct_mcp.cli.export import write_csv, write_parquet
from konstruct_mcp.cli.opening import open_konstruct, read_ledger
from konstruct_mcp.cli.output import counted, say, show
from konstruct_mcp.cli.usage import TENANT, day
from konstruct_mcp.config.packages import installed

_FORMATS = {"csv": write_csv, "parquet": write_parquet}


@click.group()
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
    konstruct = open_konstruct(path)
    calls = read_ledger(konstruct, konstruct.accept_new_ledger)
    show(
        f"{konstruct.config.ledger.shown} is the ledger now, with {counted(calls, 'call')} in it; "
        "what was spent before counts towards no budget any more"
    )


@ledger.command()
@click.option("--before", required=True, metavar="DAY", callback=day, help="A date (UTC), or 90d for 90 days ago.")
@click.option("--dry-run", is_flag=True, help="Only say how many calls that are.")
@click.pass_obj
def prune(path: Path | None, before: str, dry_run: bool) -> None:
    """Delete the rows of calls that ended before a day.

    The sums by day, tenant, group and model stay, so that budgets and reports are what they were. Rows of the last
    seven days cannot be deleted: a server that comes back needs them, so as not to count a call twice.
    """
    konstruct = open_konstruct(path)
    found = read_ledger(konstruct, lambda: konstruct.prune_ledger(before, dry_run=dry_run))
    show(f"{counted(found, 'call')} before {before} {'would be deleted' if dry_run else 'deleted'}; their sums stay")


@ledger.command()
@TENANT
@click.option("--since", metavar="DAY", callback=day, help="The first day (UTC): a date, or 7d for seven days ago.")
@click.option("--until", metavar="DAY", callback=day, help="The last day, in the same way.")
@click.option("--format", "form", type=click.Choice(list(_FORMATS)), default="csv", help="Of the file.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.pass_obj
def export(path: Path | None, tenant: str | None, since: str | None, until: str | None, form: str, file: str) -> None:
    """Write the rows of calls to a file, the oldest first; to stdout for `-`."""
    if form == "parquet" and not installed("pyarrow"):
        raise click.ClickException("Parquet needs pyarrow, which is not installed: pip install pyarrow")
    konstruct = open_konstruct(path)
    try:
        with click.open_file(file, "wb") as stream:

            def write(rows: Iterator[dict[str, Any]]) -> None:
                _FORMATS[form](rows, stream)

            read_ledger(konstruct, lambda: konstruct.export_ledger(write, tenant=tenant, since=since, until=until))
    except OSError as error:
        raise click.FileError(file, error.strerror) from None
    if file != "-":
        say(f"written to {file}")
