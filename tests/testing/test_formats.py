"""What each fake provider says is read by LiteLLM as the genuine provider's words are: its answers at each of its
paths, and its refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any, get_args

import httpx
import pytest
from support.default_groups import reaching
from support.providers import Changed, ContextOverflow, OtherWire, Provider, Status, Text, Wire

from konstruct_mcp.testing.formats import FORMATS

Ask = Callable[..., Any]
WIRES: tuple[Wire | OtherWire, ...] = (*get_args(Wire), *get_args(OtherWire))
TOOL_CALL = ("call_1a2b3c4d", "get_weather", '{"city": "Oslo"}')
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
# Provider, model as LiteLLM has it, path that is asked. Vertex and Bedrock, which take packages of their own, are not
# read here.
PATHS: tuple[tuple[Wire | OtherWire, str, str], ...] = (
    ("openai", "openai/gpt-4o", "/v1/chat/completions"),
    ("openai", "openai/gpt-5-codex", "/v1/responses"),
    ("anthropic", "anthropic/claude-sonnet-4-6", "/v1/messages"),
    ("ollama", "ollama_chat/qwen3:8b", "/api/chat"),
    ("azure", "azure/fake", "/openai/deployments/fake/chat/completions?api-version=2025-04-01-preview"),
    ("azure", "azure/responses/fake", "/openai/responses?api-version=2025-04-01-preview"),
    ("gemini", "gemini/gemini-2.5-pro", "/v1beta/models/gemini-2.5-pro:generateContent"),
    ("openrouter", "openrouter/fake/fake", "/api/v1/chat/completions"),
    ("vllm", "hosted_vllm/fake", "/v1/chat/completions"),
    ("lm_studio", "lm_studio/fake", "/v1/chat/completions"),
    ("llama_cpp", "openai/fake", "/v1/chat/completions"),
    ("mistral", "mistral/mistral-large-latest", "/v1/chat/completions"),
    ("groq", "groq/openai/gpt-oss-120b", "/openai/v1/chat/completions"),
    ("deepseek", "deepseek/deepseek-chat", "/v1/chat/completions"),
    ("xai", "xai/grok-4", "/v1/chat/completions"),
    ("cohere", "cohere_chat/command-a-03-2025", "/v2/chat"),
)


@pytest.fixture(scope="module")
def ask(litellm: Any) -> Iterator[Ask]:
    """Ask a provider through LiteLLM; on one event loop throughout, because LiteLLM's clients outlive a call."""

    def ask(provider: Provider, model: str, **options: Any) -> Any:
        completion = litellm.acompletion(
            **reaching(provider, model),
            messages=[{"role": "user", "content": "hi"}],
            timeout=60,  # s; a client is made in its first call, on a machine that is busy with much else
            max_retries=0,
            num_retries=0,
            **options,
        )
        return runner.run(completion)

    with asyncio.Runner() as runner:
        yield ask
        runner.run(litellm.close_litellm_async_clients())


def test_every_format_is_read() -> None:
    assert set(FORMATS) == set(WIRES)
    assert {wire for wire, _, _ in PATHS} == set(WIRES) - {"vertex", "bedrock"}


@pytest.mark.parametrize(("wire", "model", "path"), PATHS)
def test_a_text_is_read_with_its_usage(ask: Ask, wire: Wire | OtherWire, model: str, path: str) -> None:
    with Provider(wire) as provider:
        response = ask(provider, model)

    assert response.choices[0].message.content == f"Hello from {wire}"
    assert response.choices[0].finish_reason == "stop"
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (11, 7)
    [received] = [request for request in provider.requests if request.completes]
    assert received.path == path
    assert received.asked.model == model.partition("/")[2].removeprefix("responses/")


@pytest.mark.parametrize(("wire", "model", "path"), PATHS)
def test_tool_calls_are_read(ask: Ask, wire: Wire | OtherWire, model: str, path: str) -> None:
    with Provider(wire) as provider:
        provider.script(Text(None, tool_calls=[TOOL_CALL]))
        choice = ask(provider, model, tools=[TOOL]).choices[0]

    [call] = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Oslo"})


@pytest.mark.parametrize(("wire", "model", "path"), PATHS)
def test_an_overflow_is_a_refusal_of_the_request(
    litellm: Any, ask: Ask, wire: Wire | OtherWire, model: str, path: str
) -> None:
    with Provider(wire) as provider:
        provider.script(ContextOverflow())
        with pytest.raises((litellm.BadRequestError, litellm.APIConnectionError)):  # the latter for Ollama's own path
            ask(provider, model)


@pytest.mark.many_cases
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422, 424, 429, 500, 503])
def test_a_refusal_has_the_status_and_the_words_that_are_asked_for(wire: Wire | OtherWire, status: int) -> None:
    path = {
        "azure": "/openai/v1/responses",
        "gemini": "/v1beta/models/fake:generateContent",
        "vertex": "/v1/projects/fake/locations/us-central1/publishers/google/models/fake:generateContent",
        "bedrock": "/model/fake/converse",
        "anthropic": "/v1/messages",
        "openrouter": "/api/v1/chat/completions",
        "groq": "/openai/v1/chat/completions",
        "cohere": "/v2/chat",
    }.get(wire, "/v1/chat/completions")
    with Provider(wire) as provider:
        provider.script(Status(status, "It says so."), Status(status))
        said, usual = (httpx.post(provider.root + path, json={"model": "fake"}, trust_env=False) for _ in range(2))

    assert (said.status_code, usual.status_code) == (status, status)
    assert "It says so." in said.text
    assert len(usual.text) > 20
    assert "It says so." not in usual.text
    assert ("x-amzn-errortype" in said.headers) is (wire == "bedrock")


@pytest.mark.parametrize("model", ["vertex_ai/gemini-2.5-pro", "bedrock/us.amazon.nova-pro-v1:0"])
def test_those_that_take_packages_of_their_own_are_written_as_documented(model: str) -> None:
    call = Text("Let me look.", tool_calls=[TOOL_CALL], reasoning="Weather.")
    if model.startswith("vertex_ai"):
        with Provider("vertex") as provider:
            provider.script(call)
            body = httpx.post(
                f"{reaching(provider, model)['api_base']}:generateContent", json={}, trust_env=False
            ).json()
            token = httpx.post(f"{provider.root}/token", trust_env=False).json()
        assert token["access_token"]
        [candidate] = body["candidates"]
        assert [list(part) for part in candidate["content"]["parts"]] == [
            ["text", "thought"],
            ["text"],
            ["functionCall", "thoughtSignature"],
        ]
        assert candidate["finishReason"] == "STOP"
    else:
        with Provider("bedrock") as provider:
            provider.script(call)
            path = "/model/us.amazon.nova-pro-v1%3A0/converse"
            body = httpx.post(provider.root + path, json={}, trust_env=False).json()
        assert provider.requests[0].asked.model == "us.amazon.nova-pro-v1:0"
        assert [list(part) for part in body["output"]["message"]["content"]] == [
            ["reasoningContent"],
            ["text"],
            ["toolUse"],
        ]
        assert body["stopReason"] == "tool_use"


def test_a_completion_can_be_changed_by_the_test() -> None:
    with Provider("openai") as provider:
        provider.script(Changed(Text("Hello", ends="abort"), lambda body: body.pop("usage")))
        body = httpx.post(f"{provider.url}/chat/completions", json={"model": "m"}, trust_env=False).json()

    assert body["choices"][0]["finish_reason"] == "abort"
    assert "usage" not in body
