"""The client of `soak.py`: it asks the server, checks what comes of each request, and sees what the server holds."""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness import WAIT_S, LineProcess
from soak_requests import MIX, Request, planned_usage

READINGS = 5  # of the memory, at each rest
AGAIN_S = 0.05  # between looks at what comes to rest


class EndedError(Exception):
    """A process that has to go on is gone."""


@dataclass(frozen=True)
class Rest:
    """What a server holds while it has nothing to do.

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
        """What is more than at the first rest, of what has to come back to what it was."""
        names = ("files", "tasks", "threads", "timers")
        more = [name for name in names if getattr(self, name) > getattr(first, name)]
        which = [name for name, count in self.names.items() if count > first.names.get(name, 0)]
        return [f"{getattr(self, name)} {name}, after {getattr(first, name)} ({', '.join(which)})" for name in more]


class Client:
    """Sends the server requests and checks what comes of each.

    Args:
        looks: the lines of `soak_server.Inspector`.

    Attributes:
        outcomes: by kind of request, how often each came.
        wrong: a line for each thing that came out wrong.
    """

    def __init__(self, server: LineProcess, providers: LineProcess, looks: asyncio.StreamReader) -> None:
        self._server, self._providers, self._looks = server, providers, looks
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
        async for line in self._server.lines():
            message = json.loads(line)
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
        async for line in self._providers.lines():
            message = json.loads(line)
            if (waiting := self._waits.pop(message.get("waits"), None)) is not None:
                waiting.set_result(message)

    async def _answer(self, answer: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
        """Wait for an answer; when none comes in time, it is an error of our own."""
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
        await self.check(Request("start", "initialize", params))
        self._send("notifications/initialized", {})

    async def check(self, request: Request) -> Any:
        """Send a request, note what comes of it and whether it is right, and return its result."""
        message = await self._message(request)
        result = message.get("result", {})
        text = str(result["content"][0]["text"]) if result.get("isError") else ""
        outcome = str(message["error"]["code"]) if "error" in message else text.partition(":")[0] or "ok"
        self.outcomes.setdefault(request.kind, Counter())[outcome] += 1
        right = outcome in request.expected.split()
        if right and outcome == "ok":
            try:
                right = request.holds(result)
            except (LookupError, TypeError, ValueError):
                right = False
        if not right:
            self.wrong.append(
                f"{request.kind}, call {request.number}: {outcome} is wrong, or not as it should be: {message}"
            )
        if request.cancelled == "at once":
            self._uncertain[request.tenant] += 1
        elif request.tenant:
            sent, answered = planned_usage(request.number) if outcome == "ok" else (0, 0)
            account = self._accounts.setdefault(request.tenant, Counter())
            account.update(calls=1, failed=int(outcome != "ok"), input_tokens=sent, output_tokens=answered)
        return result

    async def _message(self, request: Request) -> dict[str, Any]:
        answer = self._waiting()
        if request.line:
            self._nameless.append(answer)
            self._server.send(request.line)
            return await self._answer(answer)
        self._next_id = request_id = self._next_id + 1
        self._answers[request_id] = answer
        waits = self._waiting()
        if request.cancelled == "in time":
            self._waits[request.number] = waits
        self._send(request.method, request.params, request_id)
        if not request.cancelled:
            return await self._answer(answer)
        waited = await self._answer(waits) if request.cancelled == "in time" else {}
        self._send("notifications/cancelled", {"requestId": request_id})
        self._cancelled.add(request_id)
        if self._answers.pop(request_id, None) is None:
            return answer.result()
        return waited if "error" in waited else {"error": {"code": "nothing", "message": "as it was cancelled"}}

    async def audit(self) -> None:
        """Hold what the accounts say against what came of the calls."""
        for tenant, account in sorted(self._accounts.items()):
            result = await self.check(Request("account", "resources/read", {"uri": f"konstruct://usage/{tenant}"}))
            usage = json.loads(result["contents"][0]["text"])
            for name, least in account.items():
                most = least + (self._uncertain[tenant] if name in ("calls", "failed") else 0)
                if not least <= (told := usage["total"][name]) <= most:
                    self.wrong.append(f"the account of {tenant}: {told:,} {name}, and not {least:,} to {most:,}")
            self.wrong += [f"{tenant} has a reservation left" for it in usage["budgets"] if it["reserved_usd"]]

    # -- rest --------------------------------------------------------------------------------------------------------

    async def rest(self, calls: int, first: Rest | None, *, counting: bool) -> Rest:
        """Wait until the server has come to rest, and look at it.

        It has come to rest when nothing changes from one look to the next, and nothing is more than at the `first`
        rest; or after a minute.
        """
        elapsed, cpu_s = time.monotonic() - self._rested_at, self._server.cpu_s
        since, before = max(1, calls - self._calls), self._server.figures.num_fds()
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
            readings.append(self._server.rss)
        more = await self._signal(signal.SIGUSR2) if counting else {}
        self._rested_at, self._cpu_s, self._calls = time.monotonic(), self._server.cpu_s, calls
        return replace(rest, memory=round(statistics.median(readings)), **more)

    async def _look(self, begun: Rest) -> Rest:
        seen = await self._signal(signal.SIGUSR1)
        files = self._server.figures.num_fds()
        return replace(
            begun,
            files=files,
            tasks=sum(seen["tasks"].values()),
            threads=self._server.figures.num_threads(),
            timers=sum(seen["timers"].values()),
            kept=begun.files - files,
            names={**seen["tasks"], **seen["timers"], **seen["threads"]},
        )

    async def _signal(self, number: signal.Signals) -> dict[str, Any]:
        self._server.signal(number)
        line = await asyncio.wait_for(self._looks.readline(), WAIT_S)
        if not line:
            raise EndedError("the server has ended")
        return dict(json.loads(line))


async def check_many(client: Client, requests: Iterator[Request], count: int, in_flight: int) -> None:
    """Check so many requests, so many at once."""

    async def some() -> None:
        nonlocal count
        while count > 0:
            count -= 1
            await client.check(next(requests))

    await asyncio.gather(*(some() for _ in range(in_flight)))
