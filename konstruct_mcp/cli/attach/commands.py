"""`attach` and `detach`: what they do, and what they say."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click

from konstruct_mcp.cli.attach.bytecode import compile_installation
from konstruct_mcp.cli.attach.change import Change, allowed, attached, detached, disallowed, file_of, found_entry
from konstruct_mcp.cli.attach.clients import CLIENTS, NAME, Client, Places, Scope, Server
from konstruct_mcp.cli.attach.files import ClientFile, FileError, is_there
from konstruct_mcp.cli.attach.server import ROOTS, may_vanish, own_command, server_to_start
from konstruct_mcp.cli.output import Row, say, show, show_table, spinner

_CLIENT = click.Choice(list(CLIENTS))
_SCOPE = click.Choice(["user", "project"])


@click.command()
@click.argument("client", required=False, type=_CLIENT, metavar="[CLIENT]")
@click.option(
    "--scope", type=_SCOPE, help="For all that you do (user, the default), or for the current folder's project."
)
@click.option("--approve", is_flag=True, help="Let the client call the tools without asking; a call can cost money.")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.option(
    "--config", "own", type=click.Path(path_type=Path), metavar="FILE", help="The config that it starts with."
)
@click.pass_obj
def attach(
    path: Path | None, client: str | None, scope: Scope | None, approve: bool, dry_run: bool, own: Path | None
) -> None:
    """Have CLIENT start this server.

    The entry goes into the client's own file. All else in it stays as it is, and a copy of before is kept beside it. No
    key is written, only names of variables. Without CLIENT it lists the clients that are known, and their state.
    """
    places = _places()
    if client is None:
        _list(places)
        return
    chosen, scope = CLIENTS[client], _scope(CLIENTS[client], scope)
    server = server_to_start(own or path, scope, places.project, approve=approve)
    if scope == "project" and not server.values.get(ROOTS):
        say(f"it may send no files of this folder: {ROOTS} cannot name one with a {os.pathsep!r} in its path")
    is_here = chosen.is_here(places)  # which the file that is written now would look like
    file = file_of(chosen, scope, places)
    with _told(file.path):
        change = attached(chosen, file, chosen.entry(server), _asked_for(chosen, server, own or path))
    changes = [change]
    if approve and chosen.allowed is not None:
        settings = ClientFile(chosen.allowed.files[scope](places))
        with _told(settings.path):
            changes.append(allowed(chosen.allowed.text, settings, chosen.allowed.items[scope]))
    for change in changes:
        _make(change, places, dry_run=dry_run)
    if dry_run:
        show(chosen.text.show(_nested(chosen, server)).rstrip("\n"))
        return
    with spinner("compiling bytecode, so that it starts faster"):
        compile_installation()
    show(f"it starts {' '.join(server.command)}")
    if may_vanish():
        say("warning: this installation is in a cache, which may be cleaned; `uv tool install` makes one that stays")
    _say_of_variables(chosen, server)
    if not is_here:
        say(f"{chosen.title} is not found on this machine; it reads the entry once it is")
    if approve and chosen.unapproved:
        say(f"--approve: {chosen.unapproved}")
    if note := chosen.note.get(scope):
        say(note)
    show(f"check: {chosen.check}")


@click.command()
@click.argument("client", type=_CLIENT, metavar="CLIENT")
@click.option("--scope", type=_SCOPE, help="As with `attach`.")
@click.option("--dry-run", is_flag=True, help="Say what would be changed, and change nothing.")
def detach(client: str, scope: Scope | None, dry_run: bool) -> None:
    """Have CLIENT start it no more.

    The entry is taken out of the client's own file. If nothing else has changed since, the file is what it was before.
    """
    places, chosen = _places(), CLIENTS[client]
    scope = _scope(chosen, scope)
    file = file_of(chosen, scope, places)
    with _told(file.path):
        changes = [detached(chosen, file)]
    if chosen.allowed is not None:
        settings = ClientFile(chosen.allowed.files[scope](places))
        with _told(settings.path):
            changes.append(disallowed(chosen.allowed.text, settings, chosen.allowed.items[scope]))
    for change in changes:
        _make(change, places, dry_run=dry_run)


def _places() -> Places:
    try:
        return Places.here()
    except RuntimeError:
        raise click.ClickException("this user has no home folder; set HOME") from None


def _scope(client: Client, scope: Scope | None) -> Scope:
    if scope is not None and scope not in client.files:
        raise click.UsageError(f"{client.title} has no file for a {scope}; leave --scope out")
    return scope or "user"


class _told:  # noqa: N801  read as `with _told(path):`
    """Turns what is wrong with a file into the command's one line of error."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, FileError):
            raise click.ClickException(f"{self._path}: {error}; nothing of it is changed") from None


def _asked_for(client: Client, server: Server, config: Path | None) -> list[str]:
    """What is asked for now, and replaces what is in an entry already."""
    entry = client.entry(server)
    names = [name for name in ("env", "environment", "envs") if name in entry]
    asked = [f"{name}.KONSTRUCT_CONFIG" for name in names if config is not None]
    if server.approve:
        plain = client.entry(server.without_approval())
        asked += [name for name in entry if entry[name] != plain.get(name)]
    return asked


def _make(change: Change, places: Places, *, dry_run: bool) -> None:
    path = change.file.path
    if change.is_none:
        show(f"nothing to change in {path}")
        return
    if not dry_run:
        with _told(path):
            change.make()
    would = "would be " if dry_run else ""
    what = ", ".join(change.parts)
    if change.text is None:
        if not dry_run and path.parent not in (places.home, places.project):
            with contextlib.suppress(OSError):  # something else is in it, so that it stays
                path.parent.rmdir()  # by an empty folder `attach` would take the client for installed
        show(f"{path}: {would}removed, since only the entry was in it")
    elif change.restores:
        show(f"{path}: {would}as it was before")
    elif change.was is None:
        show(f"{path}: {would}written, which was not there ({what})")
    else:
        kept = change.keep and not dry_run
        show(f"{path}: {would}changed ({what})" + (f"; before: {change.file.backup.name}" if kept else ""))


def _say_of_variables(client: Client, server: Server) -> None:
    """Which variables the server will see, by name."""
    here = [name for name in server.passed if os.environ.get(name)]
    missing = [name for name in server.passed if name not in here]
    if client.variables == "none" and server.passed:
        say(f"{client.title} passes no variables on, and no key is written: {', '.join(server.passed)}")
    elif here:
        say(f"it passes on {', '.join(here)}")
    if missing and client.variables != "none":
        say(f"not set here: {', '.join(missing)}")


def _nested(client: Client, server: Server) -> dict[str, object]:
    return {client.root: {NAME: client.entry(server)}}


def _list(places: Places) -> None:
    show_table(
        ("client", "here", "state", "file"),
        [Row(cells) for client in CLIENTS.values() for cells in _states(client, places)],
        texts=4,
    )


def _states(client: Client, places: Places) -> Iterator[list[str]]:
    for scope in client.files:
        file = file_of(client, scope, places)
        try:
            entry = found_entry(client, file.read())
            state = "not attached" if entry is None else f"{_state(entry)} ({scope})"
        except FileError as error:
            state = str(error)
        if scope == "user" or is_there(file.path):
            yield [client.name, "yes" if client.is_here(places) else "no", state, str(file.path)]


def _state(entry: dict[str, object]) -> str:
    command = entry.get("command", entry.get("cmd"))
    arguments = entry.get("args")
    words = [
        *(command if isinstance(command, list) else [command]),
        *(arguments if isinstance(arguments, list) else []),
    ]
    if tuple(words) != own_command():
        return "starts something else"
    is_off = entry.get("enabled") is False or entry.get("disabled") is True
    return "attached, but switched off" if is_off else "attached"
