"""What a Python program hands to `Konstruct` and gets from it: messages, pydantic models, dates, figures."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, assert_type

import pytest
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageFunctionToolCall
from openai.types.chat.chat_completion_message_function_tool_call import Function
from pydantic import BaseModel, Field, HttpUrl, RootModel, field_validator
from support.default_groups import HELLO, entry, opened
from support.providers import Provider, Text

from konstruct_mcp import (
    Completion,
    FunctionCall,
    InvalidAnswerError,
    InvalidArgumentError,
    Konstruct,
    Message,
    ParsedCompletion,
    Spend,
    ToolCall,
    UsageReport,
)

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = ToolCall(id="call_1", function=FunctionCall(name="weather", arguments='{"city":"Oslo"}'))
CALL_SENT = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}


@pytest.fixture
async def konstruct(tmp_path: Path, openai: Provider) -> AsyncIterator[Konstruct]:
    async with opened(tmp_path, config(tmp_path, openai), {}) as konstruct:
        yield konstruct


def config(folder: Path, openai: Provider, **konstruct: Any) -> dict[str, Any]:
    return {
        "model_list": [entry("g", {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "k"})],
        "konstruct": {"ledger_url": f"sqlite:///{folder}/ledger.sqlite3", **konstruct},
    }


def sent(openai: Provider) -> list[Any]:
    messages: list[Any] = openai.requests[-1].body["messages"]
    return messages


class TestMessages:
    async def test_may_be_one_text(self, konstruct: Konstruct, openai: Provider) -> None:
        await konstruct.complete("Hello")
        assert sent(openai) == HELLO

    async def test_may_be_ours(self, konstruct: Konstruct, openai: Provider) -> None:
        asked = Message(role="user", content="Hi")
        await konstruct.complete([Message(role="system", content="Be brief."), asked])
        assert sent(openai) == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]

    async def test_may_be_those_of_openais_library(self, konstruct: Konstruct, openai: Provider) -> None:
        function = Function(name="weather", arguments='{"city":"Oslo"}')
        call = ChatCompletionMessageFunctionToolCall(id="call_1", type="function", function=function)
        answer = ChatCompletionMessage(role="assistant", content=None, tool_calls=[call])
        result = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}

        await konstruct.complete([*HELLO, answer, result])

        assert sent(openai)[1:] == [{"role": "assistant", "tool_calls": [CALL_SENT]}, result]

    async def test_may_be_mappings_with_our_tool_calls_in_them(self, konstruct: Konstruct, openai: Provider) -> None:
        result = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
        await konstruct.complete([*HELLO, {"role": "assistant", "tool_calls": (CALL,)}, result])
        assert sent(openai)[1] == {"role": "assistant", "tool_calls": [CALL_SENT]}

    async def test_of_another_kind_are_named_with_their_place(self, konstruct: Konstruct) -> None:
        class Other(BaseModel):
            text: str = "Hello"

        with pytest.raises(InvalidArgumentError, match=r"messages\[0\]\.role: required, but missing; .*text: unknown"):
            await konstruct.complete([Other()])
        with pytest.raises(InvalidArgumentError, match=r"messages\[0\]: should be an object"):
            await konstruct.complete([Other])  # type: ignore[list-item]

    @pytest.mark.parametrize("messages", [HELLO[0], Message(role="user", content="Hi"), None, 5, b"Hi"])
    async def test_are_refused_in_one_line_where_they_are_no_list(self, konstruct: Konstruct, messages: Any) -> None:
        with pytest.raises(InvalidArgumentError, match="messages: should be a list of messages: "):
            await konstruct.complete(messages)

    @pytest.mark.parametrize(
        ("files", "place"), [("notes.txt", "files"), (Path("notes.txt"), "files"), ([5], r"files\[0\]")]
    )
    async def test_have_a_list_of_files(self, konstruct: Konstruct, files: Any, place: str) -> None:
        with pytest.raises(InvalidArgumentError, match=f"{place}: should be a valid "):
            await konstruct.complete("Review this", files=files)


class TestTheMessageOfAnAnswer:
    async def test_goes_on_with_the_conversation(self, konstruct: Konstruct, openai: Provider) -> None:
        openai.script(Text("Hello, Ada."))
        messages: list[Mapping[str, Any] | Message] = [{"role": "user", "content": "I am Ada."}]

        messages.append((await konstruct.complete(messages)).message)
        messages.append({"role": "user", "content": "Who am I?"})
        await konstruct.complete(messages)

        assert [(it["role"], it["content"]) for it in sent(openai)] == [
            ("user", "I am Ada."),
            ("assistant", "Hello, Ada."),
            ("user", "Who am I?"),
        ]

    @pytest.mark.parametrize("text", ["Looking.", None])
    async def test_holds_the_tool_calls(self, konstruct: Konstruct, openai: Provider, text: str | None) -> None:
        openai.script(Text(text, tool_calls=[("call_1", "weather", '{"city":"Oslo"}')]), Text("Rain."))
        completion = await konstruct.complete(HELLO, tools=[WEATHER])
        result = {"role": "tool", "tool_call_id": completion.tool_calls[0].id, "content": "rain"}

        assert completion.message == Message(role="assistant", content=text, tool_calls=[CALL])
        answer = await konstruct.complete([*HELLO, completion.message, result], tools=[WEATHER])

        assert sent(openai)[1].get("content") == text
        assert sent(openai)[1]["tool_calls"] == [CALL_SENT]
        assert answer.content == "Rain."

    async def test_of_an_empty_answer_is_one_too(self, konstruct: Konstruct, openai: Provider) -> None:
        openai.script(Text(""))
        assert (await konstruct.complete(HELLO)).message == Message(role="assistant", content="")


class Step(BaseModel):
    text: str
    minutes: int | None = None


class Recipe(BaseModel):
    """A recipe."""

    name: Annotated[str, Field(description="as on a menu")]
    steps: list[Step]
    course: Literal["starter", "main"] = "main"
    best: Annotated[Step, Field(description="the one that matters")]


RECIPE = {"name": "Soup", "steps": [{"text": "Boil.", "minutes": 9}], "course": "starter", "best": {"text": "Boil."}}
STEP_SCHEMA = {
    "title": "Step",
    "type": "object",
    "properties": {
        "text": {"title": "Text", "type": "string"},
        "minutes": {"title": "Minutes", "anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "required": ["text", "minutes"],
    "additionalProperties": False,
}


class Node(BaseModel):
    children: list[Node] = Field(default=[], description="those beneath")


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class TestAPydanticModel:
    async def test_asks_for_an_answer_and_reads_it(self, konstruct: Konstruct, openai: Provider) -> None:
        openai.script(Text(json.dumps(RECIPE)))

        completion = await konstruct.complete("Soup?", response_format=Recipe)

        assert_type(completion, ParsedCompletion[Recipe])
        assert_type(completion.parsed, Recipe)
        assert completion.parsed == Recipe.model_validate(RECIPE)
        assert (completion.content, completion.model, completion.cost_usd is None) == (
            json.dumps(RECIPE),
            "openai/gpt-4o",
            False,
        )
        assert "parsed" not in completion.as_dict()
        assert completion.as_dict()["content"] == completion.content

    async def test_goes_out_as_a_schema_of_the_strict_mode(self, konstruct: Konstruct, openai: Provider) -> None:
        openai.script(Text(json.dumps(RECIPE)))

        await konstruct.complete("Soup?", response_format=Recipe)

        assert openai.requests[-1].body["response_format"] == {
            "type": "json_schema",
            "json_schema": {
                "name": "Recipe",
                "strict": True,
                "schema": {
                    "title": "Recipe",
                    "description": "A recipe.",
                    "type": "object",
                    "properties": {
                        "name": {"title": "Name", "type": "string", "description": "as on a menu"},
                        "steps": {"title": "Steps", "type": "array", "items": {"$ref": "#/$defs/Step"}},
                        "course": {"title": "Course", "type": "string", "enum": ["starter", "main"]},
                        "best": {**STEP_SCHEMA, "description": "the one that matters"},
                    },
                    "required": ["name", "steps", "course", "best"],
                    "additionalProperties": False,
                    "$defs": {"Step": STEP_SCHEMA},
                },
            },
        }

    @pytest.mark.parametrize(
        ("model", "answer"),
        [(Node, {"children": [{"children": []}]}), (Owner, {"pet": {"kind": "dog"}})],
    )
    async def test_may_refer_to_itself_and_choose_among_others(
        self, konstruct: Konstruct, openai: Provider, model: type[BaseModel], answer: Any
    ) -> None:
        openai.script(Text(json.dumps(answer)))

        completion = await konstruct.complete("?", response_format=model)

        assert completion.parsed == model.model_validate(answer)
        asked = openai.requests[-1].body["response_format"]["json_schema"]
        assert asked["strict"] is True
        assert all(part["additionalProperties"] is False for part in objects_in(asked["schema"]))
        assert not {"default", "oneOf", "discriminator"} & set(keys_in(asked["schema"]))

    async def test_has_bounds_in_words_that_the_strict_mode_does_not_take(
        self, konstruct: Konstruct, openai: Provider
    ) -> None:
        class Product(BaseModel):
            name: Annotated[str, Field(min_length=1, max_length=9, description="as on the shelf")]
            page: HttpUrl
            price: Decimal
            stock: Annotated[int, Field(ge=0, examples=[7])]
            made: date

        answer = {"name": "Tea", "page": "https://example.org/", "price": "2.5", "stock": 7, "made": "2026-01-31"}
        openai.script(Text(json.dumps(answer)), Text(json.dumps({**answer, "name": ""})))

        completion = await konstruct.complete("?", response_format=Product)
        with pytest.raises(InvalidAnswerError, match="name: should have at least 1 character"):
            await konstruct.complete("?", response_format=Product)

        assert completion.parsed == Product.model_validate(answer)
        asked = openai.requests[-1].body["response_format"]["json_schema"]
        assert asked["strict"] is True
        fields = asked["schema"]["properties"]
        assert fields["name"]["description"] == "as on the shelf (maxLength: 9, minLength: 1)"
        assert fields["page"]["description"] == "format: uri, maxLength: 2083, minLength: 1"
        assert fields["stock"] == {"title": "Stock", "type": "integer", "minimum": 0}
        assert fields["made"] == {"title": "Made", "type": "string", "format": "date"}
        assert not {"minLength", "maxLength", "examples"} & set(keys_in(asked["schema"]))
        assert all("pattern" not in part for part in fields["price"]["anyOf"])

    async def test_with_open_keys_is_asked_for_less_strictly(self, konstruct: Konstruct, openai: Provider) -> None:
        class Prices(BaseModel):
            of: dict[str, float]
            note: Any = None

        openai.script(Text('{"of": {"tea": 2.5}}'))

        completion = await konstruct.complete("?", response_format=Prices)

        assert completion.parsed.of == {"tea": 2.5}
        asked = openai.requests[-1].body["response_format"]["json_schema"]
        assert not asked.get("strict")
        assert asked["schema"]["properties"]["of"]["additionalProperties"] == {"type": "number"}

    async def test_with_a_schema_of_the_program_s_own_is_asked_for_less_strictly(
        self, konstruct: Konstruct, openai: Provider
    ) -> None:
        class Prices(BaseModel):
            of: Annotated[list[float], Field(json_schema_extra={"items": True})]

        openai.script(Text('{"of": [2.5]}'))
        assert (await konstruct.complete("?", response_format=Prices)).parsed.of == [2.5]
        assert not openai.requests[-1].body["response_format"]["json_schema"].get("strict")

    async def test_with_sets_is_asked_for_strictly(self, konstruct: Konstruct, openai: Provider) -> None:
        class Tags(BaseModel):
            tags: set[str]

        openai.script(Text('{"tags": ["a", "b", "a"]}'))
        assert (await konstruct.complete("?", response_format=Tags)).parsed.tags == {"a", "b"}
        asked = openai.requests[-1].body["response_format"]["json_schema"]
        assert asked["strict"] is True
        assert "uniqueItems" not in asked["schema"]["properties"]["tags"]

    async def test_has_to_be_one_of_the_program_s_own(self, konstruct: Konstruct) -> None:
        with pytest.raises(InvalidArgumentError, match="response_format: BaseModel itself has no fields"):
            await konstruct.complete("?", response_format=BaseModel)

    async def test_gives_none_where_tools_are_called(self, konstruct: Konstruct, openai: Provider) -> None:
        openai.script(Text("Looking.", tool_calls=[("call_1", "weather", '{"city":"Oslo"}')]))

        completion = await konstruct.complete("?", response_format=Recipe, tools=[WEATHER])

        assert_type(completion, ParsedCompletion[Recipe | None])
        assert completion.parsed is None
        assert completion.message.tool_calls == [CALL]

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            (Text('{"name": 1, "steps": [{"minutes": 9}]}'), "name: should be a valid string; steps[0].text: required"),
            (Text("No."), "Invalid JSON: expected"),
            (Text('{"name": "So', finish="length"), "; it was cut off: raise max_tokens"),
            (Text("", finish="content_filter"), "; it was held back by a content filter: rephrase the request"),
        ],
    )
    async def test_that_the_answer_does_not_fit_raises_with_the_answer(
        self, konstruct: Konstruct, openai: Provider, answer: Text, says: str
    ) -> None:
        openai.script(answer)

        with pytest.raises(InvalidAnswerError) as caught:
            await konstruct.complete("?", response_format=Recipe)

        assert caught.value.code == "invalid_answer"
        assert str(caught.value).startswith("invalid_answer: the answer of openai/gpt-4o does not fit Recipe: ")
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value.completion, Completion)
        assert caught.value.completion.content == answer.text
        assert (await konstruct.usage()).total.calls == 1

    async def test_whose_validator_fails_loses_no_answer(self, konstruct: Konstruct, openai: Provider) -> None:
        class Odd(BaseModel):
            name: str

            @field_validator("name")
            @classmethod
            def _is_known(cls, name: str) -> str:
                return {"Soup": "Soup"}[name]

        openai.script(Text('{"name": "Stew"}'))

        with pytest.raises(InvalidAnswerError, match="KeyError in one of its validators") as caught:
            await konstruct.complete("?", response_format=Odd)

        assert isinstance(caught.value.__cause__, KeyError)
        assert caught.value.completion.content == '{"name": "Stew"}'

    async def test_that_no_schema_can_say_is_refused_before_anybody_is_asked(
        self, konstruct: Konstruct, openai: Provider
    ) -> None:
        class Numbers(RootModel[list[int]]):
            pass

        class Code(BaseModel):
            run: Callable[[], int]

        class Plain:
            pass

        with pytest.raises(InvalidArgumentError, match=r"^invalid_argument: response_format: Numbers is no object"):
            await konstruct.complete("?", response_format=Numbers)
        with pytest.raises(InvalidArgumentError, match="response_format: Code has no JSON schema: "):
            await konstruct.complete("?", response_format=Code)
        with pytest.raises(InvalidArgumentError, match="response_format: should be an object"):
            await konstruct.complete("?", response_format=Plain)  # type: ignore[type-var]
        assert openai.calls == 0


def objects_in(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects_in(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects_in(part)


def keys_in(schema: Any) -> Iterator[str]:
    for one in objects_in({"type": "object", "all": schema}):
        yield from one
        for part in one.get("properties", {}).values():
            yield from part


class TestDates:
    async def test_bound_what_was_spent(self, konstruct: Konstruct) -> None:
        await konstruct.complete(HELLO)
        today = datetime.now(UTC).date()

        within = await konstruct.usage(since=today - timedelta(days=1), until=today + timedelta(days=1))
        before = await konstruct.usage(until=today - timedelta(days=2))

        assert (within.total.calls, before.total.calls) == (1, 0)
        assert (within.since, before.until) == (str(today - timedelta(days=1)), str(today - timedelta(days=2)))

    async def test_of_a_moment_are_those_of_utc(self, konstruct: Konstruct) -> None:
        in_tokyo = datetime(2026, 2, 1, 3, tzinfo=timezone(timedelta(hours=9)))
        report = await konstruct.usage(since=in_tokyo, until=datetime(2026, 2, 1, 3))  # noqa: DTZ001  a naive one
        assert (report.since, report.until) == ("2026-01-31", "2026-02-01")

    async def test_that_are_none_are_refused(self, konstruct: Konstruct) -> None:
        with pytest.raises(InvalidArgumentError, match="since: should be a date like"):
            await konstruct.usage(since="yesterday")
        with pytest.raises(InvalidArgumentError, match="before: should be at least 7 days ago"):
            await konstruct.prune_ledger(date.today())  # noqa: DTZ011  any day near this one

    async def test_bound_what_is_exported_and_pruned(self, konstruct: Konstruct) -> None:
        await konstruct.complete(HELLO)
        rows: list[dict[str, Any]] = []
        await konstruct.export_ledger(rows.extend, since=date(2020, 1, 1), until=date(2020, 1, 2))
        assert rows == []
        await konstruct.export_ledger(rows.extend, since=date(2020, 1, 1))
        assert len(rows) == 1
        assert await konstruct.prune_ledger(date(2020, 1, 1)) == 0


async def test_a_report_has_in_python_what_its_json_has(tmp_path: Path, openai: Provider) -> None:
    budgets = [{"usd": 5, "per": "day"}]
    async with opened(tmp_path, config(tmp_path, openai, tenants={"acme": {"budgets": budgets}}), {}) as konstruct:
        await konstruct.complete(HELLO, tenant_id="acme")
        for report in (await konstruct.usage(), await konstruct.usage("acme")):
            shown = report.as_dict()

            assert shown["total"]["cost_usd"] > 0
            assert shown["budgets"][0]["left_usd"] == pytest.approx(5 - shown["total"]["cost_usd"])
            for key, value in shown.items():
                assert plain(getattr(report, key), value) == value, key
    assert isinstance(report, UsageReport)
    [day] = report.by_day
    assert isinstance(day, Spend)
    assert day.at_most_usd == day.cost_usd


def plain(value: Any, like: Any) -> Any:
    """A value by the fields that its JSON has."""
    if isinstance(like, list):
        return [plain(item, part) for item, part in zip(value, like, strict=True)]
    if isinstance(like, dict):
        return {key: plain(getattr(value, key), part) for key, part in like.items()}
    return value
