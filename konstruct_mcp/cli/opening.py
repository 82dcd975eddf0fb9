"""How a command opens a `Konstruct`, and what it says of the config's warnings."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import anyio

from konstruct_mcp.cli.output import counted, say
from konstruct_mcp.gateway.konstruct import Konstruct

_T = TypeVar("_T")


def open_konstruct(path: Path | None) -> Konstruct:
    """For a command that is not about the config: it only says how many warnings there are.

    Raises:
        ConfigError: the config cannot be used.
    """
    konstruct = Konstruct.from_config(path)
    if count := len(konstruct.config.warnings):
        named = "" if path is None else f" --config {shlex.quote(str(path))}"
        say(f"{counted(count, 'warning')} about the config; see `konstruct-mcp{named} check`")
    return konstruct


def open_and_warn(path: Path | None) -> Konstruct:
    """For a command that is about the config.

    Raises:
        ConfigError: the config cannot be used.
    """
    konstruct = Konstruct.from_config(path)
    warn(konstruct.config.warnings)
    return konstruct


def warn(found: Iterable[str]) -> None:
    """Say each warning about the config."""
    say(*warnings(found))


def warnings(found: Iterable[str]) -> list[str]:
    """The line of each warning about the config."""
    return [f"warning: {warning}" for warning in found]


def read_ledger(konstruct: Konstruct, read: Callable[[], Awaitable[_T]]) -> _T:
    """Run what reads the ledger, and close it.

    Raises:
        LedgerError: it is out of reach.
    """

    async def run() -> _T:
        async with konstruct.for_accounts():
            return await read()

    return anyio.run(run)
