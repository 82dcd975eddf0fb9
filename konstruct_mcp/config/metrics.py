"""The section `konstruct.metrics`: where Prometheus finds the metrics of a server over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from konstruct_mcp.config.sections import Section


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """How metrics are offered.

    Attributes:
        listen: `host:port`.
        by_tenant: whether counters have the tenant as a label.
    """

    listen: str = "127.0.0.1:9321"
    by_tenant: bool = False


class MetricsSection(Section):
    model_config = Section.model_config | {"extra": "forbid"}

    listen: str = "127.0.0.1:9321"
    by_tenant: bool = False

    def settings(self) -> MetricsSettings:
        return MetricsSettings(self.listen, self.by_tenant)
