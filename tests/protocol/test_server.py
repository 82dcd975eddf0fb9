"""What an assistant sees over MCP, in both protocol eras."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import litellm
import pytest
import yaml
from mcp import types
from mcp.shared.exceptions import MCPError
from support.default_groups import (
    ANTHROPIC_KEY,
    HELLO,
    KEYS,
    OPENAI_KEY,
    connected,
    default_groups,
    entry,
    opened,
    write,
)
from support.providers import Provider, Text
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

from konstruct_mcp import GroupStatus, Konstruct
from konstruct_mcp.core.messages import Message
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.results import Completion
from konstruct_mcp.gateway.caller import Caller


@pytest.fixture(params=["2026", "2025"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(anthropic: Provider, openai: Provider, ollama: Provider) -> dict[str, Any]:
    return default_groups(anthropic, openai, ollama)


def text(result: types.CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text


class TestTools:
    async def tools(self, era: str = "2025", name: str = "a client") -> list[dict[str, Any]]:
        info = types.Implementation(name=name, version="1")
        with Provider("ollama") as ollama:
            environ = {"OLLAMA_BASE_URL": ollama.url, "KONSTRUCT_FILE_ROOTS": "/nowhere"}  # so that files can be named
            async with (
                Konstruct.from_config(environ=environ) as konstruct,
                connected(konstruct, era, client_info=info) as client,
            ):
                listed = await client.list_tools()
        return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed.tools]

    async def test_the_schemas_are_as_committed_in_both_eras(self, snapshot: SnapshotAssertion) -> None:
        tools = await self.tools("2026")
        assert tools == snapshot(name="tools", extension_class=JSONSnapshotExtension)
        assert await self.tools("2025") == tools

    @pytest.mark.parametrize("name", ["a client", "codex-mcp-client"])
    async def test_together_they_cost_an_assistant_at_most_900_tokens(self, name: str) -> None:
        listed = json.dumps(await self.tools(name=name), separators=(",", ":"))
        encoding: Any = litellm.utils.encoding  # cl100k, from litellm's own copy: no network
        assert 100 < len(encoding.encode(listed)) <= 900

    async def test_the_schema_names_exactly_what_is_accepted_and_returned(self) -> None:
        complete, _ = await self.tools()
        assert set(complete["inputSchema"]["properties"]) == {
            field.alias or name for name, field in Request.model_fields.items()
        }
        message = complete["inputSchema"]["properties"]["messages"]["items"]
        assert set(message["properties"]) == set(Message.model_fields) - {"name"}  # taken, and seldom worth its tokens
        assert set(complete["outputSchema"]["properties"]) == {*Completion.__dataclass_fields__, "truncated"}
        assert complete["outputSchema"]["required"] == ["content"]  # a part of an answer that is read has no more

    async def test_each_group_is_in_the_enum_and_described_in_a_line(self) -> None:
        complete, listing = await self.tools()
        group = complete["inputSchema"]["properties"]["model_group"]
        assert group["enum"] == ["local", "fast", "economy", "balanced", "quality", "embedded"]
        assert group["default"] == "balanced"
        assert [line.partition(": ")[0] for line in group["description"].splitlines()] == group["enum"]
        assert listing["annotations"]["readOnlyHint"] is True

    async def test_a_group_that_cannot_be_called_is_marked(self, era: str, tmp_path: Path) -> None:
        models = [entry("set-up", {"model": "ollama/x"}), entry("claude", {"model": "anthropic/claude-sonnet-4-6"})]
        async with opened(tmp_path, {"model_list": models}, {}) as konstruct, connected(konstruct, era) as client:
            tools = await client.list_tools()
            instructions = client.instructions or ""
        group = tools.tools[0].input_schema["properties"]["model_group"]
        marks = [line.endswith(" (not set up)") for line in group["description"].splitlines()]
        assert marks == [False, True]
        assert instructions.count(" (not set up)\n") == 1

    async def test_instructions_say_when_to_use_which_group(self, era: str) -> None:
        async with Konstruct.from_config(environ={}) as konstruct, connected(konstruct, era) as client:
            instructions = client.instructions
        assert instructions is not None
        assert len(instructions.splitlines()) <= 10
        for name in ("local", "fast", "economy", "balanced", "quality", "embedded"):
            assert f"- {name}: " in instructions


class TestComplete:
    async def test_the_structure_and_the_text_are_the_same(
        self, era: str, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        ollama.script(Text("Grüße \N{WAVING HAND SIGN}"))
        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            result = await client.call_tool("complete", {"messages": HELLO})
        assert result.structured_content == json.loads(text(result))
        assert result.structured_content is not None
        assert result.structured_content["content"] == "Grüße \N{WAVING HAND SIGN}"
        assert "Grüße" in text(result)

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            ({}, "invalid_argument: messages: required, but missing"),
            ({"messages": []}, "invalid_argument: messages: should have at least 1 item, not 0"),
            ({"messages": HELLO, "stream": True}, "invalid_argument: stream: unknown field"),
            (
                {"messages": "Hello"},
                'invalid_argument: messages: should be a list of messages: [{"role": "user", "content": "…"}]',
            ),
            ({"messages": HELLO, "max_tokens": "9"}, "invalid_argument: max_tokens: should be a valid integer"),
            (
                {"messages": HELLO, "tenant_id": "no spaces"},
                "invalid_argument: tenant_id: should be 1 to 128 letters, digits or any of . _ : @ -",
            ),
            (
                {"messages": HELLO, "model_group": "fats"},
                'unknown_group: no group "fats"; did you mean fast? groups: balanced, fast, quality',
            ),
        ],
        ids=lambda value: str(value)[:40],
    )
    async def test_bad_arguments_are_tool_errors_that_name_the_field(
        self, era: str, config: dict[str, Any], tmp_path: Path, ollama: Provider, arguments: dict[str, Any], line: str
    ) -> None:
        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            result = await client.call_tool("complete", arguments)
        assert (result.is_error, text(result), result.structured_content) == (True, line, None)
        assert ollama.calls == 0

    async def test_strings_that_look_like_json_stay_strings(
        self, era: str, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            for said in ('{"a": 1}', "null", "5"):
                arguments = {"messages": [{"role": "user", "content": said}], "model_group": None, "tenant_id": None}
                assert not (await client.call_tool("complete", arguments)).is_error
                assert ollama.requests[-1].body["messages"][0]["content"] == said

    async def test_an_unknown_tool_is_a_protocol_error(self, era: str, config: dict[str, Any], tmp_path: Path) -> None:
        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            with pytest.raises(MCPError, match="Unknown tool: nope; tools: complete, list_groups"):
                await client.call_tool("nope", {})
            with pytest.raises(MCPError, match=re.escape("Unknown tool: ?[2J?x; tools: complete, list_groups")):
                await client.call_tool("\x1b[2J\u202ex", {})


class TestListGroups:
    async def test_it_tells_all_that_a_choice_needs(self, era: str, config: dict[str, Any], tmp_path: Path) -> None:
        priced = {"model": "openai/own", "api_base": "http://127.0.0.1:9/v1", "api_key": "k", "rpm": 5}
        config["model_list"].append(
            entry("quality", priced, order=3, input_cost_per_token="2e-7", output_cost_per_token=4e-7)
            | {"model_info": {"max_input_tokens": 5000, "supports_vision": True}}
        )
        async with (
            opened(tmp_path, config, {"OPENAI_API_KEY": OPENAI_KEY}) as konstruct,
            connected(konstruct, era) as client,
        ):
            result = await client.call_tool("list_groups", {})
        assert result.structured_content is not None
        assert result.structured_content == json.loads(text(result))
        assert result.structured_content["default_group"] == "balanced"
        quality = next(g for g in result.structured_content["groups"] if g["name"] == "quality")
        claude, gpt, own = quality.pop("deployments")
        assert quality == {
            "name": "quality",
            "description": "anthropic/claude-sonnet-4-6, then openai/gpt-4o, then openai/own",
            "fallbacks": ["fast"],
        }
        assert claude == {
            "model": "anthropic/claude-sonnet-4-6",
            "state": "unavailable",
            "reason": "ANTHROPIC_API_KEY is not set",
            "input_usd_per_million": 3,
            "output_usd_per_million": 15,
            "context_window": 1_000_000,
            "max_output_tokens": 128_000,
            "supports": ["tools", "vision", "pdf", "structured_output"],
        }
        assert (gpt["state"], "reason" in gpt) == ("ready", False)
        assert own == {
            "model": "openai/own",
            "state": "ready",
            "input_usd_per_million": 0.2,
            "output_usd_per_million": 0.4,
            "context_window": 5000,
            "max_output_tokens": None,
            "supports": ["vision"],
        }

    async def test_it_takes_no_arguments(self, era: str, config: dict[str, Any], tmp_path: Path) -> None:
        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            result = await client.call_tool("list_groups", {"verbose": True})
        assert (result.is_error, text(result)) == (
            True,
            "invalid_argument: verbose: unknown field; list_groups takes none",
        )


class TestResources:
    async def read(self, client: Any, uri: str) -> tuple[str, str]:
        (contents,) = (await client.read_resource(uri)).contents
        assert isinstance(contents, types.TextResourceContents)
        return str(contents.mime_type), contents.text

    async def test_they_are_listed(self, era: str, config: dict[str, Any], tmp_path: Path) -> None:
        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            assert [str(r.uri) for r in (await client.list_resources()).resources] == [
                "konstruct://groups",
                "konstruct://usage",
                "konstruct://config",
            ]
            templates = (await client.list_resource_templates()).resource_templates
            assert [t.uri_template for t in templates] == [
                "konstruct://groups/{name}",
                "konstruct://usage/{tenant_id}",
                "konstruct://completions/{id}",
            ]

    async def test_groups_are_what_the_tool_lists(self, era: str, config: dict[str, Any], tmp_path: Path) -> None:
        config["model_list"].append(entry("a/b ü", {"model": "ollama/x"}))
        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            listed = (await client.call_tool("list_groups", {})).structured_content
            assert listed is not None
            mime_type, body = await self.read(client, "konstruct://groups")
            assert (mime_type, json.loads(body)) == ("application/json", listed)
            _, body = await self.read(client, "konstruct://groups/quality")
            assert json.loads(body) == next(g for g in listed["groups"] if g["name"] == "quality")
            _, body = await self.read(client, "konstruct://groups/a%2Fb%20%C3%BC")
            assert json.loads(body)["name"] == "a/b ü"

    @pytest.mark.parametrize(
        ("uri", "message"),
        [
            ("konstruct://groups/nope", 'unknown_group: no group "nope"; groups: balanced, fast, quality'),
            ("konstruct://groups/", 'unknown_group: no group ""'),
            ("konstruct://nope", "Unknown resource"),
            ("file:///etc/passwd", "Unknown resource"),
        ],
    )
    async def test_unknown_ones_are_refused(
        self, era: str, config: dict[str, Any], tmp_path: Path, uri: str, message: str
    ) -> None:
        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            with pytest.raises(MCPError, match=message):
                await client.read_resource(uri)

    async def test_the_config_is_shown_with_every_secret_masked(
        self, era: str, config: dict[str, Any], tmp_path: Path
    ) -> None:
        config["model_list"].append(
            entry(
                "other",
                {
                    "model": "openai/own",
                    "api_base": "http://user:hunter2@127.0.0.1:9/v1?token=hunter2",
                    "api_key": "sk-literal-secret",
                    "extra_headers": {"authorization": "Bearer hunter2"},
                },
            )
        )
        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            mime_type, body = await self.read(client, "konstruct://config")
        assert mime_type == "application/yaml"
        for secret in (ANTHROPIC_KEY, OPENAI_KEY, "hunter2", "sk-literal-secret", str(tmp_path)):
            assert secret not in body
        shown = yaml.safe_load(body)
        assert shown["konstruct"]["default_group"] == "balanced"
        assert shown["model_list"][-2]["litellm_params"]["api_key"] == "os.environ/OPENAI_API_KEY"

    @pytest.mark.parametrize(
        ("typed", "offered"),
        [("", ["fast", "balanced", "quality", "a%2Fb"]), ("QU", ["quality"]), ("a", ["a%2Fb"]), ("x", [])],
    )
    async def test_the_name_of_a_group_is_completed(
        self, era: str, config: dict[str, Any], tmp_path: Path, typed: str, offered: list[str]
    ) -> None:
        config["model_list"].append(entry("a/b", {"model": "ollama/x"}))
        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            template = types.ResourceTemplateReference(uri="konstruct://groups/{name}")
            result = await client.complete(template, {"name": "name", "value": typed})
            assert (result.completion.values, result.completion.total) == (offered, len(offered))
            other = await client.complete(template, {"name": "other", "value": ""})
            assert other.completion.values == []


class TestDefects:
    """Of ours, or of whatever gives a `Konstruct` its answers: one call fails, the connection lives."""

    async def failing(self, era: str, path: Path, error: BaseException) -> Any:
        class Failing(Konstruct):
            def groups(self, *, caller: Caller | None = None) -> list[GroupStatus]:
                raise error

        async with Failing.from_config(path, environ=KEYS) as konstruct, connected(konstruct, era) as client:
            try:
                outcome: Any = await client.call_tool("list_groups", {})
            except MCPError as refusal:
                outcome = refusal
            assert not (await client.call_tool("complete", {"messages": HELLO})).is_error
            return outcome

    async def test_an_exception_is_one_line_without_its_text(
        self, era: str, config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        result = await self.failing(era, write(tmp_path, config), RuntimeError("the inner workings"))
        assert (result.is_error, text(result)) == (
            True,
            "internal: a defect in konstruct_mcp; its log has the details",
        )
        assert "the inner workings" in caplog.text

    async def test_a_stray_cancellation_is_an_error_of_one_call(
        self, era: str, config: dict[str, Any], tmp_path: Path
    ) -> None:
        refusal = await self.failing(era, write(tmp_path, config), asyncio.CancelledError())
        assert str(refusal) == "internal: the call was broken off inside the server"


async def test_a_call_that_the_client_cancels_is_answered_by_nobody_and_leaves_the_rest_alone(
    era: str, config: dict[str, Any], tmp_path: Path, ollama: Provider
) -> None:
    from support.providers import Hang

    ollama.script(Hang())
    async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
        call = asyncio.create_task(client.call_tool("complete", {"messages": HELLO}))
        await ollama.until(lambda: ollama.in_flight == 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await ollama.until(lambda: ollama.disconnected == 1)
        ollama.script(Text("still here"))
        result = await client.call_tool("complete", {"messages": HELLO})
    assert result.structured_content is not None
    assert result.structured_content["content"] == "still here"
