"""`config`: where the config is, what it comes to, and whether it can be used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import yaml

from konstruct_mcp.cli.opening import open_and_warn, warn
from konstruct_mcp.cli.output import FAILURE, LONGEST_PATH, MISTAKE, config_faults, counted, say, show, show_json
from konstruct_mcp.config.model import Config
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.config.source import place
from konstruct_mcp.core.errors import ConfigError
from konstruct_mcp.core.text import cut


@click.group()
def config() -> None:
    """Say where the config is, show it, edit it, validate it."""


@config.command(name="path")
@click.pass_obj
def show_path(path: Path | None) -> None:
    """Print where the config file is, or would be."""
    file = _place(path)
    show(str(file))
    if not os.path.lexists(file):
        say("there is none, so the built-in config is used; `konstruct-mcp init` writes one")


@config.command(name="show")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def show_config(path: Path | None, as_json: bool) -> None:
    """Print the config as it is used, every secret masked."""
    effective = dict(open_and_warn(path).effective_config())
    if as_json:
        show_json(effective)
    else:
        show(yaml.safe_dump(effective, sort_keys=False, allow_unicode=True, width=120).removesuffix("\n"))


@config.command()
@click.pass_obj
def edit(path: Path | None) -> int:
    """Edit the config file in $VISUAL or $EDITOR, and validate it."""
    file = _place(path)
    if not file.exists():
        raise click.UsageError("there is no config file yet; `konstruct-mcp init` writes one")
    while True:
        click.edit(filename=str(file))
        status = _validated(file, strict=False)
        if status == 0 or not sys.stdin.isatty() or not click.confirm("Edit it again?", default=True, err=True):
            return status


@config.command()
@click.option("--strict", is_flag=True, help="Fail also where something of the config has no effect.")
@click.pass_obj
def validate(path: Path | None, strict: bool) -> int:
    """Say what is wrong with the config file, and ask nobody.

    Exit status: 0 it can be used; 1 with --strict, something has no effect; 2 it cannot be used.
    """
    return _validated(path, strict=strict)


def _validated(path: Path | None, *, strict: bool) -> int:
    try:
        found: Config = load_config(path, os.environ)
    except ConfigError as error:
        warn(error.warnings)
        show("\n".join(config_faults(error)))
        return MISTAKE
    warn(found.warnings)
    deployments = counted(len(found.deployments), "deployment")
    show(f"{cut(found.source, LONGEST_PATH)} can be used: {counted(len(found.groups), 'group')}, {deployments}")
    return FAILURE if strict and found.warnings else 0


def _place(path: Path | None) -> Path:
    file = place(path, os.environ)
    if file is None:
        raise click.ClickException("this user has no config folder; name a file with --config")
    return file
