"""How a model is to think: what the config asks for, or the call, in what the model takes.

A config asks by `reasoning_effort` (a level) or by `thinking` (Anthropic's object, with a budget of tokens or not), a
call by `effort`, which takes the place of both. A tenant may be held to a level. Models take a level, a budget, a
switch, or nothing; among levels, the nearest one that a model has is sent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from konstruct_mcp.core.effort import LEVELS, Effort, is_above, nearest, rank
from konstruct_mcp.providers.litellm.notes import effort_capped, effort_changed, not_taken
from konstruct_mcp.providers.litellm.places import THINKING_PLACES, at, without
from konstruct_mcp.providers.litellm.profiles.limits import positive_int

_USUAL_LEVELS = ("low", "medium", "high")
# Tokens of thinking for a level, for models that take a budget: LiteLLM's numbers for Claude, Google's for Gemini. The
# highest are what the providers advise (Claude) or allow (Gemini).
_CLAUDE_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 16_384, "max": 32_000}
_GEMINI_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "max": 24_576}
_GEMINI_PRO_BUDGETS = {"minimal": 128, "low": 1024, "medium": 8192, "high": 24_576, "max": 32_768}  # it thinks always
LEAST_BUDGET = 1024  # tokens; Anthropic takes no less
# The Geminis that take a budget. Those still to come take levels, so that this list does not grow.
BUDGETED_GEMINI = re.compile(r"gemini-([12]([.-]|$)|(pro|flash)(-vision|-00\d)?$)|gemma|learnlm")
_GEMINI_PRO = re.compile(r"gemini-2\.5-pro")
_OPENROUTER_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh")
# The Groks that can be told not to reason; the earlier ones take no level at all, or no "none".
_QUIET_GROK = re.compile(r"grok-(4\.([3-9]|\d\d)|[5-9]|latest)")
_GPT_OSS = re.compile(r"(^|/)gpt-oss")
# Keys of `litellm_params`, and of the `extra_body` in them, that say how to think.
_OUR_PLACES = (*THINKING_PLACES, ("think",), ("extra_body", "think"), *(("extra_body", *at) for at in THINKING_PLACES))
_OFF = ("disable", "disabled", "off")  # words for "none" that configs have


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model is to think.

    Attributes:
        claude: Anthropic's `thinking`; None where it is not sent, and the model does what it does by itself.
        effort: the level of effort; None where none is sent.
        will: whether a Claude will think: then it takes no temperature, and no tool can be forced on it.
        notes: what is asked for and the model does not take, one line each.
    """

    claude: Mapping[str, Any] | None = None
    effort: str | None = None
    will: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Thinker:
    """A deployment's model, as far as its thinking goes.

    Attributes:
        name: the deployment's, for notes.
        provider, model: of `provider/model`.
        entry: what is known of the model; `is_known` says whether that is anything.
        thinks_as_claude: whether its thinking is asked for as Claude's is.
        allowed: the parameters that the config says are taken.
    """

    name: str
    provider: str
    model: str
    entry: Mapping[str, Any]
    is_known: bool
    thinks_as_claude: bool
    allowed: Collection[str]

    def think(
        self, settings: Mapping[str, Any], effort: Effort | None = None, most: Effort | None = None
    ) -> tuple[Mapping[str, Any], Thinking]:
        """How it is to think, and the settings that say so.

        Args:
            settings: the deployment's litellm_params.
            effort: what the call asks for; None where the settings decide.
            most: the highest level that its tenant may have.
        """
        what, notes = "reasoning_effort", tuple[str, ...]()
        if effort is not None:
            what, settings = "effort", _with_effort(settings, effort)
        if most is not None and is_above(_level_in(settings) or self._level_by_itself, most):
            settings = _with_effort(settings, most)
            notes = () if effort is None else (effort_capped(effort, most),)
        how = self._as_claude if self.thinks_as_claude else self._by_level
        thinking = how(_Ask(what, settings, most or "max"))
        return settings, replace(thinking, notes=(*notes, *thinking.notes))

    @property
    def is_switched(self) -> bool:
        """Whether it thinks or does not, without levels."""
        if "reasoning_effort_levels" in self.entry and self.provider in ("moonshot", "mistral"):
            return False
        match self.provider:
            case "zai" | "cohere" | "cohere_chat" | "moonshot":
                return True
            case "mistral":
                return self.model.startswith("magistral")
            case "groq":
                return "qwen" in self.model
            case "ollama":
                return not _GPT_OSS.search(self.model)
        return False

    @property
    def _level_by_itself(self) -> str:
        """How hard it thinks where nobody says anything, or harder; "none" for one that then does not think."""
        if self.thinks_as_claude:
            thinks = self.entry.get("thinking_always_on") or self.entry.get("thinking_on_by_default")
            return "high" if thinks else "none"
        levels_ = self._levels()
        waits = ("mistral", "dashscope") if not self.is_switched else ()  # until they are told to think
        if not levels_ or self.provider in waits or re.search(r"amazon\.nova|flash-lite", self.model):
            return "none"
        return str(self.entry.get("default_reasoning_effort") or ("low" if self.is_switched else "high"))

    # -- levels of effort ----------------------------------------------------------------------------------------------

    def _by_level(self, ask: _Ask) -> Thinking:
        asked, thinking = _asked_effort(ask.settings), ask.settings.get("thinking")
        by_level = ("gemini", "vertex_ai", "bedrock") + (() if "thinking" in self.allowed else ("openai", "azure"))
        if asked is None and isinstance(thinking, Mapping) and self.provider in by_level:
            asked = "none" if thinking.get("type") == "disabled" else _level_of(thinking.get("budget_tokens"))
        if asked is None:
            return Thinking()
        if "reasoning_effort" in self.allowed and ask.is_of_config:
            return Thinking(effort=asked)
        among = self._levels()
        if among == ():
            return Thinking(notes=() if asked == "none" else (not_taken(ask.what, self.name),))
        if self.is_switched:
            told = asked == "none" or ask.is_of_config
            return Thinking(effort=asked, notes=() if told else (effort_changed(ask.what, asked, "on", self.name),))
        if among is None:
            # What an operator has written may be right. A caller does not know whom it asks: the highest level that
            # every server knows which knows any.
            if ask.is_of_config or asked != "max":
                return Thinking(effort=asked)
            among = _USUAL_LEVELS
        level = nearest(asked, among, ask.most)
        changed = effort_changed(ask.what, asked, level, self.name)
        return Thinking(effort=level, notes=() if level == asked else (changed,))

    def _levels(self) -> tuple[str, ...] | None:
        """The levels that it takes; None where nobody knows."""
        found = levels(self.entry, self.is_known)
        match self.provider:
            case "ollama":  # it says itself whether a model thinks, when it is asked
                return _USUAL_LEVELS
            case "embedded":
                return ()
            case "openrouter" if found != ():  # it switches off what can be
                off = () if self.entry.get("thinking_always_on") else ("none",)
                return tuple(level for level in _OPENROUTER_LEVELS if found is None or level in (*found, *off))
            case "gemini" if found is None:  # one that nobody knows is newer than those with budgets
                return _USUAL_LEVELS
            case "gemini" | "vertex_ai" if found != () and BUDGETED_GEMINI.search(self.model):
                return tuple(_gemini_budgets(self.model))
            case "deepseek" if found:  # it has a switch beside its levels
                return tuple(dict.fromkeys(("none", *found, "max")))
            case "xai" if found and _QUIET_GROK.search(self.model):
                return tuple(dict.fromkeys(("none", *found)))
            case "bedrock" if found and "nova" in self.model:  # it does not think unless it is told to
                return tuple(dict.fromkeys(("none", *found)))
        return found

    # -- Claude --------------------------------------------------------------------------------------------------------

    def _as_claude(self, ask: _Ask) -> Thinking:
        """How a Claude is to think. The older ones take a budget of tokens, some a level beside it, the newer a level
        alone and decide themselves how long they think ("adaptive")."""
        entry = self.entry
        adapts = bool(entry.get("supports_adaptive_thinking")) or not self.is_known
        always = bool(entry.get("thinking_always_on"))
        by_default = always or bool(entry.get("thinking_on_by_default"))
        asked, given = _asked_effort(ask.settings), ask.settings.get("thinking")
        kind = given.get("type") if isinstance(given, Mapping) else None
        if asked == "none" and kind is None:
            kind = "disabled"
        if asked is None and kind is None:
            return Thinking(will=by_default)
        if not (adapts or entry.get("supports_reasoning")):
            what = ask.what if kind is None else "thinking"
            return Thinking(notes=() if kind == "disabled" else (not_taken(what, self.name),))
        if kind == "disabled":
            if always:
                effort = nearest("none", _claude_levels(entry)) if adapts else None
                return Thinking(effort=effort, will=True, notes=(f"{self.name} thinks, and cannot be told not to",))
            return Thinking(claude={"type": "disabled"} if by_default or given else None)
        if not adapts or (kind == "enabled" and entry.get("supports_legacy_thinking")):
            return self._budgeted(asked, kind, budget_of(given), adapts=adapts)
        return self._adaptive(ask.what, asked, kind, budget_of(given))

    def _budgeted(self, asked: str | None, kind: Any, budget: Any, *, adapts: bool) -> Thinking:
        notes = (f"thinking became a budget of tokens, the form that {self.name} takes",) if kind == "adaptive" else ()
        tokens = positive_int(budget) or _CLAUDE_BUDGETS.get(nearest(asked or "high", tuple(_CLAUDE_BUDGETS)), 4096)
        level = nearest(asked, _claude_levels(self.entry)) if adapts and asked else None
        return Thinking({"type": "enabled", "budget_tokens": max(tokens, LEAST_BUDGET)}, level, True, notes)

    def _adaptive(self, what: str, asked: str | None, kind: Any, budget: Any) -> Thinking:
        notes: tuple[str, ...] = ()
        if kind == "enabled":
            notes = (f"thinking became adaptive, the form that {self.name} takes",)
            asked = asked or _level_of(budget)
        if asked is None:
            return Thinking({"type": "adaptive"}, will=True)
        among = _claude_levels(self.entry) if self.is_known else (*_USUAL_LEVELS, "xhigh", "max")
        level = nearest(asked, among)
        if level != asked:
            notes = (*notes, effort_changed(what, asked, level, self.name))
        return Thinking({"type": "adaptive"}, level, True, notes)


@dataclass(frozen=True, slots=True)
class _Ask:
    """What is asked for.

    Attributes:
        what: the name under which it was asked for: "effort" of a call, or "reasoning_effort" of a config.
        settings: the litellm_params that hold.
        most: the highest level that may be sent, if there is one so low.
    """

    what: str
    settings: Mapping[str, Any]
    most: str

    @property
    def is_of_config(self) -> bool:
        return self.what == "reasoning_effort"


def levels(entry: Mapping[str, Any], is_known: bool) -> tuple[str, ...] | None:
    """The levels of effort that a model takes; None where nobody knows."""
    given = entry.get("reasoning_effort_levels")
    if isinstance(given, list | tuple):
        return tuple(level for level in LEVELS if level in given)
    said = {level: entry.get(f"supports_{level}_reasoning_effort") for level in LEVELS}
    if not (entry.get("supports_reasoning") or any(said.values())):
        return () if is_known or entry.get("supports_reasoning") is False else None
    return tuple(level for level in LEVELS if said[level] or (level in _USUAL_LEVELS and said[level] is None))


def _claude_levels(entry: Mapping[str, Any]) -> tuple[str, ...]:
    found = levels({"supports_reasoning": True, **entry}, is_known=True) or _USUAL_LEVELS
    ceiling = entry.get("bedrock_output_config_effort_ceiling")
    return found if ceiling not in LEVELS else tuple(level for level in found if rank(level) <= rank(ceiling))


# -- what settings ask for ---------------------------------------------------------------------------------------------


def _with_effort(settings: Mapping[str, Any], effort: Effort) -> dict[str, Any]:
    """Settings that ask for this effort and for nothing else about thinking."""
    asking = dict(settings)
    for place in _OUR_PLACES:
        if at(asking, place) is not None:
            asking = without(asking, place)
    return {**asking, "reasoning_effort": effort}


def _level_in(settings: Mapping[str, Any]) -> str | None:
    """The highest level that settings ask for in any form; None where they ask for none."""
    found: list[Any] = []
    for within in (settings, settings.get("extra_body")):
        if isinstance(within, Mapping):
            found += [_asked_effort(within), at(within, ("output_config", "effort"))]
            match within.get("reasoning"):  # OpenRouter's
                case {"enabled": False}:
                    found.append("none")
                case {"effort": level}:
                    found.append(level)
                case {"max_tokens": budget}:
                    found.append(_level_of(budget))
            match at(within, ("generationConfig", "thinkingConfig")):  # Gemini's
                case {"thinkingLevel": str() as level}:
                    found.append(level.lower())
                case {"thinkingBudget": 0}:
                    found.append("none")
                case {"thinkingBudget": -1}:  # as much as it likes
                    found.append("high")
                case {"thinkingBudget": budget}:
                    found.append(_level_of(budget))
            match within.get("thinking"):
                case {"type": "disabled"}:
                    found.append("none")
                case {"budget_tokens": budget}:
                    found.append(_level_of(budget))
                case {"type": _}:
                    found.append("high")
            match within.get("think"):  # Ollama's
                case bool() as thinks:
                    found.append("low" if thinks else "none")
                case word:
                    found.append(word)
    return max((level for level in found if level in LEVELS), key=rank, default=None)


def _asked_effort(settings: Mapping[str, Any]) -> str | None:
    """The level that settings ask for, as a word or in OpenAI's object."""
    effort = settings.get("reasoning_effort")
    if isinstance(effort, Mapping):
        effort = effort.get("effort")
    if isinstance(effort, str) and effort.strip():
        word = effort.strip().lower()
        return "none" if word in _OFF else word
    return None


def _level_of(budget: Any) -> str:
    """The level that stands for so many tokens of thinking."""
    tokens = positive_int(budget)
    if tokens is None:
        return "medium"
    return "low" if tokens <= 2048 else "medium" if tokens <= 8192 else "high"


def budget_of(thinking: Any) -> Any:
    """The `budget_tokens` in the config's `thinking`; None where there are none."""
    return thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None


# -- Gemini ------------------------------------------------------------------------------------------------------------


def _gemini_budgets(model: str) -> Mapping[str, int]:
    return _GEMINI_PRO_BUDGETS if _GEMINI_PRO.search(model) else _GEMINI_BUDGETS


def gemini_thinking(effort: str | None, given: Any, model: str, *, takes_level: bool) -> dict[str, Any] | None:
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
    budgets = _gemini_budgets(model)
    level = nearest(effort, tuple(budgets))
    return {"thinkingBudget": positive_int(budget_of(given)) or budgets.get(level, -1)}
