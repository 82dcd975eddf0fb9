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
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fake_providers import MODELS
from harness import FOLDER, UNCHANGED_ENVIRON, WAIT_S, Figure, fake_providers, product_environ, rounded, table
from performance_figures import OURS, OUTAGES, PARTS, A, B, Measurements, TimedProvider
from performance_servers import ServerCommand


def config(wire: str, urls: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """A group with one deployment at each address; one tenant, whose budget each call is held to."""
    params = {"model": f"{wire}/{MODELS[wire]}", "api_key": "sk-bench"}
    groups = [{"model_name": name, "litellm_params": {**params, "api_base": url}} for name, url in urls.items()]
    return {
        "model_list": groups,
        "router_settings": {"num_retries": 2},
        "konstruct": {
            "default_group": next(iter(urls)),
            "ledger_url": f"sqlite:///{folder}/data/ledger.sqlite3",  # where it is by default, too
            "budgets": [{"usd": 1_000_000, "per": "total"}],
        },
    }


def commands(options: argparse.Namespace, url: str, folder: Path) -> list[ServerCommand]:
    """The servers to measure, ours first."""
    wire, model = options.wire, f"{options.wire}/{MODELS[options.wire]}"
    outages = {f"outage{number}": f"{url}/{number}" for number in range(OUTAGES)}
    (folder / "konstruct.yaml").write_text(json.dumps(config(wire, {"fake": url}, folder)))
    (folder / "outage.yaml").write_text(json.dumps(config(wire, outages, folder)))
    environ = product_environ(folder, folder / "konstruct.yaml")
    arguments = {"messages": [{"role": "user", "content": "{prompt}"}], "max_tokens": 100}
    floors = {**environ, "PYTHONPATH": str(FOLDER)}
    floor = [sys.executable, "-c", "from floors import main; main()"]
    ours = [str(Path(sys.executable).with_name("konstruct-mcp"))]
    theirs = {**UNCHANGED_ENVIRON, "OPENAI_BASE_URL": url, "OPENAI_API_BASE": url, "OPENAI_API_KEY": "sk-bench"}
    return [
        ServerCommand(OURS, ours, environ, "complete", arguments),
        ServerCommand(A, [*floor, "http", model, url], floors, "complete", arguments),
        ServerCommand(B, [*floor, "router", model, url], floors, "complete", arguments),
        *(
            ServerCommand(
                name,
                shlex.split(command.replace("{url}", url)),
                theirs,
                tool,
                json.loads(given.replace("{url}", url)),
            )
            for name, command, tool, given in options.peer
        ),
    ]


async def make_ledger(ours: ServerCommand) -> None:
    """Make the ledger's tables, which the first start of all does and no other: it takes Alembic and its 11 MB."""
    usage = await asyncio.create_subprocess_exec(*ours.command, "usage", env=ours.environ, stdout=subprocess.DEVNULL)
    assert await asyncio.wait_for(usage.wait(), WAIT_S) == 0


async def measure(options: argparse.Namespace, progress: Callable[[str], object]) -> tuple[Measurements, list[str]]:
    """Measure what is asked for; returns the names of those that were measured too."""
    with tempfile.TemporaryDirectory() as folder:
        async with fake_providers("timed") as (process, urls):
            provider = TimedProvider(process, urls[options.wire])
            servers = commands(options, provider.url, Path(folder))
            await make_ledger(servers[0])
            measurements = Measurements(servers, provider, options.rounds, short=options.short)
            for part in PARTS:
                if not options.only or part in options.only:
                    progress(f"{part} …\n")
                    await getattr(measurements, part)()
            return measurements, [server.name for server in servers]


def machine() -> dict[str, str]:
    packages = {name: version(name) for name in ("mcp", "litellm", "openai", "pydantic", "anyio", "httpx", "aiohttp")}
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **packages,
    }


def as_json(figure: Figure, names: Sequence[str]) -> dict[str, Any]:
    return {**asdict(figure), "medians": {name: figure.median(name) for name in names}, "ratio": figure.ratio(OURS)}


def as_row(figure: Figure, names: Sequence[str]) -> list[str]:
    return [figure.figure, figure.unit, *(rounded(figure.median(name)) for name in names), figure.verdict(OURS)]


def arguments() -> argparse.Namespace:
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
    options = parser.parse_args()
    if options.short:
        options.rounds = 1
    return options


def main() -> int:
    options = arguments()
    began = time.monotonic()
    measurements, names = asyncio.run(measure(options, sys.stderr.write))
    took = time.monotonic() - began
    if options.json:
        found = {
            "machine": machine(),
            "wire": options.wire,
            "seconds": round(took),
            "rows": [as_json(figure, names) for figure in measurements.figures],
            "failed": measurements.failed,
        }
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    head = ["figure", "unit", *names, "beside"]
    alignment = ["---", *["--:"] * (len(names) + 1), "---"]
    rows = [as_row(figure, names) for figure in measurements.figures]
    sys.stdout.write(table(head, alignment, rows) + "\n")
    sys.stdout.write(f"\n{options.wire}; {', '.join(f'{k} {v}' for k, v in machine().items())}; {took:.0f} s\n")
    for failed in measurements.failed:
        sys.stdout.write(f"could not be measured: {failed}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
