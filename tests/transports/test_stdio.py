"""The server as a process on pipes: what a client sends or does must not end it, and what must end it does so."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp import Client, StdioServerParameters
from support.databases import sqlite
from support.default_groups import default_groups, entry, write
from support.fork_server import ForkServer
from support.node import stringified
from support.priced_config import priced_config
from support.processes import is_gone_within, only_child, wait_for
from support.providers import Gate, Hang, Provider, Text
from support.stdio_lines import CHUNK, SERVER, WAIT_S, ServerProcess, call


@pytest.fixture
def config(anthropic: Provider, openai: Provider, ollama: Provider, tmp_path: Path) -> Path:
    return write(tmp_path, default_groups(anthropic, openai, ollama))


def content(result: dict[str, Any]) -> str:
    assert not result["isError"], result
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    return str(result["structuredContent"]["content"])


HALF = Text("half \ud83d of \N{WAVING HAND SIGN}", tool_calls=[("c\udc00", "f", '{"a": "\ud800"}')])


def assert_whole(result: dict[str, Any]) -> None:
    """The answer `HALF`, made fit for JSON."""
    assert content(result) == "half \ufffd of \N{WAVING HAND SIGN}"
    assert result["structuredContent"]["tool_calls"][0]["id"] == "c\ufffd"


class TestEras:
    def test_a_probe_and_then_initialize(self, config: Path, fork_server: ForkServer | None) -> None:
        with ServerProcess(config, fork_server=fork_server) as server:
            found = server.ask("server/discover", modern=True)
            assert found["supportedVersions"] == ["2026-07-28"]
            assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "konstruct-mcp"
            assert {"tools", "resources", "completions"} <= set(found["capabilities"])
            server.ask("server/discover", modern=True)
            assert server.initialize()["protocolVersion"] == "2025-11-25"
            assert len(server.ask("tools/list")["tools"]) == 2
            assert content(server.complete("fast")) == "Hello from ollama"

    def test_a_probe_and_then_the_modern_era(
        self, config: Path, fork_server: ForkServer | None, ollama: Provider
    ) -> None:
        with ServerProcess(config, fork_server=fork_server) as server:
            probed = server.ask("server/discover", modern=True)
            tools = server.ask("tools/list", modern=True)
            assert len(tools["tools"]) == 2
            assert server.ask("server/discover", modern=True)["capabilities"] == probed["capabilities"]
            ollama.script(HALF)
            assert_whole(server.ask("tools/call", call("fast"), modern=True))
            assert server.ask("tools/list", modern=True)["tools"] == tools["tools"]

    def test_a_probe_without_an_envelope_or_of_the_future(self, config: Path, fork_server: ForkServer | None) -> None:
        with ServerProcess(config, fork_server=fork_server) as server:
            assert server.ask("server/discover")["supportedVersions"] == ["2026-07-28"]
            meta = {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
            refused = server.answer(server.send("server/discover", {"_meta": meta}))
            assert refused["error"]["code"] == -32022
            assert refused["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2099-01-01"}
            odd = {"io.modelcontextprotocol/protocolVersion": 2026}
            assert server.answer(server.send("server/discover", {"_meta": odd}))["error"]["code"] == -32602
            server.initialize()

    @pytest.mark.many_cases
    @pytest.mark.parametrize("mode", ["auto", "legacy"])
    async def test_the_official_client(self, config: Path, mode: Any) -> None:
        # The client gives its server this user's home, where the ledger is not to be looked for.
        own = {name: os.environ[name] for name in ("PATH", "XDG_DATA_HOME")}
        parameters = StdioServerParameters(
            command=SERVER[0], args=SERVER[1:], env={"KONSTRUCT_CONFIG": str(config), **own}
        )
        async with Client(parameters, mode=mode) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["complete", "list_groups"]
            result = await client.call_tool("complete", {"messages": [{"role": "user", "content": "Hi"}]})
            assert result.structured_content is not None
            assert result.structured_content["content"] == "Hello from ollama"
            assert "balanced" in str((await client.read_resource("konstruct://groups")).contents)


class TestCopies:
    def test_of_a_result_are_the_same_to_a_client_in_javascript(
        self, config: Path, fork_server: ForkServer | None, openai: Provider, tmp_path: Path
    ) -> None:
        """Else Copilot shows its model both."""
        prices = {"free": 0.0, "round": 1.0, "small": 2.5e-05, "smaller": 2.5e-06, "tiny": 2.5e-07}
        own = {"model": "openai/mine", "api_base": openai.url, "api_key": "sk-test", "output_cost_per_token": 0}
        groups = [entry(name, {**own, "input_cost_per_token": usd}) for name, usd in prices.items()]
        openai.script(Text("Caf\u00e9 \u2028 \x7f", usage=(1, 7), tool_calls=[("call_1", "f", '{"a": 1.0}')]))
        with ServerProcess(write(tmp_path, {"model_list": groups}), fork_server=fork_server) as server:
            server.initialize()
            results = {name: server.complete(name) for name in prices}
            results["list_groups"] = server.ask("tools/call", {"name": "list_groups", "arguments": {}})

        assert {name: results[name]["structuredContent"]["cost_usd"] for name in prices} == prices
        structures = [result["structuredContent"] for result in results.values()]
        assert [result["content"][0]["text"] for result in results.values()] == [*map(stringified, structures)]
        assert '"cost_usd":0.000025,' in results["small"]["content"][0]["text"]


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
    (b'{"jsonrpc": "2.0", "id": 78, "method": "ping", "params": []}', -32600, 78),
    (
        b'{"jsonrpc": "2.0", "id": 79, "method": "ping", "params": {"a": '
        + 5000 * b'["]",'
        + b"0"
        + 5000 * b"]"
        + b"}}",
        -32600,
        79,
    ),
    (b'{"jsonrpc": "2.0", "id": 1' + 5000 * b"0" + b', "method": "ping"}', -32600, None),
    (b'{"jsonrpc": "1.0", "id": "a", "method": "ping"}', -32600, "a"),
    (b"[" * 2000 + b'"' + b'\\"' * 40_000, -32700, None),
    (b'{"jsonrpc": "2.0", "id": "' + b"i" * 100_001 + b'", "method": "ping"}', -32600, None),
    (b'{"jsonrpc": "2.0", "method": "ping", "params": {"a": "' + b"x" * 1_000_001 + b'"}, "id": 80}', -32600, 80),
    (b'{"jsonrpc": "2.0", "method": "ping", "params": ' + b'{"a":' * 60_000 + b"1" + b"}" * 60_001, -32600, None),
]


def test_unparsable_lines_are_answered_and_initialize_is_served_after_them(
    config: Path, fork_server: ForkServer | None
) -> None:
    with ServerProcess(config, fork_server=fork_server) as server:
        for line, code, request_id in UNPARSABLE:
            server.send_raw(line)
            answer = server.line()
            assert (answer["error"]["code"], answer["id"]) == (code, request_id), line
        server.send_raw(b"")
        server.send_raw(b"\r")
        server.send_raw(b'{"jsonrpc": "2.0", "id": 5, "result": {}}')  # answers nothing; is owed nothing
        server.send_raw(b'{"jsonrpc": "2.0", "id": null, "error": {"code": -1, "message": ""}}')
        server.initialize()
        for line, code, request_id in UNPARSABLE:
            server.send_raw(line)
            answer = server.line()
            assert (answer["error"]["code"], answer["id"]) == (code, request_id), line
        assert server.ask("ping") == {}


@pytest.fixture(scope="module")
def long_ollama() -> Iterator[Provider]:
    with Provider("ollama") as provider:
        provider.also["/api/show"] = {"model_info": {"general.architecture": "long", "long.context_length": 10**9}}
        yield provider


@pytest.fixture(scope="module")
def lasting(
    long_ollama: Provider, tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer | None
) -> Iterator[ServerProcess]:
    config = {
        "model_list": [entry("fast", {"model": "ollama/qwen3:32b", "api_base": long_ollama.url})],
        "konstruct": {"max_result_chars": 10_000_000},
    }
    with ServerProcess(write(tmp_path_factory.mktemp("texts"), config), fork_server=fork_server) as server:
        server.initialize()
        yield server


class TestTexts:
    """Texts that cannot be encoded, and very long ones: one process for all of them, since none may end it."""

    def test_what_can_be_mended_is_mended(self, lasting: ServerProcess, long_ollama: Provider) -> None:
        long_ollama.script(Text("well understood"))
        lasting.send_raw(b'\xef\xbb\xbf{"jsonrpc": "2.0", "id": "bom", "method": "ping"}')
        assert lasting.answer("bom")["result"] == {}
        request = {"jsonrpc": "2.0", "id": "half", "method": "tools/call", "params": call("fast")}
        line = json.dumps(request).replace("Hello", "H\\ud83d\\udc4b \\ud800 i")
        lasting.send_raw(line.encode())
        assert content(lasting.answer("half")["result"]) == "well understood"
        assert long_ollama.requests[-1].body["messages"][0]["content"] == "H\N{WAVING HAND SIGN} \ufffd i"

    @pytest.mark.parametrize(
        "more", [{"params": {"a": "HUGE"}}, {"error": {"code": 1, "message": ""}}, {"result": {}}, {"params": None}]
    )
    def test_whatever_else_a_request_holds_it_is_answered(self, lasting: ServerProcess, more: dict[str, Any]) -> None:
        line = json.dumps({"jsonrpc": "2.0", "id": "odd", "method": "ping", **more})
        lasting.send_raw(line.replace('"HUGE"', "9" * 5000).encode())
        assert lasting.answer("odd")["result"] == {}

    def test_a_lone_surrogate_in_an_answer(self, lasting: ServerProcess, long_ollama: Provider) -> None:
        long_ollama.script(HALF)
        assert_whole(lasting.complete("fast"))
        assert lasting.ask("ping") == {}

    def test_a_message_of_ten_megabytes_passes(self, lasting: ServerProcess, long_ollama: Provider) -> None:
        long_ollama.script(Text("y" * 10_000_000))
        result = lasting.complete("fast", messages=[{"role": "user", "content": "x" * 10_000_000}])
        assert len(content(result)) == 10_000_000
        assert len(long_ollama.requests[-1].body["messages"][0]["content"]) == 10_000_000

    def test_what_comes_behind_a_long_call_does_not_wait_for_it(
        self, lasting: ServerProcess, long_ollama: Provider
    ) -> None:
        long_ollama.script(Text("read"))
        asked = long_ollama.calls
        words = [{"type": "text", "text": '"'}] * 10_000
        first = lasting.send_call("fast", messages=[{"role": "user", "content": words}], tenant_id="taken-back")
        taken_back = lasting.send_call("fast", messages=[{"role": "user", "content": words}])
        lasting.notify("notifications/cancelled", {"requestId": taken_back})
        ping = lasting.send("ping")
        assert lasting.line()["id"] == ping
        assert content(lasting.answer(first)["result"]) == "read"
        assert content(lasting.complete("fast")) == "read"
        assert not lasting.has_answer(taken_back)
        assert long_ollama.calls == asked + 2

    def test_a_line_of_more_than_a_hundred_megabytes_is_refused(self, lasting: ServerProcess) -> None:
        for _ in range(101):
            lasting.pour(b"x" * 1_000_000)
        lasting.send_raw(b"")
        refused = lasting.answer(None)["error"]
        assert refused == {"code": -32700, "message": "Parse error: the line is longer than 100,000,000 bytes"}
        assert lasting.ask("ping") == {}


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    stray = [entry("cancel", {"model": "stray/cancel"}), entry("print", {"model": "stray/print"})]
    config = {"model_list": stray, "router_settings": {"num_retries": 0}}
    path = write(tmp_path_factory.mktemp("stray"), config)
    script = Path(__file__).parents[1] / "support" / "misbehaving_server.py"
    with ServerProcess(path, command=[sys.executable, str(script)]) as server:
        server.initialize()
        yield server


class TestMisbehavingLibraries:
    @pytest.mark.long
    def test_a_stray_cancellation_fails_one_call_and_ends_nothing(self, misbehaving: ServerProcess) -> None:
        result = misbehaving.complete("cancel")
        assert result["isError"]
        assert "stray/cancel: connection failed (call broken off)" in result["content"][0]["text"]
        assert content(misbehaving.complete("print")) == "printed"

    def test_stray_output_never_reaches_the_wire(self, misbehaving: ServerProcess) -> None:
        assert content(misbehaving.complete("print")) == "printed"  # ServerProcess takes nothing else
        for word in ("print", "write", "child"):
            assert f"stray {word}" in misbehaving.errors.decode()


class TestEnds:
    @pytest.mark.many_cases
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_with_calls_in_flight(
        self,
        anthropic: Provider,
        openai: Provider,
        ollama: Provider,
        tmp_path: Path,
        fork_server: ForkServer | None,
        number: int,
    ) -> None:
        groups = default_groups(anthropic, openai, ollama)
        groups["model_list"].append(entry("embedded", {"model": "embedded/smol"}))
        ollama.script(Hang())
        with ServerProcess(write(tmp_path, groups), fork_server=fork_server) as server:
            server.initialize()
            assert not server.complete("embedded", max_tokens=3)["isError"]
            child = only_child(server.process.pid)
            for _ in range(5):
                server.send("tools/call", call("fast"))
            ollama.wait_for(lambda: ollama.in_flight == 5)
            server.process.send_signal(number)
            assert server.wait(5) == 0  # a second is promised; the rest is for a loaded machine
            assert ollama.calls == 5  # none was tried again
            assert b"Traceback" not in server.errors
            ollama.wait_for(lambda: ollama.disconnected == 5)
            assert is_gone_within(child, 10)

    def test_a_signal_ends_it_before_the_first_line(self, config: Path) -> None:
        with ServerProcess(config) as server:
            server.initialize()
            server.process.send_signal(signal.SIGTERM)
            assert server.wait(5) == 0
            assert not server.errors

    def test_end_of_input_ends_it_with_no_orphan(
        self, anthropic: Provider, openai: Provider, ollama: Provider, tmp_path: Path, fork_server: ForkServer | None
    ) -> None:
        groups = default_groups(anthropic, openai, ollama)
        groups["model_list"].append(entry("embedded", {"model": "embedded/smol"}))
        ollama.script(Hang())
        with ServerProcess(write(tmp_path, groups), fork_server=fork_server) as server:
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

    def test_a_terminal_that_is_closed_is_the_end_of_input(self, config: Path) -> None:
        ours, theirs = os.openpty()
        environ = {**os.environ, "KONSTRUCT_CONFIG": str(config)}
        pipe = subprocess.PIPE
        with subprocess.Popen(SERVER, stdin=theirs, stdout=pipe, stderr=pipe, env=environ) as server:
            os.close(theirs)
            os.write(ours, b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
            assert server.stdout is not None
            assert json.loads(server.stdout.readline())["result"] == {}
            os.close(ours)
            _, errors = server.communicate(timeout=WAIT_S)
        assert server.returncode == 0
        assert errors.endswith(b"End with Ctrl-C.\n")

    def test_what_is_answered_still_goes_out_after_the_end_of_input(
        self, config: Path, fork_server: ForkServer | None
    ) -> None:
        with ServerProcess(config, fork_server=fork_server) as server:
            server.initialize()
            server.pour(flood(0, 30))
            server.close_stdin()
            assert {server.line()["id"] for _ in range(30)} == set(range(30))

    def test_end_of_input_before_anything_was_said(self, config: Path) -> None:
        with ServerProcess(config) as server:
            server.close_stdin()
            assert server.wait() == 0
            assert not server.errors

    @pytest.mark.many_cases
    @pytest.mark.parametrize("stdin_too", [True, False])
    def test_a_client_that_closes_our_output_ends_it_at_once(
        self, config: Path, fork_server: ForkServer | None, ollama: Provider, stdin_too: bool
    ) -> None:
        ollama.script(Hang())
        with ServerProcess(config, fork_server=fork_server) as server:
            server.initialize()
            server.send("tools/call", call("fast"))
            ollama.wait_for(lambda: ollama.in_flight == 1)
            server.close_stdout()
            if stdin_too:
                server.close_stdin()
            ollama.wait_for(lambda: ollama.disconnected == 1)  # though nothing is written any more
            assert server.wait(5) == 0
            assert ollama.calls == 1
            assert b"Traceback" not in server.errors

    def test_calls_that_its_end_breaks_off_are_on_the_account_and_reserve_nothing(
        self, tmp_path: Path, fork_server: ForkServer | None, openai: Provider, anthropic: Provider, ollama: Provider
    ) -> None:
        database = sqlite(tmp_path)
        budgeted = {"budgets": [{"usd": 1, "per": "total"}], "allow_unknown": True}
        config = write(tmp_path, priced_config(database, openai, anthropic, ollama, **budgeted))
        openai.script(Hang())
        with ExitStack() as running:
            begun = []
            for way, sockets in (*((way, False) for way in WAYS), ("closed-output", True), ("dead-client", True)):
                server = running.enter_context(ServerProcess(config, fork_server=fork_server, sockets=sockets))
                server.initialize()
                server.send_call("paid", tenant_id=way, max_tokens=100)
                server.send_call("paid", tenant_id=way, max_tokens=100)
                if sockets:
                    server.leave_unread()
                begun.append((server, way))
            openai.wait_for(lambda: openai.in_flight == 12)
            assert all(database.reserved(way) > 0 for way in WAYS)
            for number, (server, way) in enumerate(begun, 1):
                WAYS[way](server)
                openai.wait_for(lambda: openai.disconnected == 2 * number)  # noqa: B023  it is over by then
            for server, way in begun:
                server.wait(5)
                assert not server.errors, way
        with ServerProcess(
            config, fork_server=fork_server
        ) as another:  # writes what the first ones had no time to write
            another.initialize()
            another.ask("resources/read", {"uri": "konstruct://usage"})
        assert (openai.calls, anthropic.calls, ollama.calls) == (12, 0, 0)
        outcomes = Counter((row["tenant"], row["outcome"]) for row in database.rows())
        assert outcomes == {(way, "cancelled"): 2 * [way for _, way in begun].count(way) for way in WAYS}
        assert not any(database.reserved(way) for way in WAYS)
        database.engine.dispose()


def kill_client(server: ServerProcess) -> None:
    """Hand our ends of its pipes to another process, and kill that: nobody is left to close them in order."""
    pipes = [pipe for pipe in (server.process.stdin, server.process.stdout) if pipe is not None]
    script = "import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-S", "-c", script], pass_fds=[pipe.fileno() for pipe in pipes]) as client:
        for pipe in pipes:
            pipe.close()
        client.kill()


WAYS: Mapping[str, Callable[[ServerProcess], None]] = {
    "end-of-input": ServerProcess.close_stdin,
    "signal": lambda server: server.process.send_signal(signal.SIGTERM),
    "closed-output": ServerProcess.close_stdout,
    "dead-client": kill_client,
}


class TestFloods:
    @pytest.mark.parametrize("number", [2000, pytest.param(10_000, marks=pytest.mark.long)])
    def test_all_that_is_asked_before_anything_is_read_is_answered(
        self, config: Path, fork_server: ForkServer | None, number: int
    ) -> None:
        with ServerProcess(config, fork_server=fork_server, sockets=True) as server:
            server.initialize()
            lines = bytearray()
            for n in range(number):
                name = {"name": "list_groups", "arguments": {}}
                method = {"method": "tools/call", "params": name} if n % 10 == 0 else {"method": "ping"}
                lines += json.dumps({"jsonrpc": "2.0", "id": f"n{n}", **method}).encode() + b"\n"
            assert server.pour(bytes(lines)) == len(lines)
            answers = [server.line() for _ in range(number)]
            assert all("result" in answer for answer in answers)
            assert sorted(answer["id"] for answer in answers) == sorted(f"n{n}" for n in range(number))

    def test_a_ping_is_answered_while_hundreds_of_calls_are_under_way(
        self, config: Path, fork_server: ForkServer | None, ollama: Provider
    ) -> None:
        ollama.script(Gate("at last"))
        with ServerProcess(config, fork_server=fork_server) as server:
            server.initialize()
            calls = [server.send_call("fast") for _ in range(100)]
            assert server.ask("ping") == {}
            ollama.release()
            assert all("result" in server.answer(request) for request in calls)

    def test_a_client_that_does_not_read_costs_a_bounded_memory_and_misses_nothing(
        self, config: Path, fork_server: ForkServer | None
    ) -> None:
        with ServerProcess(config, fork_server=fork_server) as server:
            server.initialize()
            server.pour(flood(0, 10))
            assert [server.line()["id"] for _ in range(10)] == list(range(10))
            memory = psutil.Process(server.process.pid).memory_info
            # The buffer, an eighth of it that it keeps to grow, and 10 MB for what is under way or not given back.
            bound = memory().rss + UNSENT * 9 // 8 + 10_000_000
            lines = flood(10, 900)
            taken = server.pour(lines, patience_s=0.5)
            assert taken < UNSENT + 30 * CHUNK
            full = memory().rss
            assert full < bound
            assert [server.line()["id"] for _ in range(200)] == list(range(10, 210))
            taken += server.pour(lines[taken:], patience_s=0.5)
            assert taken < UNSENT + 200 * 100_000 + 60 * CHUNK
            assert memory().rss < full + 4_000_000  # it was full already
            assert [server.line()["id"] for _ in range(200)] == list(range(210, 410))
            assert taken + server.pour(lines[taken:]) == len(lines)
            assert [server.line()["id"] for _ in range(490)] == list(range(410, 900))

    def test_one_that_does_not_read_does_not_keep_it_from_its_end(
        self, config: Path, fork_server: ForkServer | None, ollama: Provider
    ) -> None:
        ollama.script(Hang())
        with (
            ServerProcess(config, fork_server=fork_server) as one,
            ServerProcess(config, fork_server=fork_server) as other,
        ):
            for server in (one, other):
                server.initialize()
                server.send_call("fast")
            ollama.wait_for(lambda: ollama.in_flight == 2)
            for server in (one, other):
                server.pour(flood(0, 1000, refused=server is one), patience_s=0.5)
            one.close_stdin()
            other.process.send_signal(signal.SIGTERM)
            ollama.wait_for(lambda: ollama.disconnected == 2)
            for server in (one, other):
                server.wait(5)
                assert not server.errors

    def test_a_client_that_does_not_read_our_log_keeps_nobody_waiting(
        self, config: Path, tmp_path: Path, fork_server: ForkServer | None
    ) -> None:
        log = tmp_path / "log"
        os.mkfifo(log)
        reading = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
        with ServerProcess(config, fork_server=fork_server, stderr=log) as server:
            server.initialize()
            for _ in range(4):
                for _ in range(1000):  # the SDK logs a line for each of these; a pipe holds some five hundred
                    server.notify("notifications/cancelled", {"requestId": []})
                assert server.ask("ping") == {}
            text = os.read(reading, 2**20).decode()
            assert server.ask("ping") == {}
            server.notify("notifications/cancelled", {"requestId": []})
            while "and are lost" not in text:
                assert select.select([reading], [], [], WAIT_S)[0]
                text += os.read(reading, 2**20).decode()
            server.close_stdin()
            assert server.wait() == 0
        os.close(reading)
        assert text.count("malformed params") > 100


class TestManyCallsAtOnce:
    """What else is asked does not wait for the work that calls make."""

    def test_a_ping_behind_three_hundred_calls_is_answered_before_most_of_them(
        self, config: Path, fork_server: ForkServer | None
    ) -> None:
        with ServerProcess(config, fork_server=fork_server) as server:
            server.initialize()
            server.send_raw(b"\n".join([*calls(range(1000, 1300), no_such_argument=1), request("ping", 2000)]))
            answered = [server.line()["id"] for _ in range(301)]
        assert answered.index(2000) < 100
        assert sorted(answered) == [*range(1000, 1300), 2000]

    def test_one_that_is_taken_back_is_never_asked(
        self, config: Path, fork_server: ForkServer | None, ollama: Provider, tmp_path: Path
    ) -> None:
        with ServerProcess(config, fork_server=fork_server, environ={"XDG_DATA_HOME": str(tmp_path)}) as server:
            server.initialize()
            cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1019}}
            server.send_raw(b"\n".join([*calls(range(1000, 1020)), json.dumps(cancelled).encode()]))
            assert [bool(server.answer(number)["result"]["isError"]) for number in range(1000, 1019)] == [False] * 19
            assert server.ask("ping") == {}
            assert not server.has_answer(1019)
        assert ollama.calls == 19
        with closing(sqlite3.connect(tmp_path / "konstruct-mcp/ledger.sqlite3")) as ledger:
            assert ledger.execute("SELECT count(*) FROM konstruct_calls").fetchone() == (19,)

    def test_each_is_answered_as_many_as_come_at_once(self, config: Path, fork_server: ForkServer | None) -> None:
        with ServerProcess(config, fork_server=fork_server) as server:
            server.initialize()
            sent = b"\n".join([*calls(range(1000, 2200), no_such_argument="x" * 20_000), b""])  # 24 MB
            pouring = threading.Thread(target=server.pour, args=(sent,))
            pouring.start()
            assert all(server.answer(number)["result"]["isError"] for number in range(1000, 2200))
            pouring.join(WAIT_S)

    def test_those_at_the_end_of_the_input_are_each_told_that_it_has_ended(
        self, config: Path, fork_server: ForkServer | None, ollama: Provider
    ) -> None:
        ollama.script(Hang())
        with ServerProcess(config, fork_server=fork_server) as server:
            server.initialize()
            server.send_raw(b"\n".join(calls(range(1000, 1050))))
            server.close_stdin()
            assert all("error" in server.answer(number) for number in range(1000, 1050))
            assert server.wait() == 0


def calls(numbers: Iterable[int], **arguments: Any) -> Iterator[bytes]:
    for number in numbers:
        yield request("tools/call", number, call("fast", **arguments))


def request(method: str, number: int, params: Mapping[str, Any] | None = None) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}).encode()


UNSENT = 64_000_000  # bytes of answers that are kept for a client that does not read


def flood(first: int, last: int, *, refused: bool = False) -> bytes:
    """Requests that are each answered with 100 kB of their own: the name of a method that there is not, or their id."""
    request = {"jsonrpc": "2.0", **({"id": "ID" + "x" * 100_000} if refused else {"id": 0, "method": "x" * 100_000})}
    line = json.dumps(request) + "\n"
    return "".join(line.replace('"id": 0', f'"id": {n}') for n in range(first, last)).encode()


@pytest.fixture(scope="module")
def odd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    script = Path(__file__).parents[1] / "support" / "odd_server.py"
    with ServerProcess(tmp_path_factory.mktemp("none"), command=[sys.executable, str(script)]) as server:
        server.initialize()
        yield server


class TestOddHandlers:
    """What no handler of the product does today, and none may do to a client tomorrow."""

    def test_a_lone_surrogate_is_mended_in_an_answer_and_in_progress(self, odd_server: ServerProcess) -> None:
        params = {"uri": "x:half", "_meta": {"progressToken": "p"}}
        request = odd_server.send("resources/read", params)
        progress = odd_server.line()
        assert progress["params"] == {"progressToken": "p", "progress": 1, "message": "half \ufffd"}
        assert odd_server.answer(request)["result"]["contents"][0]["text"] == "half \ufffd"

    def test_an_answer_that_is_no_json_becomes_an_error(self, odd_server: ServerProcess) -> None:
        answer = odd_server.answer(odd_server.send("resources/read", {"uri": "x:deep"}))
        assert answer["error"] == {"code": -32603, "message": "internal: the answer cannot be written as JSON"}
        assert odd_server.ask("ping") == {}

    @pytest.mark.long
    def test_a_handler_that_has_much_to_say_waits_for_its_client_and_is_heard_in_order(
        self, odd_server: ServerProcess
    ) -> None:
        request = odd_server.send("resources/read", {"uri": "x:talk", "_meta": {"progressToken": "t"}})
        wait_for(lambda: odd_server.errors.count(b"said") * 100_000 > UNSENT - 1_000_000)
        blank = b"\n" * 500_000
        taken = odd_server.pour(blank, patience_s=0.3)
        assert taken < len(blank)  # no more is read, and so:
        assert odd_server.errors.count(b"said") < 650
        assert [odd_server.line()["params"]["progress"] for _ in range(1000)] == list(range(1, 1001))
        assert odd_server.line()["id"] == request
        odd_server.pour(blank[taken:])

    def test_no_more_is_read_while_a_hundred_requests_are_under_way(self, odd_server: ServerProcess) -> None:
        padding = {"_meta": {"padding": "x" * CHUNK}}
        requests = [
            json.dumps({"jsonrpc": "2.0", "id": n, "method": "resources/read", "params": {"uri": "x:slow", **padding}})
            for n in range(150)
        ]
        lines = "".join(f"{request}\n" for request in requests).encode()
        taken = 0

        def pour() -> bool:
            nonlocal taken
            taken += odd_server.pour(lines[taken:], patience_s=0.2)
            return odd_server.errors.count(b"asked") >= 100

        wait_for(pour)
        pour()
        assert odd_server.errors.count(b"asked") < 105  # those that were on their way from the line to the handler
        assert taken < 110 * CHUNK
        odd_server.process.send_signal(signal.SIGUSR1)
        assert odd_server.pour(lines[taken:]) == len(lines) - taken
        assert all("result" in odd_server.answer(n) for n in range(150))
