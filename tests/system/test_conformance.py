"""The MCP conformance suite against the product, in both eras, check by check.

The table of `docs/conformance.md` says of each of its scenarios how many checks pass, and why the others do not. A test
holds it to what the suite says.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import write
from support.node import CONFORMANCE, command, environ
from support.pages import PAGES

SUITE = ("2025-11-25", "2026-07-28")
WIRE_FORM = "wire-schema-valid"  # of every scenario: that what came over the wire has the form of the protocol
SERVER = Path(__file__).parent.parent / "support" / "conformance_server.py"
LIMIT_S = 120


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The product with the suite's fixtures, in a process of its own; gives its URL."""
    params = {"model": "openai/fake", "api_base": "http://127.0.0.1:9/v1", "api_key": "sk-test"}
    config = {
        "model_list": [{"model_name": "g", "litellm_params": params}],
        "konstruct": {
            "default_group": "g",
            "ledger_url": f"sqlite:///{folder / 'ledger.sqlite3'}",
            "http": {"listen": "127.0.0.1:0", "pause_s": 0, "drain_s": 0},
        },
    }
    command: list[str | Path] = [sys.executable, SERVER, write(folder, config)]
    environ_there = {**environ(), "PYTHONPATH": str(SERVER.parents[1])}
    with subprocess.Popen(command, env=environ_there, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().decode().strip()
            process.terminate()
            assert process.wait(LIMIT_S) == 0
        finally:
            process.kill()


def passed(version: str, folder: Path) -> dict[str, str]:
    """By scenario, how many of its own checks pass: `3 of 4`; or that it has none."""
    out = folder / "checks"
    with served(folder) as url:
        suite = [*command(CONFORMANCE, "conformance"), "server", "--url", url, "--suite", "all"]
        ran = subprocess.run(
            [*suite, "--spec-version", version, "-o", out],
            env=environ(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert "Total:" in ran.stdout, ran.stdout + ran.stderr
    return {_name(file): _cell(json.loads(file.read_text())) for file in sorted(out.glob("*/checks.json"))}


def _name(checks: Path) -> str:
    """`server-ping-2026-11-29T05-55-09-058Z` is the folder of `ping`."""
    match = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z", checks.parent.name)
    assert match is not None
    return match[1]


def _cell(checks: list[dict[str, Any]]) -> str:
    own = [check["status"] for check in checks if check["id"] != WIRE_FORM]
    form = [check["status"] for check in checks if check["id"] == WIRE_FORM]
    assert "FAILURE" not in form
    counted = [status for status in own if status in ("SUCCESS", "FAILURE", "WARNING")]
    return f"{counted.count('SUCCESS')} of {len(counted)}" if counted else "tries nothing"


def told() -> dict[str, tuple[str, str, str]]:
    """The table of the page: by scenario, a cell for each version and why not all checks pass."""
    rows = re.findall(r"^\| `([\w-]+)` +\| (.*?) +\| (.*?) +\| ?(.*?) *\|$", PAGES["docs/conformance.md"].text, re.M)
    return {name: (older, newer, why) for name, older, newer, why in rows}


@pytest.mark.long  # ten seconds of all cores for each, and npm
@pytest.mark.parametrize("version", SUITE)
def test_the_conformance_suite_says_what_the_page_says(version: str, tmp_path: Path) -> None:
    table = told()
    column = SUITE.index(version)
    assert passed(version, tmp_path) == {name: row[column] for name, row in table.items() if row[column] != "–"}


def test_of_each_check_that_does_not_pass_the_page_says_why() -> None:
    for name, (older, newer, why) in told().items():
        all_pass = all(cell == "–" or re.fullmatch(r"(\d+) of \1", cell) for cell in (older, newer))
        assert why if not all_pass else not why or why.startswith("hollow: "), name
