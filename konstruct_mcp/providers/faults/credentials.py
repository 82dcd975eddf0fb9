"""Finds every text that may be a secret in a call: in its deployment, the environment, and the request that was sent.

All of them are masked in what is shown of a provider's error. In doubt a text is a secret.
"""

from __future__ import annotations

import contextlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.config.model_fields import is_price
from konstruct_mcp.config.provider_needs import is_word_of_an_address
from konstruct_mcp.providers.faults.phrases import Phrase
from konstruct_mcp.providers.refused_parameters import TUNING

LEAST_SECRET = 6  # characters; a shorter secret is masked only as a whole word
_LEAST_WORD = 4  # characters; one that is shorter still is not masked
_SECRET_KEY = Phrase(
    r"key|token|secret|passw|credential|auth|cookie|header|signature|private|cert|session|bearer|jwt|extra_query"
)
# Names that look like a secret's and are none.
_NOT_SECRET = Phrase(r"max_\w*tokens|\btokens?_(limit|count)|top_k|session_name\Z|prompt_cache_key\Z")
_API_VERSION = re.compile(r"v\d\w{0,9}\Z")
_NOT_SECRET_KEYS = ("model", "api_version", "api-version")
# A long random text, under whatever name: probably a key.
_LOOKS_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_\-.+/=]{20,}\Z")
_PROXY_VARIABLE = Phrase(r"_proxy\Z")


def secrets_of(deployment: Deployment) -> Iterator[str]:
    """The texts in a deployment's parameters that are secrets, or may be.

    Its model, its region and its reasoning settings are never secrets, even where the environment sets them: whoever
    reads an error needs those words.
    """
    params = {key: value for key, value in deployment.params.items() if not is_price(key)}
    yield from _secrets_in(params)
    for key in ("api_base", "base_url"):
        yield from _tokens_in_path(params.get(key), deployment.model)
    words = {value for key, value in deployment.params.items() if key in TUNING and isinstance(value, str)}
    yield from (text for text in deployment.secrets - words if len(text) >= LEAST_SECRET)


def secrets_in_environment(environ: Mapping[str, str]) -> Iterator[str]:
    """The secrets that LiteLLM and its HTTP clients may have read from the environment: variables with such a name, and
    credentials in addresses, proxies' included."""
    for name, value in environ.items():
        if _PROXY_VARIABLE.search(name) and "://" not in value:
            value = f"http://{value}"
        if "://" in value:
            yield from _secrets_of_url(value)
        if _SECRET_KEY.search(name) and not _NOT_SECRET.search(name):
            yield from _credentials_in(value.strip())


def secrets_in_request(answer: Any) -> Iterator[str]:
    """The secrets in the request that an HTTP response answers, wherever LiteLLM had them from: headers and query
    parameters with such a name, and the user's name and password in the address."""
    try:
        request = answer.request
        query, login = dict(request.url.params), request.url.userinfo.decode()
    except (AttributeError, RuntimeError):  # no answer, or one without its request
        return
    for name, value in (*request.headers.items(), *query.items()):
        if _SECRET_KEY.search(name):
            yield from _credentials_in(value)
    yield from _login(login)


def _secrets_in(value: Any, *, certain: bool = False, key: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name in _NOT_SECRET_KEYS:
                continue
            by_name = _SECRET_KEY.search(str(name)) is not None and not _NOT_SECRET.search(str(name))
            yield from _secrets_in(item, certain=certain or by_name, key=str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets_in(item, certain=certain, key=key)
    elif isinstance(value, str):
        is_address = "://" in value
        if is_address:
            yield from _secrets_of_url(value)
        if certain:
            yield from _credentials_in(value.strip())
        elif not is_address and _LOOKS_RANDOM.match(value) and "model" not in key:
            yield value


def _credentials_in(text: str) -> Iterator[str]:
    """A credential, and each part of it that a provider may repeat alone.

    Parts are a field of a service account, one of several keys or cookies, what stands behind a scheme or a header's
    name, and the user's name and password behind `Basic`.
    """
    if text.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            yield from _secrets_in(json.loads(text))
    for line in text.splitlines():
        for separator in (": ", " "):
            scheme, _, rest = line.partition(separator)
            if len(rest := rest.strip()) >= _LEAST_WORD:
                yield rest
            if scheme.lower() == "basic":
                with contextlib.suppress(ValueError):
                    yield from _login(b64decode(rest, validate=True).decode())
    parts = _SEPARATORS.split(text)
    yield from (part for part in parts if len(part) >= LEAST_SECRET and not part.isalpha())
    if len(text) >= _LEAST_WORD:
        yield text


_SEPARATORS = re.compile(r"""[\s,;="']+""")


def _login(credentials: str) -> Iterator[str]:
    """A user's name and password: together, each alone, and as the header `Authorization` carries them."""
    plain = unquote(credentials)
    for text in (credentials, plain, *credentials.split(":", 1), *plain.split(":", 1)):
        if len(text) >= _LEAST_WORD:
            yield text
    if plain:
        yield b64encode((plain if ":" in plain else f"{plain}:").encode()).decode()


def _secrets_of_url(url: str) -> Iterator[str]:
    """The secrets in an address: user, password, query, fragment, and long parts of the path that have a digit."""
    try:
        parts = urlsplit(url)
    except ValueError:
        yield url
        return
    yield from _login(parts.netloc.rpartition("@")[0])
    found = [value for name, value in parse_qsl(parts.query) if name not in _NOT_SECRET_KEYS]
    found += [parts.query, parts.fragment] if found else [parts.fragment]
    found += [part for part in parts.path.split("/") if len(part) >= 16 and any(char.isdigit() for char in part)]
    for text in found:
        for form in {text, unquote(text)}:
            if len(form) >= LEAST_SECRET:
                yield form


def _tokens_in_path(address: Any, model: str) -> Iterator[str]:
    """The parts of an address's path that are no known words: some gateways have their token there."""
    try:
        parts = re.split("[/;=,]", urlsplit(address).path) if isinstance(address, str) else []
    except ValueError:
        return
    for part in parts:
        for form in {part, unquote(part)}:
            is_word = form in model or is_word_of_an_address(form) or _API_VERSION.match(form)
            if len(form) >= LEAST_SECRET and not is_word:
                yield form
