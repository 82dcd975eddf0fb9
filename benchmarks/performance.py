"""What the product takes of a call's time, of the processor and of memory, beside what the libraries alone take.

    python benchmarks/performance.py [--rounds N] [--short] [--wire openai|anthropic] [--json]
                                     [--peer NAME COMMAND TOOL ARGUMENTS]...

A fake provider, in a process of its own, takes as long for an answer as it is told, and nothing else differs between
those that ask it, in turn, in one run:

- `konstruct`: the product, through its console script: with its ledger, and with a budget that each call is held to
- `A`: a server on the SDK's low-level `Server`, with one tool, which posts with httpx
- `B`: the same, which asks a LiteLLM Router that was told to be quiet
- each peer: any other MCP server on stdio. In its command and its arguments, which are JSON, `{url}` stands for the
  provider's address (its chat completions are at `{url}/chat/completions`), and in the arguments `{prompt}` for the
  prompt. `OPENAI_BASE_URL`, `OPENAI_API_BASE` and `OPENAI_API_KEY` say the same in its environment. What it cannot do
  is left blank.

Each figure is the median of the rounds. A ratio is one of medians; beside it stands what it is to be at the most.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import psutil

HERE = Path(__file__).resolve()
FOLDER = HERE.parent
REPOSITORY = FOLDER.parent

_N = TypeVar("_N", int, float)

WAIT_S = 60  # for any one thing
LONGEST_LINE = 2**26  # bytes
PING_S = 0.01  # between one and the next
MODELS = {"anthropic": "claude-sonnet-4-6", "openai": "gpt-4o"}
OURS, A, B = "konstruct", "A", "B"
IDLE_S = 5.0
OUTAGES = 10  # groups, each of which goes down once
PROMPT = "Why is the sky blue?"


# -- the provider ------------------------------------------------------------------------------------------------------


def provide() -> None:
    """Be the provider: say where, and take each line of stdin as how to answer from now on; until it ends."""
    from aiohttp import web

    manner: dict[str, Any] = {"delay": 0.0, "chars": 20, "status": 200}
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        await request.read()
        if manner["delay"]:
            await asyncio.sleep(manner["delay"])
        if manner["status"] != 200:
            return web.json_response({"error": {"message": "out of order", "type": "server_error"}}, status=503)
        path = "/v1/messages" if request.path.endswith("/messages") else "/chat/completions"
        return web.Response(body=manner[path], content_type="application/json")

    def turn(line: bytes) -> None:
        manner.update(json.loads(line))
        text = "The sky is blue. "[: manner["chars"]] * max(1, manner["chars"] // 17)
        manner["/v1/messages"] = json.dumps(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": MODELS["anthropic"],
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 12, "output_tokens": 34},
            }
        ).encode()
        manner["/chat/completions"] = json.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": MODELS["openai"],
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"},
                ],
                "usage": {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46},
            }
        ).encode()

    async def run() -> None:
        turn(b"{}")
        application = web.Application(client_max_size=LONGEST_LINE)
        application.router.add_post("/{path:.*}", answer)  # each deployment that goes down has an address of its own
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        [(host, port)] = [address[:2] for address in runner.addresses]
        say(f"http://{host}:{port}")
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            turn(line)
            say(asked)

    def say(what: object) -> None:
        sys.stdout.write(f"{what}\n")
        sys.stdout.flush()

    asyncio.run(run())


class Provider:
    """The provider's process."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator[Provider]:
        command = [sys.executable, str(HERE), "--provide"]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=LONGEST_LINE
        )
        assert process.stdout is not None
        try:
            url = (await asyncio.wait_for(process.stdout.readline(), WAIT_S)).decode().strip()
            yield cls(process, url)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await asyncio.wait_for(process.wait(), WAIT_S)

    async def answers(self, delay: float = 0.0, chars: int = 20, status: int = 200) -> int:
        """From now on after so many seconds, with so long a text; returns how often it has been asked until now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        manner = {"delay": delay, "chars": chars, "status": status}
        self._process.stdin.write(json.dumps(manner).encode() + b"\n")
        return int(await asyncio.wait_for(self._process.stdout.readline(), WAIT_S))


# -- the servers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A server that can be started.

    Attributes:
        arguments: of its tool; a string that is `{prompt}` stands for the prompt.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    tool: str
    arguments: Mapping[str, Any]

    @contextlib.asynccontextmanager
    async def running(self, **environ: str) -> AsyncIterator[Server]:
        """Start it, ready for requests."""
        async with self.started(**environ) as server:
            await server.initialize()
            yield server

    @contextlib.asynccontextmanager
    async def started(self, **environ: str) -> AsyncIterator[Server]:
        """Start it, nothing more."""
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**self.environ, **environ},
            limit=LONGEST_LINE,
        )
        server = Server(self, process, began)
        try:
            yield server
        finally:
            await server.close()

    def call(self, prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
        """The parameters of a call of its tool."""

        def filled(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: filled(item) for key, item in value.items()}
            if isinstance(value, list):
                return [filled(item) for item in value]
            return value.replace("{prompt}", prompt) if isinstance(value, str) else value

        return {"name": self.tool, "arguments": {**filled(dict(self.arguments)), **more}}


@dataclass(frozen=True)
class Answer:
    """A line that answers, when it came, and its length in bytes."""

    message: dict[str, Any]
    came: float
    size: int


class FailedError(Exception):
    """A server that does not do what is asked of it; its text says what it did."""


class Server:
    """A server's process, spoken to in lines."""

    def __init__(self, subject: Subject, process: asyncio.subprocess.Process, began: float) -> None:
        self.subject = subject
        self.began = began
        self._process = process
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._number = 0
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            came = time.perf_counter()  # before it is parsed, which takes milliseconds of a long one
            message = json.loads(line)
            waiting = self._waiting.pop(message.get("id"), None) if "method" not in message else None
            if waiting is not None and not waiting.done():
                waiting.set_result(Answer(message, came, len(line)))
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(FailedError(f"{self.subject.name} has ended"))

    async def request(self, method: str, params: Mapping[str, Any] | None = None) -> Answer:
        """A request that is answered with a result."""
        assert self._process.stdin is not None
        self._number += 1
        waiting = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params or {}}
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        answer: Answer = await asyncio.wait_for(waiting, WAIT_S)
        if "result" not in answer.message:
            raise FailedError(f"{self.subject.name}, {method}: {answer.message}")
        return answer

    async def initialize(self) -> Answer:
        client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}
        answer = await self.request("initialize", client)
        assert self._process.stdin is not None
        self._process.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        return answer

    async def call(self, prompt: str = PROMPT, *, fails: bool = False, **more: Any) -> Answer:
        """A call of its tool, with `more` arguments; it has to fail if it `fails`."""
        answer = await self.request("tools/call", self.subject.call(prompt, **more))
        if bool(answer.message["result"].get("isError")) is not fails:
            raise FailedError(f"{self.subject.name}, {self.subject.tool}: {str(answer.message)[:300]}")
        return answer

    @property
    def cpu_s(self) -> float:
        """Processor time until now, in steps of a hundredth of a second."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    @property
    def rss_mb(self) -> float:
        return psutil.Process(self._process.pid).memory_info().rss / 1e6

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
        await self._reading


# -- the figures -------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One figure of every server.

    Attributes:
        beside: the server whose figure ours is divided by.
        most: what the ratio may be; what our own figure may be, where it is beside nothing.
        samples: of each server, in `unit`.
    """

    figure: str
    unit: str
    beside: str = ""
    most: float | None = None
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, server: str, value: float) -> None:
        self.samples.setdefault(server, []).append(value)

    def median(self, server: str) -> float | None:
        values = self.samples.get(server)
        return statistics.median(values) if values else None

    @property
    def ratio(self) -> float | None:
        ours, its = self.median(OURS), self.median(self.beside)
        return ours / its if ours is not None and its else None


class Bench:
    """The rows, as they come."""

    def __init__(self, subjects: Sequence[Subject], provider: Provider, rounds: int, *, short: bool) -> None:
        self._subjects = subjects
        self._provider = provider
        self._rounds = rounds
        self._short = short
        self.rows: list[Row] = []
        self.failed: list[str] = []

    def _row(self, *words: Any) -> Row:
        row = Row(*words)
        self.rows.append(row)
        return row

    def _few(self, many: _N, few: _N) -> _N:
        return few if self._short else many

    @contextlib.asynccontextmanager
    async def _trying(self, subject: Subject) -> AsyncIterator[None]:
        """What a peer cannot do is told, and leaves a blank; what one of the others cannot do ends the run."""
        try:
            yield
        except (FailedError, TimeoutError, OSError) as error:
            if subject.name in (OURS, A, B):
                raise
            self.failed.append(f"{subject.name}: {str(error) or 'no answer'}")

    async def start(self) -> None:
        """From the start of a process to its first answers."""
        for bytecode, rounds in (("warm", self._few(2 * self._rounds, 1)), ("cold", self._few(self._rounds, 1))):
            nothing = self._row(f"`python -c pass`, bytecode {bytecode}", "ms")
            first = self._row(
                f"start → `initialize`, bytecode {bytecode}", "ms", A, 1.10 if bytecode == "warm" else None
            )
            then = self._row(f"`initialize` → `tools/list`, bytecode {bytecode}", "ms")
            then.most = 10 if bytecode == "warm" else None
            for _ in range(rounds):
                for subject in self._subjects:
                    if subject.name == B and bytecode == "cold":
                        continue
                    async with self._trying(subject), contextlib.AsyncExitStack() as stack:
                        environ = {}
                        if bytecode == "cold":
                            environ["PYTHONPYCACHEPREFIX"] = stack.enter_context(tempfile.TemporaryDirectory())
                        if subject.name == OURS:
                            began = time.perf_counter()
                            python = await asyncio.create_subprocess_exec(
                                sys.executable, "-c", "pass", env={**subject.environ, **environ}
                            )
                            await python.wait()
                            nothing.add(OURS, (time.perf_counter() - began) * 1000)
                        server = await stack.enter_async_context(subject.started(**environ))
                        initialized = await server.initialize()
                        listed = await server.request("tools/list")
                        first.add(subject.name, (initialized.came - server.began) * 1000)
                        then.add(subject.name, (listed.came - initialized.came) * 1000)

    async def first_call(self) -> None:
        """A call right after the start, and one after some seconds in which nothing is asked."""
        await self._provider.answers()
        at_once = self._row("start → first call answered, asked at once", "ms")
        idle = self._row(f"first call, {IDLE_S:g} s after the start", "ms")
        steady = self._row("a call thereafter", "ms")
        over = self._row("the first call over those thereafter", "ratio")
        over.most = 1.5
        again = self._row(f"a call after {IDLE_S:g} idle s, over those before", "ratio")
        idles = self._row(f"the first call over one after {IDLE_S:g} idle s", "ratio")
        for _ in range(self._few(self._rounds, 1)):
            for subject in self._subjects:
                async with self._trying(subject):
                    async with subject.started() as server:
                        await server.initialize()
                        answer = await server.call()
                        at_once.add(subject.name, (answer.came - server.began) * 1000)
                    async with subject.running() as server:
                        await server.request("tools/list")
                        await asyncio.sleep(self._few(IDLE_S, 0.5))
                        first = await self._call_ms(server)
                        usual = statistics.median([await self._call_ms(server) for _ in range(20)])
                        idle.add(subject.name, first)
                        steady.add(subject.name, usual)
                        over.add(subject.name, first / usual)
                        if not self._short:
                            await asyncio.sleep(IDLE_S)
                            later = await self._call_ms(server)
                            again.add(subject.name, later / usual)
                            idles.add(subject.name, first / later)

    async def _call_ms(self, server: Server, prompt: str = PROMPT, **more: Any) -> float:
        began = time.perf_counter()
        return ((await server.call(prompt, **more)).came - began) * 1000

    async def calls(self) -> None:
        """Calls one by one and at once, large ones, and what they leave in memory."""
        async with contextlib.AsyncExitStack() as stack:
            servers: list[Server] = []
            at_start = self._row("memory once `tools/list` is answered", "MB")
            for subject in self._subjects:
                async with self._trying(subject):
                    server = await stack.enter_async_context(subject.running())
                    await server.request("tools/list")
                    at_start.add(subject.name, server.rss_mb)
                    await self._provider.answers()
                    for _ in range(self._few(100, 5)):
                        await server.call()
                    servers.append(server)
            warm = self._row("memory after 100 calls", "MB", B, 1.05)
            for server in servers:
                warm.add(server.subject.name, server.rss_mb)
            await self._one_by_one(servers)
            for count, most, ping in ((50, 1.15, None), (500, None, 100.0)):
                await self._at_once(servers, self._few(count, count // 10), most, ping)
            await self._large(servers)

    async def _one_by_one(self, servers: Sequence[Server]) -> None:
        delay, count = 0.02, self._few(100, 5)
        beyond = self._row("one call: time beyond the provider's", "ms", B)
        cpu = self._row("one call: processor", "ms", B, 1.15)
        await self._provider.answers(delay)
        for _ in range(self._rounds):
            for server in servers:
                async with self._trying(server.subject):
                    before = server.cpu_s
                    took = [await self._call_ms(server) for _ in range(count)]
                    cpu.add(server.subject.name, (server.cpu_s - before) * 1000 / count)
                    beyond.add(server.subject.name, statistics.median(took) - delay * 1000)

    async def _at_once(
        self, servers: Sequence[Server], count: int, most: float | None, most_ping: float | None
    ) -> None:
        delay = 0.2
        wall = self._row(f"{count} calls at once of {delay * 1000:.0f} ms: until all are answered", "ms", A, most)
        speed = self._row(f"{count} calls at once: answers", "/s")
        cpu = self._row(f"{count} calls at once: processor, of each", "ms", B)
        longest = self._row(f"{count} calls at once: longest `ping`", "ms", "", most_ping)
        memory = self._row(f"{count} calls at once: most memory", "MB", B)
        await self._provider.answers(delay)
        for _ in range(self._rounds):
            for server in servers:
                name = server.subject.name
                async with self._trying(server.subject):
                    before, began = server.cpu_s, time.perf_counter()
                    calls = [asyncio.ensure_future(server.call()) for _ in range(count)]
                    pings, most_rss = [], 0.0
                    while not all(call.done() for call in calls):
                        asked = time.perf_counter()
                        pings.append((await server.request("ping")).came - asked)
                        most_rss = max(most_rss, server.rss_mb)
                        await asyncio.sleep(PING_S)
                    took = max(call.result().came for call in calls) - began
                    wall.add(name, took * 1000)
                    speed.add(name, count / took)
                    cpu.add(name, (server.cpu_s - before) * 1000 / count)
                    longest.add(name, max(pings) * 1000)
                    memory.add(name, most_rss)

    async def _large(self, servers: Sequence[Server]) -> None:
        prompt, count = "Why is the sky blue? " * 20_000, self._few(5, 1)
        for said, size, asked in (("a prompt of 400 KB", 20, prompt), ("an answer of 1 MB", 1_000_000, PROMPT)):
            took = self._row(f"{said}: time", "ms", B)
            cpu = self._row(f"{said}: processor", "ms", B)
            await self._provider.answers(chars=size)
            for _ in range(self._rounds):
                for server in servers:
                    async with self._trying(server.subject):
                        before = server.cpu_s
                        took.add(
                            server.subject.name,
                            statistics.median([await self._call_ms(server, asked) for _ in range(count)]),
                        )
                        cpu.add(server.subject.name, (server.cpu_s - before) * 1000 / count)

    async def outage(self) -> None:
        """Calls that fail, of ours and of B."""
        first_ms = self._row("an outage: first failing call, time", "ms", B)
        first_cpu = self._row("an outage: first failing call, processor", "ms", B)
        first_tries = self._row("an outage: first failing call, tries", "")
        then_ms = self._row("an outage: a later one, time", "ms")
        then_cpu = self._row("an outage: a later one, processor", "ms")
        then_cpu.most = 1.0
        then_tries = self._row("an outage: a later one, tries", "")
        then_tries.most = 0
        down, later = self._few(OUTAGES, 2), self._few(200, 5)
        for _ in range(self._few(min(self._rounds, 3), 1)):
            for subject in self._subjects:
                if subject.name not in (OURS, B):
                    continue
                name, is_ours = subject.name, subject.name == OURS
                environ = dict(subject.environ)
                if is_ours:
                    environ["KONSTRUCT_CONFIG"] = environ["KONSTRUCT_CONFIG"].replace("konstruct.yaml", "outage.yaml")
                async with subject.running(**environ) as server:
                    groups = [{"model_group": f"outage{number}"} if is_ours else {} for number in range(down)]
                    await self._provider.answers()
                    await server.call()
                    asked, before = await self._provider.answers(status=503), server.cpu_s
                    # All at once: each waits for seconds between its tries.
                    took = await asyncio.gather(*(self._call_ms(server, fails=True, **group) for group in groups))
                    first_ms.add(name, statistics.median(took))
                    first_cpu.add(name, (server.cpu_s - before) * 1000 / down)
                    asked_first, before = await self._provider.answers(status=503), server.cpu_s
                    first_tries.add(name, (asked_first - asked) / down)
                    if is_ours:
                        took = [await self._call_ms(server, fails=True, **groups[0]) for _ in range(later)]
                    else:
                        took = await asyncio.gather(*(self._call_ms(server, fails=True) for _ in groups))
                    then_ms.add(name, statistics.median(took))
                    then_cpu.add(name, (server.cpu_s - before) * 1000 / len(took))
                    then_tries.add(name, (await self._provider.answers(status=503) - asked_first) / len(took))

    async def sizes(self) -> None:
        """What an assistant carries in its context."""
        listed = self._row("`tools/list`", "bytes")
        tokens = self._row("`tools/list`", "tokens")
        beyond = self._row("an answer beyond its text", "bytes")
        encoding = cl100k()
        await self._provider.answers()
        for subject in self._subjects:
            async with self._trying(subject), subject.running() as server:
                answer = await server.request("tools/list")
                text = json.dumps(answer.message["result"]["tools"], ensure_ascii=False, separators=(",", ":"))
                listed.add(subject.name, answer.size)
                tokens.add(subject.name, len(encoding.encode(text)))
                beyond.add(subject.name, (await server.call()).size - 20)


def cl100k() -> Any:
    """The encoding that tools are counted in; LiteLLM carries its file."""
    from importlib.util import find_spec

    import tiktoken

    spec = find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    tokenizers = Path(spec.origin).parent / "litellm_core_utils/tokenizers"
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tokenizers))
    return tiktoken.get_encoding("cl100k_base")


# -- the table ---------------------------------------------------------------------------------------------------------


def shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


def verdict(row: Row) -> str:
    """The ratio, and what is asked of it."""
    ratio = row.ratio
    told = f"{ratio:.2f} × {row.beside}" if ratio is not None else ""
    if row.most is not None:
        told += f"{', ' if told else ''}at most {row.most:g}"
    return told


def table(rows: Sequence[Row], names: Sequence[str]) -> str:
    cells = [["figure", "unit", *names, "beside"], ["---", *["--:"] * (len(names) + 1), "---"]]
    cells += [[row.figure, row.unit, *(shown(row.median(name)) for name in names), verdict(row)] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in cells
    )


def machine() -> dict[str, str]:
    packages = {name: version(name) for name in ("mcp", "litellm", "openai", "pydantic", "anyio", "httpx", "aiohttp")}
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **packages,
    }


# -- the run -----------------------------------------------------------------------------------------------------------


def config(wire: str, urls: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """A group with one deployment at each address; one tenant, whose budget each call is held to."""
    params = {"model": f"{wire}/{MODELS[wire]}", "api_key": "sk-bench"}
    groups = [{"model_name": name, "litellm_params": {**params, "api_base": url}} for name, url in urls.items()]
    return {
        "model_list": groups,
        "router_settings": {"num_retries": 2},
        "konstruct": {
            "default_group": next(iter(urls)),
            "ledger_url": f"sqlite:///{folder}/data/ledger.sqlite3",  # by itself, as without a word of it
            "budgets": [{"usd": 1_000_000, "per": "total"}],
        },
    }


def subjects_of(options: argparse.Namespace, url: str, folder: Path) -> list[Subject]:
    wire, model = options.wire, f"{options.wire}/{MODELS[options.wire]}"
    outages = {f"outage{number}": f"{url}/{number}" for number in range(OUTAGES)}
    (folder / "konstruct.yaml").write_text(json.dumps(config(wire, {"fake": url}, folder)))
    (folder / "outage.yaml").write_text(json.dumps(config(wire, outages, folder)))
    environ = {"PATH": os.environ["PATH"], **dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))}
    arguments = {"messages": [{"role": "user", "content": "{prompt}"}], "max_tokens": 100}
    floors = {**environ, "PYTHONPATH": str(FOLDER)}
    floor = [sys.executable, "-c", "from floors import main; main()"]
    ours = [str(Path(sys.executable).with_name("konstruct-mcp"))]
    theirs = {"OPENAI_BASE_URL": url, "OPENAI_API_BASE": url, "OPENAI_API_KEY": "sk-bench"}
    return [
        Subject(OURS, ours, {**environ, "KONSTRUCT_CONFIG": f"{folder}/konstruct.yaml"}, "complete", arguments),
        Subject(A, [*floor, "http", model, url], floors, "complete", arguments),
        Subject(B, [*floor, "router", model, url], floors, "complete", arguments),
        *(
            Subject(
                name,
                shlex.split(command.replace("{url}", url)),
                {**os.environ, **theirs},
                tool,
                json.loads(given.replace("{url}", url)),
            )
            for name, command, tool, given in options.peer
        ),
    ]


async def make_ledger(ours: Subject) -> None:
    """What the first start of all does, and no other: it makes the tables, which takes Alembic and its 11 MB."""
    usage = await asyncio.create_subprocess_exec(*ours.command, "usage", env=ours.environ, stdout=subprocess.DEVNULL)
    assert await asyncio.wait_for(usage.wait(), WAIT_S) == 0


async def measure(options: argparse.Namespace, say: Callable[[str], object]) -> tuple[Bench, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        async with Provider.running() as provider:
            subjects = subjects_of(options, provider.url, Path(folder))
            await make_ledger(subjects[0])
            bench = Bench(subjects, provider, options.rounds, short=options.short)
            for part in PARTS:
                if not options.only or part in options.only:
                    say(f"{part} …\n")
                    await getattr(bench, part)()
            return bench, [subject.name for subject in subjects]


PARTS = ("start", "first_call", "calls", "outage", "sizes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="of which the medians are (7)")
    parser.add_argument(
        "--short", action="store_true", help="one round of everything, as few calls as show that it runs"
    )
    parser.add_argument("--wire", choices=list(MODELS), default="openai", help="what the provider speaks (openai)")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this alone; may be repeated")
    parser.add_argument(
        "--peer",
        nargs=4,
        action="append",
        default=[],
        metavar=("NAME", "COMMAND", "TOOL", "ARGUMENTS"),
        help="another MCP server to measure in the same run; ARGUMENTS are JSON; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print all that was measured as JSON")
    parser.add_argument("--provide", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.provide:
        provide()
        return 0
    if options.short:
        options.rounds = 1
    began = time.monotonic()
    bench, names = asyncio.run(measure(options, sys.stderr.write))
    took = time.monotonic() - began
    if options.json:
        rows = [{**asdict(row), "medians": {n: row.median(n) for n in names}, "ratio": row.ratio} for row in bench.rows]
        found = {
            "machine": machine(),
            "wire": options.wire,
            "seconds": round(took),
            "rows": rows,
            "failed": bench.failed,
        }
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    sys.stdout.write(table(bench.rows, names))
    sys.stdout.write(f"\n{options.wire}; {', '.join(f'{k} {v}' for k, v in machine().items())}; {took:.0f} s\n")
    for failed in bench.failed:
        sys.stdout.write(f"could not be measured: {failed}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
