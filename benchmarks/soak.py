"""What very many calls leave behind: a server holds after 20,000 of them what it held after the first 2,000.

    python benchmarks/soak.py [--calls CALLS] [--in-flight N] [--litellm VERSION] [--json] [--types]

The server is the product on its pipes, with its ledger; the client is nothing but lines. The providers are fakes in a
process of their own, and each prompt tells them how to answer it. The calls are a mix that is always the same: answers,
tool calls, retries, fallbacks, failures, deadlines, cancellations at every stage, wrong arguments, tenants, budgets,
resources. What has to come of each is known beforehand, and so is what the accounts have to say in the end.

Every 2,000 calls the server comes to rest: nothing is in flight, and the providers have closed what idles, as genuine
ones do. Then it is looked at. The status is 1 when anything came out wrong; when anything was said on stderr but that a
deployment went down or is back; when open files, asyncio tasks, threads or timers are more at the end than after the
first 2,000 calls; when its memory has grown by 2 % or more, or the number of blocks that Python has allocated by 1 %.
Fewer than 20,000 calls are too few to judge growth by: then it is only told.

Memory is what the system counts as resident, as it is. The product collects no garbage beyond what Python does by
itself, and nor does this before it reads the memory; it does before it counts blocks, at the first rest and the last.
Three things fill with time, to a bound, and are filled at the start: asyncio's threads, the ledger's connections for
reports, and SQLite's cache, by way of a ledger that has been used before.

With `--litellm` the server runs on another version than the pinned one, in an environment made for it with uv.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

FULL, FIRST = 20_000, 2_000  # calls
MOST_MEMORY, MOST_BLOCKS = 0.02, 0.01  # growth
READINGS = 5  # of the memory, at each rest
WAIT_S = 60  # for any one thing
AGAIN_S = 0.05  # between looks at what comes to rest
LONGEST_LINE = 2**26  # bytes
MOST_SHOWN, MOST_TOLD = 20, 600  # of what is wrong: how many, and characters of each
CARRIED_MALWARE = ("1.82.7", "1.82.8")
PRICES = {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}
NOWHERE = "http://127.0.0.1:9/v1"  # where nobody listens
CHANGES = ("or until it is back\n", "answers again\n")  # what stderr says of deployments, once for each change
TENANTS, METERED, BROKE = ("default", "amber", "blue"), "metered", "broke"
WIRES = {"claude": "anthropic", "gpt": "openai", "local": "ollama"}  # of the groups with one deployment


# -- the providers -----------------------------------------------------------------------------------------------------


def said(number: int, size: int) -> str:
    """What a provider says to a call."""
    return f"answer {number}" + " and so on" * (size // 10)


def counted(number: int) -> tuple[int, int]:
    """The tokens that a provider counts for a call, in and out."""
    return 10 + number % 90, 5 + number % 50


def provide() -> None:
    """Be the providers: say where, then which call is kept waiting, and rest at each line of stdin; until it ends."""
    from support import providers as fake

    asked: Counter[tuple[int, str]] = Counter()

    def say(**words: Any) -> None:
        os.write(sys.stdout.fileno(), json.dumps(words).encode() + b"\n")  # whole, from whichever thread

    def answer(received: fake.Received) -> fake.Answer:
        user = next(message["content"] for message in received.body["messages"] if message["role"] == "user")
        plan = json.loads((user if isinstance(user, str) else user[0]["text"]).partition("\n")[0])
        number, words = plan["call"], plan[received.wire]
        word = words[min(asked[number, received.wire], len(words) - 1)]
        asked[number, received.wire] += 1
        if word in ("hang", "half", "later"):
            say(waits=number)
        told = {"usage": counted(number), "delay": plan["delay"]}
        calls = [(f"call_{number}", "look_up", json.dumps({"number": number}))]
        text = said(number, plan["size"])
        answers: dict[str, fake.Answer] = {
            "text": fake.Text(text, **told),
            "tool": fake.Text(None, tool_calls=calls, **told),
            "both": fake.Text(text, tool_calls=calls, **told),
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

    with contextlib.ExitStack() as stack:
        wires: tuple[fake.Wire, ...] = ("anthropic", "openai", "ollama")
        providers = [stack.enter_context(fake.Provider(wire)) for wire in wires]
        for provider in providers:
            provider.script(answer)
        say(**{provider.wire: provider.url for provider in providers})
        for _ in sys.stdin:
            for provider in providers:
                provider.wait_for(lambda: not any(provider.in_flight for provider in providers), WAIT_S)
                provider.stop()
                provider.start()
                provider.requests.clear()
            asked.clear()
            say(rests=True)


# -- the server --------------------------------------------------------------------------------------------------------


def serve(descriptor: int, *, with_types: bool) -> None:
    """Be the server, and say what only its own process knows: at SIGUSR1 what is under way, at SIGUSR2 what Python has
    allocated."""
    import gc
    from importlib.metadata import version

    from konstruct_mcp.cli.main import main as be_the_product

    def say(**words: Any) -> None:
        os.write(descriptor, json.dumps(words).encode() + b"\n")

    def named(what: Any) -> str:
        return str(getattr(what, "__qualname__", type(what).__qualname__))

    def fill(loop: asyncio.AbstractEventLoop) -> None:
        pool = min(32, (os.cpu_count() or 1) + 4)  # the most threads that asyncio has
        together = threading.Barrier(pool)
        for _ in range(pool):
            loop.run_in_executor(None, together.wait)

    filled: list[bool] = []

    def look(*_: object) -> None:
        loop: Any = asyncio.get_running_loop()
        if not filled:
            filled.append(True)
            fill(loop)
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # which no public name tells
        say(
            tasks=Counter(named(task.get_coro()) for task in asyncio.all_tasks(loop)),
            timers=Counter(named(timer._callback) for timer in timers),
            threads=Counter(thread.name for thread in threading.enumerate()),
        )

    def count(*_: object) -> None:
        gc.collect()
        objects = gc.get_objects() if with_types else []
        say(
            blocks=sys.getallocatedblocks(),
            types=Counter(f"{type(it).__module__}.{type(it).__qualname__}" for it in objects),
        )

    signal.signal(signal.SIGUSR1, look)
    signal.signal(signal.SIGUSR2, count)
    say(litellm=version("litellm"), python=sys.version.split()[0])
    be_the_product([])


def config(urls: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """The groups. Only what is dead cools down, so that what comes of a call depends on no other call."""
    claude = {"model": "anthropic/claude-sonnet-4-6", "api_base": urls["anthropic"], "api_key": "sk-ant-soak"}
    gpt = {"model": "openai/gpt-4o", "api_base": urls["openai"], "api_key": "sk-soak", **PRICES}
    dead = {"model": "openai/gone", "api_base": NOWHERE, "api_key": "sk-soak", "num_retries": 0, **PRICES}
    groups: dict[str, list[dict[str, Any]]] = {
        "claude": [claude],
        "gpt": [{**gpt, "max_parallel_requests": 40}],
        "local": [{"model": "ollama/qwen3:32b", "api_base": urls["ollama"]}],
        "chain": [{**claude, "order": 1}, {**gpt, "order": 2}],
        "hasty": [{**claude, "order": 1, "timeout": 0.5}, {**gpt, "order": 2}],
        "dead": [{**dead, "cooldown_time": 1}],
        "outage": [{**dead, "cooldown_time": 1}],
    }
    tenants: dict[str, dict[str, Any]] = {tenant: {} for tenant in TENANTS}
    tenants[METERED] = {"budgets": [{"usd": 1_000_000, "per": "total"}]}
    tenants[BROKE] = {"budgets": [{"usd": 0.000001, "per": "total"}]}
    return {
        "model_list": [
            {"model_name": name, "litellm_params": {"cooldown_time": 0, **deployment}}
            for name, deployments in groups.items()
            for deployment in deployments
        ],
        "router_settings": {"num_retries": 1, "fallbacks": [{"chain": ["local"]}, {"outage": ["local"]}]},
        "konstruct": {"default_group": "gpt", "ledger_url": f"sqlite:///{folder}/ledger.sqlite3", "tenants": tenants},
    }


def use(ledger: Path, calls: int) -> None:
    """Write so many calls into a ledger, by a tenant whom nobody asks about."""
    from konstruct_mcp.core.spending import Call, Charge
    from konstruct_mcp.ledger.store import Store

    now = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    model = "openai/gpt-4o"
    charges = (Charge("gpt", model, 10, 5, 0, 30_000),)
    store = Store(f"sqlite:///{ledger}", WAIT_S)
    former = ("former", "gpt", "gpt", model, charges, 30_000, 50, "ok", 1)
    store.write([Call(str(uuid.uuid4()), now, *former) for _ in range(calls)], [])
    store.close()


# -- the calls ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """One request, and what has to come of it.

    Attributes:
        wanted: `ok`, an error's code, several of them where any will do, or `nothing`.
        holds: whether a result is the right one.
        tenant: on whose account it is; empty for nobody's.
        cancelled: `in time` (while its provider keeps it waiting), or `at once`.
        line: what is sent instead of a request.
    """

    kind: str
    method: str
    params: Mapping[str, Any]
    wanted: str = "ok"
    holds: Callable[[Any], bool] = bool
    number: int = 0
    tenant: str = ""
    cancelled: str = ""
    line: bytes = b""


class Mix:
    """The requests, without end and always the same: first one of each kind, then by weight."""

    def __init__(self) -> None:
        self.rng = random.Random(7)
        self._number = 0
        self._kind = "start"

    def __iter__(self) -> Iterator[Ask]:
        first, weights = list(MIX), [weight for weight, _, _ in MIX]
        while True:
            _, self._kind, make = first.pop() if first else self.rng.choices(MIX, weights)[0]
            yield make(self)

    def complete(
        self,
        group: str,
        words: str = "text",
        *,
        wanted: str = "ok",
        by: str = "",
        served: str = "",
        tries: int | None = None,
        tenant: str = "",
        cancelled: str = "",
        longer: int = 1,
        more: Mapping[str, Any] | None = None,
        history: Sequence[Mapping[str, Any]] = (),
        **others: str,
    ) -> Ask:
        """A call of `complete`.

        Args:
            words: what a provider answers, try after try, the last word for ever; `others` by wire.
            by: the wire that answers, where the group has several.
            served: the group that answers, where it is another.
            tries: how many failed before.
        """
        self._number += 1
        rng, number = self.rng, self._number
        plans = {wire: others.get(wire, words).split() for wire in WIRES.values()}
        last = plans[by or WIRES.get(group, "openai")][-1]
        size = rng.randrange(200) * longer
        plan = {"call": number, "size": size, "delay": round(rng.uniform(0, 0.05), 3), **plans}
        prompt = f"{json.dumps(plan)}\n{'why is the sky blue? ' * (rng.randrange(10) * longer)}"
        tenant = tenant or rng.choice((*TENANTS, METERED))
        arguments = {
            "model_group": group,
            "messages": [{"role": "user", "content": prompt}, *history],
            **({} if tenant == TENANTS[0] else {"tenant_id": tenant}),
            **({"max_tokens": 64} if rng.random() < 0.5 else {}),
            **(more or {}),
        }

        def holds(result: Any) -> bool:
            answer = json.loads(result["content"][0]["text"])
            usage = answer["usage"]
            calls = [json.loads(call["function"]["arguments"]) for call in answer["tool_calls"]]
            return bool(
                answer == result["structuredContent"]
                and answer["content"] == ("" if last == "tool" else said(number, size))
                and calls == ([] if last == "text" else [{"number": number}])
                and answer["finish_reason"] == ("stop" if last == "text" else "tool_calls")
                and (answer["model_group"], answer["served_group"]) == (group, served or group)
                and (usage["input_tokens"], usage["output_tokens"]) == counted(number)
                and (answer["cost_usd"] == 0) is answer["model"].startswith("ollama/")
                and tries in (None, len(answer.get("attempts", ())))
            )

        params = {"name": "complete", "arguments": arguments}
        return Ask(self._kind, "tools/call", params, wanted, holds, number, tenant, cancelled)

    def cancelled(self, group: str, words: str, how: str = "in time", **others: str) -> Ask:
        return self.complete(group, words, wanted="nothing", cancelled=how, **others)  # type: ignore[arg-type]  # words

    def other(self, method: str, wanted: str = "ok", holds: Callable[[Any], bool] = bool, **params: Any) -> Ask:
        """A request that asks no model."""
        return Ask(self._kind, method, params, wanted, holds)

    def misuse(self) -> Ask:
        """A call that is wrong by itself."""
        wanted, arguments = self.rng.choice(MISUSES)
        return self.other("tools/call", wanted, name="complete", arguments=arguments)

    def next_deployment(self) -> Ask:
        word, tries = self.rng.choice(FAULTS)
        return self.complete("chain", anthropic=word, by="openai", tries=tries)

    def fallback(self) -> Ask:
        (one, tries), (other, more) = self.rng.choices(FAULTS, k=2)
        return self.complete("chain", anthropic=one, openai=other, by="ollama", served="local", tries=tries + more)

    def resource(self, *names: str) -> Ask:
        uri = f"konstruct://{self.rng.choice(names)}"
        return self.other("resources/read", holds=lambda result: bool(result["contents"][0]["text"]), uri=uri)

    def any(self, words: str = "text", **more: Any) -> Ask:
        """A call of one of the groups with one deployment."""
        return self.complete(self.rng.choice(sorted(WIRES)), words, **more)

    def one_of(self, words: Sequence[str]) -> str:
        return self.rng.choice(words)


RETRIED = ("429", "500", "503", "529", "drop", "reset")
FAULTS = [*((word, 2) for word in RETRIED), *((word, 1) for word in ("401", "404", "page", "empty"))]  # with the tries
HELLO = [{"role": "user", "content": "Hello"}]
MISUSES: Sequence[tuple[str, Mapping[str, Any]]] = [
    ("invalid_argument", {}),
    ("invalid_argument", {"messages": "Hello"}),
    ("invalid_argument", {"messages": [{"role": "king", "content": "Hello"}]}),
    ("invalid_argument", {"messages": HELLO, "temperature": 9}),
    ("invalid_argument", {"messages": HELLO, "api_base": NOWHERE}),
    ("unknown_group", {"messages": HELLO, "model_group": "fats"}),
    ("unknown_tenant", {"messages": HELLO, "tenant_id": "nobody"}),
]
TOOLS = {"tools": [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]}
USED = [
    {
        "role": "assistant",
        "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_0", "content": "nothing found"},
]
MIX: Sequence[tuple[int, str, Callable[[Mix], Ask]]] = [
    (27, "answer", lambda mix: mix.any(tries=0)),
    (3, "long answer", lambda mix: mix.any(tries=0, longer=100)),
    (6, "tool call", lambda mix: mix.any(mix.one_of(("tool", "both")), more=TOOLS)),
    (3, "answer to a tool's result", lambda mix: mix.any(more=TOOLS, history=USED)),
    (6, "retry", lambda mix: mix.any(f"{mix.one_of((*RETRIED, 'soon'))} text", tries=1)),
    (8, "next deployment", Mix.next_deployment),
    (2, "next deployment after a hang", lambda mix: mix.complete("hasty", anthropic="hang", by="openai", tries=1)),
    (5, "fallback", Mix.fallback),
    (2, "fallback from a dead one", lambda mix: mix.complete("outage", by="ollama", served="local")),
    (4, "all failed", lambda mix: mix.any(mix.one_of(RETRIED), wanted="all_failed")),
    (1, "dead", lambda mix: mix.complete("dead", wanted="all_failed unavailable")),
    (1, "request refused", lambda mix: mix.complete("chain", "400", wanted="bad_request")),
    (1, "too long", lambda mix: mix.any("overflow", wanted="context_overflow")),
    (1, "content refused", lambda mix: mix.complete("chain", "policy", wanted="content_policy")),
    (2, "deadline", lambda mix: mix.complete("chain", "hang", wanted="timeout", more={"timeout_s": 0.3})),
    (2, "over budget", lambda mix: mix.complete("gpt", wanted="budget_exceeded", tenant=BROKE)),
    (3, "cancelled in the call", lambda mix: mix.cancelled(mix.one_of(("claude", "gpt", "local")), "hang")),
    (1, "cancelled in the answer", lambda mix: mix.cancelled("gpt", "half")),
    (1, "cancelled before a retry", lambda mix: mix.cancelled("claude", "later")),
    (1, "cancelled in a fallback", lambda mix: mix.cancelled("chain", "401", ollama="hang")),
    (1, "cancelled at once", lambda mix: mix.cancelled("claude", "hang", "at once")),
    (4, "wrong arguments", Mix.misuse),
    (5, "list_groups", lambda mix: mix.other("tools/call", name="list_groups", arguments={})),
    (5, "resource", lambda mix: mix.resource("groups", "groups/chain", "config", "usage", "usage/amber")),
    (1, "no such resource", lambda mix: mix.other("resources/read", "-32602", uri="konstruct://nothing")),
    (1, "no such tool", lambda mix: mix.other("tools/call", "-32602", name="nothing", arguments={})),
    (1, "lists", lambda mix: mix.other(mix.one_of(("tools/list", "resources/list", "resources/templates/list")))),
    (1, "ping", lambda mix: mix.other("ping", holds=lambda result: result == {})),
    (1, "no JSON", lambda mix: Ask("no JSON", "", {}, "-32700", line=b'{"jsonrpc": "2.0", ')),
]


# -- the client --------------------------------------------------------------------------------------------------------


class EndedError(Exception):
    """A process that has to go on is gone."""


@dataclass
class Child:
    """A process that is written to, and read from, line by line."""

    process: asyncio.subprocess.Process

    @classmethod
    async def start(cls, command: Sequence[str], **more: Any) -> Child:
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LONGEST_LINE, **more))

    def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            yield json.loads(line)

    async def close(self) -> int:
        """The exit status of the process, whose input ends here; one that takes no notice is killed."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            return await asyncio.wait_for(self.process.wait(), WAIT_S)
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()


@dataclass(frozen=True)
class Rest:
    """What a server holds that has nothing to do.

    Attributes:
        calls: how many it has had by now.
        per_second: calls since the last rest.
        cpu_ms: processor time of each of them, in milliseconds.
        memory: resident, in bytes.
        kept: connections that it had kept open, until the providers closed them.
        blocks: of Python's allocator; 0 where they were not counted.
        names: of the tasks, threads and timers.
    """

    calls: int
    per_second: float
    cpu_ms: float
    memory: int
    files: int
    tasks: int
    threads: int
    timers: int
    kept: int
    blocks: int = 0
    names: Mapping[str, int] = field(default_factory=dict)
    types: Mapping[str, int] = field(default_factory=dict)

    def above(self, first: Rest) -> list[str]:
        """What is more than it was, of what has to return."""
        names = ("files", "tasks", "threads", "timers")
        more = [name for name in names if getattr(self, name) > getattr(first, name)]
        which = [name for name, count in self.names.items() if count > first.names.get(name, 0)]
        return [f"{getattr(self, name)} {name}, after {getattr(first, name)} ({', '.join(which)})" for name in more]


class Client:
    """Asks the server, and sees what comes of it."""

    def __init__(self, server: Child, providers: Child, looks: asyncio.StreamReader) -> None:
        import psutil  # which an environment made for another LiteLLM does not have, nor need

        self._server, self._providers, self._looks = server, providers, looks
        self._process = psutil.Process(server.process.pid)
        self._rested_at, self._cpu_s, self._calls = time.monotonic(), 0.0, 0  # at the last rest
        self._next_id = 0
        self._answers: dict[Any, asyncio.Future[dict[str, Any]]] = {}
        self._nameless: deque[asyncio.Future[dict[str, Any]]] = deque()  # answers to what had no id
        self._waits: dict[Any, asyncio.Future[dict[str, Any]]] = {}  # for a provider to keep a call waiting
        self._cancelled: set[Any] = set()
        self.outcomes: dict[str, Counter[str]] = {kind: Counter() for _, kind, _ in MIX}
        self.wrong: list[str] = []
        self._accounts: dict[str, Counter[str]] = {}
        self._uncertain: Counter[str] = Counter()  # calls that may have been cancelled before they were on an account
        self._reading = [asyncio.create_task(self._read_server()), asyncio.create_task(self._read_providers())]

    async def _read_server(self) -> None:
        async for message in self._server.lines():
            answer = self._answers.pop(message.get("id"), None)
            if answer is None and self._nameless and message.get("id", 0) is None:
                answer = self._nameless.popleft()
            if answer is not None:
                answer.set_result(message)
            else:
                which = "a call that was cancelled" if message.get("id") in self._cancelled else "nobody"
                self.wrong.append(f"an answer to {which}: {message}")
        for waiting in (*self._answers.values(), *self._nameless, *self._waits.values()):
            waiting.set_exception(EndedError("the server has ended"))
            waiting.exception()  # nobody may be left to take note of it

    async def _read_providers(self) -> None:
        async for message in self._providers.lines():
            if (waiting := self._waits.pop(message.get("waits"), None)) is not None:
                waiting.set_result(message)

    async def _answer(self, answer: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
        """What comes; an error of our own when nothing does."""
        if self._reading[0].done():
            raise EndedError("the server has ended")
        done, _ = await asyncio.wait((answer,), timeout=WAIT_S)
        return answer.result() if done else {"error": {"code": f"nothing within {WAIT_S} s", "message": ""}}

    def _waiting(self) -> asyncio.Future[dict[str, Any]]:
        return asyncio.get_running_loop().create_future()

    def _send(self, method: str, params: Mapping[str, Any], request_id: int | None = None) -> None:
        named = {} if request_id is None else {"id": request_id}
        self._server.send(json.dumps({"jsonrpc": "2.0", **named, "method": method, "params": params}).encode())

    async def initialize(self) -> None:
        info = {"name": "soak", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        await self.see(Ask("start", "initialize", params))
        self._send("notifications/initialized", {})

    async def see(self, ask: Ask) -> Any:
        """Ask, and note what comes of it; the result."""
        message = await self._message(ask)
        result = message.get("result", {})
        text = str(result["content"][0]["text"]) if result.get("isError") else ""
        outcome = str(message["error"]["code"]) if "error" in message else text.partition(":")[0] or "ok"
        self.outcomes.setdefault(ask.kind, Counter())[outcome] += 1
        right = outcome in ask.wanted.split()
        if right and outcome == "ok":
            try:
                right = ask.holds(result)
            except (LookupError, TypeError, ValueError):
                right = False
        if not right:
            self.wrong.append(f"{ask.kind}, call {ask.number}: {outcome} is wrong, or not as it should be: {message}")
        if ask.cancelled == "at once":
            self._uncertain[ask.tenant] += 1
        elif ask.tenant:
            sent, answered = counted(ask.number) if outcome == "ok" else (0, 0)
            account = self._accounts.setdefault(ask.tenant, Counter())
            account.update(calls=1, failed=int(outcome != "ok"), input_tokens=sent, output_tokens=answered)
        return result

    async def _message(self, ask: Ask) -> dict[str, Any]:
        answer = self._waiting()
        if ask.line:
            self._nameless.append(answer)
            self._server.send(ask.line)
            return await self._answer(answer)
        self._next_id = request_id = self._next_id + 1
        self._answers[request_id] = answer
        waits = self._waiting()
        if ask.cancelled == "in time":
            self._waits[ask.number] = waits
        self._send(ask.method, ask.params, request_id)
        if not ask.cancelled:
            return await self._answer(answer)
        waited = await self._answer(waits) if ask.cancelled == "in time" else {}
        self._send("notifications/cancelled", {"requestId": request_id})
        self._cancelled.add(request_id)
        if self._answers.pop(request_id, None) is None:
            return answer.result()
        return waited if "error" in waited else {"error": {"code": "nothing", "message": "as it was cancelled"}}

    async def audit(self) -> None:
        """Hold what the accounts say against what came of the calls."""
        for tenant, account in sorted(self._accounts.items()):
            result = await self.see(Ask("account", "resources/read", {"uri": f"konstruct://usage/{tenant}"}))
            usage = json.loads(result["contents"][0]["text"])
            for name, least in account.items():
                most = least + (self._uncertain[tenant] if name in ("calls", "failed") else 0)
                if not least <= (told := usage["total"][name]) <= most:
                    self.wrong.append(f"the account of {tenant}: {told:,} {name}, and not {least:,} to {most:,}")
            self.wrong += [f"{tenant} has a reservation left" for it in usage["budgets"] if it["reserved_usd"]]

    # -- rest --------------------------------------------------------------------------------------------------------

    async def rest(self, calls: int, first: Rest | None, *, counting: bool) -> Rest:
        """Look at the server when it has come to rest: when nothing changes from one look to the next, and nothing is
        more than at the `first` rest, or has not become less for long."""
        elapsed, cpu_s = time.monotonic() - self._rested_at, sum(self._process.cpu_times()[:2])
        since, before = max(1, calls - self._calls), self._process.num_fds()
        begun = Rest(calls, since / elapsed, (cpu_s - self._cpu_s) * 1000 / since, 0, before, 0, 0, 0, 0)
        rests = self._waits[None] = self._waiting()
        self._providers.send(b"rest")
        await self._answer(rests)
        rest, last, until = begun, None, time.monotonic() + WAIT_S
        while rest != last or (first and rest.above(first) and time.monotonic() < until):
            await asyncio.sleep(AGAIN_S)
            last, rest = rest, await self._look(begun)
        readings: list[int] = []
        while len(readings) < READINGS:
            await asyncio.sleep(AGAIN_S)
            readings.append(self._process.memory_info().rss)
        more = await self._signal(signal.SIGUSR2) if counting else {}
        self._rested_at, self._cpu_s, self._calls = time.monotonic(), sum(self._process.cpu_times()[:2]), calls
        return replace(rest, memory=round(statistics.median(readings)), **more)

    async def _look(self, begun: Rest) -> Rest:
        seen = await self._signal(signal.SIGUSR1)
        files = self._process.num_fds()
        return replace(
            begun,
            files=files,
            tasks=sum(seen["tasks"].values()),
            threads=self._process.num_threads(),
            timers=sum(seen["timers"].values()),
            kept=begun.files - files,
            names={**seen["tasks"], **seen["timers"], **seen["threads"]},
        )

    async def _signal(self, number: signal.Signals) -> dict[str, Any]:
        self._server.process.send_signal(number)
        line = await asyncio.wait_for(self._looks.readline(), WAIT_S)
        if not line:
            raise EndedError("the server has ended")
        return dict(json.loads(line))


# -- the run -----------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What a run has found. Times in seconds from the start of the server's process; growth since the first rest after
    calls."""

    litellm: str = ""
    python: str = ""
    initialized_s: float = 0.0
    first_answer_s: float = 0.0
    rests: list[Rest] = field(default_factory=list)
    memory_growth: float = 0.0
    blocks_growth: float = 0.0
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def judge(self, calls: int, in_flight: int) -> None:
        """Compare the last rest with the first one after calls."""
        if not self.rests or self.rests[-1].calls < calls:
            return
        first, last = self.rests[1], self.rests[-1]
        self.memory_growth, self.blocks_growth = last.memory / first.memory - 1, last.blocks / first.blocks - 1
        self.wrong += last.above(first)
        if last.kept > first.kept + in_flight:
            self.wrong.append(f"{last.kept} connections were kept open, after {first.kept}")
        if calls < FULL:
            return
        if self.memory_growth >= MOST_MEMORY:
            self.wrong.append(f"memory has grown by {self.memory_growth:.2%}")
        if self.blocks_growth >= MOST_BLOCKS:
            self.wrong.append(f"Python's blocks have become {self.blocks_growth:.2%} more")


async def soak(python: str, options: argparse.Namespace, say: Callable[[str], None]) -> Found:
    calls, in_flight, found = options.calls, options.in_flight, Found()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        errors = stack.enter_context((folder / "stderr").open("w+"))
        providers = await Child.start([sys.executable, str(HERE), "--provide"])
        urls = await anext(providers.lines())
        (folder / "konstruct.yaml").write_text(json.dumps(config(urls, folder)))
        use(folder / "ledger.sqlite3", 2 * calls)
        ours, its = os.pipe()
        looks = asyncio.StreamReader(limit=LONGEST_LINE)
        pipe = stack.enter_context(os.fdopen(ours, "rb"))
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(looks), pipe)
        environ = {"PATH": os.environ["PATH"], "KONSTRUCT_CONFIG": f"{folder}/konstruct.yaml"}
        environ |= dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
        command = [python, str(HERE), "--serve", str(its), *(["--types"] if options.types else [])]
        began = time.monotonic()
        server = await Child.start(command, env=environ, cwd=folder, stderr=errors, pass_fds=[its])
        os.close(its)
        client = Client(server, providers, looks)
        try:
            versions = json.loads(await looks.readline() or b"{}")
            found.litellm, found.python = versions.get("litellm", ""), versions.get("python", "")
            await client.initialize()
            found.initialized_s = time.monotonic() - began
            mix = Mix()
            await client.see(mix.complete("gpt"))
            found.first_answer_s = time.monotonic() - began
            for _ in range(3):  # with more at once than the ledger keeps connections for
                await asyncio.gather(*(client.see(mix.resource("usage")) for _ in range(in_flight)))
            say(line(*COLUMNS))
            found.rests.append(await client.rest(0, None, counting=False))
            say(row(found.rests[0]))
            asks, done = iter(mix), 0
            while done < calls:
                section = min(FIRST, calls // 2, calls - done)
                await all_of(client, asks, section, in_flight)
                first, done = (found.rests[1] if done else None), done + section
                found.rests.append(await client.rest(done, first, counting=first is None or done == calls))
                say(row(found.rests[-1]))
            await client.audit()
        except Exception as error:  # the server may be gone at any moment, and whatever comes of that is wrong
            client.wrong.append(str(error) or repr(error))
        finally:
            if (status := await server.close()) != 0:
                client.wrong.append(f"the server ended with status {status}")
            await providers.close()
        errors.seek(0)
        if written := [line for line in errors if not line.endswith(CHANGES)]:
            client.wrong.append(f"on stderr: {''.join(written)}")
    found.outcomes, found.wrong = client.outcomes, client.wrong
    found.judge(calls, in_flight)
    return found


async def all_of(client: Client, asks: Iterator[Ask], count: int, in_flight: int) -> None:
    """So many of them, so many at once."""

    async def some() -> None:
        nonlocal count
        while count > 0:
            count -= 1
            await client.see(next(asks))

    await asyncio.gather(*(some() for _ in range(in_flight)))


COLUMNS = ("calls", "calls/s", "CPU each", "memory", "files", "tasks", "threads", "timers", "kept", "blocks")


def line(*cells: str) -> str:
    return "".join(f"{cell:>10}" for cell in cells) + "\n"


def row(rest: Rest) -> str:
    speed = (f"{rest.per_second:.0f}", f"{rest.cpu_ms:.1f} ms") if rest.calls else ("", "")
    numbers = (rest.files, rest.tasks, rest.threads, rest.timers, rest.kept)
    blocks = f"{rest.blocks:,}" if rest.blocks else ""
    return line(f"{rest.calls:,}", *speed, f"{rest.memory / 1e6:.1f} MB", *map(str, numbers), blocks)


def report(found: Found, options: argparse.Namespace) -> str:
    """What follows the table."""
    judged = "" if options.calls >= FULL else f"; in fewer than {FULL:,} calls it is not judged"
    lines = [
        "",
        f"LiteLLM {found.litellm}, Python {found.python}, {options.in_flight} calls in flight",
        f"initialize is answered after {found.initialized_s:.1f} s, the first call after {found.first_answer_s:.1f} s",
        f"growth since the first calls: memory {found.memory_growth:+.2%}, blocks {found.blocks_growth:+.2%}{judged}",
        "",
    ]
    for kind, outcomes in found.outcomes.items():
        told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
        lines.append(f"{kind:<30} {told}")
    lines.append("")
    if options.types and len(found.rests) > 2:
        more = Counter(found.rests[-1].types)
        more.subtract(found.rests[1].types)
        lines += [f"{count:+8,} {name}" for name, count in more.most_common(MOST_SHOWN)]
    lines += [f"WRONG: {wrong[:MOST_TOLD]}" for wrong in found.wrong[:MOST_SHOWN]]
    lines.append(f"{len(found.wrong)} wrong" if found.wrong else "nothing wrong")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def python_with(litellm: str | None) -> Iterator[str]:
    """A Python that has this version, and else what the project asks for; the one that runs this for None."""
    if litellm is None:
        yield sys.executable
        return
    uv = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=str(Path(sys.base_prefix, "bin")))
    if uv is None:
        raise SystemExit("uv is missing: python3 -m pip install uv")
    with tempfile.TemporaryDirectory() as folder:
        override, python = Path(folder, "override.txt"), Path(folder, "venv", "bin", "python")
        override.write_text(f"litellm=={litellm}\n")  # in place of the pin; all other bounds hold
        make = ["venv", "--quiet", "--python", sys.executable, str(python.parents[1])]
        # Compiled, as an environment in use is: else the start would take longer, and leave more memory behind.
        fill = ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
        for command in (make, [*fill, "--override", str(override), str(REPOSITORY)]):
            if subprocess.run([uv, *command], stdin=subprocess.DEVNULL).returncode:
                raise SystemExit(f"LiteLLM {litellm} cannot be installed with what else the project asks for")
        yield str(python)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=FULL, metavar="N", help=f"in all ({FULL:,})")
    parser.add_argument("--in-flight", type=int, default=50, metavar="N", help="at once (50)")
    parser.add_argument("--litellm", metavar="VERSION", help="to run on, in place of the one that is installed")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument("--types", action="store_true", help="tell of which types there are more objects; takes memory")
    parser.add_argument("--provide", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=int, metavar="FD", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.provide:
        provide()
        return 0
    if options.serve is not None:
        serve(options.serve, with_types=options.types)
    if options.litellm in CARRIED_MALWARE:
        parser.error(f"LiteLLM {options.litellm} carried malware")
    if options.calls < 2 or options.in_flight < 1:
        parser.error("growth takes two calls at least, and one in flight")

    def say(text: str) -> None:
        if not options.json:
            sys.stdout.write(text)
            sys.stdout.flush()

    with python_with(options.litellm) as python:
        found = asyncio.run(soak(python, options, say))
    say(report(found, options))
    if options.json:
        sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
