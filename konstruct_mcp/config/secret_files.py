"""Secrets that are in files, as container platforms mount them: the value of a variable `NAME` in the file that
`NAME_FILE` names, and that of a reference `file/PATH` of a config. Behind both, those in the keychain.

What a file holds is the value, without the line break at its end. A file is read again whenever the config is. Messages
show a file's own name and not its folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from konstruct_mcp.config.environment import FILE_REFERENCE, KEYRING_REFERENCE, is_unexpanded, shown_name
from konstruct_mcp.config.keychain import Keychain

_MOST_BYTES = 1 << 16  # a key of a service account, with certificates, takes a few thousand
# Variables whose `…_FILE` means something else to the client of a cloud.
_NOT_OURS = frozenset(
    ("AWS_WEB_IDENTITY_TOKEN", "AZURE_FEDERATED_TOKEN", "GITHUB_COPILOT_ACCESS_TOKEN", "GITHUB_COPILOT_API_KEY")
)
# Secrets that the clouds' own clients look up beside those that are asked for here.
_OF_CLOUDS = (
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"),
    *("AZURE_CLIENT_SECRET", "AZURE_PASSWORD", "AZURE_AD_TOKEN"),
)
# Of our own variables, those that can hold a secret.
_OUR_SECRETS = frozenset(("KONSTRUCT_LEDGER_URL", "KONSTRUCT_REDIS_URL"))


class WithFiles(Mapping[str, str]):
    """An environment, with the variables and the references whose values are in files or in the keychain.

    Attributes:
        keychain: the user's.
        files: those that were looked into, whether they are there or not.
        faults: where a file was named → why it cannot be used.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path | None) -> None:
        """`folder` is the config file's, in which `file/PATH` is looked for; None where there is no config file."""
        self._environ, self._folder = environ, folder
        self._read: dict[str, str | None] = {}  # what was in the file of each name
        self.files: set[Path] = set()
        self.faults: dict[str, str] = {}
        self.keychain = Keychain(environ)

    def __getitem__(self, name: str) -> str:
        if name.startswith(FILE_REFERENCE):
            value = self._of_reference(name)
        elif name.startswith(KEYRING_REFERENCE):
            value = self.keychain.get(name.removeprefix(KEYRING_REFERENCE))
        else:
            value = self._environ.get(name)
            if (file := self._file_of(name)) is not None:
                if value is None or not value.strip():
                    value = self._of_file(f"{name}_FILE", file)
                else:
                    self.faults[f"{name}_FILE"] = f"{name} is set too; leave one of them out"
            if self._is_in_keychain(name, value):
                value = self.keychain.get(name) or value
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)

    def with_variables(self, variables: Mapping[str, str]) -> WithFiles:
        """The same with more variables, which win over those of the same name."""
        made = WithFiles({**self._environ, **variables}, self._folder)
        made._read, made.files, made.faults = self._read, self.files, self.faults
        made.keychain = self.keychain
        return made

    def looked_up(self, names: Iterable[str]) -> dict[str, str]:
        """Of these variables, and of those that clouds' clients look up, the ones whose values come out of files or the
        keychain."""
        values = {
            name: self.get(name)
            for name in (*names, *_OF_CLOUDS)
            if self._file_of(name) is not None or self._is_in_keychain(name, self._environ.get(name))
        }
        return {name: value for name, value in values.items() if value is not None}

    def _is_in_keychain(self, name: str, value: str | None) -> bool:
        """Whether a variable without a value of its own is looked for in the keychain."""
        is_set = value is not None and value.strip() and not is_unexpanded(value.strip())
        return not is_set and _is_secret(name) and name in self.keychain.names

    def _file_of(self, name: str) -> str | None:
        """The file that holds a variable's value, as it is named."""
        if name in _NOT_OURS or not _is_secret(name):
            return None
        return self._environ.get(f"{name}_FILE", "").strip() or None

    def _of_reference(self, name: str) -> str | None:
        named = name.removeprefix(FILE_REFERENCE)
        if self._folder is not None:
            named = os.path.join(self._folder, named)  # noqa: PTH118  an absolute one stays as it is
        return self._of_file(name, named)

    def _of_file(self, place: str, named: str) -> str | None:
        if place not in self._read:
            try:
                self._read[place] = self._content(named)
            except ValueError as error:
                self._read[place] = None
                own_name = "" if place.startswith(FILE_REFERENCE) else f" ({shown_name(FILE_REFERENCE + named)})"
                self.faults[f"{shown_name(place)}{own_name}"] = str(error)
        return self._read[place]

    def _content(self, named: str) -> str:
        """What is in a file.

        Raises:
            ValueError: it cannot be used.
        """
        file = Path(named)
        if not file.is_absolute():
            raise ValueError("should be an absolute path")
        self.files.add(file)
        try:
            with open(file, "rb", opener=_opened) as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise ValueError("cannot be read: it is not a regular file")
                data = stream.read(_MOST_BYTES + 1)
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror or type(error).__name__}") from None  # str() has a path
        if len(data) > _MOST_BYTES:
            raise ValueError("cannot be read: it is larger than 64 KiB")
        try:
            value = data.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise ValueError("cannot be read: it is not UTF-8 text") from None
        if not value.strip():
            raise ValueError("is empty")
        return value


def _is_secret(name: str) -> bool:
    """Whether a variable can hold a secret: of our own only some do."""
    return not name.startswith(("KONSTRUCT_", "XDG_")) or name in _OUR_SECRETS


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # else a pipe keeps us waiting for its other end
