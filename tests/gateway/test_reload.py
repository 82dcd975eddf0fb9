"""The config file changes while the server runs."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
import yaml
from support.default_groups import HELLO, KEYS, default_groups, entry, replace, write
from support.fork_server import ForkServer
from support.processes import wait_for
from support.providers import Gate, Provider, Status, Text
from support.stdio_lines import ServerProcess

from konstruct_mcp import ConfigError, Konstruct, UnknownGroupError
from konstruct_mcp.config.public import public_config

NOTICES = ("notifications/tools/list_changed", "notifications/resources/list_changed")


@pytest.fixture
def config(anthropic: Provider, openai: Provider, ollama: Provider) -> dict[str, Any]:
    return default_groups(anthropic, openai, ollama)


@pytest.fixture
def path(config: dict[str, Any], tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return write(tmp_path / "folder", config)


def groups(server: ServerProcess, *, modern: bool = False) -> list[str]:
    tool = server.ask("tools/list", modern=modern)["tools"][0]
    return list(tool["inputSchema"]["properties"]["model_group"]["enum"])


def shown(server: ServerProcess, *, modern: bool = False) -> dict[str, Any]:
    contents = server.ask("resources/read", {"uri": "konstruct://config"}, modern=modern)["contents"]
    return dict(yaml.safe_load(contents[0]["text"]))


class TestFromAConfigThatCannotBeUsed:
    """A client only says that a server has failed to start, so it starts."""

    WRONG = "model_list:\n  - model_name: a\n    litellm_params: openai/x\n"
    FAULT = "model_list[0].litellm_params: should be an object"

    @pytest.mark.parametrize("was", ["wrong", "not there", "in no folder"])
    def test_it_answers_with_the_faults_and_takes_up_the_mended_file(
        self, tmp_path: Path, config: dict[str, Any], fork_server: ForkServer | None, was: str
    ) -> None:
        path = tmp_path / "later" / "konstruct.yaml"
        said = self.FAULT if was == "wrong" else "cannot be read: No such file or directory"
        if was != "in no folder":
            path.parent.mkdir()
        if was == "wrong":
            path.write_text(self.WRONG, "utf-8")
        with ServerProcess(path, fork_server=fork_server) as server:
            server.initialize()
            tools = server.ask("tools/list")["tools"]
            assert [tool["name"] for tool in tools] == ["complete", "list_groups"]
            assert tools[0]["inputSchema"]["properties"]["model_group"] == {"type": "string"}
            for tool, arguments in (("complete", {"messages": HELLO}), ("list_groups", {})):
                answer = server.ask("tools/call", {"name": tool, "arguments": arguments})
                assert answer["isError"]
                text = answer["content"][0]["text"]
                assert text.startswith("config: 1 fault in the file that KONSTRUCT_CONFIG names")
                assert said in text
                assert str(tmp_path) not in text
            for uri in ("konstruct://groups", "konstruct://groups/fast", "konstruct://config", "konstruct://usage"):
                assert said in server.answer(server.send("resources/read", {"uri": uri}))["error"]["message"]
            argument = {"ref": {"type": "ref/resource", "uri": "konstruct://groups/{name}"}}
            completed = server.ask("completion/complete", {**argument, "argument": {"name": "name", "value": ""}})
            assert completed["completion"]["values"] == []
            path.parent.mkdir(exist_ok=True)
            replace(path, config)
            for notice in NOTICES:
                server.notice(notice)
            assert groups(server) == ["fast", "balanced", "quality"]
            assert not server.complete("fast")["isError"]
            assert "faults" not in shown(server)
            wait_for(lambda: b"in use now; groups: fast, balanced, quality" in server.errors)
        assert server.errors.decode().count(said) == 1

    def test_other_faults_are_told_and_the_ledger_is_that_of_the_first_that_can_be_used(
        self, tmp_path: Path, config: dict[str, Any], fork_server: ForkServer | None
    ) -> None:
        path = tmp_path / "konstruct.yaml"
        path.write_text(self.WRONG, "utf-8")
        with ServerProcess(path, fork_server=fork_server) as server:
            server.initialize()
            replace(path, {**config, "konstruct": {"timeout_s": 0}})
            other = "konstruct.timeout_s: should be greater than 0"
            call = {"name": "list_groups", "arguments": {}}
            wait_for(lambda: other in server.ask("tools/call", call)["content"][0]["text"])
            wait_for(lambda: other.encode() in server.errors)
            assert b"nothing changes" not in server.errors
            ledger = tmp_path / "ledger.sqlite3"
            replace(path, {**config, "konstruct": {"ledger_url": f"sqlite:///{ledger}"}})
            server.notice(NOTICES[0])
            assert not server.complete("fast")["isError"]
            assert ledger.exists()

    def test_a_tenants_server_says_nothing_of_what_the_file_holds(
        self, tmp_path: Path, fork_server: ForkServer | None
    ) -> None:
        path = tmp_path / "konstruct.yaml"
        path.write_text(self.WRONG, "utf-8")
        with ServerProcess(path, fork_server=fork_server, environ={"KONSTRUCT_TENANT_ID": "t"}) as server:
            server.initialize()
            text = server.ask("tools/call", {"name": "list_groups", "arguments": {}})["content"][0]["text"]
            assert text.endswith("cannot be used; the server's log says why")
            wait_for(lambda: self.FAULT.encode() in server.errors)

    async def test_in_python_and_for_the_commands_it_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "konstruct.yaml"
        path.write_text(self.WRONG, "utf-8")
        with pytest.raises(ConfigError, match="litellm_params"):
            Konstruct.from_config(path)
        async with Konstruct.for_server(path) as konstruct:
            for ask in (konstruct.complete(HELLO), konstruct.budgets(), konstruct.usage(), konstruct.check()):
                with pytest.raises(ConfigError, match="litellm_params"):
                    await ask
            with pytest.raises(ConfigError, match="litellm_params"):
                konstruct.groups()


class TestOverAPipe:
    @pytest.fixture
    def server(self, path: Path, fork_server: ForkServer | None) -> Iterator[ServerProcess]:
        with ServerProcess(path, fork_server=fork_server) as server:
            yield server

    def test_a_change_is_announced_to_a_client_of_the_handshake_era(
        self, server: ServerProcess, path: Path, config: dict[str, Any], openai: Provider
    ) -> None:
        capabilities = server.initialize()["capabilities"]
        assert capabilities["tools"]["listChanged"] is capabilities["resources"]["listChanged"] is True
        assert "house" not in groups(server)
        config["model_list"].append(entry("house", {"model": "openai/h", "api_base": openai.url, "api_key": "k"}))
        replace(path, config)
        for notice in NOTICES:
            server.notice(notice)
        assert groups(server) == ["fast", "balanced", "quality", "house"]
        assert "house" in str(shown(server)["model_list"])
        assert not server.complete("house")["isError"]
        line = b"the config has changed and is in use now; groups: fast, balanced, quality, house"
        wait_for(lambda: line in server.errors)

    def test_a_change_is_announced_to_a_client_of_the_modern_era_that_listens(
        self, server: ServerProcess, path: Path, config: dict[str, Any]
    ) -> None:
        listed = server.ask("server/discover", modern=True)["capabilities"]
        assert listed["tools"]["listChanged"] is listed["resources"]["listChanged"] is True
        assert "fast" in groups(server, modern=True)
        wanted = {
            "toolsListChanged": True,
            "resourcesListChanged": True,
            "resourceSubscriptions": ["konstruct://config", "konstruct://groups"],
        }
        listening = server.send("subscriptions/listen", {"notifications": wanted}, modern=True)
        server.notice("notifications/subscriptions/acknowledged")
        config["konstruct"]["groups"] = {"fast": {"description": "changed"}}
        replace(path, config)
        updated = "notifications/resources/updated"
        notices = [server.notice(method)["params"] for method in (*NOTICES, updated, updated)]
        assert {notice["_meta"]["io.modelcontextprotocol/subscriptionId"] for notice in notices} == {listening}
        assert [notice["uri"] for notice in notices[2:]] == ["konstruct://config", "konstruct://groups"]
        assert shown(server, modern=True)["konstruct"]["groups"]["fast"]["description"] == "changed"

    def test_one_that_is_wrong_changes_nothing_and_says_what_is_wrong(
        self, server: ServerProcess, path: Path, config: dict[str, Any]
    ) -> None:
        server.initialize()
        before = shown(server)
        replace(path, {**config, "konstruct": {"default_group": "fats", "timeout_s": 0}})
        wait_for(lambda: "faults" in shown(server))
        now = shown(server)
        assert now.pop("faults") == [
            "konstruct.timeout_s: should be greater than 0",
            'konstruct.default_group: no group "fats"; groups: balanced, fast, quality',
        ]
        assert now == before
        assert groups(server) == ["fast", "balanced", "quality"]
        assert not server.complete("fast")["isError"]
        wait_for(lambda: server.errors.endswith(b"\n"))
        (line,) = server.errors.decode().splitlines()
        assert "cannot be used, so nothing changes: 2 faults in" in line
        assert 'default_group: no group "fats"' in line
        assert str(path.parent) not in line
        replace(path, config)
        wait_for(lambda: "faults" not in shown(server))
        assert shown(server) == before
        wait_for(lambda: b"the config can be used again, and is what is in use" in server.errors)
        assert server.notices == []  # no list has changed

    @pytest.mark.parametrize("way", ["in place", "in two steps", "through a link", "gone for a moment"])
    def test_however_it_is_written(
        self, path: Path, config: dict[str, Any], fork_server: ForkServer | None, way: str
    ) -> None:
        home = path.parent.parent
        if way == "through a link":
            first = path.rename(home / "first.yaml")
            path.symlink_to(first)
        with ServerProcess(path, fork_server=fork_server) as server:
            server.initialize()
            assert groups(server)
            config["konstruct"]["default_group"] = "quality"
            text = yaml.safe_dump(config)
            match way:
                case "in place":
                    path.write_text(text)
                case "in two steps":
                    with path.open("w") as file:
                        file.write(text[:40])
                        file.flush()
                        wait_for(lambda: "faults" in shown(server))
                        file.write(text[40:])
                case "through a link":
                    (home / "second.yaml").write_text(text)
                    link = home / "link"
                    link.symlink_to(home / "second.yaml")
                    link.replace(path)
                case _:
                    path.unlink()
                    wait_for(lambda: "faults" in shown(server))
                    assert "cannot be read: No such file" in shown(server)["faults"][0]
                    path.write_text(text)
            wait_for(lambda: shown(server)["konstruct"]["default_group"] == "quality")
            assert "faults" not in shown(server)

    def test_a_folder_that_goes_away_ends_nothing(self, server: ServerProcess, path: Path) -> None:
        server.initialize()
        assert groups(server)
        path.parent.rename(path.parent.with_name("elsewhere"))
        wait_for(lambda: "faults" in shown(server))
        assert not server.complete("fast")["isError"]
        path.parent.with_name("elsewhere").rename(path.parent)
        wait_for(lambda: "faults" not in shown(server))


class TestInPython:
    async def test_calls_under_way_end_on_what_held_when_they_came(
        self, path: Path, config: dict[str, Any], ollama: Provider, openai: Provider
    ) -> None:
        ollama.script(Gate("the old one"))
        openai.script(Text("the new one"))
        config["model_list"] = [entry("fast", {"model": "openai/new", "api_base": openai.url, "api_key": "k"})]
        config["router_settings"], config["konstruct"] = {}, {}
        async with Konstruct.from_config(path, environ=KEYS) as konstruct:
            under_way = [asyncio.create_task(konstruct.complete(HELLO, model_group=g)) for g in ("fast", "balanced")]
            await ollama.until(lambda: ollama.in_flight == 2)
            replace(path, config)
            assert await konstruct.reload()
            assert (await konstruct.complete(HELLO, model_group="fast")).content == "the new one"
            with pytest.raises(UnknownGroupError):
                await konstruct.complete(HELLO, model_group="balanced")
            assert [status.name for status in konstruct.groups()] == ["fast"]
            ollama.release()
            assert [(await call).content for call in under_way] == ["the old one"] * 2
            assert not await konstruct.reload()  # nothing has changed since

    async def test_what_stays_keeps_its_health_and_its_limits(
        self, path: Path, config: dict[str, Any], ollama: Provider, openai: Provider
    ) -> None:
        one = {"model": "ollama/one", "api_base": ollama.url, "max_parallel_requests": 1}
        dead = {"model": "openai/dead", "api_base": openai.url, "api_key": "k", "num_retries": 0}
        config["model_list"] += [entry("one", one), entry("dead", dead)]
        config["router_settings"]["allowed_fails"] = 0
        openai.script(Status(500))
        ollama.script(Gate("held"))
        replace(path, config)
        async with Konstruct.from_config(path, environ=KEYS) as konstruct:
            with pytest.raises(Exception, match="server error"):
                await konstruct.complete(HELLO, model_group="dead")
            held = asyncio.create_task(konstruct.complete(HELLO, model_group="one"))
            await ollama.until(lambda: ollama.in_flight == 1)
            config["konstruct"]["timeout_s"] = 7
            replace(path, config)
            assert await konstruct.reload()
            assert konstruct.group("dead").deployments[0].state == "cooling_down"
            second = asyncio.create_task(konstruct.complete(HELLO, model_group="one"))
            third = asyncio.create_task(konstruct.complete(HELLO, model_group="fast"))
            await ollama.until(lambda: ollama.in_flight == 2)
            ollama.release()
            await asyncio.gather(held, second, third)
            assert ollama.most_in_flight == 2  # `one` has had one at a time

    async def test_a_variable_that_the_file_no_longer_sets_is_gone(
        self, path: Path, config: dict[str, Any], openai: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        # Of the process itself, as a server has it.
        monkeypatch.setenv("KONSTRUCT_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.sqlite3")
        monkeypatch.setenv("OURS_BEFORE", "of the process")
        monkeypatch.delenv("OURS_ALONE", raising=False)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        config["model_list"] = [entry("g", {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "k"})]
        config["router_settings"], config["konstruct"] = {}, {}
        config["environment_variables"] = {"OURS_BEFORE": "of the file", "OURS_ALONE": "sk-of-the-file"}
        replace(path, config)
        openai.script(Text("one"), Text("two"))
        async with Konstruct.from_config(path) as konstruct:
            await konstruct.complete(HELLO)
            assert (os.environ["OURS_BEFORE"], os.environ["OURS_ALONE"]) == ("of the file", "sk-of-the-file")
            config["environment_variables"] = {}
            config["model_list"][0]["litellm_params"]["api_key"] = "os.environ/OURS_ALONE"
            replace(path, config)
            assert await konstruct.reload()
            assert konstruct.group("g").deployments[0].reason == "OURS_ALONE is not set"
            assert os.environ["OURS_BEFORE"] == "of the process"
            assert "OURS_ALONE" not in os.environ
            config["environment_variables"] = {"OURS_BEFORE": "of the file again"}
            config["model_list"][0]["litellm_params"]["api_key"] = "k"
            replace(path, config)
            assert await konstruct.reload()
            await konstruct.complete(HELLO)
            assert os.environ["OURS_BEFORE"] == "of the file again"
        assert os.environ["OURS_BEFORE"] == "of the process"

    async def test_a_ledger_elsewhere_waits_for_the_next_start(
        self, path: Path, config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Konstruct.from_config(path, environ=KEYS) as konstruct:
            before = public_config(konstruct.config)["konstruct"]["ledger_url"]
            config["konstruct"] |= {"ledger_url": f"sqlite:///{tmp_path}/other.sqlite3", "timeout_s": 7}
            replace(path, config)
            assert await konstruct.reload()
            assert konstruct.config.timeout_s == 7
            assert public_config(konstruct.config)["konstruct"]["ledger_url"] == before
            await konstruct.complete(HELLO, model_group="fast")
        assert "konstruct.ledger_url has changed, which takes effect at the next start" in caplog.text
        assert not (tmp_path / "other.sqlite3").exists()

    async def test_what_a_server_over_http_settles_at_its_start_is_said_to_wait(
        self, path: Path, config: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        waits = "has changed, which takes effect at the next start of a server over HTTP"
        async with Konstruct.from_config(path, environ=KEYS) as konstruct:
            config["konstruct"] |= {"auth": {"required": True}}
            replace(path, config)
            assert await konstruct.reload()
            assert f"whether callers are verified (konstruct.auth) {waits}" in caplog.text
            assert caplog.text.count(waits) == 1
            config["konstruct"] |= {"http": {"drain_s": 7}, "metrics": {"listen": "off"}}
            replace(path, config)
            assert await konstruct.reload()
            assert f"konstruct.http {waits}" in caplog.text
            assert f"konstruct.metrics {waits}" in caplog.text
            config["konstruct"] |= {"auth": {"required": True, "recheck_s": 3}}
            replace(path, config)
            assert await konstruct.reload()
        assert caplog.text.count(waits) == 3

    async def test_one_that_is_wrong_is_an_error_and_changes_nothing(self, path: Path) -> None:
        async with Konstruct.from_config(path, environ=KEYS) as konstruct:
            before = konstruct.config
            replace(path, "model_list: []")
            with pytest.raises(ConfigError):
                await konstruct.reload()
            assert konstruct.config is before
            assert konstruct.config_faults == ("model_list: no deployment",)

    async def test_one_keeps_nothing_of_the_earlier_from_the_garbage_collector(
        self, path: Path, config: dict[str, Any]
    ) -> None:
        """As all that is frozen would be, which a server does with what it has imported."""
        async with Konstruct.from_config(path, environ=KEYS) as konstruct:
            await konstruct.complete(HELLO, model_group="fast")
            gc.freeze()
            try:
                frozen = gc.get_freeze_count()
                config["konstruct"]["timeout_s"] = 100
                replace(path, config)
                assert await konstruct.reload()
                await konstruct.complete(HELLO, model_group="fast")
                assert gc.get_freeze_count() <= frozen
            finally:
                gc.unfreeze()

    async def test_many_changes_under_load_fail_no_call_and_leave_nothing_behind(
        self, path: Path, config: dict[str, Any]
    ) -> None:
        async with Konstruct.from_config(path, environ=KEYS) as konstruct:
            await konstruct.complete(HELLO, model_group="fast")
            listeners = len(litellm.success_callback) + len(litellm._async_success_callback)
            done = asyncio.Event()
            answers = 0

            async def ask() -> None:
                nonlocal answers
                while not done.is_set():
                    await konstruct.complete(HELLO, model_group="fast")
                    answers += 1

            async with asyncio.TaskGroup() as tasks:
                for _ in range(5):
                    tasks.create_task(ask())
                for n in range(20):
                    config["konstruct"]["timeout_s"] = 100 + n
                    replace(path, config)
                    assert await konstruct.reload()
                done.set()
            assert answers > 20
            await konstruct.complete(HELLO, model_group="fast")
            assert len(litellm.success_callback) + len(litellm._async_success_callback) == listeners
