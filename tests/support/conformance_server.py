"""The product's MCP server, with the fixtures that the MCP conformance suite asks for: tools and resources.

    python conformance_server.py CONFIG

Says its URL on stdout, and serves until SIGTERM. A fixture is handled where the product's own tools are, so that it
passes through the product's middleware, its stream of events and its HTTP app. Of what the product does not offer
(prompts, sampling, elicitation, roots, tasks) there are no fixtures: they would show what the SDK can.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import ToolsListChanged
from mcp.shared.exceptions import MCPError

from konstruct_mcp import Konstruct
from konstruct_mcp.protocol.server import KonstructServer
from konstruct_mcp.transports.http.serve import listen, serve_http

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WAV = base64.b64encode(
    b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\0\0\0\0"
).decode()
MISSING_CAPABILITY = -32021  # of the specification: the client lacks what a request needs

NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
SCHEMAS: dict[str, dict[str, Any]] = {
    "test_custom_headers": {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
        "required": ["region"],
    },
    "json_schema_2020_12_tool": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
}
RESOURCES: dict[str, types.TextResourceContents | types.BlobResourceContents] = {
    "test://static-text": types.TextResourceContents(
        uri="test://static-text", mime_type="text/plain", text="This is the content of the static text resource."
    ),
    "test://static-binary": types.BlobResourceContents(uri="test://static-binary", mime_type="image/png", blob=PNG),
}
TEMPLATE = "test://template/{id}/data"

Context = ServerRequestContext[Any]


def text(words: str) -> types.TextContent:
    return types.TextContent(text=words)


def embedded(uri: str, mime_type: str, words: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(resource=types.TextResourceContents(uri=uri, mime_type=mime_type, text=words))


class ConformanceServer(KonstructServer):
    """A `KonstructServer` with the fixtures beside its own tools and resources."""

    def __init__(self, konstruct: Konstruct) -> None:
        super().__init__(konstruct)
        image = types.ImageContent(data=PNG, mime_type="image/png")
        self._answers: Mapping[str, list[types.ContentBlock]] = {
            "test_simple_text": [text("This is a simple text response for testing.")],
            "test_image_content": [image],
            "test_audio_content": [types.AudioContent(data=WAV, mime_type="audio/wav")],
            "test_embedded_resource": [
                embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
            ],
            "test_multiple_content_types": [
                text("Multiple content types test:"),
                image,
                embedded(
                    "test://mixed-content-resource", "application/json", json.dumps({"test": "data", "value": 123})
                ),
            ],
            "test_custom_headers": [text("The header says what the argument says.")],
            "json_schema_2020_12_tool": [text("The schema was taken as it is.")],
        }
        self._acting: Mapping[str, Callable[[Context], Awaitable[None]]] = {
            "test_error_handling": _fail,
            "test_tool_with_progress": _report_progress,
            "test_streaming_elicitation": _report_progress,  # the product asks its client nothing
            "test_logging_tool": _report_progress,  # the product logs nothing to its client
            "test_missing_capability": _need_sampling,
            "test_trigger_tool_change": self._change_tools,
        }
        self._beside("tools/list", self._list_tools)
        self._beside("tools/call", self._call_tool)
        self._beside("resources/list", self._list_resources)
        self._beside("resources/templates/list", self._list_templates)
        self._beside("resources/read", self._read_resource)
        schema_of = self.get_tool_input_schema
        if schema_of is not None:
            self.get_tool_input_schema = lambda name: SCHEMAS.get(name) or schema_of(name)

    def _beside(self, method: str, handler: Callable[[Any, Context, Any], Awaitable[Any]]) -> None:
        """Have a method handled by a handler that is given the product's own, too."""
        own = self.get_request_handler(method)
        assert own is not None

        async def handle(ctx: Context, params: Any) -> Any:
            return await handler(own.handler, ctx, params)

        self.add_request_handler(method, own.params_type, handle)

    async def _list_tools(self, own: Any, ctx: Context, params: Any) -> types.ListToolsResult:
        listed: types.ListToolsResult = await own(ctx, params)
        names = sorted([*self._answers, *self._acting])
        fixtures = [
            types.Tool(name=n, description=f"The fixture {n}.", input_schema=SCHEMAS.get(n, NOTHING)) for n in names
        ]
        return listed.model_copy(update={"tools": [*listed.tools, *fixtures]})

    async def _call_tool(self, own: Any, ctx: Context, params: types.CallToolRequestParams) -> Any:
        if answer := self._answers.get(params.name):
            return types.CallToolResult(content=answer)
        if act := self._acting.get(params.name):
            try:
                await act(ctx)
            except RuntimeError as error:
                return types.CallToolResult(content=[text(str(error))], is_error=True)
            return types.CallToolResult(content=[text("done")])
        return await own(ctx, params)

    async def _list_resources(self, own: Any, ctx: Context, params: Any) -> types.ListResourcesResult:
        listed: types.ListResourcesResult = await own(ctx, params)
        fixtures = [types.Resource(uri=uri, name=uri, description="A fixture.") for uri in RESOURCES]
        return listed.model_copy(update={"resources": [*listed.resources, *fixtures]})

    async def _list_templates(self, own: Any, ctx: Context, params: Any) -> types.ListResourceTemplatesResult:
        listed: types.ListResourceTemplatesResult = await own(ctx, params)
        fixture = types.ResourceTemplate(uri_template=TEMPLATE, name="template", description="A fixture.")
        return listed.model_copy(update={"resource_templates": [*listed.resource_templates, fixture]})

    async def _read_resource(self, own: Any, ctx: Context, params: types.ReadResourceRequestParams) -> Any:
        uri = str(params.uri)
        before, after = TEMPLATE.split("{id}")
        if fixture := RESOURCES.get(uri):
            return types.ReadResourceResult(contents=[fixture])
        if uri.startswith(before) and uri.endswith(after):
            number = uri.removeprefix(before).removesuffix(after)
            said = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
            content = types.TextResourceContents(uri=uri, mime_type="application/json", text=said)
            return types.ReadResourceResult(contents=[content])
        return await own(ctx, params)

    async def _change_tools(self, ctx: Context) -> None:
        """Tell those who listen that the tools have changed, on the bus on which the product does."""
        await self._notices.bus_of(None).publish(ToolsListChanged())


async def _fail(ctx: Context) -> None:
    raise RuntimeError("This tool intentionally returns an error for testing")


async def _report_progress(ctx: Context) -> None:
    for progress in (0, 50, 100):
        await ctx.session.report_progress(progress, 100)


async def _need_sampling(ctx: Context) -> None:
    if not ctx.session.check_client_capability(types.ClientCapabilities(sampling=types.SamplingCapability())):
        raise MCPError(MISSING_CAPABILITY, "this needs sampling", {"requiredCapabilities": {"sampling": {}}})


async def main(config: Path) -> None:
    async with Konstruct.from_config(config) as konstruct, anyio.create_task_group() as tasks:
        server, served = ConformanceServer(konstruct), anyio.Event()
        settings = konstruct.config.http
        listening = listen(settings)
        tasks.start_soon(server.follow_config, served)
        print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
        await serve_http(konstruct, server, settings, listening=listening)
        served.set()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
