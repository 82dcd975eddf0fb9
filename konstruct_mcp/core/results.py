"""What comes back: a completion and how it came about, and the state of groups, deployments and model tables.

All are frozen and know their own JSON form (`as_dict`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, TypeVar

from konstruct_mcp.core.messages import Message, ToolCall

_Parsed = TypeVar("_Parsed", covariant=True)

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
DeploymentState = Literal["ready", "cooling_down", "unavailable"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the provider counted. Hidden reasoning is part of the output, and what came from the provider's cache
    part of the input.

    Attributes:
        reasoning_tokens: those of the output that were reasoning; 0 where the provider does not say so.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed try of a deployment.

    Attributes:
        deployment: its name.
        error: why it failed, in one line.
        duration_ms: from the request to the failure, without the wait before the try.
    """

    deployment: str
    error: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that was sent with a request: its path, relative to its root, and its length in bytes."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer, and how it came about.

    Attributes:
        content: the text; empty when the model only called tools. Never holds reasoning.
        tool_calls: the calls that the model asks for, in its order.
        finish_reason: why the model stopped.
        model_group: the group that was asked for.
        served_group: the group that answered: another one when a fallback did.
        model: `provider/model` as the config names it.
        attempts: the failed tries before this answer, in order.
        usage: tokens of the answering call.
        cost_usd: US dollars of the answering call; None means unknown, not free.
        duration_ms: from arrival to answer, failed tries and waits included.
        notes: what of the request was left out or done in another way, one line each.
        at_most_usd: the most that the answering call can have cost, where `cost_usd` is unknown and there is a bound.
        thread: by which the conversation can be continued; None where it is not kept.
        files: the files that were sent, in their order.
    """

    content: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    model_group: str
    served_group: str
    model: str
    attempts: tuple[Attempt, ...]
    usage: Usage
    cost_usd: float | None
    duration_ms: int
    notes: tuple[str, ...] = ()
    at_most_usd: float | None = None
    thread: str | None = None
    files: tuple[SentFile, ...] = ()

    @property
    def message(self) -> Message:
        """The answer as a message of the conversation, tool calls included: append it to the messages to go on."""
        content = self.content or (None if self.tool_calls else "")
        return Message(role="assistant", content=content, tool_calls=list(self.tool_calls) or None)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; `attempts`, `notes` and `files` are absent when there are none, `at_most_usd` and `thread`
        when they are None, and `usage.cached_tokens` and `usage.reasoning_tokens` when they are 0."""
        # Not `asdict` of the whole, which would copy every text and tool call.
        answer = {name: getattr(self, name) for name in self.__dataclass_fields__}
        answer["usage"] = asdict(self.usage)
        for name in ("cached_tokens", "reasoning_tokens"):
            if not answer["usage"][name]:
                del answer["usage"][name]
        answer["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        answer["attempts"] = [asdict(attempt) for attempt in self.attempts]
        answer["notes"] = list(self.notes)
        answer["files"] = [asdict(file) for file in self.files]
        for name in ("attempts", "notes", "files"):
            if not answer[name]:
                del answer[name]
        for name in ("at_most_usd", "thread"):
            if answer[name] is None:
                del answer[name]
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCompletion(Completion, Generic[_Parsed]):
    """An answer to a call whose `response_format` was a pydantic model.

    Attributes:
        parsed: the answer as an instance of that model; None where the model called tools instead.
    """

    parsed: _Parsed

    def as_dict(self) -> dict[str, Any]:
        """The JSON form of the completion, whose `content` is what `parsed` was read from."""
        answer = Completion.as_dict(self)
        del answer["parsed"]
        return answer


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """One deployment as users see it; None stands for what is unknown.

    Attributes:
        model: `provider/model`.
        reason: why it cannot be called now, in one line; None where it is `ready`.
        input_usd_per_million, output_usd_per_million: US dollars per million tokens.
        context_window, max_output_tokens: tokens.
        supports: the capabilities that it is known to have (`tools`, `vision`, `pdf`, `structured_output`).
        retires: the ISO date on which its provider shuts the model down.
    """

    model: str
    state: DeploymentState
    reason: str | None
    input_usd_per_million: float | None
    output_usd_per_million: float | None
    context_window: int | None
    supports: tuple[str, ...]
    max_output_tokens: int | None = None
    retires: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; `reason` is absent for a deployment that is ready, and `retires` where no day is known."""
        status = asdict(self) | {"supports": list(self.supports)}
        for name in ("reason", "retires"):
            if status[name] is None:
                del status[name]
        return status


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One model group as users see it.

    Attributes:
        fallbacks: the groups that are asked after it, in order.
        deployments: in the order in which they are asked.
        alias_of: the group that this is another name of; None for a group of its own.
    """

    name: str
    description: str
    fallbacks: tuple[str, ...]
    deployments: tuple[DeploymentStatus, ...]
    alias_of: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; `alias_of` is absent for a group of its own."""
        return {
            "name": self.name,
            "description": self.description,
            **({} if self.alias_of is None else {"alias_of": self.alias_of}),
            "fallbacks": list(self.fallbacks),
            "deployments": [deployment.as_dict() for deployment in self.deployments],
        }


@dataclass(frozen=True, slots=True)
class ModelTable:
    """A table of model data that is in use; None stands for what the table does not say.

    Attributes:
        place: where it is.
        litellm: the version or branch of LiteLLM that it was read from.
        date: the ISO date on which it was read.
        source: the file or URL that it was read from.
    """

    place: str
    litellm: str | None
    date: str | None
    source: str | None


@dataclass(frozen=True, slots=True)
class ModelUpdate:
    """What a newer table of model data has changed in the user's own.

    Attributes:
        place: the file of the user's table.
        models: how many models the table has now.
        new: the models that were in no table before.
        changes: for each model that has changed, one line for each field.
        broken: where the user's old table was moved, if it could not be used.
        left: one line for each field of the newer table that is wrong; those models stay as they were known.
    """

    place: str
    models: int
    new: tuple[str, ...]
    changes: Mapping[str, tuple[str, ...]]
    broken: str | None = None
    left: tuple[str, ...] = ()
