"""Ollama's own format: what a request becomes, how long a prompt is, what an answer means."""

from __future__ import annotations

from typing import Any

import pytest

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.providers.litellm.ollama.answers import completion, notes_on_answer
from konstruct_mcp.providers.litellm.ollama.prompt_length import PromptLength
from konstruct_mcp.providers.litellm.ollama.requests import OllamaRequest, address, prepare
from konstruct_mcp.providers.litellm.profiles.limits import without_limits
from konstruct_mcp.routing.outcomes import FaultError

HELLO = [{"role": "user", "content": "Hello"}]


def prepared(model: str = "ollama/qwen3", limit: int | None = None, **params: Any) -> OllamaRequest:
    one = Deployment("g/1", "g", "it", model, {"model": model, **params})
    return prepare(one, without_limits(one.params), HELLO, {}, limit)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/api/chat", "/api/generate/"])
def test_an_address_is_that_of_the_server(path: str) -> None:
    assert address(f"http://host:11434{path}") == "http://host:11434"


def test_settings_become_options_or_have_a_place_of_their_own() -> None:
    made = prepared(seed="7", num_predict=-2, keep_alive="5", stop="x", api_key="k", store=True, temperature="0.5")
    assert made.body["options"] == {"seed": 7, "num_predict": -2, "stop": ["x"], "temperature": 0.5}
    assert made.body["keep_alive"] == 5
    assert made.places["seed"] == ("options", "seed")
    assert made.notes == ("store was left out: it does not take it",)


def test_a_limit_takes_the_place_of_the_config_s() -> None:
    made = prepared(limit=9, num_predict=-2)
    assert made.body["options"] == {"num_predict": 9}
    assert made.places["max_tokens"] == ("options", "num_predict")


@pytest.mark.parametrize(
    ("model", "effort", "think"),
    [
        ("ollama/qwen3", "none", False),
        ("ollama/qwen3", "low", True),
        ("ollama/gpt-oss:20b", "none", "low"),
        ("ollama/gpt-oss:20b", "max", "high"),
    ],
)
def test_thinking_is_a_switch_or_a_level(model: str, effort: str, think: bool | str) -> None:
    assert prepared(model, reasoning_effort=effort).body["think"] == think


def test_a_prompt_has_at_least_its_words_and_is_estimated_longer() -> None:
    text = "one two three " * 100_000  # longer than the piece that is split at once
    length = PromptLength.of({"messages": [{"content": text, "images": ["x"]}]})
    assert 300_000 - 10 <= length.at_least <= 300_000 < length.estimate
    assert length.images == 1


def test_an_answer_is_whole_only_where_it_says_so() -> None:
    answer = {"message": {"content": "Hi"}, "done": True, "prompt_eval_count": 3, "eval_count": 4}
    made = completion({**answer, "done_reason": "stop"}, {"model": "m"})
    assert made["choices"][0]["finish_reason"] == "stop"
    assert made["usage"] == {"prompt_tokens": 3, "completion_tokens": 4}
    assert completion(answer, {"model": "m", "options": {"num_predict": 4}})["choices"][0]["finish_reason"] == "length"
    broken: Any
    for broken in ([], {**answer, "done": False}, {**answer, "done_reason": "load"}, {**answer, "done_reason": "x"}):
        with pytest.raises(FaultError):
            completion(broken, {"model": "m"})


def test_a_prompt_that_was_not_read_whole_is_noted() -> None:
    length = PromptLength.of({"messages": [{"content": "word " * 1000}]})
    body = {"model": "m"}
    assert notes_on_answer({"prompt_eval_count": 1400}, body, length, None) == ()
    [note] = notes_on_answer({"prompt_eval_count": 512}, body, length, 512)
    assert note == "the prompt was cut: the model has read 512 tokens of it (num_ctx 512), and it has more"
    [note] = notes_on_answer({"eval_count": "x"}, body, length, None)
    assert note.startswith("usage unknown: ollama/m")
