"""A provider's words made fit for an error message: one line, short, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from urllib.parse import quote

from konstruct_mcp.core.secrets import MASK
from konstruct_mcp.providers.faults.credentials import LEAST_SECRET
from konstruct_mcp.providers.faults.error_body import MOST_CHARS

_LEAST_BEGINNING = 4  # characters of a secret that are masked at the end of a text that was cut
_REASON_LIMIT = 300  # characters of a provider's reason: enough to act on, too little to smuggle a page


def one_line(text: str, secrets: Collection[str]) -> str:
    """A provider's message as one line: secrets masked, control characters out, 300 characters at most."""
    for secret in sorted(secrets, key=len, reverse=True):  # the longer of two that begin alike goes first
        # As it is, and as it is written in an address or in JSON.
        for form in dict.fromkeys((secret, quote(secret, safe=""), json.dumps(secret)[1:-1])):
            if form not in text:
                continue
            is_word = len(form) < LEAST_SECRET  # masked only as a whole word
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MASK, text) if is_word else text.replace(form, MASK)
    if len(text) >= MOST_CHARS - 1 or MASK in text:  # it was cut, perhaps within a secret
        text = _without_beginning(text, secrets)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _REASON_LIMIT else line[: _REASON_LIMIT - 1] + "…"


def _without_beginning(text: str, secrets: Collection[str]) -> str:
    """The text without the beginning of a secret at its end."""
    for secret in secrets:
        longest = min(len(secret) - 1, len(text))
        if longest < _LEAST_BEGINNING or secret[:_LEAST_BEGINNING] not in text[-longest:]:
            continue
        for length in range(longest, _LEAST_BEGINNING - 1, -1):
            if text.endswith(secret[:length]):
                return f"{text[:-length]}{MASK}"
    return text
