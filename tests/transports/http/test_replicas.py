"""Two servers of one installation, of which a client reaches now one and now the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.databases import Database
from support.default_groups import HELLO, write
from support.fork_server import ForkServer
from support.http_process import HttpProcess, headers_for, message
from support.http_server import over_http
from support.priced_config import priced_config
from support.processes import wait_for
from support.providers import Hang, Provider
from support.valkey import Valkey

from konstruct_mcp import Konstruct


@dataclass(frozen=True)
class Installation:
    """Two servers, and the keys of two tenants; each client sends its own."""

    config: Path
    first: HttpProcess
    second: HttpProcess
    valkey: Valkey
    ann: dict[str, str]
    carl: dict[str, str]


@pytest.fixture
async def installation(
    tmp_path: Path,
    ledger: Database,
    openai: Provider,
    anthropic: Provider,
    ollama: Provider,
    fork_server: ForkServer | None,
) -> Any:
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        konstruct = {
            "tenants": {"default": None, "ann": {"groups": ["paid"]}},
            "auth": {"required": True, "recheck_s": 0.2},
            "http": {"pause_s": 0, "max_body_bytes": 20_000_000},
            "redis_url": valkey.url,
        }
        config = write(tmp_path, priced_config(ledger, openai, anthropic, ollama, **konstruct))
        async with Konstruct.from_config(config) as made:
            await made.create_tenant("carl", {"groups": ["paid"]})
            keys = [(await made.create_key(tenant)).key for tenant in ("ann", "carl")]
        ann, carl = ({"authorization": f"Bearer {key}"} for key in keys)
        first, second = (
            stack.enter_context(HttpProcess(config, token=keys[0], fork_server=fork_server)) for _ in range(2)
        )
        valkey.wait_for_servers(2)
        yield Installation(config, first, second, valkey, ann, carl)


def cancel(server: HttpProcess, caller: dict[str, str], request_id: int, session: str) -> None:
    sent = message("notifications/cancelled", {"requestId": request_id}, "2025", id=None)
    assert server.post(sent, "2025", **{"mcp-session-id": session}, **caller).status_code == 202


@contextmanager
def hanging(installation: Installation, openai: Provider) -> Iterator[Any]:
    """A call of ann's at the first server, which its provider does not answer; its response."""
    openai.script(Hang())
    with installation.first.under_way("paid", "2025", session="a name", id=7) as response:
        openai.wait_for(lambda: openai.in_flight == 1)
        yield response


def test_a_cancellation_reaches_its_call_at_the_other_server_and_no_call_of_another_tenant(
    installation: Installation, ledger: Database, openai: Provider
) -> None:
    first, second = installation.first, installation.second
    with hanging(installation, openai) as response:
        cancel(second, installation.carl, 7, "a name")
        cancel(first, installation.carl, 7, "a name")
        assert second.ask("ping", era="2025") == first.ask("ping", era="2025") == {}
        assert openai.in_flight == 1
        cancel(second, installation.ann, 7, "a name")
        assert "cancelled by its client" in response.read().decode()
    openai.wait_for(lambda: openai.disconnected == 1)
    assert [row["outcome"] for row in ledger.rows()] == ["cancelled"]
    assert ledger.reserved("ann") == 0


def test_a_cancellation_that_valkey_does_not_take_comes_when_it_answers_again(
    installation: Installation, ledger: Database, openai: Provider
) -> None:
    second = installation.second
    with hanging(installation, openai) as response:
        with installation.valkey.frozen():
            cancel(second, installation.ann, 8, "a name")  # by which it finds out
            wait_for(lambda: any("is away" in line for line in second.said))
            cancel(second, installation.ann, 7, "a name")
            assert openai.in_flight == 1
        assert "cancelled by its client" in response.read().decode()
    openai.wait_for(lambda: openai.disconnected == 1)
    assert [row["outcome"] for row in ledger.rows()] == ["cancelled"]


@pytest.mark.many_cases
@pytest.mark.parametrize("era", ["2026", "2025"])
async def test_a_client_of_the_sdk_cancels_its_call_in_its_own_way(
    installation: Installation, ledger: Database, openai: Provider, era: str
) -> None:
    openai.script(Hang())
    key = installation.ann["authorization"].removeprefix("Bearer ")
    async with over_http(installation.first.url, key, era) as client:
        call = asyncio.create_task(client.call_tool("complete", {"messages": HELLO, "model_group": "paid"}))
        await asyncio.to_thread(openai.wait_for, lambda: openai.in_flight == 1)
        call.cancel()
        await asyncio.to_thread(openai.wait_for, lambda: openai.disconnected == 1)
        await asyncio.to_thread(wait_for, lambda: bool(ledger.rows()))
    assert [row["outcome"] for row in ledger.rows()] == ["cancelled"]
    assert ledger.reserved("ann") == 0


async def test_a_key_that_is_revoked_is_refused_by_both(installation: Installation) -> None:
    asked = message("tools/list")

    def statuses(caller: dict[str, str]) -> list[int]:
        headers = headers_for(asked, "2026") | caller
        servers = (installation.first, installation.second)
        return [httpx2.post(server.url, json=asked, headers=headers, timeout=60).status_code for server in servers]

    assert statuses(installation.carl) == [200, 200]
    async with Konstruct.from_config(installation.config) as konstruct:
        await konstruct.revoke_key(installation.carl["authorization"].removeprefix("Bearer "))
    wait_for(lambda: statuses(installation.carl) == [401, 401])
    assert statuses(installation.ann) == [200, 200]


async def test_whoever_listens_at_one_hears_of_a_change_that_the_other_has_taken_up(
    installation: Installation,
) -> None:
    first, second = installation.first, installation.second
    sent = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    headers = headers_for(sent, "2026") | installation.carl

    def tools() -> str:
        asked = message("tools/list")
        return httpx2.post(second.url, json=asked, headers=headers_for(asked, "2026") | installation.carl).text

    with first.http.stream("POST", first.url, json=sent, headers=headers) as response:
        lines = response.iter_lines()
        while "acknowledged" not in next(lines):
            pass
        assert '"free"' not in tools()
        async with Konstruct.from_config(installation.config) as konstruct:
            await konstruct.set_tenant("carl", {"groups": ["free"]})
        wait_for(lambda: '"free"' in tools())
        while "notifications/tools/list_changed" not in next(lines):
            pass


def test_whoever_is_refused_is_told_so_however_much_they_send(installation: Installation) -> None:
    server = installation.first
    for size, status in ((10_000_000, 401), (21_000_000, 401)):
        body = b" " * size
        refused = httpx2.post(
            server.url, content=body, headers={"authorization": "Bearer nothing", "content-type": "application/json"}
        )
        assert refused.status_code == status
    large = {**message("ping", era="2025"), "padding": "x" * 20_000_000}
    assert server.post(large, "2025").status_code == 413
    assert server.ask("ping", era="2025") == {}
