"""Values that cross module borders: the request, its answer, and the state of the groups.

All are frozen. A `Request` is parsed once, at the edge (`Request.parse`), and is valid from then
on; nothing further in checks it again. Results know their own JSON form (`as_dict`).
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from konstruct_mcp.core import jsontext, schemas
from konstruct_mcp.core.errors import InvalidArgumentError, cut

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
DeploymentState = Literal["ready", "cooling_down", "unavailable"]
Dimension = Literal["day", "group", "model", "tenant"]
Per = Literal["day", "month", "total"]
NUSD = 1_000_000_000  # nano-dollars in a dollar: accounts are kept in whole ones

TENANT_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
TENANT_ID_RULE = "should be 1 to 128 letters, digits or any of . _ : @ -"
# What pydantic calls the value; a reader has its place in front of the message.
_SUBJECT = re.compile(r"^(Input|List|String|Dictionary) (?=should)")
# The tags of unions below: pydantic puts them among the keys of a place, where a reader has none.
_BRANCHES = frozenset({"<text>", "<parts>", "<word>", "<named>"})
_MOST_FLAWS = 8  # in one error: who mends those sees the rest at the next try
# What OpenAI and Anthropic both accept as the name of a tool.
_TOOL_NAME = r"^[A-Za-z0-9_-]{1,64}$"
# The image types that OpenAI, Anthropic and Ollama all read.
_DATA_URL = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,", re.ASCII)


def flaws(error: ValidationError) -> list[tuple[str, str]]:
    """(place, message) for each flaw that pydantic found, never with the offending value.

    The place reads as one would write it in code: `messages[0].content`.
    """
    found: list[tuple[str, str]] = []
    for item in error.errors(include_url=False, include_input=False):
        place = ""
        for part in item["loc"]:
            if isinstance(part, int):
                place += f"[{part}]"
            elif part not in _BRANCHES:
                place += f".{cut(part)}" if place else cut(part)
        match item["type"]:
            case "extra_forbidden":
                message = "unknown field"
            case "missing":
                message = "required, but missing"
            case "value_error":
                message = str(item["ctx"]["error"])
            case "model_type" | "model_attributes_type" | "dict_type" | "dict_attributes_type":
                message = "should be an object"
            case _:
                message = _SUBJECT.sub("", item["msg"]).replace(" after validation", "").removesuffix(" instance")
        found.append((place, message))
    return found


def is_day(text: str) -> bool:
    """Whether this is an ISO date, written out: `2026-01-31`."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def scrubbed(value: Any) -> Any:
    """The same value as plain JSON, with every lone surrogate replaced by U+FFFD."""
    if isinstance(value, str):
        return value if value.isascii() else _scrubbed_text(value)
    if isinstance(value, list | tuple):
        return [scrubbed(item) for item in value]
    if value is None or isinstance(value, int | float):  # before a question that takes longer
        return value
    if isinstance(value, Mapping):
        return {scrubbed(key): scrubbed(item) for key, item in value.items()}
    return value


_PAIR, _HALF = re.compile("[\ud800-\udbff][\udc00-\udfff]"), re.compile("[\ud800-\udfff]")
_STEP = 1 << 18  # characters that are gone through at once, which keeps every other thread waiting


def _scrubbed_text(text: str) -> str:
    pieces, begin = [], 0
    while begin < len(text):
        end = begin + _STEP
        end += _PAIR.match(text, end - 1) is not None
        piece = text[begin:end]
        try:
            piece.encode()
        except UnicodeEncodeError:
            piece = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), piece)
            piece = _HALF.sub("\ufffd", piece)
        pieces.append(piece)
        begin = end
    return "".join(pieces)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


# What stands in an answer of OpenAI's, or of a server like it, and comes back when it is replayed as history. None of
# it is said to a model: reasoning is kept here where a provider wants it back, and the rest are notes on the answer.
_OF_AN_ANSWER = frozenset(
    {"annotations", "audio", "index", "provider_specific_fields", "reasoning", "reasoning_content"}
    | {"reasoning_details", "thinking_blocks"}
)


class _Replayed(_Value):
    """A value that clients also send back as a provider's SDK has dumped it: with fields that are null, or notes."""

    @model_validator(mode="before")
    @classmethod
    def _without_what_says_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.keys() <= cls.model_fields.keys():
            return value
        return {
            key: item
            for key, item in value.items()
            if key in cls.model_fields or not (item is None or key in _OF_AN_ANSWER)
        }


def _is_base64(text: str, begin: int) -> bool:
    for at in range(begin, len(text), _STEP):  # which is a multiple of four
        piece = text[at : at + _STEP]
        try:
            base64.b64decode(piece, validate=True)
        except (binascii.Error, ValueError):
            return False
        if piece.endswith("=") and at + _STEP < len(text):
            return False
    return True


class ImageURL(_Value):
    """An image, carried in the request itself: a `data:` URL of a png, jpeg, gif or webp."""

    url: str = Field(repr=False)
    detail: Literal["auto", "low", "high"] | None = None

    @field_validator("url")
    @classmethod
    def _carried_in_the_request(cls, url: str) -> str:
        # Anything else would have a server fetch an address that a conversation chose.
        match = _DATA_URL.match(url[:64])
        if match is None:
            raise ValueError("only data: URLs are accepted (data:image/png;base64,…; png, jpeg, gif or webp)")
        if not _is_base64(url, match.end()):
            raise ValueError("is not valid base64")
        return url


class Part(_Replayed):
    """One content part: a text or an image. A replayed `refusal` is a text that the model wrote."""

    @model_validator(mode="before")
    @classmethod
    def _refusal_is_text(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") == "refusal" and value.keys() == {"type", "refusal"}:
            return {"type": "text", "text": value["refusal"]}
        return value

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageURL | None = None

    @model_validator(mode="after")
    def _holds_what_its_type_says(self) -> Self:
        if (self.text is None) is (self.type == "text") or (self.image_url is None) is (self.type == "image_url"):
            raise ValueError(f"a part of type {self.type} has the field {self.type} and no other")
        return self


class FunctionCall(_Replayed):
    """The name of a function and its arguments, as the JSON string that the model wrote."""

    name: str
    arguments: str


def _or_function(value: Any) -> Any:
    return "function" if value is None else value  # as SDKs put a stream together


class ToolCall(_Replayed):
    """A call that the model asks for. In an answer, `id` is none of another call's, and `function.arguments` is the
    provider's JSON string; `{}` where it gave none, and an object that came as JSON within JSON is one."""

    id: str
    type: Annotated[Literal["function"], BeforeValidator(_or_function)] = "function"
    function: FunctionCall


def _content_kind(value: Any) -> str:
    return "<parts>" if isinstance(value, list) else "<text>"


Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Part], Field(min_length=1), Tag("<parts>")],
    Discriminator(_content_kind),
]


class Message(_Replayed):
    """One message of the conversation, in OpenAI's format. `name` says which of several people or agents speaks."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = Field(default=None, max_length=256)
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_meant(cls, value: Any) -> Any:
        """A refusal is what an assistant said instead of content; an id that is empty, and not needed, is none."""
        if not isinstance(value, dict):
            return value
        role = value.get("role")
        optional = ("name",) if role == "tool" else ("name", "tool_call_id")
        value = {key: item for key, item in value.items() if item != "" or key not in optional}
        if role == "assistant" and value.get("content") == []:
            del value["content"]  # beside tool calls
        if role == "assistant" and "refusal" in value:
            refusal = value.pop("refusal")
            if refusal and not value.get("content"):
                value["content"] = refusal
        return value

    @field_validator("tool_calls")
    @classmethod
    def _none_for_an_empty_list(cls, calls: list[ToolCall] | None) -> list[ToolCall] | None:
        # `complete` returns an empty list, and a provider refuses it when it comes back as history.
        return calls or None

    @model_validator(mode="after")
    def _has_what_its_role_needs(self) -> Self:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError(f"a message of role {self.role} needs content")
        if self.tool_calls is not None and self.role != "assistant":
            raise ValueError("tool_calls belong to a message of role assistant")
        if (self.tool_call_id is None) is (self.role == "tool"):
            raise ValueError(
                "a message of role tool needs tool_call_id"
                if self.role == "tool"
                else "tool_call_id belongs to a message of role tool"
            )
        if self.role != "user" and isinstance(self.content, list) and any(p.image_url for p in self.content):
            raise ValueError("images belong to a message of role user")
        return self

    @property
    def chars(self) -> int:
        """Characters that cost tokens; images are left out, as each provider counts them its own way."""
        content = self.content or ""
        texts = [content] if isinstance(content, str) else [part.text or "" for part in content]
        return sum(map(len, texts)) + sum(len(call.function.arguments) for call in self.tool_calls or ())


def _as_json(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("is no JSON") from error
    return schema


Schema = Annotated[dict[str, Any], AfterValidator(_as_json)]


class Function(_Value):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str = Field(pattern=_TOOL_NAME)
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(_Value):
    """A tool in OpenAI's function-calling format."""

    type: Literal["function"]
    function: Function


class NamedFunction(_Value):
    """The name of the one function that the model must call."""

    name: str


class NamedTool(_Value):
    """A `tool_choice` that names one function."""

    type: Literal["function"]
    function: NamedFunction


def _choice_kind(value: Any) -> str:
    return "<word>" if isinstance(value, str) else "<named>"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")] | Annotated[NamedTool, Tag("<named>")],
    Discriminator(_choice_kind),
]


class JSONSchema(_Value):
    """A named JSON schema that the answer must follow."""

    name: str = Field(pattern=_TOOL_NAME)
    description: str | None = None
    schema_: Schema = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(_Value):
    """What the answer must look like: plain text, any JSON object, or JSON by a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.json_schema is None) is (self.type == "json_schema"):
            raise ValueError("json_schema goes with the type json_schema, and only with it")
        return self


def _whole(value: Any) -> Any:
    """100.0 is 100, as JSON has it, which knows one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold: far more than any model reads and any provider takes, and no more than one caller's
    share of a server that others use too. Its fields are keys of the config's section `konstruct`.

    Attributes:
        max_messages: a window of a million tokens holds some thousand turns of an agent; Anthropic takes 100,000.
        max_parts: texts and images in the messages. Gemini takes 3,600 images, OpenAI 1,500, Anthropic 600.
        max_tool_calls: in the messages.
        max_tools: OpenAI takes 128 of them, Gemini 512.
        max_values: of JSON, in all arguments; an agent's longest histories and five hundred tools have 100,000.
        max_request_chars: of texts, in all arguments, images included. Anthropic takes 32 MB, Bedrock 25, OpenAI 50.
    """

    max_messages: int = 20_000
    max_parts: int = 20_000
    max_tool_calls: int = 20_000
    max_tools: int = 2_000
    max_values: int = 500_000
    max_request_chars: int = 32_000_000

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Count what is in them, before anything else is made of it.

        Raises:
            InvalidArgumentError: naming what there is too much of.
        """
        messages, tools = _items(arguments, "messages"), _items(arguments, "tools")
        self._hold("messages", len(messages), "max_messages")
        for place, fields in (("", arguments), *((f"messages[{n}]: ", one) for n, one in enumerate(messages))):
            if isinstance(fields, Mapping) and len(fields) > _MOST_FIELDS:  # each unknown one would be an error
                raise InvalidArgumentError(f"{place}{len(fields):,} fields, of which most are unknown")
        self._hold("messages: content", _sum_of(messages, "content"), "max_parts")
        self._hold("messages: tool_calls", _sum_of(messages, "tool_calls"), "max_tool_calls")
        self._hold("tools", len(tools), "max_tools")
        values, chars = extent(arguments)
        self._hold_all(arguments, values, "values of JSON", "max_values", 0)
        self._hold_all(arguments, chars, "characters", "max_request_chars", 1)

    def _hold(self, place: str, found: int, key: str) -> None:
        if found > (most := getattr(self, key)):
            raise InvalidArgumentError(f"{place}: {found:,} are more than {most:,} (konstruct.{key}); send fewer")

    def _hold_all(self, arguments: Mapping[str, Any], found: int, of: str, key: str, figure: int) -> None:
        """The same for all arguments together; the largest, by that figure of its `extent`, is to blame."""
        if found > (most := getattr(self, key)):
            largest = max(arguments, key=lambda place: extent({place: arguments[place]})[figure])
            raise InvalidArgumentError(
                f"{cut(str(largest))}: the {found:,} {of} of all arguments are more than {most:,} (konstruct.{key}); "
                "send less here"
            )


_LARGE_VALUES, _LARGE_CHARS = 4_000, 250_000  # what takes some ten milliseconds, from the line to the provider's body
_MOST_FIELDS = 100  # of the arguments and of a message, in any dialect
_DEEPEST = 1000  # levels of lists and objects in a JSON text


def is_large(value: Any) -> bool:
    """Whether what is done with it takes so long that it is better done beside the event loop."""
    values, chars = extent(value, _LARGE_VALUES, _LARGE_CHARS)
    return values > _LARGE_VALUES or chars > _LARGE_CHARS


def extent(value: Any, most_values: float = math.inf, most_chars: float = math.inf) -> tuple[int, int]:
    """How many values there are in one, and how many characters; counted no further than that."""
    values, chars, ahead = 0, 0, [value]
    while ahead and values <= most_values and chars <= most_chars:
        item = ahead.pop()
        values += 1
        if isinstance(item, str):
            chars += len(item)
        elif isinstance(item, list | tuple):
            ahead.extend(item)
        elif isinstance(item, Mapping):
            chars += sum(len(key) for key in item if isinstance(key, str))
            ahead.extend(item.values())
    return values, chars


def _items(arguments: Mapping[str, Any], key: str) -> Sequence[Any]:
    found = arguments.get(key)
    return found if isinstance(found, list | tuple) else ()


def _sum_of(messages: Sequence[Any], key: str) -> int:
    return sum(len(_items(message, key)) for message in messages if isinstance(message, Mapping))


# Arguments that some clients send as JSON text instead, and those that some send empty instead of leaving them out.
_STRUCTURED = ("messages", "tools", "tool_choice", "response_format")
_OPTIONAL = ("model_group", "tenant_id", *_STRUCTURED[1:], "max_tokens", "temperature", "timeout_s")


def _as_meant(arguments: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """The arguments, with JSON text read and empty texts left out, where that is all that they can mean."""
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
    if len(text) <= _LARGE_CHARS:
        return json.loads(text)
    value, excess = jsontext.read(text, limits.max_values, _DEEPEST)
    if excess:
        raise InvalidArgumentError(f"{key}: {excess}")
    return value


# A day: longer than any completion, short enough for every clock and timer.
_LONGEST_TIMEOUT_S = 86400
_LONGEST_GROUP = 512  # characters: of a name that a wildcard matches, the provider and its model's
_NO_MESSAGES = 'should be a list of messages: [{"role": "user", "content": "…"}]'


def is_timeout(value: Any) -> TypeGuard[float]:
    """Whether it is a `timeout_s` that a request can have."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LONGEST_TIMEOUT_S


class Request(_Value):
    """One completion asked for, valid by construction.

    `model_group`, `tenant_id` and `timeout_s` (seconds) are None where the config decides.
    """

    messages: list[Message] = Field(min_length=1)
    model_group: str | None = Field(default=None, max_length=_LONGEST_GROUP)
    tenant_id: str | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    # An integer that fits a float: what it costs is reckoned with.
    max_tokens: Annotated[int, BeforeValidator(_whole)] | None = Field(default=None, ge=1, le=10**30)
    temperature: float | None = Field(default=None, ge=0, le=2)
    timeout_s: float | None = Field(default=None, gt=0, le=_LONGEST_TIMEOUT_S, allow_inf_nan=False)

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

    @field_validator("tools")
    @classmethod
    def _none_for_an_empty_list(cls, tools: list[Tool] | None) -> list[Tool] | None:
        return tools or None

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
        """How many bytes longer it becomes where each reference in its schemas is written out."""
        return sum(schemas.growth(self._schemas()).values())

    @classmethod
    def parse(cls, arguments: Mapping[str, Any], limits: Limits = Limits()) -> Self:
        """The request that these arguments ask for; a lone surrogate, which no provider takes, becomes U+FFFD.

        Raises:
            InvalidArgumentError: naming each field that is missing, unknown or ill-typed, or what there is too much of.
        """
        meant = _as_meant(arguments, limits)
        if (place := schemas.too_deep(meant)) is not None:
            raise InvalidArgumentError(f"{place}: is nested more than {schemas.MOST_LEVELS} levels deep")
        limits.check(meant)
        try:
            return cls.model_validate(scrubbed(meant))
        except ValidationError as error:
            lines = [f"{place}: {message}" if place else message for place, message in flaws(error)]
            if (more := len(lines) - _MOST_FLAWS) > 0:
                lines[_MOST_FLAWS:] = [f"and {more} more"]
            raise InvalidArgumentError("; ".join(lines)) from None

    @functools.cached_property
    def chars(self) -> int:
        """Its length, in characters of what can be long: what keeping it costs."""
        schemas = {"tools", "response_format"} & self.model_fields_set
        return (
            self.text_chars
            + sum(len(image.url) for image in self._images())
            + (len(self.model_dump_json(include=schemas)) if schemas else 0)
        )

    @functools.cached_property
    def text_chars(self) -> int:
        """Characters of its messages that cost tokens."""
        return sum(message.chars for message in self.messages)

    @functools.cached_property
    def has_images(self) -> bool:
        return any(True for _ in self._images())

    @property
    def images(self) -> tuple[str, ...]:
        """Their base64, in their order."""
        return tuple(image.url.partition(",")[2] for image in self._images())

    @functools.cached_property
    def is_large(self) -> bool:
        """Whether what is done with it is better done beside the event loop."""
        parts = sum(len(message.content) for message in self.messages if isinstance(message.content, list))
        calls = sum(len(message.tool_calls or ()) for message in self.messages)
        in_schemas, _ = extent([*self._schemas().values()], _LARGE_VALUES)
        values = 4 * (len(self.messages) + parts) + 6 * calls + 5 * len(self.tools or ()) + in_schemas  # about
        return self.chars > _LARGE_CHARS or values > _LARGE_VALUES

    def _schemas(self) -> dict[str, dict[str, Any]]:
        """Those in it, by their places."""
        places = {
            f"tools[{index}].function.parameters": tool.function.parameters or {}
            for index, tool in enumerate(self.tools or ())
        }
        if self.response_format is not None and self.response_format.json_schema is not None:
            places["response_format.json_schema.schema"] = self.response_format.json_schema.schema_
        return places

    def _images(self) -> Iterator[ImageURL]:
        for message in self.messages:
            if isinstance(message.content, list):
                yield from (part.image_url for part in message.content if part.image_url is not None)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the provider counted: its hidden reasoning is part of the output, and what it found in its cache
    part of the input."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed try. `deployment` is its name, `error` one line of why."""

    deployment: str
    error: str
    duration_ms: int


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
        at_most_usd: the most that the answering call can have cost, where its cost is unknown; None there too where
            nobody can say.
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

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; `attempts` and `notes` are absent when there are none, `at_most_usd` when it is None, and
        `usage.cached_tokens` when it is 0."""
        # Not `asdict` of the whole, which copies what it finds in it deeply.
        answer = {name: getattr(self, name) for name in self.__dataclass_fields__}
        answer["usage"] = asdict(self.usage)
        if not self.usage.cached_tokens:
            del answer["usage"]["cached_tokens"]
        answer["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        answer["attempts"] = [asdict(attempt) for attempt in self.attempts]
        answer["notes"] = list(self.notes)
        for name in ("attempts", "notes"):
            if not answer[name]:
                del answer[name]
        if self.at_most_usd is None:
            del answer["at_most_usd"]
        return answer


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """One deployment as users see it. Prices are US dollars per million tokens, windows and answers in tokens, and
    `retires` is the ISO date on which the provider shuts the model down; None where it is unknown."""

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
    """One model group as users see it, its deployments in the order in which they are asked; `alias_of` is the group
    that it is another name of, None for one by itself."""

    name: str
    description: str
    fallbacks: tuple[str, ...]
    deployments: tuple[DeploymentStatus, ...]
    alias_of: str | None = None

    @property
    def callable(self) -> bool:
        """Whether a deployment of this group itself can be called now."""
        return any(deployment.state == "ready" for deployment in self.deployments)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; `alias_of` is absent for a group by itself."""
        return {
            "name": self.name,
            "description": self.description,
            **({} if self.alias_of is None else {"alias_of": self.alias_of}),
            "fallbacks": list(self.fallbacks),
            "deployments": [deployment.as_dict() for deployment in self.deployments],
        }


@dataclass(frozen=True, slots=True)
class ModelTable:
    """A table of model data: where it is, and where it is from. `litellm` is the version or branch, `date` the day on
    which it was read from there, ISO; None where it does not say."""

    place: str
    litellm: str | None
    date: str | None
    source: str | None


@dataclass(frozen=True, slots=True)
class ModelUpdate:
    """What a newer table has changed in the user's: how many models it has, those that were in none, and for each
    model that has changed one line for each field. `broken` is where the user's is now, if it could not be used; `left`
    has a line for each field of the newer one that is wrong, whose models stay as they were known."""

    place: str
    models: int
    new: tuple[str, ...]
    changes: Mapping[str, tuple[str, ...]]
    broken: str | None = None
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spend:
    """What was spent under one day (UTC), tenant, group and model; or summed over some of them, which are "" then.

    Attributes:
        day: ISO date on which the calls ended.
        group: the one that answered; for a call that nobody answered, the one that was asked for.
        model: `provider/model`; "" for calls that nobody answered.
        calls: how many, however they ended.
        failed: how many of them ended without an answer.
        unpriced: how many calls have an unknown cost that arose here.
        cost_nusd: nano-dollars, as far as they are known.
        held_nusd: the most that the unknown costs can be, as far as they have a bound: what budgets count beside it.
        unbounded: how many of the unpriced calls have none.
    """

    day: str
    tenant: str
    group: str
    model: str
    calls: int = 0
    failed: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_nusd: int = 0
    held_nusd: int = 0
    unbounded: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether a cost that nobody knows is not in it."""
        return bool(self.unpriced or self.held_nusd)

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known of the cost, which is not to be taken for $0."""
        return self.is_partial and not self.cost_nusd

    @property
    def most_nusd(self) -> int | None:
        """The most that it can be, which is the cost itself where that is known; None where nobody can say."""
        is_bounded = not self.unbounded and (self.held_nusd or not self.unpriced)
        return self.cost_nusd + self.held_nusd if is_bounded else None

    @property
    def cost(self) -> str:
        """`$1.25`; `≥ $1.25` where unknown costs are not in it; `unknown`."""
        if self.is_unknown:
            return "unknown"
        return ("≥ " if self.is_partial else "") + dollars(self.cost_nusd)

    @property
    def bounded_cost(self) -> str:
        """The same with the bound, where it has one: `≥ $1.25, at most $2`."""
        if not self.is_partial or self.most_nusd is None:
            return self.cost
        return f"{self.cost}, at most {dollars(self.most_nusd)}"

    def as_dict(self) -> dict[str, Any]:
        """The JSON form of its figures, without what they are summed over; `cost_usd` is null where it is unknown, and
        `at_most_usd` where nobody can say."""
        figures = {name: getattr(self, name) for name in _SPEND_FIGURES}
        return {
            **figures,
            "cost_usd": None if self.is_unknown else self.cost_nusd / NUSD,
            "at_most_usd": None if self.most_nusd is None else self.most_nusd / NUSD,
        }


_SPEND_FIGURES = ("calls", "failed", "unpriced", "input_tokens", "output_tokens", "cached_tokens")
SPEND_SUMS = (*_SPEND_FIGURES, "cost_nusd", "held_nusd", "unbounded")


def summed(lines: Iterable[Spend], by: Dimension | None = None) -> list[Spend]:
    """One line for each value of a dimension, the days in order and anything else by cost; one in all for None."""
    sums: dict[str, list[Spend]] = {}
    for line in lines:
        sums.setdefault(getattr(line, by) if by else "", []).append(line)
    total = []
    for value, of_value in sums.items():
        figures = {name: sum(getattr(line, name) for line in of_value) for name in SPEND_SUMS}
        kept = {by: value} if by else {}
        total.append(Spend(**{"day": "", "tenant": "", "group": "", "model": "", **kept}, **figures))  # type: ignore[arg-type]
    if by == "day":
        return sorted(total, key=lambda line: line.day)
    return sorted(total, key=lambda line: (-line.cost_nusd, -line.calls, getattr(line, by or "day")))


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget of a tenant and what is left of it, in nano-dollars.

    Attributes:
        per: `day`, `month` (of the calendar, UTC) or `total`.
        groups: the groups whose calls count towards it; empty means all.
        reserved_nusd: the most that calls under way may cost.
        renews_at: when its window ends (UTC), ISO; None for one that does not renew.
        held_nusd: the most that was spent where nobody knows the cost: tries that were broken off, and the like.
    """

    tenant: str
    limit_nusd: int
    per: Per
    groups: tuple[str, ...]
    spent_nusd: int
    reserved_nusd: int
    renews_at: str | None
    held_nusd: int = 0

    @property
    def left_nusd(self) -> int:
        return max(0, self.limit_nusd - self.spent_nusd - self.held_nusd - self.reserved_nusd)

    @property
    def name(self) -> str:
        """`$5 per day for quality`."""
        window = "in total" if self.per == "total" else f"per {self.per}"
        return f"{dollars(self.limit_nusd)} {window}" + (f" for {', '.join(self.groups)}" if self.groups else "")

    def as_dict(self) -> dict[str, Any]:
        return {
            "tenant": self.tenant,
            "usd": self.limit_nusd / NUSD,
            "per": self.per,
            "groups": list(self.groups),
            "spent_usd": self.spent_nusd / NUSD,
            "held_usd": self.held_nusd / NUSD,
            "reserved_usd": self.reserved_nusd / NUSD,
            "left_usd": self.left_nusd / NUSD,
            "renews_at": self.renews_at,
        }


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What was spent between two days (UTC, both included; None is open), and the state of the budgets.

    `tenant` is None in an operator's report, which is of all tenants.
    """

    tenant: str | None
    since: str | None
    until: str | None
    lines: tuple[Spend, ...]
    budgets: tuple[BudgetState, ...]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: the total, and the same by group, model and day; by tenant too where it is of all."""
        dimensions: tuple[Dimension, ...] = ("group", "model", "day") if self.tenant else _ALL_DIMENSIONS
        [total] = summed(self.lines) or [Spend("", "", "", "")]
        return {
            "tenant": self.tenant,
            "since": self.since,
            "until": self.until,
            "total": total.as_dict(),
            **{f"by_{by}": self.by(by) for by in dimensions},
            "budgets": [budget.as_dict() for budget in self.budgets],
        }

    def by(self, dimension: Dimension) -> list[dict[str, Any]]:
        """One object for each day, group, model or tenant."""
        return [{dimension: getattr(line, dimension), **line.as_dict()} for line in summed(self.lines, dimension)]


_ALL_DIMENSIONS: tuple[Dimension, ...] = ("group", "model", "day", "tenant")


def dollars(nusd: int) -> str:
    """`$5`, `$0.25`, `$0.000163`: to the micro-dollar, and never less than it is by rounding it away."""
    if 0 < nusd < NUSD // 1_000_000:
        return "<$0.000001"
    text = f"{Decimal(nusd) / NUSD:,.6f}".rstrip("0").rstrip(".")
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents:0<2}" if cents else f"${whole}"
