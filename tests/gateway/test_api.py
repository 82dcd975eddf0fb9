"""`Konstruct` as a Python program uses it: what it takes, gives and raises, and how long it lives."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from support.default_groups import ANTHROPIC_KEY, HELLO, KEYS, OPENAI_KEY, default_groups, entry, opened, write
from support.providers import ContextOverflow, Gate, Hang, Provider, Status, Text

import konstruct_mcp
from konstruct_mcp import (
    AllFailedError,
    Attempt,
    BadRequestError,
    Completion,
    CompletionError,
    ConfigError,
    ContextOverflowError,
    DeadlineError,
    GroupStatus,
    InvalidArgumentError,
    Konstruct,
    KonstructError,
    RequestError,
    ToolCall,
    UnavailableError,
    UnknownGroupError,
    UnsupportedError,
    Usage,
)
from konstruct_mcp.config.public import public_config

CLAUDE, GPT, QWEN = "anthropic/claude-sonnet-4-6", "openai/gpt-4o", "ollama/qwen3:32b"
CODES = {
    "AllFailedError": "all_failed",
    "BadRequestError": "bad_request",
    "BudgetExceededError": "budget_exceeded",
    "ConfigError": "config",
    "ContentPolicyError": "content_policy",
    "ContextOverflowError": "context_overflow",
    "DeadlineError": "timeout",
    "EmbeddedError": "embedded",
    "FileRefusedError": "file_refused",
    "ForbiddenTokenError": "forbidden",
    "InternalError": "internal",
    "InvalidAnswerError": "invalid_answer",
    "InvalidArgumentError": "invalid_argument",
    "InvalidTokenError": "invalid_token",
    "LedgerError": "ledger",
    "ModelDataError": "models",
    "NotOpenError": "not_open",
    "OverloadedError": "overloaded",
    "RateLimitedError": "rate_limited",
    "UnavailableError": "unavailable",
    "UnknownGroupError": "unknown_group",
    "UnknownTenantError": "unknown_tenant",
    "UnknownThreadError": "unknown_thread",
    "UnpricedError": "unpriced",
    "UnsupportedError": "unsupported",
    "UnverifiedError": "unverified",
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def config(anthropic: Provider, openai: Provider, ollama: Provider) -> dict[str, Any]:
    return default_groups(anthropic, openai, ollama)


def test_the_public_names_are_these() -> None:
    assert konstruct_mcp.__all__ == sorted(
        [
            *CODES,
            *("CompletionError", "KonstructError", "RequestError"),
            *("Attempt", "Completion", "Config", "DeploymentStatus", "GroupStatus", "Konstruct", "ToolCall", "Usage"),
            *("BudgetState", "FunctionCall", "Message", "ParsedCompletion", "SentFile", "Spend", "UsageReport"),
        ]
    )
    assert all(hasattr(konstruct_mcp, name) for name in konstruct_mcp.__all__)


def test_importing_the_package_imports_neither_litellm_nor_mcp() -> None:
    program = "import sys, konstruct_mcp; print({'litellm', 'openai', 'mcp', 'rich', 'sqlalchemy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (ran.stdout, ran.stderr) == ("set()\n", "")


class TestErrors:
    def test_each_has_its_own_stable_code(self) -> None:
        def leaves(kind: type[KonstructError]) -> Iterator[type[KonstructError]]:
            for below in kind.__subclasses__():
                yield from leaves(below)
            if not kind.__subclasses__():
                yield kind

        assert {kind.__name__: kind.code for kind in leaves(KonstructError)} == CODES
        assert len(set(CODES.values())) == len(CODES)

    @pytest.mark.parametrize(
        ("kind", "base"),
        [
            (InvalidArgumentError, RequestError),
            (UnknownGroupError, RequestError),
            (UnsupportedError, RequestError),
            (BadRequestError, RequestError),
            (ContextOverflowError, RequestError),
            (konstruct_mcp.ContentPolicyError, RequestError),
            (UnavailableError, CompletionError),
            (AllFailedError, CompletionError),
            (DeadlineError, CompletionError),
            (ConfigError, KonstructError),
            (konstruct_mcp.EmbeddedError, KonstructError),
            (konstruct_mcp.InternalError, KonstructError),
        ],
    )
    def test_form_one_tree(self, kind: type[KonstructError], base: type[KonstructError]) -> None:
        assert kind.__base__ is base
        assert issubclass(kind, KonstructError)

    async def test_read_as_one_line_code_first(self, config: dict[str, Any], tmp_path: Path) -> None:
        async with opened(tmp_path, config) as konstruct:
            with pytest.raises(UnknownGroupError) as caught:
                await konstruct.complete(HELLO, model_group="fats")
        assert caught.value.message == 'no group "fats"; did you mean fast? groups: balanced, fast, quality'
        assert str(caught.value) == f"unknown_group: {caught.value.message}"

    async def test_of_completions_hold_the_failed_tries(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        ollama.script(Status(404))
        async with opened(tmp_path, config) as konstruct:
            with pytest.raises(AllFailedError) as caught:
                await konstruct.complete(HELLO, model_group="fast")
        (attempt,) = caught.value.attempts
        assert (attempt.deployment, attempt.error) == (QWEN, "no such model (HTTP 404)")
        assert attempt.duration_ms >= 0

    async def test_of_a_deadline_say_what_was_waited_for(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        ollama.script(Text("loaded"), Hang())
        async with opened(tmp_path, config) as konstruct:
            await konstruct.complete(
                HELLO, model_group="fast"
            )  # so that the deadline is not spent on importing LiteLLM
            with pytest.raises(DeadlineError) as caught:
                await konstruct.complete(HELLO, model_group="fast", timeout_s=0.2)
        assert caught.value.message.startswith(f"no answer within 0.2 s, waiting for {QWEN}; ")
        assert caught.value.attempts == ()

    @pytest.mark.parametrize(
        ("answer", "kind"), [(Status(400), BadRequestError), (ContextOverflow(), ContextOverflowError)]
    )
    async def test_of_the_request_are_told_from_those_of_providers(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider, answer: Any, kind: type[RequestError]
    ) -> None:
        ollama.script(answer)
        async with opened(tmp_path, config) as konstruct:
            with pytest.raises(kind):
                await konstruct.complete(HELLO, model_group="fast")
        assert ollama.calls == 1

    async def test_have_no_cause_that_could_be_printed(
        self, config: dict[str, Any], tmp_path: Path, anthropic: Provider, ollama: Provider
    ) -> None:
        anthropic.script(Status(401))
        ollama.script(Status(404))
        async with opened(tmp_path, config) as konstruct:
            with pytest.raises(AllFailedError) as caught:
                await konstruct.complete(HELLO, model_group="balanced")
        # LiteLLM's exceptions hold the key and the prompt, and would go into every traceback.
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__

    def test_of_the_config_list_every_fault(self, tmp_path: Path) -> None:
        config = {"model_list": [entry("g", {"model": "openai/x"})], "konstruct": {"defalt_group": "g", "timeout_s": 0}}
        with pytest.raises(ConfigError) as caught:
            Konstruct.from_config(write(tmp_path, config), environ={})
        assert caught.value.source == 'the config file "konstruct.yaml"'
        assert len(caught.value.faults) == 2
        assert str(caught.value).startswith('config: 2 faults in the config file "konstruct.yaml": ')
        assert all(fault in str(caught.value) for fault in caught.value.faults)


class TestComplete:
    async def test_gives_a_typed_result(
        self, config: dict[str, Any], tmp_path: Path, anthropic: Provider, openai: Provider
    ) -> None:
        anthropic.script(Status(404))
        openai.script(Text("Let me look.", tool_calls=[("call_1", "weather", '{ "city": "Oslo" }')]))
        async with opened(tmp_path, config) as konstruct:
            completion = await konstruct.complete(HELLO, model_group="quality", tools=[WEATHER])
        assert isinstance(completion, Completion)
        (call,) = completion.tool_calls
        assert isinstance(call, ToolCall)
        assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{ "city": "Oslo" }')
        (attempt,) = completion.attempts
        assert isinstance(attempt, Attempt)
        assert (completion.content, completion.finish_reason) == ("Let me look.", "tool_calls")
        assert (completion.model_group, completion.served_group, completion.model) == ("quality", "quality", GPT)
        assert completion.usage == Usage(input_tokens=11, output_tokens=7)
        assert completion.cost_usd == pytest.approx(11 * 2.5e-6 + 7 * 10e-6)
        assert completion.duration_ms >= attempt.duration_ms >= 0

    async def test_hands_every_argument_on(self, config: dict[str, Any], tmp_path: Path, openai: Provider) -> None:
        config["model_list"].append(entry("gpt", {"model": GPT, "api_base": openai.url, "api_key": "k"}))
        async with opened(tmp_path, config) as konstruct:
            await konstruct.complete(
                ({"role": "user", "content": "Hi"},),
                model_group="gpt",
                tenant_id="acme",
                tools=(WEATHER,),
                tool_choice="required",
                response_format={"type": "json_object"},
                max_tokens=77,
                temperature=0.5,
                timeout_s=20,
            )
        assert openai.requests[0].body == {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "Hi"}],
            "tools": [WEATHER],
            "tool_choice": "required",
            "response_format": {"type": "json_object"},
            "max_tokens": 77,
            "temperature": 0.5,
            "stream": False,
        }

    async def test_refuses_what_is_no_request_before_anybody_is_asked(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        async with opened(tmp_path, config) as konstruct:
            with pytest.raises(InvalidArgumentError, match=r"^invalid_argument: messages: "):
                await konstruct.complete([])
        assert ollama.requests == []

    async def test_changes_nothing_of_what_it_is_given(self, config: dict[str, Any], tmp_path: Path) -> None:
        messages: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
        tools = [WEATHER]
        before = json.dumps([messages, tools])
        async with opened(tmp_path, config) as konstruct:
            await konstruct.complete(messages, model_group="quality", tools=tools)
        assert json.dumps([messages, tools]) == before

    async def test_takes_any_mapping_and_sequence(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        parts = ({"type": "text", "text": "Hi"},)
        async with opened(tmp_path, config) as konstruct:
            await konstruct.complete((MappingProxyType({"role": "user", "content": parts}),))
        assert ollama.requests[0].body["messages"] == [{"role": "user", "content": "Hi"}]


class TestGroups:
    async def test_are_all_there_with_their_states(self, config: dict[str, Any], tmp_path: Path) -> None:
        async with opened(tmp_path, config, {"OPENAI_API_KEY": OPENAI_KEY}) as konstruct:
            groups = konstruct.groups()
            assert [group.name for group in groups] == ["fast", "balanced", "quality"]
            assert all(any(one.state == "ready" for one in group.deployments) for group in groups)
            quality = konstruct.group("quality")
        assert isinstance(quality, GroupStatus)
        assert quality == groups[2]
        assert quality.fallbacks == ("fast",)
        claude, gpt = quality.deployments
        assert (claude.state, claude.reason) == ("unavailable", "ANTHROPIC_API_KEY is not set")
        assert (gpt.state, gpt.reason, gpt.input_usd_per_million) == ("ready", None, 2.5)

    def test_of_an_unknown_name_are_an_error(self, config: dict[str, Any], tmp_path: Path) -> None:
        konstruct = Konstruct.from_config(write(tmp_path, config), environ=KEYS)
        with pytest.raises(UnknownGroupError):
            konstruct.group("fats")

    async def test_see_a_deployment_cool_down(self, config: dict[str, Any], tmp_path: Path, ollama: Provider) -> None:
        ollama.stop()
        async with opened(tmp_path, config) as konstruct:
            with pytest.raises(AllFailedError):
                await konstruct.complete(HELLO, model_group="fast")
            fast = konstruct.group("fast")
        assert {one.state for one in fast.deployments} == {"cooling_down"}
        assert fast.deployments[0].reason is not None
        assert fast.deployments[0].reason.startswith("connection failed (refused); tried again in ")


class TestALife:
    async def test_may_be_closed_twice_and_unused(self, config: dict[str, Any], tmp_path: Path) -> None:
        async with opened(tmp_path, config) as konstruct:
            await konstruct.aclose()
        await konstruct.aclose()
        await Konstruct.from_config(write(tmp_path, config), environ=KEYS).aclose()

    async def test_ends_without_disturbing_another(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        ollama.script(Gate("held"))
        async with opened(tmp_path, config) as lasting:
            async with opened(tmp_path, config) as passing, asyncio.TaskGroup() as tasks:
                calls = [tasks.create_task(one.complete(HELLO)) for one in (lasting, passing)]
                await ollama.until(lambda: ollama.in_flight == 2)
                ollama.release()
                assert [(await call).content for call in calls] == ["held", "held"]
            assert (await lasting.complete(HELLO)).content == "held"
            assert (await lasting.complete(HELLO, model_group="quality")).model == CLAUDE

    async def test_ends_without_disturbing_a_call_in_flight_of_another(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        ollama.script(Gate("held"))
        async with opened(tmp_path, config) as lasting:
            async with opened(tmp_path, config) as passing:
                await passing.complete(HELLO, model_group="quality")
                call = asyncio.create_task(lasting.complete(HELLO))
                await ollama.until(lambda: ollama.in_flight == 1)
            ollama.release()
            assert (await call).attempts == ()

    async def test_closed_twice_leaves_another_alone(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        ollama.script(Text("before"), Gate("held"))
        async with opened(tmp_path, config) as lasting:
            passing = await Konstruct.from_config(write(tmp_path, config), environ=KEYS).__aenter__()
            await passing.complete(HELLO)
            call = asyncio.create_task(lasting.complete(HELLO))
            await ollama.until(lambda: ollama.in_flight == 1)
            await passing.aclose()
            await passing.aclose()
            ollama.release()
            assert (await call).attempts == ()

    async def test_closed_while_litellm_is_loading_leaves_the_next_alone(
        self, config: dict[str, Any], tmp_path: Path
    ) -> None:
        async with opened(tmp_path, config):
            pass
        async with opened(tmp_path, config) as konstruct:
            assert (await konstruct.complete(HELLO)).attempts == ()

    async def test_may_follow_another(self, config: dict[str, Any], tmp_path: Path) -> None:
        for _ in range(2):
            async with opened(tmp_path, config) as konstruct:
                for group in ("fast", "quality"):
                    assert (await konstruct.complete(HELLO, model_group=group)).attempts == ()

    def test_may_follow_another_on_a_loop_of_its_own(self, config: dict[str, Any], tmp_path: Path) -> None:
        async def once() -> list[Completion]:
            async with opened(tmp_path, config) as konstruct:
                return [await konstruct.complete(HELLO, model_group=group) for group in ("fast", "quality")]

        for _ in range(2):
            assert [completion.attempts for completion in asyncio.run(once())] == [(), ()]

    async def test_may_be_opened_again(self, config: dict[str, Any], tmp_path: Path) -> None:
        konstruct = Konstruct.from_config(write(tmp_path, config), environ=KEYS)
        for _ in range(2):
            async with konstruct:
                assert (await konstruct.complete(HELLO, model_group="quality")).attempts == ()
        async with opened(tmp_path, config) as another:
            assert (await another.complete(HELLO, model_group="quality")).attempts == ()

    async def test_may_be_opened_again_when_it_was_closed_before_litellm_was_loaded(
        self, config: dict[str, Any], tmp_path: Path
    ) -> None:
        konstruct = Konstruct.from_config(write(tmp_path, config), environ=KEYS)
        async with konstruct:
            pass
        async with konstruct:
            assert (await konstruct.complete(HELLO)).attempts == ()

    async def test_ends_with_calls_in_flight(self, config: dict[str, Any], tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Hang())
        async with opened(tmp_path, config) as konstruct:
            call = asyncio.create_task(konstruct.complete(HELLO, model_group="fast"))
            await ollama.until(lambda: ollama.in_flight == 1)
            call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await ollama.until(lambda: ollama.disconnected == 1)


async def test_no_repr_holds_a_key(
    config: dict[str, Any], tmp_path: Path, anthropic: Provider, ollama: Provider
) -> None:
    anthropic.script(Status(401, f"{ANTHROPIC_KEY} is wrong"))
    ollama.script(Status(404, f"{ANTHROPIC_KEY} is wrong"))
    async with opened(tmp_path, config) as konstruct:
        with pytest.raises(AllFailedError) as caught:
            await konstruct.complete(HELLO)
        shown = [
            konstruct,
            konstruct.config,
            konstruct.config.groups,
            konstruct.groups(),
            caught.value,
            vars(caught.value),
        ]
    text = "".join(f"{thing!r}{thing!s}" for thing in shown) + json.dumps(public_config(konstruct.config), default=dict)
    assert ANTHROPIC_KEY not in text
    assert OPENAI_KEY not in text


async def test_the_embedded_model_answers_without_a_key_or_a_network() -> None:
    async with Konstruct.from_config(environ={}) as konstruct:
        completion = await konstruct.complete(
            [{"role": "user", "content": "What is the capital of France?"}],
            model_group="embedded",
            max_tokens=16,
            temperature=0,
        )
    assert completion.content
    assert completion.model == "embedded/SmolLM2-135M-Instruct"
    assert 0 < completion.usage.output_tokens <= 16
    assert (completion.attempts, completion.served_group) == ((), "embedded")
