"""What the libraries alone cost: MCP servers with one tool, `complete`, on the SDK's low-level `Server` and its stdio.

    python -c 'from floors import main; main()' http|router MODEL URL

`http` posts with httpx, `router` asks a LiteLLM Router that was told to be quiet. Neither checks an argument, falls
back, keeps an account or answers for what can go wrong: what they take, any such server takes.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp import types
from mcp.server import Server
from mcp.server.stdio import stdio_server

Ask = Callable[[dict[str, Any]], Awaitable[str]]


def asks_with_httpx(model: str, url: str) -> Ask:
    """A post, and the text of what came back."""
    wire, _, name = model.partition("/")
    path, key = ("/v1/messages", "x-api-key") if wire == "anthropic" else ("/chat/completions", "authorization")

    @functools.cache
    def client() -> Any:
        import httpx  # not at the start, which is also measured, of a server that does nothing yet

        # As many connections as there are calls: one that waits for another is not what is measured.
        return httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None))

    async def ask(arguments: dict[str, Any]) -> str:
        body = {"model": name, "messages": arguments["messages"], "max_tokens": arguments["max_tokens"]}
        response = await client().post(url + path, json=body, headers={key: "Bearer sk-bench"})
        answer = response.raise_for_status().json()
        text: str = answer["content"][0]["text"] if wire == "anthropic" else answer["choices"][0]["message"]["content"]
        return text

    return ask


def asks_with_router(model: str, url: str) -> Ask:
    """A call of a Router, and the text of its answer."""
    import logging
    import os

    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True"}
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    import litellm

    loose: Any = litellm  # whose types are neither complete nor exported
    loose.suppress_debug_info = True
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    params = {"model": model, "api_base": url, "api_key": "sk-bench", "max_retries": 0}
    router = loose.Router(model_list=[{"model_name": "fake", "litellm_params": params}], num_retries=2)

    async def ask(arguments: dict[str, Any]) -> str:
        response = await router.acompletion(
            model="fake", messages=arguments["messages"], max_tokens=arguments["max_tokens"]
        )
        text: str = response.choices[0].message.content
        return text

    return ask


def serve(ask: Ask) -> None:
    tool = types.Tool(name="complete", input_schema={"type": "object"})

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool])

    async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            answer = {"content": await ask(params.arguments or {})}
        except Exception as error:
            return types.CallToolResult(content=[types.TextContent(type="text", text=str(error))], is_error=True)
        text = types.TextContent(type="text", text=json.dumps(answer))
        return types.CallToolResult(content=[text], structured_content=answer)

    server: Server[Any] = Server("floor", on_list_tools=list_tools, on_call_tool=call_tool)

    async def run() -> None:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    anyio.run(run)


def main() -> None:
    kind, model, url = sys.argv[1:]
    serve(asks_with_httpx(model, url) if kind == "http" else asks_with_router(model, url))
