"""The clients: where each has its file, what an entry is in it, and how its user checks.

Long, because it is one table, `CLIENTS`, and the forms of its entries.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from konstruct_mcp.cli.attach.files import is_there
from konstruct_mcp.cli.attach.json_text import JsonText
from konstruct_mcp.cli.attach.text import Format
from konstruct_mcp.cli.attach.toml_text import TomlText
from konstruct_mcp.cli.attach.yaml_text import YamlText

NAME = "konstruct"  # of the entry, in every client
Scope = Literal["user", "project"]
START_S = 60  # the first start on a cold disk takes some seconds; clients allow 10 to 30


@dataclass(frozen=True, slots=True)
class Places:
    """Where files are looked for.

    Attributes:
        project: the folder of a project.
        platform: as `sys.platform` has it.
    """

    home: Path
    project: Path
    environ: Mapping[str, str]
    platform: str = sys.platform

    @classmethod
    def here(cls) -> Places:
        return cls(Path.home(), Path.cwd(), os.environ)

    def folder(self, variable: str, *default: str) -> Path:
        """What a variable of the environment names, else a folder in the home folder."""
        named = self.environ.get(variable, "")
        return Path(named) if named else self.home.joinpath(*default)

    def dot_config(self) -> Path:
        """Where programs without a window have their settings."""
        return self.folder("XDG_CONFIG_HOME", ".config")

    def config(self) -> Path:
        """Where programs with a window have their settings."""
        if self.platform == "win32":
            return self.folder("APPDATA", "AppData", "Roaming")
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.dot_config()


@dataclass(frozen=True, slots=True)
class Server:
    """What a client is to start.

    Attributes:
        command: the program and its arguments.
        values: variables that it gets, with their values.
        passed: names of variables that the client is to pass on.
        limit_s: how long it waits for an answer.
        approve: whether it may call the tools without asking its user.
    """

    command: tuple[str, ...]
    values: Mapping[str, str]
    passed: tuple[str, ...]
    limit_s: int
    approve: bool = False

    def environ(self, form: str | None = None) -> dict[str, str]:
        """The variables, those that are passed on in the client's own form, if it has one."""
        return {**self.values, **({name: form.format(name) for name in self.passed} if form else {})}

    def without_approval(self) -> Server:
        return replace(self, approve=False)

    def started(self) -> dict[str, Any]:
        """The command, as most clients have it."""
        return {"command": self.command[0], "args": list(self.command[1:])}


@dataclass(frozen=True, slots=True)
class Allowed:
    """Lists of a client's settings, by which it is told that it need not ask its user.

    Attributes:
        files: where the settings are, by scope.
        items: where in them a list is, and what is put into it, by scope.
    """

    files: Mapping[Scope, Callable[[Places], Path]]
    items: Mapping[Scope, tuple[tuple[tuple[str, ...], str], ...]]
    text: JsonText = field(default_factory=JsonText)


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    Attributes:
        title: as its makers write it.
        files: where its file can be, by scope; the first is made where there is none.
        text: the format of it.
        root: under which name the servers are in it.
        entry: what is written of a server.
        programs: its commands.
        check: what its user does, to see whether it is there.
        note: what its user has to know of a scope.
        variables: whether it passes on those that it is told to, all, or none.
        started_by: the names in an entry that say what is started. They are ours, all others the user's, once there.
        allowed: what `--approve` writes into another file.
        unapproved: what to do in place of `--approve`, where that writes nothing.
        new: what a file that is made has besides.
    """

    name: str
    title: str
    files: Mapping[Scope, Callable[[Places], list[Path]]]
    text: Format
    root: str
    entry: Callable[[Server], dict[str, Any]]
    programs: tuple[str, ...]
    check: str
    note: Mapping[Scope, str] = field(default_factory=dict)
    variables: Literal["named", "all", "none"] = "named"
    started_by: frozenset[str] = frozenset({"command", "args"})
    allowed: Allowed | None = None
    unapproved: str | None = None
    new: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str, str]:
        """Where our entry is in the file."""
        return self.root, NAME

    def begun(self, text: str) -> str:
        """The text into which an entry can be put: that of the file, or of a new one."""
        return self.text.show(self.new) if self.new and not text.strip() else text

    def is_here(self, places: Places) -> bool:
        """Whether it seems to be installed."""
        if any(shutil.which(program, path=places.environ.get("PATH")) for program in self.programs):
            return True
        files = self.files["user"](places)
        return any(is_there(path) or (path.parent != places.home and is_there(path.parent)) for path in files)


# -- what an entry is ------------------------------------------------------------------------------------------------


def _claude_code(server: Server) -> dict[str, Any]:
    return {
        "type": "stdio",
        **server.started(),
        "env": server.environ("${{{}:-}}"),
        "timeout": server.limit_s * 1000,
        "alwaysLoad": True,  # by this it waits for the tools before its first turn, and defers none
    }


def _claude_desktop(server: Server) -> dict[str, Any]:
    return {**server.started(), "env": server.environ()}


def _codex(server: Server) -> dict[str, Any]:
    return {
        **server.started(),
        "env_vars": list(server.passed),
        "startup_timeout_sec": START_S,
        "tool_timeout_sec": server.limit_s,
        "required": True,  # else the first turn does not wait for the tools
        **({"default_tools_approval_mode": "approve"} if server.approve else {}),
        **({"env": dict(server.values)} if server.values else {}),
    }


def _cursor(server: Server) -> dict[str, Any]:
    return {"type": "stdio", **server.started(), "env": server.environ("${{env:{}}}")}


def _vscode(server: Server) -> dict[str, Any]:
    return {"type": "stdio", **server.started(), "env": server.environ()}


def _gemini(server: Server) -> dict[str, Any]:
    return {
        **server.started(),
        "env": server.environ("${}"),  # it keeps variables back whose names look like keys, unless they are named
        "timeout": server.limit_s * 1000,
        **({"trust": True} if server.approve else {}),
    }


def _opencode(server: Server) -> dict[str, Any]:
    return {
        "type": "local",
        "command": list(server.command),
        "environment": server.environ(),
        "enabled": True,
        "timeout": server.limit_s * 1000,
    }


def _copilot(server: Server) -> dict[str, Any]:
    environ = server.environ("${{{}:-}}")
    return {"type": "local", **server.started(), "env": environ, "tools": ["*"], "timeout": server.limit_s * 1000}


def _zed(server: Server) -> dict[str, Any]:
    return {**server.started(), "env": server.environ(), "timeout": server.limit_s}


def _cline(server: Server) -> dict[str, Any]:
    return {
        **server.started(),
        "env": server.environ(),
        "timeout": server.limit_s,
        **({"autoApprove": ["complete", "list_groups"]} if server.approve else {}),
    }


def _continue(server: Server) -> dict[str, Any]:
    return {"name": NAME, **server.started(), "env": server.environ(), "connectionTimeout": server.limit_s * 1000}


def _goose(server: Server) -> dict[str, Any]:
    return {
        "enabled": True,
        "type": "stdio",
        "name": NAME,
        "description": "Asks other language models, by model group",
        "cmd": server.command[0],
        "args": list(server.command[1:]),
        # Not `env_keys`: goose starts nothing if one of them is not set, and passes all variables on anyway.
        "envs": server.environ(),
        "timeout": server.limit_s,
    }


# -- where it is -----------------------------------------------------------------------------------------------------


def _in_project(*names: str) -> Callable[[Places], list[Path]]:
    return lambda places: [places.project / name for name in names]


def _in_home(variable: str, folder: str, *names: str) -> Callable[[Places], list[Path]]:
    """In a folder of the home folder, which a variable of the client's own may move."""
    return lambda places: [places.folder(variable, folder) / name for name in names]


def _claude_desktop_files(places: Places) -> list[Path]:
    folders = [places.config() / "Claude"]
    if places.platform == "win32":  # an installation from the store sees a folder of its own in its place
        packages = places.folder("LOCALAPPDATA", "AppData", "Local") / "Packages"
        folders = [*sorted(packages.glob("Claude_*/LocalCache/Roaming/Claude")), *folders]
    return [folder / "claude_desktop_config.json" for folder in folders]


def _cline_files(places: Places) -> list[Path]:
    name = Path("settings", "cline_mcp_settings.json")
    in_editor = places.config() / "Code" / "User" / "globalStorage" / "saoudrizwan.claude-dev" / name
    named = places.environ.get("CLINE_MCP_SETTINGS_PATH")
    return [Path(named)] if named else [places.home / ".cline" / "data" / name, in_editor]


def _zed_files(places: Places) -> list[Path]:
    if places.platform == "win32":
        return [places.config() / "Zed" / "settings.json"]
    return [places.dot_config() / "zed" / "settings.json"]


def _goose_files(places: Places) -> list[Path]:
    if places.platform == "win32":
        return [places.config() / "Block" / "goose" / "config" / "config.yaml"]
    return [places.dot_config() / "goose" / "config.yaml"]


_CLAUDE_ALLOWED = Allowed(
    {
        "user": lambda places: places.folder("CLAUDE_CONFIG_DIR", ".claude") / "settings.json",
        "project": lambda places: places.project / ".claude" / "settings.local.json",  # the one that is not shared
    },
    {
        "user": ((("permissions", "allow"), f"mcp__{NAME}"),),
        "project": ((("enabledMcpjsonServers",), NAME), (("permissions", "allow"), f"mcp__{NAME}")),
    },
)
_JSON, _JSONC = JsonText(), JsonText(comments=True, commas=True)

_ALL = (
    Client(
        "claude-code",
        "Claude Code",
        {"user": _in_home("CLAUDE_CONFIG_DIR", "", ".claude.json"), "project": _in_project(".mcp.json")},
        _JSON,
        "mcpServers",
        _claude_code,
        ("claude",),
        "claude mcp list",
        note={"project": "Claude Code asks once whether you trust it, unless you gave --approve"},
        allowed=_CLAUDE_ALLOWED,
    ),
    Client(
        "claude-desktop",
        "Claude Desktop",
        {"user": _claude_desktop_files},
        _JSON,
        "mcpServers",
        _claude_desktop,
        (),
        "quit Claude Desktop completely, start it again, and look under Settings, Developer",
        variables="none",
        unapproved="Claude Desktop asks at the first call; choose to always allow it there",
    ),
    Client(
        "codex",
        "Codex",
        {"user": _in_home("CODEX_HOME", ".codex", "config.toml"), "project": _in_project(".codex/config.toml")},
        TomlText(),
        "mcp_servers",
        _codex,
        ("codex",),
        "codex mcp list",
        note={"project": "Codex reads this file only in a project that it trusts"},
    ),
    Client(
        "cursor",
        "Cursor",
        {"user": _in_home("", ".cursor", "mcp.json"), "project": _in_project(".cursor/mcp.json")},
        _JSONC,
        "mcpServers",
        _cursor,
        ("cursor", "cursor-agent"),
        "look under Settings, MCP; or: cursor-agent mcp list",
        unapproved="Cursor asks at the first call; add it to the list of what runs by itself there",
    ),
    Client(
        "vscode",
        "VS Code",
        {
            "user": lambda places: [
                places.config() / folder / "User" / "mcp.json" for folder in ("Code", "Code - Insiders", "VSCodium")
            ],
            "project": _in_project(".vscode/mcp.json"),
        },
        _JSONC,
        "servers",
        _vscode,
        ("code",),
        "run MCP: List Servers in VS Code; it asks once whether you trust the server",
        variables="all",
        unapproved="VS Code asks at the first call; choose to always allow it there",
    ),
    Client(
        "gemini",
        "Gemini CLI",
        {"user": _in_home("", ".gemini", "settings.json"), "project": _in_project(".gemini/settings.json")},
        JsonText(comments=True),
        "mcpServers",
        _gemini,
        ("gemini",),
        "gemini mcp list, in a folder that Gemini CLI trusts",
    ),
    Client(
        "opencode",
        "opencode",
        {
            "user": lambda places: [
                places.dot_config() / "opencode" / name for name in ("opencode.json", "opencode.jsonc")
            ],
            "project": _in_project("opencode.json", "opencode.jsonc", ".opencode/opencode.json"),
        },
        _JSONC,
        "mcp",
        _opencode,
        ("opencode",),
        "opencode mcp list",
        variables="all",
        started_by=frozenset({"command"}),
        unapproved="opencode asks for no approval, unless its own `permission` says so",
    ),
    Client(
        "copilot",
        "Copilot CLI",
        {"user": _in_home("COPILOT_HOME", ".copilot", "mcp-config.json"), "project": _in_project(".github/mcp.json")},
        _JSONC,
        "mcpServers",
        _copilot,
        ("copilot",),
        "copilot mcp list",
        note={"project": "Copilot CLI reads this file only in a folder that it trusts"},
        unapproved=f"start Copilot CLI with --allow-tool={NAME}",
    ),
    Client(
        "zed",
        "Zed",
        {"user": _zed_files, "project": _in_project(".zed/settings.json")},
        _JSONC,
        "context_servers",
        _zed,
        ("zed", "zeditor"),
        "look for a green dot at konstruct in the settings of Zed's agent panel",
        variables="all",
        unapproved="Zed asks at the first call; choose `Always for complete` there",
    ),
    Client(
        "cline",
        "Cline",
        {"user": _cline_files},
        _JSON,
        "mcpServers",
        _cline,
        ("cline",),
        "run /mcp in Cline, or look at its MCP Servers in the editor",
        variables="all",
    ),
    Client(
        "continue",
        "Continue",
        {
            "user": _in_home("CONTINUE_GLOBAL_DIR", ".continue", "config.yaml"),
            "project": _in_project(f".continue/mcpServers/{NAME}.yaml"),
        },
        YamlText(named="mcpServers"),
        "mcpServers",
        _continue,
        ("cn",),
        "run /mcp in cn, or look under Tools in the editor",
        note={"project": "Continue in the editor reads this file, cn only that of the user"},
        variables="all",
        unapproved="start cn with --allow complete",
        new={"name": "Local Config", "version": "1.0.0", "schema": "v1", "models": []},  # as Continue makes it
    ),
    Client(
        "goose",
        "goose",
        {"user": _goose_files},
        YamlText(),
        "extensions",
        _goose,
        ("goose",),
        "goose info -v",
        variables="all",
        started_by=frozenset({"cmd", "args"}),
        unapproved="goose asks for no approval in its mode `auto`, which is the default",
    ),
)
CLIENTS: Mapping[str, Client] = {client.name: client for client in _ALL}
