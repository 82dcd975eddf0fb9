"""One deployment's refusal is not the call's end: what is left out, who is asked instead, and what nobody was asked.

What providers answer here is worded as theirs is, by public reports of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import ANTHROPIC_KEY, HELLO, entry, opened, reaching
from support.providers import Provider, Raw, Received, Status, Text

from konstruct_mcp import (
    AllFailedError,
    BadRequestError,
    Completion,
    ContentPolicyError,
    Konstruct,
    RequestError,
    UnavailableError,
    UnsupportedError,
)
from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.results import Attempt
from konstruct_mcp.providers.refused_parameters import Refusals
from konstruct_mcp.testing.shapes import OtherWire, Wire

pytestmark = pytest.mark.many_cases

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
KEY = "sk-of-a-test-1a2b3c"


def gpt(provider: Provider, model: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    return {"model": f"openai/{model}", "api_base": provider.url, "api_key": KEY, **more}


def claude(provider: Provider, model: str = "claude-sonnet-4-6", **more: Any) -> dict[str, Any]:
    return {"model": f"anthropic/{model}", "api_base": provider.url, "api_key": ANTHROPIC_KEY, **more}


def qwen(provider: Provider, model: str = "qwen3:32b", **more: Any) -> dict[str, Any]:
    return {"model": f"ollama/{model}", "api_base": provider.url, **more}


def one_after_another(*params: Mapping[str, Any]) -> dict[str, Any]:
    entries = [entry("only", {**one, "order": order, "num_retries": 0}) for order, one in enumerate(params)]
    return {"model_list": entries}


async def complete(folder: Path, *params: Mapping[str, Any], **arguments: Any) -> Completion:
    async with opened(folder, one_after_another(*params), {}) as konstruct:
        return await ask(konstruct, **arguments)


async def ask(konstruct: Konstruct, **arguments: Any) -> Completion:
    completion: Completion = await konstruct.complete(arguments.pop("messages", HELLO), timeout_s=100, **arguments)
    return completion


def state(konstruct: Konstruct, position: int = 0) -> str:
    return konstruct.group("only").deployments[position].state


def failed(attempts: tuple[Attempt, ...]) -> list[tuple[str, str]]:
    return [(attempt.deployment, attempt.error) for attempt in attempts]


def history(arguments: str) -> list[dict[str, Any]]:
    """A tool call, its result, and the next question."""
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    return [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "user", "content": "And tomorrow?"},
    ]


class TestWhatWasNotAsked:
    TRUNCATED = history('{"city": "Par')

    async def test_a_history_that_cannot_be_converted_costs_nobody_its_health(
        self, tmp_path: Path, anthropic: Provider
    ) -> None:
        ledger = {"KONSTRUCT_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite3'}"}  # which no other test writes to
        async with opened(tmp_path, one_after_another(claude(anthropic)), ledger) as konstruct:
            for _ in range(3):
                with pytest.raises(BadRequestError) as caught:
                    await ask(konstruct, messages=self.TRUNCATED, tools=[TOOL])
                assert caught.value.message == (
                    "anthropic/claude-sonnet-4-6: not asked: the tool arguments in the history are no JSON"
                )
            assert state(konstruct) == "ready"
            assert anthropic.requests == []
            report = await konstruct.usage()
        (line,) = report.lines
        assert (line.calls, line.failed, line.unpriced, line.cost_nusd) == (3, 3, 0, 0)

    async def test_it_goes_to_one_that_takes_it_as_it_is(
        self, tmp_path: Path, anthropic: Provider, openai: Provider
    ) -> None:
        answer = await complete(tmp_path, claude(anthropic), gpt(openai), messages=self.TRUNCATED, tools=[TOOL])
        assert answer.model == "openai/gpt-4o"
        assert failed(answer.attempts) == [
            ("anthropic/claude-sonnet-4-6", "not asked: the tool arguments in the history are no JSON")
        ]
        sent = openai.requests[0].body["messages"][1]["tool_calls"][0]["function"]["arguments"]
        assert sent == '{"city": "Par'

    @pytest.mark.parametrize(
        ("params", "reason"),
        [
            ({"model": "frobnicate/x"}, 'not tried, "frobnicate" is no provider that LiteLLM knows'),
            (
                {"model": "bedrock/anthropic.claude-3-haiku-20240307-v1:0", "aws_region_name": "us-east-1"},
                "not tried, no AWS credentials: ",
            ),
            (
                {"model": "vertex_ai/gemini-2.5-flash", "vertex_credentials": '{"type": "service_account"}'},
                "not asked: its key or its credentials are missing",
            ),
            (
                {"model": "bedrock/anthropic.claude-3-haiku-20240307-v1:0", "aws_profile_name": "none-such"},
                "not asked: LiteLLM cannot make its request; check its settings",
            ),
        ],
        ids=["provider", "credentials", "unusable credentials", "a profile that is not there"],
    )
    async def test_what_cannot_be_called_is_said_in_our_words_and_the_next_answers(
        self, tmp_path: Path, openai: Provider, params: dict[str, Any], reason: str
    ) -> None:
        answer = await complete(tmp_path, params, gpt(openai))
        assert answer.content == "Hello from openai"
        asked = [(params["model"], reason)] if reason.startswith("not asked") else []
        assert failed(answer.attempts) == asked
        with pytest.raises(UnavailableError) as caught:
            await complete(tmp_path, params)
        assert reason in caught.value.message
        assert "refused" not in caught.value.message


class TestATuningParameter:
    async def test_that_litellm_says_is_not_taken_is_left_out_and_noted(
        self, tmp_path: Path, openai: Provider, anthropic: Provider
    ) -> None:
        async with opened(tmp_path, one_after_another(gpt(openai, "gpt-5"), claude(anthropic)), {}) as konstruct:
            for _ in range(2):
                answer = await ask(konstruct, temperature=0.2)
                assert answer.model == "openai/gpt-5"
                assert answer.notes == ("temperature was left out: openai/gpt-5 does not take it",)
                assert answer.attempts == ()
        assert [("temperature" in request.body) for request in openai.requests] == [False, False]
        assert anthropic.requests == []

    @pytest.mark.parametrize("model", ["gpt-4o", "house-model"])
    async def test_of_the_config_is_left_out_too(self, tmp_path: Path, openai: Provider, model: str) -> None:
        answer = await complete(tmp_path, gpt(openai, model, reasoning_effort="medium", seed=7))
        (request,) = openai.requests
        assert request.body["seed"] == 7
        if "reasoning_effort" not in request.body:
            assert answer.notes == (f"reasoning_effort was left out: openai/{model} does not take it",)

    @pytest.mark.parametrize(
        ("said", "param"),
        [
            (
                "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is "
                "supported.",
                "temperature",
            ),
            ("`temperature` is deprecated for this model.", None),
            ("Model house-model does not support parameter temperature.", None),
            ("invalid temperature: only 1 is allowed for this model", None),
            ("temperature: Extra inputs are not permitted", None),
        ],
    )
    async def test_that_the_provider_refuses_is_left_out_and_the_next_call_knows(
        self, tmp_path: Path, openai: Provider, anthropic: Provider, said: str, param: str | None
    ) -> None:
        def takes_no_temperature(received: Received) -> Status | Text:
            error = {"message": said, "type": "invalid_request_error", "param": param, "code": None}
            refusal: Any = Raw(json.dumps({"error": error}).encode(), status=400)
            return refusal if received.body.get("temperature") == 0.2 else Text("Hello")

        openai.script(takes_no_temperature)
        config = one_after_another(gpt(openai, "house-model"), claude(anthropic))
        async with opened(tmp_path, config, {}) as konstruct:
            for requests in (2, 3):
                answer = await ask(konstruct, temperature=0.2)
                assert (answer.model, answer.attempts) == ("openai/house-model", ())
                assert answer.notes == ("temperature was left out: openai/house-model does not take it",)
                assert openai.calls == requests
            answer = await ask(konstruct, temperature=0.3)  # which is another matter
            assert answer.notes == ()
            assert openai.requests[-1].body["temperature"] == 0.3
            assert state(konstruct) == "ready"
        assert anthropic.requests == []

    @pytest.mark.parametrize(
        ("status", "said", "name"),
        [
            (400, "property 'reasoning_effort' is unsupported", "reasoning_effort"),
            (422, "Input validation error: `temperature` must be strictly positive", "temperature"),
            (422, "Input validation error: `top_p` must be > 0.0 and < 1.0", "top_p"),
        ],
    )
    async def test_that_is_refused_in_words_like_those_for_a_conversation_is_left_out_and_no_thought_forgotten(
        self, tmp_path: Path, openai: Provider, status: int, said: str, name: str
    ) -> None:
        def refuses(received: Received) -> Status | Text:
            return Status(status, said) if name in received.body else Text("Hello")

        openai.script(refuses)
        answer = await complete(
            tmp_path, gpt(openai, "house-model", **{name: "low" if name == "reasoning_effort" else 1}),
            messages=history("{}"), tools=[TOOL],
        )  # fmt: skip
        assert answer.attempts == ()
        assert answer.notes == (f"{name} was left out: openai/house-model does not take it",)
        assert openai.calls == 2

    async def test_one_after_another_is_left_out_within_the_same_try(self, tmp_path: Path, openai: Provider) -> None:
        def takes_none(received: Received) -> Status | Text:
            left = [name for name in ("temperature", "top_p", "seed") if name in received.body]
            return (
                Status(400, f"Unsupported parameter: '{left[0]}' is not supported with this model.")
                if left
                else Text("Hello")
            )

        openai.script(takes_none)
        answer = await complete(tmp_path, gpt(openai, "house-model", top_p=0.5, seed=7), temperature=0.2)
        assert sorted(note.partition(" ")[0] for note in answer.notes) == ["seed", "temperature", "top_p"]
        assert openai.calls == 4

    @pytest.mark.parametrize(
        ("said", "param", "tries"),
        [
            ("Invalid schema for function 'x': In context=('properties', 'temperature'), 'type' is required", None, 1),
            ("Missing required parameter: 'temperature'.", "tools[0].function.parameters", 1),
            ("It is too hot here for a temperature.", None, 2),
        ],
    )
    async def test_that_a_refusal_only_speaks_of_is_not_blamed_for_it(
        self, tmp_path: Path, openai: Provider, said: str, param: str | None, tries: int
    ) -> None:
        error = {"message": said, "type": "invalid_request_error", "param": param, "code": None}
        refusal = Raw(json.dumps({"error": error}).encode(), status=400)
        openai.script(*[refusal] * tries, Text("Hello"))
        async with opened(tmp_path, one_after_another(gpt(openai, "house-model")), {}) as konstruct:
            with pytest.raises(RequestError):
                await ask(konstruct, temperature=0.2)
            answer = await ask(konstruct, temperature=0.2)
        assert (openai.calls, answer.notes) == (tries + 1, ())
        assert openai.requests[-1].body["temperature"] == 0.2

    async def test_a_provider_that_refuses_it_for_ever_ends_the_try(self, tmp_path: Path, openai: Provider) -> None:
        openai.script(Status(400, "Unsupported parameter: 'temperature' is not supported with this model."))
        with pytest.raises(RequestError):
            await complete(tmp_path, gpt(openai, "house-model"), temperature=0.2)
        assert openai.calls == 2


class TestAnotherWayOfAsking:
    LATE = [*HELLO, {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Well?"}]

    @pytest.mark.parametrize(
        "said",
        [
            'Invalid value in messages[0].content: "please use max_completion_tokens" is blocked',
            "messages.0.content: please use max_completion_tokens is blocked",
            'Invalid value: "a system message at the beginning" is blocked',
            'Invalid value: "roles must alternate" is blocked',
        ],
    )
    async def test_is_never_what_a_refusal_quotes_of_another_tenants_prompt(
        self, tmp_path: Path, openai: Provider, said: str
    ) -> None:
        openai.script(Status(400, said), Text("Hello"))
        async with opened(tmp_path, one_after_another(gpt(openai, "house-model")), {}) as konstruct:
            with pytest.raises(RequestError):
                await ask(konstruct, messages=self.LATE, max_tokens=50, tenant_id="alice")
            answer = await ask(konstruct, messages=self.LATE, max_tokens=50, tenant_id="bob")
        assert answer.notes == ()
        assert openai.calls == 2
        first, second = (request.body for request in openai.requests)
        assert first == second

    @pytest.mark.parametrize(
        "said", ["Jinja Exception: roles must alternate", "Use 'max_completion_tokens' instead of 'max_tokens'."]
    )
    async def test_that_helps_nothing_is_not_remembered(self, tmp_path: Path, openai: Provider, said: str) -> None:
        openai.script(Status(400, said), Status(400, said), Text("Hello"))
        async with opened(tmp_path, one_after_another(gpt(openai, "house-model")), {}) as konstruct:
            with pytest.raises(RequestError):
                await ask(konstruct, messages=self.LATE, max_tokens=50, tenant_id="alice")
            answer = await ask(konstruct, messages=self.LATE, max_tokens=50, tenant_id="bob")
        assert answer.notes == ()
        first, second, third = (request.body for request in openai.requests)
        assert second != first == third

    @pytest.mark.parametrize(
        "said",
        [
            'Error rendering prompt with jinja template: "System message must be at the beginning."',
            "After the optional system message, conversation roles must alternate user and assistant roles.",
            "Unsupported parameter: 'max_tokens'. Use `max_completion_tokens` instead.",
        ],
    )
    async def test_that_is_answered_is_taken_from_then_on(self, tmp_path: Path, openai: Provider, said: str) -> None:
        thought = Status(400, "thinking is enabled but reasoning_content is missing in assistant tool call message")
        openai.script(Status(400, said), thought, Text("Hello"))
        messages = [*history("{}"), *self.LATE]
        async with opened(tmp_path, one_after_another(gpt(openai, "house-model")), {}) as konstruct:
            for _ in range(2):
                await ask(konstruct, messages=messages, tools=[TOOL], max_tokens=50)
        assert openai.calls == 4
        first, second, third, fourth = (
            ([message["role"] for message in request.body["messages"]], "max_tokens" in request.body)
            for request in openai.requests
        )
        assert first != second == third == fourth


class TestWhatChangesTheMeaning:
    NO_TOOLS = Status(400, "registry.ollama.ai/library/gemma3:4b does not support tools", type="api_error")

    async def test_passes_on_to_the_next(self, tmp_path: Path, ollama: Provider, anthropic: Provider) -> None:
        ollama.script(self.NO_TOOLS)
        async with opened(tmp_path, one_after_another(qwen(ollama, "gemma3"), claude(anthropic)), {}) as konstruct:
            for _ in range(4):
                answer = await ask(konstruct, tools=[TOOL])
                assert answer.model == "anthropic/claude-sonnet-4-6"
            assert state(konstruct) == "ready"
        assert failed(answer.attempts) == [("ollama/gemma3", "cannot do what is asked (HTTP 400)")]
        assert anthropic.requests[0].body["tools"][0]["name"] == "get_weather"

    async def test_where_nobody_is_left_it_is_unsupported(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(self.NO_TOOLS)
        with pytest.raises(UnsupportedError) as caught:
            await complete(tmp_path, qwen(ollama, "gemma3"), tools=[TOOL])
        assert caught.value.message == (
            'no deployment of "only" takes what is asked: ollama/gemma3: cannot do what is asked (HTTP 400): '
            "registry.ollama.ai/library/gemma3:4b does not support tools; use another group"
        )

    async def test_that_litellm_says_is_not_taken_is_said_of_nobody_to_have_refused(
        self, tmp_path: Path, openai: Provider, anthropic: Provider
    ) -> None:
        params = {"model": "together_ai/x", "api_base": openai.url, "api_key": KEY}
        answer = await complete(tmp_path, params, claude(anthropic), tools=[TOOL])
        assert failed(answer.attempts) == [("together_ai/x", "not asked: it does not take tools")]
        with pytest.raises(UnsupportedError) as caught:
            await complete(tmp_path, params, tools=[TOOL])
        assert caught.value.message == (
            'no deployment of "only" takes what is asked: together_ai/x: not asked: it does not take tools; '
            "use another group"
        )
        assert openai.requests == []


class TestDropParams:
    async def test_drops_even_tools_as_litellm_does(self, tmp_path: Path, openai: Provider) -> None:
        params = {"model": "together_ai/x", "api_base": openai.url, "api_key": KEY, "drop_params": True}
        answer = await complete(tmp_path, params, tools=[TOOL], tool_choice="required")
        assert not {"tools", "tool_choice"} & openai.requests[0].body.keys()
        assert sorted(answer.notes) == [
            "tool_choice was left out: together_ai/x does not take it",
            "tools was left out: together_ai/x does not take it",
        ]

    async def test_drops_what_litellm_says_is_not_taken_and_says_so(self, tmp_path: Path, openai: Provider) -> None:
        answer = await complete(tmp_path, gpt(openai, "gpt-5", drop_params=True), temperature=0.2)
        assert "temperature" not in openai.requests[0].body
        assert "drop_params" not in openai.requests[0].body
        assert answer.notes == ("temperature was left out: openai/gpt-5 does not take it",)

    async def test_additional_drop_params_are_never_sent(self, tmp_path: Path, openai: Provider) -> None:
        params = gpt(openai, seed=7, additional_drop_params=["temperature", "seed", "top_p"])
        answer = await complete(tmp_path, params, temperature=0.2)
        assert not {"temperature", "seed", "additional_drop_params"} & openai.requests[0].body.keys()
        assert answer.notes == (
            "seed was left out: additional_drop_params of openai/gpt-4o name it",
            "temperature was left out: additional_drop_params of openai/gpt-4o name it",
        )


# status, code or type, message; whether it cools the deployment; what an attempt says
ABOUT_THE_DEPLOYMENT = [
    (400, None, "This model does not support assistant message prefill. The conversation must end with a user message.",
     False, "cannot do what is asked"),
    (400, "unsupported_value", "Unsupported value: 'tool_choice' does not support 'required' with this model.",
     False, "cannot do what is asked"),
    (400, "model_decommissioned", "The model `x` has been decommissioned and is no longer supported. Please refer to "
     "https://console.groq.com/docs/deprecations for a recommendation on which model to use instead.",
     True, "no such model"),
    (400, None, "This organization has been disabled.", True, "account refused"),
    (400, "unsupported_value", "Your organization must be verified to stream this model. Please go to: "
     "https://platform.openai.com/settings/organization/general and click on Verify Organization.",
     True, "account refused"),
    (400, None, "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
     True, "quota used up"),
    (400, "billing_hard_limit_reached", "Billing hard limit has been reached", True, "quota used up"),
    (400, None, "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade "
     "or purchase credits.", True, "quota used up"),
    (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", True, "account refused"),
    (400, None, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
     False, "cannot do what is asked"),
    (413, "rate_limit_exceeded", "Request too large for model `x` in organization `org_1` service tier `on_demand` on "
     "tokens per minute (TPM): Limit 6000, Requested 12328, please reduce your message size and try again.",
     True, "rate limited"),
    (407, None, "Proxy Authentication Required", True, "connection failed"),
    (404, "404", "No endpoints found that support tool use. To learn more about provider routing, visit: "
     "https://openrouter.ai/docs/provider-routing", False, "cannot do what is asked"),
    (400, None, "Model Not Exist", True, "no such model"),
    (400, None, "Invocation of model ID x with on-demand throughput isn't supported. Retry your request with the ID or "
     "ARN of an inference profile that contains this model.", True, "no such model"),
    (500, None, "tools param requires --jinja flag", False, "cannot do what is asked"),
    (400, "tool_use_failed", "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more "
     "details.", False, "unusable answer"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "code", "message", "cools", "kind"),
    ABOUT_THE_DEPLOYMENT,
    ids=[row[2][:30] for row in ABOUT_THE_DEPLOYMENT],
)
async def test_a_refusal_about_this_deployment_goes_on_to_a_different_one(
    tmp_path: Path,
    openai: Provider,
    anthropic: Provider,
    status: int,
    code: str | None,
    message: str,
    cools: bool,
    kind: str,
) -> None:
    openai.script(Status(status, message, code=code))
    same = gpt(openai, temperature=0.5)  # the same model on the same account
    async with opened(tmp_path, one_after_another(gpt(openai), same, claude(anthropic)), {}) as konstruct:
        answer = await ask(konstruct, tools=[TOOL])
        assert answer.model == "anthropic/claude-sonnet-4-6"
        assert state(konstruct) == ("cooling_down" if cools else "ready")
    first, *others = failed(answer.attempts)
    assert first == ("openai/gpt-4o", f"{kind} (HTTP {status})")
    if kind != "unusable answer":
        assert others == []
        assert openai.calls == 1


# code, param, message: what providers say of a part of the request, in which they quote what somebody has written
ABOUT_WHAT_WAS_WRITTEN = [
    ("invalid_function_parameters", "tools[0].function.parameters", "Invalid schema for function 'get_account': In "
     "context=('properties', 'disabled'), 'type' is required"),
    (None, None, "Invalid schema for function 'create_project': schema must be a JSON Schema, got blocked"),
    (None, "tools[0].function.description", "The project is blocked by an unreadable text"),
    (None, None, "tool_choice: the model requires function 'foo', which was not found in tools"),
    (None, None, "The model requires a function which was not found in tools"),
    (None, None, "thinking.budget_tokens: budget limit must be below max_tokens"),
    (None, None, "metadata: key limit of 64 exceeded"),
    (None, None, "tools.3.custom.input_schema.description: the project is blocked by a word in it"),
    (None, None, "tools.3.custom.input_schema: JSON schema is invalid: 'API key invalid'"),
    (None, None, "Value 'your account has been disabled' is not one of the enum"),
    (None, None, 'Expected a number, got "the model gpt-4o has been decommissioned", at position 7'),
    (None, None, "Expected a number, got `insufficient credits, my account's credit balance`"),
    (None, None, "tools.0.custom.input_schema.properties.context_size: is wrong"),
    (None, None, "Invalid 'messages[0].content': string contains usage policy"),
]  # fmt: skip


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(("code", "param", "message"), ABOUT_WHAT_WAS_WRITTEN)
async def test_what_a_refusal_quotes_says_nothing_of_the_account_or_the_model(
    tmp_path: Path,
    openai: Provider,
    anthropic: Provider,
    status: int,
    code: str | None,
    param: str | None,
    message: str,
) -> None:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    openai.script(Raw(json.dumps({"error": error}).encode(), status=status))
    async with opened(tmp_path, one_after_another(gpt(openai), claude(anthropic)), {}) as konstruct:
        answer = await ask(konstruct, tools=[TOOL])
        assert state(konstruct) == "ready"
    assert answer.model == "anthropic/claude-sonnet-4-6"
    [(_, why)] = failed(answer.attempts)
    assert why.startswith(f"request refused (HTTP {status})")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('AnthropicException - {"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance '
         'is too low to access the API."}}', "quota used up"),
        ("OpenAIException - b'{\"error\": {\"message\": \"The model `x` does not exist\"}}'", "no such model"),
        ("Your account is not active, please check your billing details.", "account refused"),
        ("The organization that 'sk-…1' belongs to has been disabled", "account refused"),
        ("model 'x' not found, try pulling it first", "no such model"),
        ("Key limit exceeded (total limit).", "quota used up"),
        ("Budget has been exceeded! Current cost: 10.1, Max budget: 10.0", "quota used up"),
    ],
)  # fmt: skip
async def test_what_a_provider_says_itself_is_heard_beside_what_it_quotes(
    tmp_path: Path, openai: Provider, anthropic: Provider, message: str, kind: str
) -> None:
    openai.script(Status(400, message))
    async with opened(tmp_path, one_after_another(gpt(openai), claude(anthropic)), {}) as konstruct:
        answer = await ask(konstruct)
        assert state(konstruct) == "cooling_down"
    assert failed(answer.attempts) == [("openai/gpt-4o", f"{kind} (HTTP 400)")]


def _of_openai(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def _of_anthropic(message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


def _of_xai(message: str) -> dict[str, Any]:
    return {"code": "The caller does not have permission to execute the specified operation", "error": message}


async def test_a_refusal_is_known_by_what_each_provider_says(tmp_path: Path) -> None:
    cases: list[tuple[Wire | OtherWire, str, int, dict[str, Any], bool, str]] = [
        # whose words; its answer; whether it cools the deployment; what an attempt says
        ("groq", "groq/g", 400, _of_openai("`max_completion_tokens` must be less than or equal to `8192`, the maximum "
         "value for `max_completion_tokens` is less than the `context_window` for this model"),
         False, "cannot do what is asked"),
        ("openai", "openai/l", 400, _of_openai("too many tokens: max tokens must be less than or equal to 4000, the "
         "maximum output for this model"), False, "cannot do what is asked"),
        ("openai", "openai/m", 400, _of_openai("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
         False, "cannot do what is asked"),
        ("gemini", "gemini/n", 404, {"error": {"code": 404, "status": "NOT_FOUND", "message": "models/n is not found "
         "for API version v1beta, or is not supported for generateContent."}}, True, "no such model"),
        ("openai", "openai/o", 404, _of_openai("This is not a chat model and thus not supported in the "
         "v1/chat/completions endpoint. Did you mean to use v1/completions?"), True, "no such model"),
        ("anthropic", "anthropic/u", 400, _of_anthropic("You're out of extra usage. Add more at "
         "claude.ai/settings/usage and keep going."), True, "quota used up"),
        ("anthropic", "anthropic/c", 400, _of_anthropic("This credential is only authorized for use with Claude Code "
         "and cannot be used for other API requests."), True, "account refused"),
        ("groq", "groq/r", 400, _of_openai("Organization has been restricted. Please reach out to support if you "
         "believe this was in error.", "organization_restricted"), True, "account refused"),
        ("groq", "groq/f", 498, _of_openai("Flex tier capacity exceeded", "capacity_exceeded"), True, "rate limited"),
        ("bedrock", "bedrock/us.anthropic.claude-sonnet-4-6", 424, {"message": "Model error, could not process"},
         True, "server error"),
    ]  # fmt: skip
    with ExitStack() as stack:
        behind = stack.enter_context(Provider("openai"))
        entries = []
        for index, (wire, model, status, body, *_) in enumerate(cases):
            provider = stack.enter_context(Provider(wire))
            provider.script(Raw(json.dumps(body).encode(), status))
            entries += [
                entry(str(index), reaching(provider, model), order=1),
                entry(str(index), reaching(behind, "openai/gpt-4o"), order=2),
            ]
        limits = {"num_retries": 0, "allowed_fails": 0}
        async with opened(tmp_path, {"model_list": entries, "router_settings": limits}, {}) as konstruct:
            for index, (_, model, status, _, cools, kind) in enumerate(cases):
                answer = await konstruct.complete(HELLO, model_group=str(index), timeout_s=300)
                assert failed(answer.attempts) == [(model, f"{kind} (HTTP {status})")]
                cooled = konstruct.group(str(index)).deployments[0].state
                assert cooled == ("cooling_down" if cools else "ready"), model


def _of_openrouter(raw: str) -> dict[str, Any]:
    metadata = {"raw": raw, "provider_name": "Some"}
    return {"error": {"message": "Provider returned error", "code": 400, "metadata": metadata}}


def _of_google(message: str, **more: Any) -> list[Any]:
    return [{"error": {"code": 400, "message": message, **more}}]


def _of_pydantic(*flaws: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"type": "extra_forbidden", "loc": ["body", place], "msg": says} for place, says in flaws]


_JINJA = (
    "\n------------\nWhile executing CallExpression at line 189 in source:\nError: Jinja Exception: After the optional "
    "system message, conversation roles must alternate user and assistant roles."
)
_BUY = "Please add a payment method to your account to increase your rate limit."
_OVER = "prompt is too long: 210000 tokens > 200000 maximum"
# status, body; whether it cools the deployment; what an attempt says
SAID: list[tuple[int, Any, bool, str]] = [
    # forms of bodies: lists, errors in errors, a schema's complaints, texts
    (422, {"object": "error", "message": {"detail": _of_pydantic(("n", "Extra inputs are not permitted"))}}, False,
     "cannot do what is asked"),
    (422, {"detail": _of_pydantic(("n", "Extra inputs are not permitted"), ("m", "is missing"))}, False,
     "cannot do what is asked"),
    (400, "the request exceeds the available context size, try increasing it", False, "context too long"),
    (422, "Failed to deserialize the JSON body: unknown variant `developer`, expected one of `system`", False,
     "cannot do what is asked"),
    (400, "<html><body>context size</body></html>", False, "request refused"),
    (400, _of_openrouter("This model does not support tools."), False, "cannot do what is asked"),
    (400, _of_openrouter(json.dumps({"detail": [{"loc": ["body"], "msg": "tools are not supported"}]})), False,
     "cannot do what is asked"),
    (400, {"error": {"type": "request_fail", "upstream_error": _of_anthropic(_OVER)}}, False, "context too long"),
    (400, {"errors": [{"code": "invalid_input", "message": "9000 cannot exceed the total tokens limit 8192"}]}, False,
     "context too long"),
    (400, {"detail": {"error": "please enter a payment method"}}, True, "quota used up"),
    (400, {"status": 400, "title": "Unsupported parameter(s): thinking"}, False, "cannot do what is asked"),
    (400, _of_openai(f"Something is wrong with {'this ' * 2000}, which says insufficient funds"), False,
     "request refused"),
    # money that is gone, which no waiting brings back
    (403, {"error": {"message": "Your account is not active, organization <o> exceeded current quota, please check",
                     "type": "exceeded_current_quota_error"}}, True, "quota used up"),
    (429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}, True, "quota used up"),
    (429, {"error": {"code": "1308", "message": "Usage limit reached for 5 hour."}}, True, "quota used up"),
    (429, {"code": "Exhausted", "error": "Your team 1 has either used all available credits or reached its monthly "
           "spending limit."}, True, "quota used up"),
    (429, _of_openai("Your account is not active, please check your billing details.", "billing_not_active"), True,
     "quota used up"),
    (429, _of_openai("User=u over budget. Spend=10.1, Budget=10.0"), True, "quota used up"),
    (412, {"message": "Usage limits exceeded"}, True, "quota used up"),
    (403, {"code": 30011, "message": "Your paid balance is insufficient. Please top up."}, True, "quota used up"),
    (400, _of_anthropic("Third-party apps now draw from your extra usage, not your plan limits."), True,
     "quota used up"),
    # what an account may not
    (403, _of_openai("Country, region, or territory not supported", "unsupported_country_region_territory"), True,
     "account refused"),
    (403, _of_google("Verify your account to continue.", status="PERMISSION_DENIED"), True, "account refused"),
    (400, _of_google("Project `1` is not allowed to use Publisher Model `x`", status="FAILED_PRECONDITION"), True,
     "account refused"),
    (404, {"message": "Model use case details have not been submitted for this account."}, True, "account refused"),
    (404, _of_openai("No endpoints found matching your data policy."), True, "account refused"),
    (404, _of_openai("The model `x` does not exist or you do not have access to it.", "model_not_found"), False,
     "no such model"),
    (403, {"error": "this model requires a subscription, upgrade for access: https://example.org"}, True,
     "account refused"),
    (400, _of_openai("The model `x` requires terms acceptance.", "model_terms_required"), True, "account refused"),
    # too long for this one
    (400, _of_openai("Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)"), False,
     "context too long"),
    (400, _of_xai("This model's maximum prompt length is 131072 but the request contains 537812 tokens."), False,
     "context too long"),
    (400, {"error": {"code": "1261", "message": "Prompt 超长"}}, False, "context too long"),
    (400, _of_openai("prompt token count of 146270 exceeds the limit of 128000", "x"), False, "context too long"),
    (400, _of_openai("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]"), False,
     "context too long"),
    (422, {"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 4545"}, False,
     "context too long"),
    (413, _of_openai("Request body too large for x model. Max size: 8000 tokens.", "tokens_limit_reached"), False,
     "context too long"),
    (500, _of_openai("the request exceeds the available context size. try increasing it"), False, "context too long"),
    (400, {"message": "The maximum tokens you requested exceeds the model limit of 32768."}, False,
     "cannot do what is asked"),
    # a template that cannot write this conversation down is no broken server
    (500, _of_openai(_JINJA), False, "cannot do what is asked"),
    (500, {"error": json.dumps(_of_openai(_JINJA))}, False, "cannot do what is asked"),
    (500, _of_openai("Failed to parse tool call arguments as JSON: parse error"), False, "cannot do what is asked"),
    (400, {"error": 'Error rendering prompt with jinja template: "Cannot call"'}, False, "cannot do what is asked"),
    (400, _of_openai("parameter.enable_thinking must be set to false for non-streaming calls"), False,
     "cannot do what is asked"),
    # and a broken server is no wrong request
    (400, {"status": 400, "detail": "Function id '1': DEGRADED function cannot be invoked"}, False, "server error"),
    (400, {"error": "The model has crashed without additional information. (Exit code: 1)"}, False, "server error"),
    # more money for a moment, and a day's limit that says until when
    (402, _of_openai("In-flight budget"), True, "rate limited"),
    (429, _of_google("You exceeded your current quota.", details=[{"violations": [{"quotaId": "GenerateRequestsPerDay"
          "PerProjectPerModel-FreeTier"}]}, {"retryDelay": "36s"}]), True, "quota used up"),
    (524, "error code: 524", False, "no answer in time"),
    # so much in a time comes back, whatever is to be bought meanwhile
    (429, _of_openai(f"Rate limit reached for gpt-4o in organization org_1 on requests per min (RPM): Limit 3, Used 3. "
                     f"Please try again in 20s. {_BUY}", "rate_limit_exceeded"), True, "rate limited"),
    (429, _of_openai(f"Requests per minute: limit 3, used 3. {_BUY}"), False, "rate limited"),
    (429, _of_openai(_BUY, "rate_limit_exceeded"), False, "rate limited"),
    (429, _of_openai("Your free tier of 10 RPM is exhausted; the limit is raised with a spending limit"), False,
     "rate limited"),
    (429, _of_google(_BUY, details=[{"retryDelay": "36s"}]), True, "rate limited"),
    (429, _of_openai(f"Limit of requests per minute reached. {_BUY}", "insufficient_quota"), True, "quota used up"),
    (429, _of_openai(_BUY), False, "rate limited"),
    (429, _of_openai("Please add a payment method to your account."), True, "quota used up"),
    (429, _of_openai("You have reached your API key limit of 10 requests per minute"), False, "rate limited"),
    (429, _of_openai("usage limit reached, 60 requests per minute"), False, "rate limited"),
    (429, _of_openai("usage limit reached, 1000 requests per day"), False, "rate limited"),
    (400, _of_openai("This call exceeded the token limit per minute"), False, "rate limited"),
    (500, _of_openai("This call exceeded the token limit per minute"), False, "rate limited"),
    (400, _of_openai("This call exceeded the token limit per request"), False, "context too long"),
    # not allowed together is no account's fault
    (400, _of_openai("You are not allowed to use tools together with response_format"), False, "request refused"),
    (400, _of_openai("tool_choice 'required': operation not allowed with thinking"), False, "request refused"),
    (400, _of_openai("Your API key is not allowed to use this model"), True, "account refused"),
    (400, _of_openai("You are not allowed to use this model", "permission_denied"), True, "account refused"),
    (400, {"message": "Operation not allowed"}, True, "account refused"),
    (403, _of_openai("You are not allowed to use this model"), True, "account refused"),
    # an error that lists itself once more, and one that only begins like JSON
    (400, _of_google("This is wrong.", status="INVALID_ARGUMENT", errors=[{"message": "This.", "reason": "badRequest"}],
                     details=[{"reason": "API_KEY_INVALID"}]), False, "key refused"),
    (429, _of_google("Slow down.", errors=[{"message": "Slow down."}], details=[{"retryDelay": "36s"}]), True,
     "rate limited"),
    (400, _of_openai("{model} is over its capacity", "billing_hard_limit_reached"), True, "quota used up"),
    (429, _of_google("{model} is over capacity", details=[{"retryDelay": "36s"}]), True, "rate limited"),
    # a server's own libraries, which do not go together
    (500, _of_openai("CUDA driver version is incompatible with CUDA runtime version"), False, "server error"),
    (500, {"error": "CUDA error: the provided PTX is incompatible with device, jinja"}, False, "server error"),
    (500, _of_openai("Assistant response prefill is incompatible with enable_thinking."), False,
     "cannot do what is asked"),
    # what is quoted may be anybody's, also where nobody reads to its end
    (400, _of_openai(f'Invalid value: "{"this " * 400}insufficient funds {"this " * 3000}"'), False, "request refused"),
    (400, _of_openai('Invalid value: \\"insufficient funds\\"'), False, "request refused"),
    (429, _of_google("You exceeded your current quota.", details=[{"retryDelay": "36s"}]), True, "rate limited"),
]  # fmt: skip
WAITS = {36: '"36s"', 60: "In-flight", 20: "again in 20s"}  # seconds, and what the body has that asks for them


async def test_a_body_is_read_in_whichever_form_and_blames_whom_it_means(
    tmp_path: Path, openai: Provider, anthropic: Provider
) -> None:
    def answer(received: Received) -> Any:
        status, body, *_ = SAID[int(received.body["model"])]
        text = body if isinstance(body, str) else json.dumps(body)
        wait_s = next((wait_s for wait_s, words in WAITS.items() if words in text), 36)
        return Raw(text.encode(), status, headers={} if wait_s == 36 else {"retry-after": str(wait_s)})

    openai.script(answer)
    entries = []
    for index in range(len(SAID)):
        entries += [entry(str(index), gpt(openai, str(index)), order=1), entry(str(index), claude(anthropic), order=2)]
    limits = {"num_retries": 0, "allowed_fails": 1}
    async with opened(tmp_path, {"model_list": entries, "router_settings": limits}, {}) as konstruct:
        for index, (status, body, cools, kind) in enumerate(SAID):
            completion = await konstruct.complete(HELLO, model_group=str(index), timeout_s=300)
            assert failed(completion.attempts) == [(f"openai/{index}", f"{kind} (HTTP {status})")], body
            deployment = konstruct.group(str(index)).deployments[0]
            assert deployment.state == ("cooling_down" if cools else "ready"), body
            for wait_s, words in WAITS.items() if kind == "rate limited" else ():
                assert words not in json.dumps(body) or f"in {wait_s} s" in str(deployment.reason), body


@pytest.mark.parametrize(
    ("wire", "model", "status", "body"),
    [
        (
            "openai",
            "openai/a",
            400,
            _of_openai("Input data may contain inappropriate content.", "data_inspection_failed"),
        ),
        ("openai", "openai/b", 400, _of_openai("Request blocked by guardrail 'pii'", "guardrail_blocked")),
        ("openai", "openai/c", 446, _of_openai("The guardrail checks defined in the config failed.", "hooks_failed")),
        (
            "openai",
            "openai/d",
            424,
            {"error": [{"code": 2016, "message": "Prompt blocked due to security configurations"}]},
        ),
        ("xai", "xai/grok-4", 403, _of_xai("Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO")),
        ("deepseek", "deepseek/deepseek-chat", 400, _of_openai("Content Exists Risk")),
    ],
)
async def test_a_content_policy_is_known_by_its_providers_words(
    tmp_path: Path, wire: OtherWire, model: str, status: int, body: dict[str, Any]
) -> None:
    with Provider(wire) as provider:
        provider.script(Raw(json.dumps(body).encode(), status))
        async with opened(tmp_path, one_after_another(reaching(provider, model)), {}) as konstruct:
            for _ in range(3):
                with pytest.raises(ContentPolicyError):
                    await ask(konstruct)
            assert state(konstruct) == "ready"


async def test_a_proxy_that_wants_a_login_is_no_transport_error_and_the_next_is_asked(
    tmp_path: Path, ollama: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1") as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        behind = {"model": "openai/gpt-4o", "api_base": "https://provider.example/v1", "api_key": KEY}
        async with opened(tmp_path, one_after_another(behind, qwen(ollama)), {}) as konstruct:
            answer = await ask(konstruct)
            assert state(konstruct) == "cooling_down"
    assert failed(answer.attempts) == [("openai/gpt-4o", "connection failed (its proxy answers HTTP 407)")]


@pytest.mark.parametrize(
    ("strategy", "asked"),
    [
        ("least-busy", ["gpt-4o", "gpt-4o-mini", "gpt-4o", "gpt-4o-mini"]),
        ("usage-based-routing", ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini"]),
        ("usage-based-routing-v2", ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini"]),
        ("cost-based-routing", ["gpt-4o-mini"] * 4),
    ],
)
async def test_a_strategy_of_litellms_chooses_among_equals(
    tmp_path: Path, openai: Provider, strategy: str, asked: list[str]
) -> None:
    tokens = {"gpt-4o": (100, 100), "gpt-4o-mini": (10, 10)}
    openai.script(lambda received: Text("Hello", usage=tokens[received.body["model"]]))
    config = {
        "model_list": [entry("only", gpt(openai, model)) for model in tokens],
        "router_settings": {"routing_strategy": strategy},
    }
    async with opened(tmp_path, config, {}) as konstruct:
        for _ in asked:
            await ask(konstruct)
    assert [request.body["model"] for request in openai.requests] == asked


class TestAnUnclear400:
    WRONG = Status(400, "Something in it is not as it should be.")

    async def test_goes_to_one_different_model_which_may_answer(
        self, tmp_path: Path, openai: Provider, anthropic: Provider
    ) -> None:
        openai.script(self.WRONG)
        answer = await complete(tmp_path, gpt(openai), claude(anthropic))
        assert failed(answer.attempts) == [("openai/gpt-4o", "request refused (HTTP 400)")]

    async def test_is_confirmed_by_one_and_asked_of_nobody_else(
        self, tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider
    ) -> None:
        openai.script(self.WRONG)
        anthropic.script(Status(400, "messages: is wrong"))
        more = [gpt(openai, f"gpt-{n}") for n in range(8)]
        with pytest.raises(BadRequestError) as caught:
            await complete(tmp_path, gpt(openai), claude(anthropic), qwen(ollama), *more)
        assert caught.value.message == (
            "openai/gpt-4o refused the request: Something in it is not as it should be.; "
            "anthropic/claude-sonnet-4-6 refused the request: messages: is wrong"
        )
        assert (openai.calls, anthropic.calls, ollama.calls) == (1, 1, 0)

    async def test_of_one_model_in_two_groups_says_what_each_account_has_said(
        self, tmp_path: Path, openai: Provider
    ) -> None:
        openai.script(self.WRONG, Status(400, "This is not it either."))
        config = {
            "model_list": [entry("a", gpt(openai)), entry("b", gpt(openai, api_key="sk-another-account"))],
            "router_settings": {"fallbacks": [{"a": ["b"]}]},
        }
        async with opened(tmp_path, config) as konstruct:
            with pytest.raises(BadRequestError) as caught:
                await konstruct.complete(HELLO, model_group="a")
        assert caught.value.message == (
            "openai/gpt-4o refused the request: Something in it is not as it should be.; "
            "openai/gpt-4o refused the request: This is not it either."
        )

    async def test_is_no_verdict_where_the_other_could_not_be_asked(
        self, tmp_path: Path, openai: Provider, anthropic: Provider
    ) -> None:
        openai.script(self.WRONG)
        anthropic.script(Status(401))
        with pytest.raises(AllFailedError) as caught:
            await complete(tmp_path, gpt(openai), claude(anthropic))
        assert "openai/gpt-4o: request refused (HTTP 400): Something in it" in caught.value.message
        assert "anthropic/claude-sonnet-4-6: key refused (HTTP 401)" in caught.value.message

    @pytest.mark.parametrize(
        "message",
        [
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'",
            "messages.2: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_01",
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each of them",
            "Please ensure that the number of function response parts is equal to the number of function call parts",
        ],
    )
    async def test_that_is_plainly_about_the_conversation_is_asked_of_nobody_else(
        self, tmp_path: Path, openai: Provider, anthropic: Provider, message: str
    ) -> None:
        openai.script(Status(400, message))
        with pytest.raises(BadRequestError) as caught:
            await complete(tmp_path, gpt(openai), claude(anthropic))
        assert caught.value.message == f"openai/gpt-4o refused the request: {message}"
        assert anthropic.requests == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "Rate limit exceeded"}, "rate limited (HTTP 200 with an error 429 in it)"),
        ({"code": 502, "message": "Provider returned error"}, "server error (HTTP 200 with an error 502 in it)"),
        ({"code": "rate_limit_exceeded", "message": "slow down"}, "rate limited (HTTP 200 with an error 429 in it)"),
        ({"code": 402, "message": "Insufficient credits"}, "quota used up (HTTP 200 with an error 402 in it)"),
        ({"message": "no code"}, "unusable answer (HTTP 200 with an error in it)"),
        ({"message": "exceeded the token limit per minute"}, "rate limited (HTTP 200 with an error 429 in it)"),
        ({"message": 'wrong: "model x not found"'}, "unusable answer (HTTP 200 with an error in it)"),
    ],
)
async def test_a_200_that_holds_an_error_is_classified_by_the_code_inside(
    tmp_path: Path, openai: Provider, anthropic: Provider, error: dict[str, Any], kind: str
) -> None:
    openai.script(Raw(json.dumps({"error": error}).encode()))
    answer = await complete(tmp_path, gpt(openai), claude(anthropic))
    assert failed(answer.attempts) == [("openai/gpt-4o", kind)]


async def test_words_of_the_config_that_are_no_secrets_stay_in_a_reason(tmp_path: Path, openai: Provider) -> None:
    openai.script(Status(400, f"thinking is `adaptive` in us-east-1 with {KEY} and x-token-1234567 and hunter2hunter2"))
    params = gpt(
        openai,
        verbosity="adaptive",
        extra_headers={"x-auth": "x-token-1234567"},
        extra_body={"pin": "os.environ/HOUSE_PIN", "mode": "adaptive", "region": "us-east-1"},
    )
    async with opened(tmp_path, one_after_another(params), {"HOUSE_PIN": "hunter2hunter2"}) as konstruct:
        with pytest.raises(RequestError) as caught:
            await ask(konstruct)
    assert "thinking is `adaptive` in us-east-1 with *** and *** and ***" in caught.value.message


def echoing(more: str) -> Callable[[Received], Status]:
    """Who repeats what it was sent, as gateways do that are being set up."""

    def answer(received: Received) -> Status:
        headers = {name: value for name, value in received.headers.items() if not name.startswith("x-stainless-")}
        return Status(400, f"{more} {received.path} {' '.join(headers.values())}")

    return answer


@pytest.mark.parametrize(
    ("model", "environ", "more"),
    [
        ("openai/gpt-4o", {"OPENAI_API_KEY": "swordfish"}, ""),
        (
            "openai/gpt-4o",
            {"OPENAI_CUSTOM_HEADERS": "X-House: swordfish\nX-Two: b", "OPENAI_ORG_ID": "org"},
            "swordfish",
        ),
        ("openai/gpt-4o", {"all_proxy": "me:swordfish@proxy.example:3128"}, "swordfish, bWU6c3dvcmRmaXNo"),
        ("openai/gpt-4o", {"HTTPS_PROXY": "http://me:sword%2Ffish@proxy.example"}, "sword/fish, sword%2Ffish"),
        ("openai/gpt-4o", {"WATSONX_ZENAPIKEY": "swordfish", "SNOWFLAKE_JWT": "sword.fish"}, "swordfish sword.fish"),
        ("openai/gpt-4o", {"DATABASE_URL": "postgresql://me:swordfish@db.example/x"}, "swordfish"),
        ("anthropic/claude-sonnet-4-6", {"ANTHROPIC_AUTH_TOKEN": "swordfish"}, ""),
        ("gemini/gemini-2.5-flash", {"GEMINI_API_KEY": "swordfish"}, ""),
        ("ollama/qwen3:8b", {"OLLAMA_API_KEY": "swordfish"}, "swordfish"),
        ("azure/gpt-4o", {"AZURE_AD_TOKEN": "swordfish"}, ""),
    ],
    ids=str,
)
async def test_no_credential_that_was_used_is_repeated_wherever_it_came_from(
    tmp_path: Path, model: str, environ: dict[str, str], more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    wire: Any = model.partition("/")[0]
    with Provider(wire) as provider:
        provider.script(echoing(more))
        params = {"model": model, "api_base": provider.url}
        if model.startswith("openai") and "OPENAI_API_KEY" not in environ:
            params["api_key"] = KEY
        async with opened(tmp_path, one_after_another(params), environ) as konstruct:
            with pytest.raises((BadRequestError, AllFailedError)) as caught:
                await ask(konstruct)
        assert provider.calls
    said = f"{caught.value} {getattr(caught.value, 'attempts', '')}"
    assert "***" in said
    for secret in ("swordfish", "sword.fish", "sword/fish", "sword%2Ffish", "bWU6c3dvcmRmaXNo", KEY):
        assert secret not in said


def test_no_more_is_remembered_of_refusals_than_a_process_has_room_for() -> None:
    deployments = [
        Deployment(id=f"only/{n}", group="only", name="openai/x", model="openai/x", params={}) for n in range(300)
    ]
    refusals = Refusals()
    for deployment in deployments:
        refusals.add(deployment, {"seed": 7}, ["seed"], ["system first"])
    known = [(refusals.of(one, {"seed": 7}), refusals.ways(one)) for one in (deployments[0], deployments[-1])]
    assert known == [((), ()), (("seed",), ("system first",))]


def test_a_refusal_that_comes_while_the_config_changes_breaks_nothing() -> None:
    """The next config's are taken over in a thread."""
    one = Deployment(id="only/0", group="only", name="openai/x", model="openai/x", params={})
    refusals = Refusals()

    class Meanwhile(set[str]):
        def __contains__(self, id_: object) -> bool:
            refusals.add(one, {"seed": 8}, ["seed"])
            return super().__contains__(id_)

    for seed in (6, 7):
        refusals.add(one, {"seed": seed}, ["seed"])
    assert refusals.of_these(Meanwhile([one.id])).of(one, {"seed": 7}) == ("seed",)
