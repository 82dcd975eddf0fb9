"""What goes out is never more than what was reserved for: the request itself, on every provider path and in every shape
of it; the longest answer, wherever a config has a default; and what is charged where a provider's counts are none.

A path's group costs a nano-dollar for each token sent and nothing for those answered, so that what is left of a budget
tells how many were reserved for, where the provider counts nothing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path as File
from typing import Any

import pytest
from support.default_groups import IMAGE, PNG, entry, opened, schema_format
from support.event_loop import SLOWDOWN
from support.expected_requests import FORMAT, HISTORY, PARALLEL, TOOL, user
from support.provider_tables import PATHS, FakedPaths, Path, faked_paths
from support.providers import Changed, Text

from konstruct_mcp import InvalidArgumentError, Konstruct
from konstruct_mcp.core.requests import Request

BUDGET = {"usd": 1000, "per": "total"}
TENANTS = {"default": {}, "bound": {"budgets": [BUDGET]}}
PRICED = {"input_cost_per_token": 1e-9, "output_cost_per_token": 0}
ALSO = (
    Path("Bedrock Nova", "bedrock", "bedrock/us.amazon.nova-pro-v1:0"),
    Path("Bedrock Invoke", "bedrock", "bedrock/invoke/anthropic.claude-sonnet-4-20250514-v1:0"),
    Path("Gemini of budgets", "gemini", "gemini/gemini-2.5-flash"),
    Path("Bedrock Claude of budgets", "bedrock", "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    # LiteLLM goes by the name, and writes each reference out; we go by what the config says is behind it.
    Path(
        "Vertex, another's name",
        "vertex",
        "vertex_ai/gemini-2.5-flash",
        info={"base_model": "house", "supports_response_schema": True, "supports_function_calling": True},
    ),
)
EVERY = (*PATHS, *ALSO)
UNBOUNDED = "xAI"  # bills its reasoning beyond `max_tokens`


@pytest.fixture
async def konstruct(tmp_path: File) -> AsyncIterator[Konstruct]:
    """One that asks nobody."""
    nobody = entry("it", {"model": "openai/it", "api_base": "http://127.0.0.1:9"})
    ledger = {"ledger_url": f"sqlite:///{tmp_path}/ledger.sqlite3"}
    async with opened(tmp_path, {"model_list": [nobody], "konstruct": ledger}) as konstruct:
        yield konstruct


def priced(path: Path) -> tuple[str, Mapping[str, Any]]:
    return path.model, PRICED


def that_thinks(path: Path) -> tuple[str, Mapping[str, Any]]:
    return path.thinks or path.model, PRICED


# -- the request -------------------------------------------------------------------------------------------------------


def doubling(depth: int, home: str = "$defs") -> dict[str, Any]:
    """A schema that has 2^depth leaves, written out."""
    parts: dict[str, Any] = {f"d{depth}": {"type": "string"}}
    for i in range(depth):
        below = {"$ref": f"#/{home}/d{i + 1}"}
        parts[f"d{i}"] = {"type": "object", "properties": {"a": below, "b": below}, "additionalProperties": False}
    return {"type": "object", "properties": {"top": {"$ref": f"#/{home}/d0"}}, home: parts, "required": ["top"]}


def used(times: int) -> dict[str, Any]:
    """A definition of two kilobytes that is used so many times."""
    part = {"type": "object", "properties": {f"property_{i}": {"type": "string", "title": "T"} for i in range(40)}}
    return {
        "type": "object",
        "properties": {f"x{i}": {"$ref": "#/$defs/part"} for i in range(times)},
        "$defs": {"part": part},
    }


def each_other(parts: int, home: str = "$defs", refs: int = 0) -> dict[str, Any]:
    """A schema whose parts refer to one another, each to each."""
    others = {f"p{i}": {"$ref": f"#/{home}/d{i % parts}"} for i in range(refs or parts)}
    return {"type": "object", "properties": others, home: {f"d{i}": {"properties": others} for i in range(parts)}}


def tool(schema: Mapping[str, Any], name: str = "look", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema, **more}}


def turns(calls: int, name: str = "look", arguments: str = "{}", result: str = "x") -> list[dict[str, Any]]:
    """A conversation in which a tool was called so many times."""
    said = [user("Go.")]
    for i in range(calls):
        called = {"id": f"c{i}", "type": "function", "function": {"name": f"{name}{i}", "arguments": arguments}}
        said += [
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": f"c{i}", "content": result},
        ]
    return said


ANY = {"type": "object", "properties": {}}
STRANGE = 'ß日本語\U0001f600"\\\n\x01' * 30
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "hello": {},
    "effort": {"effort": "max", "max_tokens": 40_000},
    "schema with refs": {"response_format": FORMAT},
    "schema that grows": {"response_format": schema_format(doubling(7))},
    "schema that grows, of old": {"response_format": schema_format(doubling(7, "definitions"))},
    "schema used 60 times": {"response_format": schema_format(used(60))},
    "tool that grows": {"tools": [tool(doubling(7))]},
    "tool that grows, of old": {"tools": [tool(doubling(7, "definitions"))]},
    "tool used 60 times": {"tools": [tool(used(60))]},
    "tool of recursion": {"tools": [tool(each_other(4))]},
    "tool of recursion, of old": {"tools": [tool(each_other(2, "definitions", 3))]},
    "schema of recursion": {"response_format": schema_format(each_other(4))},
    "both": {"tools": [tool(doubling(6)), TOOL], "response_format": schema_format(doubling(6))},
    "schema in words": {"tools": [TOOL], "response_format": schema_format({"description": STRANGE, "properties": {}})},
    "history": {"messages": HISTORY, "tools": [TOOL]},
    "parallel calls": {"messages": PARALLEL, "tools": [TOOL]},
    "long history": {"messages": turns(40, arguments=json.dumps({"a": STRANGE}), result=STRANGE), "tools": [TOOL]},
    "many small calls": {"messages": turns(100), "tools": [TOOL]},
    "calls of tools that are gone": {"messages": turns(60, "n")},
    "text that JSON escapes": {"messages": [user(STRANGE * 20)]},
    "many small messages": {"messages": [{"role": role, "content": "a"} for role in ("user", "assistant") * 150]},
    "of the assistant alone": {"messages": [{"role": "assistant", "content": "a"}] * 300},
    "of the system": {"messages": [*[{"role": "system", "content": "a"}] * 200, user("a")]},
    "in parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 200}]},
    "images": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "?"}, *[{"type": "image_url", "image_url": {"url": IMAGE}}] * 3],
            }
        ]
    },
    "many tools": {"tools": [tool(ANY, f"t{i}", description=STRANGE) for i in range(60)], "tool_choice": "none"},
    "tools that say little": {"tools": [tool(ANY, f"t{i}") for i in range(100)]},
}
ALL_AT_ONCE = {
    "messages": [
        {"role": "system", "content": STRANGE},
        *turns(10, arguments=json.dumps({"a": STRANGE}), result=STRANGE),
        *({"role": role, "content": "a"} for role in ("assistant", "user") * 30),
    ],
    "tools": [
        tool(doubling(6)),
        tool(used(20), "used"),
        tool(each_other(2, "definitions", 3), "recursion"),  # which LiteLLM would make megabytes of
        TOOL,
    ],
    "response_format": schema_format(doubling(6)),
}


def counting_nothing(body: dict[str, Any]) -> None:
    for name in ("usage", "usageMetadata", "prompt_eval_count", "eval_count"):
        body.pop(name, None)


async def flaws_of(world: FakedPaths, path: Path, shape: Mapping[str, Any], variant: str = "priced") -> str | None:
    """What is wrong with what was reserved for a request of this shape; None where it was not sent."""
    world.providers[path.name].script(Changed(Text("Yes."), counting_nothing))
    before = await world.left_nusd("bound")
    call = {"messages": [user("Hello")], "max_tokens": 50, **shape}
    seen = await world.call(path, variant, tenant_id="bound", **call)
    if seen.outcome == "unsupported" and not seen.requests and "grew" not in seen.said:
        return None
    if seen.outcome != "ok":
        return seen.said
    reserved = before - await world.left_nusd("bound")
    sent = sum(int(request.headers["content-length"]) for request in seen.requests)
    images = sum(json.dumps(request.body).count(PNG) * len(PNG) for request in seen.requests)
    return "" if 0 < sent - images <= reserved else f"{sent} bytes sent, {reserved} reserved for"


async def flaws_of_thoughts(world: FakedPaths, path: Path) -> str | None:
    """The same where a model gets back what it has thought before its calls."""
    called = ("call_0f1e2d3c4b5a6978", "get_weather", '{"city": "Oslo"}')
    world.providers[path.name].script(Text(None, tool_calls=[called], reasoning=STRANGE.replace("\x01", " ") * 20))
    seen = await world.call(path, "priced", tenant_id="bound", messages=[user("Hello")], tools=[TOOL], max_tokens=50)
    if seen.outcome != "ok":
        return seen.said
    calls = seen.result["tool_calls"]
    result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": "12 °C"}
    messages = [user("Hello"), {"role": "assistant", "content": None, "tool_calls": calls}, result]
    return await flaws_of(world, path, {"messages": messages, "tools": [TOOL]})


# -- the longest answer ------------------------------------------------------------------------------------------------

LARGER, ASKED = 30_000, 77
IN_A_BODY = {
    **dict.fromkeys(
        ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "n_predict"), LARGER
    ),
    "options": {"num_predict": LARGER},
    "generationConfig": {"maxOutputTokens": LARGER},
    "inferenceConfig": {"maxTokens": LARGER},
}
# Where a config may have a default that is larger than what a call asks for.
PLACES: Mapping[str, Mapping[str, Any]] = {
    **{f"a {name}": {name: LARGER} for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")},
    **{f"a {name} of its own": {name: LARGER} for name in ("num_predict", "max_new_tokens", "maxTokens")},
    **{f"in {name}": {name: IN_A_BODY[name]} for name in ("options", "generationConfig", "inferenceConfig")},
    **{f"in extra_body, {name}": {"extra_body": {name: value}} for name, value in IN_A_BODY.items()},
    "in text": {"max_completion_tokens": str(LARGER)},
    "no limit at all": {"extra_body": {"max_tokens": None}, "num_predict": -1},
}
EVERYWHERE = {**IN_A_BODY, "extra_body": IN_A_BODY}
BOUNDED = {name: LARGER for name in IN_A_BODY if isinstance(IN_A_BODY[name], int)} | PRICED
LIMIT = re.compile(r'"(\w*(?:tokens|predict)\w*)": (\d+|null|-\d+)', re.IGNORECASE)


async def flaws_of_limit(world: FakedPaths, path: Path, place: str, tenant_id: str) -> str:
    seen = await world.call(path, place, tenant_id=tenant_id, messages=[user("Hello")], max_tokens=ASKED)
    if seen.outcome != "ok":
        return seen.said
    sent = LIMIT.findall(json.dumps(seen.body))
    return "" if [value for _, value in sent] == [str(ASKED)] else f"sent {sent}"


# -- what is counted ---------------------------------------------------------------------------------------------------


def each_count(value: Any) -> Callable[[dict[str, Any]], None]:
    """Puts this in the place of each number that an answer counts."""

    def spoil(counts: dict[str, Any]) -> None:
        for name, count in counts.items():
            if isinstance(count, dict):
                spoil(count)
            elif isinstance(count, int):
                counts[name] = value

    def change(body: dict[str, Any]) -> None:
        for name in ("usage", "usageMetadata"):
            spoil(body.get(name) or {})
        body.update({name: value for name in ("prompt_eval_count", "eval_count") if name in body})

    return change


def in_place_of_all(value: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        body.update({name: value for name in ("usage", "usageMetadata") if name in body})
        body.update({name: value for name in ("prompt_eval_count", "eval_count") if name in body})

    return change


def of_the_cache(body: dict[str, Any]) -> None:
    for name in ("usage", "usageMetadata"):
        if name in body:
            details: Mapping[str, Any] = {"cached_tokens": []}
            body[name] |= {"prompt_tokens_details": details, "input_tokens_details": details, "cache_creation": "x"}
            body[name] |= {"cachedContentTokenCount": [], "cacheReadInputTokens": []}


UNUSABLE: Mapping[str, Callable[[dict[str, Any]], None]] = {
    **{repr(value): each_count(value) for value in (1.5, "7", True, -1, 10**9, 10**30, [1], {"a": 1}, float("inf"))},
    **{f"usage {value!r}": in_place_of_all(value) for value in ("x", [1], 5.5, True)},
}


async def flaws_of_count(world: FakedPaths, path: Path, change: Callable[[dict[str, Any]], None]) -> str:
    provider = world.providers[path.name]
    call: Mapping[str, Any] = {"tenant_id": "bound", "messages": [user("Hello")], "max_tokens": 50}
    left = [await world.left_nusd("bound")]
    for body in (counting_nothing, change):
        provider.script(Changed(Text("Yes."), body))
        seen = await world.call(path, "priced", **call)
        left.append(await world.left_nusd("bound"))
    if seen.outcome != "ok" or seen.result["content"] != "Yes.":
        return seen.said or "another answer"
    if (seen.result["cost_usd"], "usage unknown" in seen.notes) != (None, True):
        return f"{seen.result}"
    return "" if left[1] - left[2] == left[0] - left[1] > 0 else f"{left}"


# -- on every path -----------------------------------------------------------------------------------------------------


async def test_no_path_sends_or_is_charged_more_than_was_reserved_for(subtests: pytest.Subtests) -> None:
    """All of each kind at once; the long form has each by itself."""
    sent = set()
    variants = {
        "priced": priced,
        "thinking": that_thinks,
        "everywhere": lambda path: (path.model, EVERYWHERE),
        "bounded": lambda path: (path.model, BOUNDED),
    }
    async with faked_paths(EVERY, variants, tenants=TENANTS) as world:
        for path in EVERY:
            with subtests.test(f"{path.name}, a larger limit"):
                assert not await flaws_of_limit(world, path, "everywhere", "default")
            if path.name == UNBOUNDED:
                continue
            with subtests.test(f"{path.name}, a larger limit and a budget"):
                assert not await flaws_of_limit(world, path, "bounded", "bound")
            with subtests.test(f"{path.name}, 1.5 tokens"):
                assert not await flaws_of_count(world, path, UNUSABLE["1.5"])
            with subtests.test(f"{path.name}, effort"):
                assert not await flaws_of(world, path, SHAPES["effort"], "thinking")
            with subtests.test(f"{path.name}, the request"):
                if (flaw := await flaws_of(world, path, ALL_AT_ONCE)) is not None:
                    sent.add(path.name)
                    assert not flaw
    assert {path.name for path in EVERY} - sent == {UNBOUNDED, "Cohere"}  # which takes no schema


@pytest.mark.minutes
@pytest.mark.timeout(600)  # s; a thousand calls, on a machine that is busy with much else
async def test_no_path_sends_more_than_was_reserved_for_in_any_shape(subtests: pytest.Subtests) -> None:
    sent = 0
    async with faked_paths(EVERY, {"priced": priced}, tenants=TENANTS) as world:
        for path in EVERY:
            for name, shape in SHAPES.items():
                with subtests.test(f"{path.name}, {name}"):
                    if path.name != UNBOUNDED and (flaw := await flaws_of(world, path, shape)) is not None:
                        sent += 1
                        assert not flaw
            with subtests.test(f"{path.name}, thoughts"):
                assert path.name == UNBOUNDED or not await flaws_of_thoughts(world, path)
    assert sent > 0.9 * (len(EVERY) - 1) * len(SHAPES)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_call_limits_its_answer_wherever_a_config_has_a_larger_default(subtests: pytest.Subtests) -> None:
    def at(place: str) -> Callable[[Path], tuple[str, Mapping[str, Any]]]:
        return lambda path: (path.model, PLACES[place])

    async with faked_paths(EVERY, {place: at(place) for place in PLACES}) as world:
        for path in EVERY:
            for place in PLACES:
                with subtests.test(f"{path.name}, {place}"):
                    assert not await flaws_of_limit(world, path, place, "default")


@pytest.mark.minutes
@pytest.mark.timeout(600)
async def test_an_answer_whose_counts_are_none_is_an_answer_for_what_was_reserved(subtests: pytest.Subtests) -> None:
    async with faked_paths(EVERY, {"priced": priced}, tenants=TENANTS) as world:
        for path in EVERY:
            for name, change in UNUSABLE.items():
                if path.name != UNBOUNDED:
                    with subtests.test(f"{path.name}, {name}"):
                        assert not await flaws_of_count(world, path, change)
            if path.name not in (UNBOUNDED, "Ollama", "Cohere"):  # these have no cache
                with subtests.test(f"{path.name}, of the cache"):
                    assert not await flaws_of_count(world, path, of_the_cache)


# -- what is kept back ------------------------------------------------------------------------------------------------

# What an engine makes more of than it was sent: a name that goes out with each result, numbers in more digits.
NAMED_OFTEN = [
    user("Go."),
    {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "n" * 5000, "arguments": "{}"}}],
    },
    *[{"role": "tool", "tool_call_id": "c", "content": "x"}] * 50,
]
DIGITS = turns(1, arguments=json.dumps({"numbers": 0}).replace("0", f"[{','.join(['1e15'] * 3000)}]"))
TITLED = tool({"type": "object", "properties": {"x": {"anyOf": [{"type": "string"}] * 50, "title": "t" * 5000}}})
GROWING: Mapping[str, Mapping[str, Any]] = {
    "Gemini": {"messages": NAMED_OFTEN, "tools": [TOOL]},
    "Ollama": {"messages": NAMED_OFTEN, "tools": [TOOL]},
    "Anthropic": {"messages": DIGITS, "tools": [TOOL]},
    "Bedrock": {"messages": DIGITS, "tools": [TOOL]},
    "Vertex, another's name": {"messages": [user("Go.")], "tools": [TITLED]},
}


async def test_what_became_larger_than_was_reserved_for_is_not_sent(subtests: pytest.Subtests) -> None:
    paths = [path for path in EVERY if path.name in GROWING]
    async with faked_paths(paths, {"priced": priced}, tenants=TENANTS) as world:
        before = await world.left_nusd("bound")
        for path in paths:
            with subtests.test(path.name):
                call = {"max_tokens": 50, **GROWING[path.name]}
                seen = await world.call(path, "priced", tenant_id="bound", **call)
                assert (seen.outcome, seen.requests) == ("unsupported", ())
                assert re.search(r"not asked: its request grew to [\d,]+ bytes on the way, and what is", seen.said)
                # Whom no budget binds may send it, and the deployment is none the worse for it.
                assert (await world.call(path, "priced", **call)).outcome == "ok"
        assert await world.left_nusd("bound") == before
        assert {one.state for group in world.groups() for one in group.deployments} == {"ready"}


async def test_recursion_within_definitions_is_written_out_once() -> None:
    """LiteLLM by itself copies what has grown in them: of 500 bytes megabytes, and of a few more it does not end."""
    [path] = [path for path in ALSO if path.name == "Vertex, another's name"]
    async with faked_paths((path,)) as world:
        await world.call(path, messages=[user("Hello")])  # so that nothing is loaded for the next one
        began = time.process_time()
        seen = await world.call(path, messages=[user("Hello")], tools=[tool(each_other(2, "definitions", 3))])
        assert seen.outcome == "ok"
        assert time.process_time() - began < 0.5  # s; it takes a twentieth of that, and else a second


# -- at the door ------------------------------------------------------------------------------------------------------


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


TOO_MUCH = "its references ($ref) make too much of it"
ENDLESS: Mapping[str, tuple[dict[str, Any], str]] = {
    "doubles 24 times": (doubling(24), TOO_MUCH),
    "doubles 15 times": (doubling(15), TOO_MUCH),
    "doubles, of old": (doubling(24, "definitions"), TOO_MUCH),
    "doubles under another name": (
        {"type": "object", "properties": {"x": {"$ref": "#/nowhere/d0"}}, "$defs": doubling(24)["$defs"]},
        TOO_MUCH,
    ),
    "doubles by its own properties": (
        {
            "type": "object",
            "properties": {
                **{f"p{i}": {"anyOf": [{"$ref": f"#/properties/p{i + 1}"}] * 2} for i in range(20)},
                "p20": {},
            },
        },
        TOO_MUCH,
    ),
    "definitions in a property": ({"type": "object", "properties": {"x": doubling(24)}}, TOO_MUCH),
    "each to each other": (each_other(9), TOO_MUCH),
    "many to itself": ({"$ref": "#/$defs/d", "$defs": {"d": {"anyOf": [{"$ref": "#/$defs/d"}] * 20_000}}}, TOO_MUCH),
    "used 2,000 times": (used(2000), TOO_MUCH),
    "a long way": (
        {"$ref": "#/$defs/d0", "$defs": {f"d{i}": {"items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(60)}},
        "nested more than 100 levels deep where its references",
    ),
    "400 levels": (nested(400), "is nested more than 100 levels deep"),
    "100,000 levels": (nested(100_000), "is nested more than 100 levels deep"),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_schema_without_end_is_refused_by_its_place(konstruct: Konstruct, name: str) -> None:
    schema, why = ENDLESS[name]
    began = time.thread_time()
    with pytest.raises(InvalidArgumentError) as of_a_tool:
        await konstruct.complete("Hi", tools=[TOOL, tool(schema)])
    with pytest.raises(InvalidArgumentError) as of_the_answer:
        await konstruct.complete("Hi", response_format=schema_format(schema))
    for place in ({"tools": [TOOL, tool(schema)]}, {"response_format": schema_format(schema)}):
        with pytest.raises(InvalidArgumentError):  # in this thread: what is large was read in another
            Request.parse({"messages": [user("Hi")], **place})
    assert time.thread_time() - began < SLOWDOWN  # s; a fifth of it on a machine that does nothing else

    assert of_a_tool.value.message.startswith("tools[1].function.parameters")
    assert of_the_answer.value.message.startswith("response_format.json_schema.schema")
    assert why in of_a_tool.value.message
    assert why in of_the_answer.value.message


async def test_schemas_are_counted_together(konstruct: Konstruct) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"^invalid_argument: tools\[\d+\].function.parameters: its references"
    ):
        await konstruct.complete("Hi", tools=[tool(doubling(8), f"t{i}") for i in range(50)])


@pytest.mark.parametrize("where", ["messages", "tool_choice", "tools"])
async def test_nothing_is_nested_without_end(konstruct: Konstruct, where: str) -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidArgumentError, match="is nested more than 100 levels deep"):
        await konstruct.complete(**{"messages": [user("Hi")], where: deep})


@pytest.mark.parametrize(
    "schema",
    [
        nested(49),
        doubling(10),
        used(150),
        each_other(4),
        {"type": "object", "properties": {"next": {"$ref": "#"}, "others": {"items": {"$ref": "#"}}}},
        {"type": "object", "properties": {"$ref": {"type": "string"}}},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
    ],
    ids=["deep", "doubles", "used often", "each to each other", "to itself", "a name", "elsewhere"],
)
def test_what_ends_is_taken(schema: dict[str, Any]) -> None:
    said = {"messages": [user("Hi")], "tools": [tool(schema)], "response_format": schema_format(schema)}
    assert Request.parse(said).tools is not None
