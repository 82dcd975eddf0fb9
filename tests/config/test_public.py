"""What of a config is shown to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.default_groups import entry, write

from konstruct_mcp import Config
from konstruct_mcp.config.model import Tenant
from konstruct_mcp.config.public import public_config
from konstruct_mcp.config.reading import load_config


def config(folder: Path, **konstruct: Any) -> Config:
    models = [entry(name, {"model": f"openai/{name}", "api_key": "k"}) for name in ("one", "two", "wild-*")]
    models[2]["litellm_params"]["model"] = "openai/*"
    tenants = {
        "acme": {"groups": ["one"], "budgets": [{"usd": 5, "per": "day"}], "note": "our first"},
        "globex": {"groups": ["two", "wild-*"]},
    }
    made = {
        "model_list": models,
        "router_settings": {"fallbacks": [{"one": ["two"]}, {"two": ["one"]}], "model_group_alias": {"uno": "one"}},
        "konstruct": {"tenants": tenants, "budgets": [{"usd": 9, "per": "month"}], **konstruct},
        "environment_variables": {"OURS": "hidden"},
    }
    return load_config(write(folder, made), {})


def test_the_operator_is_shown_all_of_it(tmp_path: Path) -> None:
    shown = public_config(config(tmp_path))
    assert list(shown["konstruct"]["tenants"]) == ["acme", "globex"]
    assert shown["konstruct"]["tenants"]["acme"]["note"] == "our first"
    assert shown["router_settings"]["fallbacks"] == [{"one": ["two"]}, {"two": ["one"]}, {"uno": ["two"]}]
    assert shown["router_settings"]["model_group_alias"] == {"uno": "one"}
    assert shown["environment_variables"] == {"OURS": "***"}


def test_a_reader_is_shown_its_own_groups_wildcards_and_budgets(tmp_path: Path) -> None:
    loaded = config(tmp_path, default_group="one")
    acme = public_config(loaded, loaded.tenants["acme"])
    globex = public_config(loaded, loaded.tenants["globex"])
    assert [one["model_name"] for one in acme["model_list"]] == ["one"]
    assert [one["model_name"] for one in globex["model_list"]] == ["two", "wild-*"]
    assert acme["konstruct"]["tenants"] == {"acme": {"groups": ["one"], "budgets": [{"usd": 5.0, "per": "day"}]}}
    assert (acme["konstruct"]["budgets"], globex["konstruct"]["budgets"]) == ([], [{"usd": 9.0, "per": "month"}])
    assert (acme["konstruct"]["default_group"], globex["konstruct"]["default_group"]) == ("one", "two")
    assert (acme["konstruct"]["default_tenant"], globex["konstruct"]["default_tenant"]) == ("acme", "globex")
    assert acme["router_settings"]["fallbacks"] == []
    assert "model_group_alias" not in acme["router_settings"]
    assert "environment_variables" not in acme


def test_a_reader_that_the_config_does_not_name_is_shown_what_is_everybodys(tmp_path: Path) -> None:
    loaded = config(tmp_path, allow_unknown=True)
    stranger = Tenant("initech", tuple(loaded.groups), loaded.budgets, patterns=("wild-*",))
    shown = public_config(loaded, stranger)
    assert (shown["konstruct"]["tenants"], shown["konstruct"]["default_tenant"]) == ({}, "initech")
    assert shown["konstruct"]["budgets"] == [{"usd": 9.0, "per": "month"}]
    assert "environment_variables" not in shown


def test_a_group_that_a_call_has_had_made_is_not_in_it(tmp_path: Path) -> None:
    loaded = config(tmp_path)
    made = loaded.matching("wild-gpt-4o")
    assert made is not None
    assert public_config(loaded.with_group(made, "default")) == public_config(loaded)
