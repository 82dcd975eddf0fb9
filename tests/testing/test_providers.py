"""The fake providers are read by the genuine client as the genuine providers are, and fail in the ways they promise.

LiteLLM is the reader throughout; what it makes of each fault is what the router has to work with.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, get_args

import httpx
import pytest
from support.providers import (
    Answer,
    ContentPolicy,
    ContextOverflow,
    Dribble,
    Drop,
    Gate,
    Hang,
    HangBody,
    Provider,
    Raw,
    Received,
    Reset,
    Status,
    Text,
    Truncated,
    Wire,
)

Ask = Callable[..., Any]
WIRES: tuple[Wire, ...] = get_args(Wire)
TOOL_CALL = ("call_1", "get_weather", '{"city": "Oslo"}')


@pytest.fixture(params=WIRES)
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    with Provider(request.param) as provider:
        yield provider


@pytest.fixture(scope="module")
def ask(litellm: Any) -> Iterator[Ask]:
    """Ask a provider through LiteLLM; on one event loop throughout, because LiteLLM's clients outlive a call."""

    def ask(provider: Provider, timeout: float = 5) -> Any:
        completion = litellm.acompletion(
            model="anthropic/claude-fake" if provider.wire == "anthropic" else "openai/gpt-fake",
            api_base=f"{provider.url}/v1" if provider.wire == "ollama" else provider.url,
            api_key="sk-fake",
            messages=[{"role": "user", "content": "hi"}],
            timeout=timeout,
            max_retries=0,
            num_retries=0,
        )
        return runner.run(completion)

    with asyncio.Runner() as runner:
        yield ask
        runner.run(litellm.close_litellm_async_clients())


def post(provider: Provider, **options: Any) -> httpx.Response:
    path = {"openai": "/chat/completions", "anthropic": "/v1/messages", "ollama": "/v1/chat/completions"}
    return httpx.post(provider.url + path[provider.wire], json={"model": "m"}, trust_env=False, **options)


def test_a_text_is_read_with_its_usage_and_the_request_is_recorded(ask: Ask, provider: Provider) -> None:
    response = ask(provider)

    assert response.choices[0].message.content == f"Hello from {provider.wire}"
    assert response.choices[0].finish_reason == "stop"
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (11, 7)
    [received] = provider.requests
    assert received.method == "POST"
    assert "sk-fake" in (received.headers.get("x-api-key", "") + received.headers.get("authorization", ""))
    assert received.body["messages"][0]["role"] == "user"


def test_text_tool_calls_and_reasoning_are_read_together(ask: Ask, provider: Provider) -> None:
    provider.script(Text("Let me look.", tool_calls=[TOOL_CALL], reasoning="The user wants the weather."))

    choice = ask(provider).choices[0]

    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    assert choice.message.reasoning_content == "The user wants the weather."
    [call] = choice.message.tool_calls
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == (*TOOL_CALL[:2], {"city": "Oslo"})


@pytest.mark.parametrize(
    ("wire", "answer", "error"),
    [
        ("openai", ContextOverflow(), "ContextWindowExceededError"),
        ("anthropic", ContextOverflow(), "ContextWindowExceededError"),
        ("ollama", ContextOverflow(), "BadRequestError"),  # LiteLLM does not know Ollama's wording
        ("openai", ContentPolicy(), "ContentPolicyViolationError"),
        ("anthropic", ContentPolicy(), "ContentPolicyViolationError"),
        ("openai", Status(401), "AuthenticationError"),
        ("anthropic", Status(401), "AuthenticationError"),
        ("openai", Status(404), "NotFoundError"),
        ("anthropic", Status(404), "NotFoundError"),
        ("ollama", Status(404), "NotFoundError"),
        ("openai", Status(503), "ServiceUnavailableError"),
        ("anthropic", Status(529), "InternalServerError"),
        ("ollama", Status(500), "InternalServerError"),
    ],
)
def test_a_refusal_is_classified_as_the_genuine_one(
    litellm: Any, ask: Ask, wire: Wire, answer: Answer, error: str
) -> None:
    with Provider(wire) as provider:
        provider.script(answer)
        with pytest.raises(getattr(litellm, error)) as caught:
            ask(provider)

    assert type(caught.value) is getattr(litellm, error)


def test_retry_after_reaches_the_client(litellm: Any, ask: Ask, provider: Provider) -> None:
    provider.script(Status(429, headers={"retry-after": "7"}))

    with pytest.raises(litellm.RateLimitError) as caught:
        ask(provider)

    assert caught.value.litellm_response_headers["retry-after"] == "7"


def test_a_silent_provider_times_out(litellm: Any, ask: Ask, provider: Provider) -> None:
    provider.script(Hang())

    with pytest.raises(litellm.Timeout):
        ask(provider, timeout=0.3)

    provider.wait_for(lambda: provider.disconnected == 1 and provider.in_flight == 0)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Drop(), httpx.RemoteProtocolError),
        (Reset(), httpx.ReadError),
        (Truncated(), httpx.RemoteProtocolError),
        (HangBody(), httpx.ReadTimeout),
    ],
)
def test_a_connection_fails_as_scripted(answer: Answer, error: type[Exception]) -> None:
    with Provider("openai") as provider:
        provider.script(answer)
        with pytest.raises(error):
            post(provider, timeout=0.3)


def test_a_dribble_outlives_a_timeout_per_read(provider: Provider) -> None:
    provider.script(Dribble("slow", interval=0.001))

    response = post(provider, timeout=0.2)

    assert "slow" in response.text
    assert response.elapsed.total_seconds() > 0.2


def test_raw_bytes_arrive_untouched(provider: Provider) -> None:
    provider.script(Raw(b"<html>", content_type="text/html", headers={"x-a": "b"}))

    response = post(provider)

    assert (response.status_code, response.content) == (200, b"<html>")
    assert (response.headers["content-type"], response.headers["x-a"]) == ("text/html", "b")


def test_answers_come_in_the_scripted_order_and_the_last_one_repeats(provider: Provider) -> None:
    def echo(received: Received) -> Text:
        return Text(received.body["model"] + "!")

    provider.script(Status(500), Status(429), echo)

    assert [post(provider).status_code for _ in range(4)] == [500, 429, 200, 200]
    assert "m!" in post(provider).text
    assert provider.calls == 5


@pytest.mark.parametrize(("answers", "found"), [((), "nothing"), (("Hello",), "str"), ((Text("Hi"), 503), "int")])
def test_a_script_is_made_of_answers(answers: tuple[Any, ...], found: str) -> None:
    with Provider("openai") as openai, pytest.raises(TypeError, match=f"answers such as .*, not of {found}$"):
        openai.script(*answers)


def test_a_format_that_there_is_not_is_refused_with_those_there_are() -> None:
    name: Any = "opnai"
    with pytest.raises(ValueError, match=r"no format 'opnai'; there are .*openai"):
        Provider(name)


def test_a_mistake_in_a_scripted_callable_fails_the_test() -> None:
    def mistaken(received: Received) -> Text:
        raise ZeroDivisionError

    provider = Provider("openai").__enter__()
    provider.script(mistaken)
    with pytest.raises(httpx.ReadError):
        post(provider)

    with pytest.raises(ZeroDivisionError):
        provider.__exit__(None, None, None)


def test_a_stopped_provider_refuses_connections_and_comes_back_on_its_port(provider: Provider) -> None:
    provider.stop()
    with pytest.raises(httpx.ConnectError):
        post(provider)

    provider.start()
    assert post(provider).status_code == 200


def test_a_client_that_comes_as_it_stops_is_dropped() -> None:
    for _ in range(20):
        with Provider("openai") as provider:
            address = httpx.URL(provider.root)
            with socket.create_connection((address.host, address.port or 0), timeout=10) as client:
                provider.stop()
                with suppress(ConnectionError):
                    assert client.recv(1) == b""
    gc.collect()  # which finds a connection that nobody has closed, and that fails the test


def test_what_is_no_completion_is_recorded_and_answered_beside_the_script() -> None:
    with Provider("ollama") as ollama:
        shown = httpx.post(f"{ollama.url}/api/show", json={"model": "m"}, trust_env=False).json()
        assert httpx.get(f"{ollama.url}/api/blobs", trust_env=False).status_code == 404

    assert shown["model_info"]["qwen3.context_length"] == 40960
    assert [received.path for received in ollama.requests] == ["/api/show", "/api/blobs"]
    assert ollama.calls == 0


def test_a_connection_is_kept_alive_and_a_body_of_20_mb_is_read() -> None:
    with Provider("openai") as provider:
        client = http.client.HTTPConnection(provider.url.removeprefix("http://").removesuffix("/v1"), timeout=10)
        body = json.dumps({"model": "m" * 20_000_000})
        client.request("POST", "/v1/chat/completions", body)
        assert len(client.getresponse().read()) > 20_000_000
        first = client.sock
        client.request("POST", "/v1/chat/completions", body)
        assert client.getresponse().status == 200
        assert client.sock is first is not None
        client.close()


def test_fifty_answers_are_held_at_the_gate_until_released_and_a_cancelled_client_is_noticed() -> None:
    async def crowd(provider: Provider) -> list[int]:
        limits = httpx.Limits(max_connections=60)
        async with httpx.AsyncClient(base_url=provider.url, limits=limits, trust_env=False) as client:
            requests = [asyncio.ensure_future(client.post("/chat/completions", json={"model": "m"})) for _ in range(51)]
            await provider.until(lambda: provider.in_flight == 51)
            requests.pop().cancel()
            await provider.until(lambda: provider.disconnected == 1)
            provider.release()
            return [response.status_code for response in await asyncio.gather(*requests)]

    with Provider("openai") as provider:
        provider.script(Gate("Open."))
        assert asyncio.run(crowd(provider)) == [200] * 50
        provider.wait_for(lambda: provider.in_flight == 0)
        assert provider.most_in_flight == 51
