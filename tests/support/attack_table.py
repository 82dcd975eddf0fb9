"""The attacks: what a caller or a provider can do to a server, each as its smallest input, and what is to come back."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from support.attacks import MB, MODELS, Attack
from support.default_groups import HELLO, IMAGE, schema_format
from support.providers import Answer, Changed, Hang, Raw, Status, Text

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
    return {"response_format": schema_format(schema)}


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
class RawBytes:
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
        yield long("an endless body", comes_back=FAILED, answer=RawBytes(_endless))
        yield long("endless interim answers", comes_back=(*FAILED, "timeout"), answer=RawBytes(_interim))
        yield long("100,000 headers", comes_back=FAILED, answer=RawBytes(_headers))
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
