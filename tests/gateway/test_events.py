"""Events for metrics and traces."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from support.databases import sqlite
from support.default_groups import HELLO, write
from support.priced_config import COST_NUSD, priced_config
from support.providers import Hang, Provider, Status, Text

from konstruct_mcp import Konstruct, KonstructError
from konstruct_mcp.core.events import CallClosed, Event, HealthChange, Refused, TryEnded
from konstruct_mcp.gateway.events import Hooks

SECRET_TEXT = "what nobody else may read"


class World:
    def __init__(self, folder: Path, openai: Provider, anthropic: Provider, ollama: Provider) -> None:
        self.folder, self.providers = folder, (openai, anthropic, ollama)
        self.openai, self.anthropic, self.ollama = self.providers
        self.events: list[Event] = []

    def opened(self, *hooks: Any, **konstruct: Any) -> Konstruct:
        config = priced_config(sqlite(self.folder), *self.providers, **konstruct)
        return Konstruct.from_config(write(self.folder, config), environ={}, hooks=[*hooks, self.events.append])


@pytest.fixture
def world(tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider) -> World:
    return World(tmp_path, openai, anthropic, ollama)


async def test_a_call_is_told_try_by_try_and_when_it_closes(world: World) -> None:
    world.anthropic.script(Status(500))
    async with world.opened() as konstruct:
        await konstruct.complete(HELLO, model_group="strong", tenant_id="acme")
    failed, answered, closed = world.events
    assert isinstance(failed, TryEnded)
    assert isinstance(answered, TryEnded)
    assert isinstance(closed, CallClosed)
    assert failed == TryEnded(
        tenant="acme",
        group_asked="strong",
        group="strong",
        deployment="strong/1",
        model="anthropic/claude-sonnet-4-6",
        outcome="server_error",
        duration_s=failed.duration_s,
        input_tokens=0,
        output_tokens=0,
        cached_tokens=0,
        cost_nusd=0,
    )
    assert (answered.group, answered.deployment, answered.outcome) == ("paid", "paid/1", "ok")
    assert (answered.input_tokens, answered.output_tokens, answered.cost_nusd) == (11, 7, COST_NUSD)
    assert closed == CallClosed(
        tenant="acme",
        group_asked="strong",
        group_served="paid",
        model="openai/paid",
        outcome="ok",
        duration_s=closed.duration_s,
        attempts=2,
        input_tokens=11,
        output_tokens=7,
        cached_tokens=0,
        cost_nusd=COST_NUSD,
    )
    assert 0 < failed.duration_s <= closed.duration_s + 0.001


async def test_a_call_that_is_given_up_is_cancelled_and_of_unknown_cost(world: World) -> None:
    world.openai.script(Hang())
    async with world.opened() as konstruct:
        call = asyncio.create_task(konstruct.complete(HELLO, max_tokens=10))
        await world.openai.until(lambda: world.openai.in_flight == 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    tried, closed = world.events
    assert isinstance(tried, TryEnded)
    assert isinstance(closed, CallClosed)
    assert (tried.outcome, tried.cost_nusd) == (closed.outcome, closed.cost_nusd) == ("cancelled", None)


async def test_a_budget_that_refuses_ends_the_try_and_the_call(world: World) -> None:
    async with world.opened(budgets=[{"usd": 0, "per": "total"}]) as konstruct:
        with pytest.raises(KonstructError, match="budget_exceeded"):
            await konstruct.complete(HELLO)
    tried, closed = world.events
    assert isinstance(tried, TryEnded)
    assert isinstance(closed, CallClosed)
    assert (tried.outcome, tried.cost_nusd, closed.outcome, closed.cost_nusd) == ("budget", 0, "budget_exceeded", 0)


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ({"model_group": "made-up"}, Refused("default", None, "unknown_group")),
        ({"tenant_id": "made-up"}, Refused(None, None, "unknown_tenant")),
        ({"tenant_id": "made up"}, Refused(None, None, "invalid_argument")),
        ({"max_tokens": -1}, Refused(None, None, "invalid_argument")),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_is_turned_away_is_told_without_what_the_caller_made_up(
    world: World, arguments: dict[str, Any], refused: Refused
) -> None:
    async with world.opened(allow_unknown=False) as konstruct:
        with pytest.raises(KonstructError):
            await konstruct.complete(HELLO, **arguments)
    assert world.events == [refused]


async def test_a_deployment_that_cools_down_is_told_with_the_tenant_for_whom_it_does(world: World) -> None:
    world.openai.script(Status(500))
    async with world.opened() as konstruct:
        for _ in range(3):
            with pytest.raises(KonstructError):
                await konstruct.complete(HELLO, model_group="unpriced", tenant_id="acme")
    (changed,) = [event for event in world.events if isinstance(event, HealthChange)]
    assert (changed.deployment, changed.group, changed.state) == ("unpriced/1", "unpriced", "cooling_down")
    assert (changed.reason, changed.tenant) == ("server error (HTTP 500)", "acme")


async def test_too_many_calls_are_told_with_their_group(world: World) -> None:
    world.openai.script(Hang())
    async with world.opened(max_concurrency=1, max_queue=0) as konstruct:
        held = asyncio.create_task(konstruct.complete(HELLO))
        await world.openai.until(lambda: world.openai.in_flight == 1)
        with pytest.raises(KonstructError, match="overloaded"):
            await konstruct.complete(HELLO)
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
    assert world.events[0] == Refused("default", "paid", "overloaded")


async def test_no_event_holds_a_text_or_a_key(world: World) -> None:
    world.openai.script(Status(400, f"{SECRET_TEXT} sk-test"), Text(SECRET_TEXT))
    async with world.opened() as konstruct:
        with pytest.raises(KonstructError):
            await konstruct.complete(SECRET_TEXT, model_group="unpriced")
        await konstruct.complete(SECRET_TEXT)
    assert len(world.events) == 4
    told = repr(world.events)
    assert SECRET_TEXT not in told
    assert "sk-test" not in told


async def test_a_hook_that_fails_harms_no_call_and_is_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(event: Event) -> None:
        raise RuntimeError("the backend is gone")

    async with world.opened(fails) as konstruct:
        for _ in range(2):
            assert (await konstruct.complete(HELLO)).content
    assert len(world.events) == 4  # of the hook behind it
    assert caplog.text.count("its later failures are not logged") == 1


def test_events_are_frozen_and_hooks_are_called_in_their_order() -> None:
    told: list[str] = []
    hooks = Hooks([lambda _: told.append("first"), lambda _: told.append("second")])
    event = Refused(None, None, "unknown_tenant")
    hooks(event)
    assert told == ["first", "second"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.code = "x"  # type: ignore[misc]  # that it is refused is the point


async def test_a_hook_keeps_no_row_from_the_ledger_and_breaks_off_no_call(world: World) -> None:
    def cancels(_: Event) -> None:
        raise asyncio.CancelledError  # as a future does that has been cancelled, when it is asked for its result

    async with world.opened(cancels) as konstruct:
        assert (await konstruct.complete(HELLO, model_group="paid", tenant_id="acme")).content
    assert [row["outcome"] for row in sqlite(world.folder).rows()] == ["ok"]
    assert [type(event) for event in world.events] == [TryEnded, CallClosed]


def test_a_coroutine_function_is_no_hook() -> None:
    async def hook(_: Event) -> None: ...

    with pytest.raises(TypeError, match="is a coroutine function"):
        Hooks([hook])  # type: ignore[list-item]  # which is what is refused
