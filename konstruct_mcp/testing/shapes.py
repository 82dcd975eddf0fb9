"""What the format of a fake provider is made of: the request it is asked with, what an answer says, a refusal."""

from __future__ import annotations

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


class Said(Protocol):
    """What an answer says, in no format yet; see `answers.Text`."""

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
