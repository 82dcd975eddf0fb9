"""What the commands print, piece by piece."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from konstruct_mcp.cli.output import Row, config_faults, counted, printable, show_json, show_table
from konstruct_mcp.core.errors import TABLE_ADVICE, ConfigError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with\ta tab and\na line", "plain, with\ta tab and\na line"),
        ("\x1b[2Jcleared", "\N{REPLACEMENT CHARACTER}[2Jcleared"),
        ("a\u202eb\u2066c\x9bd\r", "a\ufffdb\ufffdc\ufffdd\ufffd"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(("count", "words"), [(0, "0 calls"), (1, "1 call"), (1234, "1,234 calls")])
def test_a_count_is_told_in_words(count: int, words: str) -> None:
    assert counted(count, "call") == words


def test_json_is_ascii_and_has_no_lone_surrogate(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"text": "é \ud800"})
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert json.loads(shown) == {"text": "é \ufffd"}


def test_a_bar_is_as_long_as_its_share(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("model", "cost"), [Row(("a", "$2"), 1.0), Row(("[b]", "$1"), 0.5), Row(("total", "$3"))])
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "cost"]
    assert [line.count("█") for line in lines] == [20, 10, 0]
    assert lines[1].startswith("[b]")  # which is no style


def test_the_faults_of_a_config_and_of_a_table_are_told_apart() -> None:
    error = ConfigError(["one", "two"], source="the config file", table=Path("models.json"), table_faults=["two"])
    assert config_faults(error) == [
        "the config file cannot be used:",
        "  one",
        "models.json cannot be used:",
        "  two",
        f"  {TABLE_ADVICE}",
    ]
