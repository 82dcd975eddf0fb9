"""What becomes of a provider's failure: odd answers in, one line of a completion's error out.

`test_complete.py` has the failures that providers are known for; here are the rest.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.certificates import self_signed
from support.default_groups import ANTHROPIC_KEY, HELLO, entry, opened
from support.providers import NO_HOST, Answer, Provider, Raw, Status, Text, Wire

from konstruct_mcp import AllFailedError, BadRequestError, Completion, UnavailableError
from konstruct_mcp.config.model import Deployment
from konstruct_mcp.providers.faults.classification import fault_of
from konstruct_mcp.providers.faults.credentials import secrets_of
from konstruct_mcp.providers.faults.one_line import one_line
from konstruct_mcp.routing.outcomes import Fault

pytestmark = pytest.mark.many_cases

MODELS: dict[Wire, str] = {
    "openai": "openai/gpt-4o",
    "anthropic": "anthropic/claude-sonnet-4-6",
    "ollama": "ollama/qwen3:32b",
}
WIRES = list(MODELS)


@pytest.fixture
def provider(request: pytest.FixtureRequest, wire: Wire) -> Provider:
    provider: Provider = request.getfixturevalue(wire)
    return provider


async def ask(
    folder: Path, model: str, api_base: str, *, num_retries: int = 0, more: dict[str, Any] | None = None
) -> Completion:
    """One completion of the only deployment there is. `more` is what the request has beside a message."""
    params = {"model": model, "api_base": api_base, "api_key": ANTHROPIC_KEY, "num_retries": num_retries}
    async with opened(folder, {"model_list": [entry("only", params)]}, {}) as konstruct:
        completion: Completion = await konstruct.complete(
            HELLO, model_group="only", **{"timeout_s": 30, **(more or {})}
        )
        return completion


async def reason(folder: Path, model: str, api_base: str, *, more: dict[str, Any] | None = None) -> str:
    """Why the only deployment did not answer."""
    with pytest.raises(AllFailedError) as caught:
        await ask(folder, model, api_base, more=more)
    assert ANTHROPIC_KEY not in str(caught.value)
    (attempt,) = caught.value.attempts
    return attempt.error


@pytest.mark.parametrize("wire", WIRES)
class TestAStatus:
    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (Status(402), "quota used up (HTTP 402)"),
            (Status(408), "no answer in time (HTTP 408)"),
            (Status(409), "server error (HTTP 409)"),
            (Status(425), "server error (HTTP 425)"),
            (Status(599), "server error (HTTP 599)"),
            (Status(400, "API key not valid. Please pass a valid API key."), "key refused (HTTP 400)"),
            (Status(400, "API key expired. Please renew the API key."), "key refused (HTTP 400)"),
            (Status(429, "You have insufficient credits"), "quota used up (HTTP 429)"),
        ],
        ids=str,
    )
    async def test_says_what_went_wrong(
        self, tmp_path: Path, wire: Wire, provider: Provider, answer: Answer, why: str
    ) -> None:
        provider.script(answer)
        assert await reason(tmp_path, MODELS[wire], provider.url) == why
        assert provider.calls == 1

    @pytest.mark.parametrize("status", [405, 406, 413, 415, 422, 451])
    async def test_of_any_other_kind_refuses_the_request(
        self, tmp_path: Path, wire: Wire, provider: Provider, status: int
    ) -> None:
        provider.script(Status(status, "the reason given"))
        with pytest.raises(BadRequestError) as caught:
            await ask(tmp_path, MODELS[wire], provider.url, num_retries=2)
        assert caught.value.message == f"{MODELS[wire]} refused the request: the reason given"
        assert provider.calls == 1


def nested(depth: int) -> str:
    message = "at the bottom"
    for _ in range(depth):
        message = json.dumps({"error": {"message": message}})
    return message


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('[{"error": {"message": "in a list"}}]', "in a list"),
        ('{"error": "just a text"}', "just a text"),
        ('{"message": "without an error", "code": 7}', "without an error"),
        ('{"error": {"message": {"not": "text"}}}', "HTTP 400"),
        (nested(2), "at the bottom"),
        ('{"error": {"message": "two\\nlines\\u001b[31m\\u2028and\\u202ethat"}}', "two lines [31m and that"),
        ('{"error": {"message": null}}', "HTTP 400"),
        ('{"error": []}', "HTTP 400"),
        ('{"error": {"message": "{half"}}', "{half"),
        ('{"detail": [{"loc": ["body"]}]}', "HTTP 400"),
        ("[]", "HTTP 400"),
        ("7", "HTTP 400"),
        ("", "HTTP 400"),
        ("<html><body>Bad Request</body></html>", "HTTP 400"),
        ("[" * 100_000, "HTTP 400"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_body_of_any_shape_becomes_one_line(
    tmp_path: Path, wire: Wire, provider: Provider, body: str, said: str
) -> None:
    provider.script(Raw(body.encode(), status=400))
    with pytest.raises(BadRequestError) as caught:
        await ask(tmp_path, MODELS[wire], provider.url)
    assert caught.value.message == f"{MODELS[wire]} refused the request: {said}"


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_with_key_and_conversation(
    tmp_path: Path, wire: Wire, provider: Provider, status: int
) -> None:
    path = {"anthropic": "/v1/messages", "openai": "/v1/chat/completions", "ollama": "/api/chat"}[wire]
    with Provider(provider.wire) as elsewhere:
        location = elsewhere.url.removesuffix("/v1") + path
        provider.script(Raw(b"", status=status, headers={"location": location}))
        assert await reason(tmp_path, MODELS[wire], provider.url) == f"unusable answer (HTTP {status})"
        assert elsewhere.requests == []
    assert provider.calls == 1


class TestRetryAfter:
    @pytest.mark.parametrize(
        "headers",
        [
            {"retry-after-ms": "30"},
            {"retry-after": "0.03"},
            {"retry-after-ms": "30", "retry-after": "3600"},
            {"retry-after": "-5"},
            {"retry-after": "Sun, 22 Nov 2020 23:35:27 GMT"},
            # What says nothing is as good as none at all: a short wait of our own.
            {"retry-after": "nan"},
            {"retry-after": "inf"},
            {"retry-after": "-1e999"},
            {"retry-after": "soon"},
            {"retry-after": "Wed, 99 Foo 2026 00:00:00 GMT"},
            {"retry-after": "Mon, 1 Jan 99999 00:00:00 GMT"},
            {"retry-after": ""},
            {"retry-after-ms": "a while"},
        ],
        ids=str,
    )
    async def test_that_is_short_or_senseless_holds_nothing_up(
        self, tmp_path: Path, openai: Provider, headers: dict[str, str]
    ) -> None:
        openai.script(Status(429, headers=headers), Text("back"))
        completion = await ask(tmp_path, "openai/gpt-4o", openai.url, num_retries=1)
        assert completion.content == "back"
        assert openai.calls == 2

    @pytest.mark.parametrize("value", ["1e9", "9" * 300, "Fri, 01 Jan 2100 00:00:00 GMT"], ids=lambda v: v[:20])
    async def test_that_is_absurd_is_an_hour(self, tmp_path: Path, openai: Provider, value: str) -> None:
        openai.script(Status(429, headers={"retry-after": value}))
        params = {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "k"}
        async with opened(tmp_path, {"model_list": [entry("only", params)]}, {}) as konstruct:
            with pytest.raises(AllFailedError):
                await konstruct.complete(HELLO, timeout_s=30)
            (deployment,) = konstruct.group("only").deployments
        assert deployment.reason == "rate limited (HTTP 429); tried again in 3600 s"
        assert openai.calls == 1


@pytest.mark.parametrize("wire", WIRES)
class TestNoConnection:
    async def test_where_the_certificate_is_not_trusted(self, tmp_path: Path, wire: Wire) -> None:
        with Provider(wire, self_signed(tmp_path)) as provider:
            why = await reason(tmp_path, MODELS[wire], provider.url)
        assert why == "connection failed (its certificate is not trusted)"

    async def test_where_there_is_no_such_host(self, tmp_path: Path, wire: Wire) -> None:
        why = await reason(tmp_path, MODELS[wire], NO_HOST)
        assert why == "connection failed (host not found)"


class TestLiteLLMItself:
    async def test_knows_no_such_provider_which_is_nobodys_failure(self, tmp_path: Path, openai: Provider) -> None:
        with pytest.raises(UnavailableError) as caught:
            await ask(tmp_path, "frobnicate/x", openai.url)
        assert "refused" not in caught.value.message
        assert openai.requests == []


# The function itself, with whatever an answer can hold.

# Hypothesis would count a pause of the machine, which other tests keep busy, as a failure.
unhurried = settings(deadline=None)
DEPLOYMENT = Deployment(id="only/1", group="only", name="openai/x", model="openai/x", params={})
SECRETS = ["sk-short", "sk-short-and-longer"]
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(SECRETS)
_keys = st.sampled_from(["error", "message", "code", "type"]) | st.text()
_values = st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(_keys, inner), max_leaves=10)
_bodies = st.binary() | _values.map(json.dumps).map(str.encode)
_latin = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]))
_waits = st.none() | _latin | st.floats().map(str) | st.datetimes().map(lambda d: formatdate(d.year * 1e7, usegmt=True))


def fault(status: int, body: bytes, headers: dict[str, str]) -> Fault:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    request = httpx.Request("POST", "http://127.0.0.1/")
    response = httpx.Response(status, content=body, headers=raw, request=request)
    return fault_of(httpx.HTTPStatusError("failed", request=request, response=response), DEPLOYMENT, SECRETS)


@unhurried
@given(st.integers(200, 599), _bodies, _waits, st.sampled_from(["retry-after", "retry-after-ms"]))
def test_whatever_is_answered_becomes_a_fault_in_one_short_line_without_secrets(
    status: int, body: bytes, wait: str | None, header: str
) -> None:
    found = fault(status, body, {} if wait is None else {header: wait})

    assert found.detail.startswith("HTTP ")
    assert status < 400 or found.detail == f"HTTP {status}"
    assert found.retry_after_s is None or found.retry_after_s >= 0
    assert len(found.reason) <= 300
    assert found.reason.isprintable()
    assert not any(secret in found.reason for secret in SECRETS)


@pytest.mark.parametrize(
    "params",
    [
        {"api_key": "sk-hidden-1"},
        {"aws_secret_access_key": "sk-hidden-1", "aws_region_name": "us-east-1"},
        {"azure_ad_token": "sk-hidden-1"},
        {"extra_headers": {"x-anything": "sk-hidden-1"}},
        {"extra_body": {"nested": [{"password": "sk-hidden-1"}]}},
        {"vertex_credentials": '{"type": "service_account", "private_key": "sk-hidden-1"}'},
        {"api_base": "https://somebody:sk-hidden-1@gateway.example/v1"},
        {"api_base": "https://gateway.example/v1?code=sk-hidden-1"},
        {"api_base": "https://gateway.example/t/sk-hidden-1/v1"},
        {"extra_headers": {"Authorization": "Bearer sk-hidden-1"}},
        {"extra_headers": {"Authorization": "Basic c29tZWJvZHk6c2staGlkZGVuLTE="}},
        {"extra_query": {"code": "sk-hidden-1"}},
        {"proxy": "http://somebody:sk-hidden-1@proxy.example:3128"},
        {"extra_body": {"unheard_of": "f3a9c17b5e2d8f3a9c17b5e2d8"}},
    ],
    ids=str,
)
def test_what_is_a_secret_is_known_by_its_key_its_place_or_its_look(params: dict[str, Any]) -> None:
    words = {"model": "openai/house-model-2026-01-31", "api_version": "2024-08-01-preview", "verbosity": "medium"}
    found = set(secrets_of(replace(DEPLOYMENT, params=words | params)))
    assert found & {"sk-hidden-1", "f3a9c17b5e2d8f3a9c17b5e2d8"}
    assert not found & {*words.values(), "us-east-1", "gateway.example", "service_account"} - (
        {"service_account"} if "vertex_credentials" in params else set()
    )


def test_what_came_from_the_environment_is_a_secret_whatever_its_key_but_for_words_that_tune() -> None:
    secrets = frozenset({"hunter2", "short", "minimal"})
    assert set(secrets_of(replace(DEPLOYMENT, secrets=secrets, params={"reasoning_effort": "minimal"}))) == {"hunter2"}


@pytest.mark.parametrize("unit", ['\\"', '"', " '", "'a'b ", "‘a’", "`", "insufficient_", "models/", "{'message':\"\\"])
def test_no_refusal_takes_long_to_read(unit: str) -> None:
    body = json.dumps({"error": {"message": (unit * 8000)[:8000]}}).encode()
    began = time.thread_time()
    for _ in range(10):
        fault(400, body, {})
    assert time.thread_time() - began < 1  # some ten times as long as it takes


def test_a_secret_that_is_cut_off_where_reading_ends_is_taken_out_too() -> None:
    body = json.dumps({"error": {"message": f"{SECRETS[1]} " * 1000}}).encode()
    assert set(fault(400, body, {}).reason) == set("*… ")


def test_a_short_secret_is_taken_out_where_it_is_a_word() -> None:
    assert one_line("key1 in monkey1, key1", ["key1"]) == "*** in monkey1, ***"


def test_a_secret_that_begins_with_another_is_taken_out_whole() -> None:
    body = json.dumps({"error": {"message": f"not these: {SECRETS[0]}, {SECRETS[1]}"}}).encode()
    assert fault(400, body, {}).reason == "not these: ***, ***"
