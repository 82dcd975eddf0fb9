"""What a provider's failure means: an exception out of LiteLLM becomes one `Fault`.

LiteLLM's exception classes go by words in the provider's message (a 400 that mentions "429" is a RateLimitError) and
differ between providers, so the HTTP answer itself decides: it hangs, as httpx's response, on an exception that
LiteLLM's was raised from. Where there is none, no HTTP answer came, or one with status 200 that could not be read.

The exception goes no further than this module: it holds the key, the prompt and the provider's raw body.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import socket
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .config import Deployment
from .routing import Fault, FaultError, FaultKind

_REASON_LIMIT = 300  # characters of a provider's reason: enough to act on, too little to smuggle a page
_OVERFLOW = re.compile(
    r"context.?(length|window|size|limit)|prompt is too long|input tokens exceed|too many (input )?tokens",
    re.IGNORECASE,
)
_POLICY = re.compile(r"content.?(filter|policy|management policy)|safety system|usage polic", re.IGNORECASE)
_FLAGGED = re.compile(r"moderation|flagged", re.IGNORECASE)
_QUOTA = re.compile(r"insufficient_quota|credit balance|insufficient (balance|credits|funds)", re.IGNORECASE)
_KEY = re.compile(r"api.?key.{0,20}(not valid|invalid|expired)|invalid.{0,5}api.?key", re.IGNORECASE)


def fault_of(error: BaseException, deployment: Deployment, secrets: Collection[str]) -> Fault:
    """The fault that a call of this deployment ended in. `secrets` are kept out of what it says."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, FaultError):
            return link.fault
    for link in chain:
        response = getattr(link, "response", None)
        if type(link).__module__.split(".")[0] != "litellm" and hasattr(response, "status_code"):
            return _http_fault(response, chain, secrets)
    return _silent_fault(chain, deployment, secrets)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _http_fault(response: Any, chain: list[BaseException], secrets: Collection[str]) -> Fault:
    status = int(response.status_code)
    detail = f"HTTP {status}"
    code, message = _provider_error(response)
    text = f"{code} {message}"
    reason = _one_line(message, secrets) or detail
    retry_after = _retry_after(response.headers)
    litellm_says = {type(link).__name__ for link in chain}
    if status == 403 and (_POLICY.search(text) or _FLAGGED.search(text)):
        return Fault(FaultKind.CONTENT_POLICY, detail)
    if status in (401, 403) or (status == 400 and _KEY.search(text)):
        return Fault(FaultKind.AUTH, detail)
    if status == 404:
        return Fault(FaultKind.NOT_FOUND, detail)
    if status == 402 or (status in (400, 429) and _QUOTA.search(text)):
        return Fault(FaultKind.QUOTA, detail)
    if status == 429:
        return Fault(FaultKind.RATE_LIMITED, detail, retry_after_s=retry_after)
    if status == 408:
        return Fault(FaultKind.TIMEOUT, detail)
    if status in (409, 425) or status >= 500:
        return Fault(FaultKind.SERVER_ERROR, detail, retry_after_s=retry_after)
    if status < 400:
        return Fault(FaultKind.BAD_ANSWER, detail)
    if "ContextWindowExceededError" in litellm_says or _OVERFLOW.search(text):
        return Fault(FaultKind.CONTEXT_OVERFLOW, detail)
    if "ContentPolicyViolationError" in litellm_says or code == "invalid_prompt" or _POLICY.search(text):
        return Fault(FaultKind.CONTENT_POLICY, detail)
    return Fault(FaultKind.BAD_REQUEST, detail, reason=reason)


def _silent_fault(chain: list[BaseException], deployment: Deployment, secrets: Collection[str]) -> Fault:
    """No HTTP error was answered: a broken connection, an unreadable 200, or LiteLLM itself refused to ask."""
    import httpx

    if any(isinstance(link, httpx.TimeoutException) for link in chain):
        return Fault(FaultKind.TIMEOUT, f"within {deployment.timeout_s:g} s")
    if any(isinstance(link, httpx.TransportError | OSError) for link in chain):
        known = next((words for kind, words in _BREAKS for link in chain if isinstance(link, kind)), None)
        return Fault(FaultKind.CONNECTION, known or "dropped", sent=known is None)
    if type(chain[0]).__name__ == "UnsupportedParamsError":
        # LiteLLM's own words, up to its advice on LiteLLM's settings.
        words = str(getattr(chain[0], "message", "")).rpartition("Error: ")[2].partition("To drop")[0]
        return Fault(FaultKind.BAD_REQUEST, reason=_one_line(words, secrets))
    if getattr(chain[0], "status_code", None) in (400, 401, 404) and len(chain) == 1:
        # LiteLLM knows no such provider, or misses something that the config has to give.
        return Fault(FaultKind.NOT_FOUND, "LiteLLM cannot call this model; check its name and settings")
    return Fault(FaultKind.BAD_ANSWER)


_BREAKS: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLError, "its certificate is not trusted"),
    (socket.gaierror, "host not found"),
    (ConnectionRefusedError, "refused"),
)


def _provider_error(response: Any) -> tuple[str, str]:
    """The code (or type) and the message of a provider's error body; empty where it has another form."""
    try:
        body = response.json()
        # llama.cpp behind Ollama puts a whole error body into the message of another.
        for _ in range(3):
            if isinstance(body, list) and body:
                body = body[0]
            if isinstance(body, dict) and "error" in body:
                body = body["error"]
            if isinstance(body, str) and body.startswith("{"):
                body = json.loads(body)
            elif isinstance(body, dict) and str(body.get("message", "")).startswith("{"):
                body = json.loads(body["message"])
    except Exception:  # whatever the body is, it is no error of a known form
        return "", ""
    if isinstance(body, dict):
        return str(body.get("code") or body.get("type") or ""), str(body.get("message") or "")
    return "", body if isinstance(body, str) else ""


def _one_line(text: str, secrets: Collection[str]) -> str:
    """A provider's words, fit for one line of an error: no secret of ours, no control characters, not long."""
    for secret in sorted(secrets, key=len, reverse=True):  # first the longer of two that begin alike
        text = text.replace(secret, "***")
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _REASON_LIMIT else line[: _REASON_LIMIT - 1] + "…"


def secrets_in(params: Any) -> Iterator[str]:
    """Every text in the parameters that could be one; the model's name and short words are none."""
    if isinstance(params, Mapping):
        for key, value in params.items():
            if key != "model":
                yield from secrets_in(value)
    elif isinstance(params, list | tuple):
        for value in params:
            yield from secrets_in(value)
    elif isinstance(params, str) and len(params) >= 6:
        yield params


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a provider asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            seconds = float(milliseconds) / 1000
        elif value is not None and value.strip()[:1].isalpha():
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        elif value is not None:
            seconds = float(value)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
