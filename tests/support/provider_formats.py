"""How each provider speaks: where it is asked, what its answers, tool calls, reasoning and refusals look like.

One `Format` for each, and `FORMATS` holds them all; `providers.Provider` serves them. A format renders a scripted
answer and a refusal; it decides nothing. The shapes, types, codes and wordings follow the providers' documentation and
public reports, because clients classify by all of them. Where a provider imitates another, only what differs is said
here.

A server may answer at several paths, as genuine ones do: OpenAI and Azure at chat completions and responses, Ollama at
its own and at OpenAI's, Vertex for Gemini and for Claude, Bedrock at `converse` and `invoke`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import unquote

Wire = Literal["openai", "anthropic", "ollama"]
OtherWire = Literal[
    "azure",
    "gemini",
    "vertex",
    "bedrock",
    "openrouter",
    "vllm",
    "lm_studio",
    "llama_cpp",
    "mistral",
    "groq",
    "deepseek",
    "xai",
    "cohere",
]
Finish = Literal["stop", "length", "tool_calls", "content_filter"]

_CREATED = 1_760_000_000


class Said(Protocol):
    """What an answer says, in no format yet; see `providers.Text`."""

    @property
    def text(self) -> str | None: ...
    @property
    def finish(self) -> Finish | None: ...
    @property
    def ends(self) -> str | None: ...
    @property
    def usage(self) -> tuple[int, int]: ...
    @property
    def tool_calls(self) -> Sequence[tuple[str, str, str]]: ...
    @property
    def reasoning(self) -> str | None: ...


@dataclass(frozen=True)
class Asked:
    """A completion request, as far as a format looks at it."""

    path: str
    model: str
    body: Any


@dataclass(frozen=True)
class Refused:
    """An HTTP error to be put into a format's own shape. What is None has the format's usual value."""

    status: int
    message: str | None = None
    type: str | None = None
    code: str | None = None


Body = dict[str, Any]
Render = Callable[[Said, Asked], Body]
Usual = tuple[str | None, str | None, str]  # type, code and message


@dataclass(frozen=True)
class Format:
    """How one provider speaks.

    Attributes:
        base: what `api_base` has after the server's root.
        paths: where completions are asked for, and how each is answered. A group `model` is the model's name.
        refuse: the body of a refusal, its type, code and message being known.
        errors: by status, the usual type, code and message.
        otherwise: these of a status that is not among them.
        overflow: what it says of a prompt that does not fit.
        policy: what it says of a request refused for its content.
        also: by path, what else it answers, whatever is asked.
        type_header: a header that has the type of an error.
    """

    base: str
    paths: tuple[tuple[str, Render], ...]
    refuse: Callable[[Asked, int, str | None, str | None, str], Body]
    errors: Mapping[int, Usual] = field(default_factory=dict)
    otherwise: Callable[[int], Usual] = lambda status: (
        "invalid_request_error" if status < 500 else "api_error",
        None,
        "The request has failed.",
    )
    overflow: Refused = Refused(400, "This model's maximum context length is 131072 tokens.")
    policy: Refused = Refused(400, "Content Exists Risk")
    also: Mapping[str, Any] = field(default_factory=dict)
    type_header: str | None = None

    def asked(self, path: str, body: Any) -> tuple[Asked, Render] | None:
        """The completion that a POST to this path asks for, and how it is answered; None where it asks for none."""
        for pattern, render in self.paths:
            if match := re.fullmatch(pattern, path):
                named = match.groupdict().get("model")
                model = unquote(named) if named else str(body.get("model", "")) if isinstance(body, dict) else ""
                return Asked(path, model, body), render
        return None

    def refusal(self, asked: Asked, refused: Refused) -> tuple[Body, dict[str, str]]:
        """The body of an error, and its headers."""
        kind, code, message = self.errors.get(refused.status) or self.otherwise(refused.status)
        kind = refused.type or kind
        body = self.refuse(asked, refused.status, kind, refused.code or code, refused.message or message)
        return body, {self.type_header: str(kind)} if self.type_header else {}


def ending(answer: Said, words: Mapping[Finish, str] | None = None) -> str:
    """The provider's word for why the model stopped."""
    finish: Finish = answer.finish or ("tool_calls" if answer.tool_calls else "stop")
    return answer.ends or (finish if words is None else words[finish])


# -- OpenAI's chat completions, and those who imitate them -------------------------------------------------------------


@dataclass(frozen=True)
class Chat:
    """A chat completion as one server writes it.

    Attributes:
        reasoning: the key of the message that holds it.
        id: of the completion.
        null: a message with tool calls alone has null content, not "".
        message, choice, top, usage: further fields that this server always has.
    """

    reasoning: str = "reasoning_content"
    id: str = "chatcmpl-fake"
    null: bool = True
    message: Mapping[str, Any] = field(default_factory=dict)
    choice: Mapping[str, Any] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, answer: Said, asked: Asked) -> Body:
        message: Body = {"role": "assistant", "content": answer.text if self.null else answer.text or ""}
        if answer.reasoning is not None:
            message |= self.thought(answer.reasoning)
        if answer.tool_calls:
            message["tool_calls"] = [
                {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
                for id_, name, arguments in answer.tool_calls
            ]
        prompt, completion = answer.usage
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        choice = {"index": 0, "message": {**message, **self.message}, "finish_reason": ending(answer)}
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": _CREATED,
            "model": asked.model,
            "choices": [{**choice, **self.choice}],
            "usage": {**usage, **self.usage},
            **self.top,
        }

    def thought(self, reasoning: str) -> Body:
        """The fields of the message that hold the reasoning."""
        return {self.reasoning: reasoning}


class OpenRouterChat(Chat):
    """Says besides what the model's own provider called the ending, and has reasoning in two forms."""

    def __call__(self, answer: Said, asked: Asked) -> Body:
        body = super().__call__(answer, asked)
        body["choices"][0]["native_finish_reason"] = ending(answer)
        return body

    def thought(self, reasoning: str) -> Body:
        detail = {"type": "reasoning.text", "text": reasoning, "signature": "fake", "format": "unknown", "index": 0}
        return {"reasoning": reasoning, "reasoning_details": [detail]}


class MistralChat(Chat):
    """Has reasoning as a chunk of the content."""

    def __call__(self, answer: Said, asked: Asked) -> Body:
        body = super().__call__(answer, asked)
        if answer.reasoning is not None:
            message = body["choices"][0]["message"]
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": answer.reasoning}]}
            message["content"] = [thinking, {"type": "text", "text": answer.text or ""}]
        return body

    def thought(self, reasoning: str) -> Body:
        return {}


def _openai_error(_: Asked, __: int, kind: str | None, code: str | None, message: str) -> Body:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


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


# -- OpenAI's responses ------------------------------------------------------------------------------------------------


def _responses(answer: Said, asked: Asked) -> Body:
    output: list[Body] = []
    if answer.reasoning is not None:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        output.append({"id": "rs_fake", "type": "reasoning", "summary": summary})
    finish = ending(answer)
    status = "incomplete" if finish in ("length", "content_filter") else "completed"
    if answer.text is not None and (answer.text or not answer.tool_calls):
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        output.append({"id": "msg_fake", "type": "message", "status": status, "role": "assistant", "content": [part]})
    for id_, name, arguments in answer.tool_calls:
        call = {"id": f"fc_{id_}", "type": "function_call", "status": "completed", "call_id": id_}
        output.append({**call, "name": name, "arguments": arguments})
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    prompt, completion = answer.usage
    return {
        "id": "resp_fake",
        "object": "response",
        "created_at": _CREATED,
        "status": answer.ends or status,
        "error": None,
        "incomplete_details": {"reason": reasons[finish]} if finish in reasons else None,
        "instructions": None,
        "max_output_tokens": asked.body.get("max_output_tokens"),
        "model": asked.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": asked.body.get("tools", []),
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        },
        "user": None,
        "metadata": {},
    }


# -- Anthropic's messages ----------------------------------------------------------------------------------------------

_ANTHROPIC_WORDS: Mapping[Finish, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def _messages(id_: str) -> Render:
    def render(answer: Said, asked: Asked) -> Body:
        content: list[Body] = []
        if answer.reasoning is not None:
            content.append({"type": "thinking", "thinking": answer.reasoning, "signature": "fake"})
        if answer.text:
            content.append({"type": "text", "text": answer.text})
        for call_id, name, arguments in answer.tool_calls:
            content.append({"type": "tool_use", "id": call_id, "name": name, "input": json.loads(arguments)})
        prompt, completion = answer.usage
        return {
            "id": id_,
            "type": "message",
            "role": "assistant",
            "model": asked.model,
            "content": content,
            "stop_reason": ending(answer, _ANTHROPIC_WORDS),
            "stop_sequence": None,
            "usage": {"input_tokens": prompt, "output_tokens": completion},
        }

    return render


def _anthropic_error(_: Asked, __: int, kind: str | None, ___: str | None, message: str) -> Body:
    return {"type": "error", "error": {"message": message, "type": kind}, "request_id": "req_fake"}


# -- Google ------------------------------------------------------------------------------------------------------------

_GOOGLE_WORDS: Mapping[Finish, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
}
_GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _generate_content(answer: Said, asked: Asked) -> Body:
    parts: list[Body] = []
    if answer.reasoning is not None:
        parts.append({"text": answer.reasoning, "thought": True})
    if answer.text:
        parts.append({"text": answer.text})
    for id_, name, arguments in answer.tool_calls:
        parts.append({"functionCall": {"id": id_, "name": name, "args": json.loads(arguments)}})
    if answer.reasoning is not None and len(parts) > 1:
        # On the first call, or on the last part where there is none.
        signed = next((part for part in parts if "functionCall" in part), parts[-1])
        signed["thoughtSignature"] = "ZmFrZQ=="
    candidate: Body = {"finishReason": ending(answer, _GOOGLE_WORDS), "index": 0}
    if parts:
        candidate = {"content": {"parts": parts, "role": "model"}, **candidate}
    elif candidate["finishReason"] == "MAX_TOKENS":
        candidate = {"content": {"role": "model"}, **candidate}
    prompt, completion = answer.usage
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": prompt,
            "candidatesTokenCount": completion,
            "totalTokenCount": prompt + completion,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
        },
        "modelVersion": asked.model,
        "responseId": "fake",
    }


def _google_error(_: Asked, status: int, kind: str | None, __: str | None, message: str) -> Body:
    return {"error": {"code": status, "message": message, "status": kind}}


def _google_otherwise(status: int) -> Usual:
    return _GOOGLE_STATUS.get(status, "UNKNOWN"), None, "The request has failed."


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


# -- Bedrock -----------------------------------------------------------------------------------------------------------

_BEDROCK_WORDS: Mapping[Finish, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "guardrail_intervened",
}


def _converse(answer: Said, _: Asked) -> Body:
    content: list[Body] = []
    if answer.reasoning is not None:
        content.append({"reasoningContent": {"reasoningText": {"text": answer.reasoning, "signature": "fake"}}})
    if answer.text:
        content.append({"text": answer.text})
    for id_, name, arguments in answer.tool_calls:
        content.append({"toolUse": {"toolUseId": id_, "name": name, "input": json.loads(arguments)}})
    prompt, completion = answer.usage
    return {
        "metrics": {"latencyMs": 551},
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": ending(answer, _BEDROCK_WORDS),
        "usage": {"inputTokens": prompt, "outputTokens": completion, "totalTokens": prompt + completion},
    }


def _bare_error(_: Asked, __: int, ___: str | None, ____: str | None, message: str) -> Body:
    return {"message": message}


# -- Ollama ------------------------------------------------------------------------------------------------------------

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


def _ollama_answer(answer: Said, asked: Asked, said: Body) -> Body:
    prompt, completion = answer.usage
    return {
        "model": asked.model,
        "created_at": "2026-11-01T12:00:00Z",
        **said,
        "done": True,
        "done_reason": ending(
            answer, {"stop": "stop", "length": "length", "tool_calls": "stop", "content_filter": "stop"}
        ),
        "total_duration": 4_883_583_458,
        "load_duration": 1_334_875,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": 342_546_000,
        "eval_count": completion,
        "eval_duration": 4_535_599_000,
    }


def _ollama_chat(answer: Said, asked: Asked) -> Body:
    message: Body = {"role": "assistant", "content": answer.text or ""}
    if answer.reasoning is not None:
        message["thinking"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            {"id": id_, "function": {"index": index, "name": name, "arguments": json.loads(arguments)}}
            for index, (id_, name, arguments) in enumerate(answer.tool_calls)
        ]
    return _ollama_answer(answer, asked, {"message": message})


def _ollama_generate(answer: Said, asked: Asked) -> Body:
    thought = {} if answer.reasoning is None else {"thinking": answer.reasoning}
    return _ollama_answer(answer, asked, {"response": answer.text or "", **thought, "context": [1, 2, 3]})


def _ollama_error(asked: Asked, status: int, kind: str | None, code: str | None, message: str) -> Body:
    return {"error": message} if asked.path.startswith("/api/") else _openai_error(asked, status, kind, code, message)


# -- the others --------------------------------------------------------------------------------------------------------


def _azure_error(_: Asked, status: int, kind: str | None, code: str | None, message: str) -> Body:
    error: Body = {"code": code or str(status), "message": message}
    if kind is not None:
        error |= {"type": kind, "param": None}
    if code == "content_filter":
        filtered = {"violence": {"filtered": True, "severity": "medium"}}
        error |= {
            "type": None,
            "param": "prompt",
            "status": status,
            "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": filtered},
        }
    return {"error": error}


def _openrouter_error(_: Asked, status: int, __: str | None, code: str | None, message: str) -> Body:
    metadata = {"metadata": {"reasons": ["violence"], "flagged_input": "…"}} if code == "flagged" else {}
    return {"error": {"message": message, "code": status, **metadata}, "user_id": "user_fake"}


def _coded_by_status(_: Asked, status: int, kind: str | None, __: str | None, message: str) -> Body:
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def _lm_studio_error(_: Asked, __: int, ___: str | None, ____: str | None, message: str) -> Body:
    return {"error": message}


def _llama_cpp_error(_: Asked, status: int, kind: str | None, __: str | None, message: str) -> Body:
    room = {"n_prompt_tokens": 208310, "n_ctx": 4096} if kind == "exceed_context_size_error" else {}
    return {"error": {"code": status, "message": message, "type": kind, **room}}


def _mistral_error(_: Asked, status: int, kind: str | None, code: str | None, message: str) -> Body:
    if status == 401:
        return {"detail": message}
    if status == 422:
        flaw = {"type": "extra_forbidden", "loc": ["body", "fake"], "msg": message, "input": None}
        said = {"message": {"detail": [flaw]}, "type": "invalid_request_error", "param": None, "code": None}
        return {"object": "error", **said, "raw_status_code": 422}
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def _xai_error(_: Asked, __: int, kind: str | None, ___: str | None, message: str) -> Body:
    return {"code": kind, "error": message}


def _cohere_chat(answer: Said, asked: Asked) -> Body:
    content: list[Body] = []
    if answer.reasoning is not None:
        content.append({"type": "thinking", "thinking": answer.reasoning})
    if answer.text and not answer.tool_calls:
        content.append({"type": "text", "text": answer.text})
    message: Body = {"role": "assistant"}
    if content:
        message["content"] = content
    if answer.tool_calls:
        if answer.text:
            message["tool_plan"] = answer.text
        message["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id_, name, arguments in answer.tool_calls
        ]
    words: Mapping[Finish, str] = {
        "stop": "COMPLETE",
        "length": "MAX_TOKENS",
        "tool_calls": "TOOL_CALL",
        "content_filter": "ERROR",
    }
    prompt, completion = answer.usage
    tokens = {"input_tokens": prompt, "output_tokens": completion}
    return {
        "id": "fake",
        "finish_reason": ending(answer, words),
        "message": message,
        "usage": {"billed_units": tokens, "tokens": tokens},
    }


_CHAT = r"/v1/chat/completions"
_NO_FILTER = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "safe"}}
_VERTEX = r"/v1(?:beta1)?/projects/[^/]+/locations/[^/]+/publishers"

FORMATS: Mapping[Wire | OtherWire, Format] = {
    "openai": Format(
        base="/v1",
        paths=(
            (_CHAT + r"(?:\?api-version=[\d-]+)?", Chat(top={"system_fingerprint": "fp_fake"})),
            (r"/v1/responses", _responses),
            (r"/v1/ml/v1/text/chat(?:\?version=[\d-]+)?", Chat()),  # watsonx, which speaks like it
        ),
        refuse=_openai_error,
        errors=_OPENAI_ERRORS,
        overflow=_OPENAI_OVERFLOW,
        policy=_OPENAI_POLICY,
    ),
    "anthropic": Format(
        base="",
        paths=((r"/v1/messages", _messages("msg_fake")),),
        refuse=_anthropic_error,
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
            (r"/api/chat", _ollama_chat),
            (r"/api/generate", _ollama_generate),
        ),
        refuse=_ollama_error,
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
        also={"/api/show": _OLLAMA_SHOW, "/api/version": {"version": "0.12.6"}},
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
            (r"/openai/(?:v1/)?responses(?:\?api-version=[\w-]+)?", _responses),
        ),
        refuse=_azure_error,
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
        paths=((r"/v1(?:alpha|beta)?/models/(?P<model>[^/:]+):generateContent", _generate_content),),
        refuse=_google_error,
        errors=_GOOGLE_ERRORS,
        otherwise=_google_otherwise,
        overflow=_GOOGLE_OVERFLOW,
        policy=Refused(400, "The request was blocked by the content policy."),
    ),
    "vertex": Format(
        base="/v1/projects/fake/locations/us-central1/publishers",
        paths=(
            (_VERTEX + r"/google/models/(?P<model>[^/:]+):generateContent", _generate_content),
            (_VERTEX + r"/anthropic/models/(?P<model>[^/:]+):rawPredict", _messages("msg_vrtx_fake")),
        ),
        refuse=_google_error,
        errors=_GOOGLE_ERRORS,
        otherwise=_google_otherwise,
        overflow=_GOOGLE_OVERFLOW,
        policy=Refused(400, "The request was blocked by the content policy."),
        also={"/token": {"access_token": "ya29.fake", "expires_in": 3599, "token_type": "Bearer"}},
    ),
    "bedrock": Format(
        base="",
        paths=(
            (r"/model/(?P<model>[^/]+)/converse", _converse),
            (r"/model/(?P<model>[^/]+)/invoke", _messages("msg_bdrk_fake")),
        ),
        refuse=_bare_error,
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
        refuse=_openrouter_error,
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
        refuse=_coded_by_status,
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
        refuse=_lm_studio_error,
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
        refuse=_llama_cpp_error,
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
        refuse=_mistral_error,
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
        refuse=_openai_error,
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
        refuse=_openai_error,
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
            (r"/v1/responses", _responses),
        ),
        refuse=_xai_error,
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
        paths=((r"/v2/chat", _cohere_chat),),
        refuse=_bare_error,
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
