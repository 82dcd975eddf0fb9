"""What happens before the first call: little, and nothing on the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.databases import sqlite
from support.default_groups import KEYS, default_groups, entry, write
from support.processes import wait_for
from support.providers import Provider
from support.stdio_lines import SERVER, ServerProcess, call

# What is only of use to some: OpenAI's own client, the making of a ledger's tables, a table of tokens.
HEAVY = ("openai.resources.chat", "alembic", "litellm.litellm_core_utils.default_encoding")
# What serves and watches servers over HTTP, and what sends to OpenTelemetry where variables ask for it.
NOT_OVER_STDIO = ("konstruct_mcp.transports.http", "konstruct_mcp.telemetry", "prometheus_client", "opentelemetry.sdk")

WATCHED = str(Path(__file__).parents[1] / "support" / "watched_server.py")


@pytest.fixture
def config(anthropic: Provider, openai: Provider, ollama: Provider, tmp_path: Path) -> Path:
    return write(tmp_path, default_groups(anthropic, openai, ollama))


def test_initialize_and_lists_are_answered_while_litellm_still_loads(config: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with ServerProcess(config, command=[sys.executable, WATCHED, "held-import", str(gate)]) as server:
        server.initialize()
        assert len(server.ask("tools/list")["tools"]) == 2
        assert server.ask("tools/call", {"name": "list_groups"})["structuredContent"]["groups"]
        assert server.ask("resources/read", {"uri": "konstruct://groups"})["contents"]
        request = server.send("tools/call", call("fast"))
        timed_out = server.complete("fast", timeout_s=0.2)
        assert "timeout: no answer within 0.2 s, waiting for LiteLLM to load" in timed_out["content"][0]["text"]
        gate.write_bytes(b"")
        assert server.answer(request)["result"]["structuredContent"]["content"] == "Hello from ollama"


@pytest.mark.long
def test_a_group_that_is_made_for_a_call_takes_of_the_calls_own_time_and_is_on_its_account(
    anthropic: Provider, openai: Provider, ollama: Provider, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    groups = default_groups(anthropic, openai, ollama)
    groups["model_list"].append(entry("any/*", {"model": "openai/*", "api_base": openai.url, "api_key": "k"}))
    database = sqlite(tmp_path)
    groups["konstruct"] |= {"max_concurrency": 1, "max_queue": 1, "ledger_url": database.url}
    command = [sys.executable, WATCHED, "held-import", str(gate)]
    with ServerProcess(write(tmp_path, groups), command=command, environ=KEYS) as server:
        server.initialize()
        calls = [server.send("tools/call", call(f"any/{name}", timeout_s=2.5)) for name in ("a", "b", "c")]
        ends = [server.answer(sent)["result"]["content"][0]["text"] for sent in calls]
        assert ends[2].startswith("overloaded: ")
        waited = tuple(
            f"timeout: no answer within 2.5 s, waiting for {what}" for what in ("LiteLLM to load", "its turn")
        )
        assert all(end.startswith(waited) for end in ends[:2])
        gate.write_bytes(b"")
        assert server.complete("any/a")["structuredContent"]["content"] == "Hello from openai"
    rows = sorted((row["group_asked"], row["outcome"]) for row in database.rows())
    assert rows == [("any/a", "ok"), ("any/a", "timeout"), ("any/b", "timeout")]
    database.engine.dispose()


def test_litellm_is_loaded_after_what_a_client_asks_first_and_nothing_heavy_with_it(
    config: Path, tmp_path: Path
) -> None:
    command, environ = [sys.executable, WATCHED, "imports", *HEAVY, *NOT_OVER_STDIO], {"XDG_DATA_HOME": str(tmp_path)}
    subprocess.run([*SERVER, "usage"], env={**os.environ, **environ}, check=True, timeout=60)  # it makes the ledger
    was_loading = True
    for _ in range(3):  # in case a machine that is busy with much else takes a quarter of a second for that
        if was_loading:
            with ServerProcess(config, command=command, environ={**environ, **KEYS}) as server:
                server.initialize()
                assert server.ask("tools/list")["tools"]
                was_loading = b"LOADING" in server.errors
                for group in ("fast", "quality"):
                    assert not server.complete(group)["isError"]
                server.close_stdin()
                assert server.wait() == 0
            assert server.errors.decode().splitlines() == ["LOADING", "LOADED"]
    assert not was_loading


@pytest.mark.long
def test_the_watch_sees_what_is_heavy(openai: Provider, tmp_path: Path) -> None:
    """The test above could not fail if the watch were blind."""
    models = ("deepinfra/x", "mistral/x")
    entries = [entry(model, {"model": model, "api_base": openai.url, "api_key": "k"}) for model in models]
    config = write(tmp_path, {"model_list": entries})
    with ServerProcess(
        config, command=[sys.executable, WATCHED, "imports", *HEAVY], environ={"XDG_DATA_HOME": str(tmp_path)}
    ) as server:
        server.initialize()
        assert not any(server.complete(model)["isError"] for model in models)
        server.close_stdin()
        server.wait()
    assert server.errors.decode().splitlines()[-1] == f"LOADED {' '.join(HEAVY)}"


@pytest.mark.long
@pytest.mark.parametrize("spelling", ["NO_PROXY", "no_proxy"])
def test_a_proxy_is_not_asked_for_what_is_on_this_machine(config: Path, ollama: Provider, spelling: str) -> None:
    nowhere = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
    with ServerProcess(config, environ={**nowhere, spelling: "intranet.example"}) as server:
        server.initialize()
        assert not server.complete("fast")["isError"]
    assert ollama.calls == 1


def test_it_ends_at_once_while_litellm_still_loads(config: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with ServerProcess(config, command=[sys.executable, WATCHED, "held-import", str(gate)]) as server:
        server.initialize()
        server.send("tools/call", call("fast"))
        server.close_stdin()
        assert server.wait() == 0
        assert b"Traceback" not in server.errors


@pytest.mark.many_cases
@pytest.mark.parametrize("event", ["import", "socket.__new__"])
def test_it_ends_without_a_word_however_far_litellm_is(config: Path, event: str) -> None:
    """While Python ends no import succeeds, nor does the warm-up, which begins with an event loop's socket."""
    with ServerProcess(config, command=[sys.executable, WATCHED, "held-thread", event]) as server:
        wait_for(lambda: b"WAITING" in server.errors)
        server.close_stdin()
        assert server.wait() == 0
    assert server.errors.decode() == "WAITING\n"


def test_nothing_but_loopback_is_ever_reached(config: Path, ollama: Provider) -> None:
    with ServerProcess(config, command=[sys.executable, WATCHED, "offline"]) as server:
        server.initialize()
        server.ask("tools/list")
        # Its answer comes after the import and the warm-up; a fallback to nowhere would show as NETWORK.
        assert not server.complete("fast")["isError"]
        server.close_stdin()
        assert server.wait() == 0
    assert server.errors.decode() == ""
    assert ollama.calls == 1


@pytest.mark.long
def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    """The test above could not fail if the watch were blind."""
    away = {"model": "openai/x", "api_base": "http://far.invalid/v1", "api_key": "k"}
    config = write(tmp_path, {"model_list": [{"model_name": "away", "litellm_params": away}]})
    with ServerProcess(config, command=[sys.executable, WATCHED, "offline"]) as server:
        server.initialize()
        assert server.complete("away")["isError"]
        server.close_stdin()
        server.wait()
    assert "NETWORK socket.getaddrinfo far.invalid" in server.errors.decode()


def test_the_current_folder_gives_neither_keys_nor_addresses(ollama: Provider, tmp_path: Path) -> None:
    ollama.stop()  # so that a fallback ends there, and not at an Ollama of whoever runs the tests
    folder = tmp_path / "cloned" / "repository"
    folder.mkdir(parents=True)
    for place in (folder, folder.parent):
        (place / ".env").write_text("OPENAI_API_KEY=sk-of-the-folder\n")
        for name in ("config.yaml", "konstruct.yaml", "konstruct-mcp.yaml", "default_config.yaml"):
            write(place, {"model_list": []}).rename(place / name)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OLLAMA_BASE_URL": ollama.url}
    command = [*SERVER, "groups", "--json"]
    listed = subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=True, timeout=60)
    groups = {group["name"]: group for group in json.loads(listed.stdout)["groups"]}
    assert groups["quality"]["deployments"][1]["reason"] == "OPENAI_API_KEY is not set"
    # The same once LiteLLM, which would look for a .env, is loaded.
    command = [*SERVER, "complete", "--group", "quality", "Hello"]
    refused = subprocess.run(command, cwd=folder, env=environ, capture_output=True, timeout=60)
    assert b"OPENAI_API_KEY is not set" in refused.stderr
    assert refused.returncode == 1
