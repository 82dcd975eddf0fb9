"""What a provider's own answer says, before LiteLLM: the JSON of its HTTP response becomes one `Body`.

LiteLLM maps the reasons for which a model stopped to a few of its own, most of those that it does not know to "stop",
and drops or refuses what does not fit its form. So that an answer is called whole only where it is, the reason is read
here, in the provider's own word; and the rest of the answer too, for where LiteLLM has lost some of it.

Pure code over data that anybody may have sent: any field may be missing or of another type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from konstruct_mcp.core.types import FinishReason, FunctionCall, ToolCall
from konstruct_mcp.providers.prices import Served, Tokens
from konstruct_mcp.routing.walk import FaultKind

_MOST_TOKENS = 10**8  # of one try: more is no count
_MOST_OF_AN_ERROR = 8_000  # characters: more than is looked at
MOST_USD = 10**6  # of one try: no price that anybody would pay
Form = str  # of an answer: a key of `_READERS`, or "error"


@dataclass(frozen=True, slots=True)
class Body:
    """A provider's own answer.

    Attributes:
        form: the format it is in, by its shape: `chat`, `responses`, `messages`, `gemini`, `converse`, `cohere`; or
            `error`, where there is no answer in it. Ollama's own is read in `ollama`.
        word: why the model stopped, in the provider's own word; None where it does not say.
        in_parts: whether that comes in several pieces, of which LiteLLM may lose some.
        text: what it says; without reasoning that stands by itself.
        calls: the calls that it asks for, with the ids that it gave them.
        done: the ids of those that the provider has made itself.
        refusal: what it says in place of an answer.
        error: the code and the message of an error that came in place of an answer, or has ended it.
        tokens: what it has counted; None where that is nothing, or cannot be used.
        served: in which way it has answered, as far as it says that.
        is_miscounted: whether it has counted, and something in that is no count: then none of it is believed.
        reasoning: what it wants to see again beside these calls, by the name of the message's field.
        cost_usd: what it says itself that it has billed; None where it does not say.
    """

    form: Form
    word: str | None = None
    in_parts: bool = False
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    done: frozenset[str] = frozenset()
    refusal: str = ""
    error: tuple[str, str] | None = None
    tokens: Tokens | None = None
    served: Served = field(default_factory=Served)
    is_miscounted: bool = False
    reasoning: Mapping[str, Any] = field(default_factory=dict)
    cost_usd: float | None = None

    @property
    def says(self) -> bool:
        """Whether it holds something, or says why it does not."""
        return bool(self.text or self.calls or self.refusal or end_of(self.word) is not None)


# Why models stop, in all formats; case does not count. Each provider's documentation and source says these, and what is
# not in here is not known to be a proper end.
_PROPER = "stop end_turn stop_sequence eos eos_token endoftext complete completed eosfound stopstringfound"
_CALLS = "tool_calls function_call tool_use tool_call toolcalls"
_CUT = (
    "length max_tokens max_output_tokens model_length model_context_window_exceeded context_length_exceeded "
    "max_context_length token_limit not_finished incomplete compaction pause_turn error_limit repetition "
    "maxpredictedtokensreached contextlengthreached"
)
_FILTERED = (
    "content_filter content_filtered refusal sensitive safety recitation blocklist prohibited_content spii "
    "image_safety image_prohibited_content image_recitation model_armor guardrail_intervened error_toxic blocked"
)
# The provider could not go on. It may at the next try.
_BROKEN = (
    "error failed cancelled canceled abort aborted user_cancel userstopped timeout time_limit network_error "
    "insufficient_system_resource modelunloaded queued in_progress upstream_error"
)
# What the model has written cannot be used, or the provider does not say why it ended there.
_UNUSABLE = (
    "malformed_function_call malformed_response malformed_model_output malformed_tool_use unexpected_tool_call "
    "too_many_tool_calls missing_thought_signature language other no_image image_other"
)
_ENDS: Mapping[str, FinishReason | FaultKind] = {
    **dict.fromkeys(_PROPER.split(), "stop"),
    **dict.fromkeys(_CALLS.split(), "tool_calls"),
    **dict.fromkeys(_CUT.split(), "length"),
    **dict.fromkeys(_FILTERED.split(), "content_filter"),
    **dict.fromkeys(_BROKEN.split(), FaultKind.SERVER_ERROR),
    **dict.fromkeys(_UNUSABLE.split(), FaultKind.BAD_ANSWER),
}


def end_of(word: str | None) -> FinishReason | FaultKind | None:
    """What a provider's word for the end of its answer means; None where it is missing or nobody knows it."""
    return None if word is None else _ENDS.get(word.lower().replace("-", "_"))


def body_of(content: bytes) -> Body | None:
    """The answer in the body of a successful HTTP response; None where it has no form that is known here."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    for form, (is_it, read) in _READERS.items():
        if is_it(answer):
            try:
                body = replace(read(form, answer), served=_served(answer))
            except (AttributeError, KeyError, TypeError, ValueError):  # it only looked like it
                return None
            return replace(body, tokens=None, is_miscounted=True) if body.tokens is _MISCOUNTED else body
    error = _error(answer.get("error")) or _error_of_another_form(answer)
    return None if error is None else Body("error", error=error)


def _chat(form: Form, answer: Mapping[str, Any]) -> Body:
    choices = _objects(answer["choices"])
    messages = [_object(choice.get("message")) for choice in choices]
    words = [_end_of_chat(choice) for choice in choices]
    said = [
        (_texts(message.get("content")), _chat_calls(message), _text(message.get("refusal"))) for message in messages
    ]
    first = first_that_says(said)
    if first is None:  # none does
        error = next((e for e in map(_error, [answer.get("error"), *(c.get("error") for c in choices)]) if e), None)
        usage = answer.get("usage")
        return Body(form, word=next(iter(words), None), error=error, tokens=_tokens(usage), cost_usd=_billed(usage))
    text, calls, refusal = said[first]
    beside = calls_beside(first, [(one[0], one[1]) for one in said])
    return Body(
        form,
        word=words[first if beside == first else beside],
        in_parts=isinstance(messages[first].get("content"), list),
        text=text,
        calls=calls if beside == first else said[beside][1],
        refusal=refusal,
        error=_error(choices[first].get("error")) or _error(answer.get("error")),
        reasoning=_chat_reasoning(messages[first]) or _chat_reasoning(messages[beside]),
        tokens=_tokens(answer.get("usage")),
        cost_usd=_billed(answer.get("usage")),
    )


def _end_of_chat(choice: Mapping[str, Any]) -> str | None:
    """The word that says why it ended; none where there is no message. OpenRouter calls every end a proper one, and has
    the truth beside it."""
    if not isinstance(choice.get("message"), dict):
        return None
    word, native = _word(choice.get("finish_reason")), _word(choice.get("native_finish_reason"))
    is_ill = end_of(word) == "stop" and end_of(native) not in (None, "stop", "tool_calls")
    return native if is_ill else word


def first_that_says(said: Sequence[Sequence[Any]]) -> int | None:
    """Of several answers to one request, the first that holds something."""
    return next((index for index, parts in enumerate(said) if any(parts)), None)


def calls_beside(first: int, said: Sequence[tuple[str, Sequence[Any]]]) -> int:
    """Where the calls are that belong to the answer at `first`: some servers, and LiteLLM, put what a model says and
    what it calls into two answers, of which the second says nothing. Two that both say something are two answers."""
    if not said[first][1]:
        for index, (text, calls) in enumerate(said):
            if calls and not text:
                return index
    return first


def _chat_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    calls = [(call.get("id"), _object(call.get("function"))) for call in _objects(message.get("tool_calls"))]
    if not calls and isinstance(of_old := message.get("function_call"), dict):
        calls = [(None, of_old)]
    return tuple(_call(id_, function.get("name"), function.get("arguments")) for id_, function in calls)


def _chat_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    """Under the names that the server has for it, which it knows when they come back. Of several, the one that has the
    signatures."""
    beside_calls = [call.get("extra_content") for call in _objects(message.get("tool_calls"))]  # Gemini's signatures
    signed = {"extra_content": beside_calls} if any(beside_calls) else {}
    if isinstance(details := message.get("reasoning_details"), list) and details:
        return {"reasoning_details": details, **signed}
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str):  # also an empty one: DeepSeek wants to see it again
            return {name: message[name], **signed}
    return signed


def _responses(form: Form, answer: Mapping[str, Any]) -> Body:
    items = _objects(answer.get("output"))
    messages = [item for item in items if item.get("type") == "message"]
    parts = [part for message in messages for part in _objects(message.get("content"))]
    status, why = _word(answer.get("status")), _object(answer.get("incomplete_details")).get("reason")
    encrypted = any(item.get("type") == "reasoning" and item.get("encrypted_content") for item in items)
    calls = [item for item in items if item.get("type") == "function_call"]
    return Body(
        form,
        word=_word(why) or status if status == "incomplete" else status,
        in_parts=True,
        text=_text_of_responses(messages),
        calls=tuple(
            _call(item.get("call_id") or item.get("id"), item.get("name"), item.get("arguments")) for item in calls
        ),
        refusal="".join(_text(part.get("refusal")) for part in parts if part.get("type") == "refusal"),
        error=_error(answer.get("error")),
        # All of it, since an item of reasoning is refused without the item that came after it; and only if it says
        # itself what it holds, since by its id alone it is not found where nothing is stored.
        reasoning={"output": items} if calls and encrypted else {},
        tokens=_tokens(answer.get("usage")),
    )


def _text_of_responses(messages: list[dict[str, Any]]) -> str:
    """What the messages say, one after another. What the model tells on its way is the answer only where nothing else
    is: beside a call, or before the end of its tokens."""
    answers = [message for message in messages if message.get("phase") != "commentary"] or messages
    whole = ""
    for message in answers:
        parts = [part for part in _objects(message.get("content")) if part.get("type") in ("output_text", "text")]
        text = "".join(_own_text(part.get("text")) for part in parts)
        is_apart = not whole or not text or whole[-1].isspace() or text[0].isspace()
        whole += text if is_apart else f"\n\n{text}"
    return whole


def _messages(form: Form, answer: Mapping[str, Any]) -> Body:
    blocks = _objects(answer["content"])
    thinking = [block for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]
    return Body(
        form,
        word=_word(answer.get("stop_reason")),
        text="".join(_own_text(block.get("text")) for block in blocks if block.get("type") == "text"),
        calls=tuple(
            _call(block.get("id"), block.get("name"), block.get("input"))
            for block in blocks
            if block.get("type") == "tool_use"
        ),
        done=frozenset(_text(block.get("id")) for block in blocks if _text(block.get("type")).endswith("_tool_use")),
        reasoning=_thought_of_claude(blocks, thinking),
        tokens=_tokens(answer.get("usage")),
    )


def _thought_of_claude(blocks: Sequence[Mapping[str, Any]], thinking: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Its thoughts; and all that it has put out, where it has thought again amid that: it takes them back in their own
    places only, and LiteLLM puts them first."""
    if not thinking:
        return {}
    said = [
        block for block in blocks if block.get("type") != "text" or block.get("text")
    ]  # it takes no empty text back
    is_amid = said[: len(thinking)] != list(thinking)
    return {"thinking_blocks": thinking, **({"output": said} if is_amid else {})}


def _gemini(form: Form, answer: Mapping[str, Any]) -> Body:
    candidates = _objects(answer.get("candidates"))
    if not candidates:
        blocked = _object(answer.get("promptFeedback")).get("blockReason")
        return Body(form, word="blocked" if blocked else None, tokens=_tokens(answer.get("usageMetadata")))
    parts = [_objects(_object(candidate.get("content")).get("parts")) for candidate in candidates]
    said = [[part for part in of_one if not part.get("thought")] for of_one in parts]
    first = first_that_says([[of_one] for of_one in said]) or 0
    calls = [_object(part["functionCall"]) for part in said[first] if "functionCall" in part]
    return Body(
        form,
        word=_word(candidates[first].get("finishReason")),
        text="".join(_own_text(part.get("text")) for part in said[first]),
        calls=tuple(_call(call.get("id"), call.get("name"), call.get("args")) for call in calls),
        tokens=_tokens(answer.get("usageMetadata")),
    )


def _converse(form: Form, answer: Mapping[str, Any]) -> Body:
    blocks = _objects(_object(_object(answer.get("output")).get("message")).get("content"))
    calls = [_object(block["toolUse"]) for block in blocks if "toolUse" in block]
    thinking = list(_thinking_of_bedrock(blocks))
    return Body(
        form,
        word=_word(answer.get("stopReason")),
        text="".join(_own_text(block.get("text")) for block in blocks),
        calls=tuple(_call(call.get("toolUseId"), call.get("name"), call.get("input")) for call in calls),
        reasoning={"thinking_blocks": thinking} if thinking else {},
        tokens=_tokens(answer.get("usage")),
    )


def _thinking_of_bedrock(blocks: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """In Anthropic's own form, in which LiteLLM takes it for both."""
    for block in blocks:
        reasoning = _object(block.get("reasoningContent"))
        if text := _object(reasoning.get("reasoningText")):
            yield {"type": "thinking", "thinking": _text(text.get("text")), "signature": _text(text.get("signature"))}
        elif redacted := reasoning.get("redactedContent"):
            yield {"type": "redacted_thinking", "data": redacted}


def _cohere(form: Form, answer: Mapping[str, Any]) -> Body:
    message = _object(answer.get("message"))
    counted = answer.get("usage") or answer.get("meta")
    usage = _object(counted)
    return Body(
        form,
        word=_word(answer.get("finish_reason")),
        text=_texts(message.get("content")) or _text(answer.get("text")),
        calls=_chat_calls(message),
        tokens=_tokens((usage.get("tokens") or usage.get("billed_units")) if usage else counted),
    )


# The first that fits. Azure, Bedrock, Vertex and those who imitate a provider answer as that one does.
_READERS: Mapping[Form, tuple[Callable[[Mapping[str, Any]], bool], Callable[[Form, Mapping[str, Any]], Body]]] = {
    "chat": (lambda it: isinstance(it.get("choices"), list) and bool(it["choices"]), _chat),
    "responses": (lambda it: isinstance(it.get("output"), list), _responses),
    "messages": (lambda it: isinstance(it.get("content"), list), _messages),
    "gemini": (lambda it: "candidates" in it or "promptFeedback" in it, _gemini),
    "converse": (lambda it: "stopReason" in it and isinstance(it.get("output"), dict), _converse),
    "cohere": (lambda it: "finish_reason" in it and ("message" in it or "text" in it), _cohere),
}

# The names of the counts, in each format.
_SENT = ("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens")
_ANSWERED = ("completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens")
_CACHED = ("cache_read_input_tokens", "cacheReadInputTokens")
_WRITTEN = ("cache_creation_input_tokens", "cacheWriteInputTokens")


# Stands for counts of which one is none.
_MISCOUNTED = Tokens(0, 0, 0, 0, 0)


def _tokens(usage: Any) -> Tokens | None:
    """What it counts, by whichever name; None where that is nothing."""
    try:
        return _counted(_counts(usage))
    except _NoCountError:
        return _MISCOUNTED


def _counted(usage: Mapping[str, Any]) -> Tokens | None:
    before = _counts(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    after = _counts(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    sent, answered = _count(usage, *_SENT), _count(usage, *_ANSWERED)
    cached, written = _count(usage, *_CACHED), _count(usage, *_WRITTEN)
    if "prompt_tokens" not in usage:
        sent += cached + written  # Anthropic and Bedrock count these beside the others
    cached = max(cached, _count(before, "cached_tokens"), _count(usage, "cachedContentTokenCount"))
    thoughts = _count(usage, "thoughtsTokenCount")  # and Gemini these
    answered, reasoned = answered + thoughts, max(thoughts, _count(after, "reasoning_tokens"))
    lasting = _count(_counts(usage.get("cache_creation")), "ephemeral_1h_input_tokens")
    if not sent and not answered:
        return None
    cached = min(sent, cached)
    written = min(sent - cached, written)
    return Tokens(sent, cached, written, answered, min(answered, reasoned), min(written, lasting))


def _served(answer: Mapping[str, Any]) -> Served:
    """Each provider says it in another place."""
    usage, google = _object(answer.get("usage")), _object(answer.get("usageMetadata"))
    amazon = _object(answer.get("serviceTier"))
    tier = _word(answer.get("service_tier")) or _word(usage.get("service_tier")) or _word(amazon.get("type"))
    return Served(
        tier=tier or tier_of_google(google.get("trafficType")),
        speed=_text(usage.get("speed")),
        region=_text(usage.get("inference_geo")),
    )


def tier_of_google(traffic: Any) -> str:
    """Of its kinds of traffic: `ON_DEMAND`, `ON_DEMAND_PRIORITY`, `FLEX`."""
    return _text(traffic).lower().replace("on_demand_", "").replace("on_demand", "")


def _billed(usage: Any) -> float | None:
    """US dollars, as OpenRouter says them. Who has a key of one's own there pays its fee, and the provider beside."""
    usage = _object(usage)
    parts = [usage.get("cost")]
    if usage.get("is_byok"):
        parts.append(_object(usage.get("cost_details")).get("upstream_inference_cost"))
    numbers = [
        part for part in parts if isinstance(part, int | float) and not isinstance(part, bool) and 0 <= part < MOST_USD
    ]
    return float(sum(numbers)) if len(numbers) == len(parts) else None


class _NoCountError(ValueError):
    pass


def miscounted(model: str) -> str:
    """The note on an answer whose provider's counts cannot be used."""
    return f"usage unknown: {model} has counted its tokens in no way that can be used"


def _counts(value: Any) -> Mapping[str, Any]:
    """An object of counts; some servers have another kind of nothing for an empty one."""
    if value and not isinstance(value, dict):
        raise _NoCountError
    return value or {}


def _count(counts: Mapping[str, Any], *names: str) -> int:
    """By the first of these names that is there; each of them has to be a count."""
    found = [count_of(value) for name in names if (value := counts.get(name)) is not None]
    if None in found:
        raise _NoCountError
    return next(filter(None, found), 0)


def count_of(value: Any) -> int | None:
    """The tokens that a provider says; None where it is no number of them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS
    return value if is_count else None


def _call(id_: Any, name: Any, arguments: Any) -> ToolCall:
    """A call, its arguments as JSON text, whichever of the two the provider gives."""
    if not isinstance(arguments, str):
        arguments = "{}" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=_text(id_), function=FunctionCall(name=_text(name), arguments=arguments))


def _error(error: Any) -> tuple[str, str] | None:
    """The code and the message of an error; None where it is none. Some servers have an empty one in every answer."""
    if isinstance(error, str):
        return ("", error[:_MOST_OF_AN_ERROR]) if error else None
    if not isinstance(error, dict) or str(error.get("code")) in ("0", "200"):  # which is none
        return None
    code, message = error.get("code") or error.get("type") or "", error.get("message") or ""
    if not (code or message):
        return None
    return str(code)[:_MOST_OF_AN_ERROR], str(message)[:_MOST_OF_AN_ERROR]


def _error_of_another_form(answer: Mapping[str, Any]) -> tuple[str, str] | None:
    """What stands in place of an answer: MiniMax's `base_resp`, or a code and a message alone, as Z.ai has them."""
    answer = _object(answer.get("base_resp")) or answer
    messages = [answer.get(key) for key in ("status_msg", "msg", "message", "detail")]
    code, message = answer.get("status_code") or answer.get("code"), next(filter(None, map(_text, messages)), "")
    return (str(code or ""), message) if message else None


def _texts(content: Any) -> str:
    """The text of a message, which some give in parts; what a part of another type holds is no text of it."""
    if not isinstance(content, list):
        return _own_text(content)
    parts = [{"text": part} if isinstance(part, str) else part for part in content]
    return "".join(_own_text(part.get("text")) for part in _objects(parts) if part.get("type") in _TEXTS)


_TEXTS = (None, "text", "output_text")  # types of parts


def _own_text(value: Any) -> str:
    """What a model says.

    Raises:
        TypeError: it is no text.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError("a text of another type")
    return value or ""


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


# -- how much it is ----------------------------------------------------------------------------------------------------

# Far above what models do, of whom none makes more than 128 calls at once, and far below what takes LiteLLM long: half
# a millisecond for a call.
_MOST_PIECES = 256  # of an answer: choices, calls, and what is output beside text
_MOST_OBJECTS = 3_000  # blocks of text, sources
_MOST_VALUES = 20_000  # the arguments of a call included
_DEEPEST = 100
# Lists of pieces, in all formats; what is a piece by itself; what holds a call's arguments, which are handed on; and
# what is said of each token, for which LiteLLM takes a second and nobody reads it.
_OF_PIECES = ("choices", "candidates", "output", "tool_calls")
_ONE_PIECE = ("functionCall", "toolUse")
_ARGUMENTS = ("input", "args", "arguments")
_OF_TOKENS = ("logprobs", "prompt_logprobs", "logprobsResult", "token_ids", "prompt_token_ids")


def lightened(content: bytes) -> bytes | None:
    """A long body, without what is said of its tokens, and with no more of an error in it than is looked at. None where
    it has more to it than any answer, or is nested deeper; one that is no JSON is itself."""
    try:
        answer = json.loads(content)
    except RecursionError:
        return None
    except ValueError:
        return content
    pieces = objects = values = 0
    is_changed = _without_echo(answer)
    # With its depth, and whether it is of a call's arguments.
    waiting: list[tuple[Any, int, bool]] = [(answer, 1, False)] if isinstance(answer, dict | list) else []
    while waiting:
        value, depth, is_argument = waiting.pop()
        if depth > _DEEPEST:
            return None
        if isinstance(value, dict):
            if not is_argument:
                objects += 1
                pieces += any(name in value for name in _ONE_PIECE) or _text(value.get("type")).endswith("tool_use")
                for name in _OF_TOKENS:
                    is_changed |= value.pop(name, None) is not None
                pieces += sum(len(_objects(value.get(name))) for name in _OF_PIECES)
            inner = [(item, depth + 1, is_argument or name in _ARGUMENTS) for name, item in value.items()]
        else:
            inner = [(item, depth + 1, is_argument) for item in value]
        waiting += [one for one in inner if isinstance(one[0], dict | list)]
        values += len(value)
        if pieces > _MOST_PIECES or objects > _MOST_OBJECTS or values > _MOST_VALUES:
            return None
    for one in answer if isinstance(answer, list) else [answer]:
        if isinstance(one, dict) and isinstance(one.get("error"), str | dict | list):
            one["error"] = _shortened(one["error"])
            is_changed = True
    return json.dumps(answer).encode() if is_changed else content


def _without_echo(answer: Any) -> bool:
    """Take out what the Responses API repeats of the request: its tools, which may be many. Whether there was any."""
    whole = answer.get("response", answer) if isinstance(answer, dict) else None
    if not isinstance(whole, dict) or not isinstance(whole.get("output"), list) or not whole.get("tools"):
        return False
    whole["tools"] = []
    return True


def _shortened(error: Any) -> Any:
    if isinstance(error, str):
        return error[:_MOST_OF_AN_ERROR]
    if isinstance(error, dict):
        return {key: _shortened(value) for key, value in error.items()}
    return [_shortened(value) for value in error] if isinstance(error, list) else error
