"""How a model is to think: what the config asks for, in what the model takes.

A config asks by `reasoning_effort` (a level) or by `thinking` (Anthropic's object, with a budget of tokens or not).
Models take a level, a budget, a switch, or nothing; among levels, the nearest one that a model has is sent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.providers.litellm.notes import effort_changed, not_taken
from konstruct_mcp.providers.litellm.profiles.limits import positive_int

_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_USUAL_LEVELS = ("low", "medium", "high")
# Tokens of thinking for a level, for models that take a budget: LiteLLM's numbers for Claude, Google's for Gemini.
_CLAUDE_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096}
_GEMINI_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}
LEAST_BUDGET = 1024  # tokens; Anthropic takes no less
# The Geminis that take a budget. Those still to come take levels, so that this list does not grow.
BUDGETED_GEMINI = re.compile(r"gemini-([12]([.-]|$)|(pro|flash)(-vision|-00\d)?$)|gemma|learnlm")


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model is to think.

    Attributes:
        claude: Anthropic's `thinking`; None where it is not sent, and the model does what it does by itself.
        effort: the level of effort; None where none is sent.
        will: whether a Claude will think: then it takes no temperature, and no tool can be forced on it.
        notes: what the config asks for and the model does not take, one line each.
    """

    claude: Mapping[str, Any] | None = None
    effort: str | None = None
    will: bool = False
    notes: tuple[str, ...] = ()


# -- levels of effort --------------------------------------------------------------------------------------------------


def levels(entry: Mapping[str, Any], is_known: bool) -> tuple[str, ...] | None:
    """The levels of effort that a model takes; None where nobody knows."""
    given = entry.get("reasoning_effort_levels")
    if isinstance(given, list | tuple):
        return tuple(level for level in _LEVELS if level in given)
    said = {level: entry.get(f"supports_{level}_reasoning_effort") for level in _LEVELS}
    if not (entry.get("supports_reasoning") or any(said.values())):
        return () if is_known or entry.get("supports_reasoning") is False else None
    return tuple(level for level in _LEVELS if said[level] or (level in _USUAL_LEVELS and said[level] is None))


def nearest(level: str, among: tuple[str, ...]) -> str:
    """The level that is nearest to this one, of those in `among`, which is not empty.

    The lower of two that are equally near; "none" only for "none", or where nothing else is there. A word that is no
    level stays as it is.
    """
    rank = _LEVELS.index
    if level in among or level not in _LEVELS:
        return level
    others = [one for one in among if one != "none"] or list(among)
    return min(others, key=lambda one: (abs(rank(one) - rank(level)), rank(one)))


def effort_thinking(
    name: str,
    settings: Mapping[str, Any],
    entry: Mapping[str, Any],
    is_known: bool,
    provider: str,
    model: str,
    allowed: Collection[str],
) -> Thinking:
    """How a model is to think that takes levels of effort.

    Args:
        name: the deployment's, for notes.
        settings: its litellm_params.
        entry: what is known of the model; `is_known` says whether that is anything.
        allowed: the parameters that the config says are taken.
    """
    asked = _asked_effort(settings)
    thinking = settings.get("thinking")
    by_level = ("gemini", "vertex_ai", "bedrock") + (() if "thinking" in allowed else ("openai", "azure"))
    if asked is None and isinstance(thinking, Mapping) and provider in by_level:
        asked = "none" if thinking.get("type") == "disabled" else _level_of(thinking.get("budget_tokens"))
    if asked is None:
        return Thinking()
    if "reasoning_effort" in allowed:
        return Thinking(effort=asked)
    is_budgeted = provider in ("gemini", "vertex_ai") and BUDGETED_GEMINI.search(model)
    among = levels(entry, is_known)
    if among == ():
        return Thinking(notes=() if asked == "none" else (not_taken("reasoning_effort", name),))
    if among is None or is_budgeted:  # what a level is in tokens is settled by `gemini_thinking`
        return Thinking(effort=asked)
    level = nearest(asked, among)
    return Thinking(effort=level, notes=() if level == asked else (effort_changed(asked, level, name),))


def _asked_effort(settings: Mapping[str, Any]) -> str | None:
    """The level that the config asks for, as a word or in OpenAI's object."""
    effort = settings.get("reasoning_effort")
    if isinstance(effort, Mapping):
        effort = effort.get("effort")
    if isinstance(effort, str) and effort.strip():
        word = effort.strip().lower()
        return "none" if word in ("disable", "disabled", "off") else word
    return None


def _level_of(budget: Any) -> str:
    """The level that stands for so many tokens of thinking."""
    tokens = positive_int(budget)
    if tokens is None:
        return "medium"
    return "low" if tokens <= 2048 else "medium" if tokens <= 8192 else "high"


# -- Claude ------------------------------------------------------------------------------------------------------------


def claude_thinking(name: str, settings: Mapping[str, Any], entry: Mapping[str, Any], is_known: bool) -> Thinking:
    """How a Claude is to think. The older ones take a budget of tokens, some a level beside it, the newer a level alone
    and decide themselves how long they think ("adaptive")."""
    adapts = bool(entry.get("supports_adaptive_thinking")) or not is_known
    always = bool(entry.get("thinking_always_on"))
    by_default = always or bool(entry.get("thinking_on_by_default"))
    asked, given = _asked_effort(settings), settings.get("thinking")
    kind = given.get("type") if isinstance(given, Mapping) else None
    if asked == "none" and kind is None:
        kind = "disabled"
    if asked is None and kind is None:
        return Thinking(will=by_default)
    if not (adapts or entry.get("supports_reasoning")):
        what = "reasoning_effort" if kind is None else "thinking"
        return Thinking(notes=() if kind == "disabled" else (not_taken(what, name),))
    if kind == "disabled":
        if always:
            effort = nearest("none", _claude_levels(entry)) if adapts else None
            return Thinking(effort=effort, will=True, notes=(f"{name} thinks, and cannot be told not to",))
        return Thinking(claude={"type": "disabled"} if by_default or given else None)
    if not adapts or (kind == "enabled" and entry.get("supports_legacy_thinking")):
        return _budgeted(name, asked, kind, budget_of(given), entry, adapts=adapts)
    return _adaptive(name, asked, kind, budget_of(given), entry, is_known=is_known)


def _budgeted(
    name: str, asked: str | None, kind: Any, budget: Any, entry: Mapping[str, Any], *, adapts: bool
) -> Thinking:
    notes = (f"thinking became a budget of tokens, the form that {name} takes",) if kind == "adaptive" else ()
    tokens = positive_int(budget) or _CLAUDE_BUDGETS.get(nearest(asked or "high", tuple(_CLAUDE_BUDGETS)), 4096)
    level = nearest(asked, _claude_levels(entry)) if adapts and asked else None
    return Thinking({"type": "enabled", "budget_tokens": max(tokens, LEAST_BUDGET)}, level, True, notes)


def _adaptive(
    name: str, asked: str | None, kind: Any, budget: Any, entry: Mapping[str, Any], *, is_known: bool
) -> Thinking:
    notes: tuple[str, ...] = ()
    if kind == "enabled":
        notes = (f"thinking became adaptive, the form that {name} takes",)
        asked = asked or _level_of(budget)
    if asked is None:
        return Thinking({"type": "adaptive"}, will=True)
    level = nearest(asked, _claude_levels(entry) if is_known else (*_USUAL_LEVELS, "xhigh", "max"))
    if level != asked:
        notes = (*notes, effort_changed(asked, level, name))
    return Thinking({"type": "adaptive"}, level, True, notes)


def _claude_levels(entry: Mapping[str, Any]) -> tuple[str, ...]:
    found = levels({"supports_reasoning": True, **entry}, is_known=True) or _USUAL_LEVELS
    ceiling = entry.get("bedrock_output_config_effort_ceiling")
    if ceiling in _LEVELS:
        found = tuple(level for level in found if _LEVELS.index(level) <= _LEVELS.index(ceiling))
    return found


def budget_of(thinking: Any) -> Any:
    """The `budget_tokens` in the config's `thinking`; None where there are none."""
    return thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None


# -- Gemini ------------------------------------------------------------------------------------------------------------


def gemini_thinking(effort: str | None, given: Any, *, takes_level: bool) -> dict[str, Any] | None:
    """Gemini's `thinkingConfig`; None where nothing is asked for.

    Args:
        effort: the level of effort.
        given: the config's `thinking`.
        takes_level: whether the model takes a level, and not a budget of tokens.
    """
    if effort is None:
        return None
    if takes_level:
        return {"thinkingLevel": effort}
    level = nearest(effort, tuple(_GEMINI_BUDGETS))
    return {"thinkingBudget": positive_int(budget_of(given)) or _GEMINI_BUDGETS.get(level, -1)}
