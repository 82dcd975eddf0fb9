"""Metrics for Prometheus, scraped from a `Konstruct` that asks fakes."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.databases import sqlite
from support.default_groups import HELLO, write
from support.priced_config import COST_NUSD, priced_config
from support.providers import Hang, Provider, Status
from support.valkey import Valkey

from konstruct_mcp import Konstruct, KonstructError
from konstruct_mcp.telemetry.labels import Bounded
from konstruct_mcp.telemetry.metrics import Metrics, serve_metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class World:
    def __init__(self, folder: Path, openai: Provider, anthropic: Provider, ollama: Provider) -> None:
        self.folder, self.providers = folder, (openai, anthropic, ollama)
        self.openai, self.anthropic, self.ollama = self.providers
        self.url = ""

    @contextlib.asynccontextmanager
    async def opened(
        self, *, by_tenant: bool = False, whole: dict[str, Any] | None = None, **settings: Any
    ) -> AsyncIterator[Konstruct]:
        metrics = Metrics(by_tenant=by_tenant)
        config = whole or priced_config(sqlite(self.folder), *self.providers, **settings)
        konstruct = Konstruct.from_config(write(self.folder, config), environ={}, hooks=[metrics])
        async with konstruct:
            metrics.attach(konstruct)
            with serve_metrics(metrics, "127.0.0.1", 0) as serving:
                self.url = serving.url
                yield konstruct

    def read(self) -> str:
        with urllib.request.urlopen(self.url, timeout=30) as answer:
            return str(answer.read().decode())

    async def scraped(self) -> Samples:
        text = await asyncio.to_thread(self.read)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.fixture
def world(tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider) -> World:
    return World(tmp_path, openai, anthropic, ollama)


async def test_a_call_and_its_tries_are_counted(world: World) -> None:
    world.anthropic.script(Status(500))
    async with world.opened() as konstruct:
        await konstruct.complete(HELLO, model_group="strong", tenant_id="acme")
        found = await world.scraped()
    failed = {"group": "strong", "deployment": "strong/1", "model": "anthropic/claude-sonnet-4-6"}
    assert found[key("konstruct_calls_total", group="strong", model="openai/paid", outcome="ok")] == 1
    assert found[key("konstruct_tries_total", **failed, outcome="server_error")] == 1
    assert found[key("konstruct_call_duration_seconds_count", group="strong")] == 1
    assert found[key("konstruct_try_duration_seconds_count", model="openai/paid")] == 1
    assert found[key("konstruct_tokens_total", group="paid", model="openai/paid", kind="input")] == 11
    assert found[key("konstruct_tokens_total", group="paid", model="openai/paid", kind="output")] == 7
    cost = found[key("konstruct_cost_usd_total", group="paid", model="openai/paid")]
    assert cost == pytest.approx(COST_NUSD / 1e9)
    assert not [name for name, _ in found if "tenant" in name or name.endswith("_created")]
    assert not any("acme" in dict(labels).values() for _, labels in found)


async def test_gauges_tell_how_things_stand_when_they_are_asked_for(world: World) -> None:
    world.openai.script(Hang())
    async with world.opened(max_concurrency=1, max_queue=5) as konstruct:
        calls = [asyncio.create_task(konstruct.complete(HELLO)) for _ in range(3)]
        await world.openai.until(lambda: world.openai.in_flight == 1)
        found = await world.scraped()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        after = await world.scraped()
    assert found[key("konstruct_calls_under_way")] == 1
    assert found[key("konstruct_calls_waiting")] == 2
    assert found[key("konstruct_ledger_up")] == 1
    assert found[key("konstruct_spool_rows")] == found[key("konstruct_reservations_open")] == 0
    assert 0 <= found[key("konstruct_gauges_age_seconds")] < 60
    assert [value for (name, _), value in found.items() if name == "konstruct_build_info"] == [1]
    assert after[key("konstruct_calls_under_way")] == after[key("konstruct_calls_waiting")] == 0


async def test_a_deployment_that_cools_down_shows(world: World) -> None:
    world.openai.script(Status(500))
    async with world.opened() as konstruct:
        for tenant in ("acme", "beta", "acme", "beta"):
            with pytest.raises(KonstructError):
                await konstruct.complete(HELLO, model_group="unpriced", tenant_id=tenant)
        found = await world.scraped()
    labels = {"deployment": "unpriced/1", "group": "unpriced"}
    assert found[key("konstruct_cooldowns_total", **labels)] >= 1
    states = {name: value for (name, of), value in found.items() if labels.items() <= dict(of).items()}
    assert (states["konstruct_deployment_ready"], states["konstruct_deployment_cooling_down"]) == (0, 1)


async def test_refusals_are_counted_by_their_code(world: World) -> None:
    async with world.opened(by_tenant=True, allow_unknown=False) as konstruct:
        for arguments in ({"tenant_id": "made-up"}, {"model_group": "made-up"}, {"max_tokens": -1}):
            with pytest.raises(KonstructError):
                await konstruct.complete(HELLO, **arguments)
        found = await world.scraped()
    assert found[key("konstruct_refusals_total", code="unknown_tenant")] == 1
    assert found[key("konstruct_refusals_total", code="unknown_group")] == 1
    assert found[key("konstruct_refusals_total", code="invalid_argument")] == 1
    assert found[key("konstruct_tenant_refusals_total", tenant="default", code="unknown_group")] == 1
    assert not any("made-up" in dict(labels).values() for _, labels in found)


async def test_tenants_are_a_label_where_that_is_wished(world: World) -> None:
    async with world.opened(by_tenant=True) as konstruct:
        await konstruct.complete(HELLO, tenant_id="acme")
        found = await world.scraped()
    assert found[key("konstruct_tenant_calls_total", tenant="acme", outcome="ok")] == 1
    assert found[key("konstruct_tenant_tokens_total", tenant="acme", kind="output")] == 7
    assert found[key("konstruct_tenant_cost_usd_total", tenant="acme")] == pytest.approx(COST_NUSD / 1e9)


async def test_names_that_callers_make_up_are_one_label(world: World) -> None:
    house = {"api_base": world.openai.url, "api_key": "sk-test"}
    config = priced_config(sqlite(world.folder), *world.providers)
    config["model_list"].append({"model_name": "any/*", "litellm_params": {"model": "openai/*", **house}})
    async with world.opened(whole=config) as konstruct:
        for number in range(3):
            await konstruct.complete(HELLO, model_group=f"any/made-up-{number}")
        found = await world.scraped()
    assert found[key("konstruct_calls_total", group="other", model="other", outcome="ok")] == 3
    assert not any("made-up" in value for _, labels in found for value in dict(labels).values())


async def test_a_scrape_does_not_wait_for_an_event_loop_that_is_busy(world: World) -> None:
    async with world.opened():
        await world.scraped()
        text = world.read()  # in the event loop's own thread, which does nothing else meanwhile
    assert "konstruct_calls_under_way 0.0" in text
    assert "konstruct_gauges_age_seconds" in text


def test_a_label_has_so_many_values_and_then_other() -> None:
    bounded = Bounded(2)
    assert [bounded(value) for value in ("a", "b", "c", "a", "d")] == ["a", "b", "other", "a", "other"]


@pytest.mark.long
async def test_it_shows_whether_the_server_of_the_shared_state_answers(world: World) -> None:
    def up(found: Samples) -> float | None:
        return found.get(key("konstruct_shared_state_up"))

    async with world.opened():
        assert up(await world.scraped()) is None
    with Valkey() as valkey:
        async with world.opened(redis_url=valkey.url), asyncio.timeout(60):
            while up(await world.scraped()) != 1:  # until it has connected
                pass
            valkey.kill()
            while up(await world.scraped()) != 0:
                pass
