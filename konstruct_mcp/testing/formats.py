"""How each provider speaks: where it is asked, what its answers, tool calls, reasoning and refusals look like.

One `Format` for each, and `FORMATS` holds them all; `provider.Provider` serves them. A format renders a scripted
answer and a refusal; it decides nothing. The shapes, types, codes and wordings follow the providers' documentation and
public reports, because clients classify by all of them. Where a provider imitates another, only what differs is said.

A server may answer at several paths, as genuine ones do: OpenAI and Azure at chat completions and responses, Ollama at
its own and at OpenAI's, Vertex for Gemini and for Claude, Bedrock at `converse` and `invoke`.
"""

# Above 400 lines: one table, a provider after the other.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from konstruct_mcp.testing.bodies import (
    Chat,
    MistralChat,
    OpenRouterChat,
    anthropic_error,
    azure_error,
    bare_error,
    coded_by_status,
    cohere_chat,
    converse,
    generate_content,
    google_error,
    google_otherwise,
    llama_cpp_error,
    lm_studio_error,
    messages,
    mistral_error,
    ollama_chat,
    ollama_error,
    ollama_generate,
    openai_error,
    openrouter_error,
    responses,
    xai_error,
)
from konstruct_mcp.testing.shapes import Format, OtherWire, Refused, Usual, Wire

_OPENAI_ERRORS: Mapping[int, Usual] = {
    401: (
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided: sk-fake. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    403: (
        "request_forbidden",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    404: (
        "invalid_request_error",
        "model_not_found",
        "The model `gpt-fake` does not exist or you do not have access to it.",
    ),
    429: (
        "requests",
        "rate_limit_exceeded",
        "Rate limit reached for gpt-fake in organization org-fake on requests per min (RPM): "
        "Limit 3, Used 3, Requested 1. Please try again in 20s.",
    ),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}
_OPENAI_OVERFLOW = Refused(
    400,
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 208310 tokens. "
    "Please reduce the length of the messages.",
    code="context_length_exceeded",
)
_OPENAI_POLICY = Refused(
    400,
    "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with a "
    "different prompt: https://platform.openai.com/docs/guides/reasoning#advice-on-prompting",
    code="invalid_prompt",
)
_GOOGLE_ERRORS: Mapping[int, Usual] = {
    401: ("UNAUTHENTICATED", None, "Request had invalid authentication credentials."),
    403: (
        "PERMISSION_DENIED",
        None,
        "Generative Language API has not been used in project 1 before.",
    ),
    404: (
        "NOT_FOUND",
        None,
        "models/gemini-fake is not found for API version v1beta, or is not supported for generateContent.",
    ),
    429: (
        "RESOURCE_EXHAUSTED",
        None,
        "You exceeded your current quota, please check your plan and billing details. Please retry in 20s.",
    ),
    500: ("INTERNAL", None, "An internal error has occurred. Please retry."),
    503: ("UNAVAILABLE", None, "The model is overloaded. Please try again later."),
}
_GOOGLE_OVERFLOW = Refused(
    400, "The input token count (1208310) exceeds the maximum number of tokens allowed (1048576)."
)
INSTALLED_MODEL: Mapping[str, Any] = {  # as its list of models has one
    "name": "qwen3:32b",
    "model": "qwen3:32b",
    "modified_at": "2026-10-03T23:34:03.409490317-07:00",
    "size": 20_201_253_588,
    "digest": "030ee887880f0a1ea9a0d6fd9a1fcc7b31d1b7b3f5b1f3e6e5d9cf0b7e6f6f6e",
    "details": {
        "parent_model": "",
        "format": "gguf",
        "family": "qwen3",
        "families": ["qwen3"],
        "parameter_size": "32.8B",
        "quantization_level": "Q4_K_M",
    },
}
_OLLAMA_SHOW = {
    "license": "Apache License 2.0",
    "modelfile": "FROM fake",
    "parameters": "temperature 0.6",
    "template": "{{ .Prompt }}",
    "details": {
        "parent_model": "",
        "format": "gguf",
        "family": "qwen3",
        "families": ["qwen3"],
        "parameter_size": "8.2B",
        "quantization_level": "Q4_K_M",
    },
    "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960, "qwen3.embedding_length": 4096},
    "capabilities": ["completion", "tools", "thinking", "vision"],
    "modified_at": "2026-11-01T12:00:00Z",
}
_CHAT = r"/v1/chat/completions"
_NO_FILTER = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "safe"}}
_GEMINI = r"/v1(?:alpha|beta)?/models/(?P<model>[^/:]+)"
_VERTEX = r"/v1(?:beta1)?/projects/[^/]+/locations/[^/]+/publishers"

FORMATS: Mapping[Wire | OtherWire, Format] = {
    "openai": Format(
        base="/v1",
        paths=(
            (_CHAT + r"(?:\?api-version=[\d-]+)?", Chat(top={"system_fingerprint": "fp_fake"})),
            (r"/v1/responses", responses),
            (r"/v1/ml/v1/text/chat(?:\?version=[\d-]+)?", Chat()),  # watsonx, which speaks like it
        ),
        refuse=openai_error,
        errors=_OPENAI_ERRORS,
        overflow=_OPENAI_OVERFLOW,
        policy=_OPENAI_POLICY,
    ),
    "anthropic": Format(
        base="",
        paths=((r"/v1/messages(?:\?beta=true)?", messages("msg_fake")),),
        refuse=anthropic_error,
        errors={
            401: ("authentication_error", None, "invalid x-api-key"),
            403: ("permission_error", None, "Your API key does not have permission to use the specified resource."),
            404: ("not_found_error", None, "model: claude-fake"),
            413: ("request_too_large", None, "Request exceeds the maximum size"),
            429: (
                "rate_limit_error",
                None,
                "This request would exceed your account's rate limit. Please try again later.",
            ),
            500: ("api_error", None, "Internal server error"),
            529: ("overloaded_error", None, "Overloaded"),
        },
        overflow=Refused(400, "prompt is too long: 208310 tokens > 200000 maximum"),
        policy=Refused(400, "Output blocked by content filtering policy"),
    ),
    "ollama": Format(
        base="",
        paths=(
            (_CHAT, Chat(reasoning="reasoning", null=False, top={"system_fingerprint": "fp_ollama"})),
            (r"/api/chat", ollama_chat),
            (r"/api/generate", ollama_generate),
        ),
        refuse=ollama_error,
        errors={
            404: ("not_found_error", None, "model 'fake' not found"),
            503: ("api_error", None, "server busy, please try again.  maximum pending requests exceeded"),
        },
        # Its type is the same for every status but one.
        otherwise=lambda status: (
            "invalid_request_error" if status == 400 else "api_error",
            None,
            "The request has failed.",
        ),
        overflow=Refused(400, "the input length exceeds the context length"),
        policy=_OPENAI_POLICY,  # Ollama itself refuses nothing for what it says
        also={
            "/api/show": _OLLAMA_SHOW,
            "/api/tags": {"models": [INSTALLED_MODEL]},
            "/api/version": {"version": "0.12.6"},
        },
    ),
    "azure": Format(
        base="",
        paths=(
            (
                r"/openai/(?:deployments/(?P<model>[^/]+)/chat/completions\?api-version=[\w-]+|v1/chat/completions)",
                Chat(
                    message={"refusal": None},
                    choice={"logprobs": None, "content_filter_results": _NO_FILTER},
                    top={
                        "system_fingerprint": "fp_fake",
                        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _NO_FILTER}],
                    },
                ),
            ),
            (r"/openai/(?:v1/)?responses(?:\?api-version=[\w-]+)?", responses),
        ),
        refuse=azure_error,
        errors={
            401: (
                None,
                None,
                "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
                "for an active subscription and use a correct regional API endpoint for your resource.",
            ),
            404: (
                None,
                "DeploymentNotFound",
                "The API deployment for this resource does not exist. If you created the deployment within the last 5 "
                "minutes, please wait a moment and try again.",
            ),
            429: (
                None,
                "RateLimitReached",
                "Your requests to gpt-fake have exceeded the token rate limit of your current pricing tier. Please "
                "retry after 20 seconds.",
            ),
        },
        otherwise=lambda _: (None, None, "The request has failed."),
        overflow=_OPENAI_OVERFLOW,
        policy=Refused(
            400,
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
            "modify your prompt and retry.",
            code="content_filter",
        ),
    ),
    "gemini": Format(
        base="/v1beta",
        paths=((_GEMINI + r":(?:g|streamG)enerateContent(?:\?alt=sse)?", generate_content),),
        refuse=google_error,
        errors=_GOOGLE_ERRORS,
        otherwise=google_otherwise,
        overflow=_GOOGLE_OVERFLOW,
        policy=Refused(400, "The request was blocked by the content policy."),
    ),
    "vertex": Format(
        base="/v1/projects/fake/locations/us-central1/publishers",
        paths=(
            (_VERTEX + r"/google/models/(?P<model>[^/:]+):generateContent", generate_content),
            (_VERTEX + r"/anthropic/models/(?P<model>[^/:]+):rawPredict", messages("msg_vrtx_fake")),
        ),
        refuse=google_error,
        errors=_GOOGLE_ERRORS,
        otherwise=google_otherwise,
        overflow=_GOOGLE_OVERFLOW,
        policy=Refused(400, "The request was blocked by the content policy."),
        also={"/token": {"access_token": "ya29.fake", "expires_in": 3599, "token_type": "Bearer"}},
    ),
    "bedrock": Format(
        base="",
        paths=(
            (r"/model/(?P<model>[^/]+)/converse", converse),
            (r"/model/(?P<model>[^/]+)/invoke", messages("msg_bdrk_fake")),
        ),
        refuse=bare_error,
        errors={
            400: ("ValidationException", None, "The provided model identifier is invalid."),
            401: ("UnrecognizedClientException", None, "The security token included in the request is invalid."),
            403: ("AccessDeniedException", None, "You don't have access to the model with the specified model ID."),
            404: (
                "ResourceNotFoundException",
                None,
                "Could not resolve the foundation model from the identifier.",
            ),
            408: ("ModelTimeoutException", None, "Model processing timed out."),
            424: ("ModelErrorException", None, "The model returned an error."),
            429: ("ThrottlingException", None, "Too many requests, please wait before trying again."),
            500: ("InternalServerException", None, "The system encountered an unexpected error."),
            503: ("ServiceUnavailableException", None, "Bedrock is unable to process your request."),
        },
        otherwise=lambda status: (
            "ValidationException" if status < 500 else "InternalServerException",
            None,
            "The request has failed.",
        ),
        overflow=Refused(400, "Input is too long for requested model."),
        policy=Refused(400, "The request was blocked by the content filter."),
        type_header="x-amzn-errortype",
    ),
    "openrouter": Format(
        base="/api/v1",
        paths=(
            (
                r"/api/v1/chat/completions",
                OpenRouterChat(
                    id="gen-fake",
                    message={"refusal": None},
                    choice={"logprobs": None},
                    top={"provider": "Fake"},
                    usage={"cost": 0.000042, "is_byok": False},
                ),
            ),
        ),
        refuse=openrouter_error,
        errors={
            401: (None, None, "No auth credentials found"),
            402: (None, None, "Insufficient credits. Add more using https://openrouter.ai/settings/credits"),
            404: (None, None, "No endpoints found for fake."),
            429: (None, None, "Rate limit exceeded: free-models-per-min."),
            502: (None, None, "Provider returned error"),
            503: (None, None, "No instances available"),
        },
        overflow=Refused(
            400,
            "This endpoint's maximum context length is 131072 tokens. However, you requested about 208310 tokens "
            "(208310 of text input). Please reduce the length of either one, or use the context-compression plugin.",
        ),
        policy=Refused(
            403, 'fake/model requires moderation on Fake. Your input was flagged for "violence".', code="flagged"
        ),
    ),
    "vllm": Format(
        base="/v1",
        paths=(
            (
                _CHAT,
                Chat(
                    message={"refusal": None, "annotations": None, "audio": None, "function_call": None},
                    choice={"logprobs": None, "stop_reason": None, "token_ids": None},
                    top={"service_tier": None, "system_fingerprint": None, "prompt_logprobs": None},
                    usage={"prompt_tokens_details": None},
                ),
            ),
        ),
        refuse=coded_by_status,
        errors={
            401: ("Unauthorized", None, "Unauthorized"),
            404: ("NotFoundError", None, "The model `fake` does not exist."),
        },
        otherwise=lambda status: (
            "BadRequestError" if status < 500 else "InternalServerError",
            None,
            "The request has failed.",
        ),
        overflow=Refused(
            400,
            "This model's maximum context length is 40960 tokens. However, your request has 208310 input tokens. "
            "Please reduce the length of the input messages.",
        ),
        policy=_OPENAI_POLICY,
    ),
    "lm_studio": Format(
        base="/v1",
        paths=((_CHAT, Chat(null=False, choice={"logprobs": None}, top={"stats": {}, "system_fingerprint": "fake"})),),
        refuse=lm_studio_error,
        errors={404: (None, None, "Model not found")},
        overflow=Refused(
            400,
            "Trying to keep the first 208310 tokens when context the overflows. However, the model is loaded with "
            "context length of only 4096 tokens, which is not enough.",
        ),
        policy=_OPENAI_POLICY,
    ),
    "llama_cpp": Format(
        base="/v1",
        paths=(
            (
                _CHAT,
                Chat(
                    null=False,
                    top={
                        "system_fingerprint": "b6900-fake",
                        "timings": {"prompt_n": 11, "prompt_ms": 42.0, "predicted_n": 7, "predicted_ms": 142.0},
                    },
                ),
            ),
        ),
        refuse=llama_cpp_error,
        errors={
            401: ("authentication_error", None, "Invalid API Key"),
            404: ("not_found_error", None, "File Not Found"),
            500: ("server_error", None, "The server had an error."),
            503: ("unavailable_error", None, "Loading model"),
        },
        overflow=Refused(
            400,
            "the request exceeds the available context size, try increasing it",
            type="exceed_context_size_error",
        ),
        policy=_OPENAI_POLICY,
        also={"/props": {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 1, "model_path": "fake.gguf"}},
    ),
    "mistral": Format(
        base="/v1",
        paths=((_CHAT, MistralChat(id="fa4e" * 8)),),
        refuse=mistral_error,
        errors={
            400: ("invalid_model", "1500", "Invalid model: fake"),
            401: (None, None, "Unauthorized"),
            422: (None, None, "Extra inputs are not permitted"),
            429: ("rate_limited", "1300", "Rate limit exceeded"),
            500: ("internal_server_error", "3000", "Service unavailable."),
            503: ("internal_server_error", "3000", "Service unavailable."),
        },
        overflow=Refused(
            400,
            "Prompt contains 208310 tokens and 0 draft tokens, too large for model with 131072 maximum context length",
            type="invalid_request_prompt",
            code="3051",
        ),
        policy=Refused(
            400, "The request was blocked by the content policy.", type="invalid_request_error", code="3054"
        ),
    ),
    "groq": Format(
        base="/openai/v1",
        paths=(
            (
                r"/openai/v1/chat/completions",
                Chat(
                    reasoning="reasoning",
                    choice={"logprobs": None},
                    top={"system_fingerprint": "fp_fake", "x_groq": {"id": "req_fake"}, "service_tier": "on_demand"},
                    usage={"queue_time": 0.01, "prompt_time": 0.01, "completion_time": 0.02, "total_time": 0.03},
                ),
            ),
        ),
        refuse=openai_error,
        errors={
            401: ("invalid_request_error", "invalid_api_key", "Invalid API Key"),
            404: (
                "invalid_request_error",
                "model_not_found",
                "The model `fake` does not exist or you do not have access to it.",
            ),
            413: (
                "tokens",
                "rate_limit_exceeded",
                "Request too large for model `fake` in organization `org_fake` service tier `on_demand` on tokens per "
                "minute (TPM): Limit 6000, Requested 8013, please reduce your message size and try again.",
            ),
            429: (
                "tokens",
                "rate_limit_exceeded",
                "Rate limit reached for model `fake` in organization `org_fake` service tier `on_demand` on tokens per "
                "minute (TPM): Limit 6000, Used 5800, Requested 400. Please try again in 20s.",
            ),
            503: ("internal_server_error", None, "Service Unavailable"),
        },
        overflow=Refused(
            400, "Please reduce the length of the messages or completion.", code="context_length_exceeded"
        ),
        policy=_OPENAI_POLICY,
    ),
    "deepseek": Format(
        base="/v1",
        paths=(
            (
                r"(?:/v1|/beta)?/chat/completions",
                Chat(
                    null=False,
                    choice={"logprobs": None},
                    top={"system_fingerprint": "fp_fake"},
                    usage={
                        "prompt_tokens_details": {"cached_tokens": 0},
                        "prompt_cache_hit_tokens": 0,
                        "prompt_cache_miss_tokens": 11,
                    },
                ),
            ),
        ),
        refuse=openai_error,
        errors={
            401: (
                "authentication_error",
                "invalid_request_error",
                "Authentication Fails, Your api key: ****fake is invalid",
            ),
            402: ("unknown_error", "invalid_request_error", "Insufficient Balance"),
            503: (
                "service_unavailable_error",
                "service_unavailable_error",
                "Service is too busy. We advise users to temporarily switch to alternative LLM API service providers.",
            ),
        },
        overflow=Refused(
            400,
            "This model's maximum context length is 131072 tokens. However, you requested 208310 tokens (208310 in the "
            "messages, 0 in the completion). Please reduce the length of the messages or completion.",
            code="invalid_request_error",
        ),
    ),
    "xai": Format(
        base="/v1",
        paths=(
            (
                _CHAT,
                Chat(
                    null=False,
                    message={"refusal": None},
                    top={"system_fingerprint": "fp_fake"},
                    usage={
                        "prompt_tokens_details": {"text_tokens": 11, "image_tokens": 0, "cached_tokens": 0},
                        "completion_tokens_details": {"reasoning_tokens": 0},
                        "num_sources_used": 0,
                    },
                ),
            ),
            (r"/v1/responses", responses),
        ),
        refuse=xai_error,
        errors={
            403: (
                "The caller does not have permission to execute the specified operation",
                None,
                "Your newly created team doesn't have any credits or licenses yet.",
            ),
            404: (
                "Some requested entity was not found",
                None,
                "The model fake does not exist or your team fake does not have access to it.",
            ),
            429: (
                "Some resource has been exhausted",
                None,
                "Your team fake has used all available credits or reached its monthly spending limit.",
            ),
            503: ("The service is currently unavailable", None, "The model is at capacity."),
        },
        otherwise=lambda status: (
            "Client specified an invalid argument" if status < 500 else "Internal error",
            None,
            "The request has failed.",
        ),
        overflow=Refused(400, "This model's maximum prompt length is 131072 but the request contains 208310 tokens."),
        policy=Refused(
            403,
            "Content violates usage guidelines. Team: fake, API key ID: fake, Model: fake, Failed check: "
            "SAFETY_CHECK_TYPE_BIO",
        ),
    ),
    "cohere": Format(
        base="/v2/chat",  # LiteLLM posts to its `api_base` as it is
        paths=((r"/v2/chat", cohere_chat),),
        refuse=bare_error,
        errors={
            401: (None, None, "invalid api token"),
            404: (None, None, "model 'fake' not found, make sure the correct model ID was used."),
            429: (None, None, "You are using a Trial key, which is limited to 20 API calls / minute."),
            500: (None, None, "internal server error, this has been reported to our developers."),
        },
        overflow=Refused(
            400,
            "too many tokens: size limit exceeded by 52310 tokens. Try using shorter or fewer inputs, or setting "
            "prompt_truncation='AUTO'.",
        ),
        policy=Refused(400, "blocked by the content policy"),
    ),
}
