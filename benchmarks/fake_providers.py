"""Fake providers in a process of their own.

    python benchmarks/fake_providers.py timed|delayed|planned

Each kind says first where its providers are, as a JSON object of addresses by format, and serves until stdin ends:

timed     for `performance.py`: cheap enough not to be what is measured. Each line of stdin says how to answer from now
          on, and is answered with how often it has been asked
delayed   for `ledger.py`: each prompt is the seconds that its answer takes
planned   for `soak.py`: each prompt tells its providers, try by try, how to answer it. They say which call they keep
          waiting. A line of stdin has them close all connections once nothing is in flight, and say so
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness import LONGEST_LINE, WAIT_S

if TYPE_CHECKING:
    from support import providers as fake

MODELS = {"anthropic": "claude-sonnet-4-6", "openai": "gpt-4o"}


def tell(what: Any) -> None:
    """Write a line whole, from whichever thread."""
    os.write(sys.stdout.fileno(), json.dumps(what).encode() + b"\n")


# -- timed -------------------------------------------------------------------------------------------------------------


def answer_bodies(chars: int) -> dict[str, bytes]:
    """The bodies of an answer with about so many characters of text, by format."""
    text = "The sky is blue. "[:chars] * max(1, chars // 17)
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODELS["anthropic"],
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 12, "output_tokens": 34},
    }
    completion = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": MODELS["openai"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46},
    }
    return {"anthropic": json.dumps(message).encode(), "openai": json.dumps(completion).encode()}


async def timed() -> None:
    """One server on aiohttp that answers in both formats, at any path."""
    from aiohttp import web

    told: dict[str, Any] = {"delay": 0.0, "chars": 20, "status": 200}
    bodies = answer_bodies(told["chars"])
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        await request.read()
        if told["delay"]:
            await asyncio.sleep(told["delay"])
        if told["status"] != 200:
            return web.json_response({"error": {"message": "out of order", "type": "server_error"}}, status=503)
        wire = "anthropic" if request.path.endswith("/messages") else "openai"
        return web.Response(body=bodies[wire], content_type="application/json")

    application = web.Application(client_max_size=LONGEST_LINE)
    application.router.add_post("/{path:.*}", answer)  # each deployment that goes down has an address of its own
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    [(host, port)] = [address[:2] for address in runner.addresses]
    tell(dict.fromkeys(MODELS, f"http://{host}:{port}"))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        told.update(json.loads(line))
        bodies = answer_bodies(told["chars"])
        tell(asked)


# -- delayed -----------------------------------------------------------------------------------------------------------


def delayed() -> None:
    from support.providers import Provider, Received, Text

    def answer(received: Received) -> Text:
        return Text("yes", delay=float(received.body["messages"][0]["content"]))

    with Provider("openai") as provider:
        provider.script(answer)
        tell({provider.wire: provider.url})
        sys.stdin.read()


# -- planned -----------------------------------------------------------------------------------------------------------


def planned() -> None:
    from soak_requests import planned_text, planned_usage
    from support import providers as fake

    asked: Counter[tuple[int, str]] = Counter()

    def answer(received: fake.Received) -> fake.Answer:
        user = next(message["content"] for message in received.body["messages"] if message["role"] == "user")
        plan = json.loads((user if isinstance(user, str) else user[0]["text"]).partition("\n")[0])
        number, words = plan["call"], plan[received.wire]
        word = words[min(asked[number, received.wire], len(words) - 1)]
        asked[number, received.wire] += 1
        if word in ("hang", "half", "later"):
            tell({"waits": number})
        return answer_to(word, number, planned_text(number, plan["size"]), planned_usage(number), plan["delay"])

    with contextlib.ExitStack() as stack:
        wires: tuple[fake.Wire, ...] = ("anthropic", "openai", "ollama")
        providers = [stack.enter_context(fake.Provider(wire)) for wire in wires]
        for provider in providers:
            provider.script(answer)
        tell({provider.wire: provider.url for provider in providers})
        for _ in sys.stdin:
            for provider in providers:
                provider.wait_for(lambda: not any(provider.in_flight for provider in providers), WAIT_S)
                provider.stop()
                provider.start()
                provider.requests.clear()
            asked.clear()
            tell({"rests": True})


def answer_to(word: str, number: int, text: str, usage: tuple[int, int], delay: float) -> fake.Answer:
    """The answer that one word of a plan stands for; a number is an HTTP status."""
    from support import providers as fake

    calls = [(f"call_{number}", "look_up", json.dumps({"number": number}))]
    answers: dict[str, fake.Answer] = {
        "text": fake.Text(text, usage=usage, delay=delay),
        "tool": fake.Text(None, tool_calls=calls, usage=usage, delay=delay),
        "both": fake.Text(text, tool_calls=calls, usage=usage, delay=delay),
        "hang": fake.Hang(),
        "half": fake.HangBody(),
        "later": fake.Status(503, headers={"retry-after": "40"}),
        "soon": fake.Status(429, headers={"retry-after-ms": "20"}),
        "overflow": fake.ContextOverflow(),
        "policy": fake.ContentPolicy(),
        "drop": fake.Drop(),
        "reset": fake.Reset(),
        "page": fake.Raw(b"<html>Bad gateway</html>", content_type="text/html"),
        "empty": fake.Raw(b'{"id": "", "object": "chat.completion", "created": 0, "model": "", "choices": []}'),
    }
    return answers[word] if word in answers else fake.Status(int(word))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["timed"]:
            asyncio.run(timed())
        case ["delayed"]:
            delayed()
        case ["planned"]:
            planned()
        case _:
            sys.exit(__doc__)
