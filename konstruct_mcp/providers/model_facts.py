"""What routing and budgets have to know of a deployment's model: prices, windows, capabilities."""

from __future__ import annotations

from konstruct_mcp.config.model import Config, Deployment, entry
from konstruct_mcp.providers.prices import rates_of
from konstruct_mcp.providers.quotes import longest_answer, unboundable
from konstruct_mcp.routing.facts import Facts

# Our name of a capability → the field of the tables.
_CAPABILITIES = {
    "tools": "supports_function_calling",
    "vision": "supports_vision",
    "pdf": "supports_pdf_input",
    "structured_output": "supports_response_schema",
}


def facts_of(deployment: Deployment) -> Facts:
    """The facts of a deployment's model: the config's, and the model tables' where the config has none."""
    known, rates = entry(deployment), rates_of(deployment)
    supports = {ours: bool(known.get(theirs, False)) for ours, theirs in _CAPABILITIES.items()} if known else {}
    return Facts(
        input_cost=rates.shown("input_cost_per_token"),
        output_cost=rates.shown("output_cost_per_token"),
        free=rates.are_zero,
        context_window=deployment.context_window or known.get("max_input_tokens"),
        longest_answer=longest_answer(deployment),
        retires=known.get("deprecation_date"),
        supports=supports | dict(deployment.supports),
        unboundable=unboundable(deployment, rates),
    )


def facts_by_id(config: Config) -> dict[str, Facts]:
    """The facts of every deployment of a config, by its id."""
    return {id_: facts_of(deployment) for id_, deployment in config.deployments.items()}
