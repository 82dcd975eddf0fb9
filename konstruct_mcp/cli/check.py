"""`check`: what is wrong with the config, and what cannot be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import click

from konstruct_mcp.cli.opening import open_and_warn, read_ledger, warn
from konstruct_mcp.cli.output import (
    FAILURE,
    LONGEST_PATH,
    MISTAKE,
    config_faults,
    show,
    show_wrapped,
    spinner,
)
from konstruct_mcp.config.model import Config, Deployment
from konstruct_mcp.core.errors import ConfigError
from konstruct_mcp.core.sharing import Look
from konstruct_mcp.core.text import cut
from konstruct_mcp.gateway.konstruct import Konstruct

_Verdicts = Mapping[str, str | None]  # by deployment id: why it cannot be called, None where it can


class _Found(NamedTuple):
    """What was seen outside of the config.

    Attributes:
        ledger_fault: why no account can be kept; None where one can.
        uncounted: what was spent that no budget counts any more.
        shared: the Valkey server; None where the config names none.
    """

    ledger_fault: str | None
    uncounted: list[str]
    shared: Look | None


@click.command()
@click.option("--live", is_flag=True, help="Also ask each deployment for one token, on the default tenant's account.")
@click.option("--strict", is_flag=True, help="Fail also where something of the config has no effect.")
@click.pass_obj
def check(path: Path | None, live: bool, strict: bool) -> int:
    """Say what is wrong with the config, and what cannot be called.

    Exit status: 0 all is ready; 1 something cannot be called, has no price that a budget needs, no account can be kept,
    the Valkey server cannot be used, a file cannot be read, or with --strict, something has no effect; 2 the config is
    broken.
    """
    try:
        konstruct = open_and_warn(path)
    except ConfigError as error:
        warn(error.warnings)
        show("\n".join(config_faults(error)))
        return MISTAKE
    anyio.run(konstruct.look_for_ollama)
    config = konstruct.config
    deployments = _deployments(config)
    unpriced, unreadable = konstruct.unpriced(), konstruct.unreadable_files()
    verdicts: _Verdicts = {deployment.id: deployment.unavailable for deployment in deployments}
    found = read_ledger(konstruct, partial(_look_around, konstruct))
    if live:
        with spinner("asking each deployment for one token"):
            verdicts = {**verdicts, **anyio.run(_ask_each, path)}
    _show_states(config, deployments, verdicts, live=live)
    show(f"config: {cut(config.source, LONGEST_PATH)}")
    if config.default_reason:
        show(f"default group: {config.default_group}; {config.default_reason}")
    show(f"ledger: {cut(config.ledger.shown, LONGEST_PATH)}{f'; {found.ledger_fault}' if found.ledger_fault else ''}")
    if found.shared is not None:
        show(f"redis: {_said(found.shared)}")
    for deployment in deployments:
        if why := unpriced.get(deployment.id):
            show(f"{deployment.group}: {deployment.name} {why}; no tenant with a budget can use it")
    for line in (
        *konstruct.retiring(),
        *konstruct.unknown_models(),
        *found.uncounted,
        *unreadable,
        *konstruct.missing_file_roots(),
    ):
        show(line)
    show(_conclusion(len(deployments), verdicts, len(unpriced), live=live))
    if strict and config.warnings:
        show("not all of the config has an effect; the warnings say what has none")
        return FAILURE
    if strict:
        show("nothing in the config is without effect")
    is_ready = not any(verdict is not None for verdict in verdicts.values())
    is_kept = found.ledger_fault is None and (found.shared is None or found.shared.fault is None)
    return 0 if is_ready and not unpriced and not unreadable and is_kept else FAILURE


def _deployments(config: Config) -> list[Deployment]:
    """Each deployment once, those of wildcards too."""
    of_wildcards = {one.id: one for wildcard in config.wildcards for one in wildcard.deployments}
    return list((config.deployments | of_wildcards).values())


async def _look_around(konstruct: Konstruct) -> _Found:
    shared = await konstruct.look_at_shared_state()
    fault = await konstruct.ledger_fault()
    return _Found(fault, [] if fault else await konstruct.spent_under_former_names(), shared)


async def _ask_each(path: Path | None) -> _Verdicts:
    # Another one, because this process is a server from now on, which counts itself.
    async with Konstruct.from_config(path) as konstruct:
        await konstruct.look_for_ollama()
        return await konstruct.check()


def _said(shared: Look) -> str:
    return f"cannot be used: {shared.fault}" if shared.fault else f"can be used; servers there: {shared.servers}"


def _show_states(config: Config, deployments: Sequence[Deployment], verdicts: _Verdicts, *, live: bool) -> None:
    patterns = {wildcard.pattern for wildcard in config.wildcards}  # which cannot be asked as such

    def state(deployment: Deployment) -> str:
        return verdicts[deployment.id] or ("answers" if live and deployment.group not in patterns else "ready")

    rows = [(deployment.group, deployment.name, state(deployment)) for deployment in deployments]
    show_wrapped(("group", "model", "state"), *rows)


def _conclusion(count: int, verdicts: _Verdicts, unpriced: int, *, live: bool) -> str:
    failing = sum(verdict is not None for verdict in verdicts.values())
    if count == 1:
        fine, some = f"the one deployment {'answers' if live else 'is ready'}", "the one deployment"
    else:
        fine = f"{'both' if count == 2 else f'all {count}'} deployments {'answer' if live else 'are ready'}"
        some = f"{failing} of {count} deployments"
    if failing:
        return f"{some} cannot be called; the state above says why"
    if unpriced:
        return f"{fine}, but {f'{unpriced} of them ' if count > 1 else ''}not for a tenant with a budget"
    return fine
