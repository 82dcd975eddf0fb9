"""The mask that stands for a secret, and a database's URL whose password must not be shown."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

MASK = "***"
SECRET_KEY = re.compile(r"key|token(?!s)|secret|passw|passphrase|credential|auth", re.IGNORECASE)
_SHORTEST_PART = 3  # characters: a part of a password that is no longer than this is masked as a whole word only


def with_whole_password(url: str) -> str:
    """A database's URL in which each `@` of the password is written as `%40`, as SQLAlchemy needs it.

    The password ends at the last `@` before the host; for SQLAlchemy it would end at the first.
    """
    scheme, separator, rest = url.partition("://")
    begun, _, behind = rest.partition("@")
    more, at, _ = re.split("[/?]", behind, maxsplit=1)[0].rpartition("@")
    if not at or "/" in begun.partition(":")[0]:  # as in a path
        return url
    return f"{scheme}{separator}{begun}%40{more.replace('@', '%40')}{behind[len(more) :]}"


def passwords_in(url: str) -> frozenset[str]:
    """The passwords in a URL, the one before its host and those of its query, each as it is written and as it is
    meant."""
    place, _, query = url.partition("://")[2].partition("?")
    before = place.rpartition("@")[0] or (f"{place}?{query}".rpartition("@")[0] if "@" in query else "")
    pairs = (pair.partition("=") for pair in query.split("&"))
    secrets = [before.partition(":")[2], *(value for key, _, value in pairs if SECRET_KEY.search(unquote(key)))]
    return frozenset(form for secret in secrets for form in (secret, unquote(secret), unquote_plus(secret))) - {""}


def without_password(said: str, url: str) -> str:
    """A message of a database's driver in which each part of the URL's password is masked.

    The password is split where a driver may have taken it to end: it may quote the rest as the name of a host.
    """
    parts = {part for secret in passwords_in(url) for part in re.split("[@:/?&=]", secret)}
    for part in sorted(parts - {""}, key=len, reverse=True):
        edge = "" if len(part) > _SHORTEST_PART else r"\b"
        said = re.sub(f"{edge}{re.escape(part)}{edge}", MASK, said)
    return said
