"""Who goes next: steps of the event loop by how far a call has come, and places by tenant."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from konstruct_mcp.core.errors import OverloadedError
from konstruct_mcp.core.fairness import Admission, Step, turn


async def test_a_step_alone_does_not_wait_and_of_several_the_furthest_goes_first() -> None:
    taken: list[str] = []

    async def take(step: Step, name: str) -> None:
        await turn(step)
        taken.append(name)

    await take(Step.BEGIN, "alone")
    steps = [(Step.BEGIN, "a"), (Step.TAKE, "b"), (Step.ANSWER, "c"), (Step.BEGIN, "d"), (Step.ASK, "e")]
    await asyncio.gather(*(take(step, name) for step, name in steps))
    assert taken == ["alone", "a", "c", "e", "d", "b"]  # the first of them found nobody waiting


async def test_one_that_is_cancelled_keeps_nobody_waiting() -> None:
    await turn(Step.BEGIN)
    given_up, other = asyncio.create_task(turn(Step.ANSWER)), asyncio.create_task(turn(Step.BEGIN))
    await turn(Step.TAKE)
    given_up.cancel()
    async with asyncio.timeout(5):
        await other


class Calls:
    """Calls of tenants that have or want a turn, each by its name."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.order: list[str] = []
        self._over: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, name: str, tenant: str, chars: int = 1) -> None:
        self._over[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._run(name, tenant, chars))
        for _ in range(3):  # turns of the loop: until it runs, waits, or has turned another away
            await asyncio.sleep(0)

    async def _run(self, name: str, tenant: str, chars: int) -> None:
        async with self.admission.turn(chars, tenant):
            self.order.append(name)
            await self._over[name].wait()

    async def end(self, name: str) -> None:
        self._over[name].set()
        await asyncio.gather(self._tasks[name], return_exceptions=True)
        await asyncio.sleep(0)

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)

    def error(self, name: str) -> BaseException | None:
        task = self._tasks[name]
        return task.exception() if task.done() and not task.cancelled() else None


async def test_tenants_have_their_turns_one_after_another() -> None:
    calls = Calls(Admission(1))
    for name, tenant in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")):
        await calls.begin(name, tenant)
    for name in ("a1", "a2", "b1", "a3", "b2"):
        assert calls.order[-1] == name
        await calls.end(name)


async def test_one_that_is_given_up_while_it_waits_leaves_its_place() -> None:
    calls = Calls(Admission(1))
    for name in ("a1", "a2", "a3"):
        await calls.begin(name, "a")
    await calls.cancel("a2")
    assert calls.admission.waiting == 1
    await calls.end("a1")
    assert calls.order == ["a1", "a3"]


async def test_the_tenant_that_has_most_waiting_makes_room() -> None:
    calls = Calls(Admission(1, waiting=2))
    for name, tenant in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")):
        await calls.begin(name, tenant)
    assert isinstance(calls.error("a3"), OverloadedError)
    await calls.begin("a4", "a")
    assert isinstance(calls.error("a4"), OverloadedError)
    assert calls.error("b1") is None


async def test_a_place_is_kept_free_for_a_tenant_that_the_config_names() -> None:
    calls = Calls(Admission(2, named=["named"]))
    for name, tenant in (("a1", "a"), ("a2", "a"), ("n1", "named")):
        await calls.begin(name, tenant)
    assert calls.order == ["a1", "n1"]
    await calls.end("n1")
    await calls.begin("n2", "named")
    assert calls.order == ["a1", "n1", "n2"]


async def test_more_places_are_given_at_once_and_fewer_turn_nobody_away() -> None:
    calls = Calls(Admission(1))
    for name in ("a1", "a2"):
        await calls.begin(name, "a")
    calls.admission.resize(2, 10, ())
    await asyncio.sleep(0)
    assert calls.order == ["a1", "a2"]
    calls.admission.resize(1, 0, ())
    async with AsyncExitStack() as held:
        with pytest.raises(OverloadedError):
            await held.enter_async_context(calls.admission.turn(1, "a"))


async def test_who_is_turned_away_is_told_to_wait_at_the_pace_of_its_last_calls() -> None:
    admission = Admission(1, waiting=0)
    async with admission.turn(0, "quick"):
        pass
    async with admission.turn(0, "other"):
        waits = {}
        for tenant in ("quick", "unknown"):
            with pytest.raises(OverloadedError) as caught:
                async with admission.turn(0, tenant):
                    pass
            waits[tenant] = caught.value.retry_after_s
    assert 1 <= waits["quick"] < waits["unknown"] <= 60
