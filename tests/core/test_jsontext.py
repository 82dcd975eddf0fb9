"""Long JSON is read as Python reads it, in steps, and no more of it than is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konstruct_mcp.core import jsontext

TEXTS = st.text(st.characters(codec=None), max_size=9)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NOISE = st.text(alphabet='{}[],:"\\ue1+-. nulltrfaseNI\n\x01é', max_size=20)


def read(text: str) -> Any:
    try:
        return repr(jsontext.read(text, 10**6, 1000)[0])
    except ValueError:
        return "no JSON"


def read_by_python(text: str) -> Any:
    try:
        return repr(json.loads(text))
    except ValueError:
        return "no JSON"


@settings(max_examples=30, deadline=None)
@given(VALUES, st.booleans(), st.integers(0, 3), st.text("a\\", max_size=9))
def test_it_reads_what_python_reads_in_whichever_window(value: Any, plain: bool, padding: int, tail: str) -> None:
    longer = ["x" * (jsontext.WINDOW - 8 + padding) + '\\"' * 3 + "\ud83d\ude00" + tail, value]
    for one in (value, longer, {"k": longer, "l": [longer] * 2}):
        text = json.dumps(one, ensure_ascii=not plain, indent=padding or None)
        assert read(text) == read_by_python(text)


@settings(max_examples=200, deadline=None)
@given(NOISE)
def test_it_refuses_what_python_refuses(text: str) -> None:
    assert read(text) == read_by_python(text)


@pytest.mark.parametrize(
    ("inside", "excess"),
    [
        ("[" * 50 + "]" * 50, "nested deeper than 20 levels"),
        ("[" * 50_000 + "]" * 50_000, "nested deeper than 20 levels"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "nested deeper than 20 levels"),
        ("[" + "[]," * 50_000 + "1]", "more than 100 values"),
        ("{" + ",".join(f'"{n}":{n}' for n in range(20_000)) + "}", "more than 100 values"),
    ],
)
def test_where_there_is_too_much_the_outermost_object_is_known(inside: str, excess: str) -> None:
    found = jsontext.read(f'{{"method": "m", "list": [1], "params": {inside}, "id": 7}}', 100, 20)
    assert found == ({"method": "m", "list": None, "params": None, "id": 7}, excess)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2000 + '"' + '\\"' * 200_000,
        '"' + "\\" * 400_001 + '"',
        '"' + "\\u" * 100_000,
        "[" * 50_000,
        '{"a":' * 50_000,
        " " * 500_000,
        "-" * 300_000,
        "1" * 300_000 + "e",
        '["' + "a" * 300_000,
    ],
)
def test_what_does_not_end_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z]"):
        jsontext.read(text, 1000, 100)
