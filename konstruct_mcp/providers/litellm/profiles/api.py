"""Which API a deployment is asked through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from konstruct_mcp.config.model import Deployment

Api = Literal["openai", "responses", "anthropic", "converse", "gemini", "cohere"]
"""OpenAI's chat completions and all that imitates them; OpenAI's Responses API; Anthropic's messages; Bedrock's
Converse; Gemini's generateContent; Cohere's chat. Ollama, which has an API of its own, counts as `openai` here."""


def api_of(deployment: Deployment, entry: Mapping[str, Any]) -> Api:
    """The API of a deployment, by its provider and by the model behind its name."""
    provider, model = provider_and_model(deployment)
    behind = model_behind(deployment)
    if provider == "anthropic":
        return "anthropic"
    if provider == "bedrock" and is_converse(model, entry):
        return "converse"
    if provider in ("bedrock", "vertex_ai", "azure_ai") and "claude" in behind:
        return "anthropic"
    if provider == "gemini" or (provider.startswith("vertex_ai") and "gemini" in behind):
        return "gemini"
    if provider in ("cohere", "cohere_chat"):
        return "cohere"
    if provider in ("openai", "azure") and (entry.get("mode") == "responses" or model.startswith("responses/")):
        return "responses"
    return "openai"


def is_converse(model: str, entry: Mapping[str, Any]) -> bool:
    """Whether a model of Bedrock is asked through Converse."""
    route = model.partition("/")[0]
    if route in ("converse", "converse_like"):
        return True
    return route != "invoke" and entry.get("litellm_provider") == "bedrock_converse"


def provider_and_model(deployment: Deployment) -> tuple[str, str]:
    """The two parts of `provider/model`."""
    provider, _, model = deployment.model.partition("/")
    return provider, model


def model_behind(deployment: Deployment) -> str:
    """The model without its provider: `base_model` where the config gives one for a name of the user's own."""
    provider, model = provider_and_model(deployment)
    base = deployment.params.get("base_model")
    return base.removeprefix(f"{provider}/") if isinstance(base, str) and base else model
