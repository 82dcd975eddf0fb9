"""Patches of how LiteLLM logs in to providers."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from konstruct_mcp.config.packages import installed
from konstruct_mcp.providers.litellm.patches.wrapping import skip_for_ours
from konstruct_mcp.providers.litellm.provider_call import call_settings

_MOST_LOGINS = 256  # that are kept


def forbid_interactive_logins() -> None:
    """Never ask a person to log in, in a call or when a model's provider is looked up.

    LiteLLM prints a code and waits for minutes, on the event loop. A login that somebody has made is used and renewed.

    Wraps: `github_copilot.Authenticator._login`; `chatgpt.Authenticator._login_device_code` and
    `_wait_for_access_token`.
    Noticed by: `test_access.py`, a login.
    """
    from litellm.llms.chatgpt import authenticator as chatgpt
    from litellm.llms.github_copilot import authenticator as github_copilot
    from litellm.llms.github_copilot.common_utils import GetAccessTokenError

    def refuse() -> None:
        raise GetAccessTokenError(message="not logged in", status_code=401)

    copilot: Any = github_copilot.Authenticator
    copilot._login = skip_for_ours(copilot._login, refuse)
    openai: Any = chatgpt.Authenticator
    openai._login_device_code = skip_for_ours(openai._login_device_code, refuse)
    openai._wait_for_access_token = skip_for_ours(openai._wait_for_access_token)


class _AzureToken:
    """A token of Entra ID for Azure, and the function that fetches it, which blocks.

    On the event loop, a call of ours gets the token that `litellm/logins.py` has fetched before.
    """

    def __init__(self, fetch: Callable[[], str]) -> None:
        self._fetch = fetch
        self._held: str | None = None

    def __call__(self) -> str:
        if self._held is None or call_settings.get() is None or not _is_on_loop():
            self._held = self._fetch()
        return self._held


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def keep_azure_tokens() -> None:
    """Keep what LiteLLM fetches tokens of Entra ID with.

    It makes that anew for each call through the Responses API, and fetches a token with it.

    Wraps: `get_azure_ad_token_from_entra_id` and `get_azure_ad_token_from_username_password` of `azure.common_utils`.
    Noticed by: `test_access.py`, Entra.
    """
    from litellm.llms.azure import common_utils

    module: Any = common_utils

    def keeping(make: Callable[..., Callable[[], str]]) -> Callable[..., Callable[[], str]]:
        kept = functools.lru_cache(maxsize=_MOST_LOGINS)(lambda *args, **named: _AzureToken(make(*args, **named)))

        @functools.wraps(make)
        def made(*args: Any, **named: Any) -> Callable[[], str]:
            return make(*args, **named) if call_settings.get() is None else kept(*args, **named)

        return made

    for name in ("get_azure_ad_token_from_entra_id", "get_azure_ad_token_from_username_password"):
        setattr(module, name, keeping(getattr(module, name)))


def log_in_to_azure_v1() -> None:
    """Log in to Azure's v1 API as to the older ones.

    LiteLLM makes OpenAI's client for it without a token, and that client takes OpenAI's own key from the environment
    and shows it to Azure.

    Wraps: `BaseAzureLLM.initialize_azure_sdk_client`.
    Noticed by: `test_isolation.py`, `v1`.
    """
    from litellm.llms.azure.common_utils import BaseAzureLLM

    loose: Any = BaseAzureLLM
    initialize = loose.initialize_azure_sdk_client

    @functools.wraps(initialize)
    def initialized(self: Any, *args: Any, **named: Any) -> dict[str, Any]:
        made: dict[str, Any] = initialize(self, *args, **named)
        if (
            call_settings.get() is not None
            and not made["api_key"]
            and self._is_azure_v1_api_version(made["api_version"])
        ):
            fetch = made["azure_ad_token_provider"]

            async def token() -> str:
                return str(fetch())

            made["api_key"] = made["azure_ad_token"] or "" if fetch is None else token
        return made

    loose.initialize_azure_sdk_client = initialized


class _PerAccount:
    """Stands in for a cache of LiteLLM's: one cache for each account.

    LiteLLM has one for all who ask, with keys that do not hold all that tells accounts apart.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._of = functools.lru_cache(maxsize=_MOST_LOGINS)(lambda _account: make())

    @property
    def _own(self) -> Any:
        settings = call_settings.get()
        return self._of(None if settings is None else settings.account)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __contains__(self, key: Any) -> bool:
        return key in self._own

    def __getitem__(self, key: Any) -> Any:
        return self._own[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._own[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._own[key]


def separate_logins() -> None:
    """Use for no deployment what was fetched with another's credentials.

    LiteLLM's caches know GigaChat's tokens by the first letters of their key and its files by nothing of it, Entra's
    tokens without their scope, and others without what the environment has set.

    Replaces: `azure_ad_cache`, GigaChat's `_token_cache` and `_file_cache`, watsonx's `iam_token_cache`,
    `BaseAWSLLM.iam_cache`, `VertexBase._credentials_project_mapping`. Look for more of them in each new version:
    `grep -rnE "_cache|_mapping" litellm/llms`.
    Noticed by: `test_isolation.py`, two that differ in one credential.
    """
    from litellm.caching.dual_cache import DualCache
    from litellm.caching.in_memory_cache import InMemoryCache
    from litellm.llms.azure import common_utils as azure
    from litellm.llms.bedrock.base_aws_llm import BaseAWSLLM
    from litellm.llms.gigachat import authenticator, file_handler
    from litellm.llms.vertex_ai.vertex_llm_base import VertexBase
    from litellm.llms.watsonx import common_utils as watsonx

    places: list[tuple[Any, str, Callable[[], Any]]] = [
        (azure, "azure_ad_cache", DualCache),
        (authenticator, "_token_cache", InMemoryCache),
        (file_handler, "_file_cache", dict),
        (watsonx, "iam_token_cache", InMemoryCache),
        (BaseAWSLLM, "iam_cache", DualCache),  # each object assigns one of its own
        (VertexBase, "_credentials_project_mapping", dict),
    ]
    for place, name, make in places:
        cache = _PerAccount(make)
        setattr(place, name, _fixed(cache) if isinstance(place, type) else cache)


def _fixed(value: object) -> property:
    """An attribute that has this value and ignores what is assigned to it."""
    return property(lambda _: value, lambda *_: None)


def skip_google_sdk() -> None:
    """Ask Claude on Vertex AI without Google's SDK, half a gigabyte of which LiteLLM only tries whether it is there.

    Where it is installed nothing changes. Where it is not, a stand-in can be imported while LiteLLM tries, and not
    afterwards.

    Wraps: `VertexAIPartnerModels.completion`.
    Noticed by: `test_wire_table.py` and `test_ending_table.py`, Vertex Claude.
    """
    if installed("vertexai"):
        return
    from litellm.llms.vertex_ai.vertex_ai_partner_models.main import VertexAIPartnerModels

    name = "vertexai"
    stand_in: Any = ModuleType(name, "Stands in for an SDK that is not used.")
    stand_in.__spec__ = ModuleSpec(name, None)
    stand_in.preview = stand_in
    lock, inside = threading.Lock(), 0

    loose: Any = VertexAIPartnerModels
    complete = loose.completion

    @functools.wraps(complete)
    def completion(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if call_settings.get() is None:
            return complete(*args, **kwargs)
        with lock:
            inside += 1
            sys.modules.setdefault(name, stand_in)
        try:
            return complete(*args, **kwargs)  # runs in a thread; the coroutine that it returns does not try
        finally:
            with lock:
                inside -= 1
                if not inside and sys.modules.get(name) is stand_in:
                    del sys.modules[name]

    loose.completion = completion
