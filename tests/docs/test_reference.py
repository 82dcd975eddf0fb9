"""What can be named of the product (arguments, fields, codes, keys, variables, commands) is told on the page where it
belongs: each table lists exactly those there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import yaml
from mcp import types
from support.default_groups import KEYS, connected, opened
from support.pages import PAGES, REPOSITORY, code
from support.reader import EXAMPLE, HOUSE, OWN_TABLE, PROJECT, at_home, built_in

import konstruct_mcp
import konstruct_mcp.testing
from konstruct_mcp import Konstruct, KonstructError
from konstruct_mcp.cli import main as cli
from konstruct_mcp.cli.logs import LOG_LEVELS
from konstruct_mcp.cli.output import FAILURE, INTERRUPTED, MISTAKE
from konstruct_mcp.config import sections
from konstruct_mcp.config.built_in import PREFERRED
from konstruct_mcp.config.public import public_config
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.results import Completion, DeploymentState, FinishReason
from konstruct_mcp.protocol.clients import client_named

CUT = ("codex-mcp-client", "Cline", "github-copilot-developer", "opencode")

ANSWERS = PAGES["docs/answers.md"]
CONFIGURATION = PAGES["docs/configuration.md"]
COMMANDS = PAGES["docs/command-line.md"]
ROUTING = PAGES["docs/routing.md"]
PYTHON = PAGES["docs/python.md"]


# -- tools, resources, errors ----------------------------------------------------------------------------------------


async def listed(folder: Path) -> tuple[dict[str, types.Tool], dict[str, Any], list[str]]:
    """The tools by name, what `list_groups` gives, and the addresses of the resources."""
    own = {"HOUSE_LEDGER_URL": f"sqlite:///{folder}/house.sqlite3"}
    reader = types.Implementation(name="claude-code", version="1")
    async with (
        opened(folder, yaml.safe_load(EXAMPLE), own) as konstruct,
        connected(konstruct, client_info=reader) as client,
    ):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        groups = (await client.call_tool("list_groups", {})).structured_content
        addresses = [str(resource.uri) for resource in (await client.list_resources()).resources]
        addresses += [it.uri_template for it in (await client.list_resource_templates()).resource_templates]
        assert isinstance(groups, dict)
        return tools, groups, addresses


def test_what_each_client_is_given_is_told() -> None:
    told = dict(ANSWERS.table("client", "its model is given"))
    for names, given in told.items():
        client = client_named(names.partition(",")[0])
        assert given.startswith(f"{client.shows:,} {'bytes' if client.counts_bytes else 'characters'}")
    assert {client_named(names.partition(",")[0]) for names in told} == {client_named(name) for name in (*CUT, "x")}


async def offered_to_some(folder: Path) -> set[str]:
    """The arguments of `complete` for a client whose model cannot read resources."""
    own = {"HOUSE_LEDGER_URL": f"sqlite:///{folder}/house.sqlite3"}
    cline = types.Implementation(name="Cline", version="1")
    async with (
        opened(folder, yaml.safe_load(EXAMPLE), own) as konstruct,
        connected(konstruct, client_info=cline) as client,
    ):
        return set((await client.list_tools()).tools[0].input_schema["properties"])


async def test_every_tool_argument_and_result_is_told(tmp_path: Path) -> None:
    tools, groups, _ = await listed(tmp_path)
    complete = tools["complete"]
    section = ANSWERS.section("Tool `list_groups`")

    assert list(tools) == re.findall(r"^## Tool `(\w+)`$", ANSWERS.text, re.MULTILINE)
    assert set(ANSWERS.names("argument")) == set(complete.input_schema["properties"]) == arguments()
    assert complete.output_schema is not None
    result = {*Completion.__dataclass_fields__, "truncated"}
    assert set(ANSWERS.names("to read on")) == await offered_to_some(tmp_path) - set(ANSWERS.names("argument"))
    assert set(ANSWERS.names("result")) == set(complete.output_schema["properties"]) == result
    [reasons] = [row[1] for row in ANSWERS.table("result") if row[0] == "`finish_reason`"]
    assert code(reasons) == list(get_args(FinishReason))
    group = groups["groups"][0]
    [deployment] = [d for d in group["deployments"] if d["model"].startswith("anthropic/")]
    told = {*groups, *group, *deployment, *deployment["supports"], *get_args(DeploymentState)}
    assert told <= set(code(section))


def arguments() -> set[str]:
    """Those of a request: `continue` is a word of Python's, so that its field has another name."""
    return {field.alias or name for name, field in Request.model_fields.items()}


async def test_every_resource_is_told(tmp_path: Path) -> None:
    _, _, addresses = await listed(tmp_path)

    told = re.findall(r"^- `(konstruct://[^`]+)`", ANSWERS.text, re.MULTILINE)
    assert sorted(addresses) == sorted(told)


def test_every_error_code_is_told() -> None:
    def subclasses(kind: type[KonstructError]) -> Iterator[type[KonstructError]]:
        for below in kind.__subclasses__():
            yield below
            yield from subclasses(below)

    coded = {kind.code: kind.__name__ for kind in subclasses(KonstructError) if "code" in vars(kind)}
    rows = [(code(row[0])[0], code(row[2])[0]) for row in ANSWERS.table("code", "means")]

    assert dict(rows) == coded
    assert len(rows) == len(coded)
    at_fault = [name for name, kind in rows if issubclass(getattr(konstruct_mcp, kind), konstruct_mcp.RequestError)]
    assert at_fault == [name for name, _ in rows[: len(at_fault)]]


# -- the config ------------------------------------------------------------------------------------------------------


def test_the_built_in_groups_are_told() -> None:
    groups = built_in()

    told = {
        code(row[0])[0]: (code(row[1]), tuple(code(row[2]))) for row in ROUTING.table("group", "asks, in this order")
    }
    assert told == {
        name: ([deployment.model for deployment in group.deployments], group.fallbacks)
        for name, group in groups.groups.items()
    }
    chosen = code(" ".join(row[1] for row in ROUTING.table("where there is", "the default group is")))
    assert chosen == list(PREFERRED)


def test_the_example_has_the_groups_and_fallbacks_that_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "konstruct.yaml"
    path.write_text(EXAMPLE, "utf-8")
    path.with_name("models.json").write_text(OWN_TABLE)

    loaded = load_config(path, {**KEYS, **HOUSE, **at_home(tmp_path)})

    assert {name: group.fallbacks for name, group in loaded.groups.items()} == {
        "quality": ("house", "fast"),
        "house": ("fast",),
        "fast": (),
        "claude": ("house", "fast"),
    }


def test_every_key_of_the_config_is_told_and_in_the_example() -> None:
    example = yaml.safe_load(EXAMPLE)
    told = {
        "konstruct": set(CONFIGURATION.names("key", "default", after="**`konstruct:`**")),
        "tenants": set(CONFIGURATION.names("key", "left out", after="**`tenants:`**")),
        "budgets": set(CONFIGURATION.names("key", after="**`budgets:`**")),
        "router_settings": set(CONFIGURATION.names("key", "default", after="**`router_settings:`**")),
        "litellm_params": set(CONFIGURATION.names("key", after="**`litellm_params:`**")),
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
        "konstruct": set(sections.KonstructSettings.model_fields),
        "tenants": set(sections.TenantSettings.model_fields),
        "budgets": set(sections.BudgetSettings.model_fields),
        # LiteLLM's own keys for `konstruct.redis_url` are told with the rest of LiteLLM's.
        "router_settings": {key for key in sections.RouterSettings.model_fields if not key.startswith("redis_")},
        "litellm_params": set(sections.LiteLLMParams.model_fields),
    }
    group_keys = {key for settings in example["konstruct"]["groups"].values() for key in settings}

    assert told == shown == read
    assert group_keys == set(sections.GroupSettings.model_fields)
    assert all(
        f"`{key}`" in CONFIGURATION.prose
        for key in sections.ModelInfo.model_fields
        if key not in ("base_model", "max_tokens")
    )


def test_the_defaults_are_told() -> None:
    public = public_config(built_in())
    for section in ("konstruct", "router_settings"):
        for name, told, *_ in CONFIGURATION.table("key", "default", after=f"**`{section}:`**"):
            value = public[section].get(code(name)[0])
            if told and not told.startswith("`balanced`"):
                shown = f"{value:g}" if isinstance(value, float) else str(value)
                assert told.strip("`") == (shown.lower() if isinstance(value, bool) else shown)


def test_every_environment_variable_is_told() -> None:
    sources = "".join(path.read_text("utf-8") for path in (REPOSITORY / "konstruct_mcp").rglob("*.py"))
    ours = set(re.findall(r"\b(KONSTRUCT_[A-Z_]+|OLLAMA_[A-Z_]+|XDG_[A-Z]+_HOME)\b", sources))

    assert set(CONFIGURATION.names("variable")) == ours | {"ANTHROPIC_API_KEY", "OPENAI_API_KEY"}
    [levels] = [code(row[1]) for row in CONFIGURATION.table("variable") if row[0] == "`KONSTRUCT_LOG_LEVEL`"]
    assert levels == list(LOG_LEVELS)


# -- the command line, Python, the rest ------------------------------------------------------------------------------


def test_every_command_and_option_is_told() -> None:
    rows = {command_in(row[0]): row for row in COMMANDS.table("command", "does")}
    commands = dict(commands_of(cli.cli))

    assert set(rows) == set(commands)
    for name, command in commands.items():
        assert {word for word in code(rows[name][1]) if word.startswith("--")} == options(command)
    whole = set(re.findall(r"`(--[a-z-]+)", COMMANDS.prose))
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
    assert [int(row[0]) for row in COMMANDS.table("exit status")] == [0, FAILURE, MISTAKE, INTERRUPTED]


def test_every_extra_is_told() -> None:
    assert set(CONFIGURATION.names("extra")) == set(PROJECT["project"]["optional-dependencies"])


def test_every_argument_of_the_tool_is_one_in_python() -> None:
    complete = Konstruct.complete.__annotations__

    assert {name.rstrip("_") for name in complete} - {"return", "on_wait", "caller"} == set(ANSWERS.names("argument"))
    assert "`on_wait`" in PYTHON.prose
    assert "`caller`" in PYTHON.prose


def test_every_fake_is_told() -> None:
    section = PYTHON.section("Testing a program that uses it")
    told = {word.partition("(")[0].removeprefix("await ") for word in code(section)}

    public = set(konstruct_mcp.testing.__all__) - {"Answer", "AnswerFor", "Finish", "OtherWire", "Wire"}  # types
    own = {name for name in vars(konstruct_mcp.testing.Provider) if not name.startswith("_")} - {"url", "root"}
    wires = {*get_args(konstruct_mcp.testing.Wire), *get_args(konstruct_mcp.testing.OtherWire)}
    assert public | own | wires <= told
