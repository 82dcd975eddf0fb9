"""What the pages tell a client to start, held against the server."""

from __future__ import annotations

import json
import shlex
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from support.pages import BLOCKS, PAGES, REPOSITORY, Block, code
from support.reader import LIMIT_S, uv, uv_here

EXAMPLE = (REPOSITORY / "claude_desktop_config.example.json").read_text("utf-8")
pytestmark = pytest.mark.timeout(LIMIT_S + 60)
SERVER = [
    "/ABSOLUTE/PATH/TO/uv",
    "run",
    "--directory",
    "/ABSOLUTE/PATH/TO/konstruct_mcp",
    "konstruct-mcp",
]  # what every client is told to start


URL = "https://konstruct.example.com/mcp"  # of a team's server
ROOTS = {"VS Code": "servers", "Codex": "mcp_servers"}


def is_server_entry(block: Block) -> bool:
    return block.language == "toml" or (block.language == "json" and "ervers" in block.text)


def is_of_a_team(block: Block) -> bool:
    return URL in block.text


def document_of(block: Block) -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads(block.text) if block.language == "toml" else json.loads(block.text)
    return document


def documented_variables() -> set[str]:
    return {name for row in PAGES["docs/configuration.md"].table("variable") for name in code(row[0])}


@pytest.mark.parametrize("block", [b for b in BLOCKS if is_server_entry(b) and not is_of_a_team(b)], ids=str)
def test_a_client_starts_the_server_so(block: Block) -> None:
    document = document_of(block)
    root = ROOTS.get(block.heading, "mcpServers")
    entry = document[root]["konstruct"]

    assert [entry.pop("command"), *entry.pop("args")] == SERVER
    assert entry.pop("type", "stdio") == "stdio"
    environ = entry.pop("env", {})
    assert set(environ) <= documented_variables()
    reference = {
        "Claude Desktop": "sk-",
        "Attach it to a client": "sk-",  # in the README, where it is Claude Desktop's
        "Claude Code": "${{{name}:-}}",
        "Cursor": "${{env:{name}}}",
        "VS Code": "${{input:anthropic-key}}",
        "Gemini CLI": "${name}",
    }.get(block.heading, "")
    assert all(value.startswith(reference.format(name=name)) for name, value in environ.items())
    more = {name: value for name, value in document.items() if name != root}
    match block.heading:
        case "Claude Code" | "Gemini CLI":
            assert entry.pop("timeout") > 300_000  # milliseconds, and more than ours
        case "Codex":
            assert set(entry.pop("env_vars")) <= documented_variables()
            assert entry.pop("startup_timeout_sec") == 60
            assert entry.pop("tool_timeout_sec") > 300
        case "VS Code":
            assert [item["id"] for item in more.pop("inputs")] == ["anthropic-key"]
    assert (entry, more) == ({}, {})


@pytest.mark.parametrize("block", [b for b in BLOCKS if is_server_entry(b) and is_of_a_team(b)], ids=str)
def test_a_client_asks_a_teams_server_so(block: Block) -> None:
    document = document_of(block)
    client = PAGES[block.page].headings(1)[0]
    entry = document[ROOTS.get(client, "mcpServers")]["konstruct"]
    if client == "Claude Desktop":
        assert entry["args"][-3:] == [URL, "--header", "Authorization:${KONSTRUCT_AUTHORIZATION}"]
        assert entry["env"] == {"KONSTRUCT_AUTHORIZATION": "Bearer ks_…"}
        return
    assert entry.pop({"Gemini CLI": "httpUrl"}.get(client, "url")) == URL
    if client == "Codex":
        assert entry == {"bearer_token_env_var": "KONSTRUCT_KEY", "tool_timeout_sec": 330}
        return
    assert entry.pop("type", None) == {"VS Code": "http", "Claude Code": "http"}.get(client)
    assert entry.pop("timeout", None) == {"Claude Code": 330_000, "Gemini CLI": 330_000}.get(client)
    key = {
        "Claude Code": "${KONSTRUCT_KEY}",
        "Cursor": "${env:KONSTRUCT_KEY}",
        "VS Code": "${input:konstruct-key}",
        "Gemini CLI": "$KONSTRUCT_KEY",
    }[client]
    assert entry == {"headers": {"Authorization": f"Bearer {key}"}}
    assert [item["id"] for item in document.get("inputs", ())] == (["konstruct-key"] if client == "VS Code" else [])


@pytest.mark.parametrize(
    "line",
    [
        line
        for block in BLOCKS
        if block.language == "sh" and block.page.startswith("docs/clients/")
        for line in block.text.splitlines()
        if line.partition(" ")[0] in ("claude", "codex", "gemini", "code")
    ],
)
def test_a_command_adds_the_server(line: str) -> None:
    """What it would start, under which name, with which key."""
    words = shlex.split(line)
    key = "ANTHROPIC_API_KEY=sk-ant-…"
    header = "Authorization: Bearer ks_…"
    match words:
        case ["claude", "mcp", "add", "--transport", "http", "--scope", "user", name, url, "--header", given]:
            assert (name, url, given) == ("konstruct", URL, header)
            return
        case ["codex", "mcp", "add", name, "--url", url, "--bearer-token-env-var", variable]:
            assert (name, url, variable) == ("konstruct", URL, "KONSTRUCT_KEY")
            return
        case ["codex", "mcp", "login", name]:
            assert name == "konstruct"
            return
        case ["gemini", "mcp", "add", "-s", "user", "--transport", "http", "--header", given, *rest]:
            assert (given, rest) == (header, ["--timeout", "330000", "konstruct", URL])
            return
        case ["claude", "mcp", "add", "--env", env, "--transport", "stdio", "--scope", "user", name, "--", *server]:
            assert env == key
        case ["codex", "mcp", "add", name, "--env", env, "--", *server]:
            assert env == key
        case ["gemini", "mcp", "add", "-s", "user", env, "--timeout", timeout, name, command, "--", *arguments]:
            assert env == f"-e={key}"
            assert int(timeout) > 300_000
            server = [command, *arguments]
        case ["code", "--add-mcp", text]:
            entry = json.loads(text)
            assert set(entry) == {"name", "command", "args"}
            name, server = entry["name"], [entry["command"], *entry["args"]]
        case _:
            pytest.fail(f"no rule for this command: {words}")
    assert (name, server) == ("konstruct", SERVER)


async def test_the_server_that_clients_are_told_to_start_starts(tmp_path: Path) -> None:
    command, *arguments = [part.replace(SERVER[0], uv()).replace(SERVER[3], str(REPOSITORY)) for part in SERVER]

    assert await tools_of(command, arguments, {"HOME": str(tmp_path), **uv_here()}) == ["complete", "list_groups"]


async def test_the_example_for_claude_desktop_starts_after_one_change(tmp_path: Path) -> None:
    assert EXAMPLE.count("/ABSOLUTE/PATH/TO") == 1
    # In a clone the environment is `.venv`; here it is the one that these tests run in.
    changed = EXAMPLE.replace("/ABSOLUTE/PATH/TO/konstruct_mcp/.venv", sys.prefix)
    entry = json.loads(changed)["mcpServers"]["konstruct"]

    assert set(entry["env"]) <= documented_variables()
    environ = {"HOME": str(tmp_path), **entry["env"]}
    assert await tools_of(entry["command"], entry["args"], environ) == ["complete", "list_groups"]


async def tools_of(command: str, arguments: list[str], environ: Mapping[str, str]) -> list[str]:
    server = StdioServerParameters(command=command, args=arguments, env=dict(environ), cwd="/")
    with anyio.fail_after(LIMIT_S):
        async with Client(server) as client:
            return [tool.name for tool in (await client.list_tools()).tools]
