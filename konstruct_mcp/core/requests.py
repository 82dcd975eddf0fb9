"""A completion that is asked for, parsed and checked once, at the edge.

`Request.parse` makes it of the arguments as they came. From then on it is valid, and nothing checks it again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeGuard

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from konstruct_mcp.core import jsontext, schema_sizes
from konstruct_mcp.core.effort import Effort
from konstruct_mcp.core.errors import InvalidArgumentError
from konstruct_mcp.core.messages import Message, NamedTool, Part, ResponseFormat, Tool, ToolChoice, Value
from konstruct_mcp.core.sizes import LARGE_CHARS, LARGE_VALUES, extent
from konstruct_mcp.core.text import TENANT_ID, TENANT_ID_RULE, cut, scrubbed
from konstruct_mcp.core.validation import flaws

_MOST_FLAWS = 8  # that one error names; the others show at the next try
_MOST_FIELDS = 100  # of the arguments, and of a message: more than any client's dialect has
_DEEPEST = 1000  # levels of lists and objects in a JSON text
_LONGEST_TIMEOUT_S = 86400  # a day: longer than any completion, short enough for every clock and timer
_LONGEST_GROUP = 512  # characters of a group's name; one that a wildcard matches is a provider's and its model's
_MOST_FILES = 100
_NO_MESSAGES = 'should be a list of messages: [{"role": "user", "content": "…"}]'
# Arguments that some clients send as JSON text, and those that some send empty instead of leaving them out.
_STRUCTURED = ("messages", "tools", "tool_choice", "response_format", "files")
_OPTIONAL = (
    *("model_group", "tenant_id", "continue", *_STRUCTURED[1:]),
    *("max_tokens", "temperature", "effort", "timeout_s"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one request may hold. Its fields are keys of the config's section `konstruct`.

    The defaults are far more than any model reads and any provider takes, and still no more than one caller's share of
    a server that others use too.

    Attributes:
        max_messages: a window of a million tokens holds some thousand turns of an agent; Anthropic takes 100,000.
        max_parts: texts and images in all messages. Gemini takes 3,600 images, OpenAI 1,500, Anthropic 600.
        max_tool_calls: in all messages.
        max_tools: OpenAI takes 128, Gemini 512.
        max_values: JSON values in all arguments; an agent's longest histories and five hundred tools have 100,000.
        max_request_chars: characters of text in all arguments, images included. Anthropic takes 32 MB, Bedrock 25,
            OpenAI 50.
    """

    max_messages: int = 20_000
    max_parts: int = 20_000
    max_tool_calls: int = 20_000
    max_tools: int = 2_000
    max_values: int = 500_000
    max_request_chars: int = 32_000_000

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Count what is in a request's arguments, before anything is made of them.

        Raises:
            InvalidArgumentError: naming what there is too much of.
        """
        messages, tools = _items(arguments, "messages"), _items(arguments, "tools")
        self._hold("messages", len(messages), "max_messages")
        for place, fields in (("", arguments), *((f"messages[{n}]: ", one) for n, one in enumerate(messages))):
            if isinstance(fields, Mapping) and len(fields) > _MOST_FIELDS:  # each unknown one would be a flaw
                raise InvalidArgumentError(f"{place}{len(fields):,} fields, of which most are unknown")
        self._hold("messages: content", _sum_of(messages, "content"), "max_parts")
        self._hold("messages: tool_calls", _sum_of(messages, "tool_calls"), "max_tool_calls")
        self._hold("tools", len(tools), "max_tools")
        found = extent(arguments)
        self._hold_all(arguments, found.values, "values of JSON", "max_values", 0)
        self._hold_all(arguments, found.chars, "characters", "max_request_chars", 1)

    def check_composed(self, messages: Sequence[Message], chars: int, *, is_continued: bool) -> None:
        """The same for messages of `chars` characters in all, with the files that they name and, if it `is_continued`,
        behind those of a thread.

        Raises:
            InvalidArgumentError: saying that it is the files or the thread that make it too long.
        """
        parts = sum(len(message.content) for message in messages if isinstance(message.content, list))
        calls = sum(len(message.tool_calls or ()) for message in messages)
        values = sum(map(_values_in, messages))
        for found, of, key in (
            (len(messages), "messages", "max_messages"),
            (parts, "parts", "max_parts"),
            (calls, "tool calls", "max_tool_calls"),
            (values, "values of JSON", "max_values"),
            (chars, "characters", "max_request_chars"),
        ):
            if found > (most := getattr(self, key)):
                more = f"{found:,} {of}, more than {most:,} (konstruct.{key})"
                raise InvalidArgumentError(
                    f"continue: the thread is too long: with these messages it has {more}; send a shorter "
                    "conversation, without continue"
                    if is_continued
                    else f"files: with them the request has {more}; name fewer"
                )

    def _hold(self, place: str, found: int, key: str) -> None:
        if found > (most := getattr(self, key)):
            raise InvalidArgumentError(f"{place}: {found:,} are more than {most:,} (konstruct.{key}); send fewer")

    def _hold_all(self, arguments: Mapping[str, Any], found: int, of: str, key: str, figure: int) -> None:
        """The same for all arguments together. The error names the largest, by that figure of its `extent`."""
        if found > (most := getattr(self, key)):
            largest = max(arguments, key=lambda place: extent({place: arguments[place]})[figure])
            raise InvalidArgumentError(
                f"{cut(str(largest))}: the {found:,} {of} of all arguments are more than {most:,} (konstruct.{key}); "
                "send less here"
            )


def _values_in(message: Message) -> int:
    """How many JSON values a message has."""
    parts = message.content if isinstance(message.content, list) else ()
    # A part has its type and its text, or an image with its URL; a call five values within it.
    return len(message.model_fields_set) + 1 + 5 * len(parts) + 6 * len(message.tool_calls or ())


def _items(arguments: Mapping[str, Any], key: str) -> Sequence[Any]:
    found = arguments.get(key)
    return found if isinstance(found, list | tuple) else ()


def _sum_of(messages: Sequence[Any], key: str) -> int:
    return sum(len(_items(message, key)) for message in messages if isinstance(message, Mapping))


def _as_meant(arguments: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """The arguments, with JSON text read and empty texts left out, where they cannot mean anything else."""
    meant = {key: value for key, value in arguments.items() if value != "" or key not in _OPTIONAL}
    for key in _STRUCTURED:
        value = meant.get(key)
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
            try:
                meant[key] = _json_in(key, value, limits)
            except (ValueError, RecursionError):
                raise InvalidArgumentError(f"{key}: came as a text that is no valid JSON; send it as JSON") from None
    return meant


def _json_in(key: str, text: str, limits: Limits) -> Any:
    if len(text) <= LARGE_CHARS:
        return json.loads(text)
    value, excess = jsontext.read(text, limits.max_values, _DEEPEST)
    if excess:
        raise InvalidArgumentError(f"{key}: {excess}")
    return value


def is_timeout(value: Any) -> TypeGuard[float]:
    """Whether a request can have this `timeout_s`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LONGEST_TIMEOUT_S


def _whole(value: Any) -> Any:
    """100 for 100.0: JSON has one kind of number, and some clients write whole ones with a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Request(Value):
    """One completion that is asked for, valid by construction.

    `model_group`, `tenant_id`, `effort` and `timeout_s` (seconds) are None where the config decides. `continue_`, as an
    argument `continue`, names the thread to which the messages are new. `files` are paths, which nobody has looked at
    yet: `gateway.files` reads them.
    """

    messages: list[Message] = Field(min_length=1)
    model_group: str | None = Field(default=None, max_length=_LONGEST_GROUP)
    tenant_id: str | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    # At most what fits a float: costs are computed from it.
    max_tokens: Annotated[int, BeforeValidator(_whole)] | None = Field(default=None, ge=1, le=10**30)
    temperature: float | None = Field(default=None, ge=0, le=2)
    effort: Effort | None = None
    timeout_s: float | None = Field(default=None, gt=0, le=_LONGEST_TIMEOUT_S, allow_inf_nan=False)
    continue_: str | None = Field(default=None, alias="continue")
    files: list[str] | None = Field(default=None, max_length=_MOST_FILES, repr=False)

    @field_validator("messages", mode="before")
    @classmethod
    def _are_messages(cls, messages: Any) -> Any:
        if not isinstance(messages, list):
            raise ValueError(_NO_MESSAGES)  # noqa: TRY004  pydantic makes a flaw of a ValueError only
        return messages

    @field_validator("tenant_id")
    @classmethod
    def _tenant_is_well_formed(cls, tenant_id: str | None) -> str | None:
        if tenant_id is not None and not TENANT_ID.match(tenant_id):
            raise ValueError(TENANT_ID_RULE)
        return tenant_id

    @field_validator("tools", "files")
    @classmethod
    def _none_for_an_empty_list(cls, given: list[Any] | None) -> list[Any] | None:
        return given or None

    @model_validator(mode="after")
    def _tools_agree(self) -> Self:
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise ValueError("tools: two have the same name")
        if self.tool_choice not in (None, "none") and not names:
            raise ValueError("tool_choice: there are no tools to choose from")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError("tool_choice.function.name: names no tool of this request")
        return self

    @model_validator(mode="after")
    def _schemas_are_not_endless(self) -> Self:
        _ = self.growth
        return self

    @functools.cached_property
    def growth(self) -> int:
        """How many bytes longer the request becomes when each reference in its schemas is written out."""
        return sum(schema_sizes.growth(self._schemas()).values())

    @classmethod
    def parse(cls, arguments: Mapping[str, Any], limits: Limits = Limits()) -> Self:
        """The request that these arguments ask for. Lone surrogates in them become U+FFFD.

        Raises:
            InvalidArgumentError: naming each field that is missing, unknown or ill-typed, or what there is too much of.
        """
        meant = _as_meant(arguments, limits)
        if (place := schema_sizes.too_deep(meant)) is not None:
            raise InvalidArgumentError(f"{place}: is nested more than {schema_sizes.MOST_LEVELS} levels deep")
        limits.check(meant)
        try:
            # Again after the transport's: an argument that came as JSON text has only been read here.
            return cls.model_validate(scrubbed(meant))
        except ValidationError as error:
            lines = [f"{place}: {message}" if place else message for place, message in flaws(error)]
            if (more := len(lines) - _MOST_FLAWS) > 0:
                lines[_MOST_FLAWS:] = [f"and {more} more"]
            raise InvalidArgumentError("; ".join(lines)) from None

    @functools.cached_property
    def chars(self) -> int:
        """Its length in characters, images and schemas included: about the memory that it takes."""
        schemas = {"tools", "response_format"} & self.model_fields_set
        return (
            self.text_chars
            + sum(map(len, self._media()))
            + (len(self.model_dump_json(include=schemas)) if schemas else 0)
        )

    @functools.cached_property
    def text_chars(self) -> int:
        """Characters of its messages that cost tokens."""
        return sum(message.chars for message in self.messages)

    @functools.cached_property
    def has_images(self) -> bool:
        return any(part.image_url is not None for part in self._parts())

    @functools.cached_property
    def has_pdfs(self) -> bool:
        return any(part.file is not None for part in self._parts())

    @property
    def media(self) -> tuple[str, ...]:
        """The images and PDFs as base64, in the order of the messages."""
        return tuple(url.partition(",")[2] for url in self._media())

    def with_messages(self, messages: Sequence[Message]) -> Self:
        """The same request with these messages, which are valid, instead of its own."""
        made = self.model_copy(update={"messages": list(messages)})
        for name in made.__dict__.keys() - type(self).model_fields.keys():  # what was computed of the others
            del made.__dict__[name]
        return made

    @functools.cached_property
    def is_large(self) -> bool:
        """Whether work on it takes so long that it belongs in a thread, beside the event loop."""
        parts = sum(len(message.content) for message in self.messages if isinstance(message.content, list))
        calls = sum(len(message.tool_calls or ()) for message in self.messages)
        in_schemas = extent([*self._schemas().values()], LARGE_VALUES).values
        # Roughly, with so many JSON values to each message, part, tool call and tool.
        values = 4 * (len(self.messages) + parts) + 6 * calls + 5 * len(self.tools or ()) + in_schemas
        return self.chars > LARGE_CHARS or values > LARGE_VALUES

    def _schemas(self) -> dict[str, dict[str, Any]]:
        """The JSON schemas in it, by their places."""
        places = {
            f"tools[{index}].function.parameters": tool.function.parameters or {}
            for index, tool in enumerate(self.tools or ())
        }
        if self.response_format is not None and self.response_format.json_schema is not None:
            places["response_format.json_schema.schema"] = self.response_format.json_schema.schema_
        return places

    def _media(self) -> Iterator[str]:
        yield from (part.media for part in self._parts() if part.media is not None)

    def _parts(self) -> Iterator[Part]:
        for message in self.messages:
            if isinstance(message.content, list):
                yield from message.content
