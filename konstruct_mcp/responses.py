"""What a provider's response means: LiteLLM's object becomes one `Tried`.

Plain code over what LiteLLM returns, which holds whatever a provider has sent: any field may be missing or of another
type, and no text of it is trusted.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .config import Deployment
from .prices import Served, Tokens, own_cost
from .routing import Answer, Facts, Fault, FaultKind
from .types import FinishReason, FunctionCall, ToolCall, Usage

_MOST_TOKENS, _MOST_USD = 10**9, 10**6  # of one try: more is no count, and no price that anybody would pay
_LEADING_THOUGHT = re.compile(r"\s*<think>.*?(?:</think>\s*|\Z)", re.DOTALL)
_FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider's response holds for us."""

    content: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason


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


def read(response: Any, deployment: Deployment, facts: Facts, latency_s: float) -> Tried:
    """What a response says, or the fault that it is."""
    tokens = _counted(getattr(response, "usage", None), deployment)
    usage = None if tokens is None else Usage(tokens.sent, tokens.answered, tokens.cached)
    cost = None if tokens is None else _cost(response, tokens, deployment, facts)
    try:
        reply = _reply(response)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, _UnusableError) else "malformed"
        return Tried(Fault(FaultKind.BAD_ANSWER, why), None, usage, cost)
    counted = 0 if tokens is None else tokens.sent + tokens.answered
    return Tried(Answer(latency_s, counted), reply, usage, cost)


def _reply(response: Any) -> Reply:
    if not response.choices:
        raise _UnusableError("no choices")
    choice = response.choices[0]
    message = choice.message
    content = message.content if message.content is not None else ""
    if not isinstance(content, str):
        raise _UnusableError("content is not text")
    if any(not call.function.name for call in message.tool_calls or ()):
        raise _UnusableError("a tool call without a name")
    calls = _told_apart(
        ToolCall(
            id=str(call.id or ""),
            function=FunctionCall(name=str(call.function.name), arguments=str(call.function.arguments or "")),
        )
        for call in message.tool_calls or ()
    )
    finish_reason = _FINISH_REASONS.get(choice.finish_reason, "stop")
    refusal = (getattr(message, "provider_specific_fields", None) or {}).get("refusal")
    if refusal and not content:
        content, finish_reason = str(refusal), "content_filter"
    return Reply(
        content=_without_thought(content, message),
        tool_calls=calls,
        finish_reason="tool_calls" if calls and finish_reason == "stop" else finish_reason,
    )


def _without_thought(content: str, message: Any) -> str:
    """The content without the reasoning before it, which LiteLLM takes out of some answers and not out of others."""
    if match := _LEADING_THOUGHT.match(content):
        return content[match.end() :]
    return content.lstrip() if getattr(message, "reasoning_content", None) else content


def _told_apart(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """The calls, each with an id that is its own: an assistant sends results by them, and a provider refuses a history
    in which one is missing or there twice."""
    found: dict[str, ToolCall] = {}
    for call in calls:
        is_new = call.id and call.id not in found
        own = call.id if is_new else f"call_{uuid.uuid4().hex}"  # 37 characters: OpenAI takes no more than 40
        found[own] = call if is_new else call.model_copy(update={"id": own})
    return tuple(found.values())


class _UnusableError(ValueError):
    """A response that holds no answer; its text says why, and none of the provider's."""


# -- what a provider counted -------------------------------------------------------------------------------------------


def _counted(usage: Any, deployment: Deployment) -> Tokens | None:
    """What the provider counted; None where it says nothing, or nothing that is a count."""
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
    value = getattr(usage, name, 0)
    return min(max(0, value), _MOST_TOKENS) if isinstance(value, int) else 0


def _cost(response: Any, tokens: Tokens, deployment: Deployment, facts: Facts) -> float | None:
    """US dollars; None where it is unknown. Not as LiteLLM reckons it, by the table that was in it when it came out."""
    if facts.free:
        return 0.0
    cost = None if facts.missing_prices else own_cost(tokens, deployment, _served(response))
    if cost is not None and math.isfinite(cost) and 0 <= cost < _MOST_USD:
        return float(f"{cost:.10g}")  # without what binary fractions add
    return None


def _served(response: Any) -> Served:
    """In which way it was answered: each provider says it in another place."""
    usage = getattr(response, "usage", None)
    hidden = getattr(response, "_hidden_params", None)
    fields = hidden.get("provider_specific_fields") if isinstance(hidden, dict) else None
    traffic = fields.get("traffic_type") if isinstance(fields, dict) else None  # Google's: ON_DEMAND_PRIORITY, FLEX

    def said(*values: Any) -> str:
        return next((value for value in values if isinstance(value, str)), "")

    tier = said(getattr(response, "service_tier", None), getattr(usage, "service_tier", None))
    return Served(
        tier=tier or said(traffic).lower().replace("on_demand_", "").replace("on_demand", ""),
        speed=said(getattr(usage, "speed", None)),
        region=said(getattr(usage, "inference_geo", None)),
    )
