"""What a provider's response means: LiteLLM's object becomes one `Tried`.

What LiteLLM returns holds whatever a provider has sent: any field may be missing or of another type, and no text in it
is trusted. Where LiteLLM has lost part of an answer, the provider's own answer takes its place.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.messages import FunctionCall, ToolCall
from konstruct_mcp.core.results import FinishReason, Usage
from konstruct_mcp.providers.costs import Served, Tokens, own_cost
from konstruct_mcp.providers.litellm.answers.finish_reasons import meaning_of
from konstruct_mcp.providers.litellm.answers.provider_answer import ProviderAnswer, calls_beside, first_that_says
from konstruct_mcp.providers.litellm.answers.usage import MOST_USD, tier_of_google, tokens_of_litellm
from konstruct_mcp.providers.litellm.notes import miscounted, used_up
from konstruct_mcp.providers.litellm.reasoning.memory import SIGNATURE
from konstruct_mcp.providers.litellm.reasoning.text import without_reasoning
from konstruct_mcp.providers.tried import Reply, Tried
from konstruct_mcp.routing.facts import Facts
from konstruct_mcp.routing.outcomes import Answer, Fault, FaultKind


def read(
    response: Any,
    answer: ProviderAnswer | None,
    deployment: Deployment,
    facts: Facts,
    latency_s: float,
    fault: Fault | None = None,
    *,
    taken: Collection[str] = (),
) -> Tried:
    """What a response says, or the fault that it is.

    Args:
        response: LiteLLM's object; None where LiteLLM could not make one.
        answer: the provider's own; None where that cannot be read.
        latency_s: how long the try took.
        fault: the fault that the response is, where it is known to be one.
        taken: the ids of the tool calls before it in the conversation.
    """
    is_miscounted = answer is not None and answer.is_miscounted
    provider = deployment.model.partition("/")[0]
    tokens = None if is_miscounted else tokens_of_litellm(getattr(response, "usage", None), provider)
    if tokens is None and answer is not None:
        tokens = answer.tokens
    reasoned = 0 if tokens is None else _reasoned(tokens, answer, provider)
    usage = None if tokens is None else Usage(tokens.sent, tokens.answered, tokens.cached, reasoned)
    cost = None if tokens is None else _cost(_served(response, answer), answer, tokens, deployment, facts)
    if fault is not None:
        return Tried(fault, None, usage, cost)
    try:
        reply, notes = _reply(response, answer, deployment, taken)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        kind = error.kind if isinstance(error, _UnusableError) else FaultKind.BAD_ANSWER
        why = str(error) if isinstance(error, _UnusableError) else "malformed"
        return Tried(Fault(kind, why, ran=True), None, usage, cost)
    said_nothing = not reply.content and not reply.tool_calls
    if reply.finish_reason == "stop" and said_nothing:
        if tokens is not None and not tokens.answered:  # the model has not even begun
            return Tried(Fault(FaultKind.BAD_ANSWER, "nothing in it"), None, usage, cost)
        notes = (*notes, f"{deployment.model} ended its answer without a word")
    if reply.finish_reason == "length" and said_nothing and (reasoned or _has_thought(response)):
        notes = (*notes, used_up(deployment.model))
    if is_miscounted:
        notes = (*notes, miscounted(deployment.model))
    counted = 0 if tokens is None else tokens.sent + tokens.answered
    return Tried(Answer(latency_s, counted), reply, usage, cost, notes)


def _reply(
    response: Any, answer: ProviderAnswer | None, deployment: Deployment, taken: Collection[str]
) -> tuple[Reply, tuple[str, ...]]:
    said = None if response is None else _litellm_answer(response)
    if answer is not None:
        said = _corrected(said, answer)
    if said is None:
        raise _UnusableError("no choices")
    if any(not call.function.name for call in said.calls):
        raise _UnusableError("a tool call without a name")
    content, guessed = without_reasoning(said.content.lstrip() if said.thought else said.content)
    finish_reason, notes = _finish_reason(said.native, content, said.calls, deployment)
    calls = said.calls
    if finish_reason != "length":  # the arguments of an answer that was cut may be incomplete
        calls = tuple(map(_with_arguments, calls))
    if said.refusal and not content:
        content, finish_reason = said.refusal, "content_filter"
    if answer is not None:
        reasoning = answer.reasoning
    else:  # only Ollama's may come from LiteLLM's object, since we have made that ourselves
        is_ollama = deployment.model.startswith("ollama/")
        reasoning = {"reasoning_content": said.thought} if is_ollama and said.thought and calls else {}
    return Reply(content, _with_unique_ids(calls, taken), finish_reason, reasoning), (*guessed, *notes)


def _corrected(said: _LiteLLMAnswer | None, answer: ProviderAnswer) -> _LiteLLMAnswer:
    """The answer, with the provider's own in place of what LiteLLM has lost or mixed up."""
    own = _LiteLLMAnswer(answer.text, answer.calls, answer.refusal, answer.native_finish_reason, "")
    if said is None:
        return own
    calls = said.calls
    if answer.format == "converse":  # LiteLLM mixes up the names
        names = {call.id: call.function.name for call in answer.calls}
        calls = tuple(_named(call, names.get(call.id)) for call in calls)
    # LiteLLM takes calls that the provider has made itself for calls of the caller's tools.
    calls = tuple(call for call in calls if call.id not in answer.provider_calls)
    # For some finish reasons LiteLLM drops the answer. Of several texts it hands on the first or the last, and each
    # call of the Responses API as an answer of its own.
    if answer.in_parts or not (said.content or calls):
        return own
    return replace(said, calls=calls, native=answer.native_finish_reason)


# -- LiteLLM's form of an answer ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _LiteLLMAnswer:
    """An answer as LiteLLM has it.

    Attributes:
        native: the finish reason, in the provider's word where LiteLLM keeps it.
        thought: the reasoning that LiteLLM has taken out of the content.
    """

    content: str
    calls: tuple[ToolCall, ...]
    refusal: str
    native: str | None
    thought: str


def _litellm_answer(response: Any) -> _LiteLLMAnswer | None:
    """The answer in LiteLLM's object; None where there is no choice in it."""
    choices = list(response.choices or ())
    if not choices:
        return None
    texts = [_content(choice.message) for choice in choices]
    calls = [_calls(choice.message) for choice in choices]
    refusals = [str(_extra_fields(choice.message).get("refusal") or "") for choice in choices]
    first = first_that_says(list(zip(texts, calls, refusals, strict=True))) or 0
    beside = calls_beside(first, list(zip(texts, calls, strict=True)))
    return _LiteLLMAnswer(
        content=texts[first],
        calls=calls[beside],
        refusal=refusals[first],
        native=_extra_fields(choices[beside]).get("native_finish_reason") or choices[beside].finish_reason,
        thought=str(getattr(choices[first].message, "reasoning_content", None) or ""),
    )


def _extra_fields(said: Any) -> Mapping[str, Any]:
    return getattr(said, "provider_specific_fields", None) or {}


def _content(message: Any) -> str:
    content = message.content if message.content is not None else ""
    if isinstance(content, list):  # in parts, some of which are no text of the answer
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(part["text"] for part in parts)
    if not isinstance(content, str):
        raise _UnusableError("content is not text")
    return content


def _calls(message: Any) -> tuple[ToolCall, ...]:
    made = [(call.id, call.function) for call in message.tool_calls or ()]
    if not made and (of_old := getattr(message, "function_call", None)):  # OpenAI's older form of a call
        made = [(None, of_old)]
    return tuple(
        ToolCall(
            id=str(id_ or ""),
            function=FunctionCall(name=str(function.name or ""), arguments=str(function.arguments or "")),
        )
        for id_, function in made
    )


def _has_thought(response: Any) -> bool:
    """Whether LiteLLM has found reasoning in a response."""
    return any(
        getattr(choice.message, "reasoning_content", None) for choice in getattr(response, "choices", None) or ()
    )


# -- why it ended ------------------------------------------------------------------------------------------------------


class _UnusableError(ValueError):
    """There is no answer in a response; the text says why, in our words and at most a known word of the provider's."""

    def __init__(self, why: str, kind: FaultKind = FaultKind.BAD_ANSWER) -> None:
        super().__init__(why)
        self.kind = kind


def _finish_reason(
    native: str | None, content: str, calls: tuple[ToolCall, ...], deployment: Deployment
) -> tuple[FinishReason, tuple[str, ...]]:
    """The finish reason, and notes on it. It is `stop` only where the answer is known to be whole."""
    end = meaning_of(native)
    if isinstance(end, FaultKind):
        raise _UnusableError(f"it ended in {str(native).lower()}", end)
    if end == "tool_calls" and not calls:
        if not content:
            raise _UnusableError("tool calls announced, and none made")
        return "stop", ()  # LiteLLM has turned the call of `JSON_TOOL` into the answer's text
    if end is not None:
        return ("tool_calls" if calls and end == "stop" else end), ()
    if not content and not calls:
        raise _UnusableError("nothing in it, and no known reason for its end")
    if calls and all(_value_of(call.function.arguments) is not _NO_JSON for call in calls):
        return "tool_calls", ()
    # In every format an answer that has not ended has no finish reason.
    says = "does not say why its answer ended" if native is None else "ended its answer for a reason that is not known"
    return "length", (f"{deployment.model} {says}: it may not be whole",)


# -- tool calls --------------------------------------------------------------------------------------------------------


def _with_arguments(call: ToolCall) -> ToolCall:
    """The call with its arguments as a JSON object: `{}` where it has none, and unpacked where they are an object in a
    text."""
    given = call.function.arguments
    value = _value_of(given) if given.strip() else None
    inner = value if isinstance(value, str) and isinstance(_value_of(value), dict) else None
    if value is not None and inner is None:
        return call
    return call.model_copy(update={"function": call.function.model_copy(update={"arguments": inner or "{}"})})


_NO_JSON = object()


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON


def _named(call: ToolCall, name: str | None) -> ToolCall:
    return call.model_copy(update={"function": call.function.model_copy(update={"name": name})}) if name else call


def _with_unique_ids(calls: Iterable[ToolCall], taken: Collection[str]) -> tuple[ToolCall, ...]:
    """The calls, each with an id that no other call in the conversation has: an assistant sends results by them, and a
    provider refuses a history in which one is missing or there twice."""
    found: dict[str, ToolCall] = {}
    for call in calls:
        is_new = call.id and call.id not in found and call.id not in taken
        # A new id has 37 characters, since OpenAI takes no more than 40. It keeps the signature that LiteLLM has put
        # into the old one, which Gemini wants back.
        own = call.id if is_new else f"call_{uuid.uuid4().hex}{''.join(call.id.partition(SIGNATURE)[1:])}"
        found[own] = call if is_new else call.model_copy(update={"id": own})
    return tuple(found.values())


# -- tokens and cost ---------------------------------------------------------------------------------------------------


def _reasoned(tokens: Tokens, answer: ProviderAnswer | None, provider: str) -> int:
    """The tokens of reasoning that the provider itself has counted. LiteLLM estimates those of a Claude by the summary
    of its thinking."""
    # Of xAI's, whose reasoning is not among the tokens answered, only LiteLLM's counts are put right.
    counted = None if answer is None or provider == "xai" else answer.tokens
    return (counted or tokens).reasoned


def _cost(
    served: Served, answer: ProviderAnswer | None, tokens: Tokens, deployment: Deployment, facts: Facts
) -> float | None:
    """The cost in US dollars; None where it is unknown. Not LiteLLM's, which goes by the price table of the day when it
    was published."""
    if facts.free:
        return 0.0
    cost = None if facts.missing_prices else own_cost(tokens, deployment, served)
    is_said = None not in (deployment.input_cost, deployment.output_cost)
    billed = None if answer is None else answer.cost_usd
    if deployment.model.startswith("openrouter/") and not is_said and billed is not None:
        cost = billed  # OpenRouter chooses a provider for each call: its bill is better than a table
    if cost is not None and math.isfinite(cost) and 0 <= cost < MOST_USD:
        return float(f"{cost:.10g}")  # drops the error of binary fractions
    return None


def _served(response: Any, answer: ProviderAnswer | None) -> Served:
    """How the request was served: as LiteLLM says, else as the provider itself says."""
    own = Served() if answer is None else answer.served
    usage = getattr(response, "usage", None)
    hidden = getattr(response, "_hidden_params", None)
    fields = hidden.get("provider_specific_fields") if isinstance(hidden, dict) else None
    traffic = fields.get("traffic_type") if isinstance(fields, dict) else None  # Google's: ON_DEMAND_PRIORITY, FLEX

    def said(*values: Any) -> str:
        return next((value for value in values if isinstance(value, str)), "")

    tier = said(getattr(response, "service_tier", None), getattr(usage, "service_tier", None))
    return Served(
        tier=tier or tier_of_google(traffic) or own.tier,
        speed=said(getattr(usage, "speed", None)) or own.speed,
        region=said(getattr(usage, "inference_geo", None)) or own.region,
    )
