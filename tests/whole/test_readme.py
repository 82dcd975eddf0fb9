"""The README and the example config, held against the product.

Every fenced block has a rule here that runs or parses it; a block without one is a failure. Every table that lists
names of the product lists exactly those there are.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import anyio
import click
import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner
from mcp import Client, StdioServerParameters, types
from support.default_groups import KEYS, connected, default_groups, opened, write
from support.providers import Provider, Status, Text

import konstruct_mcp
from konstruct_mcp import Config, Konstruct, KonstructError
from konstruct_mcp.cli import main as cli
from konstruct_mcp.cli.logs import LOG_LEVELS
from konstruct_mcp.cli.output import FAILURE, INTERRUPTED, MISTAKE
from konstruct_mcp.config import model as config
from konstruct_mcp.config.model import load_config
from konstruct_mcp.core.types import Completion, DeploymentState, FinishReason, Request

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text("utf-8")
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
PROSE = FENCED.sub("", README)
EXAMPLE = (REPOSITORY / "claude_desktop_config.example.json").read_text("utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
# For one process: the longest, the short form of a benchmark, takes seconds, and minutes where two cores are busy with
# the other tests. It bounds a wait that would never end, and is no measure of anything.
LIMIT_S = 600
pytestmark = pytest.mark.timeout(LIMIT_S + 60)
TRY = 'konstruct-mcp complete --group embedded "Why is the sky blue?"'
TEST = "--group dev pytest"
SERVER = [
    "/ABSOLUTE/PATH/TO/uv",
    "run",
    "--directory",
    "/ABSOLUTE/PATH/TO/konstruct_mcp",
    "konstruct-mcp",
]  # what every client is told to start
HOUSE = {  # what the example refers to
    "HOUSE_MODEL_KEY": "sk-house-test-1c9d",
    "HOUSE_LEDGER_URL": "postgresql://konstruct:hunter2-1c9d@db.example/ledger",
}


# -- the README's parts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the heading it stands under, and the block before it."""

    line: int
    language: str
    text: str
    heading: str
    before: Block | None

    def __str__(self) -> str:
        return f"line {self.line} ({self.language})"


def blocks() -> Iterator[Block]:
    before = None
    for match in FENCED.finditer(README):
        heading = re.findall(r"^#+ (.*)$", FENCED.sub("", README[: match.start()]), re.MULTILINE)[-1]
        line = README.count("\n", 0, match.start()) + 1
        before = Block(line, match[2], textwrap.dedent(match[3]), heading, before)
        yield before


BLOCKS = list(blocks())
SH_LINES = [(block, line) for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]


def of(language: str, word: str = "") -> list[Block]:
    return [block for block in BLOCKS if block.language == language and word in block.text]


def table(*header: str, after: str = "") -> list[list[str]]:
    """The cells of each row of the first table whose header begins so."""
    start = "| " + " | ".join(header) + " |"
    rows = re.search(rf"^{re.escape(start)}.*\n\|[-|]+\|\n((?:\|.*\n)+)", PROSE[PROSE.index(after) :], re.MULTILINE)
    assert rows, f"no table {start}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1].splitlines()]


def names(*header: str, after: str = "") -> list[str]:
    """What the first column of a table names, each once."""
    found = [name for row in table(*header, after=after) for name in code(row[0])]
    assert len(set(found)) == len(found)
    return found


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# -- every block has a rule ------------------------------------------------------------------------------------------


def is_server_entry(block: Block) -> bool:
    return block.language == "toml" or (block.language == "json" and "ervers" in block.text)


RULES: Mapping[str, Callable[[Block], bool]] = {
    "test_a_line_for_the_shell": lambda block: block.language == "sh",
    "test_the_output_is_what_the_command_prints": lambda block: block.language == "text",
    "test_a_client_starts_the_server_so": is_server_entry,
    "test_the_call_gives_the_result": lambda block: block.language == "json" and not is_server_entry(block),
    "test_the_example_config_loads_without_a_word": lambda block: block.language == "yaml",
    "test_the_program_runs": lambda block: block.language == "python",
}


OWN_TABLE = '{"openai/house-model": {"mode": "chat"}}'  # which the example config names


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_has_one_rule(block: Block) -> None:
    [rule] = [name for name, holds in RULES.items() if holds(block)]
    assert rule in globals()


def test_no_fence_is_overlooked() -> None:
    assert len(re.findall(r"^ *(?:```|~~~)", README, re.MULTILINE)) == 2 * len(BLOCKS)
    assert len(of("yaml")) == len(of("python")) == 1
    assert len([block for block in of("json") if not is_server_entry(block)]) == 2


# -- the shell -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it wrote where."""

    status: int
    out: str
    errors: str


@dataclass(frozen=True)
class Reader:
    """Runs what the README says, in a folder that holds the README's `konstruct.yaml`, with fakes for providers."""

    folder: Path
    fakes: Mapping[str, str]  # the environment that leads to them

    def runs(self, line: str) -> Ran:
        """A line of the README that calls our script, in this process: loading LiteLLM in each costs seconds."""
        said, pipe, command = line.rpartition(" | ")
        stdin = shlex.split(said)[1] if pipe else ""
        return self._main(command, self.fakes, stdin)

    def runs_bare(self, line: str) -> Ran:
        """The same with the built-in config and no key."""
        return self._main(line, {"KONSTRUCT_CONFIG": "", **at_home(self.folder)}, "")

    def _main(self, command: str, environ: Mapping[str, str], stdin: str) -> Ran:
        script, *arguments = shlex.split(command)
        assert script == "konstruct-mcp"
        with chdir(self.folder), CliRunner().isolation(stdin, environ) as (out, errors, _):
            with pytest.raises(SystemExit) as end:
                cli.main(arguments)
            assert isinstance(end.value.code, int)
            return Ran(end.value.code, out.getvalue().decode(), errors.getvalue().decode())

    def has_spent(self, figures: tuple[Any, ...]) -> None:
        """Today, by the default tenant."""
        assert self.runs("konstruct-mcp usage").status == 0  # makes the tables
        engine = sa.create_engine(f"sqlite:///{self.folder}/konstruct-mcp/ledger.sqlite3")
        with engine.begin() as connection:
            today = datetime.now(UTC).date().isoformat()
            values = ", ".join(repr(value) for value in ("default", today, *figures))
            connection.exec_driver_sql(f"INSERT INTO konstruct_spend VALUES ({values}, 0, 0)")
        engine.dispose()

    def starts(self, *command: str, cwd: Path | None = None) -> Ran:
        """Any command, in a process of its own."""
        path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
        coverage = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env={"PATH": path, "HOME": str(self.folder), **coverage, **uv_here(), **self.fakes},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=LIMIT_S,
        )
        return Ran(done.returncode, done.stdout, done.stderr)


def uv() -> str:
    """The uv that runs these tests, or any other on this machine."""
    beside_python = str(Path(sys.base_prefix, "bin"))
    found = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=beside_python)
    assert found, "uv is missing: python3 -m pip install uv"
    return found


def uv_here() -> dict[str, str]:
    """Makes uv take the environment of these tests as it is, whichever it is, and ask no registry."""
    return {"UV_PROJECT_ENVIRONMENT": sys.prefix, "UV_NO_SYNC": "1", "UV_OFFLINE": "1"}


def at_home(folder: Path) -> dict[str, str]:
    """Neither the config nor the ledger of whoever runs the tests."""
    return {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}


@pytest.fixture
def reader(tmp_path: Path, anthropic: Provider, openai: Provider, ollama: Provider) -> Reader:
    addresses = {"anthropic": anthropic.url, "openai": openai.url, "ollama": ollama.url}
    example = yaml.safe_load(of("yaml")[0].text)
    for entry in example["model_list"]:
        params = entry["litellm_params"]
        params["api_base"] = addresses[params["model"].split("/")[0]]
    assert write(tmp_path, example).name == "konstruct.yaml"
    (tmp_path / "models.json").write_text(OWN_TABLE)
    groups = default_groups(anthropic, openai, ollama)
    # At temperature 0 the embedded model's answer is the same each time, and ends.
    groups["model_list"].append(
        {"model_name": "embedded", "litellm_params": {"model": "embedded/SmolLM2-135M-Instruct", "temperature": 0}}
    )
    (tmp_path / "groups.yaml").write_text(yaml.safe_dump(groups), "utf-8")
    ledger = f"sqlite:///{tmp_path}/house.sqlite3"
    own = {"HOUSE_LEDGER_URL": ledger, "KONSTRUCT_CONFIG": str(tmp_path / "groups.yaml"), **at_home(tmp_path)}
    return Reader(tmp_path, {**KEYS, **HOUSE, **own})


SHOWN = [line for block in of("text") if block.before for line in block.before.text.splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=[pytest.mark.long] if "benchmarks/" in line else [])
        for _, line in SH_LINES
        if line not in SHOWN
    ],
)
def test_a_line_for_the_shell(line: str, reader: Reader) -> None:
    words = shlex.split(line)
    match words:
        case ["python3", "-m", "pip", "install", "uv", "&&", "python3", "-m", "uv", "run", *rest]:
            assert shlex.join(rest) == TEST  # the other one is shown with its output
        case ["python3", "-m", "venv", where, "&&", python, "-m", "pip", "install", "uv"]:
            assert python == f"{where}/bin/python"
        case ["~/.uv-venv/bin/uv", "run", *_]:
            assert line.endswith(f" run {TRY}")
        case ["python3", "-m", "uv", "run", "--group", "dev", "pytest", "-n", "0", file]:
            assert (REPOSITORY / file).is_file()
        case ["python3", "-m", "uv", "run", "--group", "dev", "pytest", "-m", marker]:
            assert any(told.startswith(f"{marker}:") for told in PROJECT["tool"]["pytest"]["ini_options"]["markers"])
        case ["python3", "-m", "uv", "run", "--group", "dev", "python", "benchmarks/soak.py" as benchmark]:
            ran = reader.starts(sys.executable, str(REPOSITORY / benchmark), "--calls", "200")
            assert (ran.status, ran.errors) == (0, ""), ran
            assert ran.out.endswith("nothing wrong\n")
        case ["python3", "-m", "uv", "run", "--group", "dev", "python", "benchmarks/performance.py" as benchmark]:
            ran = reader.starts(sys.executable, str(REPOSITORY / benchmark), "--short", "--only", "sizes")
            assert ran.status == 0, ran
            assert "| an answer beyond its text " in ran.out
        case ["python3", "-m", "uv", "run", "--group", "dev", "python", "benchmarks/attacks.py" as benchmark]:
            ran = reader.starts(sys.executable, str(REPOSITORY / benchmark), "--only", "the tenant")
            assert ran.status == 0, ran
            assert ", 0 of them not withstood; longest pause " in ran.out
        case ["python3", "-m", "uv", "run", "--group", "dev", "python", benchmark]:
            ran = reader.starts(
                sys.executable, str(REPOSITORY / benchmark), "--calls", "4", "--answer", "0.2", "--rounds", "2"
            )
            assert (ran.status, ran.errors) == (0, ""), ran
            assert "ms" in ran.out
        case ["python3", "-m", "uv", "run", "printenv", "UV"]:
            ran = reader.starts(uv(), *words[3:], cwd=REPOSITORY)
            assert Path(ran.out.strip()).name == "uv", ran
        case ["pwd"]:
            pass
        case ["python3", "-m", "pip", "install", extras] if extras.startswith(".["):
            assert extras.endswith("]")
            assert set(extras[2:-1].split(",")) <= set(PROJECT["project"]["optional-dependencies"])
        case ["python3", "-m", "uv", "sync", *rest]:
            assert set(rest[::2]) == {"--extra"}
            assert set(rest[1::2]) <= set(PROJECT["project"]["optional-dependencies"])
        case ["python3", "-m", "uv", "run", "python", file]:
            assert f"Save this as `{file}`." in section_of("From Python")  # which `test_the_program_runs` does
        case ["python3", "-m", "pip", "install", "--no-deps", requirement]:
            assert requirement in PROJECT["dependency-groups"]["embedded"]
        case ["claude" | "codex" | "gemini" | "code", *_]:
            assert_adds_the_server(words)
        case ["ollama", "pull", model]:
            assert f"ollama/{model}" in models(built_in())
        case [".ci/run"]:
            assert os.access(REPOSITORY / line, os.X_OK)
        case _ if "konstruct-mcp" in words:
            ran = reader.runs(line)
            assert (ran.status, "warning" in ran.errors) == (0, False), ran
            if "--html" in words:
                assert (reader.folder / words[-1]).read_text("utf-8").startswith("<!doctype html>")
            else:
                assert ran.out.strip()
            if "--json" in words:
                assert json.loads(ran.out)
        case _:
            pytest.fail(f"no rule for this line: {line}")


def assert_adds_the_server(words: list[str]) -> None:
    """The command line of a client that adds ours: what it would start, under which name, with which key."""
    key = "ANTHROPIC_API_KEY=sk-ant-…"
    match words:
        case ["claude", "mcp", "add", "--env", env, "--transport", "stdio", "--scope", "user", name, "--", *server]:
            assert env == key
        case ["codex", "mcp", "add", name, "--env", env, "--", *server]:
            assert env == key
        case ["gemini", "mcp", "add", "-s", "user", env, "--timeout", timeout, name, command, "--", *arguments]:
            assert env == f"-e={key}"
            assert int(timeout) > 300_000
            server = [command, *arguments]
        case ["code", "--add-mcp", text]:
            entry = json.loads(text)
            assert set(entry) == {"name", "command", "args"}
            name, server = entry["name"], [entry["command"], *entry["args"]]
        case _:
            pytest.fail(f"no rule for this command: {words}")
    assert (name, server) == ("konstruct", SERVER)


class TestTheTwoCommands:
    def test_stand_near_the_top(self) -> None:
        first, second = (f"python3 -m pip install uv && python3 -m uv run {rest}" for rest in (TRY, TEST))

        assert [block.text.strip() for block in BLOCKS if block.line < 50 and block.language == "sh"][:2] == [
            first,
            second,
        ]

    def test_name_a_script_and_groups_that_there_are(self) -> None:
        assert "konstruct-mcp" in PROJECT["project"]["scripts"]
        assert any(requirement.startswith("pytest>") for requirement in PROJECT["dependency-groups"]["dev"])
        assert "embedded" in PROJECT["tool"]["uv"]["default-groups"]

    def test_are_the_ones_that_ci_runs(self) -> None:
        # CI's run adds options of its own, for coverage.
        assert f"python3 -m uv run {TEST}" in (REPOSITORY / ".ci/run").read_text("utf-8")


@pytest.mark.parametrize("block", of("text"), ids=str)
def test_the_output_is_what_the_command_prints(block: Block, reader: Reader) -> None:
    assert block.before is not None
    [*_, line] = block.before.text.strip().split(" && ")

    if line.startswith("python3 -m uv "):
        ran = reader.starts(uv(), *shlex.split(line)[3:], cwd=REPOSITORY)
        assert ran.status == 0, ran
        assert ran.out.strip()
        # Each answer is another one. Who gave it, and how that is said, is not.
        told, said = (re.sub(r"\d+(\.\d+)?", "9", text.splitlines()[-1]) for text in (block.text, ran.errors))
        assert said == told
    elif line.startswith("konstruct-mcp usage"):
        reader.has_spent(("quality", "openai/gpt-4o", 41, 2, 0, 96_210, 18_400, 12_000, 564_630_000))
        reader.has_spent(("fast", "ollama/qwen3:32b", 310, 0, 0, 402_117, 88_050, 0, 0))
        assert reader.runs(line) == Ran(0, block.text, "")
    else:
        ran = reader.runs_bare(line)
        assert ran == Ran(1 if "cannot be called" in block.text else 0, ran.out, "")
        # How long until a model is shut down is another number each day.
        told, said = (re.sub(r"in \d+ days?", "in 9 days", text) for text in (block.text, ran.out))
        assert said.replace(str(reader.folder), "/home/me/.local/share") == told


# -- attaching to clients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [block for block in BLOCKS if is_server_entry(block)], ids=str)
def test_a_client_starts_the_server_so(block: Block) -> None:
    document = tomllib.loads(block.text) if block.language == "toml" else json.loads(block.text)
    root = {"VS Code": "servers", "Codex": "mcp_servers"}.get(block.heading, "mcpServers")
    entry = document[root]["konstruct"]

    assert [entry.pop("command"), *entry.pop("args")] == SERVER
    assert entry.pop("type", "stdio") == "stdio"
    environ = entry.pop("env", {})
    assert set(environ) <= documented_variables()
    reference = {
        "Claude Desktop": "sk-",
        "Claude Code": "${{{name}:-}}",
        "Cursor": "${{env:{name}}}",
        "VS Code": "${{input:anthropic-key}}",
        "Gemini CLI": "${name}",
    }.get(block.heading, "")
    assert all(value.startswith(reference.format(name=name)) for name, value in environ.items())
    more = {name: value for name, value in document.items() if name != root}
    match block.heading:
        case "Claude Code" | "Gemini CLI":
            assert entry.pop("timeout") > 300_000  # milliseconds, and more than ours
        case "Codex":
            assert set(entry.pop("env_vars")) <= documented_variables()
            assert entry.pop("startup_timeout_sec") == 60
            assert entry.pop("tool_timeout_sec") > 300
        case "VS Code":
            assert [item["id"] for item in more.pop("inputs")] == ["anthropic-key"]
    assert (entry, more) == ({}, {})


async def test_the_server_that_clients_are_told_to_start_starts(tmp_path: Path) -> None:
    command, *arguments = [part.replace(SERVER[0], uv()).replace(SERVER[3], str(REPOSITORY)) for part in SERVER]

    assert await tools_of(command, arguments, {"HOME": str(tmp_path), **uv_here()}) == ["complete", "list_groups"]


async def test_the_example_for_claude_desktop_starts_after_one_change(tmp_path: Path) -> None:
    assert EXAMPLE.count("/ABSOLUTE/PATH/TO") == 1
    # In a clone the environment is `.venv`; here it is the one that these tests run in.
    changed = EXAMPLE.replace("/ABSOLUTE/PATH/TO/konstruct_mcp/.venv", sys.prefix)
    entry = json.loads(changed)["mcpServers"]["konstruct"]

    assert set(entry["env"]) <= documented_variables()
    environ = {"HOME": str(tmp_path), **entry["env"]}
    assert await tools_of(entry["command"], entry["args"], environ) == ["complete", "list_groups"]


async def tools_of(command: str, arguments: list[str], environ: Mapping[str, str]) -> list[str]:
    server = StdioServerParameters(command=command, args=arguments, env=dict(environ), cwd="/")
    with anyio.fail_after(LIMIT_S):
        async with Client(server) as client:
            return [tool.name for tool in (await client.list_tools()).tools]


# -- tools, resources, errors ----------------------------------------------------------------------------------------


async def listed(folder: Path) -> tuple[dict[str, types.Tool], dict[str, Any], list[str]]:
    """The tools by name, what `list_groups` gives, and the addresses of the resources."""
    own = {"HOUSE_LEDGER_URL": f"sqlite:///{folder}/house.sqlite3"}
    async with opened(folder, yaml.safe_load(of("yaml")[0].text), own) as konstruct, connected(konstruct) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        groups = (await client.call_tool("list_groups", {})).structured_content
        addresses = [str(resource.uri) for resource in (await client.list_resources()).resources]
        addresses += [it.uri_template for it in (await client.list_resource_templates()).resource_templates]
        assert isinstance(groups, dict)
        return tools, groups, addresses


async def test_every_tool_argument_and_result_is_told(tmp_path: Path) -> None:
    tools, groups, _ = await listed(tmp_path)
    complete = tools["complete"]
    section = section_of("Tool `list_groups`")

    assert list(tools) == re.findall(r"^### Tool `(\w+)`$", README, re.MULTILINE)
    assert set(names("argument")) == set(complete.input_schema["properties"]) == set(Request.model_fields)
    assert complete.output_schema is not None
    result = {*Completion.__dataclass_fields__, "truncated"}
    assert set(names("result")) == set(complete.output_schema["properties"]) == result
    [reasons] = [row[1] for row in table("result") if row[0] == "`finish_reason`"]
    assert code(reasons) == list(get_args(FinishReason))
    group = groups["groups"][0]
    [deployment] = [d for d in group["deployments"] if d["model"].startswith("anthropic/")]
    told = {*groups, *group, *deployment, *deployment["supports"], *get_args(DeploymentState)}
    assert told <= set(code(section))


async def test_every_resource_is_told(tmp_path: Path) -> None:
    _, _, addresses = await listed(tmp_path)

    assert sorted(addresses) == sorted(re.findall(r"^- `(konstruct://[^`]+)`", README, re.MULTILINE))


def test_every_error_code_is_told() -> None:
    def subclasses(kind: type[KonstructError]) -> Iterator[type[KonstructError]]:
        for below in kind.__subclasses__():
            yield below
            yield from subclasses(below)

    coded = {kind.code: kind.__name__ for kind in subclasses(KonstructError) if "code" in vars(kind)}
    rows = [(code(row[0])[0], code(row[2])[0]) for row in table("code", "means")]

    assert dict(rows) == coded
    assert len(rows) == len(coded)
    at_fault = [name for name, kind in rows if issubclass(getattr(konstruct_mcp, kind), konstruct_mcp.RequestError)]
    assert at_fault == [name for name, _ in rows[:7]]


async def test_the_call_gives_the_result(
    tmp_path: Path, anthropic: Provider, openai: Provider, ollama: Provider
) -> None:
    arguments, result = (json.loads(block.text) for block in of("json") if not is_server_entry(block))
    usage = result["usage"]
    anthropic.script(Status(401))
    openai.script(Text(result["content"], usage=(usage["input_tokens"], usage["output_tokens"])))

    async with opened(tmp_path, default_groups(anthropic, openai, ollama)) as konstruct, connected(konstruct) as client:
        answer = (await client.call_tool("complete", arguments)).structured_content

    assert answer is not None
    for told in (answer, result, answer["attempts"][0], result["attempts"][0]):
        assert isinstance(told.pop("duration_ms"), int)
    assert answer == result


# -- the config ------------------------------------------------------------------------------------------------------


def built_in(environ: Mapping[str, str] = KEYS) -> Config:
    # A folder for configs that is none, so that the user's own cannot be met.
    return load_config(environ={**environ, **at_home(Path(os.devnull))})


def models(config: Config) -> set[str]:
    return {deployment.model for group in config.groups.values() for deployment in group.deployments}


def section_of(heading: str) -> str:
    """The prose between this heading and the next."""
    [section] = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", PROSE, re.MULTILINE | re.DOTALL)
    return str(section)


def test_the_built_in_groups_are_told() -> None:
    config = built_in()

    told = {code(row[0])[0]: (code(row[1]), tuple(code(row[2]))) for row in table("group", "asks, in this order")}
    assert told == {
        name: ([deployment.model for deployment in group.deployments], group.fallbacks)
        for name, group in config.groups.items()
    }
    assert f"`{config.default_group}` is the default" in README


def test_the_example_config_loads_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "konstruct.yaml"
    path.write_text(of("yaml")[0].text, "utf-8")
    path.with_name("models.json").write_text(OWN_TABLE)

    config = load_config(path, {**KEYS, **HOUSE, **at_home(tmp_path)})

    assert config.warnings == ()
    assert all(d.unavailable is None for group in config.groups.values() for d in group.deployments)
    assert {name: group.fallbacks for name, group in config.groups.items()} == {
        "quality": ("house", "fast"),
        "house": ("fast",),
        "fast": (),
        "claude": ("house", "fast"),
    }


def test_every_key_of_the_config_is_told_and_in_the_example() -> None:
    example = yaml.safe_load(of("yaml")[0].text)
    told = {
        "konstruct": set(names("key", "default", after="**`konstruct:`**")),
        "tenants": set(names("key", "left out", after="**`tenants:`**")),
        "budgets": set(names("key", after="**`budgets:`**")),
        "router_settings": set(names("key", "default", after="**`router_settings:`**")),
        "litellm_params": set(names("key", after="**`litellm_params:`**")),
    }
    shown = {
        "konstruct": set(example["konstruct"]),
        "tenants": {key for tenant in example["konstruct"]["tenants"].values() for key in tenant},
        "budgets": {key for budget in example["konstruct"]["budgets"] for key in budget},
        "router_settings": set(example["router_settings"]),
        "litellm_params": {key for entry in example["model_list"] for key in entry["litellm_params"]},
    }
    read = {
        # What a section may hold, which no public name lists.
        "konstruct": set(config._KonstructSettings.model_fields),
        "tenants": set(config._TenantSettings.model_fields),
        "budgets": set(config._BudgetSettings.model_fields),
        "router_settings": set(config._RouterSettings.model_fields),
        "litellm_params": set(config._Params.model_fields),
    }
    group_keys = {key for settings in example["konstruct"]["groups"].values() for key in settings}

    assert told == shown == read
    assert group_keys == set(config._GroupSettings.model_fields)
    assert all(f"`{key}`" in README for key in config._Info.model_fields if key not in ("base_model", "max_tokens"))


def test_the_defaults_are_told() -> None:
    public = built_in().public
    for section in ("konstruct", "router_settings"):
        for name, told, *_ in table("key", "default", after=f"**`{section}:`**"):
            value = public[section].get(code(name)[0])
            if told and not told.startswith("`balanced`"):
                assert told.strip("`") == (f"{value:g}" if isinstance(value, float) else str(value))


def documented_variables() -> set[str]:
    text = section_of("Environment")
    return set(re.findall(r"`([A-Z][A-Z0-9_]*_[A-Z0-9_]+)`", text))


def test_every_environment_variable_is_told() -> None:
    sources = "".join(path.read_text("utf-8") for path in (REPOSITORY / "konstruct_mcp").rglob("*.py"))
    ours = set(re.findall(r"\b(KONSTRUCT_[A-Z_]+|OLLAMA_[A-Z_]+|XDG_[A-Z]+_HOME)\b", sources))

    assert documented_variables() == ours | {"ANTHROPIC_API_KEY", "OPENAI_API_KEY"}
    assert set(names("variable")) == ours | {"ANTHROPIC_API_KEY", "OPENAI_API_KEY"}
    [levels] = [code(row[1]) for row in table("variable") if row[0] == "`KONSTRUCT_LOG_LEVEL`"]
    assert levels == list(LOG_LEVELS)


# -- the command line, Python, the rest ------------------------------------------------------------------------------


def test_every_command_and_option_is_told() -> None:
    rows = {command_in(row[0]): row for row in table("command", "does")}
    commands = dict(commands_of(cli.cli))

    assert set(rows) == set(commands)
    for name, command in commands.items():
        assert {word for word in code(rows[name][1]) if word.startswith("--")} == options(command)
    whole = set(re.findall(r"`(--[a-z]+)", section_of("From the command line")))
    assert whole == options(cli.cli) | {"--help"} | {o for c in commands.values() for o in options(c)}


def command_in(cell: str) -> str:
    """The words of a command, without the script's name and its arguments."""
    return " ".join(word for word in code(cell)[-1].split()[1:] if word.islower())


def commands_of(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield before + name, command
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{before}{name} ")


def options(command: click.Command) -> set[str]:
    given = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {name for parameter in given for name in parameter.opts if name.startswith("--")}


def test_every_exit_status_is_told() -> None:
    assert [int(row[0]) for row in table("exit status")] == [0, FAILURE, MISTAKE, INTERRUPTED]


@pytest.mark.long  # as the first command above, whose answer is the same model's
def test_the_program_runs(reader: Reader) -> None:
    [block] = of("python")

    (reader.folder / "ask.py").write_text(block.text, "utf-8")

    ran = reader.starts(uv(), "run", "--project", str(REPOSITORY), "python", "ask.py")

    assert (ran.status, ran.errors) == (0, "")
    *content, facts = ran.out.splitlines()
    assert "".join(content).strip()
    assert facts.startswith("embedded/SmolLM2-135M-Instruct embedded Usage(")


def test_every_extra_is_told() -> None:
    assert set(names("extra")) == set(PROJECT["project"]["optional-dependencies"])


def test_every_argument_of_the_tool_is_one_in_python() -> None:
    complete = Konstruct.complete.__annotations__

    assert set(complete) - {"return", "on_wait"} == set(names("argument"))
    assert "`on_wait`" in section_of("From Python")


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in (REPOSITORY / "docs").glob("*"))]
)
def test_every_link_leads_somewhere(page: str) -> None:
    file = REPOSITORY / page
    for target in re.findall(r"\]\(([^)]+)\)", file.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = file.parent / path if path else file
        assert there.is_file()
        assert not anchor or anchor in anchors(there.read_text("utf-8"))


def test_every_page_is_linked_from_the_readme() -> None:
    assert all(f"](docs/{page.name})" in README for page in (REPOSITORY / "docs").glob("*.md"))
