"""The default groups over fake providers: the config that most tests run, and how they open it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from mcp import Client
from support.providers import Provider

from konstruct_mcp import Konstruct
from konstruct_mcp.protocol.server import KonstructServer

ANTHROPIC_KEY, OPENAI_KEY = "sk-ant-test-7f3a9c", "sk-openai-test-5b2e8d"
KEYS = {"ANTHROPIC_API_KEY": ANTHROPIC_KEY, "OPENAI_API_KEY": OPENAI_KEY}
HELLO = [{"role": "user", "content": "Hello"}]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = f"data:image/png;base64,{PNG}"


def default_groups(anthropic: Provider, openai: Provider, ollama: Provider) -> dict[str, Any]:
    """The shape of the built-in config, with each provider's address changed to its fake."""
    local = {"model": "ollama/qwen3:32b", "api_base": ollama.url}
    claude = {
        "model": "anthropic/claude-sonnet-4-6",
        "api_base": anthropic.url,
        "api_key": "os.environ/ANTHROPIC_API_KEY",
    }
    gpt = {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "os.environ/OPENAI_API_KEY"}
    return {
        "model_list": [
            entry("fast", local),
            entry("balanced", local, order=1),
            entry("balanced", claude, order=2),
            entry("quality", claude, order=1),
            entry("quality", gpt, order=2),
        ],
        "router_settings": {"fallbacks": [{"quality": ["fast"]}, {"balanced": ["fast"]}]},
        "konstruct": {"default_group": "balanced"},
    }


def entry(group: str, params: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"model_name": group, "litellm_params": {**params, **more}}


reaching = Provider.litellm_params


def schema_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The `response_format` of an answer by this schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}


def dumped(config: Mapping[str, Any]) -> str:
    """The text of a config's file, by libyaml where it is there: hundreds of tests write one."""
    return str(yaml.dump(dict(config), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))


def write(folder: Path, config: Mapping[str, Any]) -> Path:
    path = folder / "konstruct.yaml"
    path.write_text(dumped(config), encoding="utf-8")
    return path


def replace(path: Path, config: Mapping[str, Any] | str) -> None:
    """As an editor saves: written beside it, and renamed."""
    beside = path.with_suffix(".new")
    beside.write_text(config if isinstance(config, str) else dumped(config), encoding="utf-8")
    beside.replace(path)


@asynccontextmanager
async def opened(
    folder: Path, config: Mapping[str, Any], environ: Mapping[str, str] = KEYS, **options: Any
) -> AsyncIterator[Konstruct]:
    async with Konstruct.from_config(write(folder, config), environ=environ, **options) as konstruct:
        yield konstruct


@asynccontextmanager
async def connected(konstruct: Konstruct, era: str = "2026", **options: Any) -> AsyncIterator[Client]:
    """An MCP client in process: `2026` speaks 2026-07-28, `2025` the handshake revision before it."""
    server = KonstructServer(konstruct)
    async with Client(server, mode="auto" if era == "2026" else "legacy", **options) as client:
        yield client
