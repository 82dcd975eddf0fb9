"""Environment variables, and the `os.environ/NAME` of a config that stands for one. Plain code, but for `lend`.

What a config's `environment_variables` put into the process's environment is lent to it: it is not the process's own
when a config is read again, and is taken back when no config in use has it any more.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

REFERENCE = "os.environ/"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_UNEXPANDED = re.compile(r"\$\{[^}]*\}\Z|\$[A-Za-z_][A-Za-z0-9_]*\Z|%[A-Za-z_][A-Za-z0-9_]*%\Z")
# Anywhere in a value that is to be a name, an address or a key: what a template, a person or LiteLLM was to put
# something else in place of.
_PLACEHOLDER = re.compile(r"<[^<>]+>|os\.env|\Aenv(iron)?/")
_BRACES = (("${", "}"), ("{{", "}}"))
_OLLAMA_PORT = {"": 11434, "http": 80, "https": 443}  # as Ollama reads OLLAMA_HOST: that of a scheme where it has one
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  where Ollama listens; a client asks this machine
# Whose server this is, where its files are: that is for whoever starts the process to say, not for what it reads.
_NOT_OF_A_FILE = ("KONSTRUCT_", "XDG_")


def is_reference(value: Any) -> bool:
    """Whether it refers to a variable, be its name sound or not."""
    return isinstance(value, str) and value.startswith(REFERENCE)


def reference(value: Any) -> str | None:
    """The NAME of a well-formed `os.environ/NAME`."""
    if is_reference(value) and _NAME.match(value, len(REFERENCE)):
        return str(value).removeprefix(REFERENCE)
    return None


def is_unexpanded(value: str) -> bool:
    """Whether it is `${ANTHROPIC_API_KEY}` itself: a client has passed on what it should have expanded."""
    return _UNEXPANDED.match(value) is not None


def is_placeholder(value: str) -> bool:
    """Whether something of it was to be filled in: `openai/${MODEL}`, `<your key>`, `{{ key }}`, `env/NAME`."""
    in_braces = any(closing in value.partition(opening)[2] for opening, closing in _BRACES)
    return in_braces or is_unexpanded(value) or _PLACEHOLDER.search(value) is not None


def value_of(name: str, environ: Mapping[str, str]) -> str | None:
    """The value of a variable, None where it is not set: an empty one counts as not set. Where Ollama is, is known
    without one."""
    value = environ.get(name, "").strip()
    if value and not is_unexpanded(value):
        return value
    if name == "OLLAMA_BASE_URL":
        return _ollama_url(value_of("OLLAMA_HOST", environ) or "")
    return None


def _ollama_url(host: str) -> str:
    """The address of a client, of what OLLAMA_HOST says: `0.0.0.0`, `gpu-1`, `gpu-1:8080`, `:8080`, `https://gpu-1`,
    `[::1]:11434`."""
    host = host.strip("\"' ")
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "", host
    place, slash, path = rest.partition("/")
    if place.count(":") > 1 and not place.startswith("["):  # an IPv6 address by itself
        place = f"[{place}]"
    try:
        url = urlsplit(f"//{place}")
        name, port = url.hostname or "", url.port or _OLLAMA_PORT.get(scheme, 11434)
    except ValueError:
        return host
    name = "localhost" if name in _EVERYWHERE else f"[{name}]" if ":" in name else name
    return f"{scheme or 'http'}://{name}:{port}{slash}{path}".rstrip("/")


def is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        host = (url.hostname or "").encode("idna")  # refuses a name with an empty part, as every resolver would
        is_host = bool(host) and not set(host) & set(b"${}%<>")  # nothing that somebody was to fill in
        return url.scheme in ("http", "https") and is_host and url.port != 0 and is_sendable(text, " ")
    except ValueError:  # unbalanced brackets, a port that is no number, a host that is no name
        return False


def is_sendable(text: str, without: str = "") -> bool:
    """Whether it can go in an HTTP header: httpx sends those as ASCII."""
    return text.isascii() and text.isprintable() and not any(c in text for c in without)


def variables_of(section: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables that a config's `environment_variables` set, and the names of those that it cannot set."""
    found, refused = {}, []
    for name, value in section.items():
        if not _NAME.match(name) or name.startswith(_NOT_OF_A_FILE) or isinstance(value, dict | list):
            refused.append(name)
        elif is_reference(value):
            known = reference(value)
            if known is not None and (there := value_of(known, environ)) is not None:
                found[name] = there
        elif value is not None:
            found[name] = str(value)
    return found, refused


# -- the process's environment -----------------------------------------------------------------------------------------

_lock = threading.Lock()
_lent: dict[object, Mapping[str, str]] = {}  # whoever has lent it → by name, in the order in which they came
_own: dict[str, str | None] = {}  # what the process had, of the names that are lent


def lend(owner: object, variables: Mapping[str, str]) -> None:
    """Put variables into the process's environment, where LiteLLM and the clouds' clients read them, until they are
    taken back. Where several have lent the same, the last of them counts."""
    with _lock:
        _lent[owner] = variables
        for name in variables:
            _own.setdefault(name, os.environ.get(name))
        _set(variables)


def take_back(owner: object) -> None:
    """Take out what `owner` has put there; without effect for one who has lent nothing."""
    with _lock:
        variables = _lent.pop(owner, {})
        # One that somebody has changed meanwhile is the process's own now.
        _set({name: value for name, value in variables.items() if os.environ.get(name) == value})
        for name in variables:
            if not any(name in others for others in _lent.values()):
                _own.pop(name, None)


def process_environ() -> dict[str, str]:
    """The process's own environment, without what is lent to it."""
    with _lock:
        found = {**os.environ, **{name: value for name, value in _own.items() if value is not None}}
        return {name: value for name, value in found.items() if _own.get(name, "") is not None}


def _set(names: Mapping[str, str]) -> None:
    for name in names:
        value = next((lent[name] for lent in reversed(_lent.values()) if name in lent), _own.get(name))
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
