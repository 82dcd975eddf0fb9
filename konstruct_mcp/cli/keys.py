"""`keys`: the keys with which clients over HTTP say who they are."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import click

from konstruct_mcp.cli.completion import complete_tenant
from konstruct_mcp.cli.opening import open_konstruct, read_ledger
from konstruct_mcp.cli.output import Row, say, show, show_json, show_table
from konstruct_mcp.core.errors import UnknownTenantError
from konstruct_mcp.core.identity import OPERATOR, StoredKey
from konstruct_mcp.core.text import quoted

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        match = re.fullmatch(r"(\d{1,6})([mhdw])", str(value))
        if match is None:
            self.fail("should be a number of minutes, hours, days or weeks: 30m, 12h, 90d, 4w", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of clients over HTTP."""


@keys.command()
@click.option(
    "--tenant", shell_complete=complete_tenant, required=True, metavar="TENANT", help="For whom the key stands."
)
@click.option("--expires", type=_Duration(), metavar="DURATION", help="After 30m, 12h, 90d or 4w; never without this.")
@click.option("--note", metavar="TEXT", help="Who has it, and what for.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice([OPERATOR]), help="What it allows besides.")
@click.pass_obj
def create(
    path: Path | None, tenant: str, expires: timedelta | None, note: str | None, scopes: tuple[str, ...]
) -> None:
    """Make a key, and print it.

    It is shown this once: the database keeps a digest of it. A client sends it in the header `Authorization: Bearer
    ks_…`, and is the tenant then. A key of scope `operator` reads everybody's usage and budgets besides; its calls are
    on its own tenant's account.
    """
    konstruct = open_konstruct(path)
    try:
        made = read_ledger(
            konstruct, lambda: konstruct.create_key(tenant.strip(), expires_in=expires, note=note, scopes=scopes)
        )
    except UnknownTenantError:
        raise UnknownTenantError(f"no tenant {quoted(tenant)}; `konstruct-mcp tenants create` makes one") from None
    until = "never expires" if made.stored.expires is None else f"expires {made.stored.expires}"
    say(f"a key of {made.stored.tenant}, which {until}; it is shown this once:")
    show(made.key)


@keys.command(name="list")
@click.option("--tenant", shell_complete=complete_tenant, metavar="TENANT", help="This one's alone.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def list_keys(path: Path | None, tenant: str | None, as_json: bool) -> None:
    """List the keys by their first characters, oldest first."""
    konstruct = open_konstruct(path)
    found = read_ledger(konstruct, lambda: konstruct.list_keys((tenant or "").strip() or None))
    if as_json:
        show_json({"keys": [key.as_dict() for key in found]})
    elif not found:
        show("no keys")
    else:
        columns = ("key", "tenant", "scopes", "created", "expires", "last used", "state", "note")
        show_table(columns, [Row(_cells(key)) for key in found], texts=len(columns))


def _cells(key: StoredKey) -> list[str]:
    state = "valid" if (flaw := key.flaw_now()) is None else flaw.removeprefix("has ").removeprefix("been ")
    never = "never"
    return [
        f"{key.prefix}…",
        key.tenant,
        " ".join(key.scopes),
        key.created,
        key.expires or never,
        key.used or never,
        state,
        key.note or "",
    ]


@keys.command()
@click.argument("prefix")
@click.pass_obj
def revoke(path: Path | None, prefix: str) -> None:
    """Have a key open nothing any more.

    PREFIX is its first characters, as `keys list` shows them. Servers that run refuse it after 15 seconds at the
    latest.
    """
    konstruct = open_konstruct(path)
    key = read_ledger(konstruct, lambda: konstruct.revoke_key(prefix.strip().removesuffix("…")))
    show(f"{key.prefix}… of {key.tenant} is revoked; running servers refuse it within 15 seconds")
