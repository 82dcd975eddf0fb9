"""How a provider is reached: each setting of the connection takes effect, and none of them is a key of the body."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from support.certificates import self_signed
from support.default_groups import HELLO, entry, opened, reaching
from support.providers import OtherWire, Provider, Text, Wire

from konstruct_mcp.core.errors import AllFailedError

pytestmark = pytest.mark.many_cases

# One of each way in which LiteLLM asks: its own handlers, its own client, OpenAI's client, Azure's.
PATHS: dict[str, Wire | OtherWire] = {
    "openai/gpt-4o": "openai",
    "openai/gpt-4o with headers": "openai",
    "anthropic/claude-sonnet-4-6": "anthropic",
    "mistral/mistral-large-latest": "openai",
    "openrouter/meta-llama/llama-3": "openai",
    "deepseek/deepseek-chat": "openai",
    "xai/grok-4": "openai",
    "together_ai/llama": "openai",
    "hosted_vllm/qwen": "openai",
    "azure_ai/mistral-large with headers": "openai",
    "huggingface/together/qwen": "openai",
    "watsonx/ibm/granite": "openai",
    "openai/responses/gpt-5-codex": "openai",
    "azure/gpt-4o": "azure",
    "azure/responses/gpt-5-codex": "azure",
    "gemini/gemini-3.1-pro-preview": "gemini",
    "bedrock/us.anthropic.claude-sonnet-4-6": "bedrock",
    "cohere_chat/command-a-03-2025": "cohere",
    "ollama/qwen3:8b": "ollama",
}
SETTINGS = frozenset(
    {"ssl_verify", "ssl_certificate", "ssl_key", "proxy", "organization", "project", "api_type", "extra_headers"}
    | {"max_retries", "token"}
)


def deployment(path: str, provider: Provider, root: str | None = None, **more: Any) -> dict[str, Any]:
    """One that asks for the provider at its own address, or at another."""
    model, _, with_headers = path.partition(" with ")
    params = {"api_key": "sk-test-1c9d", "num_retries": 0}
    for key, value in reaching(provider, model).items():
        params[key] = value if root is None else value.replace(provider.root, root)
    if with_headers:
        params["extra_headers"] = {"x-team": "blue"}
    if model.startswith("watsonx/"):
        params |= {"project_id": "p", "token": "token-test-1c9d"}
    return {"model_list": [entry("g", {**params, **more})]}


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    path: str = request.param
    return path


@pytest.fixture
def tls(path: str, tmp_path: Path) -> Iterator[Provider]:
    with Provider(PATHS[path], tls=self_signed(tmp_path)) as provider:
        yield provider


async def test_a_certificate_of_ones_own_is_trusted_where_the_config_names_it(
    tls: Provider, path: str, tmp_path: Path
) -> None:
    ours = str(tmp_path / "certificate.pem")
    async with opened(tmp_path, deployment(path, tls, ssl_verify=ours), {}) as konstruct:
        answer = await konstruct.complete(HELLO)

    assert answer.content.startswith("Hello")
    assert SETTINGS.isdisjoint(tls.requests[0].body)


async def test_no_certificate_is_asked_for_where_the_config_says_so_and_only_there(
    tls: Provider, path: str, tmp_path: Path
) -> None:
    config = deployment(path, tls, ssl_verify=False)
    config["model_list"] += [{**deployment(path, tls)["model_list"][0], "model_name": "strict"}]
    async with opened(tmp_path, config, {}) as konstruct:
        await konstruct.complete(HELLO, model_group="g")
        with pytest.raises(AllFailedError, match="certificate is not trusted"):
            await konstruct.complete(HELLO, model_group="strict")

    assert tls.calls == 1


async def test_a_server_that_wants_to_know_who_asks_is_shown_the_certificate(tmp_path: Path, path: str) -> None:
    server = self_signed(tmp_path)
    ours = str(tmp_path / "certificate.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(ours)
    with Provider(PATHS[path], tls=server) as provider:
        config = deployment(path, provider, ssl_verify=ours, ssl_certificate=ours)
        async with opened(tmp_path, config, {}) as konstruct:
            assert (await konstruct.complete(HELLO)).content.startswith("Hello")

    assert SETTINGS.isdisjoint(provider.requests[0].body)


async def test_what_is_added_to_an_address_takes_the_place_of_nothing_in_it(tmp_path: Path, path: str) -> None:
    with Provider(PATHS[path]) as provider:
        config = deployment(path, provider, extra_query={"tier": "a b"})
        async with opened(tmp_path, config, {}) as konstruct:
            with contextlib.suppress(AllFailedError):  # the fake has no such address
                await konstruct.complete(HELLO)

    query = parse_qs(provider.requests[0].path.partition("?")[2])
    own = {"watsonx": {"version": ["2024-03-13"]}, "azure": {"api-version": ["2025-04-01-preview"]}}
    assert query == {"tier": ["a b"], **own.get(path.partition("/")[0], {})}


class _Proxy(BaseHTTPRequestHandler):
    """Hands on what it is sent to the one provider behind it, and remembers who asked."""

    behind: str
    asked: list[tuple[str, str | None]]

    @classmethod
    def of(cls, provider: Provider) -> type[_Proxy]:
        class Proxy(cls):  # type: ignore[misc, valid-type]  # a class of this very one
            behind = provider.root
            asked: list[tuple[str, str | None]] = []

        return Proxy

    def do_POST(self) -> None:
        self.asked.append((self.path, self.headers.get("proxy-authorization")))
        body = self.rfile.read(int(self.headers["content-length"]))
        path = httpx.URL(self.path).raw_path.decode()
        headers = {"content-type": "application/json", "authorization": self.headers.get("authorization", "")}
        answer = httpx.post(f"{self.behind}{path}", content=body, headers=headers, trust_env=False)
        self.send_response(answer.status_code)
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *args: Any) -> None: ...


async def test_a_proxy_of_a_deployment_is_the_one_that_is_asked(tmp_path: Path, path: str) -> None:
    with Provider(PATHS[path]) as provider:
        handler = _Proxy.of(provider)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            address = f"http://user:word@127.0.0.1:{proxy.server_port}"
            config = deployment(path, provider, "http://provider.invalid", proxy=address)
            async with opened(tmp_path, config, {}) as konstruct:
                answer = await konstruct.complete(HELLO)
            proxy.shutdown()

    [(asked, authorization)] = handler.asked
    assert answer.content.startswith("Hello")
    assert asked.startswith("http://provider.invalid/")
    assert authorization == "Basic dXNlcjp3b3Jk"
    assert SETTINGS.isdisjoint(provider.requests[0].body)


@pytest.mark.parametrize(
    ("setting", "header"),
    [
        ({"extra_headers": {"x-team": "blue"}}, ("x-team", "blue")),
        ({"default_headers": {"x-team": "blue"}}, ("x-team", "blue")),
        ({"organization": "org-7"}, ("openai-organization", "org-7")),
        ({"project": "proj-7"}, ("openai-project", "proj-7")),
    ],
    ids=str,
)
async def test_what_is_a_header_goes_out_as_one(
    openai: Provider, tmp_path: Path, setting: dict[str, Any], header: tuple[str, str]
) -> None:
    async with opened(tmp_path, deployment("openai/gpt-4o", openai, **setting), {}) as konstruct:
        await konstruct.complete(HELLO)

    [received] = openai.requests
    assert received.headers[header[0]] == header[1]
    assert sorted(received.body) == ["messages", "model"]


@pytest.mark.parametrize("setting", [{"api_version": "2025-01-01"}, {"api_type": "open_ai"}, {"project": "p"}], ids=str)
async def test_a_setting_of_the_connection_is_no_key_of_the_body(
    path: str, tmp_path: Path, setting: dict[str, Any]
) -> None:
    with Provider(PATHS[path]) as provider:
        async with opened(tmp_path, deployment(path, provider, **setting), {}) as konstruct:
            await konstruct.complete(HELLO)

    assert setting.keys().isdisjoint(provider.requests[0].body)


@pytest.mark.parametrize("path", ["ollama/qwen3:8b", "anthropic/claude-sonnet-4-6", "openai/gpt-4o"])
async def test_no_password_for_its_host_is_looked_up_where_others_keep_theirs(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp does where this is set, and then cannot ask who has a key in the same header."""
    file = tmp_path / "netrc"
    file.write_text("default login somebody password hunter2")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    monkeypatch.setenv("AIOHTTP_TRUST_ENV", "True")
    with Provider(PATHS[path]) as provider:
        async with opened(tmp_path, deployment(path, provider), {}) as konstruct:
            assert (await konstruct.complete(HELLO)).content
    assert {request.headers.get("authorization", "").partition(" ")[0] for request in provider.requests} <= {
        "Bearer",
        "",
    }


@pytest.mark.long
async def test_idle_connections_after_long_answers_serve_the_next_calls(
    openai: Provider, ollama: Provider, tmp_path: Path
) -> None:
    """Several at once: where the event loop is busy, the reading of a long answer pauses."""
    patient = {"model": "ollama/qwen3:8b", "api_base": ollama.url, "timeout": 60}
    hasty = {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "sk-1c9d", "timeout": 5, "num_retries": 0}
    ollama.script(Text("while the time-out of the others passes", delay=11))  # LiteLLM is given twice as long
    async with opened(tmp_path, {"model_list": [entry("hasty", hasty), entry("patient", patient)]}) as konstruct:
        await konstruct.complete(HELLO, model_group="patient")  # and loads what the first call needs
        for said in ("x" * 1_000_000, "short"):
            openai.script(Text(said))
            calls = (konstruct.complete(HELLO, model_group="hasty") for _ in range(8))
            assert {answer.content for answer in await asyncio.gather(*calls)} == {said}
            if said != "short":
                await konstruct.complete(HELLO, model_group="patient")
