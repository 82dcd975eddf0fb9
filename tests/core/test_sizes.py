"""How large a value is: counted without recursion, and no further than asked for."""

from __future__ import annotations

from typing import Any

import pytest

from konstruct_mcp.core.sizes import LARGE_CHARS, LARGE_VALUES, extent, is_large


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("four", (1, 4, 0)),
        (None, (1, 0, 0)),
        ([], (1, 0, 1)),
        ({"key": ["a", 1, {"k": "bc"}]}, (6, 7, 3)),
        ((1, (2, 3)), (5, 0, 2)),
    ],
)
def test_values_characters_and_levels_are_counted(value: Any, expected: tuple[int, int, int]) -> None:
    assert extent(value) == expected


def test_no_depth_is_too_much() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert extent(deep).levels == 100_001


def test_counting_stops_when_enough_is_known() -> None:
    class Counted(list[int]):
        seen = 0

        def __iter__(self) -> Any:
            Counted.seen += 1
            return super().__iter__()

    assert extent([Counted([1] * 10) for _ in range(1000)], most_values=1500).values > 1500
    assert Counted.seen < 200


def test_what_is_large_is_so_by_its_values_or_its_characters() -> None:
    assert not is_large(["x"] * (LARGE_VALUES - 1))
    assert is_large(["x"] * LARGE_VALUES)
    assert not is_large("x" * LARGE_CHARS)
    assert is_large(["x" * (LARGE_CHARS + 1)])
