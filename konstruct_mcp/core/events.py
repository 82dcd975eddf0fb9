"""What happens, as frozen values for metrics and traces. They hold no secret and no text of a caller or a provider."""

from __future__ import annotations

from dataclasses import dataclass

from konstruct_mcp.core.results import DeploymentState


@dataclass(frozen=True, slots=True)
class HealthChange:
    """A deployment cools down after failing too often, or answers again.

    There is one event when it begins to cool down, however often that is prolonged, another when that comes to hold for
    another tenant or for all, and one when it has answered. The end of a cooldown is no event: only an answer shows
    that the deployment is back.

    Attributes:
        deployment: its id in the config. Other entries of the config with the same parameters share its health.
        group: the model group that it belongs to.
        state: `cooling_down` or `ready`.
        reason: the last fault, such as "server error (HTTP 500)".
        retry_after_s: seconds until it is asked again at the latest; None where it is ready.
        tenant: the only tenant for whom this holds; None where it holds for all.
    """

    deployment: str
    group: str
    state: DeploymentState
    reason: str
    retry_after_s: float | None
    tenant: str | None
