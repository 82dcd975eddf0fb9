"""Traces and metrics for OpenTelemetry, as a collector gets them from servers over stdio and HTTP."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.collector import Collector
from support.databases import sqlite
from support.default_groups import KEYS, write
from support.fork_server import ForkServer
from support.http_process import HttpProcess, headers_for, message
from support.priced_config import COST_NUSD, priced_config
from support.processes import wait_for
from support.providers import Provider, Status, Text
from support.stdio_lines import MODERN, ServerProcess

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OTHER_TRACE = "1bf7651916cd43dd8448eb211c80319c"
SERVER, CLIENT, ERROR = 2, 3, 2  # as OTLP numbers kinds and statuses
SECRET_TEXT = "what nobody else may read"
ARGUMENTS = {"messages": [{"role": "user", "content": SECRET_TEXT}], "model_group": "strong", "tenant_id": "acme"}


@pytest.fixture
def config(tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider) -> Path:
    """Of a server whose group `strong` fails at one deployment and is answered by another."""
    openai.script(Text(SECRET_TEXT))
    anthropic.script(Status(500, SECRET_TEXT))
    http = {"pause_s": 0, "drain_s": 5}
    metrics = {"listen": "127.0.0.1:0"}
    settings = {"http": http, "metrics": metrics, "tenants": {"default": {}, "acme": {}}, "allow_unknown": False}
    return write(tmp_path, priced_config(sqlite(tmp_path), openai, anthropic, ollama, **settings))


def test_each_try_is_a_span_within_the_one_of_its_call(config: Path, fork_server: ForkServer | None) -> None:
    with (
        Collector() as collector,
        ServerProcess(config, environ={**KEYS, **collector.environ}, fork_server=fork_server) as server,
    ):
        meta = {**MODERN, "traceparent": f"00-{TRACE}-{PARENT}-01"}
        server.ask("tools/call", {"name": "complete", "arguments": ARGUMENTS, "_meta": meta})
        collector.until(lambda: len(collector.spans) >= 3 and len(collector.points) >= 5)
    spans = {span.name: span for span in collector.spans if span.trace == TRACE}
    call, failed, answered = (spans[name] for name in ("tools/call complete", "chat claude-sonnet-4-6", "chat paid"))
    assert (call.kind, call.parent) == (SERVER, PARENT)
    for tried in (failed, answered):
        assert (tried.kind, tried.parent) == (CLIENT, call.id)
        assert call.began_s <= tried.began_s <= tried.ended_s <= call.ended_s
    assert failed.ended_s <= answered.began_s + 0.001
    assert (failed.status, failed.attributes["error.type"]) == (ERROR, "server_error")
    assert answered.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "paid",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "konstruct.group": "paid",
        "konstruct.group_asked": "strong",
        "konstruct.deployment": "paid/1",
        "konstruct.tenant": "acme",
        "konstruct.cost_usd": pytest.approx(COST_NUSD / 1e9),
    }
    assert {"service.name": "konstruct-mcp"}.items() <= collector.resources[0].items()
    assert _nothing_private(collector)


def test_metrics_have_the_names_of_the_conventions(config: Path, fork_server: ForkServer | None) -> None:
    with Collector() as collector:
        with ServerProcess(config, environ={**KEYS, **collector.environ}, fork_server=fork_server) as server:
            server.ask("tools/call", {"name": "complete", "arguments": ARGUMENTS}, modern=True)
        points = list(collector.points)  # all of them, since the end of the server has sent the rest
    found = {(point.name, json.dumps(point.attributes, sort_keys=True)): point for point in points}
    chat = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "paid"}
    failed = {
        **chat,
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-6",
        "error.type": "server_error",
    }
    tool = {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "complete",
    }
    for name, unit, attributes, total in (
        ("gen_ai.client.operation.duration", "s", chat, None),
        ("gen_ai.client.operation.duration", "s", failed, None),
        ("gen_ai.client.token.usage", "{token}", {**chat, "gen_ai.token.type": "input"}, 11),
        ("gen_ai.client.token.usage", "{token}", {**chat, "gen_ai.token.type": "output"}, 7),
        ("mcp.server.operation.duration", "s", tool, None),
    ):
        point = found[name, json.dumps(attributes, sort_keys=True)]
        assert (point.unit, point.count) == (unit, 1)
        assert total in (None, point.sum)
    assert "acme" not in str(points)  # a tenant is no attribute of a metric
    assert _nothing_private(collector)


def test_nothing_is_sent_where_it_is_switched_off(config: Path, fork_server: ForkServer | None) -> None:
    with Collector() as collector:
        off = {"OTEL_SDK_DISABLED": "true"}
        with ServerProcess(config, environ={**KEYS, **collector.environ, **off}, fork_server=fork_server) as server:
            server.ask("tools/call", {"name": "complete", "arguments": ARGUMENTS}, modern=True)
        no_traces = {"OTEL_TRACES_EXPORTER": "none"}
        with ServerProcess(
            config, environ={**KEYS, **collector.environ, **no_traces}, fork_server=fork_server
        ) as server:
            server.ask("tools/call", {"name": "complete", "arguments": ARGUMENTS}, modern=True)
    assert not collector.spans
    assert collector.points


def test_a_collector_that_is_away_holds_up_no_call_and_no_end(config: Path, fork_server: ForkServer | None) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    with ServerProcess(config, environ={**KEYS, **environ}, fork_server=fork_server) as server:
        answer = server.ask("tools/call", {"name": "complete", "arguments": ARGUMENTS}, modern=True)
        assert answer["structuredContent"]["content"] == SECRET_TEXT


def test_a_collectors_key_is_in_no_line_about_headers_that_cannot_be_read(
    config: Path, fork_server: ForkServer | None
) -> None:
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key:sk-collector-7f3a9c", "NO_PROXY": "127.0.0.1"}
    with (
        Collector() as collector,
        ServerProcess(config, environ={**KEYS, **environ, **collector.environ}, fork_server=fork_server) as server,
    ):
        server.ask("tools/call", {"name": "complete", "arguments": ARGUMENTS}, modern=True)
    assert b"Header format invalid" in server.errors
    assert b"sk-collector-7f3a9c" not in server.errors


# -- over HTTP ---------------------------------------------------------------------------------------------------------


def test_over_http_the_parent_is_in_the_header_unless_the_message_names_one(
    config: Path, fork_server: ForkServer | None
) -> None:
    header = f"00-{TRACE}-{PARENT}-01"
    arguments = {**ARGUMENTS, "model_group": "free"}
    with Collector() as collector:
        with HttpProcess(config, env={**KEYS, **collector.environ}, fork_server=fork_server) as server:
            for meta in ({}, {"traceparent": f"00-{OTHER_TRACE}-{PARENT}-01"}):
                params = {"name": "complete", "arguments": arguments, "_meta": meta}
                server.ask("tools/call", params, traceparent=header)
            server.ask("tools/call", {"name": "complete", "arguments": arguments})
            server.terminate()
            assert server.ended() == 0
        spans = list(collector.spans)  # all of them, since the end of the server has sent the rest
    calls = [span for span in spans if span.name == "tools/call complete"]
    tries = [span for span in spans if span.name.startswith("chat ")]
    assert [span.trace for span in calls[:2]] == [TRACE, OTHER_TRACE]
    assert [span.parent for span in calls] == [PARENT, PARENT, ""]
    assert calls[2].trace not in (TRACE, OTHER_TRACE)
    assert [(span.trace, span.parent) for span in tries] == [(span.trace, span.id) for span in calls]


def test_a_request_that_is_sent_behind_another_is_no_part_of_its_trace(
    config: Path, fork_server: ForkServer | None
) -> None:
    def refused(server: HttpProcess) -> list[dict[str, Any]]:
        return [json.loads(line) for line in server.said if "unknown_tenant" in line]

    named = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with HttpProcess(config, env={**KEYS, "KONSTRUCT_LOG_FORMAT": "json"}, fork_server=fork_server) as server:
        said = b""
        for more in (named, {}):
            sent = message("tools/call", {"name": "complete", "arguments": {**ARGUMENTS, "tenant_id": "no-one"}})
            request = httpx2.Request("POST", server.url, json=sent, headers=headers_for(sent, "2026", **more))
            head = b"\r\n".join(b"%s: %s" % line for line in request.headers.raw)
            said += b"POST /mcp HTTP/1.1\r\n%s\r\n\r\n%s" % (head, request.content)
        host, _, port = server.root.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), 60) as connection:
            connection.sendall(said)
            wait_for(lambda: len(refused(server)) == 2)
    assert [line.get("trace_id") for line in refused(server)] == [TRACE, None]


def test_serve_offers_metrics_and_writes_json_and_an_audit_log(config: Path, fork_server: ForkServer | None) -> None:
    environ = {**KEYS, "KONSTRUCT_LOG_FORMAT": "json", "KONSTRUCT_LOG_LEVEL": "INFO"}
    header = f"00-{TRACE}-{PARENT}-01"
    with HttpProcess(config, env=environ, fork_server=fork_server) as server:
        [at] = [found[1] for line in server.said if (found := re.search(r"metrics at ([^\s\"]+)", line))]
        server.ask("tools/call", {"name": "complete", "arguments": ARGUMENTS}, traceparent=header)
        unknown = {"name": "complete", "arguments": {**ARGUMENTS, "tenant_id": "no-one"}}
        for _ in range(12):
            server.ask("tools/call", unknown)
        host, _, port = server.root.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), 60) as connection:
            connection.sendall(b"no HTTP\x1b[31m\r\n\r\n")
            connection.recv(100)
        with urllib.request.urlopen(at, timeout=60) as answer:
            scraped = answer.read().decode()
        server.terminate()
        assert server.ended() == 0
    families = {family.name: family for family in text_string_to_metric_families(scraped)}
    assert families.keys() >= {"konstruct_calls", "konstruct_ledger_up", "process_cpu_seconds"}
    [refused] = [one for one in families["konstruct_refusals"].samples if one.name == "konstruct_refusals_total"]
    assert (refused.labels, refused.value) == ({"code": "unknown_tenant"}, 12)
    lines = [json.loads(line) for line in server.said]
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in lines))
    assert not any(line["logger"].startswith("uvicorn") for line in lines)  # rubbish has no line, or it floods the log
    failed = next(line for line in lines if line["logger"] == "konstruct_mcp.gateway.call")
    assert (failed["tenant"], failed["trace_id"]) == ("acme", TRACE)
    assert failed["rpc_id"]
    audit = [line for line in lines if line["logger"] == "konstruct_mcp.audit"]
    assert [line["action"] for line in audit] == ["refused"] * 10 + ["refused again"]
    assert {line["code"] for line in audit} == {"unknown_tenant"}
    assert audit[-1]["times"] == 2
    assert len({line["request_id"] for line in audit[:-1]}) == 10


def _nothing_private(collector: Collector) -> bool:
    return not any(text.encode() in collector.sent for text in (SECRET_TEXT, *KEYS.values(), "sk-test"))
