"""What comes back, as JSON: the fields that programs rely on."""

from __future__ import annotations

import json

from konstruct_mcp import Attempt, Completion, ToolCall, Usage
from konstruct_mcp.core.messages import FunctionCall

COMPLETION = Completion(
    content="Let me look.",
    tool_calls=(ToolCall(id="call_1", function=FunctionCall(name="weather", arguments='{ "city":"Oslo" }')),),
    finish_reason="tool_calls",
    model_group="quality",
    served_group="fast",
    model="ollama/qwen3:32b",
    attempts=(Attempt("anthropic/claude-sonnet-4-6", "server error (HTTP 500)", 12),),
    usage=Usage(11, 7),
    cost_usd=0.0001,
    duration_ms=345,
)


def test_a_completion_as_json_has_the_fields_of_the_design() -> None:
    assert json.loads(json.dumps(COMPLETION.as_dict())) == {
        "content": "Let me look.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{ "city":"Oslo" }'}}
        ],
        "finish_reason": "tool_calls",
        "model_group": "quality",
        "served_group": "fast",
        "model": "ollama/qwen3:32b",
        "attempts": [
            {"deployment": "anthropic/claude-sonnet-4-6", "error": "server error (HTTP 500)", "duration_ms": 12}
        ],
        "usage": {"input_tokens": 11, "output_tokens": 7},
        "cost_usd": 0.0001,
        "duration_ms": 345,
    }


def test_without_failed_tries_there_are_no_attempts_and_without_a_price_the_cost_is_null() -> None:
    answer = Completion("Hi", (), "stop", "fast", "fast", "openai/new", (), Usage(1, 1), None, 5).as_dict()
    assert "attempts" not in answer
    assert answer["cost_usd"] is None
    assert answer["tool_calls"] == []
