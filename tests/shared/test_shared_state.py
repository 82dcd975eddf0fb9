"""Several servers of one installation with one Valkey: what they share, and how they go on without it."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError
from support.commands import Ran, run
from support.default_groups import HELLO, entry, write
from support.pages import PAGES
from support.processes import wait_for
from support.providers import Changed, Gate, Provider, Status, Text
from support.valkey import Valkey

from konstruct_mcp import Completion, Konstruct, KonstructError, UnknownThreadError
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.protocol.server import KonstructServer

WAIT_S = 30


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@asynccontextmanager
async def servers(count: int, folder: Path, config: dict[str, Any], valkey: Valkey) -> AsyncIterator[list[Konstruct]]:
    """So many servers of one installation, once each of them knows the others."""
    config["konstruct"] = {"redis_url": valkey.url} | config.get("konstruct", {})
    async with AsyncExitStack() as stack:
        made = []
        for number in range(count):
            home = folder / str(number)
            home.mkdir(exist_ok=True)
            environ = {"KONSTRUCT_LEDGER_URL": f"sqlite:///{home}/ledger.sqlite3", "XDG_DATA_HOME": str(home)}
            made.append(await stack.enter_async_context(Konstruct.from_config(write(home, config), environ=environ)))
        await asyncio.to_thread(valkey.wait_for_servers, count)
        for one in made:
            await status_is(one, "ok")
            sharing: Any = one._generations.sharing  # which says nowhere else how many it knows of
            await until(functools.partial(_knows, sharing._connection, count))
        yield made


def _knows(connection: Any, count: int) -> bool:
    return bool(connection.replicas == count)


async def until(holds: Callable[[], bool]) -> None:
    """Until what another server tells has arrived here, of which nothing else tells."""
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def status_is(server: Konstruct, status: str) -> None:
    await until(lambda: server.shared_state.startswith(status))


def two_deployments(openai: Provider, anthropic: Provider, **more: Any) -> dict[str, Any]:
    """A group of two, of which the first is asked first."""
    gpt = {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "sk-openai-test", "num_retries": 0}
    claude = {"model": "anthropic/claude-sonnet-4-6", "api_base": anthropic.url, "api_key": "sk-ant-test"}
    return {
        "model_list": [entry("fast", gpt, order=1, **more), entry("fast", claude, order=2)],
        "router_settings": {"allowed_fails": 0, "cooldown_time": 600},
    }


def counted(valkey: Valkey, what: str) -> int:
    """The requests (`r`) or tokens (`t`) of the last minute that Valkey knows of."""
    with valkey.client as client:
        found: Any = [client.hget(name, what) for name in valkey.names() if "limit:" in name]
        return sum(int(one or 0) for one in found)


def state(server: Konstruct, deployment: int = 0) -> str:
    return server.group("fast").deployments[deployment].state


async def ask(server: Konstruct) -> Completion:
    return await server.complete(HELLO, model_group="fast")


async def test_a_dead_provider_is_passed_over_by_all_servers_and_one_answer_ends_it_for_all(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    openai.script(Status(401), Text("back"))
    config = two_deployments(openai, anthropic)
    config["model_list"].append(entry("alone", config["model_list"][0]["litellm_params"]))
    async with servers(3, tmp_path, config, valkey) as (first, second, third):
        assert (await ask(first)).model == "anthropic/claude-sonnet-4-6"
        await until(lambda: state(second) == state(third) == "cooling_down")
        assert (await ask(second)).model == (await ask(third)).model == "anthropic/claude-sonnet-4-6"
        assert openai.calls == 1
        assert (await second.complete(HELLO, model_group="alone")).content == "back"  # nobody else is left to ask
        await until(lambda: state(first) == state(third) == "ready")


async def test_what_was_said_while_a_server_did_not_hear_is_found_out_when_it_hears_again(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    openai.script(Text("all is loaded"), Status(401))
    async with servers(2, tmp_path, two_deployments(openai, anthropic), valkey) as (first, second):
        await ask(first)
        with valkey.client as client:
            assert client.client_kill_filter(_type="pubsub") == 2
        await ask(first)
        await until(lambda: state(second) == "cooling_down")


async def test_a_server_that_starts_learns_what_is_down(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    openai.script(Status(401))
    config = two_deployments(openai, anthropic)
    async with servers(1, tmp_path, config, valkey) as (first,):
        await ask(first)
        await asyncio.to_thread(wait_for, lambda: any("health:" in key for key in valkey.names()))
    async with servers(1, tmp_path, config, valkey) as (later,):
        await until(lambda: state(later) == "cooling_down")


async def test_what_a_tenants_own_requests_may_have_caused_stays_that_tenants_on_every_server(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    openai.script(Status(500), Text("for another"))
    config = two_deployments(openai, anthropic) | {"konstruct": {"tenants": {"one": None, "other": None}}}
    async with servers(2, tmp_path, config, valkey) as (first, second):
        await first.complete(HELLO, model_group="fast", tenant_id="one")
        await until(lambda: state(second) == "cooling_down")
        one = await second.complete(HELLO, model_group="fast", tenant_id="one")
        other = await second.complete(HELLO, model_group="fast", tenant_id="other")
        assert (one.model, other.content) == ("anthropic/claude-sonnet-4-6", "for another")


@pytest.mark.parametrize("rpm", [7, 20])
async def test_a_limit_of_requests_holds_over_four_servers(
    rpm: int, openai: Provider, anthropic: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where Valkey answers within a tenth of a second. A machine that is too busy for that is asked once more."""
    caplog.set_level(logging.DEBUG, "konstruct_mcp.shared")
    for attempt in range(5):
        folder, asked = tmp_path / str(attempt), openai.calls
        folder.mkdir()
        caplog.clear()
        with Valkey() as valkey:
            async with servers(4, folder, two_deployments(openai, anthropic, rpm=rpm), valkey) as replicas:
                answers = await asyncio.gather(*(ask(replica) for replica in replicas for _ in range(12)))
                after = [(await ask(replica)).model for replica in replicas]
                if "has not carried out" in caplog.text:
                    continue
                assert openai.calls - asked == rpm
                assert sum(answer.model == "openai/gpt-4o" for answer in answers) == rpm
                assert after == ["anthropic/claude-sonnet-4-6"] * 4
                for replica in replicas:
                    assert state(replica) == "cooling_down"
                    assert "at its limit" in (replica.group("fast").deployments[0].reason or "")
                return
    pytest.fail("Valkey has never answered in time")


async def test_a_limit_alone_says_what_it_is(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    config = two_deployments(openai, anthropic, rpm=1)
    del config["model_list"][1]
    async with servers(2, tmp_path, config, valkey) as (first, second):
        await ask(first)
        with pytest.raises(KonstructError, match="at its limit of 1 requests per minute"):
            await ask(second)


async def test_tokens_that_one_server_has_used_count_for_all(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    async with servers(2, tmp_path, two_deployments(openai, anthropic, tpm=1), valkey) as (first, second):
        assert (await ask(first)).model == "openai/gpt-4o"
        await until(lambda: counted(valkey, "t") > 0)
        assert (await ask(second)).model == "anthropic/claude-sonnet-4-6"


async def test_a_dead_server_leaves_each_its_share_of_a_limit_and_is_told_of_what_it_has_missed(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with servers(2, tmp_path, two_deployments(openai, anthropic, rpm=8), valkey) as (first, second):
        await ask(first)
        await asyncio.to_thread(valkey.kill)
        for one in (first, second):
            await status_is(one, "away")
        await asyncio.gather(*(ask(one) for one in (first, second) for _ in range(8)))
        assert openai.calls == 8  # the half of eight for each of two
        # One look in vain is a hiccup, of which nobody is told; after it the server may be back in time for the next.
        await until(lambda: caplog.text.count("is away") == 2)
        await asyncio.to_thread(valkey.start)
        await asyncio.to_thread(valkey.wait_for_servers, 2)
        for one in (first, second):
            await status_is(one, "ok")
        await until(lambda: counted(valkey, "r") == 8)
        assert (await ask(second)).model == "anthropic/claude-sonnet-4-6"
    said = [record.getMessage() for record in caplog.records if "Valkey" in record.getMessage()]
    assert sum("is away" in line for line in said) == 2  # once for each server
    assert sum("is back" in line for line in said) == 2
    assert "127.0.0.1" not in "".join(said)


async def test_a_frozen_server_holds_up_no_call_and_is_used_again_when_it_thaws(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    async with servers(2, tmp_path, two_deployments(openai, anthropic, rpm=100), valkey) as (first, second):
        with valkey.frozen():
            answers = await asyncio.gather(*(ask(one) for one in (first, second) for _ in range(10)))
            assert {answer.model for answer in answers} == {"openai/gpt-4o"}
            await status_is(first, "away")
            await status_is(second, "away")
        await status_is(first, "ok")
        await status_is(second, "ok")
        heard = listen(second)
        await until(lambda: publishes(first, heard))


def listen(server: Konstruct) -> list[bytes]:
    heard: list[bytes] = []
    server.broadcast.subscribe("topic", heard.append)
    return heard


def publishes(server: Konstruct, heard: list[bytes]) -> bool:
    server.broadcast.publish("topic", b"said")
    return bool(heard)


async def test_a_full_server_counts_as_away(openai: Provider, anthropic: Provider, tmp_path: Path) -> None:
    with Valkey(maxmemory="1gb", maxmemory_policy="noeviction") as valkey:
        async with servers(1, tmp_path, two_deployments(openai, anthropic, rpm=2), valkey) as (server,):
            with valkey.client as client:
                client.config_set("maxmemory", 1)
            await ask(server)
            await status_is(server, "away")
            assert [(await ask(server)).model for _ in range(2)] == ["openai/gpt-4o", "anthropic/claude-sonnet-4-6"]
            with valkey.client as client:
                client.config_set("maxmemory", 0)
            await status_is(server, "ok")


async def test_a_full_server_is_told_later_of_what_it_did_not_take(
    openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    openai.script(Gate("long"))
    with Valkey(maxmemory="1gb", maxmemory_policy="noeviction") as valkey:
        async with servers(1, tmp_path, two_deployments(openai, anthropic, tpm=1_000_000), valkey) as (server,):
            asking = asyncio.ensure_future(ask(server))
            await asyncio.to_thread(openai.wait_for, lambda: openai.in_flight == 1)
            with valkey.client as client:
                client.config_set("maxmemory", 1)
                openai.release()
                assert (await asking).content == "long"
                await status_is(server, "away")
                client.config_set("maxmemory", 0)
            await until(lambda: counted(valkey, "t") > 0)


async def test_a_server_starts_and_answers_without_valkey_by_the_share_that_it_is_given(
    openai: Provider, anthropic: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = two_deployments(openai, anthropic, rpm=4)
    config["konstruct"] = {"redis_url": "redis://:pass-7f3a9c@127.0.0.1:1/0", "replicas": 4}
    environ = {"KONSTRUCT_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.sqlite3", "XDG_DATA_HOME": str(tmp_path)}
    async with Konstruct.from_config(write(tmp_path, config), environ=environ) as server:
        assert [(await ask(server)).model for _ in range(2)] == ["openai/gpt-4o", "anthropic/claude-sonnet-4-6"]
        await status_is(server, "away")
        await until(lambda: "is away" in caplog.text)
        assert "pass-7f3a9c" not in caplog.text + repr(server.config) + json.dumps(server.effective_config())


async def test_messages_reach_the_other_servers_and_this_one_once(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    async with servers(3, tmp_path, two_deployments(openai, anthropic), valkey) as replicas:
        heard = [listen(replica) for replica in replicas]
        replicas[0].broadcast.publish("topic", b"one\ntwo")
        replicas[0].broadcast.publish("another", b"not heard")
        replicas[0].broadcast.publish("topic", b"x" * 100_000)  # too long for others
        replicas[0].broadcast.publish("topic", b"last")
        await until(lambda: all(one[-1:] == [b"last"] for one in heard))
        assert heard[0] == [b"one\ntwo", b"x" * 100_000, b"last"]
        assert heard[1] == heard[2] == [b"one\ntwo", b"last"]


async def test_a_message_that_could_not_be_sent_is_sent_when_the_server_answers_again(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    async with servers(2, tmp_path, two_deployments(openai, anthropic), valkey) as (first, second):
        heard = listen(second)
        with valkey.frozen():
            first.broadcast.publish("topic", b"of which it is not known whether it was sent")
            await status_is(first, "away")
            first.broadcast.publish("topic", b"said meanwhile")
        await until(lambda: heard[-1:] == [b"said meanwhile"])
        first.broadcast.publish("topic", b"last")
        await until(lambda: heard[-1:] == [b"last"])
        assert heard == [b"of which it is not known whether it was sent", b"said meanwhile", b"last"]


async def test_a_message_reaches_a_server_that_listens_again_later_than_it_is_sent(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    async with servers(3, tmp_path, two_deployments(openai, anthropic), valkey) as (first, *others):
        heard = [listen(other) for other in others]
        valkey.kill()
        first.broadcast.publish("topic", b"of which it is not known whether it was sent")
        await status_is(first, "away")
        first.broadcast.publish("topic", b"said meanwhile")
        valkey.start()
        await until(lambda: all(len(one) == 2 for one in heard))
        for one in (first, *others):
            await status_is(one, "ok")
        first.broadcast.publish("topic", b"last")
        await until(lambda: all(one[-1:] == [b"last"] for one in heard))
        assert {len(one) for one in heard} == {3}


async def test_installations_with_two_prefixes_share_nothing(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    openai.script(Status(401), Text("of the other"))
    one = two_deployments(openai, anthropic)
    other = two_deployments(openai, anthropic) | {"konstruct": {"redis_prefix": "other:"}}
    (tmp_path / "other").mkdir()
    async with servers(1, tmp_path, one, valkey) as (first,):
        other["konstruct"]["redis_url"] = valkey.url
        environ = {"KONSTRUCT_LEDGER_URL": f"sqlite:///{tmp_path}/other.sqlite3", "XDG_DATA_HOME": str(tmp_path)}
        async with Konstruct.from_config(write(tmp_path / "other", other), environ=environ) as second:
            await asyncio.to_thread(valkey.wait_for_servers, 1, "other:")
            await status_is(second, "ok")
            await ask(first)
            await until(lambda: any("konstruct:health:" in name for name in valkey.names()))
            assert (await ask(second)).content == "of the other"


async def test_a_tenants_limit_holds_over_all_servers(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    tenants = {"acme": {"rpm": 3}, "other": {}}
    config = two_deployments(openai, anthropic) | {"konstruct": {"tenants": tenants}}
    async with servers(3, tmp_path, config, valkey) as replicas:
        asked = [one.complete(HELLO, model_group="fast", tenant_id="acme") for one in replicas for _ in range(2)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, KonstructError)]
        assert [one.code for one in refused] == ["rate_limited"] * 3
        assert openai.calls == 3
        await replicas[0].complete(HELLO, model_group="fast", tenant_id="other")


GARBAGE: list[bytes] = [
    b"",
    b"\n\n",
    b"\xff" * 100,
    b"x\nNUMBER\nhealth\n",
    b"x\nNUMBER\nhealth\n[]",
    b"x\nNUMBER\nhealth\n" + b"[" * 60_000,
    b'x\nNUMBER\nhealth\n{"key": 1}',
    b'x\nNUMBER\nhealth\n{"key": "KEY", "left_s": 1e999}',
    b'x\nNUMBER\nhealth\n{"key": "KEY", "left_s": NaN}',
    b'x\nNUMBER\nhealth\n{"key": "KEY", "left_s": -1}',
    b'x\nNUMBER\nhealth\n{"key": "KEY", "left_s": 1e9}',
    b'x\nNUMBER\nhealth\n{"key": "KEY", "left_s": true}',
    b'x\nNUMBER\nhealth\n{"key": "KEY", "left_s": 60, "for": {}}',
    b'x\nNUMBER\nhealth\n{"key": "KEY", "left_s": 60, "failed": 1e99}',
    b'x\nNUMBER\nhealth\n{"key": "KEY", "left_s": 60, "failed": -1}',
    b'x\nNUMBER\nhealth\n{"key": "KEY", "left_s": 60, "fault": []}',
    b'x\nNUMBER\nhealth\n{"key": "nobody", "left_s": 60}',
    b"x\nNUMBER\ncancel\nnot what a cancellation looks like",
    b"x\nNUMBER\n" + b"t" * 60_000 + b"\n",
    b"x" * 1_000_000,
]


async def test_what_another_program_has_put_there_harms_nothing(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    from konstruct_mcp.routing.routes import fingerprint

    config = two_deployments(openai, anthropic, rpm=100)
    async with servers(1, tmp_path, config, valkey) as (server,):
        KonstructServer(server)  # which listens for cancellations
        key = fingerprint(server.config.groups["fast"].deployments[0].params)
        heard = listen(server)
        with valkey.client as client:
            for number, message in enumerate(GARBAGE):
                made = message.replace(b"KEY", key.encode()).replace(b"NUMBER", b"%d" % number)
                client.publish("konstruct:messages", made)
            client.publish("konstruct:messages", b"x" * 65 + b"\n1\ntopic\na sender's name that is too long")
            client.publish("konstruct:messages", b"x\nlast\ntopic\nlast")
            await until(lambda: heard == [b"last"])
            assert state(server) == "ready"

            name = f"konstruct:limit:{key}"
            for kind, *garbage in (
                ("SET", "garbage"),
                ("RPUSH", "garbage"),
                ("HSET", "from", "x", "r", "many", "t", "-inf"),
                ("HSET", "from", "9e15", "r", "1e300", "t", "1e300"),
            ):
                client.pipeline().delete(name).execute_command(kind, name, *garbage).execute()  # at once: it is in use
                assert (await ask(server)).model == "openai/gpt-4o"
            for name in ("replicas", "epoch"):
                client.pipeline().delete(f"konstruct:{name}").rpush(f"konstruct:{name}", "garbage").execute()
            client.set(f"konstruct:health:{key}", b"\xff{" * 2000)
    async with servers(1, tmp_path, config, valkey) as (server,):
        assert state(server) == "ready"


async def test_an_answer_that_one_server_has_cut_is_read_at_another_by_its_tenant_alone(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    openai.script(Text("a long answer " * 100))
    config = two_deployments(openai, anthropic) | {"konstruct": {"max_result_chars": 100}}
    async with servers(2, tmp_path, config, valkey) as (first, second), AsyncExitStack() as stack:

        async def client(server: Konstruct, tenant: str) -> Client:
            served = KonstructServer(server, caller_of=lambda _: Caller.verified(tenant))
            return await stack.enter_async_context(Client(served))

        answer = (await (await client(first, "acme")).call_tool("complete", {"messages": HELLO})).structured_content
        assert answer is not None
        uri = answer["truncated"]["uri"]
        (contents,) = (await (await client(second, "acme")).read_resource(uri)).contents
        assert isinstance(contents, types.TextResourceContents)
        assert contents.text == "a long answer " * 100
        globex = await client(second, "globex")
        with pytest.raises(MCPError, match="no such answer"):
            await globex.read_resource(uri)
        with valkey.client as direct:
            name = f"konstruct:value:answer:{uri.rpartition('/')[2]}"
            assert 0 < int(direct.pttl(name)) <= 3_600_000
            for garbage in (b"garbage", zlib.compress(b"[1, 2]"), zlib.compress(b"0" * 2**25)):
                direct.set(name, garbage)
                with pytest.raises(MCPError, match="no such answer"):
                    await (await client(second, "acme")).read_resource(uri)


async def test_a_user_with_the_rights_that_the_page_names_may_do_all_that_servers_do(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    [acl] = re.findall(r"`(ACL SETUSER konstruct .+?)`", PAGES["docs/shared-state.md"].text, re.S)
    with valkey.client as direct:
        direct.execute_command(*acl.split())
    openai.script(Text("a long answer " * 100), Status(401))
    config = two_deployments(openai, anthropic, rpm=5)
    url = valkey.url.replace("redis://", "redis://konstruct:PASSWORD@")
    config["konstruct"] = {"redis_url": url, "max_result_chars": 100}
    async with servers(2, tmp_path, config, valkey) as (first, second), AsyncExitStack() as stack:
        asking, reading = [await stack.enter_async_context(Client(KonstructServer(one))) for one in (first, second)]
        answer = (await asking.call_tool("complete", {"messages": HELLO, "model_group": "fast"})).structured_content
        assert answer is not None
        await reading.read_resource(answer["truncated"]["uri"])
        assert counted(valkey, "r") == 1
        thread = (await ask(first)).thread
        await second.complete(HELLO, model_group="fast", continue_=thread)
        await until(lambda: state(second) == "cooling_down")
    async with servers(1, tmp_path, config, valkey) as (later,):
        await until(lambda: state(later) == "cooling_down")
    with valkey.client as direct:
        assert direct.acl_log() == []


async def test_reasoning_that_one_server_was_given_comes_back_through_another_and_no_forged_one_does(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    called = Text(None, tool_calls=[("call_1", "weather", "{}")])
    thought = Changed(called, lambda body: body["choices"][0]["message"].update(reasoning_content="Secret thought."))
    openai.script(thought, Text("It rains."))
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    messages: list[Any] = [{"role": "user", "content": "Weather in Oslo?"}]
    async with servers(3, tmp_path, two_deployments(openai, anthropic), valkey) as (first, second, third):
        calls = [call.model_dump() for call in (await first.complete(messages, tools=tools)).tool_calls]
        messages += [
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": calls[0]["id"], "content": "rain"},
        ]
        await second.complete(messages, tools=tools, tenant_id="another")
        assert "Secret thought." not in json.dumps(openai.requests[-1].body)
        await second.complete(messages, tools=tools)
        assert "Secret thought." in json.dumps(openai.requests[-1].body)
        with valkey.client as client:
            [name] = [one for one in valkey.names() if "reasoning" in one]
            sealed = zlib.decompress(client.get(name) or b"")
            client.set(name, zlib.compress(sealed.replace(b"Secret", b"Forged")))
        await third.complete(messages, tools=tools)
        assert "Forged thought." not in json.dumps(openai.requests[-1].body)


async def test_a_thread_goes_on_at_another_server_for_its_tenant_alone(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    called = Text(None, tool_calls=[("call_1", "weather", "{}")])
    thought = Changed(called, lambda body: body["choices"][0]["message"].update(reasoning_content="Hm."))
    openai.script(thought, Text("It rains."), Text("Yes."))
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    config = two_deployments(openai, anthropic) | {"konstruct": {"threads": {"hours": 2}}}
    async with servers(3, tmp_path, config, valkey) as (first, second, third):
        asked = await first.complete("Weather in Oslo?", tools=tools, tenant_id="acme")
        with valkey.client as direct:  # reasoning behind calls is there for an hour, and a thread for longer
            direct.delete(*(name for name in valkey.names() if "reasoning" in name))
        result = {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "rain"}
        with pytest.raises(UnknownThreadError):
            await second.complete([result], tools=tools, tenant_id="globex", continue_=asked.thread)
        answered = await second.complete([result], tools=tools, tenant_id="acme", continue_=asked.thread)
        assert openai.requests[-1].body["messages"][1]["reasoning_content"] == "Hm."
        third_answer = await third.complete("Sure?", tenant_id="acme", continue_=answered.thread)
        assert [message["role"] for message in openai.requests[-1].body["messages"]] == [
            *("user", "assistant", "tool", "assistant", "user")
        ]
        again = await first.complete("Sure?", tenant_id="acme", continue_=third_answer.thread)
        assert again.thread is not None


async def test_a_thread_in_valkey_tells_no_name_lives_as_long_as_what_follows_it_and_cannot_be_changed(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    config = two_deployments(openai, anthropic) | {"konstruct": {"threads": {"hours": 2}}}
    async with servers(2, tmp_path, config, valkey) as (first, second):
        root = await first.complete("a secret question", tenant_id="acme")
        with valkey.client as direct:
            [name] = [one for one in valkey.names() if "thread" in one]
            assert 7_100_000 < int(direct.pttl(name)) <= 7_200_000
            assert root.thread is not None
            assert root.thread not in name
            assert "acme" not in name
            direct.expire(name, 60)
            tip = await second.complete("b", tenant_id="acme", continue_=root.thread)
            assert int(direct.pttl(name)) > 7_100_000
            kept = direct.get(name) or b""
            for garbage in (b"garbage", zlib.compress(b"[]"), zlib.compress(zlib.decompress(kept)[:-1] + b"x")):
                direct.set(name, garbage)
                for thread in (root.thread, tip.thread):
                    with pytest.raises(UnknownThreadError):
                        await second.complete("c", tenant_id="acme", continue_=thread)
            direct.set(name, kept)
            await second.complete("c", tenant_id="acme", continue_=tip.thread)


async def test_a_thread_goes_on_at_its_own_server_while_valkey_is_away(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    async with servers(2, tmp_path, two_deployments(openai, anthropic), valkey) as (first, second):
        root = await ask(first)
        valkey.kill()
        tip = await first.complete("b", model_group="fast", continue_=root.thread)
        assert [message["role"] for message in openai.requests[-1].body["messages"]] == ["user", "assistant", "user"]
        await first.complete("c", model_group="fast", continue_=tip.thread)
        with pytest.raises(UnknownThreadError):
            await second.complete("b", model_group="fast", continue_=root.thread)


async def test_a_changed_address_takes_effect_at_the_next_start(
    valkey: Valkey, openai: Provider, anthropic: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = two_deployments(openai, anthropic)
    async with servers(1, tmp_path, config, valkey) as (server,):
        config["konstruct"]["redis_url"] = "redis://elsewhere.invalid:1/0"
        write(tmp_path / "0", config)
        assert not await server.reload()
        assert "konstruct.redis_url has changed, which takes effect at the next start" in caplog.text
        assert server.shared_state == "ok"


class TestTheLookOfCheck:
    """What `konstruct-mcp check` says of the server, as one that comes and goes and is no server itself."""

    @pytest.fixture
    def config(self, openai: Provider, tmp_path: Path) -> dict[str, Any]:
        gpt = {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "sk-openai-test"}
        return {"model_list": [entry("fast", gpt)]}

    def check(self, config: dict[str, Any], folder: Path, url: str) -> Ran:
        return run("--config", write(folder, config), "check", env={"KONSTRUCT_REDIS_URL": url})

    async def test_counts_the_servers_and_not_itself(
        self, config: dict[str, Any], tmp_path: Path, valkey: Valkey
    ) -> None:
        async with servers(2, tmp_path, config, valkey):
            ran = await asyncio.to_thread(self.check, config, tmp_path, valkey.url)

        assert ran.code == 0
        assert "redis: can be used; servers there: 2\n" in ran.out

    def test_says_nothing_where_the_config_names_none(self, config: dict[str, Any], tmp_path: Path) -> None:
        assert "redis" not in run("--config", write(tmp_path, config), "check").out

    def test_says_that_the_login_is_refused_and_never_the_password(
        self, config: dict[str, Any], tmp_path: Path, valkey: Valkey
    ) -> None:
        with valkey.client as client:
            client.config_set("requirepass", "hunter2")
        none, wrong, right = (
            self.check(config, tmp_path, valkey.url.replace("://", f"://{login}"))
            for login in ("", ":hunter3@", ":hunter2@")
        )

        refused = "redis: cannot be used: it refuses the login: the user or the password is wrong, or missing\n"
        assert refused in none.out
        assert refused in wrong.out
        assert "redis: can be used; servers there: 0\n" in right.out
        assert [ran.code for ran in (none, wrong, right)] == [1, 1, 0]
        assert not any("hunter" in ran.out + ran.err for ran in (none, wrong, right))

    def test_says_what_else_is_wrong_without_the_address(
        self, config: dict[str, Any], tmp_path: Path, valkey: Valkey
    ) -> None:
        said = {}
        with valkey.client as client:
            client.acl_setuser(
                "mute", enabled=True, passwords=["+hunter2"], keys=["konstruct:*"], commands=["+@all"], reset=True
            )
            said["rights"] = self.check(config, tmp_path, valkey.url.replace("://", "://mute:hunter2@"))
            client.config_set("maxmemory", 1)
            said["full"] = self.check(config, tmp_path, valkey.url)
        valkey.kill()
        said["dead"] = self.check(config, tmp_path, valkey.url.replace("://", "://:hunter2@"))

        why = {name: ran.out.partition("\nredis: cannot be used: ")[2].partition("\n")[0] for name, ran in said.items()}
        assert why == {
            "rights": "its user lacks a right that servers need",
            "full": "it is full",
            "dead": "Connection refused",
        }
        assert {ran.code for ran in said.values()} == {1}
        assert not any("hunter2" in ran.out + ran.err or "127.0.0.1" in ran.out for ran in said.values())
