"""Wildcards: which pattern a name matches, and which model it stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from konstruct_mcp.config.model import Config
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.config.wildcards import match, model_of
from konstruct_mcp.core.errors import UnknownGroupError
from konstruct_mcp.core.identity import StoredTenant
from konstruct_mcp.gateway.caller import group_of


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("openai/gpt-4o", "openai/gpt-*"),
        ("openai/o3", "openai/*"),
        ("groq/x", "*"),
    ],
)
def test_the_longest_pattern_wins(name: str, pattern: str) -> None:
    found = match(name, ["*", "openai/*", "openai/gpt-*"])
    assert found is not None
    assert found[0] == pattern


def test_a_name_that_nothing_matches_has_no_pattern() -> None:
    assert match("groq/x", ["openai/*"]) is None


@pytest.mark.parametrize(
    ("pattern", "name", "model", "asked"),
    [
        ("openai/*", "openai/gpt-4o", "openai/*", "openai/gpt-4o"),
        ("my-*", "my-gpt-4o", "openai/*", "openai/gpt-4o"),
        ("my-*", "my-gpt-4o", "openai/gpt-4.1", "openai/gpt-4.1"),
        ("*/*", "openai/gpt-4o", "openai/*", "openai/gpt-4o"),
    ],
)
def test_what_a_star_stands_for_replaces_the_star_of_the_model(pattern: str, name: str, model: str, asked: str) -> None:
    found = match(name, [pattern])
    assert found is not None
    assert model_of(found[1], model) == asked


def test_a_tenant_that_asks_for_many_names_pushes_out_its_own(tmp_path: Path) -> None:
    file = tmp_path / "konstruct.yaml"
    file.write_text('model_list: [{model_name: "ollama/*", litellm_params: {model: "ollama/*"}}]\n')
    config = load_config(file, {})

    def asked(config: Config, name: str, tenant: str) -> Config:
        made = config.matching(name)
        assert made is not None
        return config.with_group(made, tenant)

    config = asked(config, "ollama/few", "few")
    for number in range(100):
        config = asked(config, f"ollama/many-{number}", "many")
    assert list(config.on_demand) == ["ollama/few", *(f"ollama/many-{number}" for number in range(69, 100))]
    assert set(config.groups) == set(config.on_demand)


def test_a_group_that_a_stored_tenant_names_is_pushed_out_by_no_other_name(tmp_path: Path) -> None:
    file = tmp_path / "konstruct.yaml"
    file.write_text('model_list: [{model_name: "ollama/*", litellm_params: {model: "ollama/*"}}]\n')
    config = load_config(file, {})

    def asked(config: Config, name: str) -> Config:
        made = config.matching(name)
        assert made is not None
        return config.with_group(made, "many")

    config = asked(config, "ollama/own").with_stored([StoredTenant("carl", {"groups": ["ollama/own"]})])
    for number in range(40):
        config = asked(config, f"ollama/many-{number}")
    assert "ollama/own" in config.groups
    with pytest.raises(UnknownGroupError, match='no group "nope"'):
        group_of(config, "nope", config.tenants["carl"])
