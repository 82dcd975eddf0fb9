"""What a release publishes, made by its script and looked at by those who will read it. Nothing is published."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import click
import pytest
from mcp import Client, StdioServerParameters
from support.node import command, environ
from support.pages import PAGES, REPOSITORY
from support.reader import PROJECT, uv

from konstruct_mcp.cli.main import cli

MCPB = "@anthropic-ai/mcpb@2.1.2"
SKILL = REPOSITORY / "deploy" / "publishing" / "SKILL.md"
SCRIPTS = Path(sys.executable).parent
ADDRESS = "https://github.com/example-owner/konstruct_mcp"
LIMIT_S = 300
INDEXED = {"command": "uvx", "args": [f"konstruct-mcp=={PROJECT['project']['version']}"]}


def ran(*words: str | Path, **options: Any) -> str:
    done = finished(*words, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def finished(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False, **options)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("release") / "dist"
    script = REPOSITORY / ".ci" / "release.py"
    listed = ran(
        *(sys.executable, script, "--repository", ADDRESS, "--unpublished", "--out", out),
        env={**os.environ, "UV": uv()},
    )
    assert listed.split() == sorted(path.name for path in out.iterdir())
    return out


def empty_home(folder: Path) -> dict[str, str]:
    """The environment of somebody who has set up nothing; what uv has downloaded is there."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "UV_CACHE_DIR": ran(uv(), "cache", "dir").strip()}
    return environ | {name: os.environ[name] for name in ("SSL_CERT_FILE",) if name in os.environ}


async def listed_tools(started: StdioServerParameters) -> list[str]:
    async with asyncio.timeout(LIMIT_S), Client(started) as client:
        return [tool.name for tool in (await client.list_tools()).tools]


def commands_of_skill() -> list[str]:
    block = SKILL.read_text("utf-8").partition("```sh\n")[2].partition("```")[0]
    return [line.partition(" # ")[0].rpartition(" | ")[2].strip() for line in block.splitlines()]


@pytest.mark.parametrize("line", commands_of_skill())
def test_the_skill_names_commands_and_options_that_there_are(line: str) -> None:
    script, name, *arguments = shlex.split(line)
    assert script == "konstruct-mcp"
    made = cli.commands[name]
    with made.make_context(name, arguments, parent=click.Context(cli, info_name=script)) as context:
        assert context.command is made


def test_the_release_workflow_is_one() -> None:
    workflow = REPOSITORY / ".github" / "workflows" / "release.yml"
    ran(SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow)


def test_nothing_is_made_for_a_package_whose_readme_does_not_name_the_server(tmp_path: Path) -> None:
    script = REPOSITORY / ".ci" / "release.py"
    done = finished(sys.executable, script, "--repository", ADDRESS, "--out", tmp_path / "dist")
    assert done.returncode == 2
    assert "README.md lacks the line <!-- mcp-name: io.github.example-owner/konstruct-mcp -->" in done.stderr
    assert not (tmp_path / "dist").exists()


def test_a_folder_that_is_there_is_not_emptied(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.touch()
    script = REPOSITORY / ".ci" / "release.py"
    done = finished(sys.executable, script, "--repository", ADDRESS, "--unpublished", "--out", tmp_path)
    assert done.returncode == 2
    assert "--out should be a new folder" in done.stderr
    assert kept.exists()


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S + 60)
class TestRelease:
    def test_registry_entry_plugin_and_skill_are_valid(self, released: Path) -> None:
        for folder, kind in ((released, "mcp-registry"), (released / "marketplace", "marketplace")):
            assert kind in ran(SCRIPTS / "skillsaw", "lint", "--strict", folder)  # it says what it has looked at
        entry = json.loads((released / "server.json").read_text("utf-8"))
        assert entry["name"] == "io.github.example-owner/konstruct-mcp"
        assert entry["version"] == entry["packages"][0]["version"] == PROJECT["project"]["version"]

    def test_a_broken_registry_entry_is_noticed(self, released: Path, tmp_path: Path) -> None:
        entry = json.loads((released / "server.json").read_text("utf-8"))
        entry["packages"][0]["transport"]["type"] = "carrier-pigeon"
        (tmp_path / "server.json").write_text(json.dumps(entry), "utf-8")
        done = finished(SCRIPTS / "skillsaw", "lint", "--strict", tmp_path)
        assert done.returncode != 0
        assert "transport" in done.stdout

    async def test_the_wheel_serves_in_an_empty_environment(self, released: Path, tmp_path: Path) -> None:
        wheel = released / f"konstruct_mcp-{PROJECT['project']['version']}-py3-none-any.whl"
        ran(uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
        python = tmp_path / "venv" / "bin" / "python"
        ran(uv(), "pip", "install", "--quiet", "--python", python, wheel)
        env, script = empty_home(tmp_path), str(python.with_name("konstruct-mcp"))
        assert PROJECT["project"]["version"] in ran(script, "--version", env=env, cwd=tmp_path)
        assert "quality" in ran(script, "groups", env=env, cwd=tmp_path)
        started = StdioServerParameters(command=script, args=[], env=env, cwd=tmp_path)
        assert await listed_tools(started) == ["complete", "list_groups"]

    @pytest.mark.parametrize("page", ["README.md", pytest.param("docs/embedded-model.md", marks=pytest.mark.minutes)])
    def test_the_line_that_installs_it_gives_a_command_and_bytecode(self, page: str, tmp_path: Path) -> None:
        [line] = [
            line for block in PAGES[page].of("sh") for line in block.text.splitlines() if " tool install " in line
        ]
        env = empty_home(tmp_path) | {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
        ran(uv(), *shlex.split(line)[3:], env=env | {"UV_PYTHON": sys.executable}, cwd=REPOSITORY)
        packages = tmp_path / "tools" / "konstruct-mcp" / "lib"
        assert {file.name.partition(".")[0] for file in packages.rglob("mcp/**/*.pyc")} >= {
            "client",
            "server",
            "session",
        }
        if page == "README.md":
            assert "quality" in ran(tmp_path / "bin" / "konstruct-mcp", "groups", env=env, cwd=tmp_path)
            env["KONSTRUCT_LEDGER_URL"] = "postgresql://ledger.invalid/ledger"
            done = finished(tmp_path / "bin" / "konstruct-mcp", "check", env=env)
            assert "uv tool install --compile-bytecode '.[postgres]', your other extras" in done.stdout
        else:
            words = ["complete", "--group", "embedded", "Why is the sky blue?"]
            assert ran(tmp_path / "bin" / "konstruct-mcp", *words, env=env, cwd=tmp_path).strip()

    async def test_the_bundle_is_valid_and_its_server_starts_as_its_host_starts_it(
        self, released: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "bundle"
        with zipfile.ZipFile(released / "konstruct-mcp.mcpb") as archive:
            archive.extractall(folder)
        validated = await asyncio.to_thread(ran, *command(MCPB, "mcpb"), "validate", folder, env=environ())
        assert "passes" in validated
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        config = manifest["server"]["mcp_config"]
        args = [arg.replace("${__dirname}", str(folder)) for arg in config["args"]]
        unset = dict.fromkeys(config["env"], "")  # what a host gives for settings that the user left empty
        env = {**empty_home(tmp_path), **unset, "UV_PYTHON": sys.executable}
        started = StdioServerParameters(command=uv(), args=args, env=env)
        assert await listed_tools(started) == ["complete", "list_groups"]

    def test_links_hold_what_starts_the_published_package(self, released: Path) -> None:
        links = (released / "install-links.md").read_text("utf-8")
        [web, insiders] = [urlsplit(part.partition(")")[0]) for part in links.split("](")[1:]]
        for link in (web, insiders):
            assert json.loads(parse_qs(link.query)["config"][0]) == INDEXED
        vscode, cursor = (line.split("`")[1] for line in links.splitlines() if "install?" in line and "`" in line)
        assert json.loads(unquote(vscode.partition("?")[2])) == {"name": "konstruct", **INDEXED}
        assert json.loads(base64.b64decode(parse_qs(urlsplit(cursor).query)["config"][0])) == INDEXED
