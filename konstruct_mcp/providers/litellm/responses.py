"""What a provider's response means: LiteLLM's object becomes one `Tried`.

Plain code over what LiteLLM returns, which holds whatever a provider has sent: any field may be missing or of another
type, and no text of it is trusted.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.types import FinishReason, FunctionCall, ToolCall, Usage
from konstruct_mcp.providers.litellm.bodies import (
    MOST_USD,
    Body,
    calls_beside,
    count_of,
    end_of,
    first_that_says,
    miscounted,
    tier_of_google,
)
from konstruct_mcp.providers.litellm.reasoning import SIGNATURE, answer_in
from konstruct_mcp.providers.prices import Served, Tokens, own_cost
from konstruct_mcp.routing.walk import Answer, Facts, Fault, FaultKind


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider's response holds for us; `reasoning` is what it wants to see again beside the calls."""

    content: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    reasoning: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tried:
    """How one try went.

    Attributes:
        outcome: for routing.
        reply: the answer; None where the outcome is a fault.
        usage: the tokens that the provider counted; None where it counted none. An unusable answer can have some.
        cost_usd: what they cost; None means unknown.
        notes: what of the request was left out or done in another way, one line each.
    """

    outcome: Answer | Fault
    reply: Reply | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    notes: tuple[str, ...] = ()


def read(
    response: Any,
    body: Body | None,
    deployment: Deployment,
    facts: Facts,
    latency_s: float,
    fault: Fault | None = None,
    *,
    taken: Collection[str] = (),
) -> Tried:
    """What an answer says, or the fault that it is.

    Args:
        response: what LiteLLM makes of it; None where it made nothing of it.
        body: what the provider sent itself; None where that cannot be read.
        fault: what it is, where it is known to be one.
        taken: the ids of the calls before it in the conversation.
    """
    is_miscounted = body is not None and body.is_miscounted
    tokens = None if is_miscounted else _counted(getattr(response, "usage", None), deployment)
    if tokens is None and body is not None:
        tokens = body.tokens
    usage = None if tokens is None else Usage(tokens.sent, tokens.answered, tokens.cached)
    cost = None if tokens is None else _cost(_served(response, body), body, tokens, deployment, facts)
    if fault is not None:
        return Tried(fault, None, usage, cost)
    try:
        reply, notes = _reply(response, body, deployment, taken)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        kind = error.kind if isinstance(error, _UnusableError) else FaultKind.BAD_ANSWER
        why = str(error) if isinstance(error, _UnusableError) else "malformed"
        return Tried(Fault(kind, why, ran=True), None, usage, cost)
    if reply.finish_reason == "stop" and not reply.content and not reply.tool_calls:
        if tokens is not None and not tokens.answered:  # it has not even begun
            return Tried(Fault(FaultKind.BAD_ANSWER, "nothing in it"), None, usage, cost)
        notes = (*notes, f"{deployment.model} ended its answer without a word")
    if is_miscounted:
        notes = (*notes, miscounted(deployment.model))
    counted = 0 if tokens is None else tokens.sent + tokens.answered
    return Tried(Answer(latency_s, counted), reply, usage, cost, notes)


def _reply(
    response: Any, body: Body | None, deployment: Deployment, taken: Collection[str]
) -> tuple[Reply, tuple[str, ...]]:
    said = None if response is None else _said(response)
    if said is not None and body is not None and body.form == "converse":  # whose names LiteLLM mixes up
        names = {call.id: call.function.name for call in body.calls}
        said = replace(said, calls=tuple(_named(call, names.get(call.id)) for call in said.calls))
    if said is not None and body is not None and body.done:  # which LiteLLM takes for calls of the caller's tools
        said = replace(said, calls=tuple(call for call in said.calls if call.id not in body.done))
    if body is not None and (said is None or not (said.content or said.calls) or body.in_parts):
        # LiteLLM drops what comes before some ends; and of several texts it hands on the first, or the last, and each
        # call of the Responses API in an answer of its own.
        said = _Said(body.text, body.calls, body.refusal, body.word, "")
    if said is None:
        raise _UnusableError("no choices")
    if any(not call.function.name for call in said.calls):
        raise _UnusableError("a tool call without a name")
    content = said.content.lstrip() if said.thought else said.content
    content, guessed = answer_in(content)
    finish_reason, notes = _end(body.word if body is not None else said.word, content, said.calls, deployment)
    if finish_reason != "length":  # a cut one may have been about to say more
        said = replace(said, calls=tuple(map(_with_arguments, said.calls)))
    if said.refusal and not content:
        content, finish_reason = said.refusal, "content_filter"
    if body is not None:
        reasoning = body.reasoning
    else:  # read by ourselves already, so that what stands beside the calls is the model's own
        is_ollama = deployment.model.startswith("ollama/")
        reasoning = {"reasoning_content": said.thought} if is_ollama and said.thought and said.calls else {}
    return Reply(content, _told_apart(said.calls, taken), finish_reason, reasoning), (*guessed, *notes)


@dataclass(frozen=True, slots=True)
class _Said:
    """What LiteLLM makes of an answer; `thought` is the reasoning that it has taken out of the content."""

    content: str
    calls: tuple[ToolCall, ...]
    refusal: str
    word: str | None
    thought: str


def _said(response: Any) -> _Said | None:
    """None where there is no choice in it."""
    choices = list(response.choices or ())
    if not choices:
        return None
    texts = [_content(choice.message) for choice in choices]
    calls = [_calls(choice.message) for choice in choices]
    refusals = [str(_more(choice.message).get("refusal") or "") for choice in choices]
    first = first_that_says(list(zip(texts, calls, refusals, strict=True))) or 0
    beside = calls_beside(first, list(zip(texts, calls, strict=True)))
    return _Said(
        content=texts[first],
        calls=calls[beside],
        refusal=refusals[first],
        word=_more(choices[beside]).get("native_finish_reason") or choices[beside].finish_reason,
        thought=str(getattr(choices[first].message, "reasoning_content", None) or ""),
    )


def _more(said: Any) -> Mapping[str, Any]:
    return getattr(said, "provider_specific_fields", None) or {}


def _content(message: Any) -> str:
    content = message.content if message.content is not None else ""
    if isinstance(content, list):  # in parts, of which some are no text of the answer
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(part["text"] for part in parts)
    if not isinstance(content, str):
        raise _UnusableError("content is not text")
    return content


def _calls(message: Any) -> tuple[ToolCall, ...]:
    made = [(call.id, call.function) for call in message.tool_calls or ()]
    if not made and (of_old := getattr(message, "function_call", None)):  # as OpenAI's format had it before
        made = [(None, of_old)]
    return tuple(
        ToolCall(
            id=str(id_ or ""),
            function=FunctionCall(name=str(function.name or ""), arguments=str(function.arguments or "")),
        )
        for id_, function in made
    )


def _end(
    word: str | None, content: str, calls: tuple[ToolCall, ...], deployment: Deployment
) -> tuple[FinishReason, tuple[str, ...]]:
    """Why the model stopped, and what is to be said of that. `stop` is what is known to be whole, and nothing else."""
    end = end_of(word)
    if isinstance(end, FaultKind):
        raise _UnusableError(f"it ended in {str(word).lower()}", end)
    if end == "tool_calls" and not calls:
        if not content:
            raise _UnusableError("tool calls announced, and none made")
        return "stop", ()  # LiteLLM has taken a call for the answer, where that was the way to have its schema kept
    if end is not None:
        return ("tool_calls" if calls and end == "stop" else end), ()
    if not content and not calls:
        raise _UnusableError("nothing in it, and no known reason for its end")
    if calls and all(_value_of(call.function.arguments) is not _NO_JSON for call in calls):
        return "tool_calls", ()
    # A missing reason is, in every format, that of an answer which has not ended.
    says = "does not say why its answer ended" if word is None else "ended its answer for a reason that is not known"
    return "length", (f"{deployment.model} {says}: it may not be whole",)


def _with_arguments(call: ToolCall) -> ToolCall:
    """The call, where it has no arguments with none in JSON, and where they are an object in a text with that."""
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


def _told_apart(calls: Iterable[ToolCall], taken: Collection[str]) -> tuple[ToolCall, ...]:
    """The calls, each with an id that no other in the conversation has: an assistant sends results by them, and a
    provider refuses a history in which one is missing or there twice."""
    found: dict[str, ToolCall] = {}
    for call in calls:
        is_new = call.id and call.id not in found and call.id not in taken
        # 37 characters: OpenAI takes no more than 40. Gemini wants the signature again that LiteLLM puts into an id.
        own = call.id if is_new else f"call_{uuid.uuid4().hex}{''.join(call.id.partition(SIGNATURE)[1:])}"
        found[own] = call if is_new else call.model_copy(update={"id": own})
    return tuple(found.values())


class _UnusableError(ValueError):
    """A response that holds no answer; its text says why, and none of the provider's but a known word."""

    def __init__(self, why: str, kind: FaultKind = FaultKind.BAD_ANSWER) -> None:
        super().__init__(why)
        self.kind = kind


# -- what a provider counted -------------------------------------------------------------------------------------------


def _counted(usage: Any, deployment: Deployment) -> Tokens | None:
    """What the provider counted; None where it says nothing, or nothing that is a count."""
    if any(count_of(getattr(usage, name, None) or 0) is None for name in ("prompt_tokens", "completion_tokens")):
        return None
    sent, answered = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    cached = min(sent, _count(getattr(usage, "prompt_tokens_details", None), "cached_tokens"))
    reasoned = _count(getattr(usage, "completion_tokens_details", None), "reasoning_tokens")
    if deployment.model.startswith("xai/"):  # which counts them beside the others
        answered += reasoned
    written = min(sent - cached, _count(usage, "cache_creation_input_tokens"))
    details = getattr(getattr(usage, "prompt_tokens_details", None), "cache_creation_token_details", None)
    tokens = Tokens(
        sent=sent,
        cached=cached,
        written=written,
        lasting=min(written, _count(details, "ephemeral_1h_input_tokens")),
        answered=answered,
        reasoned=min(answered, reasoned),
    )
    return tokens if sent or answered else None


def _count(usage: Any, name: str) -> int:
    return count_of(getattr(usage, name, 0)) or 0


def _cost(served: Served, body: Body | None, tokens: Tokens, deployment: Deployment, facts: Facts) -> float | None:
    """US dollars; None where it is unknown. Not as LiteLLM reckons it, by the table that was in it when it came out."""
    if facts.free:
        return 0.0
    cost = None if facts.missing_prices else own_cost(tokens, deployment, served)
    is_said = None not in (deployment.input_cost, deployment.output_cost)
    if deployment.model.startswith("openrouter/") and not is_said and body is not None and body.cost_usd is not None:
        cost = body.cost_usd  # it asks whom it likes, at whose prices: its bill is better than a table
    if cost is not None and math.isfinite(cost) and 0 <= cost < MOST_USD:
        return float(f"{cost:.10g}")  # without what binary fractions add
    return None


def _served(response: Any, body: Body | None) -> Served:
    """In which way it was answered: as LiteLLM has it, else as the provider said it."""
    own = Served() if body is None else body.served
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
