"""What the shell completes beside commands and options: the names of groups and tenants, and of keys.

They are read out of the file as it is written. No reference is resolved, so that no keychain is asked, and no server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from konstruct_mcp.config import built_in
from konstruct_mcp.config.environment import is_reference
from konstruct_mcp.config.keychain import Keychain
from konstruct_mcp.config.provider_needs import variables
from konstruct_mcp.config.source import read_source
from konstruct_mcp.config.wildcards import is_pattern
from konstruct_mcp.core.errors import ConfigError


def complete_group(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """The groups of the config, and the aliases, each with its description."""
    document = _document(context)
    described = _mapping(_mapping(document.get("konstruct")).get("groups"))
    names = dict.fromkeys(
        [*_groups(document), *_mapping(_mapping(document.get("router_settings")).get("model_group_alias"))]
    )
    return [
        CompletionItem(name, help=_in_one_line(_mapping(described.get(name)).get("description")))
        for name in names
        if isinstance(name, str) and name.startswith(typed)
    ]


def complete_tenant(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """The tenants that the config names."""
    konstruct = _mapping(_document(context).get("konstruct"))
    names = [*_mapping(konstruct.get("tenants")), konstruct.get("default_tenant") or "default"]
    texts = dict.fromkeys(name for name in names if isinstance(name, str))
    return [CompletionItem(name) for name in texts if name.startswith(typed)]


def complete_variable(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """The variables of providers' keys."""
    known = {name for names in variables().values() for name in names[:1] if name.endswith("_KEY")}
    return [CompletionItem(name) for name in sorted(known) if name.startswith(typed)]


def complete_credential(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """The names of the keys in the keychain."""
    return [CompletionItem(name) for name in Keychain(os.environ).names if name.startswith(typed)]


def _document(context: click.Context) -> Mapping[str, Any]:
    """The config as it is written; nothing where it cannot be read."""
    try:
        source = read_source(context.find_root().params.get("path"), os.environ)
    except ConfigError:
        return {}
    if source.is_built_in:
        built_in.prepare(source.document, os.environ, None)
    return source.document


def _groups(document: Mapping[str, Any]) -> Iterator[str]:
    entries = document.get("model_list")
    for entry in entries if isinstance(entries, list) else ():
        name = _mapping(entry).get("model_name")
        if isinstance(name, str) and not is_reference(name) and not is_pattern(name):
            yield name


def _in_one_line(description: Any) -> str | None:
    """As a shell is told it, to which each line is something else."""
    return " ".join(description.split()) if isinstance(description, str) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
