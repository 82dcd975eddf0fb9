"""Secrets in files: `NAME_FILE` beside the variables of the environment, and `file/PATH` in a config."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.databases import sqlite
from support.default_groups import HELLO, entry, write
from support.priced_config import priced_config
from support.providers import Provider

from konstruct_mcp import ConfigError, Konstruct
from konstruct_mcp.config.reading import load_config

SECRET, NEXT_SECRET = "sk-of-a-file-7f3a9c", "sk-of-a-file-next-11"


def secret(folder: Path, text: str = f"{SECRET}\n", name: str = "key") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def config_with(folder: Path, api_key: str | None, **konstruct: Any) -> Path:
    params = {"model": "openai/gpt-4o", **({} if api_key is None else {"api_key": api_key})}
    return write(folder, {"model_list": [entry("fast", params)], "konstruct": konstruct})


def faults(folder: Path, api_key: str | None, environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_config(config_with(folder, api_key), environ)
    assert SECRET not in str(error.value)
    assert str(folder) not in str(error.value)
    return list(error.value.faults)


@pytest.mark.parametrize(
    "api_key",
    ["os.environ/OPENAI_API_KEY", None, "file/key", "file/{folder}/key"],
    ids=["reference", "of the provider", "beside the config", "absolute"],
)
def test_a_key_is_read_from_a_file(tmp_path: Path, api_key: str | None) -> None:
    file = secret(tmp_path)
    named = None if api_key is None else api_key.format(folder=tmp_path)
    environ = {} if named and named.startswith("file/") else {"OPENAI_API_KEY_FILE": str(file)}
    config = load_config(config_with(tmp_path, named), environ)
    [deployment] = config.groups["fast"].deployments
    assert deployment.unavailable is None
    assert deployment.params["api_key"] == SECRET
    assert SECRET in deployment.secrets
    assert file in config.files
    assert SECRET not in repr(config)


def test_what_is_shown_of_a_reference_is_the_name_of_the_file(tmp_path: Path) -> None:
    secret(tmp_path)
    konstruct = Konstruct.from_config(config_with(tmp_path, f"file/{tmp_path}/key"), environ={})
    shown = json.dumps(konstruct.effective_config(), ensure_ascii=False)
    assert '"file/…/key"' in shown
    assert str(tmp_path) not in shown.replace(str(tmp_path / "konstruct.yaml"), "")
    assert SECRET not in shown


def test_the_ledger_and_redis_may_be_named_in_files(tmp_path: Path) -> None:
    ledger = secret(tmp_path, f"sqlite:///{tmp_path}/own.sqlite3\n", "ledger")
    redis = secret(tmp_path, "redis://:pass@127.0.0.1:6379/0\r\n", "redis")
    environ = {"KONSTRUCT_LEDGER_URL_FILE": str(ledger), "KONSTRUCT_REDIS_URL_FILE": str(redis)}
    config = load_config(config_with(tmp_path, "k"), environ)
    assert config.ledger.url == f"sqlite:///{tmp_path}/own.sqlite3"
    assert config.redis is not None
    assert config.redis.url == "redis://:pass@127.0.0.1:6379/0"
    by_reference = load_config(config_with(tmp_path, "k", ledger_url="file/ledger", redis_url="file/redis"), {})
    assert (by_reference.ledger.url, by_reference.redis) == (config.ledger.url, config.redis)


def test_a_file_that_a_clouds_client_needs_is_lent_to_it(tmp_path: Path) -> None:
    file = secret(tmp_path)
    params = {"model": "bedrock/anthropic.claude-3-haiku-20240307-v1:0", "aws_region_name": "us-east-1"}
    environ = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY_FILE": str(file)}
    config = load_config(write(tmp_path, {"model_list": [entry("fast", params)]}), environ)
    assert config.groups["fast"].deployments[0].unavailable is None
    assert config.variables == {"AWS_SECRET_ACCESS_KEY": SECRET}


def test_a_file_that_cannot_be_used_is_a_fault_that_says_why(tmp_path: Path) -> None:
    reference = "os.environ/OPENAI_API_KEY"

    def fault(file: Path | str, **more: str) -> list[str]:
        return faults(tmp_path, reference, {"OPENAI_API_KEY_FILE": str(file), **more})

    place = "OPENAI_API_KEY_FILE (file/…/{})"
    assert fault(tmp_path / "none") == [f"{place.format('none')}: cannot be read: No such file or directory"]
    assert fault(tmp_path) == [f"{place.format(tmp_path.name)}: cannot be read: Is a directory"]
    assert fault(secret(tmp_path, " \n", "empty")) == [f"{place.format('empty')}: is empty"]
    assert fault(secret(tmp_path, "x" * 70_000, "large")) == [
        f"{place.format('large')}: cannot be read: it is larger than 64 KiB"
    ]
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert fault(tmp_path / "binary") == [f"{place.format('binary')}: cannot be read: it is not UTF-8 text"]
    assert fault("key") == ["OPENAI_API_KEY_FILE (file/key): should be an absolute path"]
    assert fault(secret(tmp_path), OPENAI_API_KEY="sk-x") == [
        "OPENAI_API_KEY_FILE: OPENAI_API_KEY is set too; leave one of them out"
    ]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert fault(tmp_path / "pipe") == [f"{place.format('pipe')}: cannot be read: it is not a regular file"]
    assert faults(tmp_path, "file/none", {}) == ["file/none: cannot be read: No such file or directory"]


def test_what_means_something_else_is_left_alone(tmp_path: Path) -> None:
    """Variables that nothing asks for, and those of a tenant or of a cloud's client."""
    environ = {
        "SSL_CERT_FILE": str(tmp_path / "none"),
        "KONSTRUCT_TENANT_ID_FILE": str(secret(tmp_path)),
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "none"),
    }
    config = load_config(config_with(tmp_path, "k"), environ)
    assert config.known_tenant is None
    assert config.files == (tmp_path / "konstruct.yaml",)


async def test_a_key_that_changes_is_taken_up(
    tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider
) -> None:
    file = secret(tmp_path)
    config = priced_config(sqlite(tmp_path), openai, anthropic, ollama)
    config["model_list"][0]["litellm_params"]["api_key"] = f"file/{file}"
    until = anyio.Event()
    async with Konstruct.from_config(write(tmp_path, config), environ={}) as konstruct, anyio.create_task_group() as on:
        taken_up = anyio.Event()

        async def follow() -> None:
            async for changed in konstruct.follow_config(until):
                if changed:
                    taken_up.set()

        on.start_soon(follow)
        await konstruct.complete(HELLO)
        beside = secret(tmp_path, NEXT_SECRET, "next")
        beside.replace(file)
        with anyio.fail_after(60):
            await taken_up.wait()
        await konstruct.complete(HELLO)
        until.set()
    sent = [request.headers["authorization"] for request in openai.requests]
    assert sent == [f"Bearer {SECRET}", f"Bearer {NEXT_SECRET}"]
