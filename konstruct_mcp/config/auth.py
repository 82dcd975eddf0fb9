"""The section `konstruct.auth`: whose requests over HTTP are answered."""

from __future__ import annotations

from dataclasses import dataclass

from konstruct_mcp.config.sections import Section


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How callers over HTTP are verified.

    Attributes:
        keys: whether keys of the ledger's database are taken.
    """

    keys: bool = True


class AuthSection(Section):
    model_config = Section.model_config | {"extra": "forbid"}

    keys: bool = True

    def settings(self) -> AuthSettings:
        return AuthSettings(self.keys)
