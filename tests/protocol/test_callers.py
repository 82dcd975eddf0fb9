"""Two verified callers of one server at once: neither sees or spends anything of the other.

Alice and Bob are tenants of one config, each with groups, budgets and a wildcard of their own, and with one group that
both may use. The server is the operator's, so that whoever is taken for the process sees everything.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml
from mcp import Client, types
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.shared.exceptions import MCPError
from support.databases import Database, sqlite
from support.default_groups import HELLO, entry, replace, write
from support.http_process import call, headers_for, message
from support.http_server import access, over_http, served
from support.priced_config import PRICES
from support.providers import Gate, Provider, Status, Text

from konstruct_mcp import Konstruct, UnknownTenantError
from konstruct_mcp.core.events import CallClosed, Refused, TryEnded
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.protocol.server import KonstructServer
from konstruct_mcp.protocol.tokens import the_process, verified_callers

pytestmark = pytest.mark.many_cases  # each in one of three eras

# Every word by which one of them is known; the other must not meet any. "alice" and "bob" are parts of all of them.
WHO = ("alice", "bob")
OTHER = {"alice": "bob", "bob": "alice"}
USD = {"alice": 5.0, "bob": 7.0}
BOOK = "".join(f"This is sentence number {n}. " for n in range(100))
TOKENS = {f"token-of-{who}": access(who) for who in (*WHO, "carol", "auth0|dave")}
ANSWERS_FOR = {"alice": "openai/alice-model", "bob": "openai/bob-model"}


OF_ALL = {"shared": {"description": "of all"}}


class World:
    def __init__(self, folder: Path, openai: Provider, anthropic: Provider) -> None:
        self.folder, self.openai, self.anthropic = folder, openai, anthropic
        self.database: Database = sqlite(folder)
        self.events: list[Any] = []

    def config(self, **konstruct: Any) -> dict[str, Any]:
        house = {"api_base": self.openai.url, "api_key": "sk-test", **PRICES}
        return {
            "model_list": [
                *(entry(f"{who}-group", {"model": f"openai/{who}-model", **house}) for who in WHO),
                *(entry(f"{who}-spare", {"model": f"openai/{who}-spare", **house}) for who in WHO),
                *(entry(f"{who}-house/*", {"model": "openai/*", **house}) for who in WHO),
                entry("shared", {"model": "openai/shared", **house}),
            ],
            "router_settings": {
                "num_retries": 0,
                "fallbacks": [
                    {"alice-group": ["alice-spare", "bob-spare"]},
                    {"bob-group": ["alice-spare", "bob-spare"]},
                    {"shared": ["alice-spare", "bob-spare"]},
                ],
                "model_group_alias": {f"{who}-alias": f"{who}-group" for who in WHO},
            },
            "konstruct": {
                "ledger_url": self.database.url,
                "max_result_chars": 500,
                "tenants": {
                    who: {
                        "groups": [f"{who}-group", f"{who}-spare", f"{who}-house/*", f"{who}-alias", "shared"],
                        "budgets": [{"usd": USD[who], "per": "day"}],
                        "note": f"a note on {who}",
                    }
                    for who in WHO
                },
                "budgets": [{"usd": 11, "per": "month"}],
                "groups": {
                    f"{who}-group": {"description": f"what {who} needs", "formerly": [f"{who}-old"]} for who in WHO
                },
                **konstruct,
            },
        }

    @asynccontextmanager
    async def opened(self, environ: Mapping[str, str] = {}, **konstruct: Any) -> AsyncIterator[Konstruct]:
        path = write(self.folder, self.config(**konstruct))
        async with Konstruct.from_config(path, environ=environ, hooks=[self.events.append]) as made:
            yield made

    def tenants_of_rows(self) -> list[str]:
        return sorted(row["tenant"] for row in self.database.rows())


@pytest.fixture
def world(tmp_path: Path, openai: Provider, anthropic: Provider) -> World:
    return World(tmp_path, openai, anthropic)


@pytest.fixture(params=["2026", "2025", "2025 stateless"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def server_of(konstruct: Konstruct) -> KonstructServer:
    return KonstructServer(konstruct, caller_of=verified_callers(lambda token: token.subject))


@asynccontextmanager
async def both(konstruct: Konstruct, era: str, **options: Any) -> AsyncIterator[dict[str, Client]]:
    """A client of each, connected to one server at the same time."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(server_of(konstruct), TOKENS, stateless="stateless" in era))
        yield {who: await stack.enter_async_context(over_http(url, f"token-of-{who}", era, **options)) for who in WHO}


def says_nothing_of(who: str, text: str) -> bool:
    return who not in text.casefold()


async def read(client: Client, uri: str) -> str:
    (contents,) = (await client.read_resource(uri)).contents
    assert isinstance(contents, types.TextResourceContents)
    return contents.text


async def refusal(client: Client, uri: str) -> str:
    with pytest.raises(MCPError) as refused:
        await client.read_resource(uri)
    return str(refused.value)


async def called(client: Client, **arguments: Any) -> types.CallToolResult:
    return await client.call_tool("complete", {"messages": HELLO, **arguments})


def text(result: types.CallToolResult) -> str:
    block = result.content[0]
    assert isinstance(block, types.TextContent)
    return block.text


class TestWhatEachIsShown:
    async def test_are_instructions_with_the_own_groups(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                assert client.instructions is not None
                assert f"- {who}-group: what {who} needs" in client.instructions
                assert f"{who}-house/*" in client.instructions
                assert says_nothing_of(OTHER[who], client.instructions)

    async def test_are_tools_with_the_own_groups(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                tools = (await client.list_tools()).tools
                group = tools[0].input_schema["properties"]["model_group"]
                assert group["default"] == f"{who}-group"
                assert f"{who}-spare: " in group["description"]
                assert says_nothing_of(OTHER[who], "".join(tool.model_dump_json() for tool in tools))

    async def test_is_an_enum_of_the_own_groups(self, world: World, era: str) -> None:
        config = world.config()
        config["model_list"] = [one for one in config["model_list"] if "*" not in one["model_name"]]
        for tenant in config["konstruct"]["tenants"].values():
            tenant["groups"] = [name for name in tenant["groups"] if "*" not in name]
        async with (
            Konstruct.from_config(write(world.folder, config), environ={}) as konstruct,
            both(konstruct, era) as clients,
        ):
            for who, client in clients.items():
                schema = (await client.list_tools()).tools[0].input_schema["properties"]["model_group"]
                assert set(schema["enum"]) == {f"{who}-group", f"{who}-spare", f"{who}-alias", "shared"}

    async def test_are_the_own_groups_in_the_listing_and_the_resources(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                listed = (await client.call_tool("list_groups", {})).structured_content
                assert listed is not None
                assert listed["default_group"] == f"{who}-group"
                assert {group["name"] for group in listed["groups"]} == {
                    *(f"{who}-group", f"{who}-spare", f"{who}-alias", "shared")
                }
                assert listed["groups"][0]["fallbacks"] == [f"{who}-spare"]
                assert json.loads(await read(client, "konstruct://groups")) == listed
                own = json.loads(await read(client, f"konstruct://groups/{who}-group"))
                assert own == listed["groups"][0]
                assert says_nothing_of(OTHER[who], json.dumps(listed))

    async def test_is_no_group_of_the_other(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                others = await refusal(client, f"konstruct://groups/{OTHER[who]}-group")
                none = await refusal(client, "konstruct://groups/nobodys-group")
                assert others.startswith(f'unknown_group: no group "{OTHER[who]}-group"; ')
                assert f"{who}-group" in none
                assert says_nothing_of(OTHER[who], none)
                assert says_nothing_of(OTHER[who], others.replace(f'"{OTHER[who]}-group"', ""))

    async def test_is_a_state_that_another_tenants_requests_did_not_bring_about(self, world: World, era: str) -> None:
        world.openai.script(*[Status(500)] * 6, Text("well"))
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for _ in range(3):
                assert (await called(clients["alice"], model_group="shared")).is_error
            states = {
                who: json.loads(await read(client, "konstruct://groups/shared"))["deployments"][0]["state"]
                for who, client in clients.items()
            }
        assert states == {"alice": "cooling_down", "bob": "ready"}

    async def test_is_the_own_part_of_the_config(self, world: World, era: str) -> None:
        async with world.opened(environ={"UNUSED": "x"}) as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                body = await read(client, "konstruct://config")
                shown = yaml.safe_load(body)
                assert says_nothing_of(OTHER[who], body)
                assert list(shown["konstruct"]["tenants"]) == [who]
                assert shown["konstruct"]["default_tenant"] == who
                assert shown["konstruct"]["default_group"] == f"{who}-group"
                assert shown["konstruct"]["tenants"][who]["budgets"] == [{"usd": USD[who], "per": "day"}]
                assert shown["konstruct"]["budgets"] == []  # which are of tenants without any of their own
                assert "note" not in shown["konstruct"]["tenants"][who]
                assert [one["model_name"] for one in shown["model_list"]] == [
                    *(f"{who}-group", f"{who}-spare", f"{who}-house/*", "shared")
                ]

    async def test_is_no_fault_of_a_changed_config(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            replace(konstruct.config.file or Path(), world.config(tenants={"bob": {"groups": ["alice-gone"]}}))
            with pytest.raises(Exception, match="alice-gone"):
                await konstruct.reload()
            for who, client in clients.items():
                body = await read(client, "konstruct://config")
                assert yaml.safe_load(body)["faults"] == [
                    "the file has changed and cannot be used; the server's log says why"
                ]
                assert says_nothing_of(OTHER[who], body)

    async def test_is_no_fault_of_a_config_that_cannot_be_used_yet(self, world: World, era: str) -> None:
        path = write(world.folder, world.config(tenants={"bob": {"groups": ["alice-gone"]}}))
        async with Konstruct.for_server(path, environ={}) as konstruct, both(konstruct, era) as clients:
            for client in clients.values():
                said = [
                    text(await client.call_tool("list_groups", {})),
                    text(await called(client)),
                    *[await refusal(client, f"konstruct://{uri}") for uri in ("groups", "config", "usage/bob")],
                    str(client.instructions),
                ]
                assert "cannot be used; the server's log says why" in said[0]
                assert all(says_nothing_of(who, line.replace("usage/bob", "")) for line in said for who in WHO)

    async def test_is_the_own_usage_and_the_own_budget(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            await called(clients["alice"])
            for _ in range(2):
                await called(clients["bob"])
            for calls, (who, client) in enumerate(clients.items(), start=1):
                for uri in ("konstruct://usage", f"konstruct://usage/{who}"):
                    body = await read(client, uri)
                    usage = json.loads(body)
                    assert (usage["tenant"], usage["total"]["calls"]) == (who, calls)
                    assert [(one["tenant"], one["usd"]) for one in usage["budgets"]] == [(who, USD[who])]
                    assert says_nothing_of(OTHER[who], body)

    async def test_is_no_account_of_the_other_nor_whether_there_is_one(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                others = await refusal(client, f"konstruct://usage/{OTHER[who]}")
                nobodys = await refusal(client, "konstruct://usage/nobody")
                assert others == nobodys.replace("nobody", OTHER[who])
                assert "no account of" in others

    async def test_are_the_own_names_to_complete_an_argument(self, world: World, era: str) -> None:
        groups = types.ResourceTemplateReference(uri="konstruct://groups/{name}")
        usage = types.ResourceTemplateReference(uri="konstruct://usage/{tenant_id}")
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                offered = (await client.complete(groups, {"name": "name", "value": ""})).completion.values
                assert set(offered) == {f"{who}-group", f"{who}-spare", f"{who}-alias", "shared"}
                offered = (await client.complete(groups, {"name": "name", "value": OTHER[who]})).completion.values
                assert offered == []
                offered = (await client.complete(usage, {"name": "tenant_id", "value": ""})).completion.values
                assert offered == [who]

    async def test_is_the_same_list_of_resources(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            listed = [(await client.list_resources()).model_dump_json() for client in clients.values()]
            listed += [(await client.list_resource_templates()).model_dump_json() for client in clients.values()]
        assert all(says_nothing_of(who, one) for one in listed for who in WHO)

    async def test_is_the_own_answer_that_was_kept(self, world: World, era: str) -> None:
        world.openai.script(Text(BOOK))
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            uris = {}
            for who, client in clients.items():
                answer = (await called(client)).structured_content
                assert answer is not None
                uris[who] = answer["truncated"]["uri"]
            for who, client in clients.items():
                assert await read(client, uris[who]) == BOOK
                assert await refusal(client, uris[OTHER[who]]) == await refusal(client, "konstruct://completions/none")


class TestWhatEachSpends:
    async def test_is_on_the_own_account_by_the_own_default_group(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                answer = (await called(client)).structured_content
                assert answer is not None
                assert (answer["model_group"], answer["model"]) == (f"{who}-group", ANSWERS_FOR[who])
            rows = {row["tenant"]: row["group_asked"] for row in world.database.rows()}
        assert rows == {who: f"{who}-group" for who in WHO}

    async def test_is_never_on_the_account_that_an_argument_names(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                for group in ("shared", f"{OTHER[who]}-group", "nobodys-group"):
                    others = await called(client, tenant_id=OTHER[who], model_group=group)
                    nobodys = await called(client, tenant_id="nobody", model_group=group)
                    assert others.is_error
                    assert text(others) == f'unknown_tenant: no tenant "{OTHER[who]}" here; leave tenant_id out'
                    assert text(nobodys) == text(others).replace(OTHER[who], "nobody")
            assert world.openai.calls == 0
            for who, client in clients.items():
                assert not (await called(client, tenant_id=who)).is_error
                assert not (await called(client, tenant_id="")).is_error
        assert world.tenants_of_rows() == ["alice", "alice", "bob", "bob"]

    async def test_is_by_no_group_and_no_wildcard_of_the_other(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                for name in (f"{OTHER[who]}-group", f"{OTHER[who]}-alias", f"{OTHER[who]}-house/gpt-4o"):
                    refused = await called(client, model_group=name)
                    assert refused.is_error
                    assert text(refused).startswith(f'unknown_group: no group "{name}"; ')
                    assert says_nothing_of(OTHER[who], text(refused).replace(f'"{name}"', ""))
            assert world.openai.calls == 0
            assert not (await called(clients["alice"], model_group="alice-house/gpt-4o")).is_error
            refused = await called(clients["bob"], model_group="alice-house/gpt-4o")  # though it has been made by now
            assert text(refused).startswith('unknown_group: no group "alice-house/gpt-4o"')

    async def test_fails_without_a_word_of_the_others_deployments(self, world: World, era: str) -> None:
        world.openai.script(Status(500))
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for who, client in clients.items():
                failed = text(await called(client))
                assert f"openai/{who}-spare" in failed
                assert says_nothing_of(OTHER[who], failed)

    async def test_is_held_to_the_own_budget(self, world: World, era: str) -> None:
        tenants = world.config()["konstruct"]["tenants"]
        tenants["alice"]["budgets"] = [{"usd": 0, "per": "total"}]
        async with world.opened(tenants=tenants) as konstruct, both(konstruct, era) as clients:
            refused = text(await called(clients["alice"]))
            assert refused.startswith("budget_exceeded: ")
            assert says_nothing_of("bob", refused)
            assert not (await called(clients["bob"])).is_error

    async def test_many_calls_at_once_are_each_on_the_account_of_whoever_made_it(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            await called(clients["alice"])  # loads LiteLLM
            asked = [who for _ in range(10) for who in WHO]
            answers = await asyncio.gather(*(called(clients[who]) for who in asked))
            models = [answer.structured_content["model"] for answer in answers if answer.structured_content]
        assert models == [ANSWERS_FOR[who] for who in asked]
        assert world.tenants_of_rows() == ["alice"] * 11 + ["bob"] * 10

    async def test_is_told_to_hooks_with_the_own_tenant(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, both(konstruct, era) as clients:
            for client in clients.values():
                await called(client)
            await called(clients["alice"], tenant_id="bob")
        assert [event.tenant for event in world.events if isinstance(event, CallClosed)] == ["alice", "bob"]
        assert [event.deployment for event in world.events if isinstance(event, TryEnded)] == [
            *("alice-group/1", "bob-group/1")
        ]
        assert [event for event in world.events if isinstance(event, Refused)] == [
            Refused("alice", None, "unknown_tenant")
        ]


async def test_progress_comes_to_whoever_made_the_call(world: World, era: str) -> None:
    world.openai.script(Text("at once"), Gate("slowly"))
    told: dict[str, set[str]] = {who: set() for who in WHO}
    both_told = asyncio.Event()

    def noting(who: str) -> Any:
        async def note(progress: float, total: float | None, message: str | None) -> None:
            told[who].add(str(message))
            if all(told.values()):
                both_told.set()

        return note

    async with world.opened() as konstruct, both(konstruct, era) as clients:
        await called(clients["alice"], model_group="shared")  # loads LiteLLM
        asking = [
            asyncio.create_task(client.call_tool("complete", {"messages": HELLO}, progress_callback=noting(who)))
            for who, client in clients.items()
        ]
        async with asyncio.timeout(30):
            await both_told.wait()
        world.openai.release()
        await asyncio.gather(*asking)
    assert told == {who: {f"trying {ANSWERS_FOR[who]}"} for who in WHO}


class Listener:
    """Takes note of the notices that a client of either era gets; `heard_of_tools` once there is one of its tools."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.listens, self.heard_of_tools = asyncio.Event(), asyncio.Event()

    async def take(self, notice: Any) -> None:
        self.heard.append(repr(notice))
        if "ToolListChanged" in repr(notice) or "ToolsListChanged" in repr(notice):
            self.heard_of_tools.set()

    async def listen(self, client: Client) -> None:
        uris = ["konstruct://config", "konstruct://groups"]
        asked = client.listen(tools_list_changed=True, resources_list_changed=True, resource_subscriptions=uris)
        async with asked as notices:
            self.listens.set()
            async for notice in notices:
                await self.take(notice)


async def test_an_answer_that_cannot_be_encoded_comes_to_whoever_asked(world: World, era: str) -> None:
    world.openai.script(Text("half \ud83d of it", tool_calls=[("c\udc00", "f", '{"a": "\ud800"}')]))
    async with world.opened(max_result_chars=100_000) as konstruct, both(konstruct, era) as clients:
        answer = await called(clients["alice"])
    assert answer.structured_content is not None
    assert answer.structured_content["content"] == "half \ufffd of it"
    assert "half \ufffd of it" in text(answer)


async def test_streams_of_notices_are_not_taken_from_another_tenant(world: World) -> None:
    async with world.opened() as konstruct, both(konstruct, "2026") as clients, AsyncExitStack() as stack:
        for _ in range(16):
            await stack.enter_async_context(clients["alice"].listen(tools_list_changed=True))
        with pytest.raises(MCPError, match="limit"):
            await stack.enter_async_context(clients["alice"].listen(tools_list_changed=True))
        await stack.enter_async_context(clients["bob"].listen(tools_list_changed=True))


async def test_a_call_lists_no_tools(world: World) -> None:
    seen: list[str] = []

    async def note(ctx: Any, call_next: Any) -> Any:
        seen.append(ctx.method)
        return await call_next(ctx)

    sent = message("tools/call", call())
    async with world.opened() as konstruct:
        server = server_of(konstruct)
        server.middleware.append(note)
        async with served(server, TOKENS, stateless=True) as url, httpx2.AsyncClient(timeout=60) as http:
            headers = headers_for(sent, "2026", authorization="Bearer token-of-alice")
            assert (await http.post(url, json=sent, headers=headers)).status_code == 200
    assert seen == ["tools/call"]


async def test_a_model_that_one_has_asked_for_by_a_wildcard_is_not_shown_to_another(world: World, era: str) -> None:
    config = world.config()
    config["model_list"] = [each for each in config["model_list"] if each["model_name"] == "alice-house/*"]
    config["router_settings"] = {}
    config["konstruct"] = {"ledger_url": world.database.url, "allow_unknown": True}
    path = write(world.folder, config)
    async with Konstruct.from_config(path, environ={}) as konstruct, both(konstruct, era) as clients:
        assert not (await called(clients["alice"], model_group="alice-house/secret-model")).is_error
        tools = (await clients["bob"].list_tools(cache_mode="bypass")).tools[0].model_dump_json()
        refused = await called(clients["bob"])
    assert "secret-model" not in tools
    assert refused.is_error
    assert text(refused).startswith("invalid_argument: model_group: is needed")


@pytest.mark.parametrize("everybodys", [{}, {"parallel_calls": False}, {"threads": {"keep": "off"}}], ids=str)
@pytest.mark.parametrize("era", ["2026", "2025"])  # a stateless server has nowhere to send them to
async def test_notices_of_a_change_come_to_those_whose_tools_have_changed(
    world: World, era: str, everybodys: dict[str, Any]
) -> None:
    listeners, until = {who: Listener() for who in WHO}, anyio.Event()
    async with world.opened() as konstruct, AsyncExitStack() as stack:
        server = server_of(konstruct)
        url = await stack.enter_async_context(served(server, TOKENS))
        clients = {
            who: await stack.enter_async_context(
                over_http(url, f"token-of-{who}", era, message_handler=listeners[who].take)
            )
            for who in WHO
        }
        config, until_both = world.config(), world.config()
        config["konstruct"]["groups"]["bob-group"]["description"] = "what bob wants now"
        groups = config["konstruct"]["groups"]
        until_both["konstruct"] |= {"groups": groups, **(everybodys or {"groups": {**groups, **OF_ALL}})}
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(server.follow_config(until))
            listening = []
            if era == "2026":
                listening = [tasks.create_task(listeners[who].listen(clients[who])) for who in WHO]
                for listener in listeners.values():
                    await listener.listens.wait()
            replace(konstruct.config.file or Path(), config)
            await listeners["bob"].heard_of_tools.wait()
            replace(konstruct.config.file or Path(), until_both)
            await listeners["alice"].heard_of_tools.wait()
            of_tools = [heard for heard in listeners["alice"].heard if "Tool" in heard]
            assert len(of_tools) == len(set(of_tools))  # one of the two changes; a client tells of it in two ways
            until.set()
            await following
            for task in listening:
                task.cancel()
        for who, client in clients.items():
            tools = (await client.list_tools(cache_mode="bypass")).tools[0].model_dump_json()
            assert ("what bob wants now" in tools) is (who == "bob")
    said = "".join(line for listener in listeners.values() for line in listener.heard)
    assert all(says_nothing_of(who, said) for who in WHO)


async def test_a_budget_on_groups_names_no_group_of_others(world: World, era: str) -> None:
    config = world.config(budgets=[{"usd": 0.000001, "per": "month", "groups": ["alice-group", "bob-group", "shared"]}])
    for tenant in config["konstruct"]["tenants"].values():
        del tenant["budgets"]
    async with (
        Konstruct.from_config(write(world.folder, config), environ={}) as konstruct,
        both(konstruct, era) as clients,
    ):
        for who, client in clients.items():
            refused = text(await called(client, model_group=f"{who}-group", max_tokens=100))
            usage = await read(client, "konstruct://usage")
            assert refused.startswith("budget_exceeded"), refused
            assert f"{who}-group" in refused
            assert says_nothing_of(OTHER[who], refused + usage)


async def test_an_argument_that_there_is_not_is_quoted_in_part(world: World, era: str) -> None:
    async with world.opened() as konstruct, both(konstruct, era) as clients:
        refused = text(await clients["alice"].call_tool("list_groups", {"x\ud800" * 3000: 1}))
    assert refused.startswith("invalid_argument: x")
    assert len(refused) < 300


class TestWhoIsNoTenant:
    async def test_is_refused_everything(self, world: World, era: str) -> None:
        async with (
            world.opened() as konstruct,
            served(server_of(konstruct), TOKENS, stateless="stateless" in era) as url,
        ):
            with pytest.raises(BaseException) as refused:
                async with over_http(url, "token-of-carol", era):
                    pass
        said = "".join(str(error) for error in flattened(refused.value))
        assert 'unknown_tenant: no tenant "carol" here, which your access token stands for' in said
        assert all(says_nothing_of(who, said) for who in WHO)

    async def test_is_refused_each_request_by_itself(self, world: World) -> None:
        usage = types.ResourceTemplateReference(uri="konstruct://usage/{tenant_id}")
        async with (
            world.opened() as konstruct,
            served(server_of(konstruct), TOKENS) as url,
            over_http(url, "token-of-carol", "2026 unasked") as carol,
        ):
            for ask in (
                carol.list_tools,
                carol.list_resources,
                carol.list_resource_templates,
                lambda: carol.complete(usage, {"name": "other", "value": ""}),
                lambda: carol.read_resource("konstruct://config"),
                lambda: carol.read_resource("konstruct://nope"),
                lambda: called(carol),
                lambda: carol.call_tool("list_groups", {}),
            ):
                with pytest.raises(MCPError, match='unknown_tenant: no tenant "carol" here'):
                    await ask()
        assert world.events == []

    async def test_is_one_where_the_config_allows_any(self, world: World, era: str) -> None:
        async with (
            world.opened(allow_unknown=True) as konstruct,
            served(server_of(konstruct), TOKENS, stateless="stateless" in era) as url,
            over_http(url, "token-of-carol", era) as carol,
        ):
            assert not (await called(carol, model_group="shared")).is_error
            usage = json.loads(await read(carol, "konstruct://usage"))
            shown = yaml.safe_load(await read(carol, "konstruct://config"))
        assert (usage["tenant"], usage["total"]["calls"]) == ("carol", 1)
        assert [budget["usd"] for budget in usage["budgets"]] == [11]
        assert shown["konstruct"]["tenants"] == {}
        assert shown["konstruct"]["budgets"] == [{"usd": 11, "per": "month"}]
        assert world.tenants_of_rows() == ["carol"]

    async def test_is_refused_by_the_server_of_another_tenant(self, world: World, era: str) -> None:
        async with (
            world.opened({"KONSTRUCT_TENANT_ID": "bob"}) as konstruct,
            served(server_of(konstruct), TOKENS, stateless="stateless" in era) as url,
            over_http(url, "token-of-bob", era) as bob,
        ):
            assert not (await called(bob)).is_error
            with pytest.raises(BaseException) as refused:
                async with over_http(url, "token-of-alice", era):
                    pass
        assert 'no tenant "alice" here' in "".join(str(error) for error in flattened(refused.value))

    async def test_has_an_id_that_is_none(self, world: World, era: str) -> None:
        async with (
            world.opened(allow_unknown=True) as konstruct,
            served(server_of(konstruct), TOKENS, stateless="stateless" in era) as url,
        ):
            with pytest.raises(BaseException) as refused:
                async with over_http(url, "token-of-auth0|dave", era):
                    pass
        assert "should be 1 to 128 letters" in "".join(str(error) for error in flattened(refused.value))

    async def test_has_no_token(self, world: World) -> None:
        async with (
            world.opened() as konstruct,
            served(server_of(konstruct), TOKENS) as url,
            httpx2.AsyncClient() as http,
        ):
            answer = await http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert answer.status_code == 401


class TestTheCallerOfARequest:
    def of(self, token: AccessToken | None, tenant: Any) -> Caller:
        reset = auth_context_var.set(None if token is None else AuthenticatedUser(token))
        try:
            return verified_callers(lambda _: tenant)(None)  # type: ignore[arg-type]  # it looks at the token alone
        finally:
            auth_context_var.reset(reset)

    def test_is_the_process_where_nobody_is_verified(self) -> None:
        assert the_process(None) == Caller()  # type: ignore[arg-type]  # it looks at nothing

    def test_is_who_the_token_stands_for(self) -> None:
        caller = self.of(access("subject", "read", "write"), "acme")
        assert caller == Caller("acme", "token", "subject", frozenset({"read", "write"}))

    @pytest.mark.parametrize(("token", "tenant"), [(None, "acme"), (access("s"), None), (access("s"), "")])
    def test_is_never_the_process_where_a_token_is_needed(self, token: AccessToken | None, tenant: Any) -> None:
        with pytest.raises(UnknownTenantError):
            self.of(token, tenant)


def flattened(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [one for inner in error.exceptions for one in flattened(inner)]
    return [error]
