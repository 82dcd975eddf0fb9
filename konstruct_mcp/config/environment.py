"""Environment variables: the references `os.environ/NAME` of a config, and the variables that a config sets. The
references `file/PATH` and `keyring/NAME` are read in the same way, as variables of this name.

The variables of a config's `environment_variables` are *lent* to the process's environment. They do not count as the
process's own when a config is read again, and are taken back when no config in use has them any more.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

REFERENCE = "os.environ/"
FILE_REFERENCE = "file/"
KEYRING_REFERENCE = "keyring/"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_UNEXPANDED = re.compile(r"\$\{[^}]*\}\Z|\$[A-Za-z_][A-Za-z0-9_]*\Z|%[A-Za-z_][A-Za-z0-9_]*%\Z")
# Text that a template, a person or LiteLLM was meant to replace, anywhere in a name, an address or a key.
_PLACEHOLDER = re.compile(r"<[^<>]+>|os\.env|\Aenv(iron)?/")
_BRACES = (("${", "}"), ("{{", "}}"))
_OLLAMA_PORT = {"": 11434, "http": 80, "https": 443}  # as Ollama reads OLLAMA_HOST; its own where there is no scheme
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  Ollama listens on all addresses; a client asks this machine
# Which tenant's server this is and where its files are is said by whoever starts the process, never by a file.
_NOT_OF_A_FILE = ("KONSTRUCT_", "XDG_")


def is_reference(value: Any) -> bool:
    """Whether it has the form of a reference, even if it names no variable."""
    return isinstance(value, str) and value.startswith((REFERENCE, FILE_REFERENCE, KEYRING_REFERENCE))


def reference(value: Any) -> str | None:
    """The NAME of a well-formed `os.environ/NAME`, and the whole of a `file/PATH` or `keyring/NAME`; None for anything
    else."""
    if is_file_reference(value):
        return str(value) if str(value).isprintable() and value != FILE_REFERENCE else None
    if is_keyring_reference(value):
        return str(value) if _NAME.match(value, len(KEYRING_REFERENCE)) else None
    if is_reference(value) and _NAME.match(value, len(REFERENCE)):
        return str(value).removeprefix(REFERENCE)
    return None


def is_file_reference(value: Any) -> bool:
    """Whether it has the form of a reference to a file."""
    return isinstance(value, str) and value.startswith(FILE_REFERENCE)


def is_keyring_reference(value: Any) -> bool:
    """Whether it has the form of a reference to the keychain."""
    return isinstance(value, str) and value.startswith(KEYRING_REFERENCE)


def shown_name(name: str) -> str:
    """The name of a variable as it may be shown: of a file only its own name."""
    if not is_file_reference(name):
        return name
    folder, _, own = name.removeprefix(FILE_REFERENCE).rpartition("/")
    return f"{FILE_REFERENCE}{'…/' if folder or name.startswith('file//') else ''}{own}"


def is_unexpanded(value: str) -> bool:
    """Whether it is a literal `${ANTHROPIC_API_KEY}`: a client has passed on what it should have expanded."""
    return _UNEXPANDED.match(value) is not None


def is_placeholder(value: str) -> bool:
    """Whether part of it should have been filled in: `openai/${MODEL}`, `<your key>`, `{{ key }}`, `env/NAME`."""
    in_braces = any(closing in value.partition(opening)[2] for opening, closing in _BRACES)
    return in_braces or is_unexpanded(value) or _PLACEHOLDER.search(value) is not None


def value_of(name: str, environ: Mapping[str, str]) -> str | None:
    """The value of a variable; None where it is not set or empty. OLLAMA_BASE_URL always has one, if need be
    that of LiteLLM's OLLAMA_API_BASE, or made of OLLAMA_HOST."""
    value = environ.get(name, "").strip()
    if value and not is_unexpanded(value):
        return value
    if name == "OLLAMA_BASE_URL":
        return value_of("OLLAMA_API_BASE", environ) or _ollama_url(value_of("OLLAMA_HOST", environ) or "")
    return None


def _ollama_url(host: str) -> str:
    """The URL at which a client reaches Ollama, made of OLLAMA_HOST: `0.0.0.0`, `gpu-1`, `gpu-1:8080`, `:8080`,
    `https://gpu-1`, `[::1]:11434`."""
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
        is_host = bool(host) and not set(host) & set(b"${}%<>")  # no placeholder
        return url.scheme in ("http", "https") and is_host and url.port != 0 and is_sendable(text, " ")
    except ValueError:  # unbalanced brackets, a port that is no number, a host that is no name
        return False


def is_sendable(text: str, without: str = "") -> bool:
    """Whether it can be sent in an HTTP header: it is ASCII, as httpx needs it, and has none of the characters of
    `without`."""
    return text.isascii() and text.isprintable() and not any(c in text for c in without)


def variables_of(section: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables that a config's `environment_variables` sets, and the names of those that it may not set."""
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
_lent: dict[object, Mapping[str, str]] = {}  # owner → the variables that it has lent; in the order of lending
_own: dict[str, str | None] = {}  # name that is lent → the process's own value


def lend(owner: object, variables: Mapping[str, str]) -> None:
    """Put variables into the process's environment, where LiteLLM and the clouds' clients read them, until `take_back`.

    Where several owners have lent the same variable, the value of the last one counts.
    """
    with _lock:
        _lent[owner] = variables
        for name in variables:
            _own.setdefault(name, os.environ.get(name))
        _set(variables)


def take_back(owner: object) -> None:
    """Take the variables of an owner out again. No effect for an owner that has lent nothing."""
    with _lock:
        variables = _lent.pop(owner, {})
        # A variable that somebody has changed meanwhile is the process's own now.
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
