"""The log as JSON, of a server over stdio, and the audit log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commands import ended, run, started
from support.databases import sqlite
from support.default_groups import HELLO, KEYS, write
from support.fork_server import ForkServer
from support.priced_config import priced_config
from support.providers import Provider, Status
from support.stdio_lines import MODERN, ServerProcess

from konstruct_mcp.core import audit
from konstruct_mcp.core.audit import RefusalLog
from konstruct_mcp.core.events import CallClosed, Refused

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET_TEXT = "what nobody else may read"


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def config_of(folder: Path, *providers: Provider, **settings: Any) -> Path:
    return write(folder, priced_config(sqlite(folder), *providers, **settings))


def test_a_line_is_json_with_its_request_its_tenant_and_its_trace(
    tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider, fork_server: ForkServer | None
) -> None:
    openai.script(Status(500, SECRET_TEXT))
    config, errors = config_of(tmp_path, openai, anthropic, ollama), tmp_path / "stderr"
    environ = {**KEYS, "KONSTRUCT_LOG_FORMAT": "json", "KONSTRUCT_LOG_LEVEL": "INFO"}
    with ServerProcess(config, environ=environ, stderr=errors, fork_server=fork_server) as server:
        arguments = {"messages": HELLO, "model_group": "unpriced", "tenant_id": "acme"}
        meta = {**MODERN, "traceparent": f"00-{TRACE}-{SPAN}-01"}
        server.ask("tools/call", {"name": "complete", "arguments": arguments, "_meta": meta})
    lines = lines_of(errors)
    [failed] = [line for line in lines if "openai/unpriced" in line["message"]]
    assert failed["level"] == "INFO"
    assert failed["logger"] == "konstruct_mcp.gateway.call"
    assert failed["tenant"] == "acme"
    assert failed["trace_id"] == TRACE
    assert len(failed["request_id"]) == 16
    assert failed["rpc_id"]
    assert failed["time"].endswith("+00:00")
    assert SECRET_TEXT not in errors.read_text()
    assert not [key for key in KEYS.values() if key in errors.read_text()]


def test_what_a_server_says_at_its_start_is_json_too(tmp_path: Path) -> None:
    file = tmp_path / "konstruct.yaml"
    file.write_text("model_list: 3\n\u2028: 1\n")
    environ = {"KONSTRUCT_LOG_FORMAT": "json", "KONSTRUCT_CONFIG": str(file)}
    with started("serve", env=environ) as process:
        ran = ended(process)
    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert lines
    assert {line["level"] for line in lines} == {"ERROR"}
    assert ran.err.isascii()


def test_a_format_that_there_is_not_is_a_mistake() -> None:
    ran = run("groups", env={"KONSTRUCT_LOG_FORMAT": "xml"})
    assert ran.code == 2
    assert "KONSTRUCT_LOG_FORMAT should be one of text, json" in ran.err


# -- the audit log -----------------------------------------------------------------------------------------------------


class Now:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


Audited = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def audited(caplog: pytest.LogCaptureFixture) -> Audited:
    """Gives the audit lines so far, as the fields that they have in JSON."""
    caplog.set_level(logging.INFO, audit.LOGGER)
    return lambda: [record.__dict__["audit"] for record in caplog.records if record.name == audit.LOGGER]


def test_calls_that_were_refused_for_who_asks_are_in_the_audit_log(audited: Audited) -> None:
    log = RefusalLog()
    log(Refused(None, None, "unknown_tenant"))
    log(Refused("acme", "paid", "overloaded"))
    log(Refused("acme", "paid", "invalid_argument"))
    log(CallClosed("acme", "paid", None, None, "budget_exceeded", 0.1, 1, 0, 0, 0, 0))
    log(CallClosed("acme", "paid", "paid", "openai/paid", "ok", 0.1, 1, 1, 1, 0, 0))
    assert audited() == [
        {"action": "refused", "code": "unknown_tenant"},
        {"action": "refused", "code": "overloaded", "tenant": "acme", "group": "paid"},
        {"action": "refused", "code": "budget_exceeded", "tenant": "acme", "group": "paid"},
    ]


def test_a_flood_of_refusals_is_a_few_lines_and_a_count(audited: Audited) -> None:
    now = Now()
    log = RefusalLog(now)
    for _ in range(1000):
        log.refused("invalid_token", address="192.0.2.1")
    log.refused("invalid_token", "acme")  # another's are told for themselves
    line = {"action": "refused", "code": "invalid_token", "address": "192.0.2.1"}
    acme = {"action": "refused", "code": "invalid_token", "tenant": "acme"}
    assert audited() == [line] * 10 + [acme]
    now.s = 61
    log.refused("invalid_token")
    again = {"action": "refused again", "code": "invalid_token", "times": 990}
    assert audited() == [line] * 10 + [acme, again, {"action": "refused", "code": "invalid_token"}]
    log.flush()
    assert audited() == [line] * 10 + [acme, again, {"action": "refused", "code": "invalid_token"}]


def test_requests_that_never_came_to_be_calls_are_told_to_who_counts_them(audited: Audited) -> None:
    log, counted = RefusalLog(), list[str]()
    end = log.watch(counted.append)
    for _ in range(20):
        log.refused("invalid_token")
    log(Refused("acme", "paid", "overloaded"))  # which is counted by its event
    end()
    log.refused("forbidden")
    assert counted == ["invalid_token"] * 20
    assert len(audited()) == 12


def test_a_flood_by_many_tenants_is_bounded_too(audited: Audited) -> None:
    log = RefusalLog(Now())
    for number in range(3000):
        log.refused("overloaded", f"tenant-{number}")
    assert len(log._windows) <= 1000


def test_a_line_is_one_line_whatever_is_in_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, audit.LOGGER)
    audit.note("key created", note="two\nlines\x1b[31m", tenant="acme", expires=None)
    [record] = caplog.records
    assert record.getMessage() == "audit: key created note=two?lines?[31m tenant=acme"


async def test_the_count_is_written_when_the_minute_is_over(audited: Audited) -> None:
    now, counted = Now(), asyncio.Event()
    log = RefusalLog(now)

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.__dict__["audit"]["action"] == "refused again":
                counted.set()

    logging.getLogger(audit.LOGGER).addHandler(watch := Watch())
    try:
        log.refused("overloaded", "acme")
        now.s = 60 - 1e-6  # so that the minute is over at once, for the event loop
        for _ in range(10):
            log.refused("overloaded", "acme")
        async with asyncio.timeout(30):
            await counted.wait()
    finally:
        logging.getLogger(audit.LOGGER).removeHandler(watch)
    line = {"code": "overloaded", "tenant": "acme"}
    assert audited() == [{"action": "refused", **line}] * 10 + [{"action": "refused again", **line, "times": 1}]
