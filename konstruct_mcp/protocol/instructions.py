"""How an assistant is told what it may ask for: the server's instructions, and the schema of `model_group`."""

from __future__ import annotations

from typing import Any

from konstruct_mcp.core.errors import ConfigError
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.gateway.konstruct import Konstruct
from konstruct_mcp.gateway.views import Choice

# What a client asks first waits no longer for a look at Ollama; on this machine it takes a hundredth of that.
LIST_WITHIN_S = 0.25


def choice_of(konstruct: Konstruct, caller: Caller) -> Choice:
    """What a caller may ask for: nothing where there is no config that can be used yet."""
    try:
        return konstruct.choice(caller=caller)
    except ConfigError:
        return Choice((), "", ())


def instructions(choice: Choice) -> str:
    """What a client tells its assistant about this server."""
    if not (choice.groups or choice.patterns):
        return "Asks other language models for completions; but its config cannot be used: list_groups says why."
    listed = "\n".join(f"- {line}" for line in _described(choice))
    or_continue = ", or continue a result's thread with only what is new" if choice.has_threads else ""
    reason = f" ({choice.default_reason})" if choice.default_reason else ""
    leave_out = f"Leave it out for {choice.default_group}{reason}. " if choice.default_group else ""
    return (
        "Asks other language models for completions. Choose a model_group by what the task is worth:\n"
        f"{listed}{_or_a_match(choice)}\n"
        f"{leave_out}The other model sees only what you send: put the whole conversation into messages{or_continue}. "
        "served_group and model say who answered, which may be a group behind the one that was asked. "
        "When a call fails, the error says why; list_groups shows what can be called now."
    )


def group_argument(choice: Choice) -> dict[str, Any]:
    """The schema of `model_group`: the groups by name, and any text where a wildcard may match it."""
    schema: dict[str, Any] = {"type": "string"}
    if choice.groups and not choice.patterns:
        schema["enum"] = [group.name for group in choice.groups]
    if choice.default_group:
        schema["default"] = choice.default_group
    described = "\n".join(_described(choice)) + _or_a_match(choice)
    return schema | ({"description": described.strip()} if described else {})


def _described(choice: Choice) -> list[str]:
    """One line for each group."""
    return [f"{group.name}: {group.description}{'' if group.is_set_up else ' (not set up)'}" for group in choice.groups]


def _or_a_match(choice: Choice) -> str:
    """A line on the names that may be asked for beside the groups'."""
    patterns = " or ".join(choice.patterns)
    return f"\n{'or ' if choice.groups else ''}a model's name that matches {patterns}" if patterns else ""
