"""Makes Ollama's own format one of LiteLLM's providers."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from konstruct_mcp.providers.litellm.ollama.answers import attach_notes
from konstruct_mcp.providers.litellm.router_entries import OLLAMA


def register_ollama(litellm: Any) -> None:
    """Put the provider on LiteLLM's list, if it is not there: the program around us may have replaced that list."""
    if all(entry["provider"] != OLLAMA for entry in litellm.custom_provider_map):
        litellm.custom_provider_map.append({"provider": OLLAMA, "custom_handler": _provider()})
        litellm.utils.custom_llm_setup()


@functools.cache
def _provider() -> Any:
    """One for a process. Each call brings what it needs: the request's body, and what is known of the servers."""
    from litellm.llms.custom_httpx.http_handler import get_async_httpx_client
    from litellm.llms.custom_llm import CustomLLM
    from litellm.types.utils import LlmProviders

    class Ollama(CustomLLM):
        async def acompletion(self, *args: Any, **call: Any) -> Any:
            client = call["client"] or get_async_httpx_client(LlmProviders.OLLAMA)
            headers = dict(call["headers"] or {})
            if key := call["api_key"]:  # Ollama itself asks for none; a gateway before it may
                headers.setdefault("Authorization", f"Bearer {key}")
            base = call["api_base"]

            async def ask(path: str, payload: Mapping[str, Any] | None) -> Any:
                if payload is None:
                    response = await client.get(base + path, headers=headers)
                    response.raise_for_status()
                else:
                    content = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                    response = await client.post(
                        base + path,
                        data=content,
                        headers=headers | {"Content-Type": "application/json"},
                        timeout=call["timeout"],
                    )
                return response.json()

            call["logging_obj"].pre_call(input=call["messages"], api_key="")  # as for any other provider
            given = call["optional_params"]
            answer, notes = await given["servers"].chat(base, headers, given["body"], ask)
            response = type(call["model_response"])(**answer)
            attach_notes(response, notes)
            return response

    return Ollama()


class UnloggedBody(dict[str, Any]):
    """A body that is not written out in LiteLLM's log messages, which nobody reads."""

    def __repr__(self) -> str:
        return "{…}"
