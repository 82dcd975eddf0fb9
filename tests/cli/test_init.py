"""`init`: from nothing to a config that answers, with one command; and `config`, for what comes after."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import LIMIT_S, Terminal, run
from support.default_groups import ANTHROPIC_KEY, KEYS, OPENAI_KEY
from support.keychain import keychain_in
from support.processes import wait_for
from support.providers import Provider, Raw
from support.stdio_lines import ServerProcess

from konstruct_mcp.config.first_config import CLOUDS, Chosen, Local, first_config
from konstruct_mcp.config.model_lookup import Models
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.testing.formats import INSTALLED_MODEL

NO_KEYS = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": ""}
NEXT = "next: `konstruct-mcp attach` lists the clients that are here, and `konstruct-mcp attach CLIENT` attaches one\n"
# As LM Studio and llama.cpp's server list their models.
LM_STUDIO = [
    {"id": "text-embedding-nomic-embed-text-v1.5", "object": "model", "owned_by": "organization_owner"},
    {"id": "qwen/qwen3-8b", "object": "model", "owned_by": "organization_owner"},
    {"id": "google/gemma-3-4b", "object": "model", "owned_by": "organization_owner"},
]
LLAMA_CPP = [
    {
        "id": "/models/SmolLM2-135M-Instruct.Q4_1.gguf",
        "aliases": ["smollm2"],
        "tags": [],
        "object": "model",
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "created": 1795985661,
        "owned_by": "llamacpp",
        "meta": {"vocab_type": 2, "n_vocab": 49152, "n_ctx": 8192, "n_ctx_train": 8192, "n_params": 134515008},
    }
]


@pytest.fixture
def lm_studio() -> Iterator[Provider]:
    with Provider("lm_studio") as provider:
        provider.also["/v1/models"] = {"object": "list", "data": LM_STUDIO}
        yield provider


@pytest.fixture
def llama_cpp() -> Iterator[Provider]:
    with Provider("llama_cpp") as provider:
        provider.also["/v1/models"] = {"object": "list", "data": LLAMA_CPP, "models": []}
        yield provider


@pytest.fixture
def env(
    tmp_path: Path, anthropic: Provider, openai: Provider, ollama: Provider, lm_studio: Provider, llama_cpp: Provider
) -> dict[str, str]:
    """Everything that `init` looks for leads to a fake, and there are no keys."""
    return {
        **keychain_in(tmp_path),
        **NO_KEYS,
        "ANTHROPIC_API_BASE": anthropic.url,
        "OPENAI_API_BASE": openai.url,
        "OLLAMA_BASE_URL": ollama.url,
        "LM_STUDIO_API_BASE": lm_studio.url,
        "LLAMAFILE_API_BASE": llama_cpp.url,
    }


def file(folder: Path) -> Path:
    return folder / "konstruct-mcp" / "config.yaml"


def stop(*providers: Provider) -> None:
    for provider in providers:
        provider.stop()


def test_with_yes_it_takes_what_is_there_writes_it_and_checks_it(
    env: Mapping[str, str], tmp_path: Path, anthropic: Provider, ollama: Provider, llama_cpp: Provider
) -> None:
    ran = run("init", "--yes", env={**env, **KEYS})
    assert ran.code == 0, ran
    assert ran.out.startswith(f"written: {file(tmp_path)}\n")
    assert "all 5 deployments answer\n" in ran.out
    assert ran.out.endswith(NEXT)
    assert stat.S_IMODE(file(tmp_path).stat().st_mode) == 0o600
    text = file(tmp_path).read_text()
    assert ANTHROPIC_KEY not in text
    assert OPENAI_KEY not in text
    written = yaml.safe_load(text)
    assert [(one["model_name"], one["litellm_params"]["model"]) for one in written["model_list"]] == [
        ("quality", "anthropic/claude-sonnet-4-6"),
        ("quality", "openai/gpt-6.1-sol"),
        ("local", "ollama/qwen3:32b"),
        ("local", "lm_studio/qwen/qwen3-8b"),
        ("local", "openai//models/SmolLM2-135M-Instruct.Q4_1.gguf"),
    ]
    assert (anthropic.calls, ollama.calls, llama_cpp.calls) == (1, 1, 1)
    config = load_config(file(tmp_path), {**env, **KEYS})
    assert (config.warnings, config.default_group, config.groups["quality"].fallbacks) == ((), "quality", ("local",))
    assert run("complete", "Hello", env={**env, **KEYS}).out == "Hello from anthropic\n"


def test_nothing_is_sent_to_local_servers_but_the_question_what_they_have(
    env: Mapping[str, str], lm_studio: Provider, llama_cpp: Provider, ollama: Provider
) -> None:
    stop(ollama)
    lm_studio.also["/v1/models"] = Raw(b"<html>a web app that listens there</html>")
    run("init", "--yes", env={**env, **KEYS})
    assert [(one.method, one.path, one.body) for one in lm_studio.requests] == [("GET", "/v1/models", b"")]
    asked = llama_cpp.requests[0]
    assert (asked.method, asked.path) == ("GET", "/v1/models")
    assert "authorization" not in asked.headers


def test_a_key_in_the_keychain_counts_as_one_in_the_environment(
    env: Mapping[str, str],
    tmp_path: Path,
    anthropic: Provider,
    ollama: Provider,
    lm_studio: Provider,
    llama_cpp: Provider,
) -> None:
    stop(ollama, lm_studio, llama_cpp)
    assert run("credentials", "add", "anthropic", stdin=b"sk-keychain-1", env=env).code == 0
    ran = run("init", "--yes", env=env)
    assert (ran.code, "the one deployment answers\n" in ran.out) == (0, True)
    assert anthropic.requests[-1].headers["x-api-key"] == "sk-keychain-1"
    assert "sk-keychain-1" not in file(tmp_path).read_text() + ran.out + ran.err


def test_a_config_that_is_there_is_replaced_with_force_alone_and_kept(env: Mapping[str, str], tmp_path: Path) -> None:
    file(tmp_path).parent.mkdir()
    file(tmp_path).write_text("model_list: []  # mine\n")
    ran = run("init", "--yes", env=env)
    assert (ran.code, ran.out) == (2, "")
    assert f"there is a config already: {file(tmp_path)}; --force replaces it" in ran.err
    assert file(tmp_path).read_text() == "model_list: []  # mine\n"
    assert run("init", "--yes", "--force", env=env).code == 0
    assert file(tmp_path).with_name("config.yaml.bak").read_text() == "model_list: []  # mine\n"
    assert "ollama/qwen3:32b" in file(tmp_path).read_text()


@pytest.mark.parametrize("kind", ["folder", "under a file"])
def test_where_no_config_can_be_written_it_says_so_and_nothing_is_lost(
    env: Mapping[str, str], tmp_path: Path, kind: str
) -> None:
    place = file(tmp_path)
    if kind == "under a file":
        place.parent.write_text("mine")
    else:
        place.mkdir(parents=True)
    ran = run("init", "--yes", "--force", env=env)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"Error: {place} cannot be written: ")
    assert ran.err.count("\n") == 1
    left = list(tmp_path.rglob("*konstruct-mcp*/*"))
    assert left == ([place] if kind == "folder" else [])


def test_a_link_to_a_config_stays_one_and_the_copy_is_beside_what_it_leads_to(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "dotfiles" / "konstruct.yaml"
    target.parent.mkdir()
    target.write_text("mine")
    file(tmp_path).parent.mkdir()
    file(tmp_path).symlink_to(target)
    assert run("init", "--yes", "--force", env=env).code == 0
    assert file(tmp_path).is_symlink()
    assert "ollama/qwen3:32b" in target.read_text()
    assert {path.name for path in target.parent.iterdir()} == {"konstruct.yaml", "konstruct.yaml.bak"}
    assert target.with_name("konstruct.yaml.bak").read_text() == "mine"


def test_a_link_that_leads_to_itself_is_replaced(env: Mapping[str, str], tmp_path: Path) -> None:
    file(tmp_path).parent.mkdir()
    file(tmp_path).symlink_to(file(tmp_path))
    assert run("init", "--yes", env=env).code == 2
    assert run("init", "--yes", "--force", env=env).code == 0
    assert "ollama/qwen3:32b" in file(tmp_path).read_text()


def test_with_nothing_to_ask_nothing_is_written(
    env: Mapping[str, str], tmp_path: Path, ollama: Provider, lm_studio: Provider, llama_cpp: Provider
) -> None:
    stop(ollama, lm_studio, llama_cpp)
    ran = run("init", "--yes", env={**env, "KONSTRUCT_GGUF": "/nonexistent.gguf"})
    assert (ran.code, ran.out, file(tmp_path).exists()) == (1, "", False)
    assert "there is nothing to ask: no key is set, and neither Ollama, LM Studio nor llama.cpp answers" in ran.err
    assert "set ANTHROPIC_API_KEY or `konstruct-mcp credentials add anthropic`, or start Ollama" in ran.err


@pytest.mark.long
def test_where_nothing_else_is_there_the_embedded_model_is_taken_and_answers(
    env: Mapping[str, str], tmp_path: Path, ollama: Provider, lm_studio: Provider, llama_cpp: Provider
) -> None:
    stop(ollama, lm_studio, llama_cpp)
    ran = run("init", "--yes", env=env)
    assert (ran.code, "the one deployment answers\n" in ran.out) == (0, True), ran
    assert load_config(file(tmp_path), env).default_group == "embedded"


def test_what_does_not_answer_is_said_and_the_config_stays(
    env: Mapping[str, str], tmp_path: Path, ollama: Provider, lm_studio: Provider, llama_cpp: Provider, openai: Provider
) -> None:
    stop(ollama, lm_studio, llama_cpp, openai)
    ran = run("init", "--yes", env={**env, "OPENAI_API_KEY": OPENAI_KEY})
    assert ran.code == 1
    assert "the one deployment cannot be called; the state above says why" in ran.out
    assert "the config is written, but something in it does not answer yet" in ran.err
    assert file(tmp_path).exists()


def test_without_a_terminal_it_needs_yes(env: Mapping[str, str], tmp_path: Path) -> None:
    ran = run("init", env=env)
    assert (ran.code, file(tmp_path).exists()) == (2, False)
    assert "init asks at a terminal; --yes takes all that is found" in ran.err


@pytest.mark.long
def test_a_server_that_runs_already_takes_up_a_key_and_then_a_first_config(
    env: Mapping[str, str], ollama: Provider, lm_studio: Provider, llama_cpp: Provider, tmp_path: Path
) -> None:
    stop(ollama, lm_studio, llama_cpp)
    with ServerProcess(tmp_path, environ={**env, "KONSTRUCT_CONFIG": ""}) as server:
        server.initialize()

        def default() -> str:
            return str(server.ask("tools/call", {"name": "list_groups"})["structuredContent"]["default_group"])

        def groups() -> list[str]:
            return list(server.ask("tools/list")["tools"][0]["inputSchema"]["properties"]["model_group"]["enum"])

        assert default() == "embedded"
        assert run("credentials", "add", "anthropic", stdin=b"sk-keychain-1", env=env).code == 0
        wait_for(lambda: default() == "quality")
        assert run("init", "--yes", env=env).code == 0
        wait_for(lambda: groups() == ["quality"])
        assert server.complete("quality")["structuredContent"]["content"] == "Hello from anthropic"


@contextmanager
def at_a_terminal(environ: Mapping[str, str], *words: str) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """A command at a terminal, of a session of its own: a hidden prompt would look for whoever runs the tests."""
    with Terminal(200) as terminal:
        ends: Any = {"stdin": terminal.theirs, "stdout": terminal.theirs, "stderr": terminal.theirs}
        command = [sys.executable, "-m", "konstruct_mcp", *words]
        with subprocess.Popen(
            command, env={**os.environ, **environ, "TERM": "dumb"}, start_new_session=True, **ends
        ) as process:
            try:
                terminal.hand_over()
                yield terminal, process
            finally:
                process.kill()


def answer(terminal: Terminal, question: str, keys: str) -> None:
    terminal.read_until(lambda: question in terminal.shown)
    assert question in terminal.shown, terminal.shown
    terminal.type(keys.encode() + b"\n")


def test_at_a_terminal_it_asks_what_of_it_to_use(
    env: Mapping[str, str], tmp_path: Path, ollama: Provider, llama_cpp: Provider, anthropic: Provider
) -> None:
    small = {**INSTALLED_MODEL, "name": "gemma3:1b", "model": "gemma3:1b", "size": 10**9}
    ollama.also["/api/tags"] = {"models": [INSTALLED_MODEL, small]}
    file(tmp_path).parent.mkdir()
    file(tmp_path).write_text("mine")
    with at_a_terminal({**env, "ANTHROPIC_API_KEY": ANTHROPIC_KEY}, "init") as (terminal, process):
        answer(terminal, "Replace it? It is kept beside [y/N]:", "y")
        answer(terminal, "Claude: ANTHROPIC_API_KEY is set. Use it? [Y/n]:", "")
        answer(terminal, "Which of them? (none for none) [qwen3:32b]:", "gemma3:1b")
        answer(terminal, "Which of them? (none for none) [qwen/qwen3-8b]:", "none")
        answer(terminal, "llama.cpp has /models/SmolLM2-135M-Instruct.Q4_1.gguf. Use it? [Y/n]:", "n")
        answer(terminal, "At most how many US dollars a day? (0 for no limit) [5.0]:", "2.5")
        terminal.read_until()
        assert process.wait(LIMIT_S) == 0, terminal.shown
    assert terminal.shown.endswith(NEXT)
    written = yaml.safe_load(file(tmp_path).read_text())
    models = [one["litellm_params"]["model"] for one in written["model_list"]]
    assert models == ["anthropic/claude-sonnet-4-6", "ollama/gemma3:1b"]
    assert written["konstruct"]["budgets"] == [{"usd": 2.5, "per": "day"}]
    assert (anthropic.calls, ollama.calls, llama_cpp.calls) == (1, 1, 0)


@pytest.mark.long
def test_at_a_terminal_with_nothing_there_a_key_is_asked_for_and_goes_into_the_keychain(
    env: Mapping[str, str], tmp_path: Path, ollama: Provider, lm_studio: Provider, llama_cpp: Provider, openai: Provider
) -> None:
    stop(ollama, lm_studio, llama_cpp)
    with at_a_terminal(env, "init") as (terminal, process):
        answer(terminal, "Of which provider do you have a key?", "openai")
        answer(terminal, "OPENAI_API_KEY (not shown): ", OPENAI_KEY)
        answer(terminal, "At most how many US dollars a day?", "0")
        terminal.read_until()
        assert process.wait(LIMIT_S) == 0, terminal.shown
    assert OPENAI_KEY not in terminal.shown + file(tmp_path).read_text()
    assert openai.requests[-1].headers["authorization"] == f"Bearer {OPENAI_KEY}"
    assert "budgets" not in yaml.safe_load(file(tmp_path).read_text())["konstruct"]


def test_where_there_is_no_keychain_nobody_types_a_key_for_nothing(
    env: Mapping[str, str], tmp_path: Path, ollama: Provider, lm_studio: Provider, llama_cpp: Provider
) -> None:
    stop(ollama, lm_studio, llama_cpp)
    none = {**env, "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    with at_a_terminal(none, "init") as (terminal, process):
        answer(terminal, "Of which provider do you have a key?", "openai")
        terminal.read_until()
        assert process.wait(LIMIT_S) == 1
    assert "not shown" not in terminal.shown
    assert "OPENAI_API_KEY cannot be put into the keychain: this system has no keychain" in terminal.shown
    assert not file(tmp_path).exists()


def test_the_project_that_claude_code_names_is_open(env: Mapping[str, str], tmp_path: Path) -> None:
    assert run("init", "--yes", env=env).code == 0
    assert load_config(file(tmp_path), env).file_access.roots == ()
    config = load_config(file(tmp_path), {**env, "CLAUDE_PROJECT_DIR": str(tmp_path)})
    assert config.file_access.roots == (tmp_path,)
    assert config.warnings == ()


def test_at_a_terminal_nothing_is_replaced_without_a_yes(env: Mapping[str, str], tmp_path: Path) -> None:
    file(tmp_path).parent.mkdir()
    file(tmp_path).write_text("mine")
    with at_a_terminal(env, "init") as (terminal, process):
        answer(terminal, "Replace it? It is kept beside [y/N]:", "")
        terminal.read_until()
        assert process.wait(LIMIT_S) == 0
    assert terminal.shown.endswith("nothing has changed\n")
    assert file(tmp_path).read_text() == "mine"


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.provider)
def test_a_model_that_it_names_is_known_and_not_retired(cloud: Any) -> None:
    known = Models().find(cloud.model, {})
    assert known["mode"] == "chat"
    assert known.get("deprecation_date", "9999") > datetime.now(UTC).date().isoformat()


@pytest.mark.parametrize(
    "name", ["a'b", 'a"b', "a: b", "{x}", "# no", "os.environ/HOME", "ä\N{SNOWMAN}", "a\\b", "null", "&ref"]
)
def test_whatever_a_model_is_called_the_file_names_it(tmp_path: Path, name: str) -> None:
    text = first_config(Chosen(locals=[Local("LM Studio", "lm_studio", (name,), "http://localhost:1234/v1")]))
    path = tmp_path / "config.yaml"
    path.write_text(text)
    [written] = yaml.safe_load(text)["model_list"]
    assert written["litellm_params"]["model"] == f"lm_studio/{name}"
    assert load_config(path, {"XDG_DATA_HOME": str(tmp_path)}).default_group == "local"


class TestConfig:
    def test_path_is_where_it_is_or_would_be(self, env: Mapping[str, str], tmp_path: Path) -> None:
        ran = run("config", "path", env=env)
        assert (ran.code, ran.out) == (0, f"{file(tmp_path)}\n")
        assert ran.err == "there is none, so the built-in config is used; `konstruct-mcp init` writes one\n"
        file(tmp_path).parent.mkdir()
        file(tmp_path).touch()
        assert run("config", "path", env=env).err == ""
        assert run("--config", "other.yaml", "config", "path", env=env).out == f"{Path.cwd()}/other.yaml\n"

    def test_show_is_what_is_used_with_every_secret_masked(self, env: Mapping[str, str], tmp_path: Path) -> None:
        path = tmp_path / "own.yaml"
        path.write_text("model_list: [{model_name: g, litellm_params: {model: openai/x, api_key: sk-plain-1}}]")
        ran = run("--config", path, "config", "show", env=env)
        assert yaml.safe_load(ran.out)["model_list"][0]["litellm_params"]["api_key"] == "***"
        assert json.loads(run("--config", path, "config", "show", "--json", env=env).out) == yaml.safe_load(ran.out)

    def test_validate_names_each_fault_and_asks_nobody(
        self, env: Mapping[str, str], tmp_path: Path, ollama: Provider
    ) -> None:
        path = tmp_path / "own.yaml"
        path.write_text("model_list: [{model_name: g, litellm_params: {model: ollama/x}}]\nkonstruct: {max_queue: -1}")
        ran = run("--config", path, "config", "validate", env=env)
        assert ran.code == 2
        assert "  konstruct.max_queue: should be greater than or equal to 0\n" in ran.out
        path.write_text("model_list: [{model_name: g, litellm_params: {model: ollama/x, oder: 1}}]")
        ran = run("--config", path, "config", "validate", env=env)
        assert (ran.code, ran.out) == (0, f"{path} can be used: 1 group, 1 deployment\n")
        assert "did you mean order?" in ran.err
        assert run("--config", path, "config", "validate", "--strict", env=env).code == 1
        assert ollama.requests == []

    def test_edit_opens_the_editor_and_validates_what_it_leaves(self, env: Mapping[str, str], tmp_path: Path) -> None:
        editor = tmp_path / "editor"
        editor.write_text(
            f"#!{sys.executable}\nimport sys, pathlib\npathlib.Path(sys.argv[1]).write_text('wrong: [')\n"
        )
        editor.chmod(0o700)
        env = {**env, "VISUAL": str(editor)}
        ran = run("config", "edit", env=env)
        assert (ran.code, "there is no config file yet; `konstruct-mcp init` writes one" in ran.err) == (2, True)
        file(tmp_path).parent.mkdir()
        file(tmp_path).write_text("model_list: []")
        ran = run("config", "edit", env=env)
        assert (ran.code, file(tmp_path).read_text()) == (2, "wrong: [")
        assert "cannot be used:\n" in ran.out
