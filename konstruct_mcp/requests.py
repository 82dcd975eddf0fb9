"""What a request becomes for one deployment: the arguments of LiteLLM's call, and nothing that the caller did not ask
for."""

from __future__ import annotations

import re
from typing import Any

from .config import Deployment, is_price
from .types import Message, Request

# LiteLLM's last resort against a stuck socket. Ours ends the try first, at the deployment's own time-out: LiteLLM
# counts per read, so an answer that dribbles would outlive it.
_BACKSTOP_S = 5.0
_SPEAKER = re.compile(r"[A-Za-z0-9_-]{1,64}")


def litellm_params(deployment: Deployment) -> dict[str, Any]:
    # Prices are reckoned with here: LiteLLM notes them under the model's name, for every deployment in the process.
    params = {key: value for key, value in deployment.params.items() if not is_price(key)}
    provider, _, name = deployment.model.partition("/")
    if provider == "ollama":
        # Through Ollama's OpenAI endpoint: LiteLLM's own Ollama providers lose tool history, emulate tools in the
        # prompt, and report every failure as the same connection error.
        base = str(params.get("api_base", "")).rstrip("/").removesuffix("/v1")
        params |= {"model": f"openai/{name}", "api_base": f"{base}/v1"}
        params.setdefault("api_key", "ollama")  # any: Ollama asks for none, the client insists on one
    elif provider == "embedded":
        params |= {"model": f"openai/{name}", "api_base": "http://127.0.0.1", "api_key": "set for each call"}
    return params | {"timeout": deployment.timeout_s + _BACKSTOP_S, "max_retries": 0}


def options(deployment: Deployment, request: Request) -> dict[str, Any]:
    """The request's parameters, and nothing else: LiteLLM hands on whatever it does not know."""
    options = request.model_dump(
        include={"tools", "tool_choice", "response_format", "max_tokens", "temperature"},
        exclude_none=True,
        by_alias=True,
    )
    if "tools" not in options:
        options.pop("tool_choice", None)  # only "none" can be left, and a provider refuses it without tools
    if deployment.model.startswith("anthropic/") and "tools" not in options:
        # Anthropic refuses a history with tool calls unless the request defines tools.
        called = {call.function.name: None for message in request.messages for call in message.tool_calls or ()}
        if called:  # whatever the choice was: there is nothing to choose from
            parameters = {"type": "object", "properties": {}}
            options["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": parameters}} for name in called
            ]
            options["tool_choice"] = "none"
    return options


def plain(message: Message) -> dict[str, Any]:
    plain = message.model_dump(exclude_none=True, by_alias=True)
    if message.role == "tool" or not _SPEAKER.fullmatch(message.name or ""):
        plain.pop("name", None)  # a tool's is in the call; what has other letters is refused as a name
    plain.setdefault("content", None)  # providers want the key, even beside tool calls alone
    return plain
