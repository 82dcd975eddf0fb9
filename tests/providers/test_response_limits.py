"""Whatever one provider answers, the event loop goes round, and the next deployment is asked.

A fake on one side, `Konstruct` on the other, as in `test_answers`; the loop between them is watched. What it has worked
at most is looked at, which a busy machine does not change; benchmarks look at the pause itself.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import HELLO, entry, opened, reaching
from support.event_loop import SLOWDOWN, watched_loop
from support.providers import Answer, Changed, Endless, Provider, Raw, Received, Text

from konstruct_mcp.core.errors import InternalError
from konstruct_mcp.core.results import Completion
from konstruct_mcp.providers.litellm.response_limits import Intake
from konstruct_mcp.testing.shapes import Finish, OtherWire, Wire

pytestmark = pytest.mark.many_cases

BEHIND = "From behind"
MOST_WORK_S = 0.5 * SLOWDOWN  # in one turn of the loop: ten times what is usual, for a slow machine
MOST_BYTES = 2_000_000  # so that what is too much is soon there
MODELS: dict[Wire | OtherWire, str] = {
    "openai": "openai/gpt-4o",
    "anthropic": "anthropic/claude-sonnet-4-6",
    "gemini": "gemini/gemini-2.5-pro",
    "ollama": "ollama/qwen3:8b",
    "bedrock": "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "cohere": "cohere_chat/command-a-03-2025",
}
EVERY: list[Wire | OtherWire] = list(MODELS)
WAYS: list[Wire | OtherWire] = ["openai", "gemini", "ollama"]  # in which LiteLLM, or we, ask over HTTP


async def answered(
    folder: Path, wire: Wire | OtherWire, answer: Any, most_bytes: int = MOST_BYTES, **params: Any
) -> Completion:
    """What becomes of this answer, with another deployment behind; the loop is watched."""
    with Provider(wire) as provider, Provider("openai") as behind:
        provider.script(Text("Hello"), answer)
        behind.script(Text(BEHIND))
        config = {
            "model_list": [
                entry("it", reaching(provider, MODELS[wire]) | params, order=1),
                entry("it", reaching(behind, "openai/gpt-4o-mini"), order=2),
            ],
            "router_settings": {"num_retries": 0},
            "konstruct": {"max_response_bytes": most_bytes},
        }
        async with opened(folder, config) as konstruct:
            await konstruct.complete(HELLO, model_group="it")  # what the first call loads is not the answer's doing
            gc.freeze()  # as a server does
            try:
                async with watched_loop() as seen:
                    completion = await konstruct.complete(HELLO, model_group="it")
            finally:
                gc.unfreeze()
            assert seen.longest_work_s < MOST_WORK_S
            return completion


def grown(wire: Wire | OtherWire, text: Any = "Hello", more: str = "", calls: int = 0) -> Callable[[Received], Raw]:
    """A whole answer with such a text, so many calls, and more fields."""

    def give(received: Received) -> Raw:
        made = [(f"call_{index}", "weather", '{"city": "Oslo"}') for index in range(calls)]
        finish: Finish | None = "tool_calls" if calls else None
        body = Text(text, finish, tool_calls=made).render(received).decode()
        return Raw((body[:-1] + f", {more}}}" if more else body).encode())

    return give


def packed(answer: Callable[[Received], Raw], *encodings: str) -> Callable[[Received], Raw]:
    windows = {"gzip": 31, "deflate": 15, "raw": -15}

    def give(received: Received) -> Raw:
        body = answer(received).body
        for encoding in encodings:
            packing = zlib.compressobj(wbits=windows[encoding])
            body = packing.compress(body) + packing.flush()
        return Raw(body, headers={"content-encoding": ", ".join(encodings).replace("raw", "deflate")})

    return give


def said(completion: Completion) -> str:
    """Why the first deployment has not answered; that the one behind it did."""
    assert completion.content == BEHIND
    return completion.attempts[0].error


# -- what no answer is -------------------------------------------------------------------------------------------------

TOO_LARGE, TOO_MANY = "unusable answer (of more than 2 MB)", "unusable answer (of more parts than any answer)"
BEGUN = b'{"choices": [], "more": '


@pytest.mark.parametrize("wire", WAYS)
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Endless(BEGUN + b'"', b"a" * 2**16), TOO_LARGE),
        (Endless(b"", b" " * 2**16), TOO_LARGE),
        (Endless(BEGUN + b"[", b"{}," * 2**14), TOO_MANY),
        (Endless(BEGUN + b"[", b'"",' * 2**14), TOO_MANY),
        (Endless(BEGUN, b'{"a":' * 2**14), TOO_MANY),
    ],
    ids=["text", "space", "objects", "texts", "depth"],
)
async def test_an_answer_without_an_end_is_left_and_the_next_deployment_is_asked(
    tmp_path: Path, wire: Wire, answer: Answer, why: str
) -> None:
    assert said(await answered(tmp_path, wire, answer)) == why


OF_HTTPX, OF_OPENAI = {"ssl_verify": False}, {"organization": "o"}  # clients that are asked through


@pytest.mark.parametrize(
    ("encodings", "params"),
    [
        (("gzip",), {}),
        (("gzip",), OF_HTTPX),
        (("gzip",), OF_OPENAI),
        (("deflate",), {}),
        (("raw",), OF_HTTPX),
        (("gzip", "gzip"), {}),
        (("deflate", "gzip"), OF_OPENAI),
        (("gzip", "raw", "gzip"), {}),
    ],
)
async def test_what_unpacks_to_too_much_is_not_unpacked_to_its_end(
    tmp_path: Path, encodings: tuple[str, ...], params: dict[str, Any]
) -> None:
    async def asked(text: str) -> Completion:
        return await answered(tmp_path, "openai", packed(grown("openai", text), *encodings), **params)

    assert said(await asked("a" * 10_000_000)) == TOO_LARGE
    assert (await asked("a" * 100_000)).content == "a" * 100_000


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"content-encoding": "br"}, "packed in a way that was not asked for"),
        ({"content-encoding": "zstd"}, "packed in a way that was not asked for"),
        ({"content-encoding": ", ".join(["gzip"] * 100)}, "packed in a way that was not asked for"),
        ({"content-encoding": "gzip"}, "packed in another way than it says"),
    ],
)
async def test_what_cannot_be_unpacked_in_steps_is_no_answer(tmp_path: Path, headers: dict[str, str], why: str) -> None:
    completion = await answered(tmp_path, "openai", Raw(b"not packed at all", headers=headers))

    assert said(completion) == f"unusable answer ({why})"


MANY = {
    "calls": {"calls": 300},
    "objects": {"more": '"more": [' + "{}," * 20_000 + "{}]"},
    "numbers": {"more": '"more": [' + "1," * 90_000 + "1]"},
    "names": {"more": '"more": {' + ",".join(f'"{index}": 1' for index in range(50_000)) + "}"},
    "depth": {"more": '"more": ' + "[" * 300 + "]" * 300},
}


@pytest.mark.parametrize("wire", WAYS)
@pytest.mark.parametrize("many", MANY.values(), ids=list(MANY))
async def test_an_answer_of_more_parts_than_any_is_none(tmp_path: Path, wire: Wire, many: dict[str, Any]) -> None:
    assert said(await answered(tmp_path, wire, grown(wire, **many))) == TOO_MANY


@pytest.mark.parametrize("key", ["choices", "candidates", "output"])
async def test_many_answers_in_one_are_none(tmp_path: Path, key: str) -> None:
    body = f'{{"{key}": [' + '{"index": 0, "message": {"content": "a"}},' * 1000 + "{}]}"

    assert said(await answered(tmp_path, "openai", Raw(body.encode()))) == TOO_MANY


async def test_a_text_that_no_model_writes_is_no_answer(tmp_path: Path) -> None:
    completion = await answered(tmp_path, "openai", grown("openai", "a word " * 1_800_000), most_bytes=64_000_000)

    assert said(completion) == "unusable answer (of more than 12 MB of text)"


@pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
async def test_a_long_answer_that_is_not_in_utf_8_is_none(tmp_path: Path, charset: str) -> None:
    body = json.dumps({"choices": [{"message": {"content": "a" * 100_000}}]}).encode(charset)

    assert said(await answered(tmp_path, "openai", Raw(body))) == "unusable answer (not in UTF-8)"


async def test_an_answer_is_read_as_utf_8_whatever_it_is_called(tmp_path: Path) -> None:
    """Python knows charsets in which a text takes it hours."""

    def give(received: Received) -> Raw:
        return Raw(grown("openai", "Grüße, 世界")(received).body, content_type="application/json; charset=punycode")

    assert (await answered(tmp_path, "openai", give)).content == "Grüße, 世界"


# -- what real answers are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", EVERY)
@pytest.mark.parametrize(
    "text",
    ['A word, a {bracket} and a "quote"\\ and a \u4e16 \U0001f600.\n' * 4_000 + "End", "[1, 2, 3]," * 60_000 + "End"],
    ids=["prose", "data"],
)
async def test_the_longest_text_that_models_write_is_delivered(tmp_path: Path, wire: Wire, text: str) -> None:
    assert (await answered(tmp_path, wire, grown(wire, text))).content == text


@pytest.mark.parametrize("wire", EVERY)
async def test_as_many_calls_as_models_make_are_delivered(tmp_path: Path, wire: Wire) -> None:
    completion = await answered(tmp_path, wire, grown(wire, calls=128))

    assert [json.loads(call.function.arguments) for call in completion.tool_calls] == [{"city": "Oslo"}] * 128


async def test_what_the_responses_api_repeats_of_a_request_does_not_count(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {f"p{n}": {"enum": [1]} for n in range(20)}}
    tools = [{"type": "function", "name": f"f{n}", "parameters": schema, "strict": False} for n in range(300)]
    with Provider("openai") as openai:
        openai.script(Changed(Text("Hello"), lambda body: body.update(tools=tools)))
        config = {"model_list": [entry("it", reaching(openai, "openai/responses/gpt-4o"))]}
        async with opened(tmp_path, config) as konstruct:
            assert (await konstruct.complete("Hi")).content == "Hello"


async def test_images_do_not_keep_a_text_from_being_read(tmp_path: Path) -> None:
    image = f'"image": [{{"b64": "data:image/png;base64,{"A" * 3_000_000}"}}, {{"b64": "{"A" * 5_000_000}"}}]'

    completion = await answered(tmp_path, "openai", grown("openai", more=image), most_bytes=64_000_000)

    assert completion.content == "Hello"


async def test_what_is_said_of_each_token_does_not_keep_a_text_from_being_read(tmp_path: Path) -> None:
    token = {
        "token": "a",
        "logprob": -0.1,
        "bytes": [97],
        "top_logprobs": [{"token": "b", "logprob": -1, "bytes": [98]}],
    }

    def give(received: Received) -> Raw:
        body = json.loads(grown("openai")(received).body)
        body["choices"][0]["logprobs"] = {"content": [token] * 4_000}
        return Raw(json.dumps(body).encode())

    assert (await answered(tmp_path, "openai", give)).content == "Hello"


async def test_a_long_answer_in_events_is_read_to_its_end(tmp_path: Path) -> None:
    """As ChatGPT gives it, whose answers LiteLLM reads whole: hundreds of bytes for each token, and then all again."""
    piece = (
        'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":" a,","logprobs":[]}\n\n'
    )
    text = " a," * 20_000
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    whole = {"type": "response.completed", "response": {"status": "completed", "output": [item]}}
    body = piece * 20_000 + f"event: response.completed\ndata: {json.dumps(whole)}\n\n"

    intake, content = Intake(64_000_000, "", is_error=False), b""
    for at in range(0, len(body), 999):
        content += b"".join(intake.take(body[at : at + 999].encode()))
    content += b"".join(intake.end())

    kept = [line.removeprefix(b"data: ") for line in content.splitlines() if line.startswith(b"data:")]
    assert list(map(json.loads, kept)) == [whole]


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WAYS)
@pytest.mark.parametrize(
    "piece", [b"a " * 2**15, b"{}," * 2**14, b"\\u0041" * 2**13], ids=["text", "objects", "escapes"]
)
async def test_an_error_without_an_end_is_known_by_its_status(tmp_path: Path, wire: Wire, piece: bytes) -> None:
    completion = await answered(tmp_path, wire, Endless(b'{"error": {"message": "', piece, status=503))

    assert said(completion) == "server error (HTTP 503)"


async def test_an_error_that_echoes_the_request_is_understood(tmp_path: Path) -> None:
    echo = {"error": {"echo": ["é\\" * 100_000], "code": "insufficient_quota", "message": "No."}}

    completion = await answered(tmp_path, "openai", Raw(json.dumps(echo).encode(), status=429))

    assert said(completion) == "quota used up (HTTP 429)"


@pytest.mark.long
async def test_so_much_is_no_token(tmp_path: Path) -> None:
    with Provider("vertex") as provider, Provider("openai") as behind:
        provider.also["/token"]["more"] = "a" * 2_000_000
        behind.script(Text(BEHIND))
        config = {
            "model_list": [
                entry("it", reaching(provider, "vertex_ai/gemini-2.5-pro"), order=1),
                entry("it", reaching(behind, "openai/gpt-4o"), order=2),
            ]
        }
        async with opened(tmp_path, config) as konstruct:
            assert said(await konstruct.complete(HELLO)) == "unusable answer (of more than 1.05 MB)"


async def test_a_token_is_fetched_from_where_its_address_points(tmp_path: Path) -> None:
    with Provider("vertex") as provider:
        provider.also["/elsewhere"] = provider.also["/token"]
        provider.also["/token"] = Raw(b"moved", status=307, headers={"location": f"{provider.root}/elsewhere"})
        config = {"model_list": [entry("it", reaching(provider, "vertex_ai/gemini-2.5-pro"))]}
        async with opened(tmp_path, config) as konstruct:
            assert (await konstruct.complete(HELLO)).content == "Hello from vertex"


async def test_a_refusal_of_a_token_that_does_not_end_is_left(tmp_path: Path) -> None:
    with Provider("vertex") as provider, Provider("openai") as behind:
        provider.also["/token"] = Endless(b'{"error": "', b"a" * 2**16, status=400)
        behind.script(Text(BEHIND))
        config = {
            "model_list": [
                entry("it", reaching(provider, "vertex_ai/gemini-2.5-pro"), order=1),
                entry("it", reaching(behind, "openai/gpt-4o"), order=2),
            ]
        }
        async with opened(tmp_path, config) as konstruct:
            why = said(await konstruct.complete(HELLO))
        assert why == "not asked: LiteLLM cannot make its request; check its settings"


# -- connections -------------------------------------------------------------------------------------------------------


LARGE = "x" * 300_000


def files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_idle_connections_leave_files_for_others(tmp_path: Path) -> None:
    """In this process are both ends of each."""
    hosts, at_once = 6, 8
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_before = files()
    with ExitStack() as stack:
        providers = [stack.enter_context(Provider("openai")) for _ in range(hosts)]
        config = {
            "model_list": [
                entry(str(index), reaching(provider, "openai/gpt-4o")) for index, provider in enumerate(providers)
            ]
        }
        resource.setrlimit(resource.RLIMIT_NOFILE, (64 + 4 * at_once, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        async with AsyncExitStack() as opening:
            konstruct = await opening.enter_async_context(opened(tmp_path, config))
            for index in range(hosts):
                for messages in (HELLO, LARGE):  # which is asked on another loop
                    calls = [konstruct.complete(messages, model_group=str(index)) for _ in range(at_once)]
                    answers = await asyncio.gather(*calls)
                    assert [answer.content for answer in answers] == ["Hello from openai"] * at_once
            assert files() < open_before + 2 * 3 * at_once + hosts


# -- LiteLLM itself ----------------------------------------------------------------------------------------------------


async def test_a_failed_load_of_litellm_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Provider("openai") as provider:
        config = {"model_list": [entry("it", reaching(provider, "openai/gpt-4o"))]}
        monkeypatch.setitem(sys.modules, "litellm", None)  # what Python takes for a package that is not there
        async with opened(tmp_path, config) as konstruct:
            began = time.monotonic()
            for _ in range(20):
                with pytest.raises(InternalError, match="LiteLLM cannot be loaded"):
                    await konstruct.complete(HELLO)
            # Not for each of them, but a second later at the earliest: an import that fails takes long too.
            loads = [line for line in caplog.messages if "LiteLLM cannot be loaded" in line]
            assert 1 <= len(loads) <= 1 + (time.monotonic() - began)
            monkeypatch.undo()
            began = time.monotonic()
            while time.monotonic() < began + 30:
                try:
                    completion = await konstruct.complete(HELLO)
                    break
                except InternalError:
                    await asyncio.sleep(0.05)
            else:
                pytest.fail("not loaded again")
            assert completion.content == "Hello from openai"
