"""A conversation in OpenAI's format, as far as the deployment's API has a place for it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import dropwhile
from typing import Any

from konstruct_mcp.core.messages import Message
from konstruct_mcp.providers.litellm.notes import not_taken
from konstruct_mcp.providers.litellm.profiles.profile import ModelProfile

_SPEAKER = re.compile(r"[A-Za-z0-9_-]{1,64}")  # OpenAI refuses any other `name` of a message
_MOST_CACHE_POINTS = 3  # Anthropic takes four; one is left for a config that has it cache by itself
_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")


def messages_for(messages: Sequence[Message], profile: ModelProfile) -> list[dict[str, Any]]:
    """The messages in OpenAI's format, for one deployment."""
    made = [
        _message_for(message, profile) for message in _in_order(messages) if not _is_refused_empty(message, profile)
    ]
    _keep_cache_points(made, _MOST_CACHE_POINTS if profile.takes_cache_points else 0)
    return made


def _keep_cache_points(messages: Sequence[dict[str, Any]], most: int) -> None:
    """Take out all cache points but the last ones: the longest beginning that is cached is what counts."""
    contents = (message["content"] for message in messages if isinstance(message["content"], list))
    points = [part for content in contents for part in content if "cache_control" in part]
    for part in points[: max(0, len(points) - most)]:
        del part["cache_control"]


def notes_on_messages(messages: Sequence[Message], profile: ModelProfile) -> tuple[str, ...]:
    """What of a conversation has no place in the deployment's API, one line each."""
    return tuple(_left_out(messages, profile))


def _message_for(message: Message, profile: ModelProfile) -> dict[str, Any]:
    made = message.model_dump(exclude_none=True, by_alias=True)
    if message.role == "tool" or not _takes_name(message, profile):
        made.pop("name", None)  # a tool's is in the call
    if profile.is_mistral:
        for call in made.get("tool_calls", ()):
            call["id"] = _mistral_id(call["id"])
        if "tool_call_id" in made:
            made["tool_call_id"] = _mistral_id(made["tool_call_id"])
            if not message.content:  # LiteLLM would leave out the whole message
                made["content"] = [{"type": "text", "text": ""}]
    if profile.api == "openai":
        reads_parts = profile.is_openais_own
    else:
        reads_parts = profile.api != "gemini" or message.role == "user"
    has_cache_point = profile.takes_cache_points and _has_cache_point(message)
    if isinstance(message.content, list) and not (reads_parts or has_cache_point or _has_media(message)):
        # Some servers do not read a list of texts, every server reads one text; for Gemini LiteLLM joins them without
        # a space.
        made["content"] = "\n".join(part.text or "" for part in message.content)
    for call in made.get("tool_calls", ()):
        if profile.api == "converse":
            call["function"]["name"] = _bedrock_name(call["function"]["name"])
        # Some models write no arguments for a tool without parameters; some servers do not read that.
        if not call["function"]["arguments"].strip():
            call["function"]["arguments"] = "{}"
    made.setdefault("content", None)  # providers want the key, even beside tool calls alone
    return made


def _in_order(messages: Sequence[Message]) -> Iterator[Message]:
    """The messages with the results of each turn in the order of its calls: Gemini and most chat templates match
    results to calls by their order, not by id."""
    order: dict[str | None, int] = {}
    results: list[Message] = []
    for message in messages:
        if message.role == "tool":
            results.append(message)
            continue
        yield from sorted(results, key=lambda result: order.get(result.tool_call_id, len(order)))
        order, results = {call.id: place for place, call in enumerate(message.tool_calls or ())}, []
        yield message
    yield from sorted(results, key=lambda result: order.get(result.tool_call_id, len(order)))


def _is_refused_empty(message: Message, profile: ModelProfile) -> bool:
    """Whether this is an empty turn of the assistant, which Gemini and Mistral refuse."""
    is_empty = message.role == "assistant" and not (message.content or message.tool_calls)
    return is_empty and (profile.api == "gemini" or profile.is_mistral)


def _left_out(messages: Sequence[Message], profile: ModelProfile) -> Iterator[str]:
    roles = [message.role for message in dropwhile(_is_system, messages)]
    if profile.api in ("anthropic", "converse", "gemini") and not {"system", "developer"}.isdisjoint(roles):
        yield f"what the system says later was put at the beginning: {profile.name} takes it nowhere else"
    if any(message.name and message.role != "tool" and not _takes_name(message, profile) for message in messages):
        yield not_taken("name", profile.name)


def _takes_name(message: Message, profile: ModelProfile) -> bool:
    """Whether the message's `name` can be sent."""
    has_place = profile.api == "openai" and not profile.is_mistral and profile.provider not in ("ollama", "xai")
    return has_place and _SPEAKER.fullmatch(message.name or "") is not None


def _has_media(message: Message) -> bool:
    return isinstance(message.content, list) and any(part.media is not None for part in message.content)


def _has_cache_point(message: Message) -> bool:
    return isinstance(message.content, list) and any(part.cache_control is not None for part in message.content)


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")


def _mistral_id(id_: str) -> str:
    """An id of a call as Mistral wants it, nine letters or digits; equal for equal ids."""
    return id_ if _MISTRAL_ID.fullmatch(id_) else hashlib.sha256(id_.encode()).hexdigest()[:9]


def _bedrock_name(name: str) -> str:
    """The name of a called tool without characters that Bedrock refuses: another model may have called it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]
