"""What all benchmarks share: where the code is, processes that are spoken to in lines, fake providers, figures, tables.

Import it before anything of `support` or `konstruct_mcp`: it puts both on the path, and sets what LiteLLM reads when it
is imported. It imports neither itself, so that a benchmark decides what it loads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

FOLDER = Path(__file__).resolve().parent
REPOSITORY = FOLDER.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]
UNCHANGED_ENVIRON = dict(os.environ)  # for servers of others, which do as they would elsewhere
# No price map from outside, as in the tests.
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True"}

WAIT_S = 60  # for any one thing
LONGEST_LINE = 2**26  # bytes


def say(text: str) -> None:
    """Print a line at once, also where stdout is a file or a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def product_environ(folder: Path, config: Path) -> dict[str, str]:
    """The environment of a server that finds the benchmark's config, and no ledger and no key of whoever runs it.

    Args:
        folder: its home.
        config: its config file.
    """
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
    return {"PATH": os.environ["PATH"], **homes, "KONSTRUCT_CONFIG": str(config)}


# -- processes ---------------------------------------------------------------------------------------------------------


class LineProcess:
    """A process that is written to and read from line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.figures = psutil.Process(process.pid)

    @classmethod
    async def start(cls, command: Sequence[str], **options: Any) -> LineProcess:
        """Start a command; `options` are those of `asyncio.create_subprocess_exec`."""
        pipe = subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LONGEST_LINE, **options)
        )

    def send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")

    async def lines(self) -> AsyncIterator[bytes]:
        """Each line that it writes, until it closes its output."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            yield line

    async def next_json(self) -> Any:
        """The next line, which has to come soon, as JSON."""
        assert self._process.stdout is not None
        return json.loads(await asyncio.wait_for(self._process.stdout.readline(), WAIT_S))

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    @property
    def cpu_s(self) -> float:
        """Processor time until now, in steps of a hundredth of a second."""
        times = self.figures.cpu_times()
        return times.user + times.system

    @property
    def rss(self) -> int:
        """Resident memory, in bytes."""
        return int(self.figures.memory_info().rss)

    async def close(self, within_s: float = WAIT_S) -> int:
        """End its input and return its exit status; kill it when it takes longer than `within_s` to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return await asyncio.wait_for(self._process.wait(), within_s)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()


@contextlib.asynccontextmanager
async def fake_providers(kind: str) -> AsyncIterator[tuple[LineProcess, dict[str, str]]]:
    """Run fake providers in a process of their own, so that their work is not counted as the client's or the server's.

    Args:
        kind: which of those in `fake_providers.py`.

    Yields:
        The process, and the address of each provider by the format that it speaks.
    """
    process = await LineProcess.start([sys.executable, str(FOLDER / "fake_providers.py"), kind])
    try:
        yield process, await process.next_json()
    finally:
        await process.close()


# -- figures -----------------------------------------------------------------------------------------------------------


@dataclass
class Figure:
    """One figure, of each of those who are measured.

    Attributes:
        unit: of the samples.
        beside: whose figure ours is divided by.
        most: what that ratio may be; what our own figure may be, where it is beside nothing.
        samples: by who was measured.
    """

    figure: str
    unit: str
    beside: str = ""
    most: float | None = None
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.samples.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        values = self.samples.get(name)
        return statistics.median(values) if values else None

    def ratio(self, name: str) -> float | None:
        """The median of one over that of the one beside."""
        ours, its = self.median(name), self.median(self.beside)
        return ours / its if ours is not None and its else None

    def verdict(self, name: str) -> str:
        """The ratio, and what it may be at most."""
        ratio = self.ratio(name)
        told = f"{ratio:.2f} × {self.beside}" if ratio is not None else ""
        if self.most is not None:
            told += f"{', ' if told else ''}at most {self.most:g}"
        return told


def rounded(value: float | None) -> str:
    """A figure in three digits, or all of them before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


# -- tables ------------------------------------------------------------------------------------------------------------


def table_line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def table(head: Sequence[str], alignment: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned in the source too."""
    lines = [head, alignment, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(table_line(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
