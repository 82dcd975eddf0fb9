"""From a request to what LiteLLM is called with for one deployment.

`prepare` reads from top to bottom: the messages and earlier reasoning first, then one step per part of the request. The
steps are in `formats`; what holds for every request to a deployment is in its `ModelProfile`. A parameter that the
deployment has no place for is noted and left out if the answer stays the same kind of answer; else `prepare` raises.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.messages import NamedTool
from konstruct_mcp.core.requests import Request
from konstruct_mcp.providers.litellm.formats.draft import Draft, UnfitError, merged
from konstruct_mcp.providers.litellm.formats.messages import messages_for, notes_on_messages
from konstruct_mcp.providers.litellm.formats.sampling import PENALTIES, add_sampling
from konstruct_mcp.providers.litellm.formats.structured_output import add_response_format
from konstruct_mcp.providers.litellm.formats.thinking import add_thinking
from konstruct_mcp.providers.litellm.formats.tools import add_tools, bedrock_tool_names, move_bedrock_tool_choice
from konstruct_mcp.providers.litellm.ollama import requests as ollama
from konstruct_mcp.providers.litellm.prepared import PreparedRequest
from konstruct_mcp.providers.litellm.profiles.limits import output_limit
from konstruct_mcp.providers.litellm.profiles.profile import ModelProfile
from konstruct_mcp.providers.litellm.reasoning.history import give_back
from konstruct_mcp.providers.tried import Recalled

# Parameters of OpenAI's that LiteLLM 1.82.5 accepts and does not send.
_LOST_BY_LITELLM = ("verbosity", "store", "prompt_cache_key")


def prepare(
    deployment: Deployment,
    profile: ModelProfile,
    request: Request,
    recalled: Recalled,
    most: int | None = None,
    refusal: str = "",
    *,
    speaks_openais: bool = True,
) -> PreparedRequest:
    """A request as one deployment takes it.

    Args:
        recalled: the model's reasoning in earlier turns of the conversation.
        most: tokens that the answer may have at most, where a budget says so.
        refusal: what the provider has said against the reasoning in the history, which is then left out.
        speaks_openais: whether LiteLLM asks this provider in OpenAI's format.

    Raises:
        UnfitError: the deployment cannot be asked so that the request means the same.
    """
    if request.has_pdfs and not profile.takes_pdfs:
        raise UnfitError("takes no PDF files")
    lost = notes_on_messages(request.messages, profile)
    draft = Draft(
        deployment,
        profile,
        request,
        imitates_openai=speaks_openais and profile.api == "openai" and profile.provider not in ("openai", "azure"),
        limit=_limit(deployment, profile, request, most),
        messages=messages_for(request.messages, profile),
        thinks=profile.thinking.will,
        claude_thinking=profile.thinking.claude,
        notes=[*profile.thinking.notes, *lost],
    )
    _add_earlier_reasoning(draft, recalled, refusal)
    if profile.provider == "ollama":
        return _for_ollama(draft)
    add_tools(draft)
    add_response_format(draft)
    move_bedrock_tool_choice(draft)
    add_thinking(draft)
    add_sampling(draft)
    if draft.limit is not None:
        draft.options[profile.limit_key] = draft.limit
        _note_limit(draft)
    _add_other_parameters(draft)
    return _finished(draft)


def _limit(deployment: Deployment, profile: ModelProfile, request: Request, most: int | None) -> int | None:
    limit = output_limit(deployment, profile.entry, request.max_tokens)
    return limit if most is None else most if limit is None else min(limit, most)


def _add_earlier_reasoning(draft: Draft, recalled: Recalled, refusal: str) -> None:
    """Put the model's earlier reasoning into the history.

    A Claude that is told to think refuses a history in which it made calls without thinking, so that thinking is
    switched off where the reasoning before its last calls is gone.
    """
    name, claude = draft.profile.name, draft.claude_thinking
    must_think = claude is not None and claude.get("type") == "enabled"
    must_think |= bool(refusal) and draft.profile.is_claude and draft.thinks
    given = give_back(draft.messages, draft.deployment, recalled, must_think=must_think, refusal=refusal)
    draft.outputs = given.outputs
    if refusal and not given.is_thoughtless:
        draft.notes.append(f"{name} goes on without what was thought before the last calls")
    if given.is_thoughtless:
        draft.notes.append(f"thinking was left out: what {name} thought before its last calls is gone")
        draft.stop_thinking()


def _for_ollama(draft: Draft) -> PreparedRequest:
    """The request in Ollama's own format, where the whole body is ours."""
    choice = draft.request.tool_choice
    if choice == "required" or isinstance(choice, NamedTool):
        raise UnfitError("cannot be made to call a tool")
    wanted = {"tools", "tool_choice", "response_format", "temperature"}
    in_openais = draft.request.model_dump(include=wanted, exclude_none=True, by_alias=True)
    made = ollama.prepare(draft.deployment, draft.profile.settings, draft.messages, in_openais, draft.limit)
    draft.notes += made.notes
    _note_limit(draft)
    return PreparedRequest(draft.messages, {}, made.body, places=made.places, notes=tuple(draft.notes))


def _note_limit(draft: Draft) -> None:
    asked, limit = draft.request.max_tokens, draft.limit
    if asked is None or limit is None or limit == asked:
        return
    why = "least that {} takes" if limit > asked else "most that the config lets {} answer"
    draft.notes.append(f"max_tokens became {limit}, the {why.format(draft.profile.name)}")


def _add_other_parameters(draft: Draft) -> None:
    profile, settings = draft.profile, draft.profile.settings
    if "tools" in draft.options and (parallel := settings.get("parallel_tool_calls")) is not None:
        if profile.api != "gemini":
            draft.options["parallel_tool_calls"] = parallel
        elif not parallel:  # Gemini has no such parameter, and calls in parallel
            draft.note_left_out("parallel_tool_calls")
    if profile.api == "openai" and profile.provider in ("openai", "azure"):
        draft.body |= {key: settings[key] for key in _LOST_BY_LITELLM if settings.get(key) is not None}
    # The providers take these, though LiteLLM thinks that they do not.
    taken = PENALTIES if profile.is_mistral else ("seed",) if profile.api == "gemini" else ()
    if taken:
        draft.options["allowed_openai_params"] = [*draft.options.get("allowed_openai_params", ()), *taken]
    if isinstance(extra := settings.get("extra_body"), Mapping):
        draft.body = merged(draft.body, extra)


def _finished(draft: Draft) -> PreparedRequest:
    api, body = draft.profile.api, draft.body
    if draft.system:
        draft.messages.insert(0, {"role": "system", "content": "\n\n".join(draft.system)})
    if draft.imitates_openai and (draft.request.has_images or draft.request.has_pdfs or draft.has_cache_points):
        # LiteLLM drops images for models that it takes for blind, or has another model describe them; and it drops
        # cache points for models of which it does not know that they have any.
        body["messages"] = copy.deepcopy(draft.messages)
    over: dict[str, Any] = body
    if body and api in ("openai", "responses", "cohere"):
        draft.options["extra_body"], over = body, {}
    return PreparedRequest(
        draft.messages,
        draft.options,
        over,
        schemas=draft.schemas,
        notes=tuple(draft.notes),
        in_words=draft.in_words,
        outputs=draft.outputs,
        names=bedrock_tool_names(draft),
    )
