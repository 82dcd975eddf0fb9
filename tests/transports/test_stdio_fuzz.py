"""Anything on stdin: the server goes on, and answers each request once.

One server for each state that a connection can be in lives through all examples; for the first line of all, there is a
new one each time. The long form runs with `-m long`.
"""

from __future__ import annotations

import json
import math
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.databases import sqlite
from support.default_groups import write
from support.fork_server import ForkServer
from support.priced_config import priced_config
from support.providers import Provider
from support.stdio_lines import MODERN, ServerProcess

LASTING = ("uninitialized", "handshake", "modern")  # the states of a connection; "first" is before its first line

# Names of what no Python value stands for: how it is written, and how it is to be understood.
HUGE, DEEP, DEEPER = "<huge>", "<deep>", "<deeper>"
WRITTEN = {HUGE: "9" * 5000, DEEP: "[" * 150 + "]" * 150, DEEPER: '{"a":[' * 3000 + "]}" * 3000}
MEANT = {HUGE: "1e999", DEEP: "[]", DEEPER: '{"too": "deep"}'}

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([2**63, -(2**64), 10**400, 10**4299, 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf]),
    st.sampled_from([HUGE, DEEP, DEEPER]),
    st.text(st.characters(), max_size=8),  # lone surrogates and NUL among them
    st.sampled_from(["\ud800", "\udfff\ud83d", "\x00", "\u2028", "x" * 70_000]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mostly(draw: st.DrawFn, usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any] = VALUES) -> Any:
    return draw(usual if draw(st.integers(0, 4)) else odd)


IDS = mostly(
    st.integers(-2, 12) | st.integers(-2, 12).map(str),
    st.sampled_from(["", "\u0667", " 7 ", "\ud800", "\x00", "1" * 5000, 2**63, -(10**400), 10**4299, HUGE]) | SCALARS,
)
META = st.dictionaries(
    st.sampled_from([*MODERN, "progressToken", "traceparent", "io.modelcontextprotocol/logLevel"]), VALUES, max_size=2
)
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
USUAL: dict[str, Any] = {
    "model_group": "free",
    "tools": [FUNCTION],
    "tool_choice": "auto",
    "response_format": {"type": "json_object"},
    "max_tokens": 5,
    "temperature": 1,
    "tenant_id": "acme",
    "timeout_s": 30,
}
ARGUMENTS = st.fixed_dictionaries(
    {"messages": mostly(st.just([{"role": "user", "content": "Hello"}]))},
    optional={name: mostly(st.just(value)) for name, value in USUAL.items()},
)
URIS = st.sampled_from(["konstruct://groups", "konstruct://config", "konstruct://usage", "konstruct://groups/free"])
PARAMS: dict[str, st.SearchStrategy[Any]] = {
    "initialize": st.fixed_dictionaries(
        {},
        optional={
            "protocolVersion": mostly(st.sampled_from(["2025-11-25", "2026-07-28"])),
            "capabilities": mostly(st.just({})),
            "clientInfo": mostly(st.just({"name": "fuzz", "version": "1"})),
        },
    ),
    "ping": st.just({}),
    "server/discover": st.just({}),
    "tools/list": st.fixed_dictionaries({}, optional={"cursor": VALUES}),
    "tools/call": st.one_of(
        st.fixed_dictionaries({"name": st.just("complete"), "arguments": mostly(ARGUMENTS)}),
        st.fixed_dictionaries({"name": st.just("list_groups"), "arguments": mostly(st.just({}))}),
        st.fixed_dictionaries({}, optional={"name": VALUES, "arguments": VALUES}),
    ),
    "resources/list": st.just({}),
    "resources/templates/list": st.just({}),
    "resources/read": st.fixed_dictionaries({}, optional={"uri": mostly(URIS)}),
    "completion/complete": st.fixed_dictionaries(
        {},
        optional={
            "ref": mostly(st.just({"type": "ref/resource", "uri": "konstruct://groups/{name}"})),
            "argument": mostly(st.just({"name": "name", "value": "f"})),
        },
    ),
    "logging/setLevel": st.fixed_dictionaries({}, optional={"level": mostly(st.just("debug"))}),
    "subscriptions/listen": st.fixed_dictionaries(
        {}, optional={"notifications": mostly(st.just({"toolsListChanged": True}))}
    ),
    "notifications/initialized": st.just({}),
    "notifications/cancelled": st.fixed_dictionaries({}, optional={"requestId": IDS, "reason": VALUES}),
    "notifications/progress": st.fixed_dictionaries({}, optional={"progressToken": IDS, "progress": VALUES}),
}
METHODS = [*PARAMS, *["tools/call"] * 5]  # most of what there is to get wrong


@st.composite
def messages(draw: st.DrawFn, *, modern: bool) -> dict[str, Any]:
    """What looks like JSON-RPC, and mostly is what a client of this era says."""
    method = draw(st.sampled_from(METHODS))
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if not method.startswith("notifications/"):
        message["id"] = draw(IDS)
    params = draw(mostly(PARAMS[method]))
    meta: Any = MODERN if modern else {}
    match draw(st.integers(0, 9)):
        case 0:
            meta = draw(VALUES)
        case 1 | 2:
            meta = {**meta, **draw(META)}
        case 3:
            meta = {} if modern else MODERN
    if isinstance(params, dict) and meta:
        params = {**params, "_meta": meta}
    message["params"] = params
    return message


@st.composite
def mutants(draw: st.DrawFn, *, modern: bool) -> dict[str, Any]:
    message = draw(messages(modern=modern))
    for key in draw(st.lists(st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error"]), max_size=2)):
        if draw(st.booleans()):
            message.pop(key, None)
        else:
            message[key] = draw(VALUES)
    return message


ANSWERS = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "id": IDS},
    optional={"result": mostly(st.just({})), "error": mostly(st.just({"code": -1, "message": ""}))},
)


@st.composite
def texts(draw: st.DrawFn, *, modern: bool) -> str:
    """A line, with the names still in it of what is to be put in."""
    value = draw(mostly(messages(modern=modern), st.one_of(mutants(modern=modern), ANSWERS, VALUES)))
    text = json.dumps(value, ensure_ascii=True)
    match draw(st.integers(0, 19)):
        case 0 if isinstance(value, dict):  # a key twice: the last one counts
            key = draw(st.sampled_from(["jsonrpc", "id", "method", "params"]))
            text = f"{{{json.dumps(key)}: {json.dumps(draw(SCALARS))}, {text[1:]}"
        case 1:
            text = draw(st.sampled_from(["\ufeff", " \t", "\r", "\x00", "["])) + text
        case 2:
            text += draw(st.sampled_from(["\r", " \r\r", "\x00", "}"]))
    return text


def put_in(what: dict[str, str], text: str) -> str:
    for name, replacement in what.items():
        text = text.replace(json.dumps(name), replacement)
    return text


@st.composite
def lines(draw: st.DrawFn, *, modern: bool) -> tuple[bytes, str]:
    """A line, and its text as it is to be understood."""
    if draw(st.integers(0, 9)):
        text = draw(texts(modern=modern))
        return put_in(WRITTEN, text).encode(), put_in(MEANT, text)
    line = draw(st.binary(max_size=40) | texts(modern=modern).map(str.encode))
    at = draw(st.integers(0, len(line)))
    line = line[:at] + draw(st.binary(max_size=3)) + line[at + draw(st.integers(0, 3)) :]
    line = line.replace(b"\n", b"")
    return line, line.decode(errors="replace")


@st.composite
def batches(draw: st.DrawFn) -> tuple[str, list[tuple[bytes, str]]]:
    """What is said to the server in one of the states."""
    state = draw(st.sampled_from((*LASTING * 5, "first")))
    modern = state == "modern" or (state == "first" and draw(st.booleans()))
    return state, draw(st.lists(lines(modern=modern), min_size=1, max_size=12))


Key = tuple[type, Any]
NOBODY: Key = (type(None), None)


def key(request_id: Any) -> Key:
    """Of an answer: 7 and "7" are two."""
    if isinstance(request_id, str):
        request_id = request_id.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return type(request_id), request_id


def is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def owed(text: str) -> tuple[Key | None, Any]:
    """Under which id a line is owed an answer, if it is owed one; and the message that it holds."""
    text = text.lstrip("\ufeff").strip()
    try:
        message = json.loads(text)
    except ValueError:
        return (NOBODY if text else None), None
    if not isinstance(message, dict):
        return NOBODY, None
    if "id" in message or "method" not in message:
        if "method" not in message and ("result" in message or "error" in message):
            return None, message
        return (key(message["id"]) if is_id(message.get("id")) else NOBODY), message
    is_notification = (
        message.get("jsonrpc") == "2.0"
        and isinstance(message["method"], str)
        and isinstance(message.get("params"), dict | None)
        and MEANT[DEEPER] not in text
    )
    return (None if is_notification else NOBODY), message


def named(request_id: Any) -> Any:
    """What a cancellation takes for the same id: the SDK reads "7" as 7."""
    try:
        return int(request_id)
    except ValueError:
        return request_id


class Conversation:
    """One client that says anything, and keeps count of what it is owed."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self._open: Counter[Key] = Counter()  # answers that may still come, or not
        self._failure: Exception | None = None

    def say(self, batch: list[tuple[bytes, str]]) -> None:
        if self._failure is not None:
            raise self._failure  # when hypothesis tries again what has broken it
        try:
            self._say(batch)
        except Exception as error:
            self._failure = error
            raise

    def _say(self, batch: list[tuple[bytes, str]]) -> None:
        owing: Counter[Key] = Counter()
        cancelled, lasting = set(), set()
        for _, text in batch:
            answer, message = owed(text)
            if answer is not None:
                owing[answer] += 1
            if message is not None and message.get("method") == "subscriptions/listen":
                lasting.add(answer)
            if message is not None and message.get("method") == "notifications/cancelled":
                params = message.get("params")
                if isinstance(params, dict) and is_id(params.get("requestId")):
                    cancelled.add(named(params["requestId"]))
        for answer in [answer for answer in owing if answer in lasting or named_key(answer) in cancelled]:
            self._open[answer] += owing.pop(answer)
        last = uuid.uuid4().hex
        owing[key(last)] += 1
        ping = json.dumps({"jsonrpc": "2.0", "id": last, "method": "ping"}).encode()
        data = b"\n".join([line for line, _ in batch] + [ping]) + b"\n"
        assert self.server.pour(data) == len(data)
        while owing:
            line = self.server.line()
            if "method" not in line:
                answer = key(line["id"])
                counter = owing if answer in owing else self._open
                assert counter[answer] > 0, f"nobody asked for {line}"
                counter[answer] -= 1
                if not counter[answer]:
                    del counter[answer]


def named_key(answer: Key) -> Any:
    return named(answer[1]) if answer != NOBODY else None


class World:
    """A server in each state that a connection can be in, and one to come."""

    def __init__(self, config: Path, fork_server: ForkServer | None) -> None:
        self._config = config
        self._fork_server = fork_server
        self._stack = ExitStack()
        self.lasting = {state: Conversation(self._stack.enter_context(self._start(state))) for state in LASTING}

    def _start(self, state: str) -> ServerProcess:
        server = ServerProcess(self._config, fork_server=self._fork_server)
        if state == "handshake":
            server.initialize()
        elif state == "modern":
            server.ask("tools/list", modern=True)
        elif state == "uninitialized":
            server.ask("ping")
        return server

    @contextmanager
    def conversation(self, state: str) -> Iterator[Conversation]:
        if state in self.lasting:
            yield self.lasting[state]
        else:
            with self._start(state) as server:
                yield Conversation(server)
                assert_no_defect(server)

    def close(self) -> None:
        self._stack.close()


def assert_no_defect(server: ServerProcess) -> None:
    server.close()
    assert b"Traceback" not in server.errors, server.errors.decode()


@pytest.mark.parametrize("examples", [80, pytest.param(5000, marks=[pytest.mark.minutes, pytest.mark.timeout(3600)])])
def test_nothing_ends_it_and_each_request_is_answered_once(
    examples: int,
    tmp_path: Path,
    fork_server: ForkServer | None,
    openai: Provider,
    anthropic: Provider,
    ollama: Provider,
) -> None:
    database = sqlite(tmp_path)
    config = write(tmp_path, priced_config(database, openai, anthropic, ollama))
    world = World(config, fork_server)

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a server that has been broken is no help in shrinking
    )
    @given(batches())
    def speak(drawn: tuple[str, list[tuple[bytes, str]]]) -> None:
        state, batch = drawn
        with world.conversation(state) as conversation:
            conversation.say(batch)

    try:
        speak()
    finally:
        world.close()
        database.engine.dispose()
    for conversation in world.lasting.values():
        assert_no_defect(conversation.server)
