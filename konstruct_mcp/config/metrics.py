"""The section `konstruct.metrics`: where Prometheus finds the metrics of a server over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ConfigDict, field_validator

from konstruct_mcp.config.http import parse_address
from konstruct_mcp.config.sections import Section

_OFF = "off"


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
        """The host, without the brackets of an IPv6 address, and the port; None where metrics are not offered."""
        return None if self.listen is None else parse_address(self.listen)


class MetricsSection(Section):
    model_config = ConfigDict(extra="forbid", defer_build=True)

    listen: str = "127.0.0.1:9321"
    by_tenant: bool = False

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value != _OFF:
            parse_address(value)
        return value

    def settings(self) -> MetricsSettings:
        return MetricsSettings(None if self.listen == _OFF else self.listen, self.by_tenant)
