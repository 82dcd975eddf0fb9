"""The model groups and the state of their deployments, as users see them."""

from __future__ import annotations

from konstruct_mcp.config.model import Config, Deployment
from konstruct_mcp.core.results import DeploymentStatus, GroupStatus
from konstruct_mcp.routing.routes import Routes


def group_statuses(config: Config, routes: Routes, tenant: str | None) -> list[GroupStatus]:
    """Every group, with the state of its deployments as a tenant sees it, or, for None, the operator. Asks nobody."""
    return [
        GroupStatus(
            name=group.name,
            description=group.description,
            fallbacks=group.fallbacks,
            deployments=tuple(_status(deployment, routes, tenant) for deployment in group.deployments),
            alias_of=group.alias_of,
        )
        for group in config.groups.values()
    ]


def _status(deployment: Deployment, routes: Routes, tenant: str | None) -> DeploymentStatus:
    facts = routes.facts(deployment)
    state, reason = routes.state(deployment, tenant)
    return DeploymentStatus(
        model=deployment.model,
        state=state,
        reason=reason,
        input_usd_per_million=_per_million(facts.input_cost),
        output_usd_per_million=_per_million(facts.output_cost),
        context_window=facts.context_window,
        supports=tuple(name for name, supported in facts.supports.items() if supported),
        max_output_tokens=facts.longest_answer,
        retires=facts.retires,
    )


def _per_million(cost: float | None) -> float | None:
    # Ten digits are more than any price has, and take back what the multiplication added.
    return None if cost is None else float(f"{cost * 1_000_000:.10g}")
