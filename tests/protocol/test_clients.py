"""What each kind of client is given: results that it shows whole, and a way to the rest of a longer answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError
from support.databases import Database, sqlite
from support.default_groups import HELLO, connected, entry, opened, write
from support.fork_server import ForkServer
from support.http_process import HttpProcess
from support.priced_config import priced_config
from support.providers import Provider, Text
from support.stdio_lines import MODERN, ServerProcess

from konstruct_mcp import Konstruct
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.protocol.kept_answers import InMemoryKeptAnswers
from konstruct_mcp.protocol.server import KonstructServer

# What takes more room in JSON than in a text, and more in JSON that is in JSON.
CODE = 'for name in ("a", "b"):\n\tprint(f"{name}\\\\n")  # größer, 更大, \N{WAVING HAND SIGN}. Then on.\n' * 2000
PROSE = "".join(f"This is sentence number {n}. " for n in range(4000))


@pytest.fixture(params=["2026", "2025"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config(ollama: Provider, **konstruct: Any) -> dict[str, Any]:
    return {"model_list": [entry("g", {"model": "ollama/x", "api_base": ollama.url})], "konstruct": konstruct}


def named(konstruct: Konstruct, name: str, era: str) -> Any:
    return connected(konstruct, era, client_info=types.Implementation(name=name, version="1.2.3"))


async def complete(client: Client, **arguments: Any) -> types.CallToolResult:
    return await client.call_tool("complete", arguments or {"messages": HELLO})


def structure(result: types.CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return dict(result.structured_content)


def error(result: types.CallToolResult) -> str:
    assert result.is_error
    return texts(result)


def texts(result: types.CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, types.TextContent))


def links(result: types.CallToolResult) -> list[str]:
    return [block.uri for block in result.content if isinstance(block, types.ResourceLink)]


def as_javascript(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- what each client shows to its model, by its code, and how it counts -----------------------------------------------


def the_text(result: types.CallToolResult) -> str:
    return texts(result) + "\n".join(f"Resource Link: {uri} at {uri}" for uri in links(result))


def the_structure(result: types.CallToolResult) -> str:
    return as_javascript(result.structured_content)


def all_of_it(result: types.CallToolResult) -> str:
    return as_javascript(result.model_dump(mode="json", by_alias=True, exclude_none=True))


def code_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def utf8(text: str) -> int:
    return len(text.encode())


SHOWN: list[tuple[str, Callable[[types.CallToolResult], str], Callable[[str], int], int]] = [
    ("codex-mcp-client", the_structure, utf8, 12_000),
    ("@cline/core", all_of_it, code_units, 8_000),
    ("github-copilot-developer", the_text, utf8, 20_000),
    ("GitHub Copilot CLI", the_text, utf8, 20_000),
    ("gemini-cli-mcp-client", the_text, code_units, 40_000),
    ("opencode", the_text, utf8, 51_200),
    ("claude-code", the_structure, code_units, 50_000),
    ("continue-client", the_text, code_units, 40_000),
    ("mcp", the_text, code_units, 40_000),
    ("nobody knows it", the_text, code_units, 40_000),
    ("", the_text, code_units, 40_000),
]


class TestWhatIsShown:
    @pytest.mark.parametrize("answer", [CODE, PROSE, "x" * 100_000], ids=["code", "prose", "one long word"])
    async def test_is_all_of_a_result_and_as_much_of_the_answer_as_that_allows(
        self, era: str, tmp_path: Path, ollama: Provider, answer: str
    ) -> None:
        ollama.script(*[Text(answer)] * len(SHOWN))
        async with opened(tmp_path, config(ollama)) as konstruct:
            for name, shown, size, most in SHOWN:
                async with named(konstruct, name, era) as client:
                    result = await complete(client)
                found = structure(result)
                assert answer.startswith(found["content"]), name
                assert found["truncated"]["shown_chars"] == len(found["content"]), name
                assert found == json.loads(texts(result)), name
                assert 0.7 * min(most, 40_000) < size(shown(result)) <= most, name

    async def test_counts_tool_calls(self, tmp_path: Path, ollama: Provider) -> None:
        made = [(f"c{n}", "f", json.dumps({"text": CODE[:500]})) for n in range(40)]
        ollama.script(*[Text(PROSE, tool_calls=made)] * 3)
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        async with opened(tmp_path, config(ollama)) as konstruct:
            for name, shown, size, most in SHOWN[:3]:
                async with named(konstruct, name, "2026") as client:
                    result = await complete(client, messages=HELLO, tools=[tool])
                    found = structure(result)
                    assert 0.7 * most < size(shown(result)) <= most, name
                    assert 0 < found["truncated"]["shown_tool_calls"] == len(found["tool_calls"]) < 40, name
                    assert found["truncated"]["next_offset"] == 0  # what is read is another text
                    whole = json.loads(await read_on(client, found["truncated"]["uri"], 0))
                assert (whole["content"], len(whole["tool_calls"])) == (PROSE, 40)

    async def test_is_cut_by_nobody_where_it_fits(self, era: str, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Text(PROSE[:39_000]))
        async with opened(tmp_path, config(ollama)) as konstruct, named(konstruct, "claude-code", era) as client:
            assert structure(await complete(client))["content"] == PROSE[:39_000]

    @pytest.mark.parametrize("name", ["codex-mcp-client", "@cline/core", "gemini-cli-mcp-client"])
    async def test_is_what_the_config_says_where_it_says_so(
        self, era: str, tmp_path: Path, ollama: Provider, name: str
    ) -> None:
        ollama.script(Text("x" * 60_000), Text("x" * 60_001))
        async with (
            opened(tmp_path, config(ollama, max_result_chars=60_000)) as konstruct,
            named(konstruct, name, era) as client,
        ):
            assert len(structure(await complete(client))["content"]) == 60_000
            answer = structure(await complete(client))
            assert answer["truncated"]["chars"] == 60_001
            assert await read_on(client, answer["truncated"]["uri"], 60_000) == "x"

    @pytest.mark.parametrize(
        ("name", "least"), [("nobody knows it", "0.0000025"), ("github-copilot-developer", "2.5e-6")]
    )
    async def test_has_numbers_as_the_client_writes_them(
        self, tmp_path: Path, openai: Provider, name: str, least: str
    ) -> None:
        """One that makes a text of the structure shows both where ours is another."""
        written = {0: "0", 2.5e-05: "0.000025", 1e-05: "0.00001", 2.5e-06: least, 2e-07: "2e-7", 3.0: "3"}
        params = {"model": "openai/x", "api_base": openai.url, "api_key": "k", "output_cost_per_token": 0}
        groups = [entry(str(cost), params, input_cost_per_token=cost / 10) for cost in written]
        openai.script(*[Text("well", usage=(10, 1))] * len(written))
        async with (
            opened(tmp_path, {"model_list": groups}) as konstruct,
            named(konstruct, name, "2026") as client,
        ):
            for cost, as_written in written.items():
                result = await complete(client, messages=HELLO, model_group=str(cost))
                assert f'"cost_usd":{as_written},' in texts(result)
                assert repr(structure(result)["cost_usd"]) == repr(int(cost) if cost in (0, 3) else cost)
            listed = texts(await client.call_tool("list_groups", {}))
            assert '"input_usd_per_million":2.5,"output_usd_per_million":0,' in listed


async def read_on(client: Client, uri: str, offset: int) -> str:
    """The rest of an answer from there on, page by page."""
    pages: list[str] = []
    for _ in range(100):
        part = structure(await complete(client, read=uri, offset=offset))
        assert set(part) <= {"content", "truncated"}
        pages.append(part["content"])
        if "truncated" not in part:
            return "".join(pages)
        assert part["truncated"]["uri"] == uri
        assert part["truncated"]["shown_chars"] == len(part["content"]) > 0
        assert part["truncated"]["next_offset"] == offset + len(part["content"])
        offset = part["truncated"]["next_offset"]
    raise AssertionError("it does not end")


READERS = [
    "codex-mcp-client",
    "@cline/core",
    "Cline",
    "github-copilot-developer",
    "copilot-cli",
    "continue-client",
    "mcp",
]
OTHERS = ["claude-code", "gemini-cli-mcp-client", "opencode", "Visual Studio Code", "recline", "my-codex", ""]


class TestReading:
    async def test_is_offered_to_those_whose_models_cannot_do_it_otherwise(
        self, era: str, tmp_path: Path, ollama: Provider
    ) -> None:
        async with opened(tmp_path, config(ollama)) as konstruct:
            for name in (*READERS, *OTHERS):
                async with named(konstruct, name, era) as client:
                    schema = (await client.list_tools()).tools[0].input_schema
                assert ({"read", "offset"} <= set(schema["properties"])) is (name in READERS), name
                assert ("required" in schema) is (name in OTHERS), name  # a call that reads has no messages

    @pytest.mark.parametrize("answer", [CODE, PROSE, "x" * 30_000 + " \n" * 9_000 + "y"], ids=["code", "prose", "odd"])
    async def test_goes_on_to_the_end(self, era: str, tmp_path: Path, ollama: Provider, answer: str) -> None:
        ollama.script(*[Text(answer)] * 3)
        async with opened(tmp_path, config(ollama)) as konstruct:
            for name in ("@cline/core", "codex-mcp-client", "nobody knows it"):
                async with named(konstruct, name, era) as client:
                    first = await complete(client)
                    found = structure(first)
                    note = found["truncated"]
                    rest = await read_on(client, note["uri"], note["next_offset"])
                assert found["content"] + rest == answer, name
                assert links(first) == ([note["uri"]] if name == "nobody knows it" else [])
        assert ollama.calls == 3

    async def test_gives_as_much_as_is_shown(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(*[Text(CODE)] * len(SHOWN))
        async with opened(tmp_path, config(ollama)) as konstruct:
            for name, shown, size, most in SHOWN:
                async with named(konstruct, name, "2026") as client:
                    uri = structure(await complete(client))["truncated"]["uri"]
                    result = await complete(client, read=uri)
                assert structure(result)["truncated"]["next_offset"] > 0
                assert 0.7 * min(most, 40_000) < size(shown(result)) <= most, name

    async def test_that_is_wrong_is_one_line_and_asks_nobody(self, era: str, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Text(PROSE))
        async with opened(tmp_path, config(ollama)) as konstruct, named(konstruct, "Cline", era) as client:
            first = structure(await complete(client))["truncated"]
            uri, chars = first["uri"], first["chars"]
            no_answer = "no such answer; one that was cut is kept for an hour, if there is room"
            no_number = "offset: should be a whole number of characters, 0 or more"
            wrong: list[tuple[dict[str, Any], str]] = [
                ({"read": "konstruct://completions/none"}, no_answer),
                ({"read": "konstruct://groups"}, no_answer),
                ({"read": 5}, "read: should be a text, the uri of an answer that was cut"),
                *(({"read": uri, "offset": value}, no_number) for value in (-1, "5", 1.5, True)),
                ({"read": uri, "offset": chars + 1}, f"offset: the answer has {chars:,} characters"),
                ({"read": uri, "messages": HELLO}, "messages: does not go with read; send read and offset alone"),
                ({"read": uri, "model_group": "g"}, "model_group: does not go with read; send read and offset alone"),
                ({"read": uri, "nonsense": 1}, "nonsense: does not go with read; send read and offset alone"),
                ({"offset": 5, "messages": HELLO}, "offset: goes with read, the uri of an answer that was cut"),
                ({"read": "", "offset": None}, "messages: required, but missing"),
            ]
            for arguments, line in wrong:
                assert error(await complete(client, **arguments)) == f"invalid_argument: {line}"
        assert ollama.calls == 1

    @pytest.mark.parametrize("empty", [{"read": None, "offset": None}, {"read": "", "offset": 0}])
    async def test_that_a_client_sends_empty_is_none(
        self, era: str, tmp_path: Path, ollama: Provider, empty: Mapping[str, Any]
    ) -> None:
        ollama.script(Text("an answer"))
        async with opened(tmp_path, config(ollama)) as konstruct, named(konstruct, "Cline", era) as client:
            assert structure(await complete(client, messages=HELLO, **empty))["content"] == "an answer"

    async def test_takes_what_a_client_sends_empty_beside_it(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Text(PROSE))
        async with opened(tmp_path, config(ollama)) as konstruct, connected(konstruct) as client:
            uri = structure(await complete(client))["truncated"]["uri"]
            beside: dict[str, Any] = {"messages": [], "model_group": None, "tool_choice": "", "tenant_id": "default"}
            part = structure(await complete(client, read=uri, offset=float(len(PROSE) - 10), **beside))
        assert part == {"content": PROSE[-10:]}

    async def test_is_over_after_an_hour(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Text(PROSE))
        now = [0.0]
        async with (
            opened(tmp_path, config(ollama)) as konstruct,
            Client(KonstructServer(konstruct, clock=lambda: now[0])) as client,
        ):
            uri = structure(await complete(client))["truncated"]["uri"]
            now[0] = 3599
            assert structure(await complete(client, read=uri, offset=5))["content"].startswith("is sentence")
            now[0] = 3601
            assert error(await complete(client, read=uri)).startswith("invalid_argument: no such answer")

    async def test_costs_nothing_and_is_no_call(
        self, tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider
    ) -> None:
        database: Database = sqlite(tmp_path)
        openai.script(Text(PROSE))
        settings = priced_config(database, openai, anthropic, ollama)
        async with opened(tmp_path, settings) as konstruct, connected(konstruct) as client:
            uri = structure(await complete(client))["truncated"]["uri"]
            await complete(client, read=uri)
        assert len(database.rows()) == 1

    @asynccontextmanager
    async def of_two_tenants(self, folder: Path, ollama: Provider) -> AsyncIterator[dict[str, Client]]:
        tenants = dict.fromkeys(("acme", "globex"))
        async with opened(folder, config(ollama, tenants=tenants, default_tenant="acme")) as konstruct:
            kept = InMemoryKeptAnswers(lambda: 0.0)
            clients = {name: Client(self.server(konstruct, name, kept)) for name in tenants}
            async with clients["acme"], clients["globex"]:
                yield clients

    def server(self, konstruct: Konstruct, tenant: str, kept: InMemoryKeptAnswers) -> KonstructServer:
        return KonstructServer(konstruct, caller_of=lambda _: Caller.verified(tenant), kept=kept)

    async def test_shows_nothing_of_another_tenant(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Text(PROSE))
        async with self.of_two_tenants(tmp_path, ollama) as clients:
            uri = structure(await complete(clients["acme"]))["truncated"]["uri"]
            assert structure(await complete(clients["acme"], read=uri))["content"].startswith("This is")
            foreign = error(await complete(clients["globex"], read=uri))
            assert foreign == error(await complete(clients["globex"], read=uri[:-1] + "?"))
            assert foreign == error(await complete(clients["acme"], read="konstruct://completions/"))
            with pytest.raises(MCPError, match="no such answer"):
                await clients["globex"].read_resource(uri)
            named_another = error(await complete(clients["globex"], read=uri, tenant_id="acme"))
            assert named_another == 'unknown_tenant: no tenant "acme" here; leave tenant_id out'


class TestParallelCalls:
    @pytest.mark.parametrize(
        ("said", "hint"), [({}, True), ({"parallel_calls": True}, True), ({"parallel_calls": False}, False)]
    )
    async def test_the_config_says_whether_calls_may_run_side_by_side(
        self, era: str, tmp_path: Path, ollama: Provider, said: dict[str, bool], hint: bool
    ) -> None:
        async with opened(tmp_path, config(ollama, **said)) as konstruct, connected(konstruct, era) as client:
            annotations = (await client.list_tools()).tools[0].annotations
        assert annotations is not None
        assert annotations.read_only_hint is hint
        assert annotations.destructive_hint in (None, False)

    async def test_no_config_leaves_it_at_that(self, tmp_path: Path, ollama: Provider) -> None:
        path = tmp_path / "faulty.yaml"
        path.write_text("model_list: 5")
        async with Konstruct.for_server(path, environ={}) as konstruct, connected(konstruct) as client:
            annotations = (await client.list_tools()).tools[0].annotations
        assert annotations is not None
        assert annotations.read_only_hint is True


class TestAcrossTransports:
    """A client says its name in `initialize`, or in each request of the 2026 era."""

    @pytest.mark.parametrize("name", ["codex-mcp-client", pytest.param("nobody knows it", marks=pytest.mark.long)])
    def test_over_stdio(
        self, era: str, tmp_path: Path, ollama: Provider, fork_server: ForkServer | None, name: str
    ) -> None:
        ollama.script(Text("x" * 50_000))
        info = {"name": name, "version": "1"}
        meta = {"_meta": {**MODERN, "io.modelcontextprotocol/clientInfo": info}} if era == "2026" else {}
        with ServerProcess(write(tmp_path, config(ollama)), fork_server=fork_server) as server:
            if era == "2025":
                server.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info})
            tool = server.ask("tools/list", meta)["tools"][0]
            call = {"name": "complete", "arguments": {"messages": HELLO}, **meta}
            answer = server.ask("tools/call", call)["structuredContent"]
        self.assert_known(name, tool, answer)

    @pytest.mark.parametrize("name", ["codex-mcp-client", pytest.param("nobody knows it", marks=pytest.mark.long)])
    def test_over_http(
        self, era: str, tmp_path: Path, ollama: Provider, fork_server: ForkServer | None, name: str
    ) -> None:
        ollama.script(Text("x" * 50_000))
        info = {"name": name, "version": "1"}
        headers: dict[str, str] = {}
        meta = {"_meta": {"io.modelcontextprotocol/clientInfo": info}} if era == "2026" else {}
        with HttpProcess(write(tmp_path, config(ollama)), fork_server=fork_server) as server:
            if era == "2025":
                started = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
                message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": started}
                headers["mcp-session-id"] = server.post(message, "2025").headers["mcp-session-id"]
            listed = server.ask("tools/list", meta, era, **headers)
            call = {"name": "complete", "arguments": {"messages": HELLO}, **meta}
            answer = server.ask("tools/call", call, era, **headers)["structuredContent"]
        if era == "2026":
            assert (listed["cacheScope"], listed["ttlMs"]) == ("private", 300_000)  # it differs by client
        self.assert_known(name, listed["tools"][0], answer)

    def assert_known(self, name: str, tool: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        is_codex = name.startswith("codex")
        assert ("read" in tool["inputSchema"]["properties"]) is is_codex
        assert (11_000 if is_codex else 39_000) < len(answer["content"]) < (12_000 if is_codex else 40_000)
        assert tool["_meta"] == {"anthropic/alwaysLoad": True, "anthropic/maxResultSizeChars": 500_000}
