"""The entry of LiteLLM's Router for a deployment: which provider is asked, where, and with which credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.config.model_fields import is_price
from konstruct_mcp.providers.litellm.ollama.requests import address
from konstruct_mcp.providers.litellm.profiles.api import is_converse
from konstruct_mcp.providers.litellm.profiles.limits import without_limits
from konstruct_mcp.providers.litellm.profiles.profile import SHAPED
from konstruct_mcp.providers.litellm.transport import TRANSPORT

# LiteLLM's last resort against a stuck socket. Ours ends the try first, at the deployment's own time-out: LiteLLM
# counts per read, so an answer that dribbles would outlive it.
_BACKSTOP_S = 5.0
OLLAMA = "konstruct_ollama"  # the name under which LiteLLM knows our provider for Ollama's own format
# The settings of an Ollama deployment that LiteLLM needs; the others are in the body of each request.
_KEPT_FOR_OLLAMA = ("api_base", "api_key", "extra_headers")
# What LiteLLM calls a `project` of these providers; OpenAI's is a header, and any other's is ignored.
_PROJECT_KEYS = {
    "vertex_ai": "vertex_project",
    "vertex_ai_beta": "vertex_project",
    "watsonx": "project_id",
    "watsonx_text": "project_id",
}


def litellm_params(deployment: Deployment, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The Router's `litellm_params` of a deployment: without all that is put into each request.

    Args:
        entry: what is known of the model, in the words of LiteLLM's table.
    """
    # Without prices: LiteLLM registers them under the model's name, for every deployment in the process.
    params = {
        key: value
        for key, value in without_limits(deployment.params).items()
        if not (is_price(key) or key in SHAPED or key in TRANSPORT or key == "allowed_openai_params")
    }
    provider, _, name = deployment.model.partition("/")
    params = _with_headers(params, provider, is_responses=entry.get("mode") == "responses")
    if provider == "ollama":
        # Through our own provider: LiteLLM's two lose tool history or emulate tools in the prompt, and report every
        # failure as the same connection error; Ollama's `/v1` ignores most settings.
        params = {key: value for key, value in params.items() if key in _KEPT_FOR_OLLAMA}
        params |= {"model": f"{OLLAMA}/{name}", "api_base": address(params.get("api_base"))}
    elif provider == "embedded":
        params |= {"model": f"openai/{name}", "api_base": "http://127.0.0.1", "api_key": "set for each call"}
    elif provider == "bedrock" and is_converse(name, entry) and not name.startswith("converse"):
        params["model"] = f"bedrock/converse/{name}"  # LiteLLM decides by name which models it asks through Converse
    elif provider == "mistral" and "seed" in params:
        params["random_seed"] = params.pop("seed")  # Mistral's name for it; LiteLLM loses `seed` on the way
    elif provider in ("openai", "azure") and entry.get("mode") == "responses" and not name.startswith("responses/"):
        params["model"] = f"{provider}/responses/{name}"
    return params | {"timeout": deployment.timeout_s + _BACKSTOP_S, "max_retries": 0}


def _with_headers(params: dict[str, Any], provider: str, *, is_responses: bool) -> dict[str, Any]:
    """The parameters with those settings as headers that LiteLLM would put into the body, or lose."""
    headers: dict[str, Any] = {}
    if isinstance(given := params.pop("default_headers", None), Mapping):
        headers |= given
    if (project := params.pop("project", None)) is not None:
        if provider == "openai":
            headers["OpenAI-Project"] = project
        elif provider in _PROJECT_KEYS:
            params = {_PROJECT_KEYS[provider]: project, **params}
    if is_responses and provider == "openai" and (organization := params.get("organization")) is not None:
        headers["OpenAI-Organization"] = organization
    params.pop("api_type", None)
    if not headers:
        return params
    more = params.get("extra_headers")
    return params | {"extra_headers": headers | dict(more if isinstance(more, Mapping) else {})}
