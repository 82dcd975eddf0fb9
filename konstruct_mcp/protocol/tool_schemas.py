"""The two tools, as they are listed.

The schemas are written by hand and kept short, because every assistant carries them in its context: they tell a model
how to call, while `Request` decides what is accepted. A test holds the two against each other.
"""

from __future__ import annotations

from typing import get_args

from mcp import types

from konstruct_mcp.core.effort import Effort
from konstruct_mcp.gateway.views import Choice
from konstruct_mcp.protocol.instructions import group_argument

_CLAUDE_CODES_MOST = 500_000  # characters that a tool may have it show


def complete_tool(choice: Choice, *, names_tenant: bool = True, reads_on: bool = False) -> types.Tool:
    """The tool `complete`, with the groups that a caller may ask for. Long, because it is one table.

    Args:
        choice: what the caller may ask for.
        names_tenant: whether a call may name its tenant; that of a verified caller is known.
        reads_on: whether the client's model is offered the argument `read`.
    """
    continued = {"continue": {"type": "string", "description": "a result's thread; send only the new messages"}}
    thread = {"thread": {"type": "string"}}
    reading = {
        "read": {"type": "string", "description": "truncated.uri, to go on in a cut answer; only with offset"},
        "offset": {"type": "integer", "description": "its next_offset"},
    }
    files = {"files": {"type": "array", "items": {"type": "string"}, "description": "absolute paths, sent with it"}}
    tenant_id = {"tenant_id": {"type": "string", "description": "whose account; leave out unless told"}}
    return types.Tool(
        name="complete",
        title="Konstruct: ask another model",
        description="Get a completion from another language model, through Konstruct.",
        input_schema={
            "type": "object",
            "properties": {
                "messages": {
                    "type": "array",
                    "minItems": 1,
                    "description": "The whole conversation, in OpenAI's format",
                    "items": {
                        "type": "object",
                        "properties": {
                            "role": {"type": "string", "enum": ["system", "developer", "user", "assistant", "tool"]},
                            "content": {
                                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}],
                                "description": "text, or parts: {type: text, text} and, from the user, "
                                "{type: image_url, image_url: {url: data:image/png;base64,...}}",
                            },
                            "tool_calls": {
                                "type": "array",
                                "items": {"type": "object"},
                                "description": "of an assistant message, as complete returned them",
                            },
                            "tool_call_id": {"type": "string", "description": "of a tool message"},
                        },
                        "required": ["role"],
                    },
                },
                "model_group": group_argument(choice),
                "tools": {"type": "array", "items": {"type": "object"}, "description": "OpenAI function tools"},
                "tool_choice": {
                    "anyOf": [{"type": "string", "enum": ["auto", "none", "required"]}, {"type": "object"}],
                    "description": "an object names one function (OpenAI format)",
                },
                "response_format": {"type": "object", "description": "OpenAI format: json_object or json_schema"},
                "max_tokens": {"type": "integer", "minimum": 1},
                "temperature": {"type": "number", "minimum": 0, "maximum": 2},
                "effort": {"type": "string", "enum": list(get_args(Effort))},
                "timeout_s": {"type": "number", "description": "seconds for the whole call"},
                **(continued if choice.has_threads else {}),
                **(files if choice.takes_files else {}),
                **(tenant_id if names_tenant else {}),
                **(reading if reads_on else {}),
            },
            **({} if reads_on else {"required": ["messages"]}),
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "content": {"type": "string"},
                "tool_calls": {"type": "array", "items": {"type": "object"}},
                "finish_reason": {"type": "string"},
                "model_group": {"type": "string"},
                "served_group": {"type": "string", "description": "differs after a fallback"},
                "model": {"type": "string"},
                "attempts": {"type": "array", "items": {"type": "object"}, "description": "failed tries"},
                "usage": {"type": "object"},
                "cost_usd": {"anyOf": [{"type": "number"}, {"type": "null"}], "description": "null: unknown"},
                "at_most_usd": {"type": "number"},
                "duration_ms": {"type": "integer"},
                **(thread if choice.has_threads else {}),
                "notes": {"type": "array", "items": {"type": "string"}, "description": "what was left out or changed"},
                "files": {"type": "array", "items": {"type": "object"}},
                "truncated": {"type": "object", "description": "what was cut; read uri for the whole"},
            },
            "required": ["content"],  # all that there is where `read` goes on in an answer
        },
        # Clients run a tool that changes nothing several times at once. That it reaches an open world is understood.
        annotations=types.ToolAnnotations(
            read_only_hint=choice.parallel_calls, destructive_hint=None if choice.parallel_calls else False
        ),
        # Claude Code's: the tool is there in the first turn, and its results are not cut before `cuts` would.
        _meta={"anthropic/alwaysLoad": True, "anthropic/maxResultSizeChars": _CLAUDE_CODES_MOST},
    )


LIST_GROUPS_TOOL = types.Tool(
    name="list_groups",
    title="Konstruct: list model groups",
    description="Konstruct's model groups: deployments, prices, abilities, and what can be called now.",
    input_schema={"type": "object", "properties": {}, "additionalProperties": False},
    output_schema={
        "type": "object",
        "properties": {
            "default_group": {"type": "string"},
            "groups": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["default_group", "groups"],
    },
    annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
)
