"""One caller's fault is nobody else's: neither a credential, nor what is known of a provider, nor a turn."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from support.default_groups import HELLO, entry, opened, reaching, write
from support.providers import (
    ContentPolicy,
    ContextOverflow,
    Drop,
    OtherWire,
    Provider,
    Raw,
    Received,
    Status,
    Text,
    Wire,
)

from konstruct_mcp import CompletionError, Konstruct, KonstructError
from konstruct_mcp.core.shares import Shares
from konstruct_mcp.testing.credentials import service_account

Field = Callable[[Provider, str], dict[str, Any]]


def key(name: str) -> Field:
    return lambda _, value: {name: value}


def within(name: str, inner: str) -> Field:
    return lambda _, value: {name: {inner: value}}


def login_of_google(provider: Provider, value: str) -> dict[str, Any]:
    account = json.loads(service_account(f"{provider.root}/token"))
    provider.also["/token"] = token_of_google
    return {"vertex_credentials": json.dumps({**account, "client_email": value, "private_key_id": value})}


def token_of_google(asked: Received) -> dict[str, Any]:
    claims = bytes(asked.body).decode().partition("assertion=")[2].split(".")[1]
    issuer = json.loads(base64.urlsafe_b64decode(claims + "=="))["iss"]
    return {"access_token": f"ya29.{issuer}", "expires_in": 3599, "token_type": "Bearer"}


@dataclass(frozen=True)
class Case:
    """A deployment without the fields that make it somebody's, and each of these, with the others beside it."""

    wire: Wire | OtherWire
    params: Mapping[str, Any]
    fields: Mapping[str, Field]
    path: str = ""  # behind the fake's root, where that is another one than the format's


CALLED: dict[str, Field] = {
    "extra_headers": within("extra_headers", "x-who"),
    "extra_query": within("extra_query", "q"),
}
KEYED: dict[str, Field] = {"api_key": key("api_key"), **CALLED}
ENTRA = {"tenant_id": "t", "client_id": "c", "client_secret": "s"}
PERSON = {"client_id": "c", "azure_username": "u", "azure_password": "p"}


def azure(model: str, version: str = "2025-04-01-preview", **more: str) -> dict[str, str]:
    return {"model": model, "api_version": version, **more}


CASES = [
    Case(
        "openai", {"model": "openai/gpt-4o"}, {**KEYED, "organization": key("organization"), "project": key("project")}
    ),
    Case("openai", {"model": "openai/responses/gpt-5-codex"}, {**KEYED, "organization": key("organization")}),
    Case("anthropic", {"model": "anthropic/claude-sonnet-4-6"}, KEYED),
    Case("gemini", {"model": "gemini/gemini-3.1-pro-preview"}, KEYED),
    Case("openai", {"model": "mistral/mistral-large-latest"}, KEYED),
    Case("openrouter", {"model": "openrouter/a/b"}, KEYED),
    Case("cohere", {"model": "cohere_chat/command-a-03-2025"}, KEYED),
    Case("ollama", {"model": "ollama/qwen3:8b"}, KEYED),
    Case("openai", {"model": "azure_ai/mistral-large"}, KEYED),
    *(
        Case("azure", azure(model), {**KEYED, "azure_ad_token": key("azure_ad_token")})
        for model in ("azure/gpt-4o", "azure/responses/gpt-5-codex")
    ),
    *(
        Case("azure", azure("azure/gpt-4o", version, **login), {name: key(name) for name in (*login, "azure_scope")})
        for version in ("2025-04-01-preview", "v1")
        for login in (ENTRA, PERSON)
    ),
    Case("azure", azure("azure/gpt-4o", "v1"), {"azure_ad_token": key("azure_ad_token"), **KEYED}),
    Case(
        "bedrock",
        {"model": "bedrock/us.anthropic.claude-sonnet-4-6", "aws_secret_access_key": "s", "aws_access_key_id": "AKIA"},
        {name: key(name) for name in ("aws_access_key_id", "aws_session_token", "aws_region_name", "api_key")},
    ),
    Case("vertex", {"model": "vertex_ai/gemini-3.1-pro-preview"}, {"vertex_credentials": login_of_google}),
    Case("vertex", {"model": "vertex_ai/claude-sonnet-4-6"}, {"vertex_credentials": login_of_google}),
    Case(
        "openai",
        {"model": "watsonx/ibm/granite", "project_id": "p"},
        {"api_key": key("api_key"), "token": key("token")},
    ),
    Case(
        "openai",
        {"model": "gigachat/GigaChat"},
        {"api_key": lambda _, value: {"api_key": f"the-same-beginning-{value}"}},
    ),
]


def _in_both_orders() -> Iterator[Any]:
    """The short form has those that LiteLLM by itself would mix up, a login of each kind."""
    for case in CASES:
        is_short = case.params in (azure("azure/gpt-4o", **ENTRA), {"model": "gigachat/GigaChat"})
        is_short |= case.params["model"] == "azure/gpt-4o" and "azure_ad_token" in case.fields
        name = " ".join(map(str, case.params.values()))
        yield pytest.param(case, "one", id=f"{name} one", marks=[] if is_short else pytest.mark.long)
        yield pytest.param(case, "two", id=f"{name} two", marks=pytest.mark.long)


class EntraLogin:
    """Stands in for azure-identity's two, whose tokens come from the network: its token says what it was made with."""

    def __init__(self, *made_with: str, **named: str) -> None:
        self._made_with = [*made_with, *named.values()]

    def get_token_info(self, *scopes: str, **_: object) -> Any:
        token = "+".join([*self._made_with, *scopes])
        return SimpleNamespace(token=token, expires_on=int(time.time()) + 3600, refresh_on=None)

    def get_token(self, *scopes: str, **_: object) -> Any:
        return self.get_token_info(*scopes)


class Edge:
    """A fake for each format, of which OpenAI's gives tokens too."""

    def __init__(self, made: Callable[[Wire | OtherWire], Provider]) -> None:
        self.by_wire = {wire: made(wire) for wire in dict.fromkeys(["openai", *(case.wire for case in CASES)])}
        self._seen = 0

    @property
    def tokens(self) -> Provider:
        return self.by_wire["openai"]

    def sent(self) -> str:
        """All that has been sent since this was asked last."""
        requests = sorted((one for fake in self.by_wire.values() for one in fake.requests), key=lambda one: one.at)
        new, self._seen = requests[self._seen :], len(requests)
        return "\n".join(f"{one.path} {one.headers} {one.body!r}" for one in new)


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    import azure.identity

    monkeypatch.setattr(azure.identity, "ClientSecretCredential", EntraLogin)
    monkeypatch.setattr(azure.identity, "UsernamePasswordCredential", EntraLogin)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobodys")  # LiteLLM reads these itself
    with contextlib.ExitStack() as stack:
        made = Edge(lambda wire: stack.enter_context(Provider(wire)))
        for name in ("WATSONX_IAM_URL", "GIGACHAT_AUTH_URL"):
            made.tokens.also[f"/{name}"] = token
            monkeypatch.setenv(name, f"{made.tokens.root}/{name}")
        yield made


def token(asked: Received) -> dict[str, Any]:
    who = f"{bytes(asked.body).decode()}{asked.headers.get('authorization', '')}".replace(" ", "")
    return {"access_token": who, "expires_in": 3600, "expires_at": (int(time.time()) + 3600) * 1000}


@pytest.mark.parametrize(("case", "first"), list(_in_both_orders()))
async def test_two_that_differ_in_one_credential_are_each_asked_with_their_own(
    tmp_path: Path, edge: Edge, case: Case, first: str
) -> None:
    fake, second = edge.by_wire[case.wire], "two" if first == "one" else "one"
    entries = []
    for name, made in case.fields.items():
        at = {**reaching(fake, case.params["model"]), **case.params, "num_retries": 0}
        if name not in _BESIDE_A_KEY:
            at.pop("api_key", None)
        entries += [entry(f"{name} {who}", {**at, **made(fake, f"{name}-{who}")}) for who in (first, second)]
    async with opened(tmp_path, {"model_list": entries}, {}) as konstruct:
        for name in case.fields:
            for who, other in ((first, second), (second, first), (first, second)):
                with contextlib.suppress(CompletionError):  # the fake knows no address with a query
                    await konstruct.complete(HELLO, model_group=f"{name} {who}")
                sent = edge.sent()
                assert f"{name}-{who}" in sent, (name, who, sent)
                assert f"{name}-{other}" not in sent, (name, who, sent)
                assert "sk-nobodys" not in sent


_BESIDE_A_KEY = (*CALLED, "organization", "project")


async def test_an_image_is_not_named_to_one_account_as_another_has_it(tmp_path: Path, edge: Edge) -> None:
    giga = {"model": "gigachat/GigaChat", "api_base": edge.tokens.url}
    config = {"model_list": [entry(who, giga, api_key=who) for who in ("one", "two")]}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    async with opened(tmp_path, config, {}) as konstruct:
        for who in ("one", "two"):
            edge.tokens.also["/v1/files"] = {"id": f"file-of-{who}"}
            await konstruct.complete([{"role": "user", "content": [image]}], model_group=who)
            assert edge.tokens.requests[-1].body["messages"][0]["attachments"] == [f"file-of-{who}"]


async def test_what_fetches_a_token_brings_no_cookie_of_another_account_and_follows_nobody(
    tmp_path: Path, edge: Edge, openai: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"access_token": "t", "expires_in": 3600}).encode()
    openai.script(
        Raw(body, headers={"set-cookie": "session=of-one; Path=/"}),
        Raw(body),
        Raw(b"", status=307, headers={"location": f"{edge.tokens.root}/elsewhere"}),
    )
    monkeypatch.setenv("WATSONX_IAM_URL", f"{openai.url}/chat/completions")
    granite = {"model": "watsonx/ibm/granite", "api_base": edge.tokens.url, "project_id": "p", "num_retries": 0}
    config = {"model_list": [entry(who, granite, api_key=f"key-{who}") for who in ("one", "two", "three")]}
    async with opened(tmp_path, config, {}) as konstruct:
        for who in ("one", "two"):
            await konstruct.complete(HELLO, model_group=who)
        with pytest.raises(CompletionError):
            await konstruct.complete(HELLO, model_group="three")
    assert [request.headers.get("cookie") for request in openai.requests] == [None] * 3
    assert "key-three" not in edge.sent()


async def test_a_login_that_the_config_changes_is_the_next_calls(tmp_path: Path, edge: Edge) -> None:
    gpt = entry(
        "a", {"model": "azure/gpt-4o", "api_base": edge.by_wire["azure"].url, "api_version": "2025-04-01-preview"}
    )

    def config(secret: str) -> dict[str, Any]:
        login = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": secret}
        return {"model_list": [gpt], "environment_variables": login}

    async with opened(tmp_path, config("before"), {}) as konstruct:
        await konstruct.complete(HELLO)
        assert "+before+" in edge.sent()
        write(tmp_path, config("after"))
        await konstruct.reload()
        await konstruct.complete(HELLO)
        assert "+after+" in edge.sent()


# -- what one tenant asks, and what another gets -----------------------------------------------------------------------

MODELS: dict[str, tuple[Wire | OtherWire, str]] = {
    "gpt": ("openai", "openai/gpt-4o"),
    "claude": ("anthropic", "anthropic/claude-sonnet-4-6"),
    "gemini": ("gemini", "gemini/gemini-3.1-pro-preview"),
    "azure": ("azure", "azure/gpt-4o"),
    "nova": ("bedrock", "bedrock/amazon.nova-pro-v1:0"),
    "deepseek": ("deepseek", "deepseek/deepseek-reasoner"),
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def calling(arguments: str, call_id: str = "call_1") -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def result(call_id: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "mild"}


def schema(parameters: Any) -> dict[str, Any]:
    return {
        "messages": HELLO,
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": parameters}}],
    }


def saying(text: str, *more: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": text}, *more]}], **arguments}


# Most of these LiteLLM refuses for one provider or another before it has sent anything.
UNMADE: list[dict[str, Any]] = [
    *(
        {"messages": [*HELLO, calling(written), result()], "tools": [TOOL]}
        for written in ("{no", "[1]", "1", "null", "")
    ),
    {"messages": [{"role": "system", "content": "Be brief."}]},
    {"messages": [{"role": "assistant", "content": "Yes?"}]},
    {"messages": [{"role": "tool", "tool_call_id": "gone", "content": "mild"}], "tools": [TOOL]},
    {"messages": [*HELLO, result("gone")]},
    {"messages": [*HELLO, calling("{}"), *HELLO], "tools": [TOOL]},
    {"messages": [*HELLO, calling("{}", "c__thought__!"), result("c__thought__!")], "tools": [TOOL]},
    schema({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    schema({"type": "object", "properties": {"a": {"$ref": "#/$defs/gone"}}}),
    schema({"type": "object", "properties": {"a": {"anyOf": "x"}, "b": None, "c": True}}),
    schema({"type": ["object", "null"], "properties": [], "required": "a"}),
    {
        "messages": HELLO,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": 5}}},
    },
    {"messages": HELLO, "max_tokens": 10**18},
]
# And these the fake answers in a way that has to do with what was asked.
ANSWERED: list[dict[str, Any]] = [
    *(
        saying(f"ANSWER {how}", **more)
        for how in (
            "500",
            "nothing",
            "html",
            "policy",
            "overflow",
            "echo",
            "rate",
            "413",
            "422",
            "drop",
            "large",
            "dear",
        )
        for more in ({}, {"temperature": 0.2}, {"max_tokens": 1}, {"tools": [TOOL]})
    ),
    saying("and this", PICTURE, temperature=0.2),
    saying("and this", PICTURE, temperature=0.2, tools=[TOOL]),
]
WHATEVER = st.sampled_from([*UNMADE, *ANSWERED])
REQUESTS: list[dict[str, Any]] = [
    {"messages": HELLO},
    {"messages": HELLO, "temperature": 0.2},
    {"messages": HELLO, "temperature": 0.2, "tools": [TOOL]},
    {"messages": [*HELLO, calling("{}"), result()], "tools": [TOOL]},
]


def answer(asked: Received) -> Any:
    """By what the request says: a model that takes no temperature beside a picture, thinks before it calls a tool, and
    does whatever it is told to."""
    said = json.dumps(asked.body)
    refusals = {
        "500": Status(500),
        "nothing": Text("", usage=(11, 0)),
        "html": Raw(b"<html>Hello</html>", content_type="text/html"),
        "policy": ContentPolicy(),
        "overflow": ContextOverflow(),
        "echo": Status(400, "not understood: insufficient_quota, your organization is disabled"),
        "rate": Status(400, "not understood: rate limit reached, try again in 3600s"),
        "413": Status(413, "the request is too large"),
        "422": Status(422, "messages: field required"),
        "drop": Drop(),
        "large": Status(429, "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000"),
        "dear": Status(402, "This request requires more credits, or fewer max_tokens. You can only afford 10"),
    }
    for how, refusal in refusals.items():
        if f"ANSWER {how}" in said:
            return refusal
    if "iVBORw0KGgo" in said and '"temperature": 0.2' in said:
        return Status(400, "`temperature` is not supported with images")
    if '"weather"' in said and "mild" not in said:
        return Text(None, tool_calls=[("call_1", "weather", "{}")], reasoning="It may rain.")
    return Text("Hello")


class Pair:
    """A `Konstruct` that two tenants ask, over fakes."""

    def __init__(self, folder: Path, fakes: Mapping[Wire | OtherWire, Provider]) -> None:
        self._folder, self._fakes = folder, fakes
        models = []
        for group, (wire, model) in MODELS.items():
            at = reaching(fakes[wire], model) | {"num_retries": 0}
            models += [entry(group, at, order=1), entry(group, reaching(fakes["xai"], "xai/grok-4"), order=2)]
        models.append(entry("openai/*", {"model": "openai/*", "api_base": fakes["openai"].url, "api_key": "k"}))
        settings = {"allowed_fails": 0, "num_retries": 0}  # the first failure counts
        self._config = {"model_list": models, "router_settings": settings, "konstruct": {"default_group": "gpt"}}

    async def gets(self, before: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        """What the one tenant gets, and what is sent for it, after so much of the other's."""
        async with opened(self._folder, self._config, {}) as konstruct:
            for group in MODELS:  # what the one has in its own history
                await konstruct.complete(HELLO, model_group=group, tools=[TOOL], tenant_id="one")
            for group, request in before:
                with contextlib.suppress(KonstructError):
                    await konstruct.complete(**request, model_group=group, tenant_id="other")
            return [await self._gets(konstruct, group, request) for group in MODELS for request in REQUESTS]

    async def _gets(self, konstruct: Konstruct, group: str, request: dict[str, Any]) -> str:
        fakes = self._fakes.values()
        counts = [len(fake.requests) for fake in fakes]
        try:
            got = await konstruct.complete(**request, model_group=group, tenant_id="one")
            said = repr((got.content, got.finish_reason, got.model, got.notes, got.usage, got.attempts)) + repr(
                [(call.function.name, call.function.arguments) for call in got.tool_calls]
            )
        except KonstructError as error:
            said = str(error)
        sent = [repr(one.body) for fake, count in zip(fakes, counts, strict=True) for one in fake.requests[count:]]
        return f"{group} {request}: {said}, sent {sent}"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        wires = dict.fromkeys([*(wire for wire, _ in MODELS.values()), "xai"])
        fakes = {wire: stack.enter_context(Provider(wire)) for wire in wires}
        for fake in fakes.values():
            fake.script(answer)
        yield Pair(tmp_path, fakes)


ASKED = st.lists(st.tuples(st.sampled_from([*MODELS, "openai/one", "openai/two"]), WHATEVER), min_size=1, max_size=20)


@pytest.mark.parametrize(
    "examples",
    [
        0,
        pytest.param(25, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
        pytest.param(150, marks=[pytest.mark.minutes, pytest.mark.timeout(1800)]),
    ],
)
def test_no_sequence_of_requests_by_one_tenant_changes_what_another_tenant_gets(pair: Pair, examples: int) -> None:
    """But through a provider's own failure, which none of these is. The short form has two sequences, each of which one
    thing that was once shared would have shown."""
    expected = asyncio.run(pair.gets([]))

    @settings(
        max_examples=max(1, examples),
        phases=[Phase.explicit, *([Phase.generate, Phase.shrink] if examples else [])],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @example([(group, saying("and this", PICTURE, temperature=0.2)) for group in MODELS])
    @example(
        [
            *((group, saying(f"ANSWER {how}")) for group in MODELS for how in ("html", "500", "rate")),
            *(("gpt", saying(f"ANSWER {how}")) for how in ("drop", "large", "dear")),
        ]
    )
    @given(ASKED)
    def ask(before: list[tuple[str, dict[str, Any]]]) -> None:
        assert asyncio.run(pair.gets(before)) == expected

    ask()


def test_who_keeps_a_great_deal_pushes_out_nothing_of_another() -> None:
    now = 0.0
    kept: Shares[str, str] = Shares(100, 60, lambda: now)
    assert kept.keep("other", "a", "first", 20)
    for n in range(20):
        assert kept.keep("many", f"m{n}", "", 15)
    assert not kept.keep("other", "b", "larger than all", 101)
    assert kept.get("a") == "first"
    assert [n for n in range(20) if kept.get(f"m{n}") is not None] == [15, 16, 17, 18, 19]
    now = 30.0
    assert kept.keep("other", "a", "again", 20)
    now = 61.0
    assert (kept.get("m19"), kept.get("a")) == (None, "again")
    kept.keep("third", "c", "", 1)
    assert len(kept) == 2


@pytest.mark.long
async def test_a_thought_is_there_when_its_tenant_goes_on_however_much_another_thinks(
    tmp_path: Path, openai: Provider
) -> None:
    kimi = {"model": "openai/kimi-k2", "api_base": openai.url, "api_key": "k"}
    info = {"supports_function_calling": True}
    async with opened(tmp_path, {"model_list": [{**entry("a", kimi), "model_info": info}]}, {}) as konstruct:
        openai.script(Text(None, tool_calls=[("call_1", "weather", "{}")], reasoning="It may rain."))
        await konstruct.complete(HELLO, tools=[TOOL], tenant_id="one")
        for n in range(20):
            openai.script(Text(None, tool_calls=[(f"call_{n}", "weather", "{}")], reasoning="x" * 1_900_000))
            await konstruct.complete(**saying(f"and {n}"), tools=[TOOL], tenant_id="other")
        await konstruct.complete([*HELLO, calling("{}"), result()], tools=[TOOL], tenant_id="one")
        assert openai.requests[-1].body["messages"][1]["reasoning_content"] == "It may rain."
