"""A `Konstruct` is used within its `async with` and in its event loop. Anywhere else it says so in one line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.default_groups import HELLO, KEYS, default_groups, opened, write
from support.providers import Gate, Hang, Provider

from konstruct_mcp import ConfigError, Konstruct, NotOpenError

NOT_YET = "not_open: this Konstruct is not open yet; use it within `async with konstruct:`"
CLOSED = "not_open: this Konstruct is closed; use it within `async with konstruct:`"
ELSEWHERE = "not_open: this Konstruct is open in another event loop; use it there, or open one of its own for each loop"
USES: dict[str, Callable[[Konstruct], Awaitable[Any]]] = {
    "complete": lambda konstruct: konstruct.complete(HELLO),
    "complete, of a large request": lambda konstruct: konstruct.complete("Hello " * 100_000),
    "usage": lambda konstruct: konstruct.usage(),
    "budgets": lambda konstruct: konstruct.budgets(),
    "check": lambda konstruct: konstruct.check(),
    "reload": lambda konstruct: konstruct.reload(),
    "gauges": lambda konstruct: konstruct.gauges(),
    "list_tenants": lambda konstruct: konstruct.list_tenants(),
    "prune_ledger": lambda konstruct: konstruct.prune_ledger("2020-01-01"),
}


@pytest.fixture
def config(anthropic: Provider, openai: Provider, ollama: Provider) -> dict[str, Any]:
    return default_groups(anthropic, openai, ollama)


async def refusal(use: Callable[[Konstruct], Awaitable[Any]], konstruct: Konstruct) -> str:
    with pytest.raises(NotOpenError) as caught:
        async with asyncio.timeout(30):
            await use(konstruct)
    return str(caught.value)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_before_and_after_its_block_it_is_not_open(
    config: dict[str, Any], tmp_path: Path, use: Callable[[Konstruct], Awaitable[Any]]
) -> None:
    konstruct = Konstruct.from_config(write(tmp_path, config), environ=KEYS)
    assert await refusal(use, konstruct) == NOT_YET
    async with konstruct:
        pass
    assert await refusal(use, konstruct) == CLOSED


async def test_what_asks_nobody_can_be_had_at_any_time(config: dict[str, Any], tmp_path: Path) -> None:
    konstruct = Konstruct.from_config(write(tmp_path, config), environ=KEYS)
    before = [konstruct.groups(), konstruct.config, konstruct.default_group]
    async with konstruct:
        pass
    assert [konstruct.groups(), konstruct.config, konstruct.default_group] == before


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_in_another_loop_it_is_not_open(
    config: dict[str, Any], tmp_path: Path, use: Callable[[Konstruct], Awaitable[Any]]
) -> None:
    async with opened(tmp_path, config) as konstruct:
        assert await asyncio.to_thread(asyncio.run, refusal(use, konstruct)) == ELSEWHERE


async def test_another_loop_can_neither_open_nor_close_it(
    config: dict[str, Any], tmp_path: Path, ollama: Provider
) -> None:
    ollama.script(Gate("held"))
    async with opened(tmp_path, config) as konstruct:
        call = asyncio.create_task(konstruct.complete(HELLO))
        await ollama.until(lambda: ollama.in_flight == 1)
        for use in (Konstruct.__aenter__, Konstruct.aclose):
            assert await asyncio.to_thread(asyncio.run, refusal(use, konstruct)) == ELSEWHERE
        ollama.release()
        assert (await call).content == "held"


def test_it_can_be_opened_again_in_another_loop(config: dict[str, Any], tmp_path: Path, ollama: Provider) -> None:
    konstruct = Konstruct.from_config(write(tmp_path, config), environ=KEYS)

    async def once() -> int:
        async with konstruct:
            await konstruct.complete(HELLO)
            return (await konstruct.usage()).total.calls

    assert asyncio.run(once()) + 1 == asyncio.run(once())
    assert ollama.calls == 2


async def test_opened_again_after_its_accounts_were_read_it_asks_the_embedded_model(tmp_path: Path) -> None:
    config = {
        "model_list": [{"model_name": "tiny", "litellm_params": {"model": "embedded/SmolLM2-135M-Instruct"}}],
        "konstruct": {"ledger_url": f"sqlite:///{tmp_path}/ledger.sqlite3"},
    }
    konstruct = Konstruct.from_config(config, environ={})
    async with konstruct.for_accounts():
        assert (await konstruct.usage()).total.calls == 0
    for _ in range(2):
        async with konstruct:
            assert (await konstruct.complete(HELLO, max_tokens=1)).model == "embedded/SmolLM2-135M-Instruct"


def test_a_call_of_its_own_loop_alone_says_what_is_missing(config: dict[str, Any], tmp_path: Path) -> None:
    konstruct = Konstruct.from_config(write(tmp_path, config), environ=KEYS)
    with pytest.raises(NotOpenError, match="not open yet"):
        asyncio.run(konstruct.complete(HELLO))


async def test_closed_while_calls_are_under_way_it_says_so_to_the_next(
    config: dict[str, Any], tmp_path: Path, ollama: Provider
) -> None:
    ollama.script(Hang())
    async with opened(tmp_path, config) as konstruct:
        call = asyncio.create_task(konstruct.complete(HELLO, model_group="fast"))
        await ollama.until(lambda: ollama.in_flight == 1)
        call.cancel()
        await konstruct.aclose()
        assert await refusal(USES["complete"], konstruct) == CLOSED


async def test_open_for_accounts_alone_it_shows_them(config: dict[str, Any], tmp_path: Path) -> None:
    async with opened(tmp_path, config) as konstruct:
        await konstruct.complete(HELLO)
    async with konstruct.for_accounts():
        assert (await konstruct.usage()).total.calls >= 1
    assert await refusal(USES["usage"], konstruct) == CLOSED


async def test_a_server_without_a_config_says_that_first_and_then_follows_it(
    config: dict[str, Any], tmp_path: Path
) -> None:
    path = write(tmp_path, {"model_list": "none"})
    konstruct = Konstruct.for_server(path, environ=KEYS)
    async with konstruct:
        with pytest.raises(ConfigError):
            await konstruct.complete(HELLO)
        write(tmp_path, config)
        assert await konstruct.reload()
        with anyio.fail_after(60):
            assert (await konstruct.complete(HELLO)).content == "Hello from ollama"
