"""How each fake provider writes an answer, with its tool calls and its reasoning, and the body of a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from konstruct_mcp.testing.shapes import Asked, Body, Finish, Render, Said, Usual, ending

_CREATED = 1_760_000_000


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


def openai_error(_: Asked, __: int, kind: str | None, code: str | None, message: str) -> Body:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# -- OpenAI's responses ------------------------------------------------------------------------------------------------


def responses(answer: Said, asked: Asked) -> Body:
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


def messages(id_: str) -> Render:
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


def anthropic_error(_: Asked, __: int, kind: str | None, ___: str | None, message: str) -> Body:
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


def generate_content(answer: Said, asked: Asked) -> Body:
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


def google_error(_: Asked, status: int, kind: str | None, __: str | None, message: str) -> Body:
    return {"error": {"code": status, "message": message, "status": kind}}


def google_otherwise(status: int) -> Usual:
    return _GOOGLE_STATUS.get(status, "UNKNOWN"), None, "The request has failed."


# -- Bedrock -----------------------------------------------------------------------------------------------------------

_BEDROCK_WORDS: Mapping[Finish, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "guardrail_intervened",
}


def converse(answer: Said, _: Asked) -> Body:
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


def bare_error(_: Asked, __: int, ___: str | None, ____: str | None, message: str) -> Body:
    return {"message": message}


# -- Ollama ------------------------------------------------------------------------------------------------------------


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


def ollama_chat(answer: Said, asked: Asked) -> Body:
    message: Body = {"role": "assistant", "content": answer.text or ""}
    if answer.reasoning is not None:
        message["thinking"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            {"id": id_, "function": {"index": index, "name": name, "arguments": json.loads(arguments)}}
            for index, (id_, name, arguments) in enumerate(answer.tool_calls)
        ]
    return _ollama_answer(answer, asked, {"message": message})


def ollama_generate(answer: Said, asked: Asked) -> Body:
    thought = {} if answer.reasoning is None else {"thinking": answer.reasoning}
    return _ollama_answer(answer, asked, {"response": answer.text or "", **thought, "context": [1, 2, 3]})


def ollama_error(asked: Asked, status: int, kind: str | None, code: str | None, message: str) -> Body:
    return {"error": message} if asked.path.startswith("/api/") else openai_error(asked, status, kind, code, message)


# -- the others --------------------------------------------------------------------------------------------------------


def azure_error(_: Asked, status: int, kind: str | None, code: str | None, message: str) -> Body:
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


def openrouter_error(_: Asked, status: int, __: str | None, code: str | None, message: str) -> Body:
    metadata = {"metadata": {"reasons": ["violence"], "flagged_input": "…"}} if code == "flagged" else {}
    return {"error": {"message": message, "code": status, **metadata}, "user_id": "user_fake"}


def coded_by_status(_: Asked, status: int, kind: str | None, __: str | None, message: str) -> Body:
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def lm_studio_error(_: Asked, __: int, ___: str | None, ____: str | None, message: str) -> Body:
    return {"error": message}


def llama_cpp_error(_: Asked, status: int, kind: str | None, __: str | None, message: str) -> Body:
    room = {"n_prompt_tokens": 208310, "n_ctx": 4096} if kind == "exceed_context_size_error" else {}
    return {"error": {"code": status, "message": message, "type": kind, **room}}


def mistral_error(_: Asked, status: int, kind: str | None, code: str | None, message: str) -> Body:
    if status == 401:
        return {"detail": message}
    if status == 422:
        flaw = {"type": "extra_forbidden", "loc": ["body", "fake"], "msg": message, "input": None}
        said = {"message": {"detail": [flaw]}, "type": "invalid_request_error", "param": None, "code": None}
        return {"object": "error", **said, "raw_status_code": 422}
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def xai_error(_: Asked, __: int, kind: str | None, ___: str | None, message: str) -> Body:
    return {"code": kind, "error": message}


def cohere_chat(answer: Said, asked: Asked) -> Body:
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
