"""Reads what a provider says of a failure in the body of its HTTP response, in every format that is known.

Any field may be missing, of another type, or as long as the request that it repeats.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.providers.faults.phrases import (
    ABOUT_A_FIELD,
    ACCOUNT,
    FIELD_CODE,
    LIMIT,
    NOT_ALLOWED,
    ONLY_NOT_ALLOWED,
    OPENING_QUOTE,
    PER_TIME,
    PERMISSION_CODE,
    QUOTED,
    QUOTED_NAME,
    TEXT_PARAM,
    WRAPPED,
    Phrase,
)
from konstruct_mcp.providers.faults.retry_after import retry_delay

MOST_CHARS = 3000  # characters of a message that are read: some repeat a whole request, and these take 10 to 30 ms
_DEPTH = 6  # of errors within errors: gateways behind gateways


@dataclass(frozen=True)
class ErrorBody:
    """What a provider says of a failure, apart from its HTTP status; empty where its format is not known.

    A message may quote anything that the user or the model wrote. Therefore:

    - What outlasts the request (account, model, quota, how it wants to be asked) is decided by what the provider `says`
      in its own words.
    - Only what concerns this request alone may be decided by what the message `mentions`, quotations included.

    Attributes:
        codes: the error's code, type and status, as far as it has them, in one text.
        param: the parameter that the provider itself names.
        number: the code, where it is an HTTP status.
        wait_s: seconds that it asks to wait.
    """

    codes: str = ""
    message: str = ""
    param: str = ""
    number: int | None = None
    wait_s: float | None = None

    def says(self, phrase: Phrase) -> bool:
        """Whether the phrase is in its codes or its own words."""
        return phrase.search(self._own) is not None

    def mentions(self, phrase: Phrase) -> bool:
        """Whether the phrase is in its codes, its own words or what they quote."""
        return phrase.search(f"{self.codes} {self.message}") is not None

    @functools.cached_property
    def _own(self) -> str:
        return f"{self.codes} {_own_words(self.message)}"

    @property
    def is_about_a_field(self) -> bool:
        """Whether it is about a field of the request, and so not about an account or a model."""
        return (
            ABOUT_A_FIELD.search(self.message) is not None
            or FIELD_CODE.search(self.codes) is not None
            or TEXT_PARAM.search(self.param) is not None
        )

    @functools.cached_property
    def is_about_a_rate(self) -> bool:
        """Whether it is about a limit of so much in a time."""
        return self.says(PER_TIME) and self.says(LIMIT)

    @property
    def is_about_the_account(self) -> bool:
        """Whether it is about what the account is not allowed."""
        if self.says(ACCOUNT) or ONLY_NOT_ALLOWED.search(self.message):
            return True
        return PERMISSION_CODE.search(self.codes) is not None and self.says(NOT_ALLOWED)


def _own_words(message: str) -> str:
    """A provider's message without its quotations. An error that it wraps and quoted parameter names are its own words.

    Where the message was cut, everything behind an unclosed quotation mark is left out as well.
    """
    wrapped = WRAPPED.search(message)
    own = message if wrapped is None else wrapped["error"] or wrapped["template"] or ""
    own = QUOTED.sub(lambda quoted: quoted[0][1:-1] if QUOTED_NAME.fullmatch(quoted[0]) else "…", own)
    return own if len(message) < MOST_CHARS else OPENING_QUOTE.split(own, maxsplit=1)[0]


def error_body(response: Any) -> ErrorBody:
    """What the body of an HTTP response says of a failure."""
    try:
        body = response.json()
    except Exception:  # plain text, perhaps: servers that cannot read a request answer so
        return ErrorBody("", _text_body(response))
    try:
        return _error_in(body)
    except Exception:  # whatever the body is, it is no known format
        return ErrorBody()


def _error_in(body: Any) -> ErrorBody:
    outer = ""
    for _ in range(_DEPTH):
        inner = _inside(body)
        if inner is None:
            break
        if isinstance(body, dict):
            outer = " ".join(str(code) for code in (body.get("code"), body.get("error_type")) if code)
        body = inner
    if not isinstance(body, dict):
        return ErrorBody(outer, body[:MOST_CHARS] if isinstance(body, str) else "")
    details = body.get("details")
    details = [item for item in details if isinstance(item, dict)] if isinstance(details, list) else []
    codes = [body.get(key) for key in ("code", "type", "status")] + [item.get("reason") for item in details]
    codes += [
        flaw.get("quotaId") for item in details for flaw in item.get("violations") or () if isinstance(flaw, dict)
    ]
    return ErrorBody(
        " ".join(str(code) for code in codes if isinstance(code, str | int)),
        _message(body),
        str(body.get("param") or ""),
        status_in(body.get("code")),
        next(filter(None, map(retry_delay, details)), None),
    )


def _inside(body: Any) -> Any:
    """The error within an error body; None where the body is the error itself.

    llama.cpp behind Ollama puts a whole error body into the message of another; OpenRouter puts the provider's beside
    its own; servers that check requests by a schema list what is wrong in them.
    """
    if isinstance(body, str):
        return _written_in(body)
    if isinstance(body, list):
        flaws = [item for item in body if isinstance(item, dict) and isinstance(item.get("msg"), str)]
        return "; ".join(map(_flaw, flaws)) or next(iter(body), None)
    if not isinstance(body, dict):
        return None
    for key in ("error", "upstream_error", *(() if _message(body) else ("errors",))):  # Google lists itself again
        if body.get(key):
            return body[key]
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and isinstance(raw := metadata.get("raw"), str) and raw:
        return raw
    for key in ("message", "detail"):
        value = body.get(key)
        if isinstance(found := _written_in(value) if isinstance(value, str) else value, dict | list):
            return found
    return None


def _written_in(text: str) -> Any:
    """The JSON object in a text; None where it is no JSON object."""
    if not text.startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _message(body: Mapping[str, Any]) -> str:
    texts = (body.get(key) for key in ("message", "detail", "msg", "title"))
    return next((text[:MOST_CHARS] for text in texts if isinstance(text, str) and text), "")


def _flaw(item: Mapping[str, Any]) -> str:
    """One entry of pydantic's list of errors, as a sentence."""
    where = item.get("loc")
    place = ".".join(str(part) for part in where if part != "body") if isinstance(where, list) else ""
    return f"{place}: {item['msg']}" if place else str(item["msg"])


def _text_body(response: Any) -> str:
    """A body of plain text; empty for an HTML page or for JSON that was cut."""
    try:
        text = str(response.text).strip()
    except Exception:  # it cannot be decoded, or was never read
        return ""
    return text[:MOST_CHARS] if text[:1].isalpha() else ""


def status_in(code: object) -> int | None:
    """The HTTP status that an error's code is; None where it is no status of an error."""
    if isinstance(code, str) and code.isascii() and code.isdecimal():
        code = int(code[:4])
    return code if isinstance(code, int) and 400 <= code < 600 else None
