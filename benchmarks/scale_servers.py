"""Who `scale.py` asks: MCP servers over HTTP and LiteLLM's proxy, each with the processor time that it takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from harness import REPOSITORY, UNCHANGED_ENVIRON, WAIT_S

LITELLM = "litellm[proxy]==1.82.5"  # the version that the product stands on
LITELLM_KEY = "sk-bench"
_VENV = REPOSITORY / "build" / "litellm-proxy"
_INSTALL_S = 600
ERAS = {"2026": "2026-07-28", "2025": "2025-11-25"}
META = {  # of each request in 2026
    "io.modelcontextprotocol/protocolVersion": ERAS["2026"],
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
PROMPT = "Why is the sky blue?"


class AnswerError(Exception):
    """A server does not answer as it should; the text is what it said."""


@dataclass
class Asked:
    """One who is asked by many at once.

    Attributes:
        ask: one call, until it has been answered.
        process: of the server.
    """

    ask: Callable[[], Awaitable[None]]
    process: psutil.Process
    per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """What was measured until now."""
        for measured in (self.per_second, self.cpu_ms, self.latency_ms):
            measured.clear()

    async def load(self, calls: int, at_once: int) -> None:
        """Make so many calls, so many at once, and keep what they took."""
        left = iter(range(calls))

        async def one_by_one() -> None:
            for _ in left:
                began = time.perf_counter()
                await self.ask()
                self.latency_ms.append((time.perf_counter() - began) * 1000)

        began, cpu = time.perf_counter(), cpu_s(self.process)
        await asyncio.gather(*(one_by_one() for _ in range(at_once)))
        self.per_second.append(calls / (time.perf_counter() - began))
        self.cpu_ms.append((cpu_s(self.process) - cpu) * 1000 / calls)


def cpu_s(process: psutil.Process) -> float:
    """Processor time of a process and its children until now."""
    times = [process.cpu_times(), *(child.cpu_times() for child in process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


@contextlib.asynccontextmanager
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client with as many connections as are wanted."""
    timeout = aiohttp.ClientTimeout(total=WAIT_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        yield session


class Mcp:
    """An MCP server over HTTP, asked without any SDK, which would take most of the time."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str | None, era: str = "2026") -> None:
        self._session, self._url, self._era = session, url, era
        self._headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "MCP-Protocol-Version": ERAS[era],
        }
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    async def complete(self, prompt: str = PROMPT) -> None:
        """One call of `complete`, which has to be answered."""
        await self.call("complete", {"messages": [{"role": "user", "content": prompt}], "max_tokens": 100})

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool.

        Raises:
            AnswerError: it failed.
        """
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        headers = self._headers
        if self._era == "2026":
            headers = {**headers, "Mcp-Method": "tools/call", "Mcp-Name": tool}
            params["_meta"] = META
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        async with self._session.post(self._url, data=body, headers=headers) as response:
            text = await response.text()
        if "text/event-stream" in response.headers.get("Content-Type", ""):
            text = [line for line in text.splitlines() if line.startswith("data: {")][-1].removeprefix("data: ")
        if response.status != 200:
            raise AnswerError(f"{response.status}: {text[:300]}")
        result: dict[str, Any] = json.loads(text).get("result") or {"isError": True, "content": text[:300]}
        if result.get("isError"):
            raise AnswerError(str(result["content"])[:300])
        return result


# -- LiteLLM's proxy ---------------------------------------------------------------------------------------------------


def litellm_command() -> list[str]:
    """What starts LiteLLM's proxy, in an environment of its own, which is made where there is none."""
    program = _VENV / "bin" / "litellm"
    if not program.exists():
        uv = [os.environ.get("UV") or shutil.which("uv") or "uv"]  # `uv run` says which it is
        subprocess.run([*uv, "venv", "-q", "--clear", "-p", sys.executable, _VENV], check=True, timeout=_INSTALL_S)
        python = _VENV / "bin" / "python"
        subprocess.run([*uv, "pip", "install", "-q", "-p", python, LITELLM], check=True, timeout=_INSTALL_S)
    return [str(program)]


@contextlib.asynccontextmanager
async def litellm_proxy(folder: Path, provider_url: str, port: int) -> AsyncIterator[psutil.Process]:
    """Run LiteLLM's proxy over the provider, as its documentation would have it in production.

    It has no database: its client for one downloads an engine from a host of its own, which need not be reachable. So
    it keeps no account, verifies one key that stands in its config, and holds nothing to a budget.
    """
    config = folder / "litellm.yaml"
    params = {"model": "openai/gpt-4o", "api_base": provider_url, "api_key": "sk-bench"}
    config.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": "fake", "litellm_params": params}],
                "general_settings": {"master_key": LITELLM_KEY},
                "litellm_settings": {"request_timeout": WAIT_S, "set_verbose": False},
            }
        )
    )
    environ = {**UNCHANGED_ENVIRON, "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": str(folder)}
    command = [*litellm_command(), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    quiet = subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        await _until_it_answers(f"http://127.0.0.1:{port}/health/liveliness")
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def _until_it_answers(url: str) -> None:
    async with asyncio.timeout(WAIT_S), http() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)


def litellm_call(session: aiohttp.ClientSession, port: int) -> Callable[[], Awaitable[None]]:
    """One completion of LiteLLM's proxy, which has to be answered."""
    body = {"model": "fake", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 100}
    headers = {"Authorization": f"Bearer {LITELLM_KEY}"}

    async def ask() -> None:
        url = f"http://127.0.0.1:{port}/chat/completions"
        async with session.post(url, json=body, headers=headers) as response:
            answer = await response.json()
        if response.status != 200 or not answer["choices"]:
            raise AnswerError(str(answer)[:300])

    return ask


def available_files(wanted: int) -> None:
    """Raise how many files a process may have open, as far as wanted and allowed; children have it so, too."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]}"
