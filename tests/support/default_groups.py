"""The default groups over fake providers: the config that most tests run, and how they open it."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
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


def reaching(provider: Provider, model: str) -> dict[str, Any]:
    """What of `litellm_params` has LiteLLM ask this fake for `provider/model`, as one would ask the genuine one."""
    match provider.wire:
        case "bedrock":
            keys = {"aws_access_key_id": "AKIATEST7F3A9C", "aws_secret_access_key": "aws-test-7f3a9c"}
            at: dict[str, Any] = {"aws_bedrock_runtime_endpoint": provider.url, "aws_region_name": "us-east-1", **keys}
        case "vertex":
            name = model.partition("/")[2]
            publisher = "anthropic" if name.startswith("claude") else "google"
            at = {
                "api_base": f"{provider.url}/{publisher}/models/{name}",
                "vertex_project": "fake",
                "vertex_location": "us-central1",
                "vertex_credentials": service_account(f"{provider.root}/token"),
            }
        case "azure":
            at = {"api_base": provider.url, "api_key": "sk-azure-test-7f3a9c", "api_version": "2025-04-01-preview"}
        case wire:
            at = {"api_base": provider.url, "api_key": f"sk-{wire}-test-7f3a9c"}
    return {"model": model, **at}


def schema_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The `response_format` of an answer by this schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}


def service_account(token_uri: str) -> str:
    """The file of a Google service account, whose tokens come from `token_uri`."""
    account = {"type": "service_account", "project_id": "fake", "client_email": "fake@fake.iam.gserviceaccount.com"}
    return json.dumps({**account, "private_key": _private_key(), "private_key_id": "fake", "token_uri": token_uri})


@functools.cache
def _private_key() -> str:
    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


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
