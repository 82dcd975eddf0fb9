"""The page of `usage --html`, in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from support import chromium

from konstruct_mcp.core.budgets import BudgetState
from konstruct_mcp.core.money import NUSD
from konstruct_mcp.core.spending import Spend, UsageReport
from konstruct_mcp.pages.usage import page

pytestmark = pytest.mark.timeout(600)  # seconds: the first test may install the browser

Open = Callable[[Literal["light", "dark"]], chromium.Browser]

MODELS = {
    "anthropic/claude-sonnet-4-5": ("quality", 61_000_000),
    "openai/gpt-5-mini": ("fast", 7_000_400),
    "gemini/gemini-2.5-flash": ("fast", 1_500_000),
    "ollama/llama3.2": ("local", None),
}
QUIET = {9, 10, 20}
DAYS = [day for day in range(1, 31) if day not in QUIET]
TENANTS = ("acme", "globex-eu", "team.research@example.org")
BUDGETS = (
    BudgetState("acme", 5 * NUSD, "day", ("quality",), 3 * NUSD, NUSD // 2, "2026-07-01T00:00:00+00:00"),
    BudgetState("globex-eu", 20 * NUSD, "month", (), 21 * NUSD, 0, "2026-07-01T00:00:00+00:00"),
    BudgetState("team.research@example.org", NUSD // 4, "total", ("fast", "local"), 0, 0, None),
)
MONTH = UsageReport(
    None,
    "2026-06-01",
    "2026-06-30",
    tuple(
        Spend(
            *(f"2026-06-{day:02}", tenant, group, model),
            calls=10,
            failed=1,
            unpriced=0 if cost else 9,
            input_tokens=4000,
            output_tokens=700,
            cached_tokens=1000,
            cost_nusd=(cost or 0) * day * len(tenant),
        )
        for day in DAYS
        for tenant in TENANTS
        for model, (group, cost) in MODELS.items()
    ),
    BUDGETS,
)
PRICED = 3  # models

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '</script><script>document.title="pwned"</script>',
    "<b>x</b>",
    '<a href="https://example.org">y</a>',
    "&lt;i&gt; & <br>",
    "$x^2$ %{x} %{customdata}",
    "'\"",
)


@pytest.fixture(scope="session")
def browser_path() -> str:
    try:
        return chromium.executable()
    except RuntimeError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))  # nothing is installed as root on a machine that is not CI's


@pytest.fixture
def browser(browser_path: str, tmp_path: Path) -> Open:
    return lambda scheme: chromium.Browser(browser_path, tmp_path, scheme)


def texts(chart: dict[str, Any]) -> list[str]:
    return [text["text"] for text in chart["texts"]]


def drawn(chart: dict[str, Any]) -> list[dict[str, Any]]:
    """Bars that have an area."""
    return [bar for bar in chart["bars"] if bar["width"] > 0.1 and bar["height"] > 0.1]


def test_the_page_shows_what_was_spent(browser: Open) -> None:
    wide, narrow = browser("light").told(page(MONTH))

    calls = 10 * len(MONTH.lines)
    total = sum(line.cost_nusd for line in MONTH.lines)
    assert wide["title"] == "konstruct-mcp usage"
    assert wide["figures"] == {
        "cost": f"≥ ${total / NUSD:,.6f}",
        "calls": f"{calls:,}",
        "failed": f"{calls // 10:,}",
        "of unknown cost": f"{9 * len(DAYS) * len(TENANTS)}",
        "tokens in": f"{400 * calls:,}",
        "cached of these": f"{100 * calls:,}",
        "tokens out": f"{70 * calls:,}",
    }
    charts = wide["charts"]
    assert list(charts) == ["chart-days", "chart-models", "chart-groups", "chart-tenants", "chart-budgets"]
    assert len(drawn(charts["chart-days"])) == PRICED * len(DAYS)
    assert wide["legend"] == list(MODELS)[:PRICED]
    assert texts(charts["chart-models"])[::2] == list(MODELS)
    assert texts(charts["chart-models"])[-1] == "unknown"
    assert len(drawn(charts["chart-models"])) == PRICED
    assert texts(charts["chart-groups"])[::2] == ["quality", "fast", "local"]
    assert len(drawn(charts["chart-groups"])) == 2
    assert texts(charts["chart-tenants"])[::2] == sorted(TENANTS, key=len, reverse=True)
    assert len(drawn(charts["chart-tenants"])) == 3
    # Spent, reserved and left; all spent; all left.
    assert len(drawn(charts["chart-budgets"])) == 3 + 1 + 1
    assert texts(charts["chart-budgets"]) == [
        "acme$5 per day for quality",
        "$3 spent, $0.50 reserved$1.50 left, renews 2026-07-01",
        "globex-eu$20 per month",
        "$21 spent, $0 reserved$0 left, renews 2026-07-01",
        "team.research@example.org$0.25 in total for fast, local",
        "$0 spent, $0 reserved$0.25 left, does not renew",
    ]

    spend, budgets = wide["tables"]
    assert len(spend) == len(DAYS) * len(MODELS)
    cost = MODELS["openai/gpt-5-mini"][1] or 0
    by_all = cost * len("".join(TENANTS)) / NUSD
    assert spend[1] == ["2026-06-01", "openai/gpt-5-mini", f"${by_all:.6f}", "30", "3", "0", "12,000", "3,000", "2,100"]
    assert [row[0] for row in budgets] == list(TENANTS)

    assert_all_is_in_sight(wide, 1280)
    assert_all_is_in_sight(narrow, 380)
    assert len(drawn(narrow["charts"]["chart-days"])) == PRICED * len(DAYS)
    assert_nothing_was_tried(wide)
    assert_nothing_was_tried(narrow)


def assert_all_is_in_sight(told: dict[str, Any], width: int) -> None:
    assert told["window"] <= width
    assert told["page"] <= told["window"]
    for chart in told["charts"].values():
        for item in chart["bars"] + chart["texts"]:
            assert -1 <= item["left"] <= item["right"] <= item["frame"] + 1 <= width, item


def assert_nothing_was_tried(told: dict[str, Any]) -> None:
    assert told["requests"] == []
    assert told["violations"] == []
    assert told["errors"] == []


def test_days_without_calls_are_seen(browser: Open) -> None:
    """Three days of a month: bars as wide as a day, where they belong, between the days that were asked for."""
    lines = tuple(Spend(f"2026-06-{day:02}", "acme", "fast", "openai/gpt", 1, cost_nusd=NUSD) for day in (3, 4, 14))
    wide, _ = browser("light").told(page(UsageReport("acme", "2026-06-01", "2026-06-30", lines, ())))
    third, fourth, fourteenth = drawn(wide["charts"]["chart-days"])
    day = fourth["left"] - third["left"]
    assert third["width"] == pytest.approx(0.8 * day, abs=2)
    assert fourteenth["left"] - third["left"] == pytest.approx(11 * day, rel=0.02)
    assert third["left"] > day
    assert third["frame"] - fourteenth["right"] > 14 * day
    assert "chart-tenants" not in wide["charts"]


def test_names_are_shown_as_they_are_and_do_nothing(browser: Open) -> None:
    lines = [
        Spend("2026-06-01", f"{name}\u202e\ud800", name, name, 1, cost_nusd=(100 - at) * NUSD)
        for at, name in enumerate(HOSTILE)
    ]
    budgets = tuple(BudgetState(name, NUSD, "day", (name,), 0, 0, None) for name in HOSTILE)
    told = page(UsageReport(None, None, None, tuple(lines), budgets))
    wide, narrow = browser("light").told(told)

    assert wide["title"] == "konstruct-mcp usage"
    # plotly's, one for each chart, and the probe.
    assert wide["elements"] == {"a": 0, "b": 0, "img": 0, "iframe": 0, "script": 7}
    assert wide["legend"] == list(HOSTILE)
    spend, of_budgets = wide["tables"]
    assert [row[1] for row in spend] == list(HOSTILE)
    assert [row[0] for row in of_budgets] == list(HOSTILE)
    short = [name if len(name) <= 28 else f"{name[:14]}…{name[-13:]}" for name in HOSTILE]
    charts = wide["charts"]
    assert texts(charts["chart-models"])[::2] == short
    assert texts(charts["chart-groups"])[::2] == short
    assert [text[:8] for text in texts(charts["chart-tenants"])[::2]] == [f"{name}??"[:8] for name in HOSTILE]
    assert [text[:8] for text in texts(charts["chart-budgets"])[::2]] == [f"{name}$1 per day"[:8] for name in HOSTILE]
    assert [of.removesuffix(f" : ${100 - at}") for at, of in enumerate(charts["chart-days"]["hover"][1:-1])] == short
    assert charts["chart-models"]["hover"] == [f"{HOSTILE[0]}1 calls, 0 failed$100"]
    assert_nothing_was_tried(wide)
    assert_all_is_in_sight(narrow, 380)


@pytest.mark.long
def test_the_colours_follow_the_reader(browser: Open) -> None:
    report = UsageReport(None, None, None, MONTH.lines[:8], BUDGETS)
    light, _ = browser("light").told(page(report))
    dark, _ = browser("dark").told(page(report))
    assert (light["dark"], dark["dark"]) == (False, True)
    for told, is_dark in ((light, False), (dark, True)):
        assert told["label"] == told["text"]
        assert (brightness(told["ground"]) < 40) is is_dark
        assert (brightness(told["text"]) > 200) is is_dark


def brightness(colour: str) -> float:
    """Of 255."""
    channels = [float(channel) for channel in re.findall(r"[\d.]+", colour)[:3]]
    return sum(channels) / 3


def test_the_costliest_models_are_told_apart(browser: Open) -> None:
    """The sum of the others may well be the longest bar."""
    lines = tuple(Spend("2026-06-01", "acme", "fast", f"of/{at:02}", 1, cost_nusd=(30 - at) * NUSD) for at in range(25))
    wide, _ = browser("light").told(page(UsageReport("acme", None, None, lines, ())))
    names = [*(f"of/{at:02}" for at in range(9)), "other (16)"]
    others = sum(30 - at for at in range(9, 25))
    chart = wide["charts"]["chart-models"]
    assert wide["legend"] == names
    assert texts(chart)[::2] == names
    assert texts(chart)[1::2] == [f"${cost}" for cost in (*range(30, 21, -1), others)]
    assert len(drawn(wide["charts"]["chart-days"])) == len(drawn(chart)) == 10
    assert_all_is_in_sight(wide, 1280)


def test_the_page_as_it_is_draws_and_names_no_address(browser: Open) -> None:
    told = page(MONTH)
    own = "".join(re.split(r"<script>.*?</script>", told, flags=re.DOTALL))
    assert not re.search(r"\b(src|href|action)=|url\(|@import|https?://", own)
    dom = browser("light").dom(told)
    assert len(re.findall(r'<g class="point"', dom)) >= PRICED * len(DAYS)
    assert "default-src 'none'" in dom
    assert "'unsafe-inline'" not in dom.split("script-src")[1].split(";")[0]


def test_a_report_of_nothing_says_so(browser: Open) -> None:
    dom = browser("light").dom(page(UsageReport("acme", "2026-06-01", None, (), ())))
    body = dom[dom.index("<body>") :]
    assert "No calls" in body
    assert "since 2026-06-01, tenant acme" in body
    assert "plotly" not in body
    assert "<table" not in body


@pytest.mark.parametrize(
    ("since", "until", "shown"),
    [
        (None, None, "all days, all tenants"),
        (None, "2026-06-30", "until 2026-06-30, all tenants"),
        ("0001-01-01", "9999-12-31", "0001-01-01 to 9999-12-31, all tenants"),
    ],
)
def test_the_span_is_said(since: str | None, until: str | None, shown: str) -> None:
    assert f"<p>{shown}</p>" in page(UsageReport(None, since, until, MONTH.lines[:1], ()))


def test_calls_that_cost_nothing_have_a_table_and_no_chart() -> None:
    shown = page(UsageReport(None, None, None, (Spend("2026-06-01", "acme", "fast", "", 2, 2),), ()))
    assert "No costs" in shown
    assert "<td>(nobody answered)</td><td>$0</td><td>2</td><td>2</td>" in shown
    assert "chart-" not in shown


def test_small_amounts_are_not_taken_for_html() -> None:
    shown = page(UsageReport(None, None, None, (Spend("2026-06-01", "acme", "fast", "m", 1, cost_nusd=1),), ()))
    assert "<dd>&lt;$0.000001</dd>" in shown
    assert "<$" not in shown[shown.index("<body>") :]


def test_plotly_is_imported_by_a_page_only() -> None:
    code = "import sys, konstruct_mcp.pages.usage; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
