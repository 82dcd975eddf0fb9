"""More calls at once than are taken: some run, some wait for their turn, and the rest are told so at once."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support.databases import sqlite
from support.default_groups import connected, entry, opened, write
from support.fork_server import ForkServer
from support.providers import Gate, Provider, Received, Text
from support.stdio_lines import ServerProcess

from konstruct_mcp import Konstruct, OverloadedError


def config(ollama: Provider, **konstruct: Any) -> dict[str, Any]:
    return {
        "model_list": [entry("fast", {"model": "ollama/qwen3:32b", "api_base": ollama.url})],
        "konstruct": konstruct,
    }


def saying(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def said(provider: Provider) -> list[str]:
    return [request.body["messages"][0]["content"] for request in provider.requests]


async def under_way(konstruct: Konstruct, ollama: Provider, count: int, at_once: int) -> list[asyncio.Task[Any]]:
    """Calls that say their number, each sent when the one before has its turn or its place in the queue."""
    calls = []
    for n in range(count):
        waits = asyncio.Event()
        turn = f"its turn, {n - at_once} calls before it" if n >= at_once else "trying"

        def note(line: str, turn: str = turn, waits: asyncio.Event = waits) -> None:
            if turn in line:
                waits.set()

        calls.append(asyncio.create_task(konstruct.complete(saying(str(n)), on_wait=note)))
        async with asyncio.timeout(30):
            await waits.wait()
    await ollama.until(lambda: ollama.in_flight == min(count, at_once))
    return calls


async def test_so_many_run_so_many_wait_in_order_and_the_rest_are_refused_at_once(
    ollama: Provider, tmp_path: Path
) -> None:
    ollama.script(Gate("done"))
    database = sqlite(tmp_path)
    settings = config(ollama, max_concurrency=2, max_queue=3, ledger_url=database.url)
    async with opened(tmp_path, settings) as konstruct:
        calls = await under_way(konstruct, ollama, 5, 2)
        with pytest.raises(OverloadedError) as caught:
            async with asyncio.timeout(30):
                await konstruct.complete(saying("too many"))
        async with connected(konstruct) as client:
            result = await client.call_tool("complete", {"messages": saying("too many")})
            assert result.is_error
            assert (await client.call_tool("list_groups", {})).is_error is False
        ollama.release()
        await asyncio.gather(*calls)
        assert (await konstruct.complete(saying("later"))).content == "done"
    assert str(caught.value) == (
        "overloaded: too many calls at once (2 under way, 3 waiting); send fewer, or try again in 10 s"
    )
    assert caught.value.retry_after_s == 10  # of the usual 5 s: for three that wait, and itself, two at a time
    assert result.meta is not None
    assert result.meta["konstruct-mcp/error"] == {"code": "overloaded", "retry_after_s": 10}
    assert ollama.most_in_flight == 2
    assert said(ollama) == ["0", "1", "2", "3", "4", "later"]
    assert len(database.rows()) == 6  # what was turned away has none
    database.engine.dispose()


async def test_one_that_waits_can_be_cancelled_and_another_takes_its_place(ollama: Provider, tmp_path: Path) -> None:
    ollama.script(Gate("done"))
    async with opened(tmp_path, config(ollama, max_concurrency=1, max_queue=1)) as konstruct:
        running, waiting = await under_way(konstruct, ollama, 2, 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        other = asyncio.create_task(konstruct.complete(saying("other")))
        ollama.release()
        await asyncio.gather(running, other)
    assert said(ollama) == ["0", "other"]


@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_what_waits_is_bounded_in_size_too(ollama: Provider, tmp_path: Path) -> None:
    ollama.script(Gate("done"))
    ollama.also["/api/show"] = {"model_info": {"general.architecture": "long", "long.context_length": 10**9}}
    large = saying("x" * 40 * 2**20)
    async with opened(tmp_path, config(ollama, max_concurrency=1, max_request_chars=50_000_000)) as konstruct:
        [running] = await under_way(konstruct, ollama, 1, 1)
        waits = asyncio.Event()
        waiting = asyncio.create_task(konstruct.complete(large, on_wait=lambda _: waits.set()))
        await waits.wait()
        with pytest.raises(OverloadedError):
            async with asyncio.timeout(30):
                await konstruct.complete(large)
        small = asyncio.create_task(konstruct.complete(saying("small")))
        ollama.release()
        await asyncio.gather(running, waiting, small)


async def test_a_change_of_the_config_lets_more_in(ollama: Provider, tmp_path: Path) -> None:
    ollama.script(Gate("done"))
    settings = config(ollama, max_concurrency=1, max_queue=1)
    async with opened(tmp_path, settings) as konstruct:
        calls = await under_way(konstruct, ollama, 2, 1)
        settings["konstruct"] = {"max_concurrency": 2, "max_queue": 1}
        (tmp_path / "konstruct.yaml").write_text(yaml.safe_dump(settings))
        await konstruct.reload()
        await ollama.until(lambda: ollama.in_flight == 2)
        ollama.release()
        await asyncio.gather(*calls)


@pytest.mark.parametrize("calls", [3000, pytest.param(10_000, marks=pytest.mark.long)])
def test_very_many_calls_at_once_are_all_answered_in_little_memory(
    ollama: Provider, tmp_path: Path, fork_server: ForkServer | None, calls: int
) -> None:
    at_once, queue = 50, 200
    gate = threading.Event()

    def answer(received: Received) -> Any:
        return Text("answered") if gate.is_set() else Gate("answered")

    ollama.script(Text("warm"))
    with ServerProcess(
        write(tmp_path, config(ollama, max_concurrency=at_once, max_queue=queue)), fork_server=fork_server
    ) as server:
        server.initialize()
        assert not server.complete("fast")["isError"]
        ollama.script(answer)
        before = psutil.Process(server.process.pid).memory_info().rss
        sending = threading.Thread(target=lambda: requests.extend(server.send_call("fast") for _ in range(calls)))
        requests: list[int] = []
        sending.start()
        texts: list[str] = []
        answered: set[Any] = set()
        while len(answered) < calls:
            line = server.line()
            answered.add(line["id"])
            text = line["result"]["content"][0]["text"]
            texts.append(text)
            if len(texts) == calls - at_once - queue:
                assert all(text.startswith("overloaded: too many calls at once (50 under way") for text in texts)
                grown = psutil.Process(server.process.pid).memory_info().rss - before
                gate.set()
                ollama.release()
        sending.join()
    assert len(texts) == calls
    assert sum('"content":"answered"' in text for text in texts) == at_once + queue
    assert grown < min(64 * 2**20, calls * 10_000)  # a task and a request each would be some 20 KB


async def test_one_tenants_flood_keeps_another_neither_waiting_nor_out(ollama: Provider, tmp_path: Path) -> None:
    ollama.script(Gate("done"))
    settings = config(ollama, max_concurrency=4, max_queue=10, tenants={"many": {}, "few": {}})

    def ask(tenant: str, number: int) -> asyncio.Task[Any]:
        return asyncio.create_task(konstruct.complete(saying(f"{tenant} {number}"), tenant_id=tenant))

    async with opened(tmp_path, settings) as konstruct:
        flood = [ask("many", n) for n in range(40)]
        await ollama.until(lambda: ollama.in_flight == 3)  # a place is kept for who has none
        first = ask("few", 0)
        await ollama.until(lambda: ollama.in_flight == 4)
        await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        assert [call.done() for call in flood] == [False] * 13 + [True] * 27
        later = [ask("few", n) for n in range(1, 4)]  # for which the flood's newest make room
        await asyncio.wait(flood[10:13])
        ollama.release()
        answered = await asyncio.gather(*flood[:10], first, *later)
        refused = await asyncio.gather(*flood[10:], return_exceptions=True)
    assert all(answer.content == "done" for answer in answered)
    assert all(isinstance(error, OverloadedError) for error in refused)
    order = said(ollama)[4:]
    assert sorted(order[:6]) == sorted(["few 1", "few 2", "few 3", "many 3", "many 4", "many 5"])  # in turns


async def test_whose_turn_it_is_at_a_deployment_does_not_go_by_who_has_most_calls_there(
    ollama: Provider, tmp_path: Path
) -> None:
    ollama.script(Gate("done"))
    settings = config(ollama)
    settings["model_list"][0]["litellm_params"]["max_parallel_requests"] = 1
    async with opened(tmp_path, settings) as konstruct:
        calls = []
        for tenant in ("many", "many", "many", "few"):
            waits = asyncio.Event()

            def note(line: str, waits: asyncio.Event = waits) -> None:
                if "its turn at" in line or "trying" in line:
                    waits.set()

            asking = konstruct.complete(saying(tenant), tenant_id=tenant, on_wait=note)
            calls.append(asyncio.create_task(asking))
            async with asyncio.timeout(30):
                await waits.wait()
        await ollama.until(lambda: ollama.in_flight == 1)
        ollama.release()
        await asyncio.gather(*calls)
    assert said(ollama) in (["many", "many", "few", "many"], ["many", "few", "many", "many"])


async def test_one_tenant_by_itself_has_all_places(ollama: Provider, tmp_path: Path) -> None:
    for environ in ({}, {"KONSTRUCT_TENANT_ID": "many"}):
        ollama.script(Gate("done"))
        settings = config(ollama, max_concurrency=2, **({"tenants": {"many": {}, "few": {}}} if environ else {}))
        async with opened(tmp_path, settings, environ) as konstruct:
            calls = [asyncio.create_task(konstruct.complete(saying("Hello"))) for _ in range(2)]
            await ollama.until(lambda: ollama.in_flight == 2)
            ollama.release()
            await asyncio.gather(*calls)
