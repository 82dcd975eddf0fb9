"""Who is the tenant of a call, which groups there are for it, and what one tenant sees of another: nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp import types
from mcp.shared.exceptions import MCPError
from support.databases import Database, sqlite
from support.default_groups import HELLO, connected, opened, write
from support.priced_config import priced_config
from support.providers import Provider, Status

from konstruct_mcp import (
    AllFailedError,
    ConfigError,
    InvalidArgumentError,
    Konstruct,
    KonstructError,
    UnknownGroupError,
    UnknownTenantError,
)

TENANTS: dict[str, Any] = {
    "acme": {
        "groups": ["free", "paid"],
        "budgets": [{"usd": 5, "per": "day", "groups": ["paid"]}],
        "note": "our first",
    },
    "globex": {"groups": ["strong"], "budgets": [{"usd": 7, "per": "month"}], "note": "pays late"},
    "umbrella": None,
}
OTHERS = ("globex", "umbrella", "pays late", "strong", "openai/unpriced", "claude")  # what acme must not hear of


class World:
    """The groups `paid`, `strong`, `free` and `unpriced` over fakes, and the tenants above unless told otherwise."""

    def __init__(self, folder: Path, *providers: Provider) -> None:
        self.folder, self.database = folder, sqlite(folder)
        self.openai, self.anthropic, self.ollama = providers

    def opened(self, environ: Mapping[str, str] = {}, **konstruct: Any) -> Any:
        config = priced_config(
            self.database, self.openai, self.anthropic, self.ollama, **{"tenants": TENANTS, **konstruct}
        )
        return opened(self.folder, config, environ)

    def of_acme(self) -> Any:
        return self.opened({"KONSTRUCT_TENANT_ID": "acme"})

    async def called_by_globex(self) -> None:
        async with self.opened() as konstruct:
            await konstruct.complete(HELLO, tenant_id="globex", model_group="strong")

    @property
    def asked(self) -> int:
        return self.openai.calls + self.anthropic.calls + self.ollama.calls


@pytest.fixture
def world(tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider) -> World:
    return World(tmp_path, openai, anthropic, ollama)


def of_rows(database: Database) -> list[str]:
    return [row["tenant"] for row in database.rows()]


class TestTheTenant:
    @pytest.mark.parametrize(
        ("argument", "environ", "config", "tenant"),
        [
            ("acme", "globex", "umbrella", "acme"),
            (None, "globex", "umbrella", "globex"),
            (None, None, "umbrella", "umbrella"),
            (None, None, None, "default"),
            ("", "globex", "umbrella", "globex"),  # as clients send what nobody has filled in
        ],
    )
    async def test_is_the_argument_else_the_environments_else_the_configs(
        self, world: World, argument: str | None, environ: str | None, config: str | None, tenant: str
    ) -> None:
        environment = {} if environ is None else {"KONSTRUCT_TENANT_ID": environ}
        named = {} if config is None else {"default_tenant": config}
        async with world.opened(environment, tenants=None, **named) as konstruct:
            await konstruct.complete(HELLO, tenant_id=argument)
        assert of_rows(world.database) == [tenant]

    @pytest.mark.parametrize("tenant", ["a", "0", "team.x:y@example.org-1_2", "A" * 128])
    async def test_has_an_id_of_these_characters(self, world: World, tenant: str) -> None:
        async with world.opened(tenants=None) as konstruct:
            await konstruct.complete(HELLO, tenant_id=tenant)
        assert of_rows(world.database) == [tenant]

    @pytest.mark.parametrize("tenant", ["a b", "a/b", "a\n", "ä", "a;b", "A" * 129, "'"])
    async def test_has_no_other_id(self, world: World, tenant: str) -> None:
        async with world.opened(tenants=None) as konstruct:
            with pytest.raises(InvalidArgumentError, match="tenant_id: should be 1 to 128 letters, digits"):
                await konstruct.complete(HELLO, tenant_id=tenant)
            with pytest.raises(InvalidArgumentError):
                await konstruct.usage(tenant)
        assert world.asked == 0

    async def test_is_one_of_those_named_and_an_error_names_none_of_them(self, world: World) -> None:
        async with world.opened() as konstruct:
            with pytest.raises(UnknownTenantError) as refused:
                await konstruct.complete(HELLO, tenant_id="initech")
        assert str(refused.value) == 'unknown_tenant: no tenant "initech"; pass the one you were given'
        assert world.asked == 0

    async def test_has_to_be_named_where_the_default_one_is_not(self, world: World) -> None:
        async with world.opened() as konstruct:
            with pytest.raises(UnknownTenantError, match="pass the one you were given"):
                await konstruct.complete(HELLO)
            assert (await konstruct.complete(HELLO, tenant_id="umbrella")).content

    async def test_may_be_another_where_the_config_allows_it(self, world: World) -> None:
        budgets = [{"usd": 3, "per": "total"}]
        async with world.opened(allow_unknown=True, budgets=budgets) as konstruct:
            await konstruct.complete(HELLO, tenant_id="initech", model_group="strong")
            [budget] = await konstruct.budgets("initech")
            own = await konstruct.budgets("acme")
        assert of_rows(world.database) == ["initech"]
        assert budget.limit_nusd == 3 * 10**9
        assert [budget.name for budget in own] == ["$5 per day for paid"]

    async def test_that_is_there_no_more_has_its_calls_and_no_budget(self, world: World) -> None:
        budgets = [{"usd": 3, "per": "total"}]
        async with world.opened(tenants=None, budgets=budgets, allow_unknown=True) as konstruct:
            await konstruct.complete(HELLO, tenant_id="initech")
            assert len(await konstruct.budgets("initech")) == 1
        async with world.opened(budgets=budgets) as konstruct:
            report = await konstruct.usage("initech")
            assert {budget.tenant for budget in await konstruct.budgets()} == set(TENANTS)
        assert report.as_dict()["total"]["calls"] == 1
        assert report.budgets == ()

    @pytest.mark.parametrize("named", [{"KONSTRUCT_TENANT_ID": "initech"}, {}])
    async def test_of_the_server_has_to_exist(self, world: World, named: Mapping[str, str]) -> None:
        place = "KONSTRUCT_TENANT_ID" if named else "konstruct.default_tenant"
        config = {} if named else {"default_tenant": "initech"}
        with pytest.raises(ConfigError, match=f"{place}: is no tenant of konstruct.tenants"):
            async with world.opened(named, **config):
                pass


class TestAnInventedTenant:
    """An id that the caller has made up is no way around a budget."""

    @pytest.mark.parametrize("environ", [{}, {"KONSTRUCT_TENANT_ID": "mine"}])
    async def test_has_no_copy_of_the_budgets(self, world: World, environ: Mapping[str, str]) -> None:
        budgets = [{"usd": 0.001, "per": "day"}]
        async with world.opened(environ, tenants=None, budgets=budgets) as konstruct:
            await konstruct.complete(HELLO, max_tokens=100)
            async with connected(konstruct) as client:
                for invented in ("a", "default-2", "Mine"):
                    refused = await client.call_tool("complete", {"messages": HELLO, "tenant_id": invented})
                    said = refused.content[0].text  # type: ignore[union-attr]
                    assert said == f'unknown_tenant: no tenant "{invented}" here; leave tenant_id out'
            mine = environ.get("KONSTRUCT_TENANT_ID", "default")
            assert (await konstruct.complete(HELLO, tenant_id=mine, max_tokens=100)).content
            assert [budget.tenant for budget in await konstruct.budgets()] == [mine]
        assert of_rows(world.database) == [mine, mine]

    async def test_has_one_where_the_config_says_so(self, world: World) -> None:
        budgets = [{"usd": 0.001, "per": "day"}]
        async with world.opened(tenants=None, budgets=budgets, allow_unknown=True) as konstruct:
            await konstruct.complete(HELLO, tenant_id="a", max_tokens=100)
            assert [budget.spent_nusd > 0 for budget in await konstruct.budgets("a")] == [True]
            assert [budget.spent_nusd for budget in await konstruct.budgets("b")] == [0]

    async def test_is_refused_where_the_config_says_so_without_naming_any(self, world: World) -> None:
        async with world.opened(tenants=None, allow_unknown=False) as konstruct:
            with pytest.raises(UnknownTenantError, match="leave tenant_id out"):
                await konstruct.complete(HELLO, tenant_id="a")
            assert (await konstruct.complete(HELLO)).content

    async def test_is_a_label_where_nothing_is_limited(self, world: World) -> None:
        async with world.opened(tenants=None) as konstruct:
            await konstruct.complete(HELLO, tenant_id="a")
        assert of_rows(world.database) == ["a"]


ACME = {"KONSTRUCT_TENANT_ID": "acme"}
Server = tuple[Mapping[str, str], Mapping[str, Any]]  # the environment, and what is added to the config
PINNED: list[Server] = [
    (ACME, {}),
    (ACME, {"allow_unknown": True}),
    ({}, {"default_tenant": "acme", "pin_tenant": True}),
    ({}, {"default_tenant": "acme", "pin_tenant": True, "allow_unknown": True}),
    ({}, {"tenants": None, "default_tenant": "acme", "pin_tenant": True}),
]


class TestAPinnedServer:
    """The server of one tenant, and of nobody else whatever a call says."""

    @pytest.mark.parametrize("server", PINNED, ids=str)
    async def test_refuses_the_ids_of_others_in_the_same_words_whether_there_are_such(
        self, world: World, server: Server
    ) -> None:
        environ, config = server
        async with world.opened(environ, **config) as konstruct, connected(konstruct) as client:
            for other in ("globex", "umbrella", "initech", "acme.", "ACME", "default"):
                for group in ("strong", "paid", "nope"):
                    asked = {"messages": HELLO, "tenant_id": other, "model_group": group}
                    refused = await client.call_tool("complete", asked)
                    said = refused.content[0].text  # type: ignore[union-attr]
                    assert said == f'unknown_tenant: no tenant "{other}" here; leave tenant_id out'
            assert world.asked == 0
            for own in ({}, {"tenant_id": "acme"}, {"tenant_id": ""}):
                assert not (await client.call_tool("complete", {"messages": HELLO, **own})).is_error
        assert of_rows(world.database) == ["acme"] * 3

    async def test_may_be_one_tenants_without_being_pinned(self, world: World) -> None:
        async with world.opened(ACME, pin_tenant=False) as konstruct:
            assert (await konstruct.complete(HELLO, tenant_id="globex", model_group="strong")).content
        async with world.opened(default_tenant="acme") as konstruct:
            assert (await konstruct.complete(HELLO, tenant_id="globex", model_group="strong")).content

    async def test_shows_no_fault_of_a_config_that_names_others(self, world: World) -> None:
        wrong = {**TENANTS, "globex": {"groups": ["gone"]}}
        config = priced_config(
            world.database, world.openai, world.anthropic, world.ollama, tenants=wrong, pin_tenant=True
        )
        async with Konstruct.for_server(write(world.folder, config), environ={}) as konstruct:
            with pytest.raises(ConfigError) as refused:
                await konstruct.complete(HELLO)
        assert str(refused.value).endswith("cannot be used; the server's log says why")
        assert konstruct.config_error is not None
        assert "globex" in str(konstruct.config_error)  # which the operator reads


class TestItsGroups:
    async def test_are_the_only_ones_it_may_ask(self, world: World) -> None:
        async with world.opened() as konstruct:
            with pytest.raises(UnknownGroupError) as refused:
                await konstruct.complete(HELLO, tenant_id="acme", model_group="strong")
            assert (await konstruct.complete(HELLO, tenant_id="umbrella", model_group="strong")).content
        assert str(refused.value) == 'unknown_group: no group "strong"; groups: free, paid'

    async def test_are_the_only_ones_it_falls_back_to(self, world: World) -> None:
        world.anthropic.script(Status(500))
        async with world.opened() as konstruct:
            assert (await konstruct.complete(HELLO, tenant_id="umbrella", model_group="strong")).served_group == "paid"
            with pytest.raises(AllFailedError) as failed:
                await konstruct.complete(HELLO, tenant_id="globex", model_group="strong")
        assert "paid" not in str(failed.value)
        assert world.openai.calls == 1

    async def test_are_the_only_ones_that_a_budget_falls_back_to(self, world: World) -> None:
        tenants = {"acme": {"groups": ["paid"], "budgets": [{"usd": 0, "per": "total"}]}}
        async with world.opened(tenants=tenants, budget_fallback="free") as konstruct:
            with pytest.raises(KonstructError, match="budget_exceeded"):
                await konstruct.complete(HELLO, tenant_id="acme")
        assert world.asked == 0

    async def test_hold_the_default_one_of_a_call_that_names_none(self, world: World) -> None:
        async with world.opened() as konstruct:
            assert (await konstruct.complete(HELLO, tenant_id="acme")).model_group == "paid"  # the config's default
            assert (await konstruct.complete(HELLO, tenant_id="globex")).model_group == "strong"


@pytest.mark.parametrize("era", ["2026", "2025"])
class TestATenantsServer:
    """`KONSTRUCT_TENANT_ID` says whose it is; all that it shows is that tenant's."""

    async def test_shows_nothing_of_others_anywhere(self, world: World, era: str) -> None:
        await world.called_by_globex()
        async with world.of_acme() as konstruct, connected(konstruct, era) as client:
            shown = {
                "tools": (await client.list_tools()).model_dump_json(),
                "instructions": str(client.instructions),
                "list_groups": (await client.call_tool("list_groups", {})).model_dump_json(),
                "resources": (await client.list_resources()).model_dump_json(),
                **{uri: await read(client, uri) for uri in ("konstruct://groups", "konstruct://config")},
                **{uri: await read(client, uri) for uri in ("konstruct://usage", "konstruct://usage/acme")},
                "refusal": (
                    await client.call_tool("complete", {"messages": HELLO, "model_group": "nope"})
                ).model_dump_json(),
            }
        for where, text in shown.items():
            for word in OTHERS:
                assert word not in text, (where, word, text)
        assert "our first" not in shown["konstruct://config"]  # a note is between the operator and the file
        assert json.loads(shown["konstruct://usage"])["total"]["calls"] == 0

    async def test_names_its_groups_in_the_schema(self, world: World, era: str) -> None:
        async with world.of_acme() as konstruct, connected(konstruct, era) as client:
            [complete, _] = (await client.list_tools()).tools
            listed = (await client.call_tool("list_groups", {})).structured_content
        group = complete.input_schema["properties"]["model_group"]
        assert (group["enum"], group["default"]) == (["paid", "free"], "paid")
        assert listed is not None
        assert [(of["name"], of["fallbacks"]) for of in listed["groups"]] == [("paid", ["free"]), ("free", [])]

    async def test_shows_a_config_of_its_groups(self, world: World, era: str) -> None:
        async with world.of_acme() as konstruct, connected(konstruct, era) as client:
            shown = yaml.safe_load(await read(client, "konstruct://config"))
        assert [entry["model_name"] for entry in shown["model_list"]] == ["paid", "free"]
        assert shown["router_settings"]["fallbacks"] == [{"paid": ["free"]}]
        assert list(shown["konstruct"]["groups"]) == ["paid", "free"]
        assert shown["konstruct"]["tenants"] == {
            "acme": {
                "groups": ["paid", "free"],
                "budgets": [{"usd": 5.0, "per": "day", "groups": ["paid"]}],
            }
        }

    @pytest.mark.parametrize("other", ["globex", "initech", "%20"])
    async def test_refuses_the_accounts_of_others(self, world: World, era: str, other: str) -> None:
        await world.called_by_globex()
        async with world.of_acme() as konstruct, connected(konstruct, era) as client:
            with pytest.raises(MCPError, match=r"unknown_tenant: no account of .* here; read konstruct://usage"):
                await read(client, f"konstruct://usage/{other}")

    async def test_offers_its_own_id_alone(self, world: World, era: str) -> None:
        template = types.ResourceTemplateReference(uri="konstruct://usage/{tenant_id}")
        async with world.of_acme() as konstruct, connected(konstruct, era) as client:
            offered = await client.complete(template, {"name": "tenant_id", "value": ""})
        assert offered.completion.values == ["acme"]


@pytest.mark.parametrize("era", ["2026", "2025"])
class TestAnOperatorsServer:
    """Nothing says whose it is."""

    async def test_shows_all_groups_where_a_call_has_to_name_its_tenant(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, connected(konstruct, era) as client:
            [complete, _] = (await client.list_tools()).tools
            refused = await client.call_tool("complete", {"messages": HELLO})
        assert complete.input_schema["properties"]["model_group"]["enum"] == ["paid", "strong", "free", "unpriced"]
        [content] = refused.content
        assert content.text.startswith('unknown_tenant: no tenant "default"')  # type: ignore[union-attr]

    async def test_shows_the_groups_of_the_default_tenant_where_there_is_one(self, world: World, era: str) -> None:
        tenants = {**TENANTS, "default": {"groups": ["free"]}}
        async with world.opened(tenants=tenants) as konstruct, connected(konstruct, era) as client:
            [complete, _] = (await client.list_tools()).tools
        assert complete.input_schema["properties"]["model_group"]["enum"] == ["free"]

    async def test_shows_everybodys_accounts_and_each_ones(self, world: World, era: str) -> None:
        async with world.opened() as konstruct:
            for tenant in ("acme", "globex", "globex"):
                await konstruct.complete(HELLO, tenant_id=tenant)
            async with connected(konstruct, era) as client:
                everybody = json.loads(await read(client, "konstruct://usage"))
                globex = json.loads(await read(client, "konstruct://usage/globex"))
        assert everybody["tenant"] is None
        assert {line["tenant"]: line["calls"] for line in everybody["by_tenant"]} == {"acme": 1, "globex": 2}
        assert {budget["tenant"] for budget in everybody["budgets"]} == {"acme", "globex"}
        assert (globex["tenant"], globex["total"]["calls"]) == ("globex", 2)
        assert "by_tenant" not in globex
        assert "acme" not in json.dumps(globex)

    async def test_shows_a_config_of_all(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, connected(konstruct, era) as client:
            shown = yaml.safe_load(await read(client, "konstruct://config"))
        assert list(shown["konstruct"]["tenants"]) == list(TENANTS)
        assert shown["konstruct"]["tenants"]["globex"]["note"] == "pays late"
        assert [entry["model_name"] for entry in shown["model_list"]] == ["paid", "strong", "free", "unpriced"]

    async def test_offers_the_ids_of_all(self, world: World, era: str) -> None:
        template = types.ResourceTemplateReference(uri="konstruct://usage/{tenant_id}")
        async with world.opened() as konstruct, connected(konstruct, era) as client:
            offered = await client.complete(template, {"name": "tenant_id", "value": ""})
            typed = await client.complete(template, {"name": "tenant_id", "value": "GL"})
        assert offered.completion.values == list(TENANTS)
        assert typed.completion.values == ["globex"]

    async def test_refuses_what_is_no_id(self, world: World, era: str) -> None:
        async with world.opened() as konstruct, connected(konstruct, era) as client:
            with pytest.raises(MCPError, match="invalid_argument: tenant_id: should be 1 to 128"):
                await read(client, "konstruct://usage/a%20b")


async def read(client: Any, uri: str) -> str:
    [contents] = (await client.read_resource(uri)).contents
    assert isinstance(contents, types.TextResourceContents)
    return contents.text
