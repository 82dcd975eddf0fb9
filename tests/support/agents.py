"""Coding agents that run without a screen: the genuine programs, each in a home of its own, with a fake for its model.

    desk = Desk(CODEX, tmp_path, model, config)
    desk.attach()
    await desk.asked("Ask another model.")

Nothing of whoever runs the tests is seen by them, and nothing but loopback answers them: what they ask of any other
host goes to a proxy that is not there.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml
from support.node import installed, node
from support.providers import Provider
from support.reader import uv

from konstruct_mcp.testing import OtherWire, Wire

CONSOLE_SCRIPT = Path(sys.executable).parent / "konstruct-mcp"
_LIMIT_S = 150  # for one session; the slowest takes half a minute on two busy cores
_NOBODY = "http://127.0.0.1:9"  # the port of `discard`, which nobody serves


@dataclass(frozen=True)
class Agent:
    """How one coding agent is run.

    Attributes:
        name: as `attach` says it.
        package: of npm, with its version, since a newer one may want other settings.
        program: what of the package is run.
        wire: what its own model speaks.
        words: its arguments, the question among them as `{}`.
        environ: variables of its own, of the address of its model.
        settings: what a user has set up before: texts by path in the home folder, of the address of its model.
        reads_on: its model reads on in a cut answer by `complete`.
        scope: where it is attached; the other way would do as well.
        entry: the file that names MCP servers, in the home folder or in the project; None where a program does.
        own_binary: the program is no script for Node.
        side_by_side: it makes the calls of one turn at once.
    """

    name: str
    package: str
    program: str
    wire: Wire | OtherWire
    words: Sequence[str]
    entry: str | None
    environ: Callable[[Provider], Mapping[str, str]] = lambda _: {}
    settings: Callable[[Provider], Mapping[str, str]] = lambda _: {}
    own_binary: bool = False
    side_by_side: bool = True
    reads_on: bool = False
    scope: Literal["user", "project"] = "user"

    def command(self) -> list[str]:
        """What runs it; installs it at first."""
        program = str(installed(self.package) / "node_modules" / ".bin" / self.program)
        return [program] if self.own_binary else [str(node()), program]


@dataclass(frozen=True)
class PythonAgent(Agent):
    """A program in Python that makes an agent, with a library of PyPI; `package` is what uv installs, in words."""

    def command(self) -> list[str]:
        folder = Path(sys.prefix) / "share" / "python" / self.name
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            beside = tempfile.mkdtemp(dir=folder.parent)  # renamed when whole, since an installation may break off
            for words in (
                ["venv", "--quiet", "--clear", "--python", sys.executable, beside],
                ["pip", "install", "--quiet", "--python", f"{beside}/bin/python", *self.package.split()],
            ):
                subprocess.run([uv(), *words], check=True, timeout=_LIMIT_S)
            Path(beside).rename(folder)
        return [str(folder / "bin" / "python"), str(Path(__file__).parent / "python_agents" / self.program)]


CLAUDE_CODE = Agent(
    name="claude-code",
    package="@anthropic-ai/claude-code@2.1.332",
    program="claude",
    wire="anthropic",
    words=["--print", "{}", "--output-format", "json"],
    scope="project",  # the user's file is that of its own state, too, and changes by itself
    entry=".mcp.json",
    environ=lambda model: {
        "ANTHROPIC_BASE_URL": model.root,
        "ANTHROPIC_API_KEY": "sk-ant-fake",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "MCP_CONNECT_TIMEOUT_MS": "60000",  # it asks its model after 5 s without us, which a busy machine takes
    },
    settings=lambda _: {".claude.json": json.dumps({"hasCompletedOnboarding": True}, indent=2)},
    own_binary=True,
)
CODEX = Agent(
    name="codex",
    package="@openai/codex@0.171.0",
    program="codex",
    wire="openai",
    words=["exec", "--skip-git-repo-check", "--json", "{}"],
    reads_on=True,
    entry=".codex/config.toml",
    environ=lambda _: {"FAKE_KEY": "sk-fake"},
    settings=lambda model: {
        ".codex/config.toml": f"""\
# A fake on loopback.
model = "gpt-5.2"
model_provider = "fake"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.fake]
name = "fake"
base_url = "{model.url}"
wire_api = "responses"
env_key = "FAKE_KEY"
"""
    },
)
GEMINI = Agent(
    name="gemini",
    package="@google/gemini-cli@0.61.0",
    program="gemini",
    wire="gemini",
    # With a model named, it asks no smaller one which to take.
    words=["--prompt", "{}", "--output-format", "json", "--skip-trust", "--model", "gemini-2.5-pro"],
    entry=".gemini/settings.json",
    environ=lambda model: {"GOOGLE_GEMINI_BASE_URL": model.root, "GEMINI_API_KEY": "fake"},
    settings=lambda _: {
        ".gemini/settings.json": """\
{
  // Nothing but loopback.
  "general": {"enableAutoUpdate": false},
  "privacy": {"usageStatisticsEnabled": false},
  "security": {"auth": {"selectedType": "gemini-api-key"}}
}
"""
    },
)
OPENCODE = Agent(
    name="opencode",
    package="opencode-ai@1.18.33",
    program="opencode",
    wire="openai",
    words=["run", "{}", "--format", "json"],
    entry=".config/opencode/opencode.json",
    environ=lambda _: {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
    settings=lambda model: {
        ".config/opencode/opencode.json": f"""\
{{
  "$schema": "https://opencode.ai/config.json",
  "model": "fake/model", // on loopback
  "small_model": "fake/model",
  "share": "disabled",
  "provider": {{
    "fake": {{
      "npm": "@ai-sdk/openai-compatible",
      "options": {{"baseURL": "{model.url}", "apiKey": "fake"}},
      "models": {{"model": {{"limit": {{"context": 200000, "output": 8000}}}}}}
    }}
  }}
}}
"""
    },
    own_binary=True,
)

COPILOT = Agent(
    name="copilot",
    package="@github/copilot@1.0.102",
    program="copilot",
    wire="openai",
    words=["--prompt", "{}", "--allow-tool", "konstruct", "--no-auto-update"],
    reads_on=True,
    entry=".copilot/mcp-config.json",
    # With a provider of the user's own it asks for no login; offline it asks nobody else either.
    environ=lambda model: {
        "COPILOT_PROVIDER_BASE_URL": model.url,
        "COPILOT_PROVIDER_API_KEY": "fake",
        "COPILOT_MODEL": "gpt-5.2",
        "COPILOT_OFFLINE": "true",
    },
)
CONTINUE = Agent(
    name="continue",
    package="@continuedev/cli@1.5.47",
    program="cn",
    wire="openai",
    words=["--print", "{}", "--auto"],
    reads_on=True,
    entry=".continue/config.yaml",
    environ=lambda _: {"CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_CLI_AUTO_UPDATED": "1"},
    settings=lambda model: {
        ".continue/config.yaml": f"""\
# A fake on loopback.
name: local
version: 1.0.0
schema: v1
models:
  - name: fake
    provider: openai
    model: fake
    apiBase: {model.url}
    apiKey: fake
    roles: [chat]
    capabilities: [tool_use]
"""
    },
)
CLINE = Agent(
    name="cline",
    package="cline@3.0.65",
    program="cline",
    wire="openai",
    words=["--json", "{}"],
    reads_on=True,
    entry=".cline/data/settings/cline_mcp_settings.json",
    settings=lambda model: {".cline/data/settings/providers.json": json.dumps(_cline_providers(model))},
    own_binary=True,
    side_by_side=False,
)


def _in_python(name: str, package: str, wire: Wire | OtherWire) -> PythonAgent:
    program = f"{name.replace('-', '_')}_agent.py"
    return PythonAgent(
        *(name, package, program, wire, [str(CONSOLE_SCRIPT), "{}"]),
        entry=None,
        reads_on=True,
        environ=lambda model: {"MODEL_URL": model.root if wire == "gemini" else model.url},
    )


OPENAI_AGENTS = _in_python("openai-agents", "openai-agents==0.24.0", "openai")
LANGCHAIN = _in_python("langchain", "langchain==1.5.2 langchain-mcp-adapters==0.3.2 langchain-openai==1.7.4", "openai")
GOOGLE_ADK = _in_python("google-adk", "google-adk[mcp]==2.13.0", "gemini")


def _cline_providers(model: Provider) -> Any:
    """What `cline auth` writes."""
    settings = {"provider": "openai-compatible", "apiKey": "fake", "model": "fake", "baseUrl": model.url}
    provider = {"settings": settings, "updatedAt": "2026-11-01T12:00:00.000Z", "tokenSource": "manual"}
    return {"version": 1, "lastUsedProvider": "openai-compatible", "providers": {"openai-compatible": provider}}


class Desk:
    """A user's machine with one agent on it and our config, in a folder."""

    def __init__(self, agent: Agent, folder: Path, model: Provider, config: Mapping[str, Any]) -> None:
        self._agent = agent
        self._home = folder / "home"
        self.project = folder / "project"
        self.project.mkdir()
        ours = self._home / ".config" / "konstruct-mcp" / "config.yaml"
        settings = {**agent.settings(model), str(ours): yaml.safe_dump(dict(config))}
        for path, text in settings.items():
            (self._home / path).parent.mkdir(parents=True, exist_ok=True)
            (self._home / path).write_text(text, encoding="utf-8")
        self._environ = {
            **{name: os.environ[name] for name in ("LANG", "PATH") if name in os.environ},
            **{"HOME": str(self._home), "NO_COLOR": "1"},
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _NOBODY),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            **agent.environ(model),
        }
        self._environ["PATH"] = f"{node().parent}{os.pathsep}{self._environ['PATH']}"

    @property
    def entry(self) -> str | None:
        """The text of the file that names MCP servers."""
        if self._agent.entry is None:
            return None
        path = (self._home if self._agent.scope == "user" else self.project) / self._agent.entry
        return path.read_text(encoding="utf-8") if path.exists() else None

    def attach(self, *, approve: bool = True) -> None:
        approved = ["--approve"] if approve else []
        if self._agent.entry is not None:
            self._run("attach", self._agent.name, "--scope", self._agent.scope, *approved)

    def detach(self) -> None:
        if self._agent.entry is not None:
            self._run("detach", self._agent.name, "--scope", self._agent.scope)

    def _run(self, *words: str) -> None:
        ran = subprocess.run(
            [CONSOLE_SCRIPT, *words], cwd=self.project, env=self._environ, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr

    async def asked(self, question: str) -> str:
        """What the agent says to this question, on stdout; its server is gone then."""
        words = [word.format(question) for word in self._agent.words]
        command = await asyncio.to_thread(self._agent.command)
        process = await asyncio.create_subprocess_exec(
            *command,
            *words,
            cwd=self.project,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, errors = await asyncio.wait_for(process.communicate(), _LIMIT_S)
            await asyncio.to_thread(self._wait_for_our_end)
        finally:
            for process_left in self._processes():
                process_left.kill()
            await process.wait()
        assert process.returncode == 0, f"{out.decode()}\n{errors.decode()}"
        return out.decode()

    def _wait_for_our_end(self) -> None:
        """An agent that ends closes our stdin, and we end by that."""
        ours = [process for process in self._processes() if str(CONSOLE_SCRIPT) in process.info["cmdline"]]
        _, alive = psutil.wait_procs(ours, timeout=10)
        assert not alive, f"outlives its agent: {alive}"

    def _processes(self) -> Iterator[psutil.Process]:
        """Those with this home, since some agents leave a daemon."""
        for process in psutil.process_iter(["cmdline"]):
            with suppress(psutil.Error):
                if process.environ().get("HOME") == str(self._home):
                    yield process
