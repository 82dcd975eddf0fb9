"""What the pages tell a client to start, held against the server."""

from __future__ import annotations

import ast
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from support.pages import BLOCKS, PAGES, REPOSITORY, Block, code
from support.reader import LIMIT_S

from konstruct_mcp.cli.attach.clients import CLIENTS, NAME, Server
from konstruct_mcp.cli.attach.server import server_to_start

EXAMPLE = (REPOSITORY / "claude_desktop_config.example.json").read_text("utf-8")
pytestmark = pytest.mark.timeout(LIMIT_S + 60)
COMMAND = "/ABSOLUTE/PATH/TO/konstruct-mcp"
SERVER = Server((COMMAND,), {}, ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"), 330)  # what every client is told to start
URL = "https://konstruct.example.com/mcp"  # of a team's server
BY_PAGE = {f"docs/clients/{ {'gemini': 'gemini-cli'}.get(name, name) }.md": client for name, client in CLIENTS.items()}


def is_server_entry(block: Block) -> bool:
    return block.page in BY_PAGE and block.language in ("json", "toml", "yaml")


def is_of_a_team(block: Block) -> bool:
    return URL in block.text


def entry_of(block: Block) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entry in a block, and what there is beside it."""
    client = BY_PAGE[block.page]
    document = client.text.read(block.text)
    entry = document.pop(client.root)
    assert list(entry) == [NAME]
    return entry[NAME], document


def documented_variables() -> set[str]:
    return {name for row in PAGES["docs/configuration.md"].table("variable") for name in code(row[0])}


def test_every_client_has_a_page_that_begins_with_attach() -> None:
    for page, client in BY_PAGE.items():
        assert PAGES[page].headings(1) == [client.title]
        assert PAGES[page].of("sh")[0].text == f"konstruct-mcp attach {client.name}\n"
        assert len([block for block in PAGES[page].blocks if is_server_entry(block)]) >= 1
        assert PAGES[page].headings(2) == ["By hand", "Approval", "A team's server"]
        assert client.title in PAGES["docs/clients/index.md"].text


def test_what_attach_writes_of_approval_is_told() -> None:
    told = {row[0]: row[3] for row in PAGES["docs/clients/index.md"].table("client", "at a screen", "without one")}
    for client in CLIENTS.values():
        [cell] = [cell for names, cell in told.items() if client.title in names.split(", ")]
        entries = [client.entry(server) for server in (replace(SERVER, approve=True), SERVER)]
        new = [name for name in entries[0] if name not in entries[1]]
        new += [path[-1] for path, _ in client.allowed.items["user"]] if client.allowed else []
        assert all(name in cell for name in new)
        assert (cell == "nothing") == (client.unapproved is not None) == (not new)


@pytest.mark.parametrize("block", [b for b in BLOCKS if is_server_entry(b) and not is_of_a_team(b)], ids=str)
def test_a_client_starts_the_server_so(block: Block) -> None:
    """What is written by hand is what `attach` writes, but for keys where a client has another form for them."""
    client = BY_PAGE[block.page]
    entry, more = entry_of(block)
    wanted = client.entry(SERVER)
    match client.name:
        case "claude-desktop":
            assert all(value.startswith("sk-") for value in entry.pop("env").values())
            del wanted["env"]
        case "vscode":
            assert entry.pop("env") == {"ANTHROPIC_API_KEY": "${input:anthropic-key}"}
            assert [item["id"] for item in more.pop("inputs")] == ["anthropic-key"]
            del wanted["env"]
    assert entry == wanted
    assert list(entry) == list(wanted)
    assert set(SERVER.passed) <= documented_variables()
    assert more == {}


@pytest.mark.parametrize("block", [b for b in BLOCKS if "python-agents" in b.page and b.language == "python"], ids=str)
def test_an_agent_in_python_starts_the_server_so(block: Block) -> None:
    """The packages are not here: the page was run with them, and what it says is held against the server's limit."""
    tree = ast.parse(block.text)
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    limits = [
        keyword.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg in ("client_session_timeout_seconds", "timeout") and isinstance(keyword.value, ast.Constant)
    ]
    assert COMMAND in words
    assert limits == ([] if "langchain" in block.text else [SERVER.limit_s])
    assert ("client.session(" in block.text) == ("langchain" in block.text)


@pytest.mark.parametrize("block", [b for b in BLOCKS if is_server_entry(b) and is_of_a_team(b)], ids=str)
def test_a_client_asks_a_teams_server_so(block: Block) -> None:
    client = BY_PAGE[block.page]
    entry, more = entry_of(block)
    if client.name == "claude-desktop":
        assert entry["args"][-3:] == [URL, "--header", "Authorization:${KONSTRUCT_AUTHORIZATION}"]
        assert entry["env"] == {"KONSTRUCT_AUTHORIZATION": "Bearer ks_…"}
        return
    inputs = [item["id"] for item in more.pop("inputs", ())]
    assert (inputs, more) == (["konstruct-key"] if client.name == "vscode" else [], {})
    assert entry.pop({"gemini": "httpUrl", "goose": "uri"}.get(client.name, "url")) == URL
    limit = {"timeout", "tool_timeout_sec"} & set(entry)
    assert [entry.pop(name) for name in limit] in ([], [SERVER.limit_s], [SERVER.limit_s * 1000])
    types = {
        "vscode": "http",
        "claude-code": "http",
        "opencode": "remote",
        "cline": "streamableHttp",
        "continue": "streamable-http",
        "goose": "streamable_http",
    }
    assert entry.pop("type", None) == types.get(client.name)
    if client.name == "codex":
        assert entry == {"bearer_token_env_var": "KONSTRUCT_KEY"}
        return
    keys = {
        "claude-code": "${KONSTRUCT_KEY}",
        "cursor": "${env:KONSTRUCT_KEY}",
        "vscode": "${input:konstruct-key}",
        "gemini": "$KONSTRUCT_KEY",
        "opencode": "{env:KONSTRUCT_KEY}",
        "continue": "${{ secrets.KONSTRUCT_KEY }}",
    }  # the others have no form for a variable there
    headers = entry.pop("requestOptions", entry).pop("headers")
    assert headers == {"Authorization": f"Bearer {keys.get(client.name, 'ks_…')}"}
    local = client.entry(SERVER)
    assert all(local[name] == value for name, value in entry.items())


@pytest.mark.parametrize(
    "line",
    [
        line
        for block in BLOCKS
        if block.language == "sh" and block.page.startswith("docs/clients/")
        for line in block.text.splitlines()
        if not line.startswith("konstruct-mcp ")
    ],
)
def test_a_command_adds_the_server(line: str) -> None:
    """What it would start, under which name, with which key."""
    words = shlex.split(line)
    header = "Authorization: Bearer ks_…"
    match words:
        case ["claude", "mcp", "add", "--transport", "http", "--scope", "user", name, url, "--header", given]:
            assert (name, url, given) == (NAME, URL, header)
        case ["codex", "mcp", "add", name, "--url", url, "--bearer-token-env-var", variable]:
            assert (name, url, variable) == (NAME, URL, "KONSTRUCT_KEY")
        case ["codex", "mcp", "login", name] | ["opencode", "mcp", "auth", name]:
            assert name == NAME
        case ["gemini", "mcp", "add", "-s", "user", "--transport", "http", "--header", given, *rest]:
            assert (given, rest) == (header, ["--timeout", "330000", NAME, URL])
        case ["copilot", "mcp", "add", "--transport", "http", "--timeout", "330000", "--header", given, *rest]:
            assert (given, rest) == (header, [NAME, URL])
        case ["copilot", "mcp", "add", *rest]:
            assert rest == [NAME, "--timeout", "330000", "--", COMMAND]
        case ["claude", "mcp", "add", "--transport", "stdio", "--scope", "user", *rest] | [
            "codex",
            "mcp",
            "add",
            *rest,
        ]:
            assert rest == [NAME, "--", COMMAND]
        case ["gemini", "mcp", "add", "-s", "user", env, "--timeout", "330000", *rest]:
            assert (env, rest) == ("-e=ANTHROPIC_API_KEY=sk-ant-…", [NAME, COMMAND])
        case ["code", "--add-mcp", text]:
            assert json.loads(text) == {"name": NAME, "command": COMMAND, "args": []}
        case _:
            pytest.fail(f"no rule for this command: {words}")


async def test_the_server_that_attach_writes_down_starts(tmp_path: Path) -> None:
    server = server_to_start(None, "user", tmp_path, approve=False)
    command, *arguments = server.command

    assert await tools_of(command, arguments, {"HOME": str(tmp_path)}) == ["complete", "list_groups"]


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
