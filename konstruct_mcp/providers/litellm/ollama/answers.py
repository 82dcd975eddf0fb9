"""What an answer of Ollama's means."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from konstruct_mcp.providers.litellm.answers.usage import COUNTS_OF_OLLAMA, tokens_of_ollama
from konstruct_mcp.providers.litellm.notes import miscounted
from konstruct_mcp.providers.litellm.ollama.prompt_length import PromptLength
from konstruct_mcp.routing.outcomes import Fault, FaultError, FaultKind

# `done_reason` of a response that is no answer. An answer ends with `stop` or `length`.
_NO_ANSWER = {"load": "it has loaded the model, and nothing else", "unload": "it has unloaded the model"}


def completion(answer: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in OpenAI's format; without a choice where there is no message in it.

    Raises:
        FaultError: it is not known to be whole.
    """
    if not isinstance(answer, dict):
        raise FaultError(Fault(FaultKind.BAD_ANSWER))
    reason = answer.get("done_reason") or "stop"
    if reason in _NO_ANSWER or answer.get("done") is not True:
        raise FaultError(Fault(FaultKind.BAD_ANSWER, _NO_ANSWER.get(str(reason), "broken off")))
    if reason not in ("stop", "length"):
        raise FaultError(Fault(FaultKind.BAD_ANSWER, "ended for an unknown reason"))
    most, written = (body.get("options") or {}).get("num_predict"), answer.get("eval_count")
    if "done_reason" not in answer and isinstance(most, int) and isinstance(written, int) and 0 < most <= written:
        reason = "length"  # servers of 2024 did not say so
    choices = []
    if isinstance(message := answer.get("message"), dict):
        calls = [_tool_call(call) for call in message.get("tool_calls") or ()]
        said = {"role": "assistant", "content": message.get("content"), "tool_calls": calls or None}
        if thinking := message.get("thinking"):
            said["reasoning_content"] = thinking
        choices = [
            {"index": 0, "message": said, "finish_reason": "tool_calls" if calls and reason == "stop" else reason}
        ]
    sent, answered = tokens_of_ollama(answer) or (0, 0)
    usage = {"prompt_tokens": sent, "completion_tokens": answered}
    return {"model": body["model"], "choices": choices, "usage": usage}


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function.get("arguments")
    return {
        "id": call.get("id") or "",
        "type": "function",
        "function": {
            "name": function.get("name"),
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False),
        },
    }


def notes_on_answer(
    answer: Mapping[str, Any], body: Mapping[str, Any], length: PromptLength, window: int | None
) -> tuple[str, ...]:
    """Notes where the counts of an answer cannot be used, or say that the model has not read all of the prompt.

    Args:
        body: of the request.
        length: of the prompt.
        window: the `num_ctx` that was sent.
    """
    bad = () if tokens_of_ollama(answer) else (miscounted(f"ollama/{body['model']}"),)
    return (*_cut(answer, length, window), *bad)


def _cut(answer: Any, length: PromptLength, window: int | None) -> Iterator[str]:
    """Notes on a prompt of which the model has read less than was sent, by what the server has counted."""
    read, written = (answer.get(name) if isinstance(answer, dict) else None for name in COUNTS_OF_OLLAMA)
    if not isinstance(read, int) or read <= 0:
        return
    size = "" if window is None else f" (num_ctx {window})"
    if (window is not None and read >= window) or (2 * length.estimate > 3 * read and length.at_least > read):
        yield f"the prompt was cut: the model has read {read} tokens of it{size}, and it has more"
    elif window is not None and isinstance(written, int) and read + written > window:
        yield f"the answer was written without the beginning in sight: {read + written} tokens in all{size}"


def attach_notes(response: Any, notes: tuple[str, ...]) -> None:
    """Attach notes to a response of LiteLLM's."""
    response._hidden_params["notes"] = notes


def notes_of(response: Any) -> tuple[str, ...]:
    """The notes that were attached to a response of LiteLLM's."""
    return tuple((getattr(response, "_hidden_params", None) or {}).get("notes") or ())
