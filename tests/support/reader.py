"""A reader who runs what the pages say: the commands, in a folder of their own and with fakes for providers."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner
from support.default_groups import KEYS, default_groups, write
from support.pages import PAGES, REPOSITORY
from support.providers import Provider

from konstruct_mcp import Config
from konstruct_mcp.cli import main as cli
from konstruct_mcp.config.reading import load_config

# For one process: the longest, the short form of a benchmark, takes seconds, and minutes where two cores are busy with
# the other tests. It bounds a wait that would never end, and is no measure of anything.
LIMIT_S = 600
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
[EXAMPLE] = [block.text for block in PAGES["docs/configuration.md"].of("yaml")]
OWN_TABLE = '{"openai/house-model": {"mode": "chat"}}'  # of models, which the example config names
HOUSE = {  # what the example refers to
    "HOUSE_MODEL_KEY": "sk-house-test-1c9d",
    "HOUSE_LEDGER_URL": "postgresql://konstruct:hunter2-1c9d@db.example/ledger",
}


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it wrote where."""

    status: int
    out: str
    errors: str


@dataclass(frozen=True)
class Reader:
    """Runs what the pages say, in a folder that holds the reference's `konstruct.yaml`, with fakes for providers."""

    folder: Path
    fakes: Mapping[str, str]  # the environment that leads to them

    def runs(self, line: str) -> Ran:
        """A line of a page that calls our script, in this process: loading LiteLLM in each costs seconds."""
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
    """Neither the config, the ledger nor the clients' files of whoever runs the tests."""
    return {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}


def reader_in(folder: Path, anthropic: Provider, openai: Provider, ollama: Provider, redis_url: str) -> Reader:
    addresses = {"anthropic": anthropic.url, "openai": openai.url, "ollama": ollama.url}
    example = yaml.safe_load(EXAMPLE)
    for entry in example["model_list"]:
        params = entry["litellm_params"]
        params["api_base"] = addresses[params["model"].split("/")[0]]
    example["konstruct"]["redis_url"] = redis_url
    assert write(folder, example).name == "konstruct.yaml"
    (folder / "models.json").write_text(OWN_TABLE)
    groups = default_groups(anthropic, openai, ollama)
    # At temperature 0 the embedded model's answer is the same each time, and ends.
    groups["model_list"].append(
        {"model_name": "embedded", "litellm_params": {"model": "embedded/SmolLM2-135M-Instruct", "temperature": 0}}
    )
    (folder / "groups.yaml").write_text(yaml.safe_dump(groups), "utf-8")
    ledger = f"sqlite:///{folder}/house.sqlite3"
    own = {"HOUSE_LEDGER_URL": ledger, "KONSTRUCT_CONFIG": str(folder / "groups.yaml"), **at_home(folder)}
    return Reader(folder, {**KEYS, **HOUSE, **own})


def built_in() -> Config:
    """The built-in config with all keys. No folder for configs is one, so that the user's own cannot be met."""
    return load_config(environ={**KEYS, **at_home(Path(os.devnull))})
