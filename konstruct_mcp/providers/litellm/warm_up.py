"""A first call in each way in which deployments are asked, answered in memory: LiteLLM imports much of itself then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from konstruct_mcp.providers.litellm.provider_call import CallSettings, call_settings
from konstruct_mcp.providers.litellm.router_entries import OLLAMA

if TYPE_CHECKING:
    import httpx

_MODELS: list[dict[str, Any]] = [
    {"model_name": "openai", "litellm_params": {"model": "openai/warm-up", "api_key": "none"}},
    {"model_name": "anthropic", "litellm_params": {"model": "anthropic/warm-up", "api_key": "none"}},
    {"model_name": "ollama", "litellm_params": {"model": f"{OLLAMA}/warm-up", "api_base": "http://none"}},
]
_NO_TOKENS_OPENAI = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_NO_TOKENS_ANTHROPIC = {"input_tokens": 0, "output_tokens": 0}


async def warm_up(
    make_router: Callable[[list[dict[str, Any]]], Any], settings: Iterable[CallSettings], servers: Any
) -> None:
    """Make one call for each of these settings, through a transport that has no socket."""
    import httpx
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    router = make_router(_MODELS)
    async with httpx.AsyncClient(transport=httpx.MockTransport(_answer)) as http:
        handler = AsyncHTTPHandler()
        await handler.client.aclose()
        handler.client = http
        for one in settings:
            client: Any = handler
            if one.format == "openai" and not one.without_openais_client:
                import openai  # whose client takes 14 MB

                client = openai.AsyncOpenAI(api_key="none", http_client=http)
            call_settings.set(one)
            messages = [{"role": "user", "content": ""}]
            more: dict[str, Any] = {}
            if one.format == "ollama":
                more = {"body": {"model": "warm-up", "messages": messages}, "servers": servers}
            await router.acompletion(model=one.format, messages=messages, client=client, metadata={}, **more)


def _answer(request: httpx.Request) -> httpx.Response:
    """An empty answer in the format that is asked in."""
    import httpx

    if request.url.path == "/api/chat":
        return httpx.Response(200, json={"message": {"role": "assistant", "content": ""}, "done": True})
    body: dict[str, Any] = {"id": "", "model": ""}
    if request.url.path.endswith("/messages"):
        block = {"type": "text", "text": ""}
        body |= {"type": "message", "role": "assistant", "content": [block]}
        return httpx.Response(200, json=body | {"stop_reason": "end_turn", "usage": _NO_TOKENS_ANTHROPIC})
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ""}}
    body |= {"object": "chat.completion", "created": 0, "choices": [choice]}
    return httpx.Response(200, json=body | {"usage": _NO_TOKENS_OPENAI})
