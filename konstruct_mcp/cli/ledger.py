"""`ledger`: what an operator does to the accounts' database."""

from __future__ import annotations

from pathlib import Path

import click

from konstruct_mcp.cli.opening import open_konstruct, read_ledger
from konstruct_mcp.cli.output import counted, show


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
