"""A call that its client cancels, at each stage of its way: nothing is sent after that, and the account says so."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.databases import Database
from support.default_groups import write
from support.fork_server import ForkServer
from support.priced_config import COST_NUSD, priced_config
from support.processes import wait_for
from support.providers import Gate, Hang, Provider, Status, Text
from support.stdio_lines import ServerProcess, call

WATCHED = str(Path(__file__).parents[1] / "support" / "watched_server.py")
BUDGET = {"usd": 1, "per": "total"}


class Scene:
    """A server whose groups fall from `strong` (Anthropic) to `paid` (OpenAI) to `free` (Ollama), with a budget."""

    def __init__(self, server: ServerProcess, ledger: Database) -> None:
        self.server, self.ledger = server, ledger
        server.initialize()
        server.ask("resources/read", {"uri": "konstruct://usage"})  # the ledger is open

    def call(self, group: str, **arguments: Any) -> int:
        return self.server.send("tools/call", {**call(group, **arguments), "_meta": {"progressToken": 1}})

    def wait_until_it_waits_for(self, what: str) -> None:
        """Until the call's progress says so."""
        while what not in self.server.notice("notifications/progress")["params"]["message"]:
            pass

    def cancel(self, request: int) -> None:
        self.server.notify("notifications/cancelled", {"requestId": request})

    def row(self) -> dict[str, Any]:
        """The row of the only call there is."""
        wait_for(lambda: bool(self.ledger.rows()))
        (row,) = self.ledger.rows()
        return row

    def assert_over(self, request: int, outcome: str = "cancelled", attempts: int = 0) -> dict[str, Any]:
        row = self.row()
        assert (row["outcome"], row["attempts"]) == (outcome, attempts)
        assert self.ledger.reserved("default") == 0
        assert self.server.ask("ping") == {}
        assert not self.server.has_answer(request)
        assert b"Traceback" not in self.server.errors
        return row


@pytest.fixture
def config(ledger: Database, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path) -> Path:
    made = priced_config(ledger, openai, anthropic, ollama, budgets=[BUDGET], max_concurrency=1)
    made["router_settings"]["num_retries"] = 2
    return write(tmp_path, made)


@pytest.fixture
def scene(config: Path, ledger: Database, fork_server: ForkServer | None) -> Iterator[Scene]:
    with ServerProcess(config, fork_server=fork_server) as server:
        yield Scene(server, ledger)


@pytest.mark.long
def test_before_litellm_is_loaded(config: Path, ledger: Database, openai: Provider, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with ServerProcess(config, command=[sys.executable, WATCHED, "held-import", str(gate)]) as server:
        scene = Scene(server, ledger)
        request = scene.call("paid")
        scene.wait_until_it_waits_for("LiteLLM to load")
        scene.cancel(request)
        scene.assert_over(request)
        gate.write_bytes(b"")
        assert not server.complete("paid")["isError"]
    assert openai.calls == 1


def test_while_it_waits_for_its_turn(scene: Scene, openai: Provider, ollama: Provider) -> None:
    ollama.script(Gate("first"))
    first = scene.call("free")
    ollama.wait_for(lambda: ollama.in_flight == 1)
    request = scene.call("paid")
    scene.wait_until_it_waits_for("its turn")
    scene.cancel(request)
    scene.assert_over(request)
    ollama.release()
    assert not scene.server.answer(first)["result"]["isError"]
    assert openai.calls == 0


def test_while_the_ledger_is_asked_what_is_left(scene: Scene, ledger: Database, openai: Provider) -> None:
    with ledger.locked():
        request = scene.call("paid")
        scene.wait_until_it_waits_for("the ledger, before openai/paid is asked")
        scene.cancel(request)
        assert scene.server.ask("ping") == {}
    scene.assert_over(request)
    assert openai.calls == 0


def test_while_it_waits_for_a_retry(scene: Scene, openai: Provider, ollama: Provider) -> None:
    openai.script(Status(429, headers={"retry-after": "60"}), Text("too late"))
    request = scene.call("paid")
    scene.wait_until_it_waits_for("another try of it")
    scene.cancel(request)
    scene.assert_over(request, attempts=1)
    assert (openai.calls, ollama.calls) == (1, 0)


@pytest.mark.parametrize("group", ["strong", "paid", "free"])
def test_while_a_provider_is_asked(
    scene: Scene, anthropic: Provider, openai: Provider, ollama: Provider, group: str
) -> None:
    providers = {"strong": anthropic, "paid": openai, "free": ollama}
    for provider in providers.values():
        provider.script(Hang())
    request = scene.call(group, max_tokens=10)
    asked = providers[group]
    asked.wait_for(lambda: asked.in_flight == 1)
    scene.cancel(request)
    asked.wait_for(lambda: asked.disconnected == 1, timeout=3)  # at once, on a machine that is busy
    row = scene.assert_over(request, attempts=1)
    assert row["cost_nusd"] == (0 if group == "free" else None)  # what the provider has counted nobody knows
    assert [provider.calls for provider in providers.values()] == [int(one is asked) for one in providers.values()]


def test_in_a_fallback(scene: Scene, anthropic: Provider, openai: Provider, ollama: Provider) -> None:
    anthropic.script(Status(401))
    openai.script(Hang())
    request = scene.call("strong", max_tokens=10)
    openai.wait_for(lambda: openai.in_flight == 1)
    scene.cancel(request)
    openai.wait_for(lambda: openai.disconnected == 1, timeout=3)
    scene.assert_over(request, attempts=2)
    assert (anthropic.calls, openai.calls, ollama.calls) == (1, 1, 0)


def test_while_its_row_is_written_it_stays_on_the_account_as_answered(
    scene: Scene, ledger: Database, openai: Provider
) -> None:
    openai.script(Gate("billed"))
    request = scene.call("paid")
    openai.wait_for(lambda: openai.in_flight == 1)
    with ledger.locked():
        openai.release()
        scene.wait_until_it_waits_for("the ledger to take note of the answer")
        scene.cancel(request)
        assert scene.server.ask("ping") == {}
    assert scene.assert_over(request, "ok", attempts=1)["cost_nusd"] == COST_NUSD
