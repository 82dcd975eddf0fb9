"""What a caller, or a provider, can do to a server: each as its smallest input, and what is to come back.

One server lives through all of them (`Siege`); of each is seen what came back, the longest pause of the server's event
loop, the most memory that it took, how many bytes the provider was sent, and what is on the tenant's budget.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from support.databases import sqlite
from support.default_groups import HELLO, IMAGE, by, entry, reaching, write
from support.providers import Answer, Changed, Hang, Provider, Raw, Status, Text
from support.stdio_lines import Process, call

USD = 0.05  # the budget of each tenant; each attack has its own
MB = 2**20
MOST_MEMORY = 600 * MB  # beyond what the server had
MOST_SAID = 2000  # characters of an error
Side = Literal["caller", "line", "provider", "many"]
# A group for each format in which a provider can be asked.
MODELS = {
    "openai": "openai/gpt-4o-mini",
    "responses": "openai/responses/gpt-4o-mini",
    "azure": "azure/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-6",
    "old_claude": "anthropic/claude-3-haiku-20240307",  # a schema is a tool for it, with all references written out
    "gemini": "gemini/gemini-2.5-flash",
    "old_gemini": "gemini/gemini-2.0-flash",
    "bedrock": "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0",
    "mistral": "mistral/mistral-small-latest",
    "cohere": "cohere_chat/command-a-03-2025",
    "vllm": "hosted_vllm/meta/llama",
    "ollama": "ollama/qwen3:8b",
}
WIRES: dict[str, Any] = {
    "responses": "openai",
    "old_claude": "anthropic",
    "old_gemini": "gemini",
}  # of the others it is the group's name


@dataclass(frozen=True)
class Attack:
    """One.

    Attributes:
        group: which is asked.
        comes_back: the error's code, or "ok"; of several, any.
        arguments: of `complete`, beside the group and the tenant; or a whole line, for the side "line". What is large,
            is made by a function.
        answer: of the provider; None for an ordinary one.
        is_rich: whether the tenant has no budget, so that the call is made however much it costs.
        times: how often it is made, at once.
        most_sent: bytes that may reach the provider; None where nothing is said of it.
        is_short: whether it takes less than half a second, so that it always runs.
    """

    name: str
    side: Side
    group: str
    comes_back: tuple[str, ...]
    arguments: Any = None
    answer: Answer | Callable[[], Answer] | None = None
    is_rich: bool = False
    times: int = 1
    most_sent: int | None = None
    is_short: bool = True

    def faults(self, seen: Seen, pause_s: float) -> list[str]:
        """What of it was not withstood, where the loop may pause for so long."""
        wrong = {
            f"came back: {', '.join(sorted(seen.came_back))}, not {', '.join(self.comes_back)}": not (
                seen.came_back <= set(self.comes_back)
            ),
            f"the loop paused for {seen.pause_s:.3f} s": seen.pause_s > pause_s,
            f"took {(seen.memory or 0) // MB} MB": seen.memory is not None and seen.memory > MOST_MEMORY,
            f"sent {seen.sent} bytes": self.most_sent is not None and seen.sent > self.most_sent,
            f"${seen.on_budget_nusd / 1e9:.6f} on the budget": seen.on_budget_nusd > USD * 1e9,
            f"said {len(seen.said)} characters": len(seen.said) > MOST_SAID,
            "showed a traceback": "Traceback" in seen.said,
            "asked nobody": self.side == "many" and not seen.billed,
        }
        return [what for what, is_so in wrong.items() if is_so]


@dataclass(frozen=True)
class Seen:
    """What came of one.

    Attributes:
        came_back: the codes, each once.
        said: the first error's text.
        pause_s: the longest of the event loop.
        memory: bytes at most, beyond what there was before; None where the system does not say.
        sent: bytes of the requests' bodies.
        on_budget_nusd: what is spent and held of the tenant's budget.
        billed: completions that the provider has begun.
        took_s: from the first byte to the last answer.
    """

    came_back: frozenset[str]
    said: str
    pause_s: float
    memory: int | None
    sent: int
    on_budget_nusd: int
    billed: int
    took_s: float


class Siege:
    """A server with a group for each format, in a process of its own that is watched; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, contextlib.ExitStack()
        self._pauses = folder / "pauses"
        self.database = sqlite(folder)
        self._made = 0
        self._last_id = 10**6

    def __enter__(self) -> Self:
        self._pauses.touch()
        self.providers = {
            wire: self._stack.enter_context(Provider(wire)) for wire in {WIRES.get(name, name) for name in MODELS}
        }
        config = {
            "model_list": [
                entry(name, reaching(self.provider(name), model), timeout=20, **_prices(model))
                for name, model in MODELS.items()
            ],
            # What an attack has done to a deployment is not to keep the next from being asked.
            "router_settings": {"num_retries": 0, "allowed_fails": 10**6, "cooldown_time": 0.1},
            "konstruct": {
                "default_group": "openai",
                "ledger_url": self.database.url,
                "budgets": [{"usd": USD, "per": "total"}],
                "tenants": {"default": None, "rich": {"budgets": []}},
                "allow_unknown": True,
            },
        }
        watched = Path(__file__).parent / "watched_server.py"
        self.server = self._stack.enter_context(
            Process(
                write(self._folder, config),
                command=[sys.executable, str(watched), "loop", str(self._pauses)],
                stderr=self._folder / "stderr",
            )
        )
        self._stack.callback(self.database.engine.dispose)
        self.server.initialize()
        for name in MODELS:  # each format's first call has LiteLLM import what it needs
            self.server.answer(self.server.send_call(name, messages=HELLO, tenant_id="first", max_tokens=1))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def provider(self, group: str) -> Provider:
        return self.providers[WIRES.get(group, group)]

    def undergo(self, attack: Attack) -> Seen:
        """Make it, wait for all that comes back, and see that the server answers a `ping`, meanwhile and after it."""
        server, provider = self.server, self.provider(attack.group)
        arguments, answer = _made(attack.arguments), _made(attack.answer)  # before: that takes this process's time
        self._made += 1
        tenant = "rich" if attack.is_rich else f"t{self._made}"
        provider.script(answer or Text("Hello"))
        asked, calls = len(provider.requests), provider.calls
        lines = [self._line(attack, arguments, tenant) for _ in range(attack.times)]
        before = self._memory(reset=True)
        began = time.monotonic()
        ids = []
        for line in lines:
            server.send_raw(line[1])
            ids.append(line[0])
        server.ask("ping")
        # A line that cannot be read has no id.
        outcomes = [_outcome(server.answer(id_, None)) for id_ in ids]
        took_s = time.monotonic() - began
        peak = self._memory()
        server.ask("ping")
        pause_s = max((pause for at, pause in self._paused() if at >= began), default=0.0)
        requests = provider.requests[asked:]
        sent = sum(len(json.dumps(r.body, ensure_ascii=False).encode()) for r in requests if r.completes)
        said = next((text for code, text in outcomes if code != "ok"), "")
        provider.requests.clear()  # or this process would keep them all
        return Seen(
            frozenset(code for code, _ in outcomes),
            said,
            pause_s,
            None if before is None or peak is None else peak - before,
            sent,
            0 if attack.is_rich else self.database.taken(tenant),
            provider.calls - calls,
            took_s,
        )

    def log(self) -> str:
        """What the server has said on stderr."""
        return (self._folder / "stderr").read_text(errors="replace")

    def _line(self, attack: Attack, arguments: Any, tenant: str) -> tuple[Any, bytes]:
        self._last_id += 1
        if attack.side == "line":
            return self._last_id, arguments.replace(b"<id>", str(self._last_id).encode())
        arguments = {"messages": HELLO, "max_tokens": 1, "tenant_id": tenant, "timeout_s": 20} | (arguments or {})
        message = {
            "jsonrpc": "2.0",
            "id": self._last_id,
            "method": "tools/call",
            "params": call(attack.group, **arguments),
        }
        return self._last_id, json.dumps(message).encode()

    def _paused(self) -> list[tuple[float, float]]:
        pairs = (line.split() for line in self._pauses.read_text().splitlines())
        return [(float(at), float(pause)) for at, pause in pairs]

    def _memory(self, *, reset: bool = False) -> int | None:
        """The most that the server has had in memory since it was last reset."""
        of_server = Path(f"/proc/{self.server.process.pid}")
        try:
            if reset:
                (of_server / "clear_refs").write_text("5")
            [line] = [line for line in (of_server / "status").read_text().splitlines() if line.startswith("VmHWM")]
        except OSError:
            return None
        return int(line.split()[1]) * 1024


def _made(of_one: Any) -> Any:
    return of_one() if callable(of_one) else of_one


def _prices(model: str) -> dict[str, float]:
    """Those of the map, where it has them."""
    known = ("openai/gpt", "openai/responses", "azure/", "anthropic/", "gemini/", "bedrock/", "ollama/")
    return {} if model.startswith(known) else {"input_cost_per_token": 1e-7, "output_cost_per_token": 4e-7}


def _outcome(answer: dict[str, Any]) -> tuple[str, str]:
    """The code of what came back, and its text."""
    if "error" in answer:
        return str(answer["error"]["code"]), str(answer["error"]["message"])
    result = answer["result"]
    text = "".join(block.get("text", "") for block in result.get("content", ()))
    return (text.partition(":")[0], text) if result.get("isError") else ("ok", text)


# -- callers -----------------------------------------------------------------------------------------------------------


def doubling(levels: int) -> dict[str, Any]:
    """A schema whose definitions each name the next one twice."""
    defs: dict[str, Any] = {
        f"a{n}": {
            "type": "object",
            "properties": {"l": {"$ref": f"#/$defs/a{n + 1}"}, "r": {"$ref": f"#/$defs/a{n + 1}"}},
        }
        for n in range(levels)
    }
    defs[f"a{levels}"] = {"type": "string"}
    return {"type": "object", "properties": {"x": {"$ref": "#/$defs/a0"}}, "$defs": defs}


def repeated(times: int, size: int) -> dict[str, Any]:
    """One large definition that is used many times."""
    used = {f"p{n}": {"$ref": "#/$defs/big"} for n in range(times)}
    return {"type": "object", "properties": used, "$defs": {"big": {"type": "string", "description": "x" * size}}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


CYCLE = {
    "type": "object",
    "properties": {"next": {"$ref": "#/$defs/node"}},
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
}


def as_format(schema: Any) -> dict[str, Any]:
    return {"response_format": by(schema)}


def as_tool(schema: Any, times: int = 1) -> dict[str, Any]:
    named = ({"name": f"tool_{n}", "description": "One.", "parameters": schema} for n in range(times))
    return {"tools": [{"type": "function", "function": function} for function in named]}


def history(calls: int, results: bool = True, arguments: str = '{"path": "/a/b/c"}') -> dict[str, Any]:
    """A conversation with so many calls, one in each turn."""
    messages: list[dict[str, Any]] = list(HELLO)
    for n in range(calls):
        function = {"name": "read", "arguments": arguments}
        made = [{"id": f"call_{n:08}", "type": "function", "function": function}]
        messages.append({"role": "assistant", "content": None, "tool_calls": made})
        if results:
            messages.append({"role": "tool", "tool_call_id": f"call_{n:08}", "content": "done"})
    return {"messages": [*messages, *HELLO]}


def at_once(calls: int) -> dict[str, Any]:
    """The same calls in one turn."""
    function = {"name": "read", "arguments": '{"path": "/a/b/c"}'}
    made = [{"id": f"call_{n:08}", "type": "function", "function": function} for n in range(calls)]
    results = [{"role": "tool", "tool_call_id": f"call_{n:08}", "content": "done"} for n in range(calls)]
    return {"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": made}, *results, *HELLO]}


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


PICTURE = {"type": "image_url", "image_url": {"url": IMAGE}}


def line(arguments: bytes) -> bytes:
    """A line that asks for a completion with these bytes as its arguments."""
    return (
        b'{"jsonrpc":"2.0","id":<id>,"method":"tools/call","params":{"name":"complete","arguments":' + arguments + b"}}"
    )


REFUSED = ("invalid_argument",)
ANY = ("ok", *REFUSED, "budget_exceeded", "context_overflow", "unsupported", "all_failed", "bad_request")


def _caller(name: str, group: str, comes_back: tuple[str, ...], arguments: Any, **more: Any) -> Attack:
    return Attack(name, "caller", group, comes_back, arguments, **more)


def callers() -> Iterator[Attack]:
    large: dict[str, Any] = {"is_short": False, "is_rich": True}
    for group in MODELS:
        yield _caller("a format that doubles 16 times", group, REFUSED, lambda: as_format(doubling(16)), most_sent=0)
        yield _caller("a tool that doubles 24 times", group, REFUSED, lambda: as_tool(doubling(24)), most_sent=0)
        yield _caller("a schema nested 400 levels", group, REFUSED, lambda: as_tool(nested(400)), most_sent=0)
        yield _caller("a format nested 400 levels", group, REFUSED, lambda: as_format(nested(400)), most_sent=0)
        yield _caller("a schema that refers to itself", group, ANY, lambda: as_tool(CYCLE))
        yield _caller("a format that refers to itself", group, ANY, lambda: as_format(CYCLE))
        yield _caller("2 KB used 60 times", group, ANY, lambda: as_tool(repeated(60, 2000)))
        yield _caller("2 KB used 60 times, as a format", group, ANY, lambda: as_format(repeated(60, 2000)))
        yield _caller("1,000 calls in a history", group, ANY, lambda: history(1000), is_rich=True)
        yield _caller("5,000 calls in a history", group, ANY, lambda: history(5000), **large)
        yield _caller("50,000 calls in a history", group, ANY, lambda: history(50_000), **large)
        yield _caller("5,000 calls in one turn", group, ANY, lambda: at_once(5000), **large)
        yield _caller("100,000 messages", group, ANY, lambda: {"messages": HELLO * 100_000}, **large)
        yield _caller("18 MB of text", group, ANY, lambda: said("word " * (18 * MB // 5)), **large)
        yield _caller("2,000 tools", group, ("ok",), lambda: as_tool(nested(3), 2000), **large)
        yield _caller("300 images", group, ANY, lambda: said([PICTURE] * 300), **large)
        yield _caller("20,000 images", group, ANY, lambda: said([PICTURE] * 20_000), **large)
        yield _caller("100,000 parts", group, ANY, lambda: said([{"type": "text", "text": "a"}] * 100_000), **large)
        yield _caller(
            "9 MB of calls' arguments",
            group,
            ANY,
            lambda: history(1000, arguments=json.dumps({"a": "x" * 9000})),
            **large,
        )
        yield _caller(
            "arguments nested 90 levels", group, ANY, lambda: history(3, arguments='{"a":' * 90 + "1" + "}" * 90)
        )
        yield _caller(
            "arguments nested 100,000 levels",
            group,
            ANY,
            lambda: history(3, arguments='{"a":' * 100_000 + "1" + "}" * 100_000),
            is_rich=True,
        )
    one = "openai"
    yield _caller("18 MB of lone surrogates", one, ANY, lambda: said("\ud800" * (3 * MB)), **large)
    yield _caller("18 MB of emoji", one, ANY, lambda: said("😀" * (3 * MB // 2)), **large)
    yield _caller("18 MB of quotes", one, ANY, lambda: said('"' * (9 * MB)), **large)
    yield _caller("an enum of 100,000", one, ANY, lambda: as_tool({"enum": list(range(100_000))}), **large)
    smuggled: dict[str, Any] = {
        "api_base": "http://127.0.0.1:1/v1",
        "api_key": "sk-mine",
        "stream": True,
        "n": 100,
        "metadata": {"tenant_id": "rich"},
        "extra_body": {"max_tokens": 10**6},
        "max_completion_tokens": 10**6,
        "model": "gpt-4o",
        "fallbacks": [{"model": "gpt-4o"}],
        "mock_response": "free",
    }
    for key, value in smuggled.items():
        yield _caller(f"{key} among the arguments", one, REFUSED, {key: value}, most_sent=0)
    for url in ("http://127.0.0.1/cat.png", "file:///etc/passwd", "gs://bucket/cat.png", "data:text/html;base64,PGI+"):
        part = [{"type": "image_url", "image_url": {"url": url}}]
        yield _caller(f"an image at {url[:12]}", one, REFUSED, said(part), most_sent=0)
    for tenant in ("../rich", "a b", "x" * 129, "rich\n", "\ud800", "=1+1"):
        named = {"tenant_id": tenant}
        yield _caller(f"the tenant {tenant[:8]!a}", one, REFUSED, named, most_sent=0)
    for name in ("a b", "x" * 65, "a\n", "ä", "", "$(id)"):
        tool = [{"type": "function", "function": {"name": name}}]
        yield _caller(f"a tool {name[:8]!a}", one, REFUSED, {"tools": tool}, most_sent=0)
    for most in (0, -1, 1.5, 10**30, "8", True, None):
        came: tuple[str, ...] = ("ok",) if most is None else ANY if most == 10**30 else REFUSED
        yield _caller(f"max_tokens of {most}", one, came, {"max_tokens": most})


def lines() -> Iterator[Attack]:
    bad = ("-32700", "-32600", "-32602", "invalid_argument")
    quoted = b"[" * 2000 + b'"' + b'\\"' * (41 * 1024)
    yield Attack(
        "brackets, a quote, and escaped quotes", "line", "openai", bad, lambda: line(quoted + b'"' + b"]" * 2000)
    )
    yield Attack("the same, never closed", "line", "openai", bad, lambda: line(quoted), is_short=False)
    yield Attack(
        "a line nested 100,000 levels", "line", "openai", bad, lambda: line(b'{"a":' * 100_000 + b"1" + b"}" * 100_001)
    )
    yield Attack("a number of 1 MB", "line", "openai", bad, lambda: line(b'{"max_tokens":' + b"9" * MB + b"}"))
    yield Attack("a key of 1 MB", "line", "openai", bad, lambda: line(b'{"' + b"k" * MB + b'":1}'))
    yield Attack(
        "100,000 unknown keys",
        "line",
        "openai",
        bad,
        lambda: line(json.dumps(dict.fromkeys(map(str, range(100_000)))).encode()),
    )
    yield Attack("1 MB of spaces", "line", "openai", ("invalid_argument",), lambda: line(b" " * MB + b"{}"))


# -- providers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wild:
    """Bytes as no HTTP library would write them, one piece after another; the connection ends with the last."""

    pieces: Callable[[], Iterator[bytes]]

    async def give(self, received: Any, connection: Any) -> None:
        writer = connection._writer
        for piece in self.pieces():
            writer.write(piece)
            await writer.drain()
        connection.reset() if writer.is_closing() else writer.close()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _endless() -> Iterator[bytes]:
    yield CHUNKED
    piece = _chunk(b" " * MB)
    for _ in range(4000):
        yield piece


def _interim() -> Iterator[bytes]:
    for _ in range(20_000):
        yield b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 50


def _headers() -> Iterator[bytes]:
    yield HEAD
    for n in range(100_000):
        yield b"x-%d: %b\r\n" % (n, b"y" * 90)


def _bomb(mb: int, encoding: str) -> Raw:
    squeezing = zlib.compressobj(9, wbits=31 if "gzip" in encoding else 15)
    body = b"".join(squeezing.compress(b" " * MB) for _ in range(mb)) + squeezing.flush()
    if encoding.count("gzip") == 2:
        body = gzip.compress(body)
    return Raw(body, headers={"content-encoding": encoding})


FAILED = ("all_failed",)
REFUSING = ("all_failed", "bad_request", "unavailable")
FORMATS = ("openai", "anthropic", "gemini", "bedrock", "ollama")


def providers() -> Iterator[Attack]:
    for group in FORMATS:
        attack = partial(Attack, side="provider", group=group)
        long = partial(attack, is_short=False)
        yield long("an endless body", comes_back=FAILED, answer=Wild(_endless))
        yield long("endless interim answers", comes_back=(*FAILED, "timeout"), answer=Wild(_interim))
        yield long("100,000 headers", comes_back=FAILED, answer=Wild(_headers))
        yield long("a gzip bomb of 1 GB", comes_back=FAILED, answer=partial(_bomb, 1024, "gzip"))
        yield long("a gzip bomb in gzip", comes_back=FAILED, answer=partial(_bomb, 1024, "gzip, gzip"))
        yield long("a deflate bomb of 200 MB", comes_back=FAILED, answer=partial(_bomb, 200, "deflate"))
        yield long("an error message of 10 MB under 200", comes_back=REFUSING, answer=partial(_told, 10, 200))
        for status in (200, 400, 429, 500):
            yield long(
                f"an error message of 60 MB under {status}", comes_back=REFUSING, answer=partial(_told, 60, status)
            )
            yield attack(f"an error page of 1 MB under {status}", comes_back=REFUSING, answer=partial(_page, status))
        yield long("300,000 tool calls", comes_back=FAILED, answer=partial(_calling, 300_000))
        yield attack("500 tool calls", comes_back=FAILED, answer=partial(_calling, 500))
        yield attack("128 tool calls", comes_back=("ok",), answer=partial(_calling, 128))
        yield long("50 MB of text", comes_back=FAILED, answer=partial(_saying, "word ", 10 * MB))
        yield long("11 MB of letters", comes_back=("ok",), answer=partial(_saying, "x", 11 * MB))
        yield long("10 MB of thought", comes_back=("ok",), answer=partial(_saying, "<think>hm ", MB))
        yield long("3 MB of escapes", comes_back=("ok",), answer=partial(_saying, "\u00e9\n", MB // 3))
        yield attack("3 MB of lone surrogates", comes_back=("ok", *FAILED), answer=partial(_saying, "\ud800", MB // 2))
        yield attack("100,000 brackets", comes_back=FAILED, answer=partial(_repeating, b"", b"[", 100_000, b""))
        yield attack("objects nested 100,000 levels", comes_back=FAILED, answer=_deep)
        many = partial(_repeating, b'{"choices":[', b"{},", 5_000_000, b"{}]}")
        yield long("5,000,000 objects", comes_back=FAILED, answer=many)
        numbers = partial(_repeating, b'{"choices":[', b"0,", 5_000_000, b"0]}")
        yield long("5,000,000 numbers", comes_back=FAILED, answer=numbers)
        number = partial(_repeating, b'{"choices":', b"9", MB, b"}")
        yield attack("a number of 1 MB", comes_back=FAILED, answer=number)
        elsewhere = Raw(b"", 307, headers={"location": "http://127.0.0.1:9/"})
        yield attack("a redirect", comes_back=FAILED, answer=elsewhere)
    for group, counts in ABSURD.items():
        for name, usage in counts.items():
            yield Attack(f"{name} in the count", "provider", group, ("ok",), answer=_counting(_COUNT[group], usage))
    for wrong in ("x", [1], 7, True):
        answer = _counting("usage", wrong)
        yield Attack(f"{wrong} in place of the count", "provider", "openai", ("ok",), answer=answer)


def _told(mb: int, status: int) -> Raw:
    body = {"error": {"message": "x " * (mb * MB // 2), "code": "bad"}}
    return Raw(json.dumps(body).encode(), status)


def _page(status: int) -> Raw:
    return Raw(b"<html>" + b"<b>no</b>" * 120_000, status, "text/html")


def _deep() -> Raw:
    return Raw(b'{"choices":' * 100_000 + b"1" + b"}" * 100_000)


def _calling(calls: int) -> Text:
    return Text(None, tool_calls=[(f"c{n}", "f", "{}") for n in range(calls)])


def _saying(text: str, times: int) -> Text:
    return Text(text * times)


def _repeating(begin: bytes, what: bytes, times: int, end: bytes) -> Raw:
    return Raw(begin + what * times + end)


def _counting(key: str | None, usage: Any) -> Changed:
    """An answer with these in its count, or with this in place of it."""

    def change(body: dict[str, Any]) -> None:
        if isinstance(usage, Mapping):
            (body if key is None else body[key]).update(usage)
        else:
            body[str(key)] = usage

    return Changed(Text("Hello"), change)


_COUNT = {"openai": "usage", "anthropic": "usage", "gemini": "usageMetadata", "bedrock": "usage", "ollama": None}
ABSURD: dict[str, dict[str, dict[str, Any]]] = {
    "openai": {
        "a fraction": {"prompt_tokens": 1.5},
        "a text": {"completion_tokens": "many"},
        "a billion": {"completion_tokens": 10**9},
        "10^400": {"prompt_tokens": 10**400},
        "less than nothing": {"completion_tokens": -5},
        "a list of cached ones": {"prompt_tokens_details": {"cached_tokens": []}},
        "more cached than sent": {"prompt_tokens_details": {"cached_tokens": 10**7}},
        "a list in place of details": {"prompt_tokens_details": []},
        "true": {"prompt_tokens": True},
        "an object": {"completion_tokens": {"a": 1}},
        "nothing": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
    },
    "anthropic": {
        "a fraction": {"input_tokens": 1.5},
        "a text": {"output_tokens": "many"},
        "a billion": {"output_tokens": 10**9},
        "a list of cached ones": {"cache_read_input_tokens": []},
        "less than nothing": {"cache_creation_input_tokens": -7},
    },
    "gemini": {
        "a fraction": {"promptTokenCount": 1.5},
        "a text": {"candidatesTokenCount": "many"},
        "a billion": {"candidatesTokenCount": 10**9},
        "a text as thoughts": {"thoughtsTokenCount": "many"},
        "a list of details": {"promptTokensDetails": ["x"]},
    },
    "bedrock": {
        "a fraction": {"inputTokens": 1.5},
        "a text": {"outputTokens": "many"},
        "a billion": {"outputTokens": 10**9},
        "a list of cached ones": {"cacheReadInputTokens": []},
    },
    "ollama": {
        "a fraction": {"prompt_eval_count": 1.5},
        "a text": {"eval_count": "many"},
        "a billion": {"eval_count": 10**9},
    },
}


# -- many at once ------------------------------------------------------------------------------------------------------


def many() -> Iterator[Attack]:
    """At a provider that bills once it has begun: the budget affords some of twenty answers, and none has a count."""
    broken: dict[str, tuple[Answer, dict[str, Any]]] = {
        "20 calls with half a second": (Hang(), {"timeout_s": 0.5}),
        "20 unreadable answers": (Raw(b"{"), {}),
        "20 answers without choices": (Raw(b'{"id": "c", "choices": []}'), {}),
        "20 pages in place of answers": (Raw(b"<html>", content_type="text/html"), {}),
        "20 gateways that wait no longer": (Status(504), {}),
    }
    came = ("timeout", *REFUSING, "budget_exceeded")
    for name, (answer, arguments) in broken.items():
        for group in ("openai", "anthropic"):
            asked = {"max_tokens": 4000 if group == "openai" else 400, **arguments}
            is_short = group == "anthropic" and "timeout_s" not in arguments
            yield Attack(name, "many", group, came, asked, answer, times=20, is_short=is_short)


ATTACKS: tuple[Attack, ...] = (*callers(), *lines(), *providers(), *many())
