"""Every fenced block of the README, CONTRIBUTING and `docs/` is run or parsed; one without a rule here is a failure."""

from __future__ import annotations

import itertools
import json
import os
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from pathlib import Path

import pytest
from support.default_groups import KEYS, connected, default_groups, opened
from support.fork_server import shared
from support.http_process import HttpProcess
from support.pages import BLOCKS, PAGES, REPOSITORY, Block
from support.providers import Provider, Status, Text
from support.reader import HOUSE, LIMIT_S, OWN_TABLE, PROJECT, Ran, Reader, at_home, built_in, reader_in, uv
from support.valkey import Valkey

from konstruct_mcp.config.reading import load_config

pytestmark = pytest.mark.timeout(LIMIT_S + 60)
CLIENTS = ("claude", "codex", "copilot", "gemini", "code", "opencode")
CI = (REPOSITORY / ".ci" / "run").read_text("utf-8")
TRY = 'konstruct-mcp complete --group embedded "Why is the sky blue?"'
TEST = "--group dev pytest"


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """That of the reference's example, which `check` looks at."""
    with Valkey() as server:
        yield server


@pytest.fixture
def reader(tmp_path: Path, anthropic: Provider, openai: Provider, ollama: Provider, valkey: Valkey) -> Reader:
    return reader_in(tmp_path, anthropic, openai, ollama, valkey.url)


# -- every block has a rule ------------------------------------------------------------------------------------------


def of_a_client(block: Block) -> bool:
    return block.page.startswith("docs/clients/")


def is_server_entry(block: Block) -> bool:
    if block.language == "yaml":
        return of_a_client(block)
    return block.language == "toml" or (block.language == "json" and ("ervers" in block.text or '"mcp"' in block.text))


def is_session(block: Block) -> bool:
    return block.language == "text" and block.text.startswith("$ ")


def is_first_program(block: Block) -> bool:
    return block.language == "python" and 'model_group="embedded"' in block.text


def is_test(block: Block) -> bool:
    return block.language == "python" and "\ndef test_" in block.text


def is_call(block: Block) -> bool:
    return block.language == "json" and block.page == "docs/answers.md"


def goes_on(block: Block) -> bool:
    return block.language == "json" and block.page == "docs/threads.md"


RULES: Mapping[str, Callable[[Block], bool]] = {
    "test_a_line_for_the_shell": lambda block: block.language == "sh",
    "test_the_output_is_what_the_command_prints": lambda block: block.language == "text" and not is_session(block),
    "test_the_session_is_what_a_run_shows": is_session,
    "test_a_client_starts_the_server_so": is_server_entry,
    "test_the_call_gives_the_result": is_call,
    "test_the_call_goes_on_with_a_thread": goes_on,
    "test_a_config_loads_without_a_word": lambda block: block.language == "yaml" and not of_a_client(block),
    "test_the_program_runs": is_first_program,
    "test_an_agent_in_python_starts_the_server_so": lambda block: block.language == "python" and of_a_client(block),
    "test_the_other_program_reads_answers": lambda block: (
        block.language == "python" and not is_first_program(block) and not is_test(block) and not of_a_client(block)
    ),
    "test_the_test_passes": lambda block: is_test(block),
}


def filter_blocks(rule: str) -> list[Block]:
    return [block for block in BLOCKS if RULES[rule](block)]


TESTS = "".join(file.read_text("utf-8") for file in Path(__file__).parent.glob("test_*.py"))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_has_one_rule(block: Block) -> None:
    [rule] = [name for name, holds in RULES.items() if holds(block)]
    assert f"def {rule}(" in TESTS


@pytest.mark.parametrize("page", PAGES)
def test_no_fence_is_overlooked(page: str) -> None:
    assert len(re.findall(r"^ *(?:```|~~~)", PAGES[page].text, re.MULTILINE)) == 2 * len(PAGES[page].blocks)


def test_there_is_one_session_one_call_and_a_page_of_programs() -> None:
    assert [block.page for block in BLOCKS if is_session(block)] == ["README.md"]
    assert len([block for block in BLOCKS if is_call(block)]) == 2
    programs = {block.page for block in BLOCKS if block.language == "python"}
    assert programs == {"docs/python.md", "docs/clients/python-agents.md"}


# -- the shell -------------------------------------------------------------------------------------------------------


def lines(block: Block) -> list[str]:
    """The commands of a block, one that goes over several lines in one."""
    return block.text.replace("\\\n", "").splitlines()


SHOWN = {line for block in BLOCKS if block.language == "text" and block.before for line in lines(block.before)}
LINES = dict.fromkeys(line for block in BLOCKS if block.language == "sh" for line in lines(block))  # each once


def marks(line: str) -> list[pytest.MarkDecorator]:
    """A stranger is spared the benchmarks, and most of the lines beneath the README."""
    if "benchmarks/" in line:
        return [pytest.mark.long]
    return [] if line in PAGES["README.md"].text else [pytest.mark.many_cases]


def serving(reader: Reader) -> HttpProcess:
    config = reader.folder / "konstruct.yaml"
    return HttpProcess(config, env=reader.fakes, listen="127.0.0.1:0", fork_server=shared())


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=marks(line))
        for line in LINES
        if line not in SHOWN and not line.startswith(CLIENTS)  # those are in `test_clients.py`
    ],
)
def test_a_line_for_the_shell(line: str, reader: Reader) -> None:
    words = shlex.split(line)
    match words:
        case ["python3", "-m", "pip", "install", "uv", "&&", "python3", "-m", "uv", "run", *rest]:
            if shlex.join(rest) != TEST:
                assert line.endswith(f" run {TRY}")
                assert_answers(reader.starts(uv(), *words[9:], cwd=REPOSITORY))
        case ["python3", "-m", "venv", where, "&&", python, "-m", "pip", "install", "uv"]:
            assert python == f"{where}/bin/python"
        case ["~/.uv-venv/bin/uv", "run", *_]:
            assert line.endswith(f" run {TRY}")
        case ["python3", "-m", "uv", "run", "printenv", "UV"]:
            ran = reader.starts(uv(), *words[3:], cwd=REPOSITORY)
            assert Path(ran.out.strip()).name == "uv", ran
        case ["pwd"]:
            pass
        case ["python3", "-m", "pip", "install", extras] if extras.startswith(".["):
            assert extras.endswith("]")
            assert set(extras[2:-1].split(",")) <= set(PROJECT["project"]["optional-dependencies"])
        case ["python3", "-m", "uv", "tool", "install", *_]:
            pass  # `tests/system/test_publishing.py` runs it
        case ["python3", "-m", "uv", "sync", "--inexact", *rest]:
            assert set(rest[::2]) == {"--extra"}
            assert set(rest[1::2]) <= set(PROJECT["project"]["optional-dependencies"])
        case ["python3", "-m", "uv", "run", "--extra", extra, "konstruct-mcp", "serve", "--http", *_]:
            assert extra in PROJECT["project"]["optional-dependencies"]
            with serving(reader) as server:
                assert server.http.get(f"{server.root}/healthz").status_code == 200
        case ["python3", "-m", "uv", "run", "python", file]:
            assert f"Save this as `{file}`." in PAGES["docs/python.md"].prose  # which `test_the_program_runs` does
        case ["python3", "-m", "pip", "install", "--no-deps", requirement]:
            assert requirement in PROJECT["dependency-groups"]["embedded"]
        case ["ollama", "pull", model]:
            config = built_in()
            assert f"ollama/{model}" in {d.model for group in config.groups.values() for d in group.deployments}
        case [".ci/run"]:
            assert os.access(REPOSITORY / line, os.X_OK)
        case ["python3", "-m", "uv", "run", "--group", "dev", "python", "benchmarks/ollama.py", "URL", "MODEL"]:
            assert (REPOSITORY / words[7]).is_file()  # asks a genuine Ollama
        case ["python3", "-m", "uv", "run", "--group", "dev", "python", benchmark, *options] if "benchmarks/" in line:
            assert_measures(benchmark, options, reader)
        case ["python3", "-m", "uv", "run", "--group", ("dev" | "docs"), *rest]:
            assert_develops(rest, line)
        case ["docker" | "kubectl", *_]:  # neither is at hand; `tests/system/test_deploy.py` has what can be held
            assert all((REPOSITORY / word).exists() for word in words if word.startswith("deploy/"))
        case ["sudo", "-u", user, "env", *given, script, "tenants", "create", _]:  # as the unit for systemd has them
            unit = (REPOSITORY / "deploy" / "konstruct-mcp.service").read_text("utf-8")
            assert f"User={user}" in unit
            assert f"Environment={' '.join(given)}\n" in unit
            assert f"ExecStart={script} serve" in unit
        case ["curl", url, *options]:
            told = [option for flag, option in zip(options[::2], options[1::2], strict=True) if flag == "-H"]
            with serving(reader) as server:
                assert url == "http://127.0.0.1:8321/mcp"
                headers = dict(header.split(": ") for header in told)
                answer = server.http.post(server.url, content=options[-1], headers=headers)
            assert '"name":"complete"' in answer.text
        case ["konstruct-mcp", "init"]:  # at a terminal, where `cli/test_init.py` runs it
            assert "init asks at a terminal" in reader.runs(line).errors
        case ["eval", script]:
            assert reader.starts("bash", "-c", f"{line}; complete -p konstruct-mcp").status == 0, script
        case ["konstruct-mcp", *_] | ["echo", _, "|", "konstruct-mcp", *_] | ["git", "diff", "|", "konstruct-mcp", *_]:
            for option, name in itertools.pairwise(words):
                if option == "--file":
                    place = reader.folder / name.replace("*", "any")
                    place.parent.mkdir(exist_ok=True)
                    place.write_text("something to read")
            ran = reader.runs(line)
            assert (ran.status, "warning" in ran.errors) == (0, False), ran
            if "--html" in words:
                assert (reader.folder / words[-1]).read_text("utf-8").startswith("<!doctype html>")
            elif "export" in words:
                assert (reader.folder / words[-1]).read_text("utf-8").startswith("id,time,tenant,")
            else:
                assert ran.out.strip()
            if "--json" in words:
                assert json.loads(ran.out)
        case ["python3", "-c", script, "ledger.sqlite3", "copy.sqlite3"]:
            assert "VACUUM INTO" in script  # which `cli/test_ledger.py` runs, on a ledger that is written meanwhile
        case _:
            assert_tries_another_litellm(words)


def assert_answers(ran: Ran) -> None:
    """The embedded model, by itself: each answer is another one, but not who gave it, and how that is said."""
    assert ran.status == 0, ran
    assert ran.out.strip()
    assert re.fullmatch(
        r"\(embedded/SmolLM2-135M-Instruct, [\d.]+ s, \d+ \+ \d+ tokens, \$0\)", ran.errors.splitlines()[-1]
    )


def assert_measures(benchmark: str, options: list[str], reader: Reader) -> None:
    """A benchmark: its short form, unless CI runs it; where options are named, whether it has them."""
    script = [sys.executable, str(REPOSITORY / benchmark)]
    if options or f"python {benchmark} --short" in CI:
        told = reader.starts(*script, "--help")
        assert told.status == 0, told
        assert all(option in told.out for option in options if option.startswith("--")), told.out
        return
    short, shows = {
        "benchmarks/soak.py": (["--calls", "200"], "nothing wrong\n"),
        "benchmarks/attacks.py": (["--only", "the tenant"], ", 0 of them not withstood; longest pause "),
        "benchmarks/ledger.py": (["--calls", "4", "--answer", "0.2", "--rounds", "2"], "ms"),
    }[benchmark]
    ran = reader.starts(*script, *short)
    assert ran.status == 0, ran
    assert shows in ran.out
    if benchmark in ("benchmarks/soak.py", "benchmarks/ledger.py"):  # the others say on stderr what they measure
        assert not ran.errors
    assert benchmark != "benchmarks/soak.py" or ran.out.endswith(shows)


def assert_develops(rest: list[str], line: str) -> None:
    """A command for who works on the code. What CI runs need only be the same there."""
    match rest:
        case ["pytest", "-n", "0", test]:
            file, _, name = test.partition("::")
            assert f"def {name}" in (REPOSITORY / file).read_text("utf-8")
        case ["pytest", "-n", "0", test, "-k", words]:
            assert words.replace(" ", "_") in (REPOSITORY / test).read_text("utf-8")
        case ["pytest", "-n", "0", "-m", "long", test]:
            assert "pytest.mark.long" in (REPOSITORY / test).read_text("utf-8")
        case ["pytest", "-m", marker]:
            assert any(told.startswith(f"{marker}:") for told in PROJECT["tool"]["pytest"]["ini_options"]["markers"])
        case ["python", "tests/tables.py", table]:
            assert f'"{table}": ' in (REPOSITORY / "tests" / "tables.py").read_text("utf-8")
        case ["python", script, *_] if script.startswith(".ci/"):
            assert (REPOSITORY / script).is_file()
        case _:
            assert line.removeprefix("python3 -m ") in CI


def assert_tries_another_litellm(words: list[str]) -> None:
    """What upgrading it takes: a second environment with one line in place of the pin. Nothing is fetched here."""
    match words:
        case ["echo", pin, ">", "override.txt"]:
            assert re.fullmatch(r"litellm==[\d.]+", pin)
        case ["python3", "-m", "uv", "venv", "newer"] | ["python3", "-m", "pip", "download", "--no-deps", "litellm"]:
            pass
        case ["python3", "-m", "uv", "pip", "install", *options]:
            told = ["--python", "newer", "--override", "override.txt", "--editable", ".", "--group", "dev"]
            assert options == told
        case ["newer/bin/python", "tests/tables.py", table]:
            assert f'"{table}": ' in (REPOSITORY / "tests" / "tables.py").read_text("utf-8")
        case _:
            pytest.fail(f"no rule for this line: {words}")


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "text" and not is_session(block)], ids=str
)
def test_the_output_is_what_the_command_prints(block: Block, reader: Reader) -> None:
    assert block.before is not None
    line = block.before.text.strip()

    if line.startswith("konstruct-mcp usage"):
        reader.has_spent(("quality", "openai/gpt-4o", 41, 2, 0, 96_210, 18_400, 12_000, 564_630_000))
        reader.has_spent(("fast", "ollama/qwen3:32b", 310, 0, 0, 402_117, 88_050, 0, 0))
        assert reader.runs(line) == Ran(0, block.text, "")
    else:
        ran = reader.runs_bare(line)
        assert ran == Ran(1 if "cannot be called" in block.text else 0, ran.out, "")
        # How long until a model is shut down is another number each day.
        told, said = (re.sub(r"in \d+ days?", "in 9 days", text) for text in (block.text, ran.out))
        assert said.replace(str(reader.folder), "/home/me/.local/share") == told


class TestTheTwoCommands:
    def test_come_first_among_the_commands_of_the_readme(self) -> None:
        told = [block.text.strip() for block in PAGES["README.md"].of("sh")]

        assert told[:2] == [f"python3 -m pip install uv && python3 -m uv run {rest}" for rest in (TRY, TEST)]

    def test_name_a_script_and_groups_that_there_are(self) -> None:
        assert "konstruct-mcp" in PROJECT["project"]["scripts"]
        assert any(requirement.startswith("pytest>") for requirement in PROJECT["dependency-groups"]["dev"])
        assert "embedded" in PROJECT["tool"]["uv"]["default-groups"]

    def test_are_the_ones_that_ci_runs(self) -> None:
        # CI's run adds options of its own, for coverage.
        assert f"python3 -m uv run {TEST}" in CI


def test_the_session_is_what_a_run_shows() -> None:
    """The text in the README, and the picture of it. Times and days are others each time."""

    def alike(text: str) -> str:
        return re.sub(r"\d{4}-\d\d-\d\d", "9999-99-99", re.sub(r"\d+\.\d s,", "9.9 s,", text))

    def texts(svg: str) -> list[str]:
        return [alike(unescape(text).replace("\xa0", " ")) for text in re.findall(r"<text [^>]*>(.*?)</text>", svg)]

    script = runpy.run_path(str(REPOSITORY / ".ci" / "session.py"))
    steps = script["run"]()
    picture = script["PICTURE"].read_text("utf-8")
    [block] = [block for block in BLOCKS if is_session(block)]

    assert alike(block.text) == alike(script["as_text"](steps))
    assert texts(picture) == texts(script["as_svg"](steps))
    assert not re.search(r"@font-face|@import|href|url\((?!#)", picture)  # it loads without a network


# -- data and programs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", filter_blocks("test_a_config_loads_without_a_word"), ids=str)
def test_a_config_loads_without_a_word(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "konstruct.yaml"
    path.write_text(block.text, "utf-8")
    path.with_name("models.json").write_text(OWN_TABLE)

    config = load_config(path, {**KEYS, **HOUSE, **at_home(tmp_path)})

    assert config.warnings == ()
    assert all(d.unavailable is None for group in config.groups.values() for d in group.deployments)


async def test_the_call_gives_the_result(
    tmp_path: Path, anthropic: Provider, openai: Provider, ollama: Provider
) -> None:
    arguments, result = (json.loads(block.text) for block in BLOCKS if is_call(block))
    usage = result["usage"]
    anthropic.script(Status(401))
    openai.script(Text(result["content"], usage=(usage["input_tokens"], usage["output_tokens"])))

    async with opened(tmp_path, default_groups(anthropic, openai, ollama)) as konstruct, connected(konstruct) as client:
        answer = (await client.call_tool("complete", arguments)).structured_content

    assert answer is not None
    for told in (answer, result, answer["attempts"][0], result["attempts"][0]):
        assert isinstance(told.pop("duration_ms"), int)
    assert len(answer.pop("thread")) == len(result.pop("thread"))  # another each time
    assert answer == result


async def test_the_call_goes_on_with_a_thread(
    tmp_path: Path, anthropic: Provider, openai: Provider, ollama: Provider
) -> None:
    [arguments] = [json.loads(block.text) for block in BLOCKS if goes_on(block)]
    anthropic.script(Text("Air scatters blue light."), Text("Red is left."))

    async with opened(tmp_path, default_groups(anthropic, openai, ollama)) as konstruct:
        first = await konstruct.complete("Why is the sky blue?", model_group="quality")
        assert len(first.thread or "") == len(arguments["continue"])
        async with connected(konstruct) as client:
            answer = (await client.call_tool("complete", {**arguments, "continue": first.thread})).structured_content

    assert answer is not None
    assert answer["content"] == "Red is left."
    roles = [message["role"] for message in anthropic.requests[-1].body["messages"]]
    assert roles == ["user", "assistant", "user"]


@pytest.mark.long  # as the first command of all, whose answer is the same model's
def test_the_program_runs(reader: Reader) -> None:
    [block] = filter(is_first_program, BLOCKS)

    (reader.folder / "ask.py").write_text(block.text, "utf-8")

    ran = reader.starts(uv(), "run", "--project", str(REPOSITORY), "python", "ask.py")

    assert (ran.status, ran.errors) == (0, "")
    *content, facts = ran.out.splitlines()
    assert "".join(content).strip()
    assert facts.startswith("embedded/SmolLM2-135M-Instruct embedded Usage(")


def test_the_other_program_reads_answers(
    reader: Reader, anthropic: Provider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = filter(RULES["test_the_other_program_reads_answers"], BLOCKS)
    anthropic.script(
        Text('{"summary": "It adds.", "faults": ["It subtracts."]}'),
        Text("Write a plus."),
        Text('{"summary": "It adds."}'),
    )
    for name, value in reader.fakes.items():
        monkeypatch.setenv(name, value)

    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})

    valid, mended, invalid = capsys.readouterr().out.splitlines()
    assert (valid, mended) == ("['It subtracts.']", "Write a plus.")
    assert invalid.startswith("invalid_answer: the answer of anthropic/claude-sonnet-4-6 does not fit Review: faults: ")
    assert invalid.endswith(' {"summary": "It adds."}')
    assert [message["role"] for message in anthropic.requests[1].body["messages"]] == ["user", "assistant", "user"]


def test_the_test_passes(reader: Reader) -> None:
    [block] = filter(is_test, BLOCKS)
    (reader.folder / "test_ask.py").write_text(block.text, "utf-8")

    ran = reader.starts(sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "test_ask.py")

    assert (ran.status, ran.errors) == (0, ""), ran
    assert "1 passed" in ran.out
