"""The section `konstruct.metrics`: where Prometheus finds the metrics of a server over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import field_validator

from konstruct_mcp.config.sections import Section

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """How metrics are offered.

    Attributes:
        listen: `host:port`; None where they are not offered.
        by_tenant: whether there are counters with the tenant as a label.
    """

    listen: str | None = "127.0.0.1:9321"
    by_tenant: bool = False

    @property
    def address(self) -> tuple[str, int] | None:
        """The host, without the brackets of an IPv6 address, and the port."""
        if self.listen is None:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class MetricsSection(Section):
    model_config = Section.model_config | {"extra": "forbid"}

    listen: str = "127.0.0.1:9321"
    by_tenant: bool = False

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        is_port = port.isascii() and port.isdecimal() and int(port[:6]) <= _LAST_PORT
        if value != "off" and not (host and is_port):
            raise ValueError("should be host:port, or off")
        return value

    def settings(self) -> MetricsSettings:
        return MetricsSettings(None if self.listen == "off" else self.listen, self.by_tenant)
