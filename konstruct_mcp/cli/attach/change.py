"""One entry put into a client's file, or taken out: what the text becomes, and what to say of it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from konstruct_mcp.cli.attach.clients import NAME, Client, Places, Scope
from konstruct_mcp.cli.attach.files import ClientFile, FileError, edited, is_there, plain
from konstruct_mcp.cli.attach.json_text import JsonText
from konstruct_mcp.cli.attach.text import Format, Unreadable

_NAMES = "env_vars"  # of variables, in an entry of Codex: ours are added to the user's
Item = tuple[tuple[str, ...], str]  # where a list is, and what is in it
_NEW_MODE: Mapping[Scope, int] = {"user": 0o600, "project": 0o644}  # of a file that is made: a project's is everybody's
_ELSEWHERE = ("url", "httpUrl", "serverUrl", "uri")  # of a server that is asked over HTTP


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a file.

    Attributes:
        was: its text; None where there is no file.
        text: what it shall be; None where it shall be removed.
        parts: the names in the entry that are changed, or "the entry".
        restores: whether it is as it was before the entry was put in, so that the backup has served.
        keep: whether the text of now becomes the backup. Not where the backup is still the text without the entry.
    """

    file: ClientFile
    was: str | None
    text: str | None
    parts: tuple[str, ...] = ()
    restores: bool = False
    keep: bool = True

    @property
    def is_none(self) -> bool:
        return self.text == self.was

    def make(self) -> None:
        """Write it.

        Raises:
            FileError: it cannot be written.
        """
        if self.text is None:
            self.file.remove()
        else:
            self.file.write(self.text, self.was, keep=self.keep and not self.restores)
        if self.restores or self.was is None:
            self.file.forget()


def found_entry(client: Client, text: str | None) -> dict[str, Any] | None:
    """Our entry in a client's file.

    Raises:
        FileError: the file cannot be read as what it should be.
    """
    data = _at(_data(client.text, text or ""), client.path)
    if data is not None and not isinstance(data, dict):
        raise FileError(f"{'.'.join(client.path)} in it is no entry of a server")
    return data


def file_of(client: Client, scope: Scope, places: Places) -> ClientFile:
    """The client's file: the one that has our entry, else the first that is there, else the first that can be made."""
    files = [ClientFile(path, _NEW_MODE[scope]) for path in client.files[scope](places)]
    for file in files:
        with contextlib.suppress(FileError):
            if found_entry(client, file.read()) is not None:
                return file
    by_path = [file for file in files if is_there(file.path)]
    by_path = by_path or [file for file in files if is_there(file.path.parent)]
    return (by_path or files)[0]


def attached(client: Client, file: ClientFile, entry: Mapping[str, Any], forced: Sequence[str] = ()) -> Change:
    """The change that puts an entry in. Where there is one, it keeps what its user has set.

    Args:
        forced: names of settings that are asked for now, `env.NAME` for a variable.

    Raises:
        FileError: the file cannot be read, or holds an entry that is not of this server's kind.
    """
    was = file.read()
    there = found_entry(client, was)
    path = client.path
    if there is None:
        return Change(file, was, _put(client.text, client.begun(was or ""), path, entry), ("the entry",))
    if elsewhere := [name for name in _ELSEWHERE if name in there]:
        raise FileError(f"its entry {NAME} asks a server over HTTP ({elsewhere[0]}); `detach` it first")
    merged, parts = copy.deepcopy(there), []
    for name, value in entry.items():
        if isinstance(value, Mapping) and isinstance(there.get(name), dict):
            for inner, given in value.items():
                if inner not in there[name] or (f"{name}.{inner}" in forced and there[name][inner] != given):
                    parts.append(f"{name}.{inner}")
                    merged[name][inner] = given
        elif name == _NAMES and isinstance(there.get(name), list):
            if new := [given for given in value if given not in there[name]]:
                parts.append(name)
                merged[name] = [*there[name], *new]
        elif name not in there or ((name in client.started_by or name in forced) and there[name] != value):
            parts.append(name)
            merged[name] = value
    if was is None or not parts:
        return Change(file, was, was)
    before = _text_before(client, file, was, there)
    if before is not None:
        return Change(file, was, _put(client.text, client.begun(before), path, merged), tuple(parts), keep=False)
    text = was
    for part in parts:
        name, _, inner = part.partition(".")
        keys = (name, inner) if inner else (name,)
        text = _put(client.text, text, (*path, *keys), merged[name][inner] if inner else merged[name])
    return Change(file, was, text, tuple(parts))


def detached(client: Client, file: ClientFile) -> Change:
    """The change that takes the entry out. Where nothing else has changed, the file is as it was before `attach`.

    Raises:
        FileError: the file cannot be read.
    """
    was = file.read()
    there = found_entry(client, was)
    if was is None or there is None:
        return Change(file, was, was)
    parts = ("the entry",)
    if _text_before(client, file, was, there) is not None:
        return Change(file, was, file.before(), parts, restores=True)
    path = client.path
    text = _drop(client.text, was, path)
    had_root = False
    with contextlib.suppress(FileError):  # of a backup that cannot be read as what it was
        had_root = client.root in _data(client.text, file.before() or "")
    if not had_root and _at(_data(client.text, text), [client.root]) == {}:
        text = _drop(client.text, text, [client.root])  # which was made to hold the entry
    return Change(file, was, text, parts)


def _text_before(client: Client, file: ClientFile, now: str, entry: Mapping[str, Any]) -> str | None:
    """What the file was before the entry was put in, "" where it was not there; None where more has changed since."""
    before = file.before() or ""
    try:
        made = _put(client.text, client.begun(before), client.path, entry)
    except FileError:
        return None
    return before if made == now and found_entry(client, before) is None else None


def allowed(format_: JsonText, file: ClientFile, items: Sequence[Item]) -> Change:
    """The change that puts items into lists.

    Raises:
        FileError: the file cannot be read.
    """
    was = file.read()
    text = _allow(format_, was or "", items)
    return Change(file, was, was if text == (was or "") else text, tuple(".".join(path) for path, _ in items))


def disallowed(format_: JsonText, file: ClientFile, items: Sequence[Item]) -> Change:
    """The change that takes items out of lists. Where nothing else has changed, the file is as it was before.

    Raises:
        FileError: the file cannot be read.
    """
    was = file.read()
    there = [(path, item) for path, item in items if item in (_at(_data(format_, was or ""), path) or ())]
    if was is None or not there:
        return Change(file, was, was)
    parts = tuple(".".join(path) for path, _ in there)
    before = file.before() or ""
    if _allow(format_, before, items) == was:
        return Change(file, was, file.before(), parts, restores=True)
    text = was
    for path, item in there:
        left = [other for other in _at(_data(format_, text), path) if other != item]
        text = _edit(format_, text, partial(format_.discard, path=path, item=item), _with(path, left))
    return Change(file, was, text, parts)


def _allow(format_: JsonText, text: str, items: Sequence[Item]) -> str:
    for path, item in items:
        there = _at(_data(format_, text), path)
        if there is not None and not isinstance(there, list):
            raise FileError(f"{'.'.join(path)} in it is no list")
        if item not in (there or ()):
            wanted = _with(path, [*(there or ()), item])
            text = _edit(format_, text, partial(format_.append, path=path, item=item), wanted)
    return text


# -- edits, each verified ----------------------------------------------------------------------------------------------


def _put(format_: Format, text: str, path: Sequence[str], value: Any) -> str:
    return _edit(format_, text, lambda t: format_.put(t, path, value), _with(path, value))


def _drop(format_: Format, text: str, path: Sequence[str]) -> str:
    return _edit(format_, text, lambda t: format_.drop(t, path), _without(path))


def _at(data: Any, path: Sequence[str]) -> Any:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _edit(format_: Format, text: str, edit: Callable[[str], str], changed: Callable[[Any], Sequence[Any]]) -> str:
    """The edited text, which holds what it should: the data of before, changed in one place.

    Args:
        changed: the data that the text may have then, made of the data that it has.

    Raises:
        FileError: it does not, or the text cannot be edited.
    """
    wanted = changed(_data(format_, text))
    try:
        made = edited(text, edit)
    except Unreadable as error:
        raise FileError(f"it cannot be edited: {error}") from None
    with contextlib.suppress(FileError):
        if _data(format_, made) in wanted:
            return made
    raise FileError("it is written in a way that cannot be edited safely; edit it by hand")


def _data(format_: Format, text: str) -> Any:
    try:
        data = format_.read(plain(text))
    except Unreadable as error:
        raise FileError(f"it is not {format_.name}: {error}") from None
    if not isinstance(data, dict):
        raise FileError(f"it is not {format_.name} with names at its top")
    return data


def _with(path: Sequence[str], value: Any) -> Callable[[Any], Sequence[Any]]:
    def change(data: Any) -> Sequence[Any]:
        changed = inner = copy.deepcopy(data)
        for name in path[:-1]:
            if not isinstance(inner.get(name), dict):
                inner[name] = {}
            inner = inner[name]
        inner[path[-1]] = value
        return [changed]

    return change


def _without(path: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    def change(data: Any) -> Sequence[Any]:
        changed = copy.deepcopy(data)
        del _at(changed, path[:-1])[path[-1]]
        bare = copy.deepcopy(changed)  # in TOML a table ends to be with the last table in it
        for depth in range(len(path) - 1, 0, -1):
            if _at(bare, path[:depth]) == {}:
                del _at(bare, path[: depth - 1])[path[depth - 1]]
        return [changed, bare]

    return change
