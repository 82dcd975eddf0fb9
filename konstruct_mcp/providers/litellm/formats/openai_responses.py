"""A conversation in the format of OpenAI's Responses API, which some models are asked through.

LiteLLM's own translation loses the text of a turn that also calls tools, and has no place for a model's reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def input_items(
    messages: Sequence[Mapping[str, Any]], outputs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[list[dict[str, Any]], str | None]:
    """The items of the input, and the instructions.

    Args:
        messages: in OpenAI's chat format.
        outputs: what the model itself had put out in an earlier turn, by the id of the turn's first call.
    """
    items: list[dict[str, Any]] = []
    instructions: list[str] = []
    for message in messages:
        role, content, calls = message["role"], message.get("content"), message.get("tool_calls") or ()
        if role == "system" and not items:
            instructions.append("\n".join(part["text"] for part in _parts(content, "text")))
        elif role == "tool":
            result = content if isinstance(content, str) else _parts(content, "input_text")
            items.append({"type": "function_call_output", "call_id": message["tool_call_id"], "output": result})
        elif calls and (output := outputs.get(calls[0]["id"])) is not None:
            items += _earlier_output(output, [call["id"] for call in calls])
        else:
            if content:
                parts = _parts(content, "output_text" if role == "assistant" else "input_text")
                items.append({"type": "message", "role": role, "content": parts})
            items += ({"type": "function_call", "call_id": call["id"], **call["function"]} for call in calls)
    if not items:  # the API wants at least one
        parts = [{"type": "input_text", "text": text} for text in instructions]
        return [{"type": "message", "role": "system", "content": parts}], None
    return items, "\n\n".join(instructions) or None


def _parts(content: Any, of_text: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": of_text, "text": content}]
    parts = []
    for part in content or ():
        if part["type"] == "image_url":
            image = part["image_url"]
            parts.append({"type": "input_image", "image_url": image["url"], "detail": image.get("detail") or "auto"})
        elif part["type"] == "file":
            parts.append({"type": "input_file", **part["file"]})
        else:
            parts.append({"type": of_text, "text": part["text"]})
    return parts


def _earlier_output(output: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> list[dict[str, Any]]:
    """The output of the model as it was, with the calls under the ids that the results refer to."""
    own = iter(ids)
    return [
        {**item, "call_id": next(own, item.get("call_id"))} if item.get("type") == "function_call" else dict(item)
        for item in output
    ]


def correct_tools(request: dict[str, Any]) -> dict[str, Any]:
    """Correct the tools that LiteLLM has written into a request: the choice of a named one, and `strict`, which is on
    in this API unless it is set."""
    choice = request.get("tool_choice")
    if isinstance(choice, dict) and isinstance(function := choice.get("function"), dict):
        request["tool_choice"] = {"type": "function", "name": function.get("name")}
    for tool in request.get("tools") or ():
        if tool.get("type") == "function" and tool.get("strict") is None:
            tool["strict"] = False
    return request
