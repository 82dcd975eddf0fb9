"""Renews the logins and tokens that some providers want, ahead of a call: LiteLLM would do it on the event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.to_thread

from konstruct_mcp.config.cloud_credentials import wants_login, wants_token
from konstruct_mcp.config.model import Deployment
from konstruct_mcp.providers.litellm.provider_call import CallSettings, call_settings
from konstruct_mcp.routing.outcomes import Fault, FaultKind

_log = logging.getLogger(__name__)

_MOST_AT_ONCE = 8
# Keys of litellm_params that tokens of Entra ID are fetched with.
_ENTRA_PARAMS = (
    *("tenant_id", "client_id", "client_secret", "azure_username", "azure_password", "azure_scope", "azure_ad_token"),
)
# What azure-identity and LiteLLM raise for a refusal; anything else is raised on the way there.
_REFUSED_BY_ENTRA = ("ClientAuthenticationError", "AzureOpenAIError")


class Logins:
    """The logins of a config's deployments. Each is renewed once for all calls that want it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """`variables` are those that the config sets in the environment."""
        self._variables = variables
        self._renewing: dict[str, asyncio.Future[Fault | None]] = {}  # by the deployment's id
        # Threads of their own: in those of the event loop LiteLLM makes the requests to most providers.
        self._threads = anyio.CapacityLimiter(_MOST_AT_ONCE)

    async def renew(self, deployment: Deployment) -> Fault | None:
        """Renew the login of a deployment, if it has one and it must be. Returns why there is none for a call."""
        if not (wants_login(deployment.model) or wants_token(deployment.model, deployment.params, os.environ.get)):
            return None
        if (renewing := self._renewing.get(deployment.id)) is None:
            renewing = self._renewing[deployment.id] = asyncio.ensure_future(
                anyio.to_thread.run_sync(
                    _renew,
                    deployment,
                    CallSettings.of(deployment, self._variables),
                    abandon_on_cancel=True,
                    limiter=self._threads,
                )
            )
            renewing.add_done_callback(lambda _: self._renewing.pop(deployment.id, None))
        return await asyncio.shield(renewing)


def _renew(deployment: Deployment, settings: CallSettings) -> Fault | None:
    """Renew a login; blocks meanwhile."""
    call_settings.set(settings)
    is_login = wants_login(deployment.model)
    try:
        if is_login:
            _renew_login(deployment.model)
        else:
            _renew_token(deployment.params)
    except Exception as error:
        refused = any(type(link).__name__ in _REFUSED_BY_ENTRA for link in (error, error.__cause__))
        _log.info("%s: no login: %s", deployment.name, type(error.__cause__ or error).__name__)
        if is_login:
            return Fault(FaultKind.AUTH, "its login is no longer good; log in again", sent=False)
        if refused:
            return Fault(FaultKind.AUTH, "Entra ID gives no token for these credentials", sent=False)
        return Fault(FaultKind.CONNECTION, "no token of Entra ID, which cannot be reached", sent=False)
    return None


def _renew_token(params: Mapping[str, Any]) -> None:
    """Have LiteLLM fetch a token of Entra ID, if the one it has is not good for the next call.

    Calls `get_azure_ad_token` of LiteLLM's `azure.common_utils`. Noticed by: `test_access.py`, Entra.

    Raises:
        Exception: whatever LiteLLM raises where there is none.
    """
    from litellm.llms.azure.common_utils import get_azure_ad_token
    from litellm.types.router import GenericLiteLLMParams

    # Here, as it is needed for such a login alone: no start has to wait for it.
    from konstruct_mcp.providers.litellm.patches.response_bounds import bound_token_responses

    bound_token_responses()
    get_azure_ad_token(GenericLiteLLMParams(**{key: params[key] for key in _ENTRA_PARAMS if key in params}))


def _renew_login(model: str) -> None:
    """Have LiteLLM renew a login to GitHub Copilot or ChatGPT, if it is not good for the next call.

    Calls the `Authenticator` of either. Noticed by: `test_access.py`, a login.

    Raises:
        Exception: whatever LiteLLM raises where the login is not good any more.
    """
    if model.startswith("github_copilot/"):
        from litellm.llms.github_copilot.authenticator import Authenticator as Copilot

        Copilot().get_api_key()
    else:
        from litellm.llms.chatgpt.authenticator import Authenticator as ChatGPT

        ChatGPT().get_access_token()
