"""How each argument of a call looks in each provider's format of requests, by the providers' documentation."""

# Above 400 lines: one table, an argument after the other for each format.
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from support.default_groups import IMAGE, PNG
from support.provider_tables import (
    ABSENT,
    PRESENT,
    Expected,
    Is,
    Late,
    Path,
    Refused,
    Sent,
    either,
    fits,
    one_of,
    or_absent,
    says,
)

TIMEOUT_S = 3.0  # enough that a request has gone out, on a machine that is busy with much else
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather now.", "parameters": PARAMETERS},
}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
PLACE = {
    "type": "object",
    "properties": {"street": {"type": "string"}},
    "required": ["street"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {"home": {"$ref": "#/$defs/place"}, "work": {"$ref": "#/$defs/place"}},
    "required": ["home", "work"],
    "additionalProperties": False,
    "$defs": {"place": PLACE},
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "places", "schema": SCHEMA, "strict": True}}
A, B = "call_9f8e7d6c5b4a", "call_1a2b3c4d5e6f"
ARGUMENTS = {"city": "Oslo"}
OTHER_ARGUMENTS = {"city": "Rome"}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def call(call_id: str, arguments: dict[str, str]) -> dict[str, Any]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": json.dumps(arguments)},
    }


def result(call_id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


HISTORY = [
    user("Hello"),
    {"role": "assistant", "content": None, "tool_calls": [call(A, ARGUMENTS)]},
    result(A, "12 °C"),
]
PARALLEL = [
    user("Hello"),
    {"role": "assistant", "content": None, "tool_calls": [call(A, ARGUMENTS), call(B, OTHER_ARGUMENTS)]},
    result(A, "12 °C"),
    result(B, "24 °C"),
]

# What a call has beside its group; a message where it says nothing else.
CALLS: Mapping[str, Mapping[str, Any]] = {
    "system": {"messages": [{"role": "system", "content": "Be brief."}, user("Hello")]},
    "multi-turn": {"messages": [user("Hello"), {"role": "assistant", "content": "Hi."}, user("And you?")]},
    "tools": {"tools": [TOOL]},
    "tool_choice auto": {"tools": [TOOL], "tool_choice": "auto"},
    "tool_choice none": {"tools": [TOOL], "tool_choice": "none"},
    "tool_choice required": {"tools": [TOOL], "tool_choice": "required"},
    "tool_choice named": {"tools": [TOOL], "tool_choice": NAMED},
    "tool history": {"messages": HISTORY, "tools": [TOOL]},
    "parallel calls": {"messages": PARALLEL, "tools": [TOOL]},
    "json_object": {"response_format": {"type": "json_object"}, "messages": [user("Answer in JSON.")]},
    "json_schema with refs": {"response_format": FORMAT},
    "json_schema and tools": {"response_format": FORMAT, "tools": [TOOL]},
    "images": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": IMAGE}}],
            }
        ]
    },
    "max_tokens": {"max_tokens": 77},
    "no max_tokens": {},
    "temperature": {"temperature": 0.2},
    "effort": {},
    "effort of the call": {"effort": "high"},
    "timeout": {},
}


def _means(schema: Any, of: Any) -> bool:
    """Whether a schema asks for two places with a street, by reference or written out."""
    if isinstance(schema, str):
        schema = json.loads(schema)
    if not isinstance(schema, dict):
        return False

    def resolved(part: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in part:
            return part
        *_, kind, name = part["$ref"].split("/")
        found = schema.get(kind, {}).get(name, {})
        return found if isinstance(found, dict) else {}

    places = [resolved(schema.get("properties", {}).get(name, {})) for name in ("home", "work")]
    return all(str(place.get("properties", {}).get("street", {}).get("type")).lower() == of for place in places)


THE_SCHEMA = Is("the schema", lambda schema: _means(schema, "string"))
TOOL_PARAMETERS = Is(
    "the parameters",
    lambda schema: (
        isinstance(schema, dict)
        and str(schema.get("properties", {}).get("city", {}).get("type")).lower() == "string"
        and schema.get("required") == ["city"]
    ),
)


def json_of(value: Any) -> Is:
    """A JSON text of this value."""

    def holds(text: Any) -> bool:
        return isinstance(text, str) and fits(value, json.loads(text))

    return Is(f"the JSON {json.dumps(value)}", holds)


# Some servers refuse the rest of a schema that OpenAI knows, such as `additionalProperties`, and are not sent it.
SENT_TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather now.", "parameters": TOOL_PARAMETERS},
}


# -- OpenAI's chat completions -----------------------------------------------------------------------------------------


def chat_call(call_id: Any, arguments: dict[str, str]) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": json_of(arguments)}
    return {"id": call_id, "type": or_absent("function"), "function": function}


def chat_history(one: Any = A, other: Any = B) -> dict[str, Expected]:
    hello = {"role": "user", "content": says("Hello")}
    no_content = or_absent(one_of(None, ""))
    called = {"role": "assistant", "content": no_content, "tool_calls": [chat_call(one, ARGUMENTS)]}
    calls = [chat_call(one, ARGUMENTS), chat_call(other, OTHER_ARGUMENTS)]
    both = {"role": "assistant", "content": no_content, "tool_calls": calls}
    answers = [
        {"role": "tool", "tool_call_id": one, "content": says("12 °C")},
        {"role": "tool", "tool_call_id": other, "content": says("24 °C")},
    ]
    return {
        "tool history": Sent({"messages": [hello, called, answers[0]], "tools": [SENT_TOOL]}),
        "parallel calls": Sent({"messages": [hello, both, *answers], "tools": [SENT_TOOL]}),
    }


EITHER_LIMIT = Is(
    "max_tokens or max_completion_tokens, 77",
    lambda body: sorted((body[key] for key in ("max_tokens", "max_completion_tokens") if key in body), key=str) == [77],
)
NO_LIMIT = {"max_tokens": ABSENT, "max_completion_tokens": ABSENT}

CHAT: Mapping[str, Expected] = {
    "system": Sent(
        {"messages": [{"role": "system", "content": says("Be brief.")}, {"role": "user", "content": says("Hello")}]}
    ),
    "multi-turn": Sent(
        {
            "messages": [
                {"role": "user", "content": says("Hello")},
                {"role": "assistant", "content": says("Hi.")},
                {"role": "user", "content": says("And you?")},
            ]
        }
    ),
    "tools": Sent({"tools": [SENT_TOOL], "tool_choice": or_absent("auto")}),
    "tool_choice auto": Sent({"tools": [SENT_TOOL], "tool_choice": or_absent("auto")}),
    "tool_choice none": either(
        Sent({"tools": [SENT_TOOL], "tool_choice": "none"}), Sent({"tools": ABSENT, "tool_choice": ABSENT})
    ),
    "tool_choice required": Sent({"tools": [SENT_TOOL], "tool_choice": "required"}),
    "tool_choice named": Sent({"tools": [SENT_TOOL], "tool_choice": NAMED}),
    **chat_history(),
    "json_object": Sent({"response_format": {"type": "json_object"}}),
    "json_schema with refs": Sent(
        {"response_format": {"type": "json_schema", "json_schema": {"name": "places", "schema": THE_SCHEMA}}}
    ),
    "json_schema and tools": Sent(
        {
            "response_format": {"type": "json_schema", "json_schema": {"name": "places", "schema": THE_SCHEMA}},
            "tools": [SENT_TOOL],
            "tool_choice": or_absent("auto"),
        }
    ),
    "images": Sent(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {"type": "image_url", "image_url": one_of({"url": IMAGE}, IMAGE)},
                    ],
                }
            ]
        }
    ),
    "max_tokens": Sent(EITHER_LIMIT),
    "no max_tokens": Sent(NO_LIMIT),
    "temperature": Sent({"temperature": 0.2}),
    "effort": Sent({"reasoning_effort": "high"}),
    "timeout": Late(TIMEOUT_S),
}
ONLY_MAX_TOKENS = Sent({"max_tokens": 77, "max_completion_tokens": ABSENT})


# -- OpenAI's responses ------------------------------------------------------------------------------------------------


def item(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": says(text)}


FLAT_TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather now.",
    "parameters": TOOL_PARAMETERS,
}
FLAT_CALL = {"type": "function_call", "call_id": A, "name": "get_weather", "arguments": json_of(ARGUMENTS)}
OUTPUT = {"type": "function_call_output", "call_id": A, "output": says("12 °C")}
OTHER_CALL = {"type": "function_call", "call_id": B, "name": "get_weather", "arguments": json_of(OTHER_ARGUMENTS)}
OTHER_OUTPUT = {"type": "function_call_output", "call_id": B, "output": says("24 °C")}
TEXT_FORMAT = {"format": {"type": "json_schema", "name": "places", "schema": THE_SCHEMA}}

RESPONSES: Mapping[str, Expected] = {
    "system": either(
        Sent({"instructions": says("Be brief."), "input": [item("user", "Hello")]}),
        Sent({"input": [item("system", "Be brief."), item("user", "Hello")]}),
        Sent({"input": [item("developer", "Be brief."), item("user", "Hello")]}),
    ),
    "multi-turn": Sent({"input": [item("user", "Hello"), item("assistant", "Hi."), item("user", "And you?")]}),
    "tools": Sent({"tools": [FLAT_TOOL], "tool_choice": or_absent("auto")}),
    "tool_choice auto": Sent({"tools": [FLAT_TOOL], "tool_choice": or_absent("auto")}),
    "tool_choice none": either(
        Sent({"tools": [FLAT_TOOL], "tool_choice": "none"}), Sent({"tools": ABSENT, "tool_choice": ABSENT})
    ),
    "tool_choice required": Sent({"tools": [FLAT_TOOL], "tool_choice": "required"}),
    "tool_choice named": Sent(
        {"tools": [FLAT_TOOL], "tool_choice": {"type": "function", "name": "get_weather", "function": ABSENT}}
    ),
    "tool history": Sent({"input": [item("user", "Hello"), FLAT_CALL, OUTPUT], "tools": [FLAT_TOOL]}),
    "parallel calls": either(
        Sent({"input": [item("user", "Hello"), FLAT_CALL, OTHER_CALL, OUTPUT, OTHER_OUTPUT], "tools": [FLAT_TOOL]}),
        Sent({"input": [item("user", "Hello"), FLAT_CALL, OUTPUT, OTHER_CALL, OTHER_OUTPUT], "tools": [FLAT_TOOL]}),
    ),
    "json_object": Sent({"text": {"format": {"type": "json_object"}}}),
    "json_schema with refs": Sent({"text": TEXT_FORMAT}),
    "json_schema and tools": Sent({"text": TEXT_FORMAT, "tools": [FLAT_TOOL]}),
    "images": Sent(
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What?"},
                        {"type": "input_image", "image_url": IMAGE},
                    ],
                }
            ]
        }
    ),
    "max_tokens": Sent({"max_output_tokens": 77, "max_tokens": ABSENT}),
    "no max_tokens": Sent({"max_output_tokens": ABSENT}),
    "temperature": Sent({"temperature": ABSENT}, noted="temperature"),  # codex takes none
    "effort": Sent({"reasoning": {"effort": "high"}}),
    "timeout": Late(TIMEOUT_S),
}


# -- Anthropic's messages ----------------------------------------------------------------------------------------------

ANTHROPIC_TOOL = {"name": "get_weather", "description": "The weather now.", "input_schema": TOOL_PARAMETERS}
TOOL_USE = {"type": "tool_use", "id": A, "name": "get_weather", "input": ARGUMENTS}
OTHER_TOOL_USE = {"type": "tool_use", "id": B, "name": "get_weather", "input": OTHER_ARGUMENTS}
TOOL_RESULT = {"type": "tool_result", "tool_use_id": A, "content": says("12 °C")}
OTHER_TOOL_RESULT = {"type": "tool_result", "tool_use_id": B, "content": says("24 °C")}
HELLO = {"role": "user", "content": says("Hello")}
NATIVE = one_of(
    {"output_config": {"format": {"type": "json_schema", "schema": THE_SCHEMA}}},
    {"output_format": {"type": "json_schema", "schema": THE_SCHEMA}},
)


def _asks_for_json(body: Any) -> bool:
    """Beside what the user has said: a schema, a tool that stands for the answer, or a word in the instructions."""
    if fits({"output_config": {"format": PRESENT}}, body) or fits({"output_format": PRESENT}, body):
        return True
    return "json" in json.dumps([body.get("system"), body.get("tools"), body.get("toolConfig")]).lower()


ASKS_FOR_JSON = Is("something that asks for JSON", _asks_for_json)
LONGEST = Is("128000", lambda limit: limit == 128_000)  # of Claude Sonnet 4.6

MESSAGES: Mapping[str, Expected] = {
    "system": Sent({"system": says("Be brief."), "messages": [HELLO]}),
    "multi-turn": Sent(
        {
            "messages": [
                HELLO,
                {"role": "assistant", "content": says("Hi.")},
                {"role": "user", "content": says("And you?")},
            ]
        }
    ),
    "tools": Sent({"tools": [ANTHROPIC_TOOL], "tool_choice": or_absent({"type": "auto"})}),
    "tool_choice auto": Sent({"tools": [ANTHROPIC_TOOL], "tool_choice": or_absent({"type": "auto"})}),
    "tool_choice none": either(
        Sent({"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "none"}}),
        Sent({"tools": ABSENT, "tool_choice": ABSENT}),
    ),
    "tool_choice required": Sent({"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "any"}}),
    "tool_choice named": Sent({"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "tool", "name": "get_weather"}}),
    "tool history": Sent(
        {
            "messages": [
                HELLO,
                {"role": "assistant", "content": [TOOL_USE]},
                {"role": "user", "content": [TOOL_RESULT]},
            ],
            "tools": [ANTHROPIC_TOOL],
        }
    ),
    "parallel calls": Sent(
        {
            "messages": [
                HELLO,
                {"role": "assistant", "content": [TOOL_USE, OTHER_TOOL_USE]},
                {"role": "user", "content": [TOOL_RESULT, OTHER_TOOL_RESULT]},
            ],
            "tools": [ANTHROPIC_TOOL],
        }
    ),
    "json_object": Sent(ASKS_FOR_JSON),
    "json_schema with refs": Sent(NATIVE),
    "json_schema and tools": Sent(
        Is("the schema, and the tool", lambda body: fits(NATIVE, body) and fits([ANTHROPIC_TOOL], body.get("tools")))
    ),
    "images": Sent(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                    ],
                }
            ]
        }
    ),
    "max_tokens": Sent({"max_tokens": 77}),
    "no max_tokens": Sent({"max_tokens": LONGEST}),
    "temperature": Sent({"temperature": 0.2}),
    "effort": Sent({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
    "timeout": Late(TIMEOUT_S),
}

# On Vertex it has no format for schemas, and answers no longer than this.
FORCED = Is(
    "a tool with the schema, which it has to call",
    lambda body: (
        any(fits({"input_schema": THE_SCHEMA}, tool) for tool in body.get("tools", ()))
        and fits({"type": one_of("tool", "any")}, body.get("tool_choice"))
    ),
)
VERTEX_MESSAGES: Mapping[str, Expected] = {
    **MESSAGES,
    "json_schema with refs": either(Sent(NATIVE), Sent(FORCED)),
    "json_schema and tools": either(
        MESSAGES["json_schema and tools"],
        Sent(Is("the schema as a tool, and the tool", lambda body: FORCED.holds(body) and len(body["tools"]) == 2)),
    ),
    "no max_tokens": Sent({"max_tokens": 64_000}),
}


# -- Google's generateContent ------------------------------------------------------------------------------------------

DECLARED = {
    "name": "get_weather",
    "description": "The weather now.",
    "parameters": or_absent(TOOL_PARAMETERS),
    "parametersJsonSchema": or_absent(TOOL_PARAMETERS),
}
GOOGLE_TOOLS = [{"functionDeclarations": [DECLARED]}]


def calling(mode: Any, **more: Any) -> dict[str, Any]:
    return {"functionCallingConfig": {"mode": mode, **more}}


# Gemini 3 refuses a history whose first call of a turn has no signature; a placeholder of its own stands for one.
FUNCTION_CALL = {"functionCall": {"name": "get_weather", "args": ARGUMENTS}, "thoughtSignature": PRESENT}
OTHER_FUNCTION_CALL = {"functionCall": {"name": "get_weather", "args": OTHER_ARGUMENTS}}


def response(text: str) -> dict[str, Any]:
    holds = Is(f"an object with {text!r}", lambda value: isinstance(value, dict) and text in map(str, value.values()))
    return {"functionResponse": {"name": "get_weather", "response": holds}}


def content(role: Any, *parts: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


GOOGLE_SCHEMA = one_of(
    {"responseMimeType": "application/json", "responseSchema": THE_SCHEMA},
    {"responseMimeType": "application/json", "responseJsonSchema": THE_SCHEMA},
)
GOOGLE_HELLO = content("user", {"text": "Hello"})
RESULTS = one_of("user", "function")

GENERATE: Mapping[str, Expected] = {
    "system": Sent({"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": [GOOGLE_HELLO]}),
    "multi-turn": Sent(
        {"contents": [GOOGLE_HELLO, content("model", {"text": "Hi."}), content("user", {"text": "And you?"})]}
    ),
    "tools": Sent({"tools": GOOGLE_TOOLS, "toolConfig": or_absent(calling("AUTO"))}),
    "tool_choice auto": Sent({"tools": GOOGLE_TOOLS, "toolConfig": or_absent(calling("AUTO"))}),
    "tool_choice none": either(
        Sent({"tools": GOOGLE_TOOLS, "toolConfig": calling("NONE")}), Sent({"tools": ABSENT, "toolConfig": ABSENT})
    ),
    "tool_choice required": Sent({"tools": GOOGLE_TOOLS, "toolConfig": calling("ANY")}),
    "tool_choice named": Sent(
        {"tools": GOOGLE_TOOLS, "toolConfig": calling("ANY", allowedFunctionNames=["get_weather"])}
    ),
    "tool history": Sent(
        {"contents": [GOOGLE_HELLO, content("model", FUNCTION_CALL), content(RESULTS, response("12 °C"))]}
    ),
    "parallel calls": Sent(
        {
            "contents": [
                GOOGLE_HELLO,
                content("model", FUNCTION_CALL, OTHER_FUNCTION_CALL),
                content(RESULTS, response("12 °C"), response("24 °C")),
            ]
        }
    ),
    "json_object": Sent({"generationConfig": {"responseMimeType": "application/json"}}),
    "json_schema with refs": Sent({"generationConfig": GOOGLE_SCHEMA}),
    "json_schema and tools": Sent({"generationConfig": GOOGLE_SCHEMA, "tools": GOOGLE_TOOLS}),
    "images": Sent(
        {"contents": [content("user", {"text": "What?"}, {"inlineData": {"mimeType": "image/png", "data": PNG}})]}
    ),
    "max_tokens": Sent({"generationConfig": {"maxOutputTokens": 77}}),
    "no max_tokens": Sent({"generationConfig": or_absent({"maxOutputTokens": ABSENT})}),
    "temperature": Sent({"generationConfig": {"temperature": 0.2}}),
    "effort": Sent({"generationConfig": {"thinkingConfig": {"thinkingLevel": one_of("high", "HIGH")}}}),
    "timeout": Late(TIMEOUT_S),
}


# -- Bedrock's converse, with Claude -----------------------------------------------------------------------------------

TOOL_SPEC = {
    "toolSpec": {
        "name": "get_weather",
        "description": "The weather now.",
        "inputSchema": {"json": TOOL_PARAMETERS},
    }
}
USE = {"toolUse": {"toolUseId": A, "name": "get_weather", "input": ARGUMENTS}}
OTHER_USE = {"toolUse": {"toolUseId": B, "name": "get_weather", "input": OTHER_ARGUMENTS}}


def use_result(call_id: str, text: str) -> dict[str, Any]:
    return {"toolResult": {"toolUseId": call_id, "content": [{"text": text}]}}


def config(choice: Any) -> dict[str, Any]:
    return {"toolConfig": {"tools": [TOOL_SPEC], "toolChoice": choice}}


BEDROCK_HELLO = {"role": "user", "content": [{"text": "Hello"}]}
STRUCTURED = Is(
    "the schema, native or as a forced tool",
    lambda body: (
        fits(
            {
                "outputConfig": {
                    "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": THE_SCHEMA}}}
                }
            },
            body,
        )
        or fits({"additionalModelRequestFields": NATIVE}, body)
        or any(
            fits({"toolSpec": {"inputSchema": {"json": THE_SCHEMA}}}, tool)
            for tool in body.get("toolConfig", {}).get("tools", ())
        )
    ),
)

CONVERSE: Mapping[str, Expected] = {
    "system": Sent({"system": [{"text": "Be brief."}], "messages": [BEDROCK_HELLO]}),
    "multi-turn": Sent(
        {
            "messages": [
                BEDROCK_HELLO,
                {"role": "assistant", "content": [{"text": "Hi."}]},
                {"role": "user", "content": [{"text": "And you?"}]},
            ]
        }
    ),
    "tools": Sent(config(or_absent({"auto": {}}))),
    "tool_choice auto": Sent(config(or_absent({"auto": {}}))),
    "tool_choice none": Sent({"toolConfig": ABSENT}),  # converse has no word for it
    "tool_choice required": Sent(config({"any": {}})),
    "tool_choice named": Sent(config({"tool": {"name": "get_weather"}})),
    "tool history": Sent(
        {
            "messages": [
                BEDROCK_HELLO,
                {"role": "assistant", "content": [USE]},
                {"role": "user", "content": [use_result(A, "12 °C")]},
            ],
            "toolConfig": {"tools": [TOOL_SPEC]},
        }
    ),
    "parallel calls": Sent(
        {
            "messages": [
                BEDROCK_HELLO,
                {"role": "assistant", "content": [USE, OTHER_USE]},
                {"role": "user", "content": [use_result(A, "12 °C"), use_result(B, "24 °C")]},
            ],
            "toolConfig": {"tools": [TOOL_SPEC]},
        }
    ),
    "json_object": Sent(ASKS_FOR_JSON),
    "json_schema with refs": Sent(STRUCTURED),
    "json_schema and tools": Sent(
        Is(
            "the schema, and the tool",
            lambda body: STRUCTURED.holds(body) and "get_weather" in json.dumps(body["toolConfig"]),
        )
    ),
    "images": Sent(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"text": "What?"}, {"image": {"format": "png", "source": {"bytes": PNG}}}],
                }
            ]
        }
    ),
    "max_tokens": Sent({"inferenceConfig": {"maxTokens": 77}}),
    "no max_tokens": Sent({"inferenceConfig": or_absent({"maxTokens": or_absent(LONGEST)})}),
    "temperature": Sent({"inferenceConfig": {"temperature": 0.2}}),
    "effort": Sent(
        {"additionalModelRequestFields": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}}
    ),
    "timeout": Late(TIMEOUT_S),
}


# -- Ollama: its own chat, or OpenAI's with it -------------------------------------------------------------------------


def native_call(arguments: dict[str, str]) -> dict[str, Any]:
    return {"function": {"name": "get_weather", "arguments": arguments}}


def native(messages: list[dict[str, Any]]) -> Sent:
    return Sent({"messages": messages, "tools": [SENT_TOOL]})


NATIVE_CHAT: Mapping[str, Sent] = {
    "tool history": native(
        [HELLO, {"role": "assistant", "tool_calls": [native_call(ARGUMENTS)]}, {"role": "tool", "content": "12 °C"}]
    ),
    "parallel calls": native(
        [
            HELLO,
            {"role": "assistant", "tool_calls": [native_call(ARGUMENTS), native_call(OTHER_ARGUMENTS)]},
            {"role": "tool", "content": "12 °C"},
            {"role": "tool", "content": "24 °C"},
        ]
    ),
    "json_object": Sent({"format": "json"}),
    "json_schema with refs": Sent({"format": THE_SCHEMA}),
    "json_schema and tools": Sent({"format": THE_SCHEMA, "tools": [SENT_TOOL]}),
    "images": Sent({"messages": [{"role": "user", "content": "What?", "images": [PNG]}]}),
    "max_tokens": Sent({"options": {"num_predict": 77}}),
    "no max_tokens": Sent({"options": or_absent({"num_predict": ABSENT}), **NO_LIMIT}),
    "temperature": Sent({"options": {"temperature": 0.2}}),
    "effort": Sent({"think": one_of(True, "high")}),
}
# It reads no tool_choice, so that it is not asked where one matters.
OLLAMA: Mapping[str, Expected] = {
    **CHAT,
    **NATIVE_CHAT,
    "tool_choice none": Sent({"tools": ABSENT}),
    "tool_choice required": Refused("unsupported"),
    "tool_choice named": Refused("unsupported"),
}


# -- the others: OpenAI's format, but for some -------------------------------------------------------------------------


def _nine(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 9 and value.isalnum() and value.isascii()


NINE = Is("nine letters and digits", _nine)  # Mistral refuses any other id of a call
SENT_OR_SAID = either(Sent({"reasoning_effort": "high"}), Sent({"reasoning_effort": ABSENT}, noted="reasoning_effort"))
NO_SCHEMA = Refused("unsupported")
NO_IMAGES = Refused("unsupported")

MISTRAL: Mapping[str, Expected] = {
    **CHAT,
    **chat_history(NINE, NINE),
    "tool_choice required": Sent({"tools": [SENT_TOOL], "tool_choice": one_of("any", "required")}),
    "max_tokens": ONLY_MAX_TOKENS,
}
COHERE_SCHEMA = {"response_format": {"type": "json_object", "json_schema": THE_SCHEMA}}
COHERE: Mapping[str, Expected] = {
    **CHAT,
    "tools": Sent({"tools": [SENT_TOOL], "tool_choice": ABSENT}),
    "tool_choice auto": Sent({"tools": [SENT_TOOL], "tool_choice": ABSENT}),
    "tool_choice none": either(
        Sent({"tools": [SENT_TOOL], "tool_choice": "NONE"}), Sent({"tools": ABSENT, "tool_choice": ABSENT})
    ),
    "tool_choice required": either(Sent({"tools": [SENT_TOOL], "tool_choice": "REQUIRED"}), Refused("unsupported")),
    "tool_choice named": either(Sent({"tools": [SENT_TOOL], "tool_choice": "REQUIRED"}), Refused("unsupported")),
    "json_object": either(Sent({"response_format": {"type": "json_object"}}), Refused("unsupported")),
    "json_schema with refs": either(Sent(COHERE_SCHEMA), NO_SCHEMA),
    "json_schema and tools": either(Sent({**COHERE_SCHEMA, "tools": [SENT_TOOL]}), NO_SCHEMA),
    "images": NO_IMAGES,
    "max_tokens": ONLY_MAX_TOKENS,
    "effort": either(
        Sent({"thinking": {"type": "enabled"}}), Sent({"reasoning_effort": ABSENT}, noted="reasoning_effort")
    ),
}


def thinking(path: Path) -> tuple[str, Mapping[str, Any]]:
    return path.thinks or path.model, {"reasoning_effort": "high"}


def that_could_think(path: Path) -> tuple[str, Mapping[str, Any]]:
    return path.thinks or path.model, {}
