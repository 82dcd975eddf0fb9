"""Where the state is that servers share and that may be lost: a Valkey or Redis server."""

from __future__ import annotations

from dataclasses import dataclass, field

from konstruct_mcp.config.environment import is_file_reference, reference, shown_name
from konstruct_mcp.config.findings import Findings
from konstruct_mcp.config.references import References
from konstruct_mcp.core.text import cut


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A Valkey or Redis server.

    Attributes:
        url: `redis://…` or `rediss://…`. May hold a password.
    """

    url: str = field(repr=False)


def redis_place(given: str | None, references: References, findings: Findings) -> RedisPlace | None:
    """The server that the environment names, else the config; None for none.

    Args:
        given: `konstruct.redis_url`.
        references: the environment.
        findings: where faults go.
    """
    url = references.value("KONSTRUCT_REDIS_URL")
    if url is None:
        place, url = "konstruct.redis_url", (given or "").strip()
        if name := reference(url):
            place, url = f"{place} ({cut(shown_name(name))})", references.value(name) or ""
            if not url and not is_file_reference(name):  # of which the fault is told
                findings.fault(place, "is not set")
    return RedisPlace(url) if url else None
