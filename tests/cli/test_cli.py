"""The command line as a person meets it: in process where only words and exit status matter, else a real process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import LIMIT_S, Ran, Terminal, ended, run, started
from support.default_groups import ANTHROPIC_KEY, KEYS, OPENAI_KEY, default_groups, entry, write
from support.providers import Changed, Gate, Hang, Provider, Status, Text

CLAUDE, GPT, QWEN = "anthropic/claude-sonnet-4-6", "openai/gpt-4o", "ollama/qwen3:32b"


@pytest.fixture
def groups(anthropic: Provider, openai: Provider, ollama: Provider) -> dict[str, Any]:
    groups = default_groups(anthropic, openai, ollama)
    for each in groups["model_list"]:
        if each["litellm_params"]["model"] == GPT:  # whose end is near by the table
            each["model_info"] = {"deprecation_date": "2099-12-31"}
    return groups


@pytest.fixture
def config(groups: dict[str, Any], tmp_path: Path) -> Path:
    return write(tmp_path, groups)


class TestComplete:
    def test_prints_the_answer_on_stdout_and_the_rest_on_stderr(
        self, config: Path, anthropic: Provider, openai: Provider
    ) -> None:
        anthropic.script(Status(404))
        openai.script(Text("Forty-two.\nOr so."))

        ran = run("--config", config, "complete", "What is it?", "--group", "quality")

        assert (ran.code, ran.out) == (0, "Forty-two.\nOr so.\n")
        attempt, summary = ran.err.splitlines()
        assert attempt == f"({CLAUDE}: no such model (HTTP 404))"
        assert summary.startswith(f"({GPT}, ")
        assert summary.endswith(" s, 11 + 7 tokens, $0.0000975)")
        assert openai.requests[0].body["messages"] == [{"role": "user", "content": "What is it?"}]

    def test_the_summary_names_what_is_free_unpriced_or_cut_short(
        self, groups: dict[str, Any], tmp_path: Path, openai: Provider, ollama: Provider
    ) -> None:
        groups["model_list"].append(entry("new", {"model": "openai/new", "api_base": openai.url, "api_key": "k"}))
        ollama.script(Text("Once upon", finish="length"))
        config = write(tmp_path, groups)

        assert run("--config", config, "complete", "Hi", "--group", "new").err.endswith("tokens, unpriced)\n")
        assert run("--config", config, "complete", "Hi").err.endswith("tokens, $0, ended by length)\n")

    def test_as_json_it_is_the_whole_result(self, config: Path, anthropic: Provider) -> None:
        anthropic.script(Status(404))

        ran = run("--config", config, "complete", "Hi", "--group", "quality", "--json")

        answer = json.loads(ran.out)
        assert (ran.code, ran.err) == (0, "")
        assert (answer["content"], answer["model"]) == ("Hello from openai", GPT)
        assert [attempt["deployment"] for attempt in answer["attempts"]] == [CLAUDE]

    def test_a_system_message_goes_first(self, config: Path, ollama: Provider) -> None:
        assert run("--config", config, "complete", "Hi", "--system", "Be brief.").code == 0
        assert ollama.requests[0].body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ]

    @pytest.mark.parametrize(
        ("stdin", "asked"),
        [
            ("Grüße\n".encode(), "Grüße\n"),
            (b"caf\xe9 \xff", "caf\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"),
        ],
    )
    def test_a_dash_reads_the_prompt_from_stdin(self, config: Path, ollama: Provider, stdin: bytes, asked: str) -> None:
        assert run("--config", config, "complete", "-", stdin=stdin).code == 0
        assert ollama.requests[0].body["messages"] == [{"role": "user", "content": asked}]

    def test_what_is_piped_in_is_added_to_the_prompt(self, config: Path, ollama: Provider) -> None:
        for options in ((), ("--stdin",)):
            ran = run("--config", config, "complete", "Review this", *options, stdin="- größer\n+ größte\n".encode())
            assert ran.code == 0
            asked = ollama.requests[-1].body["messages"]
            assert asked == [{"role": "user", "content": "Review this\n\n- größer\n+ größte\n"}]

    def test_more_than_a_request_may_hold_is_a_mistake(self, config: Path) -> None:
        changed = yaml.safe_load(config.read_text("utf-8"))
        changed["konstruct"]["max_request_chars"] = 1000
        config.write_text(yaml.safe_dump(changed), "utf-8")
        ran = run("--config", config, "complete", "Review this", stdin=b"x" * 5000)
        assert (ran.code, ran.out) == (2, "")
        assert "stdin is longer than 1,000 characters (konstruct.max_request_chars)" in ran.err

    @pytest.mark.long  # it is waited for as long as a person would wait
    def test_a_pipe_that_nobody_writes_to_is_passed_over(self, config: Path, ollama: Provider) -> None:
        """As an agent leaves one open. What begins in time is read to its end, however late that is."""
        with started("--config", config, "complete", "Hi", stdin=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read() == b"Hello from ollama\n"
            said = process.stderr.read().decode()
            assert process.wait(LIMIT_S) == 0
        assert said.startswith("(stdin: nothing came within 3 s, so it is left out; --stdin waits for it)\n")
        assert ollama.requests[-1].body["messages"] == [{"role": "user", "content": "Hi"}]

    def test_nothing_is_said_where_there_is_no_stdin(self, config: Path, ollama: Provider) -> None:
        with started("--config", config, "complete", "Hi") as process:
            out, said = process.communicate(timeout=LIMIT_S)
        assert (out, b"stdin" in said) == (b"Hello from ollama\n", False)
        assert ollama.requests[-1].body["messages"] == [{"role": "user", "content": "Hi"}]

    def test_a_file_goes_with_it(self, config: Path, ollama: Provider, tmp_path: Path) -> None:
        folder = tmp_path / "mine"
        folder.mkdir()
        (folder / "a.py").write_text("print(1)\n")
        (folder / "b.py").write_text("print(2)\n")
        (folder / ".env").write_text("TOKEN=1")
        with chdir(folder):
            ran = run("--config", config, "complete", "Review", "--file", "a.py", "--file", folder / "b.py", "--json")
            answer = json.loads(ran.out)
            assert answer["files"] == [{"path": "a.py", "bytes": 9}, {"path": "b.py", "bytes": 9}]
            [message] = ollama.requests[-1].body["messages"]
            assert re.search(r'<file \w+ path="a.py" lines="1">\nprint\(1\)\n</file', message["content"])
            assert message["content"].endswith("\nReview")
            ran = run("--config", config, "complete", "Review", "--file", ".env")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == (
            'error: file_refused: nothing was sent; ".env": not there, not readable, or kept back because it may hold '
            "secrets\n"
        )

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (
                ("Hi", "--group", "fats"),
                'error: unknown_group: no group "fats"; did you mean fast? groups: balanced, fast, quality',
            ),
            (
                ("Hi", "--tenant", "a b"),
                "error: invalid_argument: tenant_id: should be 1 to 128 letters, digits or any of . _ : @ -",
            ),
        ],
    )
    def test_a_mistake_is_one_line_and_status_2(self, config: Path, arguments: tuple[str, ...], line: str) -> None:
        assert run("--config", config, "complete", *arguments) == Ran(2, "", f"{line}\n")

    def test_a_tenant_of_the_right_form_is_accepted_and_told_to_nobody(self, config: Path, ollama: Provider) -> None:
        assert run("--config", config, "complete", "Hi", "--tenant", "acme").code == 0
        assert "acme" not in json.dumps([ollama.requests[0].body, ollama.requests[0].headers])

    def test_with_all_providers_down_it_fails(
        self, config: Path, anthropic: Provider, openai: Provider, ollama: Provider
    ) -> None:
        for provider in (anthropic, openai, ollama):
            provider.script(Status(404, "the provider's own words"))

        ran = run("--config", config, "complete", "Hi", "--group", "quality")

        assert (ran.code, ran.out) == (1, "")
        assert ran.err == (
            'error: all_failed: no deployment of "quality" or its fallbacks answered: '
            f"{CLAUDE}: no such model (HTTP 404); {GPT}: no such model (HTTP 404); {QWEN}: no such model (HTTP 404); "
            "use another group, or have it set up\n"
        )

    def test_without_a_key_it_says_which(self, groups: dict[str, Any], tmp_path: Path, anthropic: Provider) -> None:
        groups["router_settings"] = {}

        ran = run("--config", write(tmp_path, groups), "complete", "Hi", "--group", "quality", env={})

        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("error: unavailable: ")
        assert f"{CLAUDE}: not tried, ANTHROPIC_API_KEY is not set" in ran.err
        assert anthropic.calls == 0

    def test_a_lone_surrogate_in_an_answer_is_replaced(self, config: Path, ollama: Provider) -> None:
        ollama.script(Text("half \ud83d a smile, a whole \N{GRINNING FACE}"))

        assert run("--config", config, "complete", "Hi").out == "half ? a smile, a whole \N{GRINNING FACE}\n"
        answer = json.loads(run("--config", config, "complete", "Hi", "--json").out)
        assert answer["content"] == "half \N{REPLACEMENT CHARACTER} a smile, a whole \N{GRINNING FACE}"

    def test_effort_limit_and_deadline_are_those_of_the_call(
        self, config: Path, anthropic: Provider, ollama: Provider
    ) -> None:
        counted = {"output_tokens_details": {"thinking_tokens": 5}}
        anthropic.script(Changed(Text("No."), lambda body: body["usage"].update(counted)))
        ollama.script(Hang())
        asked = ("complete", "Hi", "--effort", "low", "--max-tokens", "4000")

        ran = run("--config", config, *asked, "--group", "quality", "--timeout", "60")
        late = run("--config", config, *asked, "--group", "fast", "--timeout", "0.5")

        assert (ran.code, ran.out) == (0, "No.\n")
        assert "11 + 7 tokens, 5 of them reasoning, $" in ran.err
        body = anthropic.requests[0].body
        assert (body["output_config"], body["max_tokens"]) == ({"effort": "low"}, 4000)
        assert late.code == 1
        assert late.err.startswith("error: timeout: no answer within 0.5 s")

    def test_a_thread_on_disk_is_continued_by_the_next_command(
        self, groups: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        groups["konstruct"]["threads"] = {"keep": "disk"}
        config, env = write(tmp_path, groups), {**KEYS, "XDG_DATA_HOME": str(tmp_path)}
        ollama.script(Text("Blue."), Text("Red."))

        first = run("--config", config, "complete", "The sky?", env=env)
        *_, told = first.err.splitlines()
        words = told.strip("()").removeprefix("to continue: ").split()
        second = run("--config", config, "complete", "At sunset?", *words, "--json", env=env)

        assert words[0] == "--continue"
        assert [message["content"] for message in ollama.requests[-1].body["messages"]] == [
            *("The sky?", "Blue.", "At sunset?")
        ]
        answer = json.loads(second.out)
        assert answer["content"] == "Red."
        assert answer["thread"] not in (None, words[1])

    def test_where_threads_end_with_the_command_none_is_shown_and_continue_says_what_to_set(
        self, config: Path, ollama: Provider
    ) -> None:
        assert "--continue" not in run("--config", config, "complete", "Hi").err
        assert "thread" not in json.loads(run("--config", config, "complete", "Hi", "--json").out)
        assert run("--config", config, "complete", "Hi", "--continue", "a" * 26) == Ran(
            2,
            "",
            "error: unknown_thread: a command's threads end with it; to continue one, set `threads: {keep: disk}` in "
            "the config's section konstruct\n",
        )
        assert ollama.calls == 2

    @pytest.mark.parametrize("words", [("",), (" \n",), ("-",), ("", "--system", "Be kind.")])
    def test_nothing_is_paid_where_there_is_nothing_to_ask(
        self, config: Path, ollama: Provider, words: tuple[str, ...]
    ) -> None:
        ran = run("--config", config, "complete", *words)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.endswith("Error: there is nothing to ask: PROMPT is empty\n")
        assert ollama.requests == []

    def test_a_pipe_gets_what_the_model_wrote_to_the_letter(self, config: Path, ollama: Provider) -> None:
        ollama.script(Text("\x1b[31mred\x1b[0m\ttab"))
        assert run("--config", config, "complete", "Hi").out == "\x1b[31mred\x1b[0m\ttab\n"


class TestGroups:
    def test_are_listed_with_what_each_deployment_offers(self, config: Path) -> None:
        ran = run("--config", config, "groups", env={"OPENAI_API_KEY": OPENAI_KEY})

        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines() == [
            f"fast: {QWEN}",
            f"  {QWEN}  ready; free; structured_output",
            f"balanced: {QWEN}, then {CLAUDE}; the default group; falls back to fast",
            f"  {QWEN}             ready; free; structured_output",
            f"  {CLAUDE}  ANTHROPIC_API_KEY is not set; $3 in, $15 out per million tokens; "
            "window of 1,000,000 tokens; tools, vision, pdf, structured_output",
            f"quality: {CLAUDE}, then {GPT}; falls back to fast",
            f"  {CLAUDE}  ANTHROPIC_API_KEY is not set; $3 in, $15 out per million tokens; "
            "window of 1,000,000 tokens; tools, vision, pdf, structured_output",
            f"  {GPT}                ready; $2.5 in, $10 out per million tokens; "
            "window of 128,000 tokens; tools, vision, pdf, structured_output; retires 2099-12-31",
        ]

    def test_have_their_descriptions_and_say_when_no_price_is_known(
        self, groups: dict[str, Any], tmp_path: Path, openai: Provider
    ) -> None:
        groups["konstruct"]["groups"] = {"fast": {"description": "quick answers"}}
        groups["model_list"].append(entry("new", {"model": "openai/new", "api_base": openai.url, "api_key": "k"}))

        out = run("--config", write(tmp_path, groups), "groups").out

        assert "fast: quick answers\n" in out
        assert out.endswith("new: openai/new\n  openai/new  ready; unpriced\n")

    def test_as_json_are_what_an_assistant_sees(self, config: Path) -> None:
        ran = run("--config", config, "groups", "--json", env={})

        answer = json.loads(ran.out)
        assert (ran.code, answer["default_group"]) == (0, "balanced")
        states = {d["model"]: d.get("reason") for group in answer["groups"] for d in group["deployments"]}
        assert states == {QWEN: None, CLAUDE: "ANTHROPIC_API_KEY is not set", GPT: "OPENAI_API_KEY is not set"}

    def test_of_the_built_in_config_need_no_file(self, tmp_path: Path) -> None:
        out = run("groups", env={"XDG_CONFIG_HOME": str(tmp_path)}).out
        titles = [line.partition(":")[0] for line in out.splitlines() if not line.startswith(" ")]
        assert titles == ["local", "fast", "economy", "balanced", "quality", "embedded", "default group"]


class TestCheck:
    def test_says_that_all_is_ready_and_asks_nobody(
        self, config: Path, anthropic: Provider, openai: Provider, ollama: Provider
    ) -> None:
        ran = run("--config", config, "check")

        assert (ran.code, ran.err) == (0, "")
        assert ran.out == (
            "group     model                        state\n"
            f"fast      {QWEN}             ready\n"
            f"balanced  {QWEN}             ready\n"
            f"balanced  {CLAUDE}  ready\n"
            f"quality   {CLAUDE}  ready\n"
            f"quality   {GPT}                ready\n"
            f"\nconfig: {config}\n"
            f"ledger: {os.environ['XDG_DATA_HOME']}/konstruct-mcp/ledger.sqlite3\n"
            "all 5 deployments are ready\n"
        )
        assert anthropic.requests == openai.requests == ollama.requests == []

    def test_names_files_of_a_server_that_cannot_be_read(self, groups: dict[str, Any], tmp_path: Path) -> None:
        gone, there = str(tmp_path / "gone.pem"), write(tmp_path, groups)
        issuer = {"issuer": "https://login.example/", "audience": "models", "jwks_file": gone}
        groups["konstruct"] = {"http": {"tls_cert": gone, "tls_key": str(there)}, "auth": {"jwt": issuer}}

        ran = run("--config", write(tmp_path, groups), "check")

        assert ran.code == 1
        assert f'konstruct.auth.jwt[0].jwks_file: "{gone}" cannot be read: No such file or directory\n' in ran.out
        assert f'konstruct.http.tls_cert: "{gone}" cannot be read: No such file or directory\n' in ran.out
        assert "tls_key" not in ran.out

    def test_names_a_folder_of_files_that_is_not_there(self, groups: dict[str, Any], tmp_path: Path) -> None:
        here, gone = tmp_path / "here", tmp_path / "gone"
        here.mkdir()
        groups["konstruct"]["files"] = {"roots": [str(here), str(gone)]}
        out = run("--config", write(tmp_path, groups), "check").out
        assert f"there is no folder {gone}, of which files may be sent" in out.splitlines()
        assert f"no folder {here}" not in out

    def test_says_what_cannot_be_called_and_why(self, config: Path) -> None:
        ran = run("--config", config, "check", env={"OPENAI_API_KEY": OPENAI_KEY})

        assert ran.code == 1
        assert ran.out.count("ANTHROPIC_API_KEY is not set\n") == 2
        assert ran.out.endswith("\n2 of 5 deployments cannot be called; the state above says why\n")

    def test_names_every_fault_with_its_place(self, groups: dict[str, Any], tmp_path: Path) -> None:
        groups["model_list"][1]["litellm_params"]["order"] = "first"
        groups["router_settings"] = {"fallbacks": [{"quality": ["fats"]}]}
        groups["konstruct"] = {"defalt_group": "fast", "timeout_s": 0}

        ran = run("--config", write(tmp_path, groups), "check")

        assert ran.code == 2
        order, fallback = ran.err.splitlines()
        assert order.startswith("warning: model_list[1].litellm_params.order: should be a valid integer")
        assert fallback.startswith('warning: router_settings.fallbacks[0].quality[0]: no group "fats"; groups: ')
        title, *faults = ran.out.splitlines()
        assert title == 'the config file "konstruct.yaml" cannot be used:'
        assert sorted(fault.split(": ")[0] for fault in faults) == [
            "  konstruct.defalt_group",
            "  konstruct.timeout_s",
        ]

    def test_live_asks_each_for_one_token_and_twins_once(
        self, config: Path, anthropic: Provider, openai: Provider, ollama: Provider
    ) -> None:
        ran = run("--config", config, "check", "--live")

        assert ran.code == 0
        assert ran.out.endswith("\nall 5 deployments answer\n")
        for provider in (anthropic, openai, ollama):
            assert provider.calls == 1
        assert anthropic.requests[-1].body["max_tokens"] == 1
        assert openai.requests[-1].body["max_tokens"] == 1
        assert ollama.requests[-1].body["options"]["num_predict"] == 1

    @pytest.mark.parametrize(
        ("says", "answers"),
        [
            ("Could not finish the message because max_tokens or model output limit was reached. Please try again with "
             "higher max_tokens.", True),
            ("Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 1.", True),
            ("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
             False),
            ("max_tokens: Extra inputs are not permitted", False),
            ("Unrecognized request argument supplied: max_tokens", False),
        ],
    )  # fmt: skip
    def test_live_takes_the_refusal_of_one_token_for_an_answer_and_no_other(
        self, config: Path, openai: Provider, says: str, answers: bool
    ) -> None:
        openai.script(Status(400, says))
        ran = run("--config", config, "check", "--live")

        assert ran.code == (0 if answers else 1)
        assert (says in ran.out) is not answers

    def test_live_says_which_do_not_answer_and_why(
        self, config: Path, anthropic: Provider, openai: Provider, ollama: Provider
    ) -> None:
        anthropic.script(Status(401))
        ollama.stop()

        ran = run("--config", config, "check", "--live")

        assert ran.code == 1
        table = [line.split(maxsplit=2) for line in ran.out.splitlines()[1:6]]
        assert table == [
            ["fast", QWEN, "connection failed (refused)"],
            ["balanced", QWEN, "connection failed (refused)"],
            ["balanced", CLAUDE, "key refused (HTTP 401)"],
            ["quality", CLAUDE, "key refused (HTTP 401)"],
            ["quality", GPT, "answers"],
        ]
        assert ran.out.endswith("\n4 of 5 deployments cannot be called; the state above says why\n")
        assert (anthropic.calls, openai.calls) == (1, 1)

    def test_live_does_not_ask_one_without_a_key(self, config: Path, anthropic: Provider) -> None:
        ran = run("--config", config, "check", "--live", env={"OPENAI_API_KEY": OPENAI_KEY})
        assert ran.code == 1
        assert "ANTHROPIC_API_KEY is not set" in ran.out
        assert anthropic.calls == 0

    def test_tells_two_deployments_of_one_model_apart(
        self, groups: dict[str, Any], tmp_path: Path, openai: Provider
    ) -> None:
        model = {"model": GPT, "api_base": openai.url, "api_key": "os.environ/OPENAI_API_KEY"}
        groups["model_list"] += [
            entry("pair", model, order=1),
            entry("pair", model | {"api_key": "other-key"}, order=2),
        ]

        out = run("--config", write(tmp_path, groups), "check").out

        assert [line.split()[1] for line in out.splitlines() if line.startswith("pair ")] == [GPT, f"{GPT}#2"]
        assert "other-key" not in out


class TestTheConfig:
    def test_is_named_by_the_environment_too(self, config: Path, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere.yaml"
        elsewhere.write_text(yaml.safe_dump({"model_list": [entry("only", {"model": "openai/x", "api_key": "k"})]}))
        by_environment = run("groups", env={"KONSTRUCT_CONFIG": str(elsewhere)})
        by_option = run("--config", config, "groups", env={"KONSTRUCT_CONFIG": str(elsewhere)})
        assert by_environment.out.startswith("only: ")
        assert by_option.out.startswith("fast: ")

    @pytest.mark.parametrize("command", [(), ("serve",), ("complete", "Hi"), ("groups",), ("groups", "--json")])
    def test_when_broken_is_refused_by_every_command_but_the_server(
        self, tmp_path: Path, command: tuple[str, ...]
    ) -> None:
        broken = tmp_path / "broken.yaml"
        broken.write_text(f"model_list: [\nkey: {OPENAI_KEY}")

        ran = run("--config", broken, *command)

        serves = command in ((), ("serve",))  # until its input ends, which it has
        assert (ran.code, ran.out) == (0 if serves else 2, "")
        assert ran.err.startswith('the config file "broken.yaml" cannot be used:\n  line ')
        assert len(ran.err.splitlines()) == 2

    @pytest.mark.parametrize("command", [("complete", "Hi"), ("groups",), ("check",)])
    def test_when_missing_says_so(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        ran = run("--config", tmp_path / "missing.yaml", *command)
        assert ran.code == 2
        assert ran.out + ran.err == (
            'the config file "missing.yaml" cannot be used:\n  cannot be read: No such file or directory\n'
        )

    @pytest.mark.parametrize("command", [("complete", "Hi"), ("groups",), ("check",), ("check", "--live")])
    def test_warns_once_on_stderr(self, groups: dict[str, Any], tmp_path: Path, command: tuple[str, ...]) -> None:
        groups["general_settings"] = {"master_key": "sk-master-1234"}

        config = write(tmp_path, groups)
        ran = run("--config", config, *command)

        assert ran.code == 0
        assert "warning" not in ran.out
        if command[0] == "check":
            assert ran.err.count("warning: ") == ran.err.count("general_settings") == 1
        else:
            assert ran.err.startswith(f"1 warning about the config; see `konstruct-mcp --config {config} check`\n")
            assert "general_settings" not in ran.err
        assert "sk-master-1234" not in ran.err

    def test_check_names_models_that_look_misspelt(self, tmp_path: Path) -> None:
        params: list[dict[str, Any]] = [
            {"model": "anthropic/claude-sonet-4-6"},
            {"model": "openai/frobnicator"},
            {"model": "openai/gpt-4o"},
            {"model": "openai/our-own", "api_base": "http://127.0.0.1:1/v1"},
            {"model": "ollama/our-own"},
        ]
        config = {"model_list": [entry("g", {**one, "api_key": "k"}) for one in params]}

        ran = run("--config", write(tmp_path, config), "check")

        assert [line for line in ran.out.splitlines() if "no table" in line] == [
            "anthropic/claude-sonet-4-6 is in no table of models; did you mean claude-sonnet-4-6?",
        ]
        assert ran.code == 0

    def test_check_names_what_has_no_effect_beside_the_faults(self, groups: dict[str, Any], tmp_path: Path) -> None:
        groups["general_settings"] = {"master_key": "sk-master-1234"}
        groups["konstruct"]["timeout_s"] = -1

        ran = run("--config", write(tmp_path, groups), "check")

        assert ran.code == 2
        assert ran.err == "warning: no effect here: general_settings\n"
        assert "konstruct.timeout_s: " in ran.out

    def test_check_of_one_deployment_says_so_and_strict_that_all_has_an_effect(self, tmp_path: Path) -> None:
        one = {"model_list": [entry("g", {"model": "openai/gpt-4o"})]}

        ran = run("--config", write(tmp_path, one), "check", "--strict")

        assert ran.code == 0
        assert ran.out.endswith("\nthe one deployment is ready\nnothing in the config is without effect\n")
        ran = run("--config", write(tmp_path, one), "check", env={"OPENAI_API_KEY": ""})
        assert ran.out.endswith("\nthe one deployment cannot be called; the state above says why\n")


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (("compete",), "Error: No such command 'compete'."),
            (("complete",), "Error: Missing argument 'PROMPT'."),
            (("complete", "Hi", "--grupe", "x"), "Error: No such option '--grupe'"),
            (("groups", "--config", "x"), "Error: No such option '--config'"),
            (("--config",), "Error: Option '--config' requires an argument."),
        ],
    )
    def test_are_named_in_one_line_and_end_with_status_2(self, arguments: tuple[str, ...], line: str) -> None:
        ran = run(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.splitlines()[-1].startswith(line)

    def test_a_log_level_that_does_not_exist_is_one(self) -> None:
        ran = run("groups", env={"KONSTRUCT_LOG_LEVEL": "chatty"})
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.splitlines()[-1] == (
            "Error: KONSTRUCT_LOG_LEVEL should be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"
        )


def test_the_version_is_the_packages() -> None:
    assert run("--version") == Ran(0, f"konstruct-mcp, version {version('konstruct-mcp')}\n", "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command_and_each_explains_itself(flag: str) -> None:
    ran = run(flag)
    assert ran.code == 0
    commands = [line.split()[0] for line in ran.out.partition("Commands:\n")[2].splitlines()]
    assert commands == [
        "attach",
        "budgets",
        "check",
        "complete",
        "config",
        "credentials",
        "detach",
        "groups",
        "init",
        "keys",
        "ledger",
        "models",
        "serve",
        "tenants",
        "usage",
    ]
    assert "..." not in ran.out.partition("Commands:\n")[2]  # none is cut short
    for command in commands:
        usage = run(command, flag).out.splitlines()[0]
        assert usage.startswith("Usage: ")
        assert f" {command} [OPTIONS]" in usage


def test_the_module_is_the_script(config: Path) -> None:
    script = Path(sys.executable).with_name("konstruct-mcp")
    ran = [
        subprocess.run([*command, "--config", config, "groups", "--json"], capture_output=True, timeout=LIMIT_S)
        for command in ([script], [sys.executable, "-m", "konstruct_mcp"])
    ]
    assert ran[0].stdout == ran[1].stdout != b""
    assert [(r.returncode, r.stderr) for r in ran] == [(0, b"")] * 2


def test_ctrl_c_ends_a_call_at_once(config: Path, ollama: Provider) -> None:
    ollama.script(Hang())
    with started("--config", config, "complete", "Hi", "--group", "fast", forked=False) as process:
        ollama.wait_for(lambda: ollama.in_flight == 1, LIMIT_S)
        process.send_signal(signal.SIGINT)
        ran = ended(process)
    assert (ran.code, ran.out, ran.err.strip()) == (130, "", "")
    ollama.wait_for(lambda: ollama.disconnected == 1)


@pytest.mark.long
def test_a_terminal_that_cannot_show_a_character_shows_another(config: Path, ollama: Provider) -> None:
    ollama.script(Text("Grüße \N{GRINNING FACE} \ud83d"))
    env = {**KEYS, "PYTHONIOENCODING": "ascii", "KONSTRUCT_LOG_LEVEL": "debug"}
    with started("--config", config, "complete", "Hi", env=env, forked=False) as process:
        ran = ended(process)
    assert (ran.code, ran.out) == (0, "Gr??e ? ?\n")


def test_the_log_names_failures_and_no_secret(config: Path, anthropic: Provider) -> None:
    anthropic.script(Status(401, f"you said {ANTHROPIC_KEY}"))
    command = ("--config", config, "complete", "tell nobody", "--group", "quality")
    # Of others, whose libraries tell what is sent; the organization has OpenAI's client asked.
    others = {"OPENAI_LOG": "debug", "LITELLM_LOG": "DEBUG", "OPENAI_ORGANIZATION": "house"}
    others["LITELLM_PRINT_STANDARD_LOGGING_PAYLOAD"] = "1"
    with started(*command, env={**KEYS, **others, "KONSTRUCT_LOG_LEVEL": "DEBUG"}, forked=False) as process:
        ran = ended(process)
    assert (ran.code, ran.out) == (0, "Hello from openai\n")
    assert f"konstruct-mcp: INFO: {CLAUDE}: key refused (HTTP 401)\n" in ran.err
    for told in ("tell nobody", "uthorization", "x-stainless", "HTTP Request"):
        assert told not in ran.err


def test_nothing_that_the_command_line_names_rewrites_a_terminal(config: Path) -> None:
    name = "\x1b[2J\u202e\x9b"
    folder = config.parent / name
    folder.mkdir()
    config = config.rename(folder / config.name)
    said = []
    for arguments in (
        ["check"],
        ["usage", "--html", folder / "page.html"],
        ["usage", "--html", folder],
        ["usage", "--tenant", name],
        ["usage", "--since", name],
        ["complete", "Hi", "--group", name],
        [name],
        [f"--{name}"],
    ):
        ran = run("--config", config, *arguments)
        said.append(ran.out + ran.err)
        assert said[-1]
    assert "written to " in said[1]
    assert not set("".join(said)) & set("\x1b\u202e\x9b")


class TestWhereTheOutputGoes:
    def test_a_reader_that_has_gone_is_no_error_to_talk_about(self, config: Path) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with started("--config", config, "groups", stdout=writing, forked=False) as process:
            os.close(writing)
            ran = ended(process)
        assert (ran.code, ran.err) == (1, "")

    def test_a_full_disk_is_named(self, config: Path) -> None:
        with (
            Path("/dev/full").open("wb") as full,
            started("--config", config, "groups", stdout=full.fileno(), forked=False) as process,
        ):
            ran = ended(process)
        assert (ran.code, ran.err) == (1, "error: No space left on device\n")

    @pytest.mark.many_cases
    @pytest.mark.parametrize(("closed", "command"), [(">&-", ("groups",)), ("2>&-", ("groups",)), ("<&-", ("serve",))])
    def test_what_the_shell_closed_is_not_missed(self, config: Path, closed: str, command: tuple[str, ...]) -> None:
        line = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "konstruct_mcp", "--config", str(config)]
        ran = subprocess.run([*line, *command], capture_output=True, timeout=LIMIT_S)
        assert (ran.returncode, ran.stderr) == (0, b"")
        assert bool(ran.stdout) is (closed == "2>&-")


class TestAtATerminal:
    def test_serve_says_what_it_is_doing_there(self, config: Path) -> None:
        with (
            Terminal() as terminal,
            started("--config", config, stdin=terminal.theirs, stderr=terminal.theirs) as process,
        ):
            terminal.hand_over()
            shown = terminal.read_until(lambda: "Ctrl-C" in terminal.shown)
            terminal.type(b"\x04")  # Ctrl-D
            assert ended(process) == Ran(0, "", "")
        assert shown.startswith("konstruct-mcp serves the Model Context Protocol on this terminal's input and output;")

    def test_serve_in_a_pipe_says_nothing(self, config: Path) -> None:
        with started("--config", config, "serve") as process:
            assert ended(process) == Ran(0, "", "")

    def test_complete_shows_that_it_waits_and_hides_control_characters(self, config: Path, ollama: Provider) -> None:
        ollama.script(Gate("\x1b[2Jcleared?\r\n\tno\u202e\u2066\u200f\x9b"))
        with (
            Terminal() as terminal,
            started(
                "--config",
                config,
                "complete",
                "Hi",
                env={"TERM": "xterm"},
                stdout=terminal.theirs,
                stderr=terminal.theirs,
            ) as process,
        ):
            terminal.hand_over()
            terminal.read_until(lambda: "trying ollama/qwen3:32b" in terminal.shown)
            ollama.wait_for(lambda: ollama.in_flight == 1, LIMIT_S)
            ollama.release()
            shown = terminal.read_until()
            assert process.wait(LIMIT_S) == 0
        mark = "\N{REPLACEMENT CHARACTER}"
        assert f"{mark}[2Jcleared?{mark}\n        no{mark * 4}\n" in shown.expandtabs()

    @pytest.mark.long
    def test_a_name_that_is_waited_for_cannot_rewrite_it(self, config: Path) -> None:
        name = "\x1b]0;title\x07\u202e[red]"
        with (
            Terminal() as terminal,
            started("--config", config, "complete", "Hi", "--group", name, stderr=terminal.theirs) as process,
        ):
            terminal.hand_over()
            shown = terminal.read_until()
            assert process.wait(LIMIT_S) == 2
        assert "waiting for ?]0;title??[red]" in shown
        assert "\x1b]0" not in shown

    @pytest.mark.many_cases
    @pytest.mark.parametrize("command", ["groups", "check"])
    @pytest.mark.parametrize("columns", [50, 80])
    def test_what_is_listed_fits_it_and_nothing_is_cut(self, config: Path, command: str, columns: int) -> None:
        with (
            Terminal(columns) as terminal,
            started("--config", config, command, env={}, stdout=terminal.theirs) as process,
        ):
            terminal.hand_over()
            shown = terminal.read_until()
            assert process.wait(LIMIT_S) == (1 if command == "check" else 0)
        listed = shown.partition("\n\n")[0].splitlines()
        assert max(map(len, listed)) <= columns
        assert [line for line in listed if line != line.rstrip()] == []
        words = " ".join(shown.split())
        for whole in (QWEN, CLAUDE, GPT, "OPENAI_API_KEY is not set"):
            assert whole in words
