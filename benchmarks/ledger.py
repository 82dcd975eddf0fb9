"""What the ledger adds to a call: at most one millisecond to the median, on SQLite with 50 calls in flight.

    python benchmarks/ledger.py [--calls IN_FLIGHT] [--rounds ROUNDS] [--answer SECONDS] [--check]

A fake provider, in a process of its own, is asked with no ledger, with one, and with one that has a budget to check:
in turn by each of those who ask, so that all three meet the same machine. The provider is told how long to take for
each answer; what a call takes beyond that is ours. With `--check` the status is 1 when the ledger adds more than it
may. A budget is reported beside it: what a call can cost is a transaction of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]
# No price map from outside and no file of the user's, as in the tests.
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True"}

MOST_ADDED_MS = 1.0
SPREAD = 0.25  # either way of what an answer takes, so that calls do not end together
PRICES = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}


class NoLedger:
    """Keeps no accounts."""

    def start(self) -> None: ...

    def kill(self) -> None: ...

    async def aclose(self) -> None: ...

    async def opened(self) -> None: ...

    async def record(self, call: Any, *, within_s: float | None = None) -> None: ...


def provide() -> None:
    """Be the provider: say where, and serve until stdin ends."""
    from support.providers import Provider, Received, Text

    def answer(received: Received) -> Text:
        return Text("yes", delay=float(received.body["messages"][0]["content"]))

    with Provider("openai") as provider:
        provider.script(answer)
        sys.stdout.write(f"{provider.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


async def ask(variants: Mapping[str, Any], in_flight: int, rounds: int, answer_s: float) -> dict[str, list[float]]:
    """What each call took beyond its provider, in milliseconds."""
    rng = random.Random(7)
    beyond: dict[str, list[float]] = {name: [] for name in variants}

    async def one(position: int) -> None:
        await asyncio.sleep(rng.uniform(0, answer_s))
        for turn in range(rounds * len(variants)):
            name, delay = (
                list(variants)[(position + turn) % len(variants)],
                answer_s * rng.uniform(1 - SPREAD, 1 + SPREAD),
            )
            began = time.perf_counter()
            await variants[name].complete([{"role": "user", "content": f"{delay:.6f}"}], max_tokens=100)
            beyond[name].append((time.perf_counter() - began - delay) * 1000)

    await asyncio.gather(*map(one, range(in_flight)))
    return beyond


async def measure(url: str, folder: Path, in_flight: int, rounds: int, answer_s: float) -> dict[str, list[float]]:
    from support.default_groups import opened

    from konstruct_mcp import Konstruct

    def config(name: str, **more: Any) -> dict[str, Any]:
        params = {"model": "openai/fake", "api_base": url, "api_key": "sk-bench", **PRICES}
        konstruct = {"default_group": "g", "ledger_url": f"sqlite:///{folder / name}.sqlite3", **more}
        return {"model_list": [{"model_name": "g", "litellm_params": params}], "konstruct": konstruct}

    budget = {"usd": 1000, "per": "total"}
    async with (
        opened(folder, config("plain")) as plain,
        opened(folder, config("budget", budgets=[budget])) as limited,
        Konstruct(plain.config, ledger=NoLedger()) as bare,  # type: ignore[arg-type]  # as much of one as it takes
    ):
        variants = {"no ledger": bare, "ledger": plain, "ledger and budget": limited}
        await ask(variants, 1, 1, 0.0)  # loads what is loaded once
        return await ask(variants, in_flight, rounds, answer_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=50, metavar="N", help="in flight at once (50)")
    parser.add_argument("--rounds", type=int, default=8, metavar="N", help="of three calls each (8, a minute in all)")
    parser.add_argument("--answer", type=float, default=2.0, metavar="S", help="that an answer takes, more or less (2)")
    parser.add_argument("--check", action="store_true", help="fail when a ledger adds too much")
    parser.add_argument("--provide", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.provide:
        provide()
        return 0
    command = [sys.executable, str(REPOSITORY / "benchmarks/ledger.py"), "--provide"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as provider,
    ):
        assert provider.stdin is not None
        assert provider.stdout is not None
        try:
            url = provider.stdout.readline().strip()
            found = asyncio.run(measure(url, Path(folder), options.calls, options.rounds, options.answer))
        finally:
            provider.stdin.close()
    base = statistics.median(found["no ledger"])
    say = sys.stdout.write
    say(f"{options.calls} calls in flight, {len(found['ledger'])} of each; milliseconds beyond the provider's own\n")
    for name, beyond in found.items():
        median, p95 = statistics.median(beyond), statistics.quantiles(beyond, n=20)[-1]
        added = f"   adds {median - base:+.2f} ms, {median / base:.2f} times" if name != "no ledger" else ""
        say(f"{name:<18} median {median:6.2f} ms   p95 {p95:6.2f} ms{added}\n")
    return int(options.check and statistics.median(found["ledger"]) - base > MOST_ADDED_MS)


if __name__ == "__main__":
    sys.exit(main())
