"""The section `konstruct.http`: how MCP is served over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from konstruct_mcp.config.sections import Section


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How MCP is served over HTTP.

    Attributes:
        host, port: where it listens.
        path: of the MCP endpoint.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    path: str = "/mcp"


class HttpSection(Section):
    model_config = Section.model_config | {"extra": "forbid"}

    listen: str = "127.0.0.1:8321"
    path: str = "/mcp"

    def settings(self) -> HttpSettings:
        host, _, port = self.listen.rpartition(":")
        return HttpSettings(host.strip("[]"), int(port), self.path)
