"""How many parts an answer may have that LiteLLM is given, which handles each on the event loop."""

from __future__ import annotations

import json
from typing import Any

from konstruct_mcp.providers.litellm.answers.fields import objects_in, text_in

MOST_OF_AN_ERROR = 8_000  # characters; no more of it is looked at
# Far above what models do: none makes more than 128 calls at once. Far below what takes LiteLLM long: it needs half a
# millisecond for a call.
_MOST_PIECES = 256  # of an answer: choices, calls, and what is output beside text
_MOST_OBJECTS = 3_000  # blocks of text, sources
_MOST_VALUES = 20_000  # the arguments of a call included
_DEEPEST = 100
# Keys of lists of pieces, in all formats; keys of one piece; keys of a call's arguments, which are handed on as they
# are; and keys of what is said of each token, for which LiteLLM needs a second, and which nobody reads.
_PIECE_LISTS = ("choices", "candidates", "output", "tool_calls")
_PIECE_KEYS = ("functionCall", "toolUse")
_ARGUMENT_KEYS = ("input", "args", "arguments")
_PER_TOKEN_KEYS = ("logprobs", "prompt_logprobs", "logprobsResult", "token_ids", "prompt_token_ids")


def lightened(content: bytes) -> bytes | None:
    """A long body without what it says of each token, and with errors cut to what is looked at.

    None where it holds more than any model's answer, or is nested deeper. A body that is no JSON stays as it is.
    """
    try:
        answer = json.loads(content)
    except RecursionError:
        return None
    except ValueError:
        return content
    pieces = objects = values = 0
    is_changed = _drop_echoed_tools(answer)
    # Each with its depth, and whether it is part of a call's arguments.
    waiting: list[tuple[Any, int, bool]] = [(answer, 1, False)] if isinstance(answer, dict | list) else []
    while waiting:
        value, depth, is_argument = waiting.pop()
        if depth > _DEEPEST:
            return None
        if isinstance(value, dict):
            if not is_argument:
                objects += 1
                pieces += any(name in value for name in _PIECE_KEYS) or text_in(value.get("type")).endswith("tool_use")
                for name in _PER_TOKEN_KEYS:
                    is_changed |= value.pop(name, None) is not None
                pieces += sum(len(objects_in(value.get(name))) for name in _PIECE_LISTS)
            inner = [(item, depth + 1, is_argument or name in _ARGUMENT_KEYS) for name, item in value.items()]
        else:
            inner = [(item, depth + 1, is_argument) for item in value]
        waiting += [one for one in inner if isinstance(one[0], dict | list)]
        values += len(value)
        if pieces > _MOST_PIECES or objects > _MOST_OBJECTS or values > _MOST_VALUES:
            return None
    for one in answer if isinstance(answer, list) else [answer]:
        if isinstance(one, dict) and isinstance(one.get("error"), str | dict | list):
            one["error"] = _shortened(one["error"])
            is_changed = True
    return json.dumps(answer).encode() if is_changed else content


def _drop_echoed_tools(answer: Any) -> bool:
    """Take out the tools of the request, which may be many and which the Responses API repeats. Returns whether there
    were any."""
    whole = answer.get("response", answer) if isinstance(answer, dict) else None
    if not isinstance(whole, dict) or not isinstance(whole.get("output"), list) or not whole.get("tools"):
        return False
    whole["tools"] = []
    return True


def _shortened(error: Any) -> Any:
    if isinstance(error, str):
        return error[:MOST_OF_AN_ERROR]
    if isinstance(error, dict):
        return {key: _shortened(value) for key, value in error.items()}
    return [_shortened(value) for value in error] if isinstance(error, list) else error
