"""Patches of the request bodies that LiteLLM makes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from konstruct_mcp.core.schema_sizes import set_apart
from konstruct_mcp.providers.litellm.formats.openai_responses import correct_tools, input_items
from konstruct_mcp.providers.litellm.patches.wrapping import skip_for_ours
from konstruct_mcp.providers.litellm.provider_call import call_settings, provider_call

# Settings of the call that are no part of a body. The header that has the key is in `extra_headers`.
_NOT_IN_BODY = frozenset(("extra_headers", "max_retries", "token", "watsonx_token"))


def shape_bodies() -> None:
    """Pass the bodies that LiteLLM makes for Anthropic, Bedrock and Gemini through `PreparedRequest.shape`.

    LiteLLM decides by a model's name what goes into them. For OpenAI's format it passes on an `extra_body`.

    Wraps: `transform_request` of `AnthropicConfig`, `VertexAIAnthropicConfig` and `AmazonAnthropicClaudeConfig` (the
    last two take out again what they do not know), `AmazonConverseConfig._transform_request_helper`,
    `vertex_ai.gemini.transformation._transform_request_body` and its `get_supports_system_message`.
    Noticed by: `test_structured_output.py`, `test_tools.py`, `test_wire_table.py`.
    """
    from litellm import AmazonConverseConfig
    from litellm.llms.anthropic.chat.transformation import AnthropicConfig
    from litellm.llms.bedrock.chat.invoke_transformations.anthropic_claude3_transformation import (
        AmazonAnthropicClaudeConfig,
    )
    from litellm.llms.vertex_ai.gemini import transformation as gemini
    from litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation import VertexAIAnthropicConfig

    def shaped(make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            body, call = make(*args, **kwargs), provider_call.get()
            shape = None if call is None else call.shape  # once: the call may end while a thread of LiteLLM's goes on
            return body if shape is None else shape(body)

        return made

    places: list[tuple[Any, str]] = [
        (AnthropicConfig, "transform_request"),
        # These take out of it again what they did not know of.
        (VertexAIAnthropicConfig, "transform_request"),
        (AmazonAnthropicClaudeConfig, "transform_request"),
        (AmazonConverseConfig, "_transform_request_helper"),
        (gemini, "_transform_request_body"),
    ]
    for place, name in places:
        setattr(place, name, shaped(getattr(place, name)))

    loose: Any = gemini
    knows_system = loose.get_supports_system_message

    def has_system(*args: Any, **kwargs: Any) -> bool:
        """LiteLLM has a new model's system prompt said by the user."""
        settings = call_settings.get()
        return knows_system(*args, **kwargs) if settings is None else settings.has_system_prompt

    loose.get_supports_system_message = has_system


def write_gemini_calls_in_linear_time() -> None:
    """Write the tool calls of a turn in Gemini's format in time that grows with their number alone.

    LiteLLM compares each call with all others, to leave out an equal one, and looks through all of them for the call
    that a result answers.

    Wraps: `check_if_part_exists_in_parts` and `convert_to_gemini_tool_call_result` of
    `vertex_ai.gemini.transformation`.
    Noticed by: `test_large_requests.py`, beside the loop.
    """
    from litellm.llms.vertex_ai.gemini import transformation

    loose: Any = transformation
    loose.check_if_part_exists_in_parts = skip_for_ours(loose.check_if_part_exists_in_parts, lambda: False)
    write_result = loose.convert_to_gemini_tool_call_result

    @functools.wraps(write_result)
    def result(message: Any, turn: Any, *args: Any, **kwargs: Any) -> Any:
        if (call := provider_call.get()) is None or not turn:
            return write_result(message, turn, *args, **kwargs)
        made = call.gemini_turn  # once: the call may end while a thread of LiteLLM's goes on
        if made[0] is not turn:
            call.gemini_turn = made = turn, {one["id"]: one for one in turn.get("tool_calls") or ()}
        answered = made[1].get(message.get("tool_call_id"))
        return write_result(message, {"tool_calls": [] if answered is None else [answered]}, *args, **kwargs)

    loose.convert_to_gemini_tool_call_result = result


def send_no_settings() -> None:
    """Keep settings, keys among them, out of bodies in which LiteLLM leaves them.

    And use the client that is kept for the deployment where LiteLLM asks all with one, which would reach one
    deployment's provider by another's proxy.

    Wraps: `BaseLLMHTTPHandler._make_common_async_call`, `OpenAILikeChatHandler.acompletion_function`.
    Noticed by: `test_transport.py`.
    """
    from litellm.llms.custom_httpx.http_handler import get_async_httpx_client
    from litellm.llms.custom_httpx.llm_http_handler import BaseLLMHTTPHandler
    from litellm.llms.openai_like.chat.handler import OpenAILikeChatHandler
    from litellm.types.utils import LlmProviders

    def bare(ask: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(ask)
        async def asked(*args: Any, **call: Any) -> Any:
            if call_settings.get() is not None:
                call["data"] = {key: value for key, value in call["data"].items() if key not in _NOT_IN_BODY}
                if "client" in call and call["client"] is None:
                    call["client"] = get_async_httpx_client(LlmProviders.OPENAI_LIKE)
            return await ask(*args, **call)

        return asked

    places: list[tuple[Any, str]] = [
        (BaseLLMHTTPHandler, "_make_common_async_call"),
        (OpenAILikeChatHandler, "acompletion_function"),
    ]
    for place, name in places:
        setattr(place, name, bare(getattr(place, name)))


def write_text_unescaped() -> None:
    """Write bodies as OpenAI's client does: text without needless escapes, half as long in many languages, and no NaN.

    Wraps: the `json.dumps` of `llm_http_handler`, `base_aws_llm` and `converse_handler`. What Converse posts are bytes,
    because AWS's library counts the letters of a text and takes them for its bytes.
    Noticed by: `test_quotes.py`, no path sends more.
    """
    from litellm.llms.bedrock import base_aws_llm
    from litellm.llms.bedrock.chat import converse_handler
    from litellm.llms.custom_httpx import llm_http_handler

    def dumps(value: Any, **options: Any) -> str:
        if call_settings.get() is not None:
            options = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":"), **options}
        return json.dumps(value, **options)

    def dumped(value: Any, **options: Any) -> str | bytes:
        """For Converse, where AWS's library counts the letters of a text and says that they are its bytes."""
        text = dumps(value, **options)
        return text if call_settings.get() is None else text.encode()

    modules: list[tuple[Any, Callable[..., str | bytes]]] = [
        (llm_http_handler, dumps),
        (base_aws_llm, dumps),
        (converse_handler, dumped),
    ]
    for module, function in modules:
        module.json = SimpleNamespace(**vars(json) | {"dumps": function})


def inline_references_once() -> None:
    """Have LiteLLM inline the references of a schema from definitions that stay as they are. It also inlines within the
    definitions, and copies what has grown there: 400 bytes of recursion become gigabytes.

    Wraps: `unpack_defs` of `prompt_templates.common_utils`, also where `vertex_ai.common_utils` has imported it.
    Noticed by: `test_quotes.py`, recursion within definitions.
    """
    from litellm.litellm_core_utils.prompt_templates import common_utils
    from litellm.llms.vertex_ai import common_utils as of_vertex

    places: list[Any] = [common_utils, of_vertex]
    unpack = common_utils.unpack_defs

    @functools.wraps(unpack)
    def unpacked(schema: dict[str, Any], defs: dict[str, Any]) -> None:
        if call_settings.get() is not None:
            schema["$defs"] = defs  # where they were
            defs = set_apart(schema)
        unpack(schema, defs)

    for place in places:
        place.unpack_defs = unpacked


def translate_responses_requests() -> None:
    """Translate a conversation into the Responses API's format ourselves.

    LiteLLM's translation loses the text of a turn that also calls tools, has no place for reasoning, and names a chosen
    tool in another way than the API wants.

    Wraps: `convert_chat_completion_messages_to_responses_api` and `transform_request` of
    `LiteLLMResponsesTransformationHandler`.
    Noticed by: `test_answers.py`, in its format and whole.
    """
    from litellm.completion_extras.litellm_responses_transformation.transformation import (
        LiteLLMResponsesTransformationHandler,
    )

    loose: Any = LiteLLMResponsesTransformationHandler
    convert, transform = loose.convert_chat_completion_messages_to_responses_api, loose.transform_request

    @functools.wraps(convert)
    def converted(self: Any, messages: Any, **settings: Any) -> Any:
        call = provider_call.get()
        return convert(self, messages, **settings) if call is None else input_items(messages, call.outputs)

    @functools.wraps(transform)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        extra = dict(kwargs["optional_params"].get("extra_body") or {})
        request = transform(*args, **kwargs)
        if provider_call.get() is None:
            return request
        if beyond := {key: value for key, value in extra.items() if key not in request}:
            request["extra_body"] = beyond  # what LiteLLM does not know, and leaves out
        return correct_tools(request)

    loose.convert_chat_completion_messages_to_responses_api = converted
    loose.transform_request = transformed
