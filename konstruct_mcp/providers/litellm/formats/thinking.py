"""How hard the model is to think, in the fields of the deployment's API.

What is asked for was settled in `profiles.thinking`; here it is written into a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from konstruct_mcp.providers.litellm.formats.draft import Draft, merged
from konstruct_mcp.providers.litellm.profiles.thinking import LEAST_BUDGET, budget_of, gemini_thinking


def add_thinking(draft: Draft) -> None:
    """Add the level of effort or the thinking that the call or the config asks for."""
    profile, effort = draft.profile, draft.profile.thinking.effort
    given = profile.settings.get("thinking")
    if profile.thinks_as_claude:
        _add_claude_thinking(draft)
    elif profile.api == "gemini":
        config = gemini_thinking(effort, given, profile.model, takes_level=profile.takes_thinking_level)
        if config is not None:
            draft.body.setdefault("generationConfig", {})["thinkingConfig"] = config
    elif effort is not None:
        _add_effort(draft, effort, given)
    elif given is not None:
        # Where levels are taken, `thinking` has become one already.
        takes_levels = profile.api == "converse" or (
            profile.provider in ("openai", "azure") and "thinking" not in profile.allowed
        )
        if not takes_levels:
            draft.body["thinking"] = given


def _add_effort(draft: Draft, effort: str, given: Any) -> None:
    """Write a level of effort; `given` is the config's `thinking`, which some providers take in its place."""
    profile, body = draft.profile, draft.body
    switch = given or {"type": "disabled" if effort == "none" else "enabled"}
    match profile.provider:
        case _ if profile.api == "responses":
            body["reasoning"] = {"effort": effort}
        case _ if profile.api == "converse" and "nova" in profile.model:
            if effort != "none":
                draft.add_model_fields({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}})
        case _ if profile.api == "converse":
            draft.add_model_fields({"reasoning_effort": effort})
        case "openrouter":
            body["reasoning"] = {"effort": effort}
        case "deepseek":
            body["thinking"] = switch
            if effort != "none":
                body["reasoning_effort"] = effort
        case "mistral" if profile.thinker.is_switched:
            if effort != "none":
                body["prompt_mode"] = "reasoning"
        case "groq" if profile.thinker.is_switched:
            body["reasoning_effort"] = "none" if effort == "none" else "default"
        case _ if profile.thinker.is_switched:
            body["thinking"] = switch
        case _:
            body["reasoning_effort"] = effort


def _add_claude_thinking(draft: Draft) -> None:
    profile, effort, thinking = draft.profile, draft.profile.thinking.effort, draft.claude_thinking
    if thinking is not None and thinking.get("type") == "enabled" and draft.limit is not None:
        # Thinking counts towards the output limit, which has to be larger than the budget of thinking: half of the
        # limit is left for the answer where that is enough for thinking.
        asked = thinking["budget_tokens"]
        budget = min(asked, max(LEAST_BUDGET, draft.limit // 2))
        if budget >= draft.limit:
            draft.notes.append(f"thinking was left out: it does not fit into {draft.limit} tokens")
            draft.thinks, thinking, effort = False, None, None
        else:
            thinking = {**thinking, "budget_tokens": budget}
            if budget < asked and draft.request.effort is not None:
                draft.notes.append(f"effort became {budget} tokens of thinking, to leave some for the answer")
            elif budget < asked == budget_of(profile.settings.get("thinking")):  # the config itself names this number
                draft.notes.append(f"thinking of {asked} tokens became {budget}, to leave some for the answer")
    fields: dict[str, Any] = {} if thinking is None else {"thinking": dict(thinking)}
    given = profile.settings.get("output_config")
    config = dict(given) if isinstance(given, Mapping) else {}
    if effort is not None and (thinking is not None or profile.thinks_always):
        config["effort"] = effort
    if config:
        fields["output_config"] = config
    if not fields:
        return
    if profile.api == "converse":
        draft.add_model_fields(fields)
    else:
        draft.body = merged(fields, draft.body)
