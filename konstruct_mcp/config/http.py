"""The section `konstruct.http`: how MCP is served over HTTP."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from konstruct_mcp.config.environment import is_url
from konstruct_mcp.config.sections import Section

DEFAULT_LISTEN = "127.0.0.1:8321"


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How MCP is served over HTTP.

    Attributes:
        host, port: where it listens; port 0 is one that is free.
        path: of the MCP endpoint.
        public_url: the endpoint's address as clients know it, where a proxy stands in front; None: as it listens.
        allowed_hosts: values of the header `Host` beside those of the own address; `*` stands for any.
        allowed_origins: web pages that may ask, as browsers name them (`https://host`); none but those.
        max_body_bytes: of one request.
        max_header_bytes: of one request's first line and headers.
        header_timeout_s, body_timeout_s: in which a request's headers, and then its body, have to come.
        keep_alive_s: for which an idle connection is kept; longer than a load balancer keeps its own.
        pause_s: between being not ready and taking no more connections, at the end: for load balancers to notice.
        drain_s: for which calls under way may go on at the end.
        tls_cert, tls_key: PEM files; None for plain HTTP.
        trusted_proxies: addresses or networks whose `X-Forwarded-*` are believed.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    path: str = "/mcp"
    public_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_body_bytes: int = 64_000_000
    max_header_bytes: int = 65_536
    header_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    pause_s: float = 5.0
    drain_s: float = 30.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)

    @property
    def address(self) -> str:
        """`host:port`, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `:PORT`, `PORT` or `HOST`; `[::1]:8321` for IPv6.

    Raises:
        ValueError: it is none of these.
    """
    host, separator, port = text.strip().rpartition(":")
    if text.strip().endswith("]") or (not separator and not port.isdigit()):
        host, port = text.strip(), DEFAULT_LISTEN.rpartition(":")[2]
    host = host or DEFAULT_LISTEN.rpartition(":")[0]
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("should be HOST:PORT, with an IPv6 address in brackets")
    if (
        not (port.isascii() and port.isdigit() and int(port) < 65536)
        or not host
        or not host.isprintable()
        or " " in host
    ):
        raise ValueError("should be HOST:PORT, with a port up to 65535")
    return host, int(port)


def _address(text: str) -> str:
    parse_address(text)
    return text


def _origin(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if text != "*" and (not separator or not rest or "/" in rest or scheme != scheme.lower()):
        raise ValueError("should be an origin, as browsers send it: https://host or https://host:port")
    return text


def _url(text: str) -> str:
    if not is_url(text) or not re.match(r"https?://[^\s/?#]+[^\s?#]*$", text):
        raise ValueError("should be the endpoint's URL, as clients know it: https://host/mcp")
    return text


def _network(text: str) -> str:
    ipaddress.ip_network(text, strict=False)
    return text


def _path(text: str) -> str:
    path = text.rstrip("/")
    if not path.startswith("/") or path.startswith(_TAKEN) or any(c in path for c in "?#{} "):
        raise ValueError("should be a path such as /mcp, and none that the server has for something else")
    return path


# The probes, the metadata of RFC 9728, and the operators' page.
_TAKEN = ("/healthz", "/readyz", "/.well-known/", "/login", "/logout", "/charts.js")
_DEFAULTS = HttpSettings()
_Time = Annotated[float, Field(ge=0, le=3600)]


class HttpSection(Section):
    """`konstruct.http`; see `HttpSettings`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    listen: Annotated[str, AfterValidator(_address)] = DEFAULT_LISTEN
    path: Annotated[str, AfterValidator(_path)] = _DEFAULTS.path
    public_url: Annotated[str, AfterValidator(_url)] | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()
    max_body_bytes: Annotated[int, Field(ge=10_000, le=2**53)] = _DEFAULTS.max_body_bytes
    max_header_bytes: Annotated[int, Field(ge=4096, le=2**20)] = _DEFAULTS.max_header_bytes
    header_timeout_s: Annotated[_Time, Field(gt=0)] = _DEFAULTS.header_timeout_s
    body_timeout_s: Annotated[_Time, Field(gt=0)] = _DEFAULTS.body_timeout_s
    keep_alive_s: _Time = _DEFAULTS.keep_alive_s
    pause_s: _Time = _DEFAULTS.pause_s
    drain_s: _Time = _DEFAULTS.drain_s
    tls_cert: str | None = None
    tls_key: str | None = None
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ()

    @model_validator(mode="after")
    def _both_tls_files(self) -> HttpSection:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        return self

    def settings(self) -> HttpSettings:
        host, port = parse_address(self.listen)
        given = {
            one.name: getattr(self, one.name) for one in fields(HttpSettings) if one.name in HttpSection.model_fields
        }
        tls = {name: None if given[name] is None else Path(given[name]) for name in ("tls_cert", "tls_key")}
        return HttpSettings(host, port, **given | tls)
