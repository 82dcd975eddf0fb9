"""A request that is ready for one deployment, and the changes that it makes to the body that LiteLLM writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from konstruct_mcp.providers.litellm.formats.draft import merged

_FENCE = "```"


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request that is ready for one deployment.

    Attributes:
        messages: in OpenAI's format.
        options: LiteLLM's arguments.
        body: what is laid over the body that LiteLLM makes, object by object; for Ollama the whole body.
        places: where in `body` each parameter stands that could be left out; empty where LiteLLM puts them there.
        schemas: parameters of tools that LiteLLM would cut, by the tool's name.
        notes: what was left out or is done in another way, one line each.
        in_words: whether JSON is asked for in the prompt, so that it may come in a code fence.
        outputs: what the model itself had put out in an earlier turn, by the id of the turn's first call.
        names: of the tools in their order, where LiteLLM would change them, as it does on Bedrock with a hyphen.
    """

    messages: list[dict[str, Any]]
    options: dict[str, Any]
    body: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    schemas: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    in_words: bool = False
    outputs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    names: Sequence[str] = ()

    @property
    def is_shaped(self) -> bool:
        """Whether `shape` changes anything."""
        return bool(self.body or self.schemas or self.outputs or self.names)

    def shape(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body to send, made from the one that LiteLLM has written; changes that one too."""
        # Not strict: LiteLLM may append cache points to the tools.
        for tool, name in zip(_tools_in(body), self.names, strict=False):
            tool["name"] = name
        if self.body:
            body = merged(body, self.body)
        if self.schemas:
            for tool in _tools_in(body):
                if (schema := self.schemas.get(tool.get("name", ""))) is not None:
                    _set_schema(tool, schema)
        for message in body.get("messages", ()) if self.outputs else ():
            _restore_output(message, self.outputs)
        return body

    def read(self, content: str) -> str:
        """The text of an answer, without the code fence around JSON that was asked for in the prompt."""
        text = content.strip()
        if not (self.in_words and text.startswith(_FENCE) and text.endswith(_FENCE)):
            return content
        language, ended, within = text.removeprefix(_FENCE).removesuffix(_FENCE).partition("\n")
        return within.strip() if ended and language.strip().lower() in ("", "json") else content


def _tools_in(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The tools of a body in Anthropic's, Gemini's or Bedrock's format."""
    for tool in body.get("tools") or (body.get("toolConfig") or {}).get("tools") or ():
        yield from tool.get("function_declarations") or (tool.get("toolSpec") or tool,)


def _set_schema(tool: dict[str, Any], schema: Any) -> None:
    if "input_schema" in tool:
        tool["input_schema"] = schema
    elif "inputSchema" in tool:
        tool["inputSchema"] = {"json": schema}
    else:
        tool.pop("parameters", None)
        tool["parametersJsonSchema"] = schema


def _restore_output(message: dict[str, Any], outputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Make a turn in Anthropic's format what the model had put out, with the calls under the ids that the results
    refer to."""
    content = message.get("content")
    blocks = [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []
    ids = [block.get("id") for block in blocks if block.get("type") == "tool_use"]
    output = outputs.get(ids[0] or "", ()) if ids else ()
    if sum(block.get("type") == "tool_use" for block in output) == len(ids) > 0:
        own = iter(ids)
        message["content"] = [
            {**block, "id": next(own)} if block.get("type") == "tool_use" else dict(block) for block in output
        ]
