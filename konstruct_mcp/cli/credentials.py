"""`credentials`: providers' keys in the keychain of this system."""

from __future__ import annotations

import os
import sys

import click

from konstruct_mcp.cli.completion import complete_credential, complete_variable
from konstruct_mcp.cli.output import say, show, show_json
from konstruct_mcp.config.environment import is_placeholder, is_sendable
from konstruct_mcp.config.keychain import NAME, KeychainError, for_commands
from konstruct_mcp.config.provider_needs import variables

_MOST_BYTES = 1 << 16  # a key of a service account, with certificates, takes a few thousand


@click.group()
def credentials() -> None:
    """Keep providers' keys in the keychain of this system."""


@credentials.command()
@click.argument("name", shell_complete=complete_variable)
def add(name: str) -> None:
    """Put a key into the keychain, under the name of its variable.

    NAME is that variable, ANTHROPIC_API_KEY for example, or a provider: anthropic. The key is asked for and not shown;
    where stdin is no terminal, it is read from there. It is used wherever the environment does not set the variable.
    """
    variable, keychain = _variable(name), for_commands(os.environ)
    try:
        keychain.look()
        keychain.add(variable, _secret(variable))
    except KeychainError as error:
        raise click.ClickException(
            f"{variable} cannot be put into the keychain: {error}; set it in the environment instead"
        ) from None
    show(f"{variable} is in the keychain")
    if variable != variable.upper():  # a provider without a key of its own, or a slip
        say(f"no provider looks for a key of this name; a config refers to it as keyring/{variable}")
    if os.environ.get(variable, "").strip():
        say(f"warning: the environment sets {variable} too, which comes first")


@credentials.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_credentials(as_json: bool) -> None:
    """List the names of the keys in the keychain, and never the keys."""
    names = for_commands(os.environ).names
    if as_json:
        show_json({"credentials": list(names)})
    else:
        show("\n".join(names) or "no credentials")


@credentials.command()
@click.argument("name", shell_complete=complete_credential)
def remove(name: str) -> None:
    """Take a key out of the keychain."""
    variable = _variable(name)
    try:
        for_commands(os.environ).remove(variable)
    except KeychainError as error:
        raise click.ClickException(f"{variable} cannot be taken out of the keychain: {error}") from None
    show(f"{variable} is not in the keychain any more")


def _variable(name: str) -> str:
    """The variable that is meant."""
    of_provider = [one for one in variables().get(name.strip().lower(), ()) if one.endswith("_KEY")]
    variable = of_provider[0] if of_provider else name.strip()
    if not NAME.match(variable) or variable.startswith("XDG_"):
        # Not quoted: it may be the key itself, in the wrong place.
        raise click.UsageError("NAME should be a variable, ANTHROPIC_API_KEY for example, or a provider: anthropic")
    return variable


def _secret(variable: str) -> str:
    if sys.stdin.isatty():
        secret = ask_secret(variable)
    else:
        data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise click.UsageError("the key on stdin is larger than 64 KiB")
        secret = data.decode(errors="replace").strip()
    if fault := fault_of(secret):
        raise click.UsageError(f"the key {fault}")
    return secret


def ask_secret(variable: str) -> str:
    """What somebody types at the terminal, which is not shown."""
    return str(click.prompt(f"{variable} (not shown)", hide_input=True, err=True)).strip()


def fault_of(secret: str) -> str:
    """Why a text is no key; "" where it may be one."""
    if not secret:
        return "is empty"
    if is_placeholder(secret):
        return "is a placeholder"
    return "" if is_sendable(secret) or "\n" in secret else "has characters that no key has"
