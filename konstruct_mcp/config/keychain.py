"""Providers' keys in the keychain of the operating system, through the package keyring.

`konstruct-mcp credentials` puts them there. An entry has the name of the environment variable whose place it takes, and
the service `konstruct-mcp`.

A keychain cannot list what it holds, and to ask one may open a dialog. So the names, and nothing else, are in a file of
the user's data folder, and a keychain is asked only for a name in that file, or one that a config refers to.

A backend may hang: where nobody can see its dialog, it waits for ever. So it is asked in a thread, for a bounded time,
and one that has hung is not asked again by the same reading of a config.
"""

from __future__ import annotations

import json
import queue
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from konstruct_mcp.config.packages import installed
from konstruct_mcp.config.source import data_folder
from konstruct_mcp.core.errors import install_advice
from konstruct_mcp.core.files import make_folder, read_kept, replace_file

SERVICE = "konstruct-mcp"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}\Z")
_READ_S = 2.0  # in all, for a config: a client waits for the start of its server
_DIALOG_S = 120.0  # for a command, at which somebody sits who may have to type a password
_MOST_BYTES = 100_000  # of the file of names

_T = TypeVar("_T")


class KeychainError(Exception):
    """Why the keychain cannot be used, as the end of a sentence; never with what it holds."""


class Keychain:
    """The keychain of whoever runs this process.

    Attributes:
        complaints: a line for each name that could not be read, for the operator.
    """

    def __init__(self, environ: Mapping[str, str], *, patience_s: float = _READ_S) -> None:
        """`environ` says where the user's data folder is; `patience_s` is how long it may take in all."""
        self._file = file_of_names(environ)
        self._left_s = patience_s
        self._read: dict[str, str | None] = {}
        self._names: tuple[str, ...] | None = None
        self.complaints: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what `add` has put there, sorted. The keychain is not asked."""
        if self._names is None:
            self._names = _names_in(self._file)
        return self._names

    def get(self, name: str) -> str | None:
        """The secret of this name; None where there is none, or it cannot be read, which is among `complaints` then."""
        if name not in self._read:
            try:
                self._read[name] = self._ask(lambda keyring: keyring.get_password(SERVICE, name)) or None
                if self._read[name] is None:
                    self.complaints[name] = (
                        f"is not in the keychain; `konstruct-mcp credentials add {name}` puts it there"
                    )
            except KeychainError as error:
                self._read[name] = None
                self.complaints[name] = f"cannot be read: {error}"
        return self._read[name]

    def look(self) -> None:
        """See whether it can be asked, before somebody types a secret for nothing.

        Raises:
            KeychainError: it cannot be.
        """
        self._own_file()
        self._ask(lambda keyring: keyring.get_password(SERVICE, "look"))

    def add(self, name: str, secret: str) -> None:
        """Put a secret there, in place of one of the same name.

        Raises:
            KeychainError: it cannot be.
        """
        file = self._own_file()

        def put(keyring: Any) -> bool:
            keyring.set_password(SERVICE, name, secret)
            return bool(keyring.get_password(SERVICE, name) == secret)

        if not self._ask(put):
            raise KeychainError("it has not kept what was put into it")
        _write(file, {*self.names, name})

    def remove(self, name: str) -> None:
        """Take a secret out.

        Raises:
            KeychainError: it cannot be, or there is none.
        """
        file = self._own_file()

        def take(keyring: Any) -> bool:
            if keyring.get_password(SERVICE, name) is None:
                return False
            keyring.delete_password(SERVICE, name)
            return True

        was_there = self._ask(take)
        if name in self.names:
            _write(file, {*self.names} - {name})
        if not was_there:
            raise KeychainError(f"there is no {name}")

    def _own_file(self) -> Path:
        if self._file is None:
            raise KeychainError("this user has no data folder, where the names are kept")
        return self._file

    def _ask(self, question: Callable[[Any], _T]) -> _T:
        """What a question to the keychain gives, if it does in time.

        Raises:
            KeychainError: it does not.
        """
        if not installed("keyring"):
            raise KeychainError(f"the package keyring is missing: {install_advice('keyring')}")
        if not self._left_s:
            raise KeychainError("the keychain has not answered before")
        answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

        def ask() -> None:
            try:
                import keyring  # which looks for backends, and may talk to a daemon

                answers.put((True, question(keyring)))
            except BaseException as error:  # a backend raises what it likes
                answers.put((False, _why(error)))

        # A daemon, so that a process told to end does not wait for a dialog.
        threading.Thread(target=ask, name="keychain", daemon=True).start()
        try:
            is_answer, answer = answers.get(timeout=self._left_s)
        except queue.Empty:
            waited_s, self._left_s = self._left_s, 0.0
            raise KeychainError(
                f"the keychain has not answered within {waited_s:g} s; it may be locked, or wait in a dialog"
            ) from None
        if not is_answer:
            raise KeychainError(answer)
        found: _T = answer
        return found


def file_of_names(environ: Mapping[str, str]) -> Path | None:
    """Where the names are of what is in the keychain; None for a user without a data folder."""
    folder = data_folder(environ)
    return None if folder is None else folder / "credentials.json"


def for_commands(environ: Mapping[str, str]) -> Keychain:
    """The keychain for a command, which waits until somebody has unlocked it."""
    return Keychain(environ, patience_s=_DIALOG_S)


def _why(error: BaseException) -> str:
    """By its kind alone: the text of a backend's error may hold anything."""
    kind = type(error).__name__
    if kind == "NoKeyringError":
        return "this system has no keychain that keyring knows"
    if kind in ("KeyringLocked", "InitError"):
        return "the keychain is locked"
    return f"the keychain has failed ({kind})"


def _names_in(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        names = json.loads(read_kept(file, _MOST_BYTES))["names"]
        return tuple(sorted(name for name in names if isinstance(name, str) and NAME.match(name)))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # none yet, or one that is not ours
        return ()


def _write(file: Path, names: set[str]) -> None:
    """Raises KeychainError where the file of names cannot be written."""
    try:
        make_folder(file.parent)
        replace_file(file, json.dumps({"names": sorted(names)}, indent=2).encode() + b"\n")
    except OSError as error:
        raise KeychainError(f"the names of what it holds cannot be written: {error.strerror}") from None
