"""JSON is written as JavaScript writes it, and else as Python does."""

from __future__ import annotations

import json
import random

import pytest
from support.node import stringified

from konstruct_mcp.core.jsonwriting import indented, with_whole_numbers, written

VALUE = {"a": [], "b": {}, "c": [1, {"d": 'é\u2028\x7f\x1f\b"\\/'}, None, True], "x": 0.5, "z": (2,)}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (2.0, "2"),
        (2.5e-05, "0.000025"),
        (2.5e-06, "0.0000025"),
        (1e-06, "0.000001"),
        (2.5e-07, "2.5e-7"),
        (1e16, "10000000000000000"),
        (1.2345678901234568e20, "123456789012345680000"),
        (1.5e22, "1.5e+22"),
        (float("nan"), "null"),
    ],
)
def test_a_number_is_written_in_decimals_where_javascript_does_so(number: float, text: str) -> None:
    assert written([number]) == f"[{text}]"
    assert indented({"n": number}) == f'{{\n  "n": {text}\n}}'


def test_numbers_are_those_of_javascript_to_the_letter() -> None:
    chance = random.Random(5)
    numbers = [chance.random() * 10 ** chance.randint(-12, 24) for _ in range(2000)]
    assert written(numbers) == stringified(numbers)


def test_all_else_is_written_as_by_python_and_by_javascript() -> None:
    assert written(VALUE) == json.dumps(VALUE, ensure_ascii=False, separators=(",", ":")) == stringified(VALUE)
    assert indented(VALUE) == json.dumps(VALUE, indent=2)


def test_whole_numbers_take_the_place_of_floats_at_any_depth() -> None:
    assert repr(with_whole_numbers({"a": [1.0, (0.0, 0.5)], "b": True})) == "{'a': [1, [0, 0.5]], 'b': True}"
