"""Clients of others over HTTP with a token: the MCP Inspector with a key, and the TypeScript SDK by OAuth.

The latter is told nothing but the server's address. Both are long forms, since npm has to install them.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.authorization_server import AuthorizationServer
from support.databases import sqlite
from support.default_groups import entry
from support.node import INSPECTOR, TYPESCRIPT, command, environ, installed, node
from support.priced_config import PRICES
from support.providers import Provider, Text
from support.replicas import Replicas, create_keys, free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]
OAUTH_CLIENT = Path(__file__).parents[1] / "support" / "oauth_client.mjs"
LIMIT_S = 120
TOOLS = ["complete", "list_groups"]


def config(folder: Path, openai: Provider, **auth: Any) -> dict[str, Any]:
    params = {"model": "openai/paid", "api_base": openai.url, "api_key": "sk-test", **PRICES}
    return {
        "model_list": [entry("paid", params)],
        "konstruct": {
            "default_group": "paid",
            "ledger_url": sqlite(folder).url,
            "tenants": {"ann": {}, "ben": {}},
            "auth": {"required": True, **auth},  # on loopback, too
        },
    }


async def said(*words: str | Path) -> Any:
    """What a program of Node says on stdout, as JSON."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, env=environ(), stdout=pipe, stderr=pipe)
    out, errors = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


async def test_the_inspector_lists_and_calls_tools_with_a_key(tmp_path: Path, openai: Provider) -> None:
    openai.script(Text("Blue"))
    inspector = await asyncio.to_thread(command, INSPECTOR, "mcp-inspector")
    async with Replicas(tmp_path, config(tmp_path, openai)) as replicas:
        [key] = await create_keys(replicas.config, "ann")
        asking = [*inspector, "--cli", replicas.url, "--transport", "http", "--header", f"Authorization: Bearer {key}"]
        listed = await said(*asking, "--method", "tools/list")
        messages = json.dumps([{"role": "user", "content": "Which colour?"}])
        answer = await said(
            *asking, "--method", "tools/call", "--tool-name", "complete", "--tool-arg", f"messages={messages}"
        )
    assert [tool["name"] for tool in listed["tools"]] == TOOLS
    assert "tenant_id" not in json.dumps(listed)
    assert answer["structuredContent"]["content"] == "Blue"
    assert [row["tenant"] for row in sqlite(tmp_path).rows()] == ["ann"]


@pytest.mark.parametrize(("mode", "era"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
async def test_the_typescript_sdk_finds_its_way_to_a_token(
    mode: str, era: str, tmp_path: Path, openai: Provider
) -> None:
    openai.script(Text("Blue"))
    folder, port = await asyncio.to_thread(installed, TYPESCRIPT), free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    async with AuthorizationServer({"org": {"team": "the team of Ben"}}) as issuer:
        jwt = {
            "issuer": issuer.url,
            "audience": url,
            "jwks_url": issuer.jwks_url,
            "tenant_claim": "org.team",
            "tenants": {"the team of Ben": "ben"},
        }
        settings = config(tmp_path, openai, jwt=jwt)
        settings["konstruct"]["http"] = {"public_url": url}
        async with Replicas(tmp_path, settings, ports=[port]) as replicas:
            told = await said(node(), OAUTH_CLIENT, folder, replicas[0].url, mode, "Which colour?")
        assert issuer.codes == 1
    assert told["authorized"]
    assert told["era"] == era
    assert told["tools"] == TOOLS
    assert told["answer"]["content"] == "Blue"
    assert [row["tenant"] for row in sqlite(tmp_path).rows()] == ["ben"]
