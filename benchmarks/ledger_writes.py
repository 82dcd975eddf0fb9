"""How many calls a ledger on PostgreSQL takes: reserved, then recorded, by one process and by four.

    python benchmarks/ledger_writes.py [--seconds S] [--calls IN_FLIGHT] [--against CHECKOUT] [--check]

Nobody is asked: what is measured is the ledger alone, through its own face, in processes of their own. `--against`
takes turns with the ledger of another checkout, on the same server. It is measured again with a millisecond added to
each round trip, and at half of what four processes took how long a reservation takes. With `--check` the status is 1
where a figure misses its goal. The server does not wait for its disk, which would be a figure of the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import FOLDER, REPOSITORY, LineProcess, say, table

PROCESSES = 4
ADDED_S = 0.001  # to a round trip
LEAST_OF_FOUR, LEAST_BESIDE, MOST_P99_MS = 1.5, 5.0, 50.0
OURS, ITS = "this", "the other"


# -- a process that makes calls ----------------------------------------------------------------------------------------


async def make_calls(url: str, folder: str, tenants: int, at_once: int, rate: float, seconds: float) -> dict[str, Any]:
    """Reserve and record, as many calls at once as are wanted, or so many per second.

    Returns: how many calls it made in the time, and the milliseconds that each reservation took.
    """
    import uuid
    from datetime import UTC, datetime
    from fractions import Fraction

    from konstruct_mcp.core.budgets import Budget, Grant, Quote, Reserve
    from konstruct_mcp.core.spending import Call, Charge
    from konstruct_mcp.ledger.ledger import Ledger

    ledger = Ledger(url, Path(folder) / f"spool-{os.getpid()}")
    quote = Quote(100, Fraction(1000), Fraction(10), 100, fixed=True)
    budgets = (Budget(10**15, "month"), Budget(10**14, "day"))
    took_ms: list[float] = []

    async def call(number: int) -> None:
        tenant, id_ = f"tenant-{number % tenants}", str(uuid.uuid4())
        began = time.perf_counter()
        granted = await ledger.reserve(Reserve(id_, 1, (), "", tenant, "g", "openai/m", quote, budgets, 1))
        took_ms.append((time.perf_counter() - began) * 1000)
        assert isinstance(granted, Grant)
        now = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
        charge = Charge("g", "openai/m", 100, 50, 0, 1500)
        await ledger.record(Call(id_, now, tenant, "g", "g", "openai/m", (charge,), 1500, 1, "ok", 1, reserved=True))

    async def one_after_another(number: int) -> int:
        made = 0
        while time.perf_counter() < until:
            await call(number + made * at_once)
            made += 1
        return made

    await ledger.opened()
    await asyncio.gather(*(call(number) for number in range(tenants)))  # what is done once is not measured
    took_ms.clear()
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    began = time.perf_counter()
    until = began + seconds
    if rate:
        made, calls = round(rate * seconds), set[asyncio.Task[None]]()
        for number in range(made):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            calls.add(task := asyncio.create_task(call(number)))
            # Else each is kept, and to look through all of them takes the collector a tenth of a second, while this
            # process holds locks that the others wait for. No server keeps its calls.
            task.add_done_callback(calls.discard)
        await asyncio.gather(*calls)
    else:
        made = sum(await asyncio.gather(*map(one_after_another, range(at_once))))
    took_s = time.perf_counter() - began
    await ledger.aclose()
    return {"calls": made, "seconds": took_s, "took_ms": took_ms}


# -- a longer way to the server ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def longer_way(address: str) -> Iterator[int]:
    """A port behind which is the server of a Unix socket, `ADDED_S` further away. In threads, which sleep exactly."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while some := source.recv(1 << 20):
                time.sleep(ADDED_S / 2)
                target.sendall(some)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                far = socket.socket(socket.AF_UNIX)
                far.connect(address)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=(source, target), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


# -- what is measured --------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """What some processes did at once."""

    calls_per_s: float
    took_ms: list[float]

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.took_ms, n=100)[percent - 1]


@contextlib.asynccontextmanager
async def workers(tree: Path, count: int, arguments: list[str]) -> AsyncIterator[list[LineProcess]]:
    command = [sys.executable, str(FOLDER / "ledger_writes.py"), "--worker", str(tree), *arguments]
    started = [await LineProcess.start(command) for _ in range(count)]
    try:
        yield started
    finally:
        for process in started:
            await process.close()


async def load(
    tree: Path, url: str, processes: int, tenants: int, options: argparse.Namespace, rate: float = 0
) -> Load:
    """Calls of several processes at once.

    Args:
        tree: the checkout whose ledger it is.
        rate: calls per second of all together; 0 for as many as they can.
    """
    with tempfile.TemporaryDirectory() as folder:
        figures = [url, folder, *map(str, (tenants, options.calls, rate / processes, options.seconds))]
        async with workers(tree, processes, figures) as started:
            for process in started:
                async for line in process.lines():
                    assert line == b"ready\n", line
                    break
            for process in started:
                process.send(b"go")
            found = [await process.next_json() for process in started]
    calls_per_s = sum(each["calls"] / each["seconds"] for each in found)
    return Load(calls_per_s, [ms for each in found for ms in each["took_ms"]])


async def measure(options: argparse.Namespace) -> bool:
    """Print the figures. Returns whether all of them reach their goals."""
    from support.databases import PostgreSQL

    trees = {OURS: REPOSITORY, **({ITS: options.against.resolve()} if options.against else {})}
    reached = True
    with PostgreSQL() as server, longer_way(server.socket) as port:

        async def of(tree: str, processes: int, tenants: int, *, is_far: bool = False, rate: float = 0) -> Load:
            database = server.create()
            near = database.engine.url
            far = near.set(host="127.0.0.1", port=port, query={})
            url = (far if is_far else near).render_as_string(hide_password=False)
            try:
                return await load(trees[tree], url, processes, tenants, options, rate)
            finally:
                database.engine.dispose()

        rows = []
        figures: dict[tuple[str, int, int, bool], Load] = {}
        for is_far in (False, True):
            for tenants in (50, 1):
                for processes in (1, PROCESSES):
                    for tree in trees:
                        figures[tree, tenants, processes, is_far] = await of(tree, processes, tenants, is_far=is_far)
                    way = f"{ADDED_S * 1000:g} ms further" if is_far else "near"
                    found = {tree: figures[tree, tenants, processes, is_far].calls_per_s for tree in trees}
                    beside = found[OURS] / found[ITS] if ITS in found else 0
                    reached &= not (is_far and beside and processes > 1 and beside < LEAST_BESIDE)
                    rows.append(
                        (
                            way,
                            str(tenants),
                            str(processes),
                            *(f"{n:,.0f}" for n in found.values()),
                            f"{beside:.2f}" if beside else "",
                        )
                    )
        say(
            table(
                ("server", "tenants", "processes", *(f"{tree}, calls/s" for tree in trees), "ratio"),
                ("--", "--:", "--:", *("--:" for _ in trees), "--:"),
                rows,
            )
        )
        for tenants in (50, 1):
            ratio = figures[OURS, tenants, PROCESSES, False].calls_per_s / figures[OURS, tenants, 1, False].calls_per_s
            reached &= ratio >= LEAST_OF_FOUR
            say(f"{PROCESSES} processes over one, {tenants} tenants: {ratio:.2f} (at least {LEAST_OF_FOUR:g})")
        half = figures[OURS, 50, PROCESSES, False].calls_per_s / 2
        paced = await of(OURS, PROCESSES, 50, rate=half)
        reached &= paced.percentile(99) < MOST_P99_MS
        say(
            f"a reservation at half of that ({half:,.0f} calls/s): p50 {paced.percentile(50):.1f} ms, "
            f"p99 {paced.percentile(99):.1f} ms (under {MOST_P99_MS:g})"
        )
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=50, metavar="N", help="in flight at once in each process (50)")
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="that each figure is measured (5)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="measure the ledger of this one beside it")
    parser.add_argument("--check", action="store_true", help="fail when a figure misses its goal")
    parser.add_argument("--worker", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        tree, url, folder, *figures = options.worker
        sys.path.insert(0, tree)
        tenants, at_once = map(int, figures[:2])
        rate, seconds = map(float, figures[2:])
        say(json.dumps(asyncio.run(make_calls(url, folder, tenants, at_once, rate, seconds))))
        return 0
    return int(not asyncio.run(measure(options)) and options.check)


if __name__ == "__main__":
    sys.exit(main())
