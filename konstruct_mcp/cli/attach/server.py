"""What a client is to start: the command of this installation, and the variables that its config reads."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from konstruct_mcp.cli.attach.clients import Scope, Server
from konstruct_mcp.config.environment import REFERENCE
from konstruct_mcp.config.reading import load_config

SCRIPT = "konstruct-mcp"
ROOTS = "KONSTRUCT_FILE_ROOTS"
_SPARE_S = 30  # beyond our own deadline, so that ours comes first and says why
_BUILT_IN = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")  # keys of the built-in groups, which may be set some day
_REFERENCE = re.compile(re.escape(REFERENCE) + r"([A-Za-z_][A-Za-z0-9_]*)")
# They say where something is, and every process has them or is told otherwise. Claude Code tells its servers where the
# project is; what its entry says would take that value's place.
_NOT_PASSED = ("HOME", "KONSTRUCT_CONFIG", ROOTS, "CLAUDE_PROJECT_DIR")


class _Asked(dict[str, str]):
    """An environment that notes which variables are looked up."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.names: dict[str, None] = {}

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.names[key] = None
        return super().get(key, default)


def server_to_start(path: Path | None, scope: Scope, project: Path, *, approve: bool) -> Server:
    """The server of this installation, as the command line of now would start it.

    Raises:
        ConfigError: its config cannot be used.
    """
    environ = _Asked(os.environ)
    config = load_config(path, environ)
    values = {}
    if path is not None or os.environ.get("KONSTRUCT_CONFIG"):
        values["KONSTRUCT_CONFIG"] = str(config.source)
    if scope == "project" and os.pathsep not in str(project):  # which would make it several folders
        values[ROOTS] = str(project)
    told = _BUILT_IN if config.is_built_in else _referred_to(config.files)
    names = dict.fromkeys((*told, *(name for name in environ.names if os.environ.get(name))))
    passed = tuple(name for name in names if name and name not in _NOT_PASSED)
    return Server(own_command(), values, passed, int(config.timeout_s) + _SPARE_S, approve)


def own_command() -> tuple[str, ...]:
    """How this installation is started from anywhere: its console script, else its interpreter with the module."""
    started = Path(sys.argv[0])
    folders = [Path(sysconfig.get_path("scripts"))]
    if started.stem == SCRIPT and started.is_absolute():
        folders.append(started.parent)  # of `pip install --user`
    for folder in folders:
        script = folder / (f"{SCRIPT}.exe" if sys.platform == "win32" else SCRIPT)
        if script.is_file():
            return (str(script),)
    return (sys.executable, "-m", "konstruct_mcp")


def may_vanish() -> bool:
    """Whether this installation is in a cache, as `uvx` and `pipx run` make it, which is cleaned some day."""
    return any(part.lower() in ("cache", ".cache", "caches") for part in Path(sys.prefix).parts)


def _referred_to(files: tuple[Path, ...]) -> list[str]:
    """The variables that are written in a config, set or not."""
    return [name for file in files for name in _REFERENCE.findall(file.read_text("utf-8", errors="replace"))]
