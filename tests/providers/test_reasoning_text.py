"""Reasoning in the text of an answer, in the memory, and back in the history."""

from __future__ import annotations

from typing import Any

import pytest

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.requests import Request
from konstruct_mcp.providers.litellm.reasoning.history import give_back, misses_reasoning
from konstruct_mcp.providers.litellm.reasoning.memory import ReasoningMemory
from konstruct_mcp.providers.litellm.reasoning.text import without_reasoning
from konstruct_mcp.providers.tried import Recalled

CALL = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
TURN = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>Hm.</think> Yes.", "Yes."),
        ("<think>Hm.", ""),
        ("<thinking>Hm.", "<thinking>Hm."),
        ("<think>a</think><think>b</think>Yes.", "Yes."),
        ("Hm.\n</think>\n\nYes.", "Yes."),
        ("Write `</think>` at the end.", "Write `</think>` at the end."),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|end|>", "Yes."),
        ("analysisHm.assistantfinalYes.", "Yes."),
        ("Yes.", "Yes."),
    ],
)
def test_reasoning_is_taken_out_of_an_answer(text: str, answer: str) -> None:
    assert without_reasoning(text)[0] == answer


def test_reasoning_is_recalled_for_the_same_tenant_deployment_and_conversation_alone() -> None:
    memory = ReasoningMemory()
    one = Deployment("g/1", "g", "it", "openai/x", {"model": "openai/x"})
    other = Deployment("g/2", "g", "it", "openai/x", {"model": "openai/x", "temperature": 1})
    before = Request.parse({"messages": [{"role": "user", "content": "Hello"}]}).messages
    after = Request.parse({"messages": [{"role": "user", "content": "Hello"}, TURN]}).messages
    elsewhere = Request.parse({"messages": [{"role": "user", "content": "Another"}, TURN]}).messages
    assert after[1].tool_calls is not None
    memory.keep("alice", one, before, after[1].tool_calls, {"reasoning_content": "Hm."})

    assert memory.recall("alice", one, after).turns == ({"reasoning_content": "Hm."},)
    assert memory.recall("bob", one, after).turns == (None,)
    assert memory.recall("alice", other, after).turns == (None,)
    assert memory.recall("alice", one, elsewhere).turns == (None,)
    memory.forget("alice", one, after)
    assert memory.recall("alice", one, after).turns == ({},)  # nothing, which nobody is asked for again


def given_back(model: str, thought: dict[str, Any] | None, refusal: str = "") -> dict[str, Any]:
    turn = {**TURN, "tool_calls": [dict(CALL)]}
    give_back([turn], Deployment("g/1", "g", "it", model, {}), Recalled((thought,)), must_think=False, refusal=refusal)
    return turn


def test_reasoning_is_put_back_beside_its_calls() -> None:
    assert given_back("openai/x", {"reasoning_content": "Hm."})["reasoning_content"] == "Hm."
    assert "reasoning_content" not in given_back("openai/x", {"reasoning_content": "Hm."}, refusal="not permitted")


@pytest.mark.parametrize(("model", "field"), [("deepseek/deepseek-chat", ""), ("moonshot/kimi-k2", " ")])
def test_a_model_that_needs_the_field_gets_one(model: str, field: str) -> None:
    assert given_back(model, None)["reasoning_content"] == field


def test_what_a_provider_misses_has_something_in_its_place() -> None:
    refusal = "reasoning_content is missing"
    assert misses_reasoning(refusal)
    assert not misses_reasoning("invalid signature")
    assert given_back("openai/x", None, refusal)["reasoning_content"] == " "
