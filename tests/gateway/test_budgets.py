"""Budgets hold: whatever runs at once, what is spent and reserved is never more than a budget, and a refusal says why.

Where it matters that a database keeps two processes apart, a test runs on SQLite and on a PostgreSQL server.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.commands import run
from support.databases import Database, PostgreSQL, sqlite
from support.default_groups import HELLO, connected, entry, opened, reaching, replace, write
from support.fork_server import ForkServer
from support.priced_config import COST_NUSD, INPUT_NUSD, OUTPUT_NUSD, PRICES, MakeConfig, priced_config
from support.processes import WAIT_S, wait_for
from support.providers import (
    ContentPolicy,
    ContextOverflow,
    Drop,
    Gate,
    Hang,
    HangBody,
    Provider,
    Raw,
    Reset,
    Status,
    Text,
    Truncated,
)
from support.stdio_lines import ServerProcess

from konstruct_mcp import AllFailedError, BudgetExceededError, DeadlineError, KonstructError, LedgerError, UnpricedError


@pytest.fixture
def ledger(tmp_path: Path) -> Database:
    return sqlite(tmp_path)


class World:
    """A config with budgets over fakes: `opened(usd=…, per=…)` for one budget of everybody's."""

    def __init__(self, folder: Path, database: Database, *providers: Provider) -> None:
        self.folder, self.database = folder, database
        self.openai, self.anthropic, self.ollama = providers

    def config(self, *budgets: Mapping[str, Any], **konstruct: Any) -> dict[str, Any]:
        return priced_config(
            self.database, self.openai, self.anthropic, self.ollama, budgets=[dict(b) for b in budgets], **konstruct
        )

    def opened(self, *budgets: Mapping[str, Any], **konstruct: Any) -> Any:
        return opened(self.folder, self.config(*budgets, **konstruct))

    def sent(self, provider: Provider) -> Any:
        return provider.requests[-1].body


@pytest.fixture
def world(tmp_path: Path, ledger: Database, openai: Provider, anthropic: Provider, ollama: Provider) -> World:
    return World(tmp_path, ledger, openai, anthropic, ollama)


@pytest.fixture
def full() -> Iterator[str]:
    """An address at which nobody takes a connection any more, nor refuses one."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as stack:
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def usd(nusd: int) -> float:
    return nusd / 1e9


DAY = {"usd": 1, "per": "day"}
BROKE = {"usd": usd(COST_NUSD), "per": "day"}  # affords less than any call can cost


class TestACall:
    async def test_reserves_the_most_that_it_can_cost_and_is_charged_what_it_did(self, world: World) -> None:
        world.openai.script(Gate("held"))
        async with world.opened(DAY) as konstruct:
            call = asyncio.ensure_future(konstruct.complete(HELLO, max_tokens=100))
            await world.openai.until(lambda: world.openai.in_flight == 1)
            reserved = world.database.reserved("default")
            world.openai.release()
            await call
            [state] = await konstruct.budgets("default")

        # At least a token for each byte of the message, and all of the answer.
        assert 5 * INPUT_NUSD + 100 * OUTPUT_NUSD <= reserved <= 200 * INPUT_NUSD + 100 * OUTPUT_NUSD
        assert (state.spent_nusd, state.reserved_nusd) == (COST_NUSD, 0)
        assert world.database.reserved("default") == 0

    @pytest.mark.parametrize("max_tokens", [10**16, 10**30])
    async def test_that_could_cost_more_than_a_database_counts_to_is_refused_and_is_nobody_elses_affair(
        self,
        database: Database,
        openai: Provider,
        anthropic: Provider,
        ollama: Provider,
        tmp_path: Path,
        max_tokens: int,
    ) -> None:
        async with World(tmp_path, database, openai, anthropic, ollama).opened(DAY) as konstruct:
            with pytest.raises(BudgetExceededError):
                await konstruct.complete(HELLO, max_tokens=max_tokens)
            assert (await konstruct.complete(HELLO, max_tokens=10)).content

    async def test_keeps_its_grant_on_the_budget_where_it_may_be_billed_and_else_gives_it_back(
        self, world: World
    ) -> None:
        """A provider that has begun may bill what it never said; one that refuses, or is down, does not."""
        choice = {"index": 0, "finish_reason": "error", "message": {"role": "assistant", "content": ""}}
        ends: dict[str, tuple[Any, bool]] = {
            "cancelled": (Hang(), True),
            "timed-out": (Hang(), True),
            "timed-out-in-its-body": (HangBody(), True),
            "dropped": (Drop(), True),
            "reset": (Reset(), True),
            "cut-off": (Truncated(), True),
            "unreadable": (Raw(b"<html>no answer</html>"), True),
            "without-choices": (Raw(b'{"id": "x", "object": "chat.completion", "choices": []}'), True),
            "broken-off": (Raw(json.dumps({"id": "x", "choices": [choice]}).encode()), True),
            "failed-in-a-200": (Raw(b'{"error": {"code": 500, "message": "Internal error"}}'), True),
            "busy-in-a-200": (Raw(b'{"error": {"code": 503, "message": "Overloaded"}}'), False),
            "limited-in-a-200": (Raw(b'{"error": {"code": 429, "message": "Rate limit"}}'), False),
            **{f"http-{status}": (Status(status), True) for status in (408, 499, 502, 504, 520, 524)},
            **{f"http-{status}": (Status(status), False) for status in (302, 400, 401, 404, 429, 500, 503, 529)},
        }
        config = world.config(DAY, allow_unknown=True)
        config["router_settings"] = {"num_retries": 0, "allowed_fails": 1000}
        async with opened(world.folder, config) as konstruct:
            await konstruct.complete(HELLO, tenant_id="first", max_tokens=100)  # LiteLLM is loaded
            for tenant, (answer, held) in ends.items():
                world.openai.script(answer)
                timeout_s = 1 if "timed-out" in tenant else None
                await world.openai.until(lambda: world.openai.in_flight == 0)  # that of the call before
                call = konstruct.complete(HELLO, tenant_id=tenant, max_tokens=100, timeout_s=timeout_s)
                asking = asyncio.ensure_future(call)
                if tenant == "cancelled":
                    await world.openai.until(lambda: world.openai.in_flight == 1)
                    asking.cancel()
                await asyncio.wait({asking})
                assert asking.cancelled() or asking.exception() is not None, tenant
                assert world.database.reserved(tenant) == 0
                [state] = await konstruct.budgets(tenant)
                assert (state.held_nusd >= 100 * OUTPUT_NUSD) is held, tenant
                assert state.limit_nusd - state.left_nusd == state.held_nusd == world.database.held(tenant)
                [row] = [row for row in world.database.rows() if row["tenant"] == tenant]
                assert (row["cost_nusd"], row["most_nusd"]) == ((None, state.held_nusd) if held else (0, None)), tenant

    @pytest.mark.many_cases
    @pytest.mark.parametrize(
        ("model", "answer", "held"),
        [
            ("azure/gpt-4o", ContentPolicy(), True),
            ("azure/gpt-4o", ContextOverflow(), True),
            ("azure/gpt-4o", Status(401), False),
            ("openai/gpt-4o", ContentPolicy(), False),
            ("openrouter/openai/gpt-4o", Status(502), False),
            ("openrouter/openai/gpt-4o", Raw(b'{"error": {"code": 502, "message": "Bad gateway"}}'), False),
            ("openrouter/openai/gpt-4o", Drop(), True),
        ],
    )
    async def test_is_held_as_its_provider_is_known_to_bill(
        self, world: World, model: str, answer: Any, held: bool
    ) -> None:
        with Provider("azure") if model.startswith("azure/") else Provider("openai") as provider:
            provider.script(answer)
            config = world.config(DAY)
            config["model_list"] = [entry("paid", {**reaching(provider, model), **PRICES})]
            config["router_settings"] = {"num_retries": 0}
            async with opened(world.folder, config) as konstruct:
                with pytest.raises(KonstructError):
                    await konstruct.complete(HELLO, max_tokens=100)
        assert (world.database.held("default") >= 100 * OUTPUT_NUSD) is held
        assert provider.calls == 1

    async def test_that_nothing_has_left_for_costs_nothing(self, world: World, full: str) -> None:
        """Nobody listens, or nobody takes the connection, or it was given up while it waited for its turn."""
        config = world.config(DAY, allow_unknown=True)
        params = config["model_list"][0]["litellm_params"]
        config["model_list"].append(entry("nobody", {**params, "api_base": "http://127.0.0.1:1/v1"}))
        config["model_list"].append(entry("full", {**params, "api_base": f"{full}/v1", "timeout": 0.3}))
        params["max_parallel_requests"] = 1
        config["router_settings"] = {"num_retries": 0}
        world.openai.script(Gate("held"))
        async with opened(world.folder, config) as konstruct:
            with pytest.raises(AllFailedError, match="refused"):
                await konstruct.complete(HELLO, model_group="nobody", tenant_id="nobody")
            with pytest.raises(AllFailedError, match="no answer in time"):
                await konstruct.complete(HELLO, model_group="full", tenant_id="full")
            first = asyncio.ensure_future(konstruct.complete(HELLO, max_tokens=100))
            await world.openai.until(lambda: world.openai.in_flight == 1)
            with pytest.raises(DeadlineError):
                await konstruct.complete(HELLO, tenant_id="second", timeout_s=0.2)
            world.openai.release()
            await first
        assert [world.database.taken(tenant) for tenant in ("nobody", "full", "second")] == [0, 0, 0]
        assert [row["cost_nusd"] for row in world.database.rows()] == [0, 0, 0, COST_NUSD]

    async def test_cannot_be_broken_off_until_more_is_billed_than_the_budget(self, world: World) -> None:
        """By a provider that bills what it has begun."""
        billed = []

        def begin(_: Any) -> Hang:
            billed.append(4000 * OUTPUT_NUSD + 11 * INPUT_NUSD)
            return Hang()

        world.openai.script(begin)
        config = world.config({"usd": 0.1, "per": "day"})
        config["router_settings"] = {}
        async with opened(world.folder, config) as konstruct:
            calls = [asyncio.ensure_future(konstruct.complete(HELLO, max_tokens=4000)) for _ in range(20)]
            affords = 10**8 // (4000 * OUTPUT_NUSD + 60 * INPUT_NUSD)
            pending = set(calls)
            while len(pending) > affords:
                done, pending = await asyncio.wait(pending, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
                assert done
            await world.openai.until(lambda: len(billed) == affords)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            with pytest.raises(BudgetExceededError, match=r"held for tries of unknown cost \$0\.09"):
                await konstruct.complete(HELLO, max_tokens=4000)
        assert sum(billed) <= 10**8
        assert all(isinstance(call.exception(), BudgetExceededError) for call in calls if not call.cancelled())

    @pytest.mark.many_cases
    @pytest.mark.parametrize("tokens", [(10**9, 10**9), (11, 200), (10_000, 1), (2**62, 1)])
    async def test_is_never_charged_more_than_was_granted(self, world: World, tokens: tuple[int, int]) -> None:
        """A count above that is none: the grant counts in its place, and the row says so."""
        world.openai.script(Text("Hi", usage=tokens))
        async with world.opened(DAY) as konstruct:
            completion = await konstruct.complete(HELLO, max_tokens=100)
            [state] = await konstruct.budgets("default")
        [row] = world.database.rows()
        assert (completion.content, completion.cost_usd, completion.usage.output_tokens) == ("Hi", None, 0)
        assert completion.as_dict()["at_most_usd"] == usd(state.held_nusd)
        assert [note.partition(":")[0] for note in completion.notes] == ["usage unknown"]
        assert (state.spent_nusd, row["cost_nusd"], row["uncounted"], row["input_tokens"]) == (0, None, 1, 0)
        assert 100 * OUTPUT_NUSD < state.held_nusd == row["most_nusd"] < 10**6

    async def test_gets_the_max_tokens_that_the_budget_affords(self, world: World) -> None:
        async with world.opened({"usd": usd(1000 * OUTPUT_NUSD), "per": "day"}) as konstruct:
            await konstruct.complete(HELLO)

        sent = world.sent(world.openai)["max_tokens"]
        assert 900 <= sent < 1000
        assert world.database.spent("default") == COST_NUSD

    async def test_gets_as_many_as_the_config_says_that_the_model_gives(self, world: World) -> None:
        config = world.config(DAY)
        config["model_list"][0]["model_info"] = {"max_output_tokens": 32_000}
        async with opened(world.folder, config) as konstruct:
            await konstruct.complete(HELLO)
        assert world.sent(world.openai)["max_tokens"] == 32_000

    async def test_keeps_its_reservation_however_long_it_takes(self, world: World) -> None:
        world.openai.script(Gate("held"))
        async with world.opened(DAY) as konstruct:
            call = asyncio.ensure_future(konstruct.complete(HELLO, max_tokens=100))
            await world.openai.until(lambda: world.openai.in_flight == 1)
            world.database.run("UPDATE konstruct_reservations SET lapses_at = lapses_at - 119")
            await konstruct.usage()  # or anything else that wakes the ledger
            lapses = "SELECT lapses_at FROM konstruct_reservations"
            soon = datetime.datetime.now(datetime.UTC).timestamp() + 100
            await asyncio.to_thread(wait_for, lambda: world.database.value(lapses) > soon)
            world.openai.release()
            await call

    async def test_gets_all_it_could_want_where_the_budget_affords_it(self, world: World) -> None:
        async with world.opened({"usd": 100, "per": "day"}) as konstruct:
            await konstruct.complete(HELLO, model_group="strong")
            await konstruct.complete(HELLO)

        assert world.sent(world.anthropic)["max_tokens"] == 128_000  # as the table says
        assert world.sent(world.openai)["max_tokens"] == 4096  # nobody says how long its answers can be

    async def test_is_not_touched_where_no_budget_applies(self, world: World) -> None:
        async with world.opened({**BROKE, "groups": ["strong"]}) as konstruct:
            await konstruct.complete(HELLO)

        assert "max_tokens" not in world.sent(world.openai)

    async def test_is_refused_where_the_answer_would_be_too_short_to_be_useful(self, world: World) -> None:
        enough = {"usd": usd(256 * OUTPUT_NUSD), "per": "day"}
        async with world.opened(enough) as konstruct:
            with pytest.raises(BudgetExceededError, match="with 256 tokens of an answer"):
                await konstruct.complete(HELLO)
        async with world.opened(enough, min_answer_tokens=100) as konstruct:
            assert (await konstruct.complete(HELLO)).content

    async def test_that_no_budget_would_ever_afford_is_told_so(self, world: World) -> None:
        async with world.opened({"usd": usd(100 * OUTPUT_NUSD), "per": "day"}) as konstruct:
            with pytest.raises(
                BudgetExceededError, match=r"left \$0.0002; not even the whole of it would; ask for max_tokens of"
            ) as refused:
                await konstruct.complete(HELLO)
        assert refused.value.renews_at is None  # which would be of no use

    async def test_that_is_refused_says_what_would_fit(self, world: World) -> None:
        async with world.opened({"usd": usd(1000 * OUTPUT_NUSD), "per": "day"}) as konstruct:
            with pytest.raises(BudgetExceededError) as refused:
                await konstruct.complete(HELLO, max_tokens=5000)
            words = refused.value.message.split("max_tokens of ")[1]
            fits = int(words.split()[0])
            with pytest.raises(BudgetExceededError):
                await konstruct.complete(HELLO, max_tokens=fits + 1)
            assert (await konstruct.complete(HELLO, max_tokens=fits)).content

    async def test_may_go_on_to_a_cheaper_deployment_of_its_group(self, world: World) -> None:
        config = world.config({"usd": 0.01, "per": "day"})
        config["model_list"].append({**config["model_list"][0], "model_name": "strong"})
        async with opened(world.folder, config) as konstruct:
            completion = await konstruct.complete(HELLO, model_group="strong", max_tokens=2000)

        assert completion.model == "openai/paid"
        assert "not within budget" in completion.attempts[0].error

    async def test_is_charged_the_most_where_the_provider_does_not_count(self, world: World) -> None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "paid", "choices": [choice]}
        world.openai.script(Raw(json.dumps(body).encode()))
        async with world.opened(DAY) as konstruct:
            assert (await konstruct.complete(HELLO, max_tokens=100)).cost_usd is None

        [row] = world.database.rows()
        assert (row["cost_nusd"], row["uncounted"]) == (None, 1)
        assert row["most_nusd"] == world.database.held("default") >= 100 * OUTPUT_NUSD

    async def test_that_is_answered_uselessly_is_charged_all_the_same(self, world: World) -> None:
        body = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
        tool = {"type": "tool_use", "id": "t", "name": "", "input": {}}
        usage = {"input_tokens": 10, "output_tokens": 10}
        world.anthropic.script(Raw(json.dumps(body | {"content": [tool], "usage": usage}).encode()))
        world.openai.script(Gate("held"))
        async with world.opened(DAY) as konstruct:
            call = asyncio.ensure_future(konstruct.complete(HELLO, model_group="strong", max_tokens=100))
            await world.openai.until(lambda: world.openai.in_flight == 1)
            # Both are held: what the first has counted is not on the account yet.
            assert len(world.database.rows("SELECT * FROM konstruct_reservations")) == 2
            world.openai.release()
            await call

        assert world.database.spent("default") == 10 * 3_000 + 10 * 15_000 + COST_NUSD
        assert world.database.reserved("default") == 0


class TestWhatACallCanCost:
    """Never less than what it does cost, as LiteLLM reckons it, if the provider keeps to `max_tokens`."""

    @pytest.mark.parametrize("text", ["a" * 500, "日本語" * 300, "\U0001f600" * 200])
    @pytest.mark.parametrize("extra", [{}, {"tools": True}, {"schema": True}])
    async def test_at_one_token_for_each_byte(self, world: World, text: str, extra: Mapping[str, Any]) -> None:
        arguments: dict[str, Any] = {}
        if "tools" in extra:
            function = {"name": "look", "description": text, "parameters": {"type": "object", "properties": {}}}
            arguments["tools"] = [{"type": "function", "function": function}]
        if "schema" in extra:
            schema = {"name": "answer", "schema": {"type": "object", "description": text}}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        messages = [{"role": "user", "content": text}]
        sent = len(json.dumps([messages, *arguments.values()], ensure_ascii=False).encode())
        world.anthropic.script(Gate("Hi", usage=(sent, 50)))
        async with world.opened(DAY) as konstruct:
            call = asyncio.ensure_future(konstruct.complete(messages, model_group="strong", max_tokens=50, **arguments))
            await world.anthropic.until(lambda: world.anthropic.in_flight == 1)
            reserved = world.database.reserved("default")
            world.anthropic.release()
            await call

        assert sent * 3_000 + 50 * 15_000 == world.database.spent("default") <= reserved

    async def test_at_the_price_of_a_long_prompt(self, world: World) -> None:
        """Beyond 272,000 tokens OpenAI's price doubles."""
        world.openai.script(Text("Hi", usage=(300_000, 1000)))
        config = world.config({"usd": 100, "per": "day"})
        config["model_list"][3]["litellm_params"]["model"] = "openai/gpt-5.6"
        async with opened(world.folder, config) as konstruct:
            long = [{"role": "user", "content": "word " * 60_000}]
            await konstruct.complete(long, model_group="unpriced", max_tokens=1000)

        assert world.database.spent("default") == 300_000 * 8_000 + 1000 * 30_000

    async def test_of_each_deployment_goes_by_its_own_prices(self, world: World) -> None:
        """Whichever of one model's deployments is asked first."""
        config = world.config(DAY)
        house = config["model_list"][0]["litellm_params"]
        config["model_list"] = [
            entry(
                "list", {**house, "model": "openai/gpt-4o", "input_cost_per_token": None, "output_cost_per_token": None}
            ),
            entry("cheap", {**house, "model": "openai/gpt-4o"}),
            entry("gift", {**house, "model": "openai/gpt-4o", "input_cost_per_token": 0, "output_cost_per_token": 0}),
        ]
        config["router_settings"] = {}
        config["konstruct"]["default_group"] = "list"
        async with opened(world.folder, config) as konstruct:
            for group in ("cheap", "list", "gift", "list", "cheap"):
                await konstruct.complete(HELLO, model_group=group, max_tokens=10)

        at_list_price = 11 * 2_500 + 7 * 10_000
        costs = [(row["group_served"], row["cost_nusd"]) for row in world.database.rows()]
        assert costs == [
            ("cheap", COST_NUSD),
            ("list", at_list_price),
            ("gift", 0),
            ("list", at_list_price),
            ("cheap", COST_NUSD),
        ]

    @pytest.mark.parametrize(
        ("own", "cost"),
        [
            ({"input_cost_per_token": 1e-6}, 11 * 1_000 + 7 * 10_000),
            ({"output_cost_per_token": 1e-6}, 6 * 2_500 + 5 * 1_250 + 7 * 1_000),
            (PRICES, COST_NUSD),  # what the provider's cache held costs as much as the rest
            ({**PRICES, "cache_read_input_token_cost": 1e-7}, COST_NUSD - 5 * 900),
        ],
    )
    async def test_has_from_the_map_what_the_config_leaves_open(
        self, world: World, own: Mapping[str, float], cost: int
    ) -> None:
        config = world.config(DAY)
        params = config["model_list"][0]["litellm_params"]
        for key in PRICES:
            del params[key]
        params |= {"model": "openai/gpt-4o", **own}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "gpt-4o", "choices": [choice]}
        world.openai.script(Raw(json.dumps(body | {"usage": usage}).encode()))
        async with opened(world.folder, config) as konstruct:
            await konstruct.complete(HELLO, max_tokens=10)
        assert world.database.spent("default") == cost

    async def test_is_that_of_the_base_model(self, world: World) -> None:
        config = world.config(DAY)
        params = config["model_list"][3]["litellm_params"]
        config["model_list"][3] = {**entry("unpriced", params), "model_info": {"base_model": "gpt-4o"}}
        async with opened(world.folder, config) as konstruct:
            await konstruct.complete(HELLO, model_group="unpriced", max_tokens=10)
        assert world.database.spent("default") == 11 * 2_500 + 7 * 10_000

    async def test_is_the_providers_own_for_a_base_model(self, world: World) -> None:
        """Azure's price of a model is not OpenAI's."""
        azure = {"model": "azure/mine", "api_base": world.openai.url, "api_key": "sk-test"}
        config = world.config()
        config["model_list"].append({**entry("azure", azure), "model_info": {"base_model": "gpt-4-turbo"}})
        async with opened(world.folder, config) as konstruct:
            [deployment] = konstruct.group("azure").deployments
        assert (deployment.input_usd_per_million, deployment.output_usd_per_million) == (
            11.0,
            33.0,
        )  # OpenAI's has another

    async def test_of_0_in_the_map_is_unknown(self, world: World) -> None:
        """What a router of many models bills stands nowhere."""
        config = world.config()
        params = config["model_list"][3]["litellm_params"]
        config["model_list"][3] = {
            **entry("unpriced", params),
            "model_info": {"base_model": "codestral/codestral-latest"},
        }
        async with opened(world.folder, config) as konstruct:
            assert (await konstruct.complete(HELLO, model_group="unpriced")).cost_usd is None

    async def test_is_unknown_with_one_price_alone(self, world: World) -> None:
        config = world.config()
        del config["model_list"][0]["litellm_params"]["output_cost_per_token"]
        async with opened(world.folder, config) as konstruct:
            assert (await konstruct.complete(HELLO)).cost_usd is None

    @pytest.mark.parametrize(
        ("params", "why"),
        [
            ({"extra_body": {"n": 5}}, "has extra_body in its litellm_params, with which a call may cost anything"),
            (
                {"web_search_options": {}, "modalities": ["text"]},
                "has modalities and web_search_options in its litellm_params, with which a call may cost anything",
            ),
            (
                {"additional_drop_params": ["max_tokens"]},
                r"drops max_tokens \(additional_drop_params\), so that a call may cost anything",
            ),
            (
                {"model": "openai/gpt-4o-search-preview"},
                "searches the web unasked, so that a call may cost anything",
            ),
            ({"model": "perplexity/sonar-pro"}, "searches the web unasked, so that a call may cost anything"),
            ({"model": "openrouter/perplexity/sonar"}, "searches the web unasked"),
            ({"model": "openrouter/auto"}, "chooses a model by itself"),
            ({"model": "xai/grok-3-mini"}, "bills its reasoning beyond max_tokens"),
            ({"plugins": [{"id": "web"}]}, "has plugins in its litellm_params"),
        ],
    )
    async def test_that_nobody_can_tell_needs_a_tenant_without_a_budget(
        self, world: World, params: Mapping[str, Any], why: str
    ) -> None:
        config = world.config(DAY, tenants={"default": None, "rich": {"budgets": []}})
        config["model_list"][0]["litellm_params"] |= params
        async with opened(world.folder, config) as konstruct:
            with pytest.raises(UnpricedError, match=why):
                await konstruct.complete(HELLO)
            assert world.openai.calls == 0
            assert (await konstruct.complete(HELLO, tenant_id="rich")).content


class TestABudget:
    async def test_that_is_used_up_refuses_until_it_renews(self, world: World) -> None:
        async with world.opened(DAY, allow_unknown=True) as konstruct:
            await konstruct.complete(HELLO, tenant_id="acme")
            world.database.run("UPDATE konstruct_spend SET cost_nusd = 999999000")
            with pytest.raises(BudgetExceededError) as refused:
                await konstruct.complete(HELLO, tenant_id="acme")
            assert (await konstruct.complete(HELLO, tenant_id="other")).content

            today = datetime.datetime.now(datetime.UTC).date()
            tomorrow = today + datetime.timedelta(days=1)
            message = str(refused.value)
            assert message.startswith("budget_exceeded: the budget of $1 per day does not afford openai/paid: ")
            for words in ("spent $0.999999", "calls under way $0", f"left $0.000001; it renews at {tomorrow}T00:00:00"):
                assert words in message
            assert "\n" not in message
            assert "other" not in message
            assert (refused.value.left_usd, refused.value.renews_at) == (1e-06, f"{tomorrow}T00:00:00+00:00")
            async with connected(konstruct) as client:
                result = await client.call_tool("complete", {"messages": HELLO, "tenant_id": "acme"})
            figures = {"left_usd": 1e-06, "renews_at": refused.value.renews_at}
            assert result.meta is not None
            assert result.meta["konstruct-mcp/error"] == {"code": "budget_exceeded", **figures}

            yesterday = today - datetime.timedelta(days=1)
            world.database.run(f"UPDATE konstruct_spend SET day = '{yesterday}' WHERE tenant = 'acme'")
            assert (await konstruct.complete(HELLO, tenant_id="acme")).content
        assert world.openai.calls == 3

    @pytest.mark.parametrize(("per", "renews"), [("month", True), ("total", False)])
    async def test_of_a_longer_window_counts_earlier_days(self, world: World, per: str, renews: bool) -> None:
        async with world.opened({"usd": 1, "per": per}) as konstruct:
            await konstruct.complete(HELLO)
            first = datetime.datetime.now(datetime.UTC).date().replace(day=1)
            earlier = first if per == "month" else datetime.date(2001, 1, 1)
            world.database.run(f"UPDATE konstruct_spend SET cost_nusd = 999999000, day = '{earlier}'")
            with pytest.raises(BudgetExceededError, match="it renews at" if renews else "does not renew") as refused:
                await konstruct.complete(HELLO)
            [state] = await konstruct.budgets("default")
            assert (refused.value.left_usd, refused.value.renews_at) == (state.left_usd, state.renews_at)
            assert state.spent_nusd == 999_999_000
            if renews:
                following = (first + datetime.timedelta(days=32)).replace(day=1)
                assert state.renews_at == f"{following}T00:00:00+00:00"
                before = first - datetime.timedelta(days=1)
                world.database.run(f"UPDATE konstruct_spend SET day = '{before}'")
                assert (await konstruct.complete(HELLO)).content

    async def test_on_groups_counts_those_alone(self, world: World) -> None:
        async with world.opened({**BROKE, "groups": ["strong"]}) as konstruct:
            for _ in range(3):
                await konstruct.complete(HELLO)
            with pytest.raises(BudgetExceededError, match="per day for strong"):
                await konstruct.complete(HELLO, model_group="strong")

    async def test_of_several_the_tightest_decides(self, world: World) -> None:
        async with world.opened(DAY, {"usd": 0.002, "per": "month"}) as konstruct:
            with pytest.raises(BudgetExceededError, match=r"\$0.002 per month"):
                await konstruct.complete(HELLO, max_tokens=4000)

    async def test_of_a_tenant_stands_in_place_of_the_default(self, world: World) -> None:
        tenants = {"rich": {"budgets": [{"usd": 100, "per": "day"}]}, "free": {"budgets": []}, "plain": None}
        async with world.opened(BROKE, tenants=tenants) as konstruct:
            for tenant in ("rich", "free"):
                assert (await konstruct.complete(HELLO, tenant_id=tenant)).content
            with pytest.raises(BudgetExceededError):
                await konstruct.complete(HELLO, tenant_id="plain")

    async def test_does_not_stand_in_the_way_of_what_costs_nothing(self, world: World) -> None:
        async with world.opened({"usd": 0, "per": "total"}) as konstruct:
            assert (await konstruct.complete(HELLO, model_group="free")).content

    async def test_falls_back_only_where_the_config_says_so(self, world: World) -> None:
        async with world.opened(BROKE) as konstruct:
            with pytest.raises(BudgetExceededError):  # although `paid` falls back to `free` when it is down
                await konstruct.complete(HELLO)
        async with world.opened(BROKE, budget_fallback="free") as konstruct:
            completion = await konstruct.complete(HELLO)
        assert (completion.served_group, completion.cost_usd) == ("free", 0)
        assert "not within budget" in completion.attempts[0].error

    async def test_never_falls_back_to_what_costs_something(self, world: World) -> None:
        async with world.opened({**BROKE, "groups": ["paid"]}, budget_fallback="strong") as konstruct:
            with pytest.raises(BudgetExceededError):
                await konstruct.complete(HELLO)
        assert world.anthropic.calls == 0

    async def test_says_so_too_where_its_fallback_is_down(self, world: World) -> None:
        world.ollama.stop()
        async with world.opened(BROKE, budget_fallback="free") as konstruct:
            with pytest.raises(AllFailedError, match="openai/paid: not within budget"):
                await konstruct.complete(HELLO)

    async def test_shows_what_its_deployment_has_no_price_for(self, world: World) -> None:
        async with world.opened(DAY) as konstruct:
            with pytest.raises(UnpricedError) as refused:
                await konstruct.complete(HELLO, model_group="unpriced")
        assert str(refused.value) == (
            "unpriced: openai/unpriced has no price (input_cost_per_token, output_cost_per_token), which a budget needs"
            "; use another group, or have `konstruct-mcp check` say what to add to the config"
        )
        assert world.openai.calls == 0

    async def test_does_not_count_what_it_refused_against_the_deployment(self, world: World) -> None:
        config = world.config(BROKE, tenants={"broke": None, "rich": {"budgets": []}})
        config["model_list"][0]["litellm_params"]["rpm"] = 2
        async with opened(world.folder, config) as konstruct:
            for _ in range(5):
                with pytest.raises(BudgetExceededError):
                    await konstruct.complete(HELLO, tenant_id="broke")
            assert (await konstruct.complete(HELLO, tenant_id="rich")).served_group == "paid"

    async def test_is_given_back_where_its_call_did_not_wait_for_it(self, world: World) -> None:
        """The database answers again when the call has long been refused and is on the account."""
        async with world.opened(DAY) as konstruct:
            await konstruct.complete(HELLO)
            with world.database.locked():
                call = asyncio.ensure_future(konstruct.complete(HELLO, timeout_s=0.5))
                await asyncio.wait({call})
            assert isinstance(call.exception(), DeadlineError)
            rows = "SELECT count(*) FROM konstruct_calls"
            await asyncio.to_thread(wait_for, lambda: world.database.value(rows) == 2)
            assert world.database.reserved("default") == 0
            await konstruct.complete(HELLO)
        assert world.database.reserved("default") == 0

    async def test_holds_after_the_machine_has_slept(self, world: World) -> None:
        """Its own reservation a server does not take for lapsed."""
        world.openai.script(Gate("held"))
        async with world.opened({"usd": usd(300 * OUTPUT_NUSD), "per": "day"}) as konstruct:
            call = asyncio.ensure_future(konstruct.complete(HELLO, max_tokens=200))
            await world.openai.until(lambda: world.openai.in_flight == 1)
            world.database.run("UPDATE konstruct_reservations SET lapses_at = lapses_at - 121")
            with pytest.raises(BudgetExceededError):
                await konstruct.complete(HELLO, max_tokens=200)
            world.openai.release()
            await call
        assert world.database.spent("default") == COST_NUSD

    async def test_holds_whatever_isolation_a_server_defaults_to(
        self, postgresql: PostgreSQL, tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider
    ) -> None:
        """What another server reserves while this one waits for the lock is reserved."""
        database = postgresql.create()
        name = database.engine.url.database
        database.run(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
        config = priced_config(database, openai, anthropic, ollama, budgets=[DAY])
        async with opened(tmp_path, config) as konstruct:
            await konstruct.complete(HELLO)
            with database.engine.connect() as connection:
                connection.exec_driver_sql("SELECT id FROM konstruct_tenants WHERE id = 'default' FOR UPDATE")
                call = asyncio.ensure_future(konstruct.complete(HELLO))
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = :n"
                await asyncio.to_thread(wait_for, lambda: database.value(waiting, n=name) == 1)
                columns = 'call_id, attempt, owner, tenant, "group", amount_nusd, lapses_at'
                values = f"'c', 1, 'another', 'default', 'paid', {10**9}, {2**33}"
                connection.exec_driver_sql(f"INSERT INTO konstruct_reservations ({columns}) VALUES ({values})")
                connection.commit()
            with pytest.raises(BudgetExceededError):
                await call
        database.engine.dispose()

    async def test_on_a_group_counts_what_was_spent_under_its_former_name(self, world: World) -> None:
        used_up = {"usd": usd(COST_NUSD + 200 * OUTPUT_NUSD), "per": "day"}

        def named(name: str, **settings: Any) -> dict[str, Any]:
            config = world.config({**used_up, "groups": [name]}, groups={name: settings}, default_group=name)
            config["model_list"][0]["model_name"] = name
            config["router_settings"] = {}
            return config

        async with opened(world.folder, named("paid")) as konstruct:
            await konstruct.complete(HELLO, max_tokens=60)
            assert await konstruct.spent_under_former_names() == []
            replace(world.folder / "konstruct.yaml", named("premium"))
            assert await konstruct.reload()
            [line] = await konstruct.spent_under_former_names()
            assert line.startswith('$0.000025 was spent on the group "paid", which the config does not name any more')
            assert line.endswith("konstruct.groups.<its name>.formerly")
            assert (await konstruct.budgets("default"))[0].spent_nusd == 0
            replace(world.folder / "konstruct.yaml", named("premium", formerly=["paid"]))
            assert await konstruct.reload()
            assert await konstruct.spent_under_former_names() == []
            [state] = await konstruct.budgets("default")
            assert (state.spent_nusd, state.groups) == (COST_NUSD, ("premium",))
            with pytest.raises(BudgetExceededError, match=r"spent \$0.000025"):
                await konstruct.complete(HELLO, max_tokens=110)

    async def test_that_cannot_be_checked_refuses(self, world: World) -> None:
        async with world.opened(DAY) as konstruct:
            await konstruct.complete(HELLO)
            with world.database.locked():
                with pytest.raises(LedgerError, match="out of reach; try again later"):
                    await konstruct.complete(HELLO)
                assert (await konstruct.complete(HELLO, model_group="free")).content
        assert world.openai.calls == 1

    async def test_counts_what_another_server_could_not_write(self, world: World) -> None:
        """Its row waits in the spool when the database is back, and its reservation may have lapsed."""
        spool = world.folder / "ledger.sqlite3.spool"
        async with world.opened(DAY) as konstruct:
            await konstruct.complete(HELLO)
            with world.database.locked():
                await konstruct.complete(HELLO, model_group="free")
                [file] = spool.glob("*.json")
                row = json.loads(file.read_bytes())
        async with world.opened(DAY) as konstruct:
            await konstruct.complete(HELLO)
            charge = row["charges"][0] | {"group": "paid", "model": "openai/paid", "cost_nusd": 10**9}
            row |= {"id": "another server's", "charges": [charge], "cost_nusd": 10**9}
            (spool / "another.json").write_text(json.dumps(row))
            with pytest.raises(BudgetExceededError, match=r"spent \$1\.00005"):
                await konstruct.complete(HELLO)
        assert world.openai.calls == 2


class TestTheCommands:
    def test_check_names_the_missing_price(self, world: World) -> None:
        path = write(world.folder, world.config(DAY))
        ran = run("--config", path, "check", env={})

        missing = "openai/unpriced has no price (input_cost_per_token, output_cost_per_token), which a budget needs"
        assert f"unpriced: {missing}; no tenant with a budget can use it\n" in ran.out
        assert ran.code == 1

    def test_check_live_does_not_take_a_refusal_for_an_answer(self, world: World) -> None:
        config = world.config(DAY)
        config["model_list"].append(entry("grok", {"model": "xai/grok-4", "api_key": "sk-test"}))
        path = write(world.folder, config)
        ran = run("--config", path, "check", "--live", env={})

        said = "xai/grok-4 bills its reasoning beyond max_tokens, so that a call may cost anything"
        assert f"  unpriced: {said}\n" in ran.out
        assert ran.code == 1
        assert world.openai.calls == 1  # `paid` alone: the rest has no price

    def test_check_does_not_where_no_tenant_with_a_budget_may_use_it(self, world: World) -> None:
        tenants = {"acme": {"groups": ["paid"]}, "other": {"budgets": []}}
        path = write(world.folder, world.config(DAY, tenants=tenants))
        ran = run("--config", path, "check", env={})

        assert "input_cost_per_token" not in ran.out
        assert ran.code == 0


# -- several processes -----------------------------------------------------------------------------------------------


@pytest.mark.many_cases
def test_200_calls_at_once_from_four_processes_never_exceed_it(
    tmp_path: Path,
    database: Database,
    fork_server: ForkServer | None,
    openai: Provider,
    priced: MakeConfig,
) -> None:
    """It affords about half of them."""
    limit = 100 * COST_NUSD
    budgets = [{"usd": usd(limit), "per": "day"}]
    config = write(tmp_path, priced(budgets=budgets))
    with ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess(config, fork_server=fork_server)) for _ in range(4)]
        for server in servers:
            server.initialize()
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(lambda server: server.complete("free"), servers))  # LiteLLM is loaded
            asked = list(
                threads.map(lambda server: [server.send_call("paid", max_tokens=7) for _ in range(50)], servers)
            )
            answers = [
                server.answer(number)["result"]
                for server, numbers in zip(servers, asked, strict=True)
                for number in numbers
            ]

    refused = [answer["content"][0]["text"] for answer in answers if answer["isError"]]
    assert all(text.startswith("budget_exceeded: ") for text in refused)
    assert database.spent("default") == (200 - len(refused)) * COST_NUSD == openai.calls * COST_NUSD
    assert 0 < database.spent("default") <= limit
    assert database.reserved("default") == 0


async def test_what_a_dead_process_had_reserved_stays_on_the_budget(
    tmp_path: Path,
    database: Database,
    fork_server: ForkServer | None,
    openai: Provider,
    priced: MakeConfig,
) -> None:
    openai.script(Gate("held"))
    limit = {"usd": usd(500 * OUTPUT_NUSD), "per": "day"}
    config = priced(budgets=[limit])
    with ServerProcess(write(tmp_path, config), fork_server=fork_server) as server:
        server.initialize()
        server.send_call("paid", max_tokens=200)
        await openai.until(lambda: openai.in_flight == 1)
        server.process.kill()
        server.wait()
    openai.script(Text("Hi"))
    reserved = database.reserved("default")
    # Two minutes later.
    database.run("UPDATE konstruct_reservations SET lapses_at = lapses_at - 121")
    async with opened(tmp_path, config) as konstruct:
        [state] = await konstruct.budgets("default")
        assert (state.held_nusd, state.reserved_nusd) == (reserved, 0)
        with pytest.raises(BudgetExceededError, match="held for tries of unknown cost"):
            await konstruct.complete(HELLO, max_tokens=300)
        assert (await konstruct.complete(HELLO, max_tokens=20)).content
        lines = {line.model: line.as_dict() for line in (await konstruct.usage()).by_model}
    [lost] = database.rows("SELECT * FROM konstruct_calls WHERE outcome = 'lost'")
    assert (lost["cost_nusd"], lost["most_nusd"]) == (None, reserved)
    assert (lines["openai/paid"]["unpriced"], lines["openai/paid"]["cost_usd"]) == (1, usd(COST_NUSD))
    assert lines["openai/paid"]["at_most_usd"] == usd(COST_NUSD + reserved)
    assert (database.reserved("default"), database.held("default")) == (0, reserved)


@pytest.mark.many_cases
async def test_the_row_of_a_call_that_was_taken_for_lost_takes_that_ones_place(
    tmp_path: Path, database: Database, openai: Provider, priced: MakeConfig
) -> None:
    """Its machine has slept, and another server has looked after what had lapsed."""
    openai.script(Gate("held"))
    config = priced(budgets=[{"usd": 1, "per": "day"}])
    async with opened(tmp_path, config) as sleeper, opened(tmp_path, config) as other:
        call = asyncio.ensure_future(sleeper.complete(HELLO, max_tokens=200))
        await openai.until(lambda: openai.in_flight == 1)
        database.run("UPDATE konstruct_reservations SET lapses_at = lapses_at - 121")
        openai.script(Text("Hi"))
        await other.complete(HELLO, max_tokens=200)
        assert database.held("default") > 200 * OUTPUT_NUSD
        openai.release()
        await call
        report = (await other.usage()).as_dict()["total"]
    assert [row["outcome"] for row in database.rows()] == ["ok", "ok"]
    assert (report["calls"], report["failed"], report["unpriced"]) == (2, 0, 0)
    assert (database.held("default"), database.taken("default")) == (0, 2 * COST_NUSD)
    assert database.rows("SELECT * FROM konstruct_reservations") == []
