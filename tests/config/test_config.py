"""The config, through its one door: `load_config(path, environ)` gives a Config or raises one ConfigError."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from konstruct_mcp.config import embedded
from konstruct_mcp.config.model import Config, Deployment
from konstruct_mcp.config.public import public_config
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.core.errors import ConfigError
from konstruct_mcp.core.text import TENANT_ID_RULE

SECRET = "sk-s3cr3t-never-shown"
PER_MILLION = "is more than a dollar for each token; it is not per million"
NO_PRICE = "is no price of a token in US dollars; left out"
PLACEHOLDER = "has a placeholder, which nobody fills in here; a variable is os.environ/NAME by itself"
ADDRESS = "should be an http:// or https:// address with a host"

GPT = {"model": "openai/gpt-4o", "api_key": "os.environ/OPENAI_API_KEY"}
CLAUDE = {"model": "anthropic/claude-sonnet-4-6", "api_key": "os.environ/ANTHROPIC_API_KEY"}
KEYS = {"OPENAI_API_KEY": "sk-openai-1", "ANTHROPIC_API_KEY": "sk-ant-1"}


def entry(group: str, params: Mapping[str, Any] = GPT, **more: Any) -> dict[str, Any]:
    return {"model_name": group, "litellm_params": dict(params)} | more


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Config]:
    """Loads a config given as YAML text, or as data."""

    def load(content: Any, environ: Mapping[str, str] = KEYS) -> Config:
        file = tmp_path / "config.yaml"
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        file.write_text(text, encoding="utf-8")
        return load_config(file, environ)

    return load


@pytest.fixture
def faults(load: Callable[..., Config]) -> Callable[..., tuple[str, ...]]:
    """The faults of a config that must not load."""

    def faults(content: Any, environ: Mapping[str, str] = KEYS) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            load(content, environ)
        assert all("\n" not in fault for fault in caught.value.faults)
        return caught.value.faults

    return faults


@pytest.fixture
def deploy(load: Callable[..., Config]) -> Callable[..., Deployment]:
    """The one deployment of a config that has these litellm_params."""

    def deploy(
        params: Mapping[str, Any], environ: Mapping[str, str] = KEYS, info: Mapping[str, Any] | None = None
    ) -> Deployment:
        config = load({"model_list": [entry("g", params, model_info=dict(info or {}))]}, environ)
        (deployment,) = config.groups["g"].deployments
        return deployment

    return deploy


# ---- where the config comes from


def test_the_built_in_config_serves_where_there_is_no_other(tmp_path: Path) -> None:
    config = load_config(None, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert config.source == "the built-in config"
    assert list(config.groups) == BUILT_IN + (["embedded"] if embedded.installed() else [])
    assert list(public_config(config)["konstruct"]["groups"]) == list(config.groups)
    assert config.default_group == "balanced"
    assert config.warnings == ()
    assert (config.timeout_s, config.allowed_fails, config.default_tenant) == (300.0, 2, "default")
    balanced, quality = config.groups["balanced"], config.groups["quality"]
    assert [d.model for d in balanced.deployments] == ["ollama/qwen3:32b", "anthropic/claude-sonnet-4-6"]
    assert [d.model for d in quality.deployments] == [
        "anthropic/claude-sonnet-4-6",
        "openai/gpt-4o",
        "openai/gpt-6.1-sol",
    ]
    assert [d.order for d in quality.deployments] == [1, 2, 3]
    assert balanced.fallbacks == quality.fallbacks == ("fast",)
    assert quality.description == "hardest tasks; Claude, then GPT"
    assert [d.unavailable for d in balanced.deployments] == [None, "ANTHROPIC_API_KEY is not set"]
    ollama = balanced.deployments[0]
    assert ollama.params["api_base"] == "http://localhost:11434"
    assert (ollama.input_cost, ollama.output_cost, ollama.supports) == (0.0, 0.0, {"structured_output": True})


def test_the_user_folder_comes_before_the_built_in_config_and_the_environment_before_both(tmp_path: Path) -> None:
    def write(path: Path, group: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"model_list": [entry(group)]}))
        return path

    users = write(tmp_path / "home" / "konstruct-mcp" / "config.yaml", "users")
    named = write(tmp_path / "named.yaml", "named")
    given_ = write(tmp_path / "given.yaml", "given")
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "home"), "KONSTRUCT_CONFIG": " "}
    assert (list(load_config(None, environ).groups), load_config(None, environ).source) == (["users"], str(users))
    environ["KONSTRUCT_CONFIG"] = str(named)
    assert list(load_config(None, environ).groups) == ["named"]
    environ["KONSTRUCT_CONFIG"] = os.path.relpath(named)
    assert load_config(None, environ).source == str(Path(os.path.relpath(named)).absolute())
    assert list(load_config(given_, environ).groups) == ["given"]


def test_the_environment_is_the_process_s_own_unless_another_is_given(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("model_list: [{model_name: g, litellm_params: {model: azure/x, region_name: os.environ/PATH}}]")
    assert load_config(file).groups["g"].deployments[0].params["region_name"] == os.environ["PATH"]


def groups_in_a_process(folder: Path, **environ: str) -> list[str]:
    """The groups of the config that a process without the extra finds, in this folder and this environment."""
    code = """
import json, os, sys
sys.modules["xllamacpp"] = None  # as if it were not installed
from konstruct_mcp.config.reading import load_config
print(json.dumps(list(load_config().groups)))
"""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("HOME", "XDG_", "KONSTRUCT_"))}
    kept["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=kept | environ, capture_output=True, timeout=50, check=True
    )
    groups: list[str] = json.loads(done.stdout)
    return groups


BUILT_IN = ["local", "fast", "economy", "balanced", "quality"]


@pytest.mark.parametrize("environ", [{"HOME": ""}, {"HOME": "."}, {"HOME": "~"}, {"XDG_CONFIG_HOME": ".config"}])
def test_nothing_is_ever_looked_up_in_the_current_folder(tmp_path: Path, environ: dict[str, str]) -> None:
    for place in (".config/konstruct-mcp", "~/.config/konstruct-mcp", "konstruct-mcp", "."):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "config.yaml").write_text(
            "model_list: [{model_name: evil, litellm_params: {model: ollama/x}}]"
        )
    assert groups_in_a_process(tmp_path, **environ) == BUILT_IN  # and without the extra there is no group `embedded`


@pytest.mark.skipif(sys.platform != "linux", reason="where the user's folder is depends on the platform")
def test_the_user_folder_is_the_platform_s_own(tmp_path: Path) -> None:
    (tmp_path / ".config" / "konstruct-mcp").mkdir(parents=True)
    file = tmp_path / ".config" / "konstruct-mcp" / "config.yaml"
    file.write_text("model_list: [{model_name: mine, litellm_params: {model: ollama/x}}]")
    assert groups_in_a_process(tmp_path, HOME=str(tmp_path)) == ["mine"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.yaml", "No such file or directory"),
        ("folder", "it is not a regular file"),
        ("latin1.yaml", "it is not UTF-8 text"),
        ("large.yaml", "it is larger than 1 MiB"),
        ("nul\0.yaml", "there can be no such path"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_fault_that_tells_no_path(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin1.yaml").write_bytes(b"caf\xe9: 1")
    (tmp_path / "large.yaml").write_bytes(b"#" * ((1 << 20) + 1))
    for path, environ in ((tmp_path / name, {}), (None, {"KONSTRUCT_CONFIG": str(tmp_path / name)})):
        with pytest.raises(ConfigError) as caught:
            load_config(path, environ)
        assert caught.value.faults == (f"cannot be read: {reason}",)
        assert str(tmp_path) not in str(caught.value)


def test_a_home_that_is_nobody_s_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="there can be no such path"):
        load_config(Path("~no-such-user-here/config.yaml"), {})


def test_a_dead_link_in_the_user_folder_is_a_fault_and_not_the_built_in_config(tmp_path: Path) -> None:
    (tmp_path / "konstruct-mcp").mkdir()
    (tmp_path / "konstruct-mcp" / "config.yaml").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="in the user's config folder: cannot be read: No such file"):
        load_config(None, {"XDG_CONFIG_HOME": str(tmp_path)})


# ---- YAML

ONE = "model_list: [{model_name: g, litellm_params: {model: ollama/x}}]\n"


def test_anchors_and_merge_keys_work(load: Callable[..., Config]) -> None:
    config = load("""
model_list:
  - model_name: a
    litellm_params: &base {model: openai/gpt-4o, api_version: 2024-06-01, order: 1}
  - model_name: b
    litellm_params: {<<: *base, order: 2}
  - model_name: c
    litellm_params: {<<: [*base, {rpm: 5}], order: 3}
""")
    assert [g.deployments[0].order for g in config.groups.values()] == [1, 2, 3]
    assert config.groups["c"].deployments[0].rpm == 5
    assert config.groups["b"].deployments[0].params["api_version"] == "2024-06-01"


def test_keys_are_text_as_written(load: Callable[..., Config]) -> None:
    config = load("""
model_list:
  - {model_name: "no", litellm_params: {model: ollama/x, logit_bias: {50256: -100}}}
  - {model_name: "8", litellm_params: {model: ollama/x}}
router_settings: {fallbacks: [{no: ["8"]}]}
konstruct: {groups: {8: {description: eight}}}
""")
    assert config.groups["no"].fallbacks == ("8",)
    assert config.groups["8"].description == "eight"
    assert config.groups["no"].deployments[0].params["logit_bias"] == {"50256": -100}


def test_a_byte_order_mark_is_no_fault(load: Callable[..., Config]) -> None:
    assert list(load("\ufeff" + ONE).groups) == ["g"]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
)
MERGE_BOMB = "a: &a {k: v, l: v}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join(['*' + a] * 20)}]}}\n" for a, b in zip("abcde", "bcdef", strict=True)
)
TALL = "a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- a\n", "should be a mapping of sections"),
        ("just text", "should be a mapping of sections"),
        (f"a: !env {SECRET}", "line 1, column 4: a tag; only plain YAML is read"),
        ("a: !!python/object/apply:os.system [x]", "line 1, column 4: a tag; only plain YAML is read"),
        ("a: !!binary aGk=", "line 1, column 4: a tag; only plain YAML is read"),
        ("a: !!int x", "line 1, column 4: a value that cannot be read"),
        ("a: !!bool x", "line 1, column 4: a value that cannot be read"),
        ("a: !!float ''", "line 1, column 4: a value that cannot be read"),
        ("a: .nan", "line 1, column 4: a value that cannot be read"),
        ("a: -.inf", "line 1, column 4: a value that cannot be read"),
        ("a: 0x" + "f" * 4000, "line 1, column 4: a number of more than 100 characters"),
        ("a: " + "9" * 5000, "line 1, column 4: a number of more than 100 characters"),
        (r'a: "\ud800"', "line 1, column 4: a value that cannot be read"),
        (r'a: "\U00FFFFFF"', "not valid YAML"),
        (r'a: "\UFFFFFFFF"', "not valid YAML"),
        ("? [a]\n: 1", "line 1, column 3: a key that is not plain text"),
        ("a: &x [*x]", "line 1, column 8: an alias inside what it stands for"),
        (f"a: *{SECRET}", "line 1, column 4: not valid YAML"),
        ("a: <<", "line 1, column 4: not valid YAML"),
        ("<<: 5", "line 1, column 5: expected a mapping or list of mappings for merging, but found scalar"),
        ("a: 1\n---\nb: 2", "line 2, column 1: found another document"),
        ("a: [1, 2", "line 1, column 9: expected ',' or ']', but got '<stream end>'"),
        (f'a: "{SECRET}', f"line 1, column {5 + len(SECRET)}: found unexpected end of stream"),
        ("a:\n\t- b", "line 2, column 1: found character '\\t' that cannot start any token"),
        ("%YAML 1." + "1" * 5000 + "\n---\na: 1", "not valid YAML"),
        ("a: 1\nb: \x07", "line 2, column 4: a character that YAML does not allow"),
        ("a: " + "[" * 60 + "]" * 60, "line 1, column 53: nested too deep"),
        (TALL, "line 2, column 13: nested too deep"),
        ("a: 1" + ":59" * 300_000, "line 1, column 4: a number of more than 100 characters"),
        ("a: 1" + ":59" * 3000 + ".5", "line 1, column 4: a number of more than 100 characters"),
        ("a: !!int '" + "1:" * 3000 + "1'", "line 1, column 4: a number of more than 100 characters"),
        ("? " + "k" * 1001 + "\n: 1", "line 1, column 3: a key of more than 1,000 characters"),
        (BOMB, "line 5, column 4: more than 50000 values, aliases expanded"),
        (MERGE_BOMB, "line 5, column 12: more than 50000 values, aliases expanded"),
        ("a: [" + "1," * 50_001 + "]", "line 1, column 100005: more than 50000 values, aliases expanded"),
        (
            "a: &a " + "x" * 500_000 + "\nb: [" + "*a, " * 100 + "]",
            "line 2, column 4: more than 50000 values, aliases expanded",
        ),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_yaml_that_is_broken_or_dangerous_is_refused_with_its_line(
    faults: Callable[..., tuple[str, ...]], text: str, fault: str
) -> None:
    assert faults(text) == (fault,)


# ---- sections


def test_a_litellm_proxy_s_own_file_loads_and_says_what_has_no_effect(load: Callable[..., Config]) -> None:
    config = load(
        """
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: os.environ/AZURE_API_BASE
      api_key: "os.environ/AZURE_API_KEY"
      api_version: "2024-08-01-preview"
      rpm: 900
      tpm: 100000
    model_info: {base_model: azure/gpt-4o, mode: chat, team_id: t1}
  - model_name: claude
    litellm_params:
      model: anthropic/claude-sonnet-4-6
      api_key: os.environ/ANTHROPIC_API_KEY
      max_retries: 3
      timeout: 300
      stream_timeout: 60
      input_cost_per_token: 3e-06
      output_cost_per_token: 0.000015
      cache_read_input_token_cost: 3e-07
  - model_name: text-embedding-3-small
    litellm_params: {model: openai/text-embedding-3-small}
    model_info: {mode: embedding}
  - model_name: "openai/*"
    litellm_params: {model: "openai/*", api_key: os.environ/OPENAI_API_KEY}

litellm_settings:
  drop_params: True
  set_verbose: false
  success_callback: ["langfuse", "prometheus"]
  cache: true
  cache_params: {type: redis, host: os.environ/REDIS_HOST}
  num_retries: 4
  request_timeout: 600
  fallbacks: [{"claude": ["gpt-4o"]}, {"text-embedding-3-small": ["gpt-4o"]}]
  context_window_fallbacks: [{"gpt-4o": ["claude"]}]
  default_team_settings: []

router_settings:
  routing_strategy: simple-shuffle
  redis_host: os.environ/REDIS_HOST
  redis_password: os.environ/REDIS_PASSWORD
  enable_pre_call_checks: true
  model_group_alias: {gpt-4: gpt-4o}

general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: "postgresql://u:p@h/db"
  alerting: ["slack"]

environment_variables: {LANGFUSE_PUBLIC_KEY: pk-lf-1}
guardrails: [{guardrail_name: x, litellm_params: {guardrail: presidio, mode: pre_call}}]
callback_settings: {otel: {message_logging: false}}
""",
        KEYS | {"AZURE_API_BASE": "https://eu.example.com/", "AZURE_API_KEY": "az-1"},
    )
    *unset, too_long, nothing = config.warnings
    assert unset == [
        "router_settings.redis_host: REDIS_HOST is not set; left out",
        "router_settings.redis_password: REDIS_PASSWORD is not set; left out",
        "litellm_settings.cache_params.host: REDIS_HOST is not set; left out",
    ]
    assert config.redis is None
    assert too_long == (
        "longer than konstruct.timeout_s (300 s), which ends the whole call: litellm_settings.request_timeout"
    )
    assert nothing.removeprefix("no effect here: ").split(", ") == [
        "general_settings",
        "guardrails",
        "callback_settings",
        "litellm_settings.success_callback",
        "litellm_settings.cache",
        "model_list[1].litellm_params.stream_timeout",
        "model_list[2] (not a chat model)",
        "litellm_settings.fallbacks[1].text-embedding-3-small",
    ]
    assert list(config.groups) == ["gpt-4o", "claude", "gpt-4"]
    assert config.groups["gpt-4"].deployments == config.groups["gpt-4o"].deployments
    assert [wildcard.pattern for wildcard in config.wildcards] == ["openai/*"]
    assert config.variables == {"LANGFUSE_PUBLIC_KEY": "pk-lf-1"}
    (azure,), (claude,) = config.groups["gpt-4o"].deployments, config.groups["claude"].deployments
    assert azure.params == {
        "model": "azure/gpt-4o-eu",
        "api_base": "https://eu.example.com/",
        "api_key": "az-1",
        "base_model": "azure/gpt-4o",
        "api_version": "2024-08-01-preview",
        "drop_params": True,
    }
    assert (azure.rpm, azure.tpm, azure.timeout_s, azure.num_retries) == (900, 100_000, 600.0, 4)
    assert claude.params == {
        "model": "anthropic/claude-sonnet-4-6",
        "api_key": "sk-ant-1",
        "input_cost_per_token": 3e-06,
        "output_cost_per_token": 1.5e-05,
        "cache_read_input_token_cost": 3e-07,
        "drop_params": True,
    }
    assert (claude.timeout_s, claude.num_retries, claude.input_cost) == (300.0, 3, 3e-06)
    assert config.groups["claude"].fallbacks == ("gpt-4o",)
    assert config.groups["gpt-4o"].context_window_fallbacks == ("claude",)
    assert config.default_group == "gpt-4o"
    assert config.routing_strategy == "simple-shuffle"


def test_router_settings_come_before_litellm_settings(load: Callable[..., Config]) -> None:
    config = load({
        "model_list": [entry("a"), entry("b", CLAUDE)],
        "router_settings": {"num_retries": 0, "timeout": 5, "cooldown_time": 0, "fallbacks": [], "allowed_fails": 0},
        "litellm_settings": {
            "num_retries": 7, "request_timeout": 9, "cooldown_time": 3, "allowed_fails": 4, "fallbacks": [{"a": ["b"]}],
        },
    })  # fmt: skip
    (deployment,) = config.groups["a"].deployments
    assert (deployment.num_retries, deployment.timeout_s, deployment.cooldown_s) == (0, 5.0, 0.0)
    assert (config.allowed_fails, config.groups["a"].fallbacks) == (0, ())


def test_null_counts_as_not_given(load: Callable[..., Config]) -> None:
    config = load(
        ONE + "router_settings:\nlitellm_settings: {num_retries: }\nkonstruct: {default_group: , groups: {g: }}\n"
    )
    assert config.default_group == "g"
    assert config.groups["g"].deployments[0].num_retries == 2


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ({"konstrukt": {}}, "konstrukt: unknown section; did you mean konstruct?"),
        ({"konstruct": 5}, "konstruct: should be an object"),
        ({"konstruct": {"default_grop": "g"}}, "konstruct.default_grop: unknown key; did you mean default_group?"),
        ({"konstruct": {"xyzzy": None}}, "konstruct.xyzzy: unknown key"),
        ({"konstruct": {"default_group": "fats"}}, 'konstruct.default_group: no group "fats"; groups: g'),
        ({"konstruct": {"groups": {"fats": {}}}}, "konstruct.groups.fats: no such group; groups: g"),
        (
            {"konstruct": {"groups": {"g": {"formerly": ["old", "g"]}}}},
            'konstruct.groups.g.formerly[1]: "g" is still a group of this config',
        ),
        ({"konstruct": {"groups": {"g": "x"}}}, "konstruct.groups.g: should be an object"),
        (
            {"konstruct": {"groups": {"g": {"descripton": "x"}}}},
            "konstruct.groups.g.descripton: unknown key; did you mean description?",
        ),
        (
            {"konstruct": {"groups": {"g": {"description": "x" * 121}}}},
            "konstruct.groups.g.description: should have at most 120 characters",
        ),
        (
            {"konstruct": {"groups": {"g": {"description": "two\nlines"}}}},
            "konstruct.groups.g.description: should be one line of printable characters",
        ),
        ({"konstruct": {"timeout_s": 0}}, "konstruct.timeout_s: should be greater than 0"),
        ({"konstruct": {"timeout_s": True}}, "konstruct.timeout_s: should be a number"),
        ({"konstruct": {"max_concurrency": 0}}, "konstruct.max_concurrency: should be greater than or equal to 1"),
        ({"konstruct": {"max_queue": -1}}, "konstruct.max_queue: should be greater than or equal to 0"),
        ({"konstruct": {"max_result_chars": 99}}, "konstruct.max_result_chars: should be greater than or equal to 100"),
        (
            {"konstruct": {"max_response_bytes": 9}},
            "konstruct.max_response_bytes: should be greater than or equal to 10000",
        ),
        (
            {"konstruct": {"default_tenant": "a b"}},
            "konstruct.default_tenant: should be 1 to 128 letters, digits or any of . _ : @ -",
        ),
        ({"konstruct": {"tenants": ["a"]}}, "konstruct.tenants: should be an object"),
        ({"konstruct": {"tenants": {}}}, "konstruct.tenants: should name a tenant, or nobody is one"),
        (
            {"konstruct": {"tenants": {"a": None}, "pin_tenant": True}},
            'konstruct.pin_tenant: there is no "default" in konstruct.tenants; konstruct.default_tenant or '
            "KONSTRUCT_TENANT_ID has to say whose server this is",
        ),
        ({"konstruct": {"tenants": {"a b": None}}}, f"konstruct.tenants.a b: {TENANT_ID_RULE}"),
        ({"konstruct": {"tenants": {"a": "x"}}}, "konstruct.tenants.a: should be an object"),
        (
            {"konstruct": {"tenants": {"a": {"group": ["g"]}}}},
            "konstruct.tenants.a.group: unknown key; did you mean groups?",
        ),
        (
            {"konstruct": {"tenants": {"a": {"groups": ["fats"]}}}},
            'konstruct.tenants.a.groups[0]: no group "fats"; groups: g',
        ),
        (
            {"konstruct": {"tenants": {"a": {"budgets": [{"usd": 1}]}}}},
            "konstruct.tenants.a.budgets[0].per: required, but missing",
        ),
        (
            {"konstruct": {"tenants": {"allow_unknown": True}}},
            "konstruct.tenants.allow_unknown: belongs one level up: konstruct.allow_unknown",
        ),
        (
            {"konstruct": {"tenants": {"a": {"note": "two\nlines"}}}},
            "konstruct.tenants.a.note: should be one line of printable characters",
        ),
        ({"konstruct": {"budgets": {"usd": 1, "per": "day"}}}, "konstruct.budgets: should be a valid list"),
        ({"konstruct": {"budgets": [5]}}, "konstruct.budgets[0]: should be an object"),
        (
            {"konstruct": {"budgets": [{"usd": -1, "per": "day"}]}},
            "konstruct.budgets[0].usd: should be greater than or equal to 0",
        ),
        *(
            (
                {"konstruct": {"budgets": [{"usd": amount, "per": "day"}]}},
                "konstruct.budgets[0].usd: should be a number of US dollars",
            )
            for amount in (True, [5], "five")
        ),
        (
            {"konstruct": {"budgets": [{"usd": 1, "per": "week"}]}},
            "konstruct.budgets[0].per: should be 'day', 'month' or 'total'",
        ),
        (
            {"konstruct": {"budgets": [{"usd": 1, "per": "day", "groups": ["fats"]}]}},
            'konstruct.budgets[0].groups[0]: no group "fats"; groups: g',
        ),
        ({"konstruct": {"budget_fallback": "fats"}}, 'konstruct.budget_fallback: no group "fats"; groups: g'),
        ({"konstruct": {"min_answer_tokens": 0}}, "konstruct.min_answer_tokens: should be greater than or equal to 1"),
        (
            {"konstruct": {"ledger_url": "nonsense"}},
            "konstruct.ledger_url: should be a SQLAlchemy URL, like sqlite:////absolute/path or postgresql://host/name",
        ),
        (
            {"konstruct": {"ledger_url": "sqlite:///ledger.sqlite3"}},
            "konstruct.ledger_url: should name an absolute path: sqlite:////absolute/path/ledger.sqlite3",
        ),
        ({"konstruct": {"ledger_url": "os.environ/NOPE"}}, "konstruct.ledger_url (NOPE): is not set"),
        (
            {"konstruct": {"default_group": "os.environ/NOPE"}},
            "konstruct.default_group (NOPE): is not set",
        ),
        ({"konstruct": {"tenants": "os.environ/NOPE"}}, "konstruct.tenants (NOPE): is not set"),
        ({"environment_variables": ["A"]}, "environment_variables: should be an object"),
        ({"include": "more.yaml"}, "include: should be a list of files"),
        ({"include": ["more.yaml"]}, "include[0] (more.yaml): cannot be read: No such file or directory"),
    ],
    ids=lambda value: json.dumps(value)[:50],
)  # fmt: skip
def test_a_fault_in_a_section_is_named_with_its_place(
    faults: Callable[..., tuple[str, ...]], extra: dict[str, Any], fault: str
) -> None:
    assert faults({"model_list": [entry("g")]} | extra) == (fault,)


@pytest.mark.parametrize(
    ("extra", "warning"),
    [
        ({"Router_Setting": {}}, "Router_Setting: unknown section; did you mean router_settings?"),
        ({"models_list": {}}, "models_list: unknown section; did you mean model_list?"),
        ({"litellm_settings": "x"}, "litellm_settings: should be an object; left out"),
        ({"router_settings": [1]}, "router_settings: should be an object; left out"),
        (
            {"router_settings": {"num_retries": -1}},
            "router_settings.num_retries: should be greater than or equal to 0; left out",
        ),
        ({"router_settings": {"num_retries": False}}, "router_settings.num_retries: should be a number; left out"),
        (
            {"router_settings": {"timeout": "30s"}},
            "router_settings.timeout: should be a valid number, unable to parse string as a number; left out",
        ),
        (
            {"router_settings": {"allowed_fails": -1}},
            "router_settings.allowed_fails: should be greater than or equal to 0; left out",
        ),
        (
            {"router_settings": {"model_group_alias": ["a"]}},
            "router_settings.model_group_alias: should be an object; left out",
        ),
        (
            {"router_settings": {"fallbacks": "g"}},
            "router_settings.fallbacks: should be a valid list; left out",
        ),
        ({"router_settings": {"fallbacks": ["g"]}}, "router_settings.fallbacks[0]: should be an object; left out"),
        (
            {"router_settings": {"fallbacks": [{"g": {"model": "g"}}]}},
            "router_settings.fallbacks[0].g: should be a list of groups; left out",
        ),
        (
            {"router_settings": {"fallbacks": [{"g": [None]}]}},
            "router_settings.fallbacks[0].g[0]: should be the name of a group; left out",
        ),
        (
            {"litellm_settings": {"default_fallbacks": [["g"]]}},
            "litellm_settings.default_fallbacks[0]: should be the name of a group; left out",
        ),
        (
            {"litellm_settings": {"request_timeout": "never"}},
            "litellm_settings.request_timeout: should be a valid number, unable to parse string as a number; left out",
        ),
        (
            {"litellm_settings": {"cooldown_time": "1e999"}},
            "litellm_settings.cooldown_time: should be a finite number; left out",
        ),
        ({"credential_list": {"a": "b"}}, "credential_list: should be a list; left out"),
        (
            {"credential_list": [{"credential_values": {}}]},
            "credential_list[0].credential_name: required, but missing; left out",
        ),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_a_flaw_in_litellm_s_own_settings_is_a_warning_and_the_default_holds(
    load: Callable[..., Config], extra: dict[str, Any], warning: str
) -> None:
    config = load({"model_list": [entry("g")]} | extra)
    assert config.warnings == (warning,)
    assert config.groups == load({"model_list": [entry("g")]}).groups
    assert config.allowed_fails == 2


@pytest.mark.parametrize("empty", [[], {}, "", " "])
def test_an_empty_value_of_any_kind_is_none_in_litellm_s_own_settings(load: Callable[..., Config], empty: Any) -> None:
    settings = dict.fromkeys(("fallbacks", "model_group_alias", "default_fallbacks", "num_retries", "timeout"), empty)
    config = load({
        "model_list": [entry("g", GPT | {"rpm": empty}, model_info=empty if empty != " " else "")],
        "router_settings": settings,
        "litellm_settings": {"api_base": empty, "api_key": empty, "openai_key": empty, "request_timeout": empty},
        "credential_list": empty if empty != " " else "",
    })  # fmt: skip
    assert config.warnings == ()
    assert config.groups == load({"model_list": [entry("g")]}).groups
    assert load({"model_list": [entry("g")], "router_settings": empty if empty != " " else ""}).warnings == ()


def test_every_fault_is_named_at_once(faults: Callable[..., tuple[str, ...]]) -> None:
    assert faults({
        "model_list": [
            entry("quality", {"model": "openai/gpt-4o", "api_key": f"{SECRET}\n", "order": "first"}),
            entry("fast", {"model": "openai/x", "api_base": f"ftp://{SECRET}@h"}, model_info={"supports_vision": "ja"}),
            "text",
            {"litellm_params": {"rpm": -1}},
            {"model_name": "x"},
            entry("bad\nname", {"model": ""}),
        ],
        "router_settings": {
            "num_retries": "many",
            "fallbacks": [{"quality": ["fast", "fats"]}, {"quality": []}, {"fast": ["x", "x"]}],
        },
        "konstruct": {"timeout_s": "soon", "groups": {"fats": {}}},
    }) == (
        "konstruct.timeout_s: should be a valid number, unable to parse string as a number",
        "model_list[2]: should be an object",
        "model_list[3].model_name: required, but missing",
        "model_list[4].litellm_params: required, but missing",
        "model_list[5].model_name: should be one line of printable characters",
        "konstruct.groups.fats: no such group; groups: bad?name, fast, quality, x",
    )  # fmt: skip


def test_a_flood_of_faults_is_cut(faults: Callable[..., tuple[str, ...]]) -> None:
    assert len(faults({"model_list": ["x"] * 1000})) == 100


def test_a_flood_of_idle_keys_is_cut(load: Callable[..., Config]) -> None:
    (warning,) = load({"model_list": [entry("g")], "general": 1} | {f"x{i}": 1 for i in range(120)}).warnings
    assert warning.startswith("no effect here: general, x0, x1, ")
    assert warning.endswith(", x28 and 91 more")


@pytest.mark.parametrize(
    ("models", "fault"),
    [
        (None, "model_list: required, but missing"),
        ({}, "model_list: should be a list"),
        ([], "model_list: no deployment"),
        (
            [entry("g", {"model": "openai/*"})],
            "model_list: no deployment (passed over: 1 of its entries, a wildcard under a name that is none)",
        ),
        (
            [entry("g", {"model": "openai/text-embedding-3-large"}), entry("h", model_info={"mode": "rerank"})],
            "model_list: no deployment (passed over: 2 of its entries, not a chat model)",
        ),
    ],
)
def test_a_config_without_a_deployment_is_refused(
    faults: Callable[..., tuple[str, ...]], models: Any, fault: str
) -> None:
    assert faults({"model_list": models}) == (fault,)


# ---- groups and fallbacks


def test_balanced_is_the_default_group_where_there_is_one_and_else_the_first(load: Callable[..., Config]) -> None:
    assert load({"model_list": [entry("a"), entry("balanced")]}).default_group == "balanced"
    assert load({"model_list": [entry("b"), entry("a")]}).default_group == "b"
    config = {"model_list": [entry("b"), entry("a")], "konstruct": {"default_group": "a", "default_tenant": "acme"}}
    assert (load(config).default_group, load(config).default_tenant) == ("a", "acme")


def test_a_group_that_says_nothing_is_described_by_its_models_in_the_order_they_are_asked(
    load: Callable[..., Config],
) -> None:
    config = load({
        "model_list": [
            entry("g", GPT),
            entry("g", CLAUDE | {"order": 1}),
            entry("g", {"model": "groq/x", "order": 2}),
            entry("g", {"model": "xai/y", "order": 2}),
            entry("g", {"model": "xai/y", "order": 2, "rpm": 1}),
        ]
    })  # fmt: skip
    group = config.groups["g"]
    assert group.description == "anthropic/claude-sonnet-4-6, then groq/x or xai/y, then openai/gpt-4o"
    assert [d.id for d in group.deployments] == ["g/1", "g/2", "g/3", "g/4", "g/5"]
    assert [d.name for d in group.deployments][2:] == ["groq/x", "xai/y", "xai/y#2"]


def test_default_fallbacks_stand_behind_groups_that_have_none(load: Callable[..., Config]) -> None:
    config = load({
        "model_list": [entry(name) for name in "abcdef"],
        "router_settings": {"default_fallbacks": ["c", "d"], "fallbacks": [{"b": ["a"]}, {"c": ["e"]}, {"f": []}]},
    })  # fmt: skip
    fallbacks = {name: group.fallbacks for name, group in config.groups.items()}
    assert fallbacks == {"a": ("c", "d"), "b": ("a",), "c": ("e",), "d": ("c",), "e": ("c", "d"), "f": ()}


def test_fallbacks_that_are_mutual_or_lead_to_oneself_load(load: Callable[..., Config]) -> None:
    chains = [{"a": ["b", "a"]}, {"b": ["c"]}, {"c": ["a"]}]
    config = load({"model_list": [entry(name) for name in "abc"], "router_settings": {"fallbacks": chains}})
    assert {name: group.fallbacks for name, group in config.groups.items()} == {"a": ("b",), "b": ("c",), "c": ("a",)}
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("settings", "behind", "warning"),
    [
        ({"fallbacks": [{"a": ["gone", "b"]}]}, ("b",), 'fallbacks[0].a[0]: no group "gone"; groups: a, b; left out'),
        ({"fallbacks": [{"gone": ["b"]}]}, (), 'fallbacks[0].gone: no group "gone"; groups: a, b; left out'),
        ({"fallbacks": [{"a": "b"}]}, ("b",), "fallbacks[0].a: is read as a list of one"),
        ({"default_fallbacks": "b"}, ("b",), "default_fallbacks: is read as a list of one"),
        (
            {"fallbacks": [{"a": [{"model": "b", "messages": []}]}]},
            ("b",),
            "fallbacks[0].a[0]: only its model counts; the request is sent as it is",
        ),
        (
            {"fallbacks": [{"a": ["b"]}, {"a": []}]},
            ("b",),
            "fallbacks[1].a: this group has a list already; the first one counts",
        ),
        ({"fallbacks": [{"a": ["b", "b"]}]}, ("b",), None),
        ({"fallbacks": [{"a": None}]}, (), None),
        (
            {"fallbacks": [{"*": ["a"]}, {"*": ["b"]}]},
            ("b",),
            "fallbacks[1].*: there is another; the last one counts",
        ),
    ],
    ids=str,
)
def test_what_is_lost_of_fallbacks_is_a_warning(
    load: Callable[..., Config], settings: dict[str, Any], behind: tuple[str, ...], warning: str | None
) -> None:
    config = load({"model_list": [entry("a"), entry("b")], "router_settings": settings})
    assert config.groups["a"].fallbacks == behind
    assert config.warnings == (() if warning is None else (f"router_settings.{warning}",))


def test_content_policy_fallbacks_may_go_both_ways(load: Callable[..., Config]) -> None:
    config = load({
        "model_list": [entry("a"), entry("b")],
        "router_settings": {"content_policy_fallbacks": [{"a": ["b"], "b": ["a"]}]},
    })  # fmt: skip
    assert config.groups["b"].content_policy_fallbacks == ("a",)


def test_an_entry_that_repeats_another_counts_as_one_of_the_weight_of_both(load: Callable[..., Config]) -> None:
    entries = [entry("a"), entry("b"), entry("a", GPT | {"rpm": 1}), entry("a", dict(reversed(GPT.items())))]
    config = load({"model_list": entries})
    assert [(d.id, d.copies) for d in config.groups["a"].deployments] == [("a/1", 2), ("a/2", 1)]
    assert config.warnings == ("model_list[3]: the same as model_list[0]; they count as one, with the weight of all",)


def test_of_two_equal_yaml_keys_the_last_one_counts(load: Callable[..., Config]) -> None:
    text = ONE + "router_settings:\n  num_retries: 1\n  num_retries: 3\n"
    config = load(text)
    assert config.groups["g"].deployments[0].num_retries == 3
    assert config.warnings == ('line 4, column 3: the key "num_retries" is there twice; the last one counts',)


@pytest.mark.parametrize(
    "name", ["least-busy", "usage-based-routing", "usage-based-routing-v2", "cost-based-routing", "simple-shuffle"]
)
def test_the_routing_strategies_of_litellm_are_known(load: Callable[..., Config], name: str) -> None:
    config = load({"model_list": [entry("g")], "router_settings": {"routing_strategy": name}})
    assert (config.routing_strategy, config.warnings) == (name, ())


def test_a_slip_in_a_key_of_an_entry_is_told_beside_the_key_that_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "litellm.yaml"
    file.write_text("model_list: [{model_nam: a, litellm_params: {model: ollama/x}}]")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert caught.value.faults == ("model_list[0].model_name: required, but missing",)
    assert caught.value.warnings == ("model_list[0].model_nam: unknown key; did you mean model_name?",)


@pytest.mark.parametrize("name", [SECRET, ["least-busy"], 5])
def test_another_routing_strategy_is_the_default_one_and_a_warning(load: Callable[..., Config], name: Any) -> None:
    config = load({"model_list": [entry("g")], "router_settings": {"routing_strategy": name}})
    assert config.routing_strategy == "latency-based-routing"
    (warning,) = config.warnings
    assert warning.startswith("router_settings.routing_strategy: is not known here, as are latency-based-routing, ")
    assert warning.endswith("; latency-based-routing is used")


# ---- deployments


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("ollama_chat/qwen3", "ollama/qwen3"),
        ("ollama/qwen3", "ollama/qwen3"),
        ("gpt-4o", "openai/gpt-4o"),
        ("o3-mini", "openai/o3-mini"),
        ("chatgpt-4o-latest", "openai/chatgpt-4o-latest"),
        ("claude-sonnet-4-6", "anthropic/claude-sonnet-4-6"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "openai/ft:gpt-4o-mini-2024-07-18:org::id"),
        ("openrouter/meta/llama", "openrouter/meta/llama"),
        ("omni", "omni"),
    ],
)
def test_a_model_is_shown_with_its_provider(deploy: Callable[..., Deployment], model: str, shown: str) -> None:
    deployment = deploy({"model": model})
    assert (deployment.model, deployment.name, deployment.params["model"]) == (shown, shown, model)


def test_a_custom_provider_counts_as_the_provider(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy({"model": "mine", "custom_llm_provider": "openai"}, {})
    assert (deployment.model, deployment.unavailable) == ("openai/mine", "OPENAI_API_KEY is not set")
    assert deployment.params["custom_llm_provider"] == "openai"
    ollama = deploy({"model": "x", "custom_llm_provider": "ollama_chat"}, {})
    assert (ollama.model, ollama.input_cost) == ("ollama/x", 0.0)
    assert ollama.params["api_base"] == "http://localhost:11434"
    assert "custom_llm_provider" not in ollama.params


@pytest.mark.parametrize(
    ("params", "environ", "key", "unavailable"),
    [
        ({"model": "gpt-4o"}, {"OPENAI_API_KEY": " sk-1\n"}, "sk-1", None),
        ({"model": "gpt-4o", "api_key": ""}, {"OPENAI_API_KEY": "sk-1"}, "sk-1", None),
        ({"model": "gpt-4o", "api_key": " sk-2 "}, {"OPENAI_API_KEY": "sk-1"}, "sk-2", None),
        ({"model": "gpt-4o"}, {"OPENAI_API_KEY": " "}, None, "OPENAI_API_KEY is not set"),
        ({"model": "gpt-4o"}, {"OPENAI_API_KEY": "ключ"}, None, "OPENAI_API_KEY holds characters that cannot be sent"),
        ({"model": "xai/x", "api_key": "os.environ/K"}, {"K": "\x1b"}, None, "K holds characters that cannot be sent"),
        ({"model": "claude-x", "api_key": "os.environ/K"}, KEYS, None, "K is not set"),
        ({"model": "openai/x", "api_base": "http://h/v1"}, {}, "not-needed", None),
        ({"model": "openai/x", "base_url": "http://h/v1"}, {}, "not-needed", None),
        ({"model": "openai/x", "api_base": "http://h/v1"}, KEYS, "sk-openai-1", None),
        ({"model": "openai/x", "api_base": "http://h", "api_key": "os.environ/K"}, {}, "not-needed", "K is not set"),
        ({"model": "gemini/x"}, {"GOOGLE_API_KEY": "g"}, "g", None),
        ({"model": "gemini/x"}, {}, None, "GEMINI_API_KEY is not set"),
        ({"model": "together_ai/x"}, {}, None, "TOGETHERAI_API_KEY is not set"),
        ({"model": "bedrock/x"}, {"AWS_PROFILE": "p"}, None, None),
        ({"model": "ollama/x"}, {}, None, None),
        ({"model": "ollama/x", "api_key": "os.environ/K"}, {}, None, None),
        ({"model": "openai/x", "api_base": "os.environ/B"}, KEYS, "sk-openai-1", "B is not set"),
        ({"model": "xai/x", "api_key": "a\x7fb"}, {}, None, "api_key holds characters that cannot be sent"),
        (
            {"model": "xai/x", "api_key": "os.environ/no good"},
            {},
            None,
            "api_key names no variable; should be os.environ/NAME, a name of letters, digits and _",
        ),
        ({"model": "os.environ/M"}, {}, None, "M is not set"),
        ({"model": "os.environ/M"}, {"M": "groq/x", "GROQ_API_KEY": "gr"}, "gr", None),
        (
            {"model": "bedrock/x", "extra": {"a": ["os.environ/A", "os.environ/B"]}, "rpm": "os.environ/A"},
            {"A": "\t", "AWS_PROFILE": "p"},
            None,
            None,
        ),
    ],
)  # fmt: skip
def test_keys_and_references_come_from_the_environment(
    deploy: Callable[..., Deployment],
    params: dict[str, Any],
    environ: dict[str, str],
    key: str | None,
    unavailable: str | None,
) -> None:
    deployment = deploy(params, environ)
    assert (deployment.params.get("api_key"), deployment.unavailable) == (key, unavailable)


def test_references_are_resolved_at_any_depth(deploy: Callable[..., Deployment]) -> None:
    environ = {"T": "token", "RPM": "30", "PRICE": "2e-06", "WINDOW": "8000", "SEES": "true"}
    deployment = deploy(
        {
            "model": "azure/x",
            "rpm": "os.environ/RPM",
            "extra_headers": {"Authorization": "os.environ/T"},
            "list": ["os.environ/T", 1],
        },
        environ,
        {
            "max_tokens": 4,
            "max_input_tokens": "os.environ/WINDOW",
            "input_cost_per_token": "os.environ/PRICE",
            "supports_vision": "os.environ/SEES",
            "supports_function_calling": False,
            "supports_response_schema": True,
        },
    )
    assert deployment.params == {
        "model": "azure/x",
        "extra_headers": {"Authorization": "token"},
        "list": ["token", 1],
        "input_cost_per_token": 2e-06,
    }
    assert (deployment.rpm, deployment.context_window, deployment.input_cost) == (30, 8000, 2e-06)
    assert deployment.supports == {"tools": False, "vision": True, "structured_output": True}
    assert deployment.output_cost is None


def test_routing_keys_stay_out_of_the_call_and_prices_in(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy({
        "model": "ollama/x",
        "order": 3,
        "timeout": "2.5",
        "num_retries": 0,
        "cooldown_time": 7,
        "weight": 2,
        "rpm": 1,
        "tpm": 2,
        "max_parallel_requests": 3,
        "drop_params": True,
        "input_cost_per_token": "1e-06",
        "seed": None,
    })  # fmt: skip
    assert deployment.params == {
        "model": "ollama/x",
        "api_base": "http://localhost:11434",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 0.0,
        "drop_params": True,
    }
    assert deployment == Deployment(
        id="g/1",
        group="g",
        name="ollama/x",
        model="ollama/x",
        params=deployment.params,
        order=3,
        timeout_s=2.5,
        num_retries=0,
        cooldown_s=7.0,
        weight=2.0,
        rpm=1,
        tpm=2,
        max_parallel_requests=3,
        input_cost=1e-06,
        output_cost=0.0,
        supports={"structured_output": True},
    )


def test_keys_that_would_undo_the_request_or_the_routing_are_dropped_and_named(load: Callable[..., Config]) -> None:
    params = GPT | {"stream": True, "n": 2, "user": SECRET, "metadata": {"a": "os.environ/NOT_SET"}, "mock_response": 1}
    params |= {"guardrails": ["pii"], "langfuse_secret": SECRET}
    config = load({"model_list": [entry("g", params, tpm=1)]})
    (deployment,) = config.groups["g"].deployments
    assert dict(deployment.params) == {"model": "openai/gpt-4o", "api_key": "sk-openai-1"}
    assert deployment.unavailable is None
    assert deployment.tpm == 1  # as LiteLLM has it, also beside the litellm_params
    idle = [f"model_list[0].litellm_params.{key}" for key in params.keys() - GPT.keys()]
    (warning,) = config.warnings
    assert sorted(warning.removeprefix("no effect here: ").split(", ")) == sorted(idle)


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({"model": 5}, "model: should be a valid string"),
        ({"model": "a\nb"}, "model: should be one line of printable characters"),
    ],
    ids=str,
)
def test_a_fault_in_litellm_params_is_named_with_its_place_and_without_its_value(
    faults: Callable[..., tuple[str, ...]], params: dict[str, Any], fault: str
) -> None:
    config = {"model_list": [entry("g", {"model": "azure/x"} | params)]}
    assert faults(config, {"URL": f"nothing {SECRET}"}) == (f"model_list[0].litellm_params.{fault}",)


NO_INTEGER = "should be a valid integer, unable to parse string as an integer; left out"
NO_NUMBER = "should be a valid number, unable to parse string as a number; left out"


@pytest.mark.parametrize(
    ("params", "warning"),
    [
        ({"rpm": "os.environ/URL"}, f"rpm (URL): {NO_INTEGER}"),
        ({"rpm": -1}, "rpm: should be greater than or equal to 0; left out"),
        ({"timeout": -1}, "timeout: should be greater than or equal to 0; left out"),
        ({"timeout": "30s"}, f"timeout: {NO_NUMBER}"),
        ({"timeout": {"connect": 5}}, "timeout: should be a valid number; left out"),
        ({"weight": -1}, "weight: should be greater than or equal to 0; left out"),
        ({"weight": "heavy"}, f"weight: {NO_NUMBER}"),
        ({"order": True}, "order: should be a number; left out"),
        ({"order": 1.5}, "order: should be a valid integer, got a number with a fractional part; left out"),
        ({"num_retries": False}, "num_retries: should be a number; left out"),
        ({"max_retries": -1}, "max_retries: should be greater than or equal to 0; left out"),
        ({"max_parallel_requests": -1}, "max_parallel_requests: should be greater than or equal to 0; left out"),
        ({"cooldown_time": -1}, "cooldown_time: should be greater than or equal to 0; left out"),
        ({"input_cost_per_token": SECRET}, f"input_cost_per_token: {NO_NUMBER}"),
        *(
            (
                {"cache_read_input_token_cost": price},
                "cache_read_input_token_cost: should be US dollars per token; left out",
            )
            for price in (SECRET, True)
        ),
    ],
    ids=str,
)
def test_a_flaw_in_litellm_params_is_a_warning_without_its_value_and_the_default_holds(
    load: Callable[..., Config], params: dict[str, Any], warning: str
) -> None:
    environ = KEYS | {"URL": f"nothing {SECRET}"}
    config = load({"model_list": [entry("g", GPT | params)]}, environ)
    assert config.warnings == (f"model_list[0].litellm_params.{warning}",)
    (deployment,) = config.groups["g"].deployments
    (other,) = load({"model_list": [entry("g")]}, environ).groups["g"].deployments
    assert replace(deployment, secrets=other.secrets) == other


@pytest.mark.parametrize(
    ("params", "environ", "why"),
    [
        ({"api_base": "localhost:11434"}, {}, "api_base"),
        ({"api_base": "http://"}, {}, "api_base"),
        ({"api_base": "http://[::1"}, {}, "api_base"),
        ({"api_base": "http://h:port"}, {}, "api_base"),
        ({"api_base": "${OLLAMA_URL}"}, {}, "api_base"),
        ({"base_url": "http://h/a b"}, {}, "base_url"),
        ({"api_base": "os.environ/URL"}, {"URL": "nothing"}, "URL"),
        ({"api_base": "http://${HOST}:80/v1"}, {"HOST": "h"}, "api_base"),
        ({}, {"OLLAMA_BASE_URL": "localhost:11434"}, "OLLAMA_BASE_URL"),
    ],
    ids=str,
)
def test_an_address_that_is_none_makes_that_deployment_unavailable_and_no_other(
    load: Callable[..., Config], params: dict[str, Any], environ: dict[str, str], why: str
) -> None:
    config = load({"model_list": [entry("g", {"model": "ollama/x"} | params), entry("h")]}, KEYS | environ)
    assert config.groups["g"].deployments[0].unavailable == f"{why} {ADDRESS}"
    assert config.groups["h"].deployments[0].unavailable is None


@pytest.mark.parametrize(
    ("params", "field", "value", "warning"),
    [
        (
            {"api_base": "http://a", "base_url": "http://b"},
            "params",
            "http://b",
            "api_base: is base_url by another name, which counts",
        ),
        (
            {"num_retries": 1, "max_retries": 4},
            "num_retries",
            1,
            "max_retries: is num_retries by another name, which counts",
        ),
        ({"max_retries": 4}, "num_retries", 4, None),
        ({"max_retries": 1000}, "num_retries", 100, None),
        ({"timeout": 0}, "timeout_s", 120.0, None),
        ({"weight": 0}, "weight", 0.0, None),
        ({"rpm": 0}, "rpm", 0, None),
        ({"max_parallel_requests": 0}, "max_parallel_requests", None, None),
        ({"input_cost_per_token": 3}, "input_cost", 3.0, f"input_cost_per_token: {PER_MILLION}"),
        ({"input_cost_per_token": -1}, "input_cost", None, f"input_cost_per_token: {NO_PRICE}"),
        ({"input_cost_per_token": 1e9}, "input_cost", None, f"input_cost_per_token: {NO_PRICE}"),
        ({"cache_read_input_token_cost": 5}, "order", None, f"cache_read_input_token_cost: {PER_MILLION}"),
        ({"rpm": "os.environ/RPM"}, "rpm", None, "rpm: RPM is not set; left out"),
        ({"timeout": "os.environ/T", "order": 1}, "order", 1, "timeout: T is not set; left out"),
        (
            {"x": [{"y": "os.environ/"}]},
            "order",
            None,
            "x[0].y: names no variable; should be os.environ/NAME, a name of letters, digits and _; left out",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_means_what_it_means_to_litellm_and_what_is_lost_is_a_warning(
    load: Callable[..., Config], params: dict[str, Any], field: str, value: Any, warning: str | None
) -> None:
    config = load({"model_list": [entry("g", {"model": "openai/x", "api_key": "k"} | params)]})
    (deployment,) = config.groups["g"].deployments
    found = deployment.params["api_base"] if field == "params" else getattr(deployment, field)
    assert (found, deployment.unavailable) == (value, None)
    assert config.warnings == (() if warning is None else (f"model_list[0].litellm_params.{warning}",))


@pytest.mark.parametrize(
    ("given", "kept", "lost"),
    [
        ({"extra_headers": {"a": 1, "b": True, "c": 1.5}}, {"extra_headers": {"a": "1", "b": "true", "c": "1.5"}}, []),
        (
            {"headers": {"a": "x", "b": [1], "c": "é"}},
            {"headers": {"a": "x"}},
            ["headers.b: cannot be sent in a header; left out", "headers.c: cannot be sent in a header; left out"],
        ),
        ({"extra_headers": "a: 1"}, {}, ["extra_headers: should be an object; left out"]),
        ({"drop_params": "true"}, {"drop_params": True}, []),
        ({"drop_params": 1}, {"drop_params": True}, []),
        ({"drop_params": "false"}, {"drop_params": False}, []),
        ({"additional_drop_params": "seed"}, {}, ["additional_drop_params: should be a list; left out"]),
    ],
    ids=str,
)
def test_headers_and_switches_have_the_type_that_they_are_sent_or_read_with(
    load: Callable[..., Config], given: dict[str, Any], kept: dict[str, Any], lost: list[str]
) -> None:
    config = load({"model_list": [entry("g", GPT | given)]})
    (deployment,) = config.groups["g"].deployments
    assert deployment.params == {"model": "openai/gpt-4o", "api_key": "sk-openai-1"} | kept
    assert config.warnings == tuple(f"model_list[0].litellm_params.{line}" for line in lost)


def test_a_word_for_true_drops_what_every_model_does_not_take(load: Callable[..., Config]) -> None:
    for said, means in (("true", True), (1, True), ("false", None), (0, None)):
        config = load({"model_list": [entry("g")], "litellm_settings": {"drop_params": said}})
        assert config.groups["g"].deployments[0].params.get("drop_params") is means


@pytest.mark.parametrize(
    "key",
    [
        *("${OPENAI_API_KEY}", "$OPENAI_API_KEY", "Bearer ${OPENAI_API_KEY}", "{{ openai_key }}", "<your-key>"),
        *(
            "env/OPENAI_API_KEY",
            "os.environ.OPENAI_API_KEY",
            "os.environ['OPENAI_API_KEY']",
            "os.enviro/OPENAI_API_KEY",
        ),
    ],
)
def test_a_placeholder_is_no_key(load: Callable[..., Config], key: str) -> None:
    config = load({"model_list": [entry("g", GPT | {"api_key": key})]})
    (deployment,) = config.groups["g"].deployments
    assert (deployment.unavailable, "api_key" in deployment.params) == (f"api_key {PLACEHOLDER}", False)
    assert config.warnings == (f"model_list[0].litellm_params.api_key: {PLACEHOLDER}",)


@pytest.mark.parametrize(
    "model", ["openai/${MODEL}", "anthropic/os.environ/MODEL", "azure/<your-deployment>", "openai/{{ model }}"]
)
def test_a_placeholder_is_no_model(deploy: Callable[..., Deployment], model: str) -> None:
    params = {"model": model, "api_base": "https://e.example", "api_key": "k"}
    assert deploy(params, {"MODEL": "gpt-4o"}).unavailable == f"model {PLACEHOLDER}"


@pytest.mark.parametrize("value", [5, ["x"]])
@pytest.mark.parametrize("key", ["api_base", "base_url", "api_key"])
def test_an_address_or_a_key_that_is_no_text_makes_that_deployment_unavailable(
    deploy: Callable[..., Deployment], key: str, value: Any
) -> None:
    assert deploy({"model": "openai/gpt-4o", key: value}).unavailable == f"{key} should be text"


def test_notes_on_a_model_that_are_wrong_are_left_out(load: Callable[..., Config]) -> None:
    config = load({"model_list": [entry("g", model_info={"supports_vision": "ja", "max_input_tokens": 8})]})
    (deployment,) = config.groups["g"].deployments
    assert (deployment.context_window, deployment.supports) == (8, {})
    assert config.warnings == (
        "model_list[0].model_info.supports_vision: should be a valid boolean, unable to interpret input; left out",
    )


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "http://localhost:11434"),
        ("0.0.0.0:8080", "http://localhost:8080"),
        ("gpu-1", "http://gpu-1:11434"),
        ("gpu-1:8080", "http://gpu-1:8080"),
        (":8080", "http://localhost:8080"),
        ("http://gpu-1", "http://gpu-1:80"),
        ("https://gpu-1/ollama/", "https://gpu-1:443/ollama"),
        ("http://0.0.0.0:11434", "http://localhost:11434"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("::", "http://localhost:11434"),
        (' "gpu-1" ', "http://gpu-1:11434"),
        ("${OLLAMA_HOST}", "http://localhost:11434"),
    ],
)
def test_ollama_is_where_its_own_variable_says(tmp_path: Path, host: str, address: str) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    config = load_config(None, {**home, "OLLAMA_HOST": host})
    assert config.groups["fast"].deployments[0].params["api_base"] == address
    config = load_config(None, {**home, "OLLAMA_HOST": host, "OLLAMA_BASE_URL": "http://ours:1"})
    assert config.groups["fast"].deployments[0].params["api_base"] == "http://ours:1"
    config = load_config(None, {**home, "OLLAMA_HOST": host, "OLLAMA_API_BASE": "http://litellm:1"})
    assert config.groups["fast"].deployments[0].params["api_base"] == "http://litellm:1"


@pytest.mark.parametrize("host", ["not a host!", "gpu-1:port", "ftp://gpu-1"])
def test_an_ollama_host_that_is_none_is_said(tmp_path: Path, host: str) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    why = load_config(None, {**home, "OLLAMA_HOST": host}).groups["fast"].deployments[0].unavailable
    assert why == "OLLAMA_HOST should be a host, a host with a port, or an http:// address"
    for name in ("OLLAMA_BASE_URL", "OLLAMA_API_BASE"):
        why = load_config(None, {**home, name: host}).groups["fast"].deployments[0].unavailable
        assert why == f"{name} should be an http:// or https:// address with a host"


def test_another_local_model_may_be_named_for_the_built_in_groups(tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    for named in ("llama3.1:8b", " ollama/llama3.1:8b ", "ollama_chat/llama3.1:8b"):
        config = load_config(None, {**home, "KONSTRUCT_OLLAMA_MODEL": named})
        for group in ("local", "fast", "economy", "balanced"):
            assert config.groups[group].deployments[0].model == "ollama/llama3.1:8b"
    for unset in ("", "${KONSTRUCT_OLLAMA_MODEL}"):
        config = load_config(None, {**home, "KONSTRUCT_OLLAMA_MODEL": unset})
        assert config.groups["local"].deployments[0].model == "ollama/qwen3:32b"


# ---- the embedded model

TINY = {"model": "embedded/SmolLM2"}


def test_the_embedded_model_is_free_and_bears_the_name_of_its_file(
    deploy: Callable[..., Deployment], tmp_path: Path
) -> None:
    deployment = deploy(TINY, {"KONSTRUCT_GGUF": str(tmp_path / "Better-1B.gguf")})
    assert deployment.model == "embedded/Better-1B"
    assert (deployment.input_cost, deployment.output_cost, deployment.context_window) == (0.0, 0.0, 8192)
    assert deployment.supports == {"vision": False, "structured_output": True}
    assert deployment.unavailable  # the file does not exist
    assert str(tmp_path) not in deployment.unavailable
    smol = deploy(TINY, {})
    assert smol.model == "embedded/SmolLM2"
    assert smol.supports == {"tools": False, "vision": False, "structured_output": True}  # its template has no tools


def test_the_embedded_model_has_a_group_of_its_own_and_is_nobody_s_fallback(
    faults: Callable[..., tuple[str, ...]],
) -> None:
    weak = '"tiny" is the embedded model, too weak to answer in another\'s name'
    assert faults({
        "model_list": [entry("g"), entry("tiny", TINY), entry("tiny", GPT), entry("h")],
        "router_settings": {
            "fallbacks": [{"g": ["h", "tiny"]}],
            "content_policy_fallbacks": [{"g": ["tiny"]}],
            "default_fallbacks": ["tiny"],
        },
    }) == (
        'model_list[1]: the embedded model needs a group of its own; "tiny" has others',
        f"router_settings.fallbacks[0].g[1]: {weak}",
        f"router_settings.content_policy_fallbacks[0].g[0]: {weak}",
        f"router_settings.default_fallbacks[0]: {weak}",
    )  # fmt: skip


# ---- what is shown


def test_the_public_form_shows_what_is_known_to_be_harmless_and_masks_the_rest(load: Callable[..., Config]) -> None:
    config = load(
        {
            "model_list": [
                entry(
                    "g",
                    {
                        "model": "openai/x",
                        "api_base": f"https://user:{SECRET}@h:8443/v1?key={SECRET}#{SECRET}",
                        "api_key": SECRET,
                        "api_version": "os.environ/V",
                        "order": 1,
                        "num_retries": "1",
                        "extra_headers": {"X": SECRET},
                        "temperature": [SECRET],
                        "custom": 12345,
                        "num_ctx": 8192,
                        "house_switch": True,
                        "aws_session_token": 12345,
                        "input_cost_per_token_above_200k_tokens": 1e-6,
                        "nothing": None,
                    },
                    model_info={"mode": "chat", "id": SECRET, "supports_vision": True, "max_tokens": None},
                ),
                entry("h", {"model": "groq/x", "base_url": "http://user:1/ss@h"}),
                entry("l", {"model": "ollama/x"}),
            ],
            "general_settings": {"master_key": SECRET},
            "konstruct": {"groups": {"g": {"description": "good"}}},
        },
        {"V": SECRET, "GROQ_API_KEY": SECRET},
    )
    assert public_config(config) == {
        "source": 'the config file "config.yaml"',
        "model_list": [
            {
                "model_name": "g",
                "litellm_params": {
                    "model": "openai/x",
                    "api_base": "https://***@h:8443/v1?***",
                    "api_key": "***",
                    "api_version": "os.environ/V",
                    "order": 1,
                    "num_retries": "1",
                    "extra_headers": "***",
                    "temperature": "***",
                    "custom": 12345,
                    "num_ctx": 8192,
                    "house_switch": True,
                    "aws_session_token": "***",
                    "input_cost_per_token_above_200k_tokens": 1e-6,
                },
                "model_info": {"mode": "chat", "id": "***", "supports_vision": True},
            },
            {
                "model_name": "h",
                "litellm_params": {
                    "model": "groq/x",
                    "base_url": "http://user:1/***",
                    "api_key": "os.environ/GROQ_API_KEY",
                },
            },
            {"model_name": "l", "litellm_params": {"model": "ollama/x", "api_base": "os.environ/OLLAMA_BASE_URL"}},
        ],
        "router_settings": {
            "routing_strategy": "latency-based-routing",
            "num_retries": 2,
            "timeout": 120.0,
            "cooldown_time": 30.0,
            "allowed_fails": 2,
            "fallbacks": [],
            "context_window_fallbacks": [],
            "content_policy_fallbacks": [],
        },
        "konstruct": {
            "default_group": "g",
            "default_tenant": "default",
            "timeout_s": 300.0,
            "max_concurrency": 200,
            "max_queue": 1000,
            "max_result_chars": None,
            "parallel_calls": True,
            "max_response_bytes": 64_000_000,
            "max_messages": 20_000,
            "max_parts": 20_000,
            "max_tool_calls": 20_000,
            "max_tools": 2_000,
            "max_values": 500_000,
            "max_request_chars": 32_000_000,
            "threads": {"keep": "memory", "hours": 24.0},
            "allow_unknown": True,
            "pin_tenant": False,
            "tenants": {},
            "budgets": [],
            "budget_fallback": None,
            "models_file": None,
            "min_answer_tokens": 256,
            "ledger_url": "sqlite:////***/ledger.sqlite3",
            "groups": {
                "g": {"description": "good"},
                "h": {"description": "groq/x"},
                "l": {"description": "ollama/x"},
            },
        },
    }
    assert SECRET not in repr(config) + str(config) + repr(config.groups["g"].deployments)
    assert config.groups["g"].deployments[0].params["api_version"] == SECRET


EMBED = {"model_name": "embed", "litellm_params": GPT, "model_info": {"mode": "embedding"}}


def test_a_budget_on_a_group_that_is_passed_over_is_one_on_the_others(load: Callable[..., Config]) -> None:
    budgets = [{"usd": 1, "per": "day", "groups": ["embed", "g"]}]
    config = load({"model_list": [entry("g"), EMBED], "konstruct": {"budgets": budgets}})
    assert [budget.groups for budget in config.budgets] == [("g",)]


@pytest.mark.parametrize(
    ("konstruct", "place"),
    [
        ({"budgets": [{"usd": 1, "per": "day", "groups": ["embed"]}]}, "konstruct.budgets[0].groups"),
        ({"tenants": {"t": {"groups": ["embed"]}}}, "konstruct.tenants.t.groups"),
        ({"budgets": [{"usd": 1, "per": "day", "groups": []}]}, "konstruct.budgets[0].groups"),
    ],
)
def test_groups_without_one_that_can_be_asked_are_a_fault(
    load: Callable[..., Config], konstruct: Mapping[str, Any], place: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load({"model_list": [entry("g"), EMBED], "konstruct": konstruct})
    assert refused.value.faults == (
        f"{place}: should name a group that can be asked; without this key it is all of them",
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@db.example.org:5432/led", "postgresql+psycopg://***@db.example.org:5432/led"),
        ("postgresql://u:hun/ter2@db.example.org/led", "postgresql+psycopg://***@db.example.org/led"),
        ("postgresql://u:hun@ter2@db.example.org/led", "postgresql+psycopg://***@db.example.org/led"),
        ("postgresql://u:hun?ter2@db.example.org/led", "postgresql+psycopg://***"),
        ("postgresql://db.example.org/led?password=hunter2", "postgresql+psycopg://db.example.org/led"),
        ("postgresql://db.example.org/led?password=hun@ter2", "postgresql+psycopg://***"),
        ("sqlite:////home/hunter2/ledger.sqlite3", "sqlite:////***/ledger.sqlite3"),
    ],
)
def test_where_the_ledger_is_is_shown_without_a_secret(load: Callable[..., Config], url: str, shown: str) -> None:
    config = load({"model_list": [entry("g")], "konstruct": {"ledger_url": url}})
    assert public_config(config)["konstruct"]["ledger_url"] == shown
    assert "ter2" not in str(public_config(config))


def test_a_new_password_leads_to_the_same_spool(load: Callable[..., Config]) -> None:
    def spool(url: str) -> Path:
        return load({"model_list": [entry("g")], "konstruct": {"ledger_url": url}}).ledger.spool

    first = spool("postgresql://u:old@h/led")
    assert first == spool("postgresql://u:new@h/led") == spool("postgresql://u:new@h/led?sslmode=require")
    others = ("u:old@h/other", "u:old@i/led", "v:old@h/led", "u:old@h/led?host=/run/a", "u:old@h/led?host=/run/b")
    assert len({first, *(spool(f"postgresql://{other}") for other in others)}) == 1 + len(others)


def test_the_public_form_loads_again_to_the_same_routing(load: Callable[..., Config]) -> None:
    config = load_config(None, {"XDG_CONFIG_HOME": "/nonexistent"} | KEYS)
    again = load({key: value for key, value in public_config(config).items() if key != "source"})
    assert again.groups == config.groups


def test_a_config_cannot_be_changed(load: Callable[..., Config]) -> None:
    config = load({"model_list": [entry("g")]})
    (deployment,) = config.groups["g"].deployments
    for mapping in (config.groups, deployment.params, deployment.supports):
        with pytest.raises(TypeError):
            mapping["x"] = 1  # type: ignore[index]  # that it is refused is the point


# ---- properties: whatever the file holds, a Config or a ConfigError, and never a secret

SECRET_TEXT = st.sampled_from([SECRET, f"os.environ/{SECRET}", f"https://u:{SECRET}@h/?k={SECRET}", f"{SECRET}\n\x7f"])
KEY_WORDS = """
    model_list router_settings litellm_settings konstruct model_name litellm_params model_info model api_base base_url
    api_key order timeout num_retries fallbacks default_fallbacks context_window_fallbacks routing_strategy groups
    description default_group default_tenant timeout_s mode max_tokens weight rpm extra_headers stream a b
    tenants budgets usd per allow_unknown budget_fallback min_answer_tokens ledger_url models_file note
"""
KNOWN_KEYS = st.sampled_from(KEY_WORDS.split())
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["a", "b", "openai/x", "ollama/x", "embedded/x", "os.environ/SECRET", "os.environ/NONE", "chat"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KNOWN_KEYS, inner, max_size=4),
    max_leaves=20,
)
WELL_MADE: dict[str, Any] = {
    "model_list": [
        entry("a", GPT | {"api_base": "https://h/v1", "rpm": 5, "extra_headers": {"x": "y"}}, model_info={"id": "i"}),
        entry("b", CLAUDE | {"order": 1}),
    ],
    "router_settings": {"num_retries": 1, "fallbacks": [{"a": ["b"]}], "routing_strategy": "simple-shuffle"},
    "litellm_settings": {"request_timeout": 3, "default_fallbacks": ["b"]},
    "konstruct": {
        "default_tenant": "t",
        "timeout_s": 3,
        "tenants": {"t": {"groups": ["a"], "budgets": [{"usd": 1, "per": "day"}]}},
        "budgets": [{"usd": 1, "per": "total", "groups": ["b"]}],
        "ledger_url": "postgresql://u:p@h/x",
    },
    "general_settings": {"master_key": "x"},
}  # fmt: skip


def outcome(file: Path, text: bytes, environ: Mapping[str, str]) -> str:
    """All that may be shown of loading this text; fails on any exception but ConfigError."""
    file.write_bytes(text)
    try:
        config = load_config(file, environ)
    except ConfigError as error:
        return f"{error}{error!r}{error.faults}{error.__cause__}{error.__context__}"
    assert config.default_group in config.groups
    public = public_config(config)
    return f"{config}{config!r}{json.dumps(public)}{yaml.safe_dump(public)}{config.warnings}"


def test_an_alias_of_a_group_without_a_sound_entry_is_refused_for_the_entry(faults: Callable[..., Any]) -> None:
    config = {
        "model_list": [entry("g", {"model": ["gpt"]}), entry("h")],
        "router_settings": {"model_group_alias": {"a": "g"}},
    }
    assert [fault.partition(":")[0] for fault in faults(config)] == ["model_list[0].litellm_params.model"]


def test_an_empty_list_of_organizations_is_none(load: Callable[..., Config]) -> None:
    (deployment,) = load({"model_list": [entry("g", {**GPT, "organization": []})]}).groups["g"].deployments
    assert "organization" not in deployment.params


def test_a_credential_whose_name_is_no_text_is_left_out(load: Callable[..., Config]) -> None:
    config = load({"model_list": [entry("g", {**GPT, "litellm_credential_name": ["mine"]})]})
    assert config.warnings == (
        "model_list[0].litellm_params.litellm_credential_name: no such name in credential_list; left out",
    )


def test_a_wildcard_without_a_model_makes_groups_that_cannot_be_called(load: Callable[..., Config]) -> None:
    config = load({"model_list": [entry("g"), entry("openai/*", {"api_key": "k"})]})
    made = config.matching("openai/gpt-4o")
    assert made is not None
    assert [deployment.unavailable for deployment in made.deployments] == ["its litellm_params have no model"]


# Half of the default: each example reads a file with PyYAML's own parser, which is slow.
FILES = settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


@FILES
@given(text=st.binary(max_size=60) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_load_or_are_refused(tmp_path: Path, text: bytes) -> None:
    outcome(tmp_path / "config.yaml", text, {})


@FILES
@given(text=st.text(alphabet=st.sampled_from("ab:- \n[]{}&*!<>?|#%@'\"\\,=0.xU"), max_size=60))
def test_any_punctuation_loads_or_is_refused(tmp_path: Path, text: str) -> None:
    outcome(tmp_path / "config.yaml", text.encode(), {})


@FILES
@given(content=st.dictionaries(KNOWN_KEYS, VALUES, max_size=6))
def test_any_data_loads_or_is_refused_and_shows_nothing_of_the_environment(tmp_path: Path, content: Any) -> None:
    text = yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")
    shown = outcome(tmp_path / "config.yaml", text, {"SECRET": SECRET, "OPENAI_API_KEY": SECRET})
    assert SECRET not in shown or "os.environ/SECRET" in text.decode(
        "utf-8", "surrogatepass"
    )  # a model's name is shown


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, item in items for leaf in leaves(item, (*path, key))]
    return [path]


# Places whose values are names, and meant to be shown.
NAMES = {"model_name", "model", "fallbacks", "default_fallbacks", "default_tenant", "order", "groups"}


@FILES
@given(
    place=st.sampled_from([path for path in leaves(WELL_MADE) if not NAMES & set(path)]),
    secret=SECRET_TEXT,
    wrapped=st.sampled_from([lambda s: s, lambda s: [s], lambda s: {"k": s}]),
    broken=st.booleans(),
)
def test_a_secret_in_any_wrong_place_is_never_shown(
    tmp_path: Path, place: tuple[Any, ...], secret: str, wrapped: Callable[[str], Any], broken: bool
) -> None:
    content = deepcopy(WELL_MADE)
    at: Any = content
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = wrapped(secret)
    if broken:
        content["konstruct"]["unknown"] = 1
    text = yaml.safe_dump(content).encode()
    assert SECRET not in outcome(tmp_path / "config.yaml", text, KEYS)


@FILES
@given(data=st.data())
def test_a_secret_in_a_file_cut_short_is_never_shown(tmp_path: Path, data: st.DataObject) -> None:
    content = deepcopy(WELL_MADE)
    content["model_list"][0]["litellm_params"]["api_key"] = SECRET
    text = yaml.safe_dump(content, default_flow_style=data.draw(st.booleans()))
    position = data.draw(st.integers(0, len(text)))
    text = text[:position] + data.draw(st.text(alphabet="*&!'\"[]{}:,\n\t %@`", max_size=3)) + text[position:]
    text = text[: data.draw(st.integers(position, len(text)))]
    shown = outcome(tmp_path / "config.yaml", text.encode(), KEYS)
    assert SECRET not in shown


def test_the_tenant_of_the_environment_is_the_default_tenant(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    models = "model_list: [{model_name: a, litellm_params: {model: ollama/x}}]"
    path.write_text(f"{models}\nkonstruct: {{default_tenant: b}}\n")
    assert load_config(path, {}).default_tenant == "b"
    assert load_config(path, {"KONSTRUCT_TENANT_ID": " acme "}).default_tenant == "acme"
    with pytest.raises(ConfigError, match=r"KONSTRUCT_TENANT_ID: should be 1 to 128 letters") as caught:
        load_config(path, {"KONSTRUCT_TENANT_ID": "not one\n"})
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    "value", ["${OPENAI_API_KEY}", "${OPENAI_API_KEY:-}", "$OPENAI_API_KEY", "%OPENAI_API_KEY%", " "]
)
def test_a_reference_that_a_client_did_not_expand_is_no_key(deploy: Callable[..., Deployment], value: str) -> None:
    params = {"model": "openai/gpt-4o", "api_key": "os.environ/OPENAI_API_KEY"}
    assert deploy(params, {"OPENAI_API_KEY": value}).unavailable == "OPENAI_API_KEY is not set"


def test_a_host_that_is_no_name_is_no_address(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy({"model": "openai/x", "api_base": "http://a..b/v1", "api_key": "k"})
    assert deployment.unavailable == f"api_base {ADDRESS}"


def test_a_fallback_for_every_group_is_a_default_fallback(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    names = ", ".join(f"{{model_name: {name}, litellm_params: {{model: ollama/{name}}}}}" for name in "abc")
    path.write_text(f'model_list: [{names}]\nrouter_settings: {{fallbacks: [{{"*": [c]}}, {{a: [b]}}]}}\n')
    config = load_config(path, {})
    assert {name: group.fallbacks for name, group in config.groups.items()} == {"a": ("b",), "b": ("c",), "c": ()}


def test_a_token_in_the_path_of_an_address_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    address = "https://gateway.example/v1/tok-SECRET/openai"
    path.write_text(f"model_list: [{{model_name: a, litellm_params: {{model: ollama/x, api_base: {address}}}}}]\n")
    assert "SECRET" not in str(public_config(load_config(path, {})))
