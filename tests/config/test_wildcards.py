"""Wildcards: which pattern a name matches, and which model it stands for."""

from __future__ import annotations

import pytest

from konstruct_mcp.config.wildcards import match, model_of


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("openai/gpt-4o", "openai/gpt-*"),
        ("openai/o3", "openai/*"),
        ("groq/x", "*"),
    ],
)
def test_the_longest_pattern_wins(name: str, pattern: str) -> None:
    found = match(name, ["*", "openai/*", "openai/gpt-*"])
    assert found is not None
    assert found[0] == pattern


def test_a_name_that_nothing_matches_has_no_pattern() -> None:
    assert match("groq/x", ["openai/*"]) is None


@pytest.mark.parametrize(
    ("pattern", "name", "model", "asked"),
    [
        ("openai/*", "openai/gpt-4o", "openai/*", "openai/gpt-4o"),
        ("my-*", "my-gpt-4o", "openai/*", "openai/gpt-4o"),
        ("my-*", "my-gpt-4o", "openai/gpt-4.1", "openai/gpt-4.1"),
        ("*/*", "openai/gpt-4o", "openai/*", "openai/gpt-4o"),
    ],
)
def test_what_a_star_stands_for_replaces_the_star_of_the_model(pattern: str, name: str, model: str, asked: str) -> None:
    found = match(name, [pattern])
    assert found is not None
    assert model_of(found[1], model) == asked
