"""`init`: a first config, made of what there is."""

from __future__ import annotations

import os
import sys
from decimal import Decimal
from functools import partial
from pathlib import Path

import anyio
import click

from konstruct_mcp.cli.check import check
from konstruct_mcp.cli.credentials import ask_secret, fault_of
from konstruct_mcp.cli.output import FAILURE, LONGEST_PATH, say, show, spinner
from konstruct_mcp.config.first_config import CLOUDS, Chosen, Cloud, Local, first_config
from konstruct_mcp.config.keychain import KeychainError, for_commands
from konstruct_mcp.config.source import place
from konstruct_mcp.core.files import make_folder, replace_file
from konstruct_mcp.core.text import cut
from konstruct_mcp.gateway.first_look import Found, find

_MOST_SHOWN = 10  # models of a server that a question lists


@click.command()
@click.option("--yes", is_flag=True, help="Ask nothing: take all that is found.")
@click.option("--force", is_flag=True, help="Replace a config that is there; it is kept as config.yaml.bak.")
@click.pass_context
def init(context: click.Context, yes: bool, force: bool) -> int:
    """Write a first config, made of what there is.

    Looks for keys of providers in the environment and the keychain, and for Ollama, LM Studio and llama.cpp on this
    machine; asks what of it to use; writes a short config into your config folder, and checks it.
    """
    file = place(context.obj, os.environ)
    if file is None:
        raise click.ClickException("this user has no config folder; say with --config where the file is to be")
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("init asks at a terminal; --yes takes all that is found")
    shown = cut(str(file), LONGEST_PATH)
    if os.path.lexists(file) and not force:
        if yes:
            raise click.UsageError(f"there is a config already: {shown}; --force replaces it")
        if not click.confirm(f"There is a config already: {shown}. Replace it? It is kept beside", err=True):
            say("nothing has changed")
            return 0
    with spinner("looking for keys and models"):
        found = anyio.run(partial(find, os.environ))
    chosen = _all(found) if yes else _asked(found)
    if chosen is None:
        raise click.ClickException(
            "there is nothing to ask: no key is set, and neither Ollama, LM Studio nor llama.cpp answers with a model; "
            "set ANTHROPIC_API_KEY or `konstruct-mcp credentials add anthropic`, or start Ollama, and do this again"
        )
    _write(file, first_config(chosen))
    show(f"written: {shown}")
    context.obj = file
    status: int = context.invoke(check, live=True, strict=False)
    if status:
        say("the config is written, but something in it does not answer yet; the lines above say why")
    show("next: `konstruct-mcp attach` lists the clients that are here, and `konstruct-mcp attach CLIENT` attaches one")
    return FAILURE if status else 0


def _all(found: Found) -> Chosen | None:
    if found.clouds or found.locals:
        return Chosen(found.clouds, found.locals)
    return Chosen(embedded=True) if found.embedded else None


def _asked(found: Found) -> Chosen | None:
    """What of it somebody wants."""
    clouds = [one for one in found.clouds if _confirm(f"{one.title}: {one.variable} is set. Use it?")]
    locals_ = [one for one in map(_asked_model, found.locals) if one is not None]
    if not clouds and not locals_ and (new := _asked_key(found)) is not None:
        clouds = [new]
    if not clouds and not locals_:
        wanted = found.embedded and _confirm("Use the tiny model inside this server, to try it out?")
        return Chosen(embedded=True) if wanted else None
    return Chosen(clouds, locals_, usd_per_day=_asked_budget() if clouds else None)


def _confirm(question: str) -> bool:
    return click.confirm(question, default=True, err=True)


def _asked_model(server: Local) -> Local | None:
    """The server with the model that is wanted first; None where none is."""
    if len(server.models) == 1:
        return server if _confirm(f"{server.title} has {server.models[0]}. Use it?") else None
    listed = ", ".join(server.models[:_MOST_SHOWN]) + (" …" if len(server.models) > _MOST_SHOWN else "")
    say(f"{server.title} has {listed}.")
    model = click.prompt(
        "Which of them? (none for none)",
        default=server.models[0],
        type=click.Choice([*server.models, "none"]),
        show_choices=False,
        err=True,
    )
    return None if model == "none" else Local(server.title, server.provider, (model,), server.api_base)


def _asked_key(found: Found) -> Cloud | None:
    """A provider whose key somebody has now put into the keychain."""
    if not found.clouds and not found.locals:
        say("No key of a provider is set, and no model was found on this machine.")
    known = {one.provider: one for one in CLOUDS}
    named = click.prompt(
        "Of which provider do you have a key?", type=click.Choice([*known, "none"]), default="none", err=True
    )
    if named == "none":
        return None
    cloud = known[named]
    keychain = for_commands(os.environ)
    try:
        keychain.look()
        secret = ask_secret(cloud.variable)
        if fault := fault_of(secret):
            raise click.UsageError(f"the key {fault}")
        keychain.add(cloud.variable, secret)
    except KeychainError as error:
        raise click.ClickException(
            f"{cloud.variable} cannot be put into the keychain: {error}; set it in the environment, and do this again"
        ) from None
    say(f"{cloud.variable} is in the keychain.")
    return cloud


def _asked_budget() -> Decimal | None:
    """In US dollars a day."""
    usd = click.prompt(
        "At most how many US dollars a day? (0 for no limit)", default=5.0, type=click.FloatRange(0, 10**9), err=True
    )
    return Decimal(f"{usd:.10g}") if usd else None


def _write(file: Path, text: str) -> None:
    """Put a file in its place, which nobody else can read; one that is there is kept beside it."""
    try:
        target = Path(os.path.realpath(file))  # a link stays one
        make_folder(target.parent)
        if target.exists():
            replace_file(target.with_name(f"{target.name}.bak"), target.read_bytes())
        replace_file(target, text.encode())
    except OSError as error:
        raise click.ClickException(f"{cut(str(file), LONGEST_PATH)} cannot be written: {error.strerror}") from None
