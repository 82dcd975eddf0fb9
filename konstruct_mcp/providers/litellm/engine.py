"""LiteLLM, imported and made quiet, with one Router that has a private group for each deployment.

LiteLLM's own retries, cooldowns and fallbacks are off: which deployment is asked next, and how often, is decided in
`routing`. No type of LiteLLM's leaves this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import anyio

from konstruct_mcp.config.model import Deployment, entry
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.threads import LoopThread
from konstruct_mcp.providers.litellm.ollama.servers import OllamaServers
from konstruct_mcp.providers.litellm.ollama_provider import UnloggedBody, register_ollama
from konstruct_mcp.providers.litellm.outgoing import OutgoingRequest
from konstruct_mcp.providers.litellm.patches.install import install
from konstruct_mcp.providers.litellm.provider_call import CallSettings, ProviderCall, call_settings, provider_call
from konstruct_mcp.providers.litellm.router_entries import litellm_params
from konstruct_mcp.providers.litellm.set_up import set_environment, silence
from konstruct_mcp.providers.litellm.warm_up import warm_up

_MOST_ASKED = 4  # times in one try, each with less of what was refused: providers name one parameter at a time
_CLOSING_S = 1.0  # for the connections of the loop beside the main one to be closed


class Engine:
    """LiteLLM for the deployments of one config. Building it blocks for seconds: build it off the event loop.

    Attributes:
        is_first: whether it has imported LiteLLM, which nobody in this process had done before.
    """

    # Those that have asked somebody and are not closed since. The last of them closes what all share.
    _open: ClassVar[set[Engine]] = set()
    _aside: ClassVar[LoopThread] = LoopThread()  # the event loop for large requests, beside the main one

    def __init__(self, deployments: Iterable[Deployment], servers: OllamaServers, variables: Mapping[str, str]) -> None:
        """`variables` are those that the config sets in the environment."""
        deployments = list(deployments)
        self.is_first = "litellm" not in sys.modules
        set_environment()
        import litellm

        self._litellm: Any = litellm  # whose types are neither complete nor exported
        silence(litellm)
        register_ollama(litellm)
        install()
        self._servers = servers
        self._settings = {deployment.id: CallSettings.of(deployment, variables) for deployment in deployments}
        # Set for the thread that builds this: to look up a provider is enough for LiteLLM to ask for a login.
        call_settings.set(CallSettings(format="openai", on_loop=False, without_openais_client=False))
        self._speaks_openais = {deployment.id: _speaks_openais(litellm, deployment) for deployment in deployments}
        self._router = self._make_router(
            [
                {"model_name": deployment.id, "litellm_params": litellm_params(deployment, entry(deployment))}
                for deployment in deployments
            ]
        )

    def _make_router(self, model_list: list[dict[str, Any]]) -> Any:
        return self._litellm.Router(
            model_list=model_list,
            routing_strategy="simple-shuffle",  # over groups of one: the cheapest way to no choice at all
            num_retries=0,
            max_fallbacks=0,
            disable_cooldowns=True,
            ignore_invalid_deployments=True,  # one whose provider is unknown fails when it is asked, and it alone
        )

    def warm_up(self) -> None:
        """Make the first call of this process, so that nobody waits for what it imports. Where somebody else has used
        LiteLLM already, perhaps on another event loop, that would be disturbed: then nothing is done."""
        Request.parse({"messages": [{"role": "user", "content": ""}]})  # takes milliseconds the first time
        if self.is_first:
            asyncio.run(warm_up(self._make_router, set(self._settings.values()), self._servers))

    async def ask(self, outgoing: OutgoingRequest, tenant: str, address: Mapping[str, str], call: ProviderCall) -> Any:
        """Ask a deployment, and again where it refuses something that can be left out.

        A large request is asked on an event loop of its own, which may be busy with it for long.

        Args:
            address: `api_base` and `api_key`, for a deployment whose server is started on first use.
            call: is told what becomes of the HTTP request and response.

        Returns:
            What LiteLLM returns.

        Raises:
            Exception: what LiteLLM raises.
        """
        asking = self._ask(outgoing, tenant, address, call)
        return await (self._aside.run(asking) if outgoing.request.is_large else asking)

    async def _ask(self, outgoing: OutgoingRequest, tenant: str, address: Mapping[str, str], call: ProviderCall) -> Any:
        asked = 0
        while True:
            try:
                return await self._ask_once(outgoing, tenant, address, call)
            except Exception as error:
                asked += 1
                if asked == _MOST_ASKED or not outgoing.adapt(error, call):
                    raise

    async def _ask_once(
        self, outgoing: OutgoingRequest, tenant: str, address: Mapping[str, str], call: ProviderCall
    ) -> Any:
        self._open.add(self)
        deployment, final = outgoing.deployment, outgoing.final()
        call_settings.set(self._settings[deployment.id])
        call.begin(final.shape if final.is_shaped else None, final.outputs)
        provider_call.set(call)
        if deployment.model.startswith("ollama/"):
            register_ollama(self._litellm)
            options: dict[str, Any] = {"body": UnloggedBody(final.body), "servers": self._servers}
        else:
            options = final.options | outgoing.passed.litellm()
        return await self._router.acompletion(
            model=deployment.id,
            messages=final.messages,
            # LiteLLM writes into it, so each call gets its own.
            metadata={"tenant_id": tenant},
            **options,
            **address,
        )

    def speaks_openais(self, deployment: Deployment) -> bool:
        """Whether LiteLLM asks its provider in OpenAI's format."""
        return self._speaks_openais[deployment.id]

    def take_over(self, earlier: Engine) -> None:
        """Use and close the connections of an earlier engine, which asks nobody any more."""
        earlier.forget()
        if earlier in self._open:
            self._open.discard(earlier)
            self._open.add(self)

    def forget(self) -> None:
        """Take it off LiteLLM's global lists, by which it is told how every call in this process went. It can still be
        asked."""
        self._router.discard()

    async def aclose(self) -> None:
        """Close LiteLLM's connections, which all engines of a process share, if this is the last one that is open."""
        self.forget()
        if self not in self._open:
            return
        self._open.discard(self)
        if self._open:
            return
        if self._aside.is_running:
            with anyio.move_on_after(_CLOSING_S):
                await self._aside.run(self._close_clients(of_loop=True))
            self._aside.stop()
        await self._close_clients()
        self._litellm.in_memory_llm_clients_cache.flush_cache()  # else a closed one is handed to the next on this loop

    async def _close_clients(self, *, of_loop: bool = False) -> None:
        """Close all of LiteLLM's connections, or only those that were opened on the running loop."""
        import openai

        clients = self._litellm.in_memory_llm_clients_cache.cache_dict
        loop = str(id(asyncio.get_running_loop()))  # as it is in LiteLLM's keys
        for key, client in list(clients.items()):
            if isinstance(client, openai.AsyncOpenAI) and (not of_loop or loop in key):
                await client.close()  # which LiteLLM's own clean-up does not
            if of_loop and loop in key:
                if (close := getattr(getattr(client, "client", None), "aclose", None)) is not None:
                    with contextlib.suppress(Exception):
                        await close()
                clients.pop(key, None)
        if not of_loop:
            await self._litellm.close_litellm_async_clients()


def _speaks_openais(litellm: Any, deployment: Deployment) -> bool:
    provider, _, model = deployment.model.partition("/")
    try:
        config = litellm.utils.ProviderConfigManager.get_provider_chat_config(model, litellm.LlmProviders(provider))
    except Exception:  # a provider that LiteLLM has no such config for, or one that was added to it, as ours
        return False
    return isinstance(config, litellm.OpenAIGPTConfig | litellm.OpenAIConfig)
