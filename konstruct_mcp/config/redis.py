"""Where the state is that servers share and that may be lost: a Valkey or Redis server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from konstruct_mcp.config.findings import Findings
from konstruct_mcp.config.packages import installed
from konstruct_mcp.config.references import References
from konstruct_mcp.core.errors import install_advice

_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
_PREFIX = "konstruct:"
# Of redis-py's options in a URL those that say where the server is and who asks; how long it is waited for is ours. One
# that redis-py has not, or cannot read, would only come out when it connects.
_OPTIONS = frozenset(("db", "username", "password"))
_TLS_OPTIONS = frozenset(
    (
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_password",
        "ssl_cert_reqs",
        "ssl_check_hostname",
    )
)
_VALUES = {  # of options that have few
    "ssl_cert_reqs": ("none", "optional", "required"),
    "ssl_check_hostname": ("true", "false"),
}


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A Valkey or Redis server.

    Attributes:
        url: `redis://…`, `rediss://…` (TLS) or `unix://…`. May hold a password.
        prefix: of all keys and channels: installations with one prefix share all that there is.
        replicas: how many servers there are, as long as this server has not found out.
    """

    url: str = field(repr=False)
    prefix: str = _PREFIX
    replicas: int = 1


def redis_place(
    given: str | None,
    references: References,
    findings: Findings,
    *,
    prefix: str | None = None,
    replicas: int | None = None,
    router: Mapping[str, Any] | None = None,
    cache: Any = None,
) -> RedisPlace | None:
    """The server that the environment names, else the config, else the config's keys of LiteLLM's; None for none.

    Args:
        given: `konstruct.redis_url`.
        references: the environment.
        findings: where faults go.
        prefix, replicas: `konstruct.redis_prefix` and `konstruct.replicas`.
        router: the `redis_…` keys of router_settings.
        cache: `litellm_settings.cache_params`.
    """
    place, url = references.address("KONSTRUCT_REDIS_URL", "konstruct.redis_url", given, findings)
    more: dict[str, Any] = {} if prefix is None else {"prefix": prefix}
    more |= {} if replicas is None else {"replicas": replicas}
    if url:
        return _of_url(place, url, findings, more)
    found = _of_litellm("router_settings", {key: value for key, value in (router or {}).items() if value is not None})
    if found is None and isinstance(cache, Mapping) and cache.get("type", "redis") == "redis":
        found = _of_litellm("litellm_settings.cache_params", {f"redis_{key}": value for key, value in cache.items()})
    if found is None:
        return None
    place, url = found
    # A config that LiteLLM takes is no worse for a package that is missing: this server stands alone, and says so.
    if not installed("redis"):
        findings.lost.append(f"{place}: this server stands alone; sharing needs redis: {install_advice('redis')}")
        return None
    return _of_url(place, url, findings, more)


def _of_url(place: str, url: str, findings: Findings, more: Mapping[str, Any]) -> RedisPlace | None:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in _SCHEMES and (parts.port is None or parts.port > 0)
        is_url = is_url and bool(parts.path if parts.scheme == "unix" else parts.hostname)
        if parts.scheme != "unix" and parts.path.strip("/"):
            is_url = is_url and parts.path.strip("/").isdecimal()
    except ValueError:
        is_url = False
    if not is_url:
        findings.fault(place, "should be a URL like redis://host:6379/0, or rediss://… with TLS")
        return None
    if not _are_options(parts.query, has_tls=_SCHEMES[parts.scheme] == "rediss"):
        # None is named: what looks like one may be a part of a password.
        findings.fault(
            place, f"may have the options {', '.join(sorted(_OPTIONS | _TLS_OPTIONS))}; ssl_… with rediss only"
        )
        return None
    if not installed("redis"):
        findings.fault(place, f"needs the extra `redis`: {install_advice('redis')}")
        return None
    return RedisPlace(_SCHEMES[parts.scheme] + url[len(parts.scheme) :], **more)


def _are_options(query: str, *, has_tls: bool) -> bool:
    """Whether a URL's options are such as are taken here."""
    taken = _OPTIONS | _TLS_OPTIONS if has_tls else _OPTIONS
    return all(
        name in taken and (name != "db" or value.isdecimal()) and value in _VALUES.get(name, (value,))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )


def _of_litellm(place: str, keys: Mapping[str, Any]) -> tuple[str, str] | None:
    """The URL that LiteLLM's keys come to, and where it is written; None where they name no server."""
    if url := keys.get("redis_url"):
        return f"{place}.redis_url", str(url).strip()
    if not (host := keys.get("redis_host")):
        return None
    scheme = "rediss" if str(keys.get("redis_ssl", "")).lower() in ("true", "1", "yes", "on") else "redis"
    user, password = (quote(str(keys.get(f"redis_{one}") or ""), safe="") for one in ("username", "password"))
    login = f"{user}:{password}@" if user or password else ""
    named = f"[{host}]" if ":" in str(host) else str(host)
    port, number = keys.get("redis_port") or 6379, keys.get("redis_db") or 0
    return f"{place}.redis_host", f"{scheme}://{login}{named}:{port}/{number}"
