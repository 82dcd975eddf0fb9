"""What a provider's own answer says: the JSON of its HTTP response becomes one `ProviderAnswer`.

LiteLLM drops or refuses what does not fit its form of an answer, so that the provider's own is read as well: for the
true finish reason, and for the parts that LiteLLM has lost.

Pure code over data that anybody may have sent: any field may be missing or of another type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from konstruct_mcp.core.messages import FunctionCall, ToolCall
from konstruct_mcp.providers.costs import Served, Tokens
from konstruct_mcp.providers.litellm.answers.fields import object_in, objects_in, own_text, text_in, word_in
from konstruct_mcp.providers.litellm.answers.finish_reasons import meaning_of
from konstruct_mcp.providers.litellm.answers.lightening import MOST_OF_AN_ERROR
from konstruct_mcp.providers.litellm.answers.usage import MISCOUNTED, billed_usd, served_in, tokens_of

Format = Literal["chat", "responses", "messages", "gemini", "converse", "cohere", "error"]
"""`chat`: OpenAI's chat completions; `messages`: Anthropic's; `responses`: OpenAI's Responses API."""
_TEXT_TYPES = (None, "text", "output_text")  # of the parts of a message


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """A provider's own answer.

    Attributes:
        format: the format it is in, by its shape; `error` where it holds no answer. Ollama's own is read in `ollama`.
        native_finish_reason: why the model stopped, in the provider's own word; None where it does not say.
        in_parts: whether the text comes in several pieces, of which LiteLLM may lose some.
        text: the text of the answer, without reasoning that has a field of its own.
        calls: the tool calls, with the ids that the provider gave them.
        provider_calls: the ids of calls that the provider has made itself, to tools of its own.
        refusal: the text of a refusal in place of an answer.
        error: code and message of an error that came in place of an answer, or has ended it.
        tokens: what the provider counted; None where it counted nothing, or nothing that can be used.
        served: the tier, speed and region that it says it has served the request with.
        is_miscounted: whether it counted, and a count is no number of tokens.
        reasoning: what it wants to get back beside these calls, by the name of the message's field.
        cost_usd: what it says that it has billed; None where it does not say.
    """

    format: Format
    native_finish_reason: str | None = None
    in_parts: bool = False
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    provider_calls: frozenset[str] = frozenset()
    refusal: str = ""
    error: tuple[str, str] | None = None
    tokens: Tokens | None = None
    served: Served = field(default_factory=Served)
    is_miscounted: bool = False
    reasoning: Mapping[str, Any] = field(default_factory=dict)
    cost_usd: float | None = None

    @property
    def says(self) -> bool:
        """Whether there is something in it, or a known reason why not."""
        return bool(self.text or self.calls or self.refusal or meaning_of(self.native_finish_reason) is not None)


def parse_answer(content: bytes) -> ProviderAnswer | None:
    """The answer in the body of a successful HTTP response; None where it is in no known format."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    for format_, (fits, read) in _READERS.items():
        if fits(answer):
            try:
                body = replace(read(format_, answer), served=served_in(answer))
            except (AttributeError, KeyError, TypeError, ValueError):  # it only looked like this format
                return None
            return replace(body, tokens=None, is_miscounted=True) if body.tokens is MISCOUNTED else body
    error = _error(answer.get("error")) or _error_in_place_of_answer(answer)
    return None if error is None else ProviderAnswer("error", error=error)


# -- OpenAI's chat completions and all that imitates them --------------------------------------------------------------


def _chat(format_: Format, answer: Mapping[str, Any]) -> ProviderAnswer:
    choices = objects_in(answer["choices"])
    messages = [object_in(choice.get("message")) for choice in choices]
    words = [_finish_of_chat(choice) for choice in choices]
    said = [
        (_texts(message.get("content")), _chat_calls(message), text_in(message.get("refusal"))) for message in messages
    ]
    first = first_that_says(said)
    if first is None:
        error = next((e for e in map(_error, [answer.get("error"), *(c.get("error") for c in choices)]) if e), None)
        usage = answer.get("usage")
        return ProviderAnswer(
            format_,
            native_finish_reason=next(iter(words), None),
            error=error,
            tokens=tokens_of(usage),
            cost_usd=billed_usd(usage),
        )
    text, calls, refusal = said[first]
    beside = calls_beside(first, [(one[0], one[1]) for one in said])
    return ProviderAnswer(
        format_,
        native_finish_reason=words[first if beside == first else beside],
        in_parts=isinstance(messages[first].get("content"), list),
        text=text,
        calls=calls if beside == first else said[beside][1],
        refusal=refusal,
        error=_error(choices[first].get("error")) or _error(answer.get("error")),
        reasoning=_chat_reasoning(messages[first]) or _chat_reasoning(messages[beside]),
        tokens=tokens_of(answer.get("usage")),
        cost_usd=billed_usd(answer.get("usage")),
    )


def _finish_of_chat(choice: Mapping[str, Any]) -> str | None:
    """The finish reason of a choice; None where it has no message. OpenRouter calls every end a proper one, and has the
    provider's own word in another field."""
    if not isinstance(choice.get("message"), dict):
        return None
    word, native = word_in(choice.get("finish_reason")), word_in(choice.get("native_finish_reason"))
    is_ill = meaning_of(word) == "stop" and meaning_of(native) not in (None, "stop", "tool_calls")
    return native if is_ill else word


def first_that_says(said: Sequence[Sequence[Any]]) -> int | None:
    """The index of the first of several answers to one request that holds something; None where none does."""
    return next((index for index, parts in enumerate(said) if any(parts)), None)


def calls_beside(first: int, said: Sequence[tuple[str, Sequence[Any]]]) -> int:
    """The index of the calls that belong to the answer at `first`.

    Some servers, and LiteLLM, put the text and the calls of one answer into two, of which the second has no text. Two
    that both have text are two answers.
    """
    if not said[first][1]:
        for index, (text, calls) in enumerate(said):
            if calls and not text:
                return index
    return first


def _chat_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    calls = [(call.get("id"), object_in(call.get("function"))) for call in objects_in(message.get("tool_calls"))]
    if not calls and isinstance(of_old := message.get("function_call"), dict):
        calls = [(None, of_old)]
    return tuple(_call(id_, function.get("name"), function.get("arguments")) for id_, function in calls)


def _chat_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    """The reasoning under the names that the server has for it, so that it knows them when they come back. Of several
    fields, the one with signatures."""
    beside_calls = [call.get("extra_content") for call in objects_in(message.get("tool_calls"))]  # Gemini's signatures
    signed = {"extra_content": beside_calls} if any(beside_calls) else {}
    if isinstance(details := message.get("reasoning_details"), list) and details:
        return {"reasoning_details": details, **signed}
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str):  # even if empty: DeepSeek wants it back
            return {name: message[name], **signed}
    return signed


# -- OpenAI's Responses API --------------------------------------------------------------------------------------------


def _responses(format_: Format, answer: Mapping[str, Any]) -> ProviderAnswer:
    items = objects_in(answer.get("output"))
    messages = [item for item in items if item.get("type") == "message"]
    parts = [part for message in messages for part in objects_in(message.get("content"))]
    status, why = word_in(answer.get("status")), object_in(answer.get("incomplete_details")).get("reason")
    encrypted = any(item.get("type") == "reasoning" and item.get("encrypted_content") for item in items)
    calls = [item for item in items if item.get("type") == "function_call"]
    return ProviderAnswer(
        format_,
        native_finish_reason=word_in(why) or status if status == "incomplete" else status,
        in_parts=True,
        text=_text_of_responses(messages),
        calls=tuple(
            _call(item.get("call_id") or item.get("id"), item.get("name"), item.get("arguments")) for item in calls
        ),
        refusal="".join(text_in(part.get("refusal")) for part in parts if part.get("type") == "refusal"),
        error=_error(answer.get("error")),
        # All items, since an item of reasoning is refused without the one that came after it. Only if the reasoning
        # is in the item, encrypted: by its id alone it is not found, because nothing is stored.
        reasoning={"output": items} if calls and encrypted else {},
        tokens=tokens_of(answer.get("usage")),
    )


def _text_of_responses(messages: list[dict[str, Any]]) -> str:
    """The texts of the messages, one after another. Commentary, which the model writes on its way, is the answer only
    where there is nothing else: beside a call, or where the tokens ran out."""
    answers = [message for message in messages if message.get("phase") != "commentary"] or messages
    whole = ""
    for message in answers:
        parts = [part for part in objects_in(message.get("content")) if part.get("type") in ("output_text", "text")]
        text = "".join(own_text(part.get("text")) for part in parts)
        is_apart = not whole or not text or whole[-1].isspace() or text[0].isspace()
        whole += text if is_apart else f"\n\n{text}"
    return whole


# -- Anthropic's messages ----------------------------------------------------------------------------------------------


def _messages(format_: Format, answer: Mapping[str, Any]) -> ProviderAnswer:
    blocks = objects_in(answer["content"])
    thinking = [block for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]
    return ProviderAnswer(
        format_,
        native_finish_reason=word_in(answer.get("stop_reason")),
        text="".join(own_text(block.get("text")) for block in blocks if block.get("type") == "text"),
        calls=tuple(
            _call(block.get("id"), block.get("name"), block.get("input"))
            for block in blocks
            if block.get("type") == "tool_use"
        ),
        provider_calls=frozenset(
            text_in(block.get("id")) for block in blocks if text_in(block.get("type")).endswith("_tool_use")
        ),
        reasoning=_claude_reasoning(blocks, thinking),
        tokens=tokens_of(answer.get("usage")),
    )


def _claude_reasoning(blocks: Sequence[Mapping[str, Any]], thinking: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The thinking blocks of a Claude; and the whole output where it has thought again amid it: it takes thinking back
    only in its own place, and LiteLLM puts it first."""
    if not thinking:
        return {}
    kept = [block for block in blocks if block.get("type") != "text" or block.get("text")]  # empty texts are refused
    is_amid = kept[: len(thinking)] != list(thinking)
    return {"thinking_blocks": thinking, **({"output": kept} if is_amid else {})}


# -- Gemini, Bedrock's Converse, Cohere --------------------------------------------------------------------------------


def _gemini(format_: Format, answer: Mapping[str, Any]) -> ProviderAnswer:
    candidates = objects_in(answer.get("candidates"))
    if not candidates:
        blocked = object_in(answer.get("promptFeedback")).get("blockReason")
        return ProviderAnswer(
            format_, native_finish_reason="blocked" if blocked else None, tokens=tokens_of(answer.get("usageMetadata"))
        )
    parts = [objects_in(object_in(candidate.get("content")).get("parts")) for candidate in candidates]
    said = [[part for part in of_one if not part.get("thought")] for of_one in parts]
    first = first_that_says([[of_one] for of_one in said]) or 0
    calls = [object_in(part["functionCall"]) for part in said[first] if "functionCall" in part]
    return ProviderAnswer(
        format_,
        native_finish_reason=word_in(candidates[first].get("finishReason")),
        text="".join(own_text(part.get("text")) for part in said[first]),
        calls=tuple(_call(call.get("id"), call.get("name"), call.get("args")) for call in calls),
        tokens=tokens_of(answer.get("usageMetadata")),
    )


def _converse(format_: Format, answer: Mapping[str, Any]) -> ProviderAnswer:
    blocks = objects_in(object_in(object_in(answer.get("output")).get("message")).get("content"))
    calls = [object_in(block["toolUse"]) for block in blocks if "toolUse" in block]
    thinking = list(_bedrock_thinking(blocks))
    return ProviderAnswer(
        format_,
        native_finish_reason=word_in(answer.get("stopReason")),
        text="".join(own_text(block.get("text")) for block in blocks),
        calls=tuple(_call(call.get("toolUseId"), call.get("name"), call.get("input")) for call in calls),
        reasoning={"thinking_blocks": thinking} if thinking else {},
        tokens=tokens_of(answer.get("usage")),
    )


def _bedrock_thinking(blocks: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The thinking blocks in Anthropic's own form, which LiteLLM takes for both."""
    for block in blocks:
        reasoning = object_in(block.get("reasoningContent"))
        if text := object_in(reasoning.get("reasoningText")):
            yield {
                "type": "thinking",
                "thinking": text_in(text.get("text")),
                "signature": text_in(text.get("signature")),
            }
        elif redacted := reasoning.get("redactedContent"):
            yield {"type": "redacted_thinking", "data": redacted}


def _cohere(format_: Format, answer: Mapping[str, Any]) -> ProviderAnswer:
    message = object_in(answer.get("message"))
    counted = answer.get("usage") or answer.get("meta")
    usage = object_in(counted)
    return ProviderAnswer(
        format_,
        native_finish_reason=word_in(answer.get("finish_reason")),
        text=_texts(message.get("content")) or text_in(answer.get("text")),
        calls=_chat_calls(message),
        tokens=tokens_of((usage.get("tokens") or usage.get("billed_units")) if usage else counted),
    )


# By format: whether an answer has it, and how it is read; the first that fits is taken. Azure, Bedrock and Vertex
# answer as the provider does whose model they run.
_Fits = Callable[[Mapping[str, Any]], bool]
_Read = Callable[[Format, Mapping[str, Any]], ProviderAnswer]
_READERS: Mapping[Format, tuple[_Fits, _Read]] = {
    "chat": (lambda it: isinstance(it.get("choices"), list) and bool(it["choices"]), _chat),
    "responses": (lambda it: isinstance(it.get("output"), list), _responses),
    "messages": (lambda it: isinstance(it.get("content"), list), _messages),
    "gemini": (lambda it: "candidates" in it or "promptFeedback" in it, _gemini),
    "converse": (lambda it: "stopReason" in it and isinstance(it.get("output"), dict), _converse),
    "cohere": (lambda it: "finish_reason" in it and ("message" in it or "text" in it), _cohere),
}


# -- parts that the formats share --------------------------------------------------------------------------------------


def _call(id_: Any, name: Any, arguments: Any) -> ToolCall:
    """A tool call, with its arguments as JSON text whether the provider gives a text or an object."""
    if not isinstance(arguments, str):
        arguments = "{}" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=text_in(id_), function=FunctionCall(name=text_in(name), arguments=arguments))


def _error(error: Any) -> tuple[str, str] | None:
    """Code and message of an error; None where it is none: some servers have an empty one in every answer."""
    if isinstance(error, str):
        return ("", error[:MOST_OF_AN_ERROR]) if error else None
    if not isinstance(error, dict) or str(error.get("code")) in ("0", "200"):  # codes of success
        return None
    code, message = error.get("code") or error.get("type") or "", error.get("message") or ""
    if not (code or message):
        return None
    return str(code)[:MOST_OF_AN_ERROR], str(message)[:MOST_OF_AN_ERROR]


def _error_in_place_of_answer(answer: Mapping[str, Any]) -> tuple[str, str] | None:
    """An error that stands in place of an answer, in other fields: MiniMax's `base_resp`, or a code and a message
    alone, as Z.ai sends them."""
    answer = object_in(answer.get("base_resp")) or answer
    messages = [answer.get(key) for key in ("status_msg", "msg", "message", "detail")]
    code, message = answer.get("status_code") or answer.get("code"), next(filter(None, map(text_in, messages)), "")
    return (str(code or ""), message) if message else None


def _texts(content: Any) -> str:
    """The text of a message, which some servers give in parts; parts of other types are no text of the answer."""
    if not isinstance(content, list):
        return own_text(content)
    parts = [{"text": part} if isinstance(part, str) else part for part in content]
    return "".join(own_text(part.get("text")) for part in objects_in(parts) if part.get("type") in _TEXT_TYPES)
