"""Keys and tenants that the ledger's database holds, as values.

A key is `ks_` and 256 random bits. Whoever has it acts for its tenant, so that only its digest is kept. Its first
characters are its name: they are shown and logged, and open nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

KEY_MARK = "ks_"
# Of calls that name none. None of the database has its name, so that such a call waits for no database.
DEFAULT_TENANT = "default"
OPERATOR = "operator"  # the scope of who may read everybody's usage
_ALPHABET = string.ascii_letters + string.digits
_KEY_LENGTH = 43  # characters, of 5.95 bits each: 256 bits
KEY_PATTERN = re.compile(rf"(?<![A-Za-z0-9_]){KEY_MARK}[A-Za-z0-9]{{{_KEY_LENGTH}}}(?![A-Za-z0-9])")
_PREFIX_LENGTH = len(KEY_MARK) + 8  # what is left unsaid of a key still has 208 bits


def new_key() -> str:
    """A key that nobody has yet."""
    return KEY_MARK + "".join(secrets.choice(_ALPHABET) for _ in range(_KEY_LENGTH))


def looks_like_key(token: str) -> bool:
    """Whether a token can be a key, so that it is worth a look."""
    return len(token) == len(KEY_MARK) + _KEY_LENGTH and token.startswith(KEY_MARK) and token.isascii()


def prefix_of(key: str) -> str:
    """The part of a key that names it."""
    return key[:_PREFIX_LENGTH]


def digest_of(key: str) -> str:
    """What is kept of a key. It needs no salt and no slow hash, since nobody can guess 256 bits."""
    return hashlib.sha256(key.encode()).hexdigest()


def timestamp(moment: datetime) -> str:
    """A moment as the database keeps it: ISO 8601, UTC, which sorts by time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as the database has it, without the key. Moments are ISO 8601, UTC.

    Attributes:
        prefix: its first characters, which name it.
        tenant: for whom it acts.
        scopes: what it allows beyond that, sorted.
        note: the operator's.
        expires: from when it opens nothing; None for never.
        used: when it was last used, to the minute or so; None for never.
        revoked: when it was revoked; None where it was not.
    """

    prefix: str
    tenant: str
    scopes: tuple[str, ...]
    note: str | None
    created: str
    expires: str | None
    used: str | None = None
    revoked: str | None = None

    def flaw(self, now: datetime) -> str | None:
        """Why it opens nothing now, as the end of a sentence; None where it does."""
        if self.revoked is not None:
            return "has been revoked"
        if self.expires is not None and self.expires <= timestamp(now):
            return "has expired"
        return None

    def flaw_now(self) -> str | None:
        """The same by the clock."""
        return self.flaw(datetime.now(UTC))

    def as_dict(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "tenant": self.tenant,
            "scopes": list(self.scopes),
            "note": self.note,
            "created": self.created,
            "expires": self.expires,
            "used": self.used,
            "revoked": self.revoked,
        }


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that has just been made.

    Attributes:
        key: the key itself, which is never to be had again.
        stored: what is kept of it.
    """

    key: str
    stored: StoredKey

    def __repr__(self) -> str:
        return f"NewKey({self.stored.prefix}…)"


@dataclass(frozen=True, slots=True)
class StoredTenant:
    """A tenant as the database has it.

    Attributes:
        settings: what a config could say of it under `konstruct.tenants`.
        disabled: whether it may do nothing for now.
        revision: how many times it was written: another number means other contents.
    """

    id: str
    settings: Mapping[str, Any]
    disabled: bool = False
    revision: int = 1


@dataclass(frozen=True, slots=True)
class ListedTenant:
    """A tenant as `tenants list` shows it.

    Attributes:
        place: where it is written: `config`, `database`, or `hidden` for an entry of the database whose name the
            config has too, so that the config's entry holds.
        flaw: why its entry cannot be used with the config as it is; None where it can.
    """

    id: str
    place: str
    settings: Mapping[str, Any]
    disabled: bool = False
    flaw: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "from": self.place,
            "disabled": self.disabled,
            "flaw": self.flaw,
            **self.settings,
        }
