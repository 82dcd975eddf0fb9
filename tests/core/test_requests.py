"""What a request may be: every argument parses or is refused in one line that names it and quotes nothing."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.request_strategies import requests, unhurried

from konstruct_mcp import InvalidArgumentError
from konstruct_mcp.core.requests import Limits, Request

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
USER = {"role": "user", "content": "Hi"}
FIELDS = [
    "max_tokens",
    "messages",
    "model_group",
    "response_format",
    "temperature",
    "tenant_id",
    "timeout_s",
    "tool_choice",
    "tools",
]


def refusal(arguments: dict[str, Any]) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        Request.parse(arguments)
    return caught.value.message


def part(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [fields]}]}


def image(url: Any, **fields: Any) -> dict[str, Any]:
    return part(type="image_url", image_url={"url": url, **fields})


def tool(name: Any = "weather", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


NO_DATA_URL = "only data: URLs are accepted (data:image/png;base64,…; png, jpeg, gif or webp)"
NO_MESSAGES = 'messages: should be a list of messages: [{"role": "user", "content": "…"}]'
BAD_TENANT = "tenant_id: should be 1 to 128 letters, digits or any of . _ : @ -"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    # messages
    "no messages": ({}, "messages: required, but missing"),
    "none of them": ({"messages": []}, "messages: should have at least 1 item, not 0"),
    "a text": ({"messages": "Hi"}, NO_MESSAGES),
    "a text that is no JSON": (
        {"messages": '[{"role": "user"'},
        "messages: came as a text that is no valid JSON; send it as JSON",
    ),
    "JSON text nested too deep": (
        {"messages": "[" * 100_000},
        "messages: came as a text that is no valid JSON; send it as JSON",
    ),
    "tools as JSON text that are wrong": (
        {"messages": [USER], "tools": '[{"type": "web_search"}]'},
        "tools[0].type: should be 'function'; tools[0].function: required, but missing",
    ),
    "a tool's answer to an empty call": (
        {"messages": [{"role": "tool", "content": "rain", "tool_call_id": None}]},
        "messages[0]: a message of role tool needs tool_call_id",
    ),
    "one message": ({"messages": USER}, NO_MESSAGES),
    "texts": ({"messages": ["Hi"]}, "messages[0]: should be an object"),
    "no role": ({"messages": [{"content": "Hi"}]}, "messages[0].role: required, but missing"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0]: a message of role user needs content"),
    "null content": (
        {"messages": [{"role": "assistant", "content": None}]},
        "messages[0]: a message of role assistant needs content",
    ),
    "no parts": (
        {"messages": [{"role": "user", "content": []}]},
        "messages[0].content: should have at least 1 item, not 0",
    ),
    "a number": ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content: should be a valid string"),
    # roles
    "another role": (
        {"messages": [USER, {"role": "function", "content": "Hi"}]},
        "messages[1].role: should be 'system', 'developer', 'user', 'assistant' or 'tool'",
    ),
    "a tool's answer to no call": (
        {"messages": [{"role": "tool", "content": "rain"}]},
        "messages[0]: a message of role tool needs tool_call_id",
    ),
    "an id on another role": (
        {"messages": [{**USER, "tool_call_id": "call_1"}]},
        "messages[0]: tool_call_id belongs to a message of role tool",
    ),
    "calls by a user": (
        {
            "messages": [
                {**USER, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
            ]
        },
        "messages[0]: tool_calls belong to a message of role assistant",
    ),
    "a call with an object for its arguments": (
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}]}
            ]
        },
        "messages[0].tool_calls[0].function.arguments: should be a valid string",
    ),
    "an unknown field of a message": (
        {"messages": [{**USER, "mood": "glad"}]},
        "messages[0].mood: unknown field",
    ),
    # parts
    "a part of another type": (
        part(type="audio"),
        "messages[0].content[0].type: should be 'text', 'image_url' or 'file'",
    ),
    "a part of no type": (part(text="Hi"), "messages[0].content[0].type: required, but missing"),
    "a part without its text": (
        part(type="text"),
        "messages[0].content[0]: a part of type text has the field text and no other",
    ),
    "a part with both": (
        part(type="text", text="Hi", image_url={"url": PNG}),
        "messages[0].content[0]: a part of type text has the field text and no other",
    ),
    "an image in a system message": (
        {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}]},
        "messages[0]: images and files belong to a message of role user",
    ),
    # data URLs
    "an http URL": (image("http://example.com/cat.png"), f"messages[0].content[0].image_url.url: {NO_DATA_URL}"),
    "a file": (image("file:///etc/passwd"), f"messages[0].content[0].image_url.url: {NO_DATA_URL}"),
    "an SVG": (
        image("data:image/svg+xml;base64,PHN2Zz4="),
        f"messages[0].content[0].image_url.url: {NO_DATA_URL}",
    ),
    "an unencoded image": (image("data:image/png,abc"), f"messages[0].content[0].image_url.url: {NO_DATA_URL}"),
    "bad base64": (image(PNG + "*"), "messages[0].content[0].image_url.url: is not valid base64"),
    "base64 in other letters": (image(PNG + "ü"), "messages[0].content[0].image_url.url: is not valid base64"),
    "a detail that does not exist": (
        image(PNG, detail="highest"),
        "messages[0].content[0].image_url.detail: should be 'auto', 'low' or 'high'",
    ),
    "a URL without its object": (
        part(type="image_url", image_url=PNG),
        "messages[0].content[0].image_url: should be an object",
    ),
    # tools
    "tools of another kind": (
        {"messages": [USER], "tools": [{"type": "web_search"}]},
        "tools[0].type: should be 'function'; tools[0].function: required, but missing",
    ),
    "a tool's name with a space": (
        {"messages": [USER], "tools": [tool("the weather")]},
        "tools[0].function.name: should match pattern '^[A-Za-z0-9_-]{1,64}$'",
    ),
    "a tool's name with a line end": (
        {"messages": [USER], "tools": [tool("weather\n")]},
        "tools[0].function.name: should match pattern '^[A-Za-z0-9_-]{1,64}$'",
    ),
    "two tools of one name": (
        {"messages": [USER], "tools": [tool(), tool()]},
        "tools: two have the same name",
    ),
    "parameters that are no schema": (
        {"messages": [USER], "tools": [tool(parameters="none")]},
        "tools[0].function.parameters: should be an object",
    ),
    # tool_choice
    "a choice without tools": (
        {"messages": [USER], "tool_choice": "auto"},
        "tool_choice: there are no tools to choose from",
    ),
    "a choice that does not exist": (
        {"messages": [USER], "tools": [tool()], "tool_choice": "any"},
        "tool_choice: should be 'none', 'auto' or 'required'",
    ),
    "a choice of no tool of these": (
        {"messages": [USER], "tools": [tool()], "tool_choice": tool("clock")},
        "tool_choice.function.name: names no tool of this request",
    ),
    "a choice of another form": (
        {"messages": [USER], "tools": [tool()], "tool_choice": 7},
        "tool_choice: should be an object",
    ),
    # response_format
    "a format that does not exist": (
        {"messages": [USER], "response_format": {"type": "xml"}},
        "response_format.type: should be 'text', 'json_object' or 'json_schema'",
    ),
    "a schema that is missing": (
        {"messages": [USER], "response_format": {"type": "json_schema"}},
        "response_format: json_schema goes with the type json_schema, and only with it",
    ),
    "a schema too many": (
        {
            "messages": [USER],
            "response_format": {"type": "json_object", "json_schema": {"name": "city", "schema": {}}},
        },
        "response_format: json_schema goes with the type json_schema, and only with it",
    ),
    "a schema without its schema": (
        {"messages": [USER], "response_format": {"type": "json_schema", "json_schema": {"name": "city"}}},
        "response_format.json_schema.schema: required, but missing",
    ),
    # tenant_id
    "a tenant with a space": ({"messages": [USER], "tenant_id": "a b"}, BAD_TENANT),
    "a tenant with a line end": ({"messages": [USER], "tenant_id": "acme\n"}, BAD_TENANT),
    "a tenant of other letters": ({"messages": [USER], "tenant_id": "müller"}, BAD_TENANT),
    "a long tenant": ({"messages": [USER], "tenant_id": "a" * 129}, BAD_TENANT),
    "a tenant by number": ({"messages": [USER], "tenant_id": 7}, "tenant_id: should be a valid string"),
    # numbers
    "no tokens": ({"messages": [USER], "max_tokens": 0}, "max_tokens: should be greater than or equal to 1"),
    "a text of tokens": ({"messages": [USER], "max_tokens": "7"}, "max_tokens: should be a valid integer"),
    "true tokens": ({"messages": [USER], "max_tokens": True}, "max_tokens: should be a valid integer"),
    "half a token": ({"messages": [USER], "max_tokens": 0.5}, "max_tokens: should be a valid integer"),
    "too hot": ({"messages": [USER], "temperature": 2.1}, "temperature: should be less than or equal to 2"),
    "below zero": ({"messages": [USER], "temperature": -1}, "temperature: should be greater than or equal to 0"),
    "no time": ({"messages": [USER], "timeout_s": 0}, "timeout_s: should be greater than 0"),
    "more than a day": ({"messages": [USER], "timeout_s": 86401}, "timeout_s: should be less than or equal to 86400"),
    # the rest
    "an unknown field": ({"messages": [USER], "stream": True}, "stream: unknown field"),
    "a group by number": ({"messages": [USER], "model_group": 7}, "model_group: should be a valid string"),
    "three at once": (
        {"messages": [{"role": "user", "content": 7}], "temperature": "hot", "seed": 1},
        "messages[0].content: should be a valid string; temperature: should be a valid number; seed: unknown field",
    ),
}


@pytest.mark.parametrize(("arguments", "line"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused_in_a_line_that_names_it(arguments: dict[str, Any], line: str) -> None:
    assert refusal(arguments) == line


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["max_tokens", "temperature", "timeout_s"])
def test_what_is_no_number_at_all_is_refused(field: str, number: float) -> None:
    assert refusal({"messages": [USER], field: number}).startswith(f"{field}: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), {1, 2}, b"", date(2026, 1, 31)])
def test_a_schema_that_is_no_json_is_refused(value: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number", "maximum": value}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    asked = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
    for field, value in (("tools", [tool]), ("response_format", asked)):
        refused = refusal({"messages": [USER], field: value})
        assert refused.startswith(field)
        assert refused.endswith("is no JSON")


@unhurried
@given(requests())
def test_a_valid_request_comes_out_as_it_went_in(asked: dict[str, Any]) -> None:
    for holder, key in [(asked, "tools"), *((message, "tool_calls") for message in asked["messages"])]:
        if holder.get(key) == []:  # an empty list asks for nothing, and is kept as nothing
            holder[key] = None
    assert Request.parse(asked).model_dump(exclude_unset=True, by_alias=True) == asked


@unhurried
@given(requests())
def test_a_request_knows_whether_it_has_images(asked: dict[str, Any]) -> None:
    contents = [message.get("content") for message in asked["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    assert Request.parse(asked).has_images is any(part["type"] == "image_url" for part in parts)


# Anything at all.

_KEYS = ["role", "content", "tool_calls", "tool_call_id", "type", "text", "image_url", "url", "function", "name", "id"]
MARK = "ZQX"  # in every text of what follows, and in no message of ours
_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text().map(lambda text: MARK + text)
    | st.sampled_from(["user", "tool", "text", "image_url", "function", "json_schema"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@unhurried
@given(st.dictionaries(st.sampled_from(FIELDS), _anything))
def test_any_arguments_parse_or_are_refused_in_a_line_without_their_values(arguments: dict[str, Any]) -> None:
    try:
        Request.parse(arguments)
        return
    except InvalidArgumentError as error:
        message = error.message
    assert message.isprintable()
    assert MARK not in message
    for flaw in message.split("; "):
        assert re.match(rf"({'|'.join(FIELDS)})(\[\d+\]|\.[a-z_]+)*: .|and \d+ more$", flaw), flaw


@unhurried
@given(requests(), st.data())
def test_a_request_with_one_thing_wrong_is_refused_by_the_name_of_that_field(
    asked: dict[str, Any], data: st.DataObject
) -> None:
    places = list(_places(asked))
    place = data.draw(st.sampled_from(places))
    *path, last = place
    holder: Any = asked
    for step in path:
        holder = holder[step]
    holder[last] = [object()]  # no JSON, so right nowhere
    field = str(place[0])
    if field == "tools" or last in ("parameters", "schema"):
        return  # a schema may hold anything, and a choice may name a tool that has gone
    assert field in refusal(asked)


def _places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Every key of ours; what is inside a schema is the caller's."""
    if path and path[-1] in ("parameters", "schema"):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _places(inner, *path, key)


@unhurried
@given(st.text())
def test_an_unknown_field_is_named_in_one_short_line(name: str) -> None:
    if name in FIELDS:
        return
    message = refusal({"messages": [USER], name: 1})
    assert message.isprintable()
    assert message.endswith("unknown field")
    assert len(message) < 200


def test_of_a_thousand_flaws_the_first_few_are_named() -> None:
    message = refusal({"messages": [{"role": MARK}] * 1000})
    assert message.startswith("messages[0].role: should be ")
    assert re.search(r"; and \d+ more$", message)
    assert len(message) < 1000


def test_half_a_character_is_replaced_as_no_provider_takes_it() -> None:
    asked = {"messages": [{"role": "user", "content": [{"type": "text", "text": "half \ud83d a smile"}]}]}
    (message,) = Request.parse(asked).messages
    assert isinstance(message.content, list)
    assert message.content[0].text == "half \N{REPLACEMENT CHARACTER} a smile"


def test_an_image_is_not_in_the_repr_of_a_request() -> None:
    assert PNG not in repr(Request.parse(image(PNG)))


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def parsed(*messages: dict[str, Any], **arguments: Any) -> Request:
    return Request.parse({"messages": list(messages), **arguments})


def plain(request: Request) -> dict[str, Any]:
    return request.model_dump(exclude_none=True, by_alias=True)


@pytest.mark.parametrize("field", ["messages", "tools", "tool_choice", "response_format"])
def test_an_argument_that_comes_as_json_text_is_read(field: str) -> None:
    arguments: dict[str, Any] = {
        "messages": [USER],
        "tools": [tool(parameters={"type": "object"})],
        "tool_choice": tool(),
        "response_format": {"type": "json_object"},
    }
    as_text = arguments | {field: "\n " + json.dumps(arguments[field])}
    assert Request.parse(as_text) == Request.parse(arguments)


def test_half_a_character_in_json_text_is_replaced_too() -> None:
    [message] = Request.parse({"messages": '[{"role": "user", "content": "\\ud800"}]'}).messages
    assert message.content == "\N{REPLACEMENT CHARACTER}"


def test_the_text_of_a_message_stays_a_text_whatever_it_looks_like() -> None:
    assert parsed({"role": "user", "content": '[{"role": "user"}]'}).messages[0].content == '[{"role": "user"}]'


def test_what_is_empty_counts_as_left_out_where_it_may_be() -> None:
    texts = ("model_group", "tenant_id", "tool_choice", "tools", "response_format")
    empty = dict.fromkeys((*texts, "max_tokens", "temperature", "timeout_s"), "")
    assert plain(parsed({**USER, "name": "", "tool_call_id": ""}, **empty)) == {"messages": [USER]}


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert parsed(USER, max_tokens=100.0) == parsed(USER, max_tokens=100)
    assert isinstance(parsed(USER, max_tokens=100.0).max_tokens, int)


def test_a_replayed_answer_is_taken_with_its_nulls_and_notes() -> None:
    answer: dict[str, Any] = {"role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "audio": None}
    answer |= {"function_call": None, "tool_calls": None, "reasoning_content": "They greet me."}
    assert plain(parsed(USER, answer))["messages"][1] == {"role": "assistant", "content": "Hi"}
    function = {**CALL["function"], "provider_specific_fields": None}  # type: ignore[dict-item]
    call = {**CALL, "type": None, "index": 0, "function": function}
    contents: list[list[Any] | None] = [None, []]
    for content in contents:
        asked = {"role": "assistant", "content": content, "refusal": None, "tool_calls": [call]}
        assert plain(parsed(USER, asked))["messages"][1] == {
            "role": "assistant",
            "tool_calls": [{**CALL, "type": "function"}],
        }


@pytest.mark.parametrize(
    "fields", [{"content": None, "refusal": "I won't."}, {"content": [{"type": "refusal", "refusal": "I won't."}]}]
)
def test_a_refusal_is_what_the_assistant_said(fields: dict[str, Any]) -> None:
    [_, message] = parsed(USER, {"role": "assistant", **fields}).messages
    said = message.content if isinstance(message.content, str) else (message.content or [])[0].text
    assert said == "I won't."
    assert "refusal" not in json.dumps(plain(parsed(USER, {"role": "assistant", **fields})))


def test_who_speaks_may_be_named() -> None:
    assert parsed({**USER, "name": "Bob"}).messages[0].name == "Bob"
    assert parsed({"role": "developer", "content": "Be brief."}, USER).messages[0].role == "developer"


class TestLimits:
    """Of what one request may hold, whoever asks."""

    LIMITS = Limits(max_messages=3, max_parts=3, max_tool_calls=3, max_tools=3, max_values=60, max_request_chars=900)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"messages": [USER] * 4}, "messages: 4 are more than 3 (konstruct.max_messages); send "),
            ({"messages": json.dumps([USER] * 4)}, "messages: 4 are more than 3 (konstruct.max_messages); send "),
            (
                {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}] * 2},
                "messages: content: 4 are more than 3 (konstruct.max_parts); send ",
            ),
            (
                {"messages": [USER, {"role": "assistant", "tool_calls": [{}] * 4}]},
                "messages: tool_calls: 4 are more than 3 (konstruct.max_tool_calls); send ",
            ),
            ({"messages": [USER], "tools": [{}] * 4}, "tools: 4 are more than 3 (konstruct.max_tools); send "),
            (
                {"messages": [USER], "tools": [{"type": "function", "function": {"parameters": {"enum": [1] * 60}}}]},
                "tools: the 71 values of JSON of all arguments are more than 60 (konstruct.max_values); ",
            ),
            (
                {"messages": [USER], "whatever": {str(n): n for n in range(60)}},
                "whatever: the 66 values of JSON of all arguments are more than 60 (konstruct.max_values); ",
            ),
            (
                {"messages": [{"role": "user", "content": "x" * 900}]},
                "messages: the 923 characters of all arguments are more than 900 (konstruct.max_request_chars); ",
            ),
            ({f"k{n}": 1 for n in range(101)}, "101 fields, of which most are unknown"),
            ({"messages": [{f"k{n}": 1 for n in range(101)}]}, "messages[0]: 101 fields, of which most are unknown"),
            (
                {"messages": [USER], "k" * 900: 1},
                "…: the 925 characters of all arguments are more than 900 (konstruct.max_request_chars); ",
            ),
        ],
    )
    def test_what_there_is_too_much_of_is_named(self, arguments: dict[str, Any], said: str) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            Request.parse(arguments, self.LIMITS)
        assert said in caught.value.message
        assert len(caught.value.message) < 250

    def test_what_agents_send_with_a_window_of_a_million_tokens_is_taken(self) -> None:
        called = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        turn = [
            {"role": "assistant", "content": None, "tool_calls": [called, called]},
            {"role": "tool", "tool_call_id": "call_1", "content": "found"},
            {"role": "tool", "tool_call_id": "call_1", "content": "found"},
        ]
        assert len(Request.parse({"messages": [USER, *turn * 1000]}).messages) == 3001

    @pytest.mark.parametrize("most", [10**31, 10**400])
    def test_an_answer_is_no_longer_than_anybody_counts(self, most: int) -> None:
        assert refusal({"messages": [USER], "max_tokens": most}).startswith("max_tokens: should be less than")

    @pytest.mark.parametrize("halves", ["a\ud800", "\ud800", "\ud83d\ude00", "\ud83d\ude00\ud800"])
    def test_halves_of_characters_are_gone_through_in_one_pass(self, halves: str) -> None:
        text = halves * 2 + "x" * (2**18 - 3) + halves * 20_000
        read = Request.parse({"messages": [{"role": "user", "content": text}]}).messages[0].content
        assert read == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
