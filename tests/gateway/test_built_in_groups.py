"""Without a config, the groups answer with what there is: a key, an Ollama and what that has, the embedded model."""

from __future__ import annotations

import json
import os
import socketserver
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from support.commands import ended, run, started
from support.default_groups import HELLO, connected, write
from support.processes import wait_for
from support.providers import Endless, Provider, Raw
from support.stdio_lines import ServerProcess, call

from konstruct_mcp import Konstruct, UnavailableError
from konstruct_mcp.testing.formats import INSTALLED_MODEL

WATCHED = str(Path(__file__).parents[1] / "support" / "watched_server.py")
GB = 10**9
WAYS_ON = "run `konstruct-mcp init`, or set ANTHROPIC_API_KEY or OPENAI_API_KEY"
NO_EMBEDDED = {"KONSTRUCT_GGUF": "/nonexistent.gguf"}


def installed(name: str, size: int, family: str = "llama", **more: Any) -> dict[str, Any]:
    """A model as Ollama's `/api/tags` lists it."""
    details = {**INSTALLED_MODEL["details"], "family": family, "families": [family]}
    return {**INSTALLED_MODEL, "name": name, "model": name, "size": size, "details": details, **more}


LLAMA, SMALL = installed("llama3.1:8b", 5 * GB), installed("gemma3:1b", GB, "gemma3")
QWEN = installed("qwen3:32b", 20 * GB, "qwen3")
LARGER = installed("llama3.3:70b", 42 * GB)
BERT = installed("snowflake-arctic:335m", 60 * GB, "bert")  # larger than any real one, so that size cannot save a test
NOMIC = installed("nomic-embed-text:latest", 60 * GB, "nomic-bert")
CLOUD = installed("gpt-oss:120b-cloud", 90 * GB, "gptoss", remote_host="https://ollama.com:443", remote_model="gpt-oss")


def has(ollama: Provider, *models: Mapping[str, Any]) -> None:
    ollama.also["/api/tags"] = {"models": list(models)}


def environ(folder: Path, ollama: Provider, **more: str) -> dict[str, str]:
    home = {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    return {**home, "OLLAMA_BASE_URL": ollama.url, **more}


@asynccontextmanager
async def open_built_in(env: Mapping[str, str]) -> AsyncIterator[Konstruct]:
    async with Konstruct.from_config(environ=env) as konstruct:
        yield konstruct


async def listed(client: Client) -> dict[str, Any]:
    document = (await client.call_tool("list_groups", {})).structured_content
    assert isinstance(document, dict)
    return document


def deployments(document: Mapping[str, Any], group: str) -> dict[str, str | None]:
    """The models of a group, and why each cannot be asked."""
    [found] = [one for one in document["groups"] if one["name"] == group]
    return {deployment["model"]: deployment.get("reason") for deployment in found["deployments"]}


@pytest.mark.parametrize(
    ("keys", "models", "group", "reason", "local"),
    [
        (["ANTHROPIC_API_KEY"], [LLAMA], "quality", "ANTHROPIC_API_KEY is set", "llama3.1:8b"),
        (["OPENAI_API_KEY"], None, "quality", "OPENAI_API_KEY is set", "qwen3:32b"),
        ([], [SMALL, LLAMA], "balanced", "no key is set, and Ollama answers with llama3.1:8b", "llama3.1:8b"),
        ([], [LARGER, QWEN], "balanced", "no key is set, and Ollama answers with qwen3:32b", "qwen3:32b"),
        ([], [BERT, NOMIC, CLOUD, SMALL], "balanced", "no key is set, and Ollama answers with gemma3:1b", "gemma3:1b"),
        (
            [],
            [NOMIC],
            "embedded",
            f"no key is set and no Ollama can be asked; for a stronger one {WAYS_ON}",
            "qwen3:32b",
        ),
        ([], None, "embedded", f"no key is set and no Ollama can be asked; for a stronger one {WAYS_ON}", "qwen3:32b"),
    ],
    ids=["key", "other-key", "largest", "named-one", "chat-models-alone", "no-chat-model", "nothing"],
)
async def test_the_default_group_is_the_first_that_can_be_asked(
    tmp_path: Path,
    ollama: Provider,
    keys: Sequence[str],
    models: list[Mapping[str, Any]] | None,
    group: str,
    reason: str,
    local: str,
) -> None:
    if models is None:
        ollama.stop()
    else:
        has(ollama, *models)
    lacks = "no Ollama answers" if models is None else "Ollama has no chat model; `ollama pull qwen3:32b` fetches one"
    env = environ(tmp_path, ollama, **dict.fromkeys(keys, "sk-test-7f3a9c"))
    async with open_built_in(env) as konstruct:
        await konstruct.look_for_ollama()  # else the greeting waits for it a little, but not on a busy machine
        await says(konstruct, group, reason, local, None if models and models != [NOMIC] else lacks)


async def says(konstruct: Konstruct, group: str, reason: str, local: str, state: str | None) -> None:
    async with connected(konstruct) as client:
        greeting = client.instructions or ""
        assert f"Leave it out for {group} ({reason})." in greeting
        document = await listed(client)
        assert (document["default_group"], document["default_reason"]) == (group, reason)
        for name in ("local", "fast", "economy"):
            assert deployments(document, name) == {f"ollama/{local}": state}
        assert ("- fast: quick answers from a local model (not set up)" in greeting) == (state is not None)
        schema = (await client.list_tools()).tools[0].input_schema["properties"]["model_group"]
        assert schema["default"] == group


async def test_a_call_without_a_group_is_answered_by_the_model_that_ollama_has(
    tmp_path: Path, ollama: Provider
) -> None:
    has(ollama, LLAMA, SMALL)
    async with open_built_in(environ(tmp_path, ollama)) as konstruct:
        completion = await konstruct.complete(HELLO)
    assert (completion.served_group, completion.model) == ("balanced", "ollama/llama3.1:8b")
    [asked] = [request for request in ollama.requests if request.completes]
    assert asked.body["model"] == "llama3.1:8b"


async def test_what_a_model_can_do_is_asked_where_its_family_does_not_say(tmp_path: Path, ollama: Provider) -> None:
    able = {"qwen3-reader:4b": ["embedding"], "llama3.1:8b": ["completion", "tools"]}
    ollama.also["/api/show"] = lambda asked: {"capabilities": able[asked.body["model"]]}
    has(ollama, installed("qwen3-reader:4b", 8 * GB, "qwen3"), LLAMA)
    async with open_built_in(environ(tmp_path, ollama)) as konstruct:
        await konstruct.look_for_ollama()
        assert konstruct.config.groups["fast"].deployments[0].model == "ollama/llama3.1:8b"
    has(
        ollama,
        installed("reader:4b", 8 * GB, capabilities=["embedding"]),
        installed("b", 1, capabilities=["completion"]),
    )
    shown = [request.path for request in ollama.requests].count("/api/show")
    async with open_built_in(environ(tmp_path, ollama)) as konstruct:
        await konstruct.look_for_ollama()
        assert konstruct.config.groups["fast"].deployments[0].model == "ollama/b"
    assert [request.path for request in ollama.requests].count("/api/show") == shown


async def test_the_model_that_the_environment_names_is_asked_whatever_is_installed(
    tmp_path: Path, ollama: Provider
) -> None:
    has(ollama, LLAMA, QWEN)
    async with open_built_in(environ(tmp_path, ollama, KONSTRUCT_OLLAMA_MODEL="gemma3:1b")) as konstruct:
        assert (await konstruct.complete(HELLO)).model == "ollama/gemma3:1b"


async def test_an_ollama_that_is_started_later_is_found(tmp_path: Path, ollama: Provider) -> None:
    ollama.stop()
    async with open_built_in(environ(tmp_path, ollama)) as konstruct, connected(konstruct) as client:
        assert (await listed(client))["default_group"] == "embedded"
        has(ollama, LLAMA)
        ollama.start()
        assert (await listed(client))["default_group"] == "balanced"
        assert (await konstruct.complete(HELLO)).model == "ollama/llama3.1:8b"


def test_a_client_is_told_that_the_groups_have_changed(tmp_path: Path, ollama: Provider) -> None:
    ollama.stop()
    env = environ(tmp_path, ollama, KONSTRUCT_CONFIG="")
    with ServerProcess(tmp_path, environ=env) as server:
        server.initialize()
        assert server.ask("tools/call", {"name": "list_groups"})["structuredContent"]["default_group"] == "embedded"
        has(ollama, LLAMA)
        ollama.start()
        server.ask("tools/call", {"name": "list_groups"})

        def told() -> bool:
            server.ask("ping")
            return "notifications/tools/list_changed" in [notice["method"] for notice in server.notices]

        wait_for(told)


@pytest.mark.parametrize(
    "answer",
    [Endless(b'{"models": [', b" "), Raw(b"<html>"), Raw(b"[" * 100_000), Raw(b"{}", status=403), None],
    ids=["endless", "no JSON", "too deep", "forbidden", "missing"],
)
async def test_one_that_does_not_say_what_it_has_is_taken_to_be_there(
    tmp_path: Path, ollama: Provider, answer: Any
) -> None:
    ollama.also["/api/tags"] = answer  # None is an HTTP 404
    async with open_built_in(environ(tmp_path, ollama)) as konstruct:
        assert (await konstruct.complete(HELLO, timeout_s=30)).model == "ollama/qwen3:32b"
        assert konstruct.default_group == "balanced"


async def test_what_a_list_says_amiss_is_passed_over(tmp_path: Path, ollama: Provider) -> None:
    amiss = [None, 7, {"name": 5}, {**SMALL, "name": " "}, {**LARGER, "details": {"family": 1, "families": 5}}]
    has(ollama, *amiss, {**SMALL, "size": "large", "capabilities": [["completion"], "completion"]})  # type: ignore[arg-type]
    async with open_built_in(environ(tmp_path, ollama)) as konstruct:
        await konstruct.look_for_ollama()
        assert konstruct.default_reason == "no key is set, and Ollama answers with llama3.3:70b"


@contextmanager
def never_done() -> Iterator[str]:
    """The address of a server whose answers go on for ever, a little at a time, and never get to the headers."""
    gone = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while not gone.wait(0.2):
                    self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            gone.set()
            server.shutdown()


def test_a_command_ends_whatever_ollama_does(tmp_path: Path, ollama: Provider) -> None:
    with never_done() as address:
        env = {**environ(tmp_path, ollama), "OLLAMA_BASE_URL": address}
        with started("groups", env=env, forked=False) as process:
            ran = ended(process)
    assert ran.code == 0
    assert "no key is set; Ollama is asked, if it is there" in ran.out


async def test_it_is_asked_nothing_but_what_it_has_and_no_key_is_sent(tmp_path: Path, ollama: Provider) -> None:
    has(ollama, LLAMA)
    env = environ(tmp_path, ollama, OPENAI_API_KEY="sk-test-7f3a9c")
    async with open_built_in(env) as konstruct:
        await konstruct.look_for_ollama()
        await konstruct.look_for_ollama()
    assert [(one.method, one.path, one.body) for one in ollama.requests] == [
        ("GET", "/api/tags", b""),
        ("POST", "/api/show", {"model": "llama3.1:8b"}),
    ]
    assert not any("7f3a9c" in str(one.headers) for one in ollama.requests)


@pytest.mark.parametrize("kind", ["file", "mapping"])
async def test_with_a_config_of_ones_own_nobody_looks(tmp_path: Path, ollama: Provider, kind: str) -> None:
    own = {"model_list": [{"model_name": "mine", "litellm_params": {"model": "ollama/m", "api_base": ollama.url}}]}
    given = own if kind == "mapping" else write(tmp_path, own)
    async with Konstruct.from_config(given, environ={"XDG_DATA_HOME": str(tmp_path)}) as konstruct:
        await konstruct.look_for_ollama()
        await konstruct.complete(HELLO)
        assert konstruct.default_reason == ""
    assert [request.path for request in ollama.requests] == ["/api/chat"]


async def test_the_error_where_nothing_is_set_up_says_the_ways_on(tmp_path: Path, ollama: Provider) -> None:
    ollama.stop()
    async with open_built_in(environ(tmp_path, ollama, **NO_EMBEDDED)) as konstruct:
        with pytest.raises(UnavailableError) as refused:
            await konstruct.complete(HELLO)
        assert konstruct.default_reason == f"nothing is set up: {WAYS_ON}"
    assert str(refused.value) == (
        'unavailable: nothing in "balanced" or its fallbacks can be called now: ollama/qwen3:32b: not tried, no Ollama '
        "answers; anthropic/claude-sonnet-4-6: not tried, ANTHROPIC_API_KEY is not set; nothing is set up: " + WAYS_ON
    )


def test_a_look_waits_for_no_litellm(tmp_path: Path, ollama: Provider) -> None:
    """The lists are answered while that still loads, with what Ollama has."""
    has(ollama, LLAMA)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = [sys.executable, WATCHED, "held-import", str(gate)]
    env = environ(tmp_path, ollama, KONSTRUCT_CONFIG="")
    with ServerProcess(tmp_path, command=command, environ=env) as server:
        server.initialize()
        groups = server.ask("tools/call", {"name": "list_groups"})["structuredContent"]
        assert groups["default_reason"] == "no key is set, and Ollama answers with llama3.1:8b"
        request = server.send("tools/call", call("fast"))
        schema = server.ask("tools/list")["tools"][0]["inputSchema"]["properties"]["model_group"]
        assert schema["default"] == "balanced"
        gate.write_bytes(b"")
        assert server.answer(request)["result"]["structuredContent"]["model"] == "ollama/llama3.1:8b"


def test_the_commands_say_what_is_chosen_and_why(tmp_path: Path, ollama: Provider) -> None:
    has(ollama, LLAMA)
    env = environ(tmp_path, ollama, ANTHROPIC_API_KEY="", OPENAI_API_KEY="")
    reason = "no key is set, and Ollama answers with llama3.1:8b"
    for command in ("groups", "check"):
        assert f"default group: balanced; {reason}\n" in run(command, env=env).out
    shown = json.loads(run("groups", "--json", env=env).out)
    assert (shown["default_group"], shown["default_reason"]) == ("balanced", reason)
    ollama.stop()
    ran = run("check", env=env)
    assert "local     ollama/qwen3:32b                no Ollama answers\n" in ran.out
    assert ran.code == 1
