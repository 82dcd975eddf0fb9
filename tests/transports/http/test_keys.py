"""Keys of clients over HTTP, with the server as a process of its own, and tenants that no config names."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import httpx2
import pytest
import yaml
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from support.databases import Database
from support.default_groups import write
from support.fork_server import ForkServer
from support.http_process import HttpProcess, Start, headers_for, key_of, message, results
from support.priced_config import COST_NUSD, priced_config
from support.processes import wait_for
from support.providers import Provider, Text

from konstruct_mcp import Konstruct
from konstruct_mcp.config.http import HttpSettings
from konstruct_mcp.core.errors import InvalidArgumentError, UnknownTenantError
from konstruct_mcp.transports.http.auth.authenticator import Authenticator
from konstruct_mcp.transports.http.auth.doors import authenticated


@pytest.fixture
def config(tmp_path: Path, ledger: Database, openai: Provider, anthropic: Provider, ollama: Provider) -> Path:
    tenants = {"default": None, "ann": {"groups": ["paid"]}, "bob": {"groups": ["free"]}}
    auth = {"required": True, "recheck_s": 0.2}
    http = {"pause_s": 0}
    return write(tmp_path, priced_config(ledger, openai, anthropic, ollama, tenants=tenants, auth=auth, http=http))


@pytest.fixture
def start(config: Path, fork_server: ForkServer | None) -> Start:
    return partial(HttpProcess, config, fork_server=fork_server)


def renamed(config: Path, tenant: str, name: str) -> None:
    """Give a tenant of the config another name."""
    config.write_text(config.read_text().replace(tenant, name))


def with_wildcard(config: Path, provider: Provider) -> None:
    settings = yaml.safe_load(config.read_text())
    params = {"model": "openai/*", "api_base": provider.url, "api_key": "sk-test"}
    settings["model_list"].append({"model_name": "openai/*", "litellm_params": params})
    config.write_text(yaml.safe_dump(settings, sort_keys=False))


def take_away(database: Path) -> None:
    """Have a database that cannot be opened any more."""

    def taken_away() -> bool:
        database.rename(database.with_suffix(".moved"))
        try:
            database.mkdir()
        except FileExistsError:  # a server was quicker, and has begun a new one
            return False
        return True

    wait_for(taken_away)


def status(server: HttpProcess, **headers: str) -> httpx2.Response:
    """The answer to a request with these headers beside those of the protocol."""
    sent = message("tools/list")
    return httpx2.post(server.url, json=sent, headers={**headers_for(sent, "2026"), **headers}, timeout=60)


def groups_of(server: HttpProcess, era: str) -> list[str]:
    (tool,) = [tool for tool in server.ask("tools/list", era=era)["tools"] if tool["name"] == "complete"]
    assert "tenant_id" not in tool["inputSchema"]["properties"]
    return sorted(tool["inputSchema"]["properties"]["model_group"]["enum"])


class TestAKey:
    @pytest.mark.parametrize("era", ["2026", "2025"])
    async def test_is_its_tenant(
        self, config: Path, start: Start, ledger: Database, openai: Provider, era: str
    ) -> None:
        openai.script(Text("for ann"))
        with start(token=await key_of(config, "ann")) as server:
            assert groups_of(server, era) == ["paid"]
            assert server.complete("paid", era)["structuredContent"]["content"] == "for ann"
        (row,) = ledger.rows()
        assert (row["tenant"], row["cost_nusd"]) == ("ann", COST_NUSD)

    async def test_sees_nothing_of_another(self, config: Path, start: Start, openai: Provider) -> None:
        openai.script(Text("for ann"))
        with start(token=await key_of(config, "ann")) as server, HttpClient(server, await key_of(config, "bob")) as bob:
            server.complete("paid")
            assert groups_of(bob, "2026") == ["free"]
            refused = bob.complete("paid")
            assert refused["isError"]
            assert "unknown_group" in refused["content"][0]["text"]
            refused = bob.complete("free", tenant_id="ann")
            assert "unknown_tenant" in refused["content"][0]["text"]
            usage = bob.ask("resources/read", {"uri": "konstruct://usage"})["contents"][0]["text"]
            assert "ann" not in usage
            assert "openai/paid" not in usage

    async def test_of_an_operator_reads_the_usage_of_all_and_nothing_else(
        self, config: Path, start: Start, openai: Provider
    ) -> None:
        openai.script(Text("for ann"))
        operator = await key_of(config, "bob", scopes=["operator"])
        with start(token=await key_of(config, "ann")) as server, HttpClient(server, operator) as bob:
            server.complete("paid")
            assert "ann" in bob.ask("resources/read", {"uri": "konstruct://usage"})["contents"][0]["text"]
            assert "ann" in bob.ask("resources/read", {"uri": "konstruct://usage/ann"})["contents"][0]["text"]
            assert groups_of(bob, "2026") == ["free"]
            assert "ann" not in bob.ask("resources/read", {"uri": "konstruct://config"})["contents"][0]["text"]
            assert "unknown_tenant" in bob.complete("free", tenant_id="ann")["content"][0]["text"]

    async def test_that_asks_for_what_is_anothers_has_a_line_in_the_audit_log(self, start: Start, config: Path) -> None:
        with start(token=await key_of(config, "ann")) as server:
            assert server.complete(tenant_id="bob")["isError"]
            assert server.complete("free")["isError"]
            for uri in ("konstruct://usage/bob", "konstruct://groups/free"):
                assert "error" in results(server.post(message("resources/read", {"uri": uri})))[0]
            server.terminate()
            assert server.ended() == 0
        lines = [line.partition("audit: ")[2] for line in server.said if "audit: " in line]
        refused = [f"refused code=unknown_{what} tenant=ann" for what in ("tenant", "group")]
        assert lines == refused * 2

    async def test_is_kept_nowhere(self, config: Path, start: Start, ledger: Database) -> None:
        key = await key_of(config, "ann", note="for a test", expires_in=timedelta(days=1))
        with start(token=key, env={"KONSTRUCT_LOG_LEVEL": "DEBUG"}) as server:
            groups_of(server, "2026")
            assert status(server, authorization=f"Bearer {key}x").status_code == 401
            wait_for(lambda: ledger.value("SELECT used FROM konstruct_keys") is not None)
            said = server.errors
        assert key not in said
        (row,) = ledger.rows("SELECT * FROM konstruct_keys")
        assert key not in str(row)
        assert key.startswith(row["prefix"])
        assert (row["note"], row["tenant"]) == ("for a test", "ann")

    async def test_that_is_revoked_is_refused_by_a_server_that_runs(self, config: Path, start: Start) -> None:
        key = await key_of(config, "ann")
        with start(token=key) as server:
            assert status(server, authorization=f"Bearer {key}").status_code == 200
            async with Konstruct.from_config(config) as konstruct:
                (stored,) = await konstruct.list_keys("ann")
                assert (await konstruct.revoke_key(stored.prefix)).revoked is not None
            wait_for(lambda: "has been revoked" in status(server, authorization=f"Bearer {key}").text)

    async def test_that_is_revoked_ends_its_stream_of_notices(self, config: Path, start: Start) -> None:
        key, other = await key_of(config, "ann"), await key_of(config, "ann")
        sent = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        headers = headers_for(sent, "2026")
        with (
            start(token=key) as server,
            server.http.stream("POST", server.url, json=sent, headers=headers) as response,
            httpx2.stream(
                "POST", server.url, json=sent, headers={**headers, "authorization": f"Bearer {other}"}, timeout=60
            ) as of_other,
        ):
            lines, of_others = response.iter_lines(), of_other.iter_lines()
            for stream in (lines, of_others):
                while "acknowledged" not in next(stream):
                    pass
            async with Konstruct.from_config(config) as konstruct:
                await konstruct.revoke_key(key)
            assert any("this key has been revoked" in line for line in lines)
            server.terminate()
            assert any('"result"' in line for line in of_others)  # which has gone on until the server's end

    async def test_that_has_expired_is_refused(self, config: Path, start: Start) -> None:
        key = await key_of(config, "ann", expires_in=timedelta(seconds=1))
        with start() as server:
            wait_for(lambda: "has expired" in status(server, authorization=f"Bearer {key}").text)


class HttpClient(HttpProcess):
    """Another client of a server that runs."""

    def __init__(self, server: HttpProcess, token: str) -> None:
        self.url, self.token = server.url, token

    def __enter__(self) -> HttpClient:
        self.http = httpx2.Client(timeout=60, headers=self.authorization)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


class TestRefused:
    async def test_is_whoever_proves_nothing(self, config: Path, start: Start) -> None:
        key = await key_of(config, "ann")
        with start() as server:
            for headers, error in (
                ({}, None),
                ({"authorization": key}, None),
                ({"authorization": f"Basic {key}"}, None),
                ({"authorization": "Bearer"}, "invalid_token"),
                ({"authorization": "Bearer garbage"}, "invalid_token"),
                ({"authorization": f"Bearer {key[:-1]}"}, "invalid_token"),
                ({"authorization": f"Bearer {key[:-1]}{'a' if key[-1] != 'a' else 'b'}"}, "invalid_token"),
                ({"authorization": f"Bearer {key} {key}"}, "invalid_token"),
                ({"authorization": f"Bearer {'a' * 20_000}"}, "invalid_token"),
            ):
                refused = status(server, **headers)
                assert refused.status_code == 401, headers
                told = refused.headers["www-authenticate"]
                assert told.startswith("Bearer")
                assert (f'error="{error}"' in told) if error else ("error=" not in told)
                assert key[:-1] not in refused.text
            in_query = httpx2.post(f"{server.url}?access_token={key}", json=message("tools/list"))
            assert in_query.status_code == 401
            twice = httpx2.post(server.url, headers=[("authorization", f"Bearer {key}")] * 2)
            assert twice.status_code == 400
            assert 'error="invalid_request"' in twice.headers["www-authenticate"]
            assert httpx2.get(f"{server.root}/.well-known/oauth-protected-resource").status_code == 404
            wait_for(lambda: "audit: refused code=invalid_token" in server.errors)

    async def test_is_a_key_of_a_tenant_that_there_is_no_more(self, config: Path, start: Start) -> None:
        key = await key_of(config, "bob")
        renamed(config, "bob", "rob")
        with start() as server:
            refused = status(server, authorization=f"Bearer {key}")
            assert refused.status_code == 403
            assert "ann" not in refused.text

    async def test_is_nobody_while_the_database_is_away(
        self, config: Path, start: Start, ledger: Database, tmp_path: Path
    ) -> None:
        known, unknown = await key_of(config, "ann"), await key_of(config, "ann")
        with start() as server:
            assert status(server, authorization=f"Bearer {known}").status_code == 200
            take_away(tmp_path / "ledger.sqlite3")
            wait_for(lambda: status(server, authorization=f"Bearer {unknown}").status_code != 200)
            refused = status(server, authorization=f"Bearer {unknown}")
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert status(server, authorization=f"Bearer {known}").status_code == 200

    def test_is_whoever_asks_an_open_server_that_can_verify_nobody(
        self, tmp_path: Path, config: Path, fork_server: ForkServer | None
    ) -> None:
        config.write_text(config.read_text().replace("required: true", "keys: false"))
        server = HttpProcess(config, listen="0.0.0.0:0", fork_server=fork_server)
        assert server.ended() == 2
        assert "nothing to verify them with" in server.errors


async def test_requests_of_tenants_begin_in_turn(config: Path) -> None:
    begun: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(Headers(scope=scope)["authorization"])
        await PlainTextResponse("taken")(scope, receive, send)

    async with Konstruct.from_config(config) as konstruct:
        ann, bob = [f"Bearer {(await konstruct.create_key(tenant)).key}" for tenant in ("ann", "bob")]
        verified = authenticated(app, Authenticator(konstruct), HttpSettings())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=verified), base_url="http://any") as client:

            async def ask(authorization: str) -> None:
                assert (await client.get("/", headers={"authorization": authorization})).status_code == 200

            await asyncio.gather(ask(ann), ask(bob))  # the keys are known from now on
            begun.clear()
            await asyncio.gather(*(ask(ann) for _ in range(50)), ask(bob))
    assert begun.index(bob) < 5


class TestATenantOfTheDatabase:
    async def test_is_as_good_as_one_of_the_config(
        self, config: Path, start: Start, ledger: Database, openai: Provider
    ) -> None:
        openai.script(Text("for carl"))
        async with Konstruct.from_config(config) as konstruct:
            await konstruct.create_tenant("carl", {"groups": ["paid"], "budgets": [{"usd": 0, "per": "total"}]})
            with start(token=(await konstruct.create_key("carl")).key) as server:
                assert groups_of(server, "2026") == ["paid"]
                assert "budget_exceeded" in server.complete("paid")["content"][0]["text"]
                await konstruct.set_tenant("carl", {"budgets": [{"usd": 1, "per": "total"}]})
                wait_for(lambda: not server.complete("paid").get("isError"))
        assert [row["cost_nusd"] for row in ledger.rows() if row["outcome"] == "ok"] == [COST_NUSD]

    async def test_is_taken_up_changed_and_disabled_while_a_server_runs(self, config: Path, start: Start) -> None:
        with start() as server:
            async with Konstruct.from_config(config) as konstruct:
                await konstruct.create_tenant("carl", {"groups": ["paid"]})
                key = (await konstruct.create_key("carl")).key
                with HttpClient(server, key) as carl:
                    wait_for(lambda: status(server, **carl.authorization).status_code == 200)
                    assert groups_of(carl, "2026") == ["paid"]
                    await konstruct.set_tenant("carl", {"groups": ["free"]})
                    wait_for(lambda: groups_of(carl, "2026") == ["free"])
                    await konstruct.disable_tenant("carl")
                    wait_for(lambda: status(server, **carl.authorization).status_code == 403)

    async def test_has_settings_like_one_of_the_config(self, config: Path) -> None:
        async with Konstruct.from_config(config) as konstruct:
            for settings, fault in (
                ({"groups": ["nope"]}, 'tenants.carl.groups[0]: no group "nope"'),
                ({"budgets": [{"usd": "x", "per": "day"}]}, "tenants.carl.budgets[0].usd: should be a number"),
                ({"colour": "red"}, "tenants.carl.colour: unknown key"),
            ):
                with pytest.raises(InvalidArgumentError) as refused:
                    await konstruct.create_tenant("carl", settings)
                assert fault in refused.value.message
            for taken in ("ann", "default", "not an id"):
                with pytest.raises(InvalidArgumentError):
                    await konstruct.create_tenant(taken, {})
            with pytest.raises(UnknownTenantError):
                await konstruct.create_key("carl")
            with pytest.raises(UnknownTenantError):
                await konstruct.set_tenant("carl", {"groups": ["paid"]})

    async def test_gives_way_to_one_of_the_config(self, config: Path) -> None:
        async with Konstruct.from_config(config) as konstruct:
            await konstruct.create_tenant("carl", {"groups": ["paid"]})
            await konstruct.disable_tenant("carl")
        renamed(config, "bob", "carl")
        async with Konstruct.from_config(config) as konstruct:
            await konstruct.know_tenants()
            assert konstruct.config.tenants["carl"].groups == ("free",)
            places = [(tenant.id, tenant.place) for tenant in await konstruct.list_tenants()]
        assert places == [("ann", "config"), ("carl", "config"), ("default", "config"), ("carl", "hidden")]

    async def test_may_name_a_model_of_a_wildcard(self, config: Path, start: Start, openai: Provider) -> None:
        openai.script(Text("of a wildcard"))
        with_wildcard(config, openai)
        async with Konstruct.from_config(config) as konstruct:
            await konstruct.create_tenant("carl", {"groups": ["openai/gpt-5-mini"]})
            key = (await konstruct.create_key("carl")).key
        with start(token=key) as server:
            assert server.complete("openai/gpt-5-mini")["structuredContent"]["content"] == "of a wildcard"
