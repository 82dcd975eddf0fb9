"""The own model of a coding agent: a fake that says which tools the agent is to call, in its provider's stream.

    script = Script(([{"messages": HELLO}],), "done")       # a turn with one call, then the last word
    anthropic.script(script)
    ... run the agent against anthropic.root ...
    script.offered                                          # the tools that its first request named

A coding agent asks its model again with the results of the calls, and asks it for other things besides: a title, a
summary. How far the script is, is read from each request, so that retries and those other questions do no harm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from support.providers import Received, Text

from konstruct_mcp.testing.connection import Connection
from konstruct_mcp.testing.shapes import Body

Event = tuple[str | None, Body]
Arguments = Mapping[str, Any]
Turn = Sequence[Arguments]
"""What `complete` is called with, all at once. An argument that is a function is made of the answers so far."""


@dataclass(frozen=True)
class Streamed(Text):
    """A completion as server-sent events, whole deltas each."""

    async def give(self, received: Received, connection: Connection) -> None:
        body = received.render(self, received.asked)
        events = _FORMATS[_shape(received)].events(body)
        text = "".join(
            f"event: {name}\n" * (name is not None) + f"data: {json.dumps(data)}\n\n" for name, data in events
        )
        if _shape(received) == "chat":
            text += "data: [DONE]\n\n"
        await connection.send(200, text.encode(), "text/event-stream")


@dataclass
class Script:
    """What the model says: the calls of one turn after the other, then `last`.

    Attributes:
        tool: the tool to call is the one whose name ends so.
        requests: those that offered the tool, in order.
        results: what came of each call, as the last request had it.
    """

    turns: Sequence[Turn]
    last: str = "done"
    tool: str = "complete"
    requests: list[Received] = field(default_factory=list)
    without: list[Received] = field(default_factory=list)
    results: list[str] = field(default_factory=list)

    @property
    def answers(self) -> list[Any]:
        """The results as objects. Agents put words of their own around them, and one the rest of MCP's result."""
        found = [re.search(r"\{.*\}", result, re.DOTALL) for result in self.results]
        assert all(found), self.results
        results = [json.loads(match[0]) for match in found if match]
        return [result.get("structuredContent", result) for result in results]

    def __call__(self, received: Received) -> Text:
        shape = _FORMATS[_shape(received)]
        answer = Streamed if _streams(received) else Text
        name = next((name for name in shape.offered(received.body) if name.split(".")[-1].endswith(self.tool)), None)
        if name is None:
            self.without.append(received)
            return answer("ok")
        self.requests.append(received)
        self.results = list(shape.results(received.body))
        done = 0
        for turn in self.turns:
            if done == len(self.results):
                calls = [self._made(call) for call in turn]
                ids = range(done, done + len(calls))
                return answer(
                    None, tool_calls=[(f"call_{n}", name, json.dumps(call)) for n, call in zip(ids, calls, strict=True)]
                )
            done += len(turn)
        return answer(self.last)

    def _made(self, call: Arguments) -> dict[str, Any]:
        return {name: value(self.answers) if callable(value) else value for name, value in call.items()}


@dataclass(frozen=True)
class _Shape:
    """How one format has tools and results in a request, and an answer in a stream."""

    offered: Callable[[Body], Iterable[str]]
    results: Callable[[Body], Iterator[str]]
    events: Callable[[Body], Iterator[Event]]


def _shape(received: Received) -> str:
    path = received.path.partition("?")[0]
    return next(name for name in _FORMATS if re.search(_PATHS[name], path))


def _streams(received: Received) -> bool:
    return bool(received.body.get("stream")) or "streamGenerateContent" in received.path


def _text(content: Any) -> str:
    """The text of a result: a string, or parts with one each, which may be in a string as JSON."""
    if isinstance(content, str):
        with suppress(ValueError):
            if isinstance(parts := json.loads(content), list):
                return _text(parts)
        return content
    return "".join(str(part.get("text", "")) for part in content or ())


# -- Anthropic's messages


def _messages_results(body: Body) -> Iterator[str]:
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "tool_result":
                yield _text(part.get("content"))


def _messages_events(body: Body) -> Iterator[Event]:
    usage, blocks = body["usage"], body["content"]
    start = {**body, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield "message_start", {"type": "message_start", "message": start}
    for index, block in enumerate(blocks):
        at = {"index": index}
        if block["type"] == "tool_use":
            empty, delta = (
                {**block, "input": {}},
                {"type": "input_json_delta", "partial_json": json.dumps(block["input"])},
            )
        else:
            empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
        yield "content_block_start", {"type": "content_block_start", **at, "content_block": empty}
        yield "content_block_delta", {"type": "content_block_delta", **at, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", **at}
    ended = {"stop_reason": body["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": ended, "usage": usage}
    yield "message_stop", {"type": "message_stop"}


# -- OpenAI's responses


def _responses_offered(body: Body) -> Iterator[str]:
    for tool in body.get("tools", ()):
        if tool["type"] == "namespace":
            yield from (f"{tool['name']}.{inner['name']}" for inner in tool["tools"])
        elif "name" in tool:
            yield tool["name"]


def _responses_results(body: Body) -> Iterator[str]:
    for item in body["input"] if isinstance(body["input"], list) else ():
        if item["type"] == "function_call_output":
            yield _text(item["output"])


def _responses_events(body: Body) -> Iterator[Event]:
    output = []
    for item in body["output"]:
        namespace, dot, name = item.get("name", "").rpartition(".")
        output.append({**item, "name": name, "namespace": namespace} if dot else item)
    started = {**body, "output": [], "status": "in_progress", "usage": None}
    yield "response.created", {"type": "response.created", "response": started}
    for index, item in enumerate(output):
        at = {"output_index": index}
        yield (
            "response.output_item.added",
            {"type": "response.output_item.added", **at, "item": {**item, "status": "in_progress"}},
        )
        for part in item.get("content", ()):
            delta = {"item_id": item["id"], "content_index": 0, "delta": part["text"]}
            yield "response.output_text.delta", {"type": "response.output_text.delta", **at, **delta}
        yield "response.output_item.done", {"type": "response.output_item.done", **at, "item": item}
    yield "response.completed", {"type": "response.completed", "response": {**body, "output": output}}


# -- OpenAI's chat completions


def _chat_results(body: Body) -> Iterator[str]:
    return (_text(message["content"]) for message in body["messages"] if message["role"] == "tool")


def _chat_events(body: Body) -> Iterator[Event]:
    [choice] = body["choices"]
    delta = {**choice["message"]}
    if calls := delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    chunk = {**body, "object": "chat.completion.chunk", "usage": None}
    yield None, {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield None, {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    yield None, {**chunk, "choices": [], "usage": body["usage"]}


# -- Google


def _google_offered(body: Body) -> Iterator[str]:
    for tool in body.get("tools", ()):
        yield from (declared["name"] for declared in tool.get("functionDeclarations", ()))


def _google_results(body: Body) -> Iterator[str]:
    for content in body["contents"]:
        for part in content["parts"]:
            if "functionResponse" in part:
                response = part["functionResponse"]["response"]
                yield str(response["output"]) if "output" in response else json.dumps(response)


_PATHS = {
    "messages": "/messages$",
    "responses": "/responses$",
    "chat": "/chat/completions$",
    "google": "GenerateContent$|:generateContent$",
}
_FORMATS = {
    "messages": _Shape(
        lambda body: [tool["name"] for tool in body.get("tools", ())], _messages_results, _messages_events
    ),
    "responses": _Shape(_responses_offered, _responses_results, _responses_events),
    "chat": _Shape(
        lambda body: [tool["function"]["name"] for tool in body.get("tools") or ()], _chat_results, _chat_events
    ),
    "google": _Shape(_google_offered, _google_results, lambda body: iter([(None, body)])),
}
