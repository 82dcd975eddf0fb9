"""The server as a process on pipes: what a client sends or does must not end it, and what must end it does so."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from pipes import SERVER, Process, call
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from processes import is_gone_within, only_child
from providers import Gate, Hang, Provider, Text
from worlds import default_groups, entry, write


@pytest.fixture
def config(anthropic: Provider, openai: Provider, ollama: Provider, tmp_path: Path) -> Path:
    return write(tmp_path, default_groups(anthropic, openai, ollama))


def content(result: dict[str, Any]) -> str:
    assert not result["isError"], result
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    return str(result["structuredContent"]["content"])


class TestEras:
    def test_a_probe_and_then_initialize(self, config: Path) -> None:
        with Process(config) as server:
            found = server.ask("server/discover", modern=True)
            assert found["supportedVersions"] == ["2026-07-28"]
            assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "konstruct-mcp"
            assert {"tools", "resources", "completions"} <= set(found["capabilities"])
            server.ask("server/discover", modern=True)
            assert server.initialize()["protocolVersion"] == "2025-11-25"
            assert len(server.ask("tools/list")["tools"]) == 2
            assert content(server.complete("fast")) == "Hello from ollama"

    def test_a_probe_and_then_the_modern_era(self, config: Path) -> None:
        with Process(config) as server:
            probed = server.ask("server/discover", modern=True)
            tools = server.ask("tools/list", modern=True)
            assert len(tools["tools"]) == 2
            assert server.ask("server/discover", modern=True)["capabilities"] == probed["capabilities"]
            assert content(server.ask("tools/call", call("fast"), modern=True)) == "Hello from ollama"

    def test_a_probe_without_an_envelope_or_of_the_future(self, config: Path) -> None:
        with Process(config) as server:
            assert server.ask("server/discover")["supportedVersions"] == ["2026-07-28"]
            meta = {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
            refused = server.answer(server.send("server/discover", {"_meta": meta}))
            assert refused["error"]["code"] == -32022
            assert refused["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2099-01-01"}
            server.initialize()

    @pytest.mark.parametrize("mode", ["auto", "legacy"])
    async def test_the_official_client(self, config: Path, mode: Any) -> None:
        parameters = StdioServerParameters(
            command=SERVER[0], args=SERVER[1:], env={"KONSTRUCT_CONFIG": str(config), "PATH": os.environ["PATH"]}
        )
        async with Client(parameters, mode=mode) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["complete", "list_groups"]
            result = await client.call_tool("complete", {"messages": [{"role": "user", "content": "Hi"}]})
            assert result.structured_content is not None
            assert result.structured_content["content"] == "Hello from ollama"
            assert "balanced" in str((await client.read_resource("konstruct://groups")).contents)


UNPARSABLE = [
    (b"{bad", -32700, None),
    (b'"\xff', -32700, None),
    (b"[" * 100_000, -32700, None),
    (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600, None),
    (b"5", -32600, None),
    (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600, None),
    (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', -32600, None),
    (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', -32600, None),
    (b'{"jsonrpc": "2.0", "id": 77, "method": 5}', -32600, 77),
    (b'{"jsonrpc": "1.0", "id": "a", "method": "ping"}', -32600, "a"),
]


@pytest.mark.parametrize("initialized", [True, False])
def test_unparsable_lines_are_answered_and_the_next_call_is_served(config: Path, initialized: bool) -> None:
    with Process(config) as server:
        if initialized:
            server.initialize()
        for line, code, request_id in UNPARSABLE:
            server.send_raw(line)
            answer = server.line()
            assert (answer["error"]["code"], answer["id"]) == (code, request_id), line
        server.send_raw(b"")
        server.send_raw(b"\r")
        server.send_raw(b'{"jsonrpc": "2.0", "id": 5, "result": {}}')  # answers nothing; is owed nothing
        server.send_raw(b'{"jsonrpc": "2.0", "id": null, "error": {"code": -1, "message": ""}}')
        if not initialized:
            server.initialize()
        assert server.ask("ping") == {}


def test_what_can_be_mended_is_mended(config: Path, ollama: Provider) -> None:
    with Process(config) as server:
        server.initialize()
        server.send_raw(b'\xef\xbb\xbf{"jsonrpc": "2.0", "id": "bom", "method": "ping"}')
        assert server.answer("bom")["result"] == {}
        request = {"jsonrpc": "2.0", "id": "half", "method": "tools/call", "params": call("fast")}
        line = json.dumps(request).replace("Hello", "H\\ud83d\\udc4b \\ud800 i")
        server.send_raw(line.encode())
        assert content(server.answer("half")["result"]) == "Hello from ollama"
        assert ollama.requests[0].body["messages"][0]["content"] == "H\N{WAVING HAND SIGN} \ufffd i"


@pytest.mark.parametrize("modern", [True, False])
def test_a_lone_surrogate_in_an_answer(config: Path, ollama: Provider, modern: bool) -> None:
    ollama.script(Text("half \ud83d of \N{WAVING HAND SIGN}", tool_calls=[("c\udc00", "f", '{"a": "\ud800"}')]))
    with Process(config) as server:
        if not modern:
            server.initialize()
        result = server.ask("tools/call", call("fast"), modern=modern)
        assert content(result) == "half \ufffd of \N{WAVING HAND SIGN}"
        assert result["structuredContent"]["tool_calls"][0]["id"] == "c\ufffd"
        assert server.ask("tools/list", modern=modern)["tools"]


class TestMisbehavingLibraries:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Any:
        stray = [entry("cancel", {"model": "stray/cancel"}), entry("print", {"model": "stray/print"})]
        path = write(tmp_path, {"model_list": stray, "router_settings": {"num_retries": 0}})
        script = Path(__file__).with_name("misbehaving.py")
        with Process(path, command=[sys.executable, str(script)]) as server:
            server.initialize()
            yield server

    def test_a_stray_cancellation_fails_one_call_and_ends_nothing(self, server: Process) -> None:
        result = server.complete("cancel")
        assert result["isError"]
        assert "stray/cancel: connection failed (call broken off)" in result["content"][0]["text"]
        assert content(server.complete("print")) == "printed"

    def test_stray_output_never_reaches_the_wire(self, server: Process) -> None:
        assert content(server.complete("print")) == "printed"  # Process reads nothing but messages from stdout
        server.close_stdin()
        assert server.wait() == 0
        for word in ("print", "write", "child"):
            assert f"stray {word}" in server.errors.decode()


def test_a_message_of_ten_megabytes_passes(config: Path, ollama: Provider) -> None:
    ollama.script(Text("y" * 10_000_000))
    with Process(config) as server:
        server.initialize()
        result = server.complete("fast", messages=[{"role": "user", "content": "x" * 10_000_000}])
        assert len(content(result)) == 10_000_000
        assert len(ollama.requests[0].body["messages"][0]["content"]) == 10_000_000


class TestEnds:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_with_calls_in_flight(
        self, anthropic: Provider, openai: Provider, ollama: Provider, tmp_path: Path, number: int
    ) -> None:
        groups = default_groups(anthropic, openai, ollama)
        groups["model_list"].append(entry("embedded", {"model": "embedded/smol"}))
        ollama.script(Hang())
        with Process(write(tmp_path, groups)) as server:
            server.initialize()
            assert not server.complete("embedded", max_tokens=3)["isError"]
            child = only_child(server.process.pid)
            for _ in range(5):
                server.send("tools/call", call("fast"))
            ollama.wait_for(lambda: ollama.in_flight == 5)
            server.process.send_signal(number)
            assert server.wait() == 0
            assert b"Traceback" not in server.errors
            ollama.wait_for(lambda: ollama.disconnected == 5)
            assert is_gone_within(child, 10)

    def test_a_signal_ends_it_before_the_first_line(self, config: Path) -> None:
        with Process(config) as server:
            server.initialize()
            server.process.send_signal(signal.SIGTERM)
            assert server.wait() == 0
            assert not server.errors

    def test_end_of_input_ends_it_with_no_orphan(
        self, anthropic: Provider, openai: Provider, ollama: Provider, tmp_path: Path
    ) -> None:
        groups = default_groups(anthropic, openai, ollama)
        groups["model_list"].append(entry("embedded", {"model": "embedded/smol"}))
        ollama.script(Hang())
        with Process(write(tmp_path, groups)) as server:
            server.initialize()
            assert not server.complete("embedded", max_tokens=3)["isError"]
            child = only_child(server.process.pid)
            server.send("tools/call", call("fast"))
            ollama.wait_for(lambda: ollama.in_flight == 1)
            server.close_stdin()
            assert server.wait() == 0
            assert b"Traceback" not in server.errors
            ollama.wait_for(lambda: ollama.disconnected == 1)
            assert is_gone_within(child, 10)

    def test_end_of_input_before_anything_was_said(self, config: Path) -> None:
        with Process(config) as server:
            server.close_stdin()
            assert server.wait() == 0
            assert not server.errors

    @pytest.mark.parametrize("stdin_too", [True, False])
    def test_a_client_that_closes_our_output_leaves_no_traceback(
        self, config: Path, ollama: Provider, stdin_too: bool
    ) -> None:
        ollama.script(Gate("too late"))
        with Process(config) as server:
            server.initialize()
            server.send("tools/call", call("fast"))
            ollama.wait_for(lambda: ollama.in_flight == 1)
            server.close_stdout()
            ollama.release()
            if stdin_too:
                server.close_stdin()
            assert server.wait() == 0
            assert b"Traceback" not in server.errors
