"""What holds for every request to a deployment.

It is decided from the config and from the data of the model, not from the names that LiteLLM knew when it was
published. So a new model is asked rightly once its data is there: it gets the limit under its right name, a level of
effort and not a budget, structured outputs and not a forced tool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.effort import Effort
from konstruct_mcp.providers.litellm.profiles.api import Api, api_of, model_behind, provider_and_model
from konstruct_mcp.providers.litellm.profiles.limits import limit_key, without_limits
from konstruct_mcp.providers.litellm.profiles.thinking import BUDGETED_GEMINI, Thinker, Thinking

# Keys of litellm_params that are written into each request by `formats`; LiteLLM's Router is not given them.
SAMPLING = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "logit_bias")
SHAPED = (
    *("max_completion_tokens", "max_tokens", *SAMPLING),
    *("reasoning_effort", "thinking", "output_config", "parallel_tool_calls", "extra_body"),
)

_MISTRAL = re.compile(r"(mistral|ministral|magistral|codestral|devstral|pixtral)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What holds for every request to a deployment.

    Attributes:
        name: the deployment's, for notes.
        provider: of `provider/model`.
        model: the rest of it, or the model that the config's `base_model` says is behind that name.
        api: the API that the deployment is asked through.
        entry: what is known of the model, in the words of LiteLLM's table; empty for nothing.
        settings: the deployment's litellm_params, without output limits.
        allowed: the parameters that the config says are taken, whatever the table says.
        is_known: whether the table has the model.
        is_claude: whether the model takes what Claude takes.
        thinks_as_claude: whether its thinking is asked for as Claude's is.
        limit_key: the name under which LiteLLM is given the output limit.
        thinker: what its model has for thinking.
        thinking: how the model is to think.
    """

    name: str
    provider: str
    model: str
    api: Api
    entry: Mapping[str, Any]
    settings: Mapping[str, Any] = field(repr=False)  # holds secrets
    allowed: frozenset[str]
    is_known: bool
    is_claude: bool
    thinks_as_claude: bool
    limit_key: str
    thinker: Thinker = field(repr=False)
    thinking: Thinking

    @classmethod
    def of(cls, deployment: Deployment, entry: Mapping[str, Any]) -> ModelProfile:
        """The profile of a deployment; `entry` is what is known of its model."""
        provider, model, api = provider_and_model(deployment)[0], model_behind(deployment), api_of(deployment, entry)
        is_known = "litellm_provider" in entry or "mode" in entry
        takes_its_thinking = bool(entry.get("supports_anthropic_thinking_payload"))
        is_claude = api == "anthropic" or ("claude" in model and (api == "converse" or takes_its_thinking))
        thinks_as_claude = is_claude or takes_its_thinking
        settings, allowed = without_limits(deployment.params), frozenset(allowed_by(deployment))
        if "reasoning_effort" in allowed or "thinking" in allowed:
            entry = {**entry, "supports_reasoning": True}
        thinker = Thinker(deployment.name, provider, model, entry, is_known, thinks_as_claude, allowed)
        return cls(
            name=deployment.name,
            provider=provider,
            model=model,
            api=api,
            entry=entry,
            settings=settings,
            allowed=allowed,
            is_known=is_known,
            is_claude=is_claude,
            thinks_as_claude=thinks_as_claude,
            limit_key=limit_key(deployment, entry, is_known=is_known),
            thinker=thinker,
            thinking=thinker.think(settings)[1],
        )

    def for_call(self, effort: Effort | None, most: Effort | None) -> ModelProfile:
        """The profile for calls that ask for an effort, None for that of the config, and may have `most`."""
        settings, thinking = self.thinker.think(self.settings, effort, most)
        return replace(self, settings=settings, thinking=thinking)

    @property
    def reasons_in_openais_way(self) -> bool:
        """Whether this is one of OpenAI's models that reason, which take no sampling parameters while they do."""
        return self.provider in ("openai", "azure") and bool(self.entry.get("supports_reasoning"))

    @property
    def is_openais_own(self) -> bool:
        """Whether this is one of OpenAI's models at OpenAI or Azure."""
        return self.provider in ("openai", "azure") and self.is_known

    @property
    def is_mistral(self) -> bool:
        """Whether the model takes what Mistral's API takes, also behind another cloud."""
        name = self.model.rpartition("/")[2]
        return self.provider == "mistral" or (self.provider in ("vertex_ai", "azure_ai") and bool(_MISTRAL.match(name)))

    @property
    def takes_pdfs(self) -> bool:
        """Whether the API has a place for a PDF."""
        return self.provider != "ollama" and self.api != "cohere" and not self.is_mistral

    @property
    def takes_cache_points(self) -> bool:
        """Whether a request says what the provider is to cache. Elsewhere it caches by itself, or bills a request of
        its own for it."""
        if self.api == "anthropic":
            return bool(self.entry.get("supports_prompt_caching", not self.is_known))
        if self.api == "converse":  # which refuses one for a model without a cache
            return bool(self.entry.get("supports_prompt_caching"))
        return self.provider == "openrouter" and "claude" in self.model

    @property
    def takes_tool_choice(self) -> bool:
        """Whether the model can be told whether to call a tool; true where nobody knows."""
        return self.entry.get("supports_tool_choice") is not False or "tool_choice" in self.allowed

    @property
    def can_be_forced_to_call(self) -> bool:
        """Whether a tool call can be required of the model; true where nobody knows."""
        return self.entry.get("supports_forced_tool_use") is not False

    @property
    def thinks_always(self) -> bool:
        """Whether the model cannot be told not to think."""
        return bool(self.entry.get("thinking_always_on"))

    @property
    def takes_thinking_level(self) -> bool:
        """Whether a Gemini takes a level of thinking, and not a budget of tokens as the older ones do."""
        return BUDGETED_GEMINI.search(self.model.rpartition("/")[2]) is None


def allowed_by(deployment: Deployment) -> tuple[str, ...]:
    """The parameters that the deployment's `allowed_openai_params` name."""
    given = deployment.params.get("allowed_openai_params")
    return tuple(name for name in given if isinstance(name, str)) if isinstance(given, list | tuple) else ()
