"""A config that a program gives as a mapping: the same config, the same faults, and no file."""

from __future__ import annotations

import enum
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import pytest
from support.default_groups import HELLO, KEYS, OPENAI_KEY, default_groups, dumped, entry, write
from support.providers import Provider

from konstruct_mcp import ConfigError, Konstruct
from konstruct_mcp.config.public import public_config


@pytest.fixture
def config(anthropic: Provider, openai: Provider, ollama: Provider, tmp_path: Path) -> dict[str, Any]:
    groups = default_groups(anthropic, openai, ollama)
    groups["konstruct"] |= {"ledger_url": f"sqlite:///{tmp_path}/ledger.sqlite3"}
    return groups


def faults(config: Any, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        Konstruct.from_config(config, environ=environ or {})
    assert caught.value.source == "the given config"
    return caught.value.faults


async def test_it_answers_without_a_file(config: dict[str, Any], openai: Provider, anthropic: Provider) -> None:
    config["router_settings"]["fallbacks"] = []
    anthropic.stop()
    async with Konstruct.from_config(config, environ=KEYS) as konstruct:
        completion = await konstruct.complete(HELLO, model_group="quality")

    assert completion.model == "openai/gpt-4o"
    assert openai.requests[-1].headers["authorization"] == f"Bearer {OPENAI_KEY}"
    assert konstruct.config.file is None
    assert konstruct.config.files == ()


def test_it_is_the_config_that_its_yaml_is(config: dict[str, Any], tmp_path: Path) -> None:
    config["model_list"][0]["litellm_params"] |= {"timeout": 7, "temperature": 0.5, "stop": ["x"]}
    given, written = (
        public_config(Konstruct.from_config(one, environ=KEYS).config) for one in (config, write(tmp_path, config))
    )
    assert {**given, "source": ""} == {**written, "source": ""}


def test_the_built_in_config_has_no_part_in_it(config: dict[str, Any]) -> None:
    environ = {**KEYS, "KONSTRUCT_CONFIG": "/nowhere.yaml", "KONSTRUCT_OLLAMA_MODEL": "other:1b"}
    konstruct = Konstruct.from_config(config, environ=environ)
    assert [one.model for one in konstruct.group("fast").deployments] == ["ollama/qwen3:32b"]


def test_its_faults_are_those_of_the_file(tmp_path: Path) -> None:
    config = {"model_list": [entry("g", {"model": "openai/x"})], "konstruct": {"defalt_group": "g", "timeout_s": 0}}
    with pytest.raises(ConfigError) as of_the_file:
        Konstruct.from_config(write(tmp_path, config), environ={})
    assert faults(config) == of_the_file.value.faults


def test_values_that_no_file_could_hold_are_named_with_their_places() -> None:
    class Plain:
        def __repr__(self) -> str:
            return "hunter2"

    endless: dict[str, Any] = {}
    endless["again"] = endless
    found = faults(
        {
            "model_list": [entry("g", {"model": "openai/x", "api_key": Plain(), "timeout": float("nan")})],
            "konstruct": {"groups": {7: {}}, "note": "\ud800", "max": 10**400},
            "extra": b"hunter2",
            "endless": endless,
        }
    )
    assert found[:4] == (
        "model_list[0].litellm_params.api_key: a value of the type Plain, which no config has",
        "model_list[0].litellm_params.timeout: a number that cannot be read",
        "konstruct.groups: a key of the type int; keys are texts",
        "konstruct.note: a text with half a character in it",
    )
    assert found[4] == "konstruct.max: a number that cannot be read"
    assert found[5] == "extra: a value of the type bytes, which no config has"
    assert found[6].startswith("endless.again.again")
    assert found[6].endswith(": nested too deep")
    assert "hunter2" not in str(found)


def test_one_without_end_is_refused() -> None:
    assert faults({"model_list": [1] * 60_000}) == ("more than 50000 values",)


def test_values_of_pythons_own_are_read_as_a_file_has_them(tmp_path: Path) -> None:
    class Model(enum.StrEnum):
        SMALL = "openai/small"

    config = MappingProxyType(
        {
            "model_list": (
                entry("g", {"model": Model.SMALL, "api_key": "k", "api_version": date(2026, 1, 31), "retries": None}),
            ),
            "konstruct": {"models_file": tmp_path / "models.json"},
        }
    )
    konstruct = Konstruct.from_config(config, environ={})
    shown = public_config(konstruct.config)
    assert konstruct.config.models_file == tmp_path / "models.json"
    assert shown["model_list"][0]["litellm_params"]["model"] == "openai/small"
    assert shown["model_list"][0]["litellm_params"]["api_version"] == "2026-01-31"


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"include": ["more.yaml"]}, "include[0] (more.yaml): should be an absolute path, since this config is in no"),
        ({"konstruct": {"models_file": "m.json"}}, "konstruct.models_file: should be an absolute path, since this"),
        ({"environment_variables": {"A_KEY": "file/key"}}, "should be an absolute path"),
    ],
)
def test_what_a_file_has_beside_it_needs_an_absolute_path(more: dict[str, Any], fault: str) -> None:
    entries = [entry("g", {"model": "openai/x", "api_key": "os.environ/A_KEY"})]
    assert any(fault in found for found in faults({"model_list": entries, **more}, {"A_KEY": "k"}))


def test_it_may_include_a_file(tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text(dumped({"model_list": [entry("more", {"model": "openai/x", "api_key": "k"})]}), "utf-8")
    entries = [entry("g", {"model": "openai/x", "api_key": "k"})]

    konstruct = Konstruct.from_config({"model_list": entries, "include": [str(more)]}, environ={})

    assert [group.name for group in konstruct.groups()] == ["g", "more"]
    assert konstruct.config.files == (more,)
    assert len(entries) == 1  # nothing of what was given is changed


async def test_a_reload_reads_it_again(config: dict[str, Any]) -> None:
    async with Konstruct.from_config(config, environ=KEYS) as konstruct:
        assert not await konstruct.reload()
        config["model_list"][0]["model_name"] = "renamed"
        config["router_settings"] = {}
        assert "fast" in [group.name for group in konstruct.groups()]
        assert await konstruct.reload()
        assert "renamed" in [group.name for group in konstruct.groups()]

        config["konstruct"]["timeout_s"] = -1
        with pytest.raises(ConfigError, match=r"timeout_s"):
            await konstruct.reload()
        assert konstruct.config_faults
        assert (await konstruct.complete(HELLO, model_group="renamed")).content == "Hello from ollama"


async def test_the_files_of_its_secrets_are_followed(config: dict[str, Any], tmp_path: Path, openai: Provider) -> None:
    key = tmp_path / "key"
    key.write_text("sk-first", "utf-8")
    config["model_list"] = [entry("g", {"model": "openai/x", "api_base": openai.url, "api_key": f"file/{key}"})]
    del config["router_settings"], config["konstruct"]["default_group"]

    async with Konstruct.from_config(config, environ={}) as konstruct:
        until = anyio.Event()
        followed = konstruct.follow_config(until)
        await konstruct.complete(HELLO)
        key.write_text("sk-second", "utf-8")
        with anyio.fail_after(60):
            assert await anext(followed)
        until.set()
        await konstruct.complete(HELLO)

    assert [request.headers["authorization"] for request in openai.requests] == ["Bearer sk-first", "Bearer sk-second"]
