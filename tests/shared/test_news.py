"""What comes up while a server is just telling Valkey something: none of it is lost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from konstruct_mcp.routing.limits import Used
from konstruct_mcp.shared.broadcast import ValkeyBroadcast
from konstruct_mcp.shared.connection import AwayError, Connection
from konstruct_mcp.shared.cooldowns import Cooldowns, SharedHealthStore
from konstruct_mcp.shared.limits import SharedLimitStore

WAIT_S = 30


class HeldConnection(Connection):
    """A connection to nowhere, whose answers the test gives."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1", "test:", 1, lambda: None)
        self.asked: asyncio.Queue[tuple[tuple[Any, ...], asyncio.Future[Any]]] = asyncio.Queue()

    async def run(self, *command: Any) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait((command, answer))
        return await answer

    async def next(self) -> tuple[tuple[Any, ...], asyncio.Future[Any]]:
        async with asyncio.timeout(WAIT_S):
            return await self.asked.get()


async def test_a_cooldown_that_begins_while_an_earlier_one_is_told_is_told_too() -> None:
    now = 1000.0
    connection = HeldConnection()
    store = SharedHealthStore(lambda: now, lambda key: cooldowns.tell(key))
    cooldowns = Cooldowns(connection, ValkeyBroadcast(connection), lambda: store)
    cooldowns.start()

    def cool(until: float) -> None:
        store.record("one").cooling_until = until
        store.changed("one")

    cool(now + 10)
    command, answer = await connection.next()
    assert json.loads(command[2])["left_s"] == 10
    cool(now + 600)
    answer.set_result(b"OK")
    command, answer = await connection.next()
    assert json.loads(command[2])["left_s"] == 600
    answer.set_exception(AwayError())
    await asyncio.sleep(0)
    cooldowns.read()  # as when the server is back: what it has not taken is said again
    command, _ = await connection.next()
    assert json.loads(command[2])["left_s"] == 600
    await cooldowns.aclose()


async def test_what_is_used_while_valkey_is_told_and_fails_again_is_told_later() -> None:
    now = 1000.0
    connection = HeldConnection()
    connection._is_open = True  # as one that has just fallen away
    store = SharedLimitStore(connection, lambda: now)
    store.add("one", now, 0, 100)

    async def told() -> int:
        catching_up = asyncio.create_task(store.catch_up())
        _, answer = await connection.next()
        answer.set_result(b"epoch")
        command, answer = await connection.next()
        if connection._is_open:
            store.add("one", now, 0, 20)  # of a call that ends meanwhile
            answer.set_exception(AwayError())
            with pytest.raises(AwayError):
                await catching_up
        else:
            answer.set_result(None)
            await catching_up
        return sum(command[6::3])

    assert await told() == 100
    connection._is_open = False
    assert await told() == 120


async def test_a_claim_that_was_refused_is_told_of_by_nobody() -> None:
    now = 1000.0
    connection = HeldConnection()
    store = SharedLimitStore(connection, lambda: now)

    async def claim() -> tuple[asyncio.Task[Used | None], asyncio.Future[Any]]:
        store.add("one", now, 1, 0)
        claiming = asyncio.create_task(store.claim("one", now, 1, None))
        _, answer = await connection.next()
        return claiming, answer

    claiming, answer = await claim()
    answer.set_result([1, 0, 30])  # it is refused, and Valkey falls away before it is taken back
    assert await claiming == Used(1, 0)
    connection._is_open = True
    store.take_back("one", now)
    store.add("one", now, 1, 0)  # so that the share of one is used
    claiming, answer = await claim()
    answer.set_exception(AwayError())  # refused alone, and Valkey is back before it is taken back
    assert await claiming is not None
    connection._is_open = False
    store.take_back("one", now)

    catching_up = asyncio.create_task(store.catch_up())
    _, answer = await connection.next()
    answer.set_result(b"epoch")
    async with asyncio.timeout(WAIT_S):
        await catching_up
    assert connection.asked.empty()
