"""What is known of models: every model of the tables is found under the name that a config has for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import litellm
import pytest
from click.testing import CliRunner
from support.default_groups import entry, write

from konstruct_mcp import ConfigError, Konstruct
from konstruct_mcp.cli.main import main
from konstruct_mcp.config import model_tables
from konstruct_mcp.config.model import entry as known_of
from konstruct_mcp.config.model_fields import is_price
from konstruct_mcp.config.model_lookup import Models

pytestmark = pytest.mark.many_cases

CHATS = ("chat", "completion", "responses")
# The word before the slash in a config, where it is not the table's own name of the provider.
PREFIXES = {
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "text-completion-openai": "openai",
    "azure_text": "azure",
    "amazon_nova": "amazon-nova",
}


def everything() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(Path(model_tables.__file__).with_name("models.json").read_text("utf-8"))
    return {name: fields for name, fields in table.items() if not name.startswith("_")}


def asked_as(name: str, provider: str) -> str:
    """As a config names it."""
    provider = "vertex_ai" if provider.startswith("vertex_ai") else PREFIXES.get(provider, provider)
    return name if name.startswith(f"{provider}/") else f"{provider}/{name}"


def test_each_chat_model_that_ships_is_found_under_the_name_that_a_config_has_for_it() -> None:
    lost, asked, table = [], 0, everything()
    for name, fields in table.items():
        if fields.get("mode") in CHATS:
            asked += 1
            model = asked_as(name, fields["litellm_provider"])
            if Models().find(model, {}) != table.get(model, fields):  # some have both names, with and without provider
                lost.append((name, model))
    assert lost == []
    assert asked > 3500


def test_a_name_that_no_table_has_is_not_found() -> None:
    assert Models().find("openai/no-such-model", {}) == {}
    assert Models().find("no-such-provider/gpt-4o", {}) == {}
    assert Models().find("ollama/qwen3:32b", {}) == {}


def test_a_model_that_only_the_installed_litellm_knows_is_found() -> None:
    file = Path(litellm.__file__).with_name("model_prices_and_context_window_backup.json")
    theirs = json.loads(file.read_text("utf-8"))
    only = next(name for name in theirs if name.startswith("openrouter/") and theirs[name].get("mode") == "chat")
    assert only not in everything()
    assert Models().find(only, {})["input_cost_per_token"] == theirs[only]["input_cost_per_token"]


@pytest.mark.parametrize(
    ("model", "params", "name"),
    [
        ("bedrock/us.anthropic.claude-opus-4-7", {}, "us.anthropic.claude-opus-4-7"),
        ("bedrock/converse/us.anthropic.claude-opus-4-7", {}, "us.anthropic.claude-opus-4-7"),
        ("bedrock/invoke/anthropic.claude-sonnet-4-6", {}, "anthropic.claude-sonnet-4-6"),
        ("bedrock/us-east-1/anthropic.claude-sonnet-4-6", {}, "anthropic.claude-sonnet-4-6"),
        ("bedrock/deepseek.v3.2", {"aws_region_name": "eu-north-1"}, "bedrock/eu-north-1/deepseek.v3.2"),
        (
            "bedrock/converse/arn:aws:bedrock:eu-west-1:1234:inference-profile/eu.anthropic.claude-sonnet-4-6",
            {},
            "eu.anthropic.claude-sonnet-4-6",
        ),
        ("vertex_ai/gemini-2.5-flash", {}, "gemini-2.5-flash"),
        ("vertex_ai_beta/gemini-2.5-flash", {}, "gemini-2.5-flash"),
        ("vertex_ai/claude-haiku-5-5@20261001", {}, "vertex_ai/claude-haiku-5-5"),
        ("cohere/command-a-03-2025", {}, "command-a-03-2025"),
        ("cohere_chat/command-a-03-2025", {}, "command-a-03-2025"),
        ("openai/responses/gpt-5", {}, "gpt-5"),
        ("azure/responses/gpt-5-codex", {}, "azure/gpt-5-codex"),
        ("azure/my-own-name", {"base_model": "azure/gpt-4o"}, "azure/gpt-4o"),
        ("azure/my-own-name", {"base_model": "gpt-4o"}, "azure/gpt-4o"),
        ("openai/ft:gpt-4o-2024-08-06:acme:custom:abc123", {}, "ft:gpt-4o-2024-08-06"),
        ("anthropic/claude-opus-latest", {}, "claude-opus-5-5"),
        ("fireworks_ai/deepseek-r1", {}, "fireworks_ai/accounts/fireworks/models/deepseek-r1"),
    ],
)
def test_a_model_is_found_under_each_way_to_name_it(model: str, params: dict[str, Any], name: str) -> None:
    assert Models().find(model, params) == everything()[name]


# ---- the user's own table


TODAY = datetime.now(UTC).date()


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


class World:
    """A config with one deployment, and a data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own = folder / "konstruct-mcp" / "models.json"
        self.environ = {"XDG_DATA_HOME": str(folder), "OPENAI_API_KEY": "sk-test"}
        self.config: dict[str, Any] = {"model_list": [entry("g", {"model": "openai/gpt-4o"})]}

    def write_own(self, table: Any) -> None:
        self.own.parent.mkdir(exist_ok=True)
        text = table if isinstance(table, str) else json.dumps(table)
        beside = self.own.with_suffix(".new")
        beside.write_text(text, "utf-8")
        beside.replace(self.own)

    def konstruct(self) -> Konstruct:
        return Konstruct.from_config(write(self.folder, self.config), environ=self.environ)

    def status(self) -> dict[str, Any]:
        return self.konstruct().group("g").deployments[0].as_dict()

    def run(self, *arguments: str) -> Ran:
        path = write(self.folder, self.config)
        with CliRunner().isolation(env=self.environ) as (out, err, _):
            with pytest.raises(SystemExit) as end:
                main(["--config", str(path), *arguments])
            assert isinstance(end.value.code, int)
            return Ran(end.value.code, out.getvalue().decode(), err.getvalue().decode())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_nobody_else_says_is_from_the_table_that_ships(world: World) -> None:
    assert world.status() == {
        "model": "openai/gpt-4o",
        "state": "ready",
        "input_usd_per_million": 2.5,
        "output_usd_per_million": 10.0,
        "context_window": 128_000,
        "supports": ["tools", "vision", "pdf", "structured_output"],
        "max_output_tokens": 16_384,
        "retires": "2027-01-14",
    }


def test_the_users_table_comes_before_it_field_by_field_and_the_config_before_both(world: World) -> None:
    world.write_own({"gpt-4o": {"max_output_tokens": 5000, "supports_vision": False, "deprecation_date": None}})
    status = world.status()
    assert (status["max_output_tokens"], status["context_window"]) == (5000, 128_000)
    assert status["supports"] == ["tools", "pdf", "structured_output"]
    assert "retires" not in status
    info = {"max_output_tokens": 700, "supports_vision": True, "deprecation_date": "2030-01-01"}
    world.config["model_list"][0]["model_info"] = info
    status = world.status()
    assert (status["max_output_tokens"], status["retires"]) == (700, "2030-01-01")
    assert status["supports"] == ["tools", "vision", "pdf", "structured_output"]


def test_a_price_of_the_users_table_takes_the_place_of_all_of_that_side(world: World) -> None:
    world.write_own({"gpt-4o": {"input_cost_per_token": 1e-6}})
    known = known_of(world.konstruct().config.groups["g"].deployments[0])
    assert known["input_cost_per_token"] == 1e-6
    assert {"cache_read_input_token_cost", "input_cost_per_token_priority"}.isdisjoint(known)
    assert known["output_cost_per_token_priority"] == 1.7e-5


def test_a_model_that_no_release_knows_is_known_once_its_data_is_there(world: World) -> None:
    world.config["model_list"] = [entry("g", {"model": "anthropic/claude-novel-9", "api_key": "k"})]
    assert world.status()["input_usd_per_million"] is None
    fields = {"litellm_provider": "anthropic", "mode": "chat", "max_output_tokens": 256_000}
    prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 5e-6, "max_input_tokens": 2_000_000}
    world.write_own({"claude-novel-9": {**fields, **prices}})
    status = world.status()
    assert (status["input_usd_per_million"], status["output_usd_per_million"]) == (1.0, 5.0)
    assert (status["context_window"], status["max_output_tokens"]) == (2_000_000, 256_000)


def test_the_config_may_name_another_file_beside_it(world: World) -> None:
    world.config["konstruct"] = {"models_file": "ours.json"}
    (world.folder / "ours.json").write_text('{"gpt-4o": {"max_output_tokens": 5}}')
    assert world.status()["max_output_tokens"] == 5
    world.config["konstruct"] = {"models_file": "os.environ/OUR_TABLE"}
    world.environ["OUR_TABLE"] = str(world.folder / "ours.json")
    assert world.status()["max_output_tokens"] == 5


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ("{", "is not JSON (line 1)"),
        ("[]", "should be a mapping of models"),
        ("[" * 100_000, "is not JSON"),
        ({"gpt-4o": 1}, "gpt-4o: should be a mapping of fields"),
        ({"gpt-4o": {"input_cost_per_token": -1}}, "gpt-4o.input_cost_per_token: should be US dollars, 0 or more"),
        ('{"gpt-4o": {"input_cost_per_token": NaN}}', "gpt-4o.input_cost_per_token: should be US dollars, 0 or more"),
        ({"gpt-4o": {"max_output_tokens": "many"}}, "gpt-4o.max_output_tokens: should be a number of tokens"),
        ({"gpt-4o": {"supports_vision": "yes"}}, "gpt-4o.supports_vision: should be true or false"),
        ({"gpt-4o": {"deprecation_date": "soon"}}, "gpt-4o.deprecation_date: should be a date like 2026-01-31"),
        ({"gpt-4o": {"off_peak_pricing": {"windows": [1]}}}, "gpt-4o.off_peak_pricing: should be a mapping of prices"),
    ],
)
def test_what_is_wrong_with_the_users_table_is_a_fault_of_the_config(world: World, table: Any, fault: str) -> None:
    world.write_own(table)
    with pytest.raises(ConfigError) as caught:
        world.konstruct()
    assert caught.value.faults[0].startswith(f"models.json in the user's data folder: {fault}")


@pytest.mark.parametrize("command", ["check", "models"])
def test_keys_of_the_users_table_that_are_misspelt_are_warned_of(world: World, command: str) -> None:
    fields = {"suports_vision": True, "input_cost_per_tokn": 1e-6, "max_tokens": 5, "house_note": "ours", "source": "x"}
    world.write_own({"gpt-4o": fields, "gpt-5": {"suports_vision": True}})
    ran = world.run(command)
    assert ran.code == 0, ran.out + ran.err
    place = "warning: models.json in the user's data folder: gpt-4o"
    assert ran.err.splitlines() == [
        f"{place}.suports_vision and of 1 more: unknown key; did you mean supports_vision?",
        f"{place}.input_cost_per_tokn: unknown key; did you mean input_cost_per_token?",
    ]


@pytest.mark.long
def test_no_key_of_litellms_own_table_counts_as_misspelt(world: World) -> None:
    file = Path(litellm.__file__).with_name("model_prices_and_context_window_backup.json")
    assert model_tables.read_file(file).slips == ()


def test_a_table_that_is_named_and_not_there_is_warned_of(world: World) -> None:
    world.config["konstruct"] = {"models_file": "none.json"}
    warning = "warning: konstruct.models_file: there is no such file; `konstruct-mcp models update` makes it\n"
    assert world.run("check").err == world.run("models").err == warning


def test_a_table_that_cannot_be_used_is_named_with_what_to_do(world: World) -> None:
    world.write_own("{")
    for command in (["check"], ["models"], ["groups"]):
        ran = world.run(*command)
        said = ran.out + ran.err
        assert ran.code == 2
        assert said.splitlines() == [
            f"{world.own} cannot be used:",
            "  models.json in the user's data folder: is not JSON (line 1)",
            "  mend that table, delete it, or run `konstruct-mcp models update`",
        ]
    world.config["konstruct"] = {"timeout_s": -1}
    said = world.run("check").out
    assert 'the config file "konstruct.yaml" cannot be used:\n  konstruct.timeout_s' in said
    assert f"{world.own} cannot be used:\n  models.json" in said


def test_an_update_replaces_a_table_that_cannot_be_used_and_keeps_it_aside(world: World) -> None:
    world.write_own("{ what somebody wrote")
    file = world.folder / "downloaded.json"
    file.write_text(json.dumps(NEWER))
    ran = world.run("models", "update", "--from", str(file))
    assert ran.code == 0, ran.err
    aside = world.own.with_name("models.json.broken")
    assert f"your table before could not be used, and is {aside} now" in ran.out
    assert aside.read_text("utf-8") == "{ what somebody wrote"
    assert world.status()["max_output_tokens"] == 32_768


def test_a_file_that_is_named_and_not_there_is_made_by_an_update(world: World) -> None:
    world.config["konstruct"] = {"models_file": "none.json"}
    assert world.status()["max_output_tokens"] == 16_384
    (world.folder / "downloaded.json").write_text(json.dumps(NEWER))
    assert world.run("models", "update", "--from", str(world.folder / "downloaded.json")).code == 0
    assert (world.folder / "none.json").exists()
    assert world.status()["max_output_tokens"] == 32_768


async def test_a_server_takes_up_a_change_of_the_users_table_like_one_of_the_config(world: World) -> None:
    world.write_own({})
    async with world.konstruct() as konstruct, asyncio.timeout(60):
        until = anyio.Event()
        following = konstruct.follow_config(until)
        taken_up = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)
        world.write_own({"gpt-4o": {"max_output_tokens": 99}})
        assert await taken_up is True
        assert konstruct.group("g").deployments[0].max_output_tokens == 99
        world.write_own("{")
        assert await anext(following) is False
        assert konstruct.config_faults == ("models.json in the user's data folder: is not JSON (line 1)",)
        assert konstruct.group("g").deployments[0].max_output_tokens == 99
        until.set()


# ---- the commands


class Public:
    """Serves a table on loopback."""

    def __init__(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        asked: list[str] = []
        self.asked = asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # who has seen enough goes
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/table.json"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Public:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


NEWER: dict[str, Any] = {
    "sample_spec": {"litellm_provider": "one of these", "mode": "one of: chat, embedding", "max_tokens": "words"},
    "gpt-4o": {
        **{key: price for key, price in everything()["gpt-4o"].items() if is_price(key)},
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 3e-6,
        "output_cost_per_token": 1e-5,
        "max_input_tokens": 128_000,
        "max_output_tokens": 32_768,
        "deprecation_date": "2027-03-01",
        "source": "https://provider.example",
    },
    "gpt-99": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6},
}


def test_models_says_what_is_known_and_how_old_that_is(world: World) -> None:
    ran = world.run("models")
    assert ran.code == 0, ran.err
    line = next(line for line in ran.out.splitlines() if line.startswith("g "))
    assert line.split("openai/gpt-4o")[1].strip() == (
        "$2.5 in, $10 out per million tokens; window of 128,000 tokens; answers of up to 16,384 tokens; "
        "tools, vision, pdf, structured_output; retires 2027-01-14"
    )
    about = model_tables.shipped().about
    shipped = f"the one that ships with konstruct-mcp (LiteLLM {about['litellm']}, read on {about['date']}, "
    assert f"model data: {shipped}" in ran.out
    world.write_own({"_about": {"date": str(TODAY - timedelta(days=40)), "litellm": "main"}})
    whence = f"LiteLLM main, read on {TODAY - timedelta(days=40)}, 40 days ago"
    assert f"model data: {world.own} ({whence})" in world.run("models").out


def test_models_in_json(world: World) -> None:
    shown = json.loads(world.run("models", "--json").out)
    [model] = shown["models"]
    assert (model["group"], model["model"], model["max_output_tokens"]) == ("g", "openai/gpt-4o", 16_384)
    assert "state" not in model
    [table] = shown["tables"]
    assert table["age_days"] == (TODAY - date.fromisoformat(table["date"])).days


@pytest.mark.parametrize("way", ["file", "url"])
def test_an_update_says_what_changes_and_is_in_use(world: World, way: str) -> None:
    with Public(json.dumps(NEWER).encode()) as public:
        file = world.folder / "downloaded.json"
        file.write_text(json.dumps(NEWER))
        ran = world.run("models", "update", "--from", str(file) if way == "file" else public.url)
        assert public.asked == ([] if way == "file" else ["/table.json"])
    assert ran.code == 0, ran.err
    assert "input_cost_per_token 2.5e-06 → 3e-06" in ran.out
    assert 'deprecation_date "2027-01-14" → "2027-03-01"' in ran.out
    assert "supports_vision" not in ran.out  # of which the newer one says nothing
    assert f"2 models: 1 new, 1 changed; written to {world.own}" in ran.out
    status = world.status()
    assert (status["input_usd_per_million"], status["max_output_tokens"]) == (3.0, 32_768)
    assert status["retires"] == "2027-03-01"
    assert status["supports"] == ["tools", "vision", "pdf", "structured_output"]
    assert [file.name for file in world.own.parent.iterdir()] == ["models.json"]  # and nothing half written


def test_an_update_keeps_what_the_user_alone_has(world: World) -> None:
    world.write_own({"openai/ours": {"max_input_tokens": 7, "litellm_provider": "openai"}})
    file = world.folder / "downloaded.json"
    file.write_text(json.dumps(NEWER))
    assert world.run("models", "update", "--from", str(file)).code == 0
    world.config["model_list"] = [entry("g", {"model": "openai/ours"})]
    assert world.status()["context_window"] == 7


def test_an_update_takes_field_by_field_and_null_takes_back(world: World) -> None:
    before = known_of(world.konstruct().config.groups["g"].deployments[0])
    world.write_own({"gpt-4o": {"max_input_tokens": 99_000}})
    file = world.folder / "downloaded.json"
    same = {"input_cost_per_token": before["input_cost_per_token"]}
    newer = {"litellm_provider": "openai", "max_output_tokens": 7, "supports_vision": None, **same}
    file.write_text(json.dumps({"gpt-4o": newer}))
    ran = world.run("models", "update", "--from", str(file))
    assert ran.code == 0, ran.err
    assert "gpt-4o: max_output_tokens 16384 → 7; supports_vision true → unknown\n" in ran.out
    after = dict(known_of(world.konstruct().config.groups["g"].deployments[0]))
    changed = {"max_output_tokens": 7, "max_input_tokens": 99_000}
    assert after == {key: value for key, value in before.items() if key != "supports_vision"} | changed


def test_a_new_price_takes_the_place_of_all_of_that_side(world: World) -> None:
    file = world.folder / "downloaded.json"
    file.write_text(json.dumps({"gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 3e-6}}))
    ran = world.run("models", "update", "--from", str(file))
    assert "cache_read_input_token_cost 1.25e-06 → unknown" in ran.out
    assert "output_cost_per_token" not in ran.out


@pytest.mark.parametrize("price", [0, 2.6e-5, 2.4e-7])
def test_a_price_that_becomes_0_or_moves_more_than_tenfold_is_taken_only_by_force(world: World, price: float) -> None:
    newer = {"gpt-4o": NEWER["gpt-4o"] | {"input_cost_per_token": price}}
    file = world.folder / "downloaded.json"
    file.write_text(json.dumps(newer))
    ran = world.run("models", "update", "--from", str(file))
    assert ran.code == 1
    assert f"gpt-4o: input_cost_per_token 2.5e-06 → {price}" in ran.err
    assert not world.own.exists()
    assert world.run("models", "update", "--from", str(file), "--force").code == 0
    assert world.own.exists()


TIER = {"range": [0, 1_000_000], "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
OFF_PEAK = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "windows": []}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"tiered_pricing": [TIER]}, {"tiered_pricing": [TIER | {"input_cost_per_token": 0}]}, "tiered_pricing.0."),
        ({"tiered_pricing": [TIER]}, {"tiered_pricing": [TIER | {"output_cost_per_token": 1e-9}]}, "tiered_pricing.0."),
        ({}, {"tiered_pricing": [TIER | {"input_cost_per_token": 0}]}, "tiered_pricing.0."),
        ({}, {"input_cost_per_token_above_200k_tokens": 0}, "input_cost_per_token_above_200k_tokens unknown → 0"),
        ({"off_peak_pricing": OFF_PEAK}, {"off_peak_pricing": OFF_PEAK | {"input_cost_per_token": 0}}, "off_peak"),
        ({"provider_specific_entry": {"us": 1.1}}, {"provider_specific_entry": {"us": 0.01}}, "specific_entry.us 1.1"),
        ({"x_uplift_multiplier": 1.1}, {"x_uplift_multiplier": 0.001}, "x_uplift_multiplier 1.1 → 0.001"),
    ],
)
def test_a_price_within_another_is_doubted_too(
    world: World, before: dict[str, Any], after: dict[str, Any], said: str
) -> None:
    world.write_own({"openai/ours": NEWER["gpt-99"] | before})
    file = world.folder / "downloaded.json"
    file.write_text(json.dumps({"openai/ours": NEWER["gpt-99"] | after}))
    ran = world.run("models", "update", "--from", str(file))
    assert ran.code == 1
    assert said in ran.err


@pytest.mark.parametrize(
    "fields",
    [
        {"provider_specific_entry": {"us": 0}},
        {"tiered_pricing": [{"input_cost_per_token": -1}]},
        {"off_peak_pricing": {"input_cost_per_token": "1"}},
    ],
)
def test_a_factor_of_0_or_a_price_that_is_none_is_a_fault_of_a_table(world: World, fields: dict[str, Any]) -> None:
    file = world.folder / "downloaded.json"
    file.write_text(json.dumps({"openai/ours": NEWER["gpt-99"] | fields}))
    ran = world.run("models", "update", "--from", str(file))
    assert ran.code == 1
    assert f"openai/ours.{next(iter(fields))}: should be a" in ran.err


def test_a_price_that_is_gone_is_taken_only_by_force_and_opens_no_way_for_another(world: World) -> None:
    file = world.folder / "downloaded.json"
    gone = NEWER["gpt-4o"] | {"input_cost_per_token": None}
    file.write_text(json.dumps({"gpt-4o": gone}))
    ran = world.run("models", "update", "--from", str(file))
    assert ran.code == 1
    assert "gpt-4o: input_cost_per_token 2.5e-06 → unknown" in ran.err
    assert not world.own.exists()
    world.write_own({"gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": None}})
    file.write_text(json.dumps({"gpt-4o": NEWER["gpt-4o"] | {"input_cost_per_token": 1}}))
    ran = world.run("models", "update", "--from", str(file))
    assert ran.code == 1  # far from what ships, if not from what was known
    assert "gpt-4o: input_cost_per_token unknown → 1" in ran.err


GOOD = json.dumps(NEWER).encode()


@pytest.mark.parametrize(
    ("body", "status", "headers", "fault"),
    [
        (b"<html>", 200, {}, "table.json: is not JSON (line 1)"),
        (b"{}", 200, {}, "table.json: holds no model: each has to say its litellm_provider"),
        (b"[1]", 200, {}, "table.json: should be a mapping of models"),
        (b'{"gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": "1"}}', 200, {}, "should be US dollars"),
        (b" " * (model_tables.MOST_BYTES + 2), 200, {}, "table.json: is larger than 32 MiB"),
        (GOOD, 404, {}, "table.json: cannot be fetched: HTTP 404"),
        (GOOD, 302, {"location": "http://127.0.0.1:9/"}, "table.json: points somewhere else (HTTP 302)"),
        (b"\xff\xfe{", 200, {}, "table.json: is not JSON"),
    ],
)
def test_what_is_no_table_changes_nothing(
    world: World, body: bytes, status: int, headers: dict[str, str], fault: str
) -> None:
    world.write_own({"gpt-4o": {"max_output_tokens": 5}})
    before = world.own.read_bytes()
    with Public(body, status, headers) as public:
        ran = world.run("models", "update", "--from", public.url)
    assert ran.code == 1
    assert ran.out == ""
    assert fault in ran.err
    assert "Traceback" not in ran.err
    assert world.own.read_bytes() == before


def test_a_model_with_a_wrong_field_stays_as_it_was_and_keeps_no_other_from_being_updated(world: World) -> None:
    table = NEWER | {"gpt-4o": NEWER["gpt-4o"] | {"max_output_tokens": 5, "deprecation_date": "soon"}, "new": []}
    with Public(json.dumps(table).encode()) as public:
        ran = world.run("models", "update", "--from", public.url)
    assert ran.code == 0
    assert "warning: gpt-4o.deprecation_date: should be a date like 2026-01-31; this model stays as it was" in ran.err
    assert "warning: new: should be a mapping of fields; this model stays as it was known" in ran.err
    written = json.loads(world.own.read_text())
    assert {"gpt-4o", "new"} & written.keys() == set()
    assert "gpt-99" in written


def test_who_does_not_answer_is_said_without_a_password(world: World) -> None:
    with Public(b"") as gone:
        url = gone.url
    ran = world.run("models", "update", "--from", url.replace("//", "//me:hush@"))
    assert (ran.code, ran.out) == (1, "")
    assert "cannot be fetched: no connection to 127.0.0.1; fetch it elsewhere and pass --from FILE" in ran.err
    assert "hush" not in ran.err


def test_a_table_that_was_written_and_then_edited_is_read_as_it_is(world: World) -> None:
    file = world.folder / "downloaded.json"
    file.write_text(json.dumps(NEWER))
    world.run("models", "update", "--from", str(file))
    world.own.write_text(world.own.read_text().replace("32768", "4711"))
    assert world.status()["max_output_tokens"] == 4711


# ---- models that are shut down


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (61, None),
        (60, "g: openai/gpt-4o is shut down on {day}, in 60 days; its provider names gpt-6-luna for it"),
        (1, "g: openai/gpt-4o is shut down on {day}, in 1 day; its provider names gpt-6-luna for it"),
        (0, "g: openai/gpt-4o was shut down on {day}; its provider names gpt-6-luna for it"),
        (-400, "g: openai/gpt-4o was shut down on {day}; its provider names gpt-6-luna for it"),
    ],
)
def test_check_warns_of_models_that_are_shut_down(world: World, days: int, said: str | None) -> None:
    day = str(TODAY + timedelta(days=days))
    world.write_own({"gpt-4o": {"deprecation_date": day}})
    ran = world.run("check")
    assert ran.code == 0, ran.out + ran.err
    if said is None:
        assert "shut down" not in ran.out
    else:
        assert said.format(day=day) in ran.out.splitlines()


def test_an_alias_is_told_as_one_and_what_retires_once(world: World) -> None:
    world.write_own({"gpt-4o": {"deprecation_date": str(TODAY)}})
    world.config["model_list"] += [entry("h", {"model": "openai/gpt-4o"}), entry("openai/*", {"model": "openai/*"})]
    world.config["router_settings"] = {"model_group_alias": {"gpt": "g"}}
    said = [line for line in world.run("check").out.splitlines() if "shut down" in line]
    assert [line.partition(";")[0] for line in said] == [f"g, h: openai/gpt-4o was shut down on {TODAY}"]
    groups = world.run("groups").out
    assert "gpt: openai/gpt-4o; alias of g\n" in groups
    assert groups.count("openai/gpt-4o  ") == 2
    shown = world.run("models").out
    assert any(line.split() == ["gpt", "alias", "of", "g"] for line in shown.splitlines())
    for out in (groups, shown):
        assert "also any model's name that matches openai/*\n" in out
