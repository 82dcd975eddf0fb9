"""What goes into a try of a deployment beside the request, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from konstruct_mcp.core.messages import ToolCall
from konstruct_mcp.core.results import FinishReason, Usage
from konstruct_mcp.routing.outcomes import Answer, Fault


@dataclass(frozen=True, slots=True)
class Recalled:
    """The reasoning that belongs into a conversation.

    It is looked up once for a try, so that the tokens that are reserved are those that are sent.

    Attributes:
        turns: for each turn with tool calls, the reasoning behind them by message field; None where there is none.
    """

    turns: tuple[Mapping[str, Any] | None, ...]

    @property
    def bytes(self) -> int:
        """Its length as JSON, in bytes."""
        return sum(len(json.dumps(thought, ensure_ascii=False).encode()) for thought in self.turns if thought)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer in a provider's response.

    Attributes:
        reasoning: what the provider wants to get back beside the calls, by the name of the message's field.
        thought: the key by which this reasoning is recalled; empty where it is not kept.
    """

    content: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    reasoning: Mapping[str, Any] = field(default_factory=dict)
    thought: str = ""


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
