"""Helpers of text: what is shown stays one printable line, and half a character never gets out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from konstruct_mcp.core.text import STEP, cut, is_day, quoted, scrubbed


def test_a_long_name_is_cut_and_says_so() -> None:
    assert cut("a" * 64) == "a" * 64
    assert cut("a" * 65) == "a" * 63 + "…"
    assert quoted("two\nlines") == '"two?lines"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2026-01-31", True), ("2026-1-31", False), ("20260131", False), ("2026-02-30", False), ("", False)],
)
def test_only_a_whole_iso_date_is_a_day(text: str, expected: bool) -> None:
    assert is_day(text) is expected


@given(st.text(st.characters(codec=None)))
def test_what_is_scrubbed_can_be_written_as_utf_8_and_stays_so(text: str) -> None:
    once = scrubbed(text)
    assert once.encode().decode() == once == scrubbed(once)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("\ud83d\ude00", "😀"),
        ({"\ud800": ["\udfff", 1, None, {"a": "é"}]}, {"\ufffd": ["\ufffd", 1, None, {"a": "é"}]}),
        (("a", "\ud800"), ["a", "\ufffd"]),
    ],
)
def test_it_reaches_keys_and_values_at_any_depth(value: Any, expected: Any) -> None:
    assert scrubbed(value) == expected


def test_a_pair_across_two_steps_stays_one_character() -> None:
    assert scrubbed("é" * (STEP - 1) + "\ud83d\ude00") == "é" * (STEP - 1) + "😀"
