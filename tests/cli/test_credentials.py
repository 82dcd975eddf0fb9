"""Providers' keys in the keychain: put there by a command, used where the environment has none, and never shown."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.commands import LIMIT_S, Ran, Terminal, run
from support.default_groups import HELLO, write
from support.keychain import behaves, keychain_in
from support.providers import Provider

from konstruct_mcp import Konstruct
from konstruct_mcp.config.public import public_config
from konstruct_mcp.config.reading import load_config

SECRET = "sk-keychain-7f3a9c"


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """A keychain and folders of this test's own, for this process too."""
    made = keychain_in(tmp_path)
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    return made


def add(name: str, secret: str = SECRET, **more: str) -> Ran:
    ran = run("credentials", "add", name, stdin=f"{secret}\n".encode(), env=more)
    assert secret not in ran.out + ran.err
    return ran


def entry(model: str, **params: Any) -> dict[str, Any]:
    return {"model_name": "g", "litellm_params": {"model": model, **params}}


def test_a_key_from_stdin_is_used_where_the_environment_has_none(
    env: Mapping[str, str], tmp_path: Path, openai: Provider
) -> None:
    ran = add("OPENAI_API_KEY")
    assert (ran.code, ran.out, ran.err) == (0, "OPENAI_API_KEY is in the keychain\n", "")
    path = write(tmp_path, {"model_list": [entry("openai/gpt-4o", api_base=openai.url)]})
    assert run("--config", path, "complete", "Hello", env={}).code == 0
    assert openai.requests[-1].headers["authorization"] == f"Bearer {SECRET}"
    assert run("--config", path, "complete", "Hello", env={"OPENAI_API_KEY": "sk-of-the-environment"}).code == 0
    assert openai.requests[-1].headers["authorization"] == "Bearer sk-of-the-environment"


@pytest.mark.usefixtures("env")
def test_names_are_listed_and_keys_are_not(tmp_path: Path) -> None:
    assert run("credentials", "list", env={}).out == "no credentials\n"
    assert add("anthropic").out == "ANTHROPIC_API_KEY is in the keychain\n"
    assert add("MY_HOUSE_KEY").code == 0
    assert run("credentials", "list", env={}).out == "ANTHROPIC_API_KEY\nMY_HOUSE_KEY\n"
    assert json.loads(run("credentials", "list", "--json", env={}).out) == {
        "credentials": ["ANTHROPIC_API_KEY", "MY_HOUSE_KEY"]
    }
    names = tmp_path / "konstruct-mcp" / "credentials.json"
    assert SECRET not in names.read_text()
    assert stat.S_IMODE(names.stat().st_mode) == 0o600
    assert (
        run("credentials", "remove", "anthropic", env={}).out == "ANTHROPIC_API_KEY is not in the keychain any more\n"
    )
    assert run("credentials", "list", env={}).out == "MY_HOUSE_KEY\n"
    ran = run("credentials", "remove", "anthropic", env={})
    assert (ran.code, ran.out) == (1, "")
    assert "ANTHROPIC_API_KEY cannot be taken out of the keychain: there is no ANTHROPIC_API_KEY" in ran.err


@pytest.mark.usefixtures("env")
@pytest.mark.parametrize(
    ("name", "secret", "said"),
    [
        ("OPENAI_API_KEY", "", "the key is empty"),
        ("OPENAI_API_KEY", "<your key>", "the key is a placeholder"),
        ("OPENAI_API_KEY", "sk-\x07bell", "the key has characters that no key has"),
        ("sk-ant-api03-abc", "x", "NAME should be a variable"),
        ("XDG_DATA_HOME", "x", "NAME should be a variable"),
    ],
)
def test_what_is_no_key_or_no_name_is_refused(name: str, secret: str, said: str) -> None:
    ran = run("credentials", "add", name, stdin=secret.encode(), env={})
    assert ran.code == 2
    assert said in ran.err
    assert run("credentials", "list", env={}).out == "no credentials\n"


@pytest.mark.usefixtures("env")
def test_that_the_environment_comes_first_is_said() -> None:
    assert add("openai", OPENAI_API_KEY="sk-other").err == (
        "warning: the environment sets OPENAI_API_KEY too, which comes first\n"
    )


@pytest.mark.usefixtures("env")
@pytest.mark.parametrize("name", ["opanai", "ollama", "house"])
def test_that_a_name_is_no_variables_is_said(name: str) -> None:
    ran = add(name)
    assert (ran.code, ran.out) == (0, f"{name} is in the keychain\n")
    assert ran.err == f"no provider looks for a key of this name; a config refers to it as keyring/{name}\n"


@pytest.mark.usefixtures("env")
@pytest.mark.parametrize("text", ["", "[]", '{"names": 3}', '{"names": [3, "a b", "MY_KEY"]}', "[" * 90_000, "\xff"])
def test_a_file_of_names_that_is_not_ours_ends_no_command(tmp_path: Path, text: str) -> None:
    names = tmp_path / "konstruct-mcp" / "credentials.json"
    names.parent.mkdir()
    names.write_text(text, "latin-1")
    names.chmod(0o600)
    assert run("credentials", "list", env={}).out == ("MY_KEY\n" if "MY_KEY" in text else "no credentials\n")
    assert add("openai").code == 0
    assert "OPENAI_API_KEY" in run("credentials", "list", env={}).out


def test_at_a_terminal_the_key_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    with Terminal() as terminal:
        ends: Any = {"stdin": terminal.theirs, "stdout": terminal.theirs, "stderr": terminal.theirs}
        # Of a session of its own, so that the prompt is not on the terminal of whoever runs the tests.
        command = [sys.executable, "-m", "konstruct_mcp", "credentials", "add", "anthropic"]
        environ = {**os.environ, **keychain_in(tmp_path)}
        with subprocess.Popen(command, env=environ, start_new_session=True, **ends) as process:
            try:
                terminal.hand_over()
                terminal.read_until(lambda: "ANTHROPIC_API_KEY (not shown): " in terminal.shown)
                terminal.type(f"{SECRET}\n".encode())
                terminal.read_until()
                assert process.wait(LIMIT_S) == 0
            finally:
                process.kill()
    assert terminal.shown.endswith("ANTHROPIC_API_KEY is in the keychain\n")
    assert SECRET not in terminal.shown
    kept = json.loads((tmp_path / "keychain").read_text())
    assert kept == {"entries": {"konstruct-mcp": {"ANTHROPIC_API_KEY": SECRET}}}


def test_a_reference_of_a_config_stands_for_an_entry_and_is_masked(
    env: Mapping[str, str], tmp_path: Path, openai: Provider
) -> None:
    behaves(tmp_path, {"entries": {"konstruct-mcp": {"HOUSE": SECRET}}})
    path = write(tmp_path, {"model_list": [entry("openai/x", api_base=openai.url, api_key="keyring/HOUSE")]})
    config = load_config(path, env)
    (deployment,) = config.groups["g"].deployments
    assert (deployment.unavailable, deployment.params["api_key"]) == (None, SECRET)
    assert SECRET not in repr(config) + repr(public_config(config))
    assert public_config(config)["model_list"][0]["litellm_params"]["api_key"] == "keyring/HOUSE"
    assert SECRET in deployment.secrets


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({}, "is not in the keychain; `konstruct-mcp credentials add HOUSE` puts it there"),
        ({"locked": True}, "cannot be read: the keychain is locked"),
        ({"fails": f"the secret {SECRET} is odd"}, "cannot be read: the keychain has failed (RuntimeError)"),
        (
            {"hangs": True},
            "cannot be read: the keychain has not answered within 2 s; it may be locked, or wait in a dialog",
        ),
    ],
    ids=["empty", "locked", "failing", "hanging"],
)
async def test_a_keychain_that_does_not_give_a_key_takes_one_deployment_away(
    env: Mapping[str, str], tmp_path: Path, openai: Provider, how: Mapping[str, Any], why: str
) -> None:
    behaves(tmp_path, how)
    models = [
        entry("openai/x", api_base=openai.url, api_key="keyring/HOUSE", order=1),
        entry("openai/y", api_base=openai.url, api_key="keyring/OTHER", order=2),
        entry("openai/z", api_base=openai.url, api_key="sk-z", order=3),
    ]
    async with Konstruct.from_config(write(tmp_path, {"model_list": models}), environ=env) as konstruct:
        assert konstruct.config.deployments["g/1"].unavailable == f"keyring/HOUSE {why}"
        assert f"HOUSE {why}" in konstruct.config.warnings
        if "hangs" in how:  # and is not waited for again
            assert konstruct.config.deployments["g/2"].unavailable == (
                "keyring/OTHER cannot be read: the keychain has not answered before"
            )
        assert (await konstruct.complete(HELLO)).model == "openai/z"


def test_without_the_package_it_says_how_to_install_it(tmp_path: Path) -> None:
    """A real Python without it: one that finds no package of that name."""
    block = tmp_path / "sitecustomize.py"
    block.write_text(
        "import sys\nclass Without:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'keyring':\n            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    environ = {**os.environ, **keychain_in(tmp_path), "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "konstruct_mcp", "credentials", "add", "anthropic"]
    ran = subprocess.run(command, env=environ, input=SECRET, capture_output=True, text=True, timeout=LIMIT_S)
    assert ran.returncode == 1
    assert "cannot be put into the keychain: the package keyring is missing: in the clone," in ran.stderr
    assert "--extra keyring" in ran.stderr


def test_nobody_asks_a_keychain_that_nothing_was_put_into(env: Mapping[str, str], tmp_path: Path) -> None:
    behaves(tmp_path, {"hangs": True})  # so that the test would be slow, and the warnings would say so
    config = load_config(None, env)
    assert config.groups["quality"].deployments[0].unavailable == "ANTHROPIC_API_KEY is not set"
    assert config.warnings == ()


@pytest.mark.usefixtures("env")
def test_the_built_in_groups_use_it() -> None:
    add("anthropic")
    config = load_config(None, os.environ)
    assert (config.default_group, config.default_reason) == ("quality", "ANTHROPIC_API_KEY is set")
