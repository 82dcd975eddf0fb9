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
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import FOLDER, LONGEST_LINE, REPOSITORY, WAIT_S, LineProcess, fake_providers, product_environ
from soak_client import Client, Rest, check_many
from soak_requests import BROKE, METERED, NOWHERE, TENANTS, Mix

FULL, FIRST = 20_000, 2_000  # calls
MOST_MEMORY, MOST_BLOCKS = 0.02, 0.01  # growth
MOST_SHOWN, MOST_TOLD = 20, 600  # of what is wrong: how many, and characters of each
CARRIED_MALWARE = ("1.82.7", "1.82.8")
PRICES = {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}
CHANGES = ("or until it is back\n", "answers again\n")  # what stderr says of deployments, once for each change


# -- the set-up --------------------------------------------------------------------------------------------------------


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
        "konstruct": {"default_group": "gpt", "ledger_url": f"sqlite:///{folder}/ledger.sqlite3", "tenants": tenants}
        | {"threads": {"hours": 0.002}},  # seven seconds, so that as many are kept at each rest
    }


def use(ledger: Path, calls: int) -> None:
    """Write so many calls of a former tenant into a ledger, so that SQLite's cache is full from the start."""
    from konstruct_mcp.core.spending import Call, Charge
    from konstruct_mcp.ledger.store import Store

    now = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    model = "openai/gpt-4o"
    charges = (Charge("gpt", model, 10, 5, 0, 30_000),)
    store = Store(f"sqlite:///{ledger}", WAIT_S)
    former = ("former", "gpt", "gpt", model, charges, 30_000, 50, "ok", 1)
    store.write([Call(str(uuid.uuid4()), now, *former) for _ in range(calls)], [])
    store.close()


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
    """Run the server on this Python, and everything against it."""
    found = Found()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        errors = stack.enter_context((folder / "stderr").open("w+"))
        async with fake_providers("planned") as (providers, urls):
            (folder / "konstruct.yaml").write_text(json.dumps(config(urls, folder)))
            use(folder / "ledger.sqlite3", 2 * options.calls)
            ours, its = os.pipe()
            looks = asyncio.StreamReader(limit=LONGEST_LINE)
            pipe = stack.enter_context(os.fdopen(ours, "rb"))
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(looks), pipe)
            environ = product_environ(folder, folder / "konstruct.yaml")
            command = [python, str(FOLDER / "soak_server.py"), str(its), *(["--types"] if options.types else [])]
            began = time.monotonic()
            server = await LineProcess.start(command, env=environ, cwd=folder, stderr=errors, pass_fds=[its])
            os.close(its)
            client = Client(server, providers, looks)
            try:
                versions = json.loads(await looks.readline() or b"{}")
                found.litellm, found.python = versions.get("litellm", ""), versions.get("python", "")
                await ask_all(client, began, options, found, say)
            except Exception as error:  # the server may be gone at any moment, and whatever comes of that is wrong
                client.wrong.append(str(error) or repr(error))
            finally:
                if (status := await server.close()) != 0:
                    client.wrong.append(f"the server ended with status {status}")
        errors.seek(0)
        if written := [line for line in errors if not line.endswith(CHANGES)]:
            client.wrong.append(f"on stderr: {''.join(written)}")
    found.outcomes, found.wrong = client.outcomes, client.wrong
    found.judge(options.calls, options.in_flight)
    return found


async def ask_all(
    client: Client, began: float, options: argparse.Namespace, found: Found, say: Callable[[str], None]
) -> None:
    """Make all calls, and look at the server before the first, every 2,000, and after the last."""
    calls, in_flight = options.calls, options.in_flight
    await client.initialize()
    found.initialized_s = time.monotonic() - began
    mix = Mix()
    await client.check(mix.complete("gpt"))
    found.first_answer_s = time.monotonic() - began
    for _ in range(3):  # with more at once than the ledger keeps connections for
        await asyncio.gather(*(client.check(mix.resource("usage")) for _ in range(in_flight)))
    say(line(*COLUMNS))
    found.rests.append(await client.rest(0, None, counting=False))
    say(row(found.rests[0]))
    requests, done = iter(mix), 0
    while done < calls:
        section = min(FIRST, calls // 2, calls - done)
        await check_many(client, requests, section, in_flight)
        first, done = (found.rests[1] if done else None), done + section
        found.rests.append(await client.rest(done, first, counting=first is None or done == calls))
        say(row(found.rests[-1]))
    await client.audit()


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
    options = parser.parse_args()
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
