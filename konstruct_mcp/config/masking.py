"""What of a config may be shown. Each key that is shown is listed; everything else is masked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from konstruct_mcp.config.environment import reference, shown_name
from konstruct_mcp.config.litellm_keys import LITELLM_PARAMS, MODEL_INFO
from konstruct_mcp.config.model_fields import is_price
from konstruct_mcp.core.secrets import MASK, SECRET_KEY

_SHOWN = {name: key for name, key in itertools.chain(LITELLM_PARAMS.items(), MODEL_INFO.items()) if key.is_shown}
_WORDS = frozenset(name for name, key in _SHOWN.items() if key.kind == "text")
# Keys whose number or switch may be written as text. Any other text there is a slip, and may be a secret.
_NUMBERS = frozenset(_SHOWN) - _WORDS
_NUMBER = re.compile(r"\s*([+-]?[\d._]+([eE][+-]?\d+)?|true|false)\s*", re.IGNORECASE)


def masked(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of `model_list` as it may be shown."""
    shown: dict[str, Any] = {"model_name": entry["model_name"]}
    for section in ("litellm_params", "model_info"):
        if entry[section]:
            shown[section] = {key: _shown(key, value) for key, value in entry[section].items() if value is not None}
    return shown


def masked_values(section: Mapping[str, Any]) -> dict[str, str]:
    """A section of which only the keys may be shown, and the references to variables."""
    return {key: shown_name(value) if reference(value) else MASK for key, value in section.items() if value is not None}


def _shown(key: str, value: Any) -> Any:
    if reference(value):
        return shown_name(value)
    if key in ("api_base", "base_url") and isinstance(value, str):
        try:
            url = urlsplit(value.strip())
        except ValueError:  # no address at all
            return MASK
        if url.scheme not in ("http", "https"):
            return MASK
        host = url.netloc.rpartition("@")[2]
        netloc = f"{MASK}@{host}" if "@" in url.netloc else host
        path = url.path if url.path in ("", "/", "/v1", "/v1/") else f"/{MASK}"  # gateways put tokens there
        return urlunsplit((url.scheme, netloc, path, MASK if url.query else "", ""))
    if isinstance(value, str):
        is_number = (key in _NUMBERS or is_price(key)) and _NUMBER.fullmatch(value)
        return value if key in _WORDS or is_number else MASK
    is_plain = key in _NUMBERS or is_price(key) or not SECRET_KEY.search(key)
    return value if isinstance(value, int | float) and is_plain else MASK


def which_database(url: str) -> str:
    """What tells one from another; not the password, whose change may be why rows are waiting in the spool."""
    credentials, _, place = url.partition("://")[2].rpartition("@")
    query = parse_qsl(place.partition("?")[2])
    told = sorted((key, value) for key, value in query if key in ("host", "hostaddr", "port", "dbname", "user"))
    return f"{credentials.partition(':')[0]} {_without_secrets(url)} {told}"


def masked_url(url: str) -> str:
    """A database's URL as a person is to see it: without the folders of a file, too."""
    scheme, _, rest = _without_secrets(url).partition("://")
    if "@" in url.partition("?")[2]:  # it is hard to say what of it is no secret
        return f"{scheme}://{MASK}"
    host, slash, path = rest.partition("/")
    folders, last_slash, name = path.rpartition("/")
    user = f"{MASK}@" if "@" in url else ""
    return f"{scheme}://{user}{host}{slash}{f'/{MASK}' if folders else ''}{last_slash}{name}"


def _without_secrets(url: str) -> str:
    """A database's URL without user, password and query, each of which can hold a secret."""
    scheme, _, rest = url.partition("://")
    # A password may hold any character but @; SQLAlchemy takes it to end at the first, and we at the last.
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
