"""A keychain for tests: a backend of the package keyring, which that finds by PYTHON_KEYRING_BACKEND.

What it holds is in the JSON file that $TEST_KEYCHAIN names: `{"entries": {service: {name: secret}}}`. With `locked`,
`hangs` or `fails` in it, it does that instead.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError

BACKEND = f"{__name__}.FileKeyring"
_LONGER_THAN_ANY_TEST_S = 300


class FileKeyring(KeyringBackend):
    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        found: str | None = self._entries().get(service, {}).get(username)
        return found

    def set_password(self, service: str, username: str, password: str) -> None:
        entries = self._entries()
        entries.setdefault(service, {})[username] = password
        _file().write_text(json.dumps({"entries": entries}))

    def delete_password(self, service: str, username: str) -> None:
        entries = self._entries()
        if entries.get(service, {}).pop(username, None) is None:
            raise PasswordDeleteError("not found")
        _file().write_text(json.dumps({"entries": entries}))

    def _entries(self) -> dict[str, Any]:
        said = json.loads(_file().read_text()) if _file().exists() else {}
        if said.get("locked"):
            raise KeyringLocked("Failed to unlock the collection!")
        if said.get("hangs"):
            threading.Event().wait(_LONGER_THAN_ANY_TEST_S)
        if said.get("fails"):
            raise RuntimeError(said["fails"])
        entries: dict[str, Any] = said.get("entries", {})
        return entries


def _file() -> Path:
    return Path(os.environ["TEST_KEYCHAIN"])


def keychain_in(folder: Path) -> dict[str, str]:
    """The environment of a process that has its keychain in this folder, and its user's folders too."""
    return {
        "XDG_CONFIG_HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "PYTHON_KEYRING_BACKEND": BACKEND,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "TEST_KEYCHAIN": str(folder / "keychain"),
    }


def behaves(folder: Path, how: Mapping[str, Any]) -> None:
    """Have the keychain in this folder do something else than answer."""
    (folder / "keychain").write_text(json.dumps(how))
