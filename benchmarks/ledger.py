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
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import Figure, fake_providers, say

MOST_ADDED_MS = 1.0
SPREAD = 0.25  # either way of what an answer takes, so that calls do not end together
PRICES = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
NO_LEDGER, LEDGER, BUDGET = "no ledger", "ledger", "ledger and budget"


class NoLedger:
    """Keeps no accounts."""

    def start(self) -> None: ...

    def kill(self) -> None: ...

    async def aclose(self) -> None: ...

    async def opened(self) -> None: ...

    async def record(self, call: Any, *, within_s: float | None = None) -> None: ...


async def ask(variants: Mapping[str, Any], in_flight: int, rounds: int, answer_s: float) -> Figure:
    """What each call took beyond its provider."""
    rng = random.Random(7)
    beyond = Figure("time beyond the provider's", "ms", samples={name: [] for name in variants})

    async def one(position: int) -> None:
        await asyncio.sleep(rng.uniform(0, answer_s))
        for turn in range(rounds * len(variants)):
            name = list(variants)[(position + turn) % len(variants)]
            delay = answer_s * rng.uniform(1 - SPREAD, 1 + SPREAD)
            began = time.perf_counter()
            await variants[name].complete([{"role": "user", "content": f"{delay:.6f}"}], max_tokens=100)
            beyond.add(name, (time.perf_counter() - began - delay) * 1000)

    await asyncio.gather(*map(one, range(in_flight)))
    return beyond


async def measure(options: argparse.Namespace, folder: Path) -> Figure:
    from support.default_groups import opened

    from konstruct_mcp import Konstruct

    def config(name: str, url: str, **more: Any) -> dict[str, Any]:
        params = {"model": "openai/fake", "api_base": url, "api_key": "sk-bench", **PRICES}
        konstruct = {"default_group": "g", "ledger_url": f"sqlite:///{folder / name}.sqlite3", **more}
        return {"model_list": [{"model_name": "g", "litellm_params": params}], "konstruct": konstruct}

    budget = {"usd": 1000, "per": "total"}
    async with (
        fake_providers("delayed") as (_, urls),
        opened(folder, config("plain", urls["openai"])) as plain,
        opened(folder, config("budget", urls["openai"], budgets=[budget])) as limited,
        Konstruct(plain.config, ledger=NoLedger()) as bare,  # type: ignore[arg-type]  # as much of one as it takes
    ):
        variants = {NO_LEDGER: bare, LEDGER: plain, BUDGET: limited}
        await ask(variants, 1, 1, 0.0)  # loads what is loaded once
        return await ask(variants, options.calls, options.rounds, options.answer)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=50, metavar="N", help="in flight at once (50)")
    parser.add_argument("--rounds", type=int, default=8, metavar="N", help="of three calls each (8, a minute in all)")
    parser.add_argument("--answer", type=float, default=2.0, metavar="S", help="that an answer takes, more or less (2)")
    parser.add_argument("--check", action="store_true", help="fail when a ledger adds too much")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        beyond = asyncio.run(measure(options, Path(folder)))
    say(
        f"{options.calls} calls in flight, {len(beyond.samples[LEDGER])} of each; "
        "milliseconds beyond the provider's own"
    )
    medians = {name: statistics.median(samples) for name, samples in beyond.samples.items()}
    for name, samples in beyond.samples.items():
        added = medians[name] - medians[NO_LEDGER]
        told = f"   adds {added:+.2f} ms, {medians[name] / medians[NO_LEDGER]:.2f} times" if name != NO_LEDGER else ""
        p95 = statistics.quantiles(samples, n=20)[-1]
        say(f"{name:<18} median {medians[name]:6.2f} ms   p95 {p95:6.2f} ms{told}")
    return int(options.check and medians[LEDGER] - medians[NO_LEDGER] > MOST_ADDED_MS)


if __name__ == "__main__":
    sys.exit(main())
