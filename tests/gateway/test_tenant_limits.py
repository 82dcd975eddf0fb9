"""What one tenant may do within a minute and at once, and that it is nobody else's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.databases import sqlite
from support.default_groups import entry, opened
from support.providers import Gate, Provider, Text

from konstruct_mcp import RateLimitedError
from konstruct_mcp.config.model import Tenant
from konstruct_mcp.core.events import Refused
from konstruct_mcp.gateway.tenant_limits import TenantLimits
from konstruct_mcp.routing.limits import MemoryLimitStore


def config(ollama: Provider, few: dict[str, Any], **konstruct: Any) -> dict[str, Any]:
    return {
        "model_list": [entry("fast", {"model": "ollama/qwen3:32b", "api_base": ollama.url})],
        "konstruct": {"tenants": {"few": few, "many": {}}, **konstruct},
    }


async def test_a_request_beyond_rpm_is_refused_and_has_no_row(ollama: Provider, tmp_path: Path) -> None:
    database, events = sqlite(tmp_path), list[Any]()
    settings = config(ollama, {"rpm": 2}, ledger_url=database.url)
    async with opened(tmp_path, settings, hooks=[events.append]) as konstruct:
        for _ in range(2):
            await konstruct.complete("hello", tenant_id="few")
        with pytest.raises(RateLimitedError) as refused:
            await konstruct.complete("hello", tenant_id="few")
        await konstruct.complete("hello", tenant_id="many")
    assert str(refused.value).startswith("rate_limited: at the limit of 2 requests a minute; try again in ")
    assert 0 < refused.value.retry_after_s <= 61
    assert [row["tenant"] for row in database.rows()] == ["few", "few", "many"]
    assert [one for one in events if isinstance(one, Refused)] == [Refused("few", "fast", "rate_limited")]


async def test_a_call_beyond_tpm_is_refused(ollama: Provider, tmp_path: Path) -> None:
    ollama.script(Text("a", usage=(700, 400)), Text("b"))
    async with opened(tmp_path, config(ollama, {"tpm": 1000})) as konstruct:
        await konstruct.complete("hello", tenant_id="few")
        with pytest.raises(RateLimitedError, match="at the limit of 1000 tokens a minute"):
            await konstruct.complete("hello", tenant_id="few")
        await konstruct.complete("hello", tenant_id="many")


async def test_calls_beyond_max_concurrency_wait_while_others_go_on(ollama: Provider, tmp_path: Path) -> None:
    ollama.script(Gate("done"))
    async with opened(tmp_path, config(ollama, {"max_concurrency": 2})) as konstruct:
        waits = asyncio.Event()

        def note(line: str) -> None:
            if "its turn, 0 calls before it" in line:
                waits.set()

        calls = [
            asyncio.create_task(konstruct.complete("hello", tenant_id="few", on_wait=note if n == 2 else None))
            for n in range(3)
        ]
        async with asyncio.timeout(30):
            await waits.wait()
        await ollama.until(lambda: ollama.in_flight == 2)
        others = [asyncio.create_task(konstruct.complete("hello", tenant_id="many")) for _ in range(3)]
        await ollama.until(lambda: ollama.in_flight == 5)
        ollama.release()
        await asyncio.gather(*calls, *others)
    assert ollama.most_in_flight == 5


async def test_a_minute_later_it_may_call_again() -> None:
    now = 1000.0
    limits, tenant = TenantLimits(MemoryLimitStore(), lambda: now), Tenant("few", (), rpm=1)
    await limits.admit(tenant)
    now += 30
    with pytest.raises(RateLimitedError, match="try again in 31 s"):
        await limits.admit(tenant)
    now += 31
    await limits.admit(tenant)


async def test_refused_requests_count_for_nothing() -> None:
    limits, tenant = TenantLimits(MemoryLimitStore(), lambda: 0.0), Tenant("few", (), rpm=1)
    await limits.admit(tenant)
    for _ in range(5):
        with pytest.raises(RateLimitedError):
            await limits.admit(tenant)
