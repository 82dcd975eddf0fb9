"""A LiteLLM config loads unchanged, and means the same: forty files in the shapes that people write, and what they
come to when they are called."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import litellm
import pytest
import yaml
from mcp import Client
from support.commands import run
from support.databases import sqlite
from support.default_groups import HELLO, KEYS, entry, write
from support.providers import Provider, Status, Text

from konstruct_mcp import AllFailedError, BudgetExceededError, InvalidArgumentError, Konstruct, UnknownGroupError
from konstruct_mcp.config.litellm_keys import KNOWN_LITELLM_SETTINGS, KNOWN_PARAMS, KNOWN_ROUTER_SETTINGS, meant
from konstruct_mcp.config.model import Config
from konstruct_mcp.config.public import public_config
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.core.errors import ConfigError
from konstruct_mcp.protocol.server import KonstructServer

ENVIRON = {"OPENAI_API_KEY": "sk-openai", "ANTHROPIC_API_KEY": "sk-ant", "GROQ_API_KEY": "gsk"}
GPT = {"model": "openai/gpt-4o", "api_key": "os.environ/OPENAI_API_KEY"}


UNKNOWN_STRATEGY = (
    "router_settings.routing_strategy: is not known here, as are latency-based-routing, simple-shuffle, least-busy, "
    "usage-based-routing, usage-based-routing-v2, cost-based-routing; latency-based-routing is used"
)


@dataclass(frozen=True)
class Case:
    """A file, and what it must mean: its listed groups and the models behind each (`-` before one that cannot be
    called), how each warning begins, and fields of the config or of the first deployment of a group."""

    what: str
    text: str
    groups: Mapping[str, list[str]]
    warnings: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: ENVIRON)
    fields: Mapping[str, Any] = field(default_factory=dict)


CASES = [
    Case(
        "one model of one provider",
        """
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY}
""",
        {"gpt-4o": ["openai/gpt-4o"]},
    ),
    Case(
        "names without a provider, drop_params for all",
        """
model_list:
  - {model_name: gpt, litellm_params: {model: gpt-4o-mini}}
  - {model_name: claude, litellm_params: {model: claude-sonnet-4-6, drop_params: false}}
litellm_settings: {drop_params: true}
""",
        {"gpt": ["openai/gpt-4o-mini"], "claude": ["anthropic/claude-sonnet-4-6"]},
        fields={"gpt.params.drop_params": True, "claude.params.drop_params": False},
    ),
    Case(
        "mutual fallbacks",
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o}}
  - {model_name: b, litellm_params: {model: anthropic/claude-sonnet-4-6}}
router_settings: {fallbacks: [{a: [b]}, {b: [a]}]}
""",
        {"a": ["openai/gpt-4o"], "b": ["anthropic/claude-sonnet-4-6"]},
        fields={"a.fallbacks": ("b",), "b.fallbacks": ("a",)},
    ),
    Case(
        "a group that is its own fallback",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]
litellm_settings: {fallbacks: [{a: [a]}], context_window_fallbacks: [{a: [a]}]}
""",
        {"a": ["openai/gpt-4o"]},
        fields={"a.fallbacks": (), "a.context_window_fallbacks": ()},
    ),
    Case(
        "a ring of three",
        """
model_list:
  - {model_name: a, litellm_params: {model: groq/llama-3.3-70b-versatile}}
  - {model_name: b, litellm_params: {model: openai/gpt-4o}}
  - {model_name: c, litellm_params: {model: openai/gpt-4o-mini}}
litellm_settings:
  fallbacks:
    - a: [b]
    - b: [c]
    - c: [a]
""",
        {"a": ["groq/llama-3.3-70b-versatile"], "b": ["openai/gpt-4o"], "c": ["openai/gpt-4o-mini"]},
        fields={"c.fallbacks": ("a",)},
    ),
    Case(
        "fallback to a group that is gone",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]
router_settings:
  fallbacks: [{a: [old-model]}]
""",
        {"a": ["openai/gpt-4o"]},
        ('router_settings.fallbacks[0].a[0]: no group "old-model"; groups: a; left out',),
    ),
    Case(
        "a string as the target",
        """
model_list:
  - {model_name: main, litellm_params: {model: openai/gpt-4o}}
  - {model_name: spare, litellm_params: {model: openai/gpt-4o-mini}}
router_settings: {fallbacks: [{main: spare}]}
""",
        {"main": ["openai/gpt-4o"], "spare": ["openai/gpt-4o-mini"]},
        ("router_settings.fallbacks[0].main: is read as a list of one",),
        fields={"main.fallbacks": ("spare",)},
    ),
    *(
        Case(
            f"the strategy {strategy}",
            f"""
model_list:
  - {{model_name: a, litellm_params: {{model: openai/gpt-4o, rpm: 100, tpm: 10000}}}}
  - {{model_name: a, litellm_params: {{model: groq/llama-3.3-70b-versatile, rpm: 30}}}}
router_settings: {{routing_strategy: {strategy}, enable_pre_call_checks: true}}
""",
            {"a": ["openai/gpt-4o", "groq/llama-3.3-70b-versatile"]},
            fields={"config.routing_strategy": strategy},
        )
        for strategy in ("least-busy", "usage-based-routing-v2", "cost-based-routing")
    ),
    Case(
        "a strategy that nobody knows",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]
router_settings: {routing_strategy: priority-based-routing}
""",
        {"a": ["openai/gpt-4o"]},
        (UNKNOWN_STRATEGY,),
        fields={"config.routing_strategy": "latency-based-routing"},
    ),
    Case(
        "the same entry twice",
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o}}
  - {model_name: a, litellm_params: {model: openai/gpt-4o}}
""",
        {"a": ["openai/gpt-4o"]},
        ("model_list[1]: the same as model_list[0]; they count as one, with the weight of all",),
        fields={"a.copies": 2},
    ),
    Case(
        "a YAML key twice",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]
general_settings: {master_key: sk-1}
general_settings: {master_key: sk-2}
""",
        {"a": ["openai/gpt-4o"]},
        ('line 4, column 1: the key "general_settings" is there twice', "no effect here: general_settings"),
    ),
    Case(
        "a weight of nothing, prices per million, retries of the client",
        """
model_list:
  - model_name: a
    litellm_params: {model: openai/gpt-4o, weight: 0, max_retries: 5, input_cost_per_token: 2.5}
""",
        {"a": ["openai/gpt-4o"]},
        ("model_list[0].litellm_params.input_cost_per_token: is more than a dollar for each token",),
        fields={"a.weight": 0.0, "a.num_retries": 5, "a.input_cost": 2.5},
    ),
    Case(
        "both kinds of retries",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o, num_retries: 1, max_retries: 5}}]
""",
        {"a": ["openai/gpt-4o"]},
        ("model_list[0].litellm_params.max_retries: is num_retries by another name, which counts",),
        fields={"a.num_retries": 1},
    ),
    Case(
        "aliases, one of them hidden",
        """
model_list: [{model_name: claude, litellm_params: {model: anthropic/claude-sonnet-4-6}}]
router_settings:
  model_group_alias:
    gpt-4: claude
    claude-3-haiku: {model: claude, hidden: true}
    lost: {model: nothing}
""",
        {"claude": ["anthropic/claude-sonnet-4-6"], "gpt-4": ["anthropic/claude-sonnet-4-6"]},
        ('router_settings.model_group_alias.lost: no group "nothing"; groups: claude; left out',),
    ),
    Case(
        "an alias in a list, which LiteLLM does not know",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]
router_settings: {model_group_alias: {both: [a, b]}}
""",
        {"a": ["openai/gpt-4o"]},
        ("router_settings.model_group_alias.both: should name a group; left out",),
    ),
    Case(
        "variables in the file",
        """
environment_variables: {OPENAI_API_KEY: sk-from-file, REDIS_HOST: redis, GROQ_API_KEY: os.environ/OTHER_KEY}
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o}}
  - {model_name: b, litellm_params: {model: groq/llama-3.3-70b-versatile, api_key: os.environ/GROQ_API_KEY}}
""",
        {"a": ["openai/gpt-4o"], "b": ["groq/llama-3.3-70b-versatile"]},
        environ={"OPENAI_API_KEY": "sk-of-the-process", "OTHER_KEY": "gsk-other"},
        fields={
            "a.params.api_key": "sk-from-file",
            "b.params.api_key": "gsk-other",
            "config.variables": {"REDIS_HOST": "redis"},
        },
    ),
    Case(
        "credentials by name",
        """
credential_list:
  - credential_name: eu
    credential_values: {api_key: os.environ/AZURE_EU, api_base: "https://eu.example.com", api_version: 2024-10-21}
    credential_info: {description: production}
model_list:
  - {model_name: a, litellm_params: {model: azure/gpt-4o, litellm_credential_name: eu}}
  - {model_name: b, litellm_params: {model: openai/gpt-4o, litellm_credential_name: none}}
""",
        {"a": ["azure/gpt-4o"], "b": ["openai/gpt-4o"]},
        ("model_list[1].litellm_params.litellm_credential_name: no such name in credential_list; left out",),
        environ=ENVIRON | {"AZURE_EU": "az-1"},
        fields={
            "a.params.api_key": "az-1",
            "a.params.api_base": "https://eu.example.com",
            "a.params.api_version": "2024-10-21",
        },
    ),
    Case(
        "references anywhere",
        """
model_list:
  - {model_name: os.environ/GROUP, litellm_params: {model: os.environ/MODEL, rpm: os.environ/RPM}}
router_settings: {num_retries: os.environ/RETRIES, timeout: os.environ/PATIENCE, allowed_fails: os.environ/NOT_SET}
konstruct: {default_group: os.environ/GROUP}
""",
        {"house": ["openai/gpt-4o"]},
        ("router_settings.allowed_fails: NOT_SET is not set; left out",),
        environ=ENVIRON | {"GROUP": "house", "MODEL": "gpt-4o", "RPM": "7", "RETRIES": "4", "PATIENCE": "33"},
        fields={"house.rpm": 7, "house.num_retries": 4, "house.timeout_s": 33.0, "config.default_group": "house"},
    ),
    Case(
        "optional references that are not set, and one that is needed",
        """
model_list:
  - model_name: a
    litellm_params: {model: openai/gpt-4o, organization: os.environ/ORG, timeout: os.environ/T}
  - {model_name: b, litellm_params: {model: openai/gpt-4o, api_key: os.environ/SECOND_KEY}}
  - {model_name: c, litellm_params: {model: openai/house, api_base: os.environ/HOUSE}}
""",
        {"a": ["openai/gpt-4o"], "b": ["-openai/gpt-4o"], "c": ["-openai/house"]},
        (
            "model_list[0].litellm_params.organization: ORG is not set; left out",
            "model_list[0].litellm_params.timeout: T is not set; left out",
        ),
        fields={"b.unavailable": "SECOND_KEY is not set", "c.unavailable": "HOUSE is not set"},
    ),
    Case(
        "one address and one key for all, and Google's project",
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/house-model}}
  - {model_name: b, litellm_params: {model: openai/other, api_base: "http://other.example/v1", api_key: k}}
  - {model_name: c, litellm_params: {model: groq/llama-3.3-70b-versatile}}
  - {model_name: d, litellm_params: {model: vertex_ai/gemini-2.5-pro, vertex_credentials: os.environ/ACCOUNT}}
litellm_settings:
  api_base: http://gateway.example/v1
  api_key: os.environ/GATEWAY_KEY
  vertex_project: ours
  vertex_location: europe-west1
""",
        {
            "a": ["openai/house-model"],
            "b": ["openai/other"],
            "c": ["groq/llama-3.3-70b-versatile"],
            "d": ["vertex_ai/gemini-2.5-pro"],
        },
        environ=ENVIRON | {"GATEWAY_KEY": "key-of-it", "ACCOUNT": '{"type": "service_account"}'},
        fields={
            "a.params.api_base": "http://gateway.example/v1",
            "a.params.api_key": "key-of-it",
            "b.params.api_base": "http://other.example/v1",
            "b.params.api_key": "k",
            "c.params.api_key": "gsk",
            "d.params.vertex_project": "ours",
            "d.params.vertex_location": "europe-west1",
        },
    ),
    Case(
        "a provider's key among the settings",
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o}}
  - {model_name: b, litellm_params: {model: anthropic/claude-sonnet-4-6}}
litellm_settings: {openai_key: os.environ/TEAM_KEY}
""",
        {"a": ["openai/gpt-4o"], "b": ["anthropic/claude-sonnet-4-6"]},
        environ=ENVIRON | {"TEAM_KEY": "team"},
        fields={"a.params.api_key": "team", "b.params.api_key": "sk-ant"},
    ),
    Case(
        "a provider's wildcard beside a group",
        """
model_list:
  - {model_name: main, litellm_params: {model: openai/gpt-4o}}
  - {model_name: "anthropic/*", litellm_params: {model: "anthropic/*"}}
""",
        {"main": ["openai/gpt-4o"]},
        fields={"config.default_group": "main", "patterns": ["anthropic/*"]},
    ),
    Case(
        "nothing but a wildcard for all there is",
        """
model_list: [{model_name: "*", litellm_params: {model: "*"}}]
litellm_settings: {drop_params: true}
""",
        {},
        fields={"config.default_group": "", "patterns": ["*"]},
    ),
    Case(
        "a wildcard as a fallback and as the default",
        """
model_list:
  - {model_name: main, litellm_params: {model: anthropic/claude-sonnet-4-6}}
  - {model_name: "openai/*", litellm_params: {model: "openai/*"}}
router_settings: {fallbacks: [{main: [openai/gpt-4o-mini]}]}
konstruct: {default_group: openai/gpt-4o}
""",
        {"main": ["anthropic/claude-sonnet-4-6"]},
        fields={"main.fallbacks": ("openai/gpt-4o-mini",), "config.default_group": "openai/gpt-4o"},
    ),
    Case(
        "models that do not chat, first",
        """
model_list:
  - {model_name: embed, litellm_params: {model: openai/text-embedding-3-small}}
  - {model_name: paint, litellm_params: {model: openai/dall-e-3}}
  - {model_name: hear, litellm_params: {model: openai/whisper-1}}
  - {model_name: speak, litellm_params: {model: openai/tts-1}}
  - {model_name: rank, litellm_params: {model: cohere/rerank-english-v3.0}}
  - {model_name: house, litellm_params: {model: openai/bge, api_base: "http://h/v1"}, model_info: {mode: embedding}}
  - {model_name: own, litellm_params: {model: "ollama/nomic-embed-text:latest"}}
  - {model_name: own2, litellm_params: {model: openai/Qwen/Qwen3-Embedding-4B, api_base: "http://h/v1"}}
  - {model_name: chat, litellm_params: {model: openai/gpt-4o}}
router_settings: {fallbacks: [{embed: [chat]}]}
konstruct: {groups: {own: {description: for search}}}
""",
        {"chat": ["openai/gpt-4o"]},
        (
            "no effect here: 8 entries of model_list (not a chat model), router_settings.fallbacks[0].embed, "
            "konstruct.groups.own",
        ),
        fields={"config.default_group": "chat"},
    ),
    Case(
        "spending limits of the proxy",
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o, max_budget: 5, budget_duration: 1d}}
  - {model_name: b, litellm_params: {model: anthropic/claude-sonnet-4-6}}
litellm_settings: {max_budget: 100, budget_duration: 30d}
router_settings: {provider_budget_config: {anthropic: {budget_limit: 20.5, time_period: 7d}}}
""",
        {"a": ["openai/gpt-4o"], "b": ["anthropic/claude-sonnet-4-6"]},
        (
            "nobody holds this spending limit here: litellm_settings.max_budget, "
            "router_settings.provider_budget_config.anthropic, model_list[0].litellm_params.max_budget; what would, "
            "for each tenant, is konstruct.budgets: [{usd: 100, per: month}, {usd: 20.5, per: month, groups: [b]}, "
            "{usd: 5, per: day, groups: [a]}]",
        ),
    ),
    Case(
        "a spending limit that a budget holds",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]
litellm_settings: {max_budget: 100, budget_duration: 30d}
konstruct: {budgets: [{usd: 100, per: month}]}
""",
        {"a": ["openai/gpt-4o"]},
    ),
    Case(
        "time-outs that outlast a call",
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o, timeout: 600, stream_timeout: 900}}
  - {model_name: b, litellm_params: {model: openai/gpt-4o-mini, stream_timeout: 900}}
litellm_settings: {request_timeout: 6000}
""",
        {"a": ["openai/gpt-4o"], "b": ["openai/gpt-4o-mini"]},
        (
            "longer than konstruct.timeout_s (300 s), which ends the whole call: litellm_settings.request_timeout, "
            "model_list[0].litellm_params.timeout",
            "no effect here: litellm_params.stream_timeout of 2 entries of model_list",
        ),
        fields={"a.timeout_s": 600.0, "b.timeout_s": 6000.0},
    ),
    Case(
        "what only the proxy does",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]
litellm_settings:
  set_verbose: false
  success_callback: [langfuse]
  cache: true
router_settings: {redis_host: os.environ/REDIS_HOST, redis_port: 6379}
general_settings: {master_key: os.environ/MASTER_KEY, database_url: os.environ/DATABASE_URL}
guardrails: []
mcp_servers: {docs: {url: "https://docs.example/mcp"}}
""",
        {"a": ["openai/gpt-4o"]},
        (
            "router_settings.redis_host: REDIS_HOST is not set; left out",
            "no effect here: general_settings, mcp_servers, litellm_settings.success_callback, litellm_settings.cache",
        ),
    ),
    Case(
        "what is beside a limit has no effect either",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]
general_settings:
  master_key: os.environ/MASTER_KEY
  max_budget: 5
  budget_duration: 30d
  store_model_in_db: false
  default_team: {max_budget: 3, alerting: [slack]}
""",
        {"a": ["openai/gpt-4o"]},
        (
            "nobody holds this spending limit here: general_settings.max_budget, "
            "general_settings.default_team.max_budget;",
            "no effect here: general_settings.master_key, general_settings.default_team.alerting",
        ),
    ),
    Case(
        "a section of the proxy's that is misspelt",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]
general_setings: {master_key: os.environ/MASTER_KEY}
""",
        {"a": ["openai/gpt-4o"]},
        ("general_setings: unknown section; did you mean general_settings? It has no effect here either",),
    ),
    Case(
        "keys that are misspelt, and a provider's own",
        """
model_list:
  - model_name: a
    litellm_params: {model: openai/gpt-4o, oder: 1, max_parallel_request: 3, repetition_penalty: 1.1, house_flag: 1}
router_settings: {num_retrys: 3}
""",
        {"a": ["openai/gpt-4o"]},
        (
            "router_settings.num_retrys: unknown key; did you mean num_retries?",
            "model_list[0].litellm_params.oder: unknown key, which is not sent; did you mean order?",
            "model_list[0].litellm_params.max_parallel_request: unknown key, which is not sent; did you mean max_par",
        ),
        fields={"a.params.repetition_penalty": 1.1, "a.params.house_flag": 1},
    ),
    Case(
        "an address that is misspelt never sends a key elsewhere",
        """
model_list: [{model_name: a, litellm_params: {model: openai/house, api_key: k, ap_base: "http://house.example/v1"}}]
""",
        {"a": ["-openai/house"]},
        ("model_list[0].litellm_params.ap_base: unknown key, which is not sent; did you mean api_base?",),
        fields={"a.unavailable": "ap_base is no key of LiteLLM's; did you mean api_base?"},
    ),
    Case(
        "placeholders that nobody has filled in",
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/house, api_base: "<your-endpoint>", api_key: "<your-key>"}}
  - {model_name: b, litellm_params: {model: openai/gpt-4o}}
""",
        {"a": ["-openai/house"], "b": ["openai/gpt-4o"]},
        ("model_list[0].litellm_params.api_key: has a placeholder, which nobody fills in here; a variable is os.env",),
        fields={
            "a.unavailable": "api_base should be an http:// or https:// address with a host; api_key has a "
            "placeholder, which nobody fills in here; a variable is os.environ/NAME by itself"
        },
    ),
    Case(
        "entries for some environments",
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o-mini}, model_info: {supported_environments: [development]}}
  - {model_name: a, litellm_params: {model: openai/gpt-4o}, model_info: {supported_environments: [production, staging]}}
  - {model_name: b, litellm_params: {model: openai/gpt-4o}, model_info: {supported_environments: [production]}}
  - {model_name: "groq/*", litellm_params: {model: "groq/*"}, model_info: {supported_environments: [production]}}
""",
        {"a": ["openai/gpt-4o-mini"]},
        environ=ENVIRON | {"LITELLM_ENVIRONMENT": "development"},
        fields={"patterns": []},
    ),
    Case(
        "entries for some environments where nobody says rightly which one this is",
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o}, model_info: {supported_environments: [production]}}
  - {model_name: b, litellm_params: {model: openai/gpt-4o}}
""",
        {"a": ["-openai/gpt-4o"], "b": ["openai/gpt-4o"]},
        environ=ENVIRON | {"LITELLM_ENVIRONMENT": "qa-7"},
        fields={"a.unavailable": "LITELLM_ENVIRONMENT says none of development, staging, production; it is for some"},
    ),
    Case(
        "what turns nothing on, a mode of one's own, fallbacks in a mapping, a list where a switch belongs",
        """
model_list:
  - model_name: a
    litellm_params: {model: openai/house, api_key: k, stream: false, tags: [], drop_params: [tool_choice], mode: chat}
    model_info: {mode: orchestration}
    guardrails: []
  - {model_name: b, litellm_params: {model: openai/gpt-4o}}
router_settings: {fallbacks: {a: [b]}}
litellm_settings: {drop_params: true}
""",
        {"a": ["openai/house"], "b": ["openai/gpt-4o"]},
        (
            "model_list[0].litellm_params.drop_params: should be true or false; a list is additional_drop_params",
            "no effect here: model_list[0].litellm_params.mode",
        ),
        fields={"a.fallbacks": ("b",), "a.params.drop_params": True},
    ),
    Case(
        "fallbacks by a name without its provider, and by one that is no provider's",
        """
model_list:
  - {model_name: chat, litellm_params: {model: openai/gpt-4o}}
  - {model_name: groq/chat, litellm_params: {model: groq/llama-3.3-70b-versatile}}
  - {model_name: team/chat, litellm_params: {model: openai/gpt-4o-mini}}
  - {model_name: spare, litellm_params: {model: anthropic/claude-sonnet-4-6}}
router_settings: {fallbacks: [{chat: [spare]}]}
""",
        {
            "chat": ["openai/gpt-4o"],
            "groq/chat": ["groq/llama-3.3-70b-versatile"],
            "team/chat": ["openai/gpt-4o-mini"],
            "spare": ["anthropic/claude-sonnet-4-6"],
        },
        fields={"chat.fallbacks": ("spare",), "groq/chat.fallbacks": ("spare",), "team/chat.fallbacks": ()},
    ),
    Case(
        "names with blanks and emoji of many parts, prices by the second, a limit by reference, and one that is none",
        """
model_list:
  - model_name: "\U0001f469\u200d\U0001f4bb\u3000code"
    litellm_params: {model: openai/gpt-4o}
    model_info: {input_cost_per_second: 0.01, output_cost_per_token: 0.00001}
router_settings: {model_group_alias: {"\u4e00\u00a0\u4e8c": "\U0001f469\u200d\U0001f4bb\u3000code"}}
litellm_settings: {max_budget: os.environ/MOST, budget_duration: 30d, soft_budget: 5}
""",
        {"\U0001f469\u200d\U0001f4bb\u3000code": ["openai/gpt-4o"], "\u4e00\u00a0\u4e8c": ["openai/gpt-4o"]},
        (
            "nobody holds this spending limit here: litellm_settings.max_budget; what would, for each tenant, is kons",
            "no effect here: litellm_settings.soft_budget, model_list[0].model_info.input_cost_per_second",
        ),
        environ=ENVIRON | {"MOST": "4711"},
    ),
    Case(
        "several organizations",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o, organization: [org-1, org-2]}}]
""",
        {"a": ["openai/gpt-4o", "openai/gpt-4o#2"]},
        fields={"a.params.organization": "org-1"},
    ),
    Case(
        "limits beside the params, and for all",
        """
model_list:
  - {model_name: a, rpm: 5, tpm: 100, litellm_params: {model: openai/gpt-4o}}
  - {model_name: b, litellm_params: {model: openai/gpt-4o-mini, max_parallel_requests: 2}}
router_settings: {default_max_parallel_requests: 9, default_litellm_params: {temperature: 0.2}}
""",
        {"a": ["openai/gpt-4o"], "b": ["openai/gpt-4o-mini"]},
        fields={
            "a.rpm": 5,
            "a.tpm": 100,
            "a.max_parallel_requests": 9,
            "b.max_parallel_requests": 2,
            "a.params.temperature": 0.2,
        },
    ),
    Case(
        "tenants without the one that is meant where none is named",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]
konstruct: {tenants: {acme: {}}}
""",
        {"a": ["openai/gpt-4o"]},
        ('konstruct.tenants: there is no "default", so a call without a tenant_id is refused',),
    ),
    Case(
        "anchors, dates, an Ollama at home",
        """
x-common: &common {api_version: 2024-06-01, timeout: 30}
model_list:
  - {model_name: a, litellm_params: {<<: *common, model: azure/gpt-4o, api_key: k, api_base: "https://e.example"}}
  - {model_name: home, litellm_params: {model: ollama_chat/qwen3, api_base: "http://localhost:11434", num_ctx: 8192}}
""",
        {"a": ["azure/gpt-4o"], "home": ["ollama/qwen3"]},
        ("no effect here: x-common",),
        fields={"a.params.api_version": "2024-06-01", "a.timeout_s": 30.0, "home.params.num_ctx": 8192},
    ),
    Case(
        "context windows and policies, with a default for the rest",
        """
model_list:
  - {model_name: small, litellm_params: {model: openai/gpt-4o-mini}}
  - {model_name: large, litellm_params: {model: anthropic/claude-sonnet-4-6}}
litellm_settings:
  num_retries: 3
  context_window_fallbacks: [{small: [large]}]
  content_policy_fallbacks: [{large: [small]}]
  default_fallbacks: [large]
  allowed_fails: 5
  cooldown_time: 10
""",
        {"small": ["openai/gpt-4o-mini"], "large": ["anthropic/claude-sonnet-4-6"]},
        fields={
            "small.context_window_fallbacks": ("large",),
            "large.content_policy_fallbacks": ("small",),
            "small.fallbacks": ("large",),
            "large.fallbacks": (),
            "small.cooldown_s": 10.0,
            "config.allowed_fails": 5,
        },
    ),
    Case(
        "empty sections",
        """
model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o, api_base: null, headers: null}, model_info: }]
router_settings:
litellm_settings: {}
general_settings: {}
environment_variables: {}
credential_list: []
""",
        {"a": ["openai/gpt-4o"]},
    ),
]


def found(config: Config, path: str) -> Any:
    if path == "patterns":
        return [wildcard.pattern for wildcard in config.wildcards]
    first, *rest = path.split(".")
    at: Any = config
    if first != "config":
        group = config.groups[first]
        at = group if hasattr(group, rest[0]) else group.deployments[0]
    for step in rest:
        at = at[step] if isinstance(at, Mapping) else getattr(at, step)
    return dict(at) if isinstance(at, Mapping) else at


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_file_in_the_shapes_that_people_write_loads_and_means_the_same(tmp_path: Path, case: Case) -> None:
    file = tmp_path / "litellm.yaml"
    file.write_text(case.text)
    config = load_config(file, case.environ)
    models = {
        name: [f"{'-' if d.unavailable else ''}{d.name}" for d in group.deployments]
        for name, group in config.groups.items()
        if group.is_listed
    }
    assert models == case.groups
    assert len(config.warnings) == len(case.warnings), config.warnings
    for line, beginning in zip(config.warnings, case.warnings, strict=True):
        assert line.startswith(beginning)
    assert {path: found(config, path) for path in case.fields} == dict(case.fields)
    for secret in {*case.environ.values(), "sk-from-file"} - {"house", "gpt-4o", "7", "4", "33"}:
        assert secret not in f"{config!r}{public_config(config)}{config.warnings}"


def test_there_are_forty_of_them() -> None:
    assert len({case.what for case in CASES}) >= 40


def test_every_key_that_litellm_knows_is_known_here() -> None:
    from litellm.constants import OPENAI_CHAT_COMPLETION_PARAMS
    from litellm.router import Router
    from litellm.types.router import LiteLLM_Params, LiteLLMParamsTypedDict
    from litellm.types.utils import all_litellm_params

    known = {*LiteLLM_Params.model_fields, *LiteLLMParamsTypedDict.__annotations__, *all_litellm_params}
    assert {key for key in {*known, *OPENAI_CHAT_COMPLETION_PARAMS} if meant(key) is not None} == set()
    assert set(Router.get_valid_args()) - KNOWN_ROUTER_SETTINGS - {"kwargs", "self"} == set()
    theirs = {name for name in vars(litellm) if name.islower() and not callable(getattr(litellm, name))}
    assert len(theirs) > 200
    assert {name for name in theirs if meant(name, KNOWN_LITELLM_SETTINGS) is not None} == set()


def test_known_keys_without_effect_are_one_short_line(tmp_path: Path) -> None:
    known = (
        "callbacks",
        "json_logs",
        "redact_user_api_key_info",
        "default_team_settings",
        "service_callback",
    )
    settings = {**{key: ["x"] for key in known}, "drop_parms": True, "house_flag": 1}
    config = load_config(
        write(tmp_path, {"model_list": [entry("g", GPT)], "litellm_settings": settings}), {"HOME": str(tmp_path)}
    )
    slip, idle = config.warnings
    assert slip == "litellm_settings.drop_parms: unknown key; did you mean drop_params?"
    assert idle == "no effect here: " + ", ".join(f"litellm_settings.{key}" for key in sorted((*known, "house_flag")))


def test_each_key_that_is_read_is_a_known_one(tmp_path: Path) -> None:
    for section, known in (("litellm_settings", KNOWN_LITELLM_SETTINGS), ("router_settings", KNOWN_ROUTER_SETTINGS)):
        for key in known:
            settings = {section: {key: None}}
            config = load_config(
                write(tmp_path, {"model_list": [entry("g", GPT)], **settings}), {"HOME": str(tmp_path)}
            )
            assert config.warnings == (), key


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("oder", "order"),
        ("ap_base", "api_base"),
        ("apikey", "api_key"),
        ("API_KEY", "api_key"),
        ("api-version", "api_version"),
        ("wieght", "weight"),
        ("max_parallel_request", "max_parallel_requests"),
        ("temprature", "temperature"),
        ("house_flag", None),
        ("safety_mode", None),
        ("top_k", None),
        ("rpn", None),
    ],
)
def test_a_slip_is_told_from_a_key_that_a_provider_may_know(written: str, key: str | None) -> None:
    assert meant(written) == key
    assert key is None or key in KNOWN_PARAMS


# ---- what they come to when they are called


def opened(tmp_path: Path, config: Mapping[str, Any], environ: Mapping[str, str] = KEYS) -> Konstruct:
    file = tmp_path / "litellm.yaml"
    file.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    environ = {"KONSTRUCT_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite3'}", **environ}
    return Konstruct.from_config(file, environ=environ)


def at(provider: Provider, model: str = "openai/gpt-4o", **more: Any) -> dict[str, Any]:
    return {"model": model, "api_base": provider.url, "api_key": "k", **more}


async def test_mutual_fallbacks_ask_each_group_once(tmp_path: Path, openai: Provider) -> None:
    openai.script(*[Status(500)] * 10)
    config = {
        "model_list": [entry(name, at(openai, f"openai/{name}", num_retries=0)) for name in "abc"],
        "router_settings": {"fallbacks": [{"a": ["b"]}, {"b": ["c", "a"]}, {"c": ["a", "c"]}]},
    }
    async with opened(tmp_path, config) as konstruct:
        with pytest.raises(AllFailedError):
            await konstruct.complete(HELLO, model_group="a")
    assert [request.body["model"] for request in openai.requests] == ["a", "b", "c"]


async def test_a_call_by_an_alias_is_answered_in_its_name_and_budgets_hold_for_it(
    tmp_path: Path, openai: Provider
) -> None:
    prices: dict[str, Any] = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.001}
    config = {
        "model_list": [entry("house", at(openai, **prices))],
        "router_settings": {"model_group_alias": {"gpt-4": "house", "old": {"model": "house", "hidden": True}}},
        "konstruct": {"budgets": [{"usd": 0.01, "per": "day", "groups": ["house"]}]},
    }
    async with opened(tmp_path, config) as konstruct:
        assert [group.name for group in konstruct.groups()] == ["house", "gpt-4"]
        with pytest.raises(BudgetExceededError):
            await konstruct.complete(HELLO, model_group="old", max_tokens=100)
    del config["konstruct"]
    async with opened(tmp_path, config) as konstruct:
        for name in ("gpt-4", "old"):
            completion = await konstruct.complete(HELLO, model_group=name)
            assert (completion.model_group, completion.served_group) == (name, name)
            assert completion.model == "openai/gpt-4o"


async def test_a_name_that_a_wildcard_matches_is_asked_for_and_priced(tmp_path: Path, openai: Provider) -> None:
    config = {
        "model_list": [
            entry("house", at(openai, "openai/house")),
            entry("openai/*", at(openai, "openai/*")),
            entry("team-*", at(openai, "openai/ft-*", order=2)),
            entry("openai/gpt-4o-*", at(openai, "openai/gpt-4o-*", temperature=0.5)),
        ],
        "router_settings": {"fallbacks": [{"gpt-4o": ["house"]}]},
    }
    async with opened(tmp_path, config) as konstruct:
        completion = await konstruct.complete(HELLO, model_group="openai/gpt-4o")
        assert (completion.model_group, completion.served_group) == ("openai/gpt-4o", "openai/gpt-4o")
        assert completion.model == "openai/gpt-4o"
        assert completion.cost_usd  # by the table
        await konstruct.complete(HELLO, model_group="gpt-4o-mini")  # as LiteLLM does, by its provider
        await konstruct.complete(HELLO, model_group="team-blue")
        assert [group.name for group in konstruct.groups()] == ["house"]
        assert konstruct.patterns == ("openai/*", "team-*", "openai/gpt-4o-*")
        for name in ("openai/text-embedding-3-small", "openai/*", "gemini/x", "x\n", "y" * 129):
            with pytest.raises(
                UnknownGroupError, match=r"groups: house, or a chat model's name that matches openai/\*"
            ):
                await konstruct.complete(HELLO, model_group=name)
        openai.script(*[Status(404)], Text("from behind"))
        fallen = await konstruct.complete(HELLO, model_group="openai/gpt-4o")
        assert (fallen.served_group, fallen.content) == ("house", "from behind")
        assert await konstruct.reload() is False  # what was made on demand is no change of the file
    models = [request.body["model"] for request in openai.requests]
    assert models == ["gpt-4o", "gpt-4o-mini", "ft-blue", "gpt-4o", "house"]
    assert [request.body.get("temperature") for request in openai.requests][:3] == [None, 0.5, None]


async def test_a_wildcard_alone_needs_a_name(tmp_path: Path, openai: Provider) -> None:
    config = {"model_list": [entry("*", at(openai, "openai/*"))]}
    async with opened(tmp_path, config) as konstruct:
        assert (konstruct.groups(), konstruct.default_group) == ([], "")
        with pytest.raises(InvalidArgumentError, match=r"model_group: is needed: a name that matches \*"):
            await konstruct.complete(HELLO)
        await konstruct.complete(HELLO, model_group="anything")
    (request,) = openai.requests
    assert request.body["model"] == "anything"


async def test_a_wildcard_that_goes_while_a_name_of_it_is_set_up_is_none(tmp_path: Path, openai: Provider) -> None:
    database = sqlite(tmp_path)
    house = {"model_list": [entry("house", at(openai))]}
    config = {"model_list": [*house["model_list"], entry("*", at(openai, "openai/*"))]}
    async with opened(tmp_path, config, {**KEYS, "KONSTRUCT_LEDGER_URL": database.url}) as konstruct:
        await konstruct.complete(HELLO)
        (tmp_path / "litellm.yaml").write_text(yaml.safe_dump(house))
        reloading = asyncio.create_task(konstruct.reload())
        await asyncio.sleep(0)  # it has begun
        with pytest.raises(UnknownGroupError, match=r'no group "mine"; groups: house$'):
            await konstruct.complete(HELLO, model_group="mine")
        assert await reloading
    assert [row["group_asked"] for row in database.rows()] == ["house"]
    database.engine.dispose()


async def test_no_more_groups_are_kept_than_can_be_counted(tmp_path: Path, openai: Provider) -> None:
    config = {"model_list": [entry("*", at(openai, "openai/*"))]}
    async with opened(tmp_path, config) as konstruct:
        for number in range(35):
            await konstruct.complete(HELLO, model_group=f"m{number}")
        kept = list(konstruct.config.groups)
    assert kept == [f"m{number}" for number in range(3, 35)]


async def test_a_tenant_uses_the_wildcards_that_are_named_for_it(tmp_path: Path, openai: Provider) -> None:
    config = {
        "model_list": [
            entry("house", at(openai, "openai/house")),
            entry("openai/*", at(openai, "openai/*")),
            entry("groq/*", at(openai, "openai/*")),
        ],
        "router_settings": {"fallbacks": [{"house": ["openai/spare"]}]},
        "konstruct": {
            "tenants": {
                "all": {},
                "one": {"groups": ["house"]},
                "some": {"groups": ["openai/*"]},
                "name": {"groups": ["groq/a"]},
            }
        },
    }
    async with opened(tmp_path, config) as konstruct:
        allowed = {
            "all": ["house", "openai/x", "groq/a", "groq/b", "openai/spare"],
            "one": ["house"],
            "some": ["openai/x", "openai/spare"],
            "name": ["groq/a"],
        }
        for tenant, names in allowed.items():
            for name in allowed["all"]:
                asked = konstruct.complete(HELLO, model_group=name, tenant_id=tenant)
                if name in names:
                    assert (await asked).served_group == name
                else:
                    with pytest.raises(UnknownGroupError):
                        await asked


async def test_misspelt_keys_are_not_sent_and_known_ones_are(tmp_path: Path, openai: Provider) -> None:
    known: dict[str, Any] = {"verbosity": "low", "store": False, "prompt_cache_key": "house", "house_flag": "y"}
    params = at(openai, oder=1, max_parallel_request=3, ap_base="x", **known)
    async with opened(tmp_path, {"model_list": [entry("g", params)]}) as konstruct:
        await konstruct.complete(HELLO)
    (request,) = openai.requests
    assert request.body.items() >= known.items()
    assert {"oder", "max_parallel_request", "ap_base"} & request.body.keys() == set()


async def test_an_included_file_is_followed_and_its_faults_name_it(tmp_path: Path, openai: Provider) -> None:
    models = tmp_path / "more" / "models.yaml"
    models.parent.mkdir()
    models.write_text(yaml.safe_dump({"model_list": [entry("b", at(openai))], "general_settings": {"x": 1}}))
    config = {"include": ["more/models.yaml"], "model_list": [entry("a", at(openai))]}
    async with opened(tmp_path, config) as konstruct:
        assert list(konstruct.config.groups) == ["a", "b"]
        assert konstruct.config.files == (tmp_path / "litellm.yaml", models)
        until = anyio.Event()
        following = asyncio.ensure_future(anext(aiter(konstruct.follow_config(until))))
        models.write_text(yaml.safe_dump({"model_list": [entry("c", at(openai))]}))
        assert await asyncio.wait_for(following, 30)
        assert list(konstruct.config.groups) == ["a", "c"]
        models.write_text(yaml.safe_dump({"model_list": [entry("d", {"model": 5})]}))
        with pytest.raises(ConfigError, match=r"models\.yaml: model_list\[0\]\.litellm_params\.model: "):
            await konstruct.reload()
        models.write_text("model_list: [\n")
        with pytest.raises(ConfigError, match=r'in the config file "litellm\.yaml": models\.yaml: line 2'):
            await konstruct.reload()
        until.set()


async def test_a_fallback_may_be_named_by_its_model_and_who_has_no_share_is_not_asked_first(
    tmp_path: Path, openai: Provider
) -> None:
    config = {
        "model_list": [
            entry("main", at(openai, "openai/first", num_retries=0, weight=1)),
            entry("main", at(openai, "openai/never", num_retries=0)),
            entry("spare", at(openai, "openai/second")),
        ],
        "router_settings": {
            "routing_strategy": "simple-shuffle",
            "fallbacks": [{"main": ["openai/second"]}],
            "model_group_alias": {"other": "openai/second"},
        },
    }
    async with opened(tmp_path, config) as konstruct:
        for _ in range(8):
            assert (await konstruct.complete(HELLO)).model == "openai/first"
        openai.script(Status(500), Status(500), Text("from behind"))
        fallen = await konstruct.complete(HELLO)
        assert (fallen.served_group, fallen.content) == ("spare", "from behind")
        assert konstruct.config.groups["other"].alias_of == "spare"
        said = 'no group "openai/second"; read as "spare", which asks that model'
        places = ("model_group_alias.other", "fallbacks[0].main[0]")
        assert konstruct.config.warnings == tuple(f"router_settings.{place}: {said}" for place in places)
    models = [request.body["model"] for request in openai.requests]
    assert models == [*["first"] * 9, "never", "second"]


def test_strict_fails_on_what_has_no_effect(tmp_path: Path) -> None:
    file = tmp_path / "litellm.yaml"
    models = {"model_list": [entry("a", {"model": "ollama/x"}), entry("*", {"model": "*"})]}
    for extra, code in (({}, 0), ({"general_settings": {"master_key": "sk-1"}}, 1)):
        file.write_text(yaml.safe_dump(models | extra))
        assert run("--config", file, "check").code == 0
        assert run("--config", file, "check", "--strict").code == code


async def test_a_client_sees_that_a_name_may_match_and_may_ask_for_one(tmp_path: Path, openai: Provider) -> None:
    config = {"model_list": [entry("house", at(openai)), entry("openai/*", at(openai, "openai/*"))]}
    async with opened(tmp_path, config) as konstruct, Client(KonstructServer(konstruct)) as client:
        (tool, _) = (await client.list_tools()).tools
        assert tool.input_schema["properties"]["model_group"] == {
            "type": "string",
            "default": "house",
            "description": "house: openai/gpt-4o\nor a model's name that matches openai/*",
        }
        answer = await client.call_tool("complete", {"messages": HELLO, "model_group": "openai/gpt-4o-mini"})
        assert answer.structured_content is not None
        assert answer.structured_content["served_group"] == "openai/gpt-4o-mini"
    (request,) = openai.requests
    assert request.body["model"] == "gpt-4o-mini"


async def test_variables_of_the_file_are_there_for_litellm_and_for_nobody_to_see(
    tmp_path: Path, openai: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")  # so that it is as before afterwards
    variables = {"OPENAI_API_KEY": "sk-hidden-1", "OPENAI_BASE_URL": openai.url, "KONSTRUCT_TENANT_ID": "t"}
    config = {
        "environment_variables": variables,
        "credential_list": [{"credential_name": "mine", "credential_values": {"api_key": "sk-hidden-2"}}],
        "model_list": [entry("g", {"model": "openai/gpt-4o"})],
    }
    async with opened(tmp_path, config, {}) as konstruct:
        await konstruct.complete(HELLO)
        public = dict(public_config(konstruct.config))
        assert public["environment_variables"] == dict.fromkeys(variables, "***")
        assert public["credential_list"] == [{"credential_name": "mine", "credential_values": {"api_key": "***"}}]
        assert "hidden" not in f"{konstruct.config!r}{public}"
        assert konstruct.config.default_tenant == "default"
        assert konstruct.config.warnings == (
            "environment_variables.KONSTRUCT_TENANT_ID: cannot be set here; set it where the server starts",
        )
    (request,) = openai.requests
    assert request.headers["authorization"] == "Bearer sk-hidden-1"


CREDENTIALS: dict[str, dict[str, str]] = {
    "bedrock/anthropic.claude-sonnet-4-6": {
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "r",
    },
    "vertex_ai/gemini-2.5-flash": {"GOOGLE_APPLICATION_CREDENTIALS": __file__},
    "azure/gpt-4o": {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_SECRET": "s"},
}


@pytest.mark.parametrize("model", CREDENTIALS)
def test_what_a_clouds_own_client_looks_up_is_set_for_it(tmp_path: Path, model: str) -> None:
    variables = CREDENTIALS[model] | {"OPENAI_API_KEY": "sk-1"}
    config = {"environment_variables": variables, "model_list": [entry("g", {"model": m}) for m in (model, "openai/x")]}
    loaded = load_config(write(tmp_path, config), {"HOME": str(tmp_path)})
    assert loaded.variables == CREDENTIALS[model]  # LiteLLM has the other one as a parameter
