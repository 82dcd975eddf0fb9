"""`models`: what is known of each model; `models update`: newer model data."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import anyio
import click

from konstruct_mcp.cli.groups import abilities_of, price_of, show_patterns
from konstruct_mcp.cli.opening import open_and_warn, warn
from konstruct_mcp.cli.output import counted, say, show, show_json, show_wrapped, spinner
from konstruct_mcp.core.results import DeploymentStatus, ModelTable
from konstruct_mcp.gateway.konstruct import Konstruct

_MOST_CHANGES = 100  # models whose changes are written out: nobody reads more
# Fields of a deployment that are of its model, and not of its present state.
_MODEL_FIELDS = (
    *("model", "input_usd_per_million", "output_usd_per_million", "context_window", "max_output_tokens", "supports"),
    "retires",
)


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """Say what is known of each model, and how old that is."""
    if context.invoked_subcommand is not None:
        return
    konstruct = open_and_warn(context.obj)
    tables, today = konstruct.model_tables(), datetime.now(UTC).date()
    if as_json:
        shown = [
            {"group": group.name, **{key: value for key, value in deployment.as_dict().items() if key in _MODEL_FIELDS}}
            for group in konstruct.groups()
            for deployment in group.deployments
        ]
        sources = [{**asdict(table), "age_days": _age(table, today)} for table in tables]
        show_json({"models": shown, "tables": sources})
        return
    _show_models(konstruct)
    for position, table in enumerate(tables):
        age = _age(table, today)
        read = f"read on {table.date}" if age is None else f"read on {table.date}, {_days_ago(age)}"
        facts = (f"LiteLLM {table.litellm}" if table.litellm else "", read if table.date else "")
        origin = ", ".join(filter(None, facts)) or "it does not say how old it is"
        show(f"{'model data' if position == 0 else 'and behind it'}: {table.place} ({origin})")


def _show_models(konstruct: Konstruct) -> None:
    rows = []
    for group in konstruct.groups():
        if group.alias_of is not None:
            rows.append((group.name, "", f"alias of {group.alias_of}"))
            continue
        for deployment in group.deployments:
            rows.append((group.name, deployment.model, _facts(deployment) or "nothing is known of it"))
    show_wrapped(("group", "model", "what is known of it"), *rows)
    show_patterns(konstruct)


def _facts(deployment: DeploymentStatus) -> str:
    answer = deployment.max_output_tokens
    longest = f"answers of up to {answer:,} tokens" if answer else ""
    window, abilities, retires = abilities_of(deployment)
    return "; ".join(filter(None, (price_of(deployment), window, longest, abilities, retires)))


def _age(table: ModelTable, today: date) -> int | None:
    """In days; None where the table does not say."""
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
    warn(konstruct.config.warnings)
    with spinner("fetching"):
        done = anyio.run(partial(konstruct.update_models, source, force=force))
    for line in done.left[:_MOST_CHANGES]:
        say(f"warning: {line}; this model stays as it was known")
    used = {deployment.model.partition("/")[2] for group in konstruct.groups() for deployment in group.deployments}
    # Those that the config has, first.
    ordered = sorted(done.changes, key=lambda name: (not used & {name, name.partition("/")[2]}, name))
    for name in ordered[:_MOST_CHANGES]:
        show(f"{name}: {'; '.join(done.changes[name])}")
    if len(ordered) > _MOST_CHANGES:
        show(f"… and {len(ordered) - _MOST_CHANGES} more")
    show(f"{counted(done.models, 'model')}: {len(done.new):,} new, {len(ordered):,} changed; written to {done.place}")
    if done.broken is not None:
        show(f"your table before could not be used, and is {done.broken} now")
