"""What the sections of LiteLLM say for every deployment, which holds where a deployment itself says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from konstruct_mcp.config.litellm_keys import TAKE_THE_GENERAL_ADDRESS, is_provider_key, is_without_effect
from konstruct_mcp.config.model import COOLDOWN_S, NUM_RETRIES, TRY_TIMEOUT_S
from konstruct_mcp.config.param_checks import is_true
from konstruct_mcp.config.sections import LiteLLMSettings, RouterSettings

_GENERAL = ("api_base", "api_key", "api_version", "organization")
_VERTEX = ("vertex_project", "vertex_location")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for a deployment that says nothing else.

    Attributes:
        timeout_s: what one try may take, in seconds.
        num_retries: further tries after the first.
        cooldown_s: how long a deployment is passed over after failing too often, in seconds.
        max_parallel_requests: None for no limit.
        params: litellm_params of every deployment.
        general: those of the providers that have no address of their own.
        vertex: those of Google's Vertex.
        keys: provider → its API key.
    """

    timeout_s: float = TRY_TIMEOUT_S
    num_retries: int = NUM_RETRIES
    cooldown_s: float = COOLDOWN_S
    max_parallel_requests: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    general: Mapping[str, Any] = field(default_factory=dict)
    vertex: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    def of(self, provider: str) -> dict[str, Any]:
        """The litellm_params of a provider's deployments."""
        found = dict(self.params)
        if provider in TAKE_THE_GENERAL_ADDRESS:
            found |= self.general
        if provider in self.keys:
            found["api_key"] = self.keys[provider]
        if provider.startswith("vertex_ai"):
            found |= self.vertex
        return found


def defaults_of(router: RouterSettings, litellm: LiteLLMSettings) -> Defaults:
    """What `router_settings` and `litellm_settings` say; where both say something, the first counts."""
    params = {key: value for key, value in router.default_litellm_params.items() if not is_without_effect(key)}
    if is_true(litellm.drop_params):
        params.setdefault("drop_params", True)
    if litellm.ssl_verify is not None:
        params.setdefault("ssl_verify", litellm.ssl_verify)

    def given(keys: Iterable[str]) -> dict[str, Any]:
        return {key: value for key in keys if (value := getattr(litellm, key)) is not None}

    keys = {
        key.removesuffix("_key"): value
        for key, value in (litellm.model_extra or {}).items()
        if is_provider_key(key) and isinstance(value, str)
    }
    return Defaults(
        router.timeout or litellm.request_timeout or TRY_TIMEOUT_S,
        setting(router, litellm, "num_retries", NUM_RETRIES),
        setting(router, litellm, "cooldown_time", COOLDOWN_S),
        router.default_max_parallel_requests,
        params,
        given(_GENERAL),
        given(_VERTEX),
        keys,
    )


def setting(router: RouterSettings, litellm: LiteLLMSettings, name: str, default: Any) -> Any:
    """A setting that both sections may have: that of `router_settings`, else that of `litellm_settings`."""
    given = (getattr(router, name), getattr(litellm, name))
    return next((value for value in given if value is not None), default)
