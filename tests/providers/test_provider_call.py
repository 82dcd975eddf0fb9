"""What is noted of one call's HTTP request and response, and when nothing more of it may be sent."""

from __future__ import annotations

import json
from base64 import b64encode

import httpx
import pytest

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.providers.litellm.provider_call import CallSettings, ProviderCall
from konstruct_mcp.routing.outcomes import FaultError, FaultKind

IMAGE = b64encode(b"\x89PNG" * 500).decode()


def body(text: str, *, ensure_ascii: bool = False) -> bytes:
    return json.dumps({"messages": [{"content": text}, {"image": IMAGE}]}, ensure_ascii=ensure_ascii).encode()


def test_a_request_counts_as_sent_once_a_client_has_a_connection_for_it() -> None:
    call = ProviderCall(1000)
    assert not call.give_up()

    call = ProviderCall(1000)
    call.leave()
    call.waits = True
    assert not call.give_up()

    call = ProviderCall(1000)
    call.leave()
    assert call.give_up()


def test_nothing_more_leaves_once_a_call_is_given_up() -> None:
    call = ProviderCall(1000)
    call.give_up()

    with pytest.raises(FaultError) as caught:
        call.leave(b"{}")
    assert caught.value.fault.kind is FaultKind.CONNECTION
    assert not caught.value.fault.sent


def test_a_body_that_grew_beyond_what_is_reserved_does_not_leave() -> None:
    call = ProviderCall(1000, max_request_bytes=100, images=[IMAGE])
    with pytest.raises(FaultError) as caught:
        call.leave(body("x" * 200))
    assert caught.value.fault.kind is FaultKind.UNFIT
    assert not call.left


def test_images_and_needless_escapes_are_not_counted_in_a_body() -> None:
    call = ProviderCall(1000, max_request_bytes=100, images=[IMAGE])
    escaped = body("é" * 20, ensure_ascii=True)
    assert len(escaped) > 2000

    call.leave(escaped)
    assert call.left


def test_the_content_is_that_of_a_whole_success_alone() -> None:
    call = ProviderCall(1000)
    assert call.content is None
    call.answer = httpx.Response(500, content=b"no")
    assert call.content is None
    call.answer = httpx.Response(200, content=b"yes")
    assert call.content == b"yes"
    call.end()
    assert call.content is None


@pytest.mark.parametrize(
    ("model", "extra", "format_", "without_client"),
    [
        ("openai/gpt-4o", {}, "openai", True),
        ("openai/gpt-4o", {"extra_headers": {"a": "b"}}, "openai", False),
        ("anthropic/claude-sonnet-4-6", {}, "anthropic", False),
        ("ollama/qwen3:32b", {}, "ollama", False),
        ("groq/llama", {}, "openai", False),
    ],
)
def test_only_openais_format_without_settings_of_its_client_goes_without_it(
    monkeypatch: pytest.MonkeyPatch, model: str, extra: dict[str, object], format_: str, without_client: bool
) -> None:
    monkeypatch.delenv("OPENAI_ORGANIZATION", raising=False)
    settings = CallSettings.of(Deployment("g/1", "g", model, model, {"model": model, "api_key": "k", **extra}), {})

    assert (settings.format, settings.without_openais_client) == (format_, without_client)


def test_deployments_that_differ_in_a_credential_are_different_accounts() -> None:
    def account(variables: dict[str, str], **params: object) -> str:
        given = {"model": "openai/gpt-4o", "api_key": "k", **params}
        return CallSettings.of(Deployment("g/1", "g", "openai/gpt-4o", "openai/gpt-4o", given), variables).account

    same = account({})
    assert account({}, model="openai/gpt-4o-mini", temperature=1, input_cost_per_token=1e-6) == same
    assert account({}, api_key="other") != same
    assert account({}, aws_session_name="other") != same
    assert account({"AWS_PROFILE": "other"}) != same
