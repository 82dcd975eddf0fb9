"""What a request becomes for Ollama's `/api/chat`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.config.model_fields import is_price
from konstruct_mcp.providers.litellm.notes import not_taken
from konstruct_mcp.providers.litellm.transport import TRANSPORT

# Keys of `litellm_params` that are no options of Ollama: they say how to call, or have a place of their own.
_NOT_OPTIONS = frozenset(
    {"model", "api_base", "base_url", "api_key", "api_version", "api_type", "organization", "project", "base_model"}
    | {"custom_llm_provider"}
    | {"timeout", "max_retries", "num_retries", "extra_headers", "headers", "default_headers", "region_name"}
    | {"drop_params", "additional_drop_params", "allowed_openai_params", "merge_reasoning_content_in_choices"}
    | {"extra_body", "options", "reasoning_effort", "thinking"}
    | TRANSPORT
)
_NO_THINKING = ("none", "disable", False)  # words of `reasoning_effort` for no thinking
_OUTSIDE_OPTIONS = frozenset({"keep_alive", "think", "format", "truncate", "shift"})
# Parameters of OpenAI's that Ollama has nothing for.
_NOT_TAKEN = frozenset(
    {"logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls", "service_tier", "store", "verbosity"}
    | {"modalities", "prediction", "audio", "web_search_options", "safety_identifier", "prompt_cache_key"}
)


@dataclass(frozen=True, slots=True)
class OllamaRequest:
    """A request for Ollama.

    Attributes:
        body: for `/api/chat`.
        places: where in `body` each parameter stands that could be left out, by the parameter's name in a config.
        notes: what was left out, one line each.
    """

    body: dict[str, Any]
    places: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def address(api_base: object) -> str:
    """The address of the server, from one with or without the path of an endpoint."""
    base = str(api_base or "").rstrip("/")
    for path in ("/api/chat", "/api/generate", "/api", "/v1"):
        base = base.removesuffix(path)
    return base.rstrip("/")


def prepare(
    deployment: Deployment,
    settings: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]],
    asked: Mapping[str, Any],
    limit: int | None,
) -> OllamaRequest:
    """The request for Ollama.

    Args:
        settings: the deployment's litellm_params without output limits.
        messages: in OpenAI's format.
        asked: tools, tool_choice, response_format and temperature of the request, in OpenAI's format.
        limit: tokens that the answer may have; None where the config or the model decides.
    """
    settings = {key: value for key, value in settings.items() if not is_price(key)}
    places: dict[str, tuple[str, ...]] = {}
    body: dict[str, Any] = {
        "model": deployment.model.partition("/")[2],
        "messages": list(_history(messages)),
        "stream": False,
        # Servers that know these refuse a prompt that is too long, or end the answer; older ones go on cutting.
        "truncate": False,
        "shift": False,
    }
    if asked.get("tools") and asked.get("tool_choice") != "none":
        body["tools"], places["tools"] = asked["tools"], ("tools",)
    if (answer_format := _format(asked.get("response_format"))) is not None:
        body["format"], places["response_format"] = answer_format, ("format",)
    if (think := _think(settings, body["model"])) is not None:
        body["think"] = think
        places["thinking" if settings.get("reasoning_effort") is None else "reasoning_effort"] = ("think",)
    for key, value in settings.items():
        if key in _OUTSIDE_OPTIONS:
            body[key] = _number(value) if key == "keep_alive" else value
            places[key] = (key,)
    options = _options(deployment, settings, asked.get("temperature"), limit)
    if limit is not None:
        places["max_tokens"] = ("options", "num_predict")
    if options:
        body["options"] = options
        places |= {name: ("options", name) for name in options}
    if isinstance(more := settings.get("extra_body"), Mapping):
        if isinstance(of_more := more.get("options"), Mapping):
            more = {**more, "options": {**options, **of_more}}
        body |= more
    left_out = () if settings.get("drop_params") else sorted(_NOT_TAKEN & settings.keys())
    return OllamaRequest(body, places, tuple(not_taken(name, deployment.name) for name in left_out))


def _options(
    deployment: Deployment, settings: Mapping[str, Any], temperature: float | None, limit: int | None
) -> dict[str, Any]:
    """Ollama's `options`: every setting that has no place elsewhere, and the config's own `options`."""
    apart = _OUTSIDE_OPTIONS | _NOT_OPTIONS | _NOT_TAKEN
    options = {key: _option(key, value) for key, value in settings.items() if key not in apart}
    if isinstance(given := settings.get("options"), Mapping):
        options |= {key: _option(key, value) for key, value in given.items()}
    if temperature is not None:
        options["temperature"] = temperature
    if limit is not None:
        options["num_predict"] = limit
        return options
    for place in (deployment.params, deployment.params.get("options")):  # -1 and -2 there mean no limit
        if isinstance(place, Mapping) and "num_predict" in place:
            options["num_predict"] = _option("num_predict", place["num_predict"])
    return options


def _history(messages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    names: dict[str, str] = {}  # of the tools that were called, by the id of the call
    for message in messages:
        role, content = message["role"], message.get("content")
        made: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": content or ""}
        if isinstance(content, list):
            made["content"] = "\n".join(part["text"] for part in content if part["type"] == "text")
            images = [part["image_url"]["url"].partition(",")[2] for part in content if part["type"] == "image_url"]
            if images:
                made["images"] = images
        if isinstance(thinking := message.get("reasoning_content"), str) and thinking:
            made["thinking"] = thinking
        if calls := message.get("tool_calls"):
            made["tool_calls"] = [_earlier_call(call) for call in calls]
            names |= {call["id"]: call["function"]["name"] for call in calls}
        if role == "tool":
            made["tool_call_id"] = message["tool_call_id"]
            if name := names.get(message["tool_call_id"]):
                made["tool_name"] = name
        yield made


def _earlier_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call in the history. Ollama wants its arguments as an object: a text that is none, because it was cut, becomes
    the value of one."""
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"arguments": function["arguments"]}
    return {"id": call["id"], "function": {"name": function["name"], "arguments": arguments}}


def _format(response_format: Any) -> Any:
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return schema
        case {"type": "json_object" | "json_schema"}:
            return "json"
    return None


def _think(params: Mapping[str, Any], model: str) -> bool | str | None:
    """Whether the model is to think, or how hard: gpt-oss takes low, medium or high, the others true or false. None
    where the config does not say."""
    effort, thinking = params.get("reasoning_effort"), params.get("thinking")
    if isinstance(effort, Mapping):
        effort = effort.get("effort")
    if effort is None and isinstance(thinking, Mapping):
        effort = "none" if thinking.get("type") == "disabled" else "medium"
    if effort is None:
        return None
    never = effort in _NO_THINKING
    if not model.rpartition("/")[2].startswith("gpt-oss"):
        return not never
    # gpt-oss takes any other word, and false, for medium.
    return "low" if never or effort in ("minimal", "low") else "medium" if effort == "medium" else "high"


def _option(key: str, value: Any) -> Any:
    if key == "stop":
        return [value] if isinstance(value, str) else value
    return _number(value)


def _number(value: Any) -> Any:
    """A text from the environment as the number that it is, since Ollama takes no text for a number; any other value as
    it is."""
    if isinstance(value, str):
        try:
            read = json.loads(value)
        except ValueError:
            return value
        return read if isinstance(read, int | float) else value
    return value
