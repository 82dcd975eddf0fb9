"""Helpers of text: one printable line, a quoted name, the form of tenant ids and dates, and lone surrogates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, overload

LONGEST_NAME = 64  # characters of a key or a name, in a message that a person reads in one line

TENANT_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
TENANT_ID_RULE = "should be 1 to 128 letters, digits or any of . _ : @ -"


def cut(text: str, longest: int = LONGEST_NAME) -> str:
    """One printable line of at most `longest` characters; "…" at its end says that more was there."""
    line = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"


def quoted(name: str) -> str:
    """A name, cut and in quotation marks."""
    return f'"{cut(name)}"'


def is_day(text: str) -> bool:
    """Whether this is an ISO date, written out: `2026-01-31`."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


@overload
def iso_day(day: str | date) -> str: ...


@overload
def iso_day(day: None) -> None: ...


def iso_day(day: str | date | None) -> str | None:
    """A day as text, of a text or a date; the day in UTC of a moment that has a time zone. A text stays as it is."""
    if isinstance(day, datetime):
        day = (day if day.tzinfo is None else day.astimezone(UTC)).date()
    return day.isoformat() if isinstance(day, date) else day


# -- lone surrogates -------------------------------------------------------------------------------------------------

_PAIR, _HALF = re.compile("[\ud800-\udbff][\udc00-\udfff]"), re.compile("[\ud800-\udfff]")
STEP = 1 << 18  # characters handled in one step of C code, during which every other thread waits


def scrubbed(value: Any) -> Any:
    """The same value as plain JSON, with each lone surrogate replaced by U+FFFD and each pair by its character.

    JSON can carry half a character (`"\\ud800"`), and UTF-8 cannot: no provider, pipe or database takes it. Call this
    at the edge, once on the way in and once on the way out; what is inside the package has been scrubbed.
    """
    if isinstance(value, str):
        return value if value.isascii() else _scrubbed_text(value)
    if isinstance(value, list | tuple):
        return [scrubbed(item) for item in value]
    if value is None or isinstance(value, int | float):  # before the check for a Mapping, which is slower
        return value
    if isinstance(value, Mapping):
        return {scrubbed(key): scrubbed(item) for key, item in value.items()}
    return value


def _scrubbed_text(text: str) -> str:
    pieces, begin = [], 0
    while begin < len(text):
        end = begin + STEP
        end += _PAIR.match(text, end - 1) is not None
        piece = text[begin:end]
        try:
            piece.encode()
        except UnicodeEncodeError:
            piece = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), piece)
            piece = _HALF.sub("\ufffd", piece)
        pieces.append(piece)
        begin = end
    return "".join(pieces)
