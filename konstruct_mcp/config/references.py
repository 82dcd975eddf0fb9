"""The environment as a config sees it: resolves `os.environ/NAME`, `file/PATH` and `keyring/NAME`, and notes what is
used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from konstruct_mcp.config.environment import (
    KEYRING_REFERENCE,
    is_file_reference,
    is_keyring_reference,
    is_reference,
    reference,
    shown_name,
    value_of,
    variables_of,
)
from konstruct_mcp.config.findings import Findings
from konstruct_mcp.config.secret_files import WithFiles
from konstruct_mcp.core.text import cut

UNSET = object()  # what a reference to a variable that is not set comes to


class References:
    """The variables of the process, and those that the config's `environment_variables` set.

    Attributes:
        process: the process's own environment.
        environ: the same with the variables of the config, and with those that are in files.
        needed: names of variables that a cloud's own client looks up when it is called.
    """

    def __init__(self, process: Mapping[str, str], folder: Path | None = None) -> None:
        """`folder` is the config file's, if there is one."""
        self.process = process
        self.environ = WithFiles(process, folder)
        self.needed: set[str] = set()
        self._of_config: Mapping[str, str] = {}
        self._used: set[str] = set()  # variables whose values are in the config

    def read_variables(self, section: Any, findings: Findings) -> None:
        """Add the variables that the section `environment_variables` sets."""
        if section is None:
            return
        if not isinstance(section, dict):
            findings.fault("environment_variables", "should be an object")
            return
        found, refused = variables_of(section, self.environ)
        findings.lost += [
            f"environment_variables.{cut(name)}: cannot be set here; set it where the server starts" for name in refused
        ]
        self._of_config = found
        self.environ = self.environ.with_variables(found)

    def for_process(self) -> dict[str, str]:
        """The config's variables that LiteLLM and the clouds' clients have to find in the process's environment: those
        that they look up, and those that nothing here has used. Also what they look up and is in files."""
        of_config = {n: v for n, v in self._of_config.items() if n in self.needed or n not in self._used}
        return of_config | self.environ.looked_up(self.needed)

    def value(self, name: str) -> str | None:
        """The value of a variable, for use in the config; None where it is not set."""
        self._used.add(name)
        return value_of(name, self.environ)

    def not_set(self, name: str) -> str:
        """That a variable has no value; for a reference to the keychain with the reason."""
        if is_keyring_reference(name):
            why = self.environ.keychain.complaints.get(name.removeprefix(KEYRING_REFERENCE), "is not set")
            return f"{cut(name)} {why}"
        return f"{cut(name)} is not set"

    def address(self, variable: str, key: str, given: str | None, findings: Findings) -> tuple[str, str]:
        """Where a URL is written, for faults about it, and the URL: that of a variable, else of a key of the config,
        which may refer to another variable; "" where there is none.

        Args:
            given: what the key has.
        """
        if (url := self.value(variable)) is not None:
            return variable, url
        place, url = key, (given or "").strip()
        if name := reference(url):
            place, url = f"{place} ({cut(shown_name(name))})", self.value(name) or ""
            if not url and not is_file_reference(name):  # of which the fault is told
                findings.fault(place, "is not set")
        return place, url

    def resolve(self, value: Any, place: str, unset: Callable[[str, str | None], None]) -> Any:
        """A value with its references resolved, at any depth.

        Args:
            value: plain data.
            place: where it is.
            unset: called with the place and the variable of each reference that cannot be resolved; the variable is
                None for a reference that names none. These are left out; `UNSET` if it is the value itself.
        """
        match value:
            case dict():
                pairs = ((key, self.resolve(item, f"{place}.{cut(key)}", unset)) for key, item in value.items())
                return {key: item for key, item in pairs if item is not UNSET}
            case list():
                items = (self.resolve(item, f"{place}[{i}]", unset) for i, item in enumerate(value))
                return [item for item in items if item is not UNSET]
            case str() if is_reference(value):
                name = reference(value)
                if name is not None and (found := self.value(name)) is not None:
                    return found
                if name is None or not is_file_reference(name):  # what is wrong with a file is in `environ.faults`
                    unset(place, name)
                return UNSET
            case _:
                return value

    def texts_of(self, written: Any) -> Iterator[str]:
        """The texts that came from the environment: the value of each reference in what is written."""
        if isinstance(written, dict | list):
            for item in written.values() if isinstance(written, dict) else written:
                yield from self.texts_of(item)
        elif (name := reference(written)) is not None and (found := self.environ.get(name, "").strip()):
            yield found


def ignore(_place: str, _name: str | None) -> None:
    """For `resolve`, where it does not matter that a variable is not set, or is said elsewhere."""
