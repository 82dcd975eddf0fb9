"""Temperature, top_p and the penalties, left out where the model does not take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from konstruct_mcp.providers.litellm.formats.draft import Draft
from konstruct_mcp.providers.litellm.profiles.profile import SAMPLING

PENALTIES = ("presence_penalty", "frequency_penalty")


def add_sampling(draft: Draft) -> None:
    """Add the sampling parameters of the config and the request. Comes after the thinking: a model that thinks takes
    fewer of them."""
    profile = draft.profile
    asked = {key: profile.settings[key] for key in SAMPLING if profile.settings.get(key) is not None}
    if draft.request.temperature is not None:
        asked["temperature"] = draft.request.temperature
    if profile.api == "gemini" and profile.entry.get("supports_sampling_params") is False:
        draft.body.setdefault("generationConfig", {})["temperature"] = None  # takes out what LiteLLM adds by itself
    if not asked:
        return
    for key in _refused(draft, asked):
        if key in profile.allowed:
            continue
        # Without the parameter such a model samples as with 1, so that leaving out a 1 changes nothing.
        if key in asked and asked.pop(key) != 1:
            draft.note_left_out(key)
    temperature = asked.get("temperature")
    if profile.is_claude and isinstance(temperature, int | float) and temperature > 1:
        draft.notes.append(f"temperature became 1, the highest that {profile.name} takes")
        asked["temperature"] = 1
    if profile.reasons_in_openais_way or profile.provider == "moonshot":  # LiteLLM refuses by name, or lowers it
        draft.body |= asked
    else:
        draft.options |= asked


def _refused(draft: Draft, asked: Mapping[str, Any]) -> tuple[str, ...]:
    """The sampling parameters that the model does not take in this request."""
    profile = draft.profile
    if profile.entry.get("supports_sampling_params") is False or _reasons(draft):
        return SAMPLING
    if profile.is_claude and draft.thinks:
        top_p = asked.get("top_p")
        takes_top_p = isinstance(top_p, int | float) and top_p >= 0.95
        return ("temperature", "top_k") if takes_top_p else ("temperature", "top_p", "top_k")
    if profile.is_claude and "temperature" in asked:
        return ("top_p",)  # a Claude takes one of the two
    if profile.provider == "gemini" and profile.takes_thinking_level:
        return PENALTIES
    return ()


def _reasons(draft: Draft) -> bool:
    """Whether this is one of OpenAI's models that reasons for this request: then it takes no sampling parameter."""
    profile = draft.profile
    if not profile.reasons_in_openais_way:
        return False
    return (profile.thinking.effort or profile.entry.get("default_reasoning_effort")) != "none"
