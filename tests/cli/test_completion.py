"""What the shell completes, by click's own protocol: it runs the script with the line and where the cursor is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import LIMIT_S, run
from support.keychain import behaves, keychain_in

CONFIG = """
model_list:
  - {model_name: quality, litellm_params: {model: openai/x, api_key: keyring/HANGS}}
  - {model_name: quick, litellm_params: {model: ollama/x}}
  - {model_name: os.environ/GROUP, litellm_params: {model: ollama/x}}
  - {model_name: "any/*", litellm_params: {model: "openai/*"}}
router_settings: {model_group_alias: {queen: quality}}
konstruct:
  tenants: {alice: {}, albert: {}, bob: {}}
  groups: {quality: {description: hardest tasks}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(CONFIG)
    return path


def completed(tmp_path: Path, line: str) -> list[str]:
    """What may stand at the end of a line, as fish is told it: each with its description."""
    *before, _ = words = line.split(" ")
    env = {
        **keychain_in(tmp_path),
        "_KONSTRUCT_MCP_COMPLETE": "zsh_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(before)),
    }
    ran = run(env=env)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    return [f"{name}: {told}" if told != "_" else name for name, told in zip(lines[1::3], lines[2::3], strict=True)]


def test_groups_and_tenants_come_from_the_config_as_it_is_written(tmp_path: Path, config: Path) -> None:
    behaves(tmp_path, {"hangs": True})  # and nobody asks it
    script = f"konstruct-mcp --config {config}"
    assert completed(tmp_path, f"{script} complete --group qu") == ["quality: hardest tasks", "quick", "queen"]
    assert completed(tmp_path, f"{script} usage --tenant al") == ["alice", "albert"]
    assert completed(tmp_path, f"{script} keys create --tenant b") == ["bob"]
    assert completed(tmp_path, f"{script} keys create --tenant d") == ["default"]


def test_a_description_of_several_lines_is_shown_in_one(tmp_path: Path, config: Path) -> None:
    config.write_text(
        "model_list: [{model_name: quality, litellm_params: {model: ollama/x}},"
        " {model_name: queue, litellm_params: {model: ollama/x}}]\n"
        "konstruct:\n  default_tenant: [odd]\n  groups:\n    queue: {description: [odd]}\n"
        "    quality:\n      description: |\n        hardest tasks;\n        slow\n"
    )
    script = f"konstruct-mcp --config {config}"
    assert completed(tmp_path, f"{script} complete --group qu") == ["quality: hardest tasks; slow", "queue"]
    assert completed(tmp_path, f"{script} usage --tenant o") == []


def test_the_built_in_groups_are_completed_without_a_config(tmp_path: Path) -> None:
    assert completed(tmp_path, "konstruct-mcp complete --group f") == ["fast: quick answers from a local model"]


def test_a_config_that_cannot_be_read_completes_nothing_and_says_nothing(tmp_path: Path, config: Path) -> None:
    config.write_text("wrong: [")
    assert completed(tmp_path, f"konstruct-mcp --config {config} complete --group q") == []
    config.write_text("model_list: 3\nkonstruct: []\nrouter_settings: {model_group_alias: x}")
    assert completed(tmp_path, f"konstruct-mcp --config {config} complete --group q") == []


def test_commands_options_and_names_of_keys_are_completed(tmp_path: Path) -> None:
    assert [found.partition(":")[0] for found in completed(tmp_path, "konstruct-mcp cre")] == ["credentials"]
    assert "ANTHROPIC_API_KEY" in completed(tmp_path, "konstruct-mcp credentials add AN")
    assert run("credentials", "add", "MY_KEY", stdin=b"sk-1", env=keychain_in(tmp_path)).code == 0
    assert completed(tmp_path, "konstruct-mcp credentials remove M") == ["MY_KEY"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_given_a_script(tmp_path: Path, shell: str) -> None:
    command = [str(Path(sys.executable).with_name("konstruct-mcp"))]
    env = {**os.environ, "_KONSTRUCT_MCP_COMPLETE": f"{shell}_source"}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert f"_KONSTRUCT_MCP_COMPLETE={shell}_complete" in ran.stdout
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(ran.stdout)
        subprocess.run([shell, "-n", str(script)], check=True, timeout=LIMIT_S)
