"""Putting a model's earlier reasoning back into the history of a conversation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.providers.litellm.reasoning.memory import SIGNATURE
from konstruct_mcp.providers.tried import Recalled

# Models that refuse a turn with calls and without `reasoning_content`, even where they have not reasoned; Kimi refuses
# an empty one too.
_NEEDS_FIELD = re.compile(
    r"^(moonshot|deepseek|openai|custom_openai|hosted_vllm|litellm_proxy)/(.*/)?(?P<family>deepseek|kimi)[^/]*$"
)
_MISSES_FIELD = re.compile(
    r"reasoning_content.{0,80}(missing|must be (passed|provided|present)|passed back)|missing .?reasoning_content",
    re.IGNORECASE,
)
_GEMINI = re.compile(r"^(gemini|vertex_ai(_beta)?)/")


@dataclass(frozen=True, slots=True)
class GivenBack:
    """What became of the reasoning in a conversation.

    Attributes:
        outputs: what the model itself had put out in an earlier turn, by the id of the turn's first call, where it is
            to be seen again as it was.
        is_thoughtless: whether the calls that the last results belong to are without the reasoning before them.
    """

    outputs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    is_thoughtless: bool = False


def give_back(
    messages: list[dict[str, Any]], deployment: Deployment, recalled: Recalled, *, must_think: bool, refusal: str = ""
) -> GivenBack:
    """Put the reasoning that led the deployment to its calls into these messages.

    Args:
        messages: in OpenAI's format; they are changed, and get the further fields that LiteLLM takes in it.
        recalled: the reasoning that is kept.
        must_think: whether the deployment refuses a last turn of calls that begins without thinking, and any thinking
            block while thinking is off.
        refusal: what the deployment has said against the reasoning in the history, or against its absence: then nothing
            is put back, or a placeholder for what it misses.
    """
    turns = [message for message in messages if message.get("tool_calls")]
    if not turns:
        return GivenBack()
    is_gemini = _GEMINI.match(deployment.model)
    if not is_gemini or refusal:  # only Gemini can use them; where one is missing, LiteLLM writes a placeholder
        _drop_signatures(messages)
    outputs: dict[str, Sequence[Mapping[str, Any]]] = {}
    for message, thought in zip(turns, recalled.turns, strict=True):
        found = dict(thought or {})
        if refusal:
            placeholder = _placeholder(refusal, len(message["tool_calls"]))
            # Only what is missing is put back; without a placeholder, nothing.
            found = placeholder and placeholder | {key: value for key, value in found.items() if value}
        if (output := found.pop("output", None)) is not None:
            outputs[message["tool_calls"][0]["id"]] = output
        for call, more in zip(message["tool_calls"], found.pop("extra_content", ()), strict=False):
            call.update({} if more is None else {"extra_content": more})
        if not (found or refusal) and (wanting := _NEEDS_FIELD.match(deployment.model)):
            found = {"reasoning_content": "" if wanting["family"] == "deepseek" else " "}
        message.update(found)
        if message["content"] == "" and is_gemini:
            message["content"] = None  # Gemini refuses an empty text
    last = next(message for message in reversed(messages) if message["role"] == "assistant")
    if not must_think or not last.get("tool_calls") or "thinking_blocks" in last:
        return GivenBack(outputs)
    for message in turns:
        message.pop("thinking_blocks", None)
    return GivenBack(is_thoughtless=True)


def misses_reasoning(refusal: str) -> bool:
    """Whether a refusal is about something that is missing in the history, and not about what is there."""
    return bool(_placeholder(refusal, 1))


def _placeholder(refusal: str, calls: int) -> dict[str, Any]:
    """What takes the place of reasoning that is gone, by the words of the provider that misses it."""
    if _MISSES_FIELD.search(refusal):
        return {"reasoning_content": " "}
    if "missing a thought_signature" in refusal:  # as Google's documentation has it, for calls of another model
        return {"extra_content": [{"google": {"thought_signature": "skip_thought_signature_validator"}}] * calls}
    return {}


def _drop_signatures(messages: Iterable[dict[str, Any]]) -> None:
    """Take Gemini's signatures out of the ids of calls, which are too long for other providers with them."""
    for message in messages:
        for call in message.get("tool_calls") or ():
            call["id"] = call["id"].partition(SIGNATURE)[0]
        if "tool_call_id" in message:
            message["tool_call_id"] = message["tool_call_id"].partition(SIGNATURE)[0]
