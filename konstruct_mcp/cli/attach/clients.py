"""The clients: where each has its file, what an entry is in it, and how its user checks. One table, `CLIENTS`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from konstruct_mcp.cli.attach.json_text import JsonText
from konstruct_mcp.cli.attach.text import Format
from konstruct_mcp.cli.attach.toml_text import TomlText

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

    def config(self) -> Path:
        """Where programs with a window have their settings."""
        if self.platform == "win32":
            return self.folder("APPDATA", "AppData", "Roaming")
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.folder("XDG_CONFIG_HOME", ".config")


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

    def environ(self, form: str | None) -> dict[str, str]:
        """The variables, those that are passed on in the client's own form."""
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
        files: where its file is; the first that exists of several. By scope.
        text: the format of it.
        root: under which names the servers are in it.
        entry: what is written of a server.
        programs: its commands.
        check: what its user does, to see whether it is there.
        allowed: what `--approve` writes into another file.
        unapproved: why `--approve` writes nothing, where it does not.
        set_by_attach: the names in an entry that are ours; all others are the user's, once they are there.
        forms: whether it has a form for a variable that is passed on, or passes all on by itself.
    """

    name: str
    title: str
    files: Mapping[Scope, Callable[[Places], list[Path]]]
    text: Format
    root: tuple[str, ...]
    entry: Callable[[Server], dict[str, Any]]
    programs: tuple[str, ...]
    check: str
    allowed: Allowed | None = None
    unapproved: str | None = None
    set_by_attach: frozenset[str] = field(default=frozenset({"command", "args"}))
    passes_on: str | None = None

    def file(self, scope: Scope, places: Places) -> Path:
        """Its file: the first one that is there, else the one that is made."""
        candidates = self.files[scope](places)
        return next((path for path in candidates if path.exists()), candidates[0])

    def is_here(self, places: Places) -> bool:
        """Whether it seems to be installed."""
        if any(shutil.which(program, path=places.environ.get("PATH")) for program in self.programs):
            return True
        files = self.files["user"](places)
        return any(path.exists() or (path.parent.exists() and path.parent != places.home) for path in files)


# -- what an entry is ------------------------------------------------------------------------------------------------


def _claude_code(server: Server) -> dict[str, Any]:
    return {
        "type": "stdio",
        **server.started(),
        "env": server.environ("${{{}:-}}"),
        "timeout": server.limit_s * 1000,
    }


def _codex(server: Server) -> dict[str, Any]:
    return {
        **server.started(),
        "env_vars": list(server.passed),
        "startup_timeout_sec": START_S,
        "tool_timeout_sec": server.limit_s,
        "required": True,
        **({"default_tools_approval_mode": "approve"} if server.approve else {}),
        **({"env": dict(server.values)} if server.values else {}),
    }


def _gemini(server: Server) -> dict[str, Any]:
    return {
        **server.started(),
        "env": server.environ("${}"),
        "timeout": server.limit_s * 1000,
        **({"trust": True} if server.approve else {}),
    }


def _opencode(server: Server) -> dict[str, Any]:
    return {
        "type": "local",
        "command": list(server.command),
        "environment": server.environ(None),
        "enabled": True,
        "timeout": server.limit_s * 1000,
    }


# -- where it is -----------------------------------------------------------------------------------------------------


def _in_project(*names: str) -> Callable[[Places], list[Path]]:
    return lambda places: [places.project / name for name in names]


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


CLIENTS: Mapping[str, Client] = {
    client.name: client
    for client in (
        Client(
            "claude-code",
            "Claude Code",
            {
                "user": lambda places: [places.folder("CLAUDE_CONFIG_DIR") / ".claude.json"],
                "project": _in_project(".mcp.json"),
            },
            JsonText(),
            ("mcpServers",),
            _claude_code,
            ("claude",),
            "claude mcp list",
            allowed=_CLAUDE_ALLOWED,
        ),
        Client(
            "codex",
            "Codex",
            {
                "user": lambda places: [places.folder("CODEX_HOME", ".codex") / "config.toml"],
                "project": _in_project(".codex/config.toml"),
            },
            TomlText(),
            ("mcp_servers",),
            _codex,
            ("codex",),
            "codex mcp list",
        ),
        Client(
            "gemini",
            "Gemini CLI",
            {
                "user": lambda places: [places.home / ".gemini" / "settings.json"],
                "project": _in_project(".gemini/settings.json"),
            },
            JsonText(comments=True),
            ("mcpServers",),
            _gemini,
            ("gemini",),
            "gemini mcp list",
        ),
        Client(
            "opencode",
            "opencode",
            {
                "user": lambda places: [
                    places.folder("XDG_CONFIG_HOME", ".config") / "opencode" / name
                    for name in ("opencode.jsonc", "opencode.json")
                ],
                "project": _in_project("opencode.jsonc", "opencode.json"),
            },
            JsonText(comments=True),
            ("mcp",),
            _opencode,
            ("opencode",),
            "opencode mcp list",
            unapproved="opencode asks for no approval unless its own `permission` says so",
        ),
    )
}
