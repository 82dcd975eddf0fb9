"""The parts of a request in OpenAI's format: messages, tools, and what the answer must look like.

Each is parsed once and valid from then on. Clients also send back what a provider's SDK has dumped, so a message may
hold fields that are null, or notes on an earlier answer: these are dropped.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Protocol, Self, TypeGuard

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from konstruct_mcp.core.text import STEP

# The tags of the unions below, which pydantic puts among the keys of a place.
UNION_TAGS = frozenset({"<text>", "<parts>", "<word>", "<named>"})
# What OpenAI and Anthropic both accept as the name of a tool.
_TOOL_NAME = r"^[A-Za-z0-9_-]{1,64}$"
# The image types that OpenAI, Anthropic and Ollama all read.
_DATA_URL = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,", re.ASCII)
_PDF_URL = re.compile(r"data:application/pdf;base64,", re.ASCII)


class Value(BaseModel):
    """A frozen value that refuses unknown fields, and quotes none of its input in an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


# Fields of an answer of OpenAI's, or of a server like it, that come back when it is replayed as history. None of them
# is sent to a model: `providers` keeps the reasoning that a provider wants back, and the rest are notes on the answer.
_ANSWER_NOTES = frozenset(
    {"annotations", "audio", "index", "provider_specific_fields", "reasoning", "reasoning_content"}
    | {"reasoning_details", "thinking_blocks", "parsed", "parsed_arguments"}
)


class _Replayed(Value):
    """A value that clients also send back as a provider's SDK dumped it. Unknown fields are dropped where they are null
    or notes on an answer."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls_and_notes(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.keys() <= cls.model_fields.keys():
            return value
        return {
            key: item
            for key, item in value.items()
            if key in cls.model_fields or not (item is None or key in _ANSWER_NOTES)
        }


def _is_base64(text: str, begin: int) -> bool:
    for at in range(begin, len(text), STEP):  # a multiple of four, as base64 needs
        piece = text[at : at + STEP]
        try:
            base64.b64decode(piece, validate=True)
        except (binascii.Error, ValueError):
            return False
        if piece.endswith("=") and at + STEP < len(text):
            return False
    return True


class ImageURL(Value):
    """An image that the request itself carries: a `data:` URL of a png, jpeg, gif or webp."""

    url: str = Field(repr=False)
    detail: Literal["auto", "low", "high"] | None = None

    @field_validator("url")
    @classmethod
    def _is_a_data_url(cls, url: str) -> str:
        # Any other URL would make a server fetch an address that the conversation chose.
        match = _DATA_URL.match(url[:64])
        if match is None:
            raise ValueError("only data: URLs are accepted (data:image/png;base64,…; png, jpeg, gif or webp)")
        if not _is_base64(url, match.end()):
            raise ValueError("is not valid base64")
        return url


class FileData(Value):
    """A PDF that the request itself carries, as a `data:` URL. `filename` is what the model is told."""

    file_data: str = Field(repr=False)
    filename: str = Field(default="document.pdf", min_length=1, max_length=256, repr=False)

    @field_validator("file_data")
    @classmethod
    def _is_a_pdf(cls, url: str) -> str:
        match = _PDF_URL.match(url[:64])
        if match is None:
            raise ValueError("only PDFs are accepted, as data: URLs (data:application/pdf;base64,…)")
        if not _is_base64(url, match.end()):
            raise ValueError("is not valid base64")
        return url


class CacheControl(Value):
    """A mark on a part: what stands up to here is worth a place in the provider's cache for five minutes."""

    type: Literal["ephemeral"] = "ephemeral"


class Part(_Replayed):
    """One content part: a text, an image or a PDF. A replayed `refusal` becomes a text, since the model wrote it."""

    @model_validator(mode="before")
    @classmethod
    def _refusal_is_text(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") == "refusal" and value.keys() == {"type", "refusal"}:
            return {"type": "text", "text": value["refusal"]}
        return value

    type: Literal["text", "image_url", "file"]
    text: str | None = None
    image_url: ImageURL | None = None
    file: FileData | None = None
    cache_control: CacheControl | None = None

    @model_validator(mode="after")
    def _holds_what_its_type_says(self) -> Self:
        held = [name for name in ("text", "image_url", "file") if getattr(self, name) is not None]
        if held != [self.type]:
            raise ValueError(f"a part of type {self.type} has the field {self.type} and no other")
        return self

    @property
    def media(self) -> str | None:
        """The `data:` URL of an image or a PDF; None for a text."""
        if self.image_url is not None:
            return self.image_url.url
        return None if self.file is None else self.file.file_data


class FunctionCall(_Replayed):
    """The name of a function and its arguments, as the JSON string that the model wrote."""

    name: str
    arguments: str


def _function_for_none(value: Any) -> Any:
    return "function" if value is None else value  # SDKs that assemble a stream leave the type null


class ToolCall(_Replayed):
    """A tool call that the model asks for.

    In an answer, no two calls share an `id`, and `function.arguments` is the provider's JSON string: `{}` where it gave
    none, and a JSON object where it sent that object as a string of JSON within JSON.
    """

    id: str
    type: Annotated[Literal["function"], BeforeValidator(_function_for_none)] = "function"
    function: FunctionCall


def _content_kind(value: Any) -> str:
    return "<parts>" if isinstance(value, list) else "<text>"


Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Part], Field(min_length=1), Tag("<parts>")],
    Discriminator(_content_kind),
]


class Message(_Replayed):
    """One message of the conversation, in OpenAI's format. `name` tells apart several people or agents of one role."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = Field(default=None, max_length=256)
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _normalised(cls, value: Any) -> Any:
        """Take an assistant's refusal for its content, and an empty `name` or needless `tool_call_id` for none."""
        if not isinstance(value, dict):
            return value
        role = value.get("role")
        optional = ("name",) if role == "tool" else ("name", "tool_call_id")
        value = {key: item for key, item in value.items() if item != "" or key not in optional}
        if role == "assistant" and value.get("content") == []:
            del value["content"]  # as it stands beside tool calls
        if role == "assistant" and "refusal" in value:
            refusal = value.pop("refusal")
            if refusal and not value.get("content"):
                value["content"] = refusal
        return value

    @field_validator("tool_calls")
    @classmethod
    def _none_for_an_empty_list(cls, calls: list[ToolCall] | None) -> list[ToolCall] | None:
        # Our own answers have an empty list where no tool is called, and providers refuse an empty list in history.
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
        if self.role != "user" and isinstance(self.content, list) and any(part.media for part in self.content):
            raise ValueError("images and files belong to a message of role user")
        return self

    @property
    def chars(self) -> int:
        """Characters that cost tokens. Images and PDFs are left out: each provider counts them in its own way."""
        content = self.content or ""
        texts = [content] if isinstance(content, str) else [part.text or "" for part in content]
        return sum(map(len, texts)) + sum(len(call.function.arguments) for call in self.tool_calls or ())


class DumpsMessage(Protocol):
    """A message as an object that can be dumped in OpenAI's format: our `Message`, or one of OpenAI's library."""

    def model_dump(self) -> dict[str, Any]: ...


def as_plain(messages: str | Iterable[Mapping[str, Any] | DumpsMessage]) -> Any:
    """The messages of a Python program as plain data; a text is one message of the user's. What is no list of them, as
    a single one is not, stays as it is: it is refused where the request is read."""
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    return [_dumped(message) for message in messages] if _is_listing(messages) else messages


def plain_paths(files: Iterable[str | os.PathLike[str]] | None) -> Any:
    """The paths of a Python program as texts; what is no list of them stays as it is."""
    if not _is_listing(files):
        return files
    return [os.fspath(file) if isinstance(file, os.PathLike) else file for file in files]


def _is_listing(value: Any) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | BaseModel)


def _dumped(message: Any) -> Any:
    """A message as plain data, with the tool calls and parts in it."""
    if isinstance(message, Mapping):
        return {
            key: [_dumped_part(part) for part in value] if isinstance(value, list | tuple) else value
            for key, value in message.items()
        }
    return _dumped_part(message)


def _dumped_part(value: Any) -> Any:
    dump = None if isinstance(value, type) else getattr(value, "model_dump", None)
    return dump() if callable(dump) else value


def _as_json(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("is no JSON") from error
    return schema


Schema = Annotated[dict[str, Any], AfterValidator(_as_json)]


class Function(Value):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str = Field(pattern=_TOOL_NAME)
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Value):
    """A tool in OpenAI's function-calling format."""

    type: Literal["function"]
    function: Function


class NamedFunction(Value):
    """The name of the one function that the model must call."""

    name: str


class NamedTool(Value):
    """A `tool_choice` that names one function."""

    type: Literal["function"]
    function: NamedFunction


def _choice_kind(value: Any) -> str:
    return "<word>" if isinstance(value, str) else "<named>"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")] | Annotated[NamedTool, Tag("<named>")],
    Discriminator(_choice_kind),
]


class JSONSchema(Value):
    """A named JSON schema that the answer must follow."""

    name: str = Field(pattern=_TOOL_NAME)
    description: str | None = None
    schema_: Schema = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Value):
    """What the answer must look like: plain text, any JSON object, or JSON by a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.json_schema is None) is (self.type == "json_schema"):
            raise ValueError("json_schema goes with the type json_schema, and only with it")
        return self
