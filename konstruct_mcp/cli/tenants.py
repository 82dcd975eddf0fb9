"""`tenants`: tenants of the ledger's database, beside those of the config."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from konstruct_mcp.cli.completion import complete_group
from konstruct_mcp.cli.opening import open_konstruct, read_ledger
from konstruct_mcp.cli.output import Row, show, show_json, show_table
from konstruct_mcp.core.effort import Effort
from konstruct_mcp.core.identity import ListedTenant

_F = TypeVar("_F", bound=Callable[..., Any])
_BUDGET = re.compile(r"(?P<usd>[^/:]+)/(?P<per>day|month|total)(?::(?P<groups>.+))?")
_LIMITS = ("max_concurrency", "rpm", "tpm", "max_effort")
_WITHIN = "running servers know it within 15 seconds"


class _Budget(click.ParamType[dict[str, Any]]):
    name = "budget"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        match = _BUDGET.fullmatch(str(value).strip())
        if match is None:
            self.fail("should be DOLLARS/PER or DOLLARS/PER:GROUP,…, with PER day, month or total: 5/day", param, ctx)
        groups = {} if match["groups"] is None else {"groups": [name.strip() for name in match["groups"].split(",")]}
        return {"usd": _number(match["usd"].strip().removeprefix("$")), "per": match["per"], **groups}


def _number(text: str) -> float | str:
    """A number as JSON has it; what is none stays as it is, for the config's own reader to say so."""
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() else value


def _settings(command: _F) -> _F:
    """The options of what a config could say of a tenant."""
    for option in (
        click.option(
            "--group",
            "groups",
            shell_complete=complete_group,
            multiple=True,
            metavar="GROUP",
            help="It may use this one; all without any.",
        ),
        click.option(
            "--budget",
            "budgets",
            multiple=True,
            type=_Budget(),
            metavar="USD/PER[:GROUP,…]",
            help="It may spend so much a day, a month or in total; konstruct.budgets without any.",
        ),
        click.option(
            "--files", multiple=True, metavar="FOLDER", help="It may send files of this folder on the server."
        ),
        click.option("--note", metavar="TEXT", help="For operators."),
        click.option("--max-concurrency", type=int, metavar="CALLS", help="It may have so many calls under way."),
        click.option("--rpm", type=int, metavar="CALLS", help="It may make so many calls a minute."),
        click.option("--tpm", type=int, metavar="TOKENS", help="It may use so many tokens a minute."),
        click.option("--max-effort", type=click.Choice(get_args(Effort)), help="It may have a model think so hard."),
    ):
        command = option(command)
    return command


@click.group()
def tenants() -> None:
    """Make, change, list and disable tenants in the database.

    They are as good as those of the config, whose own entries win where both have a name.
    """


@tenants.command()
@click.argument("tenant")
@_settings
@click.pass_obj
def create(path: Path | None, /, tenant: str, **given: Any) -> None:
    """Make a tenant."""
    konstruct = open_konstruct(path)
    read_ledger(konstruct, lambda: konstruct.create_tenant(tenant, _given(given)))
    show(f"{tenant} is a tenant now; {_WITHIN}")


@tenants.command(name="set")
@click.argument("tenant")
@_settings
@click.option("--all-groups", is_flag=True, help="It may use every group.")
@click.option("--default-budgets", is_flag=True, help="It has the budgets of konstruct.budgets.")
@click.option("--no-budgets", is_flag=True, help="It has none.")
@click.option("--no-files", is_flag=True, help="It may send no files.")
@click.option("--no-limits", is_flag=True, help="It has no limit of its own on calls, tokens and effort.")
@click.pass_obj
def set_tenant(
    path: Path | None,
    /,
    tenant: str,
    all_groups: bool,
    default_budgets: bool,
    no_budgets: bool,
    no_files: bool,
    no_limits: bool,
    **given: Any,
) -> None:
    """Change a tenant; what is not named stays as it is."""
    changes = _given(given)
    cleared: list[tuple[bool, str, list[Any] | None]] = [
        (all_groups, "groups", None),
        (default_budgets, "budgets", None),
        (no_budgets, "budgets", []),
        (no_files, "files", []),
        *((no_limits, limit, None) for limit in _LIMITS),
    ]
    for is_set, setting, value in cleared:
        if is_set and setting in changes:
            raise click.UsageError(f"of the options for {setting}, one at a time")
        if is_set:
            changes[setting] = value
    if not changes:
        raise click.UsageError("name what to change; --help lists it")
    konstruct = open_konstruct(path)
    read_ledger(konstruct, lambda: konstruct.set_tenant(tenant, changes))
    show(f"{tenant} is changed; {_WITHIN}")


@tenants.command()
@click.argument("tenant")
@click.pass_obj
def disable(path: Path | None, tenant: str) -> None:
    """Refuse a tenant's calls and keys, until `tenants enable`; calls under way go on."""
    konstruct = open_konstruct(path)
    read_ledger(konstruct, lambda: konstruct.disable_tenant(tenant))
    show(f"{tenant} is disabled; {_WITHIN}")


@tenants.command()
@click.argument("tenant")
@click.pass_obj
def enable(path: Path | None, tenant: str) -> None:
    """Let a disabled tenant call again."""
    konstruct = open_konstruct(path)
    read_ledger(konstruct, lambda: konstruct.enable_tenant(tenant))
    show(f"{tenant} is enabled; {_WITHIN}")


@tenants.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def list_tenants(path: Path | None, as_json: bool) -> None:
    """List all tenants, and where each is written.

    `hidden` is an entry of the database whose name the config has too: the config's entry holds.
    """
    konstruct = open_konstruct(path)
    found = read_ledger(konstruct, konstruct.list_tenants)
    if as_json:
        show_json({"tenants": [tenant.as_dict() for tenant in found]})
    elif not found:
        show("no tenants")
    else:
        columns = ("tenant", "from", "state", "groups", "budgets", "limits", "note")
        show_table(columns, [Row(_cells(tenant)) for tenant in found], texts=len(columns))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that options name."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value not in (None, ())
    }


def _cells(tenant: ListedTenant) -> list[str]:
    settings = tenant.settings
    state = "disabled" if tenant.disabled else "enabled" if tenant.flaw is None else f"refused: {tenant.flaw}"
    groups = settings.get("groups")
    budgets = settings.get("budgets")
    return [
        tenant.id,
        tenant.place,
        state,
        "all" if groups is None else ", ".join(groups),
        "konstruct.budgets" if budgets is None else ", ".join(map(_budget, budgets)) or "none",
        ", ".join(f"{limit} {settings[limit]}" for limit in _LIMITS if settings.get(limit) is not None),
        settings.get("note") or "",
    ]


def _budget(budget: Mapping[str, Any]) -> str:
    groups = f":{','.join(budget['groups'])}" if budget.get("groups") else ""
    return f"${str(budget['usd']).removesuffix('.0')}/{budget['per']}{groups}"
