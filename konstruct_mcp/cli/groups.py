"""`groups`: the model groups, and what can be called."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from konstruct_mcp.cli.opening import open_konstruct
from konstruct_mcp.cli.output import help_page, show, show_json
from konstruct_mcp.core.results import DeploymentStatus, GroupStatus
from konstruct_mcp.gateway.konstruct import Konstruct


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def groups(path: Path | None, as_json: bool) -> None:
    """List the groups, their deployments, and what can be called."""
    konstruct = open_konstruct(path)
    anyio.run(konstruct.look_for_ollama)
    statuses, default, reason = konstruct.groups(), konstruct.default_group, konstruct.default_reason
    if as_json:
        why = {"default_reason": reason} if reason else {}
        show_json({"default_group": default, **why, "groups": [group.as_dict() for group in statuses]})
        return
    page = help_page()
    for group in statuses:
        page.write_text(_title(group, is_default=group.name == default))
        if group.alias_of is not None:
            continue
        with page.indentation():
            page.write_dl([(deployment.model, _facts(deployment)) for deployment in group.deployments], page.width // 2)
    show(page.getvalue().removesuffix("\n"))
    if reason:
        show(f"default group: {default}; {reason}")
    show_patterns(konstruct)


def _title(group: GroupStatus, *, is_default: bool) -> str:
    default = "; the default group" if is_default else ""
    fallbacks = f"; falls back to {', '.join(group.fallbacks)}" if group.fallbacks else ""
    alias = f"; alias of {group.alias_of}" if group.alias_of else ""
    return f"{group.name}: {group.description}{alias}{default}{fallbacks}"


def _facts(deployment: DeploymentStatus) -> str:
    facts = deployment.reason or "ready", price_of(deployment), *abilities_of(deployment)
    return "; ".join(filter(None, facts))


def show_patterns(konstruct: Konstruct) -> None:
    """Say which other names can be asked for: those that match a wildcard."""
    if patterns := " or ".join(konstruct.patterns):
        show(f"also any model's name that matches {patterns}")


def price_of(deployment: DeploymentStatus) -> str:
    prices = deployment.input_usd_per_million, deployment.output_usd_per_million
    if None in prices:
        return "unpriced"
    return "${:g} in, ${:g} out per million tokens".format(*prices) if any(prices) else "free"


def abilities_of(deployment: DeploymentStatus) -> tuple[str, str, str]:
    """Its context window, what it supports, and when it retires; each empty where that is unknown."""
    window = f"window of {deployment.context_window:,} tokens" if deployment.context_window else ""
    retires = f"retires {deployment.retires}" if deployment.retires else ""
    return window, ", ".join(deployment.supports), retires
