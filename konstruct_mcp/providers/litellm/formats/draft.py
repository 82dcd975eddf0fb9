"""A request under preparation: what the steps in `requests.prepare` share and fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.requests import Request
from konstruct_mcp.providers.litellm.notes import not_taken
from konstruct_mcp.providers.litellm.profiles.profile import ModelProfile


class UnfitError(Exception):
    """A deployment cannot do what the request means; the text ends the sentence that its name begins."""


@dataclass(slots=True)
class Draft:
    """A request under preparation for one deployment.

    Attributes:
        imitates_openai: whether the provider only imitates OpenAI's API: LiteLLM then decides by the model's name which
            parameters go out.
        limit: the output limit in tokens; None where none is sent.
        messages: in OpenAI's format.
        outputs: what the model itself had put out in an earlier turn, by the id of the turn's first call.
        options: LiteLLM's arguments.
        body: what is laid over the body that LiteLLM makes.
        schemas: parameters of tools that LiteLLM would cut, by the tool's name.
        notes: what was left out or is done in another way, one line each.
        system: instructions of ours that go before the messages.
        thinks: whether the model thinks during this request.
        claude_thinking: Anthropic's `thinking`; None where it is not sent.
        in_words: whether JSON is asked for in the prompt.
    """

    deployment: Deployment
    profile: ModelProfile
    request: Request
    imitates_openai: bool
    limit: int | None
    messages: list[dict[str, Any]]
    thinks: bool
    claude_thinking: Mapping[str, Any] | None
    notes: list[str]
    outputs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    schemas: dict[str, Any] = field(default_factory=dict)
    system: list[str] = field(default_factory=list)
    in_words: bool = False

    @property
    def has_cache_points(self) -> bool:
        """Whether a part of a message says that the provider is to cache what stands up to there."""
        contents = (message.get("content") for message in self.messages)
        return any("cache_control" in part for content in contents if isinstance(content, list) for part in content)

    def note_left_out(self, parameter: str) -> None:
        """Note that a parameter is left out because the deployment does not take it."""
        self.notes.append(not_taken(parameter, self.profile.name))

    def stop_thinking(self) -> None:
        """Have the model not think, which some models only do when told so."""
        self.thinks = False
        self.claude_thinking = {"type": "disabled"} if self.profile.entry.get("thinking_on_by_default") else None

    def add_model_fields(self, fields: Mapping[str, Any]) -> None:
        """Add fields that Bedrock hands on to the model as they are."""
        self.body["additionalModelRequestFields"] = {**self.body.get("additionalModelRequestFields", {}), **fields}


def merged(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with `over` laid over it, object by object; a null in `over` takes the key out."""
    laid = dict(below)
    for key, value in over.items():
        beneath = laid.get(key)
        if value is None:
            laid.pop(key, None)
            continue
        laid[key] = merged(beneath, value) if isinstance(value, Mapping) and isinstance(beneath, Mapping) else value
    return laid
